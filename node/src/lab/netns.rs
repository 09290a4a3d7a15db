//! Network namespaces by name, as iproute2 keeps them.

use super::error::LabError;
use nix::sched::{CloneFlags, setns};
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

/// Where iproute2 binds named namespaces.
fn directory() -> PathBuf {
    let run = Path::new("/run/netns");
    if run.is_dir() { run.to_path_buf() } else { PathBuf::from("/var/run/netns") }
}

/// Names of all namespaces that begin with `prefix`, ascending.
///
/// # Errors
/// The directory exists and cannot be read.
pub(crate) fn list(prefix: &str) -> Result<Vec<String>, LabError> {
    let directory = directory();
    let what = || format!("cannot list {}", directory.display());
    let entries = match std::fs::read_dir(&directory) {
        Ok(entries) => entries,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(e) => return Err(LabError::io(what())(e)),
    };
    let mut names = Vec::new();
    for entry in entries {
        let entry = entry.map_err(LabError::io(what()))?;
        if let Ok(name) = entry.file_name().into_string()
            && name.starts_with(prefix)
        {
            names.push(name);
        }
    }
    names.sort_unstable();
    Ok(names)
}

/// Runs `f` on a thread of its own inside a namespace. Sockets made there stay there, whoever uses them later.
///
/// # Errors
/// The namespace cannot be entered, or `f` fails.
pub(crate) fn enter<T: Send>(
    name: &str,
    f: impl FnOnce() -> Result<T, LabError> + Send,
) -> Result<T, LabError> {
    let path = directory().join(name);
    std::thread::scope(|scope| {
        let worker = scope.spawn(move || {
            let entered = File::open(&path)
                .and_then(|file| setns(file, CloneFlags::CLONE_NEWNET).map_err(io::Error::from));
            entered.map_err(LabError::io(format!("cannot enter network namespace {}", path.display())))?;
            f()
        });
        worker.join().unwrap_or(Err(LabError::Worker))
    })
}

/// Writes one sysctl of the namespace the calling thread is in. A missing one is no error: what it would switch is
/// not there either.
///
/// # Errors
/// The kernel refuses the value.
pub(crate) fn sysctl(key: &str, value: &str) -> Result<(), LabError> {
    let path = Path::new("/proc/sys").join(key);
    match std::fs::write(&path, value) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other.map_err(LabError::io(format!("cannot set {}", path.display()))),
    }
}
