//! What `build` made for one node, read back and verified before anything is done with it.

mod ebpf;
mod manifest;
mod switch;

pub use ebpf::Program;
pub use switch::Switch;

use crate::error::NodeError;
use backends::Artifact;
use backends::nft::live;
use manifest::{Manifest, Node};
use nix::fcntl::OFlag;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::OpenOptions;
use std::io::Read;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

pub(crate) const MANIFEST: &str = "manifest.json";
pub(crate) const SCRIPT: &str = "apply.sh";
/// What `apply.sh` reads; a folder without one of them could not be installed to its end.
const PARTS: [&str; 9] = [
    SCRIPT,
    "base.nft",
    "commit.nft",
    "fdb.batch",
    "links.batch",
    "routes.batch",
    "routes6.batch",
    "stage.nft",
    "sweep.nft",
];
/// Largest file that is read, in bytes.
const MOST: u64 = 1 << 30;
/// Letters of the suffix of a generation's names.
const SUFFIX: usize = 8;

/// What installs a node's files.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Target {
    /// nftables and iproute2, by `apply.sh`.
    Nft,
    /// Programs at devices and their maps.
    Ebpf,
}

impl Target {
    const ALL: [Self; 2] = [Self::Nft, Self::Ebpf];

    /// The folder of its files in a node's own.
    #[must_use]
    pub fn folder(self) -> &'static str {
        match self {
            Self::Nft => "nft",
            Self::Ebpf => "ebpf",
        }
    }

    /// What a folder without one of which could not be installed to its end.
    fn parts(self) -> &'static [&'static str] {
        match self {
            Self::Nft => &PARTS,
            Self::Ebpf => &ebpf::PARTS,
        }
    }

    fn script(self) -> &'static str {
        match self {
            Self::Nft => SCRIPT,
            Self::Ebpf => ebpf::SCRIPT,
        }
    }
}

/// One node's files, each as its digest in the manifest says.
#[derive(Debug, Clone)]
pub struct Generation {
    pub node: String,
    pub target: Target,
    pub project: String,
    /// The digest over the project's sources.
    pub build: String,
    /// The version of partywall that built it.
    pub tool: String,
    /// The digest at the head of the node's files.
    pub digest: String,
    /// The digest of the files' names and contents, by which the generation is kept.
    pub id: String,
    /// Gateway nodes whose instances count as dead.
    pub down: BTreeSet<String>,
    /// Gateway nodes that this node sends to.
    pub instances: Vec<String>,
    /// Rule's name as emitted → as written.
    pub names: BTreeMap<String, String>,
    /// Path in the node's folder of the target → content.
    files: BTreeMap<String, Vec<u8>>,
    /// What the files say, for the eBPF target.
    program: Option<Program>,
    written: BTreeMap<String, String>,
}

/// Devices that a node's files take for granted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Devices {
    pub workloads: BTreeSet<String>,
    pub outside: BTreeSet<String>,
    /// What VXLAN devices are bound to.
    pub underlay: BTreeSet<String>,
}

impl Generation {
    /// Reads and verifies what `build` wrote to `dir`, for `node`; without a name for the node that bears this host's
    /// name, or the only one there is. `dir` may also be the node's own folder in such an output.
    ///
    /// # Errors
    /// There is no manifest, it cannot be used or does not have the node, or a file is missing or not as the manifest says.
    pub fn open(dir: &Path, node: Option<&str>) -> Result<Self, NodeError> {
        Self::open_for(dir, node, None)
    }

