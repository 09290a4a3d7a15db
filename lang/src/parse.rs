//! The way from text to tree.

use crate::assemble::{Context, DocLines, Root};
use crate::ast::{Decl, File, Item, PacketEnd, ServiceExpr, ServiceTerm, Set};
use crate::balance::balance;
use crate::codes::Code;
use crate::diag::{Diagnostic, Severity};
use crate::sink::{MAX_DIAGNOSTICS, Sink};
use crate::span::{FileId, Span, Spanned};
use crate::suppress;
use crate::tokens::{Comment, CommentKind, Lexed, Placed, Token, lex};

/// A file's tree, as much of it as could be read, and everything wrong with its syntax, in the order of the text.
#[derive(Debug, Clone, Default)]
pub struct Parsed {
    pub file: File,
    pub diagnostics: Vec<Diagnostic>,
}

impl Parsed {
    /// Whether there are errors among the diagnostics.
    #[must_use]
    pub fn has_errors(&self) -> bool {
        self.diagnostics.iter().any(|diagnostic| diagnostic.severity == Severity::Error)
    }
}

/// A packet as `trace` takes it: `tcp 10.1.0.5:40000 -> 10.1.1.9:5432`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PacketHeader {
    /// Port lists are empty, the ports stand with the ends; ICMP type and code stand here.
    pub proto: Spanned<ServiceTerm>,
    pub src: PacketEnd,
    pub dst: PacketEnd,
}

/// Flows as `query` takes them: `SET -> SET [: SERVICE]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Query {
    pub src: Set,
    pub dst: Set,
    pub service: Option<ServiceExpr>,
}

lalrpop_util::lalrpop_mod!(
    #[expect(
        clippy::indexing_slicing,
        clippy::panic,
        clippy::unwrap_used,
        clippy::vec_box,
        reason = "generated code"
    )]
    grammar
);

/// Parses one file. Errors never stop it: the tree holds what could be read.
#[must_use]
pub fn parse(file: FileId, text: &str) -> Parsed {
    let (parsed, _) = parse_nodes(file, text);
    parsed
}

/// Parses the bytes of one file; what is not UTF-8 is PW0007, and nothing of such a file is read.
#[must_use]
pub fn parse_bytes(file: FileId, bytes: &[u8]) -> Parsed {
    match std::str::from_utf8(bytes) {
        Ok(text) => parse(file, text),
        Err(error) => {
            let at = error.valid_up_to();
            let line = bytes.iter().take(at).filter(|byte| **byte == b'\n').count() + 1;
            let start = u32::try_from(at).unwrap_or(u32::MAX - 1);
            let byte = bytes.get(at).copied().unwrap_or_default();
            let diagnostic = Diagnostic::new(
                Code::PW0007,
                Span::new(file, start, start + 1),
                format!("the file is not UTF-8: byte 0x{byte:02x} at offset {at}, line {line}"),
            )
            .label("not UTF-8")
            .help("save the file as UTF-8");
            skipped(file, diagnostic)
        }
    }
}

/// A file of which nothing was read: one declaration in error stands for all that it may hold.
fn skipped(file: FileId, diagnostic: Diagnostic) -> Parsed {
    let item = Item { docs: Vec::new(), decl: Decl::Error, span: Span::new(file, 0, 0) };
    Parsed { file: File { items: vec![item], suppressions: Vec::new() }, diagnostics: vec![diagnostic] }
}

/// The parse and the places of its declarations and clauses, for the printer.
pub(crate) fn parse_nodes(file: FileId, text: &str) -> (Parsed, Context) {
    if let Some(diagnostic) = unreadable(file, text) {
        return (skipped(file, diagnostic), Context::new(file));
    }
    let mut lexed = lex(file, text);
    let mut context = Context::new(file);
    let comments = Comments::new(&lexed);
    context.docs = docs(&comments, text);
    let mut diagnostics = std::mem::take(&mut lexed.diagnostics);
    let tokens = balance(file, text, &lexed.tokens, &mut diagnostics);
    // Of a long text each list of tokens weighs as much as the tree.
    drop(lexed);
    let items = match run(&mut context, Token::StartFile, tokens) {
        Some(Root::File(items)) => items,
        _ => Vec::new(),
    };
    diagnostics.append(std::mem::take(&mut context.diagnostics));
    loose_docs(&comments, &context, &mut diagnostics);
    let suppressions = suppress::collect(&comments, text, &context.nodes, &mut diagnostics);
    let diagnostics = cap(diagnostics);
    (Parsed { file: File { items, suppressions }, diagnostics }, context)
}

/// `tcp 10.1.0.5:40000 -> 10.1.1.9:5432`
///
/// # Errors
/// What is wrong with the text; spans lie in it, in file 0.
pub fn parse_packet(text: &str) -> Result<PacketHeader, Vec<Diagnostic>> {
    match fragment(text, Token::StartPacket)? {
        Root::Packet(proto, src, dst) => Ok(PacketHeader { proto, src, dst }),
        Root::File(_) | Root::Query(..) => Err(Vec::new()),
    }
}

/// `SET -> SET [: SERVICE]`
///
/// # Errors
/// What is wrong with the text; spans lie in it, in file 0.
pub fn parse_query(text: &str) -> Result<Query, Vec<Diagnostic>> {
    match fragment(text, Token::StartQuery)? {
        Root::Query(src, dst, service) => Ok(Query { src: src.set, dst: dst.set, service }),
        Root::File(_) | Root::Packet(..) => Err(Vec::new()),
    }
}

