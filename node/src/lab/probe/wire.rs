//! Frames: what a probe sends, and what is recognised of it wherever it is seen.
//!
//! A probe is told from all other traffic by a mark in its payload or, where a kernel's TCP builds the segment, by
//! the sequence number of its SYN: neither is touched by encapsulation or translation.

use compiler::packet::proto;
use etherparse::err::packet::BuildWriteError;
use etherparse::{
    EtherType, Icmpv4Type, Icmpv6Type, IpNumber, NetSlice, PacketBuilder, SlicedPacket, TransportSlice,
};
use lang::ast::EncapKind;
use std::net::IpAddr;

/// Begins every mark.
const MAGIC: &[u8; 12] = b"partywall:lb";
/// Magic, run, shot and direction.
pub(crate) const MARK_LEN: usize = MAGIC.len() + 9;
/// Hop limit of injected packets.
const TTL: u8 = 64;
/// UDP source port of injected encapsulated packets; any of the dynamic range will do (RFC 7348, 5).
const OUTER_SOURCE_PORT: u16 = 55_555;

/// IANA's protocol number of GRE, and a header of version 0 without options whose payload is for local experiments (RFC
/// 2784, 2; IEEE 802's 0x88b5): connection tracking looks into it.
const GRE: u8 = 47;
const GRE_HEADER: [u8; 4] = [0, 0, 0x88, 0xb5];

/// The payload of one shot.
pub(crate) fn mark(run: u32, shot: u32, reply: bool) -> Vec<u8> {
    let mut out = MAGIC.to_vec();
    out.extend(run.to_be_bytes());
    out.extend(shot.to_be_bytes());
    out.push(u8::from(reply));
    out
}

/// Run, shot and direction of a mark anywhere in these bytes.
pub(crate) fn read_mark(bytes: &[u8]) -> Option<(u32, u32, bool)> {
    let at = bytes.windows(MARK_LEN).find(|w| w.starts_with(MAGIC))?;
    let word =
        |from: usize| -> Option<u32> { Some(u32::from_be_bytes(at.get(from..from + 4)?.try_into().ok()?)) };
    Some((word(12)?, word(16)?, *at.get(20)? == 1))
}

/// The header fields of one packet; `x` and `y` as in [`compiler::packet::Packet`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Fields {
    pub(crate) src: IpAddr,
    pub(crate) dst: IpAddr,
    pub(crate) protocol: u8,
    pub(crate) x: u16,
    pub(crate) y: u16,
}

/// An Ethernet frame with this packet, all checksums right; `None` for addresses of two families.
pub(crate) fn frame(from: [u8; 6], to: [u8; 6], f: &Fields, payload: &[u8]) -> Option<Vec<u8>> {
    let link = PacketBuilder::ethernet2(from, to);
    let ip = match (f.src, f.dst) {
        (IpAddr::V4(src), IpAddr::V4(dst)) => link.ipv4(src.octets(), dst.octets(), TTL),
        (IpAddr::V6(src), IpAddr::V6(dst)) => link.ipv6(src.octets(), dst.octets(), TTL),
        _ => return None,
    };
    let mut out = Vec::new();
    let (kind, code) = (low(f.x), low(f.y));
    // Identifier 1, sequence number 1 for an echo; what other messages have there is of no concern.
    let rest = [0, 1, 0, 1];
    let written: Result<(), BuildWriteError> = match f.protocol {
        proto::TCP => ip.tcp(f.x, f.y, 1, 64_240).syn().write(&mut out, payload),
        proto::UDP => ip.udp(f.x, f.y).write(&mut out, payload),
        proto::ICMP => ip.icmpv4_raw(kind, code, rest).write(&mut out, payload),
        proto::ICMP6 => ip.icmpv6_raw(kind, code, rest).write(&mut out, payload),
        proto::SCTP => ip.write(&mut out, IpNumber::SCTP, &sctp_init(f.x, f.y, payload)),
        GRE => ip.write(&mut out, IpNumber(GRE), &[&GRE_HEADER, payload].concat()),
        other => ip.write(&mut out, IpNumber(other), payload),
    };
    written.ok().map(|()| out)
}

