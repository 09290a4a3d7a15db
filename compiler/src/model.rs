//! The typed model: every declaration with its names resolved to ids, before routing is composed.
//!
//! All arenas are ordered by name (rules by policy and position, exposures by [`Exposure::name`]'s provider, number and
//! row), never by file or by position in a file.

use crate::algebra::{AddrSet, Family, Prefix, parse_addr};
use crate::ids::{
    Arena, EndpointId, ExposureId, GatewayId, NodeId, OwnerId, PolicyId, RouteId, RuleId, SegmentId,
};
use crate::packet::Packet;
use crate::sets::{EndSet, PairSet, ServiceSet};
use lang::ast::{AffinityWord, Date, EncapKind, OnFailureWord, Quantifier};
use lang::span::Span;
use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

/// Everything that was declared.
#[derive(Debug, Clone, Default)]
pub struct Model {
    pub fabric: Fabric,
    pub owners: Arena<OwnerId, Owner>,
    pub segments: Arena<SegmentId, Segment>,
    pub nodes: Arena<NodeId, Node>,
    pub gateways: Arena<GatewayId, Gateway>,
    /// Those with a node and a device: what is forwarded to.
    pub endpoints: Arena<EndpointId, Endpoint>,
    /// The addresses of every declared endpoint, placed on a node or not, in the order of (tenant, name).
    pub hosts: Vec<Host>,
    pub routes: Arena<RouteId, Route>,
    pub exposures: Arena<ExposureId, Exposure>,
    pub policies: Arena<PolicyId, Policy>,
    pub rules: Arena<RuleId, Rule>,
    pub isolates: Vec<Isolate>,
    pub tests: Vec<Test>,
    /// Owners some of whose declarations were left out because they are in error, ascending: what is proved about their
    /// flows would not hold for the policy that was meant.
    pub tainted: Vec<OwnerId>,
}

#[derive(Debug, Clone)]
pub struct Fabric {
    pub name: String,
    pub encap: EncapKind,
    /// UDP destination port of the encapsulation.
    pub port: u16,
    /// Bytes.
    pub underlay_mtu: u32,
    pub underlay_family: Family,
    /// Where both are written; `None`: they are missing or in error, and nothing is judged by them.
    pub underlay_span: Option<Span>,
    /// Highest first.
    pub tiers: Vec<Tier>,
    pub unknown_vni_log: bool,
    pub stateless_replies: Option<String>,
    pub span: Span,
}

impl Default for Fabric {
    fn default() -> Self {
        Self {
            name: String::new(),
            encap: EncapKind::Vxlan,
            port: 4789,
            underlay_mtu: 1500,
            underlay_family: Family::V4,
            underlay_span: None,
            tiers: Vec::new(),
            unknown_vni_log: false,
            stateless_replies: None,
            span: Span::default(),
        }
    }
}

impl Fabric {
    /// Bytes that the encapsulation adds to an inner IP packet: outer IP, UDP, VXLAN or Geneve header (RFC 7348,
    /// RFC 8926 without options) and the inner Ethernet header.
    #[must_use]
    pub fn overhead(&self) -> u32 {
        match self.underlay_family {
            Family::V4 => 20 + 8 + 8 + 14,
            Family::V6 => 40 + 8 + 8 + 14,
        }
    }

