//! Z3 as the certifier of what boxes have covered.
//!
//! SOUNDNESS. A certificate says that a rule decides nothing (or that two rules never decide one flow) on one channel, in one view and
//! family, and names what takes the flows. What is asked of Z3 shares nothing with the boxes: it is encoded from the model's sets by
//! [`crate::encode`]. If no flow of the channel matches the subject and is in no taker's region, the verdict holds, where a region is
//!
//! - in the same policy before the rule, or in a policy that overrides it: what the taker matches;
//! - in a higher tier, for a taker that does not `pass`: what it matches without what any `pass` matches that comes before it in its
//!   policy or stands in one that overrides it (the tier decides there: see [`crate::cover::table`]); for one that does `pass`: what
//!   it matches within such a region of another rule of its tier;
//! - for an exposure: what no rule of the tier after which it stands matches. A certificate about a dead rule names the rules of that
//!   tier one by one; in one about a pair or a redundant rule they are meant with the exposure, and what they decide is taken too.
//!
//! A certificate about a redundant rule says that what the rule decides meets a rule of its verdict next, among the later ones of its
//! policy that are not gone. There the later rules of its verdict that it names take what they match, without what any later rule of
//! another verdict matches that comes before: where one of them takes a flow, the first later rule that matches it is of the
//! verdict in question.
//!
//! Anything else named as a taker takes nothing. Large certificates are confirmed in [`pieces`]. Only Z3's `unsat` counts; `sat` is a contradiction and a [`Fault`].

use crate::checks::Task;
use crate::checks::redundant::{Gone, same};
use crate::checks::shadow::Blocker;
use crate::cover::pieces::{Piece, pieces};
use crate::encode::{Encoder, Frame};
use crate::replay;
use crate::solver::{Answer, Fault, Solver, Z3};
use crate::terms::{Pool, Term, Var};
use compiler::algebra::{Family, RangeSet};
use compiler::compiled::Channel;
use compiler::eval::{self, Verdict};
use compiler::ids::{ChannelId, ExposureId, OwnerId, PolicyId, RuleId};
use compiler::model::Rule;
use compiler::sets::{PairSet, ServiceSet};
use rayon::prelude::*;
use std::collections::BTreeMap;

/// Pieces of certificates in one question: enough to share its set-up, few enough for it to stay small.
const BATCH: usize = 50;

/// What a certificate is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Subject {
    /// The rule decides nothing.
    Rule(RuleId),
    /// The rules, of two policies of one tier, decide no flow together.
    Pair(RuleId, RuleId),
    /// What the rule decides meets its verdict next.
    Redundant(RuleId),
}

