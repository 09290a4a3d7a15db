//! Gateways that keep no state: their packets are of no connection, and are decided by what they show.
//!
//! In `raw` the space and the destination tell them from those that conntrack is to see, and their mark becomes the context. Each is
//! looked up by the same chains in two forms: as an answer, which comes back where nothing is found, and as one that opens a
//! connection, which is refused there.

use super::print::SUFFIX;
use super::program::{ENDS, HEADED, ICMP, Statements, by_ports, exact, key, name};
use crate::iproute2::group::FABRIC;
use crate::linux::Model;
use crate::linux::model::Table;
use crate::linux::numbers::{ANSWERABLE, ANSWERS, CONTEXT, KIND, ROLE_NODE};
use std::collections::BTreeMap;

/// What the chains of one family ask.
struct Family {
    /// `ip`, `ip6`.
    header: &'static str,
    version: &'static str,
    /// In names of chains.
    number: &'static str,
    contexts: Table,
    underlay: Table,
    src: [Table; 2],
    dst: [Table; 2],
}

const FAMILIES: [Family; 2] = [
    Family {
        header: "ip",
        version: "ipv4",
        number: "4",
        contexts: Table::Stateless4,
        underlay: Table::Underlay4,
        src: [Table::Src4, Table::SrcRange4],
        dst: [Table::Dst4, Table::DstRange4],
    },
    Family {
        header: "ip6",
        version: "ipv6",
        number: "6",
        contexts: Table::Stateless6,
        underlay: Table::Underlay6,
        src: [Table::Src6, Table::SrcRange6],
        dst: [Table::Dst6, Table::DstRange6],
    },
];

fn families(model: &Model) -> impl Iterator<Item = &'static Family> {
    FAMILIES.iter().filter(|family| model.rules.has(family.contexts))
}

/// The context, once the number of the space is in the other register.
fn context(model: &Model, family: &Family) -> String {
    let daddr = format!("{} daddr", family.header);
    let key = key(model, family.contexts, &["meta priority", &daddr]);
    format!("meta mark set {key} map @{}", name(family.contexts))
}

/// In `raw`, with the space in the other register.
pub(super) fn raw(model: &Model) -> Statements {
    let mut out: Statements = families(model)
        .map(|family| format!("{} notrack meta priority set 0 accept", context(model, family)))
        .collect();
    if !out.is_empty() {
        // The sender of what the fabric delivers is known by its mark. What has none gets no zone, and is refused.
        let strange = format!(
            "iifgroup {FABRIC:#x} meta mark & 0xfffffffe != {ROLE_NODE:#010x} meta priority set 0 accept"
        );
        out.insert(0, strange);
    }
    out
}

/// In `decide`.
pub(super) fn decide(model: &Model) -> Statements {
    let lead = |family: &Family| {
        let (version, number) = (family.version, family.number);
        format!(
            "meta mark & {KIND:#010x} == {CONTEXT:#010x} meta nfproto {version} goto stateless{number}_{SUFFIX}"
        )
    };
    families(model).map(lead).collect()
}

/// The chains.
pub(super) fn chains(model: &Model, out: &mut BTreeMap<String, Statements>) {
    for family in families(model) {
        let number = family.number;
        out.insert(format!("stateless{number}"), stateless(model, family));
        for answers in [true, false] {
            let form = form(answers);
            out.insert(format!("{form}{number}"), source(model, family, answers));
            out.insert(format!("{form}_to{number}"), destination(model, family, answers));
        }
    }
    if families(model).next().is_none() {
        return;
    }
    for answers in [true, false] {
        out.insert(format!("{}_pair", form(answers)), pair(model, answers));
        out.insert(format!("{}_by", form(answers)), serve(model, answers));
    }
    out.insert("pass".into(), pass());
    out.insert("renew_dst".into(), renew(model, false));
    out.insert("renew_src".into(), renew(model, true));
    out.insert("onward".into(), onward(model));
}

fn form(answers: bool) -> &'static str {
    if answers { "answers" } else { "opens" }
}

/// One packet, first as an answer.
fn stateless(model: &Model, family: &Family) -> Statements {
    let (header, number) = (family.header, family.number);
    let mut out = Vec::new();
    if model.rules.has(family.underlay) {
        out.push(format!("{header} daddr @{} goto to_host", name(family.underlay)));
    }
    // Nothing is put together that is of no connection. An error quotes what it is about, and that would have to be translated with
    // it; neighbours and routers are asked on one link.
    let refused: &[&str] = match header {
        "ip" => &[
            "ip hdrlength != 5 goto invalid",
            "ip frag-off & 0x3fff != 0 goto invalid",
            "meta l4proto ipv6-icmp goto invalid",
            "icmp type { 3, 4, 5, 9, 10, 11, 12, 31 } goto invalid",
        ],
        _ => &[
            "frag frag-off != 0 goto invalid",
            "frag more-fragments 1 goto invalid",
            "meta l4proto icmp goto invalid",
            "icmpv6 type 0-127 goto invalid",
            "icmpv6 type { 130-137, 143, 148-149, 151-153 } goto invalid",
        ],
    };
    let headed = HEADED.into_iter().filter(|_| header == "ip6");
    out.extend(headed.chain(refused.iter().copied()).map(str::to_owned));
    out.push(format!("jump answers{number}_{SUFFIX}"));
    out.push(format!("meta priority set iifname map @{}", name(Table::Space)));
    out.push(context(model, family));
    out.push(format!("meta mark set meta mark & {:#010x}", !(ANSWERS | 1)));
    out.push(format!("goto opens{number}_{SUFFIX}"));
    out
}

