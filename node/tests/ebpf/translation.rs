//! Translation at a gateway: ports behind one address, errors about translated packets, segments that fit.

use crate::ANY_MAC;
use crate::frames::{self, Fields, Twist, frame};
use crate::ground::{API, FRONT, Ground, SVC, WEB, dropped, fields, hopped, ip, sent, turned};
use crate::layout;
use crate::said::{CT_FULL, INVALID, REDIRECT, SENT_DEVICE, SENT_NEXT_HOP, SENT_TUNNEL, SHOT};
use crate::told::told;
use libbpf_rs::{MapCore as _, MapFlags};
use partywall_node::ebpf::Ran;
use std::collections::BTreeSet;
use std::net::IpAddr;

/// Out to the external, as it is seen there.
fn out(g: &Ground, f: &Fields, twist: Twist) -> Ran {
    g.fabric("c1", FRONT, f, twist)
}

/// The source port, or the number of an echo, that a frame shows.
fn shown(frame: &[u8], protocol: u8) -> u16 {
    let at = if frame[12..14] == [8, 0] { 34 } else { 54 } + if matches!(protocol, 1 | 58) { 4 } else { 0 };
    u16::from_be_bytes([frame[at], frame[at + 1]])
}

/// The address that frames leave with.
fn source(frame: &[u8]) -> IpAddr {
    match frame[12..14] {
        [8, 0] => <[u8; 4]>::try_from(&frame[26..30]).unwrap().into(),
        _ => <[u8; 16]>::try_from(&frame[22..38]).unwrap().into(),
    }
}

const FAMILIES: [[&str; 4]; 2] = [
    ["10.1.0.5", "10.1.0.6", "203.0.113.9", "198.51.100.1"],
    ["fd00:1::5", "fd00:1::6", "2001:db8:2::9", "2001:db8:4::1"],
];

fn hosts_behind_one_address_get_ports_of_their_own(g: &Ground) {
    for [web, app, there, mask] in FAMILIES {
        for (protocol, y) in [(17, 53), (6, 443)] {
            let first = out(g, &fields(web, there, protocol, 40_000, y), Twist::None);
            let second = out(g, &fields(app, there, protocol, 40_000, y), Twist::None);
            for ran in [&first, &second] {
                sent(ran, SENT_NEXT_HOP);
                assert_eq!(source(&ran.frame), ip(mask));
            }
            // The first one keeps its port.
            assert_eq!(shown(&first.frame, protocol), 40_000);
            let port = shown(&second.frame, protocol);
            assert!(port >= 1024 && port != 40_000, "{port}");
            // Its checksums are those of the packet that it is now.
            let is = Fields { x: port, ..fields(mask, there, protocol, 0, y) };
            let expected = hopped(g.frame(ANY_MAC, &is, 7, Twist::None), [0; 6], [0; 6]);
            assert_eq!(second.frame[12..], expected[12..]);
            // And answers find their way back.
            let twist = if protocol == 6 { Twist::Flags(0x12) } else { Twist::None };
            for (host, port) in [(web, 40_000), (app, port)] {
                let ran = g.outside(&fields(there, mask, protocol, y, port), twist);
                sent(&ran, SENT_TUNNEL);
                let is = fields(there, host, protocol, y, 40_000);
                assert_eq!(ran.frame, hopped(g.frame(ANY_MAC, &is, 7, twist), g.m.mac, g.mac_of("c1")));
            }
            // A port that nobody has.
            let stray = g.outside(&fields(there, mask, protocol, y, 39_999), twist);
            assert_eq!(stray.action, SHOT, "{stray:x?}");
            assert_eq!((g.count("connections"), g.count("aliases"), g.opened()), (2, 2, 2));
            g.m.forget();
        }
    }
}

