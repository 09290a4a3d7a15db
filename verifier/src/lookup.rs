//! First match without a scan: what [`crate::replay`] says of a flow, for policies of thousands of rules.
//!
//! It shares nothing with [`crate::cover`]: it reads the model's sets, looks up which rules may hold an address in lists sorted by
//! address, and asks each of those, in order, whether it matches. It is there to confirm what the engine of boxes says of living
//! rules; tests hold it to the evaluator.

use crate::replay;
use compiler::Compiled;
use compiler::algebra::{Family, RangeSet};
use compiler::eval::{self, Verdict, Way};
use compiler::ids::{OwnerId, PolicyId, RuleId};
use compiler::packet::Flow;
use compiler::sets::PairSet;
use std::collections::BTreeMap;
use std::sync::OnceLock;

/// The policies of one view, for flows between two owners in one family.
#[derive(Debug)]
pub struct Lookup<'c> {
    c: &'c Compiled,
    tenant: OwnerId,
    ends: (OwnerId, OwnerId),
    family: Family,
    /// Slots that a rule may fill before it counts as wide.
    width: usize,
    /// Made when they are first needed.
    lists: BTreeMap<PolicyId, OnceLock<List>>,
}

/// Who confirms what a rule decides.
#[derive(Debug)]
pub enum Confirm<'c> {
    /// The reference evaluator, whose time for one flow grows with the number of rules.
    Eval,
    Lookup(Lookup<'c>),
}

impl Confirm<'_> {
    /// The rules that decide a flow in a view.
    #[must_use]
    pub fn deciding(&self, c: &Compiled, tenant: OwnerId, way: Way, flow: &Flow) -> Vec<RuleId> {
        match self {
            Self::Eval => replay::deciding(c, tenant, way, flow),
            Self::Lookup(lookup) => lookup.deciding(way, flow),
        }
    }

    /// The rule after this one in its policy that is kept and matches the flow first.
    #[must_use]
    pub fn next(
        &self,
        c: &Compiled,
        id: RuleId,
        flow: &Flow,
        kept: impl Fn(RuleId) -> bool,
    ) -> Option<RuleId> {
        match self {
            Self::Eval => replay::next_match(c, id, flow, kept),
            // A policy's rules are made in its order.
            Self::Lookup(lookup) => {
                lookup.find(c.model.rules[id].policy, flow, |other| other > id && kept(other))
            }
        }
    }
}

/// The rules of one policy, by where they may match. A rule that names few of the destinations is found by its destination, one of
/// the rest that names few of the sources by its source.
#[derive(Debug)]
struct List {
    by_dst: Slots,
    by_src: Slots,
    /// Positions in the policy of the rules that are wide on both sides, ascending.
    wide: Vec<u32>,
}

/// Positions of rules by address.
#[derive(Debug)]
struct Slots {
    /// Ascending; each starts a slot.
    starts: Vec<u128>,
    /// By slot: positions of the rules that hold some address of it, ascending.
    held: Vec<Vec<u32>>,
}

impl Slots {
    /// `starts`: first addresses of the rules' ranges. Slots are so many that few rules hold more than a few.
    fn new(mut starts: Vec<u128>) -> Self {
        starts.push(0);
        starts.sort_unstable();
        starts.dedup();
        Self { held: vec![Vec::new(); starts.len()], starts }
    }

    fn at(&self, address: u128) -> usize {
        self.starts.partition_point(|start| *start <= address).saturating_sub(1)
    }

    /// How many slots a set meets.
    fn width(&self, set: &RangeSet) -> usize {
        set.ranges().iter().map(|(lo, hi)| self.at(*hi) - self.at(*lo) + 1).sum()
    }

    fn add(&mut self, set: &RangeSet, position: u32) {
        for (lo, hi) in set.ranges() {
            let (first, last) = (self.at(*lo), self.at(*hi));
            for held in self.held.get_mut(first..=last).unwrap_or(&mut []) {
                if held.last() != Some(&position) {
                    held.push(position);
                }
            }
        }
    }

    fn held(&self, address: u128) -> &[u32] {
        self.held.get(self.at(address)).map_or(&[], Vec::as_slice)
    }
}

