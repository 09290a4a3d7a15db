//! What nodes say about packets that expire or are too big for what lies ahead: to the sender, as the one who was spoken to, with
//! the packet as it was sent. Where the machine lacks what a lab needs these tests say `SKIPPED` and what is missing.

#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "a test that fails says where")]

#[path = "lab/support.rs"]
#[expect(dead_code, reason = "each test uses a part")]
mod support;

use nix::sched::{CloneFlags, setns};
use partywall_node::lab::{self, Lab, LabOptions};
use std::fs::File;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::Command;
use std::time::{Duration, Instant};
use support::{Project, able, options, project, run};

/// Shop and lab have equal addresses and speak to payments, which sees both under other addresses than their own.
const POLICY: &str = r#"
fabric f { encap vxlan port 4789 underlay mtu 9000 family ipv4 precedence top > tenant delegate tenant unknown-vni drop }
node c1 { vtep 192.0.2.11 dev eth0 }
node c2 { vtep 192.0.2.12 dev eth0 }
node g1 { vtep 192.0.2.21 dev eth0 gateway }
node g2 { vtep 192.0.2.22 dev eth0 gateway }
external net { 203.0.113.0/24, 2001:db8:2::/64 }
tenant shop id 7 {
  segment front vni 10010 { 10.1.0.0/24 router 10.1.0.254, fd00:1::/64 router fd00:1::fe }
  segment data vni 10011 { 10.1.1.0/24, fd00:2::/64 } mtu 1400
  route 203.0.113.0/24 via edge
  route 2001:db8:2::/64 via edge
}
tenant lab id 9 {
  segment front vni 10030 { 10.1.0.0/24, fd00:1::/64 }
}
tenant payments id 8 {
  segment svc vni 10020 { 10.2.0.0/24, fd00:3::/64 } mtu 1500
  expose svc & (10.2.0.9 | fd00:3::9) : told to shop via edge as 100.64.7.9, fd64::9 clients as 100.65.0.0/23, fd65::/64, fd66::/64
  expose svc & (10.2.0.9 | fd00:3::9) : told to lab via edge as 100.64.7.9, fd64::9 clients as 100.66.0.0/24, fd67::/64
  expose svc & (10.2.0.9 | fd00:3::9) : told to net via edge as 198.51.100.9, 2001:db8:3::9
}
service told = icmp/echo-request | icmp6/echo-request | tcp/443
gateway edge {
  joins shop, lab, payments, net instances g1, g2 stateful
  attach net on g1 dev ext0 next-hop 203.0.113.1, 2001:db8:2::1
  attach net on g2 dev ext0 next-hop 203.0.113.1, 2001:db8:2::1
  masquerade shop to net as 198.51.100.1, 198.51.100.2, 2001:db8:4::1, 2001:db8:4::2
}
endpoint web in shop.front { at 10.1.0.5, fd00:1::5 on c1 dev tap-web }
endpoint web-2 in shop.front { at 10.1.0.6, fd00:1::6 on c2 dev tap-web2 }
endpoint db in shop.data { at 10.1.1.9, fd00:2::9 on c2 dev tap-db }
endpoint try in lab.front { at 10.1.0.5, fd00:1::5 mac 02:00:0a:01:00:05 on c1 dev tap-try }
endpoint api in payments.svc { at 10.2.0.9, fd00:3::9 on c2 dev tap-api }
policy pp in tenant { allow any -> any : told }
"#;

fn inside<T: Send>(netns: &str, f: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| {
        let worker = scope.spawn(|| {
            setns(File::open(format!("/run/netns/{netns}")).unwrap(), CloneFlags::CLONE_NEWNET).unwrap();
            f()
        });
        worker.join().unwrap()
    })
}

/// A lab, taken away at the end whatever happens.
struct Ground {
    p: Project,
    lab: Lab,
    options: LabOptions,
}

impl Drop for Ground {
    fn drop(&mut self) {
        if std::env::var_os("KEEP").is_none() {
            let _ = lab::down(&self.options);
        }
    }
}

