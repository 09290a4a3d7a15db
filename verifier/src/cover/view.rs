//! One tenant's view, decided in boxes, with Z3 for what is too much for them.

use crate::checks::conflict::{self, Pairs};
use crate::checks::shadow::{self, Alive};
use crate::checks::view::{self, ViewScene};
use crate::checks::{Findings, Task};
use crate::cover::certify::Certificate;
use crate::cover::clash::{Clashes, clashes};
use crate::cover::dead::Dead;
use crate::cover::subtract::{Cover, Work, cover};
use crate::cover::table::{NoTable, Table};
use crate::encode::matches_on;
use crate::replay;
use crate::solver::Fault;
use compiler::algebra::Family;
use compiler::ids::{Id as _, OwnerId, RuleId};
use rayon::prelude::*;
use std::sync::atomic::{AtomicBool, Ordering};

/// Rules of a view up to which every living rule's flow is replayed, rule by rule, in the evaluator, unless all is to be certified:
/// the cost grows with the square.
const REPLAYED: usize = 1 << 12;

/// What one view has shown.
#[derive(Debug, Default)]
pub struct Shown {
    pub pairs: Pairs,
    pub findings: Findings,
    /// Platform rules whose life in this view is undecided.
    pub undecided: Vec<RuleId>,
    pub certificates: Vec<Certificate>,
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
    let replays = task.certify || rules.len() <= REPLAYED;
    let judged: Vec<(RuleId, Option<Alive>)> = rules
        .par_iter()
        .filter(|id| !lives(**id))
        .map(|id| Ok((*id, decides(task, &tables, *id, replays)?)))
        .collect::<Result<_, Fault>>()?;
    let mut dead = Vec::new();
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
            }
            Alive::No if own => dead.push(id),
            Alive::No => {}
            Alive::Undecided if own => shown.findings.append(shadow::undecided(task, id)),
            Alive::Undecided => shown.undecided.push(id),
        }
    }

    let reports: Vec<Option<(Findings, Vec<Certificate>)>> = dead
        .par_iter()
        .map(|id| {
            let mut of = Dead::new(task, *id);
            tables.iter().for_each(|table| of.add(table));
            finding(task, of, *id)
        })
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
    Ok(Some(shown))
}

/// Whether a rule decides a flow in one of a view's tables; `None` if that is too much for boxes.
fn decides(task: Task<'_>, tables: &[Table], id: RuleId, replays: bool) -> Result<Option<Alive>, Fault> {
    let mut exhausted = false;
    for table in tables {
        let Some(entry) = table.find(id) else { continue };
        let region = table.let_through(table.region(entry), table.tier(entry));
        match cover(&region, &table.takers(entry), &table.axes, &mut Work::DEFAULT.clone()) {
            Cover::Covered(_) => {}
            Cover::Exhausted => exhausted = true,
            Cover::Left(part) => {
                let flow = table.axes.flow(&part);
                if replays && !replay::deciding(task.c, table.tenant, table.way, &flow).contains(&id) {
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
