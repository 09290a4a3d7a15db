//! A node in a network namespace without a name, in which the calling thread lives.

use nix::sched::{CloneFlags, unshare};
use partywall_node::generation::Generation;
use std::path::Path;
use std::process::{Command, Stdio};

/// Whether this machine lets tests make network namespaces and has the tools; if not, says so loudly, and fails where
/// `PARTYWALL_LAB_REQUIRED` says that nothing should be missing.
pub fn able(test: &str) -> bool {
    let tried = std::thread::spawn(|| {
        unshare(CloneFlags::CLONE_NEWNET).map_err(|e| e.to_string())?;
        for command in ["nft add table inet x", "ip link add name a type veth peer name b", "bridge fdb show"]
        {
            attempt(command)?;
        }
        Ok(())
    });
    let Err(missing) = tried.join().unwrap() as Result<(), String> else { return true };
    println!("SKIPPED: {test}: {missing}");
    assert!(std::env::var_os("PARTYWALL_LAB_REQUIRED").is_none(), "{test}: {missing}");
    false
}

/// Runs `f` in a namespace of its own.
pub fn alone<T: Send>(f: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| {
        let inside = scope.spawn(|| {
            unshare(CloneFlags::CLONE_NEWNET).unwrap();
            // Addresses are usable at once, so that nothing changes by itself later.
            for scope in ["all", "default"] {
                std::fs::write(format!("/proc/sys/net/ipv6/conf/{scope}/accept_dad"), "0").unwrap();
            }
            f()
        });
        inside.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

fn attempt(line: &str) -> Result<String, String> {
    let output = Command::new("sh").args(["-c", line]).stdin(Stdio::null()).output();
    let output = output.map_err(|e| e.to_string())?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    Err(format!("{line}: {}", String::from_utf8_lossy(&output.stderr).trim()))
}

/// Runs a line of shell; what it prints.
#[track_caller]
pub fn sh(line: &str) -> String {
    attempt(line).unwrap_or_else(|e| panic!("{e}"))
}

pub fn open(dir: &Path, node: &str) -> Generation {
    Generation::open(dir, Some(node)).unwrap()
}
