//! What a node answers itself, and what no workload may say to its neighbours.

use crate::frames::{self, Fields, Twist};
use crate::ground::{APP, Ground, WEB, dropped, fields, ip, sent};
use crate::said::{ANSWERED, BAD_VTEP, IGNORED, INVALID, SHOT, SPOOF, TO_HOST};
use partywall_node::ebpf::Ran;

fn ask(g: &Ground, operation: u16, sender: ([u8; 6], [u8; 4]), target: [u8; 4]) -> Ran {
    g.m.workload("tap-web", &frames::arp(WEB, operation, sender, target))
}

const OWN: [u8; 4] = [10, 1, 0, 5];
const NEIGHBOUR: [u8; 4] = [10, 1, 0, 6];
const NOBODY: [u8; 4] = [10, 1, 0, 77];
const ROUTER: [u8; 4] = [10, 1, 0, 1];

fn arp_is_answered_with_the_routers_mac(g: &Ground) {
    for target in [ROUTER, NEIGHBOUR, NOBODY] {
        let ran = ask(g, 1, (WEB, OWN), target);
        sent(&ran, ANSWERED);
        let mut expected = frames::arp(g.m.mac, 2, (g.m.mac, target), OWN);
        expected[..6].copy_from_slice(&WEB);
        expected[32..38].copy_from_slice(&WEB);
        assert_eq!(ran.frame, expected);
    }
}

fn arp_for_the_own_address_and_probes_stay_unanswered(g: &Ground) {
    for (operation, sender, target) in [
        (1, (WEB, OWN), OWN),
        (2, (WEB, OWN), OWN),
        (1, (WEB, [0; 4]), OWN),
        (1, (WEB, [0; 4]), NEIGHBOUR),
        (1, (WEB, OWN), [10, 1, 1, 9]),
        (1, (WEB, OWN), [203, 0, 113, 1]),
    ] {
        dropped(&ask(g, operation, sender, target), IGNORED);
    }
}

fn arp_for_others_is_spoofed(g: &Ground) {
    for operation in [1, 2] {
        dropped(&ask(g, operation, (WEB, NEIGHBOUR), NEIGHBOUR), SPOOF);
        dropped(&ask(g, operation, (WEB, ROUTER), OWN), SPOOF);
        dropped(&ask(g, operation, (APP, OWN), ROUTER), SPOOF);
    }
    dropped(&g.m.workload("tap-web", &frames::arp(APP, 1, (APP, NEIGHBOUR), ROUTER)), SPOOF);
    for at in [14, 15, 16, 18, 19, 21] {
        let mut other = frames::arp(WEB, 1, (WEB, OWN), ROUTER);
        other[at] ^= 8;
        dropped(&g.m.workload("tap-web", &other), INVALID);
    }
    let whole = frames::arp(WEB, 1, (WEB, OWN), ROUTER);
    dropped(&g.m.workload("tap-web", &whole[..41]), INVALID);
    // Nobody speaks ARP in the tunnel.
    dropped(&g.m.fabric(g.vtep("c2"), crate::ground::FRONT, &whole), BAD_VTEP);
}

fn solicit(g: &Ground, from: [u8; 6], src: &str, target: &str, hops: u8) -> Ran {
    g.m.workload("tap-web", &message(g, from, (src, target), 135, hops, target))
}

fn message(g: &Ground, from: [u8; 6], ends: (&str, &str), kind: u8, hops: u8, target: &str) -> Vec<u8> {
    let std::net::IpAddr::V6(target) = ip(target) else { panic!("{target}") };
    let rest = [&[0; 4][..], &target.octets()].concat();
    frames::discovery((from, g.m.mac), (ip(ends.0), ip(ends.1)), kind, hops, &rest)
}

fn solicitations_are_answered_with_the_routers_mac(g: &Ground) {
    for target in ["fd00:1::1", "fd00:1::6", "fe80::1"] {
        for src in ["fd00:1::5", "fe80::a:1:5"] {
            let ran = solicit(g, WEB, src, target, 255);
            sent(&ran, ANSWERED);
            let std::net::IpAddr::V6(at) = ip(target) else { panic!("{target}") };
            // Router, solicited, override; the option says the MAC.
            let rest = [&[0xe0, 0, 0, 0][..], &at.octets(), &[2, 1], &g.m.mac].concat();
            let expected = frames::discovery((g.m.mac, WEB), (ip(target), ip(src)), 136, 255, &rest);
            assert_eq!(ran.frame, expected, "{target} {src}");
        }
    }
}

fn solicitations_for_the_own_address_and_of_nobody_stay_unanswered(g: &Ground) {
    // The own address; one that nobody has; another segment's; duplicate address detection for one's own and others'.
    for (src, target) in [
        ("fd00:1::5", "fd00:1::5"),
        ("fd00:1::5", "fd00:1::77"),
        ("fd00:1::5", "fd00:2::9"),
        ("::", "fd00:1::5"),
        ("::", "fd00:1::6"),
        ("::", "fe80::1"),
    ] {
        dropped(&solicit(g, WEB, src, target, 255), IGNORED);
    }
    // What it says of itself goes nowhere.
    dropped(
        &g.m.workload("tap-web", &message(g, WEB, ("fd00:1::5", "fd00:1::1"), 136, 255, "fd00:1::5")),
        IGNORED,
    );
}

