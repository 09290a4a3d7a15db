//! How long a fleet takes from text to the compiled form, and how much memory.
//!
//! ```text
//! cargo bench --bench compile                               1,000 tenants × 100 rules
//! cargo bench --bench compile -- TENANTS RULES
//! cargo bench --bench compile -- TENANTS RULES --write DIR  writes the fleet as a project and measures nothing
//! ```

#[path = "support/compiled.rs"]
mod compiled;
#[path = "support/fleet.rs"]
mod fleet;
#[path = "support/measure.rs"]
mod measure;

use fleet::Size;
use measure::{line, median};
use std::path::Path;

const RUNS: usize = 5;

fn main() {
    let args: Vec<String> = std::env::args().skip(1).filter(|arg| arg != "--bench").collect();
    let number = |at: usize, default: u32| match args.get(at) {
        Some(text) => text.parse().unwrap_or_else(|_| panic!("{text} is no number")),
        None => default,
    };
    let size = Size { tenants: number(0, 1_000), rules: number(1, 100) };
    let files = fleet::files(size);
    if let Some(at) = args.iter().position(|arg| arg == "--write") {
        return write(&files, args.get(at + 1).expect("--write takes a folder"));
    }

    let bytes: usize = files.iter().map(|(_, text)| text.len()).sum();
    line(&format!(
        "{} tenants × {} rules: {} files, {:.1} MiB of text",
        size.tenants,
        size.rules,
        files.len(),
        mib(bytes)
    ));
    reset_peak();
    let parse = median(RUNS, || compiled::parse(&files));
    line(&format!(
        "parse                    {:>8.1} ms   peak {:>6.0} MiB   baseline",
        parse * 1e3,
        peak_mib()
    ));
    reset_peak();
    let whole = median(RUNS, || compiled::compile(&files).channels.len());
    line(&format!(
        "parse, resolve, compile  {:>8.1} ms   peak {:>6.0} MiB   {:.2} × parse alone",
        whole * 1e3,
        peak_mib(),
        whole / parse
    ));
}

/// The fleet, parsed on one thread.
fn write(files: &[(String, String)], folder: &str) {
    for (name, text) in files {
        let path = Path::new(folder).join(name);
        std::fs::create_dir_all(path.parent().expect("a file has a folder")).expect("the folder can be made");
        std::fs::write(path, text).expect("the file can be written");
    }
}

#[expect(clippy::cast_precision_loss, reason = "sizes are far below 2^52")]
fn mib(bytes: usize) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}

/// The largest resident size since the last [`reset_peak`] (proc(5), VmHWM).
fn peak_mib() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("proc is mounted");
    let kib =
        status.lines().find_map(|line| line.strip_prefix("VmHWM:")?.trim().strip_suffix(" kB")?.parse().ok());
    mib(kib.unwrap_or(0_usize) << 10)
}

/// Sets the peak to what is resident now (proc(5), clear_refs).
fn reset_peak() {
    std::fs::write("/proc/self/clear_refs", "5").expect("proc is writable");
}
