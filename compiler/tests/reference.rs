//! The evaluator against the language reference, read literally: every table is searched entry by entry, nothing is
//! flattened, sorted or shared with the compiled form beyond the declarations themselves.

use lang::ast::Date;
use lang::diag::Severity;
use lang::span::FileId;
use partywall_compiler::algebra::{Family, parse_addr};
use partywall_compiler::eval::{self, Decider};
use partywall_compiler::ids::{OwnerId, RuleId};
use partywall_compiler::model::{Action, Exposure, Model, RouteTarget};
use partywall_compiler::packet::{End, Flow, Packet};
use partywall_compiler::{Compiled, SourceFile, compile};
use std::fmt::Write;

/// xorshift64*: the same projects on every machine.
struct Random(u64);

impl Random {
    fn below(&mut self, n: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) as usize % n
    }

    fn pick<'a, T: ?Sized>(&mut self, list: &[&'a T]) -> &'a T {
        list[self.below(list.len())]
    }

    fn chance(&mut self, percent: usize) -> bool {
        self.below(100) < percent
    }
}

const SEGMENTS: [&str; 6] =
    ["10.0.0.0/28", "10.0.0.16/28", "10.0.1.0/29", "10.0.0.0/27", "fd00::/124", "fd00:1::/125"];
const SERVICES: [&str; 5] =
    ["tcp/80", "udp/53 | tcp/53", "ip", "icmp | icmp6/echo-request", "tcp/{80, 443} from 1024..65535"];

fn project(r: &mut Random) -> String {
    let tenants = 2 + r.below(3);
    let mut text = String::from(
        "fabric f {\n encap vxlan port 4789\n underlay mtu 9000 family ipv4\n precedence top > own > team > low\n",
    );
    if r.chance(80) {
        text += r.pick(&[" delegate own\n", " delegate own, team\n", " delegate team\n"]);
    }
    text += "}\nnode n1 { vtep 192.0.2.1 dev eth0 gateway }\nexternal net { 0.0.0.0/0, ::/0 }\nexternal hq { 172.16.0.0/28, fd99::/64 }\n";
    let delegated: Vec<&str> = ["own", "team"]
        .into_iter()
        .filter(|t| text.contains(&format!("delegate {t}")) || text.contains(&format!("delegate own, {t}")))
        .collect();
    for g in ["ga", "gb"] {
        let _ = writeln!(text, "gateway {g} {{ joins any\n instances n1\n stateful");
        for x in ["net", "hq"] {
            let _ = writeln!(text, " attach {x} on n1 dev {g}{x} next-hop 203.0.113.1, 2001:db8::1");
        }
        text += "}\n";
    }
    let mut segments = vec![];
    let mut presented = 0;
    for t in 0..tenants {
        let _ = writeln!(text, "tenant t{t} id {} {{", t + 1);
        for s in 0..1 + r.below(2) {
            let prefix = r.pick(&SEGMENTS);
            let _ = writeln!(text, " segment s{s} vni {} {{ {prefix} }}", 100 * (t + 1) + s);
            segments.push((t, s, prefix));
        }
        if r.chance(60) {
            let _ = writeln!(
                text,
                " route {} via {}",
                r.pick(&["0.0.0.0/0", "172.16.0.0/28", "172.16.0.0/30", "8.8.8.8", "::/0"]),
                r.pick(&["ga", "gb"])
            );
        }
        text += "}\n";
    }
    for _ in 0..r.below(6) {
        let &(t, s, prefix) = &segments[r.below(segments.len())];
        let mut to = r.below(tenants);
        if to == t {
            to = (to + 1) % tenants;
        }
        let client = match r.below(5) {
            0 => "net".to_owned(),
            1 => "hq".to_owned(),
            _ => format!("t{to}"),
        };
        let (_, len) = prefix.split_once('/').unwrap();
        let v6 = prefix.contains(':');
        presented += 1;
        let seen =
            if v6 { format!("fdaa:{presented}::/{len}") } else { format!("100.64.{presented}.0/{len}") };
        let mut line = format!(
            "extend tenant t{t} {{ expose s{s} : {} to {client} via {}",
            r.pick(&SERVICES),
            r.pick(&["ga", "gb"])
        );
        if r.chance(75) {
            let _ = write!(line, " as {seen}");
        }
        let theirs: Vec<&str> =
            segments.iter().filter(|x| client == format!("t{}", x.0)).map(|x| x.2).collect();
        if let [one] = theirs.as_slice()
            && r.chance(75)
        {
            let (_, len) = one.split_once('/').unwrap();
            let shown = if one.contains(':') {
                format!("fdbb:{presented}::/{len}")
            } else {
                format!("100.65.{presented}.0/{len}")
            };
            let _ = write!(line, " clients as {shown}");
        }
        let _ = writeln!(text, "{line} }}");
    }
    for p in 0..2 + r.below(5) {
        let owner = r.below(tenants);
        let mine = r.chance(60) && !delegated.is_empty();
        let tier = if mine { r.pick(&delegated) } else { r.pick(&["top", "own", "team", "low"]) };
        let owned = if mine { format!(" for t{owner}") } else { String::new() };
        let _ = writeln!(text, "policy p{p}{owned} in {tier} {{");
        for _ in 0..1 + r.below(4) {
            let own = format!("t{owner}");
            let set = |r: &mut Random| match r.below(5) {
                0 => "any".to_owned(),
                1 => "net & 8.0.0.0/8".to_owned(),
                2 => "any & 10.0.0.0/29".to_owned(),
                3 => format!("t{} except 10.0.0.1..10.0.0.3", r.below(tenants)),
                _ => format!("t{}", r.below(tenants)),
            };
            let (mut a, mut b) = (set(r), set(r));
            if mine {
                if r.chance(50) { a = own } else { b = own }
            }
            let pairs = if r.chance(10) { "same-tenant".to_owned() } else { format!("{a} -> {b}") };
            let action = r.pick(&["allow", "allow", "deny", "pass"]);
            let _ = writeln!(text, " {action} {pairs} : {}", r.pick(&SERVICES));
        }
        text += "}\n";
    }
    text
}

