//! Packets that a fabric sees: between addresses that mean something in some space, mostly to services that are spoken
//! of. The same fabric and number give the same packets.

use compiler::Compiled;
use compiler::algebra::Family;
use compiler::compiled::SpaceMap;
use compiler::eval::{packet_on_channel, resolve};
use compiler::ids::{ChannelId, OwnerId};
use compiler::packet::{End, Fields, Flow, Packet, field_max, fields, proto};
use compiler::sets::ServiceBox;

/// xorshift64*
struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn below(&mut self, bound: usize) -> usize {
        usize::try_from((self.next() >> 33) % bound as u64).expect("below a usize")
    }

    fn pick<'a, T>(&mut self, items: &'a [T]) -> &'a T {
        &items[self.below(items.len())]
    }

    fn within(&mut self, lo: u128, hi: u128) -> u128 {
        lo + u128::from(self.next()) % (hi - lo).saturating_add(1).min(1 << 16)
    }
}

/// So many packets, each a flow or dropped for a reason, none refused as malformed: three in four on a way that some
/// channel of the fabric is, the others between any two addresses that mean something in one space.
pub fn packets(c: &Compiled, count: usize) -> Vec<Packet> {
    let spoken: Vec<ServiceBox> =
        c.channels.values().flat_map(|channel| channel.service.boxes.clone()).collect();
    let channels: Vec<ChannelId> = c.channels.ids().collect();
    let spaces: Vec<OwnerId> = c.model.owners.ids().collect();
    let mut dice = Dice(0x7061_7274_7977_616c);
    let mut found = Vec::with_capacity(count);
    while found.len() < count {
        let family = if dice.below(8) == 0 { Family::V6 } else { Family::V4 };
        let packet = if dice.below(4) == 0 {
            let space = *dice.pick(&spaces);
            anywhere(c, &mut dice, &spoken, space, family)
        } else {
            let channel = *dice.pick(&channels);
            on_channel(c, &mut dice, channel, family)
        };
        found.extend(packet.filter(|packet| resolve(c, packet).is_ok()));
    }
    found
}

/// A packet in a channel's box, as its sender writes it.
fn on_channel(c: &Compiled, dice: &mut Dice, id: ChannelId, family: Family) -> Option<Packet> {
    let channel = &c.channels[id];
    let src = End { owner: channel.src, address: member(dice, channel.src_set.family(family).ranges())? };
    let dst = End { owner: channel.dst, address: member(dice, channel.dst_set.family(family).ranges())? };
    let (protocol, x, y) = service(dice, &channel.service.boxes, family);
    packet_on_channel(c, id, &Flow { src, dst, family, protocol, x, y })
}

fn member(dice: &mut Dice, ranges: &[(u128, u128)]) -> Option<u128> {
    if ranges.is_empty() {
        return None;
    }
    let (lo, hi) = *dice.pick(ranges);
    Some(dice.within(lo, hi))
}

fn anywhere(
    c: &Compiled,
    dice: &mut Dice,
    spoken: &[ServiceBox],
    space: OwnerId,
    family: Family,
) -> Option<Packet> {
    let there = &c.spaces[space];
    let src = meaning(dice, &there.sources, family)?;
    let dst = meaning(dice, &there.destinations, family)?;
    let (protocol, x, y) = service(dice, spoken, family);
    Some(Packet { space, family, src, dst, protocol, x, y })
}

/// Mostly an address that means something; one in sixteen means nothing in particular.
fn meaning<T>(dice: &mut Dice, map: &SpaceMap<T>, family: Family) -> Option<u128> {
    if dice.below(16) == 0 {
        return Some(u128::from(dice.next()) % family.max());
    }
    let ranges: Vec<(u128, u128)> = map.family(family).iter().map(|range| (range.lo, range.hi)).collect();
    member(dice, &ranges)
}

/// Mostly one of these.
fn service(dice: &mut Dice, spoken: &[ServiceBox], family: Family) -> (u8, u16, u16) {
    let one = *dice.pick(spoken);
    let icmp = if family == Family::V4 { proto::ICMP } else { proto::ICMP6 };
    let protocol = match (one.proto, dice.below(4)) {
        (_, 0) => icmp,
        ((lo, hi), _) if lo == hi && fields(lo) == Fields::Ports => lo,
        _ => proto::TCP,
    };
    if protocol == icmp {
        return (icmp, if family == Family::V4 { 8 } else { 128 }, 0);
    }
    let (x, y) = field_max(protocol);
    let port = |value: u128| u16::try_from(value).unwrap_or(u16::MAX);
    let to = if dice.below(4) == 0 {
        dice.within(1, u128::from(y))
    } else {
        dice.within(one.y.0.into(), one.y.1.into())
    };
    (protocol, port(dice.within(32_768, u128::from(x))), port(to))
}
