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

// On either target for Linux: of gateways without state, and of externals.
const UNBOUNDED: Capability =
    stricter("`ct-full` at a stateless gateway", "there are none to bound: nothing is remembered");
const LOGGED_ALONE: Capability = exact(
    "`log` at a stateless gateway",
    "no packet is known to be a connection's first: any from whoever may open one, up to ten a second per rule and \
     verdict; answers are not logged",
);
const OUTSIDERS: Capability = stricter(
    "ICMP errors from outside, by routers that no route of the tenant covers",
    "`bad-vtep` on the destination node",
);
const CLIENTS_ALONE: Capability = refused("`clients as` for an external through a stateless gateway", "");
const TWO_WAYS: Capability = refused(
    "through a stateless gateway, packets that may open a connection and may answer one, translated in two ways",
    "nobody could tell which it is",
);
const TWO_KINDS: Capability = refused(
    "one tenant's packets to another through a stateful and a stateless gateway on one node, by one destination",
    "",
);

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
    stricter(
        "IPv6 routing and authentication headers",
        "`invalid`, whatever their type and whether segments are left; single headers of options are skipped",
    ),
    stricter(
        "fragments",
        "reassembled before they are decided; what cannot be is dropped, as at a stateless gateway all are",
    ),
    exact(
        "`expose`, `as`, `clients as` between tenants",
        "1:1 translation by conntrack, ICMP errors included",
    ),
    exact("`clients as` for an external", "prefix by prefix"),
    refused(
        "`clients as` for an external on several instances",
        "senders could not tell whose bucket a reply is in",
    ),
    refused(
        "two tenants with equal addresses, each presented to the other under one prefix through one node",
        "their tuples could not be told apart",
    ),
    exact("`route … via`, `attach`, `masquerade`", ""),
    stricter(
        "`masquerade` of protocols without ports",
        "of the hosts behind one address, one at a time can speak to a destination; the kernel drops what others send, uncounted",
    ),
    exact("`route … direct`", ""),
    exact(
        "`allow … via G` inside a tenant",
        "steered by routing marks; what arrives another way is `bad-vtep`",
    ),
    exact("`affinity symmetric`", "jhash buckets of the real ends"),
    exact(
        "`affinity flow`",
        "jhash buckets of the real ends with their ports; ICMP errors by the connection that they quote",
    ),
    refused("`affinity flow` with `masquerade`, on several instances", "a masquerade changes ports"),
    exact("`affinity source`", "jhash cell of the sender"),
    exact("`stateful`", ""),
    exact(
        "`stateless`",
        "if the fabric says `stateless-replies`; packets of answers are let through by the mirrored decision, TCP with ACK \
         or RST and never SYN without ACK; what that admits is listed at the head of `stage.nft`",
    ),
    stricter(
        "ICMP errors through a stateless gateway",
        "`invalid`: what they quote would have to be translated with them",
    ),
    stricter(
        "path MTU errors of a stateless gateway about packets that it translates",
        "not sent: what is quoted would be what nobody sent; TCP MSS is clamped",
    ),
    UNBOUNDED,
    LOGGED_ALONE,
    CLIENTS_ALONE,
    TWO_WAYS,
    TWO_KINDS,
    exact(
        "`on-failure`, live instances",
        "`build --down NODE`; a dead instance's buckets go to the next by rendezvous, or nowhere (`no-route`)",
    ),
    refused("workloads of one node that reach more than 16 gateway nodes", ""),
    refused(
        "device names with other bytes than letters, digits, `_`, `.`, `-`, `@`, `+`, or like `pwv10010`, or `pwvx`",
        "nft, `ip -batch` and a shell script could not all hold them",
    ),
    exact("`encap vxlan`, underlay IPv4 or IPv6", ""),
    refused("`encap geneve`", "iproute2 has no Geneve device with static neighbours"),
    exact("`log`", "nft log, ten a second per rule and verdict, first packet of a connection"),
    exact("TTL and path MTU errors of nodes and gateways; TCP MSS", ""),
    stricter(
        "path MTU errors about replies to a masquerade address",
        "not sent: no table leads on from an address that stands for many",
    ),
    stricter(
        "errors of a workload's own node about packets steered through a gateway inside the tenant",
        "not delivered: they go the packet's way, and the gateway drops them (`bad-vtep`)",
    ),
    stricter(
        "neighbour solicitations",
        "answered for the router addresses, fe80::1 and endpoints of the own segment, not of the tenant's others",
    ),
    OUTSIDERS,
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

