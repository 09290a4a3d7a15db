//! For tools.

use super::{Difference, lines};
use crate::boxes::{BoxLine, Tool};
use crate::exit::Failure;
use compiler::wire::{DecisionLine, PacketLine};
use serde::Serialize;
use std::net::IpAddr;
use verifier::diff::{ChangeKind, Saying};

#[derive(Debug, Serialize)]
struct Document<'a> {
    format_version: &'static str,
    tool: Tool,
    project: &'a str,
    old: &'a str,
    new: &'a str,
    summary: Summary,
    changes: Vec<ChangeLine<'a>>,
}

/// Boxes of each kind.
#[derive(Debug, Serialize)]
struct Summary {
    opened: usize,
    closed: usize,
    rerouted: usize,
}

#[derive(Debug, Serialize)]
struct ChangeLine<'a> {
    change: &'static str,
    boxes: Vec<BoxLine<'a>>,
    old: SideLine<'a>,
    new: SideLine<'a>,
}

/// What a side says of the witness.
#[derive(Debug, Serialize)]
#[serde(untagged)]
enum SideLine<'a> {
    Decided { packet: &'a PacketLine, decision: &'a DecisionLine, ways: Vec<Way<'a>> },
    None { reason: &'static str },
}

#[derive(Debug, Serialize)]
struct Way<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    via: Option<&'a str>,
    destination_seen_as: IpAddr,
    source_seen_as: &'a [IpAddr],
}

pub(super) fn text(difference: &Difference<'_>) -> Result<String, Failure> {
    let count = |kind| difference.of(kind).map(|change| change.rows.len()).sum();
    let document = Document {
        format_version: "1.0",
        tool: Tool::this(),
        project: difference.project,
        old: difference.old,
        new: difference.new,
        summary: Summary {
            opened: count(ChangeKind::Opened),
            closed: count(ChangeKind::Closed),
            rerouted: count(ChangeKind::Rerouted),
        },
        changes: difference
            .changes
            .iter()
            .map(|change| ChangeLine {
                change: change.kind.as_str(),
                boxes: lines(change),
                old: side(&change.old),
                new: side(&change.new),
            })
            .collect(),
    };
    let text = serde_json::to_string_pretty(&document)
        .map_err(|e| Failure::new(format!("cannot write the difference: {e}")))?;
    Ok(text + "\n")
}

fn side(saying: &Saying) -> SideLine<'_> {
    match saying {
        Saying::Absent => SideLine::None { reason: "absent" },
        Saying::Elsewhere => SideLine::None { reason: "elsewhere" },
        Saying::Decided(reached) => SideLine::Decided {
            packet: &reached.packet,
            decision: &reached.decision,
            ways: reached
                .ways
                .iter()
                .map(|way| Way {
                    via: way.via.as_deref(),
                    destination_seen_as: way.dst,
                    source_seen_as: &way.src,
                })
                .collect(),
        },
    }
}
