//! PW0301 and PW0302 against a tenant's own segments: what is presented or shown to it, or routed by it, must not hold
//! addresses that it has itself.

use super::entry::{Entry, Kind};
use super::free::Free;
use crate::algebra::{AddrSet, Prefix};
use crate::checks::{owner, shown};
use crate::ids::{ExposureId, OwnerId, RouteId};
use crate::model::{Exposure, Mapping, Model};
use crate::report::Report;
use lang::codes::Code;
use lang::diag::Diagnostic;
use lang::span::Span;
use std::collections::{BTreeMap, BTreeSet};

/// Translated prefixes listed in full in a help; beyond this many only the first is named.
const LISTED: usize = 8;

/// An untranslated prefix inside the segments of those who see it.
struct Hit {
    exposure: ExposureId,
    /// The space in which it overlaps.
    space: OwnerId,
    /// Whose addresses they are.
    of: OwnerId,
    prefix: Prefix,
    /// Spaces and prefixes concerned, this one included.
    count: usize,
}

/// Reports and removes the entries in error.
pub fn check(model: &Model, spaces: &mut [Vec<Entry>], looping: &BTreeSet<RouteId>, report: &mut Report) {
    // One `as` serves all rows of an `expose`; `clients as` belongs to the row.
    let mut presented: BTreeMap<(OwnerId, Span), Hit> = BTreeMap::new();
    let mut shown: BTreeMap<ExposureId, Hit> = BTreeMap::new();
    let mut captured: BTreeSet<Span> = BTreeSet::new();
    let mut bad: Vec<Vec<bool>> = Vec::with_capacity(spaces.len());
    for (space, entries) in model.owners.ids().zip(spaces.iter()) {
        let universe = &model.owners[space].universe;
        let mut flags = vec![false; entries.len()];
        for (entry, flag) in entries.iter().zip(&mut flags) {
            if !hits(universe, entry.prefix) || entry.is_external_client(model) {
                continue;
            }
            let of = entry.owner.unwrap_or(space);
            let hit = |exposure| Hit { exposure, space, of, prefix: entry.prefix, count: 0 };
            match entry.kind {
                Kind::Import(id) if !model.exposures[id].translates => {
                    let exposure = &model.exposures[id];
                    presented.entry((exposure.provider, exposure.head)).or_insert_with(|| hit(id)).count += 1;
                }
                Kind::Client(id) if !model.exposures[id].translates_clients => {
                    shown.entry(id).or_insert_with(|| hit(id)).count += 1;
                }
                Kind::Via(_) if inside(model, space, entry.prefix).is_none() => continue,
                Kind::Direct(id) if looping.contains(&id) => {}
                _ => {
                    if captured.insert(entry.span) {
                        capture(model, space, entry, report);
                    }
                }
            }
            *flag = true;
            report.taint(space);
            report.taint(of);
        }
        bad.push(flags);
    }
    if !presented.is_empty() || !shown.is_empty() {
        let mut free = Free::everywhere(model, spaces);
        for hit in presented.values() {
            missing_as(model, hit, &mut shown, spaces, &mut free, report);
        }
        for hit in shown.values() {
            missing_clients_as(model, hit, spaces, &mut free, report);
        }
    }
    for (entries, flags) in spaces.iter_mut().zip(bad) {
        let mut flags = flags.into_iter();
        entries.retain(|_| !flags.next().unwrap_or_default());
    }
}

/// Whether the set has an address in the prefix.
fn hits(set: &AddrSet, prefix: Prefix) -> bool {
    let ranges = set.family(prefix.family).ranges();
    let at = ranges.partition_point(|(_, hi)| *hi < prefix.lo());
    ranges.get(at).is_some_and(|(lo, _)| *lo <= prefix.hi())
}

/// The tenant's first prefix that overlaps this one, and its place.
fn overlapped(model: &Model, tenant: OwnerId, prefix: Prefix) -> Option<(Prefix, Span)> {
    let owner = &model.owners[tenant];
    owner.prefixes.iter().zip(&owner.prefix_spans).find(|(p, _)| p.overlaps(prefix)).map(|(p, s)| (*p, *s))
}

/// The tenant's prefix that holds all of this one.
fn inside(model: &Model, tenant: OwnerId, prefix: Prefix) -> Option<Prefix> {
    model.owners[tenant].prefixes.iter().copied().find(|p| p.contains(prefix))
}

/// PW0302
fn capture(model: &Model, space: OwnerId, entry: &Entry, report: &mut Report) {
    let name = &model.owners[space].name;
    let Some((own, own_span)) = overlapped(model, space, entry.prefix) else { return };
    let what = entry.describe(model);
    let help = match entry.kind {
        Kind::Import(_) => format!("present it under a prefix outside `{name}`'s segments"),
        Kind::Client(_) => format!("show the clients under a prefix outside `{name}`'s segments"),
        Kind::Via(_) | Kind::Direct(_) => format!("route only prefixes outside `{name}`'s segments"),
    };
    report.push(
        Diagnostic::new(
            Code::PW0302,
            entry.span,
            format!("{what} captures addresses of tenant `{name}`'s own segments"),
        )
        .label(format!("overlaps {own} of `{name}`"))
        .related(own_span, format!("{own} is `{name}`'s own"))
        .help(help),
    );
}

