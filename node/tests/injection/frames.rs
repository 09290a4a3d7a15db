//! Frames byte by byte, right and wrong ones.

use std::net::IpAddr;

/// Begins each block of a payload; the packet's number follows.
pub const MAGIC: &[u8; 6] = b"PWDIFF";
const ETHERTYPE4: u16 = 0x0800;
const ETHERTYPE6: u16 = 0x86dd;

/// A packet's header fields; `x` and `y` as in `compiler::packet::Packet`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fields {
    pub src: IpAddr,
    pub dst: IpAddr,
    pub protocol: u8,
    pub x: u16,
    pub y: u16,
}

/// What is unusual about a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Twist {
    None,
    /// IPv4 options: three no-operations and an end.
    Options,
    /// The header promises more bytes than there are.
    Truncated,
    /// The transport header is cut off, and the network header says so.
    ShortTransport,
    /// TCP flags of no segment of a connection.
    Flags(u8),
    /// A TCP segment in its place: flags, sequence and acknowledgement number.
    Segment(u8, u32, u32),
    WrongChecksum,
    UdpLength,
    Ttl(u8),
    /// IPv6 destination options, a hop-by-hop header, or a fragment header of a whole packet before the transport's.
    Extension(u8),
    /// An IPv6 routing header: its type, how many segments are left, and the kind of a header without meaning that stands before it.
    /// The checksum is as if it were not there.
    Routing(u8, u8, Option<u8>),
    /// An IPv6 authentication header, behind another of this kind or first.
    Authentication(Option<u8>),
    Vlan,
}

/// The payload of packet `id`: blocks that bear its number, so that every fragment has one.
pub fn payload(id: u32, blocks: usize) -> Vec<u8> {
    [MAGIC.as_slice(), &id.to_be_bytes()].concat().repeat(blocks)
}

fn sum(bytes: &[u8], start: u32) -> u32 {
    bytes.chunks(2).fold(start, |s, c| s + (u32::from(c[0]) << 8 | u32::from(c.get(1).copied().unwrap_or(0))))
}

fn fold(mut s: u32) -> u16 {
    while s >> 16 != 0 {
        s = (s & 0xffff) + (s >> 16);
    }
    !u16::try_from(s).unwrap()
}

/// What an IPv4 header sums up to; 0: its checksum is right.
pub fn sum4(header: &[u8]) -> u16 {
    fold(sum(header, 0))
}

/// Gives an IPv4 header the checksum that it has to have.
pub fn mend4(header: &mut [u8]) {
    header[10..12].fill(0);
    let check = sum4(header);
    header[10..12].copy_from_slice(&check.to_be_bytes());
}

fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(a) => a.octets().to_vec(),
        IpAddr::V6(a) => a.octets().to_vec(),
    }
}

/// RFC 9260, appendix A.
fn crc32c(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(u32::MAX, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |c, _| if c & 1 == 1 { c >> 1 ^ 0x82f6_3b78 } else { c >> 1 })
    })
}

fn transport(f: &Fields, id: u32, twist: Twist, blocks: usize) -> Vec<u8> {
    let data = payload(id, blocks);
    let length = |n: usize| u16::try_from(n).unwrap().to_be_bytes();
    let ports = [f.x.to_be_bytes(), f.y.to_be_bytes()].concat();
    let (mut out, at) = match f.protocol {
        6 => {
            let (flags, sequence, acknowledged) = match twist {
                Twist::Flags(flags) => (flags, id, 0),
                Twist::Segment(flags, sequence, acknowledged) => (flags, sequence, acknowledged),
                _ => (0x02, id, 0),
            };
            let numbers = [sequence.to_be_bytes(), acknowledged.to_be_bytes()].concat();
            let rest = [[0x50, flags, 0xfa, 0xf0], [0, 0, 0, 0]].concat();
            ([ports, numbers, rest, data].concat(), Some(16))
        }
        17 => {
            let wrong = if twist == Twist::UdpLength { 9 } else { 0 };
            ([ports, length(8 + data.len() + wrong).to_vec(), vec![0; 2], data].concat(), Some(6))
        }
        1 | 58 => {
            // An identifier of its own, so that none is the answer to another.
            let own = id.rotate_left(16).to_be_bytes().to_vec();
            let head = [vec![f.x.to_be_bytes()[1], f.y.to_be_bytes()[1], 0, 0], own];
            ([head.concat(), data].concat(), Some(2))
        }
        132 => {
            let padding = data.len().next_multiple_of(4) - data.len();
            let mut out = [ports, vec![0; 8], vec![1, 0], length(24 + data.len()).to_vec()].concat();
            out.extend([0, 0, 0, 1, 0, 1, 0, 0, 0, 1, 0, 1, 0, 0, 0, 1, 0x80, 0x42]);
            out.extend(length(4 + data.len()));
            out.extend(data);
            out.extend(vec![0; padding]);
            let crc = crc32c(&out).to_le_bytes();
            out[8..12].copy_from_slice(&crc);
            (out, None)
        }
        47 => ([vec![0, 0, 0x88, 0xb5], data].concat(), None),
        _ => (data, None),
    };
    if let Some(at) = at {
        let mut start = 0;
        if f.protocol != 1 {
            start = sum(&octets(f.src), sum(&octets(f.dst), u32::from(f.protocol)));
            start += u32::try_from(out.len()).unwrap();
        }
        let mut check = fold(sum(&out, start));
        if f.protocol == 17 && check == 0 {
            // Zero would say that there is none (RFC 768).
            check = 0xffff;
        }
        if twist == Twist::WrongChecksum {
            check ^= 0x5555;
        }
        out[at..at + 2].copy_from_slice(&check.to_be_bytes());
    }
    if twist == Twist::ShortTransport {
        out.truncate(3);
    }
    out
}

