//! The primitive: what is left of a region when boxes are taken away.
//!
//! SOUNDNESS: a box is replaced by disjoint boxes that are it without one of the boxes taken away ([`Cuboid::minus`]), until it
//! lies within one of them (nothing is left of it) or meets none (all of it is left). So "covered" is said only when every part
//! of the region lies in some box taken away, and "left" only of a box, or of a cell, that meets none of them. When the work is
//! used up, neither is said.

use crate::cover::axes::Axes;
use crate::cover::cuboid::{Axis, Cuboid};
use crate::cover::index::{Index, Item};
use std::rc::Rc;

/// Box tests that one question may still cost. Deterministic: it counts steps, not time.
#[derive(Debug, Clone, Copy)]
pub struct Work(pub u64);

impl Work {
    /// Takes steps; `false` if there are not as many left.
    pub fn spend(&mut self, steps: usize) -> bool {
        match self.0.checked_sub(steps as u64) {
            Some(left) => {
                self.0 = left;
                true
            }
            None => false,
        }
    }
}

/// Whether boxes cover a region.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Cover {
    /// This part, which holds a flow, meets none of them.
    Left(Cuboid),
    /// These suffice, in no particular order; there may be fewer that do.
    Covered(Vec<Item>),
    /// The work is used up.
    Exhausted,
}

/// The boxes that are taken away: those of each index that belong to an entry before the given one.
#[derive(Debug, Clone, Default)]
pub struct Takers<'t> {
    pub parts: Vec<(&'t Index, u32)>,
}

impl Takers<'_> {
    /// Whether some box overlaps this one.
    #[must_use]
    pub fn any(&self, within: &Cuboid) -> bool {
        self.parts.iter().any(|(index, before)| index.any(within, *before))
    }

    /// A box that holds all of this one.
    fn holding(&self, within: &Cuboid) -> Option<Item> {
        self.parts.iter().find_map(|(index, before)| index.holding(within, *before))
    }

    /// The boxes that overlap this one, ordered by entry.
    #[must_use]
    pub fn overlapping(&self, within: &Cuboid) -> Vec<Item> {
        let mut out = Vec::new();
        for (index, before) in &self.parts {
            index.overlapping(within, *before, |item| {
                out.push(*item);
                true
            });
        }
        out.sort_unstable_by_key(|item| (item.entry, item.cuboid));
        out.dedup();
        out
    }
}

/// Four cells of a box, far from each other.
#[must_use]
pub fn corners(cuboid: &Cuboid) -> [Cuboid; 4] {
    let (low, high) = (cuboid.low(), cuboid.high());
    let cross = low.with(Axis::Dst, high.dst).with(Axis::Y, high.y);
    let back = high.with(Axis::Dst, low.dst).with(Axis::Y, low.y);
    [low, high, cross, back]
}

/// Whether some flow of the region, boxes of well-formed flows, is in none of the takers' boxes. A few corners are tried first:
/// nearly every rule that decides anything decides one of them.
#[must_use]
pub fn cover(region: &[Cuboid], takers: &Takers<'_>, axes: &Axes, work: &mut Work) -> Cover {
    for cell in region.iter().flat_map(corners) {
        if axes.holds_flow(&cell) && !takers.any(&cell) {
            return Cover::Left(cell);
        }
    }
    let mut used = Vec::new();
    for cuboid in region {
        if let Some(item) = takers.holding(cuboid) {
            used.push(item);
            continue;
        }
        let against = takers.overlapping(cuboid);
        match covered_by(*cuboid, &against, axes, work) {
            Cover::Covered(by) => used.extend(by),
            other => return other,
        }
    }
    used.sort_unstable_by_key(|item| (item.entry, item.cuboid));
    used.dedup();
    Cover::Covered(used)
}

/// As [`cover`], for one box and a list of boxes at hand.
#[must_use]
pub fn covered_by(cuboid: Cuboid, against: &[Item], axes: &Axes, work: &mut Work) -> Cover {
    let mut left = None;
    let mut used = Vec::new();
    let finished = walk(cuboid, against, work, &mut used, &mut |part, whole| {
        // A part that nothing meets, or a cell of one that something does.
        let flow = axes.holds_flow(&part);
        if flow {
            left = Some(part);
        }
        if flow {
            Step::Stop
        } else if whole {
            Step::Done
        } else {
            Step::Split
        }
    });
    match (left, finished) {
        (Some(part), _) => Cover::Left(part),
        (None, true) => Cover::Covered(used),
        (None, false) => Cover::Exhausted,
    }
}

/// All that is left of a box, as disjoint boxes; `None` if the work is used up. Boxes without a flow may be among them.
#[must_use]
pub fn leftovers(cuboid: Cuboid, against: &[Item], work: &mut Work) -> Option<Vec<Cuboid>> {
    let mut left = Vec::new();
    let finished = walk(cuboid, against, work, &mut Vec::new(), &mut |part, whole| {
        if !whole {
            return Step::Split;
        }
        left.push(part);
        Step::Done
    });
    finished.then_some(left)
}

enum Step {
    /// Nothing more is asked.
    Stop,
    /// This part is dealt with.
    Done,
    /// Look closer.
    Split,
}

/// Takes `against` from a box. `found` is told of each part that is left (`true`), and of a cell that is left of a part which
/// has still to be cut (`false`). `false`: the work is used up.
fn walk(
    cuboid: Cuboid,
    against: &[Item],
    work: &mut Work,
    used: &mut Vec<Item>,
    found: &mut dyn FnMut(Cuboid, bool) -> Step,
) -> bool {
    let all: Rc<[Item]> = against.into();
    let mut todo: Vec<(Cuboid, Rc<[Item]>)> = vec![(cuboid, all)];
    let mut parts = Vec::new();
    while let Some((part, near)) = todo.pop() {
        if !work.spend(near.len() + 1) {
            return false;
        }
        let low = part.low();
        let mut low_taken = false;
        let mut best: Option<(f64, Item)> = None;
        let mut whole: Option<Item> = None;
        let mut meeting: Vec<Item> = Vec::new();
        for item in near.iter() {
            let Some(common) = item.cuboid.intersect(&part) else { continue };
            if common == part {
                whole = Some(*item);
                break;
            }
            low_taken |= common.contains(&low);
            let volume = common.volume();
            if best.is_none_or(|(most, _)| volume > most) {
                best = Some((volume, *item));
            }
            meeting.push(*item);
        }
        if let Some(item) = whole {
            used.push(item);
            continue;
        }
        let Some((_, item)) = best else {
            match found(part, true) {
                Step::Stop => return true,
                Step::Done | Step::Split => continue,
            }
        };
        if !low_taken && matches!(found(low, false), Step::Stop) {
            return true;
        }
        used.push(item);
        parts.clear();
        part.minus(&item.cuboid, &mut parts);
        let meeting: Rc<[Item]> = meeting.into();
        todo.extend(parts.iter().map(|p| (*p, meeting.clone())));
    }
    true
}
