//! A report in the formats of `check`.

use crate::checked::{Facts, Report};
use crate::exit::Failure;
use crate::place;
use clap::ValueEnum;
use lang::render;
use serde::{Deserialize, Serialize};
use std::path::Path;

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// With the source, for people
    Human,
    /// A line each
    Concise,
    /// One document, for tools
    Json,
    /// SARIF 2.1.0, for GitHub code scanning
    Sarif,
    /// Workflow commands, for annotations of GitHub Actions: the ten worst findings
    Github,
    /// GitLab's code quality report
    Gitlab,
    /// JUnit XML, for viewers of test results
    Junit,
    /// reviewdog's diagnostic format
    Rdjson,
}

/// Where a project lies, for those who read its paths.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Places {
    /// What makes its paths relative to the root of its repository.
    in_repository: String,
    /// What makes them relative to the working folder.
    from_here: String,
}

impl Places {
    pub(crate) fn of(project: &Path) -> Self {
        Self { in_repository: place::in_repository(project), from_here: place::from_here(project) }
    }
}

/// A report in one of the formats.
///
/// # Errors
/// It cannot be written so.
pub(crate) fn text(report: &Report, format: Format, places: &Places, color: bool) -> Result<String, Failure> {
    let (sources, findings) = (&report.sources, &report.findings);
    let version = env!("CARGO_PKG_VERSION");
    let project = report.facts.project.as_str();
    // Who reads a report of continuous integration knows the repository, not the project's folder in it.
    let prefix = places.in_repository.as_str();
    match format {
        Format::Human => Ok(human(report, color)),
        Format::Concise => Ok(render::concise(sources, findings)),
        Format::Json => {
            render::json(sources, findings, render::JsonOptions { version, project }).map_err(unwritten)
        }
        Format::Sarif => {
            let options = render::CiOptions { version, project, prefix };
            render::sarif(sources, findings, options).map_err(unwritten)
        }
        Format::Github => Ok(render::github(sources, findings, prefix)),
        Format::Gitlab => render::gitlab(sources, findings, prefix).map_err(unwritten),
        Format::Junit => render::junit(sources, findings, prefix).map_err(unwritten),
        // reviewdog itself adds the way from the repository's root to the working folder.
        Format::Rdjson => render::rdjson(sources, findings, &places.from_here).map_err(unwritten),
    }
}

fn unwritten(error: impl std::fmt::Display) -> Failure {
    Failure::new(format!("cannot write the findings: {error}"))
}

/// Nobody reads more findings than this with their source.
const MAX_SHOWN: usize = 1_000;

/// The findings with their source, and one line that sums up.
fn human(report: &Report, color: bool) -> String {
    let shown = report.findings.get(..MAX_SHOWN).unwrap_or(&report.findings);
    let mut text = render::human(&report.sources, shown, color);
    if shown.len() < report.findings.len() {
        text.push_str(&format!(
            "… and {} more; `--format concise` and `--format json` list all\n\n",
            report.findings.len() - shown.len()
        ));
    }
    let summary = render::json::Summary::of(&report.findings);
    let parts: Vec<String> =
        [(summary.errors, "error"), (summary.warnings, "warning"), (summary.notes, "note")]
            .into_iter()
            .filter(|(count, _)| *count > 0)
            .map(|(count, what)| format!("{count} {what}{}", if count == 1 { "" } else { "s" }))
            .collect();
    let Facts { project: _, files, tenants, rules, exposures } = &report.facts;
    let files = format!("{files} file{}", if *files == 1 { "" } else { "s" });
    if parts.is_empty() {
        text.push_str(&format!(
            "no findings in {files}: {tenants} tenants, {rules} rules, {exposures} exposures\n"
        ));
    } else {
        text.push_str(&format!("{} in {files}\n", parts.join(", ")));
    }
    text
}
