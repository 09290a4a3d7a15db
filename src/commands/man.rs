//! `man --out DIR`

use crate::cli;
use crate::exit::{Exit, Failure, Outcome};
use clap::Args;
use std::path::PathBuf;

/// Write the manual pages, one per subcommand
#[derive(Debug, Args)]
pub struct ManArgs {
    /// Where to; made if it is not there
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
}

pub fn run(args: &ManArgs) -> Outcome {
    let cannot = |e: std::io::Error| Failure::io(format!("cannot write to {}", args.out.display()), &e);
    std::fs::create_dir_all(&args.out).map_err(cannot)?;
    clap_mangen::generate_to(cli::command(), &args.out).map_err(cannot)?;
    Ok(Exit::Clean)
}
