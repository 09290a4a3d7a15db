//! What `audit` sees on an eBPF node: nothing on an untouched one, and each of many ways in which somebody may have changed it, by
//! name. And that `apply` mends what it may.

#[path = "ebpf_node/ground.rs"]
#[expect(dead_code, reason = "each test uses a part")]
mod ground;
#[path = "lab/support.rs"]
#[expect(dead_code, reason = "each test uses a part")]
mod lab_support;
#[path = "node/pair.rs"]
mod pair;
#[path = "node/support.rs"]
mod support;

use ground::{Ground, ready};
use lab_support::Fleet;
use libbpf_rs::{MapCore as _, MapFlags, MapHandle};
use partywall_node::ebpf::base::{Base, running};
use partywall_node::ebpf::{slots, tcx};
use partywall_node::generation::{Generation, Program};
use partywall_node::install;
use support::{alone, open, sh};

fn devices(program: &Program) -> Vec<String> {
    let own = program.listing.devices.iter().map(|d| d.name.clone());
    own.chain([program.listing.underlay.dev.clone()]).collect()
}

/// Installs a node of the data centre where nothing else is, and hands it on.
fn on_a_node(node: &str, f: impl FnOnce(&Ground, &Generation) + Send) {
    let built = tempfile::tempdir().unwrap();
    let root = format!("{}/../examples/02-datacenter", env!("CARGO_MANIFEST_DIR"));
    let project = lab_support::project(&lab_support::read(root.as_ref()));
    Fleet::Ebpf.build(&project, &[], built.path());
    let generation = open(built.path(), node);
    alone(|| {
        sh("ip link set dev lo up");
        for (number, name) in devices(generation.program().unwrap()).iter().enumerate() {
            sh(&format!(
                "ip link add name {name} type veth peer name there{number} && ip link set dev {name} mtu 9000 up && ip link set dev there{number} up"
            ));
        }
        let ground = Ground::new(&format!("audit-{node}"));
        let first = install::apply(&ground.state, Some(&generation), &mut |_| {}).unwrap();
        assert!(first.changed && first.mended.is_empty() && first.left.is_empty(), "{first:#?}");
        f(&ground, &generation);
    });
}

struct Node<'a> {
    ground: &'a Ground,
    generation: &'a Generation,
    tried: usize,
}

impl Node<'_> {
    fn report(&self) -> String {
        install::audit(&self.ground.state).unwrap().text()
    }

    /// Something is changed; the audit names it; a call mends it, or leaves it to people, who `undo` it.
    fn change(&mut self, how: &str, says: &[&str], undo: Option<&str>) {
        sh(&how.replace("PINS", &self.ground.pins().display().to_string()));
        self.changed(how, says, undo);
    }

    fn changed(&mut self, how: &str, says: &[&str], undo: Option<&str>) {
        self.tried += 1;
        let report = self.report();
        assert!(says.iter().all(|word| report.contains(word)), "{how}: {says:?} is not in: {report}");
        let differences = report.lines().count() - 1;
        assert!(
            (1..=says.len().max(2)).contains(&differences),
            "{how}: one cause is told {differences} times: {report}"
        );
        let mended = install::apply(&self.ground.state, None, &mut |_| {}).unwrap();
        assert!(!mended.stuck(), "{how}: {mended:#?}");
        match undo {
            None => assert!(mended.left.is_empty(), "{how}: {mended:#?}"),
            Some(undo) => {
                assert!(!mended.left.is_empty(), "{how}: {mended:#?}");
                sh(undo);
                // What came back may have to be taken in.
                install::apply(&self.ground.state, None, &mut |_| {}).unwrap();
            }
        }
        let report = self.report();
        assert!(report.contains("as generation"), "after {how}: {report}");
    }

    fn held(&self, map: &str) -> MapHandle {
        let pins = self.ground.pins();
        let object = &self.generation.program().unwrap().listing.object;
        let base = Base::current(pins, object).unwrap().unwrap();
        slots::held(&base, map, running(pins).unwrap().unwrap().slot).unwrap().unwrap()
    }

    /// An entry of a map of the running generation is changed, taken away, or added.
    fn entry(&mut self, map: &str, act: fn(&MapHandle)) {
        act(&self.held(map));
        self.changed(map, &["map entry", map], None);
    }
}

