//! A run of a program: its time, its largest resident size, and what it says.

use std::io::Read as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

pub struct Ran {
    pub seconds: f64,
    pub peak_mib: f64,
    pub stdout: String,
    pub stderr: String,
}

/// Runs a command to its end.
pub fn run(command: &mut Command) -> Ran {
    let start = Instant::now();
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|e| panic!("{command:?}: {e}"));
    let (mut out, mut err) = (child.stdout.take().expect("a pipe"), child.stderr.take().expect("a pipe"));
    let status = Path::new("/proc").join(child.id().to_string()).join("status");
    std::thread::scope(|scope| {
        let peak = scope.spawn(move || {
            // The high-water mark only grows: the last one read is the process's own, but for its last millisecond.
            let mut peak = 0.0_f64;
            while let Some(now) = high_water(&status) {
                peak = peak.max(now);
                std::thread::sleep(Duration::from_millis(1));
            }
            peak
        });
        let complaints = scope.spawn(move || {
            let mut text = String::new();
            err.read_to_string(&mut text).map(|_| text)
        });
        let mut stdout = String::new();
        out.read_to_string(&mut stdout).expect("output is UTF-8");
        let code = child.wait().expect("it was started").code();
        let seconds = start.elapsed().as_secs_f64();
        let stderr = complaints.join().expect("no panic").expect("messages are UTF-8");
        assert!(matches!(code, Some(0 | 1)), "{command:?}: {code:?} {stderr}");
        Ran { seconds, peak_mib: peak.join().expect("no panic"), stdout, stderr }
    })
}

/// `None` once the process has ended (proc(5), VmHWM).
fn high_water(status: &Path) -> Option<f64> {
    let text = std::fs::read_to_string(status).ok()?;
    let kib: f64 =
        text.lines().find_map(|l| l.strip_prefix("VmHWM:")?.trim().strip_suffix(" kB")?.parse().ok())?;
    Some(kib / 1024.0)
}
