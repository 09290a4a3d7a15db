//! Malformed input of every kind: a clear answer, never a panic, an overflowing stack, or a run without end.

mod support;

use std::ffi::OsStr;
use std::fs::File;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::process::Command;
use support::{Run, check, command, findings, finish, project, run, run_with};

/// `check` of one file with these bytes: the codes found, in order.
#[track_caller]
fn codes(bytes: &[u8]) -> Vec<String> {
    let folder = project([("policy.pw", bytes)]);
    let document = check(folder.path());
    findings(&document).iter().map(|f| f["code"].as_str().unwrap().to_owned()).collect()
}

/// Every other subcommand that reads a project says something clear of it, too, and so do the other formats.
#[track_caller]
fn everywhere(bytes: &[u8]) {
    let folder = project([("policy.pw", bytes)]);
    let path = folder.path().to_str().unwrap();
    for args in [
        vec!["check", path],
        vec!["check", path, "--format", "concise"],
        vec!["fmt", "--check", path],
        vec!["eval", path],
        vec!["trace", path, "--in", "shop", "tcp 10.1.0.5:1 -> 10.1.0.6:2"],
    ] {
        let run = run(&args);
        assert!(run.status == 1 || run.status == 2, "{args:?}: {}\n{}", run.status, run.stdout);
        assert!(!run.stdout.is_empty() || !run.stderr.is_empty(), "{args:?} says nothing");
    }
}

#[track_caller]
fn refused(run: Run, part: &str) {
    let run = run.expect(2);
    assert!(run.stdout.is_empty(), "{}", run.stdout);
    assert!(run.stderr.contains(part), "{}", run.stderr);
    assert!(!run.stderr.contains("os error"), "{}", run.stderr);
}

fn check_path(path: &Path) -> Run {
    run([OsStr::new("check"), path.as_os_str()])
}

#[test]
fn unterminated_string() {
    let text = b"policy p in t {\n  deny any -> any because \"oops\n}\n";
    assert!(codes(text).contains(&"PW0003".to_owned()));
    everywhere(text);
}

#[test]
fn a_line_of_ten_megabytes() {
    let mut text = b"fabric ".to_vec();
    text.resize(10 << 20, b'x');
    assert!(!codes(&text).is_empty());
    everywhere(&text);
    let comment = [b"// ".as_slice(), &vec![b'-'; 10 << 20], b"\nnode"].concat();
    assert!(!codes(&comment).is_empty());
    let spaces = [vec![b' '; 10 << 20], b"node".to_vec()].concat();
    assert!(!codes(&spaces).is_empty());
}

#[test]
fn nul_bytes() {
    assert!(codes(b"fabric f {\0}\n").contains(&"PW0007".to_owned()));
    everywhere(&[0; 4096]);
}

#[test]
fn invalid_utf8() {
    assert!(codes(b"fabric f {\n  // caf\xe9\n}\n").contains(&"PW0007".to_owned()));
    everywhere(b"\xff\xfe\x00f\x00a");
}

#[test]
fn a_hundred_thousand_errors_are_a_capped_list() {
    // What comes of one stray sign repeated is one finding; of errors that stand each for itself, a list that is cut off.
    for (line, cut_off) in [
        ("node\n", true),
        ("policy p in t { deny any -> \n", true),
        ("}\n", false),
        ("$\n", true),
        ("\"\n", true),
        ("10.1.0.999\n", true),
    ] {
        let mut found = codes(line.repeat(100_000).as_bytes());
        found.retain(|code| code.starts_with("PW00"));
        assert!(found.len() < 1_000, "{line:?} gives {} findings", found.len());
        assert!(!found.is_empty(), "{line:?}");
        assert_eq!(found.contains(&"PW0010".to_owned()), cut_off, "{line:?}: {found:?}");
    }
    everywhere("node\n".repeat(100_000).as_bytes());
}

