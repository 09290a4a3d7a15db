//! Programs at tc and the maps that they look into. `docs/dataplane-ebpf.md` tells the design.

mod encode;
mod files;
pub mod image;
pub mod live;
pub mod schema;
mod services;

pub use encode::{Attached, FABRIC, Images, UNDERLAY, encode};
pub use files::{Device, DeviceKind, Listing, MapEntry, Underlay};

/// The program, compiled ahead of time from `backends/ebpf` by `build.sh` there.
pub const OBJECT: &[u8] = include_bytes!("../../ebpf/partywall.bpf.o");

use crate::Backend;
use crate::artifacts::Artifact;
use crate::capability::{self, Capability};
use crate::linux;
use compiler::Compiled;
use compiler::ids::NodeId;
use image::Image;
use lang::codes::Code;
use lang::diag::Diagnostic;
use lang::source::Sources;
use schema::Map;
use std::collections::BTreeMap;

/// The images of a generation's maps, empty ones included, without those that only the machine can fill.
#[must_use]
pub fn images(maps: &BTreeMap<Map, BTreeMap<Vec<u8>, Vec<u8>>>) -> BTreeMap<Map, Image> {
    Map::ALL
        .into_iter()
        .filter(|map| !map.is_local())
        .map(|map| {
            let entries = maps.get(&map).cloned().unwrap_or_default();
            let (kind, key_size, value_size, flags) = map.shape();
            let max_entries = u32::try_from(entries.len()).unwrap_or(u32::MAX).max(1);
            (map, Image { kind, key_size, value_size, max_entries, flags, entries })
        })
        .collect()
}

/// What one node runs.
#[derive(Debug, Clone)]
pub struct Model {
    pub node: linux::Model,
    pub images: Images,
}

/// The target `ebpf`.
#[derive(Debug, Clone, Copy, Default)]
pub struct Ebpf;

/// Entries that one map may have: a number of a class, a pair or a verdict has 24 bits.
const MOST: usize = 1 << 24;

impl Backend for Ebpf {
    type Model = Model;

    fn name(&self) -> &'static str {
        "ebpf"
    }

    fn capabilities(&self) -> &'static [Capability] {
        capability::EBPF
    }

    fn lower(
        &self,
        compiled: &Compiled,
        sources: &Sources,
        node: NodeId,
        down: &[NodeId],
    ) -> Result<Model, Vec<Diagnostic>> {
        let lowered = linux::lower(compiled, sources, linux::Dialect::EBPF, node, down)?;
        let images = encode(compiled, node, &lowered);
        let there = &compiled.model.nodes[node];
        let mut found = Vec::new();
        if let Some(first) = images.contradictions.first() {
            let message = format!("node `{}`: one key of a map would have two meanings", there.name);
            found.push(
                Diagnostic::new(Code::PW0801, there.span, message)
                    .label("cannot be emitted for this node")
                    .help("check the project first: a clean project gives every address one meaning")
                    .note(first.clone()),
            );
        }
        // INVARIANT: every map is made as large as its image; what is bounded are the numbers in it.
        for (map, entries) in images.maps.iter().filter(|(_, entries)| entries.len() >= MOST) {
            let (name, count) = (map.name(), entries.len());
            let message = format!(
                "node `{}` needs {count} entries in the map `{name}`, and it can have {MOST}",
                there.name
            );
            found.push(
                Diagnostic::new(Code::PW0803, there.span, message)
                    .label("too many different decisions for one node")
                    .help("put fewer tenants on one node"),
            );
        }
        if found.is_empty() { Ok(Model { node: lowered, images }) } else { Err(found) }
    }

    fn print(&self, model: &Model) -> Vec<Artifact> {
        files::files(&model.node, &model.images)
    }
}
