//! Boolean terms over one flow's header, hash-consed in a pool.
//!
//! Terms are made by the pool's smart constructors alone, and those fold: a term over constants is a constant, so that
//! encoding a literal packet gives `true` or `false` without a solver. Children are older than their parents (a lower
//! index), so every walk over a term is a loop over indices and no term is too deep for the stack.

use compiler::algebra::Family;
use compiler::packet::Flow;
use std::collections::HashMap;

/// A header field of the flow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Var {
    /// Real source address: 32 or 128 bits.
    Src,
    /// Real destination address: 32 or 128 bits.
    Dst,
    /// IP protocol number: 8 bits.
    Protocol,
    /// Source port or ICMP type: 16 bits.
    X,
    /// Destination port or ICMP code: 16 bits.
    Y,
}

impl Var {
    /// All fields, in the order in which a witness prefers their values.
    pub const ALL: [Self; 5] = [Self::Protocol, Self::Src, Self::Dst, Self::X, Self::Y];

    /// Width in bits.
    #[must_use]
    pub fn bits(self, family: Family) -> u32 {
        match self {
            Self::Src | Self::Dst => u32::from(family.bits()),
            Self::Protocol => 8,
            Self::X | Self::Y => 16,
        }
    }

    /// The highest value that fits.
    #[must_use]
    pub fn max(self, family: Family) -> u128 {
        match self {
            Self::Src | Self::Dst => family.max(),
            Self::Protocol => u128::from(u8::MAX),
            Self::X | Self::Y => u128::from(u16::MAX),
        }
    }

    /// The field's value in a flow.
    #[must_use]
    pub fn of(self, flow: &Flow) -> u128 {
        match self {
            Self::Src => flow.src.address,
            Self::Dst => flow.dst.address,
            Self::Protocol => u128::from(flow.protocol),
            Self::X => u128::from(flow.x),
            Self::Y => u128::from(flow.y),
        }
    }
}

/// A field's value: unknown, or known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operand {
    Var(Var),
    Const(u128),
}

/// The header that is encoded: all fields symbolic, or those of one flow.
#[derive(Debug, Clone, Copy)]
pub struct Header {
    pub family: Family,
    literal: Option<Flow>,
}

impl Header {
    #[must_use]
    pub fn symbolic(family: Family) -> Self {
        Self { family, literal: None }
    }

    #[must_use]
    pub fn literal(flow: Flow) -> Self {
        Self { family: flow.family, literal: Some(flow) }
    }

    #[must_use]
    pub fn operand(&self, var: Var) -> Operand {
        self.literal.as_ref().map_or(Operand::Var(var), |flow| Operand::Const(var.of(flow)))
    }
}

/// A term of one [`Pool`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Term(u32);

impl Term {
    pub const FALSE: Self = Self(0);
    pub const TRUE: Self = Self(1);

    #[must_use]
    pub fn constant(value: bool) -> Self {
        if value { Self::TRUE } else { Self::FALSE }
    }

    /// The value of a folded term; `None` if it depends on the header.
    #[must_use]
    pub fn as_bool(self) -> Option<bool> {
        match self {
            Self::FALSE => Some(false),
            Self::TRUE => Some(true),
            _ => None,
        }
    }

    /// Position in the pool: children come before parents.
    #[must_use]
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

/// What a term is.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Node {
    False,
    True,
    Not(Term),
    /// At least two, ascending, none constant.
    And(Box<[Term]>),
    Or(Box<[Term]>),
    /// `lo..=hi`, neither empty nor the whole field.
    Range {
        var: Var,
        lo: u128,
        hi: u128,
    },
    /// Source and destination address are equal.
    SameAddress,
}

/// The terms of one encoding.
#[derive(Debug)]
pub struct Pool {
    nodes: Vec<Node>,
    // Only looked up, never iterated: no output depends on its order.
    index: HashMap<Node, Term>,
}

impl Default for Pool {
    fn default() -> Self {
        let nodes = vec![Node::False, Node::True];
        let index = HashMap::from([(Node::False, Term::FALSE), (Node::True, Term::TRUE)]);
        Self { nodes, index }
    }
}

impl Pool {
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Number of terms.
    #[must_use]
    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    /// Never: the constants are always there.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    #[must_use]
    pub fn node(&self, term: Term) -> &Node {
        self.nodes.get(term.index()).unwrap_or(&Node::False)
    }

    fn make(&mut self, node: Node) -> Term {
        if let Some(term) = self.index.get(&node) {
            return *term;
        }
        #[expect(clippy::cast_possible_truncation, reason = "memory ends long before 2^32 terms")]
        let term = Term(self.nodes.len() as u32);
        self.nodes.push(node.clone());
        self.index.insert(node, term);
        term
    }

