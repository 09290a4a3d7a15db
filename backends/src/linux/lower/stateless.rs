//! Gateways that keep no state.
//!
//! A packet is read as it is, in the space of the owner from whom it comes: first as an answer to a connection that the other side may
//! open, then as one that opens a connection. What answers is what the policy's decisions on connections look like with both ends
//! changed over.

use super::Lowering;
use super::by_family;
use super::compute::representatives;
use super::gateway::{Instances, Joined};
use super::verdicts::What;
use crate::linux::admitted::{self, Admitted, service};
use crate::linux::ends::{self, Class, Stretch};
use crate::linux::model::{Atom, Table};
use crate::linux::numbers::{self, small};
use crate::linux::services::{self, Decided, mirrored};
use compiler::algebra::Family;
use compiler::eval::{self, Decider, Decision, Resolution};
use compiler::ids::{ExposureId, GatewayId, OwnerId, RuleId};
use compiler::model::Mapping;
use compiler::packet::Packet;
use compiler::sets::ServiceBox;
use lang::codes::Code;
use lang::diag::Diagnostic;
use std::collections::BTreeMap;

impl Lowering<'_> {
    /// What this target cannot do for such a gateway on its own node.
    pub(super) fn stateless_capabilities(&mut self, id: GatewayId) {
        let gateway = &self.c.model.gateways[id];
        let target = self.dialect.name;
        let translating = self.c.model.exposures.values().filter(|e| e.gateway == id && e.translates_clients);
        for exposure in translating {
            let clients = exposure.clients.iter().map(|(owner, _)| &self.c.model.owners[*owner]);
            for external in clients.filter(|owner| !owner.is_tenant()) {
                let message = format!(
                    "the {target} target cannot translate the external `{}` through the stateless gateway `{}`",
                    external.name, gateway.name
                );
                self.diagnostics.push(
                    Diagnostic::new(Code::PW0801, exposure.clients_as_span, message)
                        .label("`clients as` covers an external here")
                        .help("leave `clients as` away for externals, whose addresses are one space, or write `stateful`"),
                );
            }
        }
    }

    pub(super) fn stateless(&mut self, scope: &Instances) {
        let joined = self.joined(scope);
        self.one_kind(&joined, scope);
        for (index, (&(space, other), seen)) in joined.seen.iter().enumerate() {
            let opens = numbers::STATELESS | small(index) << 1;
            let answers = opens | numbers::ANSWERS;
            let note = format!("{} and {}", self.c.model.owners[space].name, self.c.model.owners[other].name);
            for family in Family::BOTH {
                for &(lo, hi) in self.spoken_to((space, other), seen, family, scope).ranges() {
                    let key = vec![Atom::Class(self.space_number(space)), Atom::Address(family, lo, hi)];
                    self.rules.put(by_family(family).stateless, key, Some(Atom::Mark(answers)), note.clone());
                }
                self.gateway_decisions(space, other, family, opens, scope);
                self.answers((space, other), family, answers, scope);
            }
        }
        self.unclaimed(scope);
    }

    /// Whether a packet is remembered follows from the space that it arrives in and its destination, so no two gateways here may
    /// differ in that for one destination.
    fn one_kind(&mut self, joined: &Joined, scope: &Instances) {
        let stateful =
            self.c.model.gateways.iter().filter(|(_, g)| g.stateful && g.instances.contains(&self.node));
        let stateful = Instances { node: self.node, gateways: stateful.map(|(id, _)| id).collect() };
        let remembered = self.joined(&stateful);
        for (&(space, other), seen) in &joined.seen {
            let mine = |joined: &Joined| -> Vec<OwnerId> {
                joined.seen.keys().filter(|(s, _)| *s == space).map(|(_, o)| *o).collect()
            };
            let meets = Family::BOTH.iter().any(|family| {
                let here = self.spoken_to((space, other), seen, *family, scope);
                mine(&remembered).into_iter().any(|o| {
                    let there = remembered.seen.get(&(space, o));
                    there.is_some_and(|seen| {
                        self.spoken_to((space, o), seen, *family, &stateful).overlaps(&here)
                    })
                })
            });
            if !meets {
                continue;
            }
            let (a, b) = (&self.c.model.owners[space].name, &self.c.model.owners[other].name);
            let node = &self.c.model.nodes[self.node];
            let gateway = scope.gateways.first().map(|g| &self.c.model.gateways[*g]);
            let message = format!(
                "the {} target cannot tell on node `{}` which packets of `{a}` to `{b}` pass a stateful gateway and which a stateless one",
                self.dialect.name, node.name
            );
            let mut diagnostic = Diagnostic::new(
                Code::PW0801,
                gateway.map_or(node.span, |g| g.span),
                message,
            )
            .label("this one keeps no state, and another on the same node does")
            .help("let instances of the two gateways be on nodes of their own, or write `stateful` for both");
            if let Some(other) = stateful.gateways.first() {
                diagnostic = diagnostic.related(self.c.model.gateways[*other].span, "this one is stateful");
            }
            self.diagnostics.push(diagnostic);
            return;
        }
    }

    /// What becomes of a packet that a decision lets pass. `packet` opened the connection, in a space where both ends are seen; (from, to)
    /// are the owners of sender and receiver.
    pub(super) fn pass(
        &mut self,
        (from, to): (OwnerId, OwnerId),
        packet: &Packet,
        gateway: GatewayId,
        answers: bool,
    ) -> What {
        let exposure = self.carrier(packet);
        let (xlat, translates) = self.renewal((from, to), packet.family, gateway, exposure, answers);
        // What there is to say about a packet that is not translated goes by the table by which it is led on.
        let answerable = !translates && !self.verdicts.ambiguous.contains(&(from, to));
        let mark = if answerable { self.home_of(to) | numbers::ANSWERABLE } else { self.table_of(to) };
        What::Pass { mark, xlat, answers }
    }

    fn carrier(&self, packet: &Packet) -> Option<ExposureId> {
        match eval::resolve(self.c, packet) {
            Ok(Resolution::Flow { way, .. }) => way.exposure,
            _ => None,
        }
    }

    /// The translation of packets between two owners, and whether it changes anything. Its entries are made with it.
    fn renewal(
        &mut self,
        (from, to): (OwnerId, OwnerId),
        family: Family,
        gateway: GatewayId,
        exposure: Option<ExposureId>,
        answers: bool,
    ) -> (u32, bool) {
        let name = |o: OwnerId| self.c.model.owners[o].name.clone();
        let mut parts = vec![
            if answers { "answers" } else { "opens" }.to_owned(),
            name(from),
            name(to),
            self.c.model.gateways[gateway].name.clone(),
            family.as_str().to_owned(),
        ];
        let note = format!("{} -> {}", name(from), name(to));
        let (client, provider) = if answers { (to, from) } else { (from, to) };
        let e = exposure.map(|id| &self.c.model.exposures[id]);
        if let Some(e) = e {
            parts.extend(e.presented.iter().map(|m| format!("to {} {}", m.real, m.seen)));
            let shown = e.shown.iter().filter(|(owner, _)| *owner == client);
            parts.extend(shown.map(|(_, m)| format!("from {} {}", m.real, m.seen)));
        }
        let bytes: Vec<&[u8]> = parts.iter().map(String::as_bytes).collect();
        let xlat = numbers::digest32(&bytes);
        let known = self.verdicts.translations.entry(xlat).or_insert_with(|| parts.clone());
        if *known != parts {
            let clash = format!("{xlat:#010x} is the digest of {known:?} and of {parts:?}");
            self.rules.contradictions.push(clash);
        }
        let one = |a: u128| Atom::Address(family, a, a);
        let mut changes = false;
        for (owner, provides, sends) in [(provider, true, answers), (client, false, !answers)] {
            let (table, keep) = if sends {
                (by_family(family).snat, Table::KeepSrc)
            } else {
                (by_family(family).dnat, Table::KeepDst)
            };
            let Some(e) = e.filter(|e| if provides { e.translates } else { e.translates_clients }) else {
                self.rules.put(keep, vec![Atom::Mark(xlat)], None, note.clone());
                continue;
            };
            changes = true;
            for &(real, _) in self.addresses.within(owner, family, 0, family.max()) {
                let seen = if provides { e.present(family, real) } else { e.show(client, family, real) };
                let Some(seen) = seen else { continue };
                let (old, new) = if sends { (real, seen) } else { (seen, real) };
                self.rules.put(table, vec![Atom::Mark(xlat), one(old)], Some(one(new)), note.clone());
            }
        }
        (xlat, changes)
    }

    /// Packets from one owner to another that answer connections of the other's.
    fn answers(
        &mut self,
        (space, other): (OwnerId, OwnerId),
        family: Family,
        context: u32,
        scope: &Instances,
    ) {
        let tenant = |owner: OwnerId| self.c.model.owners[owner].is_tenant();
        // An external's space does not have those who open connections to it. Nothing is translated between the two.
        let view = if tenant(space) { space } else { other };
        if !tenant(view) {
            return;
        }
        let of = |classes: Vec<Class>, owner: OwnerId| -> Vec<Class> {
            let mine = |class: &Class| class.members.first().is_some_and(|m| m.end.owner == owner);
            classes.into_iter().filter(mine).collect()
        };
        let found = ends::classes(self.c, &self.addresses, scope, view, family);
        let (askers, asked) = (of(found.sources, other), of(found.destinations, space));
        let opening = ends::classes(self.c, &self.addresses, scope, space, family);
        let opening = (of(opening.sources, space), of(opening.destinations, other));
        let rules = ends::rules_of(self.c, [space, other]);
        let tables = by_family(family);
        let from_numbers: Vec<u32> = asked.iter().map(|_| self.fresh_source(1)).collect();
        let to_numbers: Vec<u32> = askers.iter().map(|_| self.fresh_destination()).collect();
        for (class, number) in asked.iter().zip(&from_numbers) {
            self.put_members(context, class, family, (tables.src, tables.src_range), &Atom::Class(*number));
        }
        for (class, number) in askers.iter().zip(&to_numbers) {
            self.put_members(context, class, family, (tables.dst, tables.dst_range), &Atom::Mark(*number));
        }
        for (from, from_number) in asked.iter().zip(&from_numbers) {
            for (to, to_number) in askers.iter().zip(&to_numbers) {
                let Some((asker, asked)) = representatives(to, from) else { continue };
                let probe = services::representative(view, family, asker.lo, asked.lo);
                let Some(decided) = services::decide(self.c, &rules, &probe, other, space) else { continue };
                let answers = answering(&probe, &decided, scope);
                if answers.is_empty() {
                    continue;
                }
                let ends = Ends { owners: (space, other), family, from, to, opening: &opening };
                self.beyond(&ends, &rules, &answers);
                let mut verdicts = Vec::with_capacity(answers.len());
                for answer in &answers {
                    let what = self.pass((space, other), &answer.opener, answer.gateway, true);
                    verdicts.push(self.verdict(&answer.decision, what, view));
                }
                let boxes: Decided = answers.into_iter().map(|a| (a.shown, a.decision)).collect();
                let pair = self.pair_class(&boxes, &verdicts);
                let note = format!("{} -> {}", self.stretch_name(asked), self.stretch_name(asker));
                let key = vec![Atom::Mark(*to_number), Atom::Class(*from_number)];
                self.rules.put(Table::Pair, key, Some(Atom::Mark(pair)), note);
            }
        }
    }

    /// Answers that no rule lets open a connection are listed; those that may open one under another translation are refused.
    fn beyond(&mut self, ends: &Ends<'_>, rules: &[RuleId], answers: &[Answer]) {
        let (space, other) = ends.owners;
        let view = if self.c.model.owners[space].is_tenant() { space } else { other };
        let from = parts(&ends.from.members, &ends.opening.0);
        let to = parts(&ends.to.members, &ends.opening.1);
        for (opener, from) in &from {
            for (opened, to) in &to {
                let permits = match (opener, opened) {
                    (Some(_), Some(_)) => self.permits(ends, rules, from, to),
                    _ => Vec::new(),
                };
                for answer in answers {
                    self.one_way(ends, answer, &permits, (from, to));
                    let left = admitted::without(&answer.shown, permits.iter().map(|(b, _)| b));
                    let views = [answer.decision.egress, answer.decision.ingress];
                    let rule = views.into_iter().flatten().find_map(|view| match view.by {
                        Decider::Rule(id) => Some(&self.c.model.rules[id].name),
                        Decider::Exposure(id) => Some(&self.c.model.exposures[id].name),
                        Decider::Default => None,
                    });
                    let Some(rule) = rule else { continue };
                    let told = left.iter().map(|part| Admitted {
                        rule: rule.clone(),
                        tenant: self.c.model.owners[view].name.clone(),
                        from: admitted::addresses(ends.family, from.iter().copied()),
                        to: admitted::addresses(ends.family, to.iter().copied()),
                        service: service(&[*part]),
                    });
                    self.admitted.entry(answer.gateway).or_default().extend(told);
                }
            }
        }
    }

    /// What may open a connection between these, with the exposure that carries it.
    fn permits(
        &self,
        ends: &Ends<'_>,
        rules: &[RuleId],
        from: &[(u128, u128)],
        to: &[(u128, u128)],
    ) -> Permits {
        let two = from
            .iter()
            .find_map(|a| to.iter().flat_map(|b| [b.0, b.1]).find(|b| *b != a.0).map(|b| (a.0, b)));
        let Some((a, b)) = two else { return Vec::new() };
        let (space, other) = ends.owners;
        let probe = services::representative(space, ends.family, a, b);
        let decided = services::decide(self.c, rules, &probe, space, other).unwrap_or_default();
        let allowed = decided.into_iter().filter(|(_, decision)| decision.allow);
        allowed
            .map(|(b, _)| (b, self.carrier(&Packet { protocol: b.proto.0, x: b.x.0, y: b.y.0, ..probe })))
            .collect()
    }

    /// A packet that may open a connection and answer one has to look the same on the other side either way: nobody could say
    /// which it is.
    fn one_way(
        &mut self,
        ends: &Ends<'_>,
        answer: &Answer,
        permits: &Permits,
        (from, to): (&Stretches, &Stretches),
    ) {
        let exposure = self.carrier(&answer.opener);
        let differs = |opens: Option<ExposureId>| {
            let (src, dst) = (self.rewritten(ends, opens, false), self.rewritten(ends, exposure, true));
            from.iter().any(|(a, _)| src(*a, true) != dst(*a, true))
                || to.iter().any(|(b, _)| src(*b, false) != dst(*b, false))
        };
        let meets = permits.iter().any(|(b, opens)| b.intersect(&answer.shown).is_some() && differs(*opens));
        let decider = answer.decision.egress.or(answer.decision.ingress).map(|view| view.by);
        let (name, span) = match decider.filter(|_| meets) {
            Some(Decider::Rule(id)) => (&self.c.model.rules[id].name, self.c.model.rules[id].span),
            Some(Decider::Exposure(id)) => {
                (&self.c.model.exposures[id].name, self.c.model.exposures[id].span)
            }
            _ => return,
        };
        let message = format!(
            "the {} target cannot tell answers to `{name}` from other connections",
            self.dialect.name
        );
        let diagnostic = Diagnostic::new(Code::PW0801, span, message)
            .label("the same packets may open connections, and are then translated in another way")
            .help("let both have the same `as` and `clients as`, or write `stateful` in the gateway");
        if !self.diagnostics.contains(&diagnostic) {
            self.diagnostics.push(diagnostic);
        }
    }

    /// How the address of a packet's sender, or receiver, changes on the way.
    fn rewritten<'s>(
        &'s self,
        ends: &'s Ends<'_>,
        exposure: Option<ExposureId>,
        answers: bool,
    ) -> impl Fn(u128, bool) -> u128 + 's {
        let (space, other) = ends.owners;
        let family = ends.family;
        let e = exposure.map(|id| &self.c.model.exposures[id]);
        move |address, sender| {
            let Some(e) = e else { return address };
            let back = |m: &Mapping| {
                (m.seen.family == family && m.seen.contains_addr(address))
                    .then(|| address - m.seen.lo() + m.real.lo())
            };
            let shown = || e.shown.iter().filter(move |(owner, _)| *owner == other).map(|(_, m)| m);
            let found = match (sender, answers) {
                (true, true) => e.present(family, address),
                (true, false) => e.show(space, family, address),
                (false, true) => shown().find_map(back),
                (false, false) => e.presented.iter().find_map(back),
            };
            found.unwrap_or(address)
        }
    }

    /// One finding for each gateway whose answers the fabric does not accept.
    fn unclaimed(&mut self, scope: &Instances) {
        if self.c.model.fabric.stateless_replies.is_some() {
            return;
        }
        for id in &scope.gateways {
            let gateway = &self.c.model.gateways[*id];
            let message = format!(
                "gateway `{}` is stateless, and the fabric does not accept what that admits",
                gateway.name
            );
            let mut diagnostic = Diagnostic::new(Code::PW0801, gateway.span, message)
                .label("`stateless` stands here: an answer cannot be told from what only looks like one")
                .help("write `stateful`, or `stateless-replies \"why\"` in the fabric if that is acceptable");
            let admitted = self.admitted.get(id);
            for example in admitted.into_iter().flatten().take(3) {
                diagnostic = diagnostic.note(format!("admits {example}"));
            }
            if let Some(more) = admitted.and_then(|all| all.len().checked_sub(4)) {
                diagnostic = diagnostic.note(format!("and {} more", more + 1));
            }
            self.diagnostics.push(diagnostic);
        }
    }
}

