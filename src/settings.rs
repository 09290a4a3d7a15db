//! `partywall.toml`, held against what there is: tables of the targets, nodes of the project.

use crate::exit::Failure;
use backends::p4;
use compiler::Compiled;
use compiler::config::{self, Config, ConfigError};
use std::collections::BTreeMap;

/// Reads the settings; those of a project without any are the usual ones.
///
/// # Errors
/// What [`config::parse`] refuses, and a table that no target has.
pub(crate) fn read(text: Option<&str>) -> Result<Config, Failure> {
    let config = text.map(config::parse).transpose().map_err(refused)?.unwrap_or_default();
    let sizes = || config.profiles.values().flat_map(|profile| &profile.tables);
    if sizes().next().is_some() {
        let tables = p4::tables();
        for (name, (_, position)) in sizes() {
            if !tables.contains(name) {
                return Err(unknown("table", name, tables.iter().map(String::as_str), *position));
            }
        }
    }
    Ok(config)
}

/// By node, its profile.
///
/// # Errors
/// A node that the project has not.
pub(crate) fn profiles(
    config: &Config,
    compiled: &Compiled,
) -> Result<BTreeMap<String, p4::Profile>, Failure> {
    let nodes = || compiled.model.nodes.values().map(|node| node.name.as_str());
    let mut out = BTreeMap::new();
    for (name, profile) in &config.profiles {
        let tables = profile.tables.iter().map(|(table, (size, _))| (table.clone(), *size)).collect();
        let profile_of = p4::Profile { name: name.clone(), tables };
        for (node, position) in &profile.nodes {
            if !nodes().any(|known| known == node) {
                return Err(unknown("node", node, nodes(), *position));
            }
            out.insert(node.clone(), profile_of.clone());
        }
    }
    Ok(out)
}

fn unknown<'a>(
    kind: &str,
    name: &str,
    known: impl Iterator<Item = &'a str>,
    position: config::Position,
) -> Failure {
    let near = lang::suggest(name, known).map(|near| format!("; did you mean `{near}`?"));
    refused(ConfigError::new(position, format!("there is no {kind} `{name}`{}", near.unwrap_or_default())))
}

#[expect(clippy::needless_pass_by_value, reason = "given to map_err")]
fn refused(error: ConfigError) -> Failure {
    Failure::new(error.to_string())
}
