//! Numbers and addresses that must be one thing's own: VNIs, tenant ids, segments, endpoints, VTEPs, MTUs.

use super::{names, owner, segment, shown};
use crate::algebra::{Family, Prefix, format_addr, parse_addr};
use crate::ids::{NodeId, OwnerId, SegmentId};
use crate::model::Model;
use crate::report::Report;
use lang::ast::EncapKind;
use lang::codes::Code;
use lang::diag::Diagnostic;
use lang::span::Span;
use std::collections::BTreeSet;
use std::net::IpAddr;

/// Number of conntrack zones: 1..=65535 (a zone has 16 bits and zone 0 is the default).
const ZONES: u32 = 65_535;

pub fn check(model: &Model, report: &mut Report) {
    vnis(model, report);
    tenant_ids(model, report);
    segments(model, report);
    mtus(model, report);
    vteps(model, report);
    vteps_inside(model, report);
    endpoints_outside(model, report);
    endpoints_on_gateways(model, report);
    addresses(model, report);
    macs(model, report);
    devices(model, report);
}

/// PW0202
fn vnis(model: &Model, report: &mut Report) {
    let mut all: Vec<(u32, Span, SegmentId)> =
        model.segments.iter().map(|(id, s)| (s.vni, s.vni_span, id)).collect();
    all.sort_unstable();
    let used: BTreeSet<u32> = all.iter().map(|(vni, ..)| *vni).collect();
    for same in all.chunk_by(|a, b| a.0 == b.0) {
        let Some((&(vni, first_span, first), rest)) = same.split_first() else { continue };
        for &(_, span, id) in rest {
            let mut finding = Diagnostic::new(
                Code::PW0202,
                span,
                format!(
                    "segments `{}` and `{}` have one VNI, {vni}: two networks would become one",
                    segment(model, first),
                    segment(model, id)
                ),
            )
            .label(format!("VNI of `{}`", segment(model, id)))
            .related(first_span, format!("VNI of `{}`", segment(model, first)));
            if let Some(free) = (vni..=0x00ff_ffff).chain(1..vni).find(|candidate| !used.contains(candidate))
            {
                finding = finding
                    .help(format!("a VNI belongs to one segment of the whole project; {free} is free"));
            }
            report.push(finding);
        }
    }
}

fn zone(id: u32) -> u32 {
    1 + id.saturating_sub(1) % ZONES
}

/// PW0209
fn tenant_ids(model: &Model, report: &mut Report) {
    // An id that lowering could not take is 0 and has been reported.
    let mut all: Vec<(u32, Span, OwnerId)> = model
        .owners
        .iter()
        .filter(|(_, o)| o.id() != 0)
        .map(|(id, o)| (zone(o.id()), o.id_span, id))
        .collect();
    all.sort_unstable();
    let zones: BTreeSet<u32> = all.iter().map(|(zone, ..)| *zone).collect();
    let free = (1..=ZONES).find(|candidate| !zones.contains(candidate));
    for same in all.chunk_by(|a, b| a.0 == b.0) {
        let Some((&(zone, first_span, first), rest)) = same.split_first() else { continue };
        for &(_, span, tenant) in rest {
            let (a, b) = (&model.owners[first], &model.owners[tenant]);
            let message = if a.id() == b.id() {
                format!("tenants `{}` and `{}` have one id, {}", a.name, b.name, a.id())
            } else {
                format!(
                    "the ids of tenants `{}` and `{}` give one conntrack zone: 1 + ({} - 1) mod {ZONES} = 1 + ({} - 1) mod \
                     {ZONES} = {zone}",
                    a.name,
                    b.name,
                    a.id(),
                    b.id()
                )
            };
            report.push(
                Diagnostic::new(Code::PW0209, span, message)
                    .label(format!("id of `{}`", b.name))
                    .related(first_span, format!("id of `{}`", a.name))
                    .help(match free {
                        Some(id) => {
                            format!("marks, routing tables and zones derive from the id; {id} is free")
                        }
                        None => format!("all {ZONES} conntrack zones are taken: no id is free"),
                    }),
            );
        }
    }
}

