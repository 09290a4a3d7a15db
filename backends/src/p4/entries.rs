//! Table entries, as values: what the two files of entries hold.

use super::program::{MatchKind, Program, Table};
use std::collections::{BTreeMap, BTreeSet};

/// How one field of a key is matched.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Match {
    Exact(u128),
    /// Value without host bits, and how many bits count.
    Lpm(u128, u8),
    /// Both inclusive.
    Range(u128, u128),
}

/// One entry. INVARIANT: fields and parameters are in the order of the program's declarations.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Entry {
    pub table: String,
    pub key: Vec<Match>,
    /// The larger wins, from 1; 0 where no field is matched by range.
    pub priority: u32,
    pub action: String,
    pub params: Vec<u128>,
}

/// Table, key and priority.
pub type Place = (String, Vec<Match>, u32);
/// Action, parameters, and what the entry is for.
pub type Said = (String, Vec<u128>, String);

/// A node's entries, by table and key, each with what it is for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Entries {
    /// What the default action of table `generation` is set to once all entries are in.
    pub generation: u16,
    pub by_key: BTreeMap<Place, Said>,
    /// What was put twice with two meanings.
    pub contradictions: Vec<String>,
}

impl Entries {
    /// Adds an entry; its generation is put first.
    pub fn put(&mut self, table: &str, key: Vec<Match>, action: &str, params: Vec<u128>, note: &str) {
        self.put_prioritised(table, key, 0, action, params, note);
    }

    pub fn put_prioritised(
        &mut self,
        table: &str,
        mut key: Vec<Match>,
        priority: u32,
        action: &str,
        params: Vec<u128>,
        note: &str,
    ) {
        key.insert(0, Match::Exact(u128::from(self.generation)));
        let place = (table.to_owned(), key, priority);
        if let Some((known, values, _)) = self.by_key.get(&place) {
            if known != action || *values != params {
                self.contradictions
                    .push(format!("{table} {:?}: {known} {values:?}, {action} {params:?}", place.1));
            }
            return;
        }
        self.by_key.insert(place, (action.to_owned(), params, note.to_owned()));
    }

    /// How many there are in a table.
    #[must_use]
    pub fn count(&self, table: &str) -> u64 {
        self.by_key.keys().filter(|(name, _, _)| name == table).count() as u64
    }

    /// In the order of tables, keys and priorities, with their notes.
    pub fn iter(&self) -> impl Iterator<Item = (Entry, &str)> {
        self.by_key.iter().map(|((table, key, priority), (action, params, note))| {
            let (table, key, action) = (table.clone(), key.clone(), action.clone());
            (Entry { table, key, priority: *priority, action, params: params.clone() }, note.as_str())
        })
    }

    /// The same entries under another generation.
    pub fn renumber(&mut self, generation: u16) {
        self.generation = generation;
        let old = std::mem::take(&mut self.by_key);
        self.by_key = old
            .into_iter()
            .map(|((table, mut key, priority), value)| {
                if let Some(first) = key.first_mut() {
                    *first = Match::Exact(u128::from(generation));
                }
                ((table, key, priority), value)
            })
            .collect();
    }
}

