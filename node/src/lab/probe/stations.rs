//! Where in the lab an end of a flow is: a declared endpoint, or an attached external, which has all its addresses.

use crate::lab::topology::Topology;
use compiler::Compiled;
use compiler::algebra::{AddrSet, Family, Prefix, RangeSet, parse_addr};
use compiler::ids::OwnerId;
use compiler::packet::End;
use compiler::sets::EndSet;
use std::collections::BTreeMap;

/// Addresses of an external that are tried in one set, per family.
const EXTERNAL_CHOICES: usize = 4;
/// What no machine has as its address, or no probe should use: "this" network, loopback, link-local, multicast and
/// reserved (RFC 6890), the unspecified and the IPv4-mapped ones.
const UNUSABLE: [(Family, u128, u8); 8] = [
    (Family::V4, 0, 8),
    (Family::V4, 0x7f00_0000, 8),
    (Family::V4, 0xa9fe_0000, 16),
    (Family::V4, 0xe000_0000, 3),
    (Family::V6, 0, 8),
    (Family::V6, 0xfe80 << 112, 10),
    (Family::V6, 0xff00 << 112, 8),
    (Family::V6, 0x0064_ff9b << 96, 32),
];

/// Indices into the [`Topology`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Station {
    Endpoint(usize),
    External(usize),
}

#[derive(Debug)]
pub(crate) struct Stations<'a> {
    c: &'a Compiled,
    endpoints: BTreeMap<(OwnerId, Family, u128), usize>,
    externals: BTreeMap<OwnerId, usize>,
    usable: AddrSet,
}

impl<'a> Stations<'a> {
    pub(crate) fn new(c: &'a Compiled, t: &Topology) -> Self {
        let mut endpoints = BTreeMap::new();
        for (number, place) in t.endpoints.iter().enumerate() {
            let tenant = c.model.endpoints[place.endpoint].tenant;
            for address in &place.addresses {
                let (family, value) = parse_addr(address.ip);
                endpoints.insert((tenant, family, value), number);
            }
        }
        let unusable: Vec<Prefix> = UNUSABLE
            .into_iter()
            .map(|(family, base, len)| Prefix::new(family, base, len))
            .chain(underlay_addresses(c).map(|(family, value)| Prefix::host(family, value)))
            .chain(t.externals.iter().flat_map(|x| &x.links).flat_map(|l| &l.next_hops).map(|hop| {
                let (family, value) = parse_addr(*hop);
                Prefix::host(family, value)
            }))
            .collect();
        Self {
            c,
            endpoints,
            externals: t.externals.iter().enumerate().map(|(n, x)| (x.owner, n)).collect(),
            usable: AddrSet::full().subtract(&AddrSet::from_prefixes(&unusable)),
        }
    }

    /// Where this end is, if anywhere.
    pub(crate) fn at(&self, family: Family, end: End) -> Option<Station> {
        match self.externals.get(&end.owner) {
            Some(&external) => self.c.model.owners[end.owner]
                .universe
                .contains(family, end.address)
                .then_some(Station::External(external)),
            None => self.endpoints.get(&(end.owner, family, end.address)).map(|n| Station::Endpoint(*n)),
        }
    }

    /// The ends of a set that are somewhere: declared endpoints first, then some addresses of externals.
    pub(crate) fn ends(&self, set: &EndSet) -> Vec<(Family, End)> {
        let declared = self
            .endpoints
            .keys()
            .filter(|(owner, family, address)| set.contains(*owner, *family, *address))
            .map(|&(owner, family, address)| (family, End { owner, address }));
        let outside = self.externals.keys().flat_map(|&owner| {
            let inside =
                set.of(owner).intersect(&self.c.model.owners[owner].universe).intersect(&self.usable);
            Family::BOTH.into_iter().flat_map(move |family| {
                let some = sample(inside.family(family));
                some.into_iter().map(move |address| (family, End { owner, address }))
            })
        });
        declared.chain(outside).collect()
    }

    /// Every end, as [`Self::ends`] of all there are.
    pub(crate) fn all(&self) -> Vec<(Family, End)> {
        self.ends(&EndSet::any())
    }

    /// Addresses that may stand in a packet.
    pub(crate) fn usable(&self) -> &AddrSet {
        &self.usable
    }
}

/// A host address of each of the first few ranges, wide ranges first.
pub(crate) fn sample(set: &RangeSet) -> Vec<u128> {
    let wide = |&&(lo, hi): &&(u128, u128)| hi - lo >= 2;
    let hosts = set.ranges().iter().filter(wide).map(|r| r.0 + 1);
    let rest = set.ranges().iter().filter(|r| !wide(r)).map(|r| r.0);
    hosts.chain(rest).take(EXTERNAL_CHOICES).collect()
}

/// The addresses of the nodes, which are no tenant's.
pub(crate) fn underlay_addresses(c: &Compiled) -> impl Iterator<Item = (Family, u128)> {
    c.model.nodes.values().map(|n| parse_addr(n.vtep))
}
