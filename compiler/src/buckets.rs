//! Which instance of a gateway a packet passes: buckets over the real ends, mapped to instances by rendezvous hashing.
//! Every target, the trace, the checks and the lab use these functions.

use crate::algebra::Family;
use crate::ids::{GatewayId, NodeId};
use crate::model::{Gateway, Model};
use crate::packet::{Fields, Flow, fields};
use lang::ast::{AffinityWord, OnFailureWord};

/// The seed of [`end_hash`].
pub const SEED: u32 = 0x5057;
/// Values of [`end_hash`].
pub const CELLS: u32 = 64;

/// Linux `jhash` (include/linux/jhash.h, after Bob Jenkins' lookup3) as a little-endian machine computes it.
#[must_use]
pub fn jhash(key: &[u8], seed: u32) -> u32 {
    let length = u32::try_from(key.len()).unwrap_or(u32::MAX);
    let start = 0xdead_beef_u32.wrapping_add(length).wrapping_add(seed);
    let (mut a, mut b, mut c) = (start, start, start);
    // A word of up to four bytes, missing ones zero.
    let word = |bytes: &[u8], at: usize| {
        (0..4).fold(0u32, |word, i| word | u32::from(bytes.get(at + i).copied().unwrap_or(0)) << (8 * i))
    };
    let mut rest = key;
    while rest.len() > 12 {
        a = a.wrapping_add(word(rest, 0));
        b = b.wrapping_add(word(rest, 4));
        c = c.wrapping_add(word(rest, 8));
        for (shift_a, shift_b, shift_c) in [(4, 6, 8), (16, 19, 4)] {
            a = a.wrapping_sub(c) ^ c.rotate_left(shift_a);
            c = c.wrapping_add(b);
            b = b.wrapping_sub(a) ^ a.rotate_left(shift_b);
            a = a.wrapping_add(c);
            c = c.wrapping_sub(b) ^ b.rotate_left(shift_c);
            b = b.wrapping_add(a);
        }
        rest = rest.get(12..).unwrap_or_default();
    }
    if rest.is_empty() {
        return c;
    }
    a = a.wrapping_add(word(rest, 0));
    b = b.wrapping_add(word(rest, 4));
    c = c.wrapping_add(word(rest, 8));
    c = (c ^ b).wrapping_sub(b.rotate_left(14));
    a = (a ^ c).wrapping_sub(c.rotate_left(11));
    b = (b ^ a).wrapping_sub(a.rotate_left(25));
    c = (c ^ b).wrapping_sub(b.rotate_left(16));
    a = (a ^ c).wrapping_sub(c.rotate_left(4));
    b = (b ^ a).wrapping_sub(a.rotate_left(14));
    (c ^ b).wrapping_sub(b.rotate_left(24))
}

/// `h(end)`: the cell of a real address, 0..64. "mod" is the kernel's `reciprocal_scale`, which nftables' `jhash … mod`
/// computes: the high bits of the hash.
#[must_use]
pub fn end_hash(family: Family, address: u128) -> u8 {
    let bytes = address.to_be_bytes();
    cell(key(family, &bytes))
}

/// The cell of an end under `affinity flow`: of its address, network order, followed by its port in network order and two
/// zero bytes. Protocols without ports have port 0.
#[must_use]
pub fn port_hash(family: Family, address: u128, port: u16) -> u8 {
    let bytes = address.to_be_bytes();
    let mut padded = key(family, &bytes).to_vec();
    padded.extend(port.to_be_bytes());
    padded.extend([0, 0]);
    cell(&padded)
}

/// An address as it is hashed: 4 or 16 bytes, network order.
fn key(family: Family, bytes: &[u8; 16]) -> &[u8] {
    match family {
        Family::V4 => bytes.get(12..).unwrap_or_default(),
        Family::V6 => bytes.as_slice(),
    }
}

fn cell(key: &[u8]) -> u8 {
    let scaled = (u64::from(jhash(key, SEED)) * u64::from(CELLS)) >> 32;
    u8::try_from(scaled).unwrap_or(0)
}

