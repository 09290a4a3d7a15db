//! The grammar's errors in the user's words.

use lalrpop_util::ParseError;

use crate::codes::Code;
use crate::diag::Diagnostic;
use crate::keywords::Kw;
use crate::span::{FileId, Span};
use crate::suggest::suggest;
use crate::tokens::{Token, shorten};

/// At most so many expectations are listed.
const MAX_EXPECTED: usize = 4;

/// What the grammar says, or nothing where the lexer has said it.
#[must_use]
pub fn syntax(file: FileId, error: ParseError<u32, Token<'_>, ()>) -> Option<Diagnostic> {
    match error {
        ParseError::UnrecognizedToken { token: (_, Token::Bad, _), .. } => None,
        // A brace that `balance.rs` closed, and said so.
        ParseError::UnrecognizedToken {
            token: (start, Token::Close | Token::InnerClose | Token::PortsClose, end),
            ..
        } if start == end => None,
        ParseError::UnrecognizedToken { token: (start, token, end), expected } => {
            Some(unexpected(Span::new(file, start, end), &token, &expected))
        }
        ParseError::UnrecognizedEof { location, expected } => {
            let place = Span::new(file, location, location);
            let expected = Expected::new(&expected);
            let message = match expected.list() {
                Some(list) => format!("the text ends here, expected {list}"),
                None => "the text ends too early".to_owned(),
            };
            Some(Diagnostic::new(Code::PW0001, place, message).label("the text ends here"))
        }
        ParseError::ExtraToken { token: (start, token, end) } => {
            let message = format!("unexpected {}", describe(&token));
            Some(Diagnostic::new(Code::PW0001, Span::new(file, start, end), message))
        }
        ParseError::InvalidToken { .. } | ParseError::User { .. } => None,
    }
}

fn unexpected(place: Span, token: &Token<'_>, expected: &[String]) -> Diagnostic {
    let expected = Expected::new(expected);
    let found = describe(token);
    let message = match (token, expected.list()) {
        (Token::Close | Token::InnerClose | Token::PortsClose, None) => "`}` closes nothing".to_owned(),
        (Token::Close, Some(list)) if expected.declaration => format!("`}}` closes nothing; expected {list}"),
        (_, Some(list)) => format!("expected {list}, found {found}"),
        (_, None) => format!("unexpected {found}"),
    };
    let mut diagnostic = Diagnostic::new(Code::PW0001, place, message);
    diagnostic.label = format!("unexpected {}", kind(token));
    diagnostic.help = help(token, &expected);
    diagnostic
}

fn help(token: &Token<'_>, expected: &Expected<'_>) -> Option<String> {
    match token {
        Token::Ident(_) if expected.has("string") && !expected.name => {
            Some("put the text in quotes".to_owned())
        }
        Token::Ident(name) => match suggest(name, expected.words.iter().copied()) {
            Some(word) => Some(format!("did you mean `{word}`?")),
            None if expected.has(",") && !expected.has("&") => {
                Some("put `,` between the names of a list".to_owned())
            }
            None => None,
        },
        Token::Comma if expected.has("from") && !expected.has("&") => {
            Some("several ports stand in braces: `tcp/{80, 443}`".to_owned())
        }
        Token::Comma if expected.has("|") => Some("a union is written `a | b`".to_owned()),
        Token::Colon if expected.has("/") => Some("a port stands after `/`: `tcp/443`".to_owned()),
        Token::Equals | Token::Greater if expected.has("->") => Some("an arrow is written `->`".to_owned()),
        Token::Kw(kw) if kw.starts_declaration() => None,
        Token::Kw(_) | Token::Stray(_) | Token::MemberGroup | Token::GatewayFlag if expected.name => {
            let word = word_of(token)?;
            Some(format!("`{word}` is a reserved word; as a name it is written `` `{word}` ``"))
        }
        Token::Label(name) => Some(format!("`{name}:` before this word is read as a label")),
        Token::Equals if expected.has("{") => Some("a block follows here, without `=`".to_owned()),
        Token::Int(_) if expected.service || expected.has("/") => {
            Some("a port stands after its protocol: `tcp/443`".to_owned())
        }
        Token::Address(_) | Token::Prefix(..) if expected.has("integer") => None,
        Token::Address(_) if expected.has("prefix") => {
            Some("a prefix has a length: `10.1.0.0/24`".to_owned())
        }
        Token::Str(_) if expected.name => Some("a name stands without quotes".to_owned()),
        _ => None,
    }
}

