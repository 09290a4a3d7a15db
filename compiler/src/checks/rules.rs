//! Rules, exposures and isolations that match nothing (PW0405), and policies that govern what is not their owner's
//! (PW0504).

use super::{names, owner};
use crate::compiled::{Channel, Compiled};
use crate::ids::{ChannelId, OwnerId};
use crate::model::{Exposure, Isolate, Model, Rule};
use crate::report::Report;
use crate::sets::{EndSet, PairSet, ServiceSet, some_flow};
use lang::codes::Code;
use lang::diag::Diagnostic;
use lang::span::Span;
use rayon::prelude::*;
use std::collections::BTreeSet;
use std::sync::Arc;

pub fn check(compiled: &Compiled, report: &mut Report) {
    let model = &compiled.model;
    // A literal, group or set that lowering found empty is the cause of whatever is empty around it.
    let said: BTreeSet<Span> =
        report.diagnostics.iter().filter(|d| d.code == Code::PW0405).map(|d| d.span).collect();
    let caused = |span: Span| {
        let from = Span::new(span.file, span.start, span.start);
        said.range(from..)
            .take_while(|s| s.file == span.file && s.start < span.end)
            .any(|s| span.contains(*s))
    };
    let empty = std::mem::take(&mut report.empty);
    let over_empty = |rule: &Rule| match &rule.pairs {
        PairSet::SameTenant => false,
        PairSet::Sets(src, dst) => empty.iter().any(|set| Arc::ptr_eq(set, src) || Arc::ptr_eq(set, dst)),
    };
    let matches = |rule: &Rule| channels_of_rule(compiled, rule, |_| Matched::Stop).is_some();
    let judged: Vec<(Option<Foreign>, bool)> =
        model.rules.as_slice().par_iter().map(|rule| (foreign(model, rule), matches(rule))).collect();
    for (rule, (foreign, matched)) in model.rules.values().zip(judged) {
        if let Some(foreign) = foreign {
            governs_foreign(model, rule, foreign, report);
        } else if !matched && !caused(rule.span) && !over_empty(rule) {
            matches_nothing(model, rule, report);
        }
    }
    for exposure in model.exposures.values() {
        if !caused(exposure.set_span) && !caused(exposure.to_span) {
            empty_exposure(model, exposure, report);
        }
    }
    for isolate in &model.isolates {
        if !caused(isolate.span) {
            empty_isolate(model, isolate, report);
        }
    }
}

/// What to do after a channel that a rule matches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Matched {
    Go,
    Stop,
}

/// Hands the channels that hold a flow which the rule matches, in a view that the rule's policy belongs to, to `visit`,
/// until it says to stop; that channel.
pub fn channels_of_rule<'c>(
    compiled: &'c Compiled,
    rule: &Rule,
    mut visit: impl FnMut(&'c Channel) -> Matched,
) -> Option<&'c Channel> {
    let mut stops = |id: ChannelId| {
        let channel = &compiled.channels[id];
        (channel_matches(rule, channel) && visit(channel) == Matched::Stop).then_some(channel)
    };
    match compiled.model.policies[rule.policy].owner {
        Some(tenant) => compiled.channels_of[tenant].iter().copied().find_map(&mut stops),
        None => compiled.channels.ids().find_map(&mut stops),
    }
}

fn channel_matches(rule: &Rule, channel: &Channel) -> bool {
    let same_owner = channel.src == channel.dst;
    let (src, dst) = match &rule.pairs {
        PairSet::SameTenant if !same_owner => return false,
        PairSet::SameTenant => (channel.src_set.clone(), channel.dst_set.clone()),
        PairSet::Sets(s, d) => {
            let (s, d) = (s.of(channel.src), d.of(channel.dst));
            if !s.overlaps(&channel.src_set) || !d.overlaps(&channel.dst_set) {
                return false;
            }
            (s.intersect(&channel.src_set), d.intersect(&channel.dst_set))
        }
    };
    some_flow(same_owner, &src, &dst, &rule.service.intersect(&channel.service))
}

/// A pair of a rule of a policy for `tenant` without an end in it.
#[derive(Debug, Clone, Copy)]
struct Foreign {
    tenant: OwnerId,
    from: OwnerId,
    to: OwnerId,
}

fn foreign(model: &Model, rule: &Rule) -> Option<Foreign> {
    let policy = &model.policies[rule.policy];
    let (Some(tenant), PairSet::Sets(src, dst)) = (policy.owner, &rule.pairs) else { return None };
    let outside = |set: &EndSet| set.some_owner(&model.owners, |id| id != tenant);
    Some(Foreign { tenant, from: outside(src)?, to: outside(dst)? })
}

/// PW0504: a policy for T holds a pair without an end in T.
fn governs_foreign(model: &Model, rule: &Rule, foreign: Foreign, report: &mut Report) {
    let Foreign { tenant, from, to } = foreign;
    let policy = &model.policies[rule.policy];
    let name = &model.owners[tenant].name;
    report.taint(tenant);
    let between = if from == to {
        format!("flows inside {}", owner(model, from))
    } else {
        format!("flows from {} to {}", owner(model, from), owner(model, to))
    };
    report.push(
        Diagnostic::new(
            Code::PW0504,
            rule.pairs_span,
            format!("rule `{}` of a policy for tenant `{name}` governs {between}", rule.name),
        )
        .label(format!("holds pairs without an end in `{name}`"))
        .related(policy.span, format!("this policy is for `{name}`"))
        .help(format!("let one side hold addresses of `{name}` only, or leave this to a platform policy"))
        .rule(rule.name.clone()),
    );
}

