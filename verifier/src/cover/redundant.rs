//! Redundant rules (PW0403) in boxes.
//!
//! SOUNDNESS. What a rule decides in a table is its region, so far as the exposure lets it through, without the boxes of its takers
//! ([`Table::takers`]). Of these flows each must meet a later rule of the same verdict, and each that meets a later rule of another
//! verdict must meet one of the same verdict before that. Both are covers: of the region by takers and later boxes of the same
//! verdict, and of its common part with each other box by the takers and by those of the same verdict before that box. Rules that
//! are gone count as neither.

use crate::checks::Findings;
use crate::checks::Task;
use crate::checks::redundant::{Gone, finding, same};
use crate::checks::shadow::{Blocker, Coverage, Weight, overlap};
use crate::cover::certify::{Certificate, Subject};
use crate::cover::cuboid::Cuboid;
use crate::cover::index::Item;
use crate::cover::subtract::{Cover, Takers, Work, corners, covered_by, leftovers};
use crate::cover::table::Table;
use crate::cover::unique::unique;
use crate::replay;
use crate::solver::Fault;
use compiler::ids::RuleId;
use compiler::packet::Flow;
use std::collections::{BTreeMap, BTreeSet};

/// What a table says of a rule.
enum Says {
    /// What it decides here meets the same verdict next.
    Repeated,
    /// This cell, or box, does not.
    Needed(Cuboid),
    Exhausted,
}

/// The later boxes that meet one of a rule's, by what they do to its flows, ascending.
struct Later {
    same: Vec<Item>,
    other: Vec<Item>,
}

fn is_gone(table: &Table, item: &Item, gone: &Gone) -> bool {
    !gone.is_empty() && table.entries.get(item.entry as usize).is_none_or(|e| gone.contains(&e.rule))
}

fn later(table: &Table, entry: usize, within: &Cuboid, gone: &Gone) -> Later {
    let mut out = Later { same: Vec::new(), other: Vec::new() };
    // Of a box that holds all of it nothing gets past.
    let mut last = u32::MAX;
    let (same, other) = table.alike(entry);
    for (kinds, side) in [(same, &mut out.same), (Some(other), &mut out.other)] {
        let Some(kinds) = kinds else { continue };
        table.later(entry, within, kinds, |item| {
            if item.entry <= last && !is_gone(table, item, gone) {
                if item.cuboid.contains(within) {
                    last = item.entry;
                }
                side.push(*item);
            }
            true
        });
    }
    for side in [&mut out.same, &mut out.other] {
        side.retain(|item| item.entry <= last);
        side.sort_unstable_by_key(|item| (item.entry, item.cuboid));
        side.dedup();
    }
    out
}

/// Whether one kept later box of the rule's verdict holds all of `within`, and no kept one of another verdict comes before it and
/// meets `within`: then every flow in it meets the rule's verdict next.
fn held(table: &Table, entry: usize, within: &Cuboid, gone: &Gone) -> bool {
    let (Some(same), other) = table.alike(entry) else { return false };
    let holder = table.holding_later(entry, within, same, |item| !is_gone(table, item, gone));
    holder.is_some_and(|holder| {
        table.later(entry, within, other, |item| item.entry > holder.entry || is_gone(table, item, gone))
    })
}

