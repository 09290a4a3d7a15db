//! `check [PATH]`: parse, resolve, verify.

use crate::analysis::{self, Analysis};
use crate::cli::{Global, HERE, Judging, Levels, Proving};
use crate::exit::{Exit, Failure, Outcome};
use crate::output::Out;
use crate::place;
use clap::{Args, ValueEnum};
use lang::render;
use std::path::PathBuf;

/// Check a project and print its findings
#[derive(Debug, Args)]
pub struct CheckArgs {
    /// A project's folder, or a single .pw file
    #[arg(value_name = "PATH", default_value = HERE)]
    path: PathBuf,
    /// How findings are printed
    #[arg(long, value_name = "FORMAT", default_value = "human")]
    format: Format,
    #[command(flatten)]
    levels: Levels,
    #[command(flatten)]
    judging: Judging,
    #[command(flatten)]
    proving: Proving,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    /// With the source, for people
    Human,
    /// A line each
    Concise,
    /// One document, for tools
    Json,
    /// SARIF 2.1.0, for GitHub code scanning
    Sarif,
    /// Workflow commands, for annotations of GitHub Actions: the ten worst findings
    Github,
    /// GitLab's code quality report
    Gitlab,
    /// JUnit XML, for viewers of test results
    Junit,
    /// reviewdog's diagnostic format
    Rdjson,
}

pub fn run(global: &Global, args: &CheckArgs) -> Outcome {
    let analysis = analysis::analyse(&args.path, &args.judging, &args.proving, &args.levels)?;
    let mut out = Out::new();
    out.text(&text(&analysis, args, global.color_stdout())?)?;
    out.flush()?;
    Ok(Exit::findings(analysis.has_errors()))
}

fn text(analysis: &Analysis, args: &CheckArgs, color: bool) -> Result<String, Failure> {
    let (sources, findings) = (&analysis.sources, &analysis.findings);
    let version = env!("CARGO_PKG_VERSION");
    let project = analysis.project();
    // Who reads a report of continuous integration knows the repository, not the project's folder in it.
    let prefix = || place::in_repository(&args.path);
    match args.format {
        Format::Human => Ok(human(analysis, color)),
        Format::Concise => Ok(render::concise(sources, findings)),
        Format::Json => {
            render::json(sources, findings, render::JsonOptions { version, project }).map_err(unwritten)
        }
        Format::Sarif => {
            let options = render::CiOptions { version, project, prefix: &prefix() };
            render::sarif(sources, findings, options).map_err(unwritten)
        }
        Format::Github => Ok(render::github(sources, findings, &prefix())),
        Format::Gitlab => render::gitlab(sources, findings, &prefix()).map_err(unwritten),
        Format::Junit => render::junit(sources, findings, &prefix()).map_err(unwritten),
        // reviewdog itself adds the way from the repository's root to the working folder.
        Format::Rdjson => render::rdjson(sources, findings, &place::from_here(&args.path)).map_err(unwritten),
    }
}

fn unwritten(error: impl std::fmt::Display) -> Failure {
    Failure::new(format!("cannot write the findings: {error}"))
}

/// Nobody reads more findings than this with their source.
const MAX_SHOWN: usize = 1_000;

/// The findings with their source, and one line that sums up.
pub(crate) fn human(analysis: &Analysis, color: bool) -> String {
    let shown = analysis.findings.get(..MAX_SHOWN).unwrap_or(&analysis.findings);
    let mut text = render::human(&analysis.sources, shown, color);
    if shown.len() < analysis.findings.len() {
        text.push_str(&format!(
            "… and {} more; `--format concise` and `--format json` list all\n\n",
            analysis.findings.len() - shown.len()
        ));
    }
    let summary = render::json::Summary::of(&analysis.findings);
    let parts: Vec<String> =
        [(summary.errors, "error"), (summary.warnings, "warning"), (summary.notes, "note")]
            .into_iter()
            .filter(|(count, _)| *count > 0)
            .map(|(count, what)| format!("{count} {what}{}", if count == 1 { "" } else { "s" }))
            .collect();
    let files = analysis.sources.iter().count();
    let files = format!("{files} file{}", if files == 1 { "" } else { "s" });
    let model = &analysis.compiled.model;
    if parts.is_empty() {
        let tenants = model.owners.values().filter(|owner| owner.is_tenant()).count();
        text.push_str(&format!(
            "no findings in {files}: {tenants} tenants, {} rules, {} exposures\n",
            model.rules.len(),
            model.exposures.len()
        ));
    } else {
        text.push_str(&format!("{} in {files}\n", parts.join(", ")));
    }
    text
}
