//! PW0601: gateways that pick an instance by the sender alone, so that a reply passes another one than what it answers.
//!
//! What an instance is picked by are the cells of the two ends ([`compiler::buckets::end_hash`]), 64 in all. Cells that are given to the
//! same instances, all of them alive and after each single failure, are of one *kind*; a connection's directions part if and only
//! if its two ends' cells are of different kinds. So a box of flows holds such a connection unless all of its addresses are of one kind.

use crate::checks::Findings;
use crate::flows::{Extent, TooWide};
use crate::paths::Paths;
use crate::scene::endpoint_addresses;
use crate::solver::Fault;
use compiler::algebra::{Family, RangeSet};
use compiler::buckets::{self, CELLS, Direction};
use compiler::compiled::ChannelKind;
use compiler::ids::{ChannelId, GatewayId, NodeId};
use compiler::model::Action;
use compiler::packet::{End, Flow};
use compiler::wire;
use lang::ast::AffinityWord;
use lang::codes::Code;
use lang::diag::Diagnostic;

/// Addresses that are looked at, one by one, for one of another kind. Neighbours fall into cells as if at random, so two or three
/// are enough, unless somebody has chosen them.
const LOOKED_AT: usize = 1 << 18;

pub(super) fn check(paths: &Paths<'_>) -> Result<Findings, Fault> {
    let mut out = Findings::default();
    for (id, gateway) in paths.task.c.model.gateways.iter() {
        // PW0602 says it of stateful ones, whatever their flows.
        if gateway.affinity != AffinityWord::Source || gateway.stateful || gateway.instances.len() < 2 {
            continue;
        }
        let kinds = Kinds::new(paths, id);
        if kinds.all_alike() {
            continue;
        }
        match split(paths, id, &kinds)? {
            Outcome::None => {}
            Outcome::Split(channel, flow) => out.diagnostics.push(report(paths, id, channel, &flow)?),
            Outcome::Undecided => {
                let question = format!("whether replies pass another instance of gateway `{}`", gateway.name);
                out.too_wide(gateway.affinity_span, &question);
            }
        }
    }
    Ok(out)
}

/// The instances that a cell is given to: all alive, then without each of them in turn.
type Given = Vec<Option<NodeId>>;

/// By cell.
struct Kinds(Vec<Given>);

/// What of the instances has to differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum When {
    AllAlive,
    OneFailed,
}

impl Kinds {
    fn new(paths: &Paths<'_>, id: GatewayId) -> Self {
        let model = &paths.task.c.model;
        let gateway = &model.gateways[id];
        let given = |cell: u8| -> Given {
            let at =
                |down: &[NodeId]| buckets::live_instance(model, gateway, buckets::bucket(cell, cell), down);
            let failures = gateway.instances.iter().map(|node| at(&[*node]));
            std::iter::once(at(&[])).chain(failures).collect()
        };
        Self((0..CELLS).map(|cell| given(u8::try_from(cell).unwrap_or(0))).collect())
    }

    fn all_alike(&self) -> bool {
        self.0.windows(2).all(|pair| pair.first() == pair.last())
    }

    /// What of an address's instances is compared.
    fn of(&self, family: Family, address: u128, when: When) -> &[Option<NodeId>] {
        let given =
            self.0.get(usize::from(buckets::end_hash(family, address))).map_or(&[][..], Vec::as_slice);
        match when {
            When::AllAlive => given.get(..1).unwrap_or_default(),
            When::OneFailed => given,
        }
    }
}

enum Outcome {
    None,
    Split(ChannelId, Flow),
    Undecided,
}

/// The first channel on which the directions part with all instances alive, else the first on which they do after a failure.
fn split(paths: &Paths<'_>, gateway: GatewayId, kinds: &Kinds) -> Result<Outcome, Fault> {
    let mut undecided = false;
    let mut after_failure: Option<(ChannelId, Flow)> = None;
    for id in paths.task.c.channels.ids().filter(|id| passes(paths, *id, gateway)) {
        for family in Family::BOTH {
            let mut boxes: Vec<Extent> = Vec::new();
            match paths.flows().allowed(id, family, None) {
                Ok(allowed) => {
                    boxes.extend(allowed.iter().filter(|a| a.via == Some(gateway)).map(|a| a.extent))
                }
                Err(TooWide) => undecided = true,
            }
            for when in [When::AllAlive, When::OneFailed] {
                if when == When::OneFailed && after_failure.is_some() {
                    continue;
                }
                match among(paths, (id, family), &boxes, kinds, when) {
                    Ok(None) => {}
                    Ok(Some(flow)) if when == When::AllAlive => return Ok(Outcome::Split(id, flow)),
                    Ok(Some(flow)) => after_failure = Some((id, flow)),
                    Err(TooWide) => undecided = true,
                }
            }
        }
    }
    Ok(match after_failure {
        Some((id, flow)) => Outcome::Split(id, flow),
        None if undecided => Outcome::Undecided,
        None => Outcome::None,
    })
}

