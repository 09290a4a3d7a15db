//! PW0404 (note): an `allow` of a tenant some of whose flows the platform's rules decide.
//!
//! The flows in question are those that the rule would decide if its tenant's policies stood alone in the view, and does not
//! decide in the view as it is. The platform's own rules get no note: a tier below the tenants' is there to give way to them.

use crate::checks::shadow::list;
use crate::checks::view::ViewScene;
use crate::checks::{Findings, Task};
use crate::properties;
use crate::replay;
use crate::scene::Found;
use crate::solver::Fault;
use compiler::eval::{self, TierDecision, Way};
use compiler::ids::{ChannelId, OwnerId, PolicyId, RuleId};
use compiler::model::Action;
use compiler::packet::Flow;
use lang::codes::Code;
use lang::diag::{Diagnostic, Severity};

/// Rules that a finding points at, at most.
const SHOWN: usize = 3;

/// Whether a note may be due: the rule is a tenant's and allows.
#[must_use]
pub fn concerns(task: Task<'_>, id: RuleId) -> bool {
    let rule = &task.c.model.rules[id];
    matches!(rule.action, Action::Allow { .. }) && task.c.model.policies[rule.policy].owner.is_some()
}

/// Whether the evaluator has the rule decide the flow only if the tenant's policies stand alone.
#[must_use]
pub fn overruled(task: Task<'_>, tenant: OwnerId, way: Way, id: RuleId, flow: &Flow) -> bool {
    replay::deciding_among(task.c, tenant, way, flow, |p| own(task, tenant, p)).contains(&id)
        && !replay::deciding(task.c, tenant, way, flow).contains(&id)
}

fn own(task: Task<'_>, tenant: OwnerId, policy: PolicyId) -> bool {
    task.c.model.policies[policy].owner == Some(tenant)
}

/// The rules of others that decide a flow on which the rule is overruled, ascending by name: in a higher tier, or in a policy that
/// overrides the rule's.
fn overruling(task: Task<'_>, tenant: OwnerId, way: Way, id: RuleId, flow: &Flow) -> Vec<RuleId> {
    let c = task.c;
    let policy = c.model.rules[id].policy;
    let mut out = Vec::new();
    for (tier, policies) in c.views[tenant].iter().enumerate() {
        out = eval::tier_rules(c, policies, flow);
        out.retain(|rule| !own(task, tenant, c.model.rules[*rule].policy));
        if tier == c.model.policies[policy].tier {
            let over = |rule: &RuleId| {
                c.model.policies[c.model.rules[*rule].policy].overrides.binary_search(&policy).is_ok()
            };
            out.retain(over);
            break;
        }
        if let TierDecision::Verdict(_) = eval::tier_decision(c, policies, flow, way) {
            break;
        }
    }
    out.sort_by_key(|rule| c.model.rules[*rule].rank);
    out
}

/// The note about a rule, with the flow that shows it.
#[must_use]
pub fn finding(
    task: Task<'_>,
    tenant: OwnerId,
    (channel, way): (ChannelId, Way),
    id: RuleId,
    flow: &Flow,
) -> Diagnostic {
    let model = &task.c.model;
    let rule = &model.rules[id];
    let by = overruling(task, tenant, way, id, flow);
    let names: Vec<String> = by.iter().map(|r| format!("`{}`", model.rules[*r].name)).collect();
    let (takers, verb) = (list(&names), if by.len() == 1 { "decides" } else { "decide" });
    let message = format!("{takers} of another owner {verb} some of the flows that `{}` would", rule.name);
    let mut finding = Diagnostic::new(Code::PW0404, rule.span, message)
        .severity(Severity::Note)
        .label("this rule does not decide all that it allows")
        .rule(&rule.name);
    let verdict = eval::verdict_on(rule.action, way);
    for other in by.iter().take(SHOWN) {
        let other = &model.rules[*other];
        let how = if eval::verdict_on(other.action, way) == verdict {
            "with the same verdict"
        } else {
            "and decides differently"
        };
        finding = finding
            .related(other.span, format!("`{}` takes some of its flows, {how}", other.name))
            .rule(&other.name);
    }
    if let Some(text) = task.witness(channel, flow) {
        finding = finding.witness(text);
    }
    finding
        .help(format!("narrow the rule to what is left to it, or ask the owner of {takers} for an exception"))
}

/// PW0901 for a rule.
#[must_use]
pub fn undecided(task: Task<'_>, id: RuleId) -> Findings {
    let rule = &task.c.model.rules[id];
    let mut out = Findings::default();
    let question = format!("whether other owners decide some of the flows of `{}`", rule.name);
    out.undecided(task, rule.span, &question, Some(&rule.name));
    out
}

/// The note about a rule, if it is due, with Z3 alone.
///
/// # Errors
/// The solver contradicts the evaluator.
pub fn report(task: Task<'_>, scenes: &mut [ViewScene<'_>], id: RuleId) -> Result<Findings, Fault> {
    let mut unknown = false;
    for at in scenes {
        let (tenant, way, channel) = (at.tenant, at.way, at.channel);
        let service = &task.c.channels[channel].service;
        let encoder = &mut at.scene.encoder;
        let alone = encoder.view_among(tenant, way, service, |policy| own(task, tenant, policy));
        let term = properties::overruled(&mut encoder.pool, &alone, &at.view, id);
        match at.scene.witness(term, &|flow| overruled(task, tenant, way, id, flow))? {
            Found::No => {}
            Found::Yes(flow) => {
                let note = finding(task, tenant, (channel, way), id, &flow);
                return Ok(Findings { diagnostics: vec![note], undecided: 0 });
            }
            Found::Undecided => unknown = true,
        }
    }
    Ok(if unknown { undecided(task, id) } else { Findings::default() })
}
