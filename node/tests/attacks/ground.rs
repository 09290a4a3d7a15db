//! A lab of five nodes and what is sent into it.

#[path = "../injection/frames.rs"]
pub mod frames;
#[path = "../lab/support.rs"]
pub mod support;
#[path = "../injection/wire.rs"]
pub mod wire;

use backends::linux::numbers;
use compiler::ids::NodeId;
use frames::{Fields, Outer, Twist};
use libbpf_rs::MapCore as _;
use partywall_node::ebpf::pins;
use partywall_node::lab::{self, Lab, LabOptions};
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use support::{Fleet, Project, able, options, project};
use wire::{Arrivals, Place, Wires};

pub const FABRIC: &str = r#"
fabric f { encap vxlan port 4789 underlay mtu 9000 family ipv4 precedence top > tenant delegate tenant unknown-vni drop }
node c1 { vtep 192.0.2.11 dev eth0 }
node c2 { vtep 192.0.2.12 dev eth0 }
node c3 { vtep 192.0.2.13 dev eth0 }
node g1 { vtep 192.0.2.21 dev eth0 gateway }
node g2 { vtep 192.0.2.22 dev eth0 gateway }
tenant shop id 7 {
  segment front vni 10010 { 10.1.0.0/24, fd00:1::/64 }
  segment data vni 10011 { 10.1.1.0/24, fd00:2::/64 }
}
tenant payments id 8 {
  segment api vni 10020 { 10.2.0.0/24 }
  expose api & 10.2.0.9 : tcp/443 to shop.front & 10.1.0.0/24 via edge as 100.64.7.9 clients as 100.64.9.0/24
}
gateway edge { joins shop, payments instances g1 stateful }
gateway core { joins shop instances g2 stateful }
endpoint web-1 in shop.front { at 10.1.0.5, fd00:1::5 mac 02:00:0a:01:00:05 on c1 dev tap-web1 }
endpoint web-2 in shop.front { at 10.1.0.6, fd00:1::6 mac 02:00:0a:01:00:06 on c1 dev tap-web2 }
endpoint db-1 in shop.data { at 10.1.1.9, fd00:2::9 mac 02:00:0a:01:01:09 on c3 dev tap-db1 }
endpoint api-1 in payments.api { at 10.2.0.9 mac 02:00:0a:02:00:09 on c2 dev tap-api1 }
endpoint api-2 in payments.api { at 10.2.0.10 mac 02:00:0a:02:00:0a on c1 dev tap-api2 }
"#;

pub const POLICY: &str = r#"
policy shop-app for shop in tenant {
  store: allow front -> data : tcp/5432 | udp/514
  pay: allow front -> payments : tcp/443
  inserted: allow front -> data : tcp/8443 via core
  inside: allow front -> front
}
policy payments-app for payments in tenant { allow api -> api : udp }
"#;

pub fn one(text: &str) -> Project {
    project(&[("main.pw".to_owned(), text.to_owned())])
}

pub fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

pub fn v4(text: &str) -> [u8; 4] {
    let IpAddr::V4(a) = ip(text) else { panic!("{text}") };
    a.octets()
}

/// Everything that came out.
fn count(seen: &Arrivals) -> usize {
    let packets: usize = seen.packets.values().map(Vec::len).sum();
    packets + seen.errors.len() + seen.strays.len() + seen.noise.len()
}

/// How long nothing may come out before a volley is over.
const QUIET: Duration = Duration::from_millis(200);

/// A lab, taken away at the end whatever happens.
pub struct Ground {
    pub p: Project,
    pub lab: Lab,
    pub wires: Wires,
    pub fleet: Fleet,
    options: LabOptions,
}

impl Drop for Ground {
    fn drop(&mut self) {
        let _ = lab::down(&self.options);
    }
}

/// What one volley did: arrivals, and what each node counted on top.
pub struct Effect {
    pub arrivals: Arrivals,
    pub drops: BTreeMap<String, BTreeMap<String, u64>>,
}

impl Effect {
    pub fn counted(&self, node: &str, reason: &str) -> u64 {
        self.drops[node].get(reason).copied().unwrap_or(0)
    }