fn echoes_get_numbers_of_their_own_and_sctp_waits(g: &Ground) {
    for (family, (protocol, kind)) in FAMILIES.into_iter().zip([(1, 8), (58, 128)]) {
        let [web, app, there, mask] = family;
        // `frame` numbers echoes by the packet's number, which is the same here.
        let runs = [web, app].map(|host| out(g, &fields(host, there, protocol, kind, 0), Twist::None));
        let numbers: Vec<u16> = runs
            .iter()
            .map(|ran| {
                sent(ran, SENT_NEXT_HOP);
                assert_eq!(source(&ran.frame), ip(mask));
                shown(&ran.frame, protocol)
            })
            .collect();
        assert_ne!(numbers[0], numbers[1]);
        g.m.forget();
        for (protocol, x, y) in [(132, 40_000, 7), (47, 0, 0)] {
            sent(&out(g, &fields(web, there, protocol, x, y), Twist::None), SENT_NEXT_HOP);
            dropped(&out(g, &fields(app, there, protocol, x, y), Twist::None), CT_FULL);
            // When the first has ended, it is the second's turn.
            g.age(601);
            sent(&out(g, &fields(app, there, protocol, x, y), Twist::None), SENT_NEXT_HOP);
            let ran = g.outside(&turned(&fields(mask, there, protocol, x, y)), Twist::None);
            sent(&ran, SENT_TUNNEL);
            assert_eq!(ran.frame[30..34] == [10, 1, 0, 6], there.contains('.'), "{ran:x?}");
            dropped(&out(g, &fields(web, there, protocol, x, y), Twist::None), CT_FULL);
            assert_eq!((g.count("connections"), g.count("aliases"), g.opened()), (1, 1, 1));
            g.m.forget();
        }
    }
}

/// Every port of the address is taken towards one destination: the next connection is refused, leaves nothing behind, and others
/// are as before.
#[test]
fn a_masquerade_without_a_free_port_refuses() {
    if !crate::able() {
        return;
    }
    let g = Ground::of("g1", false, 1 << 17);
    let f = fields("10.1.0.5", "203.0.113.9", 17, 40_000, 53);
    sent(&out(&g, &f, Twist::None), SENT_NEXT_HOP);
    let aliases = g.m.map("aliases");
    let key = aliases.keys().next().unwrap();
    let value = aliases.lookup(&key, MapFlags::ANY).unwrap().unwrap();
    let at = [layout::at("ct_key", "aport"), layout::at("ct_key", "bport")]
        .into_iter()
        .find(|at| key[*at..at + 2] == 40_000u16.to_ne_bytes())
        .unwrap();
    let (mut keys, mut values) = (Vec::new(), Vec::new());
    for port in 1024..=u16::MAX {
        let mut other = key.clone();
        other[at..at + 2].copy_from_slice(&port.to_ne_bytes());
        keys.extend(other);
        values.extend(&value);
    }
    let count = u32::from(u16::MAX - 1023);
    aliases.update_batch(&keys, &values, count, MapFlags::ANY, MapFlags::ANY).unwrap();
    let before = (g.count("aliases"), g.opened());
    for x in [40_000, 40_001, 1024, 65_535] {
        let other = Fields { x, ..fields("10.1.0.6", "203.0.113.9", 17, 0, 53) };
        dropped(&out(&g, &other, Twist::None), CT_FULL);
    }
    assert_eq!((g.count("aliases"), g.count("connections"), g.opened()), (before.0, 1, before.1));
    // A lower port is its own; so is any towards somebody else.
    sent(&out(&g, &fields("10.1.0.6", "203.0.113.9", 17, 1000, 53), Twist::None), SENT_NEXT_HOP);
    sent(&out(&g, &fields("10.1.0.6", "203.0.113.8", 17, 40_000, 53), Twist::None), SENT_NEXT_HOP);
    // One port is free again; sooner or later a try meets it.
    let free: BTreeSet<u16> = (20_000..30_000).collect();
    for port in &free {
        let mut other = key.clone();
        other[at..at + 2].copy_from_slice(&port.to_ne_bytes());
        aliases.delete(&other).unwrap();
    }
    let got = (0..100).find_map(|_| {
        let ran = out(&g, &fields("10.1.0.6", "203.0.113.9", 17, 40_001, 53), Twist::None);
        (ran.action != SHOT).then(|| shown(&ran.frame, 17))
    });
    assert!(got.is_some_and(|port| free.contains(&port)), "{got:?}");
}

