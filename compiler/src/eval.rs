//! The reference meaning: what is decided for one packet, by walking the compiled form in the order of the language
//! reference, 2.3 and 2.4. Everything else in the project is compared with this file.

use crate::compiled::{ChannelKind, Compiled, Destination, Source, SpaceRange};
use crate::ids::{ChannelId, ExposureId, GatewayId, OwnerId, PolicyId, RuleId};
use crate::lists::List;
use crate::model::{Action, Rule};
use crate::packet::{End, Flow, Packet};

/// What decided in one view.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Decider {
    Rule(RuleId),
    /// The exposure that stood for the destination's missing rule.
    Exposure(ExposureId),
    /// No tier gave a verdict.
    Default,
}

/// A verdict as a policy gives it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Verdict {
    /// `via` only where it steers: inside a tenant.
    Allow {
        via: Option<GatewayId>,
    },
    Deny,
    Pass,
}

/// The way on which a flow goes, as far as a view's decision depends on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Way {
    /// Whether both ends are in one tenant: only there `allow` and `allow via G` differ.
    pub intra: bool,
    /// The gateway of the exposure or of the route.
    pub gateway: Option<GatewayId>,
    /// The exposure that may stand for a rule in the destination's view.
    pub exposure: Option<ExposureId>,
}

/// What one view says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ViewDecision {
    pub allow: bool,
    /// Only inside a tenant: the gateway to steer through.
    pub via: Option<GatewayId>,
    /// Of several deciding rules the one whose name sorts first.
    pub by: Decider,
    /// Unordered policies disagreed (PW0401); then it denies.
    pub conflict: bool,
}

/// Why a packet was decided as it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Reason {
    UnknownSource,
    NoRoute,
    NotExposed,
    Rule,
    Default,
}

impl Reason {
    /// As `eval` prints it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::UnknownSource => "unknown-source",
            Self::NoRoute => "no-route",
            Self::NotExposed => "not-exposed",
            Self::Rule => "rule",
            Self::Default => "default",
        }
    }
}

/// The decision on one packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Decision {
    pub allow: bool,
    /// The gateway through which an allowed connection goes.
    pub via: Option<GatewayId>,
    /// The source's view; `None` where the source is an external or no view was asked.
    pub egress: Option<ViewDecision>,
    /// The destination's view; `None` inside one tenant and towards an external.
    pub ingress: Option<ViewDecision>,
    pub reason: Reason,
    /// The real ends, as far as they were resolved.
    pub from: Option<End>,
    pub to: Option<End>,
}

/// A packet that is no flow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NoFlow {
    #[error("source and destination are one end")]
    OneEnd,
}

/// The flow that a packet opens and the way on which it goes, or why it has none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Resolution {
    Dropped { reason: Reason, from: Option<End>, to: Option<End> },
    Flow { flow: Flow, way: Way },
}

/// Source check, route and exposure of a packet as seen in its space.
///
/// # Errors
/// The two ends are one.
pub fn resolve(c: &Compiled, p: &Packet) -> Result<Resolution, NoFlow> {
    let space = &c.spaces[p.space];
    let drop = |reason, from, to| Ok(Resolution::Dropped { reason, from, to });
    let Some(source) = space.sources.get(p.family, p.src) else {
        return drop(Reason::UnknownSource, None, None);
    };
    let from = source_end(p.space, source, p.src);
    let Some(range) = space.destinations.get(p.family, p.dst) else {
        return drop(Reason::NoRoute, Some(from), None);
    };
    let to = match destination_end(p.space, range, p.dst) {
        Ok(to) => to,
        Err(reason) => return drop(reason, Some(from), None),
    };
    if from == to {
        return Err(NoFlow::OneEnd);
    }
    let flow = Flow { src: from, dst: to, family: p.family, protocol: p.protocol, x: p.x, y: p.y };
    let way = match (&source.target, &range.target) {
        (Source::Local { .. }, Destination::Local { .. }) => {
            Some(Way { intra: true, gateway: None, exposure: None })
        }
        (Source::Local { .. } | Source::Own, Destination::Import { exposures, .. }) => {
            exposed(c, exposures, &flow)
        }
        (Source::Local { .. }, Destination::External { gateway, .. }) => {
            Some(Way { intra: false, gateway: Some(*gateway), exposure: None })
        }
        (Source::Local { .. }, Destination::Direct { .. }) => {
            Some(Way { intra: false, gateway: None, exposure: None })
        }
        (
            Source::Client { exposures, .. } | Source::External { exposures, .. },
            Destination::Local { .. },
        ) => exposed(c, exposures, &flow),
        (Source::Direct { owner, .. }, Destination::Local { .. }) => direct_from(c, *owner, p),
        _ => None,
    };
    match way {
        Some(way) => Ok(Resolution::Flow { flow, way }),
        None => drop(Reason::NotExposed, Some(from), Some(to)),
    }
}

