//! PW0503: chains of allowed flows between the two sides of an `isolate … transitively`.
//!
//! SOUNDNESS AND COMPLETENESS. Addresses of one owner fall into *classes*: two addresses are of one class if every set that
//! a channel, a rule or the `isolate` names contains both or neither. No decision tells two addresses of a class apart,
//! except that an end has no flow to itself. So if a flow is allowed from `p` to some `q` of a class, flows are allowed from
//! `p` to every member of that class but `p` itself; a search that adds whole classes adds nothing that is not reachable,
//! since `p` is reached already. A chain from one side to the other contains one whose inner addresses lie on neither side
//! (from its last address on the one to the next on the other); if that one is a single flow it is PW0502's, or the hole's and no
//! hop. So it is enough to start from all of one side at once, never to go on from the other, and to look from the second
//! hop on. The search goes level by level, each level complete before the next: the chains that it
//! shows are shortest, and depend on nothing but the policy. An external ends a chain, so none is gone on from. Every hop that
//! is shown has been replayed; one left undecided makes the whole question undecided.
//!
//! Boxes need no classes: the destinations of all allowed boxes from a level are the next one. No flow of them is an end's to
//! itself, since where they start has been visited, and where they end has not.

use crate::checks::isolate::{Side, Sides};
use crate::checks::judge::Judge;
use crate::checks::{Findings, Task};
use crate::encode::Encoder;
use crate::flows::{Fence, Through};
use crate::replay;
use crate::scene::{Found, Scene};
use crate::solver::Fault;
use compiler::Compiled;
use compiler::algebra::{Family, RangeSet};
use compiler::compiled::ChannelKind;
use compiler::eval;
use compiler::ids::{ChannelId, OwnerId};
use compiler::model::Isolate;
use compiler::packet::Flow;
use compiler::sets::{PairSet, ServiceSet};
use compiler::wire;
use lang::codes::Code;
use lang::diag::Diagnostic;
use std::collections::{BTreeMap, BTreeSet};

/// Addresses by owner.
type Ends = BTreeMap<OwnerId, RangeSet>;

/// One hop of a chain.
#[derive(Debug, Clone, Copy)]
struct Hop {
    channel: ChannelId,
    flow: Flow,
}

/// Chains by the owner in which they end.
type Chains = Vec<(OwnerId, Vec<Hop>)>;

/// The outcome of asking a set of hops.
enum Step {
    None,
    Hop(Hop),
    Undecided,
}

/// The chains that break an `isolate … transitively`: for each direction and each owner in which chains end, one of the
/// shortest.
///
/// # Errors
/// The engines and the evaluator do not agree.
pub fn transitive(judge: Judge<'_>, isolate: &Isolate) -> Result<Findings, Fault> {
    let task = judge.task;
    let mut out = Findings::default();
    let mut reported: BTreeSet<(Side, OwnerId)> = BTreeSet::new();
    for family in Family::BOTH {
        let mut channels = Channels::default();
        for side in [Side::What, Side::From] {
            let mut search = Search::new(judge, isolate, family, side, &mut channels);
            match search.run()? {
                Some(chains) => {
                    for (owner, chain) in chains {
                        if reported.insert((side, owner)) {
                            out.diagnostics.extend(report(task, isolate, &chain));
                        }
                    }
                }
                None => {
                    let question =
                        format!("whether a chain of {} flows breaks the isolation", family.as_str());
                    out.undecided(task, isolate.span, &question, None);
                }
            }
        }
    }
    Ok(out)
}

struct Search<'a, 'c> {
    judge: Judge<'c>,
    task: Task<'c>,
    isolate: &'c Isolate,
    family: Family,
    /// Where chains start.
    levels: Vec<Ends>,
    /// Where they must not end: the far side.
    target: Ends,
    channels: &'a mut Channels<'c>,
    /// An owner's addresses by class.
    classes: BTreeMap<OwnerId, Vec<RangeSet>>,
}

