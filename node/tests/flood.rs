//! Reloads under as many packets as the machine can send, with thousands of interval elements: what is allowed is not lost for
//! them, what is denied is not delivered, and only what is revoked stops.
//!
//! `PARTYWALL_RELOADS=SECONDS,PACKETS` sets how long whole reloads follow each other, then flips alone, and how many packets of
//! each kind, allowed and denied, have to be sent meanwhile; 60,5000000 is the full size.

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
use pair::{A, ALWAYS, B, Workload, project, workloads};
use partywall_node::audit::audit;
use partywall_node::generation::Generation;
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};
use support::{able, alone, open, sh};
use traffic::{Stream, inject, injector, longest_silence, overrun};

/// What one of the policies denies.
const SOMETIMES: u16 = 3000;
/// From here five ports are denied, five allowed, and so on.
const FIRST: u16 = 10_000;
/// Ranges of each kind.
const RANGES: u16 = 5_000;
const FIVE: u16 = 5;
/// How often the generation changes, where a reload takes less.
const EVERY: Duration = Duration::from_millis(100);
/// Packets of one kind in turn.
const VOLLEY: usize = 250;

/// (how long, packets of each kind)
fn amount() -> (Duration, u64) {
    let text = std::env::var("PARTYWALL_RELOADS").unwrap_or_else(|_| "10,1000000".to_owned());
    let (seconds, packets) = text.split_once(',').unwrap();
    (Duration::from_secs(seconds.parse().unwrap()), packets.parse().unwrap())
}

/// A generation whose policy has 5,000 intervals of ports, and `more` rules.
fn generation(directory: &Path, name: &str, more: &str) -> Generation {
    let ranges = (0..RANGES).map(|n| FIRST + 2 * FIVE * n);
    let denied: Vec<String> = ranges.map(|lo| format!("{lo}..{}", lo + FIVE - 1)).collect();
    // Whatever is not on single ports, whatever the source port, is written as intervals.
    let rules = format!(
        "deny front -> front : udp/{{{}}} from 1024..65535\n  allow front -> front : udp/1..65535 from 1024..65535\n  {more}",
        denied.join(", ")
    );
    let folder = directory.join(name);
    let project = lab_support::project(&[("pair.pw".to_owned(), project(&rules, ""))]);
    lab_support::build(&project, &folder);
    let stage = std::fs::read_to_string(folder.join("n1/nft/stage.nft")).unwrap();
    let elements = lab_support::port_ranges(&stage);
    assert!(elements >= usize::from(RANGES), "{elements} interval elements");
    open(&folder, "n1")
}

/// Frames from `a` to `b` on a port of each range of a kind; `b` takes none of them for its own, but counts them.
fn volleys(first: u16) -> Vec<Vec<u8>> {
    let router = backends::linux::numbers::router_mac("192.0.2.11".parse().unwrap());
    let fields = |port| Fields { src: A.into(), dst: B.into(), protocol: 17, x: 9_000, y: port };
    let ports = (0..RANGES).map(|n| first + 2 * FIVE * n);
    ports.map(|y| frames::frame([2, 0, 0, 0, 1, 5], router, &fields(y), y.into(), Twist::None)).collect()
}

/// Counts what reaches a workload on the flood's ports, before anything there could be too slow for it.
fn count_in(workload: &Workload) {
    workload.enter(|| {
        let allowed: Vec<String> =
            (0..RANGES).map(|n| (FIRST + FIVE + 2 * FIVE * n).to_string()).collect();
        let allowed = allowed.join(", ");
        let range = format!("udp dport {}-{}", FIRST, FIRST + 2 * FIVE * RANGES);
        sh(&format!(
            "nft 'table inet tally {{ counter allowed {{ }}; counter denied {{ }}; chain in {{ type filter hook prerouting priority -400; {range} udp dport {{ {allowed} }} counter name allowed drop; {range} counter name denied drop; }}; }}'"
        ));
    });
}

fn counted(workload: &Workload, kind: &str) -> u64 {
    let text = workload.enter(|| sh(&format!("nft list counter inet tally {kind}")));
    let words: Vec<&str> = text.split_whitespace().collect();
    let at = words.iter().position(|w| *w == "packets").unwrap();
    words[at + 1].parse().unwrap()
}

/// How many packets of each kind were sent.
#[derive(Default)]
struct Sent {
    allowed: AtomicU64,
    denied: AtomicU64,
}

/// Sends volleys of both kinds in turn until told to stop, as fast as it can.
fn flood(socket: &OwnedFd, sent: &Sent, stop: &AtomicBool) {
    let kinds = [(volleys(FIRST + FIVE), &sent.allowed), (volleys(FIRST), &sent.denied)];
    let mut turn = 0;
    while !stop.load(Ordering::Relaxed) {
        for (frames, count) in &kinds {
            for n in 0..VOLLEY {
                inject(socket, &frames[(turn * VOLLEY + n) % frames.len()]);
            }
            count.fetch_add(VOLLEY as u64, Ordering::Relaxed);
        }
        turn += 1;
    }
}

/// A folder with an `nft` that ends the script which called it when it has committed: both generations are there then.
fn unswept(folder: &Path) {
    let real = sh("command -v nft");
    let script = format!(
        "#!/bin/sh\n{} \"$@\" || exit\ncase \"$*\" in *commit.nft) kill -9 $PPID ;; esac\n",
        real.trim()
    );
    let path = folder.join("nft");
    std::fs::write(&path, script).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
}

/// What the node counted as dropped: reason and packets.
fn drops() -> String {
    let text = sh("nft list counters table inet partywall");
    let words: Vec<&str> = text.split_whitespace().collect();
    let counted = words.windows(4).filter(|w| w[0].starts_with("drop_") && w[3] != "0");
    counted.map(|w| format!("{} {}", w[0], w[3])).collect::<Vec<_>>().join(", ")
}

