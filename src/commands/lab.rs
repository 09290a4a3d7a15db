//! `lab up|probe|down PATH`: the fabric in network namespaces of this machine.

use crate::analysis;
use crate::artifacts;
use crate::cli::{Global, Judging, Levels, ProjectPath, Proving};
use crate::commands::build;
use crate::exit::{Exit, Failure, Outcome};
use crate::output::Out;
use backends::Request;
use clap::{Args, Subcommand, ValueEnum};
use node::lab::{self, LabError, LabOptions, ProbeOptions};
use std::collections::BTreeSet;
use std::path::Path;
use tracing::info;

/// Run the whole fabric in network namespaces of this machine (needs root)
#[derive(Debug, Args)]
pub struct LabArgs {
    #[command(subcommand)]
    command: LabCommand,
}

#[derive(Debug, Subcommand)]
enum LabCommand {
    /// Build, make a namespace per node, endpoint and external, and apply what was built
    Up {
        #[command(flatten)]
        project: ProjectPath,
        /// What the nodes run
        #[arg(long, value_name = "TARGET", default_value = "nft")]
        target: Target,
        /// These gateway nodes are dead: unplugged, and the others configured for it
        #[arg(long, value_name = "NODE", num_args = 1.., value_delimiter = ',')]
        down: Vec<String>,
        #[command(flatten)]
        judging: Judging,
        #[command(flatten)]
        proving: Proving,
    },
    /// Send real packets for every test, `isolate` and drop reason, and compare with `eval`
    Probe {
        #[command(flatten)]
        project: ProjectPath,
        /// How the report is printed
        #[arg(long, value_name = "FORMAT", default_value = "human")]
        format: Format,
        #[command(flatten)]
        judging: Judging,
    },
    /// Remove all of it
    Down {
        #[command(flatten)]
        project: ProjectPath,
    },
}

/// What the nodes of a lab run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Target {
    /// nftables and iproute2
    Nft,
    /// Programs at tc, and maps
    Ebpf,
    /// Every other node the one, the rest the other
    Mixed,
}

impl Target {
    fn list(self) -> BTreeSet<backends::Target> {
        match self {
            Self::Nft => BTreeSet::from([backends::Target::Nft]),
            Self::Ebpf => BTreeSet::from([backends::Target::Ebpf]),
            Self::Mixed => BTreeSet::from([backends::Target::Nft, backends::Target::Ebpf]),
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    Human,
    Json,
}

pub fn run(global: &Global, args: &LabArgs) -> Outcome {
    match &args.command {
        LabCommand::Up { project, target, down, judging, proving } => {
            up(global, &project.path, *target, down, judging, proving)
        }
        LabCommand::Probe { project, format, judging } => probe(global, &project.path, *format, judging),
        LabCommand::Down { project } => down(&project.path),
    }
}

fn up(
    global: &Global,
    path: &Path,
    target: Target,
    down: &[String],
    judging: &Judging,
    proving: &Proving,
) -> Outcome {
    let analysis = analysis::analyse(path, judging, proving, &Levels::default())?;
    let wanted = Request { targets: target.list(), down: build::set(down), ..Request::default() };
    let Some(bundle) = build::bundle(&analysis, wanted, global)? else {
        return Ok(Exit::Findings);
    };
    let folder = tempfile::tempdir().map_err(|e| Failure::io("cannot make a temporary folder", &e))?;
    let built = folder.path().join("nodes");
    artifacts::write(&bundle, &built)?;
    if target == Target::Mixed {
        for node in bundle.manifest.nodes.keys().skip(1).step_by(2) {
            let other = built.join(node).join("nft");
            std::fs::remove_dir_all(&other)
                .map_err(|e| Failure::io(format!("cannot remove {}", other.display()), &e))?;
        }
    }
    let mut lab = lab::up(&analysis.compiled, &built, &options(path)?).map_err(failure)?;
    for (id, node) in analysis.compiled.model.nodes.iter() {
        if down.contains(&node.name) {
            lab.unplug(id).map_err(failure)?;
        }
    }
    info!(namespaces = lab.topology.namespaces().len(), "up");
    line(&format!("up: {} namespaces", lab.topology.namespaces().len()))
}

fn probe(global: &Global, path: &Path, format: Format, judging: &Judging) -> Outcome {
    let analysis = analysis::meaning(path, judging)?;
    if analysis.refuse("probe", global) {
        return Ok(Exit::Findings);
    }
    let lab = lab::open(&analysis.compiled, &options(path)?).map_err(failure)?;
    let mut report = lab::probe(&analysis.compiled, &lab, &ProbeOptions::default()).map_err(failure)?;
    report.locate(|span| {
        let (start, _) = analysis.sources.range(span);
        format!("{}:{}", analysis.sources.path(span.file), start.line)
    });
    let mut out = Out::new();
    match format {
        Format::Human => out.text(&report.table())?,
        Format::Json => {
            let json =
                report.json().map_err(|e| Failure::new(format!("cannot write the report as JSON: {e}")))?;
            out.text(&json)?;
        }
    }
    out.flush()?;
    Ok(Exit::findings(!report.ok()))
}

fn down(path: &Path) -> Outcome {
    let removed = lab::down(&options(path)?).map_err(failure)?;
    line(&format!("down: {removed} namespaces removed"))
}

/// Labs are told apart by their projects' places.
fn options(path: &Path) -> Result<LabOptions, Failure> {
    let place =
        path.canonicalize().map_err(|e| Failure::io(format!("cannot read {}", path.display()), &e))?;
    Ok(LabOptions { project: place.display().to_string() })
}

fn failure(error: LabError) -> Failure {
    Failure::new(error.to_string())
}

fn line(text: &str) -> Outcome {
    let mut out = Out::new();
    out.text(&format!("{text}\n"))?;
    out.flush()?;
    Ok(Exit::Clean)
}
