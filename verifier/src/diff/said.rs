//! What a side says of one flow, in the words of `eval`, and confirmed by it.

use crate::diff::cells::{Path, Said};
use crate::diff::names::{Names, Side};
use crate::diff::speaking;
use crate::replay;
use crate::solver::Fault;
use compiler::Compiled;
use compiler::algebra::format_addr;
use compiler::eval::{self, Decision, Reason, Resolution};
use compiler::packet::{Flow, Packet};
use compiler::wire::{self, DecisionLine, PacketLine};
use std::net::IpAddr;

/// What a side says of a flow.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Saying {
    /// There is a packet that would open it, and this is decided.
    Decided(Box<Reached>),
    /// No packet means this flow: its source or its destination has no owner of that name there.
    Absent,
    /// No packet means this flow: the address under which it could be reached means another end there.
    Elsewhere,
}

/// A packet and its decision.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reached {
    pub packet: PacketLine,
    /// `tcp 10.1.0.5:40000 -> 10.1.1.9:5432 in shop`
    pub text: String,
    pub decision: DecisionLine,
    /// The rule of the first view that denies; absent where the flow is allowed, dropped, or denied by default.
    pub denied_by: Option<String>,
    /// Every way on which it is allowed, that of `packet` first.
    pub ways: Vec<Seen>,
    as_seen: Packet,
}

/// A way on which a flow is allowed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    pub via: Option<String>,
    /// The destination's address as the source sees it.
    pub dst: IpAddr,
    /// The source's address as the destination sees it; with a masquerade, one for each instance.
    pub src: Vec<IpAddr>,
}

impl Saying {
    /// The packet as seen in the source's space.
    pub(super) fn packet(&self) -> Option<Packet> {
        match self {
            Self::Decided(reached) => Some(reached.as_seen),
            Self::Absent | Self::Elsewhere => None,
        }
    }

    #[must_use]
    pub fn decided(&self) -> Option<&Reached> {
        match self {
            Self::Decided(reached) => Some(reached),
            Self::Absent | Self::Elsewhere => None,
        }
    }
}

/// What the side says on which the flow is allowed.
pub(super) fn allowing(
    names: &Names<'_>,
    side: Side,
    flow: Option<Flow>,
    said: &[Said],
) -> Result<Saying, Fault> {
    let mismatch =
        || Fault::Mismatch { dump: format!("{side:?} allows {flow:?} by {said:?}, but on no channel") };
    let flow = flow.ok_or_else(mismatch)?;
    let on = speaking(said).filter(|said| said.path.is_some()).ok_or_else(mismatch)?;
    on_channel(names, side, &flow, on, said)
}

/// What a side says. `hint`: the packet that opens the flow on the other side.
pub(super) fn saying(
    names: &Names<'_>,
    side: Side,
    flow: Option<Flow>,
    said: &[Said],
    hint: Option<Packet>,
) -> Result<Saying, Fault> {
    let Some(flow) = flow else { return Ok(Saying::Absent) };
    if let Some(on) = speaking(said) {
        return on_channel(names, side, &flow, on, said);
    }
    // On no channel: the packet that means the flow on the other side is dropped here, or means another one.
    let c = names.compiled(side);
    let seen = hint.map_or(flow.dst.address, |packet| packet.dst);
    for dst in [seen, flow.dst.address] {
        let packet = Packet {
            space: flow.src.owner,
            family: flow.family,
            src: flow.src.address,
            dst,
            protocol: flow.protocol,
            x: flow.x,
            y: flow.y,
        };
        let Ok(resolution) = eval::resolve(c, &packet) else { continue };
        let meant = match resolution {
            // What is dropped before its destination is known could have meant the flow.
            Resolution::Dropped { reason, from, to } => {
                let unknown = reason == Reason::UnknownSource || from == Some(flow.src);
                unknown && to.is_none_or(|to| to == flow.dst)
            }
            Resolution::Flow { flow: meant, .. } if meant == flow => {
                let dump = format!("{side:?}: {packet:?} opens {flow:?}, which is on no channel");
                return Err(Fault::Mismatch { dump });
            }
            Resolution::Flow { .. } => false,
        };
        if meant && let Ok(decision) = eval::decide(c, &packet) {
            return Ok(Saying::Decided(Box::new(reached(c, packet, &decision, Vec::new()))));
        }
    }
    Ok(Saying::Elsewhere)
}

/// SOUNDNESS: the flow is on the channel, and the evaluator gives the packet that opens it there the verdict that the box has.
fn on_channel(names: &Names<'_>, side: Side, flow: &Flow, on: &Said, all: &[Said]) -> Result<Saying, Fault> {
    let c = names.compiled(side);
    let mismatch = |what: &dyn std::fmt::Debug| Fault::Mismatch {
        dump: format!("{side:?}: {flow:?}\nboxes: {on:?}\nevaluator: {what:?}"),
    };
    for said in all {
        let decision = eval::decide_on_channel(c, said.channel, flow);
        let via = decision.via.map(|gateway| names.gateway(side, gateway));
        let expected = said.path.as_ref().map(|path| path.via);
        if !replay::goes_on(c, said.channel, flow) || decision.allow.then_some(via) != expected {
            return Err(mismatch(&decision));
        }
    }
    let packet = eval::packet_on_channel(c, on.channel, flow).ok_or_else(|| mismatch(&"no packet"))?;
    let decision = eval::decide(c, &packet).map_err(|error| mismatch(&error))?;
    let ends = decision.from == Some(flow.src) && decision.to == Some(flow.dst);
    if !ends || decision.allow != on.path.is_some() {
        return Err(mismatch(&decision));
    }
    let mut ways: Vec<Seen> = Vec::new();
    let first = on.path.iter();
    for path in first.chain(all.iter().filter_map(|said| said.path.as_ref())) {
        let seen = seen(c, names, side, flow, path);
        if !ways.contains(&seen) {
            ways.push(seen);
        }
    }
    Ok(Saying::Decided(Box::new(reached(c, packet, &decision, ways))))
}

fn reached(c: &Compiled, as_seen: Packet, decision: &Decision, ways: Vec<Seen>) -> Reached {
    let denies = [decision.egress, decision.ingress].into_iter().flatten().find(|view| !view.allow);
    Reached {
        denied_by: denies.and_then(|view| wire::decider_name(c, view.by)).map(str::to_owned),
        packet: wire::packet_line(c, &as_seen),
        text: wire::packet_text(c, &as_seen),
        decision: wire::decision_line(c, as_seen.family, decision),
        ways,
        as_seen,
    }
}

fn seen(c: &Compiled, names: &Names<'_>, side: Side, flow: &Flow, path: &Path) -> Seen {
    let gateways = c.model.gateways.iter();
    let via = path.via.and_then(|number| {
        let mut of = gateways.filter(|(id, _)| names.gateway(side, *id) == number);
        of.next().map(|(_, gateway)| gateway.name.clone())
    });
    let address = |real: u128, offset: u128| format_addr(flow.family, real.wrapping_add(offset));
    let src = match path.masquerade.as_slice() {
        [] => vec![address(flow.src.address, path.src)],
        addresses => addresses.to_vec(),
    };
    Seen { via, dst: address(flow.dst.address, path.dst), src }
}
