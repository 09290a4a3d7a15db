//! Diagnostics as values. Renderers (people, JSON, CI formats) stand beside this file and add no meaning.

use crate::codes::Code;
use crate::span::Span;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Severity {
    Error,
    Warning,
    Note,
}

impl Severity {
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warning => "warning",
            Self::Note => "note",
        }
    }
}

/// A secondary place and what it has to do with the finding.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Label {
    pub span: Span,
    pub message: String,
}

/// One finding.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnostic {
    pub code: Code,
    pub severity: Severity,
    /// One sentence that names the cause, without a full stop.
    pub message: String,
    pub span: Span,
    /// What stands at `span`, shown under the source line; empty: the message serves.
    pub label: String,
    pub related: Vec<Label>,
    /// What to do about it.
    pub help: Option<String>,
    /// Facts that belong to the finding and to no place (an arithmetic).
    pub notes: Vec<String>,
    /// The flows one after the other that make up what is found, where one packet does not show it.
    pub chain: Vec<Hop>,
    /// Stable names of the rules concerned.
    pub rules: Vec<String>,
    /// A packet that shows the finding, with the decision on it: the JSON values of `eval`'s input and output
    /// as they are to be printed. Filled by the verifier through the compiler's types.
    pub witness: Option<Box<WitnessText>>,
}

/// One flow of a chain.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Hop {
    /// From where to where, and why: one line without its number.
    pub text: String,
    /// The exposure or direct route that lets it go there; `None` inside a tenant and to an external.
    pub opened: Option<String>,
    /// Stable names of what decides it.
    pub rules: Vec<String>,
    pub witness: WitnessText,
}

/// A witness ready for printing.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct WitnessText {
    /// `tcp 10.1.0.5:40000 -> 10.1.1.9:5432 in shop`
    pub human: String,
    /// eval's input line.
    pub packet_json: String,
    /// eval's output line.
    pub decision_json: String,
}

impl Diagnostic {
    /// A finding of the code's own severity.
    #[must_use]
    pub fn new(code: Code, span: Span, message: impl Into<String>) -> Self {
        Self {
            code,
            severity: code.severity(),
            message: message.into(),
            span,
            label: String::new(),
            related: Vec::new(),
            help: None,
            notes: Vec::new(),
            chain: Vec::new(),
            rules: Vec::new(),
            witness: None,
        }
    }

    #[must_use]
    pub fn severity(mut self, severity: Severity) -> Self {
        self.severity = severity;
        self
    }

    #[must_use]
    pub fn label(mut self, label: impl Into<String>) -> Self {
        self.label = label.into();
        self
    }

    #[must_use]
    pub fn related(mut self, span: Span, message: impl Into<String>) -> Self {
        self.related.push(Label { span, message: message.into() });
        self
    }

    #[must_use]
    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    #[must_use]
    pub fn note(mut self, note: impl Into<String>) -> Self {
        self.notes.push(note.into());
        self
    }

    #[must_use]
    pub fn rule(mut self, name: impl Into<String>) -> Self {
        self.rules.push(name.into());
        self
    }

    #[must_use]
    pub fn witness(mut self, witness: WitnessText) -> Self {
        self.witness = Some(Box::new(witness));
        self
    }
}
