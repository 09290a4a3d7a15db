//! One prefix of a space means one thing and is reached on one path (PW03xx).

use crate::support::{FABRIC, compile_files, expect};

const GATEWAYS: &str = "gateway edge { joins a, b, c instances g1 stateful }
gateway core { joins a, b, c instances g2 stateful }\n";

#[track_caller]
fn joined(text: &str) -> Vec<crate::support::Found> {
    expect(&format!("{GATEWAYS}{text}"))
}

#[test]
fn equal_spaces_without_any_translation_are_one_finding_with_both_clauses() {
    let found = joined(
        "tenant a id 1 { segment s vni 1 { 10.1.0.0/24 } }
         tenant b id 2 { segment s vni 2 { 10.1.0.0/24 }
           expose s : tcp/80 to a via edge //~ PW0301
         }
         tenant c id 3 { segment s vni 3 { 10.3.0.0/24 } }",
    );
    assert_eq!(
        found[0].finding.message,
        "`b.expose#1#1` presents 10.1.0.0/24 of `b` untranslated to tenant `a`, whose own segments overlap it"
    );
    assert_eq!(
        found[0].help(),
        "present it under a free prefix: `as 100.64.0.0/24`, and show the clients under a free prefix: `clients as \
         100.64.1.0/24`"
    );
}

#[test]
fn the_help_of_a_missing_translation_is_a_repair() {
    let with = |clauses: &str| {
        format!(
            "tenant a id 1 {{ segment s vni 1 {{ 10.1.0.0/24, fd00:1::/64 }} segment t vni 4 {{ 100.64.0.0/24 }} }}
             tenant b id 2 {{ segment s vni 2 {{ 10.1.0.0/16, fd00:2::/64 }}
               expose s & (10.1.0.0/25 | 10.9.0.0/25 | fd00:2::/64) : tcp/80 to a.s via edge{clauses}
             }}
             tenant c id 3 {{ segment s vni 3 {{ 10.3.0.0/24 }} }}"
        )
    };
    let found = joined(&with(" //~ PW0301"));
    let help = found[0].help();
    // What does not overlap stays as it is.
    let (_, presented) = help.split_once("`as ").expect("an `as` clause");
    let (presented, rest) = presented.split_once('`').expect("its end");
    let (_, clients) = rest.split_once("`clients as ").expect("a `clients as` clause");
    let clients = clients.trim_end_matches('`');
    assert_eq!((presented, clients), ("100.64.1.0/25, fd00:2::/64", "100.64.2.0/24, fd00:1::/64"));
    joined(&with(&format!(" as {presented} clients as {clients}")));
}

#[test]
fn suggestions_do_not_repeat() {
    let found = joined(
        "tenant a id 1 { segment s vni 1 { 10.1.0.0/24 } }
         tenant b id 2 { segment s vni 2 { 10.1.0.0/24 } segment t vni 3 { 10.2.0.0/24 }
           expose s : tcp/80 via edge { //~ PW0301
             to a clients as 100.64.0.0/24
             to c
           }
           expose t : tcp/80 to a via edge //~ PW0301
         }
         tenant c id 3 { segment s vni 4 { 10.3.0.0/24 } }",
    );
    assert_eq!(found[0].help(), "present it under a free prefix: `as 100.64.1.0/24`");
    assert_eq!(found[1].help(), "show the clients under a free prefix: `clients as 100.64.2.0/24`");
}

#[test]
fn clients_alone_may_overlap() {
    let found = joined(
        "tenant a id 1 { segment s vni 1 { 10.1.0.0/24 } }
         tenant b id 2 { segment s vni 2 { 10.1.0.0/24 }
           expose s & 10.1.0.8/32 : tcp/80 via edge as 100.64.0.8 {
             to a //~ PW0301
             to c
           }
         }
         tenant c id 3 { segment s vni 3 { 10.3.0.0/24 } }",
    );
    assert!(
        found[0]
            .finding
            .message
            .starts_with("`b.expose#1#1` shows 10.1.0.0/24 of `a` untranslated to tenant `b`")
    );
}

