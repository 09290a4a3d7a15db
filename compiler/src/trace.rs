//! The reference meaning, told: the same walk as [`crate::eval`], with its steps. Every decision in it is eval's own; this
//! file adds words.

mod way_back;

use crate::algebra::{Family, format_addr};
use crate::compiled::{Compiled, Destination, Source, SpaceRange};
use crate::eval::{self, Decision, NoFlow, Resolution, TierDecision, ViewDecision, Way};
use crate::ids::{ExposureId, NodeId, OwnerId, PolicyId};
use crate::model::{Action, RouteTarget};
use crate::packet::{End, Flow, Packet};
use crate::wire::{decider_name, packet_text};
use lang::span::Span;

/// One step: what was looked at, what came of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// 0 for a stage, 1 for what happens in it, 2 below that.
    pub depth: u8,
    pub text: String,
    /// The declaration that is responsible.
    pub span: Option<Span>,
}

/// A packet's way, told.
#[derive(Debug, Clone)]
pub struct Trace {
    pub decision: Decision,
    pub steps: Vec<Step>,
}

struct Teller<'a> {
    c: &'a Compiled,
    /// Instances that have failed.
    down: &'a [NodeId],
    steps: Vec<Step>,
}

/// Tells the decision on a packet step by step, the instance that carries it and the way of its replies; `down` names
/// gateway instances that have failed.
///
/// # Errors
/// The two ends are one.
pub fn trace(c: &Compiled, p: &Packet, down: &[NodeId]) -> Result<Trace, NoFlow> {
    let decision = eval::decide(c, p)?;
    let mut t = Teller { c, down, steps: Vec::new() };
    t.say(0, packet_text(c, p), None);
    t.source(p);
    t.route(p);
    if let Resolution::Flow { flow, way } = eval::resolve(c, p)? {
        t.way(p, &flow, way);
        let owner = |id: OwnerId| &c.model.owners[id];
        if owner(flow.src.owner).is_tenant() {
            t.view(flow.src.owner, &flow, Way { exposure: None, ..way });
        }
        if !way.intra && owner(flow.dst.owner).is_tenant() {
            t.view(flow.dst.owner, &flow, way);
        }
        t.outcome(&decision, &flow, way);
    } else {
        t.say(0, format!("verdict: deny ({})", decision.reason.as_str()), None);
    }
    Ok(Trace { decision, steps: t.steps })
}

