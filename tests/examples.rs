//! The examples: what `check` and `eval` say of each is kept beside it. `BLESS=1` rewrites what is kept.

mod support;

use lang::codes::Code;
use std::collections::BTreeSet;
use std::path::PathBuf;
use support::{TODAY, check, findings, golden, report, root, run, run_with};

/// Codes that a project of policy files alone cannot show, or that belong to parts that are not built.
const NOT_IN_ONE_PROJECT: &[Code] = &[
    // The file is read no further, or cut off: nothing else in it would be seen.
    Code::PW0007,
    Code::PW0008,
    Code::PW0010,
    // No check looks for them yet.
    // Of targets and emitted configuration.
    Code::PW0801,
    Code::PW0802,
    Code::PW0803,
    // A matter of the solver's budget.
    Code::PW0901,
];

fn examples() -> Vec<PathBuf> {
    let examples = support::cases(&root().join("examples"));
    assert!(examples.len() >= 3);
    examples
}

#[test]
fn check_says_what_is_kept() {
    let mut complaints = Vec::new();
    for example in examples() {
        let relative = example.strip_prefix(root()).unwrap().to_str().unwrap().to_owned();
        // The one with findings is kept in the short form: a line each.
        let format = if relative.ends_with("03-broken") { "concise" } else { "human" };
        let run = run(["check", &relative, "--today", TODAY, "--format", format, "--color", "never"]);
        assert!(run.status < 2, "{relative}: {}", run.stderr);
        complaints.extend(golden(&example.join("expected/check.txt"), &run.stdout));
    }
    report(&complaints);
}

#[test]
fn eval_answers_what_is_kept() {
    let mut complaints = Vec::new();
    let mut asked = 0;
    for example in examples() {
        let Ok(packets) = std::fs::read(example.join("expected/packets.jsonl")) else { continue };
        asked += 1;
        let run = run_with(["eval", example.to_str().unwrap(), "--today", TODAY], &packets).expect(0);
        complaints.extend(golden(&example.join("expected/eval.jsonl"), &run.stdout));
    }
    assert!(asked >= 2, "the clean examples have packets");
    report(&complaints);
}

#[test]
fn the_clean_ones_are_clean_and_laid_out() {
    for example in ["examples/01-quickstart", "examples/02-datacenter"] {
        assert_eq!(findings(&check(&root().join(example))), [] as [serde_json::Value; 0], "{example}");
        run(["fmt", "--check", example]).expect(0);
    }
}

#[test]
fn the_broken_one_shows_each_kind_of_finding() {
    let document = check(&root().join("examples/03-broken"));
    let mut missing: BTreeSet<Code> = Code::ALL.iter().copied().collect();
    for finding in findings(&document) {
        missing.remove(&Code::parse(finding["code"].as_str().unwrap()).unwrap());
        assert_ne!(finding["message"], "", "{finding}");
    }
    missing.retain(|code| !NOT_IN_ONE_PROJECT.contains(code));
    assert!(missing.is_empty(), "{missing:?}");
}
