//! `diff`, and `check --diff-base`: on folders and on real git repositories.

mod support;

use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::Command;
use support::schema::{named, part, violations};
use support::{Run, TODAY, findings, finish, report, run};
use tempfile::TempDir;

const FABRIC: &str = "fabric f {
  encap vxlan port 4789
  underlay mtu 1500 family ipv4
  precedence guardrail > tenant
  delegate tenant
}
node g1 { vtep 192.0.2.21 dev eth0 gateway }
gateway edge { joins shop, pay instances g1 stateful }
gateway core { joins shop, pay instances g1 stateful }
tenant pay id 2 {
  segment api vni 20 { 10.2.0.0/24 }
  open: expose api & 10.2.0.0/28 : tcp/443 to shop via edge as 100.64.0.0/28
}
";
const SHOP: &str = "tenant shop id 1 { segment front vni 10 { 10.1.0.0/24 } }
policy app for shop in tenant {
  web: allow front -> pay.api : tcp/443
  db: allow front -> front : tcp/5432
}
";

/// A project of two files.
fn write(folder: &Path, fabric: &str, shop: &str) {
    std::fs::create_dir_all(folder.join("tenants")).unwrap();
    std::fs::write(folder.join("fabric.pw"), fabric).unwrap();
    std::fs::write(folder.join("tenants/shop.pw"), shop).unwrap();
}

fn folder(fabric: &str, shop: &str) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), fabric, shop);
    folder
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// The difference of two projects, without the last line, which names the folders.
#[track_caller]
fn told(old: (&str, &str), new: (&str, &str)) -> String {
    let (a, b) = (folder(old.0, old.1), folder(new.0, new.1));
    let run = run(["diff", text(a.path()), text(b.path())]).expect(1);
    run.stdout.rsplit_once("\nfrom ").unwrap().0.to_owned()
}

#[test]
fn a_rule_opens_and_closes() {
    let new = SHOP
        .replace("tcp/5432", "tcp/{5432, 6379}")
        .replace("  web:", "  no: deny front & 10.1.0.128/25 -> any : tcp\n  web:");
    assert_eq!(
        told((FABRIC, SHOP), (FABRIC, &new)),
        "opened: allowed now, not before
  shop 10.1.0.0/25 -> shop 10.1.0.0/24 : tcp/6379
    before   denied: no rule allows it
    now      allowed by `app.db`
    witness  tcp 10.1.0.0:32768 -> 10.1.0.1:6379 in shop

closed: allowed before, not now
  shop 10.1.0.128/25 -> pay 10.2.0.0/28 : tcp/443 via edge
    before   allowed by `app.web` and `pay.open#1`
    now      denied by `app.no`
    witness  tcp 10.1.0.128:32768 -> 100.64.0.0:443 in shop
  shop 10.1.0.128/25 -> shop 10.1.0.0/24 : tcp/5432
    before   allowed by `app.db`
    now      denied by `app.no`
    witness  tcp 10.1.0.128:32768 -> 10.1.0.0:5432 in shop
"
    );
}

#[test]
fn another_gateway_or_another_address_is_another_way() {
    let gateway = FABRIC.replace("via edge as", "via core as");
    let address = FABRIC.replace("as 100.64.0.0/28", "as 100.64.0.16/28 clients as 100.65.0.0/24");
    let rerouted = |new: &str| told((FABRIC, SHOP), (new, SHOP));
    assert_eq!(
        rerouted(&gateway),
        "rerouted: allowed before and now, on another way
  shop 10.1.0.0/24 -> pay 10.2.0.0/28 : tcp/443
    before   allowed by `app.web` and `pay.open#1`, via `edge`
    now      allowed by `app.web` and `pay.open#1`, via `core`
    witness  tcp 10.1.0.0:32768 -> 100.64.0.0:443 in shop
"
    );
    assert_eq!(
        rerouted(&address),
        "rerouted: allowed before and now, on another way
  shop 10.1.0.0/24 -> pay 10.2.0.0/28 : tcp/443
    before   allowed by `app.web` and `pay.open#1`, the destination seen as 100.64.0.0, the source seen as 10.1.0.0
    now      allowed by `app.web` and `pay.open#1`, the destination seen as 100.64.0.16, the source seen as 100.65.0.0
    witness  tcp 10.1.0.0:32768 -> 100.64.0.16:443 in shop
"
    );
}

