//! Programs and entries of the p4 target: whatever a file holds, it is read or refused, and never runs away.
#![no_main]

use backends::p4::entries::fits;
use backends::p4::program::{Program, parse};
use backends::p4::{PROGRAM, bmv2, protobuf};
use libfuzzer_sys::fuzz_target;
use std::sync::LazyLock;

static OURS: LazyLock<Program> = LazyLock::new(|| parse(PROGRAM).expect("the program that is emitted"));

fuzz_target!(|text: &str| {
    let _ = parse(text);
    for entries in [protobuf(&OURS, text), bmv2(&OURS, text)].into_iter().flatten() {
        // What is read fits the program.
        assert!(entries.iter().all(|(entry, _)| fits(&OURS, &entry).is_ok()));
    }
});
