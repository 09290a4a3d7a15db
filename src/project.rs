//! Reading a project: which files belong to it, in which order, and what they hold.

use crate::exit::Failure;
use rayon::prelude::*;
use std::fs::{self, Metadata};
use std::path::{Path, PathBuf};

/// A file larger than this is no policy; the offsets of spans are 32 bits wide.
pub const MAX_FILE_BYTES: u64 = 64 << 20;

/// Folders nested deeper than this are a mistake (a loop of bind mounts, a generator gone wild).
pub const MAX_DEPTH: usize = 64;

/// The optional settings in a project's root.
pub const CONFIG: &str = "partywall.toml";

/// One policy file, as read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct File {
    /// Relative to the project's root, with `/`.
    pub path: String,
    /// Not necessarily UTF-8: that is for the parser to say.
    pub bytes: Vec<u8>,
}

/// A project, as read.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Project {
    /// The folder that the paths are relative to.
    pub root: PathBuf,
    /// Ascending by path.
    pub files: Vec<File>,
    /// The text of `partywall.toml`, if there is one.
    pub config: Option<String>,
}

/// Reads the project at `path`: a folder, with every `*.pw` at any depth, or a single `.pw` file. Hidden files and
/// folders and links to folders do not belong to it.
///
/// # Errors
/// Something cannot be read, or there is no policy.
pub fn load(path: &Path) -> Result<Project, Failure> {
    let shown = path.display();
    let metadata = fs::metadata(path).map_err(|e| Failure::io(format!("cannot read {shown}"), &e))?;
    if !metadata.is_dir() {
        return single(path, &metadata);
    }
    let read: Vec<Result<File, Failure>> = list(path)?
        .into_par_iter()
        .map(|(name, place)| Ok(File { path: name, bytes: read(&place)? }))
        .collect();
    // Of several that cannot be read the first by name is told.
    let files: Vec<File> = read.into_iter().collect::<Result<_, _>>()?;
    if files.is_empty() {
        return Err(Failure::new(format!("no .pw file below {shown}")));
    }
    Ok(Project { root: path.to_owned(), files, config: config(path)? })
}

fn single(path: &Path, metadata: &Metadata) -> Result<Project, Failure> {
    if !is_policy(path) {
        return Err(Failure::new(format!(
            "{} is neither a folder nor a .pw file: give a project's folder or one .pw file",
            path.display()
        )));
    }
    if !metadata.is_file() {
        return Err(irregular(path));
    }
    let name = path.file_name().map(Path::new).map(name_of).transpose()?.unwrap_or_default();
    let root = path.parent().map(Path::to_owned).unwrap_or_default();
    Ok(Project { root, files: vec![File { path: name, bytes: read(path)? }], config: None })
}

fn config(root: &Path) -> Result<Option<String>, Failure> {
    let path = root.join(CONFIG);
    if fs::symlink_metadata(&path).is_err_and(|e| e.kind() == std::io::ErrorKind::NotFound) {
        return Ok(None);
    }
    String::from_utf8(read(&path)?)
        .map(Some)
        .map_err(|_| Failure::new(format!("cannot read {}: it is not UTF-8", path.display())))
}

/// The policy files of a folder: name relative to it, and place; ascending by name.
///
/// # Errors
/// A folder cannot be read, or a name is not UTF-8.
pub fn list(root: &Path) -> Result<Vec<(String, PathBuf)>, Failure> {
    let mut found = Vec::new();
    let mut folders = vec![(root.to_owned(), 0)];
    while let Some((folder, depth)) = folders.pop() {
        let cannot = |e: &std::io::Error| Failure::io(format!("cannot read {}", folder.display()), e);
        for entry in fs::read_dir(&folder).map_err(|e| cannot(&e))? {
            let entry = entry.map_err(|e| cannot(&e))?;
            let path = entry.path();
            if entry.file_name().as_encoded_bytes().starts_with(b".") {
                continue;
            }
            let kind = entry.file_type().map_err(|e| cannot(&e))?;
            if kind.is_dir() {
                if depth == MAX_DEPTH {
                    return Err(Failure::new(format!(
                        "{} lies more than {MAX_DEPTH} folders deep: no project is that deep",
                        path.display()
                    )));
                }
                folders.push((path, depth + 1));
            } else if is_policy(&path) && !(kind.is_symlink() && path.is_dir()) {
                let name = name_of(path.strip_prefix(root).unwrap_or(&path))?;
                found.push((name, path));
            }
        }
    }
    found.sort();
    Ok(found)
}

fn is_policy(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "pw")
}

/// A relative path with `/`.
fn name_of(path: &Path) -> Result<String, Failure> {
    let parts: Option<Vec<&str>> = path.iter().map(|part| part.to_str()).collect();
    parts
        .map(|parts| parts.join("/"))
        .ok_or_else(|| Failure::new(format!("the name of {} is not UTF-8", path.display())))
}

/// The bytes of a regular file.
///
/// # Errors
/// It cannot be read, is no regular file, or is too large.
pub fn read(path: &Path) -> Result<Vec<u8>, Failure> {
    let cannot = |e: std::io::Error| Failure::io(format!("cannot read {}", path.display()), &e);
    let metadata = fs::metadata(path).map_err(cannot)?;
    if !metadata.is_file() {
        return Err(irregular(path));
    }
    if metadata.len() > MAX_FILE_BYTES {
        return Err(Failure::new(format!(
            "{} is larger than {} MiB, more than any policy file",
            path.display(),
            MAX_FILE_BYTES >> 20
        )));
    }
    fs::read(path).map_err(cannot)
}

fn irregular(path: &Path) -> Failure {
    Failure::new(format!("{} is not a regular file", path.display()))
}
