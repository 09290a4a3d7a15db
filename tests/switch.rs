//! Switches: what they have room for is said in `partywall.toml`, and what they let through beyond the policy is listed.

mod support;

use std::path::Path;
use support::schema::{named, violations};
use support::{Run, TODAY, project, report, run};

const FABRIC: &str = r#"
fabric f { encap vxlan port 4789 underlay mtu 9000 family ipv4 precedence tenant delegate tenant unknown-vni drop stateless-replies "a test" }
node c1 { vtep 192.0.2.11 dev eth0 }
node c2 { vtep 192.0.2.12 dev eth0 }
tenant a id 7 { segment s vni 10 { 10.0.0.0/24 } }
tenant b id 8 { segment s vni 20 { 10.0.0.0/24 } }
endpoint a5 in a.s { at 10.0.0.5 mac 02:00:00:00:00:05 on c1 dev tap0 }
endpoint a6 in a.s { at 10.0.0.6 mac 02:00:00:00:00:06 on c1 dev tap1 }
endpoint a7 in a.s { at 10.0.0.7 mac 02:00:00:00:00:07 on c2 dev tap0 }
endpoint b5 in b.s { at 10.0.0.5 mac 02:00:00:00:01:05 on c1 dev tap2 }
policy pa for a in tenant { own: allow a & 10.0.0.5 -> a : tcp/443 }
"#;

fn build(settings: &str, out: &Path) -> Run {
    build_for("p4", FABRIC, settings, out)
}

fn build_for(target: &str, text: &str, settings: &str, out: &Path) -> Run {
    let folder = project([("main.pw", text.as_bytes()), ("partywall.toml", settings.as_bytes())]);
    let words =
        ["build", folder.path().to_str().unwrap(), "--target", target, "--today", TODAY, "--color", "never"];
    run(words.into_iter().chain(["--out", out.to_str().unwrap()]))
}

#[test]
fn of_all_targets_a_switch_gets_what_it_can_express() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out");
    let there = |node: &str, target: &str| out.join(node).join(target).exists();
    let said = build_for("all", FABRIC, "", &out).expect(0).stdout;
    assert!(there("c1", "nft") && there("c1", "ebpf") && there("c1", "p4"), "{said}");
    assert!(!said.contains("nothing for"), "{said}");
    // A workload without a MAC is one that a switch cannot reach.
    let text = FABRIC.replace("at 10.0.0.7 mac 02:00:00:00:00:07", "at 10.0.0.7");
    let said = build_for("all", &text, "", &out).expect(0).stdout;
    assert!(there("c2", "nft") && there("c2", "ebpf") && !there("c2", "p4") && there("c1", "p4"), "{said}");
    let told =
        "c2: nothing for p4, which cannot express all of it; `build --target p4 --node c2` shows why (1)";
    assert!(said.lines().any(|line| line == told), "{said}");
    let refused = build_for("p4", &text, "", &out).expect(1).stderr;
    assert!(refused.contains("PW0801"), "{refused}");
}

#[test]
fn a_profile_sizes_the_tables_of_its_nodes_alone() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out");
    let settings = "[profile.edge]\nnodes = [\"c1\"]\ntables = { verdict = 100, owner4 = 77 }\n";
    build(settings, &out).expect(0);
    let text =
        |node: &str, file: &str| std::fs::read_to_string(out.join(node).join("p4").join(file)).unwrap();
    let (program, info) = (text("c1", "partywall.p4"), text("c1", "partywall.p4info.txtpb"));
    assert!(program.contains("        size = 100;") && program.contains("        size = 77;"));
    assert!(info.contains("  size: 100\n") && info.contains("  size: 77\n"));
    assert!(!text("c2", "partywall.p4").contains("size = 100;"));
    let generation = |out: &Path| {
        let manifest = std::fs::read_to_string(out.join("manifest.json")).unwrap();
        serde_json::from_str::<serde_json::Value>(&manifest).unwrap()["generation"].clone()
    };
    let with = generation(&out);
    build("", &out).expect(0);
    assert_ne!(with, generation(&out), "sizes are an input");
    assert!(!text("c1", "partywall.p4").contains("size = 100;"));
}

