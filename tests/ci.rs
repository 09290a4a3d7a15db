//! The reports for continuous integration: each fits its published form and names the same files, lines and columns as
//! `--format json` does.

mod support;

use roxmltree::{Document, Node};
use serde_json::Value;
use std::collections::BTreeSet;
use std::path::Path;
use support::schema::{self, violations};
use support::{TODAY, check, findings, project, root, run};
use tempfile::TempDir;

const BROKEN: &str = "examples/03-broken";
const CLEAN: &str = "examples/01-quickstart";

/// Code, severity, path, line, column of a finding.
type Place = (String, String, String, u64, u64);

fn report(path: &str, format: &str) -> String {
    let run = run(["check", path, "--today", TODAY, "--format", format]);
    assert!(run.status < 2, "{}", run.stderr);
    run.stdout
}

/// The report of a format that is JSON, held to its schema.
fn valid(path: &str, format: &str) -> Value {
    let schema = schema::read(&root().join(format!("tests/schemas/{format}.schema.json")));
    let document = serde_json::from_str(&report(path, format)).unwrap();
    assert_eq!(violations(&schema, &document), [] as [String; 0], "{path}");
    document
}

fn text(value: &Value) -> String {
    value.as_str().unwrap().to_owned()
}

fn number(value: &Value) -> u64 {
    value.as_u64().unwrap()
}

/// What `--format json` says, with the paths behind `prefix`.
fn expected(path: &str, prefix: &str) -> Vec<Place> {
    findings(&check(Path::new(path)))
        .iter()
        .map(|f| {
            let file = format!("{prefix}{}", text(&f["file"]));
            (text(&f["code"]), text(&f["severity"]), file, number(&f["line"]), number(&f["column"]))
        })
        .collect()
}

/// A repository whose project lies in a folder, and whose file has names and text that are not ASCII; the place of the
/// one finding in it.
fn foreign() -> (TempDir, String, Place) {
    let line = "policy app for shop in tenant { allow front -> front : tcp/1 because \"größer, 漢字 🧀\"  allow frnt -> front : tcp/2 }";
    let text = format!(
        "fabric f {{\n  encap vxlan port 4789  underlay mtu 1500 family ipv4\n  precedence guardrail > tenant > baseline  delegate tenant\n}}\ntenant shop id 1 {{\n  segment front vni 10010 {{ 10.1.0.0/24 }}\n}}\n{line}\n"
    );
    let folder = project([("netz: ü, 100%/käse.pw", text.as_bytes()), (".git/HEAD", b"")]);
    let column = line.find("frnt").map(|at| line[..at].chars().count()).unwrap() as u64 + 1;
    let place = ("PW0101".to_owned(), "error".to_owned(), "netz: ü, 100%/käse.pw".to_owned(), 8, column);
    let path = folder.path().join("netz: ü, 100%").to_str().unwrap().to_owned();
    (folder, path, place)
}

/// `%41` as `A`.
fn decoded(uri: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = uri.as_bytes().iter();
    while let Some(byte) = rest.next() {
        if *byte == b'%' {
            let digits = [*rest.next().unwrap(), *rest.next().unwrap()];
            bytes.push(u8::from_str_radix(std::str::from_utf8(&digits).unwrap(), 16).unwrap());
        } else {
            assert!(byte.is_ascii_alphanumeric() || b"-._~/".contains(byte), "{uri}");
            bytes.push(*byte);
        }
    }
    String::from_utf8(bytes).unwrap()
}

fn sarif_places(document: &Value) -> Vec<Place> {
    let results = document["runs"][0]["results"].as_array().unwrap();
    results
        .iter()
        .map(|result| {
            let place = &result["locations"][0]["physicalLocation"];
            let region = &place["region"];
            let file = decoded(place["artifactLocation"]["uri"].as_str().unwrap());
            let (line, column) = (number(&region["startLine"]), number(&region["startColumn"]));
            (text(&result["ruleId"]), text(&result["level"]), file, line, column)
        })
        .collect()
}