#[test]
fn a_translation_into_somebodys_segments_captures() {
    joined(
        "tenant a id 1 { segment s vni 1 { 10.1.0.0/24 } }
         tenant b id 2 { segment s vni 2 { 10.2.0.0/24 } segment t vni 4 { 10.4.0.0/16 }
           expose s & 10.2.0.8/32 : tcp/80 to a via edge as 10.1.0.200 //~ PW0302
           expose t : tcp/80 to a via edge as 10.1.0.0/16 //~ PW0302
           expose s & 10.2.0.9/32 : tcp/80 to c & 10.3.0.0/25 via edge clients as 10.2.0.128/25 //~ PW0302
         }
         tenant c id 3 { segment s vni 3 { 10.3.0.0/24 } }",
    );
}

#[test]
fn imports_and_clients_of_two_owners_nest_or_are_equal() {
    let found = joined(
        "tenant a id 1 { segment s vni 1 { 10.1.0.0/24 }
           expose s & 10.1.0.7/32 : tcp/80 to c & 10.3.0.16/28 via edge clients as 100.64.1.16/28 //~ PW0302
         }
         tenant b id 2 { segment s vni 2 { 10.2.0.0/24 }
           expose s : tcp/80 to a via edge as 100.64.1.0/24
         }
         tenant c id 3 { segment s vni 3 { 10.3.0.0/24 }
           expose s & 10.3.0.0/25 : tcp/80 to a via edge as 100.64.1.128/25 //~ PW0302
           expose s : tcp/443 to a via edge as 100.64.1.0/24 //~ PW0303
         }",
    );
    assert_eq!(
        found[0].finding.message,
        "in the space of tenant `a` the client prefix 100.64.1.16/28 of `c` (`a.expose#1#1`) captures addresses of \
         100.64.1.0/24 presented by `b.expose#1#1`"
    );
}

#[test]
fn one_presented_prefix_with_two_meanings_of_one_owner() {
    joined(
        "tenant a id 1 { segment s vni 1 { 10.1.0.0/24 } }
         tenant b id 2 { segment s vni 2 { 10.2.0.0/24 } segment t vni 4 { 10.4.0.0/24 }
           expose s : tcp/80 to a via edge as 100.64.1.0/24
           expose t : tcp/80 to a via edge as 100.64.1.0/24 //~ PW0303
           expose s : tcp/443 to a via edge as 100.64.1.0/24
           expose s & 10.2.0.0/25 : tcp/22 to a via edge as 100.64.1.0/25
         }
         tenant c id 3 { segment s vni 3 { 10.3.0.0/24 } }",
    );
}

#[test]
fn two_gateways_once_for_all_who_see_it() {
    let found = joined(
        "tenant a id 1 { segment s vni 1 { 10.1.0.0/24 } }
         tenant b id 2 { segment s vni 2 { 10.2.0.0/24 }
           expose s : tcp/80 to a, c via edge
           expose s & 10.2.0.0/25 : tcp/443 to a, c via core //~ PW0305
         }
         tenant c id 3 { segment s vni 3 { 10.3.0.0/24 } }",
    );
    assert!(
        found[0].finding.message.contains("by gateway `edge`") && found[0].finding.message.contains("`core`")
    );
}

#[test]
fn a_connection_has_one_source_address() {
    let text = |service: &str, mark: &str| {
        format!(
            "tenant a id 1 {{ segment s vni 1 {{ 10.1.0.0/24 }} }}
             tenant b id 2 {{ segment s vni 2 {{ 10.2.0.0/24 }}
               expose s : tcp/80 to a via edge
               expose s : {service} to a via edge clients as 100.64.1.0/24 {mark}
             }}
             tenant c id 3 {{ segment s vni 3 {{ 10.3.0.0/24 }} }}"
        )
    };
    let found = joined(&text("tcp/{80, 443}", "//~ PW0303"));
    assert!(found[0].finding.message.ends_with("one connection would have two source addresses"));
    joined(&text("tcp/443", ""));
}

#[test]
fn direct_routes_that_hand_packets_round() {
    let found = joined(
        "tenant a id 1 { segment s vni 1 { 10.1.0.0/16 }
           route 10.1.1.0/24 to b.s direct \"CHG-1\" //~ PW0304
         }
         tenant b id 2 { segment s vni 2 { 10.1.0.0/16 }
           route 10.1.0.0/17 to c.s direct \"CHG-2\"
         }
         tenant c id 3 { segment s vni 3 { 10.1.0.0/16 }
           route 10.1.1.128/25 to a.s direct \"CHG-3\"
         }",
    );
    let finding = &found[0].finding;
    assert_eq!(finding.message, "packets to 10.1.1.128 go round for ever: a -> b -> c -> a");
    assert_eq!(finding.label, "in `a` 10.1.1.0/24 goes to `b`");
    let hops: Vec<&str> = finding.related.iter().map(|label| label.message.as_str()).collect();
    assert_eq!(hops, ["in `b` 10.1.0.0/17 goes to `c`", "in `c` 10.1.1.128/25 goes to `a`"]);
}