fn low(value: u16) -> u8 {
    let [_, low] = value.to_be_bytes();
    low
}

/// An INIT chunk with the payload as an unrecognised parameter that is skipped (RFC 9260, 3.2.1 and 3.3.2).
fn sctp_init(sport: u16, dport: u16, payload: &[u8]) -> Vec<u8> {
    let length = |n: usize| u16::try_from(n).unwrap_or(u16::MAX).to_be_bytes();
    let padding = payload.len().next_multiple_of(4) - payload.len();
    let mut out = Vec::new();
    out.extend(sport.to_be_bytes());
    out.extend(dport.to_be_bytes());
    out.extend([0; 8]); // verification tag of an INIT, checksum
    out.extend([1, 0]);
    out.extend(length(20 + 4 + payload.len()));
    out.extend([0, 0, 0, 1, 0, 1, 0, 0, 0, 1, 0, 1, 0, 0, 0, 1]); // tag, window, streams, sequence number
    out.extend([0x80, 0x42]);
    out.extend(length(4 + payload.len()));
    out.extend(payload);
    out.extend(std::iter::repeat_n(0, padding));
    let sum = crc32c(&out).to_le_bytes();
    for (to, from) in out.iter_mut().skip(8).zip(sum) {
        *to = from;
    }
    out
}

/// RFC 9260, appendix A.
fn crc32c(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(u32::MAX, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |c, _| if c & 1 == 1 { c >> 1 ^ 0x82f6_3b78 } else { c >> 1 })
    })
}

/// The outer part of an encapsulated packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Outer {
    pub(crate) from: [u8; 6],
    pub(crate) to: [u8; 6],
    pub(crate) src: IpAddr,
    pub(crate) dst: IpAddr,
    pub(crate) vni: u32,
}

/// An inner frame in VXLAN (RFC 7348) or Geneve without options (RFC 8926).
pub(crate) fn encapsulate(encap: EncapKind, port: u16, outer: &Outer, inner: &[u8]) -> Option<Vec<u8>> {
    let [_, a, b, c] = outer.vni.to_be_bytes();
    let header = match encap {
        EncapKind::Vxlan => [0x08, 0, 0, 0, a, b, c, 0],
        EncapKind::Geneve => [0, 0, 0x65, 0x58, a, b, c, 0],
    };
    let f = Fields { src: outer.src, dst: outer.dst, protocol: proto::UDP, x: OUTER_SOURCE_PORT, y: port };
    frame(outer.from, outer.to, &f, &[&header, inner].concat())
}

/// What tells the packets of one shot from all others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Key {
    /// The shot whose mark it bears.
    Shot(u32),
    /// The initial sequence number of its SYN.
    Isn(u32),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Role {
    Request,
    Reply,
    /// An ICMP error that quotes it, or a reset.
    Refusal,
}

/// A recognised packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Seen {
    pub(crate) key: Key,
    pub(crate) role: Role,
    pub(crate) fields: Fields,
    /// Whether it was encapsulated.
    pub(crate) tunnelled: bool,
}

/// Recognises a probe of this run in a frame, encapsulated or not.
pub(crate) fn recognise(run: u32, encap: (EncapKind, u16), bytes: &[u8]) -> Option<Seen> {
    let packet = SlicedPacket::from_ethernet(bytes).ok()?;
    if let Some(TransportSlice::Udp(udp)) = &packet.transport
        && udp.destination_port() == encap.1
        && let Some(inner) = inner_frame(encap.0, udp.payload())
        && let Some(seen) = recognise_plain(run, &SlicedPacket::from_ethernet(inner).ok()?)
    {
        return Some(Seen { tunnelled: true, ..seen });
    }
    recognise_plain(run, &packet)
}

