//! PW0403: rules without which their policy says the same.
//!
//! A flow *reaches* a policy in a view if no higher tier decides it and no policy that overrides this one gives a verdict. Of those
//! flows, the ones that meet a rule first are the ones that it decides. The rule is redundant if each of them, on every channel of
//! every view, meets next a rule of the same verdict, among the later rules that are left.
//!
//! Rules are judged from the last one up. One that is found redundant is left out for those before it, and so is one that decides
//! nothing: without it, too, the policy says the same, and it only has a code that says more (PW0402, PW0404). A rule with `log`
//! is never left out.

use crate::checks::conflict::astray;
use crate::checks::shadow::{Blocker, Coverage, Weight, by_overlap, irreducible, list, overlap};
use crate::checks::view::ViewScene;
use crate::checks::{Findings, Task};
use crate::encode::{RuleTerms, ViewTerms};
use crate::properties;
use crate::replay;
use crate::scene::Found;
use crate::solver::Fault;
use crate::terms::Term;
use compiler::Compiled;
use compiler::algebra::Family;
use compiler::eval::{self, Way};
use compiler::ids::{ChannelId, PolicyId, RuleId};
use compiler::packet::Flow;
use compiler::sets::ServiceSet;
use lang::codes::Code;
use lang::diag::Diagnostic;
use std::collections::{BTreeMap, BTreeSet};

/// Rules that are left out for those before them.
pub type Gone = BTreeSet<RuleId>;

/// What is known of a rule before it is asked whether it is redundant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Life {
    /// It decides no flow.
    Dead,
    /// It decides some flow.
    Alive,
    /// It decides some flow, and is known not to be redundant, whatever is left out.
    Needed,
    /// It is not judged, or undecided: it stays.
    Open,
}

/// The rules of one policy, judged.
#[derive(Debug, Default)]
pub struct Judged {
    pub gone: Gone,
    /// Those of them that decide something, ascending.
    pub redundant: Vec<RuleId>,
    /// What the budget did not suffice for, ascending.
    pub undecided: Vec<RuleId>,
}

/// Whether two rules give one verdict on this way. An `allow via` through another gateway than the flow's own is an error of its
/// own (PW0505): it is like no rule.
#[must_use]
pub fn same(c: &Compiled, way: Way, a: RuleId, b: RuleId) -> bool {
    let verdict = |id: RuleId| eval::verdict_on(c.model.rules[id].action, way);
    !astray(c, way, a) && !astray(c, way, b) && verdict(a) == verdict(b)
}

/// False only if no flow that meets the rule can meet its verdict next.
#[must_use]
pub fn may_repeat(task: Task<'_>, id: RuleId, gone: &Gone) -> bool {
    let rules = &task.c.model.rules;
    let kind = |id: RuleId| std::mem::discriminant(&rules[id].action);
    let meets = |a: &ServiceSet, b: &ServiceSet| !a.intersect(b).boxes.is_empty();
    replay::later(task.c, id).iter().any(|other| {
        kind(*other) == kind(id) && !gone.contains(other) && meets(&rules[id].service, &rules[*other].service)
    })
}

/// Whether what a rule decides meets the same verdict next, without the rules that are gone; `None` if that is undecided.
pub type Repeats<'f> = dyn FnMut(RuleId, &Gone) -> Result<Option<bool>, Fault> + 'f;

/// Judges a policy's rules, from the last one up.
///
/// # Errors
/// What `repeats` returns.
pub fn judge(
    task: Task<'_>,
    policy: PolicyId,
    life: &dyn Fn(RuleId) -> Life,
    repeats: &mut Repeats<'_>,
) -> Result<Judged, Fault> {
    let model = &task.c.model;
    let mut judged = Judged::default();
    for id in model.policies[policy].rules.iter().rev().copied().filter(|id| !model.rules[*id].log) {
        match life(id) {
            Life::Needed | Life::Open => {}
            Life::Dead => {
                judged.gone.insert(id);
            }
            Life::Alive => match repeats(id, &judged.gone)? {
                Some(true) => {
                    judged.gone.insert(id);
                    judged.redundant.push(id);
                }
                Some(false) => {}
                None => judged.undecided.push(id),
            },
        }
    }
    judged.redundant.reverse();
    judged.undecided.reverse();
    Ok(judged)
}

