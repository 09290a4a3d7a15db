//! What lowering and checks say: findings, and the owners whose declarations had to be left out.

use crate::ids::OwnerId;
use crate::sets::EndSet;
use lang::diag::Diagnostic;
use std::collections::BTreeSet;
use std::sync::Arc;

#[derive(Debug, Default)]
pub struct Report {
    pub diagnostics: Vec<Diagnostic>,
    /// See [`crate::model::Model::tainted`].
    pub tainted: BTreeSet<OwnerId>,
    /// Named sets that hold no address and have been reported: a rule over one of them is no cause of its own.
    pub empty: Vec<Arc<EndSet>>,
}

impl Report {
    pub fn push(&mut self, diagnostic: Diagnostic) {
        self.diagnostics.push(diagnostic);
    }

    pub fn taint(&mut self, owner: OwnerId) {
        self.tainted.insert(owner);
    }
}
