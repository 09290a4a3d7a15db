//! Which namespaces, devices and addresses a project's lab consists of. Nothing here touches the machine.

use super::error::LabError;
use compiler::Compiled;
use compiler::algebra::{Family, Prefix, format_addr, parse_addr};
use compiler::ids::{EndpointId, NodeId, OwnerId};
use std::collections::BTreeMap;
use std::net::IpAddr;

/// Device of every endpoint inside its namespace.
pub(crate) const ENDPOINT_DEV: &str = "eth0";
/// The bridge that is the underlay.
pub(crate) const BRIDGE: &str = "fabric";
/// Longest readable part of a namespace's name.
const NAME_MAX: usize = 48;

/// The whole lab.
#[derive(Debug, Clone)]
pub struct Topology {
    /// What every namespace of this lab begins with: `pwl-` and eight hexadecimal digits.
    pub prefix: String,
    /// The namespace of the underlay's bridge.
    pub underlay: String,
    /// Bytes.
    pub underlay_mtu: u32,
    /// Indexed by [`NodeId`].
    pub nodes: Vec<NodePlace>,
    /// Indexed by [`EndpointId`].
    pub endpoints: Vec<EndpointPlace>,
    /// Those that some gateway attaches, ascending by owner.
    pub externals: Vec<ExternalPlace>,
}

#[derive(Debug, Clone)]
pub struct NodePlace {
    pub node: NodeId,
    pub netns: String,
    /// Its device on the underlay.
    pub dev: String,
    pub vtep: IpAddr,
    pub mac: [u8; 6],
}

#[derive(Debug, Clone)]
pub struct EndpointPlace {
    pub endpoint: EndpointId,
    pub netns: String,
    /// The namespace of its node and its device there.
    pub node: NodeId,
    pub dev: String,
    pub mac: [u8; 6],
    pub addresses: Vec<Address>,
    /// Bytes.
    pub mtu: u32,
}

/// An endpoint's address on its device.
#[derive(Debug, Clone, Copy)]
pub struct Address {
    pub ip: IpAddr,
    /// On-link prefix length: the segment's for IPv4, 128 for IPv6.
    pub len: u8,
    /// Next hop of the default route: the segment's router for IPv4, `fe80::1` for IPv6.
    pub router: IpAddr,
}

#[derive(Debug, Clone)]
pub struct ExternalPlace {
    pub owner: OwnerId,
    pub netns: String,
    /// Ascending by node and device.
    pub links: Vec<LinkPlace>,
    /// Masquerade addresses, each with the link to the instance that owns it.
    pub masquerades: Vec<(IpAddr, usize)>,
}

/// A cable between an external and one gateway instance.
#[derive(Debug, Clone)]
pub struct LinkPlace {
    pub node: NodeId,
    /// On the instance's side.
    pub dev: String,
    /// On the external's side.
    pub peer: String,
    pub next_hops: Vec<IpAddr>,
    /// The instance's own addresses on the cable, both link-local.
    pub local: IpAddr,
    pub local6: IpAddr,
    /// Of `dev`.
    pub mac: [u8; 6],
}

impl Topology {
    /// # Errors
    /// The project attaches devices in a way that the lab does not model.
    pub fn new(c: &Compiled, project: &str) -> Result<Self, LabError> {
        let prefix = prefix(project);
        Ok(Self {
            underlay: format!("{prefix}-underlay"),
            underlay_mtu: c.model.fabric.underlay_mtu,
            nodes: c
                .model
                .nodes
                .iter()
                .map(|(id, node)| NodePlace {
                    node: id,
                    netns: netns_name(&prefix, 'n', &node.name),
                    dev: node.dev.clone(),
                    vtep: node.vtep,
                    mac: derived_mac(&["node", &node.name]),
                })
                .collect(),
            endpoints: c.model.endpoints.ids().map(|id| endpoint(c, &prefix, id)).collect(),
            externals: externals(c, &prefix)?,
            prefix,
        })
    }

    /// All namespaces, ascending.
    #[must_use]
    pub fn namespaces(&self) -> Vec<&str> {
        let mut names: Vec<&str> = std::iter::once(self.underlay.as_str())
            .chain(self.nodes.iter().map(|n| n.netns.as_str()))
            .chain(self.endpoints.iter().map(|e| e.netns.as_str()))
            .chain(self.externals.iter().map(|x| x.netns.as_str()))
            .collect();
        names.sort_unstable();
        names
    }

    #[must_use]
    pub fn node(&self, id: NodeId) -> Option<&NodePlace> {
        self.nodes.iter().find(|n| n.node == id)
    }
}

/// What the names of a project's namespaces begin with.
pub(crate) fn prefix(project: &str) -> String {
    format!("pwl-{}", digest(project))
}

fn endpoint(c: &Compiled, prefix: &str, id: EndpointId) -> EndpointPlace {
    let e = &c.model.endpoints[id];
    let segment = &c.model.segments[e.segment];
    let full = format!("{}.{}", c.model.owners[e.tenant].name, e.name);
    let addresses = e
        .addresses
        .iter()
        .map(|&ip| {
            let (family, value) = parse_addr(ip);
            let inside = segment.prefixes.iter().find(|p| p.prefix.contains(Prefix::host(family, value)));
            match (family, inside) {
                (Family::V4, Some(p)) => {
                    Address { ip, len: p.prefix.len(), router: format_addr(family, p.router) }
                }
                (Family::V4, None) => Address { ip, len: 32, router: ip },
                (Family::V6, _) => {
                    Address { ip, len: 128, router: IpAddr::from([0xfe80, 0, 0, 0, 0, 0, 0, 1]) }
                }
            }
        })
        .collect();
    EndpointPlace {
        endpoint: id,
        netns: netns_name(prefix, 'e', &full),
        node: e.node,
        dev: e.dev.clone(),
        mac: e.mac.unwrap_or_else(|| derived_mac(&["endpoint", &full])),
        addresses,
        mtu: segment.mtu,
    }
}