    /// The position of the lowest delegated tier, after which an exposure stands.
    #[must_use]
    pub fn lowest_delegated(&self) -> Option<usize> {
        self.tiers.iter().rposition(|tier| tier.delegated)
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tier {
    pub name: String,
    /// Whether tenants' policies may stand in it.
    pub delegated: bool,
}

#[derive(Debug, Clone)]
pub struct Owner {
    pub name: String,
    pub kind: OwnerKind,
    /// A tenant's segments' prefixes, an external's own.
    pub prefixes: Vec<Prefix>,
    /// The union of `prefixes`.
    pub universe: AddrSet,
    /// One per prefix.
    pub prefix_spans: Vec<Span>,
    /// A tenant's `id`.
    pub id_span: Span,
    /// The name.
    pub span: Span,
}

impl Owner {
    #[must_use]
    pub fn is_tenant(&self) -> bool {
        matches!(self.kind, OwnerKind::Tenant { .. })
    }

    /// The tenant's id; 0 for an external.
    #[must_use]
    pub fn id(&self) -> u32 {
        match self.kind {
            OwnerKind::Tenant { id } => id,
            OwnerKind::External => 0,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OwnerKind {
    /// `id` is 1..=16777215.
    Tenant {
        id: u32,
    },
    External,
}

#[derive(Debug, Clone)]
pub struct Segment {
    pub tenant: OwnerId,
    pub name: String,
    /// 1..=16777215
    pub vni: u32,
    pub vni_span: Span,
    pub prefixes: Vec<SegmentPrefix>,
    /// Bytes; the effective one.
    pub mtu: u32,
    /// Where `mtu` was written; `None`: it is the largest that fits.
    pub mtu_span: Option<Span>,
    pub docs: Vec<String>,
    pub span: Span,
}

#[derive(Debug, Clone)]
pub struct SegmentPrefix {
    pub prefix: Prefix,
    /// The router's address, within `prefix`.
    pub router: u128,
    pub span: Span,
}

#[derive(Debug, Clone)]
pub struct Node {
    pub name: String,
    pub vtep: IpAddr,
    pub vtep_span: Span,
    pub dev: String,
    pub gateway: bool,
    pub span: Span,
}

#[derive(Debug, Clone)]
pub struct Gateway {
    pub name: String,
    /// Tenants and externals, ascending.
    pub joins: Vec<OwnerId>,
    pub joins_span: Span,
    /// In the order written: `masquerade` addresses go by it.
    pub instances: Vec<NodeId>,
    /// One per instance.
    pub instance_spans: Vec<Span>,
    pub affinity: AffinityWord,
    /// Where it was written, or the name.
    pub affinity_span: Span,
    pub stateful: bool,
    pub on_failure: OnFailureWord,
    pub attaches: Vec<Attach>,
    pub masquerades: Vec<Masquerade>,
    pub span: Span,
}

impl Gateway {
    /// The addresses that stand for a tenant's own in its flows to an external, of one family, one per instance in the order
    /// of [`Gateway::instances`]; none: the flows keep their own.
    #[must_use]
    pub fn masquerade(&self, tenant: OwnerId, external: OwnerId, family: Family) -> Vec<u128> {
        let clauses = self.masquerades.iter().filter(|m| (m.tenant, m.external) == (tenant, external));
        let addresses = clauses.flat_map(|m| &m.addresses).map(|a| parse_addr(*a));
        addresses.filter(|(f, _)| *f == family).map(|(_, address)| address).collect()
    }
}

impl Model {
    /// Whose flows to which external have other addresses behind which gateway, in which family.
    #[must_use]
    pub fn masqueraded(&self) -> BTreeSet<(GatewayId, OwnerId, OwnerId, Family)> {
        let clauses = self.gateways.iter().flat_map(|(id, g)| g.masquerades.iter().map(move |m| (id, m)));
        let of = |(id, m): (GatewayId, &Masquerade)| {
            let (tenant, external) = (m.tenant, m.external);
            let families: BTreeSet<Family> = m.addresses.iter().map(|a| parse_addr(*a).0).collect();
            families.into_iter().map(move |family| (id, tenant, external, family))
        };
        clauses.flat_map(of).collect()
    }
}

#[derive(Debug, Clone)]
pub struct Attach {
    pub external: OwnerId,
    pub node: NodeId,
    pub dev: String,
    pub next_hops: Vec<IpAddr>,
    pub docs: Vec<String>,
    pub span: Span,
}

#[derive(Debug, Clone)]
pub struct Masquerade {
    pub tenant: OwnerId,
    pub external: OwnerId,
    /// One per instance and family, in the order of [`Gateway::instances`].
    pub addresses: Vec<IpAddr>,
    pub as_span: Span,
    pub docs: Vec<String>,
    pub span: Span,
}

/// What an endpoint is, wherever it lives.
#[derive(Debug, Clone)]
pub struct Host {
    pub tenant: OwnerId,
    pub name: String,
    pub segment: SegmentId,
    pub addresses: Vec<IpAddr>,
    /// One per address.
    pub address_spans: Vec<Span>,
    pub mac: Option<[u8; 6]>,
    pub mac_span: Span,
}

#[derive(Debug, Clone)]
pub struct Endpoint {
    pub tenant: OwnerId,
    pub name: String,
    pub segment: SegmentId,
    pub addresses: Vec<IpAddr>,
    /// One per address.
    pub address_spans: Vec<Span>,
    pub mac: Option<[u8; 6]>,
    pub mac_span: Span,
    pub node: NodeId,
    pub node_span: Span,
    pub dev: String,
    pub dev_span: Span,
    pub tags: Vec<String>,
    pub docs: Vec<String>,
    pub span: Span,
}

#[derive(Debug, Clone)]
pub struct Route {
    pub tenant: OwnerId,
    pub prefix: Prefix,
    pub prefix_span: Span,
    pub target: RouteTarget,
    pub target_span: Span,
    pub docs: Vec<String>,
    pub span: Span,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RouteTarget {
    /// To the externals that the gateway joins.
    Via(GatewayId),
    /// To another tenant's segment, untranslated, past every gateway.
    Direct { segment: SegmentId, why: String },
}

/// One row of an `expose`: provider, service and gateway with one client set.
#[derive(Debug, Clone)]
pub struct Exposure {
    /// `tenant.label#row` or `tenant.expose#n#row`
    pub name: String,
    /// Position among all rule and exposure names in byte order.
    pub rank: u32,
    pub provider: OwnerId,
    /// S: real addresses of the provider.
    pub set: AddrSet,
    pub service: Arc<ServiceSet>,
    /// C by owner, ascending, without the provider; clipped to the owners' prefixes, never empty sets.
    pub clients: Vec<(OwnerId, AddrSet)>,
    pub gateway: GatewayId,
    /// S in the fewest prefixes, each with the equally long prefix under which clients see it.
    pub presented: Vec<Mapping>,
    /// C in the fewest prefixes by owner, each with the prefix under which the provider sees it.
    pub shown: Vec<(OwnerId, Mapping)>,
    /// Whether `as`, `clients as` were written.
    pub translates: bool,
    pub translates_clients: bool,
    pub set_span: Span,
    pub to_span: Span,
    pub via_span: Span,
    /// `as …`, `clients as …`; the place where they would stand if they are missing.
    pub as_span: Span,
    pub clients_as_span: Span,
    pub docs: Vec<String>,
    /// The row.
    pub span: Span,
    /// The `expose` as a whole up to its rows.
    pub head: Span,
}

impl Exposure {
    /// The clients of one owner.
    #[must_use]
    pub fn clients_of(&self, owner: OwnerId) -> Option<&AddrSet> {
        self.clients.iter().find(|(o, _)| *o == owner).map(|(_, set)| set)
    }

    /// The address under which this real address of the provider is presented.
    #[must_use]
    pub fn present(&self, family: Family, address: u128) -> Option<u128> {
        self.presented.iter().find_map(|m| m.apply(family, address))
    }

    /// The address under which this client is shown to the provider.
    #[must_use]
    pub fn show(&self, owner: OwnerId, family: Family, address: u128) -> Option<u128> {
        self.shown.iter().filter(|(o, _)| *o == owner).find_map(|(_, m)| m.apply(family, address))
    }
}

/// A 1:1 prefix translation (host bits kept); both prefixes have one family and one length.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mapping {
    pub real: Prefix,
    pub seen: Prefix,
}

impl Mapping {
    /// Real to seen.
    #[must_use]
    pub fn apply(&self, family: Family, address: u128) -> Option<u128> {
        (self.real.family == family && self.real.contains_addr(address))
            .then(|| address - self.real.lo() + self.seen.lo())
    }
}

#[derive(Debug, Clone)]
pub struct Policy {
    pub name: String,
    /// `None`: the platform.
    pub owner: Option<OwnerId>,
    /// Index into [`Fabric::tiers`].
    pub tier: usize,
    /// Transitive closure of `overrides`, ascending.
    pub overrides: Vec<PolicyId>,
    /// In order.
    pub rules: Vec<RuleId>,
    pub span: Span,
}

#[derive(Debug, Clone)]
pub struct Rule {
    pub policy: PolicyId,
    /// `policy.label` or `policy#n`
    pub name: String,
    /// Position among all rule and exposure names in byte order.
    pub rank: u32,
    pub pairs: PairSet,
    pub pairs_span: Span,
    pub service: Arc<ServiceSet>,
    pub action: Action,
    /// `via G`, or the rule.
    pub via_span: Span,
    pub log: bool,
    pub expires: Option<Date>,
    pub expires_span: Span,
    pub because: Option<String>,
    pub docs: Vec<String>,
    pub span: Span,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Action {
    Allow { via: Option<GatewayId> },
    Deny,
    Pass,
}

#[derive(Debug, Clone)]
pub struct Isolate {
    pub what: Arc<EndSet>,
    /// For `any`: without the owners in `what`.
    pub from: Arc<EndSet>,
    pub transitively: bool,
    pub allowing: Option<(Arc<ServiceSet>, GatewayId)>,
    pub docs: Vec<String>,
    pub span: Span,
}

#[derive(Debug, Clone)]
pub struct Test {
    pub name: String,
    pub clauses: Vec<TestClause>,
    pub span: Span,
}

#[derive(Debug, Clone)]
pub struct TestClause {
    pub kind: TestKind,
    pub span: Span,
}

#[derive(Debug, Clone)]
pub enum TestKind {
    Flows {
        quantifier: Quantifier,
        src: Arc<EndSet>,
        dst: Arc<EndSet>,
        service: Arc<ServiceSet>,
        via: Option<GatewayId>,
    },
    Packet {
        packet: Packet,
        allow: bool,
        via: Option<GatewayId>,
        /// A rule's or exposure's stable name, or a policy's.
        by: Option<String>,
    },
}
