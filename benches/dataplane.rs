//! What a packet costs on its way from a workload through its node, VXLAN and another node to a workload, with what is emitted
//! for a target and without any, in one run.
//!
//! ```text
//! cargo bench --bench dataplane                          nft: 1,000, 10,000 and 100,000 rules
//! cargo bench --bench dataplane -- rules 1000 5000
//! cargo bench --bench dataplane -- tenants 10 100 1000   nft: tenants on the two nodes
//! cargo bench --bench dataplane -- ebpf                  eBPF: 1,000, 10,000 and 100,000 rules, and how long they take to load
//! ```
//!
//! Needs root, nft, ip, bridge, for eBPF tc, and a kernel with VXLAN and network namespaces. A 64-byte frame with UDP is sent in a loop by one
//! pinned core, which also does everything that becomes of it until it has arrived: wall time of that core is the cost.
//! `many` are 4,096 connections in turn. Every connection is known on both nodes, and answered, before it is measured. The set-ups
//! take turns, and medians of the turns are told; every frame has to arrive.

#[path = "support/flood.rs"]
mod flood;
#[path = "support/wires.rs"]
mod wires;

use backends::{Request, Target};
use compiler::SourceFile;
use flood::frames;
use lang::ast::Date;
use lang::source::Sources;
use node::ebpf::bring::{self, Place};
use node::generation::Generation;
use node::install;
use node::state::State;
use std::fmt::Write as _;
use std::io::Write as _;
use std::path::Path;
use std::process::Command;
use std::time::Instant;
use wires::{VTEPS, WORKLOADS, Wires, mac, nft, router, run};

const TODAY: Date = Date { year: 2026, month: 6, day: 1 };
const TURNS: usize = 7;
/// Frames of one turn.
const FRAMES: usize = 100_000;
const MANY: u16 = 4_096;
/// Endpoints of a tenant on each node.
const ENDPOINTS: usize = 8;

fn main() {
    let mut args = std::env::args().skip(1).filter(|arg| arg != "--bench").peekable();
    let what = args.next_if(|arg| arg.parse::<usize>().is_err());
    let sizes: Vec<usize> = args.map(|arg| arg.parse().expect("a number")).collect();
    if let Some(missing) = missing(what.as_deref() == Some("ebpf")) {
        line(&format!("SKIPPED: {missing}"));
        return;
    }
    let or = |default: &[usize]| if sizes.is_empty() { default.to_vec() } else { sizes.clone() };
    match what.as_deref() {
        Some("tenants") => by_tenants(&or(&[1, 10, 100, 300, 1_000])),
        Some("ebpf") => ebpf(&or(&[1_000, 10_000, 100_000])),
        _ => by_rules(&or(&[1_000, 10_000, 100_000])),
    }
}

fn line(text: &str) {
    writeln!(std::io::stdout(), "{text}").expect("standard output can be written");
}

fn missing(ebpf: bool) -> Option<String> {
    if !nix::unistd::Uid::effective().is_root() {
        return Some("it needs root".into());
    }
    ["nft", "ip", "bridge"]
        .iter()
        .chain(if ebpf { &["tc"][..] } else { &[] })
        .find(|tool| Command::new(tool).arg("-V").output().is_err())
        .map(|tool| format!("there is no `{tool}`"))
}

/// A set-up and what its frames are.
struct Case {
    name: String,
    wires: Wires,
    one: Vec<Vec<u8>>,
    many: Vec<Vec<u8>>,
    /// Nanoseconds for each frame: one connection, many.
    cost: [Vec<f64>; 2],
}

impl Case {
    fn new(name: &str, wires: Wires, ports: u16) -> Self {
        let [from, to] = WORKLOADS;
        let through = |vtep| flood::Side { mac: router(vtep), ..to };
        let back = |vtep| flood::Side { mac: router(vtep), ..from };
        let services: Vec<(u16, u16)> = (0..MANY).map(|n| (20_000 + n / ports, 10_000 + n % ports)).collect();
        let many = frames(from, through(VTEPS[0]), &services);
        let mirrored: Vec<(u16, u16)> = services.iter().map(|(x, y)| (*y, *x)).collect();
        let answers = frames(to, back(VTEPS[1]), &mirrored);
        let case = Self {
            name: name.to_owned(),
            wires,
            one: vec![many[0].clone()],
            many,
            cost: [Vec::new(), Vec::new()],
        };
        let [w0, w1] = case.wires.workloads();
        case.sent(&case.many, case.many.len());
        let before = flood::received(&w0);
        flood::flood(&w1, &answers, answers.len());
        let back = flood::received(&w0) - before;
        assert!(back >= answers.len() as u64, "{name}: {back} of {} answers have come", answers.len());
        case
    }

