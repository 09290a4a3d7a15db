//! Endpoints.

use super::Lowering;
use crate::ids::Id;
use crate::model::{Endpoint, Host};
use lang::ast::Name;

impl Lowering<'_> {
    pub(super) fn endpoints(&mut self) {
        for index in 0..self.symbols.endpoints.len() {
            let Some((owner, declared)) = self.symbols.endpoints.get(index) else { continue };
            let (owner, ast, docs) = (*owner, declared.ast, declared.docs);
            let Some(segment) = self.segment_id(owner, &ast.segment.node) else {
                let names: Vec<String> = self
                    .model
                    .segments
                    .values()
                    .filter(|s| s.tenant == owner)
                    .map(|s| s.name.clone())
                    .collect();
                let what = format!("segment of tenant `{}`", ast.tenant.node);
                self.unknown(&what, &ast.segment, names.iter().map(String::as_str));
                continue;
            };
            let host = Host {
                tenant: owner,
                name: ast.name.node.clone(),
                segment,
                addresses: ast.at.iter().map(|a| a.node).collect(),
                address_spans: ast.at.iter().map(|a| a.span).collect(),
                mac: ast.mac.as_ref().map(|m| m.node),
                mac_span: ast.mac.as_ref().map_or(ast.name.span, |m| m.span),
            };
            self.model.hosts.push(host.clone());
            // An endpoint may be no more than a name for addresses; one of `on` and `dev` alone is the parser's to report.
            let Some(on) = &ast.on else { continue };
            let Some(node) = self.node_id(on) else { continue };
            let Some(dev) = &ast.dev else { continue };
            self.model.endpoints.push(Endpoint {
                tenant: owner,
                name: ast.name.node.clone(),
                segment,
                addresses: host.addresses,
                address_spans: host.address_spans,
                mac: host.mac,
                mac_span: host.mac_span,
                node,
                node_span: on.span,
                dev: dev.node.clone(),
                dev_span: dev.span,
                tags: ast.tags.iter().map(|t| t.node.clone()).collect(),
                docs: docs.to_vec(),
                span: ast.name.span,
            });
        }
    }

    /// The id of a node by name, or a finding.
    pub(super) fn node_id(&mut self, name: &Name) -> Option<crate::ids::NodeId> {
        let found = self.symbols.node_ids.get(name.node.as_str()).copied();
        if found.is_none() {
            let candidates: Vec<&str> = self.symbols.node_ids.keys().copied().collect();
            self.unknown("node", name, candidates);
        }
        // Duplicates are left out, so an id is always within the arena.
        found.filter(|id| id.index() < self.model.nodes.len())
    }
}
