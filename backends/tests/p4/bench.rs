//! One node's switch, every packet of its tenants through it, and what the evaluator says of each.

use super::common::Project;
use super::expect::{expected, services};
use super::frame::{ACK, Ip, Outer, RST, SYN};
use super::seen::{Seen, seen};
use compiler::Compiled;
use compiler::algebra::Family;
use compiler::buckets::{self, Direction};
use compiler::ids::{EndpointId, NodeId, OwnerId};
use compiler::packet::Packet;
use partywall_backends::Backend as _;
use partywall_backends::linux::numbers::router_mac;
use partywall_backends::p4::run::{Outcome, Switch};
use partywall_backends::p4::{Model, P4, Running, bmv2, read};
use std::collections::BTreeMap;
use std::net::IpAddr;

/// Reasons by their numbers in the program.
pub const REASONS: [&str; 14] = [
    "none",
    "unknown-vni",
    "bad-vtep",
    "spoof",
    "unknown-source",
    "no-route",
    "not-exposed",
    "default",
    "rule",
    "invalid",
    "fragment",
    "ttl",
    "too-big",
    "to-host",
];

/// A frame by a port, and what becomes of it.
#[derive(Debug, Clone)]
pub struct Trial {
    pub port: u16,
    pub frame: Vec<u8>,
    /// As in [`Outcome`].
    pub sent: Option<(u16, Vec<u8>)>,
    /// As in [`Outcome`].
    pub counted: Vec<(usize, u128)>,
}

/// What a packet is, told only where it goes wrong.
type What<'a> = &'a dyn Fn() -> String;

pub struct Bench<'a> {
    c: &'a Compiled,
    node: NodeId,
    model: &'a Model,
    switch: Switch<'a>,
    pub forwarded: u64,
    pub refused: u64,
    /// The counter of reasons.
    drops: usize,
    /// Every frame that was put in, with what became of it, if that is wanted.
    pub trial: Option<Vec<Trial>>,
}

/// The files of a node, by path.
pub fn files(model: &Model) -> BTreeMap<String, String> {
    P4.print(model).into_iter().map(|f| (f.path, String::from_utf8(f.bytes).unwrap())).collect()
}

/// A node's files, read back; both forms of the entries are the same entries.
pub fn running(model: &Model) -> Running {
    let files = files(model);
    let running =
        read(&files["p4/partywall.p4"], &files["p4/entries.txtpb"]).unwrap_or_else(|e| panic!("{e}"));
    let other = bmv2(&running.program, &files["p4/bmv2.txt"]).unwrap_or_else(|e| panic!("{e}"));
    assert_eq!(running.entries, other);
    running
}

fn packet(p: &Packet, flags: u8) -> Ip {
    Ip { family: p.family, src: p.src, dst: p.dst, protocol: p.protocol, x: p.x, y: p.y, flags, ttl: 9 }
}

impl<'a> Bench<'a> {
    pub fn new(c: &'a Compiled, node: NodeId, model: &'a Model, running: &'a Running) -> Self {
        let drops = running.program.counters.iter().position(|c| c.name == "drops").unwrap();
        let switch = Switch::new(&running.program, &running.entries);
        Self { c, node, model, switch, forwarded: 0, refused: 0, drops, trial: None }
    }

    pub fn run(&mut self, port: u16, frame: Vec<u8>) -> Outcome {
        let outcome = self.switch.packet(port, &frame);
        if let Some(trial) = &mut self.trial {
            let Outcome { sent, counted, .. } = outcome.clone();
            trial.push(Trial { port, frame, sent, counted });
        }
        outcome
    }

    fn vtep(&self, node: NodeId) -> IpAddr {
        self.c.model.nodes[node].vtep
    }

    fn mac(&self, node: NodeId) -> [u8; 6] {
        router_mac(self.vtep(node))
    }

    fn vni(&self, endpoint: EndpointId) -> u32 {
        let model = &self.c.model;
        model.segments[model.endpoints[endpoint].segment].vni
    }

    fn home(&self, endpoint: EndpointId) -> NodeId {
        self.c.model.endpoints[endpoint].node
    }

    fn outer(&self, from: NodeId, to: NodeId, vni: u32, source_port: u16) -> Outer {
        let macs = (self.mac(to), self.mac(from));
        Outer { src: self.vtep(from), dst: self.vtep(to), macs, vni, port: self.model.port, source_port }
    }

