//! From the compiled form to one node's entries.

mod addresses;
mod admitted;
mod capabilities;
mod classes;
mod cover;
mod fabric;
mod facts;
mod services;
mod space;

use super::Profile;
use super::entries::{Entries, Match};
use super::program::Program;
use crate::linux::admitted::Admitted;
use crate::linux::ends::{Addresses, Scope};
use crate::linux::numbers;
use compiler::Compiled;
use compiler::algebra::Prefix;
use compiler::ids::{EndpointId, ExposureId, GatewayId, NodeId, OwnerId, RuleId, SegmentId};
use lang::diag::Diagnostic;
use lang::source::Sources;
use lang::span::Span;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

/// The port to the underlay; those to workloads follow in the order of their devices' names.
pub const UNDERLAY_PORT: u16 = 0;
/// A cell that a table does not know.
pub(super) const COMPUTE: u128 = 64;

/// Reasons that stand in entries only.
const DEFAULT: u128 = 7;
const RULE: u128 = 8;

/// What one node runs.
#[derive(Debug, Clone)]
pub struct Model {
    pub node: String,
    pub gateway: bool,
    /// UDP port of the encapsulation.
    pub port: u16,
    pub entries: Entries,
    /// Devices as ports of the switch.
    pub ports: BTreeMap<String, u16>,
    /// Gateway nodes that this node sends to.
    pub instances: Vec<String>,
    /// Rules and exposures by their index in counter `rules`.
    pub rules: BTreeMap<u16, String>,
    /// What mirrored replies admit beyond what the policy lets open a connection.
    pub admitted: Vec<Admitted>,
    pub saved: Saved,
    pub profile: Profile,
}

/// What merging saved, in entries.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Saved {
    /// Address classes before and after classes that are decided alike were joined.
    pub classes: (usize, usize),
    /// Verdicts if every box of every pair were an entry of its own, and as emitted.
    pub verdicts: (usize, usize),
    /// The same for answers.
    pub replies: (usize, usize),
    /// Prefixes if each stretch of addresses were written out, and as emitted.
    pub prefixes: (usize, usize),
}

/// Everything that lowering one node needs and fills.
pub(super) struct Lowering<'a> {
    pub c: &'a Compiled,
    pub sources: &'a Sources,
    pub program: &'a Program,
    pub node: NodeId,
    pub gateway: bool,
    pub down: &'a [NodeId],
    pub addresses: Addresses,
    pub entries: Entries,
    pub diagnostics: Vec<Diagnostic>,
    pub ports: BTreeMap<String, u16>,
    /// Other nodes, from 1.
    pub peers: BTreeMap<NodeId, u16>,
    /// Gateways, from 1.
    pub gateways: BTreeMap<GatewayId, u16>,
    /// Rules and exposures: index in counter `rules`.
    pub who: BTreeMap<Who, u16>,
    /// Prefixes of senders, real and as the other side sees them: number in `rewrite*`.
    pub translations: BTreeMap<Vec<(Prefix, Prefix)>, u16>,
    pub admitted: BTreeSet<Admitted>,
    pub unclaimed: BTreeMap<(String, Span), BTreeSet<String>>,
    /// By table and tenant: entries that are a tenant's own.
    pub shares: BTreeMap<(String, String), u64>,
    pub saved: Saved,
    pub profile: &'a Profile,
}

/// Who decided in a view.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Who {
    Rule(RuleId),
    Exposure(ExposureId),
}

/// The ranges that a node deals with.
pub(super) struct Here {
    pub node: NodeId,
    /// `None`: those behind any gateway.
    pub gateways: Option<BTreeSet<GatewayId>>,
}

impl Scope for Here {
    fn gateway(&self, gateway: Option<GatewayId>) -> bool {
        match (&self.gateways, gateway) {
            (Some(mine), Some(gateway)) => mine.contains(&gateway),
            _ => true,
        }
    }
    fn node(&self) -> NodeId {
        self.node
    }
}