/// What the reference says: verdict, gateway, deciders, reason, ends.
#[derive(Debug, PartialEq)]
struct Told {
    allow: bool,
    via: Option<String>,
    rule: Option<String>,
    ingress: Option<String>,
    reason: &'static str,
    from: Option<End>,
    to: Option<End>,
}

enum To {
    Local,
    Import(End),
    External(OwnerId, String),
    ClientOnly,
}

fn underlay(m: &Model, f: Family, a: u128) -> bool {
    m.nodes.values().any(|n| parse_addr(n.vtep) == (f, a))
}

fn longest<T>(mut list: Vec<(u8, T)>) -> Option<(u8, T)> {
    let best = list.iter().map(|(len, _)| *len).max()?;
    let at = list.iter().position(|(len, _)| *len == best)?;
    Some(list.swap_remove(at))
}

/// Client prefixes of tenant `t` that hold `a`: (length, the client, the exposures of that client there).
fn clients(m: &Model, t: OwnerId, f: Family, a: u128, tenants: bool) -> Vec<(u8, (End, &Exposure))> {
    let mut out = vec![];
    for e in m.exposures.values().filter(|e| e.provider == t) {
        for (owner, map) in &e.shown {
            if m.owners[*owner].is_tenant() == tenants && map.seen.family == f && map.seen.contains_addr(a) {
                if !tenants && underlay(m, f, a) {
                    continue;
                }
                let end = End { owner: *owner, address: a - map.seen.lo() + map.real.lo() };
                out.push((map.seen.len(), (end, e)));
            }
        }
    }
    out
}

fn external(m: &Model, route: &RouteTarget, f: Family, a: u128) -> Option<(OwnerId, String)> {
    let RouteTarget::Via(g) = route else { return None };
    let g = &m.gateways[*g];
    let list = g.joins.iter().filter(|o| !m.owners[**o].is_tenant()).flat_map(|o| {
        m.owners[*o]
            .prefixes
            .iter()
            .filter(move |p| p.family == f && p.contains_addr(a))
            .map(move |p| (p.len(), *o))
    });
    let (_, owner) = longest(list.collect())?;
    (!underlay(m, f, a)).then(|| (owner, g.name.clone()))
}

