//! PW0402 and PW0404 (warning): rules that decide no possible flow, and what takes their flows.

use crate::checks::view::ViewScene;
use crate::checks::{Findings, Task};
use crate::cover::extent::Extent;
use crate::encode::{RuleTerms, matches_possible_flow};
use crate::properties;
use crate::replay;
use crate::scene::Found;
use crate::solver::Fault;
use crate::terms::Term;
use compiler::algebra::{Family, RangeSet};
use compiler::compiled::Channel;
use compiler::eval::{self, Verdict};
use compiler::ids::{ChannelId, ExposureId, OwnerId, RuleId};
use compiler::model::{Action, Rule};
use compiler::packet::{End, Flow, field_max, possible_protocol};
use compiler::sets::{PairSet, ServiceSet};
use lang::codes::Code;
use lang::diag::{Diagnostic, Severity};
use lang::span::Span;
use std::collections::{BTreeMap, BTreeSet};

/// Whether a rule decides anything in a view.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Alive {
    Yes,
    No,
    Undecided,
}

/// Whether a rule decides some flow in the view that these scenes are.
///
/// # Errors
/// The solver contradicts the evaluator.
pub fn alive(task: Task<'_>, scenes: &mut [ViewScene<'_>], rule: RuleId) -> Result<Alive, Fault> {
    let mut undecided = false;
    if scenes.iter().any(|at| guess(task, at, rule)) {
        return Ok(Alive::Yes);
    }
    for at in scenes {
        let (tenant, way) = (at.tenant, at.way);
        let term = properties::decides(&mut at.scene.encoder.pool, &at.view, rule);
        let shows = |flow: &Flow| replay::deciding(task.c, tenant, way, flow).contains(&rule);
        match at.scene.ask(term, &shows)? {
            Found::Yes(_) => return Ok(Alive::Yes),
            Found::No => {}
            Found::Undecided => undecided = true,
        }
    }
    Ok(if undecided { Alive::Undecided } else { Alive::No })
}

/// Whether the rule decides one of a few flows that it matches, taken from the corners of its boxes: most rules do, and a flow
/// that the evaluator confirms is all that a solver's answer would be worth.
fn guess(task: Task<'_>, at: &ViewScene<'_>, id: RuleId) -> bool {
    let rule = &task.c.model.rules[id];
    let frame = at.scene.encoder.frame();
    let (src_set, dst_set) = match &rule.pairs {
        PairSet::SameTenant if frame.src != frame.dst => return false,
        PairSet::SameTenant => (frame.src_set.clone(), frame.dst_set.clone()),
        PairSet::Sets(src, dst) => (
            frame.src_set.intersect(src.of(frame.src).family(frame.family)),
            frame.dst_set.intersect(dst.of(frame.dst).family(frame.family)),
        ),
    };
    let ends = |set: &RangeSet| Some((set.first()?, set.ranges().last()?.1));
    let (Some(src), Some(dst)) = (ends(&src_set), ends(&dst_set)) else { return false };
    let service = task.c.channels[at.channel].service.intersect(&rule.service);
    service.boxes.iter().any(|b| {
        let Some(protocol) = possible_protocol(b, frame.family) else { return false };
        let (x_max, y_max) = field_max(protocol);
        let (low, high) = ((b.x.0, b.y.0), (b.x.1.min(x_max), b.y.1.min(y_max)));
        [(src.0, dst.1, low), (src.1, dst.0, high), (src.0, dst.0, high)].into_iter().any(
            |(src, dst, (x, y))| {
                let flow = Flow {
                    src: End { owner: frame.src, address: src },
                    dst: End { owner: frame.dst, address: dst },
                    family: frame.family,
                    protocol,
                    x,
                    y,
                };
                flow.src != flow.dst
                    && replay::goes_on(task.c, at.channel, &flow)
                    && replay::deciding(task.c, at.tenant, at.way, &flow).contains(&id)
            },
        )
    })
}

/// Whether a rule is to be judged: some possible flow matches it (else PW0405 speaks), and no flow that might be its own
/// was left out with a tainted owner.
#[must_use]
pub fn judged(task: Task<'_>, id: RuleId) -> bool {
    untainted(task, id) && matches_possible_flow(task.c, id)
}