#[test]
fn what_does_not_fit_is_told_with_those_who_need_most() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out");
    let settings = "[profile.edge]\nnodes = [\"c1\", \"c2\"]\ntables = { owner4 = 5 }\n";
    let said = build(settings, &out).expect(1).stderr;
    for part in [
        "PW0803",
        "node `c1` needs 6 entries in table `owner4`, and there are 5 in profile `edge`",
        "most is needed by `a` 4, `b` 2",
        "joining what is decided alike has left",
        "profile of partywall.toml",
    ] {
        assert!(said.contains(part), "{part}: {said}");
    }
    assert!(!said.contains("node `c2`") && !out.exists(), "{said}");
}

#[test]
fn settings_that_name_what_is_not_there_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out");
    for (settings, why) in [
        (
            "[profile.edge]\nnodes = [\"c1\"]\ntables = { verdicts = 100 }\n",
            "partywall.toml:3:12: there is no table `verdicts`; did you mean `verdict`?",
        ),
        (
            "[profile.edge]\nnodes = [\"c1\", \"c9\"]\ntables = { verdict = 100 }\n",
            "partywall.toml:2:16: there is no node `c9`; did you mean `c1`?",
        ),
        (
            "[profile.edge]\nnodes = [\"c1\"]\ntable = { verdict = 100 }\n",
            "partywall.toml:3:1: unknown field `table`, expected `nodes` or `tables`",
        ),
        ("[profiles.edge]\nnodes = []\n", "partywall.toml:1:2: unknown field `profiles`"),
        (
            "[profile.edge]\nnodes = [\"c1\"]\ntables = { verdict = 0 }\n",
            "partywall.toml:3:22: a table has 1 to",
        ),
    ] {
        let said = build(settings, &out).expect(2).stderr;
        assert!(said.contains(why), "{why}: {said}");
        let folder = project([("main.pw", FABRIC.as_bytes()), ("partywall.toml", settings.as_bytes())]);
        let said = run(["check", folder.path().to_str().unwrap(), "--today", TODAY]).expect(2).stderr;
        assert!(said.contains(why), "check: {why}: {said}");
    }
}

#[test]
fn what_answers_admit_is_listed_by_build_and_by_audit() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out");
    let built = build("", &out).expect(0).stdout;
    assert!(built.contains("c1: ") && built.contains(" entries; joining has left "), "{built}");
    let file = std::fs::read_to_string(out.join("c1/p4/entries.txtpb")).unwrap();
    let listed: Vec<&str> = file.lines().filter_map(|line| line.strip_prefix("# admits ")).collect();
    assert!(
        listed.iter().any(|line| line.starts_with("pa.own in a: ") && line.contains("tcp from 443")),
        "{listed:?}"
    );
    let told: Vec<&str> = built.lines().filter_map(|line| line.strip_prefix("c1: admits ")).collect();
    assert_eq!(told, listed);
    let audit = |more: &[&str]| {
        run(["audit", out.to_str().unwrap(), "--node", "c1"].into_iter().chain(more.iter().copied()))
    };
    let said = audit(&[]).expect(0).stdout;
    let told: Vec<&str> = said.lines().filter_map(|line| line.strip_prefix("c1: admits ")).collect();
    assert_eq!(told, listed);
    assert!(said.contains("are whole, with ") && said.contains("for its controller to compare"), "{said}");
    let document = audit(&["--target", "p4", "--format", "json"]).expect(0).json();
    assert_eq!(document["admits"].as_array().unwrap().len(), listed.len());
    report(&violations(&named("audit-1.schema.json"), &document));
    let said = audit(&["--target", "nft"]).expect(2).stderr;
    assert!(said.contains("nothing for the target nft on c1"), "{said}");
    // One byte of a file changed.
    std::fs::write(out.join("c1/p4/bmv2.txt"), file.replace("# node", "# Node")).unwrap();
    let said = audit(&[]).expect(2).stderr;
    assert!(said.contains("bmv2.txt"), "{said}");
}
