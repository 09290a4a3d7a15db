//! A node that hosts endpoints.

use super::links::{everything, hop};
use super::verdicts::{What, cell};
use super::{Lowering, by_family, segment_device};
use crate::iproute2::Target;
use crate::linux::ends::{self, Class, Scope, Stretch};
use crate::linux::model::{Atom, Direction, Drop, Table};
use crate::linux::numbers::{self, small};
use crate::linux::services;
use compiler::algebra::{Family, RangeSet, parse_addr};
use compiler::buckets;
use compiler::eval::Decision;
use compiler::ids::{EndpointId, GatewayId, NodeId, OwnerId, SegmentId};
use compiler::model::Gateway;
use lang::ast::AffinityWord;
use lang::codes::Code;
use lang::diag::Diagnostic;
use std::collections::{BTreeMap, BTreeSet};

/// Every range matters where a tenant has workloads.
struct Everything(NodeId);

impl Scope for Everything {
    fn gateway(&self, _: Option<GatewayId>) -> bool {
        true
    }
    fn node(&self) -> NodeId {
        self.0
    }
}

/// How a packet came in: what may be concluded from that.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Arrival {
    Workload,
    /// From the node that hosts the sender.
    Node,
    /// From the n-th gateway node.
    Instance(usize),
}

/// What one tenant has on the node.
struct Tenant {
    id: OwnerId,
    /// Position among the node's tenants.
    index: usize,
    endpoints: Vec<EndpointId>,
    /// Segments with an endpoint here: their VNIs arrive here.
    segments: BTreeSet<SegmentId>,
    /// Gateway nodes that its packets may come from, as positions in the node's list.
    instances: BTreeSet<usize>,
    /// Those that its own traffic is steered through.
    steering: Vec<usize>,
}

