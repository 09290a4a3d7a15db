//! The checks by enumeration: one representative (two, inside a tenant) of every class of addresses, one of every class of
//! services, each decided by the reference evaluator. Slow, and short enough to be read as the definition.

use compiler::Compiled;
use compiler::algebra::{AddrSet, Family, RangeSet};
use compiler::eval::{self, TierDecision, Way};
use compiler::ids::{ChannelId, OwnerId, PolicyId, RuleId};
use compiler::model::{Action, Isolate, TestKind};
use compiler::packet::{End, Flow, field_max, protocol_in_family};
use compiler::sets::{EndSet, PairSet, ServiceSet};
use lang::ast::Quantifier;
use lang::span::Span;
use std::collections::{BTreeMap, BTreeSet};

pub struct Brute<'c> {
    c: &'c Compiled,
    /// Representatives by owner and family: (class, address).
    addresses: BTreeMap<(OwnerId, Family), Vec<(usize, u128)>>,
    services: Vec<(u8, u16, u16)>,
    /// Every possible flow of the representatives, by channel.
    flows: Vec<(ChannelId, Flow)>,
}

impl<'c> Brute<'c> {
    pub fn new(c: &'c Compiled) -> Self {
        let services = services(c);
        let mut addresses = BTreeMap::new();
        for owner in c.model.owners.ids() {
            for family in Family::BOTH {
                addresses.insert((owner, family), classes(c, owner, family));
            }
        }
        let mut brute = Self { c, addresses, services, flows: Vec::new() };
        for (id, channel) in c.channels.iter() {
            for flow in brute.between(channel.src, channel.dst) {
                if brute.goes_on(id, &flow) {
                    brute.flows.push((id, flow));
                }
            }
        }
        brute
    }

    /// Every flow of the representatives between two owners, possible or not.
    fn between(&self, src: OwnerId, dst: OwnerId) -> Vec<Flow> {
        let mut out = Vec::new();
        for family in Family::BOTH {
            for (_, s) in &self.addresses[&(src, family)] {
                for (_, d) in &self.addresses[&(dst, family)] {
                    if src == dst && s == d {
                        continue;
                    }
                    for &(protocol, x, y) in self.services.iter().filter(|v| protocol_in_family(v.0, family))
                    {
                        let (src, dst) = (End { owner: src, address: *s }, End { owner: dst, address: *d });
                        out.push(Flow { src, dst, family, protocol, x, y });
                    }
                }
            }
        }
        out
    }

    fn goes_on(&self, id: ChannelId, flow: &Flow) -> bool {
        let channel = &self.c.channels[id];
        channel.src == flow.src.owner
            && channel.dst == flow.dst.owner
            && channel.src_set.contains(flow.family, flow.src.address)
            && channel.dst_set.contains(flow.family, flow.dst.address)
            && channel.service.contains(flow.protocol, flow.x, flow.y)
    }

    /// Every possible flow of the representatives, by channel.
    pub fn flows(&self) -> &[(ChannelId, Flow)] {
        &self.flows
    }

    /// The views that decide a flow on a channel.
    pub fn views(&self, id: ChannelId) -> Vec<(OwnerId, Way)> {
        let (way, channel) = (eval::channel_way(self.c, id), &self.c.channels[id]);
        let mut out = vec![(channel.src, Way { exposure: None, ..way })];
        if channel.src != channel.dst {
            out.push((channel.dst, way));
        }
        out.retain(|(owner, _)| self.c.model.owners[*owner].is_tenant());
        out
    }

    /// For each tier that is reached: the deciding rules.
    fn reached(&self, owner: OwnerId, way: Way, flow: &Flow) -> Vec<Vec<RuleId>> {
        let mut out = Vec::new();
        for (tier, policies) in self.c.views[owner].iter().enumerate() {
            out.push(eval::tier_rules(self.c, policies, flow));
            let stands = way.exposure.is_some() && self.c.model.fabric.lowest_delegated() == Some(tier);
            match eval::tier_decision(self.c, policies, flow, way) {
                TierDecision::Verdict(_) => break,
                TierDecision::None if stands => break,
                TierDecision::Pass | TierDecision::None => {}
            }
        }
        out
    }

