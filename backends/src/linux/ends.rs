//! The ends that matter on a node, as one space sees them, grouped so that all ends of a class are decided alike.
//!
//! Two ends share a class if no rule's set, no exposure and no client set tells them apart, and the space resolves both by
//! the same range. The decision on a pair of classes is then the decision on any pair of their members.

use compiler::Compiled;
use compiler::algebra::{AddrSet, Family, parse_addr};
use compiler::compiled::{Destination, Source, SpaceRange};
use compiler::ids::{EndpointId, ExposureId, GatewayId, NodeId, OwnerId, RuleId};
use compiler::model::Mapping;
use compiler::packet::End;
use compiler::sets::PairSet;
use std::collections::{BTreeMap, BTreeSet};

/// A stretch of addresses `lo..=hi` as seen, whose first real end is `end`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Stretch {
    pub lo: u128,
    pub hi: u128,
    pub end: End,
    /// The endpoint, where the owner is a tenant.
    pub endpoint: Option<EndpointId>,
    /// The gateway behind which it is seen; `None` for the space's own ends and direct routes.
    pub gateway: Option<GatewayId>,
}

/// Ends that every policy decides alike.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Class {
    pub members: Vec<Stretch>,
    /// Whether the members live on the node.
    pub here: bool,
}

/// Both sides of one space and family.
#[derive(Debug, Clone, Default)]
pub struct Classes {
    pub sources: Vec<Class>,
    pub destinations: Vec<Class>,
}

/// Which ranges of a space a node deals with.
pub trait Scope {
    /// A range behind this gateway; `None`: the space's own ends and direct routes.
    fn gateway(&self, gateway: Option<GatewayId>) -> bool;
    /// The node whose endpoints are `here`.
    fn node(&self) -> NodeId;
}

/// The rules in the views of these owners, ascending.
#[must_use]
pub fn rules_of(c: &Compiled, owners: impl IntoIterator<Item = OwnerId>) -> Vec<RuleId> {
    let policies: BTreeSet<_> =
        owners.into_iter().flat_map(|owner| c.views[owner].iter().flatten().copied()).collect();
    let rules: BTreeSet<RuleId> =
        policies.into_iter().flat_map(|policy| c.model.policies[policy].rules.iter().copied()).collect();
    rules.into_iter().collect()
}

/// Endpoint addresses by owner and family, ascending, and the ends that each exposure can carry.
#[derive(Debug, Default)]
pub struct Addresses {
    by_owner: BTreeMap<(OwnerId, Family), Vec<(u128, EndpointId)>>,
    carried: BTreeMap<(ExposureId, OwnerId), Carried>,
    /// (tenant, another one that has direct routes to it) → what they lead to.
    direct: BTreeMap<(OwnerId, OwnerId), AddrSet>,
}

/// The ends for which an exposure's translations to and from one client owner lead back to where they came from: the
/// evaluator asks for that, so it tells ends apart.
#[derive(Debug, Default)]
struct Carried {
    /// Real addresses of the client.
    clients: AddrSet,
    /// Real addresses of the provider.
    provided: AddrSet,
}

impl Carried {
    fn new(c: &Compiled, id: ExposureId, client: OwnerId) -> Self {
        let exposure = &c.model.exposures[id];
        let mut out = Self::default();
        for family in Family::BOTH {
            for r in c.spaces[exposure.provider].sources.family(family) {
                if let Source::Client { owner, real, exposures, .. }
                | Source::External { owner, real, exposures, .. } = &r.target
                    && *owner == client
                    && exposures.contains(&id)
                {
                    let shown = exposure.shown.iter().filter(|(o, _)| *o == client).map(|(_, m)| m);
                    out.clients = out.clients.union(&mapped(family, (r.lo, r.hi), *real, shown));
                }
            }
            for r in c.spaces[client].destinations.family(family) {
                if let Destination::Import { owner, real, exposures, .. } = &r.target
                    && *owner == exposure.provider
                    && exposures.contains(&id)
                {
                    let presented = exposure.presented.iter();
                    out.provided = out.provided.union(&mapped(family, (r.lo, r.hi), *real, presented));
                }
            }
        }
        out
    }
}

/// The real addresses of a range that one of the mappings translates as the range does.
fn mapped<'m>(
    family: Family,
    (lo, hi): (u128, u128),
    real: u128,
    mappings: impl Iterator<Item = &'m Mapping>,
) -> AddrSet {
    let range = AddrSet::range(family, real, real + (hi - lo));
    let offset = lo.wrapping_sub(real);
    mappings
        .filter(|m| m.real.family == family && m.seen.lo().wrapping_sub(m.real.lo()) == offset)
        .fold(AddrSet::empty(), |set, m| set.union(&range.intersect(&AddrSet::prefix(m.real))))
}

