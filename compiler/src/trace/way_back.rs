//! What comes after the decision: the gateway instance that carries the connection, and the way of its replies.

use super::Teller;
use crate::algebra::{Family, format_addr};
use crate::buckets::{self, Direction};
use crate::eval::{Decision, Way};
use crate::ids::{GatewayId, NodeId};
use crate::packet::{Fields, Flow, Packet, fields, proto};
use crate::replies;
use crate::wire::packet_text;
use lang::ast::OnFailureWord;

/// The ICMP types that are answered, with the answer's type (RFC 792, RFC 4443).
const ANSWERED: [(u8, u16, u16); 5] = [
    (proto::ICMP, 8, 0),
    (proto::ICMP, 13, 14),
    (proto::ICMP, 15, 16),
    (proto::ICMP, 17, 18),
    (proto::ICMP6, 128, 129),
];

impl Teller<'_> {
    pub(super) fn outcome(&mut self, d: &Decision, flow: &Flow, way: Way) {
        let verdict = if d.allow { "allow" } else { "deny" };
        self.say(0, format!("verdict: {verdict} ({})", d.reason.as_str()), None);
        if !d.allow {
            return;
        }
        let Some(gateway) = d.via else {
            self.say(1, "straight from node to node", None);
            self.reply(flow, way, None);
            return;
        };
        if let Some(instance) = self.instance(gateway, flow) {
            self.masquerade(gateway, instance, flow);
            self.reply(flow, way, Some(gateway));
        }
    }

    fn node(&self, id: NodeId) -> String {
        self.c.model.nodes[id].name.clone()
    }

    /// Which instance carries the connection, and which one would if it failed.
    fn instance(&mut self, id: GatewayId, flow: &Flow) -> Option<NodeId> {
        let gateway = &self.c.model.gateways[id];
        let (name, on_failure) = (gateway.name.clone(), gateway.on_failure);
        let mut down: Vec<NodeId> =
            gateway.instances.iter().copied().filter(|n| self.down.contains(n)).collect();
        let fallen: Vec<String> = down.iter().map(|n| self.node(*n)).collect();
        let without =
            if fallen.is_empty() { String::new() } else { format!(", {} being down", fallen.join(", ")) };
        let (a, b) = buckets::packet_bucket(gateway.affinity, flow, Direction::Request);
        let at = |down: &[NodeId]| buckets::passes(&self.c.model, id, flow, Direction::Request, down);
        let Some(instance) = at(&down) else {
            let why = match (fallen.is_empty(), on_failure) {
                (true, _) => "it has no instance",
                (false, OnFailureWord::Rehash) => "no instance is left",
                (false, OnFailureWord::Drop) => "the instance for it has failed (on-failure drop)",
            };
            self.say(1, format!("dropped at {name}: {why} (bucket {a}/{b}){without}"), None);
            return None;
        };
        self.say(1, format!("via {name}, instance {} (bucket {a}/{b}){without}", self.node(instance)), None);
        down.push(instance);
        let next = match buckets::passes(&self.c.model, id, flow, Direction::Request, &down) {
            Some(next) => format!("{} takes over", self.node(next)),
            None if on_failure == OnFailureWord::Drop => "the connection is dropped (on-failure drop)".into(),
            None => "no instance is left".into(),
        };
        self.say(1, format!("if {} fails, {next}", self.node(instance)), None);
        Some(instance)
    }

    /// The address with which a masqueraded connection leaves an instance.
    fn masquerade(&mut self, gateway: GatewayId, instance: NodeId, flow: &Flow) {
        let gateway = &self.c.model.gateways[gateway];
        let addresses = gateway.masquerade(flow.src.owner, flow.dst.owner, flow.family);
        let at = gateway.instances.iter().position(|n| *n == instance);
        let Some(address) = at.and_then(|at| addresses.get(at)) else { return };
        let clause = gateway
            .masquerades
            .iter()
            .find(|m| (m.tenant, m.external) == (flow.src.owner, flow.dst.owner))
            .map(|m| m.span);
        let text =
            format!("leaves as {}, the masquerade address of this instance", show(flow.family, *address));
        self.say(1, text, clause);
    }

    /// The way of a reply: as its sender writes it, the gateway instance, and as the client sees it.
    fn reply(&mut self, flow: &Flow, way: Way, via: Option<GatewayId>) {
        let Some((protocol, x, y)) = answer(flow) else { return };
        let packet = |space, src, dst| Packet { space, family: flow.family, src, dst, protocol, x, y };
        // The far end of a masqueraded connection sees an address of the instance that carries it, and of no other.
        let Some(seen) = replies::shown(self.c, flow, way) else {
            self.say(0, "reply to the masquerade address", None);
            self.say(1, "comes back to the instance that has it, the connection's own", None);
            return;
        };
        let sent = packet(flow.dst.owner, flow.dst.address, seen);
        self.say(0, format!("reply {}", packet_text(self.c, &sent)), None);
        let outside = !self.c.model.owners[flow.dst.owner].is_tenant();
        let target = replies::target(self.c, flow.dst.owner, flow.family, seen);
        let back = match target {
            _ if way.intra => via,
            // An external's own routers send it to where the connection came from, unless it is presented elsewhere.
            None if outside => via,
            Some(target) if target.end == flow.src => target.gateway,
            Some(target) => {
                let text =
                    format!("leads to {} instead of the client (PW0603)", self.end(flow.family, target.end));
                self.say(1, text, None);
                return;
            }
            None => {
                self.say(1, "no route leads back: the connection hangs (PW0603)", None);
                return;
            }
        };
        let how = match back {
            None => "straight from node to node".to_owned(),
            Some(gateway) => {
                let instance = buckets::passes(&self.c.model, gateway, flow, Direction::Reply, self.down);
                let instance = instance.map_or_else(|| "none".into(), |n| self.node(n));
                format!("via {}, instance {instance}", self.c.model.gateways[gateway].name)
            }
        };
        let asymmetric = back != via || {
            let at =
                |direction| via.and_then(|g| buckets::passes(&self.c.model, g, flow, direction, self.down));
            at(Direction::Request) != at(Direction::Reply)
        };
        let split = if asymmetric { ", another path than the connection's (PW0601)" } else { "" };
        self.say(1, format!("{how}{split}"), None);
        let presented = match way.exposure {
            Some(id) => self.c.model.exposures[id].present(flow.family, flow.dst.address),
            None => Some(flow.dst.address),
        };
        if let Some(presented) = presented {
            let arrives = packet(flow.src.owner, presented, flow.src.address);
            self.say(1, format!("arrives as {}", packet_text(self.c, &arrives)), None);
        }
    }
}

fn show(family: Family, address: u128) -> String {
    format_addr(family, address).to_string()
}

/// Protocol and fields of a reply; `None` where nothing is answered (ICMP but for queries).
fn answer(flow: &Flow) -> Option<(u8, u16, u16)> {
    match fields(flow.protocol) {
        Fields::Ports => Some((flow.protocol, flow.y, flow.x)),
        Fields::None => Some((flow.protocol, 0, 0)),
        Fields::Icmp => {
            let answered = ANSWERED.iter().find(|(p, query, _)| (*p, *query) == (flow.protocol, flow.x));
            answered.map(|(_, _, reply)| (flow.protocol, *reply, 0))
        }
    }
}
