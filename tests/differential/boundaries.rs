//! Services at and around every boundary that a project draws.

use compiler::Compiled;
use compiler::algebra::Family;
use compiler::packet;
use std::collections::{BTreeMap, BTreeSet};

/// By protocol, values of the first and of the second field.
pub type Boundaries = BTreeMap<u8, (BTreeSet<u16>, BTreeSet<u16>)>;

/// The values where a rule or an exposure begins and those behind its end; `around` also those before its begin and at its end. All
/// of what `always` names is there, whether the project speaks of it or not.
pub fn boundaries(c: &Compiled, always: &[u8], around: bool) -> Boundaries {
    let rules = c.model.rules.values().map(|r| &r.service);
    let boxes = rules.chain(c.model.exposures.values().map(|e| &e.service)).flat_map(|s| s.boxes.iter());
    let mut protocols: Boundaries = always.iter().map(|p| (*p, Default::default())).collect();
    for b in boxes {
        for p in [b.proto.0, b.proto.1] {
            let (x, y) = protocols.entry(p).or_default();
            for (set, (lo, hi)) in [(x, b.x), (y, b.y)] {
                set.extend([Some(lo), hi.checked_add(1)].into_iter().flatten());
                if around {
                    set.extend([lo.checked_sub(1), Some(hi)].into_iter().flatten());
                }
            }
        }
    }
    protocols
}

/// All of them that a packet of a family can show, as (protocol, x, y), the fields' least and greatest values among them; `shows` says
/// which protocols and first fields are wanted.
pub fn services(
    protocols: Boundaries,
    family: Family,
    shows: impl Fn(u8, u16) -> bool,
) -> Vec<(u8, u16, u16)> {
    let mut out = Vec::new();
    for (p, (mut x, mut y)) in protocols {
        if !packet::protocol_in_family(p, family) {
            continue;
        }
        let (x_max, y_max) = packet::field_max(p);
        x.extend([0, x_max]);
        y.extend([0, y_max]);
        for &x in x.iter().filter(|x| **x <= x_max && shows(p, **x)) {
            out.extend(y.iter().filter(|y| **y <= y_max).map(|y| (p, x, *y)));
        }
    }
    out
}
