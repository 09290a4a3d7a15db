//! From what the grammar read to the syntax tree: clauses are gathered from their lists, repeats (PW0005),
//! missing ones (PW0004) and misplaced ones (PW0009) reported.

mod blocks;
mod members;

use std::collections::BTreeMap;
use std::net::IpAddr;

use lalrpop_util::{ErrorRecovery, ParseError};

use crate::ast::*;
use crate::codes::Code;
use crate::diag::Diagnostic;
use crate::messages;
use crate::set::union_of;
use crate::sink::Sink;
use crate::span::{FileId, Span, Spanned};
use crate::tokens::Token;

/// How deep a set's tree may be.
pub const MAX_SET_DEPTH: u32 = 256;

/// An alias that the grammar file can spell.
pub type MacBytes = [u8; 6];

/// What was parsed.
#[derive(Debug)]
pub enum Root {
    File(Vec<Item>),
    Packet(Spanned<ServiceTerm>, PacketEnd, PacketEnd),
    Query(Deep, Deep, Option<ServiceExpr>),
}

/// A set and the depth of its tree.
#[derive(Debug)]
pub struct Deep {
    pub set: Set,
    pub depth: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SetOp {
    Union,
    Except,
}

/// What stands between a declaration's keyword and its block.
#[derive(Debug)]
pub enum Head<T> {
    Whole(T),
    /// An error follows, so that what is missing is not known to be missing.
    Part(T),
    Error,
}

impl<T> Head<T> {
    /// The head, and whether something of it may be lost.
    fn parts(self) -> Option<(T, bool)> {
        match self {
            Self::Whole(head) => Some((head, false)),
            Self::Part(head) => Some((head, true)),
            Self::Error => None,
        }
    }

    fn value(self) -> Option<T> {
        self.parts().map(|(head, _)| head)
    }
}

#[derive(Debug)]
pub struct TenantHead {
    pub name: Name,
    /// `Some(None)`: a number was written that is none.
    pub id: Option<Option<Int>>,
}

#[derive(Debug)]
pub struct EndpointHead {
    pub name: Name,
    pub tenant: Name,
    pub segment: Name,
}

#[derive(Debug)]
pub struct PolicyHead {
    pub name: Name,
    pub parts: Vec<PolicyPart>,
}

#[derive(Debug)]
pub enum PolicyPart {
    For(Spanned<Name>),
    In(Spanned<Name>),
    Overrides(Spanned<Vec<Name>>),
}

#[derive(Debug)]
pub enum FabricClause {
    Encap(Spanned<(EncapKind, Int)>),
    Underlay(Spanned<(Int, FamilyWord)>),
    Precedence(Spanned<Vec<Name>>),
    Delegate(Spanned<Vec<Name>>),
    UnknownVni(Spanned<bool>),
    StatelessReplies(Spanned<Str>),
    Error,
}

#[derive(Debug)]
pub enum NodeClause {
    Vtep(Spanned<Option<Spanned<IpAddr>>>),
    Dev(Spanned<Str>),
    Gateway(Spanned<()>),
    Error,
}

#[derive(Debug)]
pub enum GatewayClause {
    Joins(Spanned<Set>),
    Instances(Spanned<Vec<Name>>),
    Affinity(Spanned<AffinityWord>),
    Stateful(Spanned<bool>),
    OnFailure(Spanned<OnFailureWord>),
    Attach(Box<Attach>),
    Masquerade(Box<Masquerade>),
    Error,
}

#[derive(Debug)]
pub enum EndpointClause {
    At(Spanned<Vec<Option<Spanned<IpAddr>>>>),
    Mac(Spanned<Option<Spanned<[u8; 6]>>>),
    On(Spanned<Name>),
    Dev(Spanned<Str>),
    Tags(Spanned<Vec<Name>>),
    Error,
}

#[derive(Debug)]
pub enum ExposePart {
    To(Spanned<Set>),
    Via(Spanned<Name>),
    As(Spanned<Translate>),
    Clients(Spanned<Translate>),
}

#[derive(Debug)]
pub enum Modifier {
    Via(Spanned<Name>),
    Log(Span),
    Expires(Spanned<Option<Spanned<Date>>>),
    Because(Spanned<Str>),
}

/// Consecutive `///` lines.
#[derive(Debug)]
pub struct DocLines {
    pub span: Span,
    pub lines: Vec<String>,
}

/// The values of a list of boxes.
pub fn unboxed<T>(list: Vec<Box<T>>) -> Vec<T> {
    list.into_iter().map(|value| *value).collect()
}

/// What stands on lines of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NodeKind {
    Item,
    /// A clause, member, row or rule.
    Clause,
}

