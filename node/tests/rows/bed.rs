//! One project that has what every row needs, and packets of which each says what is to become of it.

use super::ground::frames::{self, Fields, Twist};
use super::ground::support::Fleet;
use super::ground::wire::Place;
use super::ground::{Ground, ip};
use super::told::told;
use compiler::algebra::parse_addr;
use compiler::eval;
use compiler::packet::Packet;
use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

/// The MTU of every segment but `front`, in bytes.
pub const LEAST: usize = 1400;

/// `g1` has a gateway with state, to a tenant, to an external and inside `shop`; `g2` one without. What `net` is shown of `shop` stands
/// for many hosts, of `payments` it is 1:1; `safe` is shown as it is.
const PROJECT: &str = r#"
fabric f { encap vxlan port 4789 underlay mtu 9000 family ipv4 precedence top > tenant delegate tenant unknown-vni drop
  stateless-replies "a test" }
node c1 { vtep 192.0.2.11 dev eth0 }
node c2 { vtep 192.0.2.12 dev eth0 }
node g1 { vtep 192.0.2.21 dev eth0 gateway }
node g2 { vtep 192.0.2.22 dev eth0 gateway }
external net { 203.0.113.0/24 }
tenant shop id 7 {
  segment front vni 10010 { 10.1.0.0/24, fd00:1::/64 }
  segment data vni 10011 { 10.1.1.0/24, fd00:2::/64 } mtu 1400
  route 203.0.113.0/24 via edge
}
tenant payments id 8 {
  segment api vni 10020 { 10.2.0.0/24 } mtu 1400
  expose api : told to shop.front & 10.1.0.0/24 via edge as 100.64.7.0/24 clients as 100.65.0.0/24
  expose api : told to shop.front & 10.1.0.0/24 via edge as 100.64.17.0/24 clients as 100.65.0.0/24
  expose api : told to net via edge as 198.51.101.0/24
}
tenant bank id 9 {
  segment vault vni 10030 { 10.3.0.0/24 } mtu 1400
  segment safe vni 10031 { 10.4.0.0/24 } mtu 1400
  expose vault : told to shop.front & 10.1.0.0/24 via open as 100.64.8.0/24 clients as 100.66.0.0/24
  expose safe : told to shop.front & 10.1.0.0/24 via open
}
service told = tcp | udp | sctp/7 | proto/50
gateway edge {
  joins shop, payments, net instances g1 stateful
  attach net on g1 dev ext0 next-hop 203.0.113.1
  masquerade shop to net as 198.51.100.1
}
gateway core { joins shop instances g1 stateful }
gateway open { joins shop, bank instances g2 stateless }
endpoint web-1 in shop.front { at 10.1.0.5, fd00:1::5 mac 02:00:0a:01:00:05 on c1 dev tap-web1 }
endpoint web-2 in shop.front { at 10.1.0.6, fd00:1::6 mac 02:00:0a:01:00:06 on c1 dev tap-web2 }
endpoint db-1 in shop.data { at 10.1.1.9, fd00:2::9 mac 02:00:0a:01:01:09 on c2 dev tap-db1 }
endpoint db-2 in shop.data { at 10.1.1.10, fd00:2::a mac 02:00:0a:01:01:0a on c2 dev tap-db2 }
endpoint api-1 in payments.api { at 10.2.0.9 mac 02:00:0a:02:00:09 on c2 dev tap-api1 }
endpoint vault-1 in bank.vault { at 10.3.0.5 mac 02:00:0a:03:00:05 on c2 dev tap-vault1 }
endpoint vault-2 in bank.vault { at 10.3.0.6 mac 02:00:0a:03:00:06 on c2 dev tap-vault2 }
endpoint safe-1 in bank.safe { at 10.4.0.5 mac 02:00:0a:04:00:05 on c2 dev tap-safe1 }
policy all in tenant {
  inserted: allow shop.front -> shop.data : tcp/8443 via core
  plain: allow shop.front -> shop.data : tcp/5432 | udp | icmp | icmp6
  inside: allow shop.data -> shop.data : udp
  own: allow bank -> bank : udp
  out: allow shop.front -> payments | bank : told
  outside: allow any -> net : told
  outsiders: allow net -> payments : told
}
"#;

