//! The program runs in the kernel on packets of every pair of classes, without devices (BPF_PROG_TEST_RUN), and does with each what
//! `eval` says: verdict, reason, way, rewritten headers and checksums.
//!
//! Needs root; where the kernel does not load programs this says `SKIPPED` and why. `PARTYWALL_EBPF=PROJECTS[,SEED]`,
//! `PARTYWALL_EBPF_PACKETS=PACKETS[,SEED]` and `PARTYWALL_EBPF_FRAMES=FRAMES[,SEED]` set how much is run.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "a test that fails says where"
)]

#[path = "../../tests/differential/boundaries.rs"]
mod boundaries;
#[path = "ebpf/connections.rs"]
mod connections;
#[path = "ebpf/ends.rs"]
mod ends;
#[path = "ebpf/fragments.rs"]
mod fragments;
#[path = "injection/frames.rs"]
#[expect(dead_code, reason = "each test uses a part")]
mod frames;
#[path = "../../tests/differential/generate.rs"]
#[expect(dead_code, reason = "short projects are for enumeration")]
mod generate;
#[path = "ebpf/ground.rs"]
mod ground;
#[path = "ebpf/kernel.rs"]
mod kernel;
#[path = "ebpf/layout.rs"]
mod layout;
#[path = "ebpf/machine.rs"]
mod machine;
#[path = "ebpf/mutate.rs"]
mod mutate;
#[path = "ebpf/neighbours.rs"]
mod neighbours;
#[path = "ebpf/oracle.rs"]
mod oracle;
#[path = "../../backends/tests/p4/random.rs"]
mod random;
#[path = "ebpf/records.rs"]
mod records;
#[path = "../../tests/differential/stateless.rs"]
mod reference;
#[path = "ebpf/said.rs"]
mod said;
#[path = "../../backends/tests/common/seen.rs"]
mod seen;
#[path = "ebpf/short.rs"]
mod short;
#[path = "lab/support.rs"]
#[expect(dead_code, reason = "each test uses a part")]
mod support;
#[path = "ebpf/told.rs"]
mod told;
#[path = "ebpf/translation.rs"]
mod translation;

use backends::linux::Dialect;
use compiler::{SourceFile, compile};
use lang::ast::Date;
use lang::diag::Severity;
use lang::source::Sources;
use machine::Machine;
use partywall_node::ebpf::Loaded;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicI64, AtomicU64, AtomicUsize, Ordering};
use support::Project;

/// The MAC of endpoints that declare none, and of routers elsewhere.
const ANY_MAC: [u8; 6] = [0x02, 0, 0, 0, 0, 0x99];

/// A node of the small project.
fn ground(node: &str) -> Option<ground::Ground> {
    able().then(|| ground::Ground::new(node))
}

/// Runs these on one node, each without what the one before left.
fn each(node: &str, parts: &[fn(&ground::Ground)]) {
    let Some(g) = ground(node) else { return };
    for part in parts {
        part(&g);
        g.m.forget();
    }
}

/// Whether programs can be loaded here; else it says why not, and fails where that is required.
fn able() -> bool {
    let why = match Loaded::new() {
        Ok(_) => return true,
        Err(why) => why,
    };
    println!("SKIPPED: the kernel loads no programs here: {why}");
    assert!(std::env::var_os("PARTYWALL_LAB_REQUIRED").is_none(), "required, and: {why}");
    false
}

fn clean(text: &str) -> Option<Project> {
    let mut sources = Sources::new();
    let id = sources.add("main.pw", text);
    let parsed = lang::parse(id, text);
    let trees = [SourceFile { id, path: "main.pw", text, tree: &parsed.file }];
    let compilation = compile(&trees, Date { year: 2026, month: 11, day: 21 });
    let wrong =
        parsed.diagnostics.iter().chain(&compilation.diagnostics).any(|d| d.severity == Severity::Error);
    let p = Project { sources, compiled: compilation.compiled };
    let nodes = p.compiled.model.nodes.ids();
    let emitted = nodes
        .into_iter()
        .all(|n| backends::linux::lower(&p.compiled, &p.sources, Dialect::EBPF, n, &[]).is_ok());
    (!wrong && emitted).then_some(p)
}

/// Every pair of ends on every node of a project; returns how many packets ran.
fn spread(project: &Project, name: &str) -> u64 {
    let nodes: Vec<_> = project.compiled.model.nodes.ids().collect();
    let next = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        let worker = || {
            let mut machine = Machine::new();
            let mut ran = 0;
            while let Some(node) = nodes.get(next.fetch_add(1, Ordering::Relaxed)) {
                ran += oracle::node(&mut machine, project, *node, name);
            }
            ran
        };
        let workers: Vec<_> = (0..WORKERS).map(|_| scope.spawn(worker)).collect();
        workers.into_iter().map(|w| w.join().unwrap()).sum()
    })
}

/// The same, one node after the other.
fn compare(machine: &mut Machine, project: &Project, name: &str) -> u64 {
    let nodes = project.compiled.model.nodes.ids();
    nodes.into_iter().map(|node| oracle::node(machine, project, node, name)).sum()
}

/// So many random projects, each given to one of a few machines at a time: most of the time goes into waiting for the kernel to give
/// up an older generation. Returns the sum of what `each` says.
fn projects(count: u64, first: u64, each: impl Fn(&mut Machine, &Project, u64) -> u64 + Sync) -> u64 {
    let (next, left) = (AtomicU64::new(first), AtomicI64::new(i64::try_from(count).unwrap()));
    std::thread::scope(|scope| {
        let worker = || {
            let mut machine = Machine::new();
            let mut ran = 0;
            while left.fetch_sub(1, Ordering::Relaxed) > 0 {
                let (seed, project) = loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if let Some(project) = clean(&generate::project(seed)) {
                        break (seed, project);
                    }
                };
                ran += each(&mut machine, &project, seed);
            }
            ran
        };
        let workers: Vec<_> = (0..WORKERS).map(|_| scope.spawn(worker)).collect();
        workers.into_iter().map(|w| w.join().unwrap()).sum()
    })
}

