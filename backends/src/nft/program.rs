//! The program: the same rules on every node, less those that would consult an empty table. No rule stands for a line
//! of the policy.
//!
//! A packet takes its generation at one place, by a slot bit in its mark: VXLAN packets before they are unpacked, others
//! in `raw`, which is before conntrack puts fragments together, so that it does for each zone apart. Everything after asks for the
//! slot. A lookup that finds nothing ends a rule without a verdict, so each is followed by one that refuses.

use super::print::SUFFIX;
use super::{affinity, arp, errors, fast, gateway, schema, stateless};
use crate::iproute2::group::{FABRIC, WORKLOAD};
use crate::linux::Model;
use crate::linux::model::{Atom, Entry, Table};
use crate::linux::numbers::{self, DECIDED, KIND, PAIR, PARTS, PER_PART};
use compiler::algebra::parse_addr;
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

pub(super) fn name(table: Table) -> String {
    format!("{}_{SUFFIX}", schema::declared(table).name)
}

/// What a packet is looked up by in a table: the fields as the model has them, in the order in which the table is written.
pub(super) fn key(model: &Model, table: Table, fields: &[&str]) -> String {
    schema::ordered(fields, &schema::order(&model.rules, table)).join(" . ")
}

/// The maps from slots to chains.
pub(super) fn slots(model: &Model) -> Vec<(&'static str, &'static str)> {
    let mut out = vec![("slot_raw", "raw"), ("slot_decide", "decide"), ("slot_answer", "answer")];
    if model.gateway {
        out.extend([("slot_nat_dst", "nat_dst"), ("slot_nat_src", "nat_src"), ("slot_door", "door")]);
    }
    out
}

/// This generation's chains in `inet partywall`.
pub(super) fn chains(model: &Model) -> BTreeMap<String, Statements> {
    let mut out = BTreeMap::from([
        ("fabric".to_owned(), fabric(model)),
        ("raw".to_owned(), raw(model)),
        ("decide".to_owned(), decide(model)),
        ("known".to_owned(), known(model)),
        ("odd".to_owned(), odd(model)),
        ("source4".to_owned(), source(model, false)),
        ("source6".to_owned(), source(model, true)),
        ("destination4".to_owned(), destination(model, false)),
        ("destination6".to_owned(), destination(model, true)),
        ("judge".to_owned(), judge(model)),
        ("serve".to_owned(), serve(model)),
        ("judged".to_owned(), judged(model)),
        ("bound".to_owned(), bound(model)),
        ("go".to_owned(), go(model)),
        ("send".to_owned(), send()),
        ("answer".to_owned(), errors::answer(model)),
    ]);
    if model.gateway {
        out.insert("nat_dst".into(), gateway::nat(model, true));
        out.insert("nat_src".into(), gateway::nat(model, false));
        out.insert("back".into(), errors::back(model, SUFFIX));
        out.insert("door".into(), errors::door(model));
        stateless::chains(model, &mut out);
    } else {
        out.insert("workload".into(), workload(model));
        out.insert("owned4".into(), owned("4"));
        out.insert("owned6".into(), owned("6"));
        out.insert("landed".into(), landed(model));
        out.insert("arrive".into(), arrive(model));
        out.insert("part".into(), part(model));
        out.insert("near".into(), arp::near());
        if model.rules.has(Table::Arrived) {
            out.insert("come".into(), come());
        }
        out.insert("via".into(), gateway::via(model));
        if model.rules.has(Table::Gateway) {
            out.insert("cells".into(), gateway::cells(model));
        }
        if model.rules.has(Table::GatewayFlow) {
            out.insert("flows".into(), affinity::flows(model, WITH_PORTS));
        }
        if model.rules.has(Table::GatewaySource) {
            out.insert("senders".into(), affinity::senders());
        }
    }
    // Of what is remembered the first packet is written, of what is not, any.
    let stateless = stateless::decide(model);
    for log in &model.rules.logs {
        let written = |of: &str| {
            format!("{of} limit rate 10/second burst 20 packets log prefix \"{}\" # {}", log.prefix, log.note)
        };
        let mut statements = vec![written(FIRST)];
        statements.extend((!stateless.is_empty()).then(|| written("ct state untracked")));
        out.insert(log.name.clone(), statements);
    }
    out
}