    /// What another node sends here: a packet's bytes in a VNI.
    fn from(&mut self, sender: NodeId, vni: u32, family: Family, packet: &[u8]) -> Outcome {
        let outer = self.outer(sender, self.node, vni, 50_000);
        let inner = Ip::framed(family, outer.macs.0, outer.macs.1, packet);
        self.run(0, outer.frame(&inner))
    }

    fn others(&self) -> impl Iterator<Item = NodeId> + use<'a> {
        let here = self.node;
        self.c.model.nodes.ids().filter(move |id| *id != here)
    }

    fn sent_in_vxlan(&mut self, outcome: &Outcome, to: NodeId, vni: u32, ip: &Ip, what: What<'_>) {
        let Some((port, bytes)) = &outcome.sent else { panic!("{}: not sent, {outcome:?}", what()) };
        assert_eq!(*port, 0, "{}", what());
        let mut outer = self.outer(self.node, to, vni, 0);
        let at = outer.source_port_at();
        outer.source_port = u16::from_be_bytes([bytes[at], bytes[at + 1]]);
        assert!(outer.source_port >= 0xc000, "{}", what());
        let (dst, src) = outer.macs;
        assert_eq!(*bytes, outer.frame(&ip.frame(dst, src)), "{}: to {to:?}", what());
        self.forwarded += 1;
    }

    fn delivered(&mut self, outcome: &Outcome, to: EndpointId, ip: &Ip, what: What<'_>) {
        let Some((port, bytes)) = &outcome.sent else { panic!("{}: not delivered, {outcome:?}", what()) };
        let endpoint = &self.c.model.endpoints[to];
        assert_eq!(Some(port), self.model.ports.get(&endpoint.dev), "{}", what());
        assert_eq!(*bytes, ip.frame(endpoint.mac.unwrap(), self.mac(self.node)), "{}", what());
        self.forwarded += 1;
    }

    pub fn dropped(&mut self, outcome: &Outcome, reason: Option<&str>, what: What<'_>) {
        assert!(outcome.sent.is_none(), "{}: sent, {outcome:?}", what());
        let index = outcome.counted.iter().find(|(counter, _)| *counter == self.drops).map(|(_, i)| *i);
        let name = index.and_then(|i| REASONS.get(usize::try_from(i).unwrap())).copied();
        assert!(name.is_some(), "{}: dropped without a reason", what());
        if let Some(reason) = reason {
            assert_eq!(name, Some(reason), "{}: {outcome:?}", what());
        }
        self.refused += 1;
    }

    /// A packet of a workload here.
    fn leaves(&mut self, space: OwnerId, s: &Seen, d: &Seen, p: &Packet, flags: u8) {
        let from = s.endpoint.unwrap();
        let endpoint = &self.c.model.endpoints[from];
        let ip = packet(p, flags);
        let bytes = ip.frame(self.mac(self.node), endpoint.mac.unwrap());
        let outcome = self.run(self.model.ports[&endpoint.dev], bytes);
        let out = Ip { ttl: 8, ..ip };
        let what = || format!("{} {p:?} flags {flags} out", self.c.model.owners[space].name);
        let what: What<'_> = &what;
        let expected = expected(self.c, p, flags);
        let Some((flow, decision, direction, _)) = expected.flow else {
            let reason = expected.denied.map(|d| d.reason.as_str());
            return self.dropped(&outcome, reason.filter(|_| d.endpoint.is_some() || d.owner != space), what);
        };
        match (decision.via, d.endpoint) {
            (Some(gateway), _) => {
                let instance = buckets::passes(&self.c.model, gateway, &flow, direction, &[]).unwrap();
                self.sent_in_vxlan(&outcome, instance, self.vni(from), &out, what);
            }
            (None, Some(to)) if self.home(to) == self.node => self.delivered(&outcome, to, &out, what),
            (None, Some(to)) => self.sent_in_vxlan(&outcome, self.home(to), self.vni(to), &out, what),
            (None, None) => panic!("{}: no way to an external without a gateway", what()),
        }
    }

    /// A packet to a workload here, from every node.
    fn arrives(&mut self, space: OwnerId, s: &Seen, d: &Seen, p: &Packet, flags: u8) {
        let c = self.c;
        let to = d.endpoint.unwrap();
        let ip = packet(p, flags);
        let bytes = ip.bytes();
        let out = Ip { ttl: 8, ..ip };
        let expected = expected(c, p, flags);
        for sender in self.others() {
            let outcome = self.from(sender, self.vni(to), p.family, &bytes);
            let what = || {
                let (owner, node) = (&c.model.owners[space].name, &c.model.nodes[sender].name);
                format!("{owner} {p:?} flags {flags} from {node}")
            };
            let right = expected.flow.as_ref().is_some_and(|(_, decision, ..)| match decision.via {
                Some(gateway) => c.model.gateways[gateway].instances.contains(&sender),
                None => s.endpoint.is_some_and(|e| self.home(e) == sender),
            });
            if right {
                self.delivered(&outcome, to, &out, &what);
            } else {
                self.dropped(&outcome, None, &what);
            }
        }
    }

    /// A packet that an instance here is sent by the node of its sender.
    fn passes(&mut self, space: OwnerId, s: &Seen, d: &Seen, p: &Packet, flags: u8) {
        let c = self.c;
        let from = s.endpoint.unwrap();
        let ip = packet(p, flags);
        let bytes = ip.bytes();
        let expected = expected(c, p, flags);
        let error = match p.protocol {
            1 => matches!(p.x, 3 | 4 | 5 | 11 | 12),
            58 => p.x < 128,
            _ => false,
        };
        for sender in self.others() {
            let outcome = self.from(sender, self.vni(from), p.family, &bytes);
            let what = || {
                let (owner, node) = (&c.model.owners[space].name, &c.model.nodes[sender].name);
                format!("{owner} {p:?} flags {flags} from {node}")
            };
            let mine = |g| c.model.gateways[g].instances.contains(&self.node);
            let home = self.home(from) == sender;
            let flow =
                expected.flow.as_ref().filter(|(_, decision, ..)| decision.via.is_some_and(mine) && home);
            let Some((flow, _, direction, exposure)) = flow.filter(|_| !error) else {
                self.dropped(&outcome, None, &what);
                continue;
            };
            let to = d.endpoint.unwrap();
            let exposure = exposure.map(|id| &c.model.exposures[id]);
            let (src, dst) = match direction {
                Direction::Request => {
                    let shown = exposure.and_then(|e| e.show(flow.src.owner, p.family, flow.src.address));
                    (shown.unwrap_or(flow.src.address), flow.dst.address)
                }
                Direction::Reply => {
                    let presented = exposure.and_then(|e| e.present(p.family, flow.dst.address));
                    (presented.unwrap_or(flow.dst.address), flow.src.address)
                }
            };
            let out = Ip { src, dst, ttl: 8, ..ip.clone() };
            self.sent_in_vxlan(&outcome, self.home(to), self.vni(to), &out, &what);
        }
    }

    /// Every packet between addresses that mean something to a tenant, as far as this node meets it.
    pub fn everything(&mut self) {
        let c = self.c;
        for space in c.model.owners.ids().filter(|o| c.model.owners[*o].is_tenant()) {
            for family in Family::BOTH {
                let all = seen(c, space, family);
                let services = services(c, family);
                for s in &all {
                    for d in all.iter().filter(|d| d.address != s.address) {
                        for &(protocol, x, y) in &services {
                            let p = Packet { space, family, src: s.address, dst: d.address, protocol, x, y };
                            self.meet(space, s, d, &p);
                        }
                    }
                }
            }
        }
    }

    fn meet(&mut self, space: OwnerId, s: &Seen, d: &Seen, p: &Packet) {
        let flags: &[u8] = match p.protocol {
            // What is neither an opening packet nor an answer needs fewer tries.
            6 if p.x % 5 == 3 || p.y % 5 == 3 => &[SYN, ACK, RST, SYN | RST],
            6 => &[SYN, ACK],
            _ => &[0],
        };
        let here = |s: &Seen| s.owner == space && s.endpoint.is_some_and(|e| self.home(e) == self.node);
        let (from_here, to_here) = (here(s), here(d));
        for &flags in flags {
            if self.model.gateway {
                if s.owner == space && s.endpoint.is_some() {
                    self.passes(space, s, d, p, flags);
                }
                continue;
            }
            if from_here {
                self.leaves(space, s, d, p, flags);
            }
            if to_here {
                self.arrives(space, s, d, p, flags);
            }
        }
    }
}

/// How many packets a node forwards and refuses, all as the evaluator says: its files are read back and run.
pub fn node(project: &Project, id: NodeId, model: &Model) -> (u64, u64) {
    let running = running(model);
    let mut bench = Bench::new(&project.compiled, id, model, &running);
    bench.everything();
    (bench.forwarded, bench.refused)
}

/// The same, with all frames.
pub fn trial(project: &Project, id: NodeId, model: &Model) -> Vec<Trial> {
    let running = running(model);
    let mut bench = Bench::new(&project.compiled, id, model, &running);
    bench.trial = Some(Vec::new());
    bench.everything();
    bench.trial.unwrap_or_default()
}
