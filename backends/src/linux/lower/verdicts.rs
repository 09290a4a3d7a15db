//! Verdicts: what happens to a packet, by which rules, under which translation. Equal ones share a number.

use super::Lowering;
use crate::linux::model::{Atom, Direction, Drop, LogChain, Table};
use crate::linux::numbers::{self, small};
use crate::linux::services::Decided;
use compiler::buckets;
use compiler::eval::{Decider, Decision};
use compiler::ids::{ExposureId, GatewayId, NodeId, OwnerId, RuleId};
use compiler::packet::{self, Fields, proto};
use compiler::sets::ServiceBox;
use lang::ast::AffinityWord;
use std::collections::{BTreeMap, BTreeSet};

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum What {
    Drop(Drop),
    /// Forward with this routing mark, by direction.
    Go {
        original: u32,
        reply: u32,
        xlat: Option<u32>,
    },
    /// To an instance of this gateway.
    Via(GatewayId),
    /// Through a gateway without state: translated and forwarded with this routing mark. What answers is counted and not
    /// logged.
    Pass {
        mark: u32,
        xlat: u32,
        answers: bool,
    },
}

/// Who decided in a view.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Who {
    Rule(RuleId),
    Exposure(ExposureId),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Verdict {
    pub what: What,
    pub egress: Option<Who>,
    pub ingress: Option<Who>,
    /// The tenant that a log names.
    pub tenant: OwnerId,
}

/// What a pair class says: the boxes with entries, and the refusal for the rest.
type PairVerdicts = (Vec<(ServiceBox, u32)>, Option<u32>);

/// Numbers handed out, in the order of first use.
#[derive(Default)]
pub(crate) struct Verdicts {
    numbers: BTreeMap<Verdict, u32>,
    /// The same by number.
    list: Vec<Verdict>,
    pairs: BTreeMap<PairVerdicts, u32>,
    /// Gateway nodes that this node sends to.
    pub instances: Vec<NodeId>,
    /// Class numbers handed out.
    pub sources: u32,
    pub destinations: u32,
    /// On a gateway: (external, tenant) where the tenant's table has no way to the external's clients.
    pub ambiguous: BTreeSet<(OwnerId, OwnerId)>,
    /// Translations by number, with what each is a digest of.
    pub translations: BTreeMap<u32, Vec<String>>,
}

impl Verdicts {
    /// How many numbers of one kind are used, at most.
    pub fn most(&self) -> usize {
        let classes = self.sources.max(self.destinations);
        self.list.len().max(self.pairs.len()).max(usize::try_from(classes).unwrap_or(usize::MAX))
    }

    fn get(&self, number: u32) -> Option<Verdict> {
        let index = usize::try_from(number & !numbers::KIND).ok()?.checked_sub(1)?;
        self.list.get(index).copied()
    }
}

fn who(decider: Decider) -> Option<Who> {
    match decider {
        Decider::Rule(id) => Some(Who::Rule(id)),
        Decider::Exposure(id) => Some(Who::Exposure(id)),
        Decider::Default => None,
    }
}

