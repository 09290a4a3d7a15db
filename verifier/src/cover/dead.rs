//! What takes the flows of a rule that decides nothing, in boxes: the other side of [`crate::checks::shadow::Taken`].

use crate::checks::Task;
use crate::checks::shadow::{Blocker, Coverage, Taken, Weight, overlap};
use crate::cover::axes::Axes;
use crate::cover::certify::{Certificate, Subject};
use crate::cover::cuboid::Cuboid;
use crate::cover::index::Item;
use crate::cover::subtract::{Cover, Takers, Work, covered_by, leftovers};
use crate::cover::table::Table;
use crate::cover::unique::unique;
use crate::cover::witness::preferred;
use crate::solver::Fault;
use compiler::eval::Verdict;
use compiler::ids::{ChannelId, OwnerId, RuleId};
use compiler::packet::Flow;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// One table in which the rule matches.
#[derive(Debug)]
struct Part {
    tenant: OwnerId,
    channel: ChannelId,
    axes: Arc<Axes>,
    region: Vec<Cuboid>,
    /// By blocker, ascending: what it takes of the region.
    taken: BTreeMap<Blocker, Vec<Item>>,
}

/// A rule and what takes its flows, over all tables of the views that it belongs to.
#[derive(Debug)]
pub struct Dead<'c> {
    task: Task<'c>,
    rule: RuleId,
    parts: Vec<Part>,
    weights: BTreeMap<Blocker, Weight>,
    work: Work,
    /// Some question used up the work: no answer given since counts.
    pub exhausted: bool,
}

impl<'c> Dead<'c> {
    #[must_use]
    pub fn new(task: Task<'c>, rule: RuleId) -> Self {
        Self { task, rule, parts: Vec::new(), weights: BTreeMap::new(), work: task.work(), exhausted: false }
    }

