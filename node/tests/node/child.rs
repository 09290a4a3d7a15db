//! A call in a process of its own that ends as if killed: at a step of its own, or at a call of a tool.

use crate::support::{open, sh};
use partywall_node::install;
use partywall_node::state::State;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

/// A folder with these tools, which count their calls in `count` and end everything in their process group at
/// the call whose number is in `fatal`: before they work (`before`), or after. The one whose number is in `late` takes half a second.
pub fn deadly(folder: &Path, tools: &[&str]) {
    for tool in tools {
        let real = sh(&format!("command -v {tool}"));
        let script = format!(
            r#"#!/bin/sh
here={here}
n=$(($(cat $here/count) + 1))
echo $n >$here/count
[ ! -e $here/slow ] || sleep 0.05
[ $n != "$(cat $here/late)" ] || sleep 0.5
if [ $n = "$(cat $here/fatal)" ]; then
    echo "${{0##*/}} $*" >$here/last
    [ -e $here/before ] || {real} "$@"
    kill -9 0
fi
exec {real} "$@"
"#,
            here = folder.display(),
            real = real.trim()
        );
        let path = folder.join(tool);
        std::fs::write(&path, script).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    }
    std::fs::write(folder.join("count"), "0").unwrap();
    for number in ["fatal", "late"] {
        std::fs::write(folder.join(number), "0").unwrap();
    }
}

/// What a child is to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Call {
    Apply,
    Rollback,
}

/// What the child does, and at a step of its own ends itself as a `kill -9` would.
pub fn applies() {
    let (Ok(dir), Ok(state)) = (std::env::var("FAULT_DIR"), std::env::var("FAULT_STATE")) else { return };
    let fatal: usize = std::env::var("FAULT_STEP").unwrap().parse().unwrap();
    let mut step = 0;
    let mut watch = |_| {
        step += 1;
        if step == fatal {
            nix::sys::signal::kill(nix::unistd::Pid::this(), nix::sys::signal::Signal::SIGKILL).unwrap();
        }
    };
    let state = State::new(state);
    let done = match std::env::var("FAULT_CALL").unwrap().as_str() {
        "Rollback" => install::rollback(&state, &mut watch),
        _ => install::apply(&state, Some(&open(dir.as_ref(), "n1")), &mut watch),
    };
    println!("{done:?}");
    done.unwrap();
}

/// A child to be.
pub struct Child<'a> {
    pub dir: &'a Path,
    pub state: &'a Path,
    pub tools: Option<&'a Path>,
    /// 0: none.
    pub step: usize,
    /// Where programs and maps are kept, if not at the usual place.
    pub pins: Option<&'a Path>,
    pub call: Call,
}

impl Child<'_> {
    pub fn command(&self) -> Command {
        let path = std::env::var("PATH").unwrap();
        let path = self.tools.map_or(path.clone(), |t| format!("{}:{path}", t.display()));
        let mut child = Command::new(std::env::current_exe().unwrap());
        child
            .args(["--exact", "child_that_applies", "--nocapture"])
            .env("FAULT_DIR", self.dir)
            .env("FAULT_STATE", self.state)
            .env("FAULT_CALL", format!("{:?}", self.call))
            .env("FAULT_STEP", self.step.to_string())
            .env("PATH", path)
            .process_group(0);
        if let Some(pins) = self.pins {
            child.env("PARTYWALL_BPF", pins);
        }
        child
    }

    /// Whether it came to its end.
    pub fn run(&self) -> bool {
        let output = self.command().output().unwrap();
        let said = [output.stdout, output.stderr].concat();
        let killed = std::os::unix::process::ExitStatusExt::signal(&output.status) == Some(9);
        assert!(output.status.success() || killed, "{}", String::from_utf8_lossy(&said));
        output.status.success()
    }
}
