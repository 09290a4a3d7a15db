//! Diagnostics for people and programs.

use partywall_lang::codes::Code;
use partywall_lang::diag::{Diagnostic, Severity, WitnessText};
use partywall_lang::parse;
use partywall_lang::render::{JsonOptions, concise, human, json, sort};
use partywall_lang::source::{Position, Sources};
use partywall_lang::span::{FileId, Span};

const OPTIONS: JsonOptions<'static> = JsonOptions { version: "1.2.3", project: "net" };

/// The place of `word` in a file.
fn place(sources: &Sources, file: FileId, word: &str) -> Span {
    let start = sources.get(file).and_then(|source| source.text().find(word)).unwrap_or_default();
    assert_ne!(start, 0, "{word}");
    Span::new(file, start as u32, (start + word.len()) as u32)
}

/// Two files that are not ASCII, with a finding over both.
fn sample() -> (Sources, Vec<Diagnostic>) {
    let mut sources = Sources::new();
    let a = sources.add("tenants/käse.pw", "// Größe, 漢字 und 🧀\ntenant ü { /* ß */ deny alpha -> β }\n");
    let b = sources.add("a.pw", "// été été été\n// zweite Zeile: äöü\n   é é é rule-two\n");
    let finding = Diagnostic::new(Code::PW0402, place(&sources, a, "alpha"), "`ünïcode` is shadowed")
        .label("never reached, größer")
        .related(place(&sources, b, "rule-two"), "covers all of it, größtenteils")
        .note("a fact, with 漢字")
        .help("remove it — or move it up")
        .rule("p.x")
        .witness(WitnessText {
            human: "tcp 10.1.0.5:40000 -> 10.1.1.9:5432 in shop".to_owned(),
            packet_json: r#"{"in":"shop","proto":"tcp"}"#.to_owned(),
            decision_json: r#"{"verdict":"deny"}"#.to_owned(),
        });
    let plain = Diagnostic::new(Code::PW0101, place(&sources, b, "é é é"), "unknown name");
    (sources, vec![finding, plain])
}

#[test]
fn people_see_the_right_words_underlined() {
    let (sources, mut found) = sample();
    sort(&sources, &mut found);
    insta::assert_snapshot!(human(&sources, &found, false));
    let coloured = human(&sources, &found, true);
    assert!(coloured.contains("\u{1b}["));
    assert!(!human(&sources, &found, false).contains('\u{1b}'));
}

#[test]
fn one_line_each() {
    let (sources, mut found) = sample();
    sort(&sources, &mut found);
    assert_eq!(
        concise(&sources, &found),
        "a.pw:3:4: error[PW0101] unknown name\ntenants/käse.pw:2:25: warning[PW0402] `ünïcode` is shadowed\n"
    );
}

#[test]
fn the_document() {
    let (sources, mut found) = sample();
    sort(&sources, &mut found);
    found.push(Diagnostic::new(Code::PW0901, Span::default(), "undecided"));
    let text = json(&sources, &found, OPTIONS).unwrap();
    insta::assert_snapshot!(text);
    let value: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(value["summary"], serde_json::json!({"errors": 2, "warnings": 1, "notes": 0, "undecided": 1}));
    assert!(value["findings"][0].get("witness").is_none());
    assert!(value["findings"][0].get("help").is_none());
}

#[test]
fn positions() {
    let mut sources = Sources::new();
    let file = sources.add("x.pw", "a\nüb\r\n🧀c");
    let at = |offset| sources.get(file).unwrap().position(offset);
    let expected = [
        (0, 1, 1),
        (1, 1, 2),
        (2, 2, 1),
        // Within `ü`.
        (3, 2, 1),
        (4, 2, 2),
        (7, 3, 1),
        (11, 3, 2),
        (12, 3, 3),
        // After the end.
        (99, 3, 3),
    ];
    for (offset, line, column) in expected {
        assert_eq!(at(offset), Position { line, column }, "offset {offset}");
    }
    assert_eq!(sources.get(file).unwrap().line(2), Some("üb"));
    assert_eq!(sources.get(file).unwrap().line(4), None);
    assert_eq!(sources.slice(Span::new(file, 2, 4)), "ü");
    // A file that is not known has no text and is no reason to fail.
    assert_eq!(sources.slice(Span::new(FileId(9), 0, 1)), "");
    let stray = [Diagnostic::new(Code::PW0101, Span::new(FileId(9), 5, 6), "nowhere")];
    assert_eq!(concise(&sources, &stray), ":1:1: error[PW0101] nowhere\n");
    assert!(human(&sources, &stray, false).starts_with("error[PW0101]: nowhere\n"));
}

#[test]
fn the_order_depends_on_places_alone() {
    let (sources, mut found) = sample();
    found.push(found[1].clone().severity(Severity::Note));
    found.push(found[0].clone());
    let mut reversed: Vec<_> = found.iter().rev().cloned().collect();
    sort(&sources, &mut found);
    sort(&sources, &mut reversed);
    assert_eq!(found, reversed);
    // An exact repeat is left out.
    assert_eq!(found.len(), 3);
}

#[test]
fn empty_places_and_ends_of_files() {
    for text in ["", "\n", "x", "group a = (b\n", "policy p in t {\n", "é"] {
        let mut sources = Sources::new();
        let file = sources.add("x.pw", text);
        let end = text.len() as u32;
        let mut found = parse(file, text).diagnostics;
        found.push(Diagnostic::new(Code::PW0004, Span::new(file, end, end), "at the end"));
        found.push(Diagnostic::new(Code::PW0004, Span::new(file, end, end + 10), "after the end"));
        let shown = human(&sources, &found, false);
        assert!(shown.contains("at the end") && shown.contains("after the end"), "{text:?}\n{shown}");
        assert!(shown.contains("x.pw:"), "{text:?}\n{shown}");
    }
}

#[test]
fn long_lines_are_shown_in_part() {
    let mut sources = Sources::new();
    let text = format!("group a = {}@", "b | ".repeat(50_000));
    let file = sources.add("long.pw", text.as_str());
    let found = parse(file, &text).diagnostics;
    assert_eq!(found.len(), 1);
    let shown = human(&sources, &found, false);
    assert!(shown.len() < 400, "{} bytes", shown.len());
    assert!(shown.contains("long.pw:1:200011: `@`"), "{shown}");
}

#[test]
fn spans_of_many_lines_are_shown_by_their_first() {
    let mut sources = Sources::new();
    let text = "policy p in t {\n".to_owned() + &"  allow a -> b\n".repeat(1000) + "}\n";
    let file = sources.add("x.pw", text.as_str());
    let found = [Diagnostic::new(Code::PW0407, Span::new(file, 0, text.len() as u32), "all of it")];
    assert!(human(&sources, &found, false).lines().count() < 10);
}

#[test]
fn nothing_in_a_file_steers_the_terminal() {
    let mut sources = Sources::new();
    let text = "group a = \u{1b}[31m\u{7}\u{202e}b\u{2028}c\n";
    let file = sources.add("x.pw", text);
    let mut found = parse(file, text).diagnostics;
    found.push(Diagnostic::new(Code::PW0101, Span::new(file, 0, 5), "a\u{1b}[2Jb"));
    for shown in [human(&sources, &found, false), concise(&sources, &found)] {
        assert!(!shown.contains(['\u{1b}', '\u{7}', '\u{202e}', '\u{2028}']), "{shown}");
    }
}
