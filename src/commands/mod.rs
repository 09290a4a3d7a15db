//! One file per subcommand.

pub mod apply;
pub mod audit;
pub mod build;
pub mod check;
pub mod completions;
pub mod diff;
pub mod doctor;
pub mod eval;
pub mod explain;
pub mod fmt;
pub mod init;
pub mod lab;
pub mod man;
pub mod merge;
pub mod query;
pub mod rollback;
pub mod status;
pub mod trace;
