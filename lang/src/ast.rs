//! The syntax tree: what was written, in the order in which it was written, each part with its span.
//!
//! Nothing is resolved here and nothing is checked beyond what the grammar says; clause lists keep repeats
//! (the parser reports them and keeps the first). Addresses are parsed values, names are text.

use crate::span::{Span, Spanned};
use std::net::IpAddr;

/// An identifier (backticks removed) and its place.
pub type Name = Spanned<String>;
pub type Str = Spanned<String>;
pub type Int = Spanned<u64>;

/// One file.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct File {
    pub items: Vec<Item>,
    /// Every `// partywall: allow(PWnnnn) reason`, with the span that it governs.
    pub suppressions: Vec<Suppression>,
}

/// `// partywall: allow(CODE) reason`: it governs the declaration, clause or rule that follows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Suppression {
    pub code: Spanned<String>,
    pub reason: String,
    /// The comment.
    pub span: Span,
    /// What it governs: a finding whose primary span starts inside is suppressed. `None`: nothing follows.
    pub target: Option<Span>,
}

/// A top-level declaration with its `///` lines (text after the slashes, one leading space removed).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Item {
    pub docs: Vec<String>,
    pub decl: Decl,
    /// From the first token of the declaration to its last.
    pub span: Span,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decl {
    Fabric(Fabric),
    Node(Node),
    External(External),
    Service(Service),
    Group(Group),
    Tenant(Tenant),
    Extend(Extend),
    Gateway(Gateway),
    Endpoint(Endpoint),
    Policy(Policy),
    Isolate(Isolate),
    Test(Test),
    /// A declaration that the parser skipped; its error has been reported.
    Error,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum EncapKind {
    Vxlan,
    Geneve,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum FamilyWord {
    Ipv4,
    Ipv6,
}

/// `fabric NAME { … }`. Required clauses that are missing are `None` and have been reported.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fabric {
    pub name: Name,
    /// `encap vxlan port 4789`
    pub encap: Option<Spanned<(EncapKind, Int)>>,
    /// `underlay mtu 9000 family ipv4`
    pub underlay: Option<Spanned<(Int, FamilyWord)>>,
    /// `precedence a > b > c`, highest first
    pub precedence: Vec<Name>,
    /// `delegate a, b`
    pub delegate: Vec<Name>,
    /// `unknown-vni drop [log]`
    pub unknown_vni: Option<Spanned<bool>>,
    /// `stateless-replies "why"`
    pub stateless_replies: Option<Str>,
}

/// `node NAME { vtep ADDR dev DEV [gateway] }`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    pub name: Name,
    pub vtep: Option<Spanned<IpAddr>>,
    pub dev: Option<Str>,
    pub gateway: bool,
}

/// `external NAME { prefix, … }`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct External {
    pub name: Name,
    pub prefixes: Vec<Literal>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Service {
    pub name: Name,
    pub expr: ServiceExpr,
}

/// `a | b | tcp/443`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceExpr {
    pub terms: Vec<Spanned<ServiceTerm>>,
    pub span: Span,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ServiceTerm {
    /// The name of a declared service.
    Ref(String),
    /// `ip`: every protocol.
    Ip,
    /// `tcp`, `tcp/443`, `tcp/{80, 8000..8080} from 1024..65535`; empty lists mean every port.
    Ports {
        proto: PortProto,
        dst: Vec<PortRange>,
        src: Vec<PortRange>,
    },
    /// `icmp`, `icmp/echo-request`, `icmp/3/4`
    Icmp {
        v6: bool,
        kind: Option<IcmpValue>,
        code: Option<IcmpValue>,
    },
    /// `proto/47`; the number may be out of range here.
    Proto(Int),
    Error,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PortProto {
    Tcp,
    Udp,
    Sctp,
}

/// Inclusive; numbers may exceed 65535 or be reversed here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PortRange {
    pub lo: u64,
    pub hi: u64,
    pub span: Span,
}

/// A type or code by number or by IANA name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum IcmpValue {
    Number(Int),
    Name(Name),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group {
    pub name: Name,
    pub set: Set,
}

