//! What a shard's JSON report carries for `merge`: what was found before suppressions and levels, and the texts it is about.

use super::print::Places;
use crate::checked::{Checked, Shard, State};
use crate::cli::Levels;
use crate::exit::Failure;
use crate::project::Project;
use crate::record::{Allowed, Finding};
use lang::codes::Code;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct HandedOn {
    #[serde(rename = "part")]
    pub(crate) shard: Shard,
    /// The digest of all inputs and of the build.
    pub(crate) inputs: String,
    pub(crate) settings: Settings,
    pub(crate) places: Places,
    pub(crate) files: Vec<File>,
    pub(crate) state: State,
}

/// What the shards of one check have to agree on beside their inputs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Settings {
    pub(crate) config: Option<String>,
    pub(crate) deny: Vec<String>,
    pub(crate) allow: Vec<String>,
}

/// One file of the project.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct File {
    pub(crate) path: String,
    /// If some place in this report lies in it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) text: Option<String>,
}

impl HandedOn {
    pub(crate) fn new(
        checked: &Checked,
        project: &Project,
        shard: Shard,
        levels: &Levels,
        places: &Places,
    ) -> Self {
        let state = &checked.state;
        let shared = state.shared.iter().flat_map(|(_, pairs)| pairs).map(|pair| &pair.finding);
        let mut named: BTreeSet<u32> = state.findings.iter().chain(shared).flat_map(Finding::files).collect();
        named.extend(state.suppressions.iter().map(Allowed::file));
        let files = checked.sources.iter().map(|(id, source)| File {
            path: source.path().to_owned(),
            text: named.contains(&id.0).then(|| source.text().to_owned()),
        });
        let codes = |codes: &[Code]| codes.iter().map(|code| code.as_str().to_owned()).collect();
        Self {
            shard,
            inputs: checked.inputs.clone(),
            settings: Settings {
                config: project.config.clone(),
                deny: codes(&levels.deny),
                allow: codes(&levels.allow),
            },
            places: places.clone(),
            files: files.collect(),
            state: state.clone(),
        }
    }

    /// The JSON report with one more field, `shard`.
    ///
    /// # Errors
    /// It cannot be written.
    pub(crate) fn added_to(&self, report: &str) -> Result<String, Failure> {
        let unwritten = |error: String| Failure::new(format!("cannot write the findings: {error}"));
        let shard = serde_json::to_string(self).map_err(|error| unwritten(error.to_string()))?;
        let open = report.trim_end().strip_suffix('}').ok_or_else(|| unwritten("no document".to_owned()))?;
        Ok(format!("{},\"shard\":{shard}}}\n", open.trim_end()))
    }
}