/// A VXLAN packet before it is unpacked: who sends which inner source under which VNI.
fn fabric(model: &Model) -> Statements {
    let outer = schema::outer(parse_addr(model.vtep).0);
    let (vni, inner4, inner6) = (schema::VNI, schema::INNER4, schema::INNER6);
    let families = [
        (Table::Legit4, Table::LegitRange4, "@th,224,16 0x0800", inner4),
        (Table::Legit6, Table::LegitRange6, "@th,224,16 0x86dd", inner6),
    ];
    let saddr = format!("{outer} saddr");
    let lookup = |table, inner| {
        format!("meta mark set {} map @{}", key(model, table, &[&saddr, vni, inner]), name(table))
    };
    let taken = "accept";
    let mut out = Vec::new();
    // At once what is as it should be; the rest is asked what is wrong with it.
    for (exact, _, kind, inner) in families {
        if model.rules.has(exact) {
            out.push(format!(
                "{outer} daddr {} @th,64,8 & 0x08 == 0x08 {kind} {} {taken}",
                model.vtep,
                lookup(exact, inner)
            ));
        }
    }
    out.extend([
        format!("{outer} daddr != {} goto bad_vtep", model.vtep),
        // The I flag; then the inner frame is IPv4 or IPv6, without a VLAN tag.
        "@th,64,8 & 0x08 == 0x00 goto bad_vtep".into(),
    ]);
    if model.rules.has(Table::Vnis) {
        out.push(format!("{vni} != @{} goto unknown_vni", name(Table::Vnis)));
    } else {
        out.push("goto unknown_vni".into());
    }
    for (_, ranges, kind, inner) in families {
        if model.rules.has(ranges) {
            out.push(format!("{kind} {} {taken}", lookup(ranges, inner)));
        }
    }
    out.push("goto bad_vtep".into());
    out
}

/// What the fabric delivers to this node's endpoints, before conntrack. A role that tells no zone leaves it to the device.
fn come() -> Statements {
    vec![format!("ct zone set meta mark map @{} accept", name(Table::Arrived)), format!("goto raw_{SUFFIX}")]
}

fn raw(model: &Model) -> Statements {
    let mut out = Vec::new();
    if !model.gateway {
        // A fragment of IPv4; or IPv6, where a hop limit stands there, and the chain asks for the header.
        out.push(format!("@nh,48,16 & 0x3fff != 0x0000 jump part_{SUFFIX}"));
        if model.rules.has(Table::Zone) {
            out.push(format!("ct zone set iifname map @{} accept", name(Table::Zone)));
        }
        out.push("accept".into());
        return out;
    }
    out.push("meta priority set 0".into());
    if model.rules.has(Table::Space) {
        out.push(format!("meta priority set iifname map @{}", name(Table::Space)));
    }
    out.extend(stateless::raw(model));
    for (table, daddr) in [(Table::Zone4, "ip daddr"), (Table::Zone6, "ip6 daddr")] {
        if model.rules.has(table) {
            out.push(format!(
                "ct zone set {} map @{}",
                key(model, table, &["meta priority", daddr]),
                name(table)
            ));
        }
    }
    out.push("meta priority set 0".into());
    out.push("accept".into());
    out
}

/// Whose a workload's fragment is, before it waits for others: of what they become, the device is the last one's and the MAC the first
/// one's. Of what the fabric delivers that has been asked.
fn part(model: &Model) -> Statements {
    let mut out = vec![
        format!("iifgroup {FABRIC:#x} return"),
        "meta nfproto ipv6 exthdr frag missing return".to_owned(),
    ];
    out.extend(owners(model).map(|(owned, _)| format!("{owned} meta mark set $slot return")));
    out.push("goto spoof".into());
    out
}

/// What a packet shows that is to be decided at once: nothing about it is odd. In IPv4 a header without options; in IPv6 one that none
/// follows behind which a routing header may stand.
pub(super) const PLAIN: [&str; 2] = ["@nh,0,8 0x45", "ip6 nexthdr != { 0, 43, 44, 51, 60 }"];

/// The same of IPv6, and no ICMP.
const PLAIN6_NO_ICMP: &str = "ip6 nexthdr != { 0, 43, 44, 51, 58, 60 }";

/// Plain packets of one of [`ENDS`]. Comparing with each in turn is quicker than asking a set, and a field of a header is read more
/// quickly than `meta l4proto`, which is the same of these.
fn plain_ends(v6: bool) -> [String; 3] {
    ["tcp", "udp", "sctp"].map(|protocol| {
        if v6 { format!("{PROTOCOL6} {protocol}") } else { format!("{PROTOCOL4} {protocol} {}", PLAIN[0]) }
    })
}

