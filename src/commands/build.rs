//! `build PATH --target nft --out DIR`: what nodes run.

use crate::analysis::{self, Analysis};
use crate::artifacts;
use crate::cli::{Global, Judging, Levels, ProjectPath, Proving};
use crate::exit::{Exit, Failure, Outcome};
use crate::output::{self, Out};
use crate::settings;
use backends::{Bundle, Request, Told};
use clap::{Args, ValueEnum};
use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::PathBuf;

/// Emit what each node runs; refuses while there are errors
#[derive(Debug, Args)]
pub struct BuildArgs {
    #[command(flatten)]
    project: ProjectPath,
    /// What the nodes run
    #[arg(long, value_name = "TARGET")]
    target: Target,
    /// Where to; replaced at once if it is there and was made by `build`
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Only for these nodes
    #[arg(long, value_name = "NODE", num_args = 1..)]
    node: Vec<String>,
    /// As if these gateway nodes were dead: their flows go to the instances that live
    #[arg(long, value_name = "NODE", num_args = 1.., value_delimiter = ',')]
    down: Vec<String>,
    #[command(flatten)]
    levels: Levels,
    #[command(flatten)]
    judging: Judging,
    #[command(flatten)]
    proving: Proving,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Target {
    /// nftables and iproute2
    Nft,
    /// Programs at tc, and maps
    Ebpf,
    /// A program for switches, its P4Info and its entries
    P4,
    /// Every one of them, side by side; a switch's where all of it can be expressed
    All,
}

impl Target {
    pub(crate) fn list(self) -> BTreeSet<backends::Target> {
        match self {
            Self::Nft => BTreeSet::from([backends::Target::Nft]),
            Self::Ebpf => BTreeSet::from([backends::Target::Ebpf]),
            Self::P4 => BTreeSet::from([backends::Target::P4]),
            Self::All => BTreeSet::from([backends::Target::Nft, backends::Target::Ebpf]),
        }
    }

    /// What is emitted beside them where it can be: a stateful gateway is nothing for a switch.
    fn where_possible(self) -> BTreeSet<backends::Target> {
        if self == Self::All { BTreeSet::from([backends::Target::P4]) } else { BTreeSet::new() }
    }
}

pub fn run(global: &Global, args: &BuildArgs) -> Outcome {
    artifacts::replaceable(&args.out)?;
    let analysis = analysis::analyse(&args.project.path, &args.judging, &args.proving, &args.levels)?;
    let wanted = Request {
        targets: args.target.list(),
        where_possible: args.target.where_possible(),
        nodes: set(&args.node),
        down: set(&args.down),
        ..Request::default()
    };
    let Some(bundle) = bundle(&analysis, wanted, global)? else {
        return Ok(Exit::Findings);
    };
    artifacts::write(&bundle, &args.out)?;
    let mut out = Out::new();
    out.text(&format!(
        "{}: {} nodes, {} files, generation {}\n",
        args.out.display(),
        bundle.manifest.nodes.len(),
        bundle.files.len(),
        bundle.manifest.generation
    ))?;
    for (node, told) in &bundle.told {
        out.text(&lines(node, told))?;
    }
    out.flush()?;
    Ok(Exit::Clean)
}

/// What a switch gets, and what answers are let through that nobody may have asked for.
fn lines(node: &str, told: &Told) -> String {
    let mut out = String::new();
    if let Some((entries, saved)) = &told.entries {
        let left = |(before, after): (usize, usize), what: &str| format!("{after} of {before} {what}");
        let parts = [
            left(saved.classes, "classes of addresses"),
            left(saved.prefixes, "prefixes"),
            left(saved.verdicts, "verdicts"),
            left(saved.replies, "answers"),
        ];
        let _ = writeln!(out, "{node}: {entries} entries; joining has left {}", parts.join(", "));
    }
    for admitted in &told.admitted {
        let _ = writeln!(out, "{node}: admits {admitted}");
    }
    for (target, findings) in &told.left_out {
        let target = target.name();
        let _ = writeln!(
            out,
            "{node}: nothing for {target}, which cannot express all of it; `build --target {target} --node {node}` shows why ({findings})"
        );
    }
    out
}

pub(crate) fn set(names: &[String]) -> BTreeSet<String> {
    names.iter().cloned().collect()
}

/// The artifacts that are asked for; `None` if the project's errors, or the target, forbid it, which has been told. Version and
/// profiles are put in here.
pub(crate) fn bundle(
    analysis: &Analysis,
    wanted: Request,
    global: &Global,
) -> Result<Option<Bundle>, Failure> {
    let (nodes, down) = (&wanted.nodes, &wanted.down);
    let model = &analysis.compiled.model;
    let known = || model.nodes.values().map(|node| node.name.as_str());
    let instance = |name: &str| {
        model.gateways.values().flat_map(|g| &g.instances).any(|id| model.nodes[*id].name == name)
    };
    if analysis.refuse("build", global) {
        return Ok(None);
    }
    if let Some(unknown) = nodes.iter().chain(down).find(|name| !known().any(|node| node == name.as_str())) {
        let near = lang::suggest(unknown, known()).map(|near| format!("; did you mean {near}?"));
        return Err(Failure::new(format!("there is no node {unknown}{}", near.unwrap_or_default())));
    }
    if let Some(name) = down.iter().find(|name| !instance(name)) {
        return Err(Failure::new(format!("node {name} runs no gateway instance that could be down")));
    }
    let profiles = settings::profiles(&analysis.config, &analysis.compiled)?;
    let request = Request { version: env!("CARGO_PKG_VERSION").to_owned(), profiles, ..wanted };
    match backends::build(&analysis.compiled, &analysis.sources, &request) {
        Ok(bundle) => Ok(Some(bundle)),
        Err(mut found) => {
            lang::render::sort(&analysis.sources, &mut found);
            output::show(&lang::render::human(&analysis.sources, &found, global.color_stderr()));
            output::tell("cannot build: the target cannot express what is shown above");
            Ok(None)
        }
    }
}
