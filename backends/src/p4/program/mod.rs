//! The emitted program's own text, read back: the part of P4_16 (v1model) that it is written in, resolved so that it can be
//! run. Whatever else a text holds is refused, never skipped.

mod control;
mod expr;
mod lex;
mod parse;
mod states;
mod tables;

pub use parse::parse;

use std::collections::BTreeMap;

/// Why a text is not the program that we can run.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {message}")]
pub struct Refused {
    /// From 1.
    pub line: usize,
    pub message: String,
}

/// A variable: a header's or struct's field, a parameter or a local one, by its number.
pub type Slot = usize;
/// A header's instance by its number.
pub type HeaderId = usize;

/// Everything of a program that running it needs.
#[derive(Debug, Clone, Default)]
pub struct Program {
    /// Widths in bits, at most 128.
    pub slots: Vec<u8>,
    /// As written: `hdr.ipv4.source`.
    pub names: BTreeMap<String, Slot>,
    pub headers: Vec<Header>,
    /// State 0 is `start`.
    pub states: Vec<State>,
    pub verify: Vec<Statement>,
    pub ingress: Vec<Statement>,
    pub egress: Vec<Statement>,
    pub update: Vec<Statement>,
    /// In the order in which they are emitted.
    pub deparser: Vec<HeaderId>,
    pub actions: Vec<Action>,
    pub tables: Vec<Table>,
    pub counters: Vec<Counter>,
    pub constants: BTreeMap<String, (u8, u128)>,
}

impl Program {
    #[must_use]
    pub fn table(&self, name: &str) -> Option<(usize, &Table)> {
        self.tables.iter().enumerate().find(|(_, t)| t.name == name)
    }

    #[must_use]
    pub fn action(&self, name: &str) -> Option<(usize, &Action)> {
        self.actions.iter().enumerate().find(|(_, a)| a.name == name)
    }

    /// A constant's value.
    #[must_use]
    pub fn constant(&self, name: &str) -> Option<u128> {
        self.constants.get(name).map(|(_, value)| *value)
    }
}

/// A header's instance: consecutive fields, and whether it is valid.
#[derive(Debug, Clone)]
pub struct Header {
    /// `hdr.ipv4`
    pub name: String,
    pub fields: Vec<Slot>,
}

#[derive(Debug, Clone, Default)]
pub struct State {
    pub extracts: Vec<HeaderId>,
    pub next: Next,
}

/// Where a parser goes on.
#[derive(Debug, Clone, Default)]
pub enum Next {
    #[default]
    Accept,
    State(usize),
    Select {
        on: Vec<Expr>,
        /// `None` in a key: anything. The target `None`: accept.
        cases: Vec<(Vec<Option<u128>>, Option<usize>)>,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Op {
    Add,
    Sub,
    And,
    Or,
    Xor,
    Eq,
    Ne,
    Lt,
    Gt,
    /// Of booleans.
    Both,
    Either,
}

/// Booleans are 0 and 1.
#[derive(Debug, Clone)]
pub enum Expr {
    Const(u128),
    Slot(Slot),
    Valid(HeaderId),
    /// Bits `hi..=lo`.
    Slice(Box<Expr>, u8, u8),
    Not(Box<Expr>),
    /// Of this width.
    Complement(Box<Expr>, u8),
    /// Arithmetic in this width.
    Binary(Op, Box<Expr>, Box<Expr>, u8),
    /// The second has this width.
    Concat(Box<Expr>, Box<Expr>, u8),
    /// To this width.
    Cast(Box<Expr>, u8),
}

#[derive(Debug, Clone)]
pub enum Statement {
    Assign(Slot, Expr),
    If(Expr, Vec<Statement>, Vec<Statement>),
    Apply(usize),
    /// An action called by name, without arguments.
    Act(usize),
    SetValid(HeaderId, bool),
    /// Of a counter, at an index; without one: of the entry that was hit.
    Count(usize, Option<Expr>),
    Drop,
    /// Whether the checksum is to be looked at, the values with their widths, the field, and whether it is written.
    Checksum {
        when: Expr,
        over: Vec<(Expr, u8)>,
        field: Slot,
        write: bool,
    },
}

/// Name and number as P4Runtime has them.
#[derive(Debug, Clone)]
pub struct Action {
    pub name: String,
    pub id: u32,
    pub params: Vec<Param>,
    pub body: Vec<Statement>,
}

#[derive(Debug, Clone)]
pub struct Param {
    pub name: String,
    pub width: u8,
    pub slot: Slot,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum MatchKind {
    Exact,
    Lpm,
    Range,
}

#[derive(Debug, Clone)]
pub struct Key {
    /// As written.
    pub name: String,
    pub slot: Slot,
    pub width: u8,
    pub kind: MatchKind,
}

#[derive(Debug, Clone)]
pub struct Table {
    pub name: String,
    pub id: u32,
    pub keys: Vec<Key>,
    /// By number, and whether the action is only for the default.
    pub actions: Vec<(usize, bool)>,
    pub default_action: (usize, Vec<u128>),
    pub const_default: bool,
    /// 0: none is written.
    pub size: u64,
    pub direct_counter: Option<usize>,
    /// What is written above it.
    pub doc: Vec<String>,
}

impl Table {
    /// Whether entries have priorities: where a field is matched by range.
    #[must_use]
    pub fn prioritised(&self) -> bool {
        self.keys.iter().any(|k| k.kind == MatchKind::Range)
    }
}

#[derive(Debug, Clone)]
pub struct Counter {
    pub name: String,
    pub id: u32,
    /// `None`: direct, one per entry.
    pub size: Option<u64>,
}

/// The control whose tables the control plane sees; their full names begin with it.
pub const CONTROL: &str = "PartywallIngress";
