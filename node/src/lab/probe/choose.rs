//! Choosing the packets: one that a declared endpoint or an external can send for each thing to be shown.

use super::stations::{Station, Stations, sample, underlay_addresses};
use compiler::Compiled;
use compiler::algebra::Family;
use compiler::buckets::{self, Direction};
use compiler::compiled::Destination;
use compiler::eval::{self, Decision, Reason};
use compiler::ids::{NodeId, OwnerId};
use compiler::packet::{End, Flow, Packet, possible_protocol, proto};
use compiler::sets::{EndSet, ServiceBox, ServiceSet};
use std::collections::BTreeSet;

/// Source ports of chosen packets begin here.
const FIRST_PORT: u16 = 32_768;
/// Services by name that are tried where a test leaves the choice.
const SERVICES_TRIED: usize = 48;
/// A host of a range: neither its network's nor its broadcast address where it has those.
fn middle(lo: u128, hi: u128) -> u128 {
    if hi - lo > 3 { lo + 2 } else { lo }
}

/// ICMP and ICMPv6 echo request.
const ECHO: [(Family, u16); 2] = [(Family::V4, 8), (Family::V6, 128)];

/// A packet, who can send it, and what is to become of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Shot {
    /// As seen in the space of its sender.
    pub(crate) packet: Packet,
    pub(crate) decision: Decision,
    pub(crate) from: Station,
    /// Where the destination is; `None`: nowhere in the lab.
    pub(crate) to: Option<Station>,
    /// The gateway instance that an allowed connection passes, or at which a packet from an external enters.
    pub(crate) instance: Option<NodeId>,
    /// The one that its answer passes: another only where packets go by their sender alone.
    pub(crate) back: Option<NodeId>,
}

#[derive(Debug)]
pub(crate) struct Chooser<'a> {
    c: &'a Compiled,
    stations: &'a Stations<'a>,
    /// Dead gateway nodes.
    down: &'a [NodeId],
    underlay: BTreeSet<(Family, u128)>,
    routers: BTreeSet<(OwnerId, Family, u128)>,
    named: ServiceSet,
    /// Added to every chosen source port, so that two choices of one pair are two connections.
    next: u16,
}

impl<'a> Chooser<'a> {
    pub(crate) fn new(c: &'a Compiled, stations: &'a Stations<'a>, down: &'a [NodeId]) -> Self {
        let routers = c
            .model
            .segments
            .values()
            .flat_map(|s| s.prefixes.iter().map(|p| (s.tenant, p.prefix.family, p.router)))
            .collect();
        let underlay = underlay_addresses(c).collect();
        Self { c, stations, down, underlay, routers, named: named(c), next: 0 }
    }

    /// Makes the packets chosen from now on differ from earlier ones.
    pub(crate) fn turn(&mut self) {
        self.next = (self.next + 1) % (u16::MAX - FIRST_PORT);
    }