/// The sender's class, in the other register.
fn source(model: &Model, family: &Family, answers: bool) -> Statements {
    let (form, number) = (form(answers), family.number);
    let saddr = format!("{} saddr", family.header);
    let mut out = Vec::new();
    if answers {
        // Whoever begins a connection sends a SYN alone.
        out.push("tcp flags & (syn | ack) == syn return".to_owned());
        out.push("tcp flags & (ack | rst) == 0x0 return".to_owned());
    }
    for table in family.src.into_iter().filter(|table| model.rules.has(*table)) {
        let key = key(model, table, &["meta mark", &saddr]);
        out.push(format!("meta priority set {key} map @{} goto {form}_to{number}_{SUFFIX}", name(table)));
    }
    out.extend(refusal(answers, "unknown_source"));
    out
}

fn destination(model: &Model, family: &Family, answers: bool) -> Statements {
    let daddr = format!("{} daddr", family.header);
    let mut out = Vec::new();
    for table in family.dst.into_iter().filter(|table| model.rules.has(*table)) {
        let key = key(model, table, &["meta mark", &daddr]);
        out.push(format!("meta mark set {key} map @{} goto {}_pair_{SUFFIX}", name(table), form(answers)));
    }
    out.extend(refusal(answers, "no_route"));
    out
}

fn pair(model: &Model, answers: bool) -> Statements {
    let mut out = Vec::new();
    if model.rules.has(Table::Pair) {
        let pair = name(Table::Pair);
        out.push(format!(
            "meta mark set meta mark . meta priority map @{pair} goto {}_by_{SUFFIX}",
            form(answers)
        ));
    }
    out.extend(refusal(answers, "not_exposed"));
    out
}

/// The verdict. Of ICMP, type and code stand where others have their source port.
fn serve(model: &Model, answers: bool) -> Statements {
    let mut out = Vec::new();
    if model.rules.has(Table::Exact) {
        out.push(format!("{ENDS} {}", exact(model, "th dport")));
    }
    let [pair, protocol] = ["meta mark", "meta l4proto"];
    if model.rules.has(Table::FromPort) {
        for (of, port) in [(ENDS, "th dport"), (ICMP, "th sport")] {
            out.push(format!("{of} {}", by_ports(model, &[pair, protocol, "th sport"], port)));
        }
    }
    let mut ask = |of: &str, table: Table, fields: &[&str]| {
        if model.rules.has(table) {
            let lookup = format!("meta priority set {} map @{}", key(model, table, fields), name(table));
            out.push(format!("{of}{lookup} goto judged_{SUFFIX}"));
        }
    };
    ask(&format!("{ENDS} "), Table::Verdict, &[pair, protocol, "th sport", "th dport"]);
    ask(&format!("{ICMP} "), Table::Verdict, &[pair, protocol, "th sport", "th sport"]);
    ask("", Table::Protocol, &[pair, protocol]);
    if !answers {
        ask("", Table::Rest, &[pair]);
    }
    out.extend(refusal(answers, "by_default"));
    out
}

/// What is no answer may still open a connection.
fn refusal(answers: bool, chain: &str) -> Option<String> {
    (!answers).then(|| format!("goto {chain}"))
}

/// What has a verdict that lets it pass. One that expires here is answered as it came.
fn pass() -> Statements {
    let expired = format!(
        "meta mark set iifname map @{} meta mark set meta mark | {ANSWERABLE:#010x} goto send_{SUFFIX}",
        name(Table::Home)
    );
    vec![
        format!("ip ttl < 2 {expired}"),
        format!("ip6 hoplimit < 2 {expired}"),
        format!("meta mark set meta priority map @{} goto renew_dst_{SUFFIX}", name(Table::Xlat)),
        "goto no_route".into(),
    ]
}

/// The receiver's address, then the sender's. What a translation does not know goes nowhere.
fn renew(model: &Model, source: bool) -> Statements {
    let (keep, end, tables, next) = if source {
        (Table::KeepSrc, "saddr", [Table::Snat4, Table::Snat6], "onward")
    } else {
        (Table::KeepDst, "daddr", [Table::Dnat4, Table::Dnat6], "renew_src")
    };
    let mut out = Vec::new();
    if model.rules.has(keep) {
        out.push(format!("meta mark @{} goto {next}_{SUFFIX}", name(keep)));
    }
    for (family, table) in FAMILIES.iter().zip(tables).filter(|(_, table)| model.rules.has(*table)) {
        let end = format!("{} {end}", family.header);
        out.push(format!("{end} set meta mark . {end} map @{} goto {next}_{SUFFIX}", name(table)));
    }
    out.push("goto no_route".into());
    out
}

fn onward(model: &Model) -> Statements {
    let mut out = Vec::new();
    if model.rules.has(Table::Onward) {
        out.push(format!("meta mark set meta priority map @{} goto send_{SUFFIX}", name(Table::Onward)));
    }
    out.push("goto no_route".into());
    out
}
