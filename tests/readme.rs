//! The README says what is so: its generated tables are up to date, and what it tells people to run works.

mod support;

use backends::capability::{NFT, markdown};
use support::{report, root, run};

/// The text between a section's markers, replaced by `content`.
fn with_section(text: &str, name: &str, content: &str) -> String {
    let (begin, end) = (format!("<!-- {name}: begin -->\n"), format!("<!-- {name}: end -->"));
    let (before, rest) = text.split_once(&begin).unwrap_or_else(|| panic!("no {begin}"));
    let (_, after) = rest.split_once(&end).unwrap_or_else(|| panic!("no {end}"));
    format!("{before}{begin}\n{content}\n{end}{after}")
}

#[test]
fn generated_sections_are_up_to_date() {
    let path = root().join("README.md");
    let text = std::fs::read_to_string(&path).unwrap();
    let help = run(["--help"]).expect(0).stdout;
    let commands =
        help.lines().skip_while(|line| *line != "Commands:").skip(1).take_while(|line| !line.is_empty());
    let mut rows = "| subcommand | what it does |\n|---|---|\n".to_owned();
    for line in commands {
        let (name, what) = line.trim().split_once(' ').unwrap();
        if name != "help" {
            rows.push_str(&format!("| `{name}` | {} |\n", what.trim()));
        }
    }
    let wanted = with_section(&text, "subcommands", &rows);
    let wanted = with_section(&wanted, "capabilities", &markdown("nft", NFT));
    report(&support::golden(&path, &wanted).into_iter().collect::<Vec<_>>());
}

#[test]
fn it_opens_with_the_two_commands() {
    let text = std::fs::read_to_string(root().join("README.md")).unwrap();
    let first = text.split("```").nth(1).unwrap();
    assert!(first.contains("./scripts/demo") && first.contains("./scripts/test"), "{first}");
}

#[test]
fn every_place_it_names_is_there() {
    let text = std::fs::read_to_string(root().join("README.md")).unwrap();
    let mut complaints = Vec::new();
    for link in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
        if !link.contains("://") && !root().join(link.split('#').next().unwrap()).exists() {
            complaints.push(link.to_owned());
        }
    }
    report(&complaints);
}
