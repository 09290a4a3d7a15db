//! `check --format rdjson`: reviewdog's diagnostic format, a `DiagnosticResult`.

use serde::Serialize;

use super::ci::{self, Spot};
use crate::diag::{Diagnostic, Severity};
use crate::source::{Position, Sources};

#[derive(Debug, Serialize)]
struct Report {
    source: Tool,
    diagnostics: Vec<Entry>,
}

#[derive(Debug, Serialize)]
struct Tool {
    name: &'static str,
}

#[derive(Debug, Serialize)]
struct Entry {
    message: String,
    location: Location,
    severity: &'static str,
    code: Code,
}

#[derive(Debug, Serialize)]
struct Location {
    path: String,
    range: Range,
}

#[derive(Debug, Serialize)]
struct Range {
    start: Place,
    end: Place,
}

#[derive(Debug, Serialize)]
struct Place {
    line: u32,
    column: u32,
}

#[derive(Debug, Serialize)]
struct Code {
    value: &'static str,
}

/// The report as text, ending with a line break. Columns count the bytes of UTF-8 from 1, as the format has it (and
/// unlike every other format here); ends are exclusive.
///
/// # Errors
/// None in practice: every part is a string or a number.
pub fn rdjson(
    sources: &Sources,
    diagnostics: &[Diagnostic],
    prefix: &str,
) -> Result<String, serde_json::Error> {
    let entries = diagnostics.iter().map(|diagnostic| entry(sources, diagnostic, prefix)).collect();
    let mut text =
        serde_json::to_string_pretty(&Report { source: Tool { name: "partywall" }, diagnostics: entries })?;
    text.push('\n');
    Ok(text)
}

fn entry(sources: &Sources, diagnostic: &Diagnostic, prefix: &str) -> Entry {
    let Spot { path, start, end } = Spot::of(sources, diagnostic.span, prefix);
    let file = ci::known(sources, diagnostic.span).file;
    let bytes = |position: Position| {
        let line = sources.get(file).and_then(|source| source.line(position.line)).unwrap_or_default();
        let before = usize::try_from(position.column).unwrap_or(usize::MAX).saturating_sub(1);
        let bytes: usize = line.chars().take(before).map(char::len_utf8).sum();
        // What stands behind the line's last character (its end) is one byte a character.
        let beyond = before.saturating_sub(line.chars().count());
        Place {
            line: position.line,
            column: u32::try_from(bytes + beyond).unwrap_or(u32::MAX).saturating_add(1),
        }
    };
    Entry {
        message: ci::told(sources, diagnostic, prefix),
        location: Location { path, range: Range { start: bytes(start), end: bytes(end) } },
        severity: match diagnostic.severity {
            Severity::Error => "ERROR",
            Severity::Warning => "WARNING",
            Severity::Note => "INFO",
        },
        code: Code { value: diagnostic.code.as_str() },
    }
}