fn tenant_destination(m: &Model, t: OwnerId, f: Family, a: u128) -> Option<To> {
    let mut list: Vec<(u8, Option<To>)> = vec![];
    for p in m.segments.values().filter(|s| s.tenant == t).flat_map(|s| &s.prefixes) {
        if p.prefix.family == f && p.prefix.contains_addr(a) {
            list.push((p.prefix.len(), Some(To::Local)));
        }
    }
    list.extend(imports(m, t, f, a).into_iter().map(|(len, to)| (len, Some(to))));
    for route in
        m.routes.values().filter(|r| r.tenant == t && r.prefix.family == f && r.prefix.contains_addr(a))
    {
        list.push((route.prefix.len(), external(m, &route.target, f, a).map(|(o, g)| To::External(o, g))));
    }
    let mut all = clients(m, t, f, a, true);
    all.extend(clients(m, t, f, a, false));
    let client = longest(all);
    let best = longest(list);
    match (best, client) {
        (None, None) => None,
        (None, Some(_)) => Some(To::ClientOnly),
        (Some((_, to)), None) => to,
        (Some((len, to)), Some((client_len, (end, _)))) => {
            let same = match &to {
                Some(To::Import(other)) => *other == end,
                Some(To::External(owner, _)) => *owner == end.owner && a == end.address,
                Some(To::Local) => true,
                _ => false,
            };
            let nobody = underlay(m, f, a) && to.is_none();
            if client_len > len && !same && !nobody { Some(To::ClientOnly) } else { to }
        }
    }
}

fn imports(m: &Model, t: OwnerId, f: Family, a: u128) -> Vec<(u8, To)> {
    let mut out = vec![];
    for e in m.exposures.values().filter(|e| e.clients_of(t).is_some()) {
        for map in e.presented.iter().filter(|p| p.seen.family == f && p.seen.contains_addr(a)) {
            let end = End { owner: e.provider, address: a - map.seen.lo() + map.real.lo() };
            out.push((map.seen.len(), To::Import(end)));
        }
    }
    out
}

fn tenant_source(m: &Model, t: OwnerId, f: Family, a: u128) -> Option<End> {
    if m.owners[t].universe.contains(f, a) {
        return Some(End { owner: t, address: a });
    }
    if let Some((_, (end, _))) = longest(clients(m, t, f, a, true)) {
        return Some(end);
    }
    let mut list: Vec<(u8, Option<End>)> = vec![];
    for route in
        m.routes.values().filter(|r| r.tenant == t && r.prefix.family == f && r.prefix.contains_addr(a))
    {
        list.push((
            route.prefix.len(),
            external(m, &route.target, f, a).map(|(owner, _)| End { owner, address: a }),
        ));
    }
    list.extend(imports(m, t, f, a).into_iter().map(|(len, _)| (len, None)));
    list.extend(clients(m, t, f, a, false).into_iter().map(|(len, (end, _))| (len, Some(end))));
    longest(list)?.1
}

