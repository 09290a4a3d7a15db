//! Address prefixes.

use super::Family;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// A prefix without host bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Prefix {
    pub family: Family,
    base: u128,
    len: u8,
}

impl Prefix {
    /// The prefix of this length around `address`; host bits are cleared.
    #[must_use]
    pub fn new(family: Family, address: u128, len: u8) -> Self {
        let len = len.min(family.bits());
        Self { family, base: address & !host_mask(family, len), len }
    }

    /// The prefix that holds this one address.
    #[must_use]
    pub fn host(family: Family, address: u128) -> Self {
        Self::new(family, address, family.bits())
    }

    #[must_use]
    pub fn from_ip(address: IpAddr, len: u8) -> Self {
        let (family, value) = parse_addr(address);
        Self::new(family, value, len)
    }

    #[must_use]
    pub fn len(self) -> u8 {
        self.len
    }

    #[must_use]
    pub fn is_empty(self) -> bool {
        false
    }

    /// Lowest address.
    #[must_use]
    pub fn lo(self) -> u128 {
        self.base
    }

    /// Highest address.
    #[must_use]
    pub fn hi(self) -> u128 {
        self.base | host_mask(self.family, self.len)
    }

    #[must_use]
    pub fn contains_addr(self, address: u128) -> bool {
        self.lo() <= address && address <= self.hi()
    }

    /// Whether every address of `other` is in this prefix.
    #[must_use]
    pub fn contains(self, other: Self) -> bool {
        self.family == other.family && self.len <= other.len && self.contains_addr(other.base)
    }

    #[must_use]
    pub fn overlaps(self, other: Self) -> bool {
        self.contains(other) || other.contains(self)
    }

    /// Appends the fewest prefixes whose union is `lo..=hi`, ascending.
    pub(super) fn cover(family: Family, lo: u128, hi: u128, out: &mut Vec<Self>) {
        let mut from = lo;
        loop {
            // The largest block that starts at `from` and does not pass `hi`.
            let mut len = family.bits();
            while len > 0 {
                let wider = Self::new(family, from, len - 1);
                if wider.base != from || wider.hi() > hi {
                    break;
                }
                len -= 1;
            }
            let block = Self::new(family, from, len);
            out.push(block);
            if block.hi() >= hi {
                return;
            }
            from = block.hi() + 1;
        }
    }
}

fn host_mask(family: Family, len: u8) -> u128 {
    match family.bits() - len {
        128 => u128::MAX,
        bits => (1 << bits) - 1,
    }
}

impl std::fmt::Display for Prefix {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", format_addr(self.family, self.base), self.len)
    }
}

/// The family and the value of an address.
#[must_use]
pub fn parse_addr(address: IpAddr) -> (Family, u128) {
    match address {
        IpAddr::V4(v4) => (Family::V4, u128::from(u32::from(v4))),
        IpAddr::V6(v6) => (Family::V6, u128::from(v6)),
    }
}

/// The address with this value; bits beyond the family's width are ignored.
#[must_use]
pub fn format_addr(family: Family, value: u128) -> IpAddr {
    match family {
        #[expect(clippy::cast_possible_truncation, reason = "an IPv4 address is the low 32 bits")]
        Family::V4 => IpAddr::V4(Ipv4Addr::from(value as u32)),
        Family::V6 => IpAddr::V6(Ipv6Addr::from(value)),
    }
}
