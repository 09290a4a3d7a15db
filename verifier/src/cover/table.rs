//! One tenant's view on one channel in one family, as ordered lists of boxes.
//!
//! SOUNDNESS. A flow reaches a tier if no higher tier decides it. A tier decides a flow if some policy that is not overridden gives
//! another verdict than `pass`; that is so if and only if the flow is in the box of some such rule `b` and in none of a `pass` that
//! comes before `b` in its policy or stands in a policy that overrides it:
//!
//! - *if*: of the policies that give a verdict among `b`'s own and those that override it, one is overridden by none (overriding is
//!   transitive and has no cycle). Its first match is no `pass`, since none of those matches; so the tier decides.
//! - *only if*: take the rule that decides. It is the first match of its policy, and no policy that overrides it matches at all.
//!
//! So what a tier takes from the tiers below it is a list of boxes, from which the boxes of some `pass` rules have been taken
//! away ([`Level::taking`]). After the lowest delegated tier an exposure takes what no rule of that tier matches: of the flows
//! that the tier does not decide, exactly those in the box of one of its `pass` rules go on.

use crate::checks::Task;
use crate::checks::conflict::astray;
use crate::cover::axes::Axes;
use crate::cover::cuboid::Cuboid;
use crate::cover::extent::Extent;
use crate::cover::index::{Index, Item, Kinds};
use crate::cover::subtract::{Takers, Work, leftovers};
use crate::replay;
use compiler::algebra::{Family, RangeSet};
use compiler::compiled::Channel;
use compiler::eval::{self, Verdict, Way};
use compiler::ids::{ChannelId, ExposureId, OwnerId, PolicyId, RuleId};
use compiler::model::Rule;
use compiler::sets::{PairSet, ServiceSet};
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

/// Boxes of one rule on one channel, at most: a rule of more is left to Z3, which takes sets as they are.
const RULE_BOXES: usize = 1 << 14;
/// Boxes of a table, at most.
const TABLE_BOXES: usize = 1 << 21;

/// The kind of rules that are like no rule here: no two of them count as alike.
pub const ASTRAY: u32 = u32::MAX;

/// A rule that matches something here.
#[derive(Debug, Clone)]
pub struct Entry {
    pub rule: RuleId,
    pub verdict: Verdict,
    /// Rules of one kind give one verdict; one that gives none of its own here ([`astray`]) is of its own kind, [`ASTRAY`].
    pub kind: u32,
    /// Index into [`Table::lots`].
    pub lot: usize,
    boxes: Range<usize>,
}

/// A policy.
#[derive(Debug, Clone)]
pub struct Lot {
    pub policy: PolicyId,
    pub tier: usize,
    pub entries: Range<usize>,
    /// The policies of its tier that override it, by position in [`Table::lots`].
    pub over: Vec<usize>,
    pub index: Index,
}

/// A tier.
#[derive(Debug, Clone)]
pub struct Level {
    /// Its policies, by position in [`Table::lots`].
    pub lots: Range<usize>,
    /// What it takes from the tiers below, where that is not simply all boxes of all its rules.
    carved: Option<Index>,
    /// The boxes of its `pass` rules.
    passes: Index,
}

#[derive(Debug, Clone)]
pub struct Table {
    pub tenant: OwnerId,
    pub channel: ChannelId,
    pub family: Family,
    pub way: Way,
    pub axes: Arc<Axes>,
    pub entries: Vec<Entry>,
    boxes: Vec<Cuboid>,
    pub lots: Vec<Lot>,
    pub levels: Vec<Level>,
    /// The exposure that decides what no rule of this tier matches.
    pub stand_in: Option<(ExposureId, usize)>,
    /// By rule: its entry. Only looked up.
    at: BTreeMap<RuleId, usize>,
}

/// Why there is no table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoTable {
    /// No flow of this family goes on the channel.
    NoFlow,
    /// More boxes than are worth it.
    TooWide,
}

