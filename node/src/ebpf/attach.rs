//! Programs at devices: by links at tcx where the kernel has that (6.6), else by filters at clsact, as `load.sh` does.

use super::base::{PROGRAMS, make, names};
use super::tcx::{self, Direction, Member};
use super::{EbpfError, Result, kernel};
use crate::command;
use crate::error::NodeError;
use libbpf_rs::query::LinkTypeInfo;
use libbpf_rs::{Link, ProgramHandle};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

/// A device, for people and for the kernel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Device {
    pub name: String,
    pub ifindex: u32,
    /// Whether it has a queueing discipline that filters can be at: where not, nobody asks for them.
    pub clsact: bool,
}

/// What keeps a program at a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hook {
    Tcx,
    Clsact,
}

/// One program that runs on what a device takes in, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attached {
    pub hook: Hook,
    /// The kernel's number of it.
    pub program: u32,
    /// Of the link, at tcx; else 0.
    pub link: u32,
    /// Preference and name of a filter.
    pub filter: Option<(u64, String)>,
}

/// The preference and handle of our filters.
pub const PREFERENCE: u64 = 1;

/// What runs on packets that a device takes in, in order: tcx first, then filters.
///
/// # Errors
/// The kernel or `tc` refuses.
pub fn at(device: &Device, direction: Direction) -> Result<Vec<Attached>> {
    let chain = tcx::chain(device.ifindex, direction)?.unwrap_or_default();
    let mut out: Vec<Attached> = chain
        .into_iter()
        .map(|Member { program, link }| Attached { hook: Hook::Tcx, program, link, filter: None })
        .collect();
    if !device.clsact {
        return Ok(out);
    }
    let way = match direction {
        Direction::Ingress => "ingress",
        Direction::Egress => "egress",
    };
    let filters = command::list("tc", &["-j", "filter", "show", "dev", &device.name, way]).map_err(tool)?;
    for filter in filters.iter().filter(|f| f.get("options").is_some()) {
        let options = |path: &str| filter.pointer(path);
        out.push(Attached {
            hook: Hook::Clsact,
            program: options("/options/prog/id")
                .and_then(Value::as_u64)
                .and_then(|id| u32::try_from(id).ok())
                .unwrap_or_default(),
            link: 0,
            filter: Some((
                filter.get("pref").and_then(Value::as_u64).unwrap_or_default(),
                // The name of the program's file or pin.
                options("/options/prog/name")
                    .or_else(|| options("/options/bpf_name"))
                    .and_then(Value::as_str)
                    .unwrap_or_default()
                    .to_owned(),
            )),
        });
    }
    Ok(out)
}

pub(super) fn tool(error: NodeError) -> EbpfError {
    EbpfError::Tool(error.to_string())
}

fn links(pins: &Path) -> PathBuf {
    pins.join("links")
}

/// Our pinned links: device and program that the pin's name says.
pub(super) fn pinned(pins: &Path) -> Result<Vec<(u32, String, PathBuf)>> {
    let folder = links(pins);
    let parse = |name: &String| {
        let (ifindex, program) = name.split_once('-')?;
        Some((ifindex.parse().ok()?, program.to_owned(), folder.join(name)))
    };
    Ok(names(&folder)?.iter().filter_map(parse).collect())
}

/// The number of a pinned link, if its device is there still.
pub(super) fn alive(path: &Path) -> Option<(u32, u32)> {
    let info = Link::open(path).ok()?.info().ok()?;
    match info.info {
        LinkTypeInfo::Tcx(tcx) if tcx.ifindex != 0 => Some((info.id, tcx.ifindex)),
        _ => None,
    }
}

pub(super) fn unpin(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Err(e) if e.kind() != ErrorKind::NotFound => {
            Err(super::base::files(format!("removing {}", path.display()))(e))
        }
        _ => Ok(()),
    }
}

/// Has a program run first on what a device takes in, and no other of ours. Whether that was not so before.
///
/// # Errors
/// The kernel refuses; what ran there runs on.
pub fn attach(
    pins: &Path,
    clsact: bool,
    device: &Device,
    name: &str,
    program: &ProgramHandle,
) -> Result<bool> {
    match tcx::chain(device.ifindex, Direction::Ingress)? {
        Some(chain) if !clsact => at_tcx(pins, device, name, program, &chain),
        _ => at_clsact(pins, device, program),
    }
}

fn at_tcx(
    pins: &Path,
    device: &Device,
    name: &str,
    program: &ProgramHandle,
    chain: &[Member],
) -> Result<bool> {
    let wanted = links(pins).join(format!("{}-{name}", device.ifindex));
    let mut changed = false;
    let there = alive(&wanted)
        .filter(|(_, ifindex)| *ifindex == device.ifindex)
        .and_then(|(id, _)| chain.iter().find(|member| member.link == id));
    match there {
        Some(member) if member.program == program.id() => {}
        Some(_) => {
            tcx::replace(&tcx::pinned(&wanted)?, program)?;
            changed = true;
        }
        None => {
            make(&links(pins))?;
            unpin(&wanted)?;
            let link = tcx::first(program, device.ifindex)?;
            tcx::pin(&link, &wanted)?;
            changed = true;
        }
    }
    for (ifindex, _, path) in pinned(pins)? {
        if ifindex == device.ifindex && path != wanted {
            unpin(&path)?;
            changed = true;
        }
    }
    Ok(unfilter(device)? || changed)
}

