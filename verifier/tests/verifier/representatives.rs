//! A few addresses and services of every class that some projects tell apart, whatever the classes are for.

use compiler::Compiled;
use compiler::algebra::{AddrSet, Family, RangeSet};
use compiler::ids::OwnerId;
use compiler::packet::{field_max, protocol_in_family};
use compiler::sets::{EndSet, PairSet, ServiceSet};
use std::collections::{BTreeMap, BTreeSet};

/// Addresses of one owner: up to two of every class. `also`: more sets that are to be told apart.
pub fn addresses(sides: &[(&Compiled, Option<OwnerId>)], family: Family, also: &[&RangeSet]) -> Vec<u128> {
    let mut sets: BTreeSet<RangeSet> = also.iter().map(|set| (*set).clone()).collect();
    let mut universe = RangeSet::empty();
    for (c, owner) in sides {
        let Some(owner) = *owner else { continue };
        let mut add = |set: &AddrSet| {
            sets.insert(set.family(family).clone());
        };
        add(&c.model.owners[owner].universe);
        for channel in c.channels.values() {
            if channel.src == owner {
                add(&channel.src_set);
            }
            if channel.dst == owner {
                add(&channel.dst_set);
            }
        }
        for rule in c.model.rules.values() {
            if let PairSet::Sets(src, dst) = &rule.pairs {
                add(src.of(owner));
                add(dst.of(owner));
            }
        }
        for exposure in c.model.exposures.values() {
            exposure.presented.iter().for_each(|m| add(&AddrSet::prefix(m.real)));
            exposure.shown.iter().for_each(|(_, m)| add(&AddrSet::prefix(m.real)));
        }
        universe = universe.union(c.model.owners[owner].universe.family(family));
    }
    let mut points: BTreeSet<u128> = BTreeSet::new();
    for (lo, hi) in sets.iter().flat_map(|s| s.ranges()) {
        points.extend([*lo, *hi, lo.saturating_sub(1), hi.saturating_add(1).min(family.max())]);
    }
    points.retain(|p| universe.contains(*p));
    let mut known: BTreeMap<Vec<bool>, usize> = BTreeMap::new();
    let mut out = Vec::new();
    for point in points {
        let signature: Vec<bool> = sets.iter().map(|s| s.contains(point)).collect();
        let count = known.entry(signature).or_default();
        *count += 1;
        if *count <= 2 {
            out.push(point);
        }
    }
    out
}

/// Services: one of every class.
pub fn services(sides: &[&Compiled], also: &[&ServiceSet]) -> Vec<(u8, u16, u16)> {
    let mut sets: BTreeSet<&ServiceSet> = also.iter().copied().collect();
    for c in sides {
        sets.extend(c.model.rules.values().map(|r| &*r.service));
        sets.extend(c.channels.values().map(|ch| &*ch.service));
    }
    let (mut xs, mut ys) = (BTreeSet::from([0_u16]), BTreeSet::from([0_u16]));
    for b in sets.iter().flat_map(|s| &s.boxes) {
        let edges = |(lo, hi): (u16, u16)| [lo, hi, lo.saturating_sub(1), hi.saturating_add(1)];
        xs.extend(edges(b.x));
        ys.extend(edges(b.y));
    }
    let mut known = BTreeSet::new();
    let mut out = Vec::new();
    for protocol in 0..=u8::MAX {
        let (x_max, y_max) = field_max(protocol);
        for x in xs.iter().filter(|x| **x <= x_max) {
            for y in ys.iter().filter(|y| **y <= y_max) {
                let mut signature: Vec<bool> = sets.iter().map(|s| s.contains(protocol, *x, *y)).collect();
                signature.extend(Family::BOTH.map(|f| protocol_in_family(protocol, f)));
                if known.insert(signature) {
                    out.push((protocol, *x, *y));
                }
            }
        }
    }
    out
}

/// The addresses of an owner in a set.
pub fn of(set: &EndSet, owner: OwnerId, family: Family) -> &RangeSet {
    set.of(owner).family(family)
}
