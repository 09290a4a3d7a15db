//! Questions about what is allowed on a channel, answered by boxes or by Z3.
//!
//! SOUNDNESS. "Yes" comes with a flow that the evaluator has confirmed, whichever engine found it. "No" is said when no box of
//! allowed flows is left ([`crate::flows`]), or by Z3; under [`Task::certify`] Z3 is asked besides, and a flow that it finds is a
//! [`Fault`]. What is too much for boxes is asked of Z3.

use crate::checks::Task;
use crate::encode::{Encoder, Frame};
use crate::flows::{Fence, Flows, Region, Through, TooWide};
use crate::properties;
use crate::replay;
use crate::scene::{Found, Scene};
use crate::solver::Fault;
use crate::terms::Term;
use compiler::algebra::{Family, RangeSet};
use compiler::eval;
use compiler::ids::ChannelId;
use compiler::packet::Flow;
use compiler::sets::ServiceSet;

/// Which engine answers, and what it keeps between questions.
#[derive(Debug, Clone, Copy)]
pub struct Judge<'a> {
    pub task: Task<'a>,
    /// `None`: Z3 answers.
    pub flows: Option<&'a Flows<'a>>,
}

/// Is there an allowed flow on a channel between these addresses, with one of these services?
#[derive(Debug, Clone, Copy)]
pub struct Question<'a> {
    pub channel: ChannelId,
    pub family: Family,
    pub src: &'a RangeSet,
    pub dst: &'a RangeSet,
    pub service: &'a ServiceSet,
    pub through: Through<'a>,
}

impl Judge<'_> {
    /// The flow that a reader expects, of those that the question is about.
    ///
    /// # Errors
    /// The engines and the evaluator do not agree.
    pub fn witness(&self, question: &Question<'_>) -> Result<Found, Fault> {
        self.answer(question, true)
    }

    /// Some flow that the question is about.
    ///
    /// # Errors
    /// The engines and the evaluator do not agree.
    pub fn any(&self, question: &Question<'_>) -> Result<Found, Fault> {
        self.answer(question, false)
    }

    fn answer(&self, question: &Question<'_>, preferred: bool) -> Result<Found, Fault> {
        let Some(narrow) = self.narrow(question) else { return Ok(Found::No) };
        let z3 = || self.by_z3(question, narrow.clone(), preferred);
        let Some(flows) = self.flows else { return z3() };
        match self.by_boxes(flows, question, preferred) {
            Err(TooWide) => z3(),
            Ok(flow) => self.settled(flow, |flow| self.shows(question, flow), z3, || format!("{question:?}")),
        }
    }

    /// An answer of boxes, once it has stood up to the evaluator, or, as far as that is asked for, to Z3.
    ///
    /// # Errors
    /// It does not.
    pub fn settled(
        &self,
        flow: Option<Flow>,
        shows: impl Fn(&Flow) -> bool,
        z3: impl FnOnce() -> Result<Found, Fault>,
        question: impl Fn() -> String,
    ) -> Result<Found, Fault> {
        match flow {
            Some(flow) if shows(&flow) => Ok(Found::Yes(flow)),
            Some(flow) => {
                let dump = format!("boxes hold {flow:?}, which the evaluator denies\n{}", question());
                Err(Fault::Mismatch { dump })
            }
            None if self.task.certify => match z3()? {
                Found::Yes(flow) => {
                    let dump = format!("Z3 found {flow:?}, which is in no box\n{}", question());
                    Err(Fault::Mismatch { dump })
                }
                other => Ok(other),
            },
            None => Ok(Found::No),
        }
    }

    /// The flows in question; `None` if there are none, allowed or not.
    fn narrow(&self, question: &Question<'_>) -> Option<Frame> {
        let channel = &self.task.c.channels[question.channel];
        let family = question.family;
        let (src, dst) = (channel.src_set.family(family), channel.dst_set.family(family));
        if !question.src.overlaps(src) || !question.dst.overlaps(dst) {
            return None;
        }
        let frame = Frame {
            src: channel.src,
            dst: channel.dst,
            family,
            src_set: question.src.intersect(src),
            dst_set: question.dst.intersect(dst),
        };
        frame.some_flow(&channel.service.intersect(question.service)).then_some(frame)
    }

    /// What the evaluator must say of an answer.
    fn shows(&self, question: &Question<'_>, flow: &Flow) -> bool {
        replay::goes_on(self.task.c, question.channel, flow)
            && flow.family == question.family
            && question.src.contains(flow.src.address)
            && question.dst.contains(flow.dst.address)
            && question.service.contains(flow.protocol, flow.x, flow.y)
            && question.through.counts(flow, &eval::decide_on_channel(self.task.c, question.channel, flow))
    }

    fn by_boxes(
        &self,
        flows: &Flows<'_>,
        question: &Question<'_>,
        preferred: bool,
    ) -> Result<Option<Flow>, TooWide> {
        let mut work = flows.work();
        let Question { channel: id, family, src, dst, service, through } = *question;
        let gateway = match through {
            Through::Any => Some(None),
            Through::Only(gateway) => Some(Some(gateway)),
            Through::Beside(..) => None,
        };
        if let Some(gateway) = gateway.filter(|_| !preferred) {
            let channel = &self.task.c.channels[id];
            let regions = Region::product(self.task.c, id, family, (src, dst, service), &mut work)?;
            let found = flows.any_allowed(id, &regions, gateway, &mut work)?;
            return Ok(found.and_then(|extent| extent.some_flow(channel.src, channel.dst, family)));
        }
        let wanted = Fence { src, dst, service: &service.boxes };
        flows.first_allowed(id, family, wanted, through, &mut work)
    }

    fn by_z3(&self, question: &Question<'_>, narrow: Frame, preferred: bool) -> Result<Found, Fault> {
        let mut encoder = Encoder::new(self.task.c, narrow);
        let decision = encoder.decision(question.channel);
        let service = encoder.service(question.service);
        let term: Term = match question.through {
            Through::Any => properties::allowed(&mut encoder.pool, service, &decision),
            Through::Only(gateway) => properties::allowed_via(&mut encoder.pool, service, &decision, gateway),
            Through::Beside(hole, gateway) => {
                properties::allowed_beside(&mut encoder, service, &decision, (hole, gateway))
            }
        };
        let mut scene = Scene::with_base(encoder, decision.possible, self.task.budget);
        let shows = |flow: &Flow| self.shows(question, flow);
        if preferred { scene.witness(term, &shows) } else { scene.ask(term, &shows) }
    }
}
