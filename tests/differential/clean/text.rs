//! The text of a project, spread over its files.

use super::{Files, GROUPS, Generator, Policy};
use std::collections::BTreeSet;
use std::fmt::Write as _;

impl Generator {
    pub(super) fn files(mut self) -> Files {
        let mut files = Files::new();
        let config: String =
            self.tenants.iter().map(|t| format!("\"tenants/{0}/**\" = \"{0}\"\n", t.name)).collect();
        files.insert("partywall.toml".to_owned(), format!("[owners]\n{config}"));
        files.insert("platform/fabric.pw".to_owned(), self.fabric());
        files.insert("platform/policies.pw".to_owned(), policies(&self.platform, None));
        let mut claims = self.isolates.join("\n");
        claims.push('\n');
        files.insert("platform/claims.pw".to_owned(), claims);
        files.insert("tests.pw".to_owned(), test_block("platform", &self.tests));
        self.groups();
        for t in 0..self.tenants.len() {
            let split = self.rng.below(self.tenants[t].clauses.len() + 1);
            let tenant = &self.tenants[t];
            let (name, id) = (tenant.name, 10 + t);
            let six = if tenant.v6 { ", fd00:1::/64" } else { "" };
            let (inner, outer) = tenant.clauses.split_at(split);
            let mut block = format!(
                "tenant {name} id {id} {{\n  segment front vni {0} {{ 10.1.0.0/24{six} }}\n  \
                 segment data vni {1} {{ 10.1.1.0/24 router 10.1.1.254 }} mtu 1400\n  \
                 segment own vni {2} {{ 10.10{t}.0.0/24 }}\n",
                100 + 10 * t,
                101 + 10 * t,
                102 + 10 * t
            );
            for clause in inner {
                let _ = writeln!(block, "  {clause}");
            }
            block.push_str("}\n");
            files.insert(format!("platform/{name}.pw"), block);
            let mut text = String::new();
            if !outer.is_empty() {
                let _ = writeln!(text, "extend tenant {name} {{\n  {}\n}}", outer.join("\n  "));
            }
            let _ = writeln!(text, "{}", tenant.items.join("\n"));
            text.push_str(&policies(&tenant.policies, Some(name)));
            files.insert(format!("tenants/{name}/main.pw"), text);
        }
        files
    }

    /// Declares the groups that something names.
    pub(super) fn groups(&mut self) {
        fn words(text: &str) -> impl Iterator<Item = &str> {
            text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '-' || c == '.'))
        }
        let mut named: BTreeSet<String> = BTreeSet::new();
        let platform = self.platform.iter().flat_map(|p| &p.rules).chain(&self.tests).chain(&self.isolates);
        named.extend(platform.flat_map(|text| words(text)).map(str::to_owned));
        for tenant in &self.tenants {
            let texts = tenant.clauses.iter().chain(tenant.policies.iter().flat_map(|p| &p.rules));
            for word in texts.flat_map(|text| words(text)) {
                named.insert(word.to_owned());
                named.insert(format!("{}.{word}", tenant.name));
            }
        }
        for tenant in &mut self.tenants {
            for (group, set) in GROUPS {
                if named.contains(&format!("{}.{group}", tenant.name)) {
                    tenant.clauses.insert(0, format!("group {group} = {set}"));
                }
            }
        }
    }

    pub(super) fn fabric(&mut self) -> String {
        let six = self.rng.chance(30);
        let encap = self.rng.pick(&["vxlan port 4789", "geneve port 6081"]);
        let mut out = format!(
            "fabric prod {{\n  encap {encap}\n  underlay mtu {} family {}\n  precedence {}\n  delegate {}\n  unknown-vni drop{}\n}}\n",
            [1500, 9000][self.rng.below(2)],
            if six { "ipv6" } else { "ipv4" },
            self.tiers.join(" > "),
            self.delegated.join(", "),
            self.rng.pick(&["", " log"]),
        );
        let vtep = |n: usize| if six { format!("2001:db8:ffff::{n}") } else { format!("192.0.2.{n}") };
        for n in 1..=2 {
            let _ = writeln!(out, "node c{n} {{ vtep {} dev eth0 }}", vtep(10 + n));
        }
        for n in 1..=3 {
            let _ = writeln!(out, "node g{n} {{ vtep {} dev eth0 gateway }}", vtep(20 + n));
        }
        for (name, nets) in [("internet", "0.0.0.0/0, ::/0"), ("hq", "172.16.0.0/12")] {
            if self.used.contains(name) {
                let _ = writeln!(out, "external {name} {{ {nets} }}");
            }
        }
        out.push_str(&self.services.join("\n"));
        out.push('\n');
        for (name, external) in [("edge", Some("internet")), ("core", Some("hq")), ("aux", None)] {
            if !self.used.contains(name) {
                continue;
            }
            let external = external.filter(|e| self.used.contains(e));
            let joined = self.tenants.iter().map(|t| t.name).chain(external).collect::<Vec<_>>().join(", ");
            let count = self.instances[name];
            let instances = (1..=count).map(|n| format!("g{n}")).collect::<Vec<_>>().join(", ");
            let state = match (name, count) {
                ("aux", 1) => "stateless\n  affinity source",
                ("aux", _) => "stateless\n  affinity flow",
                _ => self.rng.pick(&[
                    "stateful",
                    "stateful\n  affinity symmetric",
                    "affinity flow\n  stateful",
                ]),
            };
            let failure = self.rng.pick(&["", "  on-failure drop\n", "  on-failure rehash\n"]);
            let _ = writeln!(
                out,
                "gateway {name} {{\n  joins {joined}\n  instances {instances}\n  {state}\n{failure}"
            );
            for n in 1..=count {
                match external {
                    Some("internet") => {
                        let _ = writeln!(
                            out,
                            "  attach internet on g{n} dev eth1 next-hop 203.0.113.1, 2001:db8:1::1"
                        );
                    }
                    Some(hq) => {
                        let _ = writeln!(out, "  attach {hq} on g{n} dev \"bond0.20\" next-hop 172.31.255.1");
                    }
                    None => {}
                }
            }
            for line in self.masquerades.get(name).into_iter().flatten() {
                let _ = writeln!(out, "  {line}");
            }
            out.push_str("}\n");
        }
        out
    }
}

fn policies(list: &[Policy], owner: Option<&str>) -> String {
    let mut out = String::new();
    let owned = owner.map_or_else(String::new, |t| format!(" for {t}"));
    for policy in list {
        let over = match policy.overrides.as_slice() {
            [] => String::new(),
            names => format!(" overrides {}", names.join(", ")),
        };
        let _ = writeln!(out, "policy {}{owned} in {}{over} {{", policy.name, policy.tier);
        for rule in &policy.rules {
            let _ = writeln!(out, "  {rule}");
        }
        out.push_str("}\n");
    }
    out
}

fn test_block(name: &str, clauses: &[String]) -> String {
    if clauses.is_empty() {
        return String::new();
    }
    format!("test \"{name}\" {{\n  {}\n}}\n", clauses.join("\n  "))
}
