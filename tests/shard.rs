//! `check --shard i/n` and `merge`: the parts together say what the whole says, to the byte.

#[path = "differential/generate.rs"]
#[expect(dead_code, reason = "the harness uses its own part")]
mod generate;
mod support;

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use support::{Run, TODAY, run};

const FORMATS: [&str; 8] = ["human", "concise", "json", "sarif", "github", "gitlab", "junit", "rdjson"];

fn check(project: &Path, more: &[&str]) -> Run {
    let fixed: [&OsStr; 4] = ["check".as_ref(), project.as_os_str(), "--today".as_ref(), TODAY.as_ref()];
    run(fixed.into_iter().chain(more.iter().map(OsStr::new)))
}

/// The reports of all shards, as files.
fn shards(project: &Path, of: usize, into: &Path, more: &[&str]) -> Vec<PathBuf> {
    (1..=of)
        .map(|index| {
            let shard = format!("{index}/{of}");
            let run = check(project, &[&["--format", "json", "--shard", &shard], more].concat());
            let path = into.join(format!("{index}.json"));
            std::fs::write(&path, &run.stdout).unwrap();
            path
        })
        .collect()
}

fn merge(reports: &[PathBuf], format: &str) -> Run {
    let fixed: [&OsStr; 3] = ["merge".as_ref(), "--format".as_ref(), format.as_ref()];
    run(fixed.into_iter().chain(reports.iter().map(|path| path.as_os_str())))
}

#[track_caller]
fn same(whole: &Run, merged: &Run, what: &str) {
    assert_eq!(whole.stdout, merged.stdout, "{what}");
    assert_eq!(whole.status, merged.status, "{what}: {}", merged.stderr);
}

#[test]
fn the_parts_of_an_example_make_the_whole() {
    let folder = tempfile::tempdir().unwrap();
    for example in ["01-quickstart", "02-datacenter", "03-broken"] {
        let project = support::root().join("examples").join(example);
        for (of, more) in
            [(1, &[][..]), (2, &["--certify"]), (3, &["--deny", "PW0402"]), (7, &["--allow", "PW0401"])]
        {
            let mut reports = shards(&project, of, folder.path(), more);
            reports.reverse();
            for format in FORMATS {
                let whole = check(&project, &[&["--format", format], more].concat());
                same(&whole, &merge(&reports, format), &format!("{example}, {of} shards, {format}"));
            }
        }
    }
}

/// With the random projects come conflicts of platform rules that several views show, and rules that are dead in all of them.
#[test]
fn the_parts_of_random_projects_make_the_whole() {
    let folder = tempfile::tempdir().unwrap();
    let cache = tempfile::tempdir().unwrap();
    for seed in 0..40 {
        let text = generate::project(seed);
        let project = support::project([("p.pw", text.as_bytes())]);
        let whole = check(project.path(), &["--format", "json"]);
        let of = 2 + (seed % 4) as usize;
        let cached = cache.path().to_str().unwrap();
        let more: &[&str] = if seed % 3 == 0 { &["--cache", cached] } else { &[] };
        let reports = shards(project.path(), of, folder.path(), more);
        same(&whole, &merge(&reports, "json"), &format!("project {seed}, {of} shards"));
        // No finding stands in two parts, but for conflicts that several views show.
        let mut seen = std::collections::BTreeSet::new();
        for report in &reports {
            let report: serde_json::Value = serde_json::from_slice(&std::fs::read(report).unwrap()).unwrap();
            for finding in support::findings(&report) {
                let repeated = !seen.insert(finding.to_string());
                assert!(!repeated || finding["code"] == "PW0401", "project {seed}: {finding}");
            }
        }
        if !more.is_empty() {
            let again = shards(project.path(), of, folder.path(), more);
            same(&whole, &merge(&again, "json"), &format!("project {seed}, {of} shards, from the cache"));
        }
    }
}

