//! Generations on disk: which one runs, those before it, and what a call was about when it was cut short.
//!
//! `state.json` is the pointer: it is replaced as a whole by a rename, so it always says one thing or the next. The
//! generations' own folders never change once they have their names.

use crate::ebpf::bring::Place;
use crate::error::NodeError;
use crate::generation::{self, Generation};
use nix::fcntl::{Flock, FlockArg};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

const RECORD: &str = "state.json";
const FRESH: &str = ".new";
/// How many generations before the running one are kept.
const EARLIER: usize = 8;
/// How long a call waits for another to finish.
const PATIENCE: Duration = Duration::from_secs(60);

/// The folder of a node's generations.
#[derive(Debug, Clone)]
pub struct State {
    root: PathBuf,
    place: Place,
}

/// What `state.json` holds.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    #[serde(default)]
    format_version: String,
    /// The one that runs.
    pub current: Option<Entry>,
    /// Those before it, the latest first.
    #[serde(default)]
    pub earlier: Vec<Entry>,
    /// The one that a call set out to install and has not finished.
    #[serde(default)]
    pub pending: Option<Pending>,
}

/// A generation that was installed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// By which it is kept.
    pub id: String,
    pub node: String,
    /// The digest at the head of its files.
    pub generation: String,
    /// The digest of the project's sources.
    pub build: String,
    pub project: String,
    pub tool: String,
    /// Gateway nodes whose instances count as dead.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub down: BTreeSet<String>,
    /// Seconds since 1970, UTC.
    pub installed: u64,
}

/// The journal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pending {
    pub to: Entry,
    /// Whether it goes back to an earlier one.
    pub back: bool,
}

/// Held while a call changes something.
#[derive(Debug)]
pub(crate) struct Lock {
    file: Flock<File>,
}

impl Lock {
    /// The same lock for a program that the call starts, as its standard input (which is empty): a call that was killed
    /// lets go only when that program and all that it started have ended.
    ///
    /// # Errors
    /// The system has no file descriptor left.
    pub(crate) fn share(&self) -> Result<File, NodeError> {
        self.file.try_clone().map_err(NodeError::io("cannot share the lock"))
    }
}

impl Entry {
    pub(crate) fn of(generation: &Generation) -> Self {
        Self {
            id: generation.id.clone(),
            node: generation.node.clone(),
            generation: generation.digest.clone(),
            build: generation.build.clone(),
            project: generation.project.clone(),
            tool: generation.tool.clone(),
            down: generation.down.clone(),
            installed: SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.as_secs()),
        }
    }
}

impl Record {
    /// Makes `entry` the one that runs.
    pub(crate) fn settle(&mut self, entry: Entry, back: bool) {
        self.pending = None;
        if back {
            // What was gone back over is left out: going back again goes one further.
            let at = self.earlier.iter().position(|e| e.id == entry.id);
            if let Some(at) = at {
                self.earlier.drain(..=at);
            }
        } else if let Some(before) = self.current.take()
            && before.id != entry.id
        {
            self.earlier.retain(|e| e.id != entry.id);
            self.earlier.insert(0, before);
            self.earlier.truncate(EARLIER);
        }
        self.current = Some(entry);
    }
}

impl State {
    /// Where a node's generations are, unless it is said otherwise.
    pub const DEFAULT: &'static str = "/var/lib/partywall";

