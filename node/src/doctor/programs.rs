//! What the eBPF target needs of a machine, and what of others' programs comes before its own.

use super::{Finding, Severity};
use crate::command;
use crate::ebpf::bring::{Place, before_ours};
use crate::error::NodeError;
use crate::generation::Program;
use std::path::Path;

/// Tools that installing takes; `nft` closes devices by name, and is missed only for that.
pub(super) fn tools() -> Vec<Finding> {
    let mut out = Vec::new();
    for program in ["ip", "tc"] {
        if let Err(error) = command::output(program, &["-V"]) {
            let help = format!("install the package that holds `{program}`");
            out.push(Finding::new(Severity::Error, "tool", error.to_string(), help));
        }
    }
    if command::output("nft", &["--version"]).is_err() {
        out.push(Finding::new(
            Severity::Warning,
            "tool",
            "nft is not installed: a workload's device that comes up is open to this machine until `apply` has attached to it",
            "install nftables, with which such devices are closed by their names",
        ));
    }
    out
}

/// BPF file system, JIT, and whether the kernel takes the program.
///
/// # Errors
/// A tool that is there refuses.
pub(super) fn kernel(place: &Place, program: &Program) -> Result<Vec<Finding>, NodeError> {
    let mut out = Vec::new();
    if !place.is_bpf() {
        out.push(Finding::new(
            Severity::Error,
            "bpf",
            format!("{} is on no BPF file system", place.pins.display()),
            "mount -t bpf bpf /sys/fs/bpf, or name a folder on one in PARTYWALL_BPF",
        ));
    }
    if !Path::new("/sys/kernel/btf/vmlinux").exists() {
        out.push(Finding::new(
            Severity::Warning,
            "bpf",
            "the kernel does not tell its own types (BTF)",
            "boot a kernel with CONFIG_DEBUG_INFO_BTF=y, should the program be refused",
        ));
    }
    let jit = std::fs::read_to_string("/proc/sys/net/core/bpf_jit_enable").unwrap_or_default();
    if jit.trim() == "0" {
        out.push(Finding::new(
            Severity::Warning,
            "bpf",
            "net.core.bpf_jit_enable is 0: programs are interpreted, and each packet costs several times as much",
            "sysctl -w net.core.bpf_jit_enable=1",
        ));
    }
    // Helpers, kinds of maps, limits on locked memory: whatever the kernel lacks, it says here.
    if let Err(error) = crate::ebpf::bring::tried(&program.object) {
        out.push(Finding::new(
            Severity::Error,
            "bpf",
            format!("the kernel does not load the program: {error}"),
            "Linux 5.15 or newer with CONFIG_BPF_SYSCALL, CONFIG_NET_CLS_BPF and CONFIG_NET_SCH_INGRESS; run as root; on a kernel that counts locked memory raise `ulimit -l`",
        ));
    }
    for (device, told, mend) in before_ours(program)? {
        out.push(Finding::new(
            Severity::Error,
            "program",
            format!("{told} at {device} sees packets before partywall's program does"),
            mend,
        ));
    }
    Ok(out)
}
