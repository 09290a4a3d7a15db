//! A topology made real.

use super::error::LabError;
use super::netns;
use super::tool::{self, IpBatch};
use super::topology::{BRIDGE, ENDPOINT_DEV, EndpointPlace, ExternalPlace, NodePlace, Topology, mac_text};
use compiler::Compiled;
use compiler::ids::NodeId;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Metric of an external's default route, behind every route that a probe or a masquerade adds.
const DEFAULT_METRIC: &str = "4096";
/// How many nodes apply at a time.
const APPLIERS: usize = 4;

/// Makes every namespace, device, address and route that the nodes' artifacts expect to find.
///
/// # Errors
/// The kernel refuses a step.
pub(super) fn build(t: &Topology) -> Result<(), LabError> {
    let mut names = IpBatch::here();
    for name in t.namespaces() {
        names.push(&["netns", "add", name]);
    }
    names.run()?;
    for name in t.namespaces() {
        netns::enter(name, settle)?;
    }
    underlay(t)?;
    for node in &t.nodes {
        node_inside(t, node)?;
    }
    for place in &t.endpoints {
        endpoint(t, place)?;
    }
    for place in &t.externals {
        external(t, place)?;
    }
    Ok(())
}

/// What a namespace needs before its first device: addresses usable at once, nothing configured by what is heard.
fn settle() -> Result<(), LabError> {
    for scope in ["all", "default"] {
        netns::sysctl(&format!("net/ipv6/conf/{scope}/accept_dad"), "0")?;
        netns::sysctl(&format!("net/ipv6/conf/{scope}/accept_ra"), "0")?;
    }
    // A bridge in one namespace must not hand the frames of others to the machine's own filters.
    for family in ["iptables", "ip6tables", "arptables"] {
        netns::sysctl(&format!("net/bridge/bridge-nf-call-{family}"), "0")?;
    }
    Ok(())
}

fn underlay(t: &Topology) -> Result<(), LabError> {
    let mtu = t.underlay_mtu;
    let mut cables = IpBatch::here();
    let mut bridge = IpBatch::inside(&t.underlay);
    bridge.push(&["link", "set", "dev", "lo", "up"]);
    bridge.push(&["link", "add", "name", BRIDGE, "type", "bridge", "mcast_snooping", "0"]);
    for (number, node) in t.nodes.iter().enumerate() {
        let port = port(number);
        let bridged = End { netns: &t.underlay, dev: &port, mac: None };
        cable(&mut cables, End { netns: &node.netns, dev: &node.dev, mac: Some(node.mac) }, bridged, mtu);
        bridge.push(&["link", "set", "dev", &port, "master", BRIDGE, "up"]);
    }
    bridge.push(&["link", "set", "dev", BRIDGE, "up"]);
    cables.run()?;
    bridge.run()
}

/// The bridge's port of the n-th node.
fn port(number: usize) -> String {
    format!("n{number}")
}

/// Plugs a node into the underlay, or unplugs it.
///
/// # Errors
/// The kernel refuses.
pub(super) fn plugged(t: &Topology, node: NodeId, up: bool) -> Result<(), LabError> {
    let Some(number) = t.nodes.iter().position(|n| n.node == node) else { return Ok(()) };
    let state = if up { "up" } else { "down" };
    tool::run("ip", &["-n", &t.underlay, "link", "set", "dev", &port(number), state]).map(drop)
}

/// The nodes whose cable is unplugged, ascending.
///
/// # Errors
/// The ports cannot be listed.
pub(super) fn unplugged(t: &Topology) -> Result<Vec<NodeId>, LabError> {
    let up = tool::run("ip", &["-n", &t.underlay, "-br", "link", "show", "up"])?;
    let names: Vec<&str> =
        up.lines().filter_map(|line| line.split_whitespace().next()?.split('@').next()).collect();
    let down = t.nodes.iter().enumerate().filter(|(number, _)| !names.contains(&port(*number).as_str()));
    Ok(down.map(|(_, place)| place.node).collect())
}

fn node_inside(t: &Topology, node: &NodePlace) -> Result<(), LabError> {
    let mut inside = IpBatch::inside(&node.netns);
    inside.push(&["link", "set", "dev", "lo", "up"]);
    inside.push(&["link", "set", "dev", &node.dev, "up"]);
    let own = host(node.vtep);
    add_address(&mut inside, &own, &node.dev);
    for other in t.nodes.iter().filter(|n| n.node != node.node) {
        inside.push(&["route", "add", &host(other.vtep), "dev", &node.dev]);
    }
    inside.run()
}