/// A connection of either family, as its opener sees it and as the other side does.
fn translated() -> [(Fields, Fields); 2] {
    [
        (fields("10.1.0.5", "100.64.7.9", 0, 0, 0), fields("100.65.0.5", "10.2.0.9", 0, 0, 0)),
        (fields("fd00:1::5", "fd64::9", 0, 0, 0), fields("fd65::5", "fd00:3::9", 0, 0, 0)),
    ]
}

fn services(f: &Fields) -> Vec<(u8, u16, u16)> {
    let echo = if f.src.is_ipv4() { (1, 8, 0) } else { (58, 128, 0) };
    vec![(17, 40_000, 53), (6, 40_000, 443), echo]
}

/// What a router on the far side says of a packet, as the opener gets it: all of it in the opener's terms.
fn errors_are_translated_with_what_they_quote(g: &Ground) {
    for (seen, shown) in translated() {
        for (protocol, x, y) in services(&seen) {
            let (seen, shown) = (Fields { protocol, x, y, ..seen }, Fields { protocol, x, y, ..shown });
            for mtu in [None, Some(1300)] {
                let opened = out(g, &seen, Twist::None);
                sent(&opened, SENT_TUNNEL);
                // The first error: nothing else was seen of the connection; then again when its decisions are remembered.
                for _ in 0..2 {
                    let quoted = frame(ANY_MAC, g.m.mac, &shown, 7, Twist::Ttl(1));
                    let said = told(&quoted, ANY_MAC, g.m.mac, shown.dst, mtu);
                    let ran = g.m.fabric(g.vtep("c2"), SVC, &said);
                    sent(&ran, SENT_TUNNEL);
                    let quoted = frame(ANY_MAC, g.m.mac, &seen, 7, Twist::Ttl(1));
                    let expected = told(&quoted, ANY_MAC, g.m.mac, seen.dst, mtu);
                    assert_eq!(ran.frame, hopped(expected, g.m.mac, g.mac_of("c1")), "{seen:?}");
                    if protocol == 17 {
                        sent(&out(g, &seen, Twist::None), SENT_TUNNEL);
                        sent(&g.fabric("c2", SVC, &turned(&shown), Twist::None), SENT_TUNNEL);
                    }
                }
                g.m.forget();
            }
        }
    }
}

/// And the other way: the opener's side says that an answer did not arrive.
fn errors_about_answers_are_translated(g: &Ground) {
    for (seen, shown) in translated() {
        let (seen, shown) =
            (Fields { protocol: 17, x: 4, y: 53, ..seen }, Fields { protocol: 17, x: 4, y: 53, ..shown });
        sent(&out(g, &seen, Twist::None), SENT_TUNNEL);
        sent(&g.fabric("c2", SVC, &turned(&shown), Twist::None), SENT_TUNNEL);
        let quoted = frame(ANY_MAC, g.m.mac, &turned(&seen), 7, Twist::None);
        let said = told(&quoted, ANY_MAC, g.m.mac, seen.src, None);
        let ran = g.m.fabric(g.vtep("c1"), FRONT, &said);
        sent(&ran, SENT_TUNNEL);
        let quoted = frame(ANY_MAC, g.m.mac, &turned(&shown), 7, Twist::None);
        let expected = told(&quoted, ANY_MAC, g.m.mac, shown.src, None);
        assert_eq!(ran.frame, hopped(expected, g.m.mac, g.mac_of("c2")));
        g.m.forget();
    }
}