impl Lowering<'_> {
    pub(super) fn compute(&mut self) {
        let ids: Vec<OwnerId> = self.tenants_here().into_iter().collect();
        let gateways: BTreeMap<OwnerId, BTreeSet<GatewayId>> =
            ids.iter().map(|t| (*t, self.gateways_of(*t))).collect();
        let nodes: BTreeSet<NodeId> = gateways
            .values()
            .flatten()
            .flat_map(|g| self.c.model.gateways[*g].instances.iter().copied())
            .collect();
        self.verdicts.instances = nodes.into_iter().collect();
        if self.verdicts.instances.len() > numbers::MAX_INSTANCES {
            let node = &self.c.model.nodes[self.node];
            self.diagnostics.push(
                Diagnostic::new(
                    Code::PW0801,
                    node.span,
                    format!(
                        "node `{}` would send to {} gateway nodes, and the {} target can tell {} apart",
                        node.name,
                        self.verdicts.instances.len(),
                        self.dialect.name,
                        numbers::MAX_INSTANCES
                    ),
                )
                .label("this node's workloads reach too many instances")
                .help("put fewer tenants on one node, or let gateways share nodes"),
            );
            return;
        }
        for (index, tenant) in ids.into_iter().enumerate() {
            let mine = gateways.get(&tenant).cloned().unwrap_or_default();
            self.compute_tenant(index, tenant, &mine);
        }
    }

    /// The gateways that this tenant's packets pass.
    fn gateways_of(&self, tenant: OwnerId) -> BTreeSet<GatewayId> {
        let space = &self.c.spaces[tenant];
        let mut out = self.steering(tenant);
        for family in Family::BOTH {
            for range in space.destinations.family(family) {
                use compiler::compiled::Destination::{External, Import};
                if let Import { gateway, .. } | External { gateway, .. } = &range.target {
                    out.insert(*gateway);
                }
            }
            for range in space.sources.family(family) {
                use compiler::compiled::Source::{Client, External};
                if let Client { gateway, .. } | External { gateway, .. } = &range.target {
                    out.insert(*gateway);
                }
            }
        }
        out
    }

    fn positions(&self, gateway: GatewayId) -> Vec<usize> {
        let instances = &self.c.model.gateways[gateway].instances;
        self.verdicts
            .instances
            .iter()
            .enumerate()
            .filter(|(_, n)| instances.contains(n))
            .map(|(at, _)| at)
            .collect()
    }

    fn compute_tenant(&mut self, index: usize, id: OwnerId, gateways: &BTreeSet<GatewayId>) {
        let endpoints: Vec<EndpointId> = self
            .c
            .model
            .endpoints
            .iter()
            .filter(|(_, e)| e.tenant == id && e.node == self.node)
            .map(|(id, _)| id)
            .collect();
        let segments = endpoints.iter().map(|e| self.c.model.endpoints[*e].segment).collect();
        let instances = gateways.iter().flat_map(|g| self.positions(*g)).collect();
        let steering = self.steering(id).iter().flat_map(|g| self.positions(*g)).collect();
        let tenant = Tenant { id, index, endpoints, segments, instances, steering };
        self.served(&tenant);
        for &endpoint in &tenant.endpoints {
            self.workload(endpoint);
            self.ownership(endpoint);
        }
        self.tenant_table(id, &tenant.segments);
        self.contexts(&tenant);
        self.legs(&tenant);
        for family in Family::BOTH {
            let classes = ends::classes(self.c, &self.addresses, &Everything(self.node), id, family);
            self.legitimate(&tenant, family, &[&classes.sources, &classes.destinations]);
            for side in [&classes.sources, &classes.destinations] {
                self.hashes(&tenant, family, side);
                self.neighbours(&tenant, side);
            }
            self.openers(&tenant, family, &classes.sources);
            self.decisions(&tenant, family, &classes);
        }
    }

    fn served(&mut self, tenant: &Tenant) {
        let zone = numbers::tenant_zone(self.c.model.owners[tenant.id].id());
        let note = self.owner_note(tenant.id);
        let opener = || Some(Atom::Mark(numbers::opener(&self.c.model, tenant.id)));
        for &segment in &tenant.segments {
            let dev = segment_device(self.c, segment);
            self.rules.put(Table::Opener, vec![Atom::Device(dev)], opener(), note.clone());
        }
        for &endpoint in &tenant.endpoints {
            let dev = self.c.model.endpoints[endpoint].dev.clone();
            let note = self.endpoint_note(endpoint);
            self.rules.put(Table::Opener, vec![Atom::Device(dev)], opener(), note);
        }
        for &segment in &tenant.segments {
            let dev = self.vxlan(segment);
            let vni = self.c.model.segments[segment].vni;
            self.rules.put(Table::Vnis, vec![Atom::Vni(vni)], None, note.clone());
            self.rules.put(Table::Zone, vec![Atom::Device(dev)], Some(Atom::Zone(zone)), note.clone());
        }
        for &endpoint in &tenant.endpoints {
            let dev = self.c.model.endpoints[endpoint].dev.clone();
            let note = self.endpoint_note(endpoint);
            self.rules.put(Table::Zone, vec![Atom::Device(dev)], Some(Atom::Zone(zone)), note);
        }
    }

    /// What an endpoint may send as, and be asked for.
    fn ownership(&mut self, endpoint: EndpointId) {
        let e = &self.c.model.endpoints[endpoint];
        let note = self.endpoint_note(endpoint);
        let device = || Atom::Device(e.dev.clone());
        let mark = numbers::tenant_mark(self.c.model.owners[e.tenant].id());
        let vxlan = Atom::Device(segment_device(self.c, e.segment));
        let (table, key) = match e.mac {
            Some(mac) => (Table::OwnerMac, vec![device(), Atom::Mac(mac)]),
            None => (Table::OwnerBare, vec![device()]),
        };
        self.rules.put(table, key, None, note.clone());
        self.rules.put(Table::ArpMark, vec![device()], Some(Atom::Mark(mark)), note.clone());
        self.rules.put(Table::Home, vec![device()], Some(Atom::Mark(mark)), note.clone());
        for address in &e.addresses {
            let (family, value) = parse_addr(*address);
            let at = Atom::Address(family, value, value);
            let tables = by_family(family);
            self.rules.put(tables.here, vec![vxlan.clone(), at.clone()], None, note.clone());
            if let Some(router) = self.router(e.segment, family, value) {
                let value = Atom::Address(family, router, router);
                self.rules.put(tables.router, vec![device(), at.clone()], Some(value), note.clone());
            }
            let (table, key) = match e.mac {
                Some(mac) => (tables.owner, vec![device(), Atom::Mac(mac), at.clone()]),
                None => (tables.bare, vec![device(), at.clone()]),
            };
            self.rules.put(table, key.clone(), None, note.clone());
            if family == Family::V4 {
                let table = if e.mac.is_some() { Table::ArpOwner } else { Table::ArpBare };
                self.rules.put(table, key, None, note.clone());
                self.rules.put(Table::ArpSelf, vec![device(), at], None, note.clone());
            }
        }
    }

    /// The router address of the segment's prefix in which this address lies.
    fn router(&self, segment: SegmentId, family: Family, address: u128) -> Option<u128> {
        let prefixes = &self.c.model.segments[segment].prefixes;
        prefixes
            .iter()
            .find(|p| p.prefix.family == family && p.prefix.contains_addr(address))
            .map(|p| p.router)
    }

    fn arrivals(&self, tenant: &Tenant) -> Vec<Arrival> {
        let instances = tenant.instances.iter().map(|n| Arrival::Instance(*n));
        [Arrival::Workload, Arrival::Node].into_iter().chain(instances).collect()
    }

    fn context(&self, tenant: &Tenant, arrival: Arrival) -> u32 {
        let n = match arrival {
            Arrival::Workload => 0,
            Arrival::Node => 1,
            Arrival::Instance(n) => 2 + n,
        };
        numbers::CONTEXT | small(tenant.index << 5 | n)
    }

    fn contexts(&mut self, tenant: &Tenant) {
        let zone = numbers::tenant_zone(self.c.model.owners[tenant.id].id());
        let note = self.owner_note(tenant.id);
        for arrival in self.arrivals(tenant) {
            let (role, devices): (u32, Vec<String>) = match arrival {
                Arrival::Workload => {
                    (0, tenant.endpoints.iter().map(|e| self.c.model.endpoints[*e].dev.clone()).collect())
                }
                Arrival::Node => {
                    (numbers::ROLE_NODE, tenant.segments.iter().map(|s| segment_device(self.c, *s)).collect())
                }
                Arrival::Instance(n) => (
                    numbers::role_instance(n),
                    tenant.segments.iter().map(|s| segment_device(self.c, *s)).collect(),
                ),
            };
            let context = self.context(tenant, arrival);
            for device in devices {
                for direction in Direction::BOTH {
                    let key = vec![
                        Atom::Device(device.clone()),
                        Atom::Mark(role),
                        Atom::Zone(zone),
                        Atom::Direction(direction),
                    ];
                    self.rules.put(Table::Context, key, Some(Atom::Mark(context)), note.clone());
                }
            }
        }
    }

    /// From each of the tenant's segments here to each gateway node: a table with one way.
    fn legs(&mut self, tenant: &Tenant) {
        for &segment in &tenant.segments {
            let vni = self.c.model.segments[segment].vni;
            for &n in &tenant.instances {
                let Some(&node) = self.verdicts.instances.get(n) else { continue };
                let mark = numbers::leg_mark(n, vni);
                let dev = self.peer(segment, node);
                let there = &self.c.model.nodes[node];
                let note = format!("{} {}", there.name, self.place(there.span));
                self.table(mark, &note);
                for family in Family::BOTH {
                    let target = Target::Via { hop: hop(family, there.vtep), dev: dev.clone() };
                    self.route(mark, family, everything(family), target, note.clone());
                }
                let key = vec![Atom::Device(dev.clone()), Atom::Mark(numbers::role_instance(n))];
                self.rules.put(Table::Back, key, Some(Atom::Mark(mark)), note.clone());
                for &endpoint in &tenant.endpoints {
                    let e = &self.c.model.endpoints[endpoint];
                    if e.segment == segment {
                        let key = vec![Atom::Device(e.dev.clone()), Atom::Mark(numbers::INSTANCE | small(n))];
                        let note = self.endpoint_note(endpoint);
                        self.rules.put(Table::Leg, key, Some(Atom::Mark(mark)), note);
                        // SOUNDNESS: nothing goes by a leg to the tenant's own endpoints unless it is steered through the
                        // gateway, past which a route here would lead it.
                        if !tenant.steering.contains(&n) {
                            self.endpoint_route(mark, endpoint);
                        }
                    }
                }
            }
        }
    }

    /// Which sender may show which inner source under which VNI. Both sides at once: an external's ranges among the sources may
    /// overlap those among the destinations, and the map takes disjoint ones only.
    fn legitimate(&mut self, tenant: &Tenant, family: Family, sides: &[&[Class]]) {
        let tables = by_family(family);
        let vnis: Vec<u32> = tenant.segments.iter().map(|s| self.c.model.segments[*s].vni).collect();
        let mut ranges: BTreeMap<usize, Vec<(u128, u128)>> = BTreeMap::new();
        for member in sides.iter().copied().flatten().flat_map(|class| &class.members) {
            let from: Vec<usize> = match member.gateway {
                Some(gateway) => self.positions(gateway),
                None if member.end.owner == tenant.id => tenant.steering.clone(),
                None => Vec::new(),
            };
            let Some(endpoint) = member.endpoint else {
                for n in from {
                    ranges.entry(n).or_default().push((member.lo, member.hi));
                }
                continue;
            };
            let note = self.endpoint_note(endpoint);
            let home = self.c.model.endpoints[endpoint].node;
            let direct =
                (member.gateway.is_none() && home != self.node).then_some((home, numbers::ROLE_NODE));
            let instances = from.iter().filter_map(|n| {
                self.verdicts.instances.get(*n).map(|node| (*node, numbers::role_instance(*n)))
            });
            let senders: Vec<(NodeId, u32)> = direct.into_iter().chain(instances).collect();
            for (node, role) in senders {
                for &vni in &vnis {
                    let vtep = Atom::Vtep(self.c.model.nodes[node].vtep);
                    let key = vec![vtep, Atom::Vni(vni), Atom::Raw(family, member.lo, member.hi)];
                    self.rules.put(tables.legit, key, Some(Atom::Mark(role)), note.clone());
                }
            }
        }
        for (n, list) in ranges {
            let Some(&node) = self.verdicts.instances.get(n) else { continue };
            let vtep = self.c.model.nodes[node].vtep;
            for &vni in &vnis {
                for &(lo, hi) in RangeSet::from_ranges(list.clone()).ranges() {
                    let key = vec![Atom::Vtep(vtep), Atom::Vni(vni), Atom::Raw(family, lo, hi)];
                    let role = Atom::Mark(numbers::role_instance(n));
                    self.rules.put(
                        tables.legit_range,
                        key,
                        Some(role),
                        self.c.model.nodes[node].name.clone(),
                    );
                }
            }
        }
    }

    /// Who opens what a gateway, or a node behind a direct route, delivers to the tenant, by source.
    fn openers(&mut self, tenant: &Tenant, family: Family, sources: &[Class]) {
        let mut by_owner: BTreeMap<OwnerId, Vec<(u128, u128)>> = BTreeMap::new();
        for member in sources.iter().flat_map(|class| &class.members) {
            if member.end.owner != tenant.id {
                by_owner.entry(member.end.owner).or_default().push((member.lo, member.hi));
            }
        }
        for (owner, ranges) in by_owner {
            let note = self.owner_note(owner);
            for &(lo, hi) in RangeSet::from_ranges(ranges).ranges() {
                let own = Atom::Mark(numbers::opener(&self.c.model, tenant.id));
                let key = vec![own, Atom::Address(family, lo, hi)];
                let value = Atom::Mark(numbers::opener(&self.c.model, owner));
                self.rules.put(by_family(family).opener, key, Some(value), note.clone());
            }
        }
    }

    /// The cells of ends that are seen under other addresses than their own.
    fn hashes(&mut self, tenant: &Tenant, family: Family, classes: &[Class]) {
        let zone = numbers::tenant_zone(self.c.model.owners[tenant.id].id());
        for member in classes.iter().flat_map(|class| &class.members) {
            let Some(gateway) = member.gateway else { continue };
            let Gateway { instances, affinity, .. } = &self.c.model.gateways[gateway];
            // By the sender alone nobody asks where a packet goes.
            if instances.len() == 1 || *affinity == AffinityWord::Source || member.lo == member.end.address {
                continue;
            }
            let Some(endpoint) = member.endpoint else {
                self.translated_external(member);
                continue;
            };
            let key = vec![Atom::Zone(zone), Atom::Address(family, member.lo, member.hi)];
            let note = self.endpoint_note(endpoint);
            let real = member.end.address;
            let (table, value) = if *affinity == AffinityWord::Flow {
                (by_family(family).real, Atom::Address(family, real, real))
            } else {
                (by_family(family).hash, cell(buckets::end_hash(family, real)))
            };
            self.rules.put(table, key, Some(value), note);
        }
    }

    /// Ends of other tenants behind direct routes: their nodes are reached from this tenant's table.
    fn neighbours(&mut self, tenant: &Tenant, classes: &[Class]) {
        let mark = numbers::tenant_mark(self.c.model.owners[tenant.id].id());
        for member in classes.iter().flat_map(|class| &class.members) {
            if let Some(endpoint) = member.endpoint
                && member.gateway.is_none()
                && member.end.owner != tenant.id
            {
                self.endpoint_route(mark, endpoint);
            }
        }
    }

    fn translated_external(&mut self, member: &Stretch) {
        let owner = member.end.owner;
        let exposure =
            self.c.model.exposures.values().find(|e| e.translates_clients && e.clients_of(owner).is_some());
        let name = &self.c.model.owners[owner].name;
        self.diagnostics.push(
            Diagnostic::new(
                Code::PW0801,
                exposure.map_or_else(|| self.c.model.owners[owner].span, |e| e.clients_as_span),
                format!(
                    "the {} target cannot translate the external `{name}` on several instances",
                    self.dialect.name
                ),
            )
            .label("`clients as` covers an external here, and the gateway has several instances")
            .help("leave `clients as` away for externals, whose addresses are one space, or use a gateway of one instance"),
        );
    }

    fn decisions(&mut self, tenant: &Tenant, family: Family, classes: &ends::Classes) {
        let arrivals = self.arrivals(tenant);
        let tables = by_family(family);
        let space_owners: BTreeSet<OwnerId> = classes
            .sources
            .iter()
            .chain(&classes.destinations)
            .flat_map(|class| class.members.iter().map(|m| m.end.owner))
            .chain([tenant.id])
            .collect();
        let rules = ends::rules_of(self.c, space_owners);
        let sources: Vec<u32> = classes.sources.iter().map(|_| self.fresh_source(arrivals.len())).collect();
        let destinations: Vec<u32> = classes.destinations.iter().map(|_| self.fresh_destination()).collect();
        for (at, &arrival) in arrivals.iter().enumerate() {
            let context = self.context(tenant, arrival);
            for (class, &base) in classes.sources.iter().zip(&sources) {
                let value = Atom::Class(base + small(at));
                self.put_members(context, class, family, (tables.src, tables.src_range), &value);
            }
            for (class, &number) in classes.destinations.iter().zip(&destinations) {
                let value = Atom::Mark(number);
                self.put_members(context, class, family, (tables.dst, tables.dst_range), &value);
            }
        }
        self.clients_only(tenant, family);
        for (from, &from_number) in classes.sources.iter().zip(&sources) {
            for (to, &to_number) in classes.destinations.iter().zip(&destinations) {
                if !(from.here || to.here) {
                    continue;
                }
                let Some((s, d)) = representatives(from, to) else { continue };
                let probe = services::representative(tenant.id, family, s.lo, d.lo);
                let Some(decided) = services::decide(self.c, &rules, &probe, s.end.owner, d.end.owner) else {
                    continue;
                };
                let note = format!("{} -> {}", self.stretch_name(s), self.stretch_name(d));
                for (at, &arrival) in arrivals.iter().enumerate() {
                    if !self.possible(tenant, arrival, from, to, s, d) {
                        continue;
                    }
                    let verdicts: Vec<u32> = decided
                        .iter()
                        .map(|(_, decision)| self.compute_verdict(tenant, arrival, decision))
                        .collect();
                    let pair = self.pair_class(&decided, &verdicts);
                    let key = vec![Atom::Mark(to_number), Atom::Class(from_number + small(at))];
                    self.rules.put(Table::Pair, key, Some(Atom::Mark(pair)), note.clone());
                }
            }
        }
    }

    /// Addresses known only as clients': a destination class without pairs, so that they are `not-exposed`.
    fn clients_only(&mut self, tenant: &Tenant, family: Family) {
        let context = self.context(tenant, Arrival::Workload);
        for range in self.c.spaces[tenant.id].destinations.family(family) {
            if range.target == compiler::compiled::Destination::ClientOnly {
                let key = vec![Atom::Mark(context), Atom::Address(family, range.lo, range.hi)];
                let value = Some(Atom::Mark(numbers::CLIENT_ONLY));
                self.rules.put(by_family(family).dst_range, key, value, "clients");
            }
        }
    }

    /// Whether packets between these ends, in either direction, can come in so.
    fn possible(
        &self,
        tenant: &Tenant,
        arrival: Arrival,
        from: &Class,
        to: &Class,
        s: &Stretch,
        d: &Stretch,
    ) -> bool {
        let gateway = s.gateway.or(d.gateway);
        match arrival {
            Arrival::Workload => true,
            Arrival::Node => gateway.is_none() && !(from.here && to.here),
            Arrival::Instance(n) => match gateway {
                Some(gateway) => self.positions(gateway).contains(&n),
                None => s.end.owner == tenant.id && d.end.owner == tenant.id && tenant.steering.contains(&n),
            },
        }
    }

    fn compute_verdict(&mut self, tenant: &Tenant, arrival: Arrival, decision: &Decision) -> u32 {
        let mark = numbers::tenant_mark(self.c.model.owners[tenant.id].id());
        let go = What::Go { original: mark, reply: mark, xlat: None };
        let what = match (decision.allow, decision.via, arrival) {
            (false, _, _) => What::Drop(decision.reason.into()),
            (true, None, Arrival::Workload | Arrival::Node) => go,
            (true, Some(gateway), Arrival::Workload) => What::Via(gateway),
            (true, Some(gateway), Arrival::Instance(n)) if self.positions(gateway).contains(&n) => go,
            (true, ..) => What::Drop(Drop::BadVtep),
        };
        self.verdict(decision, what, tenant.id)
    }

    /// Consecutive source class numbers, one per arrival.
    pub(super) fn fresh_source(&mut self, count: usize) -> u32 {
        let first = numbers::SOURCE | (self.verdicts.sources + 1);
        self.verdicts.sources += small(count);
        first
    }

    pub(super) fn fresh_destination(&mut self) -> u32 {
        self.verdicts.destinations += 1;
        numbers::DESTINATION | self.verdicts.destinations
    }

    pub(super) fn put_members(
        &mut self,
        context: u32,
        class: &Class,
        family: Family,
        (exact, range): (Table, Table),
        value: &Atom,
    ) {
        for member in &class.members {
            let table = if member.endpoint.is_some() { exact } else { range };
            let key = vec![Atom::Mark(context), Atom::Address(family, member.lo, member.hi)];
            let note = self.stretch_name(member);
            self.rules.put(table, key, Some(value.clone()), note);
        }
    }

    /// `shop.web-1 tenants.pw:18`, `internet externals.pw:3`
    pub(super) fn stretch_name(&self, stretch: &Stretch) -> String {
        match stretch.endpoint {
            Some(endpoint) => self.endpoint_note(endpoint),
            None => self.owner_note(stretch.end.owner),
        }
    }
}

/// A member of each class that are two ends; `None` if both classes are the one same end.
pub(super) fn representatives<'c>(from: &'c Class, to: &'c Class) -> Option<(&'c Stretch, &'c Stretch)> {
    from.members.iter().find_map(|s| to.members.iter().find(|d| s.end != d.end).map(|d| (s, d)))
}
