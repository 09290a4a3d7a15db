//! Packets that a fabric sees: between addresses that mean something in some space, mostly to services that are spoken
//! of. The same fabric and number give the same packets.

use compiler::Compiled;
use compiler::algebra::Family;
use compiler::compiled::SpaceMap;
use compiler::eval::{Resolution, resolve};
use compiler::ids::OwnerId;
use compiler::packet::{Fields, Packet, field_max, fields, proto};
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

/// So many packets, each a flow or dropped for a reason, none refused as malformed.
pub fn packets(c: &Compiled, count: usize) -> Vec<Packet> {
    let spoken: Vec<ServiceBox> = c.channels.values().flat_map(|channel| channel.service.boxes.clone()).collect();
    let spaces: Vec<OwnerId> = c.model.owners.ids().collect();
    let mut dice = Dice(0x7061_7274_7977_616c);
    let mut found = Vec::with_capacity(count);
    while found.len() < count {
        let space = *dice.pick(&spaces);
        let family = if dice.below(8) == 0 { Family::V6 } else { Family::V4 };
        let there = &c.spaces[space];
        let Some(src) = address(&mut dice, &there.sources, family) else { continue };
        let Some(dst) = address(&mut dice, &there.destinations, family) else { continue };
        let (protocol, x, y) = service(&mut dice, &spoken, family);
        let packet = Packet { space, family, src, dst, protocol, x, y };
        if matches!(resolve(c, &packet), Ok(Resolution::Flow { .. } | Resolution::Dropped { .. })) {
            found.push(packet);
        }
    }
    found
}

/// Mostly an address that means something; one in sixteen means nothing in particular.
fn address<T>(dice: &mut Dice, map: &SpaceMap<T>, family: Family) -> Option<u128> {
    let ranges = map.family(family);
    if ranges.is_empty() {
        return None;
    }
    if dice.below(16) == 0 {
        return Some(u128::from(dice.next()) % family.max());
    }
    let range = dice.pick(ranges);
    Some(dice.within(range.lo, range.hi))
}

/// Mostly one that some exposure offers.
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
    let to = if dice.below(4) == 0 { dice.within(1, u128::from(y)) } else { dice.within(one.y.0.into(), one.y.1.into()) };
    (protocol, port(dice.within(32_768, u128::from(x))), port(to))
}
