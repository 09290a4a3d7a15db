//! One node of a small project, and packets of connections through it.

use crate::frames::{Fields, Twist, frame, mend4};
use crate::machine::Machine;
use crate::said::{REDIRECT, SHOT};
use crate::support::{Project, project};
use crate::{ANY_MAC, layout};
use backends::linux::numbers;
use compiler::ids::NodeId;
use libbpf_rs::{MapCore as _, MapFlags};
use partywall_node::ebpf::Ran;
use std::net::IpAddr;

/// Two tenants have equal addresses; `shop` speaks to `payments` through translation, and to an external behind one address. The
/// segments of `payments` take less than others.
const POLICY: &str = r#"
fabric f { encap vxlan port 4789 underlay mtu 9000 family FAMILY precedence top > tenant delegate tenant unknown-vni drop log }
node c1 { vtep VTEP1 dev eth0 }
node c2 { vtep VTEP2 dev eth0 }
node g1 { vtep VTEPG dev eth0 gateway }
external net { 203.0.113.0/24, 2001:db8:2::/64 }
tenant shop id 7 {
  segment front vni 10010 { 10.1.0.0/24, fd00:1::/64 }
  segment data vni 10011 { 10.1.1.0/24, fd00:2::/64 }
  route 203.0.113.0/24 via edge
  route 2001:db8:2::/64 via edge
}
tenant twin id 9 {
  segment front vni 10030 { 10.1.0.0/24, fd00:1::/64 }
  segment data vni 10031 { 10.1.1.0/24, fd00:2::/64 }
}
tenant payments id 8 {
  segment svc vni 10020 { 10.2.0.0/24, fd00:3::/64 } mtu 1400
  expose svc : told to shop.front via edge as 100.64.7.0/24, fd64::/64 clients as 100.65.0.0/24, fd65::/64
  expose svc : told to net via edge as 198.18.0.0/24, 2001:db8:5::/64 clients as 100.66.0.0/24, fd66::/64
}
service told = icmp/echo-request | icmp6/echo-request | tcp/443 | udp/53 | sctp/7 | proto/47
gateway edge {
  joins shop, payments, net instances g1 stateful
  attach net on g1 dev ext0 next-hop 203.0.113.1, 2001:db8:2::1
  masquerade shop to net as 198.51.100.1, 2001:db8:4::1
}
endpoint web in shop.front { at 10.1.0.5, fd00:1::5 mac 02:00:0a:01:00:05 on c1 dev tap-web }
endpoint app in shop.front { at 10.1.0.6, fd00:1::6 mac 02:00:0a:01:00:06 on c1 dev tap-app }
endpoint db in shop.data { at 10.1.1.9, fd00:2::9 mac 02:00:0a:01:01:09 on c2 dev tap-db }
endpoint web in twin.front { at 10.1.0.5, fd00:1::5 mac 02:00:0a:09:00:05 on c1 dev tap-twin }
endpoint db in twin.data { at 10.1.1.9, fd00:2::9 mac 02:00:0a:09:01:09 on c2 dev tap-twin2 }
endpoint api in payments.svc { at 10.2.0.9, fd00:3::9 mac 02:00:0a:02:00:09 on c2 dev tap-api }
policy way in tenant {
  open: allow shop.front | twin.front -> any : told
  noted: allow shop.front -> shop.data : udp/514 log
  refused: deny shop.front -> shop.data : udp/515 log
}
"#;

pub const WEB: [u8; 6] = [2, 0, 0x0a, 1, 0, 5];
pub const APP: [u8; 6] = [2, 0, 0x0a, 1, 0, 6];
pub const TWIN: [u8; 6] = [2, 0, 0x0a, 9, 0, 5];
pub const API: [u8; 6] = [2, 0, 0x0a, 2, 0, 9];
pub const FRONT: u32 = 10_010;
pub const DATA: u32 = 10_011;
pub const SVC: u32 = 10_020;

pub struct Ground {
    text: String,
    pub p: Project,
    pub m: Machine,
    pub node: NodeId,
}

pub fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// A packet's addresses, protocol and ports, or type and code.
pub fn fields(src: &str, dst: &str, protocol: u8, x: u16, y: u16) -> Fields {
    Fields { src: ip(src), dst: ip(dst), protocol, x, y }
}

pub fn turned(f: &Fields) -> Fields {
    Fields { src: f.dst, dst: f.src, x: f.y, y: f.x, ..*f }
}

fn one(text: &str) -> Project {
    project(&[("main.pw".to_owned(), text.to_owned())])
}

