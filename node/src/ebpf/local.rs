//! The machine's part: devices by number, addresses, and what a generation wants of devices.

use super::Result;
use super::attach::{Device, tool};
use crate::audit::scratch;
use crate::command;
use crate::error::NodeError;
use crate::memo::Memo;
use backends::ebpf::image::Image;
use backends::ebpf::{DeviceKind, Listing};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;

/// The one VXLAN device.
pub const FABRIC: &str = backends::linux::numbers::VXLAN_OF_ALL;
/// Its MTU: packets are measured by the program.
const MTU: &str = "65000";
/// The bit of a device's number in the map `devices` that says what [`Net::is_pair`] does.
const PEER: u32 = 1 << 31;
/// What workloads have as their router, on every device.
pub const ROUTERS: [&str; 2] = ["169.254.1.1/32", "fe80::1/64"];

/// Devices of the network namespace that the calling thread is in.
#[derive(Debug, Clone, Default)]
pub struct Net {
    /// As `ip -j -d address show` tells of them.
    links: BTreeMap<String, Value>,
    clsact: BTreeSet<String>,
    /// Whether anything may want IPsec of packets.
    ipsec: bool,
}

impl Net {
    /// # Errors
    /// `ip` or `tc` is missing or refuses.
    pub fn read() -> Result<Self> {
        let links = command::list("ip", &["-j", "-d", "address", "show"]).map_err(tool)?;
        let qdiscs = command::list("tc", &["-j", "qdisc", "show"]).map_err(tool)?;
        let text = |value: &Value, field: &str| Some(value.get(field)?.as_str()?.to_owned());
        Ok(Self {
            links: links.into_iter().filter_map(|link| Some((text(&link, "ifname")?, link))).collect(),
            clsact: qdiscs
                .iter()
                .filter(|q| matches!(q.get("kind").and_then(Value::as_str), Some("clsact" | "ingress")))
                .filter_map(|q| text(q, "dev"))
                .collect(),
            // A kernel without IPsec refuses to tell.
            ipsec: command::output("ip", &["xfrm", "policy"]).is_ok_and(|told| !told.trim().is_empty()),
        })
    }

    #[must_use]
    pub fn link(&self, name: &str) -> Option<&Value> {
        self.links.get(name)
    }

    #[must_use]
    pub fn device(&self, name: &str) -> Option<Device> {
        let ifindex = u32::try_from(self.links.get(name)?.get("ifindex")?.as_u64()?).ok()?;
        Some(Device { name: name.to_owned(), ifindex, clsact: self.clsact.contains(name) })
    }

    /// Whether the device is one end of a pair whose other end is in another network namespace: packets can be put there at once.
    #[must_use]
    pub fn is_pair(&self, device: &str) -> bool {
        self.links.get(device).is_some_and(|link| {
            link.pointer("/linkinfo/info_kind").and_then(Value::as_str) == Some("veth")
                && link.get("link_netnsid").is_some()
        })
    }

    /// All devices by number.
    #[must_use]
    pub fn devices(&self) -> BTreeMap<u32, Device> {
        self.links.keys().filter_map(|name| self.device(name)).map(|d| (d.ifindex, d)).collect()
    }

    /// Addresses of the machine, as keys of the map `hosts`.
    #[must_use]
    pub fn hosts(&self) -> BTreeSet<Vec<u8>> {
        let addresses = self.links.values().flat_map(addresses);
        addresses
            .filter_map(|a| a.get("local")?.as_str()?.parse::<IpAddr>().ok())
            .map(|address| match address {
                IpAddr::V4(v4) => v4.octets().into_iter().chain([0; 12]).collect(),
                IpAddr::V6(v6) => v6.octets().to_vec(),
            })
            .collect()
    }

    /// Whether a device has an address, with the length of its prefix.
    #[must_use]
    pub fn has_address(&self, device: &str, wanted: &str) -> bool {
        let has = |a: &Value| {
            let local = a.get("local").and_then(Value::as_str).unwrap_or_default();
            let length = a.get("prefixlen").and_then(Value::as_u64).unwrap_or_default();
            format!("{local}/{length}") == wanted
        };
        self.links.get(device).is_some_and(|link| addresses(link).any(has))
    }

