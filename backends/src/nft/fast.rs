//! What spares a packet work without changing what becomes of it: tables that are always asked one after the other are written
//! as one, and single ports apart from ranges. `walk` and the other targets know the tables as they were.
//!
//! A lookup in an exact table costs the same whatever its size. One in a table of intervals grows with the elements that
//! share a field, so what need not be there is not.

use super::arrivals;
use crate::linux::Model;
use crate::linux::model::{Atom, Direction, Entry, Ruleset, Table};
use crate::linux::numbers::{self, KIND, PAIR};
use compiler::packet::proto;
use std::collections::{BTreeMap, BTreeSet};

/// Ranges of at most so many ports are written port by port.
const FEW: u16 = 16;

/// A device whose packets are between at most so many pairs of hosts has them written out: one lookup instead of four, in exchange
/// for elements that have to be loaded.
const PAIRS: usize = 512;

/// A pair of classes with at least so many verdicts on ranges has them by the destination port alone, should few kinds of source
/// ports tell them apart. The kernel puts a range into each field of an interval table as prefixes, and `1024-65535` is six of them.
const MANY: usize = 8;

/// Ports of DHCP servers and their clients. Their packets are looked at more closely, hence not found at once.
const DHCP: [u16; 4] = [67, 68, 546, 547];

/// The model with the tables that its program asks, made of those that [`lower`](crate::linux::lower) gives.
#[must_use]
pub fn joined(model: &Model) -> Model {
    let mut out = model.clone();
    single_ports(&mut out.rules);
    source_ports(&mut out.rules);
    if !model.gateway {
        contexts(&mut out.rules, &model.rules);
        pairs(&mut out.rules, &model.rules);
        ways(&mut out.rules);
        carried(&mut out.rules);
        told(&mut out.rules);
        arrivals::told(&mut out.rules);
    }
    out
}

type Entries = BTreeMap<Vec<Atom>, Entry>;

fn entries(rules: &Ruleset, table: Table) -> impl DoubleEndedIterator<Item = (&Vec<Atom>, &Entry)> {
    rules.tables.get(&table).into_iter().flatten()
}

/// On a node with endpoints, whoever may send as an endpoint speaks in its tenant's space, and so does what arrives for one:
/// (device, MAC, source) → context instead of two lookups, (device, destination, role) → context likewise.
fn contexts(out: &mut Ruleset, rules: &Ruleset) {
    let context = |device: &Atom, role: u32| -> Option<Atom> {
        let zone = rules.get(Table::Zone, std::slice::from_ref(device))?;
        // The space is the same for both directions.
        let [original, reply] = Direction::BOTH.map(|direction| {
            let key = [device.clone(), Atom::Mark(role), zone.clone(), Atom::Direction(direction)];
            rules.get(Table::Context, &key)
        });
        original.filter(|context| reply == Some(context)).cloned()
    };
    for (owner, from) in [
        (Table::Owner4, Table::From4),
        (Table::Owner6, Table::From6),
        (Table::Bare4, Table::FromBare4),
        (Table::Bare6, Table::FromBare6),
    ] {
        for (key, entry) in entries(rules, owner) {
            if let Some(context) = key.first().and_then(|device| context(device, 0)) {
                out.put(from, key.clone(), Some(context), entry.note.clone());
            }
        }
        out.tables.remove(&owner);
    }
    let mut roles: BTreeMap<&Atom, Vec<u32>> = BTreeMap::new();
    for (key, _) in entries(rules, Table::Context) {
        if let [device, Atom::Mark(role), _, Atom::Direction(Direction::Original)] = key.as_slice() {
            roles.entry(device).or_default().push(*role);
        }
    }
    for (here, land) in [(Table::Here4, Table::Land4), (Table::Here6, Table::Land6)] {
        for (key, entry) in entries(rules, here) {
            let [device, address] = key.as_slice() else { continue };
            for role in roles.get(device).into_iter().flatten() {
                let Some(context) = context(device, *role) else { continue };
                let key = vec![device.clone(), address.clone(), Atom::Mark(*role)];
                out.put(land, key, Some(context), entry.note.clone());
            }
        }
    }
    out.tables.remove(&Table::Context);
}

