//! Devices, neighbours, routes and rules, as values and as `ip -batch` and `bridge -batch` text.

mod print;
mod tree;

pub use print::{device_line, fdb_line, route_line, rule_line};
pub use tree::{preference, tree};

use compiler::algebra::Family;
use std::net::IpAddr;

/// Device groups (`ip link … group`): what the permanent chains tell devices by. Numbers are the letters `PW`, and on.
pub mod group {
    /// Devices of workloads.
    pub const WORKLOAD: u32 = 0x5057;
    /// VXLAN devices.
    pub const FABRIC: u32 = 0x5058;
    /// Devices to externals.
    pub const OUTSIDE: u32 = 0x5059;
}

/// `protocol` of every rule and route.
pub const PROTOCOL: u8 = 87;
/// Preference of the last rule of ours: after `local`, before `main`.
pub const PREFERENCE: u32 = 20_567;
/// The kernel asks rule after rule. So tables are spread over leaves by low bits of their numbers, each leaf with a preference of its
/// own, and where there are many, rules lead past the leaves that cannot hold a packet's.
pub const LEAF_BITS: u32 = 6;
/// More tables than these are found by such rules.
pub const FEW_TABLES: usize = 16;
/// The bits of a mark that select a table.
pub const MASK: u32 = 0x7fff_ffff;
/// Metric of a table's last route: the lowest preference there is without a meaning of its own.
pub const LAST_METRIC: u32 = 4_278_198_272;

/// A line of `links.batch` and the comment that names its origin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Noted<T> {
    pub what: T,
    pub note: String,
}

/// What `links.batch` and `fdb.batch` set up. Every step can be repeated; `Vxlan` is skipped where the device exists.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Device {
    Vxlan {
        name: String,
        mac: [u8; 6],
        vni: u32,
        port: u16,
        local: IpAddr,
        dev: String,
    },
    /// Group, MTU and state of a VXLAN device.
    Fabric {
        name: String,
        mtu: u32,
    },
    /// Group and MAC of a workload's device.
    Workload {
        name: String,
        mac: [u8; 6],
    },
    /// Group of a device to an external.
    Outside {
        name: String,
    },
    Address {
        dev: String,
        address: String,
        v6: bool,
    },
    Neighbour {
        dev: String,
        address: IpAddr,
        mac: [u8; 6],
    },
    /// An address for which the node answers neighbour solicitations on a device.
    Proxy {
        dev: String,
        address: IpAddr,
    },
}

/// Which MAC is behind which VTEP, on one VXLAN device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fdb {
    pub dev: String,
    pub mac: [u8; 6],
    pub vtep: IpAddr,
}

/// A route of this generation. `table` is slot 0's; slot 1's is the next number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    pub table: u32,
    pub family: Family,
    /// `10.1.0.5/32`, `0.0.0.0/0`
    pub prefix: String,
    pub target: Target,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    Dev(String),
    Via {
        hop: IpAddr,
        dev: String,
    },
    /// The table's last word.
    Unreachable,
}
