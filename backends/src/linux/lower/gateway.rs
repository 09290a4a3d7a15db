//! A node that runs gateway instances.
//!
//! A connection is decided on the tuple with which it was opened, in the space of the owner who opened it. Its conntrack
//! zone belongs to the unordered pair of owners and is found by (space that the packet arrived in, destination as seen
//! there), so that both directions find one entry and no other pair's. Which space the original tuple is read in follows
//! from the arriving device, the zone and the direction; any other combination is refused.

use super::compute::representatives;
use super::links::everything;
use super::verdicts::What;
use super::{Lowering, by_family, segment_device};
use crate::iproute2::{Device, Noted, Target};
use crate::linux::ends::{self, Class, Classes, Scope};
use crate::linux::model::{Atom, Direction, Drop, Table};
use crate::linux::numbers::{self, small};
use crate::linux::services::{self, Decided};
use compiler::algebra::{Family, RangeSet, parse_addr};
use compiler::compiled::{Destination, Source};
use compiler::eval::{self, Decision, Resolution};
use compiler::ids::{EndpointId, ExposureId, GatewayId, NodeId, OwnerId, SegmentId};
use compiler::packet::Packet;
use lang::codes::Code;
use lang::diag::Diagnostic;
use std::collections::{BTreeMap, BTreeSet};

/// The ranges behind this node's gateways, and every owner's own.
pub(super) struct Instances {
    pub node: NodeId,
    pub gateways: BTreeSet<GatewayId>,
}

impl Scope for Instances {
    fn gateway(&self, gateway: Option<GatewayId>) -> bool {
        gateway.is_none_or(|g| self.gateways.contains(&g))
    }
    fn node(&self) -> NodeId {
        self.node
    }
}

/// Ranges as seen, by family.
pub(super) type Seen = BTreeMap<Family, Vec<(u128, u128)>>;

/// What the owners joined here see of each other.
#[derive(Default)]
pub(super) struct Joined {
    /// (space, other owner) → addresses that mean the other's ends in that space.
    pub seen: BTreeMap<(OwnerId, OwnerId), Seen>,
    tenants: BTreeSet<OwnerId>,
    externals: BTreeSet<OwnerId>,
}