/// Takes our filter from a device. Whether there was one.
fn unfilter(device: &Device) -> Result<bool> {
    let ours = at(device, Direction::Ingress)?.into_iter().any(|a| is_our_filter(&a));
    if ours {
        let args = ["filter", "delete", "dev", &device.name, "ingress", "pref", "1", "handle", "1", "bpf"];
        command::output("tc", &args).map_err(tool)?;
    }
    Ok(ours)
}

/// Whether this is a filter that `load.sh` or [`attach`] made.
pub(super) fn is_our_filter(attached: &Attached) -> bool {
    attached
        .filter
        .as_ref()
        .is_some_and(|(preference, name)| *preference == PREFERENCE && name.contains("pw_"))
}

fn at_clsact(pins: &Path, device: &Device, program: &ProgramHandle) -> Result<bool> {
    let mut changed = false;
    let there = at(device, Direction::Ingress)?;
    if !there.iter().any(|a| is_our_filter(a) && a.program == program.id()) {
        if !device.clsact {
            command::output("tc", &["qdisc", "add", "dev", &device.name, "clsact"]).map_err(tool)?;
        }
        // tc takes a program by its pin.
        let pin = pins.join("attaching");
        unpin(&pin)?;
        program.pin(&pin).map_err(kernel("pinning a program"))?;
        let path = pin.display().to_string();
        let args = [
            "filter",
            "replace",
            "dev",
            &device.name,
            "ingress",
            "pref",
            "1",
            "handle",
            "1",
            "protocol",
            "all",
            "bpf",
            "direct-action",
            "object-pinned",
            &path,
        ];
        let ran = command::output("tc", &args).map_err(tool);
        unpin(&pin)?;
        ran?;
        changed = true;
    }
    for (ifindex, _, path) in pinned(pins)? {
        if ifindex == device.ifindex {
            unpin(&path)?;
            changed = true;
        }
    }
    Ok(changed)
}

/// Takes our programs from a device.
///
/// # Errors
/// The kernel or `tc` refuses.
pub fn detach(pins: &Path, device: &Device) -> Result<()> {
    for (ifindex, _, path) in pinned(pins)? {
        if ifindex == device.ifindex {
            unpin(&path)?;
        }
    }
    unfilter(device).map(drop)
}

/// Takes our programs from devices that are not among `kept`, and closes the workloads' among them: their packets meet a program
/// that does not know the device. Pins of devices that are gone are removed.
///
/// # Errors
/// The kernel or `tc` refuses.
pub(super) fn release(
    pins: &Path,
    clsact: bool,
    there: &BTreeMap<u32, Device>,
    kept: &BTreeSet<u32>,
    closing: &ProgramHandle,
) -> Result<bool> {
    let mut changed = false;
    let mut ours: BTreeMap<u32, bool> = BTreeMap::new();
    for (ifindex, name, path) in pinned(pins)? {
        if alive(&path).is_none() {
            unpin(&path)?;
            changed = true;
        } else if !kept.contains(&ifindex) {
            ours.insert(ifindex, name == "pw_workload");
        }
    }
    for (ifindex, device) in there.iter().filter(|(ifindex, _)| !kept.contains(ifindex)) {
        if !device.clsact {
            continue;
        }
        let filters = at(device, Direction::Ingress)?;
        for (_, program) in filters.iter().filter(|a| is_our_filter(a)).filter_map(|a| a.filter.as_ref()) {
            ours.insert(*ifindex, program.contains("pw_workload"));
        }
    }
    for (ifindex, workload) in ours {
        let Some(device) = there.get(&ifindex) else { continue };
        if workload {
            changed |= attach(pins, clsact, device, "pw_workload", closing)?;
        } else {
            detach(pins, device)?;
            changed = true;
        }
    }
    Ok(changed)
}

/// A program that a device runs, by its number.
pub(super) fn program(id: u32) -> Option<ProgramHandle> {
    ProgramHandle::from_prog_id(id).ok()
}

/// How somebody else's program is taken away.
pub(super) fn mend_foreign(device: &str, attached: &Attached, way: &str) -> String {
    match (&attached.filter, attached.hook) {
        (Some((preference, _)), _) => {
            format!("tc filter delete dev {device} {way} preference {preference}, unless it only looks on")
        }
        (None, Hook::Tcx | Hook::Clsact) if attached.link != 0 => {
            format!("bpftool link detach id {}, unless it only looks on", attached.link)
        }
        _ => format!("bpftool net detach tcx_{way} dev {device}, unless it only looks on"),
    }
}

/// For people.
pub(super) fn describe(attached: &Attached) -> String {
    let name = program(attached.program)
        .map(|p| p.name().to_string_lossy().into_owned())
        .or_else(|| attached.filter.as_ref().map(|(_, name)| name.clone()))
        .unwrap_or_default();
    let hook = match attached.hook {
        Hook::Tcx => "tcx",
        Hook::Clsact => "tc filter",
    };
    format!("{hook} {name} {}", attached.program).replace("  ", " ")
}

/// Whether the program is one of this target's, whichever of its versions.
pub(super) fn is_ours(attached: &Attached) -> bool {
    program(attached.program).is_some_and(|p| PROGRAMS.iter().any(|name| p.name() == *name))
}