fn told(c: &Compiled, p: &Packet) -> Option<Told> {
    let m = &c.model;
    let drop = |reason, from, to| {
        Some(Told { allow: false, via: None, rule: None, ingress: None, reason, from, to })
    };
    let inside = m.owners[p.space].is_tenant();
    let from = if inside {
        tenant_source(m, p.space, p.family, p.src)
    } else {
        let own = m.owners[p.space].universe.contains(p.family, p.src) && !underlay(m, p.family, p.src);
        own.then_some(End { owner: p.space, address: p.src })
    };
    let Some(from) = from else { return drop("unknown-source", None, None) };
    let to = if inside {
        tenant_destination(m, p.space, p.family, p.dst)
    } else {
        longest(imports(m, p.space, p.family, p.dst)).map(|(_, to)| to)
    };
    let (to_end, via) = match &to {
        None => return drop("no-route", Some(from), None),
        Some(To::ClientOnly) => return drop("not-exposed", Some(from), None),
        Some(To::Local) => (End { owner: p.space, address: p.dst }, None),
        Some(To::Import(end)) => (*end, None),
        Some(To::External(owner, g)) => (End { owner: *owner, address: p.dst }, Some(g.clone())),
    };
    if from == to_end {
        return None;
    }
    let flow = Flow { src: from, dst: to_end, family: p.family, protocol: p.protocol, x: p.x, y: p.y };
    let local = from.owner == p.space;
    let admits = |e: &&Exposure| {
        e.provider == to_end.owner
            && e.set.contains(p.family, to_end.address)
            && e.clients_of(from.owner).is_some_and(|s| s.contains(p.family, from.address))
            && e.service.contains(p.protocol, p.x, p.y)
            && if local {
                e.present(p.family, to_end.address) == Some(p.dst)
                    && e.show(from.owner, p.family, from.address)
                        .is_some_and(|seen| tenant_source(m, e.provider, p.family, seen) == Some(from))
            } else {
                e.show(from.owner, p.family, from.address) == Some(p.src)
                    && e.present(p.family, to_end.address).is_some_and(|seen| {
                        let there = if m.owners[from.owner].is_tenant() {
                            tenant_destination(m, from.owner, p.family, seen)
                        } else {
                            longest(imports(m, from.owner, p.family, seen)).map(|(_, to)| to)
                        };
                        matches!(there, Some(To::Import(end)) if end == to_end)
                    })
            }
    };
    let (gateway, exposure) = if local && from.owner == to_end.owner {
        (None, None)
    } else if let Some(g) = via {
        if !local {
            return drop("not-exposed", Some(from), Some(to_end));
        }
        (Some(g), None)
    } else if !local && to_end.owner != p.space {
        return drop("not-exposed", Some(from), Some(to_end));
    } else {
        match m.exposures.values().filter(admits).min_by(|a, b| a.name.cmp(&b.name)) {
            Some(e) => (Some(m.gateways[e.gateway].name.clone()), Some(e)),
            None => return drop("not-exposed", Some(from), Some(to_end)),
        }
    };
    let cross = from.owner != to_end.owner;
    let out = m.owners[from.owner].is_tenant().then(|| view(m, from.owner, &flow, cross, None));
    let inn =
        (cross && m.owners[to_end.owner].is_tenant()).then(|| view(m, to_end.owner, &flow, cross, exposure));
    let views: Vec<_> = [&out, &inn].into_iter().flatten().collect();
    let allow = views.iter().all(|v| v.0);
    let speaker = views.iter().find(|v| !v.0).unwrap_or(&views[0]);
    Some(Told {
        allow,
        via: gateway.filter(|_| allow),
        rule: out.as_ref().and_then(|v| v.1.clone()),
        ingress: inn.as_ref().and_then(|v| v.1.clone()),
        reason: if speaker.1.is_some() { "rule" } else { "default" },
        from: Some(from),
        to: Some(to_end),
    })
}

/// Allowed, and by what. Projects here have no `via` and no `overrides`; a conflict denies.
fn view(
    m: &Model,
    t: OwnerId,
    flow: &Flow,
    cross: bool,
    exposure: Option<&Exposure>,
) -> (bool, Option<String>) {
    let lowest = m.fabric.tiers.iter().rposition(|tier| tier.delegated);
    for tier in 0..m.fabric.tiers.len() {
        let mut given: Vec<RuleId> = vec![];
        for policy in m.policies.values().filter(|p| p.tier == tier && p.owner.is_none_or(|o| o == t)) {
            given.extend(policy.rules.iter().find(|id| {
                let rule = &m.rules[**id];
                rule.service.contains(flow.protocol, flow.x, flow.y) && rule.pairs.contains(flow)
            }));
        }
        let names = || given.iter().map(|id| m.rules[*id].name.clone()).min();
        let actions: Vec<Action> = given.iter().map(|id| m.rules[*id].action).collect();
        match actions.first() {
            None if lowest == Some(tier) && cross => {
                if let Some(e) = exposure {
                    return (true, Some(e.name.clone()));
                }
            }
            None => {}
            Some(first) if actions.iter().any(|a| a != first) => return (false, names()),
            Some(Action::Allow { .. }) => return (true, names()),
            Some(Action::Deny) => return (false, names()),
            Some(Action::Pass) => {}
        }
    }
    match exposure {
        Some(e) if lowest.is_none() => (true, Some(e.name.clone())),
        _ => (false, None),
    }
}