#[test]
fn sarif() {
    let document = valid(BROKEN, "sarif");
    assert_eq!(sarif_places(&document), expected(BROKEN, "examples/03-broken/"));
    let (run, source) = (&document["runs"][0], check(Path::new(BROKEN)));
    let rules = run["tool"]["driver"]["rules"].as_array().unwrap();
    for rule in rules {
        assert!(rule["fullDescription"]["text"].as_str().unwrap().chars().count() <= 1_024, "{rule}");
        assert!(rule["shortDescription"]["text"].as_str().unwrap().chars().count() <= 1_024, "{rule}");
        assert!(rule["help"]["markdown"].as_str().unwrap().starts_with("# PW"), "{rule}");
    }
    let (mut lines, mut names) = (BTreeSet::new(), BTreeSet::new());
    let results = run["results"].as_array().unwrap();
    for (result, finding) in results.iter().zip(findings(&source)) {
        assert_eq!(rules[number(&result["ruleIndex"]) as usize]["id"], result["ruleId"]);
        assert_eq!(result["locations"].as_array().unwrap().len(), 1);
        assert_eq!(result["properties"].get("witness"), finding.get("witness"));
        let message = result["message"]["text"].as_str().unwrap();
        assert!(message.starts_with(finding["message"].as_str().unwrap()), "{message}");
        // The other ends are there, in order, and the text links to each.
        let none = Vec::new();
        let related = result.get("relatedLocations").and_then(Value::as_array).unwrap_or(&none);
        let ends = finding.get("related").and_then(Value::as_array).unwrap_or(&none);
        assert_eq!(related.len(), ends.len(), "{result}");
        for (index, (place, end)) in related.iter().zip(ends).enumerate() {
            assert_eq!(place["id"], index as u64 + 1);
            assert!(message.contains(&format!("]({})", index + 1)), "{message}");
            assert_eq!(place["physicalLocation"]["region"]["startLine"], end["line"]);
            assert_eq!(place["physicalLocation"]["region"]["endColumn"], end["end_column"]);
        }
        let prints = &result["partialFingerprints"];
        assert!(names.insert(text(&prints["partywallFinding/v1"])), "{result}");
        let uri = text(&result["locations"][0]["physicalLocation"]["artifactLocation"]["uri"]);
        assert!(lines.insert((text(&result["ruleId"]), uri, text(&prints["primaryLocationLineHash"]))));
    }
    assert_eq!(run["automationDetails"]["id"], "partywall/examples/03-broken/");
    assert_eq!(sarif_places(&valid(CLEAN, "sarif")), []);
    let (_folder, path, place) = foreign();
    assert!(sarif_places(&valid(&path, "sarif")).contains(&place));
}

/// Name, properties and data of a workflow command, as the runner reads them.
fn command(line: &str) -> (String, Vec<(String, String)>, String) {
    let undo = |text: &str| text.replace("%0D", "\r").replace("%0A", "\n").replace("%25", "%");
    let (head, data) = line.strip_prefix("::").unwrap().split_once("::").unwrap();
    let (name, properties) = head.split_once(' ').unwrap();
    let properties = properties
        .split(',')
        .map(|property| {
            let (key, value) = property.split_once('=').unwrap();
            (key.to_owned(), undo(&value.replace("%3A", ":").replace("%2C", ",")))
        })
        .collect();
    (name.to_owned(), properties, undo(data))
}

fn github_place(line: &str) -> Place {
    let (name, properties, data) = command(line);
    let get = |key: &str| properties.iter().find(|(name, _)| name == key).map(|(_, value)| value.clone());
    assert!(!data.is_empty());
    let severity = if name == "notice" { "note".to_owned() } else { name };
    let number = |key| get(key).unwrap().parse().unwrap();
    (get("title").unwrap(), severity, get("file").unwrap(), number("line"), number("col"))
}

#[test]
fn github() {
    let text = report(BROKEN, "github");
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines.len(), 11, "the ten worst and the rest");
    let errors: Vec<Place> = expected(BROKEN, "examples/03-broken/")
        .into_iter()
        .filter(|(_, severity, ..)| severity == "error")
        .take(10)
        .collect();
    assert_eq!(lines[..10].iter().map(|line| github_place(line)).collect::<Vec<_>>(), errors);
    let (name, _, data) = command(lines[10]);
    let all = findings(&check(Path::new(BROKEN))).len();
    assert_eq!(name, "notice");
    assert!(data.starts_with(&format!("{} more findings", all - 10)), "{data}");
    assert_eq!(report(CLEAN, "github"), "");
    let (_folder, path, place) = foreign();
    let text = report(&path, "github");
    assert!(text.lines().any(|line| github_place(line) == place), "{text}");
}

