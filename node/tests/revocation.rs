//! Policies that change while packets are under way: what is revoked stops in every direction, what is allowed is not lost,
//! and what is denied is not let through. Where the machine lacks what a lab needs these tests say `SKIPPED` and what is
//! missing.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test that fails says where"
)]

#[path = "attacks/ground.rs"]
#[expect(dead_code, reason = "each test uses a part")]
mod ground;

use ground::frames::{self, Twist};
use ground::support::{self, run};
use ground::wire::{Arrivals, nft};
use ground::{FABRIC, Ground, POLICY, ip, one, reload, tcp, udp};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

#[test]
fn what_is_revoked_stops_within_a_second_in_both_directions() {
    let with = format!("{FABRIC}{POLICY}");
    let Some(g) = Ground::new("attack: revocation", &with) else { return };
    let without = with
        .replace("store: allow front -> data : tcp/5432 | udp/514", "store: allow front -> data : tcp/5432");
    let artifacts = tempfile::tempdir().unwrap();
    // The client asks once, then only the server sends; another connection of the same hosts goes on.
    let ask = udp("10.1.0.5", "10.1.1.9", 40_000, 514);
    let kept = tcp("10.1.0.5", "10.1.1.9", 40_000, 5432);
    let opened = g.volley(&[g.plain("web-1", "c1", &ask, 1), g.plain("web-1", "c1", &kept, 2)]);
    assert_eq!(opened.arrivals.packets.len(), 2);
    let push = |id| g.plain("db-1", "c3", &udp("10.1.1.9", "10.1.0.5", 514, 40_000), id);
    assert_eq!(g.volley(&[push(3)]).arrivals.packets.len(), 1);
    let quoted = g.plain("web-1", "c1", &ask, 6).1;
    let complaint = |id: u32| {
        let (mac, router) = (g.wires.mac(g.host("db-1")), g.router("c3"));
        let ends = (ip("10.1.1.9"), ip("10.1.0.5"));
        let mut quoted = quoted.clone();
        let at = quoted.len() - 4;
        quoted[at..].copy_from_slice(&id.to_be_bytes());
        (g.host("db-1"), frames::error(mac, router, ends, (3, 3), &quoted))
    };
    let errors = g.volley(&[complaint(6)]).arrivals.errors;
    assert_eq!(errors.iter().map(|(at, _)| *at).collect::<Vec<_>>(), [g.host("web-1")]);
    let number = AtomicU32::new(1_000);
    let (seen, stop) = (Mutex::new(Arrivals::default()), AtomicBool::new(false));
    let (done, last) = std::thread::scope(|scope| {
        scope.spawn(|| g.wires.watch(&seen, &stop));
        let pusher = scope.spawn(|| {
            let mut sent = Vec::new();
            while !stop.load(Ordering::Acquire) {
                let id = number.fetch_add(1, Ordering::Relaxed);
                let (place, frame) = push(id);
                sent.push((id, Instant::now()));
                g.wires.send(place, &frame);
                std::thread::sleep(Duration::from_millis(2));
            }
            sent
        });
        std::thread::sleep(Duration::from_millis(300));
        reload(&g, &without, &["c1", "c3"], artifacts.path());
        let done = Instant::now();
        std::thread::sleep(Duration::from_secs(2));
        stop.store(true, Ordering::Release);
        let sent = pusher.join().unwrap();
        let seen = seen.lock().unwrap();
        let late: Vec<Instant> =
            sent.iter().filter(|(id, _)| seen.packets.contains_key(id)).map(|(_, at)| *at).collect();
        assert!(sent.iter().any(|(_, at)| *at > done + Duration::from_secs(1)));
        assert!(late.len() > 50, "the server was heard before");
        assert!(seen.errors.is_empty(), "{:?}", seen.errors);
        (done, late.into_iter().max().unwrap())
    });
    assert!(last < done + Duration::from_secs(1), "heard {:?} after", last.duration_since(done));
    // Nor does an error that quotes it come through, which the server's host may send or make up.
    g.volley(&[complaint(7)]).only_dropped("c3", "default", 1);
    // The client cannot open it again; the other connection goes on.
    let again = g.volley(&[g.plain("web-1", "c1", &ask, 4)]);
    again.only_dropped("c1", "default", 1);
    let answer = g.plain("db-1", "c3", &tcp("10.1.1.9", "10.1.0.5", 5432, 40_000), 5);
    let flags = frames::frame(
        g.wires.mac(g.host("db-1")),
        g.router("c3"),
        &tcp("10.1.1.9", "10.1.0.5", 5432, 40_000),
        5,
        Twist::Flags(0x12),
    );
    assert_eq!(g.volley(&[(answer.0, flags)]).arrivals.packets.len(), 1, "an unrelated connection");
    println!("nothing later than {:?} after the reload", last.saturating_duration_since(done));
}

