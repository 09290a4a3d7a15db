//! Who may ask whom for a MAC, and of whom the kernel learns one thereby.

use super::program::{Statements, name};
use crate::linux::Model;
use crate::linux::model::Table;
use std::collections::BTreeMap;
use std::fmt::Write as _;

/// This generation's chain in `arp partywall`: who may ask for whom. The kernel answers (`proxy_arp`) after a lookup in the
/// tenant's table, which the mark selects.
pub(super) fn chains(model: &Model) -> BTreeMap<String, Statements> {
    let mut out = Vec::new();
    if model.rules.has(Table::ArpMark) {
        // Replies are heard only where the MAC is not written down.
        out.push("arp operation != { request, reply } drop".into());
        if model.rules.has(Table::ArpBare) {
            let bare = name(Table::ArpBare);
            out.push(format!("arp operation reply iifname . arp saddr ip @{bare} accept"));
        }
        out.push("arp operation reply drop".into());
        out.push(format!("meta mark set iifname map @{}", name(Table::ArpMark)));
        out.push(format!("iifname . arp daddr ip @{} drop", name(Table::ArpSelf)));
        if model.rules.has(Table::ArpOwner) {
            out.push(format!(
                "iifname . arp saddr ether . arp saddr ip @{} meta mark set meta mark | $slot accept",
                name(Table::ArpOwner)
            ));
        }
        if model.rules.has(Table::ArpBare) {
            out.push(format!(
                "iifname . arp saddr ip @{} meta mark set meta mark | $slot accept",
                name(Table::ArpBare)
            ));
        }
    }
    out.push("drop".into());
    BTreeMap::from([("in".to_owned(), out)])
}

/// A device's link-local addresses that have asked of late, and how fast new ones come. They are the kernel's, as connections are.
const NEAR: [(&str, &str); 2] = [("near", "iifname . ip6 saddr"), ("near_pace", "iifname")];

/// The permanent sets that [`near`] writes.
pub(super) fn sets() -> String {
    let mut out = String::new();
    for (set, key) in NEAR {
        let _ = writeln!(
            out,
            "  set {set} {{\n    typeof {key}\n    size 65536\n    flags dynamic,timeout\n    timeout 1m\n  }}"
        );
    }
    out
}

/// A solicitation or advertisement from a link-local address comes back from here if it may be heard. The kernel has one table of
/// neighbours for the whole machine, of 1,024 by default, and puts each source of a solicitation there: so one device may show few new
/// ones.
pub(super) fn near() -> Statements {
    let seen = "update @near { iifname . ip6 saddr timeout 1m }";
    vec![
        format!("iifname . ip6 saddr @near {seen} return"),
        "update @near_pace { iifname limit rate over 1/second burst 8 packets } goto to_host".into(),
        seen.into(),
    ]
}
