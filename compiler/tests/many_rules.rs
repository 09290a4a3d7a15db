//! Projects of so many rules that they are lowered in parallel: what is said is what one policy after the other gives.

use lang::ast::Date;
use lang::codes::Code;
use lang::diag::Diagnostic;
use lang::span::FileId;
use partywall_compiler::{Compilation, SourceFile, compile};
use std::fmt::Write as _;

const TODAY: Date = Date { year: 2026, month: 6, day: 1 };

fn compiled(text: &str) -> Compilation {
    let parsed = lang::parse(FileId(0), text);
    assert!(parsed.diagnostics.is_empty(), "{:?}", parsed.diagnostics.first());
    let file = SourceFile { id: FileId(0), path: "p.pw", text, tree: &parsed.file };
    compile(&[file], TODAY)
}

/// A tenant with policies of so many rules; `extra` is what stands at the end of a policy.
fn project(policies: usize, rules: usize, extra: impl Fn(usize) -> String) -> String {
    let mut text = "fabric f {\n  encap vxlan port 4789\n  underlay mtu 9000 family ipv4\n  precedence tenant\n  \
                    delegate tenant\n  unknown-vni drop\n}\ntenant t id 1 { segment s vni 1 { 10.0.0.0/16 } }\n"
        .to_owned();
    for policy in 0..policies {
        let _ = writeln!(text, "policy p{policy:03} for t in tenant {{");
        for rule in 0..rules {
            let _ = writeln!(text, "  allow s & 10.0.{policy}.{rule} -> s : tcp/{}", 1 + rule);
        }
        let _ = writeln!(text, "{}}}", extra(policy));
    }
    text
}

fn of(found: &[Diagnostic], code: Code) -> Vec<&Diagnostic> {
    found.iter().filter(|d| d.code == code).collect()
}

#[test]
fn every_rule_keeps_its_place_and_name() {
    let Compilation { compiled, diagnostics } = compiled(&project(40, 100, |_| String::new()));
    assert!(diagnostics.is_empty(), "{:?}", diagnostics.first());
    let names: Vec<String> = (0..40).flat_map(|p| (1..=100).map(move |r| format!("p{p:03}#{r}"))).collect();
    let rules: Vec<&str> = compiled.model.rules.values().map(|rule| rule.name.as_str()).collect();
    assert_eq!(rules, names);
    for (id, policy) in compiled.model.policies.iter() {
        assert_eq!(policy.rules.len(), 100);
        assert!(policy.rules.iter().all(|rule| compiled.model.rules[*rule].policy == id));
    }
    let mut ranks: Vec<u32> = compiled.model.rules.values().map(|rule| rule.rank).collect();
    ranks.sort_unstable();
    assert!(ranks.into_iter().eq(0..4_000));
}

#[test]
fn findings_come_in_the_order_of_policies() {
    let unknown = |policy: usize| format!("  allow s -> nobody{policy:03}\n");
    let Compilation { compiled, diagnostics } = compiled(&project(40, 100, unknown));
    let found = of(&diagnostics, Code::PW0101);
    assert_eq!(found.len(), 40);
    assert!(found.windows(2).all(|pair| pair[0].span < pair[1].span));
    assert_eq!(compiled.model.rules.len(), 4_000, "rules in error are left out");
    assert_eq!(compiled.model.tainted.len(), 1);
}

/// Of one name's uses in a file a hundred are listed, whichever policies they stand in.
#[test]
fn the_uses_of_a_name_are_counted_over_all_policies() {
    for (uses, listed) in [(2, 80), (3, 100)] {
        let unknown = |_| "  allow s -> nobody\n".repeat(uses);
        let found = compiled(&project(40, 100, unknown)).diagnostics;
        let found = of(&found, Code::PW0101);
        assert_eq!(found.len(), listed, "{uses} in each of 40");
        let noted = found.iter().filter(|d| !d.notes.is_empty()).count();
        assert_eq!(noted, usize::from(listed == 100));
        assert!(found.windows(2).all(|pair| pair[0].span < pair[1].span));
    }
}

/// A service that only the last policy names is used, a group that none names is not.
#[test]
fn what_is_used_is_known() {
    let named =
        |policy: usize| if policy == 39 { "  deny s -> s : last\n".to_owned() } else { String::new() };
    let text = project(40, 100, named) + "service last = udp/9\nservice idle = udp/10\n";
    let found = compiled(&text).diagnostics;
    let unused: Vec<&str> = of(&found, Code::PW0407).iter().map(|d| d.message.as_str()).collect();
    assert_eq!(unused, ["service `idle` is never used"]);
}
