//! The compiled form: the typed model, every owner's address space flattened, and the channels on which flows are
//! possible. The evaluator, the proofs and all targets read this and nothing else.

use crate::algebra::{AddrSet, Family};
use crate::ids::{Arena, ChannelId, ExposureId, GatewayId, OwnerId, PolicyId, RouteId, SegmentId};
use crate::lists::Lists;
use crate::model::Model;
use crate::sets::ServiceSet;
use std::sync::Arc;

#[derive(Debug, Clone, Default)]
pub struct Compiled {
    pub model: Model,
    /// One per owner: what its addresses mean there.
    pub spaces: Arena<OwnerId, Space>,
    /// Every way on which a flow is possible, ordered by (source owner, destination owner, kind).
    pub channels: Arena<ChannelId, Channel>,
    /// One per owner: the channels that begin or end there, ascending.
    pub channels_of: Arena<OwnerId, Vec<ChannelId>>,
    /// One per owner: its policies and the platform's, by tier (highest first), ascending within a tier. Empty for
    /// externals.
    pub views: Arena<OwnerId, Vec<Vec<PolicyId>>>,
    /// What finds the first match of a long policy; it follows from the model.
    pub lists: Lists,
}

/// One owner's address space: what an address means as a destination, and as a source.
#[derive(Debug, Clone, Default)]
pub struct Space {
    pub destinations: SpaceMap<Destination>,
    pub sources: SpaceMap<Source>,
}

/// Disjoint ranges of both families.
#[derive(Debug, Clone)]
pub struct SpaceMap<T> {
    pub v4: Vec<SpaceRange<T>>,
    pub v6: Vec<SpaceRange<T>>,
}

impl<T> Default for SpaceMap<T> {
    fn default() -> Self {
        Self { v4: Vec::new(), v6: Vec::new() }
    }
}

/// `lo..=hi` (as seen) means `target`; INVARIANT: ascending and disjoint within a map.
#[derive(Debug, Clone)]
pub struct SpaceRange<T> {
    pub lo: u128,
    pub hi: u128,
    pub target: T,
}

impl<T> SpaceMap<T> {
    #[must_use]
    pub fn family(&self, family: Family) -> &[SpaceRange<T>] {
        match family {
            Family::V4 => &self.v4,
            Family::V6 => &self.v6,
        }
    }

    /// The range that holds this address as seen.
    #[must_use]
    pub fn get(&self, family: Family, address: u128) -> Option<&SpaceRange<T>> {
        let ranges = self.family(family);
        let at = ranges.partition_point(|r| r.hi < address);
        ranges.get(at).filter(|r| r.lo <= address)
    }
}

/// A destination range. A seen address `a` means the real address `a - lo + real`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Destination {
    /// A segment of the space's own tenant.
    Local { segment: SegmentId },
    /// Another tenant's end, presented by each of these exposures (ascending, all of one gateway).
    Import { owner: OwnerId, real: u128, gateway: GatewayId, exposures: Vec<ExposureId> },
    /// An external's end behind a route to a gateway.
    External { owner: OwnerId, gateway: GatewayId, route: RouteId },
    /// Another tenant's end behind a direct route.
    Direct { owner: OwnerId, segment: SegmentId, route: RouteId },
    /// Known only as a client's: `not-exposed`.
    ClientOnly,
    /// Routed to a gateway none of whose externals has it, or an underlay address: `no-route`.
    Nowhere,
}

/// A source range. A seen address `a` means the real address `a - lo + real`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    Local {
        segment: SegmentId,
    },
    /// A client of the space's tenant: each of these exposures (ascending) shows it under this address.
    Client {
        owner: OwnerId,
        real: u128,
        gateway: GatewayId,
        exposures: Vec<ExposureId>,
    },
    /// An external's end: by route (`gateway` is the route's), or by exposures that show it under this address.
    External {
        owner: OwnerId,
        real: u128,
        gateway: GatewayId,
        exposures: Vec<ExposureId>,
    },
    /// Another tenant's end behind a direct route.
    Direct {
        owner: OwnerId,
        route: RouteId,
    },
    /// In an external's own space: one of its prefixes.
    Own,
}

/// A way on which flows are possible: a box of ends and services. What a view says may depend on the rest only through
/// `kind` and `gateway`.
#[derive(Debug, Clone)]
pub struct Channel {
    pub kind: ChannelKind,
    pub src: OwnerId,
    pub dst: OwnerId,
    /// Real source addresses, within the source owner's prefixes.
    pub src_set: AddrSet,
    /// Real destination addresses.
    pub dst_set: AddrSet,
    pub service: Arc<ServiceSet>,
    /// The gateway that carries it; `None` inside a tenant and on a direct route.
    pub gateway: Option<GatewayId>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ChannelKind {
    /// Inside one tenant.
    Intra,
    /// To another tenant, or from an external, under an exposure of the destination.
    Exposed(ExposureId),
    /// To an external behind a gateway.
    ToExternal(GatewayId),
    /// Past every gateway.
    Direct(RouteId),
}
