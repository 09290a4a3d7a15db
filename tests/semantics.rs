//! What packets mean: `NAME.pw` (or a folder) with `NAME.jsonl`, one `{"packet": …, "expect": …}` a line.
//!
//! `expect` holds fields of `eval`'s answer; `null` says that a field is absent, `"error": true` that the answer is an
//! error, whatever its text. An optional `note` says what the line is about.

mod support;

use serde_json::Value;
use std::path::Path;
use support::{TODAY, cases, report, root, run_with};

fn complaints(case: &Path) -> Vec<String> {
    let lines = std::fs::read_to_string(case.with_extension("jsonl"))
        .unwrap_or_else(|e| panic!("{}: {e}", case.with_extension("jsonl").display()));
    let lines: Vec<(usize, Value)> = (1..)
        .zip(lines.lines())
        .filter(|(_, line)| !line.trim().is_empty())
        .map(|(n, line)| {
            (n, serde_json::from_str(line).unwrap_or_else(|e| panic!("{}:{n}: {e}", case.display())))
        })
        .collect();
    assert!(!lines.is_empty(), "{} asks nothing", case.display());
    let input: String = lines.iter().map(|(_, line)| format!("{}\n", line["packet"])).collect();
    let case_text = case.to_str().unwrap();
    let run = run_with(["eval", case_text, "--today", TODAY], input.as_bytes());
    assert!(run.stdout.lines().count() == lines.len(), "{case_text}: {}", run.stderr);
    let mut complaints = Vec::new();
    for ((n, line), answer) in lines.iter().zip(run.stdout.lines()) {
        let known = |key: &String| ["packet", "expect", "note"].contains(&key.as_str());
        assert!(line.as_object().unwrap().keys().all(known), "{case_text}:{n}: an unknown key");
        let expect = line["expect"].as_object().unwrap_or_else(|| panic!("{case_text}:{n}: no `expect`"));
        assert!(!expect.is_empty(), "{case_text}:{n} expects nothing");
        let actual: Value = serde_json::from_str(answer).unwrap();
        let fits = |(key, wanted): (&String, &Value)| match (key.as_str(), wanted, actual.get(key)) {
            (_, Value::Null, actual) => actual.is_none(),
            ("error", Value::Bool(true), actual) => actual.is_some(),
            (_, wanted, actual) => actual == Some(wanted),
        };
        if !expect.iter().all(fits) {
            complaints.push(format!(
                "{case_text}:{n}\n  packet {}\n  expect {}\n  answer {answer}",
                line["packet"], line["expect"]
            ));
        }
    }
    complaints
}

#[test]
fn every_packet_is_decided_as_written() {
    let all: Vec<String> =
        cases(&root().join("tests/semantics")).iter().flat_map(|case| complaints(case)).collect();
    report(&all);
}

#[test]
fn every_list_of_packets_has_its_project() {
    let folder = root().join("tests/semantics");
    for file in support::files(&folder).iter().filter(|file| file.extension().is_some_and(|e| e == "jsonl")) {
        let (single, project) =
            (folder.join(file).with_extension("pw"), folder.join(file).with_extension(""));
        assert!(single.is_file() || project.is_dir(), "{} belongs to no project", file.display());
    }
}
