//! Large certificates in pieces that Z3 confirms quickly.
//!
//! SOUNDNESS. A certificate is confirmed if each of its pieces is: every flow lies in some piece, since a piece is cut in two at one value
//! of one field, and the first one is all flows. In a piece fewer takers are named than in the whole; what they take is judged
//! for each by itself, so naming fewer only leaves more to deny. Which are left out is therefore no matter of soundness: those
//! whose addresses and services lie outside the piece.

use crate::checks::Task;
use crate::checks::shadow::Blocker;
use crate::cover::certify::{Certificate, hull};
use crate::cover::extent::Extent;
use crate::encode::Frame;
use compiler::model::Rule;

/// Takers up to which a certificate stays whole.
const WHOLE: usize = 24;
/// Takers in a piece that is not cut any further.
const FEW: usize = 12;

/// The flows of a certificate in a box, and those of its takers that have to do with them.
#[derive(Debug, Clone)]
pub struct Piece<'a> {
    pub of: &'a Certificate,
    /// `None`: all flows, and all takers.
    pub within: Option<Extent>,
    pub by: Vec<Blocker>,
}

/// A certificate in as many pieces as it takes.
pub fn pieces<'a>(task: Task<'_>, of: &'a Certificate) -> Vec<Piece<'a>> {
    let whole = || vec![Piece { of, within: None, by: of.by.clone() }];
    let frame = Frame::of_channel(&task.c.channels[of.channel], of.family);
    let Some(frame) = frame.filter(|_| of.by.len() > WHOLE) else { return whole() };
    let all = Extent::all(of.family);
    let takers = of.by.iter().map(|by| match by {
        // A rule that matches nothing here takes nothing.
        Blocker::Rule(id) => Some((*by, around(&task.c.model.rules[*id], &frame)?)),
        Blocker::Exposure(_) => Some((*by, all)),
    });
    let mut out = Vec::new();
    let mut todo = vec![(all, takers.flatten().collect::<Vec<_>>())];
    while let Some((within, takers)) = todo.pop() {
        match cut(&within, &takers) {
            Some((low, high)) => {
                for part in [high, low] {
                    let near = takers.iter().filter(|(_, taker)| taker.overlaps(&part));
                    todo.push((part, near.copied().collect()));
                }
            }
            None => {
                let by = takers.into_iter().map(|(by, _)| by).collect();
                out.push(Piece { of, within: Some(within), by });
            }
        }
    }
    out
}

/// The box around what a rule matches in a frame.
fn around(rule: &Rule, frame: &Frame) -> Option<Extent> {
    let [src, dst] = hull(rule, frame)?;
    let boxes = rule.service.boxes.iter();
    boxes.map(|b| Extent { src, dst, protocol: b.proto, x: b.x, y: b.y }).reduce(|a, b| a.hull(&b))
}

/// A box in two, so that each has clearly fewer takers; `None` if that is not to be had, or not needed.
fn cut(within: &Extent, takers: &[(Blocker, Extent)]) -> Option<(Extent, Extent)> {
    if takers.len() <= FEW {
        return None;
    }
    let mut best: Option<(usize, (Extent, Extent))> = None;
    // At the middle one of the values at which a taker begins or ends.
    macro_rules! try_fields {
        ($($field:ident),*) => { $(
            let (lo, hi) = within.$field;
            let ends = takers.iter().flat_map(|(_, taker)| [Some(taker.$field.0), taker.$field.1.checked_add(1)]);
            let mut at: Vec<_> = ends.flatten().filter(|at| lo < *at && *at <= hi).collect();
            let middle = at.len() / 2;
            if middle < at.len() {
                let at = *at.select_nth_unstable(middle).1;
                let low = Extent { $field: (lo, at - 1), ..*within };
                let high = Extent { $field: (at, hi), ..*within };
                let near = |part: &Extent| takers.iter().filter(|(_, taker)| taker.overlaps(part)).count();
                let (below, above) = (near(&low), near(&high));
                // What lies across counts twice: cuts that cut most takers lead nowhere.
                let worth = below + above <= takers.len() + takers.len() / 4;
                let most = below.max(above);
                if worth && most < takers.len() - takers.len() / 8 && best.as_ref().is_none_or(|(b, _)| most < *b) {
                    best = Some((most, (low, high)));
                }
            }
        )* };
    }
    try_fields!(src, dst, protocol, x, y);
    best.map(|(_, parts)| parts)
}
