//! Composed forwarding on random projects, small enough that every packet of every space can be tried.
//!
//! `PARTYWALL_PROJECTS` sets the number of projects.

use crate::generate::{self, Rng};
use crate::paths::{FABRIC, of_paths, replayed};
use crate::support::{compile, lines, verify};
use compiler::Compiled;
use compiler::algebra::{Family, parse_addr};
use compiler::buckets::{Direction, passes};
use compiler::compiled::{ChannelKind, Destination, Source};
use compiler::eval::{self, Resolution};
use compiler::ids::{GatewayId, OwnerId};
use compiler::packet::{End, Flow, Packet};
use compiler::replies;
use lang::codes::Code;
use lang::diag::{Diagnostic, Severity};
use std::collections::BTreeSet;
use std::fmt::Write as _;

const TENANTS: [&str; 3] = ["a", "b", "c"];
const SERVICES: [&str; 4] = ["tcp/1", "tcp/2", "tcp", "udp/1"];
/// Protocol, source port, destination port: one of each kind that a rule can tell apart.
const PACKETS: [(u8, u16, u16); 4] = [(6, 40000, 1), (6, 40000, 2), (6, 40000, 3), (17, 40000, 1)];

fn random(seed: u64) -> String {
    let mut rng = Rng::new(seed);
    let mut out = String::from(FABRIC);
    out.push_str("external bay { 10.70.0.0/26 }\n");
    // Gateways with the tenants that they join.
    let mut gateways: Vec<(&str, Vec<&str>)> = Vec::new();
    for name in ["left", "right"] {
        let mut instances = vec!["g1", "g2", "g3"];
        instances.truncate(1 + rng.below(3));
        let mut joins = TENANTS.to_vec();
        if rng.chance(60) {
            joins.remove(rng.below(3));
        }
        let source = rng.chance(50);
        let stateful = !source || rng.chance(20);
        let affinity = if source { "source" } else { "symmetric" };
        let failure = rng.pick(&["rehash", "drop"]);
        let _ = write!(
            out,
            "gateway {name} {{ joins {}, bay instances {} {} affinity {affinity} on-failure {failure}",
            joins.join(", "),
            instances.join(", "),
            if stateful { "stateful" } else { "stateless" },
        );
        for node in &instances {
            let _ = write!(out, " attach bay on {node} dev {name} next-hop 10.70.0.62");
        }
        if stateful && rng.chance(30) {
            let base = 52 + 4 * gateways.len();
            let addresses: Vec<String> =
                (0..instances.len()).map(|i| format!("10.70.0.{}", base + i)).collect();
            let _ = write!(out, " masquerade {} to bay as {}", joins[0], addresses.join(", "));
        }
        out.push_str(" }\n");
        gateways.push((name, joins));
    }
    for (t, name) in TENANTS.iter().enumerate() {
        let own =
            if rng.chance(60) { format!("10.70.0.{}/30", 4 * t) } else { format!("10.{}.0.0/30", t + 1) };
        let _ = write!(
            out,
            "tenant {name} id {} {{ segment net vni {} {{ {own} }} segment more vni {} {{ 10.9.0.{}/30 }}",
            t + 1,
            10 + t,
            20 + t,
            4 * t
        );
        // Mostly one gateway for all that a tenant has to do with the external.
        let usual = rng.below(2);
        let gateway = |rng: &mut Rng, with: &str| -> Option<&str> {
            let at = if rng.chance(85) { usual } else { 1 - usual };
            let joins = |g: &&(&str, Vec<&str>)| g.1.contains(name) && (with == "bay" || g.1.contains(&with));
            Some(gateways.iter().cycle().skip(at).take(2).find(joins)?.0)
        };
        for (route, prefix) in ["10.70.0.16/29", "10.70.0.24/29", "10.70.0.0/26"].iter().enumerate() {
            if rng.chance([50, 50, 15][route])
                && let Some(via) = gateway(&mut rng, "bay")
            {
                let _ = write!(out, " route {prefix} via {via}");
            }
        }
        if rng.chance(55) {
            let at = (t + 1 + rng.below(2)) % 3;
            let _ = write!(out, " route 10.9.0.{}/30 to {}.more direct \"drill\"", 4 * at, TENANTS[at]);
        }
        if rng.chance(45) {
            let other = TENANTS[(t + 1 + rng.below(2)) % 3];
            if let Some(via) = gateway(&mut rng, other) {
                let set = rng.pick(&["net", "more"]);
                let way = if rng.chance(50) { format!(" as 100.64.{t}.0/30") } else { String::new() };
                let (of, clients) = if rng.chance(50) {
                    (".net", format!(" clients as 100.65.{t}.0/30"))
                } else {
                    ("", String::new())
                };
                let service = rng.pick(&SERVICES);
                let _ = write!(out, " expose {set} : {service} to {other}{of} via {via}{way}{clients}");
            }
        }
        if rng.chance(60)
            && let Some(via) = gateway(&mut rng, "bay")
        {
            let clients = rng.pick(&["bay & 10.70.0.0/28", "bay & 10.70.0.32/28", "bay & 10.70.0.48/28"]);
            let way = if rng.chance(70) { format!(" as 10.70.0.{}/30", 16 + 4 * t) } else { String::new() };
            let _ = write!(out, " expose net : {} to {clients} via {via}{way}", rng.pick(&SERVICES));
        }
        out.push_str(" }\n");
    }
    let sets =
        ["a", "b", "c", "bay", "any", "any & 10.70.0.0/28", "bay & 10.70.0.16/29", "any & 10.9.0.0/29"];
    for n in 0..3 + rng.below(4) {
        let action = if rng.chance(75) { "allow" } else { "deny" };
        let service = rng.pick(&SERVICES);
        let (src, dst) = (rng.pick(&sets), rng.pick(&sets));
        let _ = writeln!(out, "policy p{n} in guardrail{} {{ {action} {src} -> {dst} : {service} }}", {
            // Later ones give way, so that there is no conflict.
            if n == 0 {
                String::new()
            } else {
                format!(" overrides {}", (0..n).map(|i| format!("p{i}")).collect::<Vec<_>>().join(", "))
            }
        });
    }
    out
}