    /// What takes a rule's flows in these tables: all of it, or as much as can be part of a finding's cover.
    ///
    /// SOUNDNESS. A cover is the shortest prefix that covers, largest overlaps first and of equal ones the name that sorts first, without
    /// what it does not need. Where one rule of the same policy holds the whole rule in every table, that prefix ends with it or
    /// before, for no overlap is larger; so of the same policy's rules only those count that have an overlap as large and a name
    /// before it, and each of these holds all of the rule's addresses.
    #[must_use]
    pub fn of<'t>(task: Task<'c>, rule: RuleId, tables: impl Iterator<Item = &'t Table> + Clone) -> Self {
        let around = around(task, rule, tables.clone());
        let mut dead = Self::new(task, rule);
        for table in tables {
            dead.add_some(table, around.as_ref());
        }
        dead
    }

    /// Adds a table, if the rule matches something in it.
    pub fn add(&mut self, table: &Table) {
        self.add_some(table, None);
    }

    fn add_some(&mut self, table: &Table, around: Option<&BTreeSet<RuleId>>) {
        let Some(entry) = table.find(self.rule) else { return };
        match self.part(table, entry, around) {
            Some(part) => self.parts.push(part),
            None => self.exhausted = true,
        }
    }

    /// `around`: the rules of the same policy that count; `None`: all.
    fn part(&mut self, table: &Table, entry: usize, around: Option<&BTreeSet<RuleId>>) -> Option<Part> {
        let c = self.task.c;
        let rule = &c.model.rules[self.rule];
        let (home, own) = (table.tier(entry), table.entries.get(entry)?.verdict);
        let region = table.region(entry);
        let channel = &c.channels[table.channel];
        let mut taken: BTreeMap<Blocker, Vec<Item>> = BTreeMap::new();

        let lot = table.lots.get(table.entries.get(entry)?.lot)?;
        let mut beside = Takers::default();
        match around {
            None => beside.parts.push((&lot.index, u32::try_from(entry).ok()?)),
            Some(around) => {
                for at in around.iter().filter_map(|rule| table.find(*rule)) {
                    let blocker = table.entries.get(at)?;
                    let meets = |c: &&Cuboid| table.raw(entry).iter().any(|own| own.overlaps(c));
                    let items = table.raw(at).iter().filter(meets);
                    let items = items.map(|c| Some(Item { cuboid: *c, entry: u32::try_from(at).ok()? }));
                    taken.insert(Blocker::Rule(blocker.rule), items.collect::<Option<_>>()?);
                }
            }
        }
        beside.parts.extend(lot.over.iter().filter_map(|o| table.lots.get(*o)).map(|o| (&o.index, u32::MAX)));
        for item in candidates(table, entry, &beside) {
            let blocker = table.entries.get(item.entry as usize)?;
            taken.entry(Blocker::Rule(blocker.rule)).or_default().push(item);
        }
        let mut above = Takers::default();
        for level in table.levels.iter().take(home) {
            above.parts.extend(table.matched(level));
        }
        let entries: BTreeSet<u32> =
            candidates(table, entry, &above).into_iter().map(|item| item.entry).collect();
        for at in entries {
            let blocker = table.entries.get(at as usize)?;
            let live = self.decided_by(table, &region, at as usize)?;
            let items = live.into_iter().map(|cuboid| Item { cuboid, entry: at });
            taken.insert(Blocker::Rule(blocker.rule), items.collect());
        }
        if let Some((exposure, after)) = table.stand_in.filter(|(_, after)| *after < home) {
            let mut before = Takers::default();
            before.parts.extend(table.levels.get(after).into_iter().flat_map(|level| table.matched(level)));
            table.above(after, &mut before);
            let mut items = Vec::new();
            for cuboid in &region {
                let left = leftovers(*cuboid, &before.overlapping(cuboid), &mut self.work)?;
                items.extend(left.into_iter().map(|cuboid| Item { cuboid, entry: u32::MAX }));
            }
            taken.insert(Blocker::Exposure(exposure), items);
        }

        // The verdict that a blocker gives, weighed by what it has in common with the rule.
        taken.retain(|blocker, _| {
            let (other, verdict) = match blocker {
                Blocker::Rule(id) => {
                    let entry = table.find(*id).and_then(|at| table.entries.get(at));
                    (Some(&c.model.rules[*id]), entry.map_or(own, |e| e.verdict))
                }
                Blocker::Exposure(_) => (None, Verdict::Allow { via: None }),
            };
            let common = overlap(channel, table.family, rule, other);
            if common > 0.0 {
                let weight = self.weights.entry(*blocker).or_default();
                weight.overlap += common;
                weight.differs |= verdict != own;
            }
            common > 0.0
        });
        Some(Part { tenant: table.tenant, channel: table.channel, axes: table.axes.clone(), region, taken })
    }

    /// The part of a region that a rule of a higher tier decides: it is live there, and the tier does not pass.
    fn decided_by(&mut self, table: &Table, region: &[Cuboid], at: usize) -> Option<Vec<Cuboid>> {
        let entry = table.entries.get(at)?;
        let common: Vec<Cuboid> =
            region.iter().flat_map(|r| table.raw(at).iter().filter_map(move |c| r.intersect(c))).collect();
        let before = table.takers(at);
        let mut live = Vec::new();
        for cuboid in table.let_through(common, table.tier(at)) {
            live.extend(leftovers(cuboid, &before.overlapping(&cuboid), &mut self.work)?);
        }
        if entry.verdict != Verdict::Pass {
            return Some(live);
        }
        let mut tier = Takers::default();
        table.taken_by(table.tier(at), &mut tier);
        let decided = live
            .iter()
            .flat_map(|l| tier.overlapping(l).into_iter().filter_map(move |i| l.intersect(&i.cuboid)));
        Some(decided.collect())
    }

    /// What Z3 has to confirm of a cover: one certificate for each table.
    #[must_use]
    pub fn certificates(&self, cover: &[Blocker]) -> Vec<Certificate> {
        let certificate = |part: &Part| Certificate {
            subject: Subject::Rule(self.rule),
            tenant: part.tenant,
            channel: part.channel,
            family: part.axes.family,
            by: cover.iter().filter(|b| part.taken.contains_key(*b)).copied().collect(),
        };
        self.parts.iter().map(certificate).collect()
    }
}

