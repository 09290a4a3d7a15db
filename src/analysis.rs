//! From a project's files to its compiled form and everything that is to be said of it.

use crate::cli::{Global, Judging, Levels, Proving};
use crate::exit::Failure;
use crate::output;
use crate::project::{self, Project};
use compiler::config::Config;
use compiler::lints::{self, Level};
use compiler::{Compilation, Compiled, SourceFile};
use lang::Parsed;
use lang::ast::Date;
use lang::codes::Code;
use lang::diag::{Diagnostic, Severity};
use lang::source::Sources;
use lang::span::FileId;
use rayon::prelude::*;
use std::num::NonZeroUsize;
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
    let parsed =
        project.files.par_iter().zip(ids).map(|(file, id)| lang::parse_bytes(id, &file.bytes)).collect();
    (sources, parsed)
}

/// A project on the way: what was read, compiled and found so far.
struct Stage {
    sources: Sources,
    parsed: Vec<Parsed>,
    config: Config,
    compiled: Compiled,
    findings: Vec<Diagnostic>,
}

/// Parses and compiles: what syntax, names and structure have to say.
fn compile(project: &Project, today: Date) -> Result<Stage, Failure> {
    let config = match &project.config {
        Some(text) => compiler::config::parse(text).map_err(|e| Failure::new(e.to_string()))?,
        None => Config::default(),
    };
    let start = Instant::now();
    let (sources, parsed) = parse(project);
    info!(files = project.files.len(), elapsed = ?start.elapsed(), "parsed");
    let start = Instant::now();
    let files: Vec<SourceFile<'_>> = sources
        .iter()
        .zip(&parsed)
        .map(|((id, source), parsed)| SourceFile {
            id,
            path: source.path(),
            text: source.text(),
            tree: &parsed.file,
        })
        .collect();
    let Compilation { compiled, diagnostics } = compiler::compile(&files, today);
    info!(elapsed = ?start.elapsed(), channels = compiled.channels.len(), "compiled");
    let mut findings: Vec<Diagnostic> = parsed.iter().flat_map(|p| p.diagnostics.iter().cloned()).collect();
    findings.extend(diagnostics);
    for file in &files {
        findings.extend(compiler::checks::owners::check(&config.owners, file.path, file.tree));
    }
    drop(files);
    Ok(Stage { sources, parsed, config, compiled, findings })
}

impl Stage {
    /// Suppressions and levels applied, in the one order. `proved` says whether the verifier has judged all flows.
    fn settle(self, levels: &Levels, proved: bool) -> Result<Analysis, Failure> {
        let mut weights = self.config.lints;
        for (codes, level) in [(&levels.deny, Level::Deny), (&levels.allow, Level::Allow)] {
            for code in codes {
                weights.set(*code, level).map_err(|e| Failure::new(e.to_string()))?;
            }
        }
        let suppressions = self.parsed.iter().flat_map(|parsed| &parsed.file.suppressions);
        let judged = |code: Code| !UNBUILT.contains(&code) && (proved || !PROVED.contains(&code));
        let mut findings = lints::apply(self.findings, suppressions, &weights, judged);
        lang::render::sort(&self.sources, &mut findings);
        Ok(Analysis { sources: self.sources, compiled: self.compiled, findings })
    }
}

/// What the verifier decides.
const PROVED: &[Code] =
    &[Code::PW0401, Code::PW0402, Code::PW0404, Code::PW0502, Code::PW0503, Code::PW0701, Code::PW0901];

/// What nothing looks for in a `check`: a suppression of it is kept for later.
const UNBUILT: &[Code] =
    &[Code::PW0403, Code::PW0601, Code::PW0603, Code::PW0604, Code::PW0801, Code::PW0802, Code::PW0803];

/// The compiled form alone, for those who measure it.
///
/// # Errors
/// The settings cannot be read.
pub fn compile_only(project: &Project, today: Date) -> Result<Compiled, Failure> {
    Ok(compile(project, today)?.compiled)
}

/// Everything that is to be said of a project.
///
/// # Errors
/// The project or its settings cannot be read, or the solver fails.
pub fn analyse(
    path: &Path,
    judging: &Judging,
    proving: &Proving,
    levels: &Levels,
) -> Result<Analysis, Failure> {
    let project = project::load(path)?;
    let today = judging.today();
    let options = verifier::Options {
        budget: proving.solver_budget,
        jobs: judging.jobs.map(NonZeroUsize::get),
        certify: proving.certify,
        ..Default::default()
    };
    judging.run(|| {
        let mut stage = compile(&project, today)?;
        let start = Instant::now();
        let verdicts = verifier::verify(&stage.compiled, &options).map_err(|fault| {
            Failure::new(format!("{fault}; this is a bug in partywall, and no verdict on the project"))
        })?;
        info!(elapsed = ?start.elapsed(), undecided = verdicts.undecided, "verified");
        let skipped: Vec<&str> =
            verdicts.skipped.iter().map(|id| stage.compiled.model.owners[*id].name.as_str()).collect();
        if !skipped.is_empty() {
            output::tell(&format!(
                "their declarations are in error, so nothing is proved about the flows of {}",
                skipped.join(", ")
            ));
        }
        stage.findings.extend(verdicts.diagnostics);
        stage.settle(levels, verdicts.skipped.is_empty())
    })?
}

/// A project for those who ask what it decides: with the findings that leave its meaning open, those of syntax, names,
/// numbers and spaces (PW00xx to PW03xx). What policies say of each other (PW04xx and up) is `check`'s.
///
/// # Errors
/// The project or its settings cannot be read.
pub fn meaning(path: &Path, judging: &Judging) -> Result<Analysis, Failure> {
    let project = project::load(path)?;
    let today = judging.today();
    judging.run(|| {
        let mut stage = compile(&project, today)?;
        stage.findings.retain(|finding| finding.code < Code::PW0401);
        stage.settle(&Levels::default(), false)
    })?
}
