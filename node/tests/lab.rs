//! The lab on a real kernel. Where the machine lacks what a lab needs these tests say `SKIPPED` and what is missing.

#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test that fails says where, and one that is skipped says so"
)]

#[path = "lab/support.rs"]
#[expect(dead_code, reason = "each test uses a part")]
mod support;

use compiler::Compiled;
use partywall_node::lab::probe::{Expected, Outcome};
use partywall_node::lab::{self, LabError, ProbeOptions};
use std::process::Command;
use std::time::{Duration, Instant};
use support::{Project, able, namespaces, options, project, run, scripts};

const LONG: &str = "a-name-of-sixty-three-bytes-which-is-as-long-as-a-name-may-be-x";

fn tiny() -> Compiled {
    project(&[("tiny.pw".to_owned(), include_str!("lab/tiny.pw").to_owned())]).compiled
}

/// A script that does nothing but say where it ran.
fn idle() -> String {
    "#!/bin/sh\nexit 0\n".to_owned()
}

#[test]
fn up_builds_what_was_declared_and_down_leaves_nothing() {
    let c = tiny();
    if !able(&c, "up and down") {
        return;
    }
    let options = options("up and down");
    let before = run("ip", &["-br", "link"]);
    let artifacts = tempfile::tempdir().unwrap();
    scripts(artifacts.path(), &[("c1", idle()), ("c2", idle()), ("c3", idle())]);
    assert!(matches!(lab::open(&c, &options), Err(LabError::NotUp { missing: 7, .. })));

    let built = lab::up(&c, artifacts.path(), &options).unwrap();
    let names = namespaces(&options);
    assert_eq!(names.len(), 7, "{names:?}");
    assert!(names.iter().all(|n| n.len() <= 80), "{names:?}");
    let t = &built.topology;
    let hostile = run("ip", &["-n", &t.nodes[0].netns, "-br", "link", "show", "dev", "tap#web'1\""]);
    assert!(hostile.contains("UP"), "{hostile}");
    run("ip", &["-n", &t.nodes[1].netns, "link", "show", "dev", "-x"]);
    let inside = |name: &str, args: &[&str]| {
        let place = t.endpoints.iter().find(|p| c.model.endpoints[p.endpoint].name == name).unwrap();
        run("ip", &[&["-n", place.netns.as_str()], args].concat())
    };
    let web = inside("web-1", &["address", "show", "dev", "eth0"]);
    for wanted in ["02:00:00:00:01:05", "10.1.0.5/24", "fd00:1::5/128", "mtu 1450"] {
        assert!(web.contains(wanted), "{wanted}: {web}");
    }
    assert!(!web.contains("tentative"), "{web}");
    assert!(inside(LONG, &["route"]).contains("default via 10.1.1.1"));
    // The underlay carries packets of its full size and nothing fragments them.
    let payload = (c.model.fabric.underlay_mtu - 28).to_string();
    run(
        "ip",
        &["netns", "exec", &t.nodes[0].netns, "ping", "-c1", "-W2", "-Mdo", "-s", &payload, "192.0.2.12"],
    );

    assert_eq!(lab::open(&c, &options).unwrap().topology.prefix, t.prefix);
    let changed = include_str!("lab/tiny.pw").replace("udp/514", "udp/515");
    let changed = project(&[("tiny.pw".to_owned(), changed)]).compiled;
    assert!(matches!(lab::open(&changed, &options), Err(LabError::Stale)));
    lab::up(&c, artifacts.path(), &options).unwrap();
    assert_eq!(namespaces(&options), names, "up twice");
    assert_eq!(lab::down(&options).unwrap(), 7);
    assert_eq!(lab::down(&options).unwrap(), 0, "down twice");
    assert!(namespaces(&options).is_empty());
    assert_eq!(run("ip", &["-br", "link"]), before, "the machine's own devices");
}

#[test]
fn a_failing_script_is_named_and_nothing_is_left() {
    let c = tiny();
    if !able(&c, "failing script") {
        return;
    }
    let options = options("failing script");
    let artifacts = tempfile::tempdir().unwrap();
    scripts(artifacts.path(), &[("c1", idle()), ("c3", idle())]);
    let error = lab::up(&c, artifacts.path(), &options).unwrap_err();
    assert!(matches!(&error, LabError::NoArtifacts { path } if path.ends_with("c2/nft/apply.sh")), "{error}");
    scripts(artifacts.path(), &[("c2", "echo table is busy >&2; exit 3\n".to_owned())]);
    let error = lab::up(&c, artifacts.path(), &options).unwrap_err();
    let said = error.to_string();
    assert!(matches!(&error, LabError::Apply { node, .. } if node == "c2"), "{said}");
    assert!(said.contains("table is busy"), "{said}");
    assert!(namespaces(&options).is_empty());
}

