//! From a project's files to its compiled form and everything that is to be said of it.

use crate::cli::{Global, Judging, Levels, Proving};
use crate::exit::Failure;
use crate::output;
use crate::project::{self, File, Project};
use crate::settings;
use compiler::config::Config;
use compiler::lints::{self, Level};
use compiler::{Compilation, Compiled, SourceFile};
use lang::ast::{self, Date, Suppression};
use lang::codes::Code;
use lang::diag::{Diagnostic, Severity};
use lang::source::{Source, Sources};
use lang::span::{FileId, Span, Spanned};
use lang::{Parsed, Query};
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
    pub config: Config,
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
    parse_after(Sources::new(), project)
}

/// The texts of a project alone.
pub(crate) fn sources(project: &Project) -> Sources {
    let mut sources = Sources::new();
    sources.extend(project.files.par_iter().map(source).collect::<Vec<_>>());
    sources
}

fn source(file: &File) -> Source {
    Source::new(file.path.as_str(), String::from_utf8_lossy(&file.bytes))
}

/// As [`parse`], behind the sources that are there already.
fn parse_after(mut sources: Sources, project: &Project) -> (Sources, Vec<Parsed>) {
    let FileId(first) = sources.next();
    let (texts, parsed): (Vec<Source>, Vec<Parsed>) = project
        .files
        .par_iter()
        .zip(first..u32::MAX)
        .map(|(file, id)| (source(file), lang::parse_bytes(FileId(id), &file.bytes)))
        .unzip();
    sources.extend(texts);
    (sources, parsed)
}

/// A project on the way: what was read, compiled and found so far.
pub(crate) struct Stage {
    pub sources: Sources,
    /// In the order of files and places.
    pub suppressions: Vec<Suppression>,
    pub config: Config,
    pub compiled: Compiled,
    pub findings: Vec<Diagnostic>,
}

/// Parses and compiles: what syntax, names and structure have to say.
pub(crate) fn compile(project: &Project, today: Date) -> Result<Stage, Failure> {
    compile_with(project, today, None)
}

/// As [`compile`], with one more text before the project's files.
fn compile_with(project: &Project, today: Date, front: Option<Front<'_>>) -> Result<Stage, Failure> {
    let config = settings::read(project.config.as_deref())?;
    let start = Instant::now();
    let mut sources = Sources::new();
    if let Some(front) = &front {
        sources.add(front.path, front.text);
    }
    let (sources, mut parsed) = parse_after(sources, project);
    if let Some(front) = front {
        parsed.insert(0, Parsed { file: front.tree, diagnostics: Vec::new() });
    }
    info!(files = project.files.len(), elapsed = ?start.elapsed(), "parsed");
    let start = Instant::now();
    let files = SourceFile::all(&sources, &parsed);
    let Compilation { compiled, diagnostics } = compiler::compile(&files, today);
    info!(elapsed = ?start.elapsed(), channels = compiled.channels.len(), "compiled");
    let mut findings: Vec<Diagnostic> = parsed.iter().flat_map(|p| p.diagnostics.iter().cloned()).collect();
    findings.extend(diagnostics);
    for file in &files {
        findings.extend(compiler::checks::owners::check(&config.owners, file.path, file.tree));
    }
    drop(files);
    // A node may be missing because its declaration is wrong.
    if findings.iter().all(|finding| finding.severity != Severity::Error) {
        settings::profiles(&config, &compiled)?;
    }
    let suppressions = parsed.iter_mut().flat_map(|p| std::mem::take(&mut p.file.suppressions)).collect();
    // Trees are many small pieces: what comes next uses their memory again, and does not wait for the last of them.
    rayon::spawn(move || drop(parsed));
    Ok(Stage { sources, suppressions, config, compiled, findings })
}

/// A text that is compiled with a project and belongs to none of its files.
struct Front<'a> {
    path: &'a str,
    text: &'a str,
    tree: ast::File,
}

impl Stage {
    /// Suppressions and levels applied, in the one order. `proved` says whether the verifier has judged all flows.
    fn settle(self, levels: &Levels, proved: bool) -> Result<Analysis, Failure> {
        let judged = |code: Code| is_judged(code, proved);
        let weights = self.config.lints.clone();
        let findings = weigh(&self.sources, weights, levels, self.findings, &self.suppressions, judged)?;
        Ok(Analysis { sources: self.sources, compiled: self.compiled, findings, config: self.config })
    }
}

/// Applies suppressions and levels to findings, and puts them in the one order. `judged` says for which codes a suppression that
/// suppresses nothing is one too many.
///
/// # Errors
/// A level that a code cannot have.
pub(crate) fn weigh<'s>(
    sources: &Sources,
    mut weights: lints::Levels,
    levels: &Levels,
    findings: Vec<Diagnostic>,
    suppressions: impl IntoIterator<Item = &'s Suppression>,
    judged: impl Fn(Code) -> bool,
) -> Result<Vec<Diagnostic>, Failure> {
    for (codes, level) in [(&levels.deny, Level::Deny), (&levels.allow, Level::Allow)] {
        for code in codes {
            weights.set(*code, level).map_err(|e| Failure::new(e.to_string()))?;
        }
    }
    let mut findings = lints::apply(findings, suppressions, &weights, judged);
    lang::render::sort(sources, &mut findings);
    Ok(findings)
}

