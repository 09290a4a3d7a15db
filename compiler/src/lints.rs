//! Lint levels and `// partywall: allow(PWnnnn) reason`.
//!
//! A suppression takes away findings of its code whose primary place starts inside the declaration, clause or rule that
//! follows the comment; levels come after it: `allow` drops a code's findings, `warn` makes its errors warnings, `deny`
//! makes its warnings errors. Notes stay notes.

use lang::ast::Suppression;
use lang::codes::Code;
use lang::diag::{Diagnostic, Severity};
use lang::span::FileId;
use std::collections::BTreeMap;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Level {
    Deny,
    Warn,
    Allow,
}

impl Level {
    /// `deny`, `warn` or `allow`.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "deny" => Some(Self::Deny),
            "warn" => Some(Self::Warn),
            "allow" => Some(Self::Allow),
            _ => None,
        }
    }
}

/// A code whose findings cannot be taken away or softened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{code} can be neither allowed nor softened: {why}", why = why(*.code))]
pub struct Fixed {
    pub code: Code,
}

fn why(code: Code) -> &'static str {
    if code == Code::PW0901 {
        "what is undecided is not proved"
    } else {
        "a project with errors of syntax, names, numbers or address spaces has no meaning that the other checks could judge"
    }
}

/// Whether findings of this code can be suppressed, allowed or softened: not errors of syntax (PW00nn), names (PW01nn),
/// the wire (PW02nn) and address spaces (PW03nn), nor what is undecided.
// SOUNDNESS: those errors leave declarations out or addresses ambiguous, and the exact checks pass such owners over. Were
// one silenced, nothing would say that a part of the project was never judged.
#[must_use]
pub fn adjustable(code: Code) -> bool {
    let meaningless = (code as u16) < 400 && code.severity() == Severity::Error;
    !meaningless && code != Code::PW0901
}

/// Levels by code; a code without one keeps its own severities.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Levels(BTreeMap<Code, Level>);

impl Levels {
    /// Sets a code's level; a later call wins (the command line over `partywall.toml`).
    ///
    /// # Errors
    /// The code is not [`adjustable`] and the level is not `deny`.
    pub fn set(&mut self, code: Code, level: Level) -> Result<(), Fixed> {
        if level != Level::Deny && !adjustable(code) {
            return Err(Fixed { code });
        }
        self.0.insert(code, level);
        Ok(())
    }

    #[must_use]
    pub fn get(&self, code: Code) -> Option<Level> {
        self.0.get(&code).copied()
    }

    fn apply(&self, mut finding: Diagnostic) -> Option<Diagnostic> {
        match (self.get(finding.code), finding.severity) {
            (Some(Level::Allow), _) => return None,
            (Some(Level::Deny), Severity::Warning) => finding.severity = Severity::Error,
            (Some(Level::Warn), Severity::Error) => finding.severity = Severity::Warning,
            _ => {}
        }
        Some(finding)
    }
}

/// Applies suppressions, then levels, and reports suppressions that suppress nothing (PW0902) at the end, in the order
/// given. `judged` says whether findings of a code have been looked for in this run: where they have not, a
/// suppression of it says nothing yet.
#[must_use]
pub fn apply<'s>(
    diagnostics: Vec<Diagnostic>,
    suppressions: impl IntoIterator<Item = &'s Suppression>,
    levels: &Levels,
    judged: impl Fn(Code) -> bool,
) -> Vec<Diagnostic> {
    let mut all: Vec<(&Suppression, bool)> = suppressions.into_iter().map(|s| (s, false)).collect();
    let mut by_place: BTreeMap<(Code, FileId), Vec<usize>> = BTreeMap::new();
    for (at, (suppression, _)) in all.iter().enumerate() {
        if let (Some(code), Some(target)) = (Code::parse(&suppression.code.node), suppression.target)
            && adjustable(code)
        {
            by_place.entry((code, target.file)).or_default().push(at);
        }
    }
    let mut left = Vec::with_capacity(diagnostics.len());
    for finding in diagnostics {
        let mut suppressed = false;
        for at in by_place.get(&(finding.code, finding.span.file)).into_iter().flatten() {
            if let Some((suppression, used)) = all.get_mut(*at)
                && suppression
                    .target
                    .is_some_and(|t| t.start <= finding.span.start && finding.span.start < t.end)
            {
                *used = true;
                suppressed = true;
            }
        }
        if !suppressed {
            left.push(finding);
        }
    }
    let idle = all.iter().filter(|(_, used)| !used).filter_map(|(suppression, _)| idle(suppression, &judged));
    left.extend(idle);
    left.into_iter().filter_map(|finding| levels.apply(finding)).collect()
}

/// PW0902
fn idle(suppression: &Suppression, judged: impl Fn(Code) -> bool) -> Option<Diagnostic> {
    // The parser has reported a text that is no code.
    let code = Code::parse(&suppression.code.node)?;
    let (message, label, help) = if !adjustable(code) {
        (
            format!("{code} cannot be suppressed: {}", why(code)),
            "suppresses nothing".to_owned(),
            "remove the comment and repair what the finding names",
        )
    } else if suppression.target.is_none() {
        (
            format!("this suppression of {code} stands before nothing"),
            "no declaration, clause or rule follows".to_owned(),
            "put it on the line before what it is about, or remove it",
        )
    } else if judged(code) {
        (
            format!("this suppression of {code} suppresses nothing"),
            format!("what follows has no {code} finding"),
            "remove the comment",
        )
    } else {
        return None;
    };
    Some(Diagnostic::new(Code::PW0902, suppression.span, message).label(label).help(help))
}
