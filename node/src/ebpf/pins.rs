//! What outlives its loader: programs and maps by name on a BPF file system.

use super::{EbpfError, kernel};
use backends::ebpf::schema::{PER_PAGE, REASONS};
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

/// Bytes of `struct count`.
const COUNT: usize = 16;

/// Under it `rules` has no rule's place, but the last one that was given.
pub(super) const LAST_PLACE: u32 = 0;

/// Packets and bytes that a counter saw, over all processors.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Count {
    pub packets: u64,
    pub bytes: u64,
}

/// The counters of a map, over all processors, in the order in which a value holds them.
fn read(map: &MapHandle, name: &str, key: &[u8]) -> Result<Vec<Count>, EbpfError> {
    let found = map.lookup_percpu(key, MapFlags::ANY).map_err(kernel(format!("reading the map {name}")))?;
    let mut out = Vec::new();
    for value in found.into_iter().flatten() {
        out.resize(out.len().max(value.len() / COUNT), Count::default());
        for (count, bytes) in out.iter_mut().zip(value.chunks_exact(COUNT)) {
            let word = |at: usize| {
                let bytes = bytes.get(at..at + 8).and_then(|bytes| bytes.try_into().ok());
                bytes.map_or(0, u64::from_ne_bytes)
            };
            count.packets += word(0);
            count.bytes += word(8);
        }
    }
    Ok(out)
}

/// What stands in a map of numbers; what is taken away meanwhile is left out.
///
/// # Errors
/// The map cannot be read.
pub(super) fn numbers(map: &MapHandle) -> Result<BTreeMap<u32, u32>, EbpfError> {
    let number = |bytes: &[u8]| bytes.try_into().ok().map(u32::from_ne_bytes);
    let mut out = BTreeMap::new();
    for key in map.keys() {
        let found = map.lookup(&key, MapFlags::ANY).map_err(kernel("reading a map of numbers"))?;
        if let (Some(key), Some(value)) = (number(&key), found.and_then(|value| number(&value))) {
            out.insert(key, value);
        }
    }
    Ok(out)
}

/// What rules counted, by the rules' numbers.
///
/// # Errors
/// The maps are not there, or cannot be read.
pub fn rules(pins: &Path) -> Result<BTreeMap<u32, Count>, EbpfError> {
    let counts = map(pins, "counts")?;
    let mut pages: BTreeMap<u32, Vec<(u32, u32)>> = BTreeMap::new();
    for (rule, place) in numbers(&map(pins, "rules")?)? {
        pages.entry(place / PER_PAGE).or_default().push((rule, place % PER_PAGE));
    }
    let mut out = BTreeMap::new();
    for (page, rules) in pages {
        let counted = read(&counts, "counts", &page.to_ne_bytes())?;
        for (rule, at) in rules.into_iter().filter(|(rule, _)| *rule != LAST_PLACE) {
            let count = usize::try_from(at).ok().and_then(|at| counted.get(at)).copied();
            out.insert(rule, count.unwrap_or_default());
        }
    }
    Ok(out)
}

/// What was dropped, by the reasons' numbers.
///
/// # Errors
/// The map is not there, or cannot be read.
pub fn dropped(pins: &Path) -> Result<BTreeMap<u32, Count>, EbpfError> {
    let reasons = map(pins, "reasons")?;
    let mut out = BTreeMap::new();
    for key in reasons.keys() {
        let Ok(number) = <[u8; 4]>::try_from(key.as_slice()) else { continue };
        let counted = read(&reasons, "reasons", &key)?;
        out.insert(u32::from_ne_bytes(number), counted.first().copied().unwrap_or_default());
    }
    Ok(out)
}

/// Packets dropped, by reason.
///
/// # Errors
/// As [`dropped`].
pub fn reasons(pins: &Path) -> Result<BTreeMap<String, u64>, EbpfError> {
    let counted = dropped(pins)?;
    let packets = |number: u32| counted.get(&number).map_or(0, |count| count.packets);
    Ok(REASONS.into_iter().map(|(number, name)| (name.to_owned(), packets(number))).collect())
}
