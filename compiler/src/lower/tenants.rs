//! Tenants and externals with their prefixes, segments and routes.

use super::Lowering;
use super::symbols::OwnerDecl;
use crate::algebra::{AddrSet, Prefix, parse_addr};
use crate::ids::{Id, OwnerId, SegmentId};
use crate::model::{Owner, OwnerKind, Route, RouteTarget, Segment, SegmentPrefix};
use crate::sets::EndSet;
use lang::ast::{self, MemberKind};
use lang::codes::Code;
use lang::diag::Label;
use std::sync::Arc;

/// VNIs (RFC 7348) and tenant ids are 24 bits wide, zero excluded.
const MAX_24: u64 = 0x00ff_ffff;
/// Where a bad VNI's segment is kept apart from every good one: above 24 bits.
const NO_VNI: u32 = 0x0100_0000;

impl<'a> Lowering<'a> {
    pub(super) fn owners(&mut self) {
        let mut segments: Vec<(OwnerId, &'a ast::Segment, &'a [String])> = Vec::new();
        for index in 0..self.symbols.owners.len() {
            let id = OwnerId::from_index(index);
            let Some((name, declared)) = self.symbols.owners.get(index) else { continue };
            let name = (*name).to_owned();
            let owner = match declared {
                OwnerDecl::Tenant(tenant) => {
                    let tenant = tenant.ast;
                    for member in self.symbols.members.get(index).into_iter().flatten() {
                        if let MemberKind::Segment(segment) = &member.member.kind
                            && member.extend.is_none()
                        {
                            segments.push((id, segment, &member.member.docs));
                        }
                    }
                    let number = self.tenant_id(id, tenant);
                    Owner {
                        name,
                        kind: OwnerKind::Tenant { id: number },
                        prefixes: Vec::new(),
                        universe: AddrSet::empty(),
                        prefix_spans: Vec::new(),
                        id_span: tenant.id.as_ref().map_or(tenant.name.span, |i| i.span),
                        span: tenant.name.span,
                    }
                }
                OwnerDecl::External(external) => {
                    let external = external.ast;
                    let mut prefixes: Vec<(Prefix, lang::span::Span)> = external
                        .prefixes
                        .iter()
                        .filter_map(|literal| self.prefix(literal).map(|p| (p, literal.span)))
                        .collect();
                    prefixes.sort_by_key(|(p, _)| *p);
                    prefixes.dedup_by_key(|(p, _)| *p);
                    Owner {
                        name,
                        kind: OwnerKind::External,
                        universe: AddrSet::from_prefixes(prefixes.iter().map(|(p, _)| p)),
                        prefix_spans: prefixes.iter().map(|(_, s)| *s).collect(),
                        prefixes: prefixes.into_iter().map(|(p, _)| p).collect(),
                        id_span: external.name.span,
                        span: external.name.span,
                    }
                }
            };
            self.model.owners.push(owner);
        }
        // The first of two segments of one name is the one that names mean.
        segments.sort_by(|a, b| (a.0, &a.1.name.node).cmp(&(b.0, &b.1.name.node)));
        segments.dedup_by(|b, a| a.0 == b.0 && a.1.name.node == b.1.name.node);
        for (owner, segment, docs) in segments {
            self.segment(owner, segment, docs);
        }
        for id in self.model.owners.ids() {
            let universe = self.model.owners[id].universe.clone();
            Arc::make_mut(&mut self.owner_sets).push(Arc::new(EndSet::owner(id, universe)));
        }
    }

    fn tenant_id(&mut self, owner: OwnerId, tenant: &ast::Tenant) -> u32 {
        let Some(id) = &tenant.id else {
            self.report.taint(owner);
            return 0;
        };
        if (1..=MAX_24).contains(&id.node) {
            return u32::try_from(id.node).unwrap_or(0);
        }
        let d = self.error(Code::PW0006, id.span, format!("a tenant's id is 1..{MAX_24}, not {}", id.node));
        d.label = "out of range".into();
        self.report.taint(owner);
        0
    }

    fn segment(&mut self, owner: OwnerId, ast: &ast::Segment, docs: &[String]) {
        let count = u32::try_from(self.model.segments.len()).unwrap_or(0);
        let vni = match &ast.vni {
            Some(vni) if (1..=MAX_24).contains(&vni.node) => u32::try_from(vni.node).unwrap_or(NO_VNI),
            Some(vni) => {
                let d = self.error(Code::PW0201, vni.span, format!("VNI {} does not exist", vni.node));
                d.label = format!("a VNI is 1..{MAX_24}");
                d.help = Some("a VNI has 24 bits, and 0 is none".into());
                self.report.taint(owner);
                NO_VNI + count
            }
            None => NO_VNI + count,
        };
        let mut prefixes = Vec::new();
        for written in &ast.prefixes {
            let Some(prefix) = self.prefix(&written.prefix) else {
                self.report.taint(owner);
                continue;
            };
            let router = self.router(prefix, written);
            prefixes.push(SegmentPrefix { prefix, router, span: written.prefix.span });
        }
        let fits = self.model.fabric.underlay_mtu.saturating_sub(self.model.fabric.overhead());
        let mtu = ast.mtu.as_ref().map_or(fits, |m| u32::try_from(m.node).unwrap_or(u32::MAX));
        let set = AddrSet::from_prefixes(prefixes.iter().map(|p| &p.prefix));
        let tenant = &mut self.model.owners[owner];
        tenant.universe = tenant.universe.union(&set);
        for prefix in &prefixes {
            tenant.prefixes.push(prefix.prefix);
            tenant.prefix_spans.push(prefix.span);
        }
        Arc::make_mut(&mut self.segment_sets).push(Arc::new(EndSet::owner(owner, set)));
        self.model.segments.push(Segment {
            tenant: owner,
            name: ast.name.node.clone(),
            vni,
            vni_span: ast.vni.as_ref().map_or(ast.name.span, |v| v.span),
            prefixes,
            mtu,
            mtu_span: ast.mtu.as_ref().map(|m| m.span),
            docs: docs.to_vec(),
            span: ast.name.span,
        });
    }

