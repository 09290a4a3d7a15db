//! What a generation looks like when it is installed and nothing else is there: a network namespace without a name, with
//! stand-ins for the node's devices, into which the generation's own `apply.sh` installs it.
//!
//! So no second reader of the artifacts exists that could read them otherwise than the kernel.

use super::snapshot::Snapshot;
use crate::command;
use crate::error::NodeError;
use crate::generation::{Devices, Generation, SCRIPT};
use crate::memo::Memo;
use nix::sched::{CloneFlags, unshare};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

/// Lines of a script's last words: a tool's, and its own.
const ENDING: usize = 3;

/// The state that a generation brings about.
pub(super) struct Expected {
    pub snapshot: Snapshot,
    /// Setting below `/proc/sys/net` → value.
    pub settings: BTreeMap<String, String>,
}

/// What a generation brings about under `suffix` and in `slot`. A call that mends compares several times with the same.
///
/// # Errors
/// As [`install`].
pub(super) fn expected(generation: &Generation, suffix: &str, slot: u8) -> Result<Arc<Expected>, NodeError> {
    static KNOWN: Memo<(String, String, u8), Expected> = Memo::new();
    KNOWN.get((generation.id.clone(), suffix.to_owned(), slot), || install(generation, suffix, slot))
}

/// Installs a generation in a network namespace of its own, under `suffix` and in `slot`.
///
/// # Errors
/// No namespace or stand-in can be made, or the generation is refused even here.
fn install(generation: &Generation, suffix: &str, slot: u8) -> Result<Expected, NodeError> {
    let folder = tempfile::tempdir().map_err(NodeError::io("cannot make a temporary folder"))?;
    generation.write(folder.path(), suffix)?;
    let devices = generation.devices();
    alone(|| {
        stand_ins(&devices)?;
        if slot == 1 {
            // As if a generation ran in slot 0.
            let base = folder.path().join("base.nft");
            command::output("nft", &["-f", &base.display().to_string()])?;
            let add = |what: &str| {
                let words: Vec<&str> = what.split(' ').collect();
                command::output("nft", &words)
            };
            add("add chain inet partywall raw_00000000")?;
            add("add rule inet partywall flip_raw meta mark set 0x00000000 goto raw_00000000")?;
        }
        let settings = run(folder.path())?;
        Ok(Expected { snapshot: Snapshot::take(&devices)?, settings })
    })
}

/// Runs `f` on a thread of its own in a network namespace of its own, which ends with it.
///
/// # Errors
/// There can be none, or `f` fails.
pub(crate) fn alone<T: Send>(f: impl FnOnce() -> Result<T, NodeError> + Send) -> Result<T, NodeError> {
    std::thread::scope(|scope| {
        let worker = scope.spawn(|| {
            unshare(CloneFlags::CLONE_NEWNET)
                .map_err(|e| NodeError::io("cannot make a network namespace (run as root)")(e.into()))?;
            f()
        });
        worker.join().unwrap_or(Err(NodeError::Worker))
    })
}

fn stand_ins(devices: &Devices) -> Result<(), NodeError> {
    let all = || devices.workloads.iter().chain(&devices.outside).chain(&devices.underlay);
    let mut lines = "link set dev lo up\n".to_owned();
    // Nothing here is to spend time on address checks.
    for scope in ["all", "default"] {
        for setting in ["accept_dad", "disable_ipv6"] {
            let _ = std::fs::write(format!("/proc/sys/net/ipv6/conf/{scope}/{setting}"), "0");
        }
    }
    let mut number = 0u32;
    for name in all() {
        let peer = loop {
            number += 1;
            let peer = format!("far{number}");
            if !all().any(|name| *name == peer) {
                break peer;
            }
        };
        let pair = format!("link add name {name} mtu 65535 type veth peer name {peer} mtu 65535\n");
        lines.push_str(&pair);
        for end in [name.as_str(), &peer] {
            lines.push_str(&format!("link set dev {end} up\n"));
        }
    }
    let file = tempfile::NamedTempFile::new().map_err(NodeError::io("cannot make a temporary file"))?;
    std::fs::write(file.path(), lines).map_err(NodeError::io("cannot write a temporary file"))?;
    command::output("ip", &["-batch", &file.path().display().to_string()]).map(drop)
}

/// Runs the script and reads from its trace which settings it makes.
fn run(folder: &Path) -> Result<BTreeMap<String, String>, NodeError> {
    let script = folder.join(SCRIPT);
    let ran = command::run("sh", &["-x", &script.display().to_string()], Some(folder), None)?;
    let traced = |line: &&str| line.starts_with('+');
    if !ran.success {
        // A value of several lines leaves more of itself in the trace than its first; what went wrong stands at the end.
        let said: Vec<&str> = ran.stderr.lines().filter(|line| !traced(line)).collect();
        let end = said.get(said.len().saturating_sub(ENDING)..).unwrap_or_default();
        return Err(NodeError::Refused {
            command: format!("{SCRIPT} in an empty network namespace"),
            message: command::one_line(&end.join(" ")),
        });
    }
    let mut settings = BTreeMap::new();
    for line in ran.stderr.lines().filter(traced) {
        let words: Vec<&str> = line.trim_start_matches('+').split_whitespace().collect();
        if let ["setting", key, value] = words.as_slice() {
            settings.insert(key.trim_matches('\'').to_owned(), value.trim_matches('\'').to_owned());
        }
    }
    // A script that sets nothing is none of ours: its settings would go unaudited.
    if settings.is_empty() {
        return Err(NodeError::Output { command: format!("sh -x {SCRIPT}"), what: "the trace".into() });
    }
    Ok(settings)
}