/// Whether no flow that might be the rule's own was left out with a tainted owner.
#[must_use]
pub fn untainted(task: Task<'_>, id: RuleId) -> bool {
    let owner = task.c.model.policies[task.c.model.rules[id].policy].owner;
    !owner.is_some_and(|o| task.tainted(o)) && !task.c.model.tainted.iter().any(|o| reaches(task, id, *o))
}

/// Whether the rule names ends of an owner.
#[must_use]
pub fn reaches(task: Task<'_>, id: RuleId, owner: OwnerId) -> bool {
    match &task.c.model.rules[id].pairs {
        PairSet::SameTenant => true,
        PairSet::Sets(src, dst) => !src.of(owner).is_empty() || !dst.of(owner).is_empty(),
    }
}

/// What stands before a rule and takes flows from it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Blocker {
    Rule(RuleId),
    Exposure(ExposureId),
}

/// A blocker over all channels.
#[derive(Debug, Clone, Copy, Default)]
pub struct Weight {
    /// Number of (source, destination, service) points that it has in common with the rule.
    pub overlap: f64,
    /// It gives another verdict than the rule.
    pub differs: bool,
}

/// What covers a rule: all that it matches, or all that it decides.
pub trait Coverage {
    /// What may be part of a cover.
    fn weights(&self) -> &BTreeMap<Blocker, Weight>;

    /// Whether these cover the rule; `None` if that is undecided.
    ///
    /// # Errors
    /// The solver contradicts the evaluator.
    fn covers(&mut self, cover: &[Blocker]) -> Result<Option<bool>, Fault>;

    /// Some of blockers that cover, without any one of which the others do not; it only saves questions.
    fn needed(&mut self, _among: &[Blocker]) -> BTreeSet<Blocker> {
        BTreeSet::new()
    }
}

/// What an engine knows of a rule that decides nothing: blockers cover it that take every possible flow that it matches.
pub trait Taken: Coverage {
    /// The first possible flow that the rule matches.
    ///
    /// # Errors
    /// The solver contradicts the evaluator.
    fn witness(&mut self) -> Result<Option<(ChannelId, Flow)>, Fault>;
}

/// One scene in which the rule matches, with the flows that each blocker takes there.
struct Part<'s, 'c> {
    at: &'s mut ViewScene<'c>,
    matches: Term,
    regions: Vec<(Blocker, Term)>,
}

/// PW0402 or PW0404 for a rule that decides nothing in any of the scenes.
///
/// # Errors
/// The solver contradicts the evaluator, or finds a flow that nothing takes.
pub fn report<'c>(task: Task<'c>, scenes: &mut [ViewScene<'c>], id: RuleId) -> Result<Findings, Fault> {
    let mut weights: BTreeMap<Blocker, Weight> = BTreeMap::new();
    let mut parts: Vec<Part<'_, '_>> = Vec::new();
    for at in scenes {
        parts.extend(part(task, at, id, &mut weights));
    }
    let mut parts = Parts { task, id, weights, parts, steps: task.budget.into() };
    let (finding, _) = finding(task, &mut parts, id)?;
    Ok(match parts.steps {
        0 => undecided_cover(task, id),
        _ => Findings { diagnostics: vec![finding], undecided: 0 },
    })
}

/// PW0901 for what takes a rule's flows: that something does is known.
#[must_use]
pub fn undecided_cover(task: Task<'_>, id: RuleId) -> Findings {
    let rule = &task.c.model.rules[id];
    let mut out = Findings::default();
    let question = format!("which rules together leave nothing to `{}`", rule.name);
    out.undecided(task, rule.span, &question, Some(&rule.name));
    out
}

