//! Damaged frames at all four entries. What they are is read here a second time, from the layouts of RFC 791, 8200, 768, 9293, 792 and
//! 4443: a packet that goes on is one that can be classified and that `eval` allows, and what cannot be classified is dropped for that.

use crate::ANY_MAC;
use crate::ends::{Seen, meaning, seen, services};
use crate::frames::{self, Fields, Outer, Twist};
use crate::generate::Rng;
use crate::machine::Machine;
use crate::oracle::reason;
use crate::said::{
    ANSWERED, BAD_VTEP, FRAGMENT, INVALID, LEFT_ALONE, NO_ROUTE, NOT_EXPOSED, SENT_DEVICE, SENT_NEXT_HOP,
    SHOT, SPOOF, TO_HOST, TTL, UNKNOWN_SOURCE, UNKNOWN_VNI,
};
use crate::support::Project;
use compiler::Compiled;
use compiler::algebra::{Family, format_addr};
use compiler::eval;
use compiler::ids::{EndpointId, NodeId, OwnerId};
use compiler::packet::Packet;
use partywall_node::ebpf::Ran;
use std::collections::BTreeMap;
use std::net::IpAddr;

const SENT: std::ops::RangeInclusive<u32> = SENT_DEVICE..=SENT_NEXT_HOP;

/// How many frames came to what.
#[derive(Debug, Clone, Copy, Default)]
pub struct Tally {
    pub sent: u64,
    pub refused: u64,
    pub unclassifiable: u64,
    pub underlay: u64,
    /// Neighbours' business.
    pub other: u64,
}

impl Tally {
    pub fn add(&mut self, more: &Self) {
        self.sent += more.sent;
        self.refused += more.refused;
        self.unclassifiable += more.unclassifiable;
        self.underlay += more.underlay;
        self.other += more.other;
    }

    pub fn ran(&self) -> u64 {
        self.sent + self.refused + self.unclassifiable + self.underlay + self.other
    }
}

/// What a frame is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Read {
    /// Neither IPv4 nor IPv6, or not even their header.
    NotIp,
    /// It has addresses, and cannot be classified: a reason of `enum reason`.
    Bad(Header, u32),
    /// Neighbour discovery, or what routers say.
    Neighbour,
    Good(Header),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Header {
    family: Family,
    src: u128,
    dst: u128,
    protocol: u8,
    ttl: u8,
    x: u16,
    y: u16,
    tcp_flags: u8,
    fragment: bool,
    /// Bytes before the transport header.
    at: usize,
}

fn be16(bytes: &[u8], at: usize) -> usize {
    usize::from(bytes[at]) << 8 | usize::from(bytes[at + 1])
}

fn be(bytes: &[u8]) -> u128 {
    bytes.iter().fold(0, |n, b| n << 8 | u128::from(*b))
}

fn extension(next: u8) -> bool {
    matches!(next, 0 | 43 | 44 | 60 | 135 | 139 | 140)
}

fn read(f: &[u8]) -> Read {
    match f[12..14] {
        [8, 0] if f.len() >= 34 => {
            let offset = (be16(f, 20) & 0x1fff) * 8;
            let header = Header {
                family: Family::V4,
                src: be(&f[26..30]),
                dst: be(&f[30..34]),
                protocol: f[23],
                ttl: f[22],
                x: 0,
                y: 0,
                tcp_flags: 0,
                fragment: offset != 0 || f[20] & 0x20 != 0,
                at: 34,
            };
            let length = be16(f, 16);
            if f[14] != 0x45 || length < 20 || length + 14 > f.len() || frames::sum4(&f[14..34]) != 0 {
                return Read::Bad(header, INVALID);
            }
            transport(&f[..14 + length], header, offset, f[20] & 0x20 != 0)
        }
        [0x86, 0xdd] if f.len() >= 54 => {
            let mut header = Header {
                family: Family::V6,
                src: be(&f[22..38]),
                dst: be(&f[38..54]),
                protocol: f[20],
                ttl: f[21],
                x: 0,
                y: 0,
                tcp_flags: 0,
                fragment: false,
                at: 54,
            };
            let length = be16(f, 18) + 40;
            if f[14] >> 4 != 6 || length + 14 > f.len() || length > 65535 {
                return Read::Bad(header, INVALID);
            }
            let (mut offset, mut more) = (0, false);
            if header.protocol == 44 {
                if length < 48 {
                    return Read::Bad(header, INVALID);
                }
                header.protocol = f[54];
                (offset, more) = (be16(f, 56) & 0xfff8, f[57] & 1 != 0);
                header.fragment = true;
                header.at = 62;
            }
            if extension(header.protocol) {
                return Read::Bad(header, INVALID);
            }
            transport(&f[..14 + length], header, offset, more)
        }
        _ => Read::NotIp,
    }
}