/// One of the two directions of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Direction {
    /// From the end that opened it.
    Request,
    Reply,
}

/// An unordered pair of cells, the smaller first: one of 2,080 buckets.
#[must_use]
pub fn bucket(a: u8, b: u8) -> (u8, u8) {
    (a.min(b), a.max(b))
}

/// The bucket of a packet of this connection. Under `symmetric` and `flow` it is an unordered pair of the two ends', the same for
/// both directions; under `source` it is the sender's cell alone, paired with itself.
#[must_use]
pub fn packet_bucket(affinity: AffinityWord, flow: &Flow, direction: Direction) -> (u8, u8) {
    let (src, dst) = (flow.src.address, flow.dst.address);
    match affinity {
        AffinityWord::Symmetric => bucket(end_hash(flow.family, src), end_hash(flow.family, dst)),
        AffinityWord::Flow => {
            let (x, y) = if fields(flow.protocol) == Fields::Ports { (flow.x, flow.y) } else { (0, 0) };
            bucket(port_hash(flow.family, src, x), port_hash(flow.family, dst, y))
        }
        AffinityWord::Source => {
            let sender = if direction == Direction::Request { src } else { dst };
            let cell = end_hash(flow.family, sender);
            bucket(cell, cell)
        }
    }
}

/// The instance that a bucket maps to: highest random weight over the instances' names, so that losing one of n moves
/// 1/n of the buckets and no others. `None` without instances.
#[must_use]
pub fn instance_of(model: &Model, instances: &[NodeId], bucket: (u8, u8)) -> Option<NodeId> {
    instances.iter().copied().max_by_key(|node| {
        let name = &model.nodes[*node].name;
        (weight(name, bucket), std::cmp::Reverse(name.as_str()))
    })
}

/// The weight of an instance for a bucket.
fn weight(name: &str, bucket: (u8, u8)) -> [u8; 8] {
    let mut hasher = blake3::Hasher::new();
    hasher.update(name.as_bytes());
    hasher.update(&[0, bucket.0, bucket.1]);
    let mut weight = [0; 8];
    for (to, from) in weight.iter_mut().zip(hasher.finalize().as_bytes()) {
        *to = *from;
    }
    weight
}

/// The instance that a bucket is given to when those in `down` have failed: the next one by weight, or none if the gateway says
/// `on-failure drop`.
#[must_use]
pub fn live_instance(model: &Model, gateway: &Gateway, bucket: (u8, u8), down: &[NodeId]) -> Option<NodeId> {
    let up = |node: &NodeId| !down.contains(node);
    match gateway.on_failure {
        OnFailureWord::Drop => instance_of(model, &gateway.instances, bucket).filter(up),
        OnFailureWord::Rehash => {
            let live: Vec<NodeId> = gateway.instances.iter().copied().filter(up).collect();
            instance_of(model, &live, bucket)
        }
    }
}

/// The instance of a gateway that a connection's packets of one direction pass when those in `down` have failed.
#[must_use]
pub fn passes(
    model: &Model,
    gateway: GatewayId,
    flow: &Flow,
    direction: Direction,
    down: &[NodeId],
) -> Option<NodeId> {
    let gateway = &model.gateways[gateway];
    live_instance(model, gateway, packet_bucket(gateway.affinity, flow, direction), down)
}

/// The instance of a gateway that a connection passes from the end that opened it, all of them alive.
#[must_use]
pub fn instance(model: &Model, gateway: GatewayId, flow: &Flow) -> Option<NodeId> {
    passes(model, gateway, flow, Direction::Request, &[])
}

#[cfg(test)]
mod tests {
    use super::{end_hash, jhash};
    use crate::algebra::Family;

    #[test]
    fn jhash_of_nothing_is_its_seed() {
        assert_eq!(jhash(&[], 0), 0xdead_beef);
    }

    #[test]
    fn cells_are_spread() {
        let mut seen = [0u32; 64];
        for host in 0..6400u128 {
            seen[end_hash(Family::V4, 0x0a00_0000 + host) as usize] += 1;
        }
        assert!(seen.iter().all(|n| (40..=180).contains(n)), "{seen:?}");
    }
}
