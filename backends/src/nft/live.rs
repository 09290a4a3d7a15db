//! The live instances of gateways as an input at the time of installing: one node's files for other instances than they were
//! built for, without the project.
//!
//! The maps `cell` and `only` say of each entry, in its comment, which instances it may go to and in which order. Nothing else
//! in a node's files depends on who is alive, so that the result is what `build` gives with the same instances down.

use super::print::{DIGEST, SUFFIX, seal};
use crate::artifacts::Artifact;
use crate::linux::{numbers, numbers::small};
use std::collections::BTreeSet;

/// Why files could not be changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Unreadable {
    /// A file is not text, or does not name its generation.
    NotOurs { path: String },
    /// A line of a map does not name instances that the manifest lists.
    Entry { path: String, line: usize },
}

impl std::fmt::Display for Unreadable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::NotOurs { path } => write!(f, "{path} does not name its generation"),
            Self::Entry { path, line } => {
                write!(f, "{path}:{line} names an instance that the manifest does not list for this node")
            }
        }
    }
}

impl std::error::Error for Unreadable {}

/// One node's files of the nft target with these gateway nodes down and all others alive, whatever they were built for.
/// `instances` is the manifest's list for this node. The files keep their order; their generation is their own.
///
/// # Errors
/// A file is not what `build` wrote.
pub fn with_down(
    files: &[Artifact],
    instances: &[String],
    down: &BTreeSet<String>,
) -> Result<Vec<Artifact>, Unreadable> {
    let mut drafts = Vec::with_capacity(files.len());
    for file in files {
        let strange = || Unreadable::NotOurs { path: file.path.clone() };
        let text = std::str::from_utf8(&file.bytes).map_err(|_| strange())?;
        let digest = text
            .lines()
            .take(2)
            .find_map(|line| line.strip_prefix("# partywall generation "))
            .filter(|digest| digest.len() == 64 && digest.bytes().all(|b| b.is_ascii_hexdigit()))
            .ok_or_else(strange)?;
        let suffix: String = digest.chars().take(8).collect();
        let plain = text
            .replace(digest, DIGEST)
            .replace(&format!("_{suffix}"), &format!("_{SUFFIX}"))
            .replace(&format!("SUFFIX={suffix}"), &format!("SUFFIX={SUFFIX}"));
        let plain = if file.path.ends_with("stage.nft") {
            redirected(&plain, instances, down)
                .map_err(|line| Unreadable::Entry { path: file.path.clone(), line })?
        } else {
            plain
        };
        drafts.push((file.path.clone(), file.executable, plain));
    }
    Ok(seal(drafts))
}

/// The text with each entry of the two maps led to its first live instance; else the line, from 1, that cannot be.
fn redirected(text: &str, instances: &[String], down: &BTreeSet<String>) -> Result<String, usize> {
    let opened = ["cell", "only"].map(|map| format!("  map {map}_{SUFFIX} {{"));
    let mut out = String::with_capacity(text.len());
    let mut inside = false;
    for (number, line) in text.lines().enumerate().map(|(at, line)| (at + 1, line)) {
        if opened.iter().any(|start| line == start) {
            inside = true;
        } else if line == "  }" {
            inside = false;
        }
        // `      0x06000000 . 0:1 : 0x07000001, # g2 g1`
        let entry = line.split_once(", # ").filter(|_| inside).and_then(|(element, names)| {
            let (key, _) = element.rsplit_once(" : ")?;
            Some((key, names))
        });
        match entry {
            Some((key, names)) => {
                // What follows a comma are the rules that lead there.
                let ranking = names.split(',').next().unwrap_or_default();
                let mut live = numbers::NOBODY;
                for name in ranking.split(' ').rev() {
                    let at = instances.iter().position(|i| i == name).ok_or(number)?;
                    if !down.contains(name) {
                        live = numbers::INSTANCE | small(at);
                    }
                }
                out.push_str(&format!("{key} : {live:#010x}, # {names}\n"));
            }
            None => {
                out.push_str(line);
                out.push('\n');
            }
        }
    }
    Ok(out)
}
