//! What the tables of a node decide is what the reference evaluator decides, packet by packet.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test"
)]

#[path = "../../tests/differential/boundaries.rs"]
mod boundaries;
mod common;

use common::{Project, examples, folder, text};
use compiler::Compiled;
use compiler::algebra::{Family, parse_addr};
use compiler::compiled::{Destination, Source};
use compiler::eval::{self, Decision, Reason};
use compiler::ids::{GatewayId, NodeId, OwnerId};
use compiler::packet::Packet;
use partywall_backends::Backend as _;
use partywall_backends::linux::model::{Atom, Direction, Table};
use partywall_backends::linux::walk::{Arrived, Outcome, role, walk, zone};
use partywall_backends::linux::{Model, numbers};
use partywall_backends::nft::Nft;
use std::collections::BTreeSet;

/// An address as one space sees it: where it lives, and by which gateway it comes.
#[derive(Debug, Clone, Copy)]
struct Seen {
    address: u128,
    owner: OwnerId,
    node: Option<NodeId>,
}

fn seen(c: &Compiled, space: OwnerId, family: Family) -> (Vec<Seen>, Vec<Seen>) {
    let expand = |lo: u128, hi: u128, owner: OwnerId, real: u128, out: &mut Vec<Seen>| {
        if !c.model.owners[owner].is_tenant() {
            for address in BTreeSet::from([lo, lo + (hi - lo) / 2, hi]) {
                out.push(Seen { address, owner, node: None });
            }
            return;
        }
        for endpoint in c.model.endpoints.values().filter(|e| e.tenant == owner) {
            for (f, at) in endpoint.addresses.iter().map(|a| parse_addr(*a)) {
                if f == family && real <= at && at - real <= hi - lo {
                    let address = at - real + lo;
                    out.push(Seen { address, owner, node: Some(endpoint.node) });
                }
            }
        }
    };
    let (mut sources, mut destinations) = (Vec::new(), Vec::new());
    for r in c.spaces[space].destinations.family(family) {
        let (owner, real) = match r.target {
            Destination::Local { .. } => (space, r.lo),
            Destination::Import { owner, real, .. } => (owner, real),
            Destination::External { owner, .. } => (owner, r.lo),
            Destination::Direct { owner, .. } => (owner, r.lo),
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
    let all = boundaries::boundaries(c, &[0, 1, 6, 17, 47, 50, 58, 132, 255], false);
    boundaries::services(all, family, |_, _| true)
}

fn chain(reason: Reason) -> &'static str {
    match reason {
        Reason::UnknownSource => "unknown_source",
        Reason::NoRoute => "no_route",
        Reason::NotExposed => "not_exposed",
        Reason::Rule => "by_rule",
        Reason::Default => "by_default",
    }
}

struct Bench<'a> {
    c: &'a Compiled,
    node: NodeId,
    model: Model,
    decided: u64,
}

