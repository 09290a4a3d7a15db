//! Gateways that keep no state: what the tables of an instance do with each packet is what the reference evaluator says of it as one that
//! opens a connection, and of what it would answer.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stdout,
    clippy::cast_possible_truncation,
    reason = "a test"
)]

#[expect(dead_code, reason = "each test uses a part")]
mod common;
#[path = "p4/random.rs"]
mod random;
#[path = "common/seen.rs"]
mod seen;

use common::{Project, attempt, text};
use compiler::Compiled;
use compiler::algebra::{Family, parse_addr};
use compiler::buckets::{self, Direction as Way};
use compiler::eval::{self, Decision, Resolution};
use compiler::ids::{NodeId, OwnerId};
use compiler::packet::{self, Fields, Packet, proto};
use lang::codes::Code;
use partywall_backends::Backend as _;
use partywall_backends::ebpf::Ebpf;
use partywall_backends::linux::model::Direction;
use partywall_backends::linux::walk::{Arrived, Outcome, leg, stateless, walk};
use partywall_backends::linux::{Model, numbers};
use partywall_backends::nft::Nft;
use seen::seen;
use std::collections::{BTreeMap, BTreeSet};

/// Every address that means something in a space: endpoints' and samples of what lies outside.
fn addresses(c: &Compiled, space: OwnerId, family: Family) -> BTreeSet<u128> {
    let mut out: BTreeSet<u128> = seen(c, space, family).into_iter().map(|s| s.address).collect();
    // An external's space knows nobody who opens connections to it.
    if !c.model.owners[space].is_tenant() {
        let all = c.model.endpoints.values().flat_map(|e| &e.addresses).map(|a| parse_addr(*a));
        out.extend(all.filter(|(f, _)| *f == family).map(|(_, at)| at));
    }
    out
}

/// Services at and around every boundary that the project draws, each field against an ephemeral one, both ways round.
fn services(c: &Compiled, family: Family) -> Vec<(u8, u16, u16)> {
    let mut cuts: BTreeMap<u8, BTreeSet<u16>> =
        [1, 6, 17, 47, 50, 58, 132, 255].map(|p| (p, BTreeSet::new())).into();
    let rules = c.model.rules.values().map(|r| &r.service);
    for b in rules.chain(c.model.exposures.values().map(|e| &e.service)).flat_map(|s| s.boxes.iter()) {
        for (_, values) in cuts.iter_mut().filter(|(p, _)| (b.proto.0..=b.proto.1).contains(p)) {
            for (lo, hi) in [b.x, b.y] {
                values.extend([Some(lo), hi.checked_add(1)].into_iter().flatten());
            }
        }
    }
    let mut out = Vec::new();
    for (p, values) in cuts.into_iter().filter(|(p, _)| packet::protocol_in_family(*p, family)) {
        match packet::fields(p) {
            Fields::None => out.push((p, 0, 0)),
            Fields::Icmp => {
                for x in [0, 8, 13, 14, 17, 18, 128, 129, 139, 140] {
                    out.extend([0, 1, 2, 3, 255].map(|y| (p, x, y)));
                }
            }
            Fields::Ports => {
                for v in values.into_iter().chain([0, u16::MAX]) {
                    out.extend([(p, 40_000, v), (p, v, 40_000), (p, v, v)]);
                }
            }
        }
    }
    out.sort_unstable();
    out.dedup();
    out
}

/// The packet that opens what this one would answer; `None`: nothing is answered so (RFC 792, 950, 4443, 4620).
fn asked(p: &Packet, space: OwnerId) -> Option<Packet> {
    let (x, y) = match packet::fields(p.protocol) {
        Fields::Ports => (p.y, p.x),
        Fields::None => (p.x, p.y),
        Fields::Icmp => match (p.family, p.x, p.y) {
            (Family::V4, 0, 0) => (8, 0),
            (Family::V4, 14 | 16 | 18, 0) => (p.x - 1, 0),
            (Family::V6, 129, 0) => (128, 0),
            (Family::V6, 140, 0..=2) => (139, 0),
            _ => return None,
        },
    };
    Some(Packet { space, src: p.dst, dst: p.src, x, y, ..*p })
}

struct Bench<'a> {
    c: &'a Compiled,
    node: NodeId,
    model: &'a Model,
    passed: u64,
    answers: u64,
    refused: u64,
}

