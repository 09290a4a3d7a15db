//! `check [PATH]`: parse, resolve, verify.

mod base;
pub(crate) mod handed_on;
pub(crate) mod print;

use crate::analysis;
use crate::cache::Cache;
use crate::checked::{self, Request, Shard};
use crate::cli::{Global, HERE, Judging, Levels, Proving};
use crate::exit::{Exit, Outcome};
use crate::output::Out;
use crate::project;
use clap::Args;
use handed_on::HandedOn;
use print::{Format, Places};
use std::ffi::OsString;
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
    /// Report only what this git revision of the project did not have, each finding on a line that changed since, if one
    /// of its places is on such a line
    #[arg(long, value_name = "REV")]
    diff_base: Option<OsString>,
    /// Keep results in this folder and take from it what still holds; safe to share between runs
    #[arg(long, value_name = "DIR")]
    cache: Option<PathBuf>,
    /// Do only this part of the work, such as 2/4; `partywall merge` makes one report of the parts' JSON reports
    #[arg(long, value_name = "I/N", value_parser = Shard::parse, conflicts_with = "diff_base")]
    shard: Option<Shard>,
    #[command(flatten)]
    levels: Levels,
    #[command(flatten)]
    judging: Judging,
    #[command(flatten)]
    proving: Proving,
}

pub fn run(global: &Global, args: &CheckArgs) -> Outcome {
    let project = project::load(&args.path)?;
    let cache = args.cache.as_deref().map(Cache::new);
    let request =
        Request { judging: &args.judging, proving: &args.proving, cache: cache.as_ref(), shard: args.shard };
    let checked = checked::check(&project, request)?;
    analysis::tell_skipped(&checked.state.skipped);
    let places = Places::of(&args.path);
    let handed_on = match (args.shard, args.format) {
        (Some(shard), Format::Json) => Some(HandedOn::new(&checked, &project, shard, &args.levels, &places)),
        _ => None,
    };
    let mut report = checked.settle(&args.levels, args.shard)?;
    if let Some(revision) = &args.diff_base {
        base::narrow(&report.sources, &mut report.findings, args, request, revision)?;
    }
    let text = match &args.diff_base {
        Some(base) if args.format == Format::Human && report.findings.is_empty() => {
            format!("no findings that {} did not have\n", base.to_string_lossy())
        }
        _ => print::text(&report, args.format, &places, global.color_stdout())?,
    };
    let mut out = Out::new();
    out.text(&match handed_on {
        Some(handed_on) => handed_on.added_to(&text)?,
        None => text,
    })?;
    out.flush()?;
    Ok(Exit::findings(report.has_errors()))
}
