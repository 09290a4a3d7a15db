//! PW0603 and PW0601 by way of routes: replies that no table brings back, and replies that another gateway brings back.

use crate::checks::Findings;
use crate::flows::TooWide;
use crate::paths::Paths;
use crate::scene::Found;
use crate::solver::Fault;
use compiler::algebra::{Family, RangeSet, format_addr};
use compiler::compiled::{ChannelKind, Destination};
use compiler::ids::{ChannelId, ExposureId, GatewayId, OwnerId, RouteId};
use compiler::packet::{End, Flow};
use compiler::replies::{Target, target, targets};
use lang::codes::Code;
use lang::diag::Diagnostic;

pub(super) fn check(paths: &Paths<'_>) -> Result<Findings, Fault> {
    let mut out = Findings::default();
    let channels = paths.task.c.channels.as_slice();
    let mut ids = paths.task.c.channels.ids();
    // Channels ascend by their ends, so those between two owners stand together.
    for group in channels.chunk_by(|a, b| (a.src, a.dst) == (b.src, b.dst)) {
        let here: Vec<ChannelId> = ids.by_ref().take(group.len()).collect();
        if here.first().is_some_and(|id| paths.task.skips(*id)) {
            continue;
        }
        let of = |direct: bool| -> Vec<ChannelId> {
            let wanted = |id: &&ChannelId| match paths.channel(**id).kind {
                ChannelKind::Direct(_) => direct,
                ChannelKind::ToExternal(_) => !direct,
                ChannelKind::Intra | ChannelKind::Exposed(_) => false,
            };
            here.iter().filter(wanted).copied().collect()
        };
        direct(paths, &of(true), &mut out)?;
        outward(paths, &of(false), &mut out)?;
    }
    Ok(out)
}

/// Flows on direct routes between two tenants: each direction is a route of its own.
fn direct(paths: &Paths<'_>, channels: &[ChannelId], out: &mut Findings) -> Result<(), Fault> {
    for code in [Code::PW0603, Code::PW0601] {
        let mut undecided = None;
        let mut reported = false;
        'ask: for id in channels {
            for family in Family::BOTH {
                let sources = astray(paths, *id, family, code);
                match paths.some_allowed(*id, family, &sources)? {
                    Found::No => {}
                    Found::Undecided => undecided = Some(*id),
                    Found::Yes(flow) => {
                        let finding = if code == Code::PW0603 { lost } else { around };
                        out.diagnostics.push(finding(paths, *id, &flow)?);
                        reported = true;
                        break 'ask;
                    }
                }
            }
        }
        if let Some(id) = undecided.filter(|_| !reported) {
            let channel = paths.channel(id);
            let ChannelKind::Direct(route) = channel.kind else { continue };
            let (src, dst) = (paths.owner(channel.src), paths.owner(channel.dst));
            let question = format!("whether replies of allowed flows from `{src}` to `{dst}` find back");
            out.undecided(paths.task, paths.task.c.model.routes[route].span, &question, None);
        }
    }
    Ok(())
}

/// The sources of a direct channel whose replies are lost (PW0603), or go through a gateway (PW0601).
fn astray(paths: &Paths<'_>, id: ChannelId, family: Family, code: Code) -> RangeSet {
    let channel = paths.channel(id);
    let mut ranges = Vec::new();
    for &(lo, hi) in channel.src_set.family(family).ranges() {
        for stretch in targets(paths.task.c, channel.dst, family, lo, hi) {
            let home = stretch.target.filter(|t| t.end == End { owner: channel.src, address: stretch.lo });
            let found = match home {
                None => Some(Code::PW0603),
                Some(Target { gateway: Some(_), .. }) => Some(Code::PW0601),
                Some(Target { gateway: None, .. }) => None,
            };
            if found == Some(code) {
                ranges.push((stretch.lo, stretch.hi));
            }
        }
    }
    RangeSet::from_ranges(ranges)
}

/// The segment of a tenant that has this address, as the target of a route and as its prefix.
fn segment(paths: &Paths<'_>, end: End, family: Family) -> Option<(String, String)> {
    let model = &paths.task.c.model;
    let mut of_tenant = model.segments.values().filter(|s| s.tenant == end.owner);
    of_tenant.find_map(|s| {
        let holds = |p: &&compiler::model::SegmentPrefix| {
            p.prefix.family == family && p.prefix.contains_addr(end.address)
        };
        let prefix = s.prefixes.iter().find(holds)?;
        Some((format!("{}.{}", paths.owner(end.owner), s.name), prefix.prefix.to_string()))
    })
}

