//! Invariants: `isolate` and `test`.

use super::Lowering;
use super::sets::Scope;
use crate::algebra::{AddrSet, parse_addr};
use crate::ids::OwnerId;
use crate::model::{Isolate, Test, TestClause, TestKind};
use crate::packet::{Fields, Packet, fields, proto, protocol_in_family, protocol_name};
use crate::sets::{EndSet, ServiceSet};
use lang::ast::{self, PacketEnd, PacketTest, PortProto, ServiceTerm, SetKind};
use lang::codes::Code;
use std::sync::Arc;

const PLATFORM: Scope = Scope { tenant: None };

impl Lowering<'_> {
    pub(super) fn isolates(&mut self) {
        let files = self.files;
        let mut declared: Vec<_> = self
            .symbols
            .isolates
            .iter()
            .map(|d| (super::canonical::text_of(files, d.span), d.ast, d.docs, d.span))
            .collect();
        declared.sort_by(|a, b| a.0.cmp(&b.0));
        for (_, ast, docs, span) in declared {
            let (what, from) = (self.set(&ast.what, PLATFORM), self.set(&ast.from, PLATFORM));
            let allowing = match &ast.allowing {
                Some((service, gateway)) => {
                    let (service, gateway) = (self.service(service), self.gateway_id(gateway));
                    if let Some(id) = gateway {
                        self.used.gateways.insert(id);
                    }
                    match service.zip(gateway) {
                        Some(hole) => Some(hole),
                        None => continue,
                    }
                }
                None => None,
            };
            let (Some(what), Some(mut from)) = (what, from) else { continue };
            if is_any(&ast.from) {
                let mut rest = EndSet::any();
                rest.owners = super::sets::owners_in(&what, &self.model.owners)
                    .into_iter()
                    .map(|owner| (owner, AddrSet::empty()))
                    .collect();
                from = Arc::new(rest);
            }
            self.model.isolates.push(Isolate {
                what,
                from,
                transitively: ast.transitively,
                allowing,
                docs: docs.to_vec(),
                span,
            });
        }
    }

    pub(super) fn tests(&mut self) {
        let all = self.symbols.tests.clone();
        for declared in all {
            let clauses = declared.ast.clauses.iter().filter_map(|clause| self.clause(clause)).collect();
            self.model.tests.push(Test {
                name: declared.ast.name.node.clone(),
                clauses,
                span: declared.ast.name.span,
            });
        }
    }

    fn clause(&mut self, clause: &ast::TestClause) -> Option<TestClause> {
        let kind = match &clause.kind {
            ast::TestKind::Flows { quantifier, src, dst, service, via } => {
                let (src, dst) = (self.set(src, PLATFORM), self.set(dst, PLATFORM));
                let service = match service {
                    Some(expr) => self.service(expr),
                    None => Some(Arc::new(ServiceSet::all())),
                };
                let via = self.test_via(via.as_ref())?;
                TestKind::Flows { quantifier: *quantifier, src: src?, dst: dst?, service: service?, via }
            }
            ast::TestKind::Packet(packet) => {
                let via = self.test_via(packet.via.as_ref())?;
                let by = match &packet.by {
                    Some(name) => Some(self.decider_name(name)?),
                    None => None,
                };
                let allow = packet.allow.node;
                TestKind::Packet { packet: self.packet(packet)?, allow, via, by }
            }
            ast::TestKind::Error => return None,
        };
        Some(TestClause { kind, span: clause.span })
    }

    fn test_via(&mut self, via: Option<&ast::Name>) -> Option<Option<crate::ids::GatewayId>> {
        match via {
            Some(name) => self.gateway_id(name).map(Some),
            None => Some(None),
        }
    }

    /// A rule's, an exposure's or a policy's name after `by`.
    fn decider_name(&mut self, name: &ast::Name) -> Option<String> {
        let known = self.model.policies.values().any(|p| p.name == name.node)
            || self.model.rules.values().any(|r| r.name == name.node)
            || self.model.exposures.values().any(|e| e.name == name.node);
        if known {
            return Some(name.node.clone());
        }
        let policy = name.node.split(['.', '#']).next().unwrap_or_default();
        if self.left_out.contains(&name.node) || self.left_out.contains(policy) {
            return None;
        }
        let names: Vec<String> = self
            .model
            .policies
            .values()
            .map(|p| p.name.clone())
            .chain(self.model.rules.values().map(|r| r.name.clone()))
            .chain(self.model.exposures.values().map(|e| e.name.clone()))
            .collect();
        self.unknown("rule", name, names.iter().map(String::as_str));
        None
    }

    fn packet(&mut self, ast: &PacketTest) -> Option<Packet> {
        let space = self.space(&ast.space)?;
        let (protocol, kind, code) = self.packet_protocol(&ast.proto)?;
        let (family, src) = parse_addr(ast.src.address.node);
        let (dst_family, dst) = parse_addr(ast.dst.address.node);
        if family != dst_family {
            let d =
                self.error(Code::PW0009, ast.dst.address.span, "source and destination are of two families");
            d.label = format!("{}, and the source is {}", dst_family.as_str(), family.as_str());
            return None;
        }
        if !protocol_in_family(protocol, family) {
            let name = protocol_name(protocol);
            let other = if protocol == proto::ICMP { "icmp6" } else { "icmp" };
            let d = self.error(
                Code::PW0009,
                ast.proto.span,
                format!("`{name}` does not run over {}", family.as_str()),
            );
            d.help = Some(format!("write `{other}`"));
            return None;
        }
        let (x, y) = match fields(protocol) {
            Fields::Ports => (self.port(&ast.src, protocol)?, self.port(&ast.dst, protocol)?),
            Fields::Icmp => {
                let Some(kind) = kind else {
                    let d = self.error(Code::PW0004, ast.proto.span, "an ICMP packet has a type");
                    d.help = Some("write it as `icmp/echo-request` or `icmp/3/4`".into());
                    return None;
                };
                (u16::from(kind), u16::from(code.unwrap_or(0)))
            }
            Fields::None => (0, 0),
        };
        if fields(protocol) != Fields::Ports {
            for end in [&ast.src, &ast.dst] {
                if let Some(port) = &end.port {
                    let message = format!("`{}` has no ports", protocol_name(protocol));
                    let d = self.error(Code::PW0009, port.span, message);
                    d.label = "take it out".into();
                    return None;
                }
            }
        }
        Some(Packet { space, family, src, dst, protocol, x, y })
    }

    /// A tenant or external after `in`.
    fn space(&mut self, name: &ast::Name) -> Option<OwnerId> {
        let found = self.symbols.owner(&name.node);
        if found.is_none() {
            self.symbols.not_a_tenant(name, &mut self.report);
        }
        found
    }

    /// Protocol number, ICMP type and code.
    fn packet_protocol(
        &mut self,
        term: &lang::span::Spanned<ServiceTerm>,
    ) -> Option<(u8, Option<u8>, Option<u8>)> {
        match &term.node {
            ServiceTerm::Ports { proto: p, dst, src } if dst.is_empty() && src.is_empty() => {
                let number = match p {
                    PortProto::Tcp => proto::TCP,
                    PortProto::Udp => proto::UDP,
                    PortProto::Sctp => proto::SCTP,
                };
                Some((number, None, None))
            }
            ServiceTerm::Icmp { v6, kind, code } => {
                let number = if *v6 { proto::ICMP6 } else { proto::ICMP };
                let kind = match kind {
                    Some(value) => Some(self.icmp_type(*v6, value)?),
                    None => None,
                };
                let code = match code {
                    Some(value) => Some(self.icmp_code(*v6, u16::from(kind.unwrap_or(0)), value)?),
                    None => None,
                };
                Some((number, kind, code))
            }
            ServiceTerm::Proto(number) => Some((self.byte("protocol", number)?, None, None)),
            ServiceTerm::Error => None,
            _ => {
                let d = self.error(
                    Code::PW0009,
                    term.span,
                    "a packet has one protocol, its ports stand with the addresses",
                );
                d.help = Some("write for example `tcp 10.1.0.5:40000 -> 10.1.1.9:5432`".into());
                None
            }
        }
    }

    fn port(&mut self, end: &PacketEnd, protocol: u8) -> Option<u16> {
        let name = protocol_name(protocol);
        let Some(port) = &end.port else {
            let d = self.error(Code::PW0004, end.address.span, format!("a {name} packet has two ports"));
            d.label = "the port is missing".into();
            d.help = Some(format!("write `{}:PORT`, IPv6 addresses in brackets", end.address.node));
            return None;
        };
        let number = u16::try_from(port.node).ok();
        if number.is_none() {
            let d = self.error(Code::PW0006, port.span, "a port is at most 65535");
            d.label = "out of range".into();
        }
        number
    }
}

fn is_any(set: &ast::Set) -> bool {
    match &set.kind {
        SetKind::Any => true,
        SetKind::Paren(inner) => is_any(inner),
        _ => false,
    }
}
