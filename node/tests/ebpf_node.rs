//! A node of the eBPF target: installed, shown, compared, taken back, started again, with real packets.

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

use ground::{Ground, SOMETIMES, both, on_a_node, tcp, with_sometimes};
use lab_support::Fleet;
use libbpf_rs::MapCore as _;
use pair::{A, ALWAYS, B, Workload, project};
use partywall_node::ebpf::pins;
use partywall_node::generation::Target;
use partywall_node::install;
use partywall_node::status::status;
use std::net::{Ipv4Addr, UdpSocket};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};
use support::sh;
use traffic::Stream;

fn one() -> [(Fleet, String); 1] {
    [(Fleet::Ebpf, with_sometimes())]
}

/// Whether an address answers a workload.
fn answers(workload: &Workload, address: &str) -> bool {
    workload.enter(|| {
        let ping = std::process::Command::new("ping").args(["-c1", "-W1", address]).output();
        ping.unwrap().status.success()
    })
}

#[test]
fn a_generation_is_installed_again_and_taken_back() {
    on_a_node("eBPF apply", &both(), |scene| {
        let (state, one) = (scene.state(), &scene.of[0]);
        assert_eq!(one.target, Target::Ebpf);
        let first = scene.apply(0);
        assert!(first.changed && first.mended.is_empty(), "{first:#?}");
        assert!(scene.tcp(ALWAYS) && scene.tcp(SOMETIMES) && !scene.tcp(4000));
        // The same again changes nothing.
        let before = scene.ground.kernel();
        let again = scene.apply(0);
        assert!(!again.changed && again.mended.is_empty(), "{again:#?}");
        assert_eq!(scene.ground.kernel(), before);
        let shown = status(state).unwrap();
        assert!(shown.ok(), "{}", shown.text());
        let count =
            |name: &str| shown.rules.iter().filter(|r| r.name.contains(name)).map(|r| r.packets).sum::<u64>();
        assert!(count("app") > 3, "{}", shown.text());
        let drops: u64 = shown.drops.iter().map(|d| d.packets).sum();
        assert!(drops > 0, "{}", shown.text());
        // Another one, and back.
        assert!(scene.apply(1).changed);
        assert!(scene.tcp(ALWAYS) && !scene.tcp(SOMETIMES));
        let back = install::rollback(state, &mut |_| {}).unwrap();
        assert!(back.changed && back.left.is_empty() && back.entry.id == one.id, "{back:#?}");
        assert!(scene.tcp(SOMETIMES));
        scene.clean();
    });
}

/// After a reboot the BPF file system is empty and nothing is attached; the record is there.
#[test]
fn after_a_reboot_workloads_are_closed_until_the_generation_is_installed_again() {
    on_a_node("eBPF reboot", &both(), |scene| {
        let state = scene.state();
        scene.apply(1);
        scene.apply(0);
        assert!(scene.tcp(SOMETIMES));
        scene.ground.clear();
        sh(
            "nft flush ruleset; for d in tap-a tap-b; do ip address flush dev $d; ip link set dev $d address 02:00:00:00:77:77; done",
        );
        let shown = status(state).unwrap();
        assert!(!shown.ok() && shown.kernel.is_none(), "{}", shown.text());
        let found = install::audit(state).unwrap();
        assert!(found.differences.len() == 1 && !found.clean, "{}", found.text());
        // Nothing is between them, and the machine is no router without its generation.
        assert!(!scene.tcp(ALWAYS) && !scene.tcp(SOMETIMES) && !answers(&scene.a, "169.254.1.1"));
        // As the unit does.
        let done = install::apply(state, None, &mut |_| {}).unwrap();
        assert!(done.changed && done.left.is_empty() && done.entry.id == scene.of[0].id, "{done:#?}");
        scene.clean();
        assert!(status(state).unwrap().ok());
        assert!(scene.tcp(ALWAYS) && scene.tcp(SOMETIMES) && !scene.tcp(4000));
        // The way back is still known.
        let back = install::rollback(state, &mut |_| {}).unwrap();
        assert!(back.left.is_empty() && back.entry.id == scene.of[1].id, "{back:#?}");
        assert!(scene.tcp(ALWAYS) && !scene.tcp(SOMETIMES));
    });
}

