//! `nft list ruleset` as values: what stands in partywall's tables, without handles and counts.
//!
//! Both sides of a comparison pass through the same nft, so what it rewrites (masks, names of constants) it rewrites on
//! both; only layout and order are taken off here.

use super::snapshot::{Kind, Snapshot};

/// One block inside a table.
struct Block<'a> {
    kind: &'a str,
    name: &'a str,
    body: Vec<&'a str>,
}

/// Adds the contents of `inet partywall` and `arp partywall`.
pub(super) fn read(ruleset: &str, out: &mut Snapshot) {
    let mut lines = ruleset.lines();
    while let Some(line) = lines.next() {
        let Some(table) = line.strip_prefix("table ").and_then(|rest| rest.strip_suffix(" {")) else {
            continue;
        };
        let ours = matches!(table, "inet partywall" | "arp partywall");
        if ours {
            out.put(Kind::Table, table.to_owned(), String::new());
        }
        while let Some(line) = lines.next() {
            if line == "}" {
                break;
            }
            let inner = line.strip_prefix('\t').unwrap_or(line);
            let Some(head) = inner.strip_suffix(" {") else {
                if ours && !inner.trim().is_empty() {
                    out.put(Kind::Table, format!("{table}: {}", inner.trim()), String::new());
                }
                continue;
            };
            let mut body = Vec::new();
            for line in lines.by_ref() {
                if line == "\t}" {
                    break;
                }
                body.push(line.trim());
            }
            let (kind, name) = head.split_once(' ').unwrap_or((head, ""));
            if ours {
                block(table, &Block { kind, name, body }, out);
            }
        }
    }
}

fn block(table: &str, block: &Block<'_>, out: &mut Snapshot) {
    let name = format!("{table} {}", block.name);
    match block.kind {
        "chain" => {
            let hook = block.body.first().filter(|line| line.starts_with("type ") && line.ends_with(';'));
            out.put(Kind::Chain, name.clone(), hook.map(|h| (*h).to_owned()).unwrap_or_default());
            let rules = block.body.iter().skip(usize::from(hook.is_some()));
            out.chains.insert(name, rules.map(|rule| ordered(rule)).collect());
        }
        "set" | "map" => {
            let text = block.body.join("\n");
            let (declared, elements) = match text.split_once("elements = {") {
                Some((declared, elements)) => (declared, elements.trim_end().trim_end_matches('}')),
                None => (text.as_str(), ""),
            };
            let declared = declared.split_whitespace().collect::<Vec<_>>().join(" ");
            // Elements of a dynamic set are what passed by, not what was installed.
            let counted = declared.split(['\t', ' ', ',']).any(|word| word == "dynamic");
            out.put(Kind::Set, name.clone(), format!("{} {declared}", block.kind));
            if counted {
                return;
            }
            for element in split(elements) {
                let (key, value) = match block.kind {
                    "map" => element.rsplit_once(" : ").unwrap_or((&element, "")),
                    _ => (element.as_str(), ""),
                };
                out.put(Kind::Element, format!("{name} {{ {} }}", key.trim()), value.trim().to_owned());
            }
        }
        // Counts are no difference; a limit's or a quota's numbers are.
        "counter" => out.put(Kind::Counter, name, String::new()),
        kind => out.put(Kind::Object, format!("{kind} {name}"), block.body.join(" ")),
    }
}

/// Elements, without line breaks; a comma in quotes separates nothing.
fn split(elements: &str) -> Vec<String> {
    let mut out = vec![String::new()];
    let mut quoted = false;
    for c in elements.chars() {
        quoted ^= c == '"';
        if c == ',' && !quoted {
            out.push(String::new());
        } else if let Some(last) = out.last_mut() {
            last.push(c);
        }
    }
    let words = |text: String| text.split_whitespace().collect::<Vec<_>>().join(" ");
    out.into_iter().map(words).filter(|element| !element.is_empty()).collect()
}

/// A rule with the elements of its nameless sets in one order: the kernel tells them in any.
fn ordered(rule: &str) -> String {
    let mut out = String::with_capacity(rule.len());
    let mut rest = rule;
    while let Some((before, inside, after)) = braces(rest) {
        let mut elements = split(inside);
        elements.sort();
        out.push_str(before);
        out.push_str("{ ");
        out.push_str(&elements.join(", "));
        out.push_str(" }");
        rest = after;
    }
    out + rest
}

/// The text before the first `{` that is not in quotes, what it encloses, and the text after.
fn braces(text: &str) -> Option<(&str, &str, &str)> {
    let mut quoted = false;
    let mut open = None;
    for (at, c) in text.char_indices() {
        quoted ^= c == '"';
        match (c, open) {
            ('{', None) if !quoted => open = Some(at),
            ('}', Some(start)) if !quoted => {
                return Some((text.get(..start)?, text.get(start + 1..at)?, text.get(at + 1..)?));
            }
            _ => {}
        }
    }
    None
}

/// The slot and the suffix of the generation that runs, read as `apply.sh` reads them.
pub(crate) fn running(snapshot: &Snapshot) -> Option<(u8, String)> {
    let flip = snapshot.chains.get("inet partywall flip_raw")?;
    [(0, "meta mark set 0x00000000 goto raw_"), (1, "meta mark set 0x00000001 goto raw_")]
        .into_iter()
        .find_map(|(slot, text)| {
            Some((slot, flip.iter().find_map(|rule| rule.strip_prefix(text))?.to_owned()))
        })
}
