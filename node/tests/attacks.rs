//! Attacks that a node must survive, each with real packets: what a compromised node or a lying workload sends is dropped, counted
//! under its reason, and answered by nobody. Where the machine lacks what a lab needs these tests say `SKIPPED` and what is
//! missing.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test that fails says where"
)]

#[path = "attacks/fragments.rs"]
mod fragments;
#[path = "attacks/ground.rs"]
#[expect(dead_code, reason = "each test uses a part")]
mod ground;
#[path = "attacks/outside.rs"]
mod outside;
#[path = "attacks/shared.rs"]
mod shared;

use backends::linux::numbers::{self, CONNECTIONS};
use ground::frames::{self, Fields, Outer, Twist};
use ground::support::run;
use ground::wire::Place;
use ground::{Effect, FABRIC, Ground, POLICY, ip, tcp, udp, v4};
use std::time::Instant;

#[test]
fn a_compromised_node_is_only_what_it_hosts() {
    let Some(g) = Ground::new("attack: VTEPs", &format!("{FABRIC}{POLICY}")) else { return };
    let store = tcp("10.1.0.5", "10.1.1.9", 40_000, 5432);
    // The honest node passes, so that the others fail for who they are.
    let honest = g.volley(&[g.tunnelled("c1", "c3", 10_011, 0x08, &store, 1)]);
    assert_eq!(honest.arrivals.packets[&1].len(), 1);
    g.volley(&[g.tunnelled("c2", "c3", 10_011, 0x08, &store, 2)]).only_dropped("c3", "bad-vtep", 1);
    // Behind a `clients as` prefix, but not through a gateway; and through one that does not join the tenant.
    let paid = tcp("100.64.9.5", "10.2.0.9", 40_000, 443);
    g.volley(&[g.tunnelled("c1", "c2", 10_020, 0x08, &paid, 3)]).only_dropped("c2", "bad-vtep", 1);
    g.volley(&[g.tunnelled("g2", "c2", 10_020, 0x08, &paid, 4)]).only_dropped("c2", "bad-vtep", 1);
    let joined = g.volley(&[g.tunnelled("g1", "c2", 10_020, 0x08, &paid, 5)]);
    assert_eq!(joined.arrivals.packets[&5], [(g.host("api-1"), paid.src, paid.dst)]);
    // A VNI that another node serves, one of no segment, none at all, and one under the right VNI for another's endpoint.
    g.volley(&[g.tunnelled("c1", "c2", 10_011, 0x08, &store, 6)]).only_dropped("c2", "unknown-vni", 1);
    g.volley(&[g.tunnelled("c1", "c3", 9, 0x08, &store, 7)]).only_dropped("c3", "unknown-vni", 1);
    g.volley(&[g.tunnelled("c1", "c3", 10_011, 0x00, &store, 8)]).only_dropped("c3", "bad-vtep", 1);
    let elsewhere = tcp("10.1.0.5", "10.1.1.10", 40_000, 5432);
    g.volley(&[g.tunnelled("c1", "c3", 10_011, 0x08, &elsewhere, 9)]).only_dropped("c3", "no-route", 1);
}

