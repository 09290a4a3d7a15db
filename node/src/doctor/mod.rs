//! What on a machine can keep a generation from working: missing tools and kernel features, and others who filter, mark,
//! route or tidy up what is partywall's.

mod features;
mod filters;
mod programs;
mod system;

use crate::ebpf::bring::Place;
use crate::error::NodeError;
use crate::generation::{Generation, Program};
use serde::Serialize;
use std::fmt::Write as _;
use std::path::Path;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// It will not work, or not as the policy says.
    Error,
    /// It may not.
    Warning,
    /// Worth knowing.
    Note,
}

/// One thing that was found.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Finding {
    pub severity: Severity,
    /// What was looked at: `tool`, `kernel`, `nft`, `rule`, `networkd`, …
    pub subject: &'static str,
    pub message: String,
    pub help: String,
}

impl Finding {
    fn new(
        severity: Severity,
        subject: &'static str,
        message: impl Into<String>,
        help: impl Into<String>,
    ) -> Self {
        Self { severity, subject, message: message.into(), help: help.into() }
    }
}

/// The findings, the worst first.
#[derive(Debug, Clone, Serialize)]
pub struct Doctor {
    format_version: &'static str,
    pub findings: Vec<Finding>,
}

/// Looks at the machine and the network namespace of the calling thread. Configuration files are read below `root`, `/`
/// but for tests. With a generation also at the devices that it takes for granted.
///
/// # Errors
/// A tool that is there refuses.
pub fn doctor(generation: Option<&Generation>, root: &Path) -> Result<Doctor, NodeError> {
    if let Some(generation) = generation
        && let Some(program) = generation.program()
    {
        return ebpf(generation, program, root);
    }
    let mut findings = features::tools();
    let complete = !findings.iter().any(|f| f.severity == Severity::Error);
    findings.extend(system::networkd(root));
    findings.extend(system::network_manager(root));
    findings.extend(system::settings());
    if complete {
        findings.extend(features::kernel());
        findings.extend(filters::foreign()?);
        findings.extend(system::rules(generation)?);
        if let Some(generation) = generation {
            findings.extend(system::devices(generation)?);
            findings.extend(system::gateway(generation)?);
        }
    }
    findings.sort();
    findings.dedup();
    Ok(Doctor { format_version: "1.0", findings })
}

/// The same for a generation of the eBPF target: it needs other things, and what others do in nftables never meets what its
/// programs take.
fn ebpf(generation: &Generation, program: &Program, root: &Path) -> Result<Doctor, NodeError> {
    let mut findings = programs::tools();
    findings.extend(features::system());
    findings.extend(system::network_manager(root));
    if !findings.iter().any(|f| f.severity == Severity::Error) {
        findings.extend(programs::kernel(&Place::usual(), program)?);
        findings.extend(system::devices(generation)?);
    }
    findings.sort();
    findings.dedup();
    Ok(Doctor { format_version: "1.0", findings })
}

impl Doctor {
    /// Whether nothing stands in the way.
    #[must_use]
    pub fn ok(&self) -> bool {
        self.findings.iter().all(|f| f.severity != Severity::Error)
    }

    /// For people.
    #[must_use]
    pub fn text(&self) -> String {
        let mut out = String::new();
        for f in &self.findings {
            let severity = match f.severity {
                Severity::Error => "error",
                Severity::Warning => "warning",
                Severity::Note => "note",
            };
            let _ = writeln!(out, "{severity}: {}: {}\n  help: {}", f.subject, f.message, f.help);
        }
        if self.findings.is_empty() {
            out.push_str("nothing stands in the way\n");
        }
        out
    }

    /// # Errors
    /// Never for what it holds.
    pub fn json(&self) -> Result<String, serde_json::Error> {
        Ok(serde_json::to_string_pretty(self)? + "\n")
    }
}