    /// The same for a target. Without one it is the one that the node was built for; nft, should it be both.
    ///
    /// # Errors
    /// As [`Generation::open`], or the node was built for another target.
    pub fn open_for(dir: &Path, node: Option<&str>, target: Option<Target>) -> Result<Self, NodeError> {
        let (root, inside) = root(dir)?;
        let path = root.join(MANIFEST);
        let manifest = manifest::read(&path)?;
        let wanted = match (node, inside) {
            (Some(name), Some(folder)) if name != folder => {
                return Err(NodeError::NoNode {
                    dir: dir.to_owned(),
                    wanted: name.to_owned(),
                    known: folder,
                });
            }
            (Some(name), _) => Some(name.to_owned()),
            (None, folder) => folder,
        };
        let node = choose(&manifest, wanted, dir)?;
        let entry = manifest.nodes.get(&node).cloned().unwrap_or_default();
        let has = |target: &Target| {
            let start = format!("{node}/{}/", target.folder());
            entry.files.keys().any(|file| file.starts_with(&start))
        };
        let built: Vec<Target> = Target::ALL.into_iter().filter(has).collect();
        let target = match (target, built.first()) {
            (Some(target), _) if built.contains(&target) => target,
            (Some(target), _) => {
                let what = format!("it has nothing for the target {} on {node}", target.folder());
                return Err(NodeError::manifest(&path, what));
            }
            (None, first) => first.copied().unwrap_or(Target::Nft),
        };
        let files = files(&root, &path, &node, (target.folder(), target.parts()), &entry)?;
        Self::new(manifest, node, target, &path, files)
    }

    fn new(
        manifest: Manifest,
        node: String,
        target: Target,
        path: &Path,
        files: BTreeMap<String, Vec<u8>>,
    ) -> Result<Self, NodeError> {
        let mut hasher = blake3::Hasher::new();
        for part in files.iter().flat_map(|(name, bytes)| [name.as_bytes(), bytes]) {
            hasher.update(&u64::try_from(part.len()).unwrap_or(u64::MAX).to_le_bytes());
            hasher.update(part);
        }
        let name = target.script();
        let script = files.get(name).map(|bytes| String::from_utf8_lossy(bytes)).unwrap_or_default();
        let digest = script
            .lines()
            .find_map(|line| line.strip_prefix("# partywall generation "))
            .filter(|digest| is_digest(digest))
            .ok_or_else(|| NodeError::manifest(path, format!("{name} of {node} names no generation")))?
            .to_owned();
        let program = match target {
            Target::Nft => None,
            Target::Ebpf => Some(Program::read(&files).map_err(|what| NodeError::manifest(path, what))?),
        };
        let said = match &program {
            None => assignment(&script, "SUFFIX"),
            Some(program) => program.listing.generation.get(..SUFFIX).unwrap_or_default(),
        };
        if said.is_empty() || digest.get(..SUFFIX) != Some(said) {
            return Err(NodeError::manifest(path, format!("{name} of {node} belongs to another generation")));
        }
        let entry = manifest.nodes.get(&node).cloned().unwrap_or_default();
        let written = entry.names;
        Ok(Self {
            down: manifest.down,
            instances: entry.instances,
            names: written.iter().map(|(written, emitted)| (emitted.clone(), written.clone())).collect(),
            node,
            project: manifest.project,
            build: manifest.generation,
            tool: manifest.tool.version,
            digest,
            id: hasher.finalize().to_hex().to_string(),
            target,
            files,
            program,
            written,
        })
    }

    /// What the files say, for the eBPF target.
    #[must_use]
    pub fn program(&self) -> Option<&Program> {
        self.program.as_ref()
    }

    /// This generation with these gateway nodes' instances dead and all others alive: as `build --down` would have made it.
    ///
    /// # Errors
    /// The files are not as this version of `build` writes them.
    pub fn with_down(&self, down: &BTreeSet<String>) -> Result<Self, NodeError> {
        let strange = |what: String| NodeError::manifest(&self.node, what);
        let files: Vec<Artifact> = self
            .files
            .iter()
            .map(|(name, bytes)| Artifact {
                path: name.clone(),
                executable: name == SCRIPT,
                bytes: bytes.clone(),
            })
            .collect();
        let files = match self.target {
            Target::Nft => {
                live::with_down(&files, &self.instances, down).map_err(|e| strange(e.to_string()))?
            }
            Target::Ebpf => backends::ebpf::live::with_down(&self.files, &self.instances, down)
                .map_err(|e| strange(e.to_string()))?,
        };
        let manifest = Manifest {
            format_version: "1.0".into(),
            project: self.project.clone(),
            generation: self.build.clone(),
            down: down.clone(),
            tool: manifest::Tool { name: "partywall".into(), version: self.tool.clone() },
            nodes: BTreeMap::from([(
                self.node.clone(),
                Node {
                    files: BTreeMap::new(),
                    names: self.written.clone(),
                    instances: self.instances.clone(),
                },
            )]),
        };
        let inside = |path: String| path.strip_prefix("ebpf/").map_or(path.clone(), str::to_owned);
        let files = files.into_iter().map(|file| (inside(file.path), file.bytes)).collect();
        Self::new(manifest, self.node.clone(), self.target, Path::new(&self.node), files)
    }

