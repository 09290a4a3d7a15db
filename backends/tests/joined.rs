//! The tables that the nft program asks answer as those that they are made of: for every combination of what occurs in
//! their keys, and of what is next to that.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stdout,
    dead_code,
    reason = "a test; it shares modules with others"
)]

mod common;
#[path = "../../tests/differential/generate.rs"]
mod generate;
#[path = "p4/random.rs"]
mod random;

use common::{Project, attempt, examples, folder, text};
use compiler::algebra::Family;
use compiler::packet::proto;
use partywall_backends::Backend as _;
use partywall_backends::linux::Model;
use partywall_backends::linux::model::{Atom, Direction, Entry, Ruleset, Table};
use partywall_backends::linux::numbers::{KIND, PAIR};
use partywall_backends::linux::walk::lookup;
use partywall_backends::nft::{Nft, joined, led};
use std::collections::{BTreeMap, BTreeSet};

/// Pairs of hosts of a device that are written out.
const PAIRS: usize = 512;

/// One way into a node with endpoints, in one family: by which tables a packet's addresses are judged.
struct Way {
    family: Family,
    /// From a workload with a declared MAC; else from the fabric.
    leaves: bool,
    /// Whose addresses are right, and the joined table of the same with the context.
    right: Table,
    context: Table,
    /// The joined table of pairs.
    pairs: Option<Table>,
}

const WAYS: [Way; 6] = [
    way(Family::V4, true, Table::Owner4, Table::From4, Some(Table::Out4)),
    way(Family::V6, true, Table::Owner6, Table::From6, Some(Table::Out6)),
    way(Family::V4, true, Table::Bare4, Table::FromBare4, None),
    way(Family::V6, true, Table::Bare6, Table::FromBare6, None),
    way(Family::V4, false, Table::Here4, Table::Land4, Some(Table::In4)),
    way(Family::V6, false, Table::Here6, Table::Land6, Some(Table::In6)),
];

const fn way(family: Family, leaves: bool, right: Table, context: Table, pairs: Option<Table>) -> Way {
    Way { family, leaves, right, context, pairs }
}

/// How much was compared, and how much of it was found.
#[derive(Debug, Default, Clone, Copy)]
struct Compared {
    contexts: u64,
    pairs: u64,
    verdicts: u64,
    /// Verdicts by a number for the source port.
    numbered: u64,
    /// Devices with more pairs than are written out.
    large: u64,
    /// Ports with the counter of their rule.
    carried: u64,
    /// Pairs that tell the routing mark, and pairs for which a table has it.
    told: u64,
    asked: u64,
    /// Roles with the number of a VNI.
    arrived: u64,
}

fn entries(rules: &Ruleset, table: Table) -> impl Iterator<Item = (&Vec<Atom>, &Entry)> {
    rules.tables.get(&table).into_iter().flatten()
}

/// What stands in one field of a table's keys.
fn field(rules: &Ruleset, table: Table, at: usize) -> BTreeSet<Atom> {
    entries(rules, table).filter_map(|(key, _)| key.get(at).cloned()).collect()
}

/// Single addresses, and those next to them.
fn around(addresses: impl IntoIterator<Item = Atom>) -> BTreeSet<Atom> {
    let near = |atom: Atom| {
        let Atom::Address(family, lo, hi) = atom else { panic!("{atom:?} is no address") };
        [lo.wrapping_sub(1), lo, hi, hi.wrapping_add(1)].map(|at| at & family.max()).map(|at| (family, at))
    };
    addresses.into_iter().flat_map(near).map(|(family, at)| Atom::Address(family, at, at)).collect()
}

/// As lowered: the context of what comes in by a device from a sender in this role, in this direction.
fn context(rules: &Ruleset, device: &Atom, role: &Atom, direction: Direction) -> Option<Atom> {
    let zone = rules.get(Table::Zone, std::slice::from_ref(device))?;
    let key = [device.clone(), role.clone(), zone.clone(), Atom::Direction(direction)];
    rules.get(Table::Context, &key).cloned()
}

