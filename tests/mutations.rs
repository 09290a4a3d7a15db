//! The stable twins of the fuzz targets `compile` and `eval_wire`: projects and packets that are almost right.

mod support;

use compiler::wire::Evaluator;
use compiler::{Compilation, Compiled, SourceFile};
use lang::ast::Date;
use lang::span::FileId;
use proptest::prelude::*;
use serde_json::Value;
use std::sync::LazyLock;
use support::root;

const TODAY: Date = Date { year: 2026, month: 6, day: 1 };

/// The examples' files: project by project.
static EXAMPLES: LazyLock<Vec<Vec<String>>> = LazyLock::new(|| {
    ["examples/01-quickstart", "examples/02-datacenter", "examples/03-broken"]
        .iter()
        .map(|example| {
            let folder = root().join(example);
            support::files(&folder)
                .into_iter()
                .filter(|path| path.extension().is_some_and(|e| e == "pw"))
                .map(|path| String::from_utf8_lossy(&std::fs::read(folder.join(path)).unwrap()).into_owned())
                .collect()
        })
        .collect()
});

static QUICKSTART: LazyLock<Compiled> = LazyLock::new(|| compile(&EXAMPLES[0]).compiled);

fn compile(texts: &[String]) -> Compilation {
    let parsed: Vec<_> =
        (0..).zip(texts).map(|(id, text)| (FileId(id), text, lang::parse(FileId(id), text))).collect();
    let files: Vec<SourceFile<'_>> = parsed
        .iter()
        .map(|(id, text, parsed)| SourceFile { id: *id, path: "example.pw", text, tree: &parsed.file })
        .collect();
    compiler::compile(&files, TODAY)
}

/// The words, numbers and signs of a text, and what stands between them.
fn tokens(text: &str) -> Vec<&str> {
    let kind = |c: char| (c.is_alphanumeric() || "_-.:".contains(c), c.is_whitespace());
    let mut found = Vec::new();
    let mut start = 0;
    let mut last = None;
    for (at, c) in text.char_indices() {
        let now = kind(c);
        if last.is_some_and(|last| last != now || now == (false, false)) {
            found.push(&text[start..at]);
            start = at;
        }
        last = Some(now);
    }
    found.push(&text[start..]);
    found
}

#[derive(Debug, Clone)]
enum Edit {
    Remove(usize),
    Repeat(usize),
    Swap(usize, usize),
    Put(usize, &'static str),
}

fn edit() -> impl Strategy<Value = Edit> {
    let words = [
        "any",
        "{",
        "}",
        "(",
        ")",
        "|",
        "&",
        "except",
        "allow",
        "deny",
        "via",
        "10.1.0.0/24",
        "0.0.0.0/0",
        "::/0",
        "fd00::1",
        "4294967296",
        "16777216",
        "0",
        "65536",
        "tagged(",
        "expose",
        "as",
        "\"",
        "'",
        "é",
        "->",
        "..",
        "expires 2026-02-29",
    ];
    prop_oneof![
        any::<usize>().prop_map(Edit::Remove),
        any::<usize>().prop_map(Edit::Repeat),
        any::<(usize, usize)>().prop_map(|(a, b)| Edit::Swap(a, b)),
        (any::<usize>(), proptest::sample::select(words.to_vec())).prop_map(|(at, word)| Edit::Put(at, word)),
    ]
}

fn apply(texts: &[String], edits: &[(usize, Edit)]) -> Vec<String> {
    let mut texts = texts.to_vec();
    for (file, edit) in edits {
        let at = file % texts.len();
        let mut parts = tokens(&texts[at]);
        let count = parts.len();
        match edit {
            Edit::Remove(n) => drop(parts.remove(n % count)),
            Edit::Repeat(n) => parts.insert(n % count, parts[n % count]),
            Edit::Swap(a, b) => parts.swap(a % count, b % count),
            Edit::Put(n, word) => parts.insert(n % count, word),
        }
        texts[at] = parts.concat();
        if texts[at].is_empty() {
            texts[at].push('\n');
        }
    }
    texts
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever is done to a project, it compiles to something, each finding lies in its text, and packets are answered.
    #[test]
    fn almost_right_projects_compile_to_something(
        example in 0_usize..3,
        edits in proptest::collection::vec((any::<usize>(), edit()), 1..8),
    ) {
        let texts = apply(&EXAMPLES[example], &edits);
        let Compilation { compiled, diagnostics } = compile(&texts);
        for finding in &diagnostics {
            let text = &texts[finding.span.file.0 as usize];
            prop_assert!(finding.span.end as usize <= text.len(), "{finding:?}");
            prop_assert!(!finding.message.is_empty() && !finding.message.ends_with('.'), "{finding:?}");
        }
        let line = r#"{"in":"shop","proto":"tcp","src":"10.1.0.5","sport":40000,"dst":"100.64.2.5","dport":443}"#;
        let (answer, _) = Evaluator::new(&compiled).line(line);
        prop_assert!(serde_json::from_str::<Value>(&answer).is_ok(), "{answer}");
    }

    /// Any line gets an answer that is JSON, and says `error` exactly if the line was malformed.
    #[test]
    fn any_line_is_answered(line in line()) {
        let (answer, malformed) = Evaluator::new(&QUICKSTART).line(&line);
        let answer: Value = serde_json::from_str(&answer).unwrap();
        prop_assert_eq!(answer.get("error").is_some(), malformed);
        prop_assert_eq!(answer.get("verdict").is_some(), !malformed);
    }
}

fn line() -> impl Strategy<Value = String> {
    let value = prop_oneof![
        proptest::sample::select(vec![
            "\"shop\"",
            "\"payments\"",
            "\"tcp\"",
            "\"icmp\"",
            "\"icmp6\"",
            "\"10.1.0.5\"",
            "\"10.1.1.9\"",
            "\"100.64.2.5\"",
            "\"fd00::1\"",
            "\"::ffff:10.1.0.5\"",
            "\"10.1.0.0/24\"",
            "443",
            "-1",
            "65536",
            "1.5",
            "null",
            "true",
            "[]",
            "{}",
            "6",
            "58",
        ])
        .prop_map(str::to_owned),
        any::<u32>().prop_map(|n| n.to_string()),
    ];
    let field =
        proptest::sample::select(vec!["in", "proto", "src", "dst", "sport", "dport", "type", "code", "more"]);
    let object = proptest::collection::btree_map(field, value, 0..9).prop_map(|fields| {
        let fields: Vec<String> = fields.iter().map(|(name, value)| format!("\"{name}\":{value}")).collect();
        format!("{{{}}}", fields.join(","))
    });
    prop_oneof![4 => object, 1 => any::<String>()]
}
