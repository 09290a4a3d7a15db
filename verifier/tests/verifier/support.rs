//! Projects from text, for tests.

use compiler::{Compiled, SourceFile};
use lang::ast::Date;
use lang::diag::{Diagnostic, Severity};
use lang::source::Sources;
use partywall_verifier::{self as verifier, Options, Verdicts};

pub const TODAY: Date = Date { year: 2026, month: 11, day: 21 };

/// A project of one file and what the compiler said of it; its text must parse.
pub fn compile(text: &str) -> (Compiled, Vec<Diagnostic>) {
    compile_files(&[("policy.pw".to_owned(), text.to_owned())])
}

pub fn compile_files(files: &[(String, String)]) -> (Compiled, Vec<Diagnostic>) {
    let mut sources = Sources::new();
    let parsed: Vec<_> = files
        .iter()
        .map(|(path, text)| {
            let parsed = lang::parse(sources.add(path.clone(), text.clone()), text);
            assert!(!parsed.has_errors(), "{path}: {:#?}\n{text}", parsed.diagnostics);
            parsed
        })
        .collect();
    let compilation = compiler::compile(&SourceFile::all(&sources, &parsed), TODAY);
    (compilation.compiled, compilation.diagnostics)
}

/// A project without errors.
pub fn clean(text: &str) -> Compiled {
    let (compiled, diagnostics) = compile(text);
    let errors: Vec<_> = diagnostics.iter().filter(|d| d.severity == Severity::Error).collect();
    assert!(errors.is_empty(), "{errors:#?}\n{text}");
    compiled
}

pub fn verify(c: &Compiled) -> Verdicts {
    verifier::verify(c, &Options::default()).expect("solver and evaluator agree")
}

/// `PW0402 a.b: message` for each finding, and the witness if there is one.
pub fn lines(verdicts: &Verdicts) -> Vec<String> {
    let line = |d: &Diagnostic| {
        let witness = d.witness.as_ref().map_or_else(String::new, |w| format!(" | {}", w.human));
        format!("{} {}: {}{witness}", d.code, d.severity.as_str(), d.message)
    };
    verdicts.diagnostics.iter().map(line).collect()
}

/// The text with `log` on some rules of a generated project.
pub fn with_logs(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for (at, line) in text.lines().enumerate() {
        out.push_str(line);
        if line.starts_with("  r")
            && line.contains(" -> ")
            && at % 9 == 0
            && !line.trim_start().starts_with("route")
        {
            out.push_str(" log");
        }
        out.push('\n');
    }
    out
}