/// As lowered: the class of the pair of ends of a connection, and whether both ends have entries of their own.
fn pair(rules: &Ruleset, family: Family, context: &Atom, src: &Atom, dst: &Atom) -> Option<(Atom, bool)> {
    let tables = match family {
        Family::V4 => [[Table::Src4, Table::SrcRange4], [Table::Dst4, Table::DstRange4]],
        Family::V6 => [[Table::Src6, Table::SrcRange6], [Table::Dst6, Table::DstRange6]],
    };
    let class = |[exact, range]: [Table; 2], address: &Atom| {
        let key = [context.clone(), address.clone()];
        let own = lookup(rules, exact, &key).map(|class| (class.clone(), true));
        own.or_else(|| Some((lookup(rules, range, &key)?.clone(), false)))
    };
    let ((src, one), (dst, other)) = (class(tables[0], src)?, class(tables[1], dst)?);
    Some((rules.get(Table::Pair, &[dst, src])?.clone(), one && other))
}

/// Everything about the addresses of packets that come this way.
fn compare_way(rules: &Ruleset, asked: &Ruleset, way: &Way, all: &BTreeSet<Atom>, seen: &mut Compared) {
    let absent = Atom::Device("absent".to_owned());
    let devices: BTreeSet<Atom> = field(rules, way.right, 0).into_iter().chain([absent]).collect();
    // What tells senders apart: their MAC, or the role of the node that the packet comes from.
    let with_mac = matches!(way.right, Table::Owner4 | Table::Owner6);
    let mut senders = if with_mac { field(rules, way.right, 1) } else { BTreeSet::new() };
    if with_mac {
        senders.insert(Atom::Mac([2, 9, 9, 9, 9, 9]));
    } else if !way.leaves {
        senders = field(rules, Table::Context, 1);
        senders.insert(Atom::Mark(0x00ff_ff00));
    } else {
        senders.insert(Atom::Mark(0));
    }
    for device in &devices {
        // How many pairs of this device could be written out, and how many are.
        let (mut could, mut are) = (0, 0);
        for (sender, own) in senders.iter().flat_map(|s| all.iter().map(move |own| (s, own))) {
            let (right, joined) = match (with_mac, way.leaves) {
                (true, _) => (vec![device.clone(), sender.clone(), own.clone()], None),
                (false, true) => (vec![device.clone(), own.clone()], None),
                (false, false) => {
                    let with_role = vec![device.clone(), own.clone(), sender.clone()];
                    (vec![device.clone(), own.clone()], Some(with_role))
                }
            };
            let is = asked.get(way.context, joined.as_ref().unwrap_or(&right));
            let holds = rules.tables.get(&way.right).is_some_and(|table| table.contains_key(&right));
            let role = if way.leaves { Atom::Mark(0) } else { sender.clone() };
            for direction in Direction::BOTH {
                let due = context(rules, device, &role, direction).filter(|_| holds);
                assert_eq!(is, due.as_ref(), "{:?} {right:?} {role:?} {direction:?}", way.context);
                seen.contexts += u64::from(due.is_some());
                let Some(table) = way.pairs else { continue };
                for peer in all {
                    // In the direction of the replies, the packet's destination opened the connection.
                    let (src, dst) = if way.leaves { (own, peer) } else { (peer, own) };
                    let opens = direction == Direction::Original;
                    let (from, to) = if opens { (src, dst) } else { (dst, src) };
                    let due = due.as_ref().and_then(|c| pair(rules, way.family, c, from, to));
                    let mut key = vec![device.clone()];
                    key.extend(way.leaves.then(|| sender.clone()));
                    key.extend([src.clone(), dst.clone()]);
                    key.extend((!way.leaves).then(|| sender.clone()));
                    key.push(Atom::Direction(direction));
                    let is = asked.get(table, &key);
                    could += usize::from(matches!(due, Some((_, true))));
                    are += usize::from(is.is_some());
                    if let Some(is) = is {
                        assert_eq!(Some(is), due.as_ref().map(|(pair, _)| pair), "{table:?} {key:?}");
                        seen.pairs += 1;
                    }
                }
            }
        }
        let due = if could <= PAIRS { could } else { 0 };
        assert_eq!(are, due, "{:?} of {device:?}: {could} could be written out", way.pairs);
        seen.large += u64::from(could > PAIRS);
    }
}

