//! The tables of what targets can express: each row that says PW0801 is held by a project that is refused, and by the same project
//! with something in its place that is not; and the manuals have the tables.

#![expect(clippy::unwrap_used, reason = "a test that fails says where")]

#[expect(dead_code, reason = "each test uses a part")]
mod common;

use common::{Project, text};
use lang::codes::Code;
use lang::diag::Diagnostic;
use partywall_backends::capability::{EBPF, NFT, P4, markdown};
use partywall_backends::ebpf::Ebpf;
use partywall_backends::nft::Nft;
use partywall_backends::{Backend as _, Capability, Level, p4};
use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::Path;

const BASE: &str = r#"
fabric f { encap vxlan port 4789 underlay mtu 1500 family ipv4 precedence tenant delegate tenant stateless-replies "a test" }
node c1 { vtep 192.0.2.11 dev eth0 }
node g1 { vtep 192.0.2.21 dev eth0 gateway }
node g2 { vtep 192.0.2.22 dev eth0 gateway }
tenant a id 1 { segment s vni 1 { 10.1.0.0/24 } }
tenant b id 2 { segment s vni 2 { 10.1.0.0/24 }
  expose s : tcp/443 to a via g as 100.64.0.0/24 clients as 100.65.0.0/24 }
gateway g { joins a, b instances g1, g2 affinity symmetric stateful }
endpoint x in a.s { at 10.1.0.5 mac 02:00:00:00:00:05 on c1 dev tap0 }
endpoint z in a.s { at 10.1.0.6 mac 02:00:00:00:00:06 on c1 dev tap1 }
endpoint y in b.s { at 10.1.0.5 mac 02:00:00:00:01:05 on c1 dev tap2 }
policy p for a in tenant { allow a -> b.y }
"#;

/// A project in which a row matters.
struct Case {
    /// The row's construct.
    row: &'static str,
    /// The node that is refused.
    node: &'static str,
    source: String,
    /// The finding's message, after `the … target`.
    says: &'static str,
    /// The words that it stands at.
    at: &'static str,
    /// What can be expressed in its place.
    mended: String,
}

/// `BASE` with an external behind the gateway, and more words in the gateway and in tenant `b`.
fn with_net(gateway: &str, expose: &str) -> String {
    let attach = |node: &str| format!("attach net on {node} dev x0 next-hop 198.18.0.1");
    let source = BASE
        .replace(
            "tenant a id 1 {",
            "external net { 198.18.0.0/24 }\ntenant a id 1 { route 198.18.0.0/24 via g",
        )
        .replace("joins a, b", &format!("joins a, b, net {} {} {gateway}", attach("g1"), attach("g2")));
    source.replace("  expose s", &format!("  {expose}\n  expose s"))
}

/// With an instance less.
fn on_one(source: &str) -> String {
    source.replace("g1, g2", "g1").replace("attach net on g2 dev x0 next-hop 198.18.0.1", "")
}

fn stateless(source: &str) -> String {
    source.replace("stateful }", "stateless }")
}

/// As many gateways, of an instance each, as numbers below.
fn many(gateways: usize) -> String {
    let mut out = BASE.to_owned();
    for n in 0..gateways {
        let _ = write!(
            out,
            "node n{n} {{ vtep 192.0.2.{} dev eth0 gateway }}\ngateway m{n} {{ joins a instances n{n} stateful }}\n",
            100 + n
        );
    }
    let rules: String = (0..gateways).map(|n| format!("allow a -> a : tcp/{} via m{n} ", 1000 + n)).collect();
    out.replace("policy p for a in tenant {", &format!("policy p for a in tenant {{ {rules}"))
}

const TO_NET: &str = "expose s : tcp/22 to net via g as 100.66.0.0/24 clients as 100.67.0.0/24";