impl Subject {
    /// The rules that match each flow in question.
    #[must_use]
    pub fn rules(self) -> Vec<RuleId> {
        match self {
            Self::Rule(id) | Self::Redundant(id) => vec![id],
            Self::Pair(a, b) => vec![a, b],
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Certificate {
    pub subject: Subject,
    pub tenant: OwnerId,
    pub channel: ChannelId,
    pub family: Family,
    pub by: Vec<Blocker>,
}

/// Has Z3 confirm each certificate; the subjects of those that spent their budget. `gone`: redundant rules, and dead ones, that are
/// left out for those before them.
///
/// # Errors
/// Z3 finds a flow that a certificate denies, or fails.
pub fn certify(task: Task<'_>, certificates: &[Certificate], gone: &Gone) -> Result<Vec<Subject>, Fault> {
    let kept = Kept::new(task, certificates, gone);
    let mut undecided = Vec::new();
    for family in Family::BOTH {
        let of = certificates.par_iter().filter(|c| c.family == family);
        let pieces: Vec<Piece<'_>> = of.flat_map_iter(|certificate| pieces(task, certificate)).collect();
        let batches: Vec<Vec<Subject>> = pieces
            .par_chunks(BATCH)
            .map(|batch| confirm(task, family, batch, &kept))
            .collect::<Result<_, Fault>>()?;
        undecided.extend(batches.into_iter().flatten());
    }
    undecided.sort_unstable();
    undecided.dedup();
    Ok(undecided)
}

fn confirm(
    task: Task<'_>,
    family: Family,
    batch: &[Piece<'_>],
    kept: &Kept<'_>,
) -> Result<Vec<Subject>, Fault> {
    if ask(task, family, batch, kept)?.0 == Answer::Unsat {
        return Ok(Vec::new());
    }
    // Which one it is.
    let mut undecided = Vec::new();
    for one in batch {
        // One piece that is undecided is enough.
        if undecided.contains(&one.of.subject) {
            continue;
        }
        match ask(task, family, std::slice::from_ref(one), kept)? {
            (Answer::Unsat, _) => {}
            (Answer::Unknown, _) => undecided.push(one.of.subject),
            (Answer::Sat(values), dump) => {
                let dump = format!("{values:?} contradicts the certificate {one:?}\n{dump}");
                return Err(Fault::Mismatch { dump });
            }
        }
    }
    Ok(undecided)
}

/// Whether some flow contradicts one of the pieces, and the term that was asked.
fn ask(
    task: Task<'_>,
    family: Family,
    batch: &[Piece<'_>],
    kept: &Kept<'_>,
) -> Result<(Answer, String), Fault> {
    let mut pool = Pool::new();
    let mut gaps = Vec::with_capacity(batch.len());
    for piece in batch {
        let Some(frame) = Frame::of_channel(&task.c.channels[piece.of.channel], family) else { continue };
        let mut encoder = Encoder::new(task.c, frame);
        std::mem::swap(&mut encoder.pool, &mut pool);
        gaps.push(gap(task, &mut encoder, piece, kept));
        std::mem::swap(&mut encoder.pool, &mut pool);
    }
    let any = pool.or(gaps);
    if any == Term::FALSE {
        return Ok((Answer::Unsat, String::new()));
    }
    let mut solver = Z3::new(family, task.budget)?;
    solver.assert(&pool, any)?;
    let answer = solver.check()?;
    let dump = if matches!(answer, Answer::Sat(_)) { pool.dump(any) } else { String::new() };
    Ok((answer, dump))
}

/// The flows that contradict a piece of a certificate.
fn gap(task: Task<'_>, encoder: &mut Encoder<'_>, piece: &Piece<'_>, kept: &Kept<'_>) -> Term {
    let (model, certificate) = (&task.c.model, piece.of);
    let channel = &task.c.channels[certificate.channel];
    let mut parts = vec![encoder.possible(channel)];
    for id in certificate.subject.rules() {
        parts.push(encoder.rule(&model.rules[id], &channel.service));
    }
    if let Some(within) = piece.within {
        parts.push(encoder.ranges(Var::Src, &RangeSet::range(within.src.0, within.src.1)));
        parts.push(encoder.ranges(Var::Dst, &RangeSet::range(within.dst.0, within.dst.1)));
        parts.push(encoder.service(&ServiceSet { boxes: vec![within.service()] }));
    }
    let mut taken = Vec::with_capacity(piece.by.len());
    for blocker in &piece.by {
        taken.push(match blocker {
            Blocker::Rule(id) => region(task, encoder, certificate, *id),
            Blocker::Exposure(id) => stand_in(task, encoder, certificate, *id),
        });
    }
    if let Subject::Redundant(id) = certificate.subject {
        taken.extend(repeated(task, encoder, piece, id, kept));
    }
    let taken = encoder.pool.or(taken);
    parts.push(encoder.pool.not(taken));
    encoder.pool.and(parts)
}

/// What an exposure takes from the subject, and for a pair or a redundant rule what the rules of its tier decide.
fn stand_in(
    task: Task<'_>,
    encoder: &mut Encoder<'_>,
    certificate: &Certificate,
    exposure: ExposureId,
) -> Term {
    let (model, channel) = (&task.c.model, &task.c.channels[certificate.channel]);
    let way = replay::way_of(task.c, certificate.channel, certificate.tenant);
    let home = tier(task, certificate.subject);
    let stands = model.fabric.lowest_delegated().filter(|at| *at < home && way.exposure == Some(exposure));
    let Some(at) = stands else { return Term::FALSE };
    let rules: Vec<RuleId> = rules_of(task, certificate.tenant, at).collect();
    let matched: Vec<Term> = rules.iter().map(|r| encoder.rule(&model.rules[*r], &channel.service)).collect();
    let any = encoder.pool.or(matched);
    let mut taken = vec![encoder.pool.not(any)];
    if !matches!(certificate.subject, Subject::Rule(_)) {
        let passes = |rule: RuleId| eval::verdict_on(model.rules[rule].action, way) == Verdict::Pass;
        for rule in rules.into_iter().filter(|rule| !passes(*rule)) {
            taken.push(decided(task, encoder, certificate.tenant, channel, rule, &passes));
        }
    }
    encoder.pool.or(taken)
}

/// What the later rules that the certificate names give the verdict of a redundant rule, each by itself.
fn repeated(
    task: Task<'_>,
    encoder: &mut Encoder<'_>,
    piece: &Piece<'_>,
    id: RuleId,
    kept: &Kept<'_>,
) -> Vec<Term> {
    let (c, rules, certificate) = (task.c, &task.c.model.rules, piece.of);
    let within = &c.channels[certificate.channel].service;
    let way = replay::way_of(c, certificate.channel, certificate.tenant);
    let named: Vec<RuleId> = piece
        .by
        .iter()
        .filter_map(|by| if let Blocker::Rule(rule) = by { Some(*rule) } else { None })
        .filter(|rule| rules[*rule].policy == rules[id].policy && *rule > id)
        .filter(|rule| !kept.gone.contains(rule) && same(c, way, id, *rule))
        .collect();
    let Some(last) = named.iter().max() else { return Vec::new() };
    let mut others = kept.differing(task, certificate, id, *last);
    others.retain(|rule| !same(c, way, id, *rule));
    let (mut out, mut before, mut passed) = (Vec::new(), Term::FALSE, others.iter().peekable());
    for name in named {
        while let Some(other) = passed.next_if(|other| **other < name) {
            let matches = encoder.rule(&rules[*other], within);
            before = encoder.pool.or([before, matches]);
        }
        let matches = encoder.rule(&rules[name], within);
        out.push(encoder.pool.minus(matches, before));
    }
    out
}

/// The addresses around what a rule matches in a frame, source and destination.
type Hull = [(u128, u128); 2];

/// The rules that are kept when the redundant ones are gone.
struct Kept<'g> {
    gone: &'g Gone,
    /// By policy, channel and family: the policy's rules that match some addresses there, ascending.
    hulls: BTreeMap<(PolicyId, ChannelId, Family), Vec<(RuleId, Hull)>>,
}

impl<'g> Kept<'g> {
    fn new(task: Task<'_>, certificates: &[Certificate], gone: &'g Gone) -> Self {
        let rules = &task.c.model.rules;
        let mut hulls = BTreeMap::new();
        for certificate in certificates {
            let Subject::Redundant(id) = certificate.subject else { continue };
            let policy = rules[id].policy;
            hulls.entry((policy, certificate.channel, certificate.family)).or_insert_with(|| {
                let of = task.c.model.policies[policy].rules.iter();
                let frame = Frame::of_channel(&task.c.channels[certificate.channel], certificate.family);
                let hull = |id: &RuleId| Some((*id, hull(&rules[*id], frame.as_ref()?)?));
                of.filter_map(hull).collect()
            });
        }
        Self { gone, hulls }
    }

    /// The rules after one and up to another in its policy that may give a flow of the rule another verdict. Those of one action
    /// give one verdict, or none is the same as theirs (`allow … via` another gateway than the flow's own).
    fn differing(&self, task: Task<'_>, certificate: &Certificate, id: RuleId, last: RuleId) -> Vec<RuleId> {
        let rules = &task.c.model.rules;
        let all = self.hulls.get(&(rules[id].policy, certificate.channel, certificate.family));
        let all = all.map_or(&[][..], Vec::as_slice);
        let at = all.partition_point(|(rule, _)| *rule < id);
        let Some((_, own)) = all.get(at).filter(|(rule, _)| *rule == id) else { return Vec::new() };
        let meets = |(a, b): (&(u128, u128), &(u128, u128))| a.0 <= b.1 && b.0 <= a.1;
        let later = all.iter().skip(at + 1).take_while(|(rule, _)| *rule <= last);
        later
            .filter(|(rule, hull)| {
                rules[*rule].action != rules[id].action
                    && hull.iter().zip(own).all(meets)
                    && !self.gone.contains(rule)
            })
            .map(|(rule, _)| *rule)
            .collect()
    }
}

/// The addresses around what a rule matches in a frame; `None`: it matches none.
pub fn hull(rule: &Rule, frame: &Frame) -> Option<Hull> {
    let around = |set: &RangeSet| Some((set.first()?, set.ranges().last()?.1));
    match &rule.pairs {
        PairSet::SameTenant => Some([(0, frame.family.max()); 2]),
        PairSet::Sets(src, dst) => Some([
            around(src.of(frame.src).family(frame.family))?,
            around(dst.of(frame.dst).family(frame.family))?,
        ]),
    }
}

/// The tier in which the subject's rules stand.
fn tier(task: Task<'_>, subject: Subject) -> usize {
    let model = &task.c.model;
    let (Subject::Rule(id) | Subject::Pair(id, _) | Subject::Redundant(id)) = subject;
    model.policies[model.rules[id].policy].tier
}

/// The policies of a view in one tier.
fn policies(task: Task<'_>, tenant: OwnerId, tier: usize) -> &[PolicyId] {
    task.c.views[tenant].get(tier).map_or(&[], Vec::as_slice)
}

fn rules_of<'c>(task: Task<'c>, tenant: OwnerId, tier: usize) -> impl Iterator<Item = RuleId> + use<'c> {
    let policies = task.c.views[tenant].get(tier).map_or(&[][..], Vec::as_slice);
    policies.iter().flat_map(move |p| task.c.model.policies[*p].rules.iter().copied())
}

/// The flows that a rule takes from the subject; see the module's argument.
fn region(task: Task<'_>, encoder: &mut Encoder<'_>, certificate: &Certificate, id: RuleId) -> Term {
    let model = &task.c.model;
    let channel = &task.c.channels[certificate.channel];
    let policy = model.rules[id].policy;
    let (here, home) = (model.policies[policy].tier, tier(task, certificate.subject));
    if here == home {
        let takes = certificate.subject.rules().into_iter().any(|subject| {
            let its = model.rules[subject].policy;
            if its == policy { id < subject } else { overrides(task, policy, its) }
        });
        return if takes { encoder.rule(&model.rules[id], &channel.service) } else { Term::FALSE };
    }
    if here > home {
        return Term::FALSE;
    }
    let way = replay::way_of(task.c, certificate.channel, certificate.tenant);
    let passes = |rule: RuleId| eval::verdict_on(model.rules[rule].action, way) == Verdict::Pass;
    if !passes(id) {
        return decided(task, encoder, certificate.tenant, channel, id, &passes);
    }
    let others: Vec<RuleId> = rules_of(task, certificate.tenant, here).filter(|r| !passes(*r)).collect();
    let terms: Vec<Term> = others
        .into_iter()
        .map(|other| decided(task, encoder, certificate.tenant, channel, other, &passes))
        .collect();
    let any = encoder.pool.or(terms);
    let own = encoder.rule(&model.rules[id], &channel.service);
    encoder.pool.and([own, any])
}

fn overrides(task: Task<'_>, over: PolicyId, under: PolicyId) -> bool {
    task.c.model.policies[over].overrides.binary_search(&under).is_ok()
}

/// Flows on which a tier decides since this rule, which does not pass, matches.
fn decided(
    task: Task<'_>,
    encoder: &mut Encoder<'_>,
    tenant: OwnerId,
    channel: &Channel,
    id: RuleId,
    passes: &dyn Fn(RuleId) -> bool,
) -> Term {
    let model = &task.c.model;
    let policy = model.rules[id].policy;
    let earlier = model.policies[policy].rules.iter().copied().take_while(|r| *r != id);
    let above = policies(task, tenant, model.policies[policy].tier)
        .iter()
        .filter(|p| overrides(task, **p, policy))
        .flat_map(|p| model.policies[*p].rules.iter().copied());
    let passed: Vec<Term> = earlier
        .chain(above)
        .filter(|r| passes(*r))
        .map(|r| encoder.rule(&model.rules[r], &channel.service))
        .collect();
    let passed = encoder.pool.or(passed);
    let own = encoder.rule(&model.rules[id], &channel.service);
    encoder.pool.minus(own, passed)
}
