//! A form of a declaration's text that does not depend on layout, comments or place: what orders declarations that have
//! no name.

use super::SourceFile;
use lang::span::Span;

/// The text at a span without comments, every stretch of white space as one blank. Files are sorted by id.
pub(super) fn text_of(files: &[SourceFile<'_>], span: Span) -> String {
    let at = files.binary_search_by_key(&span.file, |f| f.id).ok();
    let text =
        at.and_then(|at| files.get(at)).and_then(|f| f.text.get(span.start as usize..span.end as usize));
    strip(text.unwrap_or(""))
}

fn strip(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars().peekable();
    let mut in_string = false;
    while let Some(c) = chars.next() {
        match c {
            '\\' if in_string => {
                out.push(c);
                out.extend(chars.next());
            }
            '"' => {
                in_string = !in_string;
                out.push(c);
            }
            '/' if !in_string && chars.peek() == Some(&'/') => {
                while chars.peek().is_some_and(|c| *c != '\n') {
                    chars.next();
                }
            }
            c if c.is_whitespace() && !in_string => {
                if !out.ends_with(' ') {
                    out.push(' ');
                }
            }
            c => out.push(c),
        }
    }
    out
}
