//! The command line: exit statuses, streams, and documents that fit their schemas.

mod support;

use serde_json::Value;
use std::fs::File;
use std::io::Read;
use std::process::Stdio;
use support::schema::{named, part, violations};
use support::{TODAY, check, command, findings, project, report, root, run, run_with};

const QUICKSTART: &str = "examples/01-quickstart";
const BROKEN: &str = "examples/03-broken";
const PACKET: &str = "tcp 10.1.0.5:40000 -> 10.1.1.9:5432";
const LINE: &str =
    r#"{"in":"shop","proto":"tcp","src":"10.1.0.5","sport":40000,"dst":"10.1.1.9","dport":5432}"#;

#[test]
fn every_status_has_its_meaning() {
    let cases: &[(&[&str], i32)] = &[
        (&["check", QUICKSTART], 0),
        (&["check", BROKEN], 1),
        (&["check", "examples"], 1),
        (&["check", "nowhere"], 2),
        (&["check", "--format", "morse", QUICKSTART], 2),
        (&["check", "--deny", "PW9999", QUICKSTART], 2),
        (&["check", "--allow", "PW0101", QUICKSTART], 2),
        (&["check", "--today", "2026-02-30", QUICKSTART], 2),
        (&["check", "--jobs", "0", QUICKSTART], 2),
        (&["fmt", "--check", QUICKSTART], 0),
        (&["fmt", "nowhere.pw"], 2),
        (&["explain", "PW0401"], 0),
        (&["explain", "pw0401"], 0),
        (&["explain", "PW0400"], 2),
        (&["eval", QUICKSTART], 0),
        (&["eval", BROKEN], 1),
        (&["eval", "nowhere"], 2),
        (&["trace", QUICKSTART, "--in", "shop", PACKET], 0),
        (&["trace", BROKEN, "--in", "shop", PACKET], 1),
        (&["trace", QUICKSTART, "--in", "nobody", PACKET], 2),
        (&["trace", QUICKSTART, "--in", "shop", "tcp 10.1.0.5 ->"], 2),
        (&["trace", QUICKSTART, "--in", "shop", "tcp 10.1.0.5:1 -> 10.1.0.5:2"], 2),
        (&["completions", "bash"], 0),
        (&["completions", "abacus"], 2),
        (&["--version"], 0),
        (&["--help"], 0),
        (&["check", "--help"], 0),
        (&[], 2),
        (&["dance"], 2),
    ];
    for (args, status) in cases {
        let run = run(*args);
        assert_eq!(run.status, *status, "{args:?}\n{}\n{}", run.stdout, run.stderr);
        if *status == 2 {
            assert!(run.stdout.is_empty(), "{args:?} prints results: {}", run.stdout);
            assert!(!run.stderr.is_empty(), "{args:?} does not say why");
        }
        if *status == 0 {
            assert!(run.stderr.is_empty(), "{args:?}: {}", run.stderr);
        }
    }
}

#[test]
fn an_output_that_cannot_be_written_is_a_failure() {
    for args in [
        vec!["check", QUICKSTART],
        vec!["check", BROKEN, "--format", "json"],
        vec!["explain", "PW0401"],
        vec!["eval", QUICKSTART],
        vec!["trace", QUICKSTART, "--in", "shop", PACKET],
        vec!["completions", "zsh"],
        vec!["--help"],
        vec!["--version"],
    ] {
        let full = File::options().write(true).open("/dev/full").unwrap();
        let mut command = command(&args);
        let packets = root().join(QUICKSTART).join("expected/packets.jsonl");
        let mut child =
            command.stdin(File::open(packets).unwrap()).stdout(full).stderr(Stdio::piped()).spawn().unwrap();
        let mut said = String::new();
        child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
        assert_eq!(child.wait().unwrap().code(), Some(2), "{args:?}: {said}");
    }
}

#[test]
fn a_reader_that_goes_away_is_no_failure() {
    for args in
        [vec!["check", QUICKSTART], vec!["explain", "PW0401"], vec!["completions", "bash"], vec!["--help"]]
    {
        let mut child = command(&args)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        drop(child.stdout.take());
        let mut said = String::new();
        child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
        assert_eq!((child.wait().unwrap().code(), said.as_str()), (Some(0), ""), "{args:?}");
    }
}

