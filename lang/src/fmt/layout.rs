//! Tokens and comments to lines. What is decided here depends on tokens and comments alone, never on where lines
//! broke before, but for blank lines (one is kept) and for which comments share a line with what stands before.

use std::borrow::Cow;
use std::collections::BTreeSet;

use crate::assemble::NodeKind;
use crate::keywords::Kw;
use crate::span::Span;
use crate::tokens::{Comment, CommentKind, Placed, Token};

/// Columns after which lines are broken where they can be.
const WIDTH: usize = 120;
const INDENT: usize = 2;

/// Lays out a file without errors. `nodes` are the places of its declarations and clauses.
pub(super) fn layout(
    text: &str,
    tokens: &[Placed<'_>],
    comments: &[Comment],
    nodes: &[(NodeKind, Span)],
) -> String {
    let starts = |kind: NodeKind| -> BTreeSet<u32> {
        nodes.iter().filter(|(k, _)| *k == kind).map(|(_, span)| span.start).collect()
    };
    let page = Page::new(text, tokens, comments, starts(NodeKind::Item), starts(NodeKind::Clause));
    page.file()
}

/// A token and what is to be known about it.
struct Piece<'a> {
    token: &'a Token<'a>,
    text: Cow<'a, str>,
    width: usize,
    span: Span,
    /// Comments between the token before and this one.
    comments: Vec<Remark<'a>>,
    clause: bool,
    item: bool,
    /// Index of the brace that closes the one here.
    partner: Option<usize>,
}

#[derive(Clone, Copy)]
struct Remark<'a> {
    text: &'a str,
    /// It shares the line with what stands before.
    trailing: bool,
    /// An empty line stands before.
    blank: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Shape {
    /// On one line.
    Inline,
    /// A line for each clause.
    Clauses,
    /// A line for each element of a list.
    Elements,
}

struct Page<'a> {
    pieces: Vec<Piece<'a>>,
    /// Comments after the last token.
    last: Vec<Remark<'a>>,
    text: &'a str,
}

