//! The emitted program, run with the entries as they are read back from the emitted files, forwards what the reference
//! evaluator allows, byte for byte, and nothing else.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stdout,
    clippy::cast_possible_truncation,
    reason = "a test"
)]

#[path = "p4/bmv2.rs"]
mod bmv2_run;
#[path = "p4/classbench.rs"]
mod classbench;
mod common;
#[path = "p4/edges.rs"]
mod edges;
#[path = "p4/forms.rs"]
mod forms;
#[path = "p4/frame.rs"]
mod frame;
#[path = "p4/random.rs"]
mod random;

use common::{Project, examples, text};
use compiler::Compiled;
use compiler::algebra::{Family, parse_addr};
use compiler::buckets::{self, Direction};
use compiler::compiled::{Destination, Source};
use compiler::eval::{self, Decision, Resolution};
use compiler::ids::{EndpointId, NodeId, OwnerId};
use compiler::packet::{self, Fields, Flow, Packet};
use frame::{ACK, Ip, Outer, RST, SYN};
use partywall_backends::Backend as _;
use partywall_backends::linux::numbers::router_mac;
use partywall_backends::p4::run::{Outcome, Switch};
use partywall_backends::p4::{Model, P4, bmv2, read};
use std::collections::{BTreeMap, BTreeSet};

/// An address as one space sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Seen {
    address: u128,
    owner: OwnerId,
    endpoint: Option<EndpointId>,
}

/// Every address that means something in a space: all endpoints' and samples of what lies outside.
fn seen(c: &Compiled, space: OwnerId, family: Family) -> BTreeSet<Seen> {
    let mut out = BTreeSet::new();
    let mut expand = |lo: u128, hi: u128, owner: OwnerId, real: u128| {
        if !c.model.owners[owner].is_tenant() {
            for address in [lo, lo + (hi - lo) / 2, hi] {
                out.insert(Seen { address, owner, endpoint: None });
            }
            return;
        }
        for (id, endpoint) in c.model.endpoints.iter().filter(|(_, e)| e.tenant == owner) {
            for (f, at) in endpoint.addresses.iter().map(|a| parse_addr(*a)) {
                if f == family && real <= at && at - real <= hi - lo {
                    out.insert(Seen { address: at - real + lo, owner, endpoint: Some(id) });
                }
            }
        }
    };
    for r in c.spaces[space].destinations.family(family) {
        match r.target {
            Destination::Local { .. } => expand(r.lo, r.hi, space, r.lo),
            Destination::Import { owner, real, .. } => expand(r.lo, r.hi, owner, real),
            Destination::External { owner, .. } | Destination::Direct { owner, .. } => {
                expand(r.lo, r.hi, owner, r.lo)
            }
            Destination::ClientOnly | Destination::Nowhere => {}
        }
    }
    for r in c.spaces[space].sources.family(family) {
        match r.target {
            Source::Local { .. } | Source::Own => expand(r.lo, r.hi, space, r.lo),
            Source::Client { owner, real, .. } | Source::External { owner, real, .. } => {
                expand(r.lo, r.hi, owner, real)
            }
            Source::Direct { owner, .. } => expand(r.lo, r.hi, owner, r.lo),
        }
    }
    out
}

/// Services at and around every boundary that the project draws, as (protocol, x, y); and as answers would show them.
fn services(c: &Compiled, family: Family) -> Vec<(u8, u16, u16)> {
    let mut protocols: BTreeMap<u8, BTreeSet<u16>> = BTreeMap::new();
    for p in [1, 6, 17, 47, 50, 58, 132, 255] {
        protocols.entry(p).or_default();
    }
    let rules = c.model.rules.values().map(|r| &r.service);
    let exposures = c.model.exposures.values().map(|e| &e.service);
    for b in rules.chain(exposures).flat_map(|s| s.boxes.iter()) {
        for (p, values) in &mut protocols {
            if b.proto.0 <= *p && *p <= b.proto.1 {
                for (lo, hi) in [b.x, b.y] {
                    values.extend([Some(lo), hi.checked_add(1)].into_iter().flatten());
                }
            }
        }
    }
    let mut out = Vec::new();
    for (p, mut values) in protocols {
        if !packet::protocol_in_family(p, family) {
            continue;
        }
        let (x_max, y_max) = packet::field_max(p);
        values.extend([0, x_max]);
        match packet::fields(p) {
            Fields::None => out.push((p, 0, 0)),
            Fields::Icmp => {
                for x in [0, 3, 8, 9, 13, 14, 128, 129, 1, 255] {
                    out.extend([0, 1, 4, y_max].map(|y| (p, x, y)));
                }
            }
            Fields::Ports => {
                // Each boundary against an ephemeral port, both ways round, and against the next one.
                let list: Vec<u16> = values.iter().copied().collect();
                for (at, v) in list.iter().enumerate() {
                    out.extend([(p, 40_000, *v), (p, *v, 40_000), (p, *v, list[(at + 1) % list.len()])]);
                }
            }
        }
    }
    out
}

