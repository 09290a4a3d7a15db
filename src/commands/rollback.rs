//! `rollback`: back one generation.

use super::apply;
use crate::cli::Kept;
use crate::exit::Outcome;
use clap::Args;
use node::install;
use node::state::State;

/// Go back to the generation before the current one (needs root)
///
/// Going back again goes one further. The last eight are kept.
#[derive(Debug, Args)]
pub struct RollbackArgs {
    #[command(flatten)]
    kept: Kept,
}

pub fn run(args: &RollbackArgs) -> Outcome {
    let installed =
        install::rollback(&State::new(&args.kept.state), &mut apply::watch).map_err(apply::failure)?;
    apply::tell(&installed, "installed again")
}
