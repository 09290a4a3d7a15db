//! `always`, `never` and `some` over all flows of a clause's sets.

use crate::checks::judge::{Judge, Question};
use crate::encode::{DecisionTerms, Frame};
use crate::flows::{Fence, Through, TooWide};
use crate::properties;
use crate::replay;
use crate::scene::{Found, Scene};
use crate::solver::Fault;
use compiler::Compiled;
use compiler::algebra::{Family, RangeSet};
use compiler::ids::{ChannelId, GatewayId, OwnerId};
use compiler::packet::Flow;
use compiler::sets::{EndSet, ServiceSet};
use lang::ast::Quantifier;
use rayon::prelude::*;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};

/// The sets of one clause.
#[derive(Clone, Copy)]
pub struct Sets<'c> {
    pub src: &'c EndSet,
    pub dst: &'c EndSet,
    pub service: &'c ServiceSet,
    pub via: Option<GatewayId>,
}

/// What is said of a clause.
pub enum Verdict {
    Holds,
    Undecided,
    /// The sets give no pair of ends.
    NoPair,
    /// `always` fails on this flow between the owners that these channels join.
    NotAlways(Vec<ChannelId>, Flow),
    /// `never` fails on this flow.
    Allowed(ChannelId, Flow),
    /// `some` fails.
    NoneAllowed,
}

/// An owner with addresses in a set, and these by family.
struct Touched {
    owner: OwnerId,
    v4: RangeSet,
    v6: RangeSet,
}

impl Touched {
    fn family(&self, family: Family) -> &RangeSet {
        match family {
            Family::V4 => &self.v4,
            Family::V6 => &self.v6,
        }
    }
}

/// The owners that have addresses in a set, ascending.
fn touched(c: &Compiled, set: &EndSet) -> Vec<Touched> {
    let of = |owner: OwnerId| {
        let (all, own) = (set.of(owner), &c.model.owners[owner].universe);
        let touched = Touched { owner, v4: all.v4.intersect(&own.v4), v6: all.v6.intersect(&own.v6) };
        (!touched.v4.is_empty() || !touched.v6.is_empty()).then_some(touched)
    };
    if set.rest.is_empty() {
        set.owners.iter().filter_map(|(owner, _)| of(*owner)).collect()
    } else {
        c.model.owners.ids().filter_map(of).collect()
    }
}

fn find(list: &[Touched], owner: OwnerId) -> Option<&Touched> {
    list.binary_search_by_key(&owner, |t| t.owner).ok().and_then(|at| list.get(at))
}

/// All flows of a clause between two owners in one family.
struct Pair<'t> {
    frame: Frame,
    /// The channels between them, ascending.
    channels: &'t [ChannelId],
}

/// A clause over the owners that it touches.
struct Clause<'c> {
    sets: Sets<'c>,
    sources: Vec<Touched>,
    destinations: Vec<Touched>,
    /// By source and destination.
    channels: BTreeMap<(OwnerId, OwnerId), Vec<ChannelId>>,
}

impl<'c> Sets<'c> {
    /// What the clause says, decided.
    ///
    /// # Errors
    /// The engines and the evaluator do not agree.
    pub fn verdict(self, judge: Judge<'_>, quantifier: Quantifier) -> Result<Verdict, Fault> {
        let task = judge.task;
        let tainted = &task.c.model.tainted;
        let concerns_tainted =
            tainted.iter().any(|o| !self.src.of(*o).is_empty() || !self.dst.of(*o).is_empty());
        let clause = Clause::new(task.c, self);
        if !clause.some_pair() {
            // A set may have lost what it had of an owner that was left out.
            return Ok(if concerns_tainted { Verdict::Holds } else { Verdict::NoPair });
        }
        let found = match quantifier {
            Quantifier::Always => clause.not_always(judge)?,
            Quantifier::Never => clause.allowed(judge, true)?,
            Quantifier::Some => clause.allowed(judge, false)?,
        };
        Ok(match (quantifier, found) {
            (Quantifier::Always, Told::Yes(channels, flow)) => Verdict::NotAlways(channels, flow),
            (Quantifier::Never, Told::Yes(channels, flow)) => match channels.first() {
                Some(channel) => Verdict::Allowed(*channel, flow),
                None => Verdict::Undecided,
            },
            (Quantifier::Some, Told::Yes(..)) => Verdict::Holds,
            (_, Told::Undecided) => Verdict::Undecided,
            (Quantifier::Some, Told::No) if !concerns_tainted => Verdict::NoneAllowed,
            (_, Told::No) => Verdict::Holds,
        })
    }
}

/// Whether there is such a flow, and the channels that it is about.
enum Told {
    No,
    Yes(Vec<ChannelId>, Flow),
    Undecided,
}

/// The first answer that is "yes", in the order of the questions; else whether one was left undecided.
fn first<T: Sync>(
    questions: &[T],
    ask: impl Fn(&T) -> Result<(Found, Vec<ChannelId>), Fault> + Sync,
) -> Result<Told, Fault> {
    // SOUNDNESS: it counts only where no question is answered with "yes", and then every question was asked.
    let undecided = AtomicBool::new(false);
    let found = questions.par_iter().find_map_first(|question| match ask(question) {
        Ok((Found::No, _)) => None,
        Ok((Found::Undecided, _)) => {
            undecided.store(true, Ordering::Relaxed);
            None
        }
        Ok((Found::Yes(flow), channels)) => Some(Ok(Told::Yes(channels, flow))),
        Err(fault) => Some(Err(fault)),
    });
    match found {
        Some(told) => told,
        None if undecided.load(Ordering::Relaxed) => Ok(Told::Undecided),
        None => Ok(Told::No),
    }
}

