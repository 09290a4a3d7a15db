//! Decisions: every pair of classes over all services, for packets that open connections and for packets that answer them.

use super::Lowering;
use super::classes::{Ends, Joint};
use super::cover::{Candidate, MISS, OPEN, Row, Wanted, cover};
use super::facts::{self, Fact, Facts, IMPOSSIBLE, Numbered};
use super::services::Atoms;
use crate::p4::entries::Match;
use compiler::algebra::{Family, Prefix};
use compiler::ids::ExposureId;
use compiler::model::Mapping;
use std::collections::{BTreeMap, BTreeSet};

/// What a pair says of a service to a packet that opens a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Say {
    Deny { reason: u8, egress: u16, ingress: u16 },
    Permit { way: Way, egress: u16, ingress: u16 },
}

/// How a permitted packet goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Way {
    /// 0: straight.
    pub gateway: u16,
    /// 0: as it is.
    pub translation: u16,
}

/// The way of what a gateway node has no part in.
pub(super) const ELSEWHERE: Way = Way { gateway: u16::MAX, translation: 0 };

/// By source class, then destination class: what is said to packets that open connections, and of the connections that packets would
/// answer (numbers of [`Facts::said`]); `None`: no such packet comes by this node.
type Cells = Vec<Option<(u32, u32)>>;