/// The finding about a rule that decides nothing, and the blockers that it names.
///
/// # Errors
/// The solver contradicts the evaluator.
pub fn finding(task: Task<'_>, of: &mut impl Taken, id: RuleId) -> Result<(Diagnostic, Vec<Blocker>), Fault> {
    let weights = of.weights().clone();
    let owner = task.c.model.policies[task.c.model.rules[id].policy].owner;
    let owner_of = |blocker: Blocker| match blocker {
        Blocker::Rule(r) => task.c.model.policies[task.c.model.rules[r].policy].owner,
        Blocker::Exposure(e) => Some(task.c.model.exposures[e].provider),
    };
    let all: Vec<Blocker> = by_overlap(task, &weights, |_| true);
    let others: Vec<Blocker> = by_overlap(task, &weights, |b| owner_of(b) != owner);
    let allow = matches!(task.c.model.rules[id].action, Action::Allow { .. });
    let overruled = allow && !others.is_empty() && of.covers(&others)? == Some(true);
    let cover = irreducible(if overruled { others } else { all }, of)?;
    let differs = |b: &Blocker| weights.get(b).is_some_and(|w| w.differs);
    let (code, severity) = match overruled {
        true => (Code::PW0404, Severity::Warning),
        false => {
            // For a tenant's rule only its own rules count: it cannot know the platform's.
            let counts = |b: &&Blocker| owner.is_none() || owner_of(**b) == owner;
            let error = cover.iter().filter(counts).any(differs);
            (Code::PW0402, if error { Severity::Error } else { Severity::Warning })
        }
    };
    let mut finding = describe(task, id, code, &cover, &differs).severity(severity);
    if let Some((channel, flow)) = of.witness()?
        && let Some(text) = task.witness(channel, &flow)
    {
        finding = finding.witness(text);
    }
    Ok((finding, cover))
}

/// Blockers from which on it pays to look first for those that nothing can stand for.
const MANY: usize = 8;

/// An irreducible part of blockers that cover, in their order: what is left when from the last to the first each one is dropped
/// without which the others still cover, so that the largest overlaps stay.
pub(super) fn irreducible(all: Vec<Blocker>, of: &mut impl Coverage) -> Result<Vec<Blocker>, Fault> {
    let mut blockers = all.clone();
    let mut kept: BTreeSet<Blocker> = BTreeSet::new();
    let mut looked = false;
    loop {
        // The last one that cannot be dropped ends the shortest prefix that covers together with those kept so far.
        let (mut least, mut most) = (0, blockers.len());
        while least < most {
            let middle = least + (most - least) / 2;
            let fewer: Vec<Blocker> = blockers.iter().take(middle).chain(&kept).copied().collect();
            if of.covers(&fewer)? == Some(true) {
                most = middle;
            } else {
                least = middle + 1;
            }
        }
        blockers.truncate(least);
        if least > MANY && !looked {
            looked = true;
            // None of these is ever dropped, so the others are judged beside them.
            kept = of.needed(&blockers);
            blockers.retain(|blocker| !kept.contains(blocker));
            continue;
        }
        match blockers.pop() {
            Some(needed) => kept.insert(needed),
            None => break,
        };
    }
    Ok(all.into_iter().filter(|blocker| kept.contains(blocker)).collect())
}

/// Blockers, largest overlap first; of equal ones the name that sorts first.
pub(super) fn by_overlap(
    task: Task<'_>,
    weights: &BTreeMap<Blocker, Weight>,
    keep: impl Fn(Blocker) -> bool,
) -> Vec<Blocker> {
    let mut out: Vec<(f64, u32, Blocker)> =
        weights.iter().filter(|(b, _)| keep(**b)).map(|(b, w)| (w.overlap, rank(task, *b), *b)).collect();
    out.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
    out.into_iter().map(|(_, _, b)| b).collect()
}

fn rank(task: Task<'_>, blocker: Blocker) -> u32 {
    match blocker {
        Blocker::Rule(id) => task.c.model.rules[id].rank,
        Blocker::Exposure(id) => task.c.model.exposures[id].rank,
    }
}

