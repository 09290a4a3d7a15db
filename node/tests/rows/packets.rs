//! Rows about packets between a tenant's own workloads.

use super::bed::{Bed, Due, LEAST, Shot, fields, long, turned};
use super::ground::frames::{self, Fields, Twist};
use super::ground::{ip, tcp, udp};
use std::collections::BTreeSet;
use std::net::IpAddr;

const WEB: [&str; 2] = ["10.1.0.5", "fd00:1::5"];
const DB: [&str; 2] = ["10.1.1.9", "fd00:2::9"];
const PROTOCOL: [u8; 2] = [1, 58];

/// Types that ask, and the types that answer them.
const QUERIES: [(usize, u16, u16); 6] =
    [(0, 8, 0), (0, 13, 14), (0, 15, 16), (0, 17, 18), (1, 128, 129), (1, 139, 140)];
/// Types that do neither, and are no errors: extended echo (RFC 8335), one that nobody uses.
const OTHERS: [(usize, u16); 4] = [(0, 42), (0, 200), (1, 160), (1, 200)];

pub fn icmp(b: &Bed) {
    let there = |family: usize, kind| fields(WEB[family], DB[family], PROTOCOL[family], kind, 0);
    let (mut asks, mut answers) = (Vec::new(), Vec::new());
    for (family, ask, answer) in QUERIES {
        let shot = b.plain("web-1", &there(family, ask), b.at("db-1"));
        let back = fields(DB[family], WEB[family], PROTOCOL[family], answer, 0);
        answers.push(b.answer("db-1", &back, shot.id, b.at("web-1")));
        asks.push(shot);
    }
    // Types that neither ask nor answer open nothing: with eBPF they are decided one by one.
    let (one_way, why) =
        if b.g.ebpf("c1") { (b.at("db-1"), "default") } else { (Due::Dropped("c1", "invalid"), "invalid") };
    for (family, kind) in OTHERS {
        let f = there(family, kind);
        asks.push(b.plain("web-1", &f, one_way));
        answers.push(b.answer("db-1", &turned(&f), b.id(), Due::Dropped("c2", why)));
    }
    // An error is one of the connection that it quotes. Of none it is nobody's, also where a rule allows every ICMP.
    for (family, error) in [11, 3].into_iter().enumerate() {
        b.allowed("web-1", &there(family, error));
        asks.push(b.plain("web-1", &udp(WEB[family], DB[family], 4000, 514), b.at("db-1")));
        let known = fields(WEB[family], DB[family], 17, 4000, 514);
        let unknown = Fields { x: 4001, ..known };
        answers.extend([
            b.error("db-1", &known, Due::Told(b.g.host("web-1"))),
            b.error("db-1", &unknown, Due::Dropped("c2", "invalid")),
            b.error("web-1", &turned(&unknown), Due::Dropped("c1", "invalid")),
        ]);
    }
    b.fire(&asks);
    b.fire(&answers);
}

pub fn undeclared(b: &Bed) {
    let nobody = [["10.1.0.77", "10.1.1.77"], ["fd00:1::77", "fd00:2::77"]];
    let shots = nobody.into_iter().enumerate().flat_map(|(family, [source, destination])| {
        [
            b.plain("web-1", &udp(WEB[family], DB[family], 4010, 514), b.at("db-1")),
            b.plain("web-1", &udp(WEB[family], destination, 4010, 514), Due::Dropped("c1", "no-route")),
            b.plain("web-1", &udp(source, DB[family], 4010, 514), Due::Dropped("c1", "spoof")),
        ]
    });
    b.fire(&shots.collect::<Vec<_>>());
}

fn invalid(b: &Bed, family: usize, twists: &[Twist]) -> Vec<Shot> {
    let f = udp(WEB[family], DB[family], 4020, 514);
    twists.iter().map(|twist| b.twisted("web-1", &f, *twist, Due::Dropped("c1", "invalid"))).collect()
}

fn passing(b: &Bed, family: usize, twists: &[Twist]) -> Vec<Shot> {
    let f = udp(WEB[family], DB[family], 4020, 514);
    twists.iter().map(|twist| b.twisted("web-1", &f, *twist, b.at("db-1"))).collect()
}

pub fn options(b: &Bed) {
    b.fire(&[passing(b, 0, &[Twist::None]), invalid(b, 0, &[Twist::Options])].concat());
}

/// Routing headers of several types, with and without segments left, first and behind options; and authentication headers.
const ROUTING: [Twist; 5] = [
    Twist::Routing(0, 1, None),
    Twist::Routing(2, 0, None),
    Twist::Routing(4, 1, Some(60)),
    Twist::Routing(253, 0, Some(0)),
    Twist::Authentication(Some(60)),
];
const SINGLE: [Twist; 2] = [Twist::Extension(0), Twist::Extension(60)];

pub fn headers(b: &Bed) {
    let whole = [Twist::None, Twist::Extension(44)];
    let alone = [Twist::Authentication(None)];
    let shots =
        [passing(b, 1, &whole), passing(b, 1, &SINGLE), invalid(b, 1, &ROUTING), invalid(b, 1, &alone)];
    b.fire(&shots.concat());
}

