//! Installing a generation and going back: the kernel by the generation's own `apply.sh`, or by [`crate::ebpf::bring`] for the
//! eBPF target, and the record on disk around it.
//!
//! The order is: keep the files, write down what is about to happen, have it happen, write down that it has, take away what
//! another target has left, compare. Whatever is cut short, the kernel has the old or the new generation whole, since it is
//! switched once; the record says which was meant; and the next call finds out which runs, and finishes.

use crate::audit::{self, Audit, Difference, Remedy, Snapshot};
use crate::command;
use crate::ebpf::bring::{self, How};
use crate::error::NodeError;
use crate::generation::{Generation, Program, SCRIPT, Target};
use crate::retire;
use crate::state::{Entry, Lock, Pending, Record, State};
use std::path::Path;

/// What is about to be done; told before it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// An interrupted call's outcome is written down.
    Recover,
    /// The files are kept.
    Keep,
    /// What is about to happen is written down.
    Journal,
    /// The kernel gets the generation.
    Script,
    /// eBPF: the program is loaded.
    Load,
    /// eBPF: devices are made ready.
    Devices,
    /// eBPF: the free slot is filled.
    Fill,
    /// eBPF: programs are attached to devices.
    Attach,
    /// eBPF: the generation is switched to.
    Flip,
    /// eBPF: what nothing leads to any more is freed.
    Free,
    /// What another target left is taken away.
    Retire,
    /// That it has it is written down.
    Record,
    /// It is compared.
    Audit,
    /// What the comparison found is mended.
    Mend,
    /// Kept generations that nothing names are removed.
    Prune,
}

/// What a call did.
#[derive(Debug, Clone)]
pub struct Installed {
    pub entry: Entry,
    /// Whether another generation ran before, or none.
    pub changed: bool,
    /// An earlier call had been cut short.
    pub recovered: bool,
    /// What `apply.sh` said, such as which devices are not there.
    pub notes: Vec<String>,
    /// What was not as it should be and is now.
    pub mended: Vec<Difference>,
    /// What is not as it should be still.
    pub left: Vec<Difference>,
}

impl Installed {
    /// Whether something is left that should have been mended.
    #[must_use]
    pub fn stuck(&self) -> bool {
        self.left.iter().any(|d| d.remedy != Remedy::Operator)
    }
}

/// How often a comparison may be followed by mending and another one.
const ROUNDS: usize = 4;

/// Installs a generation, or the current one again: what is missing comes back, what was changed is mended, leftovers are
/// taken away, and where nothing is amiss nothing changes. `watch` is told each step before it is taken.
///
/// # Errors
/// The generation is refused, and what ran before runs on; or the record cannot be written.
pub fn apply(
    state: &State,
    wanted: Option<&Generation>,
    watch: &mut dyn FnMut(Step),
) -> Result<Installed, NodeError> {
    let lock = state.lock()?;
    let (mut record, interrupted) = recover(state, watch)?;
    let generation = match (wanted, &interrupted) {
        (Some(generation), _) => generation.clone(),
        // Cut short before the flip: what was meant is installed now.
        (None, Some(pending)) => state.load(&pending.to)?,
        (None, None) => match &record.current {
            Some(entry) => state.load(entry)?,
            None => return Err(NodeError::NothingInstalled { state: state.root().to_owned() }),
        },
    };
    let back = wanted.is_none() && interrupted.as_ref().is_some_and(|pending| pending.back);
    let mut installed = install(state, &lock, &mut record, &generation, back, watch)?;
    installed.recovered = interrupted.is_some();
    Ok(installed)
}

/// Goes back to the generation before the current one.
///
/// # Errors
/// There is none, or as [`apply`].
pub fn rollback(state: &State, watch: &mut dyn FnMut(Step)) -> Result<Installed, NodeError> {
    let lock = state.lock()?;
    let (mut record, interrupted) = recover(state, watch)?;
    let entry = record.earlier.first().cloned().ok_or(NodeError::NothingEarlier)?;
    let generation = state.load(&entry)?;
    let mut installed = install(state, &lock, &mut record, &generation, true, watch)?;
    installed.recovered = interrupted.is_some();
    Ok(installed)
}

