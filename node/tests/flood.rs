//! Reloads under as many packets as the machine can send, with thousands of interval elements: what is allowed is not lost for
//! them, what is denied is not delivered, and only what is revoked stops.
//!
//! `PARTYWALL_RELOADS=SECONDS,PACKETS` sets how long generations change and how many packets of each kind, allowed and denied,
//! have to be sent meanwhile.

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
use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, LinkAddr, MsgFlags, SockFlag, SockType, SockaddrLike, bind, send, socket,
};
use pair::{A, ALWAYS, B, Workload, project, workloads};
use partywall_node::audit::audit;
use partywall_node::generation::Generation;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};
use support::{able, alone, open, sh};
use traffic::{Stream, overrun};

/// What one of the policies denies.
const SOMETIMES: u16 = 3000;
/// From here five ports are denied, five allowed, and so on.
const FIRST: u16 = 10_000;
/// Ranges of each kind.
const RANGES: u16 = 5_000;
const FIVE: u16 = 5;
/// How often the generation changes.
const EVERY: Duration = Duration::from_millis(100);
/// Packets of one kind in turn.
const VOLLEY: usize = 250;

/// (how long, packets of each kind)
fn amount() -> (Duration, u64) {
    let text = std::env::var("PARTYWALL_RELOADS").unwrap_or_else(|_| "60,5000000".to_owned());
    let (seconds, packets) = text.split_once(',').unwrap();
    (Duration::from_secs(seconds.parse().unwrap()), packets.parse().unwrap())
}

/// A generation whose policy has 5,000 intervals of ports, and `more` rules.
fn generation(directory: &Path, name: &str, more: &str) -> Generation {
    let ranges = (0..RANGES).map(|n| FIRST + 2 * FIVE * n);
    let denied: Vec<String> = ranges.map(|lo| format!("{lo}..{}", lo + FIVE - 1)).collect();
    // Whatever has a range of source ports besides is written as intervals.
    let rules = format!(
        "deny front -> front : udp/{{{}}} from 1024..65535\n  allow front -> front : udp/1..65535 from 1024..65535\n  {more}",
        denied.join(", ")
    );
    let folder = directory.join(name);
    let project = lab_support::project(&[("pair.pw".to_owned(), project(&rules, ""))]);
    lab_support::build(&project, &folder);
    let stage = std::fs::read_to_string(folder.join("n1/nft/stage.nft")).unwrap();
    let elements = stage.lines().filter(|l| l.contains(" . 17 . 1024-65535 : ")).count();
    assert!(elements >= usize::from(RANGES), "{elements} interval elements");
    open(&folder, "n1")
}

/// A socket that puts whole frames on a workload's device.
fn injector(workload: &Workload) -> OwnedFd {
    workload.enter(|| {
        let device = nix::ifaddrs::getifaddrs()
            .unwrap()
            .filter(|i| i.interface_name == "eth0")
            .find_map(|i| i.address.and_then(|a| a.as_link_addr().copied()))
            .filter(|a: &LinkAddr| a.family() == Some(AddressFamily::Packet))
            .unwrap();
        let fd = socket(AddressFamily::Packet, SockType::Raw, SockFlag::SOCK_CLOEXEC, None).unwrap();
        bind(fd.as_raw_fd(), &device).unwrap();
        fd
    })
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
                let frame = &frames[(turn * VOLLEY + n) % frames.len()];
                loop {
                    match send(socket.as_raw_fd(), frame, MsgFlags::empty()) {
                        Ok(_) => break,
                        Err(Errno::ENOBUFS | Errno::EAGAIN | Errno::EINTR) => std::thread::yield_now(),
                        Err(errno) => panic!("cannot send: {errno}"),
                    }
                }
            }
            count.fetch_add(VOLLEY as u64, Ordering::Relaxed);
        }
        turn += 1;
    }
}

/// The longest time in which nothing came by a stream, seen every 10 ms until `stop`.
fn longest_silence(stream: &Stream, stop: &AtomicBool) -> Duration {
    let count = || stream.arrived.load(Ordering::Relaxed);
    let (mut last, mut since, mut longest) = (count(), Instant::now(), Duration::ZERO);
    while !stop.load(Ordering::Relaxed) {
        std::thread::sleep(Duration::from_millis(10));
        let now = count();
        longest = longest.max(since.elapsed());
        if now != last {
            (last, since) = (now, Instant::now());
        }
    }
    longest
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

/// Two generations that differ, changed back to back by their scripts, then each 100 ms by their commits alone; at the end
/// a third that revokes one of two TCP connections.
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
                // Whole reloads, one after the other.
                let begun = Instant::now();
                let mut scripts = 0;
                while begun.elapsed() < lasts / 4 || scripts % 2 == 1 {
                    scripts += 1;
                    sh(&script(if scripts % 2 == 1 { "two" } else { "one" }));
                }
                let each = begun.elapsed() / scripts;
                println!("{scripts} whole reloads, {each:?} each");
                // Both are there from now on, and the running one changes.
                let old = slot();
                let _ = std::process::Command::new("sh")
                    .args(["-c", &script("two")])
                    .env("PATH", format!("{}:{}", tools.path().display(), std::env::var("PATH").unwrap()))
                    .output();
                assert_eq!(slot(), 1 - old);
                let begun = Instant::now();
                let (mut flips, mut late) = (0u32, 0u32);
                while begun.elapsed() < lasts || !enough() {
                    flips += 1;
                    if flips % 2 == 1 {
                        commit("one", old)
                    } else {
                        commit("two", 1 - old)
                    }
                    match (begun + EVERY * flips).checked_duration_since(Instant::now()) {
                        Some(left) => std::thread::sleep(left),
                        None => late += 1,
                    }
                }
                println!("{flips} flips in {:?}, {late} of them begun late", begun.elapsed());
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