/// What is wrong with an entry for this program.
///
/// # Errors
/// One sentence.
pub fn fits(program: &Program, entry: &Entry) -> Result<(), String> {
    let Some((_, table)) = program.table(&entry.table) else {
        return Err(format!("there is no table `{}`", entry.table));
    };
    if table.keys.len() != entry.key.len() {
        return Err(format!("table `{}` has {} fields", table.name, table.keys.len()));
    }
    for (field, found) in table.keys.iter().zip(&entry.key) {
        let max = max(field.width);
        let right = match (field.kind, *found) {
            (MatchKind::Exact, Match::Exact(value)) => value <= max,
            (MatchKind::Lpm, Match::Lpm(value, bits)) => {
                bits <= field.width && value <= max && value & !prefix_mask(field.width, bits) == 0
            }
            (MatchKind::Range, Match::Range(lo, hi)) => lo <= hi && hi <= max,
            _ => false,
        };
        if !right {
            return Err(format!("{found:?} is no match of `{}` in table `{}`", field.name, table.name));
        }
    }
    if table.prioritised() != (entry.priority > 0) {
        return Err(format!("priority {} in table `{}`", entry.priority, table.name));
    }
    let Some((at, action)) = program.action(&entry.action) else {
        return Err(format!("there is no action `{}`", entry.action));
    };
    if !table.actions.iter().any(|(a, default_only)| *a == at && !default_only) {
        return Err(format!("table `{}` has no entries with action `{}`", table.name, action.name));
    }
    if action.params.len() != entry.params.len()
        || action.params.iter().zip(&entry.params).any(|(p, v)| *v > max(p.width))
    {
        return Err(format!("the parameters of `{}` in table `{}`", action.name, table.name));
    }
    Ok(())
}

/// The largest value of a width.
#[must_use]
pub fn max(width: u8) -> u128 {
    if width >= 128 { u128::MAX } else { (1 << width) - 1 }
}

/// The first `bits` of a field of this width.
#[must_use]
pub fn prefix_mask(width: u8, bits: u8) -> u128 {
    max(width) & !max(width.saturating_sub(bits))
}

/// How a table's entries are found by a packet's values.
#[derive(Debug, Default)]
pub(super) struct Index {
    /// Tables without ranges: what holds from here on, ascending, by the exact fields and then the one that is matched by prefix.
    /// `None`: nothing more.
    exact: Vec<(Vec<u8>, Option<Found>)>,
    ranges: Ranges,
}

/// An action by number, and its parameters.
pub(super) type Found = (usize, Vec<u128>);

/// Entries with ranges, the highest priority first, and for each field which of them hold where.
#[derive(Debug, Default)]
struct Ranges {
    found: Vec<Found>,
    /// By field: from which value on, and a bit for each entry.
    fields: Vec<Vec<(u128, Vec<u64>)>>,
}

impl Ranges {
    fn new(mut entries: Vec<(u32, &[Match], Found)>) -> Self {
        entries.sort_by_key(|(priority, ..)| std::cmp::Reverse(*priority));
        let width = entries.first().map_or(0, |(_, key, _)| key.len());
        let bounds = |key: &[Match], field: usize| match key.get(field) {
            Some(Match::Exact(value)) => Some((*value, *value)),
            Some(Match::Range(lo, hi)) => Some((*lo, *hi)),
            Some(Match::Lpm(..)) | None => None,
        };
        let fields = (0..width).map(|field| {
            let mut starts = BTreeSet::from([0]);
            for (lo, hi) in entries.iter().filter_map(|(_, key, _)| bounds(key, field)) {
                starts.insert(lo);
                starts.extend(hi.checked_add(1));
            }
            let holding = |value: u128| {
                let mut bits = vec![0u64; entries.len().div_ceil(64)];
                for (at, (_, key, _)) in entries.iter().enumerate() {
                    let holds = bounds(key, field).is_some_and(|(lo, hi)| lo <= value && value <= hi);
                    if holds && let Some(word) = bits.get_mut(at / 64) {
                        *word |= 1 << (at % 64);
                    }
                }
                bits
            };
            starts.into_iter().map(|start| (start, holding(start))).collect()
        });
        let fields = fields.collect();
        Self { found: entries.into_iter().map(|(_, _, found)| found).collect(), fields }
    }

    fn get(&self, values: &[u128]) -> Option<&Found> {
        let mut holding: Vec<&[u64]> = Vec::with_capacity(values.len());
        for (field, value) in self.fields.iter().zip(values) {
            let next = field.partition_point(|(start, _)| start <= value);
            holding.push(&field.get(next.checked_sub(1)?)?.1);
        }
        (0..self.found.len().div_ceil(64))
            .find_map(|word| {
                let all =
                    holding.iter().fold(u64::MAX, |all, bits| all & bits.get(word).copied().unwrap_or(0));
                (all != 0).then(|| word * 64 + all.trailing_zeros() as usize)
            })
            .and_then(|at| self.found.get(at))
    }
}