/// PW0901 for a rule.
#[must_use]
pub fn undecided(task: Task<'_>, id: RuleId) -> Findings {
    let rule = &task.c.model.rules[id];
    let mut out = Findings::default();
    out.undecided(task, rule.span, &format!("whether `{}` is redundant", rule.name), Some(&rule.name));
    out
}

/// Whether the evaluator has the rule decide this flow, and has the policy give it another verdict without the rule and without
/// those that are gone.
#[must_use]
pub fn needs(task: Task<'_>, at: Place, id: RuleId, gone: &Gone, flow: &Flow) -> bool {
    let next = replay::next_match(task.c, id, flow, |rule| !gone.contains(&rule));
    replay::deciding(task.c, at.tenant, at.way, flow).contains(&id)
        && !next.is_some_and(|next| same(task.c, at.way, id, next))
}

/// Where a rule matches something: a view on a channel in one family.
#[derive(Debug, Clone, Copy)]
pub struct Place {
    pub tenant: compiler::ids::OwnerId,
    pub channel: ChannelId,
    pub family: Family,
    pub way: Way,
}

/// The finding about a redundant rule, and the later rules that it names. `between`: later rules that are gone and would decide
/// differently some of what the rule matches, ascending.
///
/// # Errors
/// The solver contradicts the evaluator.
pub fn finding(
    task: Task<'_>,
    of: &mut impl Coverage,
    id: RuleId,
    between: &[RuleId],
) -> Result<(Diagnostic, Vec<Blocker>), Fault> {
    let model = &task.c.model;
    let weights = of.weights().clone();
    let cover = irreducible(by_overlap(task, &weights, |_| true), of)?;
    let rule = &model.rules[id];
    let named: Vec<RuleId> = cover
        .iter()
        .filter_map(|blocker| match blocker {
            Blocker::Rule(id) => Some(*id),
            Blocker::Exposure(_) => None,
        })
        .collect();
    let quoted = |ids: &[RuleId]| -> Vec<String> {
        ids.iter().map(|id| format!("`{}`", model.rules[*id].name)).collect()
    };
    let verb = if named.len() == 1 { "gives" } else { "together give" };
    let message = format!(
        "`{}` is redundant: {} {verb} all of its flows the same verdict",
        rule.name,
        list(&quoted(&named))
    );
    let mut finding = Diagnostic::new(Code::PW0403, rule.span, message)
        .label("its policy says the same without this rule")
        .rule(&rule.name);
    for id in &named {
        let other = &model.rules[*id];
        finding = finding
            .related(other.span, format!("`{}` gives its flows the same verdict", other.name))
            .rule(&other.name);
    }
    for id in between {
        let other = &model.rules[*id];
        finding = finding.related(other.span, format!("`{}` has to go with it", other.name));
    }
    finding = finding.help(match between {
        [] => "remove the rule; nothing changes without it".to_owned(),
        _ => format!(
            "remove the rule together with {}: left in place, that would decide some of its flows differently",
            list(&quoted(between))
        ),
    });
    Ok((finding, cover))
}

/// The rules after one, in its policy.
fn later_terms(view: &ViewTerms, id: RuleId) -> Option<&[RuleTerms]> {
    let policies = view.tiers.iter().flat_map(|tier| &tier.policies);
    policies.into_iter().find_map(|policy| {
        let at = policy.rules.iter().position(|r| r.rule == id)?;
        policy.rules.get(at + 1..)
    })
}

fn place(at: &ViewScene<'_>) -> Place {
    Place { tenant: at.tenant, channel: at.channel, family: at.family(), way: at.way }
}

