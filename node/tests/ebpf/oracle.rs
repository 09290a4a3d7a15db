//! What the program has to do with a packet, from `eval` and the project alone.

#[path = "alone.rs"]
mod alone;

use crate::ANY_MAC;
use crate::ends::{Seen, meaning, plain, seen, services};
use crate::frames::{Fields, Twist, frame};
use crate::generate::Rng;
use crate::machine::{BASE, Machine};
use crate::said::{
    ANSWERED, BAD_VTEP, DEFAULT, INVALID, LEFT_ALONE, NO_ROUTE, NOT_EXPOSED, REDIRECT, RULE, SENT_DEVICE,
    SENT_NEXT_HOP, SENT_TUNNEL, SHOT, TO_HOST, UNKNOWN_SOURCE, UNSPEC,
};
use crate::support::Project;
use crate::told;
use backends::linux::numbers;
use compiler::Compiled;
use compiler::algebra::{Family, format_addr, parse_addr};
use compiler::buckets;
use compiler::eval::{self, Decision, Reason, Resolution};
use compiler::ids::{EndpointId, GatewayId, NodeId, OwnerId};
use compiler::packet::{self, Flow, Packet};
use partywall_node::ebpf::Ran;
use std::collections::{BTreeMap, BTreeSet};

/// `enum reason`
pub fn reason(reason: Reason) -> u32 {
    match reason {
        Reason::UnknownSource => UNKNOWN_SOURCE,
        Reason::NoRoute => NO_ROUTE,
        Reason::NotExposed => NOT_EXPOSED,
        Reason::Default => DEFAULT,
        Reason::Rule => RULE,
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
    tries: u64,
    /// Of all packets but answers.
    ttl: u8,
}

/// Runs every pair of ends that a node may meet with every service; how many packets ran.
pub fn node(machine: &mut Machine, project: &Project, node: NodeId, name: &str) -> u64 {
    let mut o = Oracle::new(machine, project, node, name);
    for space in o.c.model.owners.ids() {
        for family in Family::BOTH {
            let (sources, destinations) = seen(o.c, space, family);
            let services = services(o.c, family);
            for s in &sources {
                for d in &destinations {
                    for &(protocol, x, y) in &services {
                        let p = Packet { space, family, src: s.address, dst: d.address, protocol, x, y };
                        o.packet(s, d, &p);
                    }
                }
            }
        }
    }
    o.ran
}

/// Runs packets of any kind on a node, more of them near what the project speaks of; how many packets ran.
pub fn random(
    machine: &mut Machine,
    project: &Project,
    node: NodeId,
    name: &str,
    rng: &mut Rng,
    count: u64,
) -> u64 {
    let mut o = Oracle::new(machine, project, node, name);
    let owners: Vec<OwnerId> = o.c.model.owners.ids().collect();
    let mut known = BTreeMap::new();
    for &space in &owners {
        for family in Family::BOTH {
            known.insert((space, family), (seen(o.c, space, family), services(o.c, family)));
        }
    }
    while o.ran < count {
        let space = owners[rng.below(owners.len())];
        let family = Family::BOTH[rng.below(2)];
        let ((sources, destinations), services) = &known[&(space, family)];
        let s = near(rng, o.c, space, family, sources, true);
        let d = near(rng, o.c, space, family, destinations, false);
        let (protocol, x, y) = service(rng, family, services);
        o.ttl = if rng.chance(6) { u8::try_from(rng.below(2)).unwrap() } else { 2 + rng.below(254) as u8 };
        o.packet(&s, &d, &Packet { space, family, src: s.address, dst: d.address, protocol, x, y });
        // What is nobody's business here runs no packet; a project may have nothing but that.
        o.tries += 1;
        if o.tries > 50 * count {
            break;
        }
    }
    o.ran
}

/// Somebody's address, its neighbour, or any.
fn near(rng: &mut Rng, c: &Compiled, space: OwnerId, family: Family, of: &[Seen], as_source: bool) -> Seen {
    let bits = if family == Family::V4 { 32 } else { 128 };
    let any = (u128::from(rng.next()) << 64 | u128::from(rng.next())) >> (128 - bits);
    let address = match (rng.below(100), of) {
        (0..90, [_, ..]) => return of[rng.below(of.len())],
        (90..98, [_, ..]) => of[rng.below(of.len())].address ^ (1 << rng.below(10)),
        _ => any,
    };
    meaning(c, space, family, address, as_source)
}

fn service(rng: &mut Rng, family: Family, at: &[(u8, u16, u16)]) -> (u8, u16, u16) {
    if rng.chance(50) {
        return at[rng.below(at.len())];
    }
    loop {
        let protocol = match rng.below(10) {
            0..4 => 6,
            4..7 => 17,
            7 => {
                if family == Family::V4 {
                    1
                } else {
                    58
                }
            }
            _ => rng.next() as u8,
        };
        let (x_max, y_max) = packet::field_max(protocol);
        let field = |rng: &mut Rng, max: u16| rng.below(usize::from(max) + 1) as u16;
        let (x, y) = (field(rng, x_max), field(rng, y_max));
        if plain(family, protocol, x) {
            return (protocol, x, y);
        }
    }
}

/// How a packet came in.
#[derive(Debug, Clone, Copy)]
enum Came {
    Workload(EndpointId),
    /// In the tunnel; errors go back to this node in this VNI.
    Fabric(NodeId, u32, [u8; 6]),
    Outside,
}

impl<'a> Oracle<'a> {
    fn new(machine: &'a mut Machine, project: &'a Project, node: NodeId, name: &'a str) -> Self {
        machine.become_node(project, node);
        Self { c: &project.compiled, node, m: machine, name, ran: 0, tries: 0, ttl: 64 }
    }

    fn packet(&mut self, s: &Seen, d: &Seen, p: &Packet) {
        if self.c.model.nodes[self.node].gateway {
            self.gateway(s, d, p);
        } else if self.c.model.owners[p.space].is_tenant() {
            self.compute(s, d, p);
        }
    }

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

    fn to_external(&self, external: OwnerId, src: u128, dst: u128) -> Exit {
        Exit {
            outcome: SENT_NEXT_HOP,
            device: BASE + self.m.devices[&self.attached(external)[0]],
            vni: 0,
            to: None,
            from_mac: self.m.mac,
            to_mac: ANY_MAC,
            src,
            dst,
        }
    }

    #[track_caller]
    fn refused(&self, ran: &Ran, why: u32, p: &Packet) {
        let told = (self.name, &self.c.model.nodes[self.node].name, p);
        assert_eq!((ran.action, ran.cb[0]), (SHOT, why), "{told:?}");
    }

    /// It left there as it is to look, or its sender was told that it expired.
    #[track_caller]
    fn sent(&self, ran: &Ran, (came, built): (Came, &[u8]), exit: &Exit, p: &Packet, id: u32) {
        let told = (self.name, &self.c.model.nodes[self.node].name, p, exit);
        let ttl = built[if p.family == Family::V4 { 22 } else { 21 }];
        if ttl < 2 {
            return self.expired(ran, came, built, p);
        }
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
        let expected = frame(from, to, &fields(p.family, exit.src, exit.dst, p), id, Twist::Ttl(ttl - 1));
        same(&ran.frame, &expected, &told);
        if p.protocol == 17 {
            for later in self.m.again(ran).into_iter().flatten() {
                assert_eq!(later, *ran, "a later packet of the connection {told:?}");
            }
        }
    }

    #[track_caller]
    fn expired(&self, ran: &Ran, came: Came, built: &[u8], p: &Packet) {
        let told = (self.name, &self.c.model.nodes[self.node].name, p, came);
        assert_eq!((ran.action, ran.cb[0]), (REDIRECT, ANSWERED), "{told:?}");
        let (mut from, mut to) = (built[..6].try_into().unwrap(), built[6..12].try_into().unwrap());
        let source = match came {
            Came::Workload(e) => {
                let prefixes = &self.c.model.segments[self.c.model.endpoints[e].segment].prefixes;
                let mine =
                    prefixes.iter().find(|at| at.prefix.family == p.family && at.prefix.contains_addr(p.src));
                mine.unwrap().router
            }
            Came::Fabric(node, vni, mac) => {
                assert_eq!(
                    (ran.cb[1], ran.cb[2], Some(ran.cb[4])),
                    (BASE, vni, self.vtep(node).0),
                    "{told:?}"
                );
                to = mac;
                p.dst
            }
            Came::Outside => {
                // The address of the device of a run.
                from = [0; 6];
                p.dst
            }
        };
        same(&ran.frame, &told::told(built, from, to, format_addr(p.family, source), None), &told);
    }

    /// Whether it is for a node's own address in the underlay.
    fn underlay(&self, p: &Packet) -> bool {
        self.c.model.nodes.values().any(|n| n.vtep == format_addr(p.family, p.dst))
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
        let built = frame(mac, self.m.mac, &fields(p.family, p.src, p.dst, p), id, Twist::Ttl(self.ttl));
        let ran = self.m.workload(&e.dev, &built);
        self.ran += 1;
        // A redirect is only a router's to send, wherever it goes.
        if p.protocol == 1 && p.x == 5 {
            return self.refused(&ran, INVALID, p);
        }
        if self.underlay(p) {
            return self.refused(&ran, TO_HOST, p);
        }
        if quotes_nothing(p) {
            return self.refused(&ran, INVALID, p);
        }
        if !d.there {
            // Nobody has the address: no class, or a refusal of the policy's.
            let told = (self.name, &self.c.model.nodes[self.node].name, p);
            assert_eq!(ran.action, SHOT, "{told:?}");
            let why = [NO_ROUTE, reason(decision.reason)];
            assert!(why[..2 - usize::from(decision.allow)].contains(&ran.cb[0]), "{told:?} {:?}", ran.cb);
            return;
        }
        let exit = match (decision.allow, decision.via) {
            (false, _) => return self.refused(&ran, reason(decision.reason), p),
            _ if !routable(p) => return self.refused(&ran, NO_ROUTE, p),
            (true, None) => self.to_endpoint(d.endpoint.unwrap(), p.src, p.dst),
            (true, Some(gateway)) => self.to_node(self.instance(gateway, p), self.vni(source), p.src, p.dst),
        };
        self.sent(&ran, (Came::Workload(source), &built), &exit, p, id);
        if self.ttl < 2 {
            return;
        }
        // The answer comes from where the packet went.
        if let Some((built, q)) = self.answer(p, exit.src, exit.dst, id) {
            let (ran, came) = match (exit.outcome, decision.via) {
                (SENT_TUNNEL, via) => {
                    let from = match via {
                        Some(gateway) => self.instance(gateway, p),
                        None => self.c.model.endpoints[d.endpoint.unwrap()].node,
                    };
                    let vtep = self.c.model.nodes[from].vtep;
                    (self.m.fabric(vtep, self.vni(source), &built), Came::Outside)
                }
                _ => {
                    let other = &self.c.model.endpoints[d.endpoint.unwrap()];
                    let mut own = built.clone();
                    own[6..12].copy_from_slice(&other.mac.unwrap_or(ANY_MAC));
                    (self.m.workload(&other.dev, &own), Came::Outside)
                }
            };
            self.ran += 1;
            let back = self.to_device(source, q.src, q.dst);
            self.sent(&ran, (came, &built), &back, &q, id);
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
        let built = frame(ANY_MAC, self.m.mac, &fields(p.family, p.src, p.dst, p), id, Twist::Ttl(self.ttl));
        let vni = self.vni(target);
        for (from, sender) in self.c.model.nodes.iter().filter(|(n, _)| *n != self.node) {
            let ran = self.m.fabric(sender.vtep, vni, &built);
            self.ran += 1;
            let right = match decision.via {
                Some(gateway) => s.there && self.c.model.gateways[gateway].instances.contains(&from),
                None => s.endpoint.is_some_and(|e| self.c.model.endpoints[e].node == from),
            };
            if decision.allow && right && !quotes_nothing(p) && routable(p) {
                let came = match s.endpoint.filter(|_| decision.via.is_none()) {
                    Some(source) => Came::Fabric(from, self.vni(source), self.vtep(from).1),
                    None => Came::Fabric(from, vni, ANY_MAC),
                };
                self.sent(&ran, (came, &built), &self.to_device(target, p.src, p.dst), p, id);
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
        let built = frame(ANY_MAC, self.m.mac, &fields(p.family, p.src, p.dst, p), id, Twist::Ttl(self.ttl));
        let mut came = Came::Outside;
        let runs: Vec<Ran> = match s.endpoint {
            Some(source) => {
                let from = self.c.model.endpoints[source].node;
                came = Came::Fabric(from, self.vni(source), ANY_MAC);
                vec![self.m.fabric(self.c.model.nodes[from].vtep, self.vni(source), &built)]
            }
            None if !s.there => Vec::new(),
            None => self.attached(p.space).iter().map(|dev| self.m.outside(dev, &built)).collect(),
        };
        let mine = decision.allow
            && decision.via.is_some_and(|g| self.c.model.gateways[g].instances.contains(&self.node));
        for ran in runs {
            self.ran += 1;
            if !mine || !d.there || self.underlay(p) || quotes_nothing(p) || !routable(p) {
                let told = (self.name, &self.c.model.nodes[self.node].name, p, decision);
                // What is not for it is left to the kernel, which has no route for it.
                let group = match format_addr(p.family, p.dst) {
                    std::net::IpAddr::V4(a) => a.octets()[0] >= 224,
                    std::net::IpAddr::V6(a) => a.is_multicast(),
                };
                let left = matches!(came, Came::Outside)
                    && ran.action == UNSPEC
                    && ([UNKNOWN_SOURCE, NO_ROUTE].contains(&ran.cb[0])
                        || (group && ran.cb[0] == LEFT_ALONE));
                assert!(ran.action == SHOT || left, "{told:?} {:?}", ran.cb);
                continue;
            }
            let (src, masked) = self.shown(p, decision.via.unwrap());
            let dst = decision.to.unwrap().address;
            let exit = match d.endpoint {
                Some(target) => self.to_endpoint(target, src, dst),
                None => self.to_external(d.owner, src, dst),
            };
            self.sent(&ran, (came, &built), &exit, p, id);
            if self.ttl > 1 {
                self.back(s, d, p, &exit, id, masked);
            }
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
            None => self.to_external(s.owner, p.dst, p.src),
        };
        self.sent(&ran, (Came::Outside, &built), &back, &q, id);
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

#[track_caller]
fn same(got: &[u8], expected: &[u8], told: &impl std::fmt::Debug) {
    let hex = |bytes: &[u8]| bytes.iter().map(|b| format!("{b:02x}")).collect::<Vec<_>>().join(" ");
    assert!(got == expected, "{told:?}\n got {}\nwant {}", hex(got), hex(expected));
}