/// The rule's extents on a channel, not clipped to well-formed flows; `None`: too many.
fn extents(rule: &Rule, channel: &Channel, family: Family) -> Option<Vec<Extent>> {
    let (src_all, dst_all) = (channel.src_set.family(family), channel.dst_set.family(family));
    let (src, dst): (Cow<'_, RangeSet>, Cow<'_, RangeSet>) = match &rule.pairs {
        PairSet::SameTenant if channel.src != channel.dst => return Some(Vec::new()),
        PairSet::SameTenant => (Cow::Borrowed(src_all), Cow::Borrowed(dst_all)),
        PairSet::Sets(s, d) => {
            let (s, d) = (s.of(channel.src).family(family), d.of(channel.dst).family(family));
            if !s.overlaps(src_all) || !d.overlaps(dst_all) {
                return Some(Vec::new());
            }
            (Cow::Owned(s.intersect(src_all)), Cow::Owned(d.intersect(dst_all)))
        }
    };
    let service: Cow<'_, ServiceSet> = if channel.service.boxes == ServiceSet::all().boxes {
        Cow::Borrowed(&rule.service)
    } else {
        Cow::Owned(rule.service.intersect(&channel.service))
    };
    if !service.possible(family) {
        return Some(Vec::new());
    }
    let count = src.ranges().len().checked_mul(dst.ranges().len())?.checked_mul(service.boxes.len())?;
    if count > RULE_BOXES {
        return None;
    }
    let mut out = Vec::with_capacity(count);
    for src in src.ranges() {
        for dst in dst.ranges() {
            let of = service.boxes.iter().map(|b| Extent {
                src: *src,
                dst: *dst,
                protocol: b.proto,
                x: b.x,
                y: b.y,
            });
            out.extend(of);
        }
    }
    Some(out)
}

#[expect(clippy::cast_possible_truncation, reason = "a table holds far fewer than 2^32 entries")]
fn number(entry: usize) -> u32 {
    entry as u32
}

impl Table {
    /// The view of a tenant on one of its channels.
    ///
    /// # Errors
    /// There is nothing to decide, or too much for boxes.
    pub fn new(task: Task<'_>, tenant: OwnerId, id: ChannelId, family: Family) -> Result<Self, NoTable> {
        let c = task.c;
        let channel = &c.channels[id];
        if channel.src_set.family(family).is_empty()
            || channel.dst_set.family(family).is_empty()
            || !channel.service.possible(family)
        {
            return Err(NoTable::NoFlow);
        }
        let way = replay::way_of(c, id, tenant);
        let mut raw: Vec<Extent> = Vec::new();
        // (rule, verdict, lot, extents)
        let mut rules: Vec<(RuleId, Verdict, usize, Range<usize>)> = Vec::new();
        let mut lots: Vec<Lot> = Vec::new();
        let mut levels: Vec<Level> = Vec::new();
        for (tier, policies) in c.views[tenant].iter().enumerate() {
            let first_lot = lots.len();
            for policy in policies {
                let first = rules.len();
                for rule in &c.model.policies[*policy].rules {
                    let of = extents(&c.model.rules[*rule], channel, family).ok_or(NoTable::TooWide)?;
                    if of.is_empty() {
                        continue;
                    }
                    let from = raw.len();
                    raw.extend(of);
                    let verdict = eval::verdict_on(c.model.rules[*rule].action, way);
                    rules.push((*rule, verdict, lots.len(), from..raw.len()));
                }
                if raw.len() > TABLE_BOXES {
                    return Err(NoTable::TooWide);
                }
                // A policy without a match gives no verdict and overrides nothing.
                if rules.len() > first {
                    let entries = first..rules.len();
                    lots.push(Lot {
                        policy: *policy,
                        tier,
                        entries,
                        over: Vec::new(),
                        index: Index::default(),
                    });
                }
            }
            levels.push(Level { lots: first_lot..lots.len(), carved: None, passes: Index::default() });
        }
        let axes = Arc::new(Axes::new(channel.src, channel.dst, family, &raw));
        let stand_in = way.exposure.zip(c.model.fabric.lowest_delegated());
        let mut table = Self {
            tenant,
            channel: id,
            family,
            way,
            axes,
            entries: Vec::with_capacity(rules.len()),
            boxes: Vec::with_capacity(raw.len()),
            lots,
            levels,
            stand_in,
            at: rules.iter().enumerate().map(|(at, (rule, ..))| (*rule, at)).collect(),
        };
        let mut verdicts: Vec<Verdict> = Vec::new();
        for (rule, verdict, lot, of) in rules {
            let known = verdicts.iter().position(|known| *known == verdict);
            let kind = match known {
                _ if astray(c, way, rule) => ASTRAY,
                Some(kind) => number(kind),
                None => {
                    verdicts.push(verdict);
                    number(verdicts.len() - 1)
                }
            };
            let from = table.boxes.len();
            for extent in raw.get(of).unwrap_or(&[]) {
                let boxes = &mut table.boxes;
                table.axes.boxes(extent, |cuboid| boxes.push(cuboid));
            }
            table.entries.push(Entry { rule, verdict, kind, lot, boxes: from..table.boxes.len() });
        }
        table.index(task);
        table.carve(task.work())?;
        Ok(table)
    }