/// What is expected of a packet of a tenant, from the evaluator alone.
#[derive(Debug, Clone)]
struct Expected {
    /// The connection that it opens or answers, if it may.
    flow: Option<(Flow, Decision, Direction, Option<compiler::ids::ExposureId>)>,
    /// Why not.
    denied: Option<Decision>,
}

fn connection(c: &Compiled, p: &Packet) -> Option<(Flow, Decision, Option<compiler::ids::ExposureId>)> {
    let Ok(Resolution::Flow { flow, way }) = eval::resolve(c, p) else { return None };
    let decision = eval::decide(c, p).ok()?;
    decision.allow.then_some((flow, decision, way.exposure))
}

fn expected(c: &Compiled, p: &Packet, flags: u8) -> Expected {
    if let Some((flow, decision, exposure)) = connection(c, p) {
        return Expected { flow: Some((flow, decision, Direction::Request, exposure)), denied: None };
    }
    let denied = eval::decide(c, p).ok();
    let answer = p.protocol != 6 || flags & ACK != 0 || (flags & RST != 0 && flags & SYN == 0);
    let asked = |x: u16, y: u16| Packet { src: p.dst, dst: p.src, x, y, ..*p };
    let original = match packet::fields(p.protocol) {
        _ if !answer => None,
        Fields::Ports => Some(asked(p.y, p.x)),
        Fields::None => Some(asked(0, 0)),
        Fields::Icmp => {
            let query = match (p.protocol, p.x, p.y) {
                (1, 0, 0) => Some(8),
                (1, 14 | 16 | 18, 0) => Some(p.x - 1),
                (58, 129, 0) => Some(128),
                (58, 140, 0..=2) => Some(139),
                _ => None,
            };
            query.map(|x| asked(x, 0))
        }
    };
    let found = original.and_then(|o| connection(c, &o));
    let flow = found.map(|(flow, decision, exposure)| (flow, decision, Direction::Reply, exposure));
    Expected { flow, denied }
}

struct Bench<'a> {
    c: &'a Compiled,
    node: NodeId,
    model: &'a Model,
    switch: &'a Switch<'a>,
    forwarded: u64,
    refused: u64,
    /// The counter of reasons.
    drops: usize,
    /// Every frame that was put in, with what became of it.
    trial: Vec<Trial>,
    record: bool,
}

/// A frame by a port, and what it becomes.
type Trial = (u16, Vec<u8>, Outcome);