/// What is known of a packet by its device, and by its addresses if it is of a connection between them. In the direction of the
/// replies the connection's source is the packet's destination. `from` and `land` are as [`contexts`] made them.
///
/// SOUNDNESS: no node with endpoints translates, so that the addresses of a packet of a connection are those of its tuple; errors
/// about one, whose are not, do not come here (`program`).
fn pairs(out: &mut Ruleset, rules: &Ruleset) {
    for [src, dst, from, land, sends, lands] in [
        [Table::Src4, Table::Dst4, Table::From4, Table::Land4, Table::Out4, Table::In4],
        [Table::Src6, Table::Dst6, Table::From6, Table::Land6, Table::Out6, Table::In6],
    ] {
        let (sources, destinations) = (by_context(rules, src), by_context(rules, dst));
        let class = |source: &Atom, destination: &Atom| {
            rules.get(Table::Pair, &[destination.clone(), source.clone()]).cloned()
        };
        for (local, written) in [(from, sends), (land, lands)] {
            let mut found: BTreeMap<&Atom, Vec<Written>> = BTreeMap::new();
            for (key, entry) in entries(out, local) {
                let (Some(context), [device, rest @ ..]) = (&entry.value, key.as_slice()) else { continue };
                let Some(own) = rest.iter().find(|atom| matches!(atom, Atom::Address(..))) else { continue };
                let (Some(sources), Some(destinations)) = (sources.get(context), destinations.get(context))
                else {
                    continue;
                };
                let ours = found.entry(device).or_default();
                for direction in Direction::BOTH {
                    // Whether the endpoint here is the connection's source.
                    let opens = (local == from) == (direction == Direction::Original);
                    let (near, far) = if opens { (sources, destinations) } else { (destinations, sources) };
                    let Some((own_class, _)) = near.get(own) else { continue };
                    for (peer, (peer_class, note)) in far {
                        let pair =
                            if opens { class(own_class, peer_class) } else { class(peer_class, own_class) };
                        let Some(pair) = pair else { continue };
                        let direction = Atom::Direction(direction);
                        let key = match rest {
                            [mac, _] if local == from => {
                                vec![device.clone(), mac.clone(), own.clone(), (*peer).clone(), direction]
                            }
                            [_, role] => {
                                vec![device.clone(), (*peer).clone(), own.clone(), role.clone(), direction]
                            }
                            _ => continue,
                        };
                        ours.push((key, pair, format!("{}, {note}", entry.note)));
                    }
                }
            }
            let few = found.into_values().filter(|list| list.len() <= PAIRS);
            for (key, pair, note) in few.flatten().collect::<Vec<_>>() {
                out.put(written, key, Some(pair), note);
            }
        }
    }
}

/// Key, value and note of an entry.
type Written = (Vec<Atom>, Atom, String);

/// Address → class and note, by context.
type Ends<'r> = BTreeMap<&'r Atom, (&'r Atom, &'r str)>;

fn by_context(rules: &Ruleset, table: Table) -> BTreeMap<&Atom, Ends<'_>> {
    let mut out: BTreeMap<&Atom, Ends<'_>> = BTreeMap::new();
    for (key, entry) in entries(rules, table) {
        if let ([context, address], Some(class)) = (key.as_slice(), &entry.value) {
            out.entry(context).or_default().insert(address, (class, &entry.note));
        }
    }
    out
}