/// PW0203
fn segments(model: &Model, report: &mut Report) {
    let mut all: Vec<(OwnerId, Family, u128, u8, Span, SegmentId, Prefix)> = model
        .segments
        .iter()
        .flat_map(|(id, s)| s.prefixes.iter().map(move |p| (id, s.tenant, p)))
        .map(|(id, tenant, p)| (tenant, p.prefix.family, p.prefix.lo(), p.prefix.len(), p.span, id, p.prefix))
        .collect();
    all.sort_unstable();
    // Prefixes nest or are disjoint, so the last one that was not itself inside another is the only candidate.
    let mut outer: Option<(OwnerId, Span, SegmentId, Prefix)> = None;
    for (tenant, _, _, _, span, id, prefix) in all {
        match outer {
            Some((of, outer_span, outer_id, outer_prefix))
                if of == tenant && outer_prefix.contains(prefix) =>
            {
                let (first, second) = if outer_span < span {
                    ((outer_span, outer_id, outer_prefix), (span, id, prefix))
                } else {
                    ((span, id, prefix), (outer_span, outer_id, outer_prefix))
                };
                report.taint(tenant);
                let (first_name, second_name) = (segment(model, first.1), segment(model, second.1));
                let message = if first.1 == second.1 {
                    format!("two prefixes of segment `{first_name}` overlap, {} and {}", first.2, second.2)
                } else {
                    format!(
                        "segments `{first_name}` ({}) and `{second_name}` ({}) overlap",
                        first.2, second.2
                    )
                };
                report.push(
                    Diagnostic::new(Code::PW0203, second.0, message)
                        .label(format!("{} of `{second_name}`", second.2))
                        .related(first.0, format!("{} of `{first_name}`", first.2))
                        .help(
                            "an address of a tenant lies in one of its segments: make the prefixes disjoint",
                        ),
                );
            }
            _ => outer = Some((tenant, span, id, prefix)),
        }
    }
}

/// PW0208
fn mtus(model: &Model, report: &mut Report) {
    let fabric = &model.fabric;
    let Some(underlay) = fabric.underlay_span else { return };
    let overhead = fabric.overhead();
    let largest = fabric.underlay_mtu.saturating_sub(overhead);
    let (outer_ip, family) = match fabric.underlay_family {
        Family::V4 => (20, "IPv4"),
        Family::V6 => (40, "IPv6"),
    };
    let encap = match fabric.encap {
        EncapKind::Vxlan => "VXLAN",
        EncapKind::Geneve => "Geneve",
    };
    for (id, s) in model.segments.iter() {
        let Some(span) = s.mtu_span else { continue };
        if s.mtu <= largest {
            continue;
        }
        report.push(
            Diagnostic::new(
                Code::PW0208,
                span,
                format!(
                    "MTU {} of segment `{}` is {} over the underlay's budget of {largest} bytes",
                    s.mtu,
                    segment(model, id),
                    s.mtu - largest
                ),
            )
            .label(format!("at most {largest} fits"))
            .related(underlay, "the underlay's MTU")
            .note(format!(
                "{} (underlay) - {outer_ip} ({family}) - 8 (UDP) - 8 ({encap}) - 14 (inner Ethernet) = {largest}",
                fabric.underlay_mtu
            ))
            .help(format!(
                "write `mtu {largest}` or less, or leave it out; or raise the underlay's MTU to {}",
                u64::from(s.mtu) + u64::from(overhead)
            )),
        );
    }
}

/// PW0207
fn vteps(model: &Model, report: &mut Report) {
    let family = model.fabric.underlay_family;
    let mut all: Vec<(IpAddr, Span, NodeId)> =
        model.nodes.iter().map(|(id, n)| (n.vtep, n.vtep_span, id)).collect();
    all.sort_unstable();
    for same in all.chunk_by(|a, b| a.0 == b.0) {
        let Some((&(vtep, first_span, first), rest)) = same.split_first() else { continue };
        for &(_, span, node) in rest {
            let (a, b) = (&model.nodes[first].name, &model.nodes[node].name);
            report.push(
                Diagnostic::new(
                    Code::PW0207,
                    span,
                    format!("nodes `{a}` and `{b}` have one VTEP address, {vtep}"),
                )
                .label(format!("VTEP of `{b}`"))
                .related(first_span, format!("VTEP of `{a}`"))
                .help("give each node a VTEP address of its own"),
            );
        }
    }
    let Some(underlay) = model.fabric.underlay_span else { return };
    for node in model.nodes.values() {
        let (own, _) = parse_addr(node.vtep);
        if own != family {
            report.push(
                Diagnostic::new(
                    Code::PW0207,
                    node.vtep_span,
                    format!(
                        "VTEP {} of node `{}` is {}, but the underlay is {}",
                        node.vtep,
                        node.name,
                        own.as_str(),
                        family.as_str()
                    ),
                )
                .label(format!("an {} address", own.as_str()))
                .related(underlay, "the underlay's family")
                .help(format!("write the node's {} address", family.as_str())),
            );
        }
    }
}

