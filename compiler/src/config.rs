//! `partywall.toml`: lint levels, the owners of folders, and the sizes of switches' tables.

use crate::lints::{Level, Levels};
use globset::{GlobBuilder, GlobMatcher};
use lang::codes::Code;
use serde::Deserialize;
use std::collections::BTreeMap;
use toml::Spanned;

/// What `partywall.toml` says; the default is that of a project without one.
#[derive(Debug, Clone, Default)]
pub struct Config {
    pub lints: Levels,
    /// In the order of their patterns.
    pub owners: Vec<OwnedPath>,
    /// By name.
    pub profiles: BTreeMap<String, Profile>,
}

/// `[profile.NAME]`: what some nodes have room for.
#[derive(Debug, Clone, Default)]
pub struct Profile {
    /// Nodes by name, each with its place. INVARIANT: no node is in two profiles.
    pub nodes: BTreeMap<String, Position>,
    /// Tables of the target by name: how many entries they hold, from 1, and where that stands.
    pub tables: BTreeMap<String, (u32, Position)>,
}

/// A place in `partywall.toml`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Position {
    /// From 1.
    pub line: usize,
    /// From 1, in characters.
    pub column: usize,
}

/// `"tenants/shop/**" = "shop"`
#[derive(Debug, Clone)]
pub struct OwnedPath {
    matcher: GlobMatcher,
    pub tenant: String,
}

impl OwnedPath {
    /// Whether a path (relative to the project's root, with `/`) lies under this pattern.
    #[must_use]
    pub fn matches(&self, path: &str) -> bool {
        self.matcher.is_match(path)
    }

    /// The pattern as written.
    #[must_use]
    pub fn pattern(&self) -> &str {
        self.matcher.glob().glob()
    }
}

/// What is wrong with `partywall.toml`, and where.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("partywall.toml:{line}:{column}: {message}")]
pub struct ConfigError {
    /// From 1.
    pub line: usize,
    /// From 1, in characters.
    pub column: usize,
    pub message: String,
}

impl ConfigError {
    fn at(text: &str, offset: usize, message: impl Into<String>) -> Self {
        Self::new(Position::of(text, offset), message)
    }

    /// Something wrong at a place.
    pub fn new(position: Position, message: impl Into<String>) -> Self {
        let Position { line, column } = position;
        Self { line, column, message: message.into() }
    }
}

impl Position {
    fn of(text: &str, offset: usize) -> Self {
        let before = text.get(..offset).unwrap_or(text);
        let line_start = before.rfind('\n').map_or(0, |at| at + 1);
        Self {
            line: before.matches('\n').count() + 1,
            column: before.get(line_start..).unwrap_or_default().chars().count() + 1,
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Raw {
    #[serde(default)]
    lints: BTreeMap<Spanned<String>, Spanned<String>>,
    #[serde(default)]
    owners: BTreeMap<Spanned<String>, Spanned<String>>,
    #[serde(default)]
    profile: BTreeMap<String, RawProfile>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawProfile {
    nodes: Vec<Spanned<String>>,
    tables: BTreeMap<Spanned<String>, Spanned<i64>>,
}

/// Reads the text of `partywall.toml`.
///
/// # Errors
/// The first thing in it that is not understood, with its place: TOML's syntax, an unknown key, code or level, a level
/// that the code cannot have, a pattern that is none, a size that no table has, a node in two profiles. Whether there are such nodes and
/// tables is for those to say who know them.
pub fn parse(text: &str) -> Result<Config, ConfigError> {
    let raw: Raw = toml::from_str(text).map_err(|error| {
        let offset = error.span().map_or(0, |span| span.start);
        ConfigError::at(text, offset, error.message().trim().replace('\n', ": "))
    })?;
    let mut config = Config::default();
    for (key, value) in &raw.lints {
        let code = Code::parse(key.get_ref()).ok_or_else(|| {
            let near = lang::suggest(key.get_ref(), Code::ALL.iter().map(|code| code.as_str()));
            let hint = near.map(|near| format!("; did you mean `{near}`?")).unwrap_or_default();
            ConfigError::at(text, key.span().start, format!("`{}` is no code{hint}", key.get_ref()))
        })?;
        let level = Level::parse(value.get_ref()).ok_or_else(|| {
            let message = format!("`{}` is no level: write \"deny\", \"warn\" or \"allow\"", value.get_ref());
            ConfigError::at(text, value.span().start, message)
        })?;
        config
            .lints
            .set(code, level)
            .map_err(|fixed| ConfigError::at(text, value.span().start, fixed.to_string()))?;
    }
    for (pattern, tenant) in &raw.owners {
        let glob = GlobBuilder::new(pattern.get_ref()).literal_separator(true).build().map_err(|error| {
            let message = format!("`{}` is no pattern: {}", pattern.get_ref(), error.kind());
            ConfigError::at(text, pattern.span().start, message)
        })?;
        config.owners.push(OwnedPath { matcher: glob.compile_matcher(), tenant: tenant.get_ref().clone() });
    }
    let mut placed: BTreeMap<&str, &str> = BTreeMap::new();
    for (name, raw) in &raw.profile {
        config.profiles.insert(name.clone(), profile(text, name, raw, &mut placed)?);
    }
    Ok(config)
}

/// `placed`: nodes with the profile that they are in.
fn profile<'r>(
    text: &str,
    name: &'r str,
    raw: &'r RawProfile,
    placed: &mut BTreeMap<&'r str, &'r str>,
) -> Result<Profile, ConfigError> {
    let mut out = Profile::default();
    for node in &raw.nodes {
        if let Some(other) = placed.insert(node.get_ref(), name) {
            let node_name = node.get_ref();
            let message = if other == name {
                format!("node `{node_name}` is listed twice")
            } else {
                format!("node `{node_name}` is in profile `{other}` as well: a node has one")
            };
            return Err(ConfigError::at(text, node.span().start, message));
        }
        out.nodes.insert(node.get_ref().clone(), Position::of(text, node.span().start));
    }
    for (table, size) in &raw.tables {
        let entries = u32::try_from(*size.get_ref()).ok().filter(|n| *n > 0).ok_or_else(|| {
            let message = format!("a table has 1 to {} entries, not {}", u32::MAX, size.get_ref());
            ConfigError::at(text, size.span().start, message)
        })?;
        out.tables.insert(table.get_ref().clone(), (entries, Position::of(text, table.span().start)));
    }
    Ok(out)
}
