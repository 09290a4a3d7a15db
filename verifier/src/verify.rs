//! All checks over one compiled form.

use crate::checks::conflict::{Pair, Pairs};
use crate::checks::shadow::Alive;
use crate::checks::view::{self, ViewScene};
use crate::checks::{Findings, Task, conflict, isolate, reach, shadow, tests};
use crate::solver::Fault;
use compiler::Compiled;
use compiler::ids::{Id as _, OwnerId, RuleId};
use lang::diag::Diagnostic;
use rayon::prelude::*;
use std::sync::atomic::{AtomicBool, Ordering};

#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// Z3's resource limit (`rlimit`) for one question: a count of its steps, the same on every machine.
    pub budget: u32,
    /// Threads; `None`: one per core. No output depends on it.
    pub jobs: Option<usize>,
}

impl Options {
    /// Enough for any question about tables that people write; tens of seconds at worst.
    pub const DEFAULT_BUDGET: u32 = 50_000_000;
}

impl Default for Options {
    fn default() -> Self {
        Self { budget: Self::DEFAULT_BUDGET, jobs: None }
    }
}

/// What was found.
#[derive(Debug, Clone, Default)]
pub struct Verdicts {
    /// Ordered by place, code and message.
    pub diagnostics: Vec<Diagnostic>,
    /// Owners whose flows were left out, since some of their declarations are in error; ascending.
    pub skipped: Vec<OwnerId>,
    /// Questions that spent their budget; each is a PW0901.
    pub undecided: usize,
}

/// Runs every check of the verifier.
///
/// # Errors
/// The solver and the reference evaluator contradict each other, or the solver fails: no verdict is to be had.
pub fn verify(c: &Compiled, options: &Options) -> Result<Verdicts, Fault> {
    let task = Task { c, budget: options.budget };
    let run = || all(task);
    let findings = match rayon::ThreadPoolBuilder::new().num_threads(options.jobs.unwrap_or(0)).build() {
        Ok(pool) => pool.install(run),
        // No threads to be had: the calling one will do.
        Err(_) => run(),
    }?;
    let mut diagnostics = findings.diagnostics;
    diagnostics
        .sort_by(|a, b| (a.span, a.code, &a.message, &a.rules).cmp(&(b.span, b.code, &b.message, &b.rules)));
    diagnostics.dedup();
    Ok(Verdicts { diagnostics, skipped: c.model.tainted.clone(), undecided: findings.undecided })
}

/// What one view has shown.
struct ViewResult {
    pairs: Pairs,
    findings: Findings,
    /// Platform rules whose life in this view is undecided.
    undecided: Vec<RuleId>,
}

fn all(task: Task<'_>) -> Result<Findings, Fault> {
    let c = task.c;
    // By rule: some view has shown that it decides. It only saves questions: a platform rule is judged dead after every view
    // was asked about it.
    let alive: Vec<AtomicBool> = c.model.rules.ids().map(|_| AtomicBool::new(false)).collect();
    let tenants: Vec<OwnerId> = c
        .model
        .owners
        .iter()
        .filter(|(id, o)| o.is_tenant() && !task.tainted(*id))
        .map(|(id, _)| id)
        .collect();
    let views: Vec<ViewResult> =
        tenants.par_iter().map(|tenant| one_view(task, *tenant, &alive)).collect::<Result<_, Fault>>()?;

    let mut out = Findings::default();
    let mut pairs = Pairs::new();
    let mut undecided: Vec<RuleId> = Vec::new();
    for view in views {
        for (key, pair) in view.pairs {
            let known = pairs.entry(key).or_insert(pair);
            if matches!(known.2, Pair::Undecided) {
                *known = pair;
            }
        }
        undecided.extend(view.undecided);
        out.append(view.findings);
    }
    out.append(conflict::report(task, &pairs));

    let is_alive = |id: RuleId| alive.get(id.index()).is_some_and(|flag| flag.load(Ordering::Relaxed));
    let platform: Vec<RuleId> = platform_rules(task).filter(|id| !is_alive(*id)).collect();
    let judged: Vec<Findings> = platform
        .par_iter()
        .map(|id| platform_rule(task, *id, &tenants, undecided.contains(id)))
        .collect::<Result<_, Fault>>()?;
    for findings in judged {
        out.append(findings);
    }

    let tests: Vec<Findings> =
        c.model.tests.par_iter().map(|t| tests::test(task, t)).collect::<Result<_, Fault>>()?;
    let isolates: Vec<Findings> = c
        .model
        .isolates
        .par_iter()
        .map(|i| {
            let mut findings = isolate::direct(task, i)?;
            if i.transitively {
                findings.append(reach::transitive(task, i)?);
            }
            Ok(findings)
        })
        .collect::<Result<_, Fault>>()?;
    for findings in tests.into_iter().chain(isolates) {
        out.append(findings);
    }
    Ok(out)
}

fn platform_rules(task: Task<'_>) -> impl Iterator<Item = RuleId> {
    let policies = task.c.model.policies.values().filter(|p| p.owner.is_none());
    policies.flat_map(|p| p.rules.iter().copied())
}

/// Conflicts in a view, its tenant's dead rules, and which platform rules live in it.
fn one_view(task: Task<'_>, tenant: OwnerId, alive: &[AtomicBool]) -> Result<ViewResult, Fault> {
    let c = task.c;
    let mut scenes = view::scenes(task, tenant);
    let mut result = ViewResult { pairs: Pairs::new(), findings: Findings::default(), undecided: Vec::new() };
    for at in &mut scenes {
        conflict::conflicts(c, at, &mut result.pairs)?;
    }
    for policy in c.views[tenant].iter().flatten() {
        let own = c.model.policies[*policy].owner.is_some();
        for id in &c.model.policies[*policy].rules {
            if own {
                if shadow::judged(task, *id) {
                    result.findings.append(own_rule(task, &mut scenes, *id)?);
                }
                continue;
            }
            let Some(flag) = alive.get(id.index()) else { continue };
            if !flag.load(Ordering::Relaxed) {
                match shadow::alive(task, &mut scenes, *id)? {
                    Alive::Yes => flag.store(true, Ordering::Relaxed),
                    Alive::No => {}
                    Alive::Undecided => result.undecided.push(*id),
                }
            }
        }
    }
    Ok(result)
}

fn own_rule<'c>(task: Task<'c>, scenes: &mut [ViewScene<'c>], id: RuleId) -> Result<Findings, Fault> {
    match shadow::alive(task, scenes, id)? {
        Alive::Yes => Ok(Findings::default()),
        Alive::No => shadow::report(task, scenes, id),
        Alive::Undecided => Ok(undecided_rule(task, id)),
    }
}

/// A platform rule that was found to decide in no view.
fn platform_rule(
    task: Task<'_>,
    id: RuleId,
    tenants: &[OwnerId],
    undecided: bool,
) -> Result<Findings, Fault> {
    if !shadow::judged(task, id) {
        return Ok(Findings::default());
    }
    if undecided {
        return Ok(undecided_rule(task, id));
    }
    let mut scenes = Vec::new();
    for tenant in tenants {
        scenes.extend(view::scenes_of(task, *tenant, id));
    }
    shadow::report(task, &mut scenes, id)
}

fn undecided_rule(task: Task<'_>, id: RuleId) -> Findings {
    let rule = &task.c.model.rules[id];
    let mut out = Findings::default();
    out.undecided(task, rule.span, &format!("whether `{}` ever decides", rule.name), Some(&rule.name));
    out
}
