//! ICMP errors about a tenant's packet: expired, or too big for what lies ahead.
//!
//! The kernel writes them once it has looked up the way and before it forwards. It sends them by the mark of the packet that
//! they are about (`fwmark_reflect`), quotes that packet as it stands then, and puts an address of the node's own in as their
//! source. So the mark must lead forth and back, and what is quoted must be what its sender sent.
//!
//! On a node with endpoints the tenant's table leads both ways, and a leg's table back to the workloads that go by it; an
//! expired packet from a gateway takes the leg to where it came from. On a gateway the destination is translated by
//! then, and the mark is the other side's. A packet there that may be answered (*answerable*: bit 31 of its mark)
//! gets back what it came with and goes by the table of the space that it came from, which has the ways to everything
//! seen in that space; translated again after the kernel found nothing wrong with it.

use super::base::UNMARKED;
use super::program::{Statements, name};
use crate::iproute2::Device;
use crate::iproute2::group::{FABRIC, OUTSIDE, WORKLOAD};
use crate::linux::Model;
use crate::linux::model::Table;
use crate::linux::numbers::{ANSWERABLE, DECIDED};

/// What there is to say to the sender of a packet.
const ERRORS: [(&str, &str, &str); 2] = [
    ("ip", "icmp type { destination-unreachable, time-exceeded, parameter-problem }", "@th,192,32"),
    (
        "ip6",
        "icmpv6 type { destination-unreachable, packet-too-big, time-exceeded, parameter-problem }",
        "@th,256,128",
    ),
];

/// Neither family has links that take less (RFC 8200, 5; for IPv4 by custom).
const LEAST_MTU: u32 = 1280;

/// Packets of this length fit wherever they may go from this node. The MTU of a device to an external is its owner's business.
fn fits(model: &Model) -> u32 {
    let mtus = model.devices.iter().filter_map(|device| match &device.what {
        Device::Fabric { mtu, .. } => Some(*mtu),
        Device::Outside { .. } => Some(LEAST_MTU),
        _ => None,
    });
    mtus.min().unwrap_or(LEAST_MTU)
}

/// The permanent chain of what the node itself says to tenants and externals.
pub(super) fn base(model: &Model) -> Statements {
    let mut out = vec![
        format!("meta mark & {DECIDED:#010x} == 0x00000000 accept"),
        format!("oifgroup != {WORKLOAD:#x}-{OUTSIDE:#x} accept"),
    ];
    if model.gateway {
        // What is quoted would be what nobody sent.
        out.push(format!("meta mark & {ANSWERABLE:#010x} == 0x00000000 drop"));
    }
    // It is of no connection of the node's.
    out.push("notrack".into());
    out.push("meta mark & 0x00000001 vmap @slot_answer".into());
    out
}

/// It speaks as the one who was spoken to; to its own workloads as their router.
pub(super) fn answer(model: &Model) -> Statements {
    let mut out = Vec::new();
    // On a gateway the last chain does that.
    let unmarked = if model.gateway { String::new() } else { format!("{UNMARKED} ") };
    for ((header, errors, quoted), routers) in ERRORS.into_iter().zip([Table::Router4, Table::Router6]) {
        if model.rules.has(routers) {
            let router = name(routers);
            out.push(format!(
                "oifgroup {WORKLOAD:#x} {errors} {header} saddr set oifname . {header} daddr map @{router} accept"
            ));
        }
        out.push(format!("oifgroup != {WORKLOAD:#x} {errors} {header} saddr set {quoted} {unmarked}accept"));
    }
    out.push("drop".into());
    out
}

/// On a node with endpoints, of an arriving packet: who is to be told that it has expired.
pub(super) fn remember(model: &Model) -> Statements {
    if !model.rules.has(Table::Back) {
        return Vec::new();
    }
    EXPIRED.map(|expired| format!("{expired} ct mark set meta mark & 0xfffffffe")).to_vec()
}

const EXPIRED: [&str; 2] = ["ip ttl < 2", "ip6 hoplimit < 2"];

/// On a node with endpoints, of a packet whose way is found: the way of its expiry.
pub(super) fn expire(model: &Model) -> Statements {
    if !model.rules.has(Table::Back) {
        return Vec::new();
    }
    let back = name(Table::Back);
    EXPIRED
        .map(|expired| format!("iifgroup {FABRIC:#x} {expired} meta mark set iifname . ct mark map @{back}"))
        .to_vec()
}

