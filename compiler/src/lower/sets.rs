//! Sets of ends.

use super::Lowering;
use super::symbols::{Inner, Top};
use crate::algebra::{AddrSet, Prefix, parse_addr};
use crate::ids::{Id, OwnerId};
use crate::sets::EndSet;
use lang::ast::{Literal, LiteralKind, Name, Set, SetKind};
use lang::codes::Code;
use lang::span::Span;
use std::net::IpAddr;
use std::sync::Arc;

/// Where a set stands: names and literals mean what they mean in this tenant's block or policy.
#[derive(Debug, Clone, Copy)]
pub(super) struct Scope {
    pub tenant: Option<OwnerId>,
}

#[derive(Clone, Copy)]
enum Op {
    Union,
    Intersect,
    Except,
}

impl Lowering<'_> {
    /// A set; `None` if some part of it is in error, which has been reported.
    pub(super) fn set(&mut self, set: &Set, scope: Scope) -> Option<Arc<EndSet>> {
        // Left-associative chains are as long as their authors like: walk the left spine in a loop, recurse to the right,
        // whose depth the parser bounds.
        let mut spine: Vec<(Op, &Set)> = Vec::new();
        let mut first = set;
        loop {
            match &first.kind {
                SetKind::Union(left, right) => {
                    spine.push((Op::Union, right));
                    first = left;
                }
                SetKind::Intersect(left, right) => {
                    spine.push((Op::Intersect, right));
                    first = left;
                }
                SetKind::Except(left, right) => {
                    spine.push((Op::Except, right));
                    first = left;
                }
                SetKind::Paren(inner) if spine.is_empty() => first = inner,
                _ => break,
            }
        }
        let mut value = self.term(first, scope);
        for (op, right) in spine.into_iter().rev() {
            let filter = !matches!(op, Op::Union) && only_literals(right);
            if filter {
                let by = self.literal_set(right);
                value = match (value, by) {
                    (Some(left), Some(by)) => Some(Arc::new(match op {
                        Op::Except => left.filter(|set| set.subtract(&by)),
                        _ => left.filter(|set| set.intersect(&by)),
                    })),
                    _ => None,
                };
                continue;
            }
            let right = self.set(right, scope);
            value = match (value, right) {
                (Some(left), Some(right)) => Some(Arc::new(match op {
                    Op::Union => left.union(&right),
                    Op::Intersect => left.intersect(&right),
                    Op::Except => left.subtract(&right),
                })),
                _ => None,
            };
        }
        value
    }

    fn term(&mut self, set: &Set, scope: Scope) -> Option<Arc<EndSet>> {
        match &set.kind {
            SetKind::Any => Some(Arc::new(EndSet::any())),
            SetKind::Name(parts) => match parts.as_slice() {
                [name] => self.simple_name(name, scope),
                [tenant, member] => self.member_name(tenant, member),
                _ => None,
            },
            SetKind::Tagged(tag) => Some(Arc::new(self.tagged(&tag.node, scope))),
            SetKind::Literal(kind) => {
                let literal = Literal { kind: *kind, span: set.span };
                let addresses = self.literal(&literal)?;
                let Some(tenant) = scope.tenant else {
                    let d = self.error(Code::PW0103, set.span, "an address says nothing without an owner");
                    d.label = "whose address space?".into();
                    d.help = Some(
                        "here no tenant's block gives it one: write `TENANT & ADDRESS`, or `any & ADDRESS`"
                            .into(),
                    );
                    return None;
                };
                let owner = &self.known().owners[tenant];
                let own = addresses.intersect(&owner.universe);
                if own.is_empty() {
                    let name = owner.name.clone();
                    let help = self.literal_help(&addresses);
                    let d = self.error(
                        Code::PW0405,
                        set.span,
                        format!("no address of tenant `{name}` lies in this literal, so it matches nothing"),
                    );
                    d.label = format!("an address here means one of `{name}`'s own");
                    d.help = Some(help);
                }
                Some(Arc::new(EndSet::owner(tenant, own)))
            }
            SetKind::Paren(inner) => self.set(inner, scope),
            SetKind::Union(..) | SetKind::Intersect(..) | SetKind::Except(..) => self.set(set, scope),
            SetKind::Error => None,
        }
    }

    /// Which external was probably meant by a literal that no tenant has.
    fn literal_help(&self, addresses: &AddrSet) -> String {
        let text =
            addresses.prefixes().first().map_or_else(String::new, |p| match p.len() == p.family.bits() {
                true => crate::algebra::format_addr(p.family, p.lo()).to_string(),
                false => p.to_string(),
            });
        let externals = || self.known().owners.values().filter(|o| !o.is_tenant());
        let external = externals()
            .find(|o| o.universe.overlaps(addresses))
            .or_else(|| externals().next())
            .map_or("EXTERNAL", |o| o.name.as_str());
        format!("for addresses outside write `{external} & {text}`")
    }

    fn simple_name(&mut self, name: &Name, scope: Scope) -> Option<Arc<EndSet>> {
        if let Some(tenant) = scope.tenant
            && let Some(inner) =
                self.symbols.inner_of(tenant).and_then(|m| m.get(name.node.as_str())).copied()
        {
            return self.inner_set(tenant, inner);
        }
        match self.symbols.top.get(name.node.as_str()).copied() {
            Some(Top::Owner(owner)) => {
                self.used.owners.insert(owner);
                self.owner_sets.get(owner.index()).cloned()
            }
            Some(Top::Group(index)) => {
                self.used.groups.insert(index);
                self.groups.get(index).cloned().flatten()
            }
            None => {
                if let Some(kind) = self.kind_of_name(&name.node) {
                    let d = self.error(
                        Code::PW0103,
                        name.span,
                        format!("`{}` is {kind}, not a set of ends", name.node),
                    );
                    d.label = "a tenant, segment, group, endpoint or external is due here".into();
                    return None;
                }
                let inner = scope.tenant.and_then(|t| self.symbols.inner_of(t));
                let candidates: Vec<&str> = self
                    .symbols
                    .top
                    .keys()
                    .copied()
                    .chain(inner.into_iter().flat_map(|m| m.keys().copied()))
                    .collect();
                self.unknown("name", name, candidates);
                None
            }
        }
    }

    fn member_name(&mut self, tenant: &Name, member: &Name) -> Option<Arc<EndSet>> {
        let owner = self.tenant(tenant)?;
        self.used.owners.insert(owner);
        match self.symbols.inner_of(owner).and_then(|m| m.get(member.node.as_str())).copied() {
            Some(inner) => self.inner_set(owner, inner),
            None => {
                let candidates: Vec<&str> =
                    self.symbols.inner_of(owner).into_iter().flat_map(|m| m.keys().copied()).collect();
                self.unknown(
                    &format!("segment, group or endpoint of tenant `{}`", tenant.node),
                    member,
                    candidates,
                );
                None
            }
        }
    }

    /// The id of a tenant by name, or a finding.
    pub(super) fn tenant(&mut self, name: &Name) -> Option<OwnerId> {
        let found = self.symbols.owner(&name.node).filter(|id| self.known().owners[*id].is_tenant());
        if found.is_none() {
            self.symbols.not_a_tenant(name, &mut self.report);
        }
        found
    }

    fn inner_set(&mut self, tenant: OwnerId, inner: Inner<'_>) -> Option<Arc<EndSet>> {
        match inner {
            Inner::Segment(ast) => {
                let id = self.segment_id(tenant, &ast.name.node)?;
                self.segment_sets.get(id.index()).cloned()
            }
            Inner::Group(index) => {
                self.used.groups.insert(index);
                self.groups.get(index).cloned().flatten()
            }
            Inner::Endpoint(ast) => Some(Arc::new(EndSet::owner(tenant, addresses(&ast.at)))),
        }
    }

    /// The endpoints with a tag: of the tenant in its block and policies, of all tenants elsewhere.
    fn tagged(&self, tag: &str, scope: Scope) -> EndSet {
        let mut set = EndSet::empty();
        // Endpoints are sorted by tenant.
        for (owner, endpoint) in &self.symbols.endpoints {
            if scope.tenant.is_some_and(|t| t != *owner) || !endpoint.ast.tags.iter().any(|t| t.node == tag) {
                continue;
            }
            let more = addresses(&endpoint.ast.at);
            match set.owners.last_mut() {
                Some((last, set)) if last == owner => *set = set.union(&more),
                _ => set.owners.push((*owner, more)),
            }
        }
        set
    }

    /// The addresses of a set made only of literals and operators.
    fn literal_set(&mut self, set: &Set) -> Option<AddrSet> {
        match &set.kind {
            SetKind::Literal(kind) => self.literal(&Literal { kind: *kind, span: set.span }),
            SetKind::Paren(inner) => self.literal_set(inner),
            SetKind::Union(a, b) => Some(self.literal_set(a)?.union(&self.literal_set(b)?)),
            SetKind::Intersect(a, b) => Some(self.literal_set(a)?.intersect(&self.literal_set(b)?)),
            SetKind::Except(a, b) => Some(self.literal_set(a)?.subtract(&self.literal_set(b)?)),
            _ => None,
        }
    }

    /// The addresses of a literal; host bits are reported and cleared.
    pub(super) fn literal(&mut self, literal: &Literal) -> Option<AddrSet> {
        if let LiteralKind::Range(lo, hi) = literal.kind {
            let ((family, lo), (_, hi)) = (parse_addr(lo), parse_addr(hi));
            return Some(AddrSet::range(family, lo, hi));
        }
        self.prefix(literal).map(AddrSet::prefix)
    }

    /// A literal where a prefix or a single address is due.
    pub(super) fn prefix(&mut self, literal: &Literal) -> Option<Prefix> {
        match literal.kind {
            LiteralKind::Address(address) => {
                let (family, value) = parse_addr(address);
                Some(Prefix::host(family, value))
            }
            LiteralKind::Prefix(address, len) => {
                let prefix = Prefix::from_ip(address, len);
                self.host_bits(address, prefix, literal.span);
                Some(prefix)
            }
            LiteralKind::Range(..) => {
                let d = self.error(Code::PW0009, literal.span, "a range may not stand here");
                d.label = "a prefix or a single address is due".into();
                d.help = Some("write the prefixes that make up the range".into());
                None
            }
        }
    }

    fn host_bits(&mut self, address: IpAddr, prefix: Prefix, span: Span) {
        if parse_addr(address).1 == prefix.lo() {
            return;
        }
        let d = self.error(Code::PW0204, span, format!("`{address}/{}` has host bits set", prefix.len()));
        d.label = format!("the bits after the first {} must be zero", prefix.len());
        d.help = Some(format!("write `{prefix}` for the prefix, or `{address}` for the one address"));
    }
}

