//! Flows of a channel as sets of addresses and a box of services.

use crate::cover::Work;
use crate::cover::extent::Extent;
use crate::flows::fence::meeting;
use crate::flows::{TooWide, disjoint};
use compiler::Compiled;
use compiler::algebra::{Family, RangeSet};
use compiler::ids::ChannelId;
use compiler::sets::{ServiceBox, ServiceSet};

/// Pairs of address ranges that are walked one by one; beyond that all are walked as one, and clipped.
const PAIRS: usize = 64;

/// Flows from some addresses to some addresses with some services, in one family.
#[derive(Debug, Clone)]
pub struct Region {
    pub family: Family,
    pub src: RangeSet,
    pub dst: RangeSet,
    pub service: ServiceBox,
}

impl Region {
    /// The flows of a channel that lie in `within` (boxes that may overlap), as regions that have none in common.
    ///
    /// # Errors
    /// The work is used up.
    pub fn of(
        c: &Compiled,
        id: ChannelId,
        family: Family,
        within: Option<&[Extent]>,
        work: &mut Work,
    ) -> Result<Vec<Self>, TooWide> {
        let channel = &c.channels[id];
        let (src, dst) = (channel.src_set.family(family), channel.dst_set.family(family));
        let Some(within) = within else {
            return Self::product(c, id, family, (src, dst, &ServiceSet::all()), work);
        };
        let mut out = Vec::new();
        for extent in disjoint(within, work)? {
            let of = |set: &RangeSet, (lo, hi): (u128, u128)| set.intersect(&RangeSet::range(lo, hi));
            let (src, dst) = (of(src, extent.src), of(dst, extent.dst));
            let service = ServiceSet { boxes: vec![extent.service()] };
            out.extend(Self::product(c, id, family, (&src, &dst, &service), work)?);
        }
        Ok(out)
    }

    /// The flows of a channel between these addresses with these services, as regions that have none in common.
    ///
    /// # Errors
    /// The work is used up.
    pub fn product(
        c: &Compiled,
        id: ChannelId,
        family: Family,
        (src, dst, service): (&RangeSet, &RangeSet, &ServiceSet),
        work: &mut Work,
    ) -> Result<Vec<Self>, TooWide> {
        let channel = &c.channels[id];
        let src = src.intersect(channel.src_set.family(family));
        let dst = dst.intersect(channel.dst_set.family(family));
        if src.is_empty() || dst.is_empty() {
            return Ok(Vec::new());
        }
        let boxes = services(&channel.service.intersect(service), family, work)?;
        let region = |service| Self { family, src: src.clone(), dst: dst.clone(), service };
        Ok(boxes.into_iter().map(region).collect())
    }

    /// Boxes around the region, disjoint. Not all of their flows need be of the region.
    #[must_use]
    pub fn hulls(&self) -> Vec<Extent> {
        let one = |set: &RangeSet| set.first().zip(set.ranges().last()).map(|(lo, (_, hi))| vec![(lo, *hi)]);
        let (src, dst) = (self.src.ranges(), self.dst.ranges());
        let few = src.len().saturating_mul(dst.len()) <= PAIRS;
        let sides =
            |ranges: &[(u128, u128)], set| if few { ranges.to_vec() } else { one(set).unwrap_or_default() };
        let (src, dst) = (sides(src, &self.src), sides(dst, &self.dst));
        let mut out = Vec::with_capacity(src.len() * dst.len());
        for src in &src {
            let of = dst.iter().map(|dst| Extent { src: *src, dst: *dst, ..Extent::all(self.family) });
            out.extend(of.map(|extent| extent.with_service(&self.service)));
        }
        out
    }

    /// The parts of a box, with a service of the region, that lie in the region.
    pub fn clip(&self, extent: &Extent, mut add: impl FnMut(Extent)) {
        let (src, dst) = (meeting(&self.src, extent.src), meeting(&self.dst, extent.dst));
        for src in src {
            for dst in dst {
                let ends = Extent { src: *src, dst: *dst, ..*extent };
                if let Some(part) = extent.intersect(&ends) {
                    add(part);
                }
            }
        }
    }

    /// The number of boxes that [`Region::clip`] gives of this one.
    #[must_use]
    pub fn pieces(&self, extent: &Extent) -> usize {
        let (src, dst) = (meeting(&self.src, extent.src), meeting(&self.dst, extent.dst));
        src.len().saturating_mul(dst.len())
    }

    /// All of it, as disjoint boxes.
    ///
    /// # Errors
    /// The work is used up.
    pub fn extents(&self, work: &mut Work) -> Result<Vec<Extent>, TooWide> {
        let whole = Extent::all(self.family).with_service(&self.service);
        if !work.spend(self.pieces(&whole)) {
            return Err(TooWide);
        }
        let mut out = Vec::new();
        self.clip(&whole, |part| out.push(part));
        Ok(out)
    }
}

/// Services that some flow of the family can carry, as disjoint boxes.
fn services(service: &ServiceSet, family: Family, work: &mut Work) -> Result<Vec<ServiceBox>, TooWide> {
    let around: Vec<Extent> =
        service.boxes.iter().map(|service| Extent::all(family).with_service(service)).collect();
    let around: Vec<Extent> = around.into_iter().filter(|e| e.has_flow(family, false)).collect();
    let parts = disjoint(&around, work)?;
    Ok(parts.iter().filter(|e| e.has_flow(family, false)).map(Extent::service).collect())
}
