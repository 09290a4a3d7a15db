//! Calls that are killed, refused and cut short, under traffic: the old generation or the new one runs, the next call
//! finishes, and nothing denied is ever delivered.

#[path = "node/child.rs"]
mod child;
#[path = "node/kills.rs"]
mod kills;
#[path = "lab/support.rs"]
#[expect(dead_code, reason = "each test uses a part")]
mod lab_support;
#[path = "node/pair.rs"]
mod pair;
#[path = "node/support.rs"]
mod support;
#[path = "node/traffic.rs"]
#[expect(dead_code, reason = "each test uses a part")]
mod traffic;

use child::{Call, Child, deadly};
use kills::{Kills, stride};
use pair::{ALWAYS, B, Workload, project, workloads};
use partywall_node::NodeError;
use partywall_node::audit::audit;
use partywall_node::generation::Generation;
use partywall_node::install::{self, Step};
use partywall_node::state::State;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::Stdio;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};
use support::{able, alone, open, sh};
use traffic::{Stream, Tally, arrived, flooded, overrun};

/// What the two policies differ in.
const SOMETIMES: u16 = 3000;

fn build(directory: &Path, name: &str, text: &str) -> Generation {
    let folder = directory.join(name);
    let project = lab_support::project(&[("pair.pw".to_owned(), text.to_owned())]);
    lab_support::build(&project, &folder);
    open(&folder, "n1")
}

fn with_sometimes() -> String {
    project(&format!("allow front -> front : udp/{SOMETIMES} | tcp/{SOMETIMES}"), "")
}

/// Another policy, another neighbour and another segment.
fn without() -> String {
    let more = "extend tenant shop { group quiet = front & 10.1.0.7 }\npolicy more for shop in tenant { deny quiet -> any : tcp/22 }";
    project("", more)
        .replace("vtep 192.0.2.12", "vtep 192.0.2.13")
        .replace(
            "segment front vni 10010 { 10.1.0.0/24 }",
            "segment front vni 10010 { 10.1.0.0/24 }\n  segment back vni 10011 { 10.1.1.0/24 }",
        )
        .replace("endpoint c in shop.front { at 10.1.0.7", "endpoint c in shop.back { at 10.1.1.7")
        .replace("front & 10.1.0.7", "back & 10.1.1.7")
}

const NOTHING: fn(Step) = |_| {};

fn apply(state: &State, generation: &Generation) -> install::Installed {
    install::apply(state, Some(generation), &mut NOTHING.clone()).unwrap()
}

/// Which of the two the kernel has.
fn running(of: [&Generation; 2]) -> usize {
    let flip = sh("nft list chain inet partywall flip_fabric");
    let which = of.iter().position(|g| flip.contains(&format!("fabric_{}", g.suffix())));
    which.unwrap_or_else(|| panic!("neither runs: {flip}"))
}

/// Run by the tests below in a process of its own, never alone.
#[test]
fn child_that_applies() {
    child::applies();
}

/// Every step: of the library, and each call of a tool by `apply.sh`, before it and after it.
fn killed_everywhere(test: &str, call: Call) {
    if !able(test) {
        return;
    }
    let built = tempfile::tempdir().unwrap();
    let (one, two) = (build(built.path(), "one", &with_sometimes()), build(built.path(), "two", &without()));
    let kept = tempfile::tempdir().unwrap();
    alone(|| {
        let (a, b) = workloads();
        let state = State::new(kept.path());
        apply(&state, &one);
        let kills = Kills {
            state: &state,
            of: [&one, &two],
            dir: built.path().join("two"),
            pins: None,
            running: &|| running([&one, &two]),
            tools: &["nft", "ip", "bridge"],
            stride: stride(3),
        };
        kills.under_traffic(&a, &b, call);
    });
}

#[test]
fn killed_at_every_step_the_next_call_finishes_and_nothing_denied_arrives() {
    killed_everywhere("kills", Call::Apply);
}

#[test]
fn a_rollback_is_killed_at_every_step() {
    killed_everywhere("kills of rollback", Call::Rollback);
}

/// A node whose policy allows what another one, not yet installed, denies.
fn revocable(test: &str, f: impl FnOnce(&State, &Generation, &Workload, &Workload) + Send) {
    if !able(test) {
        return;
    }
    let built = tempfile::tempdir().unwrap();
    let (one, two) = (build(built.path(), "one", &with_sometimes()), build(built.path(), "two", &without()));
    alone(|| {
        let (a, b) = workloads();
        let kept = tempfile::tempdir().unwrap();
        let state = State::new(kept.path());
        apply(&state, &one);
        f(&state, &two, &a, &b);
    });
}

