//! A folder of results of earlier runs.
//!
//! An entry is one file: a line that names the form and the build that wrote it, a line with the BLAKE3 sum of its name and content, and
//! the content. One that is cut short, altered, renamed, of another form or of another build counts as absent and is written
//! anew. Files are written beside their place and renamed, so that runs at the same time never see half of one; of two that
//! write the same entry the last one stays. A folder that cannot be written to costs a warning and the results are not kept.
//!
//! The sum guards against accidents, not against people: who can write to the folder can write verdicts.

use crate::output;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

/// The first line of an entry.
const HEAD: &str = concat!("partywall-cache 1 ", env!("CARGO_PKG_VERSION"), " ", env!("PARTYWALL_SOURCES"));

/// Names of the build: its version and the sources it is made of.
pub const BUILD: &str = concat!(env!("CARGO_PKG_VERSION"), " ", env!("PARTYWALL_SOURCES"));

/// How entries' names end, and how those begin that are being written.
const ENDING: &str = ".pwc";
const UNFINISHED: &str = ".partywall-cache-";

/// What the folder may hold; the entries that were used longest ago go first.
const MOST_ENTRIES: usize = 256;
const MOST_BYTES: u64 = 256 << 20;
/// A larger entry is not kept.
const LARGEST: u64 = 32 << 20;
/// An unfinished file of this age is what a killed run left behind.
const LEFT_BEHIND: Duration = Duration::from_secs(3600);

/// A folder of entries.
#[derive(Debug)]
pub struct Cache {
    folder: PathBuf,
    /// A warning was given, or nothing is to be written.
    closed: AtomicBool,
}

impl Cache {
    /// The cache in a folder, which is made when there is something to keep.
    #[must_use]
    pub fn new(folder: &Path) -> Self {
        Self { folder: folder.to_owned(), closed: AtomicBool::new(false) }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.join(format!("{name}{ENDING}"))
    }

    /// The entry of this name, if there is a sound one.
    #[must_use]
    pub fn read<T: DeserializeOwned>(&self, name: &str) -> Option<T> {
        let path = self.path(name);
        let metadata = fs::metadata(&path).ok()?;
        if !metadata.is_file() || metadata.len() > LARGEST {
            return None;
        }
        let bytes = fs::read(&path).ok()?;
        let content = unwrap(name, &bytes)?;
        let value = serde_json::from_slice(content).ok()?;
        // For the sweep: it was of use. A folder that others own may refuse, which changes nothing.
        let _ = fs::File::options()
            .append(true)
            .open(&path)
            .and_then(|file| file.set_modified(SystemTime::now()));
        Some(value)
    }

    /// Keeps an entry.
    pub fn write<T: Serialize>(&self, name: &str, value: &T) {
        if self.closed.load(Ordering::Relaxed) {
            return;
        }
        let Ok(content) = serde_json::to_vec(value) else { return };
        if content.len() as u64 > LARGEST {
            return;
        }
        let kept = self.put(name, &content).and_then(|()| self.sweep());
        if let Err(error) = kept
            && !self.closed.swap(true, Ordering::Relaxed)
        {
            let failure =
                crate::exit::Failure::io(format!("cannot write to {}", self.folder.display()), &error);
            output::tell(&format!("{failure}; the results of this run are not kept for the next"));
        }
    }

    fn put(&self, name: &str, content: &[u8]) -> io::Result<()> {
        fs::create_dir_all(&self.folder)?;
        let mut file = tempfile::Builder::new()
            .prefix(UNFINISHED)
            .permissions(fs::Permissions::from_mode(0o666))
            .tempfile_in(&self.folder)?;
        writeln!(file, "{HEAD}\n{}", sum(name, content))?;
        file.write_all(content)?;
        file.persist(self.path(name)).map(|_| ()).map_err(|error| error.error)
    }

    /// Removes what is too much, oldest first, and what killed runs left behind. Nothing else in the folder is touched.
    fn sweep(&self) -> io::Result<()> {
        let now = SystemTime::now();
        let mut entries = Vec::new();
        for entry in fs::read_dir(&self.folder)? {
            let entry = entry?;
            let name = entry.file_name();
            let name = name.as_encoded_bytes();
            let ours = name.ends_with(ENDING.as_bytes());
            let unfinished = name.starts_with(UNFINISHED.as_bytes());
            // Another run may remove it first.
            let Ok(metadata) = entry.metadata() else { continue };
            let (Ok(used), true) = (metadata.modified(), metadata.is_file()) else { continue };
            if unfinished && now.duration_since(used).is_ok_and(|age| age > LEFT_BEHIND) {
                let _ = fs::remove_file(entry.path());
            } else if ours {
                entries.push((used, entry.path(), metadata.len()));
            }
        }
        entries.sort();
        let mut bytes: u64 = entries.iter().map(|(_, _, len)| len).sum();
        let mut count = entries.len();
        for (_, path, len) in entries {
            if count <= MOST_ENTRIES && bytes <= MOST_BYTES {
                break;
            }
            let _ = fs::remove_file(path);
            bytes -= len;
            count -= 1;
        }
        Ok(())
    }
}

/// Of the name too, so that an entry under another's name is none.
fn sum(name: &str, content: &[u8]) -> String {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&(name.len() as u64).to_le_bytes()).update(name.as_bytes()).update(content);
    hasher.finalize().to_hex().to_string()
}

fn unwrap<'b>(name: &str, bytes: &'b [u8]) -> Option<&'b [u8]> {
    let rest = bytes.strip_prefix(HEAD.as_bytes())?.strip_prefix(b"\n")?;
    let (written, content) = rest.split_at_checked(64)?;
    let content = content.strip_prefix(b"\n")?;
    (sum(name, content).as_bytes() == written).then_some(content)
}
