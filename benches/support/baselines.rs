//! What there is without partywall's engine: one question to a fresh Z3 for every rule, and a comparison of every rule with every
//! one before it.
//!
//! Both look at each policy by itself and at IPv4 alone: which rules of the list can never be the first that matches.

use compiler::Compiled;
use compiler::algebra::Family;
use compiler::ids::RuleId;
use compiler::sets::PairSet;
use std::time::{Duration, Instant};
use z3::ast::{BV, Bool};
use z3::{SatResult, Solver};

/// Source, destination (owner and address), protocol, two fields: ranges with their ends.
pub type Cube = [(u64, u64); 5];

/// A rule as the flows that it matches.
pub struct Row {
    pub id: RuleId,
    pub cubes: Vec<Cube>,
}

/// The lists of a project: the rules of each tenant's policies.
pub struct Lists {
    pub lists: Vec<Vec<Row>>,
    /// Bits of an end: more than an address where there are several owners.
    bits: u32,
}

/// How far a baseline came.
pub struct Came {
    /// Seconds for all rules, extrapolated from those that were asked about.
    pub seconds: f64,
    pub asked: usize,
    pub of: usize,
    pub dead: Vec<RuleId>,
}

impl Lists {
    pub fn of(c: &Compiled) -> Self {
        let tenants = c.model.owners.values().filter(|o| o.is_tenant()).count();
        let owned = c.model.policies.values().filter(|policy| policy.owner.is_some());
        let lists = owned.map(|policy| policy.rules.iter().map(|id| row(c, *id)).collect()).collect();
        Self { lists, bits: if tenants == 1 { 32 } else { 48 } }
    }

    fn rules(&self) -> usize {
        self.lists.iter().map(Vec::len).sum()
    }

    /// All rules as (list, position), in an order that any prefix of samples evenly.
    fn spread(&self) -> impl Iterator<Item = (usize, usize)> {
        let all: Vec<(usize, usize)> = self
            .lists
            .iter()
            .enumerate()
            .flat_map(|(l, rows)| (0..rows.len()).map(move |n| (l, n)))
            .collect();
        let len = all.len();
        // A step near the golden ratio of the length, without a common divisor.
        let step = (len * 618 / 1000..).find(|s| gcd(*s, len) == 1).unwrap_or(1);
        (0..len).filter_map(move |k| all.get((k + 1) * step % len).copied())
    }

    /// One question to a fresh default solver for each rule, until the time is over.
    pub fn z3(&self, time: Duration) -> Came {
        let names = [("src", self.bits), ("dst", self.bits), ("protocol", 8), ("x", 16), ("y", 16)];
        let fields = names.map(|(name, bits)| (BV::new_const(name, bits), bits));
        // Making the expressions is left out of the time.
        let made: Vec<Vec<Bool>> =
            self.lists.iter().map(|rows| rows.iter().map(|row| matches(row, &fields)).collect()).collect();
        self.sample(time, |list, position| {
            let solver = Solver::new();
            for earlier in &made[list][..position] {
                solver.assert(earlier.not());
            }
            solver.assert(&made[list][position]);
            match solver.check() {
                SatResult::Unsat => true,
                SatResult::Sat => false,
                SatResult::Unknown => panic!("Z3 does not know"),
            }
        })
    }

    /// A rule is taken for dead if one earlier rule contains it.
    pub fn pairwise(&self, time: Duration) -> Came {
        self.sample(time, |list, position| {
            let rows = &self.lists[list];
            rows[..position].iter().any(|earlier| contains(earlier, &rows[position]))
        })
    }

    fn sample(&self, time: Duration, dead: impl Fn(usize, usize) -> bool) -> Came {
        let (start, mut asked, mut found) = (Instant::now(), 0, Vec::new());
        for (list, position) in self.spread() {
            if start.elapsed() > time {
                break;
            }
            asked += 1;
            if dead(list, position) {
                found.push(self.lists[list][position].id);
            }
        }
        let of = self.rules();
        #[expect(clippy::cast_precision_loss, reason = "counts of rules are far below 2^52")]
        let seconds = start.elapsed().as_secs_f64() * of as f64 / asked.max(1) as f64;
        Came { seconds, asked, of, dead: found }
    }
}

fn gcd(a: usize, b: usize) -> usize {
    if b == 0 { a } else { gcd(b, a % b) }
}

fn row(c: &Compiled, id: RuleId) -> Row {
    let rule = &c.model.rules[id];
    let PairSet::Sets(src, dst) = &rule.pairs else { panic!("`same-tenant` is no list") };
    let ends = |set: &compiler::sets::EndSet| -> Vec<(u64, u64)> {
        assert!(set.rest.is_empty(), "`any` is no list");
        let owners = set.owners.iter().zip(0_u64..);
        owners
            .flat_map(|((owner, addresses), _)| {
                let high =
                    u64::from(u32::try_from(compiler::ids::Id::index(*owner)).expect("few owners")) << 32;
                let ranges = addresses.family(Family::V4).ranges().iter();
                ranges.map(move |(lo, hi)| (high + *lo as u64, high + *hi as u64)).collect::<Vec<_>>()
            })
            .collect()
    };
    let mut cubes = Vec::new();
    for s in ends(src) {
        for d in ends(dst) {
            for b in &rule.service.boxes {
                let wide = |(lo, hi): (u16, u16)| (u64::from(lo), u64::from(hi));
                cubes.push([s, d, (u64::from(b.proto.0), u64::from(b.proto.1)), wide(b.x), wide(b.y)]);
            }
        }
    }
    Row { id, cubes }
}

fn contains(outer: &Row, inner: &Row) -> bool {
    let within = |a: &Cube, b: &Cube| a.iter().zip(b).all(|(a, b)| b.0 <= a.0 && a.1 <= b.1);
    inner.cubes.iter().all(|a| outer.cubes.iter().any(|b| within(a, b)))
}

fn matches(row: &Row, fields: &[(BV, u32); 5]) -> Bool {
    let cubes: Vec<Bool> = row
        .cubes
        .iter()
        .map(|cube| {
            let sides: Vec<Bool> =
                cube.iter().zip(fields).filter_map(|(r, (v, bits))| range(v, *bits, *r)).collect();
            Bool::and(&sides)
        })
        .collect();
    Bool::or(&cubes)
}

/// A prefix as an equation of its leading bits, as is quickest; anything else as comparisons; `None`: every value.
fn range(value: &BV, bits: u32, (lo, hi): (u64, u64)) -> Option<Bool> {
    let size = hi - lo + 1;
    if size == 1 << bits {
        return None;
    }
    if size.is_power_of_two() && lo % size == 0 {
        let free = size.trailing_zeros();
        return Some(value.extract(bits - 1, free).eq(BV::from_u64(lo >> free, bits - free)));
    }
    let number = |n: u64| BV::from_u64(n, bits);
    Some(Bool::and(&[value.bvuge(number(lo)), value.bvule(number(hi))]))
}
