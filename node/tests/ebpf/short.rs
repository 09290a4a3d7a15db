//! The short way: what a connection remembers is what would be decided anew, and holds no longer than that.

use crate::ANY_MAC;
use crate::frames::{Fields, Twist, mend4};
use crate::ground::{API, APP, DATA, FRONT, Ground, SVC, TWIN, WEB, dropped, fields, hopped, sent, turned};
use crate::said::{
    ANSWERED, BAD_VTEP, DEFAULT, INVALID, SENT_DEVICE, SENT_NEXT_HOP, SENT_TUNNEL, SHOT, SPOOF, TO_HOST,
};
use partywall_node::ebpf::Ran;

const SYN: Twist = Twist::Flags(0x02);
const SYN_ACK: Twist = Twist::Flags(0x12);
const ACK: Twist = Twist::Flags(0x10);

/// The packet that was run last comes to the same twice more, and its connection remembers it.
#[track_caller]
fn again(g: &Ground, ran: &Ran) {
    for later in g.m.again(ran).unwrap() {
        assert_eq!(later, *ran);
    }
}

/// Ends at one node, in both families: what goes there, what comes back, and how each leaves.
struct Path {
    g: Ground,
    there: [Fields; 2],
    go: fn(&Ground, &Fields, Twist) -> Ran,
    back: fn(&Ground, &Fields, Twist) -> Ran,
    outcomes: (u32, u32),
    /// The other side's view.
    shown: [Fields; 2],
}

impl Path {
    /// Opens a connection there, and lets it remember.
    fn warm(&self, f: &Fields, b: &Fields) {
        sent(&(self.go)(&self.g, f, SYN), self.outcomes.0);
        sent(&(self.back)(&self.g, b, SYN_ACK), self.outcomes.1);
        for _ in 0..2 {
            sent(&(self.go)(&self.g, f, ACK), self.outcomes.0);
            sent(&(self.back)(&self.g, b, ACK), self.outcomes.1);
        }
    }
}

fn pair(a: [&str; 2], b: [&str; 2]) -> [Fields; 2] {
    [fields(a[0], b[0], 6, 40_000, 443), fields(a[1], b[1], 6, 40_000, 443)]
}

fn paths() -> Vec<Path> {
    let plain = pair(["10.1.0.5", "fd00:1::5"], ["10.1.1.9", "fd00:2::9"]);
    let seen = pair(["10.1.0.5", "fd00:1::5"], ["100.64.7.9", "fd64::9"]);
    let shown = pair(["100.65.0.5", "fd65::5"], ["10.2.0.9", "fd00:3::9"]);
    let out = pair(["10.1.0.5", "fd00:1::5"], ["203.0.113.9", "2001:db8:2::9"]);
    let masked = pair(["198.51.100.1", "2001:db8:4::1"], ["203.0.113.9", "2001:db8:2::9"]);
    vec![
        Path {
            g: Ground::new("c1"),
            there: plain,
            go: |g, f, t| g.workload("tap-web", WEB, f, t),
            back: |g, f, t| g.fabric("c2", FRONT, f, t),
            outcomes: (SENT_TUNNEL, SENT_DEVICE),
            shown: plain,
        },
        Path {
            g: Ground::of("c1", true, 64),
            there: plain,
            go: |g, f, t| g.workload("tap-web", WEB, f, t),
            back: |g, f, t| g.fabric("c2", FRONT, f, t),
            outcomes: (SENT_TUNNEL, SENT_DEVICE),
            shown: plain,
        },
        Path {
            g: Ground::new("c2"),
            there: shown,
            go: |g, f, t| g.fabric("g1", SVC, f, t),
            back: |g, f, t| g.workload("tap-api", API, f, t),
            outcomes: (SENT_DEVICE, SENT_TUNNEL),
            shown,
        },
        Path {
            g: Ground::new("g1"),
            there: seen,
            go: |g, f, t| g.fabric("c1", FRONT, f, t),
            back: |g, f, t| g.fabric("c2", SVC, f, t),
            outcomes: (SENT_TUNNEL, SENT_TUNNEL),
            shown,
        },
        Path {
            g: Ground::of("g1", true, 64),
            there: out,
            go: |g, f, t| g.fabric("c1", FRONT, f, t),
            back: |g, f, t| g.outside(f, t),
            outcomes: (SENT_NEXT_HOP, SENT_TUNNEL),
            shown: masked,
        },
    ]
}

