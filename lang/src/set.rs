//! Building sets whose trees stay shallow.

use crate::ast::{Set, SetKind};
use crate::span::Span;

/// The union of `sets` in their order, as a balanced tree: a list of many thousand addresses is no deep tree.
/// The parser builds its unions with this. `None` for an empty list.
#[must_use]
pub fn union_of(mut sets: Vec<Set>) -> Option<Set> {
    if sets.len() <= 1 {
        return sets.pop();
    }
    let right = sets.split_off(sets.len().div_ceil(2));
    let (left, right) = (union_of(sets)?, union_of(right)?);
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
