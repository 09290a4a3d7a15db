//! Installing and going back; and everything that must not be installed: files that are cut short, changed, elsewhere, or of
//! another version, and disks that are full.

#[path = "lab/support.rs"]
#[expect(dead_code, reason = "each test uses a part")]
mod lab_support;
#[path = "node/pair.rs"]
mod pair;
#[path = "node/support.rs"]
mod support;

use pair::{ALWAYS, project, workloads};
use partywall_node::audit::audit;
use partywall_node::generation::Generation;
use partywall_node::install;
use partywall_node::state::State;
use partywall_node::status::status;
use std::path::{Path, PathBuf};
use std::time::Duration;
use support::{able, alone, open, sh};

fn build(directory: &Path, name: &str, text: &str) -> PathBuf {
    let folder = directory.join(name);
    let project = lab_support::project(&[("pair.pw".to_owned(), text.to_owned())]);
    lab_support::build(&project, &folder);
    folder
}

fn allowing(service: &str) -> String {
    project(&format!("extra: allow front -> front : {service}"), "")
}

#[test]
fn installing_going_back_and_coming_up_again() {
    if !able("installing") {
        return;
    }
    let built = tempfile::tempdir().unwrap();
    let generations: Vec<Generation> = ["udp/3001", "udp/3002", "udp/3003"]
        .map(|service| open(&build(built.path(), &service.replace('/', "-"), &allowing(service)), "n1"))
        .into();
    let [one, two, three] = generations.as_slice() else { unreachable!() };
    alone(|| {
        let _workloads = workloads();
        let kept = tempfile::tempdir().unwrap();
        let state = State::new(kept.path().join("deep/down"));
        let error = install::apply(&state, None, &mut |_| {}).unwrap_err();
        assert!(error.to_string().contains("nothing is installed here"), "{error}");
        let error = install::rollback(&state, &mut |_| {}).unwrap_err();
        assert_eq!(error.to_string(), "there is no earlier generation to go back to");
        assert!(status(&state).unwrap().ok());
        for generation in [one, two, three] {
            let done = install::apply(&state, Some(generation), &mut |_| {}).unwrap();
            assert!(done.changed && done.left.is_empty() && done.mended.is_empty(), "{done:#?}");
        }
        let seen = status(&state).unwrap();
        assert!(seen.ok(), "{}", seen.text());
        assert_eq!(seen.earlier.len(), 2);
        assert!(seen.rules.iter().any(|r| r.name == "app.extra"), "{}", seen.text());
        assert!(seen.drops.iter().any(|d| d.name == "not-exposed"), "{}", seen.text());
        for earlier in [two, one] {
            let done = install::rollback(&state, &mut |_| {}).unwrap();
            assert_eq!(done.entry.id, earlier.id);
            assert!(audit(earlier, &[]).unwrap().clean);
            assert!(!audit(three, &[]).unwrap().clean);
        }
        assert!(install::rollback(&state, &mut |_| {}).is_err());
        // As after a reboot: nothing is there but the record.
        sh(
            "nft flush ruleset; for f in -4 -6; do ip $f rule flush; ip $f rule add preference 32766 lookup main; done; ip rule add preference 32767 lookup default",
        );
        sh(
            "for d in $(ip -br link show type vxlan | cut -d ' ' -f 1); do ip link delete $d; done; ip link set dev tap-a group 0",
        );
        let seen = status(&state).unwrap();
        assert!(!seen.ok() && seen.kernel.is_none(), "{}", seen.text());
        let done = install::apply(&state, None, &mut |_| {}).unwrap();
        assert!(done.changed && done.left.is_empty(), "{done:#?}");
        assert!(install::audit(&state).unwrap().clean);
        let folders = std::fs::read_dir(state.root().join("generations")).unwrap().count();
        assert_eq!(folders, 1, "what was gone back over is not kept");
    });
}

