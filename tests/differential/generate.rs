//! Random projects as text: every form of the language that a decision depends on, small enough to enumerate.
//!
//! One seed gives one text, on every machine.

use std::fmt::Write as _;

/// SplitMix64.
#[derive(Debug, Clone)]
pub struct Rng(u64);

impl Rng {
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ 0x5057)
    }

    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `n`.
    pub fn below(&mut self, n: usize) -> usize {
        (self.next() % n.max(1) as u64) as usize
    }

    /// True in `percent` of 100 cases.
    pub fn chance(&mut self, percent: usize) -> bool {
        self.below(100) < percent
    }

    pub fn pick<'a, T: ?Sized>(&mut self, from: &[&'a T]) -> &'a T {
        from[self.below(from.len())]
    }
}

const TENANTS: [&str; 4] = ["shop", "payments", "ops", "lab"];

const SERVICES: [(&str, &str); 9] = [
    ("web", "tcp/{80, 443, 8000..8080}"),
    ("https", "tcp/443"),
    ("dns", "udp/53 | tcp/53"),
    ("ping", "icmp/echo-request | icmp6/echo-request"),
    ("high", "tcp/443 from 1024..65535"),
    ("any-udp", "udp"),
    ("gre", "proto/47"),
    ("too-big", "icmp/3/4 | icmp6/packet-too-big"),
    ("everything", "ip"),
];

struct Generator {
    rng: Rng,
    tenants: usize,
    tiers: Vec<(&'static str, bool)>,
    out: String,
    /// The next number for a presented or client prefix.
    fresh: usize,
}

/// The project of a seed.
pub fn project(seed: u64) -> String {
    generate(seed, 4, 6)
}

/// The project of a seed, of two tenants and few rules: short enough for all of its boundary packets.
pub fn short(seed: u64) -> String {
    generate(seed, 2, 4)
}

/// With at most so many tenants (two or more) and policies.
fn generate(seed: u64, most_tenants: usize, most_policies: usize) -> String {
    let mut rng = Rng::new(seed);
    let tenants = 2 + rng.below(most_tenants - 1);
    let tiers = match rng.below(4) {
        0 => vec![("guardrail", false), ("tenant", true), ("baseline", false)],
        1 => vec![("guardrail", false), ("tenant", true), ("late", true), ("baseline", false)],
        2 => vec![("only", true)],
        _ => vec![("guardrail", false), ("baseline", false)],
    };
    let mut g = Generator { rng, tenants, tiers, out: String::new(), fresh: 0 };
    g.fabric();
    for tenant in 0..tenants {
        g.tenant(tenant);
    }
    g.gateways();
    g.policies(most_policies);
    g.invariants();
    g.out
}

impl Generator {
    fn line(&mut self, text: &str) {
        self.out.push_str(text);
        self.out.push('\n');
    }

    fn fabric(&mut self) {
        let precedence: Vec<&str> = self.tiers.iter().map(|t| t.0).collect();
        let delegated: Vec<&str> = self.tiers.iter().filter(|t| t.1).map(|t| t.0).collect();
        let mut text = format!(
            "fabric prod {{\n  encap vxlan port 4789\n  underlay mtu 9000 family ipv4\n  precedence {}\n",
            precedence.join(" > ")
        );
        if !delegated.is_empty() {
            let _ = writeln!(text, "  delegate {}", delegated.join(", "));
        }
        text.push_str("  unknown-vni drop\n}\n");
        text.push_str("node c1 { vtep 192.0.2.11 dev eth0 }\nnode g1 { vtep 192.0.2.21 dev eth0 gateway }\n");
        text.push_str("external internet { 0.0.0.0/0, ::/0 }\nexternal hq { 172.16.0.0/12 }");
        self.line(&text);
        for (name, terms) in SERVICES {
            self.line(&format!("service {name} = {terms}"));
        }
        let group = format!("group pair = {} | {}", TENANTS[0], TENANTS[1]);
        self.line(&group);
    }