const PROTOCOL4: &str = "ip protocol";
const PROTOCOL6: &str = "ip6 nexthdr";

/// What has a routing header has more destinations than the one that is decided on (RFC 8200, 4.4), or had.
///
/// To the policy a packet with an authentication header is of protocol 51. The kernel looks past that header, and past options and
/// fragment headers before it, and takes the packet for one of the protocol inside. Of headers of one kind a rule sees the first
/// alone, so what may hide a second one is refused as well.
pub(super) const HEADED: [&str; 5] = [
    "exthdr rt exists goto invalid",
    "ip6 nexthdr 51 goto invalid",
    "hbh nexthdr { 0, 51 } goto invalid",
    "dst nexthdr { 0, 51, 60 } goto invalid",
    "frag nexthdr { 0, 51, 60 } goto invalid",
];

fn decide(model: &Model) -> Statements {
    if model.gateway {
        return gateway::decide(model);
    }
    vec![format!("iifgroup {WORKLOAD:#x} goto workload_{SUFFIX}"), format!("goto landed_{SUFFIX}")]
}

/// The way of most packets in one rule for each protocol: what is known by both addresses with the device, or with a role that tells
/// it; then, of a connection that has been let through, the port, which names the rule's counter, and the routing mark of the pair. A
/// counter that is not found ends the rule before it has counted. What is not found so goes the long way. An error shows
/// other addresses than what it is about.
///
/// SOUNDNESS: `carry` has the ports of those verdicts alone that forward by the routing mark that the pair tells, by its bits or by
/// `lead` ([`fast`]). A packet of a connection that is known but allowed no more is not found there; a connection's first packet
/// is bounded and logged on the long way.
fn at_once(model: &Model, lives: &str, table: Table) -> Statements {
    if !model.rules.has(table) || !model.rules.has(Table::Exact) {
        return Vec::new();
    }
    let v6 = matches!(table, Table::Out6 | Table::In6);
    let (header, protocol) = if v6 { ("ip6", PROTOCOL6) } else { ("ip", PROTOCOL4) };
    let ends = format!("{header} saddr . {header} daddr");
    let key = match table {
        Table::Out4 | Table::Out6 => format!("iifname . ether saddr . {ends}"),
        _ => format!("{ends} . meta mark"),
    };
    let found = if model.rules.has(Table::Carry) {
        let led = match fast::led(&model.rules) {
            None => format!("meta mark map @{}", name(Table::Lead)),
            Some(bits) => format!("meta mark & {bits:#010x} | {:#010x} | $slot", numbers::tenant_mark(0)),
        };
        format!(
            "ct status confirmed counter name meta mark . {protocol} . {PORT} map @{} meta mark set {led} accept",
            name(Table::Carry),
        )
    } else {
        exact(model, PORT)
    };
    let pair = format!("{lives}meta mark set {key} . ct direction map @{}", name(table));
    let mut out = plain_ends(v6).map(|plain| format!("{plain} {pair} {found}")).to_vec();
    out.push(format!("meta mark & {KIND:#010x} == {PAIR:#010x} goto serve_{SUFFIX}"));
    out
}

/// Protocols with ports, whose packets are of no connection but their own.
pub(super) const ENDS: &str = "meta l4proto { tcp, udp, sctp }";

/// Of these a packet may be an error, about a connection of another protocol.
pub(super) const ICMP: &str = "meta l4proto { icmp, ipv6-icmp }";

/// The destination port of a packet's connection.
const PORT: &str = "ct original proto-dst";

/// The verdict on a port, after [`ENDS`].
pub(super) fn exact(model: &Model, port: &str) -> String {
    let key = key(model, Table::Exact, &["meta mark", "meta l4proto", port]);
    format!("meta priority set {key} map @{} goto judged_{SUFFIX}", name(Table::Exact))
}

