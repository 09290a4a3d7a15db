//! `audit [DIR]`: what the kernel has against what the artifacts say.

use super::apply::failure;
use crate::cli::{Answer, Kept};
use crate::exit::{Exit, Failure, Outcome};
use crate::output::Out;
use clap::{Args, ValueEnum};
use node::audit::{self, Audit};
use node::generation::{Generation, Switch, Target};
use node::install;
use node::state::State;
use std::path::PathBuf;

/// Compare the kernel's live state with the artifacts (needs root)
///
/// By meaning, not by text. Names each difference, what is expected, what is there, and what to do. Exit status 1: there are some.
/// Lists what answers admit that nobody may have asked for. Of a switch the files alone are read.
#[derive(Debug, Args)]
pub struct AuditArgs {
    /// An output of `build`, or a node's folder in one [default: the generation on record]
    #[arg(value_name = "DIR")]
    dir: Option<PathBuf>,
    /// Which node this is [default: the one with this host's name, or the only one]
    #[arg(long, value_name = "NODE", requires = "dir")]
    node: Option<String>,
    /// Of a node that was built for several targets, which [default: nft]
    #[arg(long, value_name = "TARGET", requires = "dir")]
    target: Option<Audited>,
    #[command(flatten)]
    kept: Kept,
    /// How to show it
    #[arg(long, value_name = "FORMAT", default_value = "human")]
    format: Answer,
}

/// Targets that can be looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Audited {
    /// nftables and iproute2
    Nft,
    /// Programs at tc, and maps
    Ebpf,
    /// A switch's files: what it runs is for its controller to compare
    P4,
}

impl Audited {
    fn of_node(self) -> Option<Target> {
        match self {
            Self::Nft => Some(Target::Nft),
            Self::Ebpf => Some(Target::Ebpf),
            Self::P4 => None,
        }
    }
}

pub fn run(args: &AuditArgs) -> Outcome {
    let state = State::new(&args.kept.state);
    let audit = match &args.dir {
        Some(dir) => {
            let (name, installed) = (args.node.as_deref(), args.target.and_then(Audited::of_node));
            let switch = match installed {
                Some(_) => None,
                None => Switch::open(dir, name, args.target == Some(Audited::P4)).map_err(failure)?,
            };
            match switch {
                Some(switch) => Audit::of_switch(switch),
                None => {
                    let generation = Generation::open_for(dir, name, installed).map_err(failure)?;
                    audit::audit(&generation, &[]).map_err(failure)?
                }
            }
        }
        None => install::audit(&state).map_err(failure)?,
    };
    let mut out = Out::new();
    match args.format {
        Answer::Human => out.text(&audit.text())?,
        Answer::Json => {
            let json =
                audit.json().map_err(|e| Failure::new(format!("cannot write the audit as JSON: {e}")))?;
            out.text(&json)?;
        }
    }
    out.flush()?;
    Ok(Exit::findings(!audit.clean))
}