#[test]
fn segments_of_a_connection_are_decided_as_its_first_one() {
    if !crate::able() {
        return;
    }
    for Path { g, there, go, back, outcomes, shown } in paths() {
        for (f, is) in there.iter().zip(&shown) {
            let b = turned(is);
            sent(&go(&g, f, SYN), outcomes.0);
            sent(&back(&g, &b, SYN_ACK), outcomes.1);
            for flags in [0x10, 0x18, 0x50, 0xd8] {
                let ran = go(&g, f, Twist::Flags(flags));
                sent(&ran, outcomes.0);
                again(&g, &ran);
                let expected = hopped(g.frame(ANY_MAC, is, 7, Twist::Flags(flags)), [0; 6], [0; 6]);
                assert_eq!(ran.frame[12..], expected[12..]);
                let ran = back(&g, &b, Twist::Flags(flags));
                sent(&ran, outcomes.1);
                again(&g, &ran);
                let expected = hopped(g.frame(ANY_MAC, &turned(f), 7, Twist::Flags(flags)), [0; 6], [0; 6]);
                assert_eq!(ran.frame[12..], expected[12..]);
            }
            g.m.forget();
        }
    }
}

/// What the headers and the way of a packet say beside its addresses and ports is asked of every packet.
#[test]
fn a_known_connection_excuses_nothing() {
    if !crate::able() {
        return;
    }
    for path in paths() {
        let Path { g, there, go, back, outcomes, shown } = &path;
        for (f, is) in there.iter().zip(shown) {
            let b = turned(is);
            path.warm(f, &b);
            for flags in [0x00, 0x01, 0x03, 0x06, 0x29, 0x3f] {
                dropped(&go(g, f, Twist::Flags(flags)), INVALID);
                dropped(&back(g, &b, Twist::Flags(flags)), INVALID);
            }
            for hops in [0, 1] {
                assert_eq!(go(g, f, Twist::Ttl(hops)).cb[0], ANSWERED);
                assert_eq!(back(g, &b, Twist::Ttl(hops)).cb[0], ANSWERED);
            }
            for twist in [Twist::Truncated, Twist::ShortTransport, Twist::Options] {
                if twist == Twist::Options && !f.src.is_ipv4() {
                    continue;
                }
                dropped(&go(g, f, twist), INVALID);
                dropped(&back(g, &b, twist), INVALID);
            }
            if !f.src.is_ipv4() {
                for next in [0, 43, 60] {
                    dropped(&go(g, f, Twist::Extension(next)), INVALID);
                }
            }
            sent(&go(g, f, ACK), outcomes.0);
            g.m.forget();
        }
    }
}

#[test]
fn who_sends_is_asked_of_every_packet() {
    let Some(g) = crate::ground("c1") else { return };
    for f in pair(["10.1.0.5", "fd00:1::5"], ["10.1.1.9", "fd00:2::9"]) {
        let go = |device: &str, mac: [u8; 6]| g.workload(device, mac, &f, ACK);
        let back = |from: &str, vni: u32| g.fabric(from, vni, &turned(&f), ACK);
        sent(&g.workload("tap-web", WEB, &f, SYN), SENT_TUNNEL);
        sent(&g.fabric("c2", FRONT, &turned(&f), SYN_ACK), SENT_DEVICE);
        for _ in 0..3 {
            sent(&go("tap-web", WEB), SENT_TUNNEL);
            sent(&back("c2", FRONT), SENT_DEVICE);
        }
        dropped(&go("tap-web", APP), SPOOF);
        dropped(&go("tap-app", APP), SPOOF);
        dropped(&go("tap-app", WEB), SPOOF);
        dropped(&back("g1", FRONT), BAD_VTEP);
        assert_eq!(back("c2", DATA).action, SHOT);
        assert_eq!(back("c2", SVC).action, SHOT);
        // Another router's frame, on both sides.
        let mut strange = g.frame(WEB, &f, 7, ACK);
        strange[0] ^= 2;
        assert_eq!(g.m.workload("tap-web", &strange).action, SHOT);
        let mut strange = g.frame(ANY_MAC, &turned(&f), 7, ACK);
        strange[0] ^= 2;
        assert_eq!(g.m.fabric(g.vtep("c2"), FRONT, &strange).action, SHOT);
        // A tenant with the same addresses and ports has a connection of its own, or none.
        dropped(&g.fabric("c2", 10_030, &turned(&f), ACK), DEFAULT);
        sent(&g.workload("tap-twin", TWIN, &f, ACK), SENT_TUNNEL);
        sent(&g.fabric("c2", 10_030, &turned(&f), ACK), SENT_DEVICE);
        assert_eq!(g.count("connections"), 2);
        g.m.forget();
    }
}

