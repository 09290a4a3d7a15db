//! Which instance a packet passes: both directions of a connection, whatever has failed.

#![cfg(test)]

use lang::ast::{AffinityWord, Date};
use lang::span::FileId;
use partywall_compiler::algebra::Family;
use partywall_compiler::buckets::{CELLS, Direction, end_hash, packet_bucket, passes, port_hash};
use partywall_compiler::ids::NodeId;
use partywall_compiler::packet::{End, Flow};
use partywall_compiler::{Compiled, SourceFile, compile};

/// A gateway of three instances.
fn gateway(clauses: &str) -> Compiled {
    let text = format!(
        "fabric f {{ encap vxlan port 4789 underlay mtu 9000 family ipv4 precedence tenant delegate tenant }}
         node g1 {{ vtep 192.0.2.21 dev eth0 gateway }}
         node g2 {{ vtep 192.0.2.22 dev eth0 gateway }}
         node g3 {{ vtep 192.0.2.23 dev eth0 gateway }}
         tenant a id 1 {{ segment s vni 1 {{ 10.1.0.0/24 }} }}
         tenant b id 2 {{ segment s vni 2 {{ 10.2.0.0/24 }} }}
         gateway edge {{ joins a, b instances g1, g2, g3 {clauses} }}"
    );
    let parsed = lang::parse(FileId(0), &text);
    let file = SourceFile { id: FileId(0), path: "policy.pw", text: &text, tree: &parsed.file };
    compile(&[file], Date { year: 2026, month: 11, day: 21 }).compiled
}

fn flows() -> impl Iterator<Item = Flow> {
    let owners = [0, 1].map(partywall_compiler::ids::OwnerId);
    (0..2_000u128).map(move |n| Flow {
        src: End { owner: owners[0], address: 0x0a01_0000 + n % 251 },
        dst: End { owner: owners[1], address: 0x0a02_0000 + n / 7 },
        family: Family::V4,
        protocol: [6, 17, 1, 47][(n % 4) as usize],
        x: if n % 4 < 2 { 40_000 + (n % 97) as u16 } else { 0 },
        y: if n % 4 < 2 { 443 } else { 0 },
    })
}

/// With all alive, and after each single failure.
fn failures(c: &Compiled) -> Vec<Vec<NodeId>> {
    std::iter::once(vec![]).chain(c.model.nodes.ids().map(|n| vec![n])).collect()
}

#[test]
fn an_unordered_pair_of_ends_is_the_same_both_ways() {
    for affinity in ["symmetric", "flow"] {
        for failure in ["rehash", "drop"] {
            let c = gateway(&format!("stateful affinity {affinity} on-failure {failure}"));
            let id = c.model.gateways.ids().next().unwrap();
            let mut used = std::collections::BTreeSet::new();
            for (flow, down) in flows().flat_map(|f| failures(&c).into_iter().map(move |d| (f, d))) {
                let at = |direction| passes(&c.model, id, &flow, direction, &down);
                assert_eq!(
                    at(Direction::Request),
                    at(Direction::Reply),
                    "{affinity} {failure} {flow:?} {down:?}"
                );
                // A reply is a packet of the other end.
                let reply = Flow { src: flow.dst, dst: flow.src, x: flow.y, y: flow.x, ..flow };
                assert_eq!(passes(&c.model, id, &reply, Direction::Request, &down), at(Direction::Request));
                assert!(at(Direction::Request).is_none_or(|n| !down.contains(&n)));
                used.insert(at(Direction::Request));
            }
            let gone = usize::from(failure == "drop");
            assert_eq!(used.len(), 3 + gone, "{affinity} {failure}: {used:?}");
        }
    }
}

#[test]
fn a_failure_moves_the_failed_instances_connections_alone() {
    let c = gateway("stateful");
    let id = c.model.gateways.ids().next().unwrap();
    for (flow, down) in flows().flat_map(|f| failures(&c).into_iter().map(move |d| (f, d))) {
        let at = |down: &[NodeId]| passes(&c.model, id, &flow, Direction::Request, down).unwrap();
        assert!(at(&down) == at(&[]) || down.contains(&at(&[])), "{flow:?} {down:?}");
    }
}

#[test]
fn the_source_alone_is_the_senders() {
    for flow in flows() {
        let of = |address| end_hash(Family::V4, address);
        let (there, back) = (of(flow.src.address), of(flow.dst.address));
        assert_eq!(packet_bucket(AffinityWord::Source, &flow, Direction::Request), (there, there));
        assert_eq!(packet_bucket(AffinityWord::Source, &flow, Direction::Reply), (back, back));
    }
}

#[test]
fn ports_take_part_under_flow_only() {
    let cells: std::collections::BTreeSet<u8> =
        (0..512).map(|port| port_hash(Family::V4, 0x0a01_0005, port)).collect();
    assert!(cells.len() as u32 > CELLS / 2 && cells.iter().all(|c| u32::from(*c) < CELLS));
    let flow = flows().next().unwrap();
    let other = Flow { x: flow.x + 1, ..flow };
    let bucket = |affinity, f: &Flow| packet_bucket(affinity, f, Direction::Request);
    assert_eq!(bucket(AffinityWord::Symmetric, &flow), bucket(AffinityWord::Symmetric, &other));
    assert_ne!(bucket(AffinityWord::Flow, &flow), bucket(AffinityWord::Flow, &other));
    // Other protocols have no ports: their fields are not hashed.
    let ping = Flow { protocol: 1, x: 8, y: 0, ..flow };
    let answer = Flow { x: 0, ..ping };
    assert_eq!(bucket(AffinityWord::Flow, &ping), bucket(AffinityWord::Flow, &answer));
}
