//! `check --format sarif`: SARIF 2.1.0, within what GitHub code scanning takes.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::value::RawValue;

use super::ci::{self, CiOptions, Spot};
use super::fingerprint::fingerprints;
use super::line_hash::line_hashes;
use super::plain;
use crate::codes::Code;
use crate::diag::{Diagnostic, Severity};
use crate::source::Sources;
use crate::span::{FileId, Span};

/// More results are refused.
pub const MOST_RESULTS: usize = 25_000;

/// An upload may have 10 MB compressed; this much text stays below that with room to spare.
const MOST_BYTES: usize = 60_000_000;

/// More places of one result are not stored.
const MOST_PLACES: usize = 100;

/// Longer texts help nobody; in characters.
const LONGEST_MESSAGE: usize = 4_000;
const LONGEST_DESCRIPTION: usize = 1_000;

/// The name of the repository's root, which the URIs are relative to.
const ROOT: &str = "%SRCROOT%";

#[derive(Debug, Serialize)]
struct Log<'a> {
    #[serde(rename = "$schema")]
    schema: &'static str,
    version: &'static str,
    runs: [Run<'a>; 1],
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Run<'a> {
    tool: Tool<'a>,
    automation_details: Automation,
    column_kind: &'static str,
    original_uri_base_ids: BTreeMap<&'static str, Base>,
    invocations: [Invocation; 1],
    results: Vec<Box<RawValue>>,
}