impl Bench<'_> {
    fn run(&mut self, port: u16, frame: &[u8]) -> Outcome {
        let outcome = self.switch.packet(port, frame);
        if self.record {
            self.trial.push((port, frame.to_vec(), outcome.clone()));
        }
        outcome
    }

    fn mac(&self, node: NodeId) -> [u8; 6] {
        router_mac(self.c.model.nodes[node].vtep)
    }

    fn sent_in_vxlan(&mut self, outcome: &Outcome, to: NodeId, vni: u32, ip: &Ip, what: &str) {
        let Some((port, bytes)) = &outcome.sent else { panic!("{what}: not sent, {outcome:?}") };
        assert_eq!(*port, 0, "{what}");
        let macs = (self.mac(to), self.mac(self.node));
        let mut outer = Outer {
            src: self.c.model.nodes[self.node].vtep,
            dst: self.c.model.nodes[to].vtep,
            macs,
            vni,
            port: self.model.port,
            source_port: 0,
        };
        let at = outer.source_port_at();
        outer.source_port = u16::from_be_bytes([bytes[at], bytes[at + 1]]);
        assert!(outer.source_port >= 0xc000, "{what}");
        assert_eq!(*bytes, outer.frame(&ip.frame(macs.0, macs.1)), "{what}: to {to:?}");
        self.forwarded += 1;
    }

    fn delivered(&mut self, outcome: &Outcome, to: EndpointId, ip: &Ip, what: &str) {
        let Some((port, bytes)) = &outcome.sent else { panic!("{what}: not delivered, {outcome:?}") };
        let endpoint = &self.c.model.endpoints[to];
        assert_eq!(Some(port), self.model.ports.get(&endpoint.dev), "{what}");
        assert_eq!(*bytes, ip.frame(endpoint.mac.unwrap(), self.mac(self.node)), "{what}");
        self.forwarded += 1;
    }

    fn dropped(&mut self, outcome: &Outcome, reason: Option<&str>, what: &str) {
        assert!(outcome.sent.is_none(), "{what}: sent, {outcome:?}");
        let index = outcome.counted.iter().find(|(counter, _)| *counter == self.drops).map(|(_, i)| *i);
        let names = [
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
        let name = index.and_then(|i| names.get(i as usize)).copied();
        assert!(name.is_some(), "{what}: dropped without a reason");
        if let Some(reason) = reason {
            assert_eq!(name, Some(reason), "{what}: {outcome:?}");
        }
        self.refused += 1;
    }

    /// A packet of a workload here.
    fn leaves(&mut self, space: OwnerId, s: &Seen, d: &Seen, p: &Packet, flags: u8) {
        let from = s.endpoint.unwrap();
        let endpoint = &self.c.model.endpoints[from];
        let ip = Ip {
            family: p.family,
            src: p.src,
            dst: p.dst,
            protocol: p.protocol,
            x: p.x,
            y: p.y,
            flags,
            ttl: 9,
        };
        let port = self.model.ports[&endpoint.dev];
        let bytes = ip.frame(self.mac(self.node), endpoint.mac.unwrap());
        let outcome = self.run(port, &bytes);
        let out = Ip { ttl: 8, ..ip };
        let what = format!("{} {p:?} flags {flags} out", self.c.model.owners[space].name);
        let expected = expected(self.c, p, flags);
        let Some((flow, decision, direction, _)) = expected.flow else {
            let reason = expected.denied.map(|d| d.reason.as_str());
            return self.dropped(
                &outcome,
                reason.filter(|_| d.endpoint.is_some() || d.owner != space),
                &what,
            );
        };
        let segment = |e: EndpointId| self.c.model.segments[self.c.model.endpoints[e].segment].vni;
        match (decision.via, d.endpoint) {
            (Some(gateway), _) => {
                let instance = buckets::passes(&self.c.model, gateway, &flow, direction, &[]).unwrap();
                self.sent_in_vxlan(&outcome, instance, segment(from), &out, &what);
            }
            (None, Some(to)) if self.c.model.endpoints[to].node == self.node => {
                self.delivered(&outcome, to, &out, &what);
            }
            (None, Some(to)) => {
                self.sent_in_vxlan(&outcome, self.c.model.endpoints[to].node, segment(to), &out, &what);
            }
            (None, None) => panic!("{what}: no way to an external without a gateway"),
        }
    }

    /// A packet to a workload here, from every node.
    fn arrives(&mut self, space: OwnerId, s: &Seen, d: &Seen, p: &Packet, flags: u8) {
        let to = d.endpoint.unwrap();
        let vni = self.c.model.segments[self.c.model.endpoints[to].segment].vni;
        let ip = Ip {
            family: p.family,
            src: p.src,
            dst: p.dst,
            protocol: p.protocol,
            x: p.x,
            y: p.y,
            flags,
            ttl: 9,
        };
        let expected = expected(self.c, p, flags);
        let (c, here) = (self.c, self.node);
        for (node, sender) in c.model.nodes.iter().filter(|(id, _)| *id != here) {
            let macs = (self.mac(self.node), self.mac(node));
            let outer = Outer {
                src: sender.vtep,
                dst: self.c.model.nodes[self.node].vtep,
                macs,
                vni,
                port: self.model.port,
                source_port: 50_000,
            };
            let outcome = self.run(0, &outer.frame(&ip.frame(macs.0, macs.1)));
            let what =
                format!("{} {p:?} flags {flags} from {}", self.c.model.owners[space].name, sender.name);
            let right = expected.flow.as_ref().is_some_and(|(_, decision, ..)| match decision.via {
                Some(gateway) => self.c.model.gateways[gateway].instances.contains(&node),
                None => s.endpoint.is_some_and(|e| self.c.model.endpoints[e].node == node),
            });
            if right {
                self.delivered(&outcome, to, &Ip { ttl: 8, ..ip.clone() }, &what);
            } else {
                self.dropped(&outcome, None, &what);
            }
        }
    }

    /// A packet that an instance here is sent by the node of its sender.
    fn passes(&mut self, space: OwnerId, s: &Seen, d: &Seen, p: &Packet, flags: u8) {
        let from = s.endpoint.unwrap();
        let ip = Ip {
            family: p.family,
            src: p.src,
            dst: p.dst,
            protocol: p.protocol,
            x: p.x,
            y: p.y,
            flags,
            ttl: 9,
        };
        let expected = expected(self.c, p, flags);
        let error = match p.protocol {
            1 => matches!(p.x, 3 | 4 | 5 | 11 | 12),
            58 => p.x < 128,
            _ => false,
        };
        let (c, here) = (self.c, self.node);
        for (node, sender) in c.model.nodes.iter().filter(|(id, _)| *id != here) {
            let macs = (self.mac(self.node), self.mac(node));
            let outer = Outer {
                src: sender.vtep,
                dst: self.c.model.nodes[self.node].vtep,
                macs,
                vni: self.c.model.segments[self.c.model.endpoints[from].segment].vni,
                port: self.model.port,
                source_port: 50_000,
            };
            let outcome = self.run(0, &outer.frame(&ip.frame(macs.0, macs.1)));
            let what =
                format!("{} {p:?} flags {flags} from {}", self.c.model.owners[space].name, sender.name);
            let mine = |g| self.c.model.gateways[g].instances.contains(&self.node);
            let home = self.c.model.endpoints[from].node == node;
            let flow =
                expected.flow.as_ref().filter(|(_, decision, ..)| decision.via.is_some_and(mine) && home);
            let Some((flow, _, direction, exposure)) = flow.filter(|_| !error) else {
                self.dropped(&outcome, None, &what);
                continue;
            };
            let to = d.endpoint.unwrap();
            let exposure = exposure.map(|id| &self.c.model.exposures[id]);
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
            let endpoint = &self.c.model.endpoints[to];
            let vni = self.c.model.segments[endpoint.segment].vni;
            self.sent_in_vxlan(&outcome, endpoint.node, vni, &Ip { src, dst, ttl: 8, ..ip.clone() }, &what);
        }
    }
}

