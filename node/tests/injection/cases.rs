//! Packets at the boundaries of a project's spaces and services, and what is to become of each by `eval`.

use super::boundaries;
use super::frames::{self, Fields, Outer, Twist};
use super::generate::Rng;
use super::wire::{Place, Wires};
use backends::linux::numbers;
use compiler::Compiled;
use compiler::algebra::{Family, format_addr, parse_addr};
use compiler::buckets;
use compiler::compiled::{Destination, Source, SpaceRange};
use compiler::eval::{self, Decision, Reason};
use compiler::ids::{EndpointId, GatewayId, NodeId, OwnerId};
use compiler::packet::{self, End, Flow, Packet, proto};
use partywall_node::lab::Lab;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

/// What is to become of a packet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Expect {
    /// It comes out there and nowhere else, and its addresses mean these ends there.
    Arrive { at: Place, ends: (End, End) },
    /// A node drops it for this reason.
    Drop { node: NodeId, reason: &'static str },
    /// A node drops it, for whatever reason.
    Refused { node: NodeId },
    /// It comes out nowhere; the kernel may drop it before anybody counts.
    Silent,
}

#[derive(Debug, Clone)]
pub struct Case {
    /// What its frames bear.
    pub id: u32,
    pub what: String,
    pub from: Place,
    /// More than one: fragments.
    pub frames: Vec<Vec<u8>>,
    pub expect: Expect,
    pub packet: Packet,
    flow: Option<(Flow, bool)>,
}

/// What conntrack takes for the first packet of an ICMP exchange.
const QUERIES: [(u8, u16); 6] = [
    (proto::ICMP, 8),
    (proto::ICMP, 13),
    (proto::ICMP, 15),
    (proto::ICMP, 17),
    (proto::ICMP6, 128),
    (proto::ICMP6, 139),
];

pub struct Cases<'a> {
    pub c: &'a Compiled,
    pub lab: &'a Lab,
    pub wires: &'a Wires,
    pub rng: Rng,
    services: BTreeMap<Family, Vec<(u8, u16, u16)>>,
    endpoints: BTreeMap<(OwnerId, Family, u128), usize>,
    next: u32,
}

/// Addresses that no router forwards to: this network, loopback, multicast and reserved ones, link-local ones of IPv6.
fn forwarded(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(a) => !matches!(a.octets()[0], 0 | 127 | 224..),
        IpAddr::V6(a) => !matches!(a.octets()[0], 0 | 0xff) && a.octets()[..2] != [0xfe, 0x80],
    }
}

fn reason(reason: Reason) -> &'static str {
    reason.as_str()
}

impl<'a> Cases<'a> {
    pub fn new(c: &'a Compiled, lab: &'a Lab, wires: &'a Wires, seed: u64) -> Self {
        let mut endpoints = BTreeMap::new();
        for (n, place) in lab.topology.endpoints.iter().enumerate() {
            let tenant = c.model.endpoints[place.endpoint].tenant;
            for address in &place.addresses {
                let (family, value) = parse_addr(address.ip);
                endpoints.insert((tenant, family, value), n);
            }
        }
        let services = Family::BOTH.into_iter().map(|f| (f, services(c, f))).collect();
        Self { c, lab, wires, rng: Rng::new(seed), services, endpoints, next: 0 }
    }

    fn id(&mut self) -> u32 {
        self.next += 1;
        self.next
    }

    fn owner(&self, endpoint: usize) -> (EndpointId, OwnerId) {
        let id = self.lab.topology.endpoints[endpoint].endpoint;
        (id, self.c.model.endpoints[id].tenant)
    }

    fn node_of(&self, endpoint: usize) -> NodeId {
        self.lab.topology.endpoints[endpoint].node
    }

    fn node_at(&self, node: NodeId) -> usize {
        self.lab.topology.nodes.iter().position(|n| n.node == node).unwrap()
    }

    fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.rng.below(from.len())]
    }

    /// So many packets of every kind; of two that are each other's answers only one.
    pub fn make(&mut self, count: usize) -> Vec<Case> {
        let mut out: Vec<Case> = Vec::new();
        let mut tries = 0;
        while out.len() < count && tries < 20 * count {
            tries += 1;
            let case = match self.rng.below(100) {
                0..62 => self.workload(),
                62..70 => self.malformed(),
                70..74 => self.spoofed(),
                74..90 => self.tunnelled(),
                90..92 => self.unknown_vni(),
                92..94 => self.fragmented(),
                _ => self.outside(),
            };
            out.extend(case);
        }
        let flows: BTreeSet<Flow> =
            out.iter().filter_map(|c| c.flow).filter(|(_, allow)| *allow).map(|(flow, _)| flow).collect();
        let answers = |flow: &Flow| {
            let Flow { src, dst, family, protocol, x, y } = *flow;
            flows.contains(&Flow { src: dst, dst: src, family, protocol, x: y, y: x })
        };
        out.retain(|case| case.flow.as_ref().is_none_or(|(flow, _)| !answers(flow)));
        out
    }

    /// Addresses worth sending to in a space: the ends of every range and their neighbours, and every endpoint.
    fn destinations(&mut self, space: OwnerId, family: Family) -> u128 {
        let ranges = self.c.spaces[space].destinations.family(family);
        let mut live = Vec::new();
        let mut edges = vec![family.max() / 3];
        for r in ranges {
            edges.extend([
                r.lo,
                r.hi,
                r.lo.wrapping_sub(1) & family.max(),
                r.hi.wrapping_add(1) & family.max(),
            ]);
            let (owner, real) = match r.target {
                Destination::Local { .. } => (space, r.lo),
                Destination::Import { owner, real, .. } => (owner, real),
                Destination::External { .. } => {
                    live.push(r.lo + (r.hi - r.lo) / 2 + 1);
                    continue;
                }
                Destination::Direct { owner, .. } => (owner, r.lo),
                Destination::ClientOnly | Destination::Nowhere => continue,
            };
            for (_, _, at) in self.endpoints.keys().filter(|(o, f, _)| *o == owner && *f == family) {
                if real <= *at && at - real <= r.hi - r.lo {
                    live.push(at - real + r.lo);
                }
            }
        }
        edges.extend(
            self.c.model.nodes.values().map(|n| parse_addr(n.vtep)).filter(|v| v.0 == family).map(|v| v.1),
        );
        if !live.is_empty() && self.rng.chance(70) { self.pick(&live) } else { self.pick(&edges) }
    }

    fn packet(&mut self, space: OwnerId, family: Family, src: u128) -> Packet {
        let dst = self.destinations(space, family);
        let mut services = self.services[&family].clone();
        // Most ICMP opens nothing, and there are many kinds of it.
        if self.rng.chance(80) {
            services.retain(|(p, x, _)| {
                packet::fields(*p) != packet::Fields::Icmp || QUERIES.contains(&(*p, *x))
            });
        }
        let (protocol, mut x, y) = self.pick(&services);
        if packet::fields(protocol) == packet::Fields::Ports && self.rng.chance(50) {
            x = 1024 + u16::try_from(self.rng.below(60_000)).unwrap();
        }
        Packet { space, family, src, dst, protocol, x, y }
    }

    fn fields(p: &Packet) -> Fields {
        let address = |value| format_addr(p.family, value);
        Fields { src: address(p.src), dst: address(p.dst), protocol: p.protocol, x: p.x, y: p.y }
    }

    fn flow(p: &Packet, d: &Decision) -> Option<(Flow, bool)> {
        let Packet { family, protocol, x, y, .. } = *p;
        Some((Flow { src: d.from?, dst: d.to?, family, protocol, x, y }, d.allow))
    }

    /// Where an allowed packet is to come out, if anywhere in the lab.
    fn exit(&self, p: &Packet, d: &Decision) -> Option<Expect> {
        let (from, to) = (d.from?, d.to?);
        if self.c.model.owners[to.owner].is_tenant() {
            let at = *self.endpoints.get(&(to.owner, p.family, to.address))?;
            return Some(Expect::Arrive { at: Place::Endpoint(at), ends: (from, to) });
        }
        let (flow, _) = Self::flow(p, d)?;
        let instance = buckets::instance(&self.c.model, d.via?, &flow)?;
        let x = self.lab.topology.externals.iter().position(|x| x.owner == to.owner)?;
        let links = &self.lab.topology.externals[x].links;
        let l = links.iter().position(|l| l.node == instance)?;
        links[l].next_hops.iter().any(|h| parse_addr(*h).0 == p.family).then_some(())?;
        Some(Expect::Arrive { at: Place::Link(x, l), ends: (from, to) })
    }

    /// What becomes of a packet that a workload or a fabric delivers to be decided at this node.
    fn decided(&self, p: &Packet, node: NodeId) -> Option<Expect> {
        let d = eval::decide(self.c, p).ok()?;
        let drop = |reason| Some(Expect::Drop { node, reason });
        let dst = format_addr(p.family, p.dst);
        if self.c.model.nodes.values().any(|n| n.vtep == dst) {
            return drop("to-host");
        }
        // Some of these the kernel drops before anybody counts.
        if !forwarded(dst) && (d.allow || dst.is_ipv6()) {
            return Some(Expect::Silent);
        }
        if packet::fields(p.protocol) == packet::Fields::Icmp && !QUERIES.contains(&(p.protocol, p.x)) {
            // Errors belong to a connection; eBPF nodes decide other types one by one, nft nodes do not.
            let error = matches!((p.protocol, p.x), (1, 3 | 4 | 5 | 11 | 12) | (58, 1..=4 | 133..=137));
            match std::env::var("PARTYWALL_TARGET").as_deref() {
                Ok("ebpf") if !error => {}
                Ok("mixed" | "mixed-otherwise") if !error => return None,
                _ => return drop("invalid"),
            }
        }
        // A node knows the addresses of endpoints only.
        let unknown = d.to.is_some_and(|to| {
            self.c.model.owners[to.owner].is_tenant()
                && !self.endpoints.contains_key(&(to.owner, p.family, to.address))
        });
        if unknown && d.reason != Reason::UnknownSource {
            return drop("no-route");
        }
        if !d.allow {
            return drop(reason(d.reason));
        }
        // Of those behind one address only one can speak to a host without ports, on eBPF nodes from one port of SCTP: whoever was
        // first.
        let alone =
            packet::fields(p.protocol) == packet::Fields::None || (ebpf() && p.protocol == proto::SCTP);
        if alone && self.masked(&d) {
            return None;
        }
        Some(self.exit(p, &d).unwrap_or(Expect::Silent))
    }

    fn masked(&self, d: &Decision) -> bool {
        let (Some(from), Some(to)) = (d.from, d.to) else { return false };
        let mut clauses = self.c.model.gateways.values().flat_map(|g| &g.masquerades);
        clauses.any(|m| m.tenant == from.owner && m.external == to.owner)
    }

    fn router(&self, node: NodeId) -> [u8; 6] {
        numbers::router_mac(self.c.model.nodes[node].vtep)
    }

    /// A packet of an endpoint under its own address.
    fn sender(&mut self) -> (usize, NodeId, Packet) {
        let at = self.rng.below(self.lab.topology.endpoints.len());
        let place = &self.lab.topology.endpoints[at];
        let n = self.rng.below(place.addresses.len());
        let (family, src) = parse_addr(self.lab.topology.endpoints[at].addresses[n].ip);
        let (_, tenant) = self.owner(at);
        (at, self.node_of(at), self.packet(tenant, family, src))
    }

    fn case(&self, what: &str, from: Place, frame: Vec<u8>, expect: Expect, p: &Packet, flow: bool) -> Case {
        let flow = flow.then(|| eval::decide(self.c, p).ok().and_then(|d| Self::flow(p, &d))).flatten();
        Case { id: self.next, what: what.to_owned(), from, frames: vec![frame], expect, packet: *p, flow }
    }

    fn by_endpoint(&mut self, at: usize, f: &Fields, twist: Twist) -> Vec<u8> {
        let id = self.id();
        let place = Place::Endpoint(at);
        frames::frame(self.wires.mac(place), self.router(self.node_of(at)), f, id, twist)
    }

    fn itself(&self, at: usize, expect: &Expect) -> bool {
        matches!(expect, Expect::Arrive { at: to, .. } if *to == Place::Endpoint(at))
    }

    fn workload(&mut self) -> Option<Case> {
        let (at, node, p) = self.sender();
        let dhcp = p.protocol == proto::UDP && [(67, 68), (547, 546)].contains(&(p.x, p.y));
        let expect = self.decided(&p, node).filter(|e| !dhcp && !self.itself(at, e))?;
        let frame = self.by_endpoint(at, &Self::fields(&p), Twist::None);
        Some(self.case("plain", Place::Endpoint(at), frame, expect, &p, true))
    }

    /// A packet of an endpoint that is allowed, if a few tries give one.
    fn allowed(&mut self) -> Option<(usize, NodeId, Packet, Expect)> {
        (0..12).find_map(|_| {
            let (at, node, p) = self.sender();
            let expect = self.decided(&p, node).filter(|e| !self.itself(at, e))?;
            matches!(expect, Expect::Arrive { .. }).then_some((at, node, p, expect))
        })
    }

    /// A packet that would be allowed, but for one thing.
    fn malformed(&mut self) -> Option<Case> {
        let (at, node, p, expect) = self.allowed()?;
        let invalid = Expect::Drop { node, reason: "invalid" };
        let (v4, tcp, udp) = (p.family == Family::V4, p.protocol == proto::TCP, p.protocol == proto::UDP);
        let kinds = [
            (Twist::Options, invalid.clone(), v4),
            (Twist::Truncated, Expect::Silent, true),
            (Twist::ShortTransport, invalid.clone(), tcp || udp),
            (Twist::Flags(0x03), invalid.clone(), tcp),
            (Twist::Flags(0x00), invalid.clone(), tcp),
            (Twist::Flags(0x29), invalid.clone(), tcp),
            (Twist::Flags(0x06), invalid.clone(), tcp),
            // What the capability table says of eBPF nodes: checksums are the receiver's, destination options are refused.
            (Twist::WrongChecksum, invalid.clone(), (tcp || udp) && !ebpf()),
            (Twist::UdpLength, invalid.clone(), udp),
            (Twist::Ttl(1), Expect::Silent, true),
            (Twist::Extension(60), expect.clone(), !v4 && !ebpf()),
            (Twist::Extension(44), expect, !v4),
            (self.routing(), invalid.clone(), !v4),
            // Elsewhere it is protocol 51.
            (Twist::Authentication(None), invalid.clone(), !v4 && !ebpf()),
            (Twist::Authentication(Some(self.pick(&[60, 0]))), invalid, !v4),
            (Twist::Vlan, Expect::Silent, true),
        ];
        let kinds: Vec<_> = kinds.into_iter().filter(|k| k.2).collect();
        let (twist, expect, _) = kinds[self.rng.below(kinds.len())].clone();
        let frame = self.by_endpoint(at, &Self::fields(&p), twist);
        Some(self.case(&format!("{twist:?}"), Place::Endpoint(at), frame, expect, &p, true))
    }

    /// A routing header of some type, used up or not, alone or behind another.
    fn routing(&mut self) -> Twist {
        let before = self.pick(&[None, None, Some(60), Some(0)]);
        Twist::Routing(self.pick(&[0, 2, 3, 4, 253]), self.pick(&[0, 1, 5]), before)
    }

    /// Somebody else's address or MAC.
    fn spoofed(&mut self) -> Option<Case> {
        let (at, node, p) = self.sender();
        let mut f = Self::fields(&p);
        let spoof = Expect::Drop { node, reason: "spoof" };
        let dhcp = p.protocol == proto::UDP && [(67, 68), (547, 546)].contains(&(p.x, p.y));
        let redirect = p.protocol == proto::ICMP && p.x == 5;
        let discovery = p.protocol == proto::ICMP6 && (133..=137).contains(&p.x);
        if dhcp || redirect || discovery || !forwarded(f.dst) {
            return None;
        }
        let id = self.id();
        let (mac, router) = (self.wires.mac(Place::Endpoint(at)), self.router(node));
        let (what, frame, expect) = match self.rng.below(4) {
            0 if self.c.model.endpoints[self.owner(at).0].mac.is_some() => {
                ("MAC", frames::frame([2, 9, 9, 9, 9, 9], router, &f, id, Twist::None), spoof)
            }
            1 if p.family == Family::V6 => {
                // Some kernels drop IPv4-mapped sources before anybody counts.
                f.src = format!("::ffff:10.1.0.{}", 1 + id % 200).parse().unwrap();
                ("mapped", frames::frame(mac, router, &f, id, Twist::None), Expect::Silent)
            }
            _ => {
                let others: Vec<u128> = self
                    .endpoints
                    .iter()
                    .filter(|((_, family, _), n)| *family == p.family && **n != at)
                    .map(|((_, _, address), _)| *address)
                    .chain([p.src ^ 1, p.dst, p.src ^ (1 << 20)])
                    .collect();
                let own = &self.lab.topology.endpoints[at].addresses;
                let own: Vec<u128> = own.iter().map(|a| parse_addr(a.ip).1).collect();
                let src = self.pick(&others);
                if own.contains(&src) || !forwarded(format_addr(p.family, src)) {
                    return None;
                }
                f.src = format_addr(p.family, src);
                ("address", frames::frame(mac, router, &f, id, Twist::None), spoof)
            }
        };
        Some(self.case(&format!("spoofed {what}"), Place::Endpoint(at), frame, expect, &p, false))
    }

    fn fragmented(&mut self) -> Option<Case> {
        let (at, node, p, expect) = self.allowed()?;
        if p.family != Family::V4 || p.protocol != proto::UDP {
            return None;
        }
        // 128 bytes of transport: 16 units.
        type Cuts = &'static [(u16, u16)];
        let kinds: [(&str, Cuts, Expect); 5] = [
            ("whole fragments", &[(0, 8), (8, 8)], expect),
            ("first fragment", &[(0, 8)], Expect::Silent),
            ("later fragment", &[(8, 8)], Expect::Silent),
            ("overlapping fragments", &[(0, 8), (4, 8), (8, 8)], Expect::Silent),
            ("tiny first fragment", &[(0, 1)], Expect::Silent),
        ];
        // eBPF nodes do not wait for what follows: they let first fragments go, and refuse what overlaps.
        let several = if ebpf() { 1 } else { kinds.len() };
        let (what, cuts, expect) = kinds[self.rng.below(several)].clone();
        let id = self.id();
        let mac = self.wires.mac(Place::Endpoint(at));
        let frames = frames::fragments(mac, self.router(node), &Self::fields(&p), id, cuts);
        Some(Case { frames, ..self.case(what, Place::Endpoint(at), Vec::new(), expect, &p, true) })
    }

    fn encapsulated(
        &mut self,
        from: NodeId,
        to: NodeId,
        vni: u32,
        f: &Fields,
        twist: Twist,
    ) -> (Place, Vec<u8>) {
        let id = self.id();
        let nodes = &self.c.model.nodes;
        let (sender, receiver) = (self.node_at(from), self.node_at(to));
        let inner = frames::frame(self.router(from), self.router(to), f, id, twist);
        let outer = Outer {
            from: self.lab.topology.nodes[sender].mac,
            to: self.lab.topology.nodes[receiver].mac,
            src: nodes[from].vtep,
            dst: nodes[to].vtep,
            port: self.c.model.fabric.port,
            vni,
            flags: 0x08,
        };
        (Place::Underlay(sender), frames::vxlan(&outer, &inner))
    }

    fn any_node(&mut self) -> NodeId {
        let nodes: Vec<NodeId> = self.c.model.nodes.iter().map(|(id, _)| id).collect();
        self.pick(&nodes)
    }

    fn unknown_vni(&mut self) -> Option<Case> {
        let (_, _, p) = self.sender();
        let (from, to) = (self.any_node(), self.any_node());
        let hosted: BTreeSet<u32> = self
            .c
            .model
            .endpoints
            .values()
            .filter(|e| e.node == to)
            .map(|e| self.c.model.segments[e.segment].vni)
            .collect();
        let all: Vec<u32> = self.c.model.segments.values().map(|s| s.vni).collect();
        let vni = if self.rng.chance(50) {
            u32::try_from(1 + self.rng.below((1 << 24) - 1)).unwrap()
        } else {
            self.pick(&all)
        };
        let gateway = self.c.model.nodes[to].gateway;
        if from == to || vni == 0 || (gateway && all.contains(&vni)) || hosted.contains(&vni) {
            return None;
        }
        let (place, frame) = self.encapsulated(from, to, vni, &Self::fields(&p), Twist::None);
        Some(self.case(
            "unknown VNI",
            place,
            frame,
            Expect::Drop { node: to, reason: "unknown-vni" },
            &p,
            false,
        ))
    }

    /// From one node to another, with a source as the receiver's tenant sees it.
    fn tunnelled(&mut self) -> Option<Case> {
        let from = self.any_node();
        if self.rng.chance(30) {
            return self.sent_to_gateway(from);
        }
        // To an endpoint: what its tenant's space knows as sources.
        let at = self.rng.below(self.lab.topology.endpoints.len());
        let (id, tenant) = self.owner(at);
        let to = self.node_of(at);
        let n = self.rng.below(self.lab.topology.endpoints[at].addresses.len());
        let (family, dst) = parse_addr(self.lab.topology.endpoints[at].addresses[n].ip);
        let sources = self.sources(tenant, family);
        if from == to || sources.is_empty() {
            return None;
        }
        let (src, home, gateway) = self.pick(&sources);
        let mut p = self.packet(tenant, family, src);
        p.dst = dst;
        if packet::fields(p.protocol) == packet::Fields::Icmp && !QUERIES.contains(&(p.protocol, p.x)) {
            return None;
        }
        let d = eval::decide(self.c, &p).ok()?;
        let instance = |g: GatewayId| self.c.model.gateways[g].instances.contains(&from);
        let right = match (d.allow, d.via) {
            (true, Some(gateway)) => instance(gateway),
            (true, None) => home == Some(from),
            (false, _) => false,
        };
        let vni = self.c.model.segments[self.c.model.endpoints[id].segment].vni;
        // Whoever may show this source at all is known; what it may not do with it is refused by the decision.
        let steered = self.c.model.nodes[from].gateway && gateway.is_none();
        let known = gateway.map_or(home == Some(from), instance);
        let expect = if right {
            self.exit(&p, &d).unwrap_or(Expect::Silent)
        } else if !steered && (d.allow || !known) {
            Expect::Drop { node: to, reason: "bad-vtep" }
        } else {
            Expect::Refused { node: to }
        };
        Some(self.between("tunnelled", (from, to), vni, &p, expect))
    }

    /// What one node sends to another; of what would arrive some is not as it should be.
    fn between(
        &mut self,
        what: &str,
        (from, to): (NodeId, NodeId),
        vni: u32,
        p: &Packet,
        expect: Expect,
    ) -> Case {
        let arrives = matches!(expect, Expect::Arrive { .. });
        if p.family == Family::V6 && arrives && self.rng.chance(30) {
            let twist = self.routing();
            let (place, frame) = self.encapsulated(from, to, vni, &Self::fields(p), twist);
            let expect = Expect::Drop { node: to, reason: "invalid" };
            return self.case(&format!("{what}, {twist:?}"), place, frame, expect, p, true);
        }
        let (place, frame) = self.encapsulated(from, to, vni, &Self::fields(p), Twist::None);
        self.case(what, place, frame, expect, p, true)
    }

    /// Sources of a space that are endpoints, or an external's: address as seen, node, gateway.
    fn sources(&self, space: OwnerId, family: Family) -> Vec<(u128, Option<NodeId>, Option<GatewayId>)> {
        let mut out = Vec::new();
        for r in self.c.spaces[space].sources.family(family) {
            let (owner, real, gateway) = match r.target {
                Source::Local { .. } | Source::Own => (space, r.lo, None),
                Source::Direct { owner, .. } => (owner, r.lo, None),
                Source::Client { owner, gateway, .. } if !self.c.model.owners[owner].is_tenant() => {
                    out.push((r.lo + (r.hi - r.lo) / 2, None, Some(gateway)));
                    continue;
                }
                Source::Client { owner, real, gateway, .. } => (owner, real, Some(gateway)),
                Source::External { gateway, .. } => {
                    let at = r.lo + (r.hi - r.lo) / 2;
                    if forwarded(format_addr(family, at)) {
                        out.push((at, None, Some(gateway)));
                    }
                    continue;
                }
            };
            for ((o, f, at), n) in &self.endpoints {
                if *o == owner && *f == family && real <= *at && at - real <= r.hi - r.lo {
                    out.push((at - real + r.lo, Some(self.node_of(*n)), gateway));
                }
            }
        }
        out
    }

    fn sent_to_gateway(&mut self, from: NodeId) -> Option<Case> {
        let (at, home, p) = self.sender();
        let gateways: Vec<NodeId> =
            self.c.model.nodes.iter().filter(|(_, n)| n.gateway).map(|(id, _)| id).collect();
        if gateways.is_empty() {
            return None;
        }
        let to = self.pick(&gateways);
        let (id, tenant) = self.owner(at);
        let joined =
            self.c.model.gateways.values().any(|g| g.joins.contains(&tenant) && g.instances.contains(&to));
        let icmp = packet::fields(p.protocol) == packet::Fields::Icmp;
        let underlay = self.c.model.nodes.values().any(|n| parse_addr(n.vtep) == (p.family, p.dst));
        if from == to || !joined || underlay || icmp && !QUERIES.contains(&(p.protocol, p.x)) {
            return None;
        }
        let expect = if from == home {
            let d = eval::decide(self.c, &p).ok()?;
            let mine = d.via.is_some_and(|g| self.c.model.gateways[g].instances.contains(&to));
            if d.allow && mine {
                // Where it leaves the fabric is where it entered: the instance is not chosen again.
                match self.exit(&p, &d) {
                    Some(Expect::Arrive { at: Place::Endpoint(at), ends }) => {
                        Expect::Arrive { at: Place::Endpoint(at), ends }
                    }
                    _ => return None,
                }
            } else {
                Expect::Refused { node: to }
            }
        } else {
            Expect::Refused { node: to }
        };
        let vni = self.c.model.segments[self.c.model.endpoints[id].segment].vni;
        Some(self.between("to a gateway", (from, to), vni, &p, expect))
    }

    /// Addresses of an external that tenants know as their clients'.
    fn shown(&self, external: OwnerId, family: Family) -> Vec<(u128, u128)> {
        let spaces = self.c.model.owners.ids().flat_map(|space| self.c.spaces[space].sources.family(family));
        let client = |r: &SpaceRange<Source>| match r.target {
            Source::Client { owner, real, .. } if owner == external => Some((real, real + (r.hi - r.lo))),
            _ => None,
        };
        spaces.filter_map(client).collect()
    }

    /// From an external, by whichever cable.
    fn outside(&mut self) -> Option<Case> {
        let externals = &self.lab.topology.externals;
        let x = self.rng.below(externals.len());
        let place = externals.get(x)?;
        let (l, owner) = (self.rng.below(place.links.len()), place.owner);
        let (node, mac) = (place.links[l].node, place.links[l].mac);
        let family = if self.rng.chance(70) { Family::V4 } else { Family::V6 };
        let universe = &self.c.model.owners[owner].universe;
        let ranges = universe.family(family).ranges().to_vec();
        if ranges.is_empty() {
            return None;
        }
        // Those of its addresses that somebody sees under others are few among all.
        let shown = self.shown(owner, family);
        let (lo, hi) =
            if !shown.is_empty() && self.rng.chance(50) { self.pick(&shown) } else { self.pick(&ranges) };
        // Or, now and then, somebody else's address.
        let src =
            if self.rng.chance(85) { lo + (hi - lo) / 3 + 7 } else { hi.wrapping_add(5) & family.max() };
        let p = self.packet(owner, family, src);
        let f = Self::fields(&p);
        let icmp = packet::fields(p.protocol) == packet::Fields::Icmp;
        let underlay = |a: IpAddr| self.c.model.nodes.values().any(|n| n.vtep == a);
        if !forwarded(f.src) || !forwarded(f.dst) || underlay(f.src) || underlay(f.dst) {
            return None;
        }
        if icmp && !QUERIES.contains(&(p.protocol, p.x)) {
            return None;
        }
        let d = eval::decide(self.c, &p).ok()?;
        let mine = d.via.is_some_and(|g| self.c.model.gateways[g].instances.contains(&node));
        let expect = match self.exit(&p, &d) {
            Some(arrive) if d.allow && mine => arrive,
            _ if d.reason == Reason::UnknownSource => Expect::Drop { node, reason: "unknown-source" },
            _ => Expect::Refused { node },
        };
        let id = self.id();
        let frame = frames::frame(self.wires.mac(Place::Link(x, l)), mac, &f, id, Twist::None);
        Some(self.case("from outside", Place::Link(x, l), frame, expect, &p, true))
    }
}

/// Services at and around every boundary that the project draws.
fn services(c: &Compiled, family: Family) -> Vec<(u8, u16, u16)> {
    let mut all = boundaries::boundaries(c, &[1, 6, 17, 47, 50, 58, 132, 253], true);
    // Hop-by-hop, routing, fragment and authentication headers, no next header, destination options: no protocols.
    for header in [0, 43, 44, 51, 59, 60, 135, 139, 140] {
        all.remove(&header);
    }
    for (protocol, query) in [(1, 8), (58, 128)] {
        all.entry(protocol).or_default().0.insert(query);
    }
    boundaries::services(all, family, |_, _| true)
}

/// Whether some nodes run the eBPF target.
fn ebpf() -> bool {
    std::env::var("PARTYWALL_TARGET").is_ok_and(|target| target != "nft")
}
