//! What `audit` sees: nothing on an untouched node, and each of many ways in which somebody may have changed one, by name.
//! And that `apply` mends what it may.

#[path = "lab/support.rs"]
#[expect(dead_code, reason = "each test uses a part")]
mod lab_support;
#[path = "node/support.rs"]
mod support;

use partywall_node::audit::audit;
use partywall_node::generation::Generation;
use partywall_node::install::{self, Installed};
use partywall_node::state::State;
use std::collections::BTreeSet;
use std::path::Path;
use support::{able, alone, open, sh};

/// Makes the devices that a generation takes for granted.
fn devices(folder: &Path) {
    let script = std::fs::read_to_string(folder.join("nft/apply.sh")).unwrap();
    let links = std::fs::read_to_string(folder.join("nft/links.batch")).unwrap();
    let value = |name: &str| {
        let line = script.lines().find_map(|l| l.strip_prefix(&format!("{name}='"))).unwrap();
        line.trim_end_matches('\'').split_whitespace().map(str::to_owned).collect::<Vec<_>>()
    };
    let underlay = links.lines().find_map(|l| l.split(" dev ").nth(1)?.split(' ').next()).unwrap_or("eth0");
    let mut names = value("WORKLOADS");
    names.extend(value("OUTSIDE"));
    names.push(underlay.to_owned());
    sh("ip link set dev lo up");
    for (number, name) in names.iter().enumerate() {
        sh(&format!(
            "ip link add name {name} type veth peer name there{number} && ip link set dev {name} mtu 9000 up && ip link set dev there{number} up"
        ));
    }
}

fn datacenter(directory: &Path) {
    let root = format!("{}/../examples/02-datacenter", env!("CARGO_MANIFEST_DIR"));
    let project = lab_support::project(&lab_support::read(root.as_ref()));
    lab_support::build(&project, directory);
}

fn apply(state: &State, generation: &Generation) -> Installed {
    install::apply(state, Some(generation), &mut |_| {}).unwrap()
}

/// Installs a node of the example where nothing else is and hands it on.
fn on_a_node(node: &str, f: impl FnOnce(&State, &Generation) + Send) {
    let built = tempfile::tempdir().unwrap();
    datacenter(built.path());
    alone(|| {
        devices(&built.path().join(node));
        let generation = open(built.path(), node);
        let kept = tempfile::tempdir().unwrap();
        let state = State::new(kept.path());
        let first = apply(&state, &generation);
        assert!(first.changed && first.mended.is_empty() && first.left.is_empty(), "{first:#?}");
        f(&state, &generation);
    });
}

#[test]
fn an_untouched_node_is_clean_and_applying_again_changes_nothing() {
    if !able("untouched") {
        return;
    }
    for node in ["c1", "g2"] {
        on_a_node(node, |state, generation| {
            let look = "nft -s list ruleset | grep -v 'iifname {'; ip rule; ip -6 rule; ip route show table all proto 87; ip -6 route show table all proto 87; ip -d address; ip neighbour | grep PERMANENT";
            let before = sh(look);
            let again = apply(state, generation);
            assert!(!again.changed && again.mended.is_empty() && again.left.is_empty(), "{again:#?}");
            let after = sh(look);
            let lines = |text: &str| text.lines().map(str::to_owned).collect::<BTreeSet<String>>();
            let differing: Vec<String> =
                lines(&before).symmetric_difference(&lines(&after)).cloned().collect();
            assert!(differing.is_empty(), "{differing:#?}");
            let found = audit(generation, &[]).unwrap();
            assert!(found.clean, "{}", found.text());
        });
    }
}

/// One way to change a node.
struct Mutation {
    /// Shell; `$S` is the running suffix, `$T` a tenant's table, `$V` a VXLAN device, `$W` a workload's device, `$M` the
    /// MAC of a router on `$V` and `$A` its VTEP, `$O` a device to an external.
    command: &'static str,
    /// What every difference that it makes is: kind, part of its name. As many as there are.
    found: &'static [(&'static str, &'static str)],
    /// Shell that undoes what `apply` must leave to people; empty where it mends.
    undo: &'static str,
}

