//! Packets at class boundaries, injected into a lab from every side, right and wrong ones: each comes out where `eval` says, or
//! nowhere, and every drop is counted under the reason that `eval` gives.
//!
//! `PARTYWALL_INJECT=PROJECTS,PACKETS` sets how many random projects there are and how many packets all projects get
//! together; `PROJECTS,PACKETS,SEED` begins with the random project of a seed and leaves the example out. Where the machine lacks what a lab needs this says `SKIPPED` and what is missing.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "a test that fails says where"
)]

#[path = "../../tests/differential/boundaries.rs"]
mod boundaries;
#[path = "injection/cases.rs"]
mod cases;
#[path = "injection/frames.rs"]
#[expect(dead_code, reason = "each test uses a part")]
mod frames;
#[path = "../../tests/differential/generate.rs"]
#[expect(dead_code, reason = "short projects are for enumeration")]
mod generate;
#[path = "lab/support.rs"]
#[expect(dead_code, reason = "each test uses a part")]
mod support;
#[path = "injection/wire.rs"]
mod wire;

use cases::{Case, Cases, Expect};
use compiler::algebra::parse_addr;
use compiler::eval::{self, Resolution};
use compiler::packet::Packet;
use compiler::{Compiled, SourceFile, compile};
use lang::ast::Date;
use lang::diag::Severity;
use lang::source::Sources;
use partywall_node::lab;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use support::{Fleet, Project, able, options};
use wire::{Arrivals, Place, Wires};

/// Random projects and packets where the environment does not say.
const USUAL: (usize, usize, Option<u64>) = (200, 200_000, None);
/// Random projects at a time: a lab waits for the kernel as often as it works.
const ABREAST: usize = 3;
/// Packets between two looks at the counters.
const ROUND: usize = 2_000;
/// How long a round may take to settle.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long nothing may move before a round is over that has all it waits for.
const SETTLE: Duration = Duration::from_millis(40);

fn amount() -> (usize, usize, Option<u64>) {
    let Ok(text) = std::env::var("PARTYWALL_INJECT") else { return USUAL };
    let mut parts = text.split(',').map(|part| part.parse::<u64>().unwrap());
    let mut next = || usize::try_from(parts.next().unwrap()).unwrap();
    let (projects, packets) = (next(), next());
    (projects, packets, parts.next())
}

/// What is special about a random project.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Construct {
    Usual,
    /// Connections between tenants go by their ports to one of several instances.
    AffinityFlow,
    /// A part of an external is shown to tenants under other addresses, by a gateway of one instance.
    ShownExternal,
}

impl Construct {
    fn of(seed: u64) -> Self {
        [Self::Usual, Self::AffinityFlow, Self::Usual, Self::ShownExternal]
            [usize::try_from(seed % 4).unwrap()]
    }
}

/// A second node with endpoints and a second gateway instance, so that something crosses the underlay; and a construct.
fn spread(text: &str, construct: Construct) -> String {
    let several = construct != Construct::ShownExternal;
    let flow = construct == Construct::AffinityFlow;
    let (mut core, mut shown) = (false, 0);
    let mut out = String::new();
    for line in text.lines() {
        core = core && !line.starts_with('}') || line.starts_with("gateway core");
        let line =
            if several || core { line.replace("instances g1", "instances g1, g2") } else { line.to_owned() };
        let line = if line.contains("node g1 {") {
            format!(
                "{line}\nnode c2 {{ vtep 192.0.2.12 dev eth0 }}\nnode g2 {{ vtep 192.0.2.22 dev eth0 gateway }}"
            )
        } else if line.contains("attach") && several {
            format!("{line}\n{}", line.replace(" on g1 ", " on g2 "))
        } else if let Some((clause, _)) = line.split_once(", 2001:db8:1::").filter(|_| several) {
            let n = line.rsplit("::").next().unwrap();
            let first = clause.rsplit('.').next().unwrap();
            format!("{clause}, 198.51.100.10{first}, 2001:db8:1::{n}, 2001:db8:2::{n}")
        } else if line.contains("masquerade") && several {
            format!("{line}, 198.51.101.10{}", line.rsplit('.').next().unwrap())
        } else if line.contains("db-1 in") {
            line.replace("on c1", "on c2")
        } else if line.trim() == "to internet" && !several {
            shown += 1;
            format!("    to internet & 198.18.{shown}.0/24 clients as 100.80.{shown}.0/24")
        } else if line.trim() == "stateful" && core && flow {
            format!("{line}\n  affinity flow")
        } else {
            line
        };
        out.push_str(&line);
        out.push('\n');
    }
    // What needs no external's gateway goes by the other.
    if flow { by_core(&out) } else { out }
}

