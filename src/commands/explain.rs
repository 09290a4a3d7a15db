//! `explain CODE`: the manual page of a finding.

use crate::cli;
use crate::exit::{Exit, Outcome};
use crate::output::Out;
use clap::Args;
use lang::codes::Code;

/// Print what a code means, an example that triggers it, and its repair
#[derive(Debug, Args)]
pub struct ExplainArgs {
    /// PW0401
    #[arg(value_parser = cli::code)]
    code: Code,
}

pub fn run(args: &ExplainArgs) -> Outcome {
    let mut out = Out::new();
    out.text(args.code.page())?;
    out.flush()?;
    Ok(Exit::Clean)
}
