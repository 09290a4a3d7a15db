//! `check --cache`: a run that takes what it can from earlier ones says what a run without them says, to the byte.

#[path = "../benches/support/fleet.rs"]
mod fleet;
#[path = "differential/generate.rs"]
#[expect(dead_code, reason = "the harness uses its own part")]
mod generate;
mod support;

use fleet::Size;
use generate::Rng;
use lang::ast::Date;
use partywall::cache::Cache;
use partywall::checked::{Request, check};
use partywall::cli::{Judging, Levels, Proving};
use partywall::project::{File, Project};
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use support::{TODAY, run};

const JUDGING: Judging = Judging { today: Some(Date { year: 2026, month: 6, day: 1 }), jobs: None };

fn proving() -> Proving {
    Proving { solver_budget: verifier::Options::DEFAULT_BUDGET, certify: false }
}

/// Everything that is said of a project.
fn said(project: &Project, cache: Option<&Cache>) -> String {
    let proving = proving();
    let request = Request { judging: &JUDGING, proving: &proving, cache, shard: None };
    let checked = check(project, request).unwrap();
    let skipped = checked.state.skipped.join(" ");
    let report = checked.settle(&Levels::default(), None).unwrap();
    format!("{skipped}\n{:?}\n{:#?}", report.facts, report.findings)
}

/// A random project, its declarations dealt out to files.
fn random(seed: u64) -> Project {
    let mut rng = Rng::new(seed ^ 0xcafe);
    let text = generate::project(seed);
    let mut texts = vec![String::new(); 1 + rng.below(4)];
    let mut at = 0;
    for line in text.lines() {
        let starts = !line.starts_with([' ', '}']);
        if starts {
            at = rng.below(texts.len());
        }
        texts[at].push_str(line);
        texts[at].push('\n');
    }
    let files = texts.into_iter().enumerate();
    let files = files.map(|(n, text)| File { path: format!("f{n}.pw"), bytes: text.into_bytes() }).collect();
    Project { root: PathBuf::new(), files, config: None }
}

/// One change as people make them, some that break the project.
fn edit(project: &mut Project, rng: &mut Rng) {
    let count = project.files.len();
    let file = &mut project.files[rng.below(count)];
    let mut lines: Vec<String> =
        String::from_utf8(file.bytes.clone()).unwrap().lines().map(str::to_owned).collect();
    if lines.is_empty() {
        lines.push(String::new());
    }
    let at = rng.below(lines.len());
    // Mostly where something is decided.
    let rules: Vec<usize> = (0..lines.len()).filter(|n| lines[*n].starts_with("  ")).collect();
    let at = if rules.is_empty() || rng.chance(20) { at } else { rules[rng.below(rules.len())] };
    match rng.below(12) {
        0 => lines.insert(at, "// a remark".to_owned()),
        1 => drop(lines.remove(at)),
        2 => {
            let line = lines[at].clone();
            lines.insert(at, line);
        }
        3 => {
            let other = rng.below(lines.len());
            lines.swap(at, other);
        }
        4 => lines[at] = lines[at].replace("allow", "deny"),
        5 => lines[at] = lines[at].replace("deny", "allow"),
        6 => lines[at] = lines[at].replace("10.1.0", "10.1.1"),
        7 => lines[at] = lines[at].replace("tcp", "udp"),
        8 => lines[at] = lines[at].replace(" log", ""),
        9 => lines[at] = lines[at].replace("443", "80"),
        10 => {
            // Another file comes first, so that every number of a file is another.
            file.path = format!("{}-{}", ["a", "z"][rng.below(2)], file.path);
        }
        _ => lines[at] = format!("  // partywall: allow(PW0402) reason\n{}", lines[at]),
    }
    file.bytes = (lines.join("\n") + "\n").into_bytes();
    project.files.sort_by(|a, b| a.path.cmp(&b.path));
}

/// How many projects, and how many edits of each. `PARTYWALL_PROJECTS` sets the first.
const PROJECTS: usize = 50;
const EDITS: usize = 24;

