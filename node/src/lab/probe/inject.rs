//! Frames that no honest machine of the fabric sends: one for each drop reason that `eval` cannot meet.

use super::capture::{Place, Tap, Taps, mac_of};
use super::choose::{Chooser, Shot};
use super::stations::Station;
use super::wire::{self, Fields, Outer};
use crate::lab::error::LabError;
use crate::lab::tool;
use crate::lab::topology::{EndpointPlace, NodePlace, Topology, derived_mac};
use compiler::Compiled;
use compiler::algebra::{Family, format_addr, parse_addr};
use compiler::eval::Decision;
use compiler::ids::NodeId;
use compiler::packet::{Packet, proto};
use compiler::sets::{EndSet, ServiceSet};
use serde::Deserialize;
use std::net::IpAddr;

/// A frame, where it is sent, and the counter that is to move.
#[derive(Debug)]
pub(crate) struct Injection {
    pub(crate) name: &'static str,
    pub(crate) reason: &'static str,
    /// In words.
    pub(crate) sent: String,
    pub(crate) from: Place,
    pub(crate) frame: Vec<u8>,
    /// The node that is to drop it.
    pub(crate) node: NodeId,
    /// As `eval` takes it, where it can.
    pub(crate) packet: Option<(Packet, Decision)>,
}

/// An injection, or why this fabric has none.
pub(crate) type Maybe = Result<Injection, (&'static str, String)>;

/// What injections are made of.
pub(crate) struct Injector<'a> {
    pub(crate) c: &'a Compiled,
    pub(crate) topology: &'a Topology,
    pub(crate) chooser: &'a Chooser<'a>,
    pub(crate) taps: &'a Taps,
    pub(crate) run: u32,
}

/// A device as `ip -d -j link` lists it; only what is needed.
#[derive(Deserialize)]
struct Link {
    address: Option<String>,
    linkinfo: Option<LinkInfo>,
}

#[derive(Deserialize)]
struct LinkInfo {
    info_data: Option<LinkData>,
}

#[derive(Deserialize)]
struct LinkData {
    id: Option<u32>,
}

