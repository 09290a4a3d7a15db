//! Between tokens and grammar: labels are joined, braces told apart and closed, nesting is bounded, and keywords
//! of declarations inside blocks are marked, so that an error stays where it is.

use crate::codes::Code;
use crate::diag::Diagnostic;
use crate::keywords::Kw;
use crate::sink::Sink;
use crate::span::{FileId, Span};
use crate::suggest::suggest;
use crate::tokens::{Placed, Token, shorten};

/// How deep parentheses may nest.
pub const MAX_PARENS: usize = 100;

const DECLARATIONS: &[Kw] = &[
    Kw::Fabric,
    Kw::Node,
    Kw::External,
    Kw::Service,
    Kw::Group,
    Kw::Tenant,
    Kw::Extend,
    Kw::Gateway,
    Kw::Endpoint,
    Kw::Policy,
    Kw::Isolate,
    Kw::Test,
];

const ROWS: &[Kw] = &[Kw::To];

/// Whether a declaration that begins with `kw` has a block.
fn has_block(kw: Kw) -> bool {
    kw.starts_declaration() && !matches!(kw, Kw::Service | Kw::Group | Kw::Isolate)
}

/// The words that begin a clause of a declaration's block, and what a clause is called there.
fn clauses_of(head: Kw) -> Option<(&'static str, &'static [Kw])> {
    Some(match head {
        Kw::Fabric => (
            "a clause",
            &[Kw::Encap, Kw::Underlay, Kw::Precedence, Kw::Delegate, Kw::UnknownVni, Kw::StatelessReplies],
        ),
        Kw::Node => ("a clause", &[Kw::Vtep, Kw::Dev]),
        Kw::Tenant | Kw::Extend => (
            "a member (`segment`, `group`, `route` or `expose`)",
            &[Kw::Segment, Kw::Group, Kw::Route, Kw::Expose],
        ),
        Kw::Gateway => (
            "a clause",
            &[
                Kw::Joins,
                Kw::Instances,
                Kw::Affinity,
                Kw::Stateful,
                Kw::Stateless,
                Kw::OnFailure,
                Kw::Attach,
                Kw::Masquerade,
            ],
        ),
        Kw::Endpoint => ("a clause", &[Kw::At, Kw::Mac, Kw::On, Kw::Dev, Kw::Tags]),
        Kw::Policy => ("a rule (`allow`, `deny` or `pass`)", &[Kw::Allow, Kw::Deny, Kw::Pass]),
        Kw::Test => (
            "a check (`always`, `never`, `some` or `packet`)",
            &[Kw::Always, Kw::Never, Kw::Some, Kw::Packet],
        ),
        _ => return None,
    })
}

/// Whether a clause may end with `token`; an identifier right after it is wrong in every clause.
fn ends_clause(token: &Token<'_>) -> bool {
    match token {
        Token::Ident(_)
        | Token::Int(_)
        | Token::Str(_)
        | Token::Address(_)
        | Token::Prefix(..)
        | Token::Date(_)
        | Token::Mac(_)
        | Token::GatewayFlag
        | Token::Open
        | Token::Close
        | Token::InnerOpen
        | Token::InnerClose
        | Token::PortsClose
        | Token::ParenClose
        | Token::Bad => true,
        Token::Kw(kw) => matches!(
            kw,
            Kw::Any
                | Kw::SameTenant
                | Kw::Log
                | Kw::Drop
                | Kw::Rehash
                | Kw::Symmetric
                | Kw::Flow
                | Kw::Source
                | Kw::Stateful
                | Kw::Stateless
                | Kw::Ipv4
                | Kw::Ipv6
                | Kw::Transitively
                | Kw::Tcp
                | Kw::Udp
                | Kw::Sctp
                | Kw::Icmp
                | Kw::Icmp6
                | Kw::Ip
        ),
        _ => false,
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Brace {
    Body,
    Inner,
    Ports,
}

struct Open {
    kind: Brace,
    /// The declaration whose body it is.
    head: Option<Kw>,
    span: Span,
}

/// The tokens as the grammar wants them.
#[must_use]
pub fn balance<'s>(
    file: FileId,
    text: &str,
    tokens: &[Placed<'s>],
    diagnostics: &mut Sink,
) -> Vec<Placed<'s>> {
    let mut pass = Balance {
        file,
        text,
        tokens,
        out: Vec::with_capacity(tokens.len() + 1),
        open: Vec::new(),
        head: None,
        parens: 0,
        owed: 0,
        diagnostics,
    };
    pass.run();
    pass.out
}

struct Balance<'a, 's> {
    file: FileId,
    text: &'a str,
    tokens: &'a [Placed<'s>],
    out: Vec<Placed<'s>>,
    open: Vec<Open>,
    /// The keyword of the declaration that is being read outside every block.
    head: Option<Kw>,
    parens: usize,
    /// Braces closed here for a declaration that began inside a block: as many `}` after it may be theirs.
    owed: usize,
    diagnostics: &'a mut Sink,
}