impl Addresses {
    #[must_use]
    pub fn new(c: &Compiled) -> Self {
        let exposures = c.model.exposures.iter();
        let carried = exposures
            .flat_map(|(id, e)| e.clients.iter().map(move |(client, _)| (id, *client)))
            .map(|(id, client)| ((id, client), Carried::new(c, id, client)))
            .collect();
        let mut direct: BTreeMap<(OwnerId, OwnerId), AddrSet> = BTreeMap::new();
        for (from, space) in c.spaces.iter() {
            for family in Family::BOTH {
                for r in space.destinations.family(family) {
                    if let Destination::Direct { owner, .. } = r.target {
                        let set = direct.entry((owner, from)).or_default();
                        *set = set.union(&AddrSet::range(family, r.lo, r.hi));
                    }
                }
            }
        }
        let mut by_owner: BTreeMap<(OwnerId, Family), Vec<(u128, EndpointId)>> = BTreeMap::new();
        for (id, endpoint) in c.model.endpoints.iter() {
            for address in &endpoint.addresses {
                let (family, value) = parse_addr(*address);
                by_owner.entry((endpoint.tenant, family)).or_default().push((value, id));
            }
        }
        by_owner.values_mut().for_each(|list| list.sort_unstable());
        Self { by_owner, carried, direct }
    }

    /// The owner's endpoint addresses in `lo..=hi`.
    pub fn within(&self, owner: OwnerId, family: Family, lo: u128, hi: u128) -> &[(u128, EndpointId)] {
        let list = self.by_owner.get(&(owner, family)).map(Vec::as_slice).unwrap_or_default();
        let from = list.partition_point(|(a, _)| *a < lo);
        let to = list.partition_point(|(a, _)| *a <= hi);
        list.get(from..to).unwrap_or_default()
    }
}

/// What a range of a space means, for both sides alike.
struct Meaning {
    owner: OwnerId,
    /// Real address of the range's first.
    real: u128,
    gateway: Option<GatewayId>,
}

fn destination_meaning(space: OwnerId, range: &SpaceRange<Destination>) -> Option<Meaning> {
    match range.target {
        Destination::Local { .. } => Some(Meaning { owner: space, real: range.lo, gateway: None }),
        Destination::Import { owner, real, gateway, .. } => {
            Some(Meaning { owner, real, gateway: Some(gateway) })
        }
        Destination::External { owner, gateway, .. } => {
            Some(Meaning { owner, real: range.lo, gateway: Some(gateway) })
        }
        Destination::Direct { owner, .. } => Some(Meaning { owner, real: range.lo, gateway: None }),
        Destination::ClientOnly | Destination::Nowhere => None,
    }
}

fn source_meaning(space: OwnerId, range: &SpaceRange<Source>) -> Meaning {
    match range.target {
        Source::Local { .. } | Source::Own => Meaning { owner: space, real: range.lo, gateway: None },
        Source::Direct { owner, .. } => Meaning { owner, real: range.lo, gateway: None },
        Source::Client { owner, real, gateway, .. } | Source::External { owner, real, gateway, .. } => {
            Meaning { owner, real, gateway: Some(gateway) }
        }
    }
}

/// Groups the ends of one space and family.
#[must_use]
pub fn classes(
    c: &Compiled,
    addresses: &Addresses,
    scope: &impl Scope,
    space: OwnerId,
    family: Family,
) -> Classes {
    let sources: Vec<(&SpaceRange<Source>, Meaning)> =
        c.spaces[space].sources.family(family).iter().map(|r| (r, source_meaning(space, r))).collect();
    let destinations: Vec<(&SpaceRange<Destination>, Meaning)> = c.spaces[space]
        .destinations
        .family(family)
        .iter()
        .filter_map(|r| destination_meaning(space, r).map(|m| (r, m)))
        .collect();
    let owners: BTreeSet<OwnerId> = sources
        .iter()
        .map(|(_, m)| m.owner)
        .chain(destinations.iter().map(|(_, m)| m.owner))
        .chain([space])
        .collect();
    let judge = Judge::new(c, owners);
    let (mut from, mut to) = (Groups::default(), Groups::default());
    for (index, (range, meaning)) in sources.iter().enumerate() {
        if scope.gateway(meaning.gateway) {
            judge.split(c, addresses, scope, family, (range.lo, range.hi), meaning, index, &mut from);
        }
    }
    for (index, (range, meaning)) in destinations.iter().enumerate() {
        if scope.gateway(meaning.gateway) {
            judge.split(c, addresses, scope, family, (range.lo, range.hi), meaning, index, &mut to);
        }
    }
    Classes { sources: from.finish(), destinations: to.finish() }
}

