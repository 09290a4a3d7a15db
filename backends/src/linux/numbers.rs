//! Marks, classes, tables and zones: which number means what while a packet is decided, and after.
//!
//! While the program runs, the top byte of `meta mark` says what the rest means, but for arrivals; the lowest bit is the slot of the
//! generation outside of it. A routing mark has bit 30 set and is the number of the routing table; no other has it.

use compiler::ids::OwnerId;
use compiler::model::Model;
use std::net::IpAddr;

/// Bit 30: the packet is decided and may be forwarded.
pub const DECIDED: u32 = 0x4000_0000;
/// Bit 31 of a decided mark. On a gateway: what there is to say about the packet goes by this mark to whoever sent it. On a
/// node with endpoints: the packet is for the node itself to answer, and is not forwarded.
pub const ANSWERABLE: u32 = 0x8000_0000;
/// The byte that says what a mark means.
pub const KIND: u32 = 0xff00_0000;
/// A packet that the fabric delivered, with the role of its sender; the slot bit is free.
pub const ROLE: u32 = 0x0800_0000;
/// The same in the nft target's program on nodes with endpoints, with the VNI besides ([`arrival`]).
pub const ARRIVAL: u32 = 0x8000_0000;
/// Bits that say that a mark is such a one: [`DECIDED`] is clear, the highest set.
pub const IS_ARRIVAL: u32 = 0xc000_0000;
pub const CONTEXT: u32 = 0x0100_0000;
/// In a context: of packets through a gateway without state, numbered apart from the others and in steps of two, since such a mark bears
/// the slot.
pub const STATELESS: u32 = CONTEXT | 0x0040_0000;
/// In such a context: the packet answers a connection; without it, it opens one.
pub const ANSWERS: u32 = 0x0080_0000;
/// Also the kind of source classes, in the other register.
pub const SOURCE: u32 = 0x0100_0000;
pub const DESTINATION: u32 = 0x0200_0000;
/// The class of addresses that are only clients'; it is in no pair.
pub const CLIENT_ONLY: u32 = DESTINATION | 0x00ff_ffff;
pub const PAIR: u32 = 0x0300_0000;
pub const VERDICT: u32 = 0x0400_0000;
pub const GATEWAY: u32 = 0x0500_0000;
pub const ROW: u32 = 0x0600_0000;
pub const INSTANCE: u32 = 0x0700_0000;

/// Stands for an instance where none is alive: no leg leads there.
pub const NOBODY: u32 = INSTANCE | 0x00ff_ffff;

/// Instances that one node's workloads can be sent to: four bits of a leg's mark.
pub const MAX_INSTANCES: usize = 16;

/// Bits of a role below those of the VNI in an arrival's mark.
const SEGMENT: u32 = 6;

/// Arrival straight from a node that hosts endpoints.
pub const ROLE_NODE: u32 = ROLE | 1 << 1;

/// Arrival from the n-th gateway node.
#[must_use]
pub fn role_instance(n: usize) -> u32 {
    ROLE | (small(n) + 2) << 1
}

/// The mark of what a sender of this role delivers under a VNI.
#[must_use]
pub fn arrival(role: u32, vni: u32) -> u32 {
    ARRIVAL | vni << SEGMENT | role & !KIND
}

/// The tenant's table and mark in slot 0: `0x50000000 + 2·id`.
#[must_use]
pub fn tenant_mark(id: u32) -> u32 {
    0x5000_0000 + 2 * id
}

/// From the segment with this VNI to the n-th gateway node: `0x60000000 + n·2^25 + 2·vni`.
#[must_use]
pub fn leg_mark(instance: usize, vni: u32) -> u32 {
    0x6000_0000 + (small(instance) << 25) + 2 * vni
}

/// An external's table and mark: `0x40000000 + 2·(24 bits of the name's digest)`.
#[must_use]
pub fn external_mark(name: &str) -> u32 {
    0x4000_0000 + 2 * (digest32(&[b"external", name.as_bytes()]) & 0x00ff_ffff)
}

