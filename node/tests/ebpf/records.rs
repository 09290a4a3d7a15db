//! What is written about packets of rules that say `log`.

use crate::frames::Twist;
use crate::ground::{Ground, WEB, dropped, fields, ip, sent};
use crate::said::{RULE, SENT_TUNNEL, UNKNOWN_VNI};
use backends::ebpf::encode;
use backends::linux::{Dialect, lower};
use libbpf_rs::RingBufferBuilder;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::net::IpAddr;

/// `struct log_record`
#[derive(Debug, Clone, PartialEq, Eq)]
struct Record {
    second: u64,
    rule: u32,
    allowed: bool,
    ends: (IpAddr, IpAddr),
    ports: (u16, u16),
    protocol: u8,
}

/// Behind each other without gaps: time, rule, verdict, source, destination, ports, protocol, family, two bytes of nothing.
fn read(bytes: &[u8]) -> Record {
    assert_eq!(bytes.len(), 56);
    let word = |at: usize| u32::from_ne_bytes(bytes[at..at + 4].try_into().unwrap());
    let half = |at: usize| u16::from_ne_bytes(bytes[at..at + 2].try_into().unwrap());
    let address = |at: usize| -> IpAddr {
        let all: [u8; 16] = bytes[at..at + 16].try_into().unwrap();
        if bytes[53] == 1 { all.into() } else { [all[0], all[1], all[2], all[3]].into() }
    };
    Record {
        second: u64::from_ne_bytes(bytes[..8].try_into().unwrap()) / 1_000_000_000,
        rule: word(8),
        allowed: word(12) == 1,
        ends: (address(16), address(32)),
        ports: (half(48), half(50)),
        protocol: bytes[52],
    }
}

/// What was written since the last time.
fn written(g: &Ground) -> Vec<Record> {
    let (map, seen) = (g.m.map("records"), RefCell::new(Vec::new()));
    let mut builder = RingBufferBuilder::new();
    builder
        .add(&map, |bytes| {
            seen.borrow_mut().push(bytes.to_vec());
            0
        })
        .unwrap();
    let ring = builder.build().unwrap();
    ring.consume().unwrap();
    drop(ring);
    seen.into_inner().iter().map(|bytes| read(bytes)).collect()
}

/// The numbers that `maps.json` has for rules that log.
fn names(g: &Ground) -> BTreeMap<u32, String> {
    let model = lower(&g.p.compiled, &g.p.sources, Dialect::EBPF, g.node, &[]).unwrap();
    encode(&g.p.compiled, g.node, &model).logs
}

#[test]
fn one_record_for_a_connection_and_one_for_each_refusal() {
    let Some(g) = crate::ground("c1") else { return };
    let names = names(&g);
    for (a, b) in [("10.1.0.5", "10.1.1.9"), ("fd00:1::5", "fd00:2::9")] {
        let noted = fields(a, b, 17, 4000, 514);
        for _ in 0..3 {
            sent(&g.workload("tap-web", WEB, &noted, Twist::None), SENT_TUNNEL);
        }
        let refused = fields(a, b, 17, 4001, 515);
        for _ in 0..2 {
            dropped(&g.workload("tap-web", WEB, &refused, Twist::None), RULE);
        }
        let quiet = fields(a, b, 17, 4002, 53);
        sent(&g.workload("tap-web", WEB, &quiet, Twist::None), SENT_TUNNEL);
        let records = written(&g);
        assert_eq!(records.len(), 3, "{records:?}");
        for (n, r) in records.iter().enumerate() {
            let (name, ports) =
                if n == 0 { ("way.noted", (4000, 514)) } else { ("way.refused", (4001, 515)) };
            assert!(names[&r.rule].contains(name), "{r:?}: {:?}", names[&r.rule]);
            assert_eq!((r.allowed, r.ports, r.protocol), (n == 0, ports, 17));
            assert_eq!(r.ends, (ip(a), ip(b)));
        }
        g.m.forget();
    }
}

#[test]
fn ten_a_second_of_each_rule_and_no_more() {
    let Some(g) = crate::ground("c1") else { return };
    for x in 0..25 {
        dropped(&g.workload("tap-web", WEB, &fields("10.1.0.5", "10.1.1.9", 17, x, 515), Twist::None), RULE);
    }
    // Another rule's share is its own.
    sent(&g.workload("tap-web", WEB, &fields("10.1.0.5", "10.1.1.9", 17, 1, 514), Twist::None), SENT_TUNNEL);
    let records = written(&g);
    let mut seconds: BTreeMap<u64, u32> = BTreeMap::new();
    for r in records.iter().filter(|r| !r.allowed) {
        *seconds.entry(r.second).or_default() += 1;
    }
    assert!(
        seconds.len() <= 2 && seconds.values().all(|n| *n <= 10) && seconds.values().any(|n| *n == 10),
        "{seconds:?}"
    );
    assert_eq!(records.iter().filter(|r| r.allowed).count(), 1);
}

/// As the fabric's `unknown-vni drop log` says.
#[test]
fn a_vni_that_nobody_has_is_written_down() {
    let Some(g) = crate::ground("c1") else { return };
    let f = fields("10.1.0.5", "10.1.1.9", 17, 1, 53);
    dropped(&g.fabric("c2", 4242, &f, Twist::None), UNKNOWN_VNI);
    let records = written(&g);
    let [r] = &records[..] else { panic!("{records:?}") };
    let IpAddr::V4(word) = r.ends.0 else { panic!("{r:?}") };
    assert_eq!((r.rule, r.allowed, u32::from_ne_bytes(word.octets())), (0, false, 4242));
}
