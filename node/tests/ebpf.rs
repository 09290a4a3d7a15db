//! The program runs in the kernel on packets of every pair of classes, without devices (BPF_PROG_TEST_RUN), and does with each what
//! `eval` says: verdict, reason, way, rewritten headers and checksums.
//!
//! Needs root; where the kernel does not load programs this says `SKIPPED` and why. `PARTYWALL_EBPF=PROJECTS[,SEED]` sets how many
//! random projects there are.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "a test that fails says where"
)]

#[path = "injection/frames.rs"]
#[expect(dead_code, reason = "each test uses a part")]
mod frames;
#[path = "../../tests/differential/generate.rs"]
#[expect(dead_code, reason = "short projects are for enumeration")]
mod generate;
#[path = "ebpf/machine.rs"]
mod machine;
#[path = "ebpf/oracle.rs"]
mod oracle;
#[path = "lab/support.rs"]
#[expect(dead_code, reason = "each test uses a part")]
mod support;

use compiler::{SourceFile, compile};
use lang::ast::Date;
use lang::diag::Severity;
use lang::source::Sources;
use machine::Machine;
use partywall_node::ebpf::Loaded;
use std::path::Path;
use support::Project;

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
    let emitted = nodes.into_iter().all(|n| backends::linux::lower(&p.compiled, &p.sources, n, &[]).is_ok());
    (!wrong && emitted).then_some(p)
}

/// Every pair of classes on every node of a project; returns how many packets ran.
fn compare(machine: &mut Machine, project: &Project, name: &str) -> u64 {
    let c = &project.compiled;
    let mut ran = 0;
    for node in c.model.nodes.ids() {
        ran += oracle::node(machine, project, node, name);
    }
    ran
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
    let ran = compare(&mut Machine::new(), &project, "02-datacenter");
    println!("{ran} packets");
    assert!(ran > 50_000, "only {ran} packets");
}

#[test]
fn random_projects_are_decided_as_eval_says() {
    if !able() {
        return;
    }
    let text = std::env::var("PARTYWALL_EBPF").unwrap_or_else(|_| "5,17".into());
    let mut parts = text.split(',').map(|part| part.parse::<u64>().unwrap());
    let (projects, first) = (parts.next().unwrap(), parts.next().unwrap_or(1));
    let mut machine = Machine::new();
    let (mut ran, mut done) = (0, 0);
    for seed in first.. {
        if done == projects {
            break;
        }
        let Some(project) = clean(&generate::project(seed)) else { continue };
        ran += compare(&mut machine, &project, &format!("seed {seed}"));
        done += 1;
    }
    println!("{done} projects, {ran} packets");
    assert!(ran > projects * 100, "only {ran} packets");
}
