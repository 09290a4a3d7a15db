//! Deciding terms. The only file that names `z3`.
//!
//! SOUNDNESS: what is trusted of Z3 is `unsat` alone. The binding drops an assertion silently after a refused parameter,
//! so the number of assertions held is compared after each; a dropped one could only turn `unsat` into `sat`, and every
//! `sat` comes with a header that callers replay in the reference evaluator. `unknown` is passed on, never guessed.

use crate::terms::{Node, Pool, Term, Var};
use compiler::algebra::Family;
use z3::ast::{BV, Bool};
use z3::{Params, SatResult, Solver as Z3Solver, StatisticsValue};

/// Something that must not happen: an error of the solver, its binding or the encoding. Never an answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    #[error("the solver holds {held} assertions where {made} were made")]
    DroppedAssertion { made: usize, held: usize },
    #[error("the solver offers no logic of bit vectors")]
    NoSolver,
    #[error("the solver gave no model of a satisfiable set")]
    NoModel,
    #[error("the solver's answer does not stand up to the evaluator:\n{dump}")]
    Mismatch { dump: String },
}

/// A header that satisfies what was asserted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Values {
    pub src: u128,
    pub dst: u128,
    pub protocol: u8,
    pub x: u16,
    pub y: u16,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// No header satisfies the assertions.
    Unsat,
    /// This one does; to be replayed before it is believed.
    Sat(Values),
    /// The budget is spent.
    Unknown,
}

/// A stack of assertions over one pool's terms.
pub trait Solver {
    /// Adds an assertion to the innermost level.
    ///
    /// # Errors
    /// The solver did not take it.
    fn assert(&mut self, pool: &Pool, term: Term) -> Result<(), Fault>;

    /// Opens a level.
    fn push(&mut self);

    /// Closes the innermost level and forgets its assertions.
    fn pop(&mut self);

    /// Decides the assertions of all levels.
    ///
    /// # Errors
    /// The solver contradicts itself.
    fn check(&mut self) -> Result<Answer, Fault>;
}

/// Z3's incremental solver for bit vectors, in the calling thread's context: not to be sent to another thread.
#[derive(Debug)]
pub struct Z3 {
    family: Family,
    solver: Z3Solver,
    fields: [BV; 5],
    /// Z3's expression of a pool's term, by position.
    made: Vec<Option<Bool>>,
    /// Assertions per level.
    levels: Vec<usize>,
}

impl Z3 {
    /// A solver for flows of one family; `budget` is Z3's deterministic resource limit for each check.
    ///
    /// # Errors
    /// The library lacks the logic.
    pub fn new(family: Family, budget: u32) -> Result<Self, Fault> {
        // QF_FD would be cheaper to make, but takes assertions apart, so that they cannot be counted.
        let solver = Z3Solver::new_for_logic("QF_BV").ok_or(Fault::NoSolver)?;
        let mut params = Params::new();
        params.set_u32("rlimit", budget);
        solver.set_params(&params);
        let field = |var: Var, name: &str| BV::new_const(name, var.bits(family));
        let fields = [
            field(Var::Src, "src"),
            field(Var::Dst, "dst"),
            field(Var::Protocol, "protocol"),
            field(Var::X, "x"),
            field(Var::Y, "y"),
        ];
        Ok(Self { family, solver, fields, made: Vec::new(), levels: vec![0] })
    }

    fn field(&self, var: Var) -> &BV {
        let [src, dst, protocol, x, y] = &self.fields;
        match var {
            Var::Src => src,
            Var::Dst => dst,
            Var::Protocol => protocol,
            Var::X => x,
            Var::Y => y,
        }
    }

    /// Z3's expression of a term.
    fn expression(&mut self, pool: &Pool, term: Term) -> Bool {
        if self.made.len() < pool.len() {
            self.made.resize(pool.len(), None);
        }
        if let Some(Some(done)) = self.made.get(term.index()) {
            return done.clone();
        }
        for index in pool.reachable(term) {
            if matches!(self.made.get(index), Some(Some(_))) {
                continue;
            }
            let Some(node) = pool.node_at(index) else { continue };
            let expression = match node {
                Node::False => Bool::from_bool(false),
                Node::True => Bool::from_bool(true),
                Node::Not(inner) => self.known(*inner).not(),
                Node::And(members) => Bool::and(&self.all(members)),
                Node::Or(members) => Bool::or(&self.all(members)),
                Node::Range { var, lo, hi } => self.range(*var, *lo, *hi),
                Node::SameAddress => self.field(Var::Src).eq(self.field(Var::Dst)),
            };
            if let Some(slot) = self.made.get_mut(index) {
                *slot = Some(expression);
            }
        }
        self.known(term)
    }