impl Bench<'_> {
    fn tenant_mark(&self, owner: OwnerId) -> u32 {
        numbers::tenant_mark(self.c.model.owners[owner].id())
    }

    fn eval(&self, packet: &Packet) -> Option<Decision> {
        eval::decide(self.c, packet).ok()
    }

    fn arrived<'d>(
        &self,
        dev: &'d str,
        role: u32,
        zone: u16,
        direction: Direction,
        p: &Packet,
    ) -> Arrived<'d> {
        let Packet { family, src, dst, protocol, x, y, .. } = *p;
        Arrived { dev, role, zone, direction, family, src, dst, protocol, x, y }
    }

    /// One flow of a tenant with an end on this node, by every way in which its packets may come.
    fn compute(&mut self, space: OwnerId, s: &Seen, d: &Seen, p: &Packet) {
        let Some(decision) = self.eval(p) else { return };
        let zone = numbers::tenant_zone(self.c.model.owners[space].id());
        for direction in Direction::BOTH {
            // Who sends this packet, and who gets it.
            let (from, to) = if direction == Direction::Original { (s, d) } else { (d, s) };
            if from.node == Some(self.node) {
                for dev in self.devices(space, from.address, p.family) {
                    let outcome = walk(&self.model.rules, &self.arrived(&dev, 0, zone, direction, p));
                    self.decided += 1;
                    match (decision.allow, decision.via) {
                        (false, _) => assert_eq!(outcome, Outcome::Dropped(chain(decision.reason)), "{p:?}"),
                        (true, None) => assert_eq!(outcome, Outcome::Sent(self.tenant_mark(space)), "{p:?}"),
                        (true, Some(gateway)) => self.goes_via(&outcome, gateway, p),
                    }
                }
            }
            if to.node == Some(self.node) {
                self.arrives(space, from, to, direction, &decision, zone, p);
            }
        }
    }

    #[expect(clippy::too_many_arguments, reason = "a test's helper")]
    fn arrives(
        &mut self,
        space: OwnerId,
        from: &Seen,
        to: &Seen,
        direction: Direction,
        decision: &Decision,
        zone: u16,
        p: &Packet,
    ) {
        for (vni, dev) in self.segment_of(space, to.address, p.family) {
            for (node, sender) in self.c.model.nodes.iter() {
                let Some(role) = role(&self.model.rules, sender.vtep, vni, p.family, from.address) else {
                    continue;
                };
                let outcome = walk(&self.model.rules, &self.arrived(&dev, role, zone, direction, p));
                self.decided += 1;
                let right = match decision.via {
                    Some(gateway) => self.c.model.gateways[gateway].instances.contains(&node),
                    None => from.node == Some(node),
                };
                if decision.allow && right {
                    assert_eq!(outcome, Outcome::Sent(self.tenant_mark(space)), "{p:?} from {}", sender.name);
                } else {
                    assert!(matches!(outcome, Outcome::Dropped(_)), "{outcome:?} {p:?} from {}", sender.name);
                }
            }
            // The right sender is known as such.
            if decision.allow && from.node != Some(self.node) {
                let senders: Vec<NodeId> = match decision.via {
                    Some(gateway) => self.c.model.gateways[gateway].instances.clone(),
                    None => from.node.into_iter().collect(),
                };
                for node in senders {
                    let vtep = self.c.model.nodes[node].vtep;
                    assert!(role(&self.model.rules, vtep, vni, p.family, from.address).is_some(), "{p:?}");
                }
            }
        }
    }

    fn goes_via(&self, outcome: &Outcome, gateway: GatewayId, p: &Packet) {
        let Outcome::Via(verdict) = outcome else { panic!("{outcome:?} instead of via a gateway: {p:?}") };
        let rules = &self.model.rules;
        let instances: BTreeSet<NodeId> = self.c.model.gateways[gateway].instances.iter().copied().collect();
        let several = rules.get(Table::Gateway, &[Atom::Class(*verdict)]).is_some();
        assert_eq!(several, instances.len() > 1);
        assert_eq!(!several, rules.get(Table::Only, &[Atom::Class(*verdict)]).is_some());
    }

    fn devices(&self, space: OwnerId, address: u128, family: Family) -> Vec<String> {
        let here = self.c.model.endpoints.values().filter(|e| e.node == self.node && e.tenant == space);
        here.filter(|e| e.addresses.iter().any(|a| parse_addr(*a) == (family, address)))
            .map(|e| e.dev.clone())
            .collect()
    }

    fn segment_of(&self, space: OwnerId, address: u128, family: Family) -> Vec<(u32, String)> {
        let here = self.c.model.endpoints.values().filter(|e| e.node == self.node && e.tenant == space);
        here.filter(|e| e.addresses.iter().any(|a| parse_addr(*a) == (family, address)))
            .map(|e| self.c.model.segments[e.segment].vni)
            .map(|vni| (vni, numbers::vxlan_name(vni)))
            .collect()
    }

    /// A connection opened in `space` as an instance here sees it.
    fn gateway(&mut self, space: OwnerId, s: &Seen, d: &Seen, p: &Packet) {
        let Some(decision) = self.eval(p) else { return };
        for dev in self.doors(space, s) {
            let Some(zone) = zone(&self.model.rules, &dev.0, p.family, d.address) else {
                assert!(!self.mine(&decision), "no zone: {p:?}");
                continue;
            };
            let outcome = walk(&self.model.rules, &self.arrived(&dev.0, dev.1, zone, Direction::Original, p));
            self.decided += 1;
            if self.mine(&decision) {
                assert_eq!(outcome, Outcome::Sent(self.table(d.owner)), "{p:?}");
            } else if decision.allow {
                assert!(matches!(outcome, Outcome::Dropped(_)), "{outcome:?} {p:?}");
            } else {
                let names = (
                    &self.c.model.owners[space].name,
                    &self.c.model.owners[s.owner].name,
                    &self.c.model.owners[d.owner].name,
                );
                assert_eq!(
                    outcome,
                    Outcome::Dropped(chain(decision.reason)),
                    "{p:?} {names:?} {s:?} {d:?} {decision:?}"
                );
            }
        }
    }

    fn mine(&self, decision: &Decision) -> bool {
        decision.allow
            && decision.via.is_some_and(|g| self.c.model.gateways[g].instances.contains(&self.node))
    }

    fn table(&self, owner: OwnerId) -> u32 {
        let o = &self.c.model.owners[owner];
        if o.is_tenant() { numbers::tenant_mark(o.id()) } else { numbers::external_mark(&o.name) }
    }

    fn doors(&self, space: OwnerId, s: &Seen) -> Vec<(String, u32)> {
        if self.c.model.owners[space].is_tenant() {
            let (c, address) = (self.c, s.address);
            return c
                .model
                .endpoints
                .values()
                .filter(|e| e.tenant == space && e.addresses.iter().any(|a| parse_addr(*a).1 == address))
                .map(|e| (numbers::vxlan_name(c.model.segments[e.segment].vni), numbers::ROLE_NODE))
                .collect();
        }
        let attaches = self.c.model.gateways.values().flat_map(|g| &g.attaches);
        attaches.filter(|a| a.external == space && a.node == self.node).map(|a| (a.dev.clone(), 0)).collect()
    }
}