/// Whether flows of a channel may pass the gateway: its own, or those inside a tenant that a rule steers through it.
fn passes(paths: &Paths<'_>, id: ChannelId, gateway: GatewayId) -> bool {
    let model = &paths.task.c.model;
    let channel = paths.channel(id);
    let steers = || {
        let joined = model.gateways[gateway].joins.binary_search(&channel.src).is_ok();
        joined && model.rules.values().any(|r| r.action == Action::Allow { via: Some(gateway) })
    };
    !paths.task.skips(id)
        && match channel.kind {
            ChannelKind::Intra => steers(),
            _ => channel.gateway == Some(gateway),
        }
}

/// The preferred flow of some boxes whose two ends are of different kinds.
fn among(
    paths: &Paths<'_>,
    (id, family): (ChannelId, Family),
    boxes: &[Extent],
    kinds: &Kinds,
    when: When,
) -> Result<Option<Flow>, TooWide> {
    let channel = paths.channel(id);
    let kind = |address: u128| kinds.of(family, address, when);
    let src_declared = endpoint_addresses(paths.task.c, channel.src, family);
    let dst_declared = endpoint_addresses(paths.task.c, channel.dst, family);
    let mut narrowed: Vec<Extent> = Vec::new();
    for extent in boxes {
        let first = kind(extent.dst.0);
        let src = match first_of(extent.dst, None, |a| kind(a) != first)? {
            // Destinations of two kinds: one of them goes with every source.
            Some(_) => Some(preferred(extent.src, &src_declared).unwrap_or(extent.src.0)),
            None => first_of(extent.src, Some(&src_declared), |a| kind(a) != first)?,
        };
        let Some(src) = src else { continue };
        let own = kind(src);
        if let Some(dst) = first_of(extent.dst, Some(&dst_declared), |a| kind(a) != own)? {
            narrowed.push(Extent { src: (src, src), dst: (dst, dst), ..*extent });
        }
    }
    Ok(paths.flows().witness(channel.src, channel.dst, family, &narrowed))
}

/// The first declared address of a range, else the first of all, of which this holds.
fn first_of(
    (lo, hi): (u128, u128),
    declared: Option<&RangeSet>,
    holds: impl Fn(u128) -> bool,
) -> Result<Option<u128>, TooWide> {
    let here = declared.map(|set| set.intersect(&RangeSet::range(lo, hi))).unwrap_or_default();
    let mut known = here.ranges().iter().flat_map(|(lo, hi)| *lo..=*hi);
    if let Some(address) = known.find(|a| holds(*a)) {
        return Ok(Some(address));
    }
    match (lo..=hi).take(LOOKED_AT).find(|a| holds(*a)) {
        Some(address) => Ok(Some(address)),
        None if hi - lo < LOOKED_AT as u128 => Ok(None),
        None => Err(TooWide),
    }
}

/// The first declared address of a range.
fn preferred((lo, hi): (u128, u128), declared: &RangeSet) -> Option<u128> {
    declared.intersect(&RangeSet::range(lo, hi)).first()
}

fn report(paths: &Paths<'_>, id: GatewayId, channel: ChannelId, flow: &Flow) -> Result<Diagnostic, Fault> {
    let c = paths.task.c;
    let (packet, decision) = paths.replay(channel, flow)?;
    let gateway = &c.model.gateways[id];
    let at = |direction, down: &[NodeId]| buckets::passes(&c.model, id, flow, direction, down);
    let alive = (at(Direction::Request, &[]), at(Direction::Reply, &[]));
    let failure = gateway.instances.iter().find(|node| {
        let down = [**node];
        at(Direction::Request, &down) != at(Direction::Reply, &down)
    });
    // SOUNDNESS: the kinds of cells were asked about; this is the instance that the trace and the targets name.
    let (failed, (there, back)) = match failure {
        _ if alive.0 != alive.1 => (None, alive),
        Some(node) => (Some(*node), (at(Direction::Request, &[*node]), at(Direction::Reply, &[*node]))),
        None => {
            let dump = format!("{flow:?} is held to part at gateway `{}`", gateway.name);
            return Err(Fault::Mismatch { dump });
        }
    };
    let text = wire::packet_text(c, &packet);
    let (there, back) = (paths.node(there), paths.node(back));
    let message = match failed {
        None => format!(
            "gateway `{}` picks instances by the source alone: {text} passes `{there}`, its replies `{back}`",
            gateway.name
        ),
        Some(node) => format!(
            "gateway `{}` picks instances by the source alone: once `{}` has failed, {text} passes `{there}`, its replies `{back}`",
            gateway.name,
            paths.node(Some(node))
        ),
    };
    let show = |end: End| {
        format!("{} {}", paths.owner(end.owner), compiler::algebra::format_addr(flow.family, end.address))
    };
    let cell = |end: End| buckets::end_hash(flow.family, end.address);
    let mut finding = Diagnostic::new(Code::PW0601, gateway.affinity_span, message)
        .label("a reply has another sender than what it answers")
        .help("write `affinity symmetric`: both directions of a connection then pick one instance, whichever have failed")
        .note(format!(
            "{} is in cell {}, {} in cell {}",
            show(flow.src),
            cell(flow.src),
            show(flow.dst),
            cell(flow.dst)
        ));
    if failed.is_some() {
        finding = finding.note(format!("with all instances alive both pass `{}`", paths.node(alive.0)));
    }
    Ok(paths.told(finding, channel, flow, &decision))
}
