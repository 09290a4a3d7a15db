//! What the program has to do with a packet, from `eval` and the project alone.

use crate::frames::{Fields, Twist, frame};
use crate::machine::{BASE, Machine};
use crate::support::Project;
use backends::linux::numbers;
use compiler::Compiled;
use compiler::algebra::{Family, format_addr, parse_addr};
use compiler::buckets;
use compiler::compiled::{Destination, Source};
use compiler::eval::{self, Decision, Reason, Resolution};
use compiler::ids::{EndpointId, GatewayId, NodeId, OwnerId};
use compiler::packet::{self, Flow, Packet};
use partywall_node::ebpf::Ran;
use std::collections::{BTreeMap, BTreeSet};

const SHOT: u32 = 2;
const REDIRECT: u32 = 7;
/// `enum outcome`
const SENT_DEVICE: u32 = 0x100;
const SENT_TUNNEL: u32 = 0x101;
const SENT_NEXT_HOP: u32 = 0x102;
/// `enum reason`
const BAD_VTEP: u32 = 2;
const NO_ROUTE: u32 = 5;
const INVALID: u32 = 9;

/// The MAC of endpoints that declare none, and of routers outside.
const ANY_MAC: [u8; 6] = [0x02, 0, 0, 0, 0, 0x99];

/// An address as one space sees it.
#[derive(Debug, Clone, Copy)]
struct Seen {
    address: u128,
    owner: OwnerId,
    endpoint: Option<EndpointId>,
}

fn seen(c: &Compiled, space: OwnerId, family: Family) -> (Vec<Seen>, Vec<Seen>) {
    let expand = |lo: u128, hi: u128, owner: OwnerId, real: u128, out: &mut Vec<Seen>| {
        if !c.model.owners[owner].is_tenant() {
            for address in BTreeSet::from([lo, lo + (hi - lo) / 3, lo + (hi - lo) / 2, hi]) {
                out.push(Seen { address, owner, endpoint: None });
            }
            return;
        }
        for (id, endpoint) in c.model.endpoints.iter().filter(|(_, e)| e.tenant == owner) {
            for (f, at) in endpoint.addresses.iter().map(|a| parse_addr(*a)) {
                if f == family && real <= at && at - real <= hi - lo {
                    out.push(Seen { address: at - real + lo, owner, endpoint: Some(id) });
                }
            }
        }
    };
    let (mut sources, mut destinations) = (Vec::new(), Vec::new());
    for r in c.spaces[space].destinations.family(family) {
        let (owner, real) = match r.target {
            Destination::Local { .. } => (space, r.lo),
            Destination::Import { owner, real, .. } => (owner, real),
            Destination::External { owner, .. } | Destination::Direct { owner, .. } => (owner, r.lo),
            Destination::ClientOnly | Destination::Nowhere => continue,
        };
        expand(r.lo, r.hi, owner, real, &mut destinations);
    }
    for r in c.spaces[space].sources.family(family) {
        let (owner, real) = match r.target {
            Source::Local { .. } | Source::Own => (space, r.lo),
            Source::Client { owner, real, .. } | Source::External { owner, real, .. } => (owner, real),
            Source::Direct { owner, .. } => (owner, r.lo),
        };
        expand(r.lo, r.hi, owner, real, &mut sources);
    }
    (sources, destinations)
}

/// Services at and around every boundary that the project draws, as (protocol, x, y).
fn services(c: &Compiled, family: Family) -> Vec<(u8, u16, u16)> {
    let rules = c.model.rules.values().map(|r| &r.service);
    let boxes = rules.chain(c.model.exposures.values().map(|e| &e.service)).flat_map(|s| s.boxes.iter());
    let mut protocols: BTreeMap<u8, (BTreeSet<u16>, BTreeSet<u16>)> = BTreeMap::new();
    for p in [1, 4, 6, 17, 47, 50, 58, 132, 255] {
        protocols.entry(p).or_default();
    }
    for b in boxes {
        for p in [b.proto.0, b.proto.1] {
            let (x, y) = protocols.entry(p).or_default();
            for (set, (lo, hi)) in [(x, b.x), (y, b.y)] {
                set.extend([Some(lo), hi.checked_add(1)].into_iter().flatten());
            }
        }
    }
    let mut out = Vec::new();
    for (p, (mut x, mut y)) in protocols {
        // Extension headers of IPv6 are no protocols there.
        let extension = family == Family::V6 && matches!(p, 0 | 43 | 44 | 60 | 135 | 139 | 140);
        if !packet::protocol_in_family(p, family) || extension {
            continue;
        }
        let (x_max, y_max) = packet::field_max(p);
        x.extend([0, x_max]);
        y.extend([0, y_max]);
        for &x in x.iter().filter(|x| **x <= x_max) {
            // Neighbour discovery has a test of its own.
            let discovery = p == 58 && matches!(x, 133..=137);
            out.extend(y.iter().filter(|y| **y <= y_max && !discovery).map(|y| (p, x, *y)));
        }
    }
    out
}

