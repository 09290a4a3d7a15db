//! What the kernel has, compared by meaning with what a generation's artifacts bring about.

mod compare;
mod programs;
mod rules;
pub(crate) mod scratch;
mod snapshot;

pub use compare::Difference;
pub(crate) use compare::Remedy;
pub(crate) use rules::running;
pub(crate) use snapshot::Snapshot;

use crate::ebpf::bring::Place;
use crate::error::NodeError;
use crate::generation::{Devices, Generation, Switch};
use crate::state::Entry;
use compare::Comparison;
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

/// The version of the document's form: a new minor version may add fields, a new major may change them.
const FORMAT_VERSION: &str = "1.1";

/// The result of an audit.
#[derive(Debug, Clone, Serialize)]
pub struct Audit {
    format_version: &'static str,
    pub node: String,
    /// The digest at the head of the node's files.
    pub generation: String,
    pub build: String,
    pub clean: bool,
    /// Sorted by kind and name.
    pub differences: Vec<Difference>,
    /// What answers admit beyond what the policy lets open a connection, where no state tells them from what only looks like them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub admits: Vec<String>,
    /// Of a switch: how many entries its files hold. Nothing that runs was compared.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub entries: Option<usize>,
}

impl Audit {
    fn new(generation: &Generation, differences: Vec<Difference>) -> Self {
        let entry = Entry::of(generation);
        Self {
            format_version: FORMAT_VERSION,
            node: entry.node,
            generation: entry.generation,
            build: entry.build,
            clean: differences.is_empty(),
            differences,
            admits: generation.admits(),
            entries: None,
        }
    }

    /// What can be said of a switch without asking it: that its files are whole, and what they admit.
    #[must_use]
    pub fn of_switch(switch: Switch) -> Self {
        let Switch { node, build, digest, entries, admits } = switch;
        let differences = Vec::new();
        Self {
            format_version: FORMAT_VERSION,
            node,
            generation: digest,
            build,
            clean: true,
            differences,
            admits,
            entries: Some(entries),
        }
    }

    /// For people: a line for each difference.
    #[must_use]
    pub fn text(&self) -> String {
        let mut out = String::new();
        for d in &self.differences {
            let _ = writeln!(out, "{d}");
        }
        for admitted in &self.admits {
            let _ = writeln!(out, "{}: admits {admitted}", self.node);
        }
        let short = self.generation.get(..8).unwrap_or_default();
        if let Some(entries) = self.entries {
            let _ = writeln!(
                out,
                "{}: the files of generation {short} are whole, with {entries} entries; what the switch has is for its controller to compare",
                self.node
            );
            return out;
        }
        let _ = match self.differences.len() {
            0 => writeln!(out, "{}: as generation {short} has it", self.node),
            1 => writeln!(out, "{}: 1 difference from generation {short}", self.node),
            n => writeln!(out, "{}: {n} differences from generation {short}", self.node),
        };
        out
    }

    /// # Errors
    /// Never for what an audit holds.
    pub fn json(&self) -> Result<String, serde_json::Error> {
        Ok(serde_json::to_string_pretty(self)? + "\n")
    }
}

/// Compares the network namespace of the calling thread with a generation. `older` are generations that were installed
/// here before: what they wrote onto devices that are not partywall's is known by them.
///
/// # Errors
/// A tool is missing or refuses, or no scratch namespace can be made.
pub fn audit(generation: &Generation, older: &[Generation]) -> Result<Audit, NodeError> {
    audit_at(generation, older, &Place::usual())
}

/// The same with programs and maps kept at another place than usual.
///
/// # Errors
/// As [`audit`].
pub fn audit_at(generation: &Generation, older: &[Generation], place: &Place) -> Result<Audit, NodeError> {
    if let Some(program) = generation.program() {
        return Ok(Audit::new(generation, crate::ebpf::audit::audit(place, program)?));
    }
    let devices = generation.devices();
    let Some((slot, suffix)) = running(&Snapshot::generation()?) else {
        return Ok(Audit::new(generation, vec![other(generation, None)]));
    };
    if suffix != generation.suffix() && suffix != generation.spare_suffix() {
        return Ok(Audit::new(generation, vec![other(generation, Some(&suffix))]));
    }
    // Side by side: this thread is the one inside the namespace that is asked about.
    let (live, expected) = std::thread::scope(|scope| {
        let expected = scope.spawn(|| scratch::expected(generation, &suffix, slot));
        let live = Snapshot::take(&devices);
        (live, expected.join().unwrap_or(Err(NodeError::Worker)))
    });
    let (live, expected) = (live?, expected?);
    let settings = settings(&expected.settings, &devices, &live);
    let lines: BTreeSet<String> = older.iter().flat_map(Generation::links).collect();
    let differences = Comparison::new(&expected, &live, &settings, &lines, &suffix).run(&devices.underlay);
    Ok(Audit::new(generation, differences))
}

fn other(generation: &Generation, found: Option<&str>) -> Difference {
    Difference {
        kind: "generation",
        what: "the one that runs".into(),
        expected: Some(generation.suffix().to_owned()),
        found: found.map(str::to_owned),
        mend: "partywall apply".into(),
        remedy: Remedy::Apply,
    }
}

/// The values that the kernel has now. A setting of a device that is not there is none.
fn settings(
    wanted: &BTreeMap<String, String>,
    devices: &Devices,
    live: &Snapshot,
) -> BTreeMap<String, String> {
    let absent = |key: &str| {
        let device = key.split('/').nth(2).unwrap_or_default();
        (devices.workloads.contains(device) || devices.outside.contains(device))
            && !live.groups.contains_key(device)
    };
    wanted
        .keys()
        .filter(|key| !absent(key))
        .filter_map(|key| {
            let value = std::fs::read_to_string(format!("/proc/sys/net/{key}")).ok()?;
            Some((key.clone(), value.trim().to_owned()))
        })
        .collect()
}
