//! From what was seen to what it shows.

use super::capture::{Event, Place};
use super::choose::{Chooser, Shot};
use super::counters::Drops;
use super::inject::Maybe;
use super::plan::Planned;
use super::report::{Expected, Observed, Outcome, Row};
use super::run::{Answers, Counted, Method, Range, enough, method, reason, same, station_of};
use super::stations::Station;
use super::wire::{Fields, Key, Role};
use compiler::algebra::{format_addr, parse_addr};
use compiler::eval::{self, Resolution};
use compiler::ids::NodeId;
use compiler::packet::{Packet, proto};
use compiler::wire::{decision_line, packet_line, packet_text};
use std::collections::BTreeSet;

pub(crate) struct Judge<'a> {
    range: &'a Range<'a>,
    chooser: &'a Chooser<'a>,
    shots: &'a [Shot],
    answers: &'a Answers,
    counted: &'a Counted,
    events: Vec<Event>,
}

impl<'a> Judge<'a> {
    pub(crate) fn new(
        range: &'a Range<'a>,
        chooser: &'a Chooser<'a>,
        shots: &'a [Shot],
        answers: &'a Answers,
        counted: &'a Counted,
    ) -> Self {
        Self { range, chooser, shots, answers, counted, events: range.log.all() }
    }

    fn node_name(&self, node: NodeId) -> String {
        self.range.c.model.nodes[node].name.clone()
    }

    fn station_name(&self, station: Station) -> String {
        let c = self.range.c;
        match station {
            Station::Endpoint(n) => self.range.topology.endpoints.get(n).map_or_else(String::new, |place| {
                let endpoint = &c.model.endpoints[place.endpoint];
                format!("{}.{}", c.model.owners[endpoint.tenant].name, endpoint.name)
            }),
            Station::External(n) => self
                .range
                .topology
                .externals
                .get(n)
                .map_or_else(String::new, |x| c.model.owners[x.owner].name.clone()),
        }
    }

    /// The row of a test, an `isolate` or a drop reason that `eval` can meet.
    pub(crate) fn planned(&self, planned: &Planned) -> Row {
        let empty = Row {
            name: planned.name.clone(),
            at: None,
            span: planned.span,
            outcome: Outcome::NoEndpoint,
            why: None,
            sent: None,
            packet: None,
            decision: None,
            expected: None,
            seen: None,
        };
        let found = planned.shot.as_ref().map(|n| (*n, self.shots.get(*n)));
        let (number, shot) = match found {
            Ok((number, Some(shot))) => (u32::try_from(number).unwrap_or(u32::MAX), shot),
            Ok((_, None)) => return empty,
            Err(why) => return Row { why: Some(why.clone()), ..empty },
        };
        let c = self.range.c;
        let row = Row {
            sent: Some(packet_text(c, &shot.packet)),
            packet: Some(packet_line(c, &shot.packet)),
            decision: Some(decision_line(c, shot.packet.family, &shot.decision)),
            ..empty
        };
        match (shot.decision.allow, shot.to) {
            (true, None) => Row { why: Some("no endpoint has the destination address".to_owned()), ..row },
            (true, Some(to)) => self.allowed(row, number, shot, to),
            (false, _) => self.denied(row, number, shot),
        }
    }

    fn allowed(&self, row: Row, number: u32, shot: &Shot, to: Station) -> Row {
        let replies = match method(shot) {
            Method::Tcp | Method::Udp | Method::Raw { answered: true } => true,
            Method::Raw { answered: false } => false,
        };
        let answered = self.answers.get(&number).copied().unwrap_or(false);
        let [through, back] = [shot.instance, shot.back].map(|n| n.map(|n| self.node_name(n)));
        let expected = Expected::Allow {
            arrives: self.station_name(to),
            through: through.clone(),
            reply: replies.then_some(true),
            reply_through: back.clone().filter(|_| replies && back != through),
        };
        let key = self.key(number, shot);
        let seen = Observed { reply: replies.then_some(answered), ..self.observed(key, shot.from) };
        let [wanted, wanted_back] = [through, back].map(Vec::from_iter);
        let arrivals: Vec<&Event> = self.arrivals(key, shot.from).collect();
        let why = if seen.arrived.is_empty() {
            Some("it did not arrive".to_owned())
        } else if seen.arrived != [self.station_name(to)] {
            Some("it arrived elsewhere".to_owned())
        } else if seen.through != wanted {
            Some("it passed another gateway instance than the one its bucket belongs to".to_owned())
        } else if let Some(wrong) = arrivals.iter().find(|e| !self.right_ends(&e.seen.fields, shot, to)) {
            Some(format!(
                "it arrived as {} -> {}, which means other ends",
                wrong.seen.fields.src, wrong.seen.fields.dst
            ))
        } else if replies && !answered {
            Some("its answer did not come back".to_owned())
        } else if replies && seen.reply_through != wanted_back {
            Some("its answer passed another gateway instance than the one its bucket belongs to".to_owned())
        } else {
            None
        };
        let outcome = if why.is_none() { Outcome::Passed } else { Outcome::Failed };
        Row { outcome, why, expected: Some(expected), seen: Some(seen), ..row }
    }

    fn denied(&self, row: Row, number: u32, shot: &Shot) -> Row {
        let entry = self.range.entry(shot).map_or_else(String::new, |n| self.node_name(n));
        let expected = Expected::Deny { node: entry, reason: reason(self.chooser, shot).to_owned() };
        let key = self.key(number, shot);
        self.dropped(row, number, expected, (key, shot.from), false)
    }

