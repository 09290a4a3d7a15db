//! nftables and iproute2. `docs/dataplane-nft.md` tells the design.

mod affinity;
mod arp;
mod arrivals;
mod base;
mod errors;
mod fast;
mod gateway;
pub mod live;
mod print;
mod program;
mod schema;
mod script;
mod stateless;

pub use fast::{joined, led};

use crate::Backend;
use crate::artifacts::Artifact;
use crate::capability::{self, Capability};
use crate::linux::{Dialect, Model, lower};
use compiler::Compiled;
use compiler::ids::NodeId;
use lang::diag::Diagnostic;
use lang::source::Sources;

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
        lower(compiled, sources, Dialect::NFT, node, down)
    }

    fn print(&self, model: &Model) -> Vec<Artifact> {
        print::print(model)
    }
}
