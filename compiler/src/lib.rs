//! From the syntax tree to the compiled form, and its reference meaning.
//!
//! `model` holds what was declared with its names resolved, `compiled` adds every owner's flattened address space and the
//! channels on which flows are possible, `eval` decides packets. Verifier and backends read `compiled` and call `eval`.

pub mod algebra;
pub mod buckets;
mod channels;
pub mod checks;
mod compile;
pub mod compiled;
pub mod config;
pub mod digest;
pub mod eval;
pub mod icmp;
pub mod ids;
pub mod lints;
pub mod lists;
pub mod lower;
pub mod model;
pub mod packet;
pub mod replies;
pub mod report;
pub mod sets;
mod spaces;
pub mod trace;
pub mod wire;

pub use compile::{Compilation, compile};
pub use compiled::Compiled;
pub use lower::SourceFile;
