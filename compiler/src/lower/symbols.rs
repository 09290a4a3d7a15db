//! The tables of declared names, with PW0102 for what is declared twice.

use super::SourceFile;
use crate::ids::{GatewayId, Id, NodeId, OwnerId, PolicyId};
use crate::report::Report;
use lang::ast::{self, Decl, Member, MemberKind, Name};
use lang::codes::Code;
use lang::diag::Diagnostic;
use lang::span::Span;
use std::collections::BTreeMap;

/// A declaration with the lines of documentation before it.
#[derive(Debug)]
pub(super) struct Declared<'a, T> {
    pub ast: &'a T,
    pub docs: &'a [String],
    pub span: Span,
}

// Not derived: a reference is copied whatever it refers to.
impl<T> Clone for Declared<'_, T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Declared<'_, T> {}

/// What a name in the namespace of tenants, externals and top-level groups means.
#[derive(Debug, Clone, Copy)]
pub(super) enum Top {
    Owner(OwnerId),
    /// Index into [`Symbols::groups`].
    Group(usize),
}

/// What a name inside a tenant means.
#[derive(Debug, Clone, Copy)]
pub(super) enum Inner<'a> {
    Segment(&'a ast::Segment),
    Group(usize),
    Endpoint(&'a ast::Endpoint),
}

/// A group of a tenant or of the platform.
#[derive(Debug, Clone, Copy)]
pub(super) struct GroupDecl<'a> {
    pub owner: Option<OwnerId>,
    pub ast: &'a ast::Group,
}

pub(super) enum OwnerDecl<'a> {
    Tenant(Declared<'a, ast::Tenant>),
    External(Declared<'a, ast::External>),
}

/// A segment, group, route or exposure of a tenant, from its block or from an `extend`.
pub(super) struct MemberDecl<'a> {
    pub member: &'a Member,
    /// The `extend` block that it stands in.
    pub extend: Option<Span>,
}

pub(super) struct Symbols<'a> {
    pub fabric: Option<Declared<'a, ast::Fabric>>,
    pub owners: Vec<(&'a str, OwnerDecl<'a>)>,
    pub top: BTreeMap<&'a str, Top>,
    /// By owner.
    pub members: Vec<Vec<MemberDecl<'a>>>,
    /// By owner.
    pub inner: Vec<BTreeMap<&'a str, Inner<'a>>>,
    pub groups: Vec<GroupDecl<'a>>,
    pub gateways: Vec<Declared<'a, ast::Gateway>>,
    pub gateway_ids: BTreeMap<&'a str, GatewayId>,
    pub nodes: Vec<Declared<'a, ast::Node>>,
    pub node_ids: BTreeMap<&'a str, NodeId>,
    pub services: Vec<Declared<'a, ast::Service>>,
    pub service_ids: BTreeMap<&'a str, usize>,
    pub policies: Vec<Declared<'a, ast::Policy>>,
    pub policy_ids: BTreeMap<&'a str, PolicyId>,
    /// Sorted by (tenant, name).
    pub endpoints: Vec<(OwnerId, Declared<'a, ast::Endpoint>)>,
    pub isolates: Vec<Declared<'a, ast::Isolate>>,
    pub tests: Vec<Declared<'a, ast::Test>>,
}

impl<'a> Symbols<'a> {
    pub(super) fn collect(files: &'a [SourceFile<'a>], report: &mut Report) -> Self {
        let mut raw = Raw::default();
        for file in files {
            for item in &file.tree.items {
                raw.add(item, report);
            }
        }
        raw.finish(files, report)
    }

    /// The id of a tenant or external.
    pub(super) fn owner(&self, name: &str) -> Option<OwnerId> {
        match self.top.get(name) {
            Some(Top::Owner(id)) => Some(*id),
            _ => None,
        }
    }

    /// The members of a tenant of one kind, those of its block first.
    pub(super) fn members_of<T>(
        &self,
        owner: OwnerId,
        pick: impl Fn(&'a MemberKind) -> Option<&'a T>,
    ) -> Vec<(&'a Member, &'a T)> {
        let members = self.members.get(owner.index()).into_iter().flatten();
        members.filter_map(|m| pick(&m.member.kind).map(|kind| (m.member, kind))).collect()
    }

    pub(super) fn inner_of(&self, owner: OwnerId) -> Option<&BTreeMap<&'a str, Inner<'a>>> {
        self.inner.get(owner.index())
    }
}