    /// The router address of a segment's prefix: the one written, or the first host address.
    fn router(&mut self, prefix: Prefix, written: &ast::SegmentPrefix) -> u128 {
        let hosts = prefix.family.bits() - prefix.len();
        let Some(router) = &written.router else {
            if hosts <= 1 {
                let d = self.error(
                    Code::PW0004,
                    written.prefix.span,
                    format!("`{prefix}` needs its router written"),
                );
                d.label = "it has no address to spare for a default one".into();
                d.help = Some(format!("write `{prefix} router ADDRESS`"));
                return prefix.lo();
            }
            return prefix.lo() + 1;
        };
        let (family, address) = parse_addr(router.node);
        if family != prefix.family || !prefix.contains_addr(address) {
            let d = self.error(
                Code::PW0205,
                router.span,
                format!("the router's address `{}` lies outside its prefix `{prefix}`", router.node),
            );
            d.label = "not in the segment".into();
            d.related.push(Label { span: written.prefix.span, message: "the prefix".into() });
            d.help = Some(format!("a router has an address of its segment, such as `{}`", {
                crate::algebra::format_addr(prefix.family, prefix.lo() + u128::from(hosts > 1))
            }));
            return prefix.lo() + u128::from(hosts > 1);
        }
        address
    }

    /// The id of a tenant's segment.
    pub(super) fn segment_id(&self, tenant: OwnerId, name: &str) -> Option<SegmentId> {
        self.known()
            .segments
            .as_slice()
            .binary_search_by(|s| (s.tenant, s.name.as_str()).cmp(&(tenant, name)))
            .ok()
            .map(SegmentId::from_index)
    }

    pub(super) fn routes(&mut self) {
        let mut routes: Vec<Route> = Vec::new();
        for owner in self.model.owners.ids() {
            let members = self.symbols.members_of(owner, |kind| match kind {
                MemberKind::Route(route) => Some(route),
                _ => None,
            });
            for (member, route) in members {
                match self.route(owner, member, route) {
                    Some(route) => routes.push(route),
                    None => self.report.taint(owner),
                }
            }
        }
        routes.sort_by(|a, b| {
            let key = |r: &Route| match &r.target {
                RouteTarget::Via(g) => (r.tenant, r.prefix, g.0, None),
                RouteTarget::Direct { segment, .. } => (r.tenant, r.prefix, 0, Some(*segment)),
            };
            key(a).cmp(&key(b))
        });
        for route in routes {
            self.model.routes.push(route);
        }
    }

    fn route(&mut self, owner: OwnerId, member: &ast::Member, route: &ast::Route) -> Option<Route> {
        let prefix = self.prefix(&route.prefix)?;
        let (target, target_span) = match &route.target {
            ast::RouteTarget::Via(gateway) => {
                let id = self.gateway_id(gateway)?;
                self.used.gateways.insert(id);
                (RouteTarget::Via(id), gateway.span)
            }
            ast::RouteTarget::Segment { tenant, segment, direct, why } => {
                let provider = self.tenant(tenant)?;
                let Some(id) = self.segment_id(provider, &segment.node) else {
                    let names: Vec<String> = self
                        .model
                        .segments
                        .values()
                        .filter(|s| s.tenant == provider)
                        .map(|s| s.name.clone())
                        .collect();
                    let what = format!("segment of tenant `{}`", tenant.node);
                    self.unknown(&what, segment, names.iter().map(String::as_str));
                    return None;
                };
                let span = tenant.span.to(segment.span);
                if direct.is_none() || why.is_none() {
                    let missing = if direct.is_none() { "`direct` and a reason" } else { "a reason" };
                    let d = self.error(
                        Code::PW0501,
                        member.span,
                        format!(
                            "this route takes packets to tenant `{}` past every gateway and does not say {missing}",
                            tenant.node
                        ),
                    );
                    d.label = "no gateway stands between the two tenants".into();
                    d.help = Some(
                        "expose the service through a gateway; or, if the leak is meant, add `direct \"why\"`, \
                         which every audit lists"
                            .into(),
                    );
                }
                let inside = self.model.segments[id].prefixes.iter().any(|p| p.prefix.contains(prefix));
                if !inside {
                    let have: Vec<String> =
                        self.model.segments[id].prefixes.iter().map(|p| p.prefix.to_string()).collect();
                    let d = self.error(
                        Code::PW0307,
                        route.prefix.span,
                        format!(
                            "`{prefix}` lies outside segment `{}.{}`, so nothing there can answer",
                            tenant.node, segment.node
                        ),
                    );
                    d.label = format!("the segment has {}", have.join(", "));
                    d.help =
                        Some("a direct route translates nothing: name a prefix within the segment".into());
                    return None;
                }
                let why = why.as_ref().map(|w| w.node.clone()).unwrap_or_default();
                (RouteTarget::Direct { segment: id, why }, span)
            }
            ast::RouteTarget::Error => return None,
        };
        Some(Route {
            tenant: owner,
            prefix,
            prefix_span: route.prefix.span,
            target,
            target_span,
            docs: member.docs.clone(),
            span: member.span,
        })
    }
}
