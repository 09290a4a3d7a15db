//! Calls that end as if killed, at every step that they take, under traffic that is judged.

use crate::child::{Call, Child, deadly};
use crate::pair::Workload;
use crate::traffic::{Tally, flooded};
use partywall_node::generation::Generation;
use partywall_node::install;
use partywall_node::state::State;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// What the tool was asked that was killed.
fn last_call(tools: &Path) -> String {
    let when = if tools.join("before").exists() { "before" } else { "after" };
    format!("{when} {}", std::fs::read_to_string(tools.join("last")).unwrap_or_default().trim())
}

/// Every how manieth call of a tool is tried: all of them take long, and `PARTYWALL_FAULTS=all` has them tried.
pub fn stride(usual: usize) -> usize {
    if std::env::var("PARTYWALL_FAULTS").is_ok_and(|v| v == "all") { 1 } else { usual }
}

/// A node on which the first of two generations runs.
pub struct Kills<'a> {
    pub state: &'a State,
    pub of: [&'a Generation; 2],
    /// The files of the second.
    pub dir: PathBuf,
    /// Where programs and maps are kept, if not at the usual place.
    pub pins: Option<PathBuf>,
    /// Which of the two the kernel has: asked for past what is under test.
    pub running: &'a dyn Fn() -> usize,
    /// Tools whose calls are steps.
    pub tools: &'a [&'a str],
    pub stride: usize,
}

impl Kills<'_> {
    fn apply(&self, which: usize) {
        let done = install::apply(self.state, Some(self.of[which]), &mut |_| {}).unwrap();
        assert!(!done.stuck() && done.left.is_empty(), "{done:#?}");
    }

    /// Kills a call; the next one finishes, and all is as it should be. Whether the call had come to its end.
    fn one(&self, call: Call, tools: Option<&Path>, step: usize) -> bool {
        let pins = self.pins.as_deref();
        let ended = Child { dir: &self.dir, state: self.state.root(), tools, step, pins, call }.run();
        // Whichever it is, it is whole.
        let which = (self.running)();
        let wanted = match call {
            Call::Apply => Some(self.of[1]),
            Call::Rollback => None,
        };
        let next = install::apply(self.state, wanted, &mut |_| {}).unwrap();
        assert!(!next.stuck() && next.left.is_empty(), "{next:#?}");
        let record = self.state.read().unwrap();
        let current = record.current.unwrap().id;
        assert!(record.pending.is_none() && current == self.of[(self.running)()].id);
        match call {
            Call::Apply => assert_eq!(current, self.of[1].id),
            // One that was killed before it had written down what it was about has never been.
            Call::Rollback => assert!(!ended && which == 1 || current == self.of[0].id, "{which}"),
        }
        let report = install::audit(self.state).unwrap();
        assert!(report.clean, "killed with {which} running: {}", report.text());
        // As before: for a rollback the first has to be the one before.
        match call {
            Call::Apply => self.apply(0),
            Call::Rollback => self.apply(1),
        }
        ended
    }

    /// Kills a call at each of its own steps, and at each call of a tool: before the tool works, and after. How many times.
    fn everywhere(&self, call: Call, tally: &Tally) -> usize {
        let mut tried = 0;
        let mut kill = |folder: Option<&Path>, step: usize| {
            tried += 1;
            let before = tally.under_way();
            let ended = self.one(call, folder, step);
            let lost = tally.under_way().saturating_sub(before);
            if lost > 20 {
                println!(
                    "{lost} packets under way are missing after kill {tried}, at {}",
                    folder.map_or(step.to_string(), last_call)
                );
            }
            ended
        };
        if call == Call::Rollback {
            self.apply(1);
        }
        let mut step = 1;
        while !kill(None, step) {
            step += 1;
        }
        assert!(step > 6, "{step}");
        let folder = tempfile::tempdir().unwrap();
        deadly(folder.path(), self.tools);
        let set = |name: &str, value: &str| std::fs::write(folder.path().join(name), value).unwrap();
        for before in [true, false] {
            match before {
                true => set("before", ""),
                false => std::fs::remove_file(folder.path().join("before")).unwrap(),
            }
            let mut number = 1;
            loop {
                set("count", "0");
                set("fatal", &number.to_string());
                if kill(Some(folder.path()), 0) {
                    break;
                }
                number += self.stride;
            }
            assert!(number > 8, "only {number} calls of tools");
        }
        if call == Call::Rollback {
            self.apply(0);
        }
        tried
    }

    /// All of that under packets, of which none is lost or delivered that should not be.
    pub fn under_traffic(&self, a: &Workload, b: &Workload, call: Call) {
        let tally = Tally::default();
        let tried = flooded(a, b, Duration::from_millis(1), &tally, || self.everywhere(call, &tally));
        // A call killed after its flip has the other generation run, under which these pass as well.
        tally.judge(&format!("{tried} kills of {call:?}"));
    }
}
