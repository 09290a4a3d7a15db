//! The emitted files in p4c and BMv2's simple_switch, packets by pcap files and by devices.

use super::bench::{REASONS, Trial, files};
use super::official::Scratch;
use super::switch::{self, Said};
use partywall_backends::p4::Model;
use partywall_backends::p4::program::{CONTROL, Program, parse};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::PathBuf;
use std::process::Command;
use std::sync::{Arc, Condvar, Mutex, PoisonError};

/// How many switches may run side by side.
const SWITCHES: usize = 2;

/// The first tool that is not there.
pub fn missing() -> Option<&'static str> {
    let paths: Vec<PathBuf> = std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default()).collect();
    ["p4c-bm2-ss", "simple_switch", "simple_switch_CLI"]
        .into_iter()
        .find(|tool| !paths.iter().any(|dir| dir.join(tool).is_file()))
}

/// How frames reach the switch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum By {
    Files,
    /// Pairs of devices in a network namespace.
    Devices,
}

/// What came out of each port.
type Sent = BTreeMap<u16, Vec<Vec<u8>>>;

/// Leave to run a switch, given back when it is dropped.
struct Leave;

static RUNNING: (Mutex<usize>, Condvar) = (Mutex::new(0), Condvar::new());

impl Leave {
    fn wait() -> Self {
        let running = RUNNING.0.lock().unwrap_or_else(PoisonError::into_inner);
        let full = |running: &mut usize| *running >= SWITCHES;
        *RUNNING.1.wait_while(running, full).unwrap_or_else(PoisonError::into_inner) += 1;
        Self
    }
}

impl Drop for Leave {
    fn drop(&mut self) {
        *RUNNING.0.lock().unwrap_or_else(PoisonError::into_inner) -= 1;
        RUNNING.1.notify_one();
    }
}

/// What was compared on one node.
#[derive(Debug, Clone, Copy, Default)]
pub struct Compared {
    pub forwarded: u64,
    pub refused: u64,
}

/// Runs the frames, and compares what comes out of each port, and why the others do not.
pub fn compare(model: &Model, trials: &[Trial], by: By) -> Compared {
    if by == By::Devices && !may_unshare() {
        eprintln!(
            "SKIPPED: no network namespace may be made here, so no packet went through BMv2 by devices"
        );
        return Compared::default();
    }
    let _leave = Leave::wait();
    let thrift = switch::unused_port();
    let scratch = Scratch::new(&format!("p4-{}-{thrift}", model.node));
    let dir = scratch.0.as_path();
    let files = files(model);
    let compiled = compile(&files["p4/partywall.p4"]);
    // Line by line: every table, field, action, parameter and counter, with numbers, names, widths, kinds and sizes.
    let described = lines(&files["p4/partywall.p4info.txtpb"]);
    assert_eq!(described, compiled.info, "node {}", model.node);
    let widths = described.iter().filter(|line| line.starts_with("bitwidth: ")).count();
    std::fs::write(dir.join("partywall.json"), &compiled.json).unwrap();
    // A queue of ours that is full would lose frames, which is no matter of the program's.
    std::fs::write(dir.join("load.txt"), "set_queue_depth 1000000\n".to_owned() + &files["p4/bmv2.txt"])
        .unwrap();
    let counters = counters(&compiled.program, trials);
    let mut ask = String::new();
    for (counter, index) in counters.keys() {
        let _ = writeln!(ask, "counter_read {CONTROL}.{counter} {index}");
    }
    std::fs::write(dir.join("ask.txt"), ask).unwrap();

    let ports: Vec<u16> = model.ports.values().copied().collect();
    let drops = format!("{CONTROL}.drops");
    let Said { loaded, counted } = match by {
        By::Files => switch::through_files(dir, (thrift, &ports), trials, &drops),
        By::Devices => switch::through_devices(dir, &ports, trials, &drops),
    };
    let added = loaded.matches("Entry has been added").count();
    assert_eq!(added, model.entries.by_key.len(), "node {}: entries were refused: {loaded}", model.node);
    let done = sent(model, trials, |port| switch::came_out(dir, port));
    for ((counter, index), want) in &counters {
        let name = format!("{CONTROL}.{counter}");
        let found = switch::packets(&counted, &name).find(|(at, _)| at == index).map(|(_, packets)| packets);
        assert_eq!(found, Some(*want), "node {}: {counter}[{index}]\n{counted}", model.node);
    }
    println!(
        "{}, {by:?}: p4c said nothing and described {widths} fields and parameters as we do; BMv2 took {added} entries, sent the same \
         {} of {} frames, and counted the others for the same reasons",
        model.node,
        done.forwarded,
        trials.len()
    );
    done
}

