//! Services that tidy up what they did not make, rules of others, settings, and the devices that a generation wants.

use super::{Finding, Severity};
use crate::audit::{Snapshot, running};
use crate::command;
use crate::error::NodeError;
use crate::generation::Generation;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// systemd-networkd removes rules and routes that it did not make, whenever it configures a link, unless told not to.
pub(super) fn networkd(root: &Path) -> Vec<Finding> {
    if !root.join("run/systemd/netif/state").exists() {
        return Vec::new();
    }
    // The main file first, then the drop-ins of all folders in the order of their names; what is said last counts.
    let folders = ["usr/lib/systemd", "usr/local/lib/systemd", "run/systemd", "etc/systemd"];
    let mut parts = BTreeMap::new();
    for folder in folders {
        let entries = std::fs::read_dir(root.join(folder).join("networkd.conf.d"));
        for path in entries.into_iter().flatten().flatten().map(|entry| entry.path()) {
            if path.extension().is_some_and(|e| e == "conf") {
                parts.insert(path.file_name().map(std::ffi::OsStr::to_owned), path);
            }
        }
    }
    let main = folders.iter().rev().map(|f| root.join(f).join("networkd.conf")).find(|path| path.is_file());
    let files = main.into_iter().chain(parts.into_values());
    let text: String =
        files.filter_map(|path| std::fs::read_to_string(path).ok()).collect::<Vec<_>>().join("\n");
    let said = |key: &str| {
        let lines = text.lines().filter_map(|line| line.trim().split_once('='));
        let last = lines.filter(|(name, _)| name.trim() == key).map(|(_, value)| value.trim()).next_back();
        last.is_some_and(|value| {
            matches!(value.to_ascii_lowercase().as_str(), "no" | "false" | "off" | "0" | "n" | "f")
        })
    };
    let mut out = Vec::new();
    for (key, what) in
        [("ManageForeignRoutingPolicyRules", "routing rules"), ("ManageForeignRoutes", "routes")]
    {
        if !said(key) {
            out.push(Finding::new(
                Severity::Error,
                "networkd",
                format!("systemd-networkd runs and removes {what} that are not its own, partywall's among them"),
                format!(
                    "write `[Network]` and `{key}=no` to /etc/systemd/networkd.conf.d/partywall.conf (packaging/networkd.conf), and restart it"
                ),
            ));
        }
    }
    out
}

/// NetworkManager takes new devices over unless told not to.
pub(super) fn network_manager(root: &Path) -> Vec<Finding> {
    if !root.join("run/NetworkManager").exists() {
        return Vec::new();
    }
    let mut texts = vec![std::fs::read_to_string(root.join("etc/NetworkManager/NetworkManager.conf"))];
    for folder in ["usr/lib/NetworkManager/conf.d", "run/NetworkManager/conf.d", "etc/NetworkManager/conf.d"]
    {
        let entries = std::fs::read_dir(root.join(folder));
        texts.extend(entries.into_iter().flatten().flatten().map(|e| std::fs::read_to_string(e.path())));
    }
    let told = texts.into_iter().flatten().any(|text| {
        text.lines().any(|line| line.trim_start().starts_with("unmanaged-devices") && line.contains("pwv"))
    });
    if told {
        return Vec::new();
    }
    vec![Finding::new(
        Severity::Warning,
        "NetworkManager",
        "NetworkManager runs and may configure partywall's devices",
        "write `[keyfile]` and `unmanaged-devices=interface-name:pwv*` (and the workloads' devices) to /etc/NetworkManager/conf.d/partywall.conf",
    )]
}

/// A setting of the kernel's below `/proc/sys`, if it has it.
fn value(key: &str) -> Option<u64> {
    std::fs::read_to_string(Path::new("/proc/sys").join(key)).ok()?.trim().parse().ok()
}