impl Ground {
    pub fn new(node: &str) -> Self {
        Self::of(node, false, 64)
    }

    /// With an underlay of IPv6, and with room for so many connections.
    pub fn of(node: &str, v6: bool, connections: u32) -> Self {
        let (family, vteps) = match v6 {
            false => ("ipv4", ["192.0.2.11", "192.0.2.12", "192.0.2.21"]),
            true => ("ipv6", ["2001:db8:aa::11", "2001:db8:aa::12", "2001:db8:bb::21"]),
        };
        let text = POLICY.replace("FAMILY", family);
        let names = ["VTEP1", "VTEP2", "VTEPG"];
        let text = names.iter().zip(vteps).fold(text, |text, (name, vtep)| text.replace(name, vtep));
        let p = one(&text);
        let node = p.compiled.model.nodes.iter().find(|(_, n)| n.name == node).unwrap().0;
        let mut m = Machine::sized(connections);
        m.become_node(&p, node);
        Self { text, p, m, node }
    }

    /// The project with something else written in it.
    pub fn otherwise(&self, what: &str, instead: &str) -> Project {
        assert!(self.text.contains(what));
        one(&self.text.replace(what, instead))
    }

    pub fn vtep(&self, node: &str) -> IpAddr {
        self.p.compiled.model.nodes.values().find(|n| n.name == node).unwrap().vtep
    }

    pub fn mac_of(&self, node: &str) -> [u8; 6] {
        numbers::router_mac(self.vtep(node))
    }

    /// A frame to this node's router.
    pub fn frame(&self, from: [u8; 6], f: &Fields, id: u32, twist: Twist) -> Vec<u8> {
        frame(from, self.m.mac, f, id, twist)
    }

    /// A packet of a workload.
    pub fn workload(&self, device: &str, from: [u8; 6], f: &Fields, twist: Twist) -> Ran {
        self.m.workload(device, &self.frame(from, f, 7, twist))
    }

    /// A packet in the tunnel.
    pub fn fabric(&self, from: &str, vni: u32, f: &Fields, twist: Twist) -> Ran {
        self.m.fabric(self.vtep(from), vni, &self.frame(ANY_MAC, f, 7, twist))
    }

    pub fn outside(&self, f: &Fields, twist: Twist) -> Ran {
        self.m.outside("ext0", &self.frame(ANY_MAC, f, 7, twist))
    }

    pub fn count(&self, map: &str) -> usize {
        self.m.map(map).keys().count()
    }

    /// Open connections, as their openers' counters have it.
    pub fn opened(&self) -> u64 {
        let map = self.m.map("opened");
        map.keys()
            .map(|key| map.lookup(&key, MapFlags::ANY).unwrap().unwrap())
            .map(|value| u64::from_ne_bytes(value.try_into().unwrap()))
            .sum()
    }

    /// As if so many seconds more had gone by since the last packet of every connection.
    pub fn age(&self, seconds: u64) {
        let (map, at) = (self.m.map("connections"), layout::at("ct", "seen"));
        // A write moves an entry to the front of its bucket, where it would be met again.
        let keys: Vec<Vec<u8>> = map.keys().collect();
        for key in keys {
            let mut entry = map.lookup(&key, MapFlags::ANY).unwrap().unwrap();
            let seen = u64::from_ne_bytes(entry[at..at + 8].try_into().unwrap());
            // The machine may have been up for less.
            let then = seen.wrapping_sub(seconds * 1_000_000_000);
            entry[at..at + 8].copy_from_slice(&then.to_ne_bytes());
            map.update(&key, &entry, MapFlags::ANY).unwrap();
        }
    }
}

#[track_caller]
pub fn dropped(ran: &Ran, why: u32) {
    assert_eq!((ran.action, ran.cb[0]), (SHOT, why), "{ran:x?}");
}

#[track_caller]
pub fn sent(ran: &Ran, outcome: u32) {
    assert_eq!((ran.action, ran.cb[0]), (REDIRECT, outcome), "{ran:x?}");
}

/// The same packet after a hop: other MACs, and a hop limit less.
pub fn hopped(mut frame: Vec<u8>, from: [u8; 6], to: [u8; 6]) -> Vec<u8> {
    frame[..6].copy_from_slice(&to);
    frame[6..12].copy_from_slice(&from);
    if frame[12..14] == [8, 0] {
        frame[22] -= 1;
        mend4(&mut frame[14..34]);
    } else {
        frame[21] -= 1;
    }
    frame
}