/// Whether a cell that the rule matches is decided by it, and meets no later rule of its verdict before one of another.
fn needs_cell(table: &Table, (entry, takers): (usize, &Takers<'_>), cell: &Cuboid, gone: &Gone) -> bool {
    if !table.axes.holds_flow(cell) || takers.any(cell) {
        return false;
    }
    let later = later(table, entry, cell, gone);
    let first = |side: &[Item]| side.first().map(|item| item.entry);
    match (first(&later.same), first(&later.other)) {
        (Some(same), Some(other)) => other < same,
        (Some(_), None) => false,
        (None, _) => true,
    }
}

fn says(task: Task<'_>, table: &Table, entry: usize, gone: &Gone) -> Says {
    let mut region = table.let_through(table.region(entry), table.tier(entry));
    region.retain(|cuboid| !held(table, entry, cuboid, gone));
    let takers = table.takers(entry);
    for cell in region.iter().flat_map(corners) {
        if needs_cell(table, (entry, &takers), &cell, gone) {
            return Says::Needed(cell);
        }
    }
    let mut work = task.work();
    for cuboid in &region {
        let before = takers.overlapping(cuboid);
        let later = later(table, entry, cuboid, gone);
        let mut against = before.clone();
        against.extend(&later.same);
        match covered_by(*cuboid, &against, &table.axes, &mut work) {
            Cover::Covered(_) => {}
            Cover::Left(part) => return Says::Needed(part),
            Cover::Exhausted => return Says::Exhausted,
        }
        for other in &later.other {
            let Some(common) = cuboid.intersect(&other.cuboid) else { continue };
            let sooner = later.same.iter().filter(|item| item.entry < other.entry);
            let mut against = before.clone();
            against.extend(sooner.filter(|item| item.cuboid.overlaps(&common)));
            match covered_by(common, &against, &table.axes, &mut work) {
                Cover::Covered(_) => {}
                Cover::Left(part) => return Says::Needed(part),
                Cover::Exhausted => return Says::Exhausted,
            }
        }
    }
    Says::Repeated
}

/// Whether a rule is known not to be redundant, whatever is left out: some flow that it decides meets no later rule of its verdict.
///
/// # Errors
/// The evaluator does not confirm the flow.
pub fn needed(task: Task<'_>, tables: &[Table], id: RuleId) -> Result<bool, Fault> {
    for table in tables {
        let Some(entry) = table.find(id) else { continue };
        let Some(same_kind) = table.alike(entry).0 else { continue };
        let mut region = table.let_through(table.region(entry), table.tier(entry));
        // Of what one of them holds nothing is left.
        region.retain(|cuboid| table.holding_later(entry, cuboid, same_kind, |_| true).is_none());
        let takers = table.takers(entry);
        let repeated = |within: &Cuboid| {
            let mut out = Vec::new();
            table.later(entry, within, same_kind, |item| {
                out.push(*item);
                true
            });
            out
        };
        let meets_none = |cell: &Cuboid| table.later(entry, cell, same_kind, |_| false);
        let lone = |cell: &Cuboid| table.axes.holds_flow(cell) && !takers.any(cell) && meets_none(cell);
        let mut found = region.iter().flat_map(corners).find(lone);
        let mut work = task.work();
        for cuboid in &region {
            if found.is_some() {
                break;
            }
            let mut against = takers.overlapping(cuboid);
            against.extend(repeated(cuboid));
            if let Cover::Left(part) = covered_by(*cuboid, &against, &table.axes, &mut work) {
                found = Some(part);
            }
        }
        let Some(part) = found else { continue };
        let flow = table.axes.flow(&part);
        let of_its = |other: RuleId| same(task.c, table.way, id, other);
        if task.replay
            && (!decides(task, table, id, &flow) || replay::next_match(task.c, id, &flow, of_its).is_some())
        {
            return Err(contradiction(table, id, &flow));
        }
        return Ok(true);
    }
    Ok(false)
}

/// Whether what a rule decides in these tables meets the same verdict next; `None` if that is too much for boxes.
///
/// # Errors
/// The evaluator does not confirm a flow that shows that the rule is needed.
pub fn repeats<'t>(
    task: Task<'_>,
    tables: impl Iterator<Item = &'t Table>,
    id: RuleId,
    gone: &Gone,
) -> Result<Option<bool>, Fault> {
    let mut exhausted = false;
    for table in tables {
        let Some(entry) = table.find(id) else { continue };
        match says(task, table, entry, gone) {
            Says::Repeated => {}
            Says::Exhausted => exhausted = true,
            Says::Needed(part) => {
                let flow = table.axes.flow(&part);
                let next = |flow| replay::next_match(task.c, id, flow, |other| !gone.contains(&other));
                let repeated = |flow| next(flow).is_some_and(|next| same(task.c, table.way, id, next));
                if task.replay && (repeated(&flow) || !decides(task, table, id, &flow)) {
                    return Err(contradiction(table, id, &flow));
                }
                return Ok(Some(false));
            }
        }
    }
    Ok(if exhausted { None } else { Some(true) })
}