fn errors_that_quote_wrongly_are_dropped(g: &Ground) {
    for (seen, shown) in translated() {
        let (seen, shown) =
            (Fields { protocol: 17, x: 4, y: 53, ..seen }, Fields { protocol: 17, x: 4, y: 53, ..shown });
        let say = |from: &str, vni: u32, quoted: &Fields, by: IpAddr| {
            let quoted = frame(ANY_MAC, g.m.mac, quoted, 7, Twist::None);
            g.m.fabric(g.vtep(from), vni, &told(&quoted, ANY_MAC, g.m.mac, by, None))
        };
        // Nobody asked.
        dropped(&say("c2", SVC, &shown, shown.dst), INVALID);
        sent(&out(g, &seen, Twist::None), SENT_TUNNEL);
        sent(&say("c2", SVC, &shown, shown.dst), SENT_TUNNEL);
        // Other ports, another protocol, the opener's view of it, and an answer that never was sent that way.
        for wrong in [
            Fields { x: 5, ..shown },
            Fields { y: 54, ..shown },
            Fields { protocol: 6, ..shown },
            seen,
            turned(&shown),
        ] {
            let ran = say("c2", SVC, &wrong, shown.dst);
            assert_eq!(ran.action, SHOT, "{wrong:?} {ran:x?}");
        }
        // What it quotes was not for whom it goes to.
        let quoted = frame(ANY_MAC, g.m.mac, &shown, 7, Twist::None);
        let mut other = told(&quoted, ANY_MAC, g.m.mac, shown.dst, None);
        if shown.src.is_ipv4() {
            other[33] ^= 1;
            frames::mend4(&mut other[14..34]);
        } else {
            other[53] ^= 1;
        }
        let ran = g.m.fabric(g.vtep("c2"), SVC, &other);
        assert_eq!(ran.action, SHOT, "{ran:x?}");
        g.m.forget();
    }
}

/// Nodes do not translate; the workload gets the error as it is.
#[test]
fn errors_reach_the_workload() {
    let Some(g) = crate::ground("c1") else { return };
    for (seen, _) in translated() {
        for (protocol, x, y) in services(&seen) {
            let seen = Fields { protocol, x, y, ..seen };
            sent(&g.workload("tap-web", WEB, &seen, Twist::None), SENT_TUNNEL);
            let quoted = frame(WEB, g.m.mac, &seen, 7, Twist::Ttl(1));
            let said = told(&quoted, ANY_MAC, g.m.mac, seen.dst, Some(1300));
            let ran = g.m.fabric(g.vtep("g1"), FRONT, &said);
            sent(&ran, SENT_DEVICE);
            assert_eq!(ran.frame, hopped(said.clone(), g.m.mac, WEB));
            // From a node that is no gateway it is somebody else's.
            assert_eq!(g.m.fabric(g.vtep("c2"), FRONT, &said).action, SHOT);
            g.m.forget();
        }
    }
}

/// An external's hosts show themselves under the addresses that the exposure gives them.
fn clients_outside_are_translated(g: &Ground) {
    let pairs = [
        (fields("203.0.113.9", "198.18.0.9", 17, 4000, 53), fields("100.66.0.9", "10.2.0.9", 17, 4000, 53)),
        (
            fields("2001:db8:2::9", "2001:db8:5::9", 17, 4000, 53),
            fields("fd66::9", "fd00:3::9", 17, 4000, 53),
        ),
    ];
    for (seen, shown) in pairs {
        let ran = g.outside(&seen, Twist::None);
        sent(&ran, SENT_TUNNEL);
        assert_eq!(ran.cb[2], SVC);
        let expected = g.frame(ANY_MAC, &shown, 7, Twist::None);
        assert_eq!(ran.frame, hopped(expected, g.m.mac, g.mac_of("c2")));
        let back = g.fabric("c2", SVC, &turned(&shown), Twist::None);
        sent(&back, SENT_NEXT_HOP);
        let expected = hopped(g.frame(ANY_MAC, &turned(&seen), 7, Twist::None), [0; 6], [0; 6]);
        assert_eq!(back.frame[12..], expected[12..]);
        // Nobody has it under its own addresses.
        assert_ne!(g.outside(&Fields { dst: shown.dst, ..seen }, Twist::None).action, REDIRECT);
        g.m.forget();
    }
}