impl<'a> Page<'a> {
    fn new(
        text: &'a str,
        tokens: &'a [Placed<'a>],
        comments: &'a [Comment],
        items: BTreeSet<u32>,
        clauses: BTreeSet<u32>,
    ) -> Self {
        let mut pending = comments.iter().peekable();
        let mut pieces = Vec::with_capacity(tokens.len());
        let mut end = 0;
        for (token, span) in tokens {
            let mut before = Vec::new();
            while let Some(comment) = pending.next_if(|comment| comment.span.start < span.end) {
                before.push(remark(text, end, comment));
                end = comment.span.end;
            }
            end = end.max(span.end);
            let written = written(text, token, *span);
            pieces.push(Piece {
                token,
                width: written.chars().count(),
                text: written,
                span: *span,
                comments: before,
                clause: clauses.contains(&span.start),
                item: items.contains(&span.start),
                partner: None,
            });
        }
        let mut last = Vec::new();
        for comment in pending {
            last.push(remark(text, end, comment));
            end = comment.span.end;
        }
        let mut open = Vec::new();
        let mut partners = vec![None; pieces.len()];
        for (at, piece) in pieces.iter().enumerate() {
            match piece.token {
                Token::Open | Token::InnerOpen | Token::PortsOpen => open.push(at),
                Token::Close | Token::InnerClose | Token::PortsClose => {
                    if let Some(partner) = open.pop().and_then(|start: usize| partners.get_mut(start)) {
                        *partner = Some(at);
                    }
                }
                _ => {}
            }
        }
        for (piece, partner) in pieces.iter_mut().zip(partners) {
            piece.partner = partner;
        }
        Self { pieces, last, text }
    }

    fn piece(&self, at: usize) -> Option<&Piece<'a>> {
        self.pieces.get(at)
    }

    /// Whether an empty line stands before the piece, its comments left aside.
    fn blank_before(&self, at: usize) -> bool {
        let Some(piece) = self.piece(at) else { return false };
        let from =
            at.checked_sub(1).and_then(|before| self.piece(before)).map_or(0, |before| before.span.end);
        let gap = self.text.get(from as usize..piece.span.start as usize).unwrap_or_default();
        // Counting from the last comment on.
        let gap = match gap.rfind("//") {
            Some(comment) => {
                let rest = gap.get(comment..).unwrap_or_default();
                rest.find('\n').and_then(|newline| rest.get(newline..)).unwrap_or_default()
            }
            None => gap,
        };
        gap.matches('\n').nth(1).is_some()
    }

    fn file(&self) -> String {
        let mut out = String::new();
        let mut at = 0;
        let mut last_multi = false;
        while at < self.pieces.len() {
            let mut next = at + 1;
            while self.piece(next).is_some_and(|piece| !piece.item) {
                next += 1;
            }
            let mut writer = Writer::new(self, 0);
            writer.run(at, next);
            let body = writer.out;
            let multi = body.contains('\n');
            self.before_item(&mut out, at, multi, last_multi);
            out.push_str(&body);
            last_multi = multi;
            at = next;
        }
        if !out.is_empty() && self.last.first().is_none_or(|remark| !remark.trailing) {
            out.push('\n');
        }
        self.closing_remarks(&mut out);
        out
    }

    /// Comments before a declaration, and the blank lines around them.
    fn before_item(&self, out: &mut String, at: usize, multi: bool, last_multi: bool) {
        let Some(piece) = self.piece(at) else { return };
        let mut remarks = piece.comments.iter();
        let mut first = out.is_empty();
        if !first {
            if let Some(remark) = piece.comments.first().filter(|remark| remark.trailing) {
                out.push_str("  ");
                out.push_str(remark.text);
                remarks.next();
            }
            out.push('\n');
        }
        let mut forced = !first && (multi || last_multi);
        for remark in remarks {
            if forced || (remark.blank && !first) {
                out.push('\n');
            }
            out.push_str(remark.text);
            out.push('\n');
            (forced, first) = (false, false);
        }
        if forced || (self.blank_before(at) && !first) {
            out.push('\n');
        }
    }

    fn closing_remarks(&self, out: &mut String) {
        for remark in &self.last {
            if remark.trailing && !out.is_empty() {
                out.push_str("  ");
            } else if remark.blank && !out.is_empty() {
                out.push('\n');
            }
            out.push_str(remark.text);
            out.push('\n');
        }
    }

    /// How the block that opens at `at` is laid out, if the line before it is `column` wide and its clause began
    /// with `head`.
    fn shape(&self, at: usize, head: &Token<'_>, column: usize) -> Shape {
        let Some(Piece { token, partner: Some(close), .. }) = self.piece(at) else { return Shape::Inline };
        let close = *close;
        let inside = || self.pieces.iter().enumerate().take(close + 1).skip(at + 1);
        let clauses = inside().filter(|(_, piece)| piece.clause).count();
        let commented = inside().any(|(_, piece)| !piece.comments.is_empty());
        let kind = match (token, head) {
            (Token::PortsOpen, _) => return Shape::Inline,
            (_, Token::Kw(Kw::External | Kw::Segment)) => Shape::Elements,
            _ => Shape::Clauses,
        };
        if commented {
            return kind;
        }
        if close == at + 1 {
            return Shape::Inline;
        }
        let may = match head {
            Token::Kw(Kw::Node | Kw::External | Kw::Endpoint | Kw::Segment) => true,
            Token::Kw(Kw::Policy) => clauses == 1,
            _ => false,
        };
        // What follows a segment's block stands on its line.
        let rest = self.pieces.iter().enumerate().skip(close + 1).take_while(|(_, piece)| {
            *head == Token::Kw(Kw::Segment) && !piece.clause && *piece.token != Token::Close
        });
        let flat: usize =
            inside().chain(rest).map(|(index, piece)| piece.width + usize::from(self.spaced(index))).sum();
        if may && column + 1 + flat <= WIDTH { Shape::Inline } else { kind }
    }

    /// The columns from `at` to the next place where the line may break.
    fn unit(&self, at: usize, end: usize) -> usize {
        let mut width = 0;
        let mut now = at;
        while let Some(piece) = self.piece(now).filter(|_| now < end) {
            let ends = piece.clause
                || !piece.comments.is_empty()
                || matches!(piece.token, Token::Close | Token::InnerClose);
            if now > at && (ends || self.may_break(now)) {
                break;
            }
            if now > at && self.spaced(now) {
                width += 1;
            }
            width += piece.width;
            if matches!(piece.token, Token::Open | Token::InnerOpen) {
                break;
            }
            now += 1;
        }
        width
    }

    fn may_break(&self, at: usize) -> bool {
        let Some(piece) = self.piece(at) else { return false };
        let before = at.checked_sub(1).and_then(|before| self.piece(before)).map(|piece| piece.token);
        match piece.token {
            Token::Pipe | Token::Ampersand | Token::Arrow => true,
            Token::Colon => self.spaced(at),
            Token::Kw(Kw::As) => before != Some(&Token::Kw(Kw::Clients)),
            Token::Kw(
                Kw::Except
                | Kw::Via
                | Kw::To
                | Kw::Clients
                | Kw::Expires
                | Kw::Because
                | Kw::Allowing
                | Kw::Overrides,
            ) => true,
            _ => before == Some(&Token::Comma),
        }
    }

    /// Whether a space stands before the piece.
    fn spaced(&self, at: usize) -> bool {
        let (Some(piece), Some(before)) =
            (self.piece(at), at.checked_sub(1).and_then(|before| self.piece(before)))
        else {
            return false;
        };
        let tight_before = matches!(
            piece.token,
            Token::Comma
                | Token::ParenClose
                | Token::BracketClose
                | Token::PortsClose
                | Token::Dot
                | Token::DotDot
                | Token::Slash
                | Token::Hash
        );
        let tight_after = matches!(
            before.token,
            Token::ParenOpen
                | Token::BracketOpen
                | Token::PortsOpen
                | Token::Dot
                | Token::DotDot
                | Token::Slash
                | Token::Hash
        );
        let call = *piece.token == Token::ParenOpen && *before.token == Token::Kw(Kw::Tagged);
        let after = self.piece(at + 1).map(|piece| piece.token);
        let port = |colon: &Token<'_>, before: Option<&Token<'_>>, after: Option<&Token<'_>>| {
            *colon == Token::Colon
                && matches!(before, Some(Token::Address(_) | Token::BracketClose))
                && matches!(after, Some(Token::Int(_)))
        };
        let earlier = at.checked_sub(2).and_then(|at| self.piece(at)).map(|piece| piece.token);
        let ports =
            port(piece.token, Some(before.token), after) || port(before.token, earlier, Some(piece.token));
        let empty = matches!(
            (before.token, piece.token),
            (Token::Open, Token::Close) | (Token::InnerOpen, Token::InnerClose)
        );
        !(tight_before || tight_after || call || ports || empty)
    }
}

