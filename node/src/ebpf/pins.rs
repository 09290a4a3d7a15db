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

/// Packets dropped, by reason, over all processors.
///
/// # Errors
/// The map is not there, or cannot be read.
pub fn reasons(pins: &Path) -> Result<BTreeMap<String, u64>, EbpfError> {
    let map = map(pins, "reasons")?;
    let mut out = BTreeMap::new();
    for (number, name) in REASONS {
        let key = number.to_ne_bytes();
        let found = map.lookup_percpu(&key, MapFlags::ANY).map_err(kernel("reading the map reasons"))?;
        // `struct count`: packets come first.
        let packets = found
            .into_iter()
            .flatten()
            .filter_map(|value| Some(u64::from_ne_bytes(value.get(..8)?.try_into().ok()?)))
            .sum();
        out.insert(name.to_owned(), packets);
    }
    Ok(out)
}