/// Exposures to tenants alone, through the gateway without externals.
fn by_core(text: &str) -> String {
    let mut parts = text.split("\n  expose ");
    let mut out = parts.next().unwrap().to_owned();
    for part in parts {
        let (exposure, rest) = part.split_once("\n  }").unwrap();
        let exposure = if exposure.contains("internet") {
            exposure.to_owned()
        } else {
            exposure.replace(" via edge ", " via core ")
        };
        out.push_str(&format!("\n  expose {exposure}\n  }}{rest}"));
    }
    out
}

/// The project of a text, unless it is in error or beyond what the targets can say, or has not what it is to have.
fn clean(text: &str, construct: Construct) -> Option<Project> {
    let mut sources = Sources::new();
    let id = sources.add("main.pw", text);
    let parsed = lang::parse(id, text);
    let trees = [SourceFile { id, path: "main.pw", text, tree: &parsed.file }];
    let compilation = compile(&trees, Date { year: 2026, month: 11, day: 21 });
    let wrong =
        parsed.diagnostics.iter().chain(&compilation.diagnostics).any(|d| d.severity == Severity::Error);
    let has = match construct {
        Construct::Usual => true,
        Construct::AffinityFlow => text.contains("via core as"),
        Construct::ShownExternal => text.contains("to internet & "),
    };
    let p = Project { sources, compiled: compilation.compiled };
    let request = Fleet::wanted().request(&[]);
    (has && !wrong && backends::build(&p.compiled, &p.sources, &request).is_ok()).then_some(p)
}

/// Whether the addresses with which a packet came out mean its ends there.
fn means(c: &Compiled, case: &Case, at: Place, (src, dst): (IpAddr, IpAddr), lab: &lab::Lab) -> bool {
    let Expect::Arrive { ends: (from, to), .. } = &case.expect else { return false };
    let (family, source) = parse_addr(src);
    let target = parse_addr(dst).1;
    if let Place::Link(x, l) = at {
        let place = &lab.topology.externals[x];
        let masked = c
            .model
            .gateways
            .values()
            .any(|g| g.masquerades.iter().any(|m| m.tenant == from.owner && m.external == place.owner));
        let own = place.masquerades.iter().any(|(a, link)| *a == src && *link == l);
        return target == to.address
            && if masked { own || source == from.address } else { source == from.address };
    }
    let p = Packet { space: to.owner, family, src: source, dst: target, ..case.packet };
    matches!(eval::resolve(c, &p), Ok(Resolution::Flow { flow, .. }) if (flow.src, flow.dst) == (*from, *to))
}