/// The generation on record.
///
/// # Errors
/// Nothing is on record, or it cannot be read.
pub fn current(state: &State) -> Result<Generation, NodeError> {
    match &state.read()?.current {
        Some(entry) => state.load(entry),
        None => Err(NodeError::NothingInstalled { state: state.root().to_owned() }),
    }
}

/// Compares the network namespace of the calling thread with the generation on record, when no call is changing it.
///
/// # Errors
/// Nothing is on record, it cannot be read, a call does not end, or as [`audit::audit`].
pub fn audit(state: &State) -> Result<Audit, NodeError> {
    let _settled = state.settled()?;
    let current = current(state)?;
    let earlier = state.read()?.earlier;
    let older: Vec<Generation> = earlier.iter().filter_map(|entry| state.load(entry).ok()).collect();
    audit::audit_at(&current, &older, state.place())
}

/// Writes down how a call ended that was cut short; what it was about, if it had not come to the flip.
fn recover(state: &State, watch: &mut dyn FnMut(Step)) -> Result<(Record, Option<Pending>), NodeError> {
    let mut record = state.read()?;
    let Some(pending) = record.pending.clone() else { return Ok((record, None)) };
    watch(Step::Recover);
    let flipped = match state.load(&pending.to) {
        Ok(to) => runs(state, &to)?,
        Err(_) => false,
    };
    if flipped {
        record.settle(pending.to.clone(), pending.back);
        state.write(&record)?;
    }
    Ok((record, Some(pending)))
}

/// The suffix of the generation that the kernel has of the nft target. Where nft is not installed it has none.
fn running() -> Result<Option<String>, NodeError> {
    match Snapshot::generation() {
        Err(NodeError::Spawn { .. }) => Ok(None),
        other => Ok(audit::running(&other?).map(|(_, suffix)| suffix)),
    }
}

/// Whether the kernel has this generation.
fn runs(state: &State, generation: &Generation) -> Result<bool, NodeError> {
    match generation.target {
        Target::Nft => {
            let suffix = running()?;
            Ok(suffix.is_some_and(|s| s == generation.suffix() || s == generation.spare_suffix()))
        }
        Target::Ebpf => {
            let running = bring::running(state.place())?;
            Ok(running.is_some_and(|r| r.generation.as_deref() == Some(&generation.digest)))
        }
    }
}

/// What a step of the kernel's part came to: what it says, or why it was refused.
type Outcome = Result<Vec<String>, String>;

fn outcome(ran: command::Ran) -> Outcome {
    match ran.success {
        true => Ok(ran.stderr.lines().map(str::to_owned).collect()),
        false => Err(ran.stderr),
    }
}

/// Has the kernel get a generation, as it is kept.
fn have_it(
    state: &State,
    lock: &Lock,
    entry: &Entry,
    generation: &Generation,
    watch: &mut dyn FnMut(Step),
) -> Result<Outcome, NodeError> {
    if let Some(program) = generation.program() {
        return Ok(bring(state, program, How::Keep, watch).map_err(|e| e.to_string()));
    }
    if bring::is_there(state.place()) {
        // Its VXLAN device has the port that this target's need.
        bring::stand_aside()?;
    }
    Ok(outcome(match running()? {
        // Installed under its other suffix, after a repair: to be left so.
        Some(suffix) if suffix == generation.spare_suffix() => script_as(state, lock, generation, &suffix)?,
        _ => script(&state.scripts(entry), lock)?,
    }))
}

fn bring(
    state: &State,
    program: &Program,
    how: How,
    watch: &mut dyn FnMut(Step),
) -> Result<Vec<String>, NodeError> {
    let brought = bring::bring(state.place(), program, how, watch)?;
    tracing::debug!(changed = brought.changed, "brought");
    Ok(brought.notes)
}

