//! For a comment on a pull request: the same text for the same difference, within what GitHub takes.

use super::{Difference, lines, ways, words};
use verifier::diff::{Change, ChangeKind};

/// By this a workflow finds the comment that it wrote before.
const MARKER: &str = "<!-- partywall-diff -->";
/// Characters that a comment may have (65,536), less what follows the last detail.
const MOST: usize = 65_000;
/// One change is told in no more characters.
const MOST_EACH: usize = 4_000;
/// Pairs of owners in the table at the top.
const MOST_PAIRS: usize = 30;

pub(super) fn text(difference: &Difference<'_>) -> String {
    let mut out = format!("{MARKER}\n## Network policy: what this changes\n\n");
    if difference.changes.is_empty() {
        out.push_str(&format!(
            "No flow differs between {} and {}.\n",
            code(place(difference.old)),
            code(place(difference.new))
        ));
        return out;
    }
    summary(difference, &mut out);
    let mut left_out = 0;
    for kind in ChangeKind::ALL {
        let changes: Vec<&Change> = difference.of(kind).collect();
        if changes.is_empty() {
            continue;
        }
        let head = format!(
            "\n<details{}>\n<summary>{}: {}</summary>\n\n",
            if kind == ChangeKind::Opened { " open" } else { "" },
            title(kind),
            boxes(changes.iter().map(|change| change.rows.len()).sum()),
        );
        let tail = "\n</details>\n";
        let mut body = String::new();
        let mut room = MOST.saturating_sub(length(&out) + length(&head) + length(tail));
        let mut skipped = 0;
        for change in changes {
            // Once one is left out, so are those after it: what is shown is the beginning of the list.
            if skipped == 0 {
                let told = one(change);
                if let Some(left) = room.checked_sub(length(&told)) {
                    room = left;
                    body.push_str(&told);
                    continue;
                }
            }
            skipped += change.rows.len();
        }
        left_out += skipped;
        if !body.is_empty() {
            out.push_str(&head);
            out.push_str(&body);
            out.push_str(tail);
        }
    }
    if left_out > 0 {
        out.push_str(&format!(
            "\n{} more {} not shown here; `partywall diff` lists all.\n",
            boxes(left_out),
            if left_out == 1 { "is" } else { "are" }
        ));
    }
    out
}

fn summary(difference: &Difference<'_>, out: &mut String) {
    let count = |kind| difference.of(kind).map(|change| change.rows.len()).sum::<usize>();
    out.push_str(&format!("From {} to {}:\n\n", code(place(difference.old)), code(place(difference.new))));
    out.push_str("| opened | closed | rerouted |\n| ---: | ---: | ---: |\n");
    let [opened, closed, rerouted] = ChangeKind::ALL.map(count);
    out.push_str(&format!("| {} | {} | {} |\n\n", boxes(opened), boxes(closed), boxes(rerouted)));
    out.push_str("| | from | to |\n| --- | --- | --- |\n");
    let mut pairs: Vec<(ChangeKind, &str, &str)> =
        difference.changes.iter().map(|c| (c.kind, c.src.name.as_str(), c.dst.name.as_str())).collect();
    pairs.sort_unstable();
    pairs.dedup();
    for (kind, src, dst) in pairs.iter().take(MOST_PAIRS) {
        out.push_str(&format!("| {} | {} | {} |\n", kind.as_str(), cell(src), cell(dst)));
    }
    if pairs.len() > MOST_PAIRS {
        out.push_str(&format!("| … | {} more pairs | |\n", pairs.len() - MOST_PAIRS));
    }
}

fn title(kind: ChangeKind) -> &'static str {
    match kind {
        ChangeKind::Opened => "Opened, allowed now and not before",
        ChangeKind::Closed => "Closed, allowed before and not now",
        ChangeKind::Rerouted => "Rerouted, allowed before and now, on another way",
    }
}

