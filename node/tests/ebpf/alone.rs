//! Gateways that keep no state, and nodes whose packets pass them: each packet by what it shows, whatever came before.

use super::{Came, Exit, Oracle};
use crate::frames::{Fields, Twist, fragments, frame, mend4};
use crate::machine::Machine;
use crate::reference::{FORMS, Instance, packets};
use crate::said::{INVALID, REDIRECT, SENT_NEXT_HOP, SHOT, UNSPEC};
use crate::support::{self, Project};
use crate::{ANY_MAC, able, random};
use compiler::algebra::Family;
use compiler::buckets::{self, Direction};
use compiler::eval::{self, Resolution};
use compiler::ids::{EndpointId, NodeId};
use compiler::packet::{Packet, proto};
use libbpf_rs::MapCore as _;
use partywall_node::ebpf::Ran;

/// TCP flags and whether a segment with them may answer. SYN, FIN with ACK, SYN with ACK and PSH, RST; only conntrack would know better.
const SEGMENTS: [(u8, bool); 5] = [(0x02, false), (0x11, true), (0x1a, true), (0x04, true), (0x10, true)];

/// Packets that passed, of those the ones that only answer, and those that were refused.
#[derive(Debug, Default, Clone, Copy)]
struct Tally {
    passed: u64,
    answers: u64,
    refused: u64,
    /// Packets of workloads that a gateway has to see.
    picked: u64,
}

fn twists(p: &Packet) -> Vec<(Twist, bool)> {
    if p.protocol == proto::TCP {
        SEGMENTS.into_iter().map(|(flags, answers)| (Twist::Segment(flags, 1, 1), answers)).collect()
    } else {
        vec![(Twist::None, true)]
    }
}

/// A frame as it is behind a router.
fn hopped(mut frame: Vec<u8>, family: Family) -> Vec<u8> {
    if family == Family::V4 {
        frame[22] -= 1;
        mend4(&mut frame[14..34]);
    } else {
        frame[21] -= 1;
    }
    frame
}

