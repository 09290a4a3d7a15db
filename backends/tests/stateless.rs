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
#[path = "../../tests/differential/stateless.rs"]
mod reference;
#[path = "common/seen.rs"]
mod seen;

use common::{Project, attempt, text};
use compiler::algebra::parse_addr;
use compiler::buckets::{self, Direction as Way};
use compiler::eval::{self, Resolution};
use compiler::ids::OwnerId;
use compiler::packet::{Packet, proto};
use lang::codes::Code;
use partywall_backends::Backend as _;
use partywall_backends::linux::model::Direction;
use partywall_backends::linux::walk::{Arrived, Outcome, leg, stateless, walk};
use partywall_backends::linux::{Model, numbers};
use partywall_backends::nft::Nft;
use reference::{FORMS, Instance, Passed, addresses, packets};
use std::collections::BTreeSet;

struct Bench<'a> {
    at: Instance<'a>,
    model: &'a Model,
    passed: u64,
    answers: u64,
    refused: u64,
}

impl Bench<'_> {
    fn table(&self, owner: OwnerId) -> u32 {
        let o = &self.at.c.model.owners[owner];
        if o.is_tenant() { numbers::tenant_mark(o.id()) } else { numbers::external_mark(&o.name) }
    }

    /// Devices by which a sender's packets come in.
    fn doors(&self, p: &Packet) -> Vec<(String, u32)> {
        let c = self.at.c;
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
            .filter(|a| a.external == p.space && a.node == self.at.node)
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
                match self.at.expected(p, answers) {
                    Some(Passed { to, src, dst }) => {
                        let table = self.table(to.owner);
                        let Some(Outcome::Passed { mark, src: s, dst: d }) = outcome else {
                            panic!("{outcome:?}, answers: {answers}, instead of {table:#x}: {p:?}")
                        };
                        let owner = &self.at.c.model.owners[to.owner];
                        // Errors go back by the table that leads on, and what leads back to tenants is apart from an external's.
                        let table = match mark & numbers::ANSWERABLE {
                            0 => table,
                            _ if owner.is_tenant() => table,
                            _ => numbers::external_home(&owner.name),
                        };
                        assert_eq!((mark & !numbers::ANSWERABLE, s, d), (table, src, dst), "{p:?}");
                        // What is translated cannot be quoted as it came.
                        assert!(mark & numbers::ANSWERABLE == 0 || (s, d) == (p.src, p.dst), "{p:?}");
                        self.passed += 1;
                        if self.at.opens(p).is_none() {
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
        let mut bench =
            Bench { at: Instance { c, node: id }, model: &model, passed: 0, answers: 0, refused: 0 };
        packets(c).iter().for_each(|p| bench.packet(p));
        total = (total.0 + bench.passed, total.1 + bench.answers, total.2 + bench.refused);
    }
    total
}

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