#[test]
fn owners_come_and_go() {
    let fewer = FABRIC.replace(", pay", "");
    let fewer = fewer.split("tenant pay").next().unwrap();
    let alone = SHOP.replace("  web: allow front -> pay.api : tcp/443\n", "");
    assert_eq!(
        told((fewer, &alone), (FABRIC, SHOP)),
        "opened: allowed now, not before
  shop 10.1.0.0/24 -> pay 10.2.0.0/28 : tcp/443 via edge
    before   the source or the destination does not exist
    now      allowed by `app.web` and `pay.open#1`
    witness  tcp 10.1.0.0:32768 -> 100.64.0.0:443 in shop
"
    );
    // What differs in words alone is no difference; nor is what differs for nobody.
    let words = SHOP.replace("  web:", "  // because\n  web:").replace("db: allow", "store: allow");
    let unused = format!("{FABRIC}external hq {{ 172.16.0.0/12 }}\n");
    let (a, b) = (folder(FABRIC, SHOP), folder(&unused, &words));
    let run = run(["diff", text(a.path()), text(b.path())]).expect(0);
    assert!(run.stdout.starts_with("no flow differs between "), "{}", run.stdout);
}

#[test]
fn documents_fit_their_schema() {
    let (schema, eval) = (named("diff-1.schema.json"), named("eval-1.schema.json"));
    let mut kinds = std::collections::BTreeSet::new();
    for (old, new) in [
        ("examples/02-datacenter", "examples/01-quickstart"),
        ("examples/01-quickstart", "examples/02-datacenter"),
        ("examples/01-quickstart", "examples/01-quickstart"),
    ] {
        let run = run(["diff", old, new, "--format", "json"]);
        assert_eq!(run.status, i32::from(old != new), "{}", run.stderr);
        let document = run.json();
        report(&violations(&schema, &document));
        let mut boxes = std::collections::BTreeMap::from([("opened", 0), ("closed", 0), ("rerouted", 0)]);
        for change in document["changes"].as_array().unwrap() {
            let kind = change["change"].as_str().unwrap();
            kinds.insert(kind.to_owned());
            *boxes.get_mut(kind).unwrap() += change["boxes"].as_array().unwrap().len();
            for side in
                ["old", "new"].map(|side| &change[side]).into_iter().filter(|side| side["packet"].is_object())
            {
                report(&violations(&part(&eval, "packet"), &side["packet"]));
                report(&violations(&part(&eval, "decision"), &side["decision"]));
            }
        }
        assert_eq!(document["summary"], serde_json::json!(boxes));
        // `eval` says of every packet what the difference says.
        for (side, project) in [("old", old), ("new", new)] {
            let lines = document["changes"].as_array().unwrap().iter().map(|change| &change[side]);
            let lines: Vec<&Value> = lines.filter(|side| side["packet"].is_object()).collect();
            let input: String = lines.iter().map(|line| format!("{}\n", line["packet"])).collect();
            let told = support::run_with(["eval", project], input.as_bytes()).expect(0);
            for (line, told) in lines.iter().zip(told.stdout.lines()) {
                assert_eq!(line["decision"], serde_json::from_str::<Value>(told).unwrap());
            }
        }
    }
    assert_eq!(kinds.len(), 3, "{kinds:?}");
}

#[test]
fn a_comment_fits_and_says_how_much_is_left_out() {
    let comment = |old: &str, new: &str| run(["diff", old, new, "--format", "markdown"]);
    let none = comment("examples/01-quickstart", "examples/01-quickstart").expect(0).stdout;
    assert!(none.starts_with("<!-- partywall-diff -->\n") && none.contains("No flow differs"), "{none}");

    // 400 tenants that were not there.
    let mut many = SHOP.to_owned();
    for n in 0..400 {
        many.push_str(&format!(
            "tenant t{n} id {} {{ segment a vni {} {{ 10.0.0.0/24 }} }}\npolicy p{n} for t{n} in tenant {{ allow t{n} -> t{n} : tcp/{n} }}\n",
            n + 10,
            n + 100
        ));
    }
    let (a, b) = (folder(FABRIC, SHOP), folder(FABRIC, &many));
    let long = comment(text(a.path()), text(b.path())).expect(1).stdout;
    assert!(long.starts_with("<!-- partywall-diff -->\n"), "{long}");
    assert!(long.encode_utf16().count() < 65_536 && long.encode_utf16().count() > 50_000, "{}", long.len());
    let shown = long.lines().filter(|line| line.starts_with("- `t")).count();
    assert!(long.contains("| 400 boxes | 0 boxes | 0 boxes |"), "{long}");
    assert!(
        long.contains(&format!("{} boxes more are not shown", 400 - shown)),
        "{shown} {}",
        &long[long.len() - 300..]
    );
    assert!(!long.contains(text(a.path())), "the comment names a folder of this machine");
    let args = ["diff", text(a.path()), text(b.path()), "--format", "markdown", "--jobs", "1"];
    assert_eq!(long, run(args).expect(1).stdout);
    assert_eq!(long.matches("<details").count(), long.matches("</details>").count());
}