/// The channels of one family that a solver was asked about.
type Channels<'c> = BTreeMap<ChannelId, Option<Hops<'c>>>;

/// The allowed flows of a channel.
struct Hops<'c> {
    scene: Scene<'c>,
    allow: crate::terms::Term,
}

impl<'a, 'c> Search<'a, 'c> {
    fn new(
        judge: Judge<'c>,
        isolate: &'c Isolate,
        family: Family,
        side: Side,
        channels: &'a mut Channels<'c>,
    ) -> Self {
        let task = judge.task;
        let sides = Sides::new(task.c, isolate);
        let ends = |side: Side| -> Ends {
            let owners = task.c.model.owners.ids().filter(|o| !task.tainted(*o));
            owners.map(|o| (o, sides.of(side, o, family))).filter(|(_, set)| !set.is_empty()).collect()
        };
        let (start, target) = (ends(side), ends(side.other()));
        Self { judge, task, isolate, family, levels: vec![start], target, channels, classes: BTreeMap::new() }
    }

    /// One shortest chain of two hops or more to each owner of the far side; `None`: undecided.
    fn run(&mut self) -> Result<Option<Chains>, Fault> {
        let mut visited: Ends = self.levels.first().cloned().unwrap_or_default();
        let mut found = Chains::new();
        if visited.is_empty() || self.target.is_empty() {
            return Ok(Some(found));
        }
        let mut open: BTreeSet<OwnerId> = self.target.keys().copied().collect();
        loop {
            let level = self.levels.len() - 1;
            if level > 0 {
                for owner in open.clone() {
                    match self.last_hop(level, owner)? {
                        Step::None => {}
                        Step::Undecided => return Ok(None),
                        Step::Hop(hop) => {
                            let Some(chain) = self.chain(level, hop)? else { return Ok(None) };
                            found.push((owner, chain));
                            open.remove(&owner);
                        }
                    }
                }
            }
            let Some(next) = self.next_level(&visited)? else { return Ok(None) };
            if next.is_empty() || open.is_empty() {
                return Ok(Some(found));
            }
            for (owner, set) in &next {
                let all = visited.entry(*owner).or_default();
                *all = all.union(set);
            }
            self.levels.push(next);
        }
    }

    /// The ends of a level.
    fn at(&self, level: usize, owner: OwnerId) -> RangeSet {
        self.levels.get(level).and_then(|ends| ends.get(&owner)).cloned().unwrap_or_default()
    }

    /// Whether chains may go on from here: everywhere at their start, then not from an external.
    fn goes_on(&self, level: usize, owner: OwnerId) -> bool {
        level == 0 || self.task.c.model.owners[owner].is_tenant()
    }

    /// Channels from an owner, ascending, without those that touch tainted owners.
    fn channels_from(&self, owner: OwnerId) -> Vec<ChannelId> {
        let c = self.task.c;
        let ids = c.channels_of[owner].iter().copied();
        ids.filter(|id| c.channels[*id].src == owner && !self.task.skips(*id)).collect()
    }

    /// All addresses that one more hop reaches, on neither side and not yet visited; `None`: undecided.
    fn next_level(&mut self, visited: &Ends) -> Result<Option<Ends>, Fault> {
        let level = self.levels.len() - 1;
        let mut next: Ends = BTreeMap::new();
        let mut owners: Vec<OwnerId> =
            self.levels.last().map(|l| l.keys().copied().collect()).unwrap_or_default();
        owners.retain(|o| self.goes_on(level, *o));
        for owner in owners {
            for channel in self.channels_from(owner) {
                let dst = self.task.c.channels[channel].dst;
                let from = self.at(level, owner);
                let mut left = self.task.c.channels[channel].dst_set.family(self.family).clone();
                for taken in [visited.get(&dst), self.target.get(&dst), next.get(&dst)].into_iter().flatten()
                {
                    left = left.subtract(taken);
                }
                let Some(more) = self.reached(channel, &from, left)? else { return Ok(None) };
                if !more.is_empty() {
                    let set = next.entry(dst).or_default();
                    *set = set.union(&more);
                }
            }
        }
        Ok(Some(next))
    }

