//! Text to tokens. Nothing here fails: what is no token is [`Token::Bad`], with its diagnostic.

mod literals;

use std::net::IpAddr;

use literals::{Fault, guess_literal, read_date, read_groups, read_int, read_v4};
use logos::Logos;

use crate::ast::Date;
use crate::codes::Code;
use crate::diag::Diagnostic;
use crate::keywords::Kw;
use crate::sink::Sink;
use crate::span::{FileId, Span};

/// The longest identifier, in bytes.
pub const MAX_IDENTIFIER: usize = 63;

/// A token as the grammar sees it. Braces are told apart by what they hold (`balance.rs` does it).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Token<'s> {
    /// Which of the grammar's three texts follows; of no width.
    StartFile,
    StartPacket,
    StartQuery,
    Ident(&'s str),
    /// An identifier and its `:`, before `allow`, `deny`, `pass` or `expose`.
    Label(&'s str),
    Int(u64),
    Str(Box<str>),
    Address(IpAddr),
    Prefix(IpAddr, u8),
    Date(Date),
    Mac([u8; 6]),
    Kw(Kw),
    /// A declaration's keyword inside a block where it means nothing.
    Stray(Kw),
    /// `group` in a tenant's block.
    MemberGroup,
    /// `gateway` in a node's block.
    GatewayFlag,
    /// Reported already.
    Bad,
    Open,
    Close,
    InnerOpen,
    InnerClose,
    PortsOpen,
    PortsClose,
    ParenOpen,
    ParenClose,
    BracketOpen,
    BracketClose,
    Comma,
    Colon,
    Dot,
    DotDot,
    Slash,
    Pipe,
    Ampersand,
    Equals,
    Greater,
    Hash,
    Arrow,
}

/// A token and its bytes.
pub type Placed<'s> = (Token<'s>, Span);

/// What a comment is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CommentKind {
    Plain,
    /// `///`
    Doc,
}

/// A comment, without its line's end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Comment {
    pub kind: CommentKind,
    pub span: Span,
    /// Index of the token that follows; the number of tokens if none does.
    pub before: usize,
}

/// A file's tokens.
#[derive(Debug, Clone, Default)]
pub struct Lexed<'s> {
    pub tokens: Vec<Placed<'s>>,
    pub comments: Vec<Comment>,
    pub diagnostics: Sink,
}

#[derive(Logos, Debug, Clone, Copy, PartialEq, Eq)]
#[logos(skip r"[ \t\r\n\x0c]+")]
enum Raw {
    #[regex(r"//[^\n]*", allow_greedy = true)]
    Comment,
    #[regex(r"[A-Za-z_][A-Za-z0-9_]*(-[A-Za-z0-9_]+)*")]
    Word,
    #[regex(r"[0-9][0-9_]*")]
    Int,
    #[regex(r"[0-9]+\.[0-9]+\.[0-9]+\.[0-9]+(/[0-9]+)?")]
    V4,
    #[regex(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")]
    Date,
    // Hexadecimal groups with two or more colons, or with `::`: an IPv6 address, a MAC, or neither.
    #[regex(r"[0-9A-Fa-f]+(:[0-9A-Fa-f]+)(:[0-9A-Fa-f]+)+(::([0-9A-Fa-f]+(:[0-9A-Fa-f]+)*)?)*(/[0-9]+)?")]
    #[regex(r"([0-9A-Fa-f]+(:[0-9A-Fa-f]+)*)?::([0-9A-Fa-f]+(:[0-9A-Fa-f]+)*)?(::([0-9A-Fa-f]+(:[0-9A-Fa-f]+)*)?)*(/[0-9]+)?")]
    Groups,
    #[token("\"")]
    Quote,
    #[token("`")]
    Backtick,
    #[token("{")]
    BraceOpen,
    #[token("}")]
    BraceClose,
    #[token("(")]
    ParenOpen,
    #[token(")")]
    ParenClose,
    #[token("[")]
    BracketOpen,
    #[token("]")]
    BracketClose,
    #[token(",")]
    Comma,
    #[token(":")]
    Colon,
    #[token(".")]
    Dot,
    #[token("..")]
    DotDot,
    #[token("/")]
    Slash,
    #[token("|")]
    Pipe,
    #[token("&")]
    Ampersand,
    #[token("=")]
    Equals,
    #[token(">")]
    Greater,
    #[token("#")]
    Hash,
    #[token("->")]
    Arrow,
}

