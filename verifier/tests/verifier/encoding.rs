//! Invariant: encoding a literal packet folds to the constant that the reference evaluator gives, over random projects and
//! their boundary packets; the symbolic encoding says the same, evaluated and through Z3.
//!
//! `PARTYWALL_PROJECTS` sets the number of projects, `PARTYWALL_PACKETS` how many packets of each the first test takes (0:
//! all); the second always takes all.

use crate::{boundary, generate, support};
use compiler::Compiled;
use compiler::algebra::Family;
use compiler::compiled::ChannelKind;
use compiler::eval::{self, Decision, Resolution};
use compiler::ids::ChannelId;
use compiler::packet::{Flow, Packet};
use partywall_verifier::encode::{DecisionTerms, Encoder, Frame, ViewTerms};
use partywall_verifier::replay;
use partywall_verifier::scene::{Found, Scene};
use partywall_verifier::terms::{Pool, Term};
use rayon::prelude::*;
use std::collections::BTreeMap;

fn number(name: &str, default: usize) -> usize {
    std::env::var(name).ok().map_or(default, |v| v.parse().expect("a number"))
}

/// What an encoding says of a flow, through `value`.
fn compare(
    c: &Compiled,
    terms: &DecisionTerms,
    pool: &mut Pool,
    value: &dyn Fn(&Pool, Term) -> bool,
    expected: &Decision,
) {
    assert!(value(pool, terms.possible));
    assert_eq!(value(pool, terms.allow), expected.allow);
    let via: Vec<_> = terms.via.iter().filter(|(_, t)| value(pool, *t)).map(|(g, _)| *g).collect();
    assert_eq!(via, expected.via.filter(|_| expected.allow).into_iter().collect::<Vec<_>>());
    for (view, expected) in [(&terms.egress, &expected.egress), (&terms.ingress, &expected.ingress)] {
        let (Some(view), Some(expected)) = (view, expected) else {
            assert_eq!(view.is_some(), expected.is_some());
            continue;
        };
        assert_eq!(value(pool, view.allow), expected.allow);
        assert_eq!(value(pool, view.conflict), expected.conflict);
        let by: Vec<_> = deciders(c, view, pool, value);
        assert_eq!(by, vec![expected.by]);
        let via: Vec<_> = view.via.iter().filter(|(_, t)| value(pool, *t)).map(|(g, _)| *g).collect();
        assert_eq!(via, expected.via.into_iter().collect::<Vec<_>>());
    }
}

fn deciders(
    c: &Compiled,
    view: &ViewTerms,
    pool: &mut Pool,
    value: &dyn Fn(&Pool, Term) -> bool,
) -> Vec<eval::Decider> {
    view.deciders(c, pool).into_iter().filter(|(_, t)| value(pool, *t)).map(|(d, _)| d).collect()
}

/// The channels that are the way of a packet's flow.
fn channels_of(c: &Compiled, flow: &Flow, packet: &Packet) -> Vec<ChannelId> {
    let here = |id: &ChannelId| {
        replay::goes_on(c, *id, flow)
            && (packet.space != flow.src.owner
                || eval::packet_on_channel(c, *id, flow).is_some_and(|p| p == *packet))
    };
    c.channels.ids().filter(here).collect()
}

#[test]
fn literal_packets_fold_to_what_eval_decides() {
    let projects = number("PARTYWALL_PROJECTS", 150);
    let limit = number("PARTYWALL_PACKETS", 600);
    let (mut flows, mut allowed, mut kinds) = (0_usize, 0_usize, BTreeMap::new());
    for seed in 0..projects as u64 {
        let text = generate::project(seed);
        let (c, _) = support::compile(&text);
        let mut seen: BTreeMap<(ChannelId, Family), Vec<Flow>> = BTreeMap::new();
        for packet in boundary::packets(&c, seed, limit) {
            let Ok(Resolution::Flow { flow, way }) = eval::resolve(&c, &packet) else { continue };
            let channels = channels_of(&c, &flow, &packet);
            assert!(
                channels.iter().any(|id| eval::channel_way(&c, *id) == way),
                "seed {seed}: {packet:?} resolves to {flow:?} on {way:?}, which is on no such channel: {channels:?}\n{text}"
            );
            let decision = eval::decide(&c, &packet).expect("a flow");
            for id in channels {
                let expected = eval::decide_on_channel(&c, id, &flow);
                if eval::channel_way(&c, id) == way {
                    assert_eq!(expected, decision);
                }
                let frame = Frame::of_channel(&c.channels[id], flow.family).expect("it holds a flow");
                let mut encoder = Encoder::literal(&c, frame, flow);
                let terms = encoder.decision(id);
                let folded = |_: &Pool, t: Term| t.as_bool().expect("a literal folds");
                compare(&c, &terms, &mut encoder.pool, &folded, &expected);
                seen.entry((id, flow.family)).or_default().push(flow);
                flows += 1;
                allowed += usize::from(expected.allow);
                *kinds.entry(kind(c.channels[id].kind)).or_insert(0_usize) += 1;
            }
        }
        symbolic(&c, &seen, seed);
    }
    // A test that meets no flow of some kind proves nothing about it.
    assert_eq!(kinds.len(), 4, "{kinds:?}");
    assert!(allowed * 20 > flows && allowed < flows, "{allowed} of {flows} flows are allowed");
}

