//! Tables of others in nftables: what they can do to tenants' packets.
//!
//! An `accept` of another table ends that table's say and nothing else; a drop is final, a mark written after ours
//! leads elsewhere, a translation or an offload takes the packet past what was decided.

use super::{Finding, Severity};
use crate::command;
use crate::error::NodeError;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

/// A base chain of somebody else.
struct Hooked {
    /// `inet filter forward`
    name: String,
    hook: String,
    kind: String,
    drops: bool,
    priority: i64,
}

/// The hooks that tenants' packets pass, in VXLAN or not.
const PASSED: [&str; 7] = ["ingress", "prerouting", "input", "forward", "output", "postrouting", "egress"];

pub(super) fn foreign() -> Result<Vec<Finding>, NodeError> {
    let args = ["-j", "list", "ruleset"];
    let text = command::output("nft", &args)?;
    let document: Value = serde_json::from_str(&text).map_err(|_| NodeError::Output {
        command: command::shown("nft", &args),
        what: "its output".into(),
    })?;
    let objects: Vec<&Value> =
        document.get("nftables").and_then(Value::as_array).into_iter().flatten().collect();
    let mut hooked = Vec::new();
    // Chain → what its rules do, and where they go on.
    let mut acts: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    let mut jumps: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    let mut out = Vec::new();
    for object in objects {
        if let Some(chain) = object.get("chain").filter(|c| !ours(c)) {
            let hook = text_of(chain, "hook");
            if PASSED.contains(&hook.as_str()) {
                hooked.push(Hooked {
                    name: name(chain, "name"),
                    hook,
                    kind: text_of(chain, "type"),
                    drops: text_of(chain, "policy") == "drop",
                    priority: chain.get("prio").and_then(Value::as_i64).unwrap_or_default(),
                });
            }
        }
        if let Some(rule) = object.get("rule").filter(|r| !ours(r)) {
            let chain = name(rule, "chain");
            for statement in rule.get("expr").and_then(Value::as_array).into_iter().flatten() {
                let Some((word, inside)) = statement.as_object().and_then(|s| s.iter().next()) else {
                    continue;
                };
                if let Some(target) = inside.get("target").and_then(Value::as_str) {
                    let to = format!("{} {target}", table(rule));
                    jumps.entry(chain.clone()).or_default().insert(to);
                }
                acts.entry(chain.clone()).or_default().insert(act(word, inside));
            }
        }
        if let Some(flowtable) = object.get("flowtable") {
            out.push(Finding::new(
                Severity::Warning,
                "nft",
                format!("flowtable {} takes connections past the forward hook", name(flowtable, "name")),
                "leave partywall's devices (pwv*, the workloads') out of its `devices`",
            ));
        }
    }
    for chain in &hooked {
        out.extend(judge(chain, &reached(&chain.name, &acts, &jumps)));
    }
    for file in ["ip_tables_names", "ip6_tables_names"] {
        let names = std::fs::read_to_string(format!("/proc/net/{file}")).unwrap_or_default();
        if !names.trim().is_empty() {
            let list = names.split_whitespace().collect::<Vec<_>>().join(", ");
            out.push(Finding::new(
                Severity::Warning,
                "iptables",
                format!("legacy iptables tables are loaded ({list}), which nft does not show"),
                "see that `iptables-legacy -S FORWARD` neither drops nor marks what comes from or goes to pwv* and the workloads' devices, or move to iptables-nft",
            ));
        }
    }
    Ok(out)
}

/// What a statement does, in the words that [`judge`] asks for.
fn act(word: &str, inside: &Value) -> String {
    let key = inside.pointer("/key/meta/key").and_then(Value::as_str);
    match (word, key) {
        ("mangle", Some("mark")) => "mark".to_owned(),
        ("mangle", _) => "mangle".to_owned(),
        // iptables-nft shows what it cannot translate as `xt`.
        ("xt", _) => match inside.get("name").and_then(Value::as_str) {
            Some("MARK" | "CONNMARK") => "mark".to_owned(),
            Some("DNAT" | "REDIRECT") => "dnat".to_owned(),
            Some("SNAT" | "MASQUERADE" | "NETMAP") => "snat".to_owned(),
            _ => "xt".to_owned(),
        },
        (other, _) => other.to_owned(),
    }
}

