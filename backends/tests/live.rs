//! Gateway instances in the emitted maps: both directions of a connection go to one, a dead one's flows move and no others do.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test"
)]

#[expect(dead_code, reason = "each test uses a part")]
mod common;

use common::{Project, text};
use compiler::algebra::{Family, parse_addr};
use compiler::buckets::{self, Direction as Way};
use compiler::ids::{NodeId, OwnerId};
use compiler::packet::{End, Flow, proto};
use partywall_backends::linux::model::Direction;
use partywall_backends::linux::walk::{Arrived, Outcome, leg, walk};
use partywall_backends::linux::{Model, numbers};
use partywall_backends::nft::Nft;
use partywall_backends::nft::live::{Unreadable, with_down};
use partywall_backends::{Artifact, Backend as _, Request, build};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

/// Endpoints of each tenant where connections are compared.
const HOSTS: u32 = 120;
/// And where texts are.
const FEW: u32 = 3;

/// `a` on c1 opens to `b` on c2 with both ends translated, `c` on c1 to `d` on c2 with none, in both families; `a` to `net`.
fn source(on_failure: &str, hosts: u32) -> String {
    let mut out = format!(
        r#"
fabric f {{ encap vxlan port 4789 underlay mtu 9000 family ipv4 precedence top > tenant delegate tenant unknown-vni drop }}
node c1 {{ vtep 192.0.2.11 dev eth0 }}
node c2 {{ vtep 192.0.2.12 dev eth0 }}
node g1 {{ vtep 192.0.2.21 dev eth0 gateway }}
node g2 {{ vtep 192.0.2.22 dev eth0 gateway }}
node g3 {{ vtep 192.0.2.23 dev eth0 gateway }}
tenant a id 1 {{ segment s vni 10 {{ 10.0.0.0/24, fd00:a::/64 }} }}
tenant b id 2 {{
  segment s vni 20 {{ 10.0.0.0/24, fd00:b::/64 }}
  expose s : tcp/443 to a via g as 100.64.0.0/24, fd00:64::/64 clients as 100.65.0.0/24, fd00:65::/64
}}
tenant c id 3 {{ segment s vni 30 {{ 10.3.0.0/24, fd00:c::/64 }} }}
tenant d id 4 {{ segment s vni 40 {{ 10.4.0.0/24, fd00:d::/64 }} expose s : tcp/443 to c via g }}
gateway g {{ joins a, b, c, d instances g1, g2, g3 affinity symmetric stateful {on_failure} }}
gateway one {{ joins c instances g2 stateful }}
policy pa for a in tenant {{ allow a -> b }}
policy pc for c in tenant {{ allow c -> d  steered: allow c -> c via one }}
"#
    );
    for (tenant, net, node) in [("a", 0, "c1"), ("b", 0, "c2"), ("c", 3, "c1"), ("d", 4, "c2")] {
        for host in 1..=hosts {
            let at = host + 9;
            let _ = writeln!(
                out,
                "endpoint {tenant}{at} in {tenant}.s {{ at 10.{net}.0.{at}, fd00:{tenant}::{at:x} on {node} dev {tenant}{at} }}"
            );
        }
    }
    out
}

/// Deterministic, so that a failure can be looked at (Marsaglia, xorshift).
struct Random(u64);

impl Random {
    fn below(&mut self, n: u32) -> u32 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        u32::try_from((self.0 >> 33) % u64::from(n)).unwrap()
    }
}

/// A connection, and each end's address as the other end's space sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Connection {
    flow: Flow,
    src_seen: u128,
    dst_seen: u128,
}

fn address(text: &str) -> (Family, u128) {
    parse_addr(text.parse().unwrap())
}

fn connections(p: &Project, count: usize) -> Vec<Connection> {
    let owner = |name: &str| p.compiled.model.owners.iter().find(|(_, o)| o.name == name).unwrap().0;
    let mut random = Random(0x5057);
    let mut out = BTreeSet::new();
    while out.len() < count {
        let (s, d) = (10 + random.below(HOSTS), 10 + random.below(HOSTS));
        let port = u16::try_from(1024 + random.below(60_000)).unwrap();
        let v6 = random.below(2) == 1;
        let translated = random.below(2) == 1;
        let at = |net: u32, host: u32| format!("10.{net}.0.{host}");
        let at6 = |net: &str, host: u32| format!("fd00:{net}::{host:x}");
        let (src, dst, src_seen, dst_seen, from, to) = match (translated, v6) {
            (true, false) => {
                let seen = |net: u32, host: u32| format!("100.{net}.0.{host}");
                (at(0, s), at(0, d), seen(65, s), seen(64, d), "a", "b")
            }
            (true, true) => (at6("a", s), at6("b", d), at6("65", s), at6("64", d), "a", "b"),
            (false, false) => (at(3, s), at(4, d), at(3, s), at(4, d), "c", "d"),
            (false, true) => (at6("c", s), at6("d", d), at6("c", s), at6("d", d), "c", "d"),
        };
        let (family, src) = address(&src);
        let end = |name: &str, address: u128| End { owner: owner(name), address };
        let flow = Flow {
            src: end(from, src),
            dst: end(to, address(&dst).1),
            family,
            protocol: proto::TCP,
            x: port,
            y: 443,
        };
        out.insert(Connection { flow, src_seen: address(&src_seen).1, dst_seen: address(&dst_seen).1 });
    }
    out.into_iter().collect()
}

