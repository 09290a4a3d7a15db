//! The loaded program with one node's maps, and single packets through it.

use crate::frames::{Outer, sum4, vxlan};
use crate::layout;
use crate::said::{LEFT_ALONE, SENT_DEVICE, SENT_TUNNEL, SENT_WIRE, SHOT, TOO_BIG, TTL, UNSPEC};
use crate::support::Project;
use backends::ebpf::schema::Map;
use backends::ebpf::{Attached, encode, images};
use backends::linux::{Dialect, lower, numbers};
use compiler::ids::NodeId;
use libbpf_rs::{MapCore as _, MapFlags, MapHandle, Object, ObjectBuilder};
use partywall_node::ebpf::{Devices, Loaded, Ran, run};
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::os::fd::{AsFd as _, AsRawFd as _};
use std::path::Path;

/// What `pw_underlay` leaves on packets.
pub const FROM_UNDERLAY: u32 = 0x5057_0001;
/// The device of a run that names none.
const LOOPBACK: u32 = 1;
/// Devices get their numbers and this.
pub const BASE: u32 = 1000;
/// The number of the underlay's device.
const UNDERLAY: u32 = backends::ebpf::UNDERLAY;

/// What ran last: the program, its frame, mark and `cb`, and what it did.
struct Last {
    program: &'static str,
    frame: Vec<u8>,
    mark: u32,
    cb: [u32; 5],
    did: Ran,
}

/// What packets leave behind.
const LEFT: [&str; 5] = ["connections", "aliases", "opened", "told", "fragments"];

pub struct Machine {
    last: RefCell<Option<Last>>,
    loaded: Loaded,
    enter: Object,
    inner: BTreeMap<Map, MapHandle>,
    /// The maps of `LEFT`, and whether any of them may hold something.
    left: [MapHandle; LEFT.len()],
    used: Cell<bool>,
    /// The port that runs are of.
    port: Cell<Option<u32>>,
    /// Where a connection's entry says, by direction, whether it remembers what was decided; its translation; when a packet last
    /// came by the VXLAN device.
    words: [usize; 2],
    xlat: usize,
    detour: usize,
    generation: u64,
    /// This node's end of tunnels, and its UDP port.
    vtep: (IpAddr, u16),
    /// Devices of the node, by name.
    pub devices: BTreeMap<String, u32>,
    pub mac: [u8; 6],
}

impl Machine {
    pub fn new() -> Self {
        Self::sized(64)
    }

    /// With room for so many connections.
    pub fn sized(connections: u32) -> Self {
        let loaded = Loaded::sized(Some(connections)).unwrap();
        let object = Path::new(env!("CARGO_MANIFEST_DIR")).join("../backends/ebpf/test.bpf.o");
        let enter = ObjectBuilder::default().open_file(object).unwrap().load().unwrap();
        let next = MapHandle::try_from(&enter.maps().find(|m| m.name() == "next").unwrap()).unwrap();
        {
            let fabric = loaded.object().progs_mut().find(|p| p.name() == "pw_fabric").unwrap();
            let fd = fabric.as_fd().as_raw_fd().to_ne_bytes();
            next.update(&0u32.to_ne_bytes(), &fd, MapFlags::ANY).unwrap();
        }
        Self {
            last: RefCell::new(None),
            left: LEFT.map(|name| loaded.map(name).unwrap()),
            used: Cell::new(true),
            port: Cell::new(None),
            words: [0, layout::size("decided")]
                .map(|of| layout::at("ct", "decided") + of + layout::at("decided", "word")),
            xlat: layout::at("ct", "xlat"),
            detour: layout::at("ct", "detour"),
            loaded,
            enter,
            inner: BTreeMap::new(),
            generation: 0,
            vtep: (IpAddr::from([0; 4]), 0),
            devices: BTreeMap::new(),
            mac: [0; 6],
        }
    }

    /// Takes on a node.
    pub fn become_node(&mut self, project: &Project, node: NodeId) {
        self.switch(project, node);
        self.used.set(true);
        self.forget();
    }

