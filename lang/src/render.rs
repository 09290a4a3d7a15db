//! Diagnostics for people and for programs. The renderers add no meaning and keep the order they are given;
//! [`sort`] gives the one order.

mod ci;
pub mod concise;
mod fingerprint;
mod github;
mod gitlab;
pub mod human;
pub mod json;
mod junit;
mod line_hash;
mod rdjson;
mod sarif;

use crate::diag::Diagnostic;
use crate::source::Sources;

pub use ci::CiOptions;
pub use concise::concise;
pub use fingerprint::fingerprints;
pub use github::github;
pub use gitlab::gitlab;
pub use human::human;
pub use json::{JsonOptions, json};
pub use junit::junit;
pub use rdjson::rdjson;
pub use sarif::{MOST_RESULTS as MOST_SARIF_RESULTS, sarif};

/// Sorts by path, line, column and code, and leaves out exact repeats. Nothing else than the diagnostics
/// themselves and the paths decides.
pub fn sort(sources: &Sources, diagnostics: &mut Vec<Diagnostic>) {
    diagnostics.sort_by(|a, b| {
        let key = |d: &Diagnostic| (d.span.start, d.code, d.span.end, d.severity);
        let path = sources.path(a.span.file).cmp(sources.path(b.span.file));
        path.then_with(|| key(a).cmp(&key(b)))
            .then_with(|| a.message.cmp(&b.message))
            .then_with(|| a.rules.cmp(&b.rules))
            .then_with(|| a.related.cmp(&b.related))
            .then_with(|| a.notes.cmp(&b.notes))
    });
    diagnostics.dedup();
}

/// The text on one line, without characters that could steer a terminal.
fn plain(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}