fn externals(c: &Compiled, prefix: &str) -> Result<Vec<ExternalPlace>, LabError> {
    // (external, node, device) → next hops: two gateways may attach one external by one cable.
    let mut links: BTreeMap<(OwnerId, NodeId, &str), Vec<IpAddr>> = BTreeMap::new();
    let mut users: BTreeMap<(NodeId, &str), OwnerId> = BTreeMap::new();
    for gateway in c.model.gateways.values() {
        for attach in &gateway.attaches {
            let node = &c.model.nodes[attach.node];
            if node.dev == attach.dev {
                return Err(LabError::UnderlayAttach { node: node.name.clone(), dev: node.dev.clone() });
            }
            let user = *users.entry((attach.node, &attach.dev)).or_insert(attach.external);
            if user != attach.external {
                let name = |owner: OwnerId| c.model.owners[owner].name.clone();
                return Err(LabError::SharedDevice {
                    node: node.name.clone(),
                    dev: attach.dev.clone(),
                    first: name(user.min(attach.external)),
                    second: name(user.max(attach.external)),
                });
            }
            let hops = links.entry((attach.external, attach.node, &attach.dev)).or_default();
            hops.extend(&attach.next_hops);
            hops.sort_unstable();
            hops.dedup();
        }
    }
    let mut out: Vec<ExternalPlace> = Vec::new();
    for (number, ((owner, node, dev), next_hops)) in (0u16..).zip(links) {
        if out.last().is_none_or(|x| x.owner != owner) {
            let netns = netns_name(prefix, 'x', &c.model.owners[owner].name);
            out.push(ExternalPlace { owner, netns, links: Vec::new(), masquerades: Vec::new() });
        }
        if let Some(place) = out.last_mut() {
            let [high, low] = number.to_be_bytes();
            place.links.push(LinkPlace {
                node,
                dev: dev.to_owned(),
                peer: format!("l{}", place.links.len()),
                next_hops,
                local: IpAddr::from([169, 254, 128 | high, low]),
                local6: IpAddr::from([0xfe80, 0, 0, 0, 0, 0, 1, number]),
                mac: derived_mac(&["attach", &c.model.nodes[node].name, dev]),
            });
        }
    }
    for place in &mut out {
        place.masquerades = masquerades(c, place);
    }
    Ok(out)
}

/// The n-th address of a family belongs to the n-th instance.
fn masquerades(c: &Compiled, place: &ExternalPlace) -> Vec<(IpAddr, usize)> {
    let mut out = Vec::new();
    for gateway in c.model.gateways.values() {
        for masquerade in gateway.masquerades.iter().filter(|m| m.external == place.owner) {
            for v6 in [false, true] {
                let addresses = masquerade.addresses.iter().filter(|a| a.is_ipv6() == v6);
                for (address, instance) in addresses.zip(&gateway.instances) {
                    out.extend(
                        place.links.iter().position(|l| l.node == *instance).map(|link| (*address, link)),
                    );
                }
            }
        }
    }
    out.sort_unstable();
    out.dedup();
    out
}

/// `prefix-kind-name`; a name that is long is cut and told apart by a digest of the whole.
fn netns_name(prefix: &str, kind: char, name: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    if name.len() <= NAME_MAX && name.chars().all(plain) {
        return format!("{prefix}-{kind}-{name}");
    }
    let readable: String = name.chars().map(|c| if plain(c) { c } else { '_' }).take(NAME_MAX - 9).collect();
    // No declared name holds '~', so a shortened name never equals another one.
    format!("{prefix}-{kind}-{readable}~{}", digest(name))
}

/// The first 32 bits of BLAKE3, in hexadecimal.
fn digest(text: &str) -> String {
    blake3::hash(text.as_bytes()).to_hex().chars().take(8).collect()
}

/// A locally administered unicast MAC that depends on nothing but the name.
pub(crate) fn derived_mac(parts: &[&str]) -> [u8; 6] {
    let hash = blake3::hash(parts.join("\0").as_bytes());
    let mut mac = [0x02; 6];
    for (to, from) in mac.iter_mut().skip(1).zip(hash.as_bytes()) {
        *to = *from;
    }
    mac
}

/// As `ip` reads and prints it.
pub(crate) fn mac_text(mac: [u8; 6]) -> String {
    mac.iter().map(|b| format!("{b:02x}")).collect::<Vec<_>>().join(":")
}

#[cfg(test)]
mod tests {
    use super::netns_name;

    #[test]
    fn long_names_stay_apart_and_short() {
        let (a, b) = ("a".repeat(127), format!("{}b", "a".repeat(126)));
        let names = [netns_name("p", 'e', &a), netns_name("p", 'e', &b), netns_name("p", 'e', "shop.web-1")];
        assert_ne!(names[0], names[1]);
        assert!(names.iter().all(|n| n.len() <= 60), "{names:?}");
        assert_eq!(names[2], "p-e-shop.web-1");
    }
}