    fn matches(&self, rule: RuleId, flow: &Flow) -> bool {
        let rule = &self.c.model.rules[rule];
        rule.service.contains(flow.protocol, flow.x, flow.y) && rule.pairs.contains(flow)
    }

    /// Rules that match some possible flow in a view of theirs, and those that decide one.
    fn life(&self) -> (BTreeSet<RuleId>, BTreeSet<RuleId>) {
        let (mut matching, mut deciding) = (BTreeSet::new(), BTreeSet::new());
        for (id, flow) in &self.flows {
            for (owner, way) in self.views(*id) {
                deciding.extend(self.reached(owner, way, flow).into_iter().flatten());
                for policy in self.c.views[owner].iter().flatten() {
                    let rules = self.c.model.policies[*policy].rules.iter().copied();
                    matching.extend(rules.filter(|r| self.matches(*r, flow)));
                }
            }
        }
        (matching, deciding)
    }

    /// Rules that match some possible flow, and decide none.
    pub fn dead(&self) -> BTreeSet<Vec<String>> {
        let (matching, deciding) = self.life();
        matching.difference(&deciding).map(|r| vec![self.c.model.rules[*r].name.clone()]).collect()
    }

    /// Rules that match no possible flow.
    pub fn matching_nothing(&self) -> BTreeSet<String> {
        let (matching, _) = self.life();
        let rules = self.c.model.rules.iter();
        rules.filter(|(id, _)| !matching.contains(id)).map(|(_, r)| r.name.clone()).collect()
    }

    /// Pairs of rules that decide one flow with different verdicts, except where a wrong `via` made the verdict.
    pub fn conflicts(&self) -> BTreeSet<Vec<String>> {
        let rules = &self.c.model.rules;
        let mut out = BTreeSet::new();
        for (id, flow) in &self.flows {
            for (owner, way) in self.views(*id) {
                let astray = |r: &RuleId| matches!(rules[*r].action, Action::Allow { via: Some(g) } if !way.intra && way.gateway != Some(g));
                for tier in self.reached(owner, way, flow) {
                    for a in tier.iter().filter(|r| !astray(r)) {
                        for b in tier.iter().filter(|r| !astray(r)) {
                            let verdict = |r: &RuleId| eval::verdict_on(rules[*r].action, way);
                            if rules[*a].rank < rules[*b].rank && verdict(a) != verdict(b) {
                                out.insert(vec![rules[*a].name.clone(), rules[*b].name.clone()]);
                            }
                        }
                    }
                }
            }
        }
        out
    }

    /// For each flow that reaches a policy, in every view: its tier is reached, and no policy that overrides it gives a verdict.
    fn reaching(&self, policy: PolicyId) -> Vec<(Flow, Way)> {
        let policies = &self.c.model.policies;
        let tier = policies[policy].tier;
        let mut out = Vec::new();
        for (id, flow) in &self.flows {
            for (owner, way) in self.views(*id) {
                let tiers = &self.c.views[owner];
                let overridden = || {
                    let over = tiers[tier].iter().filter(|p| policies[**p].overrides.contains(&policy));
                    over.copied().any(|p| eval::first_match(self.c, p, flow).is_some())
                };
                let stands = tiers[tier].contains(&policy);
                if stands && self.reached(owner, way, flow).len() > tier && !overridden() {
                    out.push((*flow, way));
                }
            }
        }
        out
    }