fn reason(reason: Reason) -> u32 {
    match reason {
        Reason::UnknownSource => 4,
        Reason::NoRoute => NO_ROUTE,
        Reason::NotExposed => 6,
        Reason::Default => 7,
        Reason::Rule => 8,
    }
}

/// Whether a router forwards an address at all.
fn forwarded(family: Family, address: u128) -> bool {
    match format_addr(family, address) {
        std::net::IpAddr::V4(a) => !matches!(a.octets()[0], 0 | 127 | 224..),
        std::net::IpAddr::V6(a) => {
            let [first, second, ..] = a.octets();
            !(matches!(first, 0 | 0xff) || (first == 0xfe && second & 0xc0 == 0x80))
        }
    }
}

fn routable(p: &Packet) -> bool {
    forwarded(p.family, p.src) && forwarded(p.family, p.dst)
}

/// An ICMP error that quotes nothing.
fn quotes_nothing(p: &Packet) -> bool {
    match p.protocol {
        1 => matches!(p.x, 3 | 4 | 5 | 11 | 12),
        58 => matches!(p.x, 1..=4),
        _ => false,
    }
}

fn fields(family: Family, src: u128, dst: u128, p: &Packet) -> Fields {
    Fields {
        src: format_addr(family, src),
        dst: format_addr(family, dst),
        protocol: p.protocol,
        x: p.x,
        y: p.y,
    }
}

/// Where a packet has to come out, and how it looks there.
#[derive(Debug, Clone)]
struct Exit {
    outcome: u32,
    /// The kernel's number of the device.
    device: u32,
    vni: u32,
    /// First word of the VTEP or the next hop; `None`: not compared.
    to: Option<u32>,
    from_mac: [u8; 6],
    to_mac: [u8; 6],
    src: u128,
    dst: u128,
}

struct Oracle<'a> {
    c: &'a Compiled,
    node: NodeId,
    m: &'a Machine,
    name: &'a str,
    ran: u64,
}

/// Runs every pair of classes that a node may meet; how many packets ran.
pub fn node(machine: &mut Machine, project: &Project, node: NodeId, name: &str) -> u64 {
    machine.become_node(project, node);
    let mut o = Oracle { c: &project.compiled, node, m: machine, name, ran: 0 };
    let gateway = o.c.model.nodes[node].gateway;
    for space in o.c.model.owners.ids() {
        for family in Family::BOTH {
            let (sources, destinations) = seen(o.c, space, family);
            let services = services(o.c, family);
            for s in &sources {
                for d in &destinations {
                    for &(protocol, x, y) in &services {
                        let p = Packet { space, family, src: s.address, dst: d.address, protocol, x, y };
                        if gateway {
                            o.gateway(s, d, &p);
                        } else if o.c.model.owners[space].is_tenant() {
                            o.compute(s, d, &p);
                        }
                    }
                }
            }
        }
    }
    o.ran
}