/// A name that is unknown in a hundred thousand places of a file is one mistake.
#[test]
fn an_unknown_name_is_listed_a_hundred_times() {
    let uses = vec!["a"; 100_000].join(" | ");
    let text = format!("group g = {uses}\ngroup h = b\n");
    let found = codes(text.as_bytes());
    assert_eq!(found.iter().filter(|code| *code == "PW0101").count(), 101, "100 of `a`, one of `b`");
}

#[test]
fn people_are_shown_a_thousand_findings_and_told_of_the_others() {
    let folder = project([("policy.pw", "service s = tcp\n".repeat(100_000).as_bytes())]);
    let run = check_path(folder.path()).expect(1);
    assert!(run.stdout.len() < 1 << 20, "{} bytes", run.stdout.len());
    assert!(run.stdout.contains("more; `--format concise` and `--format json` list all"));
    assert!(findings(&check(folder.path())).len() >= 99_999);
}

#[test]
fn a_thousand_parentheses() {
    for depth in [1_000, 100_000] {
        let set = format!("{}any{}", "(".repeat(depth), ")".repeat(depth));
        assert!(codes(format!("group g = {set}\n").as_bytes()).contains(&"PW0008".to_owned()));
        let open = format!("group g = {}", "(".repeat(depth));
        assert!(!codes(open.as_bytes()).is_empty());
        everywhere(open.as_bytes());
        assert!(!codes("{".repeat(depth).as_bytes()).is_empty());
    }
    let wide = format!("group g = any{}\n", " | any".repeat(100_000));
    assert!(!codes(wide.as_bytes()).is_empty());
    let except = format!("group g = any{}\n", " except any".repeat(100_000));
    assert!(!codes(except.as_bytes()).is_empty());
}

#[test]
fn an_empty_file_is_a_project_without_a_fabric() {
    assert!(!codes(b"").is_empty());
    assert!(!codes(b"\xef\xbb\xbf").is_empty(), "a byte order mark alone");
}

#[test]
fn carriage_returns_are_white_space() {
    let text = include_str!("../examples/01-quickstart/fabric.pw").replace('\n', "\r\n");
    assert!(!codes(text.as_bytes()).iter().any(|code| code < &"PW0100".to_owned()));
}

#[test]
fn a_loop_of_folders_is_harmless() {
    let folder = project([("a/policy.pw", b"node".as_slice())]);
    std::os::unix::fs::symlink(folder.path(), folder.path().join("a/again")).unwrap();
    std::os::unix::fs::symlink("self", folder.path().join("self")).unwrap();
    let document = check(folder.path());
    assert!(findings(&document).iter().all(|f| f["file"] == "a/policy.pw"));
}

#[test]
fn hidden_folders_do_not_belong_to_a_project() {
    let folder =
        project([("policy.pw", b"node".as_slice()), (".git/other.pw", b"\0"), (".#policy.pw", b"\0")]);
    let document = check(folder.path());
    assert!(findings(&document).iter().all(|f| f["file"] == "policy.pw"));
}

#[test]
fn a_link_that_leads_nowhere_is_named() {
    let folder = project([("policy.pw", b"node".as_slice())]);
    std::os::unix::fs::symlink("nowhere", folder.path().join("lost.pw")).unwrap();
    refused(check_path(folder.path()), "lost.pw");
}

#[test]
fn a_pipe_with_a_policys_name_is_not_waited_for() {
    let folder = project([("policy.pw", b"node".as_slice())]);
    assert!(Command::new("mkfifo").arg(folder.path().join("pipe.pw")).status().unwrap().success());
    refused(check_path(folder.path()), "pipe.pw is not a regular file");
}

#[test]
fn an_unreadable_file_is_named() {
    use std::os::unix::fs::PermissionsExt;
    let folder = project([("policy.pw", b"node".as_slice()), ("secret.pw", b"node")]);
    let secret = folder.path().join("secret.pw");
    std::fs::set_permissions(&secret, std::fs::Permissions::from_mode(0o000)).unwrap();
    let as_other = std::fs::read(&secret).is_ok();
    let run = if as_other {
        // Root reads everything, so somebody else asks.
        std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
        let mut other = Command::new("setpriv");
        other.args(["--reuid=65534", "--regid=65534", "--clear-groups"]);
        let inner = command(["check".as_ref(), folder.path().as_os_str()]);
        let copy = folder.path().join("partywall");
        std::fs::copy(inner.get_program(), &copy).unwrap();
        std::fs::set_permissions(&copy, std::fs::Permissions::from_mode(0o755)).unwrap();
        other.arg(copy).args(inner.get_args());
        finish(other, b"")
    } else {
        check_path(folder.path())
    };
    refused(run, "secret.pw: Permission denied");
}

