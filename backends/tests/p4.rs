//! The emitted program, run with the entries as they are read back from the emitted files, forwards what the reference
//! evaluator allows, byte for byte, and nothing else.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stdout,
    clippy::cast_possible_truncation,
    reason = "a test"
)]

#[path = "p4/bench.rs"]
mod bench;
#[path = "p4/bmv2.rs"]
mod bmv2_run;
#[path = "p4/classbench.rs"]
mod classbench;
mod common;
#[path = "p4/edges.rs"]
mod edges;
#[path = "p4/expect.rs"]
mod expect;
#[path = "p4/forms.rs"]
mod forms;
#[path = "p4/frame.rs"]
mod frame;
#[path = "p4/official.rs"]
mod official;
#[path = "p4/pcap.rs"]
mod pcap;
#[path = "p4/random.rs"]
mod random;
#[path = "p4/rows.rs"]
mod rows;
#[path = "common/seen.rs"]
mod seen;
#[path = "p4/switch.rs"]
mod switch;

use bench::{Trial, node, trial};
use bmv2_run::By;
use common::{Project, examples, text};
use compiler::ids::NodeId;
use partywall_backends::Backend as _;
use partywall_backends::p4::{Model, P4};
use rayon::iter::{IntoParallelIterator as _, ParallelIterator as _};
use std::ops::Range;

fn lower(project: &Project, id: NodeId) -> Model {
    P4.lower(&project.compiled, &project.sources, id, &[]).unwrap_or_else(|e| panic!("{e:#?}"))
}

/// An example whose fabric says what a stateless target needs to hear.
fn example(name: &str) -> Project {
    let root = examples().join(name);
    let mut files = common::files(&root);
    for (_, text) in &mut files {
        *text = text
            .replace("  unknown-vni drop log\n", "  unknown-vni drop log\n  stateless-replies \"a test\"\n");
    }
    common::project(&files)
}

#[test]
fn datacenter_forwards_as_the_evaluator_allows() {
    let project = example("02-datacenter");
    let nodes: Vec<NodeId> =
        project.compiled.model.nodes.iter().filter(|(_, n)| !n.gateway).map(|(id, _)| id).collect();
    let found = nodes.into_par_iter().map(|id| {
        let model = lower(&project, id);
        let (forwarded, refused) = node(&project, id, &model);
        let (name, entries) = (&model.node, model.entries.by_key.len());
        println!("{name}: {entries} entries, {forwarded} forwarded, {refused} refused, {:?}", model.saved);
        (forwarded, refused)
    });
    let total = found.reduce(|| (0, 0), |a, b| (a.0 + b.0, a.1 + b.1));
    assert!(total.0 > 5_000 && total.1 > 50_000, "{total:?}");
}