#[derive(Debug, Serialize)]
struct Tool<'a> {
    driver: Driver<'a>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Driver<'a> {
    name: &'static str,
    semantic_version: &'a str,
    rules: Vec<Rule>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Rule {
    id: &'static str,
    short_description: Text,
    full_description: Text,
    help: Help,
    default_configuration: Configuration,
    properties: RuleProperties,
}

#[derive(Debug, Serialize)]
struct RuleProperties {
    tags: [&'static str; 2],
    precision: &'static str,
    #[serde(rename = "problem.severity")]
    severity: &'static str,
}

#[derive(Debug, Serialize)]
struct Text {
    text: String,
}

#[derive(Debug, Serialize)]
struct Help {
    text: &'static str,
    markdown: &'static str,
}

#[derive(Debug, Serialize)]
struct Configuration {
    level: &'static str,
}

#[derive(Debug, Serialize)]
struct Automation {
    id: String,
}

#[derive(Debug, Serialize)]
struct Base {
    description: Text,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Invocation {
    execution_successful: bool,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tool_execution_notifications: Vec<Notification>,
}

#[derive(Debug, Serialize)]
struct Notification {
    level: &'static str,
    message: Text,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Finding<'a> {
    rule_id: &'static str,
    rule_index: usize,
    level: &'static str,
    message: Text,
    locations: [Location; 1],
    #[serde(skip_serializing_if = "Vec::is_empty")]
    related_locations: Vec<Location>,
    partial_fingerprints: Fingerprints,
    #[serde(skip_serializing_if = "Properties::is_empty")]
    properties: Properties<'a>,
}

#[derive(Debug, Serialize)]
struct Fingerprints {
    /// GitHub code scanning goes by this one alone.
    #[serde(rename = "primaryLocationLineHash")]
    line: String,
    /// For every other reader.
    #[serde(rename = "partywallFinding/v1")]
    finding: String,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Location {
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<usize>,
    physical_location: Physical,
    #[serde(skip_serializing_if = "Option::is_none")]
    message: Option<Text>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Physical {
    artifact_location: Artifact,
    region: Region,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Artifact {
    uri: String,
    uri_base_id: &'static str,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Region {
    start_line: u32,
    start_column: u32,
    end_line: u32,
    end_column: u32,
}

/// What SARIF has no field for.
#[derive(Debug, Serialize)]
struct Properties<'a> {
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    rules: &'a [String],
    #[serde(skip_serializing_if = "Vec::is_empty")]
    notes: Vec<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    help: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    witness: Option<super::json::Witness<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    chain: Vec<super::json::Hop<'a>>,
}

impl Properties<'_> {
    fn is_empty(&self) -> bool {
        let texts = self.rules.is_empty() && self.notes.is_empty() && self.help.is_none();
        texts && self.witness.is_none() && self.chain.is_empty()
    }
}

/// The report as text, ending with a line break. Where there are more findings than GitHub takes, the worst are kept
/// (those of one severity in the order given) and a notification says how many are left out.
///
/// # Errors
/// None in practice: every part is a string, a number or checked JSON.
pub fn sarif(
    sources: &Sources,
    diagnostics: &[Diagnostic],
    options: CiOptions<'_>,
) -> Result<String, serde_json::Error> {
    let names = fingerprints(sources, diagnostics, options.prefix);
    let mut order: Vec<(&Diagnostic, &String)> = diagnostics.iter().zip(&names).collect();
    if order.len() > MOST_RESULTS {
        order.sort_by_key(|(diagnostic, _)| diagnostic.severity);
        order.truncate(MOST_RESULTS);
    }
    let (mut results, mut bytes) = (Vec::with_capacity(order.len()), 0_usize);
    let mut lines = LineHashes::default();
    for (diagnostic, name) in order {
        let finding = finding(sources, diagnostic, name, &mut lines, options.prefix);
        let text = serde_json::value::to_raw_value(&finding)?;
        bytes = bytes.saturating_add(text.get().len());
        if bytes > MOST_BYTES {
            break;
        }
        results.push(text);
    }
    let left_out = diagnostics.len() - results.len();
    let log = Log {
        schema: "https://json.schemastore.org/sarif-2.1.0.json",
        version: "2.1.0",
        runs: [run(results, left_out, options)],
    };
    let mut text = serde_json::to_string_pretty(&log)?;
    text.push('\n');
    Ok(text)
}

fn run(results: Vec<Box<RawValue>>, left_out: usize, options: CiOptions<'_>) -> Run<'_> {
    let mut notifications = Vec::new();
    if left_out > 0 {
        let shown = results.len();
        notifications.push(Notification {
            level: "warning",
            message: Text {
                text: format!(
                    "{left_out} findings are left out; these are the {shown} worst of {}",
                    shown + left_out
                ),
            },
        });
    }
    // Two reports of one tool for one commit must differ in it, or the second replaces the first.
    let place = if options.prefix.is_empty() { options.project } else { options.prefix };
    let place = place.trim_end_matches('/');
    Run {
        tool: Tool {
            driver: Driver {
                name: "partywall",
                semantic_version: options.version,
                rules: Code::ALL.iter().copied().map(rule).collect(),
            },
        },
        automation_details: Automation {
            id: if place.is_empty() { "partywall/".to_owned() } else { format!("partywall/{place}/") },
        },
        column_kind: "unicodeCodePoints",
        original_uri_base_ids: BTreeMap::from([(
            ROOT,
            Base { description: Text { text: "The repository's root.".to_owned() } },
        )]),
        invocations: [Invocation { execution_successful: true, tool_execution_notifications: notifications }],
        results,
    }
}

fn level(severity: Severity) -> &'static str {
    match severity {
        Severity::Error => "error",
        Severity::Warning => "warning",
        Severity::Note => "note",
    }
}

fn rule(code: Code) -> Rule {
    let page = code.page();
    let mut title = code.title().chars();
    let title: String =
        title.next().map(|first| first.to_uppercase().chain(title).collect()).unwrap_or_default();
    // The first paragraph after the heading says what the finding means.
    let paragraph = page.split("\n\n").map(str::trim).find(|part| !part.is_empty() && !part.starts_with('#'));
    let full = paragraph.map_or_else(|| title.clone(), |text| text.replace('\n', " "));
    Rule {
        id: code.as_str(),
        short_description: Text { text: ci::clip(&title, LONGEST_DESCRIPTION) },
        full_description: Text { text: ci::clip(&full, LONGEST_DESCRIPTION) },
        help: Help { text: page, markdown: page },
        default_configuration: Configuration { level: level(code.severity()) },
        properties: RuleProperties {
            tags: ["network-policy", family(code)],
            precision: "very-high",
            severity: match code.severity() {
                Severity::Error => "error",
                Severity::Warning => "warning",
                Severity::Note => "recommendation",
            },
        },
    }
}

/// What kind of finding it is, by its hundred.
fn family(code: Code) -> &'static str {
    match code {
        code if code < Code::PW0101 => "syntax",
        code if code < Code::PW0201 => "names",
        code if code < Code::PW0301 => "overlay",
        code if code < Code::PW0401 => "address-spaces",
        code if code < Code::PW0501 => "rules",
        code if code < Code::PW0601 => "isolation",
        code if code < Code::PW0701 => "paths",
        code if code < Code::PW0801 => "tests",
        code if code < Code::PW0901 => "targets",
        _ => "run",
    }
}

fn finding<'a>(
    sources: &Sources,
    diagnostic: &'a Diagnostic,
    name: &str,
    lines: &mut LineHashes,
    prefix: &str,
) -> Finding<'a> {
    let label = plain(&diagnostic.label);
    let mut main = location(sources, diagnostic.span, &label, prefix);
    let related: Vec<Location> = (1..)
        .zip(diagnostic.related.iter().take(MOST_PLACES - 1))
        .map(|(id, label)| Location {
            id: Some(id),
            ..location(sources, label.span, &plain(&label.message), prefix)
        })
        .collect();
    let text = text(diagnostic, related.len());
    if label.trim().is_empty() {
        main.message = None;
    }
    Finding {
        rule_id: diagnostic.code.as_str(),
        rule_index: Code::ALL.iter().position(|code| *code == diagnostic.code).unwrap_or_default(),
        level: level(diagnostic.severity),
        message: Text { text },
        locations: [main],
        related_locations: related,
        partial_fingerprints: Fingerprints { line: lines.of(sources, diagnostic), finding: name.to_owned() },
        properties: Properties {
            rules: &diagnostic.rules,
            notes: diagnostic.notes.iter().map(String::as_str).filter(|note| !note.is_empty()).collect(),
            help: diagnostic.help.as_deref().filter(|help| !help.is_empty()),
            witness: diagnostic.witness.as_deref().and_then(super::json::Witness::of),
            chain: super::json::Hop::all(diagnostic),
        },
    }
}

/// The message, then a line each: the other places as links (readers show those alone that are linked to), and what
/// else is said.
fn text(diagnostic: &Diagnostic, related: usize) -> String {
    let mut lines = vec![no_link(&ci::message(diagnostic))];
    for (id, label) in (1..).zip(diagnostic.related.iter().take(related.min(ci::MOST_RELATED))) {
        let label = plain(&label.message);
        let label = if label.trim().is_empty() { "another place" } else { label.as_str() };
        lines.push(format!("[{}]({id})", in_link(&ci::clip(label, LONGEST_DESCRIPTION))));
    }
    let unlinked = diagnostic.related.len().saturating_sub(ci::MOST_RELATED);
    if unlinked > 0 {
        lines.push(format!("{unlinked} more places"));
    }
    lines.extend(ci::remarks(diagnostic).iter().map(|line| no_link(line)));
    // Cut at a line, so that no link is cut in two; the message itself wherever it must be.
    let mut text = String::new();
    for line in lines {
        if text.is_empty() {
            text = ci::clip(&line, LONGEST_MESSAGE);
        } else if text.chars().count() + line.chars().count() < LONGEST_MESSAGE {
            text.push('\n');
            text.push_str(&line);
        }
    }
    text
}

/// Text that holds no link by accident.
fn no_link(text: &str) -> String {
    text.replace("](", "] (")
}

/// Text as the text of a link.
fn in_link(text: &str) -> String {
    text.replace('\\', r"\\").replace('[', r"\[").replace(']', r"\]")
}

fn location(sources: &Sources, span: Span, message: &str, prefix: &str) -> Location {
    let Spot { path, start, end } = Spot::of(sources, span, prefix);
    Location {
        id: None,
        physical_location: Physical {
            artifact_location: Artifact { uri: uri(&path), uri_base_id: ROOT },
            region: Region {
                start_line: start.line,
                start_column: start.column,
                end_line: end.line,
                end_column: end.column,
            },
        },
        message: (!message.trim().is_empty()).then(|| Text { text: message.to_owned() }),
    }
}

/// A path with `/` as a relative reference (RFC 3986, 4.2): everything but unreserved characters is escaped, the `:`
/// too, so that no first segment looks like a scheme.
fn uri(path: &str) -> String {
    let mut out = String::with_capacity(path.len());
    for byte in path.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~/".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    if out.is_empty() { ".".to_owned() } else { out }
}

/// The fingerprints of lines, per file, and those given out.
#[derive(Debug, Default)]
struct LineHashes {
    files: BTreeMap<FileId, Vec<String>>,
    given: BTreeMap<(Code, FileId, String), u32>,
}

impl LineHashes {
    /// GitHub takes two results of one rule with one fingerprint for one: from the second on a number is added.
    fn of(&mut self, sources: &Sources, diagnostic: &Diagnostic) -> String {
        let span = ci::known(sources, diagnostic.span);
        let line = sources.range(span).0.line;
        let hashes = self
            .files
            .entry(span.file)
            .or_insert_with(|| line_hashes(sources.get(span.file).map_or("", |source| source.text())));
        let index = usize::try_from(line).unwrap_or(usize::MAX).saturating_sub(1);
        let hash = hashes.get(index).or_else(|| hashes.last()).cloned().unwrap_or_default();
        let count = self.given.entry((diagnostic.code, span.file, hash.clone())).or_default();
        *count += 1;
        if *count == 1 { hash } else { format!("{hash}-{count}") }
    }
}