    /// The same table as if only some policies stood in the view.
    ///
    /// # Errors
    /// Too much for boxes.
    pub fn among(&self, task: Task<'_>, stands: impl Fn(PolicyId) -> bool) -> Result<Self, NoTable> {
        let mut out = Self {
            axes: self.axes.clone(),
            entries: Vec::new(),
            boxes: Vec::new(),
            lots: Vec::new(),
            levels: Vec::new(),
            at: BTreeMap::new(),
            ..*self
        };
        for level in &self.levels {
            let first_lot = out.lots.len();
            for lot in self.lots.get(level.lots.clone()).unwrap_or(&[]) {
                if !stands(lot.policy) {
                    continue;
                }
                let first = out.entries.len();
                for at in lot.entries.clone() {
                    let Some(entry) = self.entries.get(at) else { continue };
                    let from = out.boxes.len();
                    out.boxes.extend_from_slice(self.raw(at));
                    out.at.insert(entry.rule, out.entries.len());
                    let boxes = from..out.boxes.len();
                    out.entries.push(Entry { lot: out.lots.len(), boxes, ..*entry });
                }
                let entries = first..out.entries.len();
                out.lots.push(Lot { entries, over: Vec::new(), index: Index::default(), ..*lot });
            }
            let lots = first_lot..out.lots.len();
            out.levels.push(Level { lots, carved: None, passes: Index::default() });
        }
        out.index(task);
        out.carve(task.work())?;
        Ok(out)
    }

    fn index(&mut self, task: Task<'_>) {
        let lots: Vec<(Index, Vec<usize>)> = self
            .lots
            .iter()
            .map(|lot| {
                let policy = lot.policy;
                let over = self.levels.get(lot.tier).map_or(0..0, |level| level.lots.clone());
                let over = over.filter(|other| {
                    self.lots.get(*other).is_some_and(|other| {
                        task.c.model.policies[other.policy].overrides.binary_search(&policy).is_ok()
                    })
                });
                let kind = |item: &Item| self.entries.get(item.entry as usize).map_or(ASTRAY, |e| e.kind);
                (Index::by_kind(self.items(lot.entries.clone(), |_| true), kind), over.collect())
            })
            .collect();
        for (lot, (index, over)) in self.lots.iter_mut().zip(lots) {
            lot.index = index;
            lot.over = over;
        }
    }

