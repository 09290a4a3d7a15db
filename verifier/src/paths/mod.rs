//! Composed forwarding: where a packet goes after its first table, and which way its replies take.
//!
//! SOUNDNESS. A packet meets one table per space, and each of its destinations means one end there:
//!
//! - Inside a tenant, on a direct route and under an exposure the first table leads to the end: the space that it leads to has that
//!   address in a segment, for whatever would take it from there is PW0302, PW0303 or PW0304. Only an external hands a packet on that
//!   was not meant for it, to a gateway that presents a tenant at that address ([`onward`]).
//! - Replies under an exposure find back through its gateway: a client whose address, as shown, led elsewhere is `not-exposed`, and
//!   whatever else could name that address in the provider's space is PW0302, PW0303 or PW0305. Direct routes and flows to externals have
//!   no such guard ([`replies`]).
//! - Which instance a packet passes is a function of its bucket. Under `symmetric` and `flow` both directions of a connection have one
//!   bucket by construction ([`compiler::buckets::packet_bucket`]), whatever has failed; only `source` can part them ([`instances`]).
//!   Which instance an external's routers send a packet to is no part of a project, and is taken to be the right one.
//!
//! What is allowed on a channel is taken from [`crate::flows`], and every witness is replayed in the reference evaluator.

pub mod forwarding;
mod instances;
mod onward;
mod replies;

use crate::checks::{Findings, Task};
use crate::cover::Work;
use crate::encode::{Encoder, Frame};
use crate::flows::{Allowed, Extent, Flows, Region, TooWide};
use crate::properties;
use crate::replay;
use crate::scene::{Found, Scene};
use crate::solver::Fault;
use crate::terms::Term;
use compiler::algebra::{Family, RangeSet};
use compiler::compiled::{Channel, ChannelKind, Destination};
use compiler::eval::{self, Decision};
use compiler::ids::{ChannelId, GatewayId, NodeId, OwnerId, RouteId};
use compiler::packet::{Flow, Packet};
use compiler::sets::ServiceSet;
use lang::diag::Diagnostic;
use std::cell::OnceCell;
use std::collections::BTreeSet;

/// PW0501, PW0601, PW0603, PW0604.
///
/// # Errors
/// The evaluator contradicts what was found.
pub fn check(task: Task<'_>) -> Result<Findings, Fault> {
    let paths = Paths { task, masqueraded: task.c.model.masqueraded(), flows: OnceCell::new() };
    let mut out = replies::check(&paths)?;
    out.append(instances::check(&paths)?);
    out.append(onward::check(&paths)?);
    Ok(out)
}

/// What the checks of paths share.
struct Paths<'c> {
    task: Task<'c>,
    /// Gateway, tenant, external, family.
    masqueraded: BTreeSet<(GatewayId, OwnerId, OwnerId, Family)>,
    /// Made for the first question: most projects give rise to none.
    flows: OnceCell<Flows<'c>>,
}

