//! Fragments: they follow their first one, in order, and nothing else.

use crate::ANY_MAC;
use crate::frames::{self, Fields, Twist};
use crate::ground::{FRONT, Ground, SVC, TWIN, WEB, dropped, fields, hopped, sent};
use crate::said::{DEFAULT, FRAGMENT, INVALID, RULE, SENT_DEVICE, SENT_TUNNEL, SHOT};

/// A datagram of 128 bytes with its UDP header, in four parts.
const CUTS: [(u16, u16); 4] = [(0, 4), (4, 4), (8, 4), (12, 40)];

fn both() -> [Fields; 2] {
    [fields("10.1.0.5", "10.1.1.9", 17, 40_000, 53), fields("fd00:1::5", "fd00:2::9", 17, 40_000, 53)]
}

fn cut(g: &Ground, from: [u8; 6], f: &Fields, id: u32, cuts: &[(u16, u16)]) -> Vec<Vec<u8>> {
    frames::fragments(from, g.m.mac, f, id, cuts)
}

fn in_order_all_of_them_go_on(g: &Ground) {
    for f in both() {
        for part in cut(g, WEB, &f, 5, &CUTS) {
            let ran = g.m.workload("tap-web", &part);
            sent(&ran, SENT_TUNNEL);
            assert_eq!(ran.frame, hopped(part, g.m.mac, g.mac_of("c2")));
        }
        // One that is whole and says that it is a fragment.
        sent(&g.m.workload("tap-web", &g.frame(WEB, &f, 6, Twist::Extension(44))), SENT_TUNNEL);
        g.m.forget();
    }
    assert_eq!(g.count("connections"), 0);
}

fn out_of_order_they_are_dropped(g: &Ground) {
    for f in both() {
        let parts = cut(g, WEB, &f, 5, &CUTS);
        let run = |at: usize| g.m.workload("tap-web", &parts[at]);
        dropped(&run(1), FRAGMENT);
        dropped(&run(3), FRAGMENT);
        sent(&run(0), SENT_TUNNEL);
        dropped(&run(2), FRAGMENT);
        sent(&run(1), SENT_TUNNEL);
        sent(&run(2), SENT_TUNNEL);
        sent(&run(3), SENT_TUNNEL);
        g.m.forget();
    }
}

fn what_overlaps_is_dropped_and_all_that_would_follow(g: &Ground) {
    for f in both() {
        let parts = cut(g, WEB, &f, 5, &[(0, 4), (2, 4), (3, 1), (4, 4), (6, 40)]);
        let run = |at: usize| g.m.workload("tap-web", &parts[at]);
        sent(&run(0), SENT_TUNNEL);
        dropped(&run(1), FRAGMENT);
        dropped(&run(3), FRAGMENT);
        dropped(&run(4), FRAGMENT);
        // The same once more from its start, and once what came before.
        sent(&run(0), SENT_TUNNEL);
        sent(&run(3), SENT_TUNNEL);
        dropped(&run(2), FRAGMENT);
        dropped(&run(4), FRAGMENT);
        g.m.forget();
    }
}

fn each_is_decided_like_its_first(g: &Ground) {
    for (f, why) in both().into_iter().flat_map(|f| {
        [
            (Fields { y: 515, ..f }, RULE),
            (Fields { y: 54, ..f }, DEFAULT),
            (Fields { x: 1, y: 9, ..f }, DEFAULT),
        ]
    }) {
        for part in cut(g, WEB, &f, 5, &CUTS) {
            dropped(&g.m.workload("tap-web", &part), why);
        }
        assert_eq!(g.count("connections"), 0);
        g.m.forget();
    }
}

fn another_datagrams_fragments_do_not_follow(g: &Ground) {
    for f in both() {
        let first = &cut(g, WEB, &f, 5, &CUTS)[0];
        sent(&g.m.workload("tap-web", first), SENT_TUNNEL);
        // Another number, another protocol, another destination; a tenant with the same addresses.
        dropped(&g.m.workload("tap-web", &cut(g, WEB, &f, 6, &CUTS)[1]), FRAGMENT);
        dropped(&g.m.workload("tap-web", &cut(g, WEB, &Fields { protocol: 6, ..f }, 5, &CUTS)[1]), FRAGMENT);
        let elsewhere =
            Fields { dst: if f.src.is_ipv4() { "10.1.1.8" } else { "fd00:2::8" }.parse().unwrap(), ..f };
        dropped(&g.m.workload("tap-web", &cut(g, WEB, &elsewhere, 5, &CUTS)[1]), FRAGMENT);
        dropped(&g.m.workload("tap-twin", &cut(g, TWIN, &f, 5, &CUTS)[1]), FRAGMENT);
        sent(&g.m.workload("tap-web", &cut(g, WEB, &f, 5, &CUTS)[1]), SENT_TUNNEL);
        g.m.forget();
    }
}

