//! What mirrored replies admit beyond what the policy lets open a connection: told, never hidden.

use super::classes::{Ends, Joint};
use super::services::List;
use super::space::{Told, Way};
use super::{Lowering, Who};
use compiler::algebra::format_addr;
use compiler::eval::Decider;
use compiler::packet::{self, Fields};
use compiler::sets::ServiceBox;
use lang::codes::Code;
use lang::diag::Diagnostic;

/// Packets that nobody asked for and that are let through, as their senders' and receivers' addresses are seen in a tenant's
/// space.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Admitted {
    /// The rule whose connections they seem to answer.
    pub rule: String,
    pub tenant: String,
    /// `10.1.0.5`, `10.1.0.5..10.1.0.9`, joined by `, `.
    pub from: String,
    pub to: String,
    /// `tcp from 443 to 0..65535, with ACK or RST`
    pub service: String,
}

impl std::fmt::Display for Admitted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} in {}: {} -> {} : {}", self.rule, self.tenant, self.from, self.to, self.service)
    }
}

impl Lowering<'_> {
    /// Answers that no rule lets open a connection: listed, and refused unless the fabric accepts them.
    pub(super) fn beyond(
        &mut self,
        space: &Ends,
        (from, to): (&Joint, &Joint),
        permits: &List<Way>,
        answers: &[(ServiceBox, Told)],
    ) {
        for (b, told) in answers {
            let mut left = vec![*b];
            for (permit, _) in permits {
                left = left.iter().flat_map(|part| subtract(part, permit)).collect();
            }
            if left.is_empty() {
                continue;
            }
            let views = [told.decision.egress, told.decision.ingress];
            let who = views.into_iter().flatten().find_map(|view| match view.by {
                Decider::Rule(id) => Some(Who::Rule(id)),
                Decider::Exposure(id) => Some(Who::Exposure(id)),
                Decider::Default => None,
            });
            let Some(who) = who else { continue };
            let (rule, span) = self.who_name(who);
            let (sender, receiver) = (addresses(space, from), addresses(space, to));
            if self.c.model.fabric.stateless_replies.is_none() {
                let example = format!("{sender} -> {receiver} : {}", service(&left));
                self.unclaimed.entry((rule, span)).or_default().insert(example);
                continue;
            }
            for part in left {
                self.admitted.insert(Admitted {
                    rule: rule.clone(),
                    tenant: self.c.model.owners[space.tenant].name.clone(),
                    from: sender.clone(),
                    to: receiver.clone(),
                    service: service(&[part]),
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
    pub(super) fn two_ways(
        &mut self,
        space: &Ends,
        from: &Joint,
        permits: &List<Way>,
        by: &[(ServiceBox, Told)],
        answers: &List<Way>,
    ) {
        for ((b, way), (_, told)) in answers.iter().zip(by) {
            for (permit, other) in permits {
                if b.intersect(permit).is_none() || way == other {
                    continue;
                }
                let same = way.gateway == other.gateway
                    && from.pieces.iter().all(|p| {
                        self.translated(way.translation, space.family, p.lo)
                            == self.translated(other.translation, space.family, p.lo)
                    });
                let decider = told.decision.egress.or(told.decision.ingress).map(|view| view.by);
                let Some(Decider::Rule(id)) = decider.filter(|_| !same) else { continue };
                let rule = &self.c.model.rules[id];
                let message = format!("the p4 target cannot tell which way replies to `{}` go", rule.name);
                let diagnostic = Diagnostic::new(Code::PW0801, rule.span, message)
                    .label("the same packets may open connections that go another way")
                    .help(
                        "let both directions go through one gateway, or build this node for another target",
                    );
                if !self.diagnostics.contains(&diagnostic) {
                    self.diagnostics.push(diagnostic);
                }
            }
        }
    }
}

/// What is left of a box without another.
fn subtract(b: &ServiceBox, without: &ServiceBox) -> Vec<ServiceBox> {
    let Some(common) = b.intersect(without) else { return vec![*b] };
    let mut out = Vec::new();
    let mut rest = *b;
    if rest.proto.0 < common.proto.0 {
        out.push(ServiceBox { proto: (rest.proto.0, common.proto.0 - 1), ..rest });
    }
    if common.proto.1 < rest.proto.1 {
        out.push(ServiceBox { proto: (common.proto.1 + 1, rest.proto.1), ..rest });
    }
    rest.proto = common.proto;
    if rest.x.0 < common.x.0 {
        out.push(ServiceBox { x: (rest.x.0, common.x.0 - 1), ..rest });
    }
    if common.x.1 < rest.x.1 {
        out.push(ServiceBox { x: (common.x.1 + 1, rest.x.1), ..rest });
    }
    rest.x = common.x;
    if rest.y.0 < common.y.0 {
        out.push(ServiceBox { y: (rest.y.0, common.y.0 - 1), ..rest });
    }
    if common.y.1 < rest.y.1 {
        out.push(ServiceBox { y: (common.y.1 + 1, rest.y.1), ..rest });
    }
    out
}

fn addresses(space: &Ends, joint: &Joint) -> String {
    let stretch = |lo: u128, hi: u128| {
        let (first, last) = (format_addr(space.family, lo), format_addr(space.family, hi));
        if lo == hi { first.to_string() } else { format!("{first}..{last}") }
    };
    let all: Vec<String> = joint.pieces.iter().map(|p| stretch(p.lo, p.hi)).collect();
    all.join(", ")
}

fn service(boxes: &[ServiceBox]) -> String {
    let range = |(lo, hi): (u16, u16)| if lo == hi { lo.to_string() } else { format!("{lo}..{hi}") };
    let one = |b: &ServiceBox| {
        let name = packet::protocol_name(b.proto.0);
        match packet::fields(b.proto.0) {
            Fields::Ports => {
                let flags = if b.proto.0 == packet::proto::TCP { ", with ACK or RST" } else { "" };
                format!("{name} from {} to {}{flags}", range(b.x), range(b.y))
            }
            Fields::Icmp => format!("{name} type {} code {}", range(b.x), range(b.y)),
            Fields::None if b.proto.0 == b.proto.1 => format!("protocol {}", b.proto.0),
            Fields::None => format!("protocols {}..{}", b.proto.0, b.proto.1),
        }
    };
    let all: Vec<String> = boxes.iter().map(one).collect();
    all.join(" | ")
}
