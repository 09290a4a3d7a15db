//! Rows about packets through gateways, and about how many connections there may be.

use super::bed::{Bed, Due, LEAST, Shot, fields, long, turned};
use super::connections;
use super::ground::frames::{self, Fields};
use super::ground::udp;
use super::ground::wire::Place;
use backends::linux::numbers::CONNECTIONS;

const OUT: &str = "203.0.113.9";
/// What the external sees of `shop`.
const MASK: &str = "198.51.100.1";

/// Hosts behind one address: with ports all at once, without them one at a time for each destination.
pub fn masquerade(b: &Bed) {
    let out = Due::At(b.outside());
    // nft drops it where it finds no other tuple.
    let waits = if b.g.ebpf("g1") { Due::Dropped("g1", "ct-full") } else { Due::Nowhere };
    let sctp = if b.g.ebpf("g1") { waits } else { out };
    let hosts = [("web-1", "10.1.0.5"), ("web-2", "10.1.0.6")];
    let of = |host: usize, protocol: u8, x: u16, to: &str, due: Due| {
        let (name, address) = hosts[host];
        let y =
            [(17, 53), (6, 443), (132, 7)].into_iter().find(|(p, _)| *p == protocol).map_or(0, |(_, y)| y);
        b.plain(name, &fields(address, to, protocol, x, y), due)
    };
    let each = |host: usize, dues: [Due; 4]| {
        let kinds = [(17, 5000), (6, 5000), (50, 0), (132, 5000)];
        let shots = kinds.into_iter().zip(dues).map(|((protocol, x), due)| of(host, protocol, x, OUT, due));
        b.fire(&shots.collect::<Vec<_>>());
    };
    each(0, [out; 4]);
    each(1, [out, out, waits, sctp]);
    // The first one goes on; the second one may speak to somebody else, and from a port of its own.
    b.fire(&[
        of(0, 50, 0, OUT, out),
        of(0, 132, 5000, OUT, out),
        of(1, 50, 0, "203.0.113.8", out),
        of(1, 132, 5000, "203.0.113.8", out),
        of(1, 132, 5001, OUT, out),
    ]);
}

/// One connection's tuple would be two connections' of the provider: with eBPF the second one waits, whoever is first.
pub fn shown_twice(b: &Bed) {
    let [first, second] = ["100.64.7.9", "100.64.17.9"].map(|to| udp("10.1.0.5", to, 5005, 53));
    let at = b.at("api-1");
    b.fire(&[b.plain("web-1", &first, at)]);
    b.fire(&[b.plain("web-1", &second, Due::Dropped("g1", "ct-full"))]);
    b.fire(&[b.plain("web-1", &first, at), b.plain("web-1", &Fields { x: 5006, ..second }, at)]);
    b.fire(&[b.plain("web-1", &Fields { x: 5006, ..first }, Due::Dropped("g1", "ct-full"))]);
}

/// What an error of a provider comes to behind a gateway with state, and behind one without.
pub fn errors_through_a_stateless_gateway(b: &Bed) {
    let (mut asked, mut answers) = (Vec::new(), Vec::new());
    for (host, shown, caller, own, due) in [
        ("api-1", "100.64.7.9", "100.65.0.5", "10.2.0.9", Due::Told(b.g.host("web-1"))),
        ("vault-1", "100.64.8.5", "100.66.0.5", "10.3.0.5", Due::Dropped("g2", "invalid")),
    ] {
        asked.push(b.plain("web-1", &udp("10.1.0.5", shown, 5010, 53), b.at(host)));
        let seen = udp(caller, own, 5010, 53);
        answers.push(b.answer(host, &turned(&seen), b.id(), b.at("web-1")));
        answers.push(b.error(host, &seen, due));
    }
    b.fire(&asked);
    b.fire(&answers);
}

/// A packet of a workload over IPv4, made longer.
fn longer(b: &Bed, host: &str, f: &Fields, bytes: usize, due: Due) -> Shot {
    let shot = b.plain(host, f, due);
    Shot { frame: long(shot.frame, bytes, false), ..shot }
}