const fn m(command: &'static str, found: &'static [(&'static str, &'static str)]) -> Mutation {
    Mutation { command, found, undo: "" }
}

const fn theirs(
    command: &'static str,
    found: &'static [(&'static str, &'static str)],
    undo: &'static str,
) -> Mutation {
    Mutation { command, found, undo }
}

const NAMES: &str = r#"
set -e
S=$(nft list chain inet partywall flip_fabric | sed -n 's/.*goto fabric_//p')
T=$(ip rule | sed -n 's/.*lookup \(13[0-9]*\) proto 87.*/\1/p' | head -n 1)
V=$(ip -br link show group 20568 | sed -n 's/^\([^ @]*\).*/\1/p' | sort | head -n 1)
V2=$(ip -br link show group 20568 | sed -n 's/^\([^ @]*\).*/\1/p' | sort | tail -n 1)
W=$(ip -br link show group 20567 | sed -n 's/^\([^ @]*\).*/\1/p' | sort | head -n 1)
W2=$(ip -br link show group 20567 | sed -n 's/^\([^ @]*\).*/\1/p' | sort | tail -n 1)
O=$(ip -br link show group 20569 | sed -n 's/^\([^ @]*\).*/\1/p' | sort | head -n 1)
set -- $(bridge fdb show dev $V | grep dst | sort | head -n 1)
M=$1 A=$3
set -- $(bridge fdb show dev $V2 | grep dst | sort | head -n 1)
M2=$1 A2=$3
elements() { nft list "$1" inet partywall "$2" | tr -d '\n\t' | sed 's/.*elements = { //; s/ }.*//'; }
first() { elements "$1" "$2" | sed 's/,.*//'; }
rule() { nft -a list chain $1 partywall $2 | sed -n "s/.*$3.* # handle //p" | head -n 1; }
"#;

/// Applied together, audited once, mended once. What stands in one list does not hide what else does.
fn found_and_mended(state: &State, generation: &Generation, mutations: &[&Mutation]) {
    for mutation in mutations {
        sh(&format!("{NAMES}\n{}", mutation.command));
    }
    let report = audit(generation, &[]).unwrap();
    let mut left = report.differences.clone();
    for mutation in mutations {
        for (kind, name) in mutation.found {
            let at = left.iter().position(|d| d.kind == *kind && d.what.contains(name));
            let at =
                at.unwrap_or_else(|| panic!("{}: no {kind} {name} in\n{}", mutation.command, report.text()));
            let difference = left.remove(at);
            assert!(
                !difference.mend.is_empty() && (difference.expected.is_some() || difference.found.is_some())
            );
        }
    }
    assert!(left.is_empty(), "{left:#?}\n{}", report.text());
    let again = apply(state, generation);
    let people: usize = mutations.iter().filter(|m| !m.undo.is_empty()).map(|m| m.found.len()).sum();
    assert_eq!(again.left.len(), people, "{:#?}", again.left);
    for mutation in mutations {
        sh(&format!("{NAMES}\n{}", mutation.undo));
    }
    if people > 0 {
        apply(state, generation);
    }
    let report = audit(generation, &[]).unwrap();
    assert!(report.clean, "{}", report.text());
}