/// Takes away what the other target left. This one decides everything by now.
fn retire(state: &State, target: Target, others: &[&Generation]) -> Result<(), NodeError> {
    match target {
        Target::Nft if bring::is_there(state.place()) => Ok(bring::retire(state.place())?),
        Target::Ebpf if retire::is_there()? => retire::nft(others),
        _ => Ok(()),
    }
}

fn install(
    state: &State,
    lock: &Lock,
    record: &mut Record,
    generation: &Generation,
    back: bool,
    watch: &mut dyn FnMut(Step),
) -> Result<Installed, NodeError> {
    let entry = match &record.current {
        // The same again: since when it runs does not change.
        Some(current) if current.id == generation.id => {
            Entry { installed: current.installed, ..Entry::of(generation) }
        }
        _ => Entry::of(generation),
    };
    let before = runs(state, generation)?;
    let older: Vec<Generation> = record
        .current
        .iter()
        .chain(&record.earlier)
        .chain(record.pending.iter().map(|p| &p.to))
        .filter(|e| e.id != entry.id)
        .filter_map(|e| state.load(e).ok())
        .collect();
    watch(Step::Keep);
    state.keep(generation)?;
    watch(Step::Journal);
    if record.current.as_ref() != Some(&entry) || record.pending.is_some() {
        record.pending = Some(Pending { to: entry.clone(), back });
        state.write(record)?;
    }
    watch(Step::Script);
    let notes = match have_it(state, lock, &entry, generation, watch)? {
        Ok(notes) => notes,
        // It runs, and only what it replaced could not be taken away: the comparison tells.
        Err(said) if runs(state, generation)? => said.lines().map(str::to_owned).collect(),
        Err(said) => return Err(refused(state, lock, record, generation, &said)),
    };
    watch(Step::Record);
    if record.current.as_ref() != Some(&entry) || record.pending.is_some() {
        record.settle(entry.clone(), back);
        state.write(record)?;
    }
    watch(Step::Retire);
    retire(state, generation.target, &older.iter().collect::<Vec<_>>())?;
    let (mended, left) = mend(state, lock, generation, &older, watch)?;
    watch(Step::Prune);
    state.prune(record)?;
    Ok(Installed { entry, changed: !before, recovered: false, notes, mended, left })
}

fn script(folder: &Path, lock: &Lock) -> Result<command::Ran, NodeError> {
    // By its name alone, as the folder may be given from where this process is.
    command::run("sh", &[&format!("./{SCRIPT}")], Some(folder), Some(lock.share()?))
}

/// The way back after a refusal: the old generation's own script puts back what the new one's had replaced before it was
/// refused (a neighbour that moved, a device's MTU).
fn refused(
    state: &State,
    lock: &Lock,
    record: &mut Record,
    generation: &Generation,
    said: &str,
) -> NodeError {
    record.pending = None;
    let again = |current: &Entry| -> Result<bool, NodeError> {
        let old = state.load(current)?;
        Ok(have_it(state, lock, current, &old, &mut |_| {})?.is_ok())
    };
    let old = record.current.as_ref().map(|current| (current, again(current)));
    let mut running = match old {
        None => "nothing is installed".to_owned(),
        Some((current, Ok(true))) => {
            format!("{} runs on", current.generation.get(..8).unwrap_or_default())
        }
        Some((current, _)) => {
            let short = current.generation.get(..8).unwrap_or_default();
            format!(
                "{short} runs on, but could not be put back in order (`partywall audit` shows what is amiss)"
            )
        }
    };
    if let Err(error) = state.write(record) {
        running = format!("{running}, and that could not be written down ({error})");
    }
    let message = command::one_line(said);
    NodeError::Apply { generation: generation.suffix().to_owned(), running, message }
}

