//! The emitted files in p4c and BMv2's simple_switch, packets by pcap files and by devices.

use super::bench::Trial;
use super::official::Scratch;
use partywall_backends::p4::Model;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Seconds that the switch waits for its entries before it reads packets.
fn wait(entries: usize) -> u64 {
    15 + entries as u64 / 150
}

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

/// Runs the frames and compares what comes out of each port.
pub fn compare(files: &BTreeMap<String, String>, model: &Model, trials: &[Trial], by: By) {
    // One switch of this process at a time: its port is told by the process.
    static RUNNING: Mutex<()> = Mutex::new(());
    let _running = RUNNING.lock().unwrap_or_else(PoisonError::into_inner);
    let scratch = Scratch::new(&format!("p4-{}", model.node));
    let dir = scratch.0.as_path();
    std::fs::write(dir.join("partywall.p4"), &files["p4/partywall.p4"]).unwrap();
    std::fs::write(dir.join("bmv2.txt"), &files["p4/bmv2.txt"]).unwrap();
    let described = compile(dir, &files["p4/partywall.p4info.txtpb"]);
    let ports: Vec<u16> = model.ports.values().copied().collect();
    for port in &ports {
        let mine: Vec<&[u8]> =
            trials.iter().filter(|(p, ..)| p == port).map(|(_, frame, _)| frame.as_slice()).collect();
        std::fs::write(dir.join(format!("f{port}_in.pcap")), pcap(&mine)).unwrap();
    }
    let mut want = Sent::new();
    for (port, bytes) in trials.iter().filter_map(|(_, _, outcome)| outcome.sent.clone()) {
        want.entry(port).or_default().push(bytes);
    }
    let count: usize = want.values().map(Vec::len).sum();
    let thrift = (20_000 + std::process::id() % 20_000).to_string();
    let (said, mut got) = match by {
        By::Files => through_files(dir, &ports, &thrift, (count, wait(model.entries.by_key.len()))),
        By::Devices if !may_unshare() => {
            eprintln!(
                "SKIPPED: no network namespace may be made here, so no packet went through BMv2 by devices"
            );
            return;
        }
        By::Devices => through_devices(dir, &ports, &thrift),
    };
    let added = said.matches("Entry has been added").count();
    assert_eq!(added, model.entries.by_key.len(), "entries were refused: {said}");
    for frames in want.values_mut().chain(got.values_mut()) {
        frames.sort();
    }
    for (port, want) in &want {
        let got = got.get(port).map(Vec::as_slice).unwrap_or_default();
        assert_eq!(got.len(), want.len(), "node {} port {port}", model.node);
        let differ = want.iter().zip(got).find(|(w, g)| w != g);
        assert!(differ.is_none(), "node {} port {port}: {differ:02x?}", model.node);
    }
    assert_eq!(want.keys().collect::<Vec<_>>(), got.keys().collect::<Vec<_>>());
    println!(
        "{}, {by:?}: p4c said nothing and described {described} fields and parameters as we do; BMv2 took {added} entries and sent the \
         same {count} of {} frames",
        model.node,
        trials.len()
    );
}

fn read(dir: &Path, ports: &[u16]) -> Sent {
    let frames =
        |port: &u16| frames(&std::fs::read(dir.join(format!("f{port}_out.pcap"))).unwrap_or_default());
    ports.iter().map(|port| (*port, frames(port))).filter(|(_, frames)| !frames.is_empty()).collect()
}

/// What was said to the entries, and what came out.
fn through_files(dir: &Path, ports: &[u16], thrift: &str, (count, wait): (usize, u64)) -> (String, Sent) {
    let mut switch = Command::new("simple_switch");
    switch.current_dir(dir).args(["--use-files", &wait.to_string(), "--thrift-port", thrift]);
    for port in ports {
        switch.args(["-i", &format!("{port}@f{port}")]);
    }
    let log = std::fs::File::create(dir.join("switch.log")).unwrap();
    let mut switch = switch.arg("partywall.json").stdout(log).stderr(Stdio::null()).spawn().unwrap();
    std::thread::sleep(Duration::from_secs(2));
    let entries = std::fs::File::open(dir.join("bmv2.txt")).unwrap();
    let loaded =
        Command::new("simple_switch_CLI").args(["--thrift-port", thrift]).stdin(entries).output().unwrap();
    let (mut since, mut before) = (Instant::now(), 0);
    loop {
        let now = read(dir, ports).values().map(Vec::len).sum::<usize>();
        if now > before {
            (since, before) = (Instant::now(), now);
        }
        if now >= count || since.elapsed() > Duration::from_secs(wait + 60) {
            break;
        }
        std::thread::sleep(Duration::from_millis(500));
    }
    // What should not come may come late.
    std::thread::sleep(Duration::from_secs(3));
    let got = read(dir, ports);
    switch.kill().unwrap();
    switch.wait().unwrap();
    (String::from_utf8_lossy(&loaded.stdout).into_owned(), got)
}

fn may_unshare() -> bool {
    Command::new("unshare").args(["--net", "true"]).status().is_ok_and(|status| status.success())
}

fn through_devices(dir: &Path, ports: &[u16], thrift: &str) -> (String, Sent) {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/p4/veth.py");
    let mut run = Command::new("unshare");
    run.args(["--net", "python3", script]).arg(dir).arg(thrift).args(ports.iter().map(u16::to_string));
    let out = run.output().unwrap();
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    (std::fs::read_to_string(dir.join("loaded.txt")).unwrap(), read(dir, ports))
}

/// Compiles without a word, and gets the P4Info that is emitted; returns of how many fields and parameters it gives the widths.
fn compile(dir: &Path, info: &str) -> usize {
    let out = Command::new("p4c-bm2-ss")
        .current_dir(dir)
        .args(["--std", "p4-16", "--p4runtime-files", "info.txtpb", "-o", "partywall.json", "partywall.p4"])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&out.stderr).into_owned() + &String::from_utf8_lossy(&out.stdout);
    assert!(out.status.success() && said.trim().is_empty(), "p4c: {said}");
    let theirs = std::fs::read_to_string(dir.join("info.txtpb")).unwrap();
    // Line by line: every table, field, action, parameter and counter, with numbers, names, widths, kinds and sizes.
    let ours = lines(info);
    assert_eq!(ours, lines(&theirs));
    ours.iter().filter(|line| line.starts_with("bitwidth: ")).count()
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

/// Frames 50 µs apart.
fn pcap(frames: &[&[u8]]) -> Vec<u8> {
    let mut out = Vec::new();
    out.extend(0xa1b2_c3d4u32.to_le_bytes());
    out.extend([2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    out.extend(65_535u32.to_le_bytes());
    out.extend(1u32.to_le_bytes());
    for (at, frame) in (0u32..).zip(frames) {
        let length = u32::try_from(frame.len()).unwrap();
        for word in [at / 20_000, at % 20_000 * 50, length, length] {
            out.extend(word.to_le_bytes());
        }
        out.extend(*frame);
    }
    out
}

fn frames(pcap: &[u8]) -> Vec<Vec<u8>> {
    let mut out = Vec::new();
    let mut at = 24;
    while let Some(head) = pcap.get(at..at + 16) {
        let length = u32::from_le_bytes([head[8], head[9], head[10], head[11]]) as usize;
        let Some(frame) = pcap.get(at + 16..at + 16 + length) else { break };
        out.push(frame.to_vec());
        at += 16 + length;
    }
    out
}