/// The real end of a seen source.
fn source_end(space: OwnerId, range: &SpaceRange<Source>, seen: u128) -> End {
    match range.target {
        Source::Local { .. } | Source::Own => End { owner: space, address: seen },
        Source::Direct { owner, .. } => End { owner, address: seen },
        Source::Client { owner, real, .. } | Source::External { owner, real, .. } => {
            End { owner, address: seen - range.lo + real }
        }
    }
}

/// The real end of a seen destination, or why there is none.
fn destination_end(space: OwnerId, range: &SpaceRange<Destination>, seen: u128) -> Result<End, Reason> {
    match range.target {
        Destination::Local { .. } => Ok(End { owner: space, address: seen }),
        Destination::Import { owner, real, .. } => Ok(End { owner, address: seen - range.lo + real }),
        Destination::External { owner, .. } | Destination::Direct { owner, .. } => {
            Ok(End { owner, address: seen })
        }
        Destination::ClientOnly => Err(Reason::NotExposed),
        Destination::Nowhere => Err(Reason::NoRoute),
    }
}

/// The exposure, of those that present the destination (or show the source) under the seen address, that admits this
/// flow; where several do, the one whose name sorts first.
fn exposed(c: &Compiled, candidates: &[ExposureId], flow: &Flow) -> Option<Way> {
    let admits = |id: &&ExposureId| {
        let e = &c.model.exposures[**id];
        e.provider == flow.dst.owner
            && e.set.contains(flow.family, flow.dst.address)
            && e.service.contains(flow.protocol, flow.x, flow.y)
            && e.clients_of(flow.src.owner).is_some_and(|set| set.contains(flow.family, flow.src.address))
            && passes(c, **id, flow)
    };
    let id = *candidates.iter().filter(admits).min_by_key(|id| c.model.exposures[**id].rank)?;
    Some(Way { intra: false, gateway: Some(c.model.exposures[id].gateway), exposure: Some(id) })
}

/// Whether both translations of an exposure lead where they should: the client's space takes the presented address for the
/// destination, and the provider's space takes the shown address for the client. A client at an address that is the
/// provider's own, say, could never be answered.
fn passes(c: &Compiled, id: ExposureId, flow: &Flow) -> bool {
    let e = &c.model.exposures[id];
    let presented = e.present(flow.family, flow.dst.address).is_some_and(|seen| {
        c.spaces[flow.src.owner].destinations.get(flow.family, seen).is_some_and(|r| {
            matches!(&r.target, Destination::Import { owner, real, exposures, .. }
                if *owner == flow.dst.owner
                    && seen - r.lo + real == flow.dst.address
                    && exposures.binary_search(&id).is_ok())
        })
    });
    let shown = |seen: u128| {
        c.spaces[flow.dst.owner].sources.get(flow.family, seen).is_some_and(|r| match &r.target {
            Source::Client { owner, real, exposures, .. }
            | Source::External { owner, real, exposures, .. } => {
                *owner == flow.src.owner
                    && seen - r.lo + real == flow.src.address
                    && exposures.binary_search(&id).is_ok()
            }
            _ => false,
        })
    };
    presented && e.show(flow.src.owner, flow.family, flow.src.address).is_some_and(shown)
}

/// A flow that arrives over another tenant's direct route: that tenant must have one to the destination.
fn direct_from(c: &Compiled, source: OwnerId, p: &Packet) -> Option<Way> {
    let there = c.spaces[source].destinations.get(p.family, p.dst)?;
    matches!(there.target, Destination::Direct { owner, .. } if owner == p.space).then_some(Way {
        intra: false,
        gateway: None,
        exposure: None,
    })
}

