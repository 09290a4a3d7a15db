//! `diff` against enumeration: random projects and random edits of their text; every representative flow is decided by the
//! evaluator on both sides.
//!
//! `PARTYWALL_PROJECTS` sets the number of pairs.

use crate::generate::{self, Rng};
use crate::query::holds;
use crate::{representatives, support};
use compiler::algebra::{Family, format_addr};
use compiler::compiled::ChannelKind;
use compiler::eval;
use compiler::ids::OwnerId;
use compiler::packet::{End, Flow, protocol_in_family};
use compiler::{Compiled, SourceFile, wire};
use lang::codes::Code;
use lang::diag::Severity;
use lang::source::Sources;
use partywall_verifier::diff::{Change, ChangeKind, Saying, diff};
use partywall_verifier::flows::Work;
use partywall_verifier::query::NoAnswer;
use partywall_verifier::{Options, replay};
use rayon::prelude::*;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

fn differ(old: &Compiled, new: &Compiled) -> Vec<Change> {
    diff(old, new, Work(Options::DEFAULT_WORK)).unwrap_or_else(|e| panic!("{e}"))
}

/// A project whose meaning is not open; `None` otherwise.
fn meaningful(text: &str) -> Option<Compiled> {
    let mut sources = Sources::new();
    let id = sources.add("policy.pw", text);
    let parsed = lang::parse(id, text);
    let files = [SourceFile { id, path: "policy.pw", text, tree: &parsed.file }];
    let compilation = compiler::compile(&files, support::TODAY);
    let open = parsed.diagnostics.iter().chain(&compilation.diagnostics);
    let open = open.filter(|d| d.severity == Severity::Error).any(|d| d.code < Code::PW0401);
    (!open).then_some(compilation.compiled)
}

/// A small edit somewhere in the text.
fn edited(text: &str, rng: &mut Rng) -> String {
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    let of = |kind: &str, lines: &[String], rng: &mut Rng| {
        let all: Vec<usize> = (0..lines.len()).filter(|at| lines[*at].contains(kind)).collect();
        (!all.is_empty()).then(|| all[rng.below(all.len())])
    };
    let swap = |line: &mut String, from: &str, to: &str| *line = line.replacen(from, to, 1);
    let rule =
        |lines: &[String], rng: &mut Rng| of(if rng.chance(50) { ": allow " } else { ": deny " }, lines, rng);
    match rng.below(19) {
        0 | 1 => {
            if let Some(at) = rule(&lines, rng) {
                lines.remove(at);
            }
        }
        2 => {
            if let (Some(a), Some(b)) = (rule(&lines, rng), rule(&lines, rng)) {
                lines.swap(a, b);
            }
        }
        3 | 4 => {
            if let Some(at) = rule(&lines, rng) {
                let (from, to) = [("allow", "deny"), ("deny", "allow"), ("allow", "pass")][rng.below(3)];
                swap(&mut lines[at], from, to);
            }
        }
        5 => {
            if let Some(at) = rule(&lines, rng) {
                let more = if lines[at].contains(" : ") { " | udp/7" } else { " : tcp/7..90" };
                lines[at].push_str(more);
            }
        }
        6 => {
            if let Some(at) = of("  expose ", &lines, rng) {
                let end = (at..lines.len()).find(|n| lines[*n] == "  }").unwrap_or(at);
                lines.drain(at..=end);
            }
        }
        7 => {
            if let Some(at) = of("clients as 100.", &lines, rng) {
                swap(&mut lines[at], "clients as 100.", "clients as 101.");
            }
        }
        8 => {
            if let Some(at) = of(" as 100.64.", &lines, rng) {
                swap(&mut lines[at], " as 100.64.", " as 100.63.");
            }
        }
        9 => {
            if let Some(at) = of("  route ", &lines, rng) {
                lines.remove(at);
            }
        }
        10 => {
            if let Some(at) = of("masquerade ", &lines, rng) {
                swap(&mut lines[at], "198.51.10", "198.51.11");
            }
        }
        11 => {
            if let Some(at) = of(" via ", &lines, rng) {
                let (from, to) =
                    [("via edge", "via core"), ("via core", "via edge"), (" via edge", "")][rng.below(3)];
                swap(&mut lines[at], from, to);
            }
        }
        12 => {
            if let Some(at) = of("policy p", &lines, rng) {
                let tiers = ["in guardrail", "in tenant", "in baseline", "in late"];
                let (from, to) = (tiers[rng.below(4)], tiers[rng.below(4)]);
                swap(&mut lines[at], from, to);
            }
        }
        13 => {
            if let Some(at) = of("segment own", &lines, rng) {
                swap(&mut lines[at], ".0.0/28", ".0.0/27");
            }
        }
        17 => {
            if let Some(at) = of(" overrides ", &lines, rng) {
                let head = lines[at].split(" overrides ").next().expect("a beginning").to_owned();
                lines[at] = format!("{head} {{");
            }
        }
        14 => return text.replace("lab", "laboratory"),
        15 => return text.replace("group pair = shop | payments", "group pair = shop | payments.front"),
        16 => {
            let service =
                [("tcp/{80, 443, 8000..8080}", "tcp/{80, 443, 8000..8081}"), ("udp/53 | tcp/53", "udp/53")];
            let (from, to) = service[rng.below(2)];
            return text.replace(from, to);
        }
        _ => return text.replace("delegate tenant", "delegate baseline"),
    }
    lines.join("\n") + "\n"
}