#[test]
fn a_warm_run_says_what_a_cold_one_says() {
    let projects = std::env::var("PARTYWALL_PROJECTS")
        .map_or(PROJECTS, |text| text.parse().expect("PARTYWALL_PROJECTS is a number"));
    let (mut known, mut with_findings) = (0, 0);
    for seed in 0..projects as u64 {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::new(folder.path());
        let mut rng = Rng::new(seed);
        let mut project = random(seed);
        let mut before = vec![project.clone()];
        for step in 0..EDITS {
            let cold = said(&project, None);
            let warm = said(&project, Some(&cache));
            assert_eq!(cold, warm, "project {seed}, step {step}:\n{project:#?}");
            known += usize::from(said(&project, Some(&cache)) == cold);
            with_findings += usize::from(cold.contains("Diagnostic"));
            // Sometimes back to what was, as branches are.
            if rng.chance(10) {
                project = before[rng.below(before.len())].clone();
            } else {
                edit(&mut project, &mut rng);
                before.push(project.clone());
            }
        }
    }
    assert_eq!(known, projects * EDITS);
    assert!(
        with_findings * 4 > projects * EDITS,
        "{with_findings}: too few projects with findings show nothing"
    );
}

/// What a word of a rule may become.
const WORDS: [(&str, &str); 10] = [
    ("allow", "deny"),
    ("deny", "allow"),
    ("deny", "pass"),
    ("tcp", "udp"),
    ("443", "80"),
    ("10.1.0", "10.1.1"),
    (" log", ""),
    ("any", "same-tenant"),
    ("internet", "hq"),
    (" overrides", " // overrides"),
];

/// Projects in which witnesses tell decisions of two views: a change in one tenant's rules changes what is said of another's.
#[test]
fn every_small_change_is_seen() {
    let telling = |project: &Project| {
        let said = said(project, None);
        said.starts_with('\n') && said.contains("ingress_rule")
    };
    let projects: Vec<Project> = (0..).map(random).filter(telling).take(PROJECTS / 8).collect();
    let mut changed = 0;
    for project in projects {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::new(folder.path());
        let base = said(&project, Some(&cache));
        for file in 0..project.files.len() {
            let text = String::from_utf8(project.files[file].bytes.clone()).unwrap();
            for (at, line) in text.lines().enumerate().filter(|(_, line)| line.starts_with("  ")) {
                for (word, other) in WORDS.iter().filter(|(word, _)| line.contains(word)) {
                    let mut lines: Vec<&str> = text.lines().collect();
                    let line = line.replacen(word, other, 1);
                    lines[at] = &line;
                    let mut project = project.clone();
                    project.files[file].bytes = (lines.join("\n") + "\n").into_bytes();
                    let cold = said(&project, None);
                    assert_eq!(cold, said(&project, Some(&cache)), "{line} in {project:#?}");
                    changed += usize::from(cold != base);
                }
            }
        }
    }
    assert!(changed > 100, "{changed} changes that change what is said");
}

/// A tenant in error keeps every rule that reaches it from being judged, also where the two have nothing to do with each other.
#[test]
fn an_error_far_away_is_seen() {
    let fabric = "fabric f {\n  encap vxlan port 4789\n  underlay mtu 9000 family ipv4\n  precedence tenant\n  \
                  delegate tenant\n  unknown-vni drop\n}\n";
    let near = "tenant near id 1 { segment s vni 1 { 10.0.0.0/24 } }\npolicy p for near in tenant {\n  \
                allow s -> any\n  deny s -> any : tcp/80\n}\n";
    let far = |vni: &str| format!("tenant far id 2 {{ segment s vni {vni} {{ 10.0.0.0/24 }} }}\n");
    let project = |far: &str| {
        let file = |path: &str, text: &str| File { path: path.to_owned(), bytes: text.as_bytes().to_vec() };
        let files = vec![file("fabric.pw", fabric), file("far.pw", far), file("near.pw", near)];
        Project { root: PathBuf::new(), files, config: None }
    };
    let folder = tempfile::tempdir().unwrap();
    let cache = Cache::new(folder.path());
    let (sound, broken) = (project(&far("2")), project(&far("0")));
    let first = said(&sound, Some(&cache));
    assert!(first.contains("PW0402"), "{first}");
    let second = said(&broken, Some(&cache));
    assert!(second.contains("PW0201") && !second.contains("PW0402"), "{second}");
    assert_eq!(second, said(&broken, None));
}