/// The tokens of `text`, labels not yet joined. `text` is at most `u32::MAX` bytes long.
#[must_use]
pub fn lex(file: FileId, text: &str) -> Lexed<'_> {
    let mut lexer = Lexer { file, text, out: Lexed::default() };
    // A byte order mark at the very start is no content.
    let start = if text.starts_with('\u{feff}') { '\u{feff}'.len_utf8() } else { 0 };
    lexer.run(start);
    lexer.out
}

struct Lexer<'s> {
    file: FileId,
    text: &'s str,
    out: Lexed<'s>,
}

/// The length of what sticks to a word or literal so that both are one bad token; 0 in the usual case.
fn tail(rest: &str, dots: bool) -> usize {
    let mut chars = rest.char_indices().peekable();
    while let Some((at, c)) = chars.next() {
        let next = chars.peek().map(|(_, c)| *c);
        let sticks = match c {
            '-' => next != Some('>'),
            '.' if dots => next != Some('.'),
            // A prefix length after a malformed address.
            '/' => at > 0 && next.is_some_and(|c| c.is_ascii_digit()),
            ':' => at > 0 && next.is_some_and(|c| c.is_ascii_hexdigit()) && dots,
            c => c == '_' || c.is_alphanumeric(),
        };
        if !sticks {
            return at;
        }
    }
    rest.len()
}

impl<'s> Lexer<'s> {
    fn run(&mut self, start: usize) {
        let mut raw = Raw::lexer(self.text);
        raw.bump(start);
        while let Some(result) = raw.next() {
            let range = raw.span();
            let slice = raw.slice();
            let rest = raw.remainder();
            let extra = match result {
                Ok(Raw::Comment) => {
                    self.comment(slice, range.start);
                    0
                }
                Ok(Raw::Quote) => self.string(range.start, rest),
                Ok(Raw::Backtick) => self.backtick(range.start, rest),
                Ok(Raw::Word) => self.word(range.start, slice, rest),
                Ok(Raw::Int | Raw::V4 | Raw::Date | Raw::Groups) => {
                    self.literal(result, range.start, slice, rest)
                }
                Ok(kind) => {
                    self.push(punctuation(kind), range.start, range.end);
                    0
                }
                Err(()) => self.unknown(range.start, range.end, slice, rest),
            };
            raw.bump(extra);
        }
    }

    fn span(&self, start: usize, end: usize) -> Span {
        let offset = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        Span::new(self.file, offset(start), offset(end))
    }

    fn push(&mut self, token: Token<'s>, start: usize, end: usize) {
        let span = self.span(start, end);
        self.out.tokens.push((token, span));
    }

    fn bad(&mut self, start: usize, end: usize, diagnostic: impl FnOnce() -> Diagnostic) {
        self.push(Token::Bad, start, end);
        self.out.diagnostics.report(diagnostic);
    }

    fn comment(&mut self, slice: &str, start: usize) {
        let trimmed = slice.trim_end();
        let doc = trimmed.starts_with("///") && !trimmed.starts_with("////");
        let kind = if doc { CommentKind::Doc } else { CommentKind::Plain };
        let span = self.span(start, start + trimmed.len());
        self.out.comments.push(Comment { kind, span, before: self.out.tokens.len() });
    }

