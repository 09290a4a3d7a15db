//! What a lab needs from the machine, asked by trying it.

use super::error::{LabError, Missing};
use super::tool;
use compiler::Compiled;
use lang::ast::EncapKind;
use std::sync::atomic::{AtomicU32, Ordering};

/// Bits of `/proc/self/status`'s `CapEff` (linux/capability.h).
const CAPABILITIES: [(u32, &str); 3] = [(12, "CAP_NET_ADMIN"), (13, "CAP_NET_RAW"), (21, "CAP_SYS_ADMIN")];

/// Everything that is missing for a lab of this project; empty if nothing is.
#[must_use]
pub fn preflight(c: &Compiled) -> Vec<Missing> {
    let mut missing = Vec::new();
    for (program, argument, package) in
        [("ip", "-V", "iproute2"), ("bridge", "-V", "iproute2"), ("nft", "--version", "nftables")]
    {
        if tool::run(program, &[argument]).is_err() {
            missing.push(Missing {
                what: format!("the program `{program}`"),
                help: format!("install {package}, and have /usr/sbin in PATH"),
            });
        }
    }
    let effective = effective_capabilities();
    for (bit, name) in CAPABILITIES {
        if effective.is_some_and(|set| set >> bit & 1 == 0) {
            missing.push(Missing { what: name.to_owned(), help: "run as root".to_owned() });
        }
    }
    if missing.is_empty() {
        missing.extend(kernel(c.model.fabric.encap));
    }
    missing
}

fn effective_capabilities() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|l| l.strip_prefix("CapEff:"))?;
    u64::from_str_radix(line.trim(), 16).ok()
}

/// Tries each kind of device and a table in a namespace made for that.
fn kernel(encap: EncapKind) -> Vec<Missing> {
    // Of this call alone, so that two of them do not meet.
    static CALLS: AtomicU32 = AtomicU32::new(0);
    let scratch = format!("pwl-preflight-{}-{}", std::process::id(), CALLS.fetch_add(1, Ordering::Relaxed));
    if let Err(error) = tool::run("ip", &["netns", "add", &scratch]) {
        return vec![missing("network namespaces", &error)];
    }
    let tunnel: &[&str] = match encap {
        EncapKind::Vxlan => {
            &["type", "vxlan", "id", "1", "dstport", "4789", "local", "192.0.2.1", "nolearning"]
        }
        EncapKind::Geneve => &["type", "geneve", "external"],
    };
    let devices: [(&str, &[&str]); 3] = [
        ("bridge devices", &["type", "bridge"]),
        ("veth devices", &["type", "veth", "peer", "name", "b"]),
        ("the encapsulation's device", tunnel),
    ];
    let mut out = Vec::new();
    for (what, kind) in devices {
        let add: Vec<&str> =
            ["-n", scratch.as_str(), "link", "add", "name", "a"].iter().chain(kind).copied().collect();
        match tool::run("ip", &add) {
            Ok(_) => out.extend(
                tool::run("ip", &["-n", &scratch, "link", "delete", "dev", "a"])
                    .err()
                    .map(|e| missing(what, &e)),
            ),
            Err(error) => out.push(missing(what, &error)),
        }
    }
    let table = ["netns", "exec", &scratch, "nft", "add table inet partywall-preflight"];
    out.extend(tool::run("ip", &table).err().map(|e| missing("nf_tables", &e)));
    out.extend(
        tool::run("ip", &["netns", "delete", &scratch]).err().map(|e| missing("network namespaces", &e)),
    );
    out
}

fn missing(what: &str, error: &LabError) -> Missing {
    Missing { what: what.to_owned(), help: error.to_string() }
}