/// The rule in one scene; `None` if it matches nothing there.
fn part<'s, 'c>(
    task: Task<'c>,
    at: &'s mut ViewScene<'c>,
    id: RuleId,
    weights: &mut BTreeMap<Blocker, Weight>,
) -> Option<Part<'s, 'c>> {
    let matches = at.view.matches(id);
    if matches == Term::FALSE {
        return None;
    }
    let c = task.c;
    let channel = &c.channels[at.channel];
    let family = at.scene.encoder.frame().family;
    let rule = &c.model.rules[id];
    let home = c.model.policies[rule.policy].tier;
    let own = eval::verdict_on(rule.action, at.way);
    let mut regions: Vec<(Blocker, Term)> = Vec::new();
    // False if the boxes have nothing in common: then the blocker takes nothing here.
    let mut weigh = |blocker: Blocker, other: Option<&Rule>, verdict: Verdict| {
        let common = overlap(channel, family, rule, other);
        if common > 0.0 {
            let weight = weights.entry(blocker).or_default();
            weight.overlap += common;
            weight.differs |= verdict != own;
        }
        common > 0.0
    };
    let pool = &mut at.scene.encoder.pool;
    for (position, tier) in at.view.tiers.iter().enumerate().take(home + 1) {
        let decided = {
            let passed = pool.or([tier.pass, tier.none]);
            pool.minus(tier.reached, passed)
        };
        for policy in &tier.policies {
            let overrides = c.model.policies[policy.policy].overrides.binary_search(&rule.policy).is_ok();
            let blocking: Vec<&RuleTerms> = if position < home || overrides {
                policy.rules.iter().collect()
            } else if policy.policy == rule.policy {
                policy.rules.iter().take_while(|r| r.rule != id).collect()
            } else {
                continue;
            };
            for blocker in blocking {
                // In its own tier a rule is stopped by whatever matches before it; in a higher tier by what decides.
                let region = if position < home {
                    let live = pool.minus(blocker.first, policy.overridden);
                    pool.and([decided, live])
                } else {
                    blocker.matches
                };
                let name = Blocker::Rule(blocker.rule);
                if weigh(name, Some(&c.model.rules[blocker.rule]), blocker.verdict) {
                    regions.push((name, region));
                }
            }
        }
    }
    if let Some(stand_in) = at.view.stand_in
        && stand_in.after.is_some_and(|after| after < home)
    {
        let name = Blocker::Exposure(stand_in.exposure);
        if weigh(name, None, Verdict::Allow { via: None }) {
            regions.push((name, stand_in.decides));
        }
    }
    Some(Part { at, matches, regions })
}

/// The rule in all scenes.
struct Parts<'s, 'c> {
    task: Task<'c>,
    id: RuleId,
    weights: BTreeMap<Blocker, Weight>,
    parts: Vec<Part<'s, 'c>>,
    /// Z3's steps that all questions together may still cost: as many as one question of whether the rule decides.
    steps: u64,
}

impl Coverage for Parts<'_, '_> {
    fn weights(&self) -> &BTreeMap<Blocker, Weight> {
        &self.weights
    }

    fn covers(&mut self, cover: &[Blocker]) -> Result<Option<bool>, Fault> {
        let (c, id) = (self.task.c, self.id);
        for part in &mut self.parts {
            if self.steps == 0 {
                return Ok(None);
            }
            let regions: Vec<Term> =
                part.regions.iter().filter(|(b, _)| cover.contains(b)).map(|(_, region)| *region).collect();
            let term = properties::uncovered(&mut part.at.scene.encoder.pool, part.matches, &regions);
            let found = part.at.scene.ask(term, &|flow| replay::matches(c, id, flow))?;
            self.steps = self.steps.saturating_sub(part.at.scene.spent);
            match found {
                Found::No => {}
                Found::Yes(_) => return Ok(Some(false)),
                Found::Undecided => self.steps = 0,
            }
        }
        Ok((self.steps > 0).then_some(true))
    }
}

impl Taken for Parts<'_, '_> {
    fn witness(&mut self) -> Result<Option<(ChannelId, Flow)>, Fault> {
        let (c, id) = (self.task.c, self.id);
        for part in &mut self.parts {
            let matches = part.matches;
            if let Found::Yes(flow) = part.at.scene.witness(matches, &|flow| replay::matches(c, id, flow))? {
                return Ok(Some((part.at.channel, flow)));
            }
        }
        Ok(None)
    }
}

