//! Groups, in an order in which each comes after those that it is made of.

use super::Lowering;
use super::sets::{Scope, names_in};
use super::symbols::{Inner, Top};
use lang::codes::Code;
use std::sync::Arc;

impl Lowering<'_> {
    pub(super) fn groups(&mut self) {
        let mut edges = Vec::new();
        for (index, group) in self.symbols.groups.iter().enumerate() {
            for name in names_in(&group.ast.set) {
                let inner = |owner, name: &str| match self.symbols.inner_of(owner)?.get(name)? {
                    Inner::Group(other) => Some(*other),
                    _ => None,
                };
                let (other, span) = match name {
                    [one] => {
                        let own = group.owner.and_then(|owner| inner(owner, &one.node));
                        let top = || match self.symbols.top.get(one.node.as_str()) {
                            Some(Top::Group(other)) => Some(*other),
                            _ => None,
                        };
                        (own.or_else(top), one.span)
                    }
                    [tenant, member] => {
                        let owner = self.symbols.owner(&tenant.node);
                        (owner.and_then(|o| inner(o, &member.node)), member.span)
                    }
                    _ => continue,
                };
                if let Some(other) = other {
                    edges.push((index, other, span));
                }
            }
        }
        self.groups = Arc::new(vec![None; self.symbols.groups.len()]);
        let names: Vec<_> = self.symbols.groups.iter().map(|g| g.ast.name.clone()).collect();
        let (order, cyclic) = self.definition_order("group", &names, &edges);
        self.used.groups.extend(cyclic);
        for index in order {
            let Some(group) = self.symbols.groups.get(index).copied() else { continue };
            let said = self.report.diagnostics.len();
            let lowered = self.set(&group.ast.set, Scope { tenant: group.owner });
            if let Some(set) = &lowered
                && set.is_empty_within(&self.model.owners)
            {
                // A literal that matches nothing has been reported as such and is the cause.
                if said == self.report.diagnostics.len() {
                    let name = &group.ast.name;
                    let d = self.error(
                        Code::PW0405,
                        name.span,
                        format!("group `{}` holds no address", name.node),
                    );
                    d.label = "matches nothing".into();
                    d.help = Some("correct its set, or remove the group and what names it".into());
                }
                self.report.empty.push(set.clone());
            }
            if let Some(slot) = Arc::make_mut(&mut self.groups).get_mut(index) {
                *slot = lowered;
            }
        }
    }
}
