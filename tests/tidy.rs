//! What the tree has to look like: sizes, arrows between crates, the places that may name a dependency, and a page and a test
//! for every code.

mod support;

use lang::codes::Code;
use serde_json::Value;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use support::schema::named;
use support::{files, golden, report, root};

const MAX_LINES: usize = 700;

/// The crates, and which of the others each may depend on.
const ARROWS: &[(&str, &[&str])] = &[
    ("lang", &[]),
    ("compiler", &["lang"]),
    ("verifier", &["lang", "compiler"]),
    ("backends", &["lang", "compiler"]),
    ("node", &["lang", "compiler", "backends"]),
    (".", &["lang", "compiler", "verifier", "backends", "node"]),
];

/// The project's own files with one of these endings, relative to its root.
fn sources(endings: &[&str]) -> Vec<PathBuf> {
    let folders = [
        "src", "lang", "compiler", "verifier", "backends", "node", "tests", "benches", "fuzz", "scripts",
        "docs", ".ci", "examples",
    ];
    let mut found = Vec::new();
    for folder in folders {
        let below = files(&root().join(folder)).into_iter().map(|path| Path::new(folder).join(path));
        found.extend(below.filter(|path| !path.components().any(|c| c.as_os_str() == "target")));
    }
    found.retain(|path| {
        endings.is_empty() || path.extension().is_some_and(|e| endings.iter().any(|x| e == *x))
    });
    assert!(!found.is_empty());
    found
}

fn text(path: &Path) -> String {
    String::from_utf8_lossy(&std::fs::read(root().join(path)).unwrap()).into_owned()
}

/// The dependencies that a manifest's `[dependencies]` names (not those of its tests).
fn dependencies(manifest: &Path) -> BTreeSet<String> {
    let text = text(manifest);
    let lines = text.lines().skip_while(|line| *line != "[dependencies]").skip(1);
    lines
        .take_while(|line| !line.starts_with('['))
        .filter_map(|line| line.split(['.', ' ', '=']).next())
        .filter(|name| !name.is_empty() && !name.starts_with('#'))
        .map(str::to_owned)
        .collect()
}

#[test]
fn no_file_outgrows_one_head() {
    let mut complaints = Vec::new();
    for path in sources(&["rs", "lalrpop", "sh", "py", "c", "p4"]) {
        let lines = text(&path).lines().count();
        if lines > MAX_LINES {
            complaints.push(format!("{} has {lines} lines, more than {MAX_LINES}", path.display()));
        }
    }
    report(&complaints);
}

#[test]
fn the_crates_depend_in_one_direction() {
    let mut complaints = Vec::new();
    let crates: BTreeSet<&str> = ARROWS.iter().map(|(name, _)| *name).collect();
    for (name, allowed) in ARROWS {
        for dependency in dependencies(&Path::new(name).join("Cargo.toml")) {
            if crates.contains(dependency.as_str()) && !allowed.contains(&dependency.as_str()) {
                complaints.push(format!("{name} depends on {dependency}"));
            }
        }
    }
    report(&complaints);
}

/// Verifier, backends and node read the compiled form, never the tree. (`Date` and the words of a clause are values that
/// the model carries on.)
#[test]
fn only_the_compiler_sees_the_syntax_tree() {
    let mut complaints = Vec::new();
    for path in sources(&["rs"]) {
        let guarded =
            ["verifier/src", "backends/src", "node/src"].iter().any(|folder| path.starts_with(folder));
        let tree =
            ["lang::parse", "ast::File", "ast::Item", "ast::Decl", "ast::Policy", "ast::Rule", "ast::Set"];
        if guarded && tree.iter().any(|name| text(&path).contains(name)) {
            complaints.push(format!("{} names the syntax tree", path.display()));
        }
    }
    report(&complaints);
}

#[test]
fn one_file_names_the_solver_and_one_the_renderer() {
    let named = |name: &str| -> Vec<PathBuf> {
        sources(&["rs"])
            .into_iter()
            // A baseline to measure against asks Z3 by itself.
            .filter(|path| !path.starts_with("tests") && !path.starts_with("benches"))
            .filter(|path| {
                text(path).lines().any(|line| {
                    let code = line.split("//").next().unwrap_or_default();
                    code.contains(&format!("{name}::")) || code.contains(&format!("use {name}"))
                })
            })
            .collect()
    };
    assert_eq!(named("z3"), [Path::new("verifier/src/solver.rs")]);
    assert_eq!(named("ariadne"), [Path::new("lang/src/render/human.rs")]);
}

#[test]
fn every_code_has_one_page() {
    let pages: BTreeSet<String> = files(&root().join("docs/codes"))
        .into_iter()
        .map(|path| path.to_str().unwrap().trim_end_matches(".md").to_owned())
        .collect();
    let codes: BTreeSet<String> = Code::ALL.iter().map(ToString::to_string).collect();
    assert_eq!(pages, codes);
}

