//! The text of the artifacts: what it is for the quickstart, that the kernel's own tools take it, and what it does not
//! depend on. `BLESS=1` writes the expected files anew.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test"
)]

mod common;

use common::{Project, examples, folder, project, text};
use partywall_backends::{Bundle, Request, build};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

fn bundle(project: &Project) -> Bundle {
    let request = Request { version: "0.0.0".into(), ..Request::default() };
    build(&project.compiled, &project.sources, &request).unwrap_or_else(|e| panic!("{e:?}"))
}

fn files(bundle: &Bundle) -> BTreeMap<String, String> {
    bundle.files.iter().map(|f| (f.path.clone(), String::from_utf8(f.bytes.clone()).unwrap())).collect()
}

fn quickstart() -> Project {
    folder(&examples().join("01-quickstart"))
}

/// The generation's digest and suffix by words, so that a difference shows where it is.
fn without_digest(text: &str) -> String {
    let digest = text.lines().find_map(|l| l.strip_prefix("# partywall generation ")).unwrap().to_owned();
    assert_eq!(digest.len(), 64, "{digest}");
    text.replace(&digest, "DIGEST").replace(digest.get(..8).unwrap(), "SUFFIX")
}

fn golden(name: &str, text: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/artifacts").join(name);
    if std::env::var_os("BLESS").is_some() {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, text).unwrap();
    }
    let expected = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(expected.lines().count() <= 200, "{name} is too long to be read");
    assert!(expected == text, "{name} differs; BLESS=1 writes it anew\n{text}");
}

#[test]
fn quickstart_is_as_reviewed() {
    let files = files(&bundle(&quickstart()));
    for name in ["c1/nft/links.batch", "c1/nft/fdb.batch", "c1/nft/routes.batch", "g1/nft/commit.nft"] {
        golden(&format!("01-quickstart/{}", name.replace("/nft/", ".")), &without_digest(&files[name]));
    }
    let base = without_digest(&files["g1/nft/base.nft"]);
    let rules = base.find("flush chain ").unwrap();
    golden("01-quickstart/g1.base.nft", base.get(..rules).unwrap());
    golden("01-quickstart/g1.base.rules.nft", base.get(rules..).unwrap());
    // The maps say what the policy says, the chains are the program.
    let stage = without_digest(&files["g1/nft/stage.nft"]);
    let program = stage.rfind("  chain answer_SUFFIX {").unwrap();
    let arp = stage.find("table arp partywall {").unwrap();
    let maps = stage.find("  map pair_SUFFIX {").unwrap();
    golden("01-quickstart/g1.stage.classes.nft", stage.get(..maps).unwrap());
    golden("01-quickstart/g1.stage.maps.nft", stage.get(maps..program).unwrap());
    golden("01-quickstart/g1.stage.program.nft", stage.get(program..arp).unwrap());
}

#[test]
fn every_text_names_its_generation_first() {
    for (path, text) in files(&bundle(&quickstart())) {
        if path == "manifest.json" {
            continue;
        }
        let line = if path.ends_with(".sh") { 1 } else { 0 };
        let first = text.lines().nth(line).unwrap();
        assert!(first.starts_with("# partywall generation "), "{path}: {first}");
    }
}

#[test]
fn the_manifest_lists_every_file() {
    let bundle = bundle(&quickstart());
    let listed: Vec<&String> = bundle.manifest.nodes.values().flat_map(|n| n.files.keys()).collect();
    let mut there: Vec<&String> =
        bundle.files.iter().map(|f| &f.path).filter(|p| *p != "manifest.json").collect();
    there.sort();
    assert_eq!(listed, there);
    for file in bundle.files.iter().filter(|f| f.path != "manifest.json") {
        let node = file.path.split('/').next().unwrap();
        let digest = blake3::hash(&file.bytes).to_hex().to_string();
        assert_eq!(bundle.manifest.nodes[node].files[&file.path], digest);
    }
    let names = &bundle.manifest.nodes["c1"].names;
    assert!(names["payments.checkout#1"].starts_with("rule_payments.checkout_1-"), "{names:?}");
}