/// Verdicts on protocols and ports.
fn compare_verdicts(rules: &Ruleset, asked: &Ruleset, seen: &mut Compared) {
    let mut by_pair: BTreeMap<&Atom, [BTreeSet<u16>; 3]> = BTreeMap::new();
    for (key, _) in entries(rules, Table::Verdict) {
        let [pair, Atom::Proto(first, last), Atom::Port(a, b), Atom::Port(c, d)] = key.as_slice() else {
            panic!("{key:?}")
        };
        let of = by_pair.entry(pair).or_default();
        for (edges, (lo, hi)) in
            of.iter_mut().zip([(u16::from(*first), u16::from(*last)), (*a, *b), (*c, *d)])
        {
            edges.extend([lo.saturating_sub(1), lo, hi, hi.saturating_add(1)]);
        }
    }
    let nobody = (Atom::Mark(u32::MAX), [BTreeSet::from([6]), BTreeSet::from([0]), BTreeSet::from([443])]);
    let nobody = (&nobody.0, nobody.1.clone());
    for (pair, [protocols, sources, ports]) in by_pair.into_iter().chain([nobody]) {
        for protocol in protocols.into_iter().filter_map(|p| u8::try_from(p).ok()) {
            for (x, y) in sources.iter().flat_map(|x| ports.iter().map(move |y| (*x, *y))) {
                let (proto, port) = (Atom::Proto(protocol, protocol), |at| Atom::Port(at, at));
                let whole = [pair.clone(), proto.clone(), port(x), port(y)];
                let due = lookup(rules, Table::Verdict, &whole);
                let exact = asked.get(Table::Exact, &[pair.clone(), proto.clone(), port(y)]);
                let number = lookup(asked, Table::FromPort, &[pair.clone(), proto, port(x)]);
                let numbered = number.and_then(|n| lookup(asked, Table::ToPort, &[n.clone(), port(y)]));
                seen.numbered += u64::from(numbered.is_some());
                // The second of two rules is asked even where the first one found half of what it asks for.
                let is = exact.or(numbered).or_else(|| lookup(asked, Table::Verdict, &whole));
                assert_eq!(is, due, "{pair:?}, protocol {protocol}, {x} to {y}");
                seen.verdicts += u64::from(due.is_some());
            }
        }
    }
    for (key, _) in entries(asked, Table::Exact) {
        let [_, Atom::Proto(protocol, last), Atom::Port(port, end)] = key.as_slice() else {
            panic!("{key:?}")
        };
        assert!(protocol == last && port == end);
        assert!([proto::TCP, proto::UDP, proto::SCTP].contains(protocol), "{key:?}");
        // What looks like a server of DHCP is looked at more closely.
        assert!(*protocol != proto::UDP || ![67, 68, 546, 547].contains(port), "{key:?}");
    }
}

/// What became of other tables, and which are the program's own.
fn compare_rest(rules: &Ruleset, asked: &Ruleset, gateway: bool) {
    let made = |table: &Table| {
        *table >= Table::From4 && *table <= Table::Arrived || *table == Table::Verdict && rules.has(*table)
    };
    let mut gone = BTreeSet::new();
    if !gateway {
        gone.extend([Table::Owner4, Table::Owner6, Table::Bare4, Table::Bare6, Table::Context, Table::Route]);
    }
    for (table, entries) in rules.tables.iter().filter(|(table, _)| !made(table)) {
        assert_ne!(asked.tables.contains_key(table), gone.contains(table), "{table:?}");
        assert!(gone.contains(table) || asked.tables.get(table) == Some(entries), "{table:?}");
    }
    assert!(asked.tables.keys().all(|table| made(table) || rules.tables.contains_key(table)));
    assert!(asked.contradictions.is_empty(), "{:?}", asked.contradictions);
}

