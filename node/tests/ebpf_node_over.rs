//! A node that goes over to the other target and back, under packets between its workloads, and through the tunnel.

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

use backends::linux::numbers::router_mac;
use ground::{SOMETIMES, Scene, on_a_node, underlay, with_sometimes};
use lab_support::Fleet;
use pair::{A, ALWAYS, Workload};
use partywall_node::install;
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};
use support::sh;
use traffic::{Tally, flooded};

fn either() -> [(Fleet, String); 2] {
    [(Fleet::Nft, with_sometimes()), (Fleet::Ebpf, with_sometimes())]
}

/// From nft to eBPF.
fn over(scene: &Scene) {
    let to = scene.apply(1);
    assert!(to.changed && to.mended.is_empty(), "{to:#?}");
    assert!(!sh("nft list tables").contains("inet partywall\n"), "{}", sh("nft list tables"));
    assert!(!sh("ip -4 rule show; ip -6 rule show").contains("proto 87"));
}

fn back(scene: &Scene) {
    let to = install::rollback(scene.state(), &mut |_| {}).unwrap();
    assert!(to.changed && to.left.is_empty(), "{to:#?}");
    scene.clean();
    assert!(!scene.ground.pins().join("maps").exists() && !sh("ip link show").contains("pwvx"));
}

/// Both workloads are on this node: nothing denied arrives at any moment, and nothing need be lost either.
#[test]
fn between_workloads_of_the_node_nothing_is_lost() {
    on_a_node("change of target", &either(), |scene| {
        scene.apply(0);
        let tally = Tally::default();
        flooded(&scene.a, &scene.b, Duration::from_millis(1), &tally, || {
            for _ in 0..3 {
                over(&scene);
                assert!(scene.tcp(SOMETIMES) && !scene.tcp(4000));
                back(&scene);
                assert!(scene.tcp(SOMETIMES) && !scene.tcp(4000));
            }
        });
        tally.judge("6 changes of target");
    });
}

const C: Ipv4Addr = Ipv4Addr::new(10, 1, 0, 7);
/// Allowed by nobody.
const NEVER: u16 = 2000;
/// The node on which endpoint c is, and a stranger's.
const VTEPS: [Ipv4Addr; 2] = [Ipv4Addr::new(192, 0, 2, 12), Ipv4Addr::new(192, 0, 2, 13)];
const SERVED: [u8; 3] = [0, 0x27, 0x1a];

/// Endpoint c, in the namespace of its node, behind the kernel's own VXLAN.
fn far_end() -> Workload {
    let far = underlay(&VTEPS);
    let mac = |vtep: [u8; 4]| router_mac(vtep.into()).map(|byte| format!("{byte:02x}")).join(":");
    let (own, other) = (mac([192, 0, 2, 12]), mac([192, 0, 2, 11]));
    far.enter(|| {
        sh(&format!(
            "ip link add name vx address {own} mtu 1450 type vxlan id 10010 local 192.0.2.12 remote 192.0.2.11 dev eth0 dstport 4789 nolearning && ip link set dev vx up && ip address add {C}/32 dev vx && ip route replace 10.1.0.0/24 dev vx src {C} && ip neighbour replace {A} lladdr {other} dev vx nud permanent"
        ));
    });
    far
}

/// What one receiver has heard.
#[derive(Default)]
struct Ear {
    allowed: AtomicU64,
    denied: AtomicU64,
    /// When it last heard what is allowed, and the longest silence since it was asked.
    silence: Mutex<(Option<Instant>, Duration)>,
}

impl Ear {
    /// Takes what comes to both ports until told to stop. What is allowed begins with `y`.
    fn listen(&self, at: &Workload, address: Ipv4Addr, stop: &AtomicBool) {
        let sockets = [ALWAYS, NEVER].map(|port| at.enter(|| UdpSocket::bind((address, port)).unwrap()));
        for socket in &sockets {
            socket.set_nonblocking(true).unwrap();
        }
        let mut buffer = [0; 64];
        while !stop.load(Ordering::Relaxed) {
            let mut idle = true;
            for socket in &sockets {
                while socket.recv(&mut buffer).is_ok() {
                    idle = false;
                    if buffer[0] != b'y' {
                        self.denied.fetch_add(1, Ordering::Relaxed);
                        continue;
                    }
                    self.allowed.fetch_add(1, Ordering::Relaxed);
                    let (mut silence, now) = (self.silence.lock().unwrap(), Instant::now());
                    let since = silence.0.map_or(Duration::ZERO, |last| now - last);
                    *silence = (Some(now), silence.1.max(since));
                }
            }
            if idle {
                std::thread::sleep(Duration::from_micros(300));
            }
        }
    }

    /// The longest silence, and begins anew.
    fn longest(&self) -> Duration {
        let mut silence = self.silence.lock().unwrap();
        let longest = silence.1.max(silence.0.map_or(Duration::ZERO, |last| last.elapsed()));
        silence.1 = Duration::ZERO;
        longest
    }
}

