//! Owners and gateways of two projects, matched by name.

use compiler::Compiled;
use compiler::ids::{GatewayId, Id as _, OwnerId};
use std::collections::BTreeMap;

/// One of the two projects.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Side {
    Old,
    New,
}

impl Side {
    pub const BOTH: [Self; 2] = [Self::Old, Self::New];

    /// Picks this side's of a pair.
    pub fn of<T>(self, pair: &[T; 2]) -> &T {
        let [old, new] = pair;
        match self {
            Self::Old => old,
            Self::New => new,
        }
    }

    #[must_use]
    pub fn other(self) -> Self {
        match self {
            Self::Old => Self::New,
            Self::New => Self::Old,
        }
    }
}

/// An owner of either project: a tenant and an external of one name are two.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Joint(u32);

/// The owners of both projects.
#[derive(Debug)]
pub struct Names<'c> {
    /// Ascending: names, and whether it is a tenant.
    owners: Vec<(&'c str, bool)>,
    /// By owner of either project: its id in each.
    ids: Vec<[Option<OwnerId>; 2]>,
    /// By id in each project.
    joint: [Vec<Joint>; 2],
    gateways: BTreeMap<&'c str, u32>,
    compiled: [&'c Compiled; 2],
}

impl<'c> Names<'c> {
    #[must_use]
    pub fn new(old: &'c Compiled, new: &'c Compiled) -> Self {
        let compiled = [old, new];
        let mut by: BTreeMap<(&'c str, bool), [Option<OwnerId>; 2]> = BTreeMap::new();
        for side in Side::BOTH {
            for (id, owner) in side.of(&compiled).model.owners.iter() {
                let [o, n] = by.entry((owner.name.as_str(), owner.is_tenant())).or_default();
                match side {
                    Side::Old => *o = Some(id),
                    Side::New => *n = Some(id),
                }
            }
        }
        let mut joint = [vec![Joint(0); old.model.owners.len()], vec![Joint(0); new.model.owners.len()]];
        for (number, ids) in (0_u32..).zip(by.values()) {
            let [old_joint, new_joint] = &mut joint;
            for (id, list) in ids.iter().zip([old_joint, new_joint]) {
                if let Some(slot) = id.and_then(|id| list.get_mut(id.index())) {
                    *slot = Joint(number);
                }
            }
        }
        let all = compiled.iter().flat_map(|c| c.model.gateways.values());
        let mut gateways: BTreeMap<&'c str, u32> = all.map(|g| (g.name.as_str(), 0)).collect();
        for (number, slot) in (0..).zip(gateways.values_mut()) {
            *slot = number;
        }
        let (owners, ids) = by.into_iter().unzip();
        Self { owners, ids, joint, gateways, compiled }
    }

    /// The compiled form of a side.
    #[must_use]
    pub fn compiled(&self, side: Side) -> &'c Compiled {
        let compiled: &&'c Compiled = side.of(&self.compiled);
        compiled
    }

    /// The owner with this id on this side.
    #[must_use]
    pub fn joint(&self, side: Side, owner: OwnerId) -> Joint {
        side.of(&self.joint).get(owner.index()).copied().unwrap_or(Joint(u32::MAX))
    }

    /// The owner's id on a side; `None`: it does not exist there.
    #[must_use]
    pub fn id(&self, side: Side, owner: Joint) -> Option<OwnerId> {
        self.ids.get(owner.0 as usize).and_then(|ids| *side.of(ids))
    }

    /// Name, and whether it is a tenant.
    #[must_use]
    pub fn owner(&self, owner: Joint) -> (&'c str, bool) {
        self.owners.get(owner.0 as usize).copied().unwrap_or(("", true))
    }

    /// A number for a gateway's name, the same on both sides, ascending with the names.
    #[must_use]
    pub fn gateway(&self, side: Side, gateway: GatewayId) -> u32 {
        let name = self.compiled(side).model.gateways[gateway].name.as_str();
        self.gateways.get(name).copied().unwrap_or(u32::MAX)
    }
}
