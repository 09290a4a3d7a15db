//! Everything in a network namespace that partywall's artifacts speak of, as comparable values.

use super::{programs, rules};
use crate::command;
use crate::error::NodeError;
use crate::generation::Devices;
use backends::iproute2::group;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

/// What an item is; also the order in which differences are told, causes before consequences.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    Device,
    Program,
    Setting,
    Table,
    Chain,
    Rule,
    Set,
    Element,
    Counter,
    Object,
    Policy,
    Route,
    Address,
    Neighbour,
    Proxy,
    Fdb,
}

/// How an item of `ip` or `bridge` is taken away.
pub(super) type Removal = Vec<String>;

#[derive(Debug, Clone, Default)]
pub(crate) struct Snapshot {
    items: BTreeMap<(Kind, String), String>,
    /// Rules of each chain of ours, in order.
    pub chains: BTreeMap<String, Vec<String>>,
    /// Device → its group.
    pub groups: BTreeMap<String, u32>,
    /// Device of an item that belongs to one.
    pub of: BTreeMap<(Kind, String), String>,
    /// Items that `ip` or `bridge` can take away, and how.
    pub removal: BTreeMap<(Kind, String), Removal>,
    /// Rules of others before ours, by their items' keys.
    pub foreign: BTreeSet<String>,
    /// Addresses of this machine.
    pub own: BTreeSet<IpAddr>,
    pub up: BTreeSet<String>,
    /// Names of all devices.
    pub present: BTreeSet<String>,
}

impl Snapshot {
    pub(super) fn put(&mut self, kind: Kind, key: String, value: String) {
        self.items
            .entry((kind, key))
            // Two routes or rules with one key stand side by side.
            .and_modify(|had| {
                had.push_str(" and ");
                had.push_str(&value);
            })
            .or_insert(value);
    }

    pub(crate) fn get(&self, kind: Kind, key: &str) -> Option<&str> {
        self.items.get(&(kind, key.to_owned())).map(String::as_str)
    }

    /// Whether nft has a table of ours.
    pub(crate) fn has_table(&self) -> bool {
        self.get(Kind::Table, "inet partywall").is_some()
    }

    pub(super) fn items(&self) -> impl Iterator<Item = (Kind, &str, &str)> {
        self.items.iter().map(|((kind, key), value)| (*kind, key.as_str(), value.as_str()))
    }

    pub(super) fn item(&self, kind: Kind, key: &str) -> Option<&str> {
        self.get(kind, key)
    }

    /// Reads partywall's tables in nft alone.
    ///
    /// # Errors
    /// nft is missing or refuses.
    pub(crate) fn ruleset() -> Result<Self, NodeError> {
        let mut out = Self::default();
        // Not the whole ruleset: what others have there may be large, or more than this nft can print.
        let tables = command::output("nft", &["list", "tables"])?;
        for family in ["inet", "arp"] {
            if tables.lines().any(|line| line == format!("table {family} partywall")) {
                let table = command::output("nft", &["-s", "list", "table", family, "partywall"])?;
                rules::read(&table, &mut out);
            }
        }
        Ok(out)
    }

    /// Reads as much as tells which generation runs: asked for the ruleset without elements, nft fetches none.
    ///
    /// # Errors
    /// nft is missing or refuses.
    pub(crate) fn generation() -> Result<Self, NodeError> {
        // What others have there may be more than this nft can print.
        let Ok(listing) = command::output("nft", &["-t", "list", "ruleset", "inet"]) else {
            return Self::ruleset();
        };
        let mut out = Self::default();
        rules::read(&listing, &mut out);
        Ok(out)
    }

    /// Reads the network namespace of the calling thread.
    ///
    /// # Errors
    /// A tool is missing or refuses.
    pub(crate) fn take(devices: &Devices) -> Result<Self, NodeError> {
        let mut out = Self::ruleset()?;
        out.links(devices)?;
        for family in ["-4", "-6"] {
            out.policies(family)?;
            out.routes(family)?;
            out.neighbours(family)?;
        }
        out.fdb()?;
        let watched = out.groups.keys().chain(&devices.underlay).cloned().collect();
        programs::read(&watched, &mut out)?;
        Ok(out)
    }

