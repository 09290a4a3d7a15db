//! What a check has found, as it is stored and handed on: findings with their places as numbers, and what suppressions and
//! levels need to be applied later.

use lang::ast::Suppression;
use lang::codes::Code;
use lang::diag::{self, Diagnostic, Label, Severity, WitnessText};
use lang::span::{FileId, Span, Spanned};
use serde::{Deserialize, Serialize};

/// File (a position in a list that goes with the record), first byte, byte after the last.
pub type Place = (u32, u32, u32);

/// One finding.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Finding {
    code: String,
    severity: String,
    message: String,
    at: Place,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    label: String,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    related: Vec<(Place, String)>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    help: Option<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    notes: Vec<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    chain: Vec<Hop>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    rules: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    witness: Option<Witness>,
}

/// For people, the packet and the decision as JSON.
type Witness = (String, String, String);

/// One flow of a chain: what is said of it, what opens it, what decides it, its packet.
type Hop = (String, Option<String>, Vec<String>, Witness);

fn stored(WitnessText { human, packet_json, decision_json }: &WitnessText) -> Witness {
    (human.clone(), packet_json.clone(), decision_json.clone())
}

fn witness((human, packet_json, decision_json): Witness) -> WitnessText {
    WitnessText { human, packet_json, decision_json }
}

/// A finding about two rules of the platform, from one tenant's view.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Shared {
    pub rules: (String, String),
    pub decided: bool,
    pub finding: Finding,
}

/// One `// partywall: allow(CODE) reason`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Allowed {
    code: String,
    code_at: Place,
    reason: String,
    at: Place,
    target: Option<Place>,
}

fn place(span: Span) -> Place {
    let Span { file: FileId(file), start, end } = span;
    (file, start, end)
}

/// The span of a stored place; `None` if `files` has no such file.
fn span((file, start, end): Place, files: &dyn Fn(u32) -> Option<FileId>) -> Option<Span> {
    (start <= end).then(|| Some(Span::new(files(file)?, start, end)))?
}

impl Finding {
    #[must_use]
    pub fn of(diagnostic: &Diagnostic) -> Self {
        let Diagnostic {
            code,
            severity,
            message,
            span,
            label,
            related,
            help,
            notes,
            chain,
            rules,
            witness: shown,
        } = diagnostic;
        let hop = |diag::Hop { text, opened, rules, witness }: &diag::Hop| {
            (text.clone(), opened.clone(), rules.clone(), stored(witness))
        };
        Self {
            code: code.as_str().to_owned(),
            severity: severity.as_str().to_owned(),
            message: message.clone(),
            at: place(*span),
            label: label.clone(),
            related: related.iter().map(|Label { span, message }| (place(*span), message.clone())).collect(),
            help: help.clone(),
            notes: notes.clone(),
            rules: rules.clone(),
            chain: chain.iter().map(hop).collect(),
            witness: shown.as_deref().map(stored),
        }
    }

    /// The finding again; `files` says which file of this run a stored one is. `None` if it names something that does not
    /// exist here.
    #[must_use]
    pub fn diagnostic(self, files: &dyn Fn(u32) -> Option<FileId>) -> Option<Diagnostic> {
        let Self { code, severity, message, at, label, related, help, notes, chain, rules, witness: shown } =
            self;
        let hop =
            |(text, opened, rules, shown): Hop| diag::Hop { text, opened, rules, witness: witness(shown) };
        let severity = [Severity::Error, Severity::Warning, Severity::Note]
            .into_iter()
            .find(|s| s.as_str() == severity)?;
        let related: Option<Vec<Label>> = related
            .into_iter()
            .map(|(at, message)| Some(Label { span: span(at, files)?, message }))
            .collect();
        Some(Diagnostic {
            code: Code::parse(&code)?,
            severity,
            message,
            span: span(at, files)?,
            label,
            related: related?,
            help,
            notes,
            rules,
            chain: chain.into_iter().map(hop).collect(),
            witness: shown.map(|shown| Box::new(witness(shown))),
        })
    }

    /// Every file that it names.
    pub fn files(&self) -> impl Iterator<Item = u32> {
        std::iter::once(self.at.0).chain(self.related.iter().map(|(at, _)| at.0))
    }

    /// Renames the files.
    pub fn rename(&mut self, new: &dyn Fn(u32) -> u32) {
        self.at.0 = new(self.at.0);
        self.related.iter_mut().for_each(|(at, _)| at.0 = new(at.0));
    }
}

impl Allowed {
    #[must_use]
    pub fn of(suppression: &Suppression) -> Self {
        let Suppression { code, reason, span, target } = suppression;
        Self {
            code: code.node.clone(),
            code_at: place(code.span),
            reason: reason.clone(),
            at: place(*span),
            target: target.map(place),
        }
    }

    /// The suppression again; see [`Finding::diagnostic`].
    #[must_use]
    pub fn suppression(self, files: &dyn Fn(u32) -> Option<FileId>) -> Option<Suppression> {
        let Self { code, code_at, reason, at, target } = self;
        Some(Suppression {
            code: Spanned::new(code, span(code_at, files)?),
            reason,
            span: span(at, files)?,
            target: match target {
                Some(target) => Some(span(target, files)?),
                None => None,
            },
        })
    }

    /// The file that it stands in.
    #[must_use]
    pub fn file(&self) -> u32 {
        self.at.0
    }
}
