//! Services to unions of boxes.

use super::Lowering;
use crate::ids::Id;
use crate::packet::{field_max, proto};
use crate::sets::{ServiceBox, ServiceSet};
use lang::ast::{IcmpValue, Int, PortProto, PortRange, ServiceExpr, ServiceTerm};
use lang::codes::Code;
use lang::span::{Span, Spanned};
use petgraph::graph::DiGraph;
use std::collections::BTreeSet;
use std::sync::Arc;

const ANY_PORT: (u16, u16) = (0, u16::MAX);

impl Lowering<'_> {
    /// Lowers every named service, those that others are made of first.
    pub(super) fn services(&mut self) {
        let mut edges = Vec::new();
        for (index, service) in self.symbols.services.iter().enumerate() {
            for term in &service.ast.expr.terms {
                if let ServiceTerm::Ref(name) = &term.node
                    && let Some(&other) = self.symbols.service_ids.get(name.as_str())
                {
                    edges.push((index, other, term.span));
                }
            }
        }
        let count = self.symbols.services.len();
        self.services = Arc::new(vec![None; count]);
        let names: Vec<_> = self.symbols.services.iter().map(|s| s.ast.name.clone()).collect();
        let (order, cyclic) = self.definition_order("service", &names, &edges);
        self.used.services.extend(cyclic);
        for index in order {
            let Some(declared) = self.symbols.services.get(index) else { continue };
            let ast = declared.ast;
            let lowered = self.service(&ast.expr);
            if let Some(slot) = Arc::make_mut(&mut self.services).get_mut(index) {
                *slot = lowered;
            }
        }
    }

    /// Indices in an order in which each comes after those that it refers to; what lies on a cycle is reported (PW0104)
    /// and left out. Second, what lies on a cycle or is referred to from there: whether anything else uses it cannot be
    /// said.
    pub(super) fn definition_order(
        &mut self,
        what: &str,
        names: &[lang::ast::Name],
        edges: &[(usize, usize, Span)],
    ) -> (Vec<usize>, BTreeSet<usize>) {
        let mut graph: DiGraph<usize, Span> = DiGraph::with_capacity(names.len(), edges.len());
        let nodes: Vec<_> = (0..names.len()).map(|i| graph.add_node(i)).collect();
        for (from, to, span) in edges {
            if let (Some(from), Some(to)) = (nodes.get(*from), nodes.get(*to)) {
                graph.add_edge(*from, *to, *span);
            }
        }
        let mut order = Vec::with_capacity(names.len());
        let mut cyclic = BTreeSet::new();
        // Strongly connected components come in reverse topological order: what is referred to comes first.
        for component in petgraph::algo::tarjan_scc(&graph) {
            let cycle = super::cycles::shortest_cycle(&graph, &component);
            if cycle.is_empty() {
                order.extend(component.iter().filter_map(|n| graph.node_weight(*n)).copied());
                continue;
            }
            for node in &component {
                cyclic.extend(graph.node_weight(*node).copied());
                cyclic.extend(graph.neighbors(*node).filter_map(|n| graph.node_weight(n)).copied());
            }
            let hops: Vec<(String, Span, String)> = cycle
                .iter()
                .filter_map(|(from, to, span)| {
                    let name = |n: &petgraph::graph::NodeIndex| names.get(*graph.node_weight(*n)?);
                    Some((name(from)?.node.clone(), *span, name(to)?.node.clone()))
                })
                .collect();
            let start = cycle.first().and_then(|(n, ..)| names.get(*graph.node_weight(*n)?)).cloned();
            let Some(start) = start else { continue };
            let mut path: Vec<&str> = hops.iter().map(|(name, ..)| name.as_str()).collect();
            path.push(&start.node);
            let message = format!("{what} `{}` is defined through itself: {}", start.node, path.join(" → "));
            let d = self.error(Code::PW0104, start.span, message);
            d.label = "this definition never ends".into();
            d.help = Some("take one of the references out of the cycle".into());
            for (from, span, to) in hops {
                d.related.push(lang::diag::Label { span, message: format!("`{from}` refers to `{to}`") });
            }
        }
        (order, cyclic)
    }

    /// A service expression; `None` if it is in error, which has been reported.
    pub(super) fn service(&mut self, expr: &ServiceExpr) -> Option<Arc<ServiceSet>> {
        // A single name shares the declared set.
        if let [term] = expr.terms.as_slice()
            && let ServiceTerm::Ref(name) = &term.node
        {
            return self.named_service(name, term.span);
        }
        let mut boxes = Vec::new();
        let mut sound = true;
        for term in &expr.terms {
            match self.service_term(term) {
                Some(mut more) => boxes.append(&mut more),
                None => sound = false,
            }
        }
        boxes.sort_unstable();
        boxes.dedup();
        sound.then(|| Arc::new(ServiceSet { boxes }))
    }

    fn named_service(&mut self, name: &str, span: Span) -> Option<Arc<ServiceSet>> {
        if let Some(&index) = self.symbols.service_ids.get(name) {
            self.used.services.insert(index);
            return self.services.get(index).cloned().flatten();
        }
        let named = Spanned::new(name.to_owned(), span);
        if let Some(kind) = self.kind_of_name(name) {
            let d = self.error(Code::PW0103, span, format!("`{name}` is {kind}, not a service"));
            d.label = "a service is due here".into();
            d.help =
                Some("after the colon stand services: a declared one, or a form such as `tcp/443`".into());
            return None;
        }
        let candidates: Vec<&str> = self.symbols.service_ids.keys().copied().collect();
        self.unknown("service", &named, candidates);
        None
    }

    /// The boxes of one term.
    pub(super) fn service_term(&mut self, term: &Spanned<ServiceTerm>) -> Option<Vec<ServiceBox>> {
        match &term.node {
            ServiceTerm::Ref(name) => self.named_service(name, term.span).map(|s| s.boxes.clone()),
            ServiceTerm::Ip => Some(vec![ServiceBox::ALL]),
            ServiceTerm::Ports { proto: p, dst, src } => {
                let number = match p {
                    PortProto::Tcp => proto::TCP,
                    PortProto::Udp => proto::UDP,
                    PortProto::Sctp => proto::SCTP,
                };
                let (dst, src) = (self.ports(dst)?, self.ports(src)?);
                Some(
                    src.iter()
                        .flat_map(|x| {
                            dst.iter().map(move |y| ServiceBox { proto: (number, number), x: *x, y: *y })
                        })
                        .collect(),
                )
            }
            ServiceTerm::Icmp { v6, kind, code } => {
                let number = if *v6 { proto::ICMP6 } else { proto::ICMP };
                let x = match kind {
                    Some(value) => {
                        let kind = self.icmp_type(*v6, value)?;
                        (u16::from(kind), u16::from(kind))
                    }
                    None => (0, 255),
                };
                let y = match code {
                    Some(value) => {
                        let code = self.icmp_code(*v6, x.0, value)?;
                        (u16::from(code), u16::from(code))
                    }
                    None => (0, 255),
                };
                Some(vec![ServiceBox { proto: (number, number), x, y }])
            }
            ServiceTerm::Proto(number) => {
                let number = self.byte("protocol", number)?;
                let (x, y) = field_max(number);
                Some(vec![ServiceBox { proto: (number, number), x: (0, x), y: (0, y) }])
            }
            ServiceTerm::Error => None,
        }
    }

    fn ports(&mut self, ranges: &[PortRange]) -> Option<Vec<(u16, u16)>> {
        if ranges.is_empty() {
            return Some(vec![ANY_PORT]);
        }
        let mut out = Vec::new();
        for range in ranges {
            let (Ok(lo), Ok(hi)) = (u16::try_from(range.lo), u16::try_from(range.hi)) else {
                let d = self.error(Code::PW0006, range.span, "a port is at most 65535");
                d.label = "out of range".into();
                return None;
            };
            if lo > hi {
                let d =
                    self.error(Code::PW0006, range.span, format!("the port range {lo}..{hi} is reversed"));
                d.help = Some(format!("write `{hi}..{lo}`"));
                return None;
            }
            out.push((lo, hi));
        }
        Some(out)
    }

    pub(super) fn byte(&mut self, what: &str, value: &Int) -> Option<u8> {
        match u8::try_from(value.node) {
            Ok(value) => Some(value),
            Err(_) => {
                let d = self.error(
                    Code::PW0006,
                    value.span,
                    format!("the {what} {} is more than 255", value.node),
                );
                d.label = "out of range".into();
                None
            }
        }
    }

    pub(super) fn icmp_type(&mut self, v6: bool, value: &IcmpValue) -> Option<u8> {
        match value {
            IcmpValue::Number(n) => self.byte("ICMP type", n),
            IcmpValue::Name(name) => {
                let number = crate::icmp::type_number(v6, &name.node);
                if number.is_none() {
                    let what = if v6 { "ICMPv6 type" } else { "ICMP type" };
                    self.unknown(what, name, crate::icmp::type_names(v6));
                }
                number
            }
        }
    }

    pub(super) fn icmp_code(&mut self, v6: bool, kind: u16, value: &IcmpValue) -> Option<u8> {
        match value {
            IcmpValue::Number(n) => self.byte("ICMP code", n),
            IcmpValue::Name(name) => {
                let number =
                    u8::try_from(kind).ok().and_then(|k| crate::icmp::code_number(v6, k, &name.node));
                if number.is_none() {
                    let what = if v6 { "ICMPv6 code" } else { "ICMP code" };
                    self.unknown(what, name, std::iter::empty());
                }
                number
            }
        }
    }

    /// What a name means anywhere, for PW0103.
    pub(super) fn kind_of_name(&self, name: &str) -> Option<&'static str> {
        use super::symbols::{OwnerDecl, Top};
        match self.symbols.top.get(name) {
            Some(Top::Group(_)) => return Some("a group"),
            Some(Top::Owner(id)) => {
                return Some(match self.symbols.owners.get(id.index()) {
                    Some((_, OwnerDecl::Tenant(_))) => "a tenant",
                    _ => "an external",
                });
            }
            None => {}
        }
        if self.symbols.service_ids.contains_key(name) {
            Some("a service")
        } else if self.symbols.gateway_ids.contains_key(name) {
            Some("a gateway")
        } else if self.symbols.policy_ids.contains_key(name) {
            Some("a policy")
        } else if self.symbols.node_ids.contains_key(name) {
            Some("a node")
        } else {
            None
        }
    }
}
