//! Calls on an eBPF node that are killed at every step, refused, side by side, or without room on the disk: the old generation or
//! the new one runs, the next call finishes, nothing denied is delivered and nothing allowed is lost.

#[path = "node/child.rs"]
mod child;
#[path = "ebpf_node/ground.rs"]
#[expect(dead_code, reason = "each test uses a part")]
mod ground;
#[path = "node/kills.rs"]
mod kills;
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

use child::{Call, Child};
use ground::{SOMETIMES, Scene, both, on_a_node, without};
use kills::{Kills, stride};
use lab_support::Fleet;
use pair::ALWAYS;
use partywall_node::generation::Generation;
use partywall_node::install;
use partywall_node::{NodeError, status::status};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::Duration;
use support::{open, sh};
use traffic::{Tally, flooded};

/// Run by the tests below in a process of its own, never alone.
#[test]
fn child_that_applies() {
    child::applies();
}

fn killed_everywhere(test: &str, call: Call) {
    on_a_node(test, &both(), |scene| {
        scene.apply(0);
        let kills = Kills {
            state: scene.state(),
            of: [&scene.of[0], &scene.of[1]],
            dir: scene.folder(1),
            pins: Some(scene.ground.pins().to_owned()),
            running: &|| scene.running(),
            tools: &["nft", "ip", "tc"],
            stride: stride(3),
        };
        kills.under_traffic(&scene.a, &scene.b, call);
    });
}

#[test]
fn killed_at_every_step_the_next_call_finishes_and_nothing_denied_arrives() {
    killed_everywhere("kills on an eBPF node", Call::Apply);
}

#[test]
fn a_rollback_is_killed_at_every_step() {
    killed_everywhere("kills of rollback on an eBPF node", Call::Rollback);
}

/// Another node program, as an update of partywall brings: killed at every step, each device has the old program with the old
/// generation or the new one with the new generation.
#[test]
fn a_program_that_replaces_another_is_killed_at_every_step() {
    on_a_node("another program", &both(), |scene| {
        let dir = scene.folder(1);
        let two = other_program(&dir);
        let (state, pins) = (scene.state(), Some(scene.ground.pins()));
        scene.apply(0);
        let tally = Tally::default();
        let mut step = 1;
        flooded(&scene.a, &scene.b, Duration::from_millis(1), &tally, || {
            loop {
                let call = Call::Apply;
                let ended = Child { dir: &dir, state: state.root(), tools: None, step, pins, call }.run();
                let next = install::apply(state, Some(&two), &mut |_| {}).unwrap();
                assert!(next.left.is_empty(), "{next:#?}");
                scene.clean();
                assert!(scene.tcp(ALWAYS) && !scene.tcp(SOMETIMES), "step {step}");
                scene.apply(0);
                if ended {
                    break;
                }
                step += 1;
            }
        });
        assert!(step > 9, "{step}");
        tally.judge(&format!("{step} kills"));
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
    let elsewhere = (Fleet::Ebpf, without().replace("dev eth0", "dev eth9"));
    let texts = [both().as_slice(), &[elsewhere]].concat();
    on_a_node("refusals on an eBPF node", &texts, |scene| {
        let state = scene.state();
        let apply = |number: usize| install::apply(state, Some(&scene.of[number]), &mut |_| {});
        let one = &scene.of[0];
        scene.apply(0);
        let runs_on = |error: NodeError, says: &str| {
            let said = error.to_string();
            assert!(said.contains(says) && said.contains(&format!("{} runs on", one.suffix())), "{said}");
            let record = state.read().unwrap();
            assert!(record.current.unwrap().id == one.id && record.pending.is_none());
            assert!(scene.tcp(SOMETIMES));
            scene.clean();
        };
        runs_on(apply(2).unwrap_err(), "eth9 is not there");
        // Whoever is in the way where the VXLAN device belongs.
        sh(
            "ip link delete dev pwvx; ip link add name other type vxlan id 7 dstport 4789 && ip link set dev other up",
        );
        let error = apply(1).unwrap_err().to_string();
        assert!(error.contains("pwvx") && error.contains(one.suffix()), "{error}");
        sh("ip link delete dev other");
        let next = install::apply(state, None, &mut |_| {}).unwrap();
        assert!(next.left.is_empty(), "{next:#?}");
        assert!(status(state).unwrap().ok());
        scene.clean();
    });
}

#[test]
fn calls_side_by_side_wait_for_one_another() {
    on_a_node("concurrent calls on an eBPF node", &both(), |scene: Scene| {
        let state = scene.state();
        scene.apply(0);
        std::thread::scope(|scope| {
            let call = |number: usize| {
                let generation = &scene.of[number];
                scope.spawn(move || install::apply(state, Some(generation), &mut |_| {}))
            };
            for call in [0, 1, 0, 1].map(call) {
                let done = call.join().unwrap().unwrap();
                assert!(done.left.is_empty(), "{done:#?}");
            }
        });
        let current = state.read().unwrap().current.unwrap().id;
        assert_eq!(current, scene.of[scene.running()].id);
        scene.clean();
    });
}

#[test]
fn without_room_on_the_disk_the_old_generation_runs_on() {
    on_a_node("full disk on an eBPF node", &both(), |scene| {
        let disk = tempfile::tempdir().unwrap();
        // Room for one generation, whatever the object's size.
        let size: u64 = scene.of[0].program().unwrap().object.len() as u64 * 3 / 2;
        sh(&format!("mount -t tmpfs -o size={size} tmpfs {}", disk.path().display()));
        let state = partywall_node::state::State::new(disk.path().join("state"))
            .with_place(scene.state().place().clone());
        install::apply(&state, Some(&scene.of[0]), &mut |_| {}).unwrap();
        std::fs::set_permissions(disk.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
        let _ = std::fs::write(disk.path().join("filler"), vec![0; 1 << 20]);
        let refused = install::apply(&state, Some(&scene.of[1]), &mut |_| {});
        let (ran, audited) = (scene.running(), install::audit(&state).map(|a| a.clean));
        let works = scene.tcp(SOMETIMES);
        std::fs::remove_file(disk.path().join("filler")).unwrap();
        let next = install::apply(&state, None, &mut |_| {}).map(|i| i.left.is_empty());
        sh(&format!("umount -l {}", disk.path().display()));
        assert!(refused.unwrap_err().to_string().contains("cannot write"));
        assert!(ran == 0 && works && audited.unwrap() && next.unwrap());
    });
}