    /// From the opening quote; answers how many bytes after it were taken.
    fn string(&mut self, start: usize, rest: &str) -> usize {
        let mut value = String::new();
        let mut escape = None;
        let mut chars = rest.char_indices();
        while let Some((at, c)) = chars.next() {
            match c {
                '"' => {
                    let end = start + 1 + at + 1;
                    match escape {
                        None => self.push(Token::Str(value.into_boxed_str()), start, end),
                        Some((place, found)) => {
                            let place: usize = start + 1 + place;
                            let span = self.span(place, place + 1 + char::len_utf8(found));
                            self.bad(start, end, || {
                                let message =
                                    format!("unknown escape `\\{}` in a string", found.escape_default());
                                Diagnostic::new(Code::PW0003, span, message)
                                    .label("unknown escape")
                                    .help("a string knows `\\\"`, `\\\\` and `\\n`")
                            });
                        }
                    }
                    return at + 1;
                }
                '\n' => return self.unterminated(start, at),
                '\\' => match chars.next() {
                    Some((_, '"')) => value.push('"'),
                    Some((_, '\\')) => value.push('\\'),
                    Some((_, 'n')) => value.push('\n'),
                    Some((at, '\n')) => return self.unterminated(start, at),
                    Some((_, other)) => escape = escape.or(Some((at, other))),
                    None => break,
                },
                c => value.push(c),
            }
        }
        self.unterminated(start, rest.len())
    }

    fn unterminated(&mut self, start: usize, length: usize) -> usize {
        let span = self.span(start, start + 1);
        self.bad(start, start + 1 + length, || {
            Diagnostic::new(Code::PW0003, span, "a string is not closed on its line")
                .label("it begins here")
                .help("close it with `\"`; a line break inside a string is written `\\n`")
        });
        length
    }

    fn backtick(&mut self, start: usize, rest: &'s str) -> usize {
        let stop = rest.find(['`', '\n']).unwrap_or(rest.len());
        let name = rest.get(..stop).unwrap_or_default();
        if !rest.get(stop..).is_some_and(|r| r.starts_with('`')) {
            let span = self.span(start, start + 1);
            self.bad(start, start + 1 + stop, || {
                Diagnostic::new(Code::PW0002, span, "a name in backticks is not closed on its line")
                    .label("it begins here")
            });
            return stop;
        }
        let end = start + 1 + stop + 1;
        if is_identifier(name) {
            self.identifier(name, start, end);
        } else {
            let span = self.span(start, end);
            self.bad(start, end, || {
                Diagnostic::new(Code::PW0002, span, "what stands in backticks is no name").label("not a name").help(
                    "a name is made of letters, digits, `_` and single `-` between them, and begins with a letter or `_`",
                )
            });
        }
        stop + 1
    }

    fn identifier(&mut self, name: &'s str, start: usize, end: usize) {
        if name.len() > MAX_IDENTIFIER {
            let span = self.span(start, end);
            self.out.diagnostics.report(|| {
                let message = format!("a name of {} bytes is longer than {MAX_IDENTIFIER}", name.len());
                Diagnostic::new(Code::PW0006, span, message).label("too long").help("shorten it")
            });
        }
        self.push(Token::Ident(name), start, end);
    }

    fn word(&mut self, start: usize, slice: &'s str, rest: &str) -> usize {
        let extra = tail(rest, false);
        let end = start + slice.len();
        if extra > 0 {
            let whole = self.text.get(start..end + extra).unwrap_or_default();
            let span = self.span(start, end + extra);
            self.bad(start, end + extra, || {
                Diagnostic::new(Code::PW0002, span, format!("`{}` is no name", shorten(whole)))
                    .label("not a name")
                    .help("a name is made of letters, digits, `_` and single `-` between them")
            });
            return extra;
        }
        match Kw::parse(slice) {
            Some(kw) => self.push(Token::Kw(kw), start, end),
            None => self.identifier(slice, start, end),
        }
        0
    }

    fn literal(&mut self, kind: Result<Raw, ()>, start: usize, slice: &str, rest: &str) -> usize {
        let extra = tail(rest, true);
        let end = start + slice.len() + extra;
        let text = self.text.get(start..end).unwrap_or_default();
        let span = self.span(start, end);
        let read = if extra > 0 {
            Err(Fault::new(Code::PW0002, format!("`{}` is no literal of the language", shorten(text)))
                .help(guess_literal(text)))
        } else {
            match kind {
                Ok(Raw::Int) => read_int(text),
                Ok(Raw::V4) => read_v4(text),
                Ok(Raw::Date) => read_date(text),
                _ => read_groups(text),
            }
        };
        match read {
            Ok(token) => self.push(token, start, end),
            Err(fault) => self.bad(start, end, || {
                let mut diagnostic = Diagnostic::new(fault.code, span, fault.message).label(fault.label);
                diagnostic.help = fault.help;
                diagnostic
            }),
        }
        extra
    }

