//! PW0502: flows between the two sides of an `isolate`.

use crate::checks::judge::{Judge, Question};
use crate::checks::{Findings, Task};
use crate::flows::Through;
use crate::scene::Found;
use crate::solver::Fault;
use compiler::Compiled;
use compiler::algebra::{Family, RangeSet};
use compiler::eval;
use compiler::ids::{ChannelId, OwnerId};
use compiler::model::Isolate;
use compiler::packet::Flow;
use compiler::sets::{EndSet, ServiceSet};
use compiler::wire;
use lang::codes::Code;
use lang::diag::Diagnostic;
use rayon::prelude::*;
use std::collections::BTreeSet;

/// The two sides of an `isolate`: what is in one of its sets and not in the other. A flow with both ends in X or both in Y
/// does not count, so a flow that counts has one end in each of these.
#[derive(Debug, Clone, Copy)]
pub struct Sides<'c> {
    c: &'c Compiled,
    isolate: &'c Isolate,
}

/// One side, or the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Side {
    What,
    From,
}

impl Side {
    #[must_use]
    pub fn other(self) -> Self {
        match self {
            Self::What => Self::From,
            Self::From => Self::What,
        }
    }
}

impl<'c> Sides<'c> {
    #[must_use]
    pub fn new(c: &'c Compiled, isolate: &'c Isolate) -> Self {
        Self { c, isolate }
    }

    /// An owner's addresses of one side.
    #[must_use]
    pub fn of(&self, side: Side, owner: OwnerId, family: Family) -> RangeSet {
        let (what, from) =
            (self.isolate.what.of(owner).family(family), self.isolate.from.of(owner).family(family));
        let only = match side {
            Side::What => what.subtract(from),
            Side::From => from.subtract(what),
        };
        only.intersect(self.c.model.owners[owner].universe.family(family))
    }

    /// Owners in one of whom every flow in question begins or ends; `None`: they may be any.
    fn listed(&self) -> Option<BTreeSet<OwnerId>> {
        let owners = |set: &EndSet| set.owners.iter().map(|(owner, _)| *owner).collect();
        let (what, from) = (&self.isolate.what, &self.isolate.from);
        match (what.rest.is_empty(), from.rest.is_empty()) {
            (true, _) => Some(owners(what)),
            (false, true) => Some(owners(from)),
            (false, false) => None,
        }
    }

    /// The channels on which a flow from one side to the other may go, ascending.
    fn channels(&self) -> Vec<ChannelId> {
        let c = self.c;
        // Every such flow has an end on each side.
        let Some(listed) = self.listed() else { return c.channels.ids().collect() };
        let ids: BTreeSet<ChannelId> =
            listed.iter().flat_map(|owner| c.channels_of[*owner].iter().copied()).collect();
        ids.into_iter().collect()
    }
}

/// The flows that break an `isolate`: one finding for each channel on which there is one.
///
/// # Errors
/// The engines and the evaluator do not agree.
pub fn direct(judge: Judge<'_>, isolate: &Isolate) -> Result<Findings, Fault> {
    let task = judge.task;
    let mut out = Findings::default();
    let sides = Sides::new(task.c, isolate);
    let found: Vec<(ChannelId, Found)> = sides
        .channels()
        .into_par_iter()
        .filter(|id| !task.skips(*id))
        .map(|id| Ok((id, violation(judge, isolate, sides, id)?)))
        .collect::<Result<_, Fault>>()?;
    for (id, found) in found {
        match found {
            Found::No => {}
            Found::Yes(flow) => out.diagnostics.push(report(task, isolate, id, &flow)),
            Found::Undecided => {
                let channel = &task.c.channels[id];
                let (src, dst) = (task.owner(channel.src), task.owner(channel.dst));
                let question = format!("whether a flow from `{src}` to `{dst}` breaks the isolation");
                out.undecided(task, isolate.span, &question, None);
            }
        }
    }
    Ok(out)
}

fn violation(judge: Judge<'_>, isolate: &Isolate, sides: Sides<'_>, id: ChannelId) -> Result<Found, Fault> {
    let channel = &judge.task.c.channels[id];
    let all = ServiceSet::all();
    let through = match &isolate.allowing {
        Some((service, gateway)) => Through::Beside(service, *gateway),
        None => Through::Any,
    };
    let mut undecided = false;
    for family in Family::BOTH {
        for side in [Side::What, Side::From] {
            let src = sides.of(side, channel.src, family);
            let dst = sides.of(side.other(), channel.dst, family);
            let question = Question { channel: id, family, src: &src, dst: &dst, service: &all, through };
            match judge.witness(&question)? {
                Found::No => {}
                Found::Yes(flow) => return Ok(Found::Yes(flow)),
                Found::Undecided => undecided = true,
            }
        }
    }
    Ok(if undecided { Found::Undecided } else { Found::No })
}

fn report(task: Task<'_>, isolate: &Isolate, id: ChannelId, flow: &Flow) -> Diagnostic {
    let c = task.c;
    let decision = eval::decide_on_channel(c, id, flow);
    let (src, dst) = (task.owner(flow.src.owner), task.owner(flow.dst.owner));
    let text = eval::packet_on_channel(c, id, flow).map(|p| wire::packet_text(c, &p)).unwrap_or_default();
    let message = format!("isolation is broken by a flow from `{src}` to `{dst}`: {text} is allowed");
    let help = match (&isolate.allowing, decision.via) {
        (None, Some(gateway)) => format!(
            "deny the flow in a tier above, or leave a hole: `allowing SERVICE via {}`",
            c.model.gateways[gateway].name
        ),
        _ => "deny the flow in a tier above the rule that allows it, or take that rule or exposure back"
            .to_owned(),
    };
    let finding =
        Diagnostic::new(Code::PW0502, isolate.span, message).label("declared isolated here").help(help);
    let finding = task.explain(finding, id, &decision);
    match task.witness(id, flow) {
        Some(witness) => finding.witness(witness),
        None => finding,
    }
}
