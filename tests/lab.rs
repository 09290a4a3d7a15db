//! `lab up|probe|down` through the command line. Where the machine lacks what a lab needs this says `SKIPPED` and what is
//! missing, and fails if the environment's `PARTYWALL_LAB_REQUIRED` says that nothing should be.

mod support;

use std::path::Path;
use support::schema::{named, part, violations};
use support::{files, report, root, run};

const QUICKSTART: &str = "examples/01-quickstart";

#[test]
fn a_project_goes_up_is_probed_and_goes_down() {
    // A copy: labs are told apart by their projects' places, and somebody may have the example's own up.
    let example = root().join(QUICKSTART);
    let sources: Vec<(String, Vec<u8>)> = files(&example)
        .into_iter()
        .filter(|path| path.extension().is_some_and(|e| e == "pw"))
        .map(|path| (path.display().to_string(), std::fs::read(example.join(&path)).unwrap()))
        .collect();
    // One place for all runs, so that what a killed one left is taken away by the next.
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("lab-quickstart");
    std::fs::create_dir_all(&folder).unwrap();
    for (path, bytes) in sources {
        std::fs::write(folder.join(path), bytes).unwrap();
    }
    let place = folder.to_str().unwrap();
    run(["lab", "down", place]);

    let down = run(["lab", "probe", place]).expect(2);
    assert!(down.stderr.contains("the lab is not up"), "{}", down.stderr);
    let up = run(["lab", "up", place]);
    if up.status == 2 && up.stderr.contains("cannot carry a lab") {
        println!("SKIPPED: lab through the command line: {}", up.stderr.trim());
        assert!(std::env::var_os("PARTYWALL_LAB_REQUIRED").is_none(), "{}", up.stderr);
        return;
    }
    up.expect(0);
    let human = run(["lab", "probe", place]);
    let json = run(["lab", "probe", "--format", "json", place]);
    let removed = run(["lab", "down", place]).expect(0);
    assert!(removed.stdout.contains("9 namespaces"), "{}", removed.stdout);
    assert!(run(["lab", "down", place]).expect(0).stdout.contains("0 namespaces"));

    let human = human.expect(0);
    assert!(human.stdout.contains(" 0 not, "), "{}", human.stdout);
    assert!(human.stdout.contains("policy.pw:"), "{}", human.stdout);
    let document = json.expect(0).json();
    let mut complaints = violations(&named("lab-probe-1.schema.json"), &document);
    let eval = named("eval-1.schema.json");
    for probe in document["probes"].as_array().unwrap() {
        for (field, name) in [("packet", "packet"), ("decision", "decision")] {
            complaints
                .extend(probe.get(field).into_iter().flat_map(|value| violations(&part(&eval, name), value)));
        }
    }
    report(&complaints);
    assert!(document["summary"]["passed"].as_u64().unwrap() >= 20, "{document}");
}
