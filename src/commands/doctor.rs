//! `doctor`: what on this machine stands in the way.

use super::apply::{Installs, failure};
use crate::cli::{Answer, Kept};
use crate::exit::{Exit, Failure, Outcome};
use crate::output::Out;
use clap::Args;
use node::doctor;
use node::generation::Generation;
use node::state::State;
use std::path::{Path, PathBuf};

/// Find what on this machine keeps partywall from working (needs root)
///
/// Tools and their versions, kernel features, rules and filters of others, services that tidy up. Exit status 1: something will not work.
#[derive(Debug, Args)]
pub struct DoctorArgs {
    /// An output of `build` that is to be installed here [default: the generation on record, if there is one]
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

pub fn run(args: &DoctorArgs) -> Outcome {
    let generation = match &args.dir {
        Some(dir) => Some(
            Generation::open_for(dir, args.node.as_deref(), args.target.map(Into::into)).map_err(failure)?,
        ),
        None => {
            let state = State::new(&args.kept.state);
            let record = state.read().map_err(failure)?;
            record.current.as_ref().map(|entry| state.load(entry)).transpose().map_err(failure)?
        }
    };
    let found = doctor::doctor(generation.as_ref(), Path::new("/")).map_err(failure)?;
    let mut out = Out::new();
    match args.format {
        Answer::Human => out.text(&found.text())?,
        Answer::Json => {
            let json =
                found.json().map_err(|e| Failure::new(format!("cannot write the findings as JSON: {e}")))?;
            out.text(&json)?;
        }
    }
    out.flush()?;
    Ok(Exit::findings(!found.ok()))
}
