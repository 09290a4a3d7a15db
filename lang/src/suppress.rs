//! `// partywall: allow(PW0402) reason`

use crate::assemble::NodeKind;
use crate::ast::Suppression;
use crate::codes::Code;
use crate::diag::Diagnostic;
use crate::parse::Comments;
use crate::sink::Sink;
use crate::span::{Span, Spanned};
use crate::suggest::suggest;
use crate::tokens::CommentKind;

/// Every suppression of a file with what it governs: the longest declaration or clause that begins at the next token.
pub(crate) fn collect(
    comments: &Comments,
    text: &str,
    nodes: &[(NodeKind, Span)],
    diagnostics: &mut Sink,
) -> Vec<Suppression> {
    let mut found = Vec::new();
    let mut starts: Option<std::collections::BTreeMap<u32, Span>> = None;
    for (comment, next) in comments.of(CommentKind::Plain) {
        let body = text.get(comment.span.start as usize + 2..comment.span.end as usize).unwrap_or_default();
        let trimmed = body.trim_start();
        let Some(directive) = trimmed.strip_prefix("partywall:") else { continue };
        let offset = comment.span.end as usize - directive.len();
        match read(directive, offset, comment.span) {
            Ok((code, reason)) => {
                let starts = starts.get_or_insert_with(|| {
                    let mut map = std::collections::BTreeMap::new();
                    for (_, span) in nodes {
                        map.entry(span.start).and_modify(|s: &mut Span| *s = s.to(*span)).or_insert(*span);
                    }
                    map
                });
                let target = next.and_then(|start| starts.get(&start).copied());
                found.push(Suppression { code, reason, span: comment.span, target });
            }
            Err(diagnostic) => diagnostics.report(|| *diagnostic),
        }
    }
    found
}

fn read(directive: &str, offset: usize, comment: Span) -> Result<(Spanned<String>, String), Box<Diagnostic>> {
    let malformed = |message: String| {
        Box::new(
            Diagnostic::new(Code::PW0012, comment, message)
                .label("suppresses nothing")
                .help("write `// partywall: allow(PW0402) reason`, one code in each comment"),
        )
    };
    let Some(inner) = directive.trim_start().strip_prefix("allow(") else {
        return Err(malformed("a comment to partywall that is no `allow(CODE) reason`".to_owned()));
    };
    let Some((code, reason)) = inner.split_once(')') else {
        return Err(malformed("a suppression whose `(` is not closed".to_owned()));
    };
    let start = offset + (directive.len() - inner.len()) + (code.len() - code.trim_start().len());
    let code = code.trim();
    if Code::parse(code).is_none() {
        let mut diagnostic = malformed(format!("`{}` is no code", crate::tokens::shorten(code)));
        if let Some(known) = suggest(code, Code::ALL.iter().map(|code| code.as_str())) {
            diagnostic.help = Some(format!("did you mean `{known}`?"));
        }
        return Err(diagnostic);
    }
    let reason = reason.trim();
    if reason.is_empty() {
        return Err(malformed(format!("the suppression of {code} gives no reason")));
    }
    let start = u32::try_from(start).unwrap_or(comment.start);
    let end = start + u32::try_from(code.len()).unwrap_or_default();
    let place = Span::new(comment.file, start, end);
    Ok((Spanned::new(code.to_owned(), place), reason.to_owned()))
}
