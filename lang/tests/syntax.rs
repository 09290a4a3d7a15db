//! What is read, and what is said of what cannot be read.

use partywall_lang::ast::*;
use partywall_lang::codes::Code;
use partywall_lang::diag::{Diagnostic, Severity};
use partywall_lang::source::Sources;
use partywall_lang::span::FileId;
use partywall_lang::{parse, parse_packet, parse_query};

const REFERENCE: &str = include_str!("corpus/reference.pw");

fn errors(text: &str) -> Vec<Diagnostic> {
    parse(FileId(0), text).diagnostics
}

/// The only finding, its code and the words it underlines.
#[track_caller]
fn one(text: &str, code: Code, underlined: &str) -> Diagnostic {
    let mut all = errors(text);
    assert_eq!(all.len(), 1, "{text}: {all:#?}");
    let found = all.remove(0);
    assert_eq!(found.code, code, "{text}: {found:#?}");
    let slice = &text[found.span.start as usize..found.span.end as usize];
    assert_eq!(slice, underlined, "{text}: {found:#?}");
    found
}

#[track_caller]
fn clean(text: &str) -> File {
    let parsed = parse(FileId(0), text);
    assert!(parsed.diagnostics.is_empty(), "{text}: {:#?}", parsed.diagnostics);
    parsed.file
}

/// The set of `group x = …`.
#[track_caller]
#[expect(clippy::panic, reason = "fails the test that calls it")]
fn set(text: &str) -> Set {
    let file = clean(&format!("group x = {text}"));
    match file.items.into_iter().next().map(|item| item.decl) {
        Some(Decl::Group(group)) => group.set,
        other => panic!("{other:?}"),
    }
}

fn kinds(file: &File) -> Vec<&'static str> {
    file.items
        .iter()
        .map(|item| match item.decl {
            Decl::Fabric(_) => "fabric",
            Decl::Node(_) => "node",
            Decl::External(_) => "external",
            Decl::Service(_) => "service",
            Decl::Group(_) => "group",
            Decl::Tenant(_) => "tenant",
            Decl::Extend(_) => "extend",
            Decl::Gateway(_) => "gateway",
            Decl::Endpoint(_) => "endpoint",
            Decl::Policy(_) => "policy",
            Decl::Isolate(_) => "isolate",
            Decl::Test(_) => "test",
            Decl::Error => "error",
        })
        .collect()
}

#[test]
fn the_reference_is_read_whole() {
    let file = clean(REFERENCE);
    let mut expected = vec!["fabric", "node", "node", "external", "external"];
    expected.extend(["service"; 9]);
    expected.extend(["group", "tenant", "extend", "gateway", "endpoint", "policy", "policy", "policy"]);
    expected.extend(["isolate", "isolate", "test"]);
    assert_eq!(kinds(&file), expected);
    let Some(Decl::Policy(policy)) = file.items.get(20).map(|item| &item.decl) else { panic!() };
    assert_eq!(policy.rules.len(), 4);
    let label = policy.rules[0].label.as_ref().unwrap();
    assert_eq!(label.node, "checkout");
    assert_eq!(&REFERENCE[label.span.start as usize..label.span.end as usize], "checkout");
}

#[test]
fn every_literal() {
    let kind = |text: &str| match set(text).kind {
        SetKind::Literal(kind) => kind,
        other => panic!("{other:?}"),
    };
    let ip = |text: &str| text.parse().unwrap();
    assert_eq!(kind("10.1.0.5"), LiteralKind::Address(ip("10.1.0.5")));
    assert_eq!(kind("10.1.0.5/24"), LiteralKind::Prefix(ip("10.1.0.5"), 24));
    assert_eq!(kind("::/0"), LiteralKind::Prefix(ip("::"), 0));
    assert_eq!(kind("fd00:1::/64"), LiteralKind::Prefix(ip("fd00:1::"), 64));
    assert_eq!(kind("1:2:3:4:5:6:7:8"), LiteralKind::Address(ip("1:2:3:4:5:6:7:8")));
    assert_eq!(kind("abcd::"), LiteralKind::Address(ip("abcd::")));
    assert_eq!(kind("10.0.0.1..10.0.0.9"), LiteralKind::Range(ip("10.0.0.1"), ip("10.0.0.9")));
    assert_eq!(kind("fd00::1..fd00::ff"), LiteralKind::Range(ip("fd00::1"), ip("fd00::ff")));
}

