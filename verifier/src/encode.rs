//! The one encoder: rules, views and whole decisions on a channel as terms over one flow's header.
//!
//! It follows [`compiler::eval`] line by line: first match in a policy, overrides and agreement in a tier, tiers from the
//! highest, the exposure after the lowest delegated tier, both views together.
//!
//! SOUNDNESS: every term is meant for flows of the encoder's *frame* (a box of source and destination addresses between
//! two fixed owners, in one family); a test of an address against a set is made against the set's part within the frame,
//! and folds to `true` where that part is the whole frame. Outside the frame a term means nothing; each query therefore
//! carries [`Encoder::in_frame`] and [`Encoder::well_formed`]. For a literal flow of the frame all terms are constants.

use crate::terms::{Header, Operand, Pool, Term, Var};
use compiler::Compiled;
use compiler::algebra::{Family, RangeSet};
use compiler::compiled::{Channel, ChannelKind};
use compiler::eval::{self, Decider, Verdict, Way};
use compiler::ids::{ChannelId, ExposureId, GatewayId, OwnerId, PolicyId, RuleId};
use compiler::model::{Policy, Rule};
use compiler::packet::{self, Flow};
use compiler::sets::{PairSet, ServiceSet, some_flow};
use std::borrow::Cow;
use std::collections::BTreeMap;

/// The ends that an encoding is about.
#[derive(Debug, Clone)]
pub struct Frame {
    pub src: OwnerId,
    pub dst: OwnerId,
    pub family: Family,
    pub src_set: RangeSet,
    pub dst_set: RangeSet,
}

impl Frame {
    /// A channel's ends in one family; `None` if no flow of this family goes on it.
    #[must_use]
    pub fn of_channel(channel: &Channel, family: Family) -> Option<Self> {
        let src_set = channel.src_set.family(family).clone();
        let dst_set = channel.dst_set.family(family).clone();
        let frame = Self { src: channel.src, dst: channel.dst, family, src_set, dst_set };
        frame.some_flow(&channel.service).then_some(frame)
    }

    /// Whether some flow of the frame carries one of these services.
    #[must_use]
    pub fn some_flow(&self, service: &ServiceSet) -> bool {
        let (src, dst) = (self.src_set.clone(), self.dst_set.clone());
        let empty = compiler::algebra::AddrSet::empty;
        some_flow(
            self.src == self.dst,
            &empty().with(self.family, src),
            &empty().with(self.family, dst),
            service,
        )
    }
}

/// What a rule, a policy and a tier say, in one view on one channel.
#[derive(Debug, Clone)]
pub struct RuleTerms {
    pub rule: RuleId,
    pub verdict: Verdict,
    /// The rule matches.
    pub matches: Term,
    /// It is the first of its policy that matches.
    pub first: Term,
}

#[derive(Debug, Clone)]
pub struct PolicyTerms {
    pub policy: PolicyId,
    /// Without those that match nothing here.
    pub rules: Vec<RuleTerms>,
    /// Some rule matches.
    pub gives: Term,
    /// A policy that overrides this one gives a verdict.
    pub overridden: Term,
}

#[derive(Debug, Clone)]
pub struct TierTerms {
    /// No higher tier, and no exposure, has decided.
    pub reached: Term,
    pub policies: Vec<PolicyTerms>,
    /// Verdicts that agree, by verdict, ascending; `conflict` excluded.
    pub allow: Vec<(Option<GatewayId>, Term)>,
    pub deny: Term,
    pub pass: Term,
    /// No policy gives a verdict.
    pub none: Term,
    /// Policies that are not overridden disagree.
    pub conflict: Term,
}

#[derive(Debug, Clone)]
pub struct ViewTerms {
    pub tiers: Vec<TierTerms>,
    /// The exposure that stands in, the position of the tier after which it does, and when it decides.
    pub stand_in: Option<StandIn>,
    pub allow: Term,
    /// Inside a tenant: the gateways through which an allowed flow is steered.
    pub via: Vec<(GatewayId, Term)>,
    pub conflict: Term,
    /// No tier gave a verdict.
    pub default: Term,
}

#[derive(Debug, Clone, Copy)]
pub struct StandIn {
    pub exposure: ExposureId,
    /// `None`: after the last tier.
    pub after: Option<usize>,
    pub decides: Term,
}