/// Forwarded and refused packets of one node: its files are read back and run.
fn node(project: &Project, id: NodeId, model: &Model) -> (u64, u64) {
    let (forwarded, refused, _) = trial(project, id, model, false);
    (forwarded, refused)
}

fn trial(project: &Project, id: NodeId, model: &Model, record: bool) -> (u64, u64, Vec<Trial>) {
    let c = &project.compiled;
    let files: BTreeMap<String, String> =
        P4.print(model).into_iter().map(|f| (f.path, String::from_utf8(f.bytes).unwrap())).collect();
    let running =
        read(&files["p4/partywall.p4"], &files["p4/entries.txtpb"]).unwrap_or_else(|e| panic!("{e}"));
    // Both forms of the entries are the same entries.
    let other = bmv2(&running.program, &files["p4/bmv2.txt"]).unwrap_or_else(|e| panic!("{e}"));
    assert_eq!(running.entries, other);
    let switch = Switch::new(&running.program, &running.entries);
    let drops = running.program.counters.iter().position(|c| c.name == "drops").unwrap();
    let mut bench = Bench {
        c,
        node: id,
        model,
        switch: &switch,
        forwarded: 0,
        refused: 0,
        trial: Vec::new(),
        record,
        drops,
    };
    let here = |s: &Seen| s.endpoint.is_some_and(|e| c.model.endpoints[e].node == id);
    for space in c.model.owners.ids().filter(|o| c.model.owners[*o].is_tenant()) {
        for family in Family::BOTH {
            let all = seen(c, space, family);
            let services = services(c, family);
            for s in &all {
                for d in all.iter().filter(|d| d.address != s.address) {
                    for &(protocol, x, y) in &services {
                        let p = Packet { space, family, src: s.address, dst: d.address, protocol, x, y };
                        let flags: &[u8] = match protocol {
                            // What is neither an opening packet nor an answer needs fewer tries.
                            6 if x % 5 == 3 || y % 5 == 3 => &[SYN, ACK, RST, SYN | RST],
                            6 => &[SYN, ACK],
                            _ => &[0],
                        };
                        for &flags in flags {
                            if model.gateway {
                                if s.owner == space && s.endpoint.is_some() {
                                    bench.passes(space, s, d, &p, flags);
                                }
                                continue;
                            }
                            if here(s) && s.owner == space {
                                bench.leaves(space, s, d, &p, flags);
                            }
                            if here(d) && d.owner == space {
                                bench.arrives(space, s, d, &p, flags);
                            }
                        }
                    }
                }
            }
        }
    }
    (bench.forwarded, bench.refused, bench.trial)
}