/// The decision on a packet.
///
/// # Errors
/// The two ends are one.
pub fn decide(c: &Compiled, p: &Packet) -> Result<Decision, NoFlow> {
    Ok(match resolve(c, p)? {
        Resolution::Dropped { reason, from, to } => {
            Decision { allow: false, via: None, egress: None, ingress: None, reason, from, to }
        }
        Resolution::Flow { flow, way } => decide_on_way(c, &flow, way),
    })
}

/// The decision on a flow that goes on this channel; the flow must lie in the channel's box.
#[must_use]
pub fn decide_on_channel(c: &Compiled, channel: ChannelId, flow: &Flow) -> Decision {
    decide_on_way(c, flow, channel_way(c, channel))
}

/// The way that a channel is.
#[must_use]
pub fn channel_way(c: &Compiled, channel: ChannelId) -> Way {
    let channel = &c.channels[channel];
    let exposure = match channel.kind {
        ChannelKind::Exposed(id) => Some(id),
        _ => None,
    };
    Way { intra: channel.kind == ChannelKind::Intra, gateway: channel.gateway, exposure }
}

/// Both views on a flow, combined.
#[must_use]
pub fn decide_on_way(c: &Compiled, flow: &Flow, way: Way) -> Decision {
    let tenant = |owner: OwnerId| c.model.owners[owner].is_tenant();
    let egress = tenant(flow.src.owner).then(|| view(c, flow.src.owner, flow, Way { exposure: None, ..way }));
    let ingress = (!way.intra && tenant(flow.dst.owner)).then(|| view(c, flow.dst.owner, flow, way));
    let views = [egress, ingress];
    let allow = views.iter().flatten().all(|v| v.allow);
    // The first view that denies, or the first at all.
    let speaks = views.iter().flatten().find(|v| !v.allow).or_else(|| views.iter().flatten().next());
    let reason = match speaks.map(|v| v.by) {
        Some(Decider::Rule(_) | Decider::Exposure(_)) => Reason::Rule,
        Some(Decider::Default) | None => Reason::Default,
    };
    let via = if way.intra { egress.and_then(|v| v.via) } else { way.gateway };
    Decision {
        allow,
        via: via.filter(|_| allow),
        egress,
        ingress,
        reason,
        from: Some(flow.src),
        to: Some(flow.dst),
    }
}

/// What the view of `tenant` says of a flow on this way.
#[must_use]
pub fn view(c: &Compiled, tenant: OwnerId, flow: &Flow, way: Way) -> ViewDecision {
    let stands_after = c.model.fabric.lowest_delegated();
    let stand_in = way.exposure.map(|id| ViewDecision {
        allow: true,
        via: None,
        by: Decider::Exposure(id),
        conflict: false,
    });
    for (tier, policies) in c.views[tenant].iter().enumerate() {
        match tier_decision(c, policies, flow, way) {
            TierDecision::Verdict(decision) => return decision,
            TierDecision::Pass => {}
            TierDecision::None => {
                if stands_after == Some(tier)
                    && let Some(decision) = stand_in
                {
                    return decision;
                }
            }
        }
    }
    match stand_in {
        Some(decision) if stands_after.is_none() => decision,
        _ => ViewDecision { allow: false, via: None, by: Decider::Default, conflict: false },
    }
}

/// What one tier says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TierDecision {
    Verdict(ViewDecision),
    Pass,
    None,
}

/// The verdict that a rule gives on this way. An `allow via` through a gateway that is not the flow's own denies:
/// PW0505 reports it, and nothing is looser than written.
#[must_use]
pub fn verdict_on(action: Action, way: Way) -> Verdict {
    match action {
        Action::Deny => Verdict::Deny,
        Action::Pass => Verdict::Pass,
        Action::Allow { via } if way.intra => Verdict::Allow { via },
        Action::Allow { via: None } => Verdict::Allow { via: None },
        Action::Allow { via } if via == way.gateway => Verdict::Allow { via: None },
        Action::Allow { .. } => Verdict::Deny,
    }
}

/// Whether a rule's own sets hold the flow.
#[must_use]
pub fn matches(rule: &Rule, flow: &Flow) -> bool {
    rule.service.contains(flow.protocol, flow.x, flow.y) && rule.pairs.contains(flow)
}

/// The first rule of a policy that matches: what [`first_match`] means, asking one rule after the other.
#[must_use]
pub fn scan(c: &Compiled, policy: PolicyId, flow: &Flow) -> Option<RuleId> {
    c.model.policies[policy].rules.iter().copied().find(|id| matches(&c.model.rules[*id], flow))
}

