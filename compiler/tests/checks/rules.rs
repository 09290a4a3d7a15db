//! Rules that match nothing, expire or govern what is not their owner's (PW0405, PW0406, PW0504).

use crate::support::expect;
use lang::diag::Severity;

const PROJECT: &str = "external internet { 0.0.0.0/0, ::/0 }
gateway edge { joins a, b, internet instances g1 stateful
  attach internet on g1 dev up0 next-hop 203.0.113.1, 2001:db8::1
}
tenant a id 1 { segment s vni 1 { 10.1.0.0/24 } segment v6 vni 2 { fd00:1::/64 }
  route 198.51.100.0/24 via edge
}
tenant b id 2 { segment s vni 3 { 10.2.0.0/24 }
  expose s : tcp/443 to a & 10.1.0.0/25 via edge
}\n";

#[test]
fn rules_that_no_possible_flow_matches() {
    let found = expect(&format!(
        "{PROJECT}
         policy p for a in tenant {{
           allow s -> b : tcp/443
           allow s -> b : udp //~ PW0405
           allow s & 10.1.0.128/25 -> b : tcp/443 //~ PW0405
           deny b -> s : tcp //~ PW0405
           allow s -> internet & 198.51.100.0/24 : tcp/443
           allow s -> internet & 203.0.113.0/24 : tcp/443 //~ PW0405
           allow v6 -> internet //~ PW0405
           allow s -> v6 //~ PW0405
           allow s -> s : icmp6 //~ PW0405
           allow v6 -> v6 : icmp6
           allow s & 10.1.0.5/32 -> s & 10.1.0.5/32 //~ PW0405
           allow s & 10.9.0.0/16 -> s //~ PW0405
           deny any -> s : proto/47
         }}
         policy q in baseline {{
           deny internet -> internet //~ PW0405
           deny internet -> any //~ PW0405
           deny any -> internet
           deny same-tenant
         }}"
    ));
    let labels: Vec<&str> = found.iter().map(|f| f.finding.label.as_str()).collect();
    assert_eq!(labels[0], "no exposure of `b` to `a` holds these addresses and this service");
    assert_eq!(labels[2], "`a` exposes nothing to `b`");
    assert_eq!(labels[3], "no route of `a` leads to these addresses of `internet`");
    assert_eq!(labels[7], "one address alone opens no connection to itself");
    assert_eq!(labels[8], "its source set holds no address");
    assert!(found.iter().all(|f| f.finding.severity == Severity::Warning && f.finding.rules.len() == 1));
}

#[test]
fn an_empty_group_is_one_finding_whatever_names_it() {
    let found = expect(&format!(
        "{PROJECT}
         group nobody = a.s & 10.77.0.0/16 //~ PW0405
         policy p in baseline {{
           deny nobody -> any
           deny any -> nobody
         }}"
    ));
    assert_eq!(found[0].finding.message, "group `nobody` holds no address");
}

#[test]
fn exposures_and_isolations_of_nothing() {
    expect(&format!(
        "{PROJECT}
         extend tenant b {{
           expose s & 10.99.0.0/16 : tcp/80 to a via edge //~ PW0405
           expose s : tcp/80 to a & 10.99.0.0/16 via edge //~ PW0405
           expose s : tcp/80 to a.v6 via edge //~ PW0405
           expose s : icmp6 to a.s via edge //~ PW0405
         }}
         isolate a & 10.99.0.0/16 from b //~ PW0405"
    ));
}

#[test]
fn nothing_is_said_of_flows_that_an_error_concerns() {
    // Whether the rule matches depends on what the exposure in error was to be.
    expect(
        "gateway edge { joins a, b instances g1 stateful }
         tenant a id 1 { segment s vni 1 { 10.1.0.0/24 } }
         tenant b id 2 { segment s vni 3 { 10.2.0.0/24 }
           expose s : tcp/443 to a via edge as 100.64.0.0/25 //~ PW0306
         }
         policy p for a in tenant { allow s -> b : tcp/443 }",
    );
}

#[test]
fn the_date_is_the_last_day_on_which_a_rule_counts() {
    let found = expect(&format!(
        "{PROJECT}
         policy p for a in tenant {{
           allow s -> s : tcp/1 expires 2026-11-20 //~ PW0406
           allow s -> s : tcp/2 expires 2026-11-21 //~ PW0406
           allow s -> s : tcp/3 expires 2026-11-22 //~ PW0406
           allow s -> s : tcp/4 expires 2026-12-21 //~ PW0406
           allow s -> s : tcp/5 expires 2026-12-22
           allow s -> s : tcp/6 expires 2025-11-21 //~ PW0406
         }}"
    ));
    let said: Vec<(&str, Severity)> =
        found.iter().map(|f| (f.finding.message.as_str(), f.finding.severity)).collect();
    assert_eq!(
        said,
        [
            ("rule `p#1` expired on 2026-11-20", Severity::Error),
            ("rule `p#2` expires today", Severity::Warning),
            ("rule `p#3` expires in 1 day", Severity::Warning),
            ("rule `p#4` expires in 30 days", Severity::Warning),
            ("rule `p#6` expired on 2025-11-21", Severity::Error),
        ]
    );
    assert_eq!(found[4].finding.label, "365 days ago");
}

#[test]
fn a_tenants_policy_governs_its_own_flows() {
    let found = expect(&format!(
        "{PROJECT}
         policy p for a in tenant {{
           deny any -> s : tcp/1
           deny s -> any : tcp/2
           deny any -> any : tcp/3 //~ PW0504
           deny s | b -> b : tcp/4 //~ PW0504
           deny b | internet -> s | b : tcp/5 //~ PW0504
           allow same-tenant : tcp/6
         }}"
    ));
    let messages: Vec<&str> = found.iter().map(|f| f.finding.message.as_str()).collect();
    assert_eq!(
        messages,
        [
            "rule `p#3` of a policy for tenant `a` governs flows inside tenant `b`",
            "rule `p#4` of a policy for tenant `a` governs flows inside tenant `b`",
            "rule `p#5` of a policy for tenant `a` governs flows inside tenant `b`",
        ]
    );
}
