//! Names the sources that this build is made of, so that what one build has stored is never taken for another's.

use std::collections::hash_map::DefaultHasher;
use std::hash::Hasher;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::{env, fs, io};

/// What verdicts depend on.
const SOURCES: &[&str] = &["Cargo.lock", "src", "lang/src", "compiler/src", "verifier/src"];

fn main() -> io::Result<()> {
    let root = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").unwrap_or_default());
    let mut hasher = DefaultHasher::new();
    let mut out = io::stdout().lock();
    for name in SOURCES {
        writeln!(out, "cargo::rerun-if-changed={name}")?;
        add(&mut hasher, &root.join(name))?;
    }
    writeln!(out, "cargo::rustc-env=PARTYWALL_SOURCES={:016x}", hasher.finish())
}

fn add(hasher: &mut DefaultHasher, path: &Path) -> io::Result<()> {
    if !path.is_dir() {
        let bytes = fs::read(path)?;
        hasher.write_usize(bytes.len());
        hasher.write(&bytes);
        return Ok(());
    }
    let mut names: Vec<PathBuf> =
        fs::read_dir(path)?.map(|entry| entry.map(|entry| entry.path())).collect::<io::Result<_>>()?;
    names.sort();
    for name in names {
        hasher.write(name.file_name().unwrap_or_default().as_encoded_bytes());
        hasher.write_u8(0);
        add(hasher, &name)?;
    }
    Ok(())
}