    /// Every tenant has 10.1.0.0/24 and 10.1.1.0/26, so spaces overlap; `own` is a segment that no other tenant has.
    fn tenant(&mut self, t: usize) {
        let name = TENANTS[t];
        self.line(&format!("tenant {name} id {} {{", t + 1));
        let v6 = if self.rng.chance(60) { ", fd00:1::/64" } else { "" };
        self.line(&format!("  segment front vni {} {{ 10.1.0.0/24{v6} }}", 100 + 10 * t));
        self.line(&format!("  segment data vni {} {{ 10.1.1.0/26 }}", 101 + 10 * t));
        self.line(&format!("  segment own vni {} {{ 10.20{t}.0.0/28 }}", 102 + 10 * t));
        self.line("  group cache = data & 10.1.1.32/28");
        self.line("  group old = front except (10.1.0.128/25 | 10.1.0.7..10.1.0.9)");
        if self.rng.chance(70) {
            self.line("  route 0.0.0.0/0 via edge");
        } else if self.rng.chance(50) {
            self.line("  route 172.16.0.0/12 via edge");
        }
        if self.rng.chance(50) {
            self.line("  route ::/0 via edge");
        }
        if t < 2 && self.rng.chance(35) {
            let other = 1 - t;
            self.line(&format!("  route 10.20{other}.0.0/28 to {}.own direct \"drill\"", TENANTS[other]));
        }
        for _ in 0..self.rng.below(4) {
            self.exposure(t);
        }
        self.line("}");
        self.line(&format!(
            "endpoint web-1 in {name}.front {{ at 10.1.0.5 on c1 dev \"{name}-1\" tags web }}\n\
             endpoint db-1 in {name}.data {{ at 10.1.1.33 on c1 dev \"{name}-2\" tags db }}"
        ));
    }

    fn exposure(&mut self, t: usize) {
        let service = self.service();
        let gateway = if self.rng.chance(75) { "edge" } else { "core" };
        self.fresh += 1;
        let n = self.fresh;
        let (set, presented) = match self.rng.below(4) {
            0 => ("front & 10.1.0.0/28", format!("100.64.{n}.0/28")),
            1 => ("data & 10.1.1.32/28", format!("100.64.{n}.16/28")),
            2 => ("db-1", format!("100.64.{n}.1")),
            _ => ("front & 10.1.0.0/24", format!("100.64.{n}.0/24")),
        };
        let mut rows = String::new();
        // One row per client: two rows could show one client under two addresses (PW0303).
        let first = self.rng.below(self.tenants);
        for row in 0..=self.rng.below(2) {
            let client = (first + row) % self.tenants;
            if client == t {
                continue;
            }
            let client = TENANTS[client];
            let n = n * 2 + row;
            let text = match self.rng.below(4) {
                0 if gateway == "edge" && !rows.contains("internet") => "to internet".to_owned(),
                1 => format!("to {client}.front & 10.1.0.0/24 clients as 100.65.{n}.0/24"),
                2 => format!("to {client}.cache clients as 100.66.{n}.0/28"),
                _ => format!("to {client}.web-1 clients as 100.67.{n}.5"),
            };
            let _ = writeln!(rows, "    {text}");
        }
        if !rows.is_empty() {
            self.line(&format!("  expose {set} : {service} via {gateway} as {presented} {{\n{rows}  }}"));
        }
    }

    fn gateways(&mut self) {
        let all = TENANTS[..self.tenants].join(", ");
        self.line(&format!("gateway edge {{\n  joins {all}, internet, hq\n  instances g1\n  stateful"));
        self.line("  attach internet on g1 dev eth1 next-hop 203.0.113.1, 2001:db8::1");
        self.line("  attach hq on g1 dev eth2 next-hop 172.31.255.1");
        for (t, name) in TENANTS.iter().enumerate().take(self.tenants) {
            let line = format!(
                "  masquerade {0} to internet as 198.51.100.{1}, 2001:db8:1::{1}\n  masquerade {0} to hq as 198.51.101.{1}",
                name,
                t + 1
            );
            self.line(&line);
        }
        self.line(&format!("}}\ngateway core {{\n  joins {all}\n  instances g1\n  stateful\n}}"));
    }

    fn service(&mut self) -> String {
        let one = |rng: &mut Rng| match rng.below(13) {
            n @ 0..9 => SERVICES[n].0.to_owned(),
            9 => "tcp".to_owned(),
            10 => format!("tcp/{}..{}", 8000 + rng.below(4) * 20, 8060 + rng.below(3) * 20),
            11 => "icmp/8 | udp/53".to_owned(),
            _ => "sctp/5000".to_owned(),
        };
        let first = one(&mut self.rng);
        if self.rng.chance(20) { format!("{first} | {}", one(&mut self.rng)) } else { first }
    }

