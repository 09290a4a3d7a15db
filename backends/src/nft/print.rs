//! The text of a node's files.
//!
//! Everything is written with a stand-in for the generation, whose digest is then taken over the text and put in its
//! place: equal content is an equal generation, whatever else in the project changed.

use super::program::{self, Statements};
use super::{arp, base, fast, schema, script};
use crate::artifacts::Artifact;
use crate::iproute2::{self, Noted};
use crate::linux::Model;
use crate::linux::model::{Atom, Direction, Entry, Table, address_text};
use compiler::algebra::Family;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

/// Stands for the generation's digest; no name or path can hold it.
pub(super) const DIGEST: &str = "\u{1}digest\u{1}";
/// Stands for the suffix of the generation's names.
pub(super) const SUFFIX: &str = "\u{1}suffix\u{1}";

/// Elements of a table of intervals in one command. At the end of a message to the kernel, nft 1.0.6 changes the byte order of
/// a mark in such a key once too often, and the element is not found; of so few elements a message holds all.
const AT_ONCE: usize = 250;

/// The node's files.
pub(super) fn print(model: &Model) -> Vec<Artifact> {
    let model = &fast::joined(model);
    let drafts = [
        ("links.batch", links(model)),
        ("fdb.batch", fdb(model)),
        ("routes.batch", routes(model, Family::V4)),
        ("routes6.batch", routes(model, Family::V6)),
        ("base.nft", base::base(model)),
        ("stage.nft", stage(model)),
        ("commit.nft", base::commit(model)),
        ("sweep.nft", sweep(model)),
        ("apply.sh", script::apply(model)),
    ];
    seal(drafts.map(|(name, text)| (format!("nft/{name}"), name == "apply.sh", text)).to_vec())
}

/// Puts the generation's digest and suffix in the place of their stand-ins; files are (path, executable, text).
pub(super) fn seal(drafts: Vec<(String, bool, String)>) -> Vec<Artifact> {
    let mut hasher = blake3::Hasher::new();
    // Whatever order and folder the files are in.
    let mut named: Vec<(&str, &str)> = drafts
        .iter()
        .map(|(path, _, text)| (path.rsplit('/').next().unwrap_or(path), text.as_str()))
        .collect();
    named.sort_unstable();
    for (name, text) in named {
        hasher.update(name.as_bytes());
        hasher.update(&u64::try_from(text.len()).unwrap_or(u64::MAX).to_le_bytes());
        hasher.update(text.as_bytes());
    }
    let digest = hasher.finalize().to_hex();
    let suffix: String = digest.chars().take(8).collect();
    drafts
        .into_iter()
        .map(|(path, executable, text)| Artifact {
            path,
            executable,
            bytes: text.replace(DIGEST, &digest).replace(SUFFIX, &suffix).into_bytes(),
        })
        .collect()
}

/// The first line of every file.
pub(super) fn head(model: &Model, what: &str) -> String {
    format!("# partywall generation {DIGEST}\n# {}: {what}\n", model.node)
}

fn noted<T>(out: &mut String, items: &[Noted<T>], line: impl Fn(&T) -> String) {
    let mut last = "";
    for item in items {
        if item.note != last {
            let _ = writeln!(out, "# {}", item.note);
            last = &item.note;
        }
        let _ = writeln!(out, "{}", line(&item.what));
    }
}

fn links(model: &Model) -> String {
    let mut out = head(model, "devices, addresses and neighbours; for ip -batch, by way of apply.sh");
    noted(&mut out, &model.devices, iproute2::device_line);
    out
}

fn fdb(model: &Model) -> String {
    let mut out = head(model, "which router is behind which VTEP; for bridge -batch");
    noted(&mut out, &model.fdb, iproute2::fdb_line);
    out
}

fn routes(model: &Model, family: Family) -> String {
    let (which, tool) = match family {
        Family::V4 => ("IPv4", "ip -batch"),
        Family::V6 => ("IPv6", "ip -6 -batch"),
    };
    let mut out = head(
        model,
        &format!(
            "{which} tables and rules as in slot 0; slot 1's numbers are one higher; for {tool}, by way of apply.sh"
        ),
    );
    let tables = model.tables.values().filter(|list| list.iter().any(|r| r.what.family == family));
    if tables.count() > iproute2::FEW_TABLES {
        out.push_str("# the way to a rule among many\n");
        for line in iproute2::tree() {
            let _ = writeln!(out, "{line}");
        }
    }
    for (table, list) in &model.tables {
        let list: Vec<_> = list.iter().filter(|r| r.what.family == family).cloned().collect();
        if !list.is_empty() {
            noted(&mut out, &list, iproute2::route_line);
            let _ = writeln!(out, "{}", iproute2::rule_line(*table));
        }
    }
    out
}