#[test]
fn what_was_spoiled_is_made_anew() {
    let project = random(7);
    let cold = said(&project, None);
    let folder = tempfile::tempdir().unwrap();
    let cache = Cache::new(folder.path());
    assert_eq!(said(&project, Some(&cache)), cold);
    let entries: Vec<PathBuf> =
        support::files(folder.path()).into_iter().map(|path| folder.path().join(path)).collect();
    assert_eq!(entries.len(), 2, "one for the run, one for its units: {entries:?}");
    let sound: Vec<Vec<u8>> = entries.iter().map(|path| std::fs::read(path).unwrap()).collect();
    let mut rng = Rng::new(1);
    for round in 0..200 {
        for (path, sound) in entries.iter().zip(&sound) {
            let mut bytes = sound.clone();
            match rng.below(6) {
                0 => bytes.truncate(rng.below(sound.len())),
                1 => bytes.clear(),
                2 => bytes = sound[..sound.len() / 2].repeat(3),
                3 => {
                    bytes = String::from_utf8_lossy(sound)
                        .replace(env!("CARGO_PKG_VERSION"), "0.0.1")
                        .into_bytes()
                }
                _ => {
                    let at = rng.below(bytes.len());
                    bytes[at] ^= 1 << rng.below(8);
                }
            }
            std::fs::write(path, bytes).unwrap();
        }
        assert_eq!(said(&project, Some(&cache)), cold, "round {round}");
        let runs = entries.iter().zip(&sound).filter(|(path, _)| path.to_string_lossy().contains("run-"));
        for (path, sound) in runs {
            assert!(
                std::fs::read(path).unwrap() == *sound,
                "round {round}: the report that is kept is the same"
            );
        }
    }
}

/// An entry under the name of another is none, even if it is sound.
#[test]
fn what_was_exchanged_is_made_anew() {
    let folder = tempfile::tempdir().unwrap();
    let cache = Cache::new(folder.path());
    let (one, other) = (random(1), random(2));
    let (first, second) = (said(&one, None), said(&other, None));
    assert_ne!(first, second);
    let entries =
        || support::files(folder.path()).into_iter().map(|path| folder.path().join(path)).collect::<Vec<_>>();
    assert_eq!(said(&one, Some(&cache)), first);
    let of_one = entries();
    assert_eq!(said(&other, Some(&cache)), second);
    let runs: Vec<PathBuf> = entries()
        .into_iter()
        .filter(|path| path.file_name().unwrap().to_str().unwrap().starts_with("run-"))
        .collect();
    assert_eq!(runs.len(), 2, "{of_one:?}");
    let texts: Vec<Vec<u8>> = runs.iter().map(|path| std::fs::read(path).unwrap()).collect();
    std::fs::write(&runs[0], &texts[1]).unwrap();
    std::fs::write(&runs[1], &texts[0]).unwrap();
    assert_eq!(said(&one, Some(&cache)), first);
    assert_eq!(said(&other, Some(&cache)), second);
}

fn check_with(project: &Path, cache: &Path, more: &[&str]) -> support::Run {
    let fixed: [&OsStr; 6] = [
        "check".as_ref(),
        project.as_os_str(),
        "--today".as_ref(),
        TODAY.as_ref(),
        "--cache".as_ref(),
        cache.as_os_str(),
    ];
    run(fixed.into_iter().chain(more.iter().map(OsStr::new)))
}