fn header4(f: &Fields, id: u32, fragment: u16, ttl: u8, options: &[u8], length: usize) -> Vec<u8> {
    let words = u8::try_from(5 + options.len() / 4).unwrap();
    let total = u16::try_from(usize::from(words) * 4 + length).unwrap();
    let mut out = vec![0x40 | words, 0];
    out.extend(total.to_be_bytes());
    out.extend(u16::try_from(id & 0xffff).unwrap().to_be_bytes());
    out.extend(fragment.to_be_bytes());
    out.extend([ttl, f.protocol, 0, 0]);
    out.extend(octets(f.src));
    out.extend(octets(f.dst));
    out.extend(options);
    mend4(&mut out);
    out
}

fn header6(f: &Fields, next: u8, ttl: u8, length: usize) -> Vec<u8> {
    let mut out = vec![0x60, 0, 0, 0];
    out.extend(u16::try_from(length).unwrap().to_be_bytes());
    out.extend([next, ttl]);
    out.extend(octets(f.src));
    out.extend(octets(f.dst));
    out
}

fn ethernet(from: [u8; 6], to: [u8; 6], ethertype: u16, rest: &[u8]) -> Vec<u8> {
    [to.as_slice(), &from, &ethertype.to_be_bytes(), rest].concat()
}

/// Destination or hop-by-hop options without meaning, before a header of this kind.
fn padding(next: u8) -> Vec<u8> {
    vec![next, 0, 1, 4, 0, 0, 0, 0]
}

/// The Ethernet frame of packet `id`.
pub fn frame(from: [u8; 6], to: [u8; 6], f: &Fields, id: u32, twist: Twist) -> Vec<u8> {
    let ttl = if let Twist::Ttl(ttl) = twist { ttl } else { 64 };
    let body = transport(f, id, twist, 2);
    let (ethertype, packet) = match f.src {
        IpAddr::V4(_) => {
            let options: &[u8] = if twist == Twist::Options { &[1, 1, 1, 0] } else { &[] };
            (ETHERTYPE4, [header4(f, id, 0x4000, ttl, options, body.len()), body].concat())
        }
        IpAddr::V6(_) => {
            let (next, extension) = match twist {
                // No-operation padding; of a fragment header: offset zero, no more fragments.
                Twist::Extension(44) => (44, [vec![f.protocol, 0, 0, 0], id.to_be_bytes().to_vec()].concat()),
                Twist::Extension(kind) => (kind, padding(f.protocol)),
                // One address (RFC 8200, 4.4; RFC 6275, 6.4; RFC 8754, 2).
                Twist::Routing(kind, left, before) => {
                    let header = [&[f.protocol, 2, kind, left, 0, 0, 0, 0][..], &octets(f.src)].concat();
                    behind(before, 43, header)
                }
                // Of 16 bytes (RFC 4302, 2).
                Twist::Authentication(before) => {
                    behind(before, 51, [&[f.protocol, 2, 0, 0][..], &[0; 12]].concat())
                }
                _ => (f.protocol, Vec::new()),
            };
            let length = extension.len() + body.len();
            (ETHERTYPE6, [header6(f, next, ttl, length), extension, body].concat())
        }
    };
    match twist {
        Twist::Truncated => ethernet(from, to, ethertype, &packet[..packet.len() - 6]),
        Twist::Vlan => {
            ethernet(from, to, 0x8100, &[&[0, 5], ethertype.to_be_bytes().as_slice(), &packet].concat())
        }
        _ => ethernet(from, to, ethertype, &packet),
    }
}

