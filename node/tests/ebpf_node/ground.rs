//! A node's state and place on a BPF file system, both gone when the value is; and the projects of these tests.

use crate::lab_support::{self, Fleet};
use crate::pair::{Workload, project};
use crate::support;
use partywall_node::ebpf::Loaded;
use partywall_node::ebpf::bring::Place;
use partywall_node::generation::Generation;
use partywall_node::state::State;
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// What the two policies differ in.
pub const SOMETIMES: u16 = 3000;

/// Whether this machine can do it; if not, says so loudly, and fails where nothing should be missing.
pub fn ready(test: &str) -> bool {
    if !support::able(test) {
        return false;
    }
    let why = match Loaded::new() {
        Ok(_) if Place::at(root("able")).is_bpf() => return true,
        Ok(_) => "there is no BPF file system".to_owned(),
        Err(why) => why.to_string(),
    };
    println!("SKIPPED: {test}: {why}");
    assert!(std::env::var_os("PARTYWALL_LAB_REQUIRED").is_none(), "{test}: {why}");
    false
}

fn root(name: &str) -> PathBuf {
    PathBuf::from(format!("/sys/fs/bpf/partywall-test-{}-{name}", std::process::id()))
}

pub struct Ground {
    pub state: State,
    /// Removed with this.
    _kept: tempfile::TempDir,
    pins: PathBuf,
}

impl Ground {
    pub fn new(name: &str) -> Self {
        Self::hooked(name, false)
    }

    pub fn hooked(name: &str, clsact: bool) -> Self {
        let (kept, pins) = (tempfile::tempdir().unwrap(), root(name));
        let place = Place { pins: pins.clone(), clsact };
        Self { state: State::new(kept.path()).with_place(place), _kept: kept, pins }
    }

    pub fn pins(&self) -> &Path {
        &self.pins
    }

    /// Everything in the kernel that an installation may touch, as one text.
    pub fn kernel(&self) -> String {
        let pins = self.pins.display();
        support::sh(&format!(
            "find {pins} | sort; for m in {pins}/maps/cell {pins}/maps/[a-bd-qs-z]*; do case $m in */connections|*/aliases|*/opened|*/scratch|*/swept|*/fragments|*/told|*/error*|*/log_limits|*/buffer) ;; *) echo $m; bpftool map dump pinned $m;; esac; done; ip -d address show | grep -v valid_lft; tc qdisc show; nft -s list ruleset"
        ))
    }

    /// Lets go of what is pinned and attached.
    pub fn clear(&self) {
        let _ = std::fs::remove_dir_all(&self.pins);
        for device in ["tap-a", "tap-b", "eth0"] {
            let _ = std::process::Command::new("tc").args(["qdisc", "del", "dev", device, "clsact"]).output();
        }
        let _ = std::process::Command::new("ip").args(["link", "delete", "dev", "pwvx"]).output();
    }
}

impl Drop for Ground {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.pins);
    }
}

/// Builds node n1 for the targets of this fleet.
pub fn build(directory: &Path, name: &str, text: &str, fleet: Fleet) -> Generation {
    let folder = directory.join(name);
    let project = lab_support::project(&[("pair.pw".to_owned(), text.to_owned())]);
    fleet.build(&project, &[], &folder);
    support::open(&folder, "n1")
}

pub fn with_sometimes() -> String {
    project(&format!("allow front -> front : udp/{SOMETIMES} | tcp/{SOMETIMES}"), "")
}

/// Another policy and another segment.
pub fn without() -> String {
    let more = "extend tenant shop { group quiet = back & 10.1.1.7 }\npolicy more for shop in tenant { deny quiet -> any : tcp/22 }";
    project("", more)
        .replace("vtep 192.0.2.12", "vtep 192.0.2.13")
        .replace(
            "segment front vni 10010 { 10.1.0.0/24 }",
            "segment front vni 10010 { 10.1.0.0/24 }\n  segment back vni 10011 { 10.1.1.0/24 }",
        )
        .replace("endpoint c in shop.front { at 10.1.0.7", "endpoint c in shop.back { at 10.1.1.7")
}

/// Whether a connection comes about.
pub fn tcp(from: &Workload, to: &Workload, port: u16) -> bool {
    let shown = to.enter(|| support::sh("ip -4 -o address show dev eth0"));
    let address: Ipv4Addr = shown.split([' ', '/']).find_map(|word| word.parse().ok()).unwrap();
    let listener = to.enter(|| TcpListener::bind((address, port)).unwrap());
    let made = from
        .enter(|| TcpStream::connect_timeout(&(address, port).into(), Duration::from_millis(700)).is_ok());
    drop(listener);
    made
}

/// A program of somebody else's for tc: the one of the tests of the data plane.
pub fn other_program() -> libbpf_rs::ProgramHandle {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../backends/ebpf/test.bpf.o");
    let object = libbpf_rs::ObjectBuilder::default().open_file(path).unwrap().load().unwrap();
    let program = object.progs().next().unwrap();
    let id = libbpf_rs::Program::id_from_fd(std::os::fd::AsFd::as_fd(&program)).unwrap();
    libbpf_rs::ProgramHandle::from_prog_id(id).unwrap()
}