    /// Nanoseconds for each of `count` frames, all of which arrive.
    fn sent(&self, frames: &[Vec<u8>], count: usize) -> f64 {
        let [w0, w1] = self.wires.workloads();
        let before = flood::received(&w1);
        let cost = flood::flood(&w0, frames, count);
        let arrived = flood::received(&w1) - before;
        assert!(arrived >= count as u64, "{}: {arrived} of {count} frames have arrived", self.name);
        cost
    }

    fn turn(&mut self) {
        let count = FRAMES.min(3_000_000_000 / self.cost[0].first().map_or(1_000_000, |ns| *ns as usize + 1));
        let costs = [self.sent(&self.one, count), self.sent(&self.many, count)];
        for (all, cost) in self.cost.iter_mut().zip(costs) {
            all.push(cost);
        }
    }

    fn median(&self, which: usize) -> f64 {
        let mut sorted = self.cost[which].clone();
        sorted.sort_by(f64::total_cmp);
        sorted[sorted.len() / 2]
    }
}

/// Measures in turns; the first case is what the others are compared with.
fn measure(mut cases: Vec<Case>) -> Vec<Case> {
    for _ in 0..TURNS {
        cases.iter_mut().for_each(Case::turn);
    }
    line(&format!("{:<32} {:>12} {:>7} {:>12} {:>7}", "", "one flow", "", "4,096 flows", ""));
    for case in &cases {
        let [one, many] = [case.median(0), case.median(1)];
        line(&format!(
            "{:<32} {one:>9.0} ns {:>7.3} {many:>9.0} ns {:>7.3}",
            case.name,
            cases[0].median(0) / one,
            cases[0].median(1) / many
        ));
    }
    cases
}

fn plain() -> Case {
    let wires = Wires::up();
    wires.plain();
    Case::new("plain VXLAN, no policy", wires, 64)
}

/// The same forwarding with conntrack and nothing decided.
fn tracked() -> Case {
    let wires = Wires::up();
    wires.plain();
    for node in wires.nodes() {
        nft(
            &node,
            &format!(
                "{UNTRACKED} chain lines {{\n type filter hook prerouting priority mangle\n ct state invalid drop\n }}\n}}\n"
            ),
        );
    }
    Case::new("conntrack, no policy", wires, 64)
}

/// The encapsulated packets are not tracked.
const UNTRACKED: &str = "table inet bench {
 chain raw {
  type filter hook prerouting priority raw
  udp dport 4789 notrack
 }
 chain raw_out {
  type filter hook output priority raw
  udp dport 4789 notrack
 }
";

/// As most generators write it: a rule a line, in one chain that every packet passes on both nodes. A line names the workload's
/// device, since other tenants have the same addresses. The lines of the two workloads that exist are the last ones.
fn chain(rules: usize) -> Case {
    let wires = Wires::up();
    wires.plain();
    for (node, way) in wires.nodes().iter().zip(["iifname", "oifname"]) {
        let mut text = format!(
            "{UNTRACKED} chain lines {{\n type filter hook forward priority filter; policy drop;\n ct direction reply accept\n"
        );
        let (ours, others): (Vec<Rule>, Vec<Rule>) =
            (0..rules).map(rule).partition(|(from, to, ..)| (*from, *to) == (0, 0));
        for rule in others.iter().chain(&ours) {
            let _ = writeln!(text, " {way} \"tap0\" {}", as_nft(rule));
        }
        text.push_str(" }\n}\n");
        nft(node, &text);
    }
    Case::new(&format!("a rule a line, {rules}"), wires, many_ports(rules))
}

