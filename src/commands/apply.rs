//! `apply [DIR]`: this node's generation, installed.

use crate::cli::Kept;
use crate::exit::{Exit, Failure, Outcome};
use crate::output::{self, Out};
use clap::{Args, ValueEnum};
use node::NodeError;
use node::generation::{Generation, Target};
use node::install::{self, Installed, Step};
use node::state::State;
use std::collections::BTreeSet;
use std::path::PathBuf;
use tracing::info;

/// Install a generation on this node, or mend the current one (needs root)
///
/// Verifies the files against the manifest, keeps them, installs them (nft: by their own apply.sh; ebpf: programs and maps),
/// compares the result with what it should be and mends what is not. The old generation or the new one runs at every moment; a call that was cut
/// short is finished by the next. Without DIR the current generation is installed again: after a reboot, or to mend it.
#[derive(Debug, Args)]
pub struct ApplyArgs {
    /// An output of `build`, or a node's folder in one
    #[arg(value_name = "DIR")]
    dir: Option<PathBuf>,
    /// Which node this is [default: the one with this host's name, or the only one]
    #[arg(long, value_name = "NODE", requires = "dir")]
    node: Option<String>,
    /// Of a node that was built for several targets, which [default: nft]
    #[arg(long, value_name = "TARGET", requires = "dir")]
    target: Option<Installs>,
    /// Gateway nodes whose instances are dead: others take their connections. Without it all of DIR's are alive but those
    /// that it was built without
    #[arg(long, value_name = "NODE", value_delimiter = ',')]
    down: Vec<String>,
    #[command(flatten)]
    kept: Kept,
}

/// Targets that a node can install.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Installs {
    /// nftables and iproute2
    Nft,
    /// Programs at tc, and maps
    Ebpf,
}

impl From<Installs> for Target {
    fn from(target: Installs) -> Self {
        match target {
            Installs::Nft => Self::Nft,
            Installs::Ebpf => Self::Ebpf,
        }
    }
}

pub fn run(args: &ApplyArgs) -> Outcome {
    let state = State::new(&args.kept.state);
    let mut generation = match &args.dir {
        Some(dir) => Some(
            Generation::open_for(dir, args.node.as_deref(), args.target.map(Into::into)).map_err(failure)?,
        ),
        None if args.down.is_empty() => None,
        None => Some(install::current(&state).map_err(failure)?),
    };
    if !args.down.is_empty()
        && let Some(whole) = generation
    {
        for name in args.down.iter().filter(|name| !whole.instances.contains(name)) {
            output::tell(&format!("{} sends nothing to {name}: nothing changes for it", whole.node));
        }
        let down: BTreeSet<String> = args.down.iter().cloned().collect();
        generation = Some(whole.with_down(&down).map_err(failure)?);
    }
    let installed = install::apply(&state, generation.as_ref(), &mut watch).map_err(failure)?;
    tell(&installed, if installed.changed { "installed" } else { "in order" })
}

pub(super) fn watch(step: Step) {
    info!(?step, "next");
}

pub(super) fn failure(error: NodeError) -> Failure {
    Failure::new(error.to_string())
}

/// Says what was done. What only people can mend is told and is no failure; what should have been mended is one.
pub(super) fn tell(installed: &Installed, done: &str) -> Outcome {
    if installed.recovered {
        output::tell("an earlier call had been cut short; it is finished");
    }
    for note in &installed.notes {
        output::tell(note.trim_start_matches("apply.sh: "));
    }
    for mended in &installed.mended {
        info!(kind = mended.kind, what = mended.what, "mended");
    }
    let stuck = installed.stuck();
    for difference in &installed.left {
        output::tell(&difference.to_string());
    }
    let mut out = Out::new();
    let mended = match installed.mended.len() {
        0 => String::new(),
        1 => ", 1 difference mended".to_owned(),
        n => format!(", {n} differences mended"),
    };
    let left = match installed.left.len() {
        0 => String::new(),
        1 => ", 1 difference left".to_owned(),
        n => format!(", {n} differences left"),
    };
    let entry = &installed.entry;
    out.text(&format!("{}: generation {} {done}{mended}{left}\n", entry.node, entry.generation))?;
    out.flush()?;
    if stuck {
        return Err(Failure::new(
            "the generation runs, but not all of it could be put in order; `partywall audit` names what is left",
        ));
    }
    Ok(Exit::Clean)
}