/// Sends a round and says what went otherwise than expected.
fn round(
    c: &Compiled,
    lab: &lab::Lab,
    wires: &Wires,
    cases: &[&Case],
    seen: &Mutex<Arrivals>,
) -> Vec<String> {
    let mut complaints = Vec::new();
    let before = wires.drops();
    // By the number that the frames bear.
    let mut of: BTreeMap<u32, &Case> = BTreeMap::new();
    for case in cases {
        of.insert(case.id, case);
        for frame in &case.frames {
            wires.send(case.from, frame);
        }
    }
    let wanted = |e: &Expect| matches!(e, Expect::Arrive { .. });
    let due: Vec<u32> = of.iter().filter(|(_, c)| wanted(&c.expect)).map(|(id, _)| *id).collect();
    // (node, reason) → packets; the reason is empty where it may be any.
    let mut drops: BTreeMap<(usize, &str), u64> = BTreeMap::new();
    for case in cases {
        let (node, reason) = match &case.expect {
            Expect::Drop { node, reason } => (node, *reason),
            Expect::Refused { node } => (node, ""),
            Expect::Arrive { .. } | Expect::Silent => continue,
        };
        let at = lab.topology.nodes.iter().position(|n| n.node == *node).unwrap();
        *drops.entry((at, reason)).or_default() += 1;
    }
    let silent = u64::try_from(cases.iter().filter(|c| c.expect == Expect::Silent).count()).unwrap();
    let until = Instant::now() + PATIENCE;
    let mut after;
    loop {
        std::thread::sleep(SETTLE);
        after = wires.drops();
        let moved = |at: usize| -> u64 { after[at].values().sum::<u64>() - before[at].values().sum::<u64>() };
        let counted = (0..after.len())
            .all(|at| moved(at) >= drops.iter().filter(|((n, _), _)| *n == at).map(|(_, n)| n).sum::<u64>());
        let arrived = {
            let seen = seen.lock().unwrap();
            due.iter().all(|id| seen.packets.contains_key(id))
        };
        if counted && arrived || Instant::now() > until {
            break;
        }
    }
    std::thread::sleep(SETTLE);
    let arrivals = std::mem::take(&mut *seen.lock().unwrap());
    for (id, case) in &of {
        let at = arrivals.packets.get(id).map(Vec::as_slice).unwrap_or_default();
        let right = match &case.expect {
            Expect::Arrive { at: there, .. } => {
                !at.is_empty()
                    && at
                        .iter()
                        .all(|(place, src, dst)| place == there && means(c, case, *place, (*src, *dst), lab))
            }
            _ => at.is_empty(),
        };
        if !right {
            let owner = &c.model.owners[case.packet.space].name;
            complaints.push(format!(
                "{} {id} from {:?} in {owner}: {:?} came out at {at:?}, not {:?}",
                case.what, case.from, case.packet, case.expect
            ));
        }
    }
    complaints
        .extend(arrivals.strays.iter().map(|(place, bytes)| format!("a stray at {place:?}: {bytes:02x?}")));
    for (at, (before, after)) in before.iter().zip(&after).enumerate() {
        let name = &c.model.nodes[lab.topology.nodes[at].node].name;
        let any = drops.get(&(at, "")).copied().unwrap_or(0);
        let mut more = 0;
        for (reason, count) in after {
            let moved = count - before.get(reason).copied().unwrap_or(0);
            let due = drops.get(&(at, reason.as_str())).copied().unwrap_or(0);
            // What hosts and kernels send on their own is counted there.
            if reason == "to-host" && moved >= due {
                continue;
            }
            if moved < due {
                complaints.push(format!("node {name} counted {moved} as {reason}, not {due}"));
            } else {
                more += moved - due;
            }
        }
        // What comes out nowhere may or may not be counted.
        if more < any || more > any + silent {
            complaints
                .push(format!("node {name} counted {more} more drops, not {any}: {before:?} {after:?}"));
        }
    }
    complaints
}

/// Ends the watch.
struct Stop<'a>(&'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Release);
    }
}

/// What is to be looked at together. What is dropped for a known reason and what comes out must be counted to the packet;
/// what a node refuses for any reason, and what may vanish uncounted, would blur that.
fn group(case: &Case) -> &'static str {
    match &case.expect {
        Expect::Arrive { .. } | Expect::Drop { .. } => "known",
        Expect::Refused { .. } => "refused",
        Expect::Silent => "nowhere",
    }
}

/// One kind of packet, so that a wrong count says where to look.
fn kind(case: &Case) -> String {
    match &case.expect {
        Expect::Arrive { .. } => "arrives".to_owned(),
        Expect::Drop { reason, .. } => (*reason).to_owned(),
        Expect::Refused { .. } => format!("refused, {}", case.what),
        Expect::Silent => format!("nowhere, {}", case.what),
    }
}

fn by<'a, K: Ord>(cases: &[&'a Case], key: impl Fn(&Case) -> K) -> BTreeMap<K, Vec<&'a Case>> {
    let mut out: BTreeMap<K, Vec<&Case>> = BTreeMap::new();
    for case in cases {
        out.entry(key(case)).or_default().push(case);
    }
    out
}