/// What does not fit behind a stateless gateway: of a packet that it would have translated nothing is said.
pub fn path_mtu_of_a_stateless_gateway(b: &Bed) {
    let (shown, plain) = (udp("10.1.0.5", "100.64.8.5", 5020, 53), udp("10.1.0.5", "10.4.0.5", 5020, 53));
    b.fire(&[
        longer(b, "web-1", &shown, LEAST, b.at("vault-1")),
        longer(b, "web-1", &plain, LEAST, b.at("safe-1")),
        longer(b, "web-1", &plain, LEAST + 1, Due::Told(b.g.host("web-1"))),
        longer(b, "web-1", &shown, LEAST + 1, Due::Nowhere),
    ]);
    // A segment that announces more than fits.
    let (mac, router) = b.macs("web-1");
    let syn = Fields { protocol: 6, y: 443, ..shown };
    b.allowed("web-1", &syn);
    let frame = frames::segment(mac, router, &syn, 0x02, &[2, 4, 0x22, 0xce]);
    let effect = b.g.volley(&[(b.g.host("web-1"), frame)]);
    let vault = b.g.host("vault-1");
    let came: Vec<_> = effect.arrivals.strays.iter().filter(|(place, _)| *place == vault).collect();
    let [(_, syn)] = came[..] else { panic!("{came:x?}") };
    let clamped = u16::try_from(LEAST - 40).unwrap().to_be_bytes();
    assert_eq!(syn[54..58], [2, 4, clamped[0], clamped[1]]);
}

/// What does not fit on the way to a workload: of a packet to an address that is one workload's the external is told.
pub fn path_mtu_behind_a_masquerade(b: &Bed) {
    let asked = udp("10.1.1.9", OUT, 5030, 53);
    b.fire(&[b.plain("db-1", &asked, Due::At(b.outside()))]);
    let of = |f: &Fields, bytes: usize, due: Due| {
        let shot = b.incoming(f, due);
        Shot { frame: long(shot.frame, bytes, false), ..shot }
    };
    let answer = udp(OUT, MASK, 53, 5030);
    let shown = udp(OUT, "198.51.101.9", 5030, 53);
    b.fire(&[
        of(&answer, LEAST, b.at("db-1")),
        of(&answer, LEAST + 1, Due::Nowhere),
        of(&shown, LEAST, b.at("api-1")),
        of(&shown, LEAST + 1, Due::Told(b.outside())),
    ]);
}

/// A router on the way to an external is heard if its address is the external's.
pub fn errors_from_outside(b: &Bed) {
    b.fire(&[b.plain("web-1", &udp("10.1.0.5", OUT, 5040, 53), Due::At(b.outside()))]);
    let seen = udp(MASK, OUT, 5040, 53);
    b.fire(&[
        b.error_from_outside(&seen, "203.0.113.1", Due::Told(b.g.host("web-1"))),
        b.error_from_outside(&seen, "192.0.0.8", Due::Dropped("c1", "bad-vtep")),
    ]);
}

/// More connections than there may be, from a stateless gateway to a node.
const FLOOD: u32 = CONNECTIONS + 6_000;
/// Numbers of their packets.
const NUMBERS: u32 = 1_000_000;

/// What passes the gateway is more than what may be open behind it.
pub fn bounds(b: &Bed) {
    let before = b.g.connections("g2");
    let frames: Vec<_> = connections(FLOOD)
        .map(|(n, x, y)| {
            b.g.tunnelled("c1", "g2", 10_010, 0x08, &udp("10.1.0.5", "100.64.8.5", x, y), NUMBERS + n)
        })
        .collect();
    let effect = b.g.volley(&frames);
    let came = |at: &dyn Fn(&Place) -> bool| {
        let packets = effect.arrivals.packets.values();
        u32::try_from(packets.filter(|all| all.iter().any(|(place, ..)| at(place))).count()).unwrap()
    };
    assert_eq!(came(&|at| matches!(at, Place::Underlay(_))), FLOOD, "{:?}", effect.drops);
    assert_eq!(effect.counted("g2", "ct-full"), 0);
    assert!(b.g.connections("g2") <= before + 100, "{} connections", b.g.connections("g2"));
    let vault = b.g.host("vault-1");
    let arrived = came(&|at| *at == vault);
    assert_eq!(u64::from(arrived) + effect.counted("c2", "ct-full"), u64::from(FLOOD), "{:?}", effect.drops);
    // With nft its parts fill unevenly; with eBPF the other rows' connections are all that is missing.
    let least = if b.g.ebpf("c2") { CONNECTIONS - 200 } else { CONNECTIONS / 10 * 9 };
    assert!(arrived <= CONNECTIONS && arrived >= least, "{arrived} connections");
    // Nor has the tenant room for connections that it opens on that node; another tenant has.
    let many = |host: &str, from: &str, to: &str, due: Due| -> Vec<Shot> {
        (0..20).map(|n| b.plain(host, &udp(from, to, 6000 + n, 9), due)).collect()
    };
    b.fire(&many("vault-1", "10.3.0.5", "10.3.0.6", b.at("vault-2")));
    let full = many("db-1", "10.1.1.9", "10.1.1.10", Due::Dropped("c2", "ct-full"));
    if b.g.ebpf("c2") {
        b.fire(&full);
    } else {
        let frames: Vec<_> = full.iter().map(|s| (s.from, s.frame.clone())).collect();
        assert!(b.g.volley(&frames).counted("c2", "ct-full") > 10);
    }
}
