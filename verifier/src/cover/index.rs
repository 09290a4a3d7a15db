//! The overlap index: which boxes of an ordered list have something in common with a box.

use crate::cover::cuboid::{Axis, Cuboid};
use crate::cover::sides::holds;
use std::ops::Range;

/// A box and what it belongs to. Several boxes may belong to one entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Item {
    pub cuboid: Cuboid,
    /// Position in the list whose order counts.
    pub entry: u32,
}

/// Which items of an index are meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kinds {
    All,
    Only(u32),
    But(u32),
}

impl Kinds {
    fn has(self, kind: u32) -> bool {
        match self {
            Self::All => true,
            Self::Only(one) => kind == one,
            Self::But(one) => kind != one,
        }
    }
}

/// A bounding box hierarchy, flat: a node's first child follows it, `skip` is the next node outside it.
#[derive(Debug, Clone, Copy)]
struct Node {
    bounds: Cuboid,
    /// The lowest and the highest entry below this node.
    first: u32,
    last: u32,
    skip: u32,
    /// A leaf's items; empty for other nodes.
    items: (u32, u32),
}

#[derive(Debug, Clone, Default)]
pub struct Index {
    nodes: Vec<Node>,
    items: Vec<Item>,
    /// By kind of item, ascending: its nodes.
    kinds: Vec<(u32, Range<usize>)>,
}

/// Items in a leaf, at most.
const LEAF: usize = 8;

impl Index {
    /// Of items that are all of one kind.
    #[must_use]
    pub fn new(items: Vec<Item>) -> Self {
        Self::by_kind(items, |_| 0)
    }

    /// Boxes that are wide on the same axes are kept together: one wide box among narrow ones would make every bound wide. So are
    /// the items of one kind.
    #[must_use]
    pub fn by_kind(mut items: Vec<Item>, kind: impl Fn(&Item) -> u32) -> Self {
        let mut nodes = Vec::with_capacity(items.len() / 2 + 1);
        let mut kinds: Vec<(u32, Range<usize>)> = Vec::new();
        if let Some(bounds) = hull(&items) {
            let class = |item: &Item| (kind(item), wide(&item.cuboid, &bounds));
            items.sort_by_cached_key(|item| (class(item), item.entry));
            let mut rest = items.as_mut_slice();
            let mut from = 0;
            while let Some(first) = rest.first().map(&class) {
                let count = rest.partition_point(|item| class(item) <= first);
                let (group, others) = rest.split_at_mut(count);
                let start = nodes.len();
                build(group, from, &mut nodes);
                match kinds.last_mut() {
                    Some((kind, of)) if *kind == first.0 => of.end = nodes.len(),
                    _ => kinds.push((first.0, start..nodes.len())),
                }
                from += count;
                rest = others;
            }
        }
        Self { nodes, items, kinds }
    }

    /// Hands the items of the leaves that can be entered to `visit`, until it returns `false`.
    fn walk(&self, nodes: Range<usize>, enter: impl Fn(&Node) -> bool, mut visit: impl FnMut(&Item) -> bool) {
        let mut at = nodes.start;
        while let Some(node) = self.nodes.get(at).filter(|_| at < nodes.end) {
            if !enter(node) {
                at = node.skip as usize;
                continue;
            }
            let leaf = self.items.get(node.items.0 as usize..node.items.1 as usize).unwrap_or(&[]);
            if !leaf.iter().all(&mut visit) {
                return;
            }
            at += 1;
        }
    }

    fn all(&self) -> Range<usize> {
        0..self.nodes.len()
    }

    fn of(&self, kinds: Kinds) -> impl Iterator<Item = Range<usize>> {
        self.kinds.iter().filter(move |(kind, _)| kinds.has(*kind)).map(|(_, nodes)| nodes.clone())
    }

    /// Hands every item that overlaps `within` and belongs to an entry before `before` to `visit`, until it returns `false`.
    pub fn overlapping(&self, within: &Cuboid, before: u32, mut visit: impl FnMut(&Item) -> bool) {
        let enter = |node: &Node| node.first < before && node.bounds.overlaps(within);
        self.walk(self.all(), enter, |item| {
            !(item.entry < before && item.cuboid.overlaps(within)) || visit(item)
        });
    }

    /// As [`Index::overlapping`], for the items of some kinds that belong to entries after `after`; whether it came to an end.
    pub fn later(
        &self,
        within: &Cuboid,
        after: u32,
        kinds: Kinds,
        mut visit: impl FnMut(&Item) -> bool,
    ) -> bool {
        let mut goes_on = true;
        let enter = |node: &Node| node.last > after && node.bounds.overlaps(within);
        for nodes in self.of(kinds) {
            self.walk(nodes, enter, |item| {
                goes_on = !(item.entry > after && item.cuboid.overlaps(within)) || visit(item);
                goes_on
            });
            if !goes_on {
                break;
            }
        }
        goes_on
    }

    /// An item of some kinds after `after` that holds all of `within` and is kept.
    #[must_use]
    pub fn holding_later(
        &self,
        within: &Cuboid,
        after: u32,
        kinds: Kinds,
        keep: impl Fn(&Item) -> bool,
    ) -> Option<Item> {
        let mut found = None;
        let enter = |node: &Node| node.last > after && node.bounds.contains(within);
        for nodes in self.of(kinds) {
            self.walk(nodes, enter, |item| {
                if item.entry > after && item.cuboid.contains(within) && keep(item) {
                    found = Some(*item);
                }
                found.is_none()
            });
            if found.is_some() {
                break;
            }
        }
        found
    }

    /// As [`Index::overlapping`], for the items that hold all of `within` on both axes of addresses.
    pub fn around(&self, within: &Cuboid, before: u32, mut visit: impl FnMut(&Item)) {
        let around = |c: &Cuboid| holds(c.src, within.src) && holds(c.dst, within.dst) && c.overlaps(within);
        let enter = |node: &Node| node.first < before && around(&node.bounds);
        self.walk(self.all(), enter, |item| {
            if item.entry < before && around(&item.cuboid) {
                visit(item);
            }
            true
        });
    }

    /// An item before `before` that holds all of `within`.
    #[must_use]
    pub fn holding(&self, within: &Cuboid, before: u32) -> Option<Item> {
        let mut found = None;
        let enter = |node: &Node| node.first < before && node.bounds.contains(within);
        self.walk(self.all(), enter, |item| {
            if item.entry < before && item.cuboid.contains(within) {
                found = Some(*item);
            }
            found.is_none()
        });
        found
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
    let last = items.iter().map(|item| item.entry).max().unwrap_or(0);
    let at = nodes.len();
    let leaf = items.len() <= LEAF;
    let own = if leaf { (from as u32, (from + items.len()) as u32) } else { (0, 0) };
    nodes.push(Node { bounds, first, last, skip: 0, items: own });
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
