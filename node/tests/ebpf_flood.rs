//! One tenant opens connections until its share of the node's is full: it gets no more, and nobody else notices.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test that fails says where"
)]

#[path = "injection/frames.rs"]
#[expect(dead_code, reason = "each test uses a part")]
mod frames;
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

use frames::{Fields, Twist};
use ground::{Ground, build, ready, tcp};
use lab_support::Fleet;
use pair::{A, ALWAYS, B, Workload, project, workloads};
use partywall_node::ebpf::pins;
use partywall_node::install;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};
use support::{alone, sh};
use traffic::{Stream, inject, injector, longest_silence};

/// What the documentation says that a tenant may have on a node.
const SHARE: u64 = 65_536;
/// The flood's destination ports; nobody answers there.
const FLOODED: u16 = 20_000;
/// Source ports of each of them.
const SOURCES: u16 = 30_000;
/// Where the other tenant's new connections go.
const NEXT: u16 = ALWAYS + 1;
/// More connections than two tenants' shares are.
const CONNECTIONS: u64 = 150_000;
/// New connections of the other tenant, one after the other, while the flood goes on.
const NEW: u64 = 20;

/// Frames that each open a connection, in turn, until told to stop and at least `CONNECTIONS`; how many.
fn flood(socket: &OwnedFd, sent: &AtomicU64, stop: &AtomicBool) {
    let router = backends::linux::numbers::router_mac("192.0.2.11".parse().unwrap());
    while !stop.load(Ordering::Relaxed) || sent.load(Ordering::Relaxed) < CONNECTIONS {
        let n = sent.fetch_add(1, Ordering::Relaxed);
        let x = 1024 + u16::try_from(n % u64::from(SOURCES)).unwrap();
        let y = FLOODED + u16::try_from(n / u64::from(SOURCES) % 10_000).unwrap();
        let fields = Fields { src: A.into(), dst: B.into(), protocol: 6, x, y };
        inject(socket, &frames::frame([2, 0, 0, 0, 1, 5], router, &fields, 0, Twist::None));
    }
}

#[test]
fn a_tenant_whose_share_is_full_takes_nothing_from_another() {
    if !ready("a flood of connections") {
        return;
    }
    let built = tempfile::tempdir().unwrap();
    let bank = format!(
        "tenant bank id 2 {{ segment front vni 10020 {{ 10.1.0.0/24 }} }}
endpoint d in bank.front {{ at {A} mac 02:00:00:00:02:05 on n1 dev tap-d }}
endpoint e in bank.front {{ at {B} mac 02:00:00:00:02:06 on n1 dev tap-e }}
policy bank for bank in tenant {{ allow front -> front : tcp/{ALWAYS}..{NEXT} }}"
    );
    let rule = format!("allow front -> front : tcp/{FLOODED}..65535");
    let generation = build(built.path(), "one", &project(&rule, &bank), Fleet::Ebpf);
    alone(|| {
        let (a, b) = workloads();
        let d = Workload::new("tap-d", "02:00:00:00:02:05", A);
        let e = Workload::new("tap-e", "02:00:00:00:02:06", B);
        // Neither answers nor resets: the connections stay.
        b.enter(|| {
            sh(&format!(
                "nft 'table inet quiet {{ chain in {{ type filter hook prerouting priority -400; tcp dport {FLOODED}-65535 drop; }}; }}'"
            ));
        });
        let ground = Ground::new("flood");
        let done = install::apply(&ground.state, Some(&generation), &mut |_| {}).unwrap();
        assert!(done.left.is_empty(), "{done:#?}");
        let dropped = || pins::reasons(ground.pins()).unwrap().get("ct-full").copied().unwrap_or_default();
        let (own, other) = (Stream::open(&a, &b, ALWAYS), Stream::open(&d, &e, ALWAYS));
        let socket = injector(&a);
        let (sent, stop, hush) = (AtomicU64::new(0), AtomicBool::new(false), AtomicBool::new(false));
        let begun = Instant::now();
        let (silences, refused) = std::thread::scope(|scope| {
            let sender = scope.spawn(|| flood(&socket, &sent, &stop));
            let watchers = [&own, &other].map(|stream| scope.spawn(|| longest_silence(stream, &hush)));
            // Whatever fails: the threads end.
            let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                while dropped() == 0 {
                    assert!(begun.elapsed() < Duration::from_secs(30), "the share is never full");
                    std::thread::sleep(Duration::from_millis(5));
                }
                (0..NEW).filter(|_| !tcp(&d, &e, NEXT)).count()
            }));
            stop.store(true, Ordering::Relaxed);
            sender.join().unwrap();
            hush.store(true, Ordering::Relaxed);
            let silences = watchers.map(|watcher| watcher.join().unwrap());
            (silences, outcome.unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
        });
        let (sent, full, took) = (sent.load(Ordering::Relaxed), dropped(), begun.elapsed());
        println!(
            "{sent} connections asked for in {took:?}: {full} refused; of {NEW} new ones of the other tenant {refused} were not made; streams were silent for {silences:?} at most"
        );
        // The stream is one of the share.
        assert_eq!(sent - full, SHARE - 1);
        assert_eq!(refused, 0);
        assert!(silences.iter().all(|silence| *silence < Duration::from_secs(1)), "{silences:?}");
        assert!(!tcp(&a, &b, ALWAYS), "a full share still takes connections");
        own.close();
        other.close();
    });
}