fn judge(chain: &Hooked, acts: &BTreeSet<String>) -> Vec<Finding> {
    let mut out = Vec::new();
    let at = format!("chain {} ({} hook, priority {})", chain.name, chain.hook, chain.priority);
    let does = |words: &[&str]| words.iter().any(|w| acts.contains(*w));
    if chain.hook == "output" {
        if chain.drops || does(&["drop", "reject"]) {
            let (severity, how) = match chain.drops {
                true => (Severity::Warning, "drops what none of its rules accepts"),
                false => (Severity::Note, "has rules that drop"),
            };
            out.push(Finding::new(
                severity,
                "nft",
                format!("{at} {how}; VXLAN packets to other nodes pass it"),
                "accept the fabric's UDP port (4789, unless the fabric says otherwise) to the VTEPs in it",
            ));
        }
        // Translation and connection tracking do not meet them: they are not tracked.
        return out;
    }
    if chain.drops && chain.hook != "input" {
        out.push(Finding::new(
            Severity::Error,
            "nft",
            format!("{at} drops what none of its rules accepts, tenants' packets too"),
            format!(
                "accept in it what comes in by the groups of partywall's devices: nft insert rule {} iifgroup 20567-20569 accept",
                chain.name
            ),
        ));
    } else if chain.drops {
        out.push(Finding::new(
            Severity::Warning,
            "nft",
            format!("{at} drops what none of its rules accepts; VXLAN packets of other nodes have to be among those"),
            "accept the fabric's UDP port (4789, unless the fabric says otherwise) from the VTEPs in it",
        ));
    } else if does(&["drop", "reject"]) {
        out.push(Finding::new(
            Severity::Note,
            "nft",
            format!("{at} has rules that drop"),
            "see that they do not match tenants' packets (iifgroup 20567-20569)",
        ));
    }
    if does(&["mark"]) && matches!(chain.hook.as_str(), "prerouting" | "ingress") {
        out.push(Finding::new(
            Severity::Error,
            "nft",
            format!("{at} writes packet marks, by which partywall routes"),
            "restrict its rules to other devices: iifgroup != 20567-20569",
        ));
    }
    if chain.kind == "nat" && does(&["dnat", "redirect", "snat", "masquerade"]) {
        out.push(Finding::new(
            Severity::Warning,
            "nft",
            format!("{at} translates addresses, and a connection is translated once: what it takes, partywall's gateways cannot"),
            "restrict its rules by addresses or devices that are none of the tenants'",
        ));
    }
    if does(&["notrack", "tproxy", "queue", "flow", "dup", "fwd"]) {
        out.push(Finding::new(
            Severity::Warning,
            "nft",
            format!("{at} takes packets out of connection tracking or away"),
            "see that its rules do not match tenants' packets (iifgroup 20567-20569)",
        ));
    }
    out
}

/// What a chain's rules and those of chains behind them do.
fn reached(
    start: &str,
    acts: &BTreeMap<String, BTreeSet<String>>,
    jumps: &BTreeMap<String, BTreeSet<String>>,
) -> BTreeSet<String> {
    let mut seen = BTreeSet::new();
    let mut left = vec![start.to_owned()];
    let mut out = BTreeSet::new();
    while let Some(chain) = left.pop() {
        if seen.insert(chain.clone()) {
            out.extend(acts.get(&chain).into_iter().flatten().cloned());
            left.extend(jumps.get(&chain).into_iter().flatten().cloned());
        }
    }
    out
}

fn ours(object: &Value) -> bool {
    matches!(text_of(object, "table").as_str(), "partywall" | "partywall_closed")
        && matches!(text_of(object, "family").as_str(), "inet" | "arp")
}

fn table(object: &Value) -> String {
    format!("{} {}", text_of(object, "family"), text_of(object, "table"))
}

fn name(object: &Value, field: &str) -> String {
    format!("{} {}", table(object), text_of(object, field))
}

fn text_of(object: &Value, field: &str) -> String {
    object.get(field).and_then(Value::as_str).unwrap_or_default().to_owned()
}
