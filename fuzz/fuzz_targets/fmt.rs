//! What parses is laid out, parses to the same, and is not laid out otherwise a second time.
#![no_main]

use lang::span::FileId;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let Ok(once) = lang::fmt::format(text) else { return };
    let again = lang::fmt::format(&once).expect("what was laid out parses");
    assert_eq!(once, again);
    // Printing forgets places, so two trees that print alike are one tree.
    let printed = |text: &str| lang::fmt::print(&lang::parse(FileId(0), text).file);
    assert_eq!(printed(text), printed(&once));
});
