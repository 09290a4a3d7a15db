//! Runs packets through a program as it was read back, with entries as they were read back: what a switch would do, without
//! one. Nothing here knows what the program is for.

use super::entries::{Entries, Entry, Index, max};
use super::program::{Expr, Header, HeaderId, Next, Op, Program, Slot, Statement};
use std::collections::BTreeMap;
use std::ops::Range;

/// `mark_to_drop`'s port in v1model.
const DROP_PORT: u128 = 511;

/// A program with entries.
pub struct Switch<'p> {
    program: &'p Program,
    tables: Vec<Index>,
    generation: u16,
    /// By slot: the largest value.
    masks: Vec<u128>,
    /// By header.
    layouts: Vec<Layout>,
    standard: Standard,
}

/// Where the fields of a header lie in its bytes.
struct Layout {
    bytes: usize,
    fields: Vec<Place>,
}

struct Place {
    slot: Slot,
    /// Bytes that hold some of it, at most 16.
    bytes: Range<usize>,
    /// Bits of the last byte that belong to later fields.
    shift: usize,
}

/// What v1model tells a program, and hears from it.
struct Standard {
    ingress_port: Option<Slot>,
    egress_spec: Option<Slot>,
    packet_length: Option<Slot>,
    parser_error: Option<Slot>,
    checksum_error: Option<Slot>,
}

/// What became of a packet.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Outcome {
    /// The port and the bytes; `None`: dropped.
    pub sent: Option<(u16, Vec<u8>)>,
    /// Counters of the program, by their numbers, with the index that was counted under.
    pub counted: Vec<(usize, u128)>,
    /// Tables that were looked up, each with the action taken, by the program's numbers, in order.
    pub path: Vec<(usize, usize)>,
}

struct Packet<'a, 'p> {
    switch: &'a Switch<'p>,
    values: Vec<u128>,
    valid: Vec<bool>,
    outcome: Outcome,
}

impl<'p> Switch<'p> {
    /// A switch that runs the generation of the entries.
    #[must_use]
    pub fn new(program: &'p Program, entries: &Entries) -> Self {
        let all: Vec<Entry> = entries.iter().map(|(entry, _)| entry).collect();
        Self::with(program, &all, entries.generation)
    }

    /// A switch with these entries, of which those of one generation are in force.
    #[must_use]
    pub fn with(program: &'p Program, all: &[Entry], generation: u16) -> Self {
        let mut by_table: BTreeMap<&str, Vec<&Entry>> = BTreeMap::new();
        for entry in all {
            by_table.entry(&entry.table).or_default().push(entry);
        }
        let tables = program
            .tables
            .iter()
            .map(|t| Index::new(program, t, by_table.get(t.name.as_str()).map_or(&[], Vec::as_slice)))
            .collect();
        let slot = |name: &str| program.names.get(&format!("standard_metadata.{name}")).copied();
        Self {
            program,
            tables,
            generation,
            masks: program.slots.iter().map(|width| max(*width)).collect(),
            layouts: program.headers.iter().map(|header| Layout::new(program, header)).collect(),
            standard: Standard {
                ingress_port: slot("ingress_port"),
                egress_spec: slot("egress_spec"),
                packet_length: slot("packet_length"),
                parser_error: slot("parser_error"),
                checksum_error: slot("checksum_error"),
            },
        }
    }

    /// A frame that comes in by a port.
    #[must_use]
    pub fn packet(&self, port: u16, frame: &[u8]) -> Outcome {
        let mut p = Packet {
            switch: self,
            values: vec![0; self.program.slots.len()],
            valid: vec![false; self.program.headers.len()],
            outcome: Outcome::default(),
        };
        p.tell(self.standard.ingress_port, u128::from(port));
        p.tell(self.standard.packet_length, frame.len() as u128);
        let payload = p.parse(frame);
        p.block(&self.program.verify, None);
        p.block(&self.program.ingress, None);
        let spec = |p: &Packet<'_, '_>| self.standard.egress_spec.map_or(0, |slot| p.get(slot));
        if spec(&p) != DROP_PORT {
            p.block(&self.program.egress, None);
            p.block(&self.program.update, None);
            let port = u16::try_from(spec(&p)).unwrap_or(u16::MAX);
            let bytes = p.deparse(frame.get(payload..).unwrap_or_default());
            p.outcome.sent = Some((port, bytes));
        }
        p.outcome
    }
}

