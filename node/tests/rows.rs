//! What the tables of capabilities call stricter, row by row, with real packets on nodes of either target: what is refused is refused as
//! the row says, and what is nearest to it passes. Where the machine lacks what a lab needs these tests say `SKIPPED` and what is
//! missing.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test that fails says where"
)]

#[path = "rows/bed.rs"]
mod bed;
#[path = "rows/gateways.rs"]
mod gateways;
#[path = "attacks/ground.rs"]
#[expect(dead_code, reason = "each test uses a part")]
mod ground;
#[path = "rows/packets.rs"]
mod packets;
#[path = "node/pair.rs"]
mod pair;
#[path = "ebpf_node/ground.rs"]
#[expect(dead_code, reason = "each test uses a part")]
mod single;
#[path = "node/support.rs"]
mod support;
#[path = "ebpf/told.rs"]
mod told;
#[path = "node/traffic.rs"]
#[expect(dead_code, reason = "each test uses a part")]
mod traffic;

use backends::capability::{Capability, EBPF, Level, NFT};
use bed::Bed;
use ground::frames::{self, Twist};
use ground::support::{self as lab_support, Fleet};
use ground::udp;
use partywall_node::ebpf::pins;
use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::time::{Duration, Instant};

/// Rows that one function shows.
type Rows = (&'static [&'static str], fn(&Bed));

fn each(target: &str, table: &[Capability], fleet: Fleet, held: &[Rows]) {
    let stricter = table.iter().filter(|row| row.level == Level::Stricter).map(|row| row.construct);
    let names: BTreeSet<&str> = held.iter().flat_map(|(names, _)| *names).copied().collect();
    assert_eq!(names, stricter.collect(), "{target}: a test for each row");
    let begun = Instant::now();
    let Some(bed) = Bed::new(&format!("rows, {target}"), fleet) else { return };
    for (names, holds) in held {
        println!("{target}, {:?}: {}", begun.elapsed(), names.join("; "));
        holds(&bed);
    }
}

/// Numbers of connections, and ports for each.
fn connections(count: u32) -> impl Iterator<Item = (u32, u16, u16)> {
    (0..count).map(|n| (n, u16::try_from(1 + n % 60_000).unwrap(), u16::try_from(1 + n / 60_000).unwrap()))
}

const OUTSIDERS: &str = "ICMP errors from outside, by routers that no route of the tenant covers";
const BOUND: &str = "a bound on connections for each tenant (`ct-full`)";
const UNBOUNDED: &str = "`ct-full` at a stateless gateway";

#[test]
fn nft_is_stricter_as_its_table_says() {
    let held: [Rows; 13] = [
        (&["ICMP and ICMPv6"], packets::icmp),
        (&["addresses without a declared endpoint"], packets::undeclared),
        (&["IPv4 options"], packets::options),
        (&["IPv6 routing and authentication headers"], packets::headers),
        (&["fragments"], packets::reassembled),
        (&["neighbour solicitations"], packets::solicitations),
        (
            &["errors of a workload's own node about packets steered through a gateway inside the tenant"],
            packets::steered_errors,
        ),
        (&["`masquerade` of protocols without ports"], gateways::masquerade),
        (&["ICMP errors through a stateless gateway"], gateways::errors_through_a_stateless_gateway),
        (
            &["path MTU errors of a stateless gateway about packets that it translates"],
            gateways::path_mtu_of_a_stateless_gateway,
        ),
        (&["path MTU errors about replies to a masquerade address"], gateways::path_mtu_behind_a_masquerade),
        (&[OUTSIDERS], gateways::errors_from_outside),
        (&[UNBOUNDED, BOUND], gateways::bounds),
    ];
    each("nft", NFT, Fleet::Nft, &held);
}

#[test]
fn ebpf_is_stricter_as_its_table_says() {
    let held: [Rows; 11] = [
        (&["ICMP and ICMPv6"], packets::icmp),
        (&["addresses without a declared endpoint"], packets::undeclared),
        (&["IPv4 options, IPv6 extension headers"], packets::options_and_headers),
        (&["fragments"], packets::in_order),
        (&["packets over the MTU without DF"], packets::too_long),
        (&["neighbour solicitations"], packets::solicitations),
        (
            &["two translations that would show one connection's addresses and ports twice to one provider"],
            gateways::shown_twice,
        ),
        (&["`masquerade` of protocols without ports, and of SCTP"], gateways::masquerade),
        (&["ICMP errors through a stateless gateway"], gateways::errors_through_a_stateless_gateway),
        (&[OUTSIDERS], gateways::errors_from_outside),
        (&[UNBOUNDED, BOUND], gateways::bounds),
    ];
    each("ebpf", EBPF, Fleet::Ebpf, &held);
}

/// Tenants of one node.
const CROWD: u64 = 64;

/// The rest of the row about bounds: with more than 16 openers on a node each has its part of what the node holds.
#[test]
fn ebpf_openers_share_what_a_node_holds() {
    let crowd = (2..=CROWD).fold(String::new(), |mut text, n| {
        let _ = writeln!(
            text,
            "tenant crowd-{n} id {n} {{ segment s vni {} {{ 10.1.0.0/24 }} }}
endpoint x in crowd-{n}.s {{ at 10.1.0.5 mac 02:00:00:01:00:{n:02x} on n1 dev tap-{n} }}",
            20_000 + n
        );
        text
    });
    let text = pair::project("allow front -> front : udp", &crowd);
    single::on_a_node("rows, shares", &[(Fleet::Ebpf, text)], |scene| {
        // Devices of the other tenants, so that nothing is missing.
        support::sh(&format!(
            "seq 2 {CROWD} | sed 's/.*/link add name tap-& up type veth peer name far-&/' | ip -batch -"
        ));
        scene.apply(0);
        let router = backends::linux::numbers::router_mac("192.0.2.11".parse().unwrap());
        let socket = traffic::injector(&scene.a);
        let (share, more) = (1_048_576 / CROWD, 1_000);
        let before = traffic::arrived(&scene.b);
        for (n, x, y) in connections(u32::try_from(share + more).unwrap()) {
            let f = udp("10.1.0.5", "10.1.0.6", x, y);
            let frame = frames::frame([2, 0, 0, 0, 1, 5], router, &f, n, Twist::None);
            traffic::inject(&socket, &frame);
        }
        let full = || pins::reasons(scene.ground.pins()).unwrap().get("ct-full").copied().unwrap_or_default();
        let came = || traffic::arrived(&scene.b) - before;
        let until = Instant::now() + Duration::from_secs(5);
        while came() + full() < share + more && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(20));
        }
        assert_eq!((came(), full()), (share, more));
    });
}
