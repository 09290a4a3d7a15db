//! From the compiled form to one node's model.

mod compute;
mod gateway;
mod links;
mod stateless;
mod verdicts;
mod ways;

use super::admitted::Admitted;
use super::ends::Addresses;
use super::model::{Atom, Ruleset, Table};
use super::{Dialect, Model, numbers};
use compiler::Compiled;
use compiler::algebra::Family;
use compiler::ids::{EndpointId, GatewayId, NodeId, OwnerId};
use compiler::model::{Action, Gateway};
use lang::ast::{AffinityWord, EncapKind};
use lang::codes::Code;
use lang::diag::Diagnostic;
use lang::source::Sources;
use lang::span::Span;
use std::collections::{BTreeMap, BTreeSet};

/// Everything that lowering one node needs and fills.
pub(super) struct Lowering<'a> {
    pub c: &'a Compiled,
    pub sources: &'a Sources,
    pub dialect: Dialect,
    pub node: NodeId,
    /// Gateway nodes that count as dead.
    pub down: &'a [NodeId],
    pub addresses: Addresses,
    pub rules: Ruleset,
    pub links: links::Links,
    pub verdicts: verdicts::Verdicts,
    pub diagnostics: Vec<Diagnostic>,
    /// Names that had to be shortened: as written → as emitted.
    pub names: BTreeMap<String, String>,
    /// What each stateless gateway here admits beyond what the policy lets open a connection.
    pub admitted: BTreeMap<GatewayId, BTreeSet<Admitted>>,
}

/// What a node runs, or why this target cannot say it.
pub fn lower(
    c: &Compiled,
    sources: &Sources,
    dialect: Dialect,
    node: NodeId,
    down: &[NodeId],
) -> Result<Model, Vec<Diagnostic>> {
    let mut l = Lowering {
        c,
        sources,
        dialect,
        node,
        down,
        addresses: Addresses::new(c),
        rules: Ruleset::default(),
        links: links::Links::default(),
        verdicts: verdicts::Verdicts::default(),
        diagnostics: Vec::new(),
        names: BTreeMap::new(),
        admitted: BTreeMap::new(),
    };
    l.capabilities();
    if l.diagnostics.is_empty() {
        l.underlay();
        if c.model.nodes[node].gateway {
            l.gateway()
        } else {
            l.compute()
        }
        l.emit_verdicts();
        l.numbers_suffice();
    }
    if let Some(first) = l.rules.contradictions.first() {
        let message =
            format!("node `{}`: one key of a map would have two meanings", c.model.nodes[node].name);
        l.diagnostics.push(
            Diagnostic::new(Code::PW0801, c.model.nodes[node].span, message)
                .label("cannot be emitted for this node")
                .help("check the project first: a clean project gives every address one meaning")
                .note(first.clone()),
        );
    }
    if !l.diagnostics.is_empty() {
        return Err(l.diagnostics);
    }
    Ok(Model {
        node: c.model.nodes[node].name.clone(),
        gateway: c.model.nodes[node].gateway,
        vtep: c.model.nodes[node].vtep,
        dev: c.model.nodes[node].dev.clone(),
        port: c.model.fabric.port,
        log_unknown_vni: c.model.fabric.unknown_vni_log,
        rules: l.rules,
        devices: l.links.devices,
        fdb: l.links.fdb,
        tables: l.links.tables,
        workloads: l.links.workloads,
        names: l.names,
        instances: l.verdicts.instances.iter().map(|n| c.model.nodes[*n].name.clone()).collect(),
        admitted: l.admitted.into_values().flatten().collect::<BTreeSet<_>>().into_iter().collect(),
    })
}