    /// Nothing came out, and a node counted so many for a reason.
    pub fn only_dropped(&self, node: &str, reason: &str, count: u64) {
        assert!(self.arrivals.packets.is_empty(), "{:?}", self.arrivals.packets);
        assert!(self.arrivals.errors.is_empty(), "{:?}", self.arrivals.errors);
        assert_eq!(self.counted(node, reason), count, "{reason} at {node}: {:?}", self.drops);
    }

    /// ARP replies and neighbour advertisements that came out somewhere.
    pub fn answers(&self, at: Place) -> Vec<&[u8]> {
        let there =
            self.arrivals.noise.iter().filter(|(place, _)| *place == at).map(|(_, bytes)| bytes.as_slice());
        let answer = |b: &[u8]| {
            b[12..14] == [8, 6] && b[20..22] == [0, 2] || b[12..14] == [0x86, 0xdd] && b[54] == 136
        };
        there.filter(|bytes| answer(bytes)).collect()
    }
}

impl Ground {
    pub fn new(name: &str, text: &str) -> Option<Self> {
        Self::tapped(name, text, Fleet::wanted(), &[])
    }

    /// Of nodes that run this, with a watch on what these of them are sent by others.
    pub fn tapped(name: &str, text: &str, fleet: Fleet, taps: &[&str]) -> Option<Self> {
        let p = one(text);
        if !able(&p.compiled, name) {
            return None;
        }
        let options = options(name);
        let artifacts = tempfile::tempdir().unwrap();
        fleet.build(&p, &[], artifacts.path());
        let lab = lab::up(&p.compiled, artifacts.path(), &options).unwrap();
        let named =
            |n: &usize| taps.contains(&p.compiled.model.nodes[lab.topology.nodes[*n].node].name.as_str());
        let taps: Vec<usize> = (0..lab.topology.nodes.len()).filter(named).collect();
        let wires = Wires::open(&lab, &taps);
        wire::quiet(&lab, &wires);
        Some(Self { p, lab, wires, fleet, options })
    }

    pub fn node(&self, name: &str) -> NodeId {
        self.p.compiled.model.nodes.iter().find(|(_, n)| n.name == name).unwrap().0
    }

    pub fn netns(&self, node: &str) -> &str {
        &self.lab.topology.node(self.node(node)).unwrap().netns
    }

    /// Whether a node runs the eBPF target.
    pub fn ebpf(&self, node: &str) -> bool {
        let names: Vec<String> = self.p.compiled.model.nodes.values().map(|n| n.name.clone()).collect();
        self.fleet.ebpf(names.iter().map(String::as_str)).contains(node)
    }

    /// Connections that a node knows, of everybody.
    pub fn connections(&self, node: &str) -> usize {
        if self.ebpf(node) {
            return pins::map(&wire::pins(self.netns(node)), "connections").unwrap().keys().count();
        }
        let count = "/proc/sys/net/netfilter/nf_conntrack_count";
        support::run("ip", &["netns", "exec", self.netns(node), "cat", count]).trim().parse().unwrap()
    }

    pub fn router(&self, node: &str) -> [u8; 6] {
        numbers::router_mac(self.p.compiled.model.nodes[self.node(node)].vtep)
    }

    pub fn host(&self, name: &str) -> Place {
        let endpoints = &self.lab.topology.endpoints;
        let named = |id| self.p.compiled.model.endpoints[id].name == name;
        Place::Endpoint(endpoints.iter().position(|e| named(e.endpoint)).unwrap())
    }

    /// A frame of a workload on a node.
    pub fn plain(&self, host: &str, node: &str, f: &Fields, id: u32) -> (Place, Vec<u8>) {
        let place = self.host(host);
        (place, frames::frame(self.wires.mac(place), self.router(node), f, id, Twist::None))
    }

