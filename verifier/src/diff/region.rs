//! Where the flows between two owners could be decided otherwise.

use crate::diff::names::{Joint, Names, Side};
use crate::diff::policies::{Deltas, PolicyDelta, action};
use crate::flows::Extent;
use compiler::algebra::{Family, RangeSet};
use compiler::compiled::{Channel, ChannelKind};
use compiler::ids::{ChannelId, OwnerId, RuleId};
use compiler::model::Mapping;
use compiler::sets::{PairSet, ServiceBox, ServiceSet};
use std::net::IpAddr;
use std::sync::Arc;

/// Boxes of one rule or channel; beyond that one around them all serves.
const PIECES: usize = 64;
/// Boxes of a region; beyond that everything is compared.
const BOXES: usize = 1 << 14;

/// The two owners and every channel from the one to the other, by side.
#[derive(Debug, Clone)]
pub struct Pair {
    pub src: Joint,
    pub dst: Joint,
    pub channels: [Vec<ChannelId>; 2],
}

/// Which flows are to be compared.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Scope {
    /// Those in these boxes, by family (IPv4, IPv6); the boxes may overlap.
    Within([Vec<Extent>; 2]),
    All,
}

impl Scope {
    #[must_use]
    pub fn is_empty(&self) -> bool {
        matches!(self, Self::Within([v4, v6]) if v4.is_empty() && v6.is_empty())
    }
}

/// A superset of the flows of a pair that are allowed on one side only, or otherwise.
///
/// SOUNDNESS: a flow outside goes on the same channels on both sides, those that have a like on the other (the others are in the
/// region whole), and what a view says of it there is the same ([`crate::diff::policies`]): it depends on the channel through its
/// kind and gateway alone, and these are alike.
#[must_use]
pub fn scope(names: &Names<'_>, deltas: &Deltas, pair: &Pair) -> Scope {
    if deltas.tiers {
        return Scope::All;
    }
    let (alike, alone) = matched(names, pair);
    let mut boxes = Boxes::default();
    for (side, id) in alone {
        let channel = &names.compiled(side).channels[id];
        for family in Family::BOTH {
            boxes.product(
                family,
                channel.src_set.family(family),
                channel.dst_set.family(family),
                &channel.service,
            );
        }
    }
    if !alike.is_empty() {
        let mut views = vec![pair.src];
        if pair.src != pair.dst {
            views.push(pair.dst);
        }
        views.retain(|owner| names.owner(*owner).1);
        for owner in views {
            for delta in deltas.of_view(owner) {
                changed(names, delta, pair, &alike, &mut boxes);
            }
        }
    }
    boxes.scope()
}

/// Boxes by family.
#[derive(Default)]
struct Boxes {
    v4: Vec<Extent>,
    v6: Vec<Extent>,
}

impl Boxes {
    fn product(&mut self, family: Family, src: &RangeSet, dst: &RangeSet, service: &ServiceSet) {
        let (Some(src_all), Some(dst_all)) = (hull(src), hull(dst)) else { return };
        if !service.possible(family) {
            return;
        }
        let out = match family {
            Family::V4 => &mut self.v4,
            Family::V6 => &mut self.v6,
        };
        let count = src.ranges().len().saturating_mul(dst.ranges().len()).saturating_mul(service.boxes.len());
        if count > PIECES {
            let around = Extent { src: src_all, dst: dst_all, ..Extent::all(family) };
            out.push(around.with_service(&ServiceBox::ALL));
            return;
        }
        for src in src.ranges() {
            for dst in dst.ranges() {
                let ends = Extent { src: *src, dst: *dst, ..Extent::all(family) };
                out.extend(service.boxes.iter().map(|b| ends.with_service(b)));
            }
        }
    }

    fn scope(mut self) -> Scope {
        for list in [&mut self.v4, &mut self.v6] {
            list.sort_unstable();
            list.dedup();
            if list.len() > BOXES {
                return Scope::All;
            }
        }
        Scope::Within([self.v4, self.v6])
    }
}

fn hull(set: &RangeSet) -> Option<(u128, u128)> {
    set.first().zip(set.ranges().last().map(|(_, hi)| *hi))
}

/// A rule's part between the two owners.
#[derive(PartialEq, Eq)]
struct Part<'c> {
    gap: usize,
    src: [RangeSet; 2],
    dst: [RangeSet; 2],
    service: &'c Arc<ServiceSet>,
    action: (u8, u32),
}

/// Adds what the loose rules of a policy match on the channels that are alike.
fn changed(names: &Names<'_>, delta: &PolicyDelta, pair: &Pair, alike: &[ChannelId], boxes: &mut Boxes) {
    let old = names.compiled(Side::Old);
    let union = |of: fn(&Channel) -> &compiler::algebra::AddrSet| {
        Family::BOTH.map(|family| {
            let ranges = alike.iter().flat_map(|id| of(&old.channels[*id]).family(family).ranges());
            RangeSet::from_ranges(ranges.copied().collect())
        })
    };
    let (src, dst) = (union(|c| &c.src_set), union(|c| &c.dst_set));
    let parts = Side::BOTH.map(|side| {
        let ends = names.id(side, pair.src).zip(names.id(side, pair.dst));
        let loose = side.of(&delta.loose).iter();
        loose
            .filter_map(|(gap, rule)| part(names, side, *rule, ends?, (&src, &dst), *gap))
            .collect::<Vec<_>>()
    });
    let [mut old, mut new] = [parts.first(), parts.last()].map(|p| p.map_or(&[][..], Vec::as_slice));
    if !delta.moved {
        // What differs elsewhere only is no change here.
        let first = old.iter().zip(new).take_while(|(a, b)| a == b).count();
        (old, new) = (old.get(first..).unwrap_or(&[]), new.get(first..).unwrap_or(&[]));
        let last = old.iter().rev().zip(new.iter().rev()).take_while(|(a, b)| a == b).count();
        old = old.get(..old.len() - last).unwrap_or(&[]);
        new = new.get(..new.len() - last).unwrap_or(&[]);
    }
    for part in old.iter().chain(new) {
        for (family, (src, dst)) in Family::BOTH.into_iter().zip(part.src.iter().zip(&part.dst)) {
            boxes.product(family, src, dst, part.service);
        }
    }
}

