//! Ten thousand random connections of a kind through a gateway of three instances, untranslated, translated and spread by their
//! ports, over nodes of every target: both directions cross the instance that the bucket names, on every node and whatever it
//! runs; the death of one moves its connections and no others, and its return brings them back. Where the machine lacks what
//! a lab needs this says `SKIPPED` and what is missing.

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

use compiler::algebra::parse_addr;
use compiler::buckets::{self, Direction};
use compiler::eval;
use compiler::ids::{GatewayId, NodeId};
use compiler::packet::{Flow, Packet};
use ground::Ground;
use ground::frames::{self, Fields, Twist};
use ground::support::Fleet;
use ground::wire::{Arrivals, Place};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::net::IpAddr;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// Connections of each kind.
const CONNECTIONS: usize = 10_000;
/// Addresses of each family that a workload has.
const ADDRESSES: usize = 60;
const INSTANCES: [&str; 3] = ["g1", "g2", "g3"];
/// How long the last packets of a round may take.
const PATIENCE: Duration = Duration::from_secs(10);

const FABRIC: &str = r#"
fabric f { encap vxlan port 4789 underlay mtu 9000 family ipv4 precedence top > tenant delegate tenant unknown-vni drop }
node c1 { vtep 192.0.2.11 dev eth0 }
node c2 { vtep 192.0.2.12 dev eth0 }
node g1 { vtep 192.0.2.21 dev eth0 gateway }
node g2 { vtep 192.0.2.22 dev eth0 gateway }
node g3 { vtep 192.0.2.23 dev eth0 gateway }
tenant client id 1 { segment s vni 10 { 10.1.0.0/24, fd00:1::/64 } }
tenant plain id 2 {
  segment s vni 20 { 10.2.0.0/24, fd00:2::/64 }
  expose s : tcp | udp to client via ends
}
tenant shown id 3 {
  segment s vni 30 { 10.1.0.0/24, fd00:1::/64 }
  expose s : tcp | udp to client via ends as 100.64.0.0/24, fd00:64::/64 clients as 100.65.0.0/24, fd00:65::/64
}
tenant ported id 4 {
  segment s vni 40 { 10.4.0.0/24, fd00:4::/64 }
  expose s : tcp | udp to client via ports
}
gateway ends { joins client, plain, shown instances g1, g2, g3 stateful }
gateway ports { joins client, ported instances g1, g2, g3 stateful affinity flow }
policy p for client in tenant { allow client -> plain | shown | ported }
"#;

