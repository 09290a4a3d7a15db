//! The files of a node that is a switch, read whole. What a switch's tables hold is for its controller to read.

use super::{Generation, Target, choose, files, manifest, root};
use crate::error::NodeError;
use backends::p4;
use std::path::Path;

const FOLDER: &str = "p4";
const PARTS: [&str; 4] = ["bmv2.txt", "entries.txtpb", "partywall.p4", "partywall.p4info.txtpb"];
/// What a line begins with that names packets let through as answers.
const ADMITS: &str = "# admits ";

/// What a switch is given.
#[derive(Debug, Clone)]
pub struct Switch {
    pub node: String,
    /// The digest over the project's sources.
    pub build: String,
    /// The digest at the head of the node's files.
    pub digest: String,
    pub entries: usize,
    /// What answers admit beyond what the policy lets open a connection.
    pub admits: Vec<String>,
}

impl Switch {
    /// Reads what `build --target p4` wrote for a node, found as [`Generation::open`] finds one. `asked`: it is to be a switch; else
    /// `None` for a node that was built for another target (too).
    ///
    /// # Errors
    /// There is no manifest, it cannot be used or does not have the node, a file is missing or not as the manifest says, the program
    /// cannot be run, or the two files of entries are not the same entries.
    pub fn open(dir: &Path, node: Option<&str>, asked: bool) -> Result<Option<Self>, NodeError> {
        let (root, inside) = root(dir)?;
        let path = root.join(super::MANIFEST);
        let manifest = manifest::read(&path)?;
        let node = choose(&manifest, node.map(str::to_owned).or(inside), dir)?;
        let entry = manifest.nodes.get(&node).cloned().unwrap_or_default();
        let has = |folder: &str| {
            let start = format!("{node}/{folder}/");
            entry.files.keys().any(|file| file.starts_with(&start))
        };
        if !asked && (!has(FOLDER) || Target::ALL.iter().any(|target| has(target.folder()))) {
            return Ok(None);
        }
        if !has(FOLDER) {
            return Err(NodeError::manifest(&path, format!("it has nothing for the target p4 on {node}")));
        }
        let files = files(&root, &path, &node, (FOLDER, &PARTS), &entry)?;
        let text = |name: &str| {
            let bytes = files.get(name).map(Vec::as_slice).unwrap_or_default();
            std::str::from_utf8(bytes)
                .map_err(|_| NodeError::manifest(&path, format!("{name} of {node} is no text")))
        };
        let strange = |what: p4::ReadError| NodeError::manifest(&path, format!("{node}: {what}"));
        let entries = text("entries.txtpb")?;
        let running = p4::read(text("partywall.p4")?, entries).map_err(strange)?;
        if p4::bmv2(&running.program, text("bmv2.txt")?).map_err(strange)? != running.entries {
            return Err(NodeError::manifest(&path, format!("the two files of entries of {node} differ")));
        }
        let digest = entries.lines().next().and_then(|line| line.strip_prefix("# generation "));
        let digest = digest.and_then(|rest| rest.split(' ').next()).filter(|digest| super::is_digest(digest));
        let digest = digest
            .ok_or_else(|| {
                NodeError::manifest(&path, format!("entries.txtpb of {node} names no generation"))
            })?
            .to_owned();
        let (entries, admits) = (running.entries.by_key.len(), admits(entries));
        Ok(Some(Self { node, build: manifest.generation, digest, entries, admits }))
    }
}

impl Generation {
    /// What answers admit beyond what the policy lets open a connection, as these files list it.
    #[must_use]
    pub fn admits(&self) -> Vec<String> {
        if let Some(program) = &self.program {
            return program.listing.admits.clone();
        }
        let stage = self.files.get("stage.nft").map(|bytes| String::from_utf8_lossy(bytes));
        stage.map(|text| admits(&text)).unwrap_or_default()
    }
}

fn admits(text: &str) -> Vec<String> {
    text.lines().filter_map(|line| line.strip_prefix(ADMITS)).map(str::to_owned).collect()
}