/// Whether what a rule decides in these scenes meets the same verdict next, with Z3 alone; `None` if that is undecided.
///
/// # Errors
/// The solver contradicts the evaluator.
pub fn repeats(
    task: Task<'_>,
    scenes: &mut [ViewScene<'_>],
    id: RuleId,
    gone: &Gone,
) -> Result<Option<bool>, Fault> {
    let mut undecided = false;
    for at in scenes {
        let Some(later) = later_terms(&at.view, id) else { continue };
        let kept: Vec<(bool, Term)> = later
            .iter()
            .filter(|r| !gone.contains(&r.rule))
            .map(|r| (same(task.c, at.way, id, r.rule), r.matches))
            .collect();
        let here = place(at);
        let pool = &mut at.scene.encoder.pool;
        let decides = properties::decides(pool, &at.view, id);
        let term = properties::needed(pool, decides, &kept);
        match at.scene.ask(term, &|flow| needs(task, here, id, gone, flow))? {
            Found::Yes(_) => return Ok(Some(false)),
            Found::No => {}
            Found::Undecided => undecided = true,
        }
    }
    Ok(if undecided { None } else { Some(true) })
}

/// One scene in which the rule matches, with the flows to which each later rule gives the same verdict there.
struct Part<'s, 'c> {
    at: &'s mut ViewScene<'c>,
    decides: Term,
    regions: Vec<(Blocker, Term)>,
}

struct Parts<'s, 'c> {
    task: Task<'c>,
    id: RuleId,
    weights: BTreeMap<Blocker, Weight>,
    parts: Vec<Part<'s, 'c>>,
    /// Z3's steps that all questions together may still cost: as many as one question of whether the rule is redundant.
    steps: u64,
}

/// PW0403 for a redundant rule, with Z3 alone.
///
/// # Errors
/// The solver contradicts the evaluator.
pub fn report<'c>(
    task: Task<'c>,
    scenes: &mut [ViewScene<'c>],
    id: RuleId,
    gone: &Gone,
) -> Result<Findings, Fault> {
    let c = task.c;
    let rule = &c.model.rules[id];
    let mut weights: BTreeMap<Blocker, Weight> = BTreeMap::new();
    let mut between: BTreeSet<RuleId> = BTreeSet::new();
    let mut parts = Vec::new();
    for at in scenes {
        let Some(later) = later_terms(&at.view, id) else { continue };
        let here = place(at);
        let pool = &mut at.scene.encoder.pool;
        let decides = properties::decides(pool, &at.view, id);
        let mut regions = Vec::new();
        // What matches before, with another verdict.
        let mut others = Term::FALSE;
        for other in later {
            let channel = &c.channels[here.channel];
            let common = overlap(channel, here.family, rule, Some(&c.model.rules[other.rule]));
            let (repeats, left_out) = (same(c, here.way, id, other.rule), gone.contains(&other.rule));
            if left_out {
                between.extend((!repeats && common > 0.0).then_some(other.rule));
            } else if !repeats {
                others = pool.or([others, other.matches]);
            } else if common > 0.0 {
                let name = Blocker::Rule(other.rule);
                weights.entry(name).or_default().overlap += common;
                regions.push((name, pool.minus(other.matches, others)));
            }
        }
        parts.push(Part { at, decides, regions });
    }
    let between: Vec<RuleId> = between.into_iter().collect();
    let mut parts = Parts { task, id, weights, parts, steps: task.budget.into() };
    let (finding, _) = finding(task, &mut parts, id, &between)?;
    if parts.steps == 0 {
        let mut out = Findings::default();
        let question = format!("which rules together repeat `{}`", rule.name);
        out.undecided(task, rule.span, &question, Some(&rule.name));
        return Ok(out);
    }
    Ok(Findings { diagnostics: vec![finding], undecided: 0 })
}

impl Coverage for Parts<'_, '_> {
    fn weights(&self) -> &BTreeMap<Blocker, Weight> {
        &self.weights
    }

    fn covers(&mut self, cover: &[Blocker]) -> Result<Option<bool>, Fault> {
        let (c, id) = (self.task.c, self.id);
        for part in &mut self.parts {
            if self.steps == 0 {
                return Ok(None);
            }
            let regions: Vec<Term> =
                part.regions.iter().filter(|(b, _)| cover.contains(b)).map(|(_, region)| *region).collect();
            let (tenant, way) = (part.at.tenant, part.at.way);
            let term = properties::uncovered(&mut part.at.scene.encoder.pool, part.decides, &regions);
            let shows = |flow: &Flow| replay::deciding(c, tenant, way, flow).contains(&id);
            let found = part.at.scene.ask(term, &shows)?;
            self.steps = self.steps.saturating_sub(part.at.scene.spent);
            match found {
                Found::No => {}
                Found::Yes(_) => return Ok(Some(false)),
                Found::Undecided => self.steps = 0,
            }
        }
        Ok((self.steps > 0).then_some(true))
    }
}
