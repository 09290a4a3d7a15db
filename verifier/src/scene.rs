//! A frame, its encoding and its solver: where a question is asked, its answer replayed, and its witness chosen.

use crate::encode::{DecisionTerms, Encoder, Frame};
use crate::solver::{Answer, Fault, Solver, Values, Z3};
use crate::terms::{Term, Var};
use compiler::Compiled;
use compiler::algebra::{Family, RangeSet, parse_addr};
use compiler::ids::{ChannelId, OwnerId};
use compiler::packet::{End, Fields, Flow, fields, proto};

/// The answer to "is there a flow such that …".
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Found {
    No,
    /// There is; this one has been replayed.
    Yes(Flow),
    /// The budget is spent.
    Undecided,
}

/// The flows of one frame, under question.
#[derive(Debug)]
pub struct Scene<'c> {
    pub encoder: Encoder<'c>,
    /// Made for the first question that does not fold.
    solver: Option<Z3>,
    /// What every flow in question satisfies; asserted once.
    base: Term,
    budget: u32,
    /// Steps that the last question took.
    pub spent: u64,
}

impl<'c> Scene<'c> {
    /// All flows between the frame's ends, whether they are possible or not.
    #[must_use]
    pub fn new(c: &'c Compiled, frame: Frame, budget: u32) -> Self {
        let mut encoder = Encoder::new(c, frame);
        let parts = [encoder.in_frame(), encoder.well_formed()];
        let base = encoder.pool.and(parts);
        Self::with_base(encoder, base, budget)
    }

    /// The flows of one family that go on a channel, with the decision on them; `None` if there are none.
    #[must_use]
    pub fn of_channel(
        c: &'c Compiled,
        id: ChannelId,
        family: Family,
        budget: u32,
    ) -> Option<(Self, DecisionTerms)> {
        let frame = Frame::of_channel(&c.channels[id], family)?;
        let mut encoder = Encoder::new(c, frame);
        let decision = encoder.decision(id);
        let scene = Self::with_base(encoder, decision.possible, budget);
        Some((scene, decision))
    }

    /// The flows of the encoder's frame that satisfy `base`.
    #[must_use]
    pub fn with_base(encoder: Encoder<'c>, base: Term, budget: u32) -> Self {
        Self { encoder, solver: None, base, budget, spent: 0 }
    }

    /// Opens a level with one more assertion and decides it. The caller closes the level.
    fn open(&mut self, term: Term) -> Result<Answer, Fault> {
        let pool = &self.encoder.pool;
        let solver = match &mut self.solver {
            Some(solver) => solver,
            none => {
                let mut solver = Z3::new(self.encoder.frame().family, self.budget)?;
                solver.assert(pool, self.base)?;
                none.insert(solver)
            }
        };
        solver.push();
        solver.assert(pool, term)?;
        let before = solver.spent();
        let answer = solver.check();
        self.spent = solver.spent().saturating_sub(before);
        answer
    }

    fn close(&mut self) {
        if let Some(solver) = &mut self.solver {
            solver.pop();
        }
    }

    /// Whether some flow satisfies `term`. `shows` replays it: what the reference evaluator must say of such a flow.
    ///
    /// # Errors
    /// A flow that the solver found does not stand up to the replay.
    pub fn ask(&mut self, term: Term, shows: &dyn Fn(&Flow) -> bool) -> Result<Found, Fault> {
        if term == Term::FALSE {
            return Ok(Found::No);
        }
        let found = self.ask_open(term, shows);
        self.close();
        found
    }

    fn ask_open(&mut self, term: Term, shows: &dyn Fn(&Flow) -> bool) -> Result<Found, Fault> {
        match self.open(term)? {
            Answer::Unsat => Ok(Found::No),
            Answer::Unknown => Ok(Found::Undecided),
            Answer::Sat(values) => {
                let flow = self.flow(values);
                self.replay(term, &flow, shows)?;
                Ok(Found::Yes(flow))
            }
        }
    }

    /// SOUNDNESS: a flow counts only if it satisfies the term when that is evaluated, and shows in the reference
    /// evaluator what the term is meant to say.
    fn replay(&self, term: Term, flow: &Flow, shows: &dyn Fn(&Flow) -> bool) -> Result<(), Fault> {
        let pool = &self.encoder.pool;
        let (in_base, in_term, shown) = (pool.holds(self.base, flow), pool.holds(term, flow), shows(flow));
        if in_base && in_term && shown {
            return Ok(());
        }
        let dump = format!(
            "flow {flow:?}\nbase {in_base}, term {in_term}, evaluator {shown}\nframe {:?}\nbase:\n{}term:\n{}",
            self.encoder.frame(),
            pool.dump(self.base),
            pool.dump(term),
        );
        Err(Fault::Mismatch { dump })
    }

    fn flow(&self, values: Values) -> Flow {
        let frame = self.encoder.frame();
        Flow {
            src: End { owner: frame.src, address: values.src },
            dst: End { owner: frame.dst, address: values.dst },
            family: frame.family,
            protocol: values.protocol,
            x: values.x,
            y: values.y,
        }
    }