impl Lowering<'_> {
    pub(super) fn gateway(&mut self) {
        let gateways = self.instances_here();
        let (stateful, stateless) = gateways.iter().partition(|g| self.c.model.gateways[**g].stateful);
        let scope = Instances { node: self.node, gateways };
        let joined = self.joined(&scope);
        for &tenant in &joined.tenants {
            self.gateway_tenant(tenant);
        }
        // SOUNDNESS: also those to which no flow is possible. A device that is attached and not ours would be an ordinary one
        // of the host, and what comes in by it would go by the host's own routes.
        let attaches = scope.gateways.iter().flat_map(|g| &self.c.model.gateways[*g].attaches);
        let attached = attaches.filter(|a| a.node == self.node).map(|a| a.external);
        let externals: BTreeSet<OwnerId> = joined.externals.iter().copied().chain(attached).collect();
        for external in externals {
            self.outside(external, &scope);
        }
        for &space in joined.tenants.iter().chain(&joined.externals) {
            let ambiguous = self.ways(space, &joined, &scope);
            self.verdicts.ambiguous.extend(ambiguous.into_iter().map(|external| (external, space)));
        }
        self.stateful(&Instances { node: self.node, gateways: stateful });
        self.stateless(&Instances { node: self.node, gateways: stateless });
    }

    /// What the gateways remember connections of.
    fn stateful(&mut self, scope: &Instances) {
        let joined = self.joined(scope);
        let zones = self.zones(&joined);
        self.unambiguous(&joined);
        self.zone_maps(&joined, &zones, scope);
        for (index, (&(space, other), _)) in joined.seen.iter().enumerate() {
            let context = numbers::CONTEXT | small(index);
            if let Some(&zone) = zones.get(&pair(space, other)) {
                self.gateway_contexts(space, other, zone, context, scope);
            }
            for family in Family::BOTH {
                self.gateway_decisions(space, other, family, context, scope);
            }
        }
    }

    fn instances_here(&self) -> BTreeSet<GatewayId> {
        let gateways = self.c.model.gateways.iter();
        gateways.filter(|(_, g)| g.instances.contains(&self.node)).map(|(id, _)| id).collect()
    }

    /// Every pair of owners that see each other through this node.
    pub(super) fn joined(&self, scope: &Instances) -> Joined {
        let mut out = Joined::default();
        let owners: BTreeSet<OwnerId> =
            scope.gateways.iter().flat_map(|g| self.c.model.gateways[*g].joins.iter().copied()).collect();
        for &space in &owners {
            for family in Family::BOTH {
                let here = |gateway: GatewayId| scope.gateways.contains(&gateway);
                let mut note = |other: OwnerId, lo: u128, hi: u128| {
                    out.seen.entry((space, other)).or_default().entry(family).or_default().push((lo, hi));
                };
                for range in self.c.spaces[space].destinations.family(family) {
                    match &range.target {
                        Destination::Import { owner, gateway, .. }
                        | Destination::External { owner, gateway, .. }
                            if here(*gateway) =>
                        {
                            note(*owner, range.lo, range.hi);
                        }
                        Destination::Local { .. }
                            if self.steering(space).iter().any(|g| scope.gateways.contains(g)) =>
                        {
                            note(space, range.lo, range.hi);
                        }
                        _ => {}
                    }
                }
                for range in self.c.spaces[space].sources.family(family) {
                    match &range.target {
                        Source::Client { owner, gateway, .. } | Source::External { owner, gateway, .. }
                            if here(*gateway) =>
                        {
                            note(*owner, range.lo, range.hi);
                        }
                        _ => {}
                    }
                }
            }
        }
        for &(a, b) in out.seen.keys() {
            for owner in [a, b] {
                let side = if self.c.model.owners[owner].is_tenant() {
                    &mut out.tenants
                } else {
                    &mut out.externals
                };
                side.insert(owner);
            }
        }
        // A pair is seen from both sides, also where one of them only answers.
        let pairs: Vec<(OwnerId, OwnerId)> = out.seen.keys().map(|(a, b)| (*b, *a)).collect();
        for pair in pairs {
            out.seen.entry(pair).or_default();
        }
        out
    }

    /// A zone for each unordered pair: by a digest of the names, the next free one where two meet.
    fn zones(&self, joined: &Joined) -> BTreeMap<(OwnerId, OwnerId), u16> {
        let pairs: BTreeSet<(OwnerId, OwnerId)> = joined.seen.keys().map(|(a, b)| pair(*a, *b)).collect();
        let mut used = BTreeSet::new();
        let mut out = BTreeMap::new();
        for (a, b) in pairs {
            let first = numbers::pair_zone(&self.c.model, a, b);
            let mut candidates = (first..=u16::MAX).chain(1..first);
            if let Some(zone) = candidates.find(|z| used.insert(*z)) {
                out.insert((a, b), zone);
            }
        }
        out
    }

    /// Two tenants that could send the same tuple to each other would share a conntrack entry.
    fn unambiguous(&mut self, joined: &Joined) {
        for (&(a, b), of_b) in joined.seen.iter().filter(|((a, b), _)| a < b) {
            let Some(of_a) = joined.seen.get(&(b, a)) else { continue };
            let tenants = self.c.model.owners[a].is_tenant() && self.c.model.owners[b].is_tenant();
            let own = |owner: OwnerId| &self.c.model.owners[owner].universe;
            if !tenants || !own(a).overlaps(own(b)) {
                continue;
            }
            let meets = Family::BOTH.iter().any(|family| {
                let set = |seen: &Seen| RangeSet::from_ranges(seen.get(family).cloned().unwrap_or_default());
                own(a).family(*family).overlaps(own(b).family(*family)) && set(of_a).overlaps(&set(of_b))
            });
            if !meets {
                continue;
            }
            let (name_a, name_b) = (&self.c.model.owners[a].name, &self.c.model.owners[b].name);
            let exposures = self.c.model.exposures.values();
            let span = exposures
                .filter(|e| {
                    (e.provider == a && e.clients_of(b).is_some())
                        || (e.provider == b && e.clients_of(a).is_some())
                })
                .map(|e| e.as_span)
                .min();
            self.diagnostics.push(
                Diagnostic::new(
                    Code::PW0801,
                    span.unwrap_or(self.c.model.owners[a].span),
                    format!(
                        "the {} target cannot tell the packets of `{name_a}` and `{name_b}` to each other apart",
                        self.dialect.name
                    ),
                )
                .label("each is presented to the other under the same prefix, and both have the same addresses")
                .help("present one of them under another prefix"),
            );
        }
    }

    fn gateway_tenant(&mut self, tenant: OwnerId) {
        let endpoints: Vec<EndpointId> =
            self.c.model.endpoints.iter().filter(|(_, e)| e.tenant == tenant).map(|(id, _)| id).collect();
        let id = self.c.model.owners[tenant].id();
        self.table(numbers::tenant_mark(id), &self.owner_note(tenant));
        for endpoint in endpoints {
            let e = &self.c.model.endpoints[endpoint];
            let note = self.endpoint_note(endpoint);
            let vni = self.c.model.segments[e.segment].vni;
            let dev = self.vxlan(e.segment);
            self.rules.put(Table::Vnis, vec![Atom::Vni(vni)], None, note.clone());
            let opener = Atom::Mark(numbers::opener(&self.c.model, tenant));
            self.rules.put(Table::Opener, vec![Atom::Device(dev.clone())], Some(opener), note.clone());
            let home = Atom::Mark(numbers::tenant_mark(id));
            self.rules.put(Table::Home, vec![Atom::Device(dev.clone())], Some(home), note.clone());
            self.rules.put(Table::Space, vec![Atom::Device(dev)], Some(Atom::Class(id)), note.clone());
            for address in &e.addresses {
                let (family, value) = parse_addr(*address);
                let vtep = Atom::Vtep(self.c.model.nodes[e.node].vtep);
                let key = vec![vtep, Atom::Vni(vni), Atom::Raw(family, value, value)];
                let role = Atom::Mark(numbers::ROLE_NODE);
                self.rules.put(by_family(family).legit, key, Some(role), note.clone());
            }
            self.endpoint_route(numbers::tenant_mark(id), endpoint);
        }
    }

    /// Devices and tables of an external.
    fn outside(&mut self, external: OwnerId, scope: &Instances) {
        let [mark, home] = [self.table_of(external), self.home_of(external)];
        for table in [mark, home] {
            self.table(table, &self.owner_note(external));
        }
        let attaches: Vec<_> = scope
            .gateways
            .iter()
            .flat_map(|g| self.c.model.gateways[*g].attaches.iter())
            .filter(|a| a.external == external && a.node == self.node)
            .collect();
        let mut done = BTreeSet::new();
        for attach in attaches {
            let note = self.place(attach.span);
            let space = Atom::Class(self.outside_space(external));
            let opener = Atom::Mark(numbers::opener(&self.c.model, external));
            self.rules.put(Table::Opener, vec![Atom::Device(attach.dev.clone())], Some(opener), note.clone());
            self.rules.put(Table::Space, vec![Atom::Device(attach.dev.clone())], Some(space), note.clone());
            let leads = Some(Atom::Mark(home));
            self.rules.put(Table::Home, vec![Atom::Device(attach.dev.clone())], leads, note.clone());
            let what = Device::Outside { name: attach.dev.clone() };
            if done.insert(attach.dev.clone()) {
                self.known_outside(external, &attach.dev);
                self.links.devices.push(Noted { what, note: note.clone() });
            }
            for &next in &attach.next_hops {
                let family = parse_addr(next).0;
                if done.insert(format!("{family:?}")) {
                    let target = Target::Via { hop: next, dev: attach.dev.clone() };
                    for table in [mark, home] {
                        self.route(table, family, everything(family), target.clone(), note.clone());
                    }
                }
            }
        }
    }

    /// The sources that an external's device may show.
    fn known_outside(&mut self, external: OwnerId, dev: &str) {
        let note = self.owner_note(external);
        for family in Family::BOTH {
            let sources = self.c.spaces[external].sources.family(family).iter().map(|r| (r.lo, r.hi));
            for &(lo, hi) in RangeSet::from_ranges(sources.collect()).ranges() {
                let key = vec![Atom::Device(dev.to_owned()), Atom::Address(family, lo, hi)];
                self.rules.put(by_family(family).outside, key, None, note.clone());
            }
        }
    }

    /// The number of an external's space: above every tenant's id.
    fn outside_space(&self, external: OwnerId) -> u32 {
        numbers::external_mark(&self.c.model.owners[external].name)
    }

    pub(super) fn space_number(&self, owner: OwnerId) -> u32 {
        let o = &self.c.model.owners[owner];
        if o.is_tenant() { o.id() } else { self.outside_space(owner) }
    }

    /// Which pair of owners a packet belongs to, by the space it arrived in and its destination there.
    fn zone_maps(&mut self, joined: &Joined, zones: &BTreeMap<(OwnerId, OwnerId), u16>, scope: &Instances) {
        for (&(space, other), seen) in &joined.seen {
            let Some(&zone) = zones.get(&pair(space, other)) else { continue };
            let note = format!("{} and {}", self.c.model.owners[space].name, self.c.model.owners[other].name);
            for family in Family::BOTH {
                let ranges = self.spoken_to((space, other), seen, family, scope);
                for &(lo, hi) in ranges.ranges() {
                    let key = vec![Atom::Class(self.space_number(space)), Atom::Address(family, lo, hi)];
                    self.rules.put(by_family(family).zone, key, Some(Atom::Zone(zone)), note.clone());
                }
            }
        }
    }

    /// Destinations by which packets that arrive in a space are told to be for another owner.
    pub(super) fn spoken_to(
        &self,
        (space, other): (OwnerId, OwnerId),
        seen: &Seen,
        family: Family,
        scope: &Instances,
    ) -> RangeSet {
        let mut ranges = seen.get(&family).cloned().unwrap_or_default();
        if !self.c.model.owners[space].is_tenant() {
            ranges.extend(self.answered(space, other, family, scope));
        }
        RangeSet::from_ranges(ranges)
    }

    /// Where an external's replies to a tenant go: the masquerade address, or the tenant's own addresses.
    pub(super) fn answered(
        &self,
        external: OwnerId,
        tenant: OwnerId,
        family: Family,
        scope: &Instances,
    ) -> Vec<(u128, u128)> {
        let routed = self.c.spaces[tenant].destinations.family(family).iter().any(|range| {
            matches!(range.target, Destination::External { owner, gateway, .. }
                if owner == external && scope.gateways.contains(&gateway))
        });
        if !routed {
            return Vec::new();
        }
        if let Some(address) = self.masquerade(tenant, external, family, scope) {
            return vec![(address, address)];
        }
        self.addresses.within(tenant, family, 0, family.max()).iter().map(|(a, _)| (*a, *a)).collect()
    }

    /// This instance's masquerade address.
    pub(super) fn masquerade(
        &self,
        tenant: OwnerId,
        external: OwnerId,
        family: Family,
        scope: &Instances,
    ) -> Option<u128> {
        scope.gateways.iter().find_map(|id| {
            let gateway = &self.c.model.gateways[*id];
            let at = gateway.instances.iter().position(|n| *n == self.node)?;
            let clause = gateway.masquerades.iter().find(|m| m.tenant == tenant && m.external == external)?;
            let mut of_family = clause.addresses.iter().map(|a| parse_addr(*a)).filter(|(f, _)| *f == family);
            of_family.nth(at).map(|(_, value)| value)
        })
    }

    /// Devices by which an owner's packets come in, with the mark that they then bear.
    fn doors(&self, owner: OwnerId, scope: &Instances) -> Vec<(String, u32)> {
        if self.c.model.owners[owner].is_tenant() {
            let endpoints = self.c.model.endpoints.values().filter(|e| e.tenant == owner);
            let segments: BTreeSet<SegmentId> = endpoints.map(|e| e.segment).collect();
            return segments.into_iter().map(|s| (segment_device(self.c, s), numbers::ROLE_NODE)).collect();
        }
        let attaches = scope.gateways.iter().flat_map(|g| self.c.model.gateways[*g].attaches.iter());
        let mine = attaches.filter(|a| a.external == owner && a.node == self.node);
        mine.map(|a| (a.dev.clone(), 0)).collect::<BTreeSet<_>>().into_iter().collect()
    }

    /// A connection opened in `space` towards `other`.
    fn gateway_contexts(
        &mut self,
        space: OwnerId,
        other: OwnerId,
        zone: u16,
        context: u32,
        scope: &Instances,
    ) {
        let note = format!("{} -> {}", self.c.model.owners[space].name, self.c.model.owners[other].name);
        for (owner, direction) in [(space, Direction::Original), (other, Direction::Reply)] {
            for (dev, role) in self.doors(owner, scope) {
                let door = vec![Atom::Device(dev.clone()), Atom::Zone(zone)];
                self.rules.put(Table::Door, door, None, note.clone());
                let key =
                    vec![Atom::Device(dev), Atom::Mark(role), Atom::Zone(zone), Atom::Direction(direction)];
                self.rules.put(Table::Context, key, Some(Atom::Mark(context)), note.clone());
            }
        }
    }

    pub(super) fn gateway_decisions(
        &mut self,
        space: OwnerId,
        other: OwnerId,
        family: Family,
        context: u32,
        scope: &Instances,
    ) {
        let Classes { sources, destinations } = ends::classes(self.c, &self.addresses, scope, space, family);
        let of = |classes: Vec<Class>, owner: OwnerId| -> Vec<Class> {
            let mine = |class: &Class| class.members.first().is_some_and(|m| m.end.owner == owner);
            classes.into_iter().filter(mine).collect()
        };
        let (sources, destinations) = (of(sources, space), of(destinations, other));
        let rules = ends::rules_of(self.c, [space, other]);
        let tables = by_family(family);
        let from_numbers: Vec<u32> = sources.iter().map(|_| self.fresh_source(1)).collect();
        let to_numbers: Vec<u32> = destinations.iter().map(|_| self.fresh_destination()).collect();
        for (class, number) in sources.iter().zip(&from_numbers) {
            self.put_members(context, class, family, (tables.src, tables.src_range), &Atom::Class(*number));
        }
        for (class, number) in destinations.iter().zip(&to_numbers) {
            self.put_members(context, class, family, (tables.dst, tables.dst_range), &Atom::Mark(*number));
        }
        for (from, from_number) in sources.iter().zip(&from_numbers) {
            for (to, to_number) in destinations.iter().zip(&to_numbers) {
                let Some((s, d)) = representatives(from, to) else { continue };
                let probe = services::representative(space, family, s.lo, d.lo);
                let Some(decided) = services::decide(self.c, &rules, &probe, space, other) else { continue };
                let verdicts = self.gateway_verdicts((space, other), &probe, &decided, scope);
                let note = format!("{} -> {}", self.stretch_name(s), self.stretch_name(d));
                let pair = self.pair_class(&decided, &verdicts);
                let key = vec![Atom::Mark(*to_number), Atom::Class(*from_number)];
                self.rules.put(Table::Pair, key, Some(Atom::Mark(pair)), note);
            }
        }
    }

    fn gateway_verdicts(
        &mut self,
        (space, other): (OwnerId, OwnerId),
        probe: &Packet,
        decided: &Decided,
        scope: &Instances,
    ) -> Vec<u32> {
        let tenant = if self.c.model.owners[space].is_tenant() { space } else { other };
        let mut out = Vec::with_capacity(decided.len());
        for (b, decision) in decided {
            let packet = Packet { protocol: b.proto.0, x: b.x.0, y: b.y.0, ..*probe };
            let what = match decision {
                Decision { allow: false, reason, .. } => What::Drop((*reason).into()),
                Decision { via: Some(gateway), .. } if !scope.gateways.contains(gateway) => {
                    What::Drop(Drop::BadVtep)
                }
                Decision { via: Some(gateway), .. } if !self.c.model.gateways[*gateway].stateful => {
                    self.pass((space, other), &packet, *gateway, false)
                }
                Decision { via: Some(gateway), .. } => {
                    let xlat = self.translation(&packet, *gateway, (space, other), scope);
                    What::Go { original: self.table_of(other), reply: self.table_of(space), xlat: Some(xlat) }
                }
                Decision { via: None, .. } => What::Drop(Drop::BadVtep),
            };
            out.push(self.verdict(decision, what, tenant));
        }
        out
    }

    pub(super) fn table_of(&self, owner: OwnerId) -> u32 {
        let o = &self.c.model.owners[owner];
        if o.is_tenant() { numbers::tenant_mark(o.id()) } else { numbers::external_mark(&o.name) }
    }

    /// The table by which errors about what an owner sends go back, and lead on what they are about.
    ///
    /// SOUNDNESS: packets to an external do not go by it. A tenant is seen there by addresses that are the external's own to the
    /// others, and what they send to those is not for the tenant.
    pub(super) fn home_of(&self, owner: OwnerId) -> u32 {
        let o = &self.c.model.owners[owner];
        if o.is_tenant() { self.table_of(owner) } else { numbers::external_home(&o.name) }
    }

    /// The number of the translation that a packet's connection is under; its entries are made with it. The number is
    /// a digest of the translation itself: a connection that was opened under another one is refused.
    fn translation(
        &mut self,
        packet: &Packet,
        gateway: GatewayId,
        (space, other): (OwnerId, OwnerId),
        scope: &Instances,
    ) -> u32 {
        let name = |o: OwnerId| self.c.model.owners[o].name.clone();
        let family = packet.family;
        let mut parts = vec![
            name(space),
            name(other),
            self.c.model.gateways[gateway].name.clone(),
            family.as_str().to_owned(),
        ];
        let exposure = match eval::resolve(self.c, packet) {
            Ok(Resolution::Flow { way, .. }) => way.exposure,
            _ => None,
        };
        if let Some(id) = exposure {
            let e = &self.c.model.exposures[id];
            parts.extend(e.presented.iter().map(|m| format!("to {} {}", m.real, m.seen)));
            let shown = e.shown.iter().filter(|(owner, _)| *owner == space);
            parts.extend(shown.map(|(_, m)| format!("from {} {}", m.real, m.seen)));
        }
        let masquerade = self.masquerade(space, other, family, scope);
        parts.extend(masquerade.map(|a| a.to_string()));
        let bytes: Vec<&[u8]> = parts.iter().map(String::as_bytes).collect();
        let xlat = numbers::digest32(&bytes);
        let known = self.verdicts.translations.entry(xlat).or_insert_with(|| parts.clone());
        if *known != parts {
            self.rules
                .contradictions
                .push(format!("{xlat:#010x} is the digest of {known:?} and of {parts:?}"));
        }
        if self.verdicts.ambiguous.contains(&(space, other)) {
            let reply = vec![Atom::Mark(xlat), Atom::Direction(Direction::Reply)];
            self.rules.put(Table::Unanswered, reply, None, format!("{} -> {}", name(space), name(other)));
        }
        match exposure {
            Some(id) => self.exposure_entries(xlat, id, space, family),
            None => {
                let note = format!("{} -> {}", name(space), name(other));
                self.rules.put(Table::KeepDst, vec![Atom::Mark(xlat)], None, note.clone());
                match masquerade {
                    Some(address) => {
                        let reply = vec![Atom::Mark(xlat), Atom::Direction(Direction::Reply)];
                        self.rules.put(Table::Unanswered, reply, None, note.clone());
                        let value = Atom::Address(family, address, address);
                        self.rules.put(by_family(family).masq, vec![Atom::Mark(xlat)], Some(value), note);
                    }
                    None => self.rules.put(Table::KeepSrc, vec![Atom::Mark(xlat)], None, note),
                }
            }
        }
        xlat
    }

    fn exposure_entries(&mut self, xlat: u32, id: ExposureId, client: OwnerId, family: Family) {
        let e = &self.c.model.exposures[id];
        let note = format!("{} {}", e.name, self.place(e.span));
        let mark = || Atom::Mark(xlat);
        let one = |a: u128| Atom::Address(family, a, a);
        let tables = by_family(family);
        if e.translates {
            for &(address, _) in self.addresses.within(e.provider, family, 0, family.max()) {
                if let Some(seen) = e.present(family, address) {
                    self.rules.put(tables.dnat, vec![mark(), one(seen)], Some(one(address)), note.clone());
                }
            }
        } else {
            self.rules.put(Table::KeepDst, vec![mark()], None, note.clone());
        }
        if !e.translates_clients {
            self.rules.put(Table::KeepSrc, vec![mark()], None, note);
            return;
        }
        if !self.c.model.owners[client].is_tenant() {
            for (_, mapping) in e.shown.iter().filter(|(o, m)| *o == client && m.real.family == family) {
                let key = vec![mark(), Atom::Address(family, mapping.real.lo(), mapping.real.hi())];
                let value = Atom::Address(family, mapping.seen.lo(), mapping.seen.hi());
                self.rules.put(tables.snat_net, key, Some(value), note.clone());
            }
            return;
        }
        for &(address, _) in self.addresses.within(client, family, 0, family.max()) {
            if let Some(seen) = e.show(client, family, address) {
                self.rules.put(tables.snat, vec![mark(), one(address)], Some(one(seen)), note.clone());
            }
        }
    }
}

fn pair(a: OwnerId, b: OwnerId) -> (OwnerId, OwnerId) {
    (a.min(b), a.max(b))
}
