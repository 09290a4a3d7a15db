//! The program: the same rules on every node, less those that would consult an empty table. No rule stands for a line
//! of the policy.
//!
//! A packet takes its generation at one place, by a slot bit in its mark: VXLAN packets before they are unpacked, others
//! in `raw`. Everything after asks for the slot. A lookup that finds nothing ends a rule without a verdict, so each is
//! followed by one that refuses.

use super::model::Table;
use super::numbers::{CONTEXT, DECIDED, DESTINATION, INSTANCE, KIND, PAIR, PARTS, PER_PART, ROLE};
use super::print::{SUFFIX, head};
use super::{Model, schema};
use crate::iproute2::group::{FABRIC, OUTSIDE, WORKLOAD};
use compiler::algebra::parse_addr;
use compiler::buckets;
use std::collections::BTreeMap;
use std::fmt::Write as _;

pub(super) type Statements = Vec<String>;

/// Reason counters, each with the permanent chain that counts and drops.
pub const REASONS: [(&str, &str); 11] = [
    ("bad_vtep", "drop_bad_vtep"),
    ("by_default", "drop_default"),
    ("by_rule", "drop_rule"),
    ("ct_full", "drop_ct_full"),
    ("invalid", "drop_invalid"),
    ("no_route", "drop_no_route"),
    ("not_exposed", "drop_not_exposed"),
    ("spoof", "drop_spoof"),
    ("to_host", "drop_to_host"),
    ("unknown_source", "drop_unknown_source"),
    ("unknown_vni", "drop_unknown_vni"),
];

/// Conntrack's protocols whose original tuple has ports, or type and code.
const WITH_PORTS: &str = "{ icmp, tcp, udp, ipv6-icmp, sctp }";

fn name(table: Table) -> String {
    format!("{}_{SUFFIX}", schema::declared(table).name)
}

/// The maps from slots to chains.
pub(super) fn slots(model: &Model) -> Vec<(&'static str, &'static str)> {
    let mut out = vec![("slot_raw", "raw"), ("slot_decide", "decide")];
    if model.gateway {
        out.extend([("slot_nat_dst", "nat_dst"), ("slot_nat_src", "nat_src")]);
    }
    out
}

