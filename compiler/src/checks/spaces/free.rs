//! Prefixes that nothing uses, for the help of PW0301.

use super::entry::{Entry, Kind};
use crate::algebra::{AddrSet, Family, Prefix, parse_addr};
use crate::ids::{Id, OwnerId};
use crate::model::Model;

/// Private ranges in the order in which they are offered: shared address space first (RFC 6598), which hosts seldom
/// use, then those of RFC 1918 and RFC 4193.
const POOLS: [(Family, u128, u8); 5] = [
    (Family::V4, 0x6440_0000, 10),
    (Family::V4, 0x0a00_0000, 8),
    (Family::V4, 0xac10_0000, 12),
    (Family::V4, 0xc0a8_0000, 16),
    (Family::V6, 0xfd << 120, 8),
];

/// Wider routes and externals (a default route above all) hold everything, and a longer match inside them is no capture.
const WIDE: u8 = 8;

/// What is free of everything that some spaces, or all of them, hold.
pub struct Free {
    occupied: AddrSet,
}

impl Free {
    /// Free in every space of the project.
    pub fn everywhere(model: &Model, spaces: &[Vec<Entry>]) -> Self {
        Self::within(model, spaces, model.owners.ids())
    }

    /// Free in the spaces of these owners.
    pub fn within(model: &Model, spaces: &[Vec<Entry>], owners: impl Iterator<Item = OwnerId>) -> Self {
        let mut prefixes: Vec<Prefix> = Vec::new();
        for id in owners {
            let owner = &model.owners[id];
            prefixes.extend(owner.prefixes.iter().filter(|p| owner.is_tenant() || p.len() >= WIDE));
            let entries = spaces.get(id.index()).into_iter().flatten();
            prefixes.extend(
                entries
                    .filter(|e| {
                        let route = matches!(e.kind, Kind::Via(_)) || e.is_external_client(model);
                        !route || e.prefix.len() >= WIDE
                    })
                    .map(|e| e.prefix),
            );
        }
        let host = |address| {
            let (family, value) = parse_addr(address);
            Prefix::host(family, value)
        };
        prefixes.extend(model.nodes.values().map(|node| host(node.vtep)));
        let masquerades = model.gateways.values().flat_map(|g| &g.masquerades);
        prefixes.extend(masquerades.flat_map(|m| &m.addresses).map(|address| host(*address)));
        Self { occupied: AddrSet::from_prefixes(&prefixes) }
    }

    /// A free prefix of this length, not to be offered again.
    pub fn take(&mut self, family: Family, len: u8) -> Option<Prefix> {
        let pools = POOLS.iter().filter(|(of, _, pool)| *of == family && *pool <= len);
        let found = pools.map(|(_, base, pool)| Prefix::new(family, *base, *pool)).find_map(|pool| {
            let gaps = AddrSet::prefix(pool).subtract(&self.occupied);
            gaps.family(family).ranges().iter().find_map(|(lo, hi)| first_block(family, *lo, *hi, len))
        })?;
        self.occupied = self.occupied.union(&AddrSet::prefix(found));
        Some(found)
    }
}

/// The lowest prefix of this length within `lo..=hi`.
fn first_block(family: Family, lo: u128, hi: u128, len: u8) -> Option<Prefix> {
    let at = Prefix::new(family, lo, len);
    let at = if at.lo() == lo { at } else { Prefix::new(family, at.hi().checked_add(1)?, len) };
    (at.lo() >= lo && at.hi() <= hi).then_some(at)
}
