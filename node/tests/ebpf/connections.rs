//! How long connections live, how many somebody may have, and what becomes of those that ended.

use crate::frames::{self, Fields, Twist};
use crate::ground::{DATA, FRONT, Ground, TWIN, WEB, dropped, fields, sent, turned};
use crate::said::{CT_FULL, DEFAULT, SENT_DEVICE, SENT_TUNNEL};
use backends::ebpf::schema::Map;
use libbpf_rs::{MapCore as _, MapFlags};
use partywall_node::ebpf::Ran;

const SYN: u8 = 0x02;
const SYN_ACK: u8 = 0x12;
const ACK: u8 = 0x10;
const FIN: u8 = 0x11;
const RST: u8 = 0x04;

/// A packet from the opener, or back.
#[derive(Debug, Clone, Copy)]
enum Step {
    There(Twist),
    Back(Twist),
}

use Step::{Back, There};

const fn tcp(flags: u8) -> Twist {
    Twist::Flags(flags)
}

struct Row {
    what: &'static str,
    f: Fields,
    steps: Vec<Step>,
    /// Seconds.
    lives: u64,
    last: Twist,
}

fn rows() -> Vec<Row> {
    let mut rows = Vec::new();
    for (a, b, echo) in [("10.1.0.5", "10.1.1.9", (1, 8)), ("fd00:1::5", "fd00:2::9", (58, 128))] {
        let mut row = |what, (protocol, x, y), steps: &[Step], lives, last| {
            rows.push(Row { what, f: fields(a, b, protocol, x, y), steps: steps.to_vec(), lives, last });
        };
        let web = (6, 40_000, 443);
        let open = [There(tcp(SYN)), Back(tcp(SYN_ACK)), There(tcp(ACK))];
        row("SYN", web, &open[..1], 120, tcp(SYN_ACK));
        row("SYN and ACK", web, &open[..2], 432_000, tcp(ACK));
        row("established", web, &open, 432_000, tcp(ACK));
        row("taken up in the middle", web, &open[2..], 432_000, tcp(ACK));
        row("FIN of the opener", web, &[&open[..], &[There(tcp(FIN))]].concat(), 120, tcp(ACK));
        row("FIN of the other side", web, &[&open[..], &[Back(tcp(FIN))]].concat(), 120, tcp(ACK));
        row("ACK after FIN", web, &[&open[..], &[Back(tcp(FIN)), There(tcp(ACK))]].concat(), 120, tcp(ACK));
        row("RST", web, &[&open[..], &[There(tcp(RST))]].concat(), 10, tcp(RST));
        row("RST to a SYN", web, &[open[0], Back(tcp(0x14))], 10, tcp(RST));
        let again = [&open[..], &[There(tcp(FIN)), There(tcp(SYN))]].concat();
        row("SYN after FIN", web, &again, 120, tcp(SYN_ACK));
        row("UDP", (17, 40_000, 53), &[There(Twist::None)], 30, Twist::None);
        row("UDP, answered", (17, 40_000, 53), &[There(Twist::None), Back(Twist::None)], 120, Twist::None);
        row("echo", (echo.0, echo.1, 0), &[There(Twist::None)], 30, Twist::None);
        row("echo, answered", (echo.0, echo.1, 0), &[There(Twist::None), Back(Twist::None)], 30, Twist::None);
        row("SCTP", (132, 40_000, 7), &[There(Twist::None)], 600, Twist::None);
        row("GRE", (47, 0, 0), &[There(Twist::None), Back(Twist::None)], 600, Twist::None);
    }
    rows
}

/// What answers: ports turned round, or the echo's answer.
fn answer(f: &Fields) -> Fields {
    match f.protocol {
        1 => Fields { x: 0, y: 0, ..turned(f) },
        58 => Fields { x: 129, y: 0, ..turned(f) },
        _ => turned(f),
    }
}

fn step(g: &Ground, f: &Fields, step: Step) -> Ran {
    match step {
        There(twist) => g.workload("tap-web", WEB, f, twist),
        Back(twist) => g.fabric("c2", FRONT, &answer(f), twist),
    }
}

fn each_state_lives_as_long_as_the_manual_says(g: &Ground) {
    for Row { what, f, steps, lives, last } in rows() {
        for (older, alive) in [(lives - 2, true), (lives + 2, false)] {
            for s in &steps {
                let outcome = if matches!(s, There(_)) { SENT_TUNNEL } else { SENT_DEVICE };
                let ran = step(g, &f, *s);
                assert_eq!(ran.cb[0], outcome, "{what}: {s:?} {ran:x?}");
            }
            assert_eq!((g.count("connections"), g.opened()), (1, 1), "{what}");
            g.age(older);
            // Nobody over there may open one, so an answer passes as long as there is something to answer.
            let ran = step(g, &f, Back(last));
            assert_eq!(
                ran.cb[0],
                if alive { SENT_DEVICE } else { DEFAULT },
                "{what} after {older} s: {ran:x?}"
            );
            let left = usize::from(alive);
            assert_eq!((g.count("connections"), g.opened()), (left, left as u64), "{what} after {older} s");
            g.m.forget();
        }
    }
}

