//! The flow that a reader expects, of those that answer a question, found without listing the others.
//!
//! SOUNDNESS AND COMPLETENESS. The first flow of a box, decided or not, comes no later in the readers' order than the first of any part
//! of it. So where boxes are taken up in the order of their first flows, and cut as in [`crate::flows::walk`], the first box all of whose
//! flows answer the question has the first of all that do: every box that is still to be taken up comes later. If none is left, no
//! flow answers it.

use crate::cover::Work;
use crate::cover::extent::Extent;
use crate::cover::witness::{Between, Place};
use crate::flows::TooWide;
use crate::flows::fence::{Fence, Lies};
use crate::flows::sheet::{Settled, Sheet, Sheets};
use crate::flows::through::Through;
use compiler::compiled::{Channel, ChannelKind};
use compiler::eval::ViewDecision;
use compiler::ids::GatewayId;
use compiler::packet::Flow;
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::rc::Rc;
use std::sync::Arc;

/// Pairs of address ranges along which a box is cut before it is shown to the views; where it meets more, what the views deny
/// is dropped first.
const PAIRS: usize = 16;

/// Which flows answer the question.
#[derive(Debug, Clone, Copy)]
pub enum Goal<'a> {
    /// Those that are allowed on some channel and count.
    Allowed(Through<'a>),
    /// Those that are allowed on no channel, or on one that does not go through this gateway.
    Astray(Option<GatewayId>),
}

/// A channel, and both views on it.
pub struct Lane<'a> {
    pub channel: &'a Channel,
    pub sheets: Arc<Sheets>,
}

/// A question about the flows between two owners.
pub struct Chase<'a> {
    pub between: Between<'a>,
    /// The flows in question.
    pub wanted: Fence<'a>,
    pub goal: Goal<'a>,
    /// The channels on which they may go.
    pub lanes: Vec<Lane<'a>>,
}

/// Where a box has got to.
#[derive(Debug, Clone, Copy)]
enum At {
    /// Before the fence of all that is in question.
    Start,
    /// Before the fence of a channel.
    Lane,
    /// In the source's view.
    Egress,
    /// In the destination's view, after what the source's said.
    Ingress(Option<ViewDecision>),
    /// Allowed, but before fences that it was led past; with what the source's view said.
    Fence(Option<ViewDecision>),
    /// Allowed through a gateway, beside a hole or in it.
    Hole,
}

struct Step {
    place: Place,
    /// The order in which boxes were cut, which settles ties.
    number: u64,
    extent: Extent,
    at: At,
    /// Boxes of the view that it is in that may meet it, ascending.
    near: Rc<[u32]>,
    known: Known,
}

/// What is known of a box besides.
#[derive(Debug, Clone, Copy, Default)]
struct Known {
    /// Position of the channel that is in question.
    lane: usize,
    /// It is allowed on a channel before.
    allowed: bool,
    /// It was led past a fence.
    unfenced: bool,
}

impl PartialEq for Step {
    fn eq(&self, other: &Self) -> bool {
        (self.place, self.number) == (other.place, other.number)
    }
}

impl Eq for Step {}

impl PartialOrd for Step {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Step {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.place, self.number).cmp(&(other.place, other.number))
    }
}

/// Boxes still to be taken up, the one with the first flow first.
#[derive(Default)]
struct Todo {
    heap: BinaryHeap<Reverse<Step>>,
    count: u64,
    parts: Vec<Extent>,
}

/// What a step has come to.
enum Outcome {
    /// The box is dropped, or is on its way again.
    On,
    /// All flows of the box answer the question.
    Found,
}

