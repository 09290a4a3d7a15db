//! `build`: the same bytes each time, all of them or none, and nothing of others overwritten.

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use support::{Run, TODAY, run};

const QUICKSTART: &str = "examples/01-quickstart";

fn build(project: &str, out: &Path, more: &[&str]) -> Run {
    let out = out.to_str().unwrap();
    run(["build", project, "--target", "nft", "--today", TODAY, "--out", out]
        .into_iter()
        .chain(more.iter().copied()))
}

/// Bytes and permissions of every file.
fn contents(folder: &Path) -> BTreeMap<PathBuf, (Vec<u8>, u32)> {
    let read = |path: &PathBuf| {
        let place = folder.join(path);
        (std::fs::read(&place).unwrap(), place.metadata().unwrap().permissions().mode())
    };
    support::files(folder).iter().map(|path| (path.clone(), read(path))).collect()
}

fn names(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).unwrap();
    let mut names: Vec<String> = entries.map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn the_same_bytes_each_time() {
    let folder = tempfile::tempdir().unwrap();
    let (one, two) = (folder.path().join("one"), folder.path().join("two"));
    for example in [QUICKSTART, "examples/02-datacenter"] {
        build(example, &one, &["--jobs", "1"]).expect(0);
        build(example, &two, &["--jobs", "4"]).expect(0);
        let built = contents(&one);
        assert!(built.contains_key(Path::new("manifest.json")) && built.len() > 10);
        assert_eq!(built, contents(&two));
    }
    assert_eq!(names(folder.path()), ["one", "two"], "nothing is left beside the output");
}

#[test]
fn scripts_can_be_run_and_each_file_names_its_generation() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("deep/er/nodes");
    let said = build(QUICKSTART, &out, &[]).expect(0).stdout;
    let manifest: serde_json::Value =
        serde_json::from_slice(&std::fs::read(out.join("manifest.json")).unwrap()).unwrap();
    let generation = manifest["generation"].as_str().unwrap();
    assert!(said.contains(generation), "{said}");
    let mut listed = 1;
    for (node, entry) in manifest["nodes"].as_object().unwrap() {
        let mut generations = BTreeSet::new();
        for (path, digest) in entry["files"].as_object().unwrap() {
            listed += 1;
            let bytes = std::fs::read(out.join(path)).unwrap();
            assert!(path.starts_with(&format!("{node}/")), "{path}");
            assert_eq!(digest.as_str().unwrap().len(), 64, "{path}");
            let text = String::from_utf8(bytes).unwrap();
            let named = text.lines().take(2).find_map(|line| line.strip_prefix("# partywall generation "));
            let named = named.unwrap_or_else(|| panic!("{path} does not begin with its generation"));
            assert_eq!(named.len(), 64, "{path}");
            generations.insert(named.to_owned());
        }
        assert_eq!(generations.len(), 1, "{node}");
        let script = out.join(node).join("nft/apply.sh");
        assert_eq!(script.metadata().unwrap().permissions().mode() & 0o111, 0o111, "{node}");
    }
    assert_eq!(contents(&out).len(), listed, "the manifest lists every file");
}

#[test]
fn an_older_output_is_replaced_whole() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("nodes");
    std::fs::create_dir(&out).unwrap();
    build("examples/02-datacenter", &out, &[]).expect(0);
    build(QUICKSTART, &out, &[]).expect(0);
    assert_eq!(names(&out), ["c1", "c2", "g1", "manifest.json"]);
    build(QUICKSTART, &out, &["--node", "c2"]).expect(0);
    assert_eq!(names(&out), ["c2", "manifest.json"]);
}

#[test]
fn what_build_did_not_make_is_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("home");
    std::fs::create_dir(&out).unwrap();
    std::fs::write(out.join("thesis.txt"), "years of work").unwrap();
    let run = build(QUICKSTART, &out, &[]).expect(2);
    assert!(run.stderr.contains("left alone"), "{}", run.stderr);
    assert_eq!(names(&out), ["thesis.txt"]);
    let file = out.join("thesis.txt");
    build(QUICKSTART, &file, &[]).expect(2);
    assert_eq!(std::fs::read(file).unwrap(), b"years of work");
}