    /// What each tier takes from those below it.
    fn carve(&mut self, mut work: Work) -> Result<(), NoTable> {
        let mut made: Vec<Option<(Index, Index)>> = Vec::new();
        for level in &self.levels {
            let is_pass = |e: &Entry| e.verdict == Verdict::Pass;
            let entries = self.entries_of(level.lots.clone());
            let last = self.lots.len() == level.lots.end;
            let has_pass = self.entries.get(entries.clone()).is_some_and(|all| all.iter().any(is_pass));
            if last || !has_pass {
                made.push(None);
                continue;
            }
            let passes = Index::new(self.items(entries.clone(), is_pass));
            let mut carved = Vec::new();
            for (at, entry) in self.entries.iter().enumerate().take(entries.end).skip(entries.start) {
                if is_pass(entry) {
                    continue;
                }
                let over = self.lots.get(entry.lot).map_or(&[][..], |lot| &lot.over);
                let counts = |item: &Item| {
                    self.entries.get(item.entry as usize).is_some_and(|pass| {
                        over.contains(&pass.lot) || (pass.lot == entry.lot && item.entry < number(at))
                    })
                };
                for cuboid in self.raw(at) {
                    let before = Takers { parts: vec![(&passes, u32::MAX)] };
                    let against: Vec<Item> =
                        before.overlapping(cuboid).into_iter().filter(|item| counts(item)).collect();
                    let left = leftovers(*cuboid, &against, &mut work).ok_or(NoTable::TooWide)?;
                    carved.extend(left.into_iter().map(|cuboid| Item { cuboid, entry: number(at) }));
                    if carved.len() > TABLE_BOXES {
                        return Err(NoTable::TooWide);
                    }
                }
            }
            made.push(Some((Index::new(carved), passes)));
        }
        for (level, made) in self.levels.iter_mut().zip(made) {
            if let Some((carved, passes)) = made {
                level.carved = Some(carved);
                level.passes = passes;
            }
        }
        Ok(())
    }

    fn items(&self, entries: Range<usize>, keep: impl Fn(&Entry) -> bool) -> Vec<Item> {
        let chosen = entries.filter(|at| self.entries.get(*at).is_some_and(&keep));
        chosen
            .flat_map(|at| self.raw(at).iter().map(move |c| Item { cuboid: *c, entry: number(at) }))
            .collect()
    }

    fn entries_of(&self, lots: Range<usize>) -> Range<usize> {
        let mut of = lots.filter_map(|lot| self.lots.get(lot)).map(|lot| lot.entries.clone());
        match of.next() {
            Some(first) => first.start..of.next_back().map_or(first.end, |last| last.end),
            None => 0..0,
        }
    }

    /// The entry of a rule.
    #[must_use]
    pub fn find(&self, rule: RuleId) -> Option<usize> {
        self.at.get(&rule).copied()
    }

    /// The boxes that a rule matches, not clipped to well-formed flows.
    #[must_use]
    pub fn raw(&self, entry: usize) -> &[Cuboid] {
        self.entries.get(entry).and_then(|e| self.boxes.get(e.boxes.clone())).unwrap_or(&[])
    }

    /// The tier of an entry.
    #[must_use]
    pub fn tier(&self, entry: usize) -> usize {
        self.entries.get(entry).and_then(|e| self.lots.get(e.lot)).map_or(0, |lot| lot.tier)
    }

    /// The well-formed flows that a rule matches.
    #[must_use]
    pub fn region(&self, entry: usize) -> Vec<Cuboid> {
        let mut out = Vec::new();
        for cuboid in self.raw(entry) {
            self.axes.shaped(cuboid, |part| out.push(part));
        }
        out
    }

    /// The part of a region that the stand-in lets through to this tier.
    #[must_use]
    pub fn let_through(&self, region: Vec<Cuboid>, tier: usize) -> Vec<Cuboid> {
        let stands = self.stand_in.filter(|(_, after)| *after < tier);
        let Some(level) = stands.and_then(|(_, after)| self.levels.get(after)) else { return region };
        let mut out = Vec::new();
        for cuboid in &region {
            level.passes.overlapping(cuboid, u32::MAX, |item| {
                out.extend(cuboid.intersect(&item.cuboid));
                true
            });
        }
        out.sort_unstable();
        out.dedup();
        out
    }

