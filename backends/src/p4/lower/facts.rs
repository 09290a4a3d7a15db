//! What the reference evaluator says of pairs of classes: asked once for all services that nothing in the pair's rules tells apart.

use super::classes::Ends;
use super::services::{Atoms, List};
use super::{Lowering, Who};
use crate::linux::ends::{self, Class};
use crate::linux::services::representative;
use compiler::Compiled;
use compiler::eval::{self, Decider, Reason, Resolution};
use compiler::ids::{ExposureId, GatewayId, OwnerId, PolicyId, RuleId};
use compiler::packet::{self, End, Packet};
use compiler::sets::{PairSet, ServiceBox};
use std::collections::{BTreeMap, BTreeSet};

/// A decision without its ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Fact {
    /// Of a refusal.
    pub reason: Option<&'static str>,
    pub via: Option<GatewayId>,
    /// Who decided in either view; nobody: a default.
    pub egress: Option<Who>,
    pub ingress: Option<Who>,
    pub exposure: Option<ExposureId>,
}

impl Fact {
    pub const fn refusal(reason: &'static str) -> Self {
        Self { reason: Some(reason), via: None, egress: None, ingress: None, exposure: None }
    }

    pub fn allows(&self) -> bool {
        self.reason.is_none()
    }

    /// The boxes of services that it can be said of.
    pub fn boxes(&self, c: &Compiled) -> Vec<ServiceBox> {
        let mut out = vec![ServiceBox::ALL];
        let who = [self.egress, self.ingress, self.exposure.map(Who::Exposure)];
        for who in who.into_iter().flatten() {
            let service = match who {
                Who::Rule(id) => &c.model.rules[id].service,
                Who::Exposure(id) => &c.model.exposures[id].service,
            };
            out = out.iter().flat_map(|b| service.boxes.iter().filter_map(|s| b.intersect(s))).collect();
        }
        out
    }

    /// In the order in which views come to their deciders: tier, policy, rule; defaults last.
    pub fn order(&self, c: &Compiled) -> [(usize, Option<PolicyId>, usize); 2] {
        let place = |who: Option<Who>| match who {
            Some(Who::Rule(id)) => {
                let policy = c.model.rules[id].policy;
                let rules = &c.model.policies[policy].rules;
                let at = rules.iter().position(|rule| *rule == id).unwrap_or_default();
                (c.model.policies[policy].tier, Some(policy), at)
            }
            // After all policies of the tier that it stands in.
            Some(Who::Exposure(_)) => {
                (c.model.fabric.lowest_delegated().map_or(usize::MAX - 1, |tier| tier + 1), None, 0)
            }
            None => (usize::MAX, None, 0),
        };
        [place(self.egress), place(self.ingress)]
    }
}

/// Values by number.
#[derive(Debug)]
pub(super) struct Numbered<T> {
    pub list: Vec<T>,
    numbers: BTreeMap<T, u32>,
}

impl<T: Ord + Clone> Numbered<T> {
    pub fn new() -> Self {
        Self { list: Vec::new(), numbers: BTreeMap::new() }
    }

    pub fn number(&mut self, value: T) -> u32 {
        if let Some(known) = self.numbers.get(&value) {
            return *known;
        }
        let next = u32::try_from(self.list.len()).unwrap_or(u32::MAX);
        self.list.push(value.clone());
        self.numbers.insert(value, next);
        next
    }

    pub fn get(&self, number: u32) -> Option<&T> {
        self.list.get(usize::try_from(number).ok()?)
    }
}

/// By atom, the number of a fact; no packet of the family is in an atom with [`IMPOSSIBLE`].
pub(super) type Said = Vec<u32>;
pub(super) const IMPOSSIBLE: u32 = u32::MAX;

/// Pairs of one space with what is said of them.
pub(super) struct Facts<'s> {
    space: &'s Ends,
    pub atoms: &'s Atoms,
    pub facts: Numbered<Fact>,
    pub said: Numbered<Said>,
    /// Services of each rule, as bits of the atoms' boxes.
    services: Vec<Vec<u64>>,
    sources: Vec<Side>,
    destinations: Vec<Side>,
    /// By pair of classes; `None`: both are one end.
    known: BTreeMap<(usize, usize), Option<u32>>,
    /// By the rules that match, for pairs inside the tenant.
    alike: BTreeMap<Vec<u64>, Option<u32>>,
}