/// Unique declarations by name, in the order of files.
#[derive(Default)]
struct Raw<'a> {
    fabric: Option<Declared<'a, ast::Fabric>>,
    tops: BTreeMap<&'a str, (RawTop<'a>, Span)>,
    gateways: BTreeMap<&'a str, Declared<'a, ast::Gateway>>,
    nodes: BTreeMap<&'a str, Declared<'a, ast::Node>>,
    services: BTreeMap<&'a str, Declared<'a, ast::Service>>,
    policies: BTreeMap<&'a str, Declared<'a, ast::Policy>>,
    endpoints: Vec<Declared<'a, ast::Endpoint>>,
    extends: Vec<Declared<'a, ast::Extend>>,
    isolates: Vec<Declared<'a, ast::Isolate>>,
    tests: BTreeMap<&'a str, Declared<'a, ast::Test>>,
}

enum RawTop<'a> {
    Tenant(Declared<'a, ast::Tenant>),
    External(Declared<'a, ast::External>),
    Group(Declared<'a, ast::Group>),
}

fn twice(report: &mut Report, what: &str, name: &Name, first: Span) {
    report.push(
        Diagnostic::new(Code::PW0102, name.span, format!("{what} `{}` is declared twice", name.node))
            .label("declared again here")
            .related(first, "first declared here")
            .help("rename one of the two, or merge them"),
    );
}

/// Inserts unless the name is taken.
fn unique<'a, T>(
    map: &mut BTreeMap<&'a str, Declared<'a, T>>,
    what: &str,
    name: &'a Name,
    name_of: impl Fn(&T) -> &Name,
    declared: Declared<'a, T>,
    report: &mut Report,
) {
    match map.get(name.node.as_str()) {
        Some(first) => twice(report, what, name, name_of(first.ast).span),
        None => {
            map.insert(&name.node, declared);
        }
    }
}

impl<'a> Raw<'a> {
    fn top(&mut self, what: &str, name: &'a Name, top: RawTop<'a>, report: &mut Report) {
        match self.tops.get(name.node.as_str()) {
            Some((_, first)) => twice(report, what, name, *first),
            None => {
                self.tops.insert(&name.node, (top, name.span));
            }
        }
    }

    fn add(&mut self, item: &'a ast::Item, report: &mut Report) {
        macro_rules! declared {
            ($ast:expr) => {
                Declared { ast: $ast, docs: &item.docs, span: item.span }
            };
        }
        match &item.decl {
            Decl::Fabric(f) => match &self.fabric {
                Some(first) => {
                    let first = first.ast.name.span;
                    report.push(
                        Diagnostic::new(Code::PW0102, f.name.span, "a project has exactly one fabric")
                            .label("a second one")
                            .related(first, "the first one")
                            .help("keep one `fabric` block; two fabrics are two projects"),
                    );
                }
                None => self.fabric = Some(declared!(f)),
            },
            Decl::Node(n) => unique(&mut self.nodes, "node", &n.name, |n| &n.name, declared!(n), report),
            Decl::External(e) => self.top("external", &e.name, RawTop::External(declared!(e)), report),
            Decl::Service(s) => {
                unique(&mut self.services, "service", &s.name, |s| &s.name, declared!(s), report);
            }
            Decl::Group(g) => self.top("group", &g.name, RawTop::Group(declared!(g)), report),
            Decl::Tenant(t) => self.top("tenant", &t.name, RawTop::Tenant(declared!(t)), report),
            Decl::Extend(e) => self.extends.push(declared!(e)),
            Decl::Gateway(g) => {
                unique(&mut self.gateways, "gateway", &g.name, |g| &g.name, declared!(g), report);
            }
            Decl::Endpoint(e) => self.endpoints.push(declared!(e)),
            Decl::Policy(p) => {
                unique(&mut self.policies, "policy", &p.name, |p| &p.name, declared!(p), report);
            }
            Decl::Isolate(i) => self.isolates.push(declared!(i)),
            Decl::Test(t) => unique(&mut self.tests, "test", &t.name, |t| &t.name, declared!(t), report),
            Decl::Error => {}
        }
    }

    fn finish(self, files: &'a [SourceFile<'a>], report: &mut Report) -> Symbols<'a> {
        let mut s = Symbols {
            fabric: self.fabric,
            owners: Vec::new(),
            top: BTreeMap::new(),
            members: Vec::new(),
            inner: Vec::new(),
            groups: Vec::new(),
            gateway_ids: self
                .gateways
                .keys()
                .enumerate()
                .map(|(i, n)| (*n, GatewayId::from_index(i)))
                .collect(),
            gateways: self.gateways.into_values().collect(),
            node_ids: self.nodes.keys().enumerate().map(|(i, n)| (*n, NodeId::from_index(i))).collect(),
            nodes: self.nodes.into_values().collect(),
            service_ids: self.services.keys().enumerate().map(|(i, n)| (*n, i)).collect(),
            services: self.services.into_values().collect(),
            policy_ids: self
                .policies
                .keys()
                .enumerate()
                .map(|(i, n)| (*n, PolicyId::from_index(i)))
                .collect(),
            policies: self.policies.into_values().collect(),
            endpoints: Vec::new(),
            isolates: self.isolates,
            tests: self.tests.into_values().collect(),
        };
        let mut spans: BTreeMap<&str, Span> = BTreeMap::new();
        for (name, (top, span)) in self.tops {
            spans.insert(name, span);
            match top {
                RawTop::Tenant(t) => {
                    s.top.insert(name, Top::Owner(OwnerId::from_index(s.owners.len())));
                    s.owners.push((name, OwnerDecl::Tenant(t)));
                }
                RawTop::External(e) => {
                    s.top.insert(name, Top::Owner(OwnerId::from_index(s.owners.len())));
                    s.owners.push((name, OwnerDecl::External(e)));
                }
                RawTop::Group(g) => {
                    s.top.insert(name, Top::Group(s.groups.len()));
                    s.groups.push(GroupDecl { owner: None, ast: g.ast });
                }
            }
        }
        s.collect_members(self.extends, files, report);
        s.collect_inner(self.endpoints, &spans, report);
        s
    }
}