fn solicitations_from_afar_or_of_others_are_refused(g: &Ground) {
    for hops in [0, 1, 64, 254] {
        dropped(&solicit(g, WEB, "fd00:1::5", "fd00:1::1", hops), INVALID);
    }
    dropped(&solicit(g, WEB, "fd00:1::6", "fd00:1::1", 255), SPOOF);
    dropped(&solicit(g, APP, "fd00:1::5", "fd00:1::1", 255), SPOOF);
    dropped(&solicit(g, APP, "fe80::a:1:6", "fd00:1::1", 255), SPOOF);
    let mut code = message(g, WEB, ("fd00:1::5", "fd00:1::1"), 135, 255, "fd00:1::1");
    code[55] = 1;
    dropped(&g.m.workload("tap-web", &code), INVALID);
    let mut short = message(g, WEB, ("fd00:1::5", "fd00:1::1"), 135, 255, "fd00:1::1");
    short.truncate(54 + 23);
    short[19] = 23;
    dropped(&g.m.workload("tap-web", &short), INVALID);
    // An advertisement for a neighbour, and for the address of nobody.
    for target in ["fd00:1::6", "::"] {
        let ran = g.m.workload("tap-web", &message(g, WEB, ("::", "ff02::1"), 136, 255, target));
        dropped(&ran, TO_HOST);
    }
}

fn what_only_routers_and_servers_say_is_refused(g: &Ground) {
    for (kind, why) in [(134, INVALID), (137, INVALID)] {
        for src in ["fd00:1::5", "fe80::a:1:5"] {
            let ran = g.m.workload("tap-web", &message(g, WEB, (src, "ff02::1"), kind, 255, "fd00:1::6"));
            let own = if src == "fd00:1::5" { why } else { TO_HOST };
            dropped(&ran, own);
        }
    }
    let quoted = g.frame(APP, &fields("10.1.0.6", "10.1.1.9", 17, 1, 53), 1, Twist::None);
    let redirect = frames::error(WEB, g.m.mac, (ip("10.1.0.5"), ip("10.1.0.6")), (5, 1), &quoted);
    dropped(&g.m.workload("tap-web", &redirect), INVALID);
    let offers = [fields("10.1.0.5", "10.1.0.6", 17, 67, 68), fields("fd00:1::5", "fd00:1::6", 17, 547, 546)];
    for f in offers {
        dropped(&g.workload("tap-web", WEB, &f, Twist::None), INVALID);
    }
}

fn sources_that_are_not_the_endpoints_are_spoofed(g: &Ground) {
    let to4 = |src: &str| fields(src, "10.1.1.9", 17, 1, 53);
    let to6 = |src: &str| fields(src, "fd00:2::9", 17, 1, 53);
    for f in [
        to4("10.1.0.6"),
        to4("10.1.0.1"),
        to4("0.0.0.0"),
        to4("255.255.255.255"),
        to4("127.0.0.1"),
        to4("224.0.0.1"),
        to6("fd00:1::6"),
        to6("::ffff:10.1.0.5"),
        to6("::10.1.0.5"),
        to6("::"),
        to6("fe80::1"),
        to6("ff02::1"),
    ] {
        dropped(&g.workload("tap-web", WEB, &f, Twist::None), SPOOF);
    }
    let own = fields("10.1.0.5", "10.1.1.9", 17, 1, 53);
    dropped(&g.workload("tap-web", APP, &own, Twist::None), SPOOF);
    for (to, protocol) in [("224.0.0.251", 17), ("255.255.255.255", 17), ("10.1.0.255", 17), ("ff02::fb", 17)]
    {
        let src = if to.contains(':') { "fd00:1::5" } else { "10.1.0.5" };
        let f = Fields { protocol, ..fields(src, to, 17, 5353, 53) };
        let mut group = g.frame(WEB, &f, 1, Twist::None);
        for mac in [g.m.mac, [0xff; 6], [1, 0, 0x5e, 0, 0, 0xfb]] {
            group[..6].copy_from_slice(&mac);
            let ran = g.m.workload("tap-web", &group);
            assert_eq!(ran.action, SHOT, "{to}: {ran:x?}");
        }
    }
    let tagged = g.workload("tap-web", WEB, &own, Twist::Vlan);
    assert!(tagged.action == SHOT && [SPOOF, INVALID].contains(&tagged.cb[0]), "{tagged:x?}");
}

#[test]
fn what_a_workload_says_to_its_neighbours() {
    crate::each(
        "c1",
        &[
            arp_is_answered_with_the_routers_mac,
            arp_for_the_own_address_and_probes_stay_unanswered,
            arp_for_others_is_spoofed,
            solicitations_are_answered_with_the_routers_mac,
            solicitations_for_the_own_address_and_of_nobody_stay_unanswered,
            solicitations_from_afar_or_of_others_are_refused,
            what_only_routers_and_servers_say_is_refused,
            sources_that_are_not_the_endpoints_are_spoofed,
        ],
    );
}
