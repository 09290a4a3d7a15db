//! The files of a build and their manifest. Nothing is written here.

use crate::Backend;
use crate::ebpf::Ebpf;
use crate::nft::Nft;
use crate::p4::P4;
use compiler::Compiled;
use compiler::ids::NodeId;
use lang::diag::Diagnostic;
use lang::source::Sources;
use rayon::iter::{IntoParallelIterator as _, ParallelIterator as _};
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};

/// One file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Artifact {
    /// With `/`, relative to the node's folder in a backend, to the output folder in a bundle.
    pub path: String,
    pub executable: bool,
    pub bytes: Vec<u8>,
}

/// What nodes run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Target {
    Nft,
    Ebpf,
    P4,
}

/// What is built.
#[derive(Debug, Clone, Default)]
pub struct Request {
    /// For these targets, side by side; none: nft.
    pub targets: BTreeSet<Target>,
    /// Names of nodes; empty: all.
    pub nodes: BTreeSet<String>,
    /// The version of the tool, for the manifest.
    pub version: String,
    /// Names of gateway nodes whose instances count as dead.
    pub down: BTreeSet<String>,
}

/// Everything that `build` writes.
#[derive(Debug, Clone)]
pub struct Bundle {
    pub manifest: Manifest,
    /// By path, `manifest.json` included.
    pub files: Vec<Artifact>,
}

/// `manifest.json`
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Manifest {
    pub format_version: &'static str,
    pub project: String,
    /// BLAKE3 over all sources, paths and texts, and over `down`.
    pub generation: String,
    /// Gateway nodes whose instances count as dead.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub down: BTreeSet<String>,
    pub tool: Tool,
    pub nodes: BTreeMap<String, NodeManifest>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Tool {
    pub name: &'static str,
    pub version: String,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct NodeManifest {
    /// Path relative to the output folder → BLAKE3 digest of the file.
    pub files: BTreeMap<String, String>,
    /// Name as written → as emitted, where a target could not hold it.
    pub names: BTreeMap<String, String>,
    /// Gateway nodes that this node sends to, in the order of their numbers.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub instances: Vec<String>,
}

/// A node's files, and the manifest's lists of names and of instances.
type Printed = (Vec<Artifact>, BTreeMap<String, String>, Vec<String>);

/// One node for all targets asked for.
fn node(
    compiled: &Compiled,
    sources: &Sources,
    request: &Request,
    id: NodeId,
    down: &[NodeId],
) -> Result<Printed, Vec<Diagnostic>> {
    let usual = BTreeSet::from([Target::Nft]);
    let targets = if request.targets.is_empty() { &usual } else { &request.targets };
    let (mut files, mut names, mut instances) = (Vec::new(), BTreeMap::new(), Vec::new());
    for target in targets {
        match target {
            Target::Nft => {
                let model = Nft.lower(compiled, sources, id, down)?;
                files.extend(Nft.print(&model));
                (names, instances) = (model.names, model.instances);
            }
            Target::Ebpf => {
                let model = Ebpf.lower(compiled, sources, id, down)?;
                files.extend(Ebpf.print(&model));
                (names, instances) = (model.node.names, model.node.instances);
            }
            Target::P4 => {
                let model = P4.lower(compiled, sources, id, down)?;
                files.extend(P4.print(&model));
                instances = model.instances;
            }
        }
    }
    Ok((files, names, instances))
}

/// Builds the nodes asked for. All that an error names is found, over all nodes.
///
/// # Errors
/// PW0801: what the target cannot express exactly.
pub fn build(compiled: &Compiled, sources: &Sources, request: &Request) -> Result<Bundle, Vec<Diagnostic>> {
    let mut files = Vec::new();
    let mut nodes = BTreeMap::new();
    let mut diagnostics: Vec<Diagnostic> = Vec::new();
    let wanted: Vec<(NodeId, &str)> = compiled
        .model
        .nodes
        .iter()
        .map(|(id, node)| (id, node.name.as_str()))
        .filter(|(_, name)| request.nodes.is_empty() || request.nodes.contains(*name))
        .collect();
    let down: Vec<NodeId> = compiled
        .model
        .nodes
        .iter()
        .filter(|(_, n)| request.down.contains(&n.name))
        .map(|(id, _)| id)
        .collect();
    let built: Vec<_> = wanted
        .into_par_iter()
        .map(|(id, name)| (name, node(compiled, sources, request, id, &down)))
        .collect();
    for (name, node) in built {
        match node {
            Ok((artifacts, names, instances)) => {
                let mut entry = NodeManifest { names, instances, ..NodeManifest::default() };
                for artifact in artifacts {
                    let path = format!("{name}/{}", artifact.path);
                    entry.files.insert(path.clone(), blake3::hash(&artifact.bytes).to_hex().to_string());
                    files.push(Artifact { path, ..artifact });
                }
                nodes.insert(name.to_owned(), entry);
            }
            Err(found) => {
                for diagnostic in found {
                    if !diagnostics.contains(&diagnostic) {
                        diagnostics.push(diagnostic);
                    }
                }
            }
        }
    }
    if !diagnostics.is_empty() {
        return Err(diagnostics);
    }
    let manifest = Manifest {
        format_version: "1.0",
        project: compiled.model.fabric.name.clone(),
        generation: generation(sources, &request.down),
        down: request.down.clone(),
        tool: Tool { name: "partywall", version: request.version.clone() },
        nodes,
    };
    let mut bytes = serde_json::to_vec_pretty(&manifest).unwrap_or_default();
    bytes.push(b'\n');
    files.push(Artifact { path: "manifest.json".into(), executable: false, bytes });
    files.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(Bundle { manifest, files })
}

/// BLAKE3 over paths and texts, sorted by path, and the names in `down`, each preceded by its length.
fn generation(sources: &Sources, down: &BTreeSet<String>) -> String {
    let mut files: Vec<(&str, &str)> = sources.iter().map(|(_, s)| (s.path(), s.text())).collect();
    files.sort_unstable();
    let mut hasher = blake3::Hasher::new();
    let parts = files.into_iter().flat_map(|(path, text)| [path, text]);
    for part in parts.chain(down.iter().map(String::as_str)) {
        hasher.update(&u64::try_from(part.len()).unwrap_or(u64::MAX).to_le_bytes());
        hasher.update(part.as_bytes());
    }
    hasher.finalize().to_hex().to_string()
}
