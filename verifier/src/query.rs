//! Which flows are allowed, exactly, as disjoint boxes.

mod rows;
mod services;

pub use rows::{Row, addresses, rows};
pub use services::{ServicePart, Services};

use crate::flows::{Extent, Flows, Region, TooWide, subtract};
use crate::replay;
use crate::solver::Fault;
use compiler::Compiled;
use compiler::algebra::Family;
use compiler::eval;
use compiler::ids::{ChannelId, GatewayId, OwnerId};
use compiler::packet::{End, Flow, field_max, possible_protocol};
use compiler::sets::{EndSet, ServiceSet};
use rayon::prelude::*;
use std::collections::BTreeMap;

/// Allowed flows between two owners, in one family, through one gateway. Addresses are real ones.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AllowedFlows {
    pub src: OwnerId,
    pub dst: OwnerId,
    pub family: Family,
    /// `None`: through no gateway.
    pub via: Option<GatewayId>,
    /// Disjoint, ascending, never empty.
    pub rows: Vec<Row>,
}

/// Why there is no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoAnswer {
    #[error(
        "the flows from `{src}` to `{dst}` fall into more boxes than the bound allows; ask for fewer of them"
    )]
    TooWide { src: String, dst: String },
    #[error(transparent)]
    Fault(#[from] Fault),
}

/// Every allowed flow from `src` to `dst` with one of the services, ordered by source, destination, family and gateway. A flow
/// that may go through two gateways stands in the rows of both; the rows of one gateway are disjoint.
///
/// # Errors
/// There are too many boxes, or the reference evaluator contradicts one.
pub fn query(
    flows: &Flows<'_>,
    src: &EndSet,
    dst: &EndSet,
    service: &ServiceSet,
) -> Result<Vec<AllowedFlows>, NoAnswer> {
    let c = flows.compiled();
    let mut pairs: BTreeMap<(OwnerId, OwnerId), Vec<ChannelId>> = BTreeMap::new();
    for (id, channel) in c.channels.iter() {
        if src.of(channel.src).overlaps(&channel.src_set) && dst.of(channel.dst).overlaps(&channel.dst_set) {
            pairs.entry((channel.src, channel.dst)).or_default().push(id);
        }
    }
    let pairs: Vec<_> = pairs.into_iter().collect();
    let found: Vec<Vec<AllowedFlows>> = pairs
        .par_iter()
        .map(|((from, to), channels)| {
            let mut out = Vec::new();
            for family in Family::BOTH {
                let by = between(flows, channels, family, (src, dst, service)).map_err(|e| match e {
                    Stop::TooWide => NoAnswer::TooWide {
                        src: c.model.owners[*from].name.clone(),
                        dst: c.model.owners[*to].name.clone(),
                    },
                    Stop::Fault(fault) => fault.into(),
                })?;
                for (via, extents) in by {
                    let rows = rows(family, &extents);
                    if !rows.is_empty() {
                        out.push(AllowedFlows { src: *from, dst: *to, family, via, rows });
                    }
                }
            }
            Ok(out)
        })
        .collect::<Result<_, NoAnswer>>()?;
    Ok(found.into_iter().flatten().collect())
}

enum Stop {
    TooWide,
    Fault(Fault),
}

impl From<TooWide> for Stop {
    fn from(_: TooWide) -> Self {
        Self::TooWide
    }
}

fn between(
    flows: &Flows<'_>,
    channels: &[ChannelId],
    family: Family,
    (src, dst, service): (&EndSet, &EndSet, &ServiceSet),
) -> Result<BTreeMap<Option<GatewayId>, Vec<Extent>>, Stop> {
    let c = flows.compiled();
    let mut by: BTreeMap<Option<GatewayId>, Vec<Extent>> = BTreeMap::new();
    for id in channels {
        let channel = &c.channels[*id];
        let sets = (src.of(channel.src).family(family), dst.of(channel.dst).family(family), service);
        let mut work = flows.work();
        let regions = Region::product(c, *id, family, sets, &mut work)?;
        for allowed in flows.allowed_in(*id, &regions, &mut work)? {
            replayed(c, *id, family, &allowed.extent, allowed.via).map_err(Stop::Fault)?;
            let known = by.entry(allowed.via).or_default();
            // Two channels through one gateway may carry the same flows.
            let new = if channels.len() == 1 {
                vec![allowed.extent]
            } else {
                subtract(&[allowed.extent], known, &mut work)?
            };
            known.extend(new);
        }
    }
    Ok(by)
}

/// SOUNDNESS: the first flow of each box is decided by the reference evaluator too.
fn replayed(
    c: &Compiled,
    id: ChannelId,
    family: Family,
    extent: &Extent,
    via: Option<GatewayId>,
) -> Result<(), Fault> {
    let channel = &c.channels[id];
    let Some(flow) = lowest(channel.src, channel.dst, family, extent) else { return Ok(()) };
    let decision = eval::decide_on_channel(c, id, &flow);
    if replay::goes_on(c, id, &flow) && decision.allow && decision.via == via {
        return Ok(());
    }
    Err(Fault::Mismatch {
        dump: format!("box {extent:?} via {via:?}\nflow {flow:?}\nevaluator {decision:?}"),
    })
}

/// A flow of a box; `None` if it holds none.
pub(crate) fn lowest(src: OwnerId, dst: OwnerId, family: Family, extent: &Extent) -> Option<Flow> {
    let protocol = possible_protocol(&extent.service(), family)?;
    let (x_max, y_max) = field_max(protocol);
    let (from, mut to) = (extent.src.0, extent.dst.0);
    let mut flow = Flow {
        src: End { owner: src, address: from },
        dst: End { owner: dst, address: to },
        family,
        protocol,
        x: extent.x.0.min(x_max),
        y: extent.y.0.min(y_max),
    };
    if src == dst && from == to {
        if extent.dst.0 < extent.dst.1 {
            to += 1;
            flow.dst.address = to;
        } else if extent.src.0 < extent.src.1 {
            flow.src.address = from + 1;
        } else {
            return None;
        }
    }
    Some(flow)
}
