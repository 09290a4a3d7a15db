//! PW0401: unordered policies of one tier that disagree on a possible flow which no higher tier decides.

use crate::checks::view::ViewScene;
use crate::checks::{Findings, Task};
use crate::encode::{PolicyTerms, RuleTerms};
use crate::properties;
use crate::replay;
use crate::scene::Found;
use crate::solver::Fault;
use compiler::Compiled;
use compiler::eval::{self, Way};
use compiler::ids::{ChannelId, OwnerId, RuleId};
use compiler::model::Action;
use compiler::packet::Flow;
use lang::codes::Code;
use lang::diag::Diagnostic;
use std::collections::BTreeMap;

/// What is known of two rules, the one whose name sorts first first.
#[derive(Debug, Clone, Copy)]
pub enum Pair {
    Conflict { tenant: OwnerId, channel: ChannelId, flow: Flow },
    Undecided,
}

/// Conflicting rules, by the ranks of their names.
pub type Pairs = BTreeMap<(u32, u32), (RuleId, RuleId, Pair)>;

/// Adds the conflicts of a view on one channel to `pairs`.
///
/// # Errors
/// The solver contradicts the evaluator.
pub fn conflicts(c: &Compiled, at: &mut ViewScene<'_>, pairs: &mut Pairs) -> Result<(), Fault> {
    let (tenant, way, channel) = (at.tenant, at.way, at.channel);
    for (position, tier) in at.view.tiers.iter().enumerate() {
        let term = properties::conflict(&mut at.scene.encoder.pool, tier);
        let shows = |flow: &Flow| eval::view(c, tenant, flow, way).conflict;
        if at.scene.ask(term, &shows)? == Found::No {
            continue;
        }
        for (index, first) in tier.policies.iter().enumerate() {
            for second in tier.policies.iter().skip(index + 1) {
                for (a, b) in disagreeing(c, way, first, second) {
                    let (a, b) = if rank(c, a.rule) <= rank(c, b.rule) {
                        ((first, a), (second, b))
                    } else {
                        ((second, b), (first, a))
                    };
                    let key = (rank(c, a.1.rule), rank(c, b.1.rule));
                    if matches!(pairs.get(&key), Some((_, _, Pair::Conflict { .. }))) {
                        continue;
                    }
                    let term = properties::both_decide(&mut at.scene.encoder.pool, tier, a, b);
                    let (a, b) = (a.1.rule, b.1.rule);
                    let shows = |flow: &Flow| both_decide(c, (tenant, way, position), (a, b), flow);
                    match at.scene.witness(term, &shows)? {
                        Found::No => {}
                        Found::Yes(flow) => {
                            pairs.insert(key, (a, b, Pair::Conflict { tenant, channel, flow }));
                        }
                        Found::Undecided => {
                            pairs.insert(key, (a, b, Pair::Undecided));
                        }
                    }
                }
            }
        }
    }
    Ok(())
}

fn rank(c: &Compiled, rule: RuleId) -> u32 {
    c.model.rules[rule].rank
}

/// Whether the evaluator has both rules decide the flow, in this tier of a view.
#[must_use]
pub fn both_decide(
    c: &Compiled,
    (tenant, way, tier): (OwnerId, Way, usize),
    (a, b): (RuleId, RuleId),
    flow: &Flow,
) -> bool {
    let rules = eval::tier_rules(c, c.views[tenant].get(tier).map_or(&[], Vec::as_slice), flow);
    let deciding = replay::deciding(c, tenant, way, flow);
    [a, b].iter().all(|r| rules.contains(r) && deciding.contains(r))
}

/// Whether the rule is an `allow via` through a gateway that is not the flow's own: that is PW0505, and gives no second finding.
#[must_use]
pub fn astray(c: &Compiled, way: Way, rule: RuleId) -> bool {
    match c.model.rules[rule].action {
        Action::Allow { via: Some(gateway) } => !way.intra && way.gateway != Some(gateway),
        _ => false,
    }
}

/// The pairs of rules of two policies whose verdicts differ on this way.
fn disagreeing<'t>(
    c: &Compiled,
    way: Way,
    first: &'t PolicyTerms,
    second: &'t PolicyTerms,
) -> Vec<(&'t RuleTerms, &'t RuleTerms)> {
    let astray = |r: &RuleTerms| astray(c, way, r.rule);
    let firsts = first.rules.iter().filter(|r| !astray(r));
    firsts
        .flat_map(|a| second.rules.iter().filter(|r| !astray(r)).map(move |b| (a, b)))
        .filter(|(a, b)| a.verdict != b.verdict)
        .collect()
}

/// The findings of all views, merged: a pair of platform rules is reported once, from the first view that shows it.
#[must_use]
pub fn report(task: Task<'_>, pairs: &Pairs) -> Findings {
    let mut out = Findings::default();
    for (earlier, later, pair) in pairs.values() {
        let (a, b) = (&task.c.model.rules[*earlier], &task.c.model.rules[*later]);
        match pair {
            Pair::Undecided => {
                let question = format!("whether `{}` and `{}` disagree", a.name, b.name);
                out.undecided(task, b.span, &question, Some(&b.name));
            }
            Pair::Conflict { tenant, channel, flow } => {
                let tier = task.c.model.fabric.tiers.get(task.c.model.policies[b.policy].tier);
                let message = format!(
                    "`{}` and `{}` disagree on a flow of `{}` in tier `{}`, and neither policy overrides the other",
                    a.name,
                    b.name,
                    task.owner(*tenant),
                    tier.map_or("", |t| t.name.as_str()),
                );
                let mut finding = Diagnostic::new(Code::PW0401, b.span, message)
                    .label(format!("`{}` here", word(b.action)))
                    .related(a.span, format!("`{}` here", word(a.action)))
                    .help(settle(task.c, *earlier, *later))
                    .rule(&a.name)
                    .rule(&b.name);
                if let Some(witness) = task.witness(*channel, flow) {
                    finding = finding.witness(witness);
                }
                out.diagnostics.push(finding);
            }
        }
    }
    out
}

/// The word that gives this verdict.
#[must_use]
pub fn word(action: Action) -> &'static str {
    match action {
        Action::Allow { via: None } => "allow",
        Action::Allow { via: Some(_) } => "allow … via",
        Action::Deny => "deny",
        Action::Pass => "pass",
    }
}

/// The `overrides` that settles a conflict, as far as the owners may write one.
fn settle(c: &Compiled, a: RuleId, b: RuleId) -> String {
    let (a, b) = (c.model.rules[a].policy, c.model.rules[b].policy);
    let (p, q) = (&c.model.policies[a], &c.model.policies[b]);
    let clause = |over: &str, under: &str| format!("`policy {over} … overrides {under}`");
    match (p.owner, q.owner) {
        (None, Some(_)) => only(&clause(&p.name, &q.name), &q.name),
        (Some(_), None) => only(&clause(&q.name, &p.name), &p.name),
        _ => format!("say which one wins: {} or {}", clause(&p.name, &q.name), clause(&q.name, &p.name)),
    }
}

fn only(clause: &str, tenant_policy: &str) -> String {
    format!(
        "write {clause}; a tenant's policy such as `{tenant_policy}` may not override the platform's, so else narrow its rule"
    )
}
