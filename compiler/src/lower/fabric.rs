//! The fabric's own clauses, and nodes.

use super::Lowering;
use crate::algebra::Family;
use crate::model::{Fabric, Node, Tier};
use lang::ast::{FamilyWord, Name};
use lang::codes::Code;
use lang::span::{FileId, Span};

/// Largest MTU that Linux gives a device; anything above is a slip of the pen.
const MAX_MTU: u64 = 65_535;

impl Lowering<'_> {
    pub(super) fn fabric(&mut self) {
        let Some(declared) = self.symbols.fabric else {
            let file = self.files.first().map_or(FileId(0), |f| f.id);
            self.taint_all = true;
            // What could not be read may be the fabric.
            let skipped = |item: &lang::ast::Item| matches!(item.decl, lang::ast::Decl::Error);
            if self.files.iter().any(|f| f.tree.items.iter().any(skipped)) {
                return;
            }
            let d = self.error(Code::PW0004, Span::new(file, 0, 0), "the project declares no fabric");
            d.help = Some("add one `fabric NAME { encap … underlay … precedence … }` to any file".into());
            return;
        };
        let ast = declared.ast;
        let mut fabric = Fabric { name: ast.name.node.clone(), span: ast.name.span, ..Fabric::default() };
        if let Some(encap) = &ast.encap {
            let (kind, port) = &encap.node;
            fabric.encap = *kind;
            match u16::try_from(port.node) {
                Ok(port) if port > 0 => fabric.port = port,
                _ => {
                    let d = self.error(Code::PW0006, port.span, format!("{} is not a UDP port", port.node));
                    d.label = "1..65535".into();
                }
            }
        }
        if let Some(underlay) = &ast.underlay {
            let (mtu, family) = &underlay.node;
            fabric.underlay_family = match family {
                FamilyWord::Ipv4 => Family::V4,
                FamilyWord::Ipv6 => Family::V6,
            };
            // The smallest that leaves IPv4's 576 bytes inside the encapsulation.
            let least = 576 + u64::from(fabric.overhead());
            match u32::try_from(mtu.node) {
                Ok(value) if (least..=MAX_MTU).contains(&mtu.node) => {
                    fabric.underlay_mtu = value;
                    fabric.underlay_span = Some(underlay.span);
                }
                _ => {
                    let d = self.error(
                        Code::PW0006,
                        mtu.span,
                        format!("an underlay MTU of {} cannot be", mtu.node),
                    );
                    d.label = format!("{least}..{MAX_MTU}");
                }
            }
        }
        fabric.unknown_vni_log = ast.unknown_vni.is_some_and(|log| log.node);
        fabric.stateless_replies = ast.stateless_replies.as_ref().map(|why| why.node.clone());
        self.tiers(&ast.precedence, &ast.delegate, &mut fabric);
        if fabric.tiers.is_empty() {
            // The parser has reported the missing clause; no policy can be judged without it.
            self.taint_all = true;
        }
        self.model.fabric = fabric;
    }

    fn tiers(&mut self, precedence: &[Name], delegate: &[Name], fabric: &mut Fabric) {
        for (at, tier) in precedence.iter().enumerate() {
            if let Some(first) = precedence.iter().take(at).find(|t| t.node == tier.node) {
                let first = first.span;
                let d = self.error(Code::PW0102, tier.span, format!("tier `{}` stands twice", tier.node));
                d.related.push(lang::diag::Label { span: first, message: "first here".into() });
                d.help = Some("a tier has one place in the order".into());
                continue;
            }
            fabric.tiers.push(Tier { name: tier.node.clone(), delegated: false });
        }
        for tier in delegate {
            match fabric.tiers.iter_mut().find(|t| t.name == tier.node) {
                Some(found) => found.delegated = true,
                None => self.unknown_tier(tier, fabric),
            }
        }
    }

    /// PW0106 for a tier that `precedence` does not list.
    pub(super) fn unknown_tier(&mut self, tier: &Name, fabric: &Fabric) {
        let names: Vec<&str> = fabric.tiers.iter().map(|t| t.name.as_str()).collect();
        let near = lang::suggest(&tier.node, names.iter().copied()).map(str::to_owned);
        let known = format!("the tiers are {}", names.join(" > "));
        let d = self.error(Code::PW0106, tier.span, format!("unknown tier `{}`", tier.node));
        d.label = "`precedence` does not list it".into();
        d.help = Some(near.map_or(known, |near| format!("did you mean `{near}`?")));
    }

    pub(super) fn nodes(&mut self) {
        let all = self.symbols.nodes.clone();
        for declared in all {
            let ast = declared.ast;
            let dev = ast.dev.as_ref().map(|d| d.node.clone()).unwrap_or_default();
            // A missing VTEP has been reported by the parser; the unspecified address equals no other node's.
            let unspecified = std::net::IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED);
            self.model.nodes.push(Node {
                name: ast.name.node.clone(),
                vtep: ast.vtep.as_ref().map_or(unspecified, |v| v.node),
                vtep_span: ast.vtep.as_ref().map_or(ast.name.span, |v| v.span),
                dev,
                gateway: ast.gateway,
                span: ast.name.span,
            });
        }
    }
}
