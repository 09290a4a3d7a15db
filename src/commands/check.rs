//! `check [PATH]`: parse, resolve, verify.

use crate::analysis::{self, Analysis};
use crate::cli::{Global, HERE, Judging, Levels, Proving};
use crate::exit::{Exit, Failure, Outcome};
use crate::output::Out;
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
}

pub fn run(global: &Global, args: &CheckArgs) -> Outcome {
    let analysis = analysis::analyse(&args.path, &args.judging, &args.proving, &args.levels)?;
    let mut out = Out::new();
    out.text(&text(&analysis, args.format, global.color_stdout())?)?;
    out.flush()?;
    Ok(Exit::findings(analysis.has_errors()))
}

fn text(analysis: &Analysis, format: Format, color: bool) -> Result<String, Failure> {
    let (sources, findings) = (&analysis.sources, &analysis.findings);
    Ok(match format {
        Format::Human => human(analysis, color),
        Format::Concise => render::concise(sources, findings),
        Format::Json => {
            let options =
                render::JsonOptions { version: env!("CARGO_PKG_VERSION"), project: analysis.project() };
            render::json(sources, findings, options)
                .map_err(|e| Failure::new(format!("cannot write the findings as JSON: {e}")))?
        }
    })
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
