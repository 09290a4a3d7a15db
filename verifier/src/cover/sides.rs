//! Boxes of flows: one inclusive range for each of the five fields, over ranks ([`crate::cover::cuboid`]) or over the fields' own
//! values ([`crate::cover::extent`]).

/// The values of a field.
pub trait Value: Copy + Ord {
    /// The value after this one, which is not the highest.
    #[must_use]
    fn after(self) -> Self;
    /// The value before this one, which is not zero.
    #[must_use]
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

values!(u8, u16, u32, u128);

/// A box, by the values of its addresses, its protocols and the two fields. INVARIANT: no side is empty.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Sides<A, P, F> {
    pub src: (A, A),
    pub dst: (A, A),
    pub protocol: (P, P),
    /// Source port or ICMP type.
    pub x: (F, F),
    /// Destination port or ICMP code.
    pub y: (F, F),
}

fn meet<T: Value>(a: (T, T), b: (T, T)) -> Option<(T, T)> {
    let side = (a.0.max(b.0), a.1.min(b.1));
    (side.0 <= side.1).then_some(side)
}

fn meets<T: Value>(a: (T, T), b: (T, T)) -> bool {
    a.0 <= b.1 && b.0 <= a.1
}

/// Whether `inner` lies within `outer`.
pub fn holds<T: Value>(outer: (T, T), inner: (T, T)) -> bool {
    outer.0 <= inner.0 && inner.1 <= outer.1
}

/// One range of two that have nothing in common and no value between them.
fn join<T: Value>(low: (T, T), high: (T, T)) -> Option<(T, T)> {
    (low.1 < high.0 && low.1.after() == high.0).then_some((low.0, high.1))
}

fn around<T: Value>(a: (T, T), b: (T, T)) -> (T, T) {
    (a.0.min(b.0), a.1.max(b.1))
}

impl<A: Value, P: Value, F: Value> Sides<A, P, F> {
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
        holds(self.src, inner.src)
            && holds(self.dst, inner.dst)
            && holds(self.y, inner.y)
            && holds(self.protocol, inner.protocol)
            && holds(self.x, inner.x)
    }

    /// The smallest box around both.
    #[must_use]
    pub fn hull(&self, other: &Self) -> Self {
        Self {
            src: around(self.src, other.src),
            dst: around(self.dst, other.dst),
            protocol: around(self.protocol, other.protocol),
            x: around(self.x, other.x),
            y: around(self.y, other.y),
        }
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
}
