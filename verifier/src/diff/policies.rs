//! What changed in the policies: rules that are not the same, in the same place, on both sides.
//!
//! SOUNDNESS. Let the rules of a policy on both sides be aligned: a common subsequence of rules that match the same flows and give
//! the same verdict. A flow that none of the other rules matches, on either side, has its first match among the aligned ones, and
//! it is the same on both sides. So if that is so for every policy of a view, and the policies stand in the same tiers and override
//! the same policies, the view gives one decision on both sides: it depends on each policy's first match alone.

use crate::diff::names::{Joint, Names, Side};
use compiler::algebra::AddrSet;
use compiler::ids::{PolicyId, RuleId};
use compiler::model::{Action, Policy, Rule};
use compiler::sets::{EndSet, PairSet, ServiceSet};
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

/// A rule that is not aligned, and how many aligned ones come before it in its policy.
pub type Loose = (usize, RuleId);

/// A policy that changed.
#[derive(Debug, Clone, Default)]
pub struct PolicyDelta {
    /// The tenants whose views hold it, or every tenant's.
    pub owners: Vec<Option<Joint>>,
    /// The rules that are not aligned, by side.
    pub loose: [Vec<Loose>; 2],
    /// Its tier, its owner or what it overrides changed: all of its rules are loose, and none is like another.
    pub moved: bool,
}

/// What changed in all policies.
#[derive(Debug, Default)]
pub struct Deltas {
    policies: Vec<PolicyDelta>,
    /// By tenant, then every tenant's: positions in `policies`.
    by_owner: BTreeMap<Option<Joint>, Vec<usize>>,
    /// The tiers are not the same, so that no view can be told from its policies.
    pub tiers: bool,
}

/// What a rule matches and says, as numbers that are equal for equal rules of either side.
type Content = (Option<(u32, u32)>, u32, (u8, u32));

/// Numbers for sets.
#[derive(Default)]
struct Numbers<'c> {
    sets: HashMap<(AddrSet, Vec<(Joint, AddrSet)>), u32>,
    services: HashMap<&'c ServiceSet, u32>,
    /// Sets are shared by rules; by address, which is only looked up.
    seen: HashMap<*const EndSet, u32>,
}

impl<'c> Numbers<'c> {
    fn set(&mut self, names: &Names<'c>, side: Side, set: &'c Arc<EndSet>) -> u32 {
        let at = Arc::as_ptr(set);
        if let Some(number) = self.seen.get(&at) {
            return *number;
        }
        let owners = set.owners.iter().map(|(o, addresses)| (names.joint(side, *o), addresses.clone()));
        let key = (set.rest.clone(), owners.collect());
        let next = u32::try_from(self.sets.len()).unwrap_or(u32::MAX);
        let number = *self.sets.entry(key).or_insert(next);
        self.seen.insert(at, number);
        number
    }

    fn content(&mut self, names: &Names<'c>, side: Side, rule: &'c Rule) -> Content {
        let pairs = match &rule.pairs {
            PairSet::SameTenant => None,
            PairSet::Sets(src, dst) => Some((self.set(names, side, src), self.set(names, side, dst))),
        };
        let next = u32::try_from(self.services.len()).unwrap_or(u32::MAX);
        let service = *self.services.entry(&rule.service).or_insert(next);
        (pairs, service, action(names, side, rule.action))
    }
}

/// A rule's action, equal for equal actions of either side.
pub fn action(names: &Names<'_>, side: Side, action: Action) -> (u8, u32) {
    match action {
        Action::Deny => (0, 0),
        Action::Pass => (1, 0),
        Action::Allow { via: None } => (2, 0),
        Action::Allow { via: Some(gateway) } => (3, names.gateway(side, gateway)),
    }
}

impl Deltas {
    #[must_use]
    pub fn new(names: &Names<'_>) -> Self {
        let models = Side::BOTH.map(|side| &names.compiled(side).model);
        let [old, new] = models;
        // Their names mean nothing to a flow, their order and what follows after which does.
        let tiers = old.fabric.tiers.len() != new.fabric.tiers.len()
            || old.fabric.lowest_delegated() != new.fabric.lowest_delegated();
        let mut numbers = Numbers::default();
        let mut by_name: BTreeMap<&str, [Option<PolicyId>; 2]> = BTreeMap::new();
        for side in Side::BOTH {
            for (id, policy) in side.of(&models).policies.iter() {
                let [o, n] = by_name.entry(policy.name.as_str()).or_default();
                match side {
                    Side::Old => *o = Some(id),
                    Side::New => *n = Some(id),
                }
            }
        }
        let mut deltas = Self { tiers, ..Self::default() };
        for ids in by_name.into_values() {
            let Some(delta) = policy(names, &mut numbers, ids) else { continue };
            for owner in &delta.owners {
                deltas.by_owner.entry(*owner).or_default().push(deltas.policies.len());
            }
            deltas.policies.push(delta);
        }
        deltas
    }

    /// The changed policies in the view of a tenant.
    pub fn of_view(&self, tenant: Joint) -> impl Iterator<Item = &PolicyDelta> {
        let of = |owner| self.by_owner.get(&owner).into_iter().flatten();
        of(Some(tenant)).chain(of(None)).filter_map(|at| self.policies.get(*at))
    }
}

