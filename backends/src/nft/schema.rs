//! How each table is declared in nft, and when the program has it.

use super::model::Table;
use compiler::algebra::Family;

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
        Table::Outside4 => ranges(set("outside4", "type ifname . ipv4_addr")),
        Table::Outside6 => ranges(set("outside6", "type ifname . ipv6_addr")),
        Table::Owner4 => set("owner4", "type ifname . ether_addr . ipv4_addr"),
        Table::Owner6 => set("owner6", "type ifname . ether_addr . ipv6_addr"),
        Table::Bare4 => set("bare4", "type ifname . ipv4_addr"),
        Table::Bare6 => set("bare6", "type ifname . ipv6_addr"),
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
        Table::Row => map("row", "type mark . classid", "mark"),
        Table::Cell => map("cell", "type mark . classid", "mark"),
        Table::Hash4 => map("hash4", "typeof ct zone . ip daddr", "meta priority"),
        Table::Hash6 => map("hash6", "typeof ct zone . ip6 daddr", "meta priority"),
        Table::Opener => map("opener", "type ifname", "mark"),
        Table::Opener4 => ranges(map("opener4", "type mark . ipv4_addr", "mark")),
        Table::Opener6 => ranges(map("opener6", "type mark . ipv6_addr", "mark")),
        Table::Leg => map("leg", "type ifname . mark", "mark"),
        Table::Xlat => map("xlat", "type classid", "mark"),
        Table::XlatHeld => set("xlat_held", "type classid . mark"),
        Table::KeepDst => set("keep_dst", "type mark"),
        Table::KeepSrc => set("keep_src", "type mark"),
        Table::Dnat4 => map("dnat4", "type mark . ipv4_addr", "ipv4_addr"),
        Table::Dnat6 => map("dnat6", "type mark . ipv6_addr", "ipv6_addr"),
        Table::Snat4 => map("snat4", "type mark . ipv4_addr", "ipv4_addr"),
        Table::Snat6 => map("snat6", "type mark . ipv6_addr", "ipv6_addr"),
        Table::Masq4 => map("masq4", "type mark", "ipv4_addr"),
        Table::Masq6 => map("masq6", "type mark", "ipv6_addr"),
        Table::ArpOwner => arp(set("owner", "type ifname . ether_addr . ipv4_addr")),
        Table::ArpBare => arp(set("bare", "type ifname . ipv4_addr")),
        Table::ArpSelf => arp(set("self", "type ifname . ipv4_addr")),
        Table::ArpMark => arp(map("mark", "type ifname", "mark")),
    }
}
