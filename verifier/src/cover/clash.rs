//! Conflicts (PW0401) in boxes: pairs of rules of unordered policies that decide one flow, differently.

use crate::checks::Task;
use crate::checks::conflict::{Pair, Pairs, astray, both_decide};
use crate::checks::shadow::Blocker;
use crate::cover::certify::{Certificate, Subject};
use crate::cover::cuboid::Cuboid;
use crate::cover::index::Item;
use crate::cover::subtract::{Cover, Takers, Work, cover, leftovers};
use crate::cover::table::{Level, Table};
use crate::cover::witness::preferred;
use crate::solver::Fault;
use compiler::packet::Flow;
use std::collections::BTreeSet;

/// What a table has shown.
pub enum Clashes {
    /// All its conflicts have been added, and these pairs decide nothing together.
    Decided(Vec<Certificate>),
    /// Too much for boxes.
    Exhausted,
}

/// Adds the conflicts of a table to `pairs`.
///
/// # Errors
/// A flow that the boxes show is not one to the evaluator.
pub fn clashes(task: Task<'_>, table: &Table, pairs: &mut Pairs) -> Result<Clashes, Fault> {
    let mut certificates = Vec::new();
    for (tier, level) in table.levels.iter().enumerate() {
        for (a, b) in disagreeing(task, table, level) {
            match pair(task, table, tier, (a, b), pairs)? {
                Clashes::Decided(more) => certificates.extend(more),
                Clashes::Exhausted => return Ok(Clashes::Exhausted),
            }
        }
    }
    Ok(Clashes::Decided(certificates))
}

/// The pairs of entries of a tier's unordered policies whose boxes meet and whose verdicts differ, ascending.
fn disagreeing(task: Task<'_>, table: &Table, level: &Level) -> BTreeSet<(usize, usize)> {
    let mut out = BTreeSet::new();
    for first in level.lots.clone() {
        for second in first + 1..level.lots.end {
            let (Some(a), Some(b)) = (table.lots.get(first), table.lots.get(second)) else { continue };
            if a.over.contains(&second) || b.over.contains(&first) {
                continue;
            }
            // The shorter one asks the longer one's index.
            let (asks, index) = if a.entries.len() <= b.entries.len() { (a, b) } else { (b, a) };
            for at in asks.entries.clone() {
                let Some(entry) = table.entries.get(at).filter(|e| !astray(task.c, table.way, e.rule)) else {
                    continue;
                };
                for cuboid in table.raw(at) {
                    index.index.overlapping(cuboid, u32::MAX, |item| {
                        let other = item.entry as usize;
                        let differs = table.entries.get(other).is_some_and(|o| {
                            o.verdict != entry.verdict && !astray(task.c, table.way, o.rule)
                        });
                        if differs {
                            out.insert((at.min(other), at.max(other)));
                        }
                        true
                    });
                }
            }
        }
    }
    out
}

fn pair(
    task: Task<'_>,
    table: &Table,
    tier: usize,
    (a, b): (usize, usize),
    pairs: &mut Pairs,
) -> Result<Clashes, Fault> {
    let nothing = Ok(Clashes::Decided(Vec::new()));
    let (Some(first), Some(second)) = (table.entries.get(a), table.entries.get(b)) else { return nothing };
    let rank = |rule| task.c.model.rules[rule].rank;
    let (first, second) = if rank(first.rule) <= rank(second.rule) {
        (first.rule, second.rule)
    } else {
        (second.rule, first.rule)
    };
    let key = (rank(first), rank(second));
    if matches!(pairs.get(&key), Some((_, _, Pair::Conflict { .. }))) {
        return nothing;
    }
    let region = table.let_through(common(table, a, b), tier);
    let mut takers = table.takers(a);
    takers.parts.extend(table.takers(b).parts);
    let mut work = task.work();
    match cover(&region, &takers, &table.axes, &mut work) {
        Cover::Exhausted => Ok(Clashes::Exhausted),
        Cover::Covered(_) if region.is_empty() => nothing,
        Cover::Covered(by) => Ok(Clashes::Decided(vec![certificate(table, (first, second), &by)])),
        Cover::Left(_) => {
            let Some(flow) = witness(task, table, &region, &takers, &mut work) else {
                return Ok(Clashes::Exhausted);
            };
            if task.replay && !both_decide(task.c, (table.tenant, table.way, tier), (first, second), &flow) {
                let dump =
                    format!("{flow:?} shows no conflict of {first:?} and {second:?} in {:?}", table.tenant);
                return Err(Fault::Mismatch { dump });
            }
            let found = Pair::Conflict { tenant: table.tenant, channel: table.channel, flow };
            pairs.insert(key, (first, second, found));
            nothing
        }
    }
}

/// The well-formed flows that both match.
fn common(table: &Table, a: usize, b: usize) -> Vec<Cuboid> {
    let mut out = Vec::new();
    for one in table.raw(a) {
        for common in table.raw(b).iter().filter_map(|other| one.intersect(other)) {
            table.axes.shaped(&common, |part| out.push(part));
        }
    }
    out.sort_unstable();
    out.dedup();
    out
}

/// The preferred flow that is left of the region; `None` if the work is used up.
fn witness(
    task: Task<'_>,
    table: &Table,
    region: &[Cuboid],
    takers: &Takers<'_>,
    work: &mut Work,
) -> Option<Flow> {
    let mut left = Vec::new();
    for cuboid in region {
        left.extend(leftovers(*cuboid, &takers.overlapping(cuboid), work)?);
    }
    preferred(task.c, &table.axes, &left)
}

fn certificate(
    table: &Table,
    (first, second): (compiler::ids::RuleId, compiler::ids::RuleId),
    by: &[Item],
) -> Certificate {
    let mut by: Vec<Blocker> = by
        .iter()
        .filter_map(|item| table.entries.get(item.entry as usize))
        .map(|entry| Blocker::Rule(entry.rule))
        .collect();
    by.extend(table.stand_in.map(|(exposure, _)| Blocker::Exposure(exposure)));
    by.sort_unstable();
    by.dedup();
    Certificate {
        subject: Subject::Pair(first, second),
        tenant: table.tenant,
        channel: table.channel,
        family: table.family,
        by,
    }
}
