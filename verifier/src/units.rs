//! The verifier's work in units: pieces whose findings depend on their own inputs alone, not on which other units run. So each
//! can be judged here or elsewhere, now or from an earlier run's record, and the findings of all together are the same.

use crate::checks::conflict::{self, Pair, Pairs};
use crate::checks::judge::Judge;
use crate::checks::redundant::{self, Gone, Life};
use crate::checks::shadow::{self, Alive};
use crate::checks::view::{self, ViewScene};
use crate::checks::{Findings, Task, isolate, note, reach, tests};
use crate::cover;
use crate::cover::certify::{Certificate, Subject, certify};
use crate::cover::view::Shown;
use crate::flows::Flows;
use crate::solver::Fault;
use crate::verify::{Engine, Options, Verdicts};
use compiler::Compiled;
use compiler::ids::{Id as _, OwnerId, PolicyId, RuleId};
use lang::codes::Code;
use lang::diag::{Diagnostic, Severity};
use rayon::prelude::*;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};

/// One piece of work.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Unit {
    /// Conflicts in a tenant's view, and its own rules. It reads the view, its channels and the owners at their other ends,
    /// their views included (a witness tells both decisions).
    View(OwnerId),
    /// The rules of a policy of the platform, over all views.
    Platform(PolicyId),
    /// By position in [`compiler::model::Model::tests`].
    Test(usize),
    /// By position in [`compiler::model::Model::isolates`].
    Isolate(usize),
    /// The composed forwarding of all spaces and gateways; it reads everything.
    Paths,
}

/// What one unit has found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Judged {
    pub diagnostics: Vec<Diagnostic>,
    /// Of a view: pairs of platform rules that conflict in it. Several views may show one pair.
    pub shared: Vec<Shared>,
    /// Of a view: platform rules that were asked about and decide something in it. A rule that another view had shown to
    /// decide may be missing.
    pub alive: Vec<RuleId>,
}

/// A finding about two platform rules, from one view.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shared {
    /// The two rules' names; the one that sorts first first.
    pub rules: (String, String),
    /// Otherwise the budget was spent: another view may still decide it.
    pub decided: bool,
    pub finding: Diagnostic,
}

/// Every unit of a project, ascending; none for a tenant whose declarations are in error.
#[must_use]
pub fn units(c: &Compiled) -> Vec<Unit> {
    let model = &c.model;
    let platform = model.policies.iter().filter(|(_, p)| p.owner.is_none()).map(|(id, _)| Unit::Platform(id));
    let views = tenants(c).into_iter().map(Unit::View);
    let tests = (0..model.tests.len()).map(Unit::Test);
    let isolates = (0..model.isolates.len()).map(Unit::Isolate);
    views.chain(platform).chain(tests).chain(isolates).chain([Unit::Paths]).collect()
}

/// Those whose declarations are not in error, ascending.
#[must_use]
pub fn tenants(c: &Compiled) -> Vec<OwnerId> {
    let judged = |id: &OwnerId| c.model.tainted.binary_search(id).is_err();
    c.model.owners.iter().filter(|(_, o)| o.is_tenant()).map(|(id, _)| id).filter(judged).collect()
}

/// Judges some units, which ascend; `alive` names platform rules that are known to decide something in some view.
///
/// # Errors
/// The solver and the reference evaluator contradict each other, or the solver fails: no verdict is to be had.
pub fn judge(
    c: &Compiled,
    options: &Options,
    units: &[Unit],
    alive: &[RuleId],
) -> Result<Vec<(Unit, Judged)>, Fault> {
    let task = Task { c, budget: options.budget, certify: options.certify, work: options.work, replay: true };
    let run = || Run::new(task, options.engine, units, alive).all(units);
    match rayon::ThreadPoolBuilder::new().num_threads(options.jobs.unwrap_or(0)).build() {
        Ok(pool) => pool.install(run),
        // No threads to be had: the calling one will do.
        Err(_) => run(),
    }
}

/// The verdicts of all units of a project, which ascend.
#[must_use]
pub fn join(c: &Compiled, results: impl IntoIterator<Item = Judged>) -> Verdicts {
    let diagnostics = gather(results);
    let undecided = diagnostics.iter().filter(|d| d.code == Code::PW0901).count();
    Verdicts { diagnostics, skipped: c.model.tainted.clone(), undecided }
}

