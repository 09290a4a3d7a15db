//! Protocols and ports as atoms: what no rule and no exposure tells apart.

use compiler::packet::{self, Fields};
use compiler::sets::ServiceBox;
use std::collections::{BTreeMap, BTreeSet};

/// What is said of services, by disjoint boxes.
pub type List<T> = Vec<(ServiceBox, T)>;

/// A partition of all services: each of some boxes is a union of atoms.
#[derive(Debug, Default)]
pub struct Atoms {
    grids: Vec<Grid>,
    /// By atom: protocol and both fields of one of its packets.
    pub examples: Vec<(u8, u16, u16)>,
    /// By atom: the boxes that it lies in, a bit each.
    pub inside: Vec<Vec<u64>>,
    /// The boxes, ascending.
    boxes: Vec<ServiceBox>,
}

/// The cells that one interval of protocols is cut into.
#[derive(Debug)]
struct Grid {
    proto: (u8, u8),
    x: Vec<(u16, u16)>,
    y: Vec<(u16, u16)>,
    /// By y, then x.
    atoms: Vec<usize>,
}

impl Atoms {
    pub fn new(boxes: BTreeSet<ServiceBox>) -> Self {
        let boxes: Vec<ServiceBox> = boxes.into_iter().collect();
        let mut grids: Vec<Grid> = protocols(&boxes).into_iter().map(|p| Grid::new(p, &boxes)).collect();
        // One box after the other refines what those before it do not tell apart; protocols stay apart.
        let mut next = 1 + usize::from(u8::MAX);
        for b in &boxes {
            let mut known: BTreeMap<usize, usize> = BTreeMap::new();
            for grid in &mut grids {
                grid.within(b, |atom| {
                    *atom = *known.entry(*atom).or_insert_with(|| {
                        next += 1;
                        next - 1
                    });
                });
            }
        }
        let mut out = Self { grids, boxes, ..Self::default() };
        let mut numbers: BTreeMap<usize, usize> = BTreeMap::new();
        for grid in &mut out.grids {
            let cells = grid.y.iter().flat_map(|y| grid.x.iter().map(move |x| (x.0, y.0)));
            for (atom, (x, y)) in grid.atoms.iter_mut().zip(cells) {
                let fresh = numbers.len();
                *atom = *numbers.entry(*atom).or_insert_with(|| {
                    out.examples.push((grid.proto.0, x, y));
                    fresh
                });
            }
        }
        let words = out.boxes.len().div_ceil(64);
        for &(protocol, x, y) in &out.examples {
            let mut bits = vec![0u64; words];
            for (at, b) in out.boxes.iter().enumerate() {
                if b.contains(protocol, x, y) {
                    set(&mut bits, at);
                }
            }
            out.inside.push(bits);
        }
        out
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.examples.len()
    }

    /// These boxes as bits; those that are not among the partition's are left away.
    pub fn bits<'b>(&self, boxes: impl IntoIterator<Item = &'b ServiceBox>) -> Vec<u64> {
        let mut out = vec![0u64; self.boxes.len().div_ceil(64)];
        for b in boxes {
            if let Ok(at) = self.boxes.binary_search(b) {
                set(&mut out, at);
            }
        }
        out
    }

    /// The atoms of these boxes. INVARIANT: they hold each atom whole or not at all.
    pub fn of(&self, boxes: &[ServiceBox]) -> Vec<usize> {
        let inside = |(_, e): &(usize, &(u8, u16, u16))| boxes.iter().any(|b| b.contains(e.0, e.1, e.2));
        self.examples.iter().enumerate().filter(inside).map(|(atom, _)| atom).collect()
    }

    /// The boxes of those atoms of which something is said, equal neighbours joined.
    pub fn list<T: Copy + PartialEq>(&self, said: impl Fn(usize) -> Option<T>) -> List<T> {
        self.grids.iter().flat_map(|grid| grid.list(&said)).collect()
    }
}

fn set(bits: &mut [u64], at: usize) {
    if let Some(word) = bits.get_mut(at / 64) {
        *word |= 1 << (at % 64);
    }
}