fn inner_frame(encap: EncapKind, payload: &[u8]) -> Option<&[u8]> {
    match encap {
        EncapKind::Vxlan => payload.get(8..),
        EncapKind::Geneve => payload.get(8 + 4 * usize::from(payload.first()? & 0x3f)..),
    }
}

fn recognise_plain(run: u32, packet: &SlicedPacket<'_>) -> Option<Seen> {
    let (src, dst, payload) = match packet.net.as_ref()? {
        NetSlice::Ipv4(ip) => {
            (IpAddr::V4(ip.header().source_addr()), IpAddr::V4(ip.header().destination_addr()), ip.payload())
        }
        NetSlice::Ipv6(ip) => {
            (IpAddr::V6(ip.header().source_addr()), IpAddr::V6(ip.header().destination_addr()), ip.payload())
        }
        NetSlice::Arp(_) => return None,
    };
    let protocol = payload.ip_number.0;
    let mark = read_mark(payload.payload);
    if mark.is_some_and(|(of, _, _)| of != run) {
        return None;
    }
    let marked = |role: Role, x: u16, y: u16| {
        let (_, shot, reply) = mark?;
        let role = if reply && role == Role::Request { Role::Reply } else { role };
        Some(Seen {
            key: Key::Shot(shot),
            role,
            fields: Fields { src, dst, protocol, x, y },
            tunnelled: false,
        })
    };
    match &packet.transport {
        Some(TransportSlice::Tcp(tcp)) => {
            let (sport, dport) = (tcp.source_port(), tcp.destination_port());
            // Only a SYN of our own making bears its mark; the marks that connections carry are their payload.
            if tcp.syn()
                && let Some(seen) = marked(Role::Request, sport, dport)
            {
                return Some(seen);
            }
            let answered = Key::Isn(tcp.acknowledgment_number().wrapping_sub(1));
            let (key, role) = match (tcp.syn(), tcp.ack(), tcp.rst()) {
                (true, false, false) => (Key::Isn(tcp.sequence_number()), Role::Request),
                (true, true, false) => (answered, Role::Reply),
                (false, true, true) => (answered, Role::Refusal),
                _ => return None,
            };
            let fields = Fields { src, dst, protocol, x: sport, y: dport };
            Some(Seen { key, role, fields, tunnelled: false })
        }
        Some(TransportSlice::Udp(udp)) => marked(Role::Request, udp.source_port(), udp.destination_port()),
        Some(TransportSlice::Icmpv4(icmp)) => {
            let role = match icmp.icmp_type() {
                Icmpv4Type::EchoReply(_) => Role::Reply,
                _ if [3, 4, 5, 11, 12].contains(&icmp.type_u8()) && quotes(icmp.payload()) => Role::Refusal,
                _ => Role::Request,
            };
            marked(role, u16::from(icmp.type_u8()), u16::from(icmp.code_u8()))
        }
        Some(TransportSlice::Icmpv6(icmp)) => {
            let role = match icmp.icmp_type() {
                Icmpv6Type::EchoReply(_) => Role::Reply,
                _ if icmp.type_u8() < 128 && quotes(icmp.payload()) => Role::Refusal,
                _ => Role::Request,
            };
            marked(role, u16::from(icmp.type_u8()), u16::from(icmp.code_u8()))
        }
        _ => marked(Role::Request, 0, 0),
    }
}

/// Whether an ICMP body is a quoted packet rather than the bare mark of a probe that is itself an ICMP error.
fn quotes(body: &[u8]) -> bool {
    !body.starts_with(MAGIC)
}

/// Whether a frame is IPv4, IPv6 or a tunnel's: what a capture looks into at all.
pub(crate) fn is_ip(bytes: &[u8]) -> bool {
    let ethertype = bytes.get(12..14).and_then(|b| <[u8; 2]>::try_from(b).ok()).map(u16::from_be_bytes);
    ethertype.is_some_and(|t| [EtherType::IPV4.0, EtherType::IPV6.0].contains(&t))
}

#[cfg(test)]
mod tests;
