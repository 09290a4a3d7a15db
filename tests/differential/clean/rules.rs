//! Families of rules about flows inside a tenant.

use super::{Generator, NAMES};

impl Generator {
    /// Rules about flows inside a tenant.
    pub(super) fn inside(&mut self, t: usize) {
        for _ in 0..1 + self.rng.below(5) {
            let (src, part) = self.sources();
            let (dst, target) = self.destinations();
            match self.rng.below(11) {
                0 => self.plain(t, src, dst),
                1 | 2 => {
                    // What is denied or passed on comes before what is allowed.
                    let service = self.service(Some(t));
                    let action = self.rng.pick(&["deny", "pass"]);
                    let first = self.rule(action, &format!("{part} -> {target}"), &service, None);
                    let second = self.rule("allow", &format!("{src} -> {dst}"), &service, None);
                    self.govern(t, vec![first, second]);
                    self.test(t, &format!("never {part} -> {target} : {service}"));
                    self.test(t, &format!("some {src} -> {dst} : {service}"));
                }
                3 => self.overlapping_ports(t, src, dst),
                4 => self.one_port_left(t, src, dst),
                5 => self.pinwheel(t),
                6 => self.overridden(t, src, part, dst),
                7 => self.two_policies(t, src, part, dst),
                8 => {
                    let (service, gateway) = (self.service(Some(t)), self.gateway("core"));
                    let rule = self.rule("allow", &format!("{src} -> {dst}"), &service, Some(gateway));
                    self.govern(t, vec![rule]);
                    self.test(t, &format!("always {src} -> {dst} : {service} via {gateway}"));
                }
                9 => self.two_tiers(t, src, part, dst),
                _ => self.halves(t, dst),
            }
        }
    }

    pub(super) fn plain(&mut self, t: usize, src: &str, dst: &str) {
        let p = self.ports();
        let service = format!("tcp/{p}");
        let label = self.label();
        let policy = self.govern(t, vec![format!("{label}: allow {src} -> {dst} : {service}")]);
        self.test(t, &format!("always {src} -> {dst} : {service}"));
        if src.starts_with("front") && !src.contains("64") && dst != "data & 10.1.1.0/25" {
            let packet = format!("packet in {} tcp 10.1.0.5:40000 -> 10.1.1.33:{p}", NAMES[t]);
            self.test(t, &format!("{packet} is allow by {policy}.{label}"));
        }
    }

    pub(super) fn overlapping_ports(&mut self, t: usize, src: &str, dst: &str) {
        let p = self.ports();
        let rules = [("allow", 0, 20), ("deny", 10, 30), ("allow", 25, 40)].map(|(action, lo, hi)| {
            self.rule(action, &format!("{src} -> {dst}"), &format!("tcp/{}..{}", p + lo, p + hi), None)
        });
        self.govern(t, rules.to_vec());
        self.test(t, &format!("always {src} -> {dst} : tcp/{{{p}..{}, {}..{}}}", p + 20, p + 31, p + 40));
        self.test(t, &format!("never {src} -> {dst} : tcp/{}..{}", p + 21, p + 30));
    }

    /// Two rules take all ports of a third but one.
    pub(super) fn one_port_left(&mut self, t: usize, src: &str, dst: &str) {
        let p = self.ports();
        let hole = 1 + self.rng.below(30);
        let pairs = format!("{src} -> {dst}");
        let action = self.rng.pick(&["deny", "pass"]);
        let below = self.rule(action, &pairs, &format!("tcp/{p}..{}", p + hole - 1), None);
        let above = self.rule("deny", &pairs, &format!("tcp/{}..{}", p + hole + 1, p + 40), None);
        let last = self.rule("allow", &pairs, &format!("tcp/{p}..{}", p + 40), None);
        self.govern(t, vec![below, above, last]);
        self.test(t, &format!("always {pairs} : tcp/{}", p + hole));
        self.test(t, &format!("never {pairs} : tcp/{p}..{}", p + hole - 1));
        self.test(t, &format!("never {pairs} : tcp/{}..{}", p + hole + 1, p + 40));
    }