/// The table and mark by which what there is to say of an external's packets goes: it also leads to everything that is seen in the
/// external's space, which addresses of the external's own may equal.
#[must_use]
pub fn external_home(name: &str) -> u32 {
    0x0200_0000 | external_mark(name)
}

/// Whose connections are bounded together: a tenant by its id, an external by its name's digest. No routing mark, and no
/// other kind of mark that the program asks for.
#[must_use]
pub fn opener(model: &Model, owner: OwnerId) -> u32 {
    let owner = &model.owners[owner];
    if owner.is_tenant() { owner.id() } else { 0x0900_0000 | (external_mark(&owner.name) >> 1 & 0x00ff_ffff) }
}

/// Connections that one owner may have open on one node, in as many parts of as many connections each: the kernel looks through a
/// part for each new connection.
pub const CONNECTIONS: u32 = PARTS * PER_PART;
pub const PARTS: u32 = 256;
pub const PER_PART: u32 = 256;

/// A tenant's conntrack zone.
#[must_use]
pub fn tenant_zone(id: u32) -> u16 {
    u16::try_from(1 + id.saturating_sub(1) % 65_535).unwrap_or(u16::MAX)
}

/// Where to look first for the zone of two owners at a gateway.
#[must_use]
pub fn pair_zone(model: &Model, a: OwnerId, b: OwnerId) -> u16 {
    let name = |o: OwnerId| model.owners[o].name.as_bytes();
    u16::try_from(1 + digest32(&[b"zone", name(a.min(b)), name(a.max(b))]) % 65_535).unwrap_or(1)
}

/// 32 bits of a digest over length-prefixed parts; never zero.
#[must_use]
pub fn digest32(parts: &[&[u8]]) -> u32 {
    let mut hasher = blake3::Hasher::new();
    for part in parts {
        hasher.update(&u64::try_from(part.len()).unwrap_or(u64::MAX).to_le_bytes());
        hasher.update(part);
    }
    let [a, b, c, d, ..] = *hasher.finalize().as_bytes();
    u32::from_le_bytes([a, b, c, d]).max(1)
}

/// The router's MAC of the node with this VTEP: locally administered, the IPv4 address inside, or a digest of the IPv6 one.
#[must_use]
pub fn router_mac(vtep: IpAddr) -> [u8; 6] {
    match vtep {
        IpAddr::V4(v4) => {
            let [a, b, c, d] = v4.octets();
            [0x02, 0x50, a, b, c, d]
        }
        IpAddr::V6(v6) => {
            let [a, b, c, d] = digest32(&[b"mac", &v6.octets()]).to_be_bytes();
            [0x06, 0x50, a, b, c, d]
        }
    }
}

/// The next hop of IPv6 routes to the node with this VTEP, link-local on the VXLAN device.
#[must_use]
pub fn hop6(vtep: IpAddr) -> IpAddr {
    let [a, b, c, d, e, f] = router_mac(vtep);
    let word = |x: u8, y: u8| u16::from(x) << 8 | u16::from(y);
    IpAddr::from([0xfe80, 0, 0, 0, 0, word(a, b), word(c, d), word(e, f)])
}

/// The name of a VNI's device.
#[must_use]
pub fn vxlan_name(vni: u32) -> String {
    format!("pwv{vni}")
}

/// The device of all VNIs on a node of the eBPF target.
pub const VXLAN_OF_ALL: &str = "pwvx";

/// Whether only a device of partywall's own, on any target, may have this name.
#[must_use]
pub fn is_own_vxlan(name: &str) -> bool {
    let number = |rest: &str| !rest.is_empty() && rest.chars().all(|c| c.is_ascii_digit());
    name == VXLAN_OF_ALL || name.strip_prefix("pwv").is_some_and(number)
}

/// An index as a mark's low bits. Indices count things declared in sources of less than 2^32 bytes.
#[must_use]
pub fn small(n: usize) -> u32 {
    u32::try_from(n).unwrap_or(u32::MAX) & 0x00ff_ffff
}
