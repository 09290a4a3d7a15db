//! The files of a node: the object, the images, their list, and a script that loads them.

use super::image::Image;
use super::live::Rankings;
use super::schema::{Map, kind};
use super::{Images, OBJECT, images};
use crate::artifacts::Artifact;
use crate::linux::{Model, numbers};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

const SCRIPT: &str = include_str!("../../templates/load.sh");

/// Addresses that a machine may have.
const HOSTS: u32 = 4096;

/// `maps.json`
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Listing {
    pub format_version: String,
    /// The digest at the head of the node's files.
    pub generation: String,
    pub node: String,
    pub gateway: bool,
    pub underlay: Underlay,
    /// BLAKE3 digest of the program.
    pub object: String,
    pub maps: Vec<MapEntry>,
    pub devices: Vec<Device>,
    /// Numbers of the map `rules` and of records in `records`, and what they stand for.
    pub rules: BTreeMap<u32, String>,
    pub logs: BTreeMap<u32, String>,
    /// Reasons for drops, as numbers of the map `reasons`.
    pub reasons: BTreeMap<u32, String>,
    /// What answers through gateways without state admit beyond what the policy lets open a connection.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub admits: Vec<String>,
    #[serde(default, skip_serializing_if = "Rankings::is_empty")]
    pub rankings: Rankings,
}

/// The node's own end of tunnels.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Underlay {
    pub dev: String,
    pub vtep: String,
    /// UDP port of VXLAN.
    pub port: u16,
    /// Of the VXLAN device and of workloads' devices.
    pub router_mac: String,
}

/// A map of a generation.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct MapEntry {
    pub name: String,
    #[serde(rename = "type")]
    pub kind: String,
    /// Bytes.
    pub key_size: u32,
    pub value_size: u32,
    pub max_entries: u32,
    /// The kernel's.
    pub flags: u32,
    pub entries: usize,
    /// BLAKE3 digest of the image. Absent: only the machine knows what it holds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<String>,
}

/// A device that a program is attached to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Device {
    /// Its number in the maps.
    pub port: u32,
    pub name: String,
    pub kind: DeviceKind,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DeviceKind {
    Workload,
    External,
}

impl DeviceKind {
    /// As in `maps.json` and `load.sh`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Workload => "workload",
            Self::External => "external",
        }
    }
}

fn kind_name(number: u32) -> &'static str {
    match number {
        kind::ARRAY => "array",
        kind::LPM_TRIE => "lpm_trie",
        _ => "hash",
    }
}

/// A node's files, with paths relative to its folder.
pub(super) fn files(model: &Model, encoded: &Images) -> Vec<Artifact> {
    let images = images(&encoded.maps);
    let devices: Vec<Device> = encoded
        .devices
        .iter()
        .map(|d| Device {
            port: d.port,
            name: d.name.clone(),
            kind: if d.workload { DeviceKind::Workload } else { DeviceKind::External },
        })
        .collect();
    let highest = devices.iter().map(|d| d.port).max().unwrap_or_default();
    let maps = Map::ALL
        .into_iter()
        .map(|map| {
            let (number, key_size, value_size, flags) = map.shape();
            MapEntry {
                name: map.name().to_owned(),
                kind: kind_name(number).to_owned(),
                key_size,
                value_size,
                max_entries: if map == Map::Hosts { HOSTS } else { highest + 2 },
                flags,
                entries: 0,
                digest: None,
            }
        })
        .collect();
    let listing = Listing {
        format_version: "1.1".to_owned(),
        generation: String::new(),
        node: model.node.clone(),
        gateway: model.gateway,
        underlay: Underlay {
            dev: model.dev.clone(),
            vtep: model.vtep.to_string(),
            port: model.port,
            router_mac: numbers::router_mac(model.vtep).map(|byte| format!("{byte:02x}")).join(":"),
        },
        object: blake3::hash(OBJECT).to_hex().to_string(),
        maps,
        devices,
        rules: encoded.rules.clone(),
        logs: encoded.logs.clone(),
        reasons: super::schema::REASONS.into_iter().map(|(n, name)| (n, name.to_owned())).collect(),
        admits: model.admitted.iter().map(ToString::to_string).collect(),
        rankings: encoded.rankings.clone(),
    };
    let images = images.into_iter().map(|(map, image)| (map.name().to_owned(), image)).collect();
    assemble(listing, OBJECT, &images)
}

/// The files of these images: sizes, digests and the generation are written into the listing.
pub(super) fn assemble(
    mut listing: Listing,
    object: &[u8],
    images: &BTreeMap<String, Image>,
) -> Vec<Artifact> {
    let mut out = vec![file("ebpf/partywall.bpf.o", object.to_vec())];
    let mut hasher = blake3::Hasher::new();
    hasher.update(listing.object.as_bytes());
    for entry in &mut listing.maps {
        let Some(image) = images.get(&entry.name) else { continue };
        let bytes = image.write();
        let digest = blake3::hash(&bytes);
        hasher.update(digest.as_bytes());
        entry.max_entries = image.max_entries;
        entry.entries = image.entries.len();
        entry.digest = Some(digest.to_hex().to_string());
        out.push(file(&format!("ebpf/maps/{}.img", entry.name), bytes));
    }
    for device in &listing.devices {
        hasher.update(device.name.as_bytes()).update(&device.port.to_le_bytes());
    }
    hasher.update(listing.underlay.dev.as_bytes());
    hasher.update(SCRIPT.as_bytes());
    listing.generation = hasher.finalize().to_hex().to_string();
    out.push(Artifact { executable: true, ..file("ebpf/load.sh", script(&listing).into_bytes()) });
    let mut json = serde_json::to_vec_pretty(&listing).unwrap_or_default();
    json.push(b'\n');
    out.push(file("ebpf/maps.json", json));
    out
}

fn file(path: &str, bytes: Vec<u8>) -> Artifact {
    Artifact { path: path.to_owned(), executable: false, bytes }
}

fn script(listing: &Listing) -> String {
    let maps: Vec<String> = listing
        .maps
        .iter()
        .map(|m| {
            let (key, value, most) = (m.key_size, m.value_size, m.max_entries);
            format!("{}:{}:{key}:{value}:{most}:{:#x}:{}", m.name, m.kind, m.flags, m.entries)
        })
        .collect();
    let devices: Vec<String> =
        listing.devices.iter().map(|d| format!("{}:{}:{}", d.port, d.name, d.kind.name())).collect();
    let head = format!(
        "# partywall generation {}\n# {}: loads this folder's program and maps.",
        listing.generation, listing.node
    );
    let object: String = listing.object.chars().take(16).collect();
    SCRIPT
        .replace("@HEAD@", &head)
        .replace("@OBJECT@", &object)
        .replace("@GENERATION@", &listing.generation)
        .replace("@UNDERLAY@", &listing.underlay.dev)
        .replace("@PORT@", &listing.underlay.port.to_string())
        .replace("@ROUTER_MAC@", &listing.underlay.router_mac)
        .replace("@DEVICES@", &devices.join("\n"))
        .replace("@MAPS@", &maps.join("\n"))
}