    /// Rules without which their policy gives the same verdict, from the last one up, the earlier findings left out; those that
    /// decide nothing have other codes.
    pub fn redundant(&self) -> BTreeSet<String> {
        let rules = &self.c.model.rules;
        let (matching, deciding) = self.life();
        let mut out = BTreeSet::new();
        for (policy, of) in self.c.model.policies.iter() {
            let reaching = self.reaching(policy);
            // A wrong `via` is like no other verdict, its own included.
            let verdict = |list: &[RuleId], flow: &Flow, way: Way| {
                let first = list.iter().find(|r| self.matches(**r, flow))?;
                let astray = matches!(rules[*first].action, Action::Allow { via: Some(g) } if !way.intra && way.gateway != Some(g));
                Some((astray.then_some(*first), eval::verdict_on(rules[*first].action, way)))
            };
            let mut left: Vec<RuleId> = of.rules.clone();
            for rule in of.rules.iter().rev().filter(|r| matching.contains(r) && !rules[**r].log) {
                let without: Vec<RuleId> = left.iter().copied().filter(|r| r != rule).collect();
                let same =
                    |(flow, way): &(Flow, Way)| verdict(&left, flow, *way) == verdict(&without, flow, *way);
                if reaching.iter().all(same) {
                    left = without;
                    if deciding.contains(rule) {
                        out.insert(rules[*rule].name.clone());
                    }
                }
            }
        }
        out
    }

    /// Tenants' `allow` rules without another code that would decide some flow more if the platform had no policies.
    pub fn overruled(&self) -> BTreeSet<String> {
        let (model, redundant) = (&self.c.model, self.redundant());
        let (_, deciding) = self.life();
        let mut out = BTreeSet::new();
        for (id, flow) in &self.flows {
            for (owner, way) in self.views(*id) {
                let does: Vec<RuleId> = self.reached(owner, way, flow).into_iter().flatten().collect();
                for would in self.reached_alone(owner, way, flow) {
                    let rule = &model.rules[would];
                    let allow = matches!(rule.action, Action::Allow { .. });
                    if allow
                        && !does.contains(&would)
                        && deciding.contains(&would)
                        && !redundant.contains(&rule.name)
                    {
                        out.insert(rule.name.clone());
                    }
                }
            }
        }
        out
    }

    /// The deciding rules of all tiers that are reached if the owner's policies stand alone.
    fn reached_alone(&self, owner: OwnerId, way: Way, flow: &Flow) -> Vec<RuleId> {
        let mut out = Vec::new();
        for (tier, policies) in self.c.views[owner].iter().enumerate() {
            let own: Vec<PolicyId> =
                policies.iter().copied().filter(|p| self.c.model.policies[*p].owner == Some(owner)).collect();
            out.extend(eval::tier_rules(self.c, &own, flow));
            let stands = way.exposure.is_some() && self.c.model.fabric.lowest_delegated() == Some(tier);
            match eval::tier_decision(self.c, &own, flow, way) {
                TierDecision::Verdict(_) => break,
                TierDecision::None if stands => break,
                TierDecision::Pass | TierDecision::None => {}
            }
        }
        out
    }

    /// On which side of an `isolate` an end is: X, Y, or neither (also in both).
    fn side(&self, isolate: &Isolate, end: End, family: Family) -> Option<bool> {
        let what = isolate.what.contains(end.owner, family, end.address);
        let from = isolate.from.contains(end.owner, family, end.address);
        (what != from).then_some(what)
    }

    fn hole(&self, isolate: &Isolate, flow: &Flow, decision: &eval::Decision) -> bool {
        isolate.allowing.as_ref().is_some_and(|(service, g)| {
            service.contains(flow.protocol, flow.x, flow.y) && decision.via == Some(*g)
        })
    }

    pub fn direct(&self) -> BTreeSet<Span> {
        let breaks = |i: &&Isolate| {
            self.flows.iter().any(|(id, flow)| {
                let decision = eval::decide_on_channel(self.c, *id, flow);
                let sides = (self.side(i, flow.src, flow.family), self.side(i, flow.dst, flow.family));
                let across = matches!(sides, (Some(a), Some(b)) if a != b);
                decision.allow && across && !self.hole(i, flow, &decision)
            })
        };
        self.c.model.isolates.iter().filter(breaks).map(|i| i.span).collect()
    }

