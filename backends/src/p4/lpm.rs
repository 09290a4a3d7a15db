//! The fewest longest-prefix entries for a map of address ranges (Draves et al., "Constructing Optimal IP Routing Tables",
//! INFOCOM 1999).

use compiler::algebra::{Family, Prefix};
use std::collections::BTreeSet;

/// A range `lo..=hi` and the number of what it means, from 1; what no range holds means 0.
pub type Piece = (u128, u128, usize);

struct Node {
    prefix: Prefix,
    /// What the node may say with the fewest entries below it.
    choices: BTreeSet<usize>,
    below: Option<Box<(Node, Node)>>,
}

/// Prefixes with what they mean; a lookup that finds none means 0. `pieces` are disjoint and ascending.
#[must_use]
pub fn minimal(family: Family, pieces: &[Piece]) -> Vec<(Prefix, usize)> {
    let mut out = Vec::new();
    let root = build(Prefix::new(family, 0, 0), pieces);
    choose(&root, 0, &mut out);
    out
}

fn build(prefix: Prefix, pieces: &[Piece]) -> Node {
    let from = pieces.partition_point(|(_, hi, _)| *hi < prefix.lo());
    let to = pieces.partition_point(|(lo, _, _)| *lo <= prefix.hi());
    let inside = pieces.get(from..to).unwrap_or_default();
    let whole = match inside {
        [] => Some(0),
        [(lo, hi, meaning)] if *lo <= prefix.lo() && prefix.hi() <= *hi => Some(*meaning),
        _ => None,
    };
    if let Some(meaning) = whole {
        return Node { prefix, choices: BTreeSet::from([meaning]), below: None };
    }
    let middle = prefix.lo() + (prefix.hi() - prefix.lo()) / 2 + 1;
    let left = build(Prefix::new(prefix.family, prefix.lo(), prefix.len() + 1), inside);
    let right = build(Prefix::new(prefix.family, middle, prefix.len() + 1), inside);
    let both: BTreeSet<usize> = left.choices.intersection(&right.choices).copied().collect();
    let choices = if both.is_empty() { left.choices.union(&right.choices).copied().collect() } else { both };
    Node { prefix, choices, below: Some(Box::new((left, right))) }
}

fn choose(node: &Node, inherited: usize, out: &mut Vec<(Prefix, usize)>) {
    let said = if node.choices.contains(&inherited) {
        inherited
    } else {
        let first = node.choices.first().copied().unwrap_or_default();
        out.push((node.prefix, first));
        first
    };
    if let Some(below) = &node.below {
        choose(&below.0, said, out);
        choose(&below.1, said, out);
    }
}

#[cfg(test)]
mod tests {
    use super::minimal;
    use compiler::algebra::Family;

    fn lookup(table: &[(compiler::algebra::Prefix, usize)], address: u128) -> usize {
        let fitting = table.iter().filter(|(p, _)| p.contains_addr(address));
        fitting.max_by_key(|(p, _)| p.len()).map_or(0, |(_, meaning)| *meaning)
    }

    #[test]
    fn says_the_same_with_fewer_entries() {
        let pieces = [(0, 9, 1), (10, 10, 2), (11, 255, 1), (300, 400, 3), (401, 511, 1)];
        let table = minimal(Family::V4, &pieces);
        for address in 0..600u128 {
            let want =
                pieces.iter().find(|(lo, hi, _)| *lo <= address && address <= *hi).map_or(0, |(_, _, m)| *m);
            assert_eq!(lookup(&table, address), want, "{address}");
        }
        let prefixes = minimal(Family::V4, &[(0, 9, 1), (10, 10, 2), (11, 255, 1)]);
        assert_eq!(prefixes.len(), 2, "{prefixes:?}");
    }

    #[test]
    fn all_addresses_are_one_entry() {
        assert_eq!(minimal(Family::V6, &[(0, u128::MAX, 7)]).len(), 1);
        assert!(minimal(Family::V6, &[]).is_empty());
    }
}
