//! The laws of address sets, prefix covers and longest-prefix painting, against plain enumeration of a window of 256
//! addresses at either end of a family.

use partywall_compiler::algebra::{AddrSet, Family, Prefix, RangeSet, paint};
use proptest::prelude::*;
use std::collections::BTreeSet;

const WINDOW: u128 = 256;

/// Where the window begins: the ends are where arithmetic overflows.
fn bases() -> impl Strategy<Value = (Family, u128)> {
    prop_oneof![
        Just((Family::V4, 0)),
        Just((Family::V4, Family::V4.max() - (WINDOW - 1))),
        Just((Family::V6, 0)),
        Just((Family::V6, Family::V6.max() - (WINDOW - 1))),
    ]
}

fn offsets() -> impl Strategy<Value = Vec<(u128, u128)>> {
    prop::collection::vec((0..WINDOW, 0..WINDOW), 0..8)
}

fn set(family: Family, base: u128, offsets: &[(u128, u128)]) -> AddrSet {
    // Reversed pairs are empty ranges.
    let ranges = offsets.iter().map(|(lo, hi)| (base + lo, base + hi)).collect();
    AddrSet::empty().with(family, RangeSet::from_ranges(ranges))
}

fn members(offsets: &[(u128, u128)]) -> BTreeSet<u128> {
    offsets.iter().flat_map(|(lo, hi)| *lo..=*hi).collect()
}

fn listed(set: &AddrSet, family: Family, base: u128) -> BTreeSet<u128> {
    (0..WINDOW).filter(|offset| set.contains(family, base + offset)).collect()
}

/// Ascending, disjoint, never adjacent: one value for one set.
fn canonical(set: &RangeSet) -> bool {
    set.ranges().iter().all(|(lo, hi)| lo <= hi)
        && set.ranges().iter().zip(set.ranges().iter().skip(1)).all(|(a, b)| a.1 < u128::MAX && a.1 + 1 < b.0)
}

/// Prefixes of at most 256 addresses within the window.
fn prefixes() -> impl Strategy<Value = Vec<(u128, u8)>> {
    prop::collection::vec((0..WINDOW, 0u8..=8), 0..24)
}