fn gitlab_places(document: &Value) -> Vec<(String, String, u64)> {
    let issues = document.as_array().unwrap();
    let prints: BTreeSet<&str> = issues.iter().map(|issue| issue["fingerprint"].as_str().unwrap()).collect();
    assert_eq!(prints.len(), issues.len(), "fingerprints are unique");
    let place = |issue: &Value| {
        let location = &issue["location"];
        (text(&issue["check_name"]), text(&location["path"]), number(&location["lines"]["begin"]))
    };
    issues.iter().map(place).collect()
}

#[test]
fn gitlab() {
    let document = valid(BROKEN, "gitlab");
    let expected: Vec<Place> = expected(BROKEN, "examples/03-broken/");
    for (issue, (_, severity, ..)) in document.as_array().unwrap().iter().zip(&expected) {
        let weight = match severity.as_str() {
            "error" => "critical",
            "warning" => "minor",
            _ => "info",
        };
        assert_eq!(issue["severity"], weight);
    }
    let places: Vec<_> = expected.into_iter().map(|(code, _, file, line, _)| (code, file, line)).collect();
    assert_eq!(gitlab_places(&document), places);
    assert_eq!(report(CLEAN, "gitlab"), "[]\n");
    let (_folder, path, (code, _, file, line, _)) = foreign();
    assert!(gitlab_places(&valid(&path, "gitlab")).contains(&(code, file, line)));
}

/// The bytes of UTF-8 before a column of Unicode characters, from 1.
fn byte_column(file: &Path, line: u64, column: u64) -> u64 {
    let text = String::from_utf8_lossy(&std::fs::read(file).unwrap()).into_owned();
    let line = text.lines().nth(line as usize - 1).unwrap_or_default();
    line.chars().take(column as usize - 1).map(char::len_utf8).sum::<usize>() as u64 + 1
}

fn rdjson_places(document: &Value) -> Vec<Place> {
    let entries = document["diagnostics"].as_array().unwrap();
    entries
        .iter()
        .map(|entry| {
            let severity = text(&entry["severity"]).to_lowercase().replace("info", "note");
            let (path, start) = (text(&entry["location"]["path"]), &entry["location"]["range"]["start"]);
            (text(&entry["code"]["value"]), severity, path, number(&start["line"]), number(&start["column"]))
        })
        .collect()
}

#[test]
fn rdjson() {
    let expected: Vec<Place> = expected(BROKEN, "examples/03-broken/")
        .into_iter()
        .map(|(code, severity, file, line, column)| {
            let column = byte_column(&root().join(&file), line, column);
            (code, severity, file, line, column)
        })
        .collect();
    assert_eq!(rdjson_places(&valid(BROKEN, "rdjson")), expected);
    assert_eq!(rdjson_places(&valid(CLEAN, "rdjson")), []);
    let (folder, path, (code, _, file, line, column)) = foreign();
    let file = folder.path().join(file);
    let bytes = byte_column(&file, line, column);
    assert!(bytes > column);
    // Paths are relative to the working folder, which the project need not lie below.
    let found = rdjson_places(&valid(&path, "rdjson"));
    let same = |place: &&Place| (&place.0, place.3, place.4) == (&code, line, bytes);
    let place = found.iter().find(same).unwrap_or_else(|| panic!("{found:?}"));
    assert_eq!(root().join(&place.2).canonicalize().unwrap(), file.canonicalize().unwrap());
}

/// The attributes and children that an element of the report may have.
fn known(element: &str) -> (&'static [&'static str], &'static [&'static str]) {
    match element {
        "testsuites" => (&["name", "tests", "failures", "errors", "skipped"], &["testsuite"]),
        "testsuite" => (&["name", "tests", "failures", "errors", "skipped"], &["testcase"]),
        "testcase" => (&["name", "classname", "file", "line"], &["failure", "system-out"]),
        "failure" => (&["message", "type"], &[]),
        "system-out" => (&[], &[]),
        other => panic!("`{other}` is no element of the report"),
    }
}

