//! One tenant's view, decided in boxes, with Z3 for what is too much for them.

use crate::checks::conflict::{self, Pairs};
use crate::checks::redundant::{self as rules, Gone, Judged, Life};
use crate::checks::shadow::{self, Alive};
use crate::checks::view::{self, ViewScene};
use crate::checks::{Findings, Task, note};
use crate::cover::certify::Certificate;
use crate::cover::clash::{Clashes, clashes};
use crate::cover::dead::Dead;
use crate::cover::note::{self as overruled, Alone, Overruled};
use crate::cover::redundant;
use crate::cover::subtract::{Cover, cover};
use crate::cover::table::{NoTable, Table};
use crate::encode::matches_on;
use crate::replay;
use crate::solver::Fault;
use crate::verify::Engine;
use compiler::algebra::Family;
use compiler::ids::{Id as _, OwnerId, RuleId};
use rayon::prelude::*;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};

/// What one view has shown.
#[derive(Debug, Default)]
pub struct Shown {
    pub pairs: Pairs,
    pub findings: Findings,
    /// Platform rules whose life in this view is undecided.
    pub undecided: Vec<RuleId>,
    pub certificates: Vec<Certificate>,
    /// Platform rules that were asked about and decide something in this view.
    pub alive: Vec<RuleId>,
    /// The tenant's rules that are left out for those before them: what certificates about redundant rules are to be read with.
    pub gone: Gone,
}

/// A view's tables, ascending by channel and family; `None` if one is too wide.
fn tables(task: Task<'_>, tenant: OwnerId, only: Option<RuleId>) -> Option<Vec<Table>> {
    let c = task.c;
    let mut out = Vec::new();
    for id in c.channels_of[tenant].iter().copied().filter(|id| !task.skips(*id)) {
        if only.is_some_and(|rule| !matches_on(&c.model.rules[rule], &c.channels[id])) {
            continue;
        }
        for family in Family::BOTH {
            match Table::new(task, tenant, id, family) {
                Ok(table) => out.push(table),
                Err(NoTable::NoFlow) => {}
                Err(NoTable::TooWide) => return None,
            }
        }
    }
    Some(out)
}

/// Z3's encoding of a view, made for the first question that needs it.
struct Scenes<'c> {
    task: Task<'c>,
    tenant: OwnerId,
    made: Option<Vec<ViewScene<'c>>>,
}

impl<'c> Scenes<'c> {
    fn get(&mut self) -> &mut [ViewScene<'c>] {
        let (task, tenant) = (self.task, self.tenant);
        self.made.get_or_insert_with(|| view::scenes(task, tenant))
    }
}

/// What boxes alone say of tenants' rules, before anything is put into words: ascending, each once.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Decided {
    /// Rules of unordered policies that disagree on some flow.
    pub conflicts: BTreeSet<(RuleId, RuleId)>,
    /// Rules that decide nothing.
    pub dead: BTreeSet<RuleId>,
    pub redundant: BTreeSet<RuleId>,
    /// Rules that others overrule on some of their flows.
    pub overruled: BTreeSet<RuleId>,
}

/// What a view's boxes decide; `None` if something is too much for them.
///
/// # Errors
/// Z3 fails, where something is left to it.
pub fn decide(task: Task<'_>, tenant: OwnerId) -> Result<Option<Decided>, Fault> {
    let Some(tables) = tables(task, tenant, None) else { return Ok(None) };
    let mut shown = Shown::default();
    for table in &tables {
        if matches!(clashes(task, table, &mut shown.pairs)?, Clashes::Exhausted) {
            return Ok(None);
        }
    }
    let mut scenes = Scenes { task, tenant, made: None };
    let alive: Vec<AtomicBool> = task.c.model.rules.ids().map(|_| AtomicBool::new(false)).collect();
    let (dead, mut standing) = lives(task, tenant, &tables, &alive, &mut scenes, &mut shown)?;
    let judged = redundancy(task, tenant, &tables, &mut scenes, &mut standing)?;
    let overruled = overruling(task, &tables, &standing, &judged)?;
    let noted = overruled.into_iter().filter(|(_, how)| matches!(how, Overruled::By(..))).map(|(id, _)| id);
    Ok(Some(Decided {
        conflicts: shown.pairs.into_values().map(|(a, b, _)| (a, b)).collect(),
        dead: dead.into_iter().collect(),
        redundant: judged.redundant.into_iter().collect(),
        overruled: noted.collect(),
    }))
}