    /// A term whose expression has been made.
    fn known(&self, term: Term) -> Bool {
        self.made.get(term.index()).cloned().flatten().unwrap_or_else(|| Bool::from_bool(false))
    }

    fn all(&self, terms: &[Term]) -> Vec<Bool> {
        terms.iter().map(|t| self.known(*t)).collect()
    }

    /// A prefix as an equation on the upper bits, which is the cheapest form; other ranges as comparisons.
    fn range(&self, var: Var, lo: u128, hi: u128) -> Bool {
        let (field, bits) = (self.field(var), var.bits(self.family));
        let free = (lo ^ hi).checked_ilog2().map_or(0, |highest| highest + 1);
        let host = if free >= 128 { u128::MAX } else { (1_u128 << free) - 1 };
        if lo & host == 0 && hi & host == host {
            return match free {
                0 => field.eq(constant(lo, bits)),
                _ if free >= bits => Bool::from_bool(true),
                _ => field.extract(bits - 1, free).eq(constant(lo >> free, bits - free)),
            };
        }
        let mut parts = Vec::new();
        if lo > 0 {
            parts.push(field.bvuge(constant(lo, bits)));
        }
        if hi < var.max(self.family) {
            parts.push(field.bvule(constant(hi, bits)));
        }
        Bool::and(&parts)
    }

    /// Steps of the resource limit that the thread's solvers have spent so far.
    #[must_use]
    pub fn spent(&self) -> u64 {
        match self.solver.get_statistics().value("rlimit count") {
            Some(StatisticsValue::UInt(steps)) => steps.into(),
            _ => 0,
        }
    }

    fn value(&self, model: &z3::Model, var: Var) -> Option<u128> {
        let (field, bits) = (self.field(var), var.bits(self.family));
        if bits <= 64 {
            return model.eval(field, true)?.as_u64().map(u128::from);
        }
        let high = model.eval(&field.extract(bits - 1, 64), true)?.as_u64()?;
        let low = model.eval(&field.extract(63, 0), true)?.as_u64()?;
        Some(u128::from(high) << 64 | u128::from(low))
    }
}

/// A constant of `bits` bits; the value fits.
fn constant(value: u128, bits: u32) -> BV {
    if bits <= 64 {
        #[expect(clippy::cast_possible_truncation, reason = "the value has at most 64 bits")]
        return BV::from_u64(value as u64, bits);
    }
    #[expect(clippy::cast_possible_truncation, reason = "the halves of a 128-bit value")]
    let (high, low) = ((value >> 64) as u64, value as u64);
    BV::from_u64(high, bits - 64).concat(BV::from_u64(low, 64))
}

impl Solver for Z3 {
    fn assert(&mut self, pool: &Pool, term: Term) -> Result<(), Fault> {
        if term == Term::TRUE {
            return Ok(());
        }
        let expression = self.expression(pool, term);
        self.solver.assert(&expression);
        if let Some(level) = self.levels.last_mut() {
            *level += 1;
        }
        let (made, held) = (self.levels.iter().sum(), self.solver.get_assertions().len());
        if made == held { Ok(()) } else { Err(Fault::DroppedAssertion { made, held }) }
    }

    fn push(&mut self) {
        self.solver.push();
        self.levels.push(0);
    }

    fn pop(&mut self) {
        if self.levels.len() > 1 {
            self.levels.pop();
            self.solver.pop(1);
        }
    }

    fn check(&mut self) -> Result<Answer, Fault> {
        match self.solver.check() {
            SatResult::Unsat => Ok(Answer::Unsat),
            SatResult::Unknown => Ok(Answer::Unknown),
            SatResult::Sat => {
                let model = self.solver.get_model().ok_or(Fault::NoModel)?;
                let value = |var| self.value(&model, var).ok_or(Fault::NoModel);
                let narrow16 = |v: u128| u16::try_from(v).map_err(|_| Fault::NoModel);
                Ok(Answer::Sat(Values {
                    src: value(Var::Src)?,
                    dst: value(Var::Dst)?,
                    protocol: u8::try_from(value(Var::Protocol)?).map_err(|_| Fault::NoModel)?,
                    x: narrow16(value(Var::X)?)?,
                    y: narrow16(value(Var::Y)?)?,
                }))
            }
        }
    }
}