impl Lowering<'_> {
    /// The verdict's number.
    pub(super) fn verdict(&mut self, decision: &Decision, what: What, tenant: OwnerId) -> u32 {
        let egress = decision.egress.and_then(|v| who(v.by));
        let ingress = decision.ingress.and_then(|v| who(v.by));
        let verdict = Verdict { what, egress, ingress, tenant };
        if let Some(known) = self.verdicts.numbers.get(&verdict) {
            return *known;
        }
        self.verdicts.list.push(verdict);
        let number = numbers::VERDICT | small(self.verdicts.list.len());
        self.verdicts.numbers.insert(verdict, number);
        number
    }

    /// The class of a pair for which these boxes were decided so; its verdict entries are made with it.
    pub(super) fn pair_class(&mut self, decided: &Decided, verdicts: &[u32]) -> u32 {
        let rest = self.rest_of(verdicts);
        let boxes: Vec<(ServiceBox, u32)> = decided
            .iter()
            .zip(verdicts)
            .filter(|(_, v)| Some(**v) != rest)
            .map(|((b, _), v)| (*b, *v))
            .collect();
        let next = numbers::PAIR | small(self.verdicts.pairs.len() + 1);
        let key: PairVerdicts = (boxes, rest);
        if let Some(known) = self.verdicts.pairs.get(&key) {
            return *known;
        }
        for (b, verdict) in &key.0 {
            self.put_box(next, b, *verdict);
        }
        if let Some(rest) = rest {
            let text = self.verdict_note(rest).unwrap_or_default();
            self.rules.put(Table::Rest, vec![Atom::Mark(next)], Some(Atom::Class(rest)), text);
        }
        self.verdicts.pairs.insert(key, next);
        next
    }

    /// The refusal that most boxes meet: it needs no entries of its own. What allows always has them.
    fn rest_of(&self, verdicts: &[u32]) -> Option<u32> {
        let mut count: BTreeMap<u32, usize> = BTreeMap::new();
        for number in verdicts {
            if self.verdicts.get(*number).is_some_and(|v| matches!(v.what, What::Drop(_))) {
                *count.entry(*number).or_default() += 1;
            }
        }
        count.into_iter().max_by_key(|(number, times)| (*times, std::cmp::Reverse(*number))).map(|(n, _)| n)
    }

    fn put_box(&mut self, pair: u32, b: &ServiceBox, verdict: u32) {
        let value = || Some(Atom::Class(verdict));
        let note = self.verdict_note(verdict).unwrap_or_default();
        let (lo, hi) = b.proto;
        match packet::fields(lo) {
            Fields::None => {
                let key = vec![Atom::Mark(pair), Atom::Proto(lo, hi)];
                self.rules.put(Table::Protocol, key, value(), note);
            }
            Fields::Ports => {
                let key = vec![
                    Atom::Mark(pair),
                    Atom::Proto(lo, hi),
                    Atom::Port(b.x.0, b.x.1),
                    Atom::Port(b.y.0, b.y.1),
                ];
                self.rules.put(Table::Verdict, key, value(), note);
            }
            Fields::Icmp => {
                for (from, to) in icmp_ports(b) {
                    let any = Atom::Port(0, u16::MAX);
                    let key = vec![Atom::Mark(pair), Atom::Proto(lo, hi), any, Atom::Port(from, to)];
                    self.rules.put(Table::Verdict, key, value(), note.clone());
                }
            }
        }
    }

    fn who_name(&self, who: Who) -> (String, String) {
        match who {
            Who::Rule(id) => {
                let rule = &self.c.model.rules[id];
                (rule.name.clone(), self.place(rule.span))
            }
            Who::Exposure(id) => {
                let exposure = &self.c.model.exposures[id];
                (exposure.name.clone(), self.place(exposure.span))
            }
        }
    }

    /// `shop-app.checkout policy.pw:12, payments.checkout#1 tenants.pw:14`
    fn verdict_note(&self, number: u32) -> Option<String> {
        let verdict = self.verdicts.get(number)?;
        let by: Vec<String> = [verdict.egress, verdict.ingress]
            .into_iter()
            .flatten()
            .map(|who| {
                let (name, place) = self.who_name(who);
                format!("{name} {place}")
            })
            .collect();
        (!by.is_empty()).then(|| by.join(", "))
    }

    /// The tables that are keyed by verdicts.
    pub(super) fn emit_verdicts(&mut self) {
        let verdicts: Vec<(Verdict, u32)> =
            self.verdicts.list.iter().zip(1..).map(|(v, n)| (*v, numbers::VERDICT | n)).collect();
        let mut gateways: Vec<GatewayId> = Vec::new();
        for (verdict, number) in verdicts {
            let key = || vec![Atom::Class(number)];
            let note = self.verdict_note(number).unwrap_or_default();
            let action = match verdict.what {
                What::Drop(drop) => Atom::Permanent(drop.chain()),
                What::Go { original, reply, xlat } => {
                    for (direction, mark) in [(Direction::Original, original), (Direction::Reply, reply)] {
                        let key = vec![Atom::Class(number), Atom::Direction(direction)];
                        self.rules.put(Table::Route, key, Some(Atom::Mark(mark)), note.clone());
                    }
                    if let Some(xlat) = xlat {
                        self.rules.put(Table::Xlat, key(), Some(Atom::Mark(xlat)), note.clone());
                        let held = vec![Atom::Class(number), Atom::Mark(xlat)];
                        self.rules.put(Table::XlatHeld, held, None, note.clone());
                    }
                    Atom::Chain("go".into())
                }
                What::Via(gateway) => {
                    match self.c.model.gateways[gateway].instances.as_slice() {
                        [only] => {
                            // `live` reads the name back.
                            let mark = self.live_mark(&[*only]);
                            let name = &self.c.model.nodes[*only].name;
                            let note = format!("{name}, {note}");
                            self.rules.put(Table::Only, key(), Some(Atom::Mark(mark)), note);
                        }
                        _ => {
                            let known = gateways.iter().position(|g| *g == gateway);
                            let index = known.unwrap_or_else(|| {
                                gateways.push(gateway);
                                gateways.len() - 1
                            });
                            let mark = Atom::Mark(numbers::GATEWAY | small(index));
                            let table = match self.c.model.gateways[gateway].affinity {
                                AffinityWord::Flow => Table::GatewayFlow,
                                AffinityWord::Source => Table::GatewaySource,
                                AffinityWord::Symmetric => Table::Gateway,
                            };
                            self.rules.put(table, key(), Some(mark), note.clone());
                        }
                    }
                    Atom::Chain("via".into())
                }
                What::Pass { mark, xlat, .. } => {
                    self.rules.put(Table::Onward, key(), Some(Atom::Mark(mark)), note.clone());
                    self.rules.put(Table::Xlat, key(), Some(Atom::Mark(xlat)), note.clone());
                    Atom::Chain("pass".into())
                }
            };
            self.rules.put(Table::Action, key(), Some(action), note.clone());
            for (table, who) in [(Table::EgressRule, verdict.egress), (Table::IngressRule, verdict.ingress)] {
                let Some(who) = who else { continue };
                let (written, place) = self.who_name(who);
                let counter = self.name("rule_", &written);
                self.rules.counters.insert(counter.clone(), format!("{written} {place}"));
                self.rules.put(table, key(), Some(Atom::Counter(counter)), place);
            }
            self.log_of(&verdict, number);
        }
        for (index, gateway) in gateways.into_iter().enumerate() {
            self.cells(index, gateway);
        }
    }

    /// The chain that writes what a rule with `log` decided.
    fn log_of(&mut self, verdict: &Verdict, number: u32) {
        let logged = [verdict.egress, verdict.ingress].into_iter().flatten().find_map(|who| match who {
            Who::Rule(id) if self.c.model.rules[id].log => Some(id),
            _ => None,
        });
        let Some(rule) = logged.filter(|_| !matches!(verdict.what, What::Pass { answers: true, .. })) else {
            return;
        };
        let word = if matches!(verdict.what, What::Drop(_)) { "deny" } else { "allow" };
        let tenant = &self.c.model.owners[verdict.tenant].name;
        let (rule_name, place) = self.who_name(Who::Rule(rule));
        let full = format!("partywall {tenant} {rule_name} {word}: ");
        let prefix = if full.len() <= 127 {
            full
        } else {
            format!("partywall {} {word}: ", crate::names::digest8(&full))
        };
        let name = format!("log{}", self.rules.logs.len() + 1);
        self.rules.logs.push(LogChain { name: name.clone(), prefix, note: format!("{rule_name} {place}") });
        self.rules.put(Table::Log, vec![Atom::Class(number)], Some(Atom::Call(name)), place);
    }

    /// The n-th gateway node that this node sends to.
    fn instance_mark(&self, node: NodeId) -> u32 {
        let at = self.verdicts.instances.iter().position(|n| *n == node).unwrap_or_default();
        numbers::INSTANCE | small(at)
    }

    /// The first of these that is alive.
    fn live_mark(&self, ranking: &[NodeId]) -> u32 {
        let live = ranking.iter().find(|node| !self.down.contains(node));
        live.map_or(numbers::NOBODY, |node| self.instance_mark(*node))
    }

    /// Who gets the packets of a bucket: the instance that it belongs to, and then whoever is next, should those before be
    /// dead.
    fn ranking(&self, gateway: GatewayId, bucket: (u8, u8)) -> Vec<NodeId> {
        let mut out: Vec<NodeId> = Vec::new();
        while let Some(next) =
            buckets::live_instance(&self.c.model, &self.c.model.gateways[gateway], bucket, &out)
        {
            out.push(next);
        }
        out
    }

    /// Which instance each pair of cells goes to (dataplane reference, "Gateway instance"). The comment of each names all that
    /// it may go to, in order, from which `live` makes the same for other live instances.
    fn cells(&mut self, index: usize, gateway: GatewayId) {
        let name = self.c.model.gateways[gateway].name.clone();
        let cells = u8::try_from(buckets::CELLS).unwrap_or(u8::MAX);
        let mut known: BTreeMap<(u8, u8), (u32, String)> = BTreeMap::new();
        for there in 0..cells {
            let row = numbers::ROW | small(index << 6 | usize::from(there));
            let key = vec![Atom::Mark(numbers::GATEWAY | small(index)), cell(there)];
            self.rules.put(Table::Row, key, Some(Atom::Mark(row)), name.clone());
            for here in 0..cells {
                let bucket = buckets::bucket(there, here);
                let (mark, note) = known
                    .entry(bucket)
                    .or_insert_with(|| {
                        let ranking = self.ranking(gateway, bucket);
                        let names: Vec<&str> =
                            ranking.iter().map(|n| self.c.model.nodes[*n].name.as_str()).collect();
                        (self.live_mark(&ranking), names.join(" "))
                    })
                    .clone();
                self.rules.put(Table::Cell, vec![Atom::Mark(row), cell(here)], Some(Atom::Mark(mark)), note);
            }
        }
    }
}

/// A cell as the program holds it: one more than its number, since zero means none.
pub(super) fn cell(number: u8) -> Atom {
    Atom::Class(u32::from(number) + 1)
}

/// A box of ICMP types and codes as ranges of `type << 8 | code`, which is what conntrack keeps of a query.
fn icmp_ports(b: &ServiceBox) -> Vec<(u16, u16)> {
    debug_assert!(matches!(b.proto.0, proto::ICMP | proto::ICMP6));
    let join = |kind: u16, code: u16| kind << 8 | code;
    if b.y == (0, 255) {
        return vec![(join(b.x.0, 0), join(b.x.1, 255))];
    }
    (b.x.0..=b.x.1).map(|kind| (join(kind, b.y.0), join(kind, b.y.1))).collect()
}