/// Run by [`what_is_missing_is_said`] in a process that finds no programs.
#[test]
fn child_that_lacks_tools() {
    if std::env::var_os("LAB_LACKS").is_none() {
        return;
    }
    let missing = lab::preflight(&tiny());
    let programs: Vec<&str> =
        missing.iter().map(|m| m.what.as_str()).filter(|w| w.starts_with("the program")).collect();
    assert_eq!(programs, ["the program `ip`", "the program `bridge`", "the program `nft`"]);
    let error = lab::up(&tiny(), "/nonexistent".as_ref(), &options("lacks")).unwrap_err();
    assert!(error.to_string().contains("the program `nft` (install nftables"), "{error}");
}

#[test]
fn what_is_missing_is_said() {
    let child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "child_that_lacks_tools"])
        .env("LAB_LACKS", "1")
        .env("PATH", "/nonexistent")
        .output()
        .unwrap();
    assert!(child.status.success(), "{}", String::from_utf8_lossy(&child.stdout));
}

/// Run by [`a_killed_up_is_cleaned_away`] in a process of its own, never alone.
#[test]
fn child_that_is_killed() {
    let (Ok(artifacts), Ok(project)) = (std::env::var("LAB_ARTIFACTS"), std::env::var("LAB_PROJECT")) else {
        return;
    };
    lab::up(&tiny(), artifacts.as_ref(), &lab::LabOptions { project }).unwrap();
}

#[test]
fn a_killed_up_is_cleaned_away() {
    let c = tiny();
    if !able(&c, "killed up") {
        return;
    }
    let options = options("killed up");
    let artifacts = tempfile::tempdir().unwrap();
    scripts(artifacts.path(), &[("c1", "sleep 2\n".to_owned()), ("c2", idle()), ("c3", idle())]);
    // From before the first namespace to the middle of the scripts.
    for namespaces_there in [1, 4, 7] {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "child_that_is_killed"])
            .env("LAB_ARTIFACTS", artifacts.path())
            .env("LAB_PROJECT", &options.project)
            .stdout(std::process::Stdio::null())
            .spawn()
            .unwrap();
        let until = Instant::now() + Duration::from_secs(20);
        while namespaces(&options).len() < namespaces_there {
            assert!(Instant::now() < until, "the child does nothing");
        }
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(!namespaces(&options).is_empty());
        assert!(matches!(lab::open(&c, &options), Err(LabError::NotUp { .. } | LabError::Unfinished)));
        lab::down(&options).unwrap();
        assert!(namespaces(&options).is_empty());
    }
    // A namespace of which no more than the name was made.
    std::fs::write(format!("/run/netns/{}-n-c1", lab::prefix(&options)), "").unwrap();
    scripts(artifacts.path(), &[("c1", idle())]);
    lab::up(&c, artifacts.path(), &options).unwrap();
    assert_eq!(lab::down(&options).unwrap(), 7);
}

/// Every probe of a project, with the artifacts that are built for it.
fn forwards(name: &str, project: &Project, probes: usize) {
    let c = &project.compiled;
    if !able(c, name) {
        return;
    }
    let options = options(name);
    let artifacts = tempfile::tempdir().unwrap();
    support::build(project, artifacts.path());
    let built = lab::up(c, artifacts.path(), &options).unwrap();
    let report = lab::probe(c, &built, &ProbeOptions::default());
    lab::down(&options).unwrap();
    let report = report.unwrap();
    assert!(report.ok(), "{}", report.table());
    assert!(report.summary.passed >= probes, "{}", report.table());
}

fn example(name: &str) -> Project {
    project(&support::read(format!("{}/../examples/{name}", env!("CARGO_MANIFEST_DIR")).as_ref()))
}

#[test]
fn quickstart_forwards_as_eval_says() {
    forwards("01-quickstart", &example("01-quickstart"), 25);
}

#[test]
fn quickstart_over_an_ipv6_underlay() {
    let mut files =
        support::read(format!("{}/../examples/01-quickstart", env!("CARGO_MANIFEST_DIR")).as_ref());
    for (_, text) in &mut files {
        *text = text.replace("family ipv4", "family ipv6").replace("vtep 192.0.2.", "vtep 2001:db8::");
    }
    forwards("IPv6 underlay", &project(&files), 25);
}

#[test]
fn datacenter_forwards_as_eval_says() {
    forwards("02-datacenter", &example("02-datacenter"), 100);
}