/// The first rule of a policy that matches.
#[must_use]
pub fn first_match(c: &Compiled, policy: PolicyId, flow: &Flow) -> Option<RuleId> {
    match c.lists.of(&c.model, policy) {
        None => scan(c, policy, flow),
        Some(list) => in_list(c, policy, list, flow, 0, |_| true),
    }
}

/// The first rule after this one in its policy that is kept and matches.
#[must_use]
pub fn next_match(c: &Compiled, rule: RuleId, flow: &Flow, kept: impl Fn(RuleId) -> bool) -> Option<RuleId> {
    let policy = c.model.rules[rule].policy;
    let rules = &c.model.policies[policy].rules;
    // A policy's rules are made in its order.
    let from = rules.partition_point(|other| *other <= rule);
    match c.lists.of(&c.model, policy).zip(u32::try_from(from).ok()) {
        Some((list, from)) => in_list(c, policy, list, flow, from, kept),
        None => {
            let mut later = rules.iter().copied().skip(from);
            later.find(|id| kept(*id) && matches(&c.model.rules[*id], flow))
        }
    }
}

fn in_list(
    c: &Compiled,
    policy: PolicyId,
    list: &List,
    flow: &Flow,
    from: u32,
    kept: impl Fn(RuleId) -> bool,
) -> Option<RuleId> {
    let rules = &c.model.policies[policy].rules;
    let fits =
        |at: u32| rules.get(at as usize).is_some_and(|id| matches(&c.model.rules[*id], flow) && kept(*id));
    list.first(flow, from, fits).and_then(|at| rules.get(at as usize).copied())
}

/// The rules that decide in a tier: each policy's first match, without those of overridden policies.
#[must_use]
pub fn tier_rules(c: &Compiled, policies: &[PolicyId], flow: &Flow) -> Vec<RuleId> {
    let given: Vec<(PolicyId, RuleId)> =
        policies.iter().filter_map(|p| first_match(c, *p, flow).map(|r| (*p, r))).collect();
    let overridden = |policy: PolicyId| {
        given.iter().any(|(p, _)| c.model.policies[*p].overrides.binary_search(&policy).is_ok())
    };
    given.iter().filter(|(p, _)| !overridden(*p)).map(|(_, r)| *r).collect()
}

/// One tier's decision.
#[must_use]
pub fn tier_decision(c: &Compiled, policies: &[PolicyId], flow: &Flow, way: Way) -> TierDecision {
    let mut given = policies.iter().filter_map(|p| first_match(c, *p, flow));
    let Some(first) = given.next() else { return TierDecision::None };
    // Where one policy speaks there is nothing to override and nobody to disagree with, which is nearly always.
    if given.next().is_none() {
        return ruled(c, &[first], way);
    }
    ruled(c, &tier_rules(c, policies, flow), way)
}

/// What these deciding rules say together.
fn ruled(c: &Compiled, rules: &[RuleId], way: Way) -> TierDecision {
    let Some(&first) = rules.iter().min_by_key(|id| c.model.rules[**id].rank) else {
        return TierDecision::None;
    };
    let verdict = verdict_on(c.model.rules[first].action, way);
    let conflict = rules.iter().any(|id| verdict_on(c.model.rules[*id].action, way) != verdict);
    let by = Decider::Rule(first);
    TierDecision::Verdict(match verdict {
        _ if conflict => ViewDecision { allow: false, via: None, by, conflict },
        Verdict::Allow { via } => ViewDecision { allow: true, via, by, conflict },
        Verdict::Deny => ViewDecision { allow: false, via: None, by, conflict },
        Verdict::Pass => return TierDecision::Pass,
    })
}

/// The packet that opens this flow on this channel, as seen in the source's space; `None` if the channel presents the
/// destination under no address (the flow is not in its box).
#[must_use]
pub fn packet_on_channel(c: &Compiled, channel: ChannelId, flow: &Flow) -> Option<Packet> {
    let dst = match c.channels[channel].kind {
        ChannelKind::Exposed(id) => c.model.exposures[id].present(flow.family, flow.dst.address)?,
        _ => flow.dst.address,
    };
    Some(Packet {
        space: flow.src.owner,
        family: flow.family,
        src: flow.src.address,
        dst,
        protocol: flow.protocol,
        x: flow.x,
        y: flow.y,
    })
}
