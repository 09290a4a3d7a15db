//! First match in a long policy without asking every rule: which of its rules may match a flow at all.
//!
//! SOUNDNESS. A list only leaves rules out. Each rule of a policy is filed under one of its conditions (destinations, sources, services)
//! in every slot of keys that the condition meets, or else among the rules that are always asked; so a rule that is not among
//! [`Lists::candidates`] has a condition that the flow does not meet. Each candidate is still asked by [`crate::eval::matches`], the
//! rule's own sets, in the order of the policy. Tests hold [`crate::eval::first_match`] to the plain scan, [`crate::eval::scan`],
//! whatever the slots' width, and the verifier's enumerations of small projects use none of this.

use crate::ids::{Arena, OwnerId, PolicyId, RuleId};
use crate::model::{Model, Rule};
use crate::packet::Flow;
use crate::sets::{EndSet, PairSet};
use std::sync::OnceLock;

/// Rules of a policy up to which they are simply asked one after the other.
pub const SHORT: usize = 256;
/// Slots that a rule may fill before another condition, or none, is tried.
const WIDTH: usize = 32;

/// One per policy that is long, made when it is first needed: they follow from the model, so a copy begins without any.
#[derive(Debug, Default)]
pub struct Lists {
    lists: Vec<OnceLock<List>>,
}

impl Clone for Lists {
    fn clone(&self) -> Self {
        Self { lists: self.lists.iter().map(|_| OnceLock::new()).collect() }
    }
}

impl Lists {
    /// For the policies of a model that are longer than [`SHORT`], which do not change any more.
    #[must_use]
    pub fn new(model: &Model) -> Self {
        let long = model.policies.values().any(|policy| policy.rules.len() > SHORT);
        let count = if long { model.policies.len() } else { 0 };
        Self { lists: (0..count).map(|_| OnceLock::new()).collect() }
    }

    /// The list of a policy, if it is a long one.
    #[must_use]
    pub fn of(&self, model: &Model, policy: PolicyId) -> Option<&List> {
        let slot = self.lists.get(crate::ids::Id::index(policy))?;
        let rules = &model.policies[policy].rules;
        (rules.len() > SHORT).then(|| slot.get_or_init(|| List::new(&model.rules, rules, WIDTH)))
    }
}

/// A value of a condition: the owner and family of an address and itself, or a service.
type Key = (u32, u128);

/// The rules of one policy by what they ask of a flow.
#[derive(Debug)]
pub struct List {
    by_dst: Slots,
    by_src: Slots,
    by_service: Slots,
    /// Positions in the policy of the rules that are in no slot, ascending.
    wide: Vec<u32>,
}

/// The conditions of a rule.
#[derive(Debug, Clone, Copy)]
enum Condition {
    Dst,
    Src,
    Service,
}

impl Condition {
    const ALL: [Self; 3] = [Self::Dst, Self::Src, Self::Service];

    /// The ranges of keys that meet a rule's condition; none: it may be met by keys of any owner.
    fn ranges(self, rule: &Rule) -> Option<Vec<(Key, Key)>> {
        match (self, &rule.pairs) {
            (Self::Service, _) => {
                let boxes = rule.service.boxes.iter();
                Some(boxes.map(|b| (service(b.proto.0, b.y.0), service(b.proto.1, b.y.1))).collect())
            }
            (Self::Dst, PairSet::Sets(_, ends)) | (Self::Src, PairSet::Sets(ends, _)) => ranges(ends),
            (Self::Dst | Self::Src, PairSet::SameTenant) => None,
        }
    }

    fn key(self, flow: &Flow) -> Key {
        match self {
            Self::Dst => address(flow.dst.owner, flow.family, flow.dst.address),
            Self::Src => address(flow.src.owner, flow.family, flow.src.address),
            Self::Service => service(flow.protocol, flow.y),
        }
    }
}

fn address(owner: OwnerId, family: crate::algebra::Family, address: u128) -> Key {
    (owner.0 * 2 + u32::from(family == crate::algebra::Family::V6), address)
}

/// Ordered by protocol, then destination port or code.
fn service(protocol: u8, y: u16) -> Key {
    (0, u128::from(protocol) << 16 | u128::from(y))
}

fn ranges(ends: &EndSet) -> Option<Vec<(Key, Key)>> {
    if !ends.rest.is_empty() {
        return None;
    }
    let mut out = Vec::new();
    for (owner, set) in &ends.owners {
        for family in crate::algebra::Family::BOTH {
            let ranges = set.family(family).ranges().iter();
            out.extend(ranges.map(|(lo, hi)| (address(*owner, family, *lo), address(*owner, family, *hi))));
        }
    }
    Some(out)
}

/// Positions of rules by key.
#[derive(Debug, Default)]
struct Slots {
    /// Ascending; each starts a slot, which ends where the next one starts.
    starts: Vec<Key>,
    /// By slot: where its positions begin in `held`; one more than there are slots.
    from: Vec<u32>,
    /// Ascending within a slot.
    held: Vec<u32>,
}

impl Slots {
    /// `starts`: the first keys of the rules' ranges. Slots are so many that few rules meet more than a few.
    fn new(mut starts: Vec<Key>) -> Self {
        starts.push((0, 0));
        starts.sort_unstable();
        starts.dedup();
        Self { starts, from: Vec::new(), held: Vec::new() }
    }

