//! Flows between sets of addresses, and where a box lies to them.

use crate::cover::extent::Extent;
use compiler::algebra::{Family, RangeSet};
use compiler::compiled::Channel;
use compiler::sets::ServiceBox;

/// The flows between two sets of addresses with some services.
#[derive(Debug, Clone, Copy)]
pub struct Fence<'a> {
    pub src: &'a RangeSet,
    pub dst: &'a RangeSet,
    pub service: &'a [ServiceBox],
}

/// Where a box lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lies {
    Inside,
    Outside,
    /// This box, which meets it, tells some of its flows from the others.
    Across(Extent),
}

impl<'a> Fence<'a> {
    /// What goes on a channel.
    #[must_use]
    pub fn of_channel(channel: &'a Channel, family: Family) -> Self {
        let (src, dst) = (channel.src_set.family(family), channel.dst_set.family(family));
        Self { src, dst, service: &channel.service.boxes }
    }

    /// Pairs of address ranges that a box meets.
    #[must_use]
    pub fn pairs(&self, extent: &Extent) -> usize {
        let (src, dst) = (meeting(self.src, extent.src), meeting(self.dst, extent.dst));
        src.len().saturating_mul(dst.len())
    }

    #[must_use]
    pub fn lies(&self, extent: &Extent) -> Lies {
        let (src, dst) = (meeting(self.src, extent.src), meeting(self.dst, extent.dst));
        let (Some(src), Some(dst)) = (src.first(), dst.first()) else { return Lies::Outside };
        let ends = Extent { src: *src, dst: *dst, ..*extent };
        if !ends.contains(extent) {
            return Lies::Across(ends);
        }
        let around = self.service.iter().map(|service| extent.with_service(service));
        let mut meeting = around.filter(|other| other.overlaps(extent)).peekable();
        let Some(first) = meeting.peek().copied() else { return Lies::Outside };
        if meeting.any(|other| other.contains(extent)) { Lies::Inside } else { Lies::Across(first) }
    }
}

/// The ranges of a set that meet this one.
#[must_use]
pub fn meeting(set: &RangeSet, (lo, hi): (u128, u128)) -> &[(u128, u128)] {
    let ranges = set.ranges();
    let first = ranges.partition_point(|range| range.1 < lo);
    let end = ranges.partition_point(|range| range.0 <= hi);
    ranges.get(first..end).unwrap_or(&[])
}
