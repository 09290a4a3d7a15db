//! Each check on a small project: code, severity, message, places, help, witness.

use crate::support::{clean, lines, verify};
use compiler::wire;
use lang::diag::Diagnostic;
use partywall_verifier::{Options, Verdicts};

/// Two tenants with one address plan, a gateway, an external.
const BASE: &str = r#"
fabric prod {
  encap vxlan port 4789
  underlay mtu 9000 family ipv4
  precedence guardrail > tenant > baseline
  delegate tenant
  unknown-vni drop
}
node c1 { vtep 192.0.2.11 dev eth0 }
node g1 { vtep 192.0.2.21 dev eth0 gateway }
external internet { 0.0.0.0/0, ::/0 }
tenant shop id 1 {
  segment front vni 10 { 10.1.0.0/24, fd00:1::/64 }
  segment data vni 11 { 10.1.1.0/24 }
  route 0.0.0.0/0 via edge
}
tenant payments id 2 {
  segment api vni 20 { 10.1.0.0/24 }
  segment vault vni 21 { 10.2.0.0/24 }
  expose api & 10.1.0.0/28 : tcp/443 via edge as 100.64.0.0/28 { to shop.front & 10.1.0.0/24 clients as 100.65.0.0/24 }
}
tenant ops id 3 {
  segment desk vni 30 { 10.3.0.0/24 }
  expose desk & 10.3.0.0/28 : tcp/22 via edge as 100.64.3.0/28 { to payments.api clients as 100.65.3.0/24 }
}
gateway edge {
  joins shop, payments, ops, internet
  instances g1
  stateful
  attach internet on g1 dev eth1 next-hop 203.0.113.1
}
endpoint web-1 in shop.front { at 10.1.0.5, fd00:1::5 on c1 dev "tap-web1" tags web }
endpoint db-1 in shop.data { at 10.1.1.9 on c1 dev "tap-db1" }
"#;

fn check(policies: &str) -> Verdicts {
    verify(&clean(&format!("{BASE}{policies}")))
}

fn found(policies: &str) -> Vec<String> {
    lines(&check(policies))
}

fn only(policies: &str) -> Diagnostic {
    let verdicts = check(policies);
    assert_eq!(verdicts.diagnostics.len(), 1, "{:#?}", lines(&verdicts));
    verdicts.diagnostics.into_iter().next().unwrap()
}

/// The text under a span of the project.
fn text_at(policies: &str, span: lang::span::Span) -> String {
    format!("{BASE}{policies}")[span.start as usize..span.end as usize].to_owned()
}

