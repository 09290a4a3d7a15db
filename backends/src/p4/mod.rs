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

/// The program's text, for the default UDP port; its ingress control stands in three files.
pub const PROGRAM: &str = concat!(
    include_str!("../../p4/headers.p4"),
    include_str!("../../p4/parser.p4"),
    include_str!("../../p4/tables.p4"),
    include_str!("../../p4/decision.p4"),
    include_str!("../../p4/pipeline.p4"),
);

/// The backend.
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
        let program = program::parse(PROGRAM).map_err(|refused| {
            let fault = format!("the program that is built in cannot be read: {refused}");
            vec![Diagnostic::new(Code::PW0801, compiled.model.nodes[node].span, fault)]
        })?;
        lower::lower(compiled, sources, &program, node, down)
    }

    fn print(&self, model: &Model) -> Vec<Artifact> {
        print::print(model)
    }
}
