//! Input of every unpleasant kind: a clear finding or a capped list, at once, and nothing else.

use std::time::{Duration, Instant};

use partywall_lang::codes::Code;
use partywall_lang::fmt::format;
use partywall_lang::render::human;
use partywall_lang::source::Sources;
use partywall_lang::span::FileId;
use partywall_lang::{MAX_DIAGNOSTICS, Parsed, parse_bytes};

/// Generous, for a machine under load; what is not linear takes minutes.
const LIMIT: Duration = Duration::from_secs(if cfg!(debug_assertions) { 30 } else { 5 });

#[track_caller]
fn read(bytes: &[u8]) -> Parsed {
    let begin = Instant::now();
    let parsed = parse_bytes(FileId(0), bytes);
    let mut sources = Sources::new();
    sources.add("x.pw", String::from_utf8_lossy(bytes));
    let shown = human(&sources, &parsed.diagnostics, false);
    assert_eq!(shown.is_empty(), parsed.diagnostics.is_empty());
    if let Ok(text) = std::str::from_utf8(bytes) {
        assert_eq!(format(text).is_err(), parsed.has_errors());
    }
    let spent = begin.elapsed();
    assert!(spent < LIMIT, "{spent:?}");
    assert!(parsed.diagnostics.len() <= MAX_DIAGNOSTICS + 1);
    parsed
}

fn codes(parsed: &Parsed) -> Vec<Code> {
    parsed.diagnostics.iter().map(|diagnostic| diagnostic.code).collect()
}

#[test]
fn not_text() {
    let parsed = read(b"service x = tcp\n// caf\xe9\n");
    assert_eq!(codes(&parsed), [Code::PW0007]);
    assert_eq!(parsed.diagnostics[0].span.start, 22);
    assert_eq!(parsed.diagnostics[0].message, "the file is not UTF-8: byte 0xe9 at offset 22, line 2");
    let parsed = read(b"service x = tcp\n\0service y = udp\n");
    assert_eq!(codes(&parsed), [Code::PW0007]);
    assert_eq!(parsed.diagnostics[0].span.start, 16);
    assert_eq!(codes(&read(b"\xff\xfes\0e\0")), [Code::PW0007]);
    assert!(read(b"").diagnostics.is_empty());
}

/// One megabyte where nothing is optimised.
const LONG: usize = if cfg!(debug_assertions) { 1_000_000 } else { 10_000_000 };

#[test]
fn lines_of_ten_megabytes() {
    let megabytes = |unit: &str| unit.repeat(LONG / unit.len());
    assert_eq!(codes(&read(format!("test \"{}", megabytes("a")).as_bytes())), [Code::PW0003]);
    assert_eq!(codes(&read(megabytes("a").as_bytes())), [Code::PW0001, Code::PW0006]);
    assert_eq!(codes(&read(megabytes("@").as_bytes())), [Code::PW0002]);
    assert_eq!(codes(&read(megabytes("1.").as_bytes())), [Code::PW0002]);
    assert_eq!(codes(&read(megabytes("a:").as_bytes())), [Code::PW0002]);
    assert_eq!(codes(&read(megabytes("1::").as_bytes())), [Code::PW0002]);
    assert_eq!(codes(&read(megabytes("a-").as_bytes())), [Code::PW0002]);
    assert!(read(format!("// {}", megabytes("a")).as_bytes()).diagnostics.is_empty());
    assert!(read(megabytes(" ").as_bytes()).diagnostics.is_empty());
}

#[test]
fn a_hundred_thousand_errors() {
    for unit in [
        "service x y\n",
        "service x = tcp/99999999999999999999999\n",
        "policy p in t {\n",
        "group x = @\n",
        "fabric f { }\n",
        "// partywall: allow(x)\n",
    ] {
        let parsed = read(unit.repeat(100_000).as_bytes());
        assert_eq!(parsed.diagnostics.len(), MAX_DIAGNOSTICS + 1, "{unit}");
        let last = parsed.diagnostics.last().unwrap();
        assert_eq!(last.code, Code::PW0010);
        let each = if unit.starts_with("fabric") { 3 } else { 1 };
        let more = format!("{} more findings", 100_000 * each - MAX_DIAGNOSTICS);
        assert!(last.message.starts_with(&more), "{unit}: {}", last.message);
    }
    let rules = format!("policy p in t {{\n{}}}\n", "allow a b\n".repeat(100_000));
    let parsed = read(rules.as_bytes());
    assert!(parsed.diagnostics.last().unwrap().message.starts_with("99900 more findings"));
}

#[test]
fn deep_parentheses() {
    for depth in [101, 1_000, LONG / 10] {
        let text = format!("group x = {}a{}\nservice y = tcp\n", "(".repeat(depth), ")".repeat(depth));
        let parsed = read(text.as_bytes());
        assert_eq!(codes(&parsed), [Code::PW0008], "{depth}");
        assert_eq!(parsed.file.items.len(), 2);
    }
    let text = format!("group x = {}a{}\n", "(".repeat(100), ")".repeat(100));
    assert!(read(text.as_bytes()).diagnostics.is_empty());
    let open = read("(".repeat(LONG / 10).as_bytes());
    assert!(codes(&open).contains(&Code::PW0008));
    read("{".repeat(LONG / 10).as_bytes());
    read("}".repeat(LONG / 10).as_bytes());
    read("tcp/{".repeat(LONG / 30).as_bytes());
}

#[test]
fn long_chains() {
    // A union may be as long as one likes; what nests may not.
    assert!(read(format!("group x = a{}", " | b".repeat(100_000)).as_bytes()).diagnostics.is_empty());
    for operator in [" except b", " & b"] {
        let text = format!("group x = a{}\nservice y = tcp\n", operator.repeat(100_000));
        let parsed = read(text.as_bytes());
        assert_eq!(codes(&parsed), [Code::PW0008], "{operator}");
        assert_eq!(parsed.file.items.len(), 2);
        assert!(read(format!("group x = a{}", operator.repeat(200)).as_bytes()).diagnostics.is_empty());
    }
    let mixed = format!("group x = {}a{}", "(a except b & ".repeat(90), ")".repeat(90));
    assert_eq!(codes(&read(mixed.as_bytes())), [Code::PW0008]);
}

#[test]
fn errors_in_unclosed_parentheses() {
    let text = format!("group x = {}a{}", "(".repeat(99), " b".repeat(LONG / 20));
    read(text.as_bytes());
}

#[test]
fn a_stack_of_two_megabytes_is_plenty() {
    let text =
        format!("group x = {}a{}\ngroup y = a{}", "(".repeat(100), ")".repeat(100), " except b".repeat(250));
    let thread = std::thread::Builder::new().stack_size(2 << 20).spawn(move || {
        let parsed = read(text.as_bytes());
        assert!(parsed.diagnostics.is_empty(), "{:#?}", parsed.diagnostics);
        partywall_lang::fmt::print(&parsed.file.clone())
    });
    assert!(thread.unwrap().join().is_ok());
}
