//! The loaded program with one node's maps, and single packets through it.

use backends::ebpf::schema::Map;
use backends::ebpf::{Attached, encode, images};
use backends::linux::{Dialect, lower, numbers};
use compiler::ids::NodeId;
use libbpf_rs::{MapCore as _, MapFlags, MapHandle, Object, ObjectBuilder};
use partywall_node::ebpf::{Devices, Loaded, Ran, run};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::os::fd::{AsFd as _, AsRawFd as _};
use std::path::Path;

use crate::support::Project;

/// What `pw_underlay` leaves on packets.
pub const FROM_UNDERLAY: u32 = 0x5057_0001;
/// The device of a run that names none.
const LOOPBACK: u32 = 1;
/// Devices get their numbers and this.
pub const BASE: u32 = 1000;

/// What ran last: the program, its frame, mark and `cb`, and what it did.
struct Last {
    program: &'static str,
    frame: Vec<u8>,
    mark: u32,
    cb: [u32; 5],
    did: Ran,
}

pub struct Machine {
    last: RefCell<Option<Last>>,
    loaded: Loaded,
    enter: Object,
    inner: BTreeMap<Map, MapHandle>,
    generation: u64,
    /// Devices of the node, by name.
    pub devices: BTreeMap<String, u32>,
    pub mac: [u8; 6],
}

impl Machine {
    pub fn new() -> Self {
        let loaded = Loaded::sized(Some(64)).unwrap();
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
            loaded,
            enter,
            inner: BTreeMap::new(),
            generation: 0,
            devices: BTreeMap::new(),
            mac: [0; 6],
        }
    }

    /// Takes on a node.
    pub fn become_node(&mut self, project: &Project, node: NodeId) {
        let model = lower(&project.compiled, &project.sources, Dialect::EBPF, node, &[]).unwrap();
        let encoded = encode(&project.compiled, node, &model);
        assert!(encoded.contradictions.is_empty(), "{:?}", encoded.contradictions);
        self.mac = numbers::router_mac(model.vtep);
        self.devices =
            encoded.devices.iter().map(|Attached { port, name, .. }| (name.clone(), *port)).collect();
        let ports = self.devices.values().map(|port| (*port, BASE + port)).chain([(0, BASE)]);
        let devices = Devices(ports.collect());
        self.generation += 1;
        let slot = u32::try_from(self.generation & 1).unwrap();
        self.inner = self.loaded.prepare(slot, &images(&encoded.maps), &devices).unwrap();
        self.loaded.flip(self.generation, slot).unwrap();
        self.forget();
    }

    fn at(&self, device: &str) {
        let ifindexes = &self.inner[&Map::Ifindexes];
        let port = self.devices[device];
        ifindexes.update(&LOOPBACK.to_ne_bytes(), &port.to_ne_bytes(), MapFlags::ANY).unwrap();
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
        *self.last.borrow_mut() = Some(Last { program, frame: frame.to_vec(), mark, cb, did: did.clone() });
        did
    }

    /// Whether `ran` is what the last frame came to, and the same frame comes to it again: once decided anew, since the first one
    /// opened the connection, and once by what the connection remembers of that.
    pub fn again(&self, ran: &Ran) -> Option<[Ran; 2]> {
        let Last { program, frame, mark, cb, did } = self.last.take()?;
        if did != *ran {
            return None;
        }
        let second = self.run(program, &frame, mark, cb);
        let connections = self.loaded.map("connections").unwrap();
        // `struct ct`: the first word of either `struct decided`.
        let remembers = connections.keys().any(|key| {
            let entry = connections.lookup(&key, MapFlags::ANY).unwrap().unwrap();
            entry[16..24].iter().chain(&entry[80..88]).any(|byte| *byte != 0)
        });
        assert!(remembers, "the connection of {frame:02x?} remembers nothing");
        let third = self.run(program, &frame, mark, cb);
        Some([second, third])
    }

    /// A frame of the underlay.
    pub fn underlay(&self, frame: &[u8]) -> Ran {
        self.loaded.run("pw_underlay", frame, 0, 0).unwrap()
    }

    /// Ends all connections, and forgets what fragments and senders of expired packets were told.
    pub fn forget(&self) {
        for name in ["connections", "aliases", "opened", "told", "fragments"] {
            let map = self.loaded.map(name).unwrap();
            let keys: Vec<Vec<u8>> = map.keys().collect();
            for key in keys {
                map.delete(&key).unwrap();
            }
        }
    }
}