impl Lowering<'_> {
    pub(super) fn decide(&mut self, spaces: &[Ends]) {
        let atoms = Atoms::new(facts::services(self.c, spaces));
        let mut next = 1u32;
        for space in spaces {
            self.space(space, &atoms, &mut next);
        }
        if next > u32::from(u16::MAX) {
            self.too_many("classes", next);
        }
    }

    fn space(&mut self, space: &Ends, atoms: &Atoms, next: &mut u32) {
        let mut facts = Facts::new(self, space, atoms);
        let cells = self.cells(space, &mut facts);
        let size = space.classes.len();
        let alike = alike(size, &cells);
        let firsts: Vec<usize> = (0..size).filter(|at| alike.get(*at) == Some(at)).collect();
        let joined: Vec<Option<(u32, u32)>> = firsts
            .iter()
            .flat_map(|a| firsts.iter().map(move |b| a * size + b))
            .map(|at| cells.get(at).copied().flatten())
            .collect();
        let first = *next;
        *next += u32::try_from(firsts.len()).unwrap_or(u32::MAX);
        self.saved.classes.0 += size;
        self.saved.classes.1 += firsts.len();
        if !firsts.is_empty() {
            self.verdicts(space, &facts, &joined, firsts.len(), first);
            self.replies(space, &facts, &joined, firsts.len(), first);
        }
        let class = |at: usize| {
            let joint = alike.get(at).and_then(|class| firsts.binary_search(class).ok());
            let number = joint.and_then(|n| u32::try_from(n).ok()).map_or(0, |n| first + n);
            u16::try_from(number).unwrap_or(u16::MAX)
        };
        self.addresses_of(space, &class);
    }

    /// What is said of every pair of a space that this node can meet.
    fn cells(&mut self, space: &Ends, facts: &mut Facts<'_>) -> Cells {
        let unknown = facts.uniform(Fact::refusal("UNKNOWN_SOURCE"));
        let closed = facts.uniform(Fact::refusal("NOT_EXPOSED"));
        let mut seen = super::admitted::Known::default();
        let mut out = Vec::with_capacity(space.classes.len() * space.classes.len());
        for from in &space.classes {
            for to in &space.classes {
                if !self.meets(space, from, to) {
                    out.push(None);
                    continue;
                }
                let open = match (from.source, to.destination) {
                    (Some(s), Some(d)) => facts.of(self, s, d),
                    (None, _) => Some(unknown),
                    _ => Some(closed),
                };
                let answered = match (to.source, from.destination) {
                    (Some(s), Some(d)) if from.answers && to.answers => facts.of(self, s, d),
                    _ => Some(closed),
                };
                // One end is no pair: the program refuses its packets to itself.
                let (Some(open), Some(answered)) = (open, answered) else {
                    out.push(None);
                    continue;
                };
                let answers = self.answers(space, facts, &mut seen, (open, answered));
                self.two_ways(space, from, &answers);
                self.beyond(space, (from, to), &answers);
                out.push(Some((open, answered)));
            }
        }
        out
    }

    /// Whether packets between these ends come by this node.
    fn meets(&self, space: &Ends, from: &Joint, to: &Joint) -> bool {
        if !self.gateway {
            return from.here || to.here;
        }
        let own = |j: &Joint| {
            let first = j.pieces.first();
            first.is_some_and(|p| p.stretch.end.owner == space.tenant && p.stretch.gateway.is_none())
        };
        own(from)
    }

    pub(super) fn say(&mut self, space: &Ends, fact: &Fact, answer: bool) -> Say {
        let small = |n: u128| u16::try_from(n).unwrap_or(u16::MAX);
        let egress = small(self.who(fact.egress));
        let ingress = small(self.who(fact.ingress));
        let deny = |l: &Self, name: &str, egress: u16, ingress: u16| Say::Deny {
            reason: u8::try_from(l.reason(name)).unwrap_or_default(),
            egress,
            ingress,
        };
        if let Some(reason) = fact.reason {
            return deny(self, reason, egress, ingress);
        }
        let gateway = fact.via.and_then(|g| self.gateways.get(&g)).copied();
        if !self.gateway {
            let way = Way { gateway: gateway.unwrap_or(0), translation: 0 };
            return Say::Permit { way, egress, ingress };
        }
        if gateway.is_none() {
            return deny(self, "BAD_VTEP", 0, 0);
        }
        let translation = fact.exposure.map_or(0, |id| self.translation(id, space, answer));
        Say::Permit { way: Way { gateway: 0, translation }, egress, ingress }
    }

    /// How a sender's address is to be seen by the other side: a client as the exposure shows it, a provider as it presents it.
    fn translation(&mut self, id: ExposureId, space: &Ends, answer: bool) -> u16 {
        let e = &self.c.model.exposures[id];
        let family = space.family;
        let pair = |m: &Mapping| (m.real, m.seen);
        let mappings: Vec<(Prefix, Prefix)> = if answer {
            e.presented.iter().filter(|m| m.real.family == family).map(pair).collect()
        } else {
            let mine = e.shown.iter().filter(|(owner, m)| *owner == space.tenant && m.real.family == family);
            mine.map(|(_, m)| pair(m)).collect()
        };
        if mappings.iter().all(|(real, seen)| real == seen) {
            return 0;
        }
        let next = u16::try_from(self.translations.len() + 1).unwrap_or(u16::MAX);
        if let Some(known) = self.translations.get(&mappings) {
            return *known;
        }
        let note = format!("{} {}", e.name, self.place(e.span));
        for (real, seen) in &mappings {
            let (table, action) = match family {
                Family::V4 => ("rewrite4", "rewrite_source4"),
                Family::V6 => ("rewrite6", "rewrite_source6"),
            };
            let key = vec![super::exact(next), Match::Lpm(real.lo(), real.len())];
            let params = vec![seen.lo(), seen.hi() - seen.lo()];
            self.put(space.tenant, table, key, action, params, &note);
        }
        self.translations.insert(mappings, next);
        next
    }

    /// Where an address goes under a translation.
    pub(super) fn translated(&self, translation: u16, family: Family, address: u128) -> u128 {
        let found = self.translations.iter().find(|(_, n)| **n == translation);
        let apply =
            |(real, seen): &(Prefix, Prefix)| Mapping { real: *real, seen: *seen }.apply(family, address);
        found.and_then(|(mappings, _)| mappings.iter().find_map(apply)).unwrap_or(address)
    }

    /// Table `verdict`: may a packet open a connection?
    fn verdicts(&mut self, space: &Ends, facts: &Facts<'_>, cells: &Cells, size: usize, first: u32) {
        let mut says: Numbered<Option<Say>> = Numbered::new();
        says.number(None);
        let not_exposed = u8::try_from(self.reason("NOT_EXPOSED")).unwrap_or_default();
        let miss = Say::Deny { reason: not_exposed, egress: 0, ingress: 0 };
        let meanings: Vec<u32> = facts
            .facts
            .list
            .iter()
            .map(|fact| {
                let say = self.say(space, fact, false);
                says.number(Some(say).filter(|say| *say != miss))
            })
            .collect();
        let open = |cell: (u32, u32)| cell.0;
        let entries = self.covered(facts, cells, size, &meanings, &open);
        let boxes = listed(facts, cells, &meanings, &open);
        self.saved.verdicts.0 += boxes;
        for (priority, entry) in (1u32..).zip(entries.iter().rev()) {
            let Some(Some(say)) = says.get(entry.value) else { continue };
            let (action, params, who) = match *say {
                Say::Deny { reason, egress, ingress } => {
                    ("deny", vec![reason.into(), egress.into(), ingress.into()], (egress, ingress))
                }
                Say::Permit { way, egress, ingress } => (
                    "permit",
                    vec![way.gateway.into(), way.translation.into(), egress.into(), ingress.into()],
                    (egress, ingress),
                ),
            };
            let note = self.who_note(who.0, who.1);
            self.saved.verdicts.1 +=
                self.put_ranges(space, "verdict", (entry, first, priority), action, params, &note);
        }
    }

    /// Table `reply`: may it answer one that is allowed the other way round?
    fn replies(&mut self, space: &Ends, facts: &Facts<'_>, cells: &Cells, size: usize, first: u32) {
        let mut ways: Numbered<Option<Way>> = Numbered::new();
        ways.number(None);
        let meanings: Vec<u32> = facts
            .facts
            .list
            .iter()
            .map(|fact| match self.say(space, fact, true) {
                Say::Permit { way, .. } => ways.number(Some(way)),
                Say::Deny { .. } => MISS,
            })
            .collect();
        let answered = |cell: (u32, u32)| cell.1;
        let entries = self.covered(facts, cells, size, &meanings, &answered);
        self.saved.replies.0 += listed(facts, cells, &meanings, &answered);
        for (priority, entry) in (1u32..).zip(entries.iter().rev()) {
            let (action, params) = match ways.get(entry.value) {
                Some(Some(way)) => ("admit", vec![way.gateway.into(), way.translation.into()]),
                _ => ("unasked", Vec::new()),
            };
            self.saved.replies.1 +=
                self.put_ranges(space, "reply", (entry, first, priority), action, params, "");
        }
    }

    /// The entries of a table in their order, by position of the classes.
    fn covered(
        &self,
        facts: &Facts<'_>,
        cells: &Cells,
        size: usize,
        meanings: &[u32],
        side: &dyn Fn((u32, u32)) -> u32,
    ) -> Vec<Candidate> {
        let meaning = |fact: u32| usize::try_from(fact).ok().and_then(|n| meanings.get(n)).copied();
        let mut rows: Numbered<Row> = Numbered::new();
        let anything = rows.number(vec![OPEN; facts.atoms.len()]);
        // Where each fact is said: sources and destinations from the first to the last.
        let mut reach: BTreeMap<u32, [(usize, usize); 2]> = BTreeMap::new();
        let mut said: BTreeMap<u32, (u32, BTreeSet<u32>)> = BTreeMap::new();
        let mut numbered = Vec::with_capacity(cells.len());
        for (at, cell) in cells.iter().enumerate() {
            let Some(cell) = cell else {
                numbered.push(anything);
                continue;
            };
            let number = side(*cell);
            let (row, inside) = said.entry(number).or_insert_with(|| {
                let list = facts.said.get(number).map_or(&[][..], Vec::as_slice);
                let row = list.iter().map(|fact| meaning(*fact).unwrap_or(OPEN)).collect();
                (rows.number(row), list.iter().copied().filter(|fact| *fact != IMPOSSIBLE).collect())
            });
            numbered.push(*row);
            let (source, destination) = (at / size, at % size);
            for fact in inside.iter() {
                let [s, d] = reach.entry(*fact).or_insert([(source, source), (destination, destination)]);
                *s = (s.0.min(source), s.1.max(source));
                *d = (d.0.min(destination), d.1.max(destination));
            }
        }
        let mut ordered: Vec<(u32, &Fact)> =
            reach.keys().filter_map(|number| Some((*number, facts.facts.get(*number)?))).collect();
        ordered.sort_by_key(|(number, fact)| (fact.order(self.c), *number));
        let mut candidates: Vec<Candidate> = Vec::new();
        for (number, fact) in ordered {
            let (Some(value), Some([sources, destinations])) = (meaning(number), reach.get(&number)) else {
                continue;
            };
            // A refusal that nobody gave is what the table says anyway.
            if value == MISS && fact.egress.is_none() && fact.ingress.is_none() {
                continue;
            }
            for service in fact.boxes(self.c) {
                candidates.push(Candidate {
                    value,
                    services: vec![service],
                    sources: *sources,
                    destinations: *destinations,
                });
            }
        }
        let wanted = Wanted { atoms: facts.atoms, size, cells: numbered, rows: rows.list };
        cover(&wanted, &candidates)
    }

    /// One entry for each box of services; returns how many.
    fn put_ranges(
        &mut self,
        space: &Ends,
        table: &str,
        (entry, first, priority): (&Candidate, u32, u32),
        action: &str,
        params: Vec<u128>,
        note: &str,
    ) -> usize {
        let classes = |(lo, hi): (usize, usize)| {
            Match::Range(u128::from(first) + lo as u128, u128::from(first) + hi as u128)
        };
        // An answer is looked up as the connection that it would belong to.
        let (from, to) = match table {
            "reply" => (entry.destinations, entry.sources),
            _ => (entry.sources, entry.destinations),
        };
        for b in &entry.services {
            let key = vec![
                classes(from),
                classes(to),
                Match::Range(b.proto.0.into(), b.proto.1.into()),
                Match::Range(b.x.0.into(), b.x.1.into()),
                Match::Range(b.y.0.into(), b.y.1.into()),
            ];
            self.put_prioritised(space.tenant, (table, priority), key, action, params.clone(), note);
        }
        entry.services.len()
    }

    /// `shop-app.checkout policy.pw:12, payments.checkout#1 tenants.pw:14`
    fn who_note(&self, egress: u16, ingress: u16) -> String {
        let mut parts = Vec::new();
        for index in [egress, ingress].into_iter().filter(|index| *index != 0) {
            if let Some((who, _)) = self.who.iter().find(|(_, n)| **n == index) {
                let (name, span) = self.who_name(*who);
                parts.push(format!("{name} {}", self.place(span)));
            }
        }
        parts.join(", ")
    }
}

