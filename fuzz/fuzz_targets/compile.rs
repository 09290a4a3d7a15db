//! Any text compiles to something, with findings or without.
#![no_main]

use compiler::SourceFile;
use lang::ast::Date;
use lang::span::FileId;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let parsed = lang::parse(FileId(0), text);
    let file = SourceFile { id: FileId(0), path: "fuzz.pw", text, tree: &parsed.file };
    let _ = compiler::compile(&[file], Date { year: 2026, month: 6, day: 1 });
});
