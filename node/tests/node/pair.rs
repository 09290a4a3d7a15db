//! A node with two workloads in namespaces of their own.

use crate::support::sh;
use nix::sched::{CloneFlags, setns};
use std::fs::File;
use std::net::Ipv4Addr;
use std::process::{Child, Command};
use std::time::{Duration, Instant};

/// Allowed under every policy.
pub const ALWAYS: u16 = 1000;

pub const A: Ipv4Addr = Ipv4Addr::new(10, 1, 0, 5);
pub const B: Ipv4Addr = Ipv4Addr::new(10, 1, 0, 6);

/// The project; `extra` are more rules, `more` more declarations.
pub fn project(extra: &str, more: &str) -> String {
    format!(
        r#"fabric pair {{
  encap vxlan port 4789
  underlay mtu 1500 family ipv4
  precedence tenant
  delegate tenant
  unknown-vni drop
}}
node n1 {{ vtep 192.0.2.11 dev eth0 }}
node n2 {{ vtep 192.0.2.12 dev eth0 }}
tenant shop id 1 {{
  segment front vni 10010 {{ 10.1.0.0/24 }}
}}
endpoint a in shop.front {{ at {A} mac 02:00:00:00:01:05 on n1 dev tap-a }}
endpoint b in shop.front {{ at {B} mac 02:00:00:00:01:06 on n1 dev tap-b }}
endpoint c in shop.front {{ at 10.1.0.7 mac 02:00:00:00:01:07 on n2 dev tap-c }}
policy app for shop in tenant {{
  allow front -> front : tcp/{ALWAYS} | udp/{ALWAYS}
  {extra}
}}
{more}
"#
    )
}

/// A process that does nothing in a network namespace of its own, for as long as the value lives.
pub struct Workload {
    process: Child,
}

impl Workload {
    /// Its device `eth0` is the other end of `device` in the caller's namespace.
    pub fn new(device: &str, mac: &str, address: Ipv4Addr) -> Self {
        let process = Command::new("unshare").args(["-n", "sleep", "3600"]).spawn().unwrap();
        let id = process.id();
        let own = std::fs::read_link("/proc/thread-self/ns/net").unwrap();
        let until = Instant::now() + Duration::from_secs(10);
        while std::fs::read_link(format!("/proc/{id}/ns/net")).map_or(true, |ns| ns == own) {
            assert!(Instant::now() < until, "no namespace");
            std::thread::sleep(Duration::from_millis(5));
        }
        let inside = Self { process };
        sh(&format!(
            "ip link add name {device} type veth peer name eth0 netns {id} && ip link set dev {device} up"
        ));
        inside.enter(|| {
            sh(&format!(
                "ip link set dev lo up; ip link set dev eth0 address {mac} up; ip address add {address}/24 dev eth0; ip route add default via 10.1.0.1"
            ));
        });
        inside
    }

    /// Runs `f` on a thread inside.
    pub fn enter<T: Send>(&self, f: impl FnOnce() -> T + Send) -> T {
        let namespace = format!("/proc/{}/ns/net", self.process.id());
        std::thread::scope(|scope| {
            let thread = scope.spawn(|| {
                setns(File::open(namespace).unwrap(), CloneFlags::CLONE_NEWNET).unwrap();
                f()
            });
            thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }
}

impl Drop for Workload {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// The node's devices and both workloads, in the caller's namespace.
pub fn workloads() -> (Workload, Workload) {
    sh(
        "ip link set dev lo up; ip link add name eth0 type veth peer name there; ip link set dev eth0 up; ip link set dev there up; ip address add 192.0.2.11/24 dev eth0",
    );
    (Workload::new("tap-a", "02:00:00:00:01:05", A), Workload::new("tap-b", "02:00:00:00:01:06", B))
}