impl Bench<'_> {
    fn mine(&self, decision: &Decision) -> bool {
        let here = |g| {
            let gateway = &self.c.model.gateways[g];
            !gateway.stateful && gateway.instances.contains(&self.node)
        };
        decision.allow && decision.via.is_some_and(here)
    }

    fn table(&self, owner: OwnerId) -> u32 {
        let o = &self.c.model.owners[owner];
        if o.is_tenant() { numbers::tenant_mark(o.id()) } else { numbers::external_mark(&o.name) }
    }

    /// Decision, real ends and exposure of a packet that opens a connection through a gateway here.
    fn opens(&self, p: &Packet) -> Option<(packet::Flow, Option<compiler::ids::ExposureId>)> {
        let decision = eval::decide(self.c, p).ok()?;
        match eval::resolve(self.c, p) {
            Ok(Resolution::Flow { flow, way }) if self.mine(&decision) => Some((flow, way.exposure)),
            _ => None,
        }
    }

    /// Whether something is there, where the owner is a tenant.
    fn declared(&self, end: packet::End, family: Family) -> bool {
        let mut there =
            self.c.model.endpoints.values().filter(|e| e.tenant == end.owner).flat_map(|e| &e.addresses);
        !self.c.model.owners[end.owner].is_tenant() || there.any(|a| parse_addr(*a) == (family, end.address))
    }

    /// What is to become of a packet: its table, and its addresses on the other side.
    fn expected(&self, p: &Packet, answers: bool) -> Option<(u32, u128, u128)> {
        let c = self.c;
        let tenants = || c.model.owners.ids().filter(|o| c.model.owners[*o].is_tenant());
        let views: Vec<OwnerId> =
            if c.model.owners[p.space].is_tenant() { vec![p.space] } else { tenants().collect() };
        for view in views.into_iter().filter(|_| answers) {
            let Some(opened) = asked(p, view).and_then(|asked| self.opens(&asked)) else { continue };
            let (flow, exposure) = opened;
            if flow.dst.owner != p.space || !self.declared(flow.src, p.family) {
                continue;
            }
            let src = exposure.map_or(flow.dst.address, |id| {
                c.model.exposures[id].present(p.family, flow.dst.address).unwrap()
            });
            return Some((self.table(flow.src.owner), src, flow.src.address));
        }
        let (flow, exposure) = self.opens(p)?;
        if flow.src.owner != p.space {
            return None;
        }
        let src = exposure.map_or(flow.src.address, |id| {
            c.model.exposures[id].show(flow.src.owner, p.family, flow.src.address).unwrap()
        });
        Some((self.table(flow.dst.owner), src, flow.dst.address))
    }

    /// Devices by which a sender's packets come in.
    fn doors(&self, p: &Packet) -> Vec<(String, u32)> {
        let c = self.c;
        if c.model.owners[p.space].is_tenant() {
            let mine = c.model.endpoints.values().filter(|e| {
                e.tenant == p.space && e.addresses.iter().any(|a| parse_addr(*a) == (p.family, p.src))
            });
            return mine
                .map(|e| (numbers::vxlan_name(c.model.segments[e.segment].vni), numbers::ROLE_NODE))
                .collect();
        }
        let attaches = c.model.gateways.values().flat_map(|g| &g.attaches);
        attaches
            .filter(|a| a.external == p.space && a.node == self.node)
            .map(|a| (a.dev.clone(), 0))
            .collect()
    }

    fn packet(&mut self, p: &Packet) {
        for (dev, role) in self.doors(p) {
            for answers in [true, false] {
                // Of TCP the flags say it, of all else everything may answer.
                if !answers && p.protocol != proto::TCP {
                    continue;
                }
                let Packet { family, src, dst, protocol, x, y, .. } = *p;
                let (zone, direction) = (0, Direction::Original);
                let arrived = Arrived { dev: &dev, role, zone, direction, family, src, dst, protocol, x, y };
                let outcome = stateless(&self.model.rules, &arrived, answers);
                match self.expected(p, answers) {
                    Some((table, src, dst)) => {
                        let Some(Outcome::Passed { mark, src: s, dst: d }) = outcome else {
                            panic!("{outcome:?}, answers: {answers}, instead of {table:#x}: {p:?}")
                        };
                        assert_eq!((mark & !numbers::ANSWERABLE, s, d), (table, src, dst), "{p:?}");
                        // What is translated cannot be quoted as it came.
                        assert!(mark & numbers::ANSWERABLE == 0 || (s, d) == (p.src, p.dst), "{p:?}");
                        self.passed += 1;
                        if self.opens(p).is_none() {
                            self.answers += 1;
                        }
                    }
                    None => {
                        assert!(matches!(outcome, None | Some(Outcome::Dropped(_))), "{outcome:?} {p:?}");
                        self.refused += 1;
                    }
                }
            }
        }
    }
}

