//! What the reference evaluator expects of packets that a switch is given.

use super::frame::{ACK, RST, SYN};
use compiler::Compiled;
use compiler::algebra::Family;
use compiler::buckets::Direction;
use compiler::eval::{self, Decision, Resolution};
use compiler::ids::ExposureId;
use compiler::packet::{self, Fields, Flow, Packet};
use std::collections::{BTreeMap, BTreeSet};

/// Services at and around every boundary that the project draws, as (protocol, x, y); and as answers would show them.
pub fn services(c: &Compiled, family: Family) -> Vec<(u8, u16, u16)> {
    let mut protocols: BTreeMap<u8, BTreeSet<u16>> = BTreeMap::new();
    for p in [1, 6, 17, 47, 50, 58, 132, 255] {
        protocols.entry(p).or_default();
    }
    let rules = c.model.rules.values().map(|r| &r.service);
    let exposures = c.model.exposures.values().map(|e| &e.service);
    for b in rules.chain(exposures).flat_map(|s| s.boxes.iter()) {
        for (p, values) in &mut protocols {
            if b.proto.0 <= *p && *p <= b.proto.1 {
                for (lo, hi) in [b.x, b.y] {
                    values.extend([Some(lo), hi.checked_add(1)].into_iter().flatten());
                }
            }
        }
    }
    let mut out = Vec::new();
    for (p, mut values) in protocols {
        if !packet::protocol_in_family(p, family) {
            continue;
        }
        let (x_max, y_max) = packet::field_max(p);
        values.extend([0, x_max]);
        match packet::fields(p) {
            Fields::None => out.push((p, 0, 0)),
            Fields::Icmp => {
                for x in [0, 3, 8, 9, 13, 14, 128, 129, 1, 255] {
                    out.extend([0, 1, 4, y_max].map(|y| (p, x, y)));
                }
            }
            Fields::Ports => {
                // Each boundary against an ephemeral port, both ways round, and against the next one.
                let list: Vec<u16> = values.iter().copied().collect();
                for (at, v) in list.iter().enumerate() {
                    out.extend([(p, 40_000, *v), (p, *v, 40_000), (p, *v, list[(at + 1) % list.len()])]);
                }
            }
        }
    }
    out
}

/// What is expected of a packet of a tenant, from the evaluator alone.
#[derive(Debug, Clone)]
pub struct Expected {
    /// The connection that it opens or answers, if it may.
    pub flow: Option<(Flow, Decision, Direction, Option<ExposureId>)>,
    /// Why not.
    pub denied: Option<Decision>,
}

fn connection(c: &Compiled, p: &Packet) -> Option<(Flow, Decision, Option<ExposureId>)> {
    let Ok(Resolution::Flow { flow, way }) = eval::resolve(c, p) else { return None };
    let decision = eval::decide(c, p).ok()?;
    decision.allow.then_some((flow, decision, way.exposure))
}

pub fn expected(c: &Compiled, p: &Packet, flags: u8) -> Expected {
    if let Some((flow, decision, exposure)) = connection(c, p) {
        return Expected { flow: Some((flow, decision, Direction::Request, exposure)), denied: None };
    }
    let denied = eval::decide(c, p).ok();
    let answer = p.protocol != 6 || flags & ACK != 0 || (flags & RST != 0 && flags & SYN == 0);
    let asked = |x: u16, y: u16| Packet { src: p.dst, dst: p.src, x, y, ..*p };
    let original = match packet::fields(p.protocol) {
        _ if !answer => None,
        Fields::Ports => Some(asked(p.y, p.x)),
        Fields::None => Some(asked(0, 0)),
        Fields::Icmp => {
            let query = match (p.protocol, p.x, p.y) {
                (1, 0, 0) => Some(8),
                (1, 14 | 16 | 18, 0) => Some(p.x - 1),
                (58, 129, 0) => Some(128),
                (58, 140, 0..=2) => Some(139),
                _ => None,
            };
            query.map(|x| asked(x, 0))
        }
    };
    let found = original.and_then(|o| connection(c, &o));
    let flow = found.map(|(flow, decision, exposure)| (flow, decision, Direction::Reply, exposure));
    Expected { flow, denied }
}