impl Injector<'_> {
    /// All of them; shot numbers of their marks begin at `first`.
    ///
    /// # Errors
    /// A device of the lab is not there.
    pub(crate) fn all(&self, first: u32) -> Result<Vec<Maybe>, LabError> {
        Ok(vec![
            self.spoofed_address(first)?,
            self.spoofed_mac(first + 1)?,
            self.unknown_vni(first + 2)?,
            self.bad_vtep(first + 3)?,
            self.unknown_source(first + 4)?,
            self.to_host(first + 5)?,
        ])
    }

    fn mark(&self, shot: u32) -> Vec<u8> {
        wire::mark(self.run, shot, false)
    }

    /// An allowed connection inside a tenant, from one endpoint straight to another.
    fn straight(
        &self,
        accept: impl Fn(&EndpointPlace, &EndpointPlace) -> bool,
    ) -> Option<(Shot, usize, usize)> {
        let places = |shot: &Shot| match (shot.from, shot.to) {
            (Station::Endpoint(from), Some(Station::Endpoint(to))) => Some((from, to)),
            _ => None,
        };
        let any = EndSet::any();
        let shot = self.chooser.flow((&any, &any), &ServiceSet::all(), |shot| {
            let fits = places(shot).and_then(|(from, to)| {
                Some(accept(self.topology.endpoints.get(from)?, self.topology.endpoints.get(to)?))
            });
            shot.decision.allow && shot.decision.via.is_none() && fits == Some(true)
        })?;
        let (from, to) = places(&shot)?;
        Some((shot, from, to))
    }

    fn fields(shot: &Shot) -> Fields {
        let p = &shot.packet;
        let address = |value| format_addr(p.family, value);
        Fields { src: address(p.src), dst: address(p.dst), protocol: p.protocol, x: p.x, y: p.y }
    }

    /// A neighbour's address, towards an end that the neighbour may talk to.
    fn spoofed_address(&self, number: u32) -> Result<Maybe, LabError> {
        let name = "drop: spoof (address)";
        let liar = |owner: &EndpointPlace, target: &EndpointPlace| {
            let tenant = |p: &EndpointPlace| self.c.model.endpoints[p.endpoint].tenant;
            self.topology.endpoints.iter().position(|p| {
                p.endpoint != owner.endpoint && p.endpoint != target.endpoint && tenant(p) == tenant(owner)
            })
        };
        let found = self.straight(|from, to| liar(from, to).is_some()).and_then(|(shot, from, to)| {
            let at = liar(self.topology.endpoints.get(from)?, self.topology.endpoints.get(to)?)?;
            Some((Self::fields(&shot), at))
        });
        let Some((fields, at)) = found else {
            return Ok(Err((name, "no tenant has three endpoints of which two may talk".to_owned())));
        };
        self.by_endpoint(name, "spoof", at, &fields, None, number)
    }

    /// The right address with a wrong MAC.
    fn spoofed_mac(&self, number: u32) -> Result<Maybe, LabError> {
        let name = "drop: spoof (MAC)";
        let declared = |p: &EndpointPlace| self.c.model.endpoints[p.endpoint].mac.is_some();
        let Some((shot, from, _)) = self.straight(|from, _| declared(from)) else {
            return Ok(Err((name, "no endpoint with a declared MAC may talk to its own tenant".to_owned())));
        };
        let wrong = derived_mac(&["spoof"]);
        self.by_endpoint(name, "spoof", from, &Self::fields(&shot), Some(wrong), number)
    }

    /// A workload's packet to its own node.
    fn to_host(&self, number: u32) -> Result<Maybe, LabError> {
        let name = "drop: to-host";
        let found = self.topology.endpoints.iter().enumerate().find_map(|(at, place)| {
            let vtep = self.topology.node(place.node)?.vtep;
            let own = place.addresses.iter().find(|a| a.ip.is_ipv4() == vtep.is_ipv4())?;
            Some((at, echo(own.ip, vtep)))
        });
        let Some((at, fields)) = found else {
            return Ok(Err((name, "no endpoint has an address of the underlay's family".to_owned())));
        };
        self.by_endpoint(name, "to-host", at, &fields, None, number)
    }

    fn by_endpoint(
        &self,
        name: &'static str,
        reason: &'static str,
        at: usize,
        fields: &Fields,
        mac: Option<[u8; 6]>,
        number: u32,
    ) -> Result<Maybe, LabError> {
        let nothing = || Ok(Err((name, "the endpoint is not in the lab".to_owned())));
        let Some(place) = self.topology.endpoints.get(at) else { return nothing() };
        let Some(node) = self.topology.node(place.node) else { return nothing() };
        let Some(tap) = self.taps.at(Place::Endpoint(at)) else { return nothing() };
        let gate = mac_of(&node.netns, &place.dev)?;
        let Some(frame) = wire::frame(mac.unwrap_or_else(|| tap.mac()), gate, fields, &self.mark(number))
        else {
            return nothing();
        };
        let endpoint = &self.c.model.endpoints[place.endpoint];
        let sender = format!("{}.{}", self.c.model.owners[endpoint.tenant].name, endpoint.name);
        let sent = format!("{} by {sender}", text(fields));
        Ok(Ok(Injection { name, reason, sent, from: tap.place, frame, node: node.node, packet: None }))
    }

    /// A VNI of no segment, from one node to another.
    fn unknown_vni(&self, number: u32) -> Result<Maybe, LabError> {
        let name = "drop: unknown-vni";
        let unused = (1..1 << 24).rev().find(|vni| self.c.model.segments.values().all(|s| s.vni != *vni));
        let hosts = |n: &&NodePlace| self.topology.endpoints.iter().any(|e| e.node == n.node);
        let to = self.topology.nodes.iter().find(hosts);
        let from = to.and_then(|to| {
            self.topology.nodes.iter().find(|n| n.node != to.node && self.chooser.lives(n.node))
        });
        let (Some(vni), Some(from), Some(to)) = (unused, from, to) else {
            return Ok(Err((name, "the fabric has no second node, or no VNI is free".to_owned())));
        };
        // Any inner packet: it is not looked at.
        let [a, b] = ["192.0.2.1", "192.0.2.2"].map(|a| a.parse().unwrap_or(IpAddr::from([0, 0, 0, 0])));
        self.tunnelled(name, "unknown-vni", (from, to), vni, &echo(a, b), number)
    }

    /// A neighbour's packet as it would be allowed, from a node that the neighbour does not live on.
    fn bad_vtep(&self, number: u32) -> Result<Maybe, LabError> {
        let name = "drop: bad-vtep";
        let liar = |owner: &EndpointPlace, target: &EndpointPlace| {
            self.topology
                .nodes
                .iter()
                .find(|n| n.node != owner.node && n.node != target.node && self.chooser.lives(n.node))
        };
        let found = self.straight(|from, to| liar(from, to).is_some()).and_then(|(shot, from, to)| {
            let target = self.topology.endpoints.get(to)?;
            let liar = liar(self.topology.endpoints.get(from)?, target)?;
            let segment = self.c.model.endpoints[target.endpoint].segment;
            Some((shot, liar, self.topology.node(target.node)?, self.c.model.segments[segment].vni))
        });
        let Some((shot, liar, to, vni)) = found else {
            return Ok(Err((name, "no two endpoints that may talk leave a third node".to_owned())));
        };
        self.tunnelled(name, "bad-vtep", (liar, to), vni, &Self::fields(&shot), number)
    }

    fn tunnelled(
        &self,
        name: &'static str,
        reason: &'static str,
        (from, to): (&NodePlace, &NodePlace),
        vni: u32,
        inner: &Fields,
        number: u32,
    ) -> Result<Maybe, LabError> {
        let nothing = || Ok(Err((name, "the fabric's devices are not in the lab".to_owned())));
        let tap = |node: &NodePlace| -> Option<&Tap> {
            let at = self.topology.nodes.iter().position(|n| n.node == node.node)?;
            self.taps.at(Place::Underlay(at))
        };
        let (Some(sender), Some(receiver)) = (tap(from), tap(to)) else { return nothing() };
        let router = router_mac(&to.netns, vni)?.unwrap_or([0xff; 6]);
        let own = router_mac(&from.netns, vni)?.unwrap_or_else(|| derived_mac(&["router"]));
        let outer = Outer { from: sender.mac(), to: receiver.mac(), src: from.vtep, dst: to.vtep, vni };
        let fabric = &self.c.model.fabric;
        let frame = wire::frame(own, router, inner, &self.mark(number))
            .and_then(|frame| wire::encapsulate(fabric.encap, fabric.port, &outer, &frame));
        let Some(frame) = frame else { return nothing() };
        let name_of = |node: NodeId| &self.c.model.nodes[node].name;
        let sent = format!("{} in VNI {vni} by node {}", text(inner), name_of(from.node));
        Ok(Ok(Injection { name, reason, sent, from: sender.place, frame, node: to.node, packet: None }))
    }

    /// From an external, with a source that is not the external's.
    fn unknown_source(&self, number: u32) -> Result<Maybe, LabError> {
        let name = "drop: unknown-source";
        let found = self.chooser.unknown_source().and_then(|(packet, decision, external)| {
            let cable = self.topology.externals.get(external)?.links.first()?;
            let tap = self.taps.at(Place::Link { external, link: 0 })?;
            Some((packet, decision, cable, tap))
        });
        let Some((packet, decision, cable, tap)) = found else {
            return Ok(Err((name, "no external leaves an address outside it".to_owned())));
        };
        let Some(node) = self.topology.node(cable.node) else {
            return Ok(Err((name, "the instance is not in the lab".to_owned())));
        };
        let gate = mac_of(&node.netns, &cable.dev)?;
        let address = |value| format_addr(packet.family, value);
        let (src, dst) = (address(packet.src), address(packet.dst));
        let fields = Fields { src, dst, protocol: packet.protocol, x: packet.x, y: packet.y };
        let Some(frame) = wire::frame(tap.mac(), gate, &fields, &self.mark(number)) else {
            return Ok(Err((name, "no external leaves an address outside it".to_owned())));
        };
        let sent = format!("{} by external {}", text(&fields), self.c.model.owners[packet.space].name);
        let packet = Some((packet, decision));
        Ok(Ok(Injection {
            name,
            reason: "unknown-source",
            sent,
            from: tap.place,
            frame,
            node: node.node,
            packet,
        }))
    }
}

