//! A node of the eBPF target: installed, shown, compared, taken back, gone over to and from the nft target, with real packets.

#[path = "ebpf_node/ground.rs"]
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

use ground::{Ground, build, ready, tcp, with_sometimes, without};
use lab_support::Fleet;
use pair::{ALWAYS, B, Workload, workloads};
use partywall_node::generation::Target;
use partywall_node::install;
use partywall_node::status::status;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};
use support::{alone, sh};
use traffic::{Stream, Tally, flooded};

const SOMETIMES: u16 = ground::SOMETIMES;

#[test]
fn a_generation_is_installed_again_and_taken_back() {
    if !ready("eBPF apply") {
        return;
    }
    let built = tempfile::tempdir().unwrap();
    let one = build(built.path(), "one", &with_sometimes(), Fleet::Ebpf);
    let two = build(built.path(), "two", &without(), Fleet::Ebpf);
    assert_eq!(one.target, Target::Ebpf);
    alone(|| {
        let (a, b) = workloads();
        let ground = Ground::new("again");
        let state = &ground.state;
        let first = install::apply(state, Some(&one), &mut |_| {}).unwrap();
        assert!(first.changed && first.left.is_empty() && first.mended.is_empty(), "{first:#?}");
        assert!(install::audit(state).unwrap().clean, "{}", install::audit(state).unwrap().text());
        assert!(tcp(&a, &b, ALWAYS) && tcp(&a, &b, SOMETIMES) && !tcp(&a, &b, 4000));
        // The same again changes nothing.
        let before = ground.kernel();
        let again = install::apply(state, Some(&one), &mut |_| {}).unwrap();
        assert!(!again.changed && again.mended.is_empty() && again.left.is_empty(), "{again:#?}");
        assert_eq!(ground.kernel(), before);
        let shown = status(state).unwrap();
        assert!(shown.ok(), "{}", shown.text());
        let count =
            |name: &str| shown.rules.iter().filter(|r| r.name.contains(name)).map(|r| r.packets).sum::<u64>();
        assert!(count("app") > 3, "{}", shown.text());
        let drops: u64 = shown.drops.iter().map(|d| d.packets).sum();
        assert!(drops > 0, "{}", shown.text());
        // Another one, and back.
        let other = install::apply(state, Some(&two), &mut |_| {}).unwrap();
        assert!(other.changed && other.left.is_empty(), "{other:#?}");
        assert!(tcp(&a, &b, ALWAYS) && !tcp(&a, &b, SOMETIMES));
        assert!(install::audit(state).unwrap().clean, "{}", install::audit(state).unwrap().text());
        let back = install::rollback(state, &mut |_| {}).unwrap();
        assert!(back.changed && back.left.is_empty() && back.entry.id == one.id, "{back:#?}");
        assert!(tcp(&a, &b, SOMETIMES));
        assert!(install::audit(state).unwrap().clean, "{}", install::audit(state).unwrap().text());
    });
}

#[test]
fn what_is_denied_is_cut_and_the_rest_goes_on() {
    if !ready("eBPF revocation") {
        return;
    }
    let built = tempfile::tempdir().unwrap();
    let one = build(built.path(), "one", &with_sometimes(), Fleet::Ebpf);
    let two = build(built.path(), "two", &without(), Fleet::Ebpf);
    alone(|| {
        let (a, b) = workloads();
        let ground = Ground::new("cut");
        let state = &ground.state;
        install::apply(state, Some(&one), &mut |_| {}).unwrap();
        let (revoked, other) = (Stream::open(&a, &b, SOMETIMES), Stream::open(&a, &b, ALWAYS));
        std::thread::sleep(Duration::from_millis(300));
        let count = |stream: &Stream| stream.arrived.load(Ordering::Relaxed);
        assert!(count(&revoked) > 0 && count(&other) > 0);
        install::apply(state, Some(&two), &mut |_| {}).unwrap();
        let (cut, on) = (count(&revoked), count(&other));
        std::thread::sleep(Duration::from_secs(2));
        assert_eq!(count(&revoked), cut, "a revoked connection goes on");
        assert!(count(&other) > on, "the other does not");
        revoked.close();
        other.close();
    });
}