#[test]
fn unusual_names_and_protocols_forward_as_eval_says() {
    // As far as the nft target takes them.
    let text = include_str!("lab/tiny.pw").replace("tap#web'1\\\"", "tap@web+1.2").replace("und#1", "und@1");
    forwards("unusual names", &project(&[("tiny.pw".to_owned(), text)]), 17);
}

/// A node that forwards everything of the tenant, decides nothing and has counters that never move.
fn permissive(own: &str, other: &str, local: (&str, &str, &str, &str), remote: (&str, &str)) -> String {
    let (dev, v4, v6, router) = local;
    let (far4, far6) = remote;
    format!(
        r#"#!/bin/sh
set -eu
echo 1 >/proc/sys/net/ipv4/ip_forward
echo 1 >/proc/sys/net/ipv6/conf/all/forwarding
for k in all default; do echo 0 >/proc/sys/net/ipv4/conf/$k/rp_filter; done
ip link add vx address 02:50:00:00:00:{own} type vxlan id 10011 dstport 4789 local 192.0.2.{own} nolearning
ip link set dev vx up
bridge fdb append 02:50:00:00:00:{other} dev vx dst 192.0.2.{other} self
ip neigh replace 169.254.200.2 lladdr 02:50:00:00:00:{other} dev vx nud permanent
ip -6 neigh replace fe80::200:2 lladdr 02:50:00:00:00:{other} dev vx nud permanent
ip address add fe80::1/64 dev {dev} nodad
ip address add {router}/32 dev {dev}
ip route add {v4} dev {dev}
ip -6 route add {v6} dev {dev}
ip route add {far4} via 169.254.200.2 dev vx onlink
ip -6 route add {far6} via fe80::200:2 dev vx onlink
cd /proc/sys/net/ipv4/conf/{dev}
echo 1 >proxy_arp
echo 0 >/proc/sys/net/ipv4/neigh/{dev}/proxy_delay
nft add table inet partywall
for r in unknown_vni bad_vtep spoof unknown_source no_route not_exposed default rule to_host; do
  nft add counter inet partywall drop_$r
done
"#
    )
}

#[test]
fn a_fabric_that_forwards_everything_is_seen_through() {
    let c = tiny();
    if !able(&c, "permissive fabric") {
        return;
    }
    let options = options("permissive fabric");
    let artifacts = tempfile::tempdir().unwrap();
    let (web, db) = (
        ("'tap#web'\\''1\"'", "10.1.0.5", "fd00:1::5", "10.1.0.1"),
        ("-x", "10.1.1.9", "fd00:2::9", "10.1.1.1"),
    );
    scripts(
        artifacts.path(),
        &[
            ("c1", permissive("11", "12", web, ("10.1.1.9", "fd00:2::9"))),
            ("c2", permissive("12", "11", db, ("10.1.0.5", "fd00:1::5"))),
            ("c3", idle()),
        ],
    );
    let built = lab::up(&c, artifacts.path(), &options).unwrap();
    // What is to arrive does so at once here, and most of the rest is waited for in vain.
    let impatient = ProbeOptions { patience: Duration::from_secs(1), ..ProbeOptions::default() };
    let report = lab::probe(&c, &built, &impatient);
    let again = lab::probe(&c, &built, &impatient);
    lab::down(&options).unwrap();
    let (report, again) = (report.unwrap(), again.unwrap());
    println!("{}", report.table());
    for row in report.probes.iter().chain(&again.probes) {
        match (&row.expected, row.name.starts_with("drop: ")) {
            (Some(Expected::Allow { arrives, .. }), false) => {
                assert_eq!(row.outcome, Outcome::Passed, "{row:?}");
                assert_eq!(row.seen.as_ref().unwrap().arrived, std::slice::from_ref(arrives));
            }
            // What the policy denies arrives here, or is at least not counted.
            (Some(Expected::Deny { .. }), _) => assert_eq!(row.outcome, Outcome::Failed, "{row:?}"),
            _ => assert_eq!(row.outcome, Outcome::NoEndpoint, "{row:?}"),
        }
    }
    let by_name = |name: &'static str| report.probes.iter().filter(move |r| r.name.starts_with(name));
    assert_eq!(by_name("forwarded").filter(|r| r.outcome == Outcome::Passed).count(), 8);
    let denied: Vec<_> = by_name("denied").map(|r| r.outcome).collect();
    assert_eq!(denied, [Outcome::Failed, Outcome::Failed, Outcome::Failed, Outcome::NoEndpoint]);
    let replied = by_name("forwarded").filter(|r| r.seen.as_ref().unwrap().reply == Some(true)).count();
    assert_eq!(replied, 6, "all but those of the two protocols that nothing answers");
    assert!(!report.ok());
}