/// The models of c1 and c2.
fn models(p: &Project, down: &[NodeId]) -> BTreeMap<String, Model> {
    let nodes = p.compiled.model.nodes.iter().filter(|(_, n)| !n.gateway);
    nodes
        .map(|(id, node)| {
            (
                node.name.clone(),
                Nft.lower(&p.compiled, &p.sources, id, down).unwrap_or_else(|e| panic!("{e:?}")),
            )
        })
        .collect()
}

/// The instance that a node sends one direction of a connection to.
fn sent_to(p: &Project, model: &Model, c: &Connection, way: Way) -> Option<String> {
    let f = &c.flow;
    let (direction, here, src, dst, leaving) = match way {
        Way::Request => (Direction::Original, f.src, f.src.address, c.dst_seen, (f.src.address, c.dst_seen)),
        Way::Reply => (Direction::Reply, f.dst, c.src_seen, f.dst.address, (f.dst.address, c.src_seen)),
    };
    let owner = &p.compiled.model.owners[here.owner];
    let dev = format!("{}{}", owner.name, here.address & 0xff);
    let zone = numbers::tenant_zone(owner.id());
    let arrived = Arrived {
        dev: &dev,
        role: 0,
        zone,
        direction,
        family: f.family,
        src,
        dst,
        protocol: f.protocol,
        x: f.x,
        y: f.y,
    };
    let Outcome::Via(verdict) = walk(&model.rules, &arrived) else {
        panic!("{c:?} {way:?} goes by no gateway")
    };
    // The hash is over what the packet itself has.
    let (x, y) = if way == Way::Request { (f.x, f.y) } else { (f.y, f.x) };
    let mark = leg(&model.rules, &Arrived { src: leaving.0, dst: leaving.1, x, y, ..arrived }, verdict)?;
    model.instances.get(usize::try_from((mark - 0x6000_0000) >> 25).unwrap()).cloned()
}

/// By connection: the instance of both directions.
fn routed(p: &Project, connections: &[Connection], down: &[NodeId]) -> Vec<Option<String>> {
    let models = models(p, down);
    let gateway = p.compiled.model.gateways.iter().find(|(_, g)| g.name == "g").unwrap().0;
    connections
        .iter()
        .map(|c| {
            let forth = sent_to(p, &models["c1"], c, Way::Request);
            let back = sent_to(p, &models["c2"], c, Way::Reply);
            assert_eq!(forth, back, "{c:?}");
            let meant = buckets::passes(&p.compiled.model, gateway, &c.flow, Way::Request, down);
            assert_eq!(forth, meant.map(|n| p.compiled.model.nodes[n].name.clone()), "{c:?}");
            forth
        })
        .collect()
}

fn node(p: &Project, name: &str) -> NodeId {
    p.compiled.model.nodes.iter().find(|(_, n)| n.name == name).unwrap().0
}

#[test]
fn a_dead_instance_moves_its_flows_and_no_others() {
    let p = text(&source("", HOSTS));
    let connections = connections(&p, 10_000);
    let before = routed(&p, &connections, &[]);
    for name in ["g1", "g2", "g3"] {
        let mine = before.iter().filter(|i| i.as_deref() == Some(name)).count();
        assert!((2_500..4_200).contains(&mine), "{name} has {mine} of 10,000");
        let after = routed(&p, &connections, &[node(&p, name)]);
        let mut taken = BTreeMap::<&str, usize>::new();
        for (was, is) in before.iter().zip(&after) {
            let is = is.as_deref().unwrap();
            if was.as_deref() == Some(name) {
                *taken.entry(is).or_default() += 1;
            } else {
                assert_eq!(was.as_deref(), Some(is));
            }
        }
        assert!(!taken.contains_key(name) && taken.values().all(|n| *n * 5 > mine), "{taken:?} of {mine}");
    }
    let two = routed(&p, &connections, &[node(&p, "g1"), node(&p, "g2")]);
    assert!(two.iter().all(|i| i.as_deref() == Some("g3")));
    let none = [node(&p, "g1"), node(&p, "g2"), node(&p, "g3")];
    assert!(routed(&p, &connections, &none).iter().all(Option::is_none));
}