fn fragment(text: &str, start: Token<'static>) -> Result<Root, Vec<Diagnostic>> {
    let file = FileId::default();
    if let Some(diagnostic) = unreadable(file, text) {
        return Err(vec![diagnostic]);
    }
    let mut lexed = lex(file, text);
    let mut context = Context::new(file);
    let mut diagnostics = std::mem::take(&mut lexed.diagnostics);
    let tokens = balance(file, text, &lexed.tokens, &mut diagnostics);
    let root = run(&mut context, start, tokens);
    diagnostics.append(context.diagnostics);
    match root {
        Some(root) if diagnostics.is_empty() => Ok(root),
        _ => Err(cap(diagnostics)),
    }
}

/// Runs the grammar over the tokens of one of its texts.
fn run<'s>(context: &mut Context, start: Token<'s>, tokens: Vec<Placed<'s>>) -> Option<Root> {
    let first = (start, Span::new(context.file, 0, 0));
    context.after_bad = tokens
        .windows(2)
        .filter_map(|pair| match pair {
            [(Token::Bad, _), (_, next)] => Some(next.start),
            _ => None,
        })
        .collect();
    let stream = std::iter::once(first).chain(tokens).map(|(token, span)| Ok((span.start, token, span.end)));
    match grammar::RootParser::new().parse(context, stream) {
        Ok(root) => Some(*root),
        Err(error) => {
            context.syntax_error(error);
            None
        }
    }
}

/// Text that is not looked at further.
fn unreadable(file: FileId, text: &str) -> Option<Diagnostic> {
    if u32::try_from(text.len()).is_err() {
        let message = format!("a file of {} bytes is larger than 4 GiB", text.len());
        return Some(Diagnostic::new(Code::PW0006, Span::new(file, 0, 0), message));
    }
    let at = text.find('\0')?;
    let start = u32::try_from(at).unwrap_or(u32::MAX - 1);
    Some(
        Diagnostic::new(Code::PW0007, Span::new(file, start, start + 1), "the file holds a NUL byte")
            .label("NUL")
            .help("the file is probably binary, or UTF-16; save it as UTF-8"),
    )
}

/// A file's comments, each with the offset of the token that follows: what is kept of the first list of tokens.
pub(crate) struct Comments(Vec<(Comment, Option<u32>)>);

impl Comments {
    fn new(lexed: &Lexed<'_>) -> Self {
        let next = |comment: &Comment| lexed.tokens.get(comment.before).map(|(_, span)| span.start);
        Self(lexed.comments.iter().map(|comment| (*comment, next(comment))).collect())
    }

    /// Those of one kind, in the order of the text.
    pub(crate) fn of(&self, kind: CommentKind) -> impl Iterator<Item = (Comment, Option<u32>)> {
        self.0.iter().copied().filter(move |(comment, _)| comment.kind == kind)
    }
}

/// The `///` lines by the offset of the token after them.
fn docs(comments: &Comments, text: &str) -> std::collections::BTreeMap<u32, DocLines> {
    let mut docs = std::collections::BTreeMap::new();
    for (comment, next) in comments.of(CommentKind::Doc) {
        let Some(next) = next else { continue };
        let entry = docs.entry(next).or_insert_with(|| DocLines { span: comment.span, lines: Vec::new() });
        entry.span = entry.span.to(comment.span);
        let line = text.get(comment.span.start as usize + 3..comment.span.end as usize).unwrap_or_default();
        entry.lines.push(line.strip_prefix(' ').unwrap_or(line).to_owned());
    }
    docs
}

/// `///` lines that nothing took (PW0011). In a file with errors only those at its end are certain.
fn loose_docs(comments: &Comments, context: &Context, diagnostics: &mut Sink) {
    let loose = |place: Span| {
        Diagnostic::new(Code::PW0011, place, "a `///` comment has nothing to attach to")
            .label("nothing follows that could carry it")
            .help("put it before a declaration, clause or rule, or write `//`")
    };
    if diagnostics.is_empty() {
        for docs in context.docs.values() {
            diagnostics.report(|| loose(docs.span));
        }
    }
    let trailing = comments.of(CommentKind::Doc).filter(|(_, next)| next.is_none());
    let trailing = trailing.map(|(comment, _)| comment.span).reduce(Span::to);
    if let Some(place) = trailing {
        diagnostics.report(|| loose(place));
    }
}

/// In the order of the text, without repeats of one place, at most [`MAX_DIAGNOSTICS`].
fn cap(sink: Sink) -> Vec<Diagnostic> {
    let Sink { kept: mut diagnostics, more } = sink;
    diagnostics.sort_by(|a, b| (a.span.start, a.code, &a.message).cmp(&(b.span.start, b.code, &b.message)));
    diagnostics.dedup_by(|b, a| a.span == b.span && a.code == b.code && a.message == b.message);
    let more = diagnostics.len().saturating_sub(MAX_DIAGNOSTICS) + more;
    if more > 0 {
        diagnostics.truncate(MAX_DIAGNOSTICS);
        if let Some(last) = diagnostics.last() {
            let message = format!("{more} more findings about this file's syntax are not shown");
            let place = Span::new(last.span.file, last.span.end, last.span.end);
            diagnostics.push(
                Diagnostic::new(Code::PW0010, place, message)
                    .label("the list ends here")
                    .help("mend those above first"),
            );
        }
    }
    diagnostics
}