fn lower(project: &Project, id: NodeId) -> Model {
    P4.lower(&project.compiled, &project.sources, id, &[]).unwrap_or_else(|e| panic!("{e:#?}"))
}

/// Nodes with endpoints of 02-datacenter; its fabric says here what a stateless target needs to hear.
fn datacenter() -> Project {
    let root = examples().join("02-datacenter");
    let mut files = common::files(&root);
    for (_, text) in &mut files {
        *text = text
            .replace("  unknown-vni drop log\n", "  unknown-vni drop log\n  stateless-replies \"a test\"\n");
    }
    common::project(&files)
}

#[test]
fn datacenter_forwards_as_the_evaluator_allows() {
    let project = datacenter();
    let mut total = (0, 0);
    for (id, n) in project.compiled.model.nodes.iter().filter(|(_, n)| !n.gateway) {
        let model = lower(&project, id);
        let (forwarded, refused) = node(&project, id, &model);
        println!(
            "{}: {} entries, {forwarded} forwarded, {refused} refused, {:?}",
            n.name,
            model.entries.by_key.len(),
            model.saved
        );
        total = (total.0 + forwarded, total.1 + refused);
    }
    assert!(total.0 > 5_000 && total.1 > 50_000, "{total:?}");
}

/// One node with endpoints and one stateless gateway node: inside a tenant, and between tenants with equal addresses.
const SLICE: &str = r#"
fabric f { encap vxlan port 4789 underlay mtu 9000 family ipv4 precedence tenant delegate tenant unknown-vni drop stateless-replies "a test" }
node c1 { vtep 192.0.2.11 dev eth0 }
node c2 { vtep 192.0.2.12 dev eth0 }
node g1 { vtep 192.0.2.21 dev eth0 gateway }
node g2 { vtep 192.0.2.22 dev eth0 gateway }
node g3 { vtep 192.0.2.23 dev eth0 gateway }
node g4 { vtep 192.0.2.24 dev eth0 gateway }
external net { 0.0.0.0/0, ::/0 }
tenant a id 7 {
  segment s vni 10 { 10.0.0.0/24, fd00:a::/64 }
  segment t vni 11 { 10.0.1.0/24 }
  route 0.0.0.0/0 via e
  route ::/0 via e
}
tenant b id 8 {
  segment s vni 20 { 10.0.0.0/24, fd00:b::/64 }
  expose s : tcp/80..90 | udp/53 | icmp/echo-request | icmp6/echo-request to a via g as 100.64.0.0/24, fd00:64::/64 clients as 100.65.0.0/23, fd00:65::/64
}
gateway g { joins a, b instances g1, g2 stateless }
gateway e {
  joins a, net
  instances g3, g4
  stateful
  attach net on g3 dev ext0 next-hop 203.0.113.1, 2001:db8::1
  attach net on g4 dev ext0 next-hop 203.0.113.1, 2001:db8::1
}
endpoint a5 in a.s { at 10.0.0.5, fd00:a::5 mac 02:00:00:00:00:05 on c1 dev tap0 }
endpoint a6 in a.s { at 10.0.0.6, fd00:a::6 mac 02:00:00:00:00:06 on c2 dev tap0 }
endpoint a7 in a.t { at 10.0.1.7 mac 02:00:00:00:00:07 on c1 dev tap1 }
endpoint b5 in b.s { at 10.0.0.5, fd00:b::5 mac 02:00:00:00:01:05 on c1 dev tap2 }
endpoint b6 in b.s { at 10.0.0.6, fd00:b::6 mac 02:00:00:00:01:06 on c2 dev tap3 }
policy pa for a in tenant { allow a -> net & (8.0.0.0/7 | 2001:db8::/32) : udp/53 | tcp/443  allow s -> t : tcp/443 | udp  deny s & 10.0.0.6 -> b : tcp/85  allow a -> b  steered: allow t -> s : sctp via g }
policy pb for b in tenant { deny a -> s & 10.0.0.6 : udp  allow s -> s : ip }
"#;

