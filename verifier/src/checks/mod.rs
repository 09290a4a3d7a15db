//! The checks, one file each, and what they share.

pub mod conflict;
pub mod isolate;
pub mod judge;
pub mod note;
pub mod reach;
pub mod redundant;
pub mod shadow;
pub mod tests;
pub mod view;

use crate::cover::Work;
use compiler::Compiled;
use compiler::compiled::ChannelKind;
use compiler::eval::{self, Decider, Decision};
use compiler::ids::{ChannelId, OwnerId};
use compiler::packet::Flow;
use compiler::wire;
use lang::codes::Code;
use lang::diag::{Diagnostic, Label, WitnessText};
use lang::span::Span;

/// What every check is given.
#[derive(Debug, Clone, Copy)]
pub struct Task<'c> {
    pub c: &'c Compiled,
    /// Z3's resource limit for one question.
    pub budget: u32,
    /// Whether every verdict is to be confirmed a second time, whatever it costs.
    pub certify: bool,
    /// Box tests that one question may cost before it is left to Z3.
    pub work: u64,
    /// Whether the evaluator confirms each flow that boxes have shown. Always, but where the cost of deciding alone is measured.
    pub replay: bool,
}

/// What a check has found.
#[derive(Debug, Default)]
pub struct Findings {
    pub diagnostics: Vec<Diagnostic>,
    /// Questions that spent their budget.
    pub undecided: usize,
}

impl Findings {
    pub fn append(&mut self, other: Self) {
        self.diagnostics.extend(other.diagnostics);
        self.undecided += other.undecided;
    }

    /// PW0901: `question` reads as "whether …".
    pub fn undecided(&mut self, task: Task<'_>, span: Span, question: &str, rule: Option<&str>) {
        self.undecided += 1;
        let finding =
            Diagnostic::new(Code::PW0901, span, format!("{question} is undecided within the budget"))
                .label("the solver gave up here")
                .help(format!(
                    "raise the budget above {} with `--solver-budget`, or split the rule into simpler ones",
                    task.budget
                ));
        self.diagnostics.push(match rule {
            Some(rule) => finding.rule(rule),
            None => finding,
        });
    }

    /// PW0901 where no solver is asked: `question` reads as "whether …".
    pub fn too_wide(&mut self, span: Span, question: &str) {
        self.undecided += 1;
        let finding = Diagnostic::new(
            Code::PW0901,
            span,
            format!("{question} is undecided: it falls into too many boxes"),
        )
        .label("too many boxes of flows here")
        .help("name fewer or larger prefixes and services in the rules that decide these flows");
        self.diagnostics.push(finding);
    }
}

impl<'c> Task<'c> {
    /// The work that one question may cost.
    #[must_use]
    pub fn work(&self) -> Work {
        Work(self.work)
    }

    /// Whether what is proved about this owner's flows would not hold for the policy that was meant.
    #[must_use]
    pub fn tainted(&self, owner: OwnerId) -> bool {
        self.c.model.tainted.binary_search(&owner).is_ok()
    }

    /// Whether the flows of a channel are to be left alone.
    #[must_use]
    pub fn skips(&self, channel: ChannelId) -> bool {
        let channel = &self.c.channels[channel];
        self.tainted(channel.src) || self.tainted(channel.dst)
    }

    /// The name of an owner.
    #[must_use]
    pub fn owner(&self, owner: OwnerId) -> &'c str {
        &self.c.model.owners[owner].name
    }

    /// The channels between two owners, in that direction, ascending.
    #[must_use]
    pub fn between(&self, src: OwnerId, dst: OwnerId) -> Vec<ChannelId> {
        let ids = self.c.channels_of[src].iter().copied();
        ids.filter(|id| self.c.channels[*id].src == src && self.c.channels[*id].dst == dst).collect()
    }

    /// The witness of a flow on a channel: the packet as its sender writes it, and the decision on that packet.
    #[must_use]
    pub fn witness(&self, channel: ChannelId, flow: &Flow) -> Option<WitnessText> {
        let packet = eval::packet_on_channel(self.c, channel, flow)?;
        let decision = eval::decide(self.c, &packet).ok()?;
        Some(wire::witness(self.c, &packet, &decision))
    }

    /// The places that let a flow go on a channel, or forbid it there: exposure or direct route, and the deciding rules.
    #[must_use]
    pub fn explain(&self, mut finding: Diagnostic, channel: ChannelId, decision: &Decision) -> Diagnostic {
        let model = &self.c.model;
        let views = [decision.egress, decision.ingress];
        let mut tell = |span: Span, message: String, rule: Option<&str>| {
            let label = Label { span, message };
            if !finding.related.contains(&label) {
                finding.related.push(label);
            }
            if let Some(rule) = rule.filter(|r| !finding.rules.iter().any(|known| known == r)) {
                finding.rules.push(rule.to_owned());
            }
        };
        match self.c.channels[channel].kind {
            ChannelKind::Exposed(id) => {
                let exposure = &model.exposures[id];
                let stands = views.iter().flatten().any(|v| v.by == Decider::Exposure(id));
                let name = stands.then_some(exposure.name.as_str());
                tell(exposure.span, format!("opened by the exposure `{}`", exposure.name), name);
            }
            ChannelKind::Direct(id) => {
                tell(model.routes[id].span, "opened by this direct route".to_owned(), None);
            }
            ChannelKind::Intra | ChannelKind::ToExternal(_) => {}
        }
        for view in views.into_iter().flatten() {
            if let Decider::Rule(id) = view.by {
                let rule = &model.rules[id];
                let does = if view.allow { "allowed" } else { "denied" };
                tell(rule.span, format!("{does} by `{}`", rule.name), Some(&rule.name));
            }
        }
        finding
    }
}

/// Why a decision is what it is, to follow "is": "denied by `x`".
#[must_use]
pub fn reason(c: &Compiled, decision: &Decision) -> String {
    let views = [decision.egress, decision.ingress];
    let speaks = views.iter().flatten().find(|v| !v.allow).or_else(|| views.iter().flatten().next());
    let does = if decision.allow { "allowed" } else { "denied" };
    match speaks {
        Some(view) if view.conflict => format!("{does}, since policies conflict on it"),
        Some(view) => match wire::decider_name(c, view.by) {
            Some(name) => format!("{does} by `{name}`"),
            None => format!("{does}, since no rule allows it"),
        },
        None => format!("{does} ({})", decision.reason.as_str()),
    }
}