/// What changed in a policy; `None`: nothing.
fn policy<'c>(
    names: &Names<'c>,
    numbers: &mut Numbers<'c>,
    ids: [Option<PolicyId>; 2],
) -> Option<PolicyDelta> {
    let models = Side::BOTH.map(|side| &names.compiled(side).model);
    let of = |side: Side| side.of(&ids).map(|id| &side.of(&models).policies[id]);
    let owner = |side: Side, p: &Policy| p.owner.map(|owner| names.joint(side, owner));
    let mut owners: Vec<Option<Joint>> =
        Side::BOTH.into_iter().filter_map(|side| Some(owner(side, of(side)?))).collect();
    owners.dedup();
    let overrides = |side: Side, p: &Policy| -> Vec<String> {
        p.overrides.iter().map(|id| side.of(&models).policies[*id].name.clone()).collect()
    };
    let moved = match (of(Side::Old), of(Side::New)) {
        (Some(old), Some(new)) => {
            old.tier != new.tier || owners.len() > 1 || overrides(Side::Old, old) != overrides(Side::New, new)
        }
        _ => true,
    };
    let rules = Side::BOTH.map(|side| of(side).map_or(&[][..], |p| p.rules.as_slice()));
    if moved {
        let loose = rules.map(|rules| rules.iter().map(|rule| (0, *rule)).collect());
        return Some(PolicyDelta { owners, loose, moved });
    }
    let contents = Side::BOTH.map(|side| -> Vec<Content> {
        let model = *side.of(&models);
        side.of(&rules).iter().map(|id| numbers.content(names, side, &model.rules[*id])).collect()
    });
    let [old, new] = &contents;
    if old == new {
        return None;
    }
    let aligned = aligned(old, new);
    let loose = Side::BOTH.map(|side| {
        let mut aligned = aligned.iter().map(|(o, n)| *side.of(&[*o, *n])).peekable();
        let mut gap = 0;
        let mut out: Vec<Loose> = Vec::new();
        for (at, rule) in side.of(&rules).iter().enumerate() {
            if aligned.next_if_eq(&at).is_some() {
                gap += 1;
            } else {
                out.push((gap, *rule));
            }
        }
        out
    });
    Some(PolicyDelta { owners, loose, moved })
}

/// A common subsequence: what both begin and end with, and between them a longest one of the values that both have just once.
fn aligned(old: &[Content], new: &[Content]) -> Vec<(usize, usize)> {
    let shorter = old.len().min(new.len());
    let first = old.iter().zip(new).take_while(|(a, b)| a == b).count();
    let last = old.iter().rev().zip(new.iter().rev()).take_while(|(a, b)| a == b).count();
    let last = last.min(shorter - first);
    let mut out: Vec<(usize, usize)> = (0..first).map(|at| (at, at)).collect();
    let (old_end, new_end) = (old.len() - last, new.len() - last);

    // By content: how often on each side, and where last.
    let mut places: BTreeMap<Content, [(usize, usize); 2]> = BTreeMap::new();
    for (at, content) in old.iter().enumerate().take(old_end).skip(first) {
        let [(count, place), _] = places.entry(*content).or_default();
        (*count, *place) = (*count + 1, at);
    }
    for (at, content) in new.iter().enumerate().take(new_end).skip(first) {
        let [_, (count, place)] = places.entry(*content).or_default();
        (*count, *place) = (*count + 1, at);
    }
    let mut unique: Vec<(usize, usize)> = places
        .into_values()
        .filter_map(|[(o_count, o), (n_count, n)]| (o_count == 1 && n_count == 1).then_some((o, n)))
        .collect();
    unique.sort_unstable();
    out.extend(ascending(&unique));
    out.extend((0..last).map(|at| (old_end + at, new_end + at)));
    out
}

/// A longest subsequence whose second values ascend.
fn ascending(pairs: &[(usize, usize)]) -> Vec<(usize, usize)> {
    // By length: the position of the pair that ends such a subsequence with the lowest value.
    let mut ends: Vec<usize> = Vec::new();
    let mut before: Vec<Option<usize>> = Vec::with_capacity(pairs.len());
    let second = |at: usize| pairs.get(at).map_or(0, |pair| pair.1);
    for (at, pair) in pairs.iter().enumerate() {
        let length = ends.partition_point(|end| second(*end) < pair.1);
        before.push(length.checked_sub(1).and_then(|shorter| ends.get(shorter).copied()));
        match ends.get_mut(length) {
            Some(end) => *end = at,
            None => ends.push(at),
        }
    }
    let mut out = Vec::with_capacity(ends.len());
    let mut at = ends.last().copied();
    while let Some(here) = at {
        out.extend(pairs.get(here).copied());
        at = before.get(here).copied().flatten();
    }
    out.reverse();
    out
}

#[cfg(test)]
mod tests {
    use super::{Content, aligned};

    fn contents(text: &str) -> Vec<Content> {
        text.bytes().map(|b| (None, u32::from(b), (0, 0))).collect()
    }

    #[test]
    fn what_is_aligned_is_equal_and_in_order() {
        let cases = [
            ("abcdef", "abXdef", 5),
            ("abcdef", "abdef", 5),
            ("abcdef", "fabcde", 5),
            ("abcdef", "fedcba", 1),
            ("aaaa", "aaa", 3),
            ("", "abc", 0),
            ("abcXdefYg", "abcdZefYYg", 8),
        ];
        for (old, new, length) in cases {
            let (a, b) = (contents(old), contents(new));
            let pairs = aligned(&a, &b);
            assert!(pairs.windows(2).all(|w| w[0].0 < w[1].0 && w[0].1 < w[1].1), "{old} {new} {pairs:?}");
            assert!(pairs.iter().all(|(o, n)| a[*o] == b[*n]), "{old} {new} {pairs:?}");
            assert_eq!(pairs.len(), length, "{old} {new} {pairs:?}");
        }
    }
}