/// Packets that passed, of those the ones that only answer, and those that were refused.
fn compare(p: &Project) -> (u64, u64, u64) {
    let c = &p.compiled;
    let mut total = (0, 0, 0);
    for (id, node) in c.model.nodes.iter().filter(|(_, n)| n.gateway) {
        let model = Nft.lower(c, &p.sources, id, &[]).unwrap_or_else(|e| panic!("{}: {e:?}", node.name));
        let mut bench = Bench { c, node: id, model: &model, passed: 0, answers: 0, refused: 0 };
        for space in c.model.owners.ids() {
            for family in Family::BOTH {
                let (addresses, services) = (addresses(c, space, family), services(c, family));
                for &src in &addresses {
                    for &dst in addresses.iter().filter(|dst| **dst != src) {
                        for &(protocol, x, y) in &services {
                            bench.packet(&Packet { space, family, src, dst, protocol, x, y });
                        }
                    }
                }
            }
        }
        total = (total.0 + bench.passed, total.1 + bench.answers, total.2 + bench.refused);
    }
    total
}

/// Two instances, one of them next to a stateful gateway; translated and plain exposures, externals, service insertion.
const FORMS: &str = r#"
fabric f { encap vxlan port 4789 underlay mtu 9000 family ipv4 precedence top > tenant > base delegate tenant unknown-vni drop
  stateless-replies "a test" }
node c1 { vtep 192.0.2.11 dev eth0 }
node c2 { vtep 192.0.2.12 dev eth0 }
node g1 { vtep 192.0.2.21 dev eth0 gateway }
node g2 { vtep 192.0.2.22 dev eth0 gateway }
external net { 203.0.113.0/24, 2001:db8::/64 }
service odd = tcp/{80, 443} from 1024..40000 | udp/53 from 53 | sctp/7 | proto/47
service ping = icmp/8/0 | icmp/13 | icmp6/128
tenant a id 254 {
  segment s vni 10 { 10.0.0.0/24, fd00:a::/64 }
  segment t vni 11 { 10.0.1.0/24 }
  route 203.0.113.0/24 via g
  route 2001:db8::/64 via g
}
tenant b id 65536 {
  segment s vni 20 { 10.0.0.0/24, fd00:b::/64 }
  expose 10.0.0.5 | fd00:b::5 : odd to a via g as 100.64.0.5, fd00:64::5 clients as 100.65.0.0/23, fd00:65::/64
  expose 10.0.0.6 : tcp/22 to a.s & 10.0.0.0/24 via h as 100.66.0.6 clients as 100.67.0.0/24
  expose 10.0.0.7 : ip to net via g as 192.168.9.7
}
tenant c id 3 { segment s vni 30 { 10.3.0.0/24 }  expose s : tcp/443 | ping to d via g }
tenant d id 4 { segment s vni 40 { 10.4.0.0/24 }  expose s : udp/53 to c via g }
gateway g {
  joins a, b, c, d, net instances g1, g2 stateless affinity source
  attach net on g1 dev ext0 next-hop 203.0.113.1, 2001:db8::1
  attach net on g2 dev ext0 next-hop 203.0.113.1, 2001:db8::1
}
gateway h { joins a, b instances g2 stateful }
endpoint a5 in a.s { at 10.0.0.5, fd00:a::5 mac 02:00:00:00:00:05 on c1 dev tap0 }
endpoint a6 in a.s { at 10.0.0.6, fd00:a::6 on c2 dev tap0 }
endpoint a7 in a.t { at 10.0.1.7 mac 02:00:00:00:00:07 on c2 dev tap1 }
endpoint b5 in b.s { at 10.0.0.5, fd00:b::5 mac 02:00:00:00:01:05 on c1 dev tap2 }
endpoint b6 in b.s { at 10.0.0.6 mac 02:00:00:00:01:06 on c1 dev tap3 }
endpoint b7 in b.s { at 10.0.0.7 mac 02:00:00:00:01:07 on c2 dev tap2 }
endpoint c5 in c.s { at 10.3.0.5 mac 02:00:00:00:02:05 on c1 dev tap4 }
endpoint d5 in d.s { at 10.4.0.5 mac 02:00:00:00:03:05 on c2 dev tap4 }
policy no in top { deny any -> any : tcp/23 log }
policy pa for a in tenant {
  steered: allow s -> t : tcp | ping via g
  allow s -> b : odd | tcp/22
  allow a -> net & 203.0.113.0/25 : udp/53 | odd | ping
  allow a -> net & 2001:db8::/80 : odd
}
policy pb for b in tenant { deny a.s & 10.0.0.6 -> b : tcp/80  deny net & 203.0.113.9 -> b : udp }
policy pc for c in tenant { allow c -> d }
policy pd for d in tenant { asks: allow d -> c : tcp/443 | ping }
"#;