/// `f` ends where the IP packet does.
fn transport(f: &[u8], mut h: Header, offset: usize, more: bool) -> Read {
    // Nothing was seen of its first fragment.
    if offset != 0 {
        return Read::Bad(h, FRAGMENT);
    }
    let (bad, body) = (Read::Bad(h, INVALID), &f[h.at..]);
    let least = match h.protocol {
        6 => 20,
        1 | 17 | 58 => 8,
        132 => 12,
        _ => 0,
    };
    if body.len() < least || (matches!(h.protocol, 1 | 58) && (h.protocol == 1) != (h.family == Family::V4)) {
        return bad;
    }
    match h.protocol {
        6 | 17 | 132 => (h.x, h.y) = (be16(body, 0) as u16, be16(body, 2) as u16),
        1 | 58 => (h.x, h.y) = (u16::from(body[0]), u16::from(body[1])),
        _ => {}
    }
    if h.protocol == 6 {
        let length = usize::from(body[12] >> 4) * 4;
        // FIN, SYN, RST, ACK and URG as segments of a connection have them.
        let flags = body[13] & 0x37;
        if length < 20
            || length > body.len()
            || ![2, 0x22, 0x12, 4, 0x14, 0x11, 0x31, 0x10, 0x30].contains(&flags)
        {
            return bad;
        }
        h.tcp_flags = body[13];
    }
    if h.protocol == 17 && !h.fragment && !(8..=body.len()).contains(&be16(body, 4)) {
        return bad;
    }
    // An error belongs to a connection, and there is none.
    if matches!((h.protocol, h.x), (1, 3 | 4 | 5 | 11 | 12) | (58, 1..=4)) {
        return Read::Bad(h, if h.fragment { FRAGMENT } else { INVALID });
    }
    if h.protocol == 58 && matches!(h.x, 133..=137) {
        return Read::Neighbour;
    }
    // All fragments but the last are multiples of eight bytes.
    if h.fragment && (body.is_empty() || (more && body.len() % 8 != 0)) {
        return Read::Bad(h, FRAGMENT);
    }
    Read::Good(h)
}

/// What may begin a connection, or take one up.
fn opens(h: &Header) -> bool {
    h.protocol != 6 || h.tcp_flags & 0x12 == 2 || h.tcp_flags & 0x17 == 0x10
}

fn forwarded(family: Family, address: u128) -> bool {
    match format_addr(family, address) {
        IpAddr::V4(a) => !matches!(a.octets()[0], 0 | 127 | 224..),
        IpAddr::V6(a) => {
            let [first, second, ..] = a.octets();
            !(matches!(first, 0 | 0xff) || (first == 0xfe && second & 0xc0 == 0x80))
        }
    }
}

/// Where a frame goes in.
#[derive(Debug, Clone)]
enum Entry {
    Workload(EndpointId),
    Fabric { from: NodeId, vni: u32, space: OwnerId },
    Outside { dev: String, space: OwnerId },
    Underlay,
}

struct Shower<'a> {
    c: &'a Compiled,
    m: &'a Machine,
    node: NodeId,
    name: &'a str,
    rng: &'a mut Rng,
    known: &'a BTreeMap<(OwnerId, Family), Known>,
    next: u32,
    tally: Tally,
}