/// One node with endpoints and one stateless gateway node: inside a tenant, and between tenants with equal addresses.
const SLICE: &str = r#"
fabric f { encap vxlan port 4789 underlay mtu 9000 family ipv4 precedence tenant delegate tenant unknown-vni drop stateless-replies "a test" }
node c1 { vtep 192.0.2.11 dev eth0 }
node c2 { vtep 192.0.2.12 dev eth0 }
node g1 { vtep 192.0.2.21 dev eth0 gateway }
node g2 { vtep 192.0.2.22 dev eth0 gateway }
node g3 { vtep 192.0.2.23 dev eth0 gateway }
node g4 { vtep 192.0.2.24 dev eth0 gateway }
external net { 0.0.0.0/0, ::/0 }
tenant a id 7 {
  segment s vni 10 { 10.0.0.0/24, fd00:a::/64 }
  segment t vni 11 { 10.0.1.0/24 }
  route 0.0.0.0/0 via e
  route ::/0 via e
}
tenant b id 8 {
  segment s vni 20 { 10.0.0.0/24, fd00:b::/64 }
  expose s : tcp/80..90 | udp/53 | icmp/echo-request | icmp6/echo-request to a via g as 100.64.0.0/24, fd00:64::/64 clients as 100.65.0.0/23, fd00:65::/64
}
gateway g { joins a, b instances g1, g2 stateless }
gateway e {
  joins a, net
  instances g3, g4
  stateful
  attach net on g3 dev ext0 next-hop 203.0.113.1, 2001:db8::1
  attach net on g4 dev ext0 next-hop 203.0.113.1, 2001:db8::1
}
endpoint a5 in a.s { at 10.0.0.5, fd00:a::5 mac 02:00:00:00:00:05 on c1 dev tap0 }
endpoint a6 in a.s { at 10.0.0.6, fd00:a::6 mac 02:00:00:00:00:06 on c2 dev tap0 }
endpoint a7 in a.t { at 10.0.1.7 mac 02:00:00:00:00:07 on c1 dev tap1 }
endpoint b5 in b.s { at 10.0.0.5, fd00:b::5 mac 02:00:00:00:01:05 on c1 dev tap2 }
endpoint b6 in b.s { at 10.0.0.6, fd00:b::6 mac 02:00:00:00:01:06 on c2 dev tap3 }
policy pa for a in tenant { allow a -> net & (8.0.0.0/7 | 2001:db8::/32) : udp/53 | tcp/443  allow s -> t : tcp/443 | udp  deny s & 10.0.0.6 -> b : tcp/85  allow a -> b  steered: allow t -> s : sctp via g }
policy pb for b in tenant { deny a -> s & 10.0.0.6 : udp  allow s -> s : ip }
"#;

fn slice_forwards(source: &str) {
    let project = text(source);
    // The instances of the stateful gateway are another target's.
    let others = ["g3", "g4"];
    for (id, n) in project.compiled.model.nodes.iter().filter(|(_, n)| !others.contains(&n.name.as_str())) {
        let model = lower(&project, id);
        let (forwarded, refused) = node(&project, id, &model);
        let entries = model.entries.by_key.len();
        println!("{}: {entries} entries, {forwarded} forwarded, {refused} refused", n.name);
        assert!(forwarded > 100 && refused > 100);
    }
}

#[test]
fn the_slice_forwards_as_the_evaluator_allows() {
    slice_forwards(SLICE);
}

#[test]
fn the_slice_forwards_over_an_ipv6_underlay() {
    slice_forwards(&SLICE.replace("family ipv4", "family ipv6").replace("vtep 192.0.2.", "vtep fd99::"));
}

#[test]
fn random_projects_forward_as_the_evaluator_allows() {
    // More on demand: the whole campaign takes minutes.
    let seeds: u64 = std::env::var("PARTYWALL_P4_PROJECTS").ok().and_then(|n| n.parse().ok()).unwrap_or(24);
    let found = (0..seeds).into_par_iter().map(|seed| {
        let source = ("main.pw".to_owned(), random::project(seed));
        let Ok(project) = common::attempt(&[source]) else { return (0, 0, 0) };
        let mut total = (1, 0, 0);
        for (id, _) in project.compiled.model.nodes.iter() {
            match P4.lower(&project.compiled, &project.sources, id, &[]) {
                Ok(model) => {
                    let (forwarded, refused) = node(&project, id, &model);
                    total = (1, total.1 + forwarded, total.2 + refused);
                }
                Err(found) => {
                    assert!(found.iter().all(|d| d.code.as_str() == "PW0801"), "seed {seed}: {found:#?}");
                }
            }
        }
        total
    });
    let (projects, forwarded, refused) = found.reduce(|| (0, 0, 0), |a, b| (a.0 + b.0, a.1 + b.1, a.2 + b.2));
    println!("{projects} projects, {forwarded} forwarded, {refused} refused");
    assert!(projects * 2 >= seeds && forwarded > 2_000 && refused > 10_000);
}

