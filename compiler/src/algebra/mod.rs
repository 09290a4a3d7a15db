//! Interval and prefix algebra over IPv4 and IPv6 addresses, as unsigned integers in one 128-bit space per family.

mod addr_set;
mod prefix;
mod range_map;
mod range_set;

pub use addr_set::AddrSet;
pub use prefix::{Prefix, format_addr, parse_addr};
pub use range_map::{Painted, paint};
pub use range_set::RangeSet;

use serde::Serialize;

/// Address family. An IPv4 address is the low 32 bits of the 128-bit value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub enum Family {
    V4,
    V6,
}

impl Family {
    pub const BOTH: [Self; 2] = [Self::V4, Self::V6];

    /// Address length in bits.
    #[must_use]
    pub fn bits(self) -> u8 {
        match self {
            Self::V4 => 32,
            Self::V6 => 128,
        }
    }

    /// The highest address.
    #[must_use]
    pub fn max(self) -> u128 {
        match self {
            Self::V4 => u32::MAX as u128,
            Self::V6 => u128::MAX,
        }
    }

    /// `IPv4`, `IPv6`
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::V4 => "IPv4",
            Self::V6 => "IPv6",
        }
    }
}
