//! Few entries for a table that is matched by ranges of classes and of services, the first that holds deciding.
//!
//! A policy's own rules are tried as entries in their own order: one is taken as soon as everything in its reach that is not yet
//! decided is to be decided by it. What that leaves open is written out, and entries that change nothing go.

use super::services::Atoms;
use compiler::sets::ServiceBox;
use std::collections::BTreeMap;

/// What a table says where nothing holds.
pub(super) const MISS: u32 = 0;
/// Decided by an entry before, or no packet can be there.
pub(super) const OPEN: u32 = u32::MAX;

/// By atom, what is to be said.
pub(super) type Row = Vec<u32>;

/// What is to be said of every pair of classes.
pub(super) struct Wanted<'a> {
    pub atoms: &'a Atoms,
    /// How many classes there are.
    pub size: usize,
    /// By source, then destination: a number in `rows`.
    pub cells: Vec<u32>,
    pub rows: Vec<Row>,
}

/// An entry that may be of use: what it says, of which services, between which classes at most (both inclusive).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Candidate {
    pub value: u32,
    /// INVARIANT: their union is one of atoms.
    pub services: Vec<ServiceBox>,
    pub sources: (usize, usize),
    pub destinations: (usize, usize),
}

/// Rows by number, and what becomes of them.
struct Rows {
    list: Vec<Row>,
    numbers: BTreeMap<Row, u32>,
}

impl Rows {
    fn new(list: Vec<Row>) -> Self {
        let mut numbers = BTreeMap::new();
        for (row, at) in list.iter().zip(0u32..) {
            numbers.entry(row.clone()).or_insert(at);
        }
        Self { list, numbers }
    }

    fn get(&self, number: u32) -> &[u32] {
        usize::try_from(number).ok().and_then(|n| self.list.get(n)).map_or(&[], Vec::as_slice)
    }

    /// The row with these atoms set.
    fn with(&mut self, number: u32, atoms: &[usize], value: u32) -> u32 {
        let mut row = self.get(number).to_vec();
        for atom in atoms {
            if let Some(place) = row.get_mut(*atom) {
                *place = value;
            }
        }
        if let Some(known) = self.numbers.get(&row) {
            return *known;
        }
        let next = u32::try_from(self.list.len()).unwrap_or(u32::MAX);
        self.numbers.insert(row.clone(), next);
        self.list.push(row);
        next
    }
}

/// How a pair stands to a candidate.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Stand {
    /// Nothing is left to decide.
    Free,
    /// What is left is the candidate's.
    Wants,
    /// Something is left that another decides, and nothing of the candidate's.
    Bars,
    /// Both.
    Mixed,
}

struct Peeling<'a> {
    atoms: &'a Atoms,
    size: usize,
    cells: Vec<u32>,
    rows: Rows,
    taken: Vec<Candidate>,
}

/// A candidate as it is tried.
struct Trial {
    candidate: Candidate,
    inside: Vec<usize>,
    /// By row number, as far as it was asked.
    stands: Vec<Option<Stand>>,
}

/// Entries in their order. What none holds is [`MISS`].
pub(super) fn cover(wanted: &Wanted<'_>, candidates: &[Candidate]) -> Vec<Candidate> {
    let mut peeling = Peeling {
        atoms: wanted.atoms,
        size: wanted.size,
        cells: wanted.cells.clone(),
        rows: Rows::new(wanted.rows.clone()),
        taken: Vec::new(),
    };
    let mut pending: Vec<Candidate> = candidates.to_vec();
    while !pending.is_empty() {
        let before = pending.len();
        pending.retain(|candidate| !peeling.take(candidate, true));
        if pending.len() < before {
            continue;
        }
        // Each waits for another: one is taken as far as it goes.
        let taken = peeling.taken.len();
        let Some(at) = pending.iter().position(|candidate| {
            peeling.take(candidate, false);
            peeling.taken.len() > taken
        }) else {
            break;
        };
        // It may have more to say later.
        let again = pending.remove(at);
        pending.push(again);
    }
    peeling.rest();
    prune(wanted, peeling.taken)
}