    /// Characters of no token, a whole run of them at once.
    fn unknown(&mut self, start: usize, end: usize, slice: &str, rest: &str) -> usize {
        let known = |c: char| {
            c.is_ascii_alphanumeric() || c.is_ascii_whitespace() || "\"`{}()[],:./|&=>#_".contains(c)
        };
        let mut extra = 0;
        let mut chars = rest.char_indices().peekable();
        while let Some((at, c)) = chars.next() {
            let arrow = c == '-' && chars.peek().is_some_and(|(_, c)| *c == '>');
            if known(c) || arrow {
                break;
            }
            extra = at + c.len_utf8();
        }
        let span = self.span(start, end + extra);
        self.bad(start, end + extra, || meaningless(slice, extra > 0, span));
        extra
    }
}

/// What is said of characters that begin no token.
fn meaningless(slice: &str, longer: bool, span: Span) -> Diagnostic {
    let first = slice.chars().next().unwrap_or_default();
    let more = slice.chars().nth(1).is_some() || longer;
    let shown = if first.is_control() || first.is_whitespace() {
        format!("U+{:04X}", u32::from(first))
    } else {
        format!("`{first}`")
    };
    let message = if more {
        format!("characters that have no meaning here, the first is {shown}")
    } else {
        format!("{shown} has no meaning here")
    };
    let mut diagnostic = Diagnostic::new(Code::PW0002, span, message).label("not a token");
    diagnostic.help = match first {
        '-' => Some("an arrow is written `->`".to_owned()),
        '\'' | '“' | '”' | '„' | '’' => {
            Some("a string stands in straight double quotes, `\"…\"`".to_owned())
        }
        '*' => Some("every address is `any`; a comment begins with `//`".to_owned()),
        ';' => Some("clauses and rules need no separator".to_owned()),
        '!' => Some("to leave something out, write `… except …`".to_owned()),
        '→' => Some("an arrow is written `->`".to_owned()),
        '+' => Some("a union is written `a | b`".to_owned()),
        c if c.is_whitespace() => Some("use plain spaces, tabs and line breaks".to_owned()),
        _ => None,
    };
    diagnostic
}

fn punctuation<'s>(raw: Raw) -> Token<'s> {
    match raw {
        Raw::BraceOpen => Token::Open,
        Raw::BraceClose => Token::Close,
        Raw::ParenOpen => Token::ParenOpen,
        Raw::ParenClose => Token::ParenClose,
        Raw::BracketOpen => Token::BracketOpen,
        Raw::BracketClose => Token::BracketClose,
        Raw::Comma => Token::Comma,
        Raw::Colon => Token::Colon,
        Raw::Dot => Token::Dot,
        Raw::DotDot => Token::DotDot,
        Raw::Slash => Token::Slash,
        Raw::Pipe => Token::Pipe,
        Raw::Ampersand => Token::Ampersand,
        Raw::Equals => Token::Equals,
        Raw::Greater => Token::Greater,
        Raw::Hash => Token::Hash,
        Raw::Arrow => Token::Arrow,
        Raw::Comment
        | Raw::Word
        | Raw::Int
        | Raw::V4
        | Raw::Date
        | Raw::Groups
        | Raw::Quote
        | Raw::Backtick => Token::Bad,
    }
}

/// Whether `text` has the form of an identifier; reserved words have it, the length is not judged.
#[must_use]
pub fn is_identifier(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && text
            .split('-')
            .all(|part| !part.is_empty() && part.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_'))
}

/// At most 40 characters of `text`, on one line.
pub(crate) fn shorten(text: &str) -> String {
    let mut out: String = text.chars().take(40).map(|c| if c.is_control() { ' ' } else { c }).collect();
    if text.chars().nth(40).is_some() {
        out.push('…');
    }
    out
}
