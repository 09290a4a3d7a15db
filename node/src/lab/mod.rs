//! The lab: a network namespace per node, endpoint and external of a project, one for the underlay between the nodes,
//! and in each node the artifacts emitted for it, applied by their own script.
//!
//! Everything that a lab makes lives inside namespaces whose names begin with the lab's prefix, so removing those
//! removes all of it, whatever step an interrupted [`up`] had reached.

mod build;
pub(crate) mod ebpf;
mod error;
mod netns;
mod preflight;
pub mod probe;
mod tool;
pub mod topology;

pub use error::{LabError, Missing};
pub use preflight::preflight;
pub use probe::{ProbeOptions, ProbeReport, probe};

use compiler::Compiled;
use compiler::ids::NodeId;
use std::path::Path;
use topology::Topology;

#[derive(Debug, Clone)]
pub struct LabOptions {
    /// What tells this lab from others on the machine, such as the project's canonical path.
    pub project: String,
}

/// A lab that is up.
#[derive(Debug, Clone)]
pub struct Lab {
    pub topology: Topology,
    /// Nodes that are unplugged from the underlay, ascending.
    pub down: Vec<NodeId>,
}

impl Lab {
    /// Unplugs a node from the underlay: to the others it is dead. The lab remembers it.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn unplug(&mut self, node: NodeId) -> Result<(), LabError> {
        build::plugged(&self.topology, node, false)?;
        self.down = build::unplugged(&self.topology)?;
        Ok(())
    }

    /// Plugs a node in again.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn plug(&mut self, node: NodeId) -> Result<(), LabError> {
        build::plugged(&self.topology, node, true)?;
        self.down = build::unplugged(&self.topology)?;
        Ok(())
    }

    /// Runs one node's script again, with whatever artifacts: a reload, or a node with another generation than the others.
    ///
    /// # Errors
    /// There is no such script, or it fails.
    pub fn apply(&self, c: &Compiled, node: NodeId, artifacts: &Path) -> Result<(), LabError> {
        let place = self.topology.node(node).ok_or(LabError::Worker)?;
        build::apply_one(c, place, artifacts)
    }
}

/// Builds the lab of a project and applies the artifacts in `artifacts` (`<node>/nft/apply.sh`, or `<node>/ebpf/load.sh` where only that is there). A lab of the same
/// project that is already there, whole or in part, is replaced.
///
/// # Errors
/// The machine lacks something ([`LabError::Missing`] says what), an artifact is missing, or a step is refused. Then
/// nothing of the lab is left, unless removing it fails too.
pub fn up(c: &Compiled, artifacts: &Path, options: &LabOptions) -> Result<Lab, LabError> {
    let topology = Topology::new(c, &options.project)?;
    let missing = preflight(c);
    if !missing.is_empty() {
        return Err(LabError::Missing(missing));
    }
    build::scripts(c, &topology, artifacts)?;
    down(options)?;
    let built = build::build(&topology)
        .and_then(|()| build::apply(c, &topology, artifacts))
        .and_then(|()| build::seal(c, &topology));
    match built {
        Ok(()) => Ok(Lab { topology, down: Vec::new() }),
        Err(error) => {
            // The first error is the one to report; what could not be removed is found by the next `up` or `down`.
            let _ = down(options);
            Err(error)
        }
    }
}

/// Finds the lab of a project that is up.
///
/// # Errors
/// It is not, or only in part, or the project has changed since.
pub fn open(c: &Compiled, options: &LabOptions) -> Result<Lab, LabError> {
    let topology = Topology::new(c, &options.project)?;
    let there = netns::list(&format!("{}-", topology.prefix))?;
    let missing: Vec<&str> = topology
        .namespaces()
        .into_iter()
        .filter(|n| there.binary_search_by(|t| t.as_str().cmp(n)).is_err())
        .collect();
    if let Some(first) = missing.first() {
        return Err(LabError::NotUp { missing: missing.len(), first: (*first).to_owned() });
    }
    build::check_seal(c, &topology)?;
    let down = build::unplugged(&topology)?;
    Ok(Lab { topology, down })
}

/// What the names of all namespaces of this lab begin with.
#[must_use]
pub fn prefix(options: &LabOptions) -> String {
    topology::prefix(&options.project)
}

/// How long nothing may appear before a lab counts as removed.
const SETTLE: std::time::Duration = std::time::Duration::from_millis(300);

/// Removes the lab of a project, whole or in part, and returns how many namespaces that were. What still runs inside
/// one, such as a shell, keeps its nameless namespace until it ends.
///
/// # Errors
/// A namespace cannot be removed.
pub fn down(options: &LabOptions) -> Result<usize, LabError> {
    let mut removed = 0;
    loop {
        let names = netns::list(&format!("{}-", prefix(options)))?;
        if names.is_empty() {
            return Ok(removed);
        }
        let mut batch = tool::IpBatch::here().forced();
        for name in &names {
            batch.push(&["netns", "delete", name]);
        }
        batch.run()?;
        removed += names.len();
        names.iter().for_each(|name| ebpf::forget(name));
        // An `up` that was killed may have left an `ip -batch` behind that is still making namespaces.
        std::thread::sleep(SETTLE);
    }
}
