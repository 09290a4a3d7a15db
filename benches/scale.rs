//! How long the whole command takes on fleets, from files to report, and how much memory: cold, with what an earlier run has kept, and
//! after a change to one tenant's file. Every run is the command itself as a process of its own.
//!
//! ```text
//! cargo bench --bench scale                      1,000 tenants × 100 rules and 10,000 × 20
//! cargo bench --bench scale -- TENANTS RULES     another fleet
//! ```

#[path = "support/fleet.rs"]
mod fleet;

use fleet::Size;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

const RUNS: usize = 7;
const TODAY: &str = "2026-06-01";

fn main() {
    let args: Vec<u32> = std::env::args().skip(1).filter_map(|arg| arg.parse().ok()).collect();
    let sizes = match args[..] {
        [tenants, rules] => vec![Size { tenants, rules }],
        _ => vec![Size { tenants: 1_000, rules: 100 }, Size { tenants: 10_000, rules: 20 }],
    };
    for size in sizes {
        measure_fleet(size);
    }
}

fn measure_fleet(size: Size) {
    let folder = tempfile::tempdir().expect("a folder can be made");
    let project = folder.path().join("project");
    let cache = folder.path().join("cache");
    let files = fleet::files(size);
    for (name, text) in &files {
        let path = project.join(name);
        std::fs::create_dir_all(path.parent().expect("a file has a folder")).expect("the folder can be made");
        std::fs::write(path, text).expect("the file can be written");
    }
    let bytes: usize = files.iter().map(|(_, text)| text.len()).sum();
    line(&format!(
        "{} tenants × {} rules: {} files, {} KiB of text; medians of {RUNS} runs",
        size.tenants,
        size.rules,
        files.len(),
        bytes >> 10
    ));
    line("run                                    wall       CPU      peak   against cold");
    let cold = show("cold", None, |_| run(&project, &[]));
    show("cold, --certify", Some(cold), |_| run(&project, &["--certify"]));
    let kept = ["--cache", cache.to_str().expect("a path is text")];
    let first = run(&project, &kept);
    line(&format!("{:<32} {:>8.0} ms", "cold, results kept", first.wall.as_secs_f64() * 1e3));
    show("nothing changed", Some(cold), |_| run(&project, &kept));
    let edited = project.join("tenants/t00001.pw");
    let text = std::fs::read_to_string(&edited).expect("tenant 1 has a file");
    show("one tenant's file changed", Some(cold), |n| {
        let port = format!("tcp/{}", 20_000 + n);
        std::fs::write(&edited, text.replacen("tcp/6379", &port, 1)).expect("the file can be written");
        run(&project, &kept)
    });
    for index in 1..=3 {
        let shard = format!("{index}/3");
        show(&format!("shard {shard}"), Some(cold), |_| run(&project, &["--shard", &shard]));
    }
    line("");
}

fn line(text: &str) {
    writeln!(std::io::stdout(), "{text}").expect("standard output can be written");
}

struct Measured {
    wall: Duration,
    cpu: Duration,
    peak_kib: u64,
}

/// Prints the median; answers its wall time.
fn show(what: &str, cold: Option<Duration>, work: impl Fn(usize) -> Measured) -> Duration {
    let mut runs: Vec<Measured> = (0..RUNS).map(work).collect();
    runs.sort_by_key(|run| run.wall);
    let run = &runs[RUNS / 2];
    let ratio = cold.map(|cold| format!("   {:.2} ×", run.wall.as_secs_f64() / cold.as_secs_f64()));
    line(&format!(
        "{what:<32} {:>8.0} ms {:>6.0} ms {:>5} MiB{}",
        run.wall.as_secs_f64() * 1e3,
        run.cpu.as_secs_f64() * 1e3,
        run.peak_kib >> 10,
        ratio.unwrap_or_default()
    ));
    run.wall
}

/// One run of the command; its findings are not looked at, but it has to end well.
fn run(project: &Path, more: &[&str]) -> Measured {
    let start = Instant::now();
    let mut child = Command::new(env!("CARGO_BIN_EXE_partywall"))
        .arg("check")
        .arg(project)
        .args(["--today", TODAY, "--format", "concise"])
        .args(more)
        .stdout(Stdio::null())
        .spawn()
        .expect("the command can be started");
    let (mut peak_kib, mut ticks) = (0, 0);
    let status = loop {
        // What the kernel last knew of the process: a millisecond before its end is close enough.
        if let Some((peak, used)) = usage(child.id()) {
            (peak_kib, ticks) = (peak, used);
        }
        match child.try_wait().expect("the command can be waited for") {
            Some(status) => break status,
            None => std::thread::sleep(Duration::from_millis(1)),
        }
    };
    assert_eq!(status.code(), Some(0), "the fleet is in error");
    Measured { wall: start.elapsed(), cpu: Duration::from_millis(ticks * 10), peak_kib }
}

/// Peak of resident memory (KiB) and CPU time (hundredths of a second) of a process (proc(5): VmHWM, utime, stime).
fn usage(id: u32) -> Option<(u64, u64)> {
    let status = std::fs::read_to_string(format!("/proc/{id}/status")).ok()?;
    let peak = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:")?.trim().strip_suffix(" kB")?.parse().ok())?;
    let stat = std::fs::read_to_string(format!("/proc/{id}/stat")).ok()?;
    let fields: Vec<&str> = stat.rsplit(')').next()?.split_whitespace().collect();
    let ticks = fields.get(11)?.parse::<u64>().ok()? + fields.get(12)?.parse::<u64>().ok()?;
    Some((peak, ticks))
}
