//! `merge REPORT…`: one report of those of all shards.

use crate::analysis;
use crate::checked::{self, Shard};
use crate::cli::{self, Global, Levels};
use crate::commands::check::handed_on::HandedOn;
use crate::commands::check::print::{self, Format};
use crate::exit::{Exit, Failure, Outcome};
use crate::output::Out;
use crate::settings;
use clap::Args;
use lang::source::Sources;
use lang::span::FileId;
use serde::Deserialize;
use std::path::{Path, PathBuf};

/// Make one report of those of all shards of a check
///
/// The reports are those that `check --shard I/N --format json` wrote, of one project, one version and one set of options, each
/// shard's once. The result and the exit status are those of one check without shards.
#[derive(Debug, Args)]
pub struct MergeArgs {
    /// The shards' JSON reports, in any order
    #[arg(value_name = "REPORT", required = true)]
    reports: Vec<PathBuf>,
    /// How findings are printed
    #[arg(long, value_name = "FORMAT", default_value = "human")]
    format: Format,
}

/// A report as far as it concerns the merge.
#[derive(Deserialize)]
struct Document {
    format_version: String,
    tool: Tool,
    shard: Option<HandedOn>,
}

#[derive(Deserialize)]
struct Tool {
    name: String,
    version: String,
}

/// The version of this tool.
const VERSION: &str = env!("CARGO_PKG_VERSION");

pub fn run(global: &Global, args: &MergeArgs) -> Outcome {
    let mut parts: Vec<(&Path, HandedOn)> = Vec::with_capacity(args.reports.len());
    for path in &args.reports {
        parts.push((path, read(path)?));
    }
    parts.sort_by_key(|(_, part)| part.shard);
    complete(&parts)?;
    let Some((_, first)) = parts.first() else { return Err(Failure::new("there is no report")) };

    let config = settings::read(first.settings.config.as_deref())?;
    let codes = |codes: &[String]| {
        codes.iter().map(|code| cli::code(code).map_err(Failure::new)).collect::<Result<Vec<_>, _>>()
    };
    let levels = Levels { deny: codes(&first.settings.deny)?, allow: codes(&first.settings.allow)? };
    let places = first.places.clone();
    analysis::tell_skipped(&first.state.skipped);
    let sources = sources(&parts)?;
    let count = first.files.len();
    let files = |file: u32| usize::try_from(file).is_ok_and(|at| at < count).then_some(FileId(file));
    let states = parts.into_iter().map(|(_, part)| part.state).collect();
    let report = checked::settle(sources, config, &levels, states, false, &files)?;
    let mut out = Out::new();
    out.text(&print::text(&report, args.format, &places, global.color_stdout())?)?;
    out.flush()?;
    Ok(Exit::findings(report.has_errors()))
}

fn read(path: &Path) -> Result<HandedOn, Failure> {
    let shown = path.display();
    let bytes = std::fs::read(path).map_err(|e| Failure::io(format!("cannot read {shown}"), &e))?;
    let document: Document = serde_json::from_slice(&bytes)
        .map_err(|e| Failure::new(format!("{shown} is no report of `check --format json`: {e}")))?;
    let Tool { name, version } = document.tool;
    if name != "partywall" || document.format_version.split('.').next() != Some("1") {
        return Err(Failure::new(format!("{shown} is no report of this tool")));
    }
    if version != VERSION {
        return Err(Failure::new(format!("{shown} was written by version {version}, and this is {VERSION}")));
    }
    document.shard.ok_or_else(|| {
        Failure::new(format!("{shown} is the report of a whole check: write it with `check --shard I/N`"))
    })
}

/// Whether these are all shards of one check, each once; they come in order.
fn complete(parts: &[(&Path, HandedOn)]) -> Result<(), Failure> {
    let Some((first_path, first)) = parts.first() else { return Ok(()) };
    for (path, part) in parts {
        let differs = if part.inputs != first.inputs {
            "are of different projects, options, days or builds"
        } else if part.settings != first.settings {
            "were made with different levels"
        } else if part.shard.of != first.shard.of {
            "belong to checks that were split differently"
        } else {
            continue;
        };
        return Err(Failure::new(format!("{} and {} {differs}", first_path.display(), path.display())));
    }
    for pair in parts.windows(2) {
        if let [(a, one), (b, other)] = pair
            && one.shard == other.shard
        {
            let Shard { index, of } = one.shard;
            return Err(Failure::new(format!(
                "{} and {} are both shard {index}/{of}",
                a.display(),
                b.display()
            )));
        }
    }
    let of = first.shard.of;
    let missing: Vec<String> = (1..=of)
        .filter(|index| !parts.iter().any(|(_, part)| part.shard.index == *index))
        .map(|index| format!("{index}/{of}"))
        .collect();
    if missing.is_empty() {
        Ok(())
    } else {
        Err(Failure::new(format!("no report of shard {}", missing.join(", "))))
    }
}

/// The project's files, with the texts that some report has.
fn sources(parts: &[(&Path, HandedOn)]) -> Result<Sources, Failure> {
    let Some((_, first)) = parts.first() else { return Ok(Sources::new()) };
    let mut sources = Sources::new();
    for (at, file) in first.files.iter().enumerate() {
        let mut text = None;
        for (path, part) in parts {
            match part.files.get(at) {
                Some(same) if same.path == file.path && part.files.len() == first.files.len() => {
                    text = text.or(same.text.as_deref());
                }
                _ => return Err(Failure::new(format!("{} names other files", path.display()))),
            }
        }
        sources.add(file.path.as_str(), text.unwrap_or_default());
    }
    Ok(sources)
}