/// Nft to eBPF and back under packets: nothing denied arrives at any moment. Both workloads are on this node, so that nothing
/// need be lost either.
#[test]
fn a_node_goes_over_to_the_other_target_and_back() {
    if !ready("change of target") {
        return;
    }
    let built = tempfile::tempdir().unwrap();
    let nft = build(built.path(), "nft", &with_sometimes(), Fleet::Nft);
    let ebpf = build(built.path(), "ebpf", &with_sometimes(), Fleet::Ebpf);
    alone(|| {
        let (a, b) = workloads();
        let ground = Ground::new("over");
        let state = &ground.state;
        install::apply(state, Some(&nft), &mut |_| {}).unwrap();
        let tally = Tally::default();
        flooded(&a, &b, Duration::from_millis(1), &tally, || {
            for _ in 0..3 {
                let to = install::apply(state, Some(&ebpf), &mut |_| {}).unwrap();
                assert!(to.changed && to.left.is_empty() && to.mended.is_empty(), "{to:#?}");
                assert!(!sh("nft list tables").contains("inet partywall\n"), "{}", sh("nft list tables"));
                assert!(!sh("ip -4 rule show; ip -6 rule show").contains("proto 87"));
                assert!(install::audit(state).unwrap().clean, "{}", install::audit(state).unwrap().text());
                assert!(tcp(&a, &b, SOMETIMES) && !tcp(&a, &b, 4000));
                let to = install::rollback(state, &mut |_| {}).unwrap();
                assert!(to.changed && to.left.is_empty(), "{to:#?}");
                assert!(install::audit(state).unwrap().clean, "{}", install::audit(state).unwrap().text());
                assert!(!ground.pins().join("maps").exists() && !sh("ip link show").contains("pwvx"));
                assert!(tcp(&a, &b, SOMETIMES) && !tcp(&a, &b, 4000));
            }
        });
        let [sent, allowed, denied] =
            [&tally.sent, &tally.allowed, &tally.denied].map(|n| n.load(Ordering::Relaxed));
        println!(
            "6 changes of target, {sent} packets each way to judge: {allowed} allowed arrived, {denied} denied"
        );
        assert_eq!(denied, 0, "delivered");
        assert!(sent > 500, "{sent}");
        assert_eq!(sent - allowed, 0, "lost");
    });
}

/// The loader of nodes without partywall, before and after it, and programs attached by filters.
#[test]
fn load_sh_and_apply_take_over_from_each_other() {
    if !ready("load.sh") {
        return;
    }
    let built = tempfile::tempdir().unwrap();
    let one = build(built.path(), "one", &with_sometimes(), Fleet::Ebpf);
    let two = build(built.path(), "two", &without(), Fleet::Ebpf);
    alone(|| {
        let (a, b) = workloads();
        for clsact in [false, true] {
            let ground = Ground::hooked("loadsh", clsact);
            let state = &ground.state;
            let script = |name: &str| {
                sh(&format!(
                    "PARTYWALL_BPF={} sh {}/{name}/n1/ebpf/load.sh",
                    ground.pins().display(),
                    built.path().display()
                ))
            };
            script("one");
            assert!(tcp(&a, &b, SOMETIMES));
            let taken = install::apply(state, Some(&one), &mut |_| {}).unwrap();
            assert!(!taken.changed && taken.left.is_empty(), "{taken:#?}");
            assert!(install::audit(state).unwrap().clean, "{}", install::audit(state).unwrap().text());
            script("two");
            assert!(tcp(&a, &b, ALWAYS) && !tcp(&a, &b, SOMETIMES));
            assert!(!status(state).unwrap().ok());
            let taken = install::apply(state, Some(&two), &mut |_| {}).unwrap();
            assert!(taken.left.is_empty(), "{taken:#?}");
            let filters = sh("tc filter show dev tap-a ingress");
            assert_eq!(filters.contains("pw_workload"), clsact, "{filters}");
            assert!(install::audit(state).unwrap().clean, "{}", install::audit(state).unwrap().text());
            assert!(status(state).unwrap().ok());
            install::apply(state, Some(&one), &mut |_| {}).unwrap();
            assert!(tcp(&a, &b, SOMETIMES));
            assert!(install::audit(state).unwrap().clean, "{}", install::audit(state).unwrap().text());
            ground.clear();
        }
    });
}

