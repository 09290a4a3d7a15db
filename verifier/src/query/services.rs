//! Sets of services in one form each, and as people write them.

use compiler::algebra::{Family, RangeSet};
use compiler::packet::{Fields, field_max, fields, protocol_in_family, protocol_name};
use compiler::sets::ServiceBox;
use std::collections::BTreeMap;

/// Services of one family: equal sets are equal values.
///
/// INVARIANT: parts ascend by protocol; what a protocol carries is cut into the fewest parts with one set of source ports (codes)
/// for all of their destination ports (types), and a protocol that has no fields is one part with those beside it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Services {
    pub parts: Vec<ServicePart>,
}

/// Protocols with what they carry.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct ServicePart {
    /// More than one only for protocols without fields; those that the family lacks may lie between.
    pub protocols: (u8, u8),
    /// Source ports, or ICMP types.
    pub x: RangeSet,
    /// Destination ports, or ICMP codes.
    pub y: RangeSet,
}

/// A range of values of a field that has none above `max`.
fn clip((lo, hi): (u16, u16), max: u16) -> Option<(u128, u128)> {
    (lo <= max).then(|| (lo.into(), hi.min(max).into()))
}

fn full(max: u16) -> RangeSet {
    RangeSet::range(0, max.into())
}

impl Services {
    /// The union of service boxes, as flows of this family carry them.
    #[must_use]
    pub fn new(family: Family, boxes: &[ServiceBox]) -> Self {
        let mut parts: Vec<ServicePart> = Vec::new();
        for protocol in (0..=u8::MAX).filter(|p| protocol_in_family(*p, family)) {
            let of = || boxes.iter().filter(|b| b.proto.0 <= protocol && protocol <= b.proto.1);
            match fields(protocol) {
                Fields::None => {
                    if !of().any(|b| b.x.0 == 0 && b.y.0 == 0) {
                        continue;
                    }
                    match parts.last_mut() {
                        Some(last) if beside(last, protocol, family) => last.protocols.1 = protocol,
                        _ => parts.push(ServicePart {
                            protocols: (protocol, protocol),
                            x: full(0),
                            y: full(0),
                        }),
                    }
                }
                Fields::Ports => {
                    let sides = of().filter_map(|b| Some((clip(b.y, u16::MAX)?, clip(b.x, u16::MAX)?)));
                    let one = |(y, x)| ServicePart { protocols: (protocol, protocol), x, y };
                    parts.extend(slabs(sides.collect()).into_iter().map(one));
                }
                Fields::Icmp => {
                    let (x_max, y_max) = field_max(protocol);
                    let sides = of().filter_map(|b| Some((clip(b.x, x_max)?, clip(b.y, y_max)?)));
                    let one = |(x, y)| ServicePart { protocols: (protocol, protocol), x, y };
                    parts.extend(slabs(sides.collect()).into_iter().map(one));
                }
            }
        }
        Self { parts }
    }

    /// The same services as disjoint boxes.
    #[must_use]
    pub fn boxes(&self) -> Vec<ServiceBox> {
        let narrow = |(lo, hi): (u128, u128)| {
            let value = |v: u128| u16::try_from(v).unwrap_or(u16::MAX);
            (value(lo), value(hi))
        };
        let mut out = Vec::new();
        for part in &self.parts {
            for x in part.x.ranges() {
                for y in part.y.ranges() {
                    out.push(ServiceBox { proto: part.protocols, x: narrow(*x), y: narrow(*y) });
                }
            }
        }
        out
    }

    /// What flows of the family can carry besides these.
    fn complement(&self, family: Family) -> Self {
        let mut left = Vec::new();
        for protocol in (0..=u8::MAX).filter(|p| protocol_in_family(*p, family)) {
            let (x_max, y_max) = field_max(protocol);
            let whole = ServiceBox { proto: (protocol, protocol), x: (0, x_max), y: (0, y_max) };
            let mut rest = vec![whole];
            for taken in self.boxes().iter().filter(|b| b.proto.0 <= protocol && protocol <= b.proto.1) {
                rest = rest.iter().flat_map(|b| without(b, taken)).collect();
            }
            left.extend(rest);
        }
        Self::new(family, &left)
    }

    /// As the language writes services, with two more forms: `proto/2..5` for neighbours, and `ip except (…)` where that is
    /// shorter.
    #[must_use]
    pub fn text(&self, family: Family) -> String {
        let plain: Vec<String> = self.parts.iter().map(ServicePart::text).collect();
        let plain = plain.join(" | ");
        // Whatever leaves out little has a part for the protocols behind the last with a name.
        if self.parts.last().is_none_or(|part| part.protocols.1 != u8::MAX) {
            return plain;
        }
        let left_out = self.complement(family);
        let but = match left_out.parts.as_slice() {
            [] => return "ip".to_owned(),
            [one] => format!("ip except {}", one.text()),
            several => {
                let texts: Vec<String> = several.iter().map(ServicePart::text).collect();
                format!("ip except ({})", texts.join(" | "))
            }
        };
        if but.len() < plain.len() { but } else { plain }
    }
}

/// Whether a protocol without fields goes on where a part ends.
fn beside(part: &ServicePart, protocol: u8, family: Family) -> bool {
    let mut gap = (part.protocols.1..protocol).skip(1);
    fields(part.protocols.1) == Fields::None && gap.all(|p| !protocol_in_family(p, family))
}

