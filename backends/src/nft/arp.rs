//! Who may ask whom for a MAC.

use super::program::{Statements, name};
use crate::linux::Model;
use crate::linux::model::Table;
use std::collections::BTreeMap;

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
