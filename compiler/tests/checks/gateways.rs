//! What gateways cannot do (PW0306, PW0307, PW0505, PW0602).

use crate::support::expect;

const OUTSIDE: &str = "external internet { 0.0.0.0/0, ::/0 }
external hq { 172.16.0.0/12 }\n";

#[test]
fn routes_that_end_in_a_black_hole() {
    let found = expect(&format!(
        "{OUTSIDE}
         gateway edge {{ joins a, b, hq instances g1 stateful attach hq on g1 dev up0 next-hop 203.0.113.1 }}
         gateway inner {{ joins a, b, c instances g1 stateful }}
         tenant a id 1 {{ segment s vni 1 {{ 10.1.0.0/24 }}
           route 172.16.0.0/12 via edge
           route 10.0.0.0/8 via edge //~ PW0307
           route 0.0.0.0/0 via edge
           route 9.0.0.0/8 via inner //~ PW0307
         }}
         tenant b id 2 {{ segment s vni 2 {{ 10.2.0.0/24 }} }}
         tenant c id 3 {{ segment s vni 3 {{ 10.3.0.0/24 }}
           route 0.0.0.0/0 via edge //~ PW0307
         }}"
    ));
    let messages: Vec<&str> = found.iter().map(|f| f.finding.message.as_str()).collect();
    assert_eq!(
        messages,
        [
            "route 10.0.0.0/8 leads to gateway `edge`, none of whose externals has such addresses",
            "route 9.0.0.0/8 leads to gateway `inner`, which joins no external",
            "tenant `c` routes 0.0.0.0/0 via `edge`, which does not join it",
        ]
    );
    assert!(found[2].help().starts_with("add `c` to `joins` of gateway `edge`"));
}

#[test]
fn exposures_whose_gateway_does_not_join_all_concerned() {
    let found = expect(
        "gateway edge { joins a, b instances g1 stateful }
         tenant a id 1 { segment s vni 1 { 10.1.0.0/24 }
           expose s : tcp/80 via edge {
             to b
             to b, c, d //~ PW0307
           }
         }
         tenant b id 2 { segment s vni 2 { 10.2.0.0/24 } }
         tenant c id 3 { segment s vni 3 { 10.3.0.0/24 }
           expose s : tcp/80 via edge { //~ PW0307
             to a
             to b
           }
         }
         tenant d id 4 { segment s vni 4 { 10.4.0.0/24 } }",
    );
    assert_eq!(
        found[0].finding.message,
        "`a.expose#1#2` is for `c` and `d` through gateway `edge`, which does not join them"
    );
}

#[test]
fn attachments() {
    let found = expect(&format!(
        "{OUTSIDE}
         gateway edge {{
           joins a, internet //~ PW0307
           instances g1, g2
           stateful
           attach internet on g1 dev up0 next-hop 203.0.113.1 //~ PW0307
           attach hq on g1 dev up1 next-hop 203.0.113.1 //~ PW0307
         }}
         gateway core {{
           joins a, b, hq
           instances g1
           stateful
           attach hq on g1 dev up1 next-hop 203.0.113.1
           attach hq on g2 dev up1 next-hop 203.0.113.1 //~ PW0307
         }}
         gateway weak {{
           joins a
           instances c1, g2 //~ PW0307
           stateful
         }}
         tenant a id 1 {{ segment s vni 1 {{ 10.1.0.0/24, fd00:1::/64 }}
           route 0.0.0.0/0 via edge
           route ::/0 via edge
         }}
         tenant b id 2 {{ segment s vni 2 {{ 10.2.0.0/24, fd00:2::/64 }}
           route 172.16.0.0/12 via core
         }}"
    ));
    let messages: Vec<&str> = found.iter().map(|f| f.finding.message.as_str()).collect();
    assert_eq!(
        messages,
        [
            "gateway `edge` joins external `internet` without an attachment on `g2`",
            "external `internet` has no IPv6 next hop on `g1`, though IPv6 flows go there",
            "gateway `edge` attaches external `hq`, which it does not join",
            "external `hq` is attached on `g2`, where gateway `core` has no instance",
            "instance `c1` of gateway `weak` is not a gateway node",
        ]
    );
}

#[test]
fn a_family_that_nobody_uses_needs_no_next_hop() {
    expect(&format!(
        "{OUTSIDE}
         gateway edge {{ joins a, internet instances g1 stateful attach internet on g1 dev up0 next-hop 203.0.113.1 }}
         tenant a id 1 {{ segment s vni 1 {{ 10.1.0.0/24 }}
           route 0.0.0.0/0 via edge
           route ::/0 via edge
           expose s : tcp/80 to internet via edge
         }}"
    ));
}

