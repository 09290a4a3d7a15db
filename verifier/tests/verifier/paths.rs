//! Composed forwarding: planted faults, each with its repair beside it.

use crate::support::{clean, compile, verify};
use compiler::Compiled;
use compiler::algebra::Family;
use compiler::buckets::{Direction, passes};
use compiler::ids::NodeId;
use compiler::packet::{End, Flow};
use compiler::wire::Evaluator;
use lang::codes::Code;
use lang::diag::Diagnostic;
use partywall_verifier::{Options, Verdicts, verify as verify_with};

pub const FABRIC: &str = "fabric prod {
  encap vxlan port 4789
  underlay mtu 9000 family ipv4
  precedence guardrail > tenant > baseline
  delegate tenant
}
node g1 { vtep 192.0.2.21 dev eth0 gateway }
node g2 { vtep 192.0.2.22 dev eth0 gateway }
node g3 { vtep 192.0.2.23 dev eth0 gateway }
";

pub fn of_paths(verdicts: &Verdicts) -> Vec<Diagnostic> {
    let codes = [Code::PW0501, Code::PW0601, Code::PW0603, Code::PW0604, Code::PW0901];
    verdicts.diagnostics.iter().filter(|d| codes.contains(&d.code)).cloned().collect()
}

/// The findings about paths of a project without structural errors; each witness says in `eval` what it says in the finding.
fn found(text: &str) -> Vec<Diagnostic> {
    let c = clean(&format!("{FABRIC}{text}"));
    let found = of_paths(&verify(&c));
    found.iter().for_each(|d| replayed(&c, d));
    found
}

pub fn replayed(c: &Compiled, finding: &Diagnostic) {
    if finding.code != Code::PW0901 {
        let witness = finding.witness.as_ref().expect("a packet that shows it");
        let (line, malformed) = Evaluator::new(c).line(&witness.packet_json);
        assert!(!malformed && line.contains("\"allow\""), "{line}");
        assert_eq!(line, witness.decision_json);
    }
}

/// `PW0603 message`
fn told(text: &str) -> Vec<String> {
    found(text).iter().map(|d| format!("{} {}", d.code, d.message)).collect()
}

/// A tenant `a` with a direct route into `b`, which has more of its own.
fn one_way(b: &str, rest: &str) -> String {
    format!(
        "tenant a id 1 {{ segment net vni 10 {{ 10.1.0.0/24 }} route 10.2.0.0/24 to b.net direct \"drill\" }}
tenant b id 2 {{ segment net vni 20 {{ 10.2.0.0/24 }} {b} }}
policy a-app for a in tenant {{ allow net -> b.net : tcp/22 }}
policy b-app for b in tenant {{ allow a -> net : tcp }}
{rest}"
    )
}

#[test]
fn a_direct_route_without_one_back() {
    let lost = found(&one_way("", ""));
    assert_eq!(lost.len(), 1, "{lost:#?}");
    assert_eq!(lost[0].code, Code::PW0603);
    assert_eq!(
        lost[0].message,
        "replies to the connections of `a` on this direct route cannot come back: `b` has no route to 10.1.0.0"
    );
    assert_eq!(
        lost[0].help.as_deref(),
        Some("add `route 10.1.0.0/24 to a.net direct \"why\"` to tenant `b`")
    );
    assert_eq!(lost[0].rules, ["a-app#1", "b-app#1"]);
    assert_eq!(lost[0].witness.as_ref().unwrap().human, "tcp 10.1.0.0:32768 -> 10.2.0.0:22 in a");
    // What the help says mends it.
    assert_eq!(told(&one_way("route 10.1.0.0/24 to a.net direct \"why\"", "")), [] as [String; 0]);
    // Half of the clients can be answered.
    let half = found(&one_way("route 10.1.0.0/25 to a.net direct \"why\"", ""));
    assert_eq!(half[0].witness.as_ref().unwrap().human, "tcp 10.1.0.128:32768 -> 10.2.0.0:22 in a");
    // Only allowed flows count.
    let denied = one_way("", "policy no-ssh in guardrail { deny a -> b : tcp/22 }");
    assert_eq!(told(&denied), [] as [String; 0]);
}