fn first(map: &MapHandle) -> (Vec<u8>, Vec<u8>) {
    let entries = slots::entries(map).unwrap();
    entries.into_iter().find(|(_, value)| value.iter().any(|byte| *byte != 0)).unwrap()
}

fn spoil(map: &MapHandle) {
    let (key, mut value) = first(map);
    value[0] ^= 1;
    map.update(&key, &value, MapFlags::ANY).unwrap();
}

fn take(map: &MapHandle) {
    let (key, _) = first(map);
    map.delete(&key).unwrap();
}

/// A full map has no room for one more: another goes for it.
fn swap(map: &MapHandle) {
    let (key, value) = first(map);
    let mut other = key.clone();
    *other.last_mut().unwrap() ^= 0x55;
    map.delete(&key).unwrap();
    map.update(&other, &value, MapFlags::ANY).unwrap();
}

#[test]
fn each_of_many_changes_on_a_compute_node_is_named_and_mended() {
    if !ready("audit of an eBPF node") {
        return;
    }
    on_a_node("c1", |ground, generation| {
        let mut node = Node { ground, generation, tried: 0 };
        assert!(node.report().contains("as generation"), "{}", node.report());
        for map in ["ends", "services", "verdicts", "routes", "ports", "settings", "owners", "buckets"] {
            node.entry(map, spoil);
        }
        for map in ["pairs", "contexts", "senders", "vnis", "legs", "ifindexes"] {
            node.entry(map, take);
        }
        node.entry("ranges", spoil);
        node.entry("devices", spoil);
        node.entry("hosts", |map| {
            map.update(&[9; 16], &1u32.to_ne_bytes(), MapFlags::ANY).unwrap();
        });
        act_two(&mut node, "services", swap);
        let program = generation.program().unwrap();
        let tap = devices(program)[0].clone();
        let dev = program.listing.underlay.dev.clone();
        let slot = running(ground.pins()).unwrap().unwrap().slot;
        node.change(
            &format!("bpftool map delete pinned PINS/maps/routes key {slot} 0 0 0"),
            &["map routes"],
            None,
        );
        node.change(
            "bpftool map update pinned PINS/maps/cell key 0 0 0 0 value 0 0 0 0 0 0 0 0",
            &["generation the one that runs"],
            None,
        );
        node.change(
            "bpftool map update pinned PINS/maps/cell key 0 0 0 0 value 99 0 0 0 0 0 0 0",
            &["generation the one that runs", "number 49"],
            None,
        );
        node.change("rm $(ls PINS/links/*-pw_workload | head -n 1)", &["program", "pw_workload"], None);
        node.change("rm PINS/links/*-pw_fabric", &["pwvx ingress", "pw_fabric"], None);
        node.change("rm PINS/links/*-pw_underlay", &[&format!("{dev} ingress")], None);
        node.change("rm -r PINS/program-*", &["program of this generation"], None);
        node.change("rm PINS/maps/connections; bpftool map create PINS/maps/connections type hash key 4 value 4 entries 1 name x", &["map connections, as it is pinned"], None);
        node.change(
            "mkdir PINS/slot0 2>/dev/null || mkdir PINS/slot1",
            &["maps of another generation"],
            None,
        );
        node.change(
            &format!("ip link set dev {tap} address 02:00:00:00:99:99"),
            &[&format!("{tap} MAC")],
            None,
        );
        node.change(&format!("ip address delete 169.254.1.1/32 dev {tap}"), &["169.254.1.1/32"], None);
        node.change(&format!("ip address delete fe80::1/64 dev {tap}"), &["fe80::1/64"], None);
        node.change("ip link set dev pwvx down", &["pwvx state"], None);
        node.change("ip link set dev pwvx mtu 1500", &["pwvx MTU"], None);
        node.change("ip link set dev pwvx address 02:00:00:00:99:98", &["pwvx MAC"], None);
        node.change("ip link delete dev pwvx", &["device pwvx"], None);
        node.change("ip link delete dev pwvx; ip link add name pwvx type vxlan external dstport 4790 srcport 32768 60999 nolearning; ip link set pwvx up", &["pwvx vxlan port", "pwvx MAC", "pwvx MTU", "pwvx ingress", "map entry devices", "map entry ifindexes", "expected `00000000`"], None);
        node.change("nft flush chain inet partywall_closed closed", &["partywall_closed"], None);
        node.change("nft delete table arp partywall_closed", &["partywall_closed"], None);
        node.change("nft add table inet partywall", &["target nft"], None);
        node.change(
            &format!("ip link set dev {tap} down"),
            &[&format!("{tap} state")],
            Some(&format!("ip link set dev {tap} up")),
        );
        foreign(&mut node, &tap);
        println!("{} changes", node.tried);
        assert!(node.tried > 40, "{}", node.tried);
    });
}

