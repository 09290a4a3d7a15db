//! The text of which digests are taken: each declaration field by field.

use super::Digest;
use crate::algebra::{AddrSet, Family, Prefix};
use crate::compiled::{Channel, ChannelKind, Compiled, Destination, Source, Space, SpaceMap};
use crate::ids::{Arena, ExposureId, GatewayId, Id as _, NodeId, OwnerId, RouteId, SegmentId};
use crate::model::{
    Action, Attach, Endpoint, Exposure, Fabric, Gateway, Host, Isolate, Mapping, Masquerade, Node, Owner,
    OwnerKind, Policy, Route, RouteTarget, Rule, Segment, SegmentPrefix, Test, TestClause, TestKind, Tier,
};
use crate::packet::Packet;
use crate::sets::{EndSet, PairSet, ServiceBox, ServiceSet};
use lang::ast::Date;
use lang::span::Span;
use std::net::IpAddr;

/// 128 bits of a name's digest, in the place of an id.
type Name = [u8; 16];

/// What ids stand for.
#[derive(Debug)]
pub(super) struct Names {
    owners: Vec<Name>,
    gateways: Vec<Name>,
    nodes: Vec<Name>,
    files: Vec<Name>,
}

fn name(parts: &[&str]) -> Name {
    let mut hasher = blake3::Hasher::new();
    for part in parts {
        hasher.update(&(part.len() as u64).to_le_bytes());
        hasher.update(part.as_bytes());
    }
    let mut out = [0; 16];
    hasher.finalize_xof().fill(&mut out);
    out
}

impl Names {
    pub(super) fn new(c: &Compiled, paths: &[&str]) -> Self {
        let model = &c.model;
        Self {
            owners: model
                .owners
                .values()
                .map(|o| name(&[if o.is_tenant() { "tenant" } else { "external" }, &o.name]))
                .collect(),
            gateways: model.gateways.values().map(|g| name(&[&g.name])).collect(),
            nodes: model.nodes.values().map(|n| name(&[&n.name])).collect(),
            files: paths.iter().map(|path| name(&[path])).collect(),
        }
    }
}

/// A text that is being written.
pub(super) struct Text<'n> {
    names: &'n Names,
    out: Vec<u8>,
}

impl<'n> Text<'n> {
    pub(super) fn new(names: &'n Names) -> Self {
        Self { names, out: Vec::with_capacity(1 << 12) }
    }

    pub(super) fn digest(&self) -> Digest {
        *blake3::hash(&self.out).as_bytes()
    }

    pub(super) fn bytes(&mut self, bytes: &[u8]) {
        self.out.extend_from_slice(bytes);
    }

    /// Tells variants and lists apart.
    pub(super) fn tag(&mut self, tag: u8) {
        self.out.push(tag);
    }

    pub(super) fn bool(&mut self, value: bool) {
        self.tag(u8::from(value));
    }

    fn u32(&mut self, value: u32) {
        self.bytes(&value.to_le_bytes());
    }

    fn count(&mut self, value: usize) {
        self.bytes(&(value as u64).to_le_bytes());
    }

    fn u128(&mut self, value: u128) {
        self.bytes(&value.to_le_bytes());
    }

    pub(super) fn str(&mut self, text: &str) {
        self.count(text.len());
        self.bytes(text.as_bytes());
    }

    pub(super) fn list<T>(&mut self, items: &[T], mut each: impl FnMut(&mut Self, &T)) {
        self.count(items.len());
        items.iter().for_each(|item| each(self, item));
    }

    fn option<T>(&mut self, value: Option<T>, each: impl FnOnce(&mut Self, T)) {
        match value {
            None => self.tag(0),
            Some(value) => {
                self.tag(1);
                each(self, value);
            }
        }
    }

    fn strings(&mut self, items: &[String]) {
        self.list(items, |text, item| text.str(item));
    }

    fn name_at(&mut self, list: &[Name], at: usize) {
        // INVARIANT: ids index the arenas that the names were taken from; a place outside of them would be told as none.
        self.bytes(list.get(at).map_or(&[0; 16], |name| name));
    }

    pub(super) fn owner(&mut self, id: OwnerId) {
        self.name_at(&self.names.owners, id.index());
    }

    fn gateway(&mut self, id: GatewayId) {
        self.name_at(&self.names.gateways, id.index());
    }

    fn node_name(&mut self, id: NodeId) {
        self.name_at(&self.names.nodes, id.index());
    }

    fn span(&mut self, span: Span) {
        let Span { file, start, end } = span;
        self.name_at(&self.names.files, file.0 as usize);
        self.u32(start);
        self.u32(end);
    }

    fn spans(&mut self, spans: &[Span]) {
        self.list(spans, |text, span| text.span(*span));
    }

    fn family(&mut self, family: Family) {
        self.tag(match family {
            Family::V4 => 4,
            Family::V6 => 6,
        });
    }

