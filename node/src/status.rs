//! What a node runs, since when, and what its counters say.

use crate::audit::{self, Snapshot};
use crate::command;
use crate::ebpf::{bring, pins};
use crate::error::NodeError;
use crate::generation::Program;
use crate::state::{Entry, Record, State};
use serde::Serialize;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

#[derive(Debug, Clone, Serialize)]
pub struct Status {
    format_version: &'static str,
    /// The generation on record; absent where none was ever installed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub installed: Option<Installed>,
    /// Those that `rollback` can go back to, the latest first.
    pub earlier: Vec<Installed>,
    /// What a call set out to install and did not finish; the next `apply` does.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub interrupted: Option<Installed>,
    /// What the kernel has; absent where it has nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kernel: Option<Kernel>,
    /// By name; two names that one rule bears (in two views) are two.
    pub rules: Vec<Count>,
    /// By reason.
    pub drops: Vec<Count>,
}

#[derive(Debug, Clone, Serialize)]
pub struct Installed {
    pub node: String,
    pub project: String,
    pub generation: String,
    pub build: String,
    pub tool: String,
    /// Gateway nodes whose instances count as dead.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub down: BTreeSet<String>,
    /// RFC 3339, UTC.
    pub since: String,
}

#[derive(Debug, Clone, Serialize)]
pub struct Kernel {
    /// What the names of its generation end in.
    pub suffix: String,
    pub slot: u8,
    /// Whether it is the one on record.
    pub recorded: bool,
}

/// A counter.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Count {
    pub name: String,
    pub packets: u64,
    pub bytes: u64,
}

impl Installed {
    fn of(entry: &Entry) -> Self {
        let seconds = i64::try_from(entry.installed).unwrap_or_default();
        let since = jiff::Timestamp::from_second(seconds).map(|t| t.to_string()).unwrap_or_default();
        Self {
            node: entry.node.clone(),
            project: entry.project.clone(),
            generation: entry.generation.clone(),
            build: entry.build.clone(),
            tool: entry.tool.clone(),
            down: entry.down.clone(),
            since,
        }
    }
}

/// Reads the record and the network namespace of the calling thread, when no call is changing them.
///
/// # Errors
/// The record cannot be read, a call does not end, or a tool is missing or refuses.
pub fn status(state: &State) -> Result<Status, NodeError> {
    let _settled = state.settled()?;
    let record = state.read()?;
    let generation = record.current.as_ref().map(|entry| state.load(entry)).transpose()?;
    if let Some(generation) = &generation
        && let Some(program) = generation.program()
    {
        return ebpf(state, &record, program, &generation.names);
    }
    let snapshot = Snapshot::ruleset()?;
    let kernel = audit::running(&snapshot).map(|(slot, suffix)| Kernel {
        recorded: generation.as_ref().is_some_and(|g| suffix == g.suffix() || suffix == g.spare_suffix()),
        suffix,
        slot,
    });
    let names = generation.map(|g| g.names).unwrap_or_default();
    let (rules, drops) = if snapshot.has_table() { counters(&names)? } else { Default::default() };
    Ok(Status::new(&record, kernel, (rules, drops)))
}

/// The same of a node whose generation is of the eBPF target.
fn ebpf(
    state: &State,
    record: &Record,
    program: &Program,
    written: &BTreeMap<String, String>,
) -> Result<Status, NodeError> {
    let pins = &state.place().pins;
    let Some(running) = bring::running(state.place())? else {
        return Ok(Status::new(record, None, Default::default()));
    };
    let suffix = running.generation.as_deref().and_then(|digest| digest.get(..8)).unwrap_or("unknown");
    let kernel = Kernel {
        suffix: suffix.to_owned(),
        slot: u8::try_from(running.slot).unwrap_or_default(),
        recorded: running.generation.as_deref() == Some(&program.listing.generation),
    };
    let named = |names: &BTreeMap<u32, String>, counted: &BTreeMap<u32, pins::Count>| -> Vec<Count> {
        let mut out: Vec<Count> = names
            .iter()
            .map(|(number, name)| {
                let count = counted.get(number).copied().unwrap_or_default();
                let name = written
                    .get(name)
                    .map_or_else(|| name.strip_prefix("rule_").unwrap_or(name), String::as_str);
                Count { name: name.to_owned(), packets: count.packets, bytes: count.bytes }
            })
            .collect();
        out.sort_by(|a, b| a.name.cmp(&b.name));
        out
    };
    let listing = &program.listing;
    let counts = (named(&listing.rules, &pins::rules(pins)?), named(&listing.reasons, &pins::dropped(pins)?));
    Ok(Status::new(record, Some(kernel), counts))
}

