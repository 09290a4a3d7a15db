//! What is to become of packets at gateways that keep no state, by the reference evaluator: of each as one that opens a connection, and of
//! what it would answer. Needs a module `seen`.

use crate::seen::seen;
use compiler::Compiled;
use compiler::algebra::{Family, parse_addr};
use compiler::eval::{self, Decision, Resolution};
use compiler::ids::{ExposureId, NodeId, OwnerId};
use compiler::packet::{self, End, Fields, Flow, Packet};
use std::collections::{BTreeMap, BTreeSet};

/// Two instances, one of them next to a stateful gateway; translated and plain exposures, externals, service insertion.
pub const FORMS: &str = r#"
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

/// Every address that means something in a space: endpoints' and samples of what lies outside.
pub fn addresses(c: &Compiled, space: OwnerId, family: Family) -> BTreeSet<u128> {
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

/// Every packet between addresses that mean something in a space, with every service.
pub fn packets(c: &Compiled) -> Vec<Packet> {
    let mut out = Vec::new();
    for space in c.model.owners.ids() {
        for family in Family::BOTH {
            let (addresses, services) = (addresses(c, space, family), services(c, family));
            for &src in &addresses {
                for &dst in addresses.iter().filter(|dst| **dst != src) {
                    out.extend(services.iter().map(|&(protocol, x, y)| Packet {
                        space,
                        family,
                        src,
                        dst,
                        protocol,
                        x,
                        y,
                    }));
                }
            }
        }
    }
    out
}

/// What passes: to whom, and both addresses on the other side.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Passed {
    pub to: End,
    pub src: u128,
    pub dst: u128,
}

/// One instance.
pub struct Instance<'a> {
    pub c: &'a Compiled,
    pub node: NodeId,
}

impl Instance<'_> {
    fn mine(&self, decision: &Decision) -> bool {
        let here = |g| {
            let gateway = &self.c.model.gateways[g];
            !gateway.stateful && gateway.instances.contains(&self.node)
        };
        decision.allow && decision.via.is_some_and(here)
    }

    /// Decision, real ends and exposure of a packet that opens a connection through a gateway here.
    pub fn opens(&self, p: &Packet) -> Option<(Flow, Option<ExposureId>)> {
        let decision = eval::decide(self.c, p).ok()?;
        match eval::resolve(self.c, p) {
            Ok(Resolution::Flow { flow, way }) if self.mine(&decision) => Some((flow, way.exposure)),
            _ => None,
        }
    }

    /// Whether something is there, where the owner is a tenant.
    fn declared(&self, end: End, family: Family) -> bool {
        let mut there =
            self.c.model.endpoints.values().filter(|e| e.tenant == end.owner).flat_map(|e| &e.addresses);
        !self.c.model.owners[end.owner].is_tenant() || there.any(|a| parse_addr(*a) == (family, end.address))
    }

    /// What is to become of a packet: to whom it goes, and its addresses on the other side.
    pub fn expected(&self, p: &Packet, answers: bool) -> Option<Passed> {
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
            return Some(Passed { to: flow.src, src, dst: flow.src.address });
        }
        let (flow, exposure) = self.opens(p)?;
        if flow.src.owner != p.space {
            return None;
        }
        let src = exposure.map_or(flow.src.address, |id| {
            c.model.exposures[id].show(flow.src.owner, p.family, flow.src.address).unwrap()
        });
        Some(Passed { to: flow.dst, src, dst: flow.dst.address })
    }
}