fn word_of(token: &Token<'_>) -> Option<&'static str> {
    match token {
        Token::Kw(kw) | Token::Stray(kw) => Some(kw.as_str()),
        Token::MemberGroup => Some(Kw::Group.as_str()),
        Token::GatewayFlag => Some(Kw::Gateway.as_str()),
        _ => None,
    }
}

/// The token itself, in backticks.
fn describe(token: &Token<'_>) -> String {
    match token {
        Token::Ident(name) => format!("`{}`", shorten(name)),
        Token::Label(name) => format!("the label `{}:`", shorten(name)),
        Token::Int(number) => format!("the number {number}"),
        Token::Str(_) => "a string".to_owned(),
        Token::Address(address) => format!("the address {address}"),
        Token::Prefix(address, length) => format!("the prefix {address}/{length}"),
        Token::Date(_) => "a date".to_owned(),
        Token::Mac(_) => "a MAC".to_owned(),
        Token::StartFile | Token::StartPacket | Token::StartQuery => "the beginning".to_owned(),
        Token::Bad => "a bad token".to_owned(),
        token => match word_of(token) {
            Some(word) => format!("`{word}`"),
            None => format!("`{}`", punctuation(token)),
        },
    }
}

fn kind(token: &Token<'_>) -> &'static str {
    match token {
        Token::Ident(_) => "name",
        Token::Label(_) => "label",
        Token::Int(_) => "number",
        Token::Str(_) => "string",
        Token::Address(_) => "address",
        Token::Prefix(..) => "prefix",
        Token::Date(_) => "date",
        Token::Mac(_) => "MAC",
        Token::Kw(_) | Token::Stray(_) | Token::MemberGroup | Token::GatewayFlag => "word",
        _ => "here",
    }
}

/// How a token of fixed text is written.
#[must_use]
pub fn punctuation(token: &Token<'_>) -> &'static str {
    match token {
        Token::Open | Token::InnerOpen | Token::PortsOpen => "{",
        Token::Close | Token::InnerClose | Token::PortsClose => "}",
        Token::ParenOpen => "(",
        Token::ParenClose => ")",
        Token::BracketOpen => "[",
        Token::BracketClose => "]",
        Token::Comma => ",",
        Token::Colon => ":",
        Token::Dot => ".",
        Token::DotDot => "..",
        Token::Slash => "/",
        Token::Pipe => "|",
        Token::Ampersand => "&",
        Token::Equals => "=",
        Token::Greater => ">",
        Token::Hash => "#",
        Token::Arrow => "->",
        _ => "",
    }
}

/// The grammar's list of terminals, gathered into what a person would say.
struct Expected<'e> {
    terminals: Vec<&'e str>,
    /// Reserved words among them.
    words: Vec<&'static str>,
    declaration: bool,
    service: bool,
    /// An identifier could stand here.
    name: bool,
}

impl<'e> Expected<'e> {
    fn new(expected: &'e [String]) -> Self {
        let terminals: Vec<&str> = expected.iter().map(|text| text.trim_matches('"')).collect();
        let has = |word: &str| terminals.contains(&word);
        let mut words: Vec<&'static str> =
            terminals.iter().filter_map(|text| Kw::parse(text)).map(Kw::as_str).collect();
        if has("group in block") {
            words.push("group");
        }
        if has("gateway in block") {
            words.push("gateway");
        }
        // Where any word may stand none is special.
        if has("vxlan") && has("fabric") {
            words.clear();
        }
        Self {
            declaration: has("fabric") && has("policy") && !has("vxlan"),
            service: has("tcp") && has("ip") && !has("fabric"),
            name: has("identifier"),
            words,
            terminals,
        }
    }

    fn has(&self, terminal: &str) -> bool {
        self.terminals.contains(&terminal)
    }

    /// `a set, `->` or …`; the operators that could go on with what stands before are left out.
    fn list(&self) -> Option<String> {
        let mut parts: Vec<String> = Vec::new();
        let mut rest: Vec<&str> = self.terminals.clone();
        let mut take = |present: bool, what: &str, drop: &[&str], rest: &mut Vec<&str>| {
            if present {
                parts.push(what.to_owned());
                rest.retain(|terminal| !drop.contains(terminal));
            }
        };
        rest.retain(|terminal| !matches!(*terminal, "bad" | "stray" | "error" | "label"));
        let tier = self.has("vxlan") && self.has("fabric");
        take(tier, "a tier's name", &[], &mut rest);
        if tier {
            rest.clear();
        }
        let set = self.has("any") && self.has("tagged");
        take(set, "a set", &["any", "tagged", "(", "identifier", "address", "prefix"], &mut rest);
        take(self.declaration, "a declaration", DECLARATIONS, &mut rest);
        take(self.service, "a service", SERVICES, &mut rest);
        let protocol = !self.service && self.has("tcp");
        take(protocol, "a protocol", SERVICES, &mut rest);
        let rule = self.has("allow") && self.has("pass");
        take(rule, "a rule (`allow`, `deny` or `pass`)", &["allow", "deny", "pass"], &mut rest);
        let packet = self.has("always") && self.has("packet");
        take(
            packet,
            "a check (`always`, `never`, `some` or `packet`)",
            &["always", "never", "some", "packet"],
            &mut rest,
        );
        let member = self.has("segment") && self.has("expose");
        take(
            member,
            "a member (`segment`, `group`, `route` or `expose`)",
            &["segment", "group in block", "route", "expose"],
            &mut rest,
        );
        let prefix = rest.contains(&"prefix") && rest.contains(&"address");
        take(prefix, "a prefix or address", &["prefix", "address"], &mut rest);
        // What merely goes on with what stands before says little where something else is due.
        let after_ports = self.has("from") && !self.has("&");
        let more: Vec<&str> = rest
            .iter()
            .copied()
            .filter(|terminal| !(CONTINUES.contains(terminal) || after_ports && *terminal == "from"))
            .collect();
        if !more.is_empty() || !parts.is_empty() {
            rest = more;
        }
        rest.sort_by_key(|terminal| (rank(terminal), *terminal));
        let hidden = (parts.len() + rest.len()).saturating_sub(MAX_EXPECTED);
        let room = MAX_EXPECTED.saturating_sub(parts.len());
        parts.extend(rest.into_iter().take(room).map(terminal));
        parts.dedup();
        let last = parts.pop()?;
        Some(match (parts.is_empty(), hidden > 0) {
            (true, _) => last,
            (false, true) => format!("{}, {last} or another clause", parts.join(", ")),
            (false, false) => format!("{} or {last}", parts.join(", ")),
        })
    }
}

const DECLARATIONS: &[&str] = &[
    "fabric", "node", "external", "service", "group", "tenant", "extend", "gateway", "endpoint", "policy",
    "isolate", "test",
];

const SERVICES: &[&str] = &["tcp", "udp", "sctp", "icmp", "icmp6", "ip", "proto", "identifier"];

const CONTINUES: &[&str] = &["|", "&", "except", ",", ".", "/", "..", "#", "log"];

/// What is due comes before what may follow.
fn rank(terminal: &str) -> u8 {
    match terminal {
        "identifier" | "integer" | "string" | "address" | "prefix" | "date" | "MAC" => 0,
        "->" | "=" | ":" | "{" | "inner {" | "ports {" => 1,
        "}" | "inner }" | "ports }" => 3,
        _ => 2,
    }
}

fn terminal(text: &str) -> String {
    match text {
        "identifier" => "a name".to_owned(),
        "integer" => "a number".to_owned(),
        "string" => "a string".to_owned(),
        "address" => "an address".to_owned(),
        "prefix" => "a prefix".to_owned(),
        "date" => "a date".to_owned(),
        "MAC" => "a MAC".to_owned(),
        "inner {" | "ports {" => "`{`".to_owned(),
        "inner }" | "ports }" => "`}`".to_owned(),
        "group in block" => "`group`".to_owned(),
        "gateway in block" => "`gateway`".to_owned(),
        other => format!("`{other}`"),
    }
}
