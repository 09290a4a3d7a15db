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
use crate::lookup::{Confirm, Lookup};
use crate::solver::Fault;
use crate::verify::Engine;
use compiler::algebra::Family;
use compiler::ids::{Id as _, OwnerId, RuleId};
use rayon::prelude::*;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};

/// Rules of a view up to which the evaluator itself confirms every living rule, unless all is to be certified: the cost grows with
/// the square.
const REPLAYED: usize = 1 << 11;

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

    let lives = |id: RuleId| alive.get(id.index()).is_some_and(|flag| flag.load(Ordering::Relaxed));
    let rules: Vec<RuleId> = c.views[tenant]
        .iter()
        .flatten()
        .flat_map(|policy| c.model.policies[*policy].rules.iter().copied())
        .collect();
    let confirm: Vec<Confirm<'_>> = tables
        .iter()
        .map(|table| match task.certify || rules.len() <= REPLAYED {
            true => Confirm::Eval,
            false => {
                let ends = (table.axes.src_owner, table.axes.dst_owner);
                Confirm::Lookup(Lookup::new(c, tenant, ends, table.family))
            }
        })
        .collect();
    let judged: Vec<(RuleId, Option<Alive>)> = rules
        .par_iter()
        .filter(|id| !lives(**id))
        .map(|id| Ok((*id, decides(task, tables.iter().zip(&confirm), *id)?)))
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
    own_rules(task, (tenant, &tables, &confirm), &mut scenes, standing, &mut shown)?;
    Ok(Some(shown))
}

/// Which of a tenant's living rules are redundant, and on which others overrule it.
fn own_rules<'c>(
    task: Task<'c>,
    (tenant, tables, confirm): (OwnerId, &[Table], &[Confirm<'_>]),
    scenes: &mut Scenes<'c>,
    mut standing: BTreeMap<RuleId, Life>,
    shown: &mut Shown,
) -> Result<(), Fault> {
    let c = task.c;
    let needed: Vec<bool> = standing
        .par_iter()
        .map(|(id, life)| Ok(*life == Life::Alive && redundant::needed(task, tables, confirm, *id)?))
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
            tables.iter().zip(confirm),
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

    let open = |id: &RuleId| matches!(life(*id), Life::Alive | Life::Needed);
    let left: Vec<RuleId> = standing
        .keys()
        .filter(|id| open(id) && note::concerns(task, **id))
        .filter(|id| !judged.gone.contains(id) && !judged.undecided.contains(id))
        .copied()
        .collect();
    let alone: Vec<Alone<'_>> = tables.iter().map(Alone::new).collect();
    let overruled: Vec<Overruled> =
        left.par_iter().map(|id| overruled::find(task, &alone, *id)).collect::<Result<_, Fault>>()?;
    for (id, overruled) in left.iter().zip(overruled) {
        match overruled {
            Overruled::No => {}
            Overruled::By(channel, way, flow) => {
                let note = note::finding(task, tenant, (channel, way), *id, &flow);
                shown.findings.diagnostics.push(note);
            }
            Overruled::Exhausted => shown.findings.append(note::report(task, scenes.get(), *id)?),
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
                Some(tables) => {
                    redundant::repeats(task, tables.iter().zip(std::iter::repeat(&Confirm::Eval)), id, gone)?
                }
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
    tables: impl Iterator<Item = (&'t Table, &'t Confirm<'t>)>,
    id: RuleId,
) -> Result<Option<Alive>, Fault> {
    let mut exhausted = false;
    for (table, confirm) in tables {
        let Some(entry) = table.find(id) else { continue };
        let region = table.let_through(table.region(entry), table.tier(entry));
        match cover(&region, &table.takers(entry), &table.axes, &mut task.work()) {
            Cover::Covered(_) => {}
            Cover::Exhausted => exhausted = true,
            Cover::Left(part) => {
                let flow = table.axes.flow(&part);
                if !confirm.deciding(task.c, table.tenant, table.way, &flow).contains(&id) {
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
        && let Some(life) = decides(task, tables.iter().zip(std::iter::repeat(&Confirm::Eval)), id)?
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
