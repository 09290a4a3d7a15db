//! How each table is declared in nft, and when the program has it.

use crate::linux::model::{Atom, Ruleset, Table};
use compiler::algebra::Family;
use std::collections::BTreeMap;

/// A declaration.
pub struct Declared {
    /// Without the generation's suffix.
    pub name: &'static str,
    /// `type …` or `typeof …`; `{vtep}` stands for the outer source address.
    pub keys: &'static str,
    /// `Some`: a map, of this kind of value.
    pub value: Option<&'static str>,
    pub interval: bool,
    /// In table `arp partywall` instead of `inet partywall`.
    pub arp: bool,
}

const fn set(name: &'static str, keys: &'static str) -> Declared {
    Declared { name, keys, value: None, interval: false, arp: false }
}

const fn map(name: &'static str, keys: &'static str, value: &'static str) -> Declared {
    Declared { name, keys, value: Some(value), interval: false, arp: false }
}

const fn ranges(declared: Declared) -> Declared {
    Declared { interval: true, ..declared }
}

const fn arp(declared: Declared) -> Declared {
    Declared { arp: true, ..declared }
}

/// The outer source address of the underlay's family.
pub fn outer(family: Family) -> &'static str {
    match family {
        Family::V4 => "ip",
        Family::V6 => "ip6",
    }
}

/// Bits of the VXLAN payload behind the UDP header: VNI, inner EtherType, inner source addresses (RFC 7348).
pub const VNI: &str = "@th,96,24";
pub const INNER4: &str = "@th,336,32";
pub const INNER6: &str = "@th,304,128";

/// The order in which the fields of a table's keys are written, by their numbers in the model.
///
/// The kernel looks through a table of intervals field by field, and at each walks over every element that matched so far,
/// for a packet as for a new element. So the field goes first that leaves the fewest: of a list of ports the port, of many
/// pairs with one port the pair.
#[must_use]
pub fn order(rules: &Ruleset, table: Table) -> Vec<usize> {
    let Some(entries) = rules.tables.get(&table) else { return Vec::new() };
    let width = entries.keys().next().map_or(0, Vec::len);
    let mut order: Vec<usize> = (0..width).collect();
    if !declared(table).interval {
        return order;
    }
    let weight = |field: usize| -> u64 {
        let mut alike: BTreeMap<&Atom, u64> = BTreeMap::new();
        for atom in entries.keys().filter_map(|key| key.get(field)) {
            *alike.entry(atom).or_default() += 1;
        }
        alike.values().map(|n| n.saturating_mul(*n)).fold(0, u64::saturating_add)
    };
    if let Some(first) = (0..width).min_by_key(|field| weight(*field)) {
        order.retain(|field| *field != first);
        order.insert(0, first);
    }
    order
}

/// Fields in an order.
#[must_use]
pub fn ordered<T: Clone>(fields: &[T], order: &[usize]) -> Vec<T> {
    order.iter().filter_map(|field| fields.get(*field)).cloned().collect()
}

/// Whether the marks in a table's keys, and its values, hold the slot: packets come with it, or take it here.
#[must_use]
pub fn slotted(table: Table) -> (bool, bool) {
    match table {
        Table::Legit4
        | Table::Legit6
        | Table::LegitRange4
        | Table::LegitRange6
        | Table::Stateless4
        | Table::Stateless6
        | Table::Route
        | Table::Lead => (false, true),
        Table::Land4 | Table::Land6 | Table::In4 | Table::In6 | Table::Arrived => (true, false),
        _ => (false, false),
    }
}

