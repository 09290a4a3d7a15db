//! What mirrored replies admit beyond what the policy lets open a connection, where no state tells answers from what only looks like them: told,
//! never hidden.

use compiler::algebra::{Family, format_addr};
use compiler::packet::{self, Fields};
use compiler::sets::ServiceBox;

/// Packets that nobody asked for and that are let through, as their senders' and receivers' addresses are seen in a tenant's
/// space.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Admitted {
    /// The rule whose connections they seem to answer.
    pub rule: String,
    pub tenant: String,
    /// `10.1.0.5`, `10.1.0.5..10.1.0.9`, joined by `, `.
    pub from: String,
    pub to: String,
    /// `tcp from 443 to 0..65535, with ACK or RST`
    pub service: String,
}

impl std::fmt::Display for Admitted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} in {}: {} -> {} : {}", self.rule, self.tenant, self.from, self.to, self.service)
    }
}

/// What is left of a box without others.
#[must_use]
pub fn without<'b>(b: &ServiceBox, others: impl IntoIterator<Item = &'b ServiceBox>) -> Vec<ServiceBox> {
    let mut left = vec![*b];
    for other in others {
        left = left.iter().flat_map(|part| subtract(part, other)).collect();
    }
    left
}

/// What is left of a box without another.
fn subtract(b: &ServiceBox, without: &ServiceBox) -> Vec<ServiceBox> {
    let Some(common) = b.intersect(without) else { return vec![*b] };
    let mut out = Vec::new();
    let mut rest = *b;
    if rest.proto.0 < common.proto.0 {
        out.push(ServiceBox { proto: (rest.proto.0, common.proto.0 - 1), ..rest });
    }
    if common.proto.1 < rest.proto.1 {
        out.push(ServiceBox { proto: (common.proto.1 + 1, rest.proto.1), ..rest });
    }
    rest.proto = common.proto;
    if rest.x.0 < common.x.0 {
        out.push(ServiceBox { x: (rest.x.0, common.x.0 - 1), ..rest });
    }
    if common.x.1 < rest.x.1 {
        out.push(ServiceBox { x: (common.x.1 + 1, rest.x.1), ..rest });
    }
    rest.x = common.x;
    if rest.y.0 < common.y.0 {
        out.push(ServiceBox { y: (rest.y.0, common.y.0 - 1), ..rest });
    }
    if common.y.1 < rest.y.1 {
        out.push(ServiceBox { y: (common.y.1 + 1, rest.y.1), ..rest });
    }
    out
}

/// `10.1.0.5, 10.1.0.7..10.1.0.9`
#[must_use]
pub fn addresses(family: Family, stretches: impl IntoIterator<Item = (u128, u128)>) -> String {
    let stretch = |(lo, hi): (u128, u128)| {
        let (first, last) = (format_addr(family, lo), format_addr(family, hi));
        if lo == hi { first.to_string() } else { format!("{first}..{last}") }
    };
    let all: Vec<String> = stretches.into_iter().map(stretch).collect();
    all.join(", ")
}

/// `tcp from 443 to 0..65535, with ACK or RST`
#[must_use]
pub fn service(boxes: &[ServiceBox]) -> String {
    let range = |(lo, hi): (u16, u16)| if lo == hi { lo.to_string() } else { format!("{lo}..{hi}") };
    let one = |b: &ServiceBox| {
        let name = packet::protocol_name(b.proto.0);
        match packet::fields(b.proto.0) {
            Fields::Ports => {
                let flags = if b.proto.0 == packet::proto::TCP { ", with ACK or RST" } else { "" };
                format!("{name} from {} to {}{flags}", range(b.x), range(b.y))
            }
            Fields::Icmp => format!("{name} type {} code {}", range(b.x), range(b.y)),
            Fields::None if b.proto.0 == b.proto.1 => format!("protocol {}", b.proto.0),
            Fields::None => format!("protocols {}..{}", b.proto.0, b.proto.1),
        }
    };
    let all: Vec<String> = boxes.iter().map(one).collect();
    all.join(" | ")
}
