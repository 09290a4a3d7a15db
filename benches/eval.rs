//! How many packets are decided in a second, on one core.
//!
//! ```text
//! cargo bench --bench eval                      1,000,000 packets against examples/02-datacenter
//! cargo bench --bench eval -- COUNT             as many
//! cargo bench --bench eval -- COUNT --write     prints them as eval's input lines and measures nothing
//! ```

#[path = "support/measure.rs"]
mod measure;
#[path = "support/packets.rs"]
mod packets;

use compiler::Compiled;
use compiler::eval::{Resolution, decide, resolve};
use compiler::packet::Packet;
use compiler::wire::{Evaluator, PacketLine, packet_line};
use lang::ast::Date;
use measure::{line, median};
use std::path::Path;

const RUNS: usize = 5;
const TODAY: Date = Date { year: 2026, month: 6, day: 1 };

fn main() {
    let args: Vec<String> = std::env::args().skip(1).filter(|arg| arg != "--bench").collect();
    let count = args.first().map_or(1_000_000, |text| text.parse().expect("a number of packets"));
    let compiled = datacenter();
    let packets = packets::packets(&compiled, count);
    let lines: Vec<String> = packets
        .iter()
        .map(|packet| {
            serde_json::to_string(&packet_line(&compiled, packet)).expect("a packet can be written")
        })
        .collect();
    if args.iter().any(|arg| arg == "--write") {
        return lines.iter().for_each(|text| line(text));
    }

    let allowed = packets.iter().filter(|p| decide(&compiled, p).is_ok_and(|d| d.allow)).count();
    line(&format!("{count} packets against examples/02-datacenter, {allowed} of them allowed, one core"));
    let naive = median(1, || packets.iter().filter(|p| all_rules(&compiled, p)).count());
    let rate = |seconds: f64| count as f64 / seconds;
    let show = |what: &str, seconds: f64, baseline: f64, name: &str| {
        line(&format!("{what:<34} {:>10.0} /s   {:>5.2} × {name}", rate(seconds), baseline / seconds));
    };
    show("every rule tried on every packet", naive, naive, "itself (baseline)");
    let fast =
        median(RUNS, || packets.iter().filter(|p| decide(&compiled, p).is_ok_and(|d| d.allow)).count());
    show("decide", fast, naive, "every rule");

    let json =
        median(RUNS, || lines.iter().filter(|text| serde_json::from_str::<PacketLine>(text).is_ok()).count());
    show("reading JSON lines alone", json, json, "itself (baseline)");
    let evaluator = Evaluator::new(&compiled);
    let whole = median(RUNS, || lines.iter().map(|text| evaluator.line(text).0.len()).sum::<usize>());
    show("JSON line in, JSON line out", whole, json, "reading alone");
}

fn datacenter() -> Compiled {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/02-datacenter");
    let project = partywall::project::load(&path).expect("the example can be read");
    partywall::analysis::compile_only(&project, TODAY).expect("the example's settings can be read")
}

/// What a list of rules without an order to stop at costs: the same source check and route, then every rule of every
/// policy is tried.
fn all_rules(compiled: &Compiled, packet: &Packet) -> bool {
    let Ok(Resolution::Flow { flow, .. }) = resolve(compiled, packet) else { return false };
    let matching =
        compiled.model.rules.values().filter(|rule| {
            rule.pairs.contains(&flow) && rule.service.contains(flow.protocol, flow.x, flow.y)
        });
    matching.count() % 2 == 1
}