#[test]
fn direct_routes_within_own_segments_that_end_are_captures() {
    joined(
        "tenant a id 1 { segment s vni 1 { 10.1.0.0/16 }
           route 10.1.1.0/24 to b.s direct \"CHG-1\" //~ PW0302
         }
         tenant b id 2 { segment s vni 2 { 10.1.0.0/16 } }
         tenant c id 3 { segment s vni 3 { 10.3.0.0/24 } }",
    );
}

const OUTSIDE: &str = "external internet { 0.0.0.0/0 }
external hq { 172.16.0.0/12 }
gateway ext { joins a, b, c, internet, hq instances g1 stateful
  attach internet on g1 dev up0 next-hop 203.0.113.1
  attach hq on g1 dev up1 next-hop 203.0.113.1
MASQUERADE}
gateway out { joins a, b, internet instances g2 stateful
  attach internet on g2 dev up0 next-hop 203.0.113.1
}\n";

#[track_caller]
fn outside(masquerade: &str, text: &str) -> Vec<crate::support::Found> {
    expect(&format!("{}{text}", OUTSIDE.replace("MASQUERADE", masquerade)))
}

#[test]
fn longer_prefixes_inside_a_route_to_an_external_capture_nothing() {
    outside(
        "",
        "tenant a id 1 { segment s vni 1 { 10.1.0.0/24 }
           route 0.0.0.0/0 via ext
           expose s : tcp/80 to internet via ext
         }
         tenant b id 2 { segment s vni 2 { 10.2.0.0/24 }
           expose s : tcp/80 to a via ext as 172.16.5.0/24
           expose s & 10.2.0.1/32 : tcp/80 to hq via out //~ PW0307
         }
         tenant c id 3 { segment s vni 3 { 10.3.0.0/24 } }",
    );
}

#[test]
fn routes_inside_segments_and_imports_capture() {
    outside(
        "",
        "tenant a id 1 { segment s vni 1 { 10.1.0.0/24 }
           route 10.1.0.0/28 via ext //~ PW0302
           route 10.0.0.0/8 via ext
           route 100.64.0.0/25 via ext //~ PW0302
           route 100.64.1.0/24 via ext
         }
         tenant b id 2 { segment s vni 2 { 10.2.0.0/24 } segment t vni 4 { 10.4.0.0/24 }
           expose s : tcp/80 to a via ext as 100.64.0.0/24
           expose t : tcp/80 to a via ext as 100.64.1.0/24 //~ PW0303
         }
         tenant c id 3 { segment s vni 3 { 10.3.0.0/24 } }",
    );
}

#[test]
fn one_external_through_two_gateways() {
    outside(
        "",
        "tenant a id 1 { segment s vni 1 { 10.1.0.0/24 }
           route 0.0.0.0/0 via ext
           route 8.0.0.0/8 via out
           expose s : tcp/80 to internet via out //~ PW0305
         }
         tenant b id 2 { segment s vni 2 { 10.2.0.0/24 }
           route 8.0.0.0/8 via ext
           route 8.0.0.0/8 via out //~ PW0305
         }
         tenant c id 3 { segment s vni 3 { 10.3.0.0/24 } }",
    );
}

#[test]
fn sources_that_look_alike_need_masquerade() {
    let tenants = |mark: &str| {
        format!(
            "tenant a id 1 {{ segment s vni 1 {{ 10.1.0.0/24 }} route 0.0.0.0/0 via ext }}
             tenant b id 2 {{ segment s vni 2 {{ 10.1.0.0/16 }}
               route 0.0.0.0/0 via ext {mark}
             }}
             tenant c id 3 {{ segment s vni 3 {{ 10.1.0.0/24 }} }}"
        )
    };
    let found = outside("", &tenants("//~ PW0303"));
    assert!(
        found[0]
            .finding
            .message
            .starts_with("flows of tenants `a` and `b` to external `hq` would both come from"),
        "{}",
        found[0].finding.message
    );
    outside("masquerade b to internet as 198.51.100.7\nmasquerade b to hq as 198.51.100.7\n", &tenants(""));
}

