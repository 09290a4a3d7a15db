//! The command line of partywall: what reads files and writes results. One file per subcommand under `commands`;
//! everything that has a meaning lies in the crates below.

pub mod analysis;
mod artifacts;
pub mod cli;
mod commands;
pub mod exit;
mod logging;
pub mod output;
mod place;
pub mod project;