#[test]
fn a_side_in_error_is_named() {
    let (a, b) = (folder(FABRIC, SHOP), folder(FABRIC, &SHOP.replace("front -> front", "frnt -> front")));
    let refused = run(["diff", text(a.path()), text(b.path())]).expect(2);
    assert!(refused.stdout.is_empty() && refused.stderr.contains("PW0101"), "{}", refused.stderr);
    assert!(
        refused.stderr.contains(&format!("cannot compare with {}", text(b.path()))),
        "{}",
        refused.stderr
    );
    run(["diff", text(a.path())]).expect(2);
    run(["diff", text(a.path()), "nowhere"]).expect(2);
    run(["diff", "--path", ".", text(a.path()), text(b.path())]).expect(2);
}

/// A repository in a temporary folder, whose project lies in `net work`.
struct Repository {
    folder: TempDir,
}

impl Repository {
    fn new() -> Self {
        let repository = Self { folder: tempfile::tempdir().unwrap() };
        repository.git(&["init", "--quiet", "--initial-branch=main"]);
        repository
    }

    fn project(&self) -> PathBuf {
        self.folder.path().join("net work")
    }

    #[track_caller]
    fn git(&self, args: &[&str]) -> String {
        let identity =
            ["-c", "user.name=example", "-c", "user.email=example@example.org", "-c", "commit.gpgsign=false"];
        let out = Command::new("git")
            .args(identity)
            .args(args)
            .current_dir(self.folder.path())
            .env("GIT_CONFIG_GLOBAL", "/dev/null")
            .env("GIT_CONFIG_SYSTEM", "/dev/null")
            .output()
            .expect("git is needed by this test");
        assert!(out.status.success(), "{args:?}: {}", String::from_utf8_lossy(&out.stderr));
        String::from_utf8(out.stdout).unwrap().trim().to_owned()
    }

    /// Writes the project and commits everything.
    fn commit(&self, fabric: &str, shop: &str) {
        write(&self.project(), fabric, shop);
        self.commit_all();
    }

    fn commit_all(&self) {
        self.git(&["add", "--all"]);
        self.git(&["commit", "--quiet", "--message", "a change"]);
    }

    /// Runs the binary in the project's folder.
    #[track_caller]
    fn run(&self, args: &[&str]) -> Run {
        let mut command = support::command(args);
        command.current_dir(self.project());
        finish(command, b"")
    }
}

