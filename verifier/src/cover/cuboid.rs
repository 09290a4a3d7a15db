//! Boxes of flows over the ranks of their fields: one inclusive range for each of the five fields.
//!
//! Ranks are what [`crate::cover::axes`] makes of addresses and protocols, so that both families cost the same.

use crate::cover::sides::Sides;

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

/// A box of ranks.
pub type Cuboid = Sides<u32, u32, u32>;

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
}
