//! Calls on an eBPF node that are killed at every step, refused, side by side, or without room on the disk: the old generation or
//! the new one runs, the next call finishes, nothing denied is delivered and nothing allowed is lost.

#[path = "node/child.rs"]
mod child;
#[path = "ebpf_node/ground.rs"]
#[expect(dead_code, reason = "each test uses a part")]
mod ground;
#[path = "lab/support.rs"]
#[expect(dead_code, reason = "each test uses a part")]
mod lab_support;
#[path = "node/pair.rs"]
mod pair;
#[path = "node/support.rs"]
mod support;
#[path = "node/traffic.rs"]
#[expect(dead_code, reason = "each test uses a part")]
mod traffic;

use child::{Child, deadly};
use ground::{Ground, build, ready, tcp, with_sometimes, without};
use lab_support::Fleet;
use pair::{ALWAYS, workloads};
use partywall_node::ebpf::base;
use partywall_node::generation::Generation;
use partywall_node::install;
use partywall_node::{NodeError, status::status};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::atomic::Ordering;
use std::time::Duration;
use support::{alone, open, sh};
use traffic::{Tally, flooded};

/// Run by the tests below in a process of its own, never alone.
#[test]
fn child_that_applies() {
    child::applies();
}

/// Which of the two runs.
fn running(ground: &Ground, of: [&Generation; 2]) -> usize {
    let now = base::running(ground.pins()).unwrap().and_then(|r| r.generation);
    let which = of.iter().position(|g| Some(&g.digest) == now.as_ref());
    which.unwrap_or_else(|| panic!("neither runs: {now:?}"))
}

#[test]
fn killed_at_every_step_the_next_call_finishes_and_nothing_denied_arrives() {
    if !ready("kills on an eBPF node") {
        return;
    }
    let built = tempfile::tempdir().unwrap();
    let one = build(built.path(), "one", &with_sometimes(), Fleet::Ebpf);
    let two = build(built.path(), "two", &without(), Fleet::Ebpf);
    let tools = tempfile::tempdir().unwrap();
    deadly(tools.path(), &["nft", "ip", "tc"]);
    let set = |name: &str, value: &str| std::fs::write(tools.path().join(name), value).unwrap();
    let dir = built.path().join("two");
    alone(|| {
        let (a, b) = workloads();
        let ground = Ground::new("kill");
        let state = &ground.state;
        install::apply(state, Some(&one), &mut |_| {}).unwrap();
        let tally = Tally::default();
        let mut tried = 0;
        flooded(&a, &b, Duration::from_millis(1), &tally, || {
            let mut after_kill = |child: Child<'_>| {
                tried += 1;
                let ended = child.run();
                let which = running(&ground, [&one, &two]);
                let next = install::apply(state, Some(&two), &mut |_| {}).unwrap();
                assert!(!next.stuck() && next.left.is_empty(), "{next:#?}");
                assert_eq!(running(&ground, [&one, &two]), 1);
                let report = install::audit(state).unwrap();
                assert!(report.clean, "killed with {which} running: {}", report.text());
                let record = state.read().unwrap();
                assert!(record.current.unwrap().id == two.id && record.pending.is_none());
                install::apply(state, Some(&one), &mut |_| {}).unwrap();
                ended
            };
            let child = |tools, step| Child {
                dir: &dir,
                state: state.root(),
                tools,
                step,
                pins: Some(ground.pins()),
            };
            let mut step = 1;
            while !after_kill(child(None, step)) {
                step += 1;
            }
            assert!(step > 9, "{step}");
            for before in [true, false] {
                match before {
                    true => set("before", ""),
                    false => std::fs::remove_file(tools.path().join("before")).unwrap(),
                }
                let mut call = 1;
                loop {
                    set("count", "0");
                    set("fatal", &call.to_string());
                    if after_kill(child(Some(tools.path()), 0)) {
                        break;
                    }
                    call += 3;
                }
                assert!(call > 8, "only {call} calls of tools");
            }
        });
        let [sent, allowed, denied] =
            [&tally.sent, &tally.allowed, &tally.denied].map(|n| n.load(Ordering::Relaxed));
        println!(
            "{tried} kills, {sent} packets each way to judge: {allowed} allowed arrived, {denied} denied"
        );
        assert_eq!(denied, 0, "delivered");
        assert!(sent > 500 && allowed > 0, "{sent} {allowed}");
        assert_eq!(sent - allowed, 0, "allowed packets were lost");
    });
}

