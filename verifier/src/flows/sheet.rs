//! Both views on a channel in one family, as ordered lists of boxes in the fields' own values.

use crate::cover::axes::Cells;
use crate::cover::cuboid::Cuboid;
use crate::cover::extent::Extent;
use crate::cover::index::{Index, Item};
use crate::flows::TooWide;
use crate::replay;
use compiler::Compiled;
use compiler::algebra::{Family, RangeSet};
use compiler::compiled::{Channel, ChannelKind};
use compiler::eval::{self, Decider, Verdict, ViewDecision};
use compiler::ids::{ChannelId, ExposureId, OwnerId, RuleId};
use compiler::model::Rule;
use compiler::sets::PairSet;
use std::borrow::Cow;
use std::ops::Range;

/// Boxes of one rule on one channel, at most.
const RULE_BOXES: usize = 1 << 14;
/// Boxes of a view on one channel, at most.
const SHEET_BOXES: usize = 1 << 21;

/// The views that decide on a channel.
#[derive(Debug)]
pub struct Sheets {
    pub egress: Option<Sheet>,
    pub ingress: Option<Sheet>,
}

impl Sheets {
    /// # Errors
    /// There are too many boxes.
    pub fn new(c: &Compiled, id: ChannelId, family: Family) -> Result<Self, TooWide> {
        let channel = &c.channels[id];
        let tenant = |owner: OwnerId| c.model.owners[owner].is_tenant();
        let sheet = |owner| Sheet::new(c, owner, id, family);
        let egress = tenant(channel.src).then(|| sheet(channel.src)).transpose()?;
        let inward = channel.kind != ChannelKind::Intra && tenant(channel.dst);
        let ingress = inward.then(|| sheet(channel.dst)).transpose()?;
        Ok(Self { egress, ingress })
    }
}

/// A rule that matches something on the channel.
#[derive(Debug)]
struct Entry {
    rule: RuleId,
    verdict: Verdict,
    rank: u32,
}

/// A policy.
#[derive(Debug)]
struct Lot {
    entries: Range<u32>,
    /// The policies of its tier that override it, by position in [`Sheet::lots`].
    over: Vec<usize>,
}

/// One tenant's view on one channel in one family.
#[derive(Debug)]
pub struct Sheet {
    entries: Vec<Entry>,
    /// By entry ascending, so by tier and policy.
    boxes: Vec<(Extent, u32)>,
    lots: Vec<Lot>,
    /// By tier: its policies, by position in `lots`, each after those that override it.
    levels: Vec<Vec<usize>>,
    /// The tier after which an exposure stands, if one is lowest delegated.
    stands_after: Option<usize>,
    stand_in: Option<ExposureId>,
    src: Cells,
    dst: Cells,
    index: Index,
}

/// How a view takes a box.
#[derive(Debug, Clone, Copy)]
pub enum Settled {
    /// Every flow of it alike.
    Alike(ViewDecision),
    /// This box, which it meets, tells some of its flows from the others.
    Cut(Extent),
}

/// The ranges of a set as they bear on flows of a channel, whose addresses are `all`: those that meet it; all of them in one if
/// the set has all of `all`.
fn bearing<'r>(set: &'r RangeSet, all: &RangeSet, family: Family) -> Cow<'r, [(u128, u128)]> {
    if all.is_subset(set) {
        return Cow::Owned(vec![(0, family.max())]);
    }
    let ranges = set.ranges();
    let meets = |range: &&(u128, u128)| all.overlaps(&RangeSet::range(range.0, range.1));
    if ranges.iter().all(|range| meets(&range)) {
        return Cow::Borrowed(ranges);
    }
    Cow::Owned(ranges.iter().filter(meets).copied().collect())
}

