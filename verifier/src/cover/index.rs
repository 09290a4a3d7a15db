//! The overlap index: which boxes of an ordered list have something in common with a box.

use crate::cover::cuboid::{Axis, Cuboid, holds};

/// A box and what it belongs to. Several boxes may belong to one entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Item {
    pub cuboid: Cuboid,
    /// Position in the list whose order counts.
    pub entry: u32,
}

/// A bounding box hierarchy, flat: a node's first child follows it, `skip` is the next node outside it.
#[derive(Debug, Clone, Copy)]
struct Node {
    bounds: Cuboid,
    /// The lowest entry below this node.
    first: u32,
    skip: u32,
    /// A leaf's items; empty for other nodes.
    items: (u32, u32),
}

#[derive(Debug, Clone, Default)]
pub struct Index {
    nodes: Vec<Node>,
    items: Vec<Item>,
}

/// Items in a leaf, at most.
const LEAF: usize = 8;

impl Index {
    /// Boxes that are wide on the same axes are kept together: one wide box among narrow ones would make every bound wide.
    #[must_use]
    pub fn new(mut items: Vec<Item>) -> Self {
        let mut nodes = Vec::with_capacity(items.len() / 2 + 1);
        if let Some(bounds) = hull(&items) {
            items.sort_by_cached_key(|item| (wide(&item.cuboid, &bounds), item.entry));
            let mut rest = items.as_mut_slice();
            let mut from = 0;
            while let Some(class) = rest.first().map(|item| wide(&item.cuboid, &bounds)) {
                let count = rest.partition_point(|item| wide(&item.cuboid, &bounds) <= class);
                let (group, others) = rest.split_at_mut(count);
                build(group, from, &mut nodes);
                from += count;
                rest = others;
            }
        }
        Self { nodes, items }
    }

    /// Hands every item that overlaps `within` and belongs to an entry before `before` to `visit`, until it returns `false`.
    pub fn overlapping(&self, within: &Cuboid, before: u32, mut visit: impl FnMut(&Item) -> bool) {
        let mut at = 0;
        while let Some(node) = self.nodes.get(at) {
            if node.first >= before || !node.bounds.overlaps(within) {
                at = node.skip as usize;
                continue;
            }
            let leaf = self.items.get(node.items.0 as usize..node.items.1 as usize).unwrap_or(&[]);
            for item in leaf {
                if item.entry < before && item.cuboid.overlaps(within) && !visit(item) {
                    return;
                }
            }
            at += 1;
        }
    }

    /// As [`Index::overlapping`], for the items that hold all of `within` on both axes of addresses.
    pub fn around(&self, within: &Cuboid, before: u32, mut visit: impl FnMut(&Item)) {
        let around = |c: &Cuboid| holds(c.src, within.src) && holds(c.dst, within.dst) && c.overlaps(within);
        let mut at = 0;
        while let Some(node) = self.nodes.get(at) {
            if node.first >= before || !around(&node.bounds) {
                at = node.skip as usize;
                continue;
            }
            let leaf = self.items.get(node.items.0 as usize..node.items.1 as usize).unwrap_or(&[]);
            leaf.iter().filter(|item| item.entry < before && around(&item.cuboid)).for_each(&mut visit);
            at += 1;
        }
    }

    /// An item before `before` that holds all of `within`.
    #[must_use]
    pub fn holding(&self, within: &Cuboid, before: u32) -> Option<Item> {
        let mut at = 0;
        while let Some(node) = self.nodes.get(at) {
            if node.first >= before || !node.bounds.contains(within) {
                at = node.skip as usize;
                continue;
            }
            let leaf = self.items.get(node.items.0 as usize..node.items.1 as usize).unwrap_or(&[]);
            let held = leaf.iter().find(|item| item.entry < before && item.cuboid.contains(within));
            if held.is_some() {
                return held.copied();
            }
            at += 1;
        }
        None
    }

    /// Whether some entry before `before` overlaps `within`.
    #[must_use]
    pub fn any(&self, within: &Cuboid, before: u32) -> bool {
        let mut found = false;
        self.overlapping(within, before, |_| {
            found = true;
            false
        });
        found
    }
}

fn hull(items: &[Item]) -> Option<Cuboid> {
    items.iter().map(|item| item.cuboid).reduce(|a, b| a.hull(&b))
}

/// The axes on which a box takes a quarter or more of what there is, as bits.
fn wide(cuboid: &Cuboid, bounds: &Cuboid) -> u32 {
    Axis::ALL.iter().fold(0, |bits, axis| {
        let (side, all) = (cuboid.side(*axis), bounds.side(*axis));
        bits << 1 | u32::from(side.1 - side.0 >= (all.1 - all.0).div_ceil(4))
    })
}

#[expect(clippy::cast_possible_truncation, reason = "a table holds far fewer than 2^32 boxes")]
fn build(items: &mut [Item], from: usize, nodes: &mut Vec<Node>) {
    let Some(bounds) = hull(items) else { return };
    let first = items.iter().map(|item| item.entry).min().unwrap_or(0);
    let at = nodes.len();
    let leaf = items.len() <= LEAF;
    let own = if leaf { (from as u32, (from + items.len()) as u32) } else { (0, 0) };
    nodes.push(Node { bounds, first, skip: 0, items: own });
    if !leaf {
        let axis = widest(items, &bounds);
        let middle = items.len() / 2;
        items.select_nth_unstable_by_key(middle, |item| (centre(&item.cuboid, axis), item.entry));
        let (low, high) = items.split_at_mut(middle);
        build(low, from, nodes);
        build(high, from + middle, nodes);
    }
    let skip = nodes.len() as u32;
    if let Some(node) = nodes.get_mut(at) {
        node.skip = skip;
    }
}

fn centre(cuboid: &Cuboid, axis: Axis) -> u64 {
    let (lo, hi) = cuboid.side(axis);
    u64::from(lo) + u64::from(hi)
}

/// The axis on which the boxes' centres are spread most, relative to what the boxes span.
fn widest(items: &[Item], bounds: &Cuboid) -> Axis {
    let spread = |axis: Axis| {
        let centres = || items.iter().map(|item| centre(&item.cuboid, axis));
        let (lo, hi) = (centres().min().unwrap_or(0), centres().max().unwrap_or(0));
        let side = bounds.side(axis);
        // At most 2^33 × 2^20: no overflow.
        ((hi - lo) << 20) / (u64::from(side.1 - side.0) + 1)
    };
    Axis::ALL.into_iter().max_by_key(|axis| spread(*axis)).unwrap_or(Axis::Src)
}