impl Teller<'_> {
    fn say(&mut self, depth: u8, text: impl Into<String>, span: Option<Span>) {
        self.steps.push(Step { depth, text: text.into(), span });
    }

    fn end(&self, family: Family, end: End) -> String {
        format!("{} {}", self.c.model.owners[end.owner].name, format_addr(family, end.address))
    }

    fn owner(&self, id: OwnerId) -> String {
        let owner = &self.c.model.owners[id];
        format!("{} {}", if owner.is_tenant() { "tenant" } else { "external" }, owner.name)
    }

    fn exposures(&self, ids: &[ExposureId]) -> String {
        ids.iter().map(|id| self.c.model.exposures[*id].name.as_str()).collect::<Vec<_>>().join(", ")
    }

    fn source(&mut self, p: &Packet) {
        let name = self.owner(p.space);
        self.say(0, format!("source {} in the space of {name}", format_addr(p.family, p.src)), None);
        let Some(range) = self.c.spaces[p.space].sources.get(p.family, p.src) else {
            self.say(1, "in no segment, no client prefix and behind no route: unknown-source", None);
            return;
        };
        let real = |real: u128, range: &SpaceRange<Source>| format_addr(p.family, p.src - range.lo + real);
        let (text, span) = match &range.target {
            Source::Local { segment } => {
                let segment = &self.c.model.segments[*segment];
                (format!("in segment {}, VNI {}", segment.name, segment.vni), Some(segment.span))
            }
            Source::Client { owner, real: lo, exposures, .. } => (
                format!(
                    "a client: {} of {}, shown so by {}",
                    real(*lo, range),
                    self.owner(*owner),
                    self.exposures(exposures)
                ),
                exposures.first().map(|id| self.c.model.exposures[*id].span),
            ),
            Source::External { owner, real: lo, gateway, .. } => (
                format!(
                    "{} of {}, behind gateway {}",
                    real(*lo, range),
                    self.owner(*owner),
                    self.c.model.gateways[*gateway].name
                ),
                None,
            ),
            Source::Direct { owner, route } => (
                format!("behind the direct route to {}", self.owner(*owner)),
                Some(self.c.model.routes[*route].span),
            ),
            Source::Own => ("one of the external's own".into(), Some(self.c.model.owners[p.space].span)),
        };
        self.say(1, text, span);
    }

    fn route(&mut self, p: &Packet) {
        let seen = format_addr(p.family, p.dst);
        self.say(0, format!("route to {seen}"), None);
        let Some(range) = self.c.spaces[p.space].destinations.get(p.family, p.dst) else {
            self.say(1, "no segment, import or route matches: no-route", None);
            return;
        };
        let (text, span) = match &range.target {
            Destination::Local { segment } => {
                let segment = &self.c.model.segments[*segment];
                (format!("segment {}, VNI {}", segment.name, segment.vni), Some(segment.span))
            }
            Destination::Import { owner, real, gateway, exposures } => (
                format!(
                    "{} of {}, through gateway {}, presented so by {}",
                    format_addr(p.family, p.dst - range.lo + real),
                    self.owner(*owner),
                    self.c.model.gateways[*gateway].name,
                    self.exposures(exposures)
                ),
                exposures.first().map(|id| self.c.model.exposures[*id].head),
            ),
            Destination::External { owner, gateway, route } => (
                format!("{} behind gateway {}", self.owner(*owner), self.c.model.gateways[*gateway].name),
                Some(self.c.model.routes[*route].span),
            ),
            Destination::Direct { owner, route, .. } => {
                let route = &self.c.model.routes[*route];
                let why = match &route.target {
                    RouteTarget::Direct { why, .. } => why.as_str(),
                    RouteTarget::Via(_) => "",
                };
                (format!("{} directly, past every gateway: \"{why}\"", self.owner(*owner)), Some(route.span))
            }
            Destination::ClientOnly => {
                ("known only as a client's, for its replies: not-exposed".into(), None)
            }
            Destination::Nowhere => {
                ("behind a route to a gateway none of whose externals has it: no-route".into(), None)
            }
        };
        self.say(1, text, span);
        let refused = eval::resolve(self.c, p);
        if let Ok(Resolution::Dropped { reason: eval::Reason::NotExposed, to: Some(to), .. }) = refused {
            let exposures = match &range.target {
                Destination::Import { exposures, .. } => exposures.clone(),
                _ => match self.c.spaces[p.space].sources.get(p.family, p.src).map(|r| &r.target) {
                    Some(Source::Client { exposures, .. } | Source::External { exposures, .. }) => {
                        exposures.clone()
                    }
                    _ => Vec::new(),
                },
            };
            for id in exposures {
                let exposure = &self.c.model.exposures[id];
                let (name, span) = (exposure.name.clone(), exposure.span);
                let service = exposure.service.contains(p.protocol, p.x, p.y);
                let why = if !exposure.set.contains(p.family, to.address) {
                    "does not hold this address"
                } else if service {
                    "is not for this client"
                } else {
                    "is not for this service"
                };
                self.say(1, format!("exposure {name} {why}"), Some(span));
            }
            self.say(1, "no exposure admits the packet: not-exposed", None);
        }
    }

    fn way(&mut self, p: &Packet, flow: &Flow, way: Way) {
        let ends = format!("{} -> {}", self.end(p.family, flow.src), self.end(p.family, flow.dst));
        self.say(0, format!("real ends: {ends}"), None);
        let Some(id) = way.exposure else { return };
        let exposure = &self.c.model.exposures[id];
        let span = exposure.span;
        let shown = exposure.show(flow.src.owner, flow.family, flow.src.address);
        let presented = exposure.present(flow.family, flow.dst.address);
        let name = exposure.name.clone();
        let text = |a: Option<u128>| a.map_or_else(|| "?".into(), |a| format_addr(p.family, a).to_string());
        let provider = self.owner(flow.dst.owner);
        self.say(1, format!("under exposure {name}"), Some(span));
        self.say(
            1,
            format!("{provider} sees the client as {}, the client sees {}", text(shown), text(presented)),
            None,
        );
    }

    fn view(&mut self, tenant: OwnerId, flow: &Flow, way: Way) {
        let name = self.owner(tenant);
        self.say(0, format!("view of {name}"), None);
        let last = self.c.model.fabric.lowest_delegated();
        let tiers = self.c.model.fabric.tiers.iter().zip(&self.c.views[tenant]).enumerate();
        for (index, (tier, policies)) in tiers {
            let decision = eval::tier_decision(self.c, policies, flow, way);
            let said = match decision {
                TierDecision::None => "no verdict".to_owned(),
                TierDecision::Pass => "pass".to_owned(),
                TierDecision::Verdict(v) => self.verdict(v),
            };
            self.say(1, format!("tier {}: {said}", tier.name), None);
            self.policies(policies, flow);
            if let TierDecision::Verdict(_) = decision {
                return;
            }
            if decision == TierDecision::None && last == Some(index) && way.exposure.is_some() {
                self.stand_in(way);
                return;
            }
        }
        if last.is_none() && way.exposure.is_some() {
            self.stand_in(way);
        } else {
            self.say(1, "after the last tier: deny (default)", None);
        }
    }

    fn stand_in(&mut self, way: Way) {
        if let Some(id) = way.exposure {
            let exposure = &self.c.model.exposures[id];
            let (name, span) = (exposure.name.clone(), exposure.span);
            self.say(1, format!("exposure {name} stands for a rule here: allow"), Some(span));
        }
    }

    fn verdict(&self, v: ViewDecision) -> String {
        let by = decider_name(self.c, v.by).unwrap_or("default");
        let via = v.via.map(|g| format!(" via {}", self.c.model.gateways[g].name)).unwrap_or_default();
        match (v.conflict, v.allow) {
            (true, _) => "conflict, denied (PW0401)".into(),
            (_, true) => format!("allow{via} by {by}"),
            (_, false) => format!("deny by {by}"),
        }
    }

    fn policies(&mut self, policies: &[PolicyId], flow: &Flow) {
        let deciding = eval::tier_rules(self.c, policies, flow);
        for &policy in policies {
            let Some(id) = eval::first_match(self.c, policy, flow) else { continue };
            let rule = &self.c.model.rules[id];
            let (name, span) = (rule.name.clone(), rule.span);
            let action = match rule.action {
                Action::Allow { via: None } => "allow".to_owned(),
                Action::Allow { via: Some(g) } => format!("allow via {}", self.c.model.gateways[g].name),
                Action::Deny => "deny".to_owned(),
                Action::Pass => "pass".to_owned(),
            };
            let note = if deciding.contains(&id) { "" } else { ", overridden" };
            self.say(2, format!("{name}: {action}{note}"), Some(span));
        }
    }
}