/// PW0308
fn vteps_inside(model: &Model, report: &mut Report) {
    let mut vteps: Vec<(Family, u128, NodeId)> = model
        .nodes
        .iter()
        .map(|(id, n)| {
            let (family, value) = parse_addr(n.vtep);
            (family, value, id)
        })
        .collect();
    vteps.sort_unstable();
    let inside = |prefix: Prefix| -> &[(Family, u128, NodeId)] {
        let from = vteps.partition_point(|v| (v.0, v.1) < (prefix.family, prefix.lo()));
        let to = vteps.partition_point(|v| (v.0, v.1) <= (prefix.family, prefix.hi()));
        vteps.get(from..to).unwrap_or_default()
    };
    let mut seen: BTreeSet<(Span, Prefix)> = BTreeSet::new();
    let mut judge = |prefix: Prefix, span: Span, what: String, report: &mut Report| {
        let Some(&(_, _, node)) = inside(prefix).first() else { return };
        if !seen.insert((span, prefix)) {
            return;
        }
        let node = &model.nodes[node];
        report.push(
            Diagnostic::new(
                Code::PW0308,
                span,
                format!(
                    "{what} {} holds the VTEP address {} of node `{}`",
                    shown(prefix),
                    node.vtep,
                    node.name
                ),
            )
            .label(format!("holds {}", node.vtep))
            .related(node.vtep_span, format!("VTEP of `{}`", node.name))
            .help("underlay addresses belong to no tenant: use a prefix without any node's address"),
        );
    };
    for (id, s) in model.segments.iter() {
        for p in &s.prefixes {
            judge(p.prefix, p.span, format!("segment `{}`'s", segment(model, id)), report);
        }
    }
    for exposure in model.exposures.values() {
        if exposure.translates {
            for mapping in &exposure.presented {
                judge(mapping.seen, exposure.as_span, "the presented prefix".into(), report);
            }
        }
        if exposure.translates_clients {
            for (_, mapping) in &exposure.shown {
                judge(mapping.seen, exposure.clients_as_span, "the client prefix".into(), report);
            }
        }
    }
    for gateway in model.gateways.values() {
        for masquerade in &gateway.masquerades {
            for address in &masquerade.addresses {
                let (family, value) = parse_addr(*address);
                let what = format!("the masquerade of `{}`", model.owners[masquerade.tenant].name);
                judge(Prefix::host(family, value), masquerade.as_span, what, report);
            }
        }
    }
}

fn endpoint(model: &Model, tenant: OwnerId, name: &str) -> String {
    format!("{}.{name}", model.owners[tenant].name)
}

/// PW0205
fn endpoints_outside(model: &Model, report: &mut Report) {
    for e in &model.hosts {
        let s = &model.segments[e.segment];
        for (address, span) in e.addresses.iter().zip(&e.address_spans) {
            let (family, value) = parse_addr(*address);
            let holds = |p: &Prefix| p.family == family && p.contains_addr(value);
            if s.prefixes.iter().any(|p| holds(&p.prefix)) {
                continue;
            }
            let mut finding = Diagnostic::new(
                Code::PW0205,
                *span,
                format!(
                    "address {address} of endpoint `{}` is outside its segment `{}`",
                    endpoint(model, e.tenant, &e.name),
                    segment(model, e.segment)
                ),
            )
            .label("in none of the segment's prefixes");
            for p in &s.prefixes {
                finding =
                    finding.related(p.span, format!("`{}` has {}", segment(model, e.segment), p.prefix));
            }
            let home = model.segments.iter().find(|(_, other)| {
                other.tenant == e.tenant && other.prefixes.iter().any(|p| holds(&p.prefix))
            });
            finding = finding.help(match home {
                Some((id, _)) => format!("{address} lies in segment `{}`: name that one", segment(model, id)),
                None => {
                    let prefixes: Vec<String> = s.prefixes.iter().map(|p| p.prefix.to_string()).collect();
                    format!("choose an address of {}", prefixes.join(" or "))
                }
            });
            report.push(finding);
        }
    }
}

/// PW0210
fn endpoints_on_gateways(model: &Model, report: &mut Report) {
    let compute: Vec<&str> = model.nodes.values().filter(|n| !n.gateway).map(|n| n.name.as_str()).collect();
    for e in model.endpoints.values() {
        let node = &model.nodes[e.node];
        if !node.gateway {
            continue;
        }
        let mut finding = Diagnostic::new(
            Code::PW0210,
            e.node_span,
            format!(
                "endpoint `{}` is on `{}`, a gateway node",
                endpoint(model, e.tenant, &e.name),
                node.name
            ),
        )
        .label("hosts gateway instances")
        .related(node.span, format!("`{}` has the word `gateway`", node.name));
        finding = finding.help(if compute.is_empty() {
            "put it on a node without the word `gateway`".into()
        } else {
            format!("put it on a node without the word `gateway`: {}", names(&compute))
        });
        report.push(finding);
    }
}