/// Every packet counts for its rule, those of known connections too, and goes on counting for it in generations that have it. What
/// counted for the others goes, page by page.
#[test]
fn rules_count_over_generations() {
    const FIRST: u16 = 2000;
    const EACH: u16 = 150;
    const KEPT: u16 = 50;
    const SENT: u64 = 3;
    let with = |rules: u16| {
        let ports = FIRST..FIRST + rules;
        let lines: Vec<String> = ports.map(|port| format!("allow front -> front : udp/{port}")).collect();
        (Fleet::Ebpf, project(&lines.join("\n  "), ""))
    };
    on_a_node("eBPF counters", &[with(EACH), with(KEPT)], |scene| {
        let send = |rules: u16| {
            let ports = || FIRST..FIRST + rules;
            let bound = |workload: &Workload, at: Ipv4Addr| -> Vec<UdpSocket> {
                workload.enter(|| ports().map(|port| UdpSocket::bind((at, port)).unwrap()).collect())
            };
            let (from, to) = (bound(&scene.a, A), bound(&scene.b, B));
            for (port, (from, to)) in ports().zip(from.iter().zip(&to)) {
                to.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
                for _ in 0..SENT {
                    from.send_to(b"partywall", (B, port)).unwrap();
                    to.recv(&mut [0; 16]).unwrap();
                }
            }
        };
        // Packets and bytes, Ethernet headers included, of all the rules but the first.
        let counted = || -> Vec<(u64, u64)> {
            let mut rules = status(scene.state()).unwrap().rules;
            let number = |name: &str| name.rsplit('#').next().and_then(|n| n.parse::<u32>().ok()).unwrap();
            rules.sort_by_key(|rule| number(&rule.name));
            rules[1..].iter().map(|rule| (rule.packets, rule.bytes)).collect()
        };
        let times = |n: u64| (n * SENT, n * SENT * (14 + 20 + 8 + 9));
        let pages = || pins::map(scene.ground.pins(), "counts").unwrap().keys().count();
        scene.apply(0);
        send(EACH);
        assert_eq!(counted(), vec![times(1); EACH.into()]);
        assert_eq!(pages(), 3);
        scene.apply(1);
        send(KEPT);
        assert_eq!(counted(), vec![times(2); KEPT.into()]);
        // Places are given on the last one.
        assert_eq!(pages(), 2);
        scene.apply(0);
        send(EACH);
        let (kept, again) = (vec![times(3); KEPT.into()], vec![times(1); (EACH - KEPT).into()]);
        assert_eq!(counted(), [kept, again].concat());
    });
}

#[test]
fn what_is_denied_is_cut_and_the_rest_goes_on() {
    on_a_node("eBPF revocation", &both(), |scene| {
        scene.apply(0);
        let (a, b) = (&scene.a, &scene.b);
        let (revoked, other) = (Stream::open(a, b, SOMETIMES), Stream::open(a, b, ALWAYS));
        std::thread::sleep(Duration::from_millis(300));
        let count = |stream: &Stream| stream.arrived.load(Ordering::Relaxed);
        assert!(count(&revoked) > 0 && count(&other) > 0);
        scene.apply(1);
        let (cut, on) = (count(&revoked), count(&other));
        std::thread::sleep(Duration::from_secs(2));
        assert_eq!(count(&revoked), cut, "a revoked connection goes on");
        assert!(count(&other) > on, "the other does not");
        revoked.close();
        other.close();
    });
}

/// The loader of nodes without partywall, before and after it, and programs attached by filters.
#[test]
fn load_sh_and_apply_take_over_from_each_other() {
    on_a_node("load.sh", &both(), |scene| {
        for clsact in [false, true] {
            let ground = Ground::hooked("loadsh", clsact);
            let state = &ground.state;
            let script = |number: usize| {
                let (pins, folder) = (ground.pins().display(), scene.folder(number));
                sh(&format!("PARTYWALL_BPF={pins} sh {}/n1/ebpf/load.sh", folder.display()))
            };
            let apply = |number: usize| {
                let done = install::apply(state, Some(&scene.of[number]), &mut |_| {}).unwrap();
                assert!(done.left.is_empty(), "{done:#?}");
                let report = install::audit(state).unwrap();
                assert!(report.clean, "{}", report.text());
                done
            };
            script(0);
            assert!(scene.tcp(SOMETIMES));
            assert!(!apply(0).changed);
            script(1);
            assert!(scene.tcp(ALWAYS) && !scene.tcp(SOMETIMES));
            assert!(!status(state).unwrap().ok());
            apply(1);
            let filters = sh("tc filter show dev tap-a ingress");
            assert_eq!(filters.contains("pw_workload"), clsact, "{filters}");
            assert!(status(state).unwrap().ok());
            apply(0);
            assert!(scene.tcp(SOMETIMES));
            ground.clear();
        }
    });
}

