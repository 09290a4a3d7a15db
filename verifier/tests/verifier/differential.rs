//! The checks against brute force: one packet for every class of addresses and services, decided by the evaluator.
//!
//! `PARTYWALL_PROJECTS` sets the number of projects.

use crate::brute::Brute;
use crate::{generate, support};
use compiler::eval;
use compiler::lists::List;
use compiler::model::Policy;
use compiler::{Compiled, wire};
use lang::codes::Code;
use lang::diag::{Diagnostic, Severity};
use std::collections::{BTreeMap, BTreeSet};

#[test]
fn the_checks_find_what_enumeration_finds() {
    let projects: u64 = std::env::var("PARTYWALL_PROJECTS").ok().map_or(40, |v| v.parse().expect("a number"));
    let mut seen: BTreeMap<Code, usize> = BTreeMap::new();
    let (mut witnessed, mut notes) = (0, 0);
    // The last ones: an exposure stands after a tier that decides what a rule below it would say again.
    for seed in (0..projects).chain([3_527, 11_852, 19_004]) {
        let text = support::with_logs(&generate::project(seed));
        let (c, diagnostics) = support::compile(&text);
        if std::env::var("PARTYWALL_DEBUG").is_ok() {
            for d in diagnostics.iter().filter(|d| d.severity == Severity::Error) {
                eprintln!("seed {seed}: {} {}", d.code, d.message);
            }
        }
        if !c.model.tainted.is_empty() {
            continue;
        }
        let verdicts = support::verify(&c);
        assert_eq!(verdicts.undecided, 0, "seed {seed}");
        for d in &verdicts.diagnostics {
            *seen.entry(d.code).or_default() += 1;
        }
        let brute = Brute::new(&c);
        let names = |codes: &[Code]| -> BTreeSet<Vec<String>> {
            verdicts
                .diagnostics
                .iter()
                .filter(|d| codes.contains(&d.code) && d.severity != Severity::Note)
                .map(|d| {
                    if d.code == Code::PW0401 {
                        d.rules.clone()
                    } else {
                        d.rules.iter().take(1).cloned().collect()
                    }
                })
                .collect()
        };
        assert_eq!(names(&[Code::PW0402, Code::PW0404]), brute.dead(), "dead rules, seed {seed}\n{text}");
        assert_eq!(names(&[Code::PW0401]), brute.conflicts(), "conflicts, seed {seed}\n{text}");
        let first = |keep: &dyn Fn(&Diagnostic) -> bool| -> BTreeSet<String> {
            verdicts.diagnostics.iter().filter(|d| keep(d)).map(|d| d.rules[0].clone()).collect()
        };
        let redundant = first(&|d| d.code == Code::PW0403);
        assert_eq!(redundant, brute.redundant(), "redundant rules, seed {seed}\n{text}");
        let overruled = first(&|d| d.code == Code::PW0404 && d.severity == Severity::Note);
        assert_eq!(overruled, brute.overruled(), "notes, seed {seed}\n{text}");
        notes += overruled.len();
        let spans = |code: Code| -> BTreeSet<_> {
            verdicts.diagnostics.iter().filter(|d| d.code == code).map(|d| d.span).collect()
        };
        assert_eq!(spans(Code::PW0502), brute.direct(), "isolate, seed {seed}\n{text}");
        assert_eq!(spans(Code::PW0503), brute.chains(), "chains, seed {seed}\n{text}");
        assert_eq!(spans(Code::PW0701), brute.failing(), "tests, seed {seed}\n{text}");
        let matching_nothing: BTreeSet<String> = diagnostics
            .iter()
            .filter(|d| d.code == Code::PW0405)
            .flat_map(|d| d.rules.iter().cloned())
            .collect();
        assert_eq!(
            matching_nothing,
            brute.matching_nothing(),
            "rules that match nothing, seed {seed}\n{text}"
        );
        for d in &verdicts.diagnostics {
            witnessed += usize::from(witness_shows(&c, d));
        }
    }
    assert!(witnessed > seen.values().sum::<usize>() / 2, "{witnessed} of {seen:?}");
    assert!(notes > 0, "no project shows a note");
    for code in
        [Code::PW0401, Code::PW0402, Code::PW0403, Code::PW0404, Code::PW0502, Code::PW0503, Code::PW0701]
    {
        assert!(seen.contains_key(&code), "no project shows {code}: {seen:?}");
    }
}

/// Short policies filed as long ones are, whatever the width of their slots.
#[test]
fn first_match_by_list_is_first_match() {
    let (mut asked, mut found) = (0, 0);
    for seed in 0..20 {
        let (c, _) = support::compile(&generate::project(seed));
        let brute = Brute::new(&c);
        let lists: Vec<(&Policy, Vec<List>)> = c
            .model
            .policies
            .values()
            .map(|policy| (policy, [0, 1, 3, 32].map(|w| List::new(&c.model.rules, &policy.rules, w)).into()))
            .collect();
        for (_, flow) in brute.flows().iter().step_by(7) {
            for (policy, lists) in &lists {
                for from in 0..policy.rules.len() {
                    let matches = |at: &usize| eval::matches(&c.model.rules[policy.rules[*at]], flow);
                    let first = (from..policy.rules.len()).find(matches);
                    asked += 1;
                    found += usize::from(first.is_some());
                    for list in lists {
                        let at = list.first(flow, from as u32, |at| matches(&(at as usize)));
                        assert_eq!(at.map(|at| at as usize), first, "seed {seed}: {flow:?}");
                    }
                }
            }
        }
    }
    assert!(asked > 10_000 && found > asked / 10, "{found} of {asked}");
}

/// Whether the finding has a witness; if so, `eval` must show the finding on it.
fn witness_shows(c: &Compiled, d: &Diagnostic) -> bool {
    let Some(witness) = &d.witness else { return false };
    let evaluator = wire::Evaluator::new(c);
    assert_eq!(evaluator.line(&witness.packet_json), (witness.decision_json.clone(), false), "{d:#?}");
    let decision = evaluator.decide(&witness.packet_json).expect("a packet");
    let named: Vec<&str> =
        [&decision.rule, &decision.ingress_rule].into_iter().flatten().map(|r| &**r).collect();
    let allowed = witness.decision_json.contains(r#""verdict":"allow""#);
    match d.code {
        Code::PW0401 => assert!(!allowed, "{d:#?}"),
        Code::PW0402 | Code::PW0404 => assert!(!named.contains(&&*d.rules[0]), "{d:#?}"),
        Code::PW0502 | Code::PW0503 => assert!(allowed, "{d:#?}"),
        _ => {}
    }
    true
}