proptest! {
    #[test]
    fn operations_are_those_of_sets((family, base) in bases(), a in offsets(), b in offsets()) {
        let (x, y) = (set(family, base, &a), set(family, base, &b));
        let (m, n) = (members(&a), members(&b));
        let of = |set: &AddrSet| listed(set, family, base);
        prop_assert_eq!(of(&x), m.clone());
        prop_assert_eq!(of(&x.union(&y)), &m | &n);
        prop_assert_eq!(of(&x.intersect(&y)), &m & &n);
        prop_assert_eq!(of(&x.subtract(&y)), &m - &n);
        prop_assert_eq!(x.overlaps(&y), !m.is_disjoint(&n));
        prop_assert_eq!(x.is_subset(&y), m.is_subset(&n));
        prop_assert_eq!(x.is_empty(), m.is_empty());
        prop_assert_eq!(x.family(family).first(), m.first().map(|offset| base + offset));
        for result in [x.union(&y), x.intersect(&y), x.subtract(&y)] {
            prop_assert!(canonical(result.family(family)), "{result:?}");
        }
    }

    #[test]
    fn equal_sets_are_equal_values((family, base) in bases(), a in offsets(), b in offsets()) {
        let (x, y) = (set(family, base, &a), set(family, base, &b));
        prop_assert_eq!(x == y, members(&a) == members(&b));
        prop_assert_eq!(x.subtract(&y).union(&x.intersect(&y)), x.clone());
        let all = AddrSet::full();
        prop_assert_eq!(all.subtract(&x.union(&y)), all.subtract(&x).intersect(&all.subtract(&y)));
    }

    #[test]
    fn one_family_leaves_the_other_alone(a in offsets(), b in offsets()) {
        let x = set(Family::V4, 0, &a).union(&set(Family::V6, 0, &b));
        prop_assert_eq!(listed(&x, Family::V4, 0), members(&a));
        prop_assert_eq!(listed(&x, Family::V6, 0), members(&b));
    }

    #[test]
    fn a_prefix_cover_is_exact_ascending_and_the_smallest((family, base) in bases(), a in offsets()) {
        let x = set(family, base, &a);
        let cover = x.prefixes();
        prop_assert_eq!(AddrSet::from_prefixes(&cover), x.clone());
        prop_assert!(cover.windows(2).all(|pair| pair[0].hi() < pair[1].lo()));
        // No prefix can be made wider: each is one of the largest that the set holds, and those are unique.
        for prefix in &cover {
            if let Some(shorter) = prefix.len().checked_sub(1) {
                let wider = Prefix::new(family, prefix.lo(), shorter);
                prop_assert!(!AddrSet::prefix(wider).is_subset(&x), "{prefix} of {x:?}");
            }
        }
    }

    #[test]
    fn painting_gives_every_address_its_prefixes_longest_first((family, base) in bases(), list in prefixes()) {
        let entries: Vec<(Prefix, usize)> = list
            .iter()
            .enumerate()
            .map(|(at, (offset, bits))| (Prefix::new(family, base + offset, family.bits() - bits), at))
            .collect();
        let painted = paint(entries.clone());
        prop_assert!(painted.iter().all(|p| p.lo <= p.hi && !p.covering.is_empty()));
        prop_assert!(painted.windows(2).all(|pair| pair[0].hi < pair[1].lo));
        for offset in 0..WINDOW {
            let address = base + offset;
            let mut wanted: Vec<&(Prefix, usize)> =
                entries.iter().filter(|(prefix, _)| prefix.contains_addr(address)).collect();
            wanted.sort_by_key(|(prefix, at)| (std::cmp::Reverse(prefix.len()), *at));
            let wanted: Vec<usize> = wanted.into_iter().map(|(_, at)| *at).collect();
            let piece = painted.iter().find(|p| p.lo <= address && address <= p.hi);
            prop_assert_eq!(piece.map(|p| p.covering.clone()).unwrap_or_default(), wanted, "at {}", offset);
        }
    }

    #[test]
    fn prefixes_nest_or_are_disjoint(a in (0..WINDOW, 0u8..=8), b in (0..WINDOW, 0u8..=8)) {
        let prefix = |(offset, bits): (u128, u8)| Prefix::new(Family::V4, offset, 32 - bits);
        let (x, y) = (prefix(a), prefix(b));
        let shared = AddrSet::prefix(x).intersect(&AddrSet::prefix(y));
        prop_assert_eq!(x.overlaps(y), !shared.is_empty());
        prop_assert_eq!(x.contains(y), AddrSet::prefix(y).is_subset(&AddrSet::prefix(x)));
        prop_assert!(shared.is_empty() || shared == AddrSet::prefix(x) || shared == AddrSet::prefix(y));
    }
}

#[test]
fn everything_is_one_prefix_and_every_address_its_own() {
    assert_eq!(AddrSet::full().prefixes(), [Prefix::new(Family::V4, 0, 0), Prefix::new(Family::V6, 0, 0)]);
    assert_eq!(Prefix::new(Family::V6, 7, 0).hi(), u128::MAX);
    assert_eq!(Prefix::host(Family::V4, 7).lo(), Prefix::host(Family::V4, 7).hi());
    let painted =
        paint(vec![(Prefix::new(Family::V6, 0, 0), 'd'), (Prefix::host(Family::V6, u128::MAX), 'h')]);
    let shape: Vec<(u128, u128, String)> =
        painted.into_iter().map(|p| (p.lo, p.hi, p.covering.into_iter().collect())).collect();
    assert_eq!(shape, [(0, u128::MAX - 1, "d".into()), (u128::MAX, u128::MAX, "hd".into())]);
}
