//! The eBPF target on a machine: the program loaded, generations prepared beside the one that runs, and switched by one write.

pub mod attach;
pub(crate) mod audit;
pub mod base;
pub mod bring;
mod closed;
mod local;
pub mod pins;
pub mod slots;
pub mod tcx;

use backends::ebpf::OBJECT;
use backends::ebpf::image::Image;
use backends::ebpf::schema::Map;
use libbpf_rs::libbpf_sys::bpf_map_create_opts;
use libbpf_rs::{
    MapCore as _, MapFlags, MapHandle, MapType, Object, ObjectBuilder, PrintLevel, ProgramInput,
};
use std::collections::BTreeMap;
use std::os::fd::{AsFd as _, AsRawFd as _};

/// Why the kernel would not.
#[derive(Debug, thiserror::Error)]
pub enum EbpfError {
    #[error("{step}: {source}")]
    Kernel { step: String, source: libbpf_rs::Error },
    #[error("the object has no {0}")]
    Missing(String),
    #[error("{step}: {source}")]
    Files { step: String, source: std::io::Error },
    #[error("{0}")]
    Tool(String),
    /// The machine is not as it has to be; the message says what to do.
    #[error("{0}")]
    Machine(String),
}

type Result<T> = std::result::Result<T, EbpfError>;

pub(crate) fn kernel(step: impl Into<String>) -> impl FnOnce(libbpf_rs::Error) -> EbpfError {
    let step = step.into();
    |source| EbpfError::Kernel { step, source }
}

/// Has libbpf's own words logged, not printed.
pub(crate) fn quiet() {
    static ONCE: std::sync::Once = std::sync::Once::new();
    fn told(level: PrintLevel, text: String) {
        let text = text.trim_end();
        match level {
            PrintLevel::Debug => tracing::trace!(target: "libbpf", "{text}"),
            // What matters of it is in the error that is returned.
            PrintLevel::Info | PrintLevel::Warn => tracing::debug!(target: "libbpf", "{text}"),
        }
    }
    ONCE.call_once(|| {
        libbpf_rs::set_print(Some((PrintLevel::Debug, told)));
    });
}

/// What only the machine knows: the kernel's numbers of devices, by the numbers that they have in the images. Number 0 is the
/// VXLAN device.
#[derive(Debug, Clone, Default)]
pub struct Devices(pub BTreeMap<u32, u32>);

/// The program and its maps, loaded.
#[derive(Debug)]
pub struct Loaded {
    object: Object,
}

/// What a program did with a packet that it was given without a device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ran {
    /// A TC_ACT value.
    pub action: u32,
    /// What the program says of it: `outcome` and `reason` of `types.h`, device, VNI, verdict, VTEP.
    pub cb: [u32; 5],
    /// The frame afterwards.
    pub frame: Vec<u8>,
}

/// Fields of `struct __sk_buff` that a run may set, by offset in bytes.
mod field {
    pub const MARK: usize = 8;
    pub const INGRESS: usize = 36;
    pub const CB: usize = 48;
    pub const SIZE: usize = 192;
}

impl Loaded {
    /// Loads the program with new maps.
    ///
    /// # Errors
    /// The kernel refuses the program; the message holds what its verifier says.
    pub fn new() -> Result<Self> {
        Self::sized(None)
    }

    /// The same with room for so many connections, instead of as many as the object says.
    ///
    /// # Errors
    /// The kernel refuses the program; the message holds what its verifier says.
    pub fn sized(connections: Option<u32>) -> Result<Self> {
        let mut open = ObjectBuilder::default().open_memory(OBJECT).map_err(kernel("reading the object"))?;
        if let Some(most) = connections {
            for mut map in open.maps_mut().filter(|m| {
                ["connections", "aliases", "opened", "told", "fragments"].iter().any(|n| m.name() == *n)
            }) {
                map.set_max_entries(most).map_err(kernel("the connections"))?;
            }
        }
        Ok(Self { object: open.load().map_err(kernel("loading the program"))? })
    }

    /// A map of the object.
    ///
    /// # Errors
    /// There is none of this name.
    pub fn map(&self, name: &str) -> Result<MapHandle> {
        let mut maps = self.object.maps();
        let map = maps.find(|m| m.name() == name).ok_or_else(|| EbpfError::Missing(name.to_owned()))?;
        MapHandle::try_from(&map).map_err(kernel(format!("the map {name}")))
    }

    /// The object itself.
    #[must_use]
    pub fn object(&self) -> &Object {
        &self.object
    }

    /// Names of the programs, and of maps with the sizes of keys and values.
    #[must_use]
    pub fn parts(&self) -> (Vec<String>, BTreeMap<String, (u32, u32)>) {
        let programs = self.object.progs().map(|p| p.name().to_string_lossy().into_owned()).collect();
        let sizes = self
            .object
            .maps()
            .map(|m| (m.name().to_string_lossy().into_owned(), (m.key_size(), m.value_size())));
        (programs, sizes.collect())
    }