impl Oracle<'_> {
    /// How a packet comes to a gateway from whoever has its source.
    fn doors(&self, p: &Packet) -> Vec<Came> {
        let c = self.c;
        if !c.model.owners[p.space].is_tenant() {
            return if self.attached(p.space).is_empty() { Vec::new() } else { vec![Came::Outside] };
        }
        let mine = c.model.endpoints.iter().filter(|(_, e)| {
            let mut addresses = e.addresses.iter().map(|a| compiler::algebra::parse_addr(*a));
            e.tenant == p.space && addresses.any(|at| at == (p.family, p.src))
        });
        mine.map(|(id, e)| Came::Fabric(e.node, self.vni(id), ANY_MAC)).collect()
    }

    fn enter(&mut self, came: Came, p: &Packet, built: &[u8]) -> Ran {
        self.ran += 1;
        match came {
            Came::Fabric(node, vni, _) => self.m.fabric(self.c.model.nodes[node].vtep, vni, built),
            _ => self.m.outside(&self.attached(p.space)[0], built),
        }
    }

    /// One packet at a gateway.
    fn alone(&mut self, p: &Packet, tally: &mut Tally) {
        let at = Instance { c: self.c, node: self.node };
        let decision = eval::decide(self.c, p).ok();
        // What a stateful gateway of this node takes is another matter.
        let stateful = |g| self.c.model.gateways[g].stateful;
        if decision.is_some_and(|d| d.via.is_some_and(stateful)) {
            return;
        }
        let id = u32::try_from(self.ran & 0x00ff_ffff).unwrap();
        for came in self.doors(p) {
            for (twist, answers) in twists(p) {
                let fields = super::fields(p.family, p.src, p.dst, p);
                let ran = self.enter(came, p, &frame(ANY_MAC, self.m.mac, &fields, id, twist));
                let told = (self.name, &self.c.model.nodes[self.node].name, p, twist, came);
                // Errors all (RFC 4443, 2.1), of whatever connection.
                let error = p.protocol == proto::ICMP6 && p.x < 128;
                let lives = super::routable(p) && !error;
                let Some(passed) = at.expected(p, answers).filter(|_| lives) else {
                    let left = matches!(came, Came::Outside) && ran.action == UNSPEC;
                    assert!(ran.action == SHOT || left, "{told:?} {:?}", ran.cb);
                    tally.refused += 1;
                    continue;
                };
                let exit = self.behind(passed.to, p.family, passed.src, passed.dst);
                assert_eq!((ran.action, ran.cb[0]), (REDIRECT, exit.outcome), "{told:?}");
                assert_eq!((ran.cb[1], ran.cb[2]), (exit.device, exit.vni), "{told:?}");
                assert!(exit.to.is_none_or(|to| ran.cb[4] == to), "{told:?}");
                let (from, to) = match exit.outcome {
                    // The kernel writes the addresses later.
                    SENT_NEXT_HOP => {
                        (ran.frame[6..12].try_into().unwrap(), ran.frame[..6].try_into().unwrap())
                    }
                    _ => (exit.from_mac, exit.to_mac),
                };
                let fields = super::fields(p.family, passed.src, passed.dst, p);
                super::same(&ran.frame, &hopped(frame(from, to, &fields, id, twist), p.family), &told);
                tally.passed += 1;
                tally.answers += u64::from(at.opens(p).is_none());
                self.others_business(came, p, id);
                if p.protocol == proto::UDP {
                    self.last_hop(came, p, id);
                    self.in_parts(came, p, exit.outcome);
                }
            }
        }
        assert_eq!(self.m.map("connections").keys().count(), 0, "{p:?} is remembered");
        self.m.forget();
    }

    /// Between ends that may ping each other, ICMP about other packets or about a link's own matters.
    fn others_business(&mut self, came: Came, p: &Packet, id: u32) {
        let types: &[u16] = match p.protocol {
            proto::ICMP => &[4, 5, 9, 10, 31],
            proto::ICMP6 => &[100, 143, 149, 152],
            _ => &[],
        };
        for kind in types {
            let q = Packet { x: *kind, y: 0, ..*p };
            let fields = super::fields(p.family, p.src, p.dst, &q);
            let ran = self.enter(came, p, &frame(ANY_MAC, self.m.mac, &fields, id, Twist::None));
            self.refused(&ran, INVALID, &q);
        }
    }

    /// The same packet at the end of its time.
    fn last_hop(&mut self, came: Came, p: &Packet, id: u32) {
        let fields = super::fields(p.family, p.src, p.dst, p);
        let built = frame(ANY_MAC, self.m.mac, &fields, id, Twist::Ttl(1));
        let ran = self.enter(came, p, &built);
        self.expired(&ran, came, &built, p);
        self.m.forget();
    }

    /// The same packet in fragments: later ones go where the first one went, and nowhere without it.
    fn in_parts(&mut self, came: Came, p: &Packet, outcome: u32) {
        let fields = super::fields(p.family, p.src, p.dst, p);
        let parts = fragments(ANY_MAC, self.m.mac, &fields, 7, &[(0, 4), (4, 4), (8, 40)]);
        for part in &parts {
            let ran = self.enter(came, p, part);
            assert_eq!((ran.action, ran.cb[0]), (REDIRECT, outcome), "{p:?}");
        }
        self.m.forget();
        let late = self.enter(came, p, &parts[1]);
        assert_eq!(late.action, SHOT, "{p:?}");
        self.m.forget();
    }

    /// Where a gateway's packet for an end leaves.
    fn behind(&self, end: compiler::packet::End, family: Family, src: u128, dst: u128) -> Exit {
        if self.c.model.owners[end.owner].is_tenant() {
            let mut of = self.c.model.endpoints.iter().filter(|(_, e)| e.tenant == end.owner);
            let at = |a: &std::net::IpAddr| compiler::algebra::parse_addr(*a) == (family, end.address);
            let (endpoint, _) = of.find(|(_, e)| e.addresses.iter().any(at)).unwrap();
            return self.to_endpoint(endpoint, src, dst);
        }
        self.to_external(end.owner, src, dst)
    }

    /// A workload's packet, and its answer at the other end, each to the instance that its sender picks.
    fn picks(&mut self, p: &Packet, tally: &mut Tally) {
        let Ok(decision) = eval::decide(self.c, p) else { return };
        let (Some(via), Ok(Resolution::Flow { flow, .. })) = (decision.via, eval::resolve(self.c, p)) else {
            return;
        };
        if !decision.allow || self.c.model.gateways[via].stateful || !super::routable(p) {
            return;
        }
        let passes = |direction| buckets::passes(&self.c.model, via, &flow, direction, &[]).unwrap();
        let (there, back) = (passes(Direction::Request), passes(Direction::Reply));
        let id = u32::try_from(self.ran & 0x00ff_ffff).unwrap();
        let whose = |end: compiler::packet::End| -> Option<EndpointId> {
            let at = |a: &std::net::IpAddr| compiler::algebra::parse_addr(*a) == (p.family, end.address);
            let mut of = self.c.model.endpoints.iter().filter(|(_, e)| e.tenant == end.owner);
            of.find(|(_, e)| e.node == self.node && e.addresses.iter().any(at)).map(|(id, _)| id)
        };
        if let Some(source) = whose(flow.src).filter(|_| flow.src.owner == p.space) {
            let built = self.spoken(source, p, p.src, p.dst, id);
            let ran = self.m.workload(&self.c.model.endpoints[source].dev, &built);
            let exit = self.to_node(there, self.vni(source), p.src, p.dst);
            self.sent(&ran, (Came::Workload(source), &built), &exit, p, id);
            tally.picked += 1;
        }
        self.m.forget();
        if let Some(target) = whose(flow.dst) {
            // As it looks behind the gateway.
            let shown = Instance { c: self.c, node: there }.expected(p, false);
            let Some(shown) = shown.filter(|s| s.to == flow.dst) else { return };
            let fields = super::fields(p.family, shown.src, shown.dst, p);
            let built = frame(ANY_MAC, self.m.mac, &fields, id, Twist::None);
            let ran = self.m.fabric(self.c.model.nodes[there].vtep, self.vni(target), &built);
            assert_eq!(ran.action, REDIRECT, "{p:?}");
            let Some((_, q)) = self.answer(p, shown.src, shown.dst, id) else { return };
            let answer = self.spoken(target, &q, q.src, q.dst, id);
            let ran = self.m.workload(&self.c.model.endpoints[target].dev, &answer);
            let exit = self.to_node(back, self.vni(target), q.src, q.dst);
            self.sent(&ran, (Came::Workload(target), &answer), &exit, &q, id);
            tally.picked += 1;
        }
        self.m.forget();
        self.ran += 2;
    }

    fn spoken(&self, by: EndpointId, p: &Packet, src: u128, dst: u128, id: u32) -> Vec<u8> {
        let mac = self.c.model.endpoints[by].mac.unwrap_or(ANY_MAC);
        let fields: Fields = super::fields(p.family, src, dst, p);
        frame(mac, self.m.mac, &fields, id, Twist::None)
    }
}

