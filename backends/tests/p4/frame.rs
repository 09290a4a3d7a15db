//! Frames, made and taken apart without anything of the project's.

use compiler::algebra::Family;

/// An IP packet of a tenant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ip {
    pub family: Family,
    pub src: u128,
    pub dst: u128,
    pub protocol: u8,
    pub x: u16,
    pub y: u16,
    /// Of TCP: `FIN SYN RST PSH ACK`, from bit 0.
    pub flags: u8,
    pub ttl: u8,
}

pub const SYN: u8 = 2;
pub const RST: u8 = 4;
pub const ACK: u8 = 16;

fn ones(bytes: &[u8], start: u32) -> u32 {
    bytes
        .chunks(2)
        .fold(start, |sum, pair| sum + (u32::from(pair[0]) << 8) + pair.get(1).map_or(0, |b| u32::from(*b)))
}

fn fold(mut sum: u32) -> u16 {
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

/// Sets the header checksum of an IPv4 packet that was changed.
pub fn header_checksum(packet: &mut [u8]) {
    let header = usize::from(packet[0] & 15) * 4;
    packet[10..12].copy_from_slice(&[0, 0]);
    let sum = fold(ones(&packet[..header], 0));
    packet[10..12].copy_from_slice(&sum.to_be_bytes());
}

fn address(family: Family, value: u128) -> Vec<u8> {
    let bytes = value.to_be_bytes();
    if family == Family::V4 { bytes[12..].to_vec() } else { bytes.to_vec() }
}

impl Ip {
    /// The packet's bytes, all checksums right.
    pub fn bytes(&self) -> Vec<u8> {
        let payload = b"partywall";
        let ports = [self.x.to_be_bytes(), self.y.to_be_bytes()].concat();
        let (mut transport, checksum): (Vec<u8>, Option<usize>) = match self.protocol {
            6 => {
                let mut t = ports.clone();
                t.extend([0, 0, 0, 1, 0, 0, 0, 2, 0x50, self.flags, 1, 0, 0, 0, 0, 0]);
                (t, Some(16))
            }
            17 => {
                let mut t = ports.clone();
                t.extend((8 + payload.len() as u16).to_be_bytes());
                t.extend([0, 0]);
                (t, Some(6))
            }
            132 => {
                let mut t = ports.clone();
                t.extend([0; 8]);
                (t, None)
            }
            1 | 58 => (vec![self.x as u8, self.y as u8, 0, 0, 0, 7, 0, 9], Some(2)),
            _ => (vec![1, 2, 3, 4], None),
        };
        transport.extend(payload);
        let (src, dst) = (address(self.family, self.src), address(self.family, self.dst));
        if let Some(at) = checksum {
            let mut sum = 0;
            if self.protocol != 1 {
                sum = ones(&src, ones(&dst, u32::from(self.protocol) + transport.len() as u32));
            }
            let mut value = fold(ones(&transport, sum));
            if self.protocol == 17 && value == 0 {
                value = 0xffff;
            }
            transport[at..at + 2].copy_from_slice(&value.to_be_bytes());
        }
        let mut out = Vec::new();
        match self.family {
            Family::V4 => {
                out.extend([0x45, 0]);
                out.extend((20 + transport.len() as u16).to_be_bytes());
                out.extend([0x12, 0x34, 0x40, 0, self.ttl, self.protocol, 0, 0]);
                out.extend(&src);
                out.extend(&dst);
                let sum = fold(ones(&out, 0));
                out[10..12].copy_from_slice(&sum.to_be_bytes());
            }
            Family::V6 => {
                out.extend([0x60, 0, 0, 0]);
                out.extend((transport.len() as u16).to_be_bytes());
                out.extend([self.protocol, self.ttl]);
                out.extend(&src);
                out.extend(&dst);
            }
        }
        out.extend(transport);
        out
    }

    pub fn frame(&self, dst: [u8; 6], src: [u8; 6]) -> Vec<u8> {
        Self::framed(self.family, dst, src, &self.bytes())
    }

    /// A packet's bytes as a frame.
    pub fn framed(family: Family, dst: [u8; 6], src: [u8; 6], packet: &[u8]) -> Vec<u8> {
        let kind: [u8; 2] = if family == Family::V4 { [8, 0] } else { [0x86, 0xdd] };
        [&dst[..], &src[..], &kind[..], packet].concat()
    }
}

/// A frame in VXLAN from one VTEP to another, with a UDP source port.
pub struct Outer {
    pub src: std::net::IpAddr,
    pub dst: std::net::IpAddr,
    pub macs: ([u8; 6], [u8; 6]),
    pub vni: u32,
    pub port: u16,
    pub source_port: u16,
}

impl Outer {
    pub fn frame(&self, inner: &[u8]) -> Vec<u8> {
        let (dst, src) = self.macs;
        let udp = [
            self.source_port.to_be_bytes(),
            self.port.to_be_bytes(),
            (16 + inner.len() as u16).to_be_bytes(),
            [0, 0],
        ]
        .concat();
        let vni = self.vni.to_be_bytes();
        let vxlan = [8, 0, 0, 0, vni[1], vni[2], vni[3], 0];
        let mut out = [&dst[..], &src[..]].concat();
        match (self.src, self.dst) {
            (std::net::IpAddr::V4(src), std::net::IpAddr::V4(dst)) => {
                out.extend([8, 0]);
                let mut ip = vec![0x45, 0];
                ip.extend((36 + inner.len() as u16).to_be_bytes());
                ip.extend([0, 0, 0x40, 0, 64, 17, 0, 0]);
                ip.extend(src.octets());
                ip.extend(dst.octets());
                let sum = fold(ones(&ip, 0));
                ip[10..12].copy_from_slice(&sum.to_be_bytes());
                out.extend(ip);
            }
            (std::net::IpAddr::V6(src), std::net::IpAddr::V6(dst)) => {
                out.extend([0x86, 0xdd, 0x60, 0, 0, 0]);
                out.extend((16 + inner.len() as u16).to_be_bytes());
                out.extend([17, 64]);
                out.extend(src.octets());
                out.extend(dst.octets());
            }
            _ => panic!("two families"),
        }
        out.extend(udp);
        out.extend(vxlan);
        out.extend(inner);
        out
    }

    /// Where the UDP source port stands.
    pub fn source_port_at(&self) -> usize {
        if self.src.is_ipv4() { 34 } else { 54 }
    }
}
