//! What the kernel has of the eBPF target, compared by meaning with what a generation's artifacts say.

use super::attach;
use super::base::{Base, slot_folder};
use super::bring::{self, Place};
use super::local::{self, FABRIC, Net};
use super::tcx::Direction;
use super::{Result, closed, slots};
use crate::audit::{Difference, Remedy};
use crate::generation::Program;
use crate::memo::Memo;
use crate::retire;
use backends::ebpf::image::Image;
use backends::ebpf::{DeviceKind, Listing};
use libbpf_rs::query::{ProgInfoIter, ProgInfoQueryOptions};
use libbpf_rs::{MapCore as _, MapHandle, ProgramHandle};
use std::collections::{BTreeMap, BTreeSet};

const MEND: &str = "partywall apply";

struct Comparison<'a> {
    listing: &'a Listing,
    net: Net,
    out: Vec<Difference>,
}

/// All differences, each once.
///
/// # Errors
/// The kernel or a tool refuses to tell.
pub(crate) fn audit(place: &Place, program: &Program) -> Result<Vec<Difference>> {
    super::quiet();
    let listing = &program.listing;
    let mut c = Comparison { listing, net: Net::read()?, out: Vec::new() };
    let Some(running) = bring::running(place)? else {
        c.generation(None);
        return Ok(c.out);
    };
    if running.generation.as_deref() != Some(&listing.generation) {
        let found = running.generation.as_deref().and_then(|g| g.get(..8)).map_or_else(
            || {
                format!(
                    "number {} in slot {}, which this node's files do not name",
                    running.number, running.slot
                )
            },
            str::to_owned,
        );
        c.generation(Some(&found));
        return Ok(c.out);
    }
    let base = Base::current(&place.pins, &listing.object)?;
    c.devices()?;
    c.settings();
    match &base {
        Some(base) => {
            c.programs(base, &program.object)?;
            c.attachments(base)?;
            c.maps(base, running.slot, program)?;
        }
        None => c.push("program", "of this generation", (Some("loaded"), None), Remedy::Reload),
    }
    let spare = 1 - running.slot;
    if slot_folder(&place.pins, spare).exists() {
        c.push("map", &format!("slot {spare}"), (None, Some("maps of another generation")), Remedy::Apply);
    }
    if closed::is(&bring::workloads(listing))? == Some(false) {
        let what = format!("inet {} and arp {0}", closed::TABLE);
        c.push(
            "nft table",
            &what,
            (Some("as this generation has it"), Some("something else")),
            Remedy::Apply,
        );
    }
    if retire::is_there().map_err(attach::tool)? {
        c.push("target", "nft", (None, Some("tables, rules or devices of it")), Remedy::Apply);
    }
    c.out.sort_by(|a, b| (a.kind, &a.what, &a.found).cmp(&(b.kind, &b.what, &b.found)));
    Ok(c.out)
}

