//! Boxes of flows in the fields' own values, and their algebra.

use compiler::algebra::Family;
use compiler::ids::OwnerId;
use compiler::packet::{self, End, Flow};
use compiler::sets::ServiceBox;

/// A box of flows between two owners in one family: an inclusive range for each field, real addresses.
///
/// It stands for the *flows* in it: those whose protocol goes with the family, whose fields are within their protocol's bounds,
/// and whose two ends differ. So protocols 0 to 255 with both fields from 0 to 65535 is `ip`, and a box inside one tenant stands for its
/// flows without the diagonal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Extent {
    pub src: (u128, u128),
    pub dst: (u128, u128),
    pub protocol: (u8, u8),
    /// Source port or ICMP type.
    pub x: (u16, u16),
    /// Destination port or ICMP code.
    pub y: (u16, u16),
}

/// The values of a field.
trait Value: Copy + Ord {
    /// The value after this one, which is not the highest.
    fn after(self) -> Self;
    /// The value before this one, which is not zero.
    fn before(self) -> Self;
}

macro_rules! values {
    ($($t:ty),*) => { $(
        impl Value for $t {
            fn after(self) -> Self { self.wrapping_add(1) }
            fn before(self) -> Self { self.wrapping_sub(1) }
        }
    )* };
}

values!(u8, u16, u128);

fn meet<T: Value>(a: (T, T), b: (T, T)) -> Option<(T, T)> {
    let side = (a.0.max(b.0), a.1.min(b.1));
    (side.0 <= side.1).then_some(side)
}

fn meets<T: Value>(a: (T, T), b: (T, T)) -> bool {
    a.0 <= b.1 && b.0 <= a.1
}

fn within<T: Value>(inner: (T, T), outer: (T, T)) -> bool {
    outer.0 <= inner.0 && inner.1 <= outer.1
}

/// One range of two that have nothing in common and no value between them.
fn join<T: Value>(low: (T, T), high: (T, T)) -> Option<(T, T)> {
    (low.1 < high.0 && low.1.after() == high.0).then_some((low.0, high.1))
}

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
        within((src, src), self.src)
            && within((dst, dst), self.dst)
            && self.service().contains(flow.protocol, flow.x, flow.y)
    }

    /// The common part.
    #[must_use]
    pub fn intersect(&self, other: &Self) -> Option<Self> {
        Some(Self {
            src: meet(self.src, other.src)?,
            dst: meet(self.dst, other.dst)?,
            protocol: meet(self.protocol, other.protocol)?,
            x: meet(self.x, other.x)?,
            y: meet(self.y, other.y)?,
        })
    }

    #[must_use]
    pub fn overlaps(&self, other: &Self) -> bool {
        meets(self.src, other.src)
            && meets(self.dst, other.dst)
            && meets(self.y, other.y)
            && meets(self.protocol, other.protocol)
            && meets(self.x, other.x)
    }

    #[must_use]
    pub fn contains(&self, inner: &Self) -> bool {
        within(inner.src, self.src)
            && within(inner.dst, self.dst)
            && within(inner.y, self.y)
            && within(inner.protocol, self.protocol)
            && within(inner.x, self.x)
    }

    /// Adds disjoint boxes to `out` that make up this box without `other`, which overlaps it.
    ///
    /// SOUNDNESS: on each field the parts below and above `other` are cut off and the rest goes on, so what is left at the end is
    /// the common part, and the cut-off parts are disjoint from it and from each other.
    pub fn minus(&self, other: &Self, out: &mut Vec<Self>) {
        let mut rest = *self;
        // Services first: cuts there are shared by most rules.
        macro_rules! cut {
            ($($field:ident),*) => { $(
                if rest.$field.0 < other.$field.0 {
                    out.push(Self { $field: (rest.$field.0, other.$field.0.before()), ..rest });
                }
                if other.$field.1 < rest.$field.1 {
                    out.push(Self { $field: (other.$field.1.after(), rest.$field.1), ..rest });
                }
                rest.$field = (rest.$field.0.max(other.$field.0), rest.$field.1.min(other.$field.1));
            )* };
        }
        cut!(protocol, y, x, src, dst);
    }

    /// Both in one box, if they are neighbours on one field and alike on the others.
    #[must_use]
    pub fn joined(&self, next: &Self) -> Option<Self> {
        macro_rules! join {
            ($($field:ident),*) => { $(
                if (Self { $field: next.$field, ..*self }) == *next {
                    return Some(Self { $field: join(self.$field, next.$field)?, ..*self });
                }
            )* };
        }
        join!(src, dst, protocol, x, y);
        None
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