    pub fn not(&mut self, term: Term) -> Term {
        match self.node(term) {
            Node::False => Term::TRUE,
            Node::True => Term::FALSE,
            Node::Not(inner) => *inner,
            _ => self.make(Node::Not(term)),
        }
    }

    pub fn and(&mut self, terms: impl IntoIterator<Item = Term>) -> Term {
        self.junction(terms, Term::TRUE, Term::FALSE, Node::And)
    }

    pub fn or(&mut self, terms: impl IntoIterator<Item = Term>) -> Term {
        self.junction(terms, Term::FALSE, Term::TRUE, Node::Or)
    }

    /// `neutral` members vanish, one `absorbing` member or a pair `t`, `not t` decides.
    fn junction(
        &mut self,
        terms: impl IntoIterator<Item = Term>,
        neutral: Term,
        absorbing: Term,
        node: impl FnOnce(Box<[Term]>) -> Node,
    ) -> Term {
        let mut members: Vec<Term> = Vec::new();
        for term in terms {
            if term == absorbing {
                return absorbing;
            }
            if term != neutral {
                members.push(term);
            }
        }
        members.sort_unstable();
        members.dedup();
        let complementary = members.iter().any(|term| match self.node(*term) {
            Node::Not(inner) => members.binary_search(inner).is_ok(),
            _ => false,
        });
        match members.as_slice() {
            _ if complementary => absorbing,
            [] => neutral,
            [one] => *one,
            _ => self.make(node(members.into_boxed_slice())),
        }
    }

    /// `a` and not `b`.
    pub fn minus(&mut self, a: Term, b: Term) -> Term {
        let not_b = self.not(b);
        self.and([a, not_b])
    }

    /// The field lies in `lo..=hi`.
    pub fn range(&mut self, header: &Header, var: Var, lo: u128, hi: u128) -> Term {
        let hi = hi.min(var.max(header.family));
        match header.operand(var) {
            Operand::Const(value) => Term::constant(lo <= value && value <= hi),
            Operand::Var(_) if lo > hi => Term::FALSE,
            Operand::Var(_) if lo == 0 && hi == var.max(header.family) => Term::TRUE,
            Operand::Var(var) => self.make(Node::Range { var, lo, hi }),
        }
    }

    /// Source and destination address are equal.
    pub fn same_address(&mut self, header: &Header) -> Term {
        match (header.operand(Var::Src), header.operand(Var::Dst)) {
            (Operand::Const(src), Operand::Const(dst)) => Term::constant(src == dst),
            _ => self.make(Node::SameAddress),
        }
    }

    /// Whether a term holds for a flow.
    #[must_use]
    pub fn holds(&self, term: Term, flow: &Flow) -> bool {
        let mut values: Vec<bool> = Vec::with_capacity(term.index() + 1);
        let value = |values: &Vec<bool>, t: &Term| values.get(t.index()).copied().unwrap_or(false);
        for node in self.nodes.iter().take(term.index() + 1) {
            values.push(match node {
                Node::False => false,
                Node::True => true,
                Node::Not(inner) => !value(&values, inner),
                Node::And(members) => members.iter().all(|t| value(&values, t)),
                Node::Or(members) => members.iter().any(|t| value(&values, t)),
                Node::Range { var, lo, hi } => {
                    let v = var.of(flow);
                    *lo <= v && v <= *hi
                }
                Node::SameAddress => flow.src.address == flow.dst.address,
            });
        }
        value(&values, &term)
    }

    /// A term as text that can be read back by eye: one line per term it is made of.
    #[must_use]
    pub fn dump(&self, term: Term) -> String {
        use std::fmt::Write as _;
        let mut out = String::new();
        for index in self.reachable(term) {
            if let Some(node) = self.nodes.get(index) {
                let _ = writeln!(out, "t{index} = {node:?}");
            }
        }
        out
    }

    /// The indices of the terms that a term is made of, ascending, itself last.
    #[must_use]
    pub fn reachable(&self, term: Term) -> Vec<usize> {
        let mut seen = std::collections::BTreeSet::new();
        let mut todo = vec![term];
        while let Some(term) = todo.pop() {
            if seen.insert(term.index()) {
                match self.node(term) {
                    Node::Not(inner) => todo.push(*inner),
                    Node::And(members) | Node::Or(members) => todo.extend_from_slice(members),
                    Node::False | Node::True | Node::Range { .. } | Node::SameAddress => {}
                }
            }
        }
        seen.into_iter().collect()
    }

    /// The term at a position that [`Pool::reachable`] gave.
    #[must_use]
    pub fn node_at(&self, index: usize) -> Option<&Node> {
        self.nodes.get(index)
    }
}