fn remark<'a>(text: &'a str, from: u32, comment: &Comment) -> Remark<'a> {
    let gap = text.get(from as usize..comment.span.start as usize).unwrap_or_default();
    let newlines = gap.bytes().filter(|byte| *byte == b'\n').count();
    Remark {
        text: text.get(comment.span.start as usize..comment.span.end as usize).unwrap_or_default(),
        // What a `///` belongs to comes after it.
        trailing: newlines == 0 && from > 0 && comment.kind == CommentKind::Plain,
        blank: newlines > 1,
    }
}

/// The token as it stands in the text, but for the space before a label's colon.
fn written<'a>(text: &'a str, token: &Token<'_>, span: Span) -> Cow<'a, str> {
    let slice = text.get(span.start as usize..span.end as usize).unwrap_or_default();
    match token {
        Token::Label(name) if slice.starts_with('`') => Cow::Owned(format!("`{name}`:")),
        Token::Label(name) => Cow::Owned(format!("{name}:")),
        _ => Cow::Borrowed(slice),
    }
}

/// Writes one declaration.
struct Writer<'p, 'a> {
    page: &'p Page<'a>,
    out: String,
    column: usize,
    /// Blocks that were opened in lines of their own, and those inline.
    blocks: Vec<Shape>,
    /// The first token of the clause being written.
    head: Option<usize>,
}

