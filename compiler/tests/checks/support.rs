//! From text to findings, the way in which every test of this crate goes.

use lang::ast::Date;
use lang::diag::Diagnostic;
use lang::span::FileId;
use partywall_compiler::{Compilation, SourceFile, compile};

pub const TODAY: Date = Date { year: 2026, month: 11, day: 21 };

/// A fabric with three compute nodes, two gateway nodes, an external and one gateway joining everything declared in most
/// tests.
pub const FABRIC: &str = "\
fabric f {
  encap vxlan port 4789
  underlay mtu 9000 family ipv4
  precedence guardrail > tenant > baseline
  delegate tenant
}
node c1 { vtep 192.0.2.11 dev eth0 }
node c2 { vtep 192.0.2.12 dev eth0 }
node g1 { vtep 192.0.2.21 dev eth0 gateway }
node g2 { vtep 192.0.2.22 dev eth0 gateway }
";

/// A finding with its line (from 1) in the text given.
#[derive(Debug)]
pub struct Found {
    pub line: usize,
    pub finding: Diagnostic,
}

impl Found {
    pub fn code(&self) -> &'static str {
        self.finding.code.as_str()
    }

    pub fn help(&self) -> &str {
        self.finding.help.as_deref().unwrap_or_default()
    }
}

fn line_of(text: &str, offset: u32) -> usize {
    text[..offset as usize].matches('\n').count() + 1
}

/// Compiles files (path, text) on [`TODAY`].
pub fn compile_files(files: &[(&str, &str)]) -> Compilation {
    let parsed: Vec<lang::Parsed> =
        (0..).zip(files).map(|(id, (_, text))| lang::parse(FileId(id), text)).collect();
    let sources: Vec<SourceFile> = (0..)
        .zip(files.iter().zip(&parsed))
        .map(|(id, ((path, text), parsed))| SourceFile { id: FileId(id), path, text, tree: &parsed.file })
        .collect();
    let syntax: Vec<Diagnostic> = parsed.iter().flat_map(|p| p.diagnostics.clone()).collect();
    assert!(syntax.is_empty(), "these tests are about meaning, not syntax: {syntax:#?}");
    compile(&sources, TODAY)
}

/// The findings in a text, ordered by place and code.
pub fn findings(text: &str) -> Vec<Found> {
    let found = compile_files(&[("main.pw", text)]).diagnostics;
    let mut found: Vec<Found> =
        found.into_iter().map(|finding| Found { line: line_of(text, finding.span.start), finding }).collect();
    found.sort_by_key(|f| (f.finding.span, f.finding.code));
    found
}

/// Checks that the findings of [`FABRIC`] followed by `text` are exactly those marked `//~ PWnnnn` at the end of their
/// lines (several codes after one mark, separated by blanks), and returns them. Unused definitions (PW0407) are what small
/// examples are full of and do not count.
#[track_caller]
pub fn expect(text: &str) -> Vec<Found> {
    let all = format!("{FABRIC}{text}");
    let mut wanted: Vec<(usize, String)> = Vec::new();
    for (number, line) in (1..).zip(all.lines()) {
        if let Some((_, codes)) = line.split_once("//~") {
            wanted.extend(codes.split_whitespace().map(|code| (number, code.to_owned())));
        }
    }
    let found: Vec<Found> = findings(&all).into_iter().filter(|f| f.code() != "PW0407").collect();
    let mut got: Vec<(usize, String)> = found.iter().map(|f| (f.line, f.code().to_owned())).collect();
    got.sort();
    wanted.sort();
    assert_eq!(
        got,
        wanted,
        "in\n{all}\nfound\n{:#?}",
        found.iter().map(|f| &f.finding.message).collect::<Vec<_>>()
    );
    for f in &found {
        presentable(&f.finding);
    }
    found
}

/// What every finding keeps to.
#[track_caller]
pub fn presentable(finding: &Diagnostic) {
    let message = &finding.message;
    assert!(
        !message.ends_with('.') && !message.contains("  ") && !message.contains('\n'),
        "message: {message}"
    );
    let first = message.chars().next().unwrap_or('A');
    let shouting = message
        .split(' ')
        .next()
        .is_some_and(|w| w.len() > 1 && w.chars().all(|c| c.is_ascii_uppercase() || c.is_ascii_digit()));
    assert!(
        first.is_lowercase() || !first.is_alphabetic() || shouting,
        "message starts in lower case: {message}"
    );
    assert!(!finding.label.is_empty(), "a label for: {message}");
    assert!(finding.help.as_ref().is_some_and(|help| !help.ends_with('.')), "a help for: {message}");
    assert!(finding.span.end > finding.span.start, "a place for: {message}");
}