#[test]
fn what_is_denied_is_cut_within_a_second_and_the_rest_goes_on() {
    revocable("revocation", |state, two, a, b| {
        let (revoked, other) = (Stream::open(a, b, SOMETIMES), Stream::open(a, b, ALWAYS));
        std::thread::sleep(Duration::from_millis(300));
        let count = |stream: &Stream| stream.arrived.load(Ordering::Relaxed);
        assert!(count(&revoked) > 0 && count(&other) > 0);
        // The other stream must not notice: it is looked at every 50 ms while the generation changes.
        let longest = std::thread::scope(|scope| {
            let watcher = scope.spawn(|| {
                let (mut last, mut since, mut longest) = (count(&other), Instant::now(), Duration::ZERO);
                let until = Instant::now() + Duration::from_secs(5);
                while Instant::now() < until {
                    std::thread::sleep(Duration::from_millis(50));
                    let now = count(&other);
                    longest = longest.max(since.elapsed());
                    if now != last {
                        (last, since) = (now, Instant::now());
                    }
                }
                longest
            });
            apply(state, two);
            std::thread::sleep(Duration::from_secs(1));
            let after = count(&revoked);
            std::thread::sleep(Duration::from_secs(2));
            assert_eq!(count(&revoked), after, "a revoked connection goes on");
            watcher.join().unwrap()
        });
        println!("longest silence of the allowed stream: {longest:?}");
        assert!(longest < Duration::from_secs(1), "{longest:?}");
        revoked.close();
        other.close();
    });
}

/// A connection whose opener reads nothing, so that the other side has sent all that it may.
fn stalled(a: &Workload, b: &Workload, port: u16) -> (TcpStream, TcpStream) {
    let listener = b.enter(|| TcpListener::bind((B, port)).unwrap());
    let near = a.enter(|| TcpStream::connect_timeout(&(B, port).into(), Duration::from_secs(5)).unwrap());
    let (mut far, _) = listener.accept().unwrap();
    far.set_write_timeout(Some(Duration::from_millis(300))).unwrap();
    near.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
    while far.write(&[7; 16_384]).is_ok() {}
    (near, far)
}

#[test]
fn a_revoked_connection_with_a_full_window_brings_nothing_when_it_is_read_again() {
    revocable("full window", |state, two, a, b| {
        a.enter(|| {
            sh(&format!(
                "nft 'table inet tally {{ counter revoked {{ }}; counter other {{ }}; chain in {{ type filter hook prerouting priority -400; tcp sport {SOMETIMES} counter name revoked; tcp sport {ALWAYS} counter name other; }}; }}'"
            ));
        });
        let counted = |kind: &str| {
            let text = a.enter(|| sh(&format!("nft list counter inet tally {kind}")));
            let words: Vec<&str> = text.split_whitespace().collect();
            words[words.iter().position(|w| *w == "packets").unwrap() + 1].parse::<u64>().unwrap()
        };
        let (mut revoked, mut other) = (stalled(a, b, SOMETIMES), stalled(a, b, ALWAYS));
        apply(state, two);
        std::thread::sleep(Duration::from_secs(1));
        let before = [counted("revoked"), counted("other")];
        assert!(before[0] > 0);
        // The window opens: whoever hears of it goes on.
        let drain = |near: &mut TcpStream| {
            let (mut buffer, mut bytes) = (vec![0; 1 << 16], 0);
            while let Ok(n @ 1..) = near.read(&mut buffer) {
                bytes += n;
            }
            bytes
        };
        let bytes = [drain(&mut revoked.0), drain(&mut other.0)];
        std::thread::sleep(Duration::from_secs(2));
        let again = [drain(&mut revoked.0), drain(&mut other.0)];
        let after = [counted("revoked"), counted("other")];
        println!("read {bytes:?}, then {again:?} bytes; packets {before:?}, then {after:?}");
        assert!(bytes[0] > 0 && again[0] == 0, "what had arrived can be read, and no more comes");
        assert_eq!(after[0], before[0], "packets of a revoked connection arrived");
        assert!(after[1] > before[1], "the other connection goes on");
    });
}

