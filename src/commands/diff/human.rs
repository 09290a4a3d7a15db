//! For people.

use super::{Difference, lines, ways, words};
use verifier::diff::{Change, ChangeKind};

pub(super) fn text(difference: &Difference<'_>) -> String {
    let (old, new) = (difference.old, difference.new);
    if difference.changes.is_empty() {
        return format!("no flow differs between {old} and {new}\n");
    }
    let mut out = String::new();
    for kind in ChangeKind::ALL {
        let mut changes = difference.of(kind).peekable();
        if changes.peek().is_none() {
            continue;
        }
        out.push_str(match kind {
            ChangeKind::Opened => "opened: allowed now, not before\n",
            ChangeKind::Closed => "closed: allowed before, not now\n",
            ChangeKind::Rerouted => "rerouted: allowed before and now, on another way\n",
        });
        for change in changes {
            one(change, &mut out);
        }
        out.push('\n');
    }
    let count = |kind| difference.of(kind).map(|change| change.rows.len()).sum::<usize>();
    let [opened, closed, rerouted] = ChangeKind::ALL.map(count);
    let boxes = |n: usize| if n == 1 { "1 box".to_owned() } else { format!("{n} boxes") };
    out.push_str(&format!(
        "from {old} to {new}: {} of flows opened, {} closed, {} rerouted\n",
        boxes(opened),
        boxes(closed),
        boxes(rerouted)
    ));
    out
}

fn one(change: &Change, out: &mut String) {
    for line in lines(change) {
        out.push_str(&format!("  {}\n", line.text()));
    }
    for (when, saying, other) in [("before", &change.old, &change.new), ("now", &change.new, &change.old)] {
        let way = if change.kind == ChangeKind::Rerouted {
            format!(", {}", ways(saying, other))
        } else {
            String::new()
        };
        out.push_str(&format!("    {when:<8} {}{way}\n", words(saying)));
    }
    let shown = match change.kind {
        ChangeKind::Closed => &change.old,
        ChangeKind::Opened | ChangeKind::Rerouted => &change.new,
    };
    if let Some(reached) = shown.decided() {
        out.push_str(&format!("    {:<8} {}\n", "witness", reached.text));
    }
}
