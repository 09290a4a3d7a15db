//! What is needed of a cover because nothing else of it holds some flow.

use crate::checks::shadow::Blocker;
use crate::cover::axes::Axes;
use crate::cover::cuboid::Cuboid;
use crate::cover::index::{Index, Item};
use crate::cover::subtract::{Cover, Takers, Work, covered_by};
use std::collections::{BTreeMap, BTreeSet};

/// Adds those of `among` that hold some flow of a region which no other of them and none of the takers holds. `taken`: by blocker, its
/// boxes. Some may be missing when the work is used up.
pub fn unique(
    (region, axes): (&[Cuboid], &Axes),
    taken: &BTreeMap<Blocker, Vec<Item>>,
    among: &[Blocker],
    takers: &Takers<'_>,
    work: &mut Work,
    out: &mut BTreeSet<Blocker>,
) {
    let named = || (0_u32..).zip(among).filter_map(|(at, by)| Some((at, by, taken.get(by)?)));
    let items = named().flat_map(|(at, _, items)| items.iter().map(move |item| Item { entry: at, ..*item }));
    let index = Index::new(items.collect());
    let alone = |at: u32, part: Cuboid, work: &mut Work| {
        let mut against = takers.overlapping(&part);
        index.overlapping(&part, u32::MAX, |item| {
            if item.entry != at {
                against.push(*item);
            }
            true
        });
        matches!(covered_by(part, &against, axes, work), Cover::Left(_))
    };
    for (at, by, items) in named() {
        if out.contains(by) {
            continue;
        }
        let mut parts =
            region.iter().flat_map(|within| items.iter().filter_map(|item| within.intersect(&item.cuboid)));
        if parts.any(|part| alone(at, part, work)) {
            out.insert(*by);
        }
    }
}
