//! PW0501 and PW0604: packets that an external hands on to a gateway that presents a tenant there.
//!
//! A tenant's flow to an external that is not masqueraded arrives with its own source address. Where the external is known by that
//! address too, and an exposure presents a tenant at the address that it goes to, the same packet opens a connection to that
//! tenant: by one gateway out and by another one in, neither of which may join the two (PW0501), or by one gateway twice (PW0604).

use crate::checks::{Findings, reason};
use crate::flows::{Extent, TooWide};
use crate::paths::Paths;
use crate::paths::forwarding::{By, Forwarding, Leg, Onward};
use crate::solver::Fault;
use compiler::algebra::{Family, RangeSet, format_addr};
use compiler::compiled::ChannelKind;
use compiler::eval::{self, Decision};
use compiler::ids::{ChannelId, ExposureId, GatewayId, OwnerId, RouteId};
use compiler::packet::{End, Flow, Packet};
use compiler::wire;
use lang::codes::Code;
use lang::diag::{Diagnostic, Label};
use std::collections::{BTreeMap, BTreeSet};

/// Tenants that one route's packets are said to reach; beyond that they are not looked for.
const LISTED: usize = 5;

/// By route and by what is broken: the tenants that its packets reach, each with a flow that does.
type Reached<'a> = BTreeMap<(RouteId, Code), Vec<(Chain<'a>, Flow)>>;

pub(super) fn check(paths: &Paths<'_>) -> Result<Findings, Fault> {
    let mut out = Findings::default();
    let forwarding = Forwarding::new(paths.task);
    let onward = forwarding.onward();
    let mut reached = Reached::new();
    let mut undecided: BTreeSet<RouteId> = BTreeSet::new();
    for one in &onward {
        leg(paths, one, &mut reached, &mut undecided);
    }
    for ((_, code), chains) in &reached {
        if let Some(((chain, flow), others)) = chains.split_first() {
            out.diagnostics.push(report(paths, *code, chain, flow, others)?);
        }
    }
    for id in undecided {
        let route = &paths.task.c.model.routes[id];
        let question = format!(
            "whether packets of `{}` go on to other tenants from where this route leads",
            paths.owner(route.tenant)
        );
        out.too_wide(route.span, &question);
    }
    Ok(out)
}

/// Two legs that one packet takes.
struct Chain<'a> {
    family: Family,
    first: ChannelId,
    route: RouteId,
    out: GatewayId,
    second: ChannelId,
    to: OwnerId,
    exposure: ExposureId,
    back: &'a Leg,
}

/// What a packet that leaves and comes back breaks.
fn broken(paths: &Paths<'_>, from: OwnerId, to: OwnerId, out: GatewayId, back: GatewayId) -> Option<Code> {
    if out == back {
        return Some(Code::PW0604);
    }
    let joins = |gateway: GatewayId| {
        let joins = &paths.task.c.model.gateways[gateway].joins;
        joins.binary_search(&from).is_ok() && joins.binary_search(&to).is_ok()
    };
    (from != to && !joins(out) && !joins(back)).then_some(Code::PW0501)
}

fn leg<'a>(
    paths: &Paths<'_>,
    onward: &Onward<'a>,
    reached: &mut Reached<'a>,
    undecided: &mut BTreeSet<RouteId>,
) {
    let (from, external, family) = (onward.from, onward.external, onward.first.family);
    let By::Route(route) = onward.first.by else { return };
    let out = onward.first.gateway;
    let Some(first) = paths.find(from, external, ChannelKind::ToExternal(out)) else { return };
    // In the external's space a source is one of its own addresses.
    let universe = paths.task.c.model.owners[external].universe.family(family);
    let sources = paths.channel(first).src_set.family(family).intersect(universe);
    if sources.is_empty() {
        return;
    }
    let within = RangeSet::range(onward.first.lo, onward.first.hi);
    let presented = onward.next.iter().map(|(_, leg)| (leg.lo, leg.hi)).collect();
    let presented = RangeSet::from_ranges(presented).intersect(&within);
    let Ok(leaving) = paths.allowed(first, family, (&sources, &presented)) else {
        undecided.insert(route);
        return;
    };
    let leaving: Vec<Extent> = leaving.iter().map(|a| a.extent).collect();
    if leaving.is_empty() {
        return;
    }
    for (to, leg) in &onward.next {
        let Some(code) = broken(paths, from, *to, out, leg.gateway) else { continue };
        let known = reached.entry((route, code)).or_default();
        if known.len() >= LISTED || known.iter().any(|(chain, _)| chain.to == *to) {
            continue;
        }
        let By::Exposures(exposures) = &leg.by else { continue };
        let mut boxes: Vec<Extent> = Vec::new();
        let mut found: Option<Chain<'a>> = None;
        for exposure in exposures {
            let Some(second) = paths.find(external, *to, ChannelKind::Exposed(*exposure)) else { continue };
            let chain = Chain { family, first, route, out, second, to: *to, exposure: *exposure, back: leg };
            match both(paths, &chain, &leaving) {
                Ok(both) if both.is_empty() => {}
                Ok(both) => {
                    boxes.extend(both);
                    found.get_or_insert(chain);
                }
                Err(TooWide) => {
                    undecided.insert(route);
                }
            }
        }
        let flow = paths.flows().witness(from, external, family, &boxes);
        if let (Some(chain), Some(flow)) = (found, flow) {
            known.push((chain, flow));
        }
    }
}