/// An address literal as written. A prefix may have host bits set here (PW0204 is the compiler's).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Literal {
    pub kind: LiteralKind,
    pub span: Span,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LiteralKind {
    Address(IpAddr),
    /// Length already within the family's bounds.
    Prefix(IpAddr, u8),
    /// Inclusive; the ends are of one family, `lo <= hi` (otherwise reported and dropped by the parser).
    Range(IpAddr, IpAddr),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Set {
    pub kind: SetKind,
    pub span: Span,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SetKind {
    Any,
    /// `name` (one part) or `tenant.member` (two parts).
    Name(Vec<Name>),
    Tagged(Name),
    Literal(LiteralKind),
    /// `(…)`, kept for the printer; means what is inside.
    Paren(Box<Set>),
    /// `a | b`, also `,` where that is allowed.
    Union(Box<Set>, Box<Set>),
    Intersect(Box<Set>, Box<Set>),
    Except(Box<Set>, Box<Set>),
    Error,
}

/// `tenant NAME id N { … }`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tenant {
    pub name: Name,
    pub id: Option<Int>,
    pub members: Vec<Member>,
}

/// `extend tenant NAME { … }`; segments in it have been reported.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Extend {
    pub tenant: Name,
    pub members: Vec<Member>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    pub docs: Vec<String>,
    pub kind: MemberKind,
    pub span: Span,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MemberKind {
    Segment(Segment),
    Group(Group),
    Route(Route),
    Expose(Expose),
    Error,
}

/// `segment NAME vni N { prefix [router ADDR], … } [mtu N]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Segment {
    pub name: Name,
    pub vni: Option<Int>,
    pub prefixes: Vec<SegmentPrefix>,
    pub mtu: Option<Int>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SegmentPrefix {
    pub prefix: Literal,
    pub router: Option<Spanned<IpAddr>>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    pub prefix: Literal,
    pub target: RouteTarget,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RouteTarget {
    /// `via G`
    Via(Name),
    /// `to tenant.segment [direct "why"]`
    Segment {
        tenant: Name,
        segment: Name,
        direct: Option<Span>,
        why: Option<Str>,
    },
    Error,
}

/// `[label:] expose SET : SERVICE …`; one row without braces, any number with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Expose {
    pub label: Option<Name>,
    pub set: Set,
    pub service: ServiceExpr,
    /// Parts written before the brace; with rows, `via` and `as` stand here.
    pub via: Option<Name>,
    pub translate: Option<Translate>,
    pub rows: Vec<ExposeRow>,
    /// Whether rows stood in braces.
    pub braced: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExposeRow {
    pub docs: Vec<String>,
    pub to: Set,
    pub clients: Option<Translate>,
    pub span: Span,
}

/// The prefixes after `as`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Translate {
    pub prefixes: Vec<Literal>,
    pub span: Span,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum AffinityWord {
    Symmetric,
    Flow,
    Source,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum OnFailureWord {
    Rehash,
    Drop,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gateway {
    pub name: Name,
    pub joins: Option<Set>,
    pub instances: Vec<Name>,
    pub affinity: Option<Spanned<AffinityWord>>,
    /// `stateful` is true.
    pub stateful: Option<Spanned<bool>>,
    pub on_failure: Option<Spanned<OnFailureWord>>,
    pub attaches: Vec<Attach>,
    pub masquerades: Vec<Masquerade>,
}

/// `attach EXTERNAL on NODE dev DEV next-hop ADDR, …`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attach {
    pub docs: Vec<String>,
    pub external: Name,
    pub node: Name,
    pub dev: Str,
    pub next_hops: Vec<Spanned<IpAddr>>,
    pub span: Span,
}

/// `masquerade TENANT to EXTERNAL as PREFIX, …`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Masquerade {
    pub docs: Vec<String>,
    pub tenant: Name,
    pub external: Name,
    pub translate: Translate,
    pub span: Span,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    pub name: Name,
    pub tenant: Name,
    pub segment: Name,
    pub at: Vec<Spanned<IpAddr>>,
    pub mac: Option<Spanned<[u8; 6]>>,
    pub on: Option<Name>,
    pub dev: Option<Str>,
    pub tags: Vec<Name>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    pub name: Name,
    pub tenant: Option<Name>,
    pub tier: Option<Name>,
    pub overrides: Vec<Name>,
    pub rules: Vec<Rule>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    pub docs: Vec<String>,
    pub label: Option<Name>,
    pub action: Spanned<ActionWord>,
    pub pairs: Pairs,
    pub service: Option<ServiceExpr>,
    pub via: Option<Name>,
    pub log: Option<Span>,
    pub expires: Option<Spanned<Date>>,
    pub because: Option<Str>,
    pub span: Span,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ActionWord {
    Allow,
    Deny,
    Pass,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Pairs {
    SameTenant(Span),
    Sets(Set, Set),
    Error,
}

/// A calendar date; validity of month and day has been checked by the lexer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Date {
    pub year: u16,
    pub month: u8,
    pub day: u8,
}

/// `isolate X from Y [transitively] [allowing SERVICE via G]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Isolate {
    pub what: Set,
    pub from: Set,
    pub transitively: bool,
    pub allowing: Option<(ServiceExpr, Name)>,
}

/// `test "name" { … }`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Test {
    pub name: Str,
    pub clauses: Vec<TestClause>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TestClause {
    pub docs: Vec<String>,
    pub kind: TestKind,
    pub span: Span,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Quantifier {
    Always,
    Never,
    Some,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TestKind {
    Flows { quantifier: Quantifier, src: Set, dst: Set, service: Option<ServiceExpr>, via: Option<Name> },
    Packet(PacketTest),
    Error,
}

/// `packet in T PROTO src:sport -> dst:dport is allow|deny [via G] [by RULE]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PacketTest {
    pub space: Name,
    /// Ports of the term are unused: they stand with the addresses. ICMP type and code stand here.
    pub proto: Spanned<ServiceTerm>,
    pub src: PacketEnd,
    pub dst: PacketEnd,
    pub allow: Spanned<bool>,
    pub via: Option<Name>,
    /// `policy`, `policy.label`, `policy#3`, `tenant.label#1`, `tenant.expose#2#1`, as written.
    pub by: Option<Name>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PacketEnd {
    pub address: Spanned<IpAddr>,
    pub port: Option<Int>,
}
