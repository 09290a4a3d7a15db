//! The engine of boxes against Z3 alone, on random projects: the same findings, to the last word.
//!
//! `PARTYWALL_PROJECTS` sets the number of projects.

use crate::{generate, support};
use compiler::algebra::Family;
use compiler::ids::RuleId;
use lang::codes::Code;
use partywall_verifier::checks::Task;
use partywall_verifier::checks::redundant::Gone;
use partywall_verifier::checks::shadow::Blocker;
use partywall_verifier::cover::certify::{Certificate, Subject, certify};
use partywall_verifier::{Engine, Fault, Options, verify};
use std::collections::BTreeMap;

#[test]
fn both_engines_find_the_same() {
    let projects: u64 = std::env::var("PARTYWALL_PROJECTS").ok().map_or(60, |v| v.parse().expect("a number"));
    let mut seen: BTreeMap<Code, usize> = BTreeMap::new();
    // The last one: a blocker whose services overlap each other.
    for seed in (50_000..50_000 + projects).chain([50_304]) {
        let text = support::with_logs(&generate::project(seed));
        let (c, _) = support::compile(&text);
        let found = |engine, work| {
            let options = Options { engine, certify: true, work, ..Options::default() };
            let verdicts = verify(&c, &options).unwrap_or_else(|e| panic!("seed {seed}: {e}\n{text}"));
            assert_eq!(verdicts.undecided, 0, "seed {seed}");
            verdicts.diagnostics
        };
        let boxes = found(Engine::Boxes, Options::DEFAULT_WORK);
        assert_eq!(boxes, found(Engine::Z3, 0), "seed {seed}\n{text}");
        // Some questions are too much for boxes then.
        assert_eq!(boxes, found(Engine::Boxes, seed % 50), "with little work, seed {seed}\n{text}");
        for d in &boxes {
            *seen.entry(d.code).or_default() += 1;
        }
    }
    for code in [Code::PW0401, Code::PW0402, Code::PW0403, Code::PW0404] {
        assert!(seen.contains_key(&code), "no project shows {code}: {seen:?}");
    }
}

#[test]
fn a_false_certificate_is_a_fault() {
    let c = support::clean(
        "fabric prod {
  encap vxlan port 4789
  underlay mtu 9000 family ipv4
  precedence tenant
  delegate tenant
  unknown-vni drop
}
node c1 { vtep 192.0.2.11 dev eth0 }
tenant shop id 1 { segment front vni 10 { 10.1.0.0/24 } }
policy app for shop in tenant {
  low:  deny front & 10.1.0.0/25 -> any
  high: deny front & 10.1.0.128/25 -> any
  rest: allow front -> any
}",
    );
    let rules: Vec<_> = c.model.rules.ids().collect();
    let certificate = |by: &[RuleId]| Certificate {
        subject: Subject::Rule(rules[2]),
        tenant: c.channels.values().next().expect("the tenant's own flows").src,
        channel: c.channels.ids().next().expect("the tenant's own flows"),
        family: Family::V4,
        by: by.iter().copied().map(Blocker::Rule).collect(),
    };
    let (budget, work) = (Options::DEFAULT_BUDGET, Options::DEFAULT_WORK);
    let task = Task { c: &c, budget, certify: true, work, replay: true };
    assert_eq!(certify(task, &[certificate(&rules[..2])], &Gone::new()), Ok(Vec::new()));
    for fewer in [&rules[..1], &rules[1..2], &rules[2..], &[]] {
        let told = certify(task, &[certificate(&rules[..2]), certificate(fewer)], &Gone::new());
        assert!(matches!(told, Err(Fault::Mismatch { .. })), "{fewer:?}: {told:?}");
    }
}