/// Boxes that hold exactly those of the channel's flows that the rule matches, and maybe flows that are not the channel's.
fn extents(rule: &Rule, channel: &Channel, family: Family) -> Result<Vec<Extent>, TooWide> {
    let (src_all, dst_all) = (channel.src_set.family(family), channel.dst_set.family(family));
    let every = [(0, family.max())];
    let (src, dst) = match &rule.pairs {
        PairSet::SameTenant if channel.src != channel.dst => return Ok(Vec::new()),
        PairSet::SameTenant => (Cow::Borrowed(&every[..]), Cow::Borrowed(&every[..])),
        PairSet::Sets(s, d) => {
            let (s, d) = (s.of(channel.src).family(family), d.of(channel.dst).family(family));
            if !s.overlaps(src_all) || !d.overlaps(dst_all) {
                return Ok(Vec::new());
            }
            (bearing(s, src_all, family), bearing(d, dst_all, family))
        }
    };
    let service = &rule.service.boxes;
    let count = src.len().checked_mul(dst.len()).and_then(|pairs| pairs.checked_mul(service.len()));
    let mut out = match count {
        Some(count) if count <= RULE_BOXES => Vec::with_capacity(count),
        _ => return Err(TooWide),
    };
    // Flows that the channel does not carry, ICMPv6 in IPv4 among them, would only cost cuts.
    let carried = |extent: &Extent| {
        let mut on = channel.service.boxes.iter().filter_map(|b| b.intersect(&extent.service()));
        on.any(|b| compiler::packet::possible_protocol(&b, family).is_some())
    };
    for service in service {
        let whole = Extent::all(family).with_service(service);
        if !carried(&whole) {
            continue;
        }
        for src in src.iter() {
            out.extend(dst.iter().map(|dst| Extent { src: *src, dst: *dst, ..whole }));
        }
    }
    Ok(out)
}

#[expect(clippy::cast_possible_truncation, reason = "a view holds far fewer than 2^32 boxes")]
fn number(at: usize) -> u32 {
    at as u32
}

impl Sheet {
    fn new(c: &Compiled, tenant: OwnerId, id: ChannelId, family: Family) -> Result<Self, TooWide> {
        let channel = &c.channels[id];
        let way = replay::way_of(c, id, tenant);
        let (mut entries, mut boxes, mut lots) = (Vec::new(), Vec::new(), Vec::new());
        let mut levels = Vec::new();
        for policies in &c.views[tenant] {
            let mut policies_here = Vec::new();
            let first_lot = lots.len();
            for policy in policies {
                let first = number(entries.len());
                for id in &c.model.policies[*policy].rules {
                    let rule = &c.model.rules[*id];
                    let of = extents(rule, channel, family)?;
                    if of.is_empty() {
                        continue;
                    }
                    let entry = number(entries.len());
                    boxes.extend(of.into_iter().map(|extent| (extent, entry)));
                    let verdict = eval::verdict_on(rule.action, way);
                    entries.push(Entry { rule: *id, verdict, rank: rule.rank });
                }
                if boxes.len() > SHEET_BOXES {
                    return Err(TooWide);
                }
                // A policy without a match gives no verdict and overrides nothing.
                if number(entries.len()) > first {
                    lots.push(Lot { entries: first..number(entries.len()), over: Vec::new() });
                    policies_here.push(*policy);
                }
            }
            for (at, lot) in lots.iter_mut().skip(first_lot).enumerate() {
                let Some(own) = policies_here.get(at) else { continue };
                let over = |p| c.model.policies[p].overrides.binary_search(own).is_ok();
                let by = policies_here.iter().enumerate().filter(|(_, p)| over(**p));
                lot.over = by.map(|(other, _)| first_lot + other).collect();
            }
            // Overriding is transitive: what overrides a policy is overridden by fewer than it.
            let mut order: Vec<usize> = (first_lot..lots.len()).collect();
            order.sort_by_key(|at| lots.get(*at).map_or(0, |lot: &Lot| lot.over.len()));
            levels.push(order);
        }
        let src = Cells::new(boxes.iter().map(|(e, _): &(Extent, u32)| e.src), family.max());
        let dst = Cells::new(boxes.iter().map(|(e, _)| e.dst), family.max());
        let items = boxes.iter().enumerate();
        let items = items.map(|(at, (e, _))| Item { cuboid: cuboid(&src, &dst, e), entry: number(at) });
        let index = Index::new(items.collect());
        Ok(Self {
            entries,
            boxes,
            lots,
            levels,
            stands_after: c.model.fabric.lowest_delegated(),
            stand_in: way.exposure,
            src,
            dst,
            index,
        })
    }

    /// The boxes that meet this one, ascending.
    pub fn near(&self, extent: &Extent) -> Vec<u32> {
        let mut out = Vec::new();
        self.index.overlapping(&cuboid(&self.src, &self.dst, extent), u32::MAX, |item| {
            if self.boxes.get(item.entry as usize).is_some_and(|(other, _)| other.overlaps(extent)) {
                out.push(item.entry);
            }
            true
        });
        out.sort_unstable();
        out
    }

