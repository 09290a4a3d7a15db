//! Gateways that keep no state, under real packets. Where the machine lacks what a lab needs these tests say `SKIPPED` and what is
//! missing.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test that fails says where"
)]

#[path = "attacks/ground.rs"]
#[expect(dead_code, reason = "each test uses a part")]
mod ground;

use ground::frames::{self, Fields, Twist};
use ground::support::{self, Fleet};
use ground::{Effect, Ground, one, tcp, udp};
use partywall_node::lab::ProbeReport;
use std::collections::BTreeSet;

/// Both ends translated, one, none; an external; service insertion; and two instances that the sender picks from.
const FORMS: &str = r#"
fabric f { encap vxlan port 4789 underlay mtu 9000 family ipv4 precedence top > tenant delegate tenant unknown-vni drop
  stateless-replies "a test" }
node c1 { vtep 192.0.2.11 dev eth0 }
node c2 { vtep 192.0.2.12 dev eth0 }
node g1 { vtep 192.0.2.21 dev eth0 gateway }
node g2 { vtep 192.0.2.22 dev eth0 gateway }
external net { 203.0.113.0/24, 2001:db8:2::/64 }
tenant shop id 7 {
  segment front vni 10010 { 10.1.0.0/24, fd00:1::/64 }
  segment data vni 10011 { 10.1.1.0/24, fd00:2::/64 }
}
tenant payments id 8 {
  segment api vni 10020 { 10.1.0.0/24, fd00:1::/64 }
  expose api : told to shop.front via edge as 100.64.7.0/24, fd64::/64 clients as 100.64.9.0/24, fd65::/64
  expose api : told to bank via edge as 100.64.7.0/24, fd64::/64
}
tenant bank id 9 {
  segment vault vni 10030 { 10.3.0.0/24, fd00:3::/64 }
  expose vault : tcp/22 | udp/53 to shop.front via edge clients as 100.64.9.0/24, fd65::/64
  expose vault : told to net via edge
  route 203.0.113.0/24 via edge
  route 2001:db8:2::/64 via edge
}
service told = icmp/echo-request | icmp6/echo-request | tcp/443 | udp/53 | sctp/7
gateway edge {
  joins shop, payments, bank, net instances g1, g2 stateless AFFINITY
  attach net on g1 dev ext0 next-hop 203.0.113.1, 2001:db8:2::1
  attach net on g2 dev ext0 next-hop 203.0.113.1, 2001:db8:2::1
}
endpoint web-1 in shop.front { at 10.1.0.5, fd00:1::5 mac 02:00:0a:01:00:05 on c1 dev tap-web1 }
endpoint db-1 in shop.data { at 10.1.1.9, fd00:2::9 mac 02:00:0a:01:01:09 on c2 dev tap-db1 }
endpoint api-1 in payments.api { at 10.1.0.5, fd00:1::5 mac 02:00:0a:02:00:05 on c2 dev tap-api1 }
endpoint api-2 in payments.api { at 10.1.0.6, fd00:1::6 mac 02:00:0a:02:00:06 on c1 dev tap-api2 }
endpoint vault-1 in bank.vault { at 10.3.0.5, fd00:3::5 mac 02:00:0a:03:00:05 on c1 dev tap-vault1 }
policy all in tenant {
  inserted: allow shop.front -> shop.data : tcp/8443 | udp/514 via edge
  allow any -> any : told | tcp/22
}
test "both ways" {
  packet in shop tcp 10.1.0.5:40000 -> 100.64.7.5:443 is allow via edge
  packet in shop tcp 10.1.0.5:40001 -> 100.64.7.6:443 is allow via edge
  packet in shop tcp [fd00:1::5]:40000 -> [fd64::5]:443 is allow via edge
  packet in shop udp 10.1.0.5:40002 -> 100.64.7.5:53 is allow via edge
  packet in shop udp [fd00:1::5]:40003 -> [fd64::6]:53 is allow via edge
  packet in shop sctp 10.1.0.5:40004 -> 100.64.7.5:7 is allow via edge
  packet in shop icmp/echo-request 10.1.0.5 -> 100.64.7.5 is allow via edge
  packet in shop icmp6/echo-request fd00:1::5 -> fd64::5 is allow via edge
  packet in shop tcp 10.1.0.5:40005 -> 100.64.7.5:22 is deny
  packet in shop tcp 10.1.0.5:40006 -> 10.3.0.5:22 is allow via edge
  packet in shop udp [fd00:1::5]:40007 -> [fd00:3::5]:53 is allow via edge
  packet in shop tcp 10.1.0.5:40008 -> 10.1.1.9:8443 is allow via edge
  packet in shop udp [fd00:1::5]:40009 -> [fd00:2::9]:514 is allow via edge
  packet in bank tcp 10.3.0.5:40010 -> 100.64.7.5:443 is allow via edge
  packet in bank icmp6/echo-request fd00:3::5 -> fd64::6 is allow via edge
  packet in bank tcp 10.3.0.5:40011 -> 203.0.113.9:443 is allow via edge
  packet in bank udp [fd00:3::5]:40012 -> [2001:db8:2::9]:53 is allow via edge
  packet in net tcp 203.0.113.9:40013 -> 10.3.0.5:443 is allow via edge
  packet in net udp [2001:db8:2::9]:40014 -> [fd00:3::5]:53 is allow via edge
  packet in net tcp 203.0.113.9:40015 -> 10.3.0.5:22 is deny
}
"#;

/// What labs of this project show.
fn probed(name: &str, affinity: &str, fleets: [Fleet; 2]) -> impl Iterator<Item = ProbeReport> {
    fleets.into_iter().filter_map(move |fleet| {
        support::probed(&one(&FORMS.replace("AFFINITY", affinity)), &format!("{name}, {fleet:?}"), fleet)
    })
}