impl Comparison<'_> {
    fn push(
        &mut self,
        kind: &'static str,
        what: &str,
        (expected, found): (Option<&str>, Option<&str>),
        remedy: Remedy,
    ) {
        self.told(kind, what, (expected, found), remedy, MEND.to_owned());
    }

    fn told(
        &mut self,
        kind: &'static str,
        what: &str,
        (expected, found): (Option<&str>, Option<&str>),
        remedy: Remedy,
        mend: String,
    ) {
        self.out.push(Difference {
            kind,
            what: what.to_owned(),
            expected: expected.map(str::to_owned),
            found: found.map(str::to_owned),
            mend,
            remedy,
        });
    }

    fn generation(&mut self, found: Option<&str>) {
        let expected = self.listing.generation.get(..8).unwrap_or_default();
        self.push("generation", "the one that runs", (Some(expected), found), Remedy::Apply);
    }

    /// A value where another is wanted.
    fn value(&mut self, kind: &'static str, what: &str, expected: &str, found: Option<&str>) {
        if found != Some(expected) {
            self.push(kind, what, (Some(expected), found), Remedy::Apply);
        }
    }

    fn devices(&mut self) -> Result<()> {
        let (listing, net) = (self.listing, self.net.clone());
        match net.link(FABRIC) {
            None => self.push("device", FABRIC, (Some("there"), None), Remedy::Apply),
            Some(link) => {
                let found = local::attributes(link);
                for (attribute, value) in local::wanted_fabric(listing)?.iter() {
                    let has = found.get(attribute).map(String::as_str);
                    self.value("device", &format!("{FABRIC} {attribute}"), value, has);
                }
                let state = if net.is_up(FABRIC) { "up" } else { "down" };
                self.value("device", &format!("{FABRIC} state"), "up", Some(state));
            }
        }
        let underlay = &listing.underlay.dev;
        let own = listing.devices.iter().map(|d| (d.name.as_str(), Some(d.kind)));
        for (name, kind) in own.chain([(underlay.as_str(), None)]) {
            if net.link(name).is_none() {
                let mend = format!("start what {name} belongs to, then {MEND}");
                self.told("device", name, (Some("there"), None), Remedy::Operator, mend);
                continue;
            }
            if !net.is_up(name) {
                let what = format!("{name} state");
                let mend = format!("ip link set dev {name} up");
                self.told("device", &what, (Some("up"), Some("down")), Remedy::Operator, mend);
            }
            if kind != Some(DeviceKind::Workload) {
                continue;
            }
            let mac = listing.underlay.router_mac.as_str();
            self.value("device", &format!("{name} MAC"), mac, net.mac(name));
            for address in local::ROUTERS.into_iter().filter(|a| local::can_have(name, a)) {
                if !net.has_address(name, address) {
                    let what = format!("{address} dev {name}");
                    self.push("address", &what, (Some("there"), None), Remedy::Apply);
                }
            }
        }
        Ok(())
    }

    fn settings(&mut self) {
        for (key, value) in local::settings(self.listing) {
            let Some(found) = local::setting(&key) else { continue };
            self.value("setting", &format!("net/{key}"), value, Some(&found));
        }
    }

    /// The programs themselves, and that the maps on record are the ones that they look into.
    fn programs(&mut self, base: &Base, object: &[u8]) -> Result<()> {
        static KNOWN: Memo<String, BTreeMap<&'static str, [u8; 8]>> = Memo::new();
        let tags = KNOWN.get(self.listing.object.clone(), || bring::tags(object))?;
        let mut used: BTreeSet<u32> = BTreeSet::new();
        let ids: BTreeSet<u32> =
            tags.keys().map(|name| base.program(name).map(ProgramHandle::id)).collect::<Result<_>>()?;
        let all = ProgInfoIter::with_query_opts(ProgInfoQueryOptions::default().include_map_ids(true));
        for info in all.filter(|info| ids.contains(&info.id)) {
            used.extend(info.map_ids);
        }
        for (name, tag) in tags.iter() {
            let found = base.program(name)?.tag();
            if found != *tag {
                let (expected, found) = (hex(tag), hex(&found));
                self.push("program", name, (Some(&expected), Some(&found)), Remedy::Reload);
            }
        }
        // No program looks into this one.
        for name in base.map_names()?.into_iter().filter(|name| name != "grace") {
            let map = base.map(&name)?;
            if !used.contains(&number(&map)?) {
                let what = format!("{name}, as it is pinned");
                self.push("map", &what, (Some("the programs' own"), Some("another")), Remedy::Reload);
            }
        }
        Ok(())
    }

    fn attachments(&mut self, base: &Base) -> Result<()> {
        for (device, name) in bring::wanted(self.listing, &self.net) {
            let here = attach::at(&device, Direction::Ingress)?;
            let wanted = base.program(name)?.id();
            let at = here.iter().position(|a| a.program == wanted);
            let what = format!("{} ingress", device.name);
            match at {
                Some(at) => {
                    for (place, before) in here.iter().enumerate().take(at) {
                        let told = attach::describe(before);
                        let what = format!("{what}, place {}", place + 1);
                        let mend = attach::mend_foreign(&device.name, before, "ingress");
                        self.told("program", &what, (Some(name), Some(&told)), Remedy::Operator, mend);
                    }
                    for after in here.iter().skip(at + 1).filter(|a| attach::is_ours(a)) {
                        self.push("program", &what, (None, Some(&attach::describe(after))), Remedy::Apply);
                    }
                }
                None => {
                    let found: Vec<String> = here.iter().map(attach::describe).collect();
                    let found = (!found.is_empty()).then(|| found.join(", "));
                    self.push("program", &what, (Some(name), found.as_deref()), Remedy::Apply);
                }
            }
            for other in attach::at(&device, Direction::Egress)? {
                let mend = attach::mend_foreign(&device.name, &other, "egress");
                let what = format!("{} egress", device.name);
                self.told("program", &what, (None, Some(&attach::describe(&other))), Remedy::Operator, mend);
            }
            let xdp = self.net.link(&device.name).and_then(|link| link.get("xdp"));
            if xdp.is_some() {
                let what = format!("{} XDP", device.name);
                let mend = format!("ip link set dev {} xdp off, unless it only looks on", device.name);
                self.told("program", &what, (None, Some("a program")), Remedy::Operator, mend);
            }
        }
        Ok(())
    }

    fn maps(&mut self, base: &Base, slot: u32, program: &Program) -> Result<()> {
        for (name, image) in &program.images {
            let Some(live) = self.held(base, name, slot, image)? else { continue };
            self.entries(name, &image.entries, &live, Remedy::Reinstall);
        }
        let mut locals = local::images(self.listing, &self.net);
        let own = self.listing.devices.iter().map(|d| (d.port, d.name.as_str()));
        let gone: BTreeSet<Vec<u8>> = own
            .chain([
                (backends::ebpf::FABRIC, FABRIC),
                (backends::ebpf::UNDERLAY, self.listing.underlay.dev.as_str()),
            ])
            .filter(|(_, name)| self.net.link(name).is_none())
            .map(|(port, _)| port.to_le_bytes().to_vec())
            .collect();
        for (name, image) in &mut locals {
            let Some(live) = slots::held(base, name, slot)? else {
                self.push("map", name, (Some("there"), None), Remedy::Reinstall);
                continue;
            };
            let mut live = slots::entries(&live)?;
            match name.as_str() {
                "hosts" => {
                    // An address that the machine has got since: the program asks the kernel for it. Link-local ones come and
                    // go with their devices.
                    image.entries.retain(|key, _| live.contains_key(key));
                    live.retain(|key, _| image.entries.contains_key(key) || !key.starts_with(&[0xfe, 0x80]));
                }
                // What goes with a device that is gone is no difference of its own.
                "devices" => live.retain(|port, _| !gone.contains(port)),
                "ifindexes" => live.retain(|_, port| !gone.contains(port)),
                _ => {}
            }
            if name == "devices" {
                image.entries.retain(|port, _| !gone.contains(port));
            }
            self.entries(name, &image.entries, &live, Remedy::Apply);
        }
        Ok(())
    }

    /// What a slot holds, if it is a map of the right kind.
    fn held(
        &mut self,
        base: &Base,
        name: &str,
        slot: u32,
        image: &Image,
    ) -> Result<Option<BTreeMap<Vec<u8>, Vec<u8>>>> {
        let Some(live) = slots::held(base, name, slot)? else {
            self.push("map", name, (Some("there"), None), Remedy::Reinstall);
            return Ok(None);
        };
        let shape = |kind: u32, key: u32, value: u32, most: u32| {
            format!("type {kind}, keys of {key} and values of {value} bytes, at most {most}")
        };
        let expected = shape(image.kind, image.key_size, image.value_size, image.max_entries);
        let found = shape(live.map_type() as u32, live.key_size(), live.value_size(), live.max_entries());
        if expected != found {
            self.push("map", name, (Some(&expected), Some(&found)), Remedy::Reinstall);
            return Ok(None);
        }
        slots::entries(&live).map(Some)
    }

    fn entries(
        &mut self,
        map: &str,
        expected: &BTreeMap<Vec<u8>, Vec<u8>>,
        live: &BTreeMap<Vec<u8>, Vec<u8>>,
        remedy: Remedy,
    ) {
        let keys: BTreeSet<&Vec<u8>> = expected.keys().chain(live.keys()).collect();
        for key in keys {
            let (wanted, found) = (expected.get(key), live.get(key));
            // An array has all its keys, and zero where nothing was written.
            let zero = |value: Option<&Vec<u8>>| value.is_none_or(|v| v.iter().all(|byte| *byte == 0));
            let array = live.len() > expected.len() && wanted.is_none() && zero(found) && key.len() == 4;
            if wanted == found || (array && is_array(map, self.listing)) {
                continue;
            }
            let what = format!("{map} {}", words(key));
            let (wanted, found) = (wanted.map(|v| words(v)), found.map(|v| words(v)));
            self.push("map entry", &what, (wanted.as_deref(), found.as_deref()), remedy.clone());
        }
    }
}

fn is_array(map: &str, listing: &Listing) -> bool {
    listing.maps.iter().any(|entry| entry.name == map && entry.kind == "array")
}

/// The kernel's number of a map.
fn number(map: &MapHandle) -> Result<u32> {
    use std::os::fd::AsFd as _;
    let info = libbpf_rs::MapInfo::new(map.as_fd()).map_err(super::kernel("asking for a map's number"))?;
    Ok(info.info.id)
}

/// Bytes in hexadecimal, four at a time.
fn words(bytes: &[u8]) -> String {
    bytes.chunks(4).map(hex).collect::<Vec<_>>().join(" ")
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
