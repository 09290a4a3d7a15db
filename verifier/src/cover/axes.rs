//! Fields as ranks: addresses by the boundaries that a table's boxes have, protocols permuted.
//!
//! SOUNDNESS: no box of a table cuts a cell between two boundaries, so all addresses of a cell are in the same boxes, and a box of
//! ranks stands for exactly the addresses between its first cell's first and its last cell's last one. The permutation of
//! protocols is one of all 256; a range of protocols becomes as many ranges of ranks as it takes.

use crate::cover::cuboid::{Cuboid, Side};
use crate::cover::extent::Extent;
use compiler::algebra::Family;
use compiler::ids::OwnerId;
use compiler::packet::{self, End, Fields, Flow};

/// The boundaries of one address field, ascending: each starts a cell.
#[derive(Debug, Clone, Default)]
pub struct Cells {
    starts: Vec<u128>,
    max: u128,
}

impl Cells {
    /// The cells that these ranges (inclusive, at most `max`) cut.
    #[must_use]
    pub fn new(ranges: impl Iterator<Item = (u128, u128)>, max: u128) -> Self {
        let mut starts: Vec<u128> =
            ranges.flat_map(|(lo, hi)| [Some(lo), (hi < max).then(|| hi + 1)]).flatten().collect();
        starts.sort_unstable();
        starts.dedup();
        Self { starts, max }
    }

    /// The cells of one of the ranges that the cells were made for; of any other range the cells that it meets.
    #[must_use]
    pub fn side(&self, (lo, hi): (u128, u128)) -> Side {
        let last_at_most = |value: u128| {
            let after = self.starts.partition_point(|start| *start <= value);
            u32::try_from(after.saturating_sub(1)).unwrap_or(u32::MAX)
        };
        (last_at_most(lo), last_at_most(hi))
    }

    /// The addresses of these cells.
    #[must_use]
    pub fn addresses(&self, (first, last): Side) -> (u128, u128) {
        let start = |at: usize| self.starts.get(at).copied();
        let end = start(last as usize + 1).map_or(self.max, |next| next - 1);
        (start(first as usize).unwrap_or(0), end)
    }
}

/// How a table's flows are ranked.
#[derive(Debug, Clone)]
pub struct Axes {
    pub src_owner: OwnerId,
    pub dst_owner: OwnerId,
    pub family: Family,
    pub src: Cells,
    pub dst: Cells,
    protocols: Protocols,
}

/// Protocols without fields come first, then the family's ICMP, those with ports, and last the one that the family lacks.
#[derive(Debug, Clone)]
struct Protocols {
    /// By rank.
    order: Vec<u8>,
    /// By protocol.
    ranks: Vec<u32>,
    /// Ranks without fields, of the family's ICMP, with ports.
    classes: [Side; 3],
}

impl Protocols {
    fn new(family: Family) -> Self {
        let class = |p: u8| match packet::fields(p) {
            _ if !packet::protocol_in_family(p, family) => 3,
            Fields::None => 0,
            Fields::Icmp => 1,
            Fields::Ports => 2,
        };
        let mut order: Vec<u8> = (0..=u8::MAX).collect();
        order.sort_by_key(|p| (class(*p), *p));
        let mut ranks = vec![0; order.len()];
        for (rank, p) in (0_u32..).zip(&order) {
            if let Some(slot) = ranks.get_mut(usize::from(*p)) {
                *slot = rank;
            }
        }
        let side = |wanted: u32| {
            let of = || (0_u32..).zip(&order).filter(|(_, p)| class(**p) == wanted).map(|(rank, _)| rank);
            (of().min().unwrap_or(0), of().max().unwrap_or(0))
        };
        let classes = [side(0), side(1), side(2)];
        Self { order, ranks, classes }
    }

    /// The protocols of a range of ranks, as ranges.
    fn values(&self, (first, last): Side) -> Vec<(u8, u8)> {
        let of = self.order.get(first as usize..=last as usize).unwrap_or(&[]);
        let mut protocols: Vec<u8> = of.to_vec();
        protocols.sort_unstable();
        let mut ranges: Vec<(u8, u8)> = Vec::new();
        for p in protocols {
            match ranges.last_mut() {
                Some(range) if range.1.checked_add(1) == Some(p) => range.1 = p,
                _ => ranges.push((p, p)),
            }
        }
        ranges
    }