/// The state of one parse.
#[derive(Debug)]
pub struct Context {
    pub file: FileId,
    pub diagnostics: Sink,
    /// `///` lines by the offset of the token that follows; taken by what begins there.
    pub docs: BTreeMap<u32, DocLines>,
    /// Where tokens begin that follow a bad one, ascending: what is unexpected there has been explained.
    pub after_bad: Vec<u32>,
    /// Every declaration and clause, children before their parents.
    pub nodes: Vec<(NodeKind, Span)>,
}

/// A value given to a clause that may stand once.
struct Once<T> {
    value: Option<T>,
    first: Option<Span>,
}

impl<T> Once<T> {
    fn new() -> Self {
        Self { value: None, first: None }
    }

    /// Keeps the first value; reports the second.
    fn set(&mut self, context: &mut Context, word: &str, place: Span, value: T) {
        match self.first {
            Some(first) => context.repeated(word, place, first),
            None => {
                self.first = Some(place);
                self.value = Some(value);
            }
        }
    }
}

impl Context {
    #[must_use]
    pub fn new(file: FileId) -> Self {
        Self {
            file,
            diagnostics: Sink::default(),
            docs: BTreeMap::new(),
            after_bad: Vec::new(),
            nodes: Vec::new(),
        }
    }

    #[must_use]
    pub fn span(&self, start: u32, end: u32) -> Span {
        Span::new(self.file, start, end)
    }

    pub fn spanned<T>(&self, node: T, start: u32, end: u32) -> Spanned<T> {
        Spanned::new(node, self.span(start, end))
    }

    fn report(&mut self, diagnostic: Diagnostic) {
        self.diagnostics.report(|| diagnostic);
    }

    fn repeated(&mut self, word: &str, place: Span, first: Span) {
        self.report(
            Diagnostic::new(Code::PW0005, place, format!("`{word}` stands twice"))
                .label("the second one")
                .related(first, "the first one")
                .help("keep one of the two"),
        );
    }

    fn missing(&mut self, place: Span, message: impl Into<String>, help: &str) {
        self.report(Diagnostic::new(Code::PW0004, place, message).label("declared here").help(help));
    }

    /// Reports an error that the grammar stepped over.
    pub fn recover(&mut self, recovery: ErrorRecovery<u32, Token<'_>, ()>) {
        self.syntax_error(recovery.error);
    }

    /// Reports what the grammar found unexpected, unless the lexer has explained it.
    pub fn syntax_error(&mut self, error: ParseError<u32, Token<'_>, ()>) {
        if let ParseError::UnrecognizedToken { token: (start, ..), .. } = &error
            && self.after_bad.binary_search(start).is_ok()
        {
            return;
        }
        let file = self.file;
        self.diagnostics.report_if(|| messages::syntax(file, error));
    }

    /// Registers a clause that has no room for `///` lines in the tree; the printer keeps them.
    pub fn clause<T>(&mut self, node: T, start: u32, end: u32) -> Spanned<T> {
        let _ = self.begin(NodeKind::Clause, start, end);
        self.spanned(node, start, end)
    }

