//! PW0701: `always`, `never`, `some` over all flows of a test's sets, and single packets.

use crate::checks::{Findings, Task, reason};
use crate::encode::{DecisionTerms, Encoder, Frame};
use crate::properties;
use crate::replay;
use crate::scene::{Found, Scene};
use crate::solver::Fault;
use crate::terms::Term;
use compiler::algebra::Family;
use compiler::eval::{self, Decider, Decision, Resolution};
use compiler::ids::{ChannelId, GatewayId, OwnerId};
use compiler::model::{Test, TestClause, TestKind};
use compiler::packet::{Flow, Packet};
use compiler::sets::{EndSet, ServiceSet};
use compiler::wire;
use lang::ast::Quantifier;
use lang::codes::Code;
use lang::diag::Diagnostic;

/// The sets of one clause.
#[derive(Clone, Copy)]
struct Sets<'c> {
    src: &'c EndSet,
    dst: &'c EndSet,
    service: &'c ServiceSet,
    via: Option<GatewayId>,
}

/// The findings of one test.
///
/// # Errors
/// The solver contradicts the evaluator.
pub fn test(task: Task<'_>, test: &Test) -> Result<Findings, Fault> {
    let mut out = Findings::default();
    for clause in &test.clauses {
        match &clause.kind {
            TestKind::Packet { packet, allow, via, by } => {
                if let Some(finding) = one_packet(task, test, clause, packet, *allow, *via, by.as_deref()) {
                    out.diagnostics.push(finding);
                }
            }
            TestKind::Flows { quantifier, src, dst, service, via } => {
                let sets = Sets { src, dst, service, via: *via };
                flows(task, test, clause, *quantifier, sets, &mut out)?;
            }
        }
    }
    Ok(out)
}

fn failed(test: &Test, clause: &TestClause, why: &str) -> Diagnostic {
    Diagnostic::new(Code::PW0701, clause.span, format!("test \"{}\" fails: {why}", test.name))
        .label("does not hold")
}

fn flows(
    task: Task<'_>,
    test: &Test,
    clause: &TestClause,
    quantifier: Quantifier,
    sets: Sets<'_>,
    out: &mut Findings,
) -> Result<(), Fault> {
    let owners: Vec<OwnerId> = task.c.model.owners.ids().collect();
    let touched = |set: &EndSet| {
        let in_set = |id: &&OwnerId| set.of(**id).overlaps(&task.c.model.owners[**id].universe);
        owners.iter().filter(in_set).copied().collect::<Vec<_>>()
    };
    let (sources, destinations) = (touched(sets.src), touched(sets.dst));
    let concerns_tainted =
        task.c.model.tainted.iter().any(|o| !sets.src.of(*o).is_empty() || !sets.dst.of(*o).is_empty());
    let mut some_pair = false;
    let mut undecided = false;
    for src in &sources {
        for dst in &destinations {
            let channels = task.between(*src, *dst);
            for family in Family::BOTH {
                let Some(frame) = frame(task, *src, *dst, family, sets) else { continue };
                some_pair = true;
                if task.tainted(*src) || task.tainted(*dst) {
                    continue;
                }
                match quantifier {
                    Quantifier::Always => match always(task, frame, &channels, sets)? {
                        Found::No => {}
                        Found::Yes(flow) => {
                            out.diagnostics
                                .push(always_fails(task, test, clause, &channels, &flow, sets.via));
                            return Ok(());
                        }
                        Found::Undecided => undecided = true,
                    },
                    Quantifier::Never | Quantifier::Some => match allowed(task, &frame, &channels, sets)? {
                        (Found::No, _) => {}
                        (Found::Yes(_), _) if quantifier == Quantifier::Some => return Ok(()),
                        (Found::Yes(flow), channel) => {
                            out.diagnostics.push(never_fails(task, test, clause, channel, &flow));
                            return Ok(());
                        }
                        (Found::Undecided, _) => undecided = true,
                    },
                }
            }
        }
    }
    if undecided {
        let question = format!("whether test \"{}\" holds", test.name);
        out.undecided(task, clause.span, &question, None);
    } else if !some_pair && !concerns_tainted {
        let finding = failed(test, clause, "its sets give no pair of ends")
            .help("a set is empty, the families differ, or the service goes with neither family; name ends that exist");
        out.diagnostics.push(finding);
    } else if quantifier == Quantifier::Some && !concerns_tainted {
        let why = match sets.via {
            Some(gateway) => {
                format!("no flow of these sets is allowed via `{}`", task.c.model.gateways[gateway].name)
            }
            None => "no flow of these sets is allowed".to_owned(),
        };
        let help = "`partywall trace` tells of one packet, step by step, why it is denied";
        out.diagnostics.push(failed(test, clause, &why).help(help));
    }
    Ok(())
}