/// What a node runs, or why this target cannot say it.
///
/// # Errors
/// PW0801: what this target cannot express exactly. PW0803: what does not fit.
pub fn lower(
    c: &Compiled,
    sources: &Sources,
    program: &Program,
    node: NodeId,
    (down, profile): (&[NodeId], &Profile),
) -> Result<Model, Vec<Diagnostic>> {
    let mut l = Lowering {
        c,
        sources,
        program,
        node,
        gateway: c.model.nodes[node].gateway,
        down,
        addresses: Addresses::new(c),
        entries: Entries { generation: 1, ..Entries::default() },
        diagnostics: Vec::new(),
        ports: BTreeMap::new(),
        peers: BTreeMap::new(),
        gateways: BTreeMap::new(),
        who: BTreeMap::new(),
        translations: BTreeMap::new(),
        admitted: BTreeSet::new(),
        unclaimed: BTreeMap::new(),
        shares: BTreeMap::new(),
        saved: Saved::default(),
        profile,
    };
    l.capabilities();
    if l.diagnostics.is_empty() {
        l.number();
        l.fabric();
        let spaces = l.spaces();
        l.decide(&spaces);
        l.unclaimed();
        l.contradictions();
        l.capacity();
    }
    if !l.diagnostics.is_empty() {
        return Err(l.diagnostics);
    }
    let instances = l.instances().into_iter().map(|n| c.model.nodes[n].name.clone()).collect();
    Ok(Model {
        node: c.model.nodes[node].name.clone(),
        gateway: l.gateway,
        port: c.model.fabric.port,
        rules: l.who.iter().map(|(who, index)| (*index, l.who_name(*who).0)).collect(),
        entries: l.entries,
        ports: l.ports,
        instances,
        admitted: l.admitted.into_iter().collect(),
        saved: l.saved,
        profile: profile.clone(),
    })
}