/// A whole decision on a channel.
#[derive(Debug, Clone)]
pub struct DecisionTerms {
    pub channel: ChannelId,
    /// The flow goes on this channel.
    pub possible: Term,
    pub egress: Option<ViewTerms>,
    pub ingress: Option<ViewTerms>,
    /// Both views allow; `possible` is not part of it.
    pub allow: Term,
    /// By gateway: allowed through it.
    pub via: Vec<(GatewayId, Term)>,
}

/// Encodes what the compiled form says of the flows of one frame.
#[derive(Debug)]
pub struct Encoder<'c> {
    c: &'c Compiled,
    pub pool: Pool,
    header: Header,
    frame: Frame,
}

impl<'c> Encoder<'c> {
    /// For all flows of a frame.
    #[must_use]
    pub fn new(c: &'c Compiled, frame: Frame) -> Self {
        Self { c, pool: Pool::new(), header: Header::symbolic(frame.family), frame }
    }

    /// For one flow; `frame` must hold it.
    #[must_use]
    pub fn literal(c: &'c Compiled, frame: Frame, flow: Flow) -> Self {
        Self { c, pool: Pool::new(), header: Header::literal(flow), frame }
    }

    #[must_use]
    pub fn compiled(&self) -> &'c Compiled {
        self.c
    }

    #[must_use]
    pub fn frame(&self) -> &Frame {
        &self.frame
    }

    /// The field is in the set of ranges.
    pub fn ranges(&mut self, var: Var, set: &RangeSet) -> Term {
        let terms: Vec<Term> =
            set.ranges().iter().map(|(lo, hi)| self.pool.range(&self.header, var, *lo, *hi)).collect();
        self.pool.or(terms)
    }

    /// The field has this value.
    pub fn equals(&mut self, var: Var, value: u128) -> Term {
        self.pool.range(&self.header, var, value, value)
    }

    /// The source address, which lies in the frame, is in the set.
    pub fn src_in(&mut self, set: &RangeSet) -> Term {
        if let Operand::Const(value) = self.header.operand(Var::Src) {
            return Term::constant(set.contains(value));
        }
        let within = set.intersect(&self.frame.src_set);
        if within == self.frame.src_set { Term::TRUE } else { self.ranges(Var::Src, &within) }
    }

    /// The destination address, which lies in the frame, is in the set.
    pub fn dst_in(&mut self, set: &RangeSet) -> Term {
        if let Operand::Const(value) = self.header.operand(Var::Dst) {
            return Term::constant(set.contains(value));
        }
        let within = set.intersect(&self.frame.dst_set);
        if within == self.frame.dst_set { Term::TRUE } else { self.ranges(Var::Dst, &within) }
    }

    pub fn service(&mut self, service: &ServiceSet) -> Term {
        let mut terms = Vec::with_capacity(service.boxes.len());
        for b in &service.boxes {
            let parts = [
                self.pool.range(&self.header, Var::Protocol, b.proto.0.into(), b.proto.1.into()),
                self.pool.range(&self.header, Var::X, b.x.0.into(), b.x.1.into()),
                self.pool.range(&self.header, Var::Y, b.y.0.into(), b.y.1.into()),
            ];
            terms.push(self.pool.and(parts));
        }
        self.pool.or(terms)
    }

    /// The ends lie in the frame.
    pub fn in_frame(&mut self) -> Term {
        let (src_set, dst_set) = (self.frame.src_set.clone(), self.frame.dst_set.clone());
        let parts = [self.ranges(Var::Src, &src_set), self.ranges(Var::Dst, &dst_set)];
        self.pool.and(parts)
    }

    /// The invariant of [`Flow`]: fields within their protocol's bounds, a protocol of the family, two ends.
    pub fn well_formed(&mut self) -> Term {
        let mut shapes: BTreeMap<(u16, u16), Vec<(u128, u128)>> = BTreeMap::new();
        for protocol in (0..=u8::MAX).filter(|p| packet::protocol_in_family(*p, self.frame.family)) {
            let max = packet::field_max(protocol);
            shapes.entry(max).or_default().push((protocol.into(), protocol.into()));
        }
        let mut terms = Vec::new();
        for ((x, y), protocols) in shapes {
            let parts = [
                self.ranges(Var::Protocol, &RangeSet::from_ranges(protocols)),
                self.pool.range(&self.header, Var::X, 0, x.into()),
                self.pool.range(&self.header, Var::Y, 0, y.into()),
            ];
            terms.push(self.pool.and(parts));
        }
        let shaped = self.pool.or(terms);
        if self.frame.src != self.frame.dst {
            return shaped;
        }
        let same = self.pool.same_address(&self.header);
        self.pool.minus(shaped, same)
    }

    /// The rule matches a flow of the frame that carries one of the services of `within`.
    pub fn rule(&mut self, rule: &Rule, within: &ServiceSet) -> Term {
        let ends = match &rule.pairs {
            PairSet::SameTenant => Term::constant(self.frame.src == self.frame.dst),
            PairSet::Sets(src, dst) => {
                let family = self.frame.family;
                let parts = [
                    self.src_in(src.of(self.frame.src).family(family)),
                    self.dst_in(dst.of(self.frame.dst).family(family)),
                ];
                self.pool.and(parts)
            }
        };
        if ends == Term::FALSE || !rule.service.intersect(within).possible(self.frame.family) {
            return Term::FALSE;
        }
        let service = self.service(&rule.service);
        self.pool.and([ends, service])
    }

    /// One policy, without what overrides it.
    fn policy(&mut self, id: PolicyId, way: Way, within: &ServiceSet) -> PolicyTerms {
        let c = self.c;
        let mut rules = Vec::new();
        let mut earlier = Term::FALSE;
        for id in &c.model.policies[id].rules {
            let rule = &c.model.rules[*id];
            let matches = self.rule(rule, within);
            if matches == Term::FALSE {
                continue;
            }
            let first = self.pool.minus(matches, earlier);
            earlier = self.pool.or([earlier, matches]);
            rules.push(RuleTerms { rule: *id, verdict: eval::verdict_on(rule.action, way), matches, first });
        }
        PolicyTerms { policy: id, rules, gives: earlier, overridden: Term::FALSE }
    }

    fn tier(&mut self, policies: &[PolicyId], way: Way, within: &ServiceSet, reached: Term) -> TierTerms {
        let mut tier = TierTerms {
            reached,
            policies: policies.iter().map(|p| self.policy(*p, way, within)).collect(),
            allow: Vec::new(),
            deny: Term::FALSE,
            pass: Term::FALSE,
            none: Term::FALSE,
            conflict: Term::FALSE,
        };
        let overrides = |p: PolicyId| -> &'c Policy { &self.c.model.policies[p] };
        let overridden: Vec<Vec<Term>> = tier
            .policies
            .iter()
            .map(|q| {
                let over = |p: &&PolicyTerms| overrides(p.policy).overrides.binary_search(&q.policy).is_ok();
                tier.policies.iter().filter(over).map(|p| p.gives).collect()
            })
            .collect();
        for (policy, by) in tier.policies.iter_mut().zip(overridden) {
            policy.overridden = self.pool.or(by);
        }
        // By verdict: some policy that is not overridden gives it.
        let mut given: Vec<(Verdict, Vec<Term>)> = Vec::new();
        for policy in &tier.policies {
            for rule in &policy.rules {
                let live = self.pool.minus(rule.first, policy.overridden);
                match given.iter_mut().find(|(v, _)| *v == rule.verdict) {
                    Some((_, terms)) => terms.push(live),
                    None => given.push((rule.verdict, vec![live])),
                }
            }
        }
        let given: Vec<(Verdict, Term)> = given.into_iter().map(|(v, t)| (v, self.pool.or(t))).collect();
        let mut seen = Term::FALSE;
        let mut conflicts = Vec::new();
        for (_, term) in &given {
            conflicts.push(self.pool.and([seen, *term]));
            seen = self.pool.or([seen, *term]);
        }
        tier.conflict = self.pool.or(conflicts);
        tier.none = self.pool.not(seen);
        for (verdict, term) in given {
            let agreed = self.pool.minus(term, tier.conflict);
            match verdict {
                Verdict::Allow { via } => tier.allow.push((via, agreed)),
                Verdict::Deny => tier.deny = agreed,
                Verdict::Pass => tier.pass = agreed,
            }
        }
        tier.allow.sort_unstable();
        tier
    }

    /// The view of a tenant on flows that go this way.
    pub fn view(&mut self, tenant: OwnerId, way: Way, within: &ServiceSet) -> ViewTerms {
        self.view_among(tenant, way, within, |_| true)
    }

    /// As [`Encoder::view`], if only these policies stood in it.
    pub fn view_among(
        &mut self,
        tenant: OwnerId,
        way: Way,
        within: &ServiceSet,
        stands: impl Fn(PolicyId) -> bool,
    ) -> ViewTerms {
        let c = self.c;
        let stands_after = c.model.fabric.lowest_delegated();
        let mut view = ViewTerms {
            tiers: Vec::new(),
            stand_in: None,
            allow: Term::FALSE,
            via: Vec::new(),
            conflict: Term::FALSE,
            default: Term::FALSE,
        };
        let (mut allow, mut conflict) = (Vec::new(), Vec::new());
        let mut via: Vec<(GatewayId, Vec<Term>)> = Vec::new();
        let mut reached = Term::TRUE;
        for (position, policies) in c.views[tenant].iter().enumerate() {
            let policies: Vec<PolicyId> = policies.iter().copied().filter(|p| stands(*p)).collect();
            let tier = self.tier(&policies, way, within, reached);
            for (gateway, term) in &tier.allow {
                let decides = self.pool.and([reached, *term]);
                allow.push(decides);
                if let Some(gateway) = gateway {
                    match via.iter_mut().find(|(g, _)| g == gateway) {
                        Some((_, terms)) => terms.push(decides),
                        None => via.push((*gateway, vec![decides])),
                    }
                }
            }
            conflict.push(self.pool.and([reached, tier.conflict]));
            let mut next = self.pool.or([tier.pass, tier.none]);
            if stands_after == Some(position)
                && let Some(exposure) = way.exposure
            {
                let decides = self.pool.and([reached, tier.none]);
                allow.push(decides);
                view.stand_in = Some(StandIn { exposure, after: stands_after, decides });
                next = tier.pass;
            }
            reached = self.pool.and([reached, next]);
            view.tiers.push(tier);
        }
        match way.exposure {
            Some(exposure) if stands_after.is_none() => {
                allow.push(reached);
                view.stand_in = Some(StandIn { exposure, after: None, decides: reached });
            }
            _ => view.default = reached,
        }
        view.allow = self.pool.or(allow);
        view.conflict = self.pool.or(conflict);
        view.via = via.into_iter().map(|(g, terms)| (g, self.pool.or(terms))).collect();
        view.via.sort_unstable();
        view
    }

    /// A flow of the frame goes on the channel.
    pub fn possible(&mut self, channel: &Channel) -> Term {
        let family = self.frame.family;
        let parts = [
            self.in_frame(),
            self.src_in(channel.src_set.family(family)),
            self.dst_in(channel.dst_set.family(family)),
            self.service(&channel.service),
            self.well_formed(),
        ];
        self.pool.and(parts)
    }

    /// The whole decision on a channel between the frame's owners.
    pub fn decision(&mut self, id: ChannelId) -> DecisionTerms {
        let c = self.c;
        let channel = &c.channels[id];
        let way = eval::channel_way(c, id);
        let tenant = |owner: OwnerId| c.model.owners[owner].is_tenant();
        let possible = self.possible(channel);
        let egress = tenant(channel.src)
            .then(|| self.view(channel.src, Way { exposure: None, ..way }, &channel.service));
        let ingress = (channel.kind != ChannelKind::Intra && tenant(channel.dst))
            .then(|| self.view(channel.dst, way, &channel.service));
        let views: Vec<Term> = [&egress, &ingress].into_iter().flatten().map(|v| v.allow).collect();
        let allow = self.pool.and(views);
        let via = match (way.intra, way.gateway) {
            (true, _) => egress.as_ref().map(|v| v.via.clone()).unwrap_or_default(),
            (false, Some(gateway)) => vec![(gateway, allow)],
            (false, None) => Vec::new(),
        };
        DecisionTerms { channel: id, possible, egress, ingress, allow, via }
    }
}