    fn at(&self, key: Key) -> usize {
        self.starts.partition_point(|start| *start <= key).saturating_sub(1)
    }

    /// The slots that ranges meet, ascending; `None`: more than `width`.
    fn met(&self, ranges: &[(Key, Key)], width: usize) -> Option<Vec<usize>> {
        let mut out = Vec::new();
        for (lo, hi) in ranges {
            let (first, last) = (self.at(*lo), self.at(*hi));
            if last - first >= width {
                return None;
            }
            out.extend(first..=last);
        }
        out.sort_unstable();
        out.dedup();
        (out.len() <= width).then_some(out)
    }

    /// Files positions, which ascend, each in its slots.
    fn fill(&mut self, filed: &[(u32, Vec<usize>)]) {
        let mut counts = vec![0_u32; self.starts.len()];
        for slot in filed.iter().flat_map(|(_, slots)| slots) {
            if let Some(count) = counts.get_mut(*slot) {
                *count += 1;
            }
        }
        self.from = std::iter::once(0)
            .chain(counts.iter().scan(0, |sum, count| {
                *sum += count;
                Some(*sum)
            }))
            .collect();
        let mut next = self.from.clone();
        self.held = vec![0; self.from.last().map_or(0, |all| *all as usize)];
        for (position, slots) in filed {
            for slot in slots {
                let Some(at) = next.get_mut(*slot) else { continue };
                if let Some(place) = self.held.get_mut(*at as usize) {
                    *place = *position;
                }
                *at += 1;
            }
        }
    }

    fn held(&self, key: Key) -> &[u32] {
        let at = self.at(key);
        match (self.from.get(at), self.from.get(at + 1)) {
            (Some(from), Some(to)) => self.held.get(*from as usize..*to as usize).unwrap_or(&[]),
            _ => &[],
        }
    }
}

impl List {
    /// Of these rules, in this order; one that meets more than `width` slots under each condition is always asked. No answer
    /// depends on `width`.
    #[must_use]
    pub fn new(all: &Arena<RuleId, Rule>, rules: &[RuleId], width: usize) -> Self {
        let starts = |condition: Condition| {
            let ranges = rules.iter().filter_map(|id| condition.ranges(&all[*id]));
            Slots::new(ranges.flatten().map(|range| range.0).collect())
        };
        let mut slots = Condition::ALL.map(starts);
        // How many rules could be found in each slot.
        let mut loads = slots.each_ref().map(|of| vec![0_u32; of.starts.len()]);
        let met: Vec<[Option<Vec<usize>>; 3]> = rules
            .iter()
            .map(|id| {
                let mut of = slots.iter().zip(Condition::ALL);
                std::array::from_fn(|_| {
                    let (slots, condition) = of.next()?;
                    slots.met(&condition.ranges(&all[*id])?, width)
                })
            })
            .collect();
        for one in &met {
            for (load, met) in loads.iter_mut().zip(one) {
                for slot in met.iter().flatten() {
                    if let Some(load) = load.get_mut(*slot) {
                        *load += 1;
                    }
                }
            }
        }
        let mut filed: [Vec<(u32, Vec<usize>)>; 3] = Default::default();
        let mut wide = Vec::new();
        for (position, one) in (0_u32..).zip(met) {
            // Where the fewest others may be.
            let crowd = |met: &Option<Vec<usize>>, load: &[u32]| {
                let of = met.as_ref()?.iter().filter_map(|slot| load.get(*slot)).max();
                Some(of.copied().unwrap_or(0))
            };
            let crowds = one.iter().zip(&loads).map(|(met, load)| crowd(met, load));
            let best = crowds.enumerate().filter_map(|(at, crowd)| Some((crowd?, at))).min();
            let chosen = best.and_then(|(_, at)| one.into_iter().nth(at).flatten().zip(filed.get_mut(at)));
            match chosen {
                Some((slots, filed)) => filed.push((position, slots)),
                None => wide.push(position),
            }
        }
        for (slots, filed) in slots.iter_mut().zip(&filed) {
            slots.fill(filed);
        }
        let [by_dst, by_src, by_service] = slots;
        Self { by_dst, by_src, by_service, wide }
    }

    /// Positions of all the rules that may match a flow, in lists that ascend.
    #[must_use]
    pub fn candidates(&self, flow: &Flow) -> [&[u32]; 4] {
        [
            self.by_dst.held(Condition::Dst.key(flow)),
            self.by_src.held(Condition::Src.key(flow)),
            self.by_service.held(Condition::Service.key(flow)),
            &self.wide,
        ]
    }

    /// The first position from `from` on that is a candidate and satisfies `matches`.
    pub fn first(&self, flow: &Flow, from: u32, matches: impl Fn(u32) -> bool) -> Option<u32> {
        let mut best = None;
        for part in self.candidates(flow) {
            let later = part.get(part.partition_point(|at| *at < from)..).unwrap_or(&[]).iter().copied();
            let sooner = later.take_while(|at| best.is_none_or(|best| *at < best));
            best = sooner.into_iter().find(|at| matches(*at)).or(best);
        }
        best
    }
}
