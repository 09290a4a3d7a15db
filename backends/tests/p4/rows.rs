//! What the table of capabilities calls stricter, row by row.

use super::bench::{Bench, running};
use super::common::{Project, text};
use super::frame::{Ip, Outer, SYN, header_checksum};
use super::lower;
use compiler::algebra::Family;
use partywall_backends::capability::{Level, P4};
use partywall_backends::linux::numbers::router_mac;
use partywall_backends::p4::Model;
use partywall_backends::p4::run::Outcome;
use std::collections::{BTreeMap, BTreeSet};

const X: [u8; 6] = [2, 0, 0, 0, 0, 5];
const Y: [u8; 6] = [2, 0, 0, 0, 0, 6];

/// Two workloads `x` and `y` of tenant `a` on one node, another of tenant `b` behind a stateless gateway.
fn project(rules: &str) -> Project {
    text(&format!(
        r#"
fabric f {{ encap vxlan port 4789 underlay mtu 1500 family ipv4 precedence tenant delegate tenant stateless-replies "a test" }}
node c1 {{ vtep 192.0.2.11 dev eth0 }}
node c2 {{ vtep 192.0.2.12 dev eth0 }}
node g1 {{ vtep 192.0.2.21 dev eth0 gateway }}
tenant a id 7 {{ segment s vni 10 {{ 10.0.0.0/24, fd00::/64 }} }}
tenant b id 8 {{ segment s vni 20 {{ 10.9.0.0/24 }} expose s : icmp to a via g }}
gateway g {{ joins a, b instances g1 stateless }}
endpoint x in a.s {{ at 10.0.0.5, fd00::5 mac 02:00:00:00:00:05 on c1 dev tap0 }}
endpoint y in a.s {{ at 10.0.0.6, fd00::6 mac 02:00:00:00:00:06 on c1 dev tap1 }}
endpoint z in b.s {{ at 10.9.0.5 mac 02:00:00:00:01:05 on c2 dev tap0 }}
policy p for a in tenant {{ allow a -> b  {rules} }}
"#
    ))
}

