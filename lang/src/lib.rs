//! Text to syntax tree: tokens, grammar, printer, diagnostics as values with their renderers, and the registry
//! of codes. Knows nothing of what a policy means.

pub mod ast;
pub mod codes;
pub mod diag;
pub mod span;
