//! A generation of the eBPF target brought into the kernel, and taken out of it.
//!
//! Whatever is cut short, each packet meets the old generation or the new one whole: what runs is told by one cell, and by the
//! program that a device has. Everything here looks at what is there first, so that a second call finishes the first one's work
//! and where nothing is amiss nothing changes.

use super::attach::{self, Device, tool};
use super::base::{self, Base, PROGRAMS, Running};
use super::local::{self, FABRIC, Net};
use super::pins::{self, LAST_PLACE};
use super::tcx::Direction;
use super::{EbpfError, Result, closed, slots};
use crate::command;
use crate::generation::Program;
use crate::install::Step;
use backends::ebpf::image::Image;
use backends::ebpf::schema::PER_PAGE;
use backends::ebpf::{DeviceKind, Listing};
use libbpf_rs::{MapCore as _, MapFlags, ProgramHandle};
use nix::sys::statfs::{BPF_FS_MAGIC, statfs};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// Where a node keeps what outlives a call, and how its programs are attached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// A folder on a BPF file system.
    pub pins: PathBuf,
    /// Filters at clsact also where the kernel has tcx.
    pub clsact: bool,
}

impl Place {
    /// A folder of one's own.
    #[must_use]
    pub fn at(pins: impl Into<PathBuf>) -> Self {
        Self { pins: pins.into(), clsact: false }
    }

    /// As the environment says: `PARTYWALL_BPF` names the folder, `PARTYWALL_ATTACH=clsact` the way of attaching.
    #[must_use]
    pub fn usual() -> Self {
        let pins = std::env::var_os("PARTYWALL_BPF").filter(|path| !path.is_empty());
        Self {
            pins: pins.map_or_else(|| PathBuf::from(super::pins::PINS), PathBuf::from),
            clsact: std::env::var_os("PARTYWALL_ATTACH").is_some_and(|how| how == "clsact"),
        }
    }

    /// Whether the folder is, or would be, on a BPF file system.
    #[must_use]
    pub fn is_bpf(&self) -> bool {
        let there = self.pins.ancestors().find(|path| path.exists());
        there.is_some_and(|path| statfs(path).is_ok_and(|fs| fs.filesystem_type() == BPF_FS_MAGIC))
    }
}

/// How far an earlier installation of the same generation is believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum How {
    /// What is there stays.
    Keep,
    /// The maps are filled anew, in the other slot.
    Again,
    /// The program is loaded anew, with maps of its own.
    Reload,
}

/// What a call has found out and done.
#[derive(Debug, Clone, Default)]
pub(crate) struct Brought {
    /// What people should know: devices that are not there.
    pub notes: Vec<String>,
    /// Whether the kernel was not as it should be.
    pub changed: bool,
}

/// The program that a device of this kind gets.
pub(super) fn program_of(kind: DeviceKind) -> &'static str {
    match kind {
        DeviceKind::Workload => "pw_workload",
        DeviceKind::External => "pw_outside",
    }
}

/// Every device of a generation that is there, and the program that belongs at it.
pub(super) fn wanted(listing: &Listing, net: &Net) -> Vec<(Device, &'static str)> {
    let own = listing.devices.iter().map(|d| (d.name.as_str(), program_of(d.kind)));
    [(FABRIC, "pw_fabric")]
        .into_iter()
        .chain(own)
        .chain([(listing.underlay.dev.as_str(), "pw_underlay")])
        .filter_map(|(name, program)| Some((net.device(name)?, program)))
        .collect()
}

/// Names of workloads' devices, there or not.
pub(super) fn workloads(listing: &Listing) -> BTreeSet<String> {
    let of = listing.devices.iter().filter(|d| d.kind == DeviceKind::Workload);
    of.map(|d| d.name.clone()).collect()
}