#[test]
fn the_slice_forwards_as_the_evaluator_allows() {
    let project = text(SLICE);
    // The instances of the stateful gateway are another target's.
    for (id, n) in
        project.compiled.model.nodes.iter().filter(|(_, n)| !["g3", "g4"].contains(&n.name.as_str()))
    {
        let model = lower(&project, id);
        let (forwarded, refused) = node(&project, id, &model);
        println!(
            "{}: {} entries, {forwarded} forwarded, {refused} refused",
            n.name,
            model.entries.by_key.len()
        );
        assert!(forwarded > 100 && refused > 100);
    }
}

#[test]
fn random_projects_forward_as_the_evaluator_allows() {
    let (mut projects, mut forwarded, mut refused) = (0, 0, 0);
    // More on demand: the whole campaign takes minutes.
    let seeds = std::env::var("PARTYWALL_P4_PROJECTS").ok().and_then(|n| n.parse().ok()).unwrap_or(24);
    for seed in 0..seeds {
        let source = ("main.pw".to_owned(), random::project(seed));
        let Ok(project) = common::attempt(&[source]) else { continue };
        projects += 1;
        for (id, _) in project.compiled.model.nodes.iter() {
            match P4.lower(&project.compiled, &project.sources, id, &[]) {
                Ok(model) => {
                    let (f, r) = node(&project, id, &model);
                    forwarded += f;
                    refused += r;
                }
                Err(found) => {
                    assert!(found.iter().all(|d| d.code.as_str() == "PW0801"), "seed {seed}: {found:#?}");
                }
            }
        }
    }
    println!("{projects} projects, {forwarded} forwarded, {refused} refused");
    assert!(projects * 2 >= seeds && forwarded > 2_000 && refused > 10_000);
}

/// The same packets through the real compiler and the real switch, where they are installed.
#[test]
fn a_real_switch_forwards_the_same() {
    if let Some(missing) = bmv2_run::missing() {
        println!("SKIPPED: {missing} is not on PATH, so no packet went through BMv2");
        eprintln!("SKIPPED: {missing} is not on PATH, so no packet went through BMv2");
        return;
    }
    let project = text(SLICE);
    for name in ["c1", "g1"] {
        let (id, _) = project.compiled.model.nodes.iter().find(|(_, n)| n.name == name).unwrap();
        let model = lower(&project, id);
        let (_, _, all) = trial(&project, id, &model, true);
        let mut refused = 0;
        let kept = all.into_iter().filter(|(_, _, outcome)| {
            refused += u32::from(outcome.sent.is_none());
            outcome.sent.is_some() || refused % 7 == 0
        });
        let kept: Vec<Trial> = kept.collect();
        let files: BTreeMap<String, String> =
            P4.print(&model).into_iter().map(|f| (f.path, String::from_utf8(f.bytes).unwrap())).collect();
        bmv2_run::compare(&files, &model, &kept);
    }
}
