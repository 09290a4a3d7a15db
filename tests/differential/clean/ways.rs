//! Ways out of a tenant: externals, exposures, direct routes, and the rules that use them.

use super::{Generator, NAMES, Policy, Way};

impl Generator {
    /// Ways to an external and from it.
    pub(super) fn outside(&mut self, t: usize) {
        let Some((external, gateway)) = self.tenants[t].outside else { return };
        let (wide, narrow, nets) = match external {
            "hq" => ("172.16.0.0/12", "172.16.8.0/21", ["172.16.9.0/24", "172.16.10.7", "172.16.12.0/23"]),
            _ => ("0.0.0.0/0", "198.18.0.0/15", ["198.18.4.0/24", "198.18.5.7", "198.19.0.0/16"]),
        };
        let opened = self.rng.chance(40);
        if self.rng.chance(75) {
            self.gateway(gateway);
            self.used.insert(external);
            let route = if self.rng.chance(70) { wide } else { narrow };
            self.tenants[t].clauses.push(format!("route {route} via {gateway}"));
            let six = self.tenants[t].v6 && external == "internet";
            if six {
                self.tenants[t].clauses.push(format!("route ::/0 via {gateway}"));
            }
            let count = self.instances[gateway];
            let mut addresses: Vec<String> =
                (0..count).map(|n| format!("198.51.{}.{}", 100 + t, 10 + n)).collect();
            if six {
                addresses.extend((0..count).map(|n| format!("2001:db8:51:{t}::{}", 10 + n)));
            }
            let line = format!("masquerade {} to {external} as {}", NAMES[t], addresses.join(", "));
            self.masquerades.entry(gateway).or_default().push(line);
            for _ in 0..1 + self.rng.below(2) {
                let service = self.service(Some(t));
                let net = self.rng.pick(&nets);
                let to = if six && self.rng.chance(40) && !service.contains("icmp") {
                    format!("{external} & ({net} | 2001:db8:cafe::/48)")
                } else {
                    format!("{external} & {net}")
                };
                let via = self.rng.chance(70).then_some(gateway);
                let (src, _) = self.sources();
                let rule = self.rule("allow", &format!("{src} -> {to}"), &service, via);
                self.govern(t, vec![rule]);
                self.test(t, &format!("always {src} -> {to} : {service} via {gateway}"));
            }
        } else if !opened {
            self.tenants[t].outside = None;
        }
        if opened {
            self.gateway(gateway);
            self.used.insert(external);
            let service = self.service(Some(t));
            let n = self.prefix();
            let (set, presented) = self.shown(t, n);
            let clients = match self.rng.below(2) {
                0 => external.to_owned(),
                _ => format!("{external} & {}", nets[0]),
            };
            let label = self.label();
            self.tenants[t]
                .clauses
                .push(format!("{label}: expose {set} : {service} to {clients} via {gateway} as {presented}"));
            self.test(t, &format!("always {external} & {} -> {set} : {service} via {gateway}", nets[0]));
        }
    }

    /// Some of a tenant's ends and fresh prefixes to present them under.
    pub(super) fn shown(&mut self, t: usize, n: usize) -> (String, String) {
        let six = self.tenants[t].v6;
        match self.rng.below(5) {
            0 => ("front & 10.1.0.0/24".to_owned(), format!("100.64.{n}.0/24")),
            1 if six => ("front".to_owned(), format!("100.64.{n}.0/24, fd64:{n}::/64")),
            2 => ("cache".to_owned(), format!("100.64.{n}.32/28")),
            3 => ("db-1".to_owned(), format!("100.64.{n}.1")),
            _ => ("data & 10.1.1.96..10.1.1.191".to_owned(), format!("100.64.{n}.0/27, 100.64.{n}.64/26")),
        }
    }

