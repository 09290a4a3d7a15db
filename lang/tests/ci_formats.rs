//! Reports for continuous integration at their limits: escapes, fingerprints, more findings than readers take.

use partywall_lang::codes::Code;
use partywall_lang::diag::{Diagnostic, Hop, Severity, WitnessText};
use partywall_lang::render::{
    CiOptions, JsonOptions, MOST_SARIF_RESULTS, fingerprints, github, gitlab, human, json, junit, rdjson,
    sarif,
};
use partywall_lang::source::Sources;
use partywall_lang::span::{FileId, Span};
use serde_json::Value;
use std::collections::BTreeSet;

const OPTIONS: CiOptions<'static> = CiOptions { version: "1.2.3", project: "net", prefix: "" };

/// A finding at the `nth` place of `word`.
fn at(sources: &Sources, file: FileId, word: &str, nth: usize, message: &str) -> Diagnostic {
    let text = sources.get(file).unwrap().text();
    let start = text.match_indices(word).nth(nth).unwrap().0 as u32;
    Diagnostic::new(Code::PW0101, Span::new(file, start, start + word.len() as u32), message)
}

fn results(sources: &Sources, found: &[Diagnostic]) -> (Value, Vec<Value>) {
    let document: Value = serde_json::from_str(&sarif(sources, found, OPTIONS).unwrap()).unwrap();
    let run = document["runs"][0].clone();
    let results = run["results"].as_array().unwrap().clone();
    (run, results)
}

#[test]
fn fingerprints_stay_while_other_lines_come_and_go() {
    let names = |text: &str, message: &str| {
        let mut sources = Sources::new();
        let file = sources.add("a.pw", text);
        let found = [at(&sources, file, "frnt", 0, message), at(&sources, file, "frnt", 1, message)];
        fingerprints(&sources, &found, "")
    };
    let first = names("allow frnt -> frnt\n", "unknown name `frnt`");
    assert_ne!(first[0], first[1]);
    assert!(first.iter().all(|name| name.len() == 32));
    assert_eq!(first, names("// more\n\n\tallow   frnt ->\n  frnt\n// last\n", "unknown name `frnt`"));
    assert_ne!(first, names("allow frnt -> frnt\n", "unknown name `front`"));
    // Days left and ordinals of unlabelled rules change by themselves; numbers in names are part of them.
    assert_eq!(
        names("frnt frnt", "`app#1` expires in 14 days"),
        names("frnt frnt", "`app#12` expires in 9 days")
    );
    assert_ne!(names("frnt frnt", "`web1` is idle"), names("frnt frnt", "`web2` is idle"));
    // One finding more leaves the names of the others.
    let mut sources = Sources::new();
    let file = sources.add("a.pw", "frnt frnt frnt");
    let found: Vec<_> = (0..3).map(|n| at(&sources, file, "frnt", n, "unknown name `frnt`")).collect();
    let three = fingerprints(&sources, &found, "");
    assert_eq!(three[..2], fingerprints(&sources, &found[..2], ""));
    assert_ne!(three, fingerprints(&sources, &found, "other/"));
}

#[test]
fn line_hashes_are_those_of_the_upload_action() {
    // Values computed by the published algorithm.
    let text = "  \n\n zoë 🧀\n".to_owned() + &"é".repeat(150) + "\nq";
    for (text, line, hash) in [
        ("a\nb\r\nc\rd", 0, "271789c17abda88f:1"),
        ("a\nb\r\nc\rd", 1, "54703d4cd895b18:1"),
        ("x\n", 0, "828973aa50c68d6d:1"),
        (text.as_str(), 2, "e0b6fb3173a5c12:1"),
        (text.as_str(), 4, "9fe00a866ef87334:1"),
    ] {
        let mut sources = Sources::new();
        let file = sources.add("a.pw", text);
        let start = text.split_inclusive('\n').take(line).map(str::len).sum::<usize>() as u32;
        let found = [Diagnostic::new(Code::PW0101, Span::new(file, start, start + 1), "unknown")];
        let (_, results) = results(&sources, &found);
        assert_eq!(results[0]["partialFingerprints"]["primaryLocationLineHash"], hash);
    }
    // Two findings of a code on one line are two alerts.
    let mut sources = Sources::new();
    let file = sources.add("a.pw", "x x\n");
    let found = [at(&sources, file, "x", 0, "unknown"), at(&sources, file, "x", 1, "unknown")];
    let (_, results) = results(&sources, &found);
    let hash = |n: usize| results[n]["partialFingerprints"]["primaryLocationLineHash"].as_str().unwrap();
    assert_eq!(format!("{}-2", hash(0)), hash(1));
}