/// An extension header of a kind behind another one, or first.
fn behind(before: Option<u8>, kind: u8, header: Vec<u8>) -> (u8, Vec<u8>) {
    match before {
        None => (kind, header),
        Some(other) => (other, [padding(kind), header].concat()),
    }
}

/// Fragments of one packet: (offset, length) in units of 8 bytes of its transport part, cut from it.
pub fn fragments(from: [u8; 6], to: [u8; 6], f: &Fields, id: u32, cuts: &[(u16, u16)]) -> Vec<Vec<u8>> {
    let body = transport(f, id, Twist::None, 12);
    let last = u16::try_from(body.len().div_ceil(8)).unwrap();
    cuts.iter()
        .map(|(offset, length)| {
            let end = usize::from(offset + length) * 8;
            let part = &body[usize::from(*offset) * 8..end.min(body.len())];
            let more = offset + length < last;
            if f.src.is_ipv4() {
                let header = header4(f, id, u16::from(more) << 13 | offset, 64, &[], part.len());
                return ethernet(from, to, ETHERTYPE4, &[header, part.to_vec()].concat());
            }
            let place = (offset << 3 | u16::from(more)).to_be_bytes();
            let extension = [&[f.protocol, 0], &place[..], &id.to_be_bytes()].concat();
            let header = header6(f, 44, 64, 8 + part.len());
            ethernet(from, to, ETHERTYPE6, &[header, extension, part.to_vec()].concat())
        })
        .collect()
}

/// A TCP segment with these flags, options (a multiple of four bytes) and no data.
pub fn segment(from: [u8; 6], to: [u8; 6], f: &Fields, flags: u8, options: &[u8]) -> Vec<u8> {
    let words = u8::try_from(5 + options.len() / 4).unwrap();
    let ports = [f.x.to_be_bytes(), f.y.to_be_bytes()].concat();
    let mut out =
        [&ports[..], &[0, 0, 0, 1, 0, 0, 0, 0, words << 4, flags, 0xfa, 0xf0, 0, 0, 0, 0], options].concat();
    let length = u32::try_from(out.len()).unwrap();
    let start = sum(&octets(f.src), sum(&octets(f.dst), 6 + length));
    let check = fold(sum(&out, start));
    out[16..18].copy_from_slice(&check.to_be_bytes());
    match f.src {
        IpAddr::V4(_) => {
            let header = header4(f, 9, 0x4000, 64, &[], out.len());
            ethernet(from, to, ETHERTYPE4, &[header, out].concat())
        }
        IpAddr::V6(_) => ethernet(from, to, ETHERTYPE6, &[header6(f, 6, 64, out.len()), out].concat()),
    }
}

/// An ICMP error over IPv4 (RFC 792) that quotes a frame's packet whole.
pub fn error(from: [u8; 6], to: [u8; 6], ends: (IpAddr, IpAddr), kind: (u8, u8), quoted: &[u8]) -> Vec<u8> {
    let f = Fields { src: ends.0, dst: ends.1, protocol: 1, x: 0, y: 0 };
    let mut body = [&[kind.0, kind.1, 0, 0, 0, 0, 0, 0], &quoted[14..]].concat();
    let check = fold(sum(&body, 0));
    body[2..4].copy_from_slice(&check.to_be_bytes());
    ethernet(from, to, ETHERTYPE4, &[header4(&f, 3, 0x4000, 64, &[], body.len()), body].concat())
}

/// An IPv6 jumbogram (RFC 2675): payload length 0, the real one in a hop-by-hop option.
pub fn jumbo(from: [u8; 6], to: [u8; 6], f: &Fields, id: u32) -> Vec<u8> {
    let body = transport(f, id, Twist::None, 2);
    let length = u32::try_from(8 + body.len()).unwrap().to_be_bytes();
    let option = [&[f.protocol, 0, 0xc2, 4], length.as_slice()].concat();
    ethernet(from, to, ETHERTYPE6, &[header6(f, 0, 64, 0), option, body].concat())
}

/// The outer part of a VXLAN frame (RFC 7348).
#[derive(Debug, Clone, Copy)]
pub struct Outer {
    pub from: [u8; 6],
    pub to: [u8; 6],
    pub src: IpAddr,
    pub dst: IpAddr,
    pub port: u16,
    pub vni: u32,
    /// The flags byte; 0x08 says that the VNI counts.
    pub flags: u8,
}

