//! `status`: the generation, since when, and its counters.

use super::apply::failure;
use crate::cli::{Answer, Kept};
use crate::exit::{Exit, Failure, Outcome};
use crate::output::Out;
use clap::Args;
use node::state::State;
use node::status;

/// Show what this node runs, since when, and its counters (needs root)
///
/// Exit status 1: the kernel does not run what is on record.
#[derive(Debug, Args)]
pub struct StatusArgs {
    #[command(flatten)]
    kept: Kept,
    /// How to show it
    #[arg(long, value_name = "FORMAT", default_value = "human")]
    format: Answer,
}

pub fn run(args: &StatusArgs) -> Outcome {
    let status = status::status(&State::new(&args.kept.state)).map_err(failure)?;
    let mut out = Out::new();
    match args.format {
        Answer::Human => out.text(&status.text())?,
        Answer::Json => {
            let json =
                status.json().map_err(|e| Failure::new(format!("cannot write the status as JSON: {e}")))?;
            out.text(&json)?;
        }
    }
    out.flush()?;
    Ok(Exit::findings(!status.ok()))
}
