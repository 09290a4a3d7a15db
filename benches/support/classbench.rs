//! Filter sets of ClassBench as projects of one tenant, `segment all vni 1 { 0.0.0.0/0 }`. The same numbers give the same bytes.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

/// A project that is one list.
pub fn project(rules: &[String]) -> String {
    let mut out = String::from(
        "fabric bench {\n  encap vxlan port 4789\n  underlay mtu 9000 family ipv6\n  precedence tenant\n  delegate tenant\n  \
         unknown-vni drop\n}\nnode c1 { vtep 2001:db8::11 dev eth0 }\ntenant all id 1 { segment net vni 1 { 0.0.0.0/0 } }\n\
         policy list for all in tenant {\n",
    );
    for rule in rules {
        let _ = writeln!(out, "  {rule}");
    }
    out.push_str("}\n");
    out
}

/// Where the filter sets lie: `PARTYWALL_CLASSBENCH`, or beside the repository.
pub fn folder() -> PathBuf {
    std::env::var_os("PARTYWALL_CLASSBENCH").map_or_else(
        || {
            // A package of the workspace stands in its root, or a folder below.
            let mut above = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().take(3).skip(1);
            let beside = |root: &Path| root.join("shared/data/classbench");
            above.find(|root| beside(root).is_dir()).map_or_else(PathBuf::new, beside)
        },
        PathBuf::from,
    )
}

/// The rules of a filter set: `@src dst sport_lo : sport_hi dport_lo : dport_hi proto/mask flags/mask` a line; flags are left out.
pub fn rules(set: &str) -> Vec<String> {
    let filters = set.lines().filter(|line| !line.trim().is_empty());
    filters
        .map(|line| {
            let fields: Vec<&str> = line.trim_start_matches('@').split_whitespace().collect();
            let [src, dst, s_lo, ":", s_hi, d_lo, ":", d_hi, protocol, ..] = fields.as_slice() else {
                panic!("no filter: {line}");
            };
            let (number, mask) = protocol.split_once('/').expect("protocol and mask");
            let hex =
                |text: &str| u8::from_str_radix(text.trim_start_matches("0x"), 16).expect("hexadecimal");
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
            format!("allow {src} -> {dst} : {service}")
        })
        .collect()
}