impl Index {
    pub fn new(program: &Program, table: &Table, entries: &[&Entry]) -> Self {
        let mut out = Self::default();
        let mut ranges = Vec::new();
        // By first value and length: a shorter prefix comes before those inside it.
        let mut prefixes: BTreeMap<(Vec<u8>, u8), (Vec<u8>, Found)> = BTreeMap::new();
        for entry in entries {
            let Some((action, _)) = program.action(&entry.action) else { continue };
            let found = (action, entry.params.clone());
            if table.prioritised() {
                ranges.push((entry.priority, entry.key.as_slice(), found));
                continue;
            }
            let low = entry.key.iter().map(|m| match *m {
                Match::Exact(v) | Match::Lpm(v, _) | Match::Range(v, _) => v,
            });
            let low: Vec<u128> = low.collect();
            let high = table.keys.iter().zip(&entry.key).map(|(field, found)| match *found {
                Match::Lpm(v, bits) => v | (max(field.width) & !prefix_mask(field.width, bits)),
                Match::Exact(v) | Match::Range(v, _) => v,
            });
            let high: Vec<u128> = high.collect();
            let bits = entry.key.iter().find_map(|m| match m {
                Match::Lpm(_, bits) => Some(*bits),
                _ => None,
            });
            prefixes.insert((joined(table, &low), bits.unwrap_or_default()), (joined(table, &high), found));
        }
        out.ranges = Ranges::new(ranges);
        // Those that hold here, the longest last.
        let mut open: Vec<(Vec<u8>, Found)> = Vec::new();
        let mut from = BTreeMap::new();
        for ((first, _), (last, found)) in prefixes {
            close(&mut open, &mut from, |last| *last < first);
            from.insert(first, Some(found.clone()));
            open.push((last, found));
        }
        close(&mut open, &mut from, |_| true);
        out.exact = from.into_iter().collect();
        out
    }

    pub fn get(&self, table: &Table, values: &[u128]) -> Option<&Found> {
        if table.prioritised() {
            return self.ranges.get(values);
        }
        let key = joined(table, values);
        let next = self.exact.partition_point(|(first, _)| *first <= key);
        self.exact.get(next.checked_sub(1)?)?.1.as_ref()
    }
}

/// Ends entries by their last keys; what they lay in goes on.
fn close(
    open: &mut Vec<(Vec<u8>, Found)>,
    from: &mut BTreeMap<Vec<u8>, Option<Found>>,
    ends: impl Fn(&Vec<u8>) -> bool,
) {
    while let Some((last, _)) = open.pop_if(|(last, _)| ends(last)) {
        if let Some(next) = after(&last) {
            from.insert(next, open.last().map(|(_, found)| found.clone()));
        }
    }
}

/// The fields of a key in one, the one that is matched by prefix last.
fn joined(table: &Table, values: &[u128]) -> Vec<u8> {
    let mut out = Vec::with_capacity(16 * values.len());
    let fields = || table.keys.iter().zip(values);
    for (_, value) in fields().filter(|(k, _)| k.kind != MatchKind::Lpm) {
        out.extend_from_slice(&value.to_be_bytes());
    }
    for (_, value) in fields().filter(|(k, _)| k.kind == MatchKind::Lpm) {
        out.extend_from_slice(&value.to_be_bytes());
    }
    out
}

/// The next number; `None` after the last.
fn after(bytes: &[u8]) -> Option<Vec<u8>> {
    let mut out = bytes.to_vec();
    for byte in out.iter_mut().rev() {
        let (next, over) = byte.overflowing_add(1);
        *byte = next;
        if !over {
            return Some(out);
        }
    }
    None
}