    /// The preferred hop from a level to the far side's addresses of one owner.
    fn last_hop(&mut self, level: usize, target: OwnerId) -> Result<Step, Fault> {
        let to = self.target.get(&target).cloned().unwrap_or_default();
        self.hop_into(level, target, &to)
    }

    /// The preferred hop from a level to these addresses.
    fn hop_into(&mut self, level: usize, dst: OwnerId, to: &RangeSet) -> Result<Step, Fault> {
        let c = self.task.c;
        let into: Vec<ChannelId> = c.channels_of[dst]
            .iter()
            .copied()
            .filter(|id| c.channels[*id].dst == dst && !self.task.skips(*id))
            .collect();
        for channel in into {
            let src = c.channels[channel].src;
            if !self.goes_on(level, src) {
                continue;
            }
            let from = self.at(level, src);
            match self.hop(channel, &from, to)? {
                Step::None => {}
                other => return Ok(other),
            }
        }
        Ok(Step::None)
    }

    /// The chain that ends with this hop, found backwards: each hop ends at the very address where the next one starts.
    /// `None`: undecided.
    fn chain(&mut self, level: usize, last: Hop) -> Result<Option<Vec<Hop>>, Fault> {
        let mut chain = vec![last];
        let mut start = last.flow.src;
        for level in (0..level).rev() {
            let to = RangeSet::range(start.address, start.address);
            match self.hop_into(level, start.owner, &to)? {
                Step::Hop(hop) => {
                    start = hop.flow.src;
                    chain.push(hop);
                }
                Step::Undecided => return Ok(None),
                Step::None => {
                    let dump = format!(
                        "no hop from level {level} ends at {start:?}, a member of a class that one does"
                    );
                    return Err(Fault::Mismatch { dump });
                }
            }
        }
        chain.reverse();
        Ok(Some(chain))
    }

    /// The addresses of `left`, none of them visited, that some allowed flow of a channel reaches from these; `None`: undecided.
    fn reached(
        &mut self,
        id: ChannelId,
        from: &RangeSet,
        mut left: RangeSet,
    ) -> Result<Option<RangeSet>, Fault> {
        let family = self.family;
        let by_boxes = self.judge.flows.map(|f| f.reached(id, family, (from, &left), &mut f.work()));
        let found = by_boxes.unwrap_or_default();
        let channel = &self.task.c.channels[id];
        for extent in &found.boxes {
            let flow = extent.some_flow(channel.src, channel.dst, family);
            if !flow.is_some_and(|flow| shows(self.task.c, id, from, &left, &flow)) {
                let dump = format!("{extent:?} is allowed on {id:?}, but for the evaluator not {flow:?}");
                return Err(Fault::Mismatch { dump });
            }
        }
        let mut reached = found.addresses;
        left = left.subtract(&reached);
        if found.complete {
            if !self.task.certify {
                return Ok(Some(reached));
            }
            return match self.hop_by_z3(id, from, &left, false)? {
                Step::None => Ok(Some(reached)),
                Step::Undecided => Ok(None),
                Step::Hop(hop) => {
                    Err(Fault::Mismatch { dump: format!("Z3 found {hop:?}, which is in no box") })
                }
            };
        }
        loop {
            match self.hop_by_z3(id, from, &left, false)? {
                Step::None => return Ok(Some(reached)),
                Step::Undecided => return Ok(None),
                Step::Hop(hop) => {
                    let class = self.class(hop.flow.dst.owner, hop.flow.dst.address);
                    left = left.subtract(&class);
                    reached = reached.union(&class);
                }
            }
        }
    }