/// PW0206, addresses: per tenant, router addresses included.
fn addresses(model: &Model, report: &mut Report) {
    // Routers sort before endpoints, so that the endpoint is the one in error.
    let mut all: Vec<(OwnerId, IpAddr, bool, Span, String)> = Vec::new();
    for (id, s) in model.segments.iter() {
        for p in &s.prefixes {
            let address = format_addr(p.prefix.family, p.router);
            let what = format!("the router address of `{}`", segment(model, id));
            all.push((s.tenant, address, false, p.span, what));
        }
    }
    for e in &model.hosts {
        for (address, span) in e.addresses.iter().zip(&e.address_spans) {
            all.push((
                e.tenant,
                *address,
                true,
                *span,
                format!("endpoint `{}`", endpoint(model, e.tenant, &e.name)),
            ));
        }
    }
    all.sort_unstable();
    for same in all.chunk_by(|a, b| (a.0, a.1) == (b.0, b.1)) {
        let Some(((tenant, address, _, first_span, first), rest)) = same.split_first() else { continue };
        // Two segments with one router address overlap, which PW0203 says.
        for (_, _, _, span, what) in rest.iter().filter(|entry| entry.2) {
            let message = if what == first {
                format!("{what} has the address {address} twice")
            } else {
                format!("address {address} of {} is used twice, by {first} and {what}", owner(model, *tenant))
            };
            report.push(
                Diagnostic::new(Code::PW0206, *span, message)
                    .label(format!("also {address}"))
                    .related(*first_span, format!("{address}: {first}"))
                    .help("give each endpoint an address of its own, other than the router's"),
            );
        }
    }
}

/// PW0206, MACs: in the whole project.
fn macs(model: &Model, report: &mut Report) {
    let mut all: Vec<([u8; 6], Span, String)> = model
        .hosts
        .iter()
        .filter_map(|e| e.mac.map(|mac| (mac, e.mac_span, endpoint(model, e.tenant, &e.name))))
        .collect();
    all.sort_unstable();
    for same in all.chunk_by(|a, b| a.0 == b.0) {
        let Some(((mac, first_span, first), rest)) = same.split_first() else { continue };
        let mac: Vec<String> = mac.iter().map(|byte| format!("{byte:02x}")).collect();
        let mac = mac.join(":");
        for (_, span, name) in rest {
            report.push(
                Diagnostic::new(
                    Code::PW0206,
                    *span,
                    format!("MAC {mac} is used twice, by endpoints `{first}` and `{name}`"),
                )
                .label(format!("MAC of `{name}`"))
                .related(*first_span, format!("MAC of `{first}`"))
                .help("give each endpoint a MAC of its own"),
            );
        }
    }
}

/// What uses a device of a node.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
enum DeviceUse {
    Underlay,
    Endpoint(String),
    /// Two gateways may reach one external through one device.
    Attach(OwnerId),
}

/// PW0206, devices: per node.
fn devices(model: &Model, report: &mut Report) {
    // The underlay's device sorts first: it is never the one in error.
    let mut all: Vec<(NodeId, &str, bool, Span, DeviceUse)> = Vec::new();
    for (id, node) in model.nodes.iter() {
        all.push((id, &node.dev, false, node.span, DeviceUse::Underlay));
    }
    for e in model.endpoints.values() {
        all.push((e.node, &e.dev, true, e.dev_span, DeviceUse::Endpoint(endpoint(model, e.tenant, &e.name))));
    }
    for attach in model.gateways.values().flat_map(|g| &g.attaches) {
        all.push((attach.node, &attach.dev, true, attach.span, DeviceUse::Attach(attach.external)));
    }
    all.sort_unstable();
    let describe = |used: &DeviceUse| match used {
        DeviceUse::Underlay => "the underlay".to_owned(),
        DeviceUse::Endpoint(name) => format!("endpoint `{name}`"),
        DeviceUse::Attach(external) => owner(model, *external),
    };
    for same in all.chunk_by(|a, b| (a.0, a.1) == (b.0, b.1)) {
        let Some(((node, dev, _, first_span, first), rest)) = same.split_first() else { continue };
        for (_, _, _, span, used) in rest {
            if matches!(used, DeviceUse::Attach(_)) && used == first {
                continue;
            }
            report.push(
                Diagnostic::new(
                    Code::PW0206,
                    *span,
                    format!(
                        "device \"{dev}\" of node `{}` is used twice, by {} and {}",
                        model.nodes[*node].name,
                        describe(first),
                        describe(used)
                    ),
                )
                .label(format!("\"{dev}\" for {}", describe(used)))
                .related(*first_span, format!("\"{dev}\" for {}", describe(first)))
                .help("the device says whose a packet is: give each a device of its own on the node"),
            );
        }
    }
}
