//! Where replies go: a reply is sent to an address as its sender sees it, and takes the way that this address has there.

use crate::algebra::Family;
use crate::compiled::{Compiled, Destination, Source, SpaceMap};
use crate::eval::Way;
use crate::ids::{GatewayId, OwnerId};
use crate::packet::{End, Flow};

/// What an address means to the one who answers it, and the way there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Target {
    pub end: End,
    /// `None`: straight, inside the tenant or by a direct route.
    pub gateway: Option<GatewayId>,
}

/// A stretch of addresses as seen: `lo` means `target`, the following ones the following ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stretch {
    pub lo: u128,
    pub hi: u128,
    /// `None`: nothing leads there.
    pub target: Option<Target>,
}

/// What an owner's replies to an address as seen in its space lead to.
#[must_use]
pub fn target(c: &Compiled, space: OwnerId, family: Family, seen: u128) -> Option<Target> {
    let spaces = &c.spaces[space];
    let real = |lo: u128, real: u128| seen - lo + real;
    let to = |owner: OwnerId, address: u128, gateway: Option<GatewayId>| {
        Some(Target { end: End { owner, address }, gateway })
    };
    if let Some(range) = spaces.destinations.get(family, seen) {
        match &range.target {
            Destination::Local { .. } => return to(space, seen, None),
            Destination::Import { owner, real: first, gateway, .. } => {
                return to(*owner, real(range.lo, *first), Some(*gateway));
            }
            Destination::External { owner, gateway, .. } => return to(*owner, seen, Some(*gateway)),
            Destination::Direct { owner, .. } => return to(*owner, seen, None),
            Destination::ClientOnly | Destination::Nowhere => {}
        }
    }
    // Client prefixes carry replies, and only those.
    let range = spaces.sources.get(family, seen)?;
    match &range.target {
        Source::Client { owner, real: first, gateway, .. }
        | Source::External { owner, real: first, gateway, .. } => {
            to(*owner, real(range.lo, *first), Some(*gateway))
        }
        Source::Local { .. } | Source::Direct { .. } | Source::Own => None,
    }
}

/// [`target`] of all addresses of `lo..=hi`, in as many stretches as it takes; ascending, without gaps.
#[must_use]
pub fn targets(c: &Compiled, space: OwnerId, family: Family, lo: u128, hi: u128) -> Vec<Stretch> {
    let spaces = &c.spaces[space];
    let mut starts = vec![lo];
    cuts(&spaces.destinations, family, lo, hi, &mut starts);
    cuts(&spaces.sources, family, lo, hi, &mut starts);
    starts.sort_unstable();
    starts.dedup();
    let ends = starts.iter().skip(1).map(|next| next - 1).chain([hi]);
    let stretch = |(start, end): (&u128, u128)| Stretch {
        lo: *start,
        hi: end,
        target: target(c, space, family, *start),
    };
    starts.iter().zip(ends).map(stretch).collect()
}

/// Adds where a map's meaning may change within `lo..=hi`, above `lo`.
fn cuts<T>(map: &SpaceMap<T>, family: Family, lo: u128, hi: u128, starts: &mut Vec<u128>) {
    let ranges = map.family(family);
    for range in ranges.iter().skip(ranges.partition_point(|r| r.hi < lo)).take_while(|r| r.lo <= hi) {
        let ends = range.hi.checked_add(1);
        starts.extend([Some(range.lo), ends].into_iter().flatten().filter(|at| lo < *at && *at <= hi));
    }
}

/// The client's address as the other end sees it, to which it sends its replies; `None` if a masquerade address of the gateway
/// stands in its place, or if the exposure does not show the client at all.
#[must_use]
pub fn shown(c: &Compiled, flow: &Flow, way: Way) -> Option<u128> {
    let (src, dst) = (flow.src, flow.dst);
    match (way.exposure, way.gateway) {
        (Some(id), _) => c.model.exposures[id].show(src.owner, flow.family, src.address),
        (None, Some(gateway)) => {
            let masquerade = c.model.gateways[gateway].masquerade(src.owner, dst.owner, flow.family);
            masquerade.is_empty().then_some(src.address)
        }
        (None, None) => Some(src.address),
    }
}