impl Lowering<'_> {
    /// Tenants whose spaces this node deals with: those with an endpoint here, or those that its gateways join.
    pub(super) fn tenants(&self) -> BTreeSet<OwnerId> {
        let model = &self.c.model;
        if !self.gateway {
            return model.endpoints.values().filter(|e| e.node == self.node).map(|e| e.tenant).collect();
        }
        let mine = model.gateways.values().filter(|g| g.instances.contains(&self.node));
        mine.flat_map(|g| g.joins.iter().copied()).filter(|o| model.owners[*o].is_tenant()).collect()
    }

    /// The gateways whose instances this node is, or whose traffic its workloads have.
    pub(super) fn concerned(&self) -> BTreeSet<GatewayId> {
        let tenants = self.tenants();
        let model = &self.c.model;
        let mine = |g: &compiler::model::Gateway| {
            if self.gateway {
                g.instances.contains(&self.node)
            } else {
                g.joins.iter().any(|o| tenants.contains(o))
            }
        };
        model.gateways.iter().filter(|(_, g)| mine(g)).map(|(id, _)| id).collect()
    }

    pub(super) fn scope(&self) -> Here {
        Here { node: self.node, gateways: self.gateway.then(|| self.concerned()) }
    }

    /// Gateway nodes that this node sends to.
    pub(super) fn instances(&self) -> BTreeSet<NodeId> {
        if self.gateway {
            return BTreeSet::new();
        }
        self.concerned().iter().flat_map(|g| self.c.model.gateways[*g].instances.iter().copied()).collect()
    }

    /// Endpoints of whose addresses this node's entries speak.
    fn number(&mut self) {
        let model = &self.c.model;
        let devices = model.endpoints.values().filter(|e| e.node == self.node).map(|e| e.dev.clone());
        let devices: BTreeSet<String> = devices.collect();
        self.ports = devices.into_iter().zip(1..).collect();
        self.ports.insert(model.nodes[self.node].dev.clone(), UNDERLAY_PORT);
        self.gateways = self.concerned().into_iter().zip(1..).collect();
        let tenants = self.tenants();
        // Direct routes lead to tenants that have nothing here.
        let direct =
            model.routes.values().filter(|r| tenants.contains(&r.tenant)).filter_map(|r| match &r.target {
                compiler::model::RouteTarget::Direct { segment, .. } => Some(model.segments[*segment].tenant),
                compiler::model::RouteTarget::Via(_) => None,
            });
        let known: BTreeSet<OwnerId> = direct.chain(tenants.iter().copied()).collect();
        let homes = model.endpoints.values().filter(|e| known.contains(&e.tenant)).map(|e| e.node);
        let peers: BTreeSet<NodeId> =
            homes.chain(self.instances()).filter(|node| *node != self.node).collect();
        self.peers = peers.into_iter().zip(1..).collect();
    }

    /// The index of a rule's counter: from its name, so that it stays when others come and go.
    pub(super) fn who(&mut self, who: Option<Who>) -> u128 {
        let Some(who) = who else { return 0 };
        if let Some(index) = self.who.get(&who) {
            return u128::from(*index);
        }
        let (name, _) = self.who_name(who);
        let first = u16::try_from(1 + numbers::digest32(&[b"rule", name.as_bytes()]) % 65_535).unwrap_or(1);
        let used: BTreeSet<u16> = self.who.values().copied().collect();
        let index = (first..=u16::MAX).chain(1..first).find(|i| !used.contains(i)).unwrap_or_default();
        self.who.insert(who, index);
        u128::from(index)
    }

    /// `policy.pw:12`
    pub(super) fn place(&self, span: Span) -> String {
        // A comment ends with its line, whatever a file is called.
        let path: String =
            self.sources.path(span.file).chars().map(|c| if c.is_control() { '?' } else { c }).collect();
        format!("{path}:{}", self.sources.range(span).0.line)
    }

    pub(super) fn who_name(&self, who: Who) -> (String, Span) {
        match who {
            Who::Rule(id) => (self.c.model.rules[id].name.clone(), self.c.model.rules[id].span),
            Who::Exposure(id) => (self.c.model.exposures[id].name.clone(), self.c.model.exposures[id].span),
        }
    }

    pub(super) fn endpoint_note(&self, id: EndpointId) -> String {
        let e = &self.c.model.endpoints[id];
        format!("{}.{} {}", self.c.model.owners[e.tenant].name, e.name, self.place(e.span))
    }

    pub(super) fn owner_note(&self, id: OwnerId) -> String {
        let owner = &self.c.model.owners[id];
        format!("{} {}", owner.name, self.place(owner.span))
    }

    /// Adds an entry for a tenant.
    pub(super) fn put(
        &mut self,
        tenant: OwnerId,
        table: &str,
        key: Vec<Match>,
        action: &str,
        params: Vec<u128>,
        note: &str,
    ) {
        self.put_prioritised(tenant, (table, 0), key, action, params, note);
    }

    /// Adds an entry for a tenant to a table whose entries have priorities.
    pub(super) fn put_prioritised(
        &mut self,
        tenant: OwnerId,
        (table, priority): (&str, u32),
        key: Vec<Match>,
        action: &str,
        params: Vec<u128>,
        note: &str,
    ) {
        let owner = self.c.model.owners[tenant].name.clone();
        *self.shares.entry((table.to_owned(), owner)).or_default() += 1;
        self.entries.put_prioritised(table, key, priority, action, params, note);
    }

    /// A reason's number in the program.
    pub(super) fn reason(&self, name: &str) -> u128 {
        match name {
            "DEFAULT" => DEFAULT,
            "RULE" => RULE,
            // INVARIANT: all others are constants of the program; a test asks for each.
            _ => self.program.constant(name).unwrap_or_default(),
        }
    }

    pub(super) fn vni(&self, segment: SegmentId) -> u128 {
        u128::from(self.c.model.segments[segment].vni)
    }

    pub(super) fn mtu(&self, segment: SegmentId) -> u128 {
        u128::from(u16::try_from(self.c.model.segments[segment].mtu).unwrap_or(u16::MAX))
    }

    /// The peer that a node is; 0: this one.
    pub(super) fn peer(&self, node: NodeId) -> u128 {
        self.peers.get(&node).map_or(0, |n| u128::from(*n))
    }
}

/// A MAC as a number.
pub(super) fn mac_number(mac: [u8; 6]) -> u128 {
    mac.iter().fold(0, |n, byte| n << 8 | u128::from(*byte))
}

/// The router MAC of the node with this VTEP.
pub(super) fn router(vtep: IpAddr) -> u128 {
    mac_number(numbers::router_mac(vtep))
}

/// A field that is matched exactly.
pub(super) fn exact(value: impl Into<u128>) -> Match {
    Match::Exact(value.into())
}
