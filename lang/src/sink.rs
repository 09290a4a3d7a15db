//! A bounded list of findings: a file of nothing but errors costs no memory for those that nobody will see.

use crate::diag::Diagnostic;

/// So many findings of one file are shown; one more says how many are not.
pub const MAX_DIAGNOSTICS: usize = 100;

/// The first findings of one pass over a file, and the number of the others.
#[derive(Debug, Clone, Default)]
pub struct Sink {
    pub kept: Vec<Diagnostic>,
    pub more: usize,
}

impl Sink {
    /// `diagnostic` is made only if there is room for it.
    pub fn report(&mut self, diagnostic: impl FnOnce() -> Diagnostic) {
        self.report_if(|| Some(diagnostic()));
    }

    /// As [`Self::report`], where making it may show that there is nothing to say.
    pub fn report_if(&mut self, diagnostic: impl FnOnce() -> Option<Diagnostic>) {
        if self.kept.len() >= MAX_DIAGNOSTICS {
            self.more += 1;
        } else {
            self.kept.extend(diagnostic());
        }
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.kept.is_empty() && self.more == 0
    }

    /// Appends what another pass found.
    pub fn append(&mut self, other: Sink) {
        self.kept.extend(other.kept);
        self.more += other.more;
    }
}