fn cases(target: &str) -> Vec<Case> {
    let case =
        |row, (node, says, at), source: String, mended: String| Case { row, node, source, says, at, mended };
    let geneve = BASE.replace("vxlan port 4789", "geneve port 6081");
    let source_affinity = stateless(&BASE.replace("symmetric", "source"));
    let shared = [case("`encap geneve`", ("c1", "cannot emit Geneve", ""), geneve, BASE.to_owned())];
    let (net, masked) = (with_net("", ""), "masquerade a to net as 198.51.100.1, 198.51.100.2");
    let both = BASE.replace(
        "10.1.0.0/24 } }\n",
        "10.1.0.0/24 }\n  expose s : tcp/22 to b via g as 100.64.0.0/24 clients as 100.66.0.0/24 }\n",
    );
    let device = "device names with other bytes than letters, digits, `_`, `.`, `-`, `@`, `+`, or like `pwv10010`, or `pwvx`";
    let linux = [
        case(
            "`clients as` for an external on several instances",
            ("c1", "cannot translate the external `net` on several instances", "100.67.0.0/24"),
            with_net("", TO_NET),
            on_one(&with_net("", TO_NET)),
        ),
        case(
            "two tenants with equal addresses, each presented to the other under one prefix through one node",
            ("g1", "cannot tell the packets of `a` and `b` to each other apart", "100.64.0.0/24"),
            both.clone(),
            both.replace("to b via g as 100.64.0.0/24", "to b via g as 100.69.0.0/24"),
        ),
        case(
            "workloads of one node that reach more than 16 gateway nodes",
            ("c1", "can tell 16 apart", "c1"),
            many(15),
            many(14),
        ),
        case(
            device,
            ("c1", "cannot name the device `tap\"0`", "\"tap\\\"0\""),
            BASE.replace("dev tap0", "dev \"tap\\\"0\""),
            BASE.to_owned(),
        ),
        case(
            device,
            ("c1", "cannot name the device `pwvx`", "pwvx"),
            BASE.replace("dev tap0", "dev pwvx"),
            BASE.replace("dev tap0", "dev pwvy"),
        ),
        case(
            device,
            ("c1", "cannot name the device `pwv7`", "pwv7"),
            BASE.replace("dev tap0", "dev pwv7"),
            BASE.replace("dev tap0", "dev pwv"),
        ),
        case(
            "`affinity flow` with `masquerade`, on several instances",
            ("g1", "gateway `g` masquerades and picks instances by ports", "flow"),
            with_net(masked, "").replace("symmetric", "flow"),
            net.replace("symmetric", "flow"),
        ),
        case(
            "`clients as` for an external through a stateless gateway",
            ("g1", "cannot translate the external `net` through the stateless gateway `g`", "100.67.0.0/24"),
            stateless(&on_one(&with_net("", TO_NET))),
            on_one(&with_net("", TO_NET)),
        ),
        case(
            "through a stateless gateway, packets that may open a connection and may answer one, translated in two ways",
            ("g1", "from other connections", ""),
            across("100.66.0.0/24"),
            across("100.65.0.0/24"),
        ),
        case(
            "one tenant's packets to another through a stateful and a stateless gateway on one node, by one destination",
            ("g1", "which packets of `a` to `a` pass a stateful gateway and which a stateless one", ""),
            insertion("g1"),
            insertion("g2"),
        ),
    ];
    let affinity = "`affinity flow`, `affinity source` with several instances";
    let emits = ("c1", "cannot emit the affinity of gateway `g`", "");
    let steered = "there: allow x -> z : tcp via g  back: allow a -> a : tcp";
    let p4 = [
        case(
            "two ways for packets that may open a connection and may answer one",
            ("c1", "cannot tell which way replies to `p.back` go", ""),
            BASE.replace("allow a -> b.y", steered),
            BASE.replace("allow a -> b.y", &steered.replace(" via g", "")),
        ),
        case(
            "endpoints without `mac`",
            ("c1", "cannot deliver to endpoint `a.x`, whose MAC is not known", ""),
            BASE.replace(" mac 02:00:00:00:00:05", ""),
            BASE.to_owned(),
        ),
        case(
            "`clients as` for an external",
            ("c1", "cannot translate the external `net`", "100.67.0.0/24"),
            with_net("", TO_NET),
            with_net("", &TO_NET.replace(" clients as 100.67.0.0/24", "")),
        ),
        case(
            "`attach`, `masquerade` on a gateway node of this target",
            ("g1", "cannot attach the external `net` to gateway `g`", ""),
            stateless(&net),
            stateless(BASE),
        ),
        case(affinity, emits, BASE.replace("symmetric", "flow"), on_one(&BASE.replace("symmetric", "flow"))),
        case(affinity, emits, source_affinity.clone(), on_one(&source_affinity)),
        case(
            "an instance of a `stateful` gateway",
            ("g1", "cannot run an instance of the stateful gateway `g`", ""),
            BASE.to_owned(),
            stateless(BASE),
        ),
    ];
    let own: Vec<Case> = match target {
        "nft" | "ebpf" => linux.into(),
        _ => p4.into(),
    };
    shared.into_iter().chain(own).collect()
}

