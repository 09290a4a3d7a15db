//! What a project's addresses mean in a space, and the services at its boundaries.

use crate::boundaries;
use compiler::Compiled;
use compiler::algebra::{Family, parse_addr};
use compiler::compiled::{Destination, Source};
use compiler::ids::{EndpointId, OwnerId};
use compiler::packet;
use std::collections::BTreeSet;

/// An address as one space sees it.
#[derive(Debug, Clone, Copy)]
pub struct Seen {
    pub address: u128,
    /// Whose it is; that of the space, where it is nobody's.
    pub owner: OwnerId,
    pub endpoint: Option<EndpointId>,
    /// Whether somebody can have it: an endpoint, or a host of an external.
    pub there: bool,
}

/// The owner of a destination and its real address, for the range's first.
fn destination(space: OwnerId, lo: u128, target: &Destination) -> Option<(OwnerId, u128)> {
    match *target {
        Destination::Local { .. } => Some((space, lo)),
        Destination::Import { owner, real, .. } => Some((owner, real)),
        Destination::External { owner, .. } | Destination::Direct { owner, .. } => Some((owner, lo)),
        Destination::ClientOnly | Destination::Nowhere => None,
    }
}

fn source(space: OwnerId, lo: u128, target: &Source) -> (OwnerId, u128) {
    match *target {
        Source::Local { .. } | Source::Own => (space, lo),
        Source::Client { owner, real, .. } | Source::External { owner, real, .. } => (owner, real),
        Source::Direct { owner, .. } => (owner, lo),
    }
}

fn endpoint(c: &Compiled, owner: OwnerId, family: Family, real: u128) -> Option<EndpointId> {
    let mut of = c.model.endpoints.iter().filter(|(_, e)| e.tenant == owner);
    of.find(|(_, e)| e.addresses.iter().any(|a| parse_addr(*a) == (family, real))).map(|(id, _)| id)
}

/// What one address means as a source, or as a destination.
pub fn meaning(c: &Compiled, space: OwnerId, family: Family, address: u128, as_source: bool) -> Seen {
    let found = if as_source {
        let range = c.spaces[space].sources.get(family, address);
        range.map(|r| (r.lo, source(space, r.lo, &r.target)))
    } else {
        let range = c.spaces[space].destinations.get(family, address);
        range.and_then(|r| Some((r.lo, destination(space, r.lo, &r.target)?)))
    };
    let Some((lo, (owner, real))) = found else {
        return Seen { address, owner: space, endpoint: None, there: false };
    };
    let tenant = c.model.owners[owner].is_tenant();
    let endpoint = if tenant { endpoint(c, owner, family, address - lo + real) } else { None };
    Seen { address, owner, endpoint, there: !tenant || endpoint.is_some() }
}

/// Every endpoint of a space and some hosts of externals: sources, destinations.
pub fn seen(c: &Compiled, space: OwnerId, family: Family) -> (Vec<Seen>, Vec<Seen>) {
    let expand = |lo: u128, hi: u128, (owner, real): (OwnerId, u128), out: &mut Vec<Seen>| {
        if !c.model.owners[owner].is_tenant() {
            for address in BTreeSet::from([lo, lo + (hi - lo) / 3, lo + (hi - lo) / 2, hi]) {
                out.push(Seen { address, owner, endpoint: None, there: true });
            }
            return;
        }
        for (id, endpoint) in c.model.endpoints.iter().filter(|(_, e)| e.tenant == owner) {
            for (f, at) in endpoint.addresses.iter().map(|a| parse_addr(*a)) {
                if f == family && real <= at && at - real <= hi - lo {
                    out.push(Seen { address: at - real + lo, owner, endpoint: Some(id), there: true });
                }
            }
        }
    };
    let (mut sources, mut destinations) = (Vec::new(), Vec::new());
    for r in c.spaces[space].destinations.family(family) {
        if let Some(real) = destination(space, r.lo, &r.target) {
            expand(r.lo, r.hi, real, &mut destinations);
        }
    }
    for r in c.spaces[space].sources.family(family) {
        expand(r.lo, r.hi, source(space, r.lo, &r.target), &mut sources);
    }
    (sources, destinations)
}

/// Whether a packet may show this protocol and first field, and no other test has it: extension headers of IPv6 are no protocols
/// there, and neighbour discovery is not forwarded.
pub fn plain(family: Family, protocol: u8, x: u16) -> bool {
    let extension = family == Family::V6 && matches!(protocol, 0 | 43 | 44 | 60 | 135 | 139 | 140);
    packet::protocol_in_family(protocol, family) && !extension && !(protocol == 58 && matches!(x, 133..=137))
}

/// Services at and around every boundary that the project draws, as (protocol, x, y).
pub fn services(c: &Compiled, family: Family) -> Vec<(u8, u16, u16)> {
    let all = boundaries::boundaries(c, &[1, 4, 6, 17, 47, 50, 58, 132, 255], false);
    boundaries::services(all, family, |p, x| plain(family, p, x))
}
