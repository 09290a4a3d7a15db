//! The files of a node.

use super::entries::{Entry, Match};
use super::lower::Model;
use super::program::{CONTROL, Program, parse};
use super::{PROGRAM, Profile, info};
use crate::artifacts::Artifact;
use std::fmt::Write as _;

/// Updates in one WriteRequest: well below the 4 MB that gRPC takes by default.
const BATCH: usize = 10_000;

/// Priorities as BMv2's command line has them, where the smaller wins: this less ours.
pub(super) const BMV2_PRIORITY: u32 = 1 << 24;

/// The program for a UDP port and a kind of switch.
#[must_use]
pub(super) fn program(port: u16, profile: &Profile) -> String {
    let text =
        PROGRAM.replace("const bit<16> VXLAN_PORT = 4789;", &format!("const bit<16> VXLAN_PORT = {port};"));
    if profile.tables.is_empty() {
        return text;
    }
    let mut out = String::with_capacity(text.len());
    let mut size = None;
    for line in text.lines() {
        if let Some((_, table)) = line.split_once(" table ") {
            size = profile.tables.get(table.trim_end_matches(" {"));
        }
        match size.filter(|_| line.trim_start().starts_with("size = ")) {
            Some(size) => {
                let indent = line.len() - line.trim_start().len();
                let _ = writeln!(out, "{:indent$}size = {size};", "");
            }
            None => {
                let _ = writeln!(out, "{line}");
            }
        }
    }
    out
}

/// Comment lines that every file begins with; the generation is over everything that the node runs.
fn head(model: &Model, digest: &str, sign: &str) -> String {
    let mut out =
        format!("{sign} generation {digest} ({})\n{sign} node {}\n", model.entries.generation, model.node);
    for (device, port) in &model.ports {
        let _ = writeln!(out, "{sign} port {port} is {device}");
    }
    out
}

pub(super) fn print(model: &Model) -> Vec<Artifact> {
    let mut model = model.clone();
    let text = program(model.port, &model.profile);
    // INVARIANT: the text is the one that `P4::lower` has read.
    let Ok(program) = parse(&text) else { return Vec::new() };
    let mut hasher = blake3::Hasher::new();
    hasher.update(text.as_bytes());
    for (entry, note) in model.entries.iter() {
        hasher.update(format!("{entry:?} {note}\n").as_bytes());
    }
    let digest = hasher.finalize().to_hex().to_string();
    let number = u32::from_str_radix(digest.get(..8).unwrap_or_default(), 16).unwrap_or_default();
    // 0 is what a switch runs before it has entries.
    model.entries.renumber(u16::try_from(1 + number % 65_535).unwrap_or(1));
    let file = |path: &str, text: String| Artifact {
        path: format!("p4/{path}"),
        executable: false,
        bytes: text.into_bytes(),
    };
    let slashes = format!("// generation {digest}\n// node {}\n\n{text}", model.node);
    vec![
        file("bmv2.txt", bmv2(&model, &program, &digest)),
        file("entries.txtpb", entries(&model, &program, &digest)),
        file("partywall.p4", slashes),
        file("partywall.p4info.txtpb", format!("{}{}", head_short(&model, &digest), info::text(&program))),
    ]
}

fn head_short(model: &Model, digest: &str) -> String {
    format!("# generation {digest}\n# node {}\n", model.node)
}

/// An entry with what it is for.
type Noted = (Entry, String);

/// What refuses comes first: a server may reorder within a batch, and nothing may be let through before what excepts it.
fn ordered(model: &Model) -> (Vec<Noted>, Vec<Noted>) {
    let all = model.entries.iter().map(|(entry, note)| (entry, note.to_owned()));
    all.partition(|(entry, _)| matches!(entry.action.as_str(), "refuse" | "deny" | "unasked"))
}

fn entries(model: &Model, program: &Program, digest: &str) -> String {
    let mut out = head(model, digest, "#");
    for admitted in &model.admitted {
        let _ = writeln!(out, "# admits {admitted}");
    }
    let (refusals, others) = ordered(model);
    let mut batches: Vec<(&str, Vec<String>)> = Vec::new();
    for (name, list) in [("refusals", refusals), ("the rest", others)] {
        for chunk in list.chunks(BATCH) {
            batches.push((name, chunk.iter().map(|(entry, note)| update(program, entry, note)).collect()));
        }
    }
    batches.push(("the generation", vec![flip(model, program)]));
    let count = batches.len();
    for (at, (name, updates)) in batches.into_iter().enumerate() {
        let _ = writeln!(out, "# batch {} of {count}: {name}", at + 1);
        out.push_str("device_id: 1\nelection_id { low: 1 }\n");
        for update in updates {
            out.push_str(&update);
        }
    }
    out
}

