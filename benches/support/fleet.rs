//! A generated fleet: tenants, segments, exposures between pairs, and rules, as project text in several files.
//!
//! The same numbers give the same bytes. Every tenant has the same 10.1.0.0/22, so nothing works without translation; every
//! rule is another flow, so that none shadows another.

use std::fmt::Write;

/// How large a fleet is; at least two tenants.
#[derive(Debug, Clone, Copy)]
pub struct Size {
    pub tenants: u32,
    /// Rules of each tenant's own policy.
    pub rules: u32,
}

/// Tenants to which each tenant exposes its API.
const CLIENTS: u32 = 3;
/// Machines that run workloads.
const NODES: u32 = 40;

/// The files of the fleet: path relative to the project's root, text.
#[must_use]
pub fn files(size: Size) -> Vec<(String, String)> {
    let mut files = vec![
        ("fabric.pw".to_owned(), fabric()),
        ("gateway.pw".to_owned(), gateway(size)),
        ("platform.pw".to_owned(), platform()),
        ("services.pw".to_owned(), services(size)),
    ];
    files.extend((0..size.tenants).map(|t| (format!("tenants/{}.pw", name(t)), tenant(size, t))));
    files
}

fn name(tenant: u32) -> String {
    format!("t{tenant:05}")
}

/// The /24 under which everybody else sees a tenant's `api` (100.64.0.0/11) or its `front` (100.96.0.0/11).
fn alias(base: u32, tenant: u32) -> String {
    format!("100.{}.{}.0/24", base + tenant / 256, tenant % 256)
}

/// Whether a tenant reaches the internet.
fn online(tenant: u32) -> bool {
    tenant.is_multiple_of(10)
}

fn fabric() -> String {
    let mut text = String::from(
        "fabric fleet {\n  encap vxlan port 4789\n  underlay mtu 9000 family ipv4\n  \
         precedence guardrail > tenant > baseline\n  delegate tenant\n  unknown-vni drop log\n}\n\n",
    );
    for n in 0..NODES {
        let _ = writeln!(text, "node c{n} {{ vtep 192.0.2.{} dev eth0 }}", n + 1);
    }
    for n in 1..=2 {
        let _ = writeln!(text, "node g{n} {{ vtep 192.0.2.{} dev eth0 gateway }}", 200 + n);
    }
    text
}

fn gateway(size: Size) -> String {
    let mut text = String::from("external internet { 0.0.0.0/0 }\n\ngroup everyone =\n");
    for t in 0..size.tenants {
        let _ = writeln!(text, "  {}{}", if t == 0 { "" } else { "| " }, name(t));
    }
    text.push_str("\ngateway edge {\n  joins everyone, internet\n  instances g1, g2\n  stateful\n");
    for n in 1..=2 {
        let _ = writeln!(text, "  attach internet on g{n} dev eth1 next-hop 203.0.113.1");
    }
    for t in (0..size.tenants).filter(|t| online(*t)) {
        let (high, low) = (t / 10 / 64, t / 10 % 64 * 4);
        let _ = writeln!(
            text,
            "  masquerade {} to internet as 198.18.{high}.{low}, 198.18.{high}.{}",
            name(t),
            low + 1
        );
    }
    text.push_str("}\n");
    text
}

fn platform() -> String {
    String::from(
        "policy no-cleartext in guardrail {\n  deny any -> any : tcp/23 | tcp/20..21 log because \"SEC-12\"\n}\n\n\
         policy quarantine in guardrail {\n  deny tagged(quarantine) -> any log\n  deny any -> tagged(quarantine)\n}\n\n\
         policy reachability in baseline { allow same-tenant : ping }\n\n\
         isolate t00001.data from internet\n",
    )
}

fn services(size: Size) -> String {
    let mut text = String::from("service ping = icmp/echo-request\nservice web = tcp/{80, 443}\n");
    for n in (0..size.rules).filter(|n| !matches!(n % 20, 0 | 3 | 9 | 15)) {
        let _ = writeln!(text, "service app-{n} = tcp/{}", 10_000 + n);
    }
    text
}

