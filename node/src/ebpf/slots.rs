//! A generation's maps in one of the two slots of the outer maps.

use super::base::{Base, make, remove, slot_folder};
use super::{Result, inner, kernel};
use backends::ebpf::image::Image;
use libbpf_rs::libbpf_sys::bpf_map_create_opts;
use libbpf_rs::{MapCore as _, MapFlags, MapHandle, MapType};
use std::collections::BTreeMap;
use std::os::fd::{AsFd as _, AsRawFd as _};

/// Waits until every packet that is under way has left the programs: the kernel does when an outer map changes.
///
/// # Errors
/// The kernel refuses.
pub fn wait_for_packets(base: &Base) -> Result<()> {
    let opts = bpf_map_create_opts {
        sz: size_of::<bpf_map_create_opts>().try_into().unwrap_or_default(),
        map_flags: libbpf_rs::libbpf_sys::BPF_F_INNER_MAP,
        ..Default::default()
    };
    let made = MapHandle::create(MapType::Array, Some("pw_grace"), 4, 4, 1, &opts)
        .map_err(kernel("the map grace"))?;
    let fd = made.as_fd().as_raw_fd().to_ne_bytes();
    base.map("grace")?
        .update(&0u32.to_ne_bytes(), &fd, MapFlags::ANY)
        .map_err(kernel("waiting for packets under way"))
}

/// Does something to the outer map of each name, side by side: each write waits for packets under way, and all of them can
/// wait for the same.
fn each<'a, T: Sync + 'a>(
    maps: impl Iterator<Item = (&'a String, &'a T)>,
    act: impl Fn(&str, &T) -> Result<()> + Sync,
) -> Result<()> {
    std::thread::scope(|scope| {
        let act = &act;
        let workers: Vec<_> = maps.map(|(name, map)| scope.spawn(move || act(name, map))).collect();
        let mut outcome = Ok(());
        for worker in workers {
            let done = worker.join().unwrap_or_else(|_| Err(super::EbpfError::Missing("worker".to_owned())));
            outcome = outcome.and(done);
        }
        outcome
    })
}

/// Fills a slot that nothing leads to, under a number. It is not used before the flip to it.
///
/// # Errors
/// The kernel refuses a map: too large, or not what the program wants.
pub fn fill<'a>(
    base: &Base,
    slot: u32,
    (number, digest): (u64, &str),
    images: impl Iterator<Item = (&'a String, &'a Image)>,
) -> Result<()> {
    let folder = slot_folder(base.pins(), slot);
    remove(&folder)?;
    make(&folder)?;
    // INVARIANT: since the flip away from this slot nobody is in it any more.
    wait_for_packets(base)?;
    let mut made = BTreeMap::new();
    for (name, image) in images {
        made.insert(name.clone(), inner(name, image)?);
    }
    each(made.iter(), |name, map| {
        let fd = map.as_fd().as_raw_fd().to_ne_bytes();
        base.map(name)?
            .update(&slot.to_ne_bytes(), &fd, MapFlags::ANY)
            .map_err(kernel(format!("slot {slot} of {name}")))
    })?;
    make(&folder.join(format!("generation-{digest}-{number}")))
}

/// Frees the slot that nothing leads to any more. Whether there was anything in it.
///
/// # Errors
/// The kernel refuses.
pub fn free<'a>(base: &Base, slot: u32, maps: impl Iterator<Item = &'a String>) -> Result<bool> {
    let folder = slot_folder(base.pins(), slot);
    if !folder.exists() {
        return Ok(false);
    }
    wait_for_packets(base)?;
    each(maps.map(|name| (name, &())), |name, ()| {
        // What is not there needs no taking away.
        let _ = base.map(name)?.delete(&slot.to_ne_bytes());
        Ok(())
    })?;
    remove(&folder)?;
    Ok(true)
}

/// The map that a slot of an outer map holds.
///
/// # Errors
/// The outer map cannot be read.
pub fn held(base: &Base, name: &str, slot: u32) -> Result<Option<MapHandle>> {
    let found = base
        .map(name)?
        .lookup(&slot.to_ne_bytes(), MapFlags::ANY)
        .map_err(kernel(format!("reading the map {name}")))?;
    let Some(id) = found.as_deref().and_then(|b| <[u8; 4]>::try_from(b).ok()).map(u32::from_ne_bytes) else {
        return Ok(None);
    };
    if id == 0 {
        return Ok(None);
    }
    MapHandle::from_map_id(id).map(Some).map_err(kernel(format!("opening slot {slot} of {name}")))
}

/// All entries of a map.
///
/// # Errors
/// It cannot be read.
pub fn entries(map: &MapHandle) -> Result<BTreeMap<Vec<u8>, Vec<u8>>> {
    // Room for one more than there can be, so that one call brings all.
    let most = map.max_entries().saturating_add(1);
    let batch = map.lookup_batch(most, MapFlags::ANY, MapFlags::ANY).map_err(kernel("reading a map"))?;
    let mut out: BTreeMap<Vec<u8>, Vec<u8>> = batch.collect();
    if !out.is_empty() {
        return Ok(out);
    }
    // Empty, or of a kind that this kernel does not read so.
    for key in map.keys() {
        let value = map.lookup(&key, MapFlags::ANY).map_err(kernel("reading a map"))?;
        if let Some(value) = value {
            out.insert(key, value);
        }
    }
    Ok(out)
}