/// Classes by what tells ends apart.
#[derive(Default)]
struct Groups {
    by_signature: BTreeMap<(usize, OwnerId, bool, Vec<u64>), Vec<Stretch>>,
}

impl Groups {
    fn finish(self) -> Vec<Class> {
        let mut out: Vec<Class> = self
            .by_signature
            .into_iter()
            .map(|((_, _, here, _), mut members)| {
                members.sort();
                Class { members, here }
            })
            .collect();
        // By the first address, so that the numbering follows the addresses and not the rules.
        out.sort_by(|a, b| a.members.first().cmp(&b.members.first()));
        out
    }
}

/// Everything that may tell two ends of an owner apart.
struct Judge<'a> {
    rules: Vec<&'a PairSet>,
    exposures: Vec<ExposureId>,
}

impl<'a> Judge<'a> {
    fn new(c: &'a Compiled, owners: BTreeSet<OwnerId>) -> Self {
        let rules =
            rules_of(c, owners.iter().copied()).into_iter().map(|id| &c.model.rules[id].pairs).collect();
        let exposures = c
            .model
            .exposures
            .iter()
            .filter(|(_, e)| owners.contains(&e.provider))
            .map(|(id, _)| id)
            .collect();
        Self { rules, exposures }
    }

    fn sets<'s>(&'s self, c: &'s Compiled, addresses: &'s Addresses, owner: OwnerId) -> Vec<&'s AddrSet> {
        let mut out = Vec::new();
        for pairs in &self.rules {
            if let PairSet::Sets(src, dst) = pairs {
                out.push(src.of(owner));
                out.push(dst.of(owner));
            }
        }
        out.extend(addresses.direct.iter().filter(|((to, _), _)| *to == owner).map(|(_, set)| set));
        for id in &self.exposures {
            let exposure = &c.model.exposures[*id];
            if exposure.provider == owner {
                out.push(&exposure.set);
                let to =
                    exposure.clients.iter().filter_map(|(client, _)| addresses.carried.get(&(*id, *client)));
                out.extend(to.map(|carried| &carried.provided));
            }
            out.extend(exposure.clients_of(owner));
            out.extend(addresses.carried.get(&(*id, owner)).map(|carried| &carried.clients));
        }
        out
    }

    #[expect(clippy::too_many_arguments, reason = "one range with all that its ends are grouped by")]
    fn split(
        &self,
        c: &Compiled,
        addresses: &Addresses,
        scope: &impl Scope,
        family: Family,
        seen: (u128, u128),
        meaning: &Meaning,
        range: usize,
        groups: &mut Groups,
    ) {
        let owner = meaning.owner;
        let sets = self.sets(c, addresses, owner);
        let signature = |address: u128| {
            let mut bits = vec![0u64; sets.len().div_ceil(64)];
            for (at, set) in sets.iter().enumerate() {
                if set.contains(family, address)
                    && let Some(word) = bits.get_mut(at / 64)
                {
                    *word |= 1 << (at % 64);
                }
            }
            bits
        };
        let last = meaning.real + (seen.1 - seen.0);
        if c.model.owners[owner].is_tenant() {
            for &(address, endpoint) in addresses.within(owner, family, meaning.real, last) {
                let here = c.model.endpoints[endpoint].node == scope.node();
                let at = address - meaning.real + seen.0;
                let stretch = Stretch {
                    lo: at,
                    hi: at,
                    end: End { owner, address },
                    endpoint: Some(endpoint),
                    gateway: meaning.gateway,
                };
                groups
                    .by_signature
                    .entry((range, owner, here, signature(address)))
                    .or_default()
                    .push(stretch);
            }
            return;
        }
        for (lo, hi) in pieces(&sets, family, meaning.real, last) {
            let stretch = Stretch {
                lo: lo - meaning.real + seen.0,
                hi: hi - meaning.real + seen.0,
                end: End { owner, address: lo },
                endpoint: None,
                gateway: meaning.gateway,
            };
            groups.by_signature.entry((range, owner, false, signature(lo))).or_default().push(stretch);
        }
    }
}

/// `lo..=hi` cut wherever one of the sets begins or ends.
fn pieces(sets: &[&AddrSet], family: Family, lo: u128, hi: u128) -> Vec<(u128, u128)> {
    let mut starts: BTreeSet<u128> = BTreeSet::from([lo]);
    for set in sets {
        for &(from, to) in set.family(family).ranges() {
            starts.extend(
                [Some(from), to.checked_add(1)].into_iter().flatten().filter(|a| lo < *a && *a <= hi),
            );
        }
    }
    let starts: Vec<u128> = starts.into_iter().collect();
    let ends = starts.iter().skip(1).map(|next| next - 1).chain([hi]);
    starts.iter().copied().zip(ends).collect()
}
