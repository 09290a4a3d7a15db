//! What a tenant sends to an external goes there, also where the address is one under which another tenant is exposed to it: what lies
//! between the two is the external's business, and no way from one tenant to the other.

use crate::ground::wire::Place;
use crate::ground::{Ground, tcp};

const PROJECT: &str = r#"
fabric f { encap vxlan port 4789 underlay mtu 9000 family ipv4 precedence top > tenant delegate tenant unknown-vni drop }
node c1 { vtep 192.0.2.11 dev eth0 }
node c2 { vtep 192.0.2.12 dev eth0 }
node g1 { vtep 192.0.2.21 dev eth0 gateway }
external internet { 0.0.0.0/0 }
tenant shop id 1 {
  segment s vni 1 { 10.1.0.0/24 }
  segment open vni 2 { 198.18.0.0/24 }
  expose s & 10.1.0.9 : tcp/443 to internet via edge as 203.0.113.10
  expose open : tcp/443 to internet via edge
}
tenant ops id 2 {
  segment s vni 3 { 10.1.0.0/24 }
  route 0.0.0.0/0 via edge
}
gateway edge {
  joins shop, ops, internet
  instances g1
  stateful
  attach internet on g1 dev eth1 next-hop 203.0.113.1
  masquerade ops to internet as 203.0.113.7
}
endpoint ops-x in ops.s { at 10.1.0.5 mac 02:00:00:00:00:05 on c1 dev ops-x }
endpoint shop-y in shop.s { at 10.1.0.9 mac 02:00:00:00:00:09 on c2 dev shop-y }
endpoint shop-z in shop.open { at 198.18.0.9 mac 02:00:00:00:00:0a on c2 dev shop-z }
policy p in top { allow ops -> internet }
"#;

#[test]
fn what_is_for_an_external_takes_no_short_cut_to_another_tenant() {
    let Some(g) = Ground::new("attack: exposed outside", PROJECT) else { return };
    for (id, dst) in (1..).zip(["198.51.100.1", "203.0.113.10", "198.18.0.9"]) {
        let sent = g.volley(&[g.plain("ops-x", "c1", &tcp("10.1.0.5", dst, 40_000, 443), id)]);
        let at: Vec<Place> =
            sent.arrivals.packets.get(&id).into_iter().flatten().map(|(at, ..)| *at).collect();
        assert_eq!(at, [Place::Link(0, 0)], "{dst} {:?}", sent.drops);
    }
}