/// The table, the counters and the base chains. The rules of each are replaced in the one transaction that the file is.
pub(super) fn base(model: &Model) -> String {
    let ours = format!("{WORKLOAD:#x}-{OUTSIDE:#x}");
    let inside = format!("{WORKLOAD:#x}-{FABRIC:#x}");
    let port = model.port;
    let slot = |map: &str| format!("meta mark & 0x00000001 vmap @{map}");
    let decided = format!("meta mark & {DECIDED:#010x} == {DECIDED:#010x}");
    let mut chains: Vec<(&str, Option<&str>, Statements)> =
        vec![("flip_fabric", None, vec![]), ("flip_raw", None, vec![])];
    for (chain, counter) in REASONS {
        let mut rules = vec![format!("counter name \"{counter}\" drop")];
        if chain == "unknown_vni" && model.log_unknown_vni {
            rules.insert(
                0,
                "limit rate 10/second burst 20 packets log prefix \"partywall unknown-vni: \"".into(),
            );
        }
        chains.push((chain, None, rules));
    }
    chains.push((
        "fabric_in",
        Some("type filter hook input priority -10; policy drop;"),
        vec![
            format!("iifgroup {WORKLOAD:#x} icmpv6 type {{ nd-neighbor-solicit, nd-neighbor-advert }} ip6 hoplimit 255 accept"),
            format!("iifgroup {inside} goto to_host"),
            format!("udp dport {port} goto flip_fabric"),
            "accept".into(),
        ],
    ));
    let closed = closed(model);
    let mut raw = vec![format!("iifgroup != {ours} udp dport {port} notrack accept")];
    raw.extend(closed.iter().map(|closed| format!("{closed} goto to_host")));
    raw.extend([format!("iifgroup != {ours} accept"), "jump flip_raw".into(), slot("slot_raw")]);
    chains.push(("raw", Some("type filter hook prerouting priority raw; policy drop;"), raw));
    chains.push((
        "raw_out",
        Some("type filter hook output priority raw; policy drop;"),
        vec![format!("udp dport {port} notrack accept"), "accept".into()],
    ));
    chains.push((
        "decide",
        Some("type filter hook prerouting priority mangle; policy drop;"),
        vec![format!("iifgroup != {ours} accept"), slot("slot_decide")],
    ));
    let mut forward = vec![format!("iifgroup != {ours} oifgroup != {ours} accept")];
    if model.gateway {
        forward
            .push(format!("iifgroup {OUTSIDE:#x} meta mark & {DECIDED:#010x} == 0x00000000 goto no_route"));
    } else {
        forward.push(format!("iifgroup {FABRIC:#x} oifgroup {FABRIC:#x} goto no_route"));
    }
    forward.push(format!("{decided} tcp flags & (syn) == syn tcp option maxseg size set rt mtu"));
    forward.push(format!("{decided} iifgroup {ours} oifgroup {ours} accept"));
    forward.push("goto to_host".into());
    chains.push(("forward", Some("type filter hook forward priority filter; policy drop;"), forward));
    chains.push((
        "leave",
        Some("type filter hook postrouting priority 300; policy drop;"),
        // The mark would stay on the encapsulated packet and lead that by the tenant's table too.
        vec![format!("oifgroup {FABRIC:#x} meta mark set 0x00000000"), "accept".into()],
    ));
    if model.gateway {
        let foreign = format!("meta mark & {DECIDED:#010x} == 0x00000000 accept");
        chains.push((
            "nat_in",
            Some("type nat hook prerouting priority dstnat; policy drop;"),
            vec![foreign.clone(), slot("slot_nat_dst")],
        ));
        chains.push((
            "nat_out",
            Some("type nat hook postrouting priority srcnat; policy drop;"),
            vec![foreign, slot("slot_nat_src")],
        ));
    }
    let mut out = head(
        model,
        "the table, its counters and base chains, closed until a generation is committed; nft -f, repeatable",
    );
    out.push_str("table inet partywall {\n");
    for (_, counter) in REASONS {
        let _ = writeln!(out, "  counter {counter} {{\n  }}");
    }
    // What is in it is the kernel's, and outlives generations as connections do.
    out.push_str(
        "  set connections {\n    typeof meta mark . meta mark\n    size 16777216\n    flags dynamic\n  }\n",
    );
    for (map, _) in slots(model) {
        let _ = writeln!(out, "  map {map} {{\n    type mark : verdict\n  }}");
    }
    for (chain, hook, _) in &chains {
        let _ = writeln!(out, "  chain {chain} {{");
        if let Some(hook) = hook {
            let _ = writeln!(out, "    {hook}");
        }
        out.push_str("  }\n");
    }
    out.push_str("}\ntable arp partywall {\n  chain flip {\n  }\n  chain in {\n    type filter hook input priority filter; policy drop;\n  }\n}\n");
    let permanent = chains.iter().filter(|(chain, ..)| !chain.starts_with("flip"));
    for (chain, _, rules) in permanent {
        let _ = writeln!(out, "flush chain inet partywall {chain}");
        for rule in rules {
            let _ = writeln!(out, "add rule inet partywall {chain} {rule}");
        }
    }
    out.push_str("flush chain arp partywall in\n");
    if let Some(closed) = closed {
        let _ = writeln!(out, "add rule arp partywall in {closed} drop");
    }
    let _ = writeln!(out, "add rule arp partywall in iifgroup != {inside} accept");
    out.push_str("add rule arp partywall in goto flip\n");
    out
}

/// Devices of workloads that came back without their group, such as after a restart: closed until they are in it again.
fn closed(model: &Model) -> Option<String> {
    let names: Vec<String> = model.workloads.iter().map(|dev| format!("\"{dev}\"")).collect();
    (!names.is_empty()).then(|| format!("iifname {{ {} }} iifgroup != {WORKLOAD:#x}", names.join(", ")))
}