#[test]
fn arrows_end_words_and_literals() {
    for text in ["a->b", "a-b->c", "10.0.0.1->b", "10.0.0.0/8->fd00::1", "a .b->c. d"] {
        let file = clean(&format!("policy p in t {{ allow {text} }}"));
        assert_eq!(kinds(&file), ["policy"]);
    }
}

#[test]
fn packets_with_ports_in_both_families() {
    let packet = parse_packet("tcp 10.1.0.5:40000 -> 10.1.1.9:5432").unwrap();
    assert_eq!(packet.src.port.map(|port| port.node), Some(40000));
    assert_eq!(packet.dst.address.node, "10.1.1.9".parse::<std::net::IpAddr>().unwrap());
    let packet = parse_packet("udp [fd00::5]:443->[fd00::6]:53").unwrap();
    assert_eq!(packet.dst.port.map(|port| port.node), Some(53));
    let packet = parse_packet("icmp6/echo-request fd00::5 -> fd00::6").unwrap();
    assert_eq!(packet.src.port, None);
    assert!(matches!(packet.proto.node, ServiceTerm::Icmp { v6: true, kind: Some(IcmpValue::Name(_)), .. }));
    let packet = parse_packet("icmp/3/4 10.0.0.1 -> 10.0.0.2").unwrap();
    assert!(matches!(packet.proto.node, ServiceTerm::Icmp { code: Some(IcmpValue::Number(_)), .. }));
    let errors = parse_packet("tcp 10.1.0.5:40000 > 10.1.1.9:5432").unwrap_err();
    assert_eq!(errors[0].message, "expected `->`, found `>`");
    assert!(parse_packet("").is_err());
    assert!(parse_packet("tcp 10.1.0.5:1 -> 10.1.0.6:2 x").is_err());
}

#[test]
fn queries() {
    let query = parse_query("shop.front | 10.0.0.0/8 -> any : tcp/443 | dns").unwrap();
    assert!(matches!(query.src.kind, SetKind::Union(..)));
    assert_eq!(query.service.unwrap().terms.len(), 2);
    assert!(parse_query("a -> b").unwrap().service.is_none());
    assert!(parse_query("a").is_err());
    assert!(parse_query("group x = a").is_err());
}

#[test]
fn precedence_of_set_operators() {
    // `&` binds tighter, the others go from the left.
    let SetKind::Except(left, _) = set("a | b & c except d").kind else { panic!() };
    let SetKind::Union(_, right) = left.kind else { panic!() };
    assert!(matches!(right.kind, SetKind::Intersect(..)));
    let SetKind::Union(left, _) = set("a except b | c").kind else { panic!() };
    assert!(matches!(left.kind, SetKind::Except(..)));
    // `,` is another `|` at the top of some sets, and nowhere else.
    clean("isolate a from b, c except d transitively");
    assert_eq!(errors("group x = a, b")[0].code, Code::PW0001);
    assert_eq!(errors("isolate a, b from c")[0].code, Code::PW0001);
}

#[test]
fn a_list_of_a_hundred_thousand_is_a_shallow_tree() {
    let text = vec!["10.0.0.1"; 100_000].join(" | ");
    fn depth(set: &Set) -> u32 {
        match &set.kind {
            SetKind::Union(left, right) => 1 + depth(left).max(depth(right)),
            _ => 1,
        }
    }
    assert_eq!(depth(&set(&text)), 18);
}

#[test]
fn reserved_words() {
    let found = one("service log = tcp", Code::PW0001, "log");
    assert_eq!(found.help.unwrap(), "`log` is a reserved word; as a name it is written `` `log` ``");
    clean("service `log` = tcp policy `any` in t { `deny`: allow `any` -> b : `log` }");
    // Any word is a tier's name.
    clean(
        "fabric f { encap vxlan port 1 underlay mtu 9 family ipv6 precedence group > tenant > any > x delegate gateway, in }
         policy p in group { } policy q in in { } policy r for t in gateway overrides p { }",
    );
}

