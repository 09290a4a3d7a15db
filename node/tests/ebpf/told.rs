//! ICMP errors as RFC 792 and RFC 4443 draw them.

use std::net::IpAddr;

fn sum(bytes: &[u8]) -> u32 {
    bytes.chunks(2).map(|c| u32::from(c[0]) << 8 | u32::from(c.get(1).copied().unwrap_or(0))).sum()
}

fn fold(mut s: u32) -> [u8; 2] {
    while s >> 16 != 0 {
        s = (s & 0xffff) + (s >> 16);
    }
    (!u16::try_from(s).unwrap()).to_be_bytes()
}

/// What the sender of a frame is told: that it expired, or the MTU that it does not fit into. `to_mac` gets it from `from_mac`.
pub fn told(frame: &[u8], from_mac: [u8; 6], to_mac: [u8; 6], from: IpAddr, mtu: Option<u16>) -> Vec<u8> {
    let packet = &frame[14..];
    let v4 = frame[12..14] == [8, 0];
    let quoted = &packet[..packet.len().min(if v4 { 548 } else { 1232 })];
    let length = u16::try_from(8 + quoted.len() + if v4 { 20 } else { 0 }).unwrap().to_be_bytes();
    let kind = match (mtu, v4) {
        (None, true) => [11, 0],
        (None, false) => [3, 0],
        (Some(_), true) => [3, 4],
        (Some(_), false) => [2, 0],
    };
    let [high, low] = mtu.unwrap_or_default().to_be_bytes();
    let mut body = [&kind[..], &[0, 0, 0, 0, high, low], quoted].concat();
    let mut out = [&to_mac[..], &from_mac, &frame[12..14]].concat();
    match from {
        IpAddr::V4(from) => {
            let check = fold(sum(&body));
            body[2..4].copy_from_slice(&check);
            let ends = [&from.octets()[..], &packet[12..16]].concat();
            let mut head = [&[0x45, 0xc0], &length[..], &[0, 0, 0x40, 0, 64, 1, 0, 0], &ends].concat();
            let check = fold(sum(&head));
            head[10..12].copy_from_slice(&check);
            out.extend(head);
        }
        IpAddr::V6(from) => {
            let ends = [&from.octets()[..], &packet[8..24]].concat();
            let pseudo = sum(&ends) + u32::try_from(body.len()).unwrap() + 58;
            let check = fold(sum(&body) + pseudo);
            body[2..4].copy_from_slice(&check);
            out.extend([&[0x60, 0, 0, 0], &length[..], &[58, 64], &ends].concat());
        }
    }
    out.extend(body);
    out
}