fn echo(src: IpAddr, dst: IpAddr) -> Fields {
    match parse_addr(src).0 {
        Family::V4 => Fields { src, dst, protocol: proto::ICMP, x: 8, y: 0 },
        Family::V6 => Fields { src, dst, protocol: proto::ICMP6, x: 128, y: 0 },
    }
}

fn text(f: &Fields) -> String {
    let name = compiler::packet::protocol_name(f.protocol);
    match compiler::packet::fields(f.protocol) {
        compiler::packet::Fields::Ports => {
            let at = |ip, port| std::net::SocketAddr::new(ip, port);
            format!("{name} {} -> {}", at(f.src, f.x), at(f.dst, f.y))
        }
        compiler::packet::Fields::Icmp => format!("{name}/{}/{} {} -> {}", f.x, f.y, f.src, f.dst),
        compiler::packet::Fields::None => format!("proto/{name} {} -> {}", f.src, f.dst),
    }
}

/// The MAC that the node's device of this VNI has, or else any tunnel device there.
fn router_mac(netns: &str, vni: u32) -> Result<Option<[u8; 6]>, LabError> {
    let mut links = Vec::new();
    for kind in ["vxlan", "geneve"] {
        let json = tool::run("ip", &["-n", netns, "-d", "-j", "link", "show", "type", kind])?;
        let json = if json.trim().is_empty() { "[]" } else { json.trim() };
        // Listings of an absent kind hold empty objects.
        links.extend(
            serde_json::from_str::<Vec<Link>>(json)
                .map_err(|e| LabError::io(format!("cannot read the devices of {netns}"))(e.into()))?,
        );
    }
    let id = |l: &Link| l.linkinfo.as_ref()?.info_data.as_ref()?.id;
    let best =
        links.iter().find(|l| id(l) == Some(vni)).or_else(|| links.iter().find(|l| l.address.is_some()));
    Ok(best.and_then(|l| l.address.as_deref()).and_then(parse_mac))
}

fn parse_mac(text: &str) -> Option<[u8; 6]> {
    let bytes: Option<Vec<u8>> = text.split(':').map(|b| u8::from_str_radix(b, 16).ok()).collect();
    bytes?.try_into().ok()
}
