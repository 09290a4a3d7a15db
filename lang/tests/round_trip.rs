//! `parse(print(x)) == x` up to places, printing twice changes nothing, and no input makes anything panic.

mod common;

use common::{file, shape};
use partywall_lang::fmt::{format, print};
use partywall_lang::source::Sources;
use partywall_lang::span::FileId;
use partywall_lang::{parse, parse_bytes, parse_packet, parse_query, render};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

const WORDS: &[&str] = &[
    "allow",
    "deny",
    "pass",
    "policy",
    "tenant",
    "group",
    "segment",
    "expose",
    "a",
    "b",
    "p.q",
    "any",
    "->",
    ":",
    "|",
    "&",
    "except",
    ",",
    "(",
    ")",
    "{",
    "}",
    "=",
    "tcp",
    "/",
    "443",
    "1..2",
    "10.0.0.0/8",
    "fd00::1",
    "to",
    "via",
    "as",
    "clients",
    "in",
    "for",
    "log",
    "expires",
    "2026-12-31",
    "because",
    "\"x\"",
    "\"",
    "`",
    "test",
    "packet",
    "is",
    "isolate",
    "from",
    "transitively",
    "vni",
    "id",
    "7",
    "gateway",
    "joins",
    "instances",
    "stateful",
    "endpoint",
    "at",
    "mac",
    "02:00:00:00:00:01",
    "node",
    "fabric",
    "encap",
    "precedence",
    ">",
    "same-tenant",
    "tagged",
    "[",
    "]",
    "#",
    "// c\n",
    "/// d\n",
    "\n",
    "// partywall: allow(PW0402) r\n",
    "polcy",
    "alow",
    "é",
    "\u{2028}",
    "x:",
    "service",
    "external",
    "extend",
    "route",
    "direct",
    "overrides",
    "allowing",
    "..",
    ".",
    "@",
    "65536x",
    "from {",
];

fn soup() -> impl Strategy<Value = String> {
    vec(select(WORDS), 0..80).prop_map(|words| words.join(" "))
}

/// Everything that takes text.
fn everything(text: &str) -> Result<(), TestCaseError> {
    let mut sources = Sources::new();
    let file = sources.add("soup.pw", text);
    let parsed = parse(file, text);
    for diagnostic in &parsed.diagnostics {
        prop_assert!(diagnostic.span.end as usize <= text.len() + 1);
        prop_assert!(!diagnostic.message.is_empty());
    }
    let mut diagnostics = parsed.diagnostics.clone();
    render::sort(&sources, &mut diagnostics);
    let human = render::human(&sources, &diagnostics, true);
    prop_assert_eq!(human.is_empty(), diagnostics.is_empty());
    prop_assert_eq!(render::concise(&sources, &diagnostics).lines().count(), diagnostics.len());
    let options = render::JsonOptions { version: "0.0.0", project: "." };
    prop_assert!(render::json(&sources, &diagnostics, options).is_ok());
    let _ = parse_packet(text);
    let _ = parse_query(text);
    match format(text) {
        Ok(once) => {
            prop_assert!(!parsed.has_errors());
            prop_assert_eq!(shape(&parse(FileId(0), &once).file), shape(&parsed.file));
            prop_assert_eq!(format(&once).ok(), Some(once));
        }
        Err(errors) => prop_assert!(!errors.is_empty() && parsed.has_errors()),
    }
    // What was read can be printed, errors or none.
    let _ = print(&parsed.file);
    Ok(())
}

/// Comments put between tokens at will: each is there afterwards, once.
fn sprinkle(text: &str, every: usize) -> (String, usize) {
    let mut out = String::new();
    let mut count = 0;
    for (at, word) in text.split_inclusive(' ').enumerate() {
        out.push_str(word);
        // Within a string a comment is text.
        let inside = out.lines().last().is_some_and(|line| line.contains('"') || line.contains("//"));
        if at % every == every - 1 && word.ends_with(' ') && !inside {
            out.push_str(&format!("// remark {count}\n"));
            count += 1;
        }
    }
    (out, count)
}

proptest! {
    #[test]
    fn print_and_parse(file in file()) {
        let text = print(&file);
        let parsed = parse(FileId(0), &text);
        prop_assert!(parsed.diagnostics.is_empty(), "{}\n{:#?}", text, parsed.diagnostics);
        prop_assert_eq!(shape(&parsed.file), shape(&file), "{}", text);
        prop_assert_eq!(print(&parsed.file), text.clone());
        prop_assert_eq!(format(&text), Ok(text));
    }

    #[test]
    fn no_comment_is_lost(file in file(), every in 1..6_usize) {
        let (text, count) = sprinkle(&print(&file), every);
        let once = format(&text);
        prop_assert!(once.is_ok(), "{}\n{:#?}", text, once);
        let once = once.unwrap_or_default();
        for number in 0..count {
            prop_assert_eq!(once.matches(&format!("// remark {number}\n")).count(), 1, "{}", once);
        }
        let (before, after) = (parse(FileId(0), &text), parse(FileId(0), &once));
        prop_assert_eq!(shape(&before.file), shape(&after.file));
        prop_assert_eq!(format(&once), Ok(once));
    }

    #[test]
    fn soups_of_tokens(text in soup()) {
        everything(&text)?;
    }

    #[test]
    fn soups_of_characters(text in "\\PC{0,200}") {
        everything(&text)?;
    }

    #[test]
    fn soups_of_bytes(bytes in vec(any::<u8>(), 0..300)) {
        let parsed = parse_bytes(FileId(0), &bytes);
        if let Ok(text) = std::str::from_utf8(&bytes) {
            everything(text)?;
        } else {
            prop_assert_eq!(parsed.diagnostics.len(), 1);
        }
    }

    #[test]
    fn one_token_changed(file in file(), at in any::<prop::sample::Index>(), word in select(WORDS)) {
        let text = print(&file);
        let mut words: Vec<&str> = text.split_inclusive([' ', '\n']).collect();
        if !words.is_empty() {
            let at = at.index(words.len());
            words[at] = word;
            everything(&words.concat())?;
        }
    }
}