    fn ours(&self, device: &str) -> bool {
        self.groups.contains_key(device)
    }

    fn fabric(&self, device: &str) -> bool {
        self.groups.get(device) == Some(&group::FABRIC)
    }

    /// Devices of our groups and those that the artifacts name, attribute by attribute, and their addresses.
    fn links(&mut self, devices: &Devices) -> Result<(), NodeError> {
        for link in command::list("ip", &["-j", "-d", "address", "show"])? {
            let name = text(&link, "ifname");
            self.present.insert(name.clone());
            for address in array(&link, "addr_info") {
                self.own.extend(text(address, "local").parse::<IpAddr>());
            }
            let number = text(&link, "group").parse().unwrap_or(0);
            let kind = match number {
                group::WORKLOAD | group::FABRIC | group::OUTSIDE => number,
                _ if devices.workloads.contains(&name) => group::WORKLOAD,
                _ if devices.outside.contains(&name) => group::OUTSIDE,
                // A device that lost its group is known by its name.
                _ if name.starts_with("pwv") && info_kind(&link) == "vxlan" => group::FABRIC,
                _ => continue,
            };
            self.groups.insert(name.clone(), kind);
            let flags: Vec<&str> = array(&link, "flags").filter_map(Value::as_str).collect();
            let yes = |flag: &str| if flags.contains(&flag) { "on" } else { "off" };
            if flags.contains(&"UP") {
                self.up.insert(name.clone());
            }
            let mut attributes = vec![
                ("group", text(&link, "group")),
                ("state", if flags.contains(&"UP") { "up".to_owned() } else { "down".to_owned() }),
                ("bridge or bond", word(&link, "master")),
                ("IPv6", if has_ipv6(&name) { "on".to_owned() } else { "off".to_owned() }),
            ];
            if kind != group::OUTSIDE {
                attributes.push(("MAC", text(&link, "address")));
                attributes.push(("ARP", if flags.contains(&"NOARP") { "off" } else { "on" }.to_owned()));
            }
            if kind == group::FABRIC {
                attributes.push(("MTU", text(&link, "mtu")));
                attributes.push(("multicast", yes("MULTICAST").to_owned()));
                attributes.push(("address generation", text(&link, "inet6_addr_gen_mode")));
                attributes.push(("kind", info_kind(&link)));
            }
            for (attribute, value) in attributes {
                self.device(&name, attribute, value);
            }
            if kind == group::FABRIC
                && let Some(Value::Object(data)) = link.pointer("/linkinfo/info_data")
            {
                for (attribute, value) in data {
                    self.device(&name, &format!("vxlan {attribute}"), plain(value));
                }
            }
            self.addresses(&name, kind, &link);
        }
        Ok(())
    }

    fn device(&mut self, name: &str, attribute: &str, value: String) {
        let key = format!("{name} {attribute}");
        self.of.insert((Kind::Device, key.clone()), name.to_owned());
        self.put(Kind::Device, key, value);
    }

    fn addresses(&mut self, name: &str, kind: u32, link: &Value) {
        if kind == group::OUTSIDE {
            return;
        }
        for address in array(link, "addr_info") {
            let local = text(address, "local");
            // The kernel makes link-local addresses of its own; the one that artifacts write is fe80::1.
            if local.starts_with("fe80:") && local != "fe80::1" {
                continue;
            }
            let prefix = format!("{local}/{}", text(address, "prefixlen"));
            let key = format!("{prefix} dev {name}");
            let usable = address.get("dadfailed").is_none();
            let removal = ["ip", "address", "delete", &prefix, "dev", name];
            self.belongs(Kind::Address, &key, name, &removal);
            self.put(Kind::Address, key, if usable { "usable".into() } else { "found twice by DAD".into() });
        }
    }

