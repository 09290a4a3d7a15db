//! `check --format junit`: the report that viewers of test results read. The only file that names `quick_junit`.
//!
//! A file of the project is a suite and a finding in it a case, so that viewers which fold suites show where to look.
//! A case fails for an error; a warning or note passes and tells itself in its output, since it does not fail the check
//! either. A file in which nothing was found has one case, which passes.

use std::collections::BTreeMap;

use quick_junit::{NonSuccessKind, Report, SerializeError, TestCase, TestCaseStatus, TestSuite};

use super::ci::{self, Spot};
use crate::diag::{Diagnostic, Severity};
use crate::source::Sources;
use crate::span::FileId;

/// The report as text, ending with a line break.
///
/// # Errors
/// None in practice: it is written to memory.
pub fn junit(sources: &Sources, diagnostics: &[Diagnostic], prefix: &str) -> Result<String, SerializeError> {
    let mut found: BTreeMap<FileId, Vec<&Diagnostic>> = BTreeMap::new();
    for diagnostic in diagnostics {
        found.entry(ci::known(sources, diagnostic.span).file).or_default().push(diagnostic);
    }
    let mut files: Vec<(&str, FileId)> = sources.iter().map(|(id, source)| (source.path(), id)).collect();
    files.sort_unstable();
    let mut report = Report::new("partywall");
    for (path, id) in files {
        let mut suite = TestSuite::new(format!("{prefix}{path}"));
        match found.get(&id) {
            Some(found) => add(sources, found, prefix, &mut suite),
            None => {
                let mut case = TestCase::new("no findings", TestCaseStatus::success());
                case.set_classname("partywall");
                case.extra.insert("file".into(), format!("{prefix}{path}").into());
                suite.add_test_case(case);
            }
        }
        report.add_test_suite(suite);
    }
    // The two characters that XML has no way to write and `quick_junit` lets through.
    let mut text = report.to_string()?.replace(['\u{fffe}', '\u{ffff}'], "\u{fffd}");
    if !text.ends_with('\n') {
        text.push('\n');
    }
    Ok(text)
}

fn add(sources: &Sources, found: &[&Diagnostic], prefix: &str, suite: &mut TestSuite) {
    let mut names: BTreeMap<String, usize> = BTreeMap::new();
    for diagnostic in found {
        let (code, message) = (diagnostic.code.as_str(), ci::message(diagnostic));
        let Spot { path, start, .. } = Spot::of(sources, diagnostic.span, prefix);
        let severity = diagnostic.severity.as_str();
        let told = ci::told(sources, diagnostic, prefix);
        let told = format!("{path}:{}:{}: {severity}[{code}] {told}", start.line, start.column);
        // Viewers know a case again by its name, so that has no line; and they take two of one name for one.
        let mut name = format!("{code} {message}");
        let count = names.entry(name.clone()).or_default();
        *count += 1;
        if *count > 1 {
            name.push_str(&format!(" ({count})"));
        }
        let mut case = if diagnostic.severity == Severity::Error {
            let mut status = TestCaseStatus::non_success(NonSuccessKind::Failure);
            status.set_message(message).set_type(code).set_description(told);
            TestCase::new(name, status)
        } else {
            let mut case = TestCase::new(name, TestCaseStatus::success());
            case.set_system_out(told);
            case
        };
        case.set_classname(code);
        case.extra.insert("file".into(), path.into());
        case.extra.insert("line".into(), start.line.to_string().into());
        suite.add_test_case(case);
    }
}
