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
    stricter(
        "`masquerade` of protocols without ports",
        "of the hosts behind one address, one at a time can speak to a destination",
    ),
    exact("`route … direct`", ""),
    exact(
        "`allow … via G` inside a tenant",
        "steered by routing marks; what arrives another way is `bad-vtep`",
    ),
    exact("`affinity symmetric`", "jhash buckets of the real ends"),
    refused("`affinity flow`, `affinity source` with several instances", ""),
    exact("`stateful`", ""),
    refused("`stateless`", ""),
    exact(
        "`on-failure`, live instances",
        "`build --down NODE`; a dead instance's buckets go to the next by rendezvous, or nowhere (`no-route`)",
    ),
    refused("workloads of one node that reach more than 16 gateway nodes", ""),
    refused(
        "device names with other bytes than letters, digits, `_`, `.`, `-`, `@`, `+`, or like `pwv10010`",
        "nft, `ip -batch` and a shell script could not all hold them",
    ),
    exact("`encap vxlan`, underlay IPv4 or IPv6", ""),
    refused("`encap geneve`", "iproute2 has no Geneve device with static neighbours"),
    exact("`log`", "nft log, ten a second per rule and verdict, first packet of a connection"),
    stricter(
        "TTL and path MTU errors from gateways and destination nodes",
        "not delivered; TCP MSS is clamped on every node",
    ),
    stricter(
        "the same errors from the workload's own node",
        "they come from 169.254.1.1 and fe80::1 instead of the segment's router address",
    ),
    stricter(
        "ICMP errors from outside, by routers that no route of the tenant covers",
        "`bad-vtep` on the destination node",
    ),
    stricter(
        "a bound on connections for each tenant (`ct-full`)",
        "65,536 on each node for each tenant or external that opens them, in 256 parts that fill unevenly, so the last \
         few in a hundred may be refused",
    ),
    exact(
        "sweeping what a generation no longer has",
        "`apply.sh` alone leaves neighbours, FDB entries and addresses, which open nothing; `partywall apply` takes them away",
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
