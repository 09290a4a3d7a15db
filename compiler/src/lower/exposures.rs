//! Exposures: one per row, with its two translations paired up.

use super::Lowering;
use super::sets::Scope;
use crate::algebra::{AddrSet, Prefix};
use crate::ids::{GatewayId, OwnerId};
use crate::model::{Exposure, Mapping};
use crate::sets::{EndSet, ServiceSet};
use lang::ast::{self, MemberKind, Translate};
use lang::codes::Code;
use lang::diag::Label;
use lang::span::Span;
use std::sync::Arc;

/// What the rows of one `expose` share.
struct Head {
    provider: OwnerId,
    set: AddrSet,
    service: Arc<ServiceSet>,
    gateway: GatewayId,
    presented: Vec<Mapping>,
    translates: bool,
    as_span: Span,
    via_span: Span,
    span: Span,
}

impl<'a> Lowering<'a> {
    pub(super) fn exposures(&mut self) {
        for owner in self.model.owners.ids() {
            let members = self.symbols.members_of(owner, |kind| match kind {
                MemberKind::Expose(expose) => Some(expose),
                _ => None,
            });
            let mut labels: Vec<(&str, Span)> = Vec::new();
            for (number, (member, expose)) in (1..).zip(members) {
                if let Some(label) = &expose.label {
                    if let Some((_, first)) = labels.iter().find(|(l, _)| *l == label.node) {
                        let first = *first;
                        let d = self.error(
                            Code::PW0102,
                            label.span,
                            format!("label `{}` stands twice", label.node),
                        );
                        d.related.push(Label { span: first, message: "first here".into() });
                        d.help =
                            Some("labels name exposures in findings and tests: give each its own".into());
                        self.report.taint(owner);
                        continue;
                    }
                    labels.push((&label.node, label.span));
                }
                let stem = match &expose.label {
                    Some(label) => format!("{}.{}", self.model.owners[owner].name, label.node),
                    None => format!("{}.expose#{number}", self.model.owners[owner].name),
                };
                if self.expose(owner, &stem, member, expose).is_none() {
                    self.left_out.extend((1..=expose.rows.len()).map(|row| format!("{stem}#{row}")));
                    self.report.taint(owner);
                }
            }
        }
    }

    fn expose(
        &mut self,
        provider: OwnerId,
        stem: &str,
        member: &ast::Member,
        ast: &ast::Expose,
    ) -> Option<()> {
        let set = self.set(&ast.set, Scope { tenant: Some(provider) });
        let service = self.service(&ast.service);
        let gateway = ast.via.as_ref().and_then(|name| self.gateway_id(name));
        let set = set.and_then(|set| self.own_addresses(provider, &set, ast.set.span));
        if let Some(id) = gateway {
            self.used.gateways.insert(id);
        }
        // Client sets are looked at even when the head is in error, for their own findings.
        let rows: Vec<Option<Arc<EndSet>>> =
            ast.rows.iter().map(|row| self.set(&row.to, Scope { tenant: Some(provider) })).collect();
        let (set, service, gateway) = (set?, service?, gateway?);
        let head_end = ast.rows.first().map_or(member.span.end, |row| row.span.start);
        let head_span = Span::new(member.span.file, member.span.start, head_end.max(member.span.start));
        let presented = self.pair(
            &set.prefixes().into_iter().map(|p| (provider, p)).collect::<Vec<_>>(),
            ast.translate.as_ref(),
            "as",
        )?;
        let head = Head {
            provider,
            service,
            gateway,
            presented: presented.into_iter().map(|(_, m)| m).collect(),
            translates: ast.translate.is_some(),
            as_span: ast.translate.as_ref().map_or(ast.set.span, |t| t.span),
            via_span: ast.via.as_ref().map_or(member.span, |v| v.span),
            span: if ast.braced { head_span } else { member.span },
            set,
        };
        let mut sound = true;
        for (row, (ast_row, clients)) in (1..).zip(ast.rows.iter().zip(rows)) {
            let name = format!("{stem}#{row}");
            let docs = if ast_row.docs.is_empty() { &member.docs } else { &ast_row.docs };
            let lowered =
                clients.and_then(|clients| self.row(&head, name, &ast.set, ast_row, &clients, docs));
            sound &= lowered.is_some();
        }
        sound.then_some(())
    }