/// On a node with endpoints, what the fabric delivers.
fn landed(model: &Model) -> Statements {
    let mut out = Vec::new();
    let families = [(Table::Land4, "ip", "4"), (Table::Land6, "ip6", "6")];
    let land =
        |table, header| format!("meta mark set iifname . {header} daddr . meta mark map @{}", name(table));
    let lives = errors::lives(model);
    for (lives, pairs) in lives.into_iter().zip([Table::In4, Table::In6]) {
        out.extend(at_once(model, lives, pairs));
    }
    for ((plain, lives), (table, header, family)) in PLAIN.into_iter().zip(lives).zip(families) {
        if model.rules.has(table) {
            out.push(format!("{plain} {lives}{} goto source{family}_{SUFFIX}", land(table, header)));
        }
    }
    out.push(format!("jump arrive_{SUFFIX}"));
    out.push(format!("jump known_{SUFFIX}"));
    for (table, header, family) in families {
        if model.rules.has(table) {
            out.push(format!("{} goto source{family}_{SUFFIX}", land(table, header)));
        }
    }
    out.push("goto bad_vtep".into());
    out
}

/// Comes back with packets that conntrack and the tables can tell.
fn known(model: &Model) -> Statements {
    let mut out = to_host(model);
    out.push(UNKNOWN.into());
    out.push("ip hdrlength != 5 goto invalid".into());
    out.extend(HEADED.map(str::to_owned));
    out.extend(foreign_icmp());
    out
}

/// Before a refusal, what may be said of the packet first; what was decided at once comes by here too.
fn odd(model: &Model) -> Statements {
    let mut out: Statements = if model.gateway {
        Vec::new()
    } else {
        servers().map(|rule| format!("iifgroup {WORKLOAD:#x} {rule}")).to_vec()
    };
    out.extend(to_host(model));
    out.push(UNKNOWN.into());
    out.extend(foreign_icmp());
    out
}

/// Of no connection.
const UNKNOWN: &str = "ct state invalid,untracked goto invalid";

fn to_host(model: &Model) -> Statements {
    let tables = [(Table::Underlay4, "ip"), (Table::Underlay6, "ip6")].into_iter();
    let there = tables.filter(|(table, _)| model.rules.has(*table));
    there.map(|(table, header)| format!("{header} daddr @{} goto to_host", name(table))).collect()
}

/// ICMP of the other family is no flow.
fn foreign_icmp() -> [String; 2] {
    [("ipv4", "ipv6-icmp"), ("ipv6", "icmp")]
        .map(|(family, icmp)| format!("meta nfproto {family} ct original protocol {icmp} goto invalid"))
}

/// What only a network's own servers and routers send. [`fast`](super::fast) keeps it out of the tables that are asked first.
fn servers() -> [String; 3] {
    [
        "udp sport 67 udp dport 68 goto invalid".into(),
        "udp sport 547 udp dport 546 goto invalid".into(),
        "icmp type redirect goto invalid".into(),
    ]
}

/// The lookups by device, MAC and source that give a context, each with the digit of its family.
fn owners(model: &Model) -> impl Iterator<Item = (String, &'static str)> {
    let tables = [
        (Table::From4, "ether saddr . ip saddr", "4"),
        (Table::FromBare4, "ip saddr", "4"),
        (Table::From6, "ether saddr . ip6 saddr", "6"),
        (Table::FromBare6, "ip6 saddr", "6"),
    ];
    let there = tables.into_iter().filter(|(table, ..)| model.rules.has(*table));
    there.map(|(table, source, family)| {
        (format!("meta mark set iifname . {source} map @{}", name(table)), family)
    })
}

/// MAC and source of a workload; neighbour discovery for the router.
fn workload(model: &Model) -> Statements {
    let discovery = "icmpv6 type { nd-neighbor-solicit, nd-neighbor-advert } ip6 hoplimit 255";
    let asked = errors::asked();
    let mut out = Vec::new();
    for pairs in [Table::Out4, Table::Out6] {
        out.extend(at_once(model, "", pairs));
    }
    for (owned, family) in owners(model) {
        // Neighbour discovery is of no connection.
        let plain = if family == "4" { PLAIN[0] } else { PLAIN6_NO_ICMP };
        out.push(format!("{plain} {owned} goto source{family}_{SUFFIX}"));
    }
    out.extend(HEADED.map(str::to_owned));
    out.extend(servers());
    for (owned, family) in owners(model) {
        if family == "6" {
            out.push(format!("{discovery} {owned} {asked}"));
        }
        out.push(format!("{owned} goto owned{family}_{SUFFIX}"));
    }
    for (table, mac) in [(Table::OwnerMac, " . ether saddr"), (Table::OwnerBare, "")] {
        if model.rules.has(table) {
            let owner = name(table);
            out.push(format!("{discovery} ip6 saddr fe80::/10 iifname{mac} @{owner} jump near_{SUFFIX}"));
            out.push(format!("{discovery} ip6 saddr fe80::/10 iifname{mac} @{owner} {asked}"));
        }
    }
    // What hosts send on their own: router solicitations, group reports, address probes. Nobody is asked.
    out.push("ip6 saddr { ::, fe80::/10 } ip6 daddr ff00::/8 goto to_host".into());
    out.push("goto spoof".into());
    out
}

