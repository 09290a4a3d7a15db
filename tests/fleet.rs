//! The generated fleet that is measured is a clean project: nothing in it is left out or decided by accident.

mod support;

#[path = "../benches/support/fleet.rs"]
mod fleet;

use fleet::Size;
use support::{check, findings, project, run_with};

#[test]
fn a_generated_fleet_has_no_findings_and_forwards() {
    for size in [Size { tenants: 2, rules: 40 }, Size { tenants: 12, rules: 270 }] {
        let files = fleet::files(size);
        let folder = project(files.iter().map(|(path, text)| (path.as_str(), text.as_bytes())));
        assert_eq!(findings(&check(folder.path())), [] as [serde_json::Value; 0], "{size:?}");
        let packets = concat!(
            r#"{"in":"t00000","proto":"tcp","src":"10.1.0.48","sport":40000,"dst":"100.64.1.3","dport":443}"#,
            "\n",
            r#"{"in":"t00000","proto":"tcp","src":"10.1.0.48","sport":40000,"dst":"100.64.1.4","dport":443}"#,
            "\n",
        );
        let run = run_with(["eval".as_ref(), folder.path().as_os_str()], packets.as_bytes()).expect(0);
        let verdicts: Vec<bool> = run.stdout.lines().map(|line| line.contains("\"allow\"")).collect();
        assert_eq!(verdicts, [true, false], "{}", run.stdout);
    }
}