    /// Four blades; of the last rule only the hub is left.
    pub(super) fn pinwheel(&mut self, t: usize) {
        let p = self.ports();
        let (x, y) = (1 + self.rng.below(20), 1 + self.rng.below(15));
        let (x2, y2) = (x + 1 + self.rng.below(20), y + 1 + self.rng.below(15));
        let blades = [
            ("deny", 64, 63 + x2, 0, y - 1),
            ("pass", 64 + x2, 127, 0, y2 - 1),
            ("deny", 64 + x, 127, y2, 49),
            ("pass", 64, 63 + x, y, 49),
            ("allow", 64, 127, 0, 49),
        ];
        let rules = blades.map(|(action, a, b, lo, hi)| {
            let pairs = format!("front & 10.1.0.{a}..10.1.0.{b} -> data");
            self.rule(action, &pairs, &format!("udp/{}..{}", p + lo, p + hi), None)
        });
        self.govern(t, rules.to_vec());
        let hub = format!("front & 10.1.0.{}..10.1.0.{} -> data", 64 + x, 63 + x2);
        self.test(t, &format!("always {hub} : udp/{}..{}", p + y, p + y2 - 1));
    }

    /// Two policies of one tier disagree, and one says that it wins.
    pub(super) fn overridden(&mut self, t: usize, src: &str, part: &str, dst: &str) {
        let service = self.service(Some(t));
        let tier = self.delegated[0];
        let low = self.rule("allow", &format!("{src} -> {dst}"), &service, None);
        let high = self.rule("deny", &format!("{part} -> {dst}"), &service, None);
        let loser = self.policy(t, tier, Vec::new(), vec![low]);
        let winner = self.policy(t, tier, vec![loser.clone()], vec![high]);
        if self.rng.chance(40) {
            // Wins over both, over the first one through the second.
            let service = self.service(Some(t));
            let (top, bottom) = ("pass front & 10.1.0.70 -> data", "deny front -> data");
            let bottom = self.rule("deny", bottom.trim_start_matches("deny "), &service, None);
            if let Some(policy) = self.tenants[t].policies.iter_mut().find(|p| p.name == loser) {
                policy.rules.push(bottom);
            }
            let top = self.rule("pass", top.trim_start_matches("pass "), &service, None);
            self.policy(t, tier, vec![winner], vec![top]);
        }
        self.test(t, &format!("never {part} -> {dst} : {service}"));
        self.test(t, &format!("some {src} -> {dst} : {service}"));
    }

    /// Two policies of one tier agree where they meet, so neither has to win.
    pub(super) fn two_policies(&mut self, t: usize, src: &str, part: &str, dst: &str) {
        let service = self.service(Some(t));
        let tier = self.delegated[0];
        for set in [src, part] {
            let rule = self.rule("allow", &format!("{set} -> {dst}"), &service, None);
            self.policy(t, tier, Vec::new(), vec![rule]);
        }
        self.test(t, &format!("always {src} -> {dst} : {service}"));
    }

    /// A tier above takes a part of what the one below allows.
    pub(super) fn two_tiers(&mut self, t: usize, src: &str, part: &str, dst: &str) {
        let [high, low] = self.delegated[..] else { return self.plain(t, src, dst) };
        let service = self.service(Some(t));
        let above = self.rule("deny", &format!("{part} -> {dst}"), &service, None);
        let below = self.rule("allow", &format!("{src} -> {dst}"), &service, None);
        self.policy(t, high, Vec::new(), vec![above]);
        self.policy(t, low, Vec::new(), vec![below]);
        self.test(t, &format!("never {part} -> {dst} : {service}"));
    }

    /// Two halves take all addresses of a prefix but one.
    pub(super) fn halves(&mut self, t: usize, dst: &str) {
        let service = self.service(Some(t));
        let hole = 65 + self.rng.below(60);
        let sets = [
            ("deny", format!("front & 10.1.0.64..10.1.0.{}", hole - 1)),
            ("deny", format!("front & 10.1.0.{}..10.1.0.127", hole + 1)),
            ("allow", "front & 10.1.0.64/26".to_owned()),
        ];
        let rules =
            sets.map(|(action, set)| self.rule(action, &format!("{set} -> {dst}"), &service, None)).to_vec();
        self.govern(t, rules);
        self.test(t, &format!("always front & 10.1.0.{hole} -> {dst} : {service}"));
    }
}