/// What a node is sent under a tunnel that it trusts, and is no packet of an endpoint's.
#[test]
fn what_a_tunnel_should_not_hold_comes_out_nowhere() {
    let Some(g) = Ground::new("attack: tunnels", &format!("{FABRIC}{POLICY}")) else { return };
    let store = tcp("10.1.0.5", "10.1.1.9", 40_000, 5432);
    let store6 = tcp("fd00:1::5", "fd00:2::9", 40_000, 5432);
    let (from, to) = (g.router("c1"), g.router("c3"));
    let (place, outer) = g.outer("c1", "c3", 10_011);
    let inner = |f: &Fields, id, twist| frames::frame(from, to, f, id, twist);
    let sent = |inner: &[u8]| g.volley(&[(place, frames::vxlan(&outer, inner))]);
    let none = |effect: &Effect| assert!(effect.arrivals.packets.is_empty(), "{:?}", effect.arrivals.packets);
    for (id, f) in [(1, &store), (2, &store6)] {
        assert_eq!(sent(&inner(f, id, Twist::None)).arrivals.packets[&id].len(), 1);
    }
    // Another port, other flags than the I flag, an outer source that is no VTEP.
    let honest = inner(&Fields { x: 40_001, ..store }, 3, Twist::None);
    none(&g.volley(&[(place, frames::vxlan(&Outer { port: 4790, ..outer }, &honest))]));
    none(&g.volley(&[(place, frames::vxlan(&Outer { flags: 0xff, ..outer }, &honest))]));
    let nobody = Outer { src: ip("192.0.2.99"), ..outer };
    g.volley(&[(place, frames::vxlan(&nobody, &honest))]).only_dropped("c3", "bad-vtep", 1);
    // An inner VLAN tag; ARP; sources that are nobody's.
    sent(&inner(&store, 4, Twist::Vlan)).only_dropped("c3", "bad-vtep", 1);
    let who = frames::arp(from, 1, (from, v4("10.1.0.5")), v4("10.1.1.9"));
    sent(&who).only_dropped("c3", "bad-vtep", 1);
    for source in ["224.0.0.5", "255.255.255.255", "127.0.0.1", "0.0.0.0", "192.0.2.11"] {
        let lie = Fields { src: ip(source), ..store };
        sent(&inner(&lie, 5, Twist::None)).only_dropped("c3", "bad-vtep", 1);
    }
    for source in ["ff02::1", "::1", "::ffff:10.1.0.5", "fe80::1"] {
        let lie = Fields { src: ip(source), ..store6 };
        sent(&inner(&lie, 6, Twist::None)).only_dropped("c3", "bad-vtep", 1);
    }
    // To everybody, to a group, to the node, to somebody else's router.
    for destination in ["255.255.255.255", "224.0.0.5", "10.1.1.255", "192.0.2.13", "127.0.0.1"] {
        none(&sent(&inner(&Fields { dst: ip(destination), ..store }, 7, Twist::None)));
    }
    for mac in [[0xff; 6], [2, 9, 9, 9, 9, 9]] {
        none(&sent(&frames::frame(from, mac, &Fields { x: 40_002, ..store }, 8, Twist::None)));
    }
    // Packets in packets are what they are outside: protocols that no rule allows.
    for protocol in [4, 41, 47, 50] {
        sent(&inner(&Fields { protocol, ..store }, 9, Twist::None)).only_dropped("c3", "default", 1);
    }
    sent(&inner(&udp("10.1.0.5", "10.1.1.9", 40_000, 4789), 10, Twist::None))
        .only_dropped("c3", "default", 1);
    // A packet that lives no longer, one that is shorter than it says, options, a jumbogram.
    for twist in [Twist::Ttl(1), Twist::Truncated, Twist::Options, Twist::ShortTransport] {
        none(&sent(&inner(&Fields { x: 40_003, ..store }, 11, twist)));
    }
    none(&sent(&frames::jumbo(from, to, &Fields { x: 40_004, ..store6 }, 12)));
    // A source route leads nobody elsewhere.
    let routed = sent(&inner(&Fields { x: 40_005, ..store6 }, 13, Twist::Extension(43)));
    let elsewhere = routed.arrivals.packets.values().flatten().filter(|(at, ..)| *at != g.host("db-1"));
    assert_eq!(elsewhere.count(), 0, "{:?}", routed.arrivals.packets);
    // Fragments of which one writes over another.
    let parts =
        frames::fragments(from, to, &udp("10.1.0.5", "10.1.1.9", 9, 514), 14, &[(0, 8), (4, 8), (8, 8)]);
    let parts: Vec<_> = parts.iter().map(|part| (place, frames::vxlan(&outer, part))).collect();
    // A node that does not wait for all of them lets the first go: no packet comes of that.
    let begun = usize::from(g.ebpf("c3"));
    let whole = g.volley(&parts).arrivals;
    assert_eq!(whole.packets.values().flatten().count(), begun, "{:?}", whole.packets);
}

#[test]
fn what_is_to_pass_a_gateway_comes_from_it_alone() {
    let Some(g) = Ground::new("attack: insertion", &format!("{FABRIC}{POLICY}")) else { return };
    let inserted = |x| tcp("10.1.0.5", "10.1.1.9", x, 8443);
    g.volley(&[g.tunnelled("c1", "c3", 10_011, 0x08, &inserted(1), 1)]).only_dropped("c3", "bad-vtep", 1);
    let through = g.volley(&[g.tunnelled("g2", "c3", 10_011, 0x08, &inserted(2), 2)]);
    assert_eq!(through.arrivals.packets[&2].len(), 1);
    // By itself it goes there.
    let whole = g.volley(&[g.plain("web-1", "c1", &inserted(3), 3)]);
    assert_eq!(whole.arrivals.packets[&3], [(g.host("db-1"), ip("10.1.0.5"), ip("10.1.1.9"))]);
    // A plain `allow` does not come from an instance.
    let store = tcp("10.1.0.5", "10.1.1.9", 4, 5432);
    g.volley(&[g.tunnelled("g2", "c3", 10_011, 0x08, &store, 4)]).only_dropped("c3", "bad-vtep", 1);
}

