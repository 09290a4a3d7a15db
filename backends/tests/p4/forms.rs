//! What the p4 target refuses, in words; what it emits, in form; and that reading back refuses what was changed.

use super::common::{Project, examples, folder, text};
use compiler::ids::NodeId;
use partywall_backends::Backend as _;
use partywall_backends::p4::entries::fits;
use partywall_backends::p4::program::parse;
use partywall_backends::p4::{P4, PROGRAM, bmv2, protobuf, read};
use std::collections::BTreeMap;

const BASE: &str = r#"
fabric f { encap vxlan port 4790 underlay mtu 9000 family ipv4 precedence tenant delegate tenant unknown-vni drop stateless-replies "a test" }
node c1 { vtep 192.0.2.11 dev eth0 }
node c2 { vtep 192.0.2.12 dev eth0 }
node g1 { vtep 192.0.2.21 dev eth0 gateway }
tenant a id 7 { segment s vni 10 { 10.0.0.0/24 } }
tenant b id 8 { segment s vni 20 { 10.0.0.0/24 } expose s : tcp/80 to a via g as 100.64.0.0/24 clients as 100.65.0.0/24 }
gateway g { joins a, b instances g1 stateless }
endpoint a5 in a.s { at 10.0.0.5 mac 02:00:00:00:00:05 on c1 dev tap0 }
endpoint a6 in a.s { at 10.0.0.6 mac 02:00:00:00:00:06 on c2 dev tap0 }
endpoint b5 in b.s { at 10.0.0.5 mac 02:00:00:00:01:05 on c1 dev tap2 }
policy pa for a in tenant { web: allow a -> b : tcp/80  own: allow a -> a : tcp/443 }
"#;

fn id(project: &Project, name: &str) -> NodeId {
    project.compiled.model.nodes.iter().find(|(_, n)| n.name == name).unwrap().0
}

/// The findings of a node, as `CODE message`.
fn refused(source: &str, node: &str) -> Vec<String> {
    let project = text(source);
    match P4.lower(&project.compiled, &project.sources, id(&project, node), &[]) {
        Ok(_) => Vec::new(),
        Err(found) => found.iter().map(|d| format!("{} {}", d.code.as_str(), d.message)).collect(),
    }
}

fn files(source: &str, node: &str) -> BTreeMap<String, String> {
    let project = text(source);
    let model = P4.lower(&project.compiled, &project.sources, id(&project, node), &[]).unwrap();
    P4.print(&model).into_iter().map(|f| (f.path, String::from_utf8(f.bytes).unwrap())).collect()
}

#[test]
fn replies_that_nobody_asked_for_are_refused_or_listed() {
    let without = BASE.replace(" stateless-replies \"a test\"", "").replace(" stateless }", " stateful }");
    let found = refused(&without, "c1");
    assert_eq!(
        found,
        [
            "PW0801 the p4 target would admit replies to `pa.own` that no connection asked for",
            "PW0801 the p4 target would admit replies to `pa.web` that no connection asked for",
        ]
    );
    let listed = &files(BASE, "c1")["p4/entries.txtpb"];
    let line = "# admits pa.web in a: 100.64.0.5 -> 10.0.0.5 : tcp from 80 to 0..65535, with ACK or RST\n";
    assert!(listed.contains(line), "{listed}");
    // What may open connections both ways admits nothing beyond the policy.
    let both = without.replace("tcp/443 }", "tcp }").replace("web: allow a -> b : tcp/80", "");
    assert!(refused(&both, "c2").is_empty());
}

#[test]
fn a_stateless_gateway_is_refused_where_the_fabric_is_silent() {
    let unsaid = BASE.replace(" stateless-replies \"a test\"", "");
    assert!(refused(&unsaid, "g1")[0].contains("gateway `g` is stateless, and the fabric does not accept"));
    // Elsewhere its tenants are no matter of what it admits.
    assert!(refused(&BASE.replace(" stateless }", " stateful }"), "c1").is_empty());
}

#[test]
fn a_project_that_does_not_speak_of_stateless_switches_is_refused() {
    let project = folder(&examples().join("01-quickstart"));
    for (id, node) in project.compiled.model.nodes.iter() {
        let found = P4.lower(&project.compiled, &project.sources, id, &[]).unwrap_err();
        assert!(found.iter().all(|d| d.code.as_str() == "PW0801"), "{}: {found:?}", node.name);
    }
}

#[test]
fn files_begin_with_the_generation_and_refusals_come_first() {
    let files = files(BASE, "c1");
    assert_eq!(
        files.keys().collect::<Vec<_>>(),
        ["p4/bmv2.txt", "p4/entries.txtpb", "p4/partywall.p4", "p4/partywall.p4info.txtpb"]
    );
    for (path, text) in &files {
        let first = text.lines().next().unwrap();
        assert!(first.trim_start_matches(['#', '/', ' ']).starts_with("generation "), "{path}: {first}");
    }
    assert!(files["p4/partywall.p4"].contains("const bit<16> VXLAN_PORT = 4790;"));
    let entries = &files["p4/entries.txtpb"];
    let (first, rest) = entries.split_once("# batch 2 of 3: the rest").unwrap();
    let (others, last) = rest.split_once("# batch 3 of 3: the generation").unwrap();
    let program = parse(PROGRAM).unwrap();
    let deny = program.action("deny").unwrap().1.id;
    let permit = program.action("permit").unwrap().1.id;
    let of = |text: &str, id: u32| text.matches(&format!("action_id: {id} ")).count();
    assert!(of(first, deny) > 0 && of(first, permit) == 0);
    assert!(of(others, deny) == 0 && of(others, permit) > 0);
    assert!(last.contains("type: MODIFY") && last.contains("is_default_action: true"));
    // A rule's place stands above its entries.
    assert!(entries.contains("# pa.web main.pw:12, b.expose#1#1 main.pw:7\n"), "{entries}");
}