/// Where every verdict that forwards leads the same way in both directions, its routing mark by its number alone.
fn ways(rules: &mut Ruleset) {
    let mut ways = Entries::new();
    for (key, entry) in entries(rules, Table::Route) {
        let [verdict, Atom::Direction(_)] = key.as_slice() else { return };
        let both = Direction::BOTH
            .map(|direction| rules.get(Table::Route, &[verdict.clone(), Atom::Direction(direction)]));
        if both != [entry.value.as_ref(); 2] {
            return;
        }
        ways.insert(vec![verdict.clone()], entry.clone());
    }
    if !ways.is_empty() {
        rules.tables.remove(&Table::Route);
        rules.tables.insert(Table::Way, ways);
    }
}

/// Of single ports whose verdict forwards, and is counted for one rule: the rule's counter, by what the verdict is found by, and the
/// routing mark by the pair. A packet of a connection that is known then needs no verdict, hence none of the tables that
/// are as large as the policy but this one.
///
/// SOUNDNESS: what the program does with a verdict whose action is `go`, of a connection that has been let through, is to count and to set
/// the routing mark; so much holds of every verdict here. No verdict that refuses, steers to an instance or translates is here.
fn carried(rules: &mut Ruleset) {
    let (mut carried, mut leads) = (Entries::new(), BTreeMap::<&Atom, &Atom>::new());
    for (key, entry) in entries(rules, Table::Exact) {
        let (Some(pair), Some(verdict)) = (key.first(), entry.value.as_ref()) else { continue };
        let of = |table| rules.get(table, std::slice::from_ref(verdict));
        let forwards = matches!(of(Table::Action), Some(Atom::Chain(chain)) if chain == "go");
        let (Some(way), true, None) = (of(Table::Way), forwards, of(Table::Xlat)) else { continue };
        let ((Some(counter), None) | (None, Some(counter))) = (of(Table::EgressRule), of(Table::IngressRule))
        else {
            continue;
        };
        if *leads.entry(pair).or_insert(way) == way {
            carried.insert(key.clone(), Entry { value: Some(counter.clone()), note: entry.note.clone() });
        }
    }
    let notes: BTreeMap<&Atom, &str> = entries(rules, Table::Pair)
        .filter_map(|(_, entry)| Some((entry.value.as_ref()?, entry.note.as_str())))
        .rev()
        .collect();
    let leads: Entries = leads
        .into_iter()
        .map(|(pair, way)| {
            let note = notes.get(pair).copied().unwrap_or_default().to_owned();
            (vec![pair.clone()], Entry { value: Some(way.clone()), note })
        })
        .collect();
    for (table, entries) in [(Table::Carry, carried), (Table::Lead, leads)] {
        if !entries.is_empty() {
            rules.tables.insert(table, entries);
        }
    }
}

/// How many bits of a pair class are those of its tenant's routing mark.
const LED: [u32; 3] = [12, 16, 20];

/// Bits of a routing mark behind what all tenants' marks have.
fn behind(way: &Atom) -> Option<u32> {
    match way {
        Atom::Mark(mark) => mark.checked_sub(numbers::tenant_mark(0)).filter(|bits| bits & KIND == 0),
        _ => None,
    }
}

/// As many of the bits of a pair class as hold every tenant's routing mark here.
fn width(rules: &Ruleset) -> Option<u32> {
    let ways: Option<Vec<u32>> =
        entries(rules, Table::Way).map(|(_, entry)| entry.value.as_ref().and_then(behind)).collect();
    let most = ways?.into_iter().max()?;
    LED.into_iter().find(|width| most >> width == 0)
}

/// The bits of a pair class in the tables of [`joined`] that are those of its tenant's routing mark; `None`: `lead` has it.
#[must_use]
pub fn led(rules: &Ruleset) -> Option<u32> {
    let width = width(rules).filter(|_| !rules.has(Table::Lead))?;
    Some((1 << width) - 1)
}