fn compare(project: &Project, least: u64) {
    let c = &project.compiled;
    let mut total = 0;
    for (id, node) in c.model.nodes.iter() {
        let model = Nft.lower(c, &project.sources, id, &[]).unwrap_or_else(|e| panic!("{e:?}"));
        let mut bench = Bench { c, node: id, model, decided: 0 };
        for space in c.model.owners.ids() {
            for family in Family::BOTH {
                let (sources, destinations) = seen(c, space, family);
                let services = services(c, family);
                for s in &sources {
                    for d in &destinations {
                        let here = s.node == Some(id) || d.node == Some(id);
                        let foreign = node.gateway && (s.owner == space);
                        if !(foreign || here && c.model.owners[space].is_tenant()) {
                            continue;
                        }
                        for &(protocol, x, y) in &services {
                            let p = Packet { space, family, src: s.address, dst: d.address, protocol, x, y };
                            if node.gateway {
                                bench.gateway(space, s, d, &p)
                            } else {
                                bench.compute(space, s, d, &p)
                            }
                        }
                    }
                }
            }
        }
        total += bench.decided;
    }
    assert!(total >= least, "only {total} packets were compared");
}

#[test]
fn quickstart_decides_as_the_evaluator() {
    compare(&folder(&examples().join("01-quickstart")), 1_500);
}

#[test]
fn datacenter_decides_as_the_evaluator() {
    compare(&folder(&examples().join("02-datacenter")), 100_000);
}