/// The flows of the first leg, among `leaving`, that go on under the exposure and are allowed there too.
fn both(paths: &Paths<'_>, chain: &Chain<'_>, leaving: &[Extent]) -> Result<Vec<Extent>, TooWide> {
    let leg = chain.back;
    // From the external's space to the tenant's own addresses and back; other fields stay what they are.
    let arrives = |e: &Extent| {
        let (lo, hi) = (e.dst.0.max(leg.lo), e.dst.1.min(leg.hi));
        (lo <= hi).then(|| Extent { dst: (lo - leg.lo + leg.real, hi - leg.lo + leg.real), ..*e })
    };
    let within: Vec<Extent> = leaving.iter().filter_map(arrives).collect();
    if within.is_empty() {
        return Ok(Vec::new());
    }
    let allowed = paths.flows().allowed(chain.second, chain.family, Some(&within))?;
    let seen = |address: u128| address - leg.real + leg.lo;
    Ok(allowed
        .iter()
        .map(|a| Extent { dst: (seen(a.extent.dst.0), seen(a.extent.dst.1)), ..a.extent })
        .collect())
}

/// The same packet, as the external's space sees it, and what is decided on it there.
fn arrival(paths: &Paths<'_>, chain: &Chain<'_>, flow: &Flow) -> Result<(Packet, End, Decision), Fault> {
    let (c, leg) = (paths.task.c, chain.back);
    let end = End { owner: chain.to, address: flow.dst.address - leg.lo + leg.real };
    let second = Packet {
        space: flow.dst.owner,
        family: flow.family,
        src: flow.src.address,
        dst: flow.dst.address,
        protocol: flow.protocol,
        x: flow.x,
        y: flow.y,
    };
    match eval::decide(c, &second) {
        Ok(decision) if decision.allow && decision.to == Some(end) => Ok((second, end, decision)),
        decision => {
            let dump = format!("{second:?} is held to be allowed to {end:?}; evaluator {decision:?}");
            Err(Fault::Mismatch { dump })
        }
    }
}

fn report(
    paths: &Paths<'_>,
    code: Code,
    chain: &Chain<'_>,
    flow: &Flow,
    others: &[(Chain<'_>, Flow)],
) -> Result<Diagnostic, Fault> {
    let (task, c) = (paths.task, paths.task.c);
    let (_, decision) = paths.replay(chain.first, flow)?;
    let (second, end, arrived) = arrival(paths, chain, flow)?;
    let (from, external, to) = (flow.src.owner, flow.dst.owner, chain.to);
    let leg = chain.back;
    let (route, exposure) = (&c.model.routes[chain.route], &c.model.exposures[chain.exposure]);
    let (out, back) = (paths.gateway(chain.out), paths.gateway(leg.gateway));
    let name = |owner: OwnerId| paths.owner(owner);
    let (message, label) = match code {
        Code::PW0604 => (
            format!(
                "connections of tenant `{}` to `{}` pass gateway `{out}` twice, out to `{}` and in again",
                name(from),
                name(to),
                name(external)
            ),
            format!("leaves for `{}` through `{out}`", name(external)),
        ),
        _ => (
            format!(
                "packets of tenant `{}` reach tenant `{}` through external `{}`, past every gateway that joins the two",
                name(from),
                name(to),
                name(external)
            ),
            format!("leaves for `{}` through `{out}`, which does not join `{}`", name(external), name(to)),
        ),
    };
    let show = |address: u128| format_addr(flow.family, address);
    let directly = if from == to {
        format!("use the addresses of `{}` inside it", name(to))
    } else {
        format!("expose the service to `{}` itself through a gateway that joins both", name(from))
    };
    let help = format!(
        "{directly}, and take {} out of what `{tenant}` may reach at `{outside}`; or masquerade `{tenant}` to `{outside}` on `{out}`",
        show(flow.dst.address),
        tenant = name(from),
        outside = name(external),
    );
    let mut finding = Diagnostic::new(code, route.span, message)
        .label(label)
        .help(help)
        .related(exposure.span, format!("presents `{}` at `{}` through `{back}`", name(to), name(external)));
    finding = paths.told(finding, chain.first, flow, &decision);
    // The exposure is named already, by what it presents.
    finding = task.explain(finding, chain.second, &arrived);
    let opened = |label: &Label| label.span == exposure.span && label.message.starts_with("opened");
    finding.related.retain(|label| !opened(label));
    finding = finding
        .note(format!(
            "out: {} {} -> `{out}` -> {} {}, {}",
            name(from),
            show(flow.src.address),
            name(external),
            show(flow.dst.address),
            reason(c, &decision)
        ))
        .note(format!(
            "in again: {} -> `{back}` -> {} {}, {}",
            wire::packet_text(c, &second),
            name(to),
            show(end.address),
            reason(c, &arrived)
        ));
    let mut more: Vec<String> = Vec::new();
    for (chain, flow) in others {
        paths.replay(chain.first, flow)?;
        arrival(paths, chain, flow)?;
        let exposure = &c.model.exposures[chain.exposure];
        let at = format!("presents `{}` there, which is reached so too", name(chain.to));
        finding = finding.related(exposure.span, at);
        more.push(format!("`{}`", name(chain.to)));
    }
    if !more.is_empty() {
        let rest = if others.len() + 1 == LISTED { "; further ones are not looked for" } else { "" };
        finding = finding.note(format!("tenants reached so too: {}{rest}", more.join(", ")));
    }
    Ok(finding)
}
