//! What the probes showed.

use compiler::wire::{DecisionLine, PacketLine};
use lang::span::Span;
use serde::Serialize;
use std::fmt::Write;

/// Version of the JSON form.
pub const FORMAT_VERSION: &str = "1.1";

#[derive(Debug, Clone, Serialize)]
pub struct ProbeReport {
    pub format_version: &'static str,
    pub summary: Summary,
    pub probes: Vec<Row>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct Summary {
    pub passed: usize,
    pub failed: usize,
    /// Probes for which no declared endpoint or external fits: nothing was shown.
    pub no_endpoint: usize,
}

/// One probe.
#[derive(Debug, Clone, Serialize)]
pub struct Row {
    pub name: String,
    /// Where the test or `isolate` stands, once [`ProbeReport::locate`] has said so.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub at: Option<String>,
    #[serde(skip)]
    pub span: Option<Span>,
    pub outcome: Outcome,
    /// What went wrong, or why nothing fits.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
    /// What was sent, for people.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sent: Option<String>,
    /// The packet as `eval` takes it; absent for a frame that no endpoint would send.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub packet: Option<PacketLine>,
    /// What `eval` says of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub decision: Option<DecisionLine>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expected: Option<Expected>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seen: Option<Observed>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    Passed,
    Failed,
    NoEndpoint,
}

/// What is to be seen.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "verdict", rename_all = "lowercase")]
pub enum Expected {
    Allow {
        arrives: String,
        #[serde(skip_serializing_if = "Option::is_none")]
        through: Option<String>,
        /// Whether an answer is to come back; absent where the protocol has none.
        #[serde(skip_serializing_if = "Option::is_none")]
        reply: Option<bool>,
        /// The gateway instance of the answer, where it is another.
        #[serde(skip_serializing_if = "Option::is_none")]
        reply_through: Option<String>,
    },
    Deny {
        /// The node that drops it.
        node: String,
        reason: String,
    },
}

/// What was seen.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Observed {
    /// Endpoints and externals that received it.
    pub arrived: Vec<String>,
    /// Gateway instances on its way, and on the way of the reply.
    pub through: Vec<String>,
    pub reply_through: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reply: Option<bool>,
    /// Drop reasons that the node of the expectation counted meanwhile.
    pub dropped: Vec<String>,
}

impl ProbeReport {
    pub(crate) fn new(probes: Vec<Row>) -> Self {
        let count = |outcome: Outcome| probes.iter().filter(|r| r.outcome == outcome).count();
        let summary = Summary {
            passed: count(Outcome::Passed),
            failed: count(Outcome::Failed),
            no_endpoint: count(Outcome::NoEndpoint),
        };
        Self { format_version: FORMAT_VERSION, summary, probes }
    }

    /// Whether no probe failed.
    #[must_use]
    pub fn ok(&self) -> bool {
        self.summary.failed == 0
    }

    /// Says of each probe where its declaration stands, such as `tests/shop.pw:12`.
    pub fn locate(&mut self, place: impl Fn(Span) -> String) {
        for row in &mut self.probes {
            row.at = row.span.map(&place);
        }
    }

    /// One document, ending in a line feed.
    ///
    /// # Errors
    /// Never in practice: every field can be written.
    pub fn json(&self) -> Result<String, serde_json::Error> {
        serde_json::to_string_pretty(self).map(|text| text + "\n")
    }

    /// For people: a line per probe, and what went wrong below it.
    #[must_use]
    pub fn table(&self) -> String {
        let header = ["", "probe", "sent", "expected", "seen"].map(str::to_owned);
        let lines: Vec<[String; 5]> = std::iter::once(header).chain(self.probes.iter().map(cells)).collect();
        let mut widths = [0; 5];
        for line in &lines {
            for (width, cell) in widths.iter_mut().zip(line) {
                *width = cell.chars().count().max(*width);
            }
        }
        let mut out = String::new();
        let whys = std::iter::once(None).chain(self.probes.iter().map(Some));
        for (line, row) in lines.iter().zip(whys) {
            let mut text = String::new();
            for (cell, width) in line.iter().zip(widths) {
                let padding = width - cell.chars().count();
                text.push_str(cell);
                text.extend(std::iter::repeat_n(' ', padding + 2));
            }
            out.push_str(text.trim_end());
            out.push('\n');
            if let Some(why) = row.and_then(|r| r.why.as_ref()) {
                let _ = writeln!(out, "{:width$}  {why}", "", width = widths.first().copied().unwrap_or(0));
            }
        }
        let Summary { passed, failed, no_endpoint } = self.summary;
        let _ = writeln!(out, "\n{passed} as expected, {failed} not, {no_endpoint} without an endpoint");
        out
    }
}

fn cells(row: &Row) -> [String; 5] {
    let outcome = match row.outcome {
        Outcome::Passed => "ok",
        Outcome::Failed => "FAILED",
        Outcome::NoEndpoint => "no endpoint",
    };
    let name = match &row.at {
        Some(at) => format!("{} ({at})", row.name),
        None => row.name.clone(),
    };
    let expected = match &row.expected {
        Some(Expected::Allow { through: Some(node), reply_through: Some(back), .. }) => {
            format!("allow, through {node} and back through {back}")
        }
        Some(Expected::Allow { through: Some(node), .. }) => format!("allow, through {node}"),
        Some(Expected::Allow { through: None, .. }) => "allow".to_owned(),
        Some(Expected::Deny { node, reason }) => format!("deny, {reason} at {node}"),
        None => String::new(),
    };
    let seen = row.seen.as_ref().map_or_else(String::new, seen_text);
    [outcome.to_owned(), name, row.sent.clone().unwrap_or_default(), expected, seen]
}

fn seen_text(seen: &Observed) -> String {
    let mut parts = Vec::new();
    if seen.arrived.is_empty() {
        parts.push("nothing arrived".to_owned());
    } else {
        parts.push(format!("at {}", seen.arrived.join(", ")));
    }
    if !seen.through.is_empty() {
        parts.push(format!("through {}", seen.through.join(", ")));
    }
    if !seen.reply_through.is_empty() && seen.reply_through != seen.through {
        parts.push(format!("back through {}", seen.reply_through.join(", ")));
    }
    match seen.reply {
        Some(true) => parts.push("answered".to_owned()),
        Some(false) if !seen.arrived.is_empty() => parts.push("no answer".to_owned()),
        _ => {}
    }
    if !seen.dropped.is_empty() {
        parts.push(format!("counted {}", seen.dropped.join(", ")));
    }
    parts.join(", ")
}
