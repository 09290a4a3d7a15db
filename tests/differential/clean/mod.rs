//! Random projects in which nothing is wrong, by construction: whatever a rule decides, an exposure opens or a statement
//! claims follows from how the text was put together, and no rule was put where another one takes all of its flows.
//!
//! The one device is that every family of rules has a service of its own. Within a family the rules overlap on purpose, in
//! ways of which each is known to leave every rule something to decide: subsets before supersets, ranges that overlap in part,
//! covers with one hole. Two families never meet. One seed gives one project, on every machine.

mod platform;
mod rules;
mod text;
mod ways;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

/// A project's files, by path.
pub type Files = BTreeMap<String, String>;

/// SplitMix64.
struct Rng(u64);

impl Rng {
    fn below(&mut self, n: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) % n.max(1) as u64) as usize
    }

    /// True in `percent` of 100 cases.
    fn chance(&mut self, percent: usize) -> bool {
        self.below(100) < percent
    }

    fn pick<'a>(&mut self, from: &[&'a str]) -> &'a str {
        from[self.below(from.len())]
    }
}

/// Groups of a tenant; one that nothing names is not declared.
const GROUPS: [(&str, &str); 3] = [
    ("cache", "data & 10.1.1.32/28"),
    ("live", "front except (front & 10.1.0.192/26)"),
    ("tagged-web", "front & tagged(web) & tagged(prod)"),
];

const NAMES: [&str; 6] = ["shop", "payments", "ops", "lab", "build", "guest"];

struct Tenant {
    name: &'static str,
    /// What it reaches outside, if anything: an external and the gateway to it.
    outside: Option<(&'static str, &'static str)>,
    /// Its `front` has IPv6, equal to everybody else's.
    v6: bool,
    /// Clauses of its own block, and of `extend` blocks.
    clauses: Vec<String>,
    policies: Vec<Policy>,
    /// Services, endpoints.
    items: Vec<String>,
}

#[derive(Clone)]
struct Policy {
    name: String,
    tier: &'static str,
    overrides: Vec<String>,
    rules: Vec<String>,
}

/// A way between two owners that rules may use.
struct Way {
    client: usize,
    provider: usize,
    service: String,
    gateway: &'static str,
    /// No rule and no other exposure makes flows between the two.
    direct: bool,
}

struct Generator {
    rng: Rng,
    tenants: Vec<Tenant>,
    tiers: Vec<&'static str>,
    delegated: Vec<&'static str>,
    platform: Vec<Policy>,
    /// Services of the platform, by the text of their declarations.
    services: Vec<String>,
    tests: Vec<String>,
    isolates: Vec<String>,
    ways: Vec<Way>,
    masquerades: BTreeMap<&'static str, Vec<String>>,
    instances: BTreeMap<&'static str, usize>,
    used: BTreeSet<&'static str>,
    next_port: usize,
    next_proto: usize,
    next_icmp: usize,
    next_prefix: usize,
    next_label: usize,
}

/// The project of a seed.
pub fn project(seed: u64) -> Files {
    let mut rng = Rng(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ 0xc1ea);
    let (tiers, delegated) = match rng.below(4) {
        0 => (vec!["only"], vec!["only"]),
        1 => (vec!["guardrail", "tenant", "late", "baseline"], vec!["tenant", "late"]),
        2 => (vec!["tenant", "baseline"], vec!["tenant"]),
        _ => (vec!["guardrail", "tenant", "baseline"], vec!["tenant"]),
    };
    let instances = ["edge", "core", "aux"].map(|g| (g, 1 + rng.below(3))).into_iter().collect();
    let mut g = Generator {
        tenants: Vec::new(),
        tiers,
        delegated,
        platform: Vec::new(),
        services: Vec::new(),
        tests: Vec::new(),
        isolates: Vec::new(),
        ways: Vec::new(),
        masquerades: BTreeMap::new(),
        instances,
        used: BTreeSet::new(),
        next_port: 1000,
        next_proto: 60,
        next_icmp: 44,
        next_prefix: 0,
        next_label: 0,
        rng,
    };
    let count = 2 + g.rng.below(NAMES.len() - 1);
    for t in 0..count {
        g.tenant(t);
    }
    for t in 0..count {
        g.inside(t);
        g.outside(t);
    }
    for _ in 0..1 + g.rng.below(2 * count) {
        g.between();
    }
    if g.rng.chance(40) {
        g.direct();
    }
    g.guard();
    g.claims();
    g.files()
}

impl Generator {
    fn tenant(&mut self, t: usize) {
        let outside = match self.rng.below(4) {
            0 => None,
            1 => Some(("hq", "core")),
            _ => Some(("internet", "edge")),
        };
        let name = NAMES[t];
        let v6 = self.rng.chance(50);
        let six = if v6 { ", fd00:1::5" } else { "" };
        let items = vec![
            format!(
                "endpoint web-1 in {name}.front {{ at 10.1.0.5{six} mac 02:00:00:00:{t:02x}:01 on c1 dev \"{name}-1\" tags web, prod }}"
            ),
            format!(
                "endpoint db-1 in {name}.data {{ at 10.1.1.33 on c{} dev \"{name}-2\" tags db }}",
                1 + self.rng.below(2)
            ),
        ];
        let (clauses, policies) = (Vec::new(), Vec::new());
        self.tenants.push(Tenant { name, outside, v6, clauses, policies, items });
    }

