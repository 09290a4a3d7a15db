//! What outlives its loader: programs and maps by name on a BPF file system.

use super::{EbpfError, kernel};
use backends::ebpf::schema::REASONS;
use libbpf_rs::{MapCore as _, MapFlags, MapHandle};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Where `load.sh` keeps a machine's own, unless it is told otherwise.
pub const PINS: &str = "/sys/fs/bpf/partywall";

/// A pinned map.
///
/// # Errors
/// There is none, or it cannot be opened.
pub fn map(pins: &Path, name: &str) -> Result<MapHandle, EbpfError> {
    let path: PathBuf = pins.join("maps").join(name);
    MapHandle::from_pinned_path(&path).map_err(kernel(format!("opening {}", path.display())))
}

/// Packets and bytes that a counter saw, over all processors.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Count {
    pub packets: u64,
    pub bytes: u64,
}

/// The counters of a map whose values are `struct count` per processor, by their numbers.
///
/// # Errors
/// The map is not there, or cannot be read.
pub fn counters(pins: &Path, name: &str) -> Result<BTreeMap<u32, Count>, EbpfError> {
    let map = map(pins, name)?;
    let mut out = BTreeMap::new();
    for key in map.keys() {
        let Ok(number) = <[u8; 4]>::try_from(key.as_slice()) else { continue };
        let found =
            map.lookup_percpu(&key, MapFlags::ANY).map_err(kernel(format!("reading the map {name}")))?;
        let mut count = Count::default();
        for value in found.into_iter().flatten() {
            let word = |at: usize| {
                let bytes = value.get(at..at + 8).and_then(|bytes| bytes.try_into().ok());
                bytes.map_or(0, u64::from_ne_bytes)
            };
            count.packets += word(0);
            count.bytes += word(8);
        }
        out.insert(u32::from_ne_bytes(number), count);
    }
    Ok(out)
}

/// Packets dropped, by reason, over all processors.
///
/// # Errors
/// The map is not there, or cannot be read.
pub fn reasons(pins: &Path) -> Result<BTreeMap<String, u64>, EbpfError> {
    let counted = counters(pins, "reasons")?;
    let packets = |number: u32| counted.get(&number).map_or(0, |count| count.packets);
    Ok(REASONS.into_iter().map(|(number, name)| (name.to_owned(), packets(number))).collect())
}
