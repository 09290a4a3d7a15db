//! Sets of integers as sorted, disjoint, non-adjacent inclusive ranges.

/// INVARIANT: ranges ascend, `lo <= hi` in each, and between two neighbours at least one value is missing; so equal
/// sets are equal values.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct RangeSet {
    ranges: Vec<(u128, u128)>,
}

impl RangeSet {
    #[must_use]
    pub const fn empty() -> Self {
        Self { ranges: Vec::new() }
    }

    /// `lo..=hi`, empty if reversed.
    #[must_use]
    pub fn range(lo: u128, hi: u128) -> Self {
        if lo > hi { Self::empty() } else { Self { ranges: vec![(lo, hi)] } }
    }

    /// The union of ranges in any order, overlapping or not.
    #[must_use]
    pub fn from_ranges(mut ranges: Vec<(u128, u128)>) -> Self {
        ranges.retain(|(lo, hi)| lo <= hi);
        ranges.sort_unstable();
        let mut out: Vec<(u128, u128)> = Vec::with_capacity(ranges.len());
        for (lo, hi) in ranges {
            match out.last_mut() {
                Some(last) if last.1 == u128::MAX || lo <= last.1 + 1 => last.1 = last.1.max(hi),
                _ => out.push((lo, hi)),
            }
        }
        Self { ranges: out }
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.ranges.is_empty()
    }

    #[must_use]
    pub fn ranges(&self) -> &[(u128, u128)] {
        &self.ranges
    }

    /// The smallest member.
    #[must_use]
    pub fn first(&self) -> Option<u128> {
        self.ranges.first().map(|r| r.0)
    }

    #[must_use]
    pub fn contains(&self, value: u128) -> bool {
        let at = self.ranges.partition_point(|(_, hi)| *hi < value);
        self.ranges.get(at).is_some_and(|(lo, _)| *lo <= value)
    }

    /// Whether the set has exactly this one member.
    #[must_use]
    pub fn is_singleton(&self, value: u128) -> bool {
        self.ranges == [(value, value)]
    }

    #[must_use]
    pub fn union(&self, other: &Self) -> Self {
        if self.is_empty() {
            return other.clone();
        }
        if other.is_empty() {
            return self.clone();
        }
        Self::from_ranges(self.ranges.iter().chain(&other.ranges).copied().collect())
    }

    #[must_use]
    pub fn intersect(&self, other: &Self) -> Self {
        let mut out = Vec::new();
        let (mut left, mut right) = (self.ranges.iter().peekable(), other.ranges.iter().peekable());
        while let (Some(&&(a_lo, a_hi)), Some(&&(b_lo, b_hi))) = (left.peek(), right.peek()) {
            let (lo, hi) = (a_lo.max(b_lo), a_hi.min(b_hi));
            if lo <= hi {
                out.push((lo, hi));
            }
            if a_hi < b_hi {
                left.next();
            } else {
                right.next();
            }
        }
        Self { ranges: out }
    }

    #[must_use]
    pub fn subtract(&self, other: &Self) -> Self {
        let mut out = Vec::new();
        let mut holes = other.ranges.iter().peekable();
        for &(lo, hi) in &self.ranges {
            let mut from = lo;
            let mut open = true;
            while let Some(&&(hole_lo, hole_hi)) = holes.peek() {
                if hole_hi < from {
                    holes.next();
                    continue;
                }
                if hole_lo > hi {
                    break;
                }
                if hole_lo > from {
                    out.push((from, hole_lo - 1));
                }
                if hole_hi >= hi {
                    open = false;
                    break;
                }
                from = hole_hi + 1;
            }
            if open {
                out.push((from, hi));
            }
        }
        Self { ranges: out }
    }

    #[must_use]
    pub fn overlaps(&self, other: &Self) -> bool {
        let (mut left, mut right) = (self.ranges.iter().peekable(), other.ranges.iter().peekable());
        while let (Some(&&(a_lo, a_hi)), Some(&&(b_lo, b_hi))) = (left.peek(), right.peek()) {
            if a_lo.max(b_lo) <= a_hi.min(b_hi) {
                return true;
            }
            if a_hi < b_hi {
                left.next();
            } else {
                right.next();
            }
        }
        false
    }

    #[must_use]
    pub fn is_subset(&self, other: &Self) -> bool {
        self.subtract(other).is_empty()
    }
}