#[test]
fn every_form_decides_as_the_evaluator() {
    let (passed, answers, refused) = compare(&text(FORMS));
    println!("{passed} passed, {answers} of them answer; {refused} refused");
    assert!(passed > 2_000 && answers > 500 && refused > 20_000, "{passed} {answers} {refused}");
}

/// The whole of what is admitted is told; without the fabric's word the gateway is refused, and what it would admit is named.
#[test]
fn what_answers_admit_is_told() {
    let p = text(FORMS);
    let node = |name: &str| p.compiled.model.nodes.iter().find(|(_, n)| n.name == name).unwrap().0;
    let model = Nft.lower(&p.compiled, &p.sources, node("g1"), &[]).unwrap();
    let told: Vec<String> = model.admitted.iter().map(ToString::to_string).collect();
    assert!(
        told.contains(
            &"pa#2 in b: 10.0.0.5 -> 100.65.0.5 : tcp from 80 to 1024..40000, with ACK or RST".into()
        ),
        "{told:#?}"
    );
    // What may be opened anyway is no news: `d` may be asked on port 53 whatever else comes from there.
    assert!(told.contains(&"pd.asks in c: 10.3.0.5 -> 10.4.0.5 : icmp type 0 code 0".into()), "{told:#?}");
    assert!(!told.iter().any(|t| t.contains("in c: 10.3.0.5 -> 10.4.0.5 : udp")), "{told:#?}");
    let stage = Nft.print(&model).into_iter().find(|a| a.path == "nft/stage.nft").unwrap();
    let stage = String::from_utf8(stage.bytes).unwrap();
    let listed: Vec<&str> = stage.lines().filter_map(|l| l.strip_prefix("# admits ")).collect();
    assert_eq!(listed, told);
    assert_eq!(stage.lines().position(|l| l.starts_with("# admits ")), Some(2));

    let silent = text(&FORMS.replace("stateless-replies \"a test\"", ""));
    let found = Nft.lower(&silent.compiled, &silent.sources, node("g1"), &[]).unwrap_err();
    assert_eq!(found.len(), 1, "{found:?}");
    assert_eq!(found[0].code, Code::PW0801);
    assert!(found[0].message.contains("`g` is stateless"), "{found:?}");
    assert!(found[0].notes.iter().any(|n| n.contains("admits ")), "{found:?}");
    assert!(Nft.lower(&silent.compiled, &silent.sources, node("c1"), &[]).is_ok());
}

