//! Any line gets an answer that is JSON.
#![no_main]

use compiler::wire::Evaluator;
use compiler::{Compiled, SourceFile};
use lang::ast::Date;
use lang::span::FileId;
use libfuzzer_sys::fuzz_target;
use std::sync::LazyLock;

const FILES: [&str; 3] = [
    include_str!("../../examples/01-quickstart/fabric.pw"),
    include_str!("../../examples/01-quickstart/policy.pw"),
    include_str!("../../examples/01-quickstart/tenants.pw"),
];

static COMPILED: LazyLock<Compiled> = LazyLock::new(|| {
    let parsed: Vec<_> =
        (0..).zip(FILES).map(|(id, text)| (FileId(id), text, lang::parse(FileId(id), text))).collect();
    let files: Vec<SourceFile<'_>> = parsed
        .iter()
        .map(|(id, text, parsed)| SourceFile { id: *id, path: "example.pw", text, tree: &parsed.file })
        .collect();
    compiler::compile(&files, Date { year: 2026, month: 6, day: 1 }).compiled
});

fuzz_target!(|line: &str| {
    let (answer, malformed) = Evaluator::new(&COMPILED).line(line);
    let value: serde_json::Value = serde_json::from_str(&answer).expect("an answer is JSON");
    assert_eq!(value.get("error").is_some(), malformed);
});