/// A box without another, both of one protocol.
fn without(b: &ServiceBox, taken: &ServiceBox) -> Vec<ServiceBox> {
    let Some(common) = b.intersect(&ServiceBox { proto: b.proto, ..*taken }) else { return vec![*b] };
    let mut out = Vec::new();
    if b.x.0 < common.x.0 {
        out.push(ServiceBox { x: (b.x.0, common.x.0 - 1), ..*b });
    }
    if common.x.1 < b.x.1 {
        out.push(ServiceBox { x: (common.x.1 + 1, b.x.1), ..*b });
    }
    if b.y.0 < common.y.0 {
        out.push(ServiceBox { x: common.x, y: (b.y.0, common.y.0 - 1), ..*b });
    }
    if common.y.1 < b.y.1 {
        out.push(ServiceBox { x: common.x, y: (common.y.1 + 1, b.y.1), ..*b });
    }
    out
}

/// Rectangles as pairs of sets: all values of the first side that have one set of values of the second stand together.
fn slabs(sides: Vec<((u128, u128), (u128, u128))>) -> Vec<(RangeSet, RangeSet)> {
    let mut starts: Vec<u128> = sides.iter().flat_map(|(a, _)| [a.0, a.1 + 1]).collect();
    starts.sort_unstable();
    starts.dedup();
    let mut by: BTreeMap<RangeSet, Vec<(u128, u128)>> = BTreeMap::new();
    for pair in starts.windows(2) {
        let [lo, next] = pair else { continue };
        let second = sides.iter().filter(|(a, _)| a.0 <= *lo && *lo <= a.1).map(|(_, b)| *b).collect();
        let second = RangeSet::from_ranges(second);
        if !second.is_empty() {
            by.entry(second).or_default().push((*lo, next - 1));
        }
    }
    let mut out: Vec<(RangeSet, RangeSet)> =
        by.into_iter().map(|(second, first)| (RangeSet::from_ranges(first), second)).collect();
    out.sort();
    out
}

/// `443`, `80..90`, `{80, 443}`
fn list(set: &RangeSet) -> String {
    let one = |(lo, hi): &(u128, u128)| if lo == hi { lo.to_string() } else { format!("{lo}..{hi}") };
    match set.ranges() {
        [range] => one(range),
        ranges => format!("{{{}}}", ranges.iter().map(one).collect::<Vec<_>>().join(", ")),
    }
}

impl ServicePart {
    fn text(&self) -> String {
        let (first, last) = self.protocols;
        let (x_max, y_max) = field_max(first);
        let name = protocol_name(first);
        let (all_x, all_y) = (self.x == full(x_max), self.y == full(y_max));
        match fields(first) {
            Fields::None if first == last => format!("proto/{first}"),
            Fields::None => format!("proto/{first}..{last}"),
            Fields::Ports => {
                let dst = if all_y { String::new() } else { format!("/{}", list(&self.y)) };
                let src = if all_x { String::new() } else { format!(" from {}", list(&self.x)) };
                format!("{name}{dst}{src}")
            }
            Fields::Icmp if all_x && all_y => name,
            Fields::Icmp if all_y => format!("{name}/{}", list(&self.x)),
            Fields::Icmp => format!("{name}/{}/{}", list(&self.x), list(&self.y)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Services;
    use compiler::algebra::Family;
    use compiler::sets::ServiceBox;

    /// Protocols, first field, second field.
    type Sides = ((u8, u8), (u16, u16), (u16, u16));

    fn text(family: Family, boxes: &[Sides]) -> String {
        let boxes: Vec<ServiceBox> =
            boxes.iter().map(|(proto, x, y)| ServiceBox { proto: *proto, x: *x, y: *y }).collect();
        let services = Services::new(family, &boxes);
        assert_eq!(Services::new(family, &services.boxes()), services);
        services.text(family)
    }

    #[test]
    fn services_are_written_as_the_language_does() {
        const ALL: (u16, u16) = (0, 65535);
        let v4 = |boxes: &[_]| text(Family::V4, boxes);
        assert_eq!(v4(&[((6, 6), ALL, (443, 443))]), "tcp/443");
        assert_eq!(
            v4(&[((6, 6), ALL, (443, 443)), ((6, 6), ALL, (80, 80)), ((17, 17), ALL, ALL)]),
            "tcp/{80, 443} | udp"
        );
        assert_eq!(v4(&[((6, 6), (1024, 65535), (80, 90))]), "tcp/80..90 from 1024..65535");
        assert_eq!(v4(&[((1, 1), (8, 8), (0, 0)), ((1, 1), (3, 3), (0, 255))]), "icmp/3 | icmp/8/0");
        assert_eq!(v4(&[((58, 58), ALL, ALL)]), "");
        assert_eq!(text(Family::V6, &[((58, 58), (2, 2), ALL)]), "icmp6/2");
        assert_eq!(v4(&[((0, 255), ALL, ALL)]), "ip");
        assert_eq!(v4(&[((47, 47), (0, 0), (0, 0)), ((2, 5), ALL, ALL)]), "proto/2..5 | proto/47");
        let but_telnet =
            [((0, 5), ALL, ALL), ((6, 6), ALL, (0, 22)), ((6, 6), ALL, (24, 65535)), ((7, 255), ALL, ALL)];
        assert_eq!(v4(&but_telnet), "ip except tcp/23");
        // A range over protocols of several kinds means, for each, what it can carry.
        assert_eq!(
            v4(&[((0, 255), ALL, (0, 80))]),
            "ip except (icmp/0..255/81..255 | tcp/81..65535 | udp/81..65535 | sctp/81..65535)"
        );
    }
}
