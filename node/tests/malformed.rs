//! Frames that end before their headers do, and headers whose checksum is wrong, as real packets on nodes of either target: nothing of
//! them comes out, and the node goes on. Where the machine lacks what a lab needs these tests say `SKIPPED` and what is missing.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test that fails says where"
)]

#[path = "attacks/ground.rs"]
#[expect(dead_code, reason = "each test uses a part")]
mod ground;

use ground::frames::{self, Fields, Twist};
use ground::support::Fleet;
use ground::wire::Place;
use ground::{FABRIC, Ground, POLICY, tcp, udp};

/// A workload's frame, and how one of a node's looks around it.
fn ways(g: &Ground, f: &Fields, id: u32) -> [(Place, Vec<u8>, bool); 2] {
    let (place, frame) = g.plain("web-1", "c1", f, id);
    let (underlay, _) = g.outer("c1", "c3", 10_011);
    let inner = frames::frame(g.router("c1"), g.router("c3"), f, id, Twist::None);
    [(place, frame, false), (underlay, inner, true)]
}

fn around(g: &Ground, tunnelled: bool, frame: &[u8]) -> Vec<u8> {
    if tunnelled { frames::vxlan(&g.outer("c1", "c3", 10_011).1, frame) } else { frame.to_vec() }
}

fn on(name: &str, fleet: Fleet) {
    let Some(g) = Ground::tapped(name, &format!("{FABRIC}{POLICY}"), fleet, &[]) else { return };
    let honest = |id: u32| {
        for f in [udp("10.1.0.5", "10.1.1.9", 4000, 514), tcp("fd00:1::5", "fd00:2::9", 4000, 5432)] {
            for (place, frame, tunnelled) in ways(&g, &f, id) {
                let effect = g.volley(&[(place, around(&g, tunnelled, &frame))]);
                assert_eq!(effect.arrivals.packets[&id].len(), 1, "{f:?}");
            }
        }
    };
    honest(1);
    // Cut at every byte up to the transport header's end, with and without a length that says so.
    let mut volley = Vec::new();
    for f in [udp("10.1.0.5", "10.1.1.9", 4001, 514), tcp("fd00:1::5", "fd00:2::9", 4001, 5432)] {
        let header = if f.src.is_ipv4() { 20 } else { 40 };
        for (place, frame, tunnelled) in ways(&g, &f, 2) {
            for end in 14..14 + header + if f.protocol == 17 { 8 } else { 20 } {
                let mut cut = frame[..end].to_vec();
                volley.push((place, around(&g, tunnelled, &cut)));
                if end < 14 + header {
                    continue;
                }
                let left =
                    u16::try_from(end - 14 - if f.src.is_ipv4() { 0 } else { 40 }).unwrap().to_be_bytes();
                if f.src.is_ipv4() {
                    cut[16..18].copy_from_slice(&left);
                    frames::mend4(&mut cut[14..34]);
                } else {
                    cut[18..20].copy_from_slice(&left);
                }
                volley.push((place, around(&g, tunnelled, &cut)));
            }
        }
    }
    let effect = g.volley(&volley);
    assert!(
        effect.arrivals.packets.is_empty() && effect.arrivals.strays.is_empty(),
        "{:?}",
        effect.arrivals.packets
    );
    // A header checksum that is wrong by a bit, of a new connection and of one that is known.
    for port in [4002, 4000] {
        let f = udp("10.1.0.5", "10.1.1.9", port, 514);
        for (place, mut frame, tunnelled) in ways(&g, &f, 3) {
            frame[25] ^= 1;
            let effect = g.volley(&[(place, around(&g, tunnelled, &frame))]);
            assert!(effect.arrivals.packets.is_empty(), "{:?}", effect.arrivals.packets);
            let node = if tunnelled { "c3" } else { "c1" };
            if fleet == Fleet::Ebpf {
                effect.only_dropped(node, "invalid", 1);
            }
        }
    }
    honest(4);
}

#[test]
fn nft_nodes_forward_nothing_of_them() {
    on("malformed, nft", Fleet::Nft);
}

#[test]
fn ebpf_nodes_forward_nothing_of_them() {
    on("malformed, eBPF", Fleet::Ebpf);
}