/// What is to become of a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Due {
    /// It comes out there and nowhere else.
    At(Place),
    /// It comes out with what else bears its number: put together, or in parts again.
    Joined,
    /// It is an error, or causes one, that quotes a packet and comes out there.
    Told(Place),
    /// A node that counts its reason drops it, and the sender is told.
    DroppedAndTold(&'static str, &'static str, Place),
    /// A node drops it for this reason, and nobody is told.
    Dropped(&'static str, &'static str),
    /// It comes out nowhere, nobody is told, and no reason is counted: the kernel did not get so far.
    Nowhere,
}

#[derive(Clone)]
pub struct Shot {
    pub from: Place,
    pub frame: Vec<u8>,
    /// What the frame, or the packet that it quotes, bears.
    pub id: u32,
    pub due: Due,
}

pub struct Bed {
    pub g: Ground,
    ids: Cell<u32>,
}

impl Bed {
    /// The project on nodes of one target; `None` where there can be no lab.
    pub fn new(name: &str, fleet: Fleet) -> Option<Self> {
        let g = Ground::tapped(name, PROJECT, fleet, &["c2"])?;
        Some(Self { g, ids: Cell::new(0) })
    }

    pub fn id(&self) -> u32 {
        self.ids.replace(self.ids.get() + 1) + 1
    }

    pub fn at(&self, host: &str) -> Due {
        Due::At(self.g.host(host))
    }

    fn node_of(&self, host: &str) -> &str {
        let Place::Endpoint(n) = self.g.host(host) else { panic!("{host}") };
        &self.g.p.compiled.model.nodes[self.g.lab.topology.endpoints[n].node].name
    }

    /// MACs of a workload and of its router.
    pub fn macs(&self, host: &str) -> ([u8; 6], [u8; 6]) {
        (self.g.wires.mac(self.g.host(host)), self.g.router(self.node_of(host)))
    }

    /// The policy of the space in which a packet of a workload would be decided allows it.
    #[track_caller]
    pub fn allowed(&self, host: &str, f: &Fields) {
        let c = &self.g.p.compiled;
        let Place::Endpoint(n) = self.g.host(host) else { panic!("{host}") };
        let space = c.model.endpoints[self.g.lab.topology.endpoints[n].endpoint].tenant;
        let ((family, src), (_, dst)) = (parse_addr(f.src), parse_addr(f.dst));
        let p = Packet { space, family, src, dst, protocol: f.protocol, x: f.x, y: f.y };
        assert!(eval::decide(c, &p).unwrap().allow, "{f:?}");
    }

    /// A workload's packet with something unusual about it. The policy allows it.
    #[track_caller]
    pub fn twisted(&self, host: &str, f: &Fields, twist: Twist, due: Due) -> Shot {
        self.allowed(host, f);
        let (id, (mac, router)) = (self.id(), self.macs(host));
        Shot { from: self.g.host(host), frame: frames::frame(mac, router, f, id, twist), id, due }
    }

    #[track_caller]
    pub fn plain(&self, host: &str, f: &Fields, due: Due) -> Shot {
        self.twisted(host, f, Twist::None, due)
    }

    /// A packet of a workload that no rule has to allow: it answers packet `id`, or shows what is refused.
    pub fn answer(&self, host: &str, f: &Fields, id: u32, due: Due) -> Shot {
        let (mac, router) = self.macs(host);
        Shot { from: self.g.host(host), frame: frames::frame(mac, router, f, id, Twist::None), id, due }
    }

    /// A workload's error about a packet that it was sent, as it saw that packet.
    pub fn error(&self, host: &str, seen: &Fields, due: Due) -> Shot {
        let (from, (mac, router)) = (self.g.host(host), self.macs(host));
        self.told(from, mac, router, seen, seen.dst, due)
    }

    fn told(&self, from: Place, mac: [u8; 6], to: [u8; 6], seen: &Fields, by: IpAddr, due: Due) -> Shot {
        let id = self.id();
        let quoted = frames::frame(to, mac, seen, id, Twist::None);
        Shot { from, frame: told(&quoted, mac, to, by, None), id, due }
    }

