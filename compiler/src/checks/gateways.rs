//! Gateways that cannot do what is asked of them: black holes (PW0307), masquerade (PW0306, PW0303, PW0602), affinity
//! (PW0602).

use super::{names, owner};
use crate::algebra::{Family, parse_addr};
use crate::compiled::Compiled;
use crate::ids::{GatewayId, NodeId, OwnerId};
use crate::model::{Gateway, Masquerade, Model, RouteTarget};
use crate::report::Report;
use lang::ast::AffinityWord;
use lang::codes::Code;
use lang::diag::Diagnostic;
use lang::span::Span;
use std::collections::{BTreeMap, BTreeSet};

pub fn check(compiled: &Compiled, report: &mut Report) {
    let model = &compiled.model;
    let used = families_in_use(compiled);
    for (id, gateway) in model.gateways.iter() {
        instances(model, gateway, report);
        attachments(model, id, gateway, &used, report);
        masquerades(model, gateway, report);
        affinity(gateway, report);
    }
    routes(model, report);
    exposures(model, report);
}

/// What else can be done where a gateway does not join somebody.
const OTHER: &str = "go through another gateway";

/// Whether a gateway joins an owner. One whose `joins` is in error joins nothing and has been reported.
fn joins(gateway: &Gateway, owner: OwnerId) -> bool {
    gateway.joins.is_empty() || gateway.joins.binary_search(&owner).is_ok()
}

fn not_joined(
    gateway: &Gateway,
    span: Span,
    message: String,
    missing: &[&str],
    otherwise: &str,
) -> Diagnostic {
    Diagnostic::new(Code::PW0307, span, message)
        .label(format!("`{}` does not join {}", gateway.name, names(missing)))
        .related(gateway.joins_span, format!("what `{}` joins", gateway.name))
        .help(format!("add {} to `joins` of gateway `{}`, or {otherwise}", names(missing), gateway.name))
}

/// PW0307: instances are nodes with the word `gateway`.
fn instances(model: &Model, gateway: &Gateway, report: &mut Report) {
    for (id, span) in gateway.instances.iter().zip(&gateway.instance_spans) {
        let node = &model.nodes[*id];
        if node.gateway {
            continue;
        }
        report.push(
            Diagnostic::new(
                Code::PW0307,
                *span,
                format!("instance `{}` of gateway `{}` is not a gateway node", node.name, gateway.name),
            )
            .label("lacks the word `gateway`")
            .related(node.span, format!("node `{}`", node.name))
            .help(format!("add the word `gateway` to node `{}`, or choose another node", node.name)),
        );
    }
}

/// (gateway, external, family) between which flows are possible.
fn families_in_use(compiled: &Compiled) -> BTreeSet<(GatewayId, OwnerId, Family)> {
    let tenant = |owner: OwnerId| compiled.model.owners[owner].is_tenant();
    let mut used = BTreeSet::new();
    for channel in compiled.channels.values() {
        let external = match (tenant(channel.src), tenant(channel.dst)) {
            (false, _) => channel.src,
            (_, false) => channel.dst,
            _ => continue,
        };
        let Some(gateway) = channel.gateway else { continue };
        for family in Family::BOTH {
            if !channel.src_set.family(family).is_empty() && !channel.dst_set.family(family).is_empty() {
                used.insert((gateway, external, family));
            }
        }
    }
    used
}