impl DecisionTerms {
    /// The view of one end's owner.
    #[must_use]
    pub fn view_of(&self, c: &Compiled, tenant: OwnerId) -> Option<&ViewTerms> {
        let channel = &c.channels[self.channel];
        if channel.src == tenant { self.egress.as_ref() } else { self.ingress.as_ref() }
    }

    /// Allowed through this gateway.
    #[must_use]
    pub fn allowed_via(&self, gateway: GatewayId) -> Term {
        self.via.iter().find(|(g, _)| *g == gateway).map_or(Term::FALSE, |(_, term)| *term)
    }
}

impl ViewTerms {
    /// When this rule decides; `false` if it cannot.
    #[must_use]
    pub fn decides(&self, pool: &mut Pool, id: RuleId) -> Term {
        for tier in &self.tiers {
            for policy in &tier.policies {
                if let Some(rule) = policy.rules.iter().find(|r| r.rule == id) {
                    let live = pool.minus(rule.first, policy.overridden);
                    return pool.and([tier.reached, live]);
                }
            }
        }
        Term::FALSE
    }

    /// When this rule matches.
    #[must_use]
    pub fn matches(&self, id: RuleId) -> Term {
        let rules = self.tiers.iter().flat_map(|t| &t.policies).flat_map(|p| &p.rules);
        rules.filter(|r| r.rule == id).map(|r| r.matches).next().unwrap_or(Term::FALSE)
    }