/// Every packet on an edge of what can decide on its way, in as many projects as asked for, short enough for that.
#[test]
fn all_boundary_packets_fold_to_what_eval_decides() {
    let projects = number("PARTYWALL_PROJECTS", 40);
    let counts: Vec<(usize, usize)> = (0..projects as u64).into_par_iter().map(all_of_one_project).collect();
    let (packets, allowed) = counts.iter().fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1));
    println!("{packets} packets of {projects} projects, {allowed} allowed");
    assert!(allowed * 20 > packets && allowed < packets, "{allowed} of {packets} packets are allowed");
}

/// Packets compared, and how many of them are allowed.
fn all_of_one_project(seed: u64) -> (usize, usize) {
    let (c, _) = support::compile(&generate::short(seed));
    let (mut packets, mut allowed) = (0, 0);
    for (id, channel) in c.channels.iter() {
        for family in Family::BOTH {
            let Some(frame) = Frame::of_channel(channel, family) else { continue };
            let way = eval::channel_way(&c, id);
            for flow in boundary::flows(&c, id, family) {
                let expected = eval::decide_on_channel(&c, id, &flow);
                let mut encoder = Encoder::literal(&c, frame.clone(), flow);
                let terms = encoder.decision(id);
                let folded = |_: &Pool, t: Term| t.as_bool().expect("a literal folds");
                compare(&c, &terms, &mut encoder.pool, &folded, &expected);
                let packet = eval::packet_on_channel(&c, id, &flow).expect("it goes on the channel");
                // Where several exposures carry the packet, its way is the first's.
                if eval::resolve(&c, &packet) == Ok(Resolution::Flow { flow, way }) {
                    assert_eq!(eval::decide(&c, &packet).expect("a flow"), expected, "seed {seed}");
                }
                packets += 1;
                allowed += usize::from(expected.allow);
            }
        }
    }
    (packets, allowed)
}

fn kind(kind: ChannelKind) -> &'static str {
    match kind {
        ChannelKind::Intra => "intra",
        ChannelKind::Exposed(_) => "exposed",
        ChannelKind::ToExternal(_) => "external",
        ChannelKind::Direct(_) => "direct",
    }
}

/// The same flows against one symbolic encoding per channel: evaluated, and for a sample pinned in Z3.
fn symbolic(c: &Compiled, seen: &BTreeMap<(ChannelId, Family), Vec<Flow>>, seed: u64) {
    for ((id, family), flows) in seen {
        let (mut scene, terms) = Scene::of_channel(c, *id, *family, 10_000_000).expect("flows");
        for (number, flow) in flows.iter().enumerate() {
            let expected = eval::decide_on_channel(c, *id, flow);
            if number % 7 == seed as usize % 7 {
                let held = |pool: &Pool, t: Term| pool.holds(t, flow);
                compare(c, &terms, &mut scene.encoder.pool, &held, &expected);
            }
            if number % 31 == seed as usize % 31 {
                let pinned = boundary::FIELDS.map(|var| scene.encoder.equals(var, var.of(flow)));
                let pinned = scene.encoder.pool.and(pinned);
                let denied = scene.encoder.pool.not(terms.allow);
                let [allow, deny] = [terms.allow, denied].map(|t| {
                    let term = scene.encoder.pool.and([pinned, t]);
                    scene.ask(term, &|f| f == flow).expect("a replay")
                });
                let (yes, no) = if expected.allow { (allow, deny) } else { (deny, allow) };
                assert_eq!((yes, no), (Found::Yes(*flow), Found::No), "seed {seed}");
            }
        }
    }
}