/// PW0405 for a rule that no channel holds a flow of.
fn matches_nothing(model: &Model, rule: &Rule, report: &mut Report) {
    // What was left out because it is in error may be just what the rule is about.
    let unsure = match &rule.pairs {
        PairSet::SameTenant => !report.tainted.is_empty(),
        PairSet::Sets(src, dst) => [src, dst]
            .into_iter()
            .any(|set| set.some_owner(&model.owners, |id| report.tainted.contains(&id)).is_some()),
    };
    if unsure {
        return;
    }
    let (why, help) = explain(model, rule);
    report.push(
        Diagnostic::new(Code::PW0405, rule.span, format!("rule `{}` matches no possible flow", rule.name))
            .label(why)
            .help(help)
            .rule(rule.name.clone()),
    );
}

fn explain(model: &Model, rule: &Rule) -> (String, String) {
    let remove = "remove the rule, or correct what it names";
    if rule.service.boxes.is_empty() {
        return ("its service is empty".into(), remove.into());
    }
    let PairSet::Sets(src, dst) = &rule.pairs else {
        return ("no tenant has two addresses that could use this service".into(), remove.into());
    };
    for (set, side) in [(src, "source"), (dst, "destination")] {
        if set.is_empty_within(&model.owners) {
            return (format!("its {side} set holds no address"), remove.into());
        }
    }
    if !families_meet(model, src, dst, &rule.service) {
        return ("its sets and its service have no address family in common".into(), remove.into());
    }
    let (Some(from), Some(to)) =
        (src.some_owner(&model.owners, |_| true), dst.some_owner(&model.owners, |_| true))
    else {
        return ("no flow is possible between its sets".into(), remove.into());
    };
    let (a, b) = (&model.owners[from], &model.owners[to]);
    let (why, help) = if from == to {
        ("one address alone opens no connection to itself".to_owned(), remove.to_owned())
    } else if b.is_tenant() {
        let exposed: Vec<&str> = model
            .exposures
            .values()
            .filter(|e| e.provider == to && e.clients_of(from).is_some())
            .map(|e| e.name.as_str())
            .collect();
        if exposed.is_empty() {
            (
                format!("`{}` exposes nothing to `{}`", b.name, a.name),
                format!(
                    "a flow between owners needs an exposure: add `expose … to {}` in tenant `{}`",
                    a.name, b.name
                ),
            )
        } else {
            (
                format!("no exposure of `{}` to `{}` holds these addresses and this service", b.name, a.name),
                format!("compare it with {}", names(&exposed)),
            )
        }
    } else if a.is_tenant() {
        (
            format!("no route of `{}` leads to these addresses of `{}`", a.name, b.name),
            format!("add `route PREFIX via GATEWAY` in tenant `{}`", a.name),
        )
    } else {
        ("both ends lie outside the fabric".to_owned(), remove.to_owned())
    };
    (why, help)
}

/// Whether some pair has one family for which the service has a protocol.
fn families_meet(model: &Model, src: &EndSet, dst: &EndSet, service: &ServiceSet) -> bool {
    crate::algebra::Family::BOTH.into_iter().any(|family| {
        let has = |set: &EndSet| {
            let in_family =
                |id: OwnerId| set.of(id).family(family).overlaps(model.owners[id].universe.family(family));
            set.some_owner(&model.owners, in_family).is_some()
        };
        service.possible(family) && has(src) && has(dst)
    })
}

/// PW0405 for an exposure.
fn empty_exposure(model: &Model, exposure: &Exposure, report: &mut Report) {
    let (span, why) = if exposure.set.is_empty() {
        (exposure.set_span, "it presents no address")
    } else if exposure.clients.is_empty() {
        (exposure.to_span, "it has no clients")
    } else {
        let clients = || exposure.clients.iter().map(|(_, set)| set);
        if clients().any(|set| some_flow(false, set, &exposure.set, &exposure.service)) {
            return;
        }
        (exposure.to_span, "its addresses, its clients and its service have no address family in common")
    };
    let provider = &model.owners[exposure.provider].name;
    report.push(
        Diagnostic::new(Code::PW0405, span, format!("exposure `{}` makes no flow possible", exposure.name))
            .label(why)
            .help(format!("correct the set, or remove the exposure from tenant `{provider}`"))
            .rule(exposure.name.clone()),
    );
}

/// PW0405 for an isolation one of whose sides is empty: it would hold of anything.
fn empty_isolate(model: &Model, isolate: &Isolate, report: &mut Report) {
    let empty = |set: &EndSet| set.is_empty_within(&model.owners);
    let side = if empty(&isolate.what) {
        "first"
    } else if empty(&isolate.from) {
        "second"
    } else {
        return;
    };
    report.push(
        Diagnostic::new(Code::PW0405, isolate.span, "this isolation concerns no flow, so it always holds")
            .label(format!("its {side} set holds no address"))
            .help("correct the set: an empty one isolates nothing"),
    );
}
