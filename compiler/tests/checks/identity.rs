//! Numbers and addresses that must be one thing's own (PW02xx, PW0308).

use crate::support::{FABRIC, expect, findings};

#[test]
fn one_vni_on_three_segments_is_two_findings_that_point_at_the_first() {
    let found = expect(
        "tenant a id 1 { segment s vni 10 { 10.1.0.0/24 }
           segment t vni 10 { 10.1.1.0/24 } //~ PW0202
         }
         tenant b id 2 { segment s vni 10 { 10.1.0.0/24 } } //~ PW0202
         tenant c id 3 { segment s vni 11 { 10.1.0.0/24 } }",
    );
    assert_eq!(
        found[0].finding.message,
        "segments `a.s` and `a.t` have one VNI, 10: two networks would become one"
    );
    assert_eq!(found[0].finding.related[0].span, found[1].finding.related[0].span);
    assert!(found[0].help().contains("12 is free"), "{}", found[0].help());
}

#[test]
fn ids_that_are_equal_or_give_one_zone() {
    let found = expect(
        "tenant a id 1 { segment s vni 1 { 10.1.0.0/24 } }
         tenant b id 1 { segment s vni 2 { 10.1.0.0/24 } } //~ PW0209
         tenant c id 65536 { segment s vni 3 { 10.1.0.0/24 } } //~ PW0209
         tenant d id 131071 { segment s vni 4 { 10.1.0.0/24 } } //~ PW0209
         tenant e id 65537 { segment s vni 5 { 10.1.0.0/24 } }",
    );
    assert_eq!(found[0].finding.message, "tenants `a` and `b` have one id, 1");
    assert!(found[1].finding.message.contains("1 + (1 - 1) mod 65535 = 1 + (65536 - 1) mod 65535 = 1"));
    // 65537 takes zone 2.
    assert!(found.iter().all(|f| f.help().contains("3 is free")), "{}", found[0].help());
}

#[test]
fn segments_of_one_tenant_overlap_but_not_those_of_two() {
    let found = expect(
        "tenant a id 1 {
           segment s vni 1 { 10.1.0.0/24, fd00::/64 }
           segment t vni 2 { 10.0.0.0/8 } //~ PW0203
           segment u vni 3 { fd00::/64 } //~ PW0203
           segment v vni 4 { 10.2.0.0/24 } //~ PW0203
           segment w vni 5 { 11.0.0.0/8, 11.1.0.0/16 } //~ PW0203
         }
         tenant b id 2 { segment s vni 6 { 10.1.0.0/24 } }",
    );
    assert_eq!(found[0].finding.message, "segments `a.s` (10.1.0.0/24) and `a.t` (10.0.0.0/8) overlap");
    assert_eq!(found[3].finding.message, "two prefixes of segment `a.w` overlap, 11.0.0.0/8 and 11.1.0.0/16");
}

#[test]
fn an_endpoint_lies_in_its_segment() {
    let found = expect(
        "tenant a id 1 { segment s vni 1 { 10.1.0.0/24 } segment t vni 2 { 10.1.1.0/24 } }
         endpoint e in a.s { at 10.1.1.5 on c1 dev tap0 } //~ PW0205
         endpoint f in a.s { at 10.9.0.5 on c1 dev tap1 } //~ PW0205
         endpoint g in a.s { at fd00::5, 10.1.0.5 on c1 dev tap2 } //~ PW0205",
    );
    assert!(found[0].help().contains("segment `a.t`"));
    assert!(found[1].help().contains("10.1.0.0/24"));
}

#[test]
fn an_address_is_used_once_in_a_tenant_a_mac_in_the_project_a_device_on_a_node() {
    let found = expect(
        "tenant a id 1 { segment s vni 1 { 10.1.0.0/24, fd00::/64 } segment t vni 2 { 10.1.1.0/24 router 10.1.1.9 } }
         tenant b id 2 { segment s vni 3 { 10.1.0.0/24 } }
         endpoint e1 in a.s { at 10.1.0.5 mac 02:00:00:00:00:01 on c1 dev tap0 }
         endpoint e2 in a.s { at 10.1.0.5 mac 02:00:00:00:00:02 on c2 dev tap0 } //~ PW0206
         endpoint e3 in b.s { at 10.1.0.5 mac 02:00:00:00:00:01 on c1 dev tap1 } //~ PW0206
         endpoint e4 in b.s { at 10.1.0.6 on c1 dev tap0 } //~ PW0206
         endpoint e5 in b.s { at 10.1.0.1 on c1 dev tap2 } //~ PW0206
         endpoint e6 in a.t { at 10.1.1.9 on c1 dev tap3 } //~ PW0206
         endpoint e7 in a.t { at 10.1.1.1 on c1 dev eth0 } //~ PW0206
         endpoint e8 in a.s { at 10.1.0.8, 10.1.0.8 on c1 dev tap4 } //~ PW0206
         endpoint e9 in a.s { at fd00::1 on c1 dev tap5 } //~ PW0206",
    );
    let messages: Vec<&str> = found.iter().map(|f| f.finding.message.as_str()).collect();
    assert_eq!(
        messages,
        [
            "address 10.1.0.5 of tenant `a` is used twice, by endpoint `a.e1` and endpoint `a.e2`",
            "MAC 02:00:00:00:00:01 is used twice, by endpoints `a.e1` and `b.e3`",
            "device \"tap0\" of node `c1` is used twice, by endpoint `a.e1` and endpoint `b.e4`",
            "address 10.1.0.1 of tenant `b` is used twice, by the router address of `b.s` and endpoint `b.e5`",
            "address 10.1.1.9 of tenant `a` is used twice, by the router address of `a.t` and endpoint `a.e6`",
            "device \"eth0\" of node `c1` is used twice, by the underlay and endpoint `a.e7`",
            "endpoint `a.e8` has the address 10.1.0.8 twice",
            "address fd00::1 of tenant `a` is used twice, by the router address of `a.s` and endpoint `a.e9`",
        ]
    );
}

