//! The checks of spaces against every pair of prefixes in them: a project is accepted exactly if no two prefixes of one
//! space that share an address disagree on what it means or how it is reached.

use crate::support::{FABRIC, findings};
use proptest::prelude::*;
use std::fmt::Write;

const TENANTS: [&str; 3] = ["a", "b", "c"];
const GATEWAYS: [&str; 2] = ["edge", "core"];
const SERVICES: [&str; 3] = ["tcp/80", "tcp/{80, 443}", "udp"];

/// First address and length in bits of the host part; 10.0.0.0 counts as 0, 100.64.0.0 as 256.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Block {
    at: u32,
    bits: u32,
}

impl Block {
    fn new(at: u32, bits: u32) -> Self {
        Self { at: at >> bits << bits, bits }
    }

    fn overlaps(self, other: Self) -> bool {
        self.at < other.at + (1 << other.bits) && other.at < self.at + (1 << self.bits)
    }

    fn text(self) -> String {
        let (net, low) = if self.at < 256 { ("10.0.0", self.at) } else { ("100.64.0", self.at - 256) };
        format!("{net}.{low}/{}", 32 - self.bits)
    }
}

#[derive(Debug, Clone)]
struct Expose {
    provider: usize,
    client: usize,
    gateway: usize,
    service: usize,
    set: Block,
    seen: Option<Block>,
    /// Where the client's segment is shown.
    shown: Option<Block>,
}

#[derive(Debug, Clone)]
struct Project {
    segments: Vec<Block>,
    exposures: Vec<Expose>,
}

fn project() -> impl Strategy<Value = Project> {
    let blocks = prop::collection::vec((0..8u32).prop_map(|n| Block::new(n * 16, 4)), 3);
    let expose = (
        (0..3usize, 1..3usize, 0..8usize, 0..3usize),
        (0..16u32, 0..4u32),
        prop::option::weighted(0.8, 0..512u32),
        prop::option::weighted(0.6, 0..512u32),
    );
    (blocks, prop::collection::vec(expose, 1..5)).prop_map(|(segments, exposures)| {
        let exposures = exposures
            .into_iter()
            .map(|((provider, step, gateway, service), (offset, bits), seen, shown)| {
                let set = Block::new(segments[provider].at + offset, bits);
                Expose {
                    provider,
                    client: (provider + step) % 3,
                    // Mostly one gateway: two of them clash at once.
                    gateway: usize::from(gateway == 0),
                    service,
                    set,
                    seen: seen.map(|at| Block::new(at, bits)),
                    shown: shown.map(|at| Block::new(at, 4)),
                }
            })
            .collect();
        Project { segments, exposures }
    })
}

fn text(project: &Project) -> String {
    let mut text = FABRIC.to_owned();
    for (gateway, node) in GATEWAYS.iter().zip(["g1", "g2"]) {
        writeln!(text, "gateway {gateway} {{ joins a, b, c instances {node} stateful }}")
            .expect("to a string");
    }
    for (at, name) in TENANTS.iter().enumerate() {
        writeln!(
            text,
            "tenant {name} id {} {{ segment s vni {} {{ {} }}",
            at + 1,
            at + 1,
            project.segments[at].text()
        )
        .expect("to a string");
        for e in project.exposures.iter().filter(|e| e.provider == at) {
            let seen = e.seen.map(|b| format!(" as {}", b.text())).unwrap_or_default();
            let shown = e.shown.map(|b| format!(" clients as {}", b.text())).unwrap_or_default();
            writeln!(
                text,
                "  expose s & {} : {} to {} via {}{seen}{shown}",
                e.set.text(),
                SERVICES[e.service],
                TENANTS[e.client],
                GATEWAYS[e.gateway]
            )
            .expect("to a string");
        }
        text.push_str("}\n");
    }
    text
}

/// A prefix in a tenant's space: whose it is, real address minus seen, gateway.
type Entry = (Block, (usize, i64, usize));

fn entries(project: &Project, space: usize) -> Vec<Entry> {
    let mut out = Vec::new();
    let entry = |owner: usize, real: Block, seen: Block, gateway: usize| {
        (seen, (owner, i64::from(real.at) - i64::from(seen.at), gateway))
    };
    for e in &project.exposures {
        if e.client == space {
            out.push(entry(e.provider, e.set, e.seen.unwrap_or(e.set), e.gateway));
        }
        if e.provider == space {
            let real = project.segments[e.client];
            out.push(entry(e.client, real, e.shown.unwrap_or(real), e.gateway));
        }
    }
    out
}

/// Whether two exposures would give one connection two source addresses.
fn two_sources(project: &Project, a: &Expose, b: &Expose) -> bool {
    let seen = |e: &Expose| e.seen.unwrap_or(e.set);
    let shown = |e: &Expose| e.shown.unwrap_or(project.segments[e.client]);
    let services = a.service == b.service || (a.service < 2 && b.service < 2);
    (a.provider, a.client, a.gateway) == (b.provider, b.client, b.gateway)
        && seen(a).overlaps(seen(b))
        && services
        && shown(a) != shown(b)
}

fn sound(project: &Project) -> bool {
    let spaces = (0..3).all(|space| {
        let all = entries(project, space);
        all.iter().all(|(block, meaning)| {
            !block.overlaps(project.segments[space])
                && all
                    .iter()
                    .all(|(other, other_meaning)| !block.overlaps(*other) || meaning == other_meaning)
        })
    });
    let sources = |a: &Expose| project.exposures.iter().all(|b| !two_sources(project, a, b));
    spaces && project.exposures.iter().all(sources)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]
    #[test]
    fn spaces_are_accepted_exactly_if_nothing_in_them_disagrees(project in project()) {
        let text = text(&project);
        let found = findings(&text);
        let spaces: Vec<String> = found
            .iter()
            .filter(|f| f.code().starts_with("PW03"))
            .map(|f| format!("{} {}", f.code(), f.finding.message))
            .collect();
        prop_assert_eq!(spaces.is_empty(), sound(&project), "{}\n{:#?}", text, spaces);
        // Whatever was found has its owners marked, and nothing else is in error.
        prop_assert!(found.iter().all(|f| matches!(f.code().get(..4), Some("PW03" | "PW04"))), "{:#?}", found);
    }
}
