//! Lists that are hard on purpose: a rule that only hundreds of others take whole, none of them aligned to powers of two.

use crate::{generate, support};
use lang::codes::Code;
use lang::diag::Severity;
use partywall_verifier::{Options, decide, verify};
use std::collections::BTreeSet;
use std::fmt::Write as _;

fn project(rules: &[String]) -> String {
    let mut out = String::from(
        "fabric f {
  encap vxlan port 4789
  underlay mtu 9000 family ipv4
  precedence tenant
  delegate tenant
  unknown-vni drop
}
tenant all id 1 { segment net vni 1 { 10.0.0.0/8 } }
policy list for all in tenant {
",
    );
    for rule in rules {
        let _ = writeln!(out, "  {rule}");
    }
    out.push_str("  allow net -> net : tcp\n}\n");
    out
}

/// The `i`th of `n` parts of 10.0.0.0/8.
fn part(i: u32, n: u32) -> String {
    let at = |i: u32| std::net::Ipv4Addr::from((10 << 24) + ((u64::from(i) << 24) / u64::from(n)) as u32);
    let last = std::net::Ipv4Addr::from(u32::from(at(i + 1)) - 1);
    format!("net & {}..{last}", at(i))
}

fn board(n: u32) -> Vec<String> {
    let fields = (0..n).flat_map(|x| (0..n).map(move |y| (x, y)));
    let mut fields: Vec<(u32, u32)> = fields.collect();
    fields.sort_by_key(|(x, y)| (x + y) % 2);
    fields.into_iter().map(|(x, y)| format!("deny {} -> {} : tcp", part(x, n), part(y, n))).collect()
}

/// Every second stripe on both axes, then the other ones of the sources.
fn stripes(n: u32) -> Vec<String> {
    let even = (0..n).step_by(2);
    let crossed = even.flat_map(|i| {
        [format!("deny {} -> net : tcp", part(i, n)), format!("deny net -> {} : tcp", part(i, n))]
    });
    crossed.chain((1..n).step_by(2).map(|i| format!("deny {} -> net : tcp", part(i, n)))).collect()
}

fn last(rules: &[String]) -> String {
    format!("list#{}", rules.len() + 1)
}

#[test]
fn a_union_of_hundreds_is_named_and_confirmed() {
    for (rules, named) in [(board(24), 576), (stripes(200), 200)] {
        let c = support::clean(&project(&rules));
        let verdicts = verify(&c, &Options::default()).expect("no fault");
        let dead: Vec<_> = verdicts.diagnostics.iter().filter(|d| d.rules[0] == last(&rules)).collect();
        assert_eq!(dead.len(), 1, "{:#?}", support::lines(&verdicts));
        assert_eq!((dead[0].code, dead[0].severity), (Code::PW0402, Severity::Error));
        // The rule, and those without any one of which some of its flows would be its own.
        assert_eq!(dead[0].rules.len(), 1 + named);
        assert_eq!(verdicts.undecided, 0);
    }
}

#[test]
fn one_hole_in_a_board_is_found() {
    let mut rules = board(24);
    rules.swap_remove(301);
    let c = support::clean(&project(&rules));
    let verdicts = verify(&c, &Options::default()).expect("no fault");
    assert!(
        verdicts.diagnostics.iter().all(|d| d.rules[0] != last(&rules)),
        "{:?}",
        support::lines(&verdicts)
    );
}

/// What the budget does not suffice for is an error that says so and names the rule: neither alive nor dead.
#[test]
fn a_union_that_spends_the_budget_is_undecided() {
    let rules = board(12);
    let c = support::clean(&project(&rules));
    // Z3 is asked to confirm what boxes have covered; and, without boxes, to decide.
    for (work, question) in [
        (Options::DEFAULT_WORK, format!("whether `{}` ever decides is undecided", last(&rules))),
        (1_000, format!("whether `{}` ever decides is undecided", last(&rules))),
    ] {
        let spent = Options { budget: 500, work, ..Options::default() };
        let verdicts = verify(&c, &spent).expect("no fault");
        let about: Vec<_> = verdicts.diagnostics.iter().filter(|d| d.rules.contains(&last(&rules))).collect();
        assert_eq!(about.iter().map(|d| d.code).collect::<Vec<_>>(), [Code::PW0901], "{about:#?}");
        assert!(about[0].message.starts_with(&question), "{}", about[0].message);
        assert!(about[0].help.as_deref().is_some_and(|help| help.contains("--solver-budget")));
        assert_eq!((about[0].severity, verdicts.undecided > 0), (Severity::Error, true));
    }
}

/// What is decided for measuring is what is then confirmed and told.
#[test]
fn deciding_alone_says_what_is_told() {
    let (mut dead, mut redundant, mut overruled) = (0, 0, 0);
    for seed in 0..150 {
        let (c, _) = support::compile(&support::with_logs(&generate::project(seed)));
        if !c.model.tainted.is_empty() {
            continue;
        }
        let verdicts = verify(&c, &Options::default()).expect("no fault");
        let decided = decide(&c, &Options::default()).expect("no fault").expect("few boxes");
        let owned = |name: &str| {
            let rule = c.model.rules.values().find(|rule| rule.name == name);
            rule.is_some_and(|rule| c.model.policies[rule.policy].owner.is_some())
        };
        let told = |codes: &[Code], note: bool| -> BTreeSet<&str> {
            let of = |d: &&lang::diag::Diagnostic| {
                codes.contains(&d.code) && (d.severity == Severity::Note) == note && owned(&d.rules[0])
            };
            verdicts.diagnostics.iter().filter(of).map(|d| &*d.rules[0]).collect()
        };
        let names = |ids: &BTreeSet<_>| -> BTreeSet<&str> {
            ids.iter().map(|id| &*c.model.rules[*id].name).collect()
        };
        assert_eq!(names(&decided.dead), told(&[Code::PW0402, Code::PW0404], false), "seed {seed}");
        assert_eq!(names(&decided.redundant), told(&[Code::PW0403], false), "seed {seed}");
        assert_eq!(names(&decided.overruled), told(&[Code::PW0404], true), "seed {seed}");
        assert_eq!(
            decided.conflicts.len(),
            verdicts.diagnostics.iter().filter(|d| d.code == Code::PW0401).count(),
            "seed {seed}"
        );
        dead += decided.dead.len();
        redundant += decided.redundant.len();
        overruled += decided.overruled.len();
    }
    assert!(dead > 10 && redundant > 10 && overruled > 10, "{dead} {redundant} {overruled}");
}
