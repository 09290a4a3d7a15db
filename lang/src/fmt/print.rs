//! Trees to text: what a program has built, in the one layout.

mod decls;

use std::fmt::Write as _;
use std::net::IpAddr;

use crate::ast::*;
use crate::keywords::Kw;
use crate::span::{Span, Spanned};
use crate::tokens::is_identifier;

/// The text of a tree, in the one layout. What could not be parsed (`Error`) is left out; a suppression stands
/// before what it governs, found by the span, or at the end.
#[must_use]
pub fn print(file: &File) -> String {
    let mut printer =
        Printer { out: String::new(), suppressions: file.suppressions.iter().map(Some).collect() };
    for item in &file.items {
        printer.item(item);
    }
    printer.remaining();
    let Printer { out, .. } = printer;
    super::format(&out).unwrap_or(out)
}

/// A set as it would be written.
#[must_use]
pub fn print_set(set: &Set) -> String {
    let mut printer = Printer::empty();
    printer.set(set);
    printer.out
}

struct Printer<'t> {
    out: String,
    /// Those not printed yet.
    suppressions: Vec<Option<&'t Suppression>>,
}

/// A name as it must be written to be read as one.
fn quoted(name: &str) -> String {
    if Kw::parse(name).is_some() { format!("`{name}`") } else { name.to_owned() }
}

