//! Text to syntax tree: tokens, grammar, printer, diagnostics as values with their renderers, and the registry
//! of codes. Knows nothing of what a policy means.

mod assemble;
pub mod ast;
mod balance;
pub mod codes;
pub mod diag;
pub mod fmt;
pub mod keywords;
mod messages;
mod parse;
pub mod render;
pub mod set;
pub mod source;
pub mod span;
mod suggest;
mod suppress;
pub mod tokens;

pub use parse::{MAX_DIAGNOSTICS, PacketHeader, Parsed, Query, parse, parse_bytes, parse_packet, parse_query};
pub use suggest::suggest;
