//! Frames out of a packet socket as fast as one core sends them, and what a device has received.

use nix::sched::{CloneFlags, CpuSet, sched_setaffinity, setns};
use nix::sys::socket::{
    AddressFamily, ControlMessage, LinkAddr, MsgFlags, MultiHeaders, SockFlag, SockType, SockaddrLike,
    sendmmsg, socket,
};
use nix::unistd::Pid;
use std::fs::File;
use std::io::IoSlice;
use std::net::Ipv4Addr;
use std::os::fd::AsRawFd;
use std::time::Instant;

/// Frames that one system call sends.
const BATCH: usize = 32;
/// Without the checksum that a wire would add.
const FRAME: usize = 60;

/// One side of a flow: its MAC, address and port.
#[derive(Debug, Clone, Copy)]
pub struct Side {
    pub mac: [u8; 6],
    pub address: Ipv4Addr,
}

/// 64-byte Ethernet frames with UDP in IPv4 (RFC 768: no checksum), one for each (source port, destination port).
pub fn frames(from: Side, to: Side, ports: &[(u16, u16)]) -> Vec<Vec<u8>> {
    ports
        .iter()
        .map(|(source, destination)| {
            let mut ip = vec![0x45, 0, 0, 46, 0, 0, 0x40, 0, 64, 17, 0, 0];
            ip.extend(from.address.octets());
            ip.extend(to.address.octets());
            let sum: u32 = ip.chunks(2).map(|word| u32::from(word[0]) << 8 | u32::from(word[1])).sum();
            let folded = (sum & 0xffff) + (sum >> 16);
            let checksum = !u16::try_from((folded & 0xffff) + (folded >> 16)).expect("16 bits");
            ip[10..12].copy_from_slice(&checksum.to_be_bytes());
            let mut frame = [&to.mac[..], &from.mac, &[0x08, 0x00], &ip].concat();
            for word in [*source, *destination, 26, 0] {
                frame.extend(word.to_be_bytes());
            }
            frame.resize(FRAME, 0);
            frame
        })
        .collect()
}

/// Runs `f` inside a network namespace, pinned to the last core.
pub fn inside<T: Send>(netns: &str, f: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| {
        let worker = scope.spawn(|| {
            let namespace = File::open(format!("/run/netns/{netns}")).expect("the namespace is there");
            setns(namespace, CloneFlags::CLONE_NEWNET).expect("root may enter a namespace");
            let cores = std::thread::available_parallelism().map_or(1, usize::from);
            let mut pinned = CpuSet::new();
            pinned.set(cores - 1).expect("the core is there");
            sched_setaffinity(Pid::from_raw(0), &pinned).expect("a thread may be pinned");
            f()
        });
        worker.join().expect("the sender ends well")
    })
}

/// Sends `count` of the frames in turn by `eth0` of a namespace; nanoseconds for each. With pairs of virtual Ethernet devices
/// everything up to the receiver's device is done by the core that sends, so that this is what a frame costs.
pub fn flood(netns: &str, frames: &[Vec<u8>], count: usize) -> f64 {
    inside(netns, || {
        let device = device("eth0");
        let socket = socket(AddressFamily::Packet, SockType::Raw, SockFlag::SOCK_CLOEXEC, None)
            .expect("root may open a packet socket");
        let addresses = [Some(device); BATCH];
        let no_control: [ControlMessage<'_>; 0] = [];
        let mut headers = MultiHeaders::preallocate(BATCH, None);
        let start = Instant::now();
        let mut sent = 0;
        while sent < count {
            let batch = BATCH.min(count - sent);
            let slices: Vec<[IoSlice<'_>; 1]> =
                (0..batch).map(|n| [IoSlice::new(&frames[(sent + n) % frames.len()])]).collect();
            let results = sendmmsg(
                socket.as_raw_fd(),
                &mut headers,
                &slices,
                &addresses[..batch],
                no_control,
                MsgFlags::empty(),
            );
            sent += results.expect("frames can be sent").count();
        }
        start.elapsed().as_secs_f64() * 1e9 / count as f64
    })
}

fn device(name: &str) -> LinkAddr {
    nix::ifaddrs::getifaddrs()
        .expect("devices can be listed")
        .filter(|i| i.interface_name == name)
        .find_map(|i| i.address.and_then(|a| a.as_link_addr().copied()))
        .filter(|a| a.family() == Some(AddressFamily::Packet))
        .expect("the device is there")
}

/// Packets that `eth0` of a namespace has received.
pub fn received(netns: &str) -> u64 {
    let text =
        inside(netns, || std::fs::read_to_string("/proc/thread-self/net/dev")).expect("a list of devices");
    let line = text.lines().find_map(|line| line.trim().strip_prefix("eth0:")).expect("the device is there");
    line.split_whitespace().nth(1).and_then(|n| n.parse().ok()).expect("a number of packets")
}
