//! What the kernel keeps for all tenants of a node together: one that fills its part of it takes nothing from the others.

use crate::ground::frames::fragments;
use crate::ground::support::run;
use crate::ground::{Ground, udp};

const FABRIC: &str = r#"
fabric f { encap vxlan port 4789 underlay mtu 9000 family ipv4 precedence top > tenant delegate tenant unknown-vni drop }
node c1 { vtep 192.0.2.11 dev eth0 }
node c2 { vtep 192.0.2.12 dev eth0 }
tenant red id 1 { segment s vni 1 { 10.1.0.0/24, fd00:1::/64 } }
tenant blue id 2 { segment s vni 2 { 10.1.0.0/24, fd00:1::/64 } }
endpoint red-x in red.s { at 10.1.0.5, fd00:1::5 mac 02:00:00:00:01:05 on c1 dev red-x }
endpoint red-y in red.s { at 10.1.0.9, fd00:1::9 mac 02:00:00:00:01:09 on c2 dev red-y }
endpoint blue-x in blue.s { at 10.1.0.5, fd00:1::5 mac 02:00:00:00:02:05 on c1 dev blue-x }
endpoint blue-y in blue.s { at 10.1.0.9, fd00:1::9 on c1 dev blue-y }
policy p in top { allow same-tenant : udp allow same-tenant : icmp }
"#;

/// Packets of which the rest never comes.
fn begun(g: &Ground) -> u32 {
    // An eBPF node remembers 16,384 beginnings of all tenants together, whatever their age.
    if g.ebpf("c1") { 15_000 } else { 20_000 }
}

/// A tenant begins more packets than all tenants' fragments had room for; another one's packet comes through in between.
#[test]
fn packets_that_a_tenant_only_begins_take_no_others_room() {
    let Some(g) = Ground::new("attack: packets that only begin", FABRIC) else { return };
    let router = g.router("c1");
    for (src, dst) in [("10.1.0.5", "10.1.0.9"), ("fd00:1::5", "fd00:1::9")] {
        let f = udp(src, dst, 40_000, 53);
        let halves = |host: &str, id| {
            let place = g.host(host);
            fragments(g.wires.mac(place), router, &f, id, &[(0, 8), (8, 8)])
                .into_iter()
                .map(move |half| (place, half))
        };
        for whose in ["red-x", "blue-x"] {
            let whole: Vec<_> = halves(whose, 1_000_000).collect();
            let seen = g.volley(&whole).arrivals;
            assert_eq!(seen.packets.len(), 1, "{seen:?}");
        }
        let [first, last] = <[_; 2]>::try_from(halves("blue-x", 1_000_001).collect::<Vec<_>>()).unwrap();
        let mut frames = vec![first];
        frames.extend((0..begun(&g)).filter_map(|id| halves("red-x", id).next()));
        frames.push(last);
        frames.extend(halves("blue-x", 1_000_002));
        let effect = g.volley(&frames);
        for id in [1_000_001, 1_000_002] {
            assert!(effect.arrivals.packets.contains_key(&id), "{id} {:?}", effect.drops);
        }
        // A node that lets fragments go one by one counts those that it knows no beginning of.
        assert_eq!(effect.counted("c1", "fragment"), 0, "{src}");
    }
}

/// What the kernel remembers of who has asked it: the table is one for all network namespaces of the machine.
#[test]
fn a_workload_of_many_link_local_addresses_fills_no_table() {
    let Some(g) = Ground::new("attack: link-local addresses", FABRIC) else { return };
    let asks = |n: u32| g.solicitation("red-x", &format!("fe80::5:{n:x}"), "fe80::1", 255);
    let known = || {
        let all = run("ip", &["-6", "-n", g.netns("c1"), "neighbour", "show", "dev", "red-x"]);
        all.lines().filter(|line| line.starts_with("fe80::5:")).count()
    };
    let answers = |frames: &[_]| g.volley(frames).answers(g.host("red-x")).len();
    // Some are a host's own business, and go on being answered.
    let own: Vec<_> = (0..4).map(asks).collect();
    assert_eq!(answers(&own), own.len());
    let many: Vec<_> = (0x100..0x1100).map(asks).collect();
    g.volley(&many);
    let most = known();
    assert!(most < 32, "{most} neighbours");
    assert_eq!(answers(&own), own.len());
}
