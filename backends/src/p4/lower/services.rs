//! Protocols and ports as numbers: the fewest services that every pair of classes agrees on.

use compiler::packet::{self, Fields, proto};
use compiler::sets::ServiceBox;
use std::collections::BTreeMap;

/// What one pair says, by disjoint boxes.
pub type List<T> = Vec<(ServiceBox, T)>;

/// A partition of all services, and what each list says of each part.
#[derive(Debug, Default)]
pub struct Services<T> {
    /// Boxes, each with its priority (the larger wins) and its number; what is in none has number 0.
    pub entries: Vec<(ServiceBox, u32, u16)>,
    /// Per list, what it says of each number.
    pub says: Vec<Vec<Option<T>>>,
}

/// The cells that one interval of protocols is cut into.
struct Grid {
    proto: (u8, u8),
    x: Vec<(u16, u16)>,
    y: Vec<(u16, u16)>,
    /// By y, then x: the class.
    classes: Vec<usize>,
}

/// Cuts all services so that no list tells those of one number apart.
pub fn partition<T: Copy + Ord>(lists: &[List<T>]) -> Services<T> {
    let boxes: Vec<&ServiceBox> = lists.iter().flatten().map(|(b, _)| b).collect();
    let mut grids: Vec<Grid> = protocols(&boxes).into_iter().map(|p| Grid::new(p, &boxes)).collect();
    // One list after the other refines what those before it do not tell apart.
    let mut classes = 1;
    for list in lists {
        let mut known: BTreeMap<(usize, Option<T>), usize> = BTreeMap::new();
        for grid in &mut grids {
            let told = grid.told(list);
            for (class, told) in grid.classes.iter_mut().zip(told) {
                let next = known.len();
                *class = *known.entry((*class, told)).or_insert(next);
            }
        }
        classes = known.len();
    }
    let mut says = vec![vec![None; classes]; lists.len()];
    for (list, row) in lists.iter().zip(&mut says) {
        for grid in &grids {
            for (class, told) in grid.classes.iter().zip(grid.told(list)) {
                if let Some(place) = row.get_mut(*class) {
                    *place = told;
                }
            }
        }
    }
    number(&grids, &says, classes)
}

/// Numbers the classes, the one that saves most entries 0, and covers them with boxes.
fn number<T: Copy>(grids: &[Grid], says: &[Vec<Option<T>>], classes: usize) -> Services<T> {
    let covers: Vec<Vec<(ServiceBox, u32, usize)>> = grids.iter().map(Grid::cover).collect();
    let mut uses = vec![0usize; classes];
    for (_, _, class) in covers.iter().flatten() {
        if let Some(count) = uses.get_mut(*class) {
            *count += 1;
        }
    }
    let most =
        uses.iter().enumerate().max_by_key(|(at, n)| (**n, std::cmp::Reverse(*at))).map_or(0, |(at, _)| at);
    // The most common one is what is left over; a lower one of its own interval must not shine through it.
    let order: Vec<usize> = [most].into_iter().chain((0..classes).filter(|class| *class != most)).collect();
    let place = |class: usize| order.iter().position(|c| *c == class).unwrap_or_default();
    let mut entries = Vec::new();
    for cover in &covers {
        let bare = cover.iter().all(|(_, _, class)| *class == most);
        for (b, priority, class) in cover {
            if bare || (*class == most && *priority == 1) {
                continue;
            }
            entries.push((*b, *priority, u16::try_from(place(*class)).unwrap_or(u16::MAX)));
        }
    }
    let says = says
        .iter()
        .map(|row| order.iter().map(|class| row.get(*class).copied().flatten()).collect())
        .collect();
    Services { entries, says }
}

impl Grid {
    fn new(protocols: (u8, u8), boxes: &[&ServiceBox]) -> Self {
        let mine = || boxes.iter().filter(|b| b.proto.0 <= protocols.0 && protocols.0 <= b.proto.1);
        let (x_max, y_max) = packet::field_max(protocols.0);
        let x = intervals(mine().map(|b| b.x), x_max);
        let y = intervals(mine().map(|b| b.y), y_max);
        let classes = vec![0; x.len() * y.len()];
        Self { proto: protocols, x, y, classes }
    }

    /// What a list says of each cell.
    fn told<T: Copy>(&self, list: &List<T>) -> Vec<Option<T>> {
        let mut out = vec![None; self.classes.len()];
        let fitting = |b: &&(ServiceBox, T)| b.0.proto.0 <= self.proto.0 && self.proto.0 <= b.0.proto.1;
        for (b, told) in list.iter().filter(fitting) {
            let xs = self.x.partition_point(|x| x.0 < b.x.0)..self.x.partition_point(|x| x.1 <= b.x.1);
            for y in self.y.partition_point(|y| y.0 < b.y.0)..self.y.partition_point(|y| y.1 <= b.y.1) {
                for x in xs.clone() {
                    if let Some(cell) = out.get_mut(y * self.x.len() + x) {
                        *cell = Some(*told);
                    }
                }
            }
        }
        out
    }

