//! The pages of the codes: each has its form, and its examples are run.

mod support;

use lang::codes::Code;
use std::collections::BTreeSet;
use support::{check, findings, project, report};

/// A fenced block with a file's name.
struct Fence {
    file: String,
    text: String,
}

/// The fenced files of a page's section.
fn section(page: &str, title: &str) -> Vec<Fence> {
    let mut fences: Vec<Fence> = Vec::new();
    let (mut inside, mut open) = (false, false);
    for line in page.lines() {
        if open {
            if line == "```" {
                open = false;
            } else if let Some(last) = fences.last_mut().filter(|_| inside) {
                last.text.push_str(line);
                last.text.push('\n');
            }
        } else if let Some(heading) = line.strip_prefix("## ") {
            inside = heading == title;
        } else if let Some(info) = line.strip_prefix("```") {
            open = true;
            if inside && (info.starts_with("pw") || info.starts_with("toml")) {
                let file = info
                    .split_whitespace()
                    .find_map(|word| word.strip_prefix("file="))
                    .unwrap_or("policy.pw");
                fences.push(Fence { file: file.to_owned(), text: String::new() });
            }
        }
    }
    assert!(!open, "a fence is not closed:\n{page}");
    fences
}

fn codes(fences: &[Fence]) -> Vec<(Code, bool)> {
    let folder = project(fences.iter().map(|fence| (fence.file.as_str(), fence.text.as_bytes())));
    let document = check(folder.path());
    findings(&document)
        .iter()
        .map(|f| (Code::parse(f["code"].as_str().unwrap()).unwrap(), f["severity"] == "error"))
        .collect()
}

#[test]
fn every_page_has_its_form() {
    let mut complaints = Vec::new();
    for code in Code::ALL {
        let page = code.page();
        if !page.starts_with(&format!("# {code}: {}\n\n", code.title())) {
            complaints.push(format!("{code}: the page does not begin with `# {code}: {}`", code.title()));
        }
        let headings: Vec<&str> = page.lines().filter_map(|line| line.strip_prefix("## ")).collect();
        if headings.iter().filter(|heading| **heading == "Repair").count() != 1 {
            complaints.push(format!("{code}: a page has one `## Repair`"));
        }
        if headings.iter().any(|heading| !["Example", "Repair"].contains(heading)) {
            complaints.push(format!("{code}: headings are `Example` and `Repair`, not {headings:?}"));
        }
    }
    report(&complaints);
}

#[test]
fn every_example_triggers_its_code_and_no_other_error() {
    let mut complaints = Vec::new();
    let mut run = BTreeSet::new();
    for code in Code::ALL {
        let fences = section(code.page(), "Example");
        if fences.is_empty() {
            continue;
        }
        run.insert(*code);
        let found = codes(&fences);
        if !found.iter().any(|(c, _)| c == code) {
            complaints.push(format!("{code}: the example gives {found:?}"));
        }
        let others: Vec<_> = found.iter().filter(|(c, error)| c != code && *error).collect();
        if !others.is_empty() {
            complaints.push(format!("{code}: the example gives other errors, {others:?}"));
        }
    }
    assert!(run.len() > 40, "only {} pages have an example", run.len());
    report(&complaints);
}

#[test]
fn every_repair_repairs() {
    let mut complaints = Vec::new();
    for code in Code::ALL {
        let fences = section(code.page(), "Repair");
        if fences.is_empty() {
            continue;
        }
        let bad: Vec<_> = codes(&fences).into_iter().filter(|(c, error)| c == code || *error).collect();
        if !bad.is_empty() {
            complaints.push(format!("{code}: the repair gives {bad:?}"));
        }
    }
    report(&complaints);
}