/// What a workload sends as its own, with something odd about it.
fn owned(family: &str) -> Statements {
    vec![format!("jump known_{SUFFIX}"), format!("goto source{family}_{SUFFIX}")]
}

/// What the fabric delivers is for an endpoint here, under its segment's VNI.
fn arrive(model: &Model) -> Statements {
    let mut out = errors::remember(model);
    for (table, header) in [(Table::Here4, "ip"), (Table::Here6, "ip6")] {
        if model.rules.has(table) {
            out.push(format!("iifname . {header} daddr @{} return", name(table)));
        }
    }
    out.push("goto no_route".into());
    out
}

/// Source of the connection's first packet as a class, in the other register.
fn source(model: &Model, v6: bool) -> Statements {
    let (header, family) = if v6 { ("ip6", "6") } else { ("ip", "4") };
    let tables = if v6 { [Table::Src6, Table::SrcRange6] } else { [Table::Src4, Table::SrcRange4] };
    let address = format!("ct original {header} saddr");
    let mut out = Vec::new();
    for table in tables.into_iter().filter(|table| model.rules.has(*table)) {
        let key = key(model, table, &["meta mark", &address]);
        out.push(format!("meta priority set {key} map @{} goto destination{family}_{SUFFIX}", name(table)));
    }
    out.push(format!("jump odd_{SUFFIX}"));
    out.push("goto unknown_source".into());
    out
}

/// Its destination.
fn destination(model: &Model, v6: bool) -> Statements {
    let header = if v6 { "ip6" } else { "ip" };
    let [exact, range] = if v6 { [Table::Dst6, Table::DstRange6] } else { [Table::Dst4, Table::DstRange4] };
    let address = format!("ct original {header} daddr");
    let lookup = |table| {
        let key = key(model, table, &["meta mark", &address]);
        format!("meta mark set {key} map @{} goto judge_{SUFFIX}", name(table))
    };
    let mut out = Vec::new();
    if model.rules.has(exact) {
        out.push(lookup(exact));
    }
    // A range may hold addresses of the underlay.
    out.push(format!("jump odd_{SUFFIX}"));
    if model.rules.has(range) {
        out.push(lookup(range));
    }
    out.push("goto no_route".into());
    out
}

/// The class of the pair.
fn judge(model: &Model) -> Statements {
    let mut out = Vec::new();
    if model.rules.has(Table::Pair) {
        out.push(format!(
            "meta mark set meta mark . meta priority map @{} goto serve_{SUFFIX}",
            name(Table::Pair)
        ));
    }
    out.push(format!("jump odd_{SUFFIX}"));
    out.push("goto not_exposed".into());
    out
}

/// The verdict on a pair's class and a service.
fn serve(model: &Model) -> Statements {
    let mut out = Vec::new();
    let service = |table: Table, fields: &[&str]| {
        format!("meta priority set {} map @{} goto judged_{SUFFIX}", key(model, table, fields), name(table))
    };
    let tuple = ["meta mark", "ct original protocol", "ct original proto-src", PORT];
    let [pair, protocol, source, port] = tuple;
    if model.rules.has(Table::Exact) {
        out.push(format!("{ENDS} {}", exact(model, PORT)));
    }
    out.push(format!("jump odd_{SUFFIX}"));
    if model.rules.has(Table::Exact) {
        // An error is decided as what it is about.
        let exact = service(Table::Exact, &[pair, protocol, port]);
        out.push(format!("{ICMP} {exact}"));
    }
    if model.rules.has(Table::FromPort) {
        let found = by_ports(model, &[pair, protocol, source], port);
        out.push(format!("meta l4proto {WITH_PORTS} {found}"));
    }
    if model.rules.has(Table::Verdict) {
        out.push(format!("meta l4proto {WITH_PORTS} {}", service(Table::Verdict, &tuple)));
    }
    if model.rules.has(Table::Protocol) {
        out.push(service(Table::Protocol, &[pair, protocol]));
    }
    if model.rules.has(Table::Rest) {
        out.push(service(Table::Rest, &[pair]));
    }
    out.push("goto by_default".into());
    out
}