/// Injects into a project's lab; how many packets, of which kinds.
fn inject(name: &str, p: &Project, packets: usize, seed: u64) -> BTreeMap<String, usize> {
    let c = &p.compiled;
    let options = options(name);
    let artifacts = tempfile::tempdir().unwrap();
    support::build(p, artifacts.path());
    let lab = lab::up(c, artifacts.path(), &options).unwrap();
    let wires = Wires::open(&lab, &[]);
    wire::quiet(&lab, &wires);
    let all = Cases::new(c, &lab, &wires, seed).make(packets);
    let all: Vec<&Case> = all.iter().collect();
    let (seen, stop) = (Mutex::new(Arrivals::default()), AtomicBool::new(false));
    let complaints: Vec<String> = std::thread::scope(|scope| {
        scope.spawn(|| wires.watch(&seen, &stop));
        // Also when a round panics: nobody would end the watch.
        let _stopped = Stop(&stop);
        let mut complaints = Vec::new();
        for cases in by(&all, group).values() {
            for part in cases.chunks(ROUND) {
                let wrong = round(c, &lab, &wires, part, &seen);
                if wrong.is_empty() {
                    continue;
                }
                complaints.extend(wrong);
                // Once more, a kind at a time.
                for (kind, cases) in by(part, kind) {
                    let wrong = round(c, &lab, &wires, &cases, &seen);
                    complaints.extend(wrong.into_iter().map(|w| format!("[{kind}] {w}")));
                }
            }
        }
        complaints
    });
    lab::down(&options).unwrap();
    let total = complaints.len();
    let shown: Vec<String> = complaints.into_iter().take(40).collect();
    assert!(shown.is_empty(), "{name}, seed {seed}: {total}:\n{}", shown.join("\n"));
    by(&all, kind).into_iter().map(|(kind, cases)| (kind, cases.len())).collect()
}

#[test]
fn datacenter_and_random_projects_do_with_every_packet_as_eval_says() {
    let files = support::read(format!("{}/../examples/02-datacenter", env!("CARGO_MANIFEST_DIR")).as_ref());
    let datacenter = support::project(&files);
    if !able(&datacenter.compiled, "injection") {
        return;
    }
    let (projects, packets, first) = amount();
    let total: Mutex<BTreeMap<String, usize>> = Mutex::default();
    let add = |counts: BTreeMap<String, usize>| {
        let mut total = total.lock().unwrap();
        for (kind, n) in counts {
            *total.entry(kind).or_default() += n;
        }
    };
    let begun = Instant::now();
    let each = if first.is_some() { packets / projects } else { packets / (projects + 2) };
    // Seeds in order, whoever takes them.
    let seeds = Mutex::new((first.unwrap_or(0), projects));
    let next = || {
        let mut seeds = seeds.lock().unwrap();
        seeds.1 = seeds.1.checked_sub(1)?;
        (seeds.0..).find_map(|seed| {
            seeds.0 = seed + 1;
            let construct = Construct::of(seed);
            Some((seed, construct, clean(&spread(&generate::project(seed), construct), construct)?))
        })
    };
    let failed: Mutex<Vec<String>> = Mutex::default();
    let constructs: Mutex<BTreeMap<Construct, usize>> = Mutex::default();
    std::thread::scope(|scope| {
        for _ in 0..ABREAST {
            scope.spawn(|| {
                while let Some((seed, construct, p)) = next() {
                    *constructs.lock().unwrap().entry(construct).or_default() += 1;
                    let one = || inject(&format!("injection random {seed}"), &p, each, seed);
                    match std::panic::catch_unwind(std::panic::AssertUnwindSafe(one)) {
                        Ok(counts) => add(counts),
                        Err(panic) => {
                            let said = panic.downcast_ref::<String>().cloned().unwrap_or_default();
                            failed.lock().unwrap().push(format!("seed {seed}: {said}"));
                        }
                    }
                }
            });
        }
        if first.is_none() {
            add(inject("injection 02-datacenter", &datacenter, packets - projects * each, 1));
        }
    });
    let failed = failed.into_inner().unwrap();
    assert!(failed.is_empty(), "{} of {projects} projects:\n{}", failed.len(), failed.join("\n"));
    let total = total.into_inner().unwrap();
    let of = |kind: &str| total.iter().filter(|(k, _)| k.starts_with(kind)).map(|(_, n)| n).sum::<usize>();
    println!("{:?}", constructs.into_inner().unwrap());
    println!("{projects} random projects, {} packets in {:?}: {total:?}", of(""), begun.elapsed());
    for kind in
        ["arrives", "bad-vtep", "unknown-vni", "spoof", "invalid", "no-route", "rule", "default", "to-host"]
    {
        assert!(of(kind) > 0, "nothing was to meet {kind}");
    }
    assert!(of("") * 10 >= packets * 8, "only {} of {packets} packets", of(""));
}