#[test]
fn a_conflict_names_both_rules_and_the_overrides_that_settles_it() {
    let policies = "
policy b for shop in tenant { open: allow front -> data : tcp/5432 }
policy a for shop in tenant { close: deny any -> data : tcp/5000..6000 }";
    let d = only(policies);
    assert_eq!(d.code.as_str(), "PW0401");
    assert_eq!(text_at(policies, d.span), "open: allow front -> data : tcp/5432");
    assert_eq!(text_at(policies, d.related[0].span), "close: deny any -> data : tcp/5000..6000");
    assert_eq!(d.rules, ["a.close", "b.open"]);
    assert_eq!(
        d.help.as_deref(),
        Some("say which one wins: `policy a … overrides b` or `policy b … overrides a`")
    );
    let witness = d.witness.unwrap();
    assert_eq!(witness.human, "tcp 10.1.0.5:32768 -> 10.1.1.9:5432 in shop");
    assert!(witness.decision_json.contains(r#""verdict":"deny""#), "{}", witness.decision_json);
}

#[test]
fn overrides_higher_tiers_and_agreement_are_no_conflict() {
    let open = "policy b for shop in tenant { open: allow front -> data : tcp/5432 }\n";
    assert_eq!(
        found(&format!(
            "{open}policy a for shop in tenant overrides b {{ deny 10.1.0.7 -> data : tcp/5432 }}"
        )),
        [""; 0]
    );
    // Whatever both say is decided above.
    let above = "policy g in guardrail { allow shop.front -> shop.data }\n";
    let both = "policy a for shop in tenant { close: deny any -> data : tcp/5432 }\n";
    let codes: Vec<String> =
        found(&format!("{open}{both}{above}")).iter().map(|l| l[..6].to_owned()).collect();
    assert!(!codes.contains(&"PW0401".to_owned()), "{codes:?}");
    assert_eq!(
        found(&format!("{open}policy a for shop in tenant {{ also: allow any -> data : tcp/5432 }}")),
        [""; 0]
    );
}

#[test]
fn only_the_platform_may_override_where_it_conflicts_with_a_tenant() {
    let d = only(
        "policy z for shop in tenant { open: allow front -> data : tcp/23 }
policy no-telnet in tenant { no: deny any -> any : tcp/23 }",
    );
    assert_eq!(d.code.as_str(), "PW0401");
    let help = d.help.unwrap();
    assert!(help.starts_with("write `policy no-telnet … overrides z`"), "{help}");
}

#[test]
fn platform_policies_that_conflict_in_many_views_are_reported_once() {
    let lines = found(
        "policy p in guardrail { x: deny any -> any : tcp/23 }
policy q in guardrail { y: allow same-tenant : tcp }",
    );
    let conflicts: Vec<&String> = lines.iter().filter(|l| l.starts_with("PW0401")).collect();
    assert_eq!(conflicts.len(), 1, "{lines:#?}");
}

#[test]
fn a_union_of_rules_shadows_and_is_listed_largest_first() {
    let policies = "
policy app for shop in tenant {
  small: allow front & 10.1.0.0/26 -> data : tcp/5432
  off:   allow front -> front : tcp/80
  large: allow front & 10.1.0.64..10.1.0.255 -> data : tcp/5432
  dead:  allow front & 10.1.0.0/24 -> data : tcp/5432
}";
    let d = only(policies);
    assert_eq!((d.code.as_str(), d.severity.as_str()), ("PW0402", "warning"));
    assert_eq!(
        d.message,
        "`app.dead` decides nothing: `app.large` and `app.small` together take all of its flows"
    );
    assert_eq!(d.rules, ["app.dead", "app.large", "app.small"]);
    assert_eq!(d.help.as_deref(), Some("remove the rule; nothing changes without it"));
    assert_eq!(d.witness.unwrap().human, "tcp 10.1.0.5:32768 -> 10.1.1.9:5432 in shop");
}

#[test]
fn the_covering_set_is_irreducible() {
    let d = only(
        "policy app for shop in tenant {
  part: allow front & 10.1.0.0/25 -> data : tcp/5432 log
  all:  allow front -> data : tcp/5000..6000
  dead: allow front -> data : tcp/5432
}",
    );
    assert_eq!(d.rules, ["app.dead", "app.all"]);
}

#[test]
fn a_redundant_rule_names_the_later_ones_that_say_the_same() {
    let policies = "policy app for shop in tenant {
  both:  allow front -> data : tcp/5000..6000
  low:   allow front & 10.1.0.0/25 -> data : tcp/4000..6000
  high:  allow front & 10.1.0.128/25 -> data : tcp/5000..7000
  other: allow front & 10.1.0.128/25 -> data : tcp/5500
  again: allow data -> front : tcp/80
}";
    let verdicts = check(policies);
    let d = verdicts.diagnostics.iter().find(|d| d.code.as_str() == "PW0403").expect("a redundant rule");
    assert_eq!(
        d.message,
        "`app.both` is redundant: `app.high` and `app.low` together give all of its flows the same verdict"
    );
    assert_eq!(d.severity.as_str(), "warning");
    assert_eq!(d.rules, ["app.both", "app.high", "app.low"]);
    assert_eq!(d.help.as_deref(), Some("remove the rule; nothing changes without it"));
    let related: Vec<String> = d.related.iter().map(|l| text_at(policies, l.span)).collect();
    assert_eq!(related[0], "high:  allow front & 10.1.0.128/25 -> data : tcp/5000..7000");
    assert_eq!(related.len(), 2);
}

