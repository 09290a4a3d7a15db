//! Lines of `ip -batch` and `bridge -batch`.

use super::{Device, Fdb, LAST_METRIC, MASK, PROTOCOL, Route, Target, group, preference};
use compiler::algebra::Family;

fn mac_text(mac: [u8; 6]) -> String {
    let [a, b, c, d, e, f] = mac;
    format!("{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{f:02x}")
}

/// A line of `links.batch`.
#[must_use]
pub fn device_line(device: &Device) -> String {
    match device {
        Device::Vxlan { name, mac, vni, port, local, dev } => format!(
            "link add name {name} address {} type vxlan id {vni} dstport {port} local {local} dev {dev} ttl 64 df set nolearning",
            mac_text(*mac)
        ),
        Device::Fabric { name, mtu } => {
            format!(
                "link set dev {name} group {} mtu {mtu} addrgenmode none multicast off\nlink set dev {name} up",
                group::FABRIC
            )
        }
        Device::Workload { name, mac } => {
            format!("link set dev {name} group {} address {}", group::WORKLOAD, mac_text(*mac))
        }
        Device::Outside { name } => format!("link set dev {name} group {}", group::OUTSIDE),
        Device::Address { dev, address, v6: false } => {
            format!("address replace {address} dev {dev} scope link")
        }
        Device::Address { dev, address, v6: true } => format!("address replace {address} dev {dev} nodad"),
        Device::Neighbour { dev, address, mac } => {
            format!("neighbour replace {address} lladdr {} dev {dev} nud permanent", mac_text(*mac))
        }
        Device::Proxy { dev, address } => format!("neighbour replace proxy {address} dev {dev}"),
    }
}

/// A line of `fdb.batch`.
#[must_use]
pub fn fdb_line(entry: &Fdb) -> String {
    format!("fdb replace {} dev {} dst {} self permanent", mac_text(entry.mac), entry.dev, entry.vtep)
}

/// A line of `routes.batch` or `routes6.batch`, for slot 0.
#[must_use]
pub fn route_line(route: &Route) -> String {
    let table = route.table;
    let prefix = &route.prefix;
    match &route.target {
        Target::Dev(dev) => {
            format!("route replace table {table:#010x} {prefix} dev {dev} protocol {PROTOCOL}")
        }
        Target::Via { hop, dev } => {
            let via = if route.family == Family::V4 && hop.is_ipv6() { "via inet6" } else { "via" };
            format!(
                "route replace table {table:#010x} {prefix} {via} {hop} dev {dev} onlink protocol {PROTOCOL}"
            )
        }
        Target::Unreachable => {
            format!(
                "route replace table {table:#010x} unreachable {prefix} metric {LAST_METRIC} protocol {PROTOCOL}"
            )
        }
    }
}

/// The rule that leads a mark to its table, for slot 0.
#[must_use]
pub fn rule_line(table: u32) -> String {
    format!(
        "rule add table {table:#010x} fwmark {table:#010x}/{MASK:#010x} preference {} protocol {PROTOCOL}",
        preference(table)
    )
}