#[test]
fn masquerade_addresses_are_nobody_elses() {
    outside(
        "masquerade a to internet as 198.51.100.7
         masquerade b to internet as 198.51.100.7 //~ PW0303
         masquerade c to internet as 198.51.100.9 //~ PW0303\n",
        "tenant a id 1 { segment s vni 1 { 10.1.0.0/24 } }
         tenant b id 2 { segment s vni 2 { 10.2.0.0/24 }
           expose s & 10.2.0.8/31 : tcp/80 to internet via ext as 198.51.100.8/31
         }
         tenant c id 3 { segment s vni 3 { 10.3.0.0/24 } }",
    );
}

#[test]
fn one_address_presented_outside_by_two_tenants() {
    outside(
        "",
        "tenant a id 1 { segment s vni 1 { 10.1.0.0/24 }
           expose s & 10.1.0.8/32 : tcp/80 to internet via ext as 203.0.113.10
         }
         tenant b id 2 { segment s vni 2 { 10.2.0.0/24 }
           expose s & 10.2.0.8/32 : tcp/443 to internet via ext as 203.0.113.10 //~ PW0303
           expose s & 10.2.0.9/32 : tcp/443 to internet via ext as 203.0.113.11
           expose s & 10.2.0.9/32 : tcp/80 to internet via out as 203.0.113.11 //~ PW0305
         }
         tenant c id 3 { segment s vni 3 { 10.3.0.0/24 } }",
    );
}

#[test]
fn one_prefix_of_two_externals_behind_one_gateway() {
    let found = expect(
        "external one { 172.16.0.0/12 }
         external two { 172.16.0.0/12, 172.16.0.0/16 } //~ PW0303
         gateway edge { joins a, one, two instances g1 stateful
           attach one on g1 dev up0 next-hop 203.0.113.1
           attach two on g1 dev up1 next-hop 203.0.113.1
         }
         tenant a id 1 { segment s vni 1 { 10.1.0.0/24 } route 172.16.0.0/12 via edge }",
    );
    assert_eq!(
        found[0].finding.message,
        "behind gateway `edge` 172.16.0.0/12 belongs to two externals, `one` and `two`"
    );
}

#[test]
fn owners_whose_flows_an_error_leaves_open_are_marked_and_no_others() {
    let text = format!(
        "{FABRIC}{GATEWAYS}
         tenant a id 1 {{ segment s vni 1 {{ 10.1.0.0/24 }} }}
         tenant b id 2 {{ segment s vni 2 {{ 10.1.0.0/24 }}
           expose s : tcp/80 to a via edge
         }}
         tenant c id 3 {{ segment s vni 3 {{ 10.3.0.0/24 }} }}"
    );
    let model = compile_files(&[("main.pw", &text)]).compiled.model;
    let tainted: Vec<&str> = model.tainted.iter().map(|id| model.owners[*id].name.as_str()).collect();
    assert_eq!(tainted, ["a", "b"]);
}

#[test]
fn findings_do_not_depend_on_how_declarations_are_spread_over_files() {
    let rest = format!("{FABRIC}{GATEWAYS}tenant a id 1 {{ segment s vni 1 {{ 10.1.0.0/24 }} }}\n");
    let broken = "tenant c id 3 { segment s vni 3 { 10.3.0.0/24 } }
        tenant b id 2 { segment s vni 2 { 10.1.0.0/24 } }
        extend tenant b { expose s : tcp/80 to a via edge }
        policy p for c in tenant { allow s -> a : tcp/80 }";
    let said = |files: &[(&str, &str)]| {
        let mut said: Vec<String> = compile_files(files)
            .diagnostics
            .iter()
            .map(|d| format!("{} {} {:?}", d.code, d.message, d.help))
            .collect();
        said.sort();
        said
    };
    let one = said(&[("main.pw", &format!("{rest}{broken}"))]);
    assert!(one.iter().any(|d| d.starts_with("PW0301")), "{one:#?}");
    assert_eq!(said(&[("a.pw", &rest), ("b.pw", broken)]), one);
    assert_eq!(said(&[("a.pw", broken), ("b.pw", &rest)]), one);
}
