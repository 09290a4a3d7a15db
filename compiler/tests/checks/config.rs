//! `partywall.toml` and what it governs: lint levels, suppressions (PW0902), owned folders (PW0506).

use crate::support::presentable;
use lang::codes::Code;
use lang::diag::{Diagnostic, Severity};
use lang::span::FileId;
use partywall_compiler::checks::owners;
use partywall_compiler::config::{ConfigError, Position, parse};
use partywall_compiler::lints::{self, Level, Levels};

fn error(text: &str) -> (usize, usize, String) {
    match parse(text) {
        Err(ConfigError { line, column, message }) => (line, column, message),
        Ok(config) => panic!("no error in {text}: {config:?}"),
    }
}

#[test]
fn levels_and_owners_are_read() {
    let config = parse(
        "# comment\n[lints]\nPW0402 = \"deny\"\nPW0407 = \"allow\"\nPW0401 = \"warn\"\n\n[owners]\n\"tenants/shop/**\" = \"shop\"\n",
    )
    .expect("a good file");
    assert_eq!(config.lints.get(Code::PW0402), Some(Level::Deny));
    assert_eq!(config.lints.get(Code::PW0407), Some(Level::Allow));
    assert_eq!(config.lints.get(Code::PW0403), None);
    let owned = &config.owners[0];
    assert_eq!((owned.pattern(), owned.tenant.as_str()), ("tenants/shop/**", "shop"));
    assert!(owned.matches("tenants/shop/a.pw") && owned.matches("tenants/shop/deep/er/b.pw"));
    assert!(
        !owned.matches("tenants/shopping/a.pw")
            && !owned.matches("tenants/shop.pw")
            && !owned.matches("a.pw")
    );
}

#[test]
fn profiles_are_read() {
    let text = "[profile.edge]\nnodes = [\"c1\", \"c2\"]\ntables = { verdict = 4096, source4 = 100 }\n\n\
                [profile.spine]\nnodes = [\"c3\"]\n[profile.spine.tables]\nreply = 1\n";
    let config = parse(text).expect("a good file");
    let edge = &config.profiles["edge"];
    assert_eq!(edge.nodes.keys().collect::<Vec<_>>(), ["c1", "c2"]);
    assert_eq!(edge.tables["verdict"], (4096, Position { line: 3, column: 12 }));
    assert_eq!(edge.nodes["c2"], Position { line: 2, column: 16 });
    assert_eq!(config.profiles["spine"].tables["reply"].0, 1);
    for (wrong, line, column, why) in [
        ("verdict = 4096", 3, 22, "a table has 1 to 4294967295 entries, not 0"),
        ("\"c3\"", 6, 10, "node `c1` is in profile `edge` as well: a node has one"),
        ("\"c2\"", 2, 16, "node `c1` is listed twice"),
        ("nodes = [\"c1\"", 2, 1, "unknown field `node`, expected `nodes` or `tables`"),
    ] {
        let right = match wrong {
            "verdict = 4096" => "verdict = 0",
            "nodes = [\"c1\"" => "node = [\"c1\"",
            _ => "\"c1\"",
        };
        let (l, c, message) = error(&text.replacen(wrong, right, 1));
        assert_eq!((l, c), (line, column), "{message}");
        assert!(message.starts_with(why), "{message}");
    }
    assert!(error("[profile.edge]\nnodes = []\n").2.contains("missing field `tables`"));
}

#[test]
fn an_empty_file_says_nothing() {
    let config = parse("").expect("an empty file is good");
    assert!(config.owners.is_empty() && config.lints == Levels::default());
}

#[test]
fn errors_have_a_place_and_name_the_cause() {
    let (line, column, message) = error("[lints]\nPW0402 = \"deny\"\n\n[lint]\n");
    assert_eq!((line, column), (4, 2), "{message}");
    assert!(message.contains("unknown field `lint`") && message.contains("`lints`"), "{message}");
    let (line, column, message) = error("[lints]\nPW042 = \"deny\"\n");
    assert_eq!((line, column), (2, 1));
    assert!(message.starts_with("`PW042` is no code; did you mean `PW0"), "{message}");
    assert_eq!(
        error("[lints]\nPW0402 = \"off\"\n"),
        (2, 10, "`off` is no level: write \"deny\", \"warn\" or \"allow\"".into())
    );
    let (line, column, message) = error("[lints]\nPW0101 = \"allow\"\n");
    assert_eq!((line, column), (2, 10));
    assert!(message.starts_with("PW0101 can be neither allowed nor softened"), "{message}");
    let (line, _, message) = error("[owners]\n\"tenants/{shop\" = \"shop\"\n");
    assert_eq!(line, 2);
    assert!(message.starts_with("`tenants/{shop` is no pattern"), "{message}");
    assert_eq!(error("[lints]\nPW0402 = 3\n").0, 2);
    assert_eq!(error("[lints]\nPW0402 = \"deny\"\nPW0402 = \"warn\"\n").0, 3);
    assert_eq!(error("[lints\n").0, 1);
}

#[test]
fn columns_are_characters() {
    assert_eq!(error("# é\nowners = { \"é\" = \"shop\", \"ü{\" = \"x\" }\n").1, 26);
}

fn owned(path: &str, text: &str) -> Vec<Diagnostic> {
    let config = parse("[owners]\n\"tenants/shop/**\" = \"shop\"\n").expect("a good file");
    let parsed = lang::parse(FileId(0), text);
    assert!(parsed.diagnostics.is_empty(), "{:#?}", parsed.diagnostics);
    owners::check(&config.owners, path, &parsed.file)
}