#[test]
fn revisions_are_read_without_a_checkout() {
    let repository = Repository::new();
    repository.commit(FABRIC, SHOP);
    repository.git(&["tag", "first"]);
    // Hidden files and other folders belong to no project; a link to a file does.
    std::fs::create_dir_all(repository.project().join(".hidden")).unwrap();
    std::fs::write(repository.project().join(".hidden/x.pw"), "not policy").unwrap();
    std::fs::write(repository.folder.path().join("other.pw"), "not policy").unwrap();
    std::fs::rename(repository.project().join("tenants/shop.pw"), repository.folder.path().join("shop.text"))
        .unwrap();
    std::os::unix::fs::symlink("../../shop.text", repository.project().join("tenants/shop.pw")).unwrap();
    std::fs::write(repository.folder.path().join("shop.text"), SHOP.replace("tcp/5432", "tcp/5433")).unwrap();
    repository.commit_all();
    // The files as they are say something else again.
    std::fs::write(repository.folder.path().join("shop.text"), SHOP.replace("tcp/5432", "tcp/5434")).unwrap();

    let between = repository.run(&["diff", "--git", "first", "HEAD"]).expect(1).stdout;
    assert!(between.contains(": tcp/5432\n") && between.contains(": tcp/5433\n"), "{between}");
    assert!(
        between.ends_with("from first to HEAD: 1 box of flows opened, 1 box closed, 0 boxes rerouted\n"),
        "{between}"
    );
    let since = repository.run(&["diff", "--git", "HEAD"]).expect(1).stdout;
    assert!(since.contains(": tcp/5433\n") && since.contains(": tcp/5434\n"), "{since}");
    repository.run(&["diff", "--git", "HEAD", "HEAD"]).expect(0);
    let path = repository.project();
    let elsewhere = run(["diff", "--git", "--path", text(&path), "first", "HEAD"]).expect(1);
    assert_eq!(elsewhere.stdout, between);
    let comment =
        repository.run(&["diff", "--git", "first", "HEAD", "--format", "markdown"]).expect(1).stdout;
    assert!(comment.contains("From `first` to `HEAD`:"), "{comment}");
    // A name is text, whatever is in it.
    repository.git(&["tag", "we`ird|<b>@all", "first"]);
    let args = ["diff", "--git", "we`ird|<b>@all", "HEAD", "--format", "markdown"];
    let comment = repository.run(&args).expect(1).stdout;
    assert!(comment.contains("From ``we`ird|<b>@all`` to `HEAD`:"), "{comment}");
    // Nothing was written.
    assert_eq!(repository.git(&["status", "--porcelain"]), "M shop.text");
}

#[test]
fn what_is_no_revision_is_refused() {
    let repository = Repository::new();
    repository.commit(FABRIC, SHOP);
    let written = repository.project().join("written");
    let output = format!("--output={}", text(&written));
    for revision in [
        "nothing",
        "HEAD~7",
        "HEAD:fabric.pw",
        "HEAD..HEAD",
        "^HEAD",
        "",
        "a b",
        "HEAD\nHEAD",
        "@{-1}",
        &output,
    ] {
        let run = repository.run(&["diff", "--git", "--", revision, "HEAD"]).expect(2);
        assert!(run.stderr.contains("revision"), "{revision:?}: {}", run.stderr);
        let run = repository.run(&["check", &format!("--diff-base={revision}")]).expect(2);
        assert!(run.stderr.contains("revision"), "{revision:?}: {}", run.stderr);
    }
    assert!(!written.exists());
    // No repository, no project, no policy there.
    let outside = folder(FABRIC, SHOP);
    let run = run(["diff", "--git", "--path", text(outside.path()), "HEAD", "HEAD"]).expect(2);
    assert!(run.stderr.contains("is in no git repository"), "{}", run.stderr);
    std::fs::create_dir(repository.folder.path().join("new")).unwrap();
    let run = repository.run(&["diff", "--git", "--path", "../new", "HEAD"]).expect(2);
    assert!(run.stderr.contains("no .pw file below new/ at HEAD"), "{}", run.stderr);
}

#[test]
fn a_shallow_clone_is_told_what_to_fetch() {
    let repository = Repository::new();
    repository.commit(FABRIC, SHOP);
    let first = repository.git(&["rev-parse", "HEAD"]);
    repository.commit(FABRIC, &SHOP.replace("tcp/5432", "tcp/5433"));
    let shallow = Repository { folder: tempfile::tempdir().unwrap() };
    let from = format!("file://{}", text(repository.folder.path()));
    shallow.git(&["clone", "--quiet", "--depth=1", &from, "."]);
    for args in [&["diff", "--git", first.as_str(), "HEAD"][..], &["check", "--diff-base", first.as_str()]] {
        let run = shallow.run(args).expect(2);
        assert!(run.stderr.contains(&format!("git fetch --depth=1 origin {first}")), "{}", run.stderr);
    }
    shallow.git(&["fetch", "--quiet", "--depth=1", "origin", &first]);
    shallow.run(&["diff", "--git", &first, "HEAD"]).expect(1);
}

/// Code and place of each finding of a report, and the code's other places.
fn places(document: &Value) -> Vec<String> {
    let place = |value: &Value| format!("{}:{}", value["file"].as_str().unwrap(), value["line"]);
    let line = |finding: &Value| {
        let related = finding["related"].as_array().map_or(&[][..], Vec::as_slice);
        let related: Vec<String> = related.iter().map(place).collect();
        format!("{} {} [{}]", finding["code"].as_str().unwrap(), place(finding), related.join(" "))
    };
    findings(document).iter().map(line).collect()
}

