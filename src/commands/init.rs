//! `init DIR`: a small project to start from, the quickstart of the examples.

use crate::exit::{Exit, Failure, Outcome};
use crate::output::Out;
use clap::Args;
use std::path::{Path, PathBuf};

/// Write a small project to start from
#[derive(Debug, Args)]
pub struct InitArgs {
    /// A folder that is empty or not there yet
    dir: PathBuf,
}

const FILES: &[(&str, &str)] = &[
    ("fabric.pw", include_str!("../../examples/01-quickstart/fabric.pw")),
    ("policy.pw", include_str!("../../examples/01-quickstart/policy.pw")),
    ("tenants.pw", include_str!("../../examples/01-quickstart/tenants.pw")),
];

pub fn run(args: &InitArgs) -> Outcome {
    let dir = &args.dir;
    if !is_free(dir)? {
        return Err(Failure::new(format!(
            "{} is not empty: give a folder that is, or a new one",
            dir.display()
        )));
    }
    let cannot = |what: &Path, e: std::io::Error| Failure::io(format!("cannot write {}", what.display()), &e);
    std::fs::create_dir_all(dir).map_err(|e| cannot(dir, e))?;
    for (name, text) in FILES {
        let path = dir.join(name);
        std::fs::write(&path, text).map_err(|e| cannot(&path, e))?;
    }
    let mut out = Out::new();
    for (name, _) in FILES {
        out.text(&format!("{}\n", dir.join(name).display()))?;
    }
    out.flush()?;
    Ok(Exit::Clean)
}

/// Whether nothing is there, or an empty folder.
fn is_free(dir: &Path) -> Result<bool, Failure> {
    match std::fs::read_dir(dir) {
        Ok(mut entries) => Ok(entries.next().is_none()),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(true),
        Err(e) => Err(Failure::io(format!("cannot use {}", dir.display()), &e)),
    }
}