/// A routers' drop (RFC 1812, 5.2.2), which on nft nodes the kernel makes: of the first packet and of those of a known connection.
#[test]
fn a_wrong_header_checksum_is_dropped() {
    if !crate::able() {
        return;
    }
    for path in paths() {
        let Path { g, there, outcomes, shown, .. } = &path;
        let (f, b) = (there[0], turned(&shown[0]));
        let wrong = |f: &Fields, bit: u8, twist| {
            let mut frame = g.frame(if f.src == there[0].src { WEB } else { API }, f, 7, twist);
            frame[24] ^= bit;
            frame
        };
        let tell = |frame: &[u8]| match (g.p.compiled.model.nodes[g.node].name.as_str(), outcomes.0) {
            ("c1", _) => g.m.workload("tap-web", frame),
            ("c2", _) => g.m.fabric(g.vtep("g1"), SVC, frame),
            _ => g.m.fabric(g.vtep("c1"), FRONT, frame),
        };
        for bit in [0x01, 0x80] {
            dropped(&tell(&wrong(&f, bit, SYN)), INVALID);
        }
        assert_eq!(g.count("connections"), 0);
        path.warm(&f, &b);
        for bit in [0x01, 0x80] {
            dropped(&tell(&wrong(&f, bit, ACK)), INVALID);
        }
        // A bit of the header that nobody looks at changes the sum.
        let mut other = wrong(&f, 0, ACK);
        other[15] ^= 4;
        dropped(&tell(&other), INVALID);
        mend4(&mut other[14..34]);
        sent(&tell(&other), outcomes.0);
    }
}

/// The node's own addresses are no destination, whatever a connection says; a generation that refuses ends what was remembered.
#[test]
fn what_is_remembered_ends_with_its_generation() {
    let Some(mut g) = crate::ground("c1") else { return };
    for f in pair(["10.1.0.5", "fd00:1::5"], ["10.1.1.9", "fd00:2::9"]) {
        sent(&g.workload("tap-web", WEB, &f, SYN), SENT_TUNNEL);
        sent(&g.fabric("c2", FRONT, &turned(&f), SYN_ACK), SENT_DEVICE);
        for _ in 0..3 {
            sent(&g.workload("tap-web", WEB, &f, ACK), SENT_TUNNEL);
        }
        let refused = g.otherwise("open: allow", "open: deny");
        g.m.switch(&refused, g.node);
        for _ in 0..2 {
            dropped(&g.workload("tap-web", WEB, &f, ACK), crate::said::RULE);
            dropped(&g.fabric("c2", FRONT, &turned(&f), ACK), crate::said::RULE);
        }
        // Allowed again, it goes on.
        g.m.switch(&g.p, g.node);
        for _ in 0..3 {
            sent(&g.workload("tap-web", WEB, &f, ACK), SENT_TUNNEL);
            sent(&g.fabric("c2", FRONT, &turned(&f), ACK), SENT_DEVICE);
        }
        g.m.forget();
    }
    let host = fields("10.1.0.5", "192.0.2.11", 6, 40_000, 443);
    dropped(&g.workload("tap-web", WEB, &host, SYN), TO_HOST);
}

/// An underlay of IPv6 tells senders apart as one of IPv4 does.
#[test]
fn senders_in_an_ipv6_underlay() {
    if !crate::able() {
        return;
    }
    let g = Ground::of("c2", true, 64);
    for f in pair(["10.1.0.5", "fd00:1::5"], ["10.1.1.9", "fd00:2::9"]) {
        let arrive = |from: std::net::IpAddr| g.m.fabric(from, DATA, &g.frame(ANY_MAC, &f, 7, SYN));
        dropped(&arrive(g.vtep("g1")), BAD_VTEP);
        dropped(&arrive(g.vtep("c2")), BAD_VTEP);
        // One that differs in its last bit only, and one in its first.
        for other in ["2001:db8:aa::10", "2001:db8:aa::13", "a001:db8:aa::11", "::"] {
            dropped(&arrive(other.parse().unwrap()), BAD_VTEP);
        }
        sent(&arrive(g.vtep("c1")), SENT_DEVICE);
        let back = g.workload("tap-db", [2, 0, 0x0a, 1, 1, 9], &turned(&f), SYN_ACK);
        sent(&back, SENT_TUNNEL);
        assert_eq!((back.cb[2], &back.frame[..6]), (FRONT, &g.mac_of("c1")[..]));
        g.m.forget();
    }
}