    fn belongs(&mut self, kind: Kind, key: &str, device: &str, removal: &[&str]) {
        self.of.insert((kind, key.to_owned()), device.to_owned());
        self.removal.insert((kind, key.to_owned()), removal.iter().map(|w| (*w).to_owned()).collect());
    }

    /// Rules up to and with ours; those after have no say in what ours decide.
    fn policies(&mut self, family: &str) -> Result<(), NodeError> {
        for rule in command::list("ip", &[family, "-j", "rule", "show"])? {
            let preference = number(&rule, "priority").unwrap_or_default();
            let own = text(&rule, "protocol") == PROTOCOL;
            if preference > u64::from(backends::iproute2::PREFERENCE) && !own {
                continue;
            }
            let mut words: Vec<String> = vec!["preference".into(), preference.to_string()];
            let mut said = Vec::new();
            for (field, value) in rule.as_object().into_iter().flatten() {
                match (field.as_str(), plain(value)) {
                    ("not", _) => words.push("not".into()),
                    ("priority" | "fwmask" | "srclen" | "dstlen" | "protocol" | "unresolved", _) => {}
                    ("src", all) if all == "all" => {}
                    ("src", value) => said.push(format!("from {value}{}", length(&rule, "srclen"))),
                    ("dst", value) => said.push(format!("to {value}{}", length(&rule, "dstlen"))),
                    ("fwmark", value) => match rule.get("fwmask") {
                        Some(mask) => said.push(format!("fwmark {value}/{}", plain(mask))),
                        None => said.push(format!("fwmark {value}")),
                    },
                    ("table", value) => said.push(format!("lookup {value}")),
                    (field @ ("iif" | "oif"), value) => said.push(format!("{field} {value}")),
                    (field, value) if value.is_empty() || value == "null" => said.push(field.to_owned()),
                    (field, value) => said.push(format!("{field} {value}")),
                }
            }
            said.sort();
            words.extend(said.iter().flat_map(|s| s.split(' ').map(str::to_owned)));
            if own {
                words.extend(["protocol".to_owned(), PROTOCOL.to_owned()]);
            }
            let key = format!("IPv{} {}", family.trim_start_matches('-'), words.join(" "));
            let remove: Vec<&str> = ["ip", family, "rule", "delete"]
                .into_iter()
                .chain(words.iter().map(String::as_str))
                .collect();
            if own {
                let removal = remove.iter().map(|w| (*w).to_owned()).collect();
                self.removal.insert((Kind::Policy, key.clone()), removal);
            } else if preference != 0 {
                if self.harmless(&rule) {
                    continue;
                }
                self.foreign.insert(key.clone());
            }
            // Twice is once for a rule that only a tag tells from its twin.
            if self.get(Kind::Policy, &key).is_none() {
                self.put(Kind::Policy, key, "in force".into());
            }
        }
        Ok(())
    }

    /// Whether a rule of others can match no packet of a tenant, and none with which the kernel answers one.
    fn harmless(&self, rule: &Value) -> bool {
        // It matches whatever does not match the rest.
        if rule.get("not").is_some() {
            return false;
        }
        // For what goes through a VRF's devices, and ours are in none: `bridge or bond` tells.
        if rule.get("l3mdev").is_some() {
            return true;
        }
        // Packets that pass through have no socket.
        if rule.get("oif").is_some() {
            return true;
        }
        // They have no user either, which the kernel writes as the last number; its own answers are root's.
        if let (Some(first), Some(last)) = (number(rule, "uid_start"), number(rule, "uid_end"))
            && first > 0
            && last < u64::from(u32::MAX)
        {
            return true;
        }
        let iif = text(rule, "iif");
        // The kernel's answers come from `lo`.
        if !iif.is_empty() && iif != "lo" && !self.ours(&iif) {
            return true;
        }
        let hex = |field: &str| {
            let value = text(rule, field);
            u32::from_str_radix(value.trim_start_matches("0x"), 16).ok()
        };
        if let Some(mark) = hex("fwmark") {
            let mask = hex("fwmask").unwrap_or(u32::MAX);
            // Every decided packet's mark has this bit.
            if mask & DECIDED != 0 && mark & DECIDED == 0 {
                return true;
            }
        }
        // A tenant's packet with a source of the machine itself is refused as spoofed.
        text(rule, "src").parse().is_ok_and(|src: IpAddr| self.own.contains(&src))
    }

