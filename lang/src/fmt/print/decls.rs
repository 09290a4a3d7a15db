//! Declarations, clauses and rules to text.

use super::{Printer, quoted, string};
use crate::ast::*;
use crate::tokens::is_identifier;

impl Printer<'_> {
    pub(super) fn item(&mut self, item: &Item) {
        self.before(&item.docs, item.span);
        match &item.decl {
            Decl::Fabric(fabric) => self.fabric(fabric),
            Decl::Node(node) => self.node(node),
            Decl::External(external) => {
                self.word("external");
                self.name(&external.name);
                self.put(" { ");
                self.literals(&external.prefixes);
                self.put(" }");
            }
            Decl::Service(service) => {
                self.word("service");
                self.name(&service.name);
                self.put(" = ");
                self.service(&service.expr);
            }
            Decl::Group(group) => self.group(group),
            Decl::Tenant(tenant) => {
                self.word("tenant");
                self.name(&tenant.name);
                if let Some(id) = &tenant.id {
                    self.display(format_args!(" id {}", id.node));
                }
                self.members(&tenant.members);
            }
            Decl::Extend(extend) => {
                self.word("extend tenant");
                self.name(&extend.tenant);
                self.members(&extend.members);
            }
            Decl::Gateway(gateway) => self.gateway(gateway),
            Decl::Endpoint(endpoint) => self.endpoint(endpoint),
            Decl::Policy(policy) => self.policy(policy),
            Decl::Isolate(isolate) => self.isolate(isolate),
            Decl::Test(test) => self.test(test),
            Decl::Error => {}
        }
        self.put("\n");
    }

    fn fabric(&mut self, fabric: &Fabric) {
        self.word("fabric");
        self.name(&fabric.name);
        self.put(" {\n");
        if let Some(encap) = &fabric.encap {
            let (kind, port) = &encap.node;
            let kind = match kind {
                EncapKind::Vxlan => "vxlan",
                EncapKind::Geneve => "geneve",
            };
            self.display(format_args!("encap {kind} port {}\n", port.node));
        }
        if let Some(underlay) = &fabric.underlay {
            let (mtu, family) = &underlay.node;
            let family = match family {
                FamilyWord::Ipv4 => "ipv4",
                FamilyWord::Ipv6 => "ipv6",
            };
            self.display(format_args!("underlay mtu {} family {family}\n", mtu.node));
        }
        for (word, separator, tiers) in
            [("precedence", " > ", &fabric.precedence), ("delegate", ", ", &fabric.delegate)]
        {
            if !tiers.is_empty() {
                self.word(word);
                self.list(tiers, separator, Self::tier);
                self.put("\n");
            }
        }
        if let Some(log) = &fabric.unknown_vni {
            self.put(if log.node { "unknown-vni drop log\n" } else { "unknown-vni drop\n" });
        }
        if let Some(why) = &fabric.stateless_replies {
            self.display(format_args!("stateless-replies {}\n", string(&why.node)));
        }
        self.put("}");
    }

    /// Any word names a tier, so it stands as it is.
    fn tier(&mut self, tier: &Name) {
        self.put(&tier.node);
    }

    fn node(&mut self, node: &Node) {
        self.word("node");
        self.name(&node.name);
        self.put(" {");
        if let Some(vtep) = &node.vtep {
            self.put(" vtep ");
            self.address(vtep.node);
        }
        if let Some(dev) = &node.dev {
            self.put(" dev ");
            self.device(dev);
        }
        self.put(if node.gateway { " gateway }" } else { " }" });
    }

    fn group(&mut self, group: &Group) {
        self.word("group");
        self.name(&group.name);
        self.put(" = ");
        self.set(&group.set);
    }

    fn members(&mut self, members: &[Member]) {
        self.put(" {");
        for member in members {
            self.before(&member.docs, member.span);
            match &member.kind {
                MemberKind::Segment(segment) => self.segment(segment),
                MemberKind::Group(group) => self.group(group),
                MemberKind::Route(route) => self.route(route),
                MemberKind::Expose(expose) => self.expose(expose),
                MemberKind::Error => {}
            }
        }
        self.put("\n}");
    }

    fn segment(&mut self, segment: &Segment) {
        self.word("segment");
        self.name(&segment.name);
        if let Some(vni) = &segment.vni {
            self.display(format_args!(" vni {}", vni.node));
        }
        self.put(" { ");
        self.list(&segment.prefixes, ", ", |printer, item| {
            printer.literal(&item.prefix.kind);
            if let Some(router) = &item.router {
                printer.put(" router ");
                printer.address(router.node);
            }
        });
        self.put(" }");
        if let Some(mtu) = &segment.mtu {
            self.display(format_args!(" mtu {}", mtu.node));
        }
    }

    fn route(&mut self, route: &Route) {
        self.word("route");
        self.literal(&route.prefix.kind);
        match &route.target {
            RouteTarget::Via(gateway) => self.option("via", Some(gateway)),
            RouteTarget::Segment { tenant, segment, direct, why } => {
                self.option("to", Some(tenant));
                self.put(".");
                self.name(segment);
                if direct.is_some() {
                    self.put(" direct");
                }
                if let Some(why) = why {
                    self.put(" ");
                    self.put(&string(&why.node));
                }
            }
            RouteTarget::Error => {}
        }
    }

    fn label(&mut self, label: Option<&Name>) {
        if let Some(label) = label {
            self.name(label);
            self.put(": ");
        }
    }

    fn expose(&mut self, expose: &Expose) {
        self.label(expose.label.as_ref());
        self.word("expose");
        self.set(&expose.set);
        self.put(" : ");
        self.service(&expose.service);
        let single = expose.rows.first().filter(|_| !expose.braced);
        if let Some(row) = single {
            self.put(" to ");
            self.top_set(&row.to);
        }
        self.option("via", expose.via.as_ref());
        self.translate("as", expose.translate.as_ref());
        if let Some(row) = single {
            self.translate("clients as", row.clients.as_ref());
        }
        if expose.braced {
            self.put(" {");
            for row in &expose.rows {
                self.before(&row.docs, row.span);
                self.put("to ");
                self.top_set(&row.to);
                self.translate("clients as", row.clients.as_ref());
            }
            self.put("\n}");
        }
    }

    fn translate(&mut self, word: &str, translate: Option<&Translate>) {
        if let Some(translate) = translate {
            self.put(" ");
            self.word(word);
            self.literals(&translate.prefixes);
        }
    }

    fn gateway(&mut self, gateway: &Gateway) {
        self.word("gateway");
        self.name(&gateway.name);
        self.put(" {\n");
        if let Some(joins) = &gateway.joins {
            self.word("joins");
            self.top_set(joins);
            self.put("\n");
        }
        if !gateway.instances.is_empty() {
            self.word("instances");
            self.names(&gateway.instances);
            self.put("\n");
        }
        if let Some(affinity) = &gateway.affinity {
            self.put(match affinity.node {
                AffinityWord::Symmetric => "affinity symmetric\n",
                AffinityWord::Flow => "affinity flow\n",
                AffinityWord::Source => "affinity source\n",
            });
        }
        if let Some(stateful) = &gateway.stateful {
            self.put(if stateful.node { "stateful\n" } else { "stateless\n" });
        }
        if let Some(on_failure) = &gateway.on_failure {
            self.put(match on_failure.node {
                OnFailureWord::Rehash => "on-failure rehash\n",
                OnFailureWord::Drop => "on-failure drop\n",
            });
        }
        for attach in &gateway.attaches {
            self.before(&attach.docs, attach.span);
            self.word("attach");
            self.name(&attach.external);
            self.option("on", Some(&attach.node));
            self.put(" dev ");
            self.device(&attach.dev);
            self.put(" next-hop ");
            self.addresses(&attach.next_hops);
        }
        for masquerade in &gateway.masquerades {
            self.before(&masquerade.docs, masquerade.span);
            self.word("masquerade");
            self.name(&masquerade.tenant);
            self.option("to", Some(&masquerade.external));
            self.translate("as", Some(&masquerade.translate));
        }
        self.put("\n}");
    }

    fn endpoint(&mut self, endpoint: &Endpoint) {
        self.word("endpoint");
        self.name(&endpoint.name);
        self.option("in", Some(&endpoint.tenant));
        self.put(".");
        self.name(&endpoint.segment);
        self.put(" {");
        if !endpoint.at.is_empty() {
            self.put(" at ");
            self.addresses(&endpoint.at);
        }
        if let Some(mac) = &endpoint.mac {
            let [a, b, c, d, e, f] = mac.node;
            self.display(format_args!(" mac {a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{f:02x}"));
        }
        self.option("on", endpoint.on.as_ref());
        if let Some(dev) = &endpoint.dev {
            self.put(" dev ");
            self.device(dev);
        }
        if !endpoint.tags.is_empty() {
            self.put(" tags ");
            self.names(&endpoint.tags);
        }
        self.put(" }");
    }

    fn policy(&mut self, policy: &Policy) {
        self.word("policy");
        self.name(&policy.name);
        self.option("for", policy.tenant.as_ref());
        if let Some(tier) = &policy.tier {
            self.put(" in ");
            self.tier(tier);
        }
        if !policy.overrides.is_empty() {
            self.put(" overrides ");
            self.names(&policy.overrides);
        }
        self.put(" {");
        for rule in policy.rules.iter().filter(|rule| rule.pairs != Pairs::Error) {
            self.rule(rule);
        }
        self.put("\n}");
    }

    fn rule(&mut self, rule: &Rule) {
        self.before(&rule.docs, rule.span);
        self.label(rule.label.as_ref());
        self.word(match rule.action.node {
            ActionWord::Allow => "allow",
            ActionWord::Deny => "deny",
            ActionWord::Pass => "pass",
        });
        match &rule.pairs {
            Pairs::SameTenant(_) => self.put("same-tenant"),
            Pairs::Sets(src, dst) => self.sets(src, dst),
            Pairs::Error => {}
        }
        self.service_clause(rule.service.as_ref());
        self.option("via", rule.via.as_ref());
        if rule.log.is_some() {
            self.put(" log");
        }
        if let Some(date) = &rule.expires {
            let Date { year, month, day } = date.node;
            self.display(format_args!(" expires {year:04}-{month:02}-{day:02}"));
        }
        if let Some(why) = &rule.because {
            self.display(format_args!(" because {}", string(&why.node)));
        }
    }

    fn sets(&mut self, src: &Set, dst: &Set) {
        self.set(src);
        self.put(" -> ");
        self.set(dst);
    }

    fn service_clause(&mut self, service: Option<&ServiceExpr>) {
        if let Some(service) = service {
            self.put(" : ");
            self.service(service);
        }
    }

    fn isolate(&mut self, isolate: &Isolate) {
        self.word("isolate");
        self.set(&isolate.what);
        self.put(" from ");
        self.top_set(&isolate.from);
        if isolate.transitively {
            self.put(" transitively");
        }
        if let Some((service, gateway)) = &isolate.allowing {
            self.put(" allowing ");
            self.service(service);
            self.option("via", Some(gateway));
        }
    }

    fn test(&mut self, test: &Test) {
        self.word("test");
        self.put(&string(&test.name.node));
        self.put(" {");
        for clause in &test.clauses {
            self.before(&clause.docs, clause.span);
            match &clause.kind {
                TestKind::Flows { quantifier, src, dst, service, via } => {
                    self.word(match quantifier {
                        Quantifier::Always => "always",
                        Quantifier::Never => "never",
                        Quantifier::Some => "some",
                    });
                    self.sets(src, dst);
                    self.service_clause(service.as_ref());
                    self.option("via", via.as_ref());
                }
                TestKind::Packet(packet) => self.packet(packet),
                TestKind::Error => {}
            }
        }
        self.put("\n}");
    }

    fn packet(&mut self, packet: &PacketTest) {
        self.put("packet");
        self.option("in", Some(&packet.space));
        self.put(" ");
        self.service_term(&packet.proto.node);
        self.put(" ");
        self.packet_end(&packet.src);
        self.put(" -> ");
        self.packet_end(&packet.dst);
        self.put(if packet.allow.node { " is allow" } else { " is deny" });
        self.option("via", packet.via.as_ref());
        if let Some(by) = &packet.by {
            self.put(" by ");
            self.rule_name(&by.node);
        }
    }

    /// `policy.label#2`, each part a name; `expose` is none.
    fn rule_name(&mut self, name: &str) {
        let mut rest = name;
        let mut first = true;
        while !rest.is_empty() {
            let stop = rest.find(['.', '#']).unwrap_or(rest.len());
            let (part, after) = rest.split_at(stop);
            let keeps = !is_identifier(part) || (part == "expose" && !first);
            let part = if keeps { part.to_owned() } else { quoted(part) };
            self.put(&part);
            let separator = after.get(..1).unwrap_or_default();
            self.put(separator);
            rest = after.get(1..).unwrap_or_default();
            first = false;
        }
    }

    fn packet_end(&mut self, end: &PacketEnd) {
        match &end.port {
            None => self.address(end.address.node),
            Some(port) => {
                let v6 = end.address.node.is_ipv6();
                self.put(if v6 { "[" } else { "" });
                self.address(end.address.node);
                self.put(if v6 { "]:" } else { ":" });
                self.display(port.node);
            }
        }
    }
}
