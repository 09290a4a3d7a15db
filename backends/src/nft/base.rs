//! What stands whatever generation runs: the table, its counters, the base chains, and the flip.
//!
//! Every packet of the machine passes the base chains, and the underlay's packets pass those of both directions: so what can
//! be told by a device's group is told first.

use super::print::{SUFFIX, head};
use super::program::{REASONS, Statements, slots};
use super::schema;
use super::{arp, errors};
use crate::iproute2::group::{FABRIC, OUTSIDE, WORKLOAD};
use crate::linux::Model;
use crate::linux::model::Table;
use crate::linux::numbers::{ANSWERABLE, ARRIVAL, DECIDED, IS_ARRIVAL, KIND, ROLE};
use compiler::algebra::parse_addr;
use std::fmt::Write as _;

/// The table, the counters and the base chains. The rules of each are replaced in the one transaction that the file is.
pub(super) fn base(model: &Model) -> String {
    let ours = format!("{WORKLOAD:#x}-{OUTSIDE:#x}");
    let inside = format!("{WORKLOAD:#x}-{FABRIC:#x}");
    let port = model.port;
    let slot = |map: &str| format!("meta mark & 0x00000001 vmap @{map}");
    let mut chains: Vec<(&str, Option<&str>, Statements)> =
        flips(model).into_iter().map(|(chain, _)| (chain, None, vec![])).collect();
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
    let vxlan = format!("udp dport {port}");
    chains.push((
        "fabric_in",
        Some("type filter hook input priority -10; policy drop;"),
        vec![
            format!("iifname \"{}\" {vxlan} goto flip_fabric", model.dev),
            format!("iifgroup {WORKLOAD:#x} icmpv6 type {{ nd-neighbor-solicit, nd-neighbor-advert }} ip6 hoplimit 255 accept"),
            format!("iifgroup {inside} goto to_host"),
            format!("{vxlan} goto bad_vtep"),
            "accept".into(),
        ],
    ));
    let closed = closed(model);
    let (is_role, role) = role(model);
    let mut raw = vec![
        format!("iifgroup {WORKLOAD:#x} goto flip_raw"),
        format!("iifgroup {FABRIC:#x} jump flip_arrived"),
        format!("iifname \"{}\" {} notrack accept", model.dev, whole(model, &vxlan)),
        format!("iifgroup {FABRIC:#x} meta mark & {is_role:#010x} == {role:#010x} {}", slot("slot_raw")),
        format!("iifgroup {ours} goto flip_raw"),
    ];
    raw.extend(closed.iter().map(|closed| format!("{closed} goto to_host")));
    raw.extend(WHOLE.map(|whole| format!("{whole} {vxlan} notrack accept")));
    raw.push("accept".into());
    // Before conntrack puts fragments together (NF_IP_PRI_CONNTRACK_DEFRAG, -400), so that it does for each zone apart.
    chains.push(("raw", Some("type filter hook prerouting priority -450; policy drop;"), raw));
    let mut raw_out = vec![format!("{vxlan} notrack accept")];
    raw_out.extend(errors::base(model));
    chains.push(("raw_out", Some("type filter hook output priority raw; policy drop;"), raw_out));
    chains.push((
        "decide",
        Some("type filter hook prerouting priority mangle; policy drop;"),
        decide_base(model),
    ));
    chains.push((
        "forward",
        Some("type filter hook forward priority filter; policy drop;"),
        if model.gateway { forward_gateway() } else { forward_compute() },
    ));
    if model.gateway {
        chains.push((
            "leave",
            Some("type filter hook postrouting priority 300; policy drop;"),
            vec![format!("oifgroup {FABRIC:#x} {UNMARKED}"), "accept".into()],
        ));
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
        chains.push((
            "as_it_came",
            Some("type filter hook prerouting priority dstnat + 10; policy drop;"),
            errors::as_it_came(),
        ));
        chains.push(("as_it_goes", None, errors::as_it_goes()));
    }
    let mut out = head(
        model,
        "the table, its counters and base chains, closed until a generation is committed; nft -f, repeatable",
    );
    out.push_str("table inet partywall {\n");
    for (_, counter) in REASONS {
        let _ = writeln!(out, "  counter {counter} {{\n  }}");
    }
    // What is in them is the kernel's, and outlives generations as connections do.
    out.push_str(
        "  set connections {\n    typeof meta mark . meta mark\n    size 16777216\n    flags dynamic\n  }\n",
    );
    if !model.gateway {
        out.push_str(&arp::sets());
    }
    for (map, _) in slots(model) {
        let _ = writeln!(out, "  map {map} {{\n    type mark : verdict\n    size 2\n  }}");
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

/// Of either family, what is no fragment: of a packet that is not tracked the kernel would not put the rest together either.
const WHOLE: [&str; 2] = ["ip frag-off & 0x3fff == 0", "ip6 nexthdr udp"];

/// The same of packets on the underlay.
fn whole(model: &Model, vxlan: &str) -> String {
    let [v4, v6] = WHOLE;
    let whole = if schema::outer(parse_addr(model.vtep).0) == "ip" { v4 } else { v6 };
    format!("{whole} {vxlan}")
}

/// On its way into the fabric: the mark would stay on the encapsulated packet and lead that by the tenant's table too.
pub(super) const UNMARKED: &str = "meta mark set 0x00000000";

fn clamp() -> String {
    format!(
        "tcp flags & (syn) == syn meta mark & {DECIDED:#010x} == {DECIDED:#010x} iifgroup {WORKLOAD:#x}-{OUTSIDE:#x} tcp option maxseg size set rt mtu"
    )
}

/// On a node with endpoints: into the fabric, or from it, or between workloads.
fn forward_compute() -> Statements {
    // Neighbour discovery has a way, so that it is answered, and is not forwarded.
    let decided = format!("meta mark & {:#010x} == {DECIDED:#010x}", DECIDED | ANSWERABLE);
    let ours = format!("{WORKLOAD:#x}-{OUTSIDE:#x}");
    vec![
        clamp(),
        format!("iifgroup {WORKLOAD:#x} oifgroup {FABRIC:#x} {decided} {UNMARKED} accept"),
        format!("iifgroup {FABRIC:#x} oifgroup {WORKLOAD:#x} {decided} accept"),
        format!("iifgroup != {ours} oifgroup != {ours} accept"),
        format!("iifgroup {FABRIC:#x} oifgroup {FABRIC:#x} goto no_route"),
        format!("{decided} iifgroup {ours} oifgroup {ours} accept"),
        "goto to_host".into(),
    ]
}

fn forward_gateway() -> Statements {
    let decided = format!("meta mark & {DECIDED:#010x} == {DECIDED:#010x}");
    let ours = format!("{WORKLOAD:#x}-{OUTSIDE:#x}");
    vec![
        format!("iifgroup != {ours} oifgroup != {ours} accept"),
        format!("iifgroup {OUTSIDE:#x} meta mark & {DECIDED:#010x} == 0x00000000 goto no_route"),
        format!("{} jump as_it_goes", errors::answerable()),
        clamp(),
        format!("{decided} iifgroup {ours} oifgroup {ours} accept"),
        "goto to_host".into(),
    ]
}

/// Devices of workloads that came back without their group, such as after a restart: closed until they are in it again.
fn closed(model: &Model) -> Option<String> {
    let names: Vec<String> = model.workloads.iter().map(|dev| format!("\"{dev}\"")).collect();
    (!names.is_empty()).then(|| format!("iifname {{ {} }} iifgroup != {WORKLOAD:#x}", names.join(", ")))
}

/// Which bits of a mark say that it is of a packet that the fabric delivered, and what they say then.
fn role(model: &Model) -> (u32, u32) {
    if model.gateway { (KIND, ROLE) } else { (IS_ARRIVAL, ARRIVAL) }
}

/// The chains whose rules say which generation a packet takes, or lead one that has taken it on. The next commit replaces them;
/// who took a generation before goes on in that by the slot in the mark.
fn flips(model: &Model) -> Vec<(&'static str, String)> {
    let (is_role, role) = role(model);
    let come = if model.rules.has(Table::Arrived) { "come" } else { "raw" };
    let mut out = vec![
        ("flip_fabric", format!("goto fabric_{SUFFIX}")),
        ("flip_raw", format!("meta mark set $slot goto raw_{SUFFIX}")),
        (
            "flip_arrived",
            format!("meta mark & {:#010x} == {role:#010x} | $slot goto {come}_{SUFFIX}", is_role | 1),
        ),
    ];
    let running = "meta mark & 0x00000001 == $slot";
    if model.gateway {
        out.push(("flip_decide", format!("{running} goto decide_{SUFFIX}")));
    } else {
        out.push(("flip_decide", format!("{running} goto landed_{SUFFIX}")));
        out.push(("flip_workload", format!("{running} goto workload_{SUFFIX}")));
    }
    out
}

/// The flip.
pub(super) fn commit(model: &Model) -> String {
    let mut out = head(model, "the flip; nft -D slot=0|1 -f");
    let flips = flips(model);
    for (chain, _) in &flips {
        let _ = writeln!(out, "flush chain inet partywall {chain}");
    }
    out.push_str("flush chain arp partywall flip\n");
    for (chain, rule) in &flips {
        let _ = writeln!(out, "add rule inet partywall {chain} {rule}");
    }
    let _ = writeln!(out, "add rule arp partywall flip goto in_{SUFFIX}");
    out
}

fn decide_base(model: &Model) -> Statements {
    let slot = "meta mark & 0x00000001 vmap @slot_decide";
    let mut out = Vec::new();
    if !model.gateway {
        out.push(format!("iifgroup {WORKLOAD:#x} jump flip_workload"));
    }
    out.push(format!("iifgroup {FABRIC:#x} jump flip_decide"));
    out.push("iifgroup 0x0 accept".into());
    out.push(format!("iifgroup != {WORKLOAD:#x}-{OUTSIDE:#x} accept"));
    out.push(slot.into());
    out
}