impl Chase<'_> {
    /// The first flow that answers the question.
    ///
    /// # Errors
    /// The work is used up.
    pub fn first(&self, work: &mut Work) -> Result<Option<Flow>, TooWide> {
        let mut todo = Todo::default();
        let ends = |ranges: &[(u128, u128)]| Some((ranges.first()?.0, ranges.last()?.1));
        let sides = ends(self.wanted.src.ranges()).zip(ends(self.wanted.dst.ranges()));
        let Some((src, dst)) = sides else { return Ok(None) };
        for service in self.wanted.service {
            let around = Extent { src, dst, ..Extent::all(self.between.family) }.with_service(service);
            self.push(&mut todo, around, At::Start, Known::default(), &Rc::default());
        }
        while let Some(Reverse(step)) = todo.heap.pop() {
            if !work.spend(step.near.len() + 1) {
                return Err(TooWide);
            }
            let place = step.place;
            if matches!(self.step(step, &mut todo), Outcome::Found) {
                return Ok(Some(self.between.flow(&place)));
            }
        }
        Ok(None)
    }

    fn push(&self, todo: &mut Todo, extent: Extent, at: At, known: Known, near: &Rc<[u32]>) {
        // A box without a flow has no place.
        if let Some(place) = self.between.place(&extent) {
            todo.count += 1;
            let number = todo.count;
            todo.heap.push(Reverse(Step { place, number, extent, at, near: near.clone(), known }));
        }
    }

    /// Cuts a box along another: both sides go on from where it is.
    fn cut(&self, todo: &mut Todo, step: &Step, along: &Extent, near: &Rc<[u32]>) {
        let mut parts = std::mem::take(&mut todo.parts);
        parts.clear();
        step.extent.minus(along, &mut parts);
        parts.extend(step.extent.intersect(along));
        for part in &parts {
            self.push(todo, *part, step.at, step.known, near);
        }
        todo.parts = parts;
    }

    /// Puts a box before the next channel, or at the end of all.
    fn next_lane(&self, todo: &mut Todo, step: &Step, allowed: bool) -> Outcome {
        let lane = step.known.lane + 1;
        if lane < self.lanes.len() {
            let known = Known { lane, allowed, unfenced: false };
            self.push(todo, step.extent, At::Lane, known, &Rc::default());
            return Outcome::On;
        }
        self.end(allowed)
    }

    fn end(&self, allowed: bool) -> Outcome {
        match self.goal {
            Goal::Astray(_) if !allowed => Outcome::Found,
            _ => Outcome::On,
        }
    }

    /// Whether a box may be led past a fence, which it meets in many places. What is astray must be known to be in question.
    fn leads_past(&self, fence: &Fence<'_>, extent: &Extent) -> bool {
        matches!(self.goal, Goal::Allowed(_)) && fence.pairs(extent) > PAIRS
    }

    fn step(&self, step: Step, todo: &mut Todo) -> Outcome {
        match step.at {
            At::Start => {
                let lies = self.wanted.lies(&step.extent);
                let past = matches!(lies, Lies::Across(_)) && self.leads_past(&self.wanted, &step.extent);
                match lies {
                    Lies::Outside => Outcome::On,
                    Lies::Across(along) if !past => self.again(todo, &step, &along),
                    Lies::Inside | Lies::Across(_) if self.lanes.is_empty() => self.end(false),
                    Lies::Inside | Lies::Across(_) => {
                        let known = Known { unfenced: past, ..step.known };
                        self.push(todo, step.extent, At::Lane, known, &step.near);
                        Outcome::On
                    }
                }
            }
            At::Lane => {
                let Some(lane) = self.lanes.get(step.known.lane) else { return Outcome::On };
                let fence = Fence::of_channel(lane.channel, self.between.family);
                let lies = fence.lies(&step.extent);
                let past = matches!(lies, Lies::Across(_)) && self.leads_past(&fence, &step.extent);
                match lies {
                    Lies::Outside => self.next_lane(todo, &step, step.known.allowed),
                    Lies::Across(along) if !past => self.again(todo, &step, &along),
                    Lies::Inside | Lies::Across(_) => {
                        let known = Known { unfenced: step.known.unfenced || past, ..step.known };
                        self.enter(
                            todo,
                            &Step { known, ..step },
                            lane,
                            At::Egress,
                            lane.sheets.egress.as_ref(),
                        )
                    }
                }
            }
            At::Egress => self.view(todo, &step, None, false),
            At::Ingress(egress) => self.view(todo, &step, egress, true),
            At::Fence(egress) => self.fenced(todo, step, egress),
            At::Hole => self.hole(todo, &step),
        }
    }

    /// Cuts an allowed box along the fences that it was led past.
    fn fenced(&self, todo: &mut Todo, step: Step, egress: Option<ViewDecision>) -> Outcome {
        let Some(lane) = self.lanes.get(step.known.lane) else { return Outcome::On };
        match self.wanted.lies(&step.extent) {
            Lies::Outside => return Outcome::On,
            Lies::Across(along) => return self.again(todo, &step, &along),
            Lies::Inside => {}
        }
        match Fence::of_channel(lane.channel, self.between.family).lies(&step.extent) {
            Lies::Outside => return self.next_lane(todo, &step, step.known.allowed),
            Lies::Across(along) => return self.again(todo, &step, &along),
            Lies::Inside => {}
        }
        let known = Known { unfenced: false, ..step.known };
        self.is_allowed(todo, &Step { known, ..step }, lane, egress)
    }

    fn again(&self, todo: &mut Todo, step: &Step, along: &Extent) -> Outcome {
        self.cut(todo, step, along, &step.near);
        Outcome::On
    }

    /// Puts a box at the start of a view, or behind it if nobody's view is asked there.
    fn enter(&self, todo: &mut Todo, step: &Step, lane: &Lane<'_>, at: At, sheet: Option<&Sheet>) -> Outcome {
        match (sheet, at) {
            (Some(sheet), _) => {
                let near: Rc<[u32]> = sheet.near(&step.extent).into();
                self.push(todo, step.extent, at, step.known, &near);
                Outcome::On
            }
            (None, At::Egress) => {
                let inward = At::Ingress(None);
                self.enter(todo, step, lane, inward, lane.sheets.ingress.as_ref())
            }
            (None, At::Ingress(egress)) => self.is_allowed(todo, step, lane, egress),
            (None, At::Start | At::Lane | At::Fence(_) | At::Hole) => Outcome::On,
        }
    }

    fn view(&self, todo: &mut Todo, step: &Step, egress: Option<ViewDecision>, inward: bool) -> Outcome {
        let Some(lane) = self.lanes.get(step.known.lane) else { return Outcome::On };
        let sheet = if inward { lane.sheets.ingress.as_ref() } else { lane.sheets.egress.as_ref() };
        let Some(sheet) = sheet else { return Outcome::On };
        let near = sheet.nearer(&step.near, &step.extent);
        if !sheet.may_allow(&near) {
            return self.next_lane(todo, step, step.known.allowed);
        }
        match sheet.settle(&step.extent, &near) {
            Settled::Cut(along) => {
                self.cut(todo, step, &along, &near.into());
                Outcome::On
            }
            Settled::Alike(decision) if !decision.allow => self.next_lane(todo, step, step.known.allowed),
            Settled::Alike(_) if inward => self.is_allowed(todo, step, lane, egress),
            Settled::Alike(decision) => {
                let inward = At::Ingress(Some(decision));
                self.enter(todo, step, lane, inward, lane.sheets.ingress.as_ref())
            }
        }
    }

    /// All flows of the box are allowed on this channel.
    fn is_allowed(
        &self,
        todo: &mut Todo,
        step: &Step,
        lane: &Lane<'_>,
        egress: Option<ViewDecision>,
    ) -> Outcome {
        if step.known.unfenced {
            self.push(todo, step.extent, At::Fence(egress), step.known, &Rc::default());
            return Outcome::On;
        }
        let intra = lane.channel.kind == ChannelKind::Intra;
        let via = if intra { egress.and_then(|view| view.via) } else { lane.channel.gateway };
        match self.goal {
            Goal::Allowed(Through::Any) => Outcome::Found,
            Goal::Allowed(Through::Only(gateway)) if via == Some(gateway) => Outcome::Found,
            Goal::Allowed(Through::Only(_)) => self.next_lane(todo, step, true),
            Goal::Allowed(Through::Beside(_, gateway)) if via == Some(gateway) => self.hole(todo, step),
            Goal::Allowed(Through::Beside(..)) => Outcome::Found,
            Goal::Astray(Some(gateway)) if via != Some(gateway) => Outcome::Found,
            Goal::Astray(Some(_)) => self.next_lane(todo, step, true),
            // Allowed on one channel is enough.
            Goal::Astray(None) => Outcome::On,
        }
    }

    /// The part of an allowed box that is not in the hole counts.
    fn hole(&self, todo: &mut Todo, step: &Step) -> Outcome {
        let Goal::Allowed(Through::Beside(service, _)) = self.goal else { return Outcome::On };
        let around = service.boxes.iter().map(|service| step.extent.with_service(service));
        let Some(along) = around.into_iter().find(|other| other.overlaps(&step.extent)) else {
            return Outcome::Found;
        };
        let mut parts = Vec::new();
        step.extent.minus(&along, &mut parts);
        for part in parts {
            self.push(todo, part, At::Hole, step.known, &Rc::default());
        }
        Outcome::On
    }
}
