//! PW0303 and PW0305 in the spaces of externals, where every address has one owner: what is presented there, the source
//! addresses that tenants' flows show, and masquerade addresses.

use super::conflicts::{Reported, Translating, sweep};
use super::entry::Entry;
use crate::algebra::{Family, Prefix, parse_addr};
use crate::checks::shown;
use crate::compiled::{ChannelKind, Compiled};
use crate::ids::{GatewayId, OwnerId};
use crate::model::{Model, RouteTarget};
use crate::report::Report;
use lang::codes::Code;
use lang::diag::Diagnostic;
use lang::span::Span;
use std::collections::{BTreeMap, BTreeSet};

#[derive(Debug, Clone, Copy)]
enum Seen {
    Presented(Entry),
    /// A tenant's own addresses as the sources of its flows; the span is its route's.
    Source {
        tenant: OwnerId,
        span: Span,
    },
    Masquerade {
        tenant: OwnerId,
        span: Span,
    },
}

impl Seen {
    fn owner(&self) -> Option<OwnerId> {
        match self {
            Self::Presented(entry) => entry.owner,
            Self::Source { tenant, .. } | Self::Masquerade { tenant, .. } => Some(*tenant),
        }
    }

    fn span(&self) -> Span {
        match self {
            Self::Presented(entry) => entry.span,
            Self::Source { span, .. } | Self::Masquerade { span, .. } => *span,
        }
    }

    fn describe(&self, model: &Model) -> String {
        let name = |owner: Option<OwnerId>| owner.map_or("", |id| model.owners[id].name.as_str());
        match self {
            Self::Presented(entry) => entry.describe(model),
            Self::Source { .. } => format!("the sources of `{}`'s flows there", name(self.owner())),
            Self::Masquerade { .. } => format!("a masquerade address of `{}`", name(self.owner())),
        }
    }
}

pub fn check(compiled: &Compiled, reported: &mut Reported, report: &mut Report) {
    let model = &compiled.model;
    let mut spaces: BTreeMap<OwnerId, Vec<(Prefix, Seen)>> = BTreeMap::new();
    for (id, exposure) in model.exposures.iter() {
        for (client, _) in exposure.clients.iter().filter(|(client, _)| !model.owners[*client].is_tenant()) {
            let presented = exposure.presented.iter().map(|m| Entry::import(model, id, m));
            spaces.entry(*client).or_default().extend(presented.map(|e| (e.prefix, Seen::Presented(e))));
        }
    }
    for masquerade in model.gateways.values().flat_map(|g| &g.masquerades) {
        for address in &masquerade.addresses {
            let (family, value) = parse_addr(*address);
            let seen = Seen::Masquerade { tenant: masquerade.tenant, span: masquerade.as_span };
            spaces.entry(masquerade.external).or_default().push((Prefix::host(family, value), seen));
        }
    }
    sources(compiled, &mut spaces);
    let translating = Translating::new(model);
    for (external, mut entries) in spaces {
        entries.sort_by_key(|(p, seen)| (p.family, p.lo(), p.len(), seen.span()));
        sweep(
            &entries,
            |a, b| match (a, b) {
                (Seen::Presented(a), Seen::Presented(b)) => translating.interchangeable(a, b),
                (Seen::Source { tenant: a, .. }, Seen::Source { tenant: b, .. }) => a == b,
                _ => false,
            },
            |(_, outer), (prefix, inner)| {
                let Some(code) = judge(model, &translating, external, &outer, &inner) else { return false };
                let finding = explain(model, code, external, prefix, &outer, &inner);
                for seen in [outer, inner] {
                    if let (Seen::Presented(_), Some(owner)) = (seen, seen.owner()) {
                        report.taint(owner);
                    }
                }
                match (&outer, &inner) {
                    (Seen::Presented(a), Seen::Presented(b)) => reported.push(model, a, b, finding, report),
                    _ if reported.once(code, outer.span(), inner.span()) => report.push(finding),
                    _ => {}
                }
                true
            },
        );
    }
}

