//! Sets of ends and of services: what rules, exposures, tests and invariants are made of.

use crate::algebra::{AddrSet, Family, RangeSet};
use crate::ids::{Arena, OwnerId};
use crate::model::Owner;
use crate::packet::Flow;

/// A set of ends (owner, real address).
///
/// An owner that is not listed contributes `rest` (within its own prefixes): empty for ordinary sets, everything for
/// `any`, a literal for `any & 10.0.0.0/8`. So `any` costs the same with one tenant and with ten thousand.
/// INVARIANT: `owners` ascends by owner, each once.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct EndSet {
    pub rest: AddrSet,
    pub owners: Vec<(OwnerId, AddrSet)>,
}

impl EndSet {
    #[must_use]
    pub fn empty() -> Self {
        Self::default()
    }

    /// `any`
    #[must_use]
    pub fn any() -> Self {
        Self { rest: AddrSet::full(), owners: Vec::new() }
    }

    #[must_use]
    pub fn owner(owner: OwnerId, set: AddrSet) -> Self {
        Self { rest: AddrSet::empty(), owners: vec![(owner, set)] }
    }

    /// The addresses of this owner in the set; may exceed the owner's own prefixes where `rest` serves.
    #[must_use]
    pub fn of(&self, owner: OwnerId) -> &AddrSet {
        self.owners
            .binary_search_by_key(&owner, |(o, _)| *o)
            .ok()
            .and_then(|at| self.owners.get(at))
            .map_or(&self.rest, |(_, set)| set)
    }

    #[must_use]
    pub fn contains(&self, owner: OwnerId, family: Family, address: u128) -> bool {
        self.of(owner).contains(family, address)
    }

    fn zip(&self, other: &Self, f: impl Fn(&AddrSet, &AddrSet) -> AddrSet) -> Self {
        let mut ids: Vec<OwnerId> = self.owners.iter().chain(&other.owners).map(|(o, _)| *o).collect();
        ids.sort_unstable();
        ids.dedup();
        Self {
            rest: f(&self.rest, &other.rest),
            owners: ids.into_iter().map(|o| (o, f(self.of(o), other.of(o)))).collect(),
        }
    }

    #[must_use]
    pub fn union(&self, other: &Self) -> Self {
        self.zip(other, AddrSet::union)
    }

    #[must_use]
    pub fn intersect(&self, other: &Self) -> Self {
        self.zip(other, AddrSet::intersect)
    }

    #[must_use]
    pub fn subtract(&self, other: &Self) -> Self {
        self.zip(other, AddrSet::subtract)
    }

    /// The first owner of whom `only` holds and of whose own addresses the set has some.
    #[must_use]
    pub fn some_owner(
        &self,
        owners: &Arena<OwnerId, Owner>,
        only: impl Fn(OwnerId) -> bool,
    ) -> Option<OwnerId> {
        let has = |id: OwnerId, part: &AddrSet| only(id) && part.overlaps(&owners[id].universe);
        let listed = self.owners.iter().find(|(id, part)| has(*id, part)).map(|(id, _)| *id);
        if self.rest.is_empty() {
            return listed;
        }
        let unlisted = |id: &OwnerId| self.owners.binary_search_by_key(id, |(o, _)| *o).is_err();
        let rest = owners.ids().find(|id| unlisted(id) && has(*id, &self.rest));
        listed.into_iter().chain(rest).min()
    }

    /// Whether the set has no address of any owner.
    #[must_use]
    pub fn is_empty_within(&self, owners: &Arena<OwnerId, Owner>) -> bool {
        self.some_owner(owners, |_| true).is_none()
    }

    /// The same operation on the addresses of every owner.
    #[must_use]
    pub fn filter(&self, f: impl Fn(&AddrSet) -> AddrSet) -> Self {
        Self { rest: f(&self.rest), owners: self.owners.iter().map(|(o, set)| (*o, f(set))).collect() }
    }
}