/// The verdict by what the source port gives and the destination port. What the first lookup gives stays in the other register if the
/// second finds nothing, where nobody asks for it.
pub(super) fn by_ports(model: &Model, source: &[&str], port: &str) -> String {
    let from = key(model, Table::FromPort, source);
    let to = key(model, Table::ToPort, &["meta priority", port]);
    format!(
        "meta priority set {from} map @{} meta priority set {to} map @{} goto judged_{SUFFIX}",
        name(Table::FromPort),
        name(Table::ToPort)
    )
}

/// What follows from a verdict.
fn judged(model: &Model) -> Statements {
    let mut out = Vec::new();
    for table in [Table::EgressRule, Table::IngressRule] {
        if model.rules.has(table) {
            out.push(format!("counter name meta priority map @{}", name(table)));
        }
    }
    out.extend(onward(model));
    for table in [Table::Log, Table::Action] {
        if model.rules.has(table) {
            out.push(format!("meta priority vmap @{}", name(table)));
        }
    }
    out.push("goto by_default".into());
    out
}

/// The same as `go` for a packet of a connection that has been counted, if nothing has to be remembered of it.
fn onward(model: &Model) -> Statements {
    let leads = |entry: &Entry| matches!(entry.value, Some(Atom::Mark(mark)) if mark & DECIDED == DECIDED);
    let all = |table| model.rules.tables.get(&table).is_some_and(|entries| entries.values().all(leads));
    if !all(Table::Route) && !all(Table::Way) {
        return Vec::new();
    }
    let mut held = "ct status confirmed ".to_owned();
    if model.rules.has(Table::XlatHeld) {
        let _ = write!(held, "meta priority . ct mark @{} ", name(Table::XlatHeld));
    }
    let route = format!("{} meta priority set 0 accept", way(model));
    errors::silent(model).into_iter().map(|silent| format!("{held}{silent}{route}")).collect()
}

/// The routing mark by the verdict. A verdict that refuses has none.
fn way(model: &Model) -> String {
    if model.rules.has(Table::Way) {
        format!("meta mark set meta priority map @{} meta mark set meta mark | $slot", name(Table::Way))
    } else {
        format!("meta mark set meta priority . ct direction map @{}", name(Table::Route))
    }
}

/// A new connection that is allowed is one more of those that its opener has open here. Denied packets never come so far. The
/// kernel keeps a list per element and looks through it for each new connection, hence the parts; its hash is keyed at boot, so
/// that nobody can aim at one.
fn bound(model: &Model) -> Statements {
    let mut out = vec!["meta mark set 0x00000000".to_owned()];
    if model.rules.has(Table::Opener) {
        out.push(format!("meta mark set iifname map @{}", name(Table::Opener)));
    }
    for (table, saddr) in [(Table::Opener4, "ip saddr"), (Table::Opener6, "ip6 saddr")] {
        if model.rules.has(table) {
            out.push(format!(
                "iifgroup {FABRIC:#x} meta mark set {} map @{}",
                key(model, table, &["meta mark", saddr]),
                name(table)
            ));
        }
    }
    out.push(format!(
        "add @connections {{ meta mark . symhash mod {PARTS} ct count over {PER_PART} }} goto ct_full"
    ));
    out
}

/// The first packet of a connection: one that has been let through is confirmed.
pub(super) const FIRST: &str = "ct status ! confirmed";

fn go(model: &Model) -> Statements {
    let mut out = vec![format!("{FIRST} jump bound_{SUFFIX}")];
    if model.rules.has(Table::XlatHeld) {
        out.push(format!(
            "ct state new ct mark 0x00000000 ct mark set meta priority map @{}",
            name(Table::Xlat)
        ));
        out.push(format!("meta priority . ct mark != @{} goto invalid", name(Table::XlatHeld)));
    }
    if model.rules.has(Table::Route) || model.rules.has(Table::Way) {
        out.push(way(model));
    }
    if model.gateway {
        out.extend(errors::doubt(model, SUFFIX));
    } else {
        out.extend(errors::expire(model));
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