#[test]
fn sarif_keeps_the_worst_and_says_so() {
    let mut sources = Sources::new();
    let file = sources.add("a.pw", "x");
    let mut found =
        vec![at(&sources, file, "x", 0, "unknown").severity(Severity::Warning); MOST_SARIF_RESULTS + 1];
    found.push(at(&sources, file, "x", 0, "the worst"));
    let (run, cut) = results(&sources, &found);
    assert_eq!(cut.len(), MOST_SARIF_RESULTS);
    assert_eq!(cut[0]["message"]["text"], "the worst");
    let said = run["invocations"][0]["toolExecutionNotifications"][0]["message"]["text"].as_str().unwrap();
    assert!(said.starts_with("2 findings are left out"), "{said}");
    let names: BTreeSet<String> =
        cut.iter().map(|result| result["partialFingerprints"].to_string()).collect();
    assert_eq!(names.len(), cut.len());
    // As many as are taken are all there, in the order given.
    let (run, whole) = results(&sources, &found[2..]);
    assert_eq!(
        (whole.len(), &whole[whole.len() - 1]["message"]["text"]),
        (MOST_SARIF_RESULTS, &"the worst".into())
    );
    assert!(run["invocations"][0].get("toolExecutionNotifications").is_none());
}

#[test]
fn sarif_is_bounded_in_bytes_and_places() {
    let mut sources = Sources::new();
    let file = sources.add("a.pw", "x");
    let long = "long ".repeat(4_000);
    let mut one = at(&sources, file, "x", 0, &long).label(&*long).help(&*long);
    let span = one.span;
    for _ in 0..150 {
        one = one.related(span, "another [place] of 10");
    }
    let text = sarif(&sources, &vec![one.clone(); 2_000], OPTIONS).unwrap();
    assert!(text.len() < 62_000_000, "{}", text.len());
    assert!(text.contains("findings are left out"));
    let (_, results) = results(&sources, &[one]);
    assert!(results[0]["relatedLocations"].as_array().unwrap().len() < 100);
    assert!(results[0]["message"]["text"].as_str().unwrap().chars().count() <= 4_000);
}

#[test]
fn sarif_links_lead_where_they_should() {
    let mut sources = Sources::new();
    let file = sources.add("a.pw", "x y");
    let other = at(&sources, file, "y", 0, "").span;
    let found = at(&sources, file, "x", 0, "see [this](http://example.org)")
        .related(other, r"a [b] \ c")
        .related(other, "");
    let (_, results) = results(&sources, &[found]);
    assert_eq!(
        results[0]["message"]["text"],
        "see [this] (http://example.org)\n[a \\[b\\] \\\\ c](1)\n[another place](2)"
    );
    assert!(results[0]["relatedLocations"][1].get("message").is_none(), "no empty text");
}

#[test]
fn commands_cannot_be_forged() {
    let mut sources = Sources::new();
    let file = sources.add("a,b: 5%.pw", "x\ny");
    let found = [at(&sources, file, "x", 0, "100%\n::error::forged\r").help("do, this: 1%")];
    assert_eq!(
        github(&sources, &found, ""),
        "::error file=a%2Cb%3A 5%25.pw,line=1,col=1,endLine=1,endColumn=2,title=PW0101::100%25 ::error::forged %0Ahelp: do, this: 1%25\n"
    );
    // GitHub drops the columns of several lines: the beginning is what counts.
    let long = [Diagnostic::new(Code::PW0701, Span::new(file, 0, 3), "m").severity(Severity::Note)];
    assert_eq!(
        github(&sources, &long, "p/"),
        "::notice file=p/a%2Cb%3A 5%25.pw,line=1,col=1,title=PW0701::m\n"
    );
}

