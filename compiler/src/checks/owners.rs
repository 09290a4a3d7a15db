//! PW0506: a file under a folder with an owner holds only what that tenant may write.

use crate::config::OwnedPath;
use lang::ast::{Decl, File, Item};
use lang::codes::Code;
use lang::diag::Diagnostic;
use lang::span::Span;

/// Judges one file by its path (relative to the project's root, with `/`). Every pattern that matches the path binds: a
/// file under two owners may hold tests alone.
#[must_use]
pub fn check(owners: &[OwnedPath], path: &str, file: &File) -> Vec<Diagnostic> {
    let mut found = Vec::new();
    for owned in owners.iter().filter(|owned| owned.matches(path)) {
        for item in &file.items {
            if let Some((span, what)) = foreign(item, &owned.tenant) {
                let tenant = &owned.tenant;
                found.push(
                    Diagnostic::new(
                        Code::PW0506,
                        span,
                        format!("`{path}` belongs to tenant `{tenant}` and may not hold {what}"),
                    )
                    .label(format!("not `{tenant}`'s to write here"))
                    .note(format!("`[owners]` in partywall.toml: \"{}\" = \"{tenant}\"", owned.pattern()))
                    .help(format!(
                        "move it out of this folder; here stand `extend tenant {tenant}`, its endpoints, policies \
                         `for {tenant}`, services named `{tenant}-…` and tests"
                    )),
                );
            }
        }
    }
    found
}

/// What a declaration is that this tenant may not write, and its place.
fn foreign(item: &Item, tenant: &str) -> Option<(Span, String)> {
    Some(match &item.decl {
        Decl::Extend(extend) if extend.tenant.node == tenant => return None,
        Decl::Endpoint(endpoint) if endpoint.tenant.node == tenant => return None,
        Decl::Policy(policy) if policy.tenant.as_ref().is_some_and(|t| t.node == tenant) => return None,
        Decl::Service(service)
            if service.name.node.strip_prefix(tenant).is_some_and(|rest| rest.starts_with('-')) =>
        {
            return None;
        }
        Decl::Test(_) | Decl::Error => return None,
        Decl::Extend(extend) => {
            (extend.tenant.span, format!("an extension of tenant `{}`", extend.tenant.node))
        }
        Decl::Endpoint(endpoint) => {
            (endpoint.tenant.span, format!("an endpoint of `{}`", endpoint.tenant.node))
        }
        Decl::Policy(policy) => match &policy.tenant {
            Some(other) => (other.span, format!("a policy for tenant `{}`", other.node)),
            None => (policy.name.span, format!("the platform policy `{}`", policy.name.node)),
        },
        Decl::Service(service) => (service.name.span, format!("the service `{}`", service.name.node)),
        Decl::Fabric(fabric) => (fabric.name.span, "the fabric".into()),
        Decl::Node(node) => (node.name.span, format!("the node `{}`", node.name.node)),
        Decl::External(external) => (external.name.span, format!("the external `{}`", external.name.node)),
        Decl::Group(group) => (group.name.span, format!("the top-level group `{}`", group.name.node)),
        Decl::Tenant(declared) => {
            (declared.name.span, format!("the declaration of tenant `{}`", declared.name.node))
        }
        Decl::Gateway(gateway) => (gateway.name.span, format!("the gateway `{}`", gateway.name.node)),
        Decl::Isolate(isolate) => (isolate.what.span, "an isolation".into()),
    })
}
