//! Where the eBPF nodes of a lab keep what outlives a script. `ip netns exec` hides the machine's own BPF file system, so the lab has
//! one of its own.

use super::error::LabError;
use super::tool;
use std::path::{Path, PathBuf};

/// A BPF file system for all labs of the machine.
const MOUNT: &str = "/run/partywall-lab-bpf";

/// The folder of one node.
pub(crate) fn pins(netns: &str) -> PathBuf {
    Path::new(MOUNT).join(netns)
}

/// Makes a node's folder, empty, and the file system if it is not there.
///
/// # Errors
/// It cannot be mounted or made.
pub(crate) fn prepare(netns: &str) -> Result<PathBuf, LabError> {
    let mounted = || {
        let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap_or_default();
        mounts.lines().any(|line| line.split(' ').nth(1) == Some(MOUNT))
    };
    if !mounted() {
        std::fs::create_dir_all(MOUNT).map_err(LabError::io(format!("cannot make {MOUNT}")))?;
        // Another lab may have been faster.
        if let Err(error) = tool::run("mount", &["-t", "bpf", "bpf", MOUNT])
            && !mounted()
        {
            return Err(error);
        }
    }
    let pins = pins(netns);
    std::fs::create_dir_all(&pins).map_err(LabError::io(format!("cannot make {}", pins.display())))?;
    Ok(pins)
}

/// Lets go of what a node kept.
pub(crate) fn forget(netns: &str) {
    // What is not there needs no removing; what cannot be removed holds memory and nothing else.
    let _ = std::fs::remove_dir_all(pins(netns));
}
