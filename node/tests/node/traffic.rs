//! Packets between the two workloads of a node.

use crate::pair::{A, ALWAYS, B, Workload};
use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, LinkAddr, MsgFlags, SockFlag, SockType, SockaddrLike, bind, send, setsockopt, socket,
    sockopt::RcvBufForce,
};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Denied under every policy.
const NEVER: u16 = 2000;

/// What passed.
#[derive(Default)]
pub struct Tally {
    pub sent: AtomicU64,
    /// On the port that is always allowed.
    pub allowed: AtomicU64,
    /// On the port that is never.
    pub denied: AtomicU64,
    /// What the machine had no room for meanwhile, of everybody's: no policy has seen it.
    overrun: AtomicU64,
    pub stop: AtomicBool,
    closed: AtomicBool,
}

impl Tally {
    /// Sent and not there yet, of those that are allowed.
    pub fn under_way(&self) -> u64 {
        let allowed = self.allowed.load(Ordering::Relaxed);
        self.sent.load(Ordering::Relaxed).saturating_sub(allowed)
    }

    /// Nothing denied was delivered, and nothing allowed lost.
    pub fn judge(&self, what: &str) {
        let [sent, allowed, denied, overrun] =
            [&self.sent, &self.allowed, &self.denied, &self.overrun].map(|n| n.load(Ordering::Relaxed));
        println!(
            "{what}, {sent} packets each way to judge: {allowed} allowed arrived, {denied} denied; {overrun} overrun"
        );
        assert_eq!(denied, 0, "denied and delivered");
        assert!(sent > 500, "{sent}");
        assert!(sent - allowed <= overrun, "allowed and lost: {}", sent - allowed);
    }
}

/// UDP packets that reached a workload, whether or not somebody had room for them.
pub fn arrived(workload: &Workload) -> u64 {
    let text = workload.enter(|| std::fs::read_to_string("/proc/thread-self/net/snmp").unwrap());
    let lines: Vec<&str> = text.lines().filter(|l| l.starts_with("Udp:")).collect();
    let [names, values] = lines.as_slice() else { panic!("{text}") };
    let column = |name: &str| {
        let at = names.split_whitespace().position(|n| n == name).unwrap();
        values.split_whitespace().nth(at).unwrap().parse::<u64>().unwrap()
    };
    column("InDatagrams") + column("NoPorts") + column("InErrors")
}

/// Packets that this machine's processors dropped because they had too many to take in.
pub fn overrun() -> u64 {
    let text = std::fs::read_to_string("/proc/net/softnet_stat").unwrap();
    let dropped = text.lines().map(|l| l.split_whitespace().nth(1).unwrap());
    dropped.map(|hex| u64::from_str_radix(hex, 16).unwrap()).sum()
}

/// A socket that puts whole frames on a workload's device.
pub fn injector(workload: &Workload) -> OwnedFd {
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

/// Puts a frame there, however long it takes.
pub fn inject(socket: &OwnedFd, frame: &[u8]) {
    loop {
        match send(socket.as_raw_fd(), frame, MsgFlags::empty()) {
            Ok(_) => return,
            Err(Errno::ENOBUFS | Errno::EAGAIN | Errno::EINTR) => std::thread::yield_now(),
            Err(errno) => panic!("cannot send: {errno}"),
        }
    }
}

/// Sends to both ports in turn, one packet each `pause`, while `f` runs; the receiver hears out what is under way.
pub fn flooded<T: Send>(
    a: &Workload,
    b: &Workload,
    pause: Duration,
    tally: &Tally,
    f: impl FnOnce() -> T,
) -> T {
    let before = overrun();
    std::thread::scope(|scope| {
        let receivers = [(ALWAYS, &tally.allowed), (NEVER, &tally.denied)].map(|(port, count)| {
            let socket = b.enter(|| UdpSocket::bind((B, port)).unwrap());
            socket.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
            // Whoever waits for a processor has room for what comes meanwhile.
            setsockopt(&socket, RcvBufForce, &(16 << 20)).unwrap();
            scope.spawn(move || {
                let mut buffer = [0; 64];
                while !tally.closed.load(Ordering::Relaxed) {
                    if socket.recv(&mut buffer).is_ok() {
                        count.fetch_add(1, Ordering::Relaxed);
                    }
                }
            })
        });
        let socket = a.enter(|| UdpSocket::bind((A, 40000)).unwrap());
        let sender = scope.spawn(move || {
            while !tally.stop.load(Ordering::Relaxed) {
                for port in [ALWAYS, NEVER] {
                    // A refusal that came back shows as an error of a later call.
                    while socket.send_to(b"0123456789", (B, port)).is_err() {}
                }
                tally.sent.fetch_add(1, Ordering::Relaxed);
                if !pause.is_zero() {
                    std::thread::sleep(pause);
                }
            }
        });
        let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(f));
        tally.stop.store(true, Ordering::Relaxed);
        sender.join().unwrap();
        std::thread::sleep(Duration::from_millis(300));
        tally.closed.store(true, Ordering::Relaxed);
        tally.overrun.store(overrun() - before, Ordering::Relaxed);
        for receiver in receivers {
            receiver.join().unwrap();
        }
        result.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

/// A connection from `a` to `b` on which `b`'s side sends all the time.
pub struct Stream {
    /// Bytes that arrived at `a`.
    pub arrived: std::sync::Arc<AtomicU64>,
    stop: std::sync::Arc<AtomicBool>,
    threads: Vec<std::thread::JoinHandle<()>>,
}

impl Stream {
    pub fn open(a: &Workload, b: &Workload, port: u16) -> Self {
        let (arrived, stop) =
            (std::sync::Arc::new(AtomicU64::new(0)), std::sync::Arc::new(AtomicBool::new(false)));
        let listener = b.enter(|| TcpListener::bind((B, port)).unwrap());
        let mut near = a.enter(|| {
            TcpStream::connect_timeout(&SocketAddr::from((B, port)), Duration::from_secs(5)).unwrap()
        });
        let (mut far, _) = listener.accept().unwrap();
        near.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
        far.set_write_timeout(Some(Duration::from_millis(50))).unwrap();
        let (count, end, over) = (arrived.clone(), stop.clone(), stop.clone());
        let reader = std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            while !end.load(Ordering::Relaxed) {
                if let Ok(n) = near.read(&mut buffer) {
                    count.fetch_add(n as u64, Ordering::Relaxed);
                }
            }
        });
        let writer = std::thread::spawn(move || {
            // More than a window, so that the server always has something to send.
            while !over.load(Ordering::Relaxed) {
                let _ = far.write(&[7; 512]);
                std::thread::sleep(Duration::from_millis(2));
            }
        });
        Self { arrived, stop, threads: vec![reader, writer] }
    }

    pub fn close(self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads {
            thread.join().unwrap();
        }
    }
}

/// The longest time in which nothing came by a stream, seen every 10 ms until `stop`.
pub fn longest_silence(stream: &Stream, stop: &AtomicBool) -> Duration {
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