/// Workloads that leave stay closed, those that come are taken in, and what is gone leaves nothing.
#[test]
fn devices_come_and_go() {
    let left = with_sometimes().replace("on n1 dev tap-b", "on n2 dev tap-b");
    on_a_node("devices", &[(Fleet::Ebpf, with_sometimes()), (Fleet::Ebpf, left)], |mut scene| {
        scene.apply(0);
        assert!(scene.tcp(ALWAYS));
        scene.apply(1);
        // Its workload reaches neither another one nor the machine.
        sh("ip address add 203.0.113.1/24 dev eth0; sysctl -qw net.ipv4.ip_forward=1");
        assert!(!tcp(&scene.b, &scene.a, ALWAYS));
        assert!(!answers(&scene.b, "203.0.113.1") && !answers(&scene.b, "192.0.2.11"));
        scene.apply(0);
        assert!(scene.tcp(ALWAYS) && !answers(&scene.b, "203.0.113.1"));
        // Gone, and there again under another number.
        scene.b = Workload::new("tap-again", "02:00:00:00:01:06", B);
        let until = Instant::now() + Duration::from_secs(5);
        while sh("ip -o link show").contains("tap-b") {
            assert!(Instant::now() < until);
            std::thread::sleep(Duration::from_millis(20));
        }
        let again = |scene: &ground::Scene| install::apply(scene.state(), None, &mut |_| {}).unwrap();
        let gone = again(&scene);
        assert!(gone.notes.iter().any(|n| n.contains("tap-b")) && !gone.stuck(), "{gone:#?}");
        sh("ip link set dev tap-again down; ip link set dev tap-again name tap-b up");
        // Before it is taken in it is closed by its name.
        assert!(!tcp(&scene.b, &scene.a, ALWAYS) && !answers(&scene.b, "169.254.1.1"));
        let taken = again(&scene);
        assert!(taken.left.is_empty(), "{taken:#?}");
        assert!(scene.tcp(ALWAYS));
        scene.clean();
    });
}

/// As `build --down` would have made it, and back.
#[test]
fn with_instances_down_a_generation_is_what_build_makes_of_it() {
    let built = tempfile::tempdir().unwrap();
    let root = format!("{}/../examples/02-datacenter", env!("CARGO_MANIFEST_DIR"));
    let project = lab_support::project(&lab_support::read(root.as_ref()));
    for (name, down) in [("whole", [].as_slice()), ("less", ["g2"].as_slice())] {
        Fleet::Ebpf.build(&project, down, &built.path().join(name));
    }
    let mut changed = 0;
    for node in project.compiled.model.nodes.values().map(|n| n.name.as_str()) {
        let [whole, less] = ["whole", "less"].map(|name| support::open(&built.path().join(name), node));
        let down = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        assert_eq!(whole.with_down(&down(&["g2"])).unwrap().id, less.id, "{node}");
        assert_eq!(less.with_down(&down(&[])).unwrap().id, whole.id, "{node}");
        changed += usize::from(whole.id != less.id);
    }
    assert!(changed > 0);
}

/// What `doctor` says of an eBPF node: nothing, until somebody's program comes before.
#[test]
fn a_program_before_ours_is_found() {
    on_a_node("eBPF doctor", &one(), |scene| {
        let nowhere = tempfile::tempdir().unwrap();
        let look = || {
            let found = partywall_node::doctor::doctor(Some(&scene.of[0]), nowhere.path()).unwrap();
            found.findings.into_iter().filter(|f| f.subject == "program").collect::<Vec<_>>()
        };
        assert!(look().is_empty(), "{:?}", look());
        scene.apply(0);
        assert!(look().is_empty(), "{:?}", look());
        let ifindex: u32 = sh("ip -o link show dev tap-a").split(':').next().unwrap().parse().unwrap();
        // A program of the same kind under another name.
        let other = ground::other_program();
        let link = partywall_node::ebpf::tcx::first(&other, ifindex).unwrap();
        let found = look();
        assert!(found.len() == 1 && found[0].message.contains("tap-a"), "{found:?}");
        drop(link);
        assert!(look().is_empty());
    });
}
