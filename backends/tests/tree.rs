//! The rules that lead to routing rules, walked as the kernel walks them.

use partywall_backends::iproute2::{FEW_TABLES, PREFERENCE, preference, rule_line, tree};
use std::collections::BTreeMap;

/// What a rule does to a packet whose mark it matches.
#[derive(Debug, Clone, PartialEq)]
enum Does {
    Goto(u32),
    Table(u32),
    Nothing,
}

#[derive(Debug, Clone)]
struct Rule {
    mark: u32,
    mask: u32,
    does: Does,
}

fn number(text: &str) -> u32 {
    text.strip_prefix("0x").map_or_else(|| text.parse().unwrap(), |hex| u32::from_str_radix(hex, 16).unwrap())
}

fn read(line: &str) -> (u32, Rule) {
    let words: Vec<&str> = line.strip_prefix("rule add ").unwrap().split(' ').collect();
    let after = |name: &str| words.iter().position(|w| *w == name).map(|at| words[at + 1]);
    let (mark, mask) = after("fwmark").map_or((0, 0), |fwmark| {
        let (mark, mask) = fwmark.split_once('/').unwrap();
        (number(mark), number(mask))
    });
    let does = match (after("goto"), after("table")) {
        (Some(to), None) => Does::Goto(number(to)),
        (None, Some(table)) => Does::Table(number(table)),
        _ => Does::Nothing,
    };
    (number(after("preference").unwrap()), Rule { mark, mask, does })
}

/// The table that a mark leads to, and how many rules were asked (`fib_rules_lookup`).
fn lookup(rules: &BTreeMap<u32, Vec<Rule>>, mark: u32) -> (Option<u32>, usize) {
    let (mut from, mut asked) = (0, 0);
    'again: loop {
        for rule in rules.range(from..).flat_map(|(_, list)| list) {
            asked += 1;
            if (mark ^ rule.mark) & rule.mask != 0 {
                continue;
            }
            match rule.does {
                Does::Table(table) => return (Some(table), asked),
                Does::Goto(to) if rules.contains_key(&to) => {
                    from = to;
                    continue 'again;
                }
                _ => {}
            }
        }
        return (None, asked);
    }
}

fn rules(tables: &[u32]) -> BTreeMap<u32, Vec<Rule>> {
    let mut out: BTreeMap<u32, Vec<Rule>> = BTreeMap::new();
    for line in tree().into_iter().chain(tables.iter().map(|table| rule_line(*table))) {
        let (preference, rule) = read(&line);
        out.entry(preference).or_default().push(rule);
    }
    out
}

#[test]
fn every_table_is_found_and_by_few_rules() {
    // Tenants, legs to gateways and externals, in both slots.
    let tenants = (0..1_000).map(|n| 0x5000_0000 + 2 * n);
    let legs = (0..200).map(|n| 0x6000_0000 + ((n % 16) << 25) + 2 * (10_000 + 7 * n));
    let externals = (0..20).map(|n| 0x4000_0000 + 2 * ((n * 0x000c_a5ad) & 0x00ff_ffff));
    let tables: Vec<u32> = tenants.chain(legs).chain(externals).flat_map(|t| [t, t + 1]).collect();
    let rules = rules(&tables);
    let mut most = 0;
    for table in &tables {
        let (found, asked) = lookup(&rules, *table);
        assert_eq!(found, Some(*table));
        assert_eq!(preference(*table), preference(table & !1), "both slots are in one leaf");
        most = most.max(asked);
    }
    assert!(most <= 1 + 6 + 2 * tables.len().div_ceil(64), "{most} rules asked");
    for mark in [0, 1, 0x0800_0002, 0x1234_5678 & !0x4000_0000] {
        assert_eq!(lookup(&rules, mark), (None, 2), "what has no table of ours passes all at once");
    }
}

#[test]
fn whatever_is_missing_of_the_tree_a_table_is_found() {
    let tables: Vec<u32> = (0..300).map(|n| 0x5000_0000 + 2 * n * 37).collect();
    let whole = rules(&tables);
    for gone in tree().iter().map(|line| read(line).0) {
        let mut rules = whole.clone();
        if let Some(list) = rules.get_mut(&gone) {
            list.retain(|rule| matches!(rule.does, Does::Table(_)));
            if list.is_empty() {
                rules.remove(&gone);
            }
        }
        for table in &tables {
            assert_eq!(lookup(&rules, *table).0, Some(*table), "without {gone}");
        }
    }
}

#[test]
fn ours_end_where_others_are_told_to_begin() {
    let lines = tree();
    let preferences: Vec<u32> = lines.iter().map(|line| read(line).0).collect();
    assert!(preferences.is_sorted());
    assert_eq!(preferences.last(), Some(&PREFERENCE));
    assert!((0..1_000).all(|table| preference(table) < PREFERENCE));
    assert!(FEW_TABLES < lines.len());
}