impl Lowering<'_> {
    /// `policy.pw:12`
    pub(super) fn place(&self, span: Span) -> String {
        // A comment ends with its line, whatever a file is called.
        let path: String =
            self.sources.path(span.file).chars().map(|c| if c.is_control() { '?' } else { c }).collect();
        format!("{path}:{}", self.sources.range(span).0.line)
    }

    /// `shop.web-1 tenants.pw:18`
    pub(super) fn endpoint_note(&self, id: EndpointId) -> String {
        let endpoint = &self.c.model.endpoints[id];
        let tenant = &self.c.model.owners[endpoint.tenant].name;
        format!("{tenant}.{} {}", endpoint.name, self.place(endpoint.span))
    }

    pub(super) fn owner_note(&self, id: OwnerId) -> String {
        let owner = &self.c.model.owners[id];
        format!("{} {}", owner.name, self.place(owner.span))
    }

    /// What this target cannot express exactly.
    fn capabilities(&mut self) {
        let fabric = &self.c.model.fabric;
        if fabric.encap == EncapKind::Geneve {
            self.diagnostics.push(
                Diagnostic::new(
                    Code::PW0801,
                    fabric.span,
                    format!("the {} target cannot emit Geneve", self.dialect.name),
                )
                .label("`encap geneve` stands here")
                .help("write `encap vxlan port 4789`"),
            );
        }
        self.devices();
        self.digests();
        let here = self.c.model.nodes[self.node].gateway;
        for id in self.gateways_concerned() {
            let gateway = &self.c.model.gateways[id];
            if here && !gateway.stateful {
                self.stateless_capabilities(id);
            }
            if gateway.instances.len() > 1 {
                self.diagnostics.extend(affinity(gateway));
            }
        }
    }

    /// Classes and verdicts are numbered with 24 bits.
    fn numbers_suffice(&mut self) {
        let node = &self.c.model.nodes[self.node];
        let used = self.verdicts.most();
        if used < 0x00ff_0000 {
            return;
        }
        self.diagnostics.push(
            Diagnostic::new(
                Code::PW0803,
                node.span,
                format!("node `{}` needs {used} classes or verdicts, and there are 16,711,680", node.name),
            )
            .label("too many different decisions for one node")
            .help("put fewer tenants on one node"),
        );
    }

    /// What is numbered by a digest must not meet another of its kind: two names or addresses would be one thing.
    fn digests(&mut self) {
        let model = &self.c.model;
        let mut macs = BTreeMap::new();
        for node in model.nodes.values() {
            if let Some(other) = macs.insert(numbers::router_mac(node.vtep), node) {
                let message =
                    format!("the router MACs of the nodes `{}` and `{}` would be one", other.name, node.name);
                self.diagnostics.push(
                    Diagnostic::new(Code::PW0801, node.vtep_span, message)
                        .label("a digest of this address meets the other's")
                        .related(other.vtep_span, "the other address")
                        .help("give one of the two another VTEP address"),
                );
            }
        }
        let mut tables = BTreeMap::new();
        for external in model.owners.values().filter(|o| !o.is_tenant()) {
            if let Some(other) = tables.insert(numbers::external_mark(&external.name), external) {
                let message = format!(
                    "the routing tables of the externals `{}` and `{}` would be one",
                    other.name, external.name
                );
                self.diagnostics.push(
                    Diagnostic::new(Code::PW0801, external.span, message)
                        .label("a digest of this name meets the other's")
                        .related(other.span, "the other name")
                        .help("rename one of the two"),
                );
            }
        }
    }

    /// Device names go into quoted strings of nft, into lines of `ip -batch` and into a shell script, none of which has a way
    /// to write every byte.
    fn devices(&mut self) {
        let model = &self.c.model;
        let node = &model.nodes[self.node];
        let endpoints =
            model.endpoints.values().filter(|e| e.node == self.node).map(|e| (&e.dev, e.dev_span));
        let attaches = model.gateways.values().flat_map(|g| &g.attaches);
        let attaches = attaches.filter(|a| a.node == self.node).map(|a| (&a.dev, a.span));
        for (dev, span) in endpoints.chain(attaches).chain([(&node.dev, node.span)]) {
            let plain =
                dev.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-' | '@' | '+'));
            let ours = numbers::is_own_vxlan(dev);
            if plain && !ours {
                continue;
            }
            let message = format!("the {} target cannot name the device `{dev}`", self.dialect.name);
            let help = "rename the device: letters, digits, `_`, `.`, `-`, `@`, `+`, and not `pwv` with a number or `pwvx`";
            self.diagnostics.push(
                Diagnostic::new(Code::PW0801, span, message)
                    .label(if ours { "partywall's own VXLAN devices have such names" } else { "named here" })
                    .help(help),
            );
        }
    }

    /// The gateways whose instances this node is, or whose traffic its workloads have.
    fn gateways_concerned(&self) -> BTreeSet<GatewayId> {
        let model = &self.c.model;
        if model.nodes[self.node].gateway {
            return model
                .gateways
                .iter()
                .filter(|(_, g)| g.instances.contains(&self.node))
                .map(|(id, _)| id)
                .collect();
        }
        let tenants = self.tenants_here();
        model
            .gateways
            .iter()
            .filter(|(_, g)| g.joins.iter().any(|o| tenants.contains(o)))
            .map(|(id, _)| id)
            .collect()
    }

    /// Tenants with an endpoint on this node.
    pub(super) fn tenants_here(&self) -> BTreeSet<OwnerId> {
        self.c.model.endpoints.values().filter(|e| e.node == self.node).map(|e| e.tenant).collect()
    }

    /// Gateways through which a rule in this tenant's view steers its own traffic.
    pub(super) fn steering(&self, tenant: OwnerId) -> BTreeSet<GatewayId> {
        super::ends::rules_of(self.c, [tenant])
            .into_iter()
            .map(|id| &self.c.model.rules[id])
            .filter(|rule| {
                let own = &self.c.model.owners[tenant].universe;
                rule.pairs
                    .between(tenant, tenant)
                    .is_some_and(|(src, dst)| src.overlaps(own) && dst.overlaps(own))
            })
            .filter_map(|rule| match rule.action {
                Action::Allow { via } => via,
                _ => None,
            })
            .filter(|gateway| self.c.model.gateways[*gateway].joins.contains(&tenant))
            .collect()
    }

    fn underlay(&mut self) {
        let nodes: Vec<_> = self.c.model.nodes.values().map(|n| (n.vtep, n.name.clone(), n.span)).collect();
        for (vtep, name, span) in nodes {
            let (family, value) = compiler::algebra::parse_addr(vtep);
            let table = match family {
                Family::V4 => Table::Underlay4,
                Family::V6 => Table::Underlay6,
            };
            let note = format!("{name} {}", self.place(span));
            self.rules.put(table, vec![Atom::Address(family, value, value)], None, note);
        }
    }

    /// An identifier that nft takes, and the mapping if it had to change.
    pub(super) fn name(&mut self, prefix: &str, written: &str) -> String {
        let emitted = crate::names::identifier(prefix, written);
        if emitted != format!("{prefix}{written}") {
            self.names.insert(written.to_owned(), emitted.clone());
        }
        emitted
    }
}