#[test]
fn a_redundant_rule_names_what_has_to_go_with_it() {
    let found = check(
        "policy app for shop in tenant {
  first:  allow front -> data : tcp/1
  second: deny front -> data : tcp/1..2
  third:  allow front -> data : tcp/{1, 3}
  last:   deny front -> data : tcp/{2, 4}
}",
    );
    let helps: Vec<_> = found.diagnostics.iter().map(|d| (d.rules[0].as_str(), d.help.as_deref())).collect();
    assert_eq!(
        helps,
        [
            (
                "app.first",
                Some(
                    "remove the rule together with `app.second`: left in place, that would decide some of its flows \
                     differently"
                )
            ),
            ("app.second", Some("remove the rule; nothing changes without it")),
        ]
    );
}

#[test]
fn an_allow_of_which_another_owner_decides_a_part_gets_a_note() {
    let policies = "policy no-x11 in guardrail { deny any -> any : tcp/6000..6063 }
policy app for shop in tenant {
  wide: allow front -> data : tcp/5999..7000
}";
    let d = only(policies);
    assert_eq!((d.code.as_str(), d.severity.as_str()), ("PW0404", "note"));
    assert_eq!(d.message, "`no-x11#1` of another owner decides some of the flows that `app.wide` would");
    assert_eq!(d.rules, ["app.wide", "no-x11#1"]);
    assert_eq!(text_at(policies, d.related[0].span), "deny any -> any : tcp/6000..6063");
    assert_eq!(d.witness.unwrap().human, "tcp 10.1.0.5:32768 -> 10.1.1.9:6000 in shop");
}

#[test]
fn a_different_action_is_an_error() {
    let d = only(
        "policy app for shop in tenant {
  close: deny front -> data
  dead:  allow front -> data : tcp/5432
}",
    );
    assert_eq!((d.code.as_str(), d.severity.as_str()), ("PW0402", "error"));
    assert_eq!(d.related[0].message, "`app.close` takes its flows, and decides differently");
}

#[test]
fn an_allow_that_the_platform_overrules_is_pw0404() {
    let d = only(
        "policy no-telnet in guardrail { no: deny any -> any : tcp/23 log }
policy app for shop in tenant { old: allow front -> data : tcp/23 }",
    );
    assert_eq!((d.code.as_str(), d.severity.as_str()), ("PW0404", "warning"));
    assert_eq!(d.rules, ["app.old", "no-telnet.no"]);
}

#[test]
fn a_deny_that_the_platform_takes_is_pw0402_and_no_error() {
    let d = only(
        "policy open in guardrail { all: allow same-tenant }
policy app for shop in tenant { close: deny front -> data : tcp/23 }",
    );
    // The platform's action differs, but a tenant's rule is judged by the tenant's own.
    assert_eq!((d.code.as_str(), d.severity.as_str()), ("PW0402", "warning"));
}

#[test]
fn a_platform_rule_is_dead_only_if_it_decides_in_no_view() {
    let baseline = "policy base in baseline { intra: allow same-tenant : tcp/80 }\n";
    let shop = "policy s for shop in tenant { deny shop -> shop }\n";
    let payments = "policy t for payments in tenant { deny payments -> payments }\n";
    let ops = "policy u for ops in tenant { deny ops -> ops }\n";
    assert_eq!(found(&format!("{baseline}{shop}{payments}")), [""; 0]);
    let dead = found(&format!("{baseline}{shop}{payments}{ops}"));
    assert_eq!(dead.len(), 1, "{dead:#?}");
    assert!(dead[0].starts_with("PW0404 warning: `base.intra` allows nothing: `s#1`, `t#1` and `u#1` of another owner together take"), "{dead:#?}");
}