#[test]
fn labels_need_a_rule_behind_them() {
    let file = clean("policy p in t { a: allow b -> c : d e : deny b -> c }");
    let Some(Decl::Policy(policy)) = file.items.first().map(|item| &item.decl) else { panic!() };
    let labels: Vec<_> =
        policy.rules.iter().filter_map(|rule| rule.label.as_ref()).map(|l| l.node.as_str()).collect();
    assert_eq!(labels, ["a", "e"]);
    assert_eq!(policy.rules[0].service.as_ref().unwrap().terms.len(), 1);
}

#[test]
fn exposures_of_both_forms() {
    let file = clean(
        "tenant t id 1 {
           expose s : tcp/1 to a, b via g as 10.0.0.0/8 clients as 11.0.0.1
           l: expose s : tcp via g { }
           expose s : tcp from 1..2 via g as 10.0.0.1, fd00::/8 { to a, b clients as 1.2.3.4 /// doc
             to c }
           route 10.0.0.0/8 to a.b
           route 10.0.0.0/8 to a.b direct \"why\"
           route ::1 via g
         }",
    );
    let Some(Decl::Tenant(tenant)) = file.items.first().map(|item| &item.decl) else { panic!() };
    let exposes: Vec<_> = tenant
        .members
        .iter()
        .filter_map(|member| match &member.kind {
            MemberKind::Expose(expose) => Some((expose.braced, expose.rows.len())),
            _ => None,
        })
        .collect();
    assert_eq!(exposes, [(false, 1), (true, 0), (true, 2)]);
    let MemberKind::Expose(last) = &tenant.members[2].kind else { panic!() };
    assert_eq!(last.rows[1].docs, ["doc"]);
}

#[test]
fn bad_tokens_are_reported_once() {
    for (text, underlined) in [
        ("service x = tcp/443x", "443x"),
        ("service x = tcp/0443", "0443"),
        ("service x = tcp/4__3", "4__3"),
        ("service x = tcp/43_", "43_"),
        ("service x = tcp/44.", "44."),
        ("service x = tcp/44-55", "44-55"),
        ("group x = 10.1.0", "10.1.0"),
        ("group x = 10.1.0/24", "10.1.0/24"),
        ("group x = 10.1.0.5.6", "10.1.0.5.6"),
        ("group x = 10.1.0.0/24x", "10.1.0.0/24x"),
        ("group x = 10.1.0.05", "10.1.0.05"),
        ("group x = 10.1.0.0/08", "10.1.0.0/08"),
        ("group x = ::ffff:10.1.0.5", "::ffff:10.1.0.5"),
        ("group x = 1:2:3", "1:2:3"),
        ("group x = 1::2::3", "1::2::3"),
        ("group x = 12345::", "12345::"),
        ("group x = a--b", "a--b"),
        ("group x = größe", "größe"),
        ("group x = a @@@ ", "@@@"),
        ("group x = `a b`", "`a b`"),
        ("group x = ``", "``"),
        ("endpoint e in a.b { at 1.1.1.1 mac 02:00:00:00:00 }", "02:00:00:00:00"),
        ("endpoint e in a.b { at 1.1.1.1 mac 02:00:00:00:00:1 }", "02:00:00:00:00:1"),
        ("policy p in t { allow a -> b expires 2026-1-1 }", "2026-1-1"),
    ] {
        one(text, Code::PW0002, underlined);
    }
}

#[test]
fn values_out_of_range() {
    for (text, underlined) in [
        ("group x = 10.1.0.256", "10.1.0.256"),
        ("group x = 10.1.0.0/33", "10.1.0.0/33"),
        ("group x = fd00::/129", "fd00::/129"),
        ("service x = tcp/99999999999999999999", "99999999999999999999"),
        ("policy p in t { allow a -> b expires 2026-02-29 }", "2026-02-29"),
        ("policy p in t { allow a -> b expires 2026-13-01 }", "2026-13-01"),
        ("group x = 10.0.0.9..10.0.0.1", "10.0.0.9..10.0.0.1"),
        ("group x = 10.0.0.9..fd00::1", "10.0.0.9..fd00::1"),
        ("node n { vtep 1.1.1.1 dev \"a b\" }", "\"a b\""),
        ("node n { vtep 1.1.1.1 dev \"abcdefghijklmnop\" }", "\"abcdefghijklmnop\""),
        ("node n { vtep 1.1.1.1 dev \"\" }", "\"\""),
    ] {
        one(text, Code::PW0006, underlined);
    }
    let long = "a".repeat(64);
    one(&format!("group {long} = a"), Code::PW0006, &long);
    clean(&format!("group {} = a", "a".repeat(63)));
    clean("policy p in t { allow a -> b expires 2028-02-29 }");
}