/// For either family, what holds of packets that [`remember`] has nothing to do with.
pub(super) fn lives(model: &Model) -> [&'static str; 2] {
    if model.rules.has(Table::Back) { ["@nh,64,8 > 1 ", "@nh,56,8 > 1 "] } else { ["", ""] }
}

/// What holds of packets that neither [`expire`] nor [`doubt`] changes; one of these.
pub(super) fn silent(model: &Model) -> Vec<String> {
    let lives = ["ip ttl > 1 ", "ip6 hoplimit > 1 "];
    if model.gateway {
        let fits = fits(model);
        lives.map(|lives| format!("meta length <= {fits} {lives}")).to_vec()
    } else if model.rules.has(Table::Back) {
        lives.map(str::to_owned).to_vec()
    } else {
        vec![String::new()]
    }
}

/// On a gateway, of a packet whose way is found: whether it may be answered.
pub(super) fn doubt(model: &Model, suffix: &str) -> Statements {
    let back = format!("goto back_{suffix}");
    let mut out = EXPIRED.map(|expired| format!("{expired} {back}")).to_vec();
    out.push(format!("meta length > {} {back}", fits(model)));
    out
}

/// On a gateway: such a packet's mark. A masquerade address stands for many, so that no table leads on from it.
pub(super) fn back(model: &Model, suffix: &str) -> Statements {
    let mut out = Vec::new();
    if model.rules.has(Table::Unanswered) {
        out.push(format!("ct mark . ct direction @{} goto send_{suffix}", name(Table::Unanswered)));
    }
    if model.rules.has(Table::Home) {
        out.push(format!("meta mark set iifname map @{}", name(Table::Home)));
        out.push(format!("meta mark set meta mark | {ANSWERABLE:#010x}"));
    }
    out.push(format!("goto send_{suffix}"));
    out
}

const BOTH: u32 = ANSWERABLE | DECIDED;

/// On a gateway, before the kernel looks up the way: the destination as it came.
pub(super) fn as_it_came() -> Statements {
    let mut out = vec![format!("meta mark & {BOTH:#010x} != {BOTH:#010x} accept")];
    for header in ["ip", "ip6"] {
        out.push(format!(
            "ct direction original ct status dnat {header} daddr set ct original {header} daddr"
        ));
        out.push(format!("ct direction reply ct status snat {header} daddr set ct reply {header} daddr"));
    }
    out.push("accept".into());
    out
}

/// On a gateway, of a packet that the kernel forwards: the destination as it is to arrive.
pub(super) fn as_it_goes() -> Statements {
    let mut out = vec![
        // An external's table leads back to the external for what it has no way to.
        format!("iifgroup {OUTSIDE:#x} oifgroup {OUTSIDE:#x} goto no_route"),
        // Nothing about it changes on the way: it went by the table of whom it is for.
        "ct state untracked return".into(),
    ];
    for header in ["ip", "ip6"] {
        out.push(format!("ct direction original ct status dnat {header} daddr set ct reply {header} saddr"));
        out.push(format!("ct direction reply ct status snat {header} daddr set ct original {header} saddr"));
    }
    out.push("meta mark & 0x00000001 vmap @slot_door".into());
    out
}

/// On a gateway, of a packet that went by what is seen in a space: it leaves to one of the two owners.
pub(super) fn door(model: &Model) -> Statements {
    let mut out = Vec::new();
    if model.rules.has(Table::Door) {
        out.push(format!("oifname . ct zone @{} return", name(Table::Door)));
    }
    out.push("goto no_route".into());
    out
}

/// On a node with endpoints, of neighbour discovery by a workload: a way by the tenant's table, and nobody but the node to hear
/// it. The kernel answers for an address of others (`proxy_ndp`) only if it has a way to it.
pub(super) fn asked() -> String {
    format!(
        "meta mark set iifname map @{} meta mark set meta mark | {ANSWERABLE:#010x} meta mark set meta mark | $slot accept",
        name(Table::Home)
    )
}

/// What [`as_it_goes`] is for.
pub(super) fn answerable() -> String {
    format!("meta mark & {ANSWERABLE:#010x} == {ANSWERABLE:#010x}")
}