/// A packet of the opener keeps it alive; one that is refused does not.
fn packets_that_go_on_keep_it_alive(g: &Ground) {
    let f = fields("10.1.0.5", "10.1.1.9", 17, 40_000, 53);
    for _ in 0..5 {
        sent(&step(g, &f, There(Twist::None)), SENT_TUNNEL);
        g.age(25);
    }
    sent(&step(g, &f, Back(Twist::None)), SENT_DEVICE);
    g.age(118);
    // An expired packet, one from elsewhere, and one of another MAC.
    step(g, &f, There(Twist::Ttl(1)));
    g.fabric("g1", FRONT, &answer(&f), Twist::None);
    g.workload("tap-web", TWIN, &f, Twist::None);
    g.age(4);
    dropped(&step(g, &f, Back(Twist::None)), DEFAULT);
}

/// Connections that each opener may have.
const MOST: u32 = 65_536;

/// Gives each opener room for so many.
fn bound(g: &Ground, was: u32, most: u32) {
    let settings = g.m.of_generation(Map::Settings);
    let zero = 0u32.to_ne_bytes();
    let mut entry = settings.lookup(&zero, MapFlags::ANY).unwrap().unwrap();
    // Behind a MAC and two words of a byte.
    assert_eq!(entry[8..12], was.to_ne_bytes());
    entry[8..12].copy_from_slice(&most.to_ne_bytes());
    settings.update(&zero, &entry, MapFlags::ANY).unwrap();
}

/// As if nothing had been swept in this second.
fn unswept(g: &Ground) {
    g.m.map("swept").update(&0u32.to_ne_bytes(), &1u64.to_ne_bytes(), MapFlags::ANY).unwrap();
}

fn who_has_too_many_is_refused_alone_and_ended_ones_make_room(g: &Ground) {
    bound(g, MOST, 4);
    let from = |x: u16| fields("10.1.0.5", "10.1.1.9", 17, x, 53);
    let open = |x: u16| step(g, &from(x), There(Twist::None));
    for x in 1..=4 {
        sent(&open(x), SENT_TUNNEL);
    }
    unswept(g);
    for x in 5..=9 {
        dropped(&open(x), CT_FULL);
    }
    assert_eq!((g.count("connections"), g.opened()), (4, 4));
    // Those that are open go on, and so does another tenant with the same addresses.
    sent(&open(1), SENT_TUNNEL);
    sent(&step(g, &from(1), Back(Twist::None)), SENT_DEVICE);
    for x in 1..=4 {
        sent(&g.workload("tap-twin", TWIN, &from(x), Twist::None), SENT_TUNNEL);
    }
    dropped(&g.workload("tap-twin", TWIN, &from(5), Twist::None), CT_FULL);
    assert_eq!(g.opened(), 8);
    // All of both tenants' end, but for the one that was answered.
    g.age(31);
    unswept(g);
    sent(&open(5), SENT_TUNNEL);
    assert_eq!((g.count("connections"), g.opened()), (2, 2));
    sent(&open(6), SENT_TUNNEL);
    sent(&open(7), SENT_TUNNEL);
    unswept(g);
    dropped(&open(8), CT_FULL);
    bound(g, 4, MOST);
    sent(&open(8), SENT_TUNNEL);
    sent(&step(g, &from(1), Back(Twist::None)), SENT_DEVICE);
}

/// The sender's tenant is the opener, wherever the packet is: a node whose workloads are only spoken to bounds it as well.
#[test]
fn the_bound_holds_where_connections_arrive() {
    let Some(g) = crate::ground("c2") else { return };
    bound(&g, MOST, 3);
    let arrive = |x: u16| g.fabric("c1", DATA, &fields("10.1.0.5", "10.1.1.9", 17, x, 53), Twist::None);
    for x in 1..=3 {
        sent(&arrive(x), SENT_DEVICE);
    }
    unswept(&g);
    dropped(&arrive(4), CT_FULL);
    sent(&arrive(2), SENT_DEVICE);
    assert_eq!(g.opened(), 3);
}

/// The table itself has an end: nothing is thrown out for what comes later.
fn a_full_table_refuses_what_is_new(g: &Ground) {
    let open = |x: u16| step(g, &fields("10.1.0.5", "10.1.1.9", 17, x, 53), There(Twist::None));
    let all: Vec<u32> = (1..=80).map(|x| open(x).cb[0]).collect();
    assert_eq!(all[..64], [SENT_TUNNEL; 64]);
    assert_eq!(all[64..], [CT_FULL; 16]);
    assert_eq!((g.count("connections"), g.opened()), (64, 64));
    sent(&open(1), SENT_TUNNEL);
}

/// Only what begins a connection, or is in its midst, takes one up.
fn other_segments_open_nothing(g: &Ground) {
    let f = fields("10.1.0.5", "10.1.1.9", 6, 40_000, 443);
    for flags in [SYN_ACK, FIN, RST, 0x14] {
        dropped(&step(g, &f, There(tcp(flags))), crate::said::INVALID);
    }
    for flags in [0x00, 0x03, 0x06, 0x29, 0x3f, 0x08, 0xc0] {
        dropped(&step(g, &f, There(tcp(flags))), crate::said::INVALID);
    }
    assert_eq!(g.count("connections"), 0);
    // ECN is no reason.
    sent(&g.m.workload("tap-web", &frames::segment(WEB, g.m.mac, &f, 0xc2, &[])), SENT_TUNNEL);
}

#[test]
fn connections_of_a_workload() {
    crate::each(
        "c1",
        &[
            each_state_lives_as_long_as_the_manual_says,
            packets_that_go_on_keep_it_alive,
            who_has_too_many_is_refused_alone_and_ended_ones_make_room,
            a_full_table_refuses_what_is_new,
            other_segments_open_nothing,
        ],
    );
}