/// One of each kind every millisecond, from one end to the other.
fn send(from: &Workload, ends: (Ipv4Addr, Ipv4Addr), sport: u16, stop: &AtomicBool) {
    let socket = from.enter(|| UdpSocket::bind((ends.0, sport)).unwrap());
    while !stop.load(Ordering::Relaxed) {
        // What is refused on the way shows as an error of a later call.
        for (word, port) in [(b"yes", ALWAYS), (b"no!", NEVER)] {
            let _ = socket.send_to(word, (ends.1, port));
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// What must never arrive: from a stranger's VTEP, and from the right one under a VNI that nobody has here.
fn forge(far: &Workload, stop: &AtomicBool) {
    let inner = |word: &[u8; 4]| {
        let (own, other) = (router_mac(VTEPS[0].into()), router_mac([192, 0, 2, 11].into()));
        let mut header = [0x45, 0, 0, 32, 0, 0, 0x40, 0, 64, 17, 0, 0].to_vec();
        header.extend(C.octets().into_iter().chain(A.octets()));
        let words = header.chunks(2).map(|w| u32::from(w[0]) << 8 | u32::from(w[1]));
        let sum: u32 = words.sum();
        let check = !((sum & 0xffff) + (sum >> 16)) as u16;
        header[10..12].copy_from_slice(&check.to_be_bytes());
        let udp = [[0x9c, 0x40], ALWAYS.to_be_bytes(), [0, 12], [0, 0]].concat();
        [&other[..], &own[..], &[8, 0], &header, &udp, word].concat()
    };
    let tunnelled = |vni: [u8; 3], word| [&[8, 0, 0, 0], &vni[..], &[0], &inner(word)[..]].concat();
    let forged = [(VTEPS[1], tunnelled(SERVED, b"vtep")), (VTEPS[0], tunnelled([0, 0x27, 0x1b], b"vni!"))];
    let sockets = forged.map(|(vtep, frame)| (far.enter(|| UdpSocket::bind((vtep, 0)).unwrap()), frame));
    while !stop.load(Ordering::Relaxed) {
        for (socket, frame) in &sockets {
            let _ = socket.send_to(frame, ("192.0.2.11", 4789));
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// A connection from `a` to endpoint c on which its opener sends all the time.
fn stream(a: &Workload, far: &Workload, arrived: &AtomicU64, stop: &AtomicBool) {
    let end = SocketAddr::from((C, ALWAYS));
    let listener = far.enter(|| TcpListener::bind(end).unwrap());
    let mut near = a.enter(|| TcpStream::connect_timeout(&end, Duration::from_secs(5)).unwrap());
    let (mut taken, _) = listener.accept().unwrap();
    near.set_write_timeout(Some(Duration::from_millis(50))).unwrap();
    taken.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                let _ = near.write(&[7; 128]);
                std::thread::sleep(Duration::from_millis(2));
            }
        });
        let mut buffer = [0; 4096];
        while !stop.load(Ordering::Relaxed) {
            if let Ok(bytes) = taken.read(&mut buffer) {
                arrived.fetch_add(bytes as u64, Ordering::Relaxed);
            }
        }
    });
}

/// Packets of a workload here and one on another node, both ways, and forged ones among them.
#[test]
fn through_the_tunnel_nothing_denied_arrives_and_what_is_allowed_goes_on() {
    on_a_node("change of target with a tunnel", &either(), |scene| {
        let far = far_end();
        scene.apply(0);
        let (here, there, arrived) = (Ear::default(), Ear::default(), AtomicU64::new(0));
        let stop = AtomicBool::new(false);
        let mut silences = [Duration::ZERO; 2];
        std::thread::scope(|scope| {
            let (scene, far, stop) = (&scene, &far, &stop);
            scope.spawn(|| here.listen(&scene.a, A, stop));
            scope.spawn(|| there.listen(far, C, stop));
            scope.spawn(|| send(&scene.a, (A, C), 40_001, stop));
            scope.spawn(|| send(far, (C, A), 40_000, stop));
            scope.spawn(|| forge(far, stop));
            scope.spawn(|| stream(&scene.a, far, &arrived, stop));
            let go_on = || {
                let counts =
                    || [&here.allowed, &there.allowed, &arrived].map(|count| count.load(Ordering::Relaxed));
                let (before, until) = (counts(), Instant::now() + Duration::from_secs(10));
                while counts().iter().zip(before).any(|(now, before)| *now <= before + 100) {
                    assert!(Instant::now() < until, "{before:?}, then {:?}", counts());
                    std::thread::sleep(Duration::from_millis(20));
                }
            };
            let changed = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                go_on();
                for _ in 0..3 {
                    for (way, act) in [over, back].into_iter().enumerate() {
                        let _ = (here.longest(), there.longest());
                        act(scene);
                        go_on();
                        silences[way] = silences[way].max(here.longest()).max(there.longest());
                    }
                }
            }));
            stop.store(true, Ordering::Relaxed);
            changed.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        });
        let [to, from] = [&here, &there].map(|ear| {
            assert_eq!(ear.denied.load(Ordering::Relaxed), 0, "denied or forged, and delivered");
            ear.allowed.load(Ordering::Relaxed)
        });
        println!(
            "6 changes of target, {to} packets through the tunnel to the node and {from} from it; longest silence {:?} towards eBPF, {:?} towards nft",
            silences[0], silences[1]
        );
        // Some milliseconds towards eBPF and the time of apply.sh towards nft, on a machine that does other things as well.
        assert!(silences.iter().all(|silence| *silence < Duration::from_secs(2)), "{silences:?}");
    });
}