/// Of the earlier rules of the same policy that hold a whole rule in every table where it matches, the one whose name sorts first;
/// and those with a name before it that hold all of the rule's addresses. `None` if no rule holds it.
fn around<'t>(
    task: Task<'_>,
    rule: RuleId,
    tables: impl Iterator<Item = &'t Table>,
) -> Option<BTreeSet<RuleId>> {
    // By rule: whether it holds the whole rule, as far as was looked.
    let mut held: Option<BTreeMap<RuleId, bool>> = None;
    let rank = |id: RuleId| task.c.model.rules[id].rank;
    for table in tables {
        let Some(entry) = table.find(rule) else { continue };
        let lot = table.lots.get(table.entries.get(entry)?.lot)?;
        let single = held.is_none() && table.raw(entry).len() == 1;
        for cuboid in table.raw(entry) {
            let mut here: Vec<(RuleId, bool)> = Vec::new();
            let mut first = u32::MAX;
            lot.index.around(cuboid, u32::try_from(entry).ok()?, |item| {
                let Some(other) = table.entries.get(item.entry as usize) else { return };
                let (whole, rank) = (item.cuboid.contains(cuboid), rank(other.rule));
                // What comes after a rule that holds all is needed only to see whether it holds the other boxes too.
                if !single || rank <= first {
                    here.push((other.rule, whole));
                }
                if whole {
                    first = first.min(rank);
                }
            });
            if single {
                here.retain(|(id, _)| rank(*id) <= first);
            }
            let mut now: BTreeMap<RuleId, bool> = BTreeMap::new();
            for (id, whole) in here {
                *now.entry(id).or_insert(false) |= whole;
            }
            held = Some(match held {
                None => now,
                Some(before) => before
                    .into_iter()
                    .filter_map(|(id, whole)| now.get(&id).map(|more| (id, whole && *more)))
                    .collect(),
            });
        }
    }
    let held = held?;
    let first = held.iter().filter(|(_, whole)| **whole).map(|(id, _)| rank(*id)).min()?;
    Some(held.into_keys().filter(|id| rank(*id) <= first).collect())
}

/// The boxes of the takers that meet a rule's own, whether or not a well-formed flow lies in both.
fn candidates(table: &Table, entry: usize, takers: &Takers<'_>) -> Vec<Item> {
    let mut out: Vec<Item> = table.raw(entry).iter().flat_map(|c| takers.overlapping(c)).collect();
    out.sort_unstable_by_key(|item| (item.entry, item.cuboid));
    out.dedup();
    out
}

impl Coverage for Dead<'_> {
    fn weights(&self) -> &BTreeMap<Blocker, Weight> {
        &self.weights
    }

    fn needed(&mut self, among: &[Blocker]) -> BTreeSet<Blocker> {
        let (mut out, mut work) = (BTreeSet::new(), self.task.work());
        for part in &self.parts {
            let within = (part.region.as_slice(), &*part.axes);
            unique(within, &part.taken, among, &Takers::default(), &mut work, &mut out);
        }
        out
    }

    fn covers(&mut self, cover: &[Blocker]) -> Result<Option<bool>, Fault> {
        let cover: BTreeSet<&Blocker> = cover.iter().collect();
        for part in &self.parts {
            let taken = part.taken.iter().filter(|(b, _)| cover.contains(b));
            let items: Vec<Item> = taken.flat_map(|(_, items)| items.iter().copied()).collect();
            for cuboid in &part.region {
                match covered_by(*cuboid, &items, &part.axes, &mut self.work) {
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

impl Taken for Dead<'_> {
    fn witness(&mut self) -> Result<Option<(ChannelId, Flow)>, Fault> {
        let flow = |part: &Part| Some((part.channel, preferred(self.task.c, &part.axes, &part.region)?));
        Ok(self.parts.iter().find_map(flow))
    }
}