fn endpoint(t: &Topology, place: &EndpointPlace) -> Result<(), LabError> {
    let Some(node) = t.node(place.node) else { return Ok(()) };
    let mut cables = IpBatch::here();
    let workload = End { netns: &place.netns, dev: ENDPOINT_DEV, mac: Some(place.mac) };
    cable(&mut cables, End { netns: &node.netns, dev: &place.dev, mac: None }, workload, place.mtu);
    cables.run()?;
    let mut outside = IpBatch::inside(&node.netns);
    outside.push(&["link", "set", "dev", &place.dev, "up"]);
    outside.run()?;
    let mut inside = IpBatch::inside(&place.netns);
    inside.push(&["link", "set", "dev", "lo", "up"]);
    inside.push(&["link", "set", "dev", ENDPOINT_DEV, "up"]);
    for address in &place.addresses {
        add_address(&mut inside, &format!("{}/{}", address.ip, address.len), ENDPOINT_DEV);
    }
    for address in &place.addresses {
        let way = default_via(address.router, ENDPOINT_DEV);
        inside.push(&way.iter().map(String::as_str).collect::<Vec<_>>());
    }
    inside.run()
}

fn external(t: &Topology, place: &ExternalPlace) -> Result<(), LabError> {
    let mut inside = IpBatch::inside(&place.netns);
    inside.push(&["link", "set", "dev", "lo", "up"]);
    for link in &place.links {
        let Some(node) = t.node(link.node) else { continue };
        let mut cables = IpBatch::here();
        let router = End { netns: &place.netns, dev: &link.peer, mac: None };
        let instance = End { netns: &node.netns, dev: &link.dev, mac: Some(link.mac) };
        cable(&mut cables, instance, router, t.underlay_mtu);
        cables.run()?;
        let mut outside = IpBatch::inside(&node.netns);
        outside.push(&["link", "set", "dev", &link.dev, "up"]);
        let local = host(link.local);
        for hop in link.next_hops.iter().filter(|h| h.is_ipv4()) {
            outside.push(&["address", "add", &local, "peer", &host(*hop), "dev", &link.dev]);
        }
        outside.push(&["address", "add", &format!("{}/64", link.local6), "dev", &link.dev, "nodad"]);
        for hop in link.next_hops.iter().filter(|h| h.is_ipv6()) {
            outside.push(&["route", "add", &host(*hop), "dev", &link.dev]);
        }
        outside.run()?;
        inside.push(&["link", "set", "dev", &link.peer, "up"]);
        for hop in &link.next_hops {
            add_address(&mut inside, &host(*hop), &link.peer);
        }
        // The instance need not answer for its addresses here: a router's own cable is no part of the policy.
        let mac = mac_text(link.mac);
        for near in [link.local, link.local6] {
            let lladdr = ["lladdr", &mac, "dev", &link.peer, "nud", "permanent"];
            inside.push(&[&["neighbour", "replace", &near.to_string()], &lladdr[..]].concat());
        }
    }
    for (address, link) in &place.masquerades {
        let Some(link) = place.links.get(*link) else { continue };
        let via = if address.is_ipv6() { link.local6 } else { link.local }.to_string();
        inside.push(&["route", "replace", &host(*address), "via", &via, "dev", &link.peer, "onlink"]);
    }
    if let Some(first) = place.links.first() {
        for via in [first.local, first.local6] {
            let (way, metric) = (default_via(via, &first.peer), ["metric", DEFAULT_METRIC]);
            inside.push(&way.iter().map(String::as_str).chain(metric).collect::<Vec<_>>());
        }
    }
    inside.run()
}

/// Marks a lab as finished and as this project's, inside the lab itself: as the alias of the underlay's bridge.
///
/// # Errors
/// The kernel refuses it.
pub(super) fn seal(c: &Compiled, t: &Topology) -> Result<(), LabError> {
    tool::run("ip", &["-n", &t.underlay, "link", "set", "dev", BRIDGE, "alias", &mark_of(c)]).map(drop)
}

/// Whether the mark of [`seal`] is there and right.
///
/// # Errors
/// It is not.
pub(super) fn check_seal(c: &Compiled, t: &Topology) -> Result<(), LabError> {
    // Without the bridge the lab was not even begun.
    let link = tool::run("ip", &["-n", &t.underlay, "link", "show", "dev", BRIDGE]).unwrap_or_default();
    match link.lines().find_map(|line| line.trim().strip_prefix("alias ")) {
        None => Err(LabError::Unfinished),
        Some(mark) if mark.trim() == mark_of(c) => Ok(()),
        Some(_) => Err(LabError::Stale),
    }
}