#[test]
fn a_node_comes_up_without_its_workloads_and_takes_them_in_later() {
    if !able("late workloads") {
        return;
    }
    let built = tempfile::tempdir().unwrap();
    let generation = open(&build(built.path(), "one", &allowing("udp/3001")), "n1");
    alone(|| {
        let kept = tempfile::tempdir().unwrap();
        let state = State::new(kept.path());
        sh(
            "ip link set dev lo up; ip link add name eth0 type veth peer name there; ip link set dev eth0 up; ip link set dev there up",
        );
        let first = install::apply(&state, Some(&generation), &mut |_| {}).unwrap();
        let missing: Vec<&str> = first.left.iter().map(|d| d.what.as_str()).collect();
        assert_eq!(missing, ["tap-a", "tap-b"]);
        assert!(!first.stuck() && first.notes.iter().any(|n| n.contains("device tap-a is not there")));
        sh("ip link delete dev eth0");
        let (_a, _b) = workloads();
        // Closed by name until it is taken in.
        assert!(sh("nft list chain inet partywall raw").contains("tap-a"));
        let again = install::apply(&state, None, &mut |_| {}).unwrap();
        assert!(again.left.is_empty() && !again.changed, "{again:#?}");
        assert!(install::audit(&state).unwrap().clean);
    });
}

