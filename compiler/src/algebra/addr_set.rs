//! Sets of addresses of both families.

use super::{Family, Prefix, RangeSet};

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct AddrSet {
    pub v4: RangeSet,
    pub v6: RangeSet,
}

impl AddrSet {
    #[must_use]
    pub const fn empty() -> Self {
        Self { v4: RangeSet::empty(), v6: RangeSet::empty() }
    }

    /// Every address of both families.
    #[must_use]
    pub fn full() -> Self {
        Self { v4: RangeSet::range(0, Family::V4.max()), v6: RangeSet::range(0, Family::V6.max()) }
    }

    #[must_use]
    pub fn range(family: Family, lo: u128, hi: u128) -> Self {
        Self::empty().with(family, RangeSet::range(lo, hi))
    }

    #[must_use]
    pub fn prefix(prefix: Prefix) -> Self {
        Self::range(prefix.family, prefix.lo(), prefix.hi())
    }

    /// The union of prefixes.
    #[must_use]
    pub fn from_prefixes<'a>(prefixes: impl IntoIterator<Item = &'a Prefix>) -> Self {
        let (mut v4, mut v6) = (Vec::new(), Vec::new());
        for prefix in prefixes {
            match prefix.family {
                Family::V4 => v4.push((prefix.lo(), prefix.hi())),
                Family::V6 => v6.push((prefix.lo(), prefix.hi())),
            }
        }
        Self { v4: RangeSet::from_ranges(v4), v6: RangeSet::from_ranges(v6) }
    }

    #[must_use]
    pub fn with(mut self, family: Family, set: RangeSet) -> Self {
        match family {
            Family::V4 => self.v4 = set,
            Family::V6 => self.v6 = set,
        }
        self
    }

    #[must_use]
    pub fn family(&self, family: Family) -> &RangeSet {
        match family {
            Family::V4 => &self.v4,
            Family::V6 => &self.v6,
        }
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.v4.is_empty() && self.v6.is_empty()
    }

    #[must_use]
    pub fn contains(&self, family: Family, address: u128) -> bool {
        self.family(family).contains(address)
    }

    #[must_use]
    pub fn union(&self, other: &Self) -> Self {
        Self { v4: self.v4.union(&other.v4), v6: self.v6.union(&other.v6) }
    }

    #[must_use]
    pub fn intersect(&self, other: &Self) -> Self {
        Self { v4: self.v4.intersect(&other.v4), v6: self.v6.intersect(&other.v6) }
    }

    #[must_use]
    pub fn subtract(&self, other: &Self) -> Self {
        Self { v4: self.v4.subtract(&other.v4), v6: self.v6.subtract(&other.v6) }
    }

    #[must_use]
    pub fn overlaps(&self, other: &Self) -> bool {
        self.v4.overlaps(&other.v4) || self.v6.overlaps(&other.v6)
    }

    #[must_use]
    pub fn is_subset(&self, other: &Self) -> bool {
        self.v4.is_subset(&other.v4) && self.v6.is_subset(&other.v6)
    }

    /// The fewest prefixes whose union is the set, IPv4 before IPv6, ascending.
    #[must_use]
    pub fn prefixes(&self) -> Vec<Prefix> {
        let mut out = Vec::new();
        for family in Family::BOTH {
            for &(lo, hi) in self.family(family).ranges() {
                Prefix::cover(family, lo, hi, &mut out);
            }
        }
        out
    }
}
