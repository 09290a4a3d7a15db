//! Workloads' devices closed by their names, for the moments in which they are there and no program is at them yet: what a
//! program takes never comes to nftables, so what comes there came past it.
//!
//! Done where `nft` is installed; where it is not, a device is closed from its first `apply` on.

use super::Result;
use super::attach::tool;
use crate::audit::scratch;
use crate::command;
use crate::error::NodeError;
use crate::memo::Memo;
use std::collections::BTreeSet;

const TABLES: [&str; 2] = ["inet", "arp"];
pub(crate) const TABLE: &str = "partywall_closed";

fn text(names: &BTreeSet<String>) -> String {
    let list: Vec<String> = names.iter().map(|name| format!("\"{name}\"")).collect();
    let rule =
        if list.is_empty() { String::new() } else { format!("iifname {{ {} }} drop", list.join(", ")) };
    TABLES
        .into_iter()
        .map(|family| {
            let hook = if family == "inet" { "prerouting priority -450" } else { "input priority 0" };
            format!(
                "table {family} {TABLE} {{ }}\ndelete table {family} {TABLE}\ntable {family} {TABLE} {{\n  chain closed {{ type filter hook {hook}; policy accept; {rule}\n  }}\n}}\n"
            )
        })
        .collect()
}

/// What `nft` shows of the tables; `None`: it is not installed.
fn shown() -> std::result::Result<Option<String>, NodeError> {
    let tables = match command::output("nft", &["list", "tables"]) {
        Err(NodeError::Spawn { .. }) => return Ok(None),
        other => other?,
    };
    let mut out = String::new();
    for family in TABLES {
        if tables.lines().any(|line| line == format!("table {family} {TABLE}")) {
            out.push_str(&command::output("nft", &["-s", "list", "table", family, TABLE])?);
        }
    }
    Ok(Some(out))
}

fn write(names: &BTreeSet<String>) -> std::result::Result<(), NodeError> {
    let file = tempfile::NamedTempFile::new().map_err(NodeError::io("cannot make a temporary file"))?;
    std::fs::write(file.path(), text(names)).map_err(NodeError::io("cannot write a temporary file"))?;
    command::output("nft", &["-f", &file.path().display().to_string()]).map(drop)
}

/// Whether exactly these names are closed; `None`: nobody can say, since `nft` is not installed.
///
/// # Errors
/// `nft` refuses.
pub fn is(names: &BTreeSet<String>) -> Result<Option<bool>> {
    let Some(live) = shown().map_err(tool)? else { return Ok(None) };
    static KNOWN: Memo<BTreeSet<String>, Option<String>> = Memo::new();
    let expected = KNOWN.get(names.clone(), || {
        scratch::alone(|| {
            write(names)?;
            shown()
        })
    });
    Ok(Some(expected.map_err(tool)?.as_deref() == Some(&live)))
}

/// Closes these names and no others. Whether that was not so before.
///
/// # Errors
/// `nft` refuses.
pub fn close(names: &BTreeSet<String>) -> Result<bool> {
    if is(names)? != Some(false) {
        return Ok(false);
    }
    write(names).map_err(tool)?;
    Ok(true)
}

/// Closes nothing by name any more.
///
/// # Errors
/// `nft` refuses.
pub fn open() -> Result<()> {
    if shown().map_err(tool)?.is_none_or(|text| text.is_empty()) {
        return Ok(());
    }
    for family in TABLES {
        command::run("nft", &["delete", "table", family, TABLE], None, None).map_err(tool)?;
    }
    Ok(())
}