fn compare(project: &Project, name: &str, tally: &mut Tally) {
    let mut machine = Machine::new();
    let packets = packets(&project.compiled);
    let nodes: Vec<NodeId> = project.compiled.model.nodes.ids().collect();
    for node in nodes {
        let mut oracle = Oracle::new(&mut machine, project, node, name);
        let gateway = project.compiled.model.nodes[node].gateway;
        for p in &packets {
            if gateway {
                oracle.alone(p, tally);
            } else if project.compiled.model.owners[p.space].is_tenant() {
                oracle.picks(p, tally);
            }
        }
    }
}

#[test]
fn every_form_of_a_gateway_without_state() {
    if !able() {
        return;
    }
    let mut tally = Tally::default();
    compare(&support::project(&[("forms.pw".to_owned(), FORMS.to_owned())]), "forms", &mut tally);
    println!("{tally:?}");
    assert!(tally.passed > 3_000 && tally.answers > 1_000 && tally.refused > 20_000 && tally.picked > 200);
}

#[test]
fn random_gateways_without_state() {
    if !able() {
        return;
    }
    let (count, first) = crate::extent("PARTYWALL_EBPF_STATELESS", (6, 0));
    let (mut tally, mut projects, mut seed) = (Tally::default(), 0, first);
    while projects < count {
        let source = random::project(seed);
        seed += 1;
        let Some(project) = crate::clean(&source) else { continue };
        compare(&project, &format!("seed {}", seed - 1), &mut tally);
        projects += 1;
    }
    println!("{projects} projects, {tally:?}");
    assert!(tally.passed > 20 * count && tally.refused > 100 * count, "{tally:?}");
}