#[test]
fn a_refused_generation_leaves_the_old_one_and_says_why() {
    if !able("refusal") {
        return;
    }
    let built = tempfile::tempdir().unwrap();
    let one = build(built.path(), "one", &with_sometimes());
    // The other generation, with one of its files broken and the manifest made to match.
    let broken = |part: &str, from: &str, to: &str| {
        let name = format!("broken {part}");
        build(built.path(), &name, &without());
        let folder = built.path().join(name);
        let path = folder.join("n1/nft").join(part);
        let digest = || blake3::hash(&std::fs::read(&path).unwrap()).to_hex().to_string();
        let before = digest();
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(text.contains(from), "{part} has no {from}");
        std::fs::write(&path, text.replace(from, to)).unwrap();
        let manifest = folder.join("manifest.json");
        let listed = std::fs::read_to_string(&manifest).unwrap().replace(&before, &digest());
        std::fs::write(&manifest, listed).unwrap();
        open(&folder, "n1")
    };
    alone(|| {
        let _workloads = workloads();
        let kept = tempfile::tempdir().unwrap();
        let state = State::new(kept.path());
        apply(&state, &one);
        for (part, from, to, says) in [
            ("stage.nft", "counter", "cuonter", "stage.nft"),
            ("commit.nft", "goto fabric_", "goto fabrik_", "commit.nft"),
            ("routes.batch", "protocol 87", "protocol 870", "routes"),
            ("links.batch", "nud permanent", "nud permament", "neighbours"),
            ("base.nft", "policy drop", "policy drip", "base.nft"),
        ] {
            let error =
                install::apply(&state, Some(&broken(part, from, to)), &mut NOTHING.clone()).unwrap_err();
            let said = error.to_string();
            assert!(matches!(error, NodeError::Apply { .. }) && said.contains(says), "{part}: {said}");
            assert!(said.contains(&format!("{} runs on", one.suffix())), "{said}");
            assert_eq!(state.read().unwrap().current.unwrap().id, one.id);
            assert!(state.read().unwrap().pending.is_none());
            // What the refused one added is taken away by the next call, whichever it is.
            let next = install::apply(&state, None, &mut NOTHING.clone()).unwrap();
            assert!(next.left.is_empty() && !next.changed, "{next:#?}");
            let report = audit(&one, &[]).unwrap();
            assert!(report.clean, "{part}: {}", report.text());
        }
    });
}

/// Only the call itself is killed: the script that it started works on, and the next call waits for that.
/// The script that this process runs, if it does.
fn script_of(parent: u32) -> Option<nix::unistd::Pid> {
    let read =
        |id: i32, what: &str| std::fs::read_to_string(format!("/proc/{id}/{what}")).unwrap_or_default();
    let runs = |id: &i32| {
        // `1234 (name) S 1233 …`
        let stat = read(*id, "stat");
        let started_by =
            stat.rsplit(')').next().and_then(|rest| rest.split_whitespace().nth(1)?.parse().ok());
        started_by == Some(parent) && read(*id, "cmdline").contains("apply.sh")
    };
    let all = std::fs::read_dir("/proc").unwrap();
    let ids = all.filter_map(|entry| entry.unwrap().file_name().to_str()?.parse().ok());
    ids.into_iter().find(runs).map(nix::unistd::Pid::from_raw)
}