type Known = ((Vec<Seen>, Vec<Seen>), Vec<(u8, u16, u16)>);

/// So many damaged frames on a project's nodes.
pub fn shower(machine: &mut Machine, project: &Project, name: &str, seed: u64, count: u64) -> Tally {
    let c = &project.compiled;
    let mut known = BTreeMap::new();
    for space in c.model.owners.ids() {
        for family in Family::BOTH {
            known.insert((space, family), (seen(c, space, family), services(c, family)));
        }
    }
    let mut rng = Rng::new(seed);
    let nodes: Vec<NodeId> = c.model.nodes.ids().collect();
    let mut tally = Tally::default();
    for &node in &nodes {
        machine.become_node(project, node);
        let mut shower = Shower {
            c,
            m: machine,
            node,
            name,
            rng: &mut rng,
            known: &known,
            next: 0,
            tally: Tally::default(),
        };
        while shower.tally.ran() < count.div_ceil(nodes.len() as u64) {
            shower.one();
        }
        tally.add(&shower.tally);
    }
    tally
}

impl Shower<'_> {
    fn entry(&mut self) -> Entry {
        let mine: Vec<EndpointId> =
            (self.c.model.endpoints.iter()).filter(|(_, e)| e.node == self.node).map(|(id, _)| id).collect();
        let attaches = self.c.model.gateways.values().flat_map(|g| &g.attaches);
        let outside: Vec<_> =
            attaches.filter(|a| a.node == self.node).map(|a| (a.dev.clone(), a.external)).collect();
        match self.rng.below(10) {
            0 => Entry::Underlay,
            1..6 if !mine.is_empty() => Entry::Workload(mine[self.rng.below(mine.len())]),
            6..8 if !outside.is_empty() => {
                let (dev, space) = outside[self.rng.below(outside.len())].clone();
                Entry::Outside { dev, space }
            }
            _ => {
                let segments: Vec<_> = self.c.model.segments.values().map(|s| (s.vni, s.tenant)).collect();
                let nodes: Vec<NodeId> = self.c.model.nodes.ids().collect();
                let (vni, space) = segments[self.rng.below(segments.len())];
                Entry::Fabric { from: nodes[self.rng.below(nodes.len())], vni, space }
            }
        }
    }

    /// A frame that may go in there.
    fn frame(&mut self, entry: &Entry) -> Option<Vec<u8>> {
        let family = Family::BOTH[self.rng.below(2)];
        let (space, mac) = match entry {
            Entry::Workload(e) => {
                let e = &self.c.model.endpoints[*e];
                (e.tenant, e.mac.unwrap_or(ANY_MAC))
            }
            Entry::Fabric { space, .. } | Entry::Outside { space, .. } => (*space, ANY_MAC),
            Entry::Underlay => {
                let owners: Vec<OwnerId> = self.c.model.owners.ids().collect();
                (owners[self.rng.below(owners.len())], ANY_MAC)
            }
        };
        let ((sources, destinations), services) = &self.known[&(space, family)];
        let sources: Vec<&Seen> = match entry {
            Entry::Workload(e) => sources.iter().filter(|s| s.endpoint == Some(*e)).collect(),
            _ => sources.iter().collect(),
        };
        if sources.is_empty() || destinations.is_empty() {
            return None;
        }
        let (src, dst) = (
            sources[self.rng.below(sources.len())].address,
            destinations[self.rng.below(destinations.len())].address,
        );
        let (protocol, x, y) = services[self.rng.below(services.len())];
        let f = Fields { src: format_addr(family, src), dst: format_addr(family, dst), protocol, x, y };
        self.next = (self.next + 1) & 0xff_ffff;
        let (id, router) = (self.next, self.m.mac);
        let twist = match self.rng.below(12) {
            0 => Twist::Options,
            1 => Twist::Flags(self.rng.next() as u8),
            2 => Twist::UdpLength,
            3 => Twist::Extension([0, 43, 44, 60, 51][self.rng.below(5)]),
            4 => Twist::Truncated,
            5 => Twist::ShortTransport,
            6 => Twist::Ttl(self.rng.below(3) as u8),
            _ => Twist::None,
        };
        let built = match (self.rng.below(20), family) {
            (0, Family::V4) => {
                frames::fragments(mac, router, &f, id, &[(0, 2), (2, 2), (4, 9)])[self.rng.below(3)].clone()
            }
            (1, Family::V4) => {
                let back = Fields { src: f.dst, dst: f.src, ..f };
                let quoted = frames::frame(mac, router, &back, id, Twist::None);
                frames::error(mac, router, (f.src, f.dst), (11, 0), &quoted)
            }
            (2, Family::V4) => {
                frames::arp(mac, 1, (mac, (src as u32).to_be_bytes()), (dst as u32).to_be_bytes())
            }
            (2, Family::V6) => frames::discovery(
                (mac, router),
                (f.src, f.dst),
                135,
                255,
                &[&[0; 4][..], &dst.to_be_bytes()].concat(),
            ),
            (3, Family::V6) => frames::jumbo(mac, router, &f, id),
            _ => frames::frame(mac, router, &f, id, twist),
        };
        if !matches!(entry, Entry::Underlay) {
            return Some(built);
        }
        let node = |n: NodeId| self.c.model.nodes[n].vtep;
        let nodes: Vec<NodeId> = self.c.model.nodes.ids().collect();
        let to = if self.rng.chance(80) { self.node } else { nodes[self.rng.below(nodes.len())] };
        let from = nodes[self.rng.below(nodes.len())];
        let outer = Outer {
            from: ANY_MAC,
            to: router,
            src: node(from),
            dst: node(to),
            port: self.c.model.fabric.port,
            vni: 10_010,
            flags: if self.rng.chance(90) { 8 } else { self.rng.next() as u8 },
        };
        Some(frames::vxlan(&outer, &built))
    }

    /// Damages a frame in one or a few ways.
    fn damage(&mut self, f: &mut Vec<u8>) {
        for _ in 0..self.rng.below(4) {
            // Mostly behind the MACs, or nothing else would ever be met.
            let floor = if self.rng.chance(90) { 12 } else { 0 };
            let within = |rng: &mut Rng, f: &[u8]| floor + rng.below(f.len() - floor);
            match self.rng.below(10) {
                0..4 => {
                    // Most of what matters stands in the first 80 bytes.
                    let reach = if self.rng.chance(80) { f.len().min(80) } else { f.len() };
                    let at = within(self.rng, &f[..reach]);
                    f[at] ^= 1 << self.rng.below(8);
                }
                4 => f.truncate(14 + self.rng.below(f.len() - 13)),
                5 => {
                    let more = (0..self.rng.below(64)).map(|_| 0xa5);
                    f.extend(more.collect::<Vec<u8>>());
                }
                6 => {
                    // The lengths that headers state.
                    let at = [14, 16, 17, 18, 19, 34 + 4, 34 + 12, 54 + 4, 54 + 12][self.rng.below(9)];
                    if at + 1 < f.len() {
                        f[at] = self.rng.next() as u8;
                        if self.rng.chance(50) {
                            f[at + 1] = self.rng.below(128) as u8;
                        }
                    }
                }
                7 => {
                    let (at, n) = (within(self.rng, f), 1 + self.rng.below(20));
                    for byte in f.iter_mut().skip(at).take(n) {
                        *byte = self.rng.next() as u8;
                    }
                }
                8 => {
                    // Fragments, protocols, hop limits.
                    let at = [20, 21, 22, 23, 12, 13, 56, 57][self.rng.below(8)];
                    if at < f.len() {
                        f[at] = [0, 1, 2, 6, 8, 17, 0x20, 44, 58, 60, 0x40, 0xff][self.rng.below(12)];
                    }
                }
                _ => {
                    let at = within(self.rng, f);
                    f.truncate(at.max(14));
                    let random: Vec<u8> = (0..self.rng.below(80)).map(|_| self.rng.next() as u8).collect();
                    f.extend(random);
                }
            }
        }
    }

    fn one(&mut self) {
        let entry = self.entry();
        let Some(mut f) = self.frame(&entry) else { return };
        self.damage(&mut f);
        // Or nothing else that is wrong with a header would ever be met.
        if f[12..14] == [8, 0] && f.len() >= 34 && self.rng.chance(80) {
            frames::mend4(&mut f[14..34]);
        }
        // The kernel runs no program on an IP frame without an IP header.
        let least = match f[12..14] {
            [8, 0] => 34,
            [0x86, 0xdd] => 54,
            _ => 15,
        };
        if f.len() < least {
            return;
        }
        let ran = match &entry {
            Entry::Workload(e) => self.m.workload(&self.c.model.endpoints[*e].dev, &f),
            Entry::Fabric { from, vni, .. } => self.m.fabric(self.c.model.nodes[*from].vtep, *vni, &f),
            Entry::Outside { dev, .. } => self.m.outside(dev, &f),
            Entry::Underlay => self.m.underlay(&f),
        };
        let read = read(&f);
        let hex = || f.iter().map(|b| format!("{b:02x}")).collect::<Vec<_>>().join(" ");
        let node = &self.c.model.nodes[self.node].name;
        let check = |right: bool, why: &str| {
            assert!(
                right,
                "{why}: {} {node} {entry:?} {:#x} {:x?} {read:?}\n{}",
                self.name,
                ran.action,
                ran.cb,
                hex()
            );
        };
        let sent = SENT.contains(&ran.cb[0]) && ran.action != SHOT;
        match (&entry, &read) {
            (Entry::Underlay, _) => {
                let dropped = ran.action == SHOT;
                check(dropped == self.foreign_vxlan(&f, &read), "the underlay");
                check(dropped || ran.cb[0] == LEFT_ALONE, "the underlay's own");
                check(dropped || ran.frame == f, "the underlay's frame changed");
                self.tally.underlay += 1;
            }
            (_, Read::Neighbour | Read::NotIp) => {
                check(!sent, "not IP, and it went on");
                if f[12..14] != [8, 6] && read == Read::NotIp {
                    check(
                        ran.action == SHOT && [UNKNOWN_VNI, INVALID, BAD_VTEP].contains(&ran.cb[0]),
                        "not IP",
                    );
                }
                self.tally.other += 1;
            }
            (_, Read::Bad(h, why)) => {
                check(!sent && ran.cb[0] != ANSWERED, "unclassifiable, and it went on");
                let expected = self.before(&entry, &f, h).unwrap_or(*why);
                if let Entry::Workload(_) = entry {
                    check(ran.action == SHOT && ran.cb[0] == expected, "unclassifiable, for another reason");
                } else {
                    let asked = [BAD_VTEP, NO_ROUTE, NOT_EXPOSED, TO_HOST, UNKNOWN_SOURCE, UNKNOWN_VNI, *why];
                    check(
                        ran.cb[0] == LEFT_ALONE || asked.contains(&ran.cb[0]),
                        "unclassifiable, for another reason",
                    );
                }
                self.tally.unclassifiable += 1;
            }
            (Entry::Workload(e), Read::Good(h)) => {
                match self.before(&entry, &f, h).map(|why| vec![why]).or_else(|| self.refusal(*e, h)) {
                    Some(why) => {
                        check(!sent, "refused, and it went on");
                        check(why.contains(&ran.cb[0]), &format!("not refused for {why:?}"));
                        self.tally.refused += 1;
                    }
                    None => {
                        check(sent, "allowed, and it did not go on");
                        check(self.intact(&ran, &f, h), "changed on its way");
                        self.tally.sent += 1;
                    }
                }
                self.m.forget();
            }
            (Entry::Fabric { space, .. } | Entry::Outside { space, .. }, Read::Good(h)) => {
                if sent {
                    let d = meaning(self.c, *space, h.family, h.dst, false);
                    let allowed = self.decision(*space, h).is_some_and(|d| d.allow);
                    check(allowed && d.there && h.ttl > 1 && opens(h), "it went on");
                    check(
                        f[..6] == self.m.mac || matches!(entry, Entry::Outside { .. }),
                        "for another router",
                    );
                    self.tally.sent += 1;
                } else {
                    self.tally.refused += 1;
                }
                self.m.forget();
            }
        }
    }

    /// VXLAN that is not for this node, or not right.
    fn foreign_vxlan(&self, f: &[u8], read: &Read) -> bool {
        let port = self.c.model.fabric.port;
        let (Read::Good(h) | Read::Bad(h, FRAGMENT)) = read else { return false };
        let mine = |vtep: IpAddr| compiler::algebra::parse_addr(vtep) == (h.family, h.dst);
        h.protocol == 17
            && h.y == port
            && (h.fragment
                || !mine(self.c.model.nodes[self.node].vtep)
                || f.get(h.at + 8..h.at + 16).is_none_or(|vxlan| vxlan[0] & 8 == 0))
    }

    /// Why a workload's packet is dropped before anybody asks what it is.
    fn before(&self, entry: &Entry, f: &[u8], h: &Header) -> Option<u32> {
        let Entry::Workload(e) = entry else { return None };
        let e = &self.c.model.endpoints[*e];
        // Endpoints may share a device.
        let owns =
            self.c.model.endpoints.values().filter(|o| o.node == self.node && o.dev == e.dev).any(|o| {
                let at = o.addresses.iter().any(|a| compiler::algebra::parse_addr(*a) == (h.family, h.src));
                at && o.mac.is_none_or(|mac| f[6..12] == mac)
            });
        if !owns {
            let group = h.family == Family::V6 && h.dst >> 120 == 0xff;
            return Some(if group && (h.src == 0 || h.src >> 118 == 0x3fa) { TO_HOST } else { SPOOF });
        }
        if matches!((h.protocol, h.x, h.y), (17, 67, 68) | (17, 547, 546) | (1, 5, _)) {
            return Some(INVALID);
        }
        if f[..6] != self.m.mac {
            return Some(NO_ROUTE);
        }
        let node = |vtep| compiler::algebra::parse_addr(vtep) == (h.family, h.dst);
        self.c.model.nodes.values().any(|n| node(n.vtep)).then_some(TO_HOST)
    }

    fn decision(&self, space: OwnerId, h: &Header) -> Option<eval::Decision> {
        let Header { family, src, dst, protocol, x, y, .. } = *h;
        eval::decide(self.c, &Packet { space, family, src, dst, protocol, x, y }).ok()
    }

    /// Why a workload's packet is refused; `None`: it is not.
    fn refusal(&self, e: EndpointId, h: &Header) -> Option<Vec<u32>> {
        let space = self.c.model.endpoints[e].tenant;
        let d = meaning(self.c, space, h.family, h.dst, false);
        // To itself, or from one family to the other.
        let Some(decision) = self.decision(space, h) else { return Some((1..=16).collect()) };
        match (decision.allow, d.there) {
            (false, true) => Some(vec![reason(decision.reason)]),
            (false, false) => Some(vec![reason(decision.reason), NO_ROUTE]),
            (true, false) => Some(vec![NO_ROUTE]),
            _ if !forwarded(h.family, h.dst) => Some(vec![NO_ROUTE]),
            _ if h.ttl < 2 => Some(vec![TTL, ANSWERED]),
            _ => (!opens(h)).then(|| vec![INVALID]),
        }
    }

    /// Only what a router changes is changed: MACs, hop limit, checksum.
    fn intact(&self, ran: &Ran, f: &[u8], h: &Header) -> bool {
        let ttl = if h.family == Family::V4 { 22 } else { 21 };
        // A TCP option that says what fits may be made smaller.
        let clamped = h.protocol == 6 && h.tcp_flags & 2 != 0;
        ran.frame.len() == f.len()
            && ran.frame.iter().zip(f).enumerate().skip(12).all(|(at, (new, old))| match at {
                24 | 25 if h.family == Family::V4 => true,
                _ if at == ttl => *new == old.wrapping_sub(1),
                _ => new == old || (clamped && at >= h.at + 16),
            })
    }
}