    /// What this generation's names in nft end in.
    #[must_use]
    pub fn suffix(&self) -> &str {
        self.digest.get(..SUFFIX).unwrap_or_default()
    }

    /// The other suffix under which the same generation can be installed beside itself, to replace in one step what
    /// somebody changed in it.
    #[must_use]
    pub fn spare_suffix(&self) -> String {
        let number = u32::from_str_radix(self.suffix(), 16).unwrap_or_default();
        format!("{:08x}", number ^ 0x5057)
    }

    /// The files' names and contents with every name under `suffix`.
    fn renamed(&self, suffix: &str) -> BTreeMap<String, Vec<u8>> {
        let own = self.suffix();
        if suffix == own || self.target == Target::Ebpf {
            return self.files.clone();
        }
        let (from, to) = (format!("_{own}"), format!("_{suffix}"));
        let (from_line, to_line) = (format!("\nSUFFIX={own}\n"), format!("\nSUFFIX={suffix}\n"));
        self.files
            .iter()
            .map(|(name, bytes)| {
                let text = String::from_utf8_lossy(bytes).replace(&from, &to).replace(&from_line, &to_line);
                (name.clone(), text.into_bytes())
            })
            .collect()
    }

    /// Writes the files to a folder, under this suffix.
    ///
    /// # Errors
    /// They cannot be written.
    pub(crate) fn write(&self, folder: &Path, suffix: &str) -> Result<(), NodeError> {
        for (name, bytes) in self.renamed(suffix) {
            write_synced(&folder.join(&name), &bytes)?;
        }
        Ok(())
    }

    /// Writes a folder like an output of `build` for this node alone.
    ///
    /// # Errors
    /// It cannot be written.
    pub(crate) fn keep(&self, root: &Path) -> Result<(), NodeError> {
        let target = self.target.folder();
        let folder = root.join(&self.node).join(target);
        let inner = folder.join("maps");
        let made = if self.target == Target::Ebpf { &inner } else { &folder };
        std::fs::create_dir_all(made).map_err(NodeError::io(format!("cannot make {}", made.display())))?;
        self.write(&folder, self.suffix())?;
        let files = self
            .files
            .iter()
            .map(|(name, bytes)| {
                (format!("{}/{target}/{name}", self.node), blake3::hash(bytes).to_hex().to_string())
            })
            .collect();
        let entry = Node { files, names: self.written.clone(), instances: self.instances.clone() };
        let manifest = Manifest {
            format_version: "1.0".into(),
            project: self.project.clone(),
            generation: self.build.clone(),
            down: self.down.clone(),
            tool: manifest::Tool { name: "partywall".into(), version: self.tool.clone() },
            nodes: BTreeMap::from([(self.node.clone(), entry)]),
        };
        let bytes = serde_json::to_vec_pretty(&manifest).unwrap_or_default();
        write_synced(&root.join(MANIFEST), &bytes)?;
        for made in [made, &folder, &root.join(&self.node), root] {
            sync_folder(made)?;
        }
        Ok(())
    }

