//! Decides a packet with the tables of a ruleset, in the order of the program: what the text says, without a kernel.

use super::model::{Atom, Direction, Ruleset, Table};
use super::numbers;
use compiler::algebra::Family;
use compiler::buckets;
use compiler::packet::{self, Fields};
use std::net::IpAddr;

/// The first packet of a connection, as the program meets it.
#[derive(Debug, Clone)]
pub struct Arrived<'a> {
    /// The device it came in by.
    pub dev: &'a str,
    /// The sender's role; 0 from a workload or an external.
    pub role: u32,
    pub zone: u16,
    pub direction: Direction,
    pub family: Family,
    pub src: u128,
    pub dst: u128,
    pub protocol: u8,
    /// Source port or ICMP type.
    pub x: u16,
    /// Destination port or ICMP code.
    pub y: u16,
}

/// Where the program ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// In the permanent chain of a reason.
    Dropped(&'static str),
    /// Forwarded with this routing mark (slot 0).
    Sent(u32),
    /// To a gateway: the verdict, from which the instance follows.
    Via(u32),
    /// Through a gateway without state, with this routing mark (slot 0) and these addresses.
    Passed { mark: u32, src: u128, dst: u128 },
}

/// The value of the first entry whose key holds these values, exact keys first; of a set, which has none, `None` always.
#[must_use]
pub fn lookup<'r>(rules: &'r Ruleset, table: Table, key: &[Atom]) -> Option<&'r Atom> {
    let entries = rules.tables.get(&table)?;
    if let Some(entry) = entries.get(key) {
        return entry.value.as_ref();
    }
    let holds = |have: &Atom, want: &Atom| match (have, want) {
        (Atom::Address(f, lo, hi), Atom::Address(g, at, _)) => f == g && lo <= at && at <= hi,
        (Atom::Raw(f, lo, hi), Atom::Raw(g, at, _)) => f == g && lo <= at && at <= hi,
        (Atom::Proto(lo, hi), Atom::Proto(at, _)) => lo <= at && at <= hi,
        (Atom::Port(lo, hi), Atom::Port(at, _)) => lo <= at && at <= hi,
        _ => have == want,
    };
    let first = key.first()?;
    entries
        .range(vec![first.clone()]..)
        .take_while(|(have, _)| have.first() == Some(first))
        .find(|(have, _)| have.len() == key.len() && have.iter().zip(key).all(|(h, w)| holds(h, w)))
        .and_then(|(_, entry)| entry.value.as_ref())
}

/// The conntrack zone that a packet with this destination gets on arrival; `None`: none, and it is refused.
#[must_use]
pub fn zone(rules: &Ruleset, dev: &str, family: Family, dst: u128) -> Option<u16> {
    let device = Atom::Device(dev.to_owned());
    let table = if family == Family::V4 { Table::Zone4 } else { Table::Zone6 };
    let found = match lookup(rules, Table::Space, std::slice::from_ref(&device)) {
        Some(space) => lookup(rules, table, &[space.clone(), Atom::Address(family, dst, dst)]),
        None => lookup(rules, Table::Zone, &[device]),
    };
    match found {
        Some(Atom::Zone(zone)) => Some(*zone),
        _ => None,
    }
}

/// The role of a sender that shows this inner source under this VNI; `None`: `bad-vtep`.
#[must_use]
pub fn role(rules: &Ruleset, vtep: IpAddr, vni: u32, family: Family, src: u128) -> Option<u32> {
    let tables = match family {
        Family::V4 => [Table::Legit4, Table::LegitRange4],
        Family::V6 => [Table::Legit6, Table::LegitRange6],
    };
    let key = [Atom::Vtep(vtep), Atom::Vni(vni), Atom::Raw(family, src, src)];
    tables.into_iter().find_map(|table| match lookup(rules, table, &key) {
        Some(Atom::Mark(role)) => Some(*role),
        _ => None,
    })
}