fn finding(model: &Model, hit: &Hit, span: Span, doing: &str) -> Diagnostic {
    let of = &model.owners[hit.of].name;
    let there = owner(model, hit.space);
    let name = &model.exposures[hit.exposure].name;
    let mut finding = Diagnostic::new(
        Code::PW0301,
        span,
        format!(
            "`{name}` {doing} {} of `{of}` untranslated to {there}, whose own segments overlap it",
            shown(hit.prefix)
        ),
    )
    .label(format!("{} of `{of}`", shown(hit.prefix)))
    .rule(name.clone());
    if let Some((own, own_span)) = overlapped(model, hit.space, hit.prefix) {
        finding = finding.related(own_span, format!("{own} of {there}"));
    }
    if hit.count > 1 {
        finding = finding.note(format!("{} more overlaps have the same cause", hit.count - 1));
    }
    finding
}

/// The prefixes to write, in order: a free one for each that overlaps, the others as they are.
fn replacement(
    model: &Model,
    real: &[(Prefix, bool)],
    seers: &[OwnerId],
    spaces: &[Vec<Entry>],
    free: &mut Free,
) -> Option<Vec<Prefix>> {
    let mut local: Option<Free> = None;
    let mut out = Vec::with_capacity(real.len());
    for (prefix, overlaps) in real {
        if !overlaps {
            out.push(*prefix);
            continue;
        }
        let (family, len) = (prefix.family, prefix.len());
        out.push(match free.take(family, len) {
            Some(found) => found,
            // Large projects may leave nothing free everywhere; those who see it are what matters.
            None => local
                .get_or_insert_with(|| Free::within(model, spaces, seers.iter().copied()))
                .take(family, len)?,
        });
    }
    Some(out)
}

fn clause(word: &str, what: &str, real: &[(Prefix, bool)], found: Option<&[Prefix]>) -> String {
    let Some(found) = found else {
        return format!(
            "add `{word} …` with prefixes that are free there; no private range has one of this length left"
        );
    };
    let list = |prefixes: &[Prefix]| prefixes.iter().map(|p| shown(*p)).collect::<Vec<_>>().join(", ");
    if found.len() <= LISTED {
        return format!("{what} under a free prefix: `{word} {}`", list(found));
    }
    let first = real.iter().zip(found).find(|((_, overlaps), _)| *overlaps);
    let example = first
        .map(|((real, _), free)| format!("; {} is free for {}", shown(*free), shown(*real)))
        .unwrap_or_default();
    format!("{what} under free prefixes: `{word}` with one for each of the {} prefixes{example}", found.len())
}

/// With one row, a missing `clients as` is part of the same finding.
fn missing_as(
    model: &Model,
    hit: &Hit,
    shown: &mut BTreeMap<ExposureId, Hit>,
    spaces: &[Vec<Entry>],
    free: &mut Free,
    report: &mut Report,
) {
    let e = &model.exposures[hit.exposure];
    let rows: Vec<&Exposure> =
        model.exposures.values().filter(|x| x.provider == e.provider && x.head == e.head).collect();
    let mut clients: Vec<OwnerId> = rows.iter().flat_map(|row| row.clients.iter().map(|(o, _)| *o)).collect();
    clients.sort_unstable();
    clients.dedup();
    let seen_by_owner = |prefix: Prefix| {
        clients.iter().any(|c| model.owners[*c].is_tenant() && hits(&model.owners[*c].universe, prefix))
    };
    let real: Vec<(Prefix, bool)> = e.presented.iter().map(|m| (m.real, seen_by_owner(m.real))).collect();
    let found = replacement(model, &real, &clients, spaces, free);
    let mut help = clause("as", "present it", &real, found.as_deref());
    if rows.len() == 1 && shown.remove(&hit.exposure).is_some() {
        help = format!("{help}, and {}", clients_clause(model, e, spaces, free));
    }
    report.push(finding(model, hit, e.set_span, "presents").help(help));
}

fn missing_clients_as(model: &Model, hit: &Hit, spaces: &[Vec<Entry>], free: &mut Free, report: &mut Report) {
    let e = &model.exposures[hit.exposure];
    let help = clients_clause(model, e, spaces, free);
    report.push(finding(model, hit, e.to_span, "shows").help(help));
}

fn clients_clause(model: &Model, e: &Exposure, spaces: &[Vec<Entry>], free: &mut Free) -> String {
    let universe = &model.owners[e.provider].universe;
    let overlaps = |(of, m): &(OwnerId, Mapping)| model.owners[*of].is_tenant() && hits(universe, m.real);
    let real: Vec<(Prefix, bool)> = e.shown.iter().map(|entry| (entry.1.real, overlaps(entry))).collect();
    let found = replacement(model, &real, &[e.provider], spaces, free);
    clause("clients as", "show the clients", &real, found.as_deref())
}