    fn rank(&self, protocol: u8) -> u32 {
        self.ranks.get(usize::from(protocol)).copied().unwrap_or(0)
    }

    /// The ranks of a range of protocols.
    fn sides(&self, (lo, hi): (u8, u8)) -> Vec<Side> {
        if (lo, hi) == (0, u8::MAX) {
            return vec![(0, 255)];
        }
        let mut ranks: Vec<u32> = (lo..=hi).map(|p| self.rank(p)).collect();
        ranks.sort_unstable();
        let mut sides: Vec<Side> = Vec::new();
        for rank in ranks {
            match sides.last_mut() {
                Some(last) if last.1 + 1 == rank => last.1 = rank,
                _ => sides.push((rank, rank)),
            }
        }
        sides
    }
}

impl Axes {
    /// For the flows of one family between two owners whose boxes have these extents.
    #[must_use]
    pub fn new(src_owner: OwnerId, dst_owner: OwnerId, family: Family, extents: &[Extent]) -> Self {
        Self {
            src_owner,
            dst_owner,
            family,
            src: Cells::new(extents.iter().map(|e| e.src), family.max()),
            dst: Cells::new(extents.iter().map(|e| e.dst), family.max()),
            protocols: Protocols::new(family),
        }
    }

    /// Adds the boxes of ranks of an extent, one of those that the axes were made for.
    pub fn boxes(&self, extent: &Extent, mut add: impl FnMut(Cuboid)) {
        let (src, dst) = (self.src.side(extent.src), self.dst.side(extent.dst));
        let wide = |(lo, hi): (u16, u16)| (u32::from(lo), u32::from(hi));
        for protocol in self.protocols.sides(extent.protocol) {
            add(Cuboid { src, dst, protocol, x: wide(extent.x), y: wide(extent.y) });
        }
    }

    /// Adds the parts of a box that hold well-formed flows only: each protocol with the fields it has.
    pub fn shaped(&self, cuboid: &Cuboid, mut add: impl FnMut(Cuboid)) {
        let fields = [(0, 0), (0, 255), (0, u32::from(u16::MAX))];
        for (protocol, field) in self.protocols.classes.into_iter().zip(fields) {
            let shape = Cuboid { protocol, x: field, y: field, ..*cuboid };
            if let Some(part) = cuboid.intersect(&shape) {
                add(part);
            }
        }
    }

    /// The flows of a box of well-formed flows, in the fields' own values.
    #[must_use]
    pub fn extents(&self, cuboid: &Cuboid) -> Vec<Extent> {
        let (src, dst) = (self.src.addresses(cuboid.src), self.dst.addresses(cuboid.dst));
        #[expect(clippy::cast_possible_truncation, reason = "fields keep their values as ranks")]
        let field = |side: Side| (side.0 as u16, side.1 as u16);
        let (x, y) = (field(cuboid.x), field(cuboid.y));
        let protocols = self.protocols.values(cuboid.protocol).into_iter();
        protocols.map(|protocol| Extent { src, dst, protocol, x, y }).collect()
    }

    /// Whether a box holds a flow: it is not one end's flow to itself.
    #[must_use]
    pub fn holds_flow(&self, cuboid: &Cuboid) -> bool {
        if self.src_owner != self.dst_owner {
            return true;
        }
        let (src, dst) = (self.src.addresses(cuboid.src), self.dst.addresses(cuboid.dst));
        src.0 != src.1 || src != dst
    }

    /// A flow of a box of well-formed flows, which [`Axes::holds_flow`].
    #[must_use]
    pub fn flow(&self, cuboid: &Cuboid) -> Flow {
        let (src, mut dst) = (self.src.addresses(cuboid.src), self.dst.addresses(cuboid.dst));
        let mut from = src.0;
        if self.src_owner == self.dst_owner && from == dst.0 {
            if dst.0 < dst.1 {
                dst.0 += 1;
            } else {
                from = src.1;
            }
        }
        #[expect(clippy::cast_possible_truncation, reason = "ports keep their values as ranks")]
        let port = |side: Side| side.0 as u16;
        Flow {
            src: End { owner: self.src_owner, address: from },
            dst: End { owner: self.dst_owner, address: dst.0 },
            family: self.family,
            protocol: self.protocols.order.get(cuboid.protocol.0 as usize).copied().unwrap_or(0),
            x: port(cuboid.x),
            y: port(cuboid.y),
        }
    }
}
