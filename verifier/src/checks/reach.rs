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
//! shows are shortest, and depend on nothing but the policy. An external ends a chain, so none is gone on from. Every edge is
//! decided by the solver and replayed; one left undecided makes the whole question undecided.

use crate::checks::isolate::{Side, Sides};
use crate::checks::{Findings, Task};
use crate::encode::Encoder;
use crate::replay;
use crate::scene::{Found, Scene};
use crate::solver::Fault;
use compiler::algebra::{Family, RangeSet};
use compiler::eval;
use compiler::ids::{ChannelId, OwnerId};
use compiler::model::Isolate;
use compiler::packet::Flow;
use compiler::sets::PairSet;
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
/// The solver contradicts the evaluator.
pub fn transitive(task: Task<'_>, isolate: &Isolate) -> Result<Findings, Fault> {
    let mut out = Findings::default();
    let mut reported: BTreeSet<(Side, OwnerId)> = BTreeSet::new();
    for family in Family::BOTH {
        for side in [Side::What, Side::From] {
            let mut search = Search::new(task, isolate, family, side);
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

struct Search<'c> {
    task: Task<'c>,
    isolate: &'c Isolate,
    family: Family,
    /// Where chains start.
    levels: Vec<Ends>,
    /// Where they must not end: the far side.
    target: Ends,
    /// Encodings of the channels that were needed, whole.
    scenes: BTreeMap<ChannelId, Option<Hops<'c>>>,
    /// An owner's addresses by class.
    classes: BTreeMap<OwnerId, Vec<RangeSet>>,
}

/// The allowed flows of a channel.
struct Hops<'c> {
    scene: Scene<'c>,
    allow: crate::terms::Term,
}

impl<'c> Search<'c> {
    fn new(task: Task<'c>, isolate: &'c Isolate, family: Family, side: Side) -> Self {
        let sides = Sides::new(task.c, isolate);
        let ends = |side: Side| -> Ends {
            let owners = task.c.model.owners.ids().filter(|o| !task.tainted(*o));
            owners.map(|o| (o, sides.of(side, o, family))).filter(|(_, set)| !set.is_empty()).collect()
        };
        let (start, target) = (ends(side), ends(side.other()));
        Self {
            task,
            isolate,
            family,
            levels: vec![start],
            target,
            scenes: BTreeMap::new(),
            classes: BTreeMap::new(),
        }
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
                loop {
                    let mut left = self.task.c.channels[channel].dst_set.family(self.family).clone();
                    for taken in
                        [visited.get(&dst), self.target.get(&dst), next.get(&dst)].into_iter().flatten()
                    {
                        left = left.subtract(taken);
                    }
                    let from = self.at(level, owner);
                    match self.hop(channel, &from, &left, false)? {
                        Step::None => break,
                        Step::Undecided => return Ok(None),
                        Step::Hop(hop) => {
                            let class = self.class(dst, hop.flow.dst.address);
                            let set = next.entry(dst).or_default();
                            *set = set.union(&class);
                        }
                    }
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
            match self.hop(channel, &from, to, true)? {
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

    /// An allowed flow on a channel between these addresses; the preferred one where `preferred` is set.
    fn hop(&mut self, id: ChannelId, from: &RangeSet, to: &RangeSet, preferred: bool) -> Result<Step, Fault> {
        let (c, family) = (self.task.c, self.family);
        let channel = &c.channels[id];
        if !from.overlaps(channel.src_set.family(family)) || !to.overlaps(channel.dst_set.family(family)) {
            return Ok(Step::None);
        }
        if !self.scenes.contains_key(&id) {
            let hops = Scene::of_channel(c, id, family, self.task.budget)
                .map(|(scene, decision)| Hops { scene, allow: decision.allow });
            self.scenes.insert(id, hops);
        }
        let Some(Some(hops)) = self.scenes.get_mut(&id) else { return Ok(Step::None) };
        let encoder: &mut Encoder<'_> = &mut hops.scene.encoder;
        let parts = [hops.allow, encoder.src_in(from), encoder.dst_in(to)];
        let term = encoder.pool.and(parts);
        let shows = |flow: &Flow| {
            replay::goes_on(c, id, flow)
                && from.contains(flow.src.address)
                && to.contains(flow.dst.address)
                && eval::decide_on_channel(c, id, flow).allow
        };
        let found =
            if preferred { hops.scene.witness(term, &shows)? } else { hops.scene.ask(term, &shows)? };
        Ok(match found {
            Found::No => Step::None,
            Found::Yes(flow) => Step::Hop(Hop { channel: id, flow }),
            Found::Undecided => Step::Undecided,
        })
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
    for (number, hop) in chain.iter().enumerate() {
        let decision = eval::decide_on_channel(c, hop.channel, &hop.flow);
        let text = eval::packet_on_channel(c, hop.channel, &hop.flow)
            .map(|p| wire::packet_text(c, &p))
            .unwrap_or_default();
        let address = |end: compiler::packet::End| {
            let address = compiler::algebra::format_addr(hop.flow.family, end.address);
            format!("{address} of `{}`", task.owner(end.owner))
        };
        let via = decision.via.map_or_else(String::new, |g| format!(" via `{}`", c.model.gateways[g].name));
        finding = finding.note(format!(
            "hop {}: {} to {}: {text}{via} is {}",
            number + 1,
            address(hop.flow.src),
            address(hop.flow.dst),
            crate::checks::reason(c, &decision),
        ));
        finding = task.explain(finding, hop.channel, &decision);
    }
    Some(match task.witness(first.channel, &first.flow) {
        Some(witness) => finding.witness(witness),
        None => finding,
    })
}