#[test]
fn a_lying_workload_is_not_believed_and_not_answered() {
    let Some(g) = Ground::new("attack: lies", &format!("{FABRIC}{POLICY}")) else { return };
    let (me, other) = (g.host("web-1"), [0x02, 0, 0x0a, 1, 0, 6]);
    let mac = g.wires.mac(me);
    let router = g.router("c1");
    // Asking properly is answered: the router and a neighbour.
    let own = (mac, v4("10.1.0.5"));
    let asked = g.volley(&[
        (me, frames::arp(mac, 1, own, v4("10.1.0.1"))),
        (me, frames::arp(mac, 1, own, v4("10.1.0.6"))),
    ]);
    assert_eq!(asked.answers(me).len(), 2, "{:?}", asked.arrivals.noise);
    // A probe, for the own address and for another's; a question about oneself; gratuitous ones for a neighbour's address.
    let silent = g.volley(&[
        (me, frames::arp(mac, 1, (mac, [0; 4]), v4("10.1.0.5"))),
        (me, frames::arp(mac, 1, (mac, [0; 4]), v4("10.1.0.6"))),
        (me, frames::arp(mac, 1, own, v4("10.1.0.5"))),
        (me, frames::arp(mac, 1, (mac, v4("10.1.0.6")), v4("10.1.0.6"))),
        (me, frames::arp(mac, 2, (mac, v4("10.1.0.6")), v4("10.1.0.6"))),
    ]);
    assert_eq!(silent.answers(me), Vec::<&[u8]>::new());
    let known = run("ip", &["-n", g.netns("c1"), "neighbour", "show", "to", "10.1.0.6"]);
    assert!(known.contains("02:00:0a:01:00:06") && known.lines().count() == 1, "{known}");

    let link = (mac, router);
    let solicit = |src: &str, target: &str, hops: u8| g.solicitation("web-1", src, target, hops);
    let asked = g.volley(&[solicit("fd00:1::5", "fe80::1", 255), solicit("fd00:1::5", "fd00:1::6", 255)]);
    assert_eq!(asked.answers(me).len(), 2, "{:?}", asked.arrivals.noise);
    let silent = g.volley(&[
        solicit("fd00:1::5", "fe80::1", 254),
        solicit("fd00:1::6", "fe80::1", 255),
        solicit("::", "fd00:1::5", 255),
        solicit("fd00:1::5", "fd00:1::99", 255),
        solicit("fd00:1::5", "fd00:3::1", 255),
    ]);
    assert_eq!(silent.answers(me), Vec::<&[u8]>::new());
    // Router advertisement, redirect: under the own address, so that they fail for what they are.
    let ends = (ip("fd00:1::5"), ip("fd00:2::9"));
    let advert = frames::discovery(link, ends, 134, 255, &[64, 0, 7, 8, 0, 0, 0, 0, 0, 0, 0, 0]);
    g.volley(&[(me, advert)]).only_dropped("c1", "invalid", 1);
    let redirect = frames::discovery(link, ends, 137, 255, &[0; 36]);
    g.volley(&[(me, redirect)]).only_dropped("c1", "invalid", 1);
    let redirect4 = Fields { protocol: 1, ..udp("10.1.0.5", "10.1.0.6", 5, 1) };
    g.volley(&[g.plain("web-1", "c1", &redirect4, 10)]).only_dropped("c1", "invalid", 1);
    // A DHCP server's answer.
    let offer = udp("10.1.0.5", "10.1.0.6", 67, 68);
    g.volley(&[g.plain("web-1", "c1", &offer, 11)]).only_dropped("c1", "invalid", 1);
    // Somebody else's address, or MAC.
    let lie = udp("10.1.0.6", "10.1.1.9", 40_000, 514);
    g.volley(&[g.plain("web-1", "c1", &lie, 12)]).only_dropped("c1", "spoof", 1);
    let mine = udp("10.1.0.5", "10.1.1.9", 40_000, 514);
    let frame = frames::frame(other, router, &mine, 13, Twist::None);
    g.volley(&[(me, frame)]).only_dropped("c1", "spoof", 1);
    // An IPv4-mapped source, and IPv4 inside IPv6 (protocol 4), which may no more be opened than any protocol of no rule.
    let mapped = g.volley(&[g.plain("web-1", "c1", &udp("::ffff:10.1.0.5", "fd00:2::9", 1, 514), 14)]);
    assert!(mapped.arrivals.packets.is_empty());
    let nested = Fields { protocol: 4, ..udp("fd00:1::5", "fd00:2::9", 0, 0) };
    g.volley(&[g.plain("web-1", "c1", &nested, 15)]).only_dropped("c1", "default", 1);
    // The node itself: its VTEP, its loopback, its router addresses' services.
    let probe = |dst: &str| udp("10.1.0.5", dst, 9, 4789);
    g.volley(&[g.plain("web-1", "c1", &probe("192.0.2.11"), 16)]).only_dropped("c1", "to-host", 1);
    let router_service = g.volley(&[g.plain("web-1", "c1", &tcp("10.1.0.5", "169.254.1.1", 9, 22), 17)]);
    assert!(router_service.arrivals.packets.is_empty() && router_service.arrivals.errors.is_empty());
}