impl<'a> Symbols<'a> {
    /// Members of each tenant: its block's in their order, then those of its `extend`s, ordered by what they say and not
    /// by the file that they stand in.
    fn collect_members(
        &mut self,
        extends: Vec<Declared<'a, ast::Extend>>,
        files: &'a [SourceFile<'a>],
        report: &mut Report,
    ) {
        self.members = self
            .owners
            .iter()
            .map(|(_, owner)| match owner {
                OwnerDecl::Tenant(t) => {
                    t.ast.members.iter().map(|member| MemberDecl { member, extend: None }).collect()
                }
                OwnerDecl::External(_) => Vec::new(),
            })
            .collect();
        let mut keyed: Vec<(String, Declared<'a, ast::Extend>)> =
            extends.into_iter().map(|e| (super::canonical::text_of(files, e.span), e)).collect();
        keyed.sort_by(|a, b| a.0.cmp(&b.0));
        for (_, extend) in keyed {
            let name = &extend.ast.tenant;
            match self.owner(&name.node) {
                Some(id) if matches!(self.owners.get(id.index()), Some((_, OwnerDecl::Tenant(_)))) => {
                    if let Some(members) = self.members.get_mut(id.index()) {
                        members.extend(
                            extend
                                .ast
                                .members
                                .iter()
                                .map(|member| MemberDecl { member, extend: Some(extend.span) }),
                        );
                    }
                }
                _ => self.not_a_tenant(name, report),
            }
        }
    }

    /// Reports a name that stands where a tenant is due.
    pub(super) fn not_a_tenant(&self, name: &Name, report: &mut Report) {
        if let Some(top) = self.top.get(name.node.as_str()) {
            let what = match top {
                Top::Owner(_) => "an external",
                Top::Group(_) => "a group",
            };
            report.push(
                Diagnostic::new(Code::PW0103, name.span, format!("`{}` is {what}, not a tenant", name.node))
                    .label("a tenant is due here"),
            );
            return;
        }
        let tenants = self.owners.iter().filter(|(_, o)| matches!(o, OwnerDecl::Tenant(_))).map(|(n, _)| *n);
        let mut d = Diagnostic::new(Code::PW0101, name.span, format!("unknown tenant `{}`", name.node))
            .label("not declared anywhere in the project");
        d.help = Some(match lang::suggest(&name.node, tenants) {
            Some(near) => format!("did you mean `{near}`?"),
            None => format!("declare `tenant {} id N {{ … }}`, or correct the name", name.node),
        });
        report.push(d);
    }

    fn collect_inner(
        &mut self,
        endpoints: Vec<Declared<'a, ast::Endpoint>>,
        tops: &BTreeMap<&str, Span>,
        report: &mut Report,
    ) {
        let mut endpoints_of: Vec<Vec<Declared<'a, ast::Endpoint>>> =
            self.owners.iter().map(|_| Vec::new()).collect();
        for endpoint in endpoints {
            let tenant = &endpoint.ast.tenant;
            let owner = self
                .owner(&tenant.node)
                .filter(|id| matches!(self.owners.get(id.index()), Some((_, OwnerDecl::Tenant(_)))));
            match owner.and_then(|id| endpoints_of.get_mut(id.index())) {
                Some(list) => list.push(endpoint),
                None => self.not_a_tenant(tenant, report),
            }
        }
        for (index, endpoints) in endpoints_of.into_iter().enumerate() {
            let owner = OwnerId::from_index(index);
            let mut names: BTreeMap<&'a str, (Inner<'a>, Span)> = BTreeMap::new();
            let mut add = |what: &str, name: &'a Name, inner: Inner<'a>, report: &mut Report| {
                if let Some(top) = tops.get(name.node.as_str()) {
                    report.push(
                        Diagnostic::new(
                            Code::PW0102,
                            name.span,
                            format!(
                                "{what} `{}` bears the name of something declared for the whole project",
                                name.node
                            ),
                        )
                        .label("hides the other one inside this tenant")
                        .related(*top, "the tenant, external or group of that name")
                        .help("rename it: a name must mean one thing in every rule"),
                    );
                }
                match names.get(name.node.as_str()) {
                    Some((_, first)) => {
                        twice(report, what, name, *first);
                        false
                    }
                    None => {
                        names.insert(&name.node, (inner, name.span));
                        true
                    }
                }
            };
            for declared in self.members.get(index).into_iter().flatten() {
                match &declared.member.kind {
                    MemberKind::Segment(segment) if declared.extend.is_none() => {
                        add("segment", &segment.name, Inner::Segment(segment), report);
                    }
                    MemberKind::Group(group)
                        if add("group", &group.name, Inner::Group(self.groups.len()), report) =>
                    {
                        self.groups.push(GroupDecl { owner: Some(owner), ast: group });
                    }
                    _ => {}
                }
            }
            let mut kept = Vec::new();
            for endpoint in endpoints {
                if add("endpoint", &endpoint.ast.name, Inner::Endpoint(endpoint.ast), report) {
                    kept.push((owner, endpoint));
                }
            }
            kept.sort_by(|a, b| a.1.ast.name.node.cmp(&b.1.ast.name.node));
            self.endpoints.append(&mut kept);
            self.inner.push(names.into_iter().map(|(name, (inner, _))| (name, inner)).collect());
        }
    }
}