/// Numbers the pair classes anew so that each tells the routing mark of its packets, and leaves out the table that says so. In steps of
/// a tenant's own, with the mark's bits below; nothing is done if that is more than fits under [`KIND`].
fn told(rules: &mut Ruleset) {
    let Some(width) = width(rules).filter(|_| rules.has(Table::Lead)) else { return };
    let pairs: BTreeSet<u32> = entries(rules, Table::Pair)
        .filter_map(|(_, entry)| match &entry.value {
            Some(Atom::Mark(pair)) => Some(*pair),
            _ => None,
        })
        .collect();
    let mut counts: BTreeMap<u32, u32> = BTreeMap::new();
    let mut numbered: BTreeMap<u32, u32> = BTreeMap::new();
    for pair in pairs {
        // No tenant's bits are zero: those of pairs that nothing is forwarded of.
        let bits = match rules.get(Table::Lead, &[Atom::Mark(pair)]) {
            Some(way) => behind(way),
            None => Some(0),
        };
        let Some(bits) = bits else { return };
        let count = counts.entry(bits).or_default();
        *count += 1;
        if *count >> (KIND.trailing_zeros() - width) != 0 {
            return;
        }
        numbered.insert(pair, PAIR | *count << width | bits);
    }
    let new = |atom: Atom| match atom {
        Atom::Mark(mark) => Atom::Mark(numbered.get(&mark).copied().unwrap_or(mark)),
        _ => atom,
    };
    rules.tables.remove(&Table::Lead);
    for entries in rules.tables.values_mut() {
        let renumbered = |(key, entry): (Vec<Atom>, Entry)| {
            (key.into_iter().map(new).collect(), Entry { value: entry.value.map(new), ..entry })
        };
        *entries = std::mem::take(entries).into_iter().map(renumbered).collect();
    }
}

/// Verdicts on one destination port, whatever the source port, in a table of their own.
fn single_ports(rules: &mut Ruleset) {
    let Some(all) = rules.tables.remove(&Table::Verdict) else { return };
    let (mut exact, mut ranges) = (Entries::new(), Entries::new());
    for (key, entry) in all {
        match single(&key) {
            Some(keys) => exact.extend(keys.into_iter().map(|key| (key, entry.clone()))),
            None => {
                ranges.insert(key, entry);
            }
        }
    }
    for (table, entries) in [(Table::Exact, exact), (Table::Verdict, ranges)] {
        if !entries.is_empty() {
            rules.tables.insert(table, entries);
        }
    }
}

/// Verdicts on ranges of destination ports without protocol and source port, which give a number first: (pair class, protocol, source
/// port) → number, (number, destination port) → verdict. The number is the pair's and one of its own, in the last eight bits.
fn source_ports(rules: &mut Ruleset) {
    let Some(all) = rules.tables.remove(&Table::Verdict) else { return };
    let mut pairs: BTreeMap<Atom, Vec<(Vec<Atom>, Entry)>> = BTreeMap::new();
    for (key, entry) in all {
        let Some(pair) = key.first().cloned() else { continue };
        pairs.entry(pair).or_default().push((key, entry));
    }
    for (pair, list) in pairs {
        let first = if let Atom::Mark(mark) = pair { Some((mark & !KIND) << 8) } else { None };
        match first.zip(numbered(&list)) {
            Some((first, cells)) => {
                for (number, (cell, inside)) in (first + 1..).zip(cells) {
                    let note = inside.first().map(|(_, entry)| entry.note.clone()).unwrap_or_default();
                    let note = if inside.len() > 1 { format!("{note}, and others") } else { note };
                    let [protocol, source] = cell.atoms();
                    let key = vec![pair.clone(), protocol, source];
                    rules.put(Table::FromPort, key, Some(Atom::Class(number)), note);
                    for (port, entry) in inside {
                        let key = vec![Atom::Class(number), port.clone()];
                        rules.put(Table::ToPort, key, entry.value.clone(), entry.note.clone());
                    }
                }
            }
            None => rules.tables.entry(Table::Verdict).or_default().extend(list),
        }
    }
}