/// Whether a check has looked for all findings of a code; `proved` says whether the verifier has judged all flows.
pub(crate) fn is_judged(code: Code, proved: bool) -> bool {
    !UNBUILT.contains(&code) && (proved || !PROVED.contains(&code))
}

/// What the verifier decides.
const PROVED: &[Code] = &[
    Code::PW0401,
    Code::PW0402,
    Code::PW0403,
    Code::PW0404,
    Code::PW0501,
    Code::PW0502,
    Code::PW0503,
    Code::PW0601,
    Code::PW0603,
    Code::PW0604,
    Code::PW0701,
    Code::PW0901,
];

/// What nothing looks for in a `check`: a suppression of it is kept for later.
const UNBUILT: &[Code] = &[Code::PW0801, Code::PW0802, Code::PW0803];

/// The compiled form alone, for those who measure it.
///
/// # Errors
/// The settings cannot be read.
pub fn compile_only(project: &Project, today: Date) -> Result<Compiled, Failure> {
    Ok(compile(project, today)?.compiled)
}

pub(crate) fn options(judging: &Judging, proving: &Proving) -> verifier::Options {
    verifier::Options {
        budget: proving.solver_budget,
        jobs: judging.jobs.map(NonZeroUsize::get),
        certify: proving.certify,
        ..Default::default()
    }
}

/// What a contradiction between engine, solver and evaluator means.
pub(crate) fn broken(fault: verifier::Fault) -> Failure {
    Failure::new(format!("{fault}; this is a bug in partywall, and no verdict on the project"))
}

/// Owners that are named when their flows are left out; the others are counted.
const MOST_SKIPPED: usize = 20;

/// Names the owners whose flows were left out.
pub(crate) fn tell_skipped<S: AsRef<str>>(owners: &[S]) {
    if !owners.is_empty() {
        let named: Vec<&str> = owners.iter().take(MOST_SKIPPED).map(AsRef::as_ref).collect();
        let more = match owners.len() - named.len() {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        output::tell(&format!(
            "their declarations are in error, so nothing is proved about the flows of {}{more}",
            named.join(", ")
        ));
    }
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
    let options = options(judging, proving);
    judging.run(|| {
        let mut stage = compile(&project, today)?;
        let start = Instant::now();
        let verdicts = verifier::verify(&stage.compiled, &options).map_err(broken)?;
        info!(elapsed = ?start.elapsed(), undecided = verdicts.undecided, "verified");
        let skipped: Vec<&str> =
            verdicts.skipped.iter().map(|id| stage.compiled.model.owners[*id].name.as_str()).collect();
        tell_skipped(&skipped);
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
    judging.run(|| meaning_of(&project, judging.today()))?
}

/// As [`meaning`], of a project that has been read.
///
/// # Errors
/// The settings cannot be read.
pub fn meaning_of(project: &Project, today: Date) -> Result<Analysis, Failure> {
    let mut stage = compile(project, today)?;
    stage.findings.retain(|finding| finding.code < Code::PW0401);
    stage.settle(&Levels::default(), false)
}

/// What stands for a file's path where a place lies in the text of a query.
pub const QUERY_PATH: &str = "<query>";

/// The file of a query's text in the sources of an analysis that has one.
pub const QUERY_FILE: FileId = FileId(0);

/// As [`meaning`], with a query: the last of the model's tests that stands in [`QUERY_FILE`], of one clause, if the query
/// could be resolved; findings about its text lie in that file. The query's names and literals mean what they mean in a test.
///
/// # Errors
/// The project or its settings cannot be read.
pub fn meaning_with_query(
    path: &Path,
    judging: &Judging,
    text: &str,
    query: Query,
) -> Result<Analysis, Failure> {
    let project = project::load(path)?;
    let span = Span::new(QUERY_FILE, 0, u32::try_from(text.len()).unwrap_or(u32::MAX));
    let kind = ast::TestKind::Flows {
        quantifier: ast::Quantifier::Some,
        src: query.src,
        dst: query.dst,
        service: query.service,
        via: None,
    };
    // No source can hold this name, so no test of the project bears it.
    let name = Spanned::new("\0".to_owned(), span);
    let test = ast::Test { name, clauses: vec![ast::TestClause { docs: Vec::new(), kind, span }] };
    let item = ast::Item { docs: Vec::new(), decl: ast::Decl::Test(test), span };
    let tree = ast::File { items: vec![item], suppressions: Vec::new() };
    judging.run(|| {
        let front = Front { path: QUERY_PATH, text, tree };
        let mut stage = compile_with(&project, judging.today(), Some(front))?;
        stage.findings.retain(|finding| finding.code < Code::PW0401);
        stage.settle(&Levels::default(), false)
    })?
}
