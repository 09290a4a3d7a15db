//! Tests and isolation decided by boxes, by Z3, and by boxes with so little work that Z3 takes over in the midst of it: the same
//! findings, to the last word.
//!
//! `PARTYWALL_PROJECTS` sets the number of random projects.

use crate::generate::Rng;
use crate::{generate, support};
use compiler::Compiled;
use lang::codes::Code;
use lang::diag::Diagnostic;
use partywall_verifier::units::{Unit, join, judge};
use partywall_verifier::{Engine, Options};
use rayon::prelude::*;
use std::collections::BTreeMap;
use std::fmt::Write as _;

/// More tests and isolation than a random project has of its own, over wider sets.
fn with_more(project: &str, rng: &mut Rng) -> String {
    let tenants: Vec<&str> = ["shop", "payments", "ops", "lab"]
        .into_iter()
        .filter(|name| project.contains(&format!("tenant {name} id")))
        .collect();
    let tenant = |rng: &mut Rng| (*rng.pick(&tenants)).to_owned();
    let set = |rng: &mut Rng| match rng.below(12) {
        0 | 1 => "any".to_owned(),
        2 => "internet".to_owned(),
        3 => "hq | internet & 8.8.8.0/24".to_owned(),
        4 => "any & 10.1.0.0/25".to_owned(),
        5 => format!("any except {}", tenant(rng)),
        6 => "tagged(web) | tagged(db)".to_owned(),
        7 => format!("{} | {}", tenant(rng), tenant(rng)),
        8 => format!("{} & fd00::/16", tenant(rng)),
        9 => format!("{} & 10.0.0.1..10.1.0.77", tenant(rng)),
        _ => tenant(rng),
    };
    let services =
        ["", " : https", " : dns", " : ping", " : tcp/1000..2000 | udp", " : ip", " : proto/47", " : high"];
    let mut out = project.to_owned();
    for _ in 0..1 + rng.below(3) {
        let (what, from) = (set(rng), set(rng));
        let transitively = rng.pick(&["", " transitively"]);
        let allowing = rng.pick(&[
            "",
            "",
            " allowing https via edge",
            " allowing dns | tcp via core",
            " allowing ip via edge",
        ]);
        let _ = writeln!(out, "isolate {what} from {from}{transitively}{allowing}");
    }
    out.push_str("test \"more\" {\n");
    for _ in 0..2 + rng.below(4) {
        let quantifier = rng.pick(&["always", "never", "some"]);
        let via = rng.pick(&["", "", " via edge", " via core"]);
        let (src, dst, service) = (set(rng), set(rng), rng.pick(&services));
        let via = if quantifier == "never" { "" } else { via };
        let _ = writeln!(out, "  {quantifier} {src} -> {dst}{service}{via}");
    }
    out.push_str("}\n");
    out
}

fn found(c: &Compiled, options: Options) -> Result<Vec<Diagnostic>, partywall_verifier::Fault> {
    let tests = (0..c.model.tests.len()).map(Unit::Test);
    let units: Vec<Unit> = tests.chain((0..c.model.isolates.len()).map(Unit::Isolate)).collect();
    let results = judge(c, &options, &units, &[])?;
    Ok(join(c, results.into_iter().map(|(_, judged)| judged)).diagnostics)
}