/// Another node program, as an update of partywall brings: killed at every step, each device has the old program with the old
/// generation or the new one with the new generation.
#[test]
fn a_program_that_replaces_another_is_killed_at_every_step() {
    if !ready("another program") {
        return;
    }
    let built = tempfile::tempdir().unwrap();
    let one = build(built.path(), "one", &with_sometimes(), Fleet::Ebpf);
    build(built.path(), "two", &without(), Fleet::Ebpf);
    let dir = built.path().join("two");
    let two = other_program(&dir);
    alone(|| {
        let (a, b) = workloads();
        let ground = Ground::new("program");
        let state = &ground.state;
        install::apply(state, Some(&one), &mut |_| {}).unwrap();
        let tally = Tally::default();
        let mut step = 1;
        flooded(&a, &b, Duration::from_millis(1), &tally, || {
            loop {
                let child =
                    Child { dir: &dir, state: state.root(), tools: None, step, pins: Some(ground.pins()) };
                let ended = child.run();
                let next = install::apply(state, Some(&two), &mut |_| {}).unwrap();
                assert!(next.left.is_empty(), "{next:#?}");
                let report = install::audit(state).unwrap();
                assert!(report.clean, "step {step}: {}", report.text());
                assert!(tcp(&a, &b, ALWAYS) && !tcp(&a, &b, ground::SOMETIMES));
                let back = install::apply(state, Some(&one), &mut |_| {}).unwrap();
                assert!(back.left.is_empty(), "{back:#?}");
                if ended {
                    break;
                }
                step += 1;
            }
        });
        let [sent, allowed, denied] =
            [&tally.sent, &tally.allowed, &tally.denied].map(|n| n.load(Ordering::Relaxed));
        println!(
            "{step} kills, {sent} packets each way to judge: {allowed} allowed arrived, {denied} denied"
        );
        assert!(step > 9 && sent > 500, "{step} {sent}");
        assert_eq!((denied, sent - allowed), (0, 0), "denied and delivered, allowed and lost");
    });
}

/// The files of `dir` with a program of another digest: one byte more at the end of the object, which nothing reads.
fn other_program(dir: &Path) -> Generation {
    let folder = dir.join("n1/ebpf");
    let read = |path: &Path| std::fs::read(path).unwrap();
    let digest = |path: &Path| blake3::hash(&read(path)).to_hex().to_string();
    let (object, listing, script, manifest) = (
        folder.join("partywall.bpf.o"),
        folder.join("maps.json"),
        folder.join("load.sh"),
        dir.join("manifest.json"),
    );
    let mut known = String::from_utf8(read(&manifest)).unwrap();
    let before = [&object, &listing, &script].map(|path| digest(path));
    std::fs::write(&object, [read(&object), vec![0]].concat()).unwrap();
    let text = String::from_utf8(read(&listing)).unwrap().replace(&before[0], &digest(&object));
    std::fs::write(&listing, text).unwrap();
    for (path, old) in [&object, &listing, &script].into_iter().zip(&before) {
        known = known.replace(old, &digest(path));
    }
    std::fs::write(&manifest, known).unwrap();
    open(dir, "n1")
}