/// Two lines for one act: an entry that is missing and one that is too many.
fn act_two(node: &mut Node<'_>, map: &str, act: fn(&MapHandle)) {
    act(&node.held(map));
    node.changed(map, &["map entry", map, "expected nothing", "there is nothing"], None);
}

/// Programs of others: before ours at tcx, at egress, and one that stands where ours did.
fn foreign(node: &mut Node<'_>, tap: &str) {
    let net = sh(&format!("ip -o link show dev {tap}"));
    let ifindex: u32 = net.split(':').next().unwrap().parse().unwrap();
    let object = &node.generation.program().unwrap().listing.object;
    let pins = node.ground.pins().to_owned();
    let program = |name: &str| {
        let path = pins.join(format!("program-{}", &object[..16])).join(name);
        libbpf_rs::ProgramHandle::from_pinned_path(path).unwrap()
    };
    // What is in others' hands while the link is.
    let link = tcx::first(&program("pw_underlay"), ifindex).unwrap();
    let report = node.report();
    assert!(report.contains(&format!("{tap} ingress, place 1")), "{report}");
    drop(link);
    assert!(node.report().contains("as generation"), "{}", node.report());
    // The link is ours and the program is not.
    let pin = pins.join("links").join(format!("{ifindex}-pw_workload"));
    tcx::replace(&tcx::pinned(&pin).unwrap(), &program("pw_underlay")).unwrap();
    node.changed("another program in our link", &[&format!("{tap} ingress")], None);
    let filter = format!(
        "tc qdisc add dev {tap} clsact; tc filter add dev {tap} egress pref 7 protocol all bpf direct-action object-pinned {}/program-{}/pw_outside",
        pins.display(),
        &object[..16]
    );
    node.change(&filter, &[&format!("{tap} egress")], Some(&format!("tc qdisc del dev {tap} clsact")));
}

#[test]
fn changes_on_a_gateway_are_named() {
    if !ready("audit of an eBPF gateway") {
        return;
    }
    on_a_node("g1", |ground, generation| {
        let mut node = Node { ground, generation, tried: 0 };
        for map in ["translations", "routes", "ranges"] {
            node.entry(map, spoil);
        }
        let external = devices(generation.program().unwrap())[0].clone();
        node.change(
            &format!("echo 0 >/proc/sys/net/ipv4/conf/{external}/forwarding"),
            &["setting net/ipv4/conf/"],
            None,
        );
        node.change("rm $(ls PINS/links/*-pw_outside | head -n 1)", &["pw_outside"], None);
        node.change(&format!("ip link delete dev {external}"), &[&format!("device {external}")], Some(&format!("ip link add name {external} type veth peer name back && ip link set dev {external} up && ip link set dev back up")));
    });
}