#[test]
fn eval_answers_each_line_before_it_waits_for_the_next() {
    use std::io::{BufRead, BufReader, Write};
    let mut child =
        command(["eval", QUICKSTART]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut input = child.stdin.take().unwrap();
    let mut output = BufReader::new(child.stdout.take().unwrap());
    for _ in 0..3 {
        writeln!(input, "{LINE}").unwrap();
        let mut answer = String::new();
        output.read_line(&mut answer).unwrap();
        assert!(answer.contains("\"allow\""), "{answer}");
    }
    drop(input);
    assert_eq!(child.wait().unwrap().code(), Some(0));
}

#[test]
fn colours_are_for_terminals_and_for_who_asks() {
    let escape = |run: &support::Run| run.stdout.contains('\u{1b}');
    assert!(!escape(&run(["check", BROKEN])));
    assert!(escape(&run(["check", BROKEN, "--color", "always"])));
    assert!(!escape(&run(["check", BROKEN, "--color", "always", "--format", "json"])));
}

#[test]
fn logs_go_to_standard_error() {
    let plain = run(["check", QUICKSTART]).expect(0);
    let told = run(["check", QUICKSTART, "-v"]).expect(0);
    assert_eq!(plain.stdout, told.stdout);
    assert!(told.stderr.contains("parsed"), "{}", told.stderr);
    let json = run(["check", QUICKSTART, "-v", "--log-format", "json"]).expect(0);
    assert!(!json.stderr.is_empty());
    for line in json.stderr.lines() {
        assert!(serde_json::from_str::<Value>(line).is_ok(), "{line}");
    }
}

#[test]
fn the_number_of_threads_changes_no_byte() {
    for format in ["human", "concise", "json"] {
        let one = run(["check", BROKEN, "--today", TODAY, "--format", format, "--jobs", "1"]);
        let eight = run(["check", BROKEN, "--today", TODAY, "--format", format, "--jobs", "8"]);
        assert_eq!(one.stdout, eight.stdout);
    }
}

#[test]
fn levels_of_the_command_line_win() {
    let path = root().join(BROKEN);
    let severity = |document: &Value, code: &str| -> Vec<String> {
        let found = findings(document).iter().filter(|f| f["code"] == code);
        found.map(|f| f["severity"].as_str().unwrap().to_owned()).collect()
    };
    let document = check(&path);
    assert!(severity(&document, "PW0407").contains(&"warning".to_owned()));
    let args = ["check", BROKEN, "--today", TODAY, "--format", "json"];
    let denied = run(args.into_iter().chain(["--deny", "PW0407"])).expect(1).json();
    assert!(severity(&denied, "PW0407").iter().all(|s| s == "error"));
    let allowed = run(args.into_iter().chain(["--allow", "PW0407"])).expect(1).json();
    assert_eq!(severity(&allowed, "PW0407"), [] as [&str; 0]);
}

#[test]
fn check_documents_fit_their_schema() {
    let (check_schema, eval_schema) = (named("check-1.schema.json"), named("eval-1.schema.json"));
    let (packet, answer) = (part(&eval_schema, "packet"), part(&eval_schema, "answer"));
    let mut witnesses = 0;
    for example in ["examples/01-quickstart", "examples/02-datacenter", BROKEN] {
        let document = check(&root().join(example));
        report(&violations(&check_schema, &document));
        for witness in findings(&document).iter().filter_map(|f| f.get("witness")) {
            witnesses += 1;
            report(&violations(&packet, &witness["packet"]));
            report(&violations(&answer, &witness["decision"]));
        }
    }
    assert!(witnesses > 0);
}

#[test]
fn eval_lines_fit_their_schema() {
    let schema = named("eval-1.schema.json");
    let (packet, answer) = (part(&schema, "packet"), part(&schema, "answer"));
    for example in ["examples/01-quickstart", "examples/02-datacenter"] {
        let packets = std::fs::read_to_string(root().join(example).join("expected/packets.jsonl")).unwrap();
        for line in packets.lines() {
            report(&violations(&packet, &serde_json::from_str(line).unwrap()));
        }
        for line in run_with(["eval", example], packets.as_bytes()).stdout.lines() {
            report(&violations(&answer, &serde_json::from_str(line).unwrap()));
        }
    }
    let bad = run_with(["eval", QUICKSTART], b"{}\n").expect(1).json();
    assert_eq!(violations(&answer, &bad), [] as [&str; 0]);
    assert_ne!(
        violations(&answer, &serde_json::json!({ "verdict": "perhaps", "reason": "rule" })),
        [] as [&str; 0]
    );
}

#[test]
fn every_witness_is_decided_by_eval_as_its_finding_says() {
    let mut replayed = 0;
    for case in support::cases(&root().join("tests/language/err")) {
        let document = check(&case);
        let witnesses: Vec<&Value> = findings(&document).iter().filter_map(|f| f.get("witness")).collect();
        let input: String = witnesses.iter().map(|w| format!("{}\n", w["packet"])).collect();
        let run = run_with(["eval", case.to_str().unwrap(), "--today", TODAY], input.as_bytes());
        // Without a line out the project's meaning is open, and `eval` has said so.
        for (line, witness) in run.stdout.lines().zip(witnesses) {
            replayed += 1;
            assert_eq!(
                serde_json::from_str::<Value>(line).unwrap(),
                witness["decision"],
                "{}",
                case.display()
            );
        }
    }
    assert!(replayed > 10, "only {replayed} witnesses were replayed");
}

#[test]
fn fmt_writes_in_place_and_changes_nothing_twice() {
    let text = "node   c1 {vtep 192.0.2.11 dev eth0}\n\n\n\n// kept\nservice a=tcp/1\n";
    let folder =
        project([("a.pw", text.as_bytes()), ("sub/b.pw", text.as_bytes()), ("sub/c.txt", text.as_bytes())]);
    let path = folder.path().to_str().unwrap();
    let read = |name: &str| std::fs::read_to_string(folder.path().join(name)).unwrap();

    let listed = run(["fmt", "--check", path]).expect(1);
    assert_eq!(listed.stdout, format!("{path}/a.pw\n{path}/sub/b.pw\n"));
    let diff = run(["fmt", "--diff", path]).expect(1);
    assert!(diff.stdout.contains("-node   c1 {vtep 192.0.2.11 dev eth0}"), "{}", diff.stdout);
    assert_eq!(read("a.pw"), text, "--check and --diff write nothing");

    assert_eq!(run(["fmt", path]).expect(0).stdout, "");
    let laid_out = read("a.pw");
    assert!(laid_out.contains("// kept") && laid_out != text);
    assert_eq!(read("sub/b.pw"), laid_out);
    assert_eq!(read("sub/c.txt"), text);
    run(["fmt", "--check", path]).expect(0);
    assert_eq!(run_with(["fmt", "-"], text.as_bytes()).expect(0).stdout, laid_out);
}

#[test]
fn fmt_leaves_what_it_cannot_read() {
    let folder = project([("bad.pw", b"node {".as_slice()), ("good.pw", b"service  a=tcp/1\n")]);
    let run = run(["fmt".as_ref(), folder.path().as_os_str()]).expect(2);
    assert!(run.stderr.contains("bad.pw is left as it is"), "{}", run.stderr);
    assert_eq!(std::fs::read(folder.path().join("bad.pw")).unwrap(), b"node {");
    assert_eq!(std::fs::read(folder.path().join("good.pw")).unwrap(), b"service a = tcp/1\n");
}

#[test]
fn init_makes_a_clean_project_and_overwrites_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let new = folder.path().join("new");
    run(["init".as_ref(), new.as_os_str()]).expect(0);
    run(["check".as_ref(), new.as_os_str()]).expect(0);
    let again = run(["init".as_ref(), new.as_os_str()]).expect(2);
    assert!(again.stderr.contains("is not empty"), "{}", again.stderr);
}

#[test]
fn every_subcommand_has_a_manual_page() {
    let folder = tempfile::tempdir().unwrap();
    run(["man".as_ref(), "--out".as_ref(), folder.path().as_os_str()]).expect(0);
    let help = run(["--help"]).expect(0).stdout;
    let commands =
        help.lines().skip_while(|line| *line != "Commands:").skip(1).take_while(|line| !line.is_empty());
    let mut count = 0;
    for name in commands.filter_map(|line| line.split_whitespace().next()) {
        count += 1;
        let page = folder.path().join(format!("partywall-{name}.1"));
        assert!(name == "help" || page.is_file(), "{} is missing", page.display());
    }
    assert!(count > 5, "{help}");
}
