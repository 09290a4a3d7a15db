//! The order of files and of declarations says nothing: whatever is read first, the same comes out.

mod support;

use lang::ast::File;
use lang::span::FileId;
use serde_json::Value;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use support::{TODAY, check, findings, project, root, run, run_with};

const DATACENTER: &str = "examples/02-datacenter";

/// Path and text of files.
type Texts = Vec<(String, String)>;

/// The policy files of a project, and its other files.
fn read(folder: &Path) -> (Texts, Texts) {
    support::files(folder)
        .into_iter()
        .filter(|path| !path.starts_with("expected"))
        .map(|path| (path.to_str().unwrap().to_owned(), std::fs::read_to_string(folder.join(&path)).unwrap()))
        .partition(|(path, _)| path.ends_with(".pw"))
}

/// A generator of its own, so that a failure repeats (xorshift64*).
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) as usize % bound
    }

    fn shuffle<T>(&mut self, items: &mut [T]) {
        for at in (1..items.len()).rev() {
            items.swap(at, self.below(at + 1));
        }
    }
}

/// Every declaration of these files by itself, as text.
fn declarations(files: &[(String, String)]) -> Vec<String> {
    let mut found = Vec::new();
    for (path, text) in files {
        let parsed = lang::parse(FileId::default(), text);
        assert!(!parsed.has_errors(), "{path}");
        assert!(parsed.file.suppressions.is_empty(), "{path}: printing would lose them");
        found.extend(
            parsed
                .file
                .items
                .into_iter()
                .map(|item| lang::fmt::print(&File { items: vec![item], suppressions: Vec::new() })),
        );
    }
    found
}

/// The same declarations, dealt out to files at random. They stand at the root: what a tenant's folder may hold is
/// another question.
fn dealt(files: &[(String, String)], others: &[(String, String)], seed: u64) -> tempfile::TempDir {
    let mut dice = Dice(seed);
    let mut declarations = declarations(files);
    dice.shuffle(&mut declarations);
    let count = 1 + dice.below(12);
    let mut heaps = vec![String::new(); count];
    for declaration in declarations {
        let heap = dice.below(count);
        heaps[heap].push_str(&declaration);
        heaps[heap].push('\n');
    }
    let names: Vec<String> = (0..count).map(|n| format!("heap{n}.pw")).collect();
    let heaps = names.iter().map(String::as_str).zip(heaps.iter().map(String::as_bytes));
    let others = others.iter().map(|(path, text)| (path.as_str(), text.as_bytes()));
    project(heaps.chain(others))
}

/// What does not depend on places.
fn meaning(document: &Value) -> BTreeSet<String> {
    let shown = |f: &Value| {
        let keys = ["code", "severity", "message", "help", "rules", "witness"];
        keys.iter().map(|key| format!("{key}={}\n", f.get(*key).unwrap_or(&Value::Null))).collect()
    };
    findings(document).iter().map(shown).collect()
}

fn eval(project: &Path, packets: &[u8]) -> String {
    let run = run_with(["eval".as_ref(), project.as_os_str(), "--today".as_ref(), TODAY.as_ref()], packets);
    assert_eq!(run.status, 0, "{}", run.stderr);
    run.stdout
}

/// Changes to the data centre that make findings of the kinds that policies give each other.
fn troubled() -> (Texts, Texts) {
    let (mut files, others) = read(&root().join(DATACENTER));
    let mut change = |path: &str, from: &str, to: &str| {
        let (_, text) = files.iter_mut().find(|(p, _)| p == path).unwrap();
        assert!(text.contains(from), "{path} holds no {from}");
        *text = text.replace(from, to);
    };
    change("platform/guardrails.pw", " overrides no-remote-admin", "");
    change(
        "tenants/shop/policy.pw",
        "live -> databases : postgres",
        "live -> databases : postgres\n  allow web -> data : ping\n  allow web -> databases : ping",
    );
    change(
        "tenants/guest/guest.pw",
        "route 0.0.0.0/0 via edge",
        "route 0.0.0.0/0 via edge\n  group idle = wifi & 192.168.0.0/24",
    );
    (files, others)
}

#[test]
fn the_order_in_which_files_are_made_changes_no_byte() {
    for example in ["examples/02-datacenter", "examples/03-broken"] {
        let folder = root().join(example);
        let mut files: Vec<PathBuf> =
            support::files(&folder).into_iter().filter(|path| !path.starts_with("expected")).collect();
        let mut dice = Dice(7);
        let expected: Vec<String> = ["human", "concise", "json"]
            .iter()
            .map(|format| run(["check", example, "--today", TODAY, "--format", format]).stdout)
            .collect();
        for _ in 0..3 {
            dice.shuffle(&mut files);
            let copy = tempfile::tempdir().unwrap();
            for file in &files {
                let to = copy.path().join(file);
                std::fs::create_dir_all(to.parent().unwrap()).unwrap();
                std::fs::copy(folder.join(file), to).unwrap();
            }
            let path = copy.path().to_str().unwrap();
            for (format, expected) in ["human", "concise", "json"].iter().zip(&expected) {
                assert_eq!(&run(["check", path, "--today", TODAY, "--format", format]).stdout, expected);
            }
        }
    }
}

#[test]
fn moved_declarations_decide_the_same() {
    let (files, others) = read(&root().join(DATACENTER));
    let packets = std::fs::read(root().join(DATACENTER).join("expected/packets.jsonl")).unwrap();
    let expected = eval(&root().join(DATACENTER), &packets);
    assert!(expected.lines().count() > 20);
    for seed in 1..=8 {
        let copy = dealt(&files, &others, seed);
        assert_eq!(eval(copy.path(), &packets), expected, "seed {seed}");
        assert_eq!(findings(&check(copy.path())), [] as [Value; 0], "seed {seed}");
    }
}

#[test]
fn moved_declarations_have_the_same_findings() {
    let (files, others) = troubled();
    let all = files.iter().chain(&others).map(|(path, text)| (path.as_str(), text.as_bytes()));
    let expected = meaning(&check(project(all).path()));
    for code in ["PW0401", "PW0402", "PW0407"] {
        assert!(expected.iter().any(|f| f.contains(code)), "no {code} among {expected:#?}");
    }
    for seed in 1..=8 {
        let copy = dealt(&files, &others, seed);
        assert_eq!(meaning(&check(copy.path())), expected, "seed {seed}");
    }
}