const FOREIGN: &str = "
fabric f { encap vxlan port 4789 underlay mtu 9000 family ipv4 precedence tenant }
node c1 { vtep 192.0.2.11 dev eth0 }
external internet { 0.0.0.0/0 }
service shopping-web = tcp/80
service shop = tcp/80
group g = shop
tenant shop id 1 { segment s vni 1 { 10.1.0.0/24 } }
extend tenant pay { group h = any }
gateway edge { joins shop instances c1 stateful }
endpoint e in pay.s { at 10.1.0.5 on c1 dev tap0 }
policy p in tenant { allow any -> any }
policy q for pay in tenant { allow any -> any }
isolate shop from any
";

#[test]
fn a_file_holds_what_its_folders_owner_may_write() {
    let found = owned("tenants/shop/all.pw", FOREIGN);
    let lines: Vec<usize> =
        found.iter().map(|d| FOREIGN[..d.span.start as usize].matches('\n').count()).collect();
    assert_eq!(lines, (1..=13).collect::<Vec<_>>());
    found.iter().for_each(presentable);
    assert!(found.iter().all(|d| d.code == Code::PW0506));
    assert_eq!(
        found[3].message,
        "`tenants/shop/all.pw` belongs to tenant `shop` and may not hold the service `shopping-web`"
    );
    assert!(owned("platform.pw", FOREIGN).is_empty());
}

#[test]
fn what_an_owner_may_write() {
    let own = "
extend tenant shop { group g = any }
endpoint e in shop.s { at 10.1.0.5 on c1 dev tap0 }
policy p for shop in tenant { allow any -> any }
service shop-web = tcp/80
test \"t\" { never shop -> shop }
";
    assert!(owned("tenants/shop/all.pw", own).is_empty());
}

/// Findings left of a text whose rules 1 and 2 are each said to be shadowed.
fn left(text: &str, levels: &[(Code, Level)], judged: bool) -> Vec<(Code, Severity, String)> {
    let parsed = lang::parse(FileId(0), text);
    assert!(parsed.diagnostics.is_empty(), "{:#?}", parsed.diagnostics);
    let findings = text
        .match_indices("allow s")
        .map(|(at, _)| {
            let at = u32::try_from(at).expect("a small text");
            Diagnostic::new(Code::PW0402, lang::span::Span::new(FileId(0), at, at + 5), "shadowed")
        })
        .collect();
    let mut set = Levels::default();
    for (code, level) in levels {
        set.set(*code, *level).expect("an adjustable code");
    }
    let left = lints::apply(findings, &parsed.file.suppressions, &set, |_| judged);
    left.iter().filter(|d| d.code == Code::PW0902).for_each(presentable);
    left.into_iter().map(|d| (d.code, d.severity, d.message)).collect()
}

const RULES: &str = "policy p for t in tenant {
  // partywall: allow(PW0402) known
  allow s -> s : tcp/1
  allow s -> s : tcp/2
}
";

#[test]
fn a_suppression_takes_the_findings_of_what_follows() {
    assert_eq!(left(RULES, &[], true), [(Code::PW0402, Severity::Warning, "shadowed".into())]);
    let whole =
        format!("// partywall: allow(PW0402) all of it\n{}", RULES.replace("  // partywall", "  // not"));
    assert_eq!(left(&whole, &[], true), []);
}

#[test]
fn a_suppression_of_nothing_is_a_finding_where_its_code_was_looked_for() {
    let other = RULES.replace("PW0402", "PW0403");
    assert_eq!(
        left(&other, &[], true)[2],
        (Code::PW0902, Severity::Warning, "this suppression of PW0403 suppresses nothing".into())
    );
    assert_eq!(left(&other, &[], false).len(), 2);
    let names = RULES.replace("PW0402", "PW0101");
    assert!(left(&names, &[], false)[2].2.starts_with("PW0101 cannot be suppressed: "));
    let end = format!("{RULES}// partywall: allow(PW0402) of nothing\n");
    assert_eq!(left(&end, &[], false)[1].2, "this suppression of PW0402 stands before nothing");
}

#[test]
fn levels_come_after_suppressions() {
    assert_eq!(left(RULES, &[(Code::PW0402, Level::Deny)], true)[0].1, Severity::Error);
    assert_eq!(left(RULES, &[(Code::PW0402, Level::Allow)], true), []);
    let other = RULES.replace("PW0402", "PW0403");
    assert_eq!(left(&other, &[(Code::PW0902, Level::Deny)], true)[2].1, Severity::Error);
}

#[test]
fn errors_can_be_softened_but_not_those_without_which_nothing_means_anything() {
    let error = || Diagnostic::new(Code::PW0401, lang::span::Span::default(), "conflict");
    let mut levels = Levels::default();
    levels.set(Code::PW0401, Level::Warn).expect("an adjustable code");
    let left = lints::apply(vec![error()], &[], &levels, |_| true);
    assert_eq!(left[0].severity, Severity::Warning);
    for code in [Code::PW0001, Code::PW0012, Code::PW0101, Code::PW0106, Code::PW0901] {
        assert!(levels.set(code, Level::Warn).is_err() && levels.set(code, Level::Allow).is_err(), "{code}");
        assert!(levels.set(code, Level::Deny).is_ok(), "{code}");
    }
    assert!(levels.set(Code::PW0011, Level::Allow).is_ok());
}
