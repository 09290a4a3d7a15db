//! Tests of the verifier through its public surface, in one crate.
//!
//! `PARTYWALL_PROJECTS` sets how many random projects the differential tests take, `PARTYWALL_PACKETS` how many packets of
//! each (0: all that lie on a boundary).

#![cfg(test)]

#[path = "../../../tests/differential/boundary.rs"]
mod boundary;
#[path = "../../../tests/differential/brute.rs"]
mod brute;
#[path = "../../../tests/differential/generate.rs"]
mod generate;

mod checks;
mod classbench;
mod diff;
mod differential;
mod encoding;
mod engines;
mod examples;
mod flows;
mod hard;
mod invariants;
mod paths;
mod paths_random;
mod query;
mod representatives;
mod solver;
mod support;