#[test]
fn flows_of_a_dead_instance_are_dropped_where_the_gateway_says_so() {
    let p = text(&source("on-failure drop", HOSTS));
    let connections = connections(&p, 2_000);
    let before = routed(&p, &connections, &[]);
    let after = routed(&p, &connections, &[node(&p, "g2")]);
    for (was, is) in before.iter().zip(&after) {
        assert_eq!(*is, was.clone().filter(|name| name != "g2"));
    }
    assert!(after.iter().any(Option::is_none));
}

#[test]
fn ports_pick_the_instance_where_the_gateway_says_so() {
    let symmetric = text(&source("", HOSTS));
    let p = text(&source("", HOSTS).replace("affinity symmetric", "affinity flow"));
    let connections = connections(&p, 5_000);
    let instances = routed(&p, &connections, &[]);
    let by_hosts = routed(&symmetric, &connections, &[]);
    let elsewhere = instances.iter().zip(&by_hosts).filter(|(a, b)| a != b).count();
    assert!((2_800..3_900).contains(&elsewhere), "{elsewhere} of 5,000 go another way");
    let after = routed(&p, &connections, &[node(&p, "g2")]);
    for (was, is) in instances.iter().zip(&after) {
        assert!(was.as_deref() == Some("g2") || was == is);
    }
}

fn owner_of(p: &Project, name: &str) -> OwnerId {
    p.compiled.model.owners.iter().find(|(_, o)| o.name == name).unwrap().0
}

#[test]
fn a_gateway_whose_only_instance_is_dead_carries_nothing() {
    let p = text(&source("", FEW));
    let c = owner_of(&p, "c");
    let arrived = |y| Arrived {
        dev: "c10",
        role: 0,
        zone: numbers::tenant_zone(p.compiled.model.owners[c].id()),
        direction: Direction::Original,
        family: Family::V4,
        src: address("10.3.0.10").1,
        dst: address("10.3.0.11").1,
        protocol: proto::UDP,
        x: 1,
        y,
    };
    for (down, carried) in [(vec![], true), (vec![node(&p, "g1")], true), (vec![node(&p, "g2")], false)] {
        let models = models(&p, &down);
        let rules = &models["c1"].rules;
        let Outcome::Via(verdict) = walk(rules, &arrived(1)) else { panic!("not steered") };
        assert_eq!(leg(rules, &arrived(1), verdict).is_some(), carried, "{down:?}");
    }
}

fn files(p: &Project, down: &[&str], node: &str) -> (Vec<Artifact>, Vec<String>) {
    let down = down.iter().map(|n| (*n).to_owned()).collect();
    let bundle = build(&p.compiled, &p.sources, &Request { down, ..Request::default() }).unwrap();
    let files = bundle.files.into_iter().filter(|f| f.path.starts_with(&format!("{node}/"))).collect();
    (files, bundle.manifest.nodes[node].instances.clone())
}

/// What `apply` does to installed files is what `build` does.
#[test]
fn files_are_led_to_other_instances_without_the_project() {
    for on_failure in ["", "on-failure drop"] {
        let p = text(&source(on_failure, FEW));
        for name in ["c1", "c2", "g2"] {
            let sets: [&[&str]; 4] = [&[], &["g2"], &["g1", "g3"], &["g1", "g2", "g3"]];
            for built in sets {
                let (from, instances) = files(&p, built, name);
                for wanted in sets {
                    let down: BTreeSet<String> = wanted.iter().map(|n| (*n).to_owned()).collect();
                    let led = with_down(&from, &instances, &down).unwrap();
                    assert!(led == files(&p, wanted, name).0, "{name}: {built:?} to {wanted:?}");
                }
            }
        }
    }
}

#[test]
fn files_that_are_not_ours_are_refused() {
    let p = text(&source("", FEW));
    let (files, instances) = files(&p, &[], "c1");
    let none = BTreeSet::new();
    let few = instances.get(..1).unwrap();
    assert!(
        matches!(with_down(&files, few, &none), Err(Unreadable::Entry { path, .. }) if path.ends_with("stage.nft"))
    );
    let mut strange = files.clone();
    strange[0].bytes = b"# somebody's\n".to_vec();
    assert_eq!(
        with_down(&strange, &instances, &none),
        Err(Unreadable::NotOurs { path: strange[0].path.clone() })
    );
}