fn decides(task: Task<'_>, table: &Table, id: RuleId, flow: &Flow) -> bool {
    replay::deciding(task.c, table.tenant, table.way, flow).contains(&id)
}

fn contradiction(table: &Table, id: RuleId, flow: &Flow) -> Fault {
    let dump = format!("{id:?} is not needed for {flow:?} in {:?} on {:?}", table.tenant, table.way);
    Fault::Mismatch { dump }
}

/// One table in which the rule matches.
struct Part<'t> {
    table: &'t Table,
    region: Vec<Cuboid>,
    takers: Takers<'t>,
    /// By later rule of the same verdict: where it is the first of the later ones, but for others of the same verdict.
    repeated: BTreeMap<Blocker, Vec<Item>>,
}

/// A redundant rule and the later rules that give its flows the same verdict.
struct Again<'c, 't> {
    task: Task<'c>,
    parts: Vec<Part<'t>>,
    weights: BTreeMap<Blocker, Weight>,
    work: Work,
    exhausted: bool,
}

/// The finding about a redundant rule, and what Z3 has to confirm of it; `None` if that is too much for boxes.
///
/// # Errors
/// The engine, the solver and the evaluator do not agree.
pub fn report<'t>(
    task: Task<'_>,
    tables: impl Iterator<Item = &'t Table>,
    id: RuleId,
    gone: &Gone,
) -> Result<Option<(Findings, Vec<Certificate>)>, Fault> {
    let mut of =
        Again { task, parts: Vec::new(), weights: BTreeMap::new(), work: task.work(), exhausted: false };
    let mut between: BTreeSet<RuleId> = BTreeSet::new();
    for table in tables {
        let Some(entry) = table.find(id) else { continue };
        for cuboid in table.raw(entry) {
            table.after(entry, cuboid, |item| {
                let other = table.entries.get(item.entry as usize).map(|e| e.rule);
                let differs = |other: &RuleId| gone.contains(other) && !same(task.c, table.way, id, *other);
                between.extend(other.filter(differs));
            });
        }
        match of.part(table, entry, id, gone) {
            Some(part) => of.parts.push(part),
            None => return Ok(None),
        }
    }
    let between: Vec<RuleId> = between.into_iter().collect();
    let (finding, cover) = finding(task, &mut of, id, &between)?;
    let certificates = of.certificates(id, &cover);
    Ok(match certificates {
        Some(certificates) if !of.exhausted => {
            Some((Findings { diagnostics: vec![finding], undecided: 0 }, certificates))
        }
        _ => None,
    })
}