/// What comes out of each port is what should; in any order.
fn sent(model: &Model, trials: &[Trial], came_out: impl Fn(u16) -> Vec<Vec<u8>>) -> Compared {
    let mut want = Sent::new();
    for (port, bytes) in trials.iter().filter_map(|t| t.sent.clone()) {
        want.entry(port).or_default().push(bytes);
    }
    let forwarded: usize = want.values().map(Vec::len).sum();
    for port in model.ports.values() {
        let (mut want, mut got) = (want.remove(port).unwrap_or_default(), came_out(*port));
        want.sort();
        got.sort();
        let differ = want.iter().zip(&got).find(|(w, g)| w != g);
        let counts = (want.len(), got.len());
        assert!(want == got, "node {} port {port}: {counts:?} frames, first {differ:02x?}", model.node);
    }
    assert!(want.is_empty(), "node {}: {:?}", model.node, want.keys());
    let (forwarded, all) = (forwarded as u64, trials.len() as u64);
    Compared { forwarded, refused: all - forwarded }
}

/// What counters have to be, by name and index: every reason for a drop, and every rule that a packet was counted under.
fn counters(program: &Program, trials: &[Trial]) -> BTreeMap<(String, u128), u64> {
    let mut out = BTreeMap::new();
    for index in 0..REASONS.len() as u128 {
        out.insert(("drops".to_owned(), index), 0);
    }
    for (counter, index) in trials.iter().flat_map(|t| &t.counted) {
        let counter = &program.counters[*counter];
        // Those of entries are the table's.
        if counter.size.is_some() {
            *out.entry((counter.name.clone(), *index)).or_default() += 1;
        }
    }
    out
}

fn may_unshare() -> bool {
    Command::new("unshare").args(["--net", "true"]).status().is_ok_and(|status| status.success())
}

/// What p4c makes of a program.
struct Compiled {
    program: Program,
    json: Vec<u8>,
    /// P4Info.
    info: Vec<String>,
}

/// Compiles without a word; a program that has been compiled is not compiled again. Nodes' programs differ in comments, where the
/// generation stands.
fn compile(text: &str) -> Arc<Compiled> {
    static KNOWN: Mutex<BTreeMap<String, Arc<Compiled>>> = Mutex::new(BTreeMap::new());
    let mut known = KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
    let key: String = text.lines().filter(|line| !line.trim_start().starts_with("//")).collect();
    if let Some(compiled) = known.get(&key) {
        return Arc::clone(compiled);
    }
    let scratch = Scratch::new("p4c");
    let dir = scratch.0.as_path();
    std::fs::write(dir.join("partywall.p4"), text).unwrap();
    let mut p4c = Command::new("p4c-bm2-ss");
    p4c.args(["--std", "p4-16", "--p4runtime-files", "info.txtpb", "-o", "partywall.json", "partywall.p4"]);
    let out = p4c.current_dir(dir).output().unwrap();
    let said = String::from_utf8_lossy(&out.stderr).into_owned() + &String::from_utf8_lossy(&out.stdout);
    assert!(out.status.success() && said.trim().is_empty(), "p4c: {said}");
    let compiled = Arc::new(Compiled {
        program: parse(text).unwrap(),
        json: std::fs::read(dir.join("partywall.json")).unwrap(),
        info: lines(&std::fs::read_to_string(dir.join("info.txtpb")).unwrap()),
    });
    known.insert(key, Arc::clone(&compiled));
    compiled
}

/// Without comments, layout, and the initial values of default actions, which older compilers leave away.
fn lines(text: &str) -> Vec<String> {
    let mut out = Vec::new();
    let mut inside = 0usize;
    for line in text.lines().map(str::trim).filter(|l| !l.is_empty() && !l.starts_with('#')) {
        if inside > 0 || line.starts_with("initial_default_action") {
            inside = inside + line.matches('{').count() - line.matches('}').count();
        } else {
            out.push(line.to_owned());
        }
    }
    out
}