/// The pair classes as they were numbered before, by what they are now.
fn renumbered(rules: &Ruleset, asked: &Ruleset) -> BTreeMap<Atom, Atom> {
    let pairs = entries(asked, Table::Pair).map(|(key, entry)| (key, entry.value.as_ref().unwrap()));
    let known: BTreeMap<Atom, Atom> =
        pairs.map(|(key, new)| (new.clone(), rules.get(Table::Pair, key).unwrap().clone())).collect();
    let before: BTreeSet<&Atom> = known.values().collect();
    assert_eq!(before.len(), known.len(), "two pair classes became one, or one became two");
    assert_eq!(before, entries(rules, Table::Pair).filter_map(|(_, entry)| entry.value.as_ref()).collect());
    for class in known.keys() {
        assert!(matches!(class, Atom::Mark(mark) if mark & KIND == PAIR), "{class:?}");
    }
    known
}

/// The tables with the numbers of before.
fn with_numbers_of_before(asked: &Ruleset, before: &BTreeMap<Atom, Atom>) -> Ruleset {
    let old = |atom: &Atom| before.get(atom).unwrap_or(atom).clone();
    let mut out = asked.clone();
    for entries in out.tables.values_mut() {
        *entries = entries
            .iter()
            .map(|(key, entry)| {
                let value = entry.value.as_ref().map(old);
                (key.iter().map(old).collect(), Entry { value, note: entry.note.clone() })
            })
            .collect();
    }
    out
}

/// Puts the devices back that the roles tell by their VNI, and the roles as they were: each tells the device that it is
/// asked with, or whose VNI it is given for, and the zone of its packets is that of the device.
fn with_devices(rules: &Ruleset, asked: &mut Ruleset, seen: &mut Compared) {
    let vnis = field(rules, Table::Vnis, 0);
    let split = |role: u32| {
        let vni = role >> 6 & 0xff_ffff;
        assert!(role >> 30 == 2 && vnis.contains(&Atom::Vni(vni)), "{role:#x}");
        (vni, Atom::Device(format!("pwv{vni}")), Atom::Mark(0x0800_0000 | role & 0x3f))
    };
    for table in [Table::Legit4, Table::Legit6, Table::LegitRange4, Table::LegitRange6] {
        for (key, entry) in asked.tables.get_mut(&table).into_iter().flatten() {
            let Some(Atom::Mark(role)) = entry.value else { panic!("{key:?}") };
            let (vni, _, role) = split(role);
            assert_eq!(key[1], Atom::Vni(vni));
            entry.value = Some(role);
        }
    }
    let mut due = BTreeSet::new();
    for table in [Table::In4, Table::In6, Table::Land4, Table::Land6, Table::Back] {
        let Some(entries) = asked.tables.remove(&table) else { continue };
        let put_back = |(mut key, entry): (Vec<Atom>, Entry)| {
            let at = key.iter().position(|atom| matches!(atom, Atom::Mark(_))).unwrap();
            let Atom::Mark(mark) = key[at] else { panic!("{key:?}") };
            let (_, device, role) = split(mark);
            due.insert(mark);
            key[at] = role;
            if matches!(table, Table::In4 | Table::In6) {
                key.insert(0, device);
            } else {
                assert_eq!(key[0], device, "{table:?} {key:?}");
            }
            (key, entry)
        };
        let entries = entries.into_iter().map(put_back).collect();
        asked.tables.insert(table, entries);
    }
    let zoned: BTreeSet<u32> = entries(asked, Table::Arrived)
        .map(|(key, entry)| {
            let Atom::Mark(role) = key[0] else { panic!("{key:?}") };
            assert_eq!(entry.value.as_ref(), rules.get(Table::Zone, &[split(role).1]), "{role:#x}");
            role
        })
        .collect();
    assert_eq!(zoned, due);
    seen.arrived += due.len() as u64;
}