    /// Puts a generation into a slot, and returns its maps. It is not used before [`Loaded::flip`].
    ///
    /// # Errors
    /// The kernel refuses a map.
    pub fn prepare(
        &self,
        slot: u32,
        images: &BTreeMap<Map, Image>,
        devices: &Devices,
    ) -> Result<BTreeMap<Map, MapHandle>> {
        let mut filled = BTreeMap::new();
        let word = |n: u32| n.to_le_bytes().to_vec();
        for map in Map::ALL {
            let local;
            let image = match images.get(&map) {
                Some(image) => image,
                None => {
                    let entries: BTreeMap<Vec<u8>, Vec<u8>> = devices
                        .0
                        .iter()
                        .filter(|_| map != Map::Hosts)
                        .map(|(port, ifindex)| match map {
                            Map::Ifindexes => (word(*ifindex), word(*port)),
                            _ => (word(*port), word(*ifindex)),
                        })
                        .collect();
                    let (kind, key_size, value_size, flags) = map.shape();
                    let highest = devices.0.keys().next_back().copied().unwrap_or_default();
                    local = Image { kind, key_size, value_size, max_entries: highest + 2, flags, entries };
                    &local
                }
            };
            let inner = inner(map.name(), image)?;
            let outer = self.map(map.name())?;
            let fd = inner.as_fd().as_raw_fd().to_ne_bytes();
            outer
                .update(&slot.to_ne_bytes(), &fd, MapFlags::ANY)
                .map_err(kernel(format!("slot {slot} of {}", map.name())))?;
            filled.insert(map, inner);
        }
        Ok(filled)
    }

    /// Switches to the generation in a slot: one write, which each packet reads once. `number` tells generations apart.
    ///
    /// # Errors
    /// The kernel refuses the write.
    pub fn flip(&self, number: u64, slot: u32) -> Result<()> {
        let value = number << 1 | u64::from(slot);
        let cell = self.map("cell")?;
        cell.update(&0u32.to_ne_bytes(), &value.to_ne_bytes(), MapFlags::ANY).map_err(kernel("the flip"))
    }

    /// Runs a program on a frame (BPF_PROG_TEST_RUN), as if it came in by the device with this number.
    ///
    /// # Errors
    /// There is no such program, or the kernel does not run it.
    pub fn run(&self, program: &str, frame: &[u8], ifindex: u32, mark: u32) -> Result<Ran> {
        let found = self.object.progs_mut().find(|p| p.name() == program);
        let program = found.ok_or_else(|| EbpfError::Missing(program.to_owned()))?;
        run(&program, frame, ifindex, mark, [0; 5])
    }
}

/// Runs a program with these words in `cb`.
///
/// # Errors
/// The kernel does not run it.
pub fn run(
    program: &libbpf_rs::ProgramMut<'_>,
    frame: &[u8],
    ifindex: u32,
    mark: u32,
    cb: [u32; 5],
) -> Result<Ran> {
    let mut context = [0u8; field::SIZE];
    let mut put = |at: usize, word: u32| {
        if let Some(bytes) = context.get_mut(at..at + 4) {
            bytes.copy_from_slice(&word.to_ne_bytes());
        }
    };
    put(field::MARK, mark);
    put(field::INGRESS + 4, ifindex);
    for (at, word) in (field::CB..).step_by(4).zip(cb) {
        put(at, word);
    }
    let mut after = [0u8; field::SIZE];
    let mut data = vec![0u8; frame.len() + 128];
    let input = ProgramInput {
        context_in: Some(&mut context),
        context_out: Some(&mut after),
        data_in: Some(frame),
        data_out: Some(&mut data),
        repeat: 1,
        ..ProgramInput::default()
    };
    let output = program.test_run(input).map_err(kernel("a test run"))?;
    let action = output.return_value;
    let length = output.data.map_or(0, |data| data.len());
    let word = |at: usize| {
        let bytes = after.get(at..at + 4).and_then(|b| b.try_into().ok()).unwrap_or_default();
        u32::from_ne_bytes(bytes)
    };
    let at = |n: usize| word(field::CB + 4 * n);
    data.truncate(length);
    Ok(Ran { action, cb: [at(0), at(1), at(2), at(3), at(4)], frame: data })
}

/// One map of a generation, filled.
fn inner(map: &str, image: &Image) -> Result<MapHandle> {
    let step = || format!("the map {map}");
    let opts = bpf_map_create_opts {
        sz: size_of::<bpf_map_create_opts>().try_into().unwrap_or_default(),
        map_flags: image.flags,
        ..Default::default()
    };
    let name = format!("pw_{map}");
    let name: String = name.chars().take(15).collect();
    let kind = MapType::from(image.kind);
    let made =
        MapHandle::create(kind, Some(name), image.key_size, image.value_size, image.max_entries, &opts)
            .map_err(kernel(step()))?;
    if image.entries.is_empty() {
        return Ok(made);
    }
    let keys: Vec<u8> = image.entries.keys().flatten().copied().collect();
    let values: Vec<u8> = image.entries.values().flatten().copied().collect();
    let count = u32::try_from(image.entries.len()).unwrap_or(u32::MAX);
    made.update_batch(&keys, &values, count, MapFlags::ANY, MapFlags::ANY).map_err(kernel(step()))?;
    Ok(made)
}