#[test]
fn attachments_use_devices_too_but_two_gateways_may_share_one_to_the_same_external() {
    expect(
        "external internet { 0.0.0.0/0 }
         external hq { 172.16.0.0/12 }
         gateway edge { joins internet, hq instances g1 stateful
           attach internet on g1 dev up0 next-hop 203.0.113.1
           attach hq on g1 dev up0 next-hop 203.0.113.1 //~ PW0206
         }
         gateway two { joins internet instances g1 stateful
           attach internet on g1 dev up0 next-hop 203.0.113.1
         }
         gateway three { joins internet instances g2 stateful
           attach internet on g2 dev eth0 next-hop 203.0.113.1 //~ PW0206
         }",
    );
}

#[test]
fn vteps_are_one_per_node_and_of_the_underlays_family() {
    let found = expect(
        "node c3 { vtep 192.0.2.11 dev eth0 } //~ PW0207
         node c4 { vtep 2001:db8::1 dev eth0 } //~ PW0207",
    );
    assert_eq!(found[0].finding.message, "nodes `c1` and `c3` have one VTEP address, 192.0.2.11");
    assert!(found[1].finding.message.contains("is IPv6, but the underlay is IPv4"));
}

#[test]
fn vteps_lie_in_nothing_of_the_overlay() {
    let found = expect(
        "external internet { 0.0.0.0/0 }
         gateway edge { joins a, b, internet instances g1 stateful
           attach internet on g1 dev up0 next-hop 203.0.113.1
           masquerade a to internet as 192.0.2.21 //~ PW0308
         }
         tenant a id 1 { segment s vni 1 { 10.1.0.0/24 } segment t vni 2 { 192.0.2.0/28 } //~ PW0308
         }
         tenant b id 2 { segment s vni 3 { 10.2.0.0/24 }
           expose s & 10.2.0.8/29 : tcp/80 to a.s & 10.1.0.8/29 via edge as 192.0.2.16/29 //~ PW0308
           expose s & 10.2.0.0/29 : tcp/80 to a.s & 10.1.0.16/30 via edge as 100.64.0.0/29 clients as 192.0.2.12/30 //~ PW0308
         }",
    );
    assert_eq!(
        found[1].finding.message,
        "segment `a.t`'s 192.0.2.0/28 holds the VTEP address 192.0.2.11 of node `c1`"
    );
}

#[test]
fn mtu_with_the_arithmetic_spelled_out() {
    let found = expect(
        "tenant a id 1 {
           segment s vni 1 { 10.1.0.0/24 } mtu 8950
           segment t vni 2 { 10.1.1.0/24 } mtu 8951 //~ PW0208
         }",
    );
    let finding = &found[0].finding;
    assert_eq!(finding.message, "MTU 8951 of segment `a.t` is 1 over the underlay's budget of 8950 bytes");
    assert_eq!(
        finding.notes,
        ["9000 (underlay) - 20 (IPv4) - 8 (UDP) - 8 (VXLAN) - 14 (inner Ethernet) = 8950"]
    );
    assert!(found[0].help().contains("`mtu 8950` or less") && found[0].help().contains("to 9001"));
}

#[test]
fn mtu_over_ipv6_and_geneve() {
    let text = FABRIC
        .replace("encap vxlan port 4789", "encap geneve port 6081")
        .replace("9000 family ipv4", "1500 family ipv6")
        .replace("192.0.2.", "2001:db8::");
    let text = format!("{text}tenant a id 1 {{ segment s vni 1 {{ 10.1.0.0/24 }} mtu 1431 }}");
    let found: Vec<_> = findings(&text).into_iter().filter(|f| f.code() == "PW0208").collect();
    assert_eq!(
        found[0].finding.notes,
        ["1500 (underlay) - 40 (IPv6) - 8 (UDP) - 8 (Geneve) - 14 (inner Ethernet) = 1430"]
    );
}

#[test]
fn nothing_is_judged_by_an_underlay_in_error() {
    let text = FABRIC.replace("underlay mtu 9000", "underlay mtu 90");
    let text = format!(
        "{text}node c9 {{ vtep 2001:db8::9 dev eth0 }}
         tenant a id 1 {{ segment s vni 1 {{ 10.1.0.0/24 }} mtu 8950 }}"
    );
    let codes: Vec<&str> =
        findings(&text).iter().map(|f| f.code()).filter(|code| *code != "PW0407").collect();
    assert_eq!(codes, ["PW0006"]);
}

#[test]
fn endpoints_do_not_live_on_gateway_nodes() {
    let found = expect(
        "tenant a id 1 { segment s vni 1 { 10.1.0.0/24 } }
         endpoint e in a.s { at 10.1.0.5 on g1 dev tap0 } //~ PW0210
         endpoint f in a.s { at 10.1.0.6 on c1 dev tap0 }",
    );
    assert!(found[0].help().contains("`c1` and `c2`"));
}

#[test]
fn an_endpoint_without_a_node_still_has_addresses() {
    expect(
        "tenant t id 1 { segment s vni 10 { 10.1.0.0/24 } }
         endpoint a in t.s { at 10.1.0.5 tags web }
         endpoint b in t.s { at 10.1.0.5 } //~ PW0206
         endpoint c in t.s { at 10.2.0.5 } //~ PW0205",
    );
}
