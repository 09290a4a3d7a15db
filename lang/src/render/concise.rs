//! One line for each finding.

use std::fmt::Write as _;

use super::plain;
use crate::diag::Diagnostic;
use crate::source::Sources;

/// `path:line:col: error[PW0101] message`, a line each.
#[must_use]
pub fn concise(sources: &Sources, diagnostics: &[Diagnostic]) -> String {
    let mut out = String::new();
    for diagnostic in diagnostics {
        let (start, _) = sources.range(diagnostic.span);
        let path = sources.path(diagnostic.span.file);
        let (severity, code) = (diagnostic.severity.as_str(), diagnostic.code);
        let message = plain(&diagnostic.message);
        // Writing to a string cannot fail.
        let _ = writeln!(out, "{path}:{}:{}: {severity}[{code}] {message}", start.line, start.column);
    }
    out
}