/// Conflicts in a view, its tenant's dead rules, and which platform rules live in it.
///
/// # Errors
/// The engine, the solver and the evaluator do not agree.
pub fn one_view(task: Task<'_>, tenant: OwnerId, alive: &[AtomicBool]) -> Result<Option<Shown>, Fault> {
    let c = task.c;
    let Some(tables) = tables(task, tenant, None) else { return Ok(None) };
    let mut scenes = Scenes { task, tenant, made: None };
    let mut shown = Shown::default();
    for table in &tables {
        match clashes(task, table, &mut shown.pairs)? {
            Clashes::Decided(certificates) => shown.certificates.extend(certificates),
            Clashes::Exhausted => {
                let at = scenes.get().iter_mut();
                let mut at = at.filter(|at| at.channel == table.channel && at.family() == table.family);
                if let Some(at) = at.next() {
                    conflict::conflicts(c, at, &mut shown.pairs)?;
                }
            }
        }
    }

    let (dead, standing) = lives(task, tenant, &tables, alive, &mut scenes, &mut shown)?;
    let reports: Vec<Option<(Findings, Vec<Certificate>)>> = dead
        .par_iter()
        .map(|id| finding(task, Dead::of(task, *id, tables.iter()), *id))
        .collect::<Result<_, Fault>>()?;
    for (id, report) in dead.iter().zip(reports) {
        match report {
            Some((findings, certificates)) => {
                shown.findings.append(findings);
                shown.certificates.extend(certificates);
            }
            None => shown.findings.append(shadow::report(task, scenes.get(), *id)?),
        }
    }
    own_rules(task, (tenant, &tables), &mut scenes, standing, &mut shown)?;
    Ok(Some(shown))
}

/// The tenant's rules that decide nothing in its view, and what is known of all that are judged.
fn lives<'c>(
    task: Task<'c>,
    tenant: OwnerId,
    tables: &[Table],
    alive: &[AtomicBool],
    scenes: &mut Scenes<'c>,
    shown: &mut Shown,
) -> Result<(Vec<RuleId>, BTreeMap<RuleId, Life>), Fault> {
    let c = task.c;
    let lives = |id: RuleId| alive.get(id.index()).is_some_and(|flag| flag.load(Ordering::Relaxed));
    let rules: Vec<RuleId> = c.views[tenant]
        .iter()
        .flatten()
        .flat_map(|policy| c.model.policies[*policy].rules.iter().copied())
        .collect();
    let judged: Vec<(RuleId, Option<Alive>)> = rules
        .par_iter()
        .filter(|id| !lives(**id))
        .map(|id| Ok((*id, decides(task, tables.iter(), *id)?)))
        .collect::<Result<_, Fault>>()?;
    let mut dead = Vec::new();
    let mut standing: BTreeMap<RuleId, Life> = BTreeMap::new();
    for (id, life) in judged {
        let own = c.model.policies[c.model.rules[id].policy].owner.is_some();
        if life != Some(Alive::Yes) && own && !shadow::judged(task, id) {
            continue;
        }
        let life = match life {
            Some(life) => life,
            None => shadow::alive(task, scenes.get(), id)?,
        };
        match life {
            Alive::Yes => {
                if let Some(flag) = alive.get(id.index()) {
                    flag.store(true, Ordering::Relaxed);
                }
                if !own {
                    shown.alive.push(id);
                } else if shadow::untainted(task, id) {
                    standing.insert(id, Life::Alive);
                }
            }
            Alive::No if own => {
                dead.push(id);
                standing.insert(id, Life::Dead);
            }
            Alive::No => {}
            Alive::Undecided if own => shown.findings.append(shadow::undecided(task, id)),
            Alive::Undecided => shown.undecided.push(id),
        }
    }
    Ok((dead, standing))
}

/// Which of a tenant's living rules are redundant; `standing` learns which are known to be needed.
fn redundancy<'c>(
    task: Task<'c>,
    tenant: OwnerId,
    tables: &[Table],
    scenes: &mut Scenes<'c>,
    standing: &mut BTreeMap<RuleId, Life>,
) -> Result<Judged, Fault> {
    let c = task.c;
    let needed: Vec<bool> = standing
        .par_iter()
        .map(|(id, life)| Ok(*life == Life::Alive && redundant::needed(task, tables, *id)?))
        .collect::<Result<_, Fault>>()?;
    for (life, needed) in standing.values_mut().zip(needed) {
        if needed {
            *life = Life::Needed;
        }
    }
    let life = |id: RuleId| standing.get(&id).copied().unwrap_or(Life::Open);
    let own = c.views[tenant].iter().flatten().filter(|p| c.model.policies[**p].owner.is_some());
    let mut judged = Judged::default();
    for policy in own {
        let more = rules::judge(task, *policy, &life, &mut |id, gone| match redundant::repeats(
            task,
            tables.iter(),
            id,
            gone,
        )? {
            Some(repeated) => Ok(Some(repeated)),
            None => rules::repeats(task, scenes.get(), id, gone),
        })?;
        judged.gone.extend(more.gone);
        judged.redundant.extend(more.redundant);
        judged.undecided.extend(more.undecided);
    }
    Ok(judged)
}