/// Lengths that no sender's are: what is not the last has a multiple of eight bytes, nothing is empty, and all end before 65,536.
fn impossible_ones_are_dropped(g: &Ground) {
    for f in both() {
        let v4 = f.src.is_ipv4();
        let run = |mut part: Vec<u8>, length: usize, offset: u16, more: bool| {
            part.truncate(part.len() - length);
            if v4 {
                let total = u16::try_from(part.len() - 14).unwrap().to_be_bytes();
                part[16..18].copy_from_slice(&total);
                part[20..22].copy_from_slice(&(u16::from(more) << 13 | offset).to_be_bytes());
                frames::mend4(&mut part[14..34]);
            } else {
                let total = u16::try_from(part.len() - 54).unwrap().to_be_bytes();
                part[18..20].copy_from_slice(&total);
                part[56..58].copy_from_slice(&(offset << 3 | u16::from(more)).to_be_bytes());
            }
            g.m.workload("tap-web", &part)
        };
        let parts = || cut(g, WEB, &f, 5, &CUTS);
        dropped(&run(parts()[0].clone(), 4, 0, true), FRAGMENT);
        sent(&run(parts()[0].clone(), 0, 0, true), SENT_TUNNEL);
        dropped(&run(parts()[1].clone(), 3, 4, true), FRAGMENT);
        dropped(&run(parts()[1].clone(), 32, 4, true), FRAGMENT);
        dropped(&run(parts()[1].clone(), 0, 0x1fff, false), FRAGMENT);
        // A first one that does not show what is to be decided.
        let why = run(parts()[0].clone(), 28, 0, true);
        assert!(why.action == SHOT && [INVALID, FRAGMENT].contains(&why.cb[0]), "{why:?}");
        let tcp = cut(g, WEB, &Fields { protocol: 6, y: 443, ..f }, 6, &[(0, 1), (0, 2), (1, 40)]);
        dropped(&g.m.workload("tap-web", &tcp[0]), INVALID);
        dropped(&g.m.workload("tap-web", &tcp[1]), INVALID);
        dropped(&g.m.workload("tap-web", &tcp[2]), FRAGMENT);
        g.m.forget();
    }
}

/// An error shows all that it quotes, or nobody can say whose it is.
fn an_error_in_fragments_is_dropped(g: &Ground) {
    let there = fields("10.1.1.9", "10.1.0.5", 17, 53, 40_000);
    let quoted = g.frame(WEB, &there, 1, Twist::None);
    let mut error = frames::error(WEB, g.m.mac, (quoted_src(), quoted_dst()), (3, 3), &quoted);
    error[20] |= 0x20;
    frames::mend4(&mut error[14..34]);
    dropped(&g.m.workload("tap-web", &error), FRAGMENT);
}

fn quoted_src() -> std::net::IpAddr {
    crate::ground::ip("10.1.0.5")
}

fn quoted_dst() -> std::net::IpAddr {
    crate::ground::ip("10.1.1.9")
}

/// Every fragment is translated, and the first one's checksum is that of the whole datagram.
#[test]
fn a_gateway_translates_them() {
    let Some(g) = crate::ground("g1") else { return };
    let pairs = [
        (fields("10.1.0.5", "100.64.7.9", 17, 40_000, 53), fields("100.65.0.5", "10.2.0.9", 17, 40_000, 53)),
        (fields("fd00:1::5", "fd64::9", 17, 40_000, 53), fields("fd65::5", "fd00:3::9", 17, 40_000, 53)),
    ];
    for (seen, shown) in pairs {
        let expected = frames::fragments(ANY_MAC, g.m.mac, &shown, 5, &CUTS);
        for (part, expected) in cut(&g, ANY_MAC, &seen, 5, &CUTS).iter().zip(expected) {
            let ran = g.m.fabric(g.vtep("c1"), FRONT, part);
            sent(&ran, SENT_TUNNEL);
            assert_eq!(ran.cb[2], SVC);
            assert_eq!(ran.frame, hopped(expected, g.m.mac, g.mac_of("c2")));
        }
        // And where they arrive, on the other node, nothing is changed.
        g.m.forget();
    }
}

#[test]
fn they_arrive() {
    let Some(g) = crate::ground("c2") else { return };
    for f in both() {
        for part in cut(&g, ANY_MAC, &f, 5, &CUTS) {
            let ran = g.m.fabric(g.vtep("c1"), crate::ground::DATA, &part);
            sent(&ran, SENT_DEVICE);
            assert_eq!(ran.frame, hopped(part, g.m.mac, [2, 0, 0x0a, 1, 1, 9]));
        }
        g.m.forget();
    }
}

/// On a node that has the sender.
#[test]
fn fragments_of_a_workload() {
    crate::each(
        "c1",
        &[
            in_order_all_of_them_go_on,
            out_of_order_they_are_dropped,
            what_overlaps_is_dropped_and_all_that_would_follow,
            each_is_decided_like_its_first,
            another_datagrams_fragments_do_not_follow,
            impossible_ones_are_dropped,
            an_error_in_fragments_is_dropped,
        ],
    );
}