impl Grid {
    fn new(protocols: (u8, u8), boxes: &[ServiceBox]) -> Self {
        let mine = || boxes.iter().filter(|b| b.proto.0 <= protocols.0 && protocols.0 <= b.proto.1);
        let (x_max, y_max) = packet::field_max(protocols.0);
        let x = intervals(mine().map(|b| b.x), x_max);
        let y = intervals(mine().map(|b| b.y), y_max);
        // Refinement numbers from 256.
        let atoms = vec![usize::from(protocols.0); x.len() * y.len()];
        Self { proto: protocols, x, y, atoms }
    }

    /// Every cell in a box.
    fn within(&mut self, b: &ServiceBox, mut change: impl FnMut(&mut usize)) {
        if self.proto.0 < b.proto.0 || b.proto.1 < self.proto.0 {
            return;
        }
        // What lies beyond the fields of this protocol has no cells.
        let span = |cuts: &[(u16, u16)], (lo, hi): (u16, u16)| {
            cuts.partition_point(|c| c.0 < lo)..cuts.partition_point(|c| c.0 <= hi)
        };
        let (xs, ys) = (span(&self.x, b.x), span(&self.y, b.y));
        for y in ys {
            let row = self.atoms.get_mut(y * self.x.len()..(y + 1) * self.x.len()).unwrap_or_default();
            row.get_mut(xs.clone()).unwrap_or_default().iter_mut().for_each(&mut change);
        }
    }

    fn list<T: Copy + PartialEq>(&self, said: &impl Fn(usize) -> Option<T>) -> List<T> {
        let mut done: List<T> = Vec::new();
        let mut open: List<T> = Vec::new();
        for (row, y) in self.atoms.chunks(self.x.len().max(1)).zip(&self.y) {
            let mut runs: List<T> = Vec::new();
            for (atom, x) in row.iter().zip(&self.x) {
                let Some(says) = said(*atom) else { continue };
                match runs.last_mut() {
                    Some((b, same)) if *same == says && u32::from(b.x.1) + 1 == u32::from(x.0) => b.x.1 = x.1,
                    _ => runs.push((ServiceBox { proto: self.proto, x: *x, y: *y }, says)),
                }
            }
            let mut next = Vec::new();
            for (run, says) in runs {
                match open.iter().position(|(b, same)| *same == says && b.x == run.x) {
                    Some(at) => {
                        let (mut b, says) = open.swap_remove(at);
                        b.y.1 = run.y.1;
                        next.push((b, says));
                    }
                    None => next.push((run, says)),
                }
            }
            done.append(&mut open);
            open = next;
        }
        done.append(&mut open);
        done.sort_by_key(|(b, _)| *b);
        done
    }
}

/// Protocol intervals on which all boxes agree; a protocol with fields stands alone.
fn protocols(boxes: &[ServiceBox]) -> Vec<(u8, u8)> {
    let mut starts = BTreeSet::from([0u8]);
    let alone = (0..=u8::MAX).filter(|p| packet::fields(*p) != Fields::None).map(|p| (p, p));
    for (lo, hi) in boxes.iter().map(|b| b.proto).chain(alone) {
        starts.insert(lo);
        starts.extend(hi.checked_add(1));
    }
    pairs(&starts.into_iter().collect::<Vec<u8>>(), u8::MAX, |start| start - 1)
}

fn intervals(boxes: impl Iterator<Item = (u16, u16)>, max: u16) -> Vec<(u16, u16)> {
    let mut starts = BTreeSet::from([0u16]);
    for (lo, hi) in boxes {
        starts.extend([Some(lo), hi.checked_add(1)].into_iter().flatten().filter(|start| *start <= max));
    }
    pairs(&starts.into_iter().collect::<Vec<u16>>(), max, |start| start - 1)
}

/// Each start with the end before the next one.
fn pairs<T: Copy>(starts: &[T], last: T, before: impl Fn(T) -> T) -> Vec<(T, T)> {
    let ends = starts.iter().skip(1).map(|next| before(*next)).chain([last]);
    starts.iter().copied().zip(ends).collect()
}
