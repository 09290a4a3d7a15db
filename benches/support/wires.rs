//! Two workloads, their nodes and the underlay, each a network namespace: what the measurements of forwarding run in, whatever
//! the nodes do.

use super::flood::Side;
use std::io::Write as _;
use std::net::Ipv4Addr;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};

/// VTEPs of the two nodes.
pub const VTEPS: [Ipv4Addr; 2] = [Ipv4Addr::new(192, 0, 2, 11), Ipv4Addr::new(192, 0, 2, 12)];
/// Addresses of the two workloads, whose devices on the nodes are `tap0`.
pub const WORKLOADS: [Side; 2] = [
    Side { mac: [2, 0, 0, 0, 1, 0], address: Ipv4Addr::new(10, 1, 0, 10) },
    Side { mac: [2, 0, 0, 0, 2, 0], address: Ipv4Addr::new(10, 1, 1, 10) },
];
pub const MTU: u32 = 1450;

/// Set-ups that have been made.
static MADE: AtomicUsize = AtomicUsize::new(0);

/// A set-up; it goes when it is dropped.
pub struct Wires {
    name: String,
}

impl Wires {
    /// Workloads, nodes and the underlay between them; nothing is forwarded yet.
    pub fn up() -> Self {
        let number = MADE.fetch_add(1, Ordering::Relaxed);
        let wires = Self { name: format!("pwb-{}-{number}", std::process::id()) };
        let (w, n, underlay) = (wires.workloads(), wires.nodes(), wires.named("un"));
        let mut batch = String::new();
        for netns in w.iter().chain(&n).chain([&underlay]) {
            batch.push_str(&format!("netns add {netns}\n"));
        }
        run("ip", &["-batch", "-"], &batch);
        let mut batch = String::new();
        for side in 0..2 {
            let (w, n) = (&w[side], &n[side]);
            batch.push_str(&format!(
                "link add eth0 netns {n} type veth peer name n{side} netns {underlay}
                link add eth0 netns {w} mtu {MTU} address {} type veth peer name tap0 mtu {MTU} netns {n}\n",
                mac(WORKLOADS[side].mac)
            ));
        }
        run("ip", &["-batch", "-"], &batch);
        // A bridge in one namespace must not hand frames to the filters of another.
        run(
            "ip",
            &[
                "netns",
                "exec",
                &underlay,
                "sh",
                "-c",
                "echo 0 >/proc/sys/net/bridge/bridge-nf-call-iptables || :",
            ],
            "",
        );
        run(
            "ip",
            &["-n", &underlay, "-batch", "-"],
            "link add fabric type bridge mcast_snooping 0\nlink set fabric up\nlink set n0 master fabric up\nlink set n1 master fabric up\n",
        );
        for side in 0..2 {
            let node = format!(
                "link set lo up\nlink set eth0 up\nlink set tap0 up\naddress add {}/24 dev eth0\n",
                VTEPS[side]
            );
            run("ip", &["-n", &n[side], "-batch", "-"], &node);
            let workload = format!("link set eth0 up\naddress add {}/24 dev eth0\n", WORKLOADS[side].address);
            run("ip", &["-n", &w[side], "-batch", "-"], &workload);
            // What arrives is counted by the device and goes no further.
            nft(
                &w[side],
                "table netdev sink {\n chain in {\n type filter hook ingress device \"eth0\" priority 0\n drop\n }\n}\n",
            );
        }
        wires
    }

    fn named(&self, what: &str) -> String {
        format!("{}-{what}", self.name)
    }

    pub fn workloads(&self) -> [String; 2] {
        [self.named("w0"), self.named("w1")]
    }

    pub fn nodes(&self) -> [String; 2] {
        [self.named("n0"), self.named("n1")]
    }

    /// Forwarding with VXLAN and nothing else: one device, one route each way, static neighbours.
    pub fn plain(&self) {
        for (side, node) in self.nodes().iter().enumerate() {
            let other = 1 - side;
            run(
                "ip",
                &["-n", node, "-batch", "-"],
                &format!(
                    "link set tap0 address {own}
                link add vx address {own} type vxlan id 100 dstport 4789 local {vtep} dev eth0 nolearning
                link set vx up mtu {MTU}
                neighbour add {hop} lladdr {far} dev vx nud permanent
                route add {there}/32 via {hop} dev vx onlink
                route add {here}/32 dev tap0
                neighbour add {here} lladdr {mac} dev tap0 nud permanent\n",
                    own = mac(router(VTEPS[side])),
                    far = mac(router(VTEPS[other])),
                    vtep = VTEPS[side],
                    hop = VTEPS[other],
                    there = WORKLOADS[other].address,
                    here = WORKLOADS[side].address,
                    mac = mac(WORKLOADS[side].mac),
                ),
            );
            let fdb = [
                "fdb",
                "append",
                &mac(router(VTEPS[other])),
                "dev",
                "vx",
                "dst",
                &VTEPS[other].to_string(),
                "self",
            ];
            run("ip", &[&["netns", "exec", node, "bridge"], &fdb[..]].concat(), "");
            run(
                "ip",
                &[
                    "netns",
                    "exec",
                    node,
                    "sh",
                    "-c",
                    "echo 1 >/proc/sys/net/ipv4/ip_forward; echo 0 >/proc/sys/net/ipv4/conf/all/rp_filter",
                ],
                "",
            );
        }
    }
}

impl Drop for Wires {
    fn drop(&mut self) {
        for netns in self.workloads().iter().chain(&self.nodes()).chain([&self.named("un")]) {
            let _ = Command::new("ip").args(["netns", "delete", netns]).stderr(Stdio::null()).status();
        }
    }
}

/// The router's MAC of the node with this VTEP.
pub fn router(vtep: Ipv4Addr) -> [u8; 6] {
    let [a, b, c, d] = vtep.octets();
    [0x02, 0x50, a, b, c, d]
}

pub fn mac(mac: [u8; 6]) -> String {
    mac.map(|byte| format!("{byte:02x}")).join(":")
}

pub fn nft(netns: &str, text: &str) {
    run("ip", &["netns", "exec", netns, "nft", "-f", "-"], text);
}

/// Runs a tool that has to succeed.
pub fn run(tool: &str, args: &[&str], input: &str) {
    let mut child = Command::new(tool)
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|e| panic!("{tool}: {e}"));
    child.stdin.take().expect("it has a pipe").write_all(input.as_bytes()).expect("it reads");
    let output = child.wait_with_output().expect("it ends");
    assert!(output.status.success(), "{tool} {args:?}: {}", String::from_utf8_lossy(&output.stderr));
}