/// Everything that the examples have little of: steering inside a tenant, direct routes, source ports, protocols without
/// ports, ICMP codes, translation of IPv6, two instances, a range of addresses outside, tenants behind one gateway node.
const FORMS: &str = r#"
fabric f { encap vxlan port 4789 underlay mtu 9000 family ipv4 precedence top > tenant > base delegate tenant unknown-vni drop }
node c1 { vtep 192.0.2.11 dev eth0 }
node c2 { vtep 192.0.2.12 dev eth0 }
node g1 { vtep 192.0.2.21 dev eth0 gateway }
node g2 { vtep 192.0.2.22 dev eth0 gateway }
external net { 0.0.0.0/0, ::/0 }
external bank { 172.16.0.0/12 }
service odd = tcp/{80, 443} from 1024..40000 | udp/53 from 53 | sctp/7 | proto/47 | proto/50
service unreachable = icmp/3/1 | icmp/8/0 | icmp/13 | icmp6/128 | icmp6/1/4
tenant a id 254 {
  segment s vni 10 { 10.0.0.0/24, fd00:a::/64 }
  segment t vni 11 { 10.0.1.0/24 }
  route 0.0.0.0/0 via g
  route ::/0 via g
  route 10.2.0.0/24 to c.s direct "a shortcut"
}
tenant b id 65536 {
  segment s vni 20 { 10.0.0.0/24, fd00:b::/64 }
  expose 10.0.0.5 | fd00:b::5 : odd to a via g as 100.64.0.5, fd00:64::5 clients as 100.65.0.0/23, fd00:65::/64
  expose 10.0.0.6 : tcp/22 to a.s & 10.0.0.0/24 via h as 100.66.0.6 clients as 100.67.0.0/24
  expose 10.0.0.7 : ip to bank via g as 192.168.9.7
}
tenant c id 65535 { segment s vni 30 { 10.2.0.0/24 } route 10.0.0.0/24 to a.s direct "the way back" }
gateway g {
  joins a, b, net, bank
  instances g1, g2
  stateful
  attach net on g1 dev ext0 next-hop 203.0.113.1, 2001:db8::1
  attach net on g2 dev ext0 next-hop 203.0.113.1, 2001:db8::1
  attach bank on g1 dev ext1 next-hop 172.31.0.1
  attach bank on g2 dev ext1 next-hop 172.31.0.1
  masquerade a to net as 198.51.100.1, 198.51.100.2
  masquerade a to bank as 198.51.100.3, 198.51.100.4
}
gateway h { joins a, b instances g2 stateful }
endpoint a5 in a.s { at 10.0.0.5, fd00:a::5 mac 02:00:00:00:00:05 on c1 dev tap0 }
endpoint a6 in a.s { at 10.0.0.6, fd00:a::6 on c2 dev tap0 }
endpoint a7 in a.t { at 10.0.1.7 mac 02:00:00:00:00:07 on c2 dev tap1 tags odd }
endpoint b5 in b.s { at 10.0.0.5, fd00:b::5 mac 02:00:00:00:01:05 on c1 dev tap2 }
endpoint b6 in b.s { at 10.0.0.6 mac 02:00:00:00:01:06 on c1 dev tap3 }
endpoint b7 in b.s { at 10.0.0.7 mac 02:00:00:00:01:07 on c2 dev tap2 }
endpoint c5 in c.s { at 10.2.0.5 mac 02:00:00:00:02:05 on c2 dev tap4 }
policy no in top { deny any -> net & 10.0.0.0/8  deny any -> any : tcp/23 log }
policy pa for a in tenant {
  steered: allow s -> t : tcp via h
  plain: allow t -> s : udp | unreachable
  allow s -> b : odd | tcp/22
  allow a -> net & (8.8.8.0/24 | 2001:db8:8::/48) : udp/53 | odd
  deny a -> bank & 172.16.1.7 : ip
  allow a -> bank : tcp/1..1000
  allow s -> c : tcp/443
}
policy pb for b in tenant { deny a.s & 10.0.0.6 -> b : tcp/80  pass any -> b : sctp }
policy pc for c in tenant { allow a -> c }
policy intra in base { allow same-tenant : ip }
"#;

#[test]
fn every_form_decides_as_the_evaluator() {
    compare(&text(FORMS), 20_000);
}
