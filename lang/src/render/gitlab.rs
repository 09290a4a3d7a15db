//! `check --format gitlab`: GitLab's code quality report.

use serde::Serialize;

use super::ci::{self, Spot};
use super::fingerprint::fingerprints;
use crate::diag::{Diagnostic, Severity};
use crate::source::Sources;

#[derive(Debug, Serialize)]
struct Issue {
    #[serde(rename = "type")]
    kind: &'static str,
    description: String,
    check_name: &'static str,
    fingerprint: String,
    severity: &'static str,
    categories: [&'static str; 1],
    location: Location,
}

#[derive(Debug, Serialize)]
struct Location {
    path: String,
    lines: Lines,
}

#[derive(Debug, Serialize)]
struct Lines {
    begin: u32,
    end: u32,
}

/// Of `info`, `minor`, `major`, `critical` and `blocker`: an error makes the check fail, a warning asks for a change.
fn severity(severity: Severity) -> &'static str {
    match severity {
        Severity::Error => "critical",
        Severity::Warning => "minor",
        Severity::Note => "info",
    }
}

/// The report as text, ending with a line break: an array with one issue for each finding, in the order given.
///
/// # Errors
/// None in practice: every part is a string or a number.
pub fn gitlab(
    sources: &Sources,
    diagnostics: &[Diagnostic],
    prefix: &str,
) -> Result<String, serde_json::Error> {
    let issues: Vec<Issue> = diagnostics
        .iter()
        .zip(fingerprints(sources, diagnostics, prefix))
        .map(|(diagnostic, fingerprint)| {
            let Spot { path, start, end } = Spot::of(sources, diagnostic.span, prefix);
            Issue {
                kind: "issue",
                description: description(diagnostic),
                check_name: diagnostic.code.as_str(),
                fingerprint,
                severity: severity(diagnostic.severity),
                categories: ["Bug Risk"],
                location: Location { path, lines: Lines { begin: start.line, end: end.line } },
            }
        })
        .collect();
    let mut text = serde_json::to_string_pretty(&issues)?;
    text.push('\n');
    Ok(text)
}

/// One line: GitLab shows no more.
fn description(diagnostic: &Diagnostic) -> String {
    let mut parts = vec![ci::message(diagnostic)];
    parts.extend(ci::remarks(diagnostic));
    parts.join("; ")
}