/// The findings of all units, ordered by themselves alone; the results of views come in the order of their tenants.
#[must_use]
pub fn gather(results: impl IntoIterator<Item = Judged>) -> Vec<Diagnostic> {
    let mut diagnostics = Vec::new();
    let mut shared: BTreeMap<(String, String), Shared> = BTreeMap::new();
    for result in results {
        diagnostics.extend(result.diagnostics);
        for one in result.shared {
            // Of a pair that several views show the first decides.
            match shared.get(&one.rules) {
                Some(known) if known.decided || !one.decided => {}
                _ => {
                    shared.insert(one.rules.clone(), one);
                }
            }
        }
    }
    diagnostics.extend(shared.into_values().map(|one| one.finding));
    diagnostics.sort_by(|a, b| {
        let first = (a.span, a.code, &a.message, &a.rules).cmp(&(b.span, b.code, &b.message, &b.rules));
        let witness = |d: &Diagnostic| d.witness.as_ref().map(|w| (w.human.clone(), w.decision_json.clone()));
        first
            .then_with(|| {
                let told = (&a.related, &a.notes, &a.chain).cmp(&(&b.related, &b.notes, &b.chain));
                told.then_with(|| (&a.label, &a.help).cmp(&(&b.label, &b.help)))
            })
            .then_with(|| witness(a).cmp(&witness(b)))
    });
    diagnostics.dedup();
    diagnostics
}

/// What the units of one run share; nothing of it changes a finding.
struct Run<'c> {
    task: Task<'c>,
    engine: Engine,
    /// What is decided on the channels, in boxes; none where Z3 is to decide alone.
    flows: Option<Flows<'c>>,
    /// Tenants whose views are judged in this run, and the others; ascending.
    here: Vec<OwnerId>,
    elsewhere: Vec<OwnerId>,
    /// By rule: some view has shown that it decides. It only saves questions: a platform rule is judged dead after every view
    /// was asked about it.
    alive: Vec<AtomicBool>,
}

impl<'c> Run<'c> {
    fn new(task: Task<'c>, engine: Engine, units: &[Unit], alive: &[RuleId]) -> Self {
        let run = Self {
            task,
            engine,
            flows: (engine == Engine::Boxes).then(|| Flows::new(task.c, task.work())),
            here: units
                .iter()
                .filter_map(|u| if let Unit::View(id) = u { Some(*id) } else { None })
                .collect(),
            elsewhere: tenants(task.c)
                .into_iter()
                .filter(|id| units.binary_search(&Unit::View(*id)).is_err())
                .collect(),
            alive: task.c.model.rules.ids().map(|_| AtomicBool::new(false)).collect(),
        };
        alive.iter().for_each(|id| run.lives(*id));
        run
    }

