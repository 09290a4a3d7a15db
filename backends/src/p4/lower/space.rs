//! Decisions: every pair of classes over all services, for packets that open connections and for packets that answer them.

use super::classes::{Ends, Joint};
use super::services::{List, mirrored, partition};
use super::{COMPUTE, Lowering, Who, exact, mac_number};
use crate::linux::ends;
use crate::linux::services as decided;
use crate::p4::entries::Match;
use crate::p4::lpm;
use compiler::algebra::{Family, Prefix};
use compiler::buckets;
use compiler::eval::{self, Decider, Decision, Reason, Resolution};
use compiler::ids::{ExposureId, OwnerId};
use compiler::model::Mapping;
use compiler::packet::Packet;
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
const ELSEWHERE: Way = Way { gateway: u16::MAX, translation: 0 };

/// One box of a pair, with everything about it.
#[derive(Clone)]
pub(super) struct Told {
    pub decision: Decision,
    pub exposure: Option<ExposureId>,
}

/// A pair of classes as it goes into table `pair`: its list for opening packets, and for answers.
type Cell = (Option<usize>, Option<usize>);

/// Lists by number.
struct Numbered<T> {
    numbers: BTreeMap<List<T>, usize>,
}

impl<T: Ord + Clone> Numbered<T> {
    fn number(&mut self, list: List<T>) -> usize {
        let next = self.numbers.len();
        *self.numbers.entry(list).or_insert(next)
    }

    fn lists(&self) -> Vec<List<T>> {
        let mut out: Vec<(usize, List<T>)> =
            self.numbers.iter().map(|(list, n)| (*n, list.clone())).collect();
        out.sort_by_key(|(n, _)| *n);
        out.into_iter().map(|(_, list)| list).collect()
    }
}