/// Between which ends packets go that answer.
struct Ends<'c> {
    /// Of the senders and of the receivers.
    owners: (OwnerId, OwnerId),
    family: Family,
    from: &'c Class,
    to: &'c Class,
    /// Classes of those who open connections the same way, and of whom they open them to.
    opening: &'c (Vec<Class>, Vec<Class>),
}

/// Packets that answer.
struct Answer {
    /// As they show themselves.
    shown: ServiceBox,
    /// The decision on what they answer.
    decision: Decision,
    gateway: GatewayId,
    /// A packet that opens what they answer.
    opener: Packet,
}

/// Services, each with the exposure that carries it.
type Permits = Vec<(ServiceBox, Option<ExposureId>)>;

/// What answers connections through one of these gateways.
fn answering(probe: &Packet, decided: &Decided, scope: &Instances) -> Vec<Answer> {
    let mut out = Vec::new();
    for (b, decision) in decided {
        let Some(gateway) = decision.via.filter(|g| decision.allow && scope.gateways.contains(g)) else {
            continue;
        };
        let opener = Packet { protocol: b.proto.0, x: b.x.0, y: b.y.0, ..*probe };
        let answer = |shown| Answer { shown, decision: *decision, gateway, opener };
        out.extend(mirrored(b).into_iter().map(answer));
    }
    out
}

