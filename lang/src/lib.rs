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
mod sink;
pub mod source;
pub mod span;
mod suggest;
mod suppress;
mod tokens;

pub use parse::{PacketHeader, Parsed, Query, parse, parse_bytes, parse_packet, parse_query};
pub use sink::MAX_DIAGNOSTICS;
pub use suggest::suggest;
pub use tokens::{MAX_IDENTIFIER, is_identifier};
