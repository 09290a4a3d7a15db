//! The checks against brute force: one packet for every class of addresses and services, decided by the evaluator.
//!
//! `PARTYWALL_PROJECTS` sets the number of projects.

#[path = "../../tests/differential/brute.rs"]
mod brute;
#[path = "../../tests/differential/generate.rs"]
mod generate;
mod support;

use brute::Brute;
use lang::codes::Code;
use lang::diag::Severity;
use std::collections::{BTreeMap, BTreeSet};

#[test]
fn the_checks_find_what_enumeration_finds() {
    let projects: u64 = std::env::var("PARTYWALL_PROJECTS").ok().map_or(40, |v| v.parse().expect("a number"));
    let mut seen: BTreeMap<Code, usize> = BTreeMap::new();
    for seed in 0..projects {
        let text = generate::project(seed);
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
                .filter(|d| codes.contains(&d.code))
                .map(|d| if d.code == Code::PW0401 { d.rules.clone() } else { d.rules.iter().take(1).cloned().collect() })
                .collect()
        };
        assert_eq!(names(&[Code::PW0402, Code::PW0404]), brute.dead(), "dead rules, seed {seed}\n{text}");
        assert_eq!(names(&[Code::PW0401]), brute.conflicts(), "conflicts, seed {seed}\n{text}");
        let spans = |code: Code| -> BTreeSet<_> {
            verdicts.diagnostics.iter().filter(|d| d.code == code).map(|d| d.span).collect()
        };
        assert_eq!(spans(Code::PW0502), brute.direct(), "isolate, seed {seed}\n{text}");
        assert_eq!(spans(Code::PW0503), brute.chains(), "chains, seed {seed}\n{text}");
        assert_eq!(spans(Code::PW0701), brute.failing(), "tests, seed {seed}\n{text}");
    }
    for code in [Code::PW0401, Code::PW0402, Code::PW0404, Code::PW0502, Code::PW0503, Code::PW0701] {
        assert!(seen.contains_key(&code), "no project shows {code}: {seen:?}");
    }
}