#[test]
fn an_entry_that_was_changed_is_refused() {
    let files = files(BASE, "c1");
    let (program, entries) = (&files["p4/partywall.p4"], &files["p4/entries.txtpb"]);
    let running = read(program, entries).unwrap();
    assert!(running.entries.iter().all(|(entry, _)| fits(&running.program, &entry).is_ok()));
    let damaged = [
        ("type: INSERT", "type: DELETE", "updates are INSERT or MODIFY"),
        ("field_id: 1 exact", "field_id: 9 exact", "is not matched"),
        ("value: \"\\", "value: \"\\000\\", "not the shortest"),
        ("prefix_len: 32", "prefix_len: 31", "host bits"),
        ("action_id: 16777218 ", "action_id: 16777219 ", "no entries with action"),
        ("is_default_action: true", "is_default_action: false", "only the generation is modified"),
        ("table_entry", "counter_entry", "there is no `table_entry`"),
    ];
    for (from, to, why) in damaged {
        let changed = entries.replacen(from, to, 1);
        assert_ne!(changed, *entries, "{from}");
        let error = protobuf(&running.program, &changed).unwrap_err();
        assert!(error.message.contains(why), "{from}: {error}");
    }
    let lost = entries.split("# batch 3").next().unwrap();
    assert!(protobuf(&running.program, lost).unwrap_err().message.contains("no update puts a generation"));
    let commands = files["p4/bmv2.txt"].replacen("table_add", "table_delete", 1);
    assert!(bmv2(&running.program, &commands).is_err());
}

#[test]
fn a_program_beyond_what_is_understood_is_refused() {
    let damaged = [
        ("if (hdr.ipv4.ttl < 2)", "if (hdr.ipv4.ttl <= 2)"),
        ("mark_to_drop(standard_metadata);", "resubmit(standard_metadata);"),
        ("meta.space: exact;", "meta.space: ternary;"),
        ("hdr.ipv4.ttl = hdr.ipv4.ttl - 1;", "hdr.ipv4.ttl = hdr.ipv4.ttl - 16w1;"),
        ("const default_action = refuse(NO_ROUTE);", ""),
        ("transition accept;", "transition elsewhere;"),
        ("#include <v1model.p4>", "#include <psa.p4>"),
        ("packet.emit(hdr.icmp);", "packet.emit(hdr.icmp6);"),
        (") main;", ") other;"),
        // Back to where it came from.
        ("transition accept;", "transition start;"),
    ];
    for (from, to) in damaged {
        let changed = PROGRAM.replacen(from, to, 1);
        assert_ne!(changed, PROGRAM, "{from}");
        assert!(parse(&changed).is_err(), "{from} -> {to}");
    }
    // What is nested, or goes on, without an end.
    let (head, tail) = PROGRAM.split_once("        generation.apply();").unwrap();
    for (statement, why) in [
        (format!("meta.reason = {}1{};", "(".repeat(90_000), ")".repeat(90_000)), "too long an expression"),
        (format!("meta.reason = {}meta.reason;", "~".repeat(90_000)), "too long an expression"),
        (format!("meta.reason = {}1;", "meta.reason + ".repeat(90_000)), "too long an expression"),
        (format!("if ({}hdr.arp.isValid()) {{ }}", "!".repeat(90_000)), "too long an expression"),
        ("if (meta.reason == 1) { ".repeat(90_000), "nested too deeply"),
        (
            format!("if (meta.reason == 1) {{ }} {}", "else if (meta.reason == 1) { } ".repeat(90_000)),
            "nested too deeply",
        ),
    ] {
        let refused = parse(&format!("{head}{statement}\n        generation.apply();{tail}")).unwrap_err();
        assert_eq!(refused.message, why);
    }
    // Every prefix of the text ends without `main`.
    for at in (0..PROGRAM.len()).step_by(997) {
        assert!(parse(&PROGRAM[..at]).is_err());
    }
}

#[test]
fn a_table_that_is_too_small_is_told_with_those_who_need_most() {
    let mut source = BASE.to_owned();
    for n in 0..520 {
        let (high, low) = (n / 200, 10 + n % 200);
        source += &format!(
            "endpoint x{n} in big.s {{ at 10.1.{high}.{low} mac 02:00:00:01:{high:02x}:{low:02x} on c2 dev t{n} }}\n"
        );
    }
    source += "tenant big id 9 { segment s vni 30 { 10.1.0.0/22 } }\n";
    let project = text(&source);
    let found = P4.lower(&project.compiled, &project.sources, id(&project, "c2"), &[]).unwrap_err();
    assert_eq!(found[0].message, "node `c2` needs 522 ports, and a switch has 511");
    let first = &found[1];
    assert_eq!(first.code.as_str(), "PW0803");
    assert_eq!(first.message, "node `c2` needs 1042 entries in table `workload_port`, and there are 1024");
    let shown = format!("{first:?}");
    assert!(shown.contains("most is needed by `big` 1040, `a` 2"), "{shown}");
}

#[test]
fn every_reason_that_entries_name_is_one_of_the_program() {
    let program = parse(PROGRAM).unwrap();
    for reason in ["BAD_VTEP", "UNKNOWN_SOURCE", "NO_ROUTE", "NOT_EXPOSED", "TO_HOST"] {
        assert!(program.constant(reason).is_some_and(|value| value > 0), "{reason}");
    }
}