const RULESET: &[Mutation] = &[
    m(
        "nft delete rule inet partywall forward handle $(rule inet forward 'goto to_host')",
        &[("nft rule", "forward, rule")],
    ),
    m("nft insert rule inet partywall decide_$S accept", &[("nft rule", "decide_")]),
    m(
        "h=$(rule inet raw_out 'dport 4789 notrack accept'); nft delete rule inet partywall raw_out handle $h; nft add rule inet partywall raw_out udp dport 4789 notrack accept",
        &[("nft rule", "raw_out, order")],
    ),
    m("nft add rule inet partywall flip_fabric accept", &[("nft rule", "flip_fabric")]),
    m(
        "nft flush chain inet partywall send_$S; nft add rule inet partywall send_$S accept",
        &[("nft rule", "send_"), ("nft rule", "send_"), ("nft rule", "send_"), ("nft rule", "send_")],
    ),
    m("nft 'add chain inet partywall forward { policy accept; }'", &[("nft chain", "forward")]),
    m("nft 'add chain arp partywall in { policy accept; }'", &[("nft chain", "arp partywall in")]),
    m("nft insert rule arp partywall in accept", &[("nft rule", "arp partywall in")]),
    m(
        "nft \"delete element inet partywall from4_$S { $(first map from4_$S | sed 's/ : .*//') }; add element inet partywall from4_$S { stranger . 02:00:00:00:00:99 . 10.9.9.9 : 0x01000000 }\"",
        &[("nft element", "stranger"), ("nft element", "from4_")],
    ),
    m("nft \"delete element inet partywall vnis_$S { $(first set vnis_$S) }\"", &[("nft element", "vnis_")]),
    m(
        "nft \"delete element inet partywall action_$S { 400:1 }; add element inet partywall action_$S { 400:1 : goto send_$S }\"",
        &[("nft element", "action_")],
    ),
    m(
        "nft \"delete element inet partywall underlay4_$S { 192.0.2.11 }; add element inet partywall underlay4_$S { 198.51.100.11 }\"",
        &[("nft element", "192.0.2.11"), ("nft element", "198.51.100.11")],
    ),
    m(
        "nft \"delete element inet partywall slot_raw { $(first map slot_raw | sed 's/ :.*//') }\"",
        &[("nft element", "slot_raw")],
    ),
    m(
        "nft 'add chain inet partywall side { type filter hook prerouting priority -310; policy accept; }'; nft add rule inet partywall side accept",
        &[("nft chain", "side")],
    ),
    m("nft 'add set inet partywall mine { type ipv4_addr; }'", &[("nft set", "mine")]),
    m("nft 'add counter inet partywall stray'", &[("nft counter", "stray")]),
    m(
        "nft 'add set inet partywall vnis_deadbeef { type ipv4_addr; elements = { 10.0.0.1 } }'",
        &[("nft set", "vnis_deadbeef")],
    ),
];

const NO_ARP: Mutation = m(
    "nft delete table arp partywall; nft 'table arp partywall { chain flip { }; chain in { type filter hook input priority 0; policy drop; }; }'",
    &[
        ("nft rule", "arp partywall in"),
        ("nft rule", "arp partywall in"),
        ("nft rule", "arp partywall in"),
        ("nft rule", "arp partywall flip"),
        ("nft chain", "arp partywall in_"),
        ("nft set", "owner_"),
        ("nft set", "self_"),
        ("nft set", "mark_"),
    ],
);

/// What nft cannot move it has to make again.
const MOVED: Mutation = m(
    "nft 'flush chain arp partywall in; delete chain arp partywall in; add chain arp partywall in { type filter hook input priority 5; policy drop; }'",
    &[
        ("nft chain", "arp partywall in"),
        ("nft rule", "arp partywall in"),
        ("nft rule", "arp partywall in"),
        ("nft rule", "arp partywall in"),
    ],
);

const DORMANT: Mutation =
    m("nft \"add table inet partywall { flags dormant; }\"", &[("nft table", "flags dormant")]);

const NO_TABLE: Mutation = m("nft delete table inet partywall", &[("generation", "the one that runs")]);

const NO_FLIP: Mutation =
    m("nft flush chain inet partywall flip_raw", &[("generation", "the one that runs")]);