/// Workloads that leave stay closed, those that come are taken in, and what is gone leaves nothing.
#[test]
fn devices_come_and_go() {
    if !ready("devices") {
        return;
    }
    let built = tempfile::tempdir().unwrap();
    let one = build(built.path(), "one", &with_sometimes(), Fleet::Ebpf);
    let left = build(
        built.path(),
        "left",
        &with_sometimes().replace("on n1 dev tap-b", "on n2 dev tap-b"),
        Fleet::Ebpf,
    );
    alone(|| {
        let (a, b) = workloads();
        let ground = Ground::new("come");
        let state = &ground.state;
        install::apply(state, Some(&one), &mut |_| {}).unwrap();
        assert!(tcp(&a, &b, ALWAYS));
        install::apply(state, Some(&left), &mut |_| {}).unwrap();
        assert!(install::audit(state).unwrap().clean, "{}", install::audit(state).unwrap().text());
        // Its workload reaches neither another one nor the machine.
        sh("ip address add 203.0.113.1/24 dev eth0; sysctl -qw net.ipv4.ip_forward=1");
        let ping = |to: &str| {
            b.enter(|| {
                std::process::Command::new("ping").args(["-c1", "-W1", to]).output().unwrap().status.success()
            })
        };
        assert!(!tcp(&b, &a, ALWAYS) && !ping("203.0.113.1") && !ping("192.0.2.11"));
        install::apply(state, Some(&one), &mut |_| {}).unwrap();
        assert!(tcp(&a, &b, ALWAYS) && !ping("203.0.113.1"));
        // Gone, and there again under another number.
        drop(b);
        let until = Instant::now() + Duration::from_secs(5);
        while sh("ip -o link show").contains("tap-b") {
            assert!(Instant::now() < until);
            std::thread::sleep(Duration::from_millis(20));
        }
        let gone = install::apply(state, None, &mut |_| {}).unwrap();
        assert!(gone.notes.iter().any(|n| n.contains("tap-b")) && !gone.stuck(), "{gone:#?}");
        let b = Workload::new("tap-b", "02:00:00:00:01:06", B);
        // Before it is taken in it is closed by its name.
        assert!(!tcp(&b, &a, ALWAYS));
        let until_taken = b.enter(|| {
            std::process::Command::new("ping")
                .args(["-c1", "-W1", "169.254.1.1"])
                .output()
                .unwrap()
                .status
                .success()
        });
        assert!(!until_taken);
        let taken = install::apply(state, None, &mut |_| {}).unwrap();
        assert!(taken.left.is_empty(), "{taken:#?}");
        assert!(tcp(&a, &b, ALWAYS));
        assert!(install::audit(state).unwrap().clean, "{}", install::audit(state).unwrap().text());
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
    if !ready("eBPF doctor") {
        return;
    }
    let built = tempfile::tempdir().unwrap();
    let one = build(built.path(), "one", &with_sometimes(), Fleet::Ebpf);
    alone(|| {
        let _workloads = workloads();
        let nowhere = tempfile::tempdir().unwrap();
        let look = || {
            let found = partywall_node::doctor::doctor(Some(&one), nowhere.path()).unwrap();
            found.findings.into_iter().filter(|f| f.subject == "program").collect::<Vec<_>>()
        };
        assert!(look().is_empty(), "{:?}", look());
        let ground = Ground::new("doctor");
        install::apply(&ground.state, Some(&one), &mut |_| {}).unwrap();
        assert!(look().is_empty(), "{:?}", look());
        let object = &one.program().unwrap().listing.object;
        let base = partywall_node::ebpf::base::Base::current(ground.pins(), object).unwrap().unwrap();
        let ifindex: u32 = sh("ip -o link show dev tap-a").split(':').next().unwrap().parse().unwrap();
        // A program of the same kind under another name.
        let other = ground::other_program();
        let link = partywall_node::ebpf::tcx::first(&other, ifindex).unwrap();
        let found = look();
        assert!(found.len() == 1 && found[0].message.contains("tap-a"), "{found:?}");
        drop((link, base));
        assert!(look().is_empty());
    });
}
