//! What `doctor` finds on a machine, each made on purpose.

#[path = "lab/support.rs"]
#[expect(dead_code, reason = "each test uses a part")]
mod lab_support;
#[path = "node/pair.rs"]
mod pair;
#[path = "node/support.rs"]
mod support;

use pair::{ALWAYS, project, workloads};
use partywall_node::doctor::{Doctor, Finding, Severity, doctor};
use partywall_node::generation::Generation;
use partywall_node::install;
use partywall_node::state::State;
use std::path::Path;
use support::{able, alone, open, sh};

fn pair(directory: &Path) -> Generation {
    let text = project(&format!("allow front -> front : sctp/{ALWAYS}"), "");
    let project = lab_support::project(&[("pair.pw".to_owned(), text)]);
    lab_support::build(&project, directory);
    open(directory, "n1")
}

/// What is found that is not about the machine that the test runs on.
fn about(found: &Doctor) -> Vec<&Finding> {
    found.findings.iter().filter(|f| !matches!(f.subject, "setting" | "iptables")).collect()
}

#[test]
fn others_rules_and_filters_are_found() {
    if !able("doctor") {
        return;
    }
    let built = tempfile::tempdir().unwrap();
    let generation = pair(built.path());
    let nowhere = tempfile::tempdir().unwrap();
    alone(|| {
        let _workloads = workloads();
        let look = || doctor(Some(&generation), nowhere.path()).unwrap();
        assert_eq!(about(&look()), Vec::<&Finding>::new());
        let kept = tempfile::tempdir().unwrap();
        install::apply(&State::new(kept.path()), Some(&generation), &mut |_| {}).unwrap();
        assert_eq!(about(&look()), Vec::<&Finding>::new(), "partywall's own tables are no findings");

        let cases: [(&str, &str, Severity, &str, &str); 17] = [
            (
                "nft 'table ip o { chain out { type filter hook output priority 0; policy drop; }; }'",
                "nft delete table ip o",
                Severity::Warning,
                "nft",
                "VXLAN packets to other nodes pass it",
            ),
            (
                "nft 'table netdev e { chain out { type filter hook egress device tap-a priority 0; drop; }; }'",
                "nft delete table netdev e",
                Severity::Note,
                "nft",
                "chain netdev e out (egress hook, priority 0) has rules that drop",
            ),
            (
                "ip link add name vx7 type vxlan id 10010 dstport 4789 local 2001:db8::7",
                "ip link delete dev vx7",
                Severity::Error,
                "device",
                "device vx7 has VNI 10010 at UDP port 4789",
            ),
            (
                "ip link add name vx8 type vxlan external dstport 4789",
                "ip link delete dev vx8",
                Severity::Error,
                "device",
                "device vx8 takes every VNI at UDP port 4789",
            ),
            (
                "ip rule add preference 40 not fwmark 0xca6c lookup 51820",
                "ip rule delete preference 40",
                Severity::Warning,
                "rule",
                "IPv4 preference 40 not fwmark 0xca6c",
            ),
            (
                "nft 'table ip filter { chain FORWARD { type filter hook forward priority filter; policy drop; }; }'",
                "nft delete table ip filter",
                Severity::Error,
                "nft",
                "chain ip filter FORWARD (forward hook, priority 0) drops what none of its rules accepts",
            ),
            (
                "nft 'table inet fw { chain in { type filter hook input priority 0; policy drop; }; }'",
                "nft delete table inet fw",
                Severity::Warning,
                "nft",
                "VXLAN packets of other nodes",
            ),
            (
                "nft 'table ip fw { chain side { ip saddr 10.0.0.0/8 drop; }; chain f { type filter hook forward priority 5; jump side; }; }'",
                "nft delete table ip fw",
                Severity::Note,
                "nft",
                "chain ip fw f (forward hook, priority 5) has rules that drop",
            ),
            (
                "nft 'table ip m { chain p { type filter hook prerouting priority -100; meta mark set 7; }; }'",
                "nft delete table ip m",
                Severity::Error,
                "nft",
                "writes packet marks",
            ),
            (
                "nft 'table ip n { chain p { type nat hook postrouting priority 100; masquerade; }; }'",
                "nft delete table ip n",
                Severity::Warning,
                "nft",
                "translates addresses",
            ),
            (
                "nft 'table ip r { chain p { type filter hook prerouting priority -310; notrack; }; }'",
                "nft delete table ip r",
                Severity::Warning,
                "nft",
                "out of connection tracking",
            ),
            (
                "ip rule add preference 50 lookup main",
                "ip rule delete preference 50",
                Severity::Warning,
                "rule",
                "IPv4 preference 50 lookup main",
            ),
            (
                "ip -6 rule add preference 60 fwmark 0x40000000/0x40000000 lookup main",
                "ip -6 rule delete preference 60",
                Severity::Warning,
                "rule",
                "IPv6 preference 60",
            ),
            (
                "ip address delete 192.0.2.11/24 dev eth0",
                "ip address add 192.0.2.11/24 dev eth0",
                Severity::Error,
                "underlay",
                "does not have the VTEP address 192.0.2.11",
            ),
            (
                "ip link set dev eth0 down",
                "ip link set dev eth0 up",
                Severity::Error,
                "underlay",
                "device eth0 is down",
            ),
            (
                "ip link set dev tap-a name tap-z",
                "ip link set dev tap-z name tap-a",
                Severity::Note,
                "device",
                "device tap-a is not there",
            ),
            (
                "ip link set dev tap-b down",
                "ip link set dev tap-b up",
                Severity::Note,
                "device",
                "device tap-b is down",
            ),
        ];
        for (make, unmake, severity, subject, says) in cases {
            sh(make);
            let found = look();
            let list = about(&found);
            assert!(
                matches!(list.as_slice(), [f] if f.severity == severity && f.subject == subject && f.message.contains(says)),
                "{make}: {}",
                found.text()
            );
            assert_eq!(found.ok(), severity != Severity::Error, "{make}");
            sh(unmake);
        }
        // What cannot meet a tenant's packet is no finding.
        sh(
            "ip rule add preference 70 from 192.0.2.11 lookup main; ip rule add preference 71 iif there lookup main; ip rule add preference 72 fwmark 0x7/0xf0000007 lookup main; ip rule add preference 73 l3mdev; ip rule add preference 74 uidrange 5-10 lookup main; ip rule add preference 30000 lookup main",
        );
        sh(
            "nft 'table ip quiet { chain o { type nat hook output priority -100; redirect; }; chain f { type filter hook forward priority 0; accept; }; }'",
        );
        assert_eq!(about(&look()), Vec::<&Finding>::new());
    });
}

