//! Every owner's address space, flattened: longest-prefix match over segments, imports, routes and client prefixes
//! becomes disjoint ranges (language reference, 2.3).

use crate::algebra::{AddrSet, Family, Prefix, paint, parse_addr};
use crate::compiled::{Destination, Source, Space, SpaceMap, SpaceRange};
use crate::ids::{Arena, ExposureId, GatewayId, Id, OwnerId, RouteId, SegmentId};
use crate::model::{Mapping, Model, RouteTarget};
use rayon::prelude::*;

/// What a prefix means in a space, before the longest match.
#[derive(Debug, Clone, Copy)]
enum Entry {
    Segment(SegmentId),
    /// An exposure presents the provider's addresses.
    Import(ExposureId, Mapping),
    /// An exposure shows a client's addresses.
    Client(ExposureId, OwnerId, Mapping),
    Route(RouteId),
    /// An external's own prefix, in its own space.
    Own,
}

/// The real address of the first seen address of a range under a mapping.
fn real_at(mapping: &Mapping, lo: u128) -> u128 {
    lo - mapping.seen.lo() + mapping.real.lo()
}

/// Flattens the space of every owner.
#[must_use]
pub fn spaces(model: &Model) -> Arena<OwnerId, Space> {
    let entries = entries(model);
    let externals = Externals::new(model);
    let spaces = entries.into_par_iter().map(|entries| space(model, &externals, entries)).collect();
    Arena::new(spaces)
}

fn entries(model: &Model) -> Vec<Vec<(Prefix, Entry)>> {
    let mut all: Vec<Vec<(Prefix, Entry)>> = vec![Vec::new(); model.owners.len()];
    let mut add = |owner: OwnerId, prefix: Prefix, entry: Entry| {
        if let Some(list) = all.get_mut(owner.index()) {
            list.push((prefix, entry));
        }
    };
    for (id, segment) in model.segments.iter() {
        for prefix in &segment.prefixes {
            add(segment.tenant, prefix.prefix, Entry::Segment(id));
        }
    }
    for (id, owner) in model.owners.iter() {
        if !owner.is_tenant() {
            for prefix in &owner.prefixes {
                add(id, *prefix, Entry::Own);
            }
        }
    }
    for (id, route) in model.routes.iter() {
        add(route.tenant, route.prefix, Entry::Route(id));
    }
    for (id, exposure) in model.exposures.iter() {
        for (client, _) in &exposure.clients {
            for mapping in &exposure.presented {
                add(*client, mapping.seen, Entry::Import(id, *mapping));
            }
        }
        for (client, mapping) in &exposure.shown {
            add(exposure.provider, mapping.seen, Entry::Client(id, *client, *mapping));
        }
    }
    all
}

/// The prefixes of the externals behind each gateway, flattened, without the underlay's addresses.
struct Externals {
    by_gateway: Arena<GatewayId, [Vec<SpaceRange<Option<OwnerId>>>; 2]>,
    underlay: AddrSet,
}

impl Externals {
    fn new(model: &Model) -> Self {
        let underlay = AddrSet::from_prefixes(
            model
                .nodes
                .values()
                .map(|n| {
                    let (family, address) = parse_addr(n.vtep);
                    Prefix::host(family, address)
                })
                .collect::<Vec<_>>()
                .iter(),
        );
        let by_gateway = model
            .gateways
            .values()
            .map(|gateway| {
                Family::BOTH.map(|family| {
                    let mut entries: Vec<(Prefix, Option<OwnerId>)> = gateway
                        .joins
                        .iter()
                        .filter(|id| !model.owners[**id].is_tenant())
                        .flat_map(|id| model.owners[*id].prefixes.iter().map(|p| (*p, Some(*id))))
                        .collect();
                    // An underlay address is the most specific of all and belongs to no external.
                    entries.extend(
                        underlay
                            .family(family)
                            .ranges()
                            .iter()
                            .flat_map(|&(lo, hi)| AddrSet::range(family, lo, hi).prefixes())
                            .flat_map(|p| (p.lo()..=p.hi()).map(move |a| (Prefix::host(p.family, a), None))),
                    );
                    entries.retain(|(p, _)| p.family == family);
                    paint(entries)
                        .into_iter()
                        .map(|p| {
                            // At one prefix the underlay's entry comes last; it wins.
                            let innermost = if p.covering.contains(&None) && p.lo == p.hi {
                                None
                            } else {
                                p.covering.first().copied().flatten()
                            };
                            SpaceRange { lo: p.lo, hi: p.hi, target: innermost }
                        })
                        .collect()
                })
            })
            .collect();
        Self { by_gateway: Arena::new(by_gateway), underlay }
    }

