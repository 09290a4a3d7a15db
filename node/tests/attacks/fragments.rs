//! Fragments of two tenants that are equal to the last bit but for what they carry: none completes the other's packet, wherever on the
//! way it is put together, and whatever runs there by then.

use crate::ground::frames::{Fields, fragments, mend4, vxlan};
use crate::ground::support::Fleet;
use crate::ground::wire::Place;
use crate::ground::{Effect, Ground, reload, udp};

/// A provider that both reach by the same address, and a third tenant like them, with a VNI below theirs.
const FABRIC: &str = r#"
fabric f { encap vxlan port 4789 underlay mtu 9000 family ipv4 precedence top > tenant delegate tenant unknown-vni drop }
node c1 { vtep 192.0.2.11 dev eth0 }
node c2 { vtep 192.0.2.12 dev eth0 }
node g1 { vtep 192.0.2.21 dev eth0 gateway }
tenant green id 1 { segment s vni 1 { 10.1.0.0/24, fd00:1::/64 } }
tenant red id 2 { segment s vni 2 { 10.1.0.0/24, fd00:1::/64 } }
tenant blue id 3 { segment s vni 3 { 10.1.0.0/24, fd00:1::/64 } }
tenant store id 4 {
  segment s vni 4 { 10.4.0.0/24 }
  expose s & 10.4.0.9 : udp via edge as 100.64.0.9 {
    to red & 10.1.0.0/24 clients as 100.65.0.0/24
    to blue & 10.1.0.0/24 clients as 100.66.0.0/24
  }
}
gateway edge { joins red, blue, store instances g1 stateful }
endpoint store-y in store.s { at 10.4.0.9 mac 02:00:00:00:04:01 on c2 dev store-y }
"#;

fn project(policy: &str, tenants: &[&str]) -> String {
    let ends = |tenant: &&str| {
        ["x", "y"].map(|end| {
            let (host, node) = if end == "x" { (5, "c1") } else { (9, "c2") };
            format!(
                "endpoint {tenant}-{end} in {tenant}.s {{ at 10.1.0.{host}, fd00:1::{host} on {node} dev {tenant}-{end} }}\n"
            )
        })
    };
    let ends: String = tenants.iter().flat_map(ends).collect();
    format!("{FABRIC}{ends}policy p in top {{ {policy} }}\n")
}

const POLICY: &str = "allow same-tenant : udp allow any -> store";
const ALL: [&str; 3] = ["green", "red", "blue"];

/// What tells the packets of one tenant.
const RED: u32 = 0x1_0000;
const BLUE: u32 = 0x2_0000;

/// A packet's halves, which bear the number of a tenant, under an identification that says nothing of it and without the checksum that
/// would give away that another's half is in it.
fn halves(from: [u8; 6], to: [u8; 6], f: &Fields, whose: u32, id: u32) -> [Vec<u8>; 2] {
    let mut both = fragments(from, to, f, whose | id, &[(0, 8), (8, 8)]);
    let udp = if f.src.is_ipv4() { 34 } else { 62 };
    both[0][udp + 6..udp + 8].fill(0);
    if f.src.is_ipv6() {
        for frame in &mut both {
            frame[58..62].copy_from_slice(&id.to_be_bytes());
        }
    }
    both.try_into().unwrap()
}

const FLOWS: [(&str, &str); 2] = [("10.1.0.5", "10.1.0.9"), ("fd00:1::5", "fd00:1::9")];

/// Where what a tenant's packet carried came out.
fn reached(effect: &Effect, whose: u32) -> Vec<Place> {
    let packets = effect.arrivals.packets.iter().filter(|(number, _)| *number & 0xffff_0000 == whose);
    packets.flat_map(|(_, at)| at.iter().map(|(place, ..)| *place)).collect()
}

fn ground(name: &str) -> Option<Ground> {
    Ground::new(name, &project(POLICY, &ALL))
}

/// Blue's packet comes out whole at blue's end; of red's half nothing comes out there, and nothing of blue's elsewhere.
fn apart(g: &Ground, effect: &Effect, [red, blue]: [Place; 2]) {
    let [of_red, of_blue] = [RED, BLUE].map(|whose| reached(effect, whose));
    assert!(!of_blue.is_empty() && of_blue.iter().all(|at| *at == blue), "{of_blue:?} {:?}", effect.drops);
    // A node that does not wait for the rest lets the first go.
    assert!(of_red.iter().all(|at| g.fleet != Fleet::Nft && *at == red), "{of_red:?} {:?}", effect.drops);
}