    /// What the tiers above this one take.
    pub fn above<'t>(&'t self, tier: usize, takers: &mut Takers<'t>) {
        for above in 0..tier {
            self.taken_by(above, takers);
        }
    }

    /// What a tier takes from those below it, exposures apart.
    pub fn taken_by<'t>(&'t self, tier: usize, takers: &mut Takers<'t>) {
        let Some(level) = self.levels.get(tier) else { return };
        match &level.carved {
            Some(carved) => takers.parts.push((carved, u32::MAX)),
            None => takers.parts.extend(self.matched(level)),
        }
    }

    /// What the rules of a tier match.
    pub fn matched<'t>(&'t self, level: &Level) -> impl Iterator<Item = (&'t Index, u32)> + use<'t> {
        self.lots.get(level.lots.clone()).unwrap_or(&[]).iter().map(|lot| (&lot.index, u32::MAX))
    }

    /// What takes flows from a rule: together with [`Table::let_through`], all that it matches and does not decide.
    #[must_use]
    pub fn takers(&self, entry: usize) -> Takers<'_> {
        let mut takers = Takers::default();
        let Some(lot) = self.entries.get(entry).and_then(|e| self.lots.get(e.lot)) else { return takers };
        takers.parts.push((&lot.index, number(entry)));
        takers.parts.extend(lot.over.iter().filter_map(|o| self.lots.get(*o)).map(|o| (&o.index, u32::MAX)));
        self.above(lot.tier, &mut takers);
        takers
    }

    /// The kind of an entry.
    #[must_use]
    pub fn kind(&self, entry: usize) -> u32 {
        self.entries.get(entry).map_or(ASTRAY, |e| e.kind)
    }

    /// The later entries that give the verdict of this one, and the others.
    #[must_use]
    pub fn alike(&self, entry: usize) -> (Option<Kinds>, Kinds) {
        match self.kind(entry) {
            ASTRAY => (None, Kinds::All),
            kind => (Some(Kinds::Only(kind)), Kinds::But(kind)),
        }
    }

    /// Hands the boxes of the later entries of its policy that are of these kinds and overlap `within` to `visit`, in no particular
    /// order, until it returns `false`; whether it came to an end.
    pub fn later(
        &self,
        entry: usize,
        within: &Cuboid,
        kinds: Kinds,
        visit: impl FnMut(&Item) -> bool,
    ) -> bool {
        let lot = self.entries.get(entry).and_then(|e| self.lots.get(e.lot));
        lot.is_none_or(|lot| lot.index.later(within, number(entry), kinds, visit))
    }

    /// A box of a later entry of its policy that is of these kinds, is kept and holds all of `within`.
    #[must_use]
    pub fn holding_later(
        &self,
        entry: usize,
        within: &Cuboid,
        kinds: Kinds,
        keep: impl Fn(&Item) -> bool,
    ) -> Option<Item> {
        let lot = self.entries.get(entry).and_then(|e| self.lots.get(e.lot))?;
        lot.index.holding_later(within, number(entry), kinds, keep)
    }

    /// As [`Table::later`], for all kinds.
    pub fn after(&self, entry: usize, within: &Cuboid, mut visit: impl FnMut(&Item)) {
        self.later(entry, within, Kinds::All, |item| {
            visit(item);
            true
        });
    }

    /// Whether a box of some of these policies that stands before an entry's overlaps it: in a higher tier, or in a policy that
    /// overrides its own.
    #[must_use]
    pub fn meets(&self, entry: usize, policies: impl Fn(PolicyId) -> bool) -> bool {
        let Some(lot) = self.entries.get(entry).and_then(|e| self.lots.get(e.lot)) else { return false };
        let stronger = |at: usize, other: &Lot| other.tier < lot.tier || lot.over.contains(&at);
        let mut before =
            self.lots.iter().enumerate().filter(|(at, other)| stronger(*at, other) && policies(other.policy));
        before.any(|(_, other)| self.raw(entry).iter().any(|own| other.index.any(own, u32::MAX)))
    }
}
