//! Nothing is found where nothing is wrong: random projects that are clean by construction.
//!
//! `PARTYWALL_PROJECTS` sets their number.

#[path = "differential/clean/mod.rs"]
mod clean;
mod support;

use compiler::SourceFile;
use lang::ast::Date;
use lang::diag::Diagnostic;
use lang::source::Sources;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use support::{check, findings};

const DAY: Date = Date { year: 2026, month: 6, day: 1 };

/// Everything that is said of a project, as `CODE file: message`.
fn said(files: &clean::Files, certify: bool) -> Vec<String> {
    let mut sources = Sources::new();
    let parsed: Vec<_> = files
        .iter()
        .filter(|(path, _)| path.ends_with(".pw"))
        .map(|(path, text)| lang::parse(sources.add(path.as_str(), text.as_str()), text))
        .collect();
    let trees = SourceFile::all(&sources, &parsed);
    let compilation = compiler::compile(&trees, DAY);
    let options = verifier::Options { certify, jobs: Some(1), ..Default::default() };
    let verdicts = verifier::verify(&compilation.compiled, &options).expect("the engines agree");
    let config = compiler::config::parse(&files["partywall.toml"]).expect("the settings are well-formed");
    let owners: Vec<Diagnostic> = trees
        .iter()
        .flat_map(|file| compiler::checks::owners::check(&config.owners, file.path, file.tree))
        .collect();
    let all = parsed.iter().flat_map(|p| &p.diagnostics);
    let all = all.chain(&compilation.diagnostics).chain(&verdicts.diagnostics).chain(&owners);
    all.map(|d| format!("{} {}: {}", d.code, sources.path(d.span.file), d.message)).collect()
}

#[test]
fn nothing_is_found_in_clean_projects() {
    let projects: u64 =
        std::env::var("PARTYWALL_PROJECTS").map_or(1_000, |v| v.parse().expect("a number of projects"));
    let next = AtomicU64::new(0);
    // Plain threads: each verdict brings a pool of its own, and a pool's thread that waits for another pool takes up more work.
    let work = || {
        let mut complaints = BTreeMap::new();
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= projects {
                return complaints;
            }
            let files = clean::project(seed);
            let said = said(&files, seed.is_multiple_of(50));
            if !said.is_empty() {
                let text: String = files.iter().map(|(path, text)| format!("// {path}\n{text}")).collect();
                complaints.insert(seed, format!("seed {seed}:\n  {}\n{text}", said.join("\n  ")));
            }
        }
    };
    let complaints: BTreeMap<u64, String> = std::thread::scope(|scope| {
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        let threads: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        threads.into_iter().flat_map(|thread| thread.join().expect("no engine panics")).collect()
    });
    // One is enough to work on.
    let first = complaints.values().next().map_or("", String::as_str);
    assert!(complaints.is_empty(), "{} of {projects} projects have findings\n{first}", complaints.len());
}

/// The same through the binary, settings and all.
#[test]
fn check_finds_nothing_in_clean_projects() {
    for seed in 0..6 {
        let files = clean::project(seed);
        let folder = support::project(files.iter().map(|(path, text)| (path.as_str(), text.as_bytes())));
        assert_eq!(findings(&check(folder.path())), [] as [serde_json::Value; 0], "seed {seed}");
    }
}