    /// Goes over to another generation, with the connections that there are.
    pub fn switch(&mut self, project: &Project, node: NodeId) {
        let model = lower(&project.compiled, &project.sources, Dialect::EBPF, node, &[]).unwrap();
        let encoded = encode(&project.compiled, node, &model);
        assert!(encoded.contradictions.is_empty(), "{:?}", encoded.contradictions);
        self.mac = numbers::router_mac(model.vtep);
        self.vtep = (model.vtep, model.port);
        self.devices =
            encoded.devices.iter().map(|Attached { port, name, .. }| (name.clone(), *port)).collect();
        let ports = self.devices.values().map(|port| (*port, BASE + port)).chain([(0, BASE)]);
        let devices = Devices(ports.collect());
        self.generation += 1;
        let slot = u32::try_from(self.generation & 1).unwrap();
        self.inner = self.loaded.prepare(slot, &images(&encoded.maps), &devices).unwrap();
        self.loaded.flip(self.generation, slot).unwrap();
        self.port.set(None);
    }

    fn at(&self, device: &str) {
        let ifindexes = &self.inner[&Map::Ifindexes];
        let port = self.devices[device];
        if self.port.replace(Some(port)) != Some(port) {
            ifindexes.update(&LOOPBACK.to_ne_bytes(), &port.to_ne_bytes(), MapFlags::ANY).unwrap();
        }
    }

    pub fn workload(&self, device: &str, frame: &[u8]) -> Ran {
        self.at(device);
        self.run("pw_workload", frame, 0, [0; 5])
    }

    pub fn outside(&self, device: &str, frame: &[u8]) -> Ran {
        self.at(device);
        // The address of the device of a run, so that the kernel takes the frame for its own.
        let mut frame = frame.to_vec();
        frame[..6].fill(0);
        self.run("pw_outside", &frame, 0, [0; 5])
    }

    /// A frame that came in a VXLAN packet.
    pub fn fabric(&self, vtep: IpAddr, vni: u32, frame: &[u8]) -> Ran {
        let mut cb = [0, 0, 0, 0, vni];
        match vtep {
            IpAddr::V4(v4) => cb[0] = u32::from_ne_bytes(v4.octets()),
            IpAddr::V6(v6) => {
                for (word, bytes) in cb.iter_mut().zip(v6.octets().chunks_exact(4)) {
                    *word = u32::from_ne_bytes(bytes.try_into().unwrap());
                }
                cb[4] |= 1 << 31;
            }
        }
        self.run("pw_enter", frame, FROM_UNDERLAY, cb)
    }

    fn run(&self, program: &'static str, frame: &[u8], mark: u32, cb: [u32; 5]) -> Ran {
        let object = if program == "pw_enter" { &self.enter } else { self.loaded.object() };
        let found = object.progs_mut().find(|p| p.name() == program).unwrap();
        let did = run(&found, frame, 0, mark, cb).unwrap();
        // A fragment is remembered before it is decided, and whom to tell before it is told.
        let fragment = match frame.get(12..24) {
            Some([8, 0, ip @ ..]) => (ip[6] & 0x3f) | ip[7] != 0,
            Some([0x86, 0xdd, ip @ ..]) => ip[6] == 44,
            _ => false,
        };
        if did.action != SHOT || fragment || [TTL, TOO_BIG].contains(&did.cb[0]) {
            self.used.set(true);
        }
        *self.last.borrow_mut() = Some(Last { program, frame: frame.to_vec(), mark, cb, did: did.clone() });
        did
    }

    /// Whether `ran` is what the last frame came to, and the same frame comes to it again: once decided anew, since the first one
    /// opened the connection, and once by what the connection remembers of that. Then once more where the program puts on and
    /// takes off VXLAN itself, which has to be the same.
    pub fn again(&self, ran: &Ran) -> Option<[Ran; 2]> {
        let Last { program, frame, mark, cb, did } = self.last.take()?;
        if did != *ran {
            return None;
        }
        let second = self.run(program, &frame, mark, cb);
        let entries = self.connections();
        let word = |entry: &[u8], at: usize| u64::from_ne_bytes(entry[at..at + 8].try_into().unwrap());
        let remembers = entries.iter().any(|(_, e)| self.words.iter().any(|at| word(e, *at) != 0));
        assert!(remembers, "the connection of {frame:02x?} remembers nothing");
        let third = self.run(program, &frame, mark, cb);
        let translated = entries.iter().any(|(_, e)| e[self.xlat..self.xlat + 4] != [0; 4]);
        if third.cb[0] == SENT_TUNNEL && third == did {
            self.underlay_is(BASE + UNDERLAY);
            let wire = self.run(program, &frame, mark, cb);
            self.underlay_is(0);
            self.enclosed(&third, &wire);
        }
        if program == "pw_enter" && third == did && self.vtep.0.is_ipv4() {
            self.taken_out(&third, &frame, cb, translated);
        }
        Some([second, third])
    }