    /// What rules that allow have in common with a box.
    pub fn allowing(&self, extent: &Extent) -> Vec<Extent> {
        let near = self.near(extent);
        let of = near.iter().filter_map(|at| self.boxes.get(*at as usize));
        let allows = |entry: u32| {
            let verdict = self.entries.get(entry as usize).map(|e| e.verdict);
            matches!(verdict, Some(Verdict::Allow { .. }))
        };
        of.filter(|(_, entry)| allows(*entry)).filter_map(|(other, _)| other.intersect(extent)).collect()
    }

    /// Those of some boxes that meet this one.
    pub fn nearer(&self, near: &[u32], extent: &Extent) -> Vec<u32> {
        let meets =
            |at: &&u32| self.boxes.get(**at as usize).is_some_and(|(other, _)| other.overlaps(extent));
        near.iter().filter(meets).copied().collect()
    }

    /// Whether some flow of a box may be allowed, whose boxes nearby are these.
    pub fn may_allow(&self, near: &[u32]) -> bool {
        self.stand_in.is_some()
            || near.iter().any(|at| {
                let entry = self.boxes.get(*at as usize).and_then(|(_, e)| self.entries.get(*e as usize));
                entry.is_some_and(|e| matches!(e.verdict, Verdict::Allow { .. }))
            })
    }

    /// What the view says of a box; `near`: all boxes that meet it, ascending. It follows [`eval::view`].
    pub fn settle(&self, extent: &Extent, near: &[u32]) -> Settled {
        let stand_in = self.stand_in.map(|id| ViewDecision {
            allow: true,
            via: None,
            by: Decider::Exposure(id),
            conflict: false,
        });
        for (tier, lots) in self.levels.iter().enumerate() {
            let mut given: Vec<(usize, &Entry)> = Vec::new();
            for at in lots {
                let Some(lot) = self.lots.get(*at) else { continue };
                if lot.over.iter().any(|over| given.iter().any(|(g, _)| g == over)) {
                    continue;
                }
                match self.first_match(lot, extent, near) {
                    None => {}
                    Some(Ok(entry)) => given.push((*at, entry)),
                    Some(Err(cut)) => return Settled::Cut(cut),
                }
            }
            let Some((_, first)) = given.iter().min_by_key(|(_, entry)| entry.rank) else {
                match stand_in {
                    Some(decision) if self.stands_after == Some(tier) => return Settled::Alike(decision),
                    _ => continue,
                }
            };
            let conflict = given.iter().any(|(_, entry)| entry.verdict != first.verdict);
            let by = Decider::Rule(first.rule);
            return Settled::Alike(match first.verdict {
                _ if conflict => ViewDecision { allow: false, via: None, by, conflict },
                Verdict::Allow { via } => ViewDecision { allow: true, via, by, conflict },
                Verdict::Deny => ViewDecision { allow: false, via: None, by, conflict },
                Verdict::Pass => continue,
            });
        }
        Settled::Alike(match stand_in {
            Some(decision) if self.stands_after.is_none() => decision,
            _ => ViewDecision { allow: false, via: None, by: Decider::Default, conflict: false },
        })
    }

    /// The first rule of a policy that matches, if it matches every flow of the box; else a box of the first that matches some.
    fn first_match(&self, lot: &Lot, extent: &Extent, near: &[u32]) -> Option<Result<&Entry, Extent>> {
        let entry_of = |at: &u32| self.boxes.get(*at as usize).map_or(u32::MAX, |(_, entry)| *entry);
        let from = near.partition_point(|at| entry_of(at) < lot.entries.start);
        let first = near.get(from).map(entry_of).filter(|entry| *entry < lot.entries.end)?;
        let mut best: Option<(f64, Extent)> = None;
        for at in near.get(from..)?.iter().take_while(|at| entry_of(at) == first) {
            let Some((other, _)) = self.boxes.get(*at as usize) else { continue };
            if other.contains(extent) {
                return self.entries.get(first as usize).map(Ok);
            }
            let common = other.intersect(extent).map_or(0.0, |common| common.volume());
            if best.is_none_or(|(most, _)| common > most) {
                best = Some((common, *other));
            }
        }
        best.map(|(_, cut)| Err(cut))
    }
}

/// A box over the cells of a sheet: every box of the sheet that meets the one meets the other.
fn cuboid(src: &Cells, dst: &Cells, extent: &Extent) -> Cuboid {
    let side = |(lo, hi): (u16, u16)| (u32::from(lo), u32::from(hi));
    Cuboid {
        src: src.side(extent.src),
        dst: dst.side(extent.dst),
        protocol: (extent.protocol.0.into(), extent.protocol.1.into()),
        x: side(extent.x),
        y: side(extent.y),
    }
}