/// At the node that both senders are on.
#[test]
fn a_senders_node_joins_no_two_tenants_fragments() {
    let Some(g) = ground("attack: fragments at the source") else { return };
    let router = g.router("c1");
    for (n, (src, dst)) in (0x100..).step_by(0x10).zip(FLOWS) {
        let f = udp(src, dst, 40_000, 53);
        let of = |tenant: &str, whose, id| {
            let place = g.host(tenant);
            halves(g.wires.mac(place), router, &f, whose, id).map(|frame| (place, frame))
        };
        let ends = [g.host("red-y"), g.host("blue-y")];
        // The other's second half, or its first, waits when the packet comes, or comes between its halves.
        for (id, turn) in [(n, [1, 2, 3]), (n + 1, [0, 2, 3]), (n + 2, [2, 1, 3]), (n + 3, [2, 0, 3])] {
            let all: Vec<_> = [of("red-x", RED, id), of("blue-x", BLUE, id)].into_iter().flatten().collect();
            apart(&g, &g.volley(&turn.map(|which: usize| all[which].clone())), ends);
        }
    }
}

/// Nor does it take a half under somebody else's address, MAC or not, into what that one sends.
#[test]
fn a_neighbours_fragment_is_no_ones_but_its_own() {
    let text = format!(
        "{}\nendpoint red-z in red.s {{ at 10.1.0.7, fd00:1::7 mac 02:00:00:00:02:07 on c1 dev red-z }}\n\
         endpoint red-w in red.s {{ at 10.1.0.8, fd00:1::8 mac 02:00:00:00:02:08 on c1 dev red-w }}\n",
        project(POLICY, &ALL)
    );
    let Some(g) = Ground::new("attack: fragments of a neighbour", &text) else { return };
    let router = g.router("c1");
    let victims = [("red-x", FLOWS), ("red-z", [("10.1.0.7", "10.1.0.9"), ("fd00:1::7", "fd00:1::9")])];
    let mut id = 0x400;
    for (victim, flows) in victims {
        for (src, dst) in flows {
            let f = udp(src, dst, 40_000, 53);
            for half in [0, 1] {
                id += 1;
                let (at, thief) = (g.host(victim), g.host("red-w"));
                let lies = halves(g.wires.mac(thief), router, &f, RED, id);
                let lie = g.volley(&[(thief, lies[half].clone())]);
                // Asked before it waits.
                let reason = if g.ebpf("c1") { None } else { Some("spoof") };
                if let Some(reason) = reason {
                    lie.only_dropped("c1", reason, 1);
                }
                let whole = halves(g.wires.mac(at), router, &f, BLUE, id).map(|frame| (at, frame));
                apart(&g, &g.volley(&whole), [g.host("red-y"); 2]);
            }
        }
    }
}

/// At the node of both receivers, of which the sender's node lets halves go; and at a gateway's.
#[test]
fn a_node_joins_no_two_tenants_fragments_from_the_fabric() {
    let Some(g) = ground("attack: fragments from the fabric") else { return };
    let sent = |to: &str, f: &Fields, whose, vni, id| {
        let (place, outer) = g.outer("c1", to, vni);
        halves(g.router("c1"), g.router(to), f, whose, id).map(|inner| (place, vxlan(&outer, &inner)))
    };
    let mut id = 0x200;
    for (to, (src, dst), ends) in [
        ("c2", FLOWS[0], ["red-y", "blue-y"]),
        ("c2", FLOWS[1], ["red-y", "blue-y"]),
        ("g1", ("10.1.0.5", "100.64.0.9"), ["store-y", "store-y"]),
    ] {
        let f = udp(src, dst, 40_000, 53);
        for turn in [[1, 2, 3], [0, 2, 3], [2, 1, 3], [2, 0, 3]] {
            id += 1;
            let all: Vec<_> =
                [sent(to, &f, RED, 2, id), sent(to, &f, BLUE, 3, id)].into_iter().flatten().collect();
            apart(&g, &g.volley(&turn.map(|which: usize| all[which].clone())), ends.map(|end| g.host(end)));
        }
    }
}