/// A digest of everything that was declared. The model holds no unordered map, so its text is the same in every process.
fn mark_of(c: &Compiled) -> String {
    blake3::hash(format!("{:?}", c.model).as_bytes()).to_hex().to_string()
}

pub(super) fn add_address(batch: &mut IpBatch, address: &str, dev: &str) {
    // `nodad` is refused for IPv4.
    if address.contains(':') {
        batch.push(&["address", "replace", address, "dev", dev, "nodad"]);
    } else {
        batch.push(&["address", "replace", address, "dev", dev]);
    }
}

/// The address as a prefix of full length.
pub(super) fn host(address: IpAddr) -> String {
    format!("{address}/{}", if address.is_ipv6() { 128 } else { 32 })
}

/// The command for a default route.
pub(super) fn default_via(via: IpAddr, dev: &str) -> Vec<String> {
    let everything = if via.is_ipv6() { "::/0" } else { "0.0.0.0/0" };
    let via = via.to_string();
    ["route", "replace", everything, "via", &via, "dev", dev, "onlink"].map(str::to_owned).to_vec()
}

/// One end of a cable; without a MAC the kernel chooses one.
struct End<'a> {
    netns: &'a str,
    dev: &'a str,
    mac: Option<[u8; 6]>,
}

/// Joins two namespaces by a pair of veth devices, both made where they belong.
fn cable(batch: &mut IpBatch, near: End<'_>, far: End<'_>, mtu: u32) {
    let described = |end: End<'_>| {
        let mut words = vec!["name".to_owned(), end.dev.to_owned(), "netns".to_owned(), end.netns.to_owned()];
        words.extend(["mtu".to_owned(), mtu.to_string()]);
        words.extend(end.mac.into_iter().flat_map(|mac| ["address".to_owned(), mac_text(mac)]));
        words
    };
    let (near, far) = (described(near), described(far));
    let mut command = vec!["link", "add"];
    command.extend(near.iter().map(String::as_str));
    command.extend(["type", "veth", "peer"]);
    command.extend(far.iter().map(String::as_str));
    batch.push(&command);
}

fn script(c: &Compiled, node: &NodePlace, artifacts: &Path) -> PathBuf {
    let folder = artifacts.join(&c.model.nodes[node.node].name);
    let nft = folder.join("nft").join("apply.sh");
    let ebpf = folder.join("ebpf").join("load.sh");
    if !nft.is_file() && ebpf.is_file() { ebpf } else { nft }
}

/// Whether every node's artifacts are there.
///
/// # Errors
/// The first that is not.
pub(super) fn scripts(c: &Compiled, t: &Topology, artifacts: &Path) -> Result<(), LabError> {
    let missing = t.nodes.iter().map(|n| script(c, n, artifacts)).find(|path| !path.is_file());
    missing.map_or(Ok(()), |path| Err(LabError::NoArtifacts { path }))
}

/// Runs every node's script in its namespace.
///
/// # Errors
/// The first node, in the order of names, whose script fails.
pub(super) fn apply(c: &Compiled, t: &Topology, artifacts: &Path) -> Result<(), LabError> {
    for group in t.nodes.chunks(APPLIERS) {
        std::thread::scope(|scope| {
            let workers: Vec<_> =
                group.iter().map(|node| scope.spawn(move || apply_one(c, node, artifacts))).collect();
            workers.into_iter().try_for_each(|w| w.join().unwrap_or(Err(LabError::Worker)))
        })?;
    }
    Ok(())
}

pub(super) fn apply_one(c: &Compiled, node: &NodePlace, artifacts: &Path) -> Result<(), LabError> {
    let script = script(c, node, artifacts);
    let mut command = Command::new("ip");
    if script.ends_with("ebpf/load.sh") {
        command.env("PARTYWALL_BPF", super::ebpf::prepare(&node.netns)?);
    }
    let output = command
        .args(["netns", "exec", &node.netns, "sh"])
        .arg(&script)
        .stdin(Stdio::null())
        .output()
        .map_err(|source| LabError::Spawn { command: script.display().to_string(), source })?;
    if output.status.success() {
        return Ok(());
    }
    let text = [output.stdout, output.stderr].concat();
    Err(LabError::Apply {
        node: c.model.nodes[node.node].name.clone(),
        status: output.status.to_string(),
        output: String::from_utf8_lossy(&text).trim().to_owned(),
    })
}
