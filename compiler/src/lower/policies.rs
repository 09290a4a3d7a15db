//! Policies, their order within a tier, and rules.

use super::Lowering;
use super::sets::Scope;
use crate::ids::{Arena, Id, OwnerId, PolicyId};
use crate::model::{Action, Policy, Rule};
use crate::sets::{EndSet, PairSet, ServiceSet};
use lang::ast::{self, ActionWord, Pairs};
use lang::codes::Code;
use lang::diag::Label;
use lang::span::Span;
use petgraph::graph::DiGraph;
use rayon::prelude::*;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// A policy whose rules are to be lowered.
type Work<'a> = (PolicyId, &'a ast::Policy, Option<OwnerId>);

/// A policy with its rules.
type Lowered = (PolicyId, Vec<Rule>);

/// Rules from which on it pays to lower policies in parallel, so many at a time.
const MANY: usize = 2_000;
const CHUNK: usize = 8;

impl<'a> Lowering<'a> {
    pub(super) fn policies(&mut self) {
        let declared: Vec<_> = self.symbols.policies.to_vec();
        // The place of each policy that stands; `None`: it is in error and left out.
        let mut placed: Vec<Option<(Option<OwnerId>, usize)>> = Vec::new();
        for policy in &declared {
            let place = self.place(policy.ast);
            if place.is_none() {
                self.left_out.insert(policy.ast.name.node.clone());
                match policy.ast.tenant.as_ref().and_then(|t| self.symbols.owner(&t.node)) {
                    Some(owner) => self.report.taint(owner),
                    None => self.taint_all = true,
                }
            }
            placed.push(place);
        }
        let ids: Vec<Option<PolicyId>> = {
            let mut next = 0..;
            placed.iter().map(|p| p.and_then(|_| next.next()).map(PolicyId)).collect()
        };
        let overrides = self.overrides(&declared, &placed);
        let mut work: Vec<Work<'a>> = Vec::new();
        for ((policy, place), over) in declared.iter().zip(&placed).zip(overrides) {
            let Some((owner, tier)) = *place else { continue };
            let id = self.model.policies.push(Policy {
                name: policy.ast.name.node.clone(),
                owner,
                tier,
                overrides: over.iter().filter_map(|at| ids.get(*at).copied().flatten()).collect(),
                rules: Vec::new(),
                span: policy.ast.name.span,
            });
            work.push((id, policy.ast, owner));
        }
        let count: usize = work.iter().map(|(_, ast, _)| ast.rules.len()).sum();
        self.model.rules.reserve(count);
        if count >= MANY
            && let Some(lowered) = self.in_parallel(&work)
        {
            lowered.into_iter().for_each(|(id, rules)| self.keep(id, rules));
            return;
        }
        for (id, ast, owner) in work {
            let rules = self.rules(id, ast, owner);
            self.keep(id, rules);
        }
    }

