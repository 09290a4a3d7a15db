//! On a gateway: the ways to everything that is seen in a space, by the addresses under which it is seen there.
//!
//! Packets go by them that the kernel may have to answer: their errors go back by the table by which they came, so that the same
//! table has to lead on. All others go by the table of the other side.

use super::Lowering;
use super::gateway::{Instances, Joined};
use super::links::hop;
use crate::iproute2::Target;
use compiler::algebra::{AddrSet, Family, Prefix, parse_addr};
use compiler::compiled::{Destination, Source};
use compiler::ids::{EndpointId, GatewayId, OwnerId};
use compiler::model::RouteTarget;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

/// Prefixes of a space and the externals that they mean.
type Outside = BTreeMap<Prefix, OwnerId>;

impl Lowering<'_> {
    /// Ways from one space; the externals whose addresses some of them do not tell apart from another's are returned.
    pub(super) fn ways(&mut self, space: OwnerId, joined: &Joined, scope: &Instances) -> BTreeSet<OwnerId> {
        let table = self.home_of(space);
        for family in Family::BOTH {
            for (address, endpoint) in self.seen_endpoints(space, joined, family, scope) {
                self.way_to_endpoint(table, family, address, endpoint);
            }
        }
        if !self.c.model.owners[space].is_tenant() {
            return BTreeSet::new();
        }
        let (outside, ambiguous) = self.seen_outside(space, joined, scope);
        for (prefix, external) in outside {
            let note = self.owner_note(external);
            if let Some((hop, dev)) = self.next_hop(external, prefix.family, scope) {
                let target = Target::Via { hop, dev };
                self.route(table, prefix.family, prefix.to_string(), target, note);
            }
        }
        ambiguous
    }

    /// Endpoints of others as a space sees them through this node. An address that is a client's leads there, whatever else
    /// it might mean.
    fn seen_endpoints(
        &self,
        space: OwnerId,
        joined: &Joined,
        family: Family,
        scope: &Instances,
    ) -> BTreeMap<u128, EndpointId> {
        let mut out = BTreeMap::new();
        let mut note = |owner: OwnerId, real: u128, lo: u128, hi: u128| {
            for &(address, endpoint) in self.addresses.within(owner, family, real, real + (hi - lo)) {
                out.entry(address - real + lo).or_insert(endpoint);
            }
        };
        for range in self.c.spaces[space].sources.family(family) {
            if let Source::Client { owner, real, gateway, .. } = range.target
                && scope.gateways.contains(&gateway)
            {
                note(owner, real, range.lo, range.hi);
            }
        }
        for range in self.c.spaces[space].destinations.family(family) {
            if let Destination::Import { owner, real, gateway, .. } = range.target
                && scope.gateways.contains(&gateway)
            {
                note(owner, real, range.lo, range.hi);
            }
        }
        if !self.c.model.owners[space].is_tenant() {
            for &(_, tenant) in joined.seen.keys().filter(|(s, _)| *s == space) {
                if self.masquerade(tenant, space, family, scope).is_none() {
                    for (lo, hi) in self.answered(space, tenant, family, scope) {
                        note(tenant, lo, lo, hi);
                    }
                }
            }
        }
        out
    }

    fn way_to_endpoint(&mut self, table: u32, family: Family, address: u128, endpoint: EndpointId) {
        let e = &self.c.model.endpoints[endpoint];
        let (segment, node) = (e.segment, e.node);
        let note = self.endpoint_note(endpoint);
        let dev = self.peer(segment, node);
        let target = Target::Via { hop: hop(family, self.c.model.nodes[node].vtep), dev };
        self.route(table, family, Prefix::host(family, address).to_string(), target, note);
    }

    /// What a tenant's routes lead to, and the externals that have clients of it.
    fn seen_outside(
        &self,
        tenant: OwnerId,
        joined: &Joined,
        scope: &Instances,
    ) -> (Outside, BTreeSet<OwnerId>) {
        let model = &self.c.model;
        let mut out = Outside::new();
        let routes: Vec<Prefix> =
            model.routes.values().filter(|r| r.tenant == tenant).map(|r| r.prefix).collect();
        let of = |owner: OwnerId| model.owners[owner].prefixes.iter().copied();
        for route in model.routes.values().filter(|r| r.tenant == tenant) {
            let RouteTarget::Via(gateway) = route.target else { continue };
            if !scope.gateways.contains(&gateway) {
                continue;
            }
            for &external in self.externals_of(gateway) {
                for prefix in of(external).filter(|p| p.overlaps(route.prefix)) {
                    let narrow = if prefix.contains(route.prefix) { route.prefix } else { prefix };
                    // A longer route leads elsewhere.
                    if routes.iter().any(|r| r.len() > route.prefix.len() && r.contains(narrow)) {
                        continue;
                    }
                    // Of two externals the one whose prefix is longer, and whose is looked at later if that holds the route's.
                    let wins = |other: OwnerId| {
                        of(other).filter(|p| p.contains(narrow)).map(Prefix::len).max() < Some(prefix.len())
                    };
                    match out.get(&narrow) {
                        Some(other) if !wins(*other) => {}
                        _ => {
                            out.insert(narrow, external);
                        }
                    }
                }
            }
        }
        let mut ambiguous = BTreeSet::new();
        let clients: BTreeSet<OwnerId> = joined
            .seen
            .keys()
            .filter(|(s, o)| *s == tenant && !model.owners[*o].is_tenant())
            .map(|(_, o)| *o)
            .collect();
        let routed = out.clone();
        for external in clients {
            for prefix in of(external) {
                // What it sends is told apart by this prefix, what is sent there is not.
                let mut holding = routed.iter().filter(|(p, _)| p.contains(prefix)).peekable();
                if holding.peek().is_some() && !holding.any(|(_, o)| *o == external) {
                    ambiguous.insert(external);
                } else {
                    out.entry(prefix).or_insert(external);
                }
            }
        }
        for family in Family::BOTH {
            for range in self.c.spaces[tenant].sources.family(family) {
                if let Source::External { owner, real, gateway, .. } = range.target
                    && range.lo != real
                    && scope.gateways.contains(&gateway)
                {
                    let shown = AddrSet::range(family, range.lo, range.hi).prefixes();
                    out.extend(shown.into_iter().map(|prefix| (prefix, owner)));
                }
            }
        }
        (out, ambiguous)
    }

    fn externals_of(&self, gateway: GatewayId) -> impl Iterator<Item = &OwnerId> {
        let joins = self.c.model.gateways[gateway].joins.iter();
        joins.filter(|o| !self.c.model.owners[**o].is_tenant())
    }

    /// The router of an external on this node.
    pub(super) fn next_hop(
        &self,
        external: OwnerId,
        family: Family,
        scope: &Instances,
    ) -> Option<(IpAddr, String)> {
        let attaches = scope.gateways.iter().flat_map(|g| self.c.model.gateways[*g].attaches.iter());
        attaches
            .filter(|a| a.external == external && a.node == self.node)
            .flat_map(|a| a.next_hops.iter().map(|hop| (*hop, a.dev.clone())))
            .find(|(hop, _)| parse_addr(*hop).0 == family)
    }
}