/// `route 10.1.0.0/24 to shop.front direct "why"`
fn route_back(paths: &Paths<'_>, flow: &Flow) -> String {
    let (to, prefix) = segment(paths, flow.src, flow.family).unwrap_or_default();
    format!("`route {prefix} to {to} direct \"why\"`")
}

fn shown(flow: &Flow, address: u128) -> String {
    format_addr(flow.family, address).to_string()
}

/// PW0603
fn lost(paths: &Paths<'_>, id: ChannelId, flow: &Flow) -> Result<Diagnostic, Fault> {
    let c = paths.task.c;
    let (_, decision) = paths.replay(id, flow)?;
    let ChannelKind::Direct(route) = paths.channel(id).kind else {
        return Err(Fault::Mismatch { dump: format!("{flow:?} is on no direct route") });
    };
    let route = &c.model.routes[route];
    let (src, dst) = (paths.owner(flow.src.owner), paths.owner(flow.dst.owner));
    let client = shown(flow, flow.src.address);
    let back = target(c, flow.dst.owner, flow.family, flow.src.address);
    let (why, help) = match back {
        None => (
            format!("`{dst}` has no route to {client}"),
            format!("add {} to tenant `{dst}`", route_back(paths, flow)),
        ),
        Some(Target { end, .. }) if end.owner == flow.dst.owner => (
            format!("to `{dst}` {client} is an address of its own"),
            format!(
                "renumber one of the two, or have `{dst}` expose what is needed through a gateway, with `clients as`, in place of the direct route"
            ),
        ),
        Some(Target { end, gateway }) => {
            let by = gateway.map_or_else(String::new, |g| format!(", behind gateway `{}`", paths.gateway(g)));
            let means = if end.address == flow.src.address {
                "belongs to".to_owned()
            } else {
                format!("is {} of", shown(flow, end.address))
            };
            let whose = format!("to `{dst}` {client} {means} {}{by}", paths.described(end.owner));
            let route = c.spaces[flow.dst.owner].destinations.get(flow.family, flow.src.address);
            let wide = matches!(route.map(|r| &r.target), Some(Destination::External { .. }));
            let help = if wide {
                format!("add {} to tenant `{dst}`: the longer prefix wins", route_back(paths, flow))
            } else {
                format!(
                    "present that under another prefix to `{dst}`, and add {} there",
                    route_back(paths, flow)
                )
            };
            (whose, help)
        }
    };
    let mut finding = Diagnostic::new(
        Code::PW0603,
        route.span,
        format!("replies to the connections of `{src}` on this direct route cannot come back: {why}"),
    )
    .label(format!("leads to `{dst}`, one way"))
    .help(help);
    finding = where_it_goes(paths, finding, flow);
    Ok(paths.told(finding, id, flow, &decision))
}

/// Adds the declaration by which a reply to this client leaves the destination's space.
fn where_it_goes(paths: &Paths<'_>, finding: Diagnostic, flow: &Flow) -> Diagnostic {
    let c = paths.task.c;
    let Some(range) = c.spaces[flow.dst.owner].destinations.get(flow.family, flow.src.address) else {
        return finding;
    };
    let (span, name) = match &range.target {
        Destination::Local { segment } => {
            let segment = &c.model.segments[*segment];
            (segment.span, format!("segment `{}`", segment.name))
        }
        Destination::External { route, .. } | Destination::Direct { route, .. } => {
            (c.model.routes[*route].span, "this route".to_owned())
        }
        Destination::Import { exposures, .. } => match exposures.first() {
            Some(id) => (c.model.exposures[*id].span, format!("`{}`", c.model.exposures[*id].name)),
            None => return finding,
        },
        Destination::ClientOnly | Destination::Nowhere => return finding,
    };
    finding.related(span, format!("replies to {} go by {name}", shown(flow, flow.src.address)))
}