/// Stretches of addresses by the class that they are of.
type Parts = BTreeMap<Option<usize>, Stretches>;

/// Addresses `lo..=hi`.
type Stretches = Vec<(u128, u128)>;

fn parts(members: &[Stretch], classes: &[Class]) -> Parts {
    let mut known: Vec<(u128, u128, usize)> = Vec::new();
    for (at, class) in classes.iter().enumerate() {
        known.extend(class.members.iter().map(|m| (m.lo, m.hi, at)));
    }
    known.sort_unstable();
    let mut out = Parts::new();
    for member in members {
        let mut next = Some(member.lo);
        let first = known.partition_point(|(_, hi, _)| *hi < member.lo);
        for (lo, hi, class) in known.iter().skip(first).take_while(|(lo, ..)| *lo <= member.hi) {
            let (lo, hi) = ((*lo).max(member.lo), (*hi).min(member.hi));
            if let Some(gap) = next.filter(|start| *start < lo) {
                out.entry(None).or_default().push((gap, lo - 1));
            }
            out.entry(Some(*class)).or_default().push((lo, hi));
            next = hi.checked_add(1);
        }
        if let Some(gap) = next.filter(|start| *start <= member.hi) {
            out.entry(None).or_default().push((gap, member.hi));
        }
    }
    out
}
