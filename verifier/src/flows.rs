//! What is decided on a channel, exactly, as disjoint boxes in the fields' own values.
//!
//! SOUNDNESS. A box is walked as the evaluator walks a flow ([`compiler::eval`]): tier by tier, the first match of each policy, those
//! that are overridden left out, both views. Wherever the flows of a box would not all take the same step, because a rule matches some
//! of them only, the box is cut along that rule's box and both sides are walked on their own. So every flow of a box that comes out
//! takes every step that the box took, and the boxes that come out are what went in: cutting loses nothing and overlaps nothing
//! ([`Extent::minus`]). What is too much for boxes is [`TooWide`], and left to a solver.

mod chase;
mod fence;
mod list;
mod merge;
mod reached;
mod region;
mod sheet;
mod through;
mod walk;

pub use crate::cover::Work;
pub use crate::cover::extent::Extent;
pub use fence::Fence;
pub use list::{disjoint, subtract};
pub use merge::merged;
pub use reached::Reached;
pub use region::Region;
pub use through::Through;

use crate::cover::witness::{Between, expected};
use chase::{Chase, Goal, Lane};
use compiler::Compiled;
use compiler::algebra::{Family, RangeSet, parse_addr};
use compiler::eval::ViewDecision;
use compiler::ids::{ChannelId, GatewayId, Id as _, OwnerId};
use compiler::packet::Flow;
use sheet::Sheets;
use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};

/// More boxes than the work allows: ask a solver.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("too many boxes")]
pub struct TooWide;

/// Flows of a channel on which everything is decided alike.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Part {
    pub extent: Extent,
    pub allow: bool,
    /// The gateway through which these flows go, if they are allowed.
    pub via: Option<GatewayId>,
    /// The source's view; `None` where the source is an external.
    pub egress: Option<ViewDecision>,
    /// The destination's view; `None` inside one tenant and towards an external.
    pub ingress: Option<ViewDecision>,
}

/// Allowed flows of a channel, and the gateway through which they go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Allowed {
    pub extent: Extent,
    pub via: Option<GatewayId>,
}

/// By channel and family: made for the first question about it.
type Slot = OnceLock<Result<Arc<Sheets>, TooWide>>;

/// The decisions on all channels. What both views say on a channel is read once, for the first question about it, and kept: share one
/// between questions, and between threads.
#[derive(Debug)]
pub struct Flows<'c> {
    c: &'c Compiled,
    work: Work,
    sheets: Vec<[Slot; 2]>,
    endpoints: OnceLock<BTreeMap<(OwnerId, Family), RangeSet>>,
}

impl<'c> Flows<'c> {
    /// `work`: box tests that one question may cost.
    #[must_use]
    pub fn new(c: &'c Compiled, work: Work) -> Self {
        let sheets = c.channels.ids().map(|_| [OnceLock::new(), OnceLock::new()]).collect();
        Self { c, work, sheets, endpoints: OnceLock::new() }
    }