fn describe(
    task: Task<'_>,
    id: RuleId,
    code: Code,
    cover: &[Blocker],
    differs: &dyn Fn(&Blocker) -> bool,
) -> Diagnostic {
    let model = &task.c.model;
    let rule = &model.rules[id];
    let place = |b: Blocker| -> (&str, Span) {
        match b {
            Blocker::Rule(r) => (&model.rules[r].name, model.rules[r].span),
            Blocker::Exposure(e) => (&model.exposures[e].name, model.exposures[e].span),
        }
    };
    let names: Vec<String> = cover.iter().map(|b| format!("`{}`", place(*b).0)).collect();
    let takers = list(&names);
    let verb = if cover.len() == 1 { "takes" } else { "together take" };
    let message = match code {
        Code::PW0404 => {
            format!("`{}` allows nothing: {takers} of another owner {verb} all of its flows", rule.name)
        }
        _ => format!("`{}` decides nothing: {takers} {verb} all of its flows", rule.name),
    };
    let mut finding = Diagnostic::new(code, rule.span, message)
        .label("no packet is ever decided by this rule")
        .rule(&rule.name);
    for blocker in cover {
        let (name, span) = place(*blocker);
        let how = if differs(blocker) { "and decides differently" } else { "with the same verdict" };
        finding = finding.related(span, format!("`{name}` takes its flows, {how}")).rule(name);
    }
    finding.help(match code {
        Code::PW0404 => {
            "remove the rule, or ask the owner of what takes its flows for an exception".to_owned()
        }
        _ if cover.iter().any(differs) => {
            format!("move the rule before what takes its flows, narrow {takers}, or remove the rule")
        }
        _ => "remove the rule; nothing changes without it".to_owned(),
    })
}

/// `a`, `a and b`, `a, b and c`; long lists are cut.
pub(super) fn list(names: &[String]) -> String {
    const SHOWN: usize = 4;
    match names {
        [] => "others".to_owned(),
        [one] => one.clone(),
        [init @ .., last] if names.len() <= SHOWN => format!("{} and {last}", init.join(", ")),
        _ => {
            let shown: Vec<&str> = names.iter().take(SHOWN - 1).map(String::as_str).collect();
            format!("{} and {} more", shown.join(", "), names.len() + 1 - SHOWN)
        }
    }
}

/// The size of what two rules (or a rule and a whole channel) have in common on a channel. As a floating-point number it
/// only ranks blockers.
#[must_use]
pub fn overlap(channel: &Channel, family: Family, rule: &Rule, other: Option<&Rule>) -> f64 {
    let mut src = channel.src_set.family(family).clone();
    let mut dst = channel.dst_set.family(family).clone();
    let mut service = channel.service.intersect(&rule.service);
    for rule in [Some(rule), other].into_iter().flatten() {
        if let PairSet::Sets(s, d) = &rule.pairs {
            src = src.intersect(s.of(channel.src).family(family));
            dst = dst.intersect(d.of(channel.dst).family(family));
        }
    }
    if let Some(other) = other {
        service = service.intersect(&other.service);
    }
    let count = |set: &RangeSet| set.ranges().iter().map(|(lo, hi)| size(*lo, *hi)).sum::<f64>();
    count(&src) * count(&dst) * services(&service)
}

/// `lo..=hi` as a number.
fn size(lo: u128, hi: u128) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "it only ranks blockers")]
    let width = (hi - lo) as f64;
    width + 1.0
}

/// The number of (protocol, field, field) in a set, each once: a set of services that holds another whole is never smaller.
fn services(service: &ServiceSet) -> f64 {
    let all: Vec<Extent> = service.boxes.iter().map(|b| Extent::all(Family::V4).with_service(b)).collect();
    let of = |(lo, hi): (u16, u16)| size(lo.into(), hi.into());
    let count = |b: &Extent| size(b.protocol.0.into(), b.protocol.1.into()) * of(b.x) * of(b.y);
    let mut sum = 0.0;
    for (at, one) in all.iter().enumerate() {
        let mut new = vec![*one];
        for earlier in all.iter().take(at).filter(|earlier| earlier.overlaps(one)) {
            let mut left = Vec::new();
            for part in new {
                if part.overlaps(earlier) { part.minus(earlier, &mut left) } else { left.push(part) }
            }
            new = left;
        }
        sum += new.iter().map(count).sum::<f64>();
    }
    sum
}

/// PW0901 for a rule.
#[must_use]
pub fn undecided(task: Task<'_>, id: RuleId) -> Findings {
    let rule = &task.c.model.rules[id];
    let mut out = Findings::default();
    out.undecided(task, rule.span, &format!("whether `{}` ever decides", rule.name), Some(&rule.name));
    out
}