#[test]
fn what_is_refused_leaves_the_old_generation_and_says_why() {
    if !ready("refusals on an eBPF node") {
        return;
    }
    let built = tempfile::tempdir().unwrap();
    let one = build(built.path(), "one", &with_sometimes(), Fleet::Ebpf);
    let two = build(built.path(), "two", &without(), Fleet::Ebpf);
    let elsewhere = build(built.path(), "three", &without().replace("dev eth0", "dev eth9"), Fleet::Ebpf);
    alone(|| {
        let (a, b) = workloads();
        let ground = Ground::new("refused");
        let state = &ground.state;
        install::apply(state, Some(&one), &mut |_| {}).unwrap();
        let runs_on = |error: NodeError, says: &str| {
            let said = error.to_string();
            assert!(said.contains(says) && said.contains(&format!("{} runs on", one.suffix())), "{said}");
            let record = state.read().unwrap();
            assert!(record.current.unwrap().id == one.id && record.pending.is_none());
            assert!(tcp(&a, &b, ground::SOMETIMES));
            let report = install::audit(state).unwrap();
            assert!(report.clean, "{}", report.text());
        };
        let refused = install::apply(state, Some(&elsewhere), &mut |_| {}).unwrap_err();
        runs_on(refused, "eth9 is not there");
        // Whoever is in the way where the VXLAN device belongs.
        sh(
            "ip link delete dev pwvx; ip link add name other type vxlan id 7 dstport 4789 && ip link set dev other up",
        );
        let error = install::apply(state, Some(&two), &mut |_| {}).unwrap_err().to_string();
        assert!(error.contains("pwvx") && error.contains(one.suffix()), "{error}");
        sh("ip link delete dev other");
        let next = install::apply(state, None, &mut |_| {}).unwrap();
        assert!(next.left.is_empty(), "{next:#?}");
        assert!(status(state).unwrap().ok() && install::audit(state).unwrap().clean);
    });
}

#[test]
fn calls_side_by_side_wait_for_one_another() {
    if !ready("concurrent calls on an eBPF node") {
        return;
    }
    let built = tempfile::tempdir().unwrap();
    let one = build(built.path(), "one", &with_sometimes(), Fleet::Ebpf);
    let two = build(built.path(), "two", &without(), Fleet::Ebpf);
    alone(|| {
        let _workloads = workloads();
        let ground = Ground::new("beside");
        let state = &ground.state;
        install::apply(state, Some(&one), &mut |_| {}).unwrap();
        std::thread::scope(|scope| {
            let calls: Vec<_> = [&one, &two, &one, &two]
                .into_iter()
                .map(|generation| scope.spawn(|| install::apply(state, Some(generation), &mut |_| {})))
                .collect();
            for call in calls {
                let done = call.join().unwrap().unwrap();
                assert!(done.left.is_empty(), "{done:#?}");
            }
        });
        let current = state.read().unwrap().current.unwrap().id;
        let which = running(&ground, [&one, &two]);
        assert_eq!(current, [&one.id, &two.id][which].clone());
        assert!(install::audit(state).unwrap().clean);
    });
}

#[test]
fn without_room_on_the_disk_the_old_generation_runs_on() {
    if !ready("full disk on an eBPF node") {
        return;
    }
    let built = tempfile::tempdir().unwrap();
    let one = build(built.path(), "one", &with_sometimes(), Fleet::Ebpf);
    let two = build(built.path(), "two", &without(), Fleet::Ebpf);
    alone(|| {
        let (a, b) = workloads();
        let ground = Ground::new("full");
        let disk = tempfile::tempdir().unwrap();
        sh(&format!("mount -t tmpfs -o size=600k tmpfs {}", disk.path().display()));
        let state = partywall_node::state::State::new(disk.path().join("state"))
            .with_place(ground.state.place().clone());
        install::apply(&state, Some(&one), &mut |_| {}).unwrap();
        std::fs::set_permissions(disk.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
        let _ = std::fs::write(disk.path().join("filler"), vec![0; 1 << 20]);
        let refused = install::apply(&state, Some(&two), &mut |_| {});
        let (ran, audited) = (running(&ground, [&one, &two]), install::audit(&state).map(|a| a.clean));
        let works = tcp(&a, &b, ground::SOMETIMES);
        std::fs::remove_file(disk.path().join("filler")).unwrap();
        let next = install::apply(&state, None, &mut |_| {}).map(|i| i.left.is_empty());
        sh(&format!("umount -l {}", disk.path().display()));
        assert!(refused.unwrap_err().to_string().contains("cannot write"));
        assert!(ran == 0 && works && audited.unwrap() && next.unwrap());
    });
}