/// Owners by name and kind, with their ids on both sides.
fn owners(old: &Compiled, new: &Compiled) -> BTreeMap<(String, bool), [Option<OwnerId>; 2]> {
    let mut by: BTreeMap<(String, bool), [Option<OwnerId>; 2]> = BTreeMap::new();
    for (side, c) in [old, new].into_iter().enumerate() {
        for (id, owner) in c.model.owners.iter() {
            by.entry((owner.name.clone(), owner.is_tenant())).or_default()[side] = Some(id);
        }
    }
    by
}

/// A way on which a flow is allowed: gateway, destination as the source sees it, source as the destination sees it.
type Way = (Option<String>, IpAddr, Vec<IpAddr>);

fn ways(c: &Compiled, flow: &Flow) -> BTreeSet<Way> {
    let mut out = BTreeSet::new();
    for id in c.channels.ids().filter(|id| replay::goes_on(c, *id, flow)) {
        let decision = eval::decide_on_channel(c, id, flow);
        if !decision.allow {
            continue;
        }
        let channel = &c.channels[id];
        let seen = eval::packet_on_channel(c, id, flow).expect("a packet").dst;
        let own = vec![format_addr(flow.family, flow.src.address)];
        let source = match channel.kind {
            ChannelKind::Exposed(exposure) => {
                let shown = c.model.exposures[exposure].show(channel.src, flow.family, flow.src.address);
                vec![format_addr(flow.family, shown.expect("a client"))]
            }
            ChannelKind::ToExternal(gateway) => {
                let of = c.model.gateways[gateway].masquerades.iter();
                let of = of.filter(|m| m.tenant == channel.src && m.external == channel.dst);
                let all: Vec<IpAddr> = of.flat_map(|m| m.addresses.clone()).collect();
                let all: Vec<IpAddr> =
                    all.into_iter().filter(|a| a.is_ipv4() == (flow.family == Family::V4)).collect();
                if all.is_empty() { own } else { all }
            }
            ChannelKind::Intra | ChannelKind::Direct(_) => own,
        };
        let via = decision.via.map(|gateway| c.model.gateways[gateway].name.clone());
        out.insert((via, format_addr(flow.family, seen), source));
    }
    out
}

/// Compares the changes with every representative flow; what happened to them.
fn compare(old: &Compiled, new: &Compiled, what: &str) -> BTreeMap<ChangeKind, usize> {
    let changes = differ(old, new);
    for change in &changes {
        shown(old, new, change, what);
    }
    let services = representatives::services(&[old, new], &[]);
    let owners = owners(old, new);
    let mut seen = BTreeMap::new();
    for family in Family::BOTH {
        let addresses: BTreeMap<&(String, bool), Vec<u128>> = owners
            .iter()
            .map(|(name, ids)| {
                (name, representatives::addresses(&[(old, ids[0]), (new, ids[1])], family, &[]))
            })
            .collect();
        for (from, sources) in &addresses {
            for (to, destinations) in &addresses {
                let of = |change: &&Change| {
                    (&change.src.name, change.src.tenant) == (&from.0, from.1)
                        && (&change.dst.name, change.dst.tenant) == (&to.0, to.1)
                        && change.family == family
                };
                let of: Vec<&Change> = changes.iter().filter(of).collect();
                let linked = [old, new].iter().enumerate().any(|(side, c)| {
                    let ids = owners[*from][side].zip(owners[*to][side]);
                    ids.is_some_and(|(s, d)| c.channels.values().any(|ch| ch.src == s && ch.dst == d))
                });
                if !linked {
                    assert!(of.is_empty(), "{what}: {of:#?}");
                    continue;
                }
                for s in sources {
                    for d in destinations.iter().filter(|d| from != to || s != *d) {
                        for &(protocol, x, y) in services.iter().filter(|v| protocol_in_family(v.0, family)) {
                            let flow = |side: usize| {
                                let (src, dst) = owners[*from][side].zip(owners[*to][side])?;
                                let (src, dst) =
                                    (End { owner: src, address: *s }, End { owner: dst, address: *d });
                                Some(Flow { src, dst, family, protocol, x, y })
                            };
                            let before = flow(0).map(|f| ways(old, &f)).unwrap_or_default();
                            let after = flow(1).map(|f| ways(new, &f)).unwrap_or_default();
                            let expected = match (before.is_empty(), after.is_empty()) {
                                (true, true) => vec![],
                                (true, false) => vec![ChangeKind::Opened],
                                (false, true) => vec![ChangeKind::Closed],
                                (false, false) if before == after => vec![],
                                (false, false) => vec![ChangeKind::Rerouted],
                            };
                            let flow = flow(0).or_else(|| flow(1)).expect("an owner");
                            let told: Vec<ChangeKind> = of
                                .iter()
                                .flat_map(|change| change.rows.iter().map(move |row| (change.kind, row)))
                                .filter(|(_, row)| holds(row, &flow))
                                .map(|(kind, _)| kind)
                                .collect();
                            // Twice the same would be two boxes with one flow.
                            assert_eq!(
                                told, expected,
                                "{what}: {flow:?}\nbefore {before:?}\nafter {after:?}"
                            );
                            for kind in expected {
                                *seen.entry(kind).or_default() += 1;
                            }
                        }
                    }
                }
            }
        }
    }
    seen
}