#[test]
fn tests_and_isolation_are_decided_alike_by_both_engines_and_on_the_way_from_one_to_the_other() {
    let projects: u64 = std::env::var("PARTYWALL_PROJECTS").ok().map_or(80, |v| v.parse().expect("a number"));
    let codes: Vec<Vec<Code>> = (0..projects)
        .into_par_iter()
        .map(|seed| {
            let mut rng = Rng::new(seed ^ 0x7e57);
            let text = with_more(&generate::project(200_000 + seed), &mut rng);
            let (c, _) = support::compile(&text);
            let of = |options| found(&c, options).unwrap_or_else(|e| panic!("seed {seed}: {e}\n{text}"));
            let one = Options { jobs: Some(1), ..Options::default() };
            let z3 = of(Options { engine: Engine::Z3, ..one });
            assert_eq!(of(one), z3, "seed {seed}\n{text}");
            assert_eq!(of(Options { certify: true, ..one }), z3, "certified, seed {seed}\n{text}");
            for work in [0, 1 + rng.below(60) as u64, 100 + rng.below(900) as u64] {
                assert_eq!(of(Options { work, ..one }), z3, "work {work}, seed {seed}\n{text}");
            }
            z3.iter().map(|d| d.code).collect()
        })
        .collect();
    let mut seen: BTreeMap<Code, usize> = BTreeMap::new();
    codes.into_iter().flatten().for_each(|code| *seen.entry(code).or_default() += 1);
    println!("{seen:?}");
    for code in [Code::PW0502, Code::PW0503, Code::PW0701] {
        assert!(seen.contains_key(&code), "no project shows {code}: {seen:?}");
    }
    assert!(!seen.contains_key(&Code::PW0901), "{seen:?}");
}

/// Sets of many ranges: what goes on a channel is then cut out of what the views say, not the other way round.
#[test]
fn sets_of_many_ranges_are_decided_alike() {
    let mut text = String::from(
        "fabric prod {
  encap vxlan port 4789
  underlay mtu 9000 family ipv4
  precedence guardrail > tenant
  delegate tenant
  unknown-vni drop
}
node g1 { vtep 192.0.2.2 dev eth0 gateway }
external internet { 0.0.0.0/0 }
tenant shop id 1 {
  segment front vni 10 { 10.1.0.0/24 }
  route 0.0.0.0/0 via edge
}
gateway edge {
  joins shop, internet
  instances g1
  stateful
  attach internet on g1 dev eth1 next-hop 203.0.113.1
}
",
    );
    // Underlay addresses are no one's: 45 holes in what is behind the route.
    for n in 0..45 {
        let _ = writeln!(text, "node c{n} {{ vtep 192.0.2.{} dev eth0 }}", 10 + 3 * n);
    }
    let some: Vec<String> = (0..30).map(|n| format!("10.1.0.{}", 4 + 5 * n)).collect();
    let far: Vec<String> = (0..30).map(|n| format!("192.0.{n}.0/25")).collect();
    let sets = format!("extend tenant shop {{\n  group odd = front & ({})\n}}\n", some.join(" | "));
    text.push_str(&sets);
    text.push_str(
        "policy app for shop in tenant {
  far:  allow odd -> internet & 192.0.2.0/24 : tcp/443
  near: allow front -> front : tcp/22
  net:  allow front & 10.1.0.0/28 -> internet & 192.0.2.128/25 : udp/53
}
policy guard in guardrail { deny any -> internet & 192.0.2.10..192.0.2.99 : tcp/400..500 }
",
    );
    let far = far.join(" | ");
    for (number, clause) in [
        "never shop.odd -> internet".to_owned(),
        format!("never shop -> internet & ({far})"),
        "never shop.odd -> internet : udp".to_owned(),
        "never shop.odd -> internet & 192.0.2.10..192.0.2.100 : tcp".to_owned(),
        "never shop.odd -> shop.odd".to_owned(),
        "always shop.odd -> internet & 192.0.2.0/24 : tcp/443 via edge".to_owned(),
        "always shop.odd -> shop.odd : tcp/22".to_owned(),
        format!("some shop.odd -> internet & ({far}) : udp via edge"),
    ]
    .iter()
    .enumerate()
    {
        let _ = writeln!(text, "test \"{number}\" {{ {clause} }}");
    }
    for isolate in [
        "shop.odd from internet",
        "shop.odd from shop transitively",
        "shop from any allowing tcp/443 via edge",
    ] {
        let _ = writeln!(text, "isolate {isolate}");
    }
    let c = support::clean(&text);
    let z3 = found(&c, Options { engine: Engine::Z3, ..Options::default() }).expect("Z3 and evaluator agree");
    assert_eq!(found(&c, Options { certify: true, ..Options::default() }).expect("all agree"), z3);
    let failing: Vec<&str> = z3.iter().map(|d| d.message.as_str()).collect();
    assert!(z3.len() > 6 && z3.len() < 12, "{failing:#?}");
}
