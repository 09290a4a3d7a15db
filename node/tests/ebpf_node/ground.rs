//! A node's state and place on a BPF file system, both gone when the value is; and the projects of these tests.

use crate::lab_support::{self, Fleet};
use crate::pair::{Workload, project, workloads};
use crate::support;
use partywall_node::ebpf::bring::Place;
use partywall_node::ebpf::{Loaded, base};
use partywall_node::generation::Generation;
use partywall_node::install::{self, Installed};
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

/// A node with two workloads, and generations for it in folders that bear their numbers. Nothing is installed yet.
pub struct Scene {
    pub ground: Ground,
    pub a: Workload,
    pub b: Workload,
    pub of: Vec<Generation>,
    built: tempfile::TempDir,
}

/// Runs `f` on a node, if the machine can do it, where nothing else is.
pub fn on_a_node(test: &str, texts: &[(Fleet, String)], f: impl FnOnce(Scene) + Send) {
    if !ready(test) {
        return;
    }
    let built = tempfile::tempdir().unwrap();
    let numbered = texts.iter().enumerate();
    let of = numbered.map(|(n, (fleet, text))| build(built.path(), &n.to_string(), text, *fleet)).collect();
    support::alone(|| {
        let (a, b) = workloads();
        let name: String = test.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect();
        f(Scene { ground: Ground::new(&name), a, b, of, built });
    });
}

/// One with each of the two policies, for the eBPF target.
pub fn both() -> [(Fleet, String); 2] {
    [(Fleet::Ebpf, with_sometimes()), (Fleet::Ebpf, without())]
}

impl Scene {
    pub fn state(&self) -> &State {
        &self.ground.state
    }

    /// The files of a generation.
    pub fn folder(&self, number: usize) -> PathBuf {
        self.built.path().join(number.to_string())
    }

    /// Installs a generation, and finds everything as it should be.
    #[track_caller]
    pub fn apply(&self, number: usize) -> Installed {
        let done = install::apply(self.state(), Some(&self.of[number]), &mut |_| {}).unwrap();
        assert!(done.left.is_empty(), "{done:#?}");
        self.clean();
        done
    }

    #[track_caller]
    pub fn clean(&self) {
        let report = install::audit(self.state()).unwrap();
        assert!(report.clean, "{}", report.text());
    }

    /// Which generation runs.
    pub fn running(&self) -> usize {
        let now = base::running(self.ground.pins()).unwrap().and_then(|r| r.generation);
        let which = self.of.iter().position(|g| Some(&g.digest) == now.as_ref());
        which.unwrap_or_else(|| panic!("none of them runs: {now:?}"))
    }

    /// Whether a connection from `a` to `b` comes about.
    pub fn tcp(&self, port: u16) -> bool {
        tcp(&self.a, &self.b, port)
    }
}

/// The namespace at the other end of the underlay, in place of what [`workloads`] put there: it has these VTEPs.
pub fn underlay(vteps: &[Ipv4Addr]) -> Workload {
    const MAC: &str = "02:00:00:00:02:12";
    support::sh("ip link delete dev eth0");
    let far = Workload::new("eth0", MAC, Ipv4Addr::new(10, 1, 0, 7));
    far.enter(|| support::sh("ip address flush dev eth0"));
    support::sh("ip address add 192.0.2.11/24 dev eth0");
    for vtep in vteps {
        far.enter(|| support::sh(&format!("ip address add {vtep}/24 dev eth0")));
        support::sh(&format!("ip neighbour replace {vtep} lladdr {MAC} dev eth0 nud permanent"));
    }
    far
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
