//! Building sets whose trees stay shallow.

use crate::ast::{Set, SetKind};
use crate::span::Span;

/// The union of `sets` in their order, as a balanced tree: a list of many thousand addresses is no deep tree.
/// The parser builds its unions with this. `None` for an empty list.
#[must_use]
pub fn union_of(sets: Vec<Set>) -> Option<Set> {
    let count = sets.len();
    build(&mut sets.into_iter(), count)
}

/// The union of the next `count` sets; the recursion is as deep as the tree.
fn build(sets: &mut std::vec::IntoIter<Set>, count: usize) -> Option<Set> {
    if count <= 1 {
        return sets.next();
    }
    let half = count.div_ceil(2);
    let left = build(sets, half)?;
    let right = build(sets, count - half)?;
    let span = left.span.to(right.span);
    Some(Set { kind: SetKind::Union(Box::new(left), Box::new(right)), span })
}

impl Set {
    /// A part of a set that could not be read; its error has been reported.
    #[must_use]
    pub fn error(span: Span) -> Self {
        Self { kind: SetKind::Error, span }
    }
}