/// Every allowed packet that an owner's own addresses open.
fn allowed(c: &Compiled) -> Vec<(Packet, Flow, Option<GatewayId>)> {
    let mut out = Vec::new();
    for (space, owner) in c.model.owners.iter() {
        let sources = owner.universe.v4.ranges().iter().flat_map(|(lo, hi)| *lo..=*hi);
        for src in sources {
            for range in &c.spaces[space].destinations.v4 {
                for dst in range.lo..=range.hi {
                    for (protocol, x, y) in PACKETS {
                        let packet = Packet { space, family: Family::V4, src, dst, protocol, x, y };
                        let Ok(Resolution::Flow { flow, .. }) = eval::resolve(c, &packet) else { continue };
                        let decision = eval::decide(c, &packet).expect("it is a flow");
                        if decision.allow {
                            out.push((packet, flow, decision.via));
                        }
                    }
                }
            }
        }
    }
    out
}

/// What a reply to this address would reach from this space, told by the evaluator and, for what is known as a client's only, by the
/// table of sources.
fn reply_reaches(c: &Compiled, from: End, to: u128) -> Option<(End, Option<GatewayId>)> {
    let packet =
        Packet { space: from.owner, family: Family::V4, src: from.address, dst: to, protocol: 6, x: 9, y: 9 };
    let space = &c.spaces[from.owner];
    match space.destinations.get(Family::V4, to).map(|r| r.target.clone()) {
        None | Some(Destination::ClientOnly | Destination::Nowhere) => {
            let range = space.sources.get(Family::V4, to)?;
            match range.target {
                Source::Client { owner, real, gateway, .. }
                | Source::External { owner, real, gateway, .. } => {
                    Some((End { owner, address: to - range.lo + real }, Some(gateway)))
                }
                _ => None,
            }
        }
        Some(target) => {
            let end = match eval::resolve(c, &packet) {
                Ok(Resolution::Flow { flow, .. }) => flow.dst,
                Ok(Resolution::Dropped { to, .. }) => to?,
                Err(_) => from,
            };
            let gateway = match target {
                Destination::Import { gateway, .. } | Destination::External { gateway, .. } => Some(gateway),
                _ => None,
            };
            Some((end, gateway))
        }
    }
}