/// PW0601: there on a direct route, back through a gateway.
fn around(paths: &Paths<'_>, id: ChannelId, flow: &Flow) -> Result<Diagnostic, Fault> {
    let c = paths.task.c;
    let (_, decision) = paths.replay(id, flow)?;
    let back = target(c, flow.dst.owner, flow.family, flow.src.address).and_then(|t| t.gateway);
    let (ChannelKind::Direct(route), Some(gateway)) = (paths.channel(id).kind, back) else {
        return Err(Fault::Mismatch { dump: format!("{flow:?} does not come back through a gateway") });
    };
    let route = &c.model.routes[route];
    let (src, dst) = (paths.owner(flow.src.owner), paths.owner(flow.dst.owner));
    let gateway = paths.gateway(gateway);
    let message = format!(
        "connections of `{src}` on this direct route pass no gateway, their replies pass `{gateway}`, by which `{dst}` reaches {}",
        shown(flow, flow.src.address)
    );
    let mut finding = Diagnostic::new(Code::PW0601, route.span, message)
        .label(format!("leads to `{dst}` past every gateway"))
        .help(format!(
            "have `{dst}` expose what `{src}` needs through `{gateway}` in place of the direct route, or present `{src}` to `{dst}` under another prefix and add {} to `{dst}`",
            route_back(paths, flow)
        ));
    finding = where_it_goes(paths, finding, flow);
    Ok(paths.told(finding, id, flow, &decision))
}

/// Flows of a tenant to an external. What is masqueraded comes back to the instance that has the address; else to where the
/// external reaches the tenant's own addresses, which is one place.
fn outward(paths: &Paths<'_>, channels: &[ChannelId], out: &mut Findings) -> Result<(), Fault> {
    for family in Family::BOTH {
        let mut plain: Vec<(ChannelId, GatewayId, RangeSet)> = Vec::new();
        for id in channels {
            let channel = paths.channel(*id);
            let Some(gateway) = channel.gateway else { continue };
            let masqueraded = paths.masqueraded.contains(&(gateway, channel.src, channel.dst, family));
            if masqueraded || channel.src_set.family(family).is_empty() {
                continue;
            }
            let presented = presented(paths, *id, family);
            let through = |wanted: &dyn Fn(GatewayId) -> bool| {
                let those = presented.iter().filter(|(_, g, _)| wanted(*g)).map(|(range, ..)| *range);
                RangeSet::from_ranges(those.collect())
            };
            match paths.some_allowed(*id, family, &through(&|g| g != gateway))? {
                Found::No => {}
                Found::Yes(flow) => out.diagnostics.push(elsewhere(paths, *id, &flow)?),
                Found::Undecided => undecided(paths, *id, out),
            }
            // What is presented comes back through that gateway, whichever else is used.
            let open = channel.src_set.family(family).subtract(&through(&|_| true));
            plain.push((*id, gateway, open));
        }
        two_ways(paths, &plain, family, out)?;
    }
    Ok(())
}

fn undecided(paths: &Paths<'_>, id: ChannelId, out: &mut Findings) {
    let channel = paths.channel(id);
    let (src, dst) = (paths.owner(channel.src), paths.owner(channel.dst));
    let question =
        format!("whether replies of `{dst}` to flows of `{src}` come back through the same gateway");
    out.undecided(paths.task, paths.task.c.model.owners[channel.src].span, &question, None);
}

/// Where the tenant's own addresses are presented, untranslated, to the external: range, gateway, exposure.
fn presented(
    paths: &Paths<'_>,
    id: ChannelId,
    family: Family,
) -> Vec<((u128, u128), GatewayId, Option<ExposureId>)> {
    let channel = paths.channel(id);
    let there = paths.task.c.spaces[channel.dst].destinations.family(family);
    let mut found = Vec::new();
    for &(lo, hi) in channel.src_set.family(family).ranges() {
        let from = there.partition_point(|r| r.hi < lo);
        for range in there.iter().skip(from).take_while(|r| r.lo <= hi) {
            match &range.target {
                Destination::Import { owner, real, gateway, exposures }
                    if *owner == channel.src && *real == range.lo =>
                {
                    let common = (range.lo.max(lo), range.hi.min(hi));
                    found.push((common, *gateway, exposures.first().copied()));
                }
                // Of another meaning: PW0303.
                _ => {}
            }
        }
    }
    found
}