    fn connections(&self) -> Vec<(Vec<u8>, Vec<u8>)> {
        let [connections, ..] = &self.left;
        let entry = |key: Vec<u8>| {
            let value = connections.lookup(&key, MapFlags::ANY).unwrap()?;
            Some((key, value))
        };
        connections.keys().filter_map(entry).collect()
    }

    /// What the map `devices` says of the underlay's device; 0: the program leaves VXLAN to the kernel.
    fn underlay_is(&self, ifindex: u32) {
        let devices = &self.inner[&Map::Devices];
        devices.update(&UNDERLAY.to_ne_bytes(), &ifindex.to_ne_bytes(), MapFlags::ANY).unwrap();
    }

    /// `wire` is `tunnel` in a VXLAN packet, for which the kernel has yet to find MACs.
    fn enclosed(&self, tunnel: &Ran, wire: &Ran) {
        let IpAddr::V4(vtep) = self.vtep.0 else {
            return assert_eq!(tunnel, wire);
        };
        let [_, device, vni, verdict, to] = tunnel.cb;
        assert_eq!(device, BASE);
        assert_eq!((wire.action, wire.cb), (tunnel.action, [SENT_WIRE, BASE + UNDERLAY, vni, verdict, to]));
        let (outer, inner) = wire.frame.split_at(14 + 20 + 8 + 8);
        assert_eq!(inner, tunnel.frame);
        let length = |n: usize| u16::try_from(wire.frame.len() - n).unwrap().to_be_bytes();
        let ecn = if inner[12..14] == [8, 0] { inner[15] & 3 } else { inner[15] >> 4 & 3 };
        assert_eq!(outer[12..24], [&[8, 0, 0x45, ecn][..], &length(14), &[0, 0, 0x40, 0, 64, 17]].concat());
        assert_eq!(sum4(&outer[14..34]), 0);
        assert_eq!(outer[26..34], [vtep.octets(), to.to_ne_bytes()].concat());
        assert!((32_768..61_000).contains(&u16::from_be_bytes([outer[34], outer[35]])));
        let udp = [&self.vtep.1.to_be_bytes()[..], &length(34), &[0, 0]].concat();
        assert_eq!(outer[36..42], udp);
        let [_, high, middle, low] = vni.to_be_bytes();
        assert_eq!(outer[42..], [8, 0, 0, 0, high, middle, low, 0]);
    }

    /// The same frame in VXLAN, as the underlay brings it: it is delivered as it was, or left to the VXLAN device untouched.
    fn taken_out(&self, tunnel: &Ran, inner: &[u8], cb: [u32; 5], translated: bool) {
        let outer = Outer {
            from: [2, 0, 0, 0, 0, 0x99],
            // The address of the device of a run.
            to: [0; 6],
            src: IpAddr::from(cb[0].to_ne_bytes()),
            dst: self.vtep.0,
            port: self.vtep.1,
            vni: cb[4],
            flags: 8,
        };
        let whole = vxlan(&outer, inner);
        // As if it were long ago that one came by the VXLAN device.
        for (key, mut entry) in self.connections() {
            entry[self.detour..self.detour + 4].fill(0);
            self.left[0].update(&key, &entry, MapFlags::ANY).unwrap();
        }
        self.underlay_is(LOOPBACK);
        let ran = self.underlay(&whole);
        self.underlay_is(0);
        if tunnel.cb[0] == SENT_DEVICE && !translated {
            assert_eq!(ran, *tunnel, "{whole:02x?}");
        } else {
            assert_eq!((ran.action, ran.cb[0], &ran.frame), (UNSPEC, LEFT_ALONE, &whole));
        }
    }

    /// One of the program's own maps.
    pub fn map(&self, name: &str) -> MapHandle {
        self.used.set(true);
        self.loaded.map(name).unwrap()
    }

    /// A map of the generation.
    pub fn of_generation(&self, map: Map) -> &MapHandle {
        &self.inner[&map]
    }

    /// A frame of the underlay.
    pub fn underlay(&self, frame: &[u8]) -> Ran {
        self.loaded.run("pw_underlay", frame, 0, 0).unwrap()
    }

    /// Ends all connections, and forgets what fragments and senders of expired packets were told.
    pub fn forget(&self) {
        if !self.used.replace(false) {
            return;
        }
        for map in &self.left {
            let keys: Vec<Vec<u8>> = map.keys().collect();
            for key in keys {
                map.delete(&key).unwrap();
            }
        }
    }
}