pub fn options_and_headers(b: &Bed) {
    options(b);
    // With an authentication header it is a packet of protocol 51, as to the policy.
    let f = udp(WEB[1], DB[1], 4020, 514);
    let alone = b.twisted("web-1", &f, Twist::Authentication(None), Due::Dropped("c1", "default"));
    let whole = [Twist::None, Twist::Extension(44)];
    let shots = [passing(b, 1, &whole), invalid(b, 1, &ROUTING), invalid(b, 1, &SINGLE), vec![alone]];
    b.fire(&shots.concat());
}

/// Fragments of one datagram, each with what is to become of it; (offset, length) in units of 8 bytes.
fn cut(b: &Bed, family: usize, parts: &[((u16, u16), Due)]) -> Vec<Shot> {
    let (f, id, (mac, router)) = (udp(WEB[family], DB[family], 4030, 514), b.id(), b.macs("web-1"));
    b.allowed("web-1", &f);
    parts
        .iter()
        .flat_map(|(cut, due)| {
            let frames = frames::fragments(mac, router, &f, id, &[*cut]);
            frames.into_iter().map(|frame| Shot { from: b.g.host("web-1"), frame, id, due: *due })
        })
        .collect()
}

/// A datagram's two halves, and what lies over both.
const FIRST: (u16, u16) = (0, 8);
const LAST: (u16, u16) = (8, 8);
const OVER: (u16, u16) = (4, 8);

/// Whole ones come out in whatever order they came in, others not at all.
pub fn reassembled(b: &Bed) {
    let mut shots = Vec::new();
    for family in [0, 1] {
        for order in [[FIRST, LAST], [LAST, FIRST]] {
            shots.extend(cut(b, family, &[(order[0], b.at("db-1")), (order[1], Due::Joined)]));
        }
        for parts in [&[FIRST][..], &[LAST], &[FIRST, OVER, LAST]] {
            let parts: Vec<_> = parts.iter().map(|part| (*part, Due::Nowhere)).collect();
            shots.extend(cut(b, family, &parts));
        }
    }
    b.fire(&shots);
}

pub fn in_order(b: &Bed) {
    let (passes, not) = (b.at("db-1"), Due::Dropped("c1", "fragment"));
    let datagrams: Vec<Vec<Shot>> = [0, 1]
        .into_iter()
        .flat_map(|family| {
            [
                cut(b, family, &[(FIRST, passes), (LAST, passes)]),
                cut(b, family, &[(LAST, not), (FIRST, passes)]),
                cut(b, family, &[(FIRST, passes), (OVER, not), (LAST, not)]),
                cut(b, family, &[(LAST, not)]),
            ]
        })
        .collect();
    // One fragment of each at a time, so that nothing else changes their order.
    for turn in 0..3 {
        b.fire(&datagrams.iter().filter_map(|all| all.get(turn).cloned()).collect::<Vec<_>>());
    }
}

pub fn too_long(b: &Bed) {
    let f = udp(WEB[0], DB[0], 4040, 514);
    let of = |bytes: usize, fragments: bool, due: Due| {
        let shot = b.plain("web-1", &f, due);
        Shot { frame: long(shot.frame, bytes, fragments), ..shot }
    };
    let told = Due::DroppedAndTold("c1", "too-big", b.g.host("web-1"));
    b.fire(&[of(LEAST, true, b.at("db-1")), of(LEAST + 1, true, told), of(LEAST + 1, false, told)]);
}

/// What the own node says about a packet that expires there is heard, unless the packet was on its way to a gateway.
pub fn steered_errors(b: &Bed) {
    let host = b.g.host("web-1");
    let shots = [0, 1].into_iter().flat_map(|family| {
        let to = |port| tcp(WEB[family], DB[family], 4050, port);
        let (plain, steered) = (to(5432), to(8443));
        [
            b.plain("web-1", &plain, b.at("db-1")),
            b.plain("web-1", &steered, b.at("db-1")),
            b.twisted("web-1", &Fields { x: 4051, ..plain }, Twist::Ttl(1), Due::Told(host)),
            // It takes the packet's way, to a gateway that does not know the packet.
            b.twisted("web-1", &Fields { x: 4051, ..steered }, Twist::Ttl(1), Due::Dropped("g1", "bad-vtep")),
        ]
    });
    b.fire(&shots.collect::<Vec<_>>());
}

pub fn solicitations(b: &Bed) {
    // A policy lets it speak to the one that is in another segment. The last one is nobody's.
    b.allowed("web-1", &udp(WEB[1], DB[1], 4060, 514));
    let answered = ["fd00:1::1", "fe80::1", "fd00:1::6"];
    let all = [&answered[..], &[DB[1], "fd00:1::77"]].concat();
    let frames: Vec<_> = all.iter().map(|target| b.g.solicitation("web-1", WEB[1], target, 255)).collect();
    let effect = b.g.volley(&frames);
    // The target that an advertisement is about (RFC 4861, 4.4).
    let about =
        effect.answers(b.g.host("web-1")).into_iter().map(|frame| octets(frame, 62)).collect::<BTreeSet<_>>();
    assert_eq!(about, answered.map(ip).into());
}

fn octets(frame: &[u8], at: usize) -> IpAddr {
    IpAddr::from(<[u8; 16]>::try_from(&frame[at..at + 16]).unwrap())
}