    /// The parts of `lo..=hi` by external; `None` where no external has them.
    fn split(
        &self,
        gateway: GatewayId,
        family: Family,
        lo: u128,
        hi: u128,
    ) -> Vec<(u128, u128, Option<OwnerId>)> {
        let [v4, v6] = &self.by_gateway[gateway];
        let ranges = match family {
            Family::V4 => v4,
            Family::V6 => v6,
        };
        let mut out = Vec::new();
        let mut from = Some(lo);
        for range in ranges.iter().skip(ranges.partition_point(|r| r.hi < lo)) {
            let Some(start) = from else { break };
            if range.lo > hi {
                break;
            }
            if range.lo > start {
                out.push((start, range.lo - 1, None));
            }
            let (part_lo, part_hi) = (range.lo.max(start), range.hi.min(hi));
            out.push((part_lo, part_hi, range.target));
            from = part_hi.checked_add(1).filter(|next| *next <= hi);
        }
        if let Some(start) = from {
            out.push((start, hi, None));
        }
        out
    }
}

fn space(model: &Model, externals: &Externals, entries: Vec<(Prefix, Entry)>) -> Space {
    let mut space = Space::default();
    let (v4, v6): (Vec<_>, Vec<_>) = entries.into_iter().partition(|(p, _)| p.family == Family::V4);
    for (family, entries) in [(Family::V4, v4), (Family::V6, v6)] {
        let mut flat = Flat { model, externals, family, destinations: Vec::new(), sources: Vec::new() };
        // At equal prefixes a segment comes before an import, a route and a client.
        let mut entries = entries;
        entries.sort_by_key(|(_, entry)| match entry {
            Entry::Segment(_) => 0,
            Entry::Import(..) => 1,
            Entry::Route(_) => 2,
            Entry::Client(..) => 3,
            Entry::Own => 4,
        });
        for range in paint(entries.into_iter().map(|(p, e)| (p, (p, e))).collect()) {
            flat.range(range.lo, range.hi, &range.covering);
        }
        let (destinations, sources) = (flat.destinations, flat.sources);
        set(&mut space.destinations, family, destinations);
        set(&mut space.sources, family, sources);
    }
    space
}

fn set<T>(map: &mut SpaceMap<T>, family: Family, ranges: Vec<SpaceRange<T>>) {
    match family {
        Family::V4 => map.v4 = ranges,
        Family::V6 => map.v6 = ranges,
    }
}

struct Flat<'a> {
    model: &'a Model,
    externals: &'a Externals,
    family: Family,
    destinations: Vec<SpaceRange<Destination>>,
    sources: Vec<SpaceRange<Source>>,
}

