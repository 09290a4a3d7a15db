//! What is probed: every test, every `isolate`, every drop reason that an endpoint's own packet can meet.

use super::choose::{Chooser, Shot};
use compiler::Compiled;
use compiler::eval::Reason;
use compiler::model::TestKind;
use compiler::sets::ServiceSet;
use lang::ast::Quantifier;
use lang::span::Span;

/// Eval's drop reasons that packets with the sender's own addresses can meet.
const REASONS: [Reason; 4] = [Reason::NoRoute, Reason::NotExposed, Reason::Default, Reason::Rule];

const NO_PAIR: &str = "no endpoint of the one side has an address for an endpoint of the other";

/// One line of the report to be.
#[derive(Debug)]
pub(crate) struct Planned {
    pub(crate) name: String,
    pub(crate) span: Option<Span>,
    /// An index into [`Plan::shots`], or why there is nothing to send.
    pub(crate) shot: Result<usize, String>,
}

#[derive(Debug, Default)]
pub(crate) struct Plan {
    pub(crate) probes: Vec<Planned>,
    /// Each once, however many probes it serves.
    pub(crate) shots: Vec<Shot>,
}

impl Plan {
    fn add(&mut self, name: String, span: Option<Span>, shot: Result<Shot, String>) {
        let shot = shot.map(|shot| {
            self.shots.iter().position(|s| *s == shot).unwrap_or_else(|| {
                self.shots.push(shot);
                self.shots.len() - 1
            })
        });
        self.probes.push(Planned { name, span, shot });
    }
}

pub(crate) fn plan(c: &Compiled, chooser: &mut Chooser<'_>) -> Plan {
    let mut plan = Plan::default();
    for test in &c.model.tests {
        for clause in &test.clauses {
            chooser.turn();
            let (word, shot) = clause_shot(chooser, &clause.kind);
            plan.add(format!("{}: {word}", test.name), Some(clause.span), shot);
        }
    }
    for (number, isolate) in (1..).zip(&c.model.isolates) {
        let none = || NO_PAIR.to_owned();
        let ways = [("forth", (&*isolate.what, &*isolate.from)), ("back", (&*isolate.from, &*isolate.what))];
        for (way, sets) in ways {
            chooser.turn();
            let shot = chooser.flow(sets, &ServiceSet::all(), |s| !s.decision.allow).ok_or_else(none);
            plan.add(format!("isolate {number}, {way}"), Some(isolate.span), shot);
        }
        if let Some((service, gateway)) = &isolate.allowing {
            for (way, sets) in ways {
                chooser.turn();
                let hole = |s: &Shot| s.decision.allow && s.decision.via == Some(*gateway);
                // The hole need not be open both ways, so nothing to show is nothing to report.
                if let Some(shot) = chooser.flow(sets, service, hole) {
                    plan.add(format!("isolate {number}, the hole {way}"), Some(isolate.span), Ok(shot));
                }
            }
        }
    }
    for reason in REASONS {
        chooser.turn();
        let none = || "no packet of a declared endpoint meets it".to_owned();
        plan.add(format!("drop: {}", reason.as_str()), None, chooser.denied(reason).ok_or_else(none));
    }
    plan
}

fn clause_shot(chooser: &Chooser<'_>, kind: &TestKind) -> (&'static str, Result<Shot, String>) {
    match kind {
        TestKind::Packet { packet, .. } => ("packet", chooser.packet(packet).map_err(str::to_owned)),
        TestKind::Flows { quantifier, src, dst, service, .. } => {
            let (word, allow) = match quantifier {
                Quantifier::Always => ("always", true),
                Quantifier::Some => ("some", true),
                Quantifier::Never => ("never", false),
            };
            // A project whose tests fail still gets a packet to look at, hence the second choice.
            let sets = (&**src, &**dst);
            let shot = chooser
                .flow(sets, service, |s| s.decision.allow == allow && (!allow || s.to.is_some()))
                .or_else(|| chooser.flow(sets, service, |_| true))
                .ok_or_else(|| NO_PAIR.to_owned());
            (word, shot)
        }
    }
}
