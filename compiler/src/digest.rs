//! Digests of what owners are made of, so that a verdict of an earlier run can be known to hold still.
//!
//! SOUNDNESS. A digest is taken of a text that tells apart any two different inputs: every part is of fixed length or preceded by
//! its length, every variant by its tag. It covers all inputs because each declaration is taken apart field by field, without `..`: a
//! field that is added does not compile until it is said here what it depends on. Ids mean nothing outside of their run, so
//! what they stand for is told by name; a place is told by its file's path and its offsets, so a text that is told again in a
//! finding has not moved.

mod parts;

use crate::compiled::{Compiled, Destination, Source};
use crate::ids::{ExposureId, Id as _, OwnerId, PolicyId, RouteId, SegmentId};
use crate::model::{Exposure, Isolate, Test, TestKind};
use crate::sets::EndSet;
use parts::{Names, Text};
use rayon::prelude::*;
use std::collections::BTreeSet;

/// 256 bits of BLAKE3.
pub type Digest = [u8; 32];

/// The digests of one compiled form.
#[derive(Debug)]
pub struct Digests<'c> {
    c: &'c Compiled,
    names: Names,
    /// The fabric, the platform's policies and who is in error: a part of every view.
    platform: Digest,
    /// By owner: all that is declared for it and its space.
    owners: Vec<Digest>,
    /// By owner: the owner itself and those whose ends can meet its own, ascending.
    near: Vec<Vec<OwnerId>>,
}

impl<'c> Digests<'c> {
    /// `paths` are those of all files, by their ids.
    #[must_use]
    pub fn new(c: &'c Compiled, paths: &[&str]) -> Self {
        let names = Names::new(c, paths);
        let of = Of::new(c);
        let owners = c.model.owners.ids().collect::<Vec<_>>();
        let digests = owners.par_iter().map(|id| of.owner(c, &names, *id)).collect();
        let near = owners.par_iter().map(|id| near(c, *id)).collect();
        let platform = platform(c, &names);
        Self { c, names, platform, owners: digests, near }
    }

    /// All that the verdicts on a tenant's view depend on: the platform, the tenant, its channels, and the owners at their
    /// other ends with their views.
    #[must_use]
    pub fn view(&self, tenant: OwnerId) -> Digest {
        let mut text = Text::new(&self.names);
        text.tag(1);
        self.put_view(&mut text, tenant);
        text.digest()
    }

    /// All that anything depends on.
    #[must_use]
    pub fn whole(&self) -> Digest {
        let mut text = Text::new(&self.names);
        text.tag(2);
        self.put_whole(&mut text);
        text.digest()
    }

    /// As [`Self::whole`], with the policy's name.
    #[must_use]
    pub fn policy(&self, policy: PolicyId) -> Digest {
        let mut text = Text::new(&self.names);
        text.tag(3);
        text.str(&self.c.model.policies[policy].name);
        self.put_whole(&mut text);
        text.digest()
    }

    /// A test, and all that the flows between its ends depend on.
    #[must_use]
    pub fn test(&self, test: &Test) -> Digest {
        let mut text = Text::new(&self.names);
        text.tag(4);
        text.test(test);
        let mut sets: Vec<&EndSet> = Vec::new();
        let mut owners: BTreeSet<OwnerId> = BTreeSet::new();
        for clause in &test.clauses {
            match &clause.kind {
                TestKind::Flows { src, dst, .. } => sets.extend([&**src, &**dst]),
                TestKind::Packet { packet, .. } => {
                    owners.insert(packet.space);
                }
            }
        }
        self.put_owners(&mut text, owners, &sets);
        text.digest()
    }

    /// An isolation, and all that the flows it concerns depend on.
    #[must_use]
    pub fn isolate(&self, isolate: &Isolate) -> Digest {
        let mut text = Text::new(&self.names);
        text.tag(5);
        text.isolate(isolate);
        if isolate.transitively {
            self.put_whole(&mut text);
        } else {
            self.put_owners(&mut text, BTreeSet::new(), &[&isolate.what, &isolate.from]);
        }
        text.digest()
    }

    fn put_whole(&self, text: &mut Text<'_>) {
        text.bytes(&self.platform);
        text.gateways(&self.c.model.gateways);
        text.list(&self.owners, |text, digest| text.bytes(digest));
    }

    /// The views of these owners and of those in these sets; everything, if a set holds owners that it doesn't list.
    fn put_owners(&self, text: &mut Text<'_>, mut owners: BTreeSet<OwnerId>, sets: &[&EndSet]) {
        owners.extend(sets.iter().flat_map(|set| set.owners.iter().map(|(owner, _)| *owner)));
        let open = sets.iter().any(|set| !set.rest.is_empty());
        text.bool(open);
        if open {
            self.put_whole(text);
        } else {
            let owners: Vec<OwnerId> = owners.into_iter().collect();
            text.list(&owners, |text, owner| self.put_view(text, *owner));
        }
    }