/// An instance that was away lets connections go on only if the kernel does not hold their windows against them.
#[test]
fn a_gateway_that_would_judge_windows_is_found() {
    const SETTING: &str = "/proc/sys/net/netfilter/nf_conntrack_tcp_be_liberal";
    if !able("doctor of a gateway") {
        return;
    }
    let built = tempfile::tempdir().unwrap();
    let more = r#"
node g1 { vtep 192.0.2.11 dev eth1 gateway }
external net { 203.0.113.0/24 }
gateway edge { joins shop, net instances g1 stateful attach net on g1 dev ext0 next-hop 203.0.113.1 }
extend tenant shop { route 203.0.113.0/24 via edge }
"#;
    let text = project("", more).replace("node n1 { vtep 192.0.2.11", "node n1 { vtep 192.0.2.10");
    lab_support::build(&lab_support::project(&[("gateway.pw".to_owned(), text)]), built.path());
    let nowhere = tempfile::tempdir().unwrap();
    alone(|| {
        sh(
            "ip link set dev lo up; ip link add name eth1 type veth peer name ext0; ip link set dev eth1 up; ip link set dev ext0 up; ip address add 192.0.2.11/24 dev eth1",
        );
        let look = |node: &str| {
            let found = doctor(Some(&open(built.path(), node)), nowhere.path()).unwrap();
            let about = found.findings.into_iter().filter(|f| f.message.contains("tcp_be_liberal"));
            about.map(|f| (f.severity, f.help)).collect::<Vec<_>>()
        };
        let set = |value: &str| std::fs::write(SETTING, value).unwrap();
        // It is the generation that sets it.
        assert!(
            matches!(look("g1").as_slice(), [(Severity::Note, help)] if help.contains("partywall apply"))
        );
        let kept = tempfile::tempdir().unwrap();
        let state = State::new(kept.path());
        let apply = || install::apply(&state, Some(&open(built.path(), "g1")), &mut |_| {}).unwrap();
        apply();
        assert_eq!(look("g1"), []);
        set("0");
        assert!(
            matches!(look("g1").as_slice(), [(Severity::Warning, help)] if help.contains("partywall apply"))
        );
        assert_eq!(look("n1"), [], "only gateways need it");
        apply();
        assert_eq!(look("g1"), []);
    });
}

