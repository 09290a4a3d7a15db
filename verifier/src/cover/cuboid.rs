//! Boxes of flows over the ranks of their fields: one inclusive range for each of the five fields.
//!
//! Ranks are what [`crate::cover::axes`] makes of addresses and protocols, so that both families cost the same.

/// An inclusive range of ranks.
pub type Side = (u32, u32);

/// A field of a flow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Axis {
    Src,
    Dst,
    Protocol,
    X,
    Y,
}

impl Axis {
    /// In the order in which a box is cut: services first, since cuts there are shared by most rules.
    pub const ALL: [Self; 5] = [Self::Protocol, Self::Y, Self::X, Self::Src, Self::Dst];
}

/// A box of ranks. INVARIANT: no side is empty.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Cuboid {
    pub src: Side,
    pub dst: Side,
    pub protocol: Side,
    pub x: Side,
    pub y: Side,
}

fn meet(a: Side, b: Side) -> Option<Side> {
    let side = (a.0.max(b.0), a.1.min(b.1));
    (side.0 <= side.1).then_some(side)
}

fn meets(a: Side, b: Side) -> bool {
    a.0 <= b.1 && b.0 <= a.1
}

/// Whether `inner` lies within `outer`.
pub fn holds(outer: Side, inner: Side) -> bool {
    outer.0 <= inner.0 && inner.1 <= outer.1
}

fn length(side: Side) -> f64 {
    f64::from(side.1 - side.0) + 1.0
}

impl Cuboid {
    #[must_use]
    pub fn side(&self, axis: Axis) -> Side {
        match axis {
            Axis::Src => self.src,
            Axis::Dst => self.dst,
            Axis::Protocol => self.protocol,
            Axis::X => self.x,
            Axis::Y => self.y,
        }
    }

    /// The same box with another side.
    #[must_use]
    pub fn with(mut self, axis: Axis, side: Side) -> Self {
        match axis {
            Axis::Src => self.src = side,
            Axis::Dst => self.dst = side,
            Axis::Protocol => self.protocol = side,
            Axis::X => self.x = side,
            Axis::Y => self.y = side,
        }
        self
    }

    /// The common part.
    #[must_use]
    pub fn intersect(&self, other: &Self) -> Option<Self> {
        Some(Self {
            src: meet(self.src, other.src)?,
            dst: meet(self.dst, other.dst)?,
            protocol: meet(self.protocol, other.protocol)?,
            x: meet(self.x, other.x)?,
            y: meet(self.y, other.y)?,
        })
    }

    #[must_use]
    pub fn overlaps(&self, other: &Self) -> bool {
        meets(self.src, other.src)
            && meets(self.dst, other.dst)
            && meets(self.y, other.y)
            && meets(self.protocol, other.protocol)
            && meets(self.x, other.x)
    }

    #[must_use]
    pub fn contains(&self, inner: &Self) -> bool {
        holds(self.src, inner.src)
            && holds(self.dst, inner.dst)
            && holds(self.y, inner.y)
            && holds(self.protocol, inner.protocol)
            && holds(self.x, inner.x)
    }

    /// The smallest box around both.
    #[must_use]
    pub fn hull(&self, other: &Self) -> Self {
        let around = |a: Side, b: Side| (a.0.min(b.0), a.1.max(b.1));
        Self {
            src: around(self.src, other.src),
            dst: around(self.dst, other.dst),
            protocol: around(self.protocol, other.protocol),
            x: around(self.x, other.x),
            y: around(self.y, other.y),
        }
    }

    /// Number of cells; it only ranks boxes.
    #[must_use]
    pub fn volume(&self) -> f64 {
        Axis::ALL.iter().map(|axis| length(self.side(*axis))).product()
    }

    /// The cell with the lowest ranks.
    #[must_use]
    pub fn low(&self) -> Self {
        let point = |side: Side| (side.0, side.0);
        Self {
            src: point(self.src),
            dst: point(self.dst),
            protocol: point(self.protocol),
            x: point(self.x),
            y: point(self.y),
        }
    }

    /// The cell with the highest ranks.
    #[must_use]
    pub fn high(&self) -> Self {
        let point = |side: Side| (side.1, side.1);
        Self {
            src: point(self.src),
            dst: point(self.dst),
            protocol: point(self.protocol),
            x: point(self.x),
            y: point(self.y),
        }
    }

    /// Adds disjoint boxes to `out` that make up this box without `other`, which overlaps it.
    ///
    /// SOUNDNESS: on each axis the parts below and above `other` are cut off and the rest goes on, so what is left at the end is
    /// the common part, and the cut-off parts are disjoint from it and from each other.
    pub fn minus(&self, other: &Self, out: &mut Vec<Self>) {
        let mut rest = *self;
        for axis in Axis::ALL {
            let (side, cut) = (rest.side(axis), other.side(axis));
            if side.0 < cut.0 {
                out.push(rest.with(axis, (side.0, cut.0 - 1)));
            }
            if cut.1 < side.1 {
                out.push(rest.with(axis, (cut.1 + 1, side.1)));
            }
            rest = rest.with(axis, (side.0.max(cut.0), side.1.min(cut.1)));
        }
    }
}
