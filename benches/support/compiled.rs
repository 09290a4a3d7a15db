//! From text to the compiled form, in one thread.

use compiler::{Compiled, SourceFile};
use lang::ast::Date;
use lang::diag::Severity;
use lang::source::Sources;

const TODAY: Date = Date { year: 2026, month: 6, day: 1 };

/// The trees of files given as (path, text).
pub fn parse(files: &[(String, String)]) -> (Sources, Vec<lang::Parsed>) {
    let mut sources = Sources::new();
    let parsed = files
        .iter()
        .map(|(path, text)| lang::parse(sources.add(path.as_str(), text.as_str()), text))
        .collect();
    (sources, parsed)
}

/// The compiled form of a project that has no errors of structure.
pub fn compile(files: &[(String, String)]) -> Compiled {
    let (sources, parsed) = parse(files);
    let compilation = compiler::compile(&SourceFile::all(&sources, &parsed), TODAY);
    let findings = parsed.iter().flat_map(|p| &p.diagnostics).chain(&compilation.diagnostics);
    if let Some(first) = findings.filter(|d| d.severity == Severity::Error).min_by_key(|d| d.span) {
        panic!("the input is in error: {} {}", first.code, first.message);
    }
    compilation.compiled
}