impl Layout {
    fn new(program: &Program, header: &Header) -> Self {
        let mut at = 0usize;
        let mut fields = Vec::with_capacity(header.fields.len());
        for &slot in &header.fields {
            let end = at + program.slots.get(slot).copied().map_or(0, usize::from);
            fields.push(Place { slot, bytes: at / 8..end.div_ceil(8), shift: end.div_ceil(8) * 8 - end });
            at = end;
        }
        Self { bytes: at / 8, fields }
    }
}

impl Packet<'_, '_> {
    fn get(&self, slot: Slot) -> u128 {
        self.values.get(slot).copied().unwrap_or_default()
    }

    fn set(&mut self, slot: Slot, value: u128) {
        if let (Some(place), Some(mask)) = (self.values.get_mut(slot), self.switch.masks.get(slot)) {
            *place = value & mask;
        }
    }

    fn tell(&mut self, slot: Option<Slot>, value: u128) {
        if let Some(slot) = slot {
            self.set(slot, value);
        }
    }

    /// Takes headers off; returns where the payload begins.
    fn parse(&mut self, frame: &[u8]) -> usize {
        let program = self.switch.program;
        let (mut at, mut state) = (0usize, 0usize);
        while let Some(here) = program.states.get(state) {
            for &header in &here.extracts {
                match self.extract(header, frame.get(at..).unwrap_or_default()) {
                    Some(length) => at += length,
                    None => {
                        // error.PacketTooShort
                        self.tell(self.switch.standard.parser_error, 1);
                        return at;
                    }
                }
            }
            let next = match &here.next {
                Next::Accept => None,
                Next::State(next) => Some(*next),
                Next::Select { on, cases } => {
                    let values: Vec<u128> = on.iter().map(|e| self.value(e)).collect();
                    let holds = |keys: &[Option<u128>]| {
                        keys.iter().zip(&values).all(|(k, v)| k.is_none_or(|k| k == *v))
                    };
                    match cases.iter().find(|(keys, _)| holds(keys)) {
                        Some((_, next)) => *next,
                        None => {
                            // error.NoMatch
                            self.tell(self.switch.standard.parser_error, 2);
                            None
                        }
                    }
                }
            };
            match next {
                Some(next) => state = next,
                None => break,
            }
        }
        at
    }

    fn extract(&mut self, id: HeaderId, bytes: &[u8]) -> Option<usize> {
        let layout = self.switch.layouts.get(id)?;
        let bytes = bytes.get(..layout.bytes)?;
        for place in &layout.fields {
            let mut value = 0u128;
            for byte in bytes.get(place.bytes.clone())? {
                value = value << 8 | u128::from(*byte);
            }
            self.set(place.slot, value >> place.shift);
        }
        if let Some(valid) = self.valid.get_mut(id) {
            *valid = true;
        }
        Some(layout.bytes)
    }

    fn deparse(&self, payload: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        for id in &self.switch.program.deparser {
            let Some(layout) = self.switch.layouts.get(*id).filter(|_| self.is_valid(*id)) else { continue };
            let start = out.len();
            out.resize(start + layout.bytes, 0);
            for place in &layout.fields {
                let value = (self.get(place.slot) << place.shift).to_be_bytes();
                let target = out.get_mut(start + place.bytes.start..start + place.bytes.end);
                let value = value.get(16usize.saturating_sub(place.bytes.len())..);
                for (byte, part) in target.into_iter().flatten().zip(value.into_iter().flatten()) {
                    *byte |= part;
                }
            }
        }
        out.extend(payload);
        out
    }

    fn is_valid(&self, id: HeaderId) -> bool {
        self.valid.get(id).copied().unwrap_or_default()
    }

    /// `direct`: the table in whose entry's action we are.
    fn block(&mut self, body: &[Statement], direct: Option<usize>) {
        for statement in body {
            self.statement(statement, direct);
        }
    }

