//! Proofs over the compiled form.
//!
//! One encoder ([`encode`]) turns rules, views and whole decisions into terms ([`terms`]); [`properties`] says in a line each
//! what is asked of them; [`solver`] decides; [`scene`] joins the three and replays what comes back; [`checks`] make findings.
//!
//! SOUNDNESS. Three arguments carry every verdict:
//!
//! - *Coverage*: a flow is possible if and only if some channel's box holds it, and a view's decision depends on a channel
//!   through its kind and gateway alone; so a property holds of all flows if it holds on each channel and in each family.
//! - *Encoding*: the terms for a literal flow fold to the constants that [`compiler::eval`] gives; a property test holds the
//!   encoder to that over random projects, and holds Z3's reading of the terms to their evaluation.
//! - *Answers*: "there is none" is Z3's `unsat`, the one answer that is trusted. "There is one" always comes with a flow that
//!   the reference evaluator has confirmed, in release builds too; a flow that it does not confirm is a [`Fault`], never an
//!   answer. What the budget did not suffice for is PW0901.
//!
//! [`cover`] answers the same questions about dead and conflicting rules by taking boxes away from boxes, which is far quicker on
//! long lists. Z3 confirms what it finds covered, the evaluator what it finds left. In a long list the evaluator asks only the rules that
//! may match a flow ([`compiler::lists`]), which shares nothing with the boxes: it files rules by one condition each, and what it
//! does not leave out is asked by the rules' own sets.
//!
//! [`flows`] says what is decided on a channel as disjoint boxes. Tests, isolation and chains are decided by them: a flow that shows
//! something has been confirmed by the evaluator, and [`Options::certify`] has Z3 confirm that there is none.
//!
//! Owners in [`compiler::model::Model::tainted`] have declarations that were left out. What would be proved about their flows
//! need not hold for the policy that was meant, so these flows are skipped, and [`Verdicts::skipped`] says so.

pub mod checks;
pub mod cover;
pub mod diff;
pub mod encode;
pub mod flows;
pub mod paths;
pub mod properties;
pub mod query;
pub mod replay;
pub mod scene;
pub mod solver;
pub mod terms;
pub mod units;

mod verify;

pub use solver::Fault;
pub use verify::{Decided, Engine, Options, Verdicts, decide, verify};