/// One box of services. For TCP, UDP and SCTP `x` is the source and `y` the destination port; for ICMP and ICMPv6 the
/// type and the code; every other protocol has zero in both. All inclusive.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ServiceBox {
    pub proto: (u8, u8),
    pub x: (u16, u16),
    pub y: (u16, u16),
}

impl ServiceBox {
    pub const ALL: Self = Self { proto: (0, 255), x: (0, u16::MAX), y: (0, u16::MAX) };

    #[must_use]
    pub fn contains(&self, proto: u8, x: u16, y: u16) -> bool {
        self.proto.0 <= proto
            && proto <= self.proto.1
            && self.x.0 <= x
            && x <= self.x.1
            && self.y.0 <= y
            && y <= self.y.1
    }

    /// The common part; `None` if there is none.
    #[must_use]
    pub fn intersect(&self, other: &Self) -> Option<Self> {
        let proto = (self.proto.0.max(other.proto.0), self.proto.1.min(other.proto.1));
        let x = (self.x.0.max(other.x.0), self.x.1.min(other.x.1));
        let y = (self.y.0.max(other.y.0), self.y.1.min(other.y.1));
        (proto.0 <= proto.1 && x.0 <= x.1 && y.0 <= y.1).then_some(Self { proto, x, y })
    }
}

/// A union of service boxes, possibly overlapping.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct ServiceSet {
    pub boxes: Vec<ServiceBox>,
}

impl ServiceSet {
    #[must_use]
    pub fn all() -> Self {
        Self { boxes: vec![ServiceBox::ALL] }
    }

    #[must_use]
    pub fn contains(&self, proto: u8, x: u16, y: u16) -> bool {
        self.boxes.iter().any(|b| b.contains(proto, x, y))
    }

    #[must_use]
    pub fn intersect(&self, other: &Self) -> Self {
        let mut boxes: Vec<ServiceBox> =
            self.boxes.iter().flat_map(|a| other.boxes.iter().filter_map(|b| a.intersect(b))).collect();
        boxes.sort_unstable();
        boxes.dedup();
        Self { boxes }
    }

    /// Whether some flow of this family can carry one of these services.
    #[must_use]
    pub fn possible(&self, family: Family) -> bool {
        self.boxes.iter().any(|b| crate::packet::possible_protocol(b, family).is_some())
    }
}

/// Whether some flow lies in `src` × `dst` × `service`: not both ends one, one family, a protocol of that family.
#[must_use]
pub fn some_flow(same_owner: bool, src: &AddrSet, dst: &AddrSet, service: &ServiceSet) -> bool {
    Family::BOTH.into_iter().any(|family| {
        let (s, d) = (src.family(family), dst.family(family));
        let both = !s.is_empty() && !d.is_empty() && service.possible(family);
        both && !(same_owner && one_end_only(s, d))
    })
}

/// Whether both sets hold the same one address and nothing else.
fn one_end_only(src: &RangeSet, dst: &RangeSet) -> bool {
    src.first().is_some_and(|a| src.is_singleton(a) && dst.is_singleton(a))
}

/// The pairs of a rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PairSet {
    /// Both ends in one tenant.
    SameTenant,
    Sets(std::sync::Arc<EndSet>, std::sync::Arc<EndSet>),
}

impl PairSet {
    #[must_use]
    pub fn contains(&self, flow: &Flow) -> bool {
        match self {
            Self::SameTenant => flow.src.owner == flow.dst.owner,
            Self::Sets(src, dst) => {
                src.contains(flow.src.owner, flow.family, flow.src.address)
                    && dst.contains(flow.dst.owner, flow.family, flow.dst.address)
            }
        }
    }

    /// The addresses of the pairs between these two owners, as source and destination sets; `None` if the rule has no
    /// pair between them. A set may exceed the owner's own prefixes.
    #[must_use]
    pub fn between(&self, src: OwnerId, dst: OwnerId) -> Option<(AddrSet, AddrSet)> {
        match self {
            Self::SameTenant => (src == dst).then(|| (AddrSet::full(), AddrSet::full())),
            Self::Sets(s, d) => Some((s.of(src).clone(), d.of(dst).clone())),
        }
    }
}