    /// The preferred of the allowed flows on a channel between these addresses.
    fn hop(&mut self, id: ChannelId, from: &RangeSet, to: &RangeSet) -> Result<Step, Fault> {
        let channel = &self.task.c.channels[id];
        let (src, dst) = (channel.src_set.family(self.family), channel.dst_set.family(self.family));
        if !from.overlaps(src) || !to.overlaps(dst) {
            return Ok(Step::None);
        }
        let Some(flows) = self.judge.flows else { return self.hop_by_z3(id, from, to, true) };
        let all = ServiceSet::all();
        let wanted = Fence { src: from, dst: to, service: &all.boxes };
        let found = flows.first_allowed(id, self.family, wanted, Through::Any, &mut flows.work());
        let Ok(flow) = found else { return self.hop_by_z3(id, from, to, true) };
        let judge = self.judge;
        let found = judge.settled(
            flow,
            |flow| shows(judge.task.c, id, from, to, flow),
            || {
                Ok(match self.hop_by_z3(id, from, to, false)? {
                    Step::None => Found::No,
                    Step::Undecided => Found::Undecided,
                    Step::Hop(hop) => Found::Yes(hop.flow),
                })
            },
            || format!("on {id:?} from {from:?} to {to:?}"),
        )?;
        Ok(step(id, found))
    }

    /// An allowed flow on a channel between these addresses; the preferred one where `preferred` is set.
    fn hop_by_z3(
        &mut self,
        id: ChannelId,
        from: &RangeSet,
        to: &RangeSet,
        preferred: bool,
    ) -> Result<Step, Fault> {
        let (c, family) = (self.task.c, self.family);
        let channel = &c.channels[id];
        if !from.overlaps(channel.src_set.family(family)) || !to.overlaps(channel.dst_set.family(family)) {
            return Ok(Step::None);
        }
        let known = self.channels.entry(id).or_insert_with(|| {
            let encoded = Scene::of_channel(c, id, family, self.task.budget);
            encoded.map(|(scene, decision)| Hops { scene, allow: decision.allow })
        });
        let Some(hops) = known else { return Ok(Step::None) };
        let encoder: &mut Encoder<'_> = &mut hops.scene.encoder;
        let parts = [hops.allow, encoder.src_in(from), encoder.dst_in(to)];
        let term = encoder.pool.and(parts);
        let shows = |flow: &Flow| shows(c, id, from, to, flow);
        let found =
            if preferred { hops.scene.witness(term, &shows)? } else { hops.scene.ask(term, &shows)? };
        Ok(step(id, found))
    }

    /// The class of an owner's address.
    fn class(&mut self, owner: OwnerId, address: u128) -> RangeSet {
        if !self.classes.contains_key(&owner) {
            let classes = self.partition(owner);
            self.classes.insert(owner, classes);
        }
        let classes = self.classes.get(&owner).map_or(&[][..], Vec::as_slice);
        let class = classes.iter().find(|class| class.contains(address));
        class.cloned().unwrap_or_else(|| RangeSet::range(address, address))
    }

    /// An owner's addresses of the search's family, by class.
    fn partition(&self, owner: OwnerId) -> Vec<RangeSet> {
        let (c, family) = (self.task.c, self.family);
        let mut sets: BTreeSet<RangeSet> = BTreeSet::new();
        let mut policies = BTreeSet::new();
        for id in &c.channels_of[owner] {
            let channel = &c.channels[*id];
            if channel.src == owner {
                sets.insert(channel.src_set.family(family).clone());
            }
            if channel.dst == owner {
                sets.insert(channel.dst_set.family(family).clone());
            }
            for end in [channel.src, channel.dst] {
                policies.extend(c.views[end].iter().flatten().copied());
            }
        }
        for rule in policies.iter().flat_map(|p| &c.model.policies[*p].rules) {
            if let PairSet::Sets(src, dst) = &c.model.rules[*rule].pairs {
                sets.insert(src.of(owner).family(family).clone());
                sets.insert(dst.of(owner).family(family).clone());
            }
        }
        sets.insert(self.isolate.what.of(owner).family(family).clone());
        sets.insert(self.isolate.from.of(owner).family(family).clone());
        let mut classes = vec![c.model.owners[owner].universe.family(family).clone()];
        for set in &sets {
            let mut finer = Vec::with_capacity(classes.len() + 1);
            for class in &classes {
                let parts = [class.intersect(set), class.subtract(set)];
                finer.extend(parts.into_iter().filter(|part| !part.is_empty()));
            }
            classes = finer;
        }
        classes
    }
}

