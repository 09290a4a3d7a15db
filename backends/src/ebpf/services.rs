//! A pair's services as lookups: a port of its own by hash, ranges by longest prefix, everything of a protocol by one entry.

use super::encode::Images;
use super::schema::{BY_SOURCE, Bytes, Map, SPLIT, ServiceKind};
use crate::linux::model::{Atom, Ruleset, Table};
use compiler::packet::{Fields, fields};
use std::collections::{BTreeMap, BTreeSet};

/// Source ports and verdicts, ascending and disjoint.
type BySource = Vec<(u16, u16, u32)>;

/// The lists of source ports that a node knows, by content.
#[derive(Default)]
struct Lists(BTreeMap<BySource, u32>);

pub(super) fn encode(rules: &Ruleset, images: &mut Images) {
    let mut ported: BTreeMap<(u32, u8), Vec<[u32; 5]>> = BTreeMap::new();
    for (key, entry) in rules.tables.get(&Table::Verdict).into_iter().flatten() {
        if let (
            [Atom::Mark(pair), Atom::Proto(lo, hi), Atom::Port(x, x_end), Atom::Port(y, y_end)],
            Some(Atom::Class(v)),
        ) = (key.as_slice(), &entry.value)
        {
            for protocol in *lo..=*hi {
                let row = [u32::from(*x), u32::from(*x_end), u32::from(*y), u32::from(*y_end), *v];
                ported.entry((*pair, protocol)).or_default().push(row);
            }
        }
    }
    let mut lists = Lists::default();
    for ((pair, protocol), rows) in ported {
        ports(images, &mut lists, pair, protocol, &rows);
    }
    let mut plain: BTreeMap<u32, BTreeMap<u8, u32>> = BTreeMap::new();
    for (key, entry) in rules.tables.get(&Table::Protocol).into_iter().flatten() {
        if let ([Atom::Mark(pair), Atom::Proto(lo, hi)], Some(Atom::Class(v))) =
            (key.as_slice(), &entry.value)
        {
            plain.entry(*pair).or_default().extend((*lo..=*hi).map(|protocol| (protocol, *v)));
        }
    }
    let rest: BTreeMap<u32, u32> = rules
        .tables
        .get(&Table::Rest)
        .into_iter()
        .flatten()
        .filter_map(|(key, entry)| match (key.as_slice(), &entry.value) {
            ([Atom::Mark(pair)], Some(Atom::Class(v))) => Some((*pair, *v)),
            _ => None,
        })
        .collect();
    for (&pair, &verdict) in &rest {
        put(images, pair, 0, ServiceKind::Rest, 0, verdict);
    }
    for (pair, verdicts) in plain {
        portless(images, pair, &verdicts, rest.get(&pair).copied());
    }
}

fn put(images: &mut Images, pair: u32, protocol: u8, kind: ServiceKind, dport: u16, value: u32) {
    let key = Bytes::new().u32(pair).u8(protocol).u8(kind as u8).u16(dport);
    images.put(Map::Services, key, Bytes::new().u32(value));
}

/// Protocols without ports: what most of them get by one entry, the others by theirs.
fn portless(images: &mut Images, pair: u32, verdicts: &BTreeMap<u8, u32>, rest: Option<u32>) {
    let mut count: BTreeMap<Option<u32>, usize> = BTreeMap::new();
    let of = |protocol: u8| verdicts.get(&protocol).copied().or(rest);
    let all: Vec<u8> = (0..=u8::MAX).filter(|p| fields(*p) == Fields::None).collect();
    for &protocol in &all {
        *count.entry(of(protocol)).or_default() += 1;
    }
    // SOUNDNESS: one that has no verdict at all must not meet that of the others.
    let most = count
        .iter()
        .filter(|(verdict, _)| verdict.is_some() && !count.contains_key(&None))
        .max_by_key(|(_, n)| **n)
        .and_then(|(v, _)| *v);
    if let Some(verdict) = most.filter(|v| Some(*v) != rest) {
        put(images, pair, 0, ServiceKind::Other, 0, verdict);
    }
    for protocol in all {
        if let Some(verdict) = of(protocol)
            && Some(verdict) != most
        {
            put(images, pair, protocol, ServiceKind::Exact, 0, verdict);
        }
    }
}

