//! What a node does whatever runs it there: the tables of `docs/dataplane-nft.md` and the reference "What the emitted
//! configuration does", as values. The targets for Linux print them, each in its own way.

pub mod admitted;
pub mod ends;
mod lower;
pub mod model;
pub mod numbers;
pub mod services;
pub mod walk;

pub use lower::lower;

use crate::iproute2::{Device, Fdb, Noted, Route};
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

/// Which target is built.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Dialect {
    /// As in `build --target`.
    pub name: &'static str,
}

impl Dialect {
    pub const NFT: Self = Self { name: "nft" };
    pub const EBPF: Self = Self { name: "ebpf" };
}

/// What one node runs.
#[derive(Debug, Clone)]
pub struct Model {
    pub node: String,
    pub gateway: bool,
    pub vtep: IpAddr,
    /// The underlay device.
    pub dev: String,
    /// UDP port of the encapsulation.
    pub port: u16,
    pub log_unknown_vni: bool,
    pub rules: model::Ruleset,
    pub devices: Vec<Noted<Device>>,
    pub fdb: Vec<Noted<Fdb>>,
    /// Routes by table, as in slot 0.
    pub tables: BTreeMap<u32, Vec<Noted<Route>>>,
    /// Devices of workloads.
    pub workloads: BTreeSet<String>,
    /// Names that had to be changed: as written → as emitted.
    pub names: BTreeMap<String, String>,
    /// Gateway nodes that this node sends to, in the order of their numbers.
    pub instances: Vec<String>,
    /// What the mirrored replies of stateless gateways admit beyond what the policy lets open a connection.
    pub admitted: Vec<admitted::Admitted>,
}