#[test]
fn strings() {
    let file = clean(r#"test "a \"b\" \\ \n // no comment" { }"#);
    let Some(Decl::Test(test)) = file.items.first().map(|item| &item.decl) else { panic!() };
    assert_eq!(test.name.node, "a \"b\" \\ \n // no comment");
    one("test \"abc", Code::PW0003, "\"");
    one("test \"abc\\", Code::PW0003, "\"");
    one("test \"abc\\\"", Code::PW0003, "\"");
    one("test \"a\\tb\" { }", Code::PW0003, "\\t");
    one("test \"a\\é\" { }", Code::PW0003, "\\é");
}

#[test]
fn missing_and_repeated_clauses() {
    let codes = |text: &str| errors(text).iter().map(|d| d.code).collect::<Vec<_>>();
    assert_eq!(codes("fabric f { }"), [Code::PW0004; 3]);
    assert_eq!(codes("gateway g { }"), [Code::PW0004; 3]);
    assert_eq!(codes("tenant t { }"), [Code::PW0004]);
    assert_eq!(codes("policy p { }"), [Code::PW0004]);
    assert_eq!(codes("tenant t id 1 { segment s { 10.0.0.0/8 } }"), [Code::PW0004]);
    assert_eq!(codes("tenant t id 1 { expose a : b }"), [Code::PW0004; 2]);
    // A clause that could not be read may have been the missing one.
    assert_eq!(codes("gateway g { joined a }"), [Code::PW0001]);
    one("node n { vtep 1.1.1.1 vtep 1.1.1.2 dev e }", Code::PW0005, "vtep 1.1.1.2");
    one("policy p in t { deny a -> b log log }", Code::PW0005, "log");
    one("policy p in t in u { }", Code::PW0005, "in u");
    one("gateway g { joins a instances b stateful stateless }", Code::PW0005, "stateless");
    one("endpoint e in a.b { at 1.1.1.1 at 1.1.1.2 }", Code::PW0005, "at 1.1.1.2");
    one("policy p in t { deny a -> b via g }", Code::PW0009, "via g");
    one("extend tenant t { segment s vni 1 { 10.0.0.0/8 } }", Code::PW0009, "s");
    one("tenant t id 1 { expose a : b via g to c { to d } }", Code::PW0009, "to c");
}

#[test]
fn one_file_shows_all_its_errors() {
    let text = include_str!("corpus/broken.pw");
    let mut sources = Sources::new();
    let file = sources.add("broken.pw", text);
    let parsed = parse(file, text);
    let found = partywall_lang::render::concise(&sources, &parsed.diagnostics);
    insta::assert_snapshot!(found);
    // Everything that is right is there.
    let names: Vec<_> = kinds(&parsed.file);
    insta::assert_snapshot!(names.join(" "));
}

#[test]
fn a_block_that_is_not_closed_costs_nothing_else() {
    let text =
        "policy p in t {\n  allow a -> b\npolicy q in t { allow a -> b }\ntenant t id 1 { group x = y }\n";
    let found = one(text, Code::PW0001, "{");
    assert_eq!(found.message, "this `{` is never closed");
    let parsed = parse(FileId(0), text);
    assert_eq!(kinds(&parsed.file), ["policy", "policy", "tenant"]);
    one("test \"x\" { always a -> b", Code::PW0001, "{");
    one("service x = tcp/{80, 443\nservice y = tcp\n", Code::PW0001, "{");
    one("group a = b\n}\ngroup c = d", Code::PW0001, "}");
}

#[test]
fn a_misspelt_keyword_is_read_as_what_it_was_meant_to_be() {
    let found = one("polcy p in t {\n  allow a -> b\n}", Code::PW0001, "polcy");
    assert_eq!(found.help.as_deref(), Some("did you mean `policy`?"));
    one("policy p in t {\n  alow a -> b\n  deny b -> c\n}", Code::PW0001, "alow");
    let text = "tenant t id 1 {\n  segmnt s vni 1 { 10.0.0.0/8 }\n  rout 10.0.0.0/8 via g\n}";
    let found = errors(text);
    assert_eq!(found.len(), 2, "{found:#?}");
    assert_eq!(found[0].help.as_deref(), Some("did you mean `segment`?"));
    assert_eq!(found[1].help.as_deref(), Some("did you mean `route`?"));
}

#[test]
fn names_survive_the_errors_after_them() {
    for (text, kind) in [
        ("service x = tcp/{80,\nservice y = tcp", "service"),
        ("service x = , group y = z", "service"),
        ("group x = a b c group y = z", "group"),
        ("tenant x idd 7 { group y = z }", "tenant"),
        ("tenant x id { group y = z }", "tenant"),
        ("policy x fro y in t { allow a -> b }", "policy"),
        ("policy x of y { allow a -> b }", "policy"),
        ("gateway x = { joins a instances b stateful }", "gateway"),
    ] {
        let parsed = parse(FileId(0), text);
        assert_eq!(parsed.diagnostics.len(), 1, "{text}: {:#?}", parsed.diagnostics);
        assert_eq!(kinds(&parsed.file)[0], kind, "{text}");
    }
    let parsed = parse(
        FileId(0),
        "tenant t id 1 { segment a vny 1 { 10.0.0.0/8 } segment b vni 2 ( group c = , group d = e }",
    );
    assert_eq!(parsed.diagnostics.len(), 3, "{:#?}", parsed.diagnostics);
    let Decl::Tenant(tenant) = &parsed.file.items[0].decl else { panic!() };
    let named: Vec<_> = tenant
        .members
        .iter()
        .map(|member| match &member.kind {
            MemberKind::Segment(segment) => (segment.name.node.as_str(), segment.prefixes.len()),
            MemberKind::Group(group) => (group.name.node.as_str(), 0),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(named, [("a", 1), ("b", 0), ("c", 0), ("d", 0)]);
}

#[test]
fn docs_attach_to_what_follows() {
    let file = clean("/// one\n///two\ngroup a = b\npolicy p in t {\n /// rule\n allow a -> b\n}\n");
    assert_eq!(file.items[0].docs, ["one", "two"]);
    let Decl::Policy(policy) = &file.items[1].decl else { panic!() };
    assert_eq!(policy.rules[0].docs, ["rule"]);
    let found = one("group a = b\n/// nothing follows\n", Code::PW0011, "/// nothing follows");
    assert_eq!(found.severity, Severity::Warning);
    one("policy p in t { allow a /// inside\n -> b }", Code::PW0011, "/// inside");
    one("policy p in t {\n /// before the brace\n }", Code::PW0011, "/// before the brace");
    // Four slashes are an ordinary comment.
    clean("group a = b //// no doc\n");
}

#[test]
fn suppressions_know_what_they_govern() {
    let text = "// partywall: allow(PW0407) used by scripts\ngroup a = b\npolicy p in t {\n  // partywall: allow(PW0402) kept for audits\n  x: allow a -> b // partywall: allow(PW0403) trailing\n  deny a -> c\n}\n// partywall: allow(PW0405) nothing follows\n";
    let file = clean(text);
    let governed: Vec<_> = file
        .suppressions
        .iter()
        .map(|s| {
            (
                s.code.node.as_str(),
                s.target.map(|t| &text[t.start as usize..t.end as usize]),
                s.reason.as_str(),
            )
        })
        .collect();
    assert_eq!(
        governed,
        [
            ("PW0407", Some("group a = b"), "used by scripts"),
            ("PW0402", Some("x: allow a -> b"), "kept for audits"),
            ("PW0403", Some("deny a -> c"), "trailing"),
            ("PW0405", None, "nothing follows"),
        ]
    );
    let code = file.suppressions[0].code.span;
    assert_eq!(&text[code.start as usize..code.end as usize], "PW0407");
    for text in [
        "// partywall: allow(PW0402)\n",
        "// partywall: allow PW0402 reason\n",
        "// partywall: allow(PW0402 reason\n",
        "// partywall: allow(PW9999) reason\n",
        "// partywall: deny(PW0402) reason\n",
    ] {
        one(text, Code::PW0012, text.trim_end());
    }
    // Text that merely mentions it is no suppression.
    assert!(clean("// see partywall: allow(x)\n").suppressions.is_empty());
}

#[test]
fn suggestions() {
    let known = ["front", "data", "cache"];
    assert_eq!(partywall_lang::suggest("fornt", known), Some("front"));
    assert_eq!(partywall_lang::suggest("dta", known), Some("data"));
    assert_eq!(partywall_lang::suggest("zebra", known), None);
    assert_eq!(partywall_lang::suggest("front", known), None);
    assert_eq!(partywall_lang::suggest("a", ["b"]), None);
}

#[test]
fn what_to_do_about_it() {
    for (text, help) in [
        ("service x = tcp/80,443", "several ports stand in braces: `tcp/{80, 443}`"),
        ("service x = tcp 443", "a port stands after its protocol: `tcp/443`"),
        ("service x = tcp:443", "a port stands after `/`: `tcp/443`"),
        ("service x = 443", "a port stands after its protocol: `tcp/443`"),
        ("policy p in t { allow a, b -> c }", "a union is written `a | b`"),
        ("policy p in t { allow a => b }", "an arrow is written `->`"),
        ("policy p in t { allow a - b }", "an arrow is written `->`"),
        ("policy p in t { allow a \u{2192} b }", "an arrow is written `->`"),
        ("policy p in t { allow a -> b; }", "clauses and rules need no separator"),
        ("policy p in t { allow !a -> b }", "to leave something out, write `… except …`"),
        ("policy p in t { allow a -> b because why }", "put the text in quotes"),
        ("policy p in t { allow a -> b via \"g\" }", "a name stands without quotes"),
        (
            "policy p in t { allow a -> b expires 31.12.2026 }",
            "a date is written `2026-12-31`, a range with `..`",
        ),
        ("gateway g { joins a stateful instances a b }", "put `,` between the names of a list"),
        ("endpoint e in a.b { at 1.1.1.1 mac 02-00-00-00-00-01 }", "a MAC is written `02:00:00:00:00:01`"),
        ("external e = { 10.0.0.0/8 }", "a block follows here, without `=`"),
    ] {
        let found = errors(text);
        assert_eq!(found.len(), 1, "{text}: {found:#?}");
        assert_eq!(found[0].help.as_deref(), Some(help), "{text}");
    }
}

#[test]
fn lists_that_are_not_closed() {
    let text = "tenant t id 1 {
  segment a vni 1 { 10.0.0.0/24
  segment b vni 2 { 10.0.1.0/24 }
  x: expose a : tcp/{1, 2 via g {
    to b
  group c = a
}
policy p in t { allow a -> b }
";
    let found = errors(text);
    let places: Vec<_> = found.iter().map(|d| (d.message.as_str(), d.span.start)).collect();
    let brace = |word: &str| (text.find(word).unwrap() + word.len() - 1) as u32;
    let never = "this `{` is never closed";
    assert_eq!(places, [(never, brace("vni 1 {")), (never, brace("tcp/{")), (never, brace("via g {"))]);
    assert_eq!(kinds(&parse(FileId(0), text).file), ["tenant", "policy"]);
}

#[test]
fn messages_in_the_users_words() {
    for (text, message) in [
        ("policy p in t { allow a -> }", "expected a set, found `}`"),
        ("policy p in t { allow a b }", "expected `->`, found `b`"),
        ("policy p in t { allow a -> b : }", "expected a service, found `}`"),
        ("policy p in t { allow a -> b : -> }", "expected a service, found `->`"),
        ("policy p in t { allow a -> b expires soon }", "expected a date, found `soon`"),
        ("service = tcp", "expected a name, found `=`"),
        ("service x tcp", "expected `=`, found `tcp`"),
        ("x", "expected a declaration, found `x`"),
        ("group x = (a", "the text ends here, expected `)`"),
        ("test x { }", "expected a string, found `x`"),
        ("tenant t id x { }", "expected a number, found `x`"),
        ("test \"a\" { packet in t x }", "expected a protocol, found `x`"),
        ("external e { x }", "expected a prefix or address, found `x`"),
    ] {
        let found = errors(text);
        assert_eq!(found.len(), 1, "{text}: {found:#?}");
        assert_eq!(found[0].message, message, "{text}");
    }
}
