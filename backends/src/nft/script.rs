//! `apply.sh`: everything in order, with the way back.

use super::print::{DIGEST, SUFFIX};
use crate::iproute2::Device;
use crate::linux::Model;
use crate::linux::model::{Atom, Table};
use crate::linux::numbers;
use std::collections::BTreeSet;

const TEMPLATE: &str = include_str!("../../templates/apply.sh");

pub(super) fn apply(model: &Model) -> String {
    let names = |pick: fn(&Device) -> Option<&String>| {
        let list: Vec<&str> =
            model.devices.iter().filter_map(|d| pick(&d.what)).map(String::as_str).collect();
        list.join(" ")
    };
    let vxlans = names(|d| if let Device::Vxlan { name, .. } = d { Some(name) } else { None });
    let outside = names(|d| if let Device::Outside { name } = d { Some(name) } else { None });
    let counters: Vec<&str> = model.rules.counters.keys().map(String::as_str).collect();
    let workloads: Vec<&str> = model.workloads.iter().map(String::as_str).collect();
    TEMPLATE
        .replace(
            "@HEAD@",
            &format!("# partywall generation {DIGEST}\n# {}: installs this folder's files.", model.node),
        )
        .replace("@SUFFIX@", SUFFIX)
        .replace("@DEVICES@", &vxlans)
        .replace("@WORKLOADS@", &workloads.join(" "))
        .replace("@OUTSIDE@", &outside)
        .replace("@GATEWAY@", if model.gateway { "yes" } else { "no" })
        .replace("@CONNECTIONS@", &connections(model).to_string())
        .replace("@COUNTERS@", &counters.join("\n"))
}

/// What all whose connections may come here may have open together, and one bound's worth for the node itself.
fn connections(model: &Model) -> u64 {
    let openers: BTreeSet<&Atom> = [Table::Opener, Table::Opener4, Table::Opener6]
        .into_iter()
        .filter_map(|table| model.rules.tables.get(&table))
        .flat_map(|entries| entries.values().filter_map(|entry| entry.value.as_ref()))
        .collect();
    let bounds = u64::try_from(openers.len()).unwrap_or(u64::MAX).saturating_add(1);
    bounds.saturating_mul(u64::from(numbers::CONNECTIONS))
}