    fn judge(&self) -> Judge<'_> {
        Judge { task: self.task, flows: self.flows.as_ref() }
    }

    fn lives(&self, id: RuleId) {
        if let Some(flag) = self.alive.get(id.index()) {
            flag.store(true, Ordering::Relaxed);
        }
    }

    fn is_alive(&self, id: RuleId) -> bool {
        self.alive.get(id.index()).is_some_and(|flag| flag.load(Ordering::Relaxed))
    }

    fn all(&self, units: &[Unit]) -> Result<Vec<(Unit, Judged)>, Fault> {
        let views: Vec<Shown> =
            self.here.par_iter().map(|tenant| self.view(*tenant)).collect::<Result<_, Fault>>()?;
        // In which platform rules were left undecided.
        let mut undecided: Vec<RuleId> = views.iter().flat_map(|view| &view.undecided).copied().collect();
        undecided.sort_unstable();
        undecided.dedup();
        let shown = self.here.par_iter().zip(views).map(|(tenant, shown)| {
            let judged = self.report(*tenant, shown)?;
            Ok((Unit::View(*tenant), judged))
        });
        let mut out: Vec<(Unit, Judged)> = shown.collect::<Result<_, Fault>>()?;
        let rest = units.par_iter().filter(|unit| !matches!(unit, Unit::View(_)));
        let rest: Vec<(Unit, Judged)> = rest
            .map(|unit| {
                let findings = match *unit {
                    Unit::View(_) => Findings::default(),
                    Unit::Platform(policy) => self.platform(policy, &undecided)?,
                    Unit::Test(at) => self.test(at)?,
                    Unit::Isolate(at) => self.isolate(at)?,
                    Unit::Paths => crate::paths::check(self.task)?,
                };
                Ok((*unit, Judged { diagnostics: findings.diagnostics, ..Judged::default() }))
            })
            .collect::<Result<_, Fault>>()?;
        out.extend(rest);
        Ok(out)
    }

    fn view(&self, tenant: OwnerId) -> Result<Shown, Fault> {
        match self.engine {
            Engine::Boxes => match cover::view::one_view(self.task, tenant, &self.alive)? {
                Some(shown) => Ok(shown),
                None => self.view_by_z3(tenant),
            },
            Engine::Z3 => self.view_by_z3(tenant),
        }
    }

    /// Conflicts in a view, its tenant's dead rules, and which platform rules live in it, with Z3 alone.
    fn view_by_z3(&self, tenant: OwnerId) -> Result<Shown, Fault> {
        let (task, c) = (self.task, self.task.c);
        let mut scenes = view::scenes(task, tenant);
        let mut result = Shown::default();
        for at in &mut scenes {
            conflict::conflicts(c, at, &mut result.pairs)?;
        }
        for policy in c.views[tenant].iter().flatten() {
            if c.model.policies[*policy].owner.is_some() {
                result.findings.append(own_rules(task, &mut scenes, *policy)?);
                continue;
            }
            for id in &c.model.policies[*policy].rules {
                if !self.is_alive(*id) {
                    match shadow::alive(task, &mut scenes, *id)? {
                        Alive::Yes => {
                            self.lives(*id);
                            result.alive.push(*id);
                        }
                        Alive::No => {}
                        Alive::Undecided => result.undecided.push(*id),
                    }
                }
            }
        }
        Ok(result)
    }

    /// A view's findings once Z3 has confirmed what boxes have covered.
    fn report(&self, tenant: OwnerId, shown: Shown) -> Result<Judged, Fault> {
        let task = self.task;
        let Shown { mut pairs, mut findings, undecided: _, certificates, alive, gone } = shown;
        certified(task, certificates, &mut pairs, &gone, &mut findings)?;
        let mut judged = Judged { alive, ..Judged::default() };
        let model = &task.c.model;
        for (key, (a, b, pair)) in pairs {
            let one = Pairs::from([(key, (a, b, pair))]);
            let reported = conflict::report(task, &one);
            let of_tenant = |id: RuleId| model.policies[model.rules[id].policy].owner == Some(tenant);
            if of_tenant(a) || of_tenant(b) {
                findings.append(reported);
                continue;
            }
            let decided = matches!(pair, Pair::Conflict { .. });
            let rules = (model.rules[a].name.clone(), model.rules[b].name.clone());
            let reported = reported.diagnostics.into_iter();
            judged.shared.extend(reported.map(|finding| Shared { rules: rules.clone(), decided, finding }));
        }
        judged.diagnostics = findings.diagnostics;
        Ok(judged)
    }

    /// A platform's policy: those of its rules that decide nothing in any view, and that are redundant in all.
    fn platform(&self, policy: PolicyId, undecided: &[RuleId]) -> Result<Findings, Fault> {
        let task = self.task;
        let all = tenants(task.c);
        let judged: Vec<(RuleId, Life, Findings)> = task.c.model.policies[policy]
            .rules
            .par_iter()
            .filter(|id| shadow::untainted(task, **id))
            .map(|id| {
                let (life, findings) = self.platform_rule(*id, &all, undecided)?;
                Ok((*id, life, findings))
            })
            .collect::<Result<_, Fault>>()?;
        let (mut out, mut standing) = (Findings::default(), BTreeMap::new());
        for (id, life, findings) in judged {
            standing.insert(id, life);
            out.append(findings);
        }
        let life = |id: RuleId| standing.get(&id).copied().unwrap_or(Life::Open);
        let judged = redundant::judge(task, policy, &life, &mut |id, gone| {
            cover::view::platform_repeats(task, id, gone, &all, self.engine)
        })?;
        for id in &judged.redundant {
            let (mut findings, certificates) =
                cover::view::platform_redundant(task, *id, &judged.gone, &all, self.engine)?;
            certified(task, certificates, &mut Pairs::new(), &judged.gone, &mut findings)?;
            out.append(findings);
        }
        for id in &judged.undecided {
            out.append(redundant::undecided(task, *id));
        }
        Ok(out)
    }

    /// Whether a rule of the platform decides anything in any view, and the finding if not.
    fn platform_rule(
        &self,
        id: RuleId,
        all: &[OwnerId],
        undecided: &[RuleId],
    ) -> Result<(Life, Findings), Fault> {
        let task = self.task;
        let nothing = |life: Life| Ok((life, Findings::default()));
        if self.is_alive(id) {
            return nothing(Life::Alive);
        }
        if !shadow::judged(task, id) {
            return nothing(Life::Open);
        }
        let life = self.life_elsewhere(id)?;
        if life == Alive::Yes {
            return nothing(Life::Alive);
        }
        if life == Alive::Undecided || undecided.binary_search(&id).is_ok() {
            return Ok((Life::Open, shadow::undecided(task, id)));
        }
        let (mut findings, certificates) = match self.engine {
            Engine::Boxes => cover::view::platform_rule(task, id, all)?,
            Engine::Z3 => (platform_rule(task, id, all)?, Vec::new()),
        };
        certified(task, certificates, &mut Pairs::new(), &Gone::new(), &mut findings)?;
        Ok((Life::Dead, findings))
    }

    /// Whether a platform rule decides something in a view that is not judged in this run.
    fn life_elsewhere(&self, id: RuleId) -> Result<Alive, Fault> {
        let asked: Vec<Alive> = self
            .elsewhere
            .par_iter()
            .map(|tenant| {
                if self.is_alive(id) {
                    return Ok(Alive::Yes);
                }
                let life = cover::view::life(self.task, *tenant, id, self.engine)?;
                if life == Alive::Yes {
                    self.lives(id);
                }
                Ok(life)
            })
            .collect::<Result<_, Fault>>()?;
        let any = |life: Alive| asked.contains(&life);
        Ok(if any(Alive::Yes) {
            Alive::Yes
        } else if any(Alive::Undecided) {
            Alive::Undecided
        } else {
            Alive::No
        })
    }

    fn test(&self, at: usize) -> Result<Findings, Fault> {
        match self.task.c.model.tests.get(at) {
            Some(test) => tests::test(self.judge(), test),
            None => Ok(Findings::default()),
        }
    }

    fn isolate(&self, at: usize) -> Result<Findings, Fault> {
        let Some(isolate) = self.task.c.model.isolates.get(at) else { return Ok(Findings::default()) };
        let mut findings = isolate::direct(self.judge(), isolate)?;
        if isolate.transitively {
            findings.append(reach::transitive(self.judge(), isolate)?);
        }
        Ok(findings)
    }
}