/// PW0601: out through one gateway, back through the one that presents the address.
fn elsewhere(paths: &Paths<'_>, id: ChannelId, flow: &Flow) -> Result<Diagnostic, Fault> {
    let c = paths.task.c;
    let (_, decision) = paths.replay(id, flow)?;
    let channel = paths.channel(id);
    let back = presented(paths, id, flow.family)
        .into_iter()
        .find(|((lo, hi), ..)| *lo <= flow.src.address && flow.src.address <= *hi);
    let (Some(out), Some((_, gateway, exposure)), Some(route)) = (channel.gateway, back, paths.route(flow))
    else {
        return Err(Fault::Mismatch { dump: format!("{flow:?} does not come back through another gateway") });
    };
    let (src, dst) = (paths.owner(flow.src.owner), paths.owner(flow.dst.owner));
    let (out, back) = (paths.gateway(out), paths.gateway(gateway));
    let message = format!(
        "flows of `{src}` to `{dst}` leave through gateway `{out}`, their replies to {} come back through `{back}`",
        shown(flow, flow.src.address)
    );
    let mut finding = Diagnostic::new(Code::PW0601, c.model.routes[route].target_span, message)
        .label(format!("leaves through `{out}`"))
        .help(format!(
            "let the route and the exposure name one gateway, or masquerade `{src}` to `{dst}` on `{out}`"
        ));
    if let Some(exposure) = exposure.map(|id| &c.model.exposures[id]) {
        finding = finding.related(exposure.span, format!("presents it to `{dst}` through `{back}`"));
    }
    Ok(paths.told(finding, id, flow, &decision))
}

/// PW0601: one address whose flows to one external leave through two gateways.
fn two_ways(
    paths: &Paths<'_>,
    plain: &[(ChannelId, GatewayId, RangeSet)],
    family: Family,
    out: &mut Findings,
) -> Result<(), Fault> {
    for (at, (first, ..)) in plain.iter().enumerate() {
        for (second, _, open) in plain.iter().skip(at + 1) {
            let of = |id: ChannelId| sources(paths, id, family, open);
            let (Ok(one), Ok(other)) = (of(*first), of(*second)) else {
                undecided(paths, *second, out);
                continue;
            };
            let common = one.intersect(&other);
            let Found::Yes(flow) = paths.some_allowed(*second, family, &common)? else { continue };
            let host = RangeSet::range(flow.src.address, flow.src.address);
            let Found::Yes(partner) = paths.some_allowed(*first, family, &host)? else { continue };
            out.diagnostics.push(parted(paths, (*first, &partner), (*second, &flow))?);
        }
    }
    Ok(())
}

/// The addresses, of some, from which anything is allowed on a channel.
fn sources(paths: &Paths<'_>, id: ChannelId, family: Family, among: &RangeSet) -> Result<RangeSet, TooWide> {
    let dst = paths.channel(id).dst_set.family(family);
    let allowed = paths.allowed(id, family, (among, dst))?;
    Ok(RangeSet::from_ranges(allowed.iter().map(|a| a.extent.src).collect()))
}

fn parted(
    paths: &Paths<'_>,
    (first, partner): (ChannelId, &Flow),
    (second, flow): (ChannelId, &Flow),
) -> Result<Diagnostic, Fault> {
    let c = paths.task.c;
    let (_, one) = paths.replay(first, partner)?;
    let (_, other) = paths.replay(second, flow)?;
    let routes: (Option<RouteId>, Option<RouteId>) = (paths.route(partner), paths.route(flow));
    let ((Some(a), Some(b)), (Some(by), Some(past))) = (routes, (one.via, other.via)) else {
        return Err(Fault::Mismatch { dump: format!("{partner:?} and {flow:?} have no routes to part on") });
    };
    let (src, dst): (OwnerId, OwnerId) = (flow.src.owner, flow.dst.owner);
    let (src, dst) = (paths.owner(src), paths.owner(dst));
    let (by, past) = (paths.gateway(by), paths.gateway(past));
    let client = shown(flow, flow.src.address);
    let message = format!(
        "flows of `{src}` to `{dst}` leave through `{by}` and through `{past}` with one source address: replies to {client} come back through one of them"
    );
    let finding = Diagnostic::new(Code::PW0601, c.model.routes[b].target_span, message)
        .label(format!("to {} through `{past}`", shown(flow, flow.dst.address)))
        .related(
            c.model.routes[a].target_span,
            format!("to {} through `{by}`", shown(partner, partner.dst.address)),
        )
        .help(format!(
            "let both routes name one gateway, or masquerade `{src}` to `{dst}` on one of the two"
        ));
    Ok(paths.told(finding, second, flow, &other))
}
