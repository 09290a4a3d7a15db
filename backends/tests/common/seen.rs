//! Every address that means something in a space.

use compiler::Compiled;
use compiler::algebra::{Family, parse_addr};
use compiler::compiled::{Destination, Source};
use compiler::ids::{EndpointId, OwnerId};
use std::collections::BTreeSet;

/// An address as one space sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Seen {
    pub address: u128,
    pub owner: OwnerId,
    pub endpoint: Option<EndpointId>,
}

/// Every address that means something in a space: all endpoints' and samples of what lies outside.
pub fn seen(c: &Compiled, space: OwnerId, family: Family) -> BTreeSet<Seen> {
    let mut out = BTreeSet::new();
    let mut expand = |lo: u128, hi: u128, owner: OwnerId, real: u128| {
        if !c.model.owners[owner].is_tenant() {
            for address in [lo, lo + (hi - lo) / 2, hi] {
                out.insert(Seen { address, owner, endpoint: None });
            }
            return;
        }
        for (id, endpoint) in c.model.endpoints.iter().filter(|(_, e)| e.tenant == owner) {
            for (f, at) in endpoint.addresses.iter().map(|a| parse_addr(*a)) {
                if f == family && real <= at && at - real <= hi - lo {
                    out.insert(Seen { address: at - real + lo, owner, endpoint: Some(id) });
                }
            }
        }
    };
    for r in c.spaces[space].destinations.family(family) {
        match r.target {
            Destination::Local { .. } => expand(r.lo, r.hi, space, r.lo),
            Destination::Import { owner, real, .. } => expand(r.lo, r.hi, owner, real),
            Destination::External { owner, .. } | Destination::Direct { owner, .. } => {
                expand(r.lo, r.hi, owner, r.lo)
            }
            Destination::ClientOnly | Destination::Nowhere => {}
        }
    }
    for r in c.spaces[space].sources.family(family) {
        match r.target {
            Source::Local { .. } | Source::Own => expand(r.lo, r.hi, space, r.lo),
            Source::Client { owner, real, .. } | Source::External { owner, real, .. } => {
                expand(r.lo, r.hi, owner, real)
            }
            Source::Direct { owner, .. } => expand(r.lo, r.hi, owner, r.lo),
        }
    }
    out
}
