//! `check --format github`: workflow commands, which GitHub Actions shows as annotations.

use std::fmt::Write as _;

use super::ci::{self, Spot};
use super::json::Summary;
use crate::diag::{Diagnostic, Severity};
use crate::source::Sources;

/// A step shows ten annotations of a kind and no more.
const MOST: usize = 10;

/// An annotation holds 64 KB.
const LONGEST: usize = 8_000;

/// The ten worst findings, a workflow command each, and one notice that counts the others. Errors come first; those
/// of one severity keep their order.
///
/// A finding that spans several lines is shown at its beginning: GitHub drops the columns of a range of lines.
#[must_use]
pub fn github(sources: &Sources, diagnostics: &[Diagnostic], prefix: &str) -> String {
    let mut worst: Vec<&Diagnostic> = diagnostics.iter().collect();
    worst.sort_by_key(|diagnostic| diagnostic.severity);
    let rest: Vec<Diagnostic> = worst.iter().skip(MOST).map(|rest| (*rest).clone()).collect();
    let mut out = String::new();
    for diagnostic in worst.into_iter().take(MOST) {
        command(sources, diagnostic, prefix, &mut out);
    }
    if !rest.is_empty() {
        let summary = Summary::of(&rest);
        let kinds: Vec<String> =
            [(summary.errors, "error"), (summary.warnings, "warning"), (summary.notes, "note")]
                .into_iter()
                .filter(|(count, _)| *count > 0)
                .map(|(count, kind)| plural(count, kind))
                .collect();
        let (count, kinds) = (plural(rest.len(), "more finding"), kinds.join(", "));
        // Writing to a string cannot fail.
        let _ = writeln!(out, "::notice title=partywall::{}", data(&format!("{count}: {kinds}")));
    }
    out
}

fn plural(count: usize, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}

fn command(sources: &Sources, diagnostic: &Diagnostic, prefix: &str, out: &mut String) {
    let kind = match diagnostic.severity {
        Severity::Error => "error",
        Severity::Warning => "warning",
        Severity::Note => "notice",
    };
    let Spot { path, start, end } = Spot::of(sources, diagnostic.span, prefix);
    // Writing to a string cannot fail.
    let _ = write!(out, "::{kind} file={},line={},col={}", property(&path), start.line, start.column);
    if start.line == end.line {
        let _ = write!(out, ",endLine={},endColumn={}", end.line, end.column);
    }
    let text = ci::clip(&ci::told(sources, diagnostic, prefix), LONGEST);
    let _ = writeln!(out, ",title={}::{}", property(diagnostic.code.as_str()), data(&text));
}

/// Escapes what ends a command.
fn data(text: &str) -> String {
    text.replace('%', "%25").replace('\r', "%0D").replace('\n', "%0A")
}

/// Escapes what ends a property.
fn property(text: &str) -> String {
    data(text).replace(':', "%3A").replace(',', "%2C")
}