/// One class as one side of a flow.
struct Side {
    /// The rules whose set it is in, a bit each.
    rules: Vec<u64>,
    owner: Option<OwnerId>,
    /// One of the tenant's own ends, in its own segment.
    own: bool,
    /// Its end, if it is only one.
    single: Option<End>,
}

/// The services that decisions in these spaces can depend on.
pub(super) fn services(c: &Compiled, spaces: &[Ends]) -> BTreeSet<ServiceBox> {
    let owners: BTreeSet<OwnerId> = spaces.iter().flat_map(owners).collect();
    let rules = ends::rules_of(c, owners.iter().copied());
    let rules = rules.into_iter().flat_map(|id| c.model.rules[id].service.boxes.iter());
    let exposures = c.model.exposures.values().filter(|e| owners.contains(&e.provider));
    rules.chain(exposures.flat_map(|e| e.service.boxes.iter())).copied().collect()
}

/// Whose ends a space knows.
fn owners(space: &Ends) -> BTreeSet<OwnerId> {
    let members = space.sources.iter().chain(&space.destinations).flat_map(|class| &class.members);
    members.map(|m| m.end.owner).chain([space.tenant]).collect()
}

impl<'s> Facts<'s> {
    pub fn new(l: &Lowering<'_>, space: &'s Ends, atoms: &'s Atoms) -> Self {
        let rules = ends::rules_of(l.c, owners(space));
        let side = |classes: &[Class], source: bool| {
            classes.iter().map(|class| Side::new(l.c, space, &rules, class, source)).collect()
        };
        Self {
            space,
            atoms,
            facts: Numbered::new(),
            said: Numbered::new(),
            services: rules.iter().map(|id| atoms.bits(&l.c.model.rules[*id].service.boxes)).collect(),
            sources: side(&space.sources, true),
            destinations: side(&space.destinations, false),
            known: BTreeMap::new(),
            alike: BTreeMap::new(),
        }
    }

    /// The boxes of what is said, as something tells of each fact and its number.
    pub fn list<T: Copy + PartialEq>(&self, said: u32, told: impl Fn(u32, Fact) -> Option<T>) -> List<T> {
        let said = self.said.get(said).map_or(&[][..], Vec::as_slice);
        self.atoms.list(|atom| {
            let number = *said.get(atom)?;
            told(number, *self.facts.get(number)?)
        })
    }

    /// One fact of everything.
    pub fn uniform(&mut self, fact: Fact) -> u32 {
        let fact = self.facts.number(fact);
        let family = self.space.family;
        let examples = self.atoms.examples.iter();
        let said =
            examples.map(|(p, ..)| if packet::protocol_in_family(*p, family) { fact } else { IMPOSSIBLE });
        let said = said.collect();
        self.said.number(said)
    }

    /// What is said of connections from one class of sources to one of destinations; `None`: both are one end.
    pub fn of(&mut self, l: &Lowering<'_>, source: usize, destination: usize) -> Option<u32> {
        let (from, to) = (self.sources.get(source)?, self.destinations.get(destination)?);
        let matching: Vec<u64> = from.rules.iter().zip(&to.rules).map(|(a, b)| a & b).collect();
        // INVARIANT: inside a tenant nothing but the rules that match tells two pairs apart.
        let inside = from.own && to.own;
        if inside && from.single.is_some() && from.single == to.single {
            return None;
        }
        if inside && let Some(known) = self.alike.get(&matching) {
            return *known;
        }
        if let Some(known) = self.known.get(&(source, destination)) {
            return *known;
        }
        let found = self.ask(l, source, destination, &matching);
        if inside {
            self.alike.insert(matching, found);
        } else {
            self.known.insert((source, destination), found);
        }
        found
    }