/// What is wrong, found by trying every packet: a line for each finding that is due.
fn brute(c: &Compiled) -> BTreeSet<String> {
    let mut due = BTreeSet::new();
    let name = |id: OwnerId| c.model.owners[id].name.as_str();
    let tenant = |id: OwnerId| c.model.owners[id].is_tenant();
    let all = allowed(c);
    let plain = |flow: &Flow, via: Option<GatewayId>| {
        let gateway = &c.model.gateways[via.expect("to an external")];
        !gateway.masquerades.iter().any(|m| {
            (m.tenant, m.external) == (flow.src.owner, flow.dst.owner)
                && m.addresses.iter().any(|a| parse_addr(*a).0 == flow.family)
        })
    };
    // Where the external reaches an address of a tenant.
    let presented = |flow: &Flow| {
        let range = c.spaces[flow.dst.owner].destinations.get(Family::V4, flow.src.address)?;
        match range.target {
            Destination::Import { owner, real, gateway, .. } => {
                let end = End { owner, address: flow.src.address - range.lo + real };
                (end == flow.src).then_some(gateway)
            }
            _ => None,
        }
    };
    for (packet, flow, via) in &all {
        let (src, dst) = (name(flow.src.owner), name(flow.dst.owner));
        if let Some(id) = via {
            let gateway = &c.model.gateways[*id];
            // The reply is a packet of the other end.
            let back = Flow { src: flow.dst, dst: flow.src, x: flow.y, y: flow.x, ..*flow };
            let downs = std::iter::once(vec![]).chain(gateway.instances.iter().map(|n| vec![*n]));
            for down in downs {
                let at = |f: &Flow| passes(&c.model, *id, f, Direction::Request, &down);
                if at(flow) != at(&back) && !gateway.stateful {
                    due.insert(format!("PW0601 instances {}", gateway.name));
                }
            }
        } else if flow.src.owner != flow.dst.owner {
            match reply_reaches(c, flow.dst, flow.src.address) {
                Some((end, None)) if end == flow.src => {}
                Some((end, Some(_))) if end == flow.src => {
                    due.insert(format!("PW0601 around {src} {dst}"));
                }
                _ => {
                    due.insert(format!("PW0603 {src} {dst}"));
                }
            }
        }
        if !tenant(flow.src.owner) || tenant(flow.dst.owner) || !plain(flow, *via) {
            continue;
        }
        match presented(flow) {
            Some(gateway) if Some(gateway) != *via => {
                due.insert(format!("PW0601 outward {src} {dst}"));
            }
            Some(_) => {}
            None => {
                let other = |(_, f, v): &&(Packet, Flow, Option<GatewayId>)| {
                    f.src == flow.src && f.dst.owner == flow.dst.owner && v != via && plain(f, *v)
                };
                if all.iter().any(|o| other(&o)) {
                    due.insert(format!("PW0601 outward {src} {dst}"));
                }
            }
        }
        let second = Packet { space: flow.dst.owner, ..*packet };
        let Ok(decision) = eval::decide(c, &second) else { continue };
        let (Some(to), Some(back), Some(out)) = (decision.to, decision.via, *via) else { continue };
        let joins = |g: GatewayId| {
            let joins = &c.model.gateways[g].joins;
            joins.contains(&flow.src.owner) && joins.contains(&to.owner)
        };
        if out == back {
            due.insert(format!("PW0604 {src} {}", name(to.owner)));
        } else if to.owner != flow.src.owner && !joins(out) && !joins(back) {
            due.insert(format!("PW0501 {src} {}", name(to.owner)));
        }
    }
    due
}

/// A finding as [`brute`] writes it: a line for each tenant that is reached.
fn due(d: &Diagnostic) -> Vec<String> {
    let quoted =
        |text: &str| -> Vec<String> { text.split('`').skip(1).step_by(2).map(str::to_owned).collect() };
    let names = quoted(&d.message);
    let (first, second) = (&names[0], names.get(1));
    let code = d.code;
    match (code, second) {
        (Code::PW0601, _) if d.message.starts_with("gateway") => vec![format!("{code} instances {first}")],
        (Code::PW0601, _) if d.message.starts_with("connections") => {
            vec![format!("{code} around {first} {}", names[2])]
        }
        (Code::PW0601, Some(second)) => vec![format!("{code} outward {first} {second}")],
        (_, Some(second)) => {
            let others =
                d.notes.iter().filter(|n| n.starts_with("tenants reached so too")).flat_map(|n| quoted(n));
            std::iter::once(second.clone()).chain(others).map(|to| format!("{code} {first} {to}")).collect()
        }
        _ => vec![format!("{code}")],
    }
}