#[test]
fn masquerade_pairs_with_instances_and_needs_state() {
    expect(&format!(
        "{OUTSIDE}
         gateway edge {{
           joins a, b, internet
           instances g1, g2
           stateful
           attach internet on g1 dev up0 next-hop 203.0.113.1
           attach internet on g2 dev up0 next-hop 203.0.113.1
           masquerade a to internet as 198.51.100.0/31
           masquerade b to internet as 198.51.100.7, 2001:db8:1::1, 2001:db8:1::2 //~ PW0306
           masquerade c to internet as 198.51.100.8, 198.51.100.9 //~ PW0307
           masquerade a to internet as 198.51.100.10, 198.51.100.11 //~ PW0303
         }}
         gateway plain {{
           joins a, internet
           instances g1
           stateless
           affinity source
           attach internet on g1 dev up0 next-hop 203.0.113.1
           masquerade a to internet as 198.51.100.20 //~ PW0602
         }}
         gateway lopsided {{
           joins a, b
           instances g1
           stateful
           affinity source //~ PW0602
         }}
         tenant a id 1 {{ segment s vni 1 {{ 10.1.0.0/24 }} }}
         tenant b id 2 {{ segment s vni 2 {{ 10.2.0.0/24 }} }}
         tenant c id 3 {{ segment s vni 3 {{ 10.3.0.0/24 }} }}"
    ));
}

const TWO: &str = "gateway edge { joins a, b instances g1 stateful }
gateway core { joins b, c instances g2 stateful }
tenant a id 1 { segment s vni 1 { 10.1.0.0/24 }
  route 10.3.0.0/24 to c.s direct \"CHG-1\"
}
tenant b id 2 { segment s vni 2 { 10.2.0.0/24 }
  expose s : tcp/{80, 443} to a via edge
  expose s : tcp/80 to c via core
}
tenant c id 3 { segment s vni 3 { 10.3.0.0/24 }
  route 10.1.0.0/24 to a.s direct \"CHG-1\"
}\n";

#[test]
fn via_names_the_gateway_that_carries_the_flows() {
    let found = expect(&format!(
        "{TWO}
         policy p for a in tenant {{
           allow s -> b.s : tcp/80 via edge
           allow s -> b.s : tcp/443 via core //~ PW0505
           allow s -> c.s : tcp/80 via edge //~ PW0505
         }}
         policy q for b in tenant {{
           allow a | c -> s : tcp/80 via edge //~ PW0505
           allow a -> s : tcp via edge
         }}"
    ));
    let messages: Vec<&str> = found.iter().map(|f| f.finding.message.as_str()).collect();
    assert_eq!(
        messages,
        [
            "rule `p#2` wants `core`, but flows from tenant `a` to tenant `b` go through gateway `edge`",
            "rule `p#3` wants `edge`, but flows from tenant `a` to tenant `c` go past every gateway, by a direct route",
            "rule `q#1` wants `edge`, but flows from tenant `c` to tenant `b` go through gateway `core`",
        ]
    );
}

#[test]
fn via_inside_a_tenant_needs_a_gateway_that_joins_it() {
    let found = expect(&format!(
        "{TWO}
         policy p for a in tenant {{
           allow s -> s : tcp/80 via edge
           allow s -> s : tcp/443 via core //~ PW0505
         }}
         policy all in baseline {{
           allow same-tenant : udp via edge //~ PW0505
           allow b -> b : tcp via edge
         }}"
    ));
    assert!(found[1].finding.message.contains("steers flows inside tenant `c` through gateway `edge`"));
}

/// The route leads to the narrower external alone, so the other one needs no next hop of its family.
#[test]
fn a_next_hop_is_due_where_flows_can_go() {
    let project = |route: &str| {
        format!(
            "{OUTSIDE}
             gateway edge {{ joins a, internet, hq instances g1 stateful
               attach internet on g1 dev up0 next-hop 2001:db8::1
               attach hq on g1 dev up1 next-hop 203.0.113.1
             }}
             tenant a id 1 {{ segment s vni 1 {{ 10.1.0.0/24 }} route {route} via edge }}"
        )
    };
    expect(&project("172.16.0.0/13"));
    let found = crate::support::findings(&format!("{}{}", crate::support::FABRIC, project("172.0.0.0/8")));
    let messages: Vec<&str> = found.iter().map(|f| f.finding.message.as_str()).collect();
    assert_eq!(messages, ["external `internet` has no IPv4 next hop on `g1`, though IPv4 flows go there"]);
}
