//! All checks over one compiled form.

use crate::checks::Task;
pub use crate::cover::view::Decided;
use crate::solver::Fault;
use crate::units;
use compiler::Compiled;
use compiler::ids::OwnerId;
use lang::diag::Diagnostic;
use rayon::prelude::*;

#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// Z3's resource limit (`rlimit`) for one question: a count of its steps, the same on every machine.
    pub budget: u32,
    /// Threads; `None`: one per core. No output depends on it.
    pub jobs: Option<usize>,
    /// What decides conflicts, dead and redundant rules, tests and isolation.
    pub engine: Engine,
    /// Confirm every verdict of the engine a second time, by Z3 or the evaluator. Without it, Z3 confirms that dead rules are dead and
    /// redundant ones redundant, and the evaluator that the others are not.
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

/// What boxes alone say of the rules of every tenant's view, with nothing confirmed and nothing put into words: for measuring what
/// deciding costs. It is no verdict; [`verify`] gives those. `None` if something is too much for boxes.
///
/// # Errors
/// As [`verify`].
pub fn decide(c: &Compiled, options: &Options) -> Result<Option<Decided>, Fault> {
    let task = Task { c, budget: options.budget, certify: false, work: options.work, replay: false };
    let views: Vec<Option<Decided>> = units::tenants(c)
        .into_par_iter()
        .map(|tenant| crate::cover::view::decide(task, tenant))
        .collect::<Result<_, Fault>>()?;
    Ok(views.into_iter().collect::<Option<Vec<Decided>>>().map(|views| {
        views.into_iter().fold(Decided::default(), |mut all, mut one| {
            all.conflicts.append(&mut one.conflicts);
            all.dead.append(&mut one.dead);
            all.redundant.append(&mut one.redundant);
            all.overruled.append(&mut one.overruled);
            all
        })
    }))
}