impl<'c> Paths<'c> {
    fn flows(&self) -> &Flows<'c> {
        self.flows.get_or_init(|| Flows::new(self.task.c, Work(self.task.work)))
    }

    fn channel(&self, id: ChannelId) -> &'c Channel {
        &self.task.c.channels[id]
    }

    /// The channel between two owners of this kind.
    fn find(&self, src: OwnerId, dst: OwnerId, kind: ChannelKind) -> Option<ChannelId> {
        let c = self.task.c;
        let ids = c.channels_of.as_slice().get(usize::try_from(src.0).ok()?)?;
        let key = |id: &ChannelId| (c.channels[*id].src, c.channels[*id].dst, c.channels[*id].kind);
        // Ascending ids are ascending channels.
        let at = ids.binary_search_by_key(&(src, dst, kind), key).ok()?;
        ids.get(at).copied()
    }

    /// What is allowed on a channel between some addresses.
    fn allowed(
        &self,
        id: ChannelId,
        family: Family,
        (src, dst): (&RangeSet, &RangeSet),
    ) -> Result<Vec<Allowed>, TooWide> {
        let mut work = self.flows().work();
        let all = ServiceSet::all();
        let regions = Region::product(self.task.c, id, family, (src, dst, &all), &mut work)?;
        self.flows().allowed_in(id, &regions, &mut work)
    }

    /// The preferred one of the allowed flows on a channel from some of its source addresses.
    fn some_allowed(&self, id: ChannelId, family: Family, src: &RangeSet) -> Result<Found, Fault> {
        let channel = self.channel(id);
        let dst = channel.dst_set.family(family);
        if !src.overlaps(channel.src_set.family(family)) || dst.is_empty() {
            return Ok(Found::No);
        }
        match self.allowed(id, family, (src, dst)) {
            Ok(allowed) => {
                let boxes: Vec<Extent> = allowed.iter().map(|a| a.extent).collect();
                match self.flows().witness(channel.src, channel.dst, family, &boxes) {
                    Some(flow) => self.replay(id, &flow).map(|_| Found::Yes(flow)),
                    None => Ok(Found::No),
                }
            }
            Err(TooWide) => self.ask(id, family, src),
        }
    }

    /// As [`Paths::some_allowed`], decided by Z3.
    fn ask(&self, id: ChannelId, family: Family, src: &RangeSet) -> Result<Found, Fault> {
        let (c, channel) = (self.task.c, self.channel(id));
        let Some(frame) = Frame::of_channel(channel, family) else { return Ok(Found::No) };
        let narrow = Frame { src_set: frame.src_set.intersect(src), ..frame };
        if !narrow.some_flow(&channel.service) {
            return Ok(Found::No);
        }
        let mut encoder = Encoder::new(c, narrow);
        let decision = encoder.decision(id);
        let term = properties::allowed(&mut encoder.pool, Term::TRUE, &decision);
        let shows = |flow: &Flow| replay::goes_on(c, id, flow) && eval::decide_on_channel(c, id, flow).allow;
        Scene::with_base(encoder, decision.possible, self.task.budget).witness(term, &shows)
    }

    /// SOUNDNESS: a flow counts only if the evaluator allows the packet that opens it, as its sender writes it.
    fn replay(&self, id: ChannelId, flow: &Flow) -> Result<(Packet, Decision), Fault> {
        let c = self.task.c;
        let packet = eval::packet_on_channel(c, id, flow);
        let decision = packet.and_then(|p| eval::decide(c, &p).ok());
        match (packet, decision) {
            (Some(packet), Some(decision))
                if decision.allow && (decision.from, decision.to) == (Some(flow.src), Some(flow.dst)) =>
            {
                Ok((packet, decision))
            }
            _ => {
                let channel = self.channel(id);
                let dump = format!(
                    "flow {flow:?} on {:?} is held to be allowed; packet {packet:?}, evaluator {decision:?}",
                    channel.kind
                );
                Err(Fault::Mismatch { dump })
            }
        }
    }

    /// Adds what let the flow go, and its packet, to a finding.
    fn told(&self, finding: Diagnostic, id: ChannelId, flow: &Flow, decision: &Decision) -> Diagnostic {
        let mut finding = self.task.explain(finding, id, decision);
        let here = finding.span;
        finding.related.retain(|label| label.span != here);
        match self.task.witness(id, flow) {
            Some(witness) => finding.witness(witness),
            None => finding,
        }
    }

    fn owner(&self, id: OwnerId) -> &'c str {
        self.task.owner(id)
    }

    /// ``tenant `shop` ``, ``external `hq` ``
    fn described(&self, id: OwnerId) -> String {
        let kind = if self.task.c.model.owners[id].is_tenant() { "tenant" } else { "external" };
        format!("{kind} `{}`", self.owner(id))
    }

    fn gateway(&self, id: GatewayId) -> &'c str {
        &self.task.c.model.gateways[id].name
    }

    fn node(&self, id: Option<NodeId>) -> &'c str {
        id.map_or("none", |id| self.task.c.model.nodes[id].name.as_str())
    }

    /// The route by which a tenant's flow leaves to an external.
    fn route(&self, flow: &Flow) -> Option<RouteId> {
        let range = self.task.c.spaces[flow.src.owner].destinations.get(flow.family, flow.dst.address)?;
        match range.target {
            Destination::External { route, .. } => Some(route),
            _ => None,
        }
    }
}