/// A tenant's policy in its view, with Z3 alone.
fn own_rules<'c>(task: Task<'c>, scenes: &mut [ViewScene<'c>], policy: PolicyId) -> Result<Findings, Fault> {
    let mut out = Findings::default();
    let mut standing: BTreeMap<RuleId, Life> = BTreeMap::new();
    for id in task.c.model.policies[policy].rules.iter().copied().filter(|id| shadow::judged(task, *id)) {
        match shadow::alive(task, scenes, id)? {
            Alive::Yes => {
                standing.insert(id, Life::Alive);
            }
            Alive::No => {
                standing.insert(id, Life::Dead);
                out.append(shadow::report(task, scenes, id)?);
            }
            Alive::Undecided => out.append(shadow::undecided(task, id)),
        }
    }
    let life = |id: RuleId| standing.get(&id).copied().unwrap_or(Life::Open);
    let judged =
        redundant::judge(task, policy, &life, &mut |id, gone| redundant::repeats(task, scenes, id, gone))?;
    for id in &judged.redundant {
        out.append(redundant::report(task, scenes, *id, &judged.gone)?);
    }
    for id in &judged.undecided {
        out.append(redundant::undecided(task, *id));
    }
    for (id, life) in &standing {
        let left = !judged.gone.contains(id) && !judged.undecided.contains(id);
        if *life == Life::Alive && left && note::concerns(task, *id) {
            out.append(note::report(task, scenes, *id)?);
        }
    }
    Ok(out)
}

/// A platform rule that was found to decide in no view, with Z3 alone.
fn platform_rule(task: Task<'_>, id: RuleId, tenants: &[OwnerId]) -> Result<Findings, Fault> {
    let mut scenes = Vec::new();
    for tenant in tenants {
        scenes.extend(view::scenes_of(task, *tenant, id));
    }
    shadow::report(task, &mut scenes, id)
}

/// Redundant rules, times rules, up to which Z3 confirms the former unless all is to be certified.
const REDUNDANT: usize = 50_000_000;

/// Has Z3 confirm what boxes have covered. What it cannot confirm within the budget is undecided and no longer among the findings; of
/// pairs in `pairs`.
fn certified(
    task: Task<'_>,
    mut certificates: Vec<Certificate>,
    pairs: &mut Pairs,
    gone: &Gone,
    findings: &mut Findings,
) -> Result<(), Fault> {
    if !task.certify {
        // Of pairs there can be as many as the square of the rules, and a redundant rule is confirmed against all that stand
        // after it.
        let many = gone.len().saturating_mul(task.c.model.rules.len()) > REDUNDANT;
        certificates.retain(|certificate| match certificate.subject {
            Subject::Rule(_) => true,
            Subject::Redundant(_) => !many,
            Subject::Pair(..) => false,
        });
    }
    let model = &task.c.model;
    for subject in certify(task, &certificates, gone)? {
        let mut instead = |id: RuleId, codes: &[Code], undecided: Findings| {
            let name = Some(&model.rules[id].name);
            let told = |d: &Diagnostic| codes.contains(&d.code) && d.severity != Severity::Note;
            findings.diagnostics.retain(|d| !(told(d) && d.rules.first() == name));
            findings.append(undecided);
        };
        match subject {
            Subject::Rule(id) => instead(id, &[Code::PW0402, Code::PW0404], shadow::undecided(task, id)),
            Subject::Redundant(id) => instead(id, &[Code::PW0403], redundant::undecided(task, id)),
            Subject::Pair(a, b) => {
                let key = (model.rules[a].rank, model.rules[b].rank);
                pairs.entry(key).or_insert((a, b, Pair::Undecided));
            }
        }
    }
    Ok(())
}