    /// Routes with our protocol, and all in tables to which ours belong.
    fn routes(&mut self, family: &str) -> Result<(), NodeError> {
        let routes = command::list("ip", &[family, "-j", "route", "show", "table", "all"])?;
        let table = |route: &Value| text(route, "table").parse::<u32>().ok();
        let own: BTreeSet<u32> =
            routes.iter().filter(|r| text(r, "protocol") == PROTOCOL).filter_map(table).collect();
        for route in &routes {
            let ours = text(route, "protocol") == PROTOCOL;
            let number = table(route);
            if !ours && !number.is_some_and(|t| own.contains(&t) || own.contains(&(t ^ 1))) {
                continue;
            }
            let shown = number.map_or_else(|| text(route, "table"), |t| t.to_string());
            let shown = if shown.is_empty() { "main".to_owned() } else { shown };
            let destination = text(route, "dst");
            let metric = text(route, "metric");
            let version = family.trim_start_matches('-');
            let mut key = format!("IPv{version} table {shown} {destination}");
            let mut removal = vec!["ip", family, "route", "delete"];
            let kind = text(route, "type");
            if !kind.is_empty() {
                removal.push(&kind);
            }
            removal.extend([destination.as_str(), "table", &shown]);
            if !metric.is_empty() {
                key.push_str(&format!(" metric {metric}"));
                removal.extend(["metric", &metric]);
            }
            let tos = text(route, "tos");
            if !tos.is_empty() {
                key.push_str(&format!(" tos {tos}"));
                removal.extend(["tos", &tos]);
            }
            let mut said = Vec::new();
            if !kind.is_empty() {
                said.push(kind.clone());
            }
            if let Some(gateway) = route.get("gateway") {
                said.push(format!("via {}", plain(gateway)));
            }
            if let Some(via) = route.get("via") {
                said.push(format!("via {}", text(via, "host")));
            }
            let device = text(route, "dev");
            // IPv6 shows a refusal as a route to `lo`.
            if !device.is_empty() && kind.is_empty() {
                said.push(format!("dev {device}"));
            }
            for hop in array(route, "nexthops") {
                said.push(format!("via {} dev {}", text(hop, "gateway"), text(hop, "dev")));
            }
            // What the link's state adds is told by the link.
            let flags: Vec<&str> = array(route, "flags")
                .filter_map(Value::as_str)
                .filter(|flag| !matches!(*flag, "linkdown" | "dead" | "offload" | "trap"))
                .collect();
            said.extend(flags.into_iter().map(str::to_owned));
            for field in ["prefsrc", "mtu", "metrics", "encap"] {
                if let Some(value) = route.get(field) {
                    said.push(format!("{field} {}", plain(value)));
                }
            }
            let removal: Vec<String> = removal.iter().map(|w| (*w).to_owned()).collect();
            self.removal.insert((Kind::Route, key.clone()), removal);
            if !device.is_empty() {
                self.of.insert((Kind::Route, key.clone()), device);
            }
            if !ours {
                said.push("of somebody else".to_owned());
            }
            self.put(Kind::Route, key, said.join(" "));
        }
        Ok(())
    }

