//! For people: the source with what stands under it. The only file that names `ariadne`.
//!
//! `ariadne` is given character offsets: with byte offsets it takes the place of a label in a second file for a
//! character offset, and then names the wrong line wherever that file is not ASCII.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::ops::Range;

use ariadne::{Cache, CharSet, Color, Config, IndexType, Label, Report, ReportKind, Source};

use super::ci::hops;
use super::plain;
use crate::diag::{Diagnostic, Severity};
use crate::source::Sources;
use crate::span::{FileId, Span};

/// Lines longer than this are shown in an excerpt.
const LONGEST_LINE: usize = 400;
/// Spans of more lines are shown by their first.
const MOST_LINES: u32 = 4;
/// More secondary places are counted, not shown.
const MOST_RELATED: usize = 12;

/// Every diagnostic with the source it concerns, in the order given.
#[must_use]
pub fn human(sources: &Sources, diagnostics: &[Diagnostic], color: bool) -> String {
    let mut out = Vec::new();
    let mut files = Files { sources, loaded: BTreeMap::new() };
    for diagnostic in diagnostics {
        if shows_source(sources, diagnostic) {
            write_report(sources, &mut files, diagnostic, color, &mut out);
        } else {
            out.extend_from_slice(excerpt(sources, diagnostic).as_bytes());
        }
        out.push(b'\n');
    }
    let text = String::from_utf8_lossy(&out);
    // The layout pads its lines, and writes an escape for "no colour" too.
    let mut lines = String::with_capacity(text.len());
    for line in text.lines() {
        let line =
            if color { line.to_owned() } else { line.replace("\u{1b}[39m", "").replace("\u{1b}[0m", "") };
        lines.push_str(line.trim_end());
        lines.push('\n');
    }
    lines
}

/// Whether every line concerned is short enough to be shown whole.
fn shows_source(sources: &Sources, diagnostic: &Diagnostic) -> bool {
    let short = |span: Span| {
        let Some(source) = sources.get(span.file) else { return false };
        let (start, end) = sources.range(clip(sources, span));
        (start.line..=end.line).all(|line| source.line(line).is_none_or(|text| text.len() <= LONGEST_LINE))
    };
    short(diagnostic.span) && diagnostic.related.iter().take(MOST_RELATED).all(|label| short(label.span))
}

/// The first line of a span of many lines.
fn clip(sources: &Sources, span: Span) -> Span {
    let (start, end) = sources.range(span);
    let Some(source) = sources.get(span.file) else { return span };
    if end.line - start.line < MOST_LINES {
        return span;
    }
    let shown =
        source.text().get(source.floor(span.start)..).and_then(|rest| rest.find('\n')).unwrap_or_default();
    Span::new(span.file, span.start, span.start.saturating_add(u32::try_from(shown).unwrap_or(u32::MAX)))
}

fn write_report(
    sources: &Sources,
    files: &mut Files<'_>,
    diagnostic: &Diagnostic,
    color: bool,
    out: &mut Vec<u8>,
) {
    let tint = match diagnostic.severity {
        Severity::Error => Color::Red,
        Severity::Warning => Color::Yellow,
        Severity::Note => Color::Cyan,
    };
    let place = |span: Span| (span.file, characters(sources, clip(sources, span)));
    let message = if diagnostic.label.is_empty() { "here" } else { diagnostic.label.as_str() };
    let title = format!("{}[{}]", diagnostic.severity.as_str(), diagnostic.code);
    let title_tint = if color { tint } else { Color::Primary };
    let mut report = Report::build(ReportKind::Custom(&title, title_tint), place(diagnostic.span))
        .with_config(
            Config::new()
                .with_index_type(IndexType::Char)
                .with_char_set(CharSet::Unicode)
                .with_color(color)
                .with_tab_width(2),
        )
        .with_message(plain(&diagnostic.message))
        .with_label(
            Label::new(place(diagnostic.span)).with_message(plain(message)).with_color(tint).with_priority(1),
        );
    for (order, label) in (1..).zip(diagnostic.related.iter().take(MOST_RELATED)) {
        report.add_label(
            Label::new(place(label.span))
                .with_message(plain(&label.message))
                .with_color(Color::Blue)
                .with_order(order),
        );
    }
    for note in remarks(diagnostic) {
        report.add_note(note);
    }
    if let Some(help) = &diagnostic.help {
        report.add_help(plain(help));
    }
    let before = out.len();
    // Writing to memory cannot fail; should the layout give up, the excerpt still says everything.
    if report.finish().write(files, &mut *out).is_err() {
        out.truncate(before);
        out.extend_from_slice(excerpt(sources, diagnostic).as_bytes());
    }
}