const ROUTING: &[Mutation] = &[
    m(
        "set -- $(ip rule | sed -n 's/.*fwmark \\(0x5[^ ]*\\) lookup \\([0-9]*\\) proto 87.*/\\1 \\2/p' | head -n 1); ip rule delete fwmark $1 lookup $2",
        &[("rule", "IPv4 preference 20")],
    ),
    m(
        "set -- $(ip -6 rule | sed -n 's/.*fwmark \\(0x5[^ ]*\\) lookup \\([0-9]*\\) proto 87.*/\\1 \\2/p' | tail -n 1); ip -6 rule delete fwmark $1 lookup $2; ip -6 rule add preference 20000 fwmark $1 lookup $2 protocol 87",
        &[("rule", "IPv6 preference 20000 "), ("rule", "IPv6 preference 2")],
    ),
    theirs(
        "ip rule add preference 100 lookup main; ip rule add preference 101 fwmark 0x10/0xff lookup main",
        &[("rule", "preference 100 "), ("rule", "preference 101 fwmark 0x10/0xff")],
        "ip rule delete preference 100; ip rule delete preference 101",
    ),
    // As VPNs write them: all but what they sealed themselves.
    theirs(
        "ip rule add preference 102 not fwmark 0xca6c lookup 51820; ip -6 rule add preference 103 not from all iif eth0 lookup main; ip rule add preference 104 iif lo lookup main",
        &[
            ("rule", "preference 102 not fwmark 0xca6c"),
            ("rule", "IPv6 preference 103 not iif eth0"),
            ("rule", "preference 104 iif lo"),
        ],
        "ip rule delete preference 102; ip -6 rule delete preference 103; ip rule delete preference 104",
    ),
    theirs(
        "ip -6 rule add preference 7 iif $W lookup main",
        &[("rule", "IPv6 preference 7 iif")],
        "ip -6 rule delete preference 7",
    ),
    m(
        "ip route delete table $T $(ip route show table $T via $A | head -n 1 | cut -d ' ' -f 1)",
        &[("route", "IPv4 table")],
    ),
    m(
        "set -- $(ip route show table $T | grep ' via ' | tail -n 1); ip route replace table $T $1 via 192.0.2.77 dev $5 onlink protocol 87",
        &[("route", "IPv4 table")],
    ),
    m("ip route add table $T 10.99.0.0/16 dev $W", &[("route", "10.99.0.0/16")]),
    m("ip route add table $T 10.98.0.0/16 tos 0x10 dev $W", &[("route", "10.98.0.0/16 tos 0x10")]),
    m("ip route delete table $T unreachable default metric 4278198272", &[("route", "default metric")]),
    m(
        "set -- $(ip -6 route show table all proto 87 | grep -v unreachable | tail -n 1); ip -6 route delete $1 table $(echo $* | sed 's/.*table //; s/ .*//')",
        &[("route", "IPv6 table")],
    ),
    m("ip route add blackhole 203.0.113.99 protocol 87", &[("route", "table main 203.0.113.99")]),
];