impl<'c> Clause<'c> {
    fn new(c: &Compiled, sets: Sets<'c>) -> Self {
        let (sources, destinations) = (touched(c, sets.src), touched(c, sets.dst));
        // Every channel in question touches the shorter list.
        let few = if sources.len() <= destinations.len() { &sources } else { &destinations };
        let ids: BTreeSet<ChannelId> =
            few.iter().flat_map(|t| c.channels_of[t.owner].iter().copied()).collect();
        let mut channels: BTreeMap<(OwnerId, OwnerId), Vec<ChannelId>> = BTreeMap::new();
        for id in ids {
            let channel = &c.channels[id];
            if find(&sources, channel.src).is_some() && find(&destinations, channel.dst).is_some() {
                channels.entry((channel.src, channel.dst)).or_default().push(id);
            }
        }
        Self { sets, sources, destinations, channels }
    }

    /// Whether the sets give a flow, possible or not.
    fn some_pair(&self) -> bool {
        Family::BOTH.into_iter().any(|family| {
            let has = |t: &&Touched| !t.family(family).is_empty();
            let sources = self.sources.iter().filter(has);
            // All but one of the destinations are of another owner than a source, and then there is a flow.
            sources.take(2).any(|src| {
                self.destinations.iter().filter(has).take(2).any(|dst| self.frame(src, dst, family).is_some())
            })
        })
    }

    fn frame(&self, src: &Touched, dst: &Touched, family: Family) -> Option<Frame> {
        let (src_set, dst_set) = (src.family(family).clone(), dst.family(family).clone());
        let frame = Frame { src: src.owner, dst: dst.owner, family, src_set, dst_set };
        frame.some_flow(self.sets.service).then_some(frame)
    }

    /// A flow on which `always` fails.
    fn not_always(&self, judge: Judge<'_>) -> Result<Told, Fault> {
        let mut pairs: Vec<Pair<'_>> = Vec::new();
        'all: for src in self.sources.iter().filter(|t| !judge.task.tainted(t.owner)) {
            for dst in self.destinations.iter().filter(|t| !judge.task.tainted(t.owner)) {
                let channels = self.channels.get(&(src.owner, dst.owner)).map_or(&[][..], Vec::as_slice);
                let frames = Family::BOTH.into_iter().filter_map(|family| self.frame(src, dst, family));
                for frame in frames {
                    pairs.push(Pair { frame, channels });
                    if channels.is_empty() {
                        // Nothing can be allowed here: no question after this one needs an answer.
                        break 'all;
                    }
                }
            }
        }
        first(&pairs, |pair| Ok((self.fails_between(judge, pair)?, pair.channels.to_vec())))
    }

    /// A flow between two owners on which `always` fails.
    fn fails_between(&self, judge: Judge<'_>, pair: &Pair<'_>) -> Result<Found, Fault> {
        let c = judge.task.c;
        let shows = |flow: &Flow| {
            let decisions = replay::decisions(c, pair.channels, flow);
            let allowed = decisions.iter().any(|(_, d)| d.allow);
            let astray = decisions.iter().any(|(_, d)| d.allow && !replay::allows(d, self.sets.via));
            !allowed || astray
        };
        let z3 = || {
            let mut scene = Scene::new(c, pair.frame.clone(), judge.task.budget);
            let decisions: Vec<DecisionTerms> =
                pair.channels.iter().map(|id| scene.encoder.decision(*id)).collect();
            let pairs = scene.encoder.service(self.sets.service);
            let term = properties::not_always(&mut scene.encoder.pool, pairs, &decisions, self.sets.via);
            scene.witness(term, &shows)
        };
        let Some(flows) = judge.flows else { return z3() };
        let frame = &pair.frame;
        let wanted = Fence { src: &frame.src_set, dst: &frame.dst_set, service: &self.sets.service.boxes };
        let ends = (frame.src, frame.dst, frame.family);
        match flows.first_astray(ends, pair.channels, wanted, self.sets.via, &mut flows.work()) {
            Err(TooWide) => z3(),
            Ok(flow) => judge.settled(flow, shows, z3, || format!("always, {frame:?}")),
        }
    }

    /// An allowed flow, on the first channel that has one; the preferred one if that is to be shown.
    fn allowed(&self, judge: Judge<'_>, preferred: bool) -> Result<Told, Fault> {
        let mut questions: Vec<Question<'_>> = Vec::new();
        let via = self.sets.via.map_or(Through::Any, Through::Only);
        for ((src, dst), channels) in &self.channels {
            let (Some(src), Some(dst)) = (find(&self.sources, *src), find(&self.destinations, *dst)) else {
                continue;
            };
            for family in Family::BOTH {
                let (src, dst) = (src.family(family), dst.family(family));
                if src.is_empty() || dst.is_empty() {
                    continue;
                }
                questions.extend(channels.iter().filter(|id| !judge.task.skips(**id)).map(|id| Question {
                    channel: *id,
                    family,
                    src,
                    dst,
                    service: self.sets.service,
                    through: via,
                }));
            }
        }
        first(&questions, |question| {
            let found = if preferred { judge.witness(question) } else { judge.any(question) };
            Ok((found?, vec![question.channel]))
        })
    }
}
