//! To gateways, and on them: which instance a packet goes to, what a gateway takes a packet for, and how it translates.

use super::print::SUFFIX;
use super::program::{FIRST, PLAIN, Statements, key, name};
use super::stateless;
use crate::iproute2::group::{FABRIC, OUTSIDE};
use crate::linux::Model;
use crate::linux::model::Table;
use crate::linux::numbers::{INSTANCE, KIND};
use compiler::buckets;

pub(super) fn decide(model: &Model) -> Statements {
    let mut out = vec!["meta mark set meta mark & 0xfffffffe".to_owned()];
    out.extend(stateless::decide(model));
    let context =
        format!("meta mark set iifname . meta mark . ct zone . ct direction map @{}", name(Table::Context));
    if model.rules.has(Table::Context) {
        for (plain, family) in PLAIN.into_iter().zip(["4", "6"]) {
            out.push(format!("iifgroup {FABRIC:#x} {plain} {context} goto source{family}_{SUFFIX}"));
        }
    }
    // What an external sends to the node itself is the node's own business.
    out.push(format!(
        "iifgroup {OUTSIDE:#x} ct zone 0 fib daddr type {{ local, broadcast, multicast }} meta mark set 0x00000000 accept"
    ));
    for (table, saddr, family) in
        [(Table::Outside4, "ip saddr", "ipv4"), (Table::Outside6, "ip6 saddr", "ipv6")]
    {
        let unknown = if model.rules.has(table) {
            format!("{} != @{}", key(model, table, &["iifname", saddr]), name(table))
        } else {
            format!("meta nfproto {family}")
        };
        out.push(format!("iifgroup {OUTSIDE:#x} ct zone 0 {unknown} goto unknown_source"));
    }
    out.push(format!("iifgroup {OUTSIDE:#x} ct zone 0 goto no_route"));
    out.push(format!("iifgroup {OUTSIDE:#x} ct state untracked meta mark set 0x00000000 accept"));
    out.push(format!("jump known_{SUFFIX}"));
    if model.rules.has(Table::Context) {
        out.push(format!("meta nfproto ipv4 {context} goto source4_{SUFFIX}"));
        out.push(format!("{context} goto source6_{SUFFIX}"));
    }
    out.push("goto not_exposed".into());
    out
}

/// The instance of a gateway, by the buckets of the two real ends, and the way there from the source's segment.
pub(super) fn via(model: &Model) -> Statements {
    let mut out = vec![format!("{FIRST} jump bound_{SUFFIX}")];
    if model.rules.has(Table::Only) {
        out.push(format!("meta mark set meta priority map @{}", name(Table::Only)));
    }
    let tables =
        [(Table::GatewayFlow, "flows"), (Table::GatewaySource, "senders"), (Table::Gateway, "cells")];
    for (table, chain) in tables {
        if model.rules.has(table) {
            out.push(format!("meta mark & {KIND:#010x} != {INSTANCE:#010x} jump {chain}_{SUFFIX}"));
        }
    }
    if model.rules.has(Table::Leg) {
        out.push(format!("meta mark set iifname . meta mark map @{}", name(Table::Leg)));
    }
    out.push(format!("goto send_{SUFFIX}"));
    out
}

/// Cells are kept one higher than they are, since zero means that there is none.
pub(super) fn cells(model: &Model) -> Statements {
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
pub(super) fn nat(model: &Model, destination: bool) -> Statements {
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
    if !destination {
        for (header, saddr, table) in
            [("ip", "ip saddr", Table::SnatNet4), ("ip6", "ip6 saddr", Table::SnatNet6)]
        {
            if model.rules.has(table) {
                let key = key(model, table, &["ct mark", saddr]);
                out.push(format!("snat {header} prefix to {key} map @{}", name(table)));
            }
        }
    }
    out.push("goto no_route".into());
    out
}
