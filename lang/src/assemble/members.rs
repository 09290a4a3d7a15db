//! Members of tenants, clauses of gateways that have parts, and rules.

use std::net::IpAddr;

use lalrpop_util::ErrorRecovery;

use super::{Context, Deep, ExposePart, GatewayClause, Modifier, NodeKind, Once};
use crate::ast::*;
use crate::codes::Code;
use crate::diag::Diagnostic;
use crate::span::{Span, Spanned};
use crate::tokens::Token;

impl Context {
    pub fn segment(
        &mut self,
        name: Name,
        vni: Option<Option<Int>>,
        prefixes: Vec<Option<SegmentPrefix>>,
        mtu: Option<Option<Int>>,
    ) -> MemberKind {
        if vni.is_none() {
            let help = format!("write `segment {} vni N {{ … }}`", name.node);
            self.missing(name.span, format!("segment `{}` has no `vni`", name.node), &help);
        }
        MemberKind::Segment(Segment {
            name,
            vni: vni.flatten(),
            prefixes: prefixes.into_iter().flatten().collect(),
            mtu: mtu.flatten(),
        })
    }

    /// A segment of which only the name could be read.
    pub fn bad_segment(&mut self, name: Name, recovery: ErrorRecovery<u32, Token<'_>, ()>) -> MemberKind {
        self.recover(recovery);
        MemberKind::Segment(Segment { name, vni: None, prefixes: Vec::new(), mtu: None })
    }

    #[must_use]
    pub fn segment_prefix(
        &self,
        prefix: Option<Literal>,
        router: Option<Option<Spanned<IpAddr>>>,
    ) -> Option<SegmentPrefix> {
        prefix.map(|prefix| SegmentPrefix { prefix, router: router.flatten() })
    }

    #[must_use]
    pub fn route(&self, prefix: Option<Literal>, target: RouteTarget) -> MemberKind {
        match prefix {
            Some(prefix) => MemberKind::Route(Route { prefix, target }),
            None => MemberKind::Error,
        }
    }

    pub fn expose(
        &mut self,
        label: Option<Name>,
        set: Deep,
        service: ServiceExpr,
        parts: Vec<ExposePart>,
        rows: Option<Vec<ExposeRow>>,
    ) -> MemberKind {
        let (mut to, mut via) = (Once::new(), Once::new());
        let (mut translate, mut clients) = (Once::new(), Once::new());
        for part in parts {
            match part {
                ExposePart::To(c) => to.set(self, "to", c.span, c.node),
                ExposePart::Via(c) => via.set(self, "via", c.span, c.node),
                ExposePart::As(c) => translate.set(self, "as", c.span, c.node),
                ExposePart::Clients(c) => clients.set(self, "clients as", c.span, c.node),
            }
        }
        let place = set.set.span.to(service.span);
        if via.value.is_none() {
            self.incomplete(place, "an exposure names no gateway", "add `via GATEWAY`");
        }
        let braced = rows.is_some();
        let rows = match rows {
            Some(rows) => {
                for (word, place) in [("to", to.first), ("clients as", clients.first)] {
                    if let Some(place) = place {
                        self.misplaced_in_rows(word, place);
                    }
                }
                rows
            }
            None => match (to.value, to.first) {
                (Some(set), Some(first)) => {
                    let span = clients.first.map_or(first, |place| first.to(place));
                    vec![ExposeRow { docs: Vec::new(), to: set, clients: clients.value, span }]
                }
                _ => {
                    self.missing(
                        place,
                        "an exposure names no clients",
                        "add `to SET`, those who may connect",
                    );
                    Vec::new()
                }
            },
        };
        MemberKind::Expose(Expose {
            label,
            set: set.set,
            service,
            via: via.value,
            translate: translate.value,
            rows,
            braced,
        })
    }

    fn incomplete(&mut self, place: Span, message: &str, help: &str) {
        self.report(Diagnostic::new(Code::PW0004, place, message).label("exposed here").help(help));
    }

    fn misplaced_in_rows(&mut self, word: &str, place: Span) {
        self.report(
            Diagnostic::new(Code::PW0009, place, format!("`{word}` stands before the rows of an exposure"))
                .label("belongs into a row")
                .help("write `{ to SET clients as PREFIX }`, a row for each set of clients"),
        );
    }

    pub fn attach(
        &mut self,
        external: Name,
        node: Name,
        dev: Str,
        hops: Vec<Option<Spanned<IpAddr>>>,
        start: u32,
        end: u32,
    ) -> GatewayClause {
        let (docs, span) = self.begin(NodeKind::Clause, start, end);
        let next_hops = hops.into_iter().flatten().collect();
        GatewayClause::Attach(Box::new(Attach { docs, external, node, dev, next_hops, span }))
    }

    pub fn masquerade(
        &mut self,
        tenant: Name,
        external: Name,
        translate: Translate,
        start: u32,
        end: u32,
    ) -> GatewayClause {
        let (docs, span) = self.begin(NodeKind::Clause, start, end);
        GatewayClause::Masquerade(Box::new(Masquerade { docs, tenant, external, translate, span }))
    }

    #[expect(clippy::too_many_arguments, reason = "the parts of one production")]
    pub fn rule(
        &mut self,
        label: Option<Name>,
        action: Spanned<ActionWord>,
        pairs: Pairs,
        service: Option<ServiceExpr>,
        modifiers: Vec<Modifier>,
        start: u32,
        end: u32,
    ) -> Rule {
        let (docs, span) = self.begin(NodeKind::Clause, start, end);
        let (mut via, mut log) = (Once::new(), Once::new());
        let (mut expires, mut because) = (Once::new(), Once::new());
        for modifier in modifiers {
            match modifier {
                Modifier::Via(c) => via.set(self, "via", c.span, c.node),
                Modifier::Log(place) => log.set(self, "log", place, place),
                Modifier::Expires(c) => expires.set(self, "expires", c.span, c.node),
                Modifier::Because(c) => because.set(self, "because", c.span, c.node),
            }
        }
        if let (Some(place), ActionWord::Deny | ActionWord::Pass) = (via.first, action.node) {
            let word = if action.node == ActionWord::Deny { "deny" } else { "pass" };
            self.report(
                Diagnostic::new(Code::PW0009, place, format!("`via` stands in a `{word}` rule"))
                    .label("goes with `allow` only")
                    .related(action.span, format!("the rule is a `{word}`"))
                    .help("leave the `via` out"),
            );
        }
        Rule {
            docs,
            label,
            action,
            pairs,
            service,
            via: via.value,
            log: log.value,
            expires: expires.value.flatten(),
            because: because.value,
            span,
        }
    }

    /// In the place of a rule that could not be read, so that those after it keep their numbers.
    pub fn bad_rule(&mut self, recovery: ErrorRecovery<u32, Token<'_>, ()>, start: u32, end: u32) -> Rule {
        self.recover(recovery);
        let (docs, span) = self.begin(NodeKind::Clause, start, end);
        Rule {
            docs,
            label: None,
            action: Spanned::new(ActionWord::Deny, span),
            pairs: Pairs::Error,
            service: None,
            via: None,
            log: None,
            expires: None,
            because: None,
            span,
        }
    }
}