#[test]
fn an_exposure_takes_flows_from_a_lower_tier_of_the_providers_view() {
    let d = only(
        "policy base in baseline { inward: deny shop -> payments.api & 10.1.0.0/28 : tcp/443 }
policy s for shop in tenant { allow front -> payments.api : tcp/443 }",
    );
    assert_eq!(d.code.as_str(), "PW0402");
    assert_eq!(d.rules, ["base.inward", "payments.expose#1#1", "s#1"]);
}

#[test]
fn tests_hold_over_all_flows_or_show_one_that_fails() {
    let policies = |clauses: &str| {
        format!(
            "policy app for shop in tenant {{
  db:  allow front -> data : tcp/5432
  pay: allow front -> payments.api : tcp/443 via edge
}}
test \"t\" {{ {clauses} }}"
        )
    };
    for holds in [
        "always shop.front & 10.1.0.0/24 -> shop.data : tcp/5432",
        "always shop.front & 10.1.0.0/24 -> payments.api & 10.1.0.0/28 : tcp/443 via edge",
        "never shop.data -> shop.front",
        "never payments -> shop",
        "some shop.front -> shop.data",
        "some shop -> payments via edge",
        "packet in shop tcp 10.1.0.5:40000 -> 100.64.0.3:443 is allow via edge by app.pay",
        "packet in shop tcp 10.1.0.5:40000 -> 100.64.0.3:443 is allow by payments.expose#1#1",
        "packet in shop tcp 10.1.0.5:40000 -> 10.1.1.9:5432 is allow by app",
        "packet in shop tcp 10.1.0.5:40000 -> 10.1.1.9:22 is deny",
    ] {
        assert_eq!(found(&policies(holds)), [""; 0], "{holds}");
    }
    for (fails, why) in [
        (
            "always shop.front & 10.1.0.0/24 -> shop.data",
            "tcp 10.1.0.5:32768 -> 10.1.1.9:0 in shop is denied, since no rule allows it | tcp 10.1.0.5:32768 -> 10.1.1.9:0 in shop",
        ),
        (
            "always shop.front -> payments.api : tcp/443",
            "nothing opens a path from `shop` to `payments` for a packet such as tcp 10.1.0.5:32768 -> 10.1.0.16:443 in shop",
        ),
        (
            "always shop.front & 10.1.0.0/24 -> shop.data : tcp/5432 via edge",
            "tcp 10.1.0.5:32768 -> 10.1.1.9:5432 in shop is allowed, but via no gateway | tcp 10.1.0.5:32768 -> 10.1.1.9:5432 in shop",
        ),
        (
            "never shop -> payments",
            "tcp 10.1.0.5:32768 -> 100.64.0.0:443 in shop is allowed by `app.pay` | tcp 10.1.0.5:32768 -> 100.64.0.0:443 in shop",
        ),
        ("some shop.data -> shop.front", "no flow of these sets is allowed"),
        ("some shop.data -> shop.data via edge", "no flow of these sets is allowed via `edge`"),
        ("never shop.db-1 -> shop.db-1", "its sets give no pair of ends"),
        ("never shop.data -> shop.front & fd00:1::/64", "its sets give no pair of ends"),
        (
            "packet in shop tcp 10.1.0.5:40000 -> 10.1.1.9:22 is allow",
            "tcp 10.1.0.5:40000 -> 10.1.1.9:22 in shop is denied, since no rule allows it | tcp 10.1.0.5:40000 -> 10.1.1.9:22 in shop",
        ),
        (
            "packet in shop tcp 10.1.0.5:40000 -> 10.1.1.9:5432 is allow by app.pay",
            "tcp 10.1.0.5:40000 -> 10.1.1.9:5432 in shop is allowed by `app.db`, not by `app.pay` | tcp 10.1.0.5:40000 -> 10.1.1.9:5432 in shop",
        ),
    ] {
        assert_eq!(found(&policies(fails)), [format!("PW0701 error: test \"t\" fails: {why}")], "{fails}");
    }
}

