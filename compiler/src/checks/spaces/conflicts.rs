//! PW0302, PW0303, PW0305 between what stands in one tenant's space beside its segments.

use super::entry::{Entry, Kind};
use super::shares::Shares;
use crate::algebra::Prefix;
use crate::checks::shown;
use crate::ids::{Arena, ExposureId, Id, OwnerId};
use crate::model::{Mapping, Model};
use crate::report::Report;
use lang::codes::Code;
use lang::diag::Diagnostic;
use lang::span::Span;
use std::collections::BTreeSet;

/// How two entries, the second within the prefix of the first, go against each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Clash {
    /// The inner one takes addresses from the outer one.
    Captures,
    TwoMeanings,
    TwoGateways,
    /// One presented address, one service, one client, shown under two addresses.
    TwoSources,
}

/// Providers that translate the clients of some of their exposures.
pub struct Translating(Arena<OwnerId, bool>);

impl Translating {
    pub fn new(model: &Model) -> Self {
        let mut flags = Arena::new(vec![false; model.owners.len()]);
        for exposure in model.exposures.values().filter(|e| e.translates_clients) {
            flags[exposure.provider] = true;
        }
        Self(flags)
    }

    /// Whether a later entry goes with whatever the earlier one goes with.
    pub fn interchangeable(&self, a: &Entry, b: &Entry) -> bool {
        let own_class = matches!(a.kind, Kind::Import(_)) && a.owner.is_some_and(|owner| self.0[owner]);
        a.same_meaning(b) && (!own_class || a.kind == b.kind)
    }

    /// Two exposures of one meaning: whether a connection that both admit would have two source addresses.
    pub fn two_sources(&self, model: &Model, client: OwnerId, a: &Entry, b: &Entry) -> bool {
        let (Kind::Import(a), Kind::Import(b)) = (a.kind, b.kind) else { return false };
        a != b && self.0[model.exposures[a].provider] && shows_differently(model, client, a, b)
    }
}

fn shows_differently(model: &Model, client: OwnerId, a: ExposureId, b: ExposureId) -> bool {
    let (a, b) = (&model.exposures[a], &model.exposures[b]);
    let of = |shown: &[(OwnerId, Mapping)]| -> Vec<Mapping> {
        shown.iter().filter(|(owner, _)| *owner == client).map(|(_, m)| *m).collect()
    };
    let differ = |x: &Mapping, y: &Mapping| {
        x.real.overlaps(y.real)
            && x.seen.lo().wrapping_sub(x.real.lo()) != y.seen.lo().wrapping_sub(y.real.lo())
    };
    let (of_a, of_b) = (of(&a.shown), of(&b.shown));
    !a.service.intersect(&b.service).boxes.is_empty()
        && of_a.iter().any(|x| of_b.iter().any(|y| differ(x, y)))
}

/// Walks entries that are sorted by prefix (a wider one before those inside it) and hands each with those that hold it
/// to `clash`; one that clashes is not compared with later ones, so that each finding points at the first.
pub fn sweep<T: Copy>(
    sorted: &[(Prefix, T)],
    interchangeable: impl Fn(&T, &T) -> bool,
    mut clash: impl FnMut((Prefix, T), (Prefix, T)) -> bool,
) {
    let mut open: Vec<(Prefix, Vec<T>)> = Vec::new();
    for &(prefix, item) in sorted {
        while open.last().is_some_and(|(outer, _)| !outer.contains(prefix)) {
            open.pop();
        }
        let clashes = open
            .iter()
            .any(|(outer, items)| items.iter().any(|other| clash((*outer, *other), (prefix, item))));
        if clashes {
            continue;
        }
        match open.last_mut() {
            Some((outer, items)) if *outer == prefix => {
                if !items.iter().any(|other| interchangeable(other, &item)) {
                    items.push(item);
                }
            }
            _ => open.push((prefix, vec![item])),
        }
    }
}

/// What has been reported, so that one cause is one finding however many spaces show it.
#[derive(Default)]
pub struct Reported(BTreeSet<(Code, Span, Span)>);

impl Reported {
    /// Reports a clash of two entries, unless it has been.
    pub fn push(&mut self, model: &Model, a: &Entry, b: &Entry, finding: Diagnostic, report: &mut Report) {
        let head = |entry: &Entry| match entry.kind {
            Kind::Import(id) | Kind::Client(id) => Some(model.exposures[id].head),
            Kind::Via(_) | Kind::Direct(_) => None,
        };
        let first = match (finding.code, head(a), head(b)) {
            // Exposures of two gateways meet in the spaces of all their clients and of their provider.
            (Code::PW0305, Some(a), Some(b)) => self.once(finding.code, a.max(b), a.max(b)),
            _ => self.once(finding.code, a.span, b.span),
        };
        if first {
            report.push(finding);
        }
    }

    /// Whether this is the first such finding for the two places.
    pub fn once(&mut self, code: Code, a: Span, b: Span) -> bool {
        self.0.insert((code, a.min(b), a.max(b)))
    }
}

