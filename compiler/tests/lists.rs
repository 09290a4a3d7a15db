//! Policies that are long enough to be filed: what decides in them is what asking one rule after the other says.

use lang::ast::Date;
use lang::span::FileId;
use partywall_compiler::algebra::Family;
use partywall_compiler::eval;
use partywall_compiler::ids::{Id as _, PolicyId, RuleId};
use partywall_compiler::lists::{List, SHORT};
use partywall_compiler::packet::{End, Flow};
use partywall_compiler::{Compiled, SourceFile, compile};
use proptest::prelude::*;
use std::fmt::Write as _;

const TODAY: Date = Date { year: 2026, month: 6, day: 1 };

const OWNERS: &str = "fabric f {\n  encap vxlan port 4789\n  underlay mtu 9000 family ipv4\n  precedence platform > tenant\n  \
                      delegate tenant\n  unknown-vni drop\n}\n\
                      tenant a id 1 { segment s vni 1 { 10.0.0.0/16, 2001:db8:a::/64 } }\n\
                      tenant b id 2 { segment s vni 2 { 10.0.0.0/16, 2001:db8:b::/64 } }\n";

/// One end of a rule: an address, a prefix, a wide one, several, another owner, none in particular.
fn end() -> impl Strategy<Value = String> {
    prop_oneof![
        4 => (0..40_u8).prop_map(|n| format!("a.s & 10.0.0.{n}")),
        2 => (0..8_u8).prop_map(|n| format!("a.s & 10.0.{n}.0/24")),
        1 => (0..4_u8, 1..5_u8).prop_map(|(n, m)| format!("a.s & 10.0.{n}.{m}..10.0.{}.7", n + m)),
        1 => (0..40_u8).prop_map(|n| format!("(a.s & 10.0.0.{n} | b.s & 10.0.0.{n})")),
        2 => (0..40_u8).prop_map(|n| format!("a.s & 2001:db8:a::{n:x}")),
        1 => Just("a".to_owned()),
        1 => Just("b".to_owned()),
        1 => (0..4_u8).prop_map(|n| format!("any & 10.0.{n}.0/24")),
        1 => Just("any".to_owned()),
    ]
}

fn service() -> impl Strategy<Value = String> {
    prop_oneof![
        4 => (1..60_u16).prop_map(|port| format!("tcp/{port}")),
        1 => (1..60_u16).prop_map(|port| format!("udp/{port}..{}", port + 30)),
        1 => (1..60_u16).prop_map(|port| format!("tcp/{port} from 1024..65535")),
        1 => Just("icmp/8".to_owned()),
        1 => Just("proto/47".to_owned()),
        1 => Just("ip".to_owned()),
    ]
}

fn rule() -> impl Strategy<Value = String> {
    let verdict = prop_oneof![Just("allow"), Just("deny"), Just("pass")];
    prop_oneof![
        30 => (verdict.clone(), end(), end(), service()).prop_map(|(v, s, d, p)| format!("{v} {s} -> {d} : {p}")),
        1 => (verdict, service()).prop_map(|(v, p)| format!("{v} same-tenant : {p}")),
    ]
}

fn compiled(rules: &[String]) -> Compiled {
    let mut text = OWNERS.to_owned() + "policy p in platform {\n";
    for rule in rules {
        let _ = writeln!(text, "  {rule}");
    }
    text.push_str("}\n");
    let parsed = lang::parse(FileId(0), &text);
    assert!(parsed.diagnostics.is_empty(), "{:?}", parsed.diagnostics.first());
    let file = SourceFile { id: FileId(0), path: "p.pw", text: &text, tree: &parsed.file };
    compile(&[file], TODAY).compiled
}

/// Flows between the edges of what rules name.
fn flows(c: &Compiled) -> Vec<Flow> {
    let owners: Vec<_> = c.model.owners.ids().collect();
    let v6 = |tenant: u128| 0x2001_0db8_000a_0000_0000_0000_0000_0000 + (tenant << 80);
    let mut out = Vec::new();
    for n in 0..60_u32 {
        for (src, dst) in [(0, 0), (0, 1), (1, 0), (1, 1)] {
            let (src, dst) = (owners[src], owners[dst]);
            let wide = |n: u32| u128::from(0x0a00_0000 + (n % 10) * 256 + n);
            let near = |n: u32| u128::from(0x0a00_0000 + n);
            for (family, s, d) in [
                (Family::V4, near(n), near(n * 7 % 41)),
                (Family::V4, wide(n), near(n * 3 % 41)),
                (Family::V4, near(n), wide(n * 5)),
                (Family::V6, v6(src.0.into()) + u128::from(n), v6(dst.0.into()) + u128::from(n * 7 % 41)),
            ] {
                for (protocol, x, y) in [(6, 40_000, n), (6, 80, n), (17, 5, n), (1, 8, 0), (47, 0, 0)] {
                    let (src, dst) = (End { owner: src, address: s }, End { owner: dst, address: d });
                    out.push(Flow { src, dst, family, protocol, x, y: u16::try_from(y).unwrap() });
                }
            }
        }
    }
    out
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    #[test]
    fn a_long_policy_is_decided_as_by_asking_every_rule(
        rules in prop::collection::vec(rule(), SHORT + 1..SHORT + 200),
    ) {
        let c = compiled(&rules);
        let policy = PolicyId::from_index(0);
        let ids = &c.model.policies[policy].rules;
        prop_assert_eq!(ids.len(), rules.len());
        prop_assert!(c.lists.of(&c.model, policy).is_some(), "it is filed");
        let odd = |id: RuleId| id.index() % 2 == 1;
        let lists = [0, 1, 4].map(|width| List::new(&c.model.rules, ids, width));
        let mut decided = 0;
        for flow in flows(&c) {
            let first = eval::scan(&c, policy, &flow);
            prop_assert_eq!(eval::first_match(&c, policy, &flow), first, "{:?}", flow);
            let matches = |at: u32| eval::matches(&c.model.rules[ids[at as usize]], &flow);
            for list in &lists {
                let at = list.first(&flow, 0, matches).map(|at| ids[at as usize]);
                prop_assert_eq!(at, first, "{:?}", flow);
            }
            if let Some(first) = first {
                decided += 1;
                let mut later = ids.iter().copied().filter(|id| *id > first && odd(*id));
                let next = later.find(|id| eval::matches(&c.model.rules[*id], &flow));
                prop_assert_eq!(eval::next_match(&c, first, &flow, odd), next, "{:?}", flow);
            }
        }
        prop_assert!(decided > 100, "{} decided", decided);
    }
}

/// The list leaves rules out: else it would be no use.
#[test]
fn few_rules_of_a_long_policy_are_asked() {
    let rules: Vec<String> = (0..2_000_u32)
        .map(|n| match n % 3 {
            0 => format!("allow a -> a.s & 10.0.{}.{} : tcp/80", n / 200, n % 200),
            1 => format!("allow a.s & 10.0.{}.{} -> a : tcp/80", n / 200, n % 200),
            _ => format!("deny a -> b : udp/{n}"),
        })
        .collect();
    let c = compiled(&rules);
    let list = c.lists.of(&c.model, PolicyId::from_index(0)).expect("it is filed");
    let most =
        flows(&c).iter().map(|flow| list.candidates(flow).map(<[u32]>::len).iter().sum::<usize>()).max();
    assert!(most.is_some_and(|most| most < 10), "{most:?} of {}", rules.len());
}
