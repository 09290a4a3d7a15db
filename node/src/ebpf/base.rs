//! A program with its maps on a BPF file system: loaded, found again, and replaced by another one.
//!
//! Below the folder for pins: `maps/` with every map that outlives a generation and the outer maps; `program-DIGEST/` with the
//! programs of the object with that digest; `slot0/` and `slot1/`, there while a slot holds something, in them a folder
//! `generation-DIGEST-NUMBER`; `links/`. A program that replaces another gets outer maps and a cell of its own in `maps-new/`,
//! so that each sees what was made for it and nothing else.

use super::{EbpfError, Result, kernel, quiet};
use libbpf_rs::{MapCore as _, MapFlags, MapHandle, ObjectBuilder, Program, ProgramHandle};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::ErrorKind;
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};

/// The programs that are attached to devices.
pub const PROGRAMS: [&str; 4] = ["pw_workload", "pw_fabric", "pw_outside", "pw_underlay"];

/// What a slot of the running program has been switched to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Running {
    /// Rises with every switch.
    pub number: u64,
    pub slot: u32,
    /// The digest of the node's files; absent where the slot bears none with this number.
    pub generation: Option<String>,
}

/// A program that is loaded.
#[derive(Debug)]
pub struct Base {
    pins: PathBuf,
    maps: PathBuf,
    programs: BTreeMap<&'static str, ProgramHandle>,
    /// Not yet adopted: nothing but this value leads to it.
    fresh: bool,
}

pub(super) fn files(step: impl Into<String>) -> impl FnOnce(std::io::Error) -> EbpfError {
    let step = step.into();
    |source| EbpfError::Files { step, source }
}

/// Removes a folder with all in it, if it is there.
pub(super) fn remove(folder: &Path) -> Result<()> {
    match fs::remove_dir_all(folder) {
        Err(e) if e.kind() != ErrorKind::NotFound => Err(files(format!("removing {}", folder.display()))(e)),
        _ => Ok(()),
    }
}

pub(super) fn make(folder: &Path) -> Result<()> {
    fs::create_dir_all(folder).map_err(files(format!("making {}", folder.display())))
}

/// Names in a folder, sorted; none, if it is not there.
pub(super) fn names(folder: &Path) -> Result<Vec<String>> {
    let entries = match fs::read_dir(folder) {
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        other => other.map_err(files(format!("reading {}", folder.display())))?,
    };
    let mut names: Vec<String> = entries.flatten().filter_map(|e| e.file_name().into_string().ok()).collect();
    names.sort();
    Ok(names)
}

pub(super) fn slot_folder(pins: &Path, slot: u32) -> PathBuf {
    pins.join(format!("slot{slot}"))
}

fn program_folder(pins: &Path, object: &str) -> PathBuf {
    // A BPF file system takes no points in names.
    pins.join(format!("program-{}", object.get(..16).unwrap_or(object)))
}

fn open_map(path: &Path) -> Result<MapHandle> {
    MapHandle::from_pinned_path(path).map_err(kernel(format!("opening {}", path.display())))
}

/// Number and slot in a cell; `None` where it says that there is no generation.
fn read_cell(cell: &MapHandle) -> Result<Option<(u64, u32)>> {
    let bytes = cell.lookup(&0u32.to_ne_bytes(), MapFlags::ANY).map_err(kernel("reading the map cell"))?;
    let value = bytes.as_deref().and_then(|b| <[u8; 8]>::try_from(b).ok()).map_or(0, u64::from_ne_bytes);
    Ok((value != 0).then_some((value >> 1, u32::from(value & 1 == 1))))
}

/// The slot and number that the program on record runs.
///
/// # Errors
/// The cell cannot be read.
pub fn running(pins: &Path) -> Result<Option<Running>> {
    let cell = pins.join("maps").join("cell");
    if !cell.exists() {
        return Ok(None);
    }
    let Some((number, slot)) = read_cell(&open_map(&cell)?)? else { return Ok(None) };
    let marks = names(&slot_folder(pins, slot))?;
    let generation = marks.iter().find_map(|mark| {
        let (digest, marked) = mark.strip_prefix("generation-")?.split_once('-')?;
        (marked.parse() == Ok(number)).then(|| digest.to_owned())
    });
    Ok(Some(Running { number, slot, generation }))
}

impl Base {
    /// The program on record, if it is the one with this digest.
    ///
    /// # Errors
    /// What is pinned cannot be opened.
    pub fn current(pins: &Path, object: &str) -> Result<Option<Self>> {
        let maps = pins.join("maps");
        // Cut short between the two names.
        if !maps.exists() && pins.join("maps-new").exists() {
            fs::rename(pins.join("maps-new"), &maps).map_err(files("naming maps-new"))?;
        }
        let folder = program_folder(pins, object);
        if !maps.join("cell").exists() || !PROGRAMS.iter().all(|name| folder.join(name).exists()) {
            return Ok(None);
        }
        let programs = open_programs(&folder)?;
        Ok(Some(Self { pins: pins.to_owned(), maps, programs, fresh: false }))
    }