fn counters(names: &BTreeMap<String, String>) -> Result<(Vec<Count>, Vec<Count>), NodeError> {
    let args = ["-j", "list", "counters", "table", "inet", "partywall"];
    let text = command::output("nft", &args)?;
    let document: Value = serde_json::from_str(&text).map_err(|_| NodeError::Output {
        command: command::shown("nft", &args),
        what: "its output".into(),
    })?;
    let (mut rules, mut drops) = (Vec::new(), Vec::new());
    let objects = document.get("nftables").and_then(Value::as_array).into_iter().flatten();
    for counter in objects.filter_map(|object| object.get("counter")) {
        let number = |field: &str| counter.get(field).and_then(Value::as_u64).unwrap_or_default();
        let emitted = counter.get("name").and_then(Value::as_str).unwrap_or_default();
        let (list, name) = if let Some(reason) = emitted.strip_prefix("drop_") {
            (&mut drops, reason.replace('_', "-"))
        } else if let Some(rule) = emitted.strip_prefix("rule_") {
            (&mut rules, names.get(emitted).cloned().unwrap_or_else(|| rule.to_owned()))
        } else {
            continue;
        };
        list.push(Count { name, packets: number("packets"), bytes: number("bytes") });
    }
    rules.sort_by(|a: &Count, b| a.name.cmp(&b.name));
    drops.sort_by(|a: &Count, b| a.name.cmp(&b.name));
    Ok((rules, drops))
}

impl Status {
    fn new(record: &Record, kernel: Option<Kernel>, (rules, drops): (Vec<Count>, Vec<Count>)) -> Self {
        Self {
            format_version: "1.0",
            installed: record.current.as_ref().map(Installed::of),
            earlier: record.earlier.iter().map(Installed::of).collect(),
            interrupted: record.pending.as_ref().map(|pending| Installed::of(&pending.to)),
            kernel,
            rules,
            drops,
        }
    }

    /// Whether the kernel runs what is on record.
    #[must_use]
    pub fn ok(&self) -> bool {
        match (&self.installed, &self.kernel) {
            (Some(_), Some(kernel)) => kernel.recorded && self.interrupted.is_none(),
            (None, None) => self.interrupted.is_none(),
            _ => false,
        }
    }

    /// For people.
    #[must_use]
    pub fn text(&self) -> String {
        let mut out = String::new();
        match &self.installed {
            None => out.push_str("nothing is installed; `partywall apply DIR` installs a generation\n"),
            Some(i) => {
                let _ = writeln!(out, "node        {} of {}", i.node, i.project);
                let _ = writeln!(out, "generation  {}", i.generation);
                let _ = writeln!(out, "build       {} (partywall {})", i.build, i.tool);
                let _ = writeln!(out, "since       {}", i.since);
                if !i.down.is_empty() {
                    let names: Vec<&str> = i.down.iter().map(String::as_str).collect();
                    let _ = writeln!(out, "down        {}", names.join(", "));
                }
            }
        }
        let kernel = match (&self.kernel, &self.installed) {
            (Some(k), Some(_)) if k.recorded => format!("runs it, in slot {}", k.slot),
            (Some(k), _) => format!("runs another generation, {}; `partywall apply` mends that", k.suffix),
            (None, Some(_)) => "runs no generation; `partywall apply` mends that".to_owned(),
            (None, None) => "runs none".to_owned(),
        };
        let _ = writeln!(out, "kernel      {kernel}");
        if let Some(pending) = &self.interrupted {
            let _ = writeln!(
                out,
                "interrupted while installing {} (begun {}); `partywall apply` finishes it",
                pending.generation, pending.since
            );
        }
        for earlier in &self.earlier {
            let _ = writeln!(out, "earlier     {} (since {})", earlier.generation, earlier.since);
        }
        for (title, counts) in [("rule", &self.rules), ("dropped because of", &self.drops)] {
            if !counts.is_empty() {
                let _ = writeln!(out, "\n{:>12} {:>15}  {title}", "packets", "bytes");
            }
            for count in counts {
                let _ = writeln!(out, "{:>12} {:>15}  {}", count.packets, count.bytes, count.name);
            }
        }
        out
    }

    /// # Errors
    /// Never for what a status holds.
    pub fn json(&self) -> Result<String, serde_json::Error> {
        Ok(serde_json::to_string_pretty(self)? + "\n")
    }
}