    fn ip(&mut self, address: IpAddr) {
        match address {
            IpAddr::V4(a) => {
                self.tag(4);
                self.bytes(&a.octets());
            }
            IpAddr::V6(a) => {
                self.tag(6);
                self.bytes(&a.octets());
            }
        }
    }

    fn ips(&mut self, addresses: &[IpAddr]) {
        self.list(addresses, |text, address| text.ip(*address));
    }

    fn prefix(&mut self, prefix: Prefix) {
        self.family(prefix.family);
        self.u128(prefix.lo());
        self.tag(prefix.len());
    }

    fn mapping(&mut self, mapping: Mapping) {
        let Mapping { real, seen } = mapping;
        self.prefix(real);
        self.prefix(seen);
    }

    fn addresses(&mut self, set: &AddrSet) {
        for family in Family::BOTH {
            self.list(set.family(family).ranges(), |text, (lo, hi)| {
                text.u128(*lo);
                text.u128(*hi);
            });
        }
    }

    fn ends(&mut self, set: &EndSet) {
        let EndSet { rest, owners } = set;
        self.addresses(rest);
        self.list(owners, |text, (owner, set)| {
            text.owner(*owner);
            text.addresses(set);
        });
    }

    fn service(&mut self, set: &ServiceSet) {
        let ServiceSet { boxes } = set;
        self.list(boxes, |text, one| {
            let ServiceBox { proto, x, y } = *one;
            text.bytes(&[proto.0, proto.1]);
            for value in [x.0, x.1, y.0, y.1] {
                text.bytes(&value.to_le_bytes());
            }
        });
    }

    fn date(&mut self, date: Date) {
        let Date { year, month, day } = date;
        self.bytes(&year.to_le_bytes());
        self.bytes(&[month, day]);
    }

    pub(super) fn fabric(&mut self, fabric: &Fabric) {
        let Fabric {
            name,
            encap,
            port,
            underlay_mtu,
            underlay_family,
            underlay_span,
            tiers,
            unknown_vni_log,
            stateless_replies,
            span,
        } = fabric;
        self.str(name);
        self.tag(*encap as u8);
        self.bytes(&port.to_le_bytes());
        self.u32(*underlay_mtu);
        self.family(*underlay_family);
        self.option(*underlay_span, Self::span);
        self.list(tiers, |text, tier| {
            let Tier { name, delegated } = tier;
            text.str(name);
            text.bool(*delegated);
        });
        self.bool(*unknown_vni_log);
        self.option(stateless_replies.as_deref(), Self::str);
        self.span(*span);
    }

    pub(super) fn node(&mut self, node: &Node) {
        let Node { name, vtep, vtep_span, dev, gateway, span } = node;
        self.str(name);
        self.ip(*vtep);
        self.span(*vtep_span);
        self.str(dev);
        self.bool(*gateway);
        self.span(*span);
    }

    pub(super) fn gateways(&mut self, gateways: &Arena<GatewayId, Gateway>) {
        self.list(gateways.as_slice(), |text, gateway| {
            let Gateway {
                name,
                joins,
                joins_span,
                instances,
                instance_spans,
                affinity,
                affinity_span,
                stateful,
                on_failure,
                attaches,
                masquerades,
                span,
            } = gateway;
            text.str(name);
            text.list(joins, |text, owner| text.owner(*owner));
            text.span(*joins_span);
            text.list(instances, |text, node| text.node_name(*node));
            text.spans(instance_spans);
            text.tag(*affinity as u8);
            text.span(*affinity_span);
            text.bool(*stateful);
            text.tag(*on_failure as u8);
            text.list(attaches, |text, attach| {
                let Attach { external, node, dev, next_hops, docs, span } = attach;
                text.owner(*external);
                text.node_name(*node);
                text.str(dev);
                text.ips(next_hops);
                text.strings(docs);
                text.span(*span);
            });
            text.list(masquerades, |text, masquerade| {
                let Masquerade { tenant, external, addresses, as_span, docs, span } = masquerade;
                text.owner(*tenant);
                text.owner(*external);
                text.ips(addresses);
                text.span(*as_span);
                text.strings(docs);
                text.span(*span);
            });
            text.span(*span);
        });
    }

    pub(super) fn declared_owner(&mut self, owner: &Owner) {
        let Owner { name, kind, prefixes, universe, prefix_spans, id_span, span } = owner;
        self.str(name);
        match kind {
            OwnerKind::Tenant { id } => {
                self.tag(1);
                self.u32(*id);
            }
            OwnerKind::External => self.tag(2),
        }
        self.list(prefixes, |text, prefix| text.prefix(*prefix));
        self.addresses(universe);
        self.spans(prefix_spans);
        self.span(*id_span);
        self.span(*span);
    }

