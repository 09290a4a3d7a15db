//! The files of the eBPF target, read strictly.

use super::Devices;
use backends::ebpf::image::Image;
use backends::ebpf::{DeviceKind, Listing};
use std::collections::{BTreeMap, BTreeSet};

pub(super) const SCRIPT: &str = "load.sh";
const LISTING: &str = "maps.json";
const OBJECT: &str = "partywall.bpf.o";
pub(super) const PARTS: [&str; 3] = [SCRIPT, LISTING, OBJECT];

/// A program with the maps of one generation.
#[derive(Debug, Clone)]
pub struct Program {
    pub listing: Listing,
    /// By the maps' names, without those that only the machine can fill.
    pub images: BTreeMap<String, Image>,
    pub object: Vec<u8>,
}

impl Program {
    /// Reads them; what is wrong with the first that is not as `build` writes it.
    pub(super) fn read(files: &BTreeMap<String, Vec<u8>>) -> Result<Self, String> {
        let get = |name: &str| files.get(name).ok_or_else(|| format!("there is no {name}"));
        let listing: Listing = serde_json::from_slice(get(LISTING)?)
            .map_err(|e| format!("{LISTING} is no list of maps: {e}"))?;
        if listing.format_version.split('.').next() != Some("1") {
            return Err(format!("{LISTING} has format_version {:?}, and 1 is known", listing.format_version));
        }
        let object = get(OBJECT)?.clone();
        if blake3::hash(&object).to_hex().as_str() != listing.object {
            return Err(format!("{LISTING} was made for another {OBJECT}"));
        }
        let mut images = BTreeMap::new();
        for entry in &listing.maps {
            // Names of maps become names of files on a BPF file system.
            if entry.name.is_empty() || !entry.name.bytes().all(|b| b.is_ascii_lowercase() || b == b'_') {
                return Err(format!("{LISTING} names a map {:?}", entry.name));
            }
            let Some(digest) = &entry.digest else { continue };
            let path = format!("maps/{}.img", entry.name);
            let bytes = get(&path)?;
            if blake3::hash(bytes).to_hex().as_str() != digest {
                return Err(format!("{LISTING} was made for another {path}"));
            }
            let image = Image::read(bytes).map_err(|refused| format!("{path} {refused}"))?;
            let same = image.key_size == entry.key_size
                && image.value_size == entry.value_size
                && image.max_entries == entry.max_entries
                && image.flags == entry.flags;
            if !same {
                return Err(format!("{path} has another shape than {LISTING} says"));
            }
            images.insert(entry.name.clone(), image);
        }
        let digest = &listing.generation;
        if digest.len() != 64 || !digest.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Err(format!("{LISTING} names no generation"));
        }
        Ok(Self { listing, images, object })
    }

    pub(super) fn devices(&self) -> Devices {
        let of = |kind: DeviceKind| {
            let devices = self.listing.devices.iter().filter(move |d| d.kind == kind);
            devices.map(|d| d.name.clone()).collect()
        };
        Devices {
            workloads: of(DeviceKind::Workload),
            outside: of(DeviceKind::External),
            underlay: BTreeSet::from([self.listing.underlay.dev.clone()]),
        }
    }
}
