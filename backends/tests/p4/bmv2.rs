//! The emitted files in p4c and BMv2's simple_switch, packets by pcap files.

use super::Trial;
use partywall_backends::p4::Model;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// Seconds that the switch waits for its entries before it reads packets.
const WAIT: u64 = 15;

/// The first tool that is not there.
pub fn missing() -> Option<&'static str> {
    let paths: Vec<PathBuf> = std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default()).collect();
    ["p4c-bm2-ss", "simple_switch", "simple_switch_CLI"]
        .into_iter()
        .find(|tool| !paths.iter().any(|dir| dir.join(tool).is_file()))
}

/// Runs the frames and compares what comes out of each port.
pub fn compare(files: &BTreeMap<String, String>, model: &Model, trials: &[Trial]) {
    let dir = std::env::temp_dir().join(format!("partywall-p4-{}-{}", std::process::id(), model.node));
    std::fs::create_dir_all(&dir).unwrap();
    std::fs::write(dir.join("partywall.p4"), &files["p4/partywall.p4"]).unwrap();
    compile(&dir, &files["p4/partywall.p4info.txtpb"]);
    let ports: Vec<u16> = model.ports.values().copied().collect();
    for port in &ports {
        let mine: Vec<&[u8]> =
            trials.iter().filter(|(p, ..)| p == port).map(|(_, frame, _)| frame.as_slice()).collect();
        std::fs::write(dir.join(format!("f{port}_in.pcap")), pcap(&mine)).unwrap();
    }
    let thrift = (20_000 + std::process::id() % 20_000).to_string();
    let mut switch = Command::new("simple_switch");
    switch.current_dir(&dir).args(["--use-files", &WAIT.to_string(), "--thrift-port", &thrift]);
    for port in &ports {
        switch.args(["-i", &format!("{port}@f{port}")]);
    }
    let log = || std::fs::File::create(dir.join("switch.log")).unwrap();
    let mut switch = switch.arg("partywall.json").stdout(log()).stderr(Stdio::null()).spawn().unwrap();
    std::thread::sleep(Duration::from_secs(2));
    let entries = std::fs::write(dir.join("bmv2.txt"), &files["p4/bmv2.txt"])
        .and_then(|()| std::fs::File::open(dir.join("bmv2.txt")))
        .unwrap();
    let loaded =
        Command::new("simple_switch_CLI").args(["--thrift-port", &thrift]).stdin(entries).output().unwrap();
    let said = String::from_utf8_lossy(&loaded.stdout).into_owned();
    let added = said.matches("Entry has been added").count();
    let mut want: BTreeMap<u16, Vec<Vec<u8>>> = BTreeMap::new();
    for (port, bytes) in trials.iter().filter_map(|(_, _, outcome)| outcome.sent.clone()) {
        want.entry(port).or_default().push(bytes);
    }
    let count: usize = want.values().map(Vec::len).sum();
    let read = || -> BTreeMap<u16, Vec<Vec<u8>>> {
        let frames =
            |port: &u16| frames(&std::fs::read(dir.join(format!("f{port}_out.pcap"))).unwrap_or_default());
        ports.iter().map(|port| (*port, frames(port))).filter(|(_, frames)| !frames.is_empty()).collect()
    };
    let since = Instant::now();
    while read().values().map(Vec::len).sum::<usize>() < count
        && since.elapsed() < Duration::from_secs(WAIT + 60)
    {
        std::thread::sleep(Duration::from_millis(500));
    }
    // What should not come may come late.
    std::thread::sleep(Duration::from_secs(3));
    let mut got = read();
    switch.kill().unwrap();
    switch.wait().unwrap();
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
        "{}: BMv2 took {added} entries and sent the same {count} of {} frames",
        model.node,
        trials.len()
    );
    std::fs::remove_dir_all(&dir).unwrap();
}

/// Compiles without a word, and gets the P4Info that is emitted.
fn compile(dir: &Path, info: &str) {
    let out = Command::new("p4c-bm2-ss")
        .current_dir(dir)
        .args(["--std", "p4-16", "--p4runtime-files", "info.txtpb", "-o", "partywall.json", "partywall.p4"])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&out.stderr).into_owned() + &String::from_utf8_lossy(&out.stdout);
    assert!(out.status.success() && said.trim().is_empty(), "p4c: {said}");
    let theirs = std::fs::read_to_string(dir.join("info.txtpb")).unwrap();
    assert_eq!(lines(info), lines(&theirs));
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