    fn put_view(&self, text: &mut Text<'_>, tenant: OwnerId) {
        text.bytes(&self.platform);
        text.owner(tenant);
        let near = self.near.get(tenant.index()).map_or(&[][..], Vec::as_slice);
        text.list(near, |text, owner| {
            text.owner(*owner);
            if let Some(digest) = self.owners.get(owner.index()) {
                text.bytes(digest);
            }
        });
        text.list(&self.c.channels_of[tenant], |text, id| text.channel(self.c, &self.c.channels[*id]));
    }
}

/// The owner, those at the other ends of its channels, and those that an address of its space may mean.
fn near(c: &Compiled, owner: OwnerId) -> Vec<OwnerId> {
    let mut near = vec![owner];
    for id in &c.channels_of[owner] {
        near.extend([c.channels[*id].src, c.channels[*id].dst]);
    }
    let space = &c.spaces[owner];
    for range in space.destinations.v4.iter().chain(&space.destinations.v6) {
        match &range.target {
            Destination::Import { owner, .. }
            | Destination::External { owner, .. }
            | Destination::Direct { owner, .. } => near.push(*owner),
            Destination::Local { .. } | Destination::ClientOnly | Destination::Nowhere => {}
        }
    }
    for range in space.sources.v4.iter().chain(&space.sources.v6) {
        match &range.target {
            Source::Client { owner, .. } | Source::External { owner, .. } | Source::Direct { owner, .. } => {
                near.push(*owner);
            }
            Source::Local { .. } | Source::Own => {}
        }
    }
    near.sort_unstable();
    near.dedup();
    near
}

fn platform(c: &Compiled, names: &Names) -> Digest {
    let model = &c.model;
    let mut text = Text::new(names);
    text.fabric(&model.fabric);
    // A rule that reaches an owner whose declarations are in error is not judged, wherever that owner is.
    text.list(&model.tainted, |text, owner| text.owner(*owner));
    text.list(model.nodes.as_slice(), Text::node);
    for policy in model.policies.values().filter(|p| p.owner.is_none()) {
        text.policy(c, policy);
    }
    text.digest()
}

/// What is declared for each owner, by its place in the arenas.
struct Of {
    segments: Vec<Vec<SegmentId>>,
    hosts: Vec<Vec<usize>>,
    endpoints: Vec<Vec<usize>>,
    routes: Vec<Vec<RouteId>>,
    exposures: Vec<Vec<ExposureId>>,
    policies: Vec<Vec<PolicyId>>,
}

impl Of {
    fn new(c: &Compiled) -> Self {
        let model = &c.model;
        let count = model.owners.len();
        Self {
            segments: by(count, model.segments.iter().map(|(id, s)| (s.tenant, id))),
            hosts: by(count, model.hosts.iter().enumerate().map(|(at, h)| (h.tenant, at))),
            endpoints: by(count, model.endpoints.values().enumerate().map(|(at, e)| (e.tenant, at))),
            routes: by(count, model.routes.iter().map(|(id, r)| (r.tenant, id))),
            exposures: by(count, model.exposures.iter().map(|(id, e): (_, &Exposure)| (e.provider, id))),
            policies: by(count, model.policies.iter().filter_map(|(id, p)| Some((p.owner?, id)))),
        }
    }

    fn owner(&self, c: &Compiled, names: &Names, id: OwnerId) -> Digest {
        let model = &c.model;
        let at = id.index();
        let mut text = Text::new(names);
        text.declared_owner(&model.owners[id]);
        for segment in self.segments.get(at).into_iter().flatten() {
            text.segment(&model.segments[*segment]);
        }
        text.tag(1);
        for host in self.hosts.get(at).into_iter().flatten().filter_map(|at| model.hosts.get(*at)) {
            text.host(c, host);
        }
        text.tag(2);
        let endpoints = self.endpoints.get(at).into_iter().flatten();
        for endpoint in endpoints.filter_map(|at| model.endpoints.as_slice().get(*at)) {
            text.endpoint(c, endpoint);
        }
        text.tag(3);
        for route in self.routes.get(at).into_iter().flatten() {
            text.route(c, &model.routes[*route]);
        }
        text.tag(4);
        for exposure in self.exposures.get(at).into_iter().flatten() {
            text.exposure(&model.exposures[*exposure]);
        }
        text.tag(5);
        for policy in self.policies.get(at).into_iter().flatten() {
            text.policy(c, &model.policies[*policy]);
        }
        text.tag(6);
        text.space(c, &c.spaces[id]);
        text.digest()
    }
}

fn by<T>(count: usize, all: impl Iterator<Item = (OwnerId, T)>) -> Vec<Vec<T>> {
    let mut out: Vec<Vec<T>> = (0..count).map(|_| Vec::new()).collect();
    for (owner, item) in all {
        if let Some(list) = out.get_mut(owner.index()) {
            list.push(item);
        }
    }
    out
}