/// A half waits through two changes of generation, after which the numbers of a generation are another's.
#[test]
fn a_half_that_waited_is_its_own_tenants_still() {
    let Some(g) = ground("attack: fragments over a reload") else { return };
    let artifacts = tempfile::tempdir().unwrap();
    let run =
        |policy: &str, tenants: &[&str]| reload(&g, &project(policy, tenants), &["c2"], artifacts.path());
    let (place, outer) = g.outer("c1", "c2", 2);
    for (id, (src, dst)) in (0x300..).zip(FLOWS) {
        let f = udp(src, dst, 40_000, 53);
        let [first, last] =
            halves(g.router("c1"), g.router("c2"), &f, RED, id).map(|inner| vxlan(&outer, &inner));
        run(POLICY, &["red", "blue"]);
        let early = g.volley(&[(place, first)]);
        run("allow same-tenant : udp", &ALL);
        run(POLICY, &ALL);
        let late = g.volley(&[(place, last)]);
        let at: Vec<Place> = [&early, &late].into_iter().flat_map(|effect| reached(effect, RED)).collect();
        assert!(!at.is_empty() && at.iter().all(|at| *at == g.host("red-y")), "{at:?} {:?}", late.drops);
    }
}

/// Where nothing is remembered, nft nodes put nothing together.
#[test]
fn a_stateless_gateway_joins_nothing() {
    let text = project(POLICY, &["red", "blue"])
        .replace("unknown-vni drop }", "unknown-vni drop stateless-replies \"a test\" }")
        .replace("g1 stateful", "g1 stateless");
    let Some(g) = Ground::new("attack: fragments at a stateless gateway", &text) else { return };
    let f = udp("10.1.0.5", "100.64.0.9", 40_000, 53);
    let (place, outer) = g.outer("c1", "g1", 2);
    let both = halves(g.router("c1"), g.router("g1"), &f, RED, 1).map(|inner| (place, vxlan(&outer, &inner)));
    let effect = g.volley(&both);
    if g.ebpf("g1") {
        assert_eq!(reached(&effect, RED), [g.host("store-y"); 2]);
    } else {
        effect.only_dropped("g1", "invalid", 2);
    }
    let whole = g.volley(&[g.tunnelled("c1", "g1", 2, 0x08, &f, RED)]);
    assert_eq!(reached(&whole, RED), [g.host("store-y")], "{:?}", whole.drops);
}

/// A frame's packet in two fragments, whatever it holds.
fn cut(frame: &[u8]) -> [Vec<u8>; 2] {
    let v4 = frame[12..14] == [8, 0];
    let (header, body) = frame.split_at(if v4 { 34 } else { 54 });
    let (first, last) = body.split_at(64);
    [(first, [0x20, 0], [0, 1]), (last, [0, 8], [0, 64])].map(|(part, place4, place6)| {
        let mut header = header.to_vec();
        let length = |n: usize| u16::try_from(n).unwrap().to_be_bytes();
        if v4 {
            header[16..18].copy_from_slice(&length(20 + part.len()));
            header[20..22].copy_from_slice(&place4);
            mend4(&mut header[14..]);
        } else {
            header[18..20].copy_from_slice(&length(8 + part.len()));
            header.extend([header[20], 0, place6[0], place6[1], 0, 0, 0, 1]);
            header[20] = 44;
        }
        [header.as_slice(), part].concat()
    })
}

/// What the underlay had to cut is put together before it is unpacked.
#[test]
fn tunnels_in_fragments_arrive() {
    for (n, family) in ["ipv4", "ipv6"].into_iter().enumerate() {
        let text = project(POLICY, &["red"]);
        let text = if n == 0 {
            text
        } else {
            text.replace("family ipv4", "family ipv6").replace("192.0.2.", "2001:db8:2::")
        };
        let Some(g) = Ground::new(&format!("attack: a tunnel over {family} in fragments"), &text) else {
            return;
        };
        let f = udp("10.1.0.5", "10.1.0.9", 40_000, 53);
        let (place, frame) = g.tunnelled("c1", "c2", 2, 0x08, &f, 1);
        let parts = cut(&frame).map(|part| (place, part));
        let arrived = g.volley(&parts);
        // An eBPF node reads what comes as it comes, and nodes cut nothing.
        let whole = usize::from(!g.ebpf("c2"));
        assert_eq!(arrived.arrivals.packets.values().flatten().count(), whole, "{:?}", arrived.drops);
    }
}