fn quickstart_files() -> Vec<(String, String)> {
    ["fabric.pw", "policy.pw", "tenants.pw"]
        .into_iter()
        .map(|name| {
            (name.to_owned(), std::fs::read_to_string(examples().join("01-quickstart").join(name)).unwrap())
        })
        .collect()
}

#[test]
fn the_order_of_files_does_not_matter() {
    let mut reversed = quickstart_files();
    reversed.reverse();
    let (a, b) = (bundle(&project(&quickstart_files())), bundle(&project(&reversed)));
    assert_eq!(files(&a), files(&b));
}

#[test]
fn another_tenant_changes_no_byte_of_nodes_that_do_not_serve_it() {
    let mut more = quickstart_files();
    let another = "tenant audit id 9 { segment logs vni 10090 { 10.1.0.0/24 } }\n\
         endpoint log-1 in audit.logs { at 10.1.0.5 mac 02:00:00:00:09:05 on c2 dev \"tap-log1\" }\n\
         endpoint log-2 in audit.logs { at 10.1.0.6 mac 02:00:00:00:09:06 on c2 dev \"tap-log2\" }\n";
    more.push(("audit.pw".to_owned(), another.to_owned()));
    let (a, b) = (files(&bundle(&project(&quickstart_files()))), files(&bundle(&project(&more))));
    let changed: Vec<&String> = a.keys().filter(|path| a[*path] != b[*path]).collect();
    assert!(changed.iter().all(|path| path.starts_with("c2/") || *path == "manifest.json"), "{changed:?}");
    assert!(changed.iter().any(|path| path.ends_with("stage.nft")));
}

/// What an external may open and what may be opened to it are ranges of their own, one within the other.
const NESTED: &str = r#"
fabric f { encap vxlan port 4789 underlay mtu 9000 family ipv4 precedence tenant delegate tenant unknown-vni drop }
node c1 { vtep 192.0.2.11 dev eth0 }
node g1 { vtep 192.0.2.21 dev eth0 gateway }
external net { 0.0.0.0/0 }
external hq { 172.16.0.0/12 }
tenant a id 1 {
  segment s vni 1 { 10.1.0.0/24 }
  route 172.16.0.0/12 via g
  expose x : tcp/443 to net via g as 100.64.2.1
}
gateway g {
  joins a, net, hq instances g1 stateful
  attach net on g1 dev eth1 next-hop 203.0.113.1
  attach hq on g1 dev eth2 next-hop 172.31.255.1
}
endpoint x in a.s { at 10.1.0.5 on c1 dev tap0 }
policy p for a in tenant { allow a -> hq }
"#;

#[test]
fn no_sets_overlap() {
    let examples = ["01-quickstart", "02-datacenter"].map(|example| folder(&examples().join(example)));
    for p in examples.into_iter().chain([text(NESTED)]) {
        for (id, _) in p.compiled.model.nodes.iter() {
            let model = partywall_backends::Backend::lower(
                &partywall_backends::nft::Nft,
                &p.compiled,
                &p.sources,
                id,
                &[],
            )
            .unwrap_or_else(|e| panic!("{e:?}"));
            assert_disjoint(&model.rules);
        }
    }
}

fn assert_disjoint(rules: &partywall_backends::linux::model::Ruleset) {
    use partywall_backends::linux::model::Atom;
    let meets = |a: &Atom, b: &Atom| match (a, b) {
        (Atom::Address(f, al, ah), Atom::Address(g, bl, bh))
        | (Atom::Raw(f, al, ah), Atom::Raw(g, bl, bh)) => f == g && al <= bh && bl <= ah,
        (Atom::Proto(al, ah), Atom::Proto(bl, bh)) => al <= bh && bl <= ah,
        (Atom::Port(al, ah), Atom::Port(bl, bh)) => al <= bh && bl <= ah,
        _ => a == b,
    };
    for (table, entries) in &rules.tables {
        let mut by_first: BTreeMap<&Atom, Vec<&Vec<Atom>>> = BTreeMap::new();
        for key in entries.keys() {
            by_first.entry(key.first().unwrap()).or_default().push(key);
        }
        for keys in by_first.values() {
            for (at, a) in keys.iter().enumerate() {
                for b in keys.iter().skip(at + 1) {
                    assert!(!a.iter().zip(*b).all(|(a, b)| meets(a, b)), "{table:?}: {a:?} and {b:?}");
                }
            }
        }
    }
}

