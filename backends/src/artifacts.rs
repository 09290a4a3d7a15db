//! The files of a build and their manifest. Nothing is written here.

use crate::Backend;
use crate::ebpf::Ebpf;
use crate::linux::admitted::Admitted;
use crate::nft::Nft;
use crate::p4::{self, P4, Profile, Saved};
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

impl Target {
    /// As it is asked for, and as its folder is called: `nft`, `ebpf`, `p4`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Nft => Nft.name(),
            Self::Ebpf => Ebpf.name(),
            Self::P4 => P4.name(),
        }
    }
}

/// What is built.
#[derive(Debug, Clone, Default)]
pub struct Request {
    /// For these targets, side by side; none: nft.
    pub targets: BTreeSet<Target>,
    /// For these too, but for nodes of which such a target cannot express something, which is told.
    pub where_possible: BTreeSet<Target>,
    /// Names of nodes; empty: all.
    pub nodes: BTreeSet<String>,
    /// The version of the tool, for the manifest.
    pub version: String,
    /// Names of gateway nodes whose instances count as dead.
    pub down: BTreeSet<String>,
    /// By node: what its switch has room for, where that is known.
    pub profiles: BTreeMap<String, Profile>,
}

/// Everything that `build` writes.
#[derive(Debug, Clone)]
pub struct Bundle {
    pub manifest: Manifest,
    /// By path, `manifest.json` included.
    pub files: Vec<Artifact>,
    /// By node: what is to be told of it.
    pub told: BTreeMap<String, Told>,
}

/// What people should know of a node's artifacts.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Told {
    /// How many entries a switch gets, and what joining has saved.
    pub entries: Option<(u64, Saved)>,
    /// What answers admit beyond what the policy lets open a connection, where no state tells them from what only looks like them.
    pub admitted: BTreeSet<Admitted>,
    /// By target of [`Request::where_possible`] that the node gets nothing for: how many findings stand against it.
    pub left_out: BTreeMap<Target, usize>,
}

/// `manifest.json`
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Manifest {
    pub format_version: &'static str,
    pub project: String,
    /// BLAKE3 over all sources, paths and texts, over `down`, and over the sizes of switches' tables.
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

/// A node's files, the manifest's lists of names and of instances, and what is told.
#[derive(Default)]
struct Printed {
    files: Vec<Artifact>,
    names: BTreeMap<String, String>,
    instances: Vec<String>,
    told: Told,
}

/// One node for all targets asked for.
fn node(
    compiled: &Compiled,
    sources: &Sources,
    request: &Request,
    id: NodeId,
    down: &[NodeId],
) -> Result<Printed, Vec<Diagnostic>> {
    let usual = BTreeSet::from([Target::Nft]);
    let asked = if request.targets.is_empty() { &usual } else { &request.targets };
    let mut printed = Printed::default();
    for target in asked.union(&request.where_possible) {
        match printed.add(*target, compiled, sources, request, id, down) {
            Err(found) if !asked.contains(target) => {
                printed.told.left_out.insert(*target, found.len());
            }
            done => done?,
        }
    }
    Ok(printed)
}

impl Printed {
    /// Adds the files for one target; nothing, where it cannot express something.
    fn add(
        &mut self,
        target: Target,
        compiled: &Compiled,
        sources: &Sources,
        request: &Request,
        id: NodeId,
        down: &[NodeId],
    ) -> Result<(), Vec<Diagnostic>> {
        match target {
            Target::Nft => {
                let model = Nft.lower(compiled, sources, id, down)?;
                self.files.extend(Nft.print(&model));
                self.told.admitted.extend(model.admitted);
                (self.names, self.instances) = (model.names, model.instances);
            }
            Target::Ebpf => {
                let model = Ebpf.lower(compiled, sources, id, down)?;
                self.files.extend(Ebpf.print(&model));
                self.told.admitted.extend(model.node.admitted.iter().cloned());
                (self.names, self.instances) = (model.node.names, model.node.instances);
            }
            Target::P4 => {
                let usual = Profile::default();
                let profile = request.profiles.get(&compiled.model.nodes[id].name).unwrap_or(&usual);
                let model = p4::lower(compiled, sources, id, down, profile)?;
                self.files.extend(P4.print(&model));
                self.told.entries = Some((model.entries.by_key.len() as u64, model.saved));
                self.told.admitted.extend(model.admitted);
                if self.instances.is_empty() {
                    self.instances = model.instances;
                }
            }
        }
        Ok(())
    }
}

/// Builds the nodes asked for. All that an error names is found, over all nodes.
///
/// # Errors
/// PW0801: what the target cannot express exactly. PW0803: what does not fit a switch.
pub fn build(compiled: &Compiled, sources: &Sources, request: &Request) -> Result<Bundle, Vec<Diagnostic>> {
    let mut files = Vec::new();
    let (mut nodes, mut told) = (BTreeMap::new(), BTreeMap::new());
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
            Ok(Printed { files: artifacts, names, instances, told: of_node }) => {
                let mut entry = NodeManifest { names, instances, ..NodeManifest::default() };
                for artifact in artifacts {
                    let path = format!("{name}/{}", artifact.path);
                    entry.files.insert(path.clone(), blake3::hash(&artifact.bytes).to_hex().to_string());
                    files.push(Artifact { path, ..artifact });
                }
                nodes.insert(name.to_owned(), entry);
                told.insert(name.to_owned(), of_node);
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
        generation: generation(sources, request),
        down: request.down.clone(),
        tool: Tool { name: "partywall", version: request.version.clone() },
        nodes,
    };
    let mut bytes = serde_json::to_vec_pretty(&manifest).unwrap_or_default();
    bytes.push(b'\n');
    files.push(Artifact { path: "manifest.json".into(), executable: false, bytes });
    files.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(Bundle { manifest, files, told })
}

/// BLAKE3 over paths and texts, sorted by path, the names in `down`, and the sizes of tables, each preceded by its length.
fn generation(sources: &Sources, request: &Request) -> String {
    let sized = request.targets.union(&request.where_possible).any(|target| *target == Target::P4);
    let mut sizes = Vec::new();
    for (node, profile) in request.profiles.iter().filter(|_| sized) {
        sizes.extend(profile.tables.iter().map(|(table, size)| format!("{node} {table} {size}")));
    }
    let mut files: Vec<(&str, &str)> = sources.iter().map(|(_, s)| (s.path(), s.text())).collect();
    files.sort_unstable();
    let mut hasher = blake3::Hasher::new();
    let parts = files.into_iter().flat_map(|(path, text)| [path, text]);
    for part in parts.chain(request.down.iter().chain(&sizes).map(String::as_str)) {
        hasher.update(&u64::try_from(part.len()).unwrap_or(u64::MAX).to_le_bytes());
        hasher.update(part.as_bytes());
    }
    hasher.finalize().to_hex().to_string()
}