/// Codes of checks that this version does not make: the page says what the code will mean, and nothing reports it.
const NOT_REPORTED: &[Code] = &[Code::PW0802];

#[test]
fn every_code_that_is_reported_is_tested() {
    let mut marked = BTreeSet::new();
    for path in
        sources(&["pw", "rs"]).iter().filter(|path| path.components().any(|c| c.as_os_str() == "tests"))
    {
        // These two name codes in lists of exceptions.
        if path.file_name().is_some_and(|name| name == "tidy.rs" || name == "examples.rs") {
            continue;
        }
        for (at, _) in text(path).match_indices("PW") {
            if let Some(code) = text(path).get(at..at + 6).and_then(Code::parse) {
                marked.insert(code);
            }
        }
    }
    let reported = |code: &Code| {
        let name = format!("Code::{code}");
        sources(&["rs"]).iter().any(|path| {
            path.components().any(|c| c.as_os_str() == "src")
                && !path.starts_with("src")
                // Renderers sort codes and report nothing.
                && !path.starts_with("lang/src/render")
                && text(path).contains(&name)
        })
    };
    let mut complaints = Vec::new();
    for code in Code::ALL {
        match (reported(code), NOT_REPORTED.contains(code)) {
            (true, true) => complaints.push(format!("{code} is reported now: take it out of the list")),
            (false, false) => complaints.push(format!("{code} is never reported")),
            (true, false) if !marked.contains(code) => complaints.push(format!("{code} has no test")),
            _ => {}
        }
    }
    report(&complaints);
}

#[test]
fn nothing_is_left_for_later_and_no_check_is_silenced() {
    // Spelled in two parts, so that this file does not complain of itself.
    let words = [
        ("TO", "DO"),
        ("FIX", "ME"),
        ("XX", "X:"),
        ("HA", "CK"),
        ("to", "do!("),
        ("unimpl", "emented!("),
        ("#[ign", "ore"),
        ("allow(cl", "ippy"),
        ("allow(dead", "_code"),
        ("allow(unu", "sed"),
        ("/wo", "rk/"),
        ("/ro", "ot/"),
        ("/ho", "me/"),
        ("crates", ".io"),
        ("as an ", "AI"),
    ];
    let mut complaints = Vec::new();
    for path in sources(&[]).into_iter().filter(|path| path.extension().is_none_or(|e| e != "lock")) {
        for (number, line) in (1..).zip(text(&path).lines()) {
            for (first, second) in words {
                if line.contains(&format!("{first}{second}")) {
                    complaints.push(format!("{}:{number}: {}", path.display(), line.trim()));
                }
            }
        }
    }
    report(&complaints);
}

/// The fields that a schema knows.
fn fields(schema: &Value, at: &str, out: &mut Vec<String>) {
    for (keyword, inner) in schema.as_object().into_iter().flatten() {
        match keyword.as_str() {
            "properties" | "$defs" => {
                for (name, schema) in inner.as_object().unwrap() {
                    let place = if keyword == "$defs" { format!("<{name}>") } else { format!("{at}.{name}") };
                    if keyword == "properties" {
                        out.push(place.clone());
                    }
                    fields(schema, &place, out);
                }
            }
            "items" => fields(inner, &format!("{at}[]"), out),
            "oneOf" => inner.as_array().unwrap().iter().for_each(|one| fields(one, at, out)),
            _ => {}
        }
    }
}

/// `tests/artifacts/documents.txt` has every document's version and fields. `BLESS=1` writes it anew where the version is another.
#[test]
fn a_document_with_other_fields_has_another_version() {
    let mut now = String::new();
    for path in files(&root().join("docs/schemas")) {
        let schema = named(path.to_str().unwrap());
        let Some(version) = schema["properties"]["format_version"]["const"].as_str() else { continue };
        let (mut all, id) = (Vec::new(), schema["$id"].as_str().unwrap());
        fields(&schema, "", &mut all);
        all.sort();
        all.dedup();
        now += &format!("{id} {version}: {}\n", all.join(" "));
    }
    let path = root().join("tests/artifacts/documents.txt");
    let known = std::fs::read_to_string(&path).unwrap_or_default();
    let mut complaints = Vec::new();
    for line in now.lines().filter(|line| !known.lines().any(|k| k == *line)) {
        let (head, _) = line.split_once(':').unwrap();
        if known.lines().any(|k| k.split_once(':').is_some_and(|(k, _)| k == head)) {
            complaints.push(format!("{head} has other fields than it had: that is another version"));
        }
    }
    if complaints.is_empty() {
        complaints.extend(golden(&path, &now));
    }
    report(&complaints);
}