/// PW0307: every external that a gateway joins has an attachment on every instance, of the families that are used.
fn attachments(
    model: &Model,
    id: GatewayId,
    gateway: &Gateway,
    used: &BTreeSet<(GatewayId, OwnerId, Family)>,
    report: &mut Report,
) {
    let mut attached: BTreeMap<(OwnerId, NodeId), BTreeSet<Family>> = BTreeMap::new();
    for attach in &gateway.attaches {
        let node = &model.nodes[attach.node];
        let external = owner(model, attach.external);
        if !joins(gateway, attach.external) {
            let message = format!("gateway `{}` attaches {external}, which it does not join", gateway.name);
            let name = model.owners[attach.external].name.as_str();
            report.push(not_joined(gateway, attach.span, message, &[name], "remove the attachment"));
        }
        if !gateway.instances.is_empty() && !gateway.instances.contains(&attach.node) {
            let instances: Vec<&str> =
                gateway.instances.iter().map(|n| model.nodes[*n].name.as_str()).collect();
            report.push(
                Diagnostic::new(
                    Code::PW0307,
                    attach.span,
                    format!(
                        "{external} is attached on `{}`, where gateway `{}` has no instance",
                        node.name, gateway.name
                    ),
                )
                .label(format!("`{}` is no instance", node.name))
                .related(gateway.span, format!("its instances are {}", names(&instances)))
                .help(format!("attach it on an instance, or add `{}` to `instances`", node.name)),
            );
        }
        let families = attached.entry((attach.external, attach.node)).or_default();
        families.extend(attach.next_hops.iter().map(|hop| parse_addr(*hop).0));
    }
    for external in gateway.joins.iter().filter(|o| !model.owners[**o].is_tenant()) {
        let name = &model.owners[*external].name;
        let missing: Vec<&str> = gateway
            .instances
            .iter()
            .filter(|node| !attached.contains_key(&(*external, **node)))
            .map(|node| model.nodes[*node].name.as_str())
            .collect();
        if let Some(first) = missing.first() {
            report.push(
                Diagnostic::new(
                    Code::PW0307,
                    gateway.joins_span,
                    format!(
                        "gateway `{}` joins external `{name}` without an attachment on {}",
                        gateway.name,
                        names(&missing)
                    ),
                )
                .label(format!("joins `{name}`"))
                .related(model.owners[*external].span, format!("external `{name}`"))
                .help(format!(
                    "add `attach {name} on {first} dev \"DEVICE\" next-hop ADDRESS` for every instance"
                )),
            );
        }
        for attach in gateway.attaches.iter().filter(|a| a.external == *external) {
            let families = attached.get(&(*external, attach.node));
            for family in Family::BOTH {
                if !used.contains(&(id, *external, family))
                    || families.is_some_and(|f| f.contains(&family))
                    || attach.next_hops.is_empty()
                {
                    continue;
                }
                report.push(
                    Diagnostic::new(
                        Code::PW0307,
                        attach.span,
                        format!(
                            "external `{name}` has no {} next hop on `{}`, though {} flows go there",
                            family.as_str(),
                            model.nodes[attach.node].name,
                            family.as_str()
                        ),
                    )
                    .label(format!("no {} address after `next-hop`", family.as_str()))
                    .related(gateway.span, format!("gateway `{}`", gateway.name))
                    .help(format!("add an {} next hop", family.as_str())),
                );
            }
        }
    }
}

/// PW0307: a route to a gateway needs one that joins the tenant and has externals with such addresses.
fn routes(model: &Model, report: &mut Report) {
    for route in model.routes.values() {
        let RouteTarget::Via(id) = route.target else { continue };
        let gateway = &model.gateways[id];
        let tenant = &model.owners[route.tenant];
        if gateway.joins.is_empty() {
            continue;
        }
        if !joins(gateway, route.tenant) {
            let message = format!(
                "tenant `{}` routes {} via `{}`, which does not join it",
                tenant.name, route.prefix, gateway.name
            );
            report.push(not_joined(gateway, route.target_span, message, &[&tenant.name], OTHER));
            report.taint(route.tenant);
            continue;
        }
        let externals: Vec<&str> = gateway
            .joins
            .iter()
            .map(|o| &model.owners[*o])
            .filter(|o| !o.is_tenant())
            .map(|o| o.name.as_str())
            .collect();
        let reached = |o: &OwnerId| {
            let owner = &model.owners[*o];
            !owner.is_tenant() && owner.prefixes.iter().any(|p| p.overlaps(route.prefix))
        };
        if gateway.joins.iter().any(reached) {
            continue;
        }
        let (message, help) = if externals.is_empty() {
            (
                format!(
                    "route {} leads to gateway `{}`, which joins no external",
                    route.prefix, gateway.name
                ),
                format!(
                    "add an external to `joins` of `{}`; what other tenants expose needs no route",
                    gateway.name
                ),
            )
        } else {
            (
                format!(
                    "route {} leads to gateway `{}`, none of whose externals has such addresses",
                    route.prefix, gateway.name
                ),
                format!("route addresses of {}, or join the external that was meant", names(&externals)),
            )
        };
        report.push(
            Diagnostic::new(Code::PW0307, route.target_span, message)
                .label("everything that goes here is dropped")
                .related(gateway.joins_span, format!("what `{}` joins", gateway.name))
                .help(help),
        );
    }
}

