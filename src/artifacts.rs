//! A build's files on disk: the whole of the old or the whole of the new, whatever interrupts.

use crate::exit::Failure;
use backends::Bundle;
use rustix::fs::{CWD, RenameFlags, renameat_with};
use std::fs;
use std::io::Write;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// What says that a folder was made by `build`.
const MANIFEST: &str = "manifest.json";

/// Whether `build` may put its output here: nothing is there, an empty folder, or an older output.
///
/// # Errors
/// Something else is there.
pub fn replaceable(out: &Path) -> Result<(), Failure> {
    let shown = out.display();
    let mut entries = match fs::read_dir(out) {
        Ok(entries) => entries,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(e) => return Err(Failure::io(format!("cannot write to {shown}"), &e)),
    };
    if entries.next().is_none() || out.join(MANIFEST).is_file() {
        return Ok(());
    }
    Err(Failure::new(format!(
        "{shown} holds other things and no {MANIFEST}: it was not made by `build` and is left alone"
    )))
}

/// Writes a bundle to `out`: into a folder beside it first, then the two change places at once.
///
/// # Errors
/// It cannot be written; what was there is there still.
pub fn write(bundle: &Bundle, out: &Path) -> Result<(), Failure> {
    replaceable(out)?;
    let cannot = |e: std::io::Error| Failure::io(format!("cannot write {}", out.display()), &e);
    // A link is followed: what it names is replaced, not the link.
    let target = if out.exists() { out.canonicalize().map_err(cannot)? } else { out.to_owned() };
    let parent = target.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    fs::create_dir_all(parent).map_err(cannot)?;
    let fresh = tempfile::Builder::new()
        .prefix(".partywall-")
        .permissions(fs::Permissions::from_mode(0o777))
        .tempdir_in(parent)
        .map_err(cannot)?;
    fill(bundle, fresh.path())?;
    if !target.exists() {
        fs::rename(fresh.path(), &target).map_err(cannot)?;
        // The folder has another name now and is not to be removed.
        let _ = fresh.keep();
        return Ok(());
    }
    match renameat_with(CWD, fresh.path(), CWD, &target, RenameFlags::EXCHANGE) {
        // The old output is removed where the new one was made.
        Ok(()) => fresh.close().map_err(cannot),
        Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOSYS) => step_aside(fresh.keep(), &target),
        Err(e) => Err(cannot(e.into())),
    }
}

/// For file systems that cannot exchange: the old output steps aside for a moment and comes back if the new one cannot
/// take its place.
fn step_aside(fresh: PathBuf, target: &Path) -> Result<(), Failure> {
    let cannot = |e: std::io::Error| Failure::io(format!("cannot write {}", target.display()), &e);
    let aside = fresh.with_extension("old");
    fs::rename(target, &aside).map_err(cannot)?;
    if let Err(e) = fs::rename(&fresh, target) {
        fs::rename(&aside, target).map_err(cannot)?;
        return Err(cannot(e));
    }
    fs::remove_dir_all(&aside).map_err(cannot)
}

fn fill(bundle: &Bundle, folder: &Path) -> Result<(), Failure> {
    for file in &bundle.files {
        let path = folder.join(&file.path);
        let cannot = |e: std::io::Error| Failure::io(format!("cannot write {}", file.path), &e);
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent).map_err(cannot)?;
        }
        let mode = if file.executable { 0o777 } else { 0o666 };
        let mut options = fs::OpenOptions::new();
        let mut open = options.write(true).create_new(true).mode(mode).open(&path).map_err(cannot)?;
        open.write_all(&file.bytes).and_then(|()| open.sync_all()).map_err(cannot)?;
    }
    Ok(())
}