/// What the evaluator must say of a hop.
fn shows(c: &Compiled, id: ChannelId, from: &RangeSet, to: &RangeSet, flow: &Flow) -> bool {
    replay::goes_on(c, id, flow)
        && from.contains(flow.src.address)
        && to.contains(flow.dst.address)
        && eval::decide_on_channel(c, id, flow).allow
}

fn step(channel: ChannelId, found: Found) -> Step {
    match found {
        Found::No => Step::None,
        Found::Yes(flow) => Step::Hop(Hop { channel, flow }),
        Found::Undecided => Step::Undecided,
    }
}

/// What lets flows go on a channel: an exposure, or a direct route as it is written.
fn opened(c: &Compiled, channel: ChannelId) -> Option<String> {
    match c.channels[channel].kind {
        ChannelKind::Exposed(id) => Some(c.model.exposures[id].name.clone()),
        ChannelKind::Direct(id) => Some(format!("route {}", c.model.routes[id].prefix)),
        ChannelKind::Intra | ChannelKind::ToExternal(_) => None,
    }
}

/// The finding for one chain.
fn report(task: Task<'_>, isolate: &Isolate, chain: &[Hop]) -> Option<Diagnostic> {
    let c = task.c;
    let (first, last) = (chain.first()?, chain.last()?);
    let mut through: Vec<String> = Vec::new();
    for hop in chain.iter().skip(1) {
        let name = format!("`{}`", task.owner(hop.flow.src.owner));
        if !through.contains(&name) {
            through.push(name);
        }
    }
    let message = format!(
        "isolation is broken by a chain of {} flows from `{}` to `{}` through {}",
        chain.len(),
        task.owner(first.flow.src.owner),
        task.owner(last.flow.dst.owner),
        through.join(", "),
    );
    let mut finding = Diagnostic::new(Code::PW0503, isolate.span, message).label("declared isolated here").help(
        "cut one hop: deny it in a tier above the rule that allows it, or take that rule or exposure back",
    );
    for hop in chain {
        let decision = eval::decide_on_channel(c, hop.channel, &hop.flow);
        let Some(witness) = task.witness(hop.channel, &hop.flow) else { continue };
        let address = |end: compiler::packet::End| {
            let address = compiler::algebra::format_addr(hop.flow.family, end.address);
            format!("{address} of `{}`", task.owner(end.owner))
        };
        let via = decision.via.map_or_else(String::new, |g| format!(" via `{}`", c.model.gateways[g].name));
        finding = task.explain(finding, hop.channel, &decision);
        finding.chain.push(lang::diag::Hop {
            text: format!(
                "{} to {}: {}{via} is {}",
                address(hop.flow.src),
                address(hop.flow.dst),
                witness.human,
                crate::checks::reason(c, &decision),
            ),
            opened: opened(c, hop.channel),
            rules: [decision.egress, decision.ingress]
                .into_iter()
                .flatten()
                .filter_map(|view| wire::decider_name(c, view.by))
                .map(str::to_owned)
                .collect(),
            witness,
        });
    }
    Some(match task.witness(first.channel, &first.flow) {
        Some(witness) => finding.witness(witness),
        None => finding,
    })
}
