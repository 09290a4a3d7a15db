//! `apply`, `rollback`, `status`, `audit` and `doctor` through the command line, on a node in a network namespace of its own.
//! Where the machine lacks what that needs this says `SKIPPED` and what is missing, and fails if the environment's
//! `PARTYWALL_LAB_REQUIRED` says that nothing should be. And the units in `packaging/`.

mod support;

use serde_json::Value;
use std::path::Path;
use std::process::Command;
use support::schema::{named, violations};
use support::{report, root, run};

/// Runs a script in a network namespace of its own, `$PW` being the binary and `$AT` an empty folder. What it printed.
fn alone(script: &str, at: &Path) -> Result<String, String> {
    let output = Command::new("unshare")
        .args(["-n", "sh", "-euxc", script])
        .env("PW", env!("CARGO_BIN_EXE_partywall"))
        .env("AT", at)
        .current_dir(root())
        .output()
        .map_err(|e| e.to_string())?;
    let said = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    if output.status.success() {
        return Ok(said(&output.stdout));
    }
    let trace = said(&output.stderr);
    let last: Vec<&str> = trace.lines().rev().take(12).collect();
    Err(format!("{}\n{}", said(&output.stdout), last.into_iter().rev().collect::<Vec<_>>().join("\n")))
}

fn able(test: &str) -> bool {
    let folder = tempfile::tempdir().unwrap();
    let tried = alone(
        "nft add table inet x; ip link add name a type veth peer name b; bridge fdb show",
        folder.path(),
    );
    let Err(missing) = tried else { return true };
    println!("SKIPPED: {test}: {missing}");
    assert!(std::env::var_os("PARTYWALL_LAB_REQUIRED").is_none(), "{test}: {missing}");
    false
}

fn build(project: &str, out: &Path) {
    run(["build", project, "--target", "nft", "--out", out.to_str().unwrap()]).expect(0);
}

/// The devices of node c1 of the first example.
const DEVICES: &str = r#"
ip link set dev lo up
n=0
for dev in eth0 $(sed -n "s/^WORKLOADS='\(.*\)'/\1/p" $AT/out/c1/nft/apply.sh); do
    n=$((n + 1))
    ip link add name $dev type veth peer name far$n
    ip link set dev $dev mtu 9000 up
    ip link set dev far$n up
done
ip address add $(sed -n 's/.* local \([^ ]*\) .*/\1/p' $AT/out/c1/nft/links.batch | head -n 1)/24 dev eth0
status() { set +e; "$@" >$AT/said 2>$AT/complained; got=$?; set -e; }
is() { [ $got = $1 ] || { echo "exit $got, not $1:"; cat $AT/said $AT/complained; exit 1; }; }
"#;

#[test]
fn a_generation_is_installed_shown_audited_and_taken_back() {
    if !able("apply through the command line") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    build("examples/01-quickstart", &folder.path().join("out"));
    let script = r#"
s="--state $AT/state"
status $PW status $s; is 0; grep -q 'nothing is installed' $AT/said
status $PW audit $s; is 2; grep -q 'partywall apply DIR' $AT/complained
status $PW rollback $s; is 2
status $PW apply $AT/out $s; is 2; grep -q -- '--node' $AT/complained
status $PW doctor $AT/out --node c1 $s --format json; cp $AT/said $AT/doctor.json
status $PW apply $AT/out --node c1 $s; is 0; grep -q '^c1: generation [0-9a-f]* installed$' $AT/said
status $PW apply $AT/out/c1 $s; is 0; grep -q 'in order' $AT/said
status $PW apply $s; is 0
status $PW audit $s; is 0
status $PW audit $s --format json; is 0; cp $AT/said $AT/clean.json
status $PW status $s; is 0; grep -q 'runs it, in slot 0' $AT/said
status $PW status $s --format json; is 0; cp $AT/said $AT/status.json
status $PW apply $AT/out --node c1 --down g1 $s; is 0
status $PW status $s --format json; is 0; cp $AT/said $AT/down.json
status $PW rollback $s; is 0; grep -q 'installed again' $AT/said
nft add rule inet partywall forward accept
echo 0 >/proc/sys/net/ipv4/ip_forward
status $PW audit $s; is 1; grep -q '^nft rule inet partywall forward, at place .*: expected nothing, there is `accept`; to mend: partywall apply$' $AT/said
grep -q '^setting net/ipv4/ip_forward: expected `1`, there is `0`' $AT/said
status $PW audit $s --format json; is 1; cp $AT/said $AT/drift.json
status $PW audit $AT/out --node c1; is 1
status $PW apply $s; is 0; grep -q 'in order' $AT/said
status $PW audit $s; is 0
suffix=$(nft list chain inet partywall flip_fabric | sed -n 's/.*goto fabric_//p')
nft add rule inet partywall send_$suffix accept
status $PW apply $s; is 0; grep -q 'in order, 1 difference mended' $AT/said
status $PW audit $s; is 0
status $PW status $s; is 0; grep -q 'runs it, in slot 1' $AT/said
nft delete table inet partywall
status $PW status $s; is 1; grep -q 'runs no generation' $AT/said
"#;
    if let Err(error) = alone(&format!("{DEVICES}{script}"), folder.path()) {
        panic!("{error}");
    }
    let read = |name: &str| -> Value {
        serde_json::from_slice(&std::fs::read(folder.path().join(name)).unwrap()).unwrap()
    };
    let mut complaints = Vec::new();
    for (name, schema_name) in [
        ("doctor.json", "doctor-1.schema.json"),
        ("clean.json", "audit-1.schema.json"),
        ("drift.json", "audit-1.schema.json"),
        ("status.json", "status-1.schema.json"),
        ("down.json", "status-1.schema.json"),
    ] {
        complaints.extend(violations(&named(schema_name), &read(name)));
    }
    report(&complaints);
    assert_eq!(read("clean.json")["clean"], true);
    assert_eq!(read("drift.json")["differences"].as_array().unwrap().len(), 2);
    assert_eq!(read("status.json")["kernel"]["recorded"], true);
    assert!(read("status.json")["rules"].as_array().unwrap().len() > 1);
    assert_eq!(read("down.json")["installed"]["down"], serde_json::json!(["g1"]));
    assert_eq!(read("down.json")["earlier"].as_array().unwrap().len(), 1);
}

