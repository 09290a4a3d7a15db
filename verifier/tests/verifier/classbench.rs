//! Filter sets of ClassBench as projects: the numbers of rules that never decide, found independently by others.
//!
//! The sets lie next to the repository, in `../shared/data/classbench`. Without them the test says so and decides nothing.

use crate::support;
use lang::codes::Code;
use partywall_verifier::verify;
use std::fmt::Write as _;
use std::path::Path;

/// Set, rules, rules that never decide (`None`: no other tool could tell), rules that are needed: all allow, and the last ones
/// match everything.
const SETS: &[(&str, usize, Option<usize>, usize)] = &[
    ("acl1_1k", 942, Some(22), 1),
    ("fw1_1k", 857, Some(13), 1),
    ("ipc1_1k", 974, Some(0), 1),
    ("acl1_10k", 9_774, Some(81), 1),
    ("ipc1_10k", 9_518, Some(18), 2),
    ("fw1_10k", 9_379, None, 1),
];

/// A filter set in one policy of one tenant.
fn project(set: &str) -> String {
    let mut out = String::from(
        "fabric bench {
  encap vxlan port 4789
  underlay mtu 9000 family ipv6
  precedence tenant
  delegate tenant
  unknown-vni drop
}
node c1 { vtep 2001:db8::11 dev eth0 }
tenant all id 1 { segment net vni 1 { 0.0.0.0/0 } }
policy list for all in tenant {
",
    );
    for line in set.lines().filter(|line| !line.trim().is_empty()) {
        let fields: Vec<&str> = line.trim_start_matches('@').split_whitespace().collect();
        let [src, dst, s_lo, ":", s_hi, d_lo, ":", d_hi, protocol, ..] = fields.as_slice() else {
            panic!("no filter: {line}");
        };
        let (number, mask) = protocol.split_once('/').expect("protocol and mask");
        let hex = |text: &str| u8::from_str_radix(text.trim_start_matches("0x"), 16).expect("hexadecimal");
        let ports = |keyword: &str, lo: &str, hi: &str| match (lo, hi) {
            ("0", "65535") => String::new(),
            _ if lo == hi => format!("{keyword}{lo}"),
            _ => format!("{keyword}{lo}..{hi}"),
        };
        let service = match (hex(mask), hex(number)) {
            (0, _) => "ip".to_owned(),
            (_, number @ (6 | 17)) => {
                let name = if number == 6 { "tcp" } else { "udp" };
                format!("{name}{}{}", ports("/", d_lo, d_hi), ports(" from ", s_lo, s_hi))
            }
            (_, 1) => "icmp".to_owned(),
            (_, number) => format!("proto/{number}"),
        };
        let _ = writeln!(out, "  allow {src} -> {dst} : {service}");
    }
    out.push_str("}\n");
    out
}

#[test]
fn dead_rules_of_the_filter_sets() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/data/classbench");
    if !folder.is_dir() {
        eprintln!("SKIPPED: no filter sets in {}; nothing was compared", folder.display());
        return;
    }
    for (name, rules, dead, needed) in SETS {
        let text = std::fs::read_to_string(folder.join(name)).expect("the set can be read");
        let compiled = support::clean(&project(&text));
        assert_eq!(compiled.model.rules.len(), *rules, "{name}");
        let start = std::time::Instant::now();
        let verdicts = verify(&compiled, &Default::default()).expect("engines agree");
        let elapsed = start.elapsed();
        assert_eq!(verdicts.undecided, 0, "{name}");
        let found = verdicts.diagnostics.iter().filter(|d| d.code == Code::PW0402).count();
        let redundant = verdicts.diagnostics.iter().filter(|d| d.code == Code::PW0403).count();
        eprintln!("{name}: {found} dead rules, {redundant} redundant ones, {elapsed:?}");
        assert_eq!(found + redundant, verdicts.diagnostics.len(), "{name}");
        assert_eq!(redundant, rules - found - needed, "{name}");
        match dead {
            Some(dead) => assert_eq!(found, *dead, "{name}"),
            // 23 rules are covered by one other alone.
            None => assert!(found >= 23, "{name}: {found}"),
        }
    }
}