/// The verdict on a tuple that is read in a context, or the chain that refuses it.
fn verdict(rules: &Ruleset, context: &Atom, p: &Arrived<'_>) -> Result<Atom, &'static str> {
    let end = |address| Atom::Address(p.family, address, address);
    let (src, dst) = match p.family {
        Family::V4 => ([Table::Src4, Table::SrcRange4], [Table::Dst4, Table::DstRange4]),
        Family::V6 => ([Table::Src6, Table::SrcRange6], [Table::Dst6, Table::DstRange6]),
    };
    let classify = |tables: [Table; 2], address: u128| {
        tables.into_iter().find_map(|t| lookup(rules, t, &[context.clone(), end(address)]).cloned())
    };
    let source = classify(src, p.src).ok_or("unknown_source")?;
    let destination = classify(dst, p.dst).ok_or("no_route")?;
    let pair = lookup(rules, Table::Pair, &[destination, source]).cloned().ok_or("not_exposed")?;
    let port = |at| Atom::Port(at, at);
    let proto = Atom::Proto(p.protocol, p.protocol);
    let found = match packet::fields(p.protocol) {
        Fields::Ports => lookup(rules, Table::Verdict, &[pair.clone(), proto, port(p.x), port(p.y)]),
        Fields::Icmp => lookup(rules, Table::Verdict, &[pair.clone(), proto, port(0), port(p.x << 8 | p.y)]),
        Fields::None => lookup(rules, Table::Protocol, &[pair.clone(), proto]),
    };
    found.or_else(|| lookup(rules, Table::Rest, &[pair])).cloned().ok_or("by_default")
}

/// Decides the original direction's first packet, or a reply if `direction` says so (addresses stay the original ones).
#[must_use]
pub fn walk(rules: &Ruleset, p: &Arrived<'_>) -> Outcome {
    let context = [
        Atom::Device(p.dev.to_owned()),
        Atom::Mark(p.role),
        Atom::Zone(p.zone),
        Atom::Direction(p.direction),
    ];
    let Some(context) = lookup(rules, Table::Context, &context) else {
        return Outcome::Dropped("bad_vtep");
    };
    let verdict = match verdict(rules, context, p) {
        Ok(verdict) => verdict,
        Err(chain) => return Outcome::Dropped(chain),
    };
    match (lookup(rules, Table::Action, std::slice::from_ref(&verdict)), &verdict) {
        (Some(Atom::Permanent(chain)), _) => Outcome::Dropped(chain),
        (Some(Atom::Chain(chain)), Atom::Class(number)) if chain == "via" => Outcome::Via(*number),
        (Some(Atom::Chain(_)), _) => {
            match lookup(rules, Table::Route, &[verdict, Atom::Direction(p.direction)]) {
                Some(Atom::Mark(mark)) => Outcome::Sent(*mark),
                _ => Outcome::Dropped("no_route"),
            }
        }
        _ => Outcome::Dropped("by_default"),
    }
}

/// Decides a packet that a gateway node keeps no state of, on the tuple that it shows (zone and direction are not asked for);
/// `None`: it keeps state of packets to there. `answers`: the packet may answer a connection, which TCP says by its flags.
#[must_use]
pub fn stateless(rules: &Ruleset, p: &Arrived<'_>, answers: bool) -> Option<Outcome> {
    let (contexts, snat, dnat) = match p.family {
        Family::V4 => (Table::Stateless4, Table::Snat4, Table::Dnat4),
        Family::V6 => (Table::Stateless6, Table::Snat6, Table::Dnat6),
    };
    let end = |address| Atom::Address(p.family, address, address);
    let space = lookup(rules, Table::Space, &[Atom::Device(p.dev.to_owned())])?;
    let Some(Atom::Mark(context)) = lookup(rules, contexts, &[space.clone(), end(p.dst)]) else {
        return None;
    };
    let answered = verdict(rules, &Atom::Mark(*context), p).ok().filter(|_| answers);
    let verdict = match answered {
        Some(verdict) => verdict,
        None => match verdict(rules, &Atom::Mark(context & !numbers::ANSWERS), p) {
            Ok(verdict) => verdict,
            Err(chain) => return Some(Outcome::Dropped(chain)),
        },
    };
    let verdict = [verdict];
    if let Some(Atom::Permanent(chain)) = lookup(rules, Table::Action, &verdict) {
        return Some(Outcome::Dropped(chain));
    }
    let translation = lookup(rules, Table::Xlat, &verdict)?;
    let renewed = |keep: Table, table: Table, address: u128| {
        let kept = rules.tables.get(&keep).is_some_and(|t| t.contains_key(std::slice::from_ref(translation)));
        match lookup(rules, table, &[translation.clone(), end(address)]) {
            _ if kept => Some(address),
            Some(Atom::Address(_, new, _)) => Some(*new),
            _ => None,
        }
    };
    let (src, dst) = (renewed(Table::KeepSrc, snat, p.src), renewed(Table::KeepDst, dnat, p.dst));
    match (lookup(rules, Table::Onward, &verdict), src, dst) {
        (Some(Atom::Mark(mark)), Some(src), Some(dst)) => Some(Outcome::Passed { mark: *mark, src, dst }),
        _ => Some(Outcome::Dropped("no_route")),
    }
}

/// The routing mark (slot 0) of a packet with this verdict that goes to a gateway: from the source's segment to an instance,
/// by the buckets of the two ends; `None`: no instance is alive, and it is dropped as `no-route`.
#[must_use]
pub fn leg(rules: &Ruleset, p: &Arrived<'_>, verdict: u32) -> Option<u32> {
    let verdict = [Atom::Class(verdict)];
    let instance = match lookup(rules, Table::Only, &verdict) {
        Some(instance) => instance,
        None => {
            let seen = [Atom::Zone(p.zone), Atom::Address(p.family, p.dst, p.dst)];
            let (gateway, here, there) = match lookup(rules, Table::GatewayFlow, &verdict) {
                Some(gateway) => {
                    let (x, y) =
                        if packet::fields(p.protocol) == Fields::Ports { (p.x, p.y) } else { (0, 0) };
                    let cell = |a, port| Atom::Class(u32::from(buckets::port_hash(p.family, a, port)) + 1);
                    let real = if p.family == Family::V4 { Table::Real4 } else { Table::Real6 };
                    let dst = match lookup(rules, real, &seen) {
                        Some(Atom::Address(_, real, _)) => *real,
                        _ => p.dst,
                    };
                    (gateway, cell(p.src, x), cell(dst, y))
                }
                None if lookup(rules, Table::GatewaySource, &verdict).is_some() => {
                    let cell = Atom::Class(u32::from(buckets::end_hash(p.family, p.src)) + 1);
                    (lookup(rules, Table::GatewaySource, &verdict)?, cell.clone(), cell)
                }
                None => {
                    let hash = if p.family == Family::V4 { Table::Hash4 } else { Table::Hash6 };
                    let cell = |address| Atom::Class(u32::from(buckets::end_hash(p.family, address)) + 1);
                    let there = lookup(rules, hash, &seen).cloned().unwrap_or_else(|| cell(p.dst));
                    (lookup(rules, Table::Gateway, &verdict)?, cell(p.src), there)
                }
            };
            let row = lookup(rules, Table::Row, &[gateway.clone(), there])?;
            lookup(rules, Table::Cell, &[row.clone(), here])?
        }
    };
    match lookup(rules, Table::Leg, &[Atom::Device(p.dev.to_owned()), instance.clone()]) {
        Some(Atom::Mark(mark)) => Some(*mark),
        _ => None,
    }
}
