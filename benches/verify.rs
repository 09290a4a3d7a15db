//! How long a whole check takes, against what there is without it, in one run: a question to Z3 for every rule, a comparison of every
//! pair of rules, and Aerleon's shade check.
//!
//! ```text
//! cargo bench --bench verify                 all inputs
//! cargo bench --bench verify -- NAME…        those whose names contain one of these
//! ```
//!
//! *decide* is what boxes take to say which rules are dead, redundant or overruled and which conflict; *verify* also finds the rules to
//! name and the witnesses, and confirms every verdict.
//!
//! `PARTYWALL_CLASSBENCH` names the folder of the filter sets (`../shared/data/classbench` beside the repository if it is not set),
//! `PARTYWALL_AERLEON` the `aclgen` of an Aerleon installation, `PARTYWALL_SECONDS` how long the question-per-rule baseline may
//! go on for one input (10). What is not there is named and left out.

#[path = "support/aerleon.rs"]
mod aerleon;
#[path = "support/baselines.rs"]
mod baselines;
#[path = "support/child.rs"]
mod child;
#[path = "support/classbench.rs"]
mod classbench;
#[path = "support/compiled.rs"]
mod compiled;
#[path = "support/fleet.rs"]
mod fleet;
#[path = "support/lists.rs"]
mod lists;
#[path = "support/measure.rs"]
mod measure;

use baselines::{Came, Lists};
use compiler::ids::RuleId;
use fleet::Size;
use lang::codes::Code;
use lang::diag::Severity;
use measure::{line, median};
use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

const RUNS: usize = 3;
/// Longer lists take Aerleon minutes.
const AERLEON_RULES: usize = 2_000;
const PAIRWISE: Duration = Duration::from_secs(30);

type Files = Vec<(String, String)>;
type Make = Box<dyn Fn() -> Files>;

fn main() {
    let wanted: Vec<String> = std::env::args().skip(1).filter(|arg| arg != "--bench").collect();
    let inputs = inputs();
    let chosen = |name: &str| wanted.is_empty() || wanted.iter().any(|w| name.contains(w.as_str()));
    let aclgen = aerleon::found();
    if aclgen.is_none() {
        line(
            "SKIPPED: Aerleon. `PARTYWALL_AERLEON` names no `aclgen` (python3 -m venv, pip install aerleon).",
        );
    }
    line(&format!(
        "{:<22} {:>7} {:>5} {:>6} | {:>10} {:>9} {:>9} {:>9} | {:>28} {:>8} | {:>20} {:>7} {:>6} | {}",
        "input",
        "rules",
        "dead",
        "redun.",
        "text→report",
        "decide",
        "verify",
        "peak",
        "Z3, one question per rule",
        "×",
        "pairwise",
        "×",
        "misses",
        "Aerleon"
    ));
    for (name, make) in inputs {
        if chosen(&name) {
            measure(&name, &make(), aclgen.as_deref());
        }
    }
}

/// Inputs by name.
fn inputs() -> Vec<(String, Make)> {
    let one = |rules: Vec<String>| vec![("list.pw".to_owned(), classbench::project(&rules))];
    let mut out: Vec<(String, Make)> = Vec::new();
    let folder = classbench::folder();
    for set in ["acl1_1k", "fw1_1k", "ipc1_1k", "acl1_10k", "ipc1_10k", "fw1_10k"] {
        match std::fs::read_to_string(folder.join(set)) {
            Ok(text) => out.push((set.to_owned(), Box::new(move || one(classbench::rules(&text))))),
            Err(e) => line(&format!("SKIPPED: {set}. {}: {e}", folder.join(set).display())),
        }
    }
    for (tenants, rules) in [(1_000, 100), (10_000, 20)] {
        let make = move || fleet::files(Size { tenants, rules });
        out.push((format!("fleet {tenants}×{rules}"), Box::new(make)));
    }
    out.push(("100k, acl-like".to_owned(), Box::new(move || one(lists::generated(100_000, 4, 1)))));
    out.push(("100k, fw-like".to_owned(), Box::new(move || one(lists::generated(100_000, 45, 2)))));
    out.push(("stripes 200".to_owned(), Box::new(move || one(lists::stripes(200, false)))));
    out.push(("stripes 200, all".to_owned(), Box::new(move || one(lists::stripes(200, true)))));
    out.push(("board 24×24, a hole".to_owned(), Box::new(move || one(lists::checkerboard(24, 1)))));
    out.push(("board 24×24, all".to_owned(), Box::new(move || one(lists::checkerboard(24, 0)))));
    out.push(("board 4×4×4×4, all".to_owned(), Box::new(move || one(lists::hyperboard(4)))));
    out
}

