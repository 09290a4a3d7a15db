//! `completions SHELL`

use crate::cli;
use crate::exit::{Exit, Outcome};
use crate::output::Out;
use clap::Args;
use clap_complete::Shell;

/// Print a shell's completions
#[derive(Debug, Args)]
pub struct CompletionsArgs {
    shell: Shell,
}

pub fn run(args: &CompletionsArgs) -> Outcome {
    let mut text = Vec::new();
    clap_complete::generate(args.shell, &mut cli::command(), "partywall", &mut text);
    let mut out = Out::new();
    out.bytes(&text)?;
    out.flush()?;
    Ok(Exit::Clean)
}