impl Flat<'_> {
    /// One stretch with everything that covers it, the longest prefix first.
    fn range(&mut self, lo: u128, hi: u128, covering: &[(Prefix, Entry)]) {
        // Stretches behind a gateway's route, or shown as an external's, are cut where the external or the underlay changes.
        let mut cuts = vec![(lo, hi)];
        for (_, entry) in covering {
            if let Entry::Route(id) = entry
                && let RouteTarget::Via(gateway) = self.model.routes[*id].target
            {
                cuts = cuts
                    .into_iter()
                    .flat_map(|(lo, hi)| self.externals.split(gateway, self.family, lo, hi))
                    .map(|(lo, hi, _)| (lo, hi))
                    .collect();
            }
        }
        let of_external = |entry: &Entry| match entry {
            Entry::Client(_, owner, _) => !self.model.owners[*owner].is_tenant(),
            Entry::Own => true,
            Entry::Segment(_) | Entry::Import(..) | Entry::Route(_) => false,
        };
        if covering.iter().any(|(_, entry)| of_external(entry)) {
            cuts = cuts.into_iter().flat_map(|cut| self.cut_underlay(cut)).collect();
        }
        for (lo, hi) in cuts {
            if let Some(target) = self.destination(lo, covering) {
                self.destinations.push(SpaceRange { lo, hi, target });
            }
            if let Some(target) = self.source(lo, covering) {
                self.sources.push(SpaceRange { lo, hi, target });
            }
        }
    }

    fn cut_underlay(&self, (lo, hi): (u128, u128)) -> Vec<(u128, u128)> {
        let mut out = Vec::new();
        let mut from = lo;
        for &(a, b) in self.externals.underlay.family(self.family).ranges() {
            let (a, b) = (a.max(from), b.min(hi));
            if a > b {
                continue;
            }
            if a > from {
                out.push((from, a - 1));
            }
            out.push((a, b));
            match b.checked_add(1) {
                Some(next) if next <= hi => from = next,
                _ => return out,
            }
        }
        out.push((from, hi));
        out
    }

    fn underlay(&self, address: u128) -> bool {
        self.externals.underlay.contains(self.family, address)
    }

    /// The external behind a gateway at an address.
    fn external_at(&self, gateway: GatewayId, address: u128) -> Option<OwnerId> {
        self.externals.split(gateway, self.family, address, address).first().and_then(|(_, _, owner)| *owner)
    }

    /// What the stretch means as a destination.
    fn destination(&self, lo: u128, covering: &[(Prefix, Entry)]) -> Option<Destination> {
        // The longest of segments, imports and routes; the most specific client prefix.
        let best = covering.iter().find(|(_, e)| !matches!(e, Entry::Client(..) | Entry::Own));
        let client = covering.iter().find_map(|(p, e)| match e {
            Entry::Client(_, owner, mapping) => Some((*p, (*owner, real_at(mapping, lo)))),
            _ => None,
        });
        let Some((prefix, entry)) = best else {
            return match client {
                // Nobody's client lives at an underlay address.
                Some((_, (owner, _))) if self.underlay(lo) && !self.model.owners[owner].is_tenant() => None,
                Some(_) => Some(Destination::ClientOnly),
                None => None,
            };
        };
        let (target, means) = match entry {
            Entry::Segment(segment) => (Destination::Local { segment: *segment }, None),
            Entry::Import(id, mapping) => {
                let provider = self.model.exposures[*id].provider;
                let gateway = self.model.exposures[*id].gateway;
                let real = real_at(mapping, lo);
                let exposures = self.importers(lo, covering, provider, real, gateway);
                (Destination::Import { owner: provider, real, gateway, exposures }, Some((provider, real)))
            }
            Entry::Route(id) => match &self.model.routes[*id].target {
                RouteTarget::Via(gateway) => match self.external_at(*gateway, lo) {
                    Some(owner) => {
                        (Destination::External { owner, gateway: *gateway, route: *id }, Some((owner, lo)))
                    }
                    None => (Destination::Nowhere, None),
                },
                RouteTarget::Direct { segment, .. } => {
                    let owner = self.model.segments[*segment].tenant;
                    (Destination::Direct { owner, segment: *segment, route: *id }, Some((owner, lo)))
                }
            },
            Entry::Client(..) | Entry::Own => (Destination::Nowhere, None),
        };
        let underlay_route = matches!(entry, Entry::Route(_)) && self.underlay(lo);
        // Replies to a more specific client go there, so nothing else may.
        if let Some((client_prefix, end)) = client
            && client_prefix.len() > prefix.len()
            && means != Some(end)
            && !underlay_route
            && !matches!(target, Destination::Local { .. })
        {
            return Some(Destination::ClientOnly);
        }
        Some(target)
    }

    /// The exposures that present `(provider, real)` at `lo` through this gateway.
    fn importers(
        &self,
        lo: u128,
        covering: &[(Prefix, Entry)],
        provider: OwnerId,
        real: u128,
        gateway: GatewayId,
    ) -> Vec<ExposureId> {
        let mut ids: Vec<ExposureId> = covering
            .iter()
            .filter_map(|(_, e)| match e {
                Entry::Import(id, mapping) => {
                    let exposure = &self.model.exposures[*id];
                    (exposure.provider == provider
                        && exposure.gateway == gateway
                        && real_at(mapping, lo) == real)
                        .then_some(*id)
                }
                _ => None,
            })
            .collect();
        ids.sort_unstable();
        ids.dedup();
        ids
    }

    /// The exposures that show `end` as a client at `lo`, with the gateway of the most specific one.
    fn shown(
        &self,
        lo: u128,
        covering: &[(Prefix, Entry)],
        end: (OwnerId, u128),
    ) -> Option<(GatewayId, Vec<ExposureId>)> {
        let of_end = |(_, entry): &(Prefix, Entry)| match entry {
            Entry::Client(id, owner, mapping) if (*owner, real_at(mapping, lo)) == end => Some(*id),
            _ => None,
        };
        let first = covering.iter().find_map(of_end)?;
        let gateway = self.model.exposures[first].gateway;
        let mut ids: Vec<ExposureId> = covering
            .iter()
            .filter_map(of_end)
            .filter(|id| self.model.exposures[*id].gateway == gateway)
            .collect();
        ids.sort_unstable();
        ids.dedup();
        Some((gateway, ids))
    }

    /// What the stretch means as a source.
    fn source(&self, lo: u128, covering: &[(Prefix, Entry)]) -> Option<Source> {
        if let Some(segment) = covering.iter().find_map(|(_, e)| match e {
            Entry::Segment(segment) => Some(*segment),
            _ => None,
        }) {
            return Some(Source::Local { segment });
        }
        if covering.iter().any(|(_, e)| matches!(e, Entry::Own)) {
            // In an external's own space only its own prefixes are sources.
            return (!self.underlay(lo)).then_some(Source::Own);
        }
        let tenant_client = covering.iter().find_map(|(_, e)| match e {
            Entry::Client(_, owner, mapping) if self.model.owners[*owner].is_tenant() => {
                Some((*owner, real_at(mapping, lo)))
            }
            _ => None,
        });
        if let Some(end) = tenant_client {
            let (gateway, exposures) = self.shown(lo, covering, end)?;
            return Some(Source::Client { owner: end.0, real: end.1, gateway, exposures });
        }
        // The longest match over imports, routes and the client prefixes of externals.
        let (_, entry) = covering.iter().find(|(_, e)| !matches!(e, Entry::Segment(_) | Entry::Own))?;
        match entry {
            Entry::Route(id) => match self.model.routes[*id].target {
                RouteTarget::Direct { segment, .. } => {
                    Some(Source::Direct { owner: self.model.segments[segment].tenant, route: *id })
                }
                RouteTarget::Via(gateway) => {
                    let owner = self.external_at(gateway, lo)?;
                    let exposures =
                        self.shown(lo, covering, (owner, lo)).map(|(_, ids)| ids).unwrap_or_default();
                    Some(Source::External { owner, real: lo, gateway, exposures })
                }
            },
            Entry::Client(_, owner, mapping) if !self.underlay(lo) => {
                let end = (*owner, real_at(mapping, lo));
                let (gateway, exposures) = self.shown(lo, covering, end)?;
                Some(Source::External { owner: end.0, real: end.1, gateway, exposures })
            }
            _ => None,
        }
    }
}
