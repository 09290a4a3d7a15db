//! What is decided for one pair of ends, over all services: the reference evaluator asked once in every cell of the grid
//! that the rules' and exposures' services draw, and equal neighbours merged.

use compiler::Compiled;
use compiler::algebra::Family;
use compiler::eval::{self, Decision};
use compiler::ids::{OwnerId, RuleId};
use compiler::packet::{self, Fields, Flow, Packet, proto};
use compiler::sets::ServiceBox;
use std::collections::BTreeSet;

/// Disjoint boxes that cover every protocol of the family, each with its decision.
pub type Decided = Vec<(ServiceBox, Decision)>;

/// The decisions on a pair; `None` if the two ends are one. `rules` are those of all views concerned.
#[must_use]
pub fn decide(
    c: &Compiled,
    rules: &[RuleId],
    packet: &Packet,
    src: OwnerId,
    dst: OwnerId,
) -> Option<Decided> {
    let boxes = relevant(c, rules, packet, src, dst)?;
    let mut out = Vec::new();
    for (lo, hi) in protocols(&boxes) {
        if !packet::protocol_in_family(lo, packet.family) {
            continue;
        }
        let mine: Vec<&ServiceBox> = boxes.iter().filter(|b| b.proto.0 <= lo && lo <= b.proto.1).collect();
        let grid = Grid::new(&mine, lo);
        let mut cells: Decided = Vec::new();
        for &x in &grid.x {
            let mut column: Decided = Vec::new();
            for &y in &grid.y {
                let probe = Packet { protocol: lo, x: x.0, y: y.0, ..*packet };
                let decision = eval::decide(c, &probe).ok()?;
                match column.last_mut() {
                    Some((last, same)) if *same == decision => last.y.1 = y.1,
                    _ => column.push((ServiceBox { proto: (lo, hi), x, y }, decision)),
                }
            }
            merge_column(&mut cells, column);
        }
        out.extend(cells);
    }
    Some(out)
}

/// Joins a column to the one before it if they say the same.
fn merge_column(cells: &mut Decided, column: Decided) {
    let from = cells.len().saturating_sub(column.len());
    let before = cells.get_mut(from..).unwrap_or_default();
    let left = column.first().map(|(b, _)| b.x.0);
    let same = before.len() == column.len()
        && before.iter().zip(&column).all(|((a, da), (b, db))| {
            a.proto == b.proto && a.y == b.y && da == db && Some(u32::from(a.x.1) + 1) == left.map(u32::from)
        });
    if same && before.first().is_some_and(|(first, _)| first.y.0 == 0) {
        for ((b, _), (next, _)) in before.iter_mut().zip(&column) {
            b.x.1 = next.x.1;
        }
    } else {
        cells.extend(column);
    }
}

/// The service boxes that can make a difference for this pair.
fn relevant(
    c: &Compiled,
    rules: &[RuleId],
    packet: &Packet,
    src: OwnerId,
    dst: OwnerId,
) -> Option<Vec<ServiceBox>> {
    let decision = eval::decide(c, packet).ok()?;
    let mut boxes = Vec::new();
    for (_, exposure) in c.model.exposures.iter().filter(|(_, e)| e.provider == dst) {
        if exposure.clients_of(src).is_some() {
            boxes.extend(exposure.service.boxes.iter().copied());
        }
    }
    if let (Some(from), Some(to)) = (decision.from, decision.to) {
        let flow = Flow { src: from, dst: to, family: packet.family, protocol: packet.protocol, x: 0, y: 0 };
        for rule in rules.iter().map(|id| &c.model.rules[*id]).filter(|rule| rule.pairs.contains(&flow)) {
            boxes.extend(rule.service.boxes.iter().copied());
        }
    }
    Some(boxes)
}

/// Protocol intervals on which all boxes agree; a protocol with fields stands alone.
fn protocols(boxes: &[ServiceBox]) -> Vec<(u8, u8)> {
    let mut starts: BTreeSet<u8> = BTreeSet::from([0]);
    let mut cut = |lo: u8, hi: u8| {
        starts.insert(lo);
        starts.extend(hi.checked_add(1));
    };
    for b in boxes {
        cut(b.proto.0, b.proto.1);
    }
    for protocol in (0..=u8::MAX).filter(|p| packet::fields(*p) != Fields::None) {
        cut(protocol, protocol);
    }
    let starts: Vec<u8> = starts.into_iter().collect();
    let ends = starts.iter().skip(1).map(|next| next - 1).chain([u8::MAX]);
    starts.iter().copied().zip(ends).collect()
}

/// The intervals of both fields on which all boxes agree.
struct Grid {
    x: Vec<(u16, u16)>,
    y: Vec<(u16, u16)>,
}

impl Grid {
    fn new(boxes: &[&ServiceBox], protocol: u8) -> Self {
        let (x_max, y_max) = packet::field_max(protocol);
        Self {
            x: intervals(boxes.iter().map(|b| b.x), x_max),
            y: intervals(boxes.iter().map(|b| b.y), y_max),
        }
    }
}

fn intervals(boxes: impl Iterator<Item = (u16, u16)>, max: u16) -> Vec<(u16, u16)> {
    let mut starts: BTreeSet<u16> = BTreeSet::from([0]);
    for (lo, hi) in boxes {
        starts.extend([Some(lo), hi.checked_add(1)].into_iter().flatten().filter(|s| *s <= max));
    }
    let starts: Vec<u16> = starts.into_iter().collect();
    let ends = starts.iter().skip(1).map(|next| next - 1).chain([max]);
    starts.iter().copied().zip(ends).collect()
}

/// A packet of a pair that is decided like all of its services as far as resolution goes.
#[must_use]
pub fn representative(space: OwnerId, family: Family, src: u128, dst: u128) -> Packet {
    Packet { space, family, src, dst, protocol: packet::proto::TCP, x: 0, y: 0 }
}

/// The boxes of what answers these connections, as its packets show them. ICMP: only queries have answers.
#[must_use]
pub fn mirrored(b: &ServiceBox) -> Vec<ServiceBox> {
    match packet::fields(b.proto.0) {
        Fields::Ports => vec![ServiceBox { proto: b.proto, x: b.y, y: b.x }],
        Fields::None => vec![*b],
        Fields::Icmp => {
            // Query, answer, highest code of the answer (RFC 792, 950, 4443, 4620).
            let answers: &[(u16, u16, u16)] = if b.proto.0 == proto::ICMP {
                &[(8, 0, 0), (13, 14, 0), (15, 16, 0), (17, 18, 0)]
            } else {
                &[(128, 129, 0), (139, 140, 2)]
            };
            let mine =
                answers.iter().filter(|(query, _, _)| b.x.0 <= *query && *query <= b.x.1 && b.y.0 == 0);
            mine.map(|(_, answer, code)| ServiceBox { proto: b.proto, x: (*answer, *answer), y: (0, *code) })
                .collect()
        }
    }
}
