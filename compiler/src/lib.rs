//! From the syntax tree to the compiled form, and its reference meaning.
//!
//! `model` holds what was declared with its names resolved, `compiled` adds every owner's flattened address space and the
//! channels on which flows are possible, `eval` decides packets. Verifier and backends read `compiled` and call `eval`.

pub mod algebra;
pub mod compiled;
pub mod eval;
pub mod ids;
pub mod model;
pub mod packet;
pub mod report;
pub mod sets;

pub use compiled::Compiled;
