//! What lowering and checks say: findings, and the owners whose declarations had to be left out.

use crate::ids::OwnerId;
use lang::diag::Diagnostic;
use std::collections::BTreeSet;

#[derive(Debug, Default)]
pub struct Report {
    pub diagnostics: Vec<Diagnostic>,
    /// See [`crate::model::Model::tainted`].
    pub tainted: BTreeSet<OwnerId>,
}

impl Report {
    pub fn push(&mut self, diagnostic: Diagnostic) {
        self.diagnostics.push(diagnostic);
    }

    pub fn taint(&mut self, owner: OwnerId) {
        self.tainted.insert(owner);
    }
}
