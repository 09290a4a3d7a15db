#![allow(clippy::unwrap_used, clippy::print_stdout, dead_code)]
#[path = "lab/support.rs"]
mod support;
use partywall_node::lab::{self, ProbeOptions};
use std::time::Instant;
#[test]
fn dc() {
    let root = std::env::var("DC").unwrap_or("../examples/02-datacenter".into());
    let c = support::project(&support::read(root.as_ref()));
    let o = support::options("adhoc");
    let d = tempfile::tempdir().unwrap();
    let s = "nft add table inet partywall; for r in unknown_vni bad_vtep spoof unknown_source no_route not_exposed default rule to_host; do nft add counter inet partywall drop_$r; done";
    let nodes: Vec<_> = c.model.nodes.values().map(|n| (n.name.as_str(), s.to_owned())).collect();
    support::scripts(d.path(), &nodes);
    let t = Instant::now();
    let l = lab::up(&c, d.path(), &o).unwrap();
    println!("up {:?}", t.elapsed());
    for x in &l.topology.externals { println!("{}", support::run("ip", &["-n", &x.netns, "-4", "route"])); println!("{}", support::run("ip", &["-n", &x.netns, "address"])); println!("{}", support::run("ip", &["-n", &x.netns, "neigh"])); }
    let t = Instant::now();
    let r = lab::probe(&c, &l, &ProbeOptions { patience: std::time::Duration::from_millis(500), ..Default::default() });
    println!("probe {:?}", t.elapsed());
    let td = Instant::now();
    lab::down(&o).unwrap();
    println!("down {:?}", td.elapsed());
    println!("{}", r.unwrap().table());
}