#[test]
fn what_is_not_there_is_named() {
    refused(check_path(Path::new("/nowhere/at/all")), "/nowhere/at/all");
    let folder = project([("notes.txt", b"hello".as_slice())]);
    refused(check_path(folder.path()), "no .pw file");
    refused(check_path(&folder.path().join("notes.txt")), "notes.txt is neither a folder nor a .pw file");
    let strange = folder.path().join(OsStr::from_bytes(b"\xff.pw"));
    std::fs::write(strange, "node").unwrap();
    refused(check_path(folder.path()), "is not UTF-8");
}

#[test]
fn a_file_that_is_far_too_large_is_not_read() {
    let folder = project([("policy.pw", b"".as_slice())]);
    // A hole, not bytes.
    File::create(folder.path().join("policy.pw")).unwrap().set_len(1 << 40).unwrap();
    refused(check_path(folder.path()), "policy.pw is larger than");
}

#[test]
fn bad_settings_are_named() {
    let fabric = include_bytes!("../examples/01-quickstart/fabric.pw").as_slice();
    for (settings, part) in [
        (b"[lints".as_slice(), "partywall.toml"),
        (b"\xff", "partywall.toml"),
        (b"[lints]\nPW9999 = \"deny\"", "PW9999"),
    ] {
        let folder = project([("fabric.pw", fabric), ("partywall.toml", settings)]);
        refused(check_path(folder.path()), part);
    }
}

#[test]
fn malformed_packets_are_answered_in_place() {
    let good = r#"{"in":"shop","proto":"tcp","src":"10.1.0.5","sport":40000,"dst":"10.1.1.9","dport":5432}"#;
    let long = "x".repeat(1 << 20);
    let nested = "[".repeat(100_000);
    let bad: Vec<&[u8]> = vec![
        b"",
        b"{",
        b"null",
        b"[]",
        b"\xff\xfe",
        b"{\"in\":\"shop\"}",
        br#"{"in":"shop","proto":"tcp","src":"10.1.0.5","sport":99999,"dst":"10.1.1.9","dport":1}"#,
        br#"{"in":"shop","proto":"tcp","src":"fd00::1","sport":1,"dst":"10.1.1.9","dport":1}"#,
        br#"{"in":"shop","proto":"tcp","src":"10.1.0.5","dst":"10.1.1.9","dport":1}"#,
        br#"{"in":"shop","proto":"icmp","src":"10.1.0.5","dst":"10.1.1.9","type":8}"#,
        br#"{"in":"shop","proto":"tcp","src":"10.1.0.5","sport":1,"dst":"10.1.0.5","dport":1}"#,
        br#"{"in":"nobody","proto":"tcp","src":"10.1.0.5","sport":1,"dst":"10.1.0.6","dport":1}"#,
        long.as_bytes(),
        nested.as_bytes(),
    ];
    let mut input = Vec::new();
    for line in &bad {
        input.extend_from_slice(line);
        input.push(b'\n');
        input.extend_from_slice(good.as_bytes());
        input.push(b'\n');
    }
    let run = run_with(["eval", "examples/01-quickstart"], &input).expect(1);
    let lines: Vec<serde_json::Value> =
        run.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len(), 2 * bad.len());
    for (pair, line) in lines.chunks(2).zip(&bad) {
        let shown = String::from_utf8_lossy(line.get(..40).unwrap_or(line)).into_owned();
        assert!(pair[0]["error"].as_str().is_some_and(|e| !e.is_empty()), "{shown}: {}", pair[0]);
        assert_eq!(pair[1]["verdict"], "allow", "after {shown}");
    }
}