    /// An exposure from one tenant to another, and rules about it.
    pub(super) fn between(&mut self) {
        let count = self.tenants.len();
        let (b, shift) = (self.rng.below(count), 1 + self.rng.below(count - 1));
        let a = (b + shift) % count;
        let (from, to) = (NAMES[a], NAMES[b]);
        let named = self.rng.chance(50).then_some(b);
        let service = self.service(named);
        // What is shown as it is must be shown through one gateway everywhere.
        let plain = self.rng.chance(25);
        let gateway = if plain { "core" } else { ["core", "aux", "edge"][self.rng.below(3)] };
        self.gateway(gateway);
        let label = self.label();
        let (set, client, text);
        if plain {
            (set, client) = ("own".to_owned(), "own");
            text = format!("{label}: expose own : {service} to {from}.own via {gateway}");
        } else {
            let (n, m) = (self.prefix(), self.prefix());
            let (shown, presented) = self.shown(b, n);
            let six = self.tenants[a].v6;
            let (clients, alias) = match self.rng.below(4) {
                0 => ("front & 10.1.0.0/24", format!("100.80.{m}.0/24")),
                1 if six => ("front", format!("100.80.{m}.0/24, fd80:{m}::/64")),
                2 => ("web-1 & 10.1.0.5", format!("100.80.{m}.5")),
                _ => ("front & 10.1.0.0/25", format!("100.80.{m}.128/25")),
            };
            (set, client) = (shown, clients);
            text = format!(
                "{label}: expose {set} : {service} to {from}.{client} via {gateway} as {presented} clients as {alias}"
            );
        }
        self.tenants[b].clauses.push(text);
        // A name of b's, as others and the tests write it.
        let target = format!("{to}.{set}");
        let denied = !plain && client.starts_with("front") && self.rng.chance(30);
        if denied {
            let deny = self.rule("deny", &format!("{from}.front & 10.1.0.16/28 -> {set}"), &service, None);
            self.govern(b, vec![deny]);
            self.test(b, &format!("never {from}.front & 10.1.0.16/28 -> {target} : {service}"));
        }
        let via = self.rng.chance(60).then_some(gateway);
        match self.rng.below(6) {
            // Opened, and never used.
            0 => self.test(b, &format!("never {from} -> {target} : {service}")),
            1 if self.tiers.len() > 1 => {
                let rule = self.rule("allow", &format!("{from} -> {target}"), &service, via);
                self.lowest(rule);
                self.test(a, &format!("some {from}.{client} -> {target} : {service} via {gateway}"));
            }
            _ => {
                let rule = self.rule("allow", &format!("{client} -> {target}"), &service, via);
                self.govern(a, vec![rule]);
                let quantifier = if denied { "some" } else { "always" };
                self.test(a, &format!("{quantifier} {from}.{client} -> {target} : {service} via {gateway}"));
            }
        }
        self.ways.push(Way { client: a, provider: b, service, gateway, direct: false });
    }

    /// A direct route, its way back, and the rules of both sides.
    pub(super) fn direct(&mut self) {
        let (a, b) = (0, 1);
        // As it is, an `own` would have two ways.
        if self.tenants[a].clauses.iter().chain(&self.tenants[b].clauses).any(|c| c.contains("expose own")) {
            return;
        }
        for (me, peer) in [(a, b), (b, a)] {
            let line =
                format!("route 10.10{peer}.0.0/24 to {}.own direct \"CHG-9: 40 TB a night\"", NAMES[peer]);
            self.tenants[me].clauses.push(line);
        }
        let service = self.service(None);
        let pairs = format!("{}.own -> {}.own", NAMES[a], NAMES[b]);
        for t in [a, b] {
            let rule = self.rule("allow", &pairs, &service, None);
            self.govern(t, vec![rule]);
        }
        self.test(a, &format!("always {pairs} : {service}"));
        self.ways.push(Way { client: a, provider: b, service, gateway: "core", direct: true });
        self.used.insert("core");
        // The gateway is used by name as well.
        let service = self.service(Some(a));
        let rule = self.rule("allow", "front -> data", &service, Some("core"));
        self.govern(a, vec![rule]);
    }

    /// A platform policy below all tenants.
    pub(super) fn lowest(&mut self, rule: String) {
        let tier = self.tiers[self.tiers.len() - 1];
        let name = format!("base-{}", self.platform.len());
        self.platform.push(Policy { name, tier, overrides: Vec::new(), rules: vec![rule] });
    }
}