#[test]
fn isolation_is_broken_by_a_flow_and_shows_what_opens_it() {
    let policies = "
policy app for shop in tenant { pay: allow front -> payments.api : tcp/443 }
isolate payments from shop";
    let d = only(policies);
    assert_eq!(d.code.as_str(), "PW0502");
    assert_eq!(text_at(policies, d.span), "isolate payments from shop");
    assert_eq!(d.rules, ["payments.expose#1#1", "app.pay"]);
    assert!(
        d.related.iter().any(|l| text_at(policies, l.span).starts_with("to shop.front")),
        "{:?}",
        d.related
    );
    assert_eq!(d.witness.unwrap().human, "tcp 10.1.0.5:32768 -> 100.64.0.0:443 in shop");
}

#[test]
fn holes_both_ends_on_one_side_and_any_are_no_breach() {
    let pay =
        "policy app for shop in tenant { pay: allow front -> payments.api : tcp/443\n allow shop -> shop }\n";
    assert_eq!(found(&format!("{pay}isolate payments from shop allowing tcp/443 via edge")), [""; 0]);
    assert_eq!(found(&format!("{pay}isolate payments from any allowing tcp via edge")), [""; 0]);
    assert_eq!(found(&format!("{pay}isolate shop from shop.front | payments.vault")), [""; 0]);
    assert_eq!(found(&format!("{pay}isolate ops from any transitively")), [""; 0]);
    assert_eq!(found(&format!("{pay}isolate payments from shop allowing udp via edge")).len(), 1);
    assert_eq!(found(&format!("{pay}isolate shop.front from shop.data")).len(), 1);
}

#[test]
fn a_chain_is_told_hop_by_hop_and_starts_where_the_one_before_ended() {
    let chain = "
policy s for shop in tenant { pay: allow front -> payments.api : tcp/443 }
policy p for payments in tenant { admin: allow api & 10.1.0.0/28 -> ops.desk : tcp/22 }
isolate ops from shop transitively";
    let d = only(chain);
    assert_eq!(d.code.as_str(), "PW0503");
    assert_eq!(
        d.message,
        "isolation is broken by a chain of 2 flows from `shop` to `ops` through `payments`"
    );
    let texts = |d: &Diagnostic| -> Vec<String> { d.chain.iter().map(|hop| hop.text.clone()).collect() };
    assert_eq!(
        texts(&d),
        [
            "10.1.0.5 of `shop` to 10.1.0.0 of `payments`: tcp 10.1.0.5:32768 -> 100.64.0.0:443 in shop via `edge` \
             is allowed by `s.pay`",
            "10.1.0.0 of `payments` to 10.3.0.0 of `ops`: tcp 10.1.0.0:32768 -> 100.64.3.0:22 in payments via `edge` \
             is allowed by `p.admin`",
        ]
    );
    assert_eq!(d.rules, ["payments.expose#1#1", "s.pay", "ops.expose#1#1", "p.admin"]);
    let hop = |at: usize| {
        (d.chain[at].opened.as_deref(), d.chain[at].rules.as_slice(), &*d.chain[at].witness.human)
    };
    let names = |names: &[&str]| -> Vec<String> { names.iter().map(|name| (*name).to_owned()).collect() };
    assert_eq!(
        hop(0),
        (
            Some("payments.expose#1#1"),
            &*names(&["s.pay", "payments.expose#1#1"]),
            "tcp 10.1.0.5:32768 -> 100.64.0.0:443 in shop"
        )
    );
    assert_eq!(
        hop(1),
        (
            Some("ops.expose#1#1"),
            &*names(&["p.admin", "ops.expose#1#1"]),
            "tcp 10.1.0.0:32768 -> 100.64.3.0:22 in payments"
        )
    );
    // Only hosts beyond those that the shop reaches may go on: no chain.
    let apart = chain.replace("api & 10.1.0.0/28 -> ops.desk", "api & 10.1.0.16/28 -> ops.desk");
    assert_eq!(found(&apart), [""; 0]);
    // A hop inside a tenant joins them again.
    let joined = format!(
        "{apart}\npolicy q for payments in tenant {{ inside: allow api & 10.1.0.3 -> api & 10.1.0.20 : tcp/8 }}"
    );
    let d = only(&joined);
    assert_eq!(d.chain.len(), 3, "{:#?}", texts(&d));
    assert!(
        texts(&d)[1].starts_with("10.1.0.3 of `payments` to 10.1.0.20 of `payments`"),
        "{:#?}",
        texts(&d)
    );
    assert_eq!((d.chain[1].opened.as_deref(), &*d.chain[1].rules), (None, &*names(&["q.inside"])));
    // Each is what the evaluator says of its packet.
    let (c, _) = crate::support::compile(&format!("{BASE}{joined}"));
    let evaluator = wire::Evaluator::new(&c);
    for hop in &d.chain {
        let said = evaluator.line(&hop.witness.packet_json);
        assert_eq!(said, (hop.witness.decision_json.clone(), false));
    }
    assert_eq!(found(&joined.replace("transitively", "")), [""; 0]);
}

