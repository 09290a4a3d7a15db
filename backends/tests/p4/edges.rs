//! Packets that no policy is asked about.

use super::bench::{Bench, running};
use super::common::text;
use super::frame::{Ip, Outer, SYN};
use super::{SLICE, lower};
use compiler::algebra::Family;
use partywall_backends::linux::numbers::router_mac;
use partywall_backends::p4::run::Switch;

/// What no policy is asked about: a permitted packet with one thing wrong at a time.
#[test]
fn a_packet_with_one_thing_wrong_is_dropped_for_that() {
    let project = text(SLICE);
    let c = &project.compiled;
    let (id, _) = c.model.nodes.iter().find(|(_, n)| n.name == "c1").unwrap();
    let model = lower(&project, id);
    let running = running(&model);
    let mut bench = Bench::new(c, id, &model, &running);
    let vtep = |name: &str| c.model.nodes.values().find(|n| n.name == name).unwrap().vtep;
    let (router, sender) = (router_mac(vtep("c1")), router_mac(vtep("c2")));
    // b6 on c2 to b5 here, and a5 here to a7 here.
    let ip = Ip {
        family: Family::V4,
        src: 0x0a00_0006,
        dst: 0x0a00_0005,
        protocol: 17,
        x: 5,
        y: 6,
        flags: 0,
        ttl: 9,
    };
    let outer = |src: &str, vni: u32| Outer {
        src: vtep(src),
        dst: vtep("c1"),
        macs: (router, sender),
        vni,
        port: 4789,
        source_port: 50_000,
    };
    let arrive = |bench: &mut Bench<'_>, outer: Outer, inner: &[u8], reason: Option<&str>| {
        let outcome = bench.run(0, outer.frame(inner));
        match reason {
            Some(reason) => bench.dropped(&outcome, Some(reason), &|| reason.to_owned()),
            None => assert!(outcome.sent.is_some(), "{outcome:?}"),
        }
    };
    let good = ip.frame(router, sender);
    arrive(&mut bench, outer("c2", 20), &good, None);
    arrive(&mut bench, outer("c2", 99), &good, Some("unknown-vni"));
    arrive(&mut bench, outer("g1", 20), &good, Some("bad-vtep"));
    arrive(
        &mut bench,
        Outer { src: "192.0.2.99".parse().unwrap(), ..outer("c2", 20) },
        &good,
        Some("bad-vtep"),
    );
    arrive(&mut bench, Outer { dst: vtep("g1"), ..outer("c2", 20) }, &good, Some("bad-vtep"));
    // In the VNI of another segment of the same tenant.
    let inside =
        Ip { src: 0x0a00_0006, dst: 0x0a00_0107, x: 1, y: 443, protocol: 6, flags: SYN, ..ip.clone() };
    arrive(&mut bench, outer("c2", 11), &inside.frame(router, sender), None);
    arrive(&mut bench, outer("c2", 10), &inside.frame(router, sender), Some("bad-vtep"));
    let changed = |at: usize, value: u8| {
        let mut bytes = good.clone();
        bytes[at] = value;
        bytes
    };
    arrive(&mut bench, outer("c2", 20), &changed(14, 0x46), Some("invalid"));
    arrive(&mut bench, outer("c2", 20), &changed(25, 1), Some("invalid"));
    arrive(&mut bench, outer("c2", 20), &good[..30], Some("invalid"));
    arrive(&mut bench, outer("c2", 20), &good[..50], Some("invalid"));
    arrive(&mut bench, outer("c2", 20), &Ip { ttl: 1, ..ip.clone() }.frame(router, sender), Some("ttl"));
    // From a workload: b5, on tap2.
    let port = model.ports["tap2"];
    let mac = [2, 0, 0, 0, 1, 5];
    let out = Ip { src: 0x0a00_0005, dst: 0x0a00_0006, ..ip };
    for (port, mac, out, reason) in [
        (port, mac, out.clone(), None),
        (port, [2, 0, 0, 0, 1, 6], out.clone(), Some("spoof")),
        (port, mac, Ip { src: 0x0a00_0006, dst: 0x0a00_0005, ..out.clone() }, Some("spoof")),
        (model.ports["tap0"], mac, out.clone(), Some("spoof")),
        (300, mac, out.clone(), Some("spoof")),
        (port, mac, Ip { dst: 0xc000_020b, ..out.clone() }, Some("to-host")),
        (port, mac, Ip { dst: 0x0a00_00fe, ..out.clone() }, Some("no-route")),
    ] {
        let outcome = bench.run(port, out.frame(router, mac));
        match reason {
            Some(reason) => bench.dropped(&outcome, Some(reason), &|| reason.to_owned()),
            None => assert!(outcome.sent.is_some(), "{outcome:?}"),
        }
    }
    // Nothing is forwarded before a generation is in force.
    let all: Vec<_> = running.entries.iter().map(|(entry, _)| entry).collect();
    let closed = Switch::with(&running.program, &all, 0);
    assert!(closed.packet(port, &out.frame(router, mac)).sent.is_none());
}
