//! The flow of some boxes that a reader expects: the same that [`crate::scene::Scene::witness`] narrows down to with a solver.

use crate::cover::axes::Axes;
use crate::cover::cuboid::Cuboid;
use crate::cover::extent::Extent;
use crate::scene::endpoint_addresses;
use compiler::Compiled;
use compiler::algebra::{Family, RangeSet};
use compiler::ids::OwnerId;
use compiler::packet::{End, Fields, Flow, fields, possible_protocol, proto};

/// Source ports that a client is expected to use start here.
const EPHEMERAL: u16 = 32768;

/// The flows between two owners in one family, and the addresses that a reader knows there.
#[derive(Debug, Clone, Copy)]
pub struct Between<'a> {
    pub src: OwnerId,
    pub dst: OwnerId,
    pub family: Family,
    /// The addresses of the source's declared endpoints.
    pub src_declared: &'a RangeSet,
    pub dst_declared: &'a RangeSet,
}

/// The preferred flow of boxes of well-formed flows; `None` if they hold no flow.
#[must_use]
pub fn preferred(c: &Compiled, axes: &Axes, boxes: &[Cuboid]) -> Option<Flow> {
    let extents: Vec<Extent> = boxes.iter().flat_map(|cuboid| axes.extents(cuboid)).collect();
    let declared = |owner| endpoint_addresses(c, owner, axes.family);
    let (src_declared, dst_declared) = (declared(axes.src_owner), declared(axes.dst_owner));
    let between = Between {
        src: axes.src_owner,
        dst: axes.dst_owner,
        family: axes.family,
        src_declared: &src_declared,
        dst_declared: &dst_declared,
    };
    expected(between, &extents)
}

/// A flow's place in the order of what a reader expects: tcp, udp, icmp/icmp6, then the smallest protocol; a declared endpoint's
/// address, else the smallest, the source's first; a source port from 32768 up; then the smallest of each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// tcp, udp, icmp or icmp6, any other.
    kind: u8,
    protocol: u8,
    /// `false` sorts first: a declared address.
    src_undeclared: bool,
    src: u128,
    dst_undeclared: bool,
    dst: u128,
    low_port: bool,
    x: u16,
    y: u16,
}

impl Between<'_> {
    /// The flow of a box that comes first; `None` if it holds none.
    #[must_use]
    pub fn place(&self, part: &Extent) -> Option<Place> {
        let one_owner = self.src == self.dst;
        let icmp = if self.family == Family::V4 { proto::ICMP } else { proto::ICMP6 };
        let protocol = possible_protocol(&part.service(), self.family)?;
        // A source that alone is its destination too starts no flow of the box.
        let alone = (one_owner && part.dst.0 == part.dst.1).then_some(part.dst.0);
        let (src_undeclared, src) = pick(self.src_declared, part.src, alone)?;
        let (dst_undeclared, dst) = pick(self.dst_declared, part.dst, one_owner.then_some(src))?;
        let ephemeral = part.x.0.max(EPHEMERAL);
        let (low_port, x) = match fields(protocol) {
            Fields::Ports if ephemeral <= part.x.1 => (false, ephemeral),
            Fields::Ports => (true, part.x.0),
            Fields::Icmp | Fields::None => (false, part.x.0),
        };
        let known = [proto::TCP, proto::UDP, icmp].into_iter().position(|p| p == protocol);
        let kind = known.and_then(|at| u8::try_from(at).ok()).unwrap_or(3);
        Some(Place { kind, protocol, src_undeclared, src, dst_undeclared, dst, low_port, x, y: part.y.0 })
    }

    /// The flow at a place.
    #[must_use]
    pub fn flow(&self, place: &Place) -> Flow {
        Flow {
            src: End { owner: self.src, address: place.src },
            dst: End { owner: self.dst, address: place.dst },
            family: self.family,
            protocol: place.protocol,
            x: place.x,
            y: place.y,
        }
    }
}

/// The flow that a reader expects of some boxes; `None`: the boxes hold no flow.
#[must_use]
pub fn expected(between: Between<'_>, boxes: &[Extent]) -> Option<Flow> {
    let first = boxes.iter().filter_map(|part| between.place(part)).min()?;
    Some(between.flow(&first))
}

/// The first declared address of a range, but for this one, else its lowest; and whether it is undeclared.
fn pick(declared: &RangeSet, (lo, hi): (u128, u128), but: Option<u128>) -> Option<(bool, u128)> {
    let ranges = declared.ranges();
    let from = ranges.partition_point(|range| range.1 < lo);
    let lowest = |(lo, hi): (u128, u128)| if but == Some(lo) { (lo < hi).then(|| lo + 1) } else { Some(lo) };
    let near = ranges.iter().skip(from).map(|range| (range.0.max(lo), range.1.min(hi)));
    // Only one address is left out, so no more than two ranges are looked at.
    let known = near.take_while(|range| range.0 <= range.1).find_map(lowest);
    known.map(|a| (false, a)).or_else(|| lowest((lo, hi)).map(|a| (true, a)))
}