/// Entries if every box of every pair were one.
fn listed(facts: &Facts<'_>, cells: &Cells, meanings: &[u32], side: &dyn Fn((u32, u32)) -> u32) -> usize {
    let mut known: BTreeMap<u32, usize> = BTreeMap::new();
    let mut out = 0usize;
    for cell in cells.iter().flatten() {
        let number = side(*cell);
        out += *known.entry(number).or_insert_with(|| {
            let list = facts.said.get(number).map_or(&[][..], Vec::as_slice);
            let meaning = |atom: usize| {
                let fact = usize::try_from(*list.get(atom)?).ok()?;
                meanings.get(fact).copied().filter(|value| *value != MISS)
            };
            facts.atoms.list(meaning).len()
        });
    }
    out
}

/// For each class the first one with which it shares all its pairs, as sender and as receiver.
fn alike(size: usize, cells: &Cells) -> Vec<usize> {
    type Line = Vec<Option<(u32, u32)>>;
    let line = |of: &dyn Fn(usize) -> usize| -> Line {
        (0..size).map(|other| cells.get(of(other)).copied().flatten()).collect()
    };
    let mut first: BTreeMap<(Line, Line), usize> = BTreeMap::new();
    (0..size)
        .map(|at| {
            let lines = (line(&|other| at * size + other), line(&|other| other * size + at));
            *first.entry(lines).or_insert(at)
        })
        .collect()
}
