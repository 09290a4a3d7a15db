//! Probing: one real packet or connection for every test, every `isolate` and every drop reason, watched on every
//! wire of the lab and compared with `eval`.

mod capture;
mod choose;
mod counters;
mod inject;
mod judge;
mod plan;
pub mod report;
mod run;
mod stations;
mod traffic;
mod wire;

pub use report::{Expected, Observed, Outcome, ProbeReport, Row, Summary};

use super::Lab;
use super::error::LabError;
use capture::{Log, Taps};
use choose::Chooser;
use compiler::Compiled;
use inject::Injector;
use run::Range;
use stations::Stations;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// How long probes wait.
#[derive(Debug, Clone, Copy)]
pub struct ProbeOptions {
    /// For what is to arrive, and for its answer.
    pub patience: Duration,
    /// For what is not to arrive.
    pub silence: Duration,
}

impl Default for ProbeOptions {
    fn default() -> Self {
        Self { patience: Duration::from_secs(3), silence: Duration::from_millis(400) }
    }
}

/// Sends the packets and reports what became of them. What the fabric does otherwise than `eval` says is in the
/// report; it is no error.
///
/// # Errors
/// The lab is not there, or the machine refuses a socket, a route or a counter.
pub fn probe(c: &Compiled, lab: &Lab, options: &ProbeOptions) -> Result<ProbeReport, LabError> {
    let t = &lab.topology;
    // Marks of an earlier run that still wander about are not this run's.
    let run = std::process::id() ^ epoch_millis();
    let stations = Stations::new(c, t);
    let mut chooser = Chooser::new(c, &stations, &lab.down);
    let plan = plan::plan(c, &mut chooser);
    let taps = Taps::open(t)?;
    let first = u32::try_from(plan.shots.len()).unwrap_or(u32::MAX - 16);
    let injections = Injector { c, topology: t, chooser: &chooser, taps: &taps, run }.all(first)?;
    let range = Range { c, topology: t, taps: &taps, run, options: *options, log: Log::default() };
    range.prepare(&plan.shots)?;
    let servers = range.servers(&plan.shots)?;
    let (stop_servers, stop_taps) = (AtomicBool::new(false), AtomicBool::new(false));
    let (answers, drops) = std::thread::scope(|scope| {
        let serving = scope.spawn(|| servers.serve(&stop_servers));
        let watching = scope.spawn(|| capture::watch(c, run, &taps, &range.log, &stop_taps));
        let fired = range.fire(&plan.shots, &injections, &chooser);
        stop_servers.store(true, Ordering::Release);
        stop_taps.store(true, Ordering::Release);
        let served = serving.join().unwrap_or(Err(LabError::Worker));
        let watched = watching.join().unwrap_or(Err(LabError::Worker));
        let fired = fired?;
        served.and(watched).map(|()| fired)
    })?;
    range.tidy()?;
    let judge = judge::Judge::new(&range, &chooser, &plan.shots, &answers, &drops);
    let shots = plan.probes.iter().map(|p| judge.planned(p));
    let injected = (first..).zip(&injections).map(|(number, i)| judge.injected(number, i));
    Ok(ProbeReport::new(shots.chain(injected).collect()))
}

fn epoch_millis() -> u32 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    u32::try_from(now.as_millis() & u128::from(u32::MAX)).unwrap_or_default()
}