    fn statement(&mut self, statement: &Statement, direct: Option<usize>) {
        match statement {
            Statement::Assign(slot, value) => {
                let value = self.value(value);
                self.set(*slot, value);
            }
            Statement::If(when, then, otherwise) => {
                let branch = if self.value(when) == 1 { then } else { otherwise };
                self.block(branch, direct);
            }
            Statement::Apply(table) => self.apply(*table),
            Statement::Act(action) => self.act(*action, &[], direct),
            Statement::SetValid(id, valid) => {
                if let Some(place) = self.valid.get_mut(*id) {
                    *place = *valid;
                }
            }
            Statement::Count(counter, Some(index)) => {
                let index = self.value(index);
                self.outcome.counted.push((*counter, index));
            }
            Statement::Count(_, None) => {}
            Statement::Drop => self.tell(self.switch.standard.egress_spec, DROP_PORT),
            Statement::Checksum { when, over, field, write } => {
                if self.value(when) == 0 {
                    return;
                }
                let mut sum = Checksum::default();
                for (expr, width) in over {
                    sum.add(self.value(expr), *width);
                }
                let sum = u128::from(sum.value());
                if *write {
                    self.set(*field, sum);
                } else if self.get(*field) != sum {
                    self.tell(self.switch.standard.checksum_error, 1);
                }
            }
        }
    }

    fn apply(&mut self, at: usize) {
        let switch = self.switch;
        let Some(table) = switch.program.tables.get(at) else { return };
        let values: Vec<u128> = table.keys.iter().map(|k| self.get(k.slot)).collect();
        let found = switch.tables.get(at).and_then(|index| index.get(table, &values));
        let (action, params) = match found {
            Some((action, params)) => (*action, params.as_slice()),
            None => (table.default_action.0, table.default_action.1.as_slice()),
        };
        self.outcome.path.push((at, action));
        if table.keys.is_empty() {
            // The one default action that a change of generation changes.
            self.act(action, &[u128::from(switch.generation)], Some(at));
        } else {
            self.act(action, params, Some(at));
        }
    }

    fn act(&mut self, action: usize, params: &[u128], direct: Option<usize>) {
        let switch = self.switch;
        let Some(action) = switch.program.actions.get(action) else { return };
        for (param, value) in action.params.iter().zip(params) {
            self.set(param.slot, *value);
        }
        self.block(&action.body, direct);
    }

    fn value(&self, expr: &Expr) -> u128 {
        match expr {
            Expr::Const(value) => *value,
            Expr::Slot(slot) => self.get(*slot),
            Expr::Valid(id) => u128::from(self.is_valid(*id)),
            Expr::Slice(inner, hi, lo) => self.value(inner) >> lo & max(hi - lo + 1),
            Expr::Not(inner) => 1 - self.value(inner),
            Expr::Complement(inner, width) => !self.value(inner) & max(*width),
            Expr::Concat(left, right, width) => self.value(left) << width | self.value(right),
            Expr::Cast(inner, width) => self.value(inner) & max(*width),
            Expr::Binary(op, left, right, width) => {
                let l = self.value(left);
                // Conditions on the right are only looked at where the left one leaves it open.
                match op {
                    Op::Both if l == 0 => return 0,
                    Op::Either if l == 1 => return 1,
                    _ => {}
                }
                let r = self.value(right);
                match op {
                    Op::Add => l.wrapping_add(r) & max(*width),
                    Op::Sub => l.wrapping_sub(r) & max(*width),
                    Op::And => l & r,
                    Op::Or => l | r,
                    Op::Xor => l ^ r,
                    Op::Eq => u128::from(l == r),
                    Op::Ne => u128::from(l != r),
                    Op::Lt => u128::from(l < r),
                    Op::Gt => u128::from(l > r),
                    Op::Both | Op::Either => r,
                }
            }
        }
    }
}

/// RFC 1071 over bits in network order, zeros to the end of the last word.
#[derive(Default)]
struct Checksum {
    sum: u32,
    /// Bits of the word that is not full yet, and how many.
    word: u128,
    used: u8,
}

impl Checksum {
    fn add(&mut self, value: u128, width: u8) {
        let mut left = width;
        while left > 0 {
            let take = left.min(16 - self.used);
            self.word = self.word << take | value >> (left - take) & max(take);
            self.used += take;
            left -= take;
            if self.used == 16 {
                self.sum += u32::try_from(self.word).unwrap_or_default();
                (self.word, self.used) = (0, 0);
            }
        }
    }

    fn value(mut self) -> u16 {
        let rest = (16 - self.used) % 16;
        self.add(0, rest);
        while self.sum > 0xffff {
            self.sum = (self.sum & 0xffff) + (self.sum >> 16);
        }
        !u16::try_from(self.sum).unwrap_or(u16::MAX)
    }
}
