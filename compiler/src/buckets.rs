//! Which instance of a gateway a connection passes: symmetric buckets over the two real ends, mapped to instances by
//! rendezvous hashing. Every target, the trace and the lab use this one function.

use crate::algebra::Family;
use crate::ids::{GatewayId, NodeId};
use crate::model::Model;
use crate::packet::Flow;

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
    let key = match family {
        Family::V4 => bytes.get(12..).unwrap_or_default(),
        Family::V6 => bytes.as_slice(),
    };
    let scaled = (u64::from(jhash(key, SEED)) * u64::from(CELLS)) >> 32;
    u8::try_from(scaled).unwrap_or(0)
}

/// An unordered pair of cells, the smaller first: one of 2,080 buckets.
#[must_use]
pub fn bucket(a: u8, b: u8) -> (u8, u8) {
    (a.min(b), a.max(b))
}

/// The bucket of a flow.
#[must_use]
pub fn flow_bucket(flow: &Flow) -> (u8, u8) {
    bucket(end_hash(flow.family, flow.src.address), end_hash(flow.family, flow.dst.address))
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

/// The instance of a gateway that a flow passes, all of them alive.
#[must_use]
pub fn instance(model: &Model, gateway: GatewayId, flow: &Flow) -> Option<NodeId> {
    instance_of(model, &model.gateways[gateway].instances, flow_bucket(flow))
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