/// A way to pick one of several instances that cannot be emitted.
fn affinity(gateway: &Gateway) -> Option<Diagnostic> {
    let masquerade = gateway.masquerades.first().filter(|_| gateway.affinity == AffinityWord::Flow)?;
    let message = format!("gateway `{}` masquerades and picks instances by ports", gateway.name);
    Some(
        Diagnostic::new(Code::PW0801, gateway.affinity_span, message)
            .label("hashes ports, which a masquerade changes: replies would go to another instance")
            .related(masquerade.span, "masqueraded here")
            .help("write `affinity symmetric`, or one instance"),
    )
}

/// The tables of a family.
pub(super) struct ByFamily {
    pub legit: Table,
    pub legit_range: Table,
    pub zone: Table,
    pub stateless: Table,
    pub owner: Table,
    pub bare: Table,
    pub here: Table,
    pub src: Table,
    pub src_range: Table,
    pub dst: Table,
    pub dst_range: Table,
    pub hash: Table,
    pub real: Table,
    pub router: Table,
    pub dnat: Table,
    pub snat: Table,
    pub snat_net: Table,
    pub masq: Table,
    pub opener: Table,
    pub outside: Table,
}

pub(super) fn by_family(family: Family) -> &'static ByFamily {
    match family {
        Family::V4 => &ByFamily {
            legit: Table::Legit4,
            legit_range: Table::LegitRange4,
            zone: Table::Zone4,
            stateless: Table::Stateless4,
            owner: Table::Owner4,
            bare: Table::Bare4,
            here: Table::Here4,
            src: Table::Src4,
            src_range: Table::SrcRange4,
            dst: Table::Dst4,
            dst_range: Table::DstRange4,
            hash: Table::Hash4,
            real: Table::Real4,
            router: Table::Router4,
            dnat: Table::Dnat4,
            snat: Table::Snat4,
            snat_net: Table::SnatNet4,
            masq: Table::Masq4,
            opener: Table::Opener4,
            outside: Table::Outside4,
        },
        Family::V6 => &ByFamily {
            legit: Table::Legit6,
            legit_range: Table::LegitRange6,
            zone: Table::Zone6,
            stateless: Table::Stateless6,
            owner: Table::Owner6,
            bare: Table::Bare6,
            here: Table::Here6,
            src: Table::Src6,
            src_range: Table::SrcRange6,
            dst: Table::Dst6,
            dst_range: Table::DstRange6,
            hash: Table::Hash6,
            real: Table::Real6,
            router: Table::Router6,
            dnat: Table::Dnat6,
            snat: Table::Snat6,
            snat_net: Table::SnatNet6,
            masq: Table::Masq6,
            opener: Table::Opener6,
            outside: Table::Outside6,
        },
    }
}

/// The device of a segment.
pub(super) fn segment_device(c: &Compiled, segment: compiler::ids::SegmentId) -> String {
    numbers::vxlan_name(c.model.segments[segment].vni)
}