/// The text of a string literal.
fn string(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

impl<'t> Printer<'t> {
    fn empty() -> Self {
        Self { out: String::new(), suppressions: Vec::new() }
    }

    fn put(&mut self, text: &str) {
        self.out.push_str(text);
    }

    fn word(&mut self, text: &str) {
        self.put(text);
        self.put(" ");
    }

    fn name(&mut self, name: &Name) {
        self.put(&quoted(&name.node));
    }

    /// ` WORD NAME`, if there is a name.
    fn option(&mut self, word: &str, name: Option<&Name>) {
        if let Some(name) = name {
            self.put(" ");
            self.word(word);
            self.name(name);
        }
    }

    fn list<T>(&mut self, items: &[T], separator: &str, mut each: impl FnMut(&mut Self, &T)) {
        for (at, item) in items.iter().enumerate() {
            if at > 0 {
                self.put(separator);
            }
            each(self, item);
        }
    }

    fn names(&mut self, names: &[Name]) {
        self.list(names, ", ", Self::name);
    }

    fn display(&mut self, value: impl std::fmt::Display) {
        // Writing to a string cannot fail.
        let _ = write!(self.out, "{value}");
    }

    fn device(&mut self, dev: &Str) {
        if is_identifier(&dev.node) && Kw::parse(&dev.node).is_none() {
            self.put(&dev.node);
        } else {
            self.put(&string(&dev.node));
        }
    }

    /// `///` lines and suppressions before what stands at `span`.
    fn before(&mut self, docs: &[String], span: Span) {
        let mut due = Vec::new();
        for slot in &mut self.suppressions {
            if slot.is_some_and(|suppression| suppression.target == Some(span)) {
                due.extend(slot.take());
            }
        }
        for suppression in due {
            self.suppression(suppression);
        }
        for line in docs {
            self.put("\n/// ");
            self.put(line);
        }
        self.put("\n");
    }

    fn suppression(&mut self, suppression: &Suppression) {
        self.display(format_args!(
            "\n// partywall: allow({}) {}\n",
            suppression.code.node, suppression.reason
        ));
    }

    fn remaining(&mut self) {
        let rest: Vec<_> = std::mem::take(&mut self.suppressions).into_iter().flatten().collect();
        for suppression in rest {
            self.suppression(suppression);
        }
    }

    fn literal(&mut self, kind: &LiteralKind) {
        match kind {
            LiteralKind::Address(address) => self.address(*address),
            LiteralKind::Prefix(address, length) => {
                self.address(*address);
                self.display(format_args!("/{length}"));
            }
            LiteralKind::Range(lo, hi) => {
                self.address(*lo);
                self.put("..");
                self.address(*hi);
            }
        }
    }

    /// IPv6 without an IPv4 part, which the language lacks.
    fn address(&mut self, address: IpAddr) {
        match address {
            IpAddr::V6(v6) if v6.to_string().contains('.') => {
                let groups: Vec<String> = v6.segments().iter().map(|group| format!("{group:x}")).collect();
                self.put(&groups.join(":"));
            }
            other => self.display(other),
        }
    }

    fn literals(&mut self, literals: &[Literal]) {
        self.list(literals, ", ", |printer, literal| printer.literal(&literal.kind));
    }

    fn addresses(&mut self, addresses: &[Spanned<IpAddr>]) {
        self.list(addresses, ", ", |printer, address| printer.address(address.node));
    }

    /// A set where `,` may stand for `|`: unions at its top are written so.
    fn top_set(&mut self, set: &Set) {
        let mut terms = Vec::new();
        unions(set, &mut terms);
        self.list(&terms, ", ", |printer, term| printer.operand(term, Rank::Except));
    }

    fn set(&mut self, set: &Set) {
        self.operand(set, Rank::Union);
    }

    /// `set` where an operand of at least this rank is due.
    fn operand(&mut self, set: &Set, rank: Rank) {
        if rank_of(set) < rank {
            self.put("(");
            self.set(set);
            self.put(")");
            return;
        }
        match &set.kind {
            SetKind::Any => self.put("any"),
            SetKind::Name(parts) => self.list(parts, ".", Self::name),
            SetKind::Tagged(tag) => {
                self.put("tagged(");
                self.name(tag);
                self.put(")");
            }
            SetKind::Literal(kind) => self.literal(kind),
            SetKind::Paren(inner) => {
                self.put("(");
                self.set(inner);
                self.put(")");
            }
            SetKind::Union(..) => {
                let mut terms = Vec::new();
                unions(set, &mut terms);
                for (at, term) in terms.into_iter().enumerate() {
                    if at > 0 {
                        self.put(" | ");
                    }
                    // `a except b` needs no parentheses at the left end only.
                    self.operand(term, if at == 0 { Rank::Except } else { Rank::Intersect });
                }
            }
            SetKind::Except(left, right) => {
                self.operand(left, Rank::Union);
                self.put(" except ");
                self.operand(right, Rank::Intersect);
            }
            SetKind::Intersect(left, right) => {
                self.operand(left, Rank::Intersect);
                self.put(" & ");
                self.operand(right, Rank::Term);
            }
            SetKind::Error => {}
        }
    }

    fn service(&mut self, service: &ServiceExpr) {
        self.list(&service.terms, " | ", |printer, term| printer.service_term(&term.node));
    }

    fn service_term(&mut self, term: &ServiceTerm) {
        match term {
            ServiceTerm::Ref(name) => self.put(&quoted(name)),
            ServiceTerm::Ip => self.put("ip"),
            ServiceTerm::Ports { proto, dst, src } => {
                self.put(match proto {
                    PortProto::Tcp => "tcp",
                    PortProto::Udp => "udp",
                    PortProto::Sctp => "sctp",
                });
                if !dst.is_empty() {
                    self.put("/");
                    self.ports(dst);
                }
                if !src.is_empty() {
                    self.put(" from ");
                    self.ports(src);
                }
            }
            ServiceTerm::Icmp { v6, kind, code } => {
                self.put(if *v6 { "icmp6" } else { "icmp" });
                for value in [kind, code].into_iter().flatten() {
                    self.put("/");
                    match value {
                        IcmpValue::Number(number) => self.display(number.node),
                        IcmpValue::Name(name) => self.name(name),
                    }
                }
            }
            ServiceTerm::Proto(number) => self.display(format_args!("proto/{}", number.node)),
            ServiceTerm::Error => {}
        }
    }

    fn ports(&mut self, ports: &[PortRange]) {
        if ports.len() > 1 {
            self.put("{");
        }
        self.list(ports, ", ", |printer, port| {
            printer.display(port.lo);
            if port.lo != port.hi {
                printer.display(format_args!("..{}", port.hi));
            }
        });
        if ports.len() > 1 {
            self.put("}");
        }
    }
}

/// How tightly a set's outermost operator binds.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Rank {
    Union,
    Except,
    Intersect,
    Term,
}

fn rank_of(set: &Set) -> Rank {
    match set.kind {
        SetKind::Union(..) => Rank::Union,
        SetKind::Except(..) => Rank::Except,
        SetKind::Intersect(..) => Rank::Intersect,
        _ => Rank::Term,
    }
}

/// The operands of nested unions, from the left.
fn unions<'s>(set: &'s Set, terms: &mut Vec<&'s Set>) {
    let mut stack = vec![set];
    while let Some(set) = stack.pop() {
        match &set.kind {
            SetKind::Union(left, right) => {
                stack.push(right);
                stack.push(left);
            }
            _ => terms.push(set),
        }
    }
}