    /// `isolate … transitively` with a chain of two hops or more whose inner ends are on neither side.
    pub fn chains(&self) -> BTreeSet<Span> {
        type Node = (OwnerId, Family, usize);
        let class = |end: End, family: Family| -> Node {
            let all = &self.addresses[&(end.owner, family)];
            let at = all.iter().find(|(_, a)| *a == end.address).expect("a representative");
            (end.owner, family, at.0)
        };
        let mut edges: BTreeSet<(Node, Node)> = BTreeSet::new();
        let mut ends: BTreeMap<Node, (End, Family)> = BTreeMap::new();
        for (id, flow) in &self.flows {
            let (a, b) = (class(flow.src, flow.family), class(flow.dst, flow.family));
            ends.insert(a, (flow.src, flow.family));
            ends.insert(b, (flow.dst, flow.family));
            if !edges.contains(&(a, b)) && eval::decide_on_channel(self.c, *id, flow).allow {
                edges.insert((a, b));
            }
        }
        let mut out = BTreeSet::new();
        for isolate in self.c.model.isolates.iter().filter(|i| i.transitively) {
            let side = |n: &Node| self.side(isolate, ends[n].0, ends[n].1);
            for start in [true, false] {
                // Inner nodes reached from the start side, to the fixpoint.
                let mut inner: BTreeSet<Node> = BTreeSet::new();
                loop {
                    let from = |n: &Node| side(n) == Some(start) || inner.contains(n) && self.tenant(n.0);
                    let next: Vec<Node> =
                        edges.iter().filter(|(a, b)| from(a) && side(b).is_none()).map(|(_, b)| *b).collect();
                    let before = inner.len();
                    inner.extend(next);
                    if inner.len() == before {
                        break;
                    }
                }
                if edges.iter().any(|(a, b)| inner.contains(a) && self.tenant(a.0) && side(b) == Some(!start))
                {
                    out.insert(isolate.span);
                }
            }
        }
        out
    }

    fn tenant(&self, owner: OwnerId) -> bool {
        self.c.model.owners[owner].is_tenant()
    }

    /// Clauses of tests that fail.
    pub fn failing(&self) -> BTreeSet<Span> {
        let mut out = BTreeSet::new();
        for clause in self.c.model.tests.iter().flat_map(|t| &t.clauses) {
            if let TestKind::Flows { quantifier, src, dst, service, via } = &clause.kind {
                let outcome = self.outcome(*quantifier, src, dst, service, *via);
                if !outcome {
                    out.insert(clause.span);
                }
            }
        }
        out
    }

    fn outcome(
        &self,
        quantifier: Quantifier,
        src: &EndSet,
        dst: &EndSet,
        service: &ServiceSet,
        via: Option<compiler::ids::GatewayId>,
    ) -> bool {
        let owners = || self.c.model.owners.ids();
        let (mut pairs, mut holds) = (false, quantifier != Quantifier::Some);
        for (a, b) in owners().flat_map(|a| owners().map(move |b| (a, b))) {
            let channels: Vec<ChannelId> = self
                .c
                .channels
                .ids()
                .filter(|id| {
                    let channel = &self.c.channels[*id];
                    channel.src == a && channel.dst == b
                })
                .collect();
            for flow in self.between(a, b) {
                let in_sets = src.contains(a, flow.family, flow.src.address)
                    && dst.contains(b, flow.family, flow.dst.address)
                    && service.contains(flow.protocol, flow.x, flow.y);
                if !in_sets {
                    continue;
                }
                pairs = true;
                let decisions: Vec<eval::Decision> = channels
                    .iter()
                    .filter(|id| self.goes_on(**id, &flow))
                    .map(|id| eval::decide_on_channel(self.c, *id, &flow))
                    .collect();
                let goes = |d: &eval::Decision| via.is_none() || d.via == via;
                let allowed = decisions.iter().any(|d| d.allow);
                match quantifier {
                    Quantifier::Always => holds &= allowed && decisions.iter().all(|d| !d.allow || goes(d)),
                    Quantifier::Never => holds &= !decisions.iter().any(|d| d.allow && goes(d)),
                    Quantifier::Some => holds |= decisions.iter().any(|d| d.allow && goes(d)),
                }
            }
        }
        pairs && holds
    }
}