    /// A set that names ends of a tenant; unqualified in its own policy.
    fn own_set(&mut self, t: usize) -> String {
        let name = TENANTS[t];
        match self.rng.below(9) {
            0 => name.to_owned(),
            1 => format!("{name}.front"),
            2 => format!("{name}.data"),
            3 => format!("{name}.cache"),
            4 => format!("{name}.old"),
            5 => format!("{name}.web-1"),
            6 => format!("{name}.own | {name}.data & 10.1.1.0/30"),
            7 => format!("{name} except ({name}.front & 10.1.0.0/27)"),
            _ => format!("{name} & 10.1.0.5..10.1.1.2"),
        }
    }

    fn any_set(&mut self) -> String {
        let t = self.rng.below(self.tenants);
        match self.rng.below(12) {
            0..4 => "any".to_owned(),
            4 => "internet".to_owned(),
            5 => "hq | internet & 8.8.8.0/24".to_owned(),
            6 => "pair".to_owned(),
            7 => "any & 10.1.0.0/25".to_owned(),
            8 => format!("any except {}", TENANTS[t]),
            9 => "tagged(web) | tagged(db)".to_owned(),
            _ => self.own_set(t),
        }
    }

    fn rule(&mut self, owner: Option<usize>, label: usize) -> String {
        let pairs = if self.rng.chance(8) {
            "same-tenant".to_owned()
        } else {
            let mut ends = match owner {
                None => [self.any_set(), self.any_set()],
                Some(t) => {
                    [self.own_set(t), if self.rng.chance(50) { self.own_set(t) } else { self.any_set() }]
                }
            };
            if self.rng.chance(50) {
                ends.reverse();
            }
            format!("{} -> {}", ends[0], ends[1])
        };
        let service = if self.rng.chance(25) { String::new() } else { format!(" : {}", self.service()) };
        let action = match self.rng.below(10) {
            0..5 => "allow",
            5..9 => "deny",
            _ => "pass",
        };
        let via = match self.rng.below(10) {
            0 if action == "allow" => " via edge",
            1 if action == "allow" && owner.is_some() => " via core",
            _ => "",
        };
        format!("  r{label}: {action} {pairs}{service}{via}")
    }

    fn policies(&mut self, most: usize) {
        // By tier: the names of the policies so far and their owners.
        let mut made: Vec<(usize, String, Option<usize>)> = Vec::new();
        for n in 0..2 + self.rng.below(most - 1) {
            let tier = self.rng.below(self.tiers.len());
            let (tier_name, delegated) = self.tiers[tier];
            let owner = (delegated && self.rng.chance(75)).then(|| self.rng.below(self.tenants));
            let name = format!("p{n}");
            let may = |o: &Option<usize>| owner.is_none() || *o == owner;
            let below: Vec<String> = made
                .iter()
                .filter(|(t, _, o)| *t == tier && may(o))
                .map(|(_, name, _)| name.clone())
                .collect();
            let overrides: Vec<String> = below.into_iter().filter(|_| self.rng.chance(60)).collect();
            let owned = owner.map_or_else(String::new, |t| format!(" for {}", TENANTS[t]));
            let over = if overrides.is_empty() {
                String::new()
            } else {
                format!(" overrides {}", overrides.join(", "))
            };
            self.line(&format!("policy {name}{owned} in {tier_name}{over} {{"));
            for label in 0..1 + self.rng.below(5) {
                let rule = self.rule(owner, label);
                self.line(&rule);
            }
            self.line("}");
            made.push((tier, name, owner));
        }
    }

    fn invariants(&mut self) {
        for _ in 0..self.rng.below(3) {
            let t = self.rng.below(self.tenants);
            let (what, from) = (self.own_set(t), self.any_set());
            let transitively = if self.rng.chance(60) { " transitively" } else { "" };
            let allowing = if self.rng.chance(40) { " allowing https via edge" } else { "" };
            self.line(&format!("isolate {what} from {from}{transitively}{allowing}"));
        }
        let mut clauses = String::new();
        for _ in 0..self.rng.below(4) {
            let t = self.rng.below(self.tenants);
            let quantifier = self.rng.pick(&["always", "never", "some"]);
            let (src, dst) = (self.own_set(t), self.any_set());
            let service = self.service();
            let via = if quantifier != "never" && self.rng.chance(20) { " via edge" } else { "" };
            let _ = writeln!(clauses, "  {quantifier} {src} -> {dst} : {service}{via}");
        }
        if !clauses.is_empty() {
            self.line(&format!("test \"random\" {{\n{clauses}}}"));
        }
    }
}