fn part<'c>(
    names: &Names<'c>,
    side: Side,
    id: RuleId,
    (src_owner, dst_owner): (OwnerId, OwnerId),
    (src, dst): (&[RangeSet; 2], &[RangeSet; 2]),
    gap: usize,
) -> Option<Part<'c>> {
    let rule = &names.compiled(side).model.rules[id];
    let (src, dst) = match &rule.pairs {
        PairSet::SameTenant if src_owner != dst_owner => return None,
        PairSet::SameTenant => (src.clone(), dst.clone()),
        PairSet::Sets(s, d) => {
            let (s, d) = (s.of(src_owner), d.of(dst_owner));
            let [s4, s6] = src;
            let [d4, d6] = dst;
            ([s.v4.intersect(s4), s.v6.intersect(s6)], [d.v4.intersect(d4), d.v6.intersect(d6)])
        }
    };
    let some = src.iter().zip(&dst).any(|(s, d)| !s.is_empty() && !d.is_empty());
    some.then(|| Part { gap, src, dst, service: &rule.service, action: action(names, side, rule.action) })
}

/// The old ones of the channels that are alike, and those that have no like.
fn matched(names: &Names<'_>, pair: &Pair) -> (Vec<ChannelId>, Vec<(Side, ChannelId)>) {
    let [old, new] = &pair.channels;
    let mut free: Vec<ChannelId> = new.clone();
    let (mut alike, mut alone) = (Vec::new(), Vec::new());
    for id in old {
        match free.iter().position(|other| like(names, *id, *other)) {
            Some(at) => {
                free.remove(at);
                alike.push(*id);
            }
            None => alone.push((Side::Old, *id)),
        }
    }
    alone.extend(free.into_iter().map(|id| (Side::New, id)));
    (alike, alone)
}

/// Whether an old and a new channel between the same owners carry the same flows in the same way, and show the same addresses.
fn like(names: &Names<'_>, old: ChannelId, new: ChannelId) -> bool {
    let channels = [&names.compiled(Side::Old).channels[old], &names.compiled(Side::New).channels[new]];
    let [a, b] = channels;
    let gateways = Side::BOTH.map(|side| side.of(&channels).gateway.map(|g| names.gateway(side, g)));
    let [gateway, other] = gateways;
    let kind = |c: &Channel| match c.kind {
        ChannelKind::Intra => 0,
        ChannelKind::Exposed(_) => 1,
        ChannelKind::ToExternal(_) => 2,
        ChannelKind::Direct(_) => 3,
    };
    kind(a) == kind(b)
        && gateway == other
        && a.src_set == b.src_set
        && a.dst_set == b.dst_set
        && a.service == b.service
        && Family::BOTH.into_iter().all(|family| {
            Shows::of(names.compiled(Side::Old), old, family)
                == Shows::of(names.compiled(Side::New), new, family)
        })
}

/// A stretch of real addresses, and what must be added (wrapping) to give the address under which they are seen.
pub type Stretch = ((u128, u128), u128);

/// Under which addresses the ends of a channel's flows are seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shows {
    /// Destinations, as the source sees them; stretches cover every one of the channel's.
    pub dst: Vec<Stretch>,
    /// Sources, as the destination sees them.
    pub src: Vec<Stretch>,
    /// The gateway's own addresses that stand for every source, one per instance; empty: `src` holds.
    pub masquerade: Vec<IpAddr>,
}

impl Shows {
    #[must_use]
    pub fn of(c: &compiler::Compiled, id: ChannelId, family: Family) -> Self {
        let channel = &c.channels[id];
        let own = || vec![((0, family.max()), 0)];
        let mut shows = Self { dst: own(), src: own(), masquerade: Vec::new() };
        match channel.kind {
            ChannelKind::Exposed(id) => {
                let exposure = &c.model.exposures[id];
                shows.dst = stretches(family, exposure.presented.iter());
                let of = exposure.shown.iter().filter(|(owner, _)| *owner == channel.src);
                shows.src = stretches(family, of.map(|(_, mapping)| mapping));
            }
            ChannelKind::ToExternal(id) => {
                let masquerades = c.model.gateways[id].masquerades.iter();
                let of = masquerades.filter(|m| m.tenant == channel.src && m.external == channel.dst);
                let addresses = of.flat_map(|m| m.addresses.iter().copied());
                shows.masquerade = addresses.filter(|a| a.is_ipv4() == (family == Family::V4)).collect();
            }
            ChannelKind::Intra | ChannelKind::Direct(_) => {}
        }
        shows
    }
}

/// As few stretches as say it: the addresses between two of one offset are none of the set's.
fn stretches<'m>(family: Family, mappings: impl Iterator<Item = &'m Mapping>) -> Vec<Stretch> {
    let mut list: Vec<Stretch> = mappings
        .filter(|m| m.real.family == family)
        .map(|m| ((m.real.lo(), m.real.hi()), m.seen.lo().wrapping_sub(m.real.lo())))
        .collect();
    list.sort_unstable();
    let mut out: Vec<Stretch> = Vec::with_capacity(list.len());
    for (range, offset) in list {
        match out.last_mut() {
            Some((last, same)) if *same == offset => last.1 = range.1,
            _ => out.push((range, offset)),
        }
    }
    out
}