fn have(tool: &str) -> bool {
    Command::new(tool).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok()
        || Command::new(tool).arg("-V").stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok()
}

fn write(bundle: &Bundle, to: &Path) {
    for file in &bundle.files {
        let path = to.join(&file.path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, &file.bytes).unwrap();
    }
}

fn scratch(name: &str) -> PathBuf {
    let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    let _ = std::fs::remove_dir_all(&dir);
    std::fs::create_dir_all(&dir).unwrap();
    dir
}

#[test]
fn shellcheck_has_no_objections() {
    if !have("shellcheck") {
        println!("SKIPPED: shellcheck is not installed; apply.sh is not checked");
        return;
    }
    let dir = scratch("shellcheck");
    write(&bundle(&folder(&examples().join("02-datacenter"))), &dir);
    for node in ["c1", "g2"] {
        let script = dir.join(node).join("nft/apply.sh");
        let output = Command::new("shellcheck").arg("--shell=sh").arg(&script).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    }
}

/// Runs a script in a fresh network namespace; `None` if this machine does not let us make one.
fn in_namespace(script: &str) -> Option<(bool, String)> {
    let run = |flags: &str, script: &str| {
        Command::new("unshare").args([flags, "sh", "-ec", script]).output().ok().map(|output| {
            let text = [output.stdout, output.stderr].concat();
            (output.status.success(), String::from_utf8_lossy(&text).into_owned())
        })
    };
    let usable = |flags: &str| run(flags, "nft list ruleset").is_some_and(|(ok, _)| ok);
    let flags = ["-n", "-rn"].into_iter().find(|flags| usable(flags))?;
    run(flags, script)
}

/// Another policy of the quickstart, on every node.
fn changed(service: &str) -> Project {
    let mut files = quickstart_files();
    for (_, text) in &mut files {
        *text = text.replace("expose api : https", &format!("expose api : {service}"));
    }
    project(&files)
}

