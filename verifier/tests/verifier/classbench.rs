//! Filter sets of ClassBench as projects: the numbers of rules that never decide, found independently by others.
//!
//! The sets lie next to the repository, in `../shared/data/classbench`. Without them the test says so and decides nothing.

#[path = "../../../benches/support/classbench.rs"]
mod sets;

use crate::support;
use lang::codes::Code;
use partywall_verifier::verify;

/// Set, rules, rules that never decide (`None`: no other tool could tell), rules that are needed: all allow, and the last ones
/// match everything.
const SETS: &[(&str, usize, Option<usize>, usize)] = &[
    ("acl1_1k", 942, Some(22), 1),
    ("fw1_1k", 857, Some(13), 1),
    ("ipc1_1k", 974, Some(0), 1),
    ("acl1_10k", 9_774, Some(81), 1),
    ("ipc1_10k", 9_518, Some(18), 2),
    ("fw1_10k", 9_379, None, 1),
];

#[test]
fn dead_rules_of_the_filter_sets() {
    let folder = sets::folder();
    if !folder.is_dir() {
        eprintln!(
            "SKIPPED: no filter sets (`PARTYWALL_CLASSBENCH`, or ../shared/data/classbench beside the repository); nothing was compared"
        );
        return;
    }
    for (name, rules, dead, needed) in SETS {
        let text = std::fs::read_to_string(folder.join(name)).expect("the set can be read");
        let compiled = support::clean(&sets::project(&sets::rules(&text)));
        assert_eq!(compiled.model.rules.len(), *rules, "{name}");
        let start = std::time::Instant::now();
        let verdicts = verify(&compiled, &Default::default()).expect("engines agree");
        let elapsed = start.elapsed();
        assert_eq!(verdicts.undecided, 0, "{name}");
        let found = verdicts.diagnostics.iter().filter(|d| d.code == Code::PW0402).count();
        let redundant = verdicts.diagnostics.iter().filter(|d| d.code == Code::PW0403).count();
        eprintln!("{name}: {found} dead rules, {redundant} redundant ones, {elapsed:?}");
        assert_eq!(found + redundant, verdicts.diagnostics.len(), "{name}");
        assert_eq!(redundant, rules - found - needed, "{name}");
        match dead {
            Some(dead) => assert_eq!(found, *dead, "{name}"),
            // 23 rules are covered by one other alone.
            None => assert!(found >= 23, "{name}: {found}"),
        }
    }
}
