//! Lists of boxes as sets of flows.

use crate::cover::Work;
use crate::cover::extent::Extent;
use crate::flows::TooWide;
use std::rc::Rc;

/// What is in the boxes of `from` and in none of `taken`: disjoint boxes if those of `from` are.
///
/// # Errors
/// The work is used up.
pub fn subtract(from: &[Extent], taken: &[Extent], work: &mut Work) -> Result<Vec<Extent>, TooWide> {
    let all: Rc<[Extent]> = taken.into();
    let mut todo: Vec<(Extent, Rc<[Extent]>)> = from.iter().map(|e| (*e, all.clone())).collect();
    let mut out = Vec::new();
    let mut parts = Vec::new();
    while let Some((part, near)) = todo.pop() {
        if !work.spend(near.len() + 1) {
            return Err(TooWide);
        }
        let meeting: Vec<Extent> = near.iter().filter(|other| other.overlaps(&part)).copied().collect();
        // The largest cut first: less is left to cut.
        let common = |other: &Extent| other.intersect(&part).map_or(0.0, |common| common.volume());
        let largest = meeting.iter().max_by(|a, b| common(a).total_cmp(&common(b)));
        let Some(largest) = largest else {
            out.push(part);
            continue;
        };
        if largest.contains(&part) {
            continue;
        }
        parts.clear();
        part.minus(largest, &mut parts);
        let meeting: Rc<[Extent]> = meeting.into();
        todo.extend(parts.iter().map(|p| (*p, meeting.clone())));
    }
    Ok(out)
}

/// The same flows in disjoint boxes.
///
/// # Errors
/// The work is used up.
pub fn disjoint(boxes: &[Extent], work: &mut Work) -> Result<Vec<Extent>, TooWide> {
    let mut out: Vec<Extent> = Vec::with_capacity(boxes.len());
    for next in boxes {
        let new = subtract(&[*next], &out, work)?;
        out.extend(new);
    }
    Ok(out)
}
