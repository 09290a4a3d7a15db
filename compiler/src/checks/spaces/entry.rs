//! What stands in a tenant's address space beside its own segments, before longest match is applied.

use crate::algebra::Prefix;
use crate::checks::shown;
use crate::ids::{ExposureId, GatewayId, Id, OwnerId, RouteId};
use crate::model::{Mapping, Model, RouteTarget};
use lang::span::Span;

/// One prefix of a space and what it means there.
#[derive(Debug, Clone, Copy)]
pub struct Entry {
    pub prefix: Prefix,
    pub kind: Kind,
    /// Whose addresses these are; `None` for a route to a gateway, behind which several externals may be.
    pub owner: Option<OwnerId>,
    /// Real address minus the one seen, wrapping.
    pub shift: u128,
    /// `None` for a direct route.
    pub gateway: Option<GatewayId>,
    /// Where the prefix was written, or the set that it comes from.
    pub span: Span,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Presented to the space's tenant.
    Import(ExposureId),
    /// Shown to the space's tenant as clients of what it exposes.
    Client(ExposureId),
    Via(RouteId),
    Direct(RouteId),
}

fn shift(mapping: &Mapping) -> u128 {
    mapping.real.lo().wrapping_sub(mapping.seen.lo())
}

impl Entry {
    pub fn import(model: &Model, id: ExposureId, mapping: &Mapping) -> Self {
        let exposure = &model.exposures[id];
        Self {
            prefix: mapping.seen,
            kind: Kind::Import(id),
            owner: Some(exposure.provider),
            shift: shift(mapping),
            gateway: Some(exposure.gateway),
            span: exposure.as_span,
        }
    }

    /// Whether both mean the same addresses on the same path.
    pub fn same_meaning(&self, other: &Self) -> bool {
        std::mem::discriminant(&self.kind) == std::mem::discriminant(&other.kind)
            && (self.owner, self.shift, self.gateway) == (other.owner, other.shift, other.gateway)
    }

    /// For messages: what stands here.
    pub fn describe(&self, model: &Model) -> String {
        let prefix = shown(self.prefix);
        let gateway = |id: Option<GatewayId>| id.map_or("", |id| model.gateways[id].name.as_str());
        match self.kind {
            Kind::Import(id) => format!("{prefix} presented by `{}`", model.exposures[id].name),
            Kind::Client(id) => {
                let owner = self.owner.map_or("", |id| model.owners[id].name.as_str());
                format!("the client prefix {prefix} of `{owner}` (`{}`)", model.exposures[id].name)
            }
            Kind::Via(_) => format!("the route {prefix} via `{}`", gateway(self.gateway)),
            Kind::Direct(id) => {
                let to = match &model.routes[id].target {
                    RouteTarget::Direct { segment, .. } => super::super::segment(model, *segment),
                    RouteTarget::Via(_) => String::new(),
                };
                format!("the direct route {prefix} to `{to}`")
            }
        }
    }

    /// For messages: the path that it names.
    pub fn path(&self, model: &Model) -> String {
        match self.gateway {
            Some(id) => format!("gateway `{}`", model.gateways[id].name),
            None => "a direct route".into(),
        }
    }

    /// Whether these are addresses of an external that uses what the space's tenant exposes.
    pub fn is_external_client(&self, model: &Model) -> bool {
        matches!(self.kind, Kind::Client(_)) && self.owner.is_some_and(|id| !model.owners[id].is_tenant())
    }
}

/// The entries of every owner's space, by owner; those of externals stay empty.
pub fn spaces(model: &Model) -> Vec<Vec<Entry>> {
    let mut spaces: Vec<Vec<Entry>> = vec![Vec::new(); model.owners.len()];
    let mut add = |owner: OwnerId, entry: Entry| {
        if let Some(space) = spaces.get_mut(owner.index())
            && model.owners[owner].is_tenant()
        {
            space.push(entry);
        }
    };
    for (id, exposure) in model.exposures.iter() {
        for (client, _) in &exposure.clients {
            for mapping in &exposure.presented {
                add(*client, Entry::import(model, id, mapping));
            }
        }
        for (owner, mapping) in &exposure.shown {
            add(
                exposure.provider,
                Entry {
                    prefix: mapping.seen,
                    kind: Kind::Client(id),
                    owner: Some(*owner),
                    shift: shift(mapping),
                    gateway: Some(exposure.gateway),
                    span: exposure.clients_as_span,
                },
            );
        }
    }
    for (id, route) in model.routes.iter() {
        let (kind, owner, gateway) = match &route.target {
            RouteTarget::Via(gateway) => (Kind::Via(id), None, Some(*gateway)),
            RouteTarget::Direct { segment, .. } => {
                (Kind::Direct(id), Some(model.segments[*segment].tenant), None)
            }
        };
        let span = route.prefix_span;
        add(route.tenant, Entry { prefix: route.prefix, kind, owner, shift: 0, gateway, span });
    }
    spaces
}