#[test]
fn services_that_tidy_up_are_found() {
    let root = tempfile::tempdir().unwrap();
    let write = |path: &str, text: &str| {
        let path = root.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    };
    let found = |subject: &str| {
        let found = doctor(None, root.path()).unwrap();
        found.findings.into_iter().filter(|f| f.subject == subject).map(|f| f.message).collect::<Vec<_>>()
    };
    assert!(found("networkd").is_empty() && found("NetworkManager").is_empty());
    write("run/systemd/netif/state", "");
    write("run/NetworkManager/system-connections/x", "");
    assert_eq!(found("networkd").len(), 2);
    assert_eq!(found("NetworkManager").len(), 1);
    write("etc/systemd/networkd.conf", "[Network]\n#ManageForeignRoutes=no\nManageForeignRoutes=yes\n");
    assert_eq!(found("networkd").len(), 2);
    let packaged = concat!(env!("CARGO_MANIFEST_DIR"), "/../packaging/networkd.conf");
    write("etc/systemd/networkd.conf.d/partywall.conf", &std::fs::read_to_string(packaged).unwrap());
    assert!(found("networkd").is_empty());
    // What is said later counts.
    write("run/systemd/networkd.conf.d/zz.conf", "[Network]\nManageForeignRoutes = true\n");
    let left = found("networkd");
    assert!(left.len() == 1 && left[0].contains("removes routes"), "{left:?}");
    write(
        "etc/NetworkManager/conf.d/pw.conf",
        "[keyfile]\nunmanaged-devices=interface-name:pwv*;interface-name:tap*\n",
    );
    assert!(found("NetworkManager").is_empty());
}

#[test]
fn devices_without_ipv6_are_found_where_it_is_routed_to_them() {
    if !able("doctor of IPv6") {
        return;
    }
    let built = tempfile::tempdir().unwrap();
    let text = project("", "")
        .replace("{ 10.1.0.0/24 }", "{ 10.1.0.0/24, 2001:db8:1::/64 }")
        .replace("at 10.1.0.5 ", "at 10.1.0.5, 2001:db8:1::5 ");
    lab_support::build(&lab_support::project(&[("six.pw".to_owned(), text)]), built.path());
    let generation = open(built.path(), "n1");
    let nowhere = tempfile::tempdir().unwrap();
    alone(|| {
        let _workloads = workloads();
        let look = || {
            let found = doctor(Some(&generation), nowhere.path()).unwrap();
            let about = found.findings.into_iter().filter(|f| f.message.contains("no IPv6"));
            about.map(|f| f.message).collect::<Vec<_>>()
        };
        let set = |place: &str, value: u8| {
            sh(&format!("echo {value} >/proc/sys/net/ipv6/conf/{place}/disable_ipv6"));
        };
        assert!(look().is_empty());
        set("tap-b", 1);
        assert!(look().is_empty(), "nothing is routed there by IPv6");
        set("tap-a", 1);
        set("default", 1);
        let found = look();
        assert!(
            matches!(found.as_slice(), [a, b] if a.contains("device tap-a has") && b.contains("new devices have")),
            "{found:?}"
        );
        set("tap-a", 0);
        set("default", 0);
        assert!(look().is_empty());
    });
}