    #[must_use]
    pub fn mac(&self, device: &str) -> Option<&str> {
        self.links.get(device)?.get("address")?.as_str()
    }

    #[must_use]
    pub fn is_up(&self, device: &str) -> bool {
        let flags = self.links.get(device).and_then(|link| link.get("flags")).and_then(Value::as_array);
        flags.into_iter().flatten().any(|flag| flag == "UP")
    }
}

fn addresses(link: &Value) -> impl Iterator<Item = &Value> {
    link.get("addr_info").and_then(Value::as_array).into_iter().flatten()
}

/// The three maps that only the machine can fill.
#[must_use]
pub fn images(listing: &Listing, net: &Net) -> BTreeMap<String, Image> {
    let word = |n: u32| n.to_le_bytes().to_vec();
    let mut ports: BTreeMap<u32, u32> = listing
        .devices
        .iter()
        .map(|device| (device.port, net.device(&device.name).map_or(0, |d| d.ifindex)))
        .collect();
    let beyond: BTreeSet<u32> = listing
        .devices
        .iter()
        .filter(|device| device.kind == DeviceKind::Workload && net.is_pair(&device.name))
        .map(|device| device.port)
        .collect();
    ports.insert(backends::ebpf::FABRIC, net.device(FABRIC).map_or(0, |d| d.ifindex));
    // SOUNDNESS: what the program puts into VXLAN itself passes no IPsec policy.
    let underlay = net.device(&listing.underlay.dev).filter(|_| !net.ipsec);
    ports.insert(backends::ebpf::UNDERLAY, underlay.map_or(0, |d| d.ifindex));
    let mut out = BTreeMap::new();
    for entry in listing.maps.iter().filter(|entry| entry.digest.is_none()) {
        let entries: BTreeMap<Vec<u8>, Vec<u8>> = match entry.name.as_str() {
            "ifindexes" => {
                ports.iter().filter(|(_, i)| **i != 0).map(|(p, i)| (word(*i), word(*p))).collect()
            }
            "devices" => (0..entry.max_entries)
                .map(|port| {
                    let ifindex = ports.get(&port).copied().unwrap_or_default();
                    (word(port), word(if beyond.contains(&port) { ifindex | PEER } else { ifindex }))
                })
                .collect(),
            "hosts" => net.hosts().into_iter().map(|address| (address, word(1))).collect(),
            _ => BTreeMap::new(),
        };
        let count = u32::try_from(entries.len()).unwrap_or(u32::MAX);
        let kind = match entry.kind.as_str() {
            "array" => backends::ebpf::schema::kind::ARRAY,
            _ => backends::ebpf::schema::kind::HASH,
        };
        out.insert(
            entry.name.clone(),
            Image {
                kind,
                key_size: entry.key_size,
                value_size: entry.value_size,
                max_entries: entry.max_entries.max(count),
                flags: entry.flags,
                entries,
            },
        );
    }
    out
}

fn add_fabric(listing: &Listing) -> std::result::Result<(), NodeError> {
    let port = listing.underlay.port.to_string();
    let mac = &listing.underlay.router_mac;
    // The program takes source ports of the same range (`wire.h`): a flow has one, whoever encapsulates its packets.
    let kind = ["type", "vxlan", "external", "dstport", &port, "srcport", "32768", "60999", "nolearning"];
    let add = ["link", "add", "name", FABRIC, "address", mac];
    command::output("ip", &[&add[..], &kind[..]].concat())?;
    command::output("ip", &["link", "set", "dev", FABRIC, "mtu", MTU, "addrgenmode", "none"]).map(drop)
}

/// Attributes of the VXLAN device that are compared.
#[must_use]
pub fn attributes(link: &Value) -> BTreeMap<String, String> {
    let plain = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let mut out = BTreeMap::new();
    for (field, name) in [
        ("address", "MAC"),
        ("mtu", "MTU"),
        ("inet6_addr_gen_mode", "address generation"),
        ("master", "bridge or bond"),
    ] {
        out.insert(name.to_owned(), link.get(field).map_or_else(|| "none".to_owned(), plain));
    }
    out.insert("kind".to_owned(), link.pointer("/linkinfo/info_kind").map(plain).unwrap_or_default());
    if let Some(Value::Object(data)) = link.pointer("/linkinfo/info_data") {
        for (attribute, value) in data {
            out.insert(format!("vxlan {attribute}"), plain(value));
        }
    }
    out
}