#[test]
fn an_external_ends_a_chain() {
    let out = "
policy s for shop in tenant { out: allow front & 10.1.0.0/24 -> internet : tcp/443 }
isolate ops from shop transitively";
    assert_eq!(found(out), [""; 0]);
}

#[test]
fn a_spent_budget_is_an_error_that_names_the_rule() {
    let c = clean(&format!(
        "{BASE}policy app for shop in tenant {{
  low:  allow front & 10.1.0.0/30 -> data : tcp/5432
  high: allow front & 10.1.0.252/30 -> data : tcp/5432
  rest: deny front & 10.1.0.0/24 -> data : tcp/5432
}}"
    ));
    let spent = partywall_verifier::verify(
        &c,
        &Options {
            budget: 1,
            jobs: Some(1),
            engine: partywall_verifier::Engine::Z3,
            certify: false,
            ..Options::default()
        },
    )
    .unwrap();
    assert!(spent.undecided > 0);
    let rest = |d: &&Diagnostic| d.code.as_str() == "PW0901" && d.rules == ["app.rest"];
    let first = spent.diagnostics.iter().find(rest).expect("an undecided rule");
    assert_eq!(first.severity.as_str(), "error");
    assert!(first.message.contains("`app.rest`"), "{}", first.message);
    assert!(first.help.as_ref().unwrap().contains("--solver-budget"));
    assert_eq!(verify(&c).undecided, 0);
}

#[test]
fn threads_change_nothing() {
    let c = clean(&format!(
        "{BASE}policy app for shop in tenant {{
  close: deny front -> data
  dead:  allow front -> data : tcp/5432
  pay:   allow front -> payments.api : tcp/443
}}
policy p in guardrail {{ x: deny any -> any : tcp/23 }}
policy q in guardrail {{ y: allow same-tenant : tcp }}
isolate payments from shop
test \"t\" {{ never shop -> payments }}"
    ));
    let run = |jobs| {
        let v = partywall_verifier::verify(&c, &Options { jobs: Some(jobs), ..Options::default() }).unwrap();
        format!("{:?}", v.diagnostics)
    };
    let one = run(1);
    assert!(
        one.contains("PW0401") && one.contains("PW0404") && one.contains("PW0502") && one.contains("PW0701")
    );
    for jobs in [2, 3, 8] {
        assert_eq!(run(jobs), one);
    }
}

#[test]
fn tainted_owners_are_skipped_and_named() {
    let (c, _) = crate::support::compile(&format!(
        "{BASE}tenant broken id 9 {{ segment a vni 90 {{ 10.9.0.0/24 }}\n segment b vni 90 {{ 10.9.0.0/25 }} }}
isolate payments from any
policy app for shop in tenant {{ pay: allow front -> payments.api : tcp/443 }}"
    ));
    assert!(!c.model.tainted.is_empty(), "the duplicate VNI taints");
    let verdicts = verify(&c);
    assert_eq!(verdicts.skipped, c.model.tainted);
    assert_eq!(lines(&verdicts).len(), 1, "{:#?}", lines(&verdicts));
}