    /// As [`Scene::ask`], with the flow that a reader expects: tcp, udp, icmp/icmp6, then the smallest protocol; a declared
    /// endpoint's address if one fits, else the smallest, the source's first; a source port from 32768 up if one fits;
    /// then the smallest of each. It depends on the term's meaning alone, never on the model that the solver chose.
    ///
    /// # Errors
    /// A flow that the solver found does not stand up to the replay.
    pub fn witness(&mut self, term: Term, shows: &dyn Fn(&Flow) -> bool) -> Result<Found, Fault> {
        if term == Term::FALSE {
            return Ok(Found::No);
        }
        let found = self.ask_open(term, shows).and_then(|found| match found {
            Found::Yes(flow) => {
                let mut search = Search { scene: self, best: flow, depth: 0 };
                let done = search.all();
                let (best, depth) = (search.best, search.depth);
                for _ in 0..depth {
                    self.close();
                }
                done?;
                self.replay(term, &best, shows)?;
                Ok(Found::Yes(best))
            }
            other => Ok(other),
        });
        self.close();
        found
    }
}

/// The search for the preferred flow: each step narrows one field if some flow is left, and keeps that flow.
struct Search<'a, 'c> {
    scene: &'a mut Scene<'c>,
    best: Flow,
    /// Levels that were opened.
    depth: usize,
}

impl Search<'_, '_> {
    fn all(&mut self) -> Result<(), Fault> {
        let frame = self.scene.encoder.frame().clone();
        self.protocol(frame.family)?;
        self.address(Var::Src, frame.src, &frame.src_set, frame.family)?;
        self.address(Var::Dst, frame.dst, &frame.dst_set, frame.family)?;
        let all = RangeSet::range(0, u16::MAX.into());
        let ephemeral = RangeSet::range(32768, u16::MAX.into());
        let ports = fields(self.best.protocol) == Fields::Ports;
        let within = if ports && self.prefer(Var::X, &ephemeral)? { &ephemeral } else { &all };
        self.smallest(Var::X, within)?;
        self.smallest(Var::Y, &all)
    }

    fn protocol(&mut self, family: Family) -> Result<(), Fault> {
        let icmp = if family == Family::V4 { proto::ICMP } else { proto::ICMP6 };
        for protocol in [proto::TCP, proto::UDP, icmp] {
            let one = RangeSet::range(protocol.into(), protocol.into());
            if self.prefer(Var::Protocol, &one)? {
                return Ok(());
            }
        }
        self.smallest(Var::Protocol, &RangeSet::range(0, u8::MAX.into()))
    }

    fn address(&mut self, var: Var, owner: OwnerId, set: &RangeSet, family: Family) -> Result<(), Fault> {
        let declared = endpoint_addresses(self.scene.encoder.compiled(), owner, family).intersect(set);
        let within = if self.prefer(var, &declared)? { &declared } else { set };
        self.smallest(var, within)
    }

    /// Keeps to flows whose field is in the set, if there are any.
    fn prefer(&mut self, var: Var, set: &RangeSet) -> Result<bool, Fault> {
        let term = self.scene.encoder.ranges(var, set);
        if let Some(value) = term.as_bool() {
            return Ok(value);
        }
        if let Answer::Sat(values) = self.scene.open(term)? {
            self.depth += 1;
            self.best = self.scene.flow(values);
            return Ok(true);
        }
        // None, or out of budget: then the flow at hand stays, which is a witness as good, if not the preferred one.
        self.scene.close();
        Ok(false)
    }

    /// Keeps to flows with the smallest value of a field, which lies in `within` for all that are left.
    fn smallest(&mut self, var: Var, within: &RangeSet) -> Result<(), Fault> {
        // The first range that holds some flow's value, by halving.
        let ranges = within.ranges();
        let (mut from, mut to) = (0, ranges.partition_point(|(_, hi)| *hi < var.of(&self.best)));
        while from < to {
            let middle = from + (to - from) / 2;
            let hi = ranges.get(middle).map_or(0, |r| r.1);
            if self.prefer(var, &RangeSet::range(0, hi))? {
                to = ranges.partition_point(|(_, hi)| *hi < var.of(&self.best));
            } else {
                from = middle + 1;
            }
        }
        // Within it, usually the lowest; else by halving.
        let mut lo = ranges.get(to).map_or(0, |r| r.0);
        while lo < var.of(&self.best) {
            if self.prefer(var, &RangeSet::range(lo, lo))? {
                break;
            }
            lo += 1;
            let middle = lo + (var.of(&self.best) - lo) / 2;
            if lo < var.of(&self.best) && !self.prefer(var, &RangeSet::range(lo, middle))? {
                lo = middle + 1;
            }
        }
        let value = var.of(&self.best);
        self.prefer(var, &RangeSet::range(value, value)).map(|_| ())
    }
}

/// The addresses of an owner's declared endpoints.
#[must_use]
pub fn endpoint_addresses(c: &Compiled, owner: OwnerId, family: Family) -> RangeSet {
    let endpoints = c.model.endpoints.values().filter(|e| e.tenant == owner);
    let addresses = endpoints.flat_map(|e| &e.addresses).map(|a| parse_addr(*a));
    RangeSet::from_ranges(addresses.filter(|(f, _)| *f == family).map(|(_, a)| (a, a)).collect())
}
