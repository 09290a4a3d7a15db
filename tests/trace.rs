//! `trace` after the decision: the instance that carries a connection, the one that takes over, and the way of the replies.

mod support;

use support::{project, run};

const PROJECT: &str = r#"fabric f {
  encap vxlan port 4789  underlay mtu 1500 family ipv4
  precedence tenant  delegate tenant
}
node c1 { vtep 192.0.2.11 dev eth0 }
node g1 { vtep 192.0.2.21 dev eth0 gateway }
node g2 { vtep 192.0.2.22 dev eth0 gateway }
external internet { 0.0.0.0/0 }
gateway edge {
  joins shop, payments, internet
  instances g1, g2
  stateful
  attach internet on g1 dev up0 next-hop 203.0.113.1
  attach internet on g2 dev up0 next-hop 203.0.113.1
  masquerade shop to internet as 198.51.100.1, 198.51.100.2
}
gateway strict { joins shop instances g1, g2 stateful on-failure drop }
gateway blunt { joins shop, payments instances g1, g2 stateless affinity source }
tenant shop id 1 {
  segment front vni 10 { 10.1.0.0/24 }
  route 0.0.0.0/0 via edge
  route 10.3.0.0/24 to ops.desk direct "drill"
}
tenant payments id 2 {
  segment api vni 20 { 10.1.0.0/24 }
  expose api & 10.1.0.8/29 : tcp/443 | icmp via edge as 100.64.0.8/29 { to shop clients as 100.65.0.0/24 }
  expose api & 10.1.0.16/29 : tcp/443 via blunt as 100.64.0.16/29 { to shop clients as 100.66.0.0/24 }
  expose api & 10.1.0.8 : tcp/443 to internet via edge as 203.0.113.8
}
tenant ops id 3 { segment desk vni 30 { 10.3.0.0/24 } }
policy app for shop in tenant {
  allow front -> any : tcp | icmp
  allow front -> front : udp via strict
}
policy desk for ops in tenant { allow shop -> desk }
"#;

/// What follows the verdict for a packet seen in a space.
fn told(space: &str, packet: &str, more: &[&str]) -> Vec<String> {
    let folder = project([("policy.pw", PROJECT.as_bytes())]);
    let path = folder.path().to_str().unwrap();
    let args = ["trace", path, "--in", space, packet].into_iter().chain(more.iter().copied());
    let run = run(args).expect(0);
    let lines = run.stdout.lines().skip_while(|line| !line.starts_with("verdict")).skip(1);
    lines.map(str::to_owned).collect()
}

#[test]
fn under_an_exposure_replies_are_translated_back() {
    assert_eq!(
        told("shop", "tcp 10.1.0.5:40000 -> 100.64.0.9:443", &[]),
        [
            "  via edge, instance g1 (bucket 40/53)",
            "  if g1 fails, g2 takes over",
            "reply tcp 10.1.0.9:443 -> 100.65.0.5:40000 in payments",
            "  via edge, instance g1",
            "  arrives as tcp 100.64.0.9:443 -> 10.1.0.5:40000 in shop",
        ]
    );
    assert_eq!(
        told("internet", "tcp 8.8.8.8:40000 -> 203.0.113.8:443", &[])[2..],
        [
            "reply tcp 10.1.0.8:443 -> 8.8.8.8:40000 in payments",
            "  via edge, instance g1",
            "  arrives as tcp 203.0.113.8:443 -> 8.8.8.8:40000 in internet",
        ]
    );
    // Of ICMP only queries are answered.
    assert_eq!(
        told("shop", "icmp/echo-request 10.1.0.5 -> 100.64.0.9", &[])[2],
        "reply icmp/0/0 10.1.0.9 -> 100.65.0.5 in payments"
    );
    assert_eq!(told("shop", "icmp/3/4 10.1.0.5 -> 100.64.0.9", &[]).len(), 2);
}

#[test]
fn instances_that_have_failed() {
    let packet = "tcp 10.1.0.5:40000 -> 100.64.0.9:443";
    assert_eq!(
        told("shop", packet, &["--down", "g1"])[..4],
        [
            "  via edge, instance g2 (bucket 40/53), g1 being down",
            "  if g2 fails, no instance is left",
            "reply tcp 10.1.0.9:443 -> 100.65.0.5:40000 in payments",
            "  via edge, instance g2",
        ]
    );
    let none = ["  dropped at edge: no instance is left (bucket 40/53), g1, g2 being down"];
    assert_eq!(told("shop", packet, &["--down", "g1,g2"]), none);
    assert_eq!(told("shop", packet, &["--down", "g2", "--down", "g1"]), none);
    // A gateway that does not hand over.
    let steered = "udp 10.1.0.5:40000 -> 10.1.0.9:53";
    assert_eq!(
        told("shop", steered, &[])[..2],
        [
            "  via strict, instance g1 (bucket 40/53)",
            "  if g1 fails, the connection is dropped (on-failure drop)",
        ]
    );
    assert_eq!(
        told("shop", steered, &["--down", "g1"]),
        [
            "  dropped at strict: the instance for it has failed (on-failure drop) (bucket 40/53), g1 being down"
        ]
    );
}

#[test]
fn ways_back_that_are_none() {
    assert_eq!(
        told("shop", "tcp 10.1.0.5:40000 -> 10.3.0.9:443", &[]),
        [
            "  straight from node to node",
            "reply tcp 10.3.0.9:443 -> 10.1.0.5:40000 in ops",
            "  no route leads back: the connection hangs (PW0603)",
        ]
    );
    assert_eq!(
        told("shop", "tcp 10.1.0.5:40000 -> 100.64.0.17:443", &[])[2..4],
        [
            "reply tcp 10.1.0.17:443 -> 100.66.0.5:40000 in payments",
            "  via blunt, instance g1, another path than the connection's (PW0601)",
        ]
    );
}

#[test]
fn masqueraded_replies_come_back_to_the_instance() {
    let told = told("shop", "tcp 10.1.0.5:40000 -> 8.8.8.8:443", &[]);
    assert_eq!(told[0], "  via edge, instance g2 (bucket 50/53)");
    assert!(
        told[2].starts_with("  leaves as 198.51.100.2, the masquerade address of this instance  ["),
        "{told:?}"
    );
    assert_eq!(
        told[3..],
        ["reply to the masquerade address", "  comes back to the instance that has it, the connection's own",]
    );
}

#[test]
fn straight_ways() {
    assert_eq!(
        told("shop", "tcp 10.1.0.5:40000 -> 10.1.0.9:53", &[]),
        [
            "  straight from node to node",
            "reply tcp 10.1.0.9:53 -> 10.1.0.5:40000 in shop",
            "  straight from node to node",
            "  arrives as tcp 10.1.0.9:53 -> 10.1.0.5:40000 in shop",
        ]
    );
    // What is denied is not answered.
    assert_eq!(told("shop", "udp 10.1.0.5:1 -> 8.8.8.8:9", &[]), [] as [String; 0]);
}

#[test]
fn only_instances_can_be_down() {
    let folder = project([("policy.pw", PROJECT.as_bytes())]);
    let path = folder.path().to_str().unwrap();
    let down =
        |node| run(["trace", path, "--in", "shop", "tcp 10.1.0.5:1 -> 10.1.0.9:2", "--down", node]).expect(2);
    assert!(down("nobody").stderr.contains("there is no node `nobody`"));
    assert!(down("c1").stderr.contains("node `c1` is no instance of a gateway"));
}
