//! The tables that a packet may pass one after the other, as a graph: spaces, and legs between them with their header sets.

use crate::checks::Task;
use compiler::algebra::Family;
use compiler::compiled::Destination;
use compiler::ids::{ExposureId, GatewayId, OwnerId, RouteId};
use petgraph::Direction;
use petgraph::graph::{DiGraph, NodeIndex};
use petgraph::visit::EdgeRef as _;
use std::collections::BTreeMap;

/// One table's answer: addresses as seen in the space that the leg leaves, and the gateway that takes them to the next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leg {
    pub family: Family,
    /// Inclusive, as seen in the space that it leaves.
    pub lo: u128,
    pub hi: u128,
    /// What `lo` means in the space that it leads to; the following addresses mean the following ones.
    pub real: u128,
    pub gateway: GatewayId,
    pub by: By,
}

/// What a leg is made by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum By {
    /// A tenant's route to an external; the flows keep their source addresses.
    Route(RouteId),
    /// The exposures, ascending, that present a tenant.
    Exposures(Vec<ExposureId>),
}

/// Every leg into and out of an external: nowhere else is a packet handed on.
#[derive(Debug)]
pub struct Forwarding {
    graph: DiGraph<OwnerId, Leg>,
    externals: Vec<NodeIndex>,
}

/// A leg into an external, and the legs out of it at whose addresses the first one arrives.
#[derive(Debug)]
pub struct Onward<'a> {
    pub from: OwnerId,
    pub external: OwnerId,
    pub first: &'a Leg,
    /// Where they lead, by address.
    pub next: Vec<(OwnerId, &'a Leg)>,
}

impl Forwarding {
    /// Owners whose declarations are in error have no part in it; neither have masqueraded flows, which end at the external: what comes
    /// back from there is another connection, of the masquerade address.
    #[must_use]
    pub fn new(task: Task<'_>) -> Self {
        let c = task.c;
        let masqueraded = c.model.masqueraded();
        let mut graph = DiGraph::new();
        let mut nodes: BTreeMap<OwnerId, NodeIndex> = BTreeMap::new();
        let mut externals = Vec::new();
        // Externals first: without one at which something is presented nothing is handed on.
        for (external, _) in c.model.owners.iter().filter(|(id, o)| !o.is_tenant() && !task.tainted(*id)) {
            let destinations = &c.spaces[external].destinations;
            if destinations.v4.is_empty() && destinations.v6.is_empty() {
                continue;
            }
            let here = *nodes.entry(external).or_insert_with(|| graph.add_node(external));
            externals.push(here);
            for family in Family::BOTH {
                for range in destinations.family(family) {
                    let Destination::Import { owner, real, gateway, exposures } = &range.target else {
                        continue;
                    };
                    if task.tainted(*owner) {
                        continue;
                    }
                    let there = *nodes.entry(*owner).or_insert_with(|| graph.add_node(*owner));
                    let by = By::Exposures(exposures.clone());
                    let (lo, hi) = (range.lo, range.hi);
                    graph.add_edge(here, there, Leg { family, lo, hi, real: *real, gateway: *gateway, by });
                }
            }
        }
        let tenants = c.model.owners.iter().filter(|(id, o)| o.is_tenant() && !task.tainted(*id));
        for (tenant, _) in tenants.filter(|_| !externals.is_empty()) {
            for family in Family::BOTH {
                for range in c.spaces[tenant].destinations.family(family) {
                    let Destination::External { owner, gateway, route } = range.target else { continue };
                    let own = !masqueraded.contains(&(gateway, tenant, owner, family));
                    let Some(there) = nodes.get(&owner).copied().filter(|_| own) else { continue };
                    let here = *nodes.entry(tenant).or_insert_with(|| graph.add_node(tenant));
                    let (lo, hi, by) = (range.lo, range.hi, By::Route(route));
                    graph.add_edge(here, there, Leg { family, lo, hi, real: lo, gateway, by });
                }
            }
        }
        Self { graph, externals }
    }

    /// Every leg into an external after which a packet may be handed on, by (external, tenant, family, address).
    #[must_use]
    pub fn onward(&self) -> Vec<Onward<'_>> {
        let owner = |node: NodeIndex| self.graph.node_weight(node).copied();
        let mut out = Vec::new();
        for external in &self.externals {
            let Some(here) = owner(*external) else { continue };
            let legs = |direction| self.graph.edges_directed(*external, direction);
            let mut outgoing: Vec<(OwnerId, &Leg)> = legs(Direction::Outgoing)
                .filter_map(|edge| Some((owner(edge.target())?, edge.weight())))
                .collect();
            outgoing.sort_by_key(|(_, leg)| (leg.family, leg.lo));
            let mut incoming: Vec<(OwnerId, &Leg)> = legs(Direction::Incoming)
                .filter_map(|edge| Some((owner(edge.source())?, edge.weight())))
                .collect();
            incoming.sort_by_key(|(from, leg)| (*from, leg.family, leg.lo));
            for (from, first) in incoming {
                // The legs out are disjoint.
                let at =
                    outgoing.partition_point(|(_, leg)| (leg.family, leg.hi) < (first.family, first.real));
                let last = first.real + (first.hi - first.lo);
                let meets = |(_, leg): &&(OwnerId, &Leg)| leg.family == first.family && leg.lo <= last;
                let next: Vec<(OwnerId, &Leg)> =
                    outgoing.iter().skip(at).take_while(meets).copied().collect();
                if !next.is_empty() {
                    out.push(Onward { from, external: here, first, next });
                }
            }
        }
        out
    }
}