/// The tenants that expose their API to `tenant`.
fn providers(size: Size, tenant: u32) -> Vec<u32> {
    (1..=CLIENTS.min(size.tenants - 1)).map(|k| (tenant + k) % size.tenants).collect()
}

fn tenant(size: Size, t: u32) -> String {
    let me = name(t);
    let mut text = format!("/// Tenant {t} of {}.\ntenant {me} id {} {{\n", size.tenants, t + 1);
    for (n, segment) in ["front", "data", "api"].into_iter().enumerate() {
        let _ = writeln!(text, "  segment {segment} vni {} {{ 10.1.{n}.0/24 }}", 10_000 + t * 3 + n as u32);
    }
    text.push_str("  group cache = data & 10.1.1.32/28\n  group live = front except 10.1.0.240/28\n");
    if online(t) {
        text.push_str("  route 0.0.0.0/0 via edge\n");
    }
    let clients: Vec<u32> =
        (0..size.tenants).filter(|c| *c != t && providers(size, *c).contains(&t)).collect();
    if !clients.is_empty() {
        let _ = writeln!(text, "  serve: expose api : web via edge as {} {{", alias(64, t));
        for c in clients {
            let _ = writeln!(text, "    to {}.front clients as {}", name(c), alias(96, c));
        }
        text.push_str("  }\n");
    }
    text.push_str("}\n\n");
    for e in 0..4_u32 {
        let node = (t * 4 + e) % NODES;
        let (segment, net) = [("front", 0), ("data", 1), ("api", 2), ("front", 0)]
            .get(e as usize)
            .copied()
            .unwrap_or(("front", 0));
        let _ = writeln!(
            text,
            "endpoint e{e} in {me}.{segment} {{ at 10.1.{net}.{} mac 02:00:{:02x}:{:02x}:00:{e:02x} on c{node} dev \"tap{t}-{e}\"{} }}",
            // The last one is where no rule reaches, since one of them is in quarantine.
            if e == 3 { 250 } else { 10 + e },
            t / 256,
            t % 256,
            if (t, e) == (1, 3) { " tags quarantine" } else { "" },
        );
    }
    policy(size, t, &me, &mut text);
    text
}

/// One rule per (source block, destination block, service): most inside the tenant, some denied, some to a provider,
/// some to the internet.
fn policy(size: Size, t: u32, me: &str, text: &mut String) {
    let providers = providers(size, t);
    let _ = writeln!(text, "\npolicy {me}-app for {me} in tenant {{");
    for n in 0..size.rules {
        let block = |at: u32| format!("{}/28", at % 15 * 16);
        let (from, to) = (block(n), block(n / 15));
        let provider = (n / 20) as usize % providers.len().max(1);
        let line = match (n % 20, providers.get(provider)) {
            (0, _) if n == 0 => "allow live -> cache : tcp/6379".to_owned(),
            (0, _) => format!("allow live -> data & 10.1.1.{} : tcp/6379", 64 + n / 20 % 128),
            (3 | 9 | 15, Some(p)) => format!(
                "allow front & 10.1.0.{} -> {}.api & 10.1.2.{} : web via edge",
                block(n + n / 250),
                name(*p),
                n % 250
            ),
            (5 | 12, _) => format!("deny front & 10.1.0.{from} -> data & 10.1.1.{to} : app-{n} log"),
            (17, _) if online(t) => {
                format!("allow data & 10.1.1.{from} -> internet & 198.51.100.{} : app-{n} via edge", n % 250)
            }
            _ => format!("allow front & 10.1.0.{from} -> data & 10.1.1.{to} : app-{n}"),
        };
        if n % 10 == 0 {
            let _ = writeln!(text, "  r{n}: {line} because \"CHG-{t}-{n}\"");
        } else {
            let _ = writeln!(text, "  {line}");
        }
    }
    text.push_str("}\n");
}