/// The slot that runs.
fn slot() -> u8 {
    let flip = sh("nft -t list ruleset inet");
    u8::from(flip.contains("meta mark set 0x00000001"))
}

/// Calls `f` each [`EVERY`], or as soon as the last call has come to an end, until `lasts` is over: how often, and how often late.
fn paced(what: &str, lasts: Duration, enough: impl Fn() -> bool, mut f: impl FnMut(u32)) -> (u32, u32) {
    let (begun, mut calls, mut late) = (Instant::now(), 0, 0);
    while begun.elapsed() < lasts || !enough() {
        calls += 1;
        f(calls);
        match (begun + EVERY * calls).checked_duration_since(Instant::now()) {
            Some(left) => std::thread::sleep(left),
            None => late += 1,
        }
    }
    println!("{calls} {what}, one each {:?}, {late} of them begun late", begun.elapsed() / calls);
    (calls, late)
}

/// Two generations that differ, changed by their scripts as often as these come to an end, then each 100 ms by their commits alone;
/// at the end a third that revokes one of two TCP connections.
#[test]
fn generations_change_each_100_ms_under_a_flood_and_nothing_is_lost_or_let_through() {
    if !able("flood") {
        return;
    }
    let (lasts, packets) = amount();
    let built = tempfile::tempdir().unwrap();
    let both = format!("allow front -> front : tcp/{SOMETIMES}");
    let one = generation(built.path(), "one", &both);
    let two = generation(built.path(), "two", &format!("{both}\n  allow front -> front : tcp/22"));
    let last = generation(built.path(), "last", "allow front -> front : tcp/22");
    assert!(one.suffix() != two.suffix() && two.suffix() != last.suffix());
    let tools = tempfile::tempdir().unwrap();
    unswept(tools.path());
    let script = |name: &str| format!("sh {}/{name}/n1/nft/apply.sh", built.path().display());
    let commit = |name: &str, slot: u8| {
        sh(&format!("nft -D slot={slot} -f {}/{name}/n1/nft/commit.nft", built.path().display()));
    };
    alone(|| {
        let (a, b) = workloads();
        count_in(&b);
        sh(&script("one"));
        let (revoked, other) = (Stream::open(&a, &b, SOMETIMES), Stream::open(&a, &b, ALWAYS));
        let socket = injector(&a);
        let (sent, stop, hush) = (Sent::default(), AtomicBool::new(false), AtomicBool::new(false));
        let overrun_before = overrun();
        let [allowed, denied] = [&sent.allowed, &sent.denied];
        let enough =
            || allowed.load(Ordering::Relaxed) >= packets && denied.load(Ordering::Relaxed) >= packets;
        let (silence, [scripts, flips, late]) = std::thread::scope(|scope| {
            let sender = scope.spawn(|| flood(&socket, &sent, &stop));
            let watcher = scope.spawn(|| longest_silence(&other, &hush));
            // Whatever fails: the threads end.
            let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                let (scripts, _) = paced(
                    "whole reloads",
                    lasts,
                    || true,
                    |n| drop(sh(&script(if n % 2 == 1 { "two" } else { "one" }))),
                );
                if scripts % 2 == 1 {
                    sh(&script("one"));
                }
                // Both are there from now on, and the running one changes.
                let old = slot();
                let _ = std::process::Command::new("sh")
                    .args(["-c", &script("two")])
                    .env("PATH", format!("{}:{}", tools.path().display(), std::env::var("PATH").unwrap()))
                    .output();
                assert_eq!(slot(), 1 - old);
                let (flips, late) = paced("flips", lasts, enough, |n| match n % 2 {
                    1 => commit("one", old),
                    _ => commit("two", 1 - old),
                });
                // One of the connections is revoked.
                let before = revoked.arrived.load(Ordering::Relaxed);
                assert!(before > 0);
                sh(&script("last"));
                std::thread::sleep(Duration::from_secs(1));
                let after = revoked.arrived.load(Ordering::Relaxed);
                std::thread::sleep(Duration::from_secs(2));
                assert_eq!(revoked.arrived.load(Ordering::Relaxed), after, "a revoked connection goes on");
                [scripts, flips, late]
            }));
            hush.store(true, Ordering::Relaxed);
            stop.store(true, Ordering::Relaxed);
            let silence = watcher.join().unwrap();
            sender.join().unwrap();
            (silence, outcome.unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
        });
        std::thread::sleep(Duration::from_millis(500));
        let (allowed, denied) = (allowed.load(Ordering::Relaxed), denied.load(Ordering::Relaxed));
        let (got, leaked, overrun) =
            (counted(&b, "allowed"), counted(&b, "denied"), overrun() - overrun_before);
        println!(
            "{scripts} whole reloads, {flips} flips, {allowed} allowed, {denied} denied: {} lost, {leaked} leaked, {overrun} overrun; the unrelated stream was silent for {silence:?} at most; {}",
            allowed - got,
            drops()
        );
        assert_eq!(leaked, 0, "denied packets were delivered");
        assert!(
            got <= allowed && allowed - got <= overrun,
            "{allowed} sent, {got} arrived, {overrun} overrun"
        );
        assert!(allowed >= packets && denied >= packets);
        assert!(
            u64::from(flips) + 1 >= lasts.as_secs() * 9 && late * 2 <= flips,
            "{flips} flips, {late} late"
        );
        assert!(silence < Duration::from_secs(1), "{silence:?}");
        revoked.close();
        other.close();
        let report = audit(&last, &[]).unwrap();
        assert!(report.clean, "{}", report.text());
    });
}