/// The VXLAN device as a generation wants it: made where nothing else is, and looked at.
///
/// # Errors
/// There can be no network namespace, or `ip` refuses.
pub fn wanted_fabric(listing: &Listing) -> Result<Arc<BTreeMap<String, String>>> {
    static KNOWN: Memo<(u16, String), BTreeMap<String, String>> = Memo::new();
    let question = (listing.underlay.port, listing.underlay.router_mac.clone());
    let made = KNOWN.get(question, || {
        scratch::alone(|| {
            add_fabric(listing)?;
            let links = command::list("ip", &["-j", "-d", "link", "show", "dev", FABRIC])?;
            Ok(links.first().map(attributes).unwrap_or_default())
        })
    });
    made.map_err(tool)
}

/// Makes the VXLAN device, or another one where its attributes are not those wanted. Whether it did anything.
///
/// # Errors
/// `ip` refuses.
pub fn fabric(listing: &Listing, net: &Net) -> Result<bool> {
    if let Some(link) = net.link(FABRIC) {
        if attributes(link) == *wanted_fabric(listing)? {
            return Ok(false);
        }
        command::output("ip", &["link", "delete", "dev", FABRIC]).map_err(tool)?;
    }
    add_fabric(listing).map_err(tool)?;
    Ok(true)
}

/// A setting that a generation makes.
#[must_use]
pub fn settings(listing: &Listing) -> Vec<(String, &'static str)> {
    // So that the kernel tells the program which addresses are its own; it never gets to forward anything.
    let outside = listing.devices.iter().filter(|d| d.kind == DeviceKind::External);
    let both = |name: &str| ["ipv4", "ipv6"].map(|family| (format!("{family}/conf/{name}/forwarding"), "1"));
    outside.flat_map(|d| both(&d.name)).collect()
}

/// The value of a setting below `/proc/sys/net`, where the kernel has it.
#[must_use]
pub fn setting(key: &str) -> Option<String> {
    std::fs::read_to_string(Path::new("/proc/sys/net").join(key)).ok().map(|v| v.trim().to_owned())
}

/// Whether the kernel lets a device have an address of this family.
#[must_use]
pub fn can_have(device: &str, address: &str) -> bool {
    let off = || setting(&format!("ipv6/conf/{device}/disable_ipv6")).is_none_or(|value| value != "0");
    !(address.contains(':') && off())
}

/// Gives devices of workloads and externals what the program counts on. Whether anything was to be done.
///
/// # Errors
/// `ip` or the kernel refuses.
pub fn prepare(listing: &Listing, net: &Net) -> Result<bool> {
    let mut changed = false;
    let mac = listing.underlay.router_mac.as_str();
    let workloads = listing.devices.iter().filter(|d| d.kind == DeviceKind::Workload);
    for name in workloads.map(|d| d.name.as_str()).filter(|name| net.link(name).is_some()) {
        let generated = net.link(name).and_then(|l| l.get("inet6_addr_gen_mode")).and_then(Value::as_str);
        // Setting the MAC that a device has would make the kernel forget its neighbours, by which another target may send.
        for (right, args) in [
            (net.mac(name) == Some(mac), ["address", mac]),
            (generated == Some("none"), ["addrgenmode", "none"]),
        ] {
            if !right {
                let set = ["link", "set", "dev", name];
                command::output("ip", &[&set[..], &args[..]].concat()).map_err(tool)?;
                changed = true;
            }
        }
        for (address, option) in ROUTERS.into_iter().zip([["scope", "link"].as_slice(), &["nodad"]]) {
            if net.has_address(name, address) || !can_have(name, address) {
                continue;
            }
            let args = ["address", "replace", address, "dev", name];
            command::output("ip", &[&args[..], option].concat()).map_err(tool)?;
            changed = true;
        }
    }
    for (key, value) in settings(listing) {
        if setting(&key).is_some_and(|now| now != value) {
            let path = Path::new("/proc/sys/net").join(&key);
            std::fs::write(&path, value)
                .map_err(super::base::files(format!("writing {}", path.display())))?;
            changed = true;
        }
    }
    Ok(changed)
}
