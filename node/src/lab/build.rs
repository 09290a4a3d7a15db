//! A topology made real.

use super::error::LabError;
use super::netns;
use super::tool::IpBatch;
use super::topology::{BRIDGE, ENDPOINT_DEV, EndpointPlace, ExternalPlace, NodePlace, Topology, mac_text};
use compiler::Compiled;
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
pub(super) fn build(c: &Compiled, t: &Topology) -> Result<(), LabError> {
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
        external(c, t, place)?;
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
    let mtu = t.underlay_mtu.to_string();
    let mut cables = IpBatch::here();
    let mut bridge = IpBatch::inside(&t.underlay);
    bridge.push(&["link", "set", "dev", "lo", "up"]);
    bridge.push(&["link", "add", "name", BRIDGE, "type", "bridge", "mcast_snooping", "0"]);
    for (number, node) in t.nodes.iter().enumerate() {
        let (port, mac) = (format!("n{number}"), mac_text(node.mac));
        cables.push(&[
            "link", "add", "name", &node.dev, "netns", &node.netns, "mtu", &mtu, "address", &mac, "type", "veth",
            "peer", "name", &port, "netns", &t.underlay, "mtu", &mtu,
        ]);
        bridge.push(&["link", "set", "dev", &port, "master", BRIDGE, "up"]);
    }
    bridge.push(&["link", "set", "dev", BRIDGE, "up"]);
    cables.run()?;
    bridge.run()
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
    let (mac, mtu) = (mac_text(place.mac), place.mtu.to_string());
    let mut cable = IpBatch::here();
    cable.push(&[
        "link", "add", "name", &place.dev, "netns", &node.netns, "mtu", &mtu, "type", "veth", "peer", "name",
        ENDPOINT_DEV, "netns", &place.netns, "address", &mac, "mtu", &mtu,
    ]);
    cable.run()?;
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
        let router = address.router.to_string();
        inside.push(&["route", "replace", everything(address.ip), "via", &router, "dev", ENDPOINT_DEV, "onlink"]);
    }
    inside.run()
}

fn external(c: &Compiled, t: &Topology, place: &ExternalPlace) -> Result<(), LabError> {
    let mut inside = IpBatch::inside(&place.netns);
    inside.push(&["link", "set", "dev", "lo", "up"]);
    for link in &place.links {
        let Some(node) = t.node(link.node) else { continue };
        let (mac, mtu) = (mac_text(link.mac), c.model.fabric.underlay_mtu.to_string());
        let mut cable = IpBatch::here();
        cable.push(&[
            "link", "add", "name", &link.dev, "netns", &node.netns, "mtu", &mtu, "address", &mac, "type", "veth",
            "peer", "name", &link.peer, "netns", &place.netns, "mtu", &mtu,
        ]);
        cable.run()?;
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
            inside.push(&[
                "route", "add", everything(via), "via", &via.to_string(), "dev", &first.peer, "onlink", "metric",
                DEFAULT_METRIC,
            ]);
        }
    }
    inside.run()
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

/// The default route's destination in the family of this address.
pub(super) fn everything(address: IpAddr) -> &'static str {
    if address.is_ipv6() { "::/0" } else { "0.0.0.0/0" }
}

fn script(c: &Compiled, node: &NodePlace, artifacts: &Path) -> PathBuf {
    artifacts.join(&c.model.nodes[node.node].name).join("nft").join("apply.sh")
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

fn apply_one(c: &Compiled, node: &NodePlace, artifacts: &Path) -> Result<(), LabError> {
    let script = script(c, node, artifacts);
    let output = Command::new("ip")
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
