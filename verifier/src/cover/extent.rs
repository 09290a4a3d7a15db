//! Boxes of flows in the fields' own values, and their algebra.

use crate::cover::sides::{Sides, holds};
use compiler::algebra::Family;
use compiler::ids::OwnerId;
use compiler::packet::{self, End, Flow};
use compiler::sets::ServiceBox;

/// A box of flows between two owners in one family: an inclusive range for each field, real addresses.
///
/// It stands for the *flows* in it: those whose protocol goes with the family, whose fields are within their protocol's bounds,
/// and whose two ends differ. So protocols 0 to 255 with both fields from 0 to 65535 is `ip`, and a box inside one tenant stands for its
/// flows without the diagonal.
pub type Extent = Sides<u128, u8, u16>;

impl Extent {
    /// All flows of a family between two owners.
    #[must_use]
    pub fn all(family: Family) -> Self {
        let addresses = (0, family.max());
        Self { src: addresses, dst: addresses, protocol: (0, u8::MAX), x: (0, u16::MAX), y: (0, u16::MAX) }
    }

    /// The same addresses with this service.
    #[must_use]
    pub fn with_service(self, service: &ServiceBox) -> Self {
        Self { protocol: service.proto, x: service.x, y: service.y, ..self }
    }

    #[must_use]
    pub fn service(&self) -> ServiceBox {
        ServiceBox { proto: self.protocol, x: self.x, y: self.y }
    }

    /// Whether the flow's fields lie in the box; its owners and its family are not looked at.
    #[must_use]
    pub fn holds(&self, flow: &Flow) -> bool {
        let (src, dst) = (flow.src.address, flow.dst.address);
        holds(self.src, (src, src))
            && holds(self.dst, (dst, dst))
            && self.service().contains(flow.protocol, flow.x, flow.y)
    }

    /// Whether the box holds a flow. `one_owner`: both ends have one owner, so an address has no flow to itself.
    #[must_use]
    pub fn has_flow(&self, family: Family, one_owner: bool) -> bool {
        let diagonal = one_owner && self.src.0 == self.src.1 && self.src == self.dst;
        !diagonal && packet::possible_protocol(&self.service(), family).is_some()
    }

    /// A flow of the box between two owners, of no particular kind; `None` if it holds none.
    #[must_use]
    pub fn some_flow(&self, src: OwnerId, dst: OwnerId, family: Family) -> Option<Flow> {
        let protocol = packet::possible_protocol(&self.service(), family)?;
        let (mut from, mut to) = (self.src.0, self.dst.0);
        if src == dst && from == to {
            if to < self.dst.1 {
                to += 1;
            } else if from < self.src.1 {
                from += 1;
            } else {
                return None;
            }
        }
        let (src, dst) = (End { owner: src, address: from }, End { owner: dst, address: to });
        Some(Flow { src, dst, family, protocol, x: self.x.0, y: self.y.0 })
    }

    /// The smallest box with the same flows (the diagonal apart); `None` if it holds none. So its lowest and its highest protocol
    /// have a flow in it, and its fields end within the bounds of its protocols.
    #[must_use]
    pub fn tight(&self, family: Family, one_owner: bool) -> Option<Self> {
        if !self.has_flow(family, one_owner) {
            return None;
        }
        let carries = |p: &u8| {
            let max = packet::field_max(*p);
            packet::protocol_in_family(*p, family) && self.x.0 <= max.0 && self.y.0 <= max.1
        };
        let all = self.protocol.0..=self.protocol.1;
        let (mut low, mut high) = (None, None);
        let mut bound = (0, 0);
        for p in all.filter(carries) {
            low = low.or(Some(p));
            high = Some(p);
            let max = packet::field_max(p);
            bound = (bound.0.max(max.0), bound.1.max(max.1));
        }
        Some(Self {
            protocol: (low?, high?),
            x: (self.x.0, self.x.1.min(bound.0)),
            y: (self.y.0, self.y.1.min(bound.1)),
            ..*self
        })
    }

    /// The number of points, to rank boxes only.
    #[must_use]
    pub fn volume(&self) -> f64 {
        #[expect(clippy::cast_precision_loss, reason = "it only ranks boxes")]
        let addresses = |side: (u128, u128)| (side.1 - side.0) as f64 + 1.0;
        let values = |low: u32, high: u32| f64::from(high - low) + 1.0;
        addresses(self.src)
            * addresses(self.dst)
            * values(self.protocol.0.into(), self.protocol.1.into())
            * values(self.x.0.into(), self.x.1.into())
            * values(self.y.0.into(), self.y.1.into())
    }
}
