//! Faults planted in a copy of `examples/02-datacenter`: each is found under its code and in its place, nothing else is, and
//! `eval` decides the packet that shows it as the finding says.

mod support;

use serde::Deserialize;
use serde_json::Value;
use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::path::Path;
use support::{TODAY, cases, check, findings, report, root, run_with};
use tempfile::TempDir;

/// `planted.json` of a case; the other files of its folder are added to the copy.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Planted {
    /// What was planted, for readers.
    #[expect(dead_code, reason = "a case says in words what it is")]
    fault: String,
    #[serde(default)]
    edits: Vec<Edit>,
    /// Every error and warning of the project, in the order of `check`.
    findings: Vec<Expected>,
}

/// A change to a file of the example.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Edit {
    file: String,
    /// Stands in the file once.
    find: String,
    replace: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Expected {
    code: String,
    severity: String,
    file: String,
    /// Stands in one line of the file: the one where the finding begins.
    at: String,
    /// Parts of the message, in their order.
    #[serde(default)]
    says: Vec<String>,
    /// The rules concerned, in their order.
    #[serde(default)]
    rules: Vec<String>,
    /// Of each related place: the file, what stands in its line, and a part of its message.
    #[serde(default)]
    related: Vec<(String, String, String)>,
    /// The witness; `null` where no packet can show the finding.
    witness: Option<Witness>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Witness {
    /// The whole packet.
    packet: Value,
    /// Fields of the decision that `eval` must give; `null`: absent.
    decision: BTreeMap<String, Value>,
}

/// A copy of the example with a case laid over it.
fn plant(case: &Path, planted: &Planted) -> TempDir {
    let copy = tempfile::tempdir().unwrap();
    let add = |from: &Path, skip: &[&str]| {
        for file in support::files(from) {
            if skip.iter().any(|name| file.starts_with(name)) {
                continue;
            }
            let to = copy.path().join(&file);
            std::fs::create_dir_all(to.parent().unwrap()).unwrap();
            assert!(!to.exists(), "{} is in the example already: edit it", file.display());
            std::fs::copy(from.join(&file), to).unwrap();
        }
    };
    add(&root().join("examples/02-datacenter"), &["expected", "README.md"]);
    add(case, &["planted.json"]);
    for edit in &planted.edits {
        let path = copy.path().join(&edit.file);
        let text = std::fs::read_to_string(&path).unwrap();
        assert_eq!(text.matches(&edit.find).count(), 1, "{}: {} in {}", case.display(), edit.find, edit.file);
        std::fs::write(path, text.replace(&edit.find, &edit.replace)).unwrap();
    }
    copy
}

/// The line of a file of the copy, from 1, in which alone a text stands.
fn line_of(project: &Path, file: &str, text: &str) -> u64 {
    let content = std::fs::read_to_string(project.join(file)).unwrap();
    let lines: Vec<u64> =
        (1..).zip(content.lines()).filter(|(_, line)| line.contains(text)).map(|(n, _)| n).collect();
    assert_eq!(lines.len(), 1, "`{text}` in {file}");
    lines[0]
}

/// What is wrong with a finding.
fn compare(project: &Path, expected: &Expected, found: &Value) -> Vec<String> {
    let mut complaints = Vec::new();
    let mut same = |what: &str, expected: Value, found: &Value| {
        if expected != *found {
            complaints.push(format!("{what}: expected {expected}, found {found}"));
        }
    };
    let strings = |list: &[String]| Value::from(list.to_vec());
    same("code", expected.code.as_str().into(), &found["code"]);
    same("severity", expected.severity.as_str().into(), &found["severity"]);
    same("file", expected.file.as_str().into(), &found["file"]);
    same("line", line_of(project, &expected.file, &expected.at).into(), &found["line"]);
    same("rules", strings(&expected.rules), found.get("rules").unwrap_or(&strings(&[])));
    let related = found.get("related").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    same("related places", expected.related.len().into(), &related.len().into());
    for ((file, at, says), place) in expected.related.iter().zip(related) {
        same("related file", file.as_str().into(), &place["file"]);
        same("related line", line_of(project, file, at).into(), &place["line"]);
        let message = place["message"].as_str().unwrap();
        same(&format!("`{message}` says `{says}`"), true.into(), &message.contains(says).into());
    }
    let mut rest = found["message"].as_str().unwrap();
    for part in &expected.says {
        match rest.split_once(part) {
            Some((_, after)) => rest = after,
            None => same(&format!("`{}` says `{part}`", found["message"]), true.into(), &false.into()),
        }
    }
    match (&expected.witness, found.get("witness")) {
        (None, None) => {}
        (None, Some(witness)) => same("witness", Value::Null, witness),
        (Some(_), None) => complaints.push("it has no witness".to_owned()),
        (Some(expected), Some(witness)) => {
            same("packet", expected.packet.clone(), &witness["packet"]);
            for (field, value) in &expected.decision {
                same(field, value.clone(), &witness["decision"][field]);
            }
        }
    }
    complaints
}

/// `eval` decides every witness as its finding says it does.
fn replay(project: &Path, found: &[&Value]) -> Vec<String> {
    let witnesses: Vec<&Value> = found.iter().filter_map(|f| f.get("witness")).collect();
    if witnesses.is_empty() {
        return Vec::new();
    }
    let input: String = witnesses.iter().map(|w| format!("{}\n", w["packet"])).collect();
    let args = ["eval".as_ref(), project.as_os_str(), OsStr::new("--today"), TODAY.as_ref()];
    let answers = run_with(args, input.as_bytes()).expect(0).stdout;
    let answers: Vec<Value> = answers.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(answers.len(), witnesses.len());
    let pairs = witnesses.iter().zip(&answers);
    pairs
        .filter(|(witness, answer)| witness["decision"] != **answer)
        .map(|(witness, answer)| format!("{} is decided otherwise: {answer}", witness["packet"]))
        .collect()
}

#[test]
fn every_planted_fault_is_found_and_shown() {
    let mut complaints = Vec::new();
    for case in cases(&root().join("tests/planted")) {
        let text = std::fs::read_to_string(case.join("planted.json")).unwrap();
        let planted: Planted =
            serde_json::from_str(&text).unwrap_or_else(|e| panic!("{}: {e}", case.display()));
        assert!(!planted.findings.is_empty(), "{} plants nothing", case.display());
        let project = plant(&case, &planted);
        let document = check(project.path());
        let found: Vec<&Value> = findings(&document).iter().filter(|f| f["severity"] != "note").collect();
        let mut wrong = Vec::new();
        if found.len() != planted.findings.len() {
            wrong.push(format!("{} findings are expected", planted.findings.len()));
        }
        for (expected, found) in planted.findings.iter().zip(&found) {
            wrong.extend(compare(project.path(), expected, found));
        }
        wrong.extend(replay(project.path(), &found));
        if !wrong.is_empty() {
            let document = serde_json::to_string_pretty(&found).unwrap();
            complaints.push(format!("{}:\n  {}\n{document}", case.display(), wrong.join("\n  ")));
        }
    }
    report(&complaints);
}