    fn ask(&mut self, l: &Lowering<'_>, source: usize, destination: usize, matching: &[u64]) -> Option<u32> {
        let c = l.c;
        let space = self.space;
        let (s, d) = space.representatives(source, destination)?;
        let probe = representative(space.tenant, space.family, s.lo, d.lo);
        // Services that make a difference for this pair.
        let mut relevant = vec![0u64; self.atoms.inside.first().map_or(0, Vec::len)];
        let mut add = |bits: &[u64]| relevant.iter_mut().zip(bits).for_each(|(all, some)| *all |= some);
        for (at, bits) in self.services.iter().enumerate() {
            if matching.get(at / 64).is_some_and(|word| word >> (at % 64) & 1 == 1) {
                add(bits);
            }
        }
        let provider = self.destinations.get(destination).and_then(|side| side.owner);
        let client = self.sources.get(source).and_then(|side| side.owner)?;
        for exposure in c.model.exposures.values().filter(|e| Some(e.provider) == provider) {
            if exposure.clients_of(client).is_some() {
                add(&self.atoms.bits(&exposure.service.boxes));
            }
        }
        let mut decided: BTreeMap<Vec<u64>, u32> = BTreeMap::new();
        let mut said = Vec::with_capacity(self.atoms.len());
        for (&(protocol, x, y), inside) in self.atoms.examples.iter().zip(&self.atoms.inside) {
            if !packet::protocol_in_family(protocol, space.family) {
                said.push(IMPOSSIBLE);
                continue;
            }
            let signature: Vec<u64> = inside.iter().zip(&relevant).map(|(a, b)| a & b).collect();
            let fact = match decided.get(&signature) {
                Some(known) => *known,
                None => {
                    let fact = fact(c, &Packet { protocol, x, y, ..probe })?;
                    let number = self.facts.number(fact);
                    decided.insert(signature, number);
                    number
                }
            };
            said.push(fact);
        }
        Some(self.said.number(said))
    }
}

impl Side {
    fn new(c: &Compiled, space: &Ends, rules: &[RuleId], class: &Class, source: bool) -> Self {
        let mut out =
            Self { rules: vec![0; rules.len().div_ceil(64)], owner: None, own: false, single: None };
        let Some(first) = class.members.first() else { return out };
        let end = first.end;
        out.owner = Some(end.owner);
        out.single = (class.members.len() == 1 && first.lo == first.hi).then_some(end);
        out.own = end.owner == space.tenant && first.gateway.is_none();
        for (at, id) in rules.iter().enumerate() {
            let holds = match &c.model.rules[*id].pairs {
                PairSet::SameTenant => true,
                PairSet::Sets(src, dst) => {
                    (if source { src } else { dst }).contains(end.owner, space.family, end.address)
                }
            };
            if holds && let Some(word) = out.rules.get_mut(at / 64) {
                *word |= 1 << (at % 64);
            }
        }
        out
    }
}

/// The evaluator's decision on one packet; `None`: both ends are one.
fn fact(c: &Compiled, packet: &Packet) -> Option<Fact> {
    let decision = eval::decide(c, packet).ok()?;
    let who = |by: Decider| match by {
        Decider::Rule(id) => Some(Who::Rule(id)),
        Decider::Exposure(id) => Some(Who::Exposure(id)),
        Decider::Default => None,
    };
    let exposure = match eval::resolve(c, packet) {
        Ok(Resolution::Flow { way, .. }) => way.exposure,
        _ => None,
    };
    Some(Fact {
        reason: (!decision.allow).then(|| reason_name(decision.reason)),
        via: decision.via,
        egress: decision.egress.and_then(|view| who(view.by)),
        ingress: decision.ingress.and_then(|view| who(view.by)),
        exposure,
    })
}

/// The program's constant.
fn reason_name(reason: Reason) -> &'static str {
    match reason {
        Reason::UnknownSource => "UNKNOWN_SOURCE",
        Reason::NoRoute => "NO_ROUTE",
        Reason::NotExposed => "NOT_EXPOSED",
        Reason::Rule => "RULE",
        Reason::Default => "DEFAULT",
    }
}