/// The witness is a flow of the change, and `eval` says of its packets what the change says.
fn shown(old: &Compiled, new: &Compiled, change: &Change, what: &str) {
    assert!(change.rows.iter().any(|row| holds(row, &change.witness)), "{what}: {change:#?}");
    let allowed = |saying: &Saying| saying.decided().is_some_and(|r| r.decision.verdict == "allow");
    let expected = match change.kind {
        ChangeKind::Opened => (false, true),
        ChangeKind::Closed => (true, false),
        ChangeKind::Rerouted => (true, true),
    };
    assert_eq!((allowed(&change.old), allowed(&change.new)), expected, "{what}: {change:#?}");
    for (c, saying) in [(old, &change.old), (new, &change.new)] {
        let Some(reached) = saying.decided() else { continue };
        let packet = wire::Evaluator::new(c).packet(&reached.packet).expect("a packet");
        let decision = eval::decide(c, &packet).expect("a flow");
        let decision = wire::decision_line(c, packet.family, &decision);
        assert_eq!(decision, reached.decision, "{what}");
        assert_eq!(reached.ways.is_empty(), decision.verdict == "deny", "{what}: {change:#?}");
    }
}

#[test]
fn changes_are_exactly_what_differs() {
    let projects: u64 = std::env::var("PARTYWALL_PROJECTS").ok().map_or(40, |v| v.parse().expect("a number"));
    let found: Vec<BTreeMap<ChangeKind, usize>> = (0..projects)
        .into_par_iter()
        .filter_map(|seed| {
            let mut rng = Rng::new(seed ^ 0xd1ff);
            let text = generate::project(700_000 + seed);
            let old = meaningful(&text)?;
            let mut other = text.clone();
            for _ in 0..1 + rng.below(3) {
                other = edited(&other, &mut rng);
            }
            let new = meaningful(&other)?;
            let seen = compare(&old, &new, &format!("seed {seed}"));
            // There and back again.
            let back = |kind: ChangeKind| match kind {
                ChangeKind::Opened => ChangeKind::Closed,
                ChangeKind::Closed => ChangeKind::Opened,
                ChangeKind::Rerouted => ChangeKind::Rerouted,
            };
            let kinds = |changes: &[Change]| changes.iter().map(|c| c.kind).collect::<BTreeSet<_>>();
            let reverse: BTreeSet<ChangeKind> = kinds(&differ(&new, &old)).into_iter().map(back).collect();
            assert_eq!(kinds(&differ(&old, &new)), reverse, "seed {seed}");
            assert!(differ(&old, &old).is_empty() && differ(&new, &new).is_empty(), "seed {seed}");
            Some(seen)
        })
        .collect();
    let mut seen: BTreeMap<ChangeKind, usize> = BTreeMap::new();
    for (kind, count) in found.iter().flatten() {
        *seen.entry(*kind).or_default() += count;
    }
    eprintln!("{} pairs compared, flows that changed: {seen:?}", found.len());
    assert!(found.len() as u64 * 2 > projects, "most edits leave no project: {}", found.len());
    for kind in ChangeKind::ALL {
        assert!(seen.get(&kind).is_some_and(|count| *count > 10), "{kind:?}: {seen:?}");
    }
}