impl<'p, 'a> Writer<'p, 'a> {
    fn new(page: &'p Page<'a>, column: usize) -> Self {
        Self { page, out: String::new(), column, blocks: Vec::new(), head: None }
    }

    fn depth(&self) -> usize {
        self.blocks.iter().filter(|shape| **shape != Shape::Inline).count()
    }

    fn newline(&mut self, extra: usize) {
        self.out.push('\n');
        self.column = INDENT * self.depth() + extra;
        self.out.extend(std::iter::repeat_n(' ', self.column));
    }

    fn put(&mut self, text: &str, width: usize) {
        self.out.push_str(text);
        self.column += width;
    }

    /// Writes the pieces `from..to`; the comments before the first are not its own.
    fn run(&mut self, from: usize, to: usize) {
        for at in from..to {
            let Some(piece) = self.page.piece(at) else { return };
            if at == from {
                self.head = Some(at);
                self.put(&piece.text, piece.width);
                continue;
            }
            self.separate(at, to, piece);
            self.write(at, piece);
        }
    }

    /// Everything between the piece before and this one.
    fn separate(&mut self, at: usize, to: usize, piece: &Piece<'_>) {
        let closing = matches!(piece.token, Token::Close | Token::InnerClose)
            && self.blocks.last().is_some_and(|shape| *shape != Shape::Inline);
        let first = self
            .page
            .piece(at - 1)
            .is_some_and(|before| matches!(before.token, Token::Open | Token::InnerOpen));
        let starts = !closing && self.starts_line(at, piece, first);
        let continued = if starts || closing { 0 } else { INDENT };
        for (index, remark) in piece.comments.iter().enumerate() {
            if remark.trailing {
                self.put("  ", 2);
            } else {
                if remark.blank && !(first && index == 0) {
                    self.out.push('\n');
                }
                self.newline(continued);
            }
            self.put(remark.text, 0);
        }
        let commented = !piece.comments.is_empty();
        if closing {
            self.blocks.pop();
            self.newline(0);
        } else if starts {
            let blank = self.page.blank_before(at) && (commented || !first);
            if blank {
                self.out.push('\n');
            }
            self.newline(0);
        } else if commented {
            self.newline(INDENT);
        } else if self.page.spaced(at) {
            let fits = self.column + 1 + self.page.unit(at, to) <= WIDTH;
            let inline = self.blocks.last() == Some(&Shape::Inline);
            if fits || inline || !self.page.may_break(at) {
                self.put(" ", 1);
            } else {
                self.newline(INDENT);
            }
        }
    }

    /// Whether the piece begins a line of its block.
    fn starts_line(&self, at: usize, piece: &Piece<'_>, first: bool) -> bool {
        match self.blocks.last() {
            Some(Shape::Clauses) => piece.clause || first,
            Some(Shape::Elements) => {
                let element = self.page.piece(at - 1).is_some_and(|before| *before.token == Token::Comma);
                first || element
            }
            Some(Shape::Inline) | None => false,
        }
    }

    fn write(&mut self, at: usize, piece: &Piece<'_>) {
        if piece.clause && self.blocks.last() != Some(&Shape::Inline) {
            self.head = Some(at);
        }
        match piece.token {
            Token::Open | Token::InnerOpen => {
                let head =
                    self.head.and_then(|head| self.page.piece(head)).map_or(&Token::Bad, |piece| piece.token);
                let shape = self.page.shape(at, head, self.column);
                self.blocks.push(shape);
            }
            Token::Close | Token::InnerClose if self.blocks.last() == Some(&Shape::Inline) => {
                self.blocks.pop();
            }
            _ => {}
        }
        self.put(&piece.text, piece.width);
    }
}