/// What is counted and forwarded without a verdict is what the verdict on it forwards and counts, in both directions, and all of that
/// if its pair leads one way; the routing mark by the verdict alone is the one that it has in either direction.
fn compare_carried(rules: &Ruleset, asked: &Ruleset, before: &BTreeMap<Atom, Atom>, seen: &mut Compared) {
    let route = |verdict: &Atom| {
        let [original, reply] = Direction::BOTH
            .map(|direction| rules.get(Table::Route, &[verdict.clone(), Atom::Direction(direction)]));
        assert_eq!(original, reply, "{verdict:?}");
        original
    };
    for (key, entry) in entries(asked, Table::Way) {
        assert_eq!(entry.value.as_ref(), route(&key[0]), "{key:?}");
    }
    let routed: BTreeSet<Atom> = field(rules, Table::Route, 0);
    assert_eq!(field(asked, Table::Way, 0), routed);
    // The counter of what only forwards, and its way.
    let due = |verdict: &Atom| {
        let of = |table| rules.get(table, std::slice::from_ref(verdict));
        let goes = of(Table::Action) == Some(&Atom::Chain("go".to_owned())) && of(Table::Xlat).is_none();
        let counters: Vec<&Atom> =
            [Table::EgressRule, Table::IngressRule].into_iter().filter_map(of).collect();
        match counters.as_slice() {
            [counter] if goes => Some(((*counter).clone(), route(verdict)?.clone())),
            _ => None,
        }
    };
    let mut ways: BTreeMap<&Atom, Atom> = BTreeMap::new();
    for (key, entry) in entries(asked, Table::Carry) {
        let [pair, proto, port] = key.as_slice() else { panic!("{key:?}") };
        for source in [0, 1024, u16::MAX] {
            let whole = [before[pair].clone(), proto.clone(), Atom::Port(source, source), port.clone()];
            let (counter, way) = due(lookup(rules, Table::Verdict, &whole).unwrap()).unwrap();
            assert_eq!(Some(&counter), entry.value.as_ref(), "{key:?}");
            assert_eq!(*ways.entry(pair).or_insert_with(|| way.clone()), way, "{key:?}");
        }
        seen.carried += 1;
    }
    for (pair, way) in &ways {
        let (Atom::Mark(class), Atom::Mark(way)) = (pair, way) else { panic!("{pair:?} {way:?}") };
        match led(asked) {
            Some(bits) => {
                assert_eq!(class & bits | 0x5000_0000, *way, "{pair:?}");
                seen.told += 1;
            }
            None => {
                assert_eq!(asked.get(Table::Lead, &[(*pair).clone()]), Some(&Atom::Mark(*way)));
                seen.asked += 1;
            }
        }
        assert_eq!(way & 1, 0, "the slot's bit is free");
    }
    for (key, entry) in entries(asked, Table::Exact) {
        let carried = asked.get(Table::Carry, key).is_some();
        let due = due(entry.value.as_ref().unwrap());
        assert_eq!(carried, due.is_some_and(|(_, way)| ways.get(&key[0]) == Some(&way)), "{key:?}");
    }
}

fn compare(model: &Model, seen: &mut Compared) {
    let asked = joined(model);
    let rules = &model.rules;
    let before = renumbered(rules, &asked.rules);
    if !model.gateway {
        compare_carried(rules, &asked.rules, &before, seen);
    }
    let mut asked = with_numbers_of_before(&asked.rules, &before);
    if !model.gateway {
        with_devices(rules, &mut asked, seen);
    }
    let asked = &asked;
    compare_rest(rules, asked, model.gateway);
    compare_verdicts(rules, asked, seen);
    if model.gateway {
        return;
    }
    for way in &WAYS {
        let tables = match way.family {
            Family::V4 => [Table::Src4, Table::Dst4, Table::SrcRange4, Table::DstRange4],
            Family::V6 => [Table::Src6, Table::Dst6, Table::SrcRange6, Table::DstRange6],
        };
        let ends = tables.into_iter().flat_map(|table| field(rules, table, 1));
        let at = if matches!(way.right, Table::Owner4 | Table::Owner6) { 2 } else { 1 };
        compare_way(rules, asked, way, &around(ends.chain(field(rules, way.right, at))), seen);
    }
}