/// Numbers of the two endpoints, what is done, with which service.
type Rule = (usize, usize, &'static str, String);

/// The n-th rule: between two of the endpoints; most for one port, one in ten for a range, one in ten refuses.
fn rule(n: usize) -> Rule {
    let (from, to) = (n % ENDPOINTS, n / ENDPOINTS % ENDPOINTS);
    let port = 10_000 + n / (ENDPOINTS * ENDPOINTS);
    match n % 10 {
        _ if (from, to) == (0, 0) => (from, to, "allow", format!("udp/{port}")),
        3 => (from, to, "deny", format!("udp/{port}")),
        7 => (from, to, "allow", format!("tcp/{port}..{}", port + 50)),
        _ => (from, to, "allow", format!("udp/{port}")),
    }
}

/// Ports that the two workloads may speak on.
fn many_ports(rules: usize) -> u16 {
    u16::try_from(rules.div_ceil(ENDPOINTS * ENDPOINTS)).unwrap_or(u16::MAX).min(MANY)
}

fn as_nft((from, to, what, service): &Rule) -> String {
    let (protocol, ports) = service.split_once('/').expect("a service");
    format!(
        "ip saddr 10.1.0.{} ip daddr 10.1.1.{} {protocol} dport {} counter {}",
        10 + from,
        10 + to,
        ports.replace("..", "-"),
        if *what == "allow" { "accept" } else { "drop" }
    )
}

/// A project of some tenants with equal addresses, all on both nodes; the first one has the rules.
fn project(tenants: usize, rules: usize) -> String {
    let mut out = format!(
        "fabric bench {{\n  encap vxlan port 4789\n  underlay mtu 1500 family ipv4\n  precedence tenant\n  delegate tenant\n  unknown-vni drop\n}}\n\
         node c0 {{ vtep {} dev eth0 }}\nnode c1 {{ vtep {} dev eth0 }}\n",
        VTEPS[0], VTEPS[1]
    );
    for t in 0..tenants {
        let (front, back) = (1_000 + 2 * t, 1_001 + 2 * t);
        let _ = writeln!(
            out,
            "tenant t{t} id {} {{\n  segment front vni {front} {{ 10.1.0.0/24 }}\n  segment back vni {back} {{ 10.1.1.0/24 }}\n}}",
            t + 1
        );
        for e in 0..if t == 0 { ENDPOINTS } else { 1 } {
            for (side, segment) in ["front", "back"].into_iter().enumerate() {
                let dev = if (t, e) == (0, 0) { "tap0".to_owned() } else { format!("tap{t}-{e}") };
                let hardware = if (t, e) == (0, 0) {
                    WORKLOADS[side].mac
                } else {
                    let [high, low] = u16::try_from(t).expect("at most 65,536 tenants").to_be_bytes();
                    [2, 1, high, low, u8::try_from(side).expect("one of two"), u8::try_from(e).expect("few")]
                };
                let _ = writeln!(
                    out,
                    "endpoint {segment}{e} in t{t}.{segment} {{ at 10.1.{side}.{} mac {} on c{side} dev \"{dev}\" }}",
                    10 + e,
                    mac(hardware)
                );
            }
        }
        let _ = writeln!(out, "policy p{t} for t{t} in tenant {{");
        for n in 0..if t == 0 { rules } else { 1 } {
            let (from, to, what, service) =
                if t == 0 { rule(n) } else { (0, 0, "allow", "udp/10000".into()) };
            let _ = writeln!(
                out,
                "  {what} front & 10.1.0.{} -> back & 10.1.1.{} : {service}",
                10 + from,
                10 + to
            );
        }
        out.push_str("}\n");
    }
    out
}

/// Both nodes with what is emitted for a project, by its own script. Workloads without a device are left out by it.
fn emitted(name: &str, text: &str, ports: u16) -> Case {
    let wires = Wires::up();
    let folder = tempfile::tempdir().expect("a temporary folder");
    build(text, Target::Nft, folder.path());
    for (side, node) in wires.nodes().iter().enumerate() {
        let script = folder.path().join(format!("c{side}/nft/apply.sh"));
        run("ip", &["netns", "exec", node, "sh", script.to_str().expect("a path is text")], "");
    }
    Case::new(name, wires, ports)
}

/// A BPF file system of the bench's own: `ip netns exec` hides the machine's.
struct Pins(tempfile::TempDir);

impl Pins {
    fn mount() -> Self {
        // No dots: libbpf does not keep them in names of pins.
        let folder = tempfile::Builder::new().prefix("pwb-").tempdir().expect("a temporary folder");
        run("mount", &["-t", "bpf", "bpf", text(folder.path())], "");
        Self(folder)
    }
}

impl Drop for Pins {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(self.0.path()).status();
    }
}

fn text(path: &Path) -> &str {
    path.to_str().expect("a path is text")
}

/// Both nodes with programs and maps, as `apply` installs them; and the seconds that it takes to load a generation beside the one that
/// runs.
fn programmed(pins: &Pins, name: &str, project: &str, ports: u16) -> (Case, f64) {
    let wires = Wires::up();
    let folder = tempfile::tempdir().expect("a temporary folder");
    build(project, Target::Ebpf, folder.path());
    let mut loading = Vec::new();
    for (side, netns) in wires.nodes().iter().enumerate() {
        let node = format!("c{side}");
        let (place, kept) =
            (Place::at(pins.0.path().join(netns)), folder.path().join(format!("state{side}")));
        let generation = Generation::open(folder.path(), Some(&node)).expect("a generation");
        let state = State::new(kept).with_place(place);
        flood::inside(netns, || {
            let start = Instant::now();
            let done = install::apply(&state, Some(&generation), &mut |_| {}).expect("it is installed");
            // Most workloads are not there.
            assert!(done.left.iter().all(|left| left.kind == "device"), "{:?}", done.left);
            line(&format!("{name}: apply on {node} {:.2} s", start.elapsed().as_secs_f64()));
            let program = generation.program().expect("a program");
            for _ in 0..3 {
                let start = Instant::now();
                bring::stage(state.place(), program).expect("it is staged");
                loading.push(start.elapsed().as_secs_f64());
            }
        });
    }
    loading.sort_by(f64::total_cmp);
    (Case::new(name, wires, ports), loading[loading.len() / 2])
}

