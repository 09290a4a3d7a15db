//! The one layout, and trees back to text.

mod layout;
mod print;

use crate::balance::balance;
use crate::diag::{Diagnostic, Severity};
use crate::parse::parse_nodes;
use crate::sink::Sink;
use crate::span::FileId;
use crate::tokens::lex;

pub use print::{print, print_set};

/// `text` in the one layout. Tokens and comments stay as they are, only the white space between them changes;
/// formatting twice changes nothing.
///
/// # Errors
/// The errors of syntax in `text` (spans in file 0): what cannot be parsed is not laid out.
pub fn format(text: &str) -> Result<String, Vec<Diagnostic>> {
    format_file(FileId::default(), text)
}

/// As [`format()`], with the spans of the errors in `file`.
///
/// # Errors
/// The errors of syntax in `text`.
pub fn format_file(file: FileId, text: &str) -> Result<String, Vec<Diagnostic>> {
    let (parsed, context) = parse_nodes(file, text);
    if parsed.has_errors() {
        return Err(parsed.diagnostics.into_iter().filter(|d| d.severity == Severity::Error).collect());
    }
    let lexed = lex(file, text);
    let tokens = balance(file, text, &lexed.tokens, &mut Sink::default());
    Ok(layout::layout(text, &tokens, &lexed.comments, &context.nodes))
}
