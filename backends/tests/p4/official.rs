//! What is emitted for P4Runtime, read by its official package for Python and held against its rules.

use super::bench::files;
use super::common::{self, Project, text};
use super::{SLICE, example, random};
use partywall_backends::Backend as _;
use partywall_backends::p4::P4;
use rayon::iter::{IntoParallelIterator as _, ParallelIterator as _};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

type Files = BTreeMap<String, String>;

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/p4/canonical.py");

/// A folder that goes with its test.
pub struct Scratch(pub PathBuf);

impl Scratch {
    pub fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("partywall-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A Python that has the package.
fn python() -> Option<PathBuf> {
    let ours = concat!(env!("CARGO_MANIFEST_DIR"), "/../target/p4runtime/bin/python");
    let target = std::env::var_os("CARGO_TARGET_DIR").map(|dir| Path::new(&dir).join("p4runtime/bin/python"));
    let has = |python: &PathBuf| {
        let mut command = Command::new(python);
        command
            .env("PROTOCOL_BUFFERS_PYTHON_IMPLEMENTATION", "python")
            .args(["-c", "import p4.v1.p4runtime_pb2"]);
        command.output().is_ok_and(|out| out.status.success())
    };
    target.into_iter().chain([PathBuf::from(ours), PathBuf::from("python3")]).find(has)
}

/// The Python to use; `None`, told loudly, where there is none.
fn required() -> Option<PathBuf> {
    let found = python();
    if found.is_none() {
        eprintln!(
            "SKIPPED: no Python with the package p4runtime (scripts/test installs it into target/p4runtime), so \
             nobody else has read the entries"
        );
    }
    found
}

/// What the script says of a node's files, or why it refuses them.
fn read(python: &Path, dir: &Path, files: &Files) -> Result<String, String> {
    std::fs::create_dir_all(dir).unwrap();
    for name in ["partywall.p4info.txtpb", "entries.txtpb"] {
        std::fs::write(dir.join(name), &files[&format!("p4/{name}")]).unwrap();
    }
    let out = Command::new(python).arg(SCRIPT).arg(dir).output().unwrap();
    let said = |bytes| String::from_utf8(bytes).unwrap();
    if out.status.success() { Ok(said(out.stdout)) } else { Err(said(out.stderr)) }
}

/// Files of every node of a project that this target can have.
fn nodes(name: &str, project: &Project) -> Vec<(String, Files)> {
    let nodes = project.compiled.model.nodes.iter();
    let lowered = nodes.filter_map(|(id, node)| {
        let model = P4.lower(&project.compiled, &project.sources, id, &[]).ok()?;
        Some((format!("{name}-{}", node.name), files(&model)))
    });
    lowered.collect()
}

#[test]
fn the_official_package_reads_canonical_entries() {
    let Some(python) = required() else { return };
    let mut all = nodes("quickstart", &example("01-quickstart"));
    all.extend(nodes("datacenter", &example("02-datacenter")));
    let whole = std::env::var_os("PARTYWALL_P4_PROJECTS").is_some();
    // Nine tenths of each are buckets of gateways, and the package takes seconds for them.
    all.retain(|(name, _)| {
        whole || !["datacenter-c2", "datacenter-c3", "datacenter-c5"].contains(&name.as_str())
    });
    assert!(all.len() >= 4, "nodes of both examples");
    all.extend(nodes("slice", &text(SLICE)).into_iter().filter(|(name, _)| whole || name == "slice-g1"));
    for seed in 0..if whole { 12 } else { 3 } {
        if let Ok(project) = common::attempt(&[("main.pw".to_owned(), random::project(seed))]) {
            all.extend(nodes(&format!("random-{seed}"), &project));
        }
    }
    let scratch = Scratch::new("canonical");
    let said = all.into_par_iter().map(|(name, files)| {
        read(&python, &scratch.0.join(&name), &files).unwrap_or_else(|e| panic!("{name}: {e}"))
    });
    for line in said.collect::<Vec<_>>() {
        print!("{line}");
    }
}

/// One thing wrong at a time.
#[test]
fn entries_in_another_form_are_told_from_canonical_ones() {
    let Some(python) = required() else { return };
    let project = text(SLICE);
    let all = nodes("slice", &project);
    let (_, good) = all.iter().find(|(name, _)| name == "slice-g1").unwrap();
    let scratch = Scratch::new("damaged");
    assert!(read(&python, &scratch.0.join("good"), good).is_ok());
    let damaged = [
        ("value: \"\\", "value: \"\\000\\", "not the shortest byte string"),
        ("value: \"", "value: \"\\377\\377\\377", "has more than"),
        ("prefix_len: 24", "prefix_len: 3", "host bits are set"),
        ("prefix_len: 24", "prefix_len: 0", "a prefix of no bits is left away"),
        (" priority: 1 ", " ", "priority 0"),
        ("exact {", "optional {", "optional for an exact field"),
        ("match { field_id: 1 exact", "match { field_id: 9 exact", "no field 9"),
        ("action_id: 167772", "action_id: 267772", "no action"),
        ("table_id: 33554", "table_id: 43554", "no table"),
        ("election_id { low: 1 }", "", "no election id"),
        ("type: INSERT", "type: DELETE", "an entry is inserted"),
        (
            "is_default_action: true",
            "is_default_action: true priority: 3",
            "a default action matches nothing",
        ),
        ("param_id: 1 ", "param_id: 7 ", "parameters [7"),
        ("updates {", "updates { updates", "has no field named"),
    ];
    let each = damaged.into_iter().enumerate().collect::<Vec<_>>().into_par_iter();
    each.for_each(|(at, (from, to, why))| {
        let mut files = good.clone();
        let text = files.get_mut("p4/entries.txtpb").unwrap();
        assert!(text.contains(from), "{from}");
        *text = text.replacen(from, to, 1);
        let said = read(&python, &scratch.0.join(at.to_string()), &files).unwrap_err();
        assert!(said.contains(why), "{from} -> {to}: {said}");
    });
}
