//! BMv2's `simple_switch` as a process: started, filled, given frames, and asked what it counted.

use super::bench::Trial;
use super::pcap;
use std::collections::BTreeSet;
use std::fs::{File, OpenOptions};
use std::io::BufWriter;
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// What may be asked of a switch that has done nothing for a moment, but has not counted everything, before it is said to have lost
/// frames.
const ASKED: usize = 8;

/// A switch that ends with its test.
struct Switch(Child);

impl Drop for Switch {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Switch {
    /// Whether all its threads sleep, waiting for something. One that is stopped, or that waits for a processor, has something to do.
    fn sleeps(&self) -> bool {
        let threads = std::fs::read_dir(format!("/proc/{}/task", self.0.id())).unwrap();
        threads.flatten().all(|thread| {
            // A thread that has just ended has nothing more to do.
            let stat = std::fs::read_to_string(thread.path().join("stat")).unwrap_or_default();
            // proc_pid_stat(5): the state stands after the name.
            stat.rsplit_once(')').is_none_or(|(_, rest)| rest.trim_start().starts_with('S'))
        })
    }

    /// Waits until it has nothing to do.
    fn settle(&mut self) {
        let mut asleep = 0;
        while asleep < 4 {
            std::thread::sleep(Duration::from_millis(50));
            assert!(self.0.try_wait().unwrap().is_none(), "the switch has ended");
            asleep = if self.sleeps() { asleep + 1 } else { 0 };
        }
    }
}

/// What the switch said: to its entries, and when it was asked for its counters.
pub struct Said {
    pub loaded: String,
    pub counted: String,
}

/// Commands for simple_switch_CLI, and what it answers.
fn command(thrift: &str, input: File) -> String {
    let mut cli = Command::new("simple_switch_CLI");
    let out = cli.args(["--thrift-port", thrift]).stdin(input).output().unwrap();
    String::from_utf8_lossy(&out.stdout).into_owned()
}

/// A port that nobody listens on, another one for each call.
pub fn unused_port() -> u16 {
    static GIVEN: Mutex<BTreeSet<u16>> = Mutex::new(BTreeSet::new());
    let mut given = GIVEN.lock().unwrap_or_else(PoisonError::into_inner);
    loop {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        if given.insert(port) {
            return port;
        }
    }
}

/// The packets of `counter_read`'s answers for a counter.
pub fn packets(counted: &str, counter: &str) -> impl Iterator<Item = (u128, u64)> {
    counted.lines().filter_map(move |line| {
        let (index, rest) = line.split_once(counter)?.1.strip_prefix('[')?.split_once("]= (")?;
        let (_, packets) = rest.strip_suffix(" packets)")?.split_once(" bytes, ")?;
        Some((index.parse().ok()?, packets.parse().ok()?))
    })
}

/// The frames of all output files.
pub fn sent(dir: &Path, ports: &[u16]) -> usize {
    ports.iter().map(|port| came_out(dir, *port).len()).sum()
}

/// What came out of a port.
pub fn came_out(dir: &Path, port: u16) -> Vec<Vec<u8>> {
    pcap::read(&std::fs::read(dir.join(format!("f{port}_out.pcap"))).unwrap_or_default())
}

/// Frames through pcap files. The folder holds `partywall.json`, and commands for simple_switch_CLI: in `load.txt` those that fill the tables, in
/// `ask.txt` those that read the counters.
///
/// The files of what goes in are named pipes: nothing is in them before all entries are in, and the switch has taken
/// everything once they are written. It is through when every frame has come out or was counted in `drops`.
pub fn through_files(dir: &Path, (thrift, ports): (u16, &[u16]), trials: &[Trial], drops: &str) -> Said {
    let thrift = thrift.to_string();
    let mut switch = Command::new("simple_switch");
    switch.current_dir(dir).args(["--use-files", "0", "--thrift-port", &thrift, "--device-id", &thrift]);
    switch.args(["--log-level", "off"]);
    let mut pipes = Vec::new();
    for port in ports {
        switch.args(["-i", &format!("{port}@f{port}")]);
        let path = dir.join(format!("f{port}_in.pcap"));
        assert!(Command::new("mkfifo").arg(&path).status().unwrap().success());
        // Open for reading too, so that opening it waits for nobody.
        let mut pipe = OpenOptions::new().read(true).write(true).open(&path).unwrap();
        pcap::begin(&mut pipe).unwrap();
        pipes.push((*port, path, pipe));
    }
    switch.arg("partywall.json").stdout(Stdio::null()).stderr(Stdio::null());
    let mut switch = Switch(switch.spawn().unwrap());
    let listens = || TcpStream::connect(format!("127.0.0.1:{thrift}")).is_ok();
    while !listens() {
        assert!(switch.0.try_wait().unwrap().is_none(), "the switch does not start");
        std::thread::sleep(Duration::from_millis(50));
    }
    let loaded = command(&thrift, File::open(dir.join("load.txt")).unwrap());
    std::thread::scope(|scope| {
        for (port, path, both) in pipes {
            // For writing alone: a switch that ends is an error here, and the end of the frames is one there.
            let mut pipe = BufWriter::new(OpenOptions::new().write(true).open(path).unwrap());
            drop(both);
            let mine = trials.iter().filter(move |t| t.port == port).map(|t| t.frame.as_slice());
            scope.spawn(move || pcap::frames(&mut pipe, mine).unwrap());
        }
    });
    let mut counted = String::new();
    for _ in 0..ASKED {
        switch.settle();
        counted = command(&thrift, File::open(dir.join("ask.txt")).unwrap());
        let dropped: u64 = packets(&counted, drops).map(|(_, packets)| packets).sum();
        if dropped + sent(dir, ports) as u64 >= trials.len() as u64 {
            break;
        }
    }
    Said { loaded, counted }
}

/// The same through pairs of devices in a network namespace of its own.
pub fn through_devices(dir: &Path, ports: &[u16], trials: &[Trial], drops: &str) -> Said {
    for port in ports {
        let mut file = BufWriter::new(File::create(dir.join(format!("f{port}_in.pcap"))).unwrap());
        pcap::begin(&mut file).unwrap();
        pcap::frames(&mut file, trials.iter().filter(|t| t.port == *port).map(|t| t.frame.as_slice()))
            .unwrap();
    }
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/p4/veth.py");
    let mut run = Command::new("unshare");
    run.args(["--net", "python3", script]).arg(dir).arg(drops).args(ports.iter().map(u16::to_string));
    let out = run.output().unwrap();
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    let said = |name: &str| std::fs::read_to_string(dir.join(name)).unwrap();
    Said { loaded: said("loaded.txt"), counted: said("counted.txt") }
}