    /// The devices that these files take for granted, as the script and the batch name them.
    pub(crate) fn devices(&self) -> Devices {
        if let Some(program) = &self.program {
            return program.devices();
        }
        let text =
            |name: &str| self.files.get(name).map(|bytes| String::from_utf8_lossy(bytes)).unwrap_or_default();
        let script = text(SCRIPT);
        let names = |variable| assignment(&script, variable).split_whitespace().map(str::to_owned).collect();
        let links = self.links();
        let underlay = links.iter().filter(|line| line.starts_with("link add ")).filter_map(|line| {
            let mut words = line.split_whitespace().skip_while(|word| *word != "dev");
            words.nth(1).map(str::to_owned)
        });
        Devices { workloads: names("WORKLOADS"), outside: names("OUTSIDE"), underlay: underlay.collect() }
    }

    /// Whether instances of gateways run here, by what the nft target's script says.
    pub(crate) fn is_gateway(&self) -> bool {
        let script = self.files.get(SCRIPT).map(|bytes| String::from_utf8_lossy(bytes)).unwrap_or_default();
        assignment(&script, "GATEWAY") == "yes"
    }

    /// Addresses that VXLAN devices are to send from.
    pub(crate) fn vteps(&self) -> BTreeSet<String> {
        if let Some(program) = &self.program {
            return BTreeSet::from([program.listing.underlay.vtep.clone()]);
        }
        let local = |line: &String| {
            let mut words = line.split_whitespace().skip_while(|word| *word != "local");
            words.nth(1).map(str::to_owned)
        };
        self.links().iter().filter(|line| line.starts_with("link add ")).filter_map(local).collect()
    }

    /// Lines of `links.batch`, without comments: what an older generation may have left on devices of others.
    pub(crate) fn links(&self) -> Vec<String> {
        self.lines("links.batch")
    }

    /// Devices to which packets are routed by IPv6.
    pub(crate) fn ipv6(&self) -> BTreeSet<String> {
        let lines = self.lines("routes6.batch");
        let device = |line: &String| {
            let mut words = line.split_whitespace().skip_while(|word| *word != "dev");
            words.nth(1).map(str::to_owned)
        };
        lines.iter().filter_map(device).collect()
    }

    /// The lines of a batch, without comments.
    fn lines(&self, batch: &str) -> Vec<String> {
        let bytes = self.files.get(batch).map(Vec::as_slice).unwrap_or_default();
        let text = String::from_utf8_lossy(bytes);
        text.lines().filter(|line| !line.starts_with('#')).map(str::to_owned).collect()
    }
}

/// The value of a line `NAME=value` or `NAME='value'` of the script.
fn assignment<'a>(script: &'a str, name: &str) -> &'a str {
    let value = script.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('='));
    value.unwrap_or_default().trim_matches('\'')
}

/// The output's folder; and the node, where `dir` is a node's folder.
fn root(dir: &Path) -> Result<(PathBuf, Option<String>), NodeError> {
    let whole = dir.canonicalize().map_err(NodeError::io(format!("cannot read {}", dir.display())))?;
    if whole.join(MANIFEST).is_file() {
        return Ok((whole, None));
    }
    match (whole.parent(), whole.file_name().and_then(|name| name.to_str())) {
        (Some(parent), Some(name)) if parent.join(MANIFEST).is_file() => {
            Ok((parent.to_owned(), Some(name.to_owned())))
        }
        _ => Err(NodeError::NoManifest { dir: dir.to_owned() }),
    }
}

fn choose(manifest: &Manifest, wanted: Option<String>, dir: &Path) -> Result<String, NodeError> {
    let has = |name: &str| manifest.nodes.contains_key(name);
    let unknown = |wanted: String| NodeError::NoNode {
        dir: dir.to_owned(),
        wanted,
        known: manifest.nodes.keys().cloned().collect::<Vec<_>>().join(", "),
    };
    if let Some(name) = wanted {
        return if has(&name) { Ok(name) } else { Err(unknown(name)) };
    }
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let host = host.trim();
    let short = host.split('.').next().unwrap_or_default();
    if let Some(name) = [host, short].into_iter().find(|name| has(name)) {
        return Ok(name.to_owned());
    }
    match manifest.nodes.keys().next() {
        Some(only) if manifest.nodes.len() == 1 => Ok(only.clone()),
        _ => Err(unknown(format!("this host, `{host}`"))),
    }
}

