//! What was used, for PW0407.

use super::Lowering;
use super::symbols::OwnerDecl;
use crate::ids::{GatewayId, OwnerId};
use lang::codes::Code;
use lang::span::Span;
use std::collections::BTreeSet;

#[derive(Debug, Default)]
pub(super) struct Used {
    /// Index into [`super::symbols::Symbols::services`].
    pub services: BTreeSet<usize>,
    /// Index into [`super::symbols::Symbols::groups`].
    pub groups: BTreeSet<usize>,
    pub owners: BTreeSet<OwnerId>,
    pub gateways: BTreeSet<GatewayId>,
}

impl Used {
    pub(super) fn join(&mut self, other: Self) {
        let Self { services, groups, owners, gateways } = other;
        self.services.extend(services);
        self.groups.extend(groups);
        self.owners.extend(owners);
        self.gateways.extend(gateways);
    }
}

impl Lowering<'_> {
    pub(super) fn unused(&mut self) {
        let mut found: Vec<(Span, &str, String, &str)> = Vec::new();
        for (index, service) in self.symbols.services.iter().enumerate() {
            if !self.used.services.contains(&index) {
                let name = &service.ast.name;
                found.push((name.span, "service", name.node.clone(), "no rule, exposure or test names it"));
            }
        }
        for (index, group) in self.symbols.groups.iter().enumerate() {
            if !self.used.groups.contains(&index) {
                let name = &group.ast.name;
                found.push((name.span, "group", name.node.clone(), "no set names it"));
            }
        }
        for ((id, owner), (_, declared)) in self.model.owners.iter().zip(&self.symbols.owners) {
            if !self.used.owners.contains(&id) && matches!(declared, OwnerDecl::External(_)) {
                found.push((
                    owner.span,
                    "external",
                    owner.name.clone(),
                    "no gateway joins it and no set names it",
                ));
            }
        }
        for (id, gateway) in self.model.gateways.iter() {
            if !self.used.gateways.contains(&id) {
                let why = "no exposure, route or rule goes through it";
                found.push((gateway.span, "gateway", gateway.name.clone(), why));
            }
        }
        for (span, what, name, why) in found {
            let d = self.error(Code::PW0407, span, format!("{what} `{name}` is never used"));
            d.label = why.into();
            d.help = Some("remove it, or use it where it was meant".into());
        }
    }
}