    /// A workload's neighbour solicitation, to the group that the target's last 24 bits make (RFC 4291, 2.7.1).
    pub fn solicitation(&self, host: &str, src: &str, target: &str, hops: u8) -> (Place, Vec<u8>) {
        let (place, IpAddr::V6(address)) = (self.host(host), ip(target)) else { panic!("{target}") };
        let mac = self.wires.mac(place);
        let mut rest = [[0; 4].as_slice(), &address.octets()].concat();
        if src != "::" {
            rest.extend([1, 1]);
            rest.extend(mac);
        }
        let [.., a, b, c] = address.octets();
        let group = ip(&format!("ff02::1:ff{a:02x}:{:x}", u16::from(b) << 8 | u16::from(c)));
        let link = (mac, [0x33, 0x33, 0xff, a, b, c]);
        (place, frames::discovery(link, (ip(src), group), 135, hops, &rest))
    }

    /// What is around a frame in VXLAN from a node's own VTEP.
    pub fn outer(&self, from: &str, to: &str, vni: u32) -> (Place, Outer) {
        let nodes = &self.lab.topology.nodes;
        let at = |name: &str| nodes.iter().position(|n| n.node == self.node(name)).unwrap();
        let (sender, receiver) = (&nodes[at(from)], &nodes[at(to)]);
        let outer = Outer {
            from: sender.mac,
            to: receiver.mac,
            src: sender.vtep,
            dst: receiver.vtep,
            port: 4789,
            vni,
            flags: 0x08,
        };
        (Place::Underlay(at(from)), outer)
    }

    /// A frame between two nodes' routers, in VXLAN from the first one's own VTEP.
    pub fn tunnelled(
        &self,
        from: &str,
        to: &str,
        vni: u32,
        flags: u8,
        f: &Fields,
        id: u32,
    ) -> (Place, Vec<u8>) {
        let inner = frames::frame(self.router(from), self.router(to), f, id, Twist::None);
        let (place, outer) = self.outer(from, to, vni);
        (place, frames::vxlan(&Outer { flags, ..outer }, &inner))
    }

    fn by_name(&self, drops: Vec<BTreeMap<String, u64>>) -> BTreeMap<String, BTreeMap<String, u64>> {
        let nodes = self.lab.topology.nodes.iter().map(|n| self.p.compiled.model.nodes[n.node].name.clone());
        nodes.zip(drops).collect()
    }

    /// Sends frames and waits for what becomes of them.
    pub fn volley(&self, frames: &[(Place, Vec<u8>)]) -> Effect {
        let before = self.wires.drops();
        let (seen, stop) = (Mutex::new(Arrivals::default()), AtomicBool::new(false));
        std::thread::scope(|scope| {
            scope.spawn(|| self.wires.watch(&seen, &stop));
            for (place, frame) in frames {
                self.wires.send(*place, frame);
            }
            let count = || count(&seen.lock().unwrap());
            let (mut last, mut since) = (count(), Instant::now());
            while since.elapsed() < QUIET {
                std::thread::sleep(Duration::from_millis(10));
                let now = count();
                if now != last {
                    (last, since) = (now, Instant::now());
                }
            }
            stop.store(true, Ordering::Release);
        });
        let after = self.wires.drops();
        let moved = before.iter().zip(after).map(|(before, after)| {
            let since = |(reason, n): (String, u64)| {
                let was = before.get(&reason).copied().unwrap_or(0);
                (reason, n - was)
            };
            after.into_iter().map(since).collect()
        });
        Effect { arrivals: seen.into_inner().unwrap(), drops: self.by_name(moved.collect()) }
    }
}

pub fn tcp(src: &str, dst: &str, x: u16, y: u16) -> Fields {
    Fields { src: ip(src), dst: ip(dst), protocol: 6, x, y }
}

pub fn udp(src: &str, dst: &str, x: u16, y: u16) -> Fields {
    Fields { protocol: 17, ..tcp(src, dst, x, y) }
}

/// Installs another policy on some nodes of a lab.
pub fn reload(g: &Ground, text: &str, nodes: &[&str], artifacts: &Path) {
    let p = one(text);
    support::build(&p, artifacts);
    for node in nodes {
        g.lab.apply(&g.p.compiled, g.node(node), artifacts).unwrap();
    }
}