/// On a gateway, the setting without which connections do not survive that their instance was away. A generation makes it, so that
/// before the first one it is only worth knowing.
///
/// # Errors
/// nft refuses to tell which generation runs.
pub(super) fn gateway(generation: &Generation) -> Result<Option<Finding>, NodeError> {
    if !generation.is_gateway() {
        return Ok(None);
    }
    let key = "net.netfilter.nf_conntrack_tcp_be_liberal";
    let now = match value("net/netfilter/nf_conntrack_tcp_be_liberal") {
        Some(1) => return Ok(None),
        Some(now) => format!("is {now}"),
        None => "is not there, as long as no rule here asks for connections".to_owned(),
    };
    let (severity, help) = if running(&Snapshot::generation()?).is_some() {
        let help = format!("`partywall apply` sets it to 1; see that nothing else here writes {key}");
        (Severity::Warning, help)
    } else {
        (Severity::Note, "`partywall apply` sets it to 1".to_owned())
    };
    let message = format!(
        "{key} {now}: TCP connections that went on through another instance are cut when they return to this one"
    );
    Ok(Some(Finding::new(severity, "setting", message, help)))
}

/// Kernel settings that a generation does not make itself and that matter.
pub(super) fn settings() -> Vec<Finding> {
    let mut out = Vec::new();
    for family in ["iptables", "ip6tables"] {
        if value(&format!("net/bridge/bridge-nf-call-{family}")) == Some(1) {
            out.push(Finding::new(
                Severity::Warning,
                "setting",
                format!("net.bridge.bridge-nf-call-{family} is 1: what the host's bridges carry passes its filters as if it were routed"),
                format!("sysctl -w net.bridge.bridge-nf-call-{family}=0, unless something here relies on it"),
            ));
        }
    }
    if value("net/ipv4/conf/all/route_localnet") == Some(1) {
        out.push(Finding::new(
            Severity::Warning,
            "setting",
            "net.ipv4.conf.all.route_localnet is 1: packets to 127.0.0.0/8 are taken from outside",
            "sysctl -w net.ipv4.conf.all.route_localnet=0, unless something here relies on it",
        ));
    }
    if let Some(most) = value("net/netfilter/nf_conntrack_max")
        && most < LEAST_CONNECTIONS
    {
        out.push(Finding::new(
            Severity::Note,
            "setting",
            format!("net.netfilter.nf_conntrack_max is {most}, for all tenants of this node together"),
            format!("sysctl -w net.netfilter.nf_conntrack_max={LEAST_CONNECTIONS} or more, as memory allows"),
        ));
    }
    out
}

const LEAST_CONNECTIONS: u64 = 262_144;

/// Routing rules of others that tenants' packets can meet before partywall's.
pub(super) fn rules(generation: Option<&Generation>) -> Result<Vec<Finding>, NodeError> {
    let devices = generation.map(Generation::devices).unwrap_or_default();
    let snapshot = Snapshot::take(&devices)?;
    let found = snapshot.foreign.iter().map(|rule| {
        Finding::new(
            Severity::Warning,
            "rule",
            format!(
                "somebody else's routing rule comes before partywall's and can match tenants' packets: {rule}"
            ),
            "give it a preference above 20567, or restrict it to devices of the host (iif)",
        )
    });
    Ok(found.collect())
}

/// The underlay's and the workloads' devices.
pub(super) fn devices(generation: &Generation) -> Result<Vec<Finding>, NodeError> {
    let links: BTreeMap<String, Value> = command::list("ip", &["-j", "-d", "address", "show"])?
        .into_iter()
        .filter_map(|link| Some((link.get("ifname")?.as_str()?.to_owned(), link)))
        .collect();
    let devices = generation.devices();
    let mut out = without_ipv6(generation, &links);
    out.extend(in_the_way(generation, &links));
    for name in &devices.underlay {
        let Some(link) = links.get(name) else {
            out.push(Finding::new(
                Severity::Error,
                "underlay",
                format!("device {name} is not there, and VXLAN devices are to be bound to it"),
                format!("correct `dev` of node {} in the project, or bring the device up", generation.node),
            ));
            continue;
        };
        if !up(link) {
            out.push(Finding::new(
                Severity::Error,
                "underlay",
                format!("device {name} is down"),
                format!("ip link set dev {name} up"),
            ));
        }
        let addresses: Vec<&str> = link
            .get("addr_info")
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
            .filter_map(|a| a.get("local")?.as_str())
            .collect();
        for vtep in generation.vteps().iter().filter(|vtep| !addresses.contains(&vtep.as_str())) {
            out.push(Finding::new(
                Severity::Error,
                "underlay",
                format!("device {name} does not have the VTEP address {vtep}"),
                format!(
                    "correct `vtep` of node {} in the project, or give the device its address",
                    generation.node
                ),
            ));
        }
    }
    for name in devices.workloads.iter().chain(&devices.outside) {
        match links.get(name) {
            None => out.push(Finding::new(
                Severity::Note,
                "device",
                format!("device {name} is not there"),
                "start what it belongs to, then `partywall apply`",
            )),
            Some(link) if link.get("xdp").is_some() => out.push(Finding::new(
                Severity::Warning,
                "device",
                format!("device {name} has an XDP program, which sees packets before partywall does"),
                format!("ip link set dev {name} xdp off, unless it only looks on"),
            )),
            Some(link) if !up(link) => out.push(Finding::new(
                Severity::Note,
                "device",
                format!("device {name} is down"),
                format!("ip link set dev {name} up, then `partywall apply`"),
            )),
            Some(_) => {}
        }
    }
    Ok(out)
}