/// On which of a tenant's rules that stand the rules of others overrule it.
fn overruling(
    task: Task<'_>,
    tables: &[Table],
    standing: &BTreeMap<RuleId, Life>,
    judged: &Judged,
) -> Result<Vec<(RuleId, Overruled)>, Fault> {
    let left: Vec<RuleId> = standing
        .iter()
        .filter(|(id, life)| matches!(life, Life::Alive | Life::Needed) && note::concerns(task, **id))
        .map(|(id, _)| *id)
        .filter(|id| !judged.gone.contains(id) && !judged.undecided.contains(id))
        .collect();
    let alone: Vec<Alone<'_>> = tables.iter().map(Alone::new).collect();
    left.par_iter().map(|id| Ok((*id, overruled::find(task, &alone, *id)?))).collect()
}

/// What is found about a tenant's living rules.
fn own_rules<'c>(
    task: Task<'c>,
    (tenant, tables): (OwnerId, &[Table]),
    scenes: &mut Scenes<'c>,
    mut standing: BTreeMap<RuleId, Life>,
    shown: &mut Shown,
) -> Result<(), Fault> {
    let judged = redundancy(task, tenant, tables, scenes, &mut standing)?;
    let reports: Vec<Option<(Findings, Vec<Certificate>)>> = judged
        .redundant
        .par_iter()
        .map(|id| redundant::report(task, tables.iter(), *id, &judged.gone))
        .collect::<Result<_, Fault>>()?;
    for (id, report) in judged.redundant.iter().zip(reports) {
        match report {
            Some((findings, certificates)) => {
                shown.findings.append(findings);
                shown.certificates.extend(certificates);
            }
            None => shown.findings.append(rules::report(task, scenes.get(), *id, &judged.gone)?),
        }
    }
    for id in &judged.undecided {
        shown.findings.append(rules::undecided(task, *id));
    }

    for (id, overruled) in overruling(task, tables, &standing, &judged)? {
        match overruled {
            Overruled::No => {}
            Overruled::By(channel, way, flow) => {
                let note = note::finding(task, tenant, (channel, way), id, &flow);
                shown.findings.diagnostics.push(note);
            }
            Overruled::Exhausted => shown.findings.append(note::report(task, scenes.get(), id)?),
        }
    }
    shown.gone = judged.gone;
    Ok(())
}

/// Whether what a platform's living rule decides meets the same verdict next, in every view; `None` if that is undecided.
///
/// # Errors
/// The engine, the solver and the evaluator do not agree.
pub fn platform_repeats(
    task: Task<'_>,
    id: RuleId,
    gone: &Gone,
    tenants: &[OwnerId],
    engine: Engine,
) -> Result<Option<bool>, Fault> {
    if !rules::may_repeat(task, id, gone) {
        return Ok(Some(false));
    }
    // A view that needs the rule makes what the others say idle.
    let is_needed = AtomicBool::new(false);
    let asked: Vec<Option<bool>> = tenants
        .par_iter()
        .filter(|tenant| shadow::reaches(task, id, **tenant))
        .map(|tenant| {
            if is_needed.load(Ordering::Relaxed) {
                return Ok(Some(true));
            }
            let tables = if engine == Engine::Boxes { tables(task, *tenant, Some(id)) } else { None };
            let by_boxes = match &tables {
                Some(tables) => redundant::repeats(task, tables.iter(), id, gone)?,
                None => None,
            };
            let repeated = match by_boxes {
                Some(repeated) => Some(repeated),
                None => rules::repeats(task, &mut view::scenes_of(task, *tenant, id), id, gone)?,
            };
            if repeated == Some(false) {
                is_needed.store(true, Ordering::Relaxed);
            }
            Ok(repeated)
        })
        .collect::<Result<_, Fault>>()?;
    Ok(if asked.contains(&Some(false)) {
        Some(false)
    } else if asked.contains(&None) {
        None
    } else {
        Some(true)
    })
}

