//! `check --format json`.

use serde::Serialize;
use serde_json::value::RawValue;

use crate::codes::Code;
use crate::diag::{Diagnostic, Severity, WitnessText};
use crate::source::Sources;
use crate::span::Span;

/// The version of the document's form: a new minor version may add fields, a new major may change them.
pub const FORMAT_VERSION: &str = "1.0";

/// What the document says of the run.
#[derive(Debug, Clone, Copy)]
pub struct JsonOptions<'a> {
    /// The tool's version.
    pub version: &'a str,
    /// The project as the user named it.
    pub project: &'a str,
}

/// The whole document.
#[derive(Debug, Serialize)]
pub struct Document<'a> {
    pub format_version: &'static str,
    pub tool: Tool<'a>,
    pub project: &'a str,
    pub summary: Summary,
    pub findings: Vec<Finding<'a>>,
}

#[derive(Debug, Clone, Copy, Serialize)]
pub struct Tool<'a> {
    pub name: &'static str,
    pub version: &'a str,
}

/// How many findings of each severity there are; `undecided` counts the PW0901 among the errors.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Summary {
    pub errors: usize,
    pub warnings: usize,
    pub notes: usize,
    pub undecided: usize,
}

impl Summary {
    #[must_use]
    pub fn of(diagnostics: &[Diagnostic]) -> Self {
        let count = |severity| diagnostics.iter().filter(|d| d.severity == severity).count();
        Self {
            errors: count(Severity::Error),
            warnings: count(Severity::Warning),
            notes: count(Severity::Note),
            undecided: diagnostics.iter().filter(|d| d.code == Code::PW0901).count(),
        }
    }
}

/// Lines and columns from 1, columns in Unicode characters, ends exclusive.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Place<'a> {
    pub file: &'a str,
    pub line: u32,
    pub column: u32,
    pub end_line: u32,
    pub end_column: u32,
}

impl<'a> Place<'a> {
    #[must_use]
    pub fn of(sources: &'a Sources, span: Span) -> Self {
        let (start, end) = sources.range(span);
        Self {
            file: sources.path(span.file),
            line: start.line,
            column: start.column,
            end_line: end.line,
            end_column: end.column,
        }
    }
}

#[derive(Debug, Serialize)]
pub struct Finding<'a> {
    pub code: &'static str,
    pub severity: &'static str,
    pub message: &'a str,
    #[serde(flatten)]
    pub place: Place<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub help: Option<&'a str>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub related: Vec<Related<'a>>,
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    pub rules: &'a [String],
    #[serde(skip_serializing_if = "Option::is_none")]
    pub witness: Option<Witness<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub chain: Vec<Hop<'a>>,
}

/// One flow of a chain.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Hop<'a> {
    pub text: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub opened: Option<&'a str>,
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    pub rules: &'a [String],
    #[serde(flatten)]
    pub witness: Option<Witness<'a>>,
}

impl<'a> Hop<'a> {
    /// All hops of a finding.
    pub(super) fn all(diagnostic: &'a Diagnostic) -> Vec<Self> {
        let of = |hop: &'a crate::diag::Hop| Self {
            text: &hop.text,
            opened: hop.opened.as_deref(),
            rules: &hop.rules,
            witness: Witness::of(&hop.witness),
        };
        diagnostic.chain.iter().map(of).collect()
    }
}

#[derive(Debug, Clone, Copy, Serialize)]
pub struct Related<'a> {
    #[serde(flatten)]
    pub place: Place<'a>,
    pub message: &'a str,
}

/// `eval`'s input and output line.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Witness<'a> {
    pub packet: &'a RawValue,
    pub decision: &'a RawValue,
}

impl<'a> Witness<'a> {
    /// `None` where the texts are no JSON.
    pub(super) fn of(text: &'a WitnessText) -> Option<Self> {
        Some(Self {
            packet: serde_json::from_str(&text.packet_json).ok()?,
            decision: serde_json::from_str(&text.decision_json).ok()?,
        })
    }
}

impl<'a> Finding<'a> {
    #[must_use]
    pub fn of(sources: &'a Sources, diagnostic: &'a Diagnostic) -> Self {
        Self {
            code: diagnostic.code.as_str(),
            severity: diagnostic.severity.as_str(),
            message: &diagnostic.message,
            place: Place::of(sources, diagnostic.span),
            help: diagnostic.help.as_deref(),
            related: diagnostic
                .related
                .iter()
                .map(|label| Related { place: Place::of(sources, label.span), message: &label.message })
                .collect(),
            rules: &diagnostic.rules,
            witness: diagnostic.witness.as_deref().and_then(Witness::of),
            chain: Hop::all(diagnostic),
        }
    }
}

/// The document as a value, for those who embed it.
#[must_use]
pub fn document<'a>(
    sources: &'a Sources,
    diagnostics: &'a [Diagnostic],
    options: JsonOptions<'a>,
) -> Document<'a> {
    Document {
        format_version: FORMAT_VERSION,
        tool: Tool { name: "partywall", version: options.version },
        project: options.project,
        summary: Summary::of(diagnostics),
        findings: diagnostics.iter().map(|diagnostic| Finding::of(sources, diagnostic)).collect(),
    }
}

/// The document as text, ending with a line break.
///
/// # Errors
/// None in practice: every part is a string, a number or checked JSON.
pub fn json(
    sources: &Sources,
    diagnostics: &[Diagnostic],
    options: JsonOptions<'_>,
) -> Result<String, serde_json::Error> {
    let mut text = serde_json::to_string_pretty(&document(sources, diagnostics, options))?;
    text.push('\n');
    Ok(text)
}