impl Oracle<'_> {
    fn here(&self, seen: &Seen) -> Option<EndpointId> {
        seen.endpoint.filter(|e| self.c.model.endpoints[*e].node == self.node)
    }

    fn vtep(&self, node: NodeId) -> (Option<u32>, [u8; 6]) {
        let vtep = self.c.model.nodes[node].vtep;
        let word = match vtep {
            std::net::IpAddr::V4(v4) => u32::from_ne_bytes(v4.octets()),
            std::net::IpAddr::V6(v6) => u32::from_ne_bytes(v6.octets()[..4].try_into().unwrap()),
        };
        (Some(word), numbers::router_mac(vtep))
    }

    fn vni(&self, endpoint: EndpointId) -> u32 {
        self.c.model.segments[self.c.model.endpoints[endpoint].segment].vni
    }

    fn to_device(&self, endpoint: EndpointId, src: u128, dst: u128) -> Exit {
        let e = &self.c.model.endpoints[endpoint];
        Exit {
            outcome: if e.mac.is_some() { SENT_DEVICE } else { SENT_NEXT_HOP },
            device: BASE + self.m.devices[&e.dev],
            vni: 0,
            to: None,
            from_mac: self.m.mac,
            to_mac: e.mac.unwrap_or(ANY_MAC),
            src,
            dst,
        }
    }

    fn to_node(&self, node: NodeId, vni: u32, src: u128, dst: u128) -> Exit {
        let (to, mac) = self.vtep(node);
        Exit { outcome: SENT_TUNNEL, device: BASE, vni, to, from_mac: self.m.mac, to_mac: mac, src, dst }
    }

    fn to_endpoint(&self, endpoint: EndpointId, src: u128, dst: u128) -> Exit {
        let node = self.c.model.endpoints[endpoint].node;
        if node == self.node {
            self.to_device(endpoint, src, dst)
        } else {
            self.to_node(node, self.vni(endpoint), src, dst)
        }
    }

    #[track_caller]
    fn refused(&self, ran: &Ran, why: u32, p: &Packet) {
        let told = (self.name, &self.c.model.nodes[self.node].name, p);
        assert_eq!((ran.action, ran.cb[0]), (SHOT, why), "{told:?}");
    }

    #[track_caller]
    fn sent(&self, ran: &Ran, exit: &Exit, p: &Packet, id: u32) {
        let told = (self.name, &self.c.model.nodes[self.node].name, p, exit);
        assert_eq!((ran.action, ran.cb[0]), (REDIRECT, exit.outcome), "{told:?}");
        assert_eq!((ran.cb[1], ran.cb[2]), (exit.device, exit.vni), "{told:?}");
        if let Some(to) = exit.to {
            assert_eq!(ran.cb[4], to, "{told:?}");
        }
        let (from, to) = if exit.outcome == SENT_NEXT_HOP {
            // The kernel writes the addresses later.
            (ran.frame[6..12].try_into().unwrap(), ran.frame[..6].try_into().unwrap())
        } else {
            (exit.from_mac, exit.to_mac)
        };
        let expected = frame(from, to, &fields(p.family, exit.src, exit.dst, p), id, Twist::Ttl(63));
        assert_eq!(hex(&ran.frame), hex(&expected), "{told:?}");
    }

    fn decision(&self, p: &Packet) -> Option<Decision> {
        eval::decide(self.c, p).ok()
    }

    fn flow(&self, p: &Packet) -> Option<Flow> {
        match eval::resolve(self.c, p) {
            Ok(Resolution::Flow { flow, .. }) => Some(flow),
            _ => None,
        }
    }

    fn instance(&self, gateway: GatewayId, p: &Packet) -> NodeId {
        let flow = self.flow(p).unwrap();
        buckets::instance(&self.c.model, gateway, &flow).unwrap()
    }

    /// A packet of a tenant with an end on this node.
    fn compute(&mut self, s: &Seen, d: &Seen, p: &Packet) {
        let Some(decision) = self.decision(p) else { return };
        let id = u32::try_from(self.ran & 0x00ff_ffff).unwrap();
        if let Some(source) = self.here(s).filter(|_| s.owner == p.space) {
            self.leaves(source, d, p, &decision, id);
        }
        if let Some(target) = self.here(d).filter(|_| d.owner == p.space) {
            self.arrives(s, target, p, &decision, id);
        }
    }

    fn leaves(&mut self, source: EndpointId, d: &Seen, p: &Packet, decision: &Decision, id: u32) {
        let e = &self.c.model.endpoints[source];
        let mac = e.mac.unwrap_or(ANY_MAC);
        let built = frame(mac, self.m.mac, &fields(p.family, p.src, p.dst, p), id, Twist::None);
        let ran = self.m.workload(&e.dev, &built);
        self.ran += 1;
        if quotes_nothing(p) {
            return self.refused(&ran, INVALID, p);
        }
        let exit = match (decision.allow, decision.via) {
            (false, _) => return self.refused(&ran, reason(decision.reason), p),
            _ if !routable(p) => return self.refused(&ran, NO_ROUTE, p),
            (true, None) => self.to_endpoint(d.endpoint.unwrap(), p.src, p.dst),
            (true, Some(gateway)) => self.to_node(self.instance(gateway, p), self.vni(source), p.src, p.dst),
        };
        self.sent(&ran, &exit, p, id);
        // The answer comes from where the packet went.
        if let Some((built, q)) = self.answer(p, exit.src, exit.dst, id) {
            let ran = match (exit.outcome, decision.via) {
                (SENT_TUNNEL, via) => {
                    let from = match via {
                        Some(gateway) => self.instance(gateway, p),
                        None => self.c.model.endpoints[d.endpoint.unwrap()].node,
                    };
                    let vtep = self.c.model.nodes[from].vtep;
                    self.m.fabric(vtep, self.vni(source), &built)
                }
                _ => {
                    let other = &self.c.model.endpoints[d.endpoint.unwrap()];
                    let mut built = built;
                    built[6..12].copy_from_slice(&other.mac.unwrap_or(ANY_MAC));
                    self.m.workload(&other.dev, &built)
                }
            };
            self.ran += 1;
            let back = self.to_device(source, q.src, q.dst);
            self.sent(&ran, &back, &q, id);
        }
        self.m.forget();
    }

    /// The packet that answers one that came out with these addresses, towards this node's router.
    fn answer(&self, p: &Packet, src: u128, dst: u128, id: u32) -> Option<(Vec<u8>, Packet)> {
        let (x, y) = match (p.protocol, p.x) {
            (6 | 17 | 132, _) => (p.y, p.x),
            (1, 8) => (0, 0),
            (58, 128) => (129, 0),
            (1 | 58, _) => return None,
            _ => (0, 0),
        };
        let q = Packet { src: dst, dst: src, x, y, ..*p };
        let built = frame(ANY_MAC, self.m.mac, &fields(p.family, dst, src, &q), id, Twist::None);
        // The answer to SYN is SYN and ACK; the flags are in the checksum, so the frame says SYN and has a connection.
        Some((built, q))
    }

    /// From every node that might claim to have it.
    fn arrives(&mut self, s: &Seen, target: EndpointId, p: &Packet, decision: &Decision, id: u32) {
        let built = frame(ANY_MAC, self.m.mac, &fields(p.family, p.src, p.dst, p), id, Twist::None);
        let vni = self.vni(target);
        for (from, sender) in self.c.model.nodes.iter().filter(|(n, _)| *n != self.node) {
            let ran = self.m.fabric(sender.vtep, vni, &built);
            self.ran += 1;
            let right = match decision.via {
                Some(gateway) => self.c.model.gateways[gateway].instances.contains(&from),
                None => s.endpoint.is_some_and(|e| self.c.model.endpoints[e].node == from),
            };
            if decision.allow && right && !quotes_nothing(p) && routable(p) {
                self.sent(&ran, &self.to_device(target, p.src, p.dst), p, id);
                self.m.forget();
            } else {
                let told = (self.name, &self.c.model.nodes[self.node].name, &sender.name, p);
                assert_eq!(ran.action, SHOT, "{told:?}");
                let mut allowed = vec![BAD_VTEP];
                if quotes_nothing(p) {
                    allowed.push(INVALID);
                } else if !decision.allow {
                    allowed.push(reason(decision.reason));
                } else if !routable(p) {
                    allowed.push(NO_ROUTE);
                }
                assert!(allowed.contains(&ran.cb[0]), "{told:?} {:?} not in {allowed:?}", ran.cb);
            }
        }
    }

    /// A connection opened in a space, as an instance here sees it.
    fn gateway(&mut self, s: &Seen, d: &Seen, p: &Packet) {
        let Some(decision) = self.decision(p) else { return };
        if s.owner != p.space {
            return;
        }
        let id = u32::try_from(self.ran & 0x00ff_ffff).unwrap();
        let built = frame(ANY_MAC, self.m.mac, &fields(p.family, p.src, p.dst, p), id, Twist::None);
        let runs: Vec<Ran> = match s.endpoint {
            Some(source) => {
                let vtep = self.c.model.nodes[self.c.model.endpoints[source].node].vtep;
                vec![self.m.fabric(vtep, self.vni(source), &built)]
            }
            None => self.attached(p.space).iter().map(|dev| self.m.outside(dev, &built)).collect(),
        };
        let mine = decision.allow
            && decision.via.is_some_and(|g| self.c.model.gateways[g].instances.contains(&self.node));
        for ran in runs {
            self.ran += 1;
            if !mine || quotes_nothing(p) || !routable(p) {
                let told = (self.name, &self.c.model.nodes[self.node].name, p, decision);
                assert_eq!(ran.action, SHOT, "{told:?} {:?}", ran.cb);
                continue;
            }
            let (src, masked) = self.shown(p, decision.via.unwrap());
            let dst = decision.to.unwrap().address;
            let exit = match d.endpoint {
                Some(target) => self.to_endpoint(target, src, dst),
                None => {
                    let dev = &self.attached(d.owner)[0];
                    Exit {
                        outcome: SENT_NEXT_HOP,
                        device: BASE + self.m.devices[dev],
                        vni: 0,
                        to: None,
                        from_mac: self.m.mac,
                        to_mac: ANY_MAC,
                        src,
                        dst,
                    }
                }
            };
            self.sent(&ran, &exit, p, id);
            self.back(s, d, p, &exit, id, masked);
            self.m.forget();
        }
    }

    /// The answer, through the gateway once more.
    fn back(&mut self, s: &Seen, d: &Seen, p: &Packet, exit: &Exit, id: u32, _masked: bool) {
        let Some((built, q)) = self.answer(p, exit.src, exit.dst, id) else { return };
        let ran = match d.endpoint {
            Some(target) => {
                let vtep = self.c.model.nodes[self.c.model.endpoints[target].node].vtep;
                self.m.fabric(vtep, self.vni(target), &built)
            }
            None => self.m.outside(&self.attached(d.owner)[0], &built),
        };
        self.ran += 1;
        let back = match s.endpoint {
            Some(source) => self.to_endpoint(source, p.dst, p.src),
            None => {
                let dev = &self.attached(s.owner)[0];
                Exit {
                    outcome: SENT_NEXT_HOP,
                    device: BASE + self.m.devices[dev],
                    vni: 0,
                    to: None,
                    from_mac: self.m.mac,
                    to_mac: ANY_MAC,
                    src: p.dst,
                    dst: p.src,
                }
            }
        };
        self.sent(&ran, &back, &q, id);
    }

    fn attached(&self, external: OwnerId) -> Vec<String> {
        let attaches = self.c.model.gateways.values().flat_map(|g| &g.attaches);
        let mine = attaches.filter(|a| a.external == external && a.node == self.node);
        mine.map(|a| a.dev.clone()).collect::<BTreeSet<_>>().into_iter().collect()
    }

    /// The source as the other side sees it.
    fn shown(&self, p: &Packet, gateway: GatewayId) -> (u128, bool) {
        let Ok(Resolution::Flow { flow, way }) = eval::resolve(self.c, p) else { panic!("{p:?}") };
        if let Some(e) = way.exposure.map(|e| &self.c.model.exposures[e]) {
            if e.translates_clients {
                return (e.show(flow.src.owner, p.family, flow.src.address).unwrap(), false);
            }
            return (flow.src.address, false);
        }
        let g = &self.c.model.gateways[gateway];
        let at = g.instances.iter().position(|n| *n == self.node).unwrap();
        let clause =
            g.masquerades.iter().find(|m| m.tenant == flow.src.owner && m.external == flow.dst.owner);
        let mut masks = clause.into_iter().flat_map(|m| &m.addresses).map(|a| parse_addr(*a));
        let mask = masks.by_ref().filter(|(f, _)| *f == p.family).nth(at);
        mask.map_or((flow.src.address, false), |(_, a)| (a, true))
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect::<Vec<_>>().join(" ")
}
