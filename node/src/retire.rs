//! What the nft target left on a node that has gone over to another target.

use crate::command;
use crate::error::NodeError;
use crate::generation::Generation;
use backends::iproute2::group;
use serde_json::Value;
use std::collections::BTreeSet;

const TABLE: &str = "partywall";
const PROTOCOL: &str = "87";

/// VXLAN devices of the nft target.
///
/// # Errors
/// `ip` is missing or refuses.
pub(crate) fn vxlans() -> Result<Vec<String>, NodeError> {
    let links =
        command::list("ip", &["-j", "link", "show", "group", &group::FABRIC.to_string(), "type", "vxlan"])?;
    Ok(links.iter().filter_map(|l| Some(l.get("ifname")?.as_str()?.to_owned())).collect())
}

/// Tables of the nft target; none where `nft` is not installed.
fn tables() -> Result<Vec<&'static str>, NodeError> {
    let listing = match command::output("nft", &["list", "tables"]) {
        Err(NodeError::Spawn { .. }) => return Ok(Vec::new()),
        other => other?,
    };
    let has = |family: &str| listing.lines().any(|line| line == format!("table {family} {TABLE}"));
    Ok(["inet", "arp"].into_iter().filter(|family| has(family)).collect())
}

/// Whether anything of the nft target is in the kernel.
///
/// # Errors
/// A tool refuses.
pub(crate) fn is_there() -> Result<bool, NodeError> {
    Ok(!tables()?.is_empty() || !vxlans()?.is_empty() || ruled()?)
}

fn ruled() -> Result<bool, NodeError> {
    for family in ["-4", "-6"] {
        let rules = command::list("ip", &[family, "-j", "rule", "show"])?;
        if rules.iter().any(|r| r.get("protocol").and_then(Value::as_str) == Some(PROTOCOL)) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Takes it out: tables, rules, routes, devices and groups, and what the files of these generations wrote onto others' devices.
/// The programs of another target have to take every packet already. Kernel settings stay as they are.
///
/// # Errors
/// A tool refuses.
pub(crate) fn nft(installed: &[&Generation]) -> Result<(), NodeError> {
    for family in tables()? {
        command::output("nft", &["delete", "table", family, TABLE])?;
    }
    for device in vxlans()? {
        command::output("ip", &["link", "delete", "dev", &device])?;
    }
    for family in ["-4", "-6"] {
        // Where there is none they complain.
        command::run("ip", &[family, "rule", "flush", "protocol", PROTOCOL], None, None)?;
        command::run("ip", &[family, "route", "flush", "table", "all", "protocol", PROTOCOL], None, None)?;
    }
    for number in [group::WORKLOAD, group::OUTSIDE] {
        for link in command::list("ip", &["-j", "link", "show", "group", &number.to_string()])? {
            let Some(name) = link.get("ifname").and_then(Value::as_str) else { continue };
            command::output("ip", &["link", "set", "dev", name, "group", "default"])?;
        }
    }
    let lines: BTreeSet<String> = installed.iter().flat_map(|g| g.links()).collect();
    let (mut delete, mut known) = (String::new(), BTreeSet::new());
    for line in &lines {
        let words: Vec<&str> = line.split(' ').collect();
        let entry = match words.as_slice() {
            ["neighbour", "replace", "proxy", address, "dev", device, ..] => {
                format!("neighbour delete proxy {address} dev {device}\n")
            }
            ["neighbour", "replace", address, "lladdr", _, "dev", device, ..] => {
                format!("neighbour delete {address} dev {device}\n")
            }
            _ => continue,
        };
        if known.insert(entry.clone()) {
            delete.push_str(&entry);
        }
    }
    if delete.is_empty() {
        return Ok(());
    }
    let file = tempfile::NamedTempFile::new().map_err(NodeError::io("cannot make a temporary file"))?;
    std::fs::write(file.path(), delete).map_err(NodeError::io("cannot write a temporary file"))?;
    // Those of devices that are gone went with them.
    command::run("ip", &["-force", "-batch", &file.path().display().to_string()], None, None).map(drop)
}
