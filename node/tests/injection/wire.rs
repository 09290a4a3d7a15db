//! Packet sockets inside the lab's namespaces, and the nodes' counters.

use super::frames::{self, Received};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sched::{CloneFlags, setns};
use nix::sys::socket::{
    AddressFamily, LinkAddr, MsgFlags, SockFlag, SockProtocol, SockType, SockaddrLike, bind, recvfrom,
    sendto, setsockopt, socket, sockopt,
};
use partywall_node::lab::Lab;
use std::collections::BTreeMap;
use std::fs::File;
use std::net::IpAddr;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

/// linux/if_packet.h
const PACKET_OUTGOING: u8 = 4;

/// Where frames go in and come out; numbers are indices into the lab's topology.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    Endpoint(usize),
    Underlay(usize),
    Link(usize, usize),
}

#[derive(Debug)]
struct Port {
    fd: OwnedFd,
    device: LinkAddr,
    listens: bool,
}

/// Runs something inside a namespace.
pub fn inside<T: Send>(netns: &str, f: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| {
        let worker = scope.spawn(|| {
            setns(File::open(format!("/run/netns/{netns}")).unwrap(), CloneFlags::CLONE_NEWNET).unwrap();
            f()
        });
        worker.join().unwrap()
    })
}

impl Port {
    fn open(netns: &str, dev: &str, listens: bool) -> Self {
        inside(netns, || {
            let device = nix::ifaddrs::getifaddrs()
                .unwrap()
                .filter(|i| i.interface_name == dev)
                .find_map(|i| i.address.and_then(|a| a.as_link_addr().copied()))
                .filter(|a| a.family() == Some(AddressFamily::Packet))
                .unwrap();
            let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
            let protocol = listens.then_some(SockProtocol::EthAll);
            let fd = match protocol {
                Some(protocol) => socket(AddressFamily::Packet, SockType::Raw, flags, protocol),
                None => socket(AddressFamily::Packet, SockType::Raw, flags, None),
            }
            .unwrap();
            if listens {
                setsockopt(&fd, sockopt::RcvBufForce, &(32 << 20)).unwrap();
                bind(fd.as_raw_fd(), &device).unwrap();
            }
            Self { fd, device, listens }
        })
    }
}

/// What came out of the fabric: packet number → places and addresses; ICMP errors that quote one; what nobody sent; and what
/// hosts send of their own accord.
#[derive(Debug, Default)]
pub struct Arrivals {
    pub packets: BTreeMap<u32, Vec<(Place, IpAddr, IpAddr)>>,
    pub errors: Vec<(Place, u32)>,
    pub strays: Vec<(Place, Vec<u8>)>,
    pub noise: Vec<(Place, Vec<u8>)>,
}

#[derive(Debug)]
pub struct Wires {
    ports: BTreeMap<Place, Port>,
    nodes: Vec<String>,
}

impl Wires {
    /// Listens to hosts and externals, and to what the nodes in `taps`, by their indices, are sent by others.
    pub fn open(lab: &Lab, taps: &[usize]) -> Self {
        let t = &lab.topology;
        let mut ports = BTreeMap::new();
        for (n, place) in t.endpoints.iter().enumerate() {
            ports.insert(Place::Endpoint(n), Port::open(&place.netns, "eth0", true));
        }
        for (n, place) in t.nodes.iter().enumerate() {
            ports.insert(Place::Underlay(n), Port::open(&place.netns, &place.dev, taps.contains(&n)));
        }
        for (x, place) in t.externals.iter().enumerate() {
            for (l, link) in place.links.iter().enumerate() {
                ports.insert(Place::Link(x, l), Port::open(&place.netns, &link.peer, true));
            }
        }
        Self { ports, nodes: t.nodes.iter().map(|n| n.netns.clone()).collect() }
    }

    pub fn mac(&self, place: Place) -> [u8; 6] {
        self.ports[&place].device.addr().unwrap()
    }

    pub fn send(&self, place: Place, frame: &[u8]) {
        let port = &self.ports[&place];
        loop {
            match sendto(port.fd.as_raw_fd(), frame, &port.device, MsgFlags::empty()) {
                Ok(_) => return,
                Err(Errno::EAGAIN | Errno::ENOBUFS | Errno::EINTR) => std::thread::yield_now(),
                Err(errno) => panic!("cannot send from {place:?}: {errno}"),
            }
        }
    }

    /// Notes everything that comes out until told to stop.
    pub fn watch(&self, seen: &Mutex<Arrivals>, stop: &AtomicBool) {
        let listening: Vec<(&Place, &Port)> = self.ports.iter().filter(|(_, port)| port.listens).collect();
        let mut buffer = vec![0; 1 << 16];
        loop {
            let last = stop.load(Ordering::Acquire);
            let mut fds: Vec<PollFd<'_>> =
                listening.iter().map(|(_, p)| PollFd::new(p.fd.as_fd(), PollFlags::POLLIN)).collect();
            let wait = if last { PollTimeout::ZERO } else { PollTimeout::from(20u16) };
            poll(&mut fds, wait).unwrap();
            for ((place, port), fd) in listening.iter().zip(&fds) {
                if fd.any() == Some(true) {
                    drain(**place, port, &mut buffer, seen);
                }
            }
            if last {
                return;
            }
        }
    }

