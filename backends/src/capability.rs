//! What each target can express: exactly, in a stricter way that is written down, or not at all (PW0801).

use std::fmt::Write as _;

/// How well a target expresses a construct.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Level {
    Exact,
    /// Refuses more than the policy does, in the way that the note states. Never less.
    Stricter,
    /// `build` reports PW0801.
    Refused,
}

/// One row of the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Capability {
    pub construct: &'static str,
    pub level: Level,
    /// How, or what is refused; empty where `exact` says it all.
    pub note: &'static str,
}

const fn exact(construct: &'static str, note: &'static str) -> Capability {
    Capability { construct, level: Level::Exact, note }
}

const fn stricter(construct: &'static str, note: &'static str) -> Capability {
    Capability { construct, level: Level::Stricter, note }
}

const fn refused(construct: &'static str, note: &'static str) -> Capability {
    Capability { construct, level: Level::Refused, note }
}

/// The target `nft`.
pub const NFT: &[Capability] = &[
    exact("`allow`, `deny`, `pass`, tiers, `overrides`", "every verdict is the reference evaluator's"),
    exact("IPv4, IPv6, overlapping tenants", ""),
    exact("TCP, UDP, SCTP with ports and `from`; other protocols by number", ""),
    stricter(
        "ICMP and ICMPv6",
        "only queries that conntrack knows (echo, timestamp, address mask, information; ICMPv6 echo and node information) \
         open a connection; errors pass with the connection that they quote, others are `invalid`",
    ),
    stricter("addresses without a declared endpoint", "`no-route` as a destination, `spoof` as a source"),
    stricter("IPv4 options", "`invalid`"),
    stricter("fragments", "reassembled before they are decided; what cannot be is dropped"),
    exact(
        "`expose`, `as`, `clients as` between tenants",
        "1:1 translation by conntrack, ICMP errors included",
    ),
    refused("`clients as` for an external", ""),
    refused(
        "two tenants with equal addresses, each presented to the other under one prefix through one node",
        "their tuples could not be told apart",
    ),
    exact("`route … via`, `attach`, `masquerade`", ""),
    exact("`route … direct`", ""),
    exact(
        "`allow … via G` inside a tenant",
        "steered by routing marks; what arrives another way is `bad-vtep`",
    ),
    exact("`affinity symmetric`", "jhash buckets"),
    refused("`affinity flow`, `affinity source` with several instances", ""),
    exact("`stateful`", ""),
    refused("`stateless`", ""),
    exact(
        "`on-failure rehash`, `on-failure drop`",
        "with all instances alive; instances are not taken down yet",
    ),
    stricter("more than 16 gateway nodes behind one node's workloads", "PW0801"),
    exact("`encap vxlan`", ""),
    refused("`encap geneve`", "Linux has no Geneve device per VNI with static neighbours"),
    exact("`log`", "nft log, ten a second per rule and verdict, first packet of a connection"),
    stricter(
        "TTL and path MTU errors from gateways and destination nodes",
        "not delivered; TCP MSS is clamped",
    ),
    stricter(
        "bound on connections per tenant",
        "not set: the kernel's own limit holds for all tenants together",
    ),
    exact("rule and reason counters", ""),
];

/// The table as Markdown.
#[must_use]
pub fn markdown(target: &str, rows: &[Capability]) -> String {
    let mut out = format!("| construct | {target} | how |\n|---|---|---|\n");
    for row in rows {
        let level = match row.level {
            Level::Exact => "exact",
            Level::Stricter => "stricter",
            Level::Refused => "PW0801",
        };
        let _ = writeln!(out, "| {} | {level} | {} |", row.construct, row.note);
    }
    out
}