/// The flows of a clause between two owners in one family; `None` if there are none, possible or not.
fn frame(task: Task<'_>, src: OwnerId, dst: OwnerId, family: Family, sets: Sets<'_>) -> Option<Frame> {
    let within = |owner: OwnerId, set: &EndSet| {
        set.of(owner).family(family).intersect(task.c.model.owners[owner].universe.family(family))
    };
    let frame = Frame { src, dst, family, src_set: within(src, sets.src), dst_set: within(dst, sets.dst) };
    frame.some_flow(sets.service).then_some(frame)
}

/// A flow of the frame on which `always` fails.
fn always(task: Task<'_>, frame: Frame, channels: &[ChannelId], sets: Sets<'_>) -> Result<Found, Fault> {
    let mut scene = Scene::new(task.c, frame, task.budget);
    let decisions: Vec<DecisionTerms> = channels.iter().map(|id| scene.encoder.decision(*id)).collect();
    let pairs = scene.encoder.service(sets.service);
    let term = properties::not_always(&mut scene.encoder.pool, pairs, &decisions, sets.via);
    scene.witness(term, &|flow| {
        let decisions = replay::decisions(task.c, channels, flow);
        let allowed = decisions.iter().any(|(_, d)| d.allow);
        let astray = decisions.iter().any(|(_, d)| d.allow && !replay::allows(d, sets.via));
        !allowed || astray
    })
}

/// The first channel with an allowed flow of the frame.
fn allowed(
    task: Task<'_>,
    frame: &Frame,
    channels: &[ChannelId],
    sets: Sets<'_>,
) -> Result<(Found, ChannelId), Fault> {
    let mut undecided = None;
    for id in channels {
        let channel = &task.c.channels[*id];
        let family = frame.family;
        let narrow = Frame {
            src_set: frame.src_set.intersect(channel.src_set.family(family)),
            dst_set: frame.dst_set.intersect(channel.dst_set.family(family)),
            ..frame.clone()
        };
        if !narrow.some_flow(&channel.service.intersect(sets.service)) {
            continue;
        }
        let mut encoder = Encoder::new(task.c, narrow);
        let decision = encoder.decision(*id);
        let mut scene = Scene::with_base(encoder, decision.possible, task.budget);
        let pairs = scene.encoder.service(sets.service);
        let pool = &mut scene.encoder.pool;
        let term: Term = match sets.via {
            Some(gateway) => properties::allowed_via(pool, pairs, &decision, gateway),
            None => properties::allowed(pool, pairs, &decision),
        };
        let shows = |flow: &Flow| replay::allows(&eval::decide_on_channel(task.c, *id, flow), sets.via);
        match scene.witness(term, &shows)? {
            Found::No => {}
            Found::Yes(flow) => return Ok((Found::Yes(flow), *id)),
            Found::Undecided => undecided = Some(*id),
        }
    }
    Ok(undecided.map_or((Found::No, ChannelId(0)), |id| (Found::Undecided, id)))
}

fn always_fails(
    task: Task<'_>,
    test: &Test,
    clause: &TestClause,
    channels: &[ChannelId],
    flow: &Flow,
    via: Option<GatewayId>,
) -> Diagnostic {
    let c = task.c;
    let decisions = replay::decisions(c, channels, flow);
    let denied = || decisions.iter().find(|(_, d)| !d.allow);
    let astray = decisions.iter().find(|(_, d)| d.allow && !replay::allows(d, via));
    let Some((channel, decision)) = astray.or_else(denied) else {
        return no_path(task, test, clause, flow);
    };
    let packet = eval::packet_on_channel(c, *channel, flow);
    let text = packet.map(|p| wire::packet_text(c, &p)).unwrap_or_default();
    let why = match (decision.allow, decision.via) {
        (false, _) => format!("{text} is {}", reason(c, decision)),
        (true, Some(gateway)) => format!("{text} is allowed, but via `{}`", c.model.gateways[gateway].name),
        (true, None) => format!("{text} is allowed, but via no gateway"),
    };
    let finding = task.explain(failed(test, clause, &why), *channel, decision);
    with_witness(task, finding, *channel, flow)
}

fn with_witness(task: Task<'_>, finding: Diagnostic, channel: ChannelId, flow: &Flow) -> Diagnostic {
    match task.witness(channel, flow) {
        Some(witness) => finding.witness(witness),
        None => finding,
    }
}

/// A flow on no channel: if the packet that names the destination by its real address shows that, it is the witness.
fn no_path(task: Task<'_>, test: &Test, clause: &TestClause, flow: &Flow) -> Diagnostic {
    let c = task.c;
    let packet = Packet {
        space: flow.src.owner,
        family: flow.family,
        src: flow.src.address,
        dst: flow.dst.address,
        protocol: flow.protocol,
        x: flow.x,
        y: flow.y,
    };
    let (src, dst) = (task.owner(flow.src.owner), task.owner(flow.dst.owner));
    let text = wire::packet_text(c, &packet);
    let why = format!("nothing opens a path from `{src}` to `{dst}` for a packet such as {text}");
    let finding = failed(test, clause, &why)
        .help(format!("an exposure of `{dst}` (or a route to it) makes such flows possible"));
    match eval::decide(c, &packet) {
        Ok(d) if !d.allow && d.to.is_none_or(|end| end == flow.dst) => {
            finding.witness(wire::witness(c, &packet, &d))
        }
        _ => finding,
    }
}

