//! Programs on the node's devices that see packets before nftables does, or after: XDP, tc, tcx. The nft target has none, so
//! each is somebody else's, and what it lets by or takes away no rule of ours ever sees.

use super::snapshot::{Kind, Snapshot};
use crate::command;
use crate::error::NodeError;
use serde_json::Value;
use std::collections::BTreeSet;

/// Adds the programs on `devices`.
///
/// # Errors
/// `tc` is missing or refuses.
pub(super) fn read(devices: &BTreeSet<String>, out: &mut Snapshot) -> Result<(), NodeError> {
    let text = |value: &Value, field: &str| value.get(field).and_then(Value::as_str).map(str::to_owned);
    for link in command::list("ip", &["-j", "-d", "link", "show"])? {
        let Some(device) = text(&link, "ifname").filter(|name| devices.contains(name)) else { continue };
        if let Some(xdp) = link.get("xdp") {
            let number = xdp.pointer("/prog/id").map(|id| format!(" {id}")).unwrap_or_default();
            let mend = format!("ip link set dev {device} xdp off, unless it only looks on");
            out.program(format!("{device} XDP"), format!("program{number}"), mend);
        }
    }
    for qdisc in command::list("tc", &["-j", "qdisc", "show"])? {
        let Some(device) = text(&qdisc, "dev").filter(|name| devices.contains(name)) else { continue };
        let directions: &[&str] = match text(&qdisc, "kind").as_deref() {
            Some("clsact") => &["ingress", "egress"],
            Some("ingress") => &["ingress"],
            _ => continue,
        };
        for direction in directions {
            let filters = command::list("tc", &["-j", "filter", "show", "dev", &device, direction])?;
            // One without options is the head of those that follow it.
            for filter in filters.iter().filter(|filter| filter.get("options").is_some()) {
                let kind = text(filter, "kind").unwrap_or_default();
                let preference = filter.get("pref").map(Value::to_string).unwrap_or_default();
                let name = filter.pointer("/options/bpf_name").and_then(Value::as_str).unwrap_or_default();
                let mend = format!(
                    "tc filter delete dev {device} {direction} preference {preference}, unless it only looks on"
                );
                let found = format!("{kind} {name}").trim_end().to_owned();
                out.program(format!("{device} {direction}, preference {preference}"), found, mend);
            }
        }
    }
    // `tc` does not show these. Without bpftool, or with one that does not know them, they stay unseen.
    let Ok(attached) = command::list("bpftool", &["-j", "net", "show"]) else { return Ok(()) };
    let programs = attached.iter().filter_map(|all| all.get("tc")?.as_array()).flatten();
    for program in programs {
        let Some(device) = text(program, "devname").filter(|name| devices.contains(name)) else { continue };
        let kind = text(program, "kind").unwrap_or_default();
        if kind.starts_with("clsact/") {
            continue;
        }
        let name = text(program, "name").unwrap_or_default();
        let mend =
            format!("bpftool net detach {} dev {device}, unless it only looks on", kind.replace('/', "_"));
        out.program(format!("{device} {kind}"), format!("program {name}").trim_end().to_owned(), mend);
    }
    Ok(())
}

impl Snapshot {
    fn program(&mut self, key: String, found: String, mend: String) {
        self.removal.insert((Kind::Program, key.clone()), vec![mend]);
        self.put(Kind::Program, key, found);
    }
}