/// Compares, mends, and compares again.
fn mend(
    state: &State,
    lock: &Lock,
    generation: &Generation,
    older: &[Generation],
    watch: &mut dyn FnMut(Step),
) -> Result<(Vec<Difference>, Vec<Difference>), NodeError> {
    let mut found: Vec<Difference> = Vec::new();
    for round in 0..ROUNDS {
        watch(Step::Audit);
        let Audit { differences, .. } = audit::audit_at(generation, older, state.place())?;
        let ours = differences.iter().any(|d| d.remedy != Remedy::Operator);
        for difference in &differences {
            if !found.contains(difference) {
                found.push(difference.clone());
            }
        }
        if !ours || round + 1 == ROUNDS {
            found.retain(|d| !differences.contains(d));
            return Ok((found, differences));
        }
        watch(Step::Mend);
        mend_once(state, lock, generation, &differences)?;
    }
    Ok((found, Vec::new()))
}

fn mend_once(
    state: &State,
    lock: &Lock,
    generation: &Generation,
    differences: &[Difference],
) -> Result<(), NodeError> {
    let has = |remedy: fn(&Remedy) -> bool| differences.iter().any(|d| remedy(&d.remedy));
    for difference in differences {
        match &difference.remedy {
            // What one command cannot take away is told by the next comparison.
            Remedy::Remove(commands) => {
                for command in commands {
                    if let [program, args @ ..] = command.as_slice() {
                        let args: Vec<&str> = args.iter().map(String::as_str).collect();
                        command::run(program, &args, None, None)?;
                    }
                }
            }
            Remedy::Recreate(device) => {
                command::run("ip", &["link", "delete", "dev", device], None, None)?;
            }
            Remedy::Apply | Remedy::Reinstall | Remedy::Reload | Remedy::Rebase(_) | Remedy::Operator => {}
        }
    }
    if let Some(program) = generation.program() {
        let how = if has(|r| matches!(r, Remedy::Reload)) {
            How::Reload
        } else if has(|r| matches!(r, Remedy::Reinstall)) {
            How::Again
        } else {
            How::Keep
        };
        return bring(state, program, how, &mut |_| {}).map(drop);
    }
    rebase(state, generation, differences)?;
    let runs = running()?.unwrap_or_default();
    let (own, spare) = (generation.suffix().to_owned(), generation.spare_suffix());
    if has(|r| matches!(r, Remedy::Reinstall)) {
        let other = if runs == own { spare } else { own };
        checked(&script_as(state, lock, generation, &other)?)
    } else if has(|r| matches!(r, Remedy::Apply | Remedy::Rebase(_) | Remedy::Recreate(_))) {
        checked(&script_as(state, lock, generation, if runs == spare { &spare } else { &own })?)
    } else {
        Ok(())
    }
}

/// Makes base chains again that stand at another hook, priority or policy than they should: nft cannot move a chain. Packets
/// meet the old ones or the new ones, as all of it is one transaction.
fn rebase(state: &State, generation: &Generation, differences: &[Difference]) -> Result<(), NodeError> {
    let chains: Vec<&String> = differences
        .iter()
        .filter_map(|d| if let Remedy::Rebase(chain) = &d.remedy { Some(chain) } else { None })
        .collect();
    if chains.is_empty() {
        return Ok(());
    }
    let folder = state.scratch()?;
    generation.write(&folder, generation.suffix())?;
    let base = folder.join("base.nft");
    let again: String =
        chains.iter().map(|chain| format!("flush chain {chain}\ndelete chain {chain}\n")).collect();
    let text = std::fs::read_to_string(&base).map_err(NodeError::io("cannot read base.nft"))?;
    std::fs::write(&base, again + &text).map_err(NodeError::io("cannot write base.nft"))?;
    command::output("nft", &["-f", &base.display().to_string()]).map(drop)
}

/// Runs the script with every name under this suffix.
fn script_as(
    state: &State,
    lock: &Lock,
    generation: &Generation,
    suffix: &str,
) -> Result<command::Ran, NodeError> {
    let folder = state.scratch()?;
    generation.write(&folder, suffix)?;
    script(&folder, lock)
}

fn checked(ran: &command::Ran) -> Result<(), NodeError> {
    if ran.success {
        return Ok(());
    }
    Err(NodeError::Refused { command: SCRIPT.to_owned(), message: command::one_line(&ran.stderr) })
}
