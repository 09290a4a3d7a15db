//! The platform's policies, and statements about the whole.

use super::{Generator, NAMES, Policy, Way};
use std::collections::BTreeSet;

impl Generator {
    /// Platform policies above the tenants, or among them.
    pub(super) fn guard(&mut self) {
        let top = self.tiers[0];
        let policy = |name: &str, overrides: &[&str], rules: Vec<String>| Policy {
            name: name.to_owned(),
            tier: top,
            overrides: overrides.iter().map(|&o| o.to_owned()).collect(),
            rules,
        };
        if self.rng.chance(60) {
            let rule = self.rule("deny", "any -> any", "tcp/20..23", None);
            self.platform.push(policy("no-cleartext", &[], vec![rule]));
            self.test(0, "never any -> any : tcp/21..23");
        }
        if self.rng.chance(50) {
            let service = self.service(None);
            let t = NAMES[self.rng.below(self.tenants.len())];
            let deny = self.rule("deny", "any -> any", &service, None);
            let allow = self.rule("allow", &format!("{t}.front -> {t}.data"), &service, None);
            self.platform.push(policy("no-admin", &[], vec![deny]));
            self.platform.push(policy("admin", &["no-admin"], vec![allow]));
            self.test(0, &format!("always {t}.front -> {t}.data : {service}"));
            self.test(0, &format!("never {t}.data -> {t}.front : {service}"));
        }
        if self.tiers[0] == "guardrail" && self.rng.chance(50) {
            // `pass` leaves the word to the tenant, for these flows and no others.
            let service = self.service(None);
            let t = self.rng.below(self.tenants.len());
            let pairs = format!("{0}.front -> {0}.data", NAMES[t]);
            let rules = vec![
                self.rule("pass", &pairs, &service, None),
                self.rule("deny", "any -> any", &service, None),
            ];
            self.platform.push(policy("perimeter", &[], rules));
            let own = self.rule("allow", "front -> data", &service, None);
            self.govern(t, vec![own]);
            self.test(t, &format!("always {pairs} : {service}"));
        }
        if self.rng.chance(40) {
            // The platform wins over a denial of a tenant, in one tier.
            let t = self.rng.below(self.tenants.len());
            let (service, tier) = (self.service(None), self.delegated[0]);
            let deny = self.rule("deny", "front -> data", &service, None);
            let loser = self.policy(t, tier, Vec::new(), vec![deny]);
            let pairs = format!("{0}.web-1 -> {0}.data", NAMES[t]);
            let rules = vec![self.rule("allow", &pairs, &service, None)];
            let over = vec![loser];
            self.platform.push(Policy { name: "scanner".to_owned(), tier, overrides: over, rules });
            self.test(t, &format!("always {pairs} : {service}"));
        }
        if self.rng.chance(50) {
            let service = self.service(None);
            let rule = self.rule("allow", "same-tenant", &service, None);
            self.lowest(rule);
            let t = NAMES[self.rng.below(self.tenants.len())];
            self.test(0, &format!("always {t} -> {t} : {service}"));
        }
    }

    /// Statements about the whole that hold.
    pub(super) fn claims(&mut self) {
        let count = self.tenants.len();
        for (a, b) in (0..count).flat_map(|a| (0..a).map(move |b| (a, b))) {
            if !self.rng.chance(50) {
                continue;
            }
            let (x, y) = (NAMES[a], NAMES[b]);
            let ways: Vec<&Way> = self
                .ways
                .iter()
                .filter(|w| (w.client, w.provider) == (a, b) || (w.client, w.provider) == (b, a))
                .collect();
            if !self.reaches(a, b) && !self.reaches(b, a) {
                self.isolates.push(format!("isolate {x} from {y} transitively"));
            } else if ways.is_empty() {
                self.isolates.push(format!("isolate {x}.front | {x}.data from {y}"));
            } else if let [way] = ways[..]
                && !way.direct
            {
                let line = format!("isolate {x} from {y} allowing {} via {}", way.service, way.gateway);
                self.isolates.push(line);
            }
        }
        for tenant in &self.tenants {
            if tenant.outside.is_none() && self.used.contains("internet") && self.rng.chance(50) {
                self.isolates.push(format!("isolate {} from internet", tenant.name));
            }
        }
    }

    /// Whether a chain of ways leads from one tenant to another.
    pub(super) fn reaches(&self, from: usize, to: usize) -> bool {
        let mut seen = BTreeSet::from([from]);
        loop {
            let more: Vec<usize> =
                self.ways.iter().filter(|w| seen.contains(&w.client)).map(|w| w.provider).collect();
            let before = seen.len();
            seen.extend(more);
            if seen.len() == before {
                return seen.contains(&to);
            }
        }
    }
}
