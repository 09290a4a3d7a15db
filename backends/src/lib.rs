//! What the compiled form becomes on a node: per target a backend that lowers it to a typed model and prints that.
//!
//! Backends do no input or output: they return the bytes of the artifacts.

pub mod artifacts;
pub mod capability;
pub mod ebpf;
pub mod iproute2;
pub mod linux;
pub mod names;
pub mod nft;
pub mod p4;

pub use artifacts::{Artifact, Bundle, Request, Target, Told, build};
pub use capability::{Capability, Level};

use compiler::Compiled;
use compiler::ids::NodeId;
use lang::diag::Diagnostic;
use lang::source::Sources;

/// A target.
pub trait Backend {
    /// What one node runs.
    type Model;

    /// As in `--target`.
    fn name(&self) -> &'static str;

    /// What this target can express, and how.
    fn capabilities(&self) -> &'static [Capability];

    /// One node's model. `sources` names the places that comments point to; `down` are the gateway nodes that count as dead.
    ///
    /// # Errors
    /// PW0801 findings: what this target cannot express exactly.
    fn lower(
        &self,
        compiled: &Compiled,
        sources: &Sources,
        node: NodeId,
        down: &[NodeId],
    ) -> Result<Self::Model, Vec<Diagnostic>>;

    /// The files of a node, in a fixed order, with paths relative to the node's folder. Deterministic.
    fn print(&self, model: &Self::Model) -> Vec<Artifact>;
}
