//! Generations switched every millisecond under a flood: each packet is decided, sent and encapsulated by one of them whole, and
//! what both allow is never lost.

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

use ground::{Ground, build, ready, underlay};
use lab_support::Fleet;
use nix::sys::socket::{setsockopt, sockopt::RcvBufForce};
use pair::{A, ALWAYS, Workload, project, workloads};
use partywall_node::ebpf::bring;
use partywall_node::install;
use std::net::{Ipv4Addr, UdpSocket};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};
use support::alone;
use traffic::overrun;

/// Allowed under the first generation alone, and under the second alone.
const FIRST: u16 = 3001;
const SECOND: u16 = 3002;
/// Where endpoint c is, under each: the VTEP of its node and the VNI of its segment.
const VTEPS: [Ipv4Addr; 2] = [Ipv4Addr::new(192, 0, 2, 12), Ipv4Addr::new(192, 0, 2, 13)];
const VNIS: [u32; 2] = [10010, 20020];
const C: Ipv4Addr = Ipv4Addr::new(10, 1, 0, 7);
const SECONDS: u64 = 20;

/// What one generation must not do, counted.
#[derive(Default)]
struct Seen {
    first: AtomicU64,
    second: AtomicU64,
    both: AtomicU64,
    mixed: AtomicU64,
}

/// Takes encapsulated packets at one of the two VTEPs until told to stop.
fn listen(socket: &UdpSocket, at: usize, seen: &Seen, stop: &AtomicBool) {
    let mut buffer = [0; 2048];
    while !stop.load(Ordering::Relaxed) {
        let Ok(length) = socket.recv(&mut buffer) else { continue };
        // VXLAN, Ethernet, IPv4 without options, UDP.
        let frame = &buffer[..length];
        if length < 8 + 14 + 28 || frame[8 + 12..8 + 14] != [8, 0] || frame[8 + 14 + 9] != 17 {
            continue;
        }
        let vni = u32::from_be_bytes([0, frame[4], frame[5], frame[6]]);
        let port = u16::from_be_bytes([frame[8 + 14 + 22], frame[8 + 14 + 23]]);
        let counter = match (port, at) {
            _ if vni != VNIS[at] => &seen.mixed,
            (ALWAYS, _) => &seen.both,
            (FIRST, 0) => &seen.first,
            (SECOND, 1) => &seen.second,
            _ => &seen.mixed,
        };
        counter.fetch_add(1, Ordering::Relaxed);
    }
}

/// Datagrams that the far side had no room for.
fn unread(far: &Workload) -> u64 {
    let text = far.enter(|| std::fs::read_to_string("/proc/thread-self/net/snmp").unwrap());
    let lines: Vec<&str> = text.lines().filter(|l| l.starts_with("Udp:")).collect();
    let at = lines[0].split_whitespace().position(|n| n == "RcvbufErrors").unwrap();
    lines[1].split_whitespace().nth(at).unwrap().parse().unwrap()
}

#[test]
fn switched_every_millisecond_no_packet_meets_a_mix_and_none_is_lost() {
    if !ready("switching") {
        return;
    }
    let built = tempfile::tempdir().unwrap();
    let allow = |port: u16| format!("allow front -> front : udp/{port}");
    let first = build(built.path(), "first", &project(&allow(FIRST), ""), Fleet::Ebpf);
    let text = project(&allow(SECOND), "")
        .replace("vtep 192.0.2.12", "vtep 192.0.2.13")
        .replace("vni 10010", "vni 20020");
    let second = build(built.path(), "second", &text, Fleet::Ebpf);
    alone(|| {
        let (a, _b) = workloads();
        // The other nodes: both VTEPs, reached by the underlay.
        let far = underlay(&VTEPS);
        let ground = Ground::new("flip");
        let state = &ground.state;
        let done = install::apply(state, Some(&first), &mut |_| {}).unwrap();
        assert!(done.left.is_empty(), "{done:#?}");
        let (base, mut number, mut slot) = bring::stage(state.place(), second.program().unwrap()).unwrap();
        let (seen, stop, over) = (Seen::default(), AtomicBool::new(false), AtomicBool::new(false));
        let sent = AtomicU64::new(0);
        let lost_before = overrun();
        let mut flips = 0u64;
        std::thread::scope(|scope| {
            for (at, vtep) in VTEPS.into_iter().enumerate() {
                let socket = far.enter(|| UdpSocket::bind((vtep, 4789)).unwrap());
                setsockopt(&socket, RcvBufForce, &(64 << 20)).unwrap();
                socket.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
                let (seen, over) = (&seen, &over);
                scope.spawn(move || listen(&socket, at, seen, over));
            }
            let sockets: Vec<UdpSocket> =
                (0..16).map(|n| a.enter(|| UdpSocket::bind((A, 40_000 + n)).unwrap())).collect();
            let (stop, sent) = (&stop, &sent);
            let sender = scope.spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    for socket in &sockets {
                        for port in [ALWAYS, FIRST, SECOND] {
                            // A refusal that came back shows as an error of a later call.
                            while socket.send_to(b"0123456789", (C, port)).is_err() {}
                        }
                        sent.fetch_add(1, Ordering::Relaxed);
                    }
                }
            });
            let until = Instant::now() + Duration::from_secs(SECONDS);
            let mut next = Instant::now();
            while Instant::now() < until {
                base.flip(number, slot).unwrap();
                (number, slot, flips) = (number + 1, 1 - slot, flips + 1);
                next += Duration::from_millis(1);
                std::thread::sleep(next.saturating_duration_since(Instant::now()));
            }
            stop.store(true, Ordering::Relaxed);
            sender.join().unwrap();
            std::thread::sleep(Duration::from_millis(500));
            over.store(true, Ordering::Relaxed);
        });
        let [one, two, both, mixed] =
            [&seen.first, &seen.second, &seen.both, &seen.mixed].map(|n| n.load(Ordering::Relaxed));
        let (sent, missed) = (sent.load(Ordering::Relaxed), overrun() - lost_before + unread(&far));
        println!(
            "{flips} switches in {SECONDS} s, {sent} packets of each kind: {one} by the first alone, {two} by the second alone, {both} by both, {mixed} by a mix; {missed} that the receiver missed"
        );
        assert_eq!(mixed, 0, "packets met a mix of two generations");
        assert!(one > 1000 && two > 1000 && one < sent && two < sent, "{one} {two} of {sent}");
        assert!(both <= sent && sent - both <= missed, "{sent} sent, {both} arrived, {missed} missed");
        assert!(flips > SECONDS * 500, "only {flips}");
    });
}