/// Devices to which packets are to be routed by IPv6 and that have none, or will have none when they are made.
fn without_ipv6(generation: &Generation, links: &BTreeMap<String, Value>) -> Vec<Finding> {
    let workloads = generation.devices().workloads;
    let off = |place: &str| value(&format!("net/ipv6/conf/{place}/disable_ipv6")) != Some(0);
    let without = generation.ipv6().into_iter().filter_map(|name| match links.contains_key(&name) {
        true => off(&name).then_some(name),
        false => (!workloads.contains(&name) && off("default")).then(|| "default".to_owned()),
    });
    let found = without.map(|name| {
        let help = match name.as_str() {
            "default" => {
                "sysctl -w net.ipv6.conf.default.disable_ipv6=0: devices that `partywall apply` makes need IPv6"
                    .to_owned()
            }
            _ => format!(
                "sysctl -w net.ipv6.conf.{name}.disable_ipv6=0, with an MTU of 1280 or more, then `partywall apply`"
            ),
        };
        let what = match name.as_str() {
            "default" => "new devices have".to_owned(),
            _ => format!("device {name} has"),
        };
        let message = format!("{what} no IPv6, and packets are to be routed there by it");
        Finding::new(Severity::Warning, "setting", message, help)
    });
    found.collect()
}

/// Devices of others with the name of one of partywall's, or with its VNI or port.
fn in_the_way(generation: &Generation, links: &BTreeMap<String, Value>) -> Vec<Finding> {
    let mut out = Vec::new();
    let lines = generation.links();
    let wanted: Vec<Vec<&str>> =
        lines.iter().filter(|l| l.starts_with("link add name ")).map(|l| l.split(' ').collect()).collect();
    let after = |line: &[&str], word: &str| {
        let at = line.iter().position(|w| *w == word)?;
        line.get(at + 1).map(|w| (*w).to_owned())
    };
    let names: BTreeSet<String> = wanted.iter().filter_map(|line| after(line, "name")).collect();
    let asked: BTreeSet<(String, String)> =
        wanted.iter().filter_map(|line| Some((after(line, "id")?, after(line, "dstport")?))).collect();
    for (name, link) in links {
        let kind = link.pointer("/linkinfo/info_kind").and_then(Value::as_str).unwrap_or_default();
        let data = |field: &str| link.pointer(&format!("/linkinfo/info_data/{field}"));
        let number = |field: &str| data(field).and_then(Value::as_u64).unwrap_or_default().to_string();
        let told = if names.contains(name) {
            if kind == "vxlan" {
                continue;
            }
            format!("device {name} is no VXLAN device, and partywall is to make one of that name")
        } else if kind != "vxlan" || name == "pwvx" {
            continue;
        } else if data("external").is_some() && asked.iter().any(|(_, port)| *port == number("port")) {
            format!("device {name} takes every VNI at UDP port {}, which the fabric has", number("port"))
        } else if asked.contains(&(number("id"), number("port"))) {
            format!(
                "device {name} has VNI {} at UDP port {}, which one of partywall's is to have",
                number("id"),
                number("port")
            )
        } else {
            continue;
        };
        let help = format!("ip link delete dev {name}, or choose another VNI or port for one of them");
        out.push(Finding::new(Severity::Error, "device", told, help));
    }
    out
}

fn up(link: &Value) -> bool {
    let flags = link.get("flags").and_then(Value::as_array).into_iter().flatten();
    flags.filter_map(Value::as_str).any(|flag| flag == "UP")
}