fn hold(node: Node<'_, '_>) {
    let name = node.tag_name().name();
    let (attributes, children) = known(name);
    for attribute in node.attributes() {
        assert!(attributes.contains(&attribute.name()), "{attribute:?} at {name}");
        assert!(!attribute.value().is_empty(), "{attribute:?} at {name}");
    }
    for child in node.children().filter(Node::is_element) {
        assert!(children.contains(&child.tag_name().name()), "{child:?} in {name}");
        hold(child);
    }
}

/// Counts as written, and as counted.
fn counts(node: Node<'_, '_>) {
    let count = |name| node.descendants().filter(|inner| inner.has_tag_name(name)).count().to_string();
    assert_eq!(node.attribute("tests"), Some(count("testcase").as_str()), "{node:?}");
    assert_eq!(node.attribute("failures"), Some(count("failure").as_str()), "{node:?}");
    assert_eq!(node.attribute("errors"), Some("0"), "{node:?}");
}

fn junit_places(text: &str) -> Vec<Place> {
    let document = Document::parse(text).unwrap();
    let top = document.root_element();
    assert_eq!(top.tag_name().name(), "testsuites");
    hold(top);
    counts(top);
    let mut places = Vec::new();
    for suite in top.children().filter(Node::is_element) {
        counts(suite);
        let mut names = BTreeSet::new();
        let cases: Vec<Node<'_, '_>> = suite.children().filter(Node::is_element).collect();
        assert!(!cases.is_empty(), "{suite:?}");
        for case in &cases {
            let (name, class) = (case.attribute("name").unwrap(), case.attribute("classname").unwrap());
            assert!(names.insert((class, name)), "{name} stands twice");
            assert_eq!(case.attribute("file"), suite.attribute("name"));
            let Some(line) = case.attribute("line") else {
                assert_eq!((name, class, cases.len()), ("no findings", "partywall", 1));
                continue;
            };
            let told = case.first_element_child().unwrap();
            let (text, file) = (told.text().unwrap(), case.attribute("file").unwrap());
            let rest = text.strip_prefix(&format!("{file}:{line}:")).unwrap();
            let (column, rest) = rest.split_once(": ").unwrap();
            let (severity, _) = rest.split_once(&format!("[{class}] ")).unwrap();
            assert_eq!(told.has_tag_name("failure"), severity == "error");
            let (line, column) = (line.parse().unwrap(), column.parse().unwrap());
            places.push((class.to_owned(), severity.to_owned(), file.to_owned(), line, column));
        }
    }
    places
}

#[test]
fn junit() {
    assert_eq!(junit_places(&report(BROKEN, "junit")), expected(BROKEN, "examples/03-broken/"));
    assert_eq!(junit_places(&report(CLEAN, "junit")), []);
    let (_folder, path, place) = foreign();
    assert!(junit_places(&report(&path, "junit")).contains(&place));
}

#[test]
fn outside_of_a_repository_paths_are_the_projects() {
    let text = std::fs::read(root().join(BROKEN).join("names.pw")).unwrap();
    let folder = project([("a/names.pw", text.as_slice())]);
    let path = folder.path().to_str().unwrap();
    let places = gitlab_places(&valid(path, "gitlab"));
    assert!(!places.is_empty() && places.iter().all(|(_, file, _)| file == "a/names.pw"), "{places:?}");
    // A single file is named by its own name.
    let single = gitlab_places(&valid(folder.path().join("a/names.pw").to_str().unwrap(), "gitlab"));
    assert!(!single.is_empty() && single.iter().all(|(_, file, _)| file == "names.pw"), "{single:?}");
}

#[test]
fn the_status_does_not_depend_on_the_format() {
    for format in ["sarif", "github", "gitlab", "junit", "rdjson"] {
        assert_eq!(run(["check", BROKEN, "--today", TODAY, "--format", format]).status, 1, "{format}");
        assert_eq!(run(["check", CLEAN, "--today", TODAY, "--format", format]).status, 0, "{format}");
    }
}