/// Ids whose tables or zones would be the kernel's own, or no numbers at all, if they were the ids themselves.
#[test]
fn ids_at_the_edges_forward_and_stay_apart() {
    let mut text = FABRIC.replace("id 7 ", "id 254 ").replace("id 8 ", "id 65536 ");
    text.push_str(POLICY);
    let Some(g) = Ground::new("attack: ids", &text) else { return };
    let store = g.volley(&[g.plain("web-1", "c1", &tcp("10.1.0.5", "10.1.1.9", 1, 5432), 1)]);
    assert_eq!(store.arrivals.packets[&1].len(), 1);
    let paid = g.volley(&[g.plain("web-1", "c1", &tcp("10.1.0.5", "100.64.7.9", 1, 443), 2)]);
    assert_eq!(paid.arrivals.packets[&2], [(g.host("api-1"), ip("100.64.9.5"), ip("10.2.0.9"))]);
    // eBPF nodes have no tables.
    if !g.ebpf("c1") {
        let tables = run("ip", &["-n", g.netns("c1"), "rule"]);
        for id in [254u32, 65_536] {
            let table = (0x5000_0000 + 2 * id).to_string();
            assert!(tables.contains(&table), "{tables}");
        }
    }
    assert_eq!(numbers::tenant_zone(65_535), 65_535);
    assert_eq!(numbers::tenant_zone(65_536), 1, "the zone of id 1, which is PW0209 together with this one");
}

#[test]
fn one_tenants_flood_leaves_the_others_untouched() {
    let Some(g) = Ground::new("attack: flood", &format!("{FABRIC}{POLICY}")) else { return };
    // Denied packets count as nobody's connections.
    let denied: Vec<_> =
        (0..5_000u16).map(|n| g.plain("web-1", "c1", &udp("10.1.0.5", "10.1.1.9", n, 9), n.into())).collect();
    let effect = g.volley(&denied);
    effect.only_dropped("c1", "default", 5_000);
    assert_eq!(effect.counted("c1", "ct-full"), 0);
    // A connection that has been answered: what is known is never counted again.
    let (open, reply) = (udp("10.1.0.5", "10.1.0.6", 60_001, 7), udp("10.1.0.6", "10.1.0.5", 7, 60_001));
    for (at, fields, id) in [("web-1", &open, 920_000), ("web-2", &reply, 920_001)] {
        let effect = g.volley(&[g.plain(at, "c1", fields, id)]);
        assert_eq!(effect.arrivals.packets.len(), 1, "{:?}", effect.drops);
    }
    let flood: u32 = CONNECTIONS + 6_000;
    let port = |n: u32| (u16::try_from(1 + n % 60_000).unwrap(), u16::try_from(1 + n / 60_000).unwrap());
    let frames: Vec<_> = (0..flood)
        .map(|n| {
            let (x, y) = port(n);
            g.plain("web-1", "c1", &udp("10.1.0.5", "10.1.0.6", x, y), n)
        })
        .collect();
    let begun = Instant::now();
    let effect = g.volley(&frames);
    let lasted = begun.elapsed();
    let through = u32::try_from(effect.arrivals.packets.len()).unwrap();
    let full = effect.counted("c1", "ct-full");
    assert_eq!(u64::from(through) + full, u64::from(flood), "{:?}", effect.drops);
    // Parts fill unevenly, so the last of them are refused a little early.
    assert!(through <= CONNECTIONS && through > CONNECTIONS / 10 * 9, "{through} connections in {lasted:?}");
    let count =
        run("ip", &["netns", "exec", g.netns("c1"), "cat", "/proc/sys/net/netfilter/nf_conntrack_count"]);
    assert!(count.trim().parse::<u32>().unwrap() <= CONNECTIONS + 100, "{count}");
    // The tenant's own further ones are refused; another tenant's on the same nodes, and its own known ones, go on.
    let more = udp("10.1.0.5", "10.1.0.6", 7, 60_000);
    let many: Vec<_> = (0..200u16)
        .map(|n| g.plain("web-1", "c1", &Fields { x: n + 1, ..more }, 900_000 + u32::from(n)))
        .collect();
    assert!(g.volley(&many).counted("c1", "ct-full") > 150);
    let others: Vec<_> = (0..200u16)
        .map(|n| g.plain("api-2", "c1", &udp("10.2.0.10", "10.2.0.9", n + 1, 9), 910_000 + u32::from(n)))
        .collect();
    let effect = g.volley(&others);
    assert_eq!(effect.arrivals.packets.len(), 200, "{:?}", effect.drops);
    let known = g.volley(&[g.plain("web-1", "c1", &open, 920_002)]);
    assert_eq!(known.arrivals.packets.len(), 1, "{:?}", known.drops);
}