/// The finding about a redundant rule of the platform, and what Z3 has to confirm of it.
///
/// # Errors
/// The engine, the solver and the evaluator do not agree.
pub fn platform_redundant(
    task: Task<'_>,
    id: RuleId,
    gone: &Gone,
    tenants: &[OwnerId],
    engine: Engine,
) -> Result<(Findings, Vec<Certificate>), Fault> {
    let concerned: Vec<OwnerId> =
        tenants.iter().copied().filter(|tenant| shadow::reaches(task, id, *tenant)).collect();
    if engine == Engine::Boxes {
        let all: Option<Vec<Vec<Table>>> =
            concerned.par_iter().map(|tenant| tables(task, *tenant, Some(id))).collect();
        if let Some(all) = all
            && let Some(report) = redundant::report(task, all.iter().flatten(), id, gone)?
        {
            return Ok(report);
        }
    }
    let mut scenes = Vec::new();
    for tenant in concerned {
        scenes.extend(view::scenes_of(task, tenant, id));
    }
    Ok((rules::report(task, &mut scenes, id, gone)?, Vec::new()))
}

/// Whether a rule decides a flow in one of a view's tables; `None` if that is too much for boxes.
fn decides<'t>(
    task: Task<'_>,
    tables: impl Iterator<Item = &'t Table>,
    id: RuleId,
) -> Result<Option<Alive>, Fault> {
    let mut exhausted = false;
    for table in tables {
        let Some(entry) = table.find(id) else { continue };
        let region = table.let_through(table.region(entry), table.tier(entry));
        match cover(&region, &table.takers(entry), &table.axes, &mut task.work()) {
            Cover::Covered(_) => {}
            Cover::Exhausted => exhausted = true,
            Cover::Left(part) => {
                let flow = table.axes.flow(&part);
                let shown = |flow| replay::deciding(task.c, table.tenant, table.way, flow).contains(&id);
                if task.replay && !shown(&flow) {
                    let dump =
                        format!("{id:?} does not decide {flow:?} in {:?} on {:?}", table.tenant, table.way);
                    return Err(Fault::Mismatch { dump });
                }
                return Ok(Some(Alive::Yes));
            }
        }
    }
    Ok(if exhausted { None } else { Some(Alive::No) })
}

/// Whether a platform rule decides something in a view.
///
/// # Errors
/// The engine, the solver and the evaluator do not agree.
pub fn life(task: Task<'_>, tenant: OwnerId, id: RuleId, engine: Engine) -> Result<Alive, Fault> {
    let tables = match engine {
        Engine::Boxes => tables(task, tenant, Some(id)),
        Engine::Z3 => None,
    };
    if let Some(tables) = tables
        && let Some(life) = decides(task, tables.iter(), id)?
    {
        return Ok(life);
    }
    shadow::alive(task, &mut view::scenes_of(task, tenant, id), id)
}

/// The finding about a rule that decides nothing, and what Z3 has to confirm of it; `None` if that is too much for boxes.
fn finding(
    task: Task<'_>,
    mut of: Dead<'_>,
    id: RuleId,
) -> Result<Option<(Findings, Vec<Certificate>)>, Fault> {
    if of.exhausted {
        return Ok(None);
    }
    let (finding, cover) = shadow::finding(task, &mut of, id)?;
    if of.exhausted {
        return Ok(None);
    }
    let findings = Findings { diagnostics: vec![finding], undecided: 0 };
    Ok(Some((findings, of.certificates(&cover))))
}

/// A platform rule that was found to decide in no view.
///
/// # Errors
/// The engine, the solver and the evaluator do not agree.
pub fn platform_rule(
    task: Task<'_>,
    id: RuleId,
    tenants: &[OwnerId],
) -> Result<(Findings, Vec<Certificate>), Fault> {
    let mut of = Dead::new(task, id);
    for tenant in tenants {
        match tables(task, *tenant, Some(id)) {
            Some(tables) => tables.iter().for_each(|table| of.add(table)),
            None => of.exhausted = true,
        }
    }
    if let Some(done) = finding(task, of, id)? {
        return Ok(done);
    }
    let mut scenes = Vec::new();
    for tenant in tenants {
        scenes.extend(view::scenes_of(task, *tenant, id));
    }
    Ok((shadow::report(task, &mut scenes, id)?, Vec::new()))
}
