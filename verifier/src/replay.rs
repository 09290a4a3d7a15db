//! What the reference evaluator says, put the way the properties ask: the other side of every replay.

use compiler::Compiled;
use compiler::eval::{self, Decision, TierDecision, Way};
use compiler::ids::{ChannelId, GatewayId, OwnerId, PolicyId, RuleId};
use compiler::packet::Flow;

/// The way of a channel as one tenant's view sees it: an exposure stands in the destination's view only.
#[must_use]
pub fn way_of(c: &Compiled, channel: ChannelId, tenant: OwnerId) -> Way {
    let way = eval::channel_way(c, channel);
    if c.channels[channel].src == tenant { Way { exposure: None, ..way } } else { way }
}

/// The rules that decide in a view: those of each tier reached that are first in a policy not overridden.
#[must_use]
pub fn deciding(c: &Compiled, tenant: OwnerId, way: Way, flow: &Flow) -> Vec<RuleId> {
    deciding_in(c, c.views[tenant].iter().map(Vec::as_slice), way, flow)
}

/// As [`deciding`], if only these policies stood in the view.
#[must_use]
pub fn deciding_among(
    c: &Compiled,
    tenant: OwnerId,
    way: Way,
    flow: &Flow,
    stands: impl Fn(PolicyId) -> bool,
) -> Vec<RuleId> {
    let tiers = c.views[tenant].iter();
    let tiers: Vec<Vec<PolicyId>> =
        tiers.map(|tier| tier.iter().copied().filter(|p| stands(*p)).collect()).collect();
    deciding_in(c, tiers.iter().map(Vec::as_slice), way, flow)
}

fn deciding_in<'t>(
    c: &Compiled,
    tiers: impl Iterator<Item = &'t [PolicyId]>,
    way: Way,
    flow: &Flow,
) -> Vec<RuleId> {
    let stands_after = c.model.fabric.lowest_delegated();
    let mut out = Vec::new();
    for (tier, policies) in tiers.enumerate() {
        out.extend(eval::tier_rules(c, policies, flow));
        match eval::tier_decision(c, policies, flow, way) {
            TierDecision::Verdict(_) => break,
            TierDecision::None if stands_after == Some(tier) && way.exposure.is_some() => break,
            TierDecision::Pass | TierDecision::None => {}
        }
    }
    out
}

/// The rules after this one in its policy, in order.
#[must_use]
pub fn later(c: &Compiled, rule: RuleId) -> &[RuleId] {
    let rules = &c.model.policies[c.model.rules[rule].policy].rules;
    // A policy's rules are made in its order.
    rules.get(rules.partition_point(|other| *other <= rule)..).unwrap_or(&[])
}

/// The rule that a flow meets next in the policy of one that it meets, among those that are kept.
#[must_use]
pub fn next_match(c: &Compiled, rule: RuleId, flow: &Flow, kept: impl Fn(RuleId) -> bool) -> Option<RuleId> {
    eval::next_match(c, rule, flow, kept)
}

#[must_use]
pub fn matches(c: &Compiled, rule: RuleId, flow: &Flow) -> bool {
    eval::matches(&c.model.rules[rule], flow)
}

/// Whether the flow goes on this channel.
#[must_use]
pub fn goes_on(c: &Compiled, channel: ChannelId, flow: &Flow) -> bool {
    let channel = &c.channels[channel];
    channel.src == flow.src.owner
        && channel.dst == flow.dst.owner
        && channel.src_set.contains(flow.family, flow.src.address)
        && channel.dst_set.contains(flow.family, flow.dst.address)
        && channel.service.contains(flow.protocol, flow.x, flow.y)
}

/// The decisions on a flow, one for each channel of `channels` on which it goes.
#[must_use]
pub fn decisions(c: &Compiled, channels: &[ChannelId], flow: &Flow) -> Vec<(ChannelId, Decision)> {
    let on = channels.iter().filter(|id| goes_on(c, **id, flow));
    on.map(|id| (*id, eval::decide_on_channel(c, *id, flow))).collect()
}

/// Whether a decision allows, through this gateway if one is named.
#[must_use]
pub fn allows(decision: &Decision, via: Option<GatewayId>) -> bool {
    decision.allow && via.is_none_or(|gateway| decision.via == Some(gateway))
}