/// One entry as an update.
fn update(program: &Program, entry: &Entry, note: &str) -> String {
    let mut out = String::new();
    if !note.is_empty() {
        let _ = writeln!(out, "# {note}");
    }
    let Some((_, table)) = program.table(&entry.table) else { return out };
    let _ = write!(out, "updates {{ type: INSERT entity {{ table_entry {{ table_id: {}", table.id);
    for (at, (field, found)) in table.keys.iter().zip(&entry.key).enumerate() {
        let id = at + 1;
        let _ = match *found {
            Match::Exact(value) => {
                write!(out, " match {{ field_id: {id} exact {{ value: {} }} }}", bytes(value))
            }
            // What matches everything is left away.
            Match::Lpm(_, 0) => Ok(()),
            Match::Lpm(value, bits) => {
                write!(
                    out,
                    " match {{ field_id: {id} lpm {{ value: {} prefix_len: {bits} }} }}",
                    bytes(value)
                )
            }
            Match::Range(0, hi) if hi == super::entries::max(field.width) => Ok(()),
            Match::Range(lo, hi) => {
                write!(out, " match {{ field_id: {id} range {{ low: {} high: {} }} }}", bytes(lo), bytes(hi))
            }
        };
    }
    out.push_str(&action(program, &entry.action, &entry.params));
    if entry.priority > 0 {
        let _ = write!(out, " priority: {}", entry.priority);
    }
    out.push_str(" } } }\n");
    out
}

fn action(program: &Program, name: &str, values: &[u128]) -> String {
    let Some((_, action)) = program.action(name) else { return String::new() };
    let mut out = format!(" action {{ action {{ action_id: {}", action.id);
    for (at, value) in values.iter().enumerate() {
        let _ = write!(out, " params {{ param_id: {} value: {} }}", at + 1, bytes(*value));
    }
    out.push_str(" } }");
    out
}

/// The one default action that puts a generation into force.
fn flip(model: &Model, program: &Program) -> String {
    let id = program.table("generation").map_or(0, |(_, t)| t.id);
    let action = action(program, "set_generation", &[u128::from(model.entries.generation)]);
    format!(
        "updates {{ type: MODIFY entity {{ table_entry {{ table_id: {id}{action} is_default_action: true }} }} }}\n"
    )
}

/// The shortest byte string of a value (P4Runtime 1.3, "Bytestrings"), quoted.
fn bytes(value: u128) -> String {
    let all = value.to_be_bytes();
    let skip = all.iter().take_while(|b| **b == 0).count().min(15);
    let mut out = String::from("\"");
    for byte in all.iter().skip(skip) {
        let _ = write!(out, "\\{byte:03o}");
    }
    out.push('"');
    out
}

fn bmv2(model: &Model, program: &Program, digest: &str) -> String {
    let mut out = head(model, digest, "#");
    let (refusals, others) = ordered(model);
    for (entry, note) in refusals.iter().chain(&others) {
        if !note.is_empty() {
            let _ = writeln!(out, "# {note}");
        }
        out.push_str(&command(program, entry));
    }
    let _ = writeln!(
        out,
        "table_set_default {CONTROL}.generation {CONTROL}.set_generation {}",
        model.entries.generation
    );
    out
}

fn command(program: &Program, entry: &Entry) -> String {
    let mut out = format!("table_add {CONTROL}.{} {CONTROL}.{}", entry.table, entry.action);
    let widths = program.table(&entry.table).map(|(_, t)| t.keys.iter().map(|k| k.width).collect());
    let widths: Vec<u8> = widths.unwrap_or_default();
    for (found, width) in entry.key.iter().zip(widths) {
        let _ = match *found {
            Match::Exact(value) => write!(out, " {}", literal(value, width)),
            Match::Lpm(value, bits) => write!(out, " {}/{bits}", literal(value, width)),
            Match::Range(lo, hi) => write!(out, " {lo}->{hi}"),
        };
    }
    out.push_str(" =>");
    for value in &entry.params {
        let _ = write!(out, " {value:#x}");
    }
    if entry.priority > 0 {
        let _ = write!(out, " {}", BMV2_PRIORITY.saturating_sub(entry.priority));
    }
    out.push('\n');
    out
}

/// Small numbers in decimal, addresses in hexadecimal.
fn literal(value: u128, width: u8) -> String {
    if width <= 24 { value.to_string() } else { format!("{value:#x}") }
}
