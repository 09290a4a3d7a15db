//! Boxes for people: products of address sets and services, as few as a greedy merge gives.

use crate::flows::Extent;
use crate::query::Services;
use compiler::algebra::{Family, Prefix, RangeSet, format_addr};
use compiler::sets::ServiceBox;
use std::collections::BTreeMap;

/// Every flow from these addresses to those with these services: a product, so disjointness is that of its boxes.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Row {
    pub src: RangeSet,
    pub dst: RangeSet,
    pub services: Services,
}

/// The flows of disjoint boxes as disjoint rows, ascending. Greedy: there may be fewer still.
///
/// SOUNDNESS: two rows become one only where they differ in one factor of the product, whose union is taken; so no flow comes or
/// goes, and rows that have none in common keep to that.
#[must_use]
pub fn rows(family: Family, extents: &[Extent]) -> Vec<Row> {
    let mut known: BTreeMap<ServiceBox, Services> = BTreeMap::new();
    let mut rows: Vec<Row> = extents
        .iter()
        .map(|e| {
            let service = e.service();
            let services = known.entry(service).or_insert_with(|| Services::new(family, &[service]));
            Row {
                src: RangeSet::range(e.src.0, e.src.1),
                dst: RangeSet::range(e.dst.0, e.dst.1),
                services: services.clone(),
            }
        })
        .filter(|row| !row.services.parts.is_empty())
        .collect();
    loop {
        let before = rows.len();
        rows = merge(
            rows,
            |r| (r.src, r.dst),
            |r| r.services,
            |(src, dst), all: Vec<Services>| {
                let services = match all.as_slice() {
                    [one] => one.clone(),
                    several => {
                        let boxes: Vec<ServiceBox> = several.iter().flat_map(Services::boxes).collect();
                        Services::new(family, &boxes)
                    }
                };
                Row { src, dst, services }
            },
        );
        rows = merge(
            rows,
            |r| (r.src, r.services),
            |r| r.dst,
            |(src, services), all| Row { src, dst: union(&all), services },
        );
        rows = merge(
            rows,
            |r| (r.dst, r.services),
            |r| r.src,
            |(dst, services), all| Row { src: union(&all), dst, services },
        );
        if rows.len() == before {
            break;
        }
    }
    rows.sort_unstable();
    rows
}

fn union(sets: &[RangeSet]) -> RangeSet {
    RangeSet::from_ranges(sets.iter().flat_map(|set| set.ranges().iter().copied()).collect())
}

/// Rows that agree in `key` become one.
fn merge<K: Ord, P>(
    rows: Vec<Row>,
    key: impl Fn(Row) -> K,
    part: impl Fn(Row) -> P,
    join: impl Fn(K, Vec<P>) -> Row,
) -> Vec<Row> {
    let mut by: BTreeMap<K, Vec<P>> = BTreeMap::new();
    for row in rows {
        by.entry(key(row.clone())).or_default().push(part(row));
    }
    by.into_iter().map(|(key, parts)| join(key, parts)).collect()
}

/// Each range as a prefix, an address, or `10.1.0.10..10.1.0.20`, ascending.
#[must_use]
pub fn addresses(family: Family, set: &RangeSet) -> Vec<String> {
    set.ranges().iter().map(|(lo, hi)| range_text(family, *lo, *hi)).collect()
}

fn range_text(family: Family, lo: u128, hi: u128) -> String {
    let prefix =
        (0..=family.bits()).map(|len| Prefix::new(family, lo, len)).find(|p| p.lo() == lo && p.hi() == hi);
    match prefix {
        _ if lo == hi => format_addr(family, lo).to_string(),
        Some(prefix) => prefix.to_string(),
        None => format!("{}..{}", format_addr(family, lo), format_addr(family, hi)),
    }
}

#[cfg(test)]
mod tests {
    use super::{addresses, rows};
    use crate::flows::Extent;
    use compiler::algebra::{Family, RangeSet};

    #[test]
    fn ranges_are_written_as_the_language_does() {
        let set = RangeSet::from_ranges(vec![(5, 5), (0x0a01_0000, 0x0a01_00ff), (0x0a02_0001, 0x0a02_0004)]);
        assert_eq!(addresses(Family::V4, &set), ["0.0.0.5", "10.1.0.0/24", "10.2.0.1..10.2.0.4"]);
        assert_eq!(addresses(Family::V6, &RangeSet::range(0, u128::MAX)), ["::/0"]);
    }

    #[test]
    fn boxes_become_few_rows() {
        let all = Extent::all(Family::V4);
        let tcp = |src, dst, y| Extent { src, dst, protocol: (6, 6), y, ..all };
        // A cross of three boxes, cut in five.
        let boxes = [
            tcp((1, 2), (1, 9), (80, 80)),
            tcp((3, 4), (1, 9), (80, 80)),
            tcp((7, 8), (1, 9), (80, 80)),
            tcp((1, 4), (1, 9), (443, 443)),
            tcp((7, 8), (1, 9), (443, 443)),
        ];
        let rows = rows(Family::V4, &boxes);
        assert_eq!(rows.len(), 1, "{rows:#?}");
        assert_eq!(rows[0].src.ranges(), [(1, 4), (7, 8)]);
        assert_eq!(rows[0].services.text(Family::V4), "tcp/{80, 443}");
    }
}