    pub(super) fn segment(&mut self, segment: &Segment) {
        let Segment { tenant, name, vni, vni_span, prefixes, mtu, mtu_span, docs, span } = segment;
        self.owner(*tenant);
        self.str(name);
        self.u32(*vni);
        self.span(*vni_span);
        self.list(prefixes, |text, one| {
            let SegmentPrefix { prefix, router, span } = one;
            text.prefix(*prefix);
            text.u128(*router);
            text.span(*span);
        });
        self.u32(*mtu);
        self.option(*mtu_span, Self::span);
        self.strings(docs);
        self.span(*span);
    }

    fn segment_name(&mut self, c: &Compiled, id: SegmentId) {
        let segment = &c.model.segments[id];
        self.owner(segment.tenant);
        self.str(&segment.name);
    }

    pub(super) fn host(&mut self, c: &Compiled, host: &Host) {
        let Host { tenant, name, segment, addresses, address_spans, mac, mac_span } = host;
        self.owner(*tenant);
        self.str(name);
        self.segment_name(c, *segment);
        self.ips(addresses);
        self.spans(address_spans);
        self.option(*mac, |text, mac| text.bytes(&mac));
        self.span(*mac_span);
    }

    pub(super) fn endpoint(&mut self, c: &Compiled, endpoint: &Endpoint) {
        let Endpoint {
            tenant,
            name,
            segment,
            addresses,
            address_spans,
            mac,
            mac_span,
            node,
            node_span,
            dev,
            dev_span,
            tags,
            docs,
            span,
        } = endpoint;
        self.owner(*tenant);
        self.str(name);
        self.segment_name(c, *segment);
        self.ips(addresses);
        self.spans(address_spans);
        self.option(*mac, |text, mac| text.bytes(&mac));
        self.span(*mac_span);
        self.node_name(*node);
        self.span(*node_span);
        self.str(dev);
        self.span(*dev_span);
        self.strings(tags);
        self.strings(docs);
        self.span(*span);
    }

    pub(super) fn route(&mut self, c: &Compiled, route: &Route) {
        let Route { tenant, prefix, prefix_span, target, target_span, docs, span } = route;
        self.owner(*tenant);
        self.prefix(*prefix);
        self.span(*prefix_span);
        match target {
            RouteTarget::Via(gateway) => {
                self.tag(1);
                self.gateway(*gateway);
            }
            RouteTarget::Direct { segment, why } => {
                self.tag(2);
                self.segment_name(c, *segment);
                self.str(why);
            }
        }
        self.span(*target_span);
        self.strings(docs);
        self.span(*span);
    }

    pub(super) fn exposure(&mut self, exposure: &Exposure) {
        let Exposure {
            name,
            // The order of names, which are told.
            rank: _,
            provider,
            set,
            service,
            clients,
            gateway,
            presented,
            shown,
            translates,
            translates_clients,
            set_span,
            to_span,
            via_span,
            as_span,
            clients_as_span,
            docs,
            span,
            head,
        } = exposure;
        self.str(name);
        self.owner(*provider);
        self.addresses(set);
        self.service(service);
        self.list(clients, |text, (owner, set)| {
            text.owner(*owner);
            text.addresses(set);
        });
        self.gateway(*gateway);
        self.list(presented, |text, mapping| text.mapping(*mapping));
        self.list(shown, |text, (owner, mapping)| {
            text.owner(*owner);
            text.mapping(*mapping);
        });
        self.bool(*translates);
        self.bool(*translates_clients);
        self.spans(&[*set_span, *to_span, *via_span, *as_span, *clients_as_span, *span, *head]);
        self.strings(docs);
    }

    pub(super) fn policy(&mut self, c: &Compiled, policy: &Policy) {
        let Policy { name, owner, tier, overrides, rules, span } = policy;
        self.str(name);
        self.option(*owner, Self::owner);
        self.count(*tier);
        self.list(overrides, |text, other| text.str(&c.model.policies[*other].name));
        self.list(rules, |text, rule| text.rule(&c.model.rules[*rule]));
        self.span(*span);
    }

    fn rule(&mut self, rule: &Rule) {
        let Rule {
            // The one in whose list it stands.
            policy: _,
            name,
            // The order of names, which are told.
            rank: _,
            pairs,
            pairs_span,
            service,
            action,
            via_span,
            log,
            expires,
            expires_span,
            because,
            docs,
            span,
        } = rule;
        self.str(name);
        match pairs {
            PairSet::SameTenant => self.tag(1),
            PairSet::Sets(src, dst) => {
                self.tag(2);
                self.ends(src);
                self.ends(dst);
            }
        }
        self.service(service);
        match action {
            Action::Allow { via } => {
                self.tag(1);
                self.option(*via, Self::gateway);
            }
            Action::Deny => self.tag(2),
            Action::Pass => self.tag(3),
        }
        self.bool(*log);
        self.option(*expires, Self::date);
        self.option(because.as_deref(), Self::str);
        self.strings(docs);
        self.spans(&[*pairs_span, *via_span, *expires_span, *span]);
    }

