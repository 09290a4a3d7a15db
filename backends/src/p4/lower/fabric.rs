//! What does not depend on decisions: ports, owners, ARP, VNIs, peers, gateways and their buckets.

use super::{Lowering, exact, mac_number, router};
use crate::p4::entries::Match;
use compiler::algebra::{Family, parse_addr};
use compiler::buckets;
use compiler::ids::{EndpointId, GatewayId, SegmentId};
use std::collections::BTreeSet;

impl Lowering<'_> {
    pub(super) fn fabric(&mut self) {
        let own = self.c.model.nodes[self.node].vtep;
        let note = self.c.model.nodes[self.node].name.clone();
        self.entries.put("router", Vec::new(), "set_router", vec![router(own)], &note);
        self.underlay();
        let endpoints: Vec<EndpointId> =
            self.c.model.endpoints.iter().filter(|(_, e)| e.node == self.node).map(|(id, _)| id).collect();
        for endpoint in endpoints {
            self.workload(endpoint);
        }
        self.vnis();
        self.peers();
        if !self.gateway {
            for gateway in self.concerned() {
                self.instances_of(gateway);
            }
        }
    }

    /// Underlay addresses are no tenant's.
    fn underlay(&mut self) {
        let vteps: Vec<_> = self.c.model.nodes.values().map(|n| (n.vtep, n.name.clone(), n.span)).collect();
        for (vtep, name, span) in vteps {
            let (family, value) = parse_addr(vtep);
            let note = format!("{name} {}", self.place(span));
            let table = if family == Family::V4 { "host4" } else { "host6" };
            self.entries.put(table, vec![exact(value)], "refuse", vec![self.reason("TO_HOST")], &note);
        }
    }

    fn workload(&mut self, id: EndpointId) {
        let e = self.c.model.endpoints[id].clone();
        let note = self.endpoint_note(id);
        let Some(port) = self.ports.get(&e.dev).copied() else { return };
        let space = u128::from(self.c.model.owners[e.tenant].id());
        let params = vec![space, self.vni(e.segment), self.mtu(e.segment)];
        self.put(e.tenant, "workload_port", vec![exact(port)], "from_workload", params, &note);
        let mac = e.mac.map_or(0, mac_number);
        let here = router(self.c.model.nodes[self.node].vtep);
        for address in &e.addresses {
            let (family, value) = parse_addr(*address);
            let key = vec![exact(port), exact(mac), exact(value)];
            let table = if family == Family::V4 { "owner4" } else { "owner6" };
            self.put(e.tenant, table, key, "accept_as_is", Vec::new(), &note);
            if family == Family::V6 {
                continue;
            }
            let key = vec![exact(port), exact(mac), exact(mac), exact(value)];
            self.put(e.tenant, "arp_owner", key, "accept_as_is", Vec::new(), &note);
            // Never for its own address.
            let own = vec![exact(port), Match::Lpm(value, 32)];
            let reason = self.reason("TO_HOST");
            self.put(e.tenant, "arp", own, "refuse", vec![reason], &note);
        }
        let prefixes: Vec<_> = self.c.model.segments[e.segment].prefixes.iter().map(|p| p.prefix).collect();
        for prefix in prefixes.into_iter().filter(|p| p.family == Family::V4) {
            let key = vec![exact(port), Match::Lpm(prefix.lo(), prefix.len())];
            self.put(e.tenant, "arp", key, "answer", vec![here], &note);
        }
    }

    /// VNIs that arrive here: of segments with an endpoint here; on a gateway node, of all that its gateways join.
    fn vnis(&mut self) {
        let tenants = self.tenants();
        let endpoints = self.c.model.endpoints.values();
        let mine = endpoints
            .filter(|e| if self.gateway { tenants.contains(&e.tenant) } else { e.node == self.node });
        let segments: BTreeSet<SegmentId> = mine.map(|e| e.segment).collect();
        for segment in segments {
            let tenant = self.c.model.segments[segment].tenant;
            let space = u128::from(self.c.model.owners[tenant].id());
            let params = vec![space, u128::from(self.gateway), self.mtu(segment)];
            let note = format!(
                "{}.{} {}",
                self.c.model.owners[tenant].name,
                self.c.model.segments[segment].name,
                self.place(self.c.model.segments[segment].span)
            );
            self.put(tenant, "served_vni", vec![exact(self.vni(segment))], "from_fabric", params, &note);
        }
    }

    fn peers(&mut self) {
        let own = self.c.model.nodes[self.node].vtep;
        let peers: Vec<_> = self.peers.iter().map(|(node, n)| (*node, *n)).collect();
        for (node, number) in peers {
            let there = &self.c.model.nodes[node];
            let note = format!("{} {}", there.name, self.place(there.span));
            let (family, address) = parse_addr(there.vtep);
            let (_, ours) = parse_addr(own);
            let (peer, action) =
                if family == Family::V4 { ("peer4", "encapsulate4") } else { ("peer6", "encapsulate6") };
            let params = vec![ours, address, router(own), router(there.vtep)];
            self.entries.put(
                peer,
                vec![exact(address), exact(ours)],
                "set_peer",
                vec![u128::from(number)],
                &note,
            );
            self.entries.put("vtep", vec![exact(number)], action, params, &note);
        }
    }

    /// The instances of a gateway, and who of them gets which bucket.
    fn instances_of(&mut self, id: GatewayId) {
        let gateway = self.c.model.gateways[id].clone();
        let Some(number) = self.gateways.get(&id).copied() else { return };
        let note = format!("{} {}", gateway.name, self.place(gateway.span));
        for &instance in &gateway.instances {
            let key = vec![exact(number), exact(self.peer(instance))];
            self.entries.put("member", key, "accept_as_is", Vec::new(), &note);
        }
        if let [only] = gateway.instances.as_slice() {
            if !self.down.contains(only) {
                self.entries.put(
                    "gateway",
                    vec![exact(number)],
                    "to_instance",
                    vec![self.peer(*only)],
                    &note,
                );
            }
            return;
        }
        self.entries.put("gateway", vec![exact(number)], "to_bucket", Vec::new(), &note);
        let cells = u8::try_from(buckets::CELLS).unwrap_or(u8::MAX);
        for high in 0..cells {
            for low in 0..=high {
                let live = buckets::live_instance(&self.c.model, &gateway, (low, high), self.down);
                let Some(instance) = live else { continue };
                let note = format!("{} {}", gateway.name, self.c.model.nodes[instance].name);
                let key = vec![exact(number), exact(low), exact(high)];
                self.entries.put("bucket", key, "to_instance", vec![self.peer(instance)], &note);
            }
        }
    }
}