/// What goes through a real switch: `PARTYWALL_P4_SWITCH`.
#[derive(Clone, PartialEq, Eq)]
enum Asked {
    /// Not set: all frames that are forwarded and some of the others, of a few projects.
    Little,
    /// `all`: every frame of the examples.
    All,
    /// `20`, `20..100`: every frame of the random projects with these seeds.
    Seeds(Range<u64>),
}

fn asked() -> Asked {
    let Ok(said) = std::env::var("PARTYWALL_P4_SWITCH") else { return Asked::Little };
    let (from, to) = said.split_once("..").unwrap_or(("0", &said));
    match (from.parse(), to.parse()) {
        _ if said == "all" => Asked::All,
        (Ok(from), Ok(to)) if from < to => Asked::Seeds(from..to),
        _ => panic!("PARTYWALL_P4_SWITCH={said}: `all`, a number or numbers like 20..100"),
    }
}

/// Whether there is a real switch; loud where there is not.
fn switch_is_here() -> bool {
    let missing = bmv2_run::missing();
    if let Some(missing) = missing {
        eprintln!("SKIPPED: {missing} is not on PATH, so no packet went through BMv2");
    }
    missing.is_none()
}

/// A node's frames: all that are forwarded, and of the others one in `refused`.
fn frames(project: &Project, id: NodeId, model: &Model, refused: usize) -> Vec<Trial> {
    let mut seen = 0usize;
    let mut kept = trial(project, id, model);
    kept.retain(|t| {
        seen += usize::from(t.sent.is_none());
        t.sent.is_some() || seen.is_multiple_of(refused)
    });
    kept
}

/// The same packets through the real compiler and the real switch, where they are installed.
fn real_switch(project: &Project, names: &[&str], refused: usize, ways: &[By]) {
    if !switch_is_here() {
        return;
    }
    let each = if asked() == Asked::All { 1 } else { refused };
    for (id, n) in project.compiled.model.nodes.iter().filter(|(_, n)| names.contains(&n.name.as_str())) {
        let model = lower(project, id);
        let kept = frames(project, id, &model, each);
        assert!(!kept.is_empty(), "{}", n.name);
        for by in ways {
            bmv2_run::compare(&model, &kept, *by);
        }
    }
}

#[test]
fn a_real_switch_forwards_the_slice_by_files_and_by_devices() {
    real_switch(&text(SLICE), &["c1", "g1"], 7, &[By::Files, By::Devices]);
}

#[test]
fn a_real_switch_forwards_the_datacenter() {
    real_switch(&example("02-datacenter"), &["c1", "c2", "c3", "c4", "c5"], 97, &[By::Files]);
}

#[test]
fn a_real_switch_forwards_random_projects() {
    if !switch_is_here() {
        return;
    }
    let (seeds, refused) = match asked() {
        Asked::Seeds(seeds) => (seeds, 1),
        Asked::Little | Asked::All => (0..4, 29),
    };
    let found = seeds.into_par_iter().map(|seed| {
        let source = ("main.pw".to_owned(), random::project(seed));
        let Ok(project) = common::attempt(&[source]) else { return (0, 0, 0, 0) };
        let mut total = (1, 0, 0, 0);
        for (id, n) in project.compiled.model.nodes.iter() {
            // What this target cannot express is no matter of the switch's.
            let Ok(model) = P4.lower(&project.compiled, &project.sources, id, &[]) else { continue };
            println!("seed {seed}, {}", n.name);
            let done = bmv2_run::compare(&model, &frames(&project, id, &model, refused), By::Files);
            total = (1, total.1 + 1, total.2 + done.forwarded, total.3 + done.refused);
        }
        total
    });
    let total = found.reduce(|| (0, 0, 0, 0), |a, b| (a.0 + b.0, a.1 + b.1, a.2 + b.2, a.3 + b.3));
    let (projects, nodes, forwarded, refused) = total;
    println!(
        "{projects} projects, {nodes} nodes: the switch forwarded {forwarded} frames and refused {refused}, no difference"
    );
    assert!(nodes > projects && forwarded > 0 && refused > 0);
}