    /// Permanent entries, and learned ones on VXLAN devices, where nothing is to be learned.
    fn neighbours(&mut self, family: &str) -> Result<(), NodeError> {
        for entry in command::list("ip", &[family, "-j", "neighbour", "show"])? {
            let (address, device) = (text(&entry, "dst"), text(&entry, "dev"));
            let states: Vec<&str> = array(&entry, "state").filter_map(Value::as_str).collect();
            let permanent = states.contains(&"PERMANENT");
            let known = !text(&entry, "lladdr").is_empty();
            if !self.ours(&device)
                || states.contains(&"NOARP")
                || !(permanent || known && self.fabric(&device))
                || self.groups.get(&device) == Some(&group::OUTSIDE)
            {
                continue;
            }
            let key = format!("{address} dev {device}");
            let removal = ["ip", "neighbour", "delete", &address, "dev", &device];
            self.belongs(Kind::Neighbour, &key, &device, &removal);
            let how = if permanent { "permanent" } else { "learned" };
            self.put(Kind::Neighbour, key, format!("{} {how}", text(&entry, "lladdr")));
        }
        for entry in command::list("ip", &[family, "-j", "neighbour", "show", "proxy"])? {
            let (address, device) = (text(&entry, "dst"), text(&entry, "dev"));
            let other = address.contains(':') == (family == "-4");
            if other || self.groups.get(&device).is_none_or(|g| *g == group::OUTSIDE) {
                continue;
            }
            let key = format!("{address} dev {device}");
            let removal = ["ip", "neighbour", "delete", "proxy", &address, "dev", &device];
            self.belongs(Kind::Proxy, &key, &device, &removal);
            self.put(Kind::Proxy, key, "answered".into());
        }
        Ok(())
    }

    fn fdb(&mut self) -> Result<(), NodeError> {
        let vxlan = |name: &String| self.get(Kind::Device, &format!("{name} kind")) == Some("vxlan");
        let fabric: Vec<String> = self.groups.keys().filter(|name| vxlan(name)).cloned().collect();
        if fabric.is_empty() {
            return Ok(());
        }
        for entry in command::list("bridge", &["-j", "fdb", "show"])? {
            let (device, mac, to) = (text(&entry, "ifname"), text(&entry, "mac"), text(&entry, "dst"));
            if !fabric.contains(&device) || !text(&entry, "master").is_empty() {
                continue;
            }
            let key = format!("{mac} dev {device} to {to}");
            let mut removal = vec!["bridge", "fdb", "delete", mac.as_str(), "dev", device.as_str(), "self"];
            if !to.is_empty() {
                removal.extend(["dst", to.as_str()]);
            }
            self.belongs(Kind::Fdb, &key, &device, &removal);
            let mut said = vec![text(&entry, "state")];
            for field in ["vni", "port", "viaIf", "src_vni"] {
                if let Some(value) = entry.get(field) {
                    said.push(format!("{field} {}", plain(value)));
                }
            }
            self.put(Kind::Fdb, key, said.join(" "));
        }
        Ok(())
    }
}

/// Whether IPv6 is there on a device: not where a setting has it off, nor where the MTU is below its least one.
fn has_ipv6(device: &str) -> bool {
    let setting = format!("/proc/sys/net/ipv6/conf/{device}/disable_ipv6");
    std::fs::read_to_string(setting).is_ok_and(|value| value.trim() == "0")
}

const PROTOCOL: &str = "87";
/// The bit that every decided packet's mark has.
const DECIDED: u32 = 0x4000_0000;

fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// A field as text; empty if it is not there.
fn text(value: &Value, field: &str) -> String {
    value.get(field).map(plain).unwrap_or_default()
}

/// A field as text, `none` if it is not there.
fn word(value: &Value, field: &str) -> String {
    value.get(field).map_or_else(|| "none".to_owned(), plain)
}

fn number(value: &Value, field: &str) -> Option<u64> {
    value.get(field)?.as_u64()
}

fn length(rule: &Value, field: &str) -> String {
    number(rule, field).map(|length| format!("/{length}")).unwrap_or_default()
}

fn array<'a>(value: &'a Value, field: &str) -> impl Iterator<Item = &'a Value> {
    value.get(field).and_then(Value::as_array).into_iter().flatten()
}

fn info_kind(link: &Value) -> String {
    link.pointer("/linkinfo/info_kind").map(plain).unwrap_or_default()
}