#[test]
fn what_is_too_wide_is_named() {
    let old = meaningful(&generate::project(3)).expect("a project");
    let new = meaningful(&generate::project(5)).expect("a project");
    assert!(matches!(diff(&old, &new, Work(3)), Err(NoAnswer::TooWide { .. })));
}

/// A list of rules in which each overlaps many; `edit` may change rule number `n`.
fn list(edit: impl Fn(usize, String) -> String) -> Compiled {
    let mut text = String::from(
        "fabric f { encap vxlan port 4789 underlay mtu 9000 family ipv4 precedence tenant delegate tenant }
tenant all id 1 { segment net vni 1 { 10.0.0.0/8 } }
policy list for all in tenant {\n",
    );
    for n in 0..3000 {
        let verb = if n % 3 == 0 { "deny" } else { "allow" };
        let (a, b) = (n * 7 % 250, n * 11 % 240);
        let rule = format!(
            "  {verb} net & 10.{a}.0.0/16 -> net & 10.{b}.{a}.0/24 : tcp/{}..{}",
            n % 900,
            n % 900 + 100
        );
        text.push_str(&edit(n, rule));
        text.push('\n');
    }
    text.push_str("}\n");
    meaningful(&text).expect("a project")
}

#[test]
fn a_small_edit_of_a_long_list_costs_little() {
    let old = list(|_, rule| rule);
    let edited = |n: usize, rule: String| match n {
        1000 => rule.replace("allow", "deny"),
        2000 => String::new(),
        _ => rule,
    };
    let new = list(edited);
    let most = Work(20_000);
    let changes = diff(&old, &new, most).expect("a difference");
    assert!(!changes.is_empty() && changes.iter().all(|c| c.kind == ChangeKind::Closed), "{changes:#?}");
    for change in &changes {
        shown(&old, &new, change, "long list");
    }
    // Everything else would cost more than that.
    let all = list(|n, rule| if n % 2 == 0 { rule.replace("allow", "deny") } else { rule });
    assert!(matches!(diff(&old, &all, most), Err(NoAnswer::TooWide { .. })));
    assert!(diff(&old, &old, Work(0)).expect("no difference").is_empty());
}

const TWO: &str = "fabric f { encap vxlan port 4789 underlay mtu 9000 family ipv4 precedence high > tenant > low delegate tenant }
node g1 { vtep 192.0.2.21 dev eth0 gateway }
gateway edge { joins a, b instances g1 stateful }
tenant a id 1 { segment net vni 1 { 10.1.0.0/24 } }
tenant b id 2 {
  segment net vni 2 { 10.2.0.0/24 }
  expose net : tcp to a via edge
}
policy no for a in tenant { deny a -> b : tcp/1..9 }
policy yes for a in tenant overrides no { allow a -> b : tcp/5..20 }
policy in-b for b in tenant { pass a -> b : tcp/7 }
policy rest in low { allow a -> b : tcp/7 deny any -> b : tcp/15 allow any -> any : udp }
";

/// Edits that change no rule.
#[test]
fn what_stands_around_rules_counts() {
    let old = meaningful(TWO).expect("a project");
    for (from, to, some) in [
        (" overrides no", "", true),
        ("policy yes for a in tenant overrides no", "policy yes in high", false),
        ("policy no for a in tenant", "policy no for a in tenant overrides yes", false),
        ("policy rest in low", "policy rest in high", true),
        ("delegate tenant", "delegate tenant, low", true),
        ("precedence high > tenant > low", "precedence high > tenant > later > low", false),
        ("precedence high > tenant > low", "precedence highest > tenant > low", false),
        ("tcp to a", "tcp/5 | tcp/6 to a", true),
        ("expose net :", "expose net & 10.2.0.0/25 :", true),
        ("expose net : tcp to a via edge", "ports: expose net : tcp/0..65535 to a via edge", false),
        ("10.1.0.0/24 }", "10.1.0.0/24, fd00:1::/64 }", true),
        ("tenant a id 1", "tenant a id 7", false),
        ("policy no for", "policy nope for", false),
    ] {
        let text = TWO.replace(from, to);
        assert_ne!(text, TWO, "{from}");
        // Renamed, it has to be overridden by its new name.
        let text =
            if from == "policy no for" { text.replace("overrides no", "overrides nope") } else { text };
        let Some(new) = meaningful(&text) else {
            assert!(from.contains("no for a in tenant"), "{to}");
            continue;
        };
        let seen = compare(&old, &new, to);
        assert_eq!(!seen.is_empty(), some, "{to}: {seen:?}");
        assert_eq!(!compare(&new, &old, to).is_empty(), some, "{to}");
    }
}