    /// Loads a program beside the one on record, with a cell and outer maps of its own. Maps that outlive generations are
    /// shared where both have them in the same shape, so that connections are known to both.
    ///
    /// # Errors
    /// The kernel refuses the program; the message holds what its verifier says.
    pub fn load(pins: &Path, object: &[u8]) -> Result<Self> {
        quiet();
        let (maps, new) = (pins.join("maps"), pins.join("maps-new"));
        let mut open = ObjectBuilder::default().open_memory(object).map_err(kernel("reading the object"))?;
        for mut map in open.maps_mut() {
            let name = map.name().to_string_lossy().into_owned();
            let path = maps.join(&name);
            let outer = map.map_type() == libbpf_rs::MapType::ArrayOfMaps;
            if outer || name == "cell" || !path.exists() {
                continue;
            }
            let had = open_map(&path)?;
            let same = had.map_type() == map.map_type()
                && had.key_size() == map.key_size()
                && had.value_size() == map.value_size()
                && had.max_entries() == map.max_entries();
            if same {
                map.reuse_fd(had.as_fd()).map_err(kernel(format!("keeping the map {name}")))?;
            }
        }
        let loaded = open.load().map_err(kernel("loading the program"))?;
        remove(&new)?;
        make(&new)?;
        for map in loaded.maps() {
            let name = map.name().to_string_lossy().into_owned();
            let mut handle = MapHandle::try_from(&map).map_err(kernel(format!("the map {name}")))?;
            handle.pin(new.join(&name)).map_err(kernel(format!("pinning the map {name}")))?;
        }
        let mut programs = BTreeMap::new();
        for name in PROGRAMS {
            let program = loaded.progs().find(|p| p.name() == name);
            let program = program.ok_or_else(|| EbpfError::Missing(name.to_owned()))?;
            let handle = Program::id_from_fd(program.as_fd()).and_then(ProgramHandle::from_prog_id);
            programs.insert(name, handle.map_err(kernel(format!("the program {name}")))?);
        }
        Ok(Self { pins: pins.to_owned(), maps: new, programs, fresh: true })
    }

    /// Whether devices have other programs still, or none.
    #[must_use]
    pub fn is_fresh(&self) -> bool {
        self.fresh
    }

    #[must_use]
    pub fn pins(&self) -> &Path {
        &self.pins
    }

    /// # Errors
    /// There is no such program.
    pub fn program(&self, name: &str) -> Result<&ProgramHandle> {
        self.programs.get(name).ok_or_else(|| EbpfError::Missing(name.to_owned()))
    }

    /// A map by its name in the object.
    ///
    /// # Errors
    /// There is none, or it cannot be opened.
    pub fn map(&self, name: &str) -> Result<MapHandle> {
        open_map(&self.maps.join(name))
    }

    /// Names of all maps.
    ///
    /// # Errors
    /// The folder cannot be read.
    pub fn map_names(&self) -> Result<BTreeSet<String>> {
        Ok(names(&self.maps)?.into_iter().collect())
    }

    /// Switches to what a slot holds: one write, which each packet reads once. `number` tells generations apart.
    ///
    /// # Errors
    /// The kernel refuses the write.
    pub fn flip(&self, number: u64, slot: u32) -> Result<()> {
        write_cell(&self.map("cell")?, number << 1 | u64::from(slot))
    }

    /// Makes this program the one on record and lets go of the one before. Nothing may lead to that any more.
    ///
    /// # Errors
    /// The BPF file system refuses.
    pub fn adopt(&mut self, object: &str) -> Result<()> {
        if !self.fresh {
            return Ok(());
        }
        let (maps, old) = (self.pins.join("maps"), self.pins.join("maps-old"));
        // From here to the end no program is on record: a call that is cut short has the next one load it again.
        for name in names(&self.pins)?.iter().filter(|name| name.starts_with("program-")) {
            remove(&self.pins.join(name))?;
        }
        remove(&old)?;
        if maps.exists() {
            // SOUNDNESS: what might still run the program before lets nothing pass any more.
            let cell = maps.join("cell");
            if cell.exists() {
                write_cell(&open_map(&cell)?, 0)?;
            }
            fs::rename(&maps, &old).map_err(files("naming maps-old"))?;
        }
        fs::rename(&self.maps, &maps).map_err(files("naming maps"))?;
        self.maps = maps;
        let folder = program_folder(&self.pins, object);
        make(&folder)?;
        for (name, program) in &self.programs {
            program.pin(folder.join(name)).map_err(kernel(format!("pinning the program {name}")))?;
        }
        self.fresh = false;
        remove(&old)
    }
}

fn write_cell(cell: &MapHandle, value: u64) -> Result<()> {
    cell.update(&0u32.to_ne_bytes(), &value.to_ne_bytes(), MapFlags::ANY).map_err(kernel("the flip"))
}

fn open_programs(folder: &Path) -> Result<BTreeMap<&'static str, ProgramHandle>> {
    let mut programs = BTreeMap::new();
    for name in PROGRAMS {
        let path = folder.join(name);
        let handle = ProgramHandle::from_pinned_path(&path);
        programs.insert(name, handle.map_err(kernel(format!("opening {}", path.display())))?);
    }
    Ok(programs)
}

/// The programs on record, of whichever object.
///
/// # Errors
/// They cannot be opened.
pub(super) fn programs_on_record(pins: &Path) -> Result<Option<BTreeMap<&'static str, ProgramHandle>>> {
    for name in names(pins)?.iter().filter(|name| name.starts_with("program-")) {
        let folder = pins.join(name);
        if PROGRAMS.iter().all(|program| folder.join(program).exists()) {
            return open_programs(&folder).map(Some);
        }
    }
    Ok(None)
}