fn compiled_tells(c: &Compiled, p: &Packet) -> Option<Told> {
    let d = eval::decide(c, p).ok()?;
    let name = |by: Decider| partywall_compiler::wire::decider_name(c, by).map(str::to_owned);
    Some(Told {
        allow: d.allow,
        via: d.via.map(|g| c.model.gateways[g].name.clone()),
        rule: d.egress.and_then(|v| name(v.by)),
        ingress: d.ingress.and_then(|v| name(v.by)),
        reason: d.reason.as_str(),
        from: d.from,
        to: d.to,
    })
}

/// The ends of every range that a declaration mentions, and their neighbours.
fn boundaries(m: &Model, f: Family) -> Vec<u128> {
    let mut edges = vec![];
    let mut add = |p: &partywall_compiler::algebra::Prefix| {
        if p.family == f {
            edges.extend([p.lo().wrapping_sub(1), p.lo(), p.lo() + 1, p.hi(), p.hi().wrapping_add(1)]);
        }
    };
    m.owners.values().flat_map(|o| &o.prefixes).for_each(&mut add);
    m.routes.values().for_each(|r| add(&r.prefix));
    for e in m.exposures.values() {
        e.presented.iter().for_each(|p| add(&p.seen));
        e.shown.iter().for_each(|(_, p)| add(&p.seen));
    }
    edges.extend(m.nodes.values().map(|n| parse_addr(n.vtep)).filter(|(v, _)| *v == f).map(|(_, a)| a));
    edges.retain(|a| *a <= f.max());
    edges.sort_unstable();
    edges.dedup();
    edges
}

#[test]
fn the_compiled_form_decides_as_the_reference_reads() {
    let wanted: usize = std::env::var("PARTYWALL_CASES").ok().and_then(|n| n.parse().ok()).unwrap_or(150);
    let mut r = Random(0x5057_5057_5057_5057);
    let (mut clean, mut tried, mut allowed, mut exposed) = (0, 0, 0usize, 0usize);
    while clean < wanted {
        tried += 1;
        assert!(
            tried < 40 * wanted.max(10),
            "the generator makes too few clean projects: {clean} of {tried}"
        );
        let text = project(&mut r);
        let parsed = lang::parse(FileId(0), &text);
        assert!(parsed.diagnostics.is_empty(), "{text}\n{:#?}", parsed.diagnostics);
        let file = SourceFile { id: FileId(0), path: "p.pw", text: &text, tree: &parsed.file };
        let compilation = compile(&[file], Date { year: 2026, month: 6, day: 1 });
        if compilation.diagnostics.iter().any(|d| d.severity == Severity::Error) {
            continue;
        }
        clean += 1;
        let c = &compilation.compiled;
        for family in Family::BOTH {
            let edges = boundaries(&c.model, family);
            let icmp = if family == Family::V4 { 1 } else { 58 };
            for space in c.model.owners.ids() {
                for src in &edges {
                    for dst in &edges {
                        let kinds =
                            [(6, 40000, 80), (6, 80, 80), (17, 40000, 53), (icmp, 128, 0), (47, 0, 0)];
                        let (protocol, x, y) = kinds[r.below(kinds.len())];
                        let p = Packet { space, family, src: *src, dst: *dst, protocol, x, y };
                        let (want, got) = (told(c, &p), compiled_tells(c, &p));
                        assert_eq!(want, got, "{}\n{text}", partywall_compiler::wire::packet_text(c, &p));
                        allowed += usize::from(got.as_ref().is_some_and(|t| t.allow));
                        exposed += usize::from(got.is_some_and(|t| t.allow && t.via.is_some()));
                    }
                }
            }
        }
    }
    assert!(
        allowed > 10 * wanted && exposed > wanted,
        "the packets are too tame: {allowed} allowed, {exposed} through gateways"
    );
}
