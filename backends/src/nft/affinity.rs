//! Which instance a packet goes to under `affinity flow`: by the buckets of both real ends, each with its port.
//!
//! Ports are never translated on the way to a gateway, and the ends of an ICMP error have those of the connection that it is about.
//! The destination's real address is written into the packet while it is hashed, since a hash takes nothing that
//! a map gives.

use super::program::{Statements, name};
use crate::linux::Model;
use crate::linux::model::Table;
use crate::linux::numbers::{GATEWAY, KIND};
use compiler::buckets;

/// Conntrack's protocols whose ports count.
const PORTS: &str = "ct original protocol { tcp, udp, sctp }";

/// As `cells`, for the gateways of the table `gateway_flow`.
pub(super) fn flows(model: &Model, with_ports: &str) -> Statements {
    let mut out = vec![
        format!("meta mark set meta priority map @{}", name(Table::GatewayFlow)),
        format!("meta mark & {KIND:#010x} != {GATEWAY:#010x} return"),
    ];
    let real = [("ip", Table::Real4), ("ip6", Table::Real6)];
    let translated: Vec<(&str, Table)> = real.into_iter().filter(|(_, t)| model.rules.has(*t)).collect();
    for (header, table) in &translated {
        out.push(format!("{header} daddr set ct zone . {header} daddr map @{}", name(*table)));
    }
    out.extend(hash("daddr", "proto-dst", with_ports));
    for (header, _) in &translated {
        for direction in ["original", "reply"] {
            out.push(format!("ct direction {direction} {header} daddr set ct {direction} {header} daddr"));
        }
    }
    out.push(format!("meta mark set meta mark . meta priority map @{}", name(Table::Row)));
    out.extend(hash("saddr", "proto-src", with_ports));
    out.push(format!("meta mark set meta mark . meta priority map @{}", name(Table::Cell)));
    out
}

/// As `cells`, for the gateways of the table `gateway_source`: the sender's cell twice. It lives here, and shows its real address.
pub(super) fn senders() -> Statements {
    let mut out = vec![
        format!("meta mark set meta priority map @{}", name(Table::GatewaySource)),
        format!("meta mark & {KIND:#010x} != {GATEWAY:#010x} return"),
    ];
    for (family, header) in [("ipv4", "ip"), ("ipv6", "ip6")] {
        out.push(format!("meta nfproto {family} meta priority set jhash {header} saddr {}", cell()));
    }
    out.push(format!("meta mark set meta mark . meta priority map @{}", name(Table::Row)));
    out.push(format!("meta mark set meta mark . meta priority map @{}", name(Table::Cell)));
    out
}

fn cell() -> String {
    format!("mod {} seed {:#x} offset 1", buckets::CELLS, buckets::SEED)
}

/// The cell of an end, one higher than it is; a port of zero where there is none.
fn hash(end: &str, port: &str, with_ports: &str) -> Statements {
    let cell = cell();
    let mut out = vec!["meta priority set 0".to_owned()];
    for (family, header) in [("ipv4", "ip"), ("ipv6", "ip6")] {
        for direction in ["original", "reply"] {
            out.push(format!(
                "meta nfproto {family} meta l4proto {with_ports} {PORTS} ct direction {direction} meta priority set jhash {header} {end} . ct {direction} {port} {cell}"
            ));
        }
        out.push(format!(
            "meta nfproto {family} meta priority 0 meta priority set jhash {header} {end} . meta priority {cell}"
        ));
    }
    out
}
