//! Declarations from their clauses.

use super::{
    Context, EndpointClause, EndpointHead, FabricClause, GatewayClause, Head, NodeClause, Once, PolicyHead,
    PolicyPart, TenantHead,
};
use crate::ast::*;
use crate::codes::Code;
use crate::diag::Diagnostic;

impl Context {
    pub fn fabric(&mut self, name: Head<Name>, clauses: Vec<FabricClause>) -> Decl {
        let Some(name) = name.value() else { return Decl::Error };
        let (mut encap, mut underlay, mut precedence) = (Once::new(), Once::new(), Once::new());
        let (mut delegate, mut unknown_vni, mut replies) = (Once::new(), Once::new(), Once::new());
        let mut broken = false;
        for clause in clauses {
            match clause {
                FabricClause::Encap(c) => encap.set(self, "encap", c.span, c),
                FabricClause::Underlay(c) => underlay.set(self, "underlay", c.span, c),
                FabricClause::Precedence(c) => precedence.set(self, "precedence", c.span, c.node),
                FabricClause::Delegate(c) => delegate.set(self, "delegate", c.span, c.node),
                FabricClause::UnknownVni(c) => unknown_vni.set(self, "unknown-vni", c.span, c),
                FabricClause::StatelessReplies(c) => replies.set(self, "stateless-replies", c.span, c.node),
                FabricClause::Error => broken = true,
            }
        }
        if !broken {
            let place = name.span;
            let fabric = &name.node;
            if encap.value.is_none() {
                self.missing(
                    place,
                    format!("fabric `{fabric}` has no `encap`"),
                    "add `encap vxlan port 4789`",
                );
            }
            if underlay.value.is_none() {
                let help = "add `underlay mtu 9000 family ipv4`, with the MTU of your underlay";
                self.missing(place, format!("fabric `{fabric}` has no `underlay`"), help);
            }
            if precedence.value.is_none() {
                let help = "add `precedence guardrail > tenant > baseline`, the highest tier first";
                self.missing(place, format!("fabric `{fabric}` has no `precedence`"), help);
            }
        }
        Decl::Fabric(Fabric {
            name,
            encap: encap.value,
            underlay: underlay.value,
            precedence: precedence.value.unwrap_or_default(),
            delegate: delegate.value.unwrap_or_default(),
            unknown_vni: unknown_vni.value,
            stateless_replies: replies.value,
        })
    }

    pub fn node(&mut self, name: Head<Name>, clauses: Vec<NodeClause>) -> Decl {
        let Some(name) = name.value() else { return Decl::Error };
        let (mut vtep, mut dev, mut gateway) = (Once::new(), Once::new(), Once::new());
        let mut broken = false;
        for clause in clauses {
            match clause {
                NodeClause::Vtep(c) => vtep.set(self, "vtep", c.span, c.node),
                NodeClause::Dev(c) => dev.set(self, "dev", c.span, c.node),
                NodeClause::Gateway(c) => gateway.set(self, "gateway", c.span, ()),
                NodeClause::Error => broken = true,
            }
        }
        if !broken && vtep.value.is_none() {
            let help = "add `vtep ADDRESS`, the node's address in the underlay";
            self.missing(name.span, format!("node `{}` has no `vtep`", name.node), help);
        }
        if !broken && dev.value.is_none() {
            let help = "add `dev DEVICE`, the device that leads to the underlay";
            self.missing(name.span, format!("node `{}` has no `dev`", name.node), help);
        }
        let (vtep, gateway) = (vtep.value.flatten(), gateway.value.is_some());
        Decl::Node(Node { name, vtep, dev: dev.value, gateway })
    }

    pub fn external(&mut self, name: Head<Name>, prefixes: Vec<Option<Literal>>) -> Decl {
        match name.value() {
            Some(name) => {
                Decl::External(External { name, prefixes: prefixes.into_iter().flatten().collect() })
            }
            None => Decl::Error,
        }
    }

    pub fn tenant(&mut self, head: Head<TenantHead>, members: Vec<Member>) -> Decl {
        let Some((TenantHead { name, id }, broken)) = head.parts() else { return Decl::Error };
        if id.is_none() && !broken {
            let help =
                format!("write `tenant {} id N {{`, with a number that no other tenant has", name.node);
            self.missing(name.span, format!("tenant `{}` has no `id`", name.node), &help);
        }
        Decl::Tenant(Tenant { name, id: id.flatten(), members })
    }

    pub fn extend(&mut self, head: Head<Name>, members: Vec<Member>) -> Decl {
        for member in &members {
            if let MemberKind::Segment(segment) = &member.kind {
                self.report(
                    Diagnostic::new(Code::PW0009, segment.name.span, "`extend tenant` holds a segment")
                        .label("a segment")
                        .help("declare segments in the tenant's own block"),
                );
            }
        }
        match head.value() {
            Some(tenant) => Decl::Extend(Extend { tenant, members }),
            None => Decl::Error,
        }
    }

