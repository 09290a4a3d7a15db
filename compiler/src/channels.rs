//! The channels: every way on which a flow is possible, read off the flattened spaces.

use crate::algebra::{AddrSet, Family, RangeSet};
use crate::compiled::{Channel, ChannelKind, Destination, Source, Space};
use crate::ids::{Arena, ChannelId, OwnerId};
use crate::model::Model;
use crate::sets::ServiceSet;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Ranges of one kind, collected by family.
#[derive(Default)]
struct Parts {
    v4: Vec<(u128, u128)>,
    v6: Vec<(u128, u128)>,
}

impl Parts {
    fn push(&mut self, family: Family, lo: u128, hi: u128) {
        match family {
            Family::V4 => self.v4.push((lo, hi)),
            Family::V6 => self.v6.push((lo, hi)),
        }
    }

    fn set(self) -> AddrSet {
        AddrSet { v4: RangeSet::from_ranges(self.v4), v6: RangeSet::from_ranges(self.v6) }
    }
}

/// All channels, ordered by (source, destination, kind), and those of each owner.
#[must_use]
pub fn channels(
    model: &Model,
    spaces: &Arena<OwnerId, Space>,
) -> (Arena<ChannelId, Channel>, Arena<OwnerId, Vec<ChannelId>>) {
    let all = Arc::new(ServiceSet::all());
    // Destinations by (source owner, destination owner, kind); sources of exposures by (exposure, client).
    let mut destinations: BTreeMap<(OwnerId, OwnerId, ChannelKind), Parts> = BTreeMap::new();
    let mut clients: BTreeMap<(crate::ids::ExposureId, OwnerId), Parts> = BTreeMap::new();
    for (id, space) in spaces.iter() {
        for family in Family::BOTH {
            for range in space.destinations.family(family) {
                let (lo, hi) = (range.lo, range.hi);
                match &range.target {
                    Destination::Import { owner, real, exposures, .. } => {
                        for exposure in exposures {
                            destinations
                                .entry((id, *owner, ChannelKind::Exposed(*exposure)))
                                .or_default()
                                .push(family, *real, *real + (hi - lo));
                        }
                    }
                    Destination::External { owner, gateway, .. } => {
                        destinations
                            .entry((id, *owner, ChannelKind::ToExternal(*gateway)))
                            .or_default()
                            .push(family, lo, hi);
                    }
                    Destination::Direct { owner, route, .. } => {
                        destinations
                            .entry((id, *owner, ChannelKind::Direct(*route)))
                            .or_default()
                            .push(family, lo, hi);
                    }
                    Destination::Local { .. } | Destination::ClientOnly | Destination::Nowhere => {}
                }
            }
            for range in space.sources.family(family) {
                if let Source::Client { owner, real, exposures, .. }
                | Source::External { owner, real, exposures, .. } = &range.target
                {
                    for exposure in exposures {
                        clients.entry((*exposure, *owner)).or_default().push(
                            family,
                            *real,
                            *real + (range.hi - range.lo),
                        );
                    }
                }
            }
        }
    }
    let clients: BTreeMap<_, AddrSet> = clients.into_iter().map(|(key, parts)| (key, parts.set())).collect();
    let mut list: Vec<Channel> = Vec::new();
    for (id, owner) in model.owners.iter() {
        if owner.is_tenant() && !owner.universe.is_empty() {
            list.push(Channel {
                kind: ChannelKind::Intra,
                src: id,
                dst: id,
                src_set: owner.universe.clone(),
                dst_set: owner.universe.clone(),
                service: all.clone(),
                gateway: None,
            });
        }
    }
    for ((src, dst, kind), parts) in destinations {
        let dst_set = parts.set();
        let channel = match kind {
            ChannelKind::Exposed(id) => {
                let exposure = &model.exposures[id];
                let known = clients.get(&(id, src)).zip(exposure.clients_of(src));
                Channel {
                    kind,
                    src,
                    dst,
                    src_set: known.map(|(seen, set)| seen.intersect(set)).unwrap_or_default(),
                    dst_set: dst_set.intersect(&exposure.set),
                    service: exposure.service.clone(),
                    gateway: Some(exposure.gateway),
                }
            }
            ChannelKind::ToExternal(gateway) => Channel {
                kind,
                src,
                dst,
                src_set: model.owners[src].universe.clone(),
                dst_set,
                service: all.clone(),
                gateway: Some(gateway),
            },
            ChannelKind::Direct(_) | ChannelKind::Intra => Channel {
                kind,
                src,
                dst,
                src_set: model.owners[src].universe.clone(),
                dst_set,
                service: all.clone(),
                gateway: None,
            },
        };
        if !channel.src_set.is_empty() && !channel.dst_set.is_empty() {
            list.push(channel);
        }
    }
    list.sort_by_key(|c| (c.src, c.dst, c.kind));
    let mut of: Vec<Vec<ChannelId>> = vec![Vec::new(); model.owners.len()];
    let channels = Arena::<ChannelId, Channel>::new(list);
    for (id, channel) in channels.iter() {
        use crate::ids::Id;
        for owner in
            [Some(channel.src), (channel.dst != channel.src).then_some(channel.dst)].into_iter().flatten()
        {
            if let Some(list) = of.get_mut(owner.index()) {
                list.push(id);
            }
        }
    }
    (channels, Arena::new(of))
}
