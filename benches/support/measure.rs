//! Time of a piece of work, and lines on standard output.

use std::hint::black_box;
use std::io::Write;
use std::time::Instant;

/// The median of the seconds that `work` takes, over some runs.
pub fn median<T>(runs: usize, work: impl Fn() -> T) -> f64 {
    let mut seconds: Vec<f64> = (0..runs)
        .map(|_| {
            let start = Instant::now();
            black_box(work());
            start.elapsed().as_secs_f64()
        })
        .collect();
    seconds.sort_by(f64::total_cmp);
    seconds.get(runs / 2).copied().unwrap_or_default()
}

pub fn line(text: &str) {
    writeln!(std::io::stdout(), "{text}").expect("standard output can be written");
}