    /// Registers what spans `start..end` and takes its `///` lines.
    fn begin(&mut self, kind: NodeKind, start: u32, end: u32) -> (Vec<String>, Span) {
        let span = self.span(start, end);
        self.nodes.push((kind, span));
        let docs = self.docs.remove(&start).map(|docs| docs.lines).unwrap_or_default();
        (docs, span)
    }

    pub fn item(&mut self, decl: Decl, start: u32, end: u32) -> Item {
        let (docs, span) = self.begin(NodeKind::Item, start, end);
        Item { docs, decl, span }
    }

    pub fn member(&mut self, kind: MemberKind, start: u32, end: u32) -> Member {
        let (docs, span) = self.begin(NodeKind::Clause, start, end);
        Member { docs, kind, span }
    }

    pub fn test_clause(&mut self, kind: TestKind, start: u32, end: u32) -> TestClause {
        let (docs, span) = self.begin(NodeKind::Clause, start, end);
        TestClause { docs, kind, span }
    }

    pub fn row(&mut self, to: Deep, clients: Option<Translate>, start: u32, end: u32) -> ExposeRow {
        let (docs, span) = self.begin(NodeKind::Clause, start, end);
        ExposeRow { docs, to: to.set, clients, span }
    }

    /// In the place of a service that could not be read.
    pub fn bad_service(
        &mut self,
        recovery: ErrorRecovery<u32, Token<'_>, ()>,
        start: u32,
        end: u32,
    ) -> ServiceExpr {
        self.recover(recovery);
        let span = self.span(start, end);
        ServiceExpr { terms: vec![Spanned::new(ServiceTerm::Error, span)], span }
    }

    /// In the place of a set that could not be read.
    pub fn bad_set(&mut self, recovery: ErrorRecovery<u32, Token<'_>, ()>, start: u32, end: u32) -> Set {
        self.recover(recovery);
        Set::error(self.span(start, end))
    }

    /// The token holds the colon, the name's span doesn't.
    #[must_use]
    pub fn label(&self, text: &str, start: u32, end: u32) -> Name {
        let length = u32::try_from(text.len()).unwrap_or(u32::MAX);
        self.spanned(text.to_owned(), start, end.min(start.saturating_add(length)))
    }

    #[must_use]
    pub fn literal(&self, kind: LiteralKind, start: u32, end: u32) -> Literal {
        Literal { kind, span: self.span(start, end) }
    }

    /// A device's name is one that the kernel takes.
    pub fn device(&mut self, name: Str) -> Str {
        let fits = (1..=15).contains(&name.node.len());
        let clean = !name.node.chars().any(|c| matches!(c, '/' | ':') || c.is_whitespace() || c.is_control());
        if !fits || !clean || name.node == "." || name.node == ".." {
            let message = if fits {
                format!("`{}` is no device name", crate::tokens::shorten(&name.node))
            } else {
                format!("a device name has 1 to 15 bytes, this one {}", name.node.len())
            };
            self.report(
                Diagnostic::new(Code::PW0006, name.span, message)
                    .label("not a device name")
                    .help("a device name has 1 to 15 bytes and holds no `/`, no `:` and no white space"),
            );
        }
        name
    }

    /// `lo..hi`
    pub fn range(&mut self, lo: IpAddr, hi: IpAddr, start: u32, end: u32) -> SetKind {
        let place = self.span(start, end);
        let message = if lo.is_ipv4() != hi.is_ipv4() {
            "the two ends of a range are of two address families"
        } else if lo > hi {
            "a range runs from its larger address to its smaller one"
        } else {
            return SetKind::Literal(LiteralKind::Range(lo, hi));
        };
        let mut diagnostic = Diagnostic::new(Code::PW0006, place, message).label("holds no address");
        if lo.is_ipv4() == hi.is_ipv4() {
            diagnostic = diagnostic.help(format!("write `{hi}..{lo}`"));
        }
        self.report(diagnostic);
        SetKind::Error
    }