#[test]
fn a_client_that_is_somebody_else_to_the_one_who_answers() {
    let gateway = "gateway edge { joins b, c, internet instances g1 stateful attach internet on g1 dev e1 next-hop 203.0.113.1 masquerade b to internet as 198.51.100.1 }
external internet { 0.0.0.0/0 }";
    let lost = |b: &str, rest: &str| {
        let lost = found(&one_way(b, &format!("{gateway}\n{rest}")));
        assert_eq!(lost.len(), 1, "{lost:#?}");
        assert_eq!(lost[0].code, Code::PW0603);
        let why = lost[0].message.split_once(": ").unwrap().1.to_owned();
        (why, lost[0].help.clone().unwrap())
    };
    let (why, help) =
        lost("route 0.0.0.0/0 via edge", "tenant c id 3 { segment net vni 30 { 10.3.0.0/24 } }");
    assert_eq!(why, "to `b` 10.1.0.0 belongs to external `internet`, behind gateway `edge`");
    assert!(help.starts_with("add `route 10.1.0.0/24 to a.net direct"), "{help}");
    let (why, help) =
        lost("segment own vni 21 { 10.1.0.0/25 }", "tenant c id 3 { segment net vni 30 { 10.3.0.0/24 } }");
    assert_eq!(why, "to `b` 10.1.0.0 is an address of its own");
    assert!(help.starts_with("renumber one of the two"), "{help}");
    let (why, _) = lost(
        "",
        "tenant c id 3 { segment net vni 30 { 10.1.0.0/24 } expose net & 10.1.0.8/29 : tcp to b via edge as 10.1.0.0/29 }",
    );
    assert_eq!(why, "to `b` 10.1.0.0 is 10.1.0.8 of tenant `c`, behind gateway `edge`");
    let (why, _) = lost(
        "expose net : tcp to c via edge clients as 10.1.0.0/24",
        "tenant c id 3 { segment net vni 30 { 10.3.0.0/24 } }",
    );
    assert_eq!(why, "to `b` 10.1.0.0 is 10.3.0.0 of tenant `c`, behind gateway `edge`");
}

