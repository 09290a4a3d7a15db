//! Tools and kernel features, asked for by trying them.

use super::{Finding, Severity};
use crate::audit::scratch;
use crate::command;
use crate::error::NodeError;

const NFT: [u32; 3] = [1, 0, 6];
const IPROUTE2: [u32; 2] = [5, 15];
const LINUX: [u32; 2] = [5, 15];

/// Bits of `CapEff` (linux/capability.h).
const CAPABILITIES: [(u32, &str); 2] = [(12, "CAP_NET_ADMIN"), (21, "CAP_SYS_ADMIN")];

/// Programs, their versions, and what this process may do.
pub(super) fn tools() -> Vec<Finding> {
    let mut out = Vec::new();
    let wanted: [(&str, &str, &[u32]); 3] =
        [("nft", "--version", &NFT), ("ip", "-V", &IPROUTE2), ("bridge", "-V", &IPROUTE2)];
    for (program, argument, least) in wanted {
        match command::output(program, &[argument]) {
            Err(error) => {
                out.push(Finding::new(
                    Severity::Error,
                    "tool",
                    error.to_string(),
                    format!("install the package that holds `{program}`"),
                ));
            }
            Ok(text) => {
                let version = version(&text);
                if !version.is_empty() && version.as_slice() < least {
                    let (has, least) = (dotted(&version), dotted(least));
                    out.push(Finding::new(
                        Severity::Error,
                        "tool",
                        format!("{program} is version {has}, and {least} is the oldest that will do"),
                        format!("install {program} {least} or newer"),
                    ));
                }
            }
        }
    }
    out.extend(system());
    out
}

/// The kernel's version, and what this process may do.
pub(super) fn system() -> Vec<Finding> {
    let mut out = Vec::new();
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let running = version(&release);
    if !running.is_empty() && running.as_slice() < LINUX.as_slice() {
        out.push(Finding::new(
            Severity::Error,
            "kernel",
            format!("Linux {} runs, and {} is the oldest that will do", release.trim(), dotted(&LINUX)),
            "boot a newer kernel",
        ));
    }
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let effective = status
        .lines()
        .find_map(|line| line.strip_prefix("CapEff:"))
        .and_then(|set| u64::from_str_radix(set.trim(), 16).ok());
    for (bit, name) in CAPABILITIES {
        if effective.is_some_and(|set| set >> bit & 1 == 0) {
            out.push(Finding::new(
                Severity::Error,
                "privilege",
                format!("this process lacks {name}"),
                "run partywall as root",
            ));
        }
    }
    out
}

/// The first number with a point in a tool's own words: `nftables v1.0.6 (…)`, `ip utility, iproute2-6.1.0, …`.
fn version(text: &str) -> Vec<u32> {
    let word = text
        .split(|c: char| !(c.is_ascii_digit() || c == '.'))
        .find(|w| w.contains('.') && w.starts_with(|c: char| c.is_ascii_digit()));
    word.unwrap_or_default().split('.').map_while(|part| part.parse().ok()).collect()
}

fn dotted(version: &[u32]) -> String {
    version.iter().map(u32::to_string).collect::<Vec<_>>().join(".")
}

/// What the emitted files use, each tried in a network namespace made for that.
const TRIED: [(&str, &str, &str, &[&str]); 15] = [
    ("nf_tables", "nf_tables", "nft", &["add table inet try; add table arp try; add chain inet try c"]),
    (
        "base chains",
        "nf_tables",
        "nft",
        &["add chain inet try p { type filter hook prerouting priority raw; policy drop; }"],
    ),
    (
        "NAT chains",
        "nf_nat",
        "nft",
        &["add chain inet try n { type nat hook postrouting priority srcnat; policy drop; }"],
    ),
    ("conntrack zones", "nf_conntrack", "nft", &["add rule inet try p ct zone set 7"]),
    (
        "conntrack's original tuple",
        "nf_conntrack",
        "nft",
        &["add rule inet try p ct original ip saddr 10.0.0.1"],
    ),
    (
        "concatenated intervals",
        "nf_tables",
        "nft",
        &[
            "add map inet try m { type mark . ipv4_addr : mark; flags interval; elements = { 1 . 10.0.0.0/8 : 2 }; }",
        ],
    ),
    ("raw payload expressions", "nf_tables", "nft", &["add set inet try v { typeof @th,96,24; }"]),
    ("IPv6 extension headers", "nf_tables", "nft", &["add rule inet try p exthdr rt exists drop"]),
    ("verdict maps", "nf_tables", "nft", &["add rule inet try p meta mark vmap { 1 : drop }"]),
    (
        "jhash",
        "nft_hash",
        "nft",
        &["add rule inet try p meta mark set jhash ip saddr mod 64 seed 0x5057 offset 1"],
    ),
    (
        "logs with a limit",
        "nft_log, nft_limit",
        "nft",
        &["add rule inet try p limit rate 10/second log prefix \"x\""],
    ),
    ("route lookups (fib)", "nft_fib_inet", "nft", &["add rule inet try p fib daddr type local"]),
    (
        "VXLAN devices",
        "vxlan",
        "ip",
        &[
            "link",
            "add",
            "name",
            "v",
            "type",
            "vxlan",
            "id",
            "1",
            "dstport",
            "4789",
            "local",
            "192.0.2.1",
            "df",
            "set",
            "nolearning",
        ],
    ),
    (
        "rules by mark",
        "CONFIG_IP_MULTIPLE_TABLES",
        "ip",
        &[
            "rule",
            "add",
            "fwmark",
            "1/0x7fffffff",
            "table",
            "1342177290",
            "preference",
            "20567",
            "protocol",
            "87",
        ],
    ),
    (
        "IPv6 rules by mark",
        "CONFIG_IPV6_MULTIPLE_TABLES",
        "ip",
        &[
            "-6",
            "rule",
            "add",
            "fwmark",
            "1/0x7fffffff",
            "table",
            "1342177290",
            "preference",
            "20567",
            "protocol",
            "87",
        ],
    ),
];

/// Kernel features.
pub(super) fn kernel() -> Vec<Finding> {
    let tried = scratch::alone(|| {
        let mut out = Vec::new();
        for (what, module, program, args) in TRIED {
            if let Err(error) = command::output(program, args) {
                out.push(Finding::new(
                    Severity::Error,
                    "kernel",
                    format!("{what} cannot be used: {error}"),
                    format!("load or build in: {module}"),
                ));
            }
        }
        Ok(out)
    });
    match tried {
        Ok(out) => out,
        Err(error @ NodeError::Io { .. }) => vec![Finding::new(
            Severity::Error,
            "kernel",
            error.to_string(),
            "run as root on a kernel with network namespaces (CONFIG_NET_NS); `audit` needs one too",
        )],
        Err(error) => vec![Finding::new(Severity::Error, "kernel", error.to_string(), "see the message")],
    }
}

#[cfg(test)]
mod tests {
    use super::version;

    #[test]
    fn versions_are_found_in_what_tools_say() {
        assert_eq!(version("nftables v1.0.6 (Lester Gooch #5)"), [1, 0, 6]);
        assert_eq!(version("ip utility, iproute2-6.1.0, libbpf 1.1.0"), [6, 1, 0]);
        assert_eq!(version("6.18.44-fc-v657\n"), [6, 18, 44]);
        assert!(version("5.9.1").as_slice() < [5, 15].as_slice());
        assert!(version("no number").is_empty());
    }
}