/// Two generations on every node of the quickstart, installed, installed again, replaced, brought back, and refused.
#[test]
fn apply_installs_replaces_and_repeats() {
    let (one, two, broken) = (scratch("apply-1"), scratch("apply-2"), scratch("apply-3"));
    write(&bundle(&quickstart()), &one);
    write(&bundle(&changed("https | ping")), &two);
    write(&bundle(&changed("ping")), &broken);
    for node in ["c1", "c2", "g1"] {
        std::fs::write(broken.join(node).join("nft/stage.nft"), "no such thing\n").unwrap();
    }
    for (node, vtep, devices) in [
        ("c1", "192.0.2.11", "tap-web1 tap-api2"),
        ("c2", "192.0.2.12", "tap-web2 tap-db1 tap-api1"),
        ("g1", "192.0.2.21", ""),
    ] {
        let script = format!(
            "ip link set lo up
            for dev in eth0 {devices}; do
                ip link add name $dev type veth peer name p-$dev; ip link set dev $dev up; ip link set dev p-$dev up
            done
            ip address add {vtep}/24 dev eth0
            state() {{ nft -s list ruleset; ip rule; ip -6 rule; ip route show table all proto 87; ip -6 route show table all proto 87; }}
            sh {one}/{node}/nft/apply.sh; first=$(state)
            sh {one}/{node}/nft/apply.sh; [ \"$first\" = \"$(state)\" ] || {{ echo twice is not once; exit 1; }}
            sh {two}/{node}/nft/apply.sh; second=$(state)
            code=0; sh {broken}/{node}/nft/apply.sh || code=$?
            [ $code = 2 ] || {{ echo a broken stage gave $code; exit 1; }}
            [ \"$second\" = \"$(state)\" ] || {{ echo a refused generation left something; exit 1; }}
            sh {one}/{node}/nft/apply.sh
            nft list ruleset | grep -oE '(chain|set|map) [a-z0-9_]+_[0-9a-f]{{8}} ' | grep -oE '[0-9a-f]{{8}} ' | sort -u | wc -l",
            one = one.display(),
            two = two.display(),
            broken = broken.display(),
        );
        let Some((ok, output)) = in_namespace(&script) else {
            println!(
                "SKIPPED: no network namespace can be made, or nft is not installed; apply.sh did not run"
            );
            return;
        };
        assert!(ok, "{node}: {output}");
        assert!(output.starts_with("1\n"), "{node}: generations left: {output}");
    }
}

#[test]
fn the_kernel_takes_every_node_of_the_datacenter() {
    let dir = scratch("datacenter");
    write(&bundle(&folder(&examples().join("02-datacenter"))), &dir);
    for node in ["c1", "c2", "c3", "c4", "c5", "g1", "g2", "g3"] {
        let script = format!(
            "cd {}/{node}/nft; nft -f base.nft; nft -D slot=1 -f stage.nft; nft -D slot=1 -f commit.nft
            nft -f base.nft; nft list ruleset >/dev/null
            for chain in $(nft list chains inet | sed -n 's/.*chain \\(flip_[a-z]*\\) .*/\\1/p'); do
                nft flush chain inet partywall $chain
            done
            nft flush chain arp partywall flip; nft -D slot=1 -f sweep.nft
            nft list ruleset | grep -cE '_[0-9a-f]{{8}} ' || :",
            dir.display()
        );
        let Some((ok, output)) = in_namespace(&script) else {
            println!(
                "SKIPPED: no network namespace can be made, or nft is not installed; nothing was loaded"
            );
            return;
        };
        if output.contains("Message too long") {
            println!("SKIPPED: {node}: a large map needs a socket buffer that only root can have");
            continue;
        }
        assert!(ok, "{node}: {output}");
        assert_eq!(output.trim(), "0", "{node}: sweep.nft left something");
    }
}

/// nft 1.0.6 stores one element of each full netlink message wrongly where a key of intervals has a mark in it, so that no command
/// may fill one.
#[test]
fn long_tables_of_intervals_are_written_in_short_commands() {
    const RANGES: usize = 1_100;
    let ranges: Vec<String> = (0..RANGES).map(|n| format!("{}..{}", 1 + 50 * n, 30 + 50 * n)).collect();
    let text = format!(
        r#"
fabric f {{ encap vxlan port 4789 underlay mtu 9000 family ipv4 precedence tenant delegate tenant unknown-vni drop }}
node c1 {{ vtep 192.0.2.11 dev eth0 }}
tenant a id 1 {{ segment s vni 10 {{ 10.1.0.0/24 }} }}
endpoint a1 in a.s {{ at 10.1.0.5 on c1 dev tap-a1 }}
endpoint a2 in a.s {{ at 10.1.0.6 on c1 dev tap-a2 }}
policy p for a in tenant {{ allow s -> s : udp/{{{}}} }}
"#,
        ranges.join(", ")
    );
    let files = files(&bundle(&project(&[("main.pw".to_owned(), text)])));
    let (mut table, mut count, mut all, mut most) = (String::new(), 0, 0, 0);
    for line in files["c1/nft/stage.nft"].lines() {
        if let Some(rest) =
            line.strip_prefix("  map ").or_else(|| line.strip_prefix("add element inet partywall "))
        {
            table = rest.split(' ').next().unwrap().to_owned();
            count = 0;
        } else if table.starts_with("to_port_") && line.starts_with("      ") && line.contains(" : ") {
            count += 1;
            all += 1;
            most = most.max(count);
        }
    }
    assert!(all >= RANGES, "{all} elements");
    assert!((200..=250).contains(&most), "{most} elements in one command");
}
