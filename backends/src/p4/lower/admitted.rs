//! What mirrored replies admit beyond what the policy lets open a connection: told, never hidden.

use super::classes::{Ends, Joint};
use super::facts::{Fact, Facts};
use super::services::List;
use super::space::{ELSEWHERE, Say, Way};
use super::{Lowering, Who};
use crate::linux::admitted::{self, Admitted, service};
use crate::linux::services::mirrored;
use compiler::sets::ServiceBox;
use lang::codes::Code;
use lang::diag::Diagnostic;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

/// What packets between two classes may answer, next to what they may open.
pub(super) struct Answers {
    /// Boxes that are let through as answers alone, by the fact that they seem to answer.
    beyond: Vec<(Fact, Vec<ServiceBox>)>,
    /// Answers that go another way than what the same packets open.
    crossing: Vec<(Fact, Way, Way)>,
}

/// Boxes by number of what is said.
#[derive(Default)]
pub(super) struct Known {
    permits: BTreeMap<u32, List<Way>>,
    answered: BTreeMap<u32, List<(Fact, Way)>>,
    answers: BTreeMap<(u32, u32), Rc<Answers>>,
}

impl Lowering<'_> {
    pub(super) fn answers(
        &mut self,
        space: &Ends,
        facts: &Facts<'_>,
        known: &mut Known,
        (open, answered): (u32, u32),
    ) -> Rc<Answers> {
        if let Some(found) = known.answers.get(&(open, answered)) {
            return Rc::clone(found);
        }
        let permits = known.permits.entry(open).or_insert_with(|| {
            let ways = self.ways(space, facts, open, false);
            facts.list(open, |number, _| ways.get(&number).copied().flatten())
        });
        let answering = known.answered.entry(answered).or_insert_with(|| {
            let ways = self.ways(space, facts, answered, true);
            let told = |number: u32, fact: Fact| {
                ways.get(&number).copied().flatten().filter(|way| *way != ELSEWHERE).map(|way| (fact, way))
            };
            facts.list(answered, told)
        });
        let mut out = Answers { beyond: Vec::new(), crossing: Vec::new() };
        for (b, (fact, way)) in answering.iter() {
            for back in mirrored(b) {
                let left = admitted::without(&back, permits.iter().map(|(permit, _)| permit));
                if !left.is_empty() {
                    out.beyond.push((*fact, left));
                }
                for (permit, other) in permits.iter() {
                    let crossing = (*fact, *way, *other);
                    if way != other && back.intersect(permit).is_some() && !out.crossing.contains(&crossing) {
                        out.crossing.push(crossing);
                    }
                }
            }
        }
        let out = Rc::new(out);
        known.answers.insert((open, answered), Rc::clone(&out));
        out
    }

    /// How connections go that are allowed; one that goes another way than by this node is [`ELSEWHERE`].
    fn ways(
        &mut self,
        space: &Ends,
        facts: &Facts<'_>,
        said: u32,
        answer: bool,
    ) -> BTreeMap<u32, Option<Way>> {
        let numbers: BTreeSet<u32> = facts.said.get(said).into_iter().flatten().copied().collect();
        let mut out = BTreeMap::new();
        for number in numbers {
            let Some(fact) = facts.facts.get(number) else { continue };
            let way = match self.say(space, fact, answer) {
                _ if !fact.allows() => None,
                Say::Permit { way, .. } => Some(way),
                Say::Deny { .. } => Some(ELSEWHERE),
            };
            out.insert(number, way);
        }
        out
    }

    /// Answers that no rule lets open a connection: listed, and refused unless the fabric accepts them.
    pub(super) fn beyond(&mut self, space: &Ends, (from, to): (&Joint, &Joint), answers: &Answers) {
        for (fact, left) in &answers.beyond {
            let Some(who) = fact.egress.or(fact.ingress) else { continue };
            let (rule, span) = self.who_name(who);
            let (sender, receiver) = (addresses(space, from), addresses(space, to));
            if self.c.model.fabric.stateless_replies.is_none() {
                let example = format!("{sender} -> {receiver} : {}", service(left));
                self.unclaimed.entry((rule, span)).or_default().insert(example);
                continue;
            }
            for part in left {
                self.admitted.insert(Admitted {
                    rule: rule.clone(),
                    tenant: self.c.model.owners[space.tenant].name.clone(),
                    from: sender.clone(),
                    to: receiver.clone(),
                    service: service(&[*part]),
                });
            }
        }
    }

    /// One finding per rule whose answers the fabric does not accept.
    pub(super) fn unclaimed(&mut self) {
        for ((rule, span), examples) in std::mem::take(&mut self.unclaimed) {
            let message =
                format!("the p4 target would admit replies to `{rule}` that no connection asked for");
            let mut diagnostic = Diagnostic::new(Code::PW0801, span, message)
                .label("a switch without state cannot tell an answer from what only looks like one")
                .help("write `stateless-replies \"why\"` in the fabric if that is acceptable, or build this node for another target");
            if let Some(first) = examples.first() {
                diagnostic = diagnostic.note(format!("for one: {first}"));
            }
            self.diagnostics.push(diagnostic);
        }
    }

    /// A packet that may open a connection one way and answer one another way: nobody could say which it is.
    pub(super) fn two_ways(&mut self, space: &Ends, from: &Joint, answers: &Answers) {
        for (fact, way, other) in &answers.crossing {
            let same = way.gateway == other.gateway
                && from.pieces.iter().all(|p| {
                    self.translated(way.translation, space.family, p.lo)
                        == self.translated(other.translation, space.family, p.lo)
                });
            let Some(Who::Rule(id)) = fact.egress.or(fact.ingress).filter(|_| !same) else { continue };
            let rule = &self.c.model.rules[id];
            let message = format!("the p4 target cannot tell which way replies to `{}` go", rule.name);
            let diagnostic = Diagnostic::new(Code::PW0801, rule.span, message)
                .label("the same packets may open connections that go another way")
                .help("let both directions go through one gateway, or build this node for another target");
            if !self.diagnostics.contains(&diagnostic) {
                self.diagnostics.push(diagnostic);
            }
        }
    }
}

fn addresses(space: &Ends, joint: &Joint) -> String {
    admitted::addresses(space.family, joint.pieces.iter().map(|p| (p.lo, p.hi)))
}