const LINKS: &[Mutation] = &[
    theirs(
        "tc qdisc add dev eth0 clsact; tc filter add dev eth0 ingress bpf da bytecode '1,6 0 0 4294967295,'",
        &[("program", "eth0 ingress")],
        "tc qdisc delete dev eth0 clsact",
    ),
    theirs(
        "tc qdisc add dev $W clsact; tc filter add dev $W ingress bpf da bytecode '1,6 0 0 4294967295,'; tc filter add dev $W egress bpf da bytecode '1,6 0 0 2,'",
        &[("program", " ingress, preference"), ("program", " egress, preference")],
        "tc qdisc delete dev $W clsact",
    ),
    m("ip neighbour delete $A dev $V", &[("neighbour", "192.0.2.")]),
    m(
        "ip neighbour replace $A2 lladdr 02:00:00:00:00:66 dev $V2 nud permanent",
        &[("neighbour", "192.0.2.")],
    ),
    m(
        "ip neighbour add 192.0.2.99 lladdr 02:00:00:00:00:66 dev $V nud permanent",
        &[("neighbour", "192.0.2.99")],
    ),
    theirs(
        "ip neighbour add 10.77.0.1 lladdr 02:00:00:00:00:66 dev $W nud permanent",
        &[("neighbour", "10.77.0.1")],
        "ip neighbour delete 10.77.0.1 dev $W",
    ),
    m(
        "set -- $(ip -6 neighbour show proxy | sort | head -n 1); ip neighbour delete proxy $1 dev $3",
        &[("proxy neighbour", "2001:db8:")],
    ),
    theirs(
        "ip neighbour add proxy 10.77.0.2 dev $W",
        &[("proxy neighbour", "10.77.0.2")],
        "ip neighbour delete proxy 10.77.0.2 dev $W",
    ),
    m("bridge fdb delete $M dev $V dst $A self", &[("forwarding entry", " to 192.0.2.")]),
    m(
        "bridge fdb replace $M2 dev $V2 dst 203.0.113.66 self",
        &[("forwarding entry", "203.0.113.66"), ("forwarding entry", " to 192.0.2.")],
    ),
    m(
        "bridge fdb add 02:00:00:00:00:77 dev $V dst 203.0.113.67 self",
        &[("forwarding entry", "203.0.113.67")],
    ),
    m(
        "bridge fdb append 00:00:00:00:00:00 dev $V dst 203.0.113.68 self",
        &[("forwarding entry", "203.0.113.68")],
    ),
    m("ip link set dev $V mtu 1300", &[("device", " MTU")]),
    m("ip link set dev $V multicast on", &[("device", " multicast")]),
    m("ip link set dev $W2 address 02:00:00:00:00:55", &[("device", " MAC")]),
    theirs(
        "ip address add 10.77.0.9/24 dev $W2",
        &[("address", "10.77.0.9/24")],
        "ip address delete 10.77.0.9/24 dev $W2",
    ),
    m("ip address add 10.78.0.9/24 dev $V", &[("address", "10.78.0.9/24")]),
    m("echo 0 >/proc/sys/net/ipv4/conf/$W/proxy_arp", &[("setting", "proxy_arp")]),
    m("echo 1 >/proc/sys/net/ipv4/conf/all/rp_filter", &[("setting", "all/rp_filter")]),
    m("echo 0 >/proc/sys/net/ipv4/fwmark_reflect", &[("setting", "ipv4/fwmark_reflect")]),
    theirs(
        "ip link add name odd0 type veth peer name odd1; ip link set dev odd0 group 20568",
        &[("device", "odd0")],
        "ip link delete dev odd0",
    ),
];

/// Each takes other things with it, so each is alone.
const DEVICES: &[Mutation] = &[
    m("ip link set dev $W group 0", &[("device", " group")]),
    // With its last address a device loses its routes and neighbours.
    m(
        "ip address delete 169.254.1.1/32 dev $W",
        &[
            ("address", "169.254.1.1/32"),
            ("route", "IPv4 table"),
            ("route", "IPv4 table"),
            ("route", "IPv4 table"),
            ("route", "IPv4 table"),
            ("neighbour", "10."),
        ],
    ),
    m("ip link set dev $V down", &[("device", " state")]),
    m("ip link set dev $V arp off; ip link set dev $W arp off", &[("device", " ARP"), ("device", " ARP")]),
    // What cannot be made again is not taken away.
    theirs(
        "ip link show dev $V >$STORE/v; ip link set dev eth0 name eth9",
        &[("device", "eth0")],
        "ip link show dev $V | sed s/eth9/eth0/ | cmp - $STORE/v; ip link set dev eth9 name eth0",
    ),
    theirs(
        "echo 1 >/proc/sys/net/ipv6/conf/$V/disable_ipv6",
        &[("device", " IPv6")],
        "echo 0 >/proc/sys/net/ipv6/conf/$V/disable_ipv6",
    ),
    m("ip link delete dev $V2", &[("device", "pwv")]),
    m("ip link set dev $V type vxlan learning", &[("device", " vxlan learning")]),
    m("ip link set dev $V address 02:00:00:00:00:44", &[("device", " MAC")]),
    m("ip link add name br0 type bridge; ip link set dev $V master br0", &[("device", " bridge or bond")]),
    theirs(
        "ip link set dev $W down; echo $W >$STORE/w",
        &[("device", " state")],
        "ip link set dev $(cat $STORE/w) up",
    ),
    theirs(
        "echo $W >$STORE/w; ip link delete dev $W",
        &[("device", "tap-")],
        "w=$(cat $STORE/w); ip link add name $w type veth peer name again; ip link set dev $w up; ip link set dev again up",
    ),
];

