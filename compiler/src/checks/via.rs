//! PW0505: an `allow … via G` whose flows go, or would have to go, through something else than G.

use super::owner;
use super::rules::{Matched, channels_of_rule};
use crate::compiled::{Channel, ChannelKind, Compiled};
use crate::ids::GatewayId;
use crate::model::{Action, Rule};
use crate::report::Report;
use lang::codes::Code;
use lang::diag::Diagnostic;
use lang::span::Span;

pub fn check(compiled: &Compiled, report: &mut Report) {
    let model = &compiled.model;
    for rule in model.rules.values() {
        let Action::Allow { via: Some(gateway) } = rule.action else { continue };
        // `joins` in error leaves nothing to compare with and has been reported.
        if model.gateways[gateway].joins.is_empty() {
            continue;
        }
        let wrong = channels_of_rule(compiled, rule, |channel| match channel.kind {
            ChannelKind::Intra if model.gateways[gateway].joins.binary_search(&channel.src).is_ok() => {
                Matched::Go
            }
            ChannelKind::Intra => Matched::Stop,
            _ if channel.gateway == Some(gateway) => Matched::Go,
            _ => Matched::Stop,
        });
        if let Some(channel) = wrong {
            report.push(explain(compiled, rule, gateway, channel));
        }
    }
}

fn explain(compiled: &Compiled, rule: &Rule, gateway: GatewayId, channel: &Channel) -> Diagnostic {
    let model = &compiled.model;
    let g = &model.gateways[gateway];
    let (from, to) = (owner(model, channel.src), owner(model, channel.dst));
    if channel.kind == ChannelKind::Intra {
        let tenant = &model.owners[channel.src].name;
        return Diagnostic::new(
            Code::PW0505,
            rule.via_span,
            format!(
                "rule `{}` steers flows inside {from} through gateway `{}`, which does not join it",
                rule.name, g.name
            ),
        )
        .label(format!("`{}` does not join `{tenant}`", g.name))
        .related(g.joins_span, format!("what `{}` joins", g.name))
        .help(format!(
            "add `{tenant}` to `joins` of gateway `{}`, or steer through a gateway that joins it",
            g.name
        ))
        .rule(rule.name.clone());
    }
    let (how, place): (String, Option<(Span, String)>) = match (channel.kind, channel.gateway) {
        (ChannelKind::Direct(route), _) => {
            let route = &model.routes[route];
            ("past every gateway, by a direct route".into(), Some((route.span, "the direct route".into())))
        }
        (ChannelKind::Exposed(id), Some(other)) => {
            let exposure = &model.exposures[id];
            let other = &model.gateways[other].name;
            (
                format!("through gateway `{other}`"),
                Some((exposure.via_span, format!("`{}` goes through `{other}`", exposure.name))),
            )
        }
        (_, Some(other)) => {
            let name = &model.gateways[other].name;
            let route = model
                .routes
                .values()
                .find(|r| r.tenant == channel.src && r.target == crate::model::RouteTarget::Via(other));
            (
                format!("through gateway `{name}`"),
                route.map(|r| (r.target_span, format!("the route goes through `{name}`"))),
            )
        }
        _ => ("past every gateway".into(), None),
    };
    let help = match channel.gateway {
        Some(other) => format!(
            "write `via {}` or leave `via` out; or limit the rule to what goes through `{}`",
            model.gateways[other].name, g.name
        ),
        None => format!("leave `via` out, or expose the service through `{}` instead", g.name),
    };
    let mut finding = Diagnostic::new(
        Code::PW0505,
        rule.via_span,
        format!("rule `{}` wants `{}`, but flows from {from} to {to} go {how}", rule.name, g.name),
    )
    .label("not the way of these flows")
    .help(help)
    .rule(rule.name.clone());
    if let Some((span, message)) = place {
        finding = finding.related(span, message);
    }
    finding
}