/// The generation's sets, maps and chains; then the two maps that lead a slot to them.
fn stage(model: &Model) -> String {
    let mut out = head(model, "this generation's sets, maps and chains; for nft -D slot=0|1 -f");
    for admitted in &model.admitted {
        let _ = writeln!(out, "# admits {admitted}");
    }
    for (counter, origin) in counters(model) {
        let _ = writeln!(out, "add counter inet partywall {counter} # {origin}");
    }
    let mut more = String::new();
    for arp in [false, true] {
        let _ = writeln!(out, "table {} partywall {{", if arp { "arp" } else { "inet" });
        let chains = if arp { arp::chains(model) } else { program::chains(model) };
        // Chains that maps lead to must be known before; their rules come after the maps that they consult.
        for chain in chains.keys() {
            let _ = writeln!(out, "  chain {chain}_{SUFFIX} {{\n  }}");
        }
        for (table, entries) in &model.rules.tables {
            if schema::declared(*table).arp == arp && !entries.is_empty() {
                declare(&mut out, &mut more, model, *table, entries);
            }
        }
        print_chains(&mut out, &chains);
        out.push_str("}\n");
    }
    out.push_str(&more);
    for (map, chain) in program::slots(model) {
        let _ = writeln!(out, "add element inet partywall {map} {{ $slot : goto {chain}_{SUFFIX} }}");
    }
    out
}

/// The counters of rules with their origins, those of one pair of classes side by side: the kernel lays them out as they come, and the
/// packets of two hosts then touch few pages. Those that no single port has come last.
fn counters(model: &Model) -> impl Iterator<Item = (&String, &String)> {
    let carried = model.rules.tables.get(&Table::Carry).into_iter().flat_map(BTreeMap::values);
    let named = carried.filter_map(|entry| match &entry.value {
        Some(Atom::Counter(name)) => model.rules.counters.get_key_value(name),
        _ => None,
    });
    let mut seen = BTreeSet::new();
    named.chain(&model.rules.counters).filter(move |(name, _)| seen.insert(*name))
}

pub(super) fn print_chains(out: &mut String, chains: &BTreeMap<String, Statements>) {
    for (chain, statements) in chains {
        let _ = writeln!(out, "  chain {chain}_{SUFFIX} {{");
        for statement in statements {
            let _ = writeln!(out, "    {statement}");
        }
        out.push_str("  }\n");
    }
}

/// A table with its elements; `more` are those for which another command is needed, once all tables are declared.
fn declare(
    out: &mut String,
    more: &mut String,
    model: &Model,
    table: Table,
    entries: &BTreeMap<Vec<Atom>, Entry>,
) {
    let declared = schema::declared(table);
    let order = schema::order(&model.rules, table);
    let keys = declared.keys.replace("{vtep}", schema::outer(compiler::algebra::parse_addr(model.vtep).0));
    let (how, fields) = keys.split_once(' ').unwrap_or(("type", &keys));
    let fields: Vec<&str> = fields.split(" . ").collect();
    let keys = format!("{how} {}", schema::ordered(&fields, &order).join(" . "));
    let kind = if declared.value.is_some() { "map" } else { "set" };
    let _ = writeln!(out, "  {kind} {}_{SUFFIX} {{", declared.name);
    match declared.value {
        Some(value) => {
            let _ = writeln!(out, "    {keys} : {value}");
        }
        None => {
            let _ = writeln!(out, "    {keys}");
        }
    }
    if declared.interval {
        out.push_str("    flags interval\n");
    } else {
        // Knowing it, the kernel takes a plain hash table, which is faster than one that can grow.
        let _ = writeln!(out, "    size {}", entries.len());
    }
    out.push_str("    elements = {\n");
    let (slotted_key, slotted_value) = schema::slotted(table);
    let slotted = |mark: &Atom, slotted: bool| {
        let slot = if slotted && matches!(mark, Atom::Mark(_)) { " | $slot" } else { "" };
        atom(mark) + slot
    };
    let element = |(key, entry): (&Vec<Atom>, &Entry)| {
        let key: Vec<String> = key.iter().map(|field| slotted(field, slotted_key)).collect();
        let mut line = format!("      {}", schema::ordered(&key, &order).join(" . "));
        if let Some(value) = &entry.value {
            let _ = write!(line, " : {}", slotted(value, slotted_value));
        }
        line.push(',');
        if !entry.note.is_empty() {
            let _ = write!(line, " # {}", entry.note);
        }
        line.push('\n');
        line
    };
    let mut elements = entries.iter().map(element);
    let here = if declared.interval { AT_ONCE } else { entries.len() };
    out.extend(elements.by_ref().take(here));
    out.push_str("    }\n  }\n");
    let family = if declared.arp { "arp" } else { "inet" };
    for (at, line) in elements.enumerate() {
        if at % AT_ONCE == 0 {
            let end = if at == 0 { "" } else { "}\n" };
            let _ = writeln!(more, "{end}add element {family} partywall {}_{SUFFIX} {{", declared.name);
        }
        more.push_str(&line);
    }
    if declared.interval && entries.len() > AT_ONCE {
        more.push_str("}\n");
    }
}

