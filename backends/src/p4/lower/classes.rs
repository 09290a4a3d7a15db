//! Addresses of one space as classes for both directions: what an address means as a sender of a connection, and as a receiver.

use super::Lowering;
use crate::linux::ends::{self, Class, Stretch};
use compiler::algebra::Family;
use compiler::ids::OwnerId;
use compiler::packet::End;
use std::collections::{BTreeMap, BTreeSet};

/// The ends of one space and family.
pub(super) struct Ends {
    pub tenant: OwnerId,
    pub family: Family,
    pub sources: Vec<Class>,
    pub destinations: Vec<Class>,
    pub classes: Vec<Joint>,
}

/// Addresses that are in one class as senders and in one as receivers.
#[derive(Debug, Clone)]
pub(super) struct Joint {
    /// Position among the sources: who opens connections from here.
    pub source: Option<usize>,
    /// Position among the destinations: whom connections are opened to.
    pub destination: Option<usize>,
    /// Whether both mean one end, so that an answer comes from whom was asked.
    pub answers: bool,
    pub here: bool,
    pub pieces: Vec<Piece>,
}

/// A stretch of addresses as seen.
#[derive(Debug, Clone)]
pub(super) struct Piece {
    pub lo: u128,
    pub hi: u128,
    /// What is there: the receiver if connections can be opened to it, else the sender.
    pub stretch: Stretch,
}

impl Piece {
    /// The real end of the first address.
    pub fn real(&self) -> End {
        End { address: self.stretch.end.address + (self.lo - self.stretch.lo), ..self.stretch.end }
    }
}

impl Lowering<'_> {
    /// The spaces of this node's tenants.
    pub(super) fn spaces(&self) -> Vec<Ends> {
        let scope = self.scope();
        let mut out = Vec::new();
        for tenant in self.tenants() {
            for family in Family::BOTH {
                let classes = ends::classes(self.c, &self.addresses, &scope, tenant, family);
                out.push(Ends::new(tenant, family, classes));
            }
        }
        out
    }
}

impl Ends {
    fn new(tenant: OwnerId, family: Family, found: ends::Classes) -> Self {
        let ends::Classes { sources, destinations } = found;
        let of = |classes: &[Class]| {
            let mut list: Vec<(u128, u128, usize, Stretch)> = Vec::new();
            for (at, class) in classes.iter().enumerate() {
                list.extend(class.members.iter().map(|m| (m.lo, m.hi, at, m.clone())));
            }
            list.sort();
            list
        };
        let (from, to) = (of(&sources), of(&destinations));
        let mut cuts: BTreeSet<u128> = BTreeSet::new();
        for (lo, hi, _, _) in from.iter().chain(&to) {
            cuts.insert(*lo);
            cuts.extend(hi.checked_add(1));
        }
        let at = |list: &[(u128, u128, usize, Stretch)], address: u128| {
            let next = list.partition_point(|(lo, ..)| *lo <= address);
            let found = next.checked_sub(1).and_then(|at| list.get(at));
            found.filter(|(_, hi, ..)| address <= *hi).map(|(_, _, class, stretch)| (*class, stretch.clone()))
        };
        let starts: Vec<u128> = cuts.into_iter().collect();
        let ends = starts.iter().skip(1).map(|next| next - 1).chain([family.max()]);
        let mut joint: BTreeMap<(Option<usize>, Option<usize>, bool), Vec<Piece>> = BTreeMap::new();
        for (&lo, hi) in starts.iter().zip(ends) {
            let (source, destination) = (at(&from, lo), at(&to, lo));
            let offset = |s: &Stretch| End { address: s.end.address + (lo - s.lo), ..s.end };
            let answers = match (&source, &destination) {
                (Some((_, s)), Some((_, d))) => offset(s) == offset(d) && s.gateway == d.gateway,
                _ => true,
            };
            let Some((_, stretch)) = destination.as_ref().or(source.as_ref()) else { continue };
            let piece = Piece { lo, hi, stretch: stretch.clone() };
            let key = (source.map(|(at, _)| at), destination.map(|(at, _)| at), answers);
            joint.entry(key).or_default().push(piece);
        }
        let here =
            |classes: &[Class], at: Option<usize>| at.and_then(|at| classes.get(at)).is_some_and(|c| c.here);
        let mut classes: Vec<Joint> = joint
            .into_iter()
            .map(|((source, destination, answers), pieces)| Joint {
                source,
                destination,
                answers,
                here: here(&sources, source) || here(&destinations, destination),
                pieces,
            })
            .collect();
        classes.sort_by_key(|j| j.pieces.first().map(|p| p.lo));
        Self { tenant, family, sources, destinations, classes }
    }

    /// A sender and a receiver of these classes that are two ends.
    pub fn representatives(&self, source: usize, destination: usize) -> Option<(&Stretch, &Stretch)> {
        let (from, to) = (self.sources.get(source)?, self.destinations.get(destination)?);
        from.members.iter().find_map(|s| to.members.iter().find(|d| s.end != d.end).map(|d| (s, d)))
    }
}
