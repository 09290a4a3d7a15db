//! The command line of partywall: what reads files and writes results. One file per subcommand under `commands`;
//! everything that has a meaning lies in the crates below.

pub mod analysis;
mod artifacts;
mod boxes;
pub mod cache;
pub mod checked;
pub mod cli;
mod commands;
pub mod exit;
mod logging;
pub mod output;
mod place;
pub mod project;
pub mod record;
mod revision;
mod settings;