    /// Each node's drop counters: packets by reason.
    pub fn drops(&self) -> Vec<BTreeMap<String, u64>> {
        std::thread::scope(|scope| {
            let readers: Vec<_> = self.nodes.iter().map(|netns| scope.spawn(|| counters(netns))).collect();
            readers.into_iter().map(|r| r.join().unwrap()).collect()
        })
    }
}

fn drain(place: Place, port: &Port, buffer: &mut [u8], seen: &Mutex<Arrivals>) {
    loop {
        match recvfrom::<LinkAddr>(port.fd.as_raw_fd(), buffer) {
            Ok((_, Some(from))) if from.pkttype() == PACKET_OUTGOING => {}
            Ok((length, _)) => {
                let mut seen = seen.lock().unwrap();
                match frames::read(&buffer[..length]) {
                    Received::Packet { id, src, dst } => {
                        seen.packets.entry(id).or_default().push((place, src, dst));
                    }
                    Received::Error { id } => seen.errors.push((place, id)),
                    Received::Noise(bytes) => seen.noise.push((place, bytes)),
                    Received::Stray(bytes) => seen.strays.push((place, bytes)),
                }
            }
            Err(Errno::EAGAIN) => return,
            Err(Errno::EINTR | Errno::ENETDOWN) => {}
            Err(errno) => panic!("{place:?}: {errno}"),
        }
    }
}

/// Where an eBPF node of a lab keeps its maps.
pub fn pins(netns: &str) -> PathBuf {
    Path::new("/run/partywall-lab-bpf").join(netns)
}

fn counters(netns: &str) -> BTreeMap<String, u64> {
    let pins = pins(netns);
    if pins.is_dir() {
        return partywall_node::ebpf::pins::reasons(&pins).unwrap();
    }
    // nft fetches no elements for this; for the counters alone it does.
    let args = ["-t", "-j", "list", "ruleset", "inet"];
    // Started inside: `ip netns exec` would also mount a /sys for it.
    let output = inside(netns, || Command::new("nft").args(args).output().unwrap());
    let listing: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let counters = listing["nftables"].as_array().unwrap().iter().filter_map(|item| item.get("counter"));
    counters
        .filter_map(|c| {
            let reason = c["name"].as_str()?.strip_prefix("drop_")?.replace('_', "-");
            Some((reason, c["packets"].as_u64()?))
        })
        .collect()
}

/// Loads nft text inside a namespace.
pub fn nft(netns: &str, text: &str) {
    let mut child = Command::new("ip")
        .args(["netns", "exec", netns, "nft", "-f", "-"])
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    std::io::Write::write_all(child.stdin.as_mut().unwrap(), text.as_bytes()).unwrap();
    assert!(child.wait().unwrap().success());
}

/// Nobody answers, so that what arrives is what was injected; and every neighbour is known, so that nothing waits for one.
pub fn quiet(lab: &Lab, wires: &Wires) {
    let t = &lab.topology;
    let hosts = t.endpoints.iter().map(|p| &p.netns).chain(t.externals.iter().map(|p| &p.netns));
    for netns in hosts {
        nft(
            netns,
            "table inet quiet {\n chain in {\n type filter hook prerouting priority -400; policy drop;\n\
             icmpv6 type { nd-neighbor-solicit, nd-neighbor-advert } accept\n }\n }\n",
        );
    }
    let mut neighbours: BTreeMap<&str, String> = BTreeMap::new();
    let mut add = |netns, address: IpAddr, mac: [u8; 6], dev: &str| {
        let mac: Vec<String> = mac.iter().map(|b| format!("{b:02x}")).collect();
        let text: &mut String = neighbours.entry(netns).or_default();
        text.push_str(&format!(
            "neighbour replace {address} lladdr {} dev {dev} nud permanent\n",
            mac.join(":")
        ));
    };
    for place in &t.endpoints {
        let node = t.node(place.node).unwrap();
        for address in &place.addresses {
            add(node.netns.as_str(), address.ip, place.mac, &place.dev);
        }
    }
    for (x, place) in t.externals.iter().enumerate() {
        for (l, link) in place.links.iter().enumerate() {
            let node = t.node(link.node).unwrap();
            for hop in &link.next_hops {
                add(node.netns.as_str(), *hop, wires.mac(Place::Link(x, l)), &link.dev);
            }
        }
    }
    for (netns, text) in neighbours {
        let mut child =
            Command::new("ip").args(["-n", netns, "-batch", "-"]).stdin(Stdio::piped()).spawn().unwrap();
        std::io::Write::write_all(child.stdin.as_mut().unwrap(), text.as_bytes()).unwrap();
        assert!(child.wait().unwrap().success());
    }
}