    /// What `eval` names as the decider, and when: of several rules the one whose name sorts first.
    #[must_use]
    pub fn deciders(&self, c: &Compiled, pool: &mut Pool) -> Vec<(Decider, Term)> {
        let mut out = Vec::new();
        for tier in &self.tiers {
            let passed = pool.or([tier.pass, tier.none]);
            let decided = pool.minus(tier.reached, passed);
            let mut live: Vec<(u32, RuleId, Term)> = Vec::new();
            for policy in &tier.policies {
                for rule in &policy.rules {
                    let term = pool.minus(rule.first, policy.overridden);
                    live.push((c.model.rules[rule.rule].rank, rule.rule, term));
                }
            }
            live.sort_unstable();
            let mut earlier = Term::FALSE;
            for (_, rule, term) in live {
                let leads = pool.minus(term, earlier);
                earlier = pool.or([earlier, term]);
                out.push((Decider::Rule(rule), pool.and([decided, leads])));
            }
        }
        if let Some(stand_in) = self.stand_in {
            out.push((Decider::Exposure(stand_in.exposure), stand_in.decides));
        }
        out.push((Decider::Default, self.default));
        out
    }
}

/// Whether some possible flow matches the rule in some view that it takes part in: what PW0405 denies of a rule.
#[must_use]
pub fn matches_possible_flow(c: &Compiled, id: RuleId) -> bool {
    let rule = &c.model.rules[id];
    match c.model.policies[rule.policy].owner {
        Some(owner) => c.channels_of[owner].iter().any(|id| matches_on(rule, &c.channels[*id])),
        None => c.channels.values().any(|channel| matches_on(rule, channel)),
    }
}

/// Whether the rule matches some flow on a channel.
#[must_use]
pub fn matches_on(rule: &Rule, channel: &Channel) -> bool {
    let Some((src, dst)) = ends(rule, channel) else { return false };
    let service = rule.service.intersect(&channel.service);
    let (src, dst) = (src.intersect(&channel.src_set), dst.intersect(&channel.dst_set));
    some_flow(channel.src == channel.dst, &src, &dst, &service)
}

type Ends<'r> = (Cow<'r, compiler::algebra::AddrSet>, Cow<'r, compiler::algebra::AddrSet>);

/// The rule's source and destination addresses between a channel's owners.
fn ends<'r>(rule: &'r Rule, channel: &'r Channel) -> Option<Ends<'r>> {
    match &rule.pairs {
        PairSet::SameTenant => (channel.src == channel.dst)
            .then_some((Cow::Borrowed(&channel.src_set), Cow::Borrowed(&channel.dst_set))),
        PairSet::Sets(src, dst) => {
            Some((Cow::Borrowed(src.of(channel.src)), Cow::Borrowed(dst.of(channel.dst))))
        }
    }
}