fn never_fails(
    task: Task<'_>,
    test: &Test,
    clause: &TestClause,
    channel: ChannelId,
    flow: &Flow,
) -> Diagnostic {
    let c = task.c;
    let decision = eval::decide_on_channel(c, channel, flow);
    let packet = eval::packet_on_channel(c, channel, flow);
    let text = packet.map(|p| wire::packet_text(c, &p)).unwrap_or_default();
    let why = format!("{text} is {}", reason(c, &decision));
    let finding = task.explain(failed(test, clause, &why), channel, &decision);
    with_witness(task, finding, channel, flow)
}

/// One packet, decided by the evaluator alone.
fn one_packet(
    task: Task<'_>,
    test: &Test,
    clause: &TestClause,
    packet: &Packet,
    allow: bool,
    via: Option<GatewayId>,
    by: Option<&str>,
) -> Option<Diagnostic> {
    let c = task.c;
    let text = wire::packet_text(c, packet);
    let resolution = match eval::resolve(c, packet) {
        Ok(resolution) => resolution,
        Err(error) => return Some(failed(test, clause, &format!("{text} is no flow: {error}"))),
    };
    let (from, to) = match resolution {
        Resolution::Dropped { from, to, .. } => (from, to),
        Resolution::Flow { flow, .. } => (Some(flow.src), Some(flow.dst)),
    };
    let unknown = from.is_none() || to.is_none();
    let touches = [from, to].into_iter().flatten().any(|end| task.tainted(end.owner));
    if touches || task.tainted(packet.space) || (unknown && !c.model.tainted.is_empty()) {
        return None;
    }
    let decision = eval::decide(c, packet).ok()?;
    let why = expectation(task, packet, &decision, allow, via, by)?;
    let mut finding = failed(test, clause, &why);
    for view in [decision.egress, decision.ingress].into_iter().flatten() {
        let (span, name) = match view.by {
            Decider::Rule(id) => (c.model.rules[id].span, &c.model.rules[id].name),
            Decider::Exposure(id) => (c.model.exposures[id].span, &c.model.exposures[id].name),
            Decider::Default => continue,
        };
        let does = if view.allow { "allows" } else { "denies" };
        finding = finding.related(span, format!("`{name}` {does} it")).rule(name);
    }
    Some(finding.witness(wire::witness(c, packet, &decision)))
}

/// What a packet's decision lacks; `None` if it is as expected.
fn expectation(
    task: Task<'_>,
    packet: &Packet,
    decision: &Decision,
    allow: bool,
    via: Option<GatewayId>,
    by: Option<&str>,
) -> Option<String> {
    let c = task.c;
    let text = wire::packet_text(c, packet);
    if decision.allow != allow {
        return Some(format!("{text} is {}", reason(c, decision)));
    }
    if allow && !replay::allows(decision, via) {
        let through = decision
            .via
            .map_or_else(|| "via no gateway".to_owned(), |g| format!("via `{}`", c.model.gateways[g].name));
        return Some(format!("{text} is allowed, but {through}"));
    }
    let by = by?;
    let deciding = deciding(task, packet);
    let names = |name: &str| name == by;
    let of_policy = |d: &Decider| match d {
        Decider::Rule(id) => names(&c.model.policies[c.model.rules[*id].policy].name),
        Decider::Exposure(_) | Decider::Default => false,
    };
    let hit = deciding.iter().any(|d| wire::decider_name(c, *d).is_some_and(names) || of_policy(d));
    (!hit).then(|| format!("{text} is {}, not by `{by}`", reason(c, decision)))
}

/// Everything that decides a packet, in either view.
fn deciding(task: Task<'_>, packet: &Packet) -> Vec<Decider> {
    let c = task.c;
    let Ok(Resolution::Flow { flow, way }) = eval::resolve(c, packet) else { return Vec::new() };
    let tenant = |owner: OwnerId| c.model.owners[owner].is_tenant();
    let mut out = Vec::new();
    let mut view = |owner: OwnerId, way: eval::Way| {
        let rules = replay::deciding(c, owner, way, &flow);
        out.extend(rules.into_iter().map(Decider::Rule));
        out.push(eval::view(c, owner, &flow, way).by);
    };
    if tenant(flow.src.owner) {
        view(flow.src.owner, eval::Way { exposure: None, ..way });
    }
    if !way.intra && tenant(flow.dst.owner) {
        view(flow.dst.owner, way);
    }
    out
}
