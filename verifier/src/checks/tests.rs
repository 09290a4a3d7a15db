//! PW0701: `always`, `never`, `some` over all flows of a test's sets, and single packets.

mod sets;

use crate::checks::judge::Judge;
use crate::checks::{Findings, Task, reason};
use crate::replay;
use crate::solver::Fault;
use compiler::eval::{self, Decider, Decision, Resolution};
use compiler::ids::{ChannelId, GatewayId, OwnerId};
use compiler::model::{Test, TestClause, TestKind};
use compiler::packet::{Flow, Packet};
use compiler::wire;
use lang::codes::Code;
use lang::diag::Diagnostic;
use sets::{Sets, Verdict};

/// The findings of one test.
///
/// # Errors
/// The engines and the evaluator do not agree.
pub fn test(judge: Judge<'_>, test: &Test) -> Result<Findings, Fault> {
    let task = judge.task;
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
                let verdict = sets.verdict(judge, *quantifier)?;
                told(task, test, clause, sets.via, verdict, &mut out);
            }
        }
    }
    Ok(out)
}

fn failed(test: &Test, clause: &TestClause, why: &str) -> Diagnostic {
    Diagnostic::new(Code::PW0701, clause.span, format!("test \"{}\" fails: {why}", test.name))
        .label("does not hold")
}

/// Adds the finding about a clause over flows, if there is one.
fn told(
    task: Task<'_>,
    test: &Test,
    clause: &TestClause,
    via: Option<GatewayId>,
    verdict: Verdict,
    out: &mut Findings,
) {
    match verdict {
        Verdict::Holds => {}
        Verdict::Undecided => {
            let question = format!("whether test \"{}\" holds", test.name);
            out.undecided(task, clause.span, &question, None);
        }
        Verdict::NoPair => {
            let finding = failed(test, clause, "its sets give no pair of ends")
                .help("a set is empty, the families differ, or the service goes with neither family; name ends that exist");
            out.diagnostics.push(finding);
        }
        Verdict::NotAlways(channels, flow) => {
            out.diagnostics.push(always_fails(task, test, clause, &channels, &flow, via));
        }
        Verdict::Allowed(channel, flow) => {
            out.diagnostics.push(never_fails(task, test, clause, channel, &flow));
        }
        Verdict::NoneAllowed => {
            let why = match via {
                Some(gateway) => {
                    let gateway = &task.c.model.gateways[gateway].name;
                    format!("no flow of these sets is allowed via `{gateway}`")
                }
                None => "no flow of these sets is allowed".to_owned(),
            };
            let help = "`partywall trace` tells of one packet, step by step, why it is denied";
            out.diagnostics.push(failed(test, clause, &why).help(help));
        }
    }
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
