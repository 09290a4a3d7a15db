//! From a project's files to its compiled form and everything that is to be said of it.

use crate::cli::{Global, Judging, Levels};
use crate::exit::Failure;
use crate::output;
use crate::project::{self, Project};
use compiler::{Compilation, Compiled, SourceFile};
use lang::Parsed;
use lang::ast::Date;
use lang::codes::Code;
use lang::diag::{Diagnostic, Severity};
use lang::source::Sources;
use lang::span::FileId;
use rayon::prelude::*;
use std::path::Path;
use std::time::Instant;
use tracing::info;

/// A project with its findings.
#[derive(Debug)]
pub struct Analysis {
    pub sources: Sources,
    pub compiled: Compiled,
    /// Sorted by file, line, column, code.
    pub findings: Vec<Diagnostic>,
}

impl Analysis {
    /// Whether there is a finding at error level.
    #[must_use]
    pub fn has_errors(&self) -> bool {
        self.findings.iter().any(|finding| finding.severity == Severity::Error)
    }

    /// Prints the errors to standard error and says what is refused because of them; `false` if there are none.
    #[must_use]
    pub fn refuse(&self, what: &str, global: &Global) -> bool {
        let errors: Vec<Diagnostic> =
            self.findings.iter().filter(|f| f.severity == Severity::Error).cloned().collect();
        if errors.is_empty() {
            return false;
        }
        output::show(&lang::render::human(&self.sources, &errors, global.color_stderr()));
        output::tell(&format!(
            "cannot {what}: the project has {} error{}",
            errors.len(),
            if errors.len() == 1 { "" } else { "s" }
        ));
        true
    }

    /// The project's name: the fabric's.
    #[must_use]
    pub fn project(&self) -> &str {
        &self.compiled.model.fabric.name
    }
}

/// Parses a project: its sources and, per file, the tree and what is wrong with it.
#[must_use]
pub fn parse(project: &Project) -> (Sources, Vec<Parsed>) {
    let mut sources = Sources::new();
    let ids: Vec<FileId> = project
        .files
        .iter()
        .map(|file| sources.add(file.path.as_str(), String::from_utf8_lossy(&file.bytes)))
        .collect();
    let parsed = project.files.par_iter().zip(ids).map(|(file, id)| lang::parse_bytes(id, &file.bytes)).collect();
    (sources, parsed)
}

/// Parses and compiles: the compiled form, and what syntax, names and structure have to say.
#[must_use]
pub fn compile(project: &Project, today: Date) -> (Sources, Compiled, Vec<Diagnostic>) {
    let start = Instant::now();
    let (sources, parsed) = parse(project);
    info!(files = project.files.len(), elapsed = ?start.elapsed(), "parsed");
    let start = Instant::now();
    let files: Vec<SourceFile<'_>> = sources
        .iter()
        .zip(&parsed)
        .map(|((id, source), parsed)| SourceFile { id, path: source.path(), text: source.text(), tree: &parsed.file })
        .collect();
    let Compilation { compiled, diagnostics } = compiler::compile(&files, today);
    info!(elapsed = ?start.elapsed(), channels = compiled.channels.len(), "compiled");
    drop(files);
    let mut findings: Vec<Diagnostic> = parsed.into_iter().flat_map(|p| p.diagnostics).collect();
    findings.extend(diagnostics);
    (sources, compiled, findings)
}

/// Everything that is to be said of a project.
///
/// # Errors
/// The project cannot be read, or the settings cannot be.
pub fn analyse(path: &Path, judging: &Judging, _levels: &Levels) -> Result<Analysis, Failure> {
    let project = project::load(path)?;
    let today = judging.today();
    judging.run(|| {
        let (sources, compiled, mut findings) = compile(&project, today);
        lang::render::sort(&sources, &mut findings);
        Ok(Analysis { sources, compiled, findings })
    })?
}

/// A project for those who ask what it decides: with the findings that leave its meaning open, those of syntax, names,
/// numbers and spaces (PW00xx to PW03xx). What policies say of each other (PW04xx and up) is `check`'s.
///
/// # Errors
/// The project cannot be read, or the settings cannot be.
pub fn meaning(path: &Path, judging: &Judging) -> Result<Analysis, Failure> {
    let project = project::load(path)?;
    let today = judging.today();
    judging.run(|| {
        let (sources, compiled, mut findings) = compile(&project, today);
        findings.retain(|finding| finding.code < Code::PW0401);
        lang::render::sort(&sources, &mut findings);
        Ok(Analysis { sources, compiled, findings })
    })?
}