#[test]
fn dead_instances_are_an_input() {
    let folder = tempfile::tempdir().unwrap();
    let (all, less) = (folder.path().join("all"), folder.path().join("less"));
    build("examples/02-datacenter", &all, &[]).expect(0);
    build("examples/02-datacenter", &less, &["--down", "g2"]).expect(0);
    let manifest = |folder: &Path| -> serde_json::Value {
        serde_json::from_slice(&std::fs::read(folder.join("manifest.json")).unwrap()).unwrap()
    };
    let (before, after) = (manifest(&all), manifest(&less));
    assert!(before.get("down").is_none());
    assert_eq!(after["down"], serde_json::json!(["g2"]));
    assert_ne!(before["generation"], after["generation"]);
    assert_eq!(before["nodes"]["c1"]["instances"], after["nodes"]["c1"]["instances"]);
    // Nodes with endpoints send elsewhere; gateway nodes do what they did.
    let (before, after) = (contents(&all), contents(&less));
    assert_ne!(before[Path::new("c1/nft/stage.nft")], after[Path::new("c1/nft/stage.nft")]);
    assert_eq!(before[Path::new("g1/nft/stage.nft")], after[Path::new("g1/nft/stage.nft")]);
    let no_instance = build("examples/02-datacenter", &less, &["--down", "c1"]).expect(2);
    assert!(no_instance.stderr.contains("c1 runs no gateway instance"), "{}", no_instance.stderr);
    let unknown = build("examples/02-datacenter", &less, &["--down", "g2,g9"]).expect(2);
    assert!(unknown.stderr.contains("there is no node g9"), "{}", unknown.stderr);
}

#[test]
fn errors_are_shown_and_nothing_is_written() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("nodes");
    let run = build("examples/03-broken", &out, &[]).expect(1);
    assert!(run.stderr.contains("PW0401") && run.stderr.contains("cannot build"), "{}", run.stderr);
    let unknown = build(QUICKSTART, &out, &["--node", "c3"]).expect(2);
    assert!(unknown.stderr.contains("there is no node c3"), "{}", unknown.stderr);
    assert!(!out.exists());
}

#[test]
fn what_the_target_cannot_express_is_said() {
    let fabric = include_str!("../examples/01-quickstart/fabric.pw");
    let geneve = fabric.replace("vxlan port 4789", "geneve port 6081");
    assert_ne!(fabric, geneve);
    let project = support::project([
        ("fabric.pw", geneve.as_bytes()),
        ("policy.pw", include_bytes!("../examples/01-quickstart/policy.pw").as_slice()),
        ("tenants.pw", include_bytes!("../examples/01-quickstart/tenants.pw").as_slice()),
    ]);
    let out = project.path().join("nodes");
    let run = build(project.path().to_str().unwrap(), &out, &[]).expect(1);
    assert!(run.stderr.contains("PW0801"), "{}", run.stderr);
    assert!(!out.exists());
}

#[test]
fn a_build_that_dies_leaves_the_old_output() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("nodes");
    build(QUICKSTART, &out, &[]).expect(0);
    let before = (contents(&out), out.metadata().unwrap().ino());
    // The system ends a process that writes a file of more than 4 blocks of 1,024 bytes.
    let status = Command::new("bash")
        .args(["-c", "ulimit -f 4; exec \"$@\"", "bash"])
        .args([
            env!("CARGO_BIN_EXE_partywall"),
            "build",
            "examples/02-datacenter",
            "--target",
            "nft",
            "--out",
        ])
        .arg(&out)
        .current_dir(support::root())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .unwrap();
    assert!(!status.success());
    assert_eq!((contents(&out), out.metadata().unwrap().ino()), before);
    // The next one is not hindered by what the dead one left.
    build("examples/02-datacenter", &out, &[]).expect(0);
    assert_ne!(contents(&out), before.0);
}