#[test]
fn there_past_every_gateway_and_back_through_one() {
    let project = |presented: &str| {
        format!(
            "tenant a id 1 {{ segment net vni 10 {{ 10.1.0.0/24 }} route 10.2.0.0/24 to b.net direct \"drill\" expose net : tcp/80 to b via edge{presented} clients as 100.65.0.0/24 }}
tenant b id 2 {{ segment net vni 20 {{ 10.2.0.0/24 }} route 10.1.0.0/24 to a.net direct \"drill\" }}
gateway edge {{ joins a, b instances g1 stateful }}
policy a-app for a in tenant {{ allow net -> b.net : tcp/22 }}
policy b-app for b in tenant {{ allow a -> net : tcp }}"
        )
    };
    let text = project("").replace("route 10.1.0.0/24 to a.net direct \"drill\"", "");
    assert_eq!(
        told(&text),
        [
            "PW0601 connections of `a` on this direct route pass no gateway, their replies pass `edge`, by which `b` reaches 10.1.0.0"
        ]
    );
    assert_eq!(told(&project(" as 100.64.0.0/24")), [] as [String; 0]);
}

/// A tenant with flows to an external and one gateway or two.
fn uplinks(shop: &str, masquerade: &str) -> String {
    format!(
        "external internet {{ 0.0.0.0/0 }}
gateway left {{ joins shop, internet instances g1 stateful attach internet on g1 dev e1 next-hop 203.0.113.1 {masquerade} }}
gateway right {{ joins shop, internet instances g2 stateful attach internet on g2 dev e1 next-hop 203.0.113.1 }}
tenant shop id 1 {{ segment front vni 10 {{ 10.1.0.0/24 }} segment back vni 11 {{ 10.1.1.0/24 }} {shop} }}
"
    )
}

#[test]
fn out_by_one_gateway_and_back_by_the_one_that_presents() {
    let rest = "policy app for shop in tenant { allow shop -> internet : tcp/443 }";
    let shop =
        "route 9.0.0.0/8 via left expose front & 10.1.0.8/29 : tcp/80 to internet & 8.0.0.0/8 via right";
    let text = format!("{}{rest}", uplinks(shop, ""));
    let findings = found(&text);
    assert_eq!(
        told(&text),
        [
            "PW0601 flows of `shop` to `internet` leave through gateway `left`, their replies to 10.1.0.8 come back through `right`"
        ]
    );
    assert_eq!(findings[0].witness.as_ref().unwrap().human, "tcp 10.1.0.8:32768 -> 9.0.0.0:443 in shop");
    // Masqueraded, translated, or through one gateway.
    let masquerade = "masquerade shop to internet as 198.51.100.1";
    assert_eq!(told(&format!("{}{rest}", uplinks(shop, masquerade))), [] as [String; 0]);
    let translated = format!("{shop} as 198.51.100.8/29");
    assert_eq!(told(&format!("{}{rest}", uplinks(&translated, ""))), [] as [String; 0]);
    let one = shop.replace("via right", "via left");
    assert_eq!(told(&format!("{}{rest}", uplinks(&one, ""))), [] as [String; 0]);
    // Nobody at that address has such flows.
    let others = "policy app for shop in tenant { allow back -> internet : tcp/443 }";
    assert_eq!(told(&format!("{}{others}", uplinks(shop, ""))), [] as [String; 0]);
}

#[test]
fn one_address_out_by_two_gateways() {
    let shop = "route 8.0.0.0/8 via left route 8.8.0.0/16 via right";
    let text = |rules: &str, masquerade: &str| {
        format!("{}policy app for shop in tenant {{ {rules} }}", uplinks(shop, masquerade))
    };
    let all = "allow shop -> internet : tcp/443";
    let findings = found(&text(all, ""));
    assert_eq!(findings.len(), 1, "{findings:#?}");
    assert_eq!(
        findings[0].message,
        "flows of `shop` to `internet` leave through `left` and through `right` with one source address: replies to 10.1.0.0 come back through one of them"
    );
    assert_eq!(told(&text(all, "masquerade shop to internet as 198.51.100.1")), [] as [String; 0]);
    let apart =
        "allow front -> internet & 8.8.0.0/16 : tcp/443  allow back -> internet except 8.8.0.0/16 : tcp/443";
    assert_eq!(told(&text(apart, "")), [] as [String; 0]);
    let meet = format!("{apart}  allow back & 10.1.1.7 -> internet & 8.8.8.8 : udp/53");
    assert_eq!(
        found(&text(&meet, ""))[0].witness.as_ref().unwrap().human,
        "udp 10.1.1.7:32768 -> 8.8.8.8:53 in shop"
    );
}

/// A gateway between two tenants of one address each.
fn pair(gateway: &str, shop: &str, api: &str) -> String {
    format!(
        "gateway edge {{ joins shop, payments {gateway} }}
tenant shop id 1 {{ segment front vni 10 {{ 10.1.0.0/16 }} }}
tenant payments id 2 {{ segment api vni 20 {{ 10.2.0.0/16 }} expose {api} : tcp/443 to shop & {shop} via edge }}
policy app for shop in tenant {{ allow {shop} -> payments : tcp/443 }}"
    )
}

#[test]
fn affinity_to_the_source_splits_directions() {
    let wide = |gateway: &str| told(&pair(gateway, "10.1.0.0/24", "10.2.0.0/24"));
    assert_eq!(
        wide("instances g1, g2, g3 stateless affinity source"),
        [
            "PW0601 gateway `edge` picks instances by the source alone: tcp 10.1.0.0:32768 -> 10.2.0.0:443 in shop passes `g3`, its replies `g1`"
        ]
    );
    for other in [
        "instances g1 stateless affinity source",
        "instances g1, g2, g3 stateless affinity symmetric",
        "instances g1, g2, g3 stateful affinity flow",
        "instances g1, g2, g3 stateless",
    ] {
        assert_eq!(wide(other), [] as [String; 0], "{other}");
    }
    // Stateful ones are PW0602's.
    let (c, diagnostics) = compile(&format!(
        "{FABRIC}{}",
        pair("instances g1, g2 stateful affinity source", "10.1.0.0/24", "10.2.0.0/24")
    ));
    assert!(diagnostics.iter().any(|d| d.code == Code::PW0602));
    assert_eq!(of_paths(&verify(&c)), []);
}

/// Two ends that hash to one instance while all three live, and part when this one fails.
#[test]
fn a_split_that_only_a_failure_shows() {
    let text = |shop: &str, api: &str, failure: &str| {
        pair(&format!("instances g1, g2, g3 stateless affinity source on-failure {failure}"), shop, api)
    };
    let probe = clean(&format!("{FABRIC}{}", text("10.1.0.0/24", "10.2.0.0/24", "rehash")));
    let gateway = probe.model.gateways.ids().next().unwrap();
    let nodes: Vec<NodeId> = probe.model.nodes.ids().collect();
    let owner = |name: &str| probe.model.owners.iter().find(|(_, o)| o.name == name).unwrap().0;
    let flow = |a: u128, b: u128| Flow {
        src: End { owner: owner("shop"), address: 0x0a01_0000 + a },
        dst: End { owner: owner("payments"), address: 0x0a02_0000 + b },
        family: Family::V4,
        protocol: 6,
        x: 40000,
        y: 443,
    };
    let split = |f: &Flow, down: &[NodeId]| {
        let at = |d| passes(&probe.model, gateway, f, d, down);
        at(Direction::Request) != at(Direction::Reply)
    };
    let (mut parting, mut together) = (None, None);
    for (a, b) in (0..256u128).flat_map(|a| (0..16u128).map(move |b| (a, b))) {
        let f = flow(a, b);
        if split(&f, &[]) {
            continue;
        }
        match nodes.iter().find(|n| split(&f, &[**n])) {
            Some(failed) => parting = parting.or(Some((a, b, *failed))),
            None => together = together.or(Some((a, b))),
        }
    }
    let (a, b, failed) = parting.expect("such a pair");
    let ends = |(a, b): (u128, u128)| (format!("10.1.0.{a}"), format!("10.2.0.{b}"));
    let (shop, api) = ends((a, b));
    let findings = found(&text(&shop, &api, "rehash"));
    assert_eq!(findings.len(), 1, "{findings:#?}");
    let name = |n: Option<NodeId>| probe.model.nodes[n.unwrap()].name.clone();
    let at = |d| name(passes(&probe.model, gateway, &flow(a, b), d, &[failed]));
    assert_eq!(
        findings[0].message,
        format!(
            "gateway `edge` picks instances by the source alone: once `{}` has failed, tcp {shop}:32768 -> {api}:443 in shop passes `{}`, its replies `{}`",
            name(Some(failed)),
            at(Direction::Request),
            at(Direction::Reply)
        )
    );
    assert!(
        findings[0]
            .notes
            .iter()
            .any(|n| n == &format!("with all instances alive both pass `{}`", name(Some(failed))))
    );
    // With `drop` both directions are gone alike; a pair of one kind goes together whatever fails.
    assert_eq!(told(&text(&shop, &api, "drop")), [] as [String; 0]);
    let (shop, api) = ends(together.expect("such a pair"));
    assert_eq!(told(&text(&shop, &api, "rehash")), [] as [String; 0]);
}

#[test]
fn steering_inside_a_tenant_is_split_too() {
    let text = |via: &str| {
        format!(
            "gateway edge {{ joins shop instances g1, g2 stateless affinity source }}
tenant shop id 1 {{ segment front vni 10 {{ 10.1.0.0/24 }} }}
policy app for shop in tenant {{ allow front -> front : tcp/80{via}  allow front -> front : tcp/443 }}"
        )
    };
    let findings = found(&text(" via edge"));
    assert_eq!(findings.len(), 1, "{findings:#?}");
    assert!(findings[0].witness.as_ref().unwrap().human.ends_with(":80 in shop"), "{findings:#?}");
    assert_eq!(told(&text("")), [] as [String; 0]);
}

/// Two tenants that meet at an external whose space knows the first one's addresses.
fn meeting(first: &str, second: &str, rules: &str, joins: &str, masquerade: &str) -> String {
    format!(
        "external bay {{ 10.70.0.0/15 }}
gateway left {{ joins a, b, bay{joins} instances g1 stateful attach bay on g1 dev e1 next-hop 10.71.255.1 {masquerade} }}
gateway right {{ joins c, bay instances g2 stateful attach bay on g2 dev e1 next-hop 10.71.255.1 }}
tenant a id 1 {{ segment net vni 10 {{ 10.70.1.0/24 }} route 10.71.0.0/16 via left {first} }}
tenant b id 2 {{ segment net vni 20 {{ 10.2.0.0/24 }} {second} }}
tenant c id 3 {{ segment net vni 30 {{ 10.3.0.0/24 }} expose net & 10.3.0.16/28 : tcp/443 to bay via right as 10.71.3.0/28 }}
policy a-app for a in tenant {{ {rules} }}"
    )
}

#[test]
fn past_every_gateway_through_an_external() {
    let all = "allow net -> bay : tcp";
    let findings = found(&meeting("", "", all, "", ""));
    assert_eq!(findings.len(), 1, "{findings:#?}");
    assert_eq!(findings[0].code, Code::PW0501);
    assert_eq!(
        findings[0].message,
        "packets of tenant `a` reach tenant `c` through external `bay`, past every gateway that joins the two"
    );
    assert_eq!(findings[0].witness.as_ref().unwrap().human, "tcp 10.70.1.0:32768 -> 10.71.3.0:443 in a");
    assert_eq!(
        findings[0].notes,
        [
            "out: a 10.70.1.0 -> `left` -> bay 10.71.3.0, allowed by `a-app#1`",
            "in again: tcp 10.70.1.0:32768 -> 10.71.3.0:443 in bay -> `right` -> c 10.3.0.16, allowed by `c.expose#1#1`"
        ]
    );
    // One of the gateways joins both; masqueraded; another service, another address, another source.
    assert_eq!(told(&meeting("", "", all, ", c", "")), [] as [String; 0]);
    assert_eq!(told(&meeting("", "", all, "", "masquerade a to bay as 10.71.255.7")), [] as [String; 0]);
    for rules in [
        "allow net -> bay : tcp/80",
        "allow net -> bay except 10.71.3.0/28 : tcp",
        "deny net -> bay & 10.71.3.0/28 : tcp/443 allow net -> bay : tcp",
    ] {
        assert_eq!(told(&meeting("", "", rules, "", "")), [] as [String; 0], "{rules}");
    }
    let denied = format!(
        "{}\npolicy shut in guardrail {{ deny bay & 10.70.0.0/16 -> c }}",
        meeting("", "", all, "", "")
    );
    assert_eq!(told(&denied), [] as [String; 0]);
    let half = format!(
        "{}\npolicy shut in guardrail {{ deny bay & 10.70.1.0/25 -> c }}",
        meeting("", "", all, "", "")
    );
    assert_eq!(
        found(&half)[0].witness.as_ref().unwrap().human,
        "tcp 10.70.1.128:32768 -> 10.71.3.0:443 in a"
    );
    // Addresses that the external does not have arrive there as nobody's.
    let elsewhere = meeting("", "", all, "", "").replace("10.70.1.0/24", "10.1.0.0/24");
    assert_eq!(told(&elsewhere), [] as [String; 0]);
}

#[test]
fn one_gateway_twice() {
    let all = "allow net -> bay : tcp/443";
    let twice = "expose net : tcp/443 to bay via left as 10.71.2.0/24";
    let quiet = "deny net -> bay & 10.71.3.0/28  allow net -> bay : tcp/443";
    assert_eq!(
        told(&meeting("", twice, quiet, "", "")),
        ["PW0604 connections of tenant `a` to `b` pass gateway `left` twice, out to `bay` and in again"]
    );
    assert_eq!(told(&meeting("", twice, all, "", "")).len(), 2);
    assert_eq!(told(&meeting("", twice, quiet, "", "masquerade a to bay as 10.71.255.7")), [] as [String; 0]);
    // A tenant that meets itself.
    let own = "expose net & 10.70.1.0/28 : tcp/443 to bay via left as 10.71.2.0/28 clients as 10.80.0.0/15";
    assert_eq!(
        told(&meeting(own, "", quiet, "", "")),
        ["PW0604 connections of tenant `a` to `a` pass gateway `left` twice, out to `bay` and in again"]
    );
}

/// One cause, one finding, however many tenants a route's packets reach.
#[test]
fn tenants_beyond_an_external_are_listed_together() {
    let text = |count: usize| {
        let mut text = meeting("", "", "allow net -> bay except 10.71.3.0/28 : tcp/443", "", "");
        let names: Vec<String> = (0..count).map(|n| format!("d{n}")).collect();
        for (n, name) in names.iter().enumerate() {
            text.push_str(&format!(
                "\ntenant {name} id {0} {{ segment net vni {0} {{ 10.9.{n}.0/24 }} expose net : tcp/443 to bay via right as 10.71.9.{n} }}",
                100 + n
            ).replace("expose net", &format!("expose net & 10.9.{n}.7")));
        }
        text.replace("joins c, bay", &format!("joins c, {}, bay", names.join(", ")))
    };
    let listed = |count| {
        let findings = found(&text(count));
        assert_eq!(findings.iter().map(|d| d.code).collect::<Vec<_>>(), [Code::PW0501]);
        assert!(findings[0].message.starts_with("packets of tenant `a` reach tenant `d0` through"));
        findings[0].notes.get(2).cloned()
    };
    assert_eq!(listed(1), None);
    assert_eq!(listed(3).as_deref(), Some("tenants reached so too: `d1`, `d2`"));
    assert_eq!(
        listed(7).as_deref(),
        Some("tenants reached so too: `d1`, `d2`, `d3`, `d4`; further ones are not looked for")
    );
}

#[test]
fn ipv6_is_judged_as_ipv4_is() {
    let six = |text: &str| {
        text.replace("10.1.0.0/24", "fd00:1::/64").replace("10.2.0.0/24", "fd00:2::/64").replace("/16", "/48")
    };
    assert_eq!(
        told(&six(&one_way("", ""))),
        [
            "PW0603 replies to the connections of `a` on this direct route cannot come back: `b` has no route to fd00:1::"
        ]
    );
    // A /64 is not searched address by address.
    let wide = six(&pair("instances g1, g2 stateless affinity source", "10.1.0.0/24", "10.2.0.0/24"))
        .replace("10.1.0.0/48", "fd00:1::/48")
        .replace("10.2.0.0/48", "fd00:2::/48");
    let findings = found(&wide);
    assert_eq!(findings.iter().map(|d| d.code).collect::<Vec<_>>(), [Code::PW0601]);
    assert!(findings[0].witness.as_ref().unwrap().human.starts_with("tcp [fd00:1::]:32768 -> [fd00:2::"));
}

#[test]
fn witnesses_are_declared_endpoints_where_they_fit() {
    let endpoints = "node c1 { vtep 192.0.2.11 dev eth0 }
endpoint web in shop.front { at 10.1.0.77 on c1 dev \"tap1\" }
endpoint one in payments.api { at 10.2.0.66 on c1 dev \"tap2\" }
endpoint two in payments.api { at 10.2.0.67 on c1 dev \"tap3\" }";
    let text = pair("instances g1, g2, g3 stateless affinity source", "10.1.0.0/24", "10.2.0.0/24");
    let human = |text: &str| found(text)[0].witness.as_ref().unwrap().human.clone();
    let witness = human(&format!("{text}\n{endpoints}"));
    assert!(witness.starts_with("tcp 10.1.0.77:32768 -> 10.2.0.6"), "{witness}");
    let direct = format!(
        "{}\nnode c1 {{ vtep 192.0.2.11 dev eth0 }}\nendpoint e in a.net {{ at 10.1.0.9 on c1 dev \"tap1\" }}",
        one_way("", "")
    );
    assert_eq!(human(&direct), "tcp 10.1.0.9:32768 -> 10.2.0.0:22 in a");
}

#[test]
fn what_is_in_error_is_not_judged() {
    let text = format!("{FABRIC}{}", one_way("", "policy more for b in tenant { allow nobody -> net }"));
    let (c, diagnostics) = compile(&text);
    assert!(diagnostics.iter().any(|d| d.code == Code::PW0101));
    let verdicts = verify(&c);
    assert!(!verdicts.skipped.is_empty());
    assert_eq!(of_paths(&verdicts), []);
}

/// Beyond the boxes: routes are asked of Z3, which answers alike; the rest is undecided, and said to be.
#[test]
fn without_boxes_nothing_is_guessed() {
    let starved = |text: &str| {
        let c = clean(&format!("{FABRIC}{text}"));
        let options = Options { work: 0, ..Options::default() };
        of_paths(&verify_with(&c, &options).expect("solver and evaluator agree"))
    };
    let text = one_way("", "");
    assert_eq!(starved(&text), found(&text));
    for text in [
        pair("instances g1, g2 stateless affinity source", "10.1.0.0/24", "10.2.0.0/24"),
        meeting("", "", "allow net -> bay : tcp", "", ""),
    ] {
        let findings = starved(&text);
        assert_eq!(findings.iter().map(|d| d.code).collect::<Vec<_>>(), [Code::PW0901], "{findings:#?}");
    }
}