/// Tenants that ask each other by the same addresses, through a stateless gateway: `a` is shown to `b` as a client by one prefix, and
/// presented by another.
fn across(presented: &str) -> String {
    let expose = format!("expose s : udp to b via g as {presented} clients as 100.64.0.0/24");
    stateless(BASE)
        .replace("10.1.0.0/24 } }\n", &format!("10.1.0.0/24 }}\n  {expose} }}\n"))
        .replace("tcp/443", "udp")
        .replace("policy p", "policy q for b in tenant { allow b -> a }\npolicy p")
}

/// Two gateways inside tenant `a`, one of them stateless on `g1`, the other stateful on a node.
fn insertion(other: &str) -> String {
    let gateways = format!(
        "gateway l {{ joins a instances g1 stateless }}\ngateway m {{ joins a instances {other} stateful }}\npolicy p"
    );
    BASE.replace("policy p", &gateways)
        .replace("allow a -> b.y", "allow a -> a : tcp/80 via l  allow a -> a : tcp/443 via m")
}

/// What a target says of one node.
fn findings(target: &str, project: &Project, node: &str) -> Vec<Diagnostic> {
    let id = project.compiled.model.nodes.iter().find(|(_, n)| n.name == node).unwrap().0;
    let (compiled, sources) = (&project.compiled, &project.sources);
    match target {
        "nft" => Nft.lower(compiled, sources, id, &[]).err(),
        "ebpf" => Ebpf.lower(compiled, sources, id, &[]).err(),
        _ => p4::P4.lower(compiled, sources, id, &[]).err(),
    }
    .unwrap_or_default()
}

fn rows(table: &[Capability], level: Level) -> BTreeSet<&str> {
    table.iter().filter(|row| row.level == level).map(|row| row.construct).collect()
}

#[test]
fn every_row_that_is_refused_has_a_project_that_is() {
    let mut complaints = Vec::new();
    for (target, table) in [("nft", NFT), ("ebpf", EBPF), ("p4", P4)] {
        let cases = cases(target);
        let held: BTreeSet<&str> = cases.iter().map(|c| c.row).collect();
        assert_eq!(held, rows(table, Level::Refused), "{target}: a project for each row");
        for Case { row, node, source, says, at, mended } in cases {
            let project = text(&source);
            let found = findings(target, &project, node);
            assert!(found.iter().all(|d| d.code == Code::PW0801 && d.help.is_some()), "{row}: {found:#?}");
            let said: Vec<(&str, &str)> =
                found.iter().map(|d| (d.message.as_str(), project.sources.slice(d.span))).collect();
            if !said.iter().any(|(message, words)| message.contains(says) && words.contains(at)) {
                complaints.push(format!("{target}: {row}: {said:?}"));
            }
            let left = findings(target, &text(&mended), node);
            if let Some(first) = left.first() {
                complaints.push(format!("{target}: {row}, mended: {}", first.message));
            }
        }
    }
    assert!(complaints.is_empty(), "{complaints:#?}");
}

#[test]
fn the_manuals_have_the_tables() {
    for (target, table, mark) in
        [("nft", NFT, "capabilities"), ("ebpf", EBPF, "ebpf capabilities"), ("p4", P4, "capabilities")]
    {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("../docs/dataplane-{target}.md"));
        let page = std::fs::read_to_string(&path).unwrap();
        let (begin, end) = (format!("<!-- {mark} -->\n"), format!("<!-- end of {mark} -->"));
        let (head, rest) = page.split_once(&begin).unwrap();
        let (_, tail) = rest.split_once(&end).unwrap();
        let fresh = format!("{head}{begin}{}{end}{tail}", markdown(target, table));
        if std::env::var_os("BLESS").is_some() {
            std::fs::write(&path, &fresh).unwrap();
        } else {
            assert_eq!(page, fresh, "BLESS=1 writes the table");
        }
    }
}
