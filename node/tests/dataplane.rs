//! The nft target under real packets: what the lab's probes do not show. Where the machine lacks what a lab needs these tests
//! say `SKIPPED` and what is missing.

#![expect(clippy::unwrap_used, reason = "a test that fails says where")]

#[path = "lab/support.rs"]
#[expect(dead_code, reason = "each test uses a part")]
mod support;

#[path = "node/support.rs"]
mod namespace;

use backends::nft::live;
use compiler::ids::NodeId;
use namespace::{alone, open, sh};
use partywall_node::install;
use partywall_node::lab::{self, Lab, ProbeOptions};
use partywall_node::state::State;
use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::Path;
use support::{Fleet, Project, able, options, project};

fn one(text: &str) -> Project {
    project(&[("main.pw".to_owned(), text.to_owned())])
}

fn node(p: &Project, name: &str) -> NodeId {
    p.compiled.model.nodes.iter().find(|(_, n)| n.name == name).unwrap().0
}

/// Three instances, five hosts on each side, both ends translated, and a packet test for every pair.
fn three_instances() -> String {
    let mut out = r#"
fabric f { encap vxlan port 4789 underlay mtu 9000 family ipv4 precedence top > tenant delegate tenant unknown-vni drop }
node c1 { vtep 192.0.2.11 dev eth0 }
node c2 { vtep 192.0.2.12 dev eth0 }
node g1 { vtep 192.0.2.21 dev eth0 gateway }
node g2 { vtep 192.0.2.22 dev eth0 gateway }
node g3 { vtep 192.0.2.23 dev eth0 gateway }
external net { 203.0.113.0/24 }
tenant a id 1 { segment s vni 10 { 10.0.0.0/24, fd00:a::/64 } route 203.0.113.0/24 via g }
tenant b id 2 {
  segment s vni 20 { 10.0.0.0/24, fd00:b::/64 }
  expose s : tcp/443 | udp/53 to a via g as 100.64.0.0/24, fd00:64::/64 clients as 100.65.0.0/24, fd00:65::/64
}
gateway g {
  joins a, b, net instances g1, g2, g3 stateful
  attach net on g1 dev ext0 next-hop 198.51.100.1
  attach net on g2 dev ext0 next-hop 198.51.100.1
  attach net on g3 dev ext0 next-hop 198.51.100.1
  masquerade a to net as 192.0.2.101, 192.0.2.102, 192.0.2.103
}
policy pa for a in tenant { allow a -> b | net }
test "through the instance of the bucket" {
"#
    .to_owned();
    for s in 10..15 {
        for d in 10..15 {
            let port = 20_000 + 100 * s + d;
            let _ = writeln!(out, "packet in a tcp 10.0.0.{s}:{port} -> 100.64.0.{d}:443 is allow via g");
            let _ =
                writeln!(out, "packet in a udp [fd00:a::{s:x}]:{port} -> [fd00:64::{d:x}]:53 is allow via g");
        }
        let _ = writeln!(out, "packet in a tcp 10.0.0.{s}:40000 -> 203.0.113.{s}:80 is allow via g");
    }
    out.push_str("}\n");
    for (tenant, node) in [("a", "c1"), ("b", "c2")] {
        for at in 10..15 {
            let _ = writeln!(
                out,
                "endpoint {tenant}{at} in {tenant}.s {{ at 10.0.0.{at}, fd00:{tenant}::{at:x} on {node} dev {tenant}{at} }}"
            );
        }
    }
    out
}

/// The nft files of a node, led to other instances than they were built for.
fn led(p: &Project, name: &str, down: &[&str], to: &Path) {
    let bundle = backends::build(&p.compiled, &p.sources, &backends::Request::default()).unwrap();
    let instances = &bundle.manifest.nodes[name].instances;
    let prefix = format!("{name}/");
    let files: Vec<_> = bundle.files.into_iter().filter(|f| f.path.starts_with(&prefix)).collect();
    let down: BTreeSet<String> = down.iter().map(|n| (*n).to_owned()).collect();
    for file in live::with_down(&files, instances, &down).unwrap() {
        let path = to.join(&file.path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, file.bytes).unwrap();
    }
}

#[test]
fn a_killed_instance_moves_its_flows_and_no_others() {
    let p = one(&three_instances());
    let c = &p.compiled;
    if !able(c, "killed instance") {
        return;
    }
    let options = options("killed instance");
    let artifacts = tempfile::tempdir().unwrap();
    support::build(&p, artifacts.path());
    let mut lab = lab::up(c, artifacts.path(), &options).unwrap();
    let through = |lab: &Lab| {
        let report = lab::probe(c, lab, &ProbeOptions::default()).unwrap();
        assert!(report.ok(), "{}", report.table());
        let rows = report.probes.into_iter().filter(|r| r.name.ends_with(": packet"));
        rows.map(|r| r.seen.unwrap().through).collect::<Vec<_>>()
    };
    // A probe passes only by the instance of its bucket, forth and back, so these are the instances as meant.
    let before = through(&lab);
    lab.unplug(node(&p, "g2")).unwrap();
    for name in ["c1", "c2"] {
        led(&p, name, &["g2"], artifacts.path());
        lab.apply(c, node(&p, name), artifacts.path()).unwrap();
    }
    let reopened = lab::open(c, &options).unwrap();
    assert_eq!(reopened.down, [node(&p, "g2")]);
    let after = through(&reopened);
    lab.plug(node(&p, "g2")).unwrap();
    for name in ["c1", "c2"] {
        led(&p, name, &[], artifacts.path());
        lab.apply(c, node(&p, name), artifacts.path()).unwrap();
    }
    let again = through(&lab);
    lab::down(&options).unwrap();
    assert_eq!(before.len(), 55);
    assert_eq!(before, again);
    let moved = before.iter().filter(|t| t.as_slice() == ["g2"]).count();
    assert!((8..30).contains(&moved), "{moved} of 55 went by g2");
    for (was, is) in before.iter().zip(&after) {
        assert!(
            if was.as_slice() == ["g2"] { is != was && is.len() == 1 } else { is == was },
            "{was:?} {is:?}"
        );
    }
}

/// A probe passes only by the instance of its bucket, forth and back.
#[test]
fn ports_pick_the_instance_where_the_gateway_says_so() {
    let text: String = three_instances()
        .replace("a, b, net", "a, b")
        .replace("stateful", "stateful affinity flow")
        .replace("b | net", "b")
        .replace(" route 203.0.113.0/24 via g", "")
        .lines()
        .filter(|l| !l.contains("203.0.113") && !l.contains("attach net") && !l.contains("masquerade"))
        .fold(String::new(), |text, line| text + line + "\n");
    let p = one(&text);
    let Some(report) = support::probed(&p, "affinity flow", Fleet::wanted()) else { return };
    assert!(report.ok(), "{}", report.table());
    let rows = report.probes.into_iter().filter(|r| r.name.ends_with(": packet"));
    let through: Vec<Vec<String>> = rows.map(|r| r.seen.unwrap().through).collect();
    assert_eq!(through.len(), 50);
    let used: BTreeSet<_> = through.iter().collect();
    assert_eq!(used.len(), 3, "{used:?}");
}

/// A tenant has addresses of the external's itself, so it sees the external's under others.
const SHOWN: &str = r#"
fabric f { encap vxlan port 4789 underlay mtu 9000 family ipv4 precedence top > tenant delegate tenant unknown-vni drop }
node c1 { vtep 192.0.2.11 dev eth0 }
node g1 { vtep 192.0.2.21 dev eth0 gateway }
external net { 10.0.0.0/16, fd00:a::/48, 203.0.113.0/24 }
tenant a id 1 {
  segment s vni 10 { 10.0.7.0/24, fd00:a:0:7::/64 }
  expose s : udp/53 | icmp/8 | icmp6/128 to net & (10.0.0.0/23 | 203.0.113.0/25 | fd00:a:0:1::/64) via g
    as 100.64.0.0/24, fd00:64::/64 clients as 100.80.0.0/23, 100.81.0.0/25, fd00:65::/64
}
gateway g {
  joins a, net instances g1 stateful
  attach net on g1 dev ext0 next-hop 10.0.0.1, fd00:a:0:1::1
}
endpoint a10 in a.s { at 10.0.7.10, fd00:a:0:7::10 on c1 dev a10 }
policy pa for a in tenant { nobody: deny net & 10.0.1.9 -> a : udp }
test "an external under other addresses" {
  packet in net udp 10.0.0.5:4000 -> 100.64.0.10:53 is allow via g
  packet in net udp 10.0.1.255:4000 -> 100.64.0.10:53 is allow via g
  packet in net udp 10.0.1.9:4000 -> 100.64.0.10:53 is deny by pa.nobody
  packet in net udp 10.0.2.5:4000 -> 100.64.0.10:53 is deny
  packet in net udp 203.0.113.127:4000 -> 100.64.0.10:53 is allow via g
  packet in net udp 203.0.113.128:4000 -> 100.64.0.10:53 is deny
  packet in net udp [fd00:a:0:1:2:3:4:5]:4000 -> [fd00:64::10]:53 is allow via g
  packet in net udp [fd00:a:0:2::5]:4000 -> [fd00:64::10]:53 is deny
}
"#;

#[test]
fn an_external_is_shown_under_other_addresses() {
    let p = one(SHOWN);
    let Some(report) = support::probed(&p, "clients as for an external", Fleet::wanted()) else { return };
    assert!(report.ok(), "{}", report.table());
    assert!(report.summary.passed >= 8, "{}", report.table());
}

/// The search tree of routing rules is there for many tables only, and goes with them.
#[test]
fn the_tree_of_rules_goes_when_few_tables_are_left() {
    if !namespace::able("the tree of rules") {
        return;
    }
    let fabric = "fabric f { encap vxlan port 4789 underlay mtu 1500 family ipv4 precedence tenant delegate tenant unknown-vni drop }\nnode n1 { vtep 192.0.2.11 dev eth0 }\n";
    let built = tempfile::tempdir().unwrap();
    let generation = |tenants: u32| {
        let mut text = fabric.to_owned();
        for n in 1..=tenants {
            let _ = writeln!(
                text,
                "tenant t{n} id {n} {{ segment s vni {n} {{ 10.1.0.0/24 }} }}\nendpoint e{n} in t{n}.s {{ at 10.1.0.5 on n1 dev tap{n} }}"
            );
        }
        let folder = built.path().join(tenants.to_string());
        Fleet::Nft.build(&one(&text), &[], &folder);
        open(&folder, "n1")
    };
    let (many, few) = (generation(40), generation(3));
    alone(|| {
        sh(
            "ip link set dev lo up; ip link add name eth0 type veth peer name there; ip link set dev eth0 up; ip address add 192.0.2.11/24 dev eth0",
        );
        for n in 1..=40 {
            sh(&format!("ip link add name tap{n} type veth peer name far{n}; ip link set dev tap{n} up"));
        }
        let state = State::new(built.path().join("state"));
        let rules = |family: &str, what: &str| {
            sh(&format!("ip {family} rule show")).lines().filter(|l| l.contains(what)).count()
        };
        for (generation, tables, tree) in [(&many, 40, true), (&few, 3, false), (&many, 40, true)] {
            let done = install::apply(&state, Some(generation), &mut |_| {}).unwrap();
            assert!(!done.stuck(), "{:?}", done.left);
            for family in ["-4", "-6"] {
                assert_eq!(rules(family, "fwmark 0x500000"), tables);
                assert_eq!(rules(family, " goto ") > 0, tree, "{}", sh(&format!("ip {family} rule show")));
            }
        }
    });
}