/// A segment's options, and what they have to be afterwards.
fn options() -> Vec<(&'static str, Vec<u8>, Option<usize>)> {
    let mss = |mss: u16| [&[2, 4][..], &mss.to_be_bytes()].concat();
    let nops = |n: usize| vec![1u8; n];
    vec![
        ("alone", mss(8910), Some(2)),
        ("one more than fits", mss(1361), Some(2)),
        ("what fits", mss(1340), None),
        ("less", mss(536), None),
        ("at an odd place", [nops(1), mss(8910), nops(3)].concat(), Some(3)),
        ("behind others", [vec![3, 3, 7], nops(1), vec![4, 2], mss(8910), nops(2)].concat(), Some(8)),
        ("behind the end", [vec![0], mss(8910), nops(3)].concat(), None),
        ("of a wrong length", [vec![2, 3, 0xff], nops(1), mss(8910)].concat(), Some(6)),
        ("behind an option without a length", [vec![3, 0], nops(2), mss(8910)].concat(), None),
        ("behind an option that is too long", [vec![3, 40], nops(2), mss(8910)].concat(), None),
        ("cut off", [nops(5), vec![2, 4, 0x22]].concat(), None),
        ("behind ten others", [nops(12), mss(8910)].concat(), None),
    ]
}

/// The other side's segment takes 1,400 bytes.
fn segments_are_announced_as_they_fit(g: &Ground) {
    for (seen, shown) in translated() {
        let limit: u16 = if seen.src.is_ipv4() { 1360 } else { 1340 };
        for (what, before, at) in options() {
            let at = at.filter(|at| u16::from_be_bytes([before[*at], before[at + 1]]) > limit);
            let mut after = before.clone();
            if let Some(at) = at {
                after[at..at + 2].copy_from_slice(&limit.to_be_bytes());
            }
            let f = Fields { protocol: 6, x: 40_000, y: 443, ..seen };
            let is = Fields { protocol: 6, x: 40_000, y: 443, ..shown };
            // A packet in the midst is not looked at.
            for (flags, after) in [(0x02, &after), (0xc2, &after), (0x10, &before)] {
                let ran =
                    g.m.fabric(g.vtep("c1"), FRONT, &frames::segment(ANY_MAC, g.m.mac, &f, flags, &before));
                sent(&ran, SENT_TUNNEL);
                let expected = frames::segment(ANY_MAC, g.m.mac, &is, flags, after);
                assert_eq!(ran.frame, hopped(expected, g.m.mac, g.mac_of("c2")), "{what} {flags:#x}");
            }
            g.m.forget();
        }
    }
}

/// The answer is clamped by the way back, where it is the smaller one.
#[test]
fn answers_are_clamped_as_well() {
    let Some(g) = crate::ground("c2") else { return };
    let f = fields("100.65.0.5", "10.2.0.9", 6, 40_000, 443);
    let syn = frames::segment(ANY_MAC, g.m.mac, &f, 0x02, &[2, 4, 0x22, 0xce]);
    let ran = g.m.fabric(g.vtep("g1"), SVC, &syn);
    sent(&ran, SENT_DEVICE);
    assert_eq!(ran.frame[54..58], [2, 4, 0x05, 0x50]);
    let back = frames::segment(API, g.m.mac, &turned(&f), 0x12, &[2, 4, 0x22, 0xce]);
    let ran = g.m.workload("tap-api", &back);
    sent(&ran, SENT_TUNNEL);
    let mss = u16::from_be_bytes([ran.frame[56], ran.frame[57]]);
    assert!(mss <= 1360, "{mss}");
    let expected = frames::segment(API, g.m.mac, &turned(&f), 0x12, &[2, 4, ran.frame[56], ran.frame[57]]);
    assert_eq!(ran.frame, hopped(expected, g.m.mac, g.mac_of("g1")));
}

#[test]
fn what_a_gateway_translates() {
    crate::each(
        "g1",
        &[
            hosts_behind_one_address_get_ports_of_their_own,
            echoes_get_numbers_of_their_own_and_sctp_waits,
            errors_are_translated_with_what_they_quote,
            errors_about_answers_are_translated,
            errors_that_quote_wrongly_are_dropped,
            clients_outside_are_translated,
            segments_are_announced_as_they_fit,
        ],
    );
}