impl Peeling<'_> {
    fn cell(&self, source: usize, destination: usize) -> u32 {
        self.cells.get(source * self.size + destination).copied().unwrap_or_default()
    }

    fn stand(&self, trial: &mut Trial, source: usize, destination: usize) -> Stand {
        let number = self.cell(source, destination);
        let at = usize::try_from(number).unwrap_or_default();
        if let Some(Some(known)) = trial.stands.get(at) {
            return *known;
        }
        let row = self.rows.get(number);
        let (mut wants, mut bars) = (false, false);
        for value in trial.inside.iter().filter_map(|atom| row.get(*atom)) {
            wants |= *value == trial.candidate.value;
            bars |= *value != trial.candidate.value && *value != OPEN;
        }
        let stand = match (wants, bars) {
            (false, false) => Stand::Free,
            (true, false) => Stand::Wants,
            (false, true) => Stand::Bars,
            (true, true) => Stand::Mixed,
        };
        if trial.stands.len() <= at {
            trial.stands.resize(at + 1, None);
        }
        if let Some(place) = trial.stands.get_mut(at) {
            *place = Some(stand);
        }
        stand
    }

    /// Takes entries for all that a candidate has to decide; `whole`: or none. Returns whether it has nothing left to decide.
    fn take(&mut self, candidate: &Candidate, whole: bool) -> bool {
        let inside = self.atoms.of(&candidate.services);
        let mut trial = Trial { candidate: candidate.clone(), inside, stands: Vec::new() };
        let (sources, destinations) = (candidate.sources, candidate.destinations);
        if whole {
            for source in sources.0..=sources.1 {
                for destination in destinations.0..=destinations.1 {
                    if self.stand(&mut trial, source, destination) == Stand::Mixed {
                        return false;
                    }
                }
            }
        }
        let mut all = true;
        for source in sources.0..=sources.1 {
            for destination in destinations.0..=destinations.1 {
                match self.stand(&mut trial, source, destination) {
                    Stand::Wants => self.grow(&mut trial, source, destination),
                    Stand::Mixed => all = false,
                    Stand::Free | Stand::Bars => {}
                }
            }
        }
        all
    }

    /// Takes the better of two rectangles around a pair.
    fn grow(&mut self, trial: &mut Trial, source: usize, destination: usize) {
        let (sources, destinations) = (trial.candidate.sources, trial.candidate.destinations);
        let mut fits = |s: usize, d: usize| matches!(self.stand(trial, s, d), Stand::Free | Stand::Wants);
        let wide = run(destinations, destination, |d| fits(source, d));
        let rows = run(sources, source, |s| (wide.0..=wide.1).all(|d| fits(s, d)));
        let high = run(sources, source, |s| fits(s, destination));
        let columns = run(destinations, destination, |d| (high.0..=high.1).all(|s| fits(s, d)));
        let one = self.trimmed(trial, rows, wide);
        let other = self.trimmed(trial, high, columns);
        let (_, sources, destinations) = if other.0 > one.0 { other } else { one };
        self.taken.push(Candidate { sources, destinations, ..trial.candidate.clone() });
        let mut changed: BTreeMap<u32, u32> = BTreeMap::new();
        for s in sources.0..=sources.1 {
            for d in destinations.0..=destinations.1 {
                let old = self.cell(s, d);
                let new = match changed.get(&old) {
                    Some(known) => *known,
                    None => {
                        let new = self.rows.with(old, &trial.inside, OPEN);
                        changed.insert(old, new);
                        new
                    }
                };
                if let Some(place) = self.cells.get_mut(s * self.size + d) {
                    *place = new;
                }
            }
        }
    }

    /// How many pairs want the candidate in a rectangle, and the smallest one that holds them.
    fn trimmed(
        &self,
        trial: &mut Trial,
        sources: (usize, usize),
        destinations: (usize, usize),
    ) -> (usize, (usize, usize), (usize, usize)) {
        let mut count = 0;
        let (mut rows, mut columns) = ((usize::MAX, 0), (usize::MAX, 0));
        for s in sources.0..=sources.1 {
            for d in destinations.0..=destinations.1 {
                if self.stand(trial, s, d) == Stand::Wants {
                    count += 1;
                    rows = (rows.0.min(s), rows.1.max(s));
                    columns = (columns.0.min(d), columns.1.max(d));
                }
            }
        }
        (count, rows, columns)
    }

    /// Writes out what no candidate has decided.
    fn rest(&mut self) {
        let whole = (0, self.size.saturating_sub(1));
        for at in 0..self.cells.len() {
            let (source, destination) = (at / self.size.max(1), at % self.size.max(1));
            let row = self.rows.get(self.cell(source, destination)).to_vec();
            let left = |atom: usize| row.get(atom).copied().filter(|value| ![MISS, OPEN].contains(value));
            let mut by_value: BTreeMap<u32, Vec<ServiceBox>> = BTreeMap::new();
            for (service, value) in self.atoms.list(left) {
                by_value.entry(value).or_default().push(service);
            }
            for (value, services) in by_value {
                let sources = (source, whole.1);
                self.take(&Candidate { value, services, sources, destinations: whole }, false);
            }
        }
    }
}

/// The longest run around a place, within bounds, that all fits.
fn run(bounds: (usize, usize), at: usize, mut fits: impl FnMut(usize) -> bool) -> (usize, usize) {
    let mut out = (at, at);
    while out.1 < bounds.1 && fits(out.1 + 1) {
        out.1 += 1;
    }
    while out.0 > bounds.0 && fits(out.0 - 1) {
        out.0 -= 1;
    }
    out
}

/// Leaves away what those after it, or a miss, say as well.
fn prune(wanted: &Wanted<'_>, entries: Vec<Candidate>) -> Vec<Candidate> {
    // What is painted so far, from the last entry up.
    let mut rows = Rows::new(vec![vec![MISS; wanted.atoms.len()]]);
    let mut painted = vec![0u32; wanted.cells.len()];
    let mut out = Vec::new();
    for entry in entries.into_iter().rev() {
        let inside = wanted.atoms.of(&entry.services);
        let mut known: BTreeMap<(u32, u32), bool> = BTreeMap::new();
        let mut needed = false;
        let places = || {
            let columns = entry.destinations.0..=entry.destinations.1;
            (entry.sources.0..=entry.sources.1)
                .flat_map(move |s| columns.clone().map(move |d| s * wanted.size + d))
        };
        for at in places() {
            let (Some(want), Some(have)) = (wanted.cells.get(at), painted.get(at)) else { continue };
            needed |= *known.entry((*want, *have)).or_insert_with(|| {
                let want = usize::try_from(*want).ok().and_then(|n| wanted.rows.get(n));
                let have = rows.get(*have);
                let differs = |atom: &usize| {
                    want.and_then(|row| row.get(*atom)) == Some(&entry.value)
                        && have.get(*atom) != Some(&entry.value)
                };
                inside.iter().any(differs)
            });
            if needed {
                break;
            }
        }
        if !needed {
            continue;
        }
        let mut changed: BTreeMap<u32, u32> = BTreeMap::new();
        for at in places() {
            let Some(place) = painted.get_mut(at) else { continue };
            *place = match changed.get(place) {
                Some(known) => *known,
                None => {
                    let new = rows.with(*place, &inside, entry.value);
                    changed.insert(*place, new);
                    new
                }
            };
        }
        out.push(entry);
    }
    out.reverse();
    out
}