    /// What a router outside says about a packet that left the fabric.
    pub fn error_from_outside(&self, seen: &Fields, by: &str, due: Due) -> Shot {
        let (mac, router) = self.cable();
        self.told(self.outside(), mac, router, seen, ip(by), due)
    }

    /// The first external's side of its cable to a gateway.
    pub fn outside(&self) -> Place {
        Place::Link(0, 0)
    }

    /// MACs of both ends of that cable.
    fn cable(&self) -> ([u8; 6], [u8; 6]) {
        (self.g.wires.mac(self.outside()), self.g.lab.topology.externals[0].links[0].mac)
    }

    /// A packet from an external's host.
    pub fn incoming(&self, f: &Fields, due: Due) -> Shot {
        let (id, (mac, router)) = (self.id(), self.cable());
        Shot { from: self.outside(), frame: frames::frame(mac, router, f, id, Twist::None), id, due }
    }

    /// Sends all of them, and with each becomes what is due: no more and no less, and nothing else is counted.
    #[track_caller]
    pub fn fire(&self, shots: &[Shot]) {
        let frames: Vec<_> = shots.iter().map(|s| (s.from, s.frame.clone())).collect();
        let effect = self.g.volley(&frames);
        let underlay = |place: &Place| matches!(place, Place::Underlay(_));
        let (mut at, mut told, mut joined) = (Vec::new(), Vec::new(), BTreeSet::new());
        let mut counted: BTreeMap<(&str, &str), u64> = BTreeMap::new();
        for Shot { id, due, .. } in shots {
            match due {
                Due::At(place) => at.push((*id, *place)),
                Due::Joined => drop(joined.insert(*id)),
                Due::Told(place) => told.push((*place, *id)),
                Due::Dropped(node, reason) => *counted.entry((node, reason)).or_default() += 1,
                Due::DroppedAndTold(node, reason, place) => {
                    told.push((*place, *id));
                    *counted.entry((node, reason)).or_default() += 1;
                }
                Due::Nowhere => {}
            }
        }
        let seen = effect.arrivals.packets.iter();
        let mut came: Vec<(u32, Place)> =
            seen.flat_map(|(id, all)| all.iter().map(|(place, ..)| (*id, *place))).collect();
        came.retain(|(_, place)| !underlay(place));
        let mut said = effect.arrivals.errors.clone();
        said.retain(|(place, _)| !underlay(place));
        [&mut came, &mut at].into_iter().for_each(|list| list.sort_unstable());
        [&mut said, &mut told].into_iter().for_each(|list| list.sort_unstable());
        came.dedup_by(|one, other| one == other && joined.contains(&one.0));
        // Hosts speak for themselves too.
        let moved: BTreeMap<(&str, &str), u64> = effect
            .drops
            .iter()
            .flat_map(|(node, reasons)| reasons.iter().map(move |(r, n)| ((node.as_str(), r.as_str()), *n)))
            .filter(|((_, reason), n)| *n > 0 && *reason != "to-host")
            .collect();
        assert_eq!((came, said, moved), (at, told, counted), "packets, errors, reasons");
    }
}

/// A frame over IPv4 whose packet is as long as this. The checksum of its UDP is left out.
pub fn long(mut frame: Vec<u8>, bytes: usize, fragments: bool) -> Vec<u8> {
    frame.resize(14 + bytes, 0);
    let length = |n: usize| u16::try_from(n).unwrap().to_be_bytes();
    frame[16..18].copy_from_slice(&length(bytes));
    if fragments {
        frame[20] &= !0x40;
    }
    frames::mend4(&mut frame[14..34]);
    if frame[23] == 17 {
        frame[38..40].copy_from_slice(&length(bytes - 20));
        frame[40..42].fill(0);
    }
    frame
}

pub fn fields(src: &str, dst: &str, protocol: u8, x: u16, y: u16) -> Fields {
    Fields { src: ip(src), dst: ip(dst), protocol, x, y }
}

pub fn turned(f: &Fields) -> Fields {
    Fields { src: f.dst, dst: f.src, x: f.y, y: f.x, ..*f }
}
