//! A search tree over routing rules, of rules that go to others.
//!
//! SOUNDNESS: the tree only spares work. Each table has a rule with its whole number, and a rule of the tree leads past those alone
//! that a packet with this mark cannot match. One whose target is not there is passed over by the kernel, which then
//! asks on in order.

use super::{LEAF_BITS, PREFERENCE, PROTOCOL};
use crate::linux::numbers::DECIDED;

/// Preferences for each leaf: one for each level of the tree that may begin there, the last for its tables.
const STEP: u32 = 8;
const LEAVES: u32 = 1 << LEAF_BITS;
const FIRST: u32 = PREFERENCE - LEAVES * STEP - 1;

/// The preference of the rule that leads to a table, whichever the slot.
#[must_use]
pub fn preference(table: u32) -> u32 {
    FIRST + 1 + (table >> 1) % LEAVES * STEP + STEP - 1
}

/// Where the part of the tree begins that holds the leaves from `lo`, at this level.
fn node(lo: u32, level: u32) -> u32 {
    // The last level's are the tables of one leaf.
    FIRST + 1 + lo * STEP + if level == LEAF_BITS { STEP - 1 } else { level }
}

/// The rules of the tree, by preference: packets without a table of ours pass all at once, others are led by one bit after the
/// other of what tells leaves apart.
#[must_use]
pub fn tree() -> Vec<String> {
    let line =
        |preference: u32, what: &str| format!("rule add preference {preference} {what} protocol {PROTOCOL}");
    let mut out = vec![line(FIRST, &format!("fwmark 0x0/{DECIDED:#010x} goto {PREFERENCE}"))];
    for lo in 0..LEAVES {
        for level in 0..LEAF_BITS {
            let leaves = LEAVES >> level;
            if lo % leaves == 0 {
                let half = leaves / 2;
                let bit = half << 1;
                let right = node(lo + half, level + 1);
                out.push(line(node(lo, level), &format!("fwmark {bit:#x}/{bit:#x} goto {right}")));
            }
        }
    }
    out.push(line(PREFERENCE, "nop"));
    out
}