/// What belongs to no place.
fn remarks(diagnostic: &Diagnostic) -> Vec<String> {
    let mut remarks: Vec<String> = diagnostic.notes.iter().map(|note| plain(note)).collect();
    remarks.extend(hops(diagnostic));
    if let Some(witness) = &diagnostic.witness {
        remarks.push(format!("witness: {}", plain(&witness.human)));
        remarks.push(format!("decision: {}", plain(&witness.decision_json)));
    }
    let hidden = diagnostic.related.len().saturating_sub(MOST_RELATED);
    if hidden > 0 {
        remarks.push(format!("{hidden} more places are not shown"));
    }
    remarks
}

/// Without the layout: for lines of any length, and files that are not known.
fn excerpt(sources: &Sources, diagnostic: &Diagnostic) -> String {
    let mut out = String::new();
    let mut line = |text: &str| {
        // Writing to a string cannot fail.
        let _ = writeln!(out, "{text}");
    };
    line(&format!("{}[{}]: {}", diagnostic.severity.as_str(), diagnostic.code, plain(&diagnostic.message)));
    let labels = std::iter::once((diagnostic.span, diagnostic.label.as_str())).chain(
        diagnostic.related.iter().take(MOST_RELATED).map(|label| (label.span, label.message.as_str())),
    );
    for (span, message) in labels {
        if sources.get(span.file).is_none() {
            continue;
        }
        let (start, _) = sources.range(span);
        let shown: String = plain(sources.slice(span)).chars().take(60).collect();
        let colon = if message.is_empty() { "" } else { ": " };
        let path = sources.path(span.file);
        line(&format!("   {path}:{}:{}: `{shown}`{colon}{}", start.line, start.column, plain(message)));
    }
    for note in remarks(diagnostic) {
        line(&format!("   note: {note}"));
    }
    if let Some(help) = &diagnostic.help {
        line(&format!("   help: {}", plain(help)));
    }
    out
}

fn characters(sources: &Sources, span: Span) -> Range<usize> {
    sources.get(span.file).map_or(0..0, |source| {
        let start = source.chars_before(span.start);
        start..source.chars_before(span.end).max(start)
    })
}

/// The sources as `ariadne` wants them.
struct Files<'s> {
    sources: &'s Sources,
    loaded: BTreeMap<FileId, Source<String>>,
}

impl Cache<FileId> for &mut Files<'_> {
    type Storage = String;

    fn fetch(&mut self, id: &FileId) -> Result<&Source<String>, impl std::fmt::Debug> {
        let text = self.sources.get(*id).map_or("", |source| source.text());
        Ok::<_, std::convert::Infallible>(
            self.loaded
                .entry(*id)
                .or_insert_with(|| Source::from(text.chars().map(harmless).collect::<String>())),
        )
    }

    fn display<'a>(&self, id: &'a FileId) -> Option<impl std::fmt::Display + 'a> {
        Some(self.sources.path(*id).to_owned())
    }
}

/// Only `\n` ends a line, and nothing steers a terminal.
fn harmless(c: char) -> char {
    match c {
        '\n' | '\t' => c,
        '\u{2028}' | '\u{2029}' => ' ',
        // What reverses the direction of writing could show other text than is read.
        '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => '\u{fffd}',
        c if c.is_control() => ' ',
        c => c,
    }
}