/// The pieces of a table by address, and what each means: action, parameters, note.
type Side = (Vec<lpm::Piece>, Vec<(&'static str, Vec<u128>, String)>);

/// The pair of which one end is unknown as a sender.
const UNKNOWN: u16 = u16::MAX;

impl Lowering<'_> {
    pub(super) fn decide(&mut self, spaces: &[Ends]) {
        let mut opening: Numbered<Say> = Numbered { numbers: BTreeMap::new() };
        let mut answering: Numbered<Way> = Numbered { numbers: BTreeMap::new() };
        let mut cells: Vec<BTreeMap<(usize, usize), Cell>> = Vec::new();
        for space in spaces {
            cells.push(self.cells(space, &mut opening, &mut answering));
        }
        let pairs = self.verdicts(&opening.lists());
        let replies = self.replies(&answering.lists());
        let mut next = 1u32;
        for (space, cells) in spaces.iter().zip(cells) {
            let numbered = cells.into_iter().filter_map(|(ends, (open, answer))| {
                let reply = answer.and_then(|n| replies.get(n)).copied().unwrap_or_default();
                let pair = match open {
                    Some(n) => pairs.get(n).copied().unwrap_or_default(),
                    None => 0,
                };
                (pair != 0 || reply != 0).then_some((ends, (pair, reply)))
            });
            let numbered: BTreeMap<(usize, usize), (u16, u16)> = numbered.collect();
            self.emit(space, numbered, &mut next);
        }
        if next > u32::from(u16::MAX) {
            self.too_many("classes", next);
        }
    }

    /// The lists of every pair of a space that this node can meet.
    fn cells(
        &mut self,
        space: &Ends,
        opening: &mut Numbered<Say>,
        answering: &mut Numbered<Way>,
    ) -> BTreeMap<(usize, usize), Cell> {
        let members = space.sources.iter().chain(&space.destinations).flat_map(|class| &class.members);
        let owners: BTreeSet<OwnerId> = members.map(|m| m.end.owner).chain([space.tenant]).collect();
        let rules = ends::rules_of(self.c, owners);
        let mut known: BTreeMap<(usize, usize), Option<std::rc::Rc<List<Told>>>> = BTreeMap::new();
        let mut ask = |l: &Self, source: Option<usize>, destination: Option<usize>| {
            let (s, d) = (source?, destination?);
            known.entry((s, d)).or_insert_with(|| l.told(space, &rules, s, d).map(std::rc::Rc::new)).clone()
        };
        let mut out = BTreeMap::new();
        for (a, from) in space.classes.iter().enumerate() {
            for (b, to) in space.classes.iter().enumerate() {
                if !self.meets(space, from, to) {
                    continue;
                }
                let open = ask(self, from.source, to.destination);
                let answer =
                    (from.answers && to.answers).then(|| ask(self, to.source, from.destination)).flatten();
                let mut permits: List<Way> = Vec::new();
                let said: Option<List<Say>> = open.map(|list| {
                    let mut said = Vec::with_capacity(list.len());
                    for (b, told) in list.iter() {
                        let say = self.say(space, told, false);
                        match say {
                            Say::Permit { way, .. } => permits.push((*b, way)),
                            // A connection that goes another way than by this node.
                            Say::Deny { .. } if told.decision.allow => permits.push((*b, ELSEWHERE)),
                            Say::Deny { .. } => {}
                        }
                        said.push((*b, say));
                    }
                    said
                });
                let mut answers: List<Way> = Vec::new();
                let mut by: Vec<(compiler::sets::ServiceBox, Told)> = Vec::new();
                for (b, told) in answer.iter().flat_map(|list| list.iter()) {
                    if let Say::Permit { way, .. } = self.say(space, told, true) {
                        for back in mirrored(b) {
                            answers.push((back, way));
                            by.push((back, told.clone()));
                        }
                    }
                }
                self.two_ways(space, from, &permits, &by, &answers);
                self.beyond(space, (from, to), &permits, &by);
                let said = said.filter(|list| list.iter().any(|(_, say)| !self.not_exposed(say)));
                let answers = (!answers.is_empty()).then(|| answering.number(answers));
                // Whom only answers come from is an unknown source otherwise.
                let open = match said {
                    Some(list) => Some(opening.number(list)),
                    None if from.source.is_none() && answers.is_some() => Some(usize::MAX),
                    None => None,
                };
                if open.is_some() || answers.is_some() {
                    out.insert((a, b), (open, answers));
                }
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

    fn not_exposed(&self, say: &Say) -> bool {
        matches!(say, Say::Deny { reason, egress: 0, ingress: 0 } if u128::from(*reason) == self.reason("NOT_EXPOSED"))
    }

    /// What the evaluator says of a pair, by boxes.
    fn told(
        &self,
        space: &Ends,
        rules: &[compiler::ids::RuleId],
        source: usize,
        destination: usize,
    ) -> Option<List<Told>> {
        let (s, d) = space.representatives(source, destination)?;
        let probe = decided::representative(space.tenant, space.family, s.lo, d.lo);
        let found = decided::decide(self.c, rules, &probe, s.end.owner, d.end.owner)?;
        let told = found.into_iter().map(|(b, decision)| {
            let packet = Packet { protocol: b.proto.0, x: b.x.0, y: b.y.0, ..probe };
            let exposure = match eval::resolve(self.c, &packet) {
                Ok(Resolution::Flow { way, .. }) => way.exposure,
                _ => None,
            };
            (b, Told { decision, exposure })
        });
        Some(told.collect())
    }

    fn say(&mut self, space: &Ends, told: &Told, answer: bool) -> Say {
        let by = |decider: Decider| match decider {
            Decider::Rule(id) => Some(Who::Rule(id)),
            Decider::Exposure(id) => Some(Who::Exposure(id)),
            Decider::Default => None,
        };
        let small = |n: u128| u16::try_from(n).unwrap_or(u16::MAX);
        let egress = small(self.who(told.decision.egress.and_then(|v| by(v.by))));
        let ingress = small(self.who(told.decision.ingress.and_then(|v| by(v.by))));
        let deny = |l: &Self, name: &str, egress: u16, ingress: u16| Say::Deny {
            reason: u8::try_from(l.reason(name)).unwrap_or_default(),
            egress,
            ingress,
        };
        if !told.decision.allow {
            return deny(self, reason_name(told.decision.reason), egress, ingress);
        }
        let gateway = told.decision.via.and_then(|g| self.gateways.get(&g)).copied();
        if !self.gateway {
            return Say::Permit {
                way: Way { gateway: gateway.unwrap_or(0), translation: 0 },
                egress,
                ingress,
            };
        }
        if gateway.is_none() {
            return deny(self, "BAD_VTEP", 0, 0);
        }
        let translation = told.exposure.map_or(0, |id| self.translation(id, space, answer));
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
            let key = vec![exact(next), Match::Lpm(real.lo(), real.len())];
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

    /// Numbers the lists of opening packets; makes their verdicts.
    fn verdicts(&mut self, lists: &[List<Say>]) -> Vec<u16> {
        let services = partition(lists);
        for (b, priority, number) in &services.entries {
            let key = vec![
                Match::Range(b.proto.0.into(), b.proto.1.into()),
                Match::Range(b.x.0.into(), b.x.1.into()),
                Match::Range(b.y.0.into(), b.y.1.into()),
            ];
            self.entries.put_prioritised(
                "service",
                key,
                *priority,
                "set_service",
                vec![(*number).into()],
                "",
            );
        }
        self.saved.verdicts.0 += lists.iter().map(Vec::len).sum::<usize>();
        let mut numbers: BTreeMap<&Vec<Option<Say>>, u16> = BTreeMap::new();
        let mut out = Vec::new();
        for says in &services.says {
            let next = u16::try_from(numbers.len() + 1).unwrap_or(u16::MAX);
            if let Some(known) = numbers.get(says) {
                out.push(*known);
                continue;
            }
            numbers.insert(says, next);
            out.push(next);
            let rest = rest_of(says);
            if let Some(Say::Deny { reason, egress, ingress }) = rest
                && !rest.is_some_and(|say| self.not_exposed(&say))
            {
                let params = vec![reason.into(), egress.into(), ingress.into()];
                let note = self.who_note(egress, ingress);
                self.entries.put("rest", vec![exact(next)], "deny_rest", params, &note);
            }
            for (service, say) in says.iter().enumerate() {
                let Some(say) = say.filter(|say| Some(*say) != rest) else { continue };
                let key = vec![exact(next), exact(service as u128)];
                let (action, params, note) = match say {
                    Say::Deny { reason, egress, ingress } => (
                        "deny",
                        vec![reason.into(), egress.into(), ingress.into()],
                        self.who_note(egress, ingress),
                    ),
                    Say::Permit { way, egress, ingress } => (
                        "permit",
                        vec![way.gateway.into(), way.translation.into(), egress.into(), ingress.into()],
                        self.who_note(egress, ingress),
                    ),
                };
                self.entries.put("verdict", key, action, params, &note);
                self.saved.verdicts.1 += 1;
            }
        }
        let reason = self.reason("UNKNOWN_SOURCE");
        self.entries.put(
            "rest",
            vec![exact(UNKNOWN)],
            "deny_rest",
            vec![reason, 0, 0],
            "only answers come from there",
        );
        if numbers.len() >= usize::from(UNKNOWN) {
            self.too_many("pairs", u32::MAX);
        }
        out
    }

    fn replies(&mut self, lists: &[List<Way>]) -> Vec<u16> {
        let services = partition(lists);
        for (b, priority, number) in &services.entries {
            let key = vec![
                Match::Range(b.proto.0.into(), b.proto.1.into()),
                Match::Range(b.x.0.into(), b.x.1.into()),
                Match::Range(b.y.0.into(), b.y.1.into()),
            ];
            let params = vec![(*number).into()];
            self.entries.put_prioritised("reply_service", key, *priority, "set_reply_service", params, "");
        }
        let mut numbers: BTreeMap<&Vec<Option<Way>>, u16> = BTreeMap::new();
        let mut out = Vec::new();
        for says in &services.says {
            let next = u16::try_from(numbers.len() + 1).unwrap_or(u16::MAX);
            if let Some(known) = numbers.get(says) {
                out.push(*known);
                continue;
            }
            numbers.insert(says, next);
            out.push(next);
            for (service, way) in says.iter().enumerate() {
                let Some(way) = way else { continue };
                let key = vec![exact(next), exact(service as u128)];
                self.entries.put("reply", key, "admit", vec![way.gateway.into(), way.translation.into()], "");
            }
        }
        out
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

    /// The entries of one space's classes, those that are decided alike joined.
    fn emit(&mut self, space: &Ends, pairs: BTreeMap<(usize, usize), (u16, u16)>, next: &mut u32) {
        let alike = alike(space.classes.len(), &pairs);
        let mut numbers: BTreeMap<usize, u16> = BTreeMap::new();
        for class in &alike {
            numbers.entry(*class).or_insert_with(|| {
                let number = u16::try_from(*next).unwrap_or(u16::MAX);
                *next += 1;
                number
            });
        }
        self.saved.classes.0 += space.classes.len();
        self.saved.classes.1 += numbers.len();
        let number =
            |at: usize| alike.get(at).and_then(|class| numbers.get(class)).copied().unwrap_or_default();
        let name = self.c.model.owners[space.tenant].name.clone();
        for ((a, b), (pair, reply)) in pairs {
            let key = vec![exact(number(a)), exact(number(b))];
            let params = vec![pair.into(), reply.into()];
            self.put(space.tenant, "pair", key, "set_pair", params, &name);
        }
        self.addresses_of(space, &number);
    }

    fn addresses_of(&mut self, space: &Ends, number: &dyn Fn(usize) -> u16) {
        let (source, destination) = match space.family {
            Family::V4 => ("source4", "destination4"),
            Family::V6 => ("source6", "destination6"),
        };
        // By table: pieces, and what each means with its note.
        let mut sides: [Side; 2] = Default::default();
        for (at, joint) in space.classes.iter().enumerate() {
            let class = number(at);
            for piece in &joint.pieces {
                let note = match piece.stretch.endpoint {
                    Some(endpoint) => self.endpoint_note(endpoint),
                    None => self.owner_note(piece.stretch.end.owner),
                };
                let meanings = [self.sender(space, class, piece), self.receiver(space, class, piece)];
                for ((pieces, said), meaning) in sides.iter_mut().zip(meanings) {
                    let Some((action, params)) = meaning else { continue };
                    let known = said.iter().position(|(a, p, _)| *a == action && *p == params);
                    let index = known.unwrap_or_else(|| {
                        said.push((action, params, note.clone()));
                        said.len() - 1
                    });
                    pieces.push((piece.lo, piece.hi, index + 1));
                }
            }
        }
        self.clients_only(space, &mut sides[1]);
        let id = u128::from(self.c.model.owners[space.tenant].id());
        for ((mut pieces, said), (table, miss)) in
            sides.into_iter().zip([(source, "UNKNOWN_SOURCE"), (destination, "NO_ROUTE")])
        {
            pieces.sort_unstable();
            for (prefix, meaning) in lpm::minimal(space.family, &pieces) {
                let key = vec![exact(id), Match::Lpm(prefix.lo(), prefix.len())];
                let found = meaning.checked_sub(1).and_then(|at| said.get(at));
                let (action, params, note) = match found {
                    Some((action, params, note)) => (*action, params.clone(), note.as_str()),
                    None => ("refuse", vec![self.reason(miss)], "nobody"),
                };
                self.put(space.tenant, table, key, action, params, note);
            }
        }
    }

    /// Addresses known only as clients', where no endpoint is: `not-exposed`.
    fn clients_only(&self, space: &Ends, side: &mut Side) {
        let (pieces, said) = side;
        said.push(("refuse", vec![self.reason("NOT_EXPOSED")], "clients".into()));
        let meaning = said.len();
        let mut taken: Vec<(u128, u128)> = pieces.iter().map(|(lo, hi, _)| (*lo, *hi)).collect();
        taken.sort_unstable();
        for range in self.c.spaces[space.tenant].destinations.family(space.family) {
            if range.target != compiler::compiled::Destination::ClientOnly {
                continue;
            }
            let mut from = Some(range.lo);
            for (lo, hi) in taken.iter().filter(|(lo, hi)| range.lo <= *hi && *lo <= range.hi) {
                if let Some(start) = from.filter(|start| start < lo) {
                    pieces.push((start, lo - 1, meaning));
                }
                from = hi.checked_add(1);
            }
            if let Some(start) = from.filter(|start| *start <= range.hi) {
                pieces.push((start, range.hi, meaning));
            }
        }
    }

    /// The cell of an end, where the address as seen is not the real one or the end is one address.
    fn cell(&self, space: &Ends, piece: &super::classes::Piece) -> u128 {
        match piece.stretch.endpoint {
            Some(_) => u128::from(buckets::end_hash(space.family, piece.real().address)),
            None => COMPUTE,
        }
    }

    fn sender(
        &self,
        space: &Ends,
        class: u16,
        piece: &super::classes::Piece,
    ) -> Option<(&'static str, Vec<u128>)> {
        let stretch = &piece.stretch;
        let home = match (stretch.endpoint, stretch.gateway) {
            (Some(endpoint), None) => Some(endpoint),
            _ => None,
        };
        let peer = home.map_or(0, |e| self.peer(self.c.model.endpoints[e].node));
        let vni = match home.filter(|_| self.gateway) {
            Some(endpoint) if stretch.end.owner == space.tenant => {
                self.vni(self.c.model.endpoints[endpoint].segment)
            }
            _ if self.gateway => return None,
            _ => 0,
        };
        Some(("set_source", vec![class.into(), self.cell(space, piece), peer, vni]))
    }

    fn receiver(
        &self,
        space: &Ends,
        class: u16,
        piece: &super::classes::Piece,
    ) -> Option<(&'static str, Vec<u128>)> {
        let cell = self.cell(space, piece);
        let class = u128::from(class);
        if piece.stretch.gateway.is_some() && !self.gateway {
            return Some(("to_gateway", vec![class, cell]));
        }
        let e = &self.c.model.endpoints[piece.stretch.endpoint?];
        let (vni, mtu) = (self.vni(e.segment), self.mtu(e.segment));
        if e.node == self.node {
            let port = u128::from(self.ports.get(&e.dev).copied()?);
            return Some(("to_port", vec![class, cell, port, e.mac.map_or(0, mac_number), vni, mtu]));
        }
        let mut params = vec![class, cell, self.peer(e.node), vni, mtu];
        let real = piece.real().address;
        if real == piece.lo {
            return Some(("to_node", params));
        }
        params.push(real);
        Some((if space.family == Family::V4 { "to_node_as4" } else { "to_node_as6" }, params))
    }
}

fn reason_name(reason: Reason) -> &'static str {
    match reason {
        Reason::UnknownSource => "UNKNOWN_SOURCE",
        Reason::NoRoute => "NO_ROUTE",
        Reason::NotExposed => "NOT_EXPOSED",
        Reason::Rule => "RULE",
        Reason::Default => "DEFAULT",
    }
}

/// The refusal that most services of a pair meet; what allows always has entries.
fn rest_of(says: &[Option<Say>]) -> Option<Say> {
    let mut count: BTreeMap<Say, usize> = BTreeMap::new();
    for say in says.iter().flatten().filter(|say| matches!(say, Say::Deny { .. })) {
        *count.entry(*say).or_default() += 1;
    }
    count.into_iter().max_by_key(|(say, n)| (*n, std::cmp::Reverse(*say))).map(|(say, _)| say)
}

/// For each class the first one with which it shares all its pairs, as sender and as receiver.
fn alike(classes: usize, pairs: &BTreeMap<(usize, usize), (u16, u16)>) -> Vec<usize> {
    type Row = Vec<(usize, (u16, u16))>;
    let mut rows: Vec<(Row, Row)> = vec![Default::default(); classes];
    for (&(a, b), &said) in pairs {
        if let Some((row, _)) = rows.get_mut(a) {
            row.push((b, said));
        }
        if let Some((_, column)) = rows.get_mut(b) {
            column.push((a, said));
        }
    }
    let mut first: BTreeMap<(Row, Row), usize> = BTreeMap::new();
    rows.into_iter().enumerate().map(|(at, row)| *first.entry(row).or_insert(at)).collect()
}