#[test]
fn what_somebody_changed_on_a_node_is_named_and_mended() {
    if !able("mutations") {
        return;
    }
    on_a_node("c1", |state, generation| {
        for lot in [RULESET, ROUTING, LINKS] {
            found_and_mended(state, generation, &lot.iter().collect::<Vec<_>>());
        }
        for mutation in [&NO_ARP, &MOVED, &DORMANT, &NO_FLIP, &NO_TABLE] {
            found_and_mended(state, generation, &[mutation]);
        }
    });
}

#[test]
fn devices_that_go_are_named_once() {
    if !able("devices") {
        return;
    }
    on_a_node("c1", |state, generation| {
        for mutation in DEVICES {
            let store = format!("STORE={}\n", state.root().display());
            let command: &'static str = Box::leak(format!("{store}{}", mutation.command).into_boxed_str());
            let undo: &'static str = match mutation.undo {
                "" => "",
                undo => Box::leak(format!("{store}{undo}").into_boxed_str()),
            };
            let stored = Mutation { command, found: mutation.found, undo };
            found_and_mended(state, generation, &[&stored]);
        }
    });
}

const GATEWAY: &[Mutation] = &[
    m("nft insert rule inet partywall nat_out accept", &[("nft rule", "nat_out")]),
    m(
        "nft flush chain inet partywall nat_src_$S; nft add rule inet partywall nat_src_$S accept",
        &[
            ("nft rule", "nat_src_"),
            ("nft rule", "nat_src_"),
            ("nft rule", "nat_src_"),
            ("nft rule", "nat_src_"),
            ("nft rule", "nat_src_"),
            ("nft rule", "nat_src_"),
        ],
    ),
    m(
        "nft \"delete element inet partywall zone4_$S { $(first map zone4_$S | sed 's/ :.*//') }\"",
        &[("nft element", "zone4_")],
    ),
    m(
        "nft \"delete element inet partywall xlat_held_$S { $(first set xlat_held_$S) }\"",
        &[("nft element", "xlat_held_")],
    ),
    m("ip link set dev $O group 0", &[("device", " group")]),
    m(
        "set -- $(ip route show table all proto 87 | grep \"dev $O\" | head -n 1); ip route delete $1 table $(echo $* | sed 's/.*table //; s/ .*//')",
        &[("route", "IPv4 table")],
    ),
    m(
        "echo 0 >/proc/sys/net/netfilter/nf_conntrack_tcp_be_liberal",
        &[("setting", "net/netfilter/nf_conntrack_tcp_be_liberal")],
    ),
];

#[test]
fn what_somebody_changed_on_a_gateway_is_named_and_mended() {
    if !able("gateway mutations") {
        return;
    }
    on_a_node("g2", |state, generation| {
        found_and_mended(state, generation, &GATEWAY.iter().collect::<Vec<_>>());
    });
}

#[test]
fn there_are_forty_ways() {
    let all = RULESET.len() + ROUTING.len() + LINKS.len() + DEVICES.len() + GATEWAY.len() + 4;
    assert!(all >= 40, "{all}");
}
