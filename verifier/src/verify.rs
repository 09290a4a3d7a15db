//! All checks over one compiled form.

use crate::solver::Fault;
use crate::units;
use compiler::Compiled;
use compiler::ids::OwnerId;
use lang::diag::Diagnostic;

#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// Z3's resource limit (`rlimit`) for one question: a count of its steps, the same on every machine.
    pub budget: u32,
    /// Threads; `None`: one per core. No output depends on it.
    pub jobs: Option<usize>,
    /// What decides conflicts, dead and redundant rules, tests and isolation.
    pub engine: Engine,
    /// Confirm every verdict of the engine a second time, by Z3 or the evaluator. Without it, Z3 confirms that dead rules are dead and
    /// redundant ones redundant, and the evaluator (for lists of more than some thousands of rules, [`crate::lookup`]) that the others
    /// are not.
    pub certify: bool,
    /// Box tests that one question may cost before it is left to Z3: a count of steps, the same on every machine. No finding
    /// depends on it.
    pub work: u64,
}

/// Engines that give the same findings.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Engine {
    /// Box subtraction, its verdicts certified by Z3; Z3 alone where there are too many boxes.
    #[default]
    Boxes,
    /// Z3 alone: slow on long lists, and what the other is tested against.
    Z3,
}

impl Options {
    /// Enough for any question about tables that people write; tens of seconds at worst.
    pub const DEFAULT_BUDGET: u32 = 50_000_000;
    /// Enough for any list that people write; some tenths of a second at worst.
    pub const DEFAULT_WORK: u64 = 30_000_000;
}

impl Default for Options {
    fn default() -> Self {
        Self {
            budget: Self::DEFAULT_BUDGET,
            jobs: None,
            engine: Engine::Boxes,
            certify: false,
            work: Self::DEFAULT_WORK,
        }
    }
}

/// What was found.
#[derive(Debug, Clone, Default)]
pub struct Verdicts {
    /// Ordered by place, code and message.
    pub diagnostics: Vec<Diagnostic>,
    /// Owners whose flows were left out, since some of their declarations are in error; ascending.
    pub skipped: Vec<OwnerId>,
    /// Questions that spent their budget; each is a PW0901.
    pub undecided: usize,
}

/// Runs every check of the verifier.
///
/// # Errors
/// The solver and the reference evaluator contradict each other, or the solver fails: no verdict is to be had.
pub fn verify(c: &Compiled, options: &Options) -> Result<Verdicts, Fault> {
    let results = units::judge(c, options, &units::units(c), &[])?;
    Ok(units::join(c, results.into_iter().map(|(_, judged)| judged)))
}
