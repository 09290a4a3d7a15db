//! Programs and entries of the p4 target: whatever a file holds, it is read or refused, and never runs away.
#![no_main]

use backends::p4::program::parse;
use backends::p4::{PROGRAM, bmv2, protobuf};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let _ = parse(text);
    if let Ok(program) = parse(PROGRAM) {
        if let Ok(entries) = protobuf(&program, text) {
            // What is read fits the program.
            assert!(entries.iter().all(|(entry, _)| backends::p4::entries::fits(&program, &entry).is_ok()));
        }
        let _ = bmv2(&program, text);
    }
});
