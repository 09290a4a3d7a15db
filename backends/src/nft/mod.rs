//! nftables and iproute2. `docs/dataplane-nft.md` tells the design.

pub mod ends;
pub mod live;
mod lower;
pub mod model;
pub mod numbers;
mod print;
mod program;
mod schema;
mod script;
pub mod services;
pub mod walk;

use crate::Backend;
use crate::artifacts::Artifact;
use crate::capability::{self, Capability};
use crate::iproute2::{Device, Fdb, Noted, Route};
use compiler::Compiled;
use compiler::ids::NodeId;
use lang::diag::Diagnostic;
use lang::source::Sources;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

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
}

/// The target `nft`.
#[derive(Debug, Clone, Copy, Default)]
pub struct Nft;

impl Backend for Nft {
    type Model = Model;

    fn name(&self) -> &'static str {
        "nft"
    }

    fn capabilities(&self) -> &'static [Capability] {
        capability::NFT
    }

    fn lower(
        &self,
        compiled: &Compiled,
        sources: &Sources,
        node: NodeId,
        down: &[NodeId],
    ) -> Result<Model, Vec<Diagnostic>> {
        lower::lower(compiled, sources, node, down)
    }

    fn print(&self, model: &Model) -> Vec<Artifact> {
        print::print(model)
    }
}
