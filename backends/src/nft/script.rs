//! `apply.sh`: everything in order, with the way back.

use super::Model;
use super::print::{DIGEST, SUFFIX};
use crate::iproute2::Device;

const TEMPLATE: &str = include_str!("../../templates/apply.sh");

pub(super) fn apply(model: &Model) -> String {
    let names = |pick: fn(&Device) -> Option<&String>| {
        let list: Vec<&str> =
            model.devices.iter().filter_map(|d| pick(&d.what)).map(String::as_str).collect();
        list.join(" ")
    };
    let vxlans = names(|d| if let Device::Vxlan { name, .. } = d { Some(name) } else { None });
    let outside = names(|d| if let Device::Outside { name } = d { Some(name) } else { None });
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
}