    fn row(
        &mut self,
        head: &Head,
        name: String,
        set: &ast::Set,
        row: &ast::ExposeRow,
        clients: &EndSet,
        docs: &[String],
    ) -> Option<()> {
        let clients = self.clients(head, clients);
        let prefixes: Vec<(OwnerId, Prefix)> =
            clients.iter().flat_map(|(owner, set)| set.prefixes().into_iter().map(|p| (*owner, p))).collect();
        let shown = self.pair(&prefixes, row.clients.as_ref(), "clients as")?;
        self.model.exposures.push(Exposure {
            name,
            rank: 0,
            provider: head.provider,
            set: head.set.clone(),
            service: head.service.clone(),
            clients,
            gateway: head.gateway,
            presented: head.presented.clone(),
            shown,
            translates: head.translates,
            translates_clients: row.clients.is_some(),
            set_span: set.span,
            to_span: row.to.span,
            via_span: head.via_span,
            as_span: head.as_span,
            clients_as_span: row.clients.as_ref().map_or(row.to.span, |t| t.span),
            docs: docs.to_vec(),
            span: row.span,
            head: head.span,
        });
        Some(())
    }

    /// C by owner: without the provider; `any` means the tenants that the gateway joins.
    fn clients(&self, head: &Head, set: &EndSet) -> Vec<(OwnerId, AddrSet)> {
        let mut owners: Vec<OwnerId> = set.owners.iter().map(|(o, _)| *o).collect();
        if !set.rest.is_empty() {
            owners.extend(self.joined_tenants(head.gateway));
        }
        owners.sort_unstable();
        owners.dedup();
        owners
            .into_iter()
            .filter(|owner| *owner != head.provider)
            .map(|owner| (owner, set.of(owner).intersect(&self.model.owners[owner].universe)))
            .filter(|(_, set)| !set.is_empty())
            .collect()
    }

    /// S within the provider's segments; PW0504 if it holds anything else.
    fn own_addresses(&mut self, provider: OwnerId, set: &EndSet, span: Span) -> Option<AddrSet> {
        let foreign = super::sets::owners_in(set, &self.model.owners).into_iter().find(|o| *o != provider);
        if let Some(foreign) = foreign {
            let (name, other) = (&self.model.owners[provider].name, &self.model.owners[foreign].name);
            let message = format!("tenant `{name}` exposes addresses of `{other}`");
            let help = format!("expose addresses of `{name}`'s segments only; `{other}` exposes its own");
            let d = self.error(Code::PW0504, span, message);
            d.label = "not this tenant's own".into();
            d.help = Some(help);
            return None;
        }
        Some(set.of(provider).intersect(&self.model.owners[provider].universe))
    }

    /// Pairs prefixes (in the order of owner's name, family, address) with those written, 1:1; the identity without.
    fn pair(
        &mut self,
        real: &[(OwnerId, Prefix)],
        written: Option<&Translate>,
        clause: &str,
    ) -> Option<Vec<(OwnerId, Mapping)>> {
        let Some(written) = written else {
            return Some(real.iter().map(|(o, p)| (*o, Mapping { real: *p, seen: *p })).collect());
        };
        let mut seen = Vec::new();
        for literal in &written.prefixes {
            seen.push((self.prefix(literal)?, literal.span));
        }
        let shown = |list: &[(OwnerId, Prefix)]| {
            let shown: Vec<String> = list.iter().take(8).map(|(_, p)| p.to_string()).collect();
            let more = if list.len() > 8 { format!(" and {} more", list.len() - 8) } else { String::new() };
            format!("{}{more}", shown.join(", "))
        };
        if real.len() != seen.len() {
            let d = self.error(
                Code::PW0306,
                written.span,
                format!(
                    "`{clause}` lists {} and the set is made of {}",
                    plural(seen.len(), "prefix", "prefixes"),
                    plural(real.len(), "prefix", "prefixes")
                ),
            );
            d.label = "these do not pair up one to one".into();
            d.help = Some(if real.is_empty() {
                "the set is empty: nothing is there to translate".into()
            } else {
                format!("list one prefix for each of {}, in this order", shown(real))
            });
            return None;
        }
        let mut out = Vec::with_capacity(real.len());
        for ((owner, real), (seen, span)) in real.iter().zip(seen) {
            if real.family != seen.family || real.len() != seen.len() {
                let d = self.error(Code::PW0306, span, format!("`{seen}` cannot stand for `{real}`"));
                d.label = if real.family == seen.family {
                    format!("/{} against /{}", seen.len(), real.len())
                } else {
                    format!("{} against {}", seen.family.as_str(), real.family.as_str())
                };
                d.help = Some(format!(
                    "translation keeps host bits: write an {} prefix of length {}",
                    real.family.as_str(),
                    real.len()
                ));
                return None;
            }
            out.push((*owner, Mapping { real: *real, seen }));
        }
        Some(out)
    }
}

fn plural(count: usize, one: &str, many: &str) -> String {
    if count == 1 { format!("1 {one}") } else { format!("{count} {many}") }
}