/// A provider: its own prefixes, and how it and the client look to each other. Each one ends in the number of a host.
struct Provider {
    tenant: &'static str,
    own: [&'static str; 2],
    seen: [&'static str; 2],
    clients: [&'static str; 2],
}

const CLIENT: [&str; 2] = ["10.1.0.", "fd00:1::"];
const PROVIDERS: [Provider; 3] = [
    Provider {
        tenant: "plain",
        own: ["10.2.0.", "fd00:2::"],
        seen: ["10.2.0.", "fd00:2::"],
        clients: CLIENT,
    },
    Provider {
        tenant: "shown",
        own: CLIENT,
        seen: ["100.64.0.", "fd00:64::"],
        clients: ["100.65.0.", "fd00:65::"],
    },
    Provider {
        tenant: "ported",
        own: ["10.4.0.", "fd00:4::"],
        seen: ["10.4.0.", "fd00:4::"],
        clients: CLIENT,
    },
];

/// The n-th host under a prefix; its number reads alike in both families.
fn host(prefix: &str, n: usize) -> IpAddr {
    format!("{prefix}{n}").parse().unwrap()
}

/// The node of a host: hosts from 10 on are on c1, from 110 on c2.
fn side(n: usize) -> usize {
    n / 100
}

fn project() -> String {
    let mut out = FABRIC.to_owned();
    let mut add = |tenant: &str, own: &[&str; 2]| {
        for side in 0..2 {
            let hosts = || (10 + 100 * side)..(10 + 100 * side + ADDRESSES);
            let addresses: Vec<String> =
                own.iter().flat_map(|prefix| hosts().map(|n| host(prefix, n).to_string())).collect();
            let node = ["c1", "c2"][side];
            let _ = writeln!(
                out,
                "endpoint {tenant}-{node} in {tenant}.s {{ at {} on {node} dev {tenant} }}",
                addresses.join(", ")
            );
        }
    };
    add("client", &CLIENT);
    for provider in &PROVIDERS {
        add(provider.tenant, &provider.own);
    }
    out
}

/// SplitMix64.
struct Random(u64);

impl Random {
    fn below(&mut self, n: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((z ^ z >> 31) % u64::try_from(n).unwrap()).unwrap()
    }
}

#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Connection {
    provider: usize,
    family: usize,
    client: usize,
    server: usize,
    protocol: u8,
    x: u16,
    y: u16,
}

impl Connection {
    fn random(provider: usize, random: &mut Random) -> Self {
        let mut port = || u16::try_from(1_024 + random.below(64_000)).unwrap();
        let (x, y) = (port(), port());
        let mut end = || 10 + 100 * random.below(2) + random.below(ADDRESSES);
        let (client, server) = (end(), end());
        Self { provider, family: random.below(2), client, server, protocol: [6, 17][random.below(2)], x, y }
    }

    /// As the client sees it.
    fn asked(&self) -> Fields {
        let seen = PROVIDERS[self.provider].seen[self.family];
        let (src, dst) = (host(CLIENT[self.family], self.client), host(seen, self.server));
        Fields { src, dst, protocol: self.protocol, x: self.x, y: self.y }
    }

    /// As the server sees it.
    fn served(&self) -> Fields {
        let Provider { own, clients, .. } = &PROVIDERS[self.provider];
        let (src, dst) = (host(clients[self.family], self.client), host(own[self.family], self.server));
        Fields { src, dst, ..self.asked() }
    }

    /// The flow and its gateway, by `eval`.
    fn flow(&self, g: &Ground) -> (Flow, GatewayId) {
        let (c, Fields { src, dst, protocol, x, y }) = (&g.p.compiled, self.asked());
        let space = c.model.owners.iter().find(|(_, owner)| owner.name == "client").unwrap().0;
        let ((family, src), (_, dst)) = (parse_addr(src), parse_addr(dst));
        let d = eval::decide(c, &Packet { space, family, src, dst, protocol, x, y }).unwrap();
        assert!(d.allow, "{self:?}");
        (Flow { src: d.from.unwrap(), dst: d.to.unwrap(), family, protocol, x, y }, d.via.unwrap())
    }
}

fn turned(f: &Fields) -> Fields {
    Fields { src: f.dst, dst: f.src, x: f.y, y: f.x, ..*f }
}

/// Bytes that each segment carries.
const DATA: u32 = 20;

/// The packet of a round in one direction: of TCP the handshake's first, then one that goes on where that ended.
fn segment(protocol: u8, round: u32, reply: bool) -> Twist {
    let (ask, answer) = (1_000, 5_000);
    let after = |start: u32, rounds: u32| if rounds == 0 { start } else { start + 1 + rounds * DATA };
    match (protocol, round, reply) {
        (17, ..) => Twist::None,
        (_, 0, false) => Twist::Segment(0x02, ask, 0),
        (_, 0, true) => Twist::Segment(0x12, answer, after(ask, 1)),
        (_, _, false) => Twist::Segment(0x18, after(ask, round), after(answer, round)),
        (_, _, true) => Twist::Segment(0x18, after(answer, round), after(ask, round + 1)),
    }
}

/// Where a packet was seen: instances, and ends with the addresses it had there.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Seen {
    Through(String),
    At(Place, IpAddr, IpAddr),
}

/// Sends one packet of each connection in one direction, and says what is not as it should be.
fn send(g: &Ground, all: &[Connection], through: &[NodeId], round: u32, reply: bool) -> Vec<String> {
    let name = |tenant: &str, n: usize| format!("{tenant}-{}", ["c1", "c2"][side(n)]);
    let hosts: BTreeMap<String, Place> = ["client", "plain", "shown", "ported"]
        .iter()
        .flat_map(|tenant| [name(tenant, 0), name(tenant, 100)])
        .map(|name| (name.clone(), g.host(&name)))
        .collect();
    let routers = ["c1", "c2"].map(|node| g.router(node));
    let ends = |c: &Connection| {
        let client = (hosts[&name("client", c.client)], side(c.client));
        let server = (hosts[&name(PROVIDERS[c.provider].tenant, c.server)], side(c.server));
        if reply { (server, client) } else { (client, server) }
    };
    // Made beforehand: they leave as fast as the sender can.
    let frames: Vec<(Place, Vec<u8>)> = (1..)
        .zip(all)
        .map(|(id, c)| {
            let ((from, node), _) = ends(c);
            let fields = if reply { turned(&c.served()) } else { c.asked() };
            let twist = segment(c.protocol, round, reply);
            (from, frames::frame(g.wires.mac(from), routers[node], &fields, id, twist))
        })
        .collect();
    let before = g.wires.drops();
    let (seen, stop) = (Mutex::new(Arrivals::default()), AtomicBool::new(false));
    std::thread::scope(|scope| {
        scope.spawn(|| g.wires.watch(&seen, &stop));
        for (from, frame) in &frames {
            g.wires.send(*from, frame);
        }
        let until = Instant::now() + PATIENCE;
        let ready = || seen.lock().unwrap().packets.values().map(Vec::len).sum::<usize>() >= 2 * all.len();
        while !ready() && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(20));
        }
        // What comes twice comes now.
        std::thread::sleep(Duration::from_millis(50));
        stop.store(true, Ordering::Release);
    });
    let seen = seen.into_inner().unwrap();
    let name = |node: NodeId| g.p.compiled.model.nodes[node].name.clone();
    let mut wrong = Vec::new();
    for ((id, c), instance) in (1..).zip(all).zip(through) {
        let is = seen.packets.get(&id).into_iter().flatten();
        let mut is: Vec<Seen> = is
            .map(|(place, src, dst)| match place {
                Place::Underlay(n) => Seen::Through(name(g.lab.topology.nodes[*n].node)),
                _ => Seen::At(*place, *src, *dst),
            })
            .collect();
        is.sort();
        let (_, (to, _)) = ends(c);
        let there = if reply { turned(&c.asked()) } else { c.served() };
        let due = [Seen::Through(name(*instance)), Seen::At(to, there.src, there.dst)];
        if is != due {
            wrong.push(format!("round {round}, reply {reply}: {c:?} was seen at {is:?}, not {due:?}"));
        }
    }
    let moved = |(before, after): (&BTreeMap<String, u64>, BTreeMap<String, u64>)| {
        let reasons =
            after.into_iter().map(|(reason, n)| (n - before.get(&reason).copied().unwrap_or(0), reason));
        reasons.filter(|(n, _)| *n > 0).map(|(n, reason)| format!("{reason} {n}")).collect::<Vec<_>>()
    };
    if !wrong.is_empty() {
        let drops: Vec<_> = before.iter().zip(g.wires.drops()).map(moved).collect();
        wrong.insert(0, format!("{} wrong; dropped by each node: {drops:?}", wrong.len()));
    }
    wrong
}

