//! The packets at which a project's decisions can change: every address at the edge of a range that the compiled form names,
//! its neighbours, and every service at the edge of a service box.

use crate::generate::Rng;
use compiler::Compiled;
use compiler::algebra::{AddrSet, Family, RangeSet};
use compiler::ids::{ChannelId, PolicyId};
use compiler::model::Rule;
use compiler::packet::{End, Flow, Packet, field_max, protocol_in_family};
use compiler::sets::{PairSet, ServiceSet};
use partywall_verifier::terms::Var;
use std::collections::BTreeSet;

pub const FIELDS: [Var; 5] = Var::ALL;

/// Services: (protocol, x, y) at and beside the edges of every box that the project names, within the bounds of their
/// protocol.
pub fn services(c: &Compiled) -> Vec<(u8, u16, u16)> {
    let mut sets: BTreeSet<&ServiceSet> = c.model.rules.values().map(|r| &*r.service).collect();
    sets.extend(c.model.exposures.values().map(|e| &*e.service));
    sets.extend(c.model.isolates.iter().filter_map(|i| i.allowing.as_ref()).map(|(service, _)| &**service));
    for clause in c.model.tests.iter().flat_map(|t| &t.clauses) {
        if let compiler::model::TestKind::Flows { service, .. } = &clause.kind {
            sets.insert(service);
        }
    }
    services_of(&sets)
}

/// As [`services`], for some sets of services, with one of each kind besides.
fn services_of(sets: &BTreeSet<&ServiceSet>) -> Vec<(u8, u16, u16)> {
    let mut out = BTreeSet::from([
        (6, 40000, 443),
        (17, 40000, 53),
        (1, 8, 0),
        (58, 128, 0),
        (47, 0, 0),
        (0, 0, 0),
        (255, 0, 0),
    ]);
    for b in sets.iter().flat_map(|s| &s.boxes) {
        for proto in [b.proto.0, b.proto.1, b.proto.0.saturating_sub(1), b.proto.1.saturating_add(1)] {
            let (x_max, y_max) = field_max(proto);
            let edges = |(lo, hi): (u16, u16), max: u16| -> Vec<u16> {
                let all = [lo, hi, lo.saturating_sub(1), hi.saturating_add(1)];
                all.into_iter().filter(|v| *v <= max).collect::<BTreeSet<u16>>().into_iter().collect()
            };
            for x in edges(b.x, x_max) {
                for y in edges(b.y, y_max) {
                    out.insert((proto, x, y));
                }
            }
        }
    }
    out.into_iter().collect()
}

/// Addresses of one family at the edges of everything that names addresses, as seen in any space.
pub fn addresses(c: &Compiled, family: Family) -> Vec<u128> {
    let mut out: BTreeSet<u128> = BTreeSet::new();
    let mut add = |lo: u128, hi: u128| {
        out.extend([lo, hi, lo.saturating_sub(1), hi.saturating_add(1).min(family.max())]);
    };
    let of_set = |set: &AddrSet, add: &mut dyn FnMut(u128, u128)| {
        set.family(family).ranges().iter().for_each(|(lo, hi)| add(*lo, *hi));
    };
    for space in c.spaces.values() {
        space.destinations.family(family).iter().for_each(|r| add(r.lo, r.hi));
        space.sources.family(family).iter().for_each(|r| add(r.lo, r.hi));
    }
    for channel in c.channels.values() {
        of_set(&channel.src_set, &mut add);
        of_set(&channel.dst_set, &mut add);
    }
    for rule in c.model.rules.values() {
        if let PairSet::Sets(src, dst) = &rule.pairs {
            for set in [src, dst] {
                of_set(&set.rest, &mut add);
                set.owners.iter().for_each(|(_, set)| of_set(set, &mut add));
            }
        }
    }
    out.into_iter().collect()
}