fn addresses(list: &[lang::span::Spanned<IpAddr>]) -> AddrSet {
    let prefixes: Vec<Prefix> = list.iter().map(|a| Prefix::from_ip(a.node, 128)).collect();
    AddrSet::from_prefixes(&prefixes)
}

/// Whether a set is made of literals and operators alone.
fn only_literals(set: &Set) -> bool {
    let mut stack = vec![set];
    while let Some(set) = stack.pop() {
        match &set.kind {
            SetKind::Literal(_) => {}
            SetKind::Paren(inner) => stack.push(inner),
            SetKind::Union(a, b) | SetKind::Intersect(a, b) | SetKind::Except(a, b) => {
                stack.push(a);
                stack.push(b);
            }
            _ => return false,
        }
    }
    true
}

/// Every name that a set mentions, with its place, in the order written.
pub(super) fn names_in(set: &Set) -> Vec<&[Name]> {
    let mut out = Vec::new();
    let mut stack = vec![set];
    while let Some(set) = stack.pop() {
        match &set.kind {
            SetKind::Name(parts) => out.push(parts.as_slice()),
            SetKind::Paren(inner) => stack.push(inner),
            SetKind::Union(a, b) | SetKind::Intersect(a, b) | SetKind::Except(a, b) => {
                stack.push(b);
                stack.push(a);
            }
            _ => {}
        }
    }
    out
}

/// Every owner with an address in a set, `rest` included.
pub(super) fn owners_in(
    set: &EndSet,
    owners: &crate::ids::Arena<OwnerId, crate::model::Owner>,
) -> Vec<OwnerId> {
    owners.ids().filter(|id| set.of(*id).overlaps(&owners[*id].universe)).collect::<Vec<_>>()
}
