#![allow(clippy::unwrap_used, clippy::print_stdout, dead_code)]
#[path = "lab/support.rs"]
mod support;
use partywall_node::lab::{self, ProbeOptions};
use std::time::Instant;
#[test]
fn dc() {
    let root = std::env::var("DC").unwrap_or("../examples/01-quickstart".into());
    let p = support::project(&support::read(root.as_ref()));
    let c = &p.compiled;
    let o = lab::LabOptions { project: format!("adhoc {root}") };
    let d = std::path::PathBuf::from("/tmp/pw/labout");
    if std::env::var("REUSE").is_err() {
        let _ = std::fs::remove_dir_all(&d);
        support::build(&p, &d);
    }
    if std::env::var("SED").is_ok() {
        support::run("sh", &["-c", "sed -i 's/^\\(add counter inet partywall \\)\"\\([^\"]*\\)\"/\\1\\2/' /tmp/pw/labout/*/nft/stage.nft"]);
    }
    let t = Instant::now();
    let l = lab::up(c, &d, &o).unwrap();
    println!("up {:?}", t.elapsed());
    let t = Instant::now();
    let r = lab::probe(c, &l, &ProbeOptions::default());
    println!("probe {:?}", t.elapsed());
    if std::env::var("KEEP").is_err() { lab::down(&o).unwrap(); }
    let r = r.unwrap();
    std::fs::write("/tmp/pw/probe.json", r.json().unwrap()).unwrap();
    println!("{}", r.table());
}