/// The target `p4`.
pub const P4: &[Capability] = &[
    exact("`allow`, `deny`, `pass`, tiers, `overrides`", "every verdict is the reference evaluator's"),
    exact("IPv4, IPv6, overlapping tenants", ""),
    exact("TCP, UDP, SCTP with ports and `from`; other protocols by number", ""),
    exact(
        "replies",
        "packets that look like answers to an allowed connection are let through; TCP needs ACK or RST and never SYN \
         without ACK. Where that admits more than the policy lets open a connection it is PW0801, unless the fabric \
         says `stateless-replies`; then every set is listed in `entries.txtpb`",
    ),
    refused(
        "two ways for packets that may open a connection and may answer one",
        "nobody could tell which it is",
    ),
    stricter(
        "ICMP and ICMPv6",
        "echo, timestamp, address mask, information and node information are answered; other types as far as a rule allows them",
    ),
    stricter(
        "ICMP errors about a known connection",
        "only where a rule allows their type, and never through a gateway of this target",
    ),
    stricter("addresses without a declared endpoint", "`no-route` as a destination, `spoof` as a source"),
    stricter("IPv4 options, IPv6 extension headers", "`invalid`"),
    stricter("fragments", "`fragment`"),
    stricter(
        "IPv6 neighbour discovery",
        "not answered: workloads need a static neighbour entry for their router",
    ),
    exact("ARP", "answered for every other address of the segment"),
    refused("endpoints without `mac`", "a switch without state resolves no neighbours"),
    exact("`expose`, `as`, `clients as` between tenants", "1:1 translation by prefix, checksums updated"),
    refused("`clients as` for an external", ""),
    exact("`route … via`, exposures to externals, on nodes with endpoints", ""),
    refused(
        "`attach`, `masquerade` on a gateway node of this target",
        "a next hop's MAC is no part of the policy",
    ),
    exact("`route … direct`", ""),
    exact("`allow … via G` inside a tenant", "what arrives another way is `bad-vtep`"),
    exact("`affinity symmetric`", "jhash buckets of the real ends"),
    refused("`affinity flow`, `affinity source` with several instances", ""),
    refused("an instance of a `stateful` gateway", ""),
    exact("`stateless`", "if the fabric says `stateless-replies`"),
    exact(
        "`on-failure`, live instances",
        "`build --down NODE`; a dead instance's buckets go to the next by rendezvous, or nowhere (`no-route`)",
    ),
    exact("`encap vxlan`, underlay IPv4 or IPv6", ""),
    refused("`encap geneve`", ""),
    stricter(
        "TTL and path MTU errors",
        "`ttl` and `too-big` are counted and not answered; TCP MSS is not clamped",
    ),
    stricter(
        "a bound on connections for each tenant (`ct-full`)",
        "there are none to bound: nothing is remembered",
    ),
    stricter("`log`", "counted under the rule's name; nothing is written"),
    exact("rule and reason counters", "by index; `entries.txtpb` names the rules"),
];

/// The target `ebpf`.
pub const EBPF: &[Capability] = &[
    exact("`allow`, `deny`, `pass`, tiers, `overrides`", "every verdict is the reference evaluator's"),
    exact("IPv4, IPv6, overlapping tenants", ""),
    exact("TCP, UDP, SCTP with ports and `from`; other protocols by number", ""),
    stricter(
        "ICMP and ICMPv6",
        "errors pass with the connection that they quote, others are `invalid`; types that are neither query nor answer are \
         decided packet by packet",
    ),
    stricter("addresses without a declared endpoint", "`no-route` as a destination, `spoof` as a source"),
    stricter(
        "IPv4 options, IPv6 extension headers",
        "`invalid`; fragment headers are understood, and an authentication header that comes first is protocol 51, as to the policy",
    ),
    stricter("fragments", "pass in order after their first; others are dropped, and so is what overlaps"),
    exact("`expose`, `as`, `clients as` between tenants", "1:1 translation, ICMP errors included"),
    stricter(
        "two translations that would show one connection's addresses and ports twice to one provider",
        "the later connection is `ct-full` while the earlier lasts",
    ),
    exact("`clients as` for an external", "prefix by prefix"),
    refused(
        "`clients as` for an external on several instances",
        "senders could not tell whose bucket a reply is in",
    ),
    refused(
        "two tenants with equal addresses, each presented to the other under one prefix through one node",
        "shared with the nft target",
    ),
    exact("`route … via`, `attach`, `masquerade`", ""),
    stricter(
        "`masquerade` of protocols without ports, and of SCTP",
        "of the hosts behind one address, one at a time can speak to a destination (and from a port); others are `ct-full`",
    ),
    exact("`route … direct`", ""),
    exact("`allow … via G` inside a tenant", "what arrives another way is `bad-vtep`"),
    exact("`affinity symmetric`", "jhash buckets of the real ends"),
    exact("`affinity flow`", "jhash buckets of the real ends with their ports"),
    refused("`affinity flow` with `masquerade`, on several instances", "a masquerade changes ports"),
    exact("`affinity source`", "jhash buckets of the sender's real address, twice"),
    exact("`stateful`", "TCP windows and transport checksums are left to the ends"),
    exact(
        "`stateless`",
        "if the fabric says `stateless-replies`; packets of answers are let through by the mirrored decision, TCP with ACK \
         or RST and never SYN without ACK; what that admits is listed by `build`, `audit` and in `maps.json`",
    ),
    stricter(
        "ICMP errors through a stateless gateway",
        "`invalid`: nothing tells which connection's they are",
    ),
    UNBOUNDED,
    LOGGED_ALONE,
    CLIENTS_ALONE,
    TWO_WAYS,
    TWO_KINDS,
    exact("`on-failure`, live instances", "`build --down NODE`"),
    refused("workloads of one node that reach more than 16 gateway nodes", "shared with the nft target"),
    refused(
        "device names with other bytes than letters, digits, `_`, `.`, `-`, `@`, `+`, or like `pwv10010`, or `pwvx`",
        "shared with the nft target",
    ),
    exact("`encap vxlan`, underlay IPv4 or IPv6", ""),
    refused("`encap geneve`", ""),
    exact("`log`", "ring buffer, ten a second per rule and verdict, first packet of a connection"),
    exact(
        "TTL and path MTU errors; TCP MSS",
        "ten errors a second to one address, 1,000 behind one device or VNI",
    ),
    stricter("packets over the MTU without DF", "dropped, and the sender is told what fits; not fragmented"),
    stricter(
        "neighbour solicitations",
        "answered for the router addresses, fe80::1 and endpoints of the own segment, not of the tenant's others",
    ),
    OUTSIDERS,
    stricter(
        "a bound on connections for each tenant (`ct-full`)",
        "65,536 on each node for each tenant or external that opens them, less where more than 16 share a node's \
         1,048,576",
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