/// At most `limit` packets (0: all), spread evenly over all combinations.
pub fn packets(c: &Compiled, seed: u64, limit: usize) -> Vec<Packet> {
    let services = services(c);
    let mut out = Vec::new();
    for space in c.model.owners.ids() {
        for family in Family::BOTH {
            let addresses = addresses(c, family);
            let known = |a: &&u128| c.spaces[space].sources.get(family, **a).is_some();
            let sources: Vec<u128> = addresses.iter().filter(known).copied().collect();
            let routed = |a: &&u128| c.spaces[space].destinations.get(family, **a).is_some();
            let destinations: Vec<u128> = addresses.iter().filter(routed).copied().collect();
            let services: Vec<_> = services.iter().filter(|s| protocol_in_family(s.0, family)).collect();
            let all = sources.len() * destinations.len() * services.len();
            let share = limit.div_ceil(2 * c.model.owners.len());
            let mut rng = Rng::new(seed ^ 0xb0);
            let chosen: Vec<usize> = if limit == 0 || all <= share {
                (0..all).collect()
            } else {
                (0..share).map(|_| rng.below(all)).collect()
            };
            for index in chosen {
                let (service, rest) = (index % services.len(), index / services.len());
                let (protocol, x, y) = *services[service];
                let (src, dst) = (sources[rest % sources.len()], destinations[rest / sources.len()]);
                out.push(Packet { space, family, src, dst, protocol, x, y });
            }
        }
    }
    out
}

/// Every flow of one family on the edges of what can decide on a channel: the ends and services of the channel itself and of
/// all rules of the views of its two owners, each edge with its neighbours, in every combination that goes on the channel.
pub fn flows(c: &Compiled, id: ChannelId, family: Family) -> Vec<Flow> {
    let channel = &c.channels[id];
    let policies: BTreeSet<PolicyId> =
        [channel.src, channel.dst].iter().flat_map(|o| c.views[*o].iter().flatten().copied()).collect();
    let rules: Vec<&Rule> =
        policies.iter().flat_map(|p| &c.model.policies[*p].rules).map(|id| &c.model.rules[*id]).collect();
    let edges = |within: &RangeSet, of: &dyn Fn(&Rule) -> Option<RangeSet>| -> Vec<u128> {
        let sets = std::iter::once(within.clone()).chain(rules.iter().filter_map(|rule| of(rule)));
        let ranges = sets.flat_map(|set| set.ranges().to_vec());
        let edges = ranges.flat_map(|(lo, hi)| [lo, hi, lo.saturating_sub(1), hi.saturating_add(1)]);
        edges.filter(|a| within.contains(*a)).collect::<BTreeSet<u128>>().into_iter().collect()
    };
    let sources = edges(channel.src_set.family(family), &|rule| match &rule.pairs {
        PairSet::Sets(src, _) => Some(src.of(channel.src).family(family).clone()),
        PairSet::SameTenant => None,
    });
    let destinations = edges(channel.dst_set.family(family), &|rule| match &rule.pairs {
        PairSet::Sets(_, dst) => Some(dst.of(channel.dst).family(family).clone()),
        PairSet::SameTenant => None,
    });
    let mut sets: BTreeSet<&ServiceSet> = rules.iter().map(|rule| &*rule.service).collect();
    sets.insert(&channel.service);
    let mut services = services_of(&sets);
    services.retain(|(p, x, y)| protocol_in_family(*p, family) && channel.service.contains(*p, *x, *y));
    let mut out = Vec::with_capacity(sources.len() * destinations.len() * services.len());
    for src in &sources {
        for dst in destinations.iter().filter(|dst| channel.src != channel.dst || *dst != src) {
            let (src, dst) =
                (End { owner: channel.src, address: *src }, End { owner: channel.dst, address: *dst });
            out.extend(services.iter().map(|(protocol, x, y)| Flow {
                src,
                dst,
                family,
                protocol: *protocol,
                x: *x,
                y: *y,
            }));
        }
    }
    out
}
