//! The files of a node: the object, the images, their list, and a script that loads them.

use super::schema::{Map, kind};
use super::{Images, OBJECT, images};
use crate::artifacts::Artifact;
use crate::linux::{Model, numbers};
use serde::Serialize;
use std::collections::BTreeMap;

const SCRIPT: &str = include_str!("../../templates/load.sh");

/// Addresses that a machine may have.
const HOSTS: u32 = 4096;

/// `maps.json`
#[derive(Debug, Serialize)]
struct Listing {
    format_version: &'static str,
    generation: String,
    node: String,
    gateway: bool,
    underlay: Underlay,
    /// BLAKE3 digest of the program.
    object: String,
    maps: Vec<MapEntry>,
    devices: Vec<Device>,
    /// Numbers of the maps `rules` and of records in `records`, and what they stand for.
    rules: BTreeMap<u32, String>,
    logs: BTreeMap<u32, String>,
    /// Reasons for drops, as numbers of the map `reasons`.
    reasons: BTreeMap<u32, &'static str>,
}

#[derive(Debug, Serialize)]
struct Underlay {
    dev: String,
    vtep: String,
    port: u16,
}

#[derive(Debug, Serialize)]
struct MapEntry {
    name: &'static str,
    #[serde(rename = "type")]
    kind: &'static str,
    key_size: u32,
    value_size: u32,
    max_entries: u32,
    flags: u32,
    entries: usize,
    /// Absent: only the machine knows what it holds.
    #[serde(skip_serializing_if = "Option::is_none")]
    digest: Option<String>,
}

#[derive(Debug, Serialize)]
struct Device {
    port: u32,
    name: String,
    kind: &'static str,
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
    let all = images(&encoded.maps);
    let mut out = vec![file("ebpf/partywall.bpf.o", OBJECT.to_vec())];
    let mut hasher = blake3::Hasher::new();
    let object = blake3::hash(OBJECT);
    hasher.update(object.as_bytes());
    let highest = encoded.devices.iter().map(|d| d.port).max().unwrap_or_default();
    let mut maps = Vec::new();
    for map in Map::ALL {
        let (number, key_size, value_size, flags) = map.shape();
        let mut entry = MapEntry {
            name: map.name(),
            kind: kind_name(number),
            key_size,
            value_size,
            max_entries: if map == Map::Hosts { HOSTS } else { highest + 2 },
            flags,
            entries: 0,
            digest: None,
        };
        if let Some(image) = all.get(&map) {
            let bytes = image.write();
            let digest = blake3::hash(&bytes);
            hasher.update(digest.as_bytes());
            entry.max_entries = image.max_entries;
            entry.entries = image.entries.len();
            entry.digest = Some(digest.to_hex().to_string());
            out.push(file(&format!("ebpf/maps/{}.img", map.name()), bytes));
        }
        maps.push(entry);
    }
    let devices: Vec<Device> = encoded
        .devices
        .iter()
        .map(|d| Device {
            port: d.port,
            name: d.name.clone(),
            kind: if d.workload { "workload" } else { "external" },
        })
        .collect();
    for device in &devices {
        hasher.update(device.name.as_bytes()).update(&device.port.to_le_bytes());
    }
    hasher.update(SCRIPT.as_bytes());
    let listing = Listing {
        format_version: "1.0",
        generation: hasher.finalize().to_hex().to_string(),
        node: model.node.clone(),
        gateway: model.gateway,
        underlay: Underlay { dev: model.dev.clone(), vtep: model.vtep.to_string(), port: model.port },
        object: object.to_hex().to_string(),
        maps,
        devices,
        rules: encoded.rules.clone(),
        logs: encoded.logs.clone(),
        reasons: super::schema::REASONS.into_iter().collect(),
    };
    out.push(Artifact { executable: true, ..file("ebpf/load.sh", script(model, &listing).into_bytes()) });
    let mut json = serde_json::to_vec_pretty(&listing).unwrap_or_default();
    json.push(b'\n');
    out.push(file("ebpf/maps.json", json));
    out
}

fn file(path: &str, bytes: Vec<u8>) -> Artifact {
    Artifact { path: path.to_owned(), executable: false, bytes }
}

fn script(model: &Model, listing: &Listing) -> String {
    let mac = numbers::router_mac(model.vtep).map(|byte| format!("{byte:02x}")).join(":");
    let maps: Vec<String> = listing
        .maps
        .iter()
        .map(|m| {
            let (key, value, most) = (m.key_size, m.value_size, m.max_entries);
            format!("{}:{}:{key}:{value}:{most}:{:#x}:{}", m.name, m.kind, m.flags, m.entries)
        })
        .collect();
    let devices: Vec<String> =
        listing.devices.iter().map(|d| format!("{}:{}:{}", d.port, d.name, d.kind)).collect();
    let head = format!(
        "# partywall generation {}\n# {}: loads this folder's program and maps.",
        listing.generation, model.node
    );
    let object: String = listing.object.chars().take(16).collect();
    SCRIPT
        .replace("@HEAD@", &head)
        .replace("@OBJECT@", &object)
        .replace("@UNDERLAY@", &model.dev)
        .replace("@PORT@", &model.port.to_string())
        .replace("@ROUTER_MAC@", &mac)
        .replace("@DEVICES@", &devices.join("\n"))
        .replace("@MAPS@", &maps.join("\n"))
}