#[test]
fn only_new_findings_are_reported_where_something_changed() {
    let repository = Repository::new();
    // One dead rule from the beginning.
    let known = SHOP.replace("  db:", "  again: allow front & 10.1.0.0/25 -> pay.api : tcp/443\n  db:");
    repository.commit(FABRIC, &known);
    repository.git(&["tag", "base"]);
    let check = |format: &str| {
        repository.run(&["check", "--today", TODAY, "--diff-base", "base", "--format", format])
    };
    assert_eq!(check("human").expect(0).stdout, "no findings that base did not have\n");
    assert!(!findings(&repository.run(&["check", "--today", TODAY, "--format", "json"]).json()).is_empty());

    // A rule above kills one below, on a line that did not change: the finding stands where the cause is. The file has
    // another name, and the dead rule that was there is still no news.
    std::fs::remove_file(repository.project().join("tenants/shop.pw")).unwrap();
    let wide = known.replace("  web:", "  // more\n  all: allow front -> front : tcp\n  web:");
    std::fs::write(repository.project().join("tenants/störe \"1\".pw"), &wide).unwrap();
    repository.git(&["add", "--all"]);
    let document = check("json").expect(0).json();
    assert_eq!(places(&document), ["PW0402 tenants/störe \"1\".pw:4 [tenants/störe \"1\".pw:7]"]);
    assert_eq!(document["summary"]["warnings"], 1);
    let sarif: Value = serde_json::from_str(&check("sarif").expect(0).stdout).unwrap();
    let results = sarif["runs"][0]["results"].as_array().unwrap();
    assert_eq!(results.len(), 1);
    assert_eq!(results[0]["locations"].as_array().unwrap().len(), 1);
    let region = |location: &Value| location["physicalLocation"]["region"]["startLine"].clone();
    assert_eq!(region(&results[0]["locations"][0]), 4);
    assert_eq!(region(&results[0]["relatedLocations"][0]), 7);
    for (format, place) in [
        ("concise", "tenants/störe \"1\".pw:4:"),
        ("github", "net work/tenants/störe \"1\".pw,line=4"),
        ("human", "tenants/störe \"1\".pw:4:"),
        ("gitlab", "\"begin\""),
        ("junit", "störe "),
        ("rdjson", "störe "),
    ] {
        let told = check(format).expect(0).stdout;
        assert!(told.contains(place), "{format}: {told}");
    }

    // A file that git does not follow is new as a whole; errors of it count.
    std::fs::write(
        repository.project().join("more.pw"),
        "policy more for shop in tenant {\n  allow shop -> nobody\n}\n",
    )
    .unwrap();
    let document = check("json").expect(1).json();
    assert!(
        places(&document).iter().any(|place| place.starts_with("PW0101 more.pw:2 ")),
        "{:?}",
        places(&document)
    );

    // Errors that were there do not fail the run.
    repository.commit_all();
    repository.git(&["tag", "--force", "base"]);
    check("json").expect(0);
}

#[test]
fn a_finding_of_many_lines_stands_on_the_one_that_changed() {
    let repository = Repository::new();
    let shop = |service: &str| {
        SHOP.replace(
            "  db: allow front -> front : tcp/5432",
            &format!("  all: allow front -> front : tcp\n  db: allow front\n    -> front :\n    {service}"),
        )
    };
    repository.commit(FABRIC, &shop("udp/53"));
    write(&repository.project(), FABRIC, &shop("tcp/5432"));
    let document = repository.run(&["check", "--diff-base", "HEAD", "--format", "json"]).expect(0).json();
    assert_eq!(places(&document), ["PW0402 tenants/shop.pw:7 [tenants/shop.pw:4]"]);
    let finding = &findings(&document)[0];
    assert_eq!((&finding["column"], &finding["end_column"]), (&Value::from(5), &Value::from(13)));
}

#[test]
fn a_project_that_is_new_has_new_findings_only() {
    let repository = Repository::new();
    std::fs::write(repository.folder.path().join("README"), "nothing yet\n").unwrap();
    repository.commit_all();
    write(&repository.project(), FABRIC, &SHOP.replace("front -> front", "frnt -> front"));
    let document = repository.run(&["check", "--diff-base", "HEAD", "--format", "json"]).expect(1).json();
    assert!(
        places(&document).iter().any(|place| place.starts_with("PW0101 tenants/shop.pw:4 ")),
        "{document}"
    );
}