/// All nodes of a project. `false`: the target cannot express it.
fn compare_all(project: &Project, seen: &mut Compared) -> bool {
    let c = &project.compiled;
    let models: Result<Vec<Model>, _> =
        c.model.nodes.ids().map(|id| Nft.lower(c, &project.sources, id, &[])).collect();
    let Ok(models) = models else { return false };
    models.iter().for_each(|model| compare(model, seen));
    true
}

fn random(seeds: std::ops::Range<u64>, text: impl Fn(u64) -> String) -> (Compared, usize) {
    let (mut seen, mut projects) = (Compared::default(), 0);
    for seed in seeds {
        let files = [("main.pw".to_owned(), text(seed))];
        if let Ok(project) = attempt(&files) {
            projects += usize::from(compare_all(&project, &mut seen));
        }
    }
    println!("{projects} projects: {seen:?}");
    (seen, projects)
}

#[test]
fn tables_of_random_projects_answer_as_those_they_are_made_of() {
    let (seen, projects) = random(0..60, generate::project);
    assert!(projects >= 15, "{projects} projects");
    assert!(seen.contexts > 100 && seen.pairs > 100 && seen.verdicts > 1_000, "{seen:?}");
    assert!(seen.carried > 100 && seen.told > 20 && seen.arrived > 20, "{seen:?}");
}

#[test]
fn tables_of_random_stateless_projects_answer_as_those_they_are_made_of() {
    let (seen, projects) = random(0..25, random::project);
    assert!(projects >= 10, "{projects} projects");
    assert!(seen.contexts > 100 && seen.pairs > 100 && seen.verdicts > 1_000, "{seen:?}");
}

#[test]
fn tables_of_the_datacenter_answer_as_those_they_are_made_of() {
    let mut seen = Compared::default();
    assert!(compare_all(&folder(&examples().join("02-datacenter")), &mut seen));
    assert!(seen.contexts > 100 && seen.pairs > 100 && seen.verdicts > 1_000, "{seen:?}");
}

/// Many ranges of destination ports behind few kinds of source ports, overlapping ones among them, beside a pair in which each range
/// has source ports of its own.
#[test]
fn ranges_behind_few_kinds_of_source_ports_are_found_by_a_number() {
    let ranges = |from: u32| {
        (0..20).map(|n| format!("{}..{}", from + 100 * n, from + 100 * n + 40)).collect::<Vec<_>>().join(", ")
    };
    let each =
        |n: u32| format!("tcp/{}..{} from {}..{}", 9000 + 50 * n, 9030 + 50 * n, 1000 * n, 1000 * n + 999);
    let text = text(&format!(
        r#"
fabric f {{ encap vxlan port 4789 underlay mtu 9000 family ipv4 precedence top > base unknown-vni drop }}
node c1 {{ vtep 192.0.2.11 dev eth0 }}
node c2 {{ vtep 192.0.2.12 dev eth0 }}
tenant a id 1 {{ segment s vni 10 {{ 10.0.0.0/24, fd00::/64 }} segment t vni 11 {{ 10.0.1.0/24 }} }}
endpoint one in a.s {{ at 10.0.0.5, fd00::5 mac 02:00:00:00:00:01 on c1 dev one }}
endpoint two in a.s {{ at 10.0.0.6, fd00::6 mac 02:00:00:00:00:02 on c2 dev two }}
endpoint three in a.t {{ at 10.0.1.7 mac 02:00:00:00:00:03 on c1 dev three }}
policy p in top {{
  deny a.s -> a.s : tcp/{{{}}} from 1024..65535
  allow a.s -> a.s : tcp | udp/{{{}}} from {{53, 1024..2047}} | udp/{{{}}} from 2000..3000 | icmp
  allow a.s -> a.t : {}
}}
"#,
        ranges(10_000),
        ranges(20_000),
        ranges(20_050),
        (0..24).map(each).collect::<Vec<_>>().join(" | "),
    ));
    let mut seen = Compared::default();
    assert!(compare_all(&text, &mut seen));
    assert!(seen.numbered > 1_000 && seen.verdicts > 2 * seen.numbered / 3, "{seen:?}");
    // The other pair's are found as they were.
    let c = &text.compiled;
    for id in c.model.nodes.ids() {
        let model = joined(&Nft.lower(c, &text.sources, id, &[]).unwrap());
        let [plain, numbered] = [Table::Verdict, Table::FromPort].map(|t| field(&model.rules, t, 0));
        assert!(plain.is_disjoint(&numbered) && !numbered.is_empty(), "{plain:?} {numbered:?}");
        assert!(entries(&model.rules, Table::Verdict).count() >= 24);
        let had = entries(&Nft.lower(c, &text.sources, id, &[]).unwrap().rules, Table::Verdict).count();
        let has = [Table::Verdict, Table::FromPort, Table::ToPort, Table::Exact]
            .map(|t| entries(&model.rules, t).count());
        println!("{had} verdicts: {has:?}");
    }
}

