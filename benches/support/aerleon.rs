//! Aerleon's shade check, where it is installed: `PARTYWALL_AERLEON` names its `aclgen`.

use super::baselines::{Lists, Row};
use super::child;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

/// What it took and said.
pub struct Said {
    pub seconds: f64,
    /// Terms that it calls shaded.
    pub shaded: usize,
    /// Rules that it was given; it has no way to write the others.
    pub given: usize,
}

pub fn found() -> Option<PathBuf> {
    std::env::var_os("PARTYWALL_AERLEON").map(PathBuf::from)
}

/// Gives it the one list of a project, as terms of its own language.
pub fn shade(aclgen: &Path, lists: &Lists) -> Said {
    let [rows] = lists.lists.as_slice() else { panic!("one list is due") };
    let mut book = Book::default();
    let terms: Vec<String> = rows.iter().filter_map(|row| book.term(row)).collect();
    let folder = tempfile::tempdir().expect("a temporary folder");
    let at = |name: &str| folder.path().join(name);
    for name in ["def", "pol", "out"] {
        std::fs::create_dir(at(name)).expect("a folder can be made");
    }
    let write = |name: &str, text: String| std::fs::write(at(name), text).expect("a file can be written");
    let defined = |names: &BTreeMap<String, String>| -> String {
        names.iter().map(|(value, name)| format!("{name} = {value}\n")).collect()
    };
    write("def/net.net", defined(&book.networks));
    write("def/ports.svc", defined(&book.ports));
    write("pol/list.pol", format!("header {{\n  target:: nftables mixed INPUT\n}}\n{}", terms.concat()));
    let mut command = Command::new(aclgen);
    command.arg("--base_directory").arg(folder.path()).arg("--policy_file").arg(at("pol/list.pol"));
    command.arg("--definitions_directory").arg(at("def")).arg("--output_directory").arg(at("out"));
    let ran = child::run(command.arg("--shade_check"));
    Said { seconds: ran.seconds, shaded: ran.stderr.matches(" is shaded by ").count(), given: terms.len() }
}

/// Names of networks and ports, by what they stand for.
#[derive(Default)]
struct Book {
    networks: BTreeMap<String, String>,
    ports: BTreeMap<String, String>,
    terms: usize,
}

impl Book {
    /// `None` if the rule has no protocol that it knows by name.
    fn term(&mut self, row: &Row) -> Option<String> {
        let [[src, dst, protocol, x, y]] = row.cubes.as_slice() else { return None };
        let protocol = match protocol {
            (0, 255) => None,
            (1, 1) => Some("icmp"),
            (6, 6) => Some("tcp"),
            (17, 17) => Some("udp"),
            (47, 47) => Some("gre"),
            (50, 50) => Some("esp"),
            _ => return None,
        };
        let mut text = format!("term t{} {{\n", self.terms);
        for (field, end) in [("source", src), ("destination", dst)] {
            if let Some(prefix) = prefix(*end)? {
                let _ = writeln!(text, "  {field}-address:: {}", name("N", &mut self.networks, prefix));
            }
        }
        if let Some(protocol) = protocol {
            let _ = writeln!(text, "  protocol:: {protocol}");
        }
        for (field, (lo, hi)) in [("source", x), ("destination", y)] {
            if let Some(known @ ("tcp" | "udp")) = protocol
                && (*lo, *hi) != (0, 65535)
            {
                let ports = if lo == hi { format!("{lo}/{known}") } else { format!("{lo}-{hi}/{known}") };
                let _ = writeln!(text, "  {field}-port:: {}", name("P", &mut self.ports, ports));
            }
        }
        text.push_str("  action:: accept\n}\n");
        self.terms += 1;
        Some(text)
    }
}

fn name(kind: &str, names: &mut BTreeMap<String, String>, value: String) -> String {
    let next = format!("{kind}{}", names.len());
    names.entry(value).or_insert(next).clone()
}

/// A range of addresses as a prefix; the inner `None` is all of them, the outer one says that it is no prefix.
fn prefix((lo, hi): (u64, u64)) -> Option<Option<String>> {
    let (lo, hi) = (lo & 0xffff_ffff, hi & 0xffff_ffff);
    let size = hi - lo + 1;
    if !size.is_power_of_two() {
        return None;
    }
    let length = 32 - size.trailing_zeros();
    let text = format!("{}.{}.{}.{}/{length}", lo >> 24, lo >> 16 & 255, lo >> 8 & 255, lo & 255);
    Some((length > 0).then_some(text))
}