#[test]
fn a_folder_that_cannot_be_written_to_is_a_warning() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    std::fs::write(&file, "no folder").unwrap();
    let project = support::root().join("examples/01-quickstart");
    let run = check_with(&project, &file, &[]).expect(0);
    assert!(run.stderr.contains("cannot write to") && run.stderr.contains("are not kept"), "{}", run.stderr);
    assert_eq!(run.stderr.lines().count(), 1, "{}", run.stderr);
}

/// Every format and every option, from the cache and not; what levels do is not stored.
#[test]
fn the_whole_command_says_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let project = support::root().join("examples/03-broken");
    for _ in 0..2 {
        for format in ["human", "concise", "json", "sarif", "github", "gitlab", "junit", "rdjson"] {
            for more in
                [&[][..], &["--deny", "PW0402"], &["--allow", "PW0401"], &["--certify"], &["--jobs", "1"]]
            {
                let arguments: Vec<&str> = [&["--format", format], more].concat();
                let fixed: [&OsStr; 4] =
                    ["check".as_ref(), project.as_os_str(), "--today".as_ref(), TODAY.as_ref()];
                let cold = run(fixed.into_iter().chain(arguments.iter().map(OsStr::new)));
                let warm = check_with(&project, folder.path(), &arguments);
                assert_eq!(cold.stdout, warm.stdout, "{arguments:?}");
                assert_eq!((cold.status, cold.stderr), (warm.status, warm.stderr), "{arguments:?}");
            }
        }
    }
}

/// How many units a run with `-v` judged anew; `None` if it took the whole report.
fn missing(run: &support::Run) -> Option<usize> {
    run.stderr.split("missing=").nth(1).map(|rest| rest.split(' ').next().unwrap().parse().unwrap())
}

#[test]
fn a_change_is_judged_where_it_can_matter() {
    let files = fleet::files(Size { tenants: 40, rules: 20 });
    let project = support::project(files.iter().map(|(path, text)| (path.as_str(), text.as_bytes())));
    let cache = tempfile::tempdir().unwrap();
    let check = || check_with(project.path(), cache.path(), &["-v"]).expect(0);
    let all = missing(&check()).unwrap();
    assert!(all > 40, "{all}");
    assert_eq!(missing(&check()), None, "nothing has changed");

    let path = project.path().join("tenants/t00020.pw");
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, text.replace("tcp/6379 because", "tcp/6380 because")).unwrap();
    // Its own view, those of its three clients and three providers, and what depends on everything.
    let some = missing(&check()).unwrap();
    assert!((1..20).contains(&some), "{some} of {all}");
    std::fs::write(&path, text).unwrap();
    assert_eq!(missing(&check()), None, "back to what was known");

    let services = project.path().join("services.pw");
    let text = std::fs::read_to_string(&services).unwrap();
    std::fs::write(&services, format!("// a remark\n{text}")).unwrap();
    assert_eq!(missing(&check()), Some(0), "no verdict tells where a service stands");
}

#[test]
fn runs_at_the_same_time_share_a_folder() {
    let folder = tempfile::tempdir().unwrap();
    std::thread::scope(|scope| {
        for thread in 0..4_u64 {
            let folder = folder.path();
            scope.spawn(move || {
                let cache = Cache::new(folder);
                for round in 0..12 {
                    let project = random((thread + round) % 5);
                    assert_eq!(said(&project, Some(&cache)), said(&project, None), "{thread}, {round}");
                }
            });
        }
    });
    for path in support::files(folder.path()) {
        assert!(path.to_string_lossy().ends_with(".pwc"), "{} was left behind", path.display());
    }
}

/// The folder does not grow without end, and what is not the cache's own stays.
#[test]
fn the_folder_is_kept_small() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("notes.txt"), "mine").unwrap();
    let cache = Cache::new(folder.path());
    for n in 0..300 {
        cache.write(&format!("entry-{n}"), &n);
    }
    assert_eq!(cache.read::<i32>("entry-299"), Some(299));
    let left = support::files(folder.path()).len();
    assert!((200..=257).contains(&left), "{left}");
    assert_eq!(std::fs::read_to_string(folder.path().join("notes.txt")).unwrap(), "mine");
}