fn on<T>(project: &Project, name: &str, run: impl FnOnce(&mut Bench<'_>, &Model) -> T) -> T {
    let (id, _) = project.compiled.model.nodes.iter().find(|(_, n)| n.name == name).unwrap();
    let model = lower(project, id);
    let running = running(&model);
    let mut bench = Bench::new(&project.compiled, id, &model, &running);
    run(&mut bench, &model)
}

/// A packet from `x` to `y`.
fn there(protocol: u8, x: u16, y: u16) -> Ip {
    Ip { family: Family::V4, src: 0x0a00_0005, dst: 0x0a00_0006, protocol, x, y, flags: 0, ttl: 9 }
}

/// The same from `y` to `x`.
fn back(protocol: u8, x: u16, y: u16) -> Ip {
    Ip { src: 0x0a00_0006, dst: 0x0a00_0005, ..there(protocol, x, y) }
}

fn six(ip: Ip) -> Ip {
    let wide = |address: u128| (0xfd00 << 112) | (address & 0xff);
    Ip { family: Family::V6, src: wide(ip.src), dst: wide(ip.dst), ..ip }
}

/// Bytes of a packet between `x` and `y` as the sender's device has them.
fn leave(bench: &mut Bench<'_>, model: &Model, ip: &Ip, bytes: &[u8]) -> Outcome {
    let (dev, mac) = if ip.src & 0xff == 5 { ("tap0", X) } else { ("tap1", Y) };
    let router = router_mac("192.0.2.11".parse().unwrap());
    bench.run(model.ports[dev], Ip::framed(ip.family, router, mac, bytes))
}

/// What happens on `c1` to each of these packets: `None`, forwarded; or why not.
fn each(rules: &str, packets: &[(Ip, Vec<u8>, Option<&str>)]) {
    on(&project(rules), "c1", |bench, model| {
        for (ip, bytes, reason) in packets {
            let outcome = leave(bench, model, ip, bytes);
            match reason {
                Some(_) => bench.dropped(&outcome, *reason, &|| format!("{rules}: {ip:?}")),
                None => assert!(outcome.sent.is_some(), "{rules}: {ip:?}: {outcome:?}"),
            }
        }
    });
}

fn plain(ip: Ip, reason: Option<&'static str>) -> (Ip, Vec<u8>, Option<&'static str>) {
    let bytes = ip.bytes();
    (ip, bytes, reason)
}

fn icmp() {
    let asks = "allow x -> y : icmp/echo-request | icmp6/echo-request";
    each(
        asks,
        &[
            plain(there(1, 8, 0), None),
            plain(back(1, 0, 0), None),
            plain(six(there(58, 128, 0)), None),
            plain(six(back(58, 129, 0)), None),
            // Neither is what answers an echo request.
            plain(back(1, 5, 0), Some("default")),
            plain(back(1, 14, 0), Some("default")),
            plain(six(back(58, 1, 0)), Some("default")),
        ],
    );
    // No answer, but what a rule allows.
    each("allow x -> y : icmp", &[plain(there(1, 5, 0), None), plain(back(1, 5, 0), Some("default"))]);
}

fn icmp_errors() {
    let connection = "allow x -> y : udp/53";
    let (question, error) = (there(17, 5000, 53), back(1, 3, 3));
    each(connection, &[plain(question.clone(), None), plain(error.clone(), Some("default"))]);
    let allowed = format!("{connection}  allow y -> x : icmp/destination-unreachable");
    each(&allowed, &[plain(question, None), plain(error, None)]);
    // Not through a gateway, whatever rules say.
    on(&project(""), "g1", |bench, model| {
        let vtep = |n: u8| std::net::IpAddr::from([192, 0, 2, n]);
        let macs = (router_mac(vtep(21)), router_mac(vtep(11)));
        let mut run = |kind: u16| {
            let ip = Ip { dst: 0x0a09_0005, ..there(1, kind, 0) };
            let outer =
                Outer { src: vtep(11), dst: vtep(21), macs, vni: 10, port: model.port, source_port: 50_000 };
            bench.run(0, outer.frame(&ip.frame(macs.0, macs.1)))
        };
        assert!(run(8).sent.is_some());
        assert!(run(3).sent.is_none());
    });
}

fn undeclared() {
    let unknown = 0x0a00_004d;
    each(
        "allow a -> a : udp",
        &[
            plain(there(17, 1, 2), None),
            plain(Ip { dst: unknown, ..there(17, 1, 2) }, Some("no-route")),
            plain(Ip { src: 0x0a00_0205, ..there(17, 1, 2) }, Some("spoof")),
        ],
    );
}

fn options() {
    let ip = there(17, 1, 2);
    let mut with_options = ip.bytes();
    with_options.splice(20..20, [1, 1, 1, 0]);
    with_options[0] = 0x46;
    with_options[3] += 4;
    header_checksum(&mut with_options);
    let hop_by_hop = six(there(0, 0, 0));
    each(
        "allow a -> a : ip",
        &[
            plain(ip.clone(), None),
            (ip, with_options, Some("invalid")),
            plain(six(there(47, 0, 0)), None),
            plain(hop_by_hop, Some("invalid")),
        ],
    );
}

fn fragments() {
    let ip = there(17, 1, 2);
    let flagged = |high: u8, low: u8| {
        let mut bytes = ip.bytes();
        (bytes[6], bytes[7]) = (high, low);
        header_checksum(&mut bytes);
        bytes
    };
    each(
        "allow a -> a : ip",
        &[
            (ip.clone(), flagged(0x40, 0), None),
            (ip.clone(), flagged(0x20, 0), Some("fragment")),
            (ip.clone(), flagged(0, 3), Some("fragment")),
            plain(six(there(44, 0, 0)), Some("fragment")),
        ],
    );
}

fn neighbours() {
    on(&project("allow a -> a : ip"), "c1", |bench, model| {
        // Who has fe80::1, or the router's address?
        for target in [(0xfe80u128 << 112) | 1, (0xfd00 << 112) | 1] {
            let group = (0xff02u128 << 112) | 0x1_ff00_0001;
            let mut ip = Ip { dst: group, ttl: 255, ..six(there(58, 135, 0)) }.bytes();
            ip.truncate(48);
            ip.extend(target.to_be_bytes());
            ip[5] = 24;
            let outcome = leave(bench, model, &six(there(58, 135, 0)), &ip);
            assert!(outcome.sent.is_none(), "{outcome:?}");
        }
        // Who asks by ARP is answered.
        let asked = [0, 1, 8, 0, 6, 4, 0, 1];
        let arp = [&asked[..], &X, &[10, 0, 0, 5], &[0; 6], &[10, 0, 0, 1]].concat();
        let frame = [&[0xff; 6][..], &X, &[8, 6], &arp].concat();
        let answer = bench.run(model.ports["tap0"], frame).sent;
        assert!(answer.is_some_and(|(port, _)| port == model.ports["tap0"]));
    });
}

fn errors_of_the_path() {
    let old = Ip { ttl: 1, ..there(47, 0, 0) };
    let long = |by: usize| {
        let mut bytes = there(47, 0, 0).bytes();
        bytes.resize(by, 0);
        bytes[2..4].copy_from_slice(&u16::try_from(by).unwrap().to_be_bytes());
        header_checksum(&mut bytes);
        bytes
    };
    let packets = [
        plain(there(47, 0, 0), None),
        plain(old, Some("ttl")),
        (there(47, 0, 0), long(1450), None),
        (there(47, 0, 0), long(1451), Some("too-big")),
    ];
    each("allow a -> a : ip", &packets);
    // A SYN with a maximum segment size goes on as it is.
    on(&project("allow a -> a : tcp"), "c1", |bench, model| {
        let ip = Ip { flags: SYN, ..there(6, 5000, 80) };
        let mut bytes = ip.bytes();
        bytes[32] = 0x60;
        bytes[40..44].copy_from_slice(&[2, 4, 0x23, 0x28]);
        let (_, out) = leave(bench, model, &ip, &bytes).sent.unwrap();
        assert_eq!(out[34..], bytes[20..]);
    });
}

fn connections() {
    on(&project("allow a -> a : udp"), "c1", |bench, model| {
        for n in 0..70_000u32 {
            let ip = there(17, (n & 0xffff) as u16, 53 + (n >> 16) as u16);
            let outcome = leave(bench, model, &ip, &ip.bytes());
            assert!(outcome.sent.is_some(), "connection {n}: {outcome:?}");
        }
    });
}

fn log() {
    let run = |rule: &str| {
        on(&project(rule), "c1", |bench, model| {
            let ip = there(17, 1, 53);
            let outcome = leave(bench, model, &ip, &ip.bytes());
            let mut entries = model.entries.clone();
            entries.renumber(1);
            let said: BTreeMap<_, _> = entries
                .by_key
                .into_iter()
                .map(|(key, (action, params, _))| (key, (action, params)))
                .collect();
            (outcome, said)
        })
    };
    let (silent, loud) = (run("asks: allow x -> y : udp/53"), run("asks: allow x -> y : udp/53 log"));
    assert_eq!(silent, loud);
    assert!(loud.0.sent.is_some() && !loud.0.counted.is_empty(), "{:?}", loud.0);
}

#[test]
fn every_row_that_is_stricter_is_so() {
    let held: [(&str, fn()); 9] = [
        ("ICMP and ICMPv6", icmp),
        ("ICMP errors about a known connection", icmp_errors),
        ("addresses without a declared endpoint", undeclared),
        ("IPv4 options, IPv6 extension headers", options),
        ("fragments", fragments),
        ("IPv6 neighbour discovery", neighbours),
        ("TTL and path MTU errors", errors_of_the_path),
        ("a bound on connections for each tenant (`ct-full`)", connections),
        ("`log`", log),
    ];
    let stricter = P4.iter().filter(|row| row.level == Level::Stricter).map(|row| row.construct);
    let names = held.iter().map(|(name, _)| *name);
    assert_eq!(names.collect::<BTreeSet<_>>(), stricter.collect(), "a test for each row");
    for (name, holds) in held {
        println!("{name}");
        holds();
    }
}