fn build(text: &str, target: Target, folder: &Path) {
    let mut sources = Sources::new();
    let id = sources.add("bench.pw", text);
    let parsed = lang::parse(id, text);
    let tree = SourceFile { id, path: "bench.pw", text, tree: &parsed.file };
    let compilation = compiler::compile(&[tree], TODAY);
    let errors = parsed.diagnostics.iter().chain(&compilation.diagnostics);
    if let Some(first) = errors.filter(|d| d.severity == lang::diag::Severity::Error).min_by_key(|d| d.span) {
        panic!("the project is in error: {} {}", first.code, first.message);
    }
    let request = Request { targets: [target].into(), ..Request::default() };
    let bundle = backends::build(&compilation.compiled, &sources, &request)
        .unwrap_or_else(|refused| panic!("not emitted: {:?}", refused.first().map(|d| &d.message)));
    for file in bundle.files {
        let path = folder.join(&file.path);
        std::fs::create_dir_all(path.parent().expect("a file has a folder")).expect("the folder can be made");
        std::fs::write(path, file.bytes).expect("the file can be written");
    }
}

fn by_rules(sizes: &[usize]) {
    let mut cases = vec![plain(), tracked()];
    for rules in sizes {
        cases.push(emitted(&format!("emitted, {rules} rules"), &project(1, *rules), many_ports(*rules)));
    }
    const LINES: usize = 10_000;
    cases.push(chain(LINES));
    let cases = measure(cases);
    let (last, emitted) = cases.split_last().expect("there are cases");
    if let Some(ours) = emitted.iter().find(|case| case.name == format!("emitted, {LINES} rules")) {
        line(&format!(
            "{LINES} rules emitted against a rule a line: {:.0} × (one flow), {:.0} × (4,096 flows)",
            last.median(0) / ours.median(0),
            last.median(1) / ours.median(1)
        ));
    }
}

fn by_tenants(sizes: &[usize]) {
    let mut cases = vec![plain()];
    for tenants in sizes {
        cases.push(emitted(&format!("emitted, {tenants} tenants"), &project(*tenants, 100), 2));
    }
    measure(cases);
}

/// The bounds: throughput against plain forwarding for one flow and for many, how much a lookup may cost more with more rules, and
/// seconds to load a generation.
const BOUNDS: [f64; 2] = [1.0, 0.95];
const FLAT: f64 = 0.05;
const LOADED: f64 = 0.5;

fn ebpf(sizes: &[usize]) {
    let pins = Pins::mount();
    let mut cases = vec![plain()];
    let mut loading = Vec::new();
    for rules in sizes {
        let name = format!("eBPF, {rules} rules");
        let (case, seconds) = programmed(&pins, &name, &project(1, *rules), many_ports(*rules));
        cases.push(case);
        loading.push(seconds);
    }
    let cases = measure(cases);
    for (case, seconds) in cases[1..].iter().zip(&loading) {
        let name = &case.name;
        holds(&format!("{name}: loaded in {seconds:.2} s, {LOADED} s at most"), *seconds <= LOADED);
        for (which, flows) in ["one flow", "4,096 flows"].into_iter().enumerate() {
            let ratio = cases[0].median(which) / case.median(which);
            let bound = BOUNDS[which];
            holds(&format!("{name}, {flows}: {ratio:.3} of plain VXLAN, {bound} at least"), ratio >= bound);
        }
    }
    for (which, flows) in ["one flow", "4,096 flows"].into_iter().enumerate() {
        let costs: Vec<f64> = cases[1..].iter().map(|case| case.median(which)).collect();
        let most = costs.iter().copied().fold(f64::MIN, f64::max);
        let spread = most / costs.iter().copied().fold(f64::MAX, f64::min) - 1.0;
        holds(
            &format!(
                "{flows}: the dearest costs {:.1} % more than the cheapest, {:.0} % at most",
                spread * 100.0,
                FLAT * 100.0
            ),
            spread <= FLAT,
        );
    }
}

fn holds(what: &str, yes: bool) {
    line(&format!("{} {what}", if yes { "holds:   " } else { "MISSED:  " }));
}