    #[must_use]
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into(), place: Place::usual() }
    }

    /// The same with programs and maps kept at another place than usual.
    #[must_use]
    pub fn with_place(self, place: Place) -> Self {
        Self { place, ..self }
    }

    /// Where programs and maps are kept.
    #[must_use]
    pub fn place(&self) -> &Place {
        &self.place
    }

    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// What is recorded; nothing, if nothing ever was.
    ///
    /// # Errors
    /// It cannot be read, or another version wrote it.
    pub fn read(&self) -> Result<Record, NodeError> {
        let path = self.root.join(RECORD);
        let text = match fs::read(&path) {
            Ok(text) => text,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Record::default()),
            Err(e) => return Err(NodeError::io(format!("cannot read {}", path.display()))(e)),
        };
        let record: Record = serde_json::from_slice(&text).map_err(|e| {
            NodeError::manifest(
                &path,
                format!("this is no record of generations ({e}); move it away and apply again"),
            )
        })?;
        if record.format_version.split('.').next() != Some("1") {
            return Err(NodeError::manifest(
                &path,
                format!(
                    "its format_version is {:?}, and this partywall reads version 1",
                    record.format_version
                ),
            ));
        }
        let entries =
            record.current.iter().chain(&record.earlier).chain(record.pending.iter().map(|p| &p.to));
        match entries.into_iter().find(|entry| !generation::is_id(&entry.id)) {
            Some(entry) => Err(NodeError::manifest(&path, format!("{:?} is no generation's name", entry.id))),
            None => Ok(record),
        }
    }

    /// Replaces what is recorded, in one step.
    ///
    /// # Errors
    /// It cannot be written; then it is as it was.
    pub(crate) fn write(&self, record: &Record) -> Result<(), NodeError> {
        let record = Record { format_version: "1.0".into(), ..record.clone() };
        let mut bytes = serde_json::to_vec_pretty(&record).unwrap_or_default();
        bytes.push(b'\n');
        let (fresh, path) = (self.root.join(format!("{RECORD}{FRESH}")), self.root.join(RECORD));
        generation::write_synced(&fresh, &bytes)?;
        fs::rename(&fresh, &path).map_err(NodeError::io(format!("cannot write {}", path.display())))?;
        generation::sync_folder(&self.root)
    }

    /// Waits until no other call changes anything here.
    ///
    /// # Errors
    /// The folder cannot be made, or the other call does not end.
    pub(crate) fn lock(&self) -> Result<Lock, NodeError> {
        let generations = self.root.join("generations");
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&generations)
            .map_err(NodeError::io(format!("cannot make {}", generations.display())))?;
        let path = self.root.join("lock");
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&path)
            .map_err(NodeError::io(format!("cannot lock {}", path.display())))?;
        Self::held(file, &path, FlockArg::LockExclusiveNonblock)
    }

    /// Waits until no call changes anything here, and keeps others from it as long as what this gives lives. Nothing is written: where
    /// no call ever was there is nothing to wait for.
    ///
    /// # Errors
    /// The other call does not end.
    pub(crate) fn settled(&self) -> Result<Option<Lock>, NodeError> {
        let path = self.root.join("lock");
        match File::open(&path) {
            Ok(file) => Self::held(file, &path, FlockArg::LockSharedNonblock).map(Some),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(NodeError::io(format!("cannot lock {}", path.display()))(e)),
        }
    }

    fn held(mut file: File, path: &Path, how: FlockArg) -> Result<Lock, NodeError> {
        let cannot = || NodeError::io(format!("cannot lock {}", path.display()));
        let until = Instant::now() + PATIENCE;
        loop {
            match Flock::lock(file, how) {
                Ok(file) => return Ok(Lock { file }),
                Err((back, nix::errno::Errno::EWOULDBLOCK)) if Instant::now() < until => {
                    file = back;
                    std::thread::sleep(Duration::from_millis(10));
                }
                Err((_, nix::errno::Errno::EWOULDBLOCK)) => {
                    return Err(NodeError::Busy { seconds: PATIENCE.as_secs() });
                }
                Err((_, e)) => return Err(cannot()(e.into())),
            }
        }
    }

    fn folder(&self, id: &str) -> PathBuf {
        self.root.join("generations").join(id)
    }

    /// The folder with `apply.sh` of a kept generation.
    pub(crate) fn scripts(&self, entry: &Entry) -> PathBuf {
        self.folder(&entry.id).join(&entry.node).join("nft")
    }

    /// Keeps a generation: whole and on the disk, or not at all.
    ///
    /// # Errors
    /// It cannot be written.
    pub(crate) fn keep(&self, generation: &Generation) -> Result<(), NodeError> {
        let folder = self.folder(&generation.id);
        if self.load_id(&generation.id, &generation.node).is_ok() {
            return Ok(());
        }
        let cannot = || NodeError::io(format!("cannot write {}", folder.display()));
        let fresh = folder.with_extension("new");
        for old in [&fresh, &folder] {
            match fs::remove_dir_all(old) {
                Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(cannot()(e)),
                _ => {}
            }
        }
        let kept = DirBuilder::new()
            .mode(0o700)
            .create(&fresh)
            .map_err(cannot())
            .and_then(|()| generation.keep(&fresh))
            .and_then(|()| fs::rename(&fresh, &folder).map_err(cannot()));
        if kept.is_err() {
            // Not to fill a disk that is full already; what stays is removed by the next call.
            let _ = fs::remove_dir_all(&fresh);
        }
        kept?;
        generation::sync_folder(&self.root.join("generations"))
    }

    /// Reads and verifies a kept generation.
    ///
    /// # Errors
    /// It is not there or not as it was kept.
    pub fn load(&self, entry: &Entry) -> Result<Generation, NodeError> {
        self.load_id(&entry.id, &entry.node)
    }

    fn load_id(&self, id: &str, node: &str) -> Result<Generation, NodeError> {
        let folder = self.folder(id);
        let found = Generation::open(&folder, Some(node))?;
        if found.id != id {
            return Err(NodeError::Digest { path: folder });
        }
        Ok(found)
    }

    /// An empty folder for files that live as long as one call.
    ///
    /// # Errors
    /// It cannot be made.
    pub(crate) fn scratch(&self) -> Result<PathBuf, NodeError> {
        let folder = self.root.join("scratch");
        let cannot = || NodeError::io(format!("cannot write to {}", folder.display()));
        match fs::remove_dir_all(&folder) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(cannot()(e)),
            _ => {}
        }
        DirBuilder::new().mode(0o700).create(&folder).map_err(cannot())?;
        Ok(folder)
    }

    /// Removes the generations that the record does not name.
    ///
    /// # Errors
    /// The folder cannot be read; what cannot be removed stays until the next call.
    pub(crate) fn prune(&self, record: &Record) -> Result<(), NodeError> {
        let named: BTreeSet<&str> = record
            .current
            .iter()
            .chain(&record.earlier)
            .chain(record.pending.iter().map(|p| &p.to))
            .map(|e| e.id.as_str())
            .collect();
        let folder = self.root.join("generations");
        let entries =
            fs::read_dir(&folder).map_err(NodeError::io(format!("cannot read {}", folder.display())))?;
        for entry in entries.flatten() {
            if entry.file_name().to_str().is_none_or(|name| !named.contains(name)) {
                let _ = fs::remove_dir_all(entry.path());
            }
        }
        Ok(())
    }
}