impl<'t> Again<'_, 't> {
    fn part(&mut self, table: &'t Table, entry: usize, id: RuleId, gone: &Gone) -> Option<Part<'t>> {
        let c = self.task.c;
        let region = table.let_through(table.region(entry), table.tier(entry));
        let mut repeated: BTreeMap<Blocker, Vec<Item>> = BTreeMap::new();
        // All that meet what the rule matches, so that the weights do not depend on what it decides of it.
        for cuboid in table.raw(entry) {
            let mut items = Vec::new();
            table.after(entry, cuboid, |item| items.push(*item));
            items.retain(|item| {
                let other = table.entries.get(item.entry as usize);
                other.is_some_and(|other| !gone.contains(&other.rule))
            });
            let rule_of = |item: &Item| table.entries.get(item.entry as usize).map(|e| e.rule);
            let is_same = |item: &Item| rule_of(item).is_some_and(|other| same(c, table.way, id, other));
            let others: Vec<Item> = items.iter().filter(|item| !is_same(item)).copied().collect();
            for item in items.iter().filter(|item| is_same(item)) {
                let name = Blocker::Rule(rule_of(item)?);
                let before: Vec<Item> =
                    others.iter().filter(|other| other.entry < item.entry).copied().collect();
                let Some(common) = cuboid.intersect(&item.cuboid) else { continue };
                let left = leftovers(common, &before, &mut self.work)?;
                let of = repeated.entry(name).or_default();
                of.extend(left.into_iter().map(|cuboid| Item { cuboid, entry: item.entry }));
            }
        }
        let (channel, rule) = (&c.channels[table.channel], &c.model.rules[id]);
        repeated.retain(|blocker, _| {
            let Blocker::Rule(other) = blocker else { return false };
            let common = overlap(channel, table.family, rule, Some(&c.model.rules[*other]));
            if common > 0.0 {
                self.weights.entry(*blocker).or_default().overlap += common;
            }
            common > 0.0
        });
        Some(Part { table, region, takers: table.takers(entry), repeated })
    }

    /// What Z3 has to confirm: one certificate for each table. `None` if the work is used up.
    fn certificates(&mut self, id: RuleId, cover: &[Blocker]) -> Option<Vec<Certificate>> {
        let mut out = Vec::new();
        for part in &self.parts {
            let table = part.table;
            let mut by: BTreeSet<Blocker> =
                cover.iter().filter(|b| part.repeated.contains_key(*b)).copied().collect();
            by.extend(table.stand_in.map(|(exposure, _)| Blocker::Exposure(exposure)));
            let chosen: Vec<Item> = part
                .repeated
                .iter()
                .filter(|(b, _)| by.contains(b))
                .flat_map(|(_, items)| items)
                .copied()
                .collect();
            for cuboid in &part.region {
                let mut against = part.takers.overlapping(cuboid);
                against.extend(&chosen);
                let Cover::Covered(used) = covered_by(*cuboid, &against, &table.axes, &mut self.work) else {
                    return None;
                };
                let entries = used.iter().filter_map(|item| table.entries.get(item.entry as usize));
                by.extend(entries.map(|entry| Blocker::Rule(entry.rule)));
            }
            out.push(Certificate {
                subject: Subject::Redundant(id),
                tenant: table.tenant,
                channel: table.channel,
                family: table.family,
                by: by.into_iter().collect(),
            });
        }
        Some(out)
    }
}

impl Coverage for Again<'_, '_> {
    fn weights(&self) -> &BTreeMap<Blocker, Weight> {
        &self.weights
    }

    fn needed(&mut self, among: &[Blocker]) -> BTreeSet<Blocker> {
        let (mut out, mut work) = (BTreeSet::new(), self.task.work());
        for part in &self.parts {
            let within = (part.region.as_slice(), &*part.table.axes);
            unique(within, &part.repeated, among, &part.takers, &mut work, &mut out);
        }
        out
    }

    fn covers(&mut self, cover: &[Blocker]) -> Result<Option<bool>, Fault> {
        let cover: BTreeSet<&Blocker> = cover.iter().collect();
        for part in &self.parts {
            let chosen: Vec<Item> = part
                .repeated
                .iter()
                .filter(|(b, _)| cover.contains(b))
                .flat_map(|(_, items)| items.iter().copied())
                .collect();
            for cuboid in &part.region {
                let mut against = part.takers.overlapping(cuboid);
                against.extend(&chosen);
                match covered_by(*cuboid, &against, &part.table.axes, &mut self.work) {
                    Cover::Covered(_) => {}
                    Cover::Left(_) => return Ok(Some(false)),
                    Cover::Exhausted => {
                        self.exhausted = true;
                        return Ok(None);
                    }
                }
            }
        }
        Ok(Some(true))
    }
}