fn both_directions_cross_one_instance(fleet: Fleet) {
    let begun = Instant::now();
    let name = format!("pairs {fleet:?}");
    let Some(mut g) = Ground::tapped(&name, &project(), fleet, &INSTANCES) else { return };
    let up = begun.elapsed();
    let mut random = Random(0x5057);
    let mut all = BTreeSet::new();
    for provider in 0..PROVIDERS.len() {
        while all.len() < (provider + 1) * CONNECTIONS {
            all.insert(Connection::random(provider, &mut random));
        }
    }
    let all: Vec<Connection> = all.into_iter().collect();
    let flows: Vec<(Flow, GatewayId)> = all.iter().map(|c| c.flow(&g)).collect();
    let dead = g.node("g2");
    let by_buckets = |down: &[NodeId]| -> Vec<NodeId> {
        let of = |(flow, gateway): &(Flow, GatewayId)| {
            let [there, back] = [Direction::Request, Direction::Reply].map(|direction| {
                buckets::passes(&g.p.compiled.model, *gateway, flow, direction, down).unwrap()
            });
            assert_eq!(there, back);
            there
        };
        flows.iter().map(of).collect()
    };
    let (before, after) = (by_buckets(&[]), by_buckets(&[dead]));
    let rounds = |g: &Ground, through: &[NodeId], round: u32| {
        for reply in [false, true] {
            let wrong = send(g, &all, through, round, reply);
            assert!(wrong.is_empty(), "{}", wrong[..wrong.len().min(12)].join("\n"));
        }
    };
    let lead = |g: &Ground, down: &[&str]| {
        let artifacts = tempfile::tempdir().unwrap();
        fleet.build(&g.p, down, artifacts.path());
        for node in ["c1", "c2"] {
            g.lab.apply(&g.p.compiled, g.node(node), artifacts.path()).unwrap();
        }
    };
    rounds(&g, &before, 0);
    g.lab.unplug(dead).unwrap();
    lead(&g, &["g2"]);
    rounds(&g, &after, 1);
    g.lab.plug(dead).unwrap();
    lead(&g, &[]);
    rounds(&g, &before, 2);
    // The rounds showed that packets go by these; this, that they are what is promised.
    let mut moved = BTreeMap::<(usize, NodeId), usize>::new();
    for ((c, was), is) in all.iter().zip(&before).zip(&after) {
        assert_eq!(*was == dead, was != is, "{c:?}: {was:?}, then {is:?}");
        if was != is {
            *moved.entry((c.provider, *is)).or_default() += 1;
        }
    }
    assert_eq!(moved.len(), 2 * PROVIDERS.len(), "each other instance takes some of each kind: {moved:?}");
    for provider in 0..PROVIDERS.len() {
        let of = moved.iter().filter(|((p, _), _)| *p == provider).map(|(_, n)| n).sum::<usize>();
        assert!((CONNECTIONS / 4..CONNECTIONS / 2).contains(&of), "{of} moved");
    }
    println!(
        "{fleet:?}: {} connections, three times both ways, in {:?} with {up:?} for the lab; {} moved",
        all.len(),
        begun.elapsed(),
        moved.values().sum::<usize>()
    );
}

#[test]
fn both_directions_of_random_connections_cross_one_instance_on_nft() {
    both_directions_cross_one_instance(Fleet::Nft);
}

#[test]
fn both_directions_of_random_connections_cross_one_instance_on_ebpf() {
    both_directions_cross_one_instance(Fleet::Ebpf);
}

/// c1, g1 and g3 run nft, c2 and g2 eBPF, and connections go from each of c1 and c2 to each: the instance that dies runs eBPF.
#[test]
fn both_directions_of_random_connections_cross_one_instance_of_a_mixed_fleet() {
    both_directions_cross_one_instance(Fleet::Mixed);
}

#[test]
fn both_directions_of_random_connections_cross_one_instance_of_a_fleet_mixed_otherwise() {
    both_directions_cross_one_instance(Fleet::MixedOtherwise);
}