    pub fn gateway(&mut self, name: Head<Name>, clauses: Vec<GatewayClause>) -> Decl {
        let Some(name) = name.value() else { return Decl::Error };
        let (mut joins, mut instances, mut affinity) = (Once::new(), Once::new(), Once::new());
        let (mut stateful, mut on_failure) = (Once::new(), Once::new());
        let (mut attaches, mut masquerades) = (Vec::new(), Vec::new());
        let mut broken = false;
        for clause in clauses {
            match clause {
                GatewayClause::Joins(c) => joins.set(self, "joins", c.span, c.node),
                GatewayClause::Instances(c) => instances.set(self, "instances", c.span, c.node),
                GatewayClause::Affinity(c) => affinity.set(self, "affinity", c.span, c),
                GatewayClause::Stateful(c) => {
                    let word = if c.node { "stateful" } else { "stateless" };
                    self.statefulness(&mut stateful, word, c);
                }
                GatewayClause::OnFailure(c) => on_failure.set(self, "on-failure", c.span, c),
                GatewayClause::Attach(attach) => attaches.push(*attach),
                GatewayClause::Masquerade(masquerade) => masquerades.push(*masquerade),
                GatewayClause::Error => broken = true,
            }
        }
        if !broken {
            let (place, gateway) = (name.span, &name.node);
            if joins.value.is_none() {
                let help = "add `joins`, the tenants and externals between which it forwards";
                self.missing(place, format!("gateway `{gateway}` has no `joins`"), help);
            }
            if instances.value.is_none() {
                let help = "add `instances`, the nodes on which it runs";
                self.missing(place, format!("gateway `{gateway}` has no `instances`"), help);
            }
            if stateful.value.is_none() {
                let help = "add `stateful`, or `stateless`";
                self.missing(
                    place,
                    format!("gateway `{gateway}` is neither `stateful` nor `stateless`"),
                    help,
                );
            }
        }
        Decl::Gateway(Gateway {
            name,
            joins: joins.value,
            instances: instances.value.unwrap_or_default(),
            affinity: affinity.value,
            stateful: stateful.value,
            on_failure: on_failure.value,
            attaches,
            masquerades,
        })
    }

    /// `stateful` and `stateless` are one clause.
    fn statefulness(
        &mut self,
        all: &mut Once<crate::span::Spanned<bool>>,
        word: &str,
        clause: crate::span::Spanned<bool>,
    ) {
        match (&all.value, all.first) {
            (Some(value), Some(first)) if value.node != clause.node => self.report(
                Diagnostic::new(Code::PW0005, clause.span, "a gateway is both `stateful` and `stateless`")
                    .label("the second one")
                    .related(first, "the first one")
                    .help("keep one of the two"),
            ),
            _ => all.set(self, word, clause.span, clause),
        }
    }

    pub fn endpoint(&mut self, head: Head<EndpointHead>, clauses: Vec<EndpointClause>) -> Decl {
        let Some(EndpointHead { name, tenant, segment }) = head.value() else { return Decl::Error };
        let (mut at, mut mac, mut on) = (Once::new(), Once::new(), Once::new());
        let (mut dev, mut tags) = (Once::new(), Once::new());
        let mut broken = false;
        for clause in clauses {
            match clause {
                EndpointClause::At(c) => at.set(self, "at", c.span, c.node),
                EndpointClause::Mac(c) => mac.set(self, "mac", c.span, c.node),
                EndpointClause::On(c) => on.set(self, "on", c.span, c.node),
                EndpointClause::Dev(c) => dev.set(self, "dev", c.span, c.node),
                EndpointClause::Tags(c) => tags.set(self, "tags", c.span, c.node),
                EndpointClause::Error => broken = true,
            }
        }
        if !broken {
            let endpoint = &name.node;
            if at.value.is_none() {
                let help = "add `at ADDRESS`";
                self.missing(name.span, format!("endpoint `{endpoint}` has no `at`"), help);
            }
            match (on.first, dev.first) {
                (Some(place), None) => {
                    let help = "add `dev DEVICE`, its device on that node";
                    self.missing(place, format!("endpoint `{endpoint}` is on a node and has no `dev`"), help);
                }
                (None, Some(place)) => {
                    let help = "add `on NODE`";
                    self.missing(place, format!("endpoint `{endpoint}` has a `dev` and is on no node"), help);
                }
                _ => {}
            }
        }
        Decl::Endpoint(Endpoint {
            name,
            tenant,
            segment,
            at: at.value.unwrap_or_default().into_iter().flatten().collect(),
            mac: mac.value.flatten(),
            on: on.value,
            dev: dev.value,
            tags: tags.value.unwrap_or_default(),
        })
    }

    pub fn policy(&mut self, head: Head<PolicyHead>, rules: Vec<Rule>) -> Decl {
        let Some((PolicyHead { name, parts }, broken)) = head.parts() else { return Decl::Error };
        let (mut tenant, mut tier, mut overrides) = (Once::new(), Once::new(), Once::new());
        for part in parts {
            match part {
                PolicyPart::For(c) => tenant.set(self, "for", c.span, c.node),
                PolicyPart::In(c) => tier.set(self, "in", c.span, c.node),
                PolicyPart::Overrides(c) => overrides.set(self, "overrides", c.span, c.node),
            }
        }
        if tier.value.is_none() && !broken {
            let help = "add `in TIER`, one of the tiers of the fabric's `precedence`";
            self.missing(name.span, format!("policy `{}` has no tier", name.node), help);
        }
        Decl::Policy(Policy {
            name,
            tenant: tenant.value,
            tier: tier.value,
            overrides: overrides.value.unwrap_or_default(),
            rules,
        })
    }

    pub fn test(&mut self, name: Head<Str>, clauses: Vec<TestClause>) -> Decl {
        match name.value() {
            Some(name) => Decl::Test(Test { name, clauses }),
            None => Decl::Error,
        }
    }
}
