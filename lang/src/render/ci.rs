//! What the formats for continuous integration share: places as the reader of the report knows them, and everything
//! that is said of a finding besides its message.

use super::plain;
use crate::diag::Diagnostic;
use crate::source::{Position, Sources};
use crate::span::{FileId, Span};

/// What a report says of the run.
#[derive(Debug, Clone, Copy)]
pub struct CiOptions<'a> {
    /// The tool's version.
    pub version: &'a str,
    /// The project as the user named it; may be empty.
    pub project: &'a str,
    /// Stands before every path, so that the paths are relative to what the reader of the report starts from (the
    /// repository's root, as a rule): empty, or ending with `/`.
    pub prefix: &'a str,
}

/// Where something stands, for the reader of the report.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Spot {
    pub path: String,
    pub start: Position,
    /// Exclusive.
    pub end: Position,
}

impl Spot {
    /// A span in no known file is shown at the beginning of the first: readers of reports refuse a finding that stands
    /// nowhere.
    pub fn of(sources: &Sources, span: Span, prefix: &str) -> Self {
        let span = known(sources, span);
        let (start, end) = sources.range(span);
        let path = format!("{prefix}{}", sources.path(span.file));
        Self { path, start, end: end.max(start) }
    }
}

/// The span, if its file is known; else the beginning of the first file.
pub(super) fn known(sources: &Sources, span: Span) -> Span {
    if sources.get(span.file).is_some() { span } else { Span::new(FileId(0), 0, 0) }
}

/// What is said besides the message, a line each: what stands at the other places, facts, the packet that shows it,
/// what to do.
pub(super) fn remarks(diagnostic: &Diagnostic) -> Vec<String> {
    let mut lines: Vec<String> =
        diagnostic.notes.iter().map(|note| format!("note: {}", plain(note))).collect();
    lines.extend(hops(diagnostic));
    if let Some(witness) = &diagnostic.witness {
        lines.push(format!("witness: {}", plain(&witness.human)));
    }
    if let Some(help) = diagnostic.help.as_deref().filter(|help| !help.is_empty()) {
        lines.push(format!("help: {}", plain(help)));
    }
    lines
}

/// More flows of a chain than this are counted, not listed.
pub(super) const MOST_HOPS: usize = 10;

/// A chain, a line for each flow, and how many there are more.
pub(super) fn hops(diagnostic: &Diagnostic) -> Vec<String> {
    let shown = diagnostic.chain.iter().zip(1_usize..).take(MOST_HOPS);
    let mut lines: Vec<String> =
        shown.map(|(hop, number)| format!("hop {number}: {}", plain(&hop.text))).collect();
    let hidden = diagnostic.chain.len().saturating_sub(MOST_HOPS);
    if hidden > 0 {
        lines.push(format!("{hidden} more hops are not shown; `--format json` has them all"));
    }
    lines
}

/// More secondary places than this are counted, not listed.
pub(super) const MOST_RELATED: usize = 20;

/// The message and everything else, a line each, for formats that have no fields for it.
pub(super) fn told(sources: &Sources, diagnostic: &Diagnostic, prefix: &str) -> String {
    let mut lines = vec![message(diagnostic)];
    for label in diagnostic.related.iter().take(MOST_RELATED) {
        let spot = Spot::of(sources, label.span, prefix);
        let (line, column) = (spot.start.line, spot.start.column);
        lines.push(format!("{}:{line}:{column}: {}", plain(&spot.path), plain(&label.message)));
    }
    let hidden = diagnostic.related.len().saturating_sub(MOST_RELATED);
    if hidden > 0 {
        lines.push(format!("{hidden} more places are not shown"));
    }
    lines.extend(remarks(diagnostic));
    lines.join("\n")
}

/// The message on one line; the code's title where a finding has none, since readers refuse empty ones.
pub(super) fn message(diagnostic: &Diagnostic) -> String {
    let text = plain(&diagnostic.message);
    if text.trim().is_empty() { diagnostic.code.title().to_owned() } else { text }
}

/// At most `limit` characters; what is cut off is marked.
pub(super) fn clip(text: &str, limit: usize) -> String {
    if text.chars().count() <= limit {
        return text.to_owned();
    }
    let mut short: String = text.chars().take(limit.saturating_sub(1)).collect();
    short.push('…');
    short
}
