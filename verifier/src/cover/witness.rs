//! The flow of some boxes that a reader expects: the same that [`crate::scene::Scene::witness`] narrows down to with a solver.

use crate::cover::axes::Axes;
use crate::cover::cuboid::{Cuboid, Side};
use crate::scene::endpoint_addresses;
use compiler::Compiled;
use compiler::algebra::{Family, RangeSet};
use compiler::packet::{End, Fields, Flow, fields, proto};

/// Source ports that a client is expected to use start here.
const EPHEMERAL: u32 = 32768;

/// A box in addresses.
#[derive(Clone, Copy)]
struct Part {
    src: (u128, u128),
    dst: (u128, u128),
    protocol: Side,
    x: Side,
    y: Side,
}

fn within(value: u128, (lo, hi): (u128, u128)) -> bool {
    lo <= value && value <= hi
}

/// The preferred flow of boxes of well-formed flows; `None` if they hold no flow.
#[must_use]
pub fn preferred(c: &Compiled, axes: &Axes, boxes: &[Cuboid]) -> Option<Flow> {
    let one_owner = axes.src_owner == axes.dst_owner;
    let mut parts: Vec<Part> = boxes
        .iter()
        .filter(|cuboid| axes.holds_flow(cuboid))
        .map(|cuboid| Part {
            src: axes.src.addresses(cuboid.src),
            dst: axes.dst.addresses(cuboid.dst),
            protocol: cuboid.protocol,
            x: cuboid.x,
            y: cuboid.y,
        })
        .collect();

    let icmp = if axes.family == Family::V4 { proto::ICMP } else { proto::ICMP6 };
    let protocol = [proto::TCP, proto::UDP, icmp].into_iter().chain(0..=u8::MAX).find(|p| {
        let rank = axes.protocol_rank(*p);
        parts.iter().any(|part| part.protocol.0 <= rank && rank <= part.protocol.1)
    })?;
    let rank = axes.protocol_rank(protocol);
    parts.retain(|part| part.protocol.0 <= rank && rank <= part.protocol.1);

    let declared = endpoint_addresses(c, axes.src_owner, axes.family);
    // A source that alone is its destination too starts no flow of the box.
    let starts = |part: &Part, a: u128| within(a, part.src) && !(one_owner && part.dst == (a, a));
    let lowest = |part: &Part| {
        let (lo, hi) = part.src;
        if starts(part, lo) { Some(lo) } else { (lo < hi).then(|| lo + 1) }
    };
    let src = pick(
        &declared,
        |a| parts.iter().any(|part| starts(part, a)),
        || parts.iter().filter_map(lowest).min(),
    )?;
    parts.retain(|part| starts(part, src));

    let declared = endpoint_addresses(c, axes.dst_owner, axes.family);
    let other = |a: u128| !one_owner || a != src;
    let lowest = |part: &Part| {
        let (lo, hi) = part.dst;
        if other(lo) { Some(lo) } else { (lo < hi).then(|| lo + 1) }
    };
    let dst = pick(
        &declared,
        |a| other(a) && parts.iter().any(|part| within(a, part.dst)),
        || parts.iter().filter_map(lowest).min(),
    )?;
    parts.retain(|part| within(dst, part.dst));

    let from = |least: u32| {
        let of = parts.iter().filter(|part| part.x.1 >= least);
        of.map(|part| part.x.0.max(least)).min()
    };
    let x = match fields(protocol) {
        Fields::Ports => from(EPHEMERAL).or_else(|| from(0)),
        Fields::Icmp | Fields::None => from(0),
    }?;
    let y = parts.iter().filter(|part| part.x.0 <= x && x <= part.x.1).map(|part| part.y.0).min()?;
    Some(Flow {
        src: End { owner: axes.src_owner, address: src },
        dst: End { owner: axes.dst_owner, address: dst },
        family: axes.family,
        protocol,
        x: u16::try_from(x).ok()?,
        y: u16::try_from(y).ok()?,
    })
}

/// The first declared address that fits, else `lowest`.
fn pick(
    declared: &RangeSet,
    fits: impl Fn(u128) -> bool,
    lowest: impl FnOnce() -> Option<u128>,
) -> Option<u128> {
    let mut addresses = declared.ranges().iter().flat_map(|(lo, hi)| *lo..=*hi);
    addresses.find(|a| fits(*a)).or_else(lowest)
}