fn one(change: &Change) -> String {
    let mut out = String::new();
    let lines = lines(change);
    let mut shown = 0;
    for line in &lines {
        let text = format!("- {}\n", code(&clip(&line.text(), MOST_EACH / 2)));
        if shown > 0 && length(&out) + length(&text) > MOST_EACH / 2 {
            break;
        }
        out.push_str(&text);
        shown += 1;
    }
    if shown < lines.len() {
        out.push_str(&format!("- … and {} more\n", boxes(lines.len() - shown)));
    }
    for (when, saying, other) in [("before", &change.old, &change.new), ("now", &change.new, &change.old)] {
        let way = if change.kind == ChangeKind::Rerouted {
            format!(", {}", ways(saying, other))
        } else {
            String::new()
        };
        out.push_str(&format!(
            "  - {when}: {}\n",
            clip(&escaped(&format!("{}{way}", words(saying))), MOST_EACH / 8)
        ));
    }
    let shown = if change.kind == ChangeKind::Closed { &change.old } else { &change.new };
    if let Some(reached) = shown.decided() {
        out.push_str(&format!("  - for example: {}\n", code(&reached.text)));
    }
    out
}

fn boxes(count: usize) -> String {
    if count == 1 { "1 box".to_owned() } else { format!("{count} boxes") }
}

/// Characters as GitHub counts them at worst: UTF-16 units.
fn length(text: &str) -> usize {
    text.encode_utf16().count()
}

/// At most so many characters; what is cut off is marked.
fn clip(text: &str, most: usize) -> String {
    if length(text) <= most {
        return text.to_owned();
    }
    let mut out = String::new();
    let mut used = 1;
    for c in text.chars() {
        used += c.len_utf16();
        if used > most {
            break;
        }
        out.push(c);
    }
    // Nothing that begins in what is kept may go on behind it.
    if out.matches('`').count() % 2 == 1 {
        out.push('`');
    }
    out.push('…');
    out
}

/// Code in a cell of a table, where a `|` would end the cell.
fn cell(text: &str) -> String {
    code(text).replace('|', "\\|")
}

/// A side's name; a path from the root says nothing to whoever reads this elsewhere.
fn place(name: &str) -> &str {
    match name.strip_prefix('/') {
        Some(path) => path.trim_end_matches('/').rsplit('/').next().unwrap_or(path),
        None => name,
    }
}

/// Text as code, whatever is in it: no line ends, and a longer fence than any run of backticks in it. Within code nothing is
/// markup, and nobody is mentioned.
fn code(text: &str) -> String {
    let text: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    let longest = text.split(|c| c != '`').map(str::len).max().unwrap_or(0);
    let fence = "`".repeat(longest + 1);
    let pad = if text.starts_with('`') || text.ends_with('`') { " " } else { "" };
    format!("{fence}{pad}{text}{pad}{fence}")
}

/// Words with code in them: everything outside of the code is plain.
fn escaped(text: &str) -> String {
    let parts: Vec<&str> = text.split('`').collect();
    let mut out = String::new();
    for (at, part) in parts.iter().enumerate() {
        if at % 2 == 1 && at + 1 < parts.len() {
            out.push_str(&code(part));
        } else {
            let plain = part.chars().map(|c| match c {
                '<' => "&lt;".to_owned(),
                '&' => "&amp;".to_owned(),
                '@' => "&#64;".to_owned(),
                '|' | '*' | '_' | '[' | ']' | '\\' | '#' => format!("\\{c}"),
                c if c.is_control() => " ".to_owned(),
                c => c.to_string(),
            });
            out.extend(plain);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::{cell, clip, code, escaped, place};

    #[test]
    fn nothing_is_markup() {
        assert_eq!(code("main"), "`main`");
        assert_eq!(code("a`b``c"), "```a`b``c```");
        assert_eq!(code("`a"), "`` `a ``");
        assert_eq!(code("x | y\n@team <b>"), "`x | y @team <b>`");
        assert_eq!(cell("x | y"), "`x \\| y`");
        assert_eq!(place("/tmp/x/new/"), "new");
        assert_eq!(place("origin/main"), "origin/main");
        assert_eq!(escaped("by `a_b` <i> @me a_b"), "by `a_b` &lt;i> &#64;me a\\_b");
    }

    #[test]
    fn what_is_cut_off_is_marked() {
        assert_eq!(clip("abc", 3), "abc");
        assert_eq!(clip("abcd", 3), "ab…");
        assert_eq!(clip("a`bcd`", 4), "a`b`…");
    }
}
