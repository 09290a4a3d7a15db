//! Where allowed flows lead.

use crate::cover::Work;
use crate::cover::extent::Extent;
use crate::flows::fence::meeting;
use crate::flows::walk::Wanted;
use crate::flows::{Flows, Region, TooWide};
use compiler::algebra::{Family, RangeSet};
use compiler::ids::ChannelId;
use compiler::packet;
use compiler::sets::{ServiceBox, ServiceSet};
use std::cell::RefCell;

/// The part of the work after which single sources and services are tried first.
const QUICK: u64 = 256;
/// Single sources and services that are tried.
const PROBES: usize = 1 << 8;

/// Destinations of allowed flows.
#[derive(Debug, Clone, Default)]
pub struct Reached {
    pub addresses: RangeSet,
    /// Allowed flows that lead there.
    pub boxes: Vec<Extent>,
    /// Whether these are all. Otherwise the work was used up, and there may be more.
    pub complete: bool,
}

/// What has been found so far.
struct Search {
    missing: RefCell<RangeSet>,
    boxes: Vec<Extent>,
}

impl Flows<'_> {
    /// The addresses of `left` at which allowed flows of a channel from these addresses end. No flow in question may be one of an end
    /// to itself.
    #[must_use]
    pub fn reached(
        &self,
        id: ChannelId,
        family: Family,
        (from, left): (&RangeSet, &RangeSet),
        work: &mut Work,
    ) -> Reached {
        let mut search = Search { missing: RefCell::new(left.clone()), boxes: Vec::new() };
        let complete = self.search(id, family, from, &mut search, work).is_ok();
        let addresses = left.subtract(&search.missing.borrow());
        Reached { addresses, boxes: search.boxes, complete }
    }

    fn search(
        &self,
        id: ChannelId,
        family: Family,
        from: &RangeSet,
        search: &mut Search,
        work: &mut Work,
    ) -> Result<(), TooWide> {
        let regions = self.regions(id, family, from, search, work)?;
        let mut quick = Work(work.0 / QUICK);
        if self.sweep(id, &regions, search, &mut quick).is_ok() {
            return Ok(());
        }
        // With one source and one service only the destinations are left to tell apart.
        for (src, service) in self.probes(id, &regions)? {
            let dst = search.missing.borrow().clone();
            let src = RangeSet::range(src, src);
            let service = ServiceSet { boxes: vec![service] };
            let probe = Region::product(self.c, id, family, (&src, &dst, &service), work)?;
            self.sweep(id, &probe, search, work)?;
        }
        let regions = self.regions(id, family, from, search, work)?;
        self.sweep(id, &regions, search, work)
    }

    /// What may lead to an address that is still missing.
    fn regions(
        &self,
        id: ChannelId,
        family: Family,
        from: &RangeSet,
        search: &Search,
        work: &mut Work,
    ) -> Result<Vec<Region>, TooWide> {
        let sets = (from, &*search.missing.borrow(), &ServiceSet::all());
        Region::product(self.c, id, family, sets, work)
    }

    /// Takes from what is missing all destinations of allowed flows of some regions.
    fn sweep(
        &self,
        id: ChannelId,
        regions: &[Region],
        search: &mut Search,
        work: &mut Work,
    ) -> Result<(), TooWide> {
        let missing = &search.missing;
        let boxes = &mut search.boxes;
        for region in regions {
            let needless =
                |extent: &Extent| !missing.borrow().overlaps(&RangeSet::range(extent.dst.0, extent.dst.1));
            self.walk(id, region, Wanted::Allowed, work, &needless, &mut |part| {
                if !needless(&part.extent) {
                    let dst = RangeSet::range(part.extent.dst.0, part.extent.dst.1);
                    let rest = missing.borrow().subtract(&dst);
                    missing.replace(rest);
                    boxes.push(part.extent);
                }
                true
            })?;
        }
        Ok(())
    }

    /// A source and a service of each of the largest boxes of rules that allow, at both ends of the box.
    fn probes(&self, id: ChannelId, regions: &[Region]) -> Result<Vec<(u128, ServiceBox)>, TooWide> {
        let Some(region) = regions.first() else { return Ok(Vec::new()) };
        let sheets = self.sheets(id, region.family)?;
        let Some(sheet) = sheets.egress.as_ref().or(sheets.ingress.as_ref()) else { return Ok(Vec::new()) };
        let mut allowing: Vec<Extent> = Vec::new();
        for region in regions {
            for hull in region.hulls() {
                allowing.extend(sheet.allowing(&hull));
            }
        }
        allowing.sort_by(|a, b| b.volume().total_cmp(&a.volume()).then_with(|| a.cmp(b)));
        allowing.dedup();
        let mut out = Vec::new();
        for extent in allowing.iter().take(PROBES) {
            let sources = meeting(&region.src, extent.src);
            let ends = sources.first().zip(sources.last());
            let Some((low, high)) = ends else { continue };
            let (low, high) = (low.0.max(extent.src.0), high.1.min(extent.src.1));
            let Some(protocol) = packet::possible_protocol(&extent.service(), region.family) else {
                continue;
            };
            let max = packet::field_max(protocol);
            let point = |x: u16, y: u16| ServiceBox { proto: (protocol, protocol), x: (x, x), y: (y, y) };
            out.push((low, point(extent.x.0, extent.y.0)));
            out.push((high, point(extent.x.1.min(max.0), extent.y.1.min(max.1))));
        }
        Ok(out)
    }
}
