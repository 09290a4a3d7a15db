//! The p4 target: a stateless switch. A program that is the same for all nodes, P4Runtime's description of it, and a node's
//! entries in two forms.

pub mod entries;
mod info;
mod lower;
pub mod lpm;
mod print;
pub mod program;
mod read;
pub mod run;

pub use crate::linux::admitted::Admitted;
pub use lower::{Model, Saved, UNDERLAY_PORT};
pub use read::{ReadError, Running, bmv2, protobuf, read};

use crate::Backend;
use crate::artifacts::Artifact;
use crate::capability::{Capability, P4 as CAPABILITIES};
use compiler::Compiled;
use compiler::ids::NodeId;
use lang::codes::Code;
use lang::diag::Diagnostic;
use lang::source::Sources;
use std::collections::BTreeMap;

/// The program's text, for the default UDP port; its ingress control stands in three files.
pub const PROGRAM: &str = concat!(
    include_str!("../../p4/headers.p4"),
    include_str!("../../p4/parser.p4"),
    include_str!("../../p4/tables.p4"),
    include_str!("../../p4/decision.p4"),
    include_str!("../../p4/pipeline.p4"),
);

/// What a kind of switch has room for, where that is not what the program says by itself.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Profile {
    /// As in `partywall.toml`; empty: none is meant.
    pub name: String,
    /// Entries that a table holds, by its name; both generations of an update count.
    pub tables: BTreeMap<String, u32>,
}

/// The tables whose sizes a profile may set, in the order of the program.
#[must_use]
pub fn tables() -> Vec<String> {
    let program = program::parse(PROGRAM).unwrap_or_default();
    program.tables.into_iter().filter(|t| t.size > 0).map(|t| t.name).collect()
}

/// What one node runs, on a switch of some kind.
///
/// # Errors
/// PW0801: what this target cannot express exactly. PW0803: what does not fit.
pub fn lower(
    compiled: &Compiled,
    sources: &Sources,
    node: NodeId,
    down: &[NodeId],
    profile: &Profile,
) -> Result<Model, Vec<Diagnostic>> {
    let text = print::program(compiled.model.fabric.port, profile);
    let program = program::parse(&text).map_err(|refused| {
        let fault = format!("the program that is built in cannot be read: {refused}");
        vec![Diagnostic::new(Code::PW0801, compiled.model.nodes[node].span, fault)]
    })?;
    lower::lower(compiled, sources, &program, node, (down, profile))
}

/// The backend, for switches with room for what the program says.
#[derive(Debug, Clone, Copy, Default)]
pub struct P4;

impl Backend for P4 {
    type Model = Model;

    fn name(&self) -> &'static str {
        "p4"
    }

    fn capabilities(&self) -> &'static [Capability] {
        CAPABILITIES
    }

    fn lower(
        &self,
        compiled: &Compiled,
        sources: &Sources,
        node: NodeId,
        down: &[NodeId],
    ) -> Result<Model, Vec<Diagnostic>> {
        lower(compiled, sources, node, down, &Profile::default())
    }

    fn print(&self, model: &Model) -> Vec<Artifact> {
        print::print(model)
    }
}