#[test]
fn the_report_of_a_part_fits_its_schema() {
    let schema = support::schema::named("check-1.schema.json");
    let project = support::root().join("examples/03-broken");
    for shard in ["1/2", "2/2"] {
        let document = check(&project, &["--format", "json", "--shard", shard]).json();
        assert!(document["shard"]["state"].is_object());
        support::report(&support::schema::violations(&schema, &document));
    }
    assert!(check(&project, &["--format", "json"]).json().get("shard").is_none());
}

#[test]
fn a_suppression_is_idle_only_if_no_part_used_it() {
    let text = generate::project(3);
    let text = format!(
        "{text}\n// partywall: allow(PW0407) kept for later\nservice idle = tcp/9\n// partywall: allow(PW0402) never so\nservice other = tcp/10\n"
    );
    let project = support::project([("p.pw", text.as_bytes())]);
    let folder = tempfile::tempdir().unwrap();
    let whole = check(project.path(), &["--format", "json"]);
    assert!(whole.stdout.contains("PW0902"), "{}", whole.stdout);
    let reports = shards(project.path(), 3, folder.path(), &[]);
    for report in &reports {
        let report: serde_json::Value = serde_json::from_slice(&std::fs::read(report).unwrap()).unwrap();
        assert!(support::findings(&report).iter().all(|f| f["code"] != "PW0902"), "a part cannot know");
    }
    same(&whole, &merge(&reports, "json"), "suppressions");
}

#[test]
fn what_does_not_belong_together_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let project = support::root().join("examples/01-quickstart");
    let other = support::root().join("examples/03-broken");
    let reports = shards(&project, 3, folder.path(), &[]);
    let refused = |reports: &[PathBuf], why: &str| {
        let run = merge(reports, "human").expect(2);
        assert!(run.stderr.contains(why) && run.stdout.is_empty(), "{why}: {}", run.stderr);
    };
    refused(&reports[..2], "no report of shard 3/3");
    refused(&reports[1..2], "no report of shard 1/3, 3/3");
    let mut twice = reports.clone();
    twice.push(reports[1].clone());
    refused(&twice, "are both shard 2/3");

    let elsewhere = tempfile::tempdir().unwrap();
    let mixed = |more: &[&str], project: &Path, of: usize, why: &str| {
        let strange = shards(project, of, elsewhere.path(), more);
        refused(&[reports[0].clone(), reports[1].clone(), strange[2].clone()], why);
    };
    mixed(&[], &other, 3, "different projects");
    mixed(&["--certify"], &project, 3, "different projects, options");
    mixed(&["--deny", "PW0402"], &project, 3, "different levels");
    mixed(&[], &project, 4, "split differently");

    let whole = folder.path().join("whole.json");
    std::fs::write(&whole, check(&project, &["--format", "json"]).stdout).unwrap();
    refused(&[whole], "the report of a whole check");
    let text = std::fs::read_to_string(&reports[0]).unwrap();
    let old = folder.path().join("old.json");
    let version = format!("\"version\": \"{}\"", env!("CARGO_PKG_VERSION"));
    assert!(text.contains(&version));
    std::fs::write(&old, text.replace(&version, "\"version\": \"0.0.1\"")).unwrap();
    refused(&[old], "was written by version 0.0.1");
    let none = folder.path().join("none.json");
    std::fs::write(&none, "{}").unwrap();
    refused(&[none], "is no report of");
    refused(&[folder.path().join("absent.json")], "cannot read");
}

#[test]
fn a_shard_is_a_number_of_a_number() {
    let project = support::root().join("examples/01-quickstart");
    for wrong in ["0/2", "3/2", "1", "1/", "/1", "a/b", "1/1001", "1/0"] {
        let run = check(&project, &["--shard", wrong]).expect(2);
        assert!(
            run.stderr.contains("a shard is written i/n") || run.stderr.contains("--shard"),
            "{wrong}: {}",
            run.stderr
        );
    }
    check(&project, &["--shard", "1/2", "--diff-base", "HEAD"]).expect(2);
}
