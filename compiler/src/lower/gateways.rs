//! Gateways.

use super::Lowering;
use super::sets::Scope;
use crate::algebra::AddrSet;
use crate::ids::{GatewayId, Id, OwnerId};
use crate::model::{Attach, Gateway, Masquerade};
use lang::ast::{self, AffinityWord, Name, OnFailureWord, Set};
use lang::codes::Code;

/// A masquerade address per instance and family: more than this in one prefix is a slip of the pen.
const MAX_MASQUERADE: u128 = 4096;

impl Lowering<'_> {
    pub(super) fn gateways(&mut self) {
        let all = self.symbols.gateways.clone();
        for declared in all {
            let ast = declared.ast;
            let (joins, joins_span) = match &ast.joins {
                Some(set) => (self.joins(set), set.span),
                None => (Vec::new(), ast.name.span),
            };
            let (mut instances, mut instance_spans) = (Vec::new(), Vec::new());
            for name in &ast.instances {
                if let Some(node) = self.node_id(name) {
                    if instances.contains(&node) {
                        let message = format!("instance `{}` stands twice", name.node);
                        let d = self.error(Code::PW0102, name.span, message);
                        d.help = Some("list each node once".into());
                        continue;
                    }
                    instances.push(node);
                    instance_spans.push(name.span);
                }
            }
            let mut attaches: Vec<Attach> = Vec::new();
            for written in &ast.attaches {
                let Some(attach) = self.attach(written) else { continue };
                let first = attaches.iter().find(|a| a.external == attach.external && a.node == attach.node);
                if let Some(first) = first.map(|a| a.span) {
                    let (external, node) =
                        (&self.model.owners[attach.external].name, &self.model.nodes[attach.node].name);
                    let message = format!("external `{external}` is attached twice on node `{node}`");
                    let d = self.error(Code::PW0102, attach.span, message);
                    d.label = "attached again here".into();
                    d.related.push(lang::diag::Label { span: first, message: "first attached here".into() });
                    d.help =
                        Some("an instance reaches an external over one device: keep one of the two".into());
                    continue;
                }
                attaches.push(attach);
            }
            let masquerades = ast.masquerades.iter().filter_map(|m| self.masquerade(m)).collect();
            self.model.gateways.push(Gateway {
                name: ast.name.node.clone(),
                joins,
                joins_span,
                instances,
                instance_spans,
                affinity: ast.affinity.as_ref().map_or(AffinityWord::Symmetric, |a| a.node),
                affinity_span: ast.affinity.as_ref().map_or(ast.name.span, |a| a.span),
                stateful: ast.stateful.as_ref().is_none_or(|s| s.node),
                on_failure: ast.on_failure.as_ref().map_or(OnFailureWord::Rehash, |o| o.node),
                attaches,
                masquerades,
                span: ast.name.span,
            });
        }
    }

    /// The owners of a set made of whole tenants and externals.
    fn joins(&mut self, set: &Set) -> Vec<OwnerId> {
        let Some(lowered) = self.set(set, Scope { tenant: None }) else {
            self.taint_all = true;
            return Vec::new();
        };
        let mut joined = Vec::new();
        let mut partial = None;
        for (id, owner) in self.model.owners.iter() {
            let part = lowered.of(id);
            // An owner without addresses is joined if it is named.
            let named = lowered.owners.iter().any(|(o, _)| *o == id);
            if owner.universe.is_subset(part) && (named || *part == AddrSet::full()) {
                joined.push(id);
            } else if part.overlaps(&owner.universe) {
                partial = partial.or(Some(owner.name.clone()));
            }
        }
        for id in &joined {
            self.used.owners.insert(*id);
        }
        if let Some(name) = partial {
            let d = self.error(
                Code::PW0103,
                set.span,
                format!("a gateway joins whole tenants and externals, not a part of `{name}`"),
            );
            d.label = format!("holds some addresses of `{name}`, not all");
            d.help = Some(format!(
                "join `{name}`; what is reachable through the gateway is said by exposures, routes and rules"
            ));
        }
        joined
    }

    /// The id of a gateway by name, or a finding.
    pub(super) fn gateway_id(&mut self, name: &Name) -> Option<GatewayId> {
        let found = self.symbols.gateway_ids.get(name.node.as_str()).copied();
        if found.is_some() {
            return found;
        }
        if let Some(kind) = self.kind_of_name(&name.node) {
            let d = self.error(Code::PW0103, name.span, format!("`{}` is {kind}, not a gateway", name.node));
            d.label = "a gateway is due here".into();
            return None;
        }
        let candidates: Vec<&str> = self.symbols.gateway_ids.keys().copied().collect();
        self.unknown("gateway", name, candidates);
        None
    }

    /// The id of an external by name, or a finding.
    pub(super) fn external(&mut self, name: &Name) -> Option<OwnerId> {
        match self.symbols.owner(&name.node) {
            Some(id) if !self.model.owners[id].is_tenant() => {
                self.used.owners.insert(id);
                Some(id)
            }
            _ => {
                if let Some(kind) = self.kind_of_name(&name.node) {
                    let d = self.error(
                        Code::PW0103,
                        name.span,
                        format!("`{}` is {kind}, not an external", name.node),
                    );
                    d.label = "an external is due here".into();
                    return None;
                }
                let names: Vec<String> =
                    self.model.owners.values().filter(|o| !o.is_tenant()).map(|o| o.name.clone()).collect();
                self.unknown("external", name, names.iter().map(String::as_str));
                None
            }
        }
    }

    fn attach(&mut self, ast: &ast::Attach) -> Option<Attach> {
        let (external, node) = (self.external(&ast.external), self.node_id(&ast.node));
        Some(Attach {
            external: external?,
            node: node?,
            dev: ast.dev.node.clone(),
            next_hops: ast.next_hops.iter().map(|h| h.node).collect(),
            docs: ast.docs.clone(),
            span: ast.span,
        })
    }

    fn masquerade(&mut self, ast: &ast::Masquerade) -> Option<Masquerade> {
        let (tenant, external) = (self.tenant(&ast.tenant), self.external(&ast.external));
        let mut addresses = Vec::new();
        for literal in &ast.translate.prefixes {
            let prefix = self.prefix(literal)?;
            if prefix.hi() - prefix.lo() >= MAX_MASQUERADE {
                let d = self.error(
                    Code::PW0306,
                    literal.span,
                    format!("`{prefix}` holds more masquerade addresses than a gateway has instances"),
                );
                d.help = Some("list one address per instance and family".into());
                return None;
            }
            addresses
                .extend((prefix.lo()..=prefix.hi()).map(|a| crate::algebra::format_addr(prefix.family, a)));
        }
        Some(Masquerade {
            tenant: tenant?,
            external: external?,
            addresses,
            as_span: ast.translate.span,
            docs: ast.docs.clone(),
            span: ast.span,
        })
    }

    /// The tenants that a gateway joins.
    pub(super) fn joined_tenants(&self, gateway: GatewayId) -> impl Iterator<Item = OwnerId> + '_ {
        let joins = self.model.gateways.as_slice().get(gateway.index()).map(|g| g.joins.as_slice());
        joins.unwrap_or_default().iter().copied().filter(|id| self.model.owners[*id].is_tenant())
    }
}