/// An inner frame in VXLAN, the outer UDP checksum left out over IPv4.
pub fn vxlan(outer: &Outer, inner: &[u8]) -> Vec<u8> {
    let f = Fields { src: outer.src, dst: outer.dst, protocol: 17, x: 55_555, y: outer.port };
    let [_, a, b, c] = outer.vni.to_be_bytes();
    let length = u16::try_from(16 + inner.len()).unwrap();
    let mut udp = [f.x.to_be_bytes(), f.y.to_be_bytes(), length.to_be_bytes(), [0, 0]].concat();
    udp.extend([outer.flags, 0, 0, 0, a, b, c, 0]);
    udp.extend(inner);
    let (ethertype, header) = match outer.src {
        IpAddr::V4(_) => (ETHERTYPE4, header4(&f, 7, 0x4000, 64, &[], udp.len())),
        IpAddr::V6(_) => {
            let start = sum(&octets(f.src), sum(&octets(f.dst), 17 + u32::from(length)));
            let check = fold(sum(&udp, start));
            udp[6..8].copy_from_slice(&check.to_be_bytes());
            (ETHERTYPE6, header6(&f, 17, 64, udp.len()))
        }
    };
    ethernet(outer.from, outer.to, ethertype, &[header, udp].concat())
}

/// What a received frame is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Received {
    /// One of ours.
    Packet {
        id: u32,
        src: IpAddr,
        dst: IpAddr,
    },
    /// An ICMP error that quotes one of ours.
    Error {
        id: u32,
    },
    /// ARP, neighbour discovery, group reports: what hosts send of their own accord.
    Noise(Vec<u8>),
    Stray(Vec<u8>),
}

fn number(bytes: &[u8]) -> Option<u32> {
    let at = bytes.windows(10).find(|w| w.starts_with(MAGIC))?;
    Some(u32::from_be_bytes(at[6..10].try_into().unwrap()))
}

pub fn read(frame: &[u8]) -> Received {
    let stray = || Received::Stray(frame.iter().copied().take(80).collect());
    let address = |at: usize, length: usize| -> Option<IpAddr> {
        let bytes = frame.get(at..at + length)?;
        Some(match length {
            4 => IpAddr::from(<[u8; 4]>::try_from(bytes).ok()?),
            _ => IpAddr::from(<[u8; 16]>::try_from(bytes).ok()?),
        })
    };
    let (src, dst, protocol, body) = match frame.get(12..14) {
        Some([0x08, 0x06]) => return Received::Noise(frame.to_vec()),
        Some([0x08, 0x00]) if frame.len() >= 34 => {
            (address(26, 4), address(30, 4), frame[23], 14 + usize::from(frame[14] & 0xf) * 4)
        }
        Some([0x86, 0xdd]) if frame.len() >= 54 => (address(22, 16), address(38, 16), frame[20], 54),
        _ => return stray(),
    };
    let kind = frame.get(body).copied().unwrap_or(0);
    let Some(id) = number(frame) else {
        let discovery = protocol == 58 && (130..=143).contains(&kind) || protocol == 0;
        return if discovery || protocol == 2 { Received::Noise(frame.to_vec()) } else { stray() };
    };
    let quoted = match protocol {
        1 => [3, 4, 5, 11, 12].contains(&kind),
        58 => kind < 128,
        _ => false,
    };
    match (quoted, src, dst) {
        (true, ..) => Received::Error { id },
        (false, Some(src), Some(dst)) => Received::Packet { id, src, dst },
        _ => stray(),
    }
}

/// An ARP frame (RFC 826): operation 1 asks, 2 answers.
pub fn arp(from: [u8; 6], operation: u16, sender: ([u8; 6], [u8; 4]), target: [u8; 4]) -> Vec<u8> {
    let mut body = vec![0, 1, 8, 0, 6, 4];
    body.extend(operation.to_be_bytes());
    body.extend(sender.0);
    body.extend(sender.1);
    body.extend([0; 6]);
    body.extend(target);
    ethernet(from, [0xff; 6], 0x0806, &body)
}

/// An ICMPv6 message of neighbour discovery (RFC 4861) with everything behind type and code given.
pub fn discovery(
    link: ([u8; 6], [u8; 6]),
    ends: (IpAddr, IpAddr),
    kind: u8,
    hops: u8,
    rest: &[u8],
) -> Vec<u8> {
    let (src, dst) = ends;
    let mut body = vec![kind, 0, 0, 0];
    body.extend(rest);
    let start = sum(&octets(src), sum(&octets(dst), 58 + u32::try_from(body.len()).unwrap()));
    let check = fold(sum(&body, start));
    body[2..4].copy_from_slice(&check.to_be_bytes());
    let f = Fields { src, dst, protocol: 58, x: 0, y: 0 };
    ethernet(link.0, link.1, ETHERTYPE6, &[header6(&f, 58, hops, body.len()), body].concat())
}