/// One device with more pairs of hosts than are written out beside one with few.
#[test]
fn a_device_with_many_pairs_has_none_written_out() {
    let list = |from: u32, to: u32| {
        (from..to).map(|n| format!("10.0.0.{n}, fd00::{n}")).collect::<Vec<_>>().join(", ")
    };
    let text = text(&format!(
        r#"
fabric f {{ encap vxlan port 4789 underlay mtu 9000 family ipv4 precedence base unknown-vni drop }}
node c1 {{ vtep 192.0.2.11 dev eth0 }}
node c2 {{ vtep 192.0.2.12 dev eth0 }}
tenant a id 1 {{ segment s vni 10 {{ 10.0.0.0/24, fd00::/64 }} }}
endpoint many in a.s {{ at {} mac 02:00:00:00:00:01 on c1 dev many }}
endpoint others in a.s {{ at {} mac 02:00:00:00:00:02 on c2 dev others }}
endpoint one in a.s {{ at 10.0.0.99 mac 02:00:00:00:00:03 on c1 dev one }}
policy p in base {{ allow same-tenant : tcp/443 | udp/{{53, 67, 546}} | sctp | tcp/1000..1015 | tcp/2000..2016 from 1024..65535 }}
"#,
        list(10, 26),
        list(40, 56),
    ));
    let mut seen = Compared::default();
    assert!(compare_all(&text, &mut seen));
    assert!(seen.large > 0 && seen.pairs > 0, "{seen:?}");
}

/// Two tenants on one node, one of which has an id so high that its routing mark leaves no room for a pair's number.
#[test]
fn the_way_of_a_tenant_with_a_high_id_is_in_a_table() {
    let project = |id: u32| {
        text(&format!(
            r#"
fabric f {{ encap vxlan port 4789 underlay mtu 9000 family ipv4 precedence base unknown-vni drop }}
node c1 {{ vtep 192.0.2.11 dev eth0 }}
node c2 {{ vtep 192.0.2.12 dev eth0 }}
tenant a id 1 {{ segment s vni 10 {{ 10.0.0.0/24 }} }}
tenant b id {id} {{ segment s vni 11 {{ 10.0.0.0/24 }} }}
endpoint a1 in a.s {{ at 10.0.0.5 mac 02:00:00:00:00:01 on c1 dev a1 }}
endpoint a2 in a.s {{ at 10.0.0.6 mac 02:00:00:00:00:02 on c2 dev a2 }}
endpoint b1 in b.s {{ at 10.0.0.5 mac 02:00:00:00:00:03 on c1 dev b1 }}
endpoint b2 in b.s {{ at 10.0.0.6 mac 02:00:00:00:00:04 on c2 dev b2 }}
policy p in base {{ allow same-tenant : tcp/443 | udp/53 }}
"#
        ))
    };
    for (id, told) in [(2, true), (16_777_215, false)] {
        let mut seen = Compared::default();
        assert!(compare_all(&project(id), &mut seen));
        assert!(seen.carried > 0 && (seen.told > 0) == told && (seen.asked > 0) != told, "{seen:?}");
    }
}