/// Reports every clash in every tenant's space.
pub fn check(
    model: &Model,
    spaces: &[Vec<Entry>],
    shares: &Shares,
    reported: &mut Reported,
    report: &mut Report,
) {
    let translating = Translating::new(model);
    for space in model.owners.ids() {
        let Some(entries) = spaces.get(space.index()) else { continue };
        let mut sorted: Vec<(Prefix, Entry)> = entries.iter().map(|e| (e.prefix, *e)).collect();
        sorted.sort_by_key(|(p, e)| (p.family, p.lo(), p.len(), e.span));
        sweep(
            &sorted,
            |a, b| translating.interchangeable(a, b),
            |(_, outer), (_, inner)| {
                let judged = judge(model, shares, &outer, &inner).or_else(|| {
                    translating.two_sources(model, space, &outer, &inner).then_some(Clash::TwoSources)
                });
                let Some(clash) = judged else { return false };
                for owner in [Some(space), outer.owner, inner.owner].into_iter().flatten() {
                    if model.owners[owner].is_tenant() {
                        report.taint(owner);
                    }
                }
                let finding = explain(model, space, clash, &outer, &inner);
                reported.push(model, &outer, &inner, finding, report);
                true
            },
        );
    }
}

/// `inner` lies within `outer`'s prefix, or has the same.
fn judge(model: &Model, shares: &Shares, outer: &Entry, inner: &Entry) -> Option<Clash> {
    let equal = outer.prefix == inner.prefix;
    let two_meanings = equal.then_some(Clash::TwoMeanings);
    match (route(model, outer), route(model, inner)) {
        (Route::Tenant, Route::Tenant) if outer.owner != inner.owner => {
            Some(if equal { Clash::TwoMeanings } else { Clash::Captures })
        }
        (Route::Tenant, Route::Tenant) if outer.shift != inner.shift => Some(Clash::TwoMeanings),
        (Route::Tenant, Route::Tenant) => (outer.gateway != inner.gateway).then_some(Clash::TwoGateways),
        (Route::Tenant, Route::Gateway) => Some(if equal { Clash::TwoMeanings } else { Clash::Captures }),
        (Route::Gateway, Route::Tenant) | (Route::Client, Route::Tenant) | (Route::Tenant, Route::Client) => {
            two_meanings
        }
        (Route::Gateway, Route::Gateway) => match (outer.gateway, inner.gateway) {
            (Some(a), Some(b)) if equal && a != b => {
                Some(if shares.alike(a, b, inner.prefix) { Clash::TwoGateways } else { Clash::TwoMeanings })
            }
            _ => None,
        },
        (Route::Gateway, Route::Client) => client_and_route(shares, inner, outer, inner.prefix, equal),
        (Route::Client, Route::Gateway) => client_and_route(shares, outer, inner, inner.prefix, equal),
        (Route::Client, Route::Client) if outer.owner != inner.owner || outer.shift != inner.shift => {
            two_meanings
        }
        (Route::Client, Route::Client) => (outer.gateway != inner.gateway).then_some(Clash::TwoGateways),
    }
}

/// What an entry leads to, as far as clashes go.
enum Route {
    /// A tenant's addresses.
    Tenant,
    /// The externals behind a gateway.
    Gateway,
    /// An external that uses what the tenant exposes: a route for its replies.
    Client,
}

fn route(model: &Model, entry: &Entry) -> Route {
    match entry.kind {
        Kind::Via(_) => Route::Gateway,
        _ if entry.is_external_client(model) => Route::Client,
        _ => Route::Tenant,
    }
}

/// An external's client prefix and a route to a gateway; `within` is the narrower of the two.
fn client_and_route(
    shares: &Shares,
    client: &Entry,
    route: &Entry,
    within: Prefix,
    equal: bool,
) -> Option<Clash> {
    let (Some(external), Some(gateway)) = (client.owner, route.gateway) else { return None };
    if client.shift != 0 {
        return equal.then_some(Clash::TwoMeanings);
    }
    if client.gateway == route.gateway {
        return None;
    }
    if !shares.of(gateway, external, within).is_empty() {
        return Some(Clash::TwoGateways);
    }
    equal.then_some(Clash::TwoMeanings)
}

fn explain(model: &Model, space: OwnerId, clash: Clash, outer: &Entry, inner: &Entry) -> Diagnostic {
    let name = &model.owners[space].name;
    // Where nothing says which is in error, the one declared later is.
    let (first, second) =
        if clash == Clash::Captures || outer.span <= inner.span { (outer, inner) } else { (inner, outer) };
    let (a, b) = (first.describe(model), second.describe(model));
    let finding = match clash {
        Clash::Captures => Diagnostic::new(
            Code::PW0302,
            second.span,
            format!("in the space of tenant `{name}` {b} captures addresses of {a}"),
        )
        .label("the longer prefix wins")
        .help("make the two prefixes disjoint: present or show one of them under another prefix"),
        Clash::TwoMeanings => Diagnostic::new(
            Code::PW0303,
            second.span,
            format!("in the space of tenant `{name}` {} means two things: {a}, and {b}", shown(inner.prefix)),
        )
        .label("the second meaning")
        .help("one prefix means one thing: present or show one of the two under another prefix, or drop it"),
        Clash::TwoGateways => Diagnostic::new(
            Code::PW0305,
            second.span,
            format!(
                "in the space of tenant `{name}` {} is reached on two paths: by {} ({a}) and by {} ({b})",
                shown(inner.prefix),
                first.path(model),
                second.path(model)
            ),
        )
        .label(format!("by {}", second.path(model)))
        .help("let both name one gateway: longest match knows neither services nor clients"),
        Clash::TwoSources => Diagnostic::new(
            Code::PW0303,
            second.span,
            format!("{a} and {b} show `{name}`'s clients differently: one connection would have two source addresses"),
        )
        .label("the second translation")
        .help("write the same `clients as` in both, or let their services differ"),
    };
    let finding = finding.related(first.span, a);
    [first, second].into_iter().fold(finding, |finding, entry| match entry.kind {
        Kind::Import(id) | Kind::Client(id) => finding.rule(model.exposures[id].name.clone()),
        Kind::Via(_) | Kind::Direct(_) => finding,
    })
}