/// An owner's addresses: up to two of every class, where a class is told apart by no set that anything names.
fn classes(c: &Compiled, owner: OwnerId, family: Family) -> Vec<(usize, u128)> {
    let mut sets: BTreeSet<RangeSet> = BTreeSet::new();
    let mut add = |set: &AddrSet| {
        sets.insert(set.family(family).clone());
    };
    for channel in c.channels.values() {
        if channel.src == owner {
            add(&channel.src_set);
        }
        if channel.dst == owner {
            add(&channel.dst_set);
        }
    }
    for rule in c.model.rules.values() {
        if let PairSet::Sets(src, dst) = &rule.pairs {
            add(src.of(owner));
            add(dst.of(owner));
        }
    }
    for isolate in &c.model.isolates {
        add(isolate.what.of(owner));
        add(isolate.from.of(owner));
    }
    for clause in c.model.tests.iter().flat_map(|t| &t.clauses) {
        if let TestKind::Flows { src, dst, .. } = &clause.kind {
            add(src.of(owner));
            add(dst.of(owner));
        }
    }
    let universe = c.model.owners[owner].universe.family(family);
    let mut points: BTreeSet<u128> = BTreeSet::new();
    for (lo, hi) in sets.iter().chain([universe]).flat_map(|s| s.ranges()) {
        points.extend([*lo, *hi, lo.saturating_sub(1), hi.saturating_add(1).min(family.max())]);
    }
    points.retain(|p| universe.contains(*p));
    let mut known: BTreeMap<Vec<bool>, (usize, usize)> = BTreeMap::new();
    let mut out = Vec::new();
    for point in points {
        let signature: Vec<bool> = sets.iter().map(|s| s.contains(point)).collect();
        let next = known.len();
        let (class, count) = known.entry(signature).or_insert((next, 0));
        *count += 1;
        if *count <= 2 {
            out.push((*class, point));
        }
    }
    out
}

/// One service of every class.
fn services(c: &Compiled) -> Vec<(u8, u16, u16)> {
    let mut sets: BTreeSet<&ServiceSet> = c.model.rules.values().map(|r| &*r.service).collect();
    sets.extend(c.channels.values().map(|ch| &*ch.service));
    sets.extend(c.model.isolates.iter().filter_map(|i| i.allowing.as_ref()).map(|(service, _)| &**service));
    for clause in c.model.tests.iter().flat_map(|t| &t.clauses) {
        if let TestKind::Flows { service, .. } = &clause.kind {
            sets.insert(service);
        }
    }
    let (mut xs, mut ys) = (BTreeSet::from([0_u16]), BTreeSet::from([0_u16]));
    for b in sets.iter().flat_map(|s| &s.boxes) {
        let edges = |(lo, hi): (u16, u16)| [lo, hi, lo.saturating_sub(1), hi.saturating_add(1)];
        xs.extend(edges(b.x));
        ys.extend(edges(b.y));
    }
    let mut known = BTreeSet::new();
    let mut out = Vec::new();
    for protocol in 0..=u8::MAX {
        let (x_max, y_max) = field_max(protocol);
        for x in xs.iter().filter(|x| **x <= x_max) {
            for y in ys.iter().filter(|y| **y <= y_max) {
                let mut signature: Vec<bool> = sets.iter().map(|s| s.contains(protocol, *x, *y)).collect();
                signature.extend(Family::BOTH.map(|f| protocol_in_family(protocol, f)));
                if known.insert(signature) {
                    out.push((protocol, *x, *y));
                }
            }
        }
    }
    out
}
