//! Any bytes: a tree and a bounded list of findings, whose places lie in the text.
#![no_main]

use lang::span::FileId;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let parsed = lang::parse_bytes(FileId(0), bytes);
    assert!(parsed.diagnostics.len() <= lang::MAX_DIAGNOSTICS + 1);
    for finding in &parsed.diagnostics {
        assert!(finding.span.start <= finding.span.end);
        assert!(!finding.message.is_empty());
    }
    if let Ok(text) = std::str::from_utf8(bytes) {
        let _ = lang::parse_packet(text);
        let _ = lang::parse_query(text);
    }
});
