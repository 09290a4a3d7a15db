//! `manifest.json` as it is read back: fields that a newer minor version adds are passed over.

use crate::error::NodeError;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// Largest manifest that is read, in bytes.
const MOST: u64 = 64 << 20;

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Manifest {
    pub format_version: String,
    pub project: String,
    /// The digest over the sources.
    pub generation: String,
    /// Gateway nodes whose instances count as dead.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub down: BTreeSet<String>,
    pub tool: Tool,
    pub nodes: BTreeMap<String, Node>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Tool {
    pub name: String,
    pub version: String,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(super) struct Node {
    /// Path → BLAKE3 digest, 64 hexadecimal digits.
    pub files: BTreeMap<String, String>,
    /// Name as written → as emitted, where the target could not hold it.
    #[serde(default)]
    pub names: BTreeMap<String, String>,
    /// Gateway nodes that this node sends to, in the order of their numbers.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub instances: Vec<String>,
}

/// Reads a manifest and judges its version.
///
/// # Errors
/// It cannot be read, is cut short, is none, or of another major version.
pub(super) fn read(path: &Path) -> Result<Manifest, NodeError> {
    let bytes = super::read_plain(path, MOST)?;
    // The version alone first: another major version may have any shape.
    #[derive(Deserialize)]
    struct Version {
        format_version: String,
    }
    let broken = |e: serde_json::Error| {
        let what = if e.is_eof() { "it is cut short".to_owned() } else { format!("it is no manifest: {e}") };
        NodeError::manifest(path, what)
    };
    let version: Version = serde_json::from_slice(&bytes).map_err(broken)?;
    if version.format_version.split('.').next() != Some("1") {
        return Err(NodeError::manifest(
            path,
            format!(
                "its format_version is {:?}, and this partywall reads version 1; use the partywall that built it",
                version.format_version
            ),
        ));
    }
    serde_json::from_slice(&bytes).map_err(broken)
}