/// The declaration of a table.
#[must_use]
pub fn declared(table: Table) -> Declared {
    match table {
        Table::Vnis => set("vnis", "typeof @th,96,24"),
        Table::Legit4 => map("legit4", "typeof {vtep} saddr . @th,96,24 . @th,336,32", "meta mark"),
        Table::Legit6 => map("legit6", "typeof {vtep} saddr . @th,96,24 . @th,304,128", "meta mark"),
        Table::LegitRange4 => {
            ranges(map("legit_range4", "typeof {vtep} saddr . @th,96,24 . @th,336,32", "meta mark"))
        }
        Table::LegitRange6 => {
            ranges(map("legit_range6", "typeof {vtep} saddr . @th,96,24 . @th,304,128", "meta mark"))
        }
        Table::Zone => map("zone", "typeof iifname", "ct zone"),
        Table::Space => map("space", "type ifname", "classid"),
        Table::Zone4 => ranges(map("zone4", "typeof meta priority . ip daddr", "ct zone")),
        Table::Zone6 => ranges(map("zone6", "typeof meta priority . ip6 daddr", "ct zone")),
        Table::Stateless4 => ranges(map("stateless4", "typeof meta priority . ip daddr", "meta mark")),
        Table::Stateless6 => ranges(map("stateless6", "typeof meta priority . ip6 daddr", "meta mark")),
        Table::Outside4 => ranges(set("outside4", "type ifname . ipv4_addr")),
        Table::Outside6 => ranges(set("outside6", "type ifname . ipv6_addr")),
        Table::Owner4 => set("owner4", "type ifname . ether_addr . ipv4_addr"),
        Table::Owner6 => set("owner6", "type ifname . ether_addr . ipv6_addr"),
        Table::Bare4 => set("bare4", "type ifname . ipv4_addr"),
        Table::Bare6 => set("bare6", "type ifname . ipv6_addr"),
        Table::OwnerBare => set("owner_bare", "type ifname"),
        Table::OwnerMac => set("owner_mac", "type ifname . ether_addr"),
        Table::Here4 => set("here4", "type ifname . ipv4_addr"),
        Table::Here6 => set("here6", "type ifname . ipv6_addr"),
        Table::Underlay4 => set("underlay4", "type ipv4_addr"),
        Table::Underlay6 => set("underlay6", "type ipv6_addr"),
        Table::Context => map("context", "typeof iifname . meta mark . ct zone . ct direction", "meta mark"),
        Table::Src4 => map("src4", "type mark . ipv4_addr", "classid"),
        Table::Src6 => map("src6", "type mark . ipv6_addr", "classid"),
        Table::SrcRange4 => ranges(map("src_range4", "type mark . ipv4_addr", "classid")),
        Table::SrcRange6 => ranges(map("src_range6", "type mark . ipv6_addr", "classid")),
        Table::Dst4 => map("dst4", "type mark . ipv4_addr", "mark"),
        Table::Dst6 => map("dst6", "type mark . ipv6_addr", "mark"),
        Table::DstRange4 => ranges(map("dst_range4", "type mark . ipv4_addr", "mark")),
        Table::DstRange6 => ranges(map("dst_range6", "type mark . ipv6_addr", "mark")),
        Table::Pair => map("pair", "type mark . classid", "mark"),
        Table::Verdict => {
            ranges(map("verdict", "type mark . inet_proto . inet_service . inet_service", "classid"))
        }
        Table::Protocol => ranges(map("protocol", "type mark . inet_proto", "classid")),
        Table::Rest => map("rest", "type mark", "classid"),
        Table::EgressRule => map("egress_rule", "type classid", "counter"),
        Table::IngressRule => map("ingress_rule", "type classid", "counter"),
        Table::Log => map("log", "type classid", "verdict"),
        Table::Action => map("action", "type classid", "verdict"),
        Table::Route => map("route", "typeof meta priority . ct direction", "meta mark"),
        Table::Only => map("only", "type classid", "mark"),
        Table::Gateway => map("gateway", "type classid", "mark"),
        Table::GatewayFlow => map("gateway_flow", "type classid", "mark"),
        Table::GatewaySource => map("gateway_source", "type classid", "mark"),
        Table::Onward => map("onward", "type classid", "mark"),
        Table::Real4 => map("real4", "typeof ct zone . ip daddr", "ip daddr"),
        Table::Real6 => map("real6", "typeof ct zone . ip6 daddr", "ip6 daddr"),
        Table::Row => map("row", "type mark . classid", "mark"),
        Table::Cell => map("cell", "type mark . classid", "mark"),
        Table::Hash4 => map("hash4", "typeof ct zone . ip daddr", "meta priority"),
        Table::Hash6 => map("hash6", "typeof ct zone . ip6 daddr", "meta priority"),
        Table::Opener => map("opener", "type ifname", "mark"),
        Table::Opener4 => ranges(map("opener4", "type mark . ipv4_addr", "mark")),
        Table::Opener6 => ranges(map("opener6", "type mark . ipv6_addr", "mark")),
        Table::Router4 => map("router4", "type ifname . ipv4_addr", "ipv4_addr"),
        Table::Router6 => map("router6", "type ifname . ipv6_addr", "ipv6_addr"),
        Table::Back => map("back", "type ifname . mark", "mark"),
        Table::Unanswered => set("unanswered", "typeof ct mark . ct direction"),
        Table::Door => set("door", "typeof oifname . ct zone"),
        Table::Home => map("home", "type ifname", "mark"),
        Table::Leg => map("leg", "type ifname . mark", "mark"),
        Table::Xlat => map("xlat", "type classid", "mark"),
        Table::XlatHeld => set("xlat_held", "type classid . mark"),
        Table::KeepDst => set("keep_dst", "type mark"),
        Table::KeepSrc => set("keep_src", "type mark"),
        Table::Dnat4 => map("dnat4", "type mark . ipv4_addr", "ipv4_addr"),
        Table::Dnat6 => map("dnat6", "type mark . ipv6_addr", "ipv6_addr"),
        Table::Snat4 => map("snat4", "type mark . ipv4_addr", "ipv4_addr"),
        Table::Snat6 => map("snat6", "type mark . ipv6_addr", "ipv6_addr"),
        Table::SnatNet4 => ranges(map("snat_net4", "type mark . ipv4_addr", "interval ipv4_addr")),
        Table::SnatNet6 => ranges(map("snat_net6", "type mark . ipv6_addr", "interval ipv6_addr")),
        Table::Masq4 => map("masq4", "type mark", "ipv4_addr"),
        Table::Masq6 => map("masq6", "type mark", "ipv6_addr"),
        Table::From4 => map("from4", "type ifname . ether_addr . ipv4_addr", "mark"),
        Table::From6 => map("from6", "type ifname . ether_addr . ipv6_addr", "mark"),
        Table::FromBare4 => map("from_bare4", "type ifname . ipv4_addr", "mark"),
        Table::FromBare6 => map("from_bare6", "type ifname . ipv6_addr", "mark"),
        Table::Land4 => map("land4", "type ifname . ipv4_addr . mark", "mark"),
        Table::Land6 => map("land6", "type ifname . ipv6_addr . mark", "mark"),
        Table::Out4 => {
            map("out4", "typeof iifname . ether saddr . ip saddr . ip daddr . ct direction", "meta mark")
        }
        Table::Out6 => {
            map("out6", "typeof iifname . ether saddr . ip6 saddr . ip6 daddr . ct direction", "meta mark")
        }
        Table::In4 => map("in4", "typeof ip saddr . ip daddr . meta mark . ct direction", "meta mark"),
        Table::In6 => map("in6", "typeof ip6 saddr . ip6 daddr . meta mark . ct direction", "meta mark"),
        Table::Exact => map("exact", "type mark . inet_proto . inet_service", "classid"),
        Table::FromPort => ranges(map("from_port", "type mark . inet_proto . inet_service", "classid")),
        Table::ToPort => ranges(map("to_port", "type classid . inet_service", "classid")),
        Table::Carry => map("carry", "type mark . inet_proto . inet_service", "counter"),
        Table::Lead => map("lead", "type mark", "mark"),
        Table::Way => map("way", "type classid", "mark"),
        Table::Arrived => map("arrived", "typeof meta mark", "ct zone"),
        Table::ArpOwner => arp(set("owner", "type ifname . ether_addr . ipv4_addr")),
        Table::ArpBare => arp(set("bare", "type ifname . ipv4_addr")),
        Table::ArpSelf => arp(set("self", "type ifname . ipv4_addr")),
        Table::ArpMark => arp(map("mark", "type ifname", "mark")),
    }
}