/// The same commands on a node that was built for eBPF.
#[test]
fn an_ebpf_node_is_installed_shown_audited_and_taken_back() {
    if !able("apply of an eBPF node through the command line") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out");
    run(["build", "examples/01-quickstart", "--target", "all", "--out", out.to_str().unwrap()]).expect(0);
    let script = r#"
s="--state $AT/state"
export PARTYWALL_BPF=/sys/fs/bpf/partywall-cli-$$
mkdir $PARTYWALL_BPF || { echo UNABLE; exit 0; }
trap 'rm -rf $PARTYWALL_BPF' EXIT
status $PW doctor $AT/out --node c1 --target ebpf $s --format json; cp $AT/said $AT/doctor.json
status $PW apply $AT/out --node c1 --target ebpf $s; is 0; grep -q '^c1: generation [0-9a-f]* installed$' $AT/said
status $PW apply $AT/out --node c1 --target ebpf $s; is 0; grep -q 'in order' $AT/said
status $PW audit $s; is 0
status $PW status $s --format json; is 0; cp $AT/said $AT/status.json
status $PW apply $AT/out --node c1 --target ebpf --down g1 $s; is 0
status $PW rollback $s; is 0; grep -q 'installed again' $AT/said
ip link set dev pwvx mtu 1400
status $PW audit $s --format json; is 1; cp $AT/said $AT/drift.json
status $PW apply $s; is 0; grep -q 'in order' $AT/said
status $PW audit $s; is 0
status $PW apply $AT/out --node c1 $s; is 0
status $PW audit $s; is 0; ! ip link show dev pwvx
status $PW rollback $s; is 0
status $PW audit $s; is 0; ip link show dev pwvx
"#;
    let said = alone(&format!("{DEVICES}{script}"), folder.path()).unwrap_or_else(|error| panic!("{error}"));
    if said.contains("UNABLE") {
        println!("SKIPPED: an eBPF node through the command line: there is no BPF file system");
        assert!(std::env::var_os("PARTYWALL_LAB_REQUIRED").is_none(), "there is no BPF file system");
        return;
    }
    let read = |name: &str| -> Value {
        serde_json::from_slice(&std::fs::read(folder.path().join(name)).unwrap()).unwrap()
    };
    let mut complaints = Vec::new();
    for (name, schema_name) in [
        ("doctor.json", "doctor-1.schema.json"),
        ("drift.json", "audit-1.schema.json"),
        ("status.json", "status-1.schema.json"),
    ] {
        complaints.extend(violations(&named(schema_name), &read(name)));
    }
    report(&complaints);
    assert_eq!(read("drift.json")["differences"].as_array().unwrap().len(), 1);
    assert_eq!(read("status.json")["kernel"]["recorded"], true);
    assert!(read("status.json")["rules"].as_array().unwrap().len() > 1);
}

#[test]
fn where_nothing_may_be_done_it_is_said() {
    if Command::new("unshare").args(["-rn", "true"]).status().is_ok_and(|s| s.success()) {
        // A user who is root in name alone, without a machine of its own to change.
        let folder = tempfile::tempdir().unwrap();
        build("examples/01-quickstart", &folder.path().join("out"));
        let mut command = Command::new("setpriv");
        command.args(["--bounding-set=-all", "--inh-caps=-all", env!("CARGO_BIN_EXE_partywall"), "apply"]);
        command
            .args(["--node", "c1", "--state"])
            .arg(folder.path().join("state"))
            .arg(folder.path().join("out"));
        let Ok(output) = command.output() else { return };
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{said}");
        assert!(said.contains("partywall: ") && said.contains("not permitted"), "{said}");
    }
}

#[test]
fn the_units_are_well_formed() {
    let folder = tempfile::tempdir().unwrap();
    let binary = env!("CARGO_BIN_EXE_partywall");
    let names = ["partywall.service", "partywall-audit.service", "partywall-audit.timer"];
    let mut paths = Vec::new();
    for name in names {
        let text = std::fs::read_to_string(root().join("packaging").join(name)).unwrap();
        // Every command that a unit runs is one that the binary has.
        for line in text.lines().filter_map(|l| l.split_once('=').filter(|(key, _)| key.starts_with("Exec")))
        {
            let words: Vec<&str> = line.1.split(' ').collect();
            assert_eq!(words[0], "/usr/bin/partywall");
            run([words[1], "--help"]).expect(0);
        }
        let path = folder.path().join(name);
        let text = text.replace("/usr/bin/partywall", binary);
        // The manual pages are installed by packages, not here.
        let text: String =
            text.lines().filter(|l| !l.starts_with("Documentation=")).map(|l| format!("{l}\n")).collect();
        std::fs::write(&path, text).unwrap();
        paths.push(path);
    }
    let Ok(output) = Command::new("systemd-analyze").arg("verify").args(&paths).output() else {
        println!("SKIPPED: systemd-analyze is not installed; the units' own keys are not checked");
        return;
    };
    let said = String::from_utf8_lossy(&output.stderr);
    // What is said of units that are none of ours is the machine's business.
    let ours: Vec<&str> = said.lines().filter(|l| names.iter().any(|n| l.contains(n))).collect();
    assert!(ours.is_empty(), "{said}");
}