/// Port ranges of each kind.
const RANGES: u16 = 5_000;
/// Whole reloads of a node, all together.
const RELOADS: u32 = 200;

/// Thousands of interval elements, and as many packets as the machine sends between two nodes: what is allowed is not lost for
/// a reload of either, what is denied not let through.
#[test]
fn reloads_neither_lose_nor_leak() {
    let denied: Vec<String> =
        (0..RANGES).map(|n| 10_000 + 10 * n).map(|lo| format!("{lo}..{}", lo + 4)).collect();
    let text = |n: u32| {
        let list = denied.join(", ");
        format!(
            "{FABRIC}\npolicy shop-app for shop in tenant {{ deny front -> data : udp/{{{list}}} from 1024..65535  allow front -> data : udp/1..65535 from 1024..65535  allow front -> front : tcp/{n} }}"
        )
    };
    let Some(g) = Ground::new("attack: reloads", &text(1)) else { return };
    let folders = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    for (folder, n) in folders.iter().zip([1, 2]) {
        support::build(&one(&text(n)), folder.path());
        // On eBPF nodes intervals are classes of ports, in maps.
        let Ok(stage) = std::fs::read_to_string(folder.path().join("c1/nft/stage.nft")) else {
            assert!(g.ebpf("c1"));
            continue;
        };
        let elements = support::port_ranges(&stage);
        assert!(elements >= usize::from(RANGES), "{elements} interval elements");
    }
    // The kernel of the host at the end counts: no receiver can be too slow.
    let place = g.host("db-1");
    let endpoint = g.lab.topology.endpoints.iter().find(|e| e.dev == "tap-db1").unwrap();
    nft(
        &endpoint.netns,
        "table inet tally { counter allowed { }; counter denied { }; chain in { type filter hook prerouting priority -500; udp sport 9001 counter name allowed drop; udp sport 9002 counter name denied drop; }; }",
    );
    let counted = |kind: &str| -> u64 {
        let args = ["netns", "exec", &endpoint.netns, "nft", "list", "counter", "inet", "tally", kind];
        let text = run("ip", &args);
        let words: Vec<&str> = text.split_whitespace().collect();
        words[words.iter().position(|w| *w == "packets").unwrap() + 1].parse().unwrap()
    };
    let frames = |sport: u16, first: u16| -> Vec<Vec<u8>> {
        let to = |n: u16| udp("10.1.0.5", "10.1.1.9", sport, first + 100 * n);
        (0..RANGES / 10).map(|n| g.plain("web-1", "c1", &to(n), n.into()).1).collect()
    };
    let (open, shut) = (frames(9_001, 10_005), frames(9_002, 10_000));
    let from = g.host("web-1");
    assert!(from != place);
    // `load.sh` takes seconds beside a flood.
    let reloads = if g.ebpf("c1") || g.ebpf("c3") { RELOADS / 10 } else { RELOADS };
    let stop = AtomicBool::new(false);
    let (sent, lasted) = std::thread::scope(|scope| {
        let flood = scope.spawn(|| {
            let mut sent = 0u64;
            // In turn.
            while !stop.load(Ordering::Acquire) {
                for frame in open.iter().chain(&shut) {
                    g.wires.send(from, frame);
                }
                sent += open.len() as u64;
            }
            sent
        });
        let begun = Instant::now();
        let done = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            for n in 0..reloads {
                // Each node's next generation, the two of them in turn.
                let (node, folder) = ([("c1"), ("c3")][n as usize % 2], &folders[(n as usize / 2 + 1) % 2]);
                g.lab.apply(&g.p.compiled, g.node(node), folder.path()).unwrap();
            }
        }));
        let lasted = begun.elapsed();
        stop.store(true, Ordering::Release);
        let sent = flood.join().unwrap();
        done.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        (sent, lasted)
    });
    std::thread::sleep(Duration::from_millis(500));
    let (got, leaked) = (counted("allowed"), counted("denied"));
    println!(
        "{reloads} reloads in {lasted:?}: {sent} allowed, {sent} denied, {leaked} leaked, {} lost",
        sent - got
    );
    assert!(sent > 100_000, "{sent}");
    assert_eq!((leaked, sent - got), (0, 0), "leaked, lost of {sent}");
}