/// What cannot be said without state is refused where it stands.
#[test]
fn what_needs_state_is_refused() {
    let refused = |text_: &str, node: &str, ebpf: bool| {
        let p = text(text_);
        let id = p.compiled.model.nodes.iter().find(|(_, n)| n.name == node).unwrap().0;
        let found = if ebpf {
            Ebpf.lower(&p.compiled, &p.sources, id, &[]).unwrap_err()
        } else {
            Nft.lower(&p.compiled, &p.sources, id, &[]).unwrap_err()
        };
        assert!(found.iter().all(|d| d.code == Code::PW0801), "{found:?}");
        found.iter().map(|d| (d.message.clone(), p.sources.slice(d.span).to_owned())).collect::<Vec<_>>()
    };
    let found = refused(
        &FORMS.replace("as 192.168.9.7", "as 192.168.9.7 clients as 100.70.0.0/24, fd00:70::/64"),
        "g1",
        false,
    );
    assert!(
        found[0]
            .0
            .contains("the nft target cannot translate the external `net` through the stateless gateway `g`"),
        "{found:?}"
    );
    let both = FORMS.replace("  allow s -> b", "  allow t -> s : tcp via h\n  allow s -> b");
    let found = refused(&both, "g2", false);
    assert!(
        found[0].0.contains("which packets of `a` to `a` pass a stateful gateway and which a stateless one"),
        "{found:?}"
    );
    let found = refused(FORMS, "g1", true);
    assert!(
        found[0].0.contains("the ebpf target cannot run an instance of the stateless gateway `g`"),
        "{found:?}"
    );
    let found = refused(FORMS, "c1", true);
    assert!(found[0].0.contains("the ebpf target cannot emit the affinity of gateway `g`"), "{found:?}");
}

/// Each sender's packets go to one instance, whoever they are for.
#[test]
fn the_sender_picks_the_instance() {
    let p = text(FORMS);
    let c = &p.compiled;
    let gateway = c.model.gateways.iter().find(|(_, g)| g.name == "g").unwrap().0;
    let mut used = BTreeSet::new();
    for name in ["c1", "c2"] {
        let id = c.model.nodes.iter().find(|(_, n)| n.name == name).unwrap().0;
        let model = Nft.lower(c, &p.sources, id, &[]).unwrap();
        for e in c.model.endpoints.values().filter(|e| e.node == id) {
            for (family, src) in e.addresses.iter().map(|a| parse_addr(*a)) {
                for dst in addresses(c, e.tenant, family) {
                    for (x, y) in [(2000, 80), (2000, 443), (40_000, 443), (53, 53)] {
                        let zone = numbers::tenant_zone(c.model.owners[e.tenant].id());
                        let direction = Direction::Original;
                        let p = Arrived {
                            dev: &e.dev,
                            role: 0,
                            zone,
                            direction,
                            family,
                            src,
                            dst,
                            protocol: 6,
                            x,
                            y,
                        };
                        let Outcome::Via(verdict) = walk(&model.rules, &p) else { continue };
                        let packet = Packet { space: e.tenant, family, src, dst, protocol: 6, x, y };
                        let Ok(Resolution::Flow { flow, .. }) = eval::resolve(c, &packet) else {
                            panic!("{p:?}")
                        };
                        if eval::decide(c, &packet).unwrap().via != Some(gateway) {
                            continue;
                        }
                        let meant = buckets::passes(&c.model, gateway, &flow, Way::Request, &[]).unwrap();
                        let mark = leg(&model.rules, &p, verdict).unwrap();
                        let instance = &model.instances[((mark - 0x6000_0000) >> 25) as usize];
                        assert_eq!(*instance, c.model.nodes[meant].name, "{p:?}");
                        used.insert(instance.clone());
                    }
                }
            }
        }
    }
    assert_eq!(used.len(), 2, "{used:?}");
}

#[test]
fn random_projects_decide_as_the_evaluator() {
    let (mut projects, mut passed, mut answers) = (0, 0, 0);
    for seed in 0..120 {
        let Ok(p) = attempt(&[("main.pw".to_owned(), random::project(seed))]) else { continue };
        // Two translations for what may both answer and open are refused, and named.
        let gateways = p.compiled.model.nodes.iter().filter(|(_, n)| n.gateway);
        let refused =
            gateways.map(|(id, _)| Nft.lower(&p.compiled, &p.sources, id, &[])).find_map(Result::err);
        if let Some(found) = refused {
            assert!(found.iter().all(|d| d.code == Code::PW0801), "{found:?}");
            assert!(found.iter().all(|d| d.message.contains("cannot tell answers")), "{found:?}");
            continue;
        }
        let found = compare(&p);
        (projects, passed, answers) = (projects + 1, passed + found.0, answers + found.1);
    }
    println!("{projects} projects, {passed} packets passed, {answers} of them answer");
    assert!(projects > 40 && answers > 500, "{projects} {answers}");
}