/// The node's files, each read once and judged by what was read.
fn files(
    root: &Path,
    manifest: &Path,
    node: &str,
    (folder, parts): (&str, &[&str]),
    entry: &Node,
) -> Result<BTreeMap<String, Vec<u8>>, NodeError> {
    let mut out = BTreeMap::new();
    for (path, digest) in &entry.files {
        let name = match inside(path, node, folder) {
            Inside::Here(name) => name,
            Inside::OtherTarget => continue,
            Inside::Outside => {
                return Err(NodeError::manifest(
                    manifest,
                    format!("it names {path:?}, which does not lie in the folder of node {node}"),
                ));
            }
        };
        if !is_digest(digest) {
            return Err(NodeError::manifest(manifest, format!("the digest of {path} is no digest")));
        }
        let file = root.join(node).join(folder).join(&name);
        let bytes = read_plain(&file, MOST)?;
        if blake3::hash(&bytes).to_hex().as_str() != digest {
            return Err(NodeError::Digest { path: file });
        }
        out.insert(name, bytes);
    }
    match parts.iter().find(|part| !out.contains_key(**part)) {
        Some(part) => Err(NodeError::manifest(
            manifest,
            format!("it lists no {node}/{folder}/{part}; build the project again"),
        )),
        None => Ok(out),
    }
}

enum Inside {
    Here(String),
    OtherTarget,
    Outside,
}

/// Where a path of the manifest lies. What is joined to a folder later are plain names.
fn inside(path: &str, node: &str, target: &str) -> Inside {
    let plain = |name: &str| {
        !name.starts_with('.') && name.chars().all(|c| c.is_ascii_alphanumeric() || "._-".contains(c))
    };
    let parts: Vec<&str> = path.split('/').collect();
    if !parts.iter().all(|part| !part.is_empty() && plain(part)) {
        return Inside::Outside;
    }
    match parts.as_slice() {
        [folder, of, name] if *folder == node && *of == target => Inside::Here((*name).to_owned()),
        [folder, "ebpf", "maps", name] if *folder == node && target == "ebpf" => {
            Inside::Here(format!("maps/{name}"))
        }
        [folder, of, ..] if *folder == node && *of == target => Inside::Outside,
        [folder, _, ..] if *folder == node => Inside::OtherTarget,
        _ => Inside::Outside,
    }
}

fn is_digest(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

/// Whether this is the name of a kept generation.
pub(crate) fn is_id(text: &str) -> bool {
    is_digest(text)
}

/// Reads a regular file of at most `most` bytes; a link in its place is none.
fn read_plain(path: &Path, most: u64) -> Result<Vec<u8>, NodeError> {
    let cannot = || NodeError::io(format!("cannot read {}", path.display()));
    // Not to be held up by a pipe in a file's place.
    let flags = OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK;
    let file = OpenOptions::new().read(true).custom_flags(flags.bits()).open(path).map_err(cannot())?;
    let meta = file.metadata().map_err(cannot())?;
    if !meta.is_file() {
        return Err(NodeError::manifest(path, "this is no regular file"));
    }
    if meta.len() > most {
        return Err(NodeError::manifest(path, format!("this file is larger than {most} bytes")));
    }
    let mut bytes = Vec::with_capacity(usize::try_from(meta.len()).unwrap_or_default());
    file.take(most).read_to_end(&mut bytes).map_err(cannot())?;
    Ok(bytes)
}

/// Writes a new file and waits until it is on the disk.
pub(crate) fn write_synced(path: &Path, bytes: &[u8]) -> Result<(), NodeError> {
    use std::io::Write;
    let write = || -> std::io::Result<()> {
        let mut file = std::fs::File::create(path)?;
        file.write_all(bytes)?;
        file.sync_all()
    };
    write().map_err(NodeError::io(format!("cannot write {}", path.display())))
}

/// Waits until a folder's entries are on the disk.
pub(crate) fn sync_folder(folder: &Path) -> Result<(), NodeError> {
    let sync = || std::fs::File::open(folder)?.sync_all();
    sync().map_err(NodeError::io(format!("cannot write {}", folder.display())))
}