/// PW0307: an exposure's gateway joins the provider and every client.
fn exposures(model: &Model, report: &mut Report) {
    let mut heads: BTreeSet<(OwnerId, Span)> = BTreeSet::new();
    for exposure in model.exposures.values() {
        let gateway = &model.gateways[exposure.gateway];
        let provider = &model.owners[exposure.provider];
        if !joins(gateway, exposure.provider) {
            report.taint(exposure.provider);
            if heads.insert((exposure.provider, exposure.head)) {
                let message = format!(
                    "`{}` goes through gateway `{}`, which does not join its own tenant `{}`",
                    exposure.name, gateway.name, provider.name
                );
                let finding = not_joined(gateway, exposure.via_span, message, &[&provider.name], OTHER);
                report.push(finding.rule(exposure.name.clone()));
            }
        }
        let missing: Vec<OwnerId> = exposure
            .clients
            .iter()
            .map(|(client, _)| *client)
            .filter(|client| !joins(gateway, *client))
            .collect();
        if missing.is_empty() {
            continue;
        }
        report.taint(exposure.provider);
        for client in &missing {
            report.taint(*client);
        }
        let missing: Vec<&str> = missing.iter().map(|client| model.owners[*client].name.as_str()).collect();
        let message = format!(
            "`{}` is for {} through gateway `{}`, which does not join {}",
            exposure.name,
            names(&missing),
            gateway.name,
            if missing.len() == 1 { "it" } else { "them" }
        );
        let finding = not_joined(gateway, exposure.to_span, message, &missing, OTHER);
        report.push(finding.related(exposure.via_span, "the gateway").rule(exposure.name.clone()));
    }
}

fn masquerades(model: &Model, gateway: &Gateway, report: &mut Report) {
    let mut first: BTreeMap<(OwnerId, OwnerId), &Masquerade> = BTreeMap::new();
    for masquerade in &gateway.masquerades {
        let (tenant, external) =
            (&model.owners[masquerade.tenant].name, &model.owners[masquerade.external].name);
        let missing: Vec<&str> = [masquerade.tenant, masquerade.external]
            .into_iter()
            .filter(|o| !joins(gateway, *o))
            .map(|o| model.owners[o].name.as_str())
            .collect();
        if !missing.is_empty() {
            let message = format!(
                "gateway `{}` masquerades `{tenant}` to `{external}` without joining {}",
                gateway.name,
                names(&missing)
            );
            report.push(not_joined(gateway, masquerade.span, message, &missing, "remove the masquerade"));
        }
        if !gateway.stateful {
            report.push(
                Diagnostic::new(
                    Code::PW0602,
                    masquerade.span,
                    format!("gateway `{}` is stateless and cannot masquerade `{tenant}`", gateway.name),
                )
                .label("needs a record of every connection")
                .related(gateway.span, "a stateless gateway")
                .help("write `stateful`, or remove the masquerade"),
            );
        }
        if let Some(other) = first.insert((masquerade.tenant, masquerade.external), masquerade) {
            report.push(
                Diagnostic::new(
                    Code::PW0303,
                    masquerade.span,
                    format!("gateway `{}` masquerades `{tenant}` to `{external}` twice", gateway.name),
                )
                .label("the second one")
                .related(other.span, "the first one")
                .help("list all addresses in one clause"),
            );
            first.insert((masquerade.tenant, masquerade.external), other);
            continue;
        }
        count(gateway, masquerade, report);
    }
}

/// PW0306: one address per instance, of each family that is masqueraded.
fn count(gateway: &Gateway, masquerade: &Masquerade, report: &mut Report) {
    let instances = gateway.instances.len();
    if instances == 0 {
        return;
    }
    for family in Family::BOTH {
        let have = masquerade.addresses.iter().filter(|a| parse_addr(**a).0 == family).count();
        if have == 0 || have == instances {
            continue;
        }
        let family = family.as_str();
        let (addresses, noun) =
            (if have == 1 { "address" } else { "addresses" }, plural_instances(instances));
        report.push(
            Diagnostic::new(
                Code::PW0306,
                masquerade.as_span,
                format!(
                    "{have} {family} masquerade {addresses} for the {noun} of gateway `{}`",
                    gateway.name
                ),
            )
            .label(format!("{have} {family} {addresses}"))
            .related(gateway.span, noun.clone())
            .help(format!(
                "list {instances} {family} addresses, one per instance in the order of `instances`"
            )),
        );
    }
}

fn plural_instances(count: usize) -> String {
    if count == 1 { "1 instance".into() } else { format!("{count} instances") }
}

/// PW0602: by the source alone, replies pick another instance than their connection.
fn affinity(gateway: &Gateway, report: &mut Report) {
    if gateway.stateful && gateway.affinity == AffinityWord::Source {
        report.push(
            Diagnostic::new(
                Code::PW0602,
                gateway.affinity_span,
                format!("stateful gateway `{}` picks instances by the source alone", gateway.name),
            )
            .label("replies have another source and pass another instance")
            .help("write `affinity symmetric`, or `stateless` if no connection needs tracking"),
        );
    }
}
