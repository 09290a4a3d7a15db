//! The live instances of gateways as an input at the time of installing: one node's files for other instances than they were
//! built for, without the project.
//!
//! `maps.json` says of each bucket, and of each verdict that leads to a gateway of one instance, which instances it may go to
//! and in which order. Nothing else in a node's files depends on who is alive, so that the result is what `build` gives with
//! the same instances down.

use super::files::{Listing, assemble};
use super::image::{Image, Refused};
use super::schema::{Map, bytes};
use crate::artifacts::Artifact;
use crate::linux::{numbers, numbers::small};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// Hexadecimal digits of a number in a row.
const DIGITS: usize = 4;
/// Buckets of one gateway.
const ROW: u32 = 4096;
/// Where `struct verdict` has its gateway or instance.
const GATEWAY: usize = 16;

/// Who gets packets to a gateway's instances: the first that is alive.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rankings {
    /// Instances by preference, between spaces, and the number of that list.
    lists: BTreeMap<String, u32>,
    /// For each row of the map `buckets` the lists of its entries, four hexadecimal digits each.
    rows: BTreeMap<u32, String>,
    /// The one instance to which a verdict leads.
    only: BTreeMap<u32, String>,
}

/// Why files could not be changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unreadable {
    #[error("there is no {0}")]
    Missing(&'static str),
    #[error("{path} is not what `build` writes: {what}")]
    Listing { path: &'static str, what: String },
    #[error("maps/{map}.img {source}")]
    Image { map: String, source: Refused },
    #[error("maps.json names the instance {0}, which the manifest does not list for this node")]
    Instance(String),
}

impl Rankings {
    /// Whether this node sends nothing to gateways.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty() && self.only.is_empty()
    }

    /// Entry `index` of the map `buckets`; entries of a row come in order. `note` names the instances up to a comma.
    pub(super) fn cell(&mut self, index: u32, note: &str) {
        let list = names(note);
        let next = u32::try_from(self.lists.len()).unwrap_or(u32::MAX);
        let number = *self.lists.entry(list.to_owned()).or_insert(next);
        self.rows.entry(index / ROW).or_default().push_str(&format!("{number:04x}"));
    }

    pub(super) fn only(&mut self, verdict: u32, note: &str) {
        self.only.insert(verdict, names(note).to_owned());
    }
}

fn names(note: &str) -> &str {
    note.split(',').next().unwrap_or_default()
}

/// One node's files of the eBPF target, by their paths in its folder `ebpf`, with these gateway nodes down and all others alive,
/// whatever they were built for. `instances` is the manifest's list for this node.
///
/// # Errors
/// A file is not what `build` wrote.
pub fn with_down(
    files: &BTreeMap<String, Vec<u8>>,
    instances: &[String],
    down: &BTreeSet<String>,
) -> Result<Vec<Artifact>, Unreadable> {
    let get = |name: &'static str| files.get(name).ok_or(Unreadable::Missing(name));
    let strange = |what: String| Unreadable::Listing { path: "maps.json", what };
    let listing: Listing = serde_json::from_slice(get("maps.json")?).map_err(|e| strange(e.to_string()))?;
    let object = get("partywall.bpf.o")?;
    let mut images = BTreeMap::new();
    for entry in listing.maps.iter().filter(|entry| entry.digest.is_some()) {
        let bytes = files
            .get(&format!("maps/{}.img", entry.name))
            .ok_or_else(|| strange(format!("it lists {}, which has no image", entry.name)))?;
        let image =
            Image::read(bytes).map_err(|source| Unreadable::Image { map: entry.name.clone(), source })?;
        images.insert(entry.name.clone(), image);
    }
    let first = |ranking: &str| -> Result<u32, Unreadable> {
        for name in ranking.split(' ').filter(|name| !name.is_empty()) {
            let at = instances.iter().position(|i| i == name);
            let at = at.ok_or_else(|| Unreadable::Instance(name.to_owned()))?;
            if !down.contains(name) {
                return Ok(numbers::INSTANCE | small(at));
            }
        }
        Ok(0)
    };
    let mut lists = BTreeMap::new();
    for (ranking, number) in &listing.rankings.lists {
        lists.insert(*number, first(ranking)?);
    }
    if let Some(buckets) = images.get_mut(Map::Buckets.name()) {
        for (row, text) in &listing.rankings.rows {
            for (at, digits) in (0u32..).zip(text.as_bytes().chunks(DIGITS)) {
                let number = std::str::from_utf8(digits).ok().and_then(|d| u32::from_str_radix(d, 16).ok());
                let live = number.and_then(|number| lists.get(&number)).copied();
                let live = live.ok_or_else(|| strange(format!("row {row} has no list at {at}")))?;
                buckets.entries.insert(bytes(row.saturating_mul(ROW).saturating_add(at)), bytes(live));
            }
        }
    }
    if let Some(verdicts) = images.get_mut(Map::Verdicts.name()) {
        for (verdict, name) in &listing.rankings.only {
            let live = first(name)?;
            let place = verdicts
                .entries
                .get_mut(&bytes(*verdict))
                .and_then(|value| value.get_mut(GATEWAY..GATEWAY + 4))
                .ok_or_else(|| strange(format!("it names verdict {verdict}, which there is not")))?;
            place.copy_from_slice(&live.to_le_bytes());
        }
    }
    Ok(assemble(listing, object, &images))
}
