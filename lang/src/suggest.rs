//! "Did you mean".

/// The candidate that `name` was probably meant to be: the fewest edits (a swap of neighbours is one), at most a
/// third of the name's characters and three; of equals the first in byte order.
#[must_use]
pub fn suggest<'c>(name: &str, candidates: impl IntoIterator<Item = &'c str>) -> Option<&'c str> {
    // Longer names than any identifier are not worth comparing.
    if name.len() > 2 * crate::tokens::MAX_IDENTIFIER {
        return None;
    }
    let length = name.chars().count();
    let limit = length.div_ceil(3).min(3);
    candidates
        .into_iter()
        .filter(|candidate| *candidate != name && candidate.chars().count().abs_diff(length) <= limit)
        .map(|candidate| (strsim::damerau_levenshtein(name, candidate), candidate))
        .filter(|(edits, candidate)| *edits <= limit && *edits < candidate.chars().count())
        .min()
        .map(|(_, candidate)| candidate)
}