impl Ground {
    fn new(name: &str, text: &str) -> Option<Self> {
        let p = project(&[("main.pw".to_owned(), text.to_owned())]);
        if !able(&p.compiled, name) {
            return None;
        }
        let options = options(name);
        let artifacts = tempfile::tempdir().unwrap();
        support::build(&p, artifacts.path());
        let lab = lab::up(&p.compiled, artifacts.path(), &options).unwrap();
        Some(Self { p, lab, options })
    }

    fn host(&self, name: &str) -> &str {
        let named = |id| self.p.compiled.model.endpoints[id].name == name;
        &self.lab.topology.endpoints.iter().find(|e| named(e.endpoint)).unwrap().netns
    }

    /// Workloads whose devices take more than their segments.
    fn widen(&self) {
        for place in &self.lab.topology.endpoints {
            let node = &self.lab.topology.node(place.node).unwrap().netns;
            run("ip", &["-n", &place.netns, "link", "set", "dev", "eth0", "mtu", "9000"]);
            run("ip", &["-n", node, "link", "set", "dev", &place.dev, "mtu", "9000"]);
        }
    }

    /// Pings once and gives what `ping` says about it.
    fn ping(&self, netns: &str, to: &str, more: &[&str]) -> String {
        let fixed = ["netns", "exec", netns, "ping", "-n", "-c1", "-W1"];
        let output = Command::new("ip").args(fixed).args(more).arg(to).output().unwrap();
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    fn expires(&self, netns: &str, to: &str, hops: &str, from: &str) {
        let said = self.ping(netns, to, &["-t", hops]);
        let family = if to.contains(':') { "Time exceeded: Hop limit" } else { "Time to live exceeded" };
        assert!(
            said.contains(&format!("From {from} icmp_seq=1 {family}")),
            "{to} after {hops}, from {from}: {said}"
        );
    }

    fn reaches(&self, netns: &str, to: &str, more: &[&str]) {
        let said = self.ping(netns, to, more);
        assert!(said.contains(" 1 received"), "{to} {more:?}: {said}");
    }

    /// A packet of `mtu` bytes arrives; of one that is a byte longer it is said what fits.
    fn too_big(&self, netns: &str, to: &str, mtu: u32, from: &str) {
        let headers = if to.contains(':') { 48 } else { 28 };
        self.reaches(netns, to, &["-Mdo", "-s", &(mtu - headers).to_string()]);
        self.does_not_fit(netns, to, mtu, from);
    }

    fn does_not_fit(&self, netns: &str, to: &str, mtu: u32, from: &str) {
        let v6 = to.contains(':');
        let over = mtu + 1 - if v6 { 48 } else { 28 };
        let said = self.ping(netns, to, &["-Mdo", "-s", &over.to_string()]);
        let told = if v6 {
            format!("Packet too big: mtu={mtu}")
        } else {
            format!("Frag needed and DF set (mtu = {mtu})")
        };
        assert!(said.contains(&format!("From {from} icmp_seq=1 {told}")), "{to} {mtu}, from {from}: {said}");
        run("ip", &["-n", netns, if v6 { "-6" } else { "-4" }, "route", "flush", "cache"]);
    }
}

#[test]
fn an_expired_packet_is_answered_wherever_it_expires() {
    let Some(g) = Ground::new("icmp: expired", POLICY) else { return };
    let web = g.host("web");
    for (to, router) in [("10.1.1.9", "10.1.0.254"), ("fd00:2::9", "fd00:1::fe")] {
        g.reaches(web, to, &["-t", "3"]);
        g.expires(web, to, "1", router);
        g.expires(web, to, "2", to);
    }
    // Through a gateway: the own node, the gateway, the other's node.
    for name in ["web", "try"] {
        let routers = if name == "web" { ["10.1.0.254", "fd00:1::fe"] } else { ["10.1.0.1", "fd00:1::1"] };
        for (to, router) in ["100.64.7.9", "fd64::9"].into_iter().zip(routers) {
            g.reaches(g.host(name), to, &["-t", "4"]);
            g.expires(g.host(name), to, "1", router);
            g.expires(g.host(name), to, "2", to);
            g.expires(g.host(name), to, "3", to);
        }
    }
    // To an external, by a masquerade address.
    for (to, router) in [("203.0.113.1", "10.1.0.254"), ("2001:db8:2::1", "fd00:1::fe")] {
        g.reaches(web, to, &["-t", "3"]);
        g.expires(web, to, "1", router);
        g.expires(web, to, "2", to);
    }
}

/// One instance and no masquerade: an external reaches whom it answers, and whom it asks.
fn plain() -> String {
    let mut out = String::new();
    for line in POLICY.lines().filter(|l| !l.contains("masquerade") && !l.contains("attach net on g2")) {
        out.push_str(&line.replace("instances g1, g2", "instances g1"));
        out.push('\n');
    }
    out
}

#[test]
fn an_external_is_answered_like_a_tenant() {
    let Some(g) = Ground::new("icmp: external", &plain()) else { return };
    g.widen();
    let web = g.host("web");
    let net = &g.lab.topology.externals[0];
    for (to, router) in [("203.0.113.1", "10.1.0.254"), ("2001:db8:2::1", "fd00:1::fe")] {
        g.reaches(web, to, &["-t", "3"]);
        g.expires(web, to, "1", router);
        g.expires(web, to, "2", to);
    }
    for to in ["198.51.100.9", "2001:db8:3::9"] {
        g.reaches(&net.netns, to, &["-t", "3"]);
        g.expires(&net.netns, to, "1", to);
        g.expires(&net.netns, to, "2", to);
        g.too_big(&net.netns, to, 1500, to);
    }
    // The cable to the external takes less than the segment.
    let (link, node) = (&net.links[0], &g.lab.topology.node(net.links[0].node).unwrap().netns);
    run("ip", &["-n", node, "link", "set", "dev", &link.dev, "mtu", "1400"]);
    run("ip", &["-n", &net.netns, "link", "set", "dev", &link.peer, "mtu", "1400"]);
    for to in ["203.0.113.1", "2001:db8:2::1"] {
        g.too_big(web, to, 1400, to);
    }
}

/// The same through a gateway that remembers nothing, so that it cannot translate what an error quotes: it answers for itself as long as the packet is as
/// it came, which with eBPF it always is, and takes no errors of others.
#[test]
fn a_stateless_gateway_answers_for_itself_alone() {
    let text = plain()
        .replace("unknown-vni drop }", "unknown-vni drop stateless-replies \"a test\" }")
        .replace("stateful", "stateless");
    let Some(g) = Ground::new("icmp: stateless", &text) else { return };
    let nodes = g.p.compiled.model.nodes.values().map(|n| n.name.as_str());
    let programs = support::Fleet::wanted().ebpf(nodes).contains("g1");
    g.widen();
    let silent = |netns: &str, to: &str, more: &[&str]| {
        let said = g.ping(netns, to, more);
        assert!(said.contains(" 0 received") && !said.contains("From "), "{to} {more:?}: {said}");
    };
    for name in ["web", "try"] {
        let routers = if name == "web" { ["10.1.0.254", "fd00:1::fe"] } else { ["10.1.0.1", "fd00:1::1"] };
        for (to, router) in ["100.64.7.9", "fd64::9"].into_iter().zip(routers) {
            let host = g.host(name);
            g.reaches(host, to, &["-t", "4"]);
            g.expires(host, to, "1", router);
            g.expires(host, to, "2", to);
            silent(host, to, &["-t", "3"]);
            // What the other side takes, and a byte more, which only the gateway could say.
            let headers = if to.contains(':') { 48 } else { 28 };
            g.reaches(host, to, &["-Mdo", "-s", &(1500 - headers).to_string()]);
            if programs {
                g.too_big(host, to, 1500, to);
            } else {
                silent(host, to, &["-Mdo", "-s", &(1501 - headers).to_string()]);
            }
        }
    }
    // Untranslated: an external's packets.
    let web = g.host("web");
    for to in ["203.0.113.1", "2001:db8:2::1"] {
        g.reaches(web, to, &["-t", "3"]);
        g.expires(web, to, "2", to);
    }
    let (net, to) = (&g.lab.topology.externals[0], ["203.0.113.1", "2001:db8:2::1"]);
    let (link, node) = (&net.links[0], &g.lab.topology.node(net.links[0].node).unwrap().netns);
    run("ip", &["-n", node, "link", "set", "dev", &link.dev, "mtu", "1400"]);
    run("ip", &["-n", &net.netns, "link", "set", "dev", &link.peer, "mtu", "1400"]);
    for to in to {
        g.too_big(web, to, 1400, to);
    }
}

#[test]
fn a_packet_that_is_too_big_is_answered_where_it_no_longer_fits() {
    let Some(g) = Ground::new("icmp: too big", POLICY) else { return };
    g.widen();
    let web = g.host("web");
    // The own node, since the segment of the destination takes less.
    g.too_big(web, "10.1.1.9", 1400, "10.1.0.254");
    g.too_big(web, "fd00:2::9", 1400, "fd00:1::fe");
    for (name, routers) in [("web", ["10.1.0.254", "fd00:1::fe"]), ("try", ["10.1.0.1", "fd00:1::1"])] {
        for (to, router) in ["100.64.7.9", "fd64::9"].into_iter().zip(routers) {
            // The own segment, at the own node; then what the other side takes, at the gateway.
            g.does_not_fit(g.host(name), to, 8950, router);
            g.too_big(g.host(name), to, 1500, to);
        }
    }
}

/// Segments that the sender left to its device to cut are longer than any MTU until they are on the wire.
#[test]
fn segments_in_one_piece_are_not_too_big() {
    let Some(g) = Ground::new("icmp: segments", POLICY) else { return };
    for name in ["web", "try"] {
        for (listen, to) in [("10.2.0.9:443", "100.64.7.9:443"), ("[fd00:3::9]:443", "[fd64::9]:443")] {
            let listener = inside(g.host("api"), || TcpListener::bind(listen).unwrap());
            let address: SocketAddr = to.parse().unwrap();
            let mut near = inside(g.host(name), || {
                TcpStream::connect_timeout(&address, Duration::from_secs(3)).unwrap()
            });
            let (mut far, from) = listener.accept().unwrap();
            assert_ne!(from.ip().to_string(), "10.1.0.5");
            let bytes = vec![7; 20 << 20];
            std::thread::scope(|scope| {
                scope.spawn(|| near.write_all(&bytes).unwrap());
                let mut got = vec![0; bytes.len()];
                far.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
                far.read_exact(&mut got).unwrap();
                assert!(got == bytes);
            });
            std::thread::scope(|scope| {
                scope.spawn(|| far.write_all(&bytes).unwrap());
                let mut got = vec![0; bytes.len()];
                near.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
                near.read_exact(&mut got).unwrap();
                assert!(got == bytes);
            });
        }
    }
}

/// A host that doubts a neighbour it knows asks that neighbour alone (RFC 4861, 7.3.3).
#[test]
fn a_neighbour_that_is_asked_again_is_still_there() {
    let Some(g) = Ground::new("icmp: neighbours", POLICY) else { return };
    let web = g.host("web");
    let place = g.lab.topology.endpoints.iter().find(|e| e.netns == web).unwrap();
    let node = &g.lab.topology.node(place.node).unwrap().netns;
    let said = run("ip", &["-n", node, "-o", "link", "show", "dev", &place.dev]);
    let router = said.split_once("link/ether ").unwrap().1.split(' ').next().unwrap();
    let doubt = |address: &str| {
        let doubted = ["lladdr", router, "dev", "eth0", "nud", "probe"];
        run("ip", &[&["-n", web, "neighbour", "replace", address][..], &doubted].concat());
        let until = Instant::now() + Duration::from_secs(6);
        loop {
            let known = run("ip", &["-n", web, "neighbour", "show", "to", address]);
            if known.contains("REACHABLE") || known.contains("FAILED") || Instant::now() > until {
                return known;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    };
    // The segment's router, every segment's, and an endpoint on another node.
    for address in ["fd00:1::fe", "fe80::1", "fd00:1::6", "10.1.0.254", "10.1.0.6"] {
        let known = doubt(address);
        assert!(known.contains("REACHABLE"), "{address}: {known}");
    }
    // Nobody's address, the own one, and one of another segment, where no policy is asked.
    for address in ["fd00:1::77", "fd00:2::9"] {
        let known = doubt(address);
        assert!(!known.contains("REACHABLE"), "{address}: {known}");
    }
    // VXLAN devices have no addresses of their own.
    let addresses = run("ip", &["-n", node, "-6", "-o", "address", "show"]);
    assert!(!addresses.contains(" pwv"), "{addresses}");
}