impl<'s> Balance<'_, 's> {
    fn run(&mut self) {
        let mut at = 0;
        while let Some((token, span)) = self.tokens.get(at) {
            if let Some(next) = self.label(at) {
                at = next;
                continue;
            }
            match token {
                Token::ParenOpen if self.parens >= MAX_PARENS => {
                    at = self.skip_deep(at);
                    continue;
                }
                Token::ParenOpen => self.parens += 1,
                Token::ParenClose => self.parens = self.parens.saturating_sub(1),
                Token::Close if self.open.is_empty() && self.owed > 0 => {
                    self.owed -= 1;
                    at += 1;
                    continue;
                }
                Token::Open | Token::Close => self.parens = 0,
                _ => {}
            }
            self.close_lists(token, *span);
            let token = match token {
                Token::Open => self.brace_open(*span),
                Token::Close => self.brace_close(),
                Token::Kw(kw) if kw.starts_declaration() => self.keyword(*kw, at, *span),
                Token::Ident(name) => match self.misspelt(name, at, *span) {
                    Some(kw) if kw.starts_declaration() => self.keyword(kw, at, *span),
                    Some(kw) => Token::Kw(kw),
                    None => token.clone(),
                },
                other => other.clone(),
            };
            self.out.push((token, *span));
            at += 1;
        }
        if let Some(last) = self.open.pop() {
            let end = u32::try_from(self.text.len()).unwrap_or(u32::MAX);
            self.open.push(last);
            self.close_all(Span::new(self.file, end, end), None);
        }
    }

    fn kind(&self, at: usize) -> Option<&Token<'s>> {
        self.tokens.get(at).map(|(token, _)| token)
    }

    /// An identifier, `:` and the keyword of a rule or exposure; answers where to go on.
    fn label(&mut self, at: usize) -> Option<usize> {
        let (Token::Ident(name), start) = self.tokens.get(at)? else { return None };
        let (Token::Colon, end) = self.tokens.get(at + 1)? else { return None };
        let Token::Kw(Kw::Allow | Kw::Deny | Kw::Pass | Kw::Expose) = self.kind(at + 2)? else { return None };
        self.close_lists(&Token::Label(name), *start);
        self.out.push((Token::Label(name), start.to(*end)));
        Some(at + 2)
    }

    /// Everything nested deeper than allowed becomes one bad token.
    fn skip_deep(&mut self, from: usize) -> usize {
        let mut depth = 0_usize;
        let mut at = from;
        let first = self.tokens.get(from).map_or_else(|| Span::new(self.file, 0, 0), |(_, span)| *span);
        let mut last = first;
        while let Some((token, span)) = self.tokens.get(at) {
            match token {
                Token::ParenOpen => depth += 1,
                Token::ParenClose => depth = depth.saturating_sub(1),
                Token::Open | Token::Close => break,
                Token::Kw(kw) if kw.starts_declaration() && self.begins_line(at) => break,
                _ => {}
            }
            last = *span;
            at += 1;
            if depth == 0 {
                break;
            }
        }
        self.diagnostics.report(|| {
            Diagnostic::new(Code::PW0008, first, format!("parentheses nest deeper than {MAX_PARENS}"))
                .label("one too many")
                .help("name parts of the set as groups")
        });
        self.out.push((Token::Bad, first.to(last)));
        at
    }

    fn begins_line(&self, at: usize) -> bool {
        let Some((_, span)) = self.tokens.get(at) else { return false };
        let from = match at.checked_sub(1).and_then(|before| self.tokens.get(before)) {
            Some((_, before)) => before.end as usize,
            None => return true,
        };
        self.text.get(from..span.start as usize).is_some_and(|gap| gap.contains('\n'))
    }

    fn brace_open(&mut self, span: Span) -> Token<'s> {
        let after = self.out.last().map(|(token, _)| token);
        let (kind, token) = match after {
            // In `policy p in from {` it is a tier's name.
            Some(Token::Kw(Kw::From))
                if self.out.iter().rev().nth(1).is_some_and(|(t, _)| *t == Token::Kw(Kw::In)) =>
            {
                (Brace::Body, Token::Open)
            }
            Some(Token::Slash | Token::Kw(Kw::From)) => (Brace::Ports, Token::PortsOpen),
            _ if self.open.is_empty() => (Brace::Body, Token::Open),
            _ => (Brace::Inner, Token::InnerOpen),
        };
        let head = match kind {
            Brace::Body => self.head,
            _ => None,
        };
        self.open.push(Open { kind, head, span });
        token
    }

    fn brace_close(&mut self) -> Token<'s> {
        match self.open.pop().map(|open| open.kind) {
            Some(Brace::Ports) => Token::PortsClose,
            Some(Brace::Inner) => Token::InnerClose,
            Some(Brace::Body) => {
                self.head = None;
                Token::Close
            }
            None => Token::Close,
        }
    }

    /// A list of ports, prefixes or rows ends where something stands that no such list can hold.
    fn close_lists(&mut self, token: &Token<'s>, span: Span) {
        let Some(open) = self.open.last() else { return };
        let (ends, what) = match open.kind {
            Brace::Ports => {
                let ends = match token {
                    Token::Kw(_)
                    | Token::Label(_)
                    | Token::Pipe
                    | Token::Arrow
                    | Token::Open
                    | Token::Colon => true,
                    Token::Ident(_) => matches!(self.out.last(), Some((Token::Int(_), _))),
                    _ => false,
                };
                (ends, "the list of ports ends before this")
            }
            Brace::Inner => {
                let member = Token::Kw(Kw::Group);
                let ends = *token == member
                    || matches!(token, Token::Label(_) | Token::Kw(Kw::Segment | Kw::Route | Kw::Expose));
                (ends, "the next member of the tenant begins here")
            }
            Brace::Body => return,
        };
        if ends {
            self.close_one(span, what);
            // A list of ports in a row of an exposure, say.
            self.close_lists(token, span);
        }
    }

    /// Closes the innermost brace where the text does not.
    fn close_one(&mut self, found: Span, what: &str) {
        let Some(open) = self.open.last() else { return };
        self.diagnostics.report(|| {
            Diagnostic::new(Code::PW0001, open.span, "this `{` is never closed")
                .label("no `}` belongs to it")
                .related(found, what)
                .help("add the missing `}`")
        });
        self.close_silently();
    }

    fn close_silently(&mut self) {
        let place = self.out.last().map_or(0, |(_, span)| span.end);
        let span = Span::new(self.file, place, place);
        let token = self.brace_close();
        self.out.push((token, span));
    }

    /// Closes every brace: the text goes on with a declaration, or ends.
    fn close_all(&mut self, found: Span, declaration: Option<Kw>) {
        let what = match declaration {
            Some(kw) => format!("the declaration `{}` begins here", kw.as_str()),
            None => "the file ends here".to_owned(),
        };
        // One cause: a missing `}` of the innermost brace makes those around it look open.
        if declaration.is_some() {
            self.owed += self.open.len();
        }
        self.close_one(found, &what);
        while !self.open.is_empty() {
            self.close_silently();
        }
    }

    fn keyword(&mut self, kw: Kw, at: usize, span: Span) -> Token<'s> {
        let before = at.checked_sub(1).and_then(|before| self.kind(before));
        let is_tier = before == Some(&Token::Kw(Kw::In));
        let continues = kw == Kw::Tenant && before == Some(&Token::Kw(Kw::Extend));
        if self.open.is_empty() {
            let begins = self.begins_line(at) || before == Some(&Token::Close) || continues;
            if is_tier || !begins && !self.looks_like_declaration(kw, at) {
                return Token::Stray(kw);
            }
        } else {
            let body = self.open.first().and_then(|open| open.head);
            match (body, kw) {
                (Some(Kw::Tenant | Kw::Extend), Kw::Group) => return Token::MemberGroup,
                (Some(Kw::Node), Kw::Gateway) if !self.looks_like_declaration(kw, at) => {
                    return Token::GatewayFlag;
                }
                _ => {}
            }
            // In a block of no known kind these are probably its clauses.
            let unknown = !body.is_some_and(has_block) && matches!(kw, Kw::Group | Kw::Gateway);
            if unknown || !self.begins_line(at) || !self.looks_like_declaration(kw, at) {
                return Token::Stray(kw);
            }
            self.parens = 0;
            self.close_all(span, Some(kw));
        }
        if !continues {
            self.head = Some(kw);
        }
        Token::Kw(kw)
    }

    /// A name at the beginning of a line where only a keyword can stand, and that is nearly one: it is reported and
    /// read as that keyword, so that what follows is not lost.
    fn misspelt(&mut self, name: &str, at: usize, span: Span) -> Option<Kw> {
        let first = self.open.is_empty() && self.out.is_empty();
        let after = self.out.last().map(|(token, _)| token);
        if !self.begins_line(at) || !(first || after.is_some_and(ends_clause)) {
            return None;
        }
        let next = self.kind(at + 1)?;
        if self.begins_line(at + 1) || matches!(next, Token::Colon | Token::Dot | Token::Equals | Token::Pipe)
        {
            return None;
        }
        let head = self.open.first().and_then(|open| open.head);
        let (what, words) = match (self.open.last().map(|open| open.kind), head) {
            (None, _)
                if matches!(next, Token::Ident(_) | Token::Str(_) | Token::Kw(Kw::Tenant | Kw::Any)) =>
            {
                ("a declaration", DECLARATIONS)
            }
            (Some(Brace::Body), Some(head)) => clauses_of(head)?,
            (Some(Brace::Inner), Some(Kw::Tenant | Kw::Extend)) => ("`to`", ROWS),
            _ => return None,
        };
        let word = suggest(name, words.iter().map(|kw| kw.as_str()))?;
        self.diagnostics.report(|| {
            Diagnostic::new(Code::PW0001, span, format!("expected {what}, found `{}`", shorten(name)))
                .label("unexpected name")
                .help(format!("did you mean `{word}`?"))
        });
        Kw::parse(word)
    }

    fn looks_like_declaration(&self, kw: Kw, at: usize) -> bool {
        let before = at.checked_sub(1).and_then(|before| self.kind(before));
        if matches!(before, Some(Token::Greater | Token::Comma | Token::Kw(Kw::Precedence | Kw::Delegate))) {
            return false;
        }
        let next = self.kind(at + 1);
        match kw {
            Kw::Extend => next == Some(&Token::Kw(Kw::Tenant)),
            Kw::Test => matches!(next, Some(Token::Str(_))),
            Kw::Isolate => matches!(
                next,
                Some(
                    Token::Ident(_)
                        | Token::ParenOpen
                        | Token::Kw(Kw::Any | Kw::Tagged)
                        | Token::Prefix(..)
                        | Token::Address(_)
                )
            ),
            _ => matches!(next, Some(Token::Ident(_))),
        }
    }
}