impl<'c> Lookup<'c> {
    #[must_use]
    pub fn new(c: &'c Compiled, tenant: OwnerId, ends: (OwnerId, OwnerId), family: Family) -> Self {
        Self::with_width(c, tenant, ends, family, 32)
    }

    /// As [`Lookup::new`]; a rule that meets more than `width` of the ranges between the addresses at which rules begin is not
    /// found by them. No answer depends on it.
    #[must_use]
    pub fn with_width(
        c: &'c Compiled,
        tenant: OwnerId,
        ends: (OwnerId, OwnerId),
        family: Family,
        width: usize,
    ) -> Self {
        let policies = c.views[tenant].iter().flatten();
        Self { c, tenant, ends, family, width, lists: policies.map(|p| (*p, OnceLock::new())).collect() }
    }

    /// As [`crate::replay::deciding`].
    #[must_use]
    pub fn deciding(&self, way: Way, flow: &Flow) -> Vec<RuleId> {
        let model = &self.c.model;
        let stands_after = model.fabric.lowest_delegated();
        let mut out = Vec::new();
        for (tier, policies) in self.c.views[self.tenant].iter().enumerate() {
            let first = |p: &PolicyId| Some((*p, self.find(*p, flow, |_| true)?));
            let given: Vec<(PolicyId, RuleId)> = policies.iter().filter_map(first).collect();
            let overridden = |policy: PolicyId| {
                given.iter().any(|(p, _)| model.policies[*p].overrides.binary_search(&policy).is_ok())
            };
            let live: Vec<RuleId> =
                given.iter().filter(|(p, _)| !overridden(*p)).map(|(_, rule)| *rule).collect();
            let passes = |rule: &RuleId| eval::verdict_on(model.rules[*rule].action, way) == Verdict::Pass;
            let stands_in = live.is_empty() && stands_after == Some(tier) && way.exposure.is_some();
            let goes_on = live.iter().all(passes) && !stands_in;
            out.extend(live);
            if !goes_on {
                break;
            }
        }
        out
    }

    /// The first rule of a policy that is `kept` and matches the flow.
    #[must_use]
    pub fn find(&self, policy: PolicyId, flow: &Flow, kept: impl Fn(RuleId) -> bool) -> Option<RuleId> {
        let list = self.lists.get(&policy)?.get_or_init(|| self.list(policy));
        let rules = &self.c.model.policies[policy].rules;
        let parts = [list.by_dst.held(flow.dst.address), list.by_src.held(flow.src.address), &list.wide];
        let matches = |at: u32| {
            rules.get(at as usize).is_some_and(|id| {
                let rule = &self.c.model.rules[*id];
                rule.service.contains(flow.protocol, flow.x, flow.y) && rule.pairs.contains(flow) && kept(*id)
            })
        };
        let first = parts.into_iter().fold(u32::MAX, |best, part| {
            let sooner = part.iter().copied().take_while(|at| *at < best);
            sooner.into_iter().find(|at| matches(*at)).unwrap_or(best)
        });
        rules.get(first as usize).copied()
    }

    fn list(&self, policy: PolicyId) -> List {
        let all = [RangeSet::range(0, self.family.max())];
        let rules = &self.c.model.policies[policy].rules;
        let ends = |id: &RuleId| -> (&RangeSet, &RangeSet) {
            match (&self.c.model.rules[*id].pairs, &all) {
                (PairSet::Sets(src, dst), _) => {
                    (src.of(self.ends.0).family(self.family), dst.of(self.ends.1).family(self.family))
                }
                (PairSet::SameTenant, [all]) => (all, all),
            }
        };
        let starts = |set: &RangeSet| set.ranges().iter().map(|r| r.0).collect::<Vec<u128>>();
        let mut by_dst = Slots::new(rules.iter().flat_map(|id| starts(ends(id).1)).collect());
        let mut by_src = Slots::new(rules.iter().flat_map(|id| starts(ends(id).0)).collect());
        let mut wide = Vec::new();
        for (position, id) in (0_u32..).zip(rules) {
            let (src, dst) = ends(id);
            if by_dst.width(dst) <= self.width {
                by_dst.add(dst, position);
            } else if by_src.width(src) <= self.width {
                by_src.add(src, position);
            } else {
                wide.push(position);
            }
        }
        List { by_dst, by_src, wide }
    }
}