    #[must_use]
    pub fn term(&self, kind: SetKind, start: u32, end: u32) -> Deep {
        Deep { set: Set { kind, span: self.span(start, end) }, depth: 1 }
    }

    pub fn paren(&mut self, inner: Deep, start: u32, end: u32) -> Deep {
        let set = Set { kind: SetKind::Paren(Box::new(inner.set)), span: self.span(start, end) };
        self.bounded(Deep { set, depth: inner.depth + 1 })
    }

    /// A set that is too deep for those who walk it is reported and replaced.
    fn bounded(&mut self, deep: Deep) -> Deep {
        if deep.depth <= MAX_SET_DEPTH {
            return deep;
        }
        self.too_deep(deep.set.span)
    }

    fn too_deep(&mut self, place: Span) -> Deep {
        self.report(
            Diagnostic::new(Code::PW0008, place, format!("a set nests more than {MAX_SET_DEPTH} operations"))
                .label("too deep")
                .help("unite first: `a except (b | c | d)`, or name parts of the set as groups"),
        );
        Deep { set: Set::error(place), depth: 1 }
    }

    /// `a & b & c`, from the left.
    pub fn intersection(&mut self, first: Deep, rest: Vec<Deep>) -> Deep {
        let last = rest.last().map_or(first.set.span, |deep| deep.set.span);
        let whole = first.set.span.to(last);
        let mut all = first;
        for next in rest {
            let span = all.set.span.to(next.set.span);
            let depth = all.depth.max(next.depth) + 1;
            if depth > MAX_SET_DEPTH {
                return self.too_deep(whole);
            }
            let kind = SetKind::Intersect(Box::new(all.set), Box::new(next.set));
            all = Deep { set: Set { kind, span }, depth };
        }
        all
    }

    /// `a | b except c | d`, from the left; runs of unions become balanced trees.
    pub fn chain(&mut self, first: Deep, rest: Vec<(SetOp, Deep)>) -> Deep {
        let last = rest.last().map_or(first.set.span, |(_, deep)| deep.set.span);
        let whole = first.set.span.to(last);
        let mut depth = first.depth;
        let mut run = vec![first.set];
        for (op, next) in rest {
            depth = depth.max(next.depth);
            if op == SetOp::Union {
                run.push(next.set);
                continue;
            }
            depth += run_depth(run.len()) + 1;
            if depth > MAX_SET_DEPTH {
                return self.too_deep(whole);
            }
            let Some(left) = union_of(std::mem::take(&mut run)) else { continue };
            let span = left.span.to(next.set.span);
            run.push(Set { kind: SetKind::Except(Box::new(left), Box::new(next.set)), span });
        }
        depth += run_depth(run.len());
        match union_of(run) {
            Some(set) => self.bounded(Deep { set, depth }),
            None => Deep { set: Set::error(whole), depth: 1 },
        }
    }

    /// The name of a rule, as its parts were written.
    pub fn rule_name(
        &mut self,
        policy: &str,
        member: Option<&str>,
        numbers: Vec<u64>,
        start: u32,
        end: u32,
    ) -> Name {
        let mut name = policy.to_owned();
        if let Some(member) = member {
            name.push('.');
            name.push_str(member);
        }
        if numbers.len() > 2 {
            let place = self.span(start, end);
            self.report(
                Diagnostic::new(Code::PW0009, place, "a rule's name has at most two numbers")
                    .label("no rule's name")
                    .help(
                        "write `policy`, `policy.label`, `policy#2`, `tenant.label#1` or `tenant.expose#2#1`",
                    ),
            );
        }
        for number in numbers {
            name.push('#');
            name.push_str(&number.to_string());
        }
        self.spanned(name, start, end)
    }
}

/// The depth that a balanced union of `terms` adds.
fn run_depth(terms: usize) -> u32 {
    terms.max(1).next_power_of_two().trailing_zeros()
}