const WORKERS: usize = 4;

/// Two numbers of an environment variable, for how much a test does and from which seed on.
fn extent(variable: &str, default: (u64, u64)) -> (u64, u64) {
    let Ok(text) = std::env::var(variable) else { return default };
    let mut parts = text.split(',').map(|part| part.parse::<u64>().unwrap());
    (parts.next().unwrap(), parts.next().unwrap_or(default.1))
}

/// `scripts/test` runs this by name, for what it prints.
#[test]
fn the_verifier_accepts_every_entry() {
    if !able() {
        return;
    }
    let all = kernel::verified();
    assert_eq!(all.len(), 4);
    for v in all {
        let chain = v.chain.iter().map(u64::to_string).collect::<Vec<_>>().join(" + ");
        println!(
            "{}: {} instructions, {} walked by the verifier (of {}), {} bytes of stack (of {}) in the deepest calls, {chain}",
            v.program,
            v.length,
            v.walked,
            kernel::MOST_WALKED,
            v.stack,
            kernel::MOST_STACK,
        );
        assert!(v.walked < kernel::MOST_WALKED && v.stack <= kernel::MOST_STACK, "{v:?}");
    }
}

#[test]
fn the_manual_says_which_kernel_has_what_is_used() {
    if !able() {
        return;
    }
    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/dataplane-ebpf.md");
    let text = std::fs::read_to_string(&docs).unwrap();
    let (table, (major, minor)) = kernel::table();
    let table = format!("All of it is in Linux {major}.{minor}.\n\n{table}");
    let (begin, end) = ("<!-- ebpf kernel -->\n", "<!-- end of ebpf kernel -->");
    let (before, rest) = text.split_once(begin).unwrap();
    let (written, after) = rest.split_once(end).unwrap();
    if std::env::var_os("BLESS").is_some() {
        std::fs::write(&docs, format!("{before}{begin}{table}{end}{after}")).unwrap();
        return;
    }
    assert_eq!(written, table, "BLESS=1 writes it anew");
}

#[test]
fn structures_have_the_sizes_of_the_object() {
    if !able() {
        return;
    }
    let (programs, _) = Loaded::new().unwrap().parts();
    for program in ["pw_workload", "pw_fabric", "pw_outside", "pw_underlay"] {
        assert!(programs.iter().any(|p| p == program), "{programs:?}");
    }
}

#[test]
fn the_datacenter_is_decided_as_eval_says() {
    if !able() {
        return;
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/02-datacenter");
    let project = support::project(&support::read(&root));
    let ran = spread(&project, "02-datacenter");
    println!("{ran} packets");
    assert!(ran > 50_000, "only {ran} packets");
}

#[test]
fn random_projects_are_decided_as_eval_says() {
    if !able() {
        return;
    }
    let (count, first) = extent("PARTYWALL_EBPF", (5, 17));
    let ran =
        projects(count, first, |machine, project, seed| compare(machine, project, &format!("seed {seed}")));
    println!("{count} projects, {ran} packets");
    assert!(ran > count * 100, "only {ran} packets");
}

#[test]
fn random_packets_are_decided_as_eval_says() {
    if !able() {
        return;
    }
    let (packets, first) = extent("PARTYWALL_EBPF_PACKETS", (20_000, 400));
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/02-datacenter");
    let datacenter = support::project(&support::read(&root));
    let shower = |machine: &mut Machine, project: &Project, name: &str, seed: u64, count: u64| {
        let mut rng = generate::Rng::new(seed);
        let nodes: Vec<_> = project.compiled.model.nodes.ids().collect();
        let each = count.div_ceil(nodes.len() as u64);
        nodes.iter().map(|node| oracle::random(machine, project, *node, name, &mut rng, each)).sum::<u64>()
    };
    let mut ran = shower(&mut Machine::new(), &datacenter, "02-datacenter", first, packets / 4);
    // At most 20,000 packets of each project.
    let count = packets.div_ceil(20_000).max(4);
    ran += projects(count, first, |machine, project, seed| {
        shower(machine, project, &format!("seed {seed}"), seed, packets.div_ceil(count) * 5 / 4)
    });
    println!("{ran} packets");
    assert!(ran >= packets, "only {ran} packets");
}

#[test]
fn damaged_frames_are_classified_or_dropped() {
    if !able() {
        return;
    }
    let (frames, first) = extent("PARTYWALL_EBPF_FRAMES", (40_000, 900));
    // At most 100,000 frames of each project.
    let count = frames.div_ceil(100_000).max(4);
    let each = frames.div_ceil(count);
    let tally = Mutex::new(mutate::Tally::default());
    let ran = projects(count, first, |machine, project, seed| {
        let found = mutate::shower(machine, project, &format!("seed {seed}"), seed, each);
        tally.lock().unwrap().add(&found);
        found.ran()
    });
    let tally = tally.into_inner().unwrap();
    println!("{ran} frames: {tally:?}");
    assert!(ran >= frames, "only {ran} frames");
    // Some of each kind, or nothing was shown.
    assert!(
        tally.sent * 100 > frames && tally.unclassifiable * 10 > frames && tally.underlay * 30 > frames,
        "{tally:?}"
    );
}