    /// The rules of each policy, as one after the other would give them; `None` if that cannot be had.
    fn in_parallel(&mut self, work: &[Work<'a>]) -> Option<Vec<Lowered>> {
        let base = Arc::new(std::mem::take(&mut self.model));
        let forks: Vec<(Self, Vec<Lowered>)> = work
            .par_chunks(CHUNK)
            .map(|chunk| {
                let mut fork = self.fork(&base);
                let rules =
                    chunk.iter().map(|(id, ast, owner)| (*id, fork.rules(*id, ast, *owner))).collect();
                fork.base = None;
                (fork, rules)
            })
            .collect();
        // Nobody else holds it any more.
        self.model = Arc::unwrap_or_clone(base);
        let (forks, rules): (Vec<Self>, Vec<_>) = forks.into_iter().unzip();
        if !self.add_up(&forks) {
            return None;
        }
        forks.into_iter().for_each(|fork| self.join(fork));
        Some(rules.into_iter().flatten().collect())
    }

    fn keep(&mut self, policy: PolicyId, rules: Vec<Rule>) {
        let ids = rules.into_iter().map(|rule| self.model.rules.push(rule)).collect();
        self.model.policies[policy].rules = ids;
    }

    /// Owner and tier of a policy; `None` if it may not stand where it does.
    fn place(&mut self, ast: &ast::Policy) -> Option<(Option<OwnerId>, usize)> {
        let owner = match &ast.tenant {
            Some(name) => Some(self.tenant(name)?),
            None => None,
        };
        let name = ast.tier.as_ref()?;
        let fabric = std::mem::take(&mut self.model.fabric);
        let tier = fabric.tiers.iter().position(|t| t.name == name.node);
        let place = match tier {
            None if fabric.tiers.is_empty() => None,
            None => {
                self.unknown_tier(name, &fabric);
                None
            }
            Some(tier) => {
                let delegated = fabric.tiers.get(tier).is_some_and(|t| t.delegated);
                if owner.is_some() && !delegated {
                    let open: Vec<&str> =
                        fabric.tiers.iter().filter(|t| t.delegated).map(|t| t.name.as_str()).collect();
                    let help = if open.is_empty() {
                        format!("add `delegate {}` to the fabric, or drop `for`", name.node)
                    } else {
                        format!("tenants' policies may stand in {}", open.join(", "))
                    };
                    let d = self.error(
                        Code::PW0106,
                        name.span,
                        format!("tier `{}` is not delegated to tenants", name.node),
                    );
                    d.label = "only the platform's policies may stand here".into();
                    d.help = Some(help);
                    None
                } else {
                    Some((owner, tier))
                }
            }
        };
        self.model.fabric = fabric;
        place
    }

    /// The transitive closure of `overrides`, as indices into `declared`; PW0101, PW0105 and PW0106 reported.
    fn overrides(
        &mut self,
        declared: &[super::symbols::Declared<'a, ast::Policy>],
        placed: &[Option<(Option<OwnerId>, usize)>],
    ) -> Vec<BTreeSet<usize>> {
        let index: BTreeMap<&str, usize> =
            declared.iter().enumerate().map(|(i, p)| (p.ast.name.node.as_str(), i)).collect();
        let mut graph: DiGraph<usize, Span> = DiGraph::new();
        let nodes: Vec<_> = (0..declared.len()).map(|i| graph.add_node(i)).collect();
        for (at, policy) in declared.iter().enumerate() {
            for name in &policy.ast.overrides {
                let Some(&other) = index.get(name.node.as_str()) else {
                    let candidates: Vec<&str> = index.keys().copied().collect();
                    self.unknown("policy", name, candidates);
                    continue;
                };
                let (Some(Some(mine)), Some(Some(theirs))) = (placed.get(at), placed.get(other)) else {
                    continue;
                };
                if let Some((message, help)) = self.forbidden_override(policy.ast, mine, &name.node, theirs) {
                    let theirs = declared.get(other).map(|p| p.ast.name.span);
                    let d = self.error(Code::PW0106, name.span, message);
                    d.help = Some(help);
                    d.related.extend(theirs.map(|span| Label { span, message: "the other policy".into() }));
                    continue;
                }
                if let (Some(from), Some(to)) = (nodes.get(at), nodes.get(other)) {
                    graph.add_edge(*from, *to, name.span);
                }
            }
        }
        let mut on_cycle = BTreeSet::new();
        let mut closures = vec![BTreeSet::new(); declared.len()];
        // Components come with those that are overridden first, so their closures are complete when they are needed.
        for component in petgraph::algo::tarjan_scc(&graph) {
            let cycle = super::cycles::shortest_cycle(&graph, &component);
            if !cycle.is_empty() {
                on_cycle.extend(component.iter().copied());
                self.override_cycle(&graph, declared, &cycle);
                continue;
            }
            for node in component {
                let mut all = BTreeSet::new();
                for next in graph.neighbors(node) {
                    if let Some(&at) = graph.node_weight(next)
                        && !on_cycle.contains(&next)
                    {
                        all.insert(at);
                        all.extend(closures.get(at).into_iter().flatten().copied());
                    }
                }
                if let Some(slot) = graph.node_weight(node).and_then(|at| closures.get_mut(*at)) {
                    *slot = all;
                }
            }
        }
        closures
    }

    fn forbidden_override(
        &self,
        policy: &ast::Policy,
        mine: &(Option<OwnerId>, usize),
        other: &str,
        theirs: &(Option<OwnerId>, usize),
    ) -> Option<(String, String)> {
        let name = &policy.name.node;
        if mine.1 != theirs.1 {
            let tier = |at: usize| self.model.fabric.tiers.get(at).map_or("", |t| t.name.as_str());
            return Some((
                format!(
                    "`{name}` in tier `{}` cannot override `{other}` in tier `{}`",
                    tier(mine.1),
                    tier(theirs.1)
                ),
                "tiers order policies already; `overrides` orders those of one tier".into(),
            ));
        }
        if mine.0.is_some() && mine.0 != theirs.0 {
            let owner = theirs
                .0
                .map_or("the platform".to_owned(), |o| format!("tenant `{}`", self.model.owners[o].name));
            return Some((
                format!("`{name}` is a tenant's policy and `{other}` belongs to {owner}"),
                "a tenant's policy may override policies of the same tenant only; ask the other owner to yield".into(),
            ));
        }
        None
    }

    fn override_cycle(
        &mut self,
        graph: &DiGraph<usize, Span>,
        declared: &[super::symbols::Declared<'a, ast::Policy>],
        cycle: &[(petgraph::graph::NodeIndex, petgraph::graph::NodeIndex, Span)],
    ) {
        let name =
            |node| graph.node_weight(node).and_then(|at| declared.get(*at)).map(|p| p.ast.name.node.clone());
        let hops: Vec<(String, String, Span)> =
            cycle.iter().filter_map(|(from, to, span)| Some((name(*from)?, name(*to)?, *span))).collect();
        let Some((first, _, span)) = hops.first().cloned() else { return };
        let mut path: Vec<String> = hops.iter().map(|(from, ..)| from.clone()).collect();
        path.push(first.clone());
        let d = self.error(Code::PW0105, span, format!("`overrides` forms a cycle: {}", path.join(" → ")));
        d.label = "no policy of a cycle comes first".into();
        d.help = Some("take one `overrides` out of the cycle".into());
        for (from, to, span) in hops.into_iter().skip(1) {
            d.related.push(Label { span, message: format!("`{from}` overrides `{to}`") });
        }
    }

    fn rules(&mut self, policy: PolicyId, ast: &'a ast::Policy, owner: Option<OwnerId>) -> Vec<Rule> {
        let mut rules = Vec::with_capacity(ast.rules.len());
        let mut labels: BTreeMap<&str, Span> = BTreeMap::new();
        for (number, rule) in (1u32..).zip(&ast.rules) {
            let name = match &rule.label {
                Some(label) => {
                    if let Some(first) = labels.insert(&label.node, label.span) {
                        let d = self.error(
                            Code::PW0102,
                            label.span,
                            format!("label `{}` stands twice", label.node),
                        );
                        d.related.push(Label { span: first, message: "first here".into() });
                        d.help = Some("labels name rules in findings and tests: give each its own".into());
                    }
                    format!("{}.{}", ast.name.node, label.node)
                }
                None => format!("{}#{number}", ast.name.node),
            };
            rules.extend(self.rule(policy, name, rule, owner));
        }
        rules
    }

    /// `None` if it is in error and left out.
    fn rule(
        &mut self,
        policy: PolicyId,
        name: String,
        ast: &ast::Rule,
        owner: Option<OwnerId>,
    ) -> Option<Rule> {
        let scope = Scope { tenant: owner };
        let (pairs, pairs_span, sides) = match &ast.pairs {
            Pairs::SameTenant(span) => {
                // In a tenant's policy the pairs inside that tenant.
                let pairs = match owner.and_then(|o| self.owner_sets.get(o.index()).cloned()) {
                    Some(own) => PairSet::Sets(own.clone(), own),
                    None => PairSet::SameTenant,
                };
                (Some(pairs), *span, [None, None])
            }
            Pairs::Sets(src, dst) => {
                let (s, d) = (self.set(src, scope), self.set(dst, scope));
                let pairs = s.clone().zip(d.clone()).map(|(s, d)| PairSet::Sets(s, d));
                (pairs, src.span.to(dst.span), [s, d])
            }
            Pairs::Error => (None, ast.span, [None, None]),
        };
        let service = match &ast.service {
            Some(expr) => self.service(expr),
            None => Some(Arc::new(ServiceSet::all())),
        };
        let via = match &ast.via {
            Some(name) => match self.gateway_id(name) {
                Some(id) => {
                    self.used.gateways.insert(id);
                    Some(Some(id))
                }
                None => None,
            },
            None => Some(None),
        };
        let (Some(pairs), Some(service), Some(via)) = (pairs, service, via) else {
            self.taint_rule(owner, &sides);
            self.left_out.insert(name);
            return None;
        };
        Some(Rule {
            policy,
            name,
            rank: 0,
            pairs,
            pairs_span,
            service,
            action: match ast.action.node {
                ActionWord::Allow => Action::Allow { via },
                ActionWord::Deny => Action::Deny,
                ActionWord::Pass => Action::Pass,
            },
            via_span: ast.via.as_ref().map_or(ast.span, |v| v.span),
            log: ast.log.is_some(),
            expires: ast.expires.map(|e| e.node),
            expires_span: ast.expires.map_or(ast.span, |e| e.span),
            because: ast.because.as_ref().map(|b| b.node.clone()),
            docs: ast.docs.clone(),
            span: ast.span,
        })
    }

    /// Taints the owners whose flows a rule in error could concern: the policy's, or those of the side that is known.
    fn taint_rule(&mut self, owner: Option<OwnerId>, sides: &[Option<Arc<EndSet>>; 2]) {
        if let Some(owner) = owner {
            self.report.taint(owner);
            return;
        }
        match sides.iter().flatten().find(|set| set.rest.is_empty()) {
            Some(set) => {
                for owner in super::sets::owners_in(set, &self.known().owners) {
                    self.report.taint(owner);
                }
            }
            None => self.taint_all = true,
        }
    }
}

/// The policies of each owner's view, by tier.
#[must_use]
pub(crate) fn views(model: &crate::model::Model) -> Arena<OwnerId, Vec<Vec<PolicyId>>> {
    let tiers = model.fabric.tiers.len();
    let mut platform: Vec<Vec<PolicyId>> = vec![Vec::new(); tiers];
    let mut views: Vec<Vec<Vec<PolicyId>>> = Vec::new();
    for (id, policy) in model.policies.iter() {
        if policy.owner.is_none()
            && let Some(tier) = platform.get_mut(policy.tier)
        {
            tier.push(id);
        }
    }
    for owner in model.owners.values() {
        views.push(if owner.is_tenant() { platform.clone() } else { Vec::new() });
    }
    for (id, policy) in model.policies.iter() {
        let view = policy.owner.and_then(|o| views.get_mut(o.index()));
        if let Some(tier) = view.and_then(|v| v.get_mut(policy.tier)) {
            tier.push(id);
        }
    }
    for tier in views.iter_mut().flatten() {
        tier.sort_unstable();
    }
    Arena::new(views)
}