/// The flip.
pub(super) fn commit(model: &Model) -> String {
    let mut out = head(model, "the flip; nft -D slot=0|1 -f");
    let _ = write!(
        out,
        "flush chain inet partywall flip_fabric
flush chain inet partywall flip_raw
flush chain arp partywall flip
add rule inet partywall flip_fabric goto fabric_{SUFFIX}
add rule inet partywall flip_raw meta mark & {KIND:#010x} != {ROLE:#010x} meta mark set $slot
add rule arp partywall flip goto in_{SUFFIX}
"
    );
    out
}

/// This generation's chains in `inet partywall`.
pub(super) fn chains(model: &Model) -> BTreeMap<String, Statements> {
    let mut out = BTreeMap::from([
        ("fabric".to_owned(), fabric(model)),
        ("raw".to_owned(), raw(model)),
        ("decide".to_owned(), decide(model)),
        ("classify4".to_owned(), classify(model, false)),
        ("classify6".to_owned(), classify(model, true)),
        ("judge".to_owned(), judge(model)),
        ("bound".to_owned(), bound(model)),
        ("go".to_owned(), go(model)),
        ("send".to_owned(), send()),
    ]);
    if model.gateway {
        out.insert("nat_dst".into(), nat(model, true));
        out.insert("nat_src".into(), nat(model, false));
    } else {
        out.insert("workload".into(), workload(model));
        out.insert("arrive".into(), arrive(model));
        out.insert("via".into(), via(model));
        if model.rules.has(Table::Gateway) {
            out.insert("cells".into(), cells(model));
        }
    }
    for log in &model.rules.logs {
        let statement =
            format!("ct state new limit rate 10/second burst 20 packets log prefix \"{}\"", log.prefix);
        out.insert(log.name.clone(), vec![format!("{statement} # {}", log.note)]);
    }
    out
}

/// A VXLAN packet before it is unpacked: who sends which inner source under which VNI.
fn fabric(model: &Model) -> Statements {
    let outer = schema::outer(parse_addr(model.vtep).0);
    let (vni, inner4, inner6) = (schema::VNI, schema::INNER4, schema::INNER6);
    let mut out = vec![
        format!("iifname != \"{}\" goto bad_vtep", model.dev),
        format!("{outer} daddr != {} goto bad_vtep", model.vtep),
        // The I flag; then the inner frame is IPv4 or IPv6, without a VLAN tag.
        "@th,64,8 & 0x08 == 0x00 goto bad_vtep".into(),
    ];
    if model.rules.has(Table::Vnis) {
        out.push(format!("{vni} != @{} goto unknown_vni", name(Table::Vnis)));
    } else {
        out.push("goto unknown_vni".into());
    }
    out.push("meta mark set 0x00000000".into());
    for (exact, ranges, kind, inner) in [
        (Table::Legit4, Table::LegitRange4, "0x0800", inner4),
        (Table::Legit6, Table::LegitRange6, "0x86dd", inner6),
    ] {
        let lookup = |table| format!("meta mark set {outer} saddr . {vni} . {inner} map @{}", name(table));
        if model.rules.has(exact) {
            out.push(format!("@th,224,16 {kind} {}", lookup(exact)));
        }
        if model.rules.has(ranges) {
            out.push(format!("@th,224,16 {kind} meta mark 0x00000000 {}", lookup(ranges)));
        }
    }
    out.push(format!("meta mark & {KIND:#010x} != {ROLE:#010x} goto bad_vtep"));
    out.push("meta mark set meta mark | $slot accept".into());
    out
}

fn raw(model: &Model) -> Statements {
    let mut out = Vec::new();
    if !model.gateway {
        if model.rules.has(Table::Zone) {
            out.push(format!("ct zone set iifname map @{}", name(Table::Zone)));
        }
        out.push("accept".into());
        return out;
    }
    out.push("meta priority set 0".into());
    if model.rules.has(Table::Space) {
        out.push(format!("meta priority set iifname map @{}", name(Table::Space)));
    }
    for (table, header) in [(Table::Zone4, "ip"), (Table::Zone6, "ip6")] {
        if model.rules.has(table) {
            out.push(format!("ct zone set meta priority . {header} daddr map @{}", name(table)));
        }
    }
    out.push("meta priority set 0".into());
    out.push("accept".into());
    out
}

fn decide(model: &Model) -> Statements {
    let mut out = vec!["meta mark set meta mark & 0xfffffffe".to_owned()];
    if model.gateway {
        // What an external sends to the node itself is the node's own business.
        out.push(format!(
            "iifgroup {OUTSIDE:#x} ct zone 0 fib daddr type {{ local, broadcast, multicast }} meta mark set 0x00000000 accept"
        ));
        for (table, header, family) in [(Table::Outside4, "ip", "ipv4"), (Table::Outside6, "ip6", "ipv6")] {
            let unknown = if model.rules.has(table) {
                format!("iifname . {header} saddr != @{}", name(table))
            } else {
                format!("meta nfproto {family}")
            };
            out.push(format!("iifgroup {OUTSIDE:#x} ct zone 0 {unknown} goto unknown_source"));
        }
        out.push(format!("iifgroup {OUTSIDE:#x} ct zone 0 goto no_route"));
        out.push(format!("iifgroup {OUTSIDE:#x} ct state untracked meta mark set 0x00000000 accept"));
    } else {
        out.push(format!("iifgroup {WORKLOAD:#x} jump workload_{SUFFIX}"));
        out.push(format!("iifgroup {FABRIC:#x} jump arrive_{SUFFIX}"));
    }
    for (table, header) in [(Table::Underlay4, "ip"), (Table::Underlay6, "ip6")] {
        if model.rules.has(table) {
            out.push(format!("{header} daddr @{} goto to_host", name(table)));
        }
    }
    out.push("ct state { invalid, untracked } goto invalid".into());
    out.push("ip hdrlength != 5 goto invalid".into());
    // ICMP of the other family is no flow.
    out.push("meta nfproto ipv4 ct original protocol ipv6-icmp goto invalid".into());
    out.push("meta nfproto ipv6 ct original protocol icmp goto invalid".into());
    if model.rules.has(Table::Context) {
        out.push(format!(
            "meta mark set iifname . meta mark . ct zone . ct direction map @{}",
            name(Table::Context)
        ));
    }
    let refused = if model.gateway { "not_exposed" } else { "bad_vtep" };
    out.push(format!("meta mark & {KIND:#010x} != {CONTEXT:#010x} goto {refused}"));
    out.push("meta priority set 0".into());
    out.push(format!("meta nfproto ipv4 goto classify4_{SUFFIX}"));
    out.push(format!("goto classify6_{SUFFIX}"));
    out
}

/// MAC and source of a workload; neighbour discovery for the router.
fn workload(model: &Model) -> Statements {
    let discovery = "icmpv6 type { nd-neighbor-solicit, nd-neighbor-advert } ip6 hoplimit 255";
    // What only a network's own servers and routers send.
    let mut out: Statements = vec![
        "udp sport 67 udp dport 68 goto invalid".into(),
        "udp sport 547 udp dport 546 goto invalid".into(),
        "icmp type redirect goto invalid".into(),
    ];
    let owned = |table: Table, header: &str, verdict: &str| {
        let mac = if matches!(table, Table::Owner4 | Table::Owner6) { "ether saddr . " } else { "" };
        format!("iifname . {mac}{header} saddr @{} {verdict}", name(table))
    };
    for (table, header) in
        [(Table::Owner4, "ip"), (Table::Bare4, "ip"), (Table::Owner6, "ip6"), (Table::Bare6, "ip6")]
    {
        if !model.rules.has(table) {
            continue;
        }
        if header == "ip6" {
            out.push(
                format!("{discovery} {} meta mark set 0x00000000 accept", owned(table, header, ""))
                    .replace("  ", " "),
            );
        }
        out.push(owned(table, header, "return"));
    }
    if model.rules.has(Table::OwnerMac) {
        out.push(format!(
            "{discovery} ip6 saddr fe80::/10 iifname . ether saddr @{} meta mark set 0x00000000 accept",
            name(Table::OwnerMac)
        ));
    }
    // What hosts send on their own: router solicitations, group reports, address probes. Nobody is asked.
    out.push("ip6 saddr { ::, fe80::/10 } ip6 daddr ff00::/8 goto to_host".into());
    out.push("goto spoof".into());
    out
}

/// What the fabric delivers is for an endpoint here, under its segment's VNI.
fn arrive(model: &Model) -> Statements {
    let mut out = Vec::new();
    for (table, header) in [(Table::Here4, "ip"), (Table::Here6, "ip6")] {
        if model.rules.has(table) {
            out.push(format!("iifname . {header} daddr @{} return", name(table)));
        }
    }
    out.push("goto no_route".into());
    out
}

/// Source and destination of the connection's first packet, as classes.
fn classify(model: &Model, v6: bool) -> Statements {
    let header = if v6 { "ip6" } else { "ip" };
    let [src, src_range, dst, dst_range] = if v6 {
        [Table::Src6, Table::SrcRange6, Table::Dst6, Table::DstRange6]
    } else {
        [Table::Src4, Table::SrcRange4, Table::Dst4, Table::DstRange4]
    };
    let mut out = Vec::new();
    let lookup = |register: &str, end: &str, table| {
        format!("meta {register} set meta mark . ct original {header} {end} map @{}", name(table))
    };
    if model.rules.has(src) {
        out.push(lookup("priority", "saddr", src));
    }
    if model.rules.has(src_range) {
        out.push(format!("meta priority 0 {}", lookup("priority", "saddr", src_range)));
    }
    out.push("meta priority 0 goto unknown_source".into());
    if model.rules.has(dst) {
        out.push(lookup("mark", "daddr", dst));
    }
    if model.rules.has(dst_range) {
        out.push(format!(
            "meta mark & {KIND:#010x} == {CONTEXT:#010x} {}",
            lookup("mark", "daddr", dst_range)
        ));
    }
    out.push(format!("meta mark & {KIND:#010x} != {DESTINATION:#010x} goto no_route"));
    out.push(format!("goto judge_{SUFFIX}"));
    out
}

/// The verdict on a pair of classes and a service.
fn judge(model: &Model) -> Statements {
    let mut out = Vec::new();
    if model.rules.has(Table::Pair) {
        out.push(format!("meta mark set meta mark . meta priority map @{}", name(Table::Pair)));
    }
    out.push(format!("meta mark & {KIND:#010x} != {PAIR:#010x} goto not_exposed"));
    out.push("meta priority set 0".into());
    if model.rules.has(Table::Verdict) {
        out.push(format!(
            "meta l4proto {WITH_PORTS} meta priority set meta mark . ct original protocol . ct original proto-src . ct original proto-dst map @{}",
            name(Table::Verdict)
        ));
    }
    if model.rules.has(Table::Protocol) {
        out.push(format!(
            "meta priority 0 meta priority set meta mark . ct original protocol map @{}",
            name(Table::Protocol)
        ));
    }
    if model.rules.has(Table::Rest) {
        out.push(format!("meta priority 0 meta priority set meta mark map @{}", name(Table::Rest)));
    }
    for table in [Table::EgressRule, Table::IngressRule] {
        if model.rules.has(table) {
            out.push(format!("counter name meta priority map @{}", name(table)));
        }
    }
    for table in [Table::Log, Table::Action] {
        if model.rules.has(table) {
            out.push(format!("meta priority vmap @{}", name(table)));
        }
    }
    out.push("goto by_default".into());
    out
}

/// A new connection that is allowed is one more of those that its opener has open here. Denied packets never come so far. The
/// kernel keeps a list per element and looks through it for each new connection, hence the parts; its hash is keyed at boot, so
/// that nobody can aim at one.
fn bound(model: &Model) -> Statements {
    let mut out = vec!["meta mark set 0x00000000".to_owned()];
    if model.rules.has(Table::Opener) {
        out.push(format!("meta mark set iifname map @{}", name(Table::Opener)));
    }
    for (table, header) in [(Table::Opener4, "ip"), (Table::Opener6, "ip6")] {
        if model.rules.has(table) {
            out.push(format!(
                "iifgroup {FABRIC:#x} meta mark set meta mark . {header} saddr map @{}",
                name(table)
            ));
        }
    }
    out.push(format!(
        "add @connections {{ meta mark . symhash mod {PARTS} ct count over {PER_PART} }} goto ct_full"
    ));
    out
}

const BOUNDED: &str = "ct state new jump bound";

fn go(model: &Model) -> Statements {
    let mut out = vec![format!("{BOUNDED}_{SUFFIX}")];
    if model.rules.has(Table::Xlat) {
        out.push(format!(
            "ct state new ct mark 0x00000000 ct mark set meta priority map @{}",
            name(Table::Xlat)
        ));
        out.push(format!("meta priority . ct mark != @{} goto invalid", name(Table::XlatHeld)));
    }
    if model.rules.has(Table::Route) {
        out.push(format!("meta mark set meta priority . ct direction map @{}", name(Table::Route)));
    }
    out.push(format!("goto send_{SUFFIX}"));
    out
}

fn send() -> Statements {
    vec![
        "meta priority set 0".into(),
        format!("meta mark & {DECIDED:#010x} == 0x00000000 goto no_route"),
        "meta mark set meta mark | $slot accept".into(),
    ]
}

/// The instance of a gateway, by the buckets of the two real ends, and the way there from the source's segment.
fn via(model: &Model) -> Statements {
    let mut out = vec![format!("{BOUNDED}_{SUFFIX}")];
    if model.rules.has(Table::Only) {
        out.push(format!("meta mark set meta priority map @{}", name(Table::Only)));
    }
    if model.rules.has(Table::Gateway) {
        out.push(format!("meta mark & {KIND:#010x} != {INSTANCE:#010x} jump cells_{SUFFIX}"));
    }
    if model.rules.has(Table::Leg) {
        out.push(format!("meta mark set iifname . meta mark map @{}", name(Table::Leg)));
    }
    out.push(format!("goto send_{SUFFIX}"));
    out
}

/// Cells are kept one higher than they are, since zero means that there is none.
fn cells(model: &Model) -> Statements {
    let (seed, count) = (buckets::SEED, buckets::CELLS);
    let hash = |header: &str, end: &str| {
        format!("meta priority set jhash {header} {end} mod {count} seed {seed:#x} offset 1")
    };
    let mut out = vec![
        format!("meta mark set meta priority map @{}", name(Table::Gateway)),
        "meta priority set 0".into(),
    ];
    for (table, header) in [(Table::Hash4, "ip"), (Table::Hash6, "ip6")] {
        if model.rules.has(table) {
            out.push(format!("meta priority set ct zone . {header} daddr map @{}", name(table)));
        }
    }
    for (family, header) in [("ipv4", "ip"), ("ipv6", "ip6")] {
        out.push(format!("meta nfproto {family} meta priority 0 {}", hash(header, "daddr")));
    }
    out.push(format!("meta mark set meta mark . meta priority map @{}", name(Table::Row)));
    for (family, header) in [("ipv4", "ip"), ("ipv6", "ip6")] {
        out.push(format!("meta nfproto {family} {}", hash(header, "saddr")));
    }
    out.push(format!("meta mark set meta mark . meta priority map @{}", name(Table::Cell)));
    out
}

/// Translation at a gateway: by the connection's translation, or none at all; a connection without an entry is refused.
fn nat(model: &Model, destination: bool) -> Statements {
    let mut out = Vec::new();
    let keep = if destination { Table::KeepDst } else { Table::KeepSrc };
    if model.rules.has(keep) {
        out.push(format!("ct mark @{} accept", name(keep)));
    }
    let families = if destination {
        [("ip", Table::Dnat4), ("ip6", Table::Dnat6)]
    } else {
        [("ip", Table::Snat4), ("ip6", Table::Snat6)]
    };
    let (verb, end) = if destination { ("dnat", "daddr") } else { ("snat", "saddr") };
    if !destination {
        for (header, table) in [("ip", Table::Masq4), ("ip6", Table::Masq6)] {
            if model.rules.has(table) {
                out.push(format!("snat {header} to ct mark map @{}", name(table)));
            }
        }
    }
    for (header, table) in families {
        if model.rules.has(table) {
            out.push(format!("{verb} {header} to ct mark . {header} {end} map @{}", name(table)));
        }
    }
    out.push("goto no_route".into());
    out
}

/// This generation's chain in `arp partywall`: who may ask for whom. The kernel answers (`proxy_arp`) after a lookup in the
/// tenant's table, which the mark selects.
pub(super) fn arp_chains(model: &Model) -> BTreeMap<String, Statements> {
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
