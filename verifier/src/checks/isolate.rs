//! PW0502: flows between the two sides of an `isolate`.

use crate::checks::{Findings, Task};
use crate::encode::{Encoder, Frame};
use crate::properties;
use crate::replay;
use crate::scene::{Found, Scene};
use crate::solver::Fault;
use compiler::Compiled;
use compiler::algebra::{Family, RangeSet};
use compiler::eval;
use compiler::ids::{ChannelId, OwnerId};
use compiler::model::Isolate;
use compiler::packet::Flow;
use compiler::wire;
use lang::codes::Code;
use lang::diag::Diagnostic;

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

    /// Whether a decision on a flow from one side to the other breaks the isolation.
    #[must_use]
    pub fn violated_by(&self, flow: &Flow, decision: &eval::Decision) -> bool {
        let hole = self.isolate.allowing.as_ref().is_some_and(|(service, gateway)| {
            service.contains(flow.protocol, flow.x, flow.y) && decision.via == Some(*gateway)
        });
        decision.allow && !hole
    }
}

/// The flows that break an `isolate`: one finding for each channel on which there is one.
///
/// # Errors
/// The solver contradicts the evaluator.
pub fn direct(task: Task<'_>, isolate: &Isolate) -> Result<Findings, Fault> {
    let mut out = Findings::default();
    let sides = Sides::new(task.c, isolate);
    for id in task.c.channels.ids().filter(|id| !task.skips(*id)) {
        match violation(task, isolate, sides, id)? {
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

fn violation(task: Task<'_>, isolate: &Isolate, sides: Sides<'_>, id: ChannelId) -> Result<Found, Fault> {
    let channel = &task.c.channels[id];
    let mut undecided = false;
    for family in Family::BOTH {
        let Some(frame) = Frame::of_channel(channel, family) else { continue };
        for side in [Side::What, Side::From] {
            let narrow = Frame {
                src_set: frame.src_set.intersect(&sides.of(side, channel.src, family)),
                dst_set: frame.dst_set.intersect(&sides.of(side.other(), channel.dst, family)),
                ..frame.clone()
            };
            if !narrow.some_flow(&channel.service) {
                continue;
            }
            let mut encoder = Encoder::new(task.c, narrow);
            let decision = encoder.decision(id);
            let hole = isolate.allowing.as_ref().map(|(service, gateway)| (&**service, *gateway));
            let term = properties::allowed_beside(&mut encoder, crate::terms::Term::TRUE, &decision, hole);
            let mut scene = Scene::with_base(encoder, decision.possible, task.budget);
            let shows = |flow: &Flow| {
                replay::goes_on(task.c, id, flow)
                    && sides.violated_by(flow, &eval::decide_on_channel(task.c, id, flow))
            };
            match scene.witness(term, &shows)? {
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