fn used<'r>(through: impl Iterator<Item = &'r Vec<String>>) -> Vec<&'r str> {
    through.flatten().map(String::as_str).collect::<BTreeSet<_>>().into_iter().collect()
}

#[test]
fn connections_go_through_the_instance_of_their_bucket() {
    for report in probed("stateless", "", [Fleet::Nft, Fleet::Ebpf]) {
        assert!(report.ok(), "{}", report.table());
        let seen = || report.probes.iter().filter_map(|r| r.seen.as_ref());
        assert_eq!(used(seen().map(|s| &s.through)), ["g1", "g2"]);
        assert!(seen().filter(|s| s.reply == Some(true)).count() >= 15, "{}", report.table());
    }
}

/// Each way has the instance of whom it comes from, so that an answer may come by another. The lab's externals take the one of their
/// own address.
#[test]
fn each_direction_goes_through_the_instance_of_its_sender() {
    for report in probed("stateless, by source", "affinity source", [Fleet::Nft, Fleet::Mixed]) {
        assert!(report.ok(), "{}", report.table());
        let answered = |space: &str| {
            let of = report.probes.iter().filter(|r| r.packet.as_ref().is_some_and(|p| p.space == space));
            let seen = of.filter_map(|r| r.seen.as_ref().filter(|s| s.reply == Some(true)));
            let ways: Vec<_> = seen.map(|s| (&s.through, &s.reply_through)).collect();
            (ways.len(), ways.iter().filter(|(there, back)| there != back).count())
        };
        let (shop, bank, net) = (answered("shop"), answered("bank"), answered("net"));
        assert!(shop.0 >= 10 && bank.0 >= 3 && net.0 >= 2, "{shop:?} {bank:?} {net:?}\n{}", report.table());
        // Some of either kind, with externals too.
        assert!((3..shop.0).contains(&shop.1) && net.1 == 1, "{shop:?} {net:?}\n{}", report.table());
    }
}

/// What a server's side sends that nobody asked for: segments that begin a connection or belong to none stop at the gateway, by every
/// way there, and what looks like an answer stops at the client's node, which knows what was asked.
#[test]
fn what_no_connection_asked_for_arrives_nowhere() {
    [Fleet::Nft, Fleet::Ebpf].into_iter().for_each(unasked);
}

fn unasked(fleet: Fleet) {
    let text = FORMS.replace("AFFINITY", "").replace("instances g1, g2", "instances g1");
    let text: String =
        text.lines().filter(|l| !l.contains("on g2 dev")).fold(String::new(), |t, l| t + l + "\n");
    let Some(g) = Ground::tapped(&format!("attack: stateless, {fleet:?}"), &text, fleet, &[]) else { return };
    // api-1 lives on c2 and is shown to web-1, on c1, as 100.64.7.5; to it web-1 is 100.64.9.5.
    let ends = [
        (["10.1.0.5", "100.64.7.5"], ["10.1.0.5", "100.64.9.5"]),
        (["fd00:1::5", "fd64::5"], ["fd00:1::5", "fd65::5"]),
    ];
    let (place, outer) = g.outer("c2", "g1", 10_020);
    let ids = std::cell::Cell::new(0);
    // Hosts speak for themselves too, and are dropped as `to-host`.
    let at_c1 = |effect: &Effect| {
        effect.drops["c1"].iter().filter(|(reason, _)| *reason != "to-host").map(|(_, n)| n).sum::<u64>()
    };
    for ([client, shown], [server, caller]) in ends {
        let next = || ids.replace(ids.get() + 1);
        let sent = |f: &Fields, twist: Twist| {
            let inner = frames::frame(g.router("c2"), g.router("g1"), f, next(), twist);
            g.volley(&[(place, frames::vxlan(&outer, &inner))])
        };
        let answer = |x| tcp(server, caller, 443, x);
        // NULL, FIN, XMAS, SYN, SYN+FIN, SYN+ECE+CWR, SYN+PSH+URG.
        for flags in [0x00, 0x01, 0x29, 0x02, 0x03, 0xc2, 0x2a] {
            let effect = sent(&answer(41_000), Twist::Flags(flags));
            // Flags that no segment has are as much as a program looks at.
            let invalid = g.ebpf("g1") && [0x00, 0x01, 0x29, 0x03].contains(&flags);
            effect.only_dropped("g1", if invalid { "invalid" } else { "no-route" }, 1);
            assert_eq!(at_c1(&effect), 0, "{flags:#x}: {:?}", effect.drops);
        }
        // What may be an answer passes the gateway: that is what `stateless-replies` accepts.
        for (f, twist) in [
            (udp(server, caller, 53, 41_001), Twist::None),
            (answer(41_002), Twist::Flags(0x12)),
            (answer(41_003), Twist::Flags(0x10)),
            (answer(41_004), Twist::Flags(0x04)),
        ] {
            let effect = sent(&f, twist);
            assert!(effect.arrivals.packets.is_empty(), "{:?}", effect.arrivals.packets);
            assert_eq!(at_c1(&effect), 1, "{twist:?}: {:?}", effect.drops);
        }
        // The same, asked for.
        let asked = udp(client, shown, 41_005, 53);
        let request = g.volley(&[g.plain("web-1", "c1", &asked, next())]);
        assert_eq!(request.arrivals.packets.len(), 1, "{:?}", request.drops);
        let reply = sent(&udp(server, caller, 53, 41_005), Twist::None);
        assert_eq!(reply.arrivals.packets.values().flatten().count(), 1, "{:?}", reply.drops);
    }
}