#[test]
fn nothing_breaks_on_odd_findings() {
    let mut sources = Sources::new();
    let file = sources.add("a.pw", "é\u{1}x");
    // No file, no message, control characters.
    let found = [
        Diagnostic::new(Code::PW0901, Span::new(FileId(7), 3, 9), ""),
        at(&sources, file, "x", 0, "bad \u{1} \u{fffe} <&>\"'").note(""),
    ];
    let (_, results) = results(&sources, &found);
    assert_eq!(results[0]["message"]["text"], Code::PW0901.title());
    assert_eq!(results[0]["locations"][0]["physicalLocation"]["artifactLocation"]["uri"], "a.pw");
    assert_eq!(results[1]["locations"][0]["physicalLocation"]["region"]["startColumn"], 3);
    let xml = junit(&sources, &found, "").unwrap();
    assert!(xml.contains("&lt;&amp;&gt;") && !xml.contains(['\u{1}', '\u{fffe}']), "{xml}");
    assert!(gitlab(&sources, &found, "").unwrap().contains("\"path\": \"a.pw\""));
    let document: Value = serde_json::from_str(&rdjson(&sources, &found, "").unwrap()).unwrap();
    // Columns in bytes: é has two.
    assert_eq!(document["diagnostics"][1]["location"]["range"]["start"]["column"], 4);
    assert_eq!(document["diagnostics"][1]["location"]["range"]["end"]["column"], 5);
    // A project without files.
    let none = Sources::new();
    assert!(junit(&none, &[], "").unwrap().contains("tests=\"0\""));
    assert_eq!(gitlab(&none, &[], "").unwrap(), "[]\n");
    assert_eq!(github(&none, &[], ""), "");
    assert!(sarif(&none, &[], OPTIONS).is_ok() && rdjson(&none, &[], "").is_ok());
}

#[test]
fn one_name_is_one_case() {
    let mut sources = Sources::new();
    let file = sources.add("a.pw", "x x");
    let found = [at(&sources, file, "x", 0, "unknown `x`"), at(&sources, file, "x", 1, "unknown `x`")];
    let xml = junit(&sources, &found, "sub/").unwrap();
    assert!(
        xml.contains("name=\"PW0101 unknown `x`\"") && xml.contains("name=\"PW0101 unknown `x` (2)\""),
        "{xml}"
    );
    assert!(xml.contains("file=\"sub/a.pw\" line=\"1\""), "{xml}");
}

/// People see the first hops of a long chain and how many there are more; the formats for machines have them all.
#[test]
fn a_long_chain_is_cut_for_people_alone() {
    let mut sources = Sources::new();
    let file = sources.add("a.pw", "isolate a from b transitively\n");
    let mut found = at(&sources, file, "isolate", 0, "isolation is broken");
    found.chain = (0..333)
        .map(|n| Hop {
            text: format!("from {n} to {}", n + 1),
            opened: (n % 2 == 0).then(|| format!("open{n}")),
            rules: vec![format!("rule{n}")],
            witness: WitnessText {
                human: format!("packet {n}"),
                packet_json: format!("{{\"n\":{n}}}"),
                decision_json: "{\"verdict\":\"allow\"}".to_owned(),
            },
        })
        .collect();
    let found = [found];
    for text in [human(&sources, &found, false), junit(&sources, &found, "").unwrap()] {
        assert_eq!(text.matches("hop ").count(), 10, "{text}");
        assert!(
            text.contains("hop 10: from 9 to 10") && text.contains("323 more hops are not shown"),
            "{text}"
        );
    }
    let options = JsonOptions { version: "1.2.3", project: "net" };
    let document: Value = serde_json::from_str(&json(&sources, &found, options).unwrap()).unwrap();
    let bag = &results(&sources, &found).1[0]["properties"];
    for chain in [&document["findings"][0]["chain"], &bag["chain"]] {
        let chain = chain.as_array().unwrap();
        assert_eq!(chain.len(), 333);
        assert_eq!(chain[332]["packet"]["n"], 332);
        assert_eq!((&chain[0]["opened"], &chain[1]["opened"]), (&Value::from("open0"), &Value::Null));
        assert_eq!(chain[7]["rules"][0], "rule7");
        assert_eq!(chain[7]["decision"]["verdict"], "allow");
    }
}