/// One pair and protocol with ports: rows of source ports, destination ports and a verdict, disjoint.
fn ports(images: &mut Images, lists: &mut Lists, pair: u32, protocol: u8, rows: &[[u32; 5]]) {
    let mut starts: BTreeSet<u32> = BTreeSet::new();
    for [_, _, y, y_end, _] in rows {
        starts.insert(*y);
        starts.insert(y_end + 1);
    }
    let starts: Vec<u32> = starts.into_iter().collect();
    let mut intervals: Vec<(u32, u32, u32)> = Vec::new();
    for (lo, hi) in starts.iter().zip(starts.iter().skip(1).map(|next| next - 1)) {
        let mut list: Vec<(u32, u32, u32)> = rows
            .iter()
            .filter(|[_, _, y, y_end, _]| y <= lo && hi <= *y_end)
            .map(|[x, e, _, _, v]| (*x, *e, *v))
            .collect();
        list.sort_unstable();
        let mut merged: Vec<(u32, u32, u32)> = Vec::new();
        for (x, e, v) in list {
            match merged.last_mut() {
                Some(last) if last.2 == v && last.1 + 1 == x => last.1 = e,
                _ => merged.push((x, e, v)),
            }
        }
        let value = match merged.as_slice() {
            [] => continue,
            [(0, 65_535, v)] => *v,
            _ => lists.number(images, &merged),
        };
        match intervals.last_mut() {
            Some(last) if last.2 == value && last.1 + 1 == *lo => last.1 = hi,
            _ => intervals.push((*lo, hi, value)),
        }
    }
    if let [(0, 65_535, value)] = intervals.as_slice() {
        put(images, pair, protocol, ServiceKind::Any, 0, *value);
        return;
    }
    let mut split = false;
    for (lo, hi, value) in intervals {
        if lo == hi {
            put(images, pair, protocol, ServiceKind::Exact, narrow(lo), value);
            continue;
        }
        split = true;
        for (at, length) in prefixes(lo, hi) {
            let key = Bytes::new().u32(48 + length).u32(pair).u8(protocol).u8(0).be16(narrow(at));
            images.put(Map::ServiceRanges, key, Bytes::new().u32(value));
        }
    }
    if split {
        put(images, pair, protocol, ServiceKind::Any, 0, SPLIT);
    }
}

impl Lists {
    fn number(&mut self, images: &mut Images, merged: &[(u32, u32, u32)]) -> u32 {
        let list: BySource = merged.iter().map(|(x, e, v)| (narrow(*x), narrow(*e), *v)).collect();
        let next = crate::linux::numbers::small(self.0.len() + 1);
        if let Some(known) = self.0.get(&list) {
            return BY_SOURCE | known;
        }
        for &(lo, hi, verdict) in &list {
            for (at, length) in prefixes(u32::from(lo), u32::from(hi)) {
                let key = Bytes::new().u32(48 + length).u32(next).u16(0).be16(narrow(at));
                images.put(Map::SourceRanges, key, Bytes::new().u32(verdict));
            }
        }
        self.0.insert(list, next);
        BY_SOURCE | next
    }
}

fn narrow(port: u32) -> u16 {
    u16::try_from(port).unwrap_or(u16::MAX)
}

/// A range of ports as prefixes: (first port, bits).
fn prefixes(lo: u32, hi: u32) -> Vec<(u32, u32)> {
    let mut out = Vec::new();
    let mut at = lo;
    while at <= hi {
        let aligned = if at == 0 { 16 } else { at.trailing_zeros().min(16) };
        let fits = (hi - at + 1).ilog2();
        let bits = aligned.min(fits);
        out.push((at, 16 - bits));
        at += 1 << bits;
    }
    out
}

#[cfg(test)]
mod tests {
    use super::prefixes;

    #[test]
    fn ranges_become_prefixes_that_cover_them_once() {
        assert_eq!(prefixes(0, 65_535), [(0, 0)]);
        assert_eq!(prefixes(80, 80), [(80, 16)]);
        for (lo, hi) in [(1, 65_535), (0, 1), (1024, 40_000), (3, 4), (65_534, 65_535)] {
            let mut next = lo;
            for (at, length) in prefixes(lo, hi) {
                assert_eq!(at, next);
                next = at + (1 << (16 - length));
            }
            assert_eq!(next, hi + 1);
        }
    }
}