    #[must_use]
    pub fn compiled(&self) -> &'c Compiled {
        self.c
    }

    /// The work that one question may cost.
    #[must_use]
    pub fn work(&self) -> Work {
        self.work
    }

    /// Every flow of the channel in that family (of those in `within`, if given: boxes that may overlap) with what decides it, as
    /// disjoint boxes, ascending. Each holds a flow and is [`Extent::tight`].
    ///
    /// # Errors
    /// There are too many boxes.
    pub fn decided(
        &self,
        channel: ChannelId,
        family: Family,
        within: Option<&[Extent]>,
    ) -> Result<Vec<Part>, TooWide> {
        let mut work = self.work;
        let mut parts = Vec::new();
        for region in Region::of(self.c, channel, family, within, &mut work)? {
            self.walk(channel, &region, walk::Wanted::All, &mut work, &|_| false, &mut |part| {
                parts.push(part);
                true
            })?;
        }
        let one_owner = self.one_owner(channel);
        let tight = |part: Part| Some(Part { extent: part.extent.tight(family, one_owner)?, ..part });
        let mut parts: Vec<Part> = parts.into_iter().filter_map(tight).collect();
        parts.sort_unstable_by_key(|part| part.extent);
        Ok(parts)
    }

    /// What is allowed of it, as disjoint boxes, ascending, neighbours that are allowed alike merged. Each holds a flow and is
    /// [`Extent::tight`].
    ///
    /// # Errors
    /// There are too many boxes.
    pub fn allowed(
        &self,
        channel: ChannelId,
        family: Family,
        within: Option<&[Extent]>,
    ) -> Result<Vec<Allowed>, TooWide> {
        let mut work = self.work;
        let regions = Region::of(self.c, channel, family, within, &mut work)?;
        self.allowed_in(channel, &regions, &mut work)
    }

    /// As [`Flows::allowed`], for regions of the channel in one family that have no flow in common.
    ///
    /// # Errors
    /// There are too many boxes.
    pub fn allowed_in(
        &self,
        channel: ChannelId,
        regions: &[Region],
        work: &mut Work,
    ) -> Result<Vec<Allowed>, TooWide> {
        let Some(family) = regions.first().map(|region| region.family) else { return Ok(Vec::new()) };
        let one_owner = self.one_owner(channel);
        let mut by_gateway: BTreeMap<Option<GatewayId>, Vec<Extent>> = BTreeMap::new();
        for region in regions {
            self.walk(channel, region, walk::Wanted::Allowed, work, &|_| false, &mut |part| {
                by_gateway.entry(part.via).or_default().push(part.extent);
                true
            })?;
        }
        let mut out = Vec::new();
        for (via, extents) in by_gateway {
            // Merged first: a box of all protocols is made of boxes that end where their protocols' fields do not.
            let tight = merged(extents).iter().filter_map(|e| e.tight(family, one_owner)).collect();
            out.extend(merged(tight).into_iter().map(|extent| Allowed { extent, via }));
        }
        out.sort_unstable();
        Ok(out)
    }

    /// Some box of allowed flows (through this gateway, if one is named), the first that is met.
    ///
    /// # Errors
    /// There are too many boxes.
    pub fn any_allowed(
        &self,
        channel: ChannelId,
        regions: &[Region],
        via: Option<GatewayId>,
        work: &mut Work,
    ) -> Result<Option<Extent>, TooWide> {
        let mut found = None;
        for region in regions {
            self.walk(channel, region, walk::Wanted::Allowed, work, &|_| false, &mut |part| {
                let fits = via.is_none() || part.via == via;
                if fits {
                    found = Some(part.extent);
                }
                !fits
            })?;
            if found.is_some() {
                break;
            }
        }
        Ok(found)
    }

    /// The flow that a reader expects, of those of `wanted` that are allowed on a channel and count.
    ///
    /// # Errors
    /// It was not found, nor the lack of it, within the work.
    pub fn first_allowed(
        &self,
        id: ChannelId,
        family: Family,
        wanted: Fence<'_>,
        through: Through<'_>,
        work: &mut Work,
    ) -> Result<Option<Flow>, TooWide> {
        let channel = &self.c.channels[id];
        let between = self.between(channel.src, channel.dst, family);
        let lanes = self.lanes(&[id], family)?;
        Chase { between, wanted, goal: Goal::Allowed(through), lanes }.first(work)
    }

    /// The flow that a reader expects, of those of `wanted` between two owners that are allowed on none of the channels between
    /// them, or on one that does not go through the gateway, if one is named.
    ///
    /// # Errors
    /// It was not found, nor the lack of it, within the work.
    pub fn first_astray(
        &self,
        (src, dst, family): (OwnerId, OwnerId, Family),
        channels: &[ChannelId],
        wanted: Fence<'_>,
        via: Option<GatewayId>,
        work: &mut Work,
    ) -> Result<Option<Flow>, TooWide> {
        let lanes = self.lanes(channels, family)?;
        let goal = Goal::Astray(via);
        Chase { between: self.between(src, dst, family), wanted, goal, lanes }.first(work)
    }

    /// The flow of some boxes between two owners that a reader expects; `None` if they hold none.
    #[must_use]
    pub fn witness(&self, src: OwnerId, dst: OwnerId, family: Family, boxes: &[Extent]) -> Option<Flow> {
        expected(self.between(src, dst, family), boxes)
    }

    fn between(&self, src: OwnerId, dst: OwnerId, family: Family) -> Between<'_> {
        static NONE: RangeSet = RangeSet::empty();
        let endpoints = self.endpoints.get_or_init(|| {
            let mut owners: BTreeMap<(OwnerId, Family), Vec<(u128, u128)>> = BTreeMap::new();
            for endpoint in self.c.model.endpoints.values() {
                for (family, address) in endpoint.addresses.iter().map(|a| parse_addr(*a)) {
                    owners.entry((endpoint.tenant, family)).or_default().push((address, address));
                }
            }
            owners.into_iter().map(|(key, ranges)| (key, RangeSet::from_ranges(ranges))).collect()
        });
        let declared = |owner: OwnerId| endpoints.get(&(owner, family)).unwrap_or(&NONE);
        Between { src, dst, family, src_declared: declared(src), dst_declared: declared(dst) }
    }

    fn lanes(&self, channels: &[ChannelId], family: Family) -> Result<Vec<Lane<'c>>, TooWide> {
        let lane =
            |id: &ChannelId| Ok(Lane { channel: &self.c.channels[*id], sheets: self.sheets(*id, family)? });
        channels.iter().map(lane).collect()
    }

    fn one_owner(&self, channel: ChannelId) -> bool {
        let channel = &self.c.channels[channel];
        channel.src == channel.dst
    }

    fn sheets(&self, channel: ChannelId, family: Family) -> Result<Arc<Sheets>, TooWide> {
        let at = usize::from(family == Family::V6);
        match self.sheets.get(channel.index()).and_then(|slots| slots.get(at)) {
            Some(slot) => slot.get_or_init(|| Sheets::new(self.c, channel, family).map(Arc::new)).clone(),
            None => Sheets::new(self.c, channel, family).map(Arc::new),
        }
    }
}
