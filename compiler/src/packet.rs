//! Header fields and flows: the one place that says which fields a packet has.

use crate::algebra::Family;
use crate::ids::OwnerId;
use crate::sets::ServiceBox;

/// IANA protocol numbers that have fields of their own.
pub mod proto {
    pub const ICMP: u8 = 1;
    pub const TCP: u8 = 6;
    pub const UDP: u8 = 17;
    pub const ICMP6: u8 = 58;
    pub const SCTP: u8 = 132;
}

/// What the two 16-bit fields of a flow mean for a protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fields {
    /// Source port, destination port.
    Ports,
    /// Type, code; both at most 255.
    Icmp,
    /// Neither: both are zero.
    None,
}

/// The fields of a protocol.
#[must_use]
pub fn fields(protocol: u8) -> Fields {
    match protocol {
        proto::TCP | proto::UDP | proto::SCTP => Fields::Ports,
        proto::ICMP | proto::ICMP6 => Fields::Icmp,
        _ => Fields::None,
    }
}

/// Highest value of (x, y) for a protocol.
#[must_use]
pub fn field_max(protocol: u8) -> (u16, u16) {
    match fields(protocol) {
        Fields::Ports => (u16::MAX, u16::MAX),
        Fields::Icmp => (255, 255),
        Fields::None => (0, 0),
    }
}

/// Whether a flow of this family can have this protocol: ICMP is IPv4's, ICMPv6 is IPv6's.
#[must_use]
pub fn protocol_in_family(protocol: u8, family: Family) -> bool {
    match protocol {
        proto::ICMP => family == Family::V4,
        proto::ICMP6 => family == Family::V6,
        _ => true,
    }
}

/// The preferred protocol of a witness in this box: tcp, udp, icmp/icmp6, then the smallest number.
#[must_use]
pub fn possible_protocol(b: &ServiceBox, family: Family) -> Option<u8> {
    let icmp = if family == Family::V4 { proto::ICMP } else { proto::ICMP6 };
    [proto::TCP, proto::UDP, icmp].into_iter().chain(0..=255).find(|&p| {
        let (x_max, y_max) = field_max(p);
        b.proto.0 <= p && p <= b.proto.1 && protocol_in_family(p, family) && b.x.0 <= x_max && b.y.0 <= y_max
    })
}

/// `tcp`, `udp`, …, or the number.
#[must_use]
pub fn protocol_name(protocol: u8) -> String {
    match protocol {
        proto::TCP => "tcp".into(),
        proto::UDP => "udp".into(),
        proto::SCTP => "sctp".into(),
        proto::ICMP => "icmp".into(),
        proto::ICMP6 => "icmp6".into(),
        other => other.to_string(),
    }
}

/// The number of a protocol that has a name.
#[must_use]
pub fn protocol_number(name: &str) -> Option<u8> {
    match name {
        "tcp" => Some(proto::TCP),
        "udp" => Some(proto::UDP),
        "sctp" => Some(proto::SCTP),
        "icmp" => Some(proto::ICMP),
        "icmp6" => Some(proto::ICMP6),
        _ => None,
    }
}

/// An owner and the real address there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct End {
    pub owner: OwnerId,
    pub address: u128,
}

/// What opens a connection, between real ends.
///
/// INVARIANT: `x`, `y` are within [`field_max`] of the protocol, the protocol goes with the family, and the ends differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Flow {
    pub src: End,
    pub dst: End,
    pub family: Family,
    pub protocol: u8,
    /// Source port or ICMP type.
    pub x: u16,
    /// Destination port or ICMP code.
    pub y: u16,
}

/// A packet as seen in one owner's address space.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Packet {
    /// The space: a tenant's or an external's.
    pub space: OwnerId,
    pub family: Family,
    pub src: u128,
    pub dst: u128,
    pub protocol: u8,
    pub x: u16,
    pub y: u16,
}
