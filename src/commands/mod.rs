//! One file per subcommand.

pub mod build;
pub mod check;
pub mod completions;
pub mod eval;
pub mod explain;
pub mod fmt;
pub mod init;
pub mod lab;
pub mod man;
pub mod trace;