fn projects(default: u64) -> u64 {
    std::env::var("PARTYWALL_PROJECTS").ok().map_or(default, |v| v.parse().expect("a number"))
}

#[test]
fn every_packet_of_random_projects_agrees() {
    let mut seen: BTreeSet<String> = BTreeSet::new();
    let (mut clean, mut errors) = (0, Vec::new());
    for seed in 0..projects(400) {
        let text = random(seed);
        let (c, diagnostics) = compile(&text);
        if diagnostics.iter().any(|d| d.severity == Severity::Error && d.code != Code::PW0602)
            || !c.model.tainted.is_empty()
        {
            errors.extend(diagnostics.iter().filter(|d| d.severity == Severity::Error).map(|d| d.code));
            continue;
        }
        let verdicts = verify(&c);
        let findings = of_paths(&verdicts);
        let told: BTreeSet<String> = findings.iter().flat_map(due).collect();
        assert_eq!(told, brute(&c), "seed {seed}\n{text}\n{:#?}", lines(&verdicts));
        findings.iter().for_each(|d| replayed(&c, d));
        clean += 1;
        let kind = |t: &String| {
            let words = if t.starts_with("PW0601") { 2 } else { 1 };
            t.split(' ').take(words).collect::<Vec<_>>().join(" ")
        };
        seen.extend(told.iter().map(kind));
    }
    assert!(clean * 5 > projects(400), "only {clean} projects are without errors: {errors:?}");
    for kind in ["PW0601 instances", "PW0601 around", "PW0601 outward", "PW0603", "PW0501", "PW0604"] {
        assert!(seen.contains(kind), "no project shows {kind}: {seen:?}");
    }
}

/// In a project without errors every destination that resolves is at home in the space that it leads to, and every connection under
/// an exposure is answered through its gateway: there is no second hop, no loop and no way back that leads elsewhere.
#[test]
fn every_destination_is_at_its_end_after_one_table() {
    let mut looked_at = 0;
    for seed in 0..projects(400) {
        for text in [generate::project(seed), random(seed)] {
            let (c, diagnostics) = compile(&text);
            if diagnostics.iter().any(|d| d.severity == Severity::Error) {
                continue;
            }
            looked_at += 1;
            for (space, family) in c.model.owners.ids().flat_map(|o| Family::BOTH.map(|f| (o, f))) {
                for range in c.spaces[space].destinations.family(family) {
                    let (owner, real) = match &range.target {
                        Destination::Import { owner, real, .. } => (*owner, *real),
                        Destination::Direct { owner, .. } => (*owner, range.lo),
                        Destination::External { owner, .. } => {
                            assert!(
                                c.model.owners[*owner].universe.contains(family, range.lo),
                                "seed {seed}\n{text}"
                            );
                            continue;
                        }
                        Destination::Local { .. } | Destination::ClientOnly | Destination::Nowhere => {
                            continue;
                        }
                    };
                    for address in [real, real + (range.hi - range.lo)] {
                        let there = c.spaces[owner].destinations.get(family, address).map(|r| &r.target);
                        assert!(
                            matches!(there, Some(Destination::Local { .. })),
                            "seed {seed}: {there:?}\n{text}"
                        );
                    }
                }
            }
            for channel in c.channels.values() {
                let ChannelKind::Exposed(id) = channel.kind else { continue };
                for (family, &(lo, hi)) in Family::BOTH
                    .into_iter()
                    .flat_map(|f| channel.src_set.family(f).ranges().iter().map(move |r| (f, r)))
                {
                    for address in [lo, hi] {
                        let seen =
                            c.model.exposures[id].show(channel.src, family, address).expect("a client");
                        let back = replies::target(&c, channel.dst, family, seen);
                        let home = End { owner: channel.src, address };
                        assert_eq!(
                            back.map(|t| (t.end, t.gateway)),
                            Some((home, channel.gateway)),
                            "seed {seed}\n{text}"
                        );
                    }
                }
            }
        }
    }
    assert!(looked_at > 50, "only {looked_at} projects are without errors");
}