/// Protocols and source ports that the verdicts of a pair do not tell apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Cell {
    protocol: (u8, u8),
    source: (u16, u16),
}

impl Cell {
    fn atoms(self) -> [Atom; 2] {
        [Atom::Proto(self.protocol.0, self.protocol.1), Atom::Port(self.source.0, self.source.1)]
    }
}

/// Destination ports and the verdict on them.
type Inside<'e> = Vec<(&'e Atom, &'e Entry)>;

/// The verdicts of one pair by at most 255 cells; `None`: they are few, would become more than twice as many, or hardly share a cell.
fn numbered(list: &[(Vec<Atom>, Entry)]) -> Option<BTreeMap<Cell, Inside<'_>>> {
    if list.len() < MANY {
        return None;
    }
    let mut protocols = BTreeSet::new();
    for (key, _) in list {
        let [_, Atom::Proto(first, last), ..] = key.as_slice() else { return None };
        protocols.extend([u16::from(*first), u16::from(*last) + 1]);
    }
    // Each protocol's own, where source ports begin or have ended.
    let mut sources: BTreeMap<(u16, u16), BTreeSet<u32>> = BTreeMap::new();
    for (key, _) in list {
        let [_, Atom::Proto(first, last), Atom::Port(from, to), _] = key.as_slice() else { return None };
        for protocol in pieces(&protocols, u16::from(*first), u16::from(*last)) {
            sources.entry(protocol).or_default().extend([u32::from(*from), u32::from(*to) + 1]);
        }
    }
    let most = list.len().saturating_mul(2);
    let most_cells = usize::from(u8::MAX).min(list.len() / 2);
    let mut cells: BTreeMap<Cell, Inside<'_>> = BTreeMap::new();
    let mut count = 0;
    for (key, entry) in list {
        let [_, Atom::Proto(first, last), Atom::Port(from, to), port] = key.as_slice() else { return None };
        for protocol in pieces(&protocols, u16::from(*first), u16::from(*last)) {
            for source in pieces(sources.get(&protocol)?, u32::from(*from), u32::from(*to)) {
                let cell = Cell {
                    protocol: (u8::try_from(protocol.0).ok()?, u8::try_from(protocol.1).ok()?),
                    source: (u16::try_from(source.0).ok()?, u16::try_from(source.1).ok()?),
                };
                cells.entry(cell).or_default().push((port, entry));
                count += 1;
                if count > most || cells.len() > most_cells {
                    return None;
                }
            }
        }
    }
    Some(cells)
}

/// What the cuts leave of `first..=last`, both of which they hold (the end as what comes after it).
fn pieces<N: Copy + Ord + From<u8> + std::ops::Sub<Output = N> + std::ops::Add<Output = N>>(
    cuts: &BTreeSet<N>,
    first: N,
    last: N,
) -> impl Iterator<Item = (N, N)> {
    let one = N::from(1);
    let ends = cuts.range(first + one..=last + one).copied();
    cuts.range(first..=last).copied().zip(ends).map(move |(from, next)| (from, next - one))
}

/// A verdict's key port by port, if it is for a few ports of one protocol.
fn single(key: &[Atom]) -> Option<Vec<Vec<Atom>>> {
    let [pair, Atom::Proto(protocol, last), Atom::Port(0, u16::MAX), Atom::Port(from, to)] = key else {
        return None;
    };
    let ports = *from..=*to;
    let few = protocol == last && to - from < FEW;
    if !few || (*protocol == proto::UDP && DHCP.iter().any(|port| ports.contains(port))) {
        return None;
    }
    // Of an error's protocol there are none: it shows another than what it is about.
    if !matches!(*protocol, proto::TCP | proto::UDP | proto::SCTP) {
        return None;
    }
    let one = |port| vec![pair.clone(), Atom::Proto(*protocol, *protocol), Atom::Port(port, port)];
    Some(ports.map(one).collect())
}
