//! The language's corpus: projects with their findings marked in place.
//!
//! `//~ PW0401 PW0402` says that these findings, and no others, begin on its line; each `^` after the `~` moves one line
//! up. What is marked nowhere must not be found. A case is a `.pw` file, or a folder that is a project.

mod support;

use std::collections::BTreeSet;
use std::path::Path;
use support::{TODAY, cases, check, findings, report, root};

type Finding = (String, u64, String);

/// The findings marked in a project.
fn marked(case: &Path) -> BTreeSet<Finding> {
    let (base, files) = if case.is_dir() {
        (case, support::files(case))
    } else {
        (case.parent().unwrap(), vec![Path::new(case.file_name().unwrap()).to_owned()])
    };
    let mut marks = BTreeSet::new();
    for file in files.iter().filter(|file| file.extension().is_some_and(|e| e == "pw")) {
        let bytes = std::fs::read(base.join(file)).unwrap();
        for (line, text) in (1..).zip(String::from_utf8_lossy(&bytes).lines()) {
            let Some((_, mark)) = text.split_once("//~") else { continue };
            let codes = mark.trim_start_matches('^');
            let up = (mark.len() - codes.len()) as u64;
            for code in codes.split_whitespace() {
                assert!(lang::codes::Code::parse(code).is_some(), "{}:{line}: {code}", case.display());
                marks.insert((file.to_str().unwrap().to_owned(), line - up, code.to_owned()));
            }
        }
    }
    marks
}

fn found(case: &Path) -> BTreeSet<Finding> {
    let document = check(case);
    findings(&document)
        .iter()
        .map(|f| {
            let text = |key: &str| f[key].as_str().unwrap().to_owned();
            (text("file"), f["line"].as_u64().unwrap(), text("code"))
        })
        .collect()
}

fn compare(folder: &str, expect_errors: bool) {
    let mut complaints = Vec::new();
    for case in cases(&root().join("tests/language").join(folder)) {
        let (marked, found) = (marked(&case), found(&case));
        let list = |title, findings: Vec<&Finding>| {
            findings
                .iter()
                .map(|(file, line, code)| format!("  {title}: {file}:{line} {code}\n"))
                .collect::<String>()
        };
        let missing = list("marked, not found", marked.difference(&found).collect());
        let surplus = list("found, not marked", found.difference(&marked).collect());
        if !missing.is_empty() || !surplus.is_empty() {
            complaints.push(format!("{} (today is {TODAY})\n{missing}{surplus}", case.display()));
        }
        if expect_errors && marked.is_empty() {
            complaints.push(format!("{} marks nothing: it belongs to ok/", case.display()));
        }
    }
    report(&complaints);
}

#[test]
fn what_is_well_formed_has_the_marked_findings_only() {
    compare("ok", false);
}

#[test]
fn what_is_in_error_has_every_marked_finding() {
    compare("err", true);
}