    /// Boxes with priority and class: what takes most boxes is left to one of priority 1 over the whole interval.
    fn cover(&self) -> Vec<(ServiceBox, u32, usize)> {
        let mut done: Vec<(ServiceBox, usize)> = Vec::new();
        let mut open: Vec<(ServiceBox, usize)> = Vec::new();
        for (row, y) in self.classes.chunks(self.x.len().max(1)).zip(&self.y) {
            let mut runs: Vec<(ServiceBox, usize)> = Vec::new();
            for (class, x) in row.iter().zip(&self.x) {
                match runs.last_mut() {
                    Some((b, same)) if same == class => b.x.1 = x.1,
                    _ => runs.push((ServiceBox { proto: self.proto, x: *x, y: *y }, *class)),
                }
            }
            let mut next = Vec::new();
            for (run, class) in runs {
                match open.iter().position(|(b, c)| *c == class && b.x == run.x) {
                    Some(at) => {
                        let (mut b, class) = open.swap_remove(at);
                        b.y.1 = run.y.1;
                        next.push((b, class));
                    }
                    None => next.push((run, class)),
                }
            }
            done.append(&mut open);
            open = next;
        }
        done.append(&mut open);
        let mut count: BTreeMap<usize, usize> = BTreeMap::new();
        for (_, class) in &done {
            *count.entry(*class).or_default() += 1;
        }
        let rest = count.into_iter().max_by_key(|(class, n)| (*n, std::cmp::Reverse(*class))).map(|(c, _)| c);
        let whole = ServiceBox { proto: self.proto, x: (0, u16::MAX), y: (0, u16::MAX) };
        let mut out: Vec<(ServiceBox, u32, usize)> =
            done.into_iter().filter(|(_, c)| Some(*c) != rest).map(|(b, c)| (b, 2, c)).collect();
        out.extend(rest.map(|class| (whole, 1, class)));
        out.sort();
        out
    }
}

/// Protocol intervals on which all boxes agree; a protocol with fields stands alone.
fn protocols(boxes: &[&ServiceBox]) -> Vec<(u8, u8)> {
    let mut cuts: Vec<u8> = vec![0];
    let alone = (0..=u8::MAX).filter(|p| packet::fields(*p) != Fields::None).map(|p| (p, p));
    for (lo, hi) in boxes.iter().map(|b| b.proto).chain(alone) {
        cuts.push(lo);
        cuts.extend(hi.checked_add(1));
    }
    cuts.sort_unstable();
    cuts.dedup();
    let ends = cuts.iter().skip(1).map(|next| next - 1).chain([u8::MAX]);
    cuts.iter().copied().zip(ends).collect()
}

fn intervals(boxes: impl Iterator<Item = (u16, u16)>, max: u16) -> Vec<(u16, u16)> {
    let mut cuts: Vec<u16> = vec![0];
    for (lo, hi) in boxes {
        cuts.extend([Some(lo), hi.checked_add(1)].into_iter().flatten().filter(|c| *c <= max));
    }
    cuts.sort_unstable();
    cuts.dedup();
    let ends = cuts.iter().skip(1).map(|next| next - 1).chain([max]);
    cuts.iter().copied().zip(ends).collect()
}

/// The boxes of what answers these connections, as its packets show them. ICMP: only queries have answers.
#[must_use]
pub fn mirrored(b: &ServiceBox) -> Vec<ServiceBox> {
    match packet::fields(b.proto.0) {
        Fields::Ports => vec![ServiceBox { proto: b.proto, x: b.y, y: b.x }],
        Fields::None => vec![*b],
        Fields::Icmp => {
            // Query, answer, highest code of the answer (RFC 792, 950, 4443, 4620).
            let answers: &[(u16, u16, u16)] = if b.proto.0 == proto::ICMP {
                &[(8, 0, 0), (13, 14, 0), (15, 16, 0), (17, 18, 0)]
            } else {
                &[(128, 129, 0), (139, 140, 2)]
            };
            let mine =
                answers.iter().filter(|(query, _, _)| b.x.0 <= *query && *query <= b.x.1 && b.y.0 == 0);
            mine.map(|(_, answer, code)| ServiceBox { proto: b.proto, x: (*answer, *answer), y: (0, *code) })
                .collect()
        }
    }
}