    /// The shot that shows what becomes of this packet, as declared in some space; or why there is none.
    pub(crate) fn packet(&self, p: &Packet) -> Result<Shot, &'static str> {
        let decision = eval::decide(self.c, p).map_err(|_| "source and destination are one end")?;
        let Some(from) = decision.from else {
            return Err("no endpoint has the source address");
        };
        if from.owner == p.space {
            return self.shot(*p).ok_or("no endpoint has the source address");
        }
        // Written as the destination's side sees it: what the sender sent.
        let to = decision.to.ok_or("the packet means nothing in the space of its source")?;
        self.stations.at(p.family, from).ok_or("no endpoint has the source address")?;
        let flow = Flow { src: from, dst: to, family: p.family, protocol: p.protocol, x: p.x, y: p.y };
        self.on_channels(&flow)
            .find(|s| s.decision.allow == decision.allow && s.decision.reason == decision.reason)
            .ok_or("the source cannot send this packet")
    }

    /// A packet in the space of its sender.
    pub(crate) fn shot(&self, packet: Packet) -> Option<Shot> {
        let decision = eval::decide(self.c, &packet).ok()?;
        let from = self.stations.at(packet.family, decision.from.filter(|f| f.owner == packet.space)?)?;
        let to = decision.to.and_then(|to| self.stations.at(packet.family, to));
        let way = |direction| self.instance(&packet, &decision, direction);
        let (instance, back) = (way(Direction::Request), way(Direction::Reply));
        // Without a live instance an allowed connection is nothing to be shown.
        let shown = decision.via.is_none() || instance.is_some() && back.is_some();
        shown.then_some(Shot { packet, decision, from, to, instance, back })
    }

    /// The instance that carries the flow in a direction; for one from an external the one that it arrives at, allowed or not.
    fn instance(&self, p: &Packet, d: &Decision, direction: Direction) -> Option<NodeId> {
        let outside = !self.c.model.owners[p.space].is_tenant();
        let gateway = d.via.or_else(|| {
            let range = self.c.spaces[p.space].destinations.get(p.family, p.dst).filter(|_| outside)?;
            match range.target {
                Destination::Import { gateway, .. } => Some(gateway),
                _ => None,
            }
        })?;
        let flow = Flow { src: d.from?, dst: d.to?, family: p.family, protocol: p.protocol, x: p.x, y: p.y };
        buckets::passes(&self.c.model, gateway, &flow, direction, self.down)
    }

    /// Whether the node is plugged in.
    pub(crate) fn lives(&self, node: NodeId) -> bool {
        !self.down.contains(&node)
    }

    fn on_channels(&self, flow: &Flow) -> impl Iterator<Item = Shot> {
        self.c.channels_of[flow.src.owner].iter().filter_map(move |&id| {
            let channel = &self.c.channels[id];
            let inside = channel.src == flow.src.owner
                && channel.dst == flow.dst.owner
                && channel.src_set.contains(flow.family, flow.src.address)
                && channel.dst_set.contains(flow.family, flow.dst.address)
                && channel.service.contains(flow.protocol, flow.x, flow.y);
            let packet = eval::packet_on_channel(self.c, id, flow).filter(|_| inside)?;
            let shot = self.shot(packet)?;
            (shot.decision.from == Some(flow.src) && shot.decision.to == Some(flow.dst)).then_some(shot)
        })
    }

    /// The first shot from one set to another with one of these services that is accepted; on a channel if possible,
    /// else to an address that does not lead there.
    pub(crate) fn flow(
        &self,
        sets: (&EndSet, &EndSet),
        service: &ServiceSet,
        accept: impl Fn(&Shot) -> bool,
    ) -> Option<Shot> {
        let (sources, destinations) = (self.stations.ends(sets.0), self.stations.ends(sets.1));
        let pairs = || {
            sources.iter().flat_map(|&(family, src)| {
                destinations
                    .iter()
                    .filter(move |&&(f, dst)| f == family && dst != src)
                    .map(move |&(_, dst)| (family, src, dst))
            })
        };
        let channelled = pairs().flat_map(|(family, src, dst)| self.between(family, src, dst, service));
        let bare = pairs().flat_map(|(family, src, dst)| self.bare(family, src, dst, service));
        channelled.chain(bare).find(accept)
    }

    /// Shots between two ends on every channel that has both, one for each box of services.
    fn between(&self, family: Family, src: End, dst: End, service: &ServiceSet) -> Vec<Shot> {
        let channels = self.c.channels_of[src.owner].iter().map(|id| &self.c.channels[*id]);
        let mut out = Vec::new();
        for channel in channels.filter(|ch| ch.src == src.owner && ch.dst == dst.owner) {
            if channel.src_set.contains(family, src.address) && channel.dst_set.contains(family, dst.address)
            {
                let possible = service.intersect(&channel.service);
                // What no rule names is decided like the smallest of the rest, so these two are enough.
                let named = possible.intersect(&self.named);
                for b in possible.boxes.into_iter().chain(named.boxes) {
                    out.extend(self.fields(family, &b).into_iter().flat_map(|(protocol, x, y)| {
                        self.on_channels(&Flow { src, dst, family, protocol, x, y }).collect::<Vec<_>>()
                    }));
                }
            }
        }
        out
    }

    /// Denied packets to every address by which the source's side may know the destination, where that means the
    /// destination or nothing.
    fn bare(&self, family: Family, src: End, dst: End, service: &ServiceSet) -> Vec<Shot> {
        let Some((protocol, x, y)) = service.boxes.iter().find_map(|b| self.fields(family, b)) else {
            return Vec::new();
        };
        let exposures = self.c.model.exposures.values();
        let presented = exposures.clone().filter(|e| e.provider == dst.owner);
        let shown = exposures.filter(|e| e.provider == src.owner);
        presented
            .filter_map(|e| e.present(family, dst.address))
            .chain(shown.filter_map(|e| e.show(dst.owner, family, dst.address)))
            .chain([dst.address])
            .filter_map(|seen| {
                self.shot(Packet { space: src.owner, family, src: src.address, dst: seen, protocol, x, y })
            })
            .filter(|shot| !shot.decision.allow && shot.decision.to.is_none_or(|to| to == dst))
            .collect()
    }

    /// One choice of protocol and fields in a box: echo requests among ICMP, no port zero.
    fn fields(&self, family: Family, b: &ServiceBox) -> Option<(u8, u16, u16)> {
        let protocol = possible_protocol(b, family)?;
        match protocol {
            proto::ICMP | proto::ICMP6 => {
                let echo = ECHO.iter().find(|(f, t)| *f == family && b.contains(protocol, *t, 0));
                Some(echo.map_or((protocol, b.x.0, b.y.0), |(_, t)| (protocol, *t, 0)))
            }
            proto::TCP | proto::UDP | proto::SCTP => {
                let wanted = FIRST_PORT + self.next;
                let sport = if b.x.0 <= wanted && wanted <= b.x.1 { wanted } else { b.x.0.max(1).min(b.x.1) };
                Some((protocol, sport, b.y.0.max(1).min(b.y.1)))
            }
            other => Some((other, 0, 0)),
        }
    }

    /// Whether the destination, as seen, is a node's own address.
    pub(crate) fn to_host(&self, p: &Packet) -> bool {
        self.underlay.contains(&(p.family, p.dst))
    }

    /// A packet from an endpoint that `eval` denies for this reason.
    pub(crate) fn denied(&self, reason: Reason) -> Option<Shot> {
        // And one that most likely no rule names.
        let unnamed = ServiceBox { proto: (proto::TCP, proto::TCP), x: (0, u16::MAX), y: (64_999, 64_999) };
        let services: Vec<ServiceBox> =
            std::iter::once(unnamed).chain(self.named.boxes.iter().copied()).collect();
        let tenants =
            self.stations.all().into_iter().filter(|(_, end)| self.c.model.owners[end.owner].is_tenant());
        tenants
            .flat_map(|(family, src)| {
                self.destinations(src.owner, family).into_iter().map(move |dst| (family, src, dst))
            })
            .flat_map(|(family, src, dst)| services.iter().map(move |b| (family, src, dst, b)))
            .find_map(|(family, src, dst, b)| {
                let (protocol, x, y) = self.fields(family, b)?;
                let packet = Packet { space: src.owner, family, src: src.address, dst, protocol, x, y };
                let shot = self.shot(packet)?;
                // A node knows the addresses of endpoints only; to any other of a tenant's it has no route.
                let known = |to: End| {
                    !self.c.model.owners[to.owner].is_tenant() || self.stations.at(family, to).is_some()
                };
                let fits = !shot.decision.allow
                    && shot.decision.reason == reason
                    && !self.to_host(&packet)
                    && shot.decision.to.is_none_or(known);
                fits.then_some(shot)
            })
    }

    /// A packet from an external whose source is none of that external's addresses; to something exposed there, if
    /// anything is.
    pub(crate) fn unknown_source(&self) -> Option<(Packet, Decision, usize)> {
        let externals: BTreeSet<(Family, OwnerId, usize)> = self
            .stations
            .all()
            .into_iter()
            .filter_map(|(family, end)| match self.stations.at(family, end)? {
                Station::External(number) => Some((family, end.owner, number)),
                Station::Endpoint(_) => None,
            })
            .collect();
        let exposed = externals.iter().filter(|(f, owner, _)| self.exposes(*owner, *f));
        let others = externals.iter().filter(|(f, owner, _)| !self.exposes(*owner, *f));
        exposed.chain(others).find_map(|&(family, space, number)| {
            let strange = self.stations.usable().subtract(&self.c.model.owners[space].universe);
            let src = *sample(strange.family(family)).first()?;
            let dst = self.destinations(space, family).into_iter().find(|dst| *dst != src)?;
            let packet = Packet { space, family, src, dst, protocol: proto::UDP, x: FIRST_PORT, y: 9 };
            let decision = eval::decide(self.c, &packet).ok()?;
            (decision.reason == Reason::UnknownSource).then_some((packet, decision, number))
        })
    }

    fn exposes(&self, space: OwnerId, family: Family) -> bool {
        !self.c.spaces[space].destinations.family(family).is_empty()
    }

    /// Addresses worth sending to in a space: of declared endpoints, the ends of every range, and one of no range.
    fn destinations(&self, space: OwnerId, family: Family) -> Vec<u128> {
        let tenant = self.c.model.owners[space].is_tenant();
        let own = |(f, end): &(Family, End)| tenant && *f == family && end.owner == space;
        let local = self.stations.all().into_iter().filter(own);
        let ranges = self.c.spaces[space].destinations.family(family);
        let known = ranges.iter().map(|r| (r.lo, r.hi)).collect();
        let nowhere =
            self.stations.usable().family(family).subtract(&compiler::algebra::RangeSet::from_ranges(known));
        local
            .map(|(_, end)| end.address)
            .chain(ranges.iter().map(|r| middle(r.lo, r.hi)))
            .chain(sample(&nowhere))
            .filter(|address| self.stations.usable().contains(family, *address))
            .filter(|address| !self.routers.contains(&(space, family, *address)))
            .collect()
    }
}

/// Services that some rule or exposure names.
fn named(c: &Compiled) -> ServiceSet {
    let ruled = c.model.rules.values().map(|r| &r.service);
    let exposed = c.model.exposures.values().map(|e| &e.service);
    let boxes: BTreeSet<ServiceBox> = ruled.chain(exposed).flat_map(|s| s.boxes.iter().copied()).collect();
    ServiceSet { boxes: boxes.into_iter().take(SERVICES_TRIED).collect() }
}
