//! `audit [DIR]`: what the kernel has against what the artifacts say.

use super::apply::{Installs, failure};
use crate::cli::{Answer, Kept};
use crate::exit::{Exit, Failure, Outcome};
use crate::output::Out;
use clap::Args;
use node::audit;
use node::generation::Generation;
use node::install;
use node::state::State;
use std::path::PathBuf;

/// Compare the kernel's live state with the artifacts (needs root)
///
/// By meaning, not by text. Names each difference, what is expected, what is there, and what to do. Exit status 1: there are some.
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
    target: Option<Installs>,
    #[command(flatten)]
    kept: Kept,
    /// How to show it
    #[arg(long, value_name = "FORMAT", default_value = "human")]
    format: Answer,
}

pub fn run(args: &AuditArgs) -> Outcome {
    let state = State::new(&args.kept.state);
    let audit = match &args.dir {
        Some(dir) => {
            let generation = Generation::open_for(dir, args.node.as_deref(), args.target.map(Into::into))
                .map_err(failure)?;
            audit::audit(&generation, &[]).map_err(failure)?
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