    fn exposures(&mut self, c: &Compiled, ids: &[ExposureId]) {
        self.list(ids, |text, id| text.str(&c.model.exposures[*id].name));
    }

    fn route_of(&mut self, c: &Compiled, id: RouteId) {
        self.route(c, &c.model.routes[id]);
    }

    pub(super) fn space(&mut self, c: &Compiled, space: &Space) {
        let Space { destinations, sources } = space;
        self.map(destinations, |text, target| match target {
            Destination::Local { segment } => {
                text.tag(1);
                text.segment_name(c, *segment);
            }
            Destination::Import { owner, real, gateway, exposures } => {
                text.tag(2);
                text.owner(*owner);
                text.u128(*real);
                text.gateway(*gateway);
                text.exposures(c, exposures);
            }
            Destination::External { owner, gateway, route } => {
                text.tag(3);
                text.owner(*owner);
                text.gateway(*gateway);
                text.route_of(c, *route);
            }
            Destination::Direct { owner, segment, route } => {
                text.tag(4);
                text.owner(*owner);
                text.segment_name(c, *segment);
                text.route_of(c, *route);
            }
            Destination::ClientOnly => text.tag(5),
            Destination::Nowhere => text.tag(6),
        });
        self.map(sources, |text, source| match source {
            Source::Local { segment } => {
                text.tag(1);
                text.segment_name(c, *segment);
            }
            Source::Client { owner, real, gateway, exposures } => {
                text.tag(2);
                text.owner(*owner);
                text.u128(*real);
                text.gateway(*gateway);
                text.exposures(c, exposures);
            }
            Source::External { owner, real, gateway, exposures } => {
                text.tag(3);
                text.owner(*owner);
                text.u128(*real);
                text.gateway(*gateway);
                text.exposures(c, exposures);
            }
            Source::Direct { owner, route } => {
                text.tag(4);
                text.owner(*owner);
                text.route_of(c, *route);
            }
            Source::Own => text.tag(5),
        });
    }

    fn map<T>(&mut self, map: &SpaceMap<T>, mut target: impl FnMut(&mut Self, &T)) {
        let SpaceMap { v4, v6 } = map;
        for ranges in [v4, v6] {
            self.list(ranges, |text, range| {
                text.u128(range.lo);
                text.u128(range.hi);
                target(text, &range.target);
            });
        }
    }

    pub(super) fn channel(&mut self, c: &Compiled, channel: &Channel) {
        let Channel { kind, src, dst, src_set, dst_set, service, gateway } = channel;
        match kind {
            ChannelKind::Intra => self.tag(1),
            ChannelKind::Exposed(id) => {
                self.tag(2);
                self.str(&c.model.exposures[*id].name);
            }
            ChannelKind::ToExternal(gateway) => {
                self.tag(3);
                self.gateway(*gateway);
            }
            ChannelKind::Direct(id) => {
                self.tag(4);
                self.route_of(c, *id);
            }
        }
        self.owner(*src);
        self.owner(*dst);
        self.addresses(src_set);
        self.addresses(dst_set);
        self.service(service);
        self.option(*gateway, Self::gateway);
    }

    pub(super) fn isolate(&mut self, isolate: &Isolate) {
        let Isolate { what, from, transitively, allowing, docs, span } = isolate;
        self.ends(what);
        self.ends(from);
        self.bool(*transitively);
        self.option(allowing.as_ref(), |text, (service, gateway)| {
            text.service(service);
            text.gateway(*gateway);
        });
        self.strings(docs);
        self.span(*span);
    }

    pub(super) fn test(&mut self, test: &Test) {
        let Test { name, clauses, span } = test;
        self.str(name);
        self.list(clauses, |text, clause| {
            let TestClause { kind, span } = clause;
            match kind {
                TestKind::Flows { quantifier, src, dst, service, via } => {
                    text.tag(1);
                    text.tag(*quantifier as u8);
                    text.ends(src);
                    text.ends(dst);
                    text.service(service);
                    text.option(*via, Self::gateway);
                }
                TestKind::Packet { packet, allow, via, by } => {
                    text.tag(2);
                    let Packet { space, family, src, dst, protocol, x, y } = packet;
                    text.owner(*space);
                    text.family(*family);
                    text.u128(*src);
                    text.u128(*dst);
                    text.tag(*protocol);
                    text.bytes(&x.to_le_bytes());
                    text.bytes(&y.to_le_bytes());
                    text.bool(*allow);
                    text.option(*via, Self::gateway);
                    text.option(by.as_deref(), Self::str);
                }
            }
            text.span(*span);
        });
        self.span(*span);
    }
}