    // Names and numbers that nobody else has.

    fn label(&mut self) -> String {
        self.next_label += 1;
        format!("r{}", self.next_label)
    }

    /// The first of fifty ports.
    fn ports(&mut self) -> usize {
        self.next_port += 50;
        self.next_port
    }

    fn prefix(&mut self) -> usize {
        self.next_prefix += 1;
        self.next_prefix
    }

    /// A service that nothing else names; some are declared, by the tenant or by the platform.
    fn service(&mut self, owner: Option<usize>) -> String {
        let p = self.ports();
        let text = match self.rng.below(11) {
            0 | 1 => format!("tcp/{p}"),
            2 => format!("udp/{p}"),
            3 => format!("tcp/{p}..{}", p + 9),
            4 => format!("tcp/{{{p}, {}, {}..{}}}", p + 3, p + 5, p + 9),
            5 => format!("tcp/{p} | udp/{}", p + 1),
            6 => format!("sctp/{p}"),
            7 => format!("tcp/{p} from 1024..65535"),
            8 if self.next_proto < 130 => {
                self.next_proto += 1;
                format!("proto/{}", self.next_proto)
            }
            9 if self.next_icmp < 250 => {
                self.next_icmp += 1;
                format!("icmp/{}", self.next_icmp)
            }
            _ => format!("udp/{p}..{} from {}..{}", p + 20, p, p + 3000),
        };
        if self.rng.chance(50) {
            return text;
        }
        match owner {
            Some(t) => {
                let name = format!("{}-s{p}", NAMES[t]);
                self.tenants[t].items.push(format!("service {name} = {text}"));
                name
            }
            None => {
                let name = format!("s{p}");
                self.services.push(format!("service {name} = {text}"));
                name
            }
        }
    }

    /// A set of a tenant's own ends and a proper, not empty part of it; neither meets `data`'s.
    fn sources(&mut self) -> (&'static str, &'static str) {
        match self.rng.below(7) {
            0 => ("front", "front & 10.1.0.64/26"),
            1 => ("front", "web-1"),
            2 => ("front", "live"),
            3 => ("live", "front & 10.1.0.0/25"),
            4 => ("front", "tagged(web)"),
            5 => ("front", "tagged-web"),
            _ => ("front & 10.1.0.0/25", "front & 10.1.0.3..10.1.0.77"),
        }
    }

    fn destinations(&mut self) -> (&'static str, &'static str) {
        match self.rng.below(5) {
            0 => ("data", "cache"),
            1 => ("data", "db-1"),
            2 => ("cache", "db-1"),
            3 => ("data & 10.1.1.0/25", "data & 10.1.1.9"),
            _ => ("data", "data & 10.1.1.100..10.1.1.200"),
        }
    }

    /// What may follow a rule without changing what it decides.
    fn tail(&mut self) -> String {
        let mut out = String::new();
        for (percent, text) in
            [(15, " log"), (10, " expires 2035-12-31"), (15, " because \"CHG-7: \\\"reviewed\\\"\"")]
        {
            if self.rng.chance(percent) {
                out.push_str(text);
            }
        }
        out
    }

    fn rule(&mut self, action: &str, pairs: &str, service: &str, via: Option<&str>) -> String {
        let label = if self.rng.chance(60) { format!("{}: ", self.label()) } else { String::new() };
        let via = via.map_or_else(String::new, |g| format!(" via {g}"));
        format!("{label}{action} {pairs} : {service}{via}{}", self.tail())
    }

    fn gateway(&mut self, name: &'static str) -> &'static str {
        self.used.insert(name);
        name
    }

    /// Appends rules to a policy of a tenant, a new one or the one before.
    fn govern(&mut self, t: usize, rules: Vec<String>) -> String {
        let tier = self.delegated[self.rng.below(self.delegated.len())];
        let fresh = self.rng.chance(40);
        if let Some(last) = self.tenants[t].policies.last_mut().filter(|_| !fresh) {
            last.rules.extend(rules);
            return last.name.clone();
        }
        self.policy(t, tier, Vec::new(), rules)
    }

    fn policy(&mut self, t: usize, tier: &'static str, overrides: Vec<String>, rules: Vec<String>) -> String {
        let name = format!("{}-p{}", NAMES[t], self.tenants[t].policies.len());
        self.tenants[t].policies.push(Policy { name: name.clone(), tier, overrides, rules });
        name
    }

    /// A clause of a test; a name without an owner is the tenant's.
    fn test(&mut self, t: usize, clause: &str) {
        if !self.rng.chance(60) {
            return;
        }
        let mut out = String::new();
        for word in clause.split_inclusive([' ', '(', ')']) {
            let bare = word.trim_end_matches([' ', '(', ')']);
            let own = ["front", "data", "own", "cache", "live", "tagged-web", "web-1", "db-1"];
            if own.contains(&bare) {
                let _ = write!(out, "{}.", NAMES[t]);
            }
            if word == "tagged(" {
                let _ = write!(out, "{} & ", NAMES[t]);
            }
            out.push_str(word);
        }
        self.tests.push(out);
    }
}
