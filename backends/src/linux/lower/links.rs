//! Devices, neighbours, FDB entries, tables.

use super::Lowering;
use crate::iproute2::{Device, Fdb, Noted, Route, Target};
use crate::linux::numbers;
use compiler::algebra::{Family, Prefix, parse_addr};
use compiler::ids::{EndpointId, NodeId, OwnerId, SegmentId};
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

#[derive(Default)]
pub(crate) struct Links {
    pub devices: Vec<Noted<Device>>,
    pub fdb: Vec<Noted<Fdb>>,
    /// Routes by table (slot 0).
    pub tables: BTreeMap<u32, Vec<Noted<Route>>>,
    /// Devices of workloads, for the settings that are no `ip` command.
    pub workloads: BTreeSet<String>,
    vxlans: BTreeSet<u32>,
    peers: BTreeSet<(u32, NodeId)>,
}

/// The address that hosts may use as their router on every device.
const ROUTER4: Ipv4Addr = Ipv4Addr::new(169, 254, 1, 1);
/// Likewise, and what neighbour discovery answers for.
const ROUTER6: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1);

impl Lowering<'_> {
    /// The VXLAN device of a segment, once.
    pub(super) fn vxlan(&mut self, segment: SegmentId) -> String {
        let s = &self.c.model.segments[segment];
        let name = numbers::vxlan_name(s.vni);
        if self.links.vxlans.insert(s.vni) {
            let node = &self.c.model.nodes[self.node];
            let note =
                format!("{}.{} {}", self.c.model.owners[s.tenant].name, s.name, self.place(s.vni_span));
            let link = Device::Vxlan {
                name: name.clone(),
                mac: numbers::router_mac(node.vtep),
                vni: s.vni,
                port: self.c.model.fabric.port,
                local: node.vtep,
                dev: node.dev.clone(),
            };
            self.links.devices.push(Noted { what: link, note: note.clone() });
            self.links.devices.push(Noted { what: Device::Fabric { name: name.clone(), mtu: s.mtu }, note });
        }
        name
    }

    /// The VXLAN device of a segment with the way to one node.
    pub(super) fn peer(&mut self, segment: SegmentId, node: NodeId) -> String {
        let dev = self.vxlan(segment);
        if self.links.peers.insert((self.c.model.segments[segment].vni, node)) {
            let there = &self.c.model.nodes[node];
            let (vtep, mac) = (there.vtep, numbers::router_mac(there.vtep));
            let note = format!("{} {}", there.name, self.place(there.span));
            let hops = [hop(Family::V4, vtep), hop(Family::V6, vtep)];
            for address in BTreeSet::from(hops) {
                let what = Device::Neighbour { dev: dev.clone(), address, mac };
                self.links.devices.push(Noted { what, note: note.clone() });
            }
            self.links.fdb.push(Noted { what: Fdb { dev: dev.clone(), mac, vtep }, note });
        }
        dev
    }

    pub(super) fn route(&mut self, table: u32, family: Family, prefix: String, target: Target, note: String) {
        let what = Route { table, family, prefix, target };
        self.links.tables.entry(table).or_default().push(Noted { what, note });
    }

    /// A table that ends in a drop of its own, in both families.
    pub(super) fn table(&mut self, table: u32, note: &str) {
        if self.links.tables.contains_key(&table) {
            return;
        }
        for family in Family::BOTH {
            self.route(table, family, everything(family), Target::Unreachable, note.to_owned());
        }
    }

    /// The route to an endpoint's address in its tenant's or a neighbour's table.
    pub(super) fn endpoint_route(&mut self, table: u32, endpoint: EndpointId) {
        let e = &self.c.model.endpoints[endpoint];
        let note = self.endpoint_note(endpoint);
        for address in e.addresses.clone() {
            let (family, value) = parse_addr(address);
            let prefix = Prefix::host(family, value).to_string();
            let target = if e.node == self.node {
                Target::Dev(e.dev.clone())
            } else {
                let dev = self.peer(e.segment, e.node);
                Target::Via { hop: hop(family, self.c.model.nodes[e.node].vtep), dev }
            };
            self.route(table, family, prefix, target, note.clone());
        }
    }

    /// The device of an endpoint that lives here.
    pub(super) fn workload(&mut self, endpoint: EndpointId) {
        let e = &self.c.model.endpoints[endpoint];
        let note = self.endpoint_note(endpoint);
        let node_mac = numbers::router_mac(self.c.model.nodes[self.node].vtep);
        let dev = e.dev.clone();
        self.links.workloads.insert(dev.clone());
        let mut push = |what| self.links.devices.push(Noted { what, note: note.clone() });
        push(Device::Workload { name: dev.clone(), mac: node_mac });
        push(Device::Address { dev: dev.clone(), address: format!("{ROUTER4}/32"), v6: false });
        push(Device::Address { dev: dev.clone(), address: format!("{ROUTER6}/64"), v6: true });
        if let Some(mac) = e.mac {
            for address in &e.addresses {
                push(Device::Neighbour { dev: dev.clone(), address: *address, mac });
            }
        }
        let own: BTreeSet<IpAddr> = e.addresses.iter().copied().collect();
        if !own.iter().any(IpAddr::is_ipv6) {
            return;
        }
        let segment = &self.c.model.segments[e.segment];
        let routers = segment
            .prefixes
            .iter()
            .filter(|p| p.prefix.family == Family::V6)
            .map(|p| compiler::algebra::format_addr(Family::V6, p.router));
        let others = self
            .c
            .model
            .endpoints
            .values()
            .filter(|o| o.segment == e.segment)
            .flat_map(|o| o.addresses.iter().copied())
            .filter(IpAddr::is_ipv6);
        let answered: BTreeSet<IpAddr> = routers.chain(others).filter(|a| !own.contains(a)).collect();
        for address in answered {
            push(Device::Proxy { dev: dev.clone(), address });
        }
    }

    /// A tenant's table on a node with some of its workloads: every endpoint, and the segments' own IPv4 prefixes and
    /// IPv6 routers, which the kernel consults before it answers for an address. (Nothing is forwarded along them: an address
    /// without an endpoint has no destination class.)
    pub(super) fn tenant_table(&mut self, tenant: OwnerId, segments: &BTreeSet<SegmentId>) {
        let id = self.c.model.owners[tenant].id();
        let mark = numbers::tenant_mark(id);
        self.table(mark, &self.owner_note(tenant));
        let endpoints: Vec<EndpointId> =
            self.c.model.endpoints.iter().filter(|(_, e)| e.tenant == tenant).map(|(id, _)| id).collect();
        for endpoint in endpoints {
            self.endpoint_route(mark, endpoint);
        }
        for &segment in segments {
            let dev = self.vxlan(segment);
            let s = &self.c.model.segments[segment];
            let note = self.place(s.span);
            let ways: Vec<(Family, Prefix)> = s
                .prefixes
                .iter()
                .map(|p| match p.prefix.family {
                    Family::V4 => (Family::V4, p.prefix),
                    Family::V6 => (Family::V6, Prefix::host(Family::V6, p.router)),
                })
                .collect();
            for (family, prefix) in ways {
                self.route(mark, family, prefix.to_string(), Target::Dev(dev.clone()), note.clone());
            }
        }
    }
}

/// The next hop towards a node on its VXLAN devices.
pub(super) fn hop(family: Family, vtep: IpAddr) -> IpAddr {
    match (family, vtep) {
        (Family::V4, IpAddr::V4(_)) => vtep,
        _ => numbers::hop6(vtep),
    }
}

/// `0.0.0.0/0`, `::/0`
pub(super) fn everything(family: Family) -> String {
    Prefix::new(family, 0, 0).to_string()
}
