//! The one layout.

use partywall_lang::fmt::format;
use partywall_lang::parse;
use partywall_lang::span::FileId;

#[track_caller]
#[expect(clippy::panic, reason = "fails the test that calls it")]
fn laid_out(text: &str) -> String {
    let once = format(text).unwrap_or_else(|errors| panic!("{errors:#?}"));
    let twice = format(&once).unwrap_or_else(|errors| panic!("{once}\n{errors:#?}"));
    assert_eq!(once, twice, "not stable");
    once
}

#[test]
fn the_reference() {
    insta::assert_snapshot!(laid_out(include_str!("corpus/reference.pw")));
}

#[test]
fn comments_stay_where_they_stand() {
    insta::assert_snapshot!(laid_out(include_str!("corpus/comments.pw")));
}

#[test]
fn white_space_alone_changes_nothing() {
    let text = include_str!("corpus/reference.pw");
    let expected = laid_out(text);
    // Windows line ends, and indentation with tabs.
    assert_eq!(laid_out(&text.replace('\n', "\r\n")), expected);
    assert_eq!(laid_out(&text.replace("\n  ", "\n\t\t \t")), expected);
    assert_eq!(laid_out(&format!("\u{feff}{text}")), expected);
}

#[test]
fn small_texts() {
    for (text, expected) in [
        ("", ""),
        ("\n\n", ""),
        ("// only a comment", "// only a comment\n"),
        ("\n\n// a\n\n\n\n// b\n", "// a\n\n// b\n"),
        ("group a=b|c&d except(e,f)", ""),
        ("group a=b|c&d except(e|f)", "group a = b | c & d except (e | f)\n"),
        ("group a=b group c=d\n\n\ngroup e=f", "group a = b\ngroup c = d\n\ngroup e = f\n"),
        ("service s=tcp/{1,2..3}from 4..5|icmp/3/4", "service s = tcp/{1, 2..3} from 4..5 | icmp/3/4\n"),
        ("policy p in t{}", "policy p in t {}\n"),
        ("policy p in t{allow a->b}", "policy p in t { allow a -> b }\n"),
        ("policy p in t{allow a->b deny c->d}", "policy p in t {\n  allow a -> b\n  deny c -> d\n}\n"),
        ("policy p in t{x :allow a->b:c}", "policy p in t { x: allow a -> b : c }\n"),
        (
            "test \"x\"{packet in t tcp 10.0.0.1:1->10.0.0.2:2 is allow by p . x#1}",
            "test \"x\" {\n  packet in t tcp 10.0.0.1:1 -> 10.0.0.2:2 is allow by p.x#1\n}\n",
        ),
        (
            "test \"x\"{packet in t udp [fd00::1]:1->[fd00::2]:2 is deny}",
            "test \"x\" {\n  packet in t udp [fd00::1]:1 -> [fd00::2]:2 is deny\n}\n",
        ),
        ("group a = tagged ( b )", "group a = tagged(b)\n"),
        ("policy `log` in t{`any` :deny a->b}", "policy `log` in t { `any`: deny a -> b }\n"),
    ] {
        if expected.is_empty() && !text.trim().is_empty() {
            assert!(format(text).is_err(), "{text}");
        } else {
            assert_eq!(laid_out(text), expected, "{text}");
        }
    }
}

#[test]
fn long_lines_break_where_they_can() {
    let names: Vec<String> = (0..60).map(|n| format!("tenant-{n}.segment-{n}")).collect();
    let text = format!("group all = {}", names.join("|"));
    let out = laid_out(&text);
    assert!(out.lines().count() > 10);
    assert!(out.lines().all(|line| line.len() <= 120), "{out}");
    let text = format!("external e {{ {} }}", vec!["10.0.0.0/8"; 20].join(","));
    let out = laid_out(&text);
    assert_eq!(out.lines().count(), 22, "{out}");
}

#[test]
fn what_cannot_be_parsed_is_refused() {
    let errors = format("group a = \n").unwrap_err();
    assert_eq!(errors.len(), 1);
    assert!(format("group a = b \0").is_err());
    // A warning is no reason to refuse.
    assert_eq!(laid_out("group a = b\n/// loose\n"), "group a = b\n/// loose\n");
}

#[test]
fn layout_keeps_the_tree() {
    for text in [include_str!("corpus/reference.pw"), include_str!("corpus/comments.pw")] {
        let before = parse(FileId(0), text);
        let after = parse(FileId(0), &laid_out(text));
        assert!(!before.has_errors(), "{:#?}", before.diagnostics);
        let docs = |file: &partywall_lang::ast::File| -> Vec<Vec<String>> {
            file.items.iter().map(|item| item.docs.clone()).collect()
        };
        assert_eq!(docs(&before.file), docs(&after.file));
        assert_eq!(before.file.suppressions.len(), after.file.suppressions.len());
    }
}