/// Everything that is not as `build` wrote it is refused before anything happens, with the file and what is wrong.
#[test]
fn what_is_not_as_it_was_built_is_refused() {
    let built = tempfile::tempdir().unwrap();
    let folder = build(built.path(), "one", &allowing(&format!("udp/{}", ALWAYS + 1)));
    let manifest = std::fs::read_to_string(folder.join("manifest.json")).unwrap();
    let refused = |dir: &Path, node: Option<&str>, says: &str| {
        let error = Generation::open(dir, node).unwrap_err().to_string();
        assert!(error.contains(says), "expected `{says}` in: {error}");
    };
    let with = |change: &dyn Fn(&str) -> String, says: &str| {
        std::fs::write(folder.join("manifest.json"), change(&manifest)).unwrap();
        refused(&folder, Some("n1"), says);
        std::fs::write(folder.join("manifest.json"), &manifest).unwrap();
    };
    open(&folder, "n1");
    open(&folder.join("n1"), "n1");
    refused(&folder, None, "name one with --node");
    refused(&folder, Some("n7"), "was made for nodes n1, n2, and none of them is n7");
    refused(&folder.join("n1"), Some("n2"), "none of them is n2");
    refused(&folder.join("n1/nft"), None, "it has no manifest.json");
    refused(&built.path().join("nowhere"), None, "cannot read");
    for cut in [0, 1, manifest.len() / 3, manifest.len() - 3] {
        with(&|m| m[..cut].to_owned(), "it is cut short");
    }
    with(&|_| "[1, 2]".to_owned(), "it is no manifest");
    with(&|_| "\u{0}\u{1}".to_owned(), "it is no manifest");
    with(
        &|m| m.replace(r#""format_version": "1.0""#, r#""format_version": "2.0""#),
        "format_version is \"2.0\"",
    );
    with(
        &|m| m.replace("n1/nft/base.nft", "n1/nft/../../../etc/passwd"),
        "does not lie in the folder of node n1",
    );
    with(&|m| m.replace("n1/nft/base.nft", "/etc/passwd"), "does not lie in the folder of node n1");
    with(&|m| m.replace("n1/nft/base.nft", "n2/nft/base.nft"), "does not lie in the folder of node n1");
    with(&|m| m.replace("n1/nft/base.nft", "n1/nft/.base.nft"), "does not lie in the folder of node n1");
    with(&|m| m.replace("n1/nft/base.nft", "n1/nft/a b\\n"), "does not lie in the folder of node n1");
    with(&|m| m.replace("n1/nft/base.nft", "n1/nft/other.nft"), "cannot read");
    with(&|m| m.replace("n1/nft/base.nft", "n1/maps/base.nft"), "it lists no n1/nft/base.nft");
    // A minor version may add fields.
    let newer = manifest.replace(r#""format_version": "1.0""#, r#""format_version": "1.7", "more": [1]"#);
    std::fs::write(folder.join("manifest.json"), newer).unwrap();
    open(&folder, "n1");
    std::fs::write(folder.join("manifest.json"), &manifest).unwrap();

    for part in ["apply.sh", "stage.nft", "routes.batch"] {
        let path = folder.join("n1/nft").join(part);
        let bytes = std::fs::read(&path).unwrap();
        for changed in [Vec::new(), bytes[..bytes.len() / 2].to_vec(), [&bytes[..], b"\n"].concat()] {
            std::fs::write(&path, changed).unwrap();
            refused(&folder, Some("n1"), &format!("{part}: the manifest names a digest"));
        }
        std::fs::remove_file(&path).unwrap();
        refused(&folder, Some("n1"), "cannot read");
        let elsewhere = folder.join("elsewhere");
        std::fs::write(&elsewhere, &bytes).unwrap();
        std::os::unix::fs::symlink(&elsewhere, &path).unwrap();
        refused(&folder, Some("n1"), "cannot read");
        std::fs::remove_file(&path).unwrap();
        std::fs::create_dir(&path).unwrap();
        refused(&folder, Some("n1"), "this is no regular file");
        std::fs::remove_dir(&path).unwrap();
        std::fs::write(&path, &bytes).unwrap();
    }
    open(&folder, "n1");
}

#[test]
fn what_was_kept_is_verified_too() {
    if !able("kept files") {
        return;
    }
    let built = tempfile::tempdir().unwrap();
    let one = open(&build(built.path(), "one", &allowing("udp/3001")), "n1");
    let two = open(&build(built.path(), "two", &allowing("udp/3002")), "n1");
    alone(|| {
        let _workloads = workloads();
        let kept = tempfile::tempdir().unwrap();
        let state = State::new(kept.path());
        install::apply(&state, Some(&one), &mut |_| {}).unwrap();
        install::apply(&state, Some(&two), &mut |_| {}).unwrap();
        let stage = kept.path().join("generations").join(&one.id).join("n1/nft/stage.nft");
        std::fs::write(&stage, "").unwrap();
        let error = install::rollback(&state, &mut |_| {}).unwrap_err().to_string();
        assert!(error.contains("stage.nft: the manifest names a digest"), "{error}");
        assert!(install::audit(&state).unwrap().clean, "the current one runs on");
        // Given again, it is kept anew.
        let done = install::apply(&state, Some(&one), &mut |_| {}).unwrap();
        assert!(done.changed && done.left.is_empty());

        let record = kept.path().join("state.json");
        let text = std::fs::read_to_string(&record).unwrap();
        for (broken, says) in [
            (text.replace(&one.id, "../../../../etc"), "is no generation's name"),
            (text.replace("\"1.0\"", "\"3.0\""), "format_version is \"3.0\""),
            (text[..text.len() / 2].to_owned(), "this is no record of generations"),
        ] {
            std::fs::write(&record, broken).unwrap();
            let error = install::apply(&state, None, &mut |_| {}).unwrap_err().to_string();
            assert!(error.contains(says), "{error}");
            assert!(status(&state).is_err());
        }
        std::fs::write(&record, text).unwrap();
        assert!(install::audit(&state).unwrap().clean);
    });
}

#[test]
fn a_full_disk_loses_nothing() {
    if !able("full disk") {
        return;
    }
    let built = tempfile::tempdir().unwrap();
    let one = open(&build(built.path(), "one", &allowing("udp/3001")), "n1");
    let two = open(&build(built.path(), "two", &allowing("udp/3002")), "n1");
    let disk = tempfile::tempdir().unwrap();
    let place = disk.path().display().to_string();
    sh(&format!("mount -t tmpfs -o size=192k tmpfs {place}"));
    let outcome = std::panic::catch_unwind(|| {
        alone(|| {
            let _workloads = workloads();
            let state = State::new(disk.path());
            install::apply(&state, Some(&one), &mut |_| {}).unwrap();
            let mut refusals = 0;
            // From no room at all to enough, in steps of a page.
            sh(&format!("head -c 1m /dev/zero >{place}/filler 2>/dev/null || :"));
            loop {
                let outcome = install::apply(&state, Some(&two), &mut |_| {});
                let Err(error) = outcome else { break };
                refusals += 1;
                assert!(error.to_string().contains("No space left"), "{error}");
                let record = state.read().unwrap();
                let current = state.load(record.current.as_ref().unwrap()).unwrap();
                let runs = audit(&current, &[]).unwrap();
                let other = audit(&two, &[]).unwrap();
                assert!(runs.clean || other.clean, "{}", runs.text());
                let size = std::fs::metadata(disk.path().join("filler")).map_or(0, |m| m.len());
                assert!(size > 0, "{error}");
                let file = std::fs::OpenOptions::new().write(true).open(disk.path().join("filler")).unwrap();
                file.set_len(size.saturating_sub(8192)).unwrap();
            }
            assert!(refusals > 1, "{refusals}");
            assert!(install::audit(&state).unwrap().clean);
            assert_eq!(state.read().unwrap().current.unwrap().id, two.id);
        });
    });
    sh(&format!("umount {place}"));
    outcome.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
}

#[test]
fn calls_at_the_same_time_wait_for_one_another() {
    if !able("calls at the same time") {
        return;
    }
    let built = tempfile::tempdir().unwrap();
    let generations: Vec<Generation> = ["udp/3001", "udp/3002", "udp/3003"]
        .map(|service| open(&build(built.path(), &service.replace('/', "-"), &allowing(service)), "n1"))
        .into();
    alone(|| {
        let _workloads = workloads();
        let kept = tempfile::tempdir().unwrap();
        let state = State::new(kept.path());
        let calls: Vec<install::Installed> = std::thread::scope(|scope| {
            let calls: Vec<_> = generations
                .iter()
                .map(|g| scope.spawn(|| install::apply(&state, Some(g), &mut |_| {}).unwrap()))
                .collect();
            calls.into_iter().map(|c| c.join().unwrap()).collect()
        });
        assert!(calls.iter().all(|c| c.changed && c.left.is_empty() && c.mended.is_empty()), "{calls:#?}");
        assert!(install::audit(&state).unwrap().clean);
        assert_eq!(state.read().unwrap().earlier.len(), 2);
        // Who looks meanwhile sees one generation or the other, whole, and no call that was cut short.
        let looks = std::thread::scope(|scope| {
            let caller = scope.spawn(|| {
                for generation in generations.iter().cycle().take(6) {
                    // For a call that waits to have its turn.
                    std::thread::sleep(Duration::from_millis(100));
                    install::apply(&state, Some(generation), &mut |_| {}).unwrap();
                }
            });
            let mut looks = 0;
            while !caller.is_finished() {
                let seen = status(&state).unwrap();
                assert!(seen.ok(), "{}", seen.text());
                let seen = install::audit(&state).unwrap();
                assert!(seen.clean, "{}", seen.text());
                looks += 1;
                std::thread::sleep(Duration::from_millis(100));
            }
            looks
        });
        assert!(looks > 1, "{looks}");
    });
}

/// A setting of one workload's device is no reason to refuse the rest of the node its policy.
#[test]
fn devices_without_ipv6_are_left_out() {
    if !able("devices without IPv6") {
        return;
    }
    let built = tempfile::tempdir().unwrap();
    let one = open(&build(built.path(), "one", &allowing("udp/3001")), "n1");
    let six = allowing("udp/3002")
        .replace("{ 10.1.0.0/24 }", "{ 10.1.0.0/24, 2001:db8:1::/64 }")
        .replace("at 10.1.0.5 ", "at 10.1.0.5, 2001:db8:1::5 ");
    let six = open(&build(built.path(), "six", &six), "n1");
    alone(|| {
        let _workloads = workloads();
        let kept = tempfile::tempdir().unwrap();
        let state = State::new(kept.path());
        sh(
            "for s in default tap-a; do echo 1 >/proc/sys/net/ipv6/conf/$s/disable_ipv6; done; ip link set dev tap-b mtu 1200",
        );
        let done = install::apply(&state, Some(&one), &mut |_| {}).unwrap();
        assert!(
            done.changed && done.left.is_empty() && done.notes.is_empty(),
            "no packet needs it: {done:#?}"
        );
        let done = install::apply(&state, Some(&six), &mut |_| {}).unwrap();
        let left: Vec<&str> = done.left.iter().map(|d| d.what.as_str()).collect();
        assert!(done.changed && !done.stuck(), "{done:#?}");
        assert_eq!(left, ["pwv10010 IPv6", "tap-a IPv6"]);
        assert!(done.notes.iter().any(|n| n.contains("device tap-a has no IPv6")), "{:#?}", done.notes);
        sh(
            "for s in default tap-a pwv10010; do echo 0 >/proc/sys/net/ipv6/conf/$s/disable_ipv6; done; ip link set dev tap-b mtu 1500",
        );
        let done = install::apply(&state, None, &mut |_| {}).unwrap();
        assert!(done.left.is_empty() && done.notes.is_empty(), "{done:#?}");
        assert!(install::audit(&state).unwrap().clean);
    });
}

/// By hand, as somebody may whose shell is set up otherwise than a service's.
#[test]
fn the_script_minds_no_surroundings() {
    if !able("surroundings") {
        return;
    }
    let built = tempfile::tempdir().unwrap();
    let folder = build(built.path(), "a folder", &allowing("udp/3001"));
    let generation = open(&folder, "n1");
    alone(|| {
        let _workloads = workloads();
        let at = built.path().display().to_string();
        sh("ip link delete dev tap-b; ip link set dev tap-a alias \"$(printf 'a\\nb')\"");
        // Another folder of that name, a standard error that is closed, settings that are right and cannot be written.
        sh(&format!(
            "mkdir -p '{at}/other/a folder/n1/nft'; cd '{at}'; CDPATH='{at}/other' sh 'a folder/n1/nft/apply.sh'"
        ));
        assert!(audit(&generation, &[]).unwrap().differences.iter().all(|d| d.what == "tap-b"));
        sh("nft flush chain inet partywall flip_raw");
        sh(&format!("cd '{at}/a folder/n1/nft'; sh ./apply.sh <&- >&- 2>&-"));
        let left: Vec<String> =
            audit(&generation, &[]).unwrap().differences.into_iter().map(|d| d.what).collect();
        assert_eq!(left, ["tap-b"]);
        let fixed = "mount --bind /proc/sys /proc/sys && mount -o remount,ro,bind /proc/sys";
        let run = format!("unshare -m sh -c \"{fixed} && sh '{at}/a folder/n1/nft/apply.sh' 2>&1\"");
        sh(&run);
        sh("echo 1 >/proc/sys/net/ipv4/conf/tap-a/rp_filter");
        let said = sh(&format!("{run} || :"));
        assert!(said.contains("tap-a/rp_filter cannot be written, and should be 0"), "{said}");
    });
}

#[test]
fn what_older_generations_wrote_on_others_devices_goes_and_what_others_wrote_stays() {
    if !able("others' devices") {
        return;
    }
    let built = tempfile::tempdir().unwrap();
    let text = allowing("udp/3001");
    let one = open(&build(built.path(), "one", &text), "n1");
    let two = open(&build(built.path(), "two", &text.replace("at 10.1.0.6 ", "at 10.1.0.66 ")), "n1");
    alone(|| {
        let _workloads = workloads();
        let kept = tempfile::tempdir().unwrap();
        let state = State::new(kept.path());
        install::apply(&state, Some(&one), &mut |_| {}).unwrap();
        sh(
            "ip neighbour add 10.9.9.9 lladdr 02:00:00:00:00:09 dev tap-b nud permanent; ip neighbour add 10.9.9.8 lladdr 02:00:00:00:00:08 dev eth0 nud permanent",
        );
        sh(
            "ip rule add preference 5 iif eth0 lookup main; nft add table inet mine; ip route add 10.8.0.0/16 dev eth0",
        );
        let done = install::apply(&state, Some(&two), &mut |_| {}).unwrap();
        let mended: Vec<&str> = done.mended.iter().map(|d| d.what.as_str()).collect();
        assert_eq!(mended, ["10.1.0.6 dev tap-b"]);
        let left: Vec<&str> = done.left.iter().map(|d| d.what.as_str()).collect();
        assert_eq!(left, ["10.9.9.9 dev tap-b"]);
        assert!(!done.stuck());
        let there =
            sh("ip neighbour show dev tap-b; ip neighbour show dev eth0; ip rule; nft list tables; ip route");
        for kept in ["10.1.0.66", "10.9.9.9", "10.9.9.8", "iif eth0", "inet mine", "10.8.0.0/16"] {
            assert!(there.contains(kept), "{kept} in {there}");
        }
        assert!(!there.contains("10.1.0.6 "), "{there}");
    });
}
