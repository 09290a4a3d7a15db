//! Entries per rule on filter sets of ClassBench, next to what expanding each rule's ranges of ports to prefixes would need.

#[path = "../../../benches/support/classbench.rs"]
mod sets;

use super::common::text;
use super::lower;
use compiler::algebra::{Family, Prefix};
use compiler::sets::PairSet;
use partywall_backends::p4::Model;
use std::collections::BTreeSet;
use std::fmt::Write as _;

/// Addresses of one endpoint.
const ADDRESSES: usize = 32;

/// The fewest prefixes of a range of 16-bit numbers.
fn expansion((lo, hi): (u16, u16)) -> usize {
    let (mut lo, hi, mut count) = (u32::from(lo), u32::from(hi), 0);
    while lo <= hi {
        let mut size = if lo == 0 { 1 << 16 } else { 1 << lo.trailing_zeros() };
        while size > hi - lo + 1 {
            size /= 2;
        }
        lo += size;
        count += 1;
    }
    count
}

/// A set as a project in which every rule has ends to decide about: an address in each prefix that lies in no longer one, all on one node.
fn project(rules: &[String]) -> String {
    let prefixes: BTreeSet<Prefix> = rules
        .iter()
        .flat_map(|rule| {
            rule.split_whitespace()
                .filter(|word| word.contains('/') && word.starts_with(|c: char| c.is_ascii_digit()))
        })
        .map(|word| {
            let (address, length) = word.split_once('/').unwrap();
            let address: std::net::Ipv4Addr = address.parse().unwrap();
            Prefix::new(Family::V4, u32::from(address).into(), length.parse().unwrap())
        })
        .collect();
    let inside = |p: &&Prefix, a: u128| p.lo() <= a && a <= p.hi();
    let mut addresses = BTreeSet::new();
    for prefix in &prefixes {
        // The first address of the prefix, or of what follows each longer one in it.
        let longer: Vec<&Prefix> =
            prefixes.iter().filter(|p| p.len() > prefix.len() && inside(&prefix, p.lo())).collect();
        // 0.0.0.1 is the router's.
        let starts = std::iter::once(prefix.lo().max(2)).chain(longer.iter().map(|p| p.hi() + 1));
        let free = |a: &u128| inside(&prefix, *a) && !longer.iter().any(|p| inside(p, *a));
        addresses.extend(starts.filter(free).min());
    }
    let addresses: Vec<String> =
        addresses.into_iter().map(|a| std::net::Ipv4Addr::from(a as u32).to_string()).collect();
    let mut out = sets::project(rules);
    for (n, chunk) in addresses.chunks(ADDRESSES).enumerate() {
        let _ = writeln!(
            out,
            "endpoint e{n} in all.net {{ at {} mac 02:00:00:00:00:{n:02x} on c1 dev tap{n} }}",
            chunk.join(", ")
        );
    }
    out
}

struct Counted {
    rules: usize,
    /// Prefix expansion: of packets that open connections, and of those and their answers.
    expanded: (usize, usize),
    verdicts: u64,
    replies: u64,
    model: Model,
}

fn counted(rules: &[String]) -> Counted {
    let project = text(&project(rules));
    let c = &project.compiled;
    let mut expanded = (0, 0);
    for rule in c.model.rules.values() {
        assert!(matches!(rule.pairs, PairSet::Sets(..)));
        let each: usize = rule.service.boxes.iter().map(|b| expansion(b.x) * expansion(b.y)).sum();
        let answers = matches!(rule.action, compiler::model::Action::Allow { .. });
        expanded = (expanded.0 + each, expanded.1 + each + if answers { each } else { 0 });
    }
    let (id, _) = c.model.nodes.iter().next().unwrap();
    let model = lower(&project, id);
    Counted {
        rules: c.model.rules.len(),
        expanded,
        verdicts: model.entries.count("verdict"),
        replies: model.entries.count("reply"),
        model,
    }
}

#[test]
fn filter_sets_need_at_most_half_of_what_prefix_expansion_needs() {
    let folder = sets::folder();
    if !folder.is_dir() {
        eprintln!(
            "SKIPPED: no filter sets (`PARTYWALL_CLASSBENCH`, or ../shared/data/classbench beside the repository); nothing was counted"
        );
        return;
    }
    let mut table = String::from(
        "| set | rules | prefix expansion: openings, with answers | entries: `verdict`, `reply` | entries per rule | of openings with answers | of openings alone |\n|---|---|---|---|---|---|---|\n",
    );
    let sets: &[&str] = if cfg!(debug_assertions) {
        eprintln!(
            "SKIPPED: fw1_1k and ipc1_1k, which take minutes unoptimised: `cargo test --release -p partywall-backends --test p4 classbench`"
        );
        &["acl1_1k"]
    } else {
        &["acl1_1k", "fw1_1k", "ipc1_1k"]
    };
    for set in sets {
        let start = std::time::Instant::now();
        let rules = sets::rules(&std::fs::read_to_string(folder.join(set)).unwrap());
        let found = counted(&rules);
        let entries = found.verdicts + found.replies;
        let hundredths = |n: u64, of: usize| {
            let n = (n * 100 + of as u64 / 2) / of as u64;
            format!("{}.{:02}", n / 100, n % 100)
        };
        let _ = writeln!(
            table,
            "| {set} | {} | {}, {} | {}, {} | {} | {} | {} |",
            found.rules,
            found.expanded.0,
            found.expanded.1,
            found.verdicts,
            found.replies,
            hundredths(entries, found.rules),
            hundredths(entries, found.expanded.1),
            hundredths(found.verdicts, found.expanded.0)
        );
        println!("{set}: {:?}, {:?}", found.model.saved, start.elapsed());
        assert!(2 * entries <= found.expanded.1 as u64, "{table}");
    }
    println!("{table}");
}