#[test]
fn the_script_of_a_killed_call_is_waited_for() {
    if !able("orphaned script") {
        return;
    }
    let built = tempfile::tempdir().unwrap();
    let (one, two) = (build(built.path(), "one", &with_sometimes()), build(built.path(), "two", &without()));
    let (kept, tools) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    deadly(tools.path(), &["nft", "ip", "bridge"]);
    std::fs::write(tools.path().join("slow"), "").unwrap();
    alone(|| {
        let _workloads = workloads();
        let state = State::new(kept.path());
        apply(&state, &one);
        let two_dir = built.path().join("two");
        let child = Child {
            dir: &two_dir,
            state: kept.path(),
            tools: Some(tools.path()),
            step: 0,
            pins: None,
            call: Call::Apply,
        };
        let set =
            |name: &str, number: u32| std::fs::write(tools.path().join(name), number.to_string()).unwrap();
        // Ends the call, or the script alone with it, while a tool is called the nth time. Whether the script ran.
        let killed = |calls: u32, script_too: bool| {
            set("count", 0);
            set("late", if script_too { calls } else { 0 });
            let mut call = child.command().stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
            let until = Instant::now() + Duration::from_secs(30);
            let made = || std::fs::read_to_string(tools.path().join("count")).unwrap().trim().parse::<u32>();
            while made().unwrap_or(0) < calls {
                assert!(Instant::now() < until, "the child does nothing");
                std::thread::sleep(Duration::from_millis(5));
            }
            let script = script_of(call.id());
            call.kill().unwrap();
            if let Some(script) = script.filter(|_| script_too) {
                nix::sys::signal::kill(script, nix::sys::signal::Signal::SIGKILL).unwrap();
            }
            call.wait().unwrap();
            script.is_some()
        };
        let settled = || {
            let next = apply(&state, &one);
            assert!(next.left.is_empty() && next.mended.is_empty(), "{next:#?}");
            let report = audit(&one, &[]).unwrap();
            assert!(report.clean, "{}", report.text());
            assert_eq!(running([&one, &two]), 0);
        };
        for calls in [4, 12, 20] {
            killed(calls, false);
            settled();
        }
        std::fs::remove_file(tools.path().join("slow")).unwrap();
        let mut left_behind = 0;
        for calls in 1..=12 {
            let ran = killed(calls, true);
            let begun = Instant::now();
            settled();
            // The tool that was called goes on without the script.
            assert!(!ran || begun.elapsed() > Duration::from_millis(400), "call {calls} was not waited for");
            left_behind += u32::from(ran);
        }
        assert!(left_behind > 6, "{left_behind} calls of a tool by the script");
    });
}

/// Generations with maps made of more than this many intervals.
fn intervals(count: u32, first: u32) -> String {
    let list: Vec<String> =
        (0..count).map(|n| n * 2 + first).map(|n| format!("20.{}.{}.0/24", n / 256, n % 256)).collect();
    let more = format!(
        r#"node g1 {{ vtep 192.0.2.21 dev eth0 gateway }}
external internet {{ 0.0.0.0/0 }}
extend tenant shop {{ route 0.0.0.0/0 via edge }}
gateway edge {{ joins shop, internet instances g1 stateful attach internet on g1 dev wan0 next-hop 203.0.113.1 }}
policy out for shop in tenant {{
  deny front -> internet & ({})
  allow front -> internet : udp/53
}}
policy order for shop in tenant overrides out {{ deny front -> internet & 10.1.0.0/24 : udp/9 }}"#,
        list.join(" | ")
    );
    project("", &more)
}

/// As fast as the script can, under as many packets as the machine can send. `PARTYWALL_FLOOD` is for how many seconds, and
/// makes the maps large.
#[test]
fn reloads_under_a_flood_lose_nothing_and_let_nothing_through() {
    if !able("flood") {
        return;
    }
    let asked = std::env::var("PARTYWALL_FLOOD").ok().map(|v| v.parse().unwrap());
    let (seconds, count) = asked.map_or((4, 100), |seconds| (seconds, 2500));
    let built = tempfile::tempdir().unwrap();
    let pair =
        [("one", 0), ("two", 1)].map(|(name, first)| build(built.path(), name, &intervals(count, first)));
    for name in ["one", "two"] {
        let stage = std::fs::read_to_string(built.path().join(name).join("n1/nft/stage.nft")).unwrap();
        let elements = stage.lines().filter(|l| l.contains(" 20.") || l.contains("-20.")).count();
        assert!(elements >= count as usize * 2, "{elements}");
    }
    alone(|| {
        let (a, b) = workloads();
        let script = |name: &str| sh(&format!("sh {}/{name}/n1/nft/apply.sh", built.path().display()));
        script("one");
        let tally = Tally::default();
        let (before, lost_before) = (arrived(&b), overrun());
        let mut reloads = 0;
        flooded(&a, &b, Duration::ZERO, &tally, || {
            let until = Instant::now() + Duration::from_secs(seconds);
            while Instant::now() < until {
                reloads += 1;
                script(if reloads % 2 == 1 { "two" } else { "one" });
            }
        });
        let sent = tally.sent.load(Ordering::Relaxed);
        let (got, overrun) = (arrived(&b) - before, overrun() - lost_before);
        println!("{reloads} reloads, {sent} packets each way to judge, {got} arrived, {overrun} overrun");
        assert_eq!(tally.denied.load(Ordering::Relaxed), 0, "denied packets were delivered");
        assert!(reloads > 2 && sent > 10_000, "{reloads} {sent}");
        assert!(got <= sent && sent - got <= overrun, "{sent} sent, {got} arrived, {overrun} overrun");
        assert!(pair.iter().any(|g| audit(g, &[]).unwrap().clean));
    });
}