/// An atom as nft writes it.
fn atom(atom: &Atom) -> String {
    let range = |lo: String, hi: String| if lo == hi { lo } else { format!("{lo}-{hi}") };
    match atom {
        Atom::Mark(mark) => format!("{mark:#010x}"),
        Atom::Class(class) => format!("{:x}:{:x}", class >> 16, class & 0xffff),
        Atom::Device(name) => format!("\"{name}\""),
        Atom::Address(family, lo, hi) => range(address_text(*family, *lo), address_text(*family, *hi)),
        Atom::Raw(Family::V4, lo, hi) => range(format!("{lo:#010x}"), format!("{hi:#010x}")),
        Atom::Raw(Family::V6, lo, hi) => range(format!("{lo:#034x}"), format!("{hi:#034x}")),
        Atom::Vtep(address) => address.to_string(),
        Atom::Mac([a, b, c, d, e, f]) => format!("{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{f:02x}"),
        Atom::Vni(vni) => vni.to_string(),
        Atom::Proto(lo, hi) => range(lo.to_string(), hi.to_string()),
        Atom::Port(lo, hi) => range(lo.to_string(), hi.to_string()),
        Atom::Direction(Direction::Original) => "original".into(),
        Atom::Direction(Direction::Reply) => "reply".into(),
        Atom::Zone(zone) => zone.to_string(),
        Atom::Counter(name) => format!("\"{name}\""),
        Atom::Chain(name) => format!("goto {name}_{SUFFIX}"),
        Atom::Call(name) => format!("jump {name}_{SUFFIX}"),
        Atom::Permanent(name) => format!("goto {name}"),
    }
}

/// Takes this generation away again, once no slot leads to it: what `apply.sh` runs when a later step fails.
fn sweep(model: &Model) -> String {
    let mut out = head(
        model,
        "takes this generation's objects away; apply.sh finds those of other generations by their names",
    );
    let tables: Vec<Table> =
        model.rules.tables.iter().filter(|(_, e)| !e.is_empty()).map(|(t, _)| *t).collect();
    for (map, _) in program::slots(model) {
        let _ = writeln!(out, "delete element inet partywall {map} {{ $slot }}");
    }
    for arp in [false, true] {
        let family = if arp { "arp" } else { "inet" };
        let chains = if arp { arp::chains(model) } else { program::chains(model) };
        for chain in chains.keys() {
            let _ = writeln!(out, "flush chain {family} partywall {chain}_{SUFFIX}");
        }
        let mine: Vec<_> = tables.iter().map(|t| schema::declared(*t)).filter(|d| d.arp == arp).collect();
        for declared in &mine {
            let kind = if declared.value.is_some() { "map" } else { "set" };
            let _ = writeln!(out, "delete {kind} {family} partywall {}_{SUFFIX}", declared.name);
        }
        for chain in chains.keys() {
            let _ = writeln!(out, "delete chain {family} partywall {chain}_{SUFFIX}");
        }
    }
    out
}
