//! Longest-prefix match, flattened: nested prefixes painted onto a line.

use super::Prefix;

/// One stretch of addresses and everything that covers it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Painted<T> {
    pub lo: u128,
    pub hi: u128,
    /// Covering entries, the longest prefix first; never empty.
    pub covering: Vec<T>,
}

/// Flattens prefixes of *one* family into ascending disjoint ranges, each with all entries that cover it, longest
/// prefix first (entries with equal prefixes keep the order in which they were given). Linear in the output.
#[must_use]
pub fn paint<T: Clone>(mut entries: Vec<(Prefix, T)>) -> Vec<Painted<T>> {
    // A wider prefix sorts before the narrower ones that start at the same address. Prefixes are laminar: two of them
    // are nested or disjoint, so a stack of the open ones is enough.
    entries.sort_by_key(|(prefix, _)| (prefix.lo(), prefix.len()));
    let mut out = Vec::new();
    let mut open: Vec<(Prefix, Vec<T>)> = Vec::new();
    // First address not yet painted, below the innermost open prefix's end; `None` once past the last address.
    let mut next: Option<u128> = Some(0);
    for (prefix, value) in entries {
        close_until(Some(prefix.lo()), &mut open, &mut next, &mut out);
        if let Some((top, values)) = open.last_mut()
            && *top == prefix
        {
            values.push(value);
            continue;
        }
        if !open.is_empty()
            && let Some(from) = next
            && from < prefix.lo()
        {
            emit(from, prefix.lo() - 1, &open, &mut out);
        }
        next = Some(prefix.lo());
        open.push((prefix, vec![value]));
    }
    close_until(None, &mut open, &mut next, &mut out);
    out
}

/// Closes every open prefix that ends before `limit` (all of them without one).
fn close_until<T: Clone>(
    limit: Option<u128>,
    open: &mut Vec<(Prefix, Vec<T>)>,
    next: &mut Option<u128>,
    out: &mut Vec<Painted<T>>,
) {
    while let Some((top, _)) = open.last() {
        let end = top.hi();
        if limit.is_some_and(|limit| end >= limit) {
            return;
        }
        if let Some(from) = *next
            && from <= end
        {
            emit(from, end, open, out);
            *next = end.checked_add(1);
        }
        open.pop();
    }
}

fn emit<T: Clone>(lo: u128, hi: u128, open: &[(Prefix, Vec<T>)], out: &mut Vec<Painted<T>>) {
    let covering = open.iter().rev().flat_map(|(_, values)| values.iter().cloned()).collect();
    out.push(Painted { lo, hi, covering });
}