/// Installs a generation, or puts the running one in order.
///
/// # Errors
/// The kernel or a tool refuses a step; what ran before runs on.
pub(crate) fn bring(
    place: &Place,
    program: &Program,
    how: How,
    watch: &mut dyn FnMut(Step),
) -> Result<Brought> {
    let (pins, listing) = (place.pins.as_path(), &program.listing);
    super::quiet();
    if !place.is_bpf() {
        return Err(EbpfError::Machine(format!(
            "{} is on no BPF file system; mount -t bpf bpf /sys/fs/bpf (`ip netns exec` hides the machine's own: name another folder in PARTYWALL_BPF)",
            pins.display()
        )));
    }
    if pins.display().to_string().contains('.') {
        // libbpf makes underscores of points in the names that it pins under.
        let what = format!(
            "the folder {} has a point in its path: name one without in PARTYWALL_BPF",
            pins.display()
        );
        return Err(EbpfError::Machine(what));
    }
    base::make(pins)?;
    let mut net = Net::read()?;
    if net.link(&listing.underlay.dev).is_none() {
        return Err(EbpfError::Machine(format!("the underlay device {} is not there", listing.underlay.dev)));
    }
    let current = Base::current(pins, &listing.object)?.filter(|_| how != How::Reload);
    let running = base::running(pins)?;
    let before = base::programs_on_record(pins)?;
    let fresh = current.is_none();
    let mut base = match current {
        Some(base) => base,
        None => {
            watch(Step::Load);
            Base::load(pins, &program.object)?
        }
    };
    let same = running.as_ref().is_some_and(|r| r.generation.as_deref() == Some(&listing.generation));
    watch(Step::Devices);
    let mut changed = local::fabric(listing, &net)?;
    changed |= local::prepare(listing, &net)?;
    if changed {
        net = Net::read()?;
    }
    let locals = local::images(listing, &net);
    let to_attach = wanted(listing, &net);
    let slot = match &running {
        Some(now) if same && !fresh && how == How::Keep => {
            changed |= renew(&base, now.slot, &locals)?;
            watch(Step::Attach);
            changed |= attach_all(place, &base, &to_attach, &net)?;
            now.slot
        }
        _ => {
            changed = true;
            let slot = running.as_ref().map_or(0, |now| 1 - now.slot);
            let number = running.as_ref().map_or(1, |now| now.number + 1);
            watch(Step::Fill);
            fill(&base, program, &locals, (number, slot))?;
            switch(place, &mut base, (number, slot), (&to_attach, before.as_ref()), &net, listing, watch)?;
            slot
        }
    };
    // Not before: until then another target may decide.
    changed |= closed::close(&workloads(listing))?;
    watch(Step::Free);
    changed |= slots::free(&base, 1 - slot, listing.maps.iter().map(|m| &m.name))?;
    let kept = to_attach.iter().map(|(device, _)| device.ifindex).collect();
    changed |= attach::release(pins, place.clsact, &net.devices(), &kept, base.program("pw_workload")?)?;
    sweep_rules(&base, listing)?;
    let missing = listing.devices.iter().filter(|d| net.link(&d.name).is_none());
    let notes = missing
        .map(|d| format!("device {} is not there: left out; run this again when it is", d.name))
        .collect();
    Ok(Brought { notes, changed })
}

/// A slot that nothing leads to gets a generation, and the machine's part of it.
fn fill(
    base: &Base,
    program: &Program,
    locals: &BTreeMap<String, Image>,
    (number, slot): (u64, u32),
) -> Result<()> {
    slots::fill(base, slot, (number, &program.listing.generation), program.images.iter().chain(locals))
}

/// Fills the slot that does not run with a generation of the program on record, and leaves it at that. What is to be written to
/// the cell then: number and slot.
///
/// # Errors
/// Nothing runs, another program does, or the kernel refuses a map.
pub fn stage(place: &Place, program: &Program) -> Result<(Base, u64, u32)> {
    let nothing = || EbpfError::Machine("no generation of this program runs here".to_owned());
    let base = Base::current(&place.pins, &program.listing.object)?.ok_or_else(nothing)?;
    let now = base::running(&place.pins)?.ok_or_else(nothing)?;
    let (number, slot) = (now.number + 1, 1 - now.slot);
    fill(&base, program, &local::images(&program.listing, &Net::read()?), (number, slot))?;
    Ok((base, number, slot))
}

/// By name, what devices had before.
type Programs = BTreeMap<&'static str, ProgramHandle>;