    /// The row of an injected frame.
    pub(crate) fn injected(&self, number: u32, injection: &Maybe) -> Row {
        let row = Row {
            name: injection.as_ref().map_or_else(|(name, _)| *name, |i| i.name).to_owned(),
            at: None,
            span: None,
            outcome: Outcome::NoEndpoint,
            why: None,
            sent: None,
            packet: None,
            decision: None,
            expected: None,
            seen: None,
        };
        let c = self.range.c;
        match injection {
            Err((_, why)) => Row { why: Some(why.clone()), ..row },
            Ok(i) => {
                let expected = Expected::Deny { node: self.node_name(i.node), reason: i.reason.to_owned() };
                // An external has no station of its own here; what it sends must not come out anywhere.
                let from = station_of(i.from).unwrap_or(Station::External(usize::MAX));
                let row = Row {
                    sent: Some(i.sent.clone()),
                    packet: i.packet.as_ref().map(|(p, _)| packet_line(c, p)),
                    decision: i.packet.as_ref().map(|(p, d)| decision_line(c, p.family, d)),
                    ..row
                };
                self.dropped(row, number, expected, (Some(Key::Shot(number)), from), true)
            }
        }
    }

    fn dropped(
        &self,
        row: Row,
        number: u32,
        expected: Expected,
        (key, from): (Option<Key>, Station),
        injected: bool,
    ) -> Row {
        let seen = self.observed(key, from);
        let answered = self.events.iter().any(|e| {
            Some(e.seen.key) == key && e.seen.role == Role::Reply && station_of(e.place) == Some(from)
        });
        let none = Drops::new();
        let counted = self.counted.get(&number).unwrap_or(&none);
        let Expected::Deny { reason, .. } = &expected else { return row };
        let moved = counted.get(reason).is_some_and(|n| *n >= enough(injected));
        let why = if !seen.arrived.is_empty() {
            Some("it arrived".to_owned())
        } else if answered {
            Some("it was answered".to_owned())
        } else if !moved {
            Some(format!("it was not counted as {reason}"))
        } else {
            None
        };
        // Other probes of the round move other counters of the node: those are shown only where ours did not move.
        let dropped = if moved { vec![reason.clone()] } else { counted.keys().cloned().collect() };
        let outcome = if why.is_none() { Outcome::Passed } else { Outcome::Failed };
        Row {
            outcome,
            why,
            expected: Some(expected),
            seen: Some(Observed { dropped, reply: answered.then_some(true), ..seen }),
            ..row
        }
    }

    /// What the packets of a shot are recognised by; `None`: the sender's kernel never sent it.
    fn key(&self, number: u32, shot: &Shot) -> Option<Key> {
        if method(shot) != Method::Tcp {
            return Some(Key::Shot(number));
        }
        let p = &shot.packet;
        let address = |value| format_addr(p.family, value);
        let fields =
            Fields { src: address(p.src), dst: address(p.dst), protocol: proto::TCP, x: p.x, y: p.y };
        let sent = |e: &&Event| {
            e.outgoing
                && station_of(e.place) == Some(shot.from)
                && e.seen.role == Role::Request
                && e.seen.fields == fields
        };
        self.events.iter().rev().find(sent).map(|e| e.seen.key)
    }

    fn arrivals(&self, key: Option<Key>, from: Station) -> impl Iterator<Item = &Event> {
        self.events.iter().filter(move |e| {
            Some(e.seen.key) == key
                && e.seen.role == Role::Request
                && !e.outgoing
                && station_of(e.place).is_some_and(|s| s != from)
        })
    }

    fn observed(&self, key: Option<Key>, from: Station) -> Observed {
        let arrived: BTreeSet<Station> =
            self.arrivals(key, from).filter_map(|e| station_of(e.place)).collect();
        let through = |role: Role| -> Vec<String> {
            let nodes: BTreeSet<NodeId> = self
                .events
                .iter()
                .filter(|e| Some(e.seen.key) == key && e.seen.role == role)
                .filter_map(|e| self.instance_at(e))
                .collect();
            nodes.into_iter().map(|n| self.node_name(n)).collect()
        };
        Observed {
            arrived: arrived.into_iter().map(|s| self.station_name(s)).collect(),
            through: through(Role::Request),
            reply_through: through(Role::Reply),
            reply: None,
            dropped: Vec::new(),
        }
    }

    /// The gateway node that an event shows a packet at, be it on the underlay or on a cable.
    fn instance_at(&self, event: &Event) -> Option<NodeId> {
        let t = self.range.topology;
        let node = match event.place {
            Place::Underlay(n) if event.seen.tunnelled => t.nodes.get(n)?.node,
            Place::Link { external, link } => t.externals.get(external)?.links.get(link)?.node,
            Place::Underlay(_) | Place::Endpoint(_) => return None,
        };
        self.range.c.model.nodes[node].gateway.then_some(node)
    }

    /// Whether the addresses that arrived mean the real ends in the space they arrived in.
    fn right_ends(&self, f: &Fields, shot: &Shot, to: Station) -> bool {
        let (Some(from_end), Some(to_end)) = (shot.decision.from, shot.decision.to) else { return false };
        if matches!(to, Station::External(_)) {
            return same(f.dst, to_end.address) && self.range.shown_to_external(shot) == Some(f.src);
        }
        let p = Packet {
            space: to_end.owner,
            family: shot.packet.family,
            src: parse_addr(f.src).1,
            dst: parse_addr(f.dst).1,
            ..shot.packet
        };
        match eval::resolve(self.range.c, &p) {
            Ok(Resolution::Flow { flow, .. }) => (flow.src, flow.dst) == (from_end, to_end),
            Ok(Resolution::Dropped { .. }) | Err(_) => false,
        }
    }
}