fn measure(name: &str, files: &Files, aclgen: Option<&Path>) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    for (path, text) in files {
        let path = folder.path().join(path);
        std::fs::create_dir_all(path.parent().expect("a file has a folder")).expect("the folder can be made");
        std::fs::write(path, text).expect("the file can be written");
    }
    let mut runs: Vec<child::Ran> = (0..RUNS).map(|_| check(folder.path())).collect();
    runs.sort_by(|a, b| a.seconds.total_cmp(&b.seconds));
    let whole = &runs[RUNS / 2];

    let compiled = compiled::compile(files);
    let options = verifier::Options::default();
    let verify = || verifier::verify(&compiled, &options).expect("the engines agree");
    let verified = median(RUNS, verify);
    let verdicts = verify();
    let decide = || verifier::decide(&compiled, &options).expect("boxes alone");
    let decided = median(RUNS, decide);
    assert_eq!(verdicts.undecided, 0, "{name}");
    let named = |codes: &[Code]| -> BTreeSet<&str> {
        let found =
            verdicts.diagnostics.iter().filter(|d| codes.contains(&d.code) && d.severity != Severity::Note);
        found.filter_map(|d| d.rules.first().map(|rule| &**rule)).collect()
    };
    let (dead, redundant) = (named(&[Code::PW0402, Code::PW0404]), named(&[Code::PW0403]));
    // What was decided is what was then confirmed and told.
    let said = decide().unwrap_or_else(|| panic!("{name}: too wide for boxes"));
    let names = |ids: &BTreeSet<RuleId>| -> BTreeSet<&str> {
        ids.iter().map(|id| &*compiled.model.rules[*id].name).collect()
    };
    assert_eq!((names(&said.dead), names(&said.redundant)), (dead.clone(), redundant.clone()), "{name}");
    // The report of the binary is about the same.
    let report: serde_json::Value = serde_json::from_str(&whole.stdout).expect("a report in JSON");
    let reported = report["findings"].as_array().expect("a list of findings").iter();
    let shadowed = reported.filter(|f| f["code"] == "PW0402").count();
    assert_eq!(shadowed, named(&[Code::PW0402]).len(), "{name}");

    let lists = Lists::of(&compiled);
    let z3 = lists.z3(Duration::from_secs(seconds()));
    let pairwise = lists.pairwise(PAIRWISE);
    for (baseline, exact) in [(&z3, true), (&pairwise, false)] {
        for rule in &baseline.dead {
            let rule = &*compiled.model.rules[*rule].name;
            assert!(dead.contains(rule), "{name}: `{rule}` is dead for a baseline alone");
        }
        // Asked about every rule, Z3 must have found them all.
        assert!(!exact || baseline.asked < baseline.of || baseline.dead.len() == dead.len(), "{name}");
    }
    let misses = if pairwise.asked == pairwise.of {
        (dead.len() - pairwise.dead.len()).to_string()
    } else {
        "?".to_owned()
    };
    let shade = match aclgen {
        None => "skipped".to_owned(),
        Some(_) if lists.lists.len() != 1 || z3.of > AERLEON_RULES => "left out: too long".to_owned(),
        Some(aclgen) => {
            let said = aerleon::shade(aclgen, &lists);
            format!(
                "{:.1} s for {} rules, {} shaded, {:.0} ×",
                said.seconds,
                said.given,
                said.shaded,
                said.seconds / whole.seconds
            )
        }
    };
    line(&format!(
        "{name:<22} {:>7} {:>5} {:>6} | {:>8.3} s {:>7.3} s {:>7.3} s {:>5.0} MiB | {:>28} {:>8.0} | {:>20} {:>7.2} {misses:>6} | {shade}",
        z3.of,
        dead.len(),
        redundant.len(),
        whole.seconds,
        decided,
        verified,
        whole.peak_mib,
        came(&z3),
        z3.seconds / verified,
        came(&pairwise),
        pairwise.seconds / verified,
    ));
}

/// Seconds, and of how many rules they were extrapolated.
fn came(baseline: &Came) -> String {
    if baseline.asked == baseline.of {
        format!("{:.3} s", baseline.seconds)
    } else {
        format!("{:.0} s, sampled {} of {}", baseline.seconds, baseline.asked, baseline.of)
    }
}

fn seconds() -> u64 {
    std::env::var("PARTYWALL_SECONDS").map_or(10, |text| text.parse().expect("a number of seconds"))
}

fn check(project: &Path) -> child::Ran {
    let mut command = Command::new(env!("CARGO_BIN_EXE_partywall"));
    child::run(command.arg("check").arg(project).args(["--format", "json", "--today", "2026-06-01"]))
}