/// From what ran to the slot that was filled.
fn switch(
    place: &Place,
    base: &mut Base,
    (number, slot): (u64, u32),
    (to_attach, before): (&[(Device, &'static str)], Option<&Programs>),
    net: &Net,
    listing: &Listing,
    watch: &mut dyn FnMut(Step),
) -> Result<()> {
    if base.is_fresh() {
        // Nothing leads to this program yet; each device goes over to program and generation in one step.
        base.flip(number, slot)?;
        watch(Step::Attach);
        let closing = net.devices();
        let kept: BTreeSet<u32> = to_attach.iter().map(|(device, _)| device.ifindex).collect();
        let gone_over = attach_all(place, base, to_attach, net).and_then(|_| {
            // SOUNDNESS: a device that left must not stay with the program before, for which it has not.
            attach::release(&place.pins, place.clsact, &closing, &kept, base.program("pw_workload")?)
        });
        if let Err(error) = gone_over {
            for (device, name) in to_attach {
                // What cannot be put back stays with the new generation; the error is told, and the next call mends it.
                let _ = match before.and_then(|programs| programs.get(name)) {
                    Some(program) => {
                        attach::attach(&place.pins, place.clsact, device, name, program).map(drop)
                    }
                    None => attach::detach(&place.pins, device),
                };
            }
            return Err(error);
        }
        watch(Step::Flip);
        return base.adopt(&listing.object);
    }
    watch(Step::Attach);
    // Devices that are new have no number in the generation that runs: closed until the flip.
    attach_all(place, base, to_attach, net)?;
    watch(Step::Flip);
    base.flip(number, slot)
}

/// Every device gets its program. The VXLAN device is the first, and takes packets only then.
fn attach_all(place: &Place, base: &Base, to_attach: &[(Device, &'static str)], net: &Net) -> Result<bool> {
    let mut changed = false;
    for (device, name) in to_attach {
        changed |= attach::attach(&place.pins, place.clsact, device, name, base.program(name)?)?;
        if device.name == FABRIC {
            changed |= raise(net)?;
        }
    }
    Ok(changed)
}

/// Has the VXLAN device take packets. Those of the nft target have the same UDP port, and make room for it.
fn raise(net: &Net) -> Result<bool> {
    if net.is_up(FABRIC) {
        return Ok(false);
    }
    for device in crate::retire::vxlans().map_err(tool)? {
        command::output("ip", &["link", "delete", "dev", &device]).map_err(tool)?;
    }
    command::output("ip", &["link", "set", "dev", FABRIC, "up"]).map_err(tool)?;
    Ok(true)
}

/// The machine's part of the running generation, entry by entry: a device is known or is not, at every moment.
fn renew(base: &Base, slot: u32, locals: &BTreeMap<String, Image>) -> Result<bool> {
    let mut changed = false;
    // A device's number before the way back to it.
    for name in ["devices", "ifindexes", "hosts"] {
        let (Some(image), Some(map)) = (locals.get(name), slots::held(base, name, slot)?) else { continue };
        let there = slots::entries(&map)?;
        let step = || format!("the map {name}");
        for key in there.keys().filter(|key| !image.entries.contains_key(*key)) {
            map.delete(key).map_err(super::kernel(step()))?;
            changed = true;
        }
        for (key, value) in image.entries.iter().filter(|(key, value)| there.get(*key) != Some(value)) {
            map.update(key, value, MapFlags::ANY).map_err(super::kernel(step()))?;
            changed = true;
        }
    }
    Ok(changed)
}

/// Takes the counters of rules away that the generation does not have, and pages on which no rule counts any more.
fn sweep_rules(base: &Base, listing: &Listing) -> Result<()> {
    let (rules, counts) = (base.map("rules")?, base.map("counts")?);
    let mut last = None;
    let mut pages = BTreeSet::new();
    for (rule, place) in pins::numbers(&rules)? {
        if rule == LAST_PLACE {
            last = Some(place / PER_PAGE);
        } else if listing.rules.contains_key(&rule) {
            pages.insert(place / PER_PAGE);
        } else {
            // A packet under way may have been faster.
            let _ = rules.delete(&rule.to_ne_bytes());
        }
    }
    // Places from the last one on are given meanwhile.
    let Some(last) = last else { return Ok(()) };
    for key in counts.keys() {
        let page = <[u8; 4]>::try_from(key.as_slice()).map_or(u32::MAX, u32::from_ne_bytes);
        if page < last && !pages.contains(&page) {
            let _ = counts.delete(&key);
        }
    }
    Ok(())
}

/// What the kernel runs.
///
/// # Errors
/// What is pinned cannot be read.
pub(crate) fn running(place: &Place) -> Result<Option<Running>> {
    base::running(&place.pins)
}

/// Whether anything of this target is in the kernel.
pub(crate) fn is_there(place: &Place) -> bool {
    place.pins.join("maps").exists() || place.pins.join("links").exists()
}

/// Lets go of the underlay, so that another target's VXLAN devices can have its port. Workloads keep their policy among
/// themselves.
///
/// # Errors
/// `ip` refuses.
pub(crate) fn stand_aside() -> Result<()> {
    let net = Net::read()?;
    if net.link(FABRIC).is_some() {
        command::output("ip", &["link", "delete", "dev", FABRIC]).map_err(tool)?;
    }
    Ok(())
}

/// Takes everything of this target out of the kernel. Another target has to decide already.
///
/// # Errors
/// A step is refused.
pub(crate) fn retire(place: &Place) -> Result<()> {
    stand_aside()?;
    closed::open()?;
    let net = Net::read()?;
    for device in net.devices().values() {
        attach::detach(&place.pins, device)?;
    }
    remove_pins(&place.pins)
}

fn remove_pins(pins: &Path) -> Result<()> {
    let ours = |name: &str| {
        name.starts_with("program-")
            || name.starts_with("maps")
            || name.starts_with("slot")
            || name == "links"
    };
    for name in base::names(pins)?.iter().filter(|name| ours(name)) {
        base::remove(&pins.join(name))?;
    }
    // Others may have put something there.
    let _ = std::fs::remove_dir(pins);
    Ok(())
}

/// The programs that a generation has, as the kernel would load them: name and the tag of their instructions.
///
/// # Errors
/// The kernel refuses the program.
pub(super) fn tags(object: &[u8]) -> Result<BTreeMap<&'static str, [u8; 8]>> {
    let mut open = libbpf_rs::ObjectBuilder::default()
        .open_memory(object)
        .map_err(super::kernel("reading the object"))?;
    // The tag does not tell sizes of maps, and nothing is put into these.
    for mut map in open.maps_mut().filter(|m| m.max_entries() > 65_536) {
        map.set_max_entries(4096).map_err(super::kernel("the maps"))?;
    }
    let loaded = open.load().map_err(super::kernel("loading the program"))?;
    let mut out = BTreeMap::new();
    for name in PROGRAMS {
        use std::os::fd::AsFd as _;
        let program = loaded.progs().find(|p| p.name() == name);
        let program = program.ok_or_else(|| EbpfError::Missing(name.to_owned()))?;
        let handle = libbpf_rs::Program::id_from_fd(program.as_fd())
            .and_then(ProgramHandle::from_prog_id)
            .map_err(super::kernel(format!("the program {name}")))?;
        out.insert(name, handle.tag());
    }
    Ok(out)
}

/// Tries whether the kernel loads a program.
///
/// # Errors
/// It does not; the message holds what its verifier says.
pub(crate) fn tried(object: &[u8]) -> Result<()> {
    super::quiet();
    tags(object).map(drop)
}

/// Programs of others on a generation's devices that see packets before ours do, or would: device, program, and how it is taken
/// away.
///
/// # Errors
/// The kernel or a tool refuses to tell.
pub(crate) fn before_ours(program: &Program) -> Result<Vec<(String, String, String)>> {
    let net = Net::read()?;
    let mut out = Vec::new();
    for (device, _) in wanted(&program.listing, &net) {
        for found in attach::at(&device, Direction::Ingress)? {
            if attach::is_ours(&found) {
                break;
            }
            // A filter runs after all of tcx, where ours is put at the head.
            if found.hook == attach::Hook::Tcx {
                let mend = attach::mend_foreign(&device.name, &found, "ingress");
                out.push((device.name.clone(), attach::describe(&found), mend));
            }
        }
        let underlay = device.name == program.listing.underlay.dev;
        if underlay && net.link(&device.name).is_some_and(|link| link.get("xdp").is_some()) {
            let mend = format!("ip link set dev {} xdp off, unless it only looks on", device.name);
            out.push((device.name.clone(), "an XDP program".to_owned(), mend));
        }
    }
    Ok(out)
}