/// Ten thousand connections of each of two tenants, equal to the last bit, between the same two nodes.
#[test]
fn equal_connections_of_two_tenants_never_meet() {
    let text = format!(
        "{}\n{}\n{}\n{}",
        r#"
fabric f { encap vxlan port 4789 underlay mtu 9000 family ipv4 precedence top > tenant delegate tenant unknown-vni drop }
node c1 { vtep 192.0.2.11 dev eth0 }
node c2 { vtep 192.0.2.12 dev eth0 }"#,
        "tenant red id 1 { segment s vni 1 { 10.1.0.0/24 } } tenant blue id 2 { segment s vni 2 { 10.1.0.0/24 } }",
        "policy p in top { allow same-tenant : udp }",
        ["red", "blue"]
            .map(|t| {
                format!(
                    "endpoint {t}-x in {t}.s {{ at 10.1.0.5 mac 02:00:00:00:00:{0} on c1 dev {t}-x }}
                     endpoint {t}-y in {t}.s {{ at 10.1.0.9 mac 02:00:00:00:01:{0} on c2 dev {t}-y }}",
                    if t == "red" { "01" } else { "02" }
                )
            })
            .join("\n")
    );
    let Some(g) = Ground::new("attack: equal connections", &text) else { return };
    let ports = |n: u32| (u16::try_from(1_024 + n % 5_000).unwrap(), u16::try_from(53 + n / 5_000).unwrap());
    let mut arrived = 0;
    // Opened, answered, gone on with: each packet bears whose it is in its number's last bit.
    for (turn, reply) in [(0u32, false), (1, true), (2, false)] {
        let shots: Vec<(u32, Place, (Place, Vec<u8>))> = (0..20_000u32)
            .map(|n| {
                let (tenant, (x, y)) = (["red", "blue"][(n % 2) as usize], ports(n / 2));
                let [from, to] = if reply { ["y", "x"] } else { ["x", "y"] };
                let f =
                    if reply { udp("10.1.0.9", "10.1.0.5", y, x) } else { udp("10.1.0.5", "10.1.0.9", x, y) };
                let id = 1 + 20_000 * turn + n;
                let shot = g.plain(&format!("{tenant}-{from}"), if reply { "c2" } else { "c1" }, &f, id);
                (id, g.host(&format!("{tenant}-{to}")), shot)
            })
            .collect();
        let frames: Vec<_> = shots.iter().map(|(_, _, shot)| shot.clone()).collect();
        let seen = g.volley(&frames).arrivals;
        for (id, place, _) in &shots {
            let at: Vec<Place> = seen.packets.get(id).into_iter().flatten().map(|(at, ..)| *at).collect();
            assert_eq!(at, [*place], "packet {id}");
            arrived += 1;
        }
        assert_eq!(seen.packets.len(), shots.len());
    }
    let count = g.connections("c1");
    assert!(count >= 20_000, "{count}");
    assert_eq!(arrived, 60_000);
}
