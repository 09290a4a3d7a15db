//! All checks over one compiled form.

use crate::checks::conflict::{Pair, Pairs};
use crate::checks::shadow::Alive;
use crate::checks::view::{self, ViewScene};
use crate::checks::{Findings, Task, conflict, isolate, reach, shadow, tests};
use crate::cover;
use crate::cover::certify::{Certificate, Subject, certify};
use crate::cover::view::Shown;
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
    /// What decides PW0401, PW0402 and PW0404.
    pub engine: Engine,
    /// Confirm every verdict of the engine a second time. Without it, Z3 confirms that dead rules are dead, and the evaluator that
    /// living ones live, but for lists of more than some four thousand rules.
    pub certify: bool,
}

/// Engines that give the same findings.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Engine {
    /// Box subtraction, its verdicts certified by Z3; Z3 alone where there are too many boxes.
    #[default]
    Boxes,
    /// Z3 alone: slow on long lists, and what the other is tested against.
    Z3,
}

impl Options {
    /// Enough for any question about tables that people write; tens of seconds at worst.
    pub const DEFAULT_BUDGET: u32 = 50_000_000;
}

impl Default for Options {
    fn default() -> Self {
        Self { budget: Self::DEFAULT_BUDGET, jobs: None, engine: Engine::Boxes, certify: false }
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
    let task = Task { c, budget: options.budget, certify: options.certify };
    let run = || all(task, options.engine);
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

fn all(task: Task<'_>, engine: Engine) -> Result<Findings, Fault> {
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
    let views: Vec<Shown> = tenants
        .par_iter()
        .map(|tenant| match engine {
            Engine::Boxes => match cover::view::one_view(task, *tenant, &alive)? {
                Some(shown) => Ok(shown),
                None => one_view(task, *tenant, &alive),
            },
            Engine::Z3 => one_view(task, *tenant, &alive),
        })
        .collect::<Result<_, Fault>>()?;

    let mut out = Findings::default();
    let mut pairs = Pairs::new();
    let mut undecided: Vec<RuleId> = Vec::new();
    let mut certificates: Vec<Certificate> = Vec::new();
    for view in views {
        for (key, pair) in view.pairs {
            let known = pairs.entry(key).or_insert(pair);
            if matches!(known.2, Pair::Undecided) {
                *known = pair;
            }
        }
        undecided.extend(view.undecided);
        certificates.extend(view.certificates);
        out.append(view.findings);
    }
    out.append(conflict::report(task, &pairs));

    let is_alive = |id: RuleId| alive.get(id.index()).is_some_and(|flag| flag.load(Ordering::Relaxed));
    let platform: Vec<RuleId> = platform_rules(task).filter(|id| !is_alive(*id)).collect();
    let judged: Vec<(Findings, Vec<Certificate>)> = platform
        .par_iter()
        .map(|id| {
            if !shadow::judged(task, *id) {
                return Ok((Findings::default(), Vec::new()));
            }
            if undecided.contains(id) {
                return Ok((shadow::undecided(task, *id), Vec::new()));
            }
            match engine {
                Engine::Boxes => cover::view::platform_rule(task, *id, &tenants),
                Engine::Z3 => Ok((platform_rule(task, *id, &tenants)?, Vec::new())),
            }
        })
        .collect::<Result<_, Fault>>()?;
    for (findings, more) in judged {
        out.append(findings);
        certificates.extend(more);
    }
    out.append(certified(task, certificates, &pairs)?);

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

/// Conflicts in a view, its tenant's dead rules, and which platform rules live in it, with Z3 alone.
fn one_view(task: Task<'_>, tenant: OwnerId, alive: &[AtomicBool]) -> Result<Shown, Fault> {
    let c = task.c;
    let mut scenes = view::scenes(task, tenant);
    let mut result = Shown::default();
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
        Alive::Undecided => Ok(shadow::undecided(task, id)),
    }
}

/// A platform rule that was found to decide in no view, with Z3 alone.
fn platform_rule(task: Task<'_>, id: RuleId, tenants: &[OwnerId]) -> Result<Findings, Fault> {
    let mut scenes = Vec::new();
    for tenant in tenants {
        scenes.extend(view::scenes_of(task, *tenant, id));
    }
    shadow::report(task, &mut scenes, id)
}

/// Has Z3 confirm what boxes have covered; what it cannot confirm within the budget is undecided.
fn certified(task: Task<'_>, mut certificates: Vec<Certificate>, pairs: &Pairs) -> Result<Findings, Fault> {
    if !task.certify {
        // Of pairs there can be as many as the square of the rules.
        certificates.retain(|certificate| matches!(certificate.subject, Subject::Rule(_)));
    }
    let model = &task.c.model;
    let mut out = Findings::default();
    for subject in certify(task, &certificates)? {
        match subject {
            Subject::Rule(id) => out.append(shadow::undecided(task, id)),
            Subject::Pair(a, b) => {
                let key = (model.rules[a].rank, model.rules[b].rank);
                if !pairs.contains_key(&key) {
                    let known = Pairs::from([(key, (a, b, Pair::Undecided))]);
                    out.append(conflict::report(task, &known));
                }
            }
        }
    }
    Ok(out)
}