/// Adds the source addresses of every possible flow to an external that no masquerade replaces.
fn sources(compiled: &Compiled, spaces: &mut BTreeMap<OwnerId, Vec<(Prefix, Seen)>>) {
    let model = &compiled.model;
    let masqueraded = model.masqueraded();
    let mut done: BTreeSet<(OwnerId, OwnerId, Family)> = BTreeSet::new();
    for channel in compiled.channels.values() {
        let ChannelKind::ToExternal(gateway) = channel.kind else { continue };
        let (tenant, external) = (channel.src, channel.dst);
        for family in Family::BOTH {
            let flows =
                !channel.src_set.family(family).is_empty() && !channel.dst_set.family(family).is_empty();
            if !flows
                || masqueraded.contains(&(gateway, tenant, external, family))
                || !done.insert((external, tenant, family))
            {
                continue;
            }
            let owner = &model.owners[tenant];
            let span = route_span(model, tenant, gateway, external, family).unwrap_or(owner.span);
            let prefixes = owner.prefixes.iter().filter(|p| p.family == family);
            spaces.entry(external).or_default().extend(prefixes.map(|p| (*p, Seen::Source { tenant, span })));
        }
    }
}

/// The tenant's first route through this gateway that reaches the external.
fn route_span(
    model: &Model,
    tenant: OwnerId,
    gateway: GatewayId,
    external: OwnerId,
    family: Family,
) -> Option<Span> {
    // Routes are ordered by tenant.
    let routes = model.routes.as_slice();
    let from = routes.partition_point(|r| r.tenant < tenant);
    let reaches =
        |p: Prefix| p.family == family && model.owners[external].prefixes.iter().any(|e| e.overlaps(p));
    routes
        .iter()
        .skip(from)
        .take_while(|r| r.tenant == tenant)
        .find(|r| r.target == RouteTarget::Via(gateway) && reaches(r.prefix))
        .map(|r| r.span)
}

fn judge(
    model: &Model,
    translating: &Translating,
    external: OwnerId,
    outer: &Seen,
    inner: &Seen,
) -> Option<Code> {
    match (outer, inner) {
        (Seen::Presented(a), Seen::Presented(b)) if a.owner != b.owner || a.shift != b.shift => {
            Some(Code::PW0303)
        }
        (Seen::Presented(a), Seen::Presented(b)) if a.gateway != b.gateway => Some(Code::PW0305),
        (Seen::Presented(a), Seen::Presented(b)) => {
            translating.two_sources(model, external, a, b).then_some(Code::PW0303)
        }
        (Seen::Source { tenant: a, .. }, Seen::Source { tenant: b, .. }) => (a != b).then_some(Code::PW0303),
        (Seen::Source { tenant, .. }, Seen::Presented(e))
        | (Seen::Presented(e), Seen::Source { tenant, .. }) => {
            (e.owner != Some(*tenant) || e.shift != 0).then_some(Code::PW0303)
        }
        (Seen::Masquerade { .. }, _) | (_, Seen::Masquerade { .. }) => Some(Code::PW0303),
    }
}

fn explain(
    model: &Model,
    code: Code,
    external: OwnerId,
    prefix: Prefix,
    outer: &Seen,
    inner: &Seen,
) -> Diagnostic {
    let name = &model.owners[external].name;
    let prefix = shown(prefix);
    // A masquerade address yields to what others present; else the one declared later does.
    let yields = |seen: &Seen| (matches!(seen, Seen::Masquerade { .. }), seen.span());
    let (first, second) = if yields(outer) <= yields(inner) { (outer, inner) } else { (inner, outer) };
    let (a, b) = (first.describe(model), second.describe(model));
    let owner = |seen: &Seen| seen.owner().map_or("", |id| model.owners[id].name.as_str());
    let (message, help) = match (first, second) {
        (Seen::Presented(x), Seen::Presented(y)) if code == Code::PW0305 => (
            format!(
                "external `{name}` reaches {prefix} by {} ({a}) and by {} ({b})",
                x.path(model),
                y.path(model)
            ),
            "let both name one gateway".to_owned(),
        ),
        (Seen::Source { .. }, Seen::Source { .. }) => (
            format!(
                "flows of tenants `{}` and `{}` to external `{name}` would both come from {prefix}",
                owner(first),
                owner(second)
            ),
            format!(
                "add `masquerade {} to {name} as …` to the gateway, an address per instance",
                owner(second)
            ),
        ),
        (Seen::Masquerade { .. }, Seen::Masquerade { .. }) => (
            format!(
                "masquerade address {prefix} towards `{name}` is used twice, for `{}` and for `{}`",
                owner(first),
                owner(second)
            ),
            "an address belongs to one tenant and one instance: list another one".to_owned(),
        ),
        _ => (
            format!("in the space of external `{name}` {prefix} means two things: {a}, and {b}"),
            "every address there has one owner: choose another prefix for one of the two".to_owned(),
        ),
    };
    Diagnostic::new(code, second.span(), message).label(b).related(first.span(), a).help(help)
}
