//! What is decided on a channel, as boxes: against the evaluator on every boundary packet, and as sets of flows.
//!
//! `PARTYWALL_PROJECTS` sets the number of random projects.

use crate::generate::Rng;
use crate::{boundary, generate, support};
use compiler::Compiled;
use compiler::algebra::{Family, RangeSet};
use compiler::eval;
use compiler::ids::ChannelId;
use compiler::packet::{Flow, possible_protocol};
use compiler::sets::ServiceSet;
use partywall_verifier::Options;
use partywall_verifier::flows::{
    Extent, Fence, Flows, Part, Through, TooWide, Work, disjoint, merged, subtract,
};
use partywall_verifier::replay;
use rayon::prelude::*;
use std::fmt::Write as _;

fn projects(default: u64) -> u64 {
    std::env::var("PARTYWALL_PROJECTS").ok().map_or(default, |v| v.parse().expect("a number"))
}

fn ample() -> Work {
    Work(Options::DEFAULT_WORK)
}

fn assert_disjoint(boxes: &[Extent]) {
    for (at, one) in boxes.iter().enumerate() {
        for other in &boxes[at + 1..] {
            assert!(!one.overlaps(other), "{one:?} and {other:?}");
        }
    }
}

/// The part that a flow is in: there is exactly one, and it says what the evaluator says.
fn compare(c: &Compiled, id: ChannelId, parts: &[Part], flow: &Flow) {
    let of: Vec<&Part> = parts.iter().filter(|part| part.extent.holds(flow)).collect();
    let [part] = of[..] else { panic!("{flow:?} on {id:?} is in {of:#?}") };
    let decision = eval::decide_on_channel(c, id, flow);
    assert_eq!(
        (part.allow, part.via, part.egress, part.ingress),
        (decision.allow, decision.via, decision.egress, decision.ingress),
        "{flow:?} on {id:?}"
    );
}

/// Boxes of a channel's flows hold nothing else, and every one holds a flow.
fn assert_within(c: &Compiled, id: ChannelId, family: Family, boxes: impl Iterator<Item = Extent>) {
    let channel = &c.channels[id];
    for extent in boxes {
        let (src, dst) = (channel.src_set.family(family), channel.dst_set.family(family));
        assert!(RangeSet::range(extent.src.0, extent.src.1).is_subset(src), "{extent:?}");
        assert!(RangeSet::range(extent.dst.0, extent.dst.1).is_subset(dst), "{extent:?}");
        assert!(possible_protocol(&extent.service(), family).is_some(), "{extent:?}");
        assert!(channel.src != channel.dst || extent.src != extent.dst || extent.src.0 != extent.src.1);
        assert_eq!(extent.tight(family, channel.src == channel.dst), Some(extent));
    }
}

#[test]
fn decided_parts_are_disjoint_cover_the_channel_and_say_what_eval_says() {
    let counts: Vec<(usize, usize)> = (0..projects(60))
        .into_par_iter()
        .map(|seed| {
            let (c, _) = support::compile(&generate::short(seed));
            let flows = Flows::new(&c, ample());
            let (mut compared, mut allowed) = (0, 0);
            for id in c.channels.ids() {
                for family in Family::BOTH {
                    let parts = flows.decided(id, family, None).expect("few boxes");
                    let boxes: Vec<Extent> = parts.iter().map(|part| part.extent).collect();
                    assert_disjoint(&boxes);
                    assert_within(&c, id, family, boxes.iter().copied());
                    assert!(boxes.is_sorted());
                    let open = flows.allowed(id, family, None).expect("few boxes");
                    let open_boxes: Vec<Extent> = open.iter().map(|part| part.extent).collect();
                    assert_disjoint(&open_boxes);
                    assert_within(&c, id, family, open_boxes.iter().copied());
                    for flow in boundary::flows(&c, id, family) {
                        compare(&c, id, &parts, &flow);
                        let decision = eval::decide_on_channel(&c, id, &flow);
                        let via: Vec<_> =
                            open.iter().filter(|a| a.extent.holds(&flow)).map(|a| a.via).collect();
                        let expected: Vec<_> = decision.allow.then_some(decision.via).into_iter().collect();
                        assert_eq!(via, expected, "seed {seed}: {flow:?}");
                        compared += 1;
                        allowed += usize::from(decision.allow);
                    }
                }
            }
            (compared, allowed)
        })
        .collect();
    let (compared, allowed) = counts.iter().fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1));
    println!("{compared} flows, {allowed} allowed");
    assert!(allowed * 20 > compared && allowed < compared, "{allowed} of {compared}");
}

#[test]
fn parts_within_some_boxes_are_the_parts_that_lie_in_them() {
    let mut inside = 0;
    for seed in 0..projects(40) {
        let (c, _) = support::compile(&generate::project(1_000 + seed));
        let flows = Flows::new(&c, ample());
        let mut rng = Rng::new(seed);
        for id in c.channels.ids() {
            for family in Family::BOTH {
                let whole = flows.decided(id, family, None).expect("few boxes");
                if whole.is_empty() {
                    continue;
                }
                // Boxes that overlap, made of the parts' own edges.
                let mut edge = |of: &dyn Fn(&Extent) -> (u128, u128)| {
                    let (a, b) = (
                        of(&whole[rng.below(whole.len())].extent),
                        of(&whole[rng.below(whole.len())].extent),
                    );
                    (a.0.min(b.1), a.0.max(b.1))
                };
                let narrow = |(lo, hi): (u128, u128)| (lo as u16, hi as u16);
                let within: Vec<Extent> = (0..3)
                    .map(|_| {
                        let protocol = edge(&|e| (e.protocol.0.into(), e.protocol.1.into()));
                        Extent {
                            src: edge(&|e| e.src),
                            dst: edge(&|e| e.dst),
                            protocol: (protocol.0 as u8, protocol.1 as u8),
                            x: narrow(edge(&|e| (e.x.0.into(), e.x.1.into()))),
                            y: narrow(edge(&|e| (e.y.0.into(), e.y.1.into()))),
                        }
                    })
                    .collect();
                let parts = flows.decided(id, family, Some(&within)).expect("few boxes");
                let boxes: Vec<Extent> = parts.iter().map(|part| part.extent).collect();
                assert_disjoint(&boxes);
                assert_within(&c, id, family, boxes.iter().copied());
                let one_owner = c.channels[id].src == c.channels[id].dst;
                let flow_in =
                    |e: &Extent| flows.witness(c.channels[id].src, c.channels[id].dst, family, &[*e]);
                // Nothing is missing, and nothing is there that lies outside.
                let mut wanted = Vec::new();
                for part in &whole {
                    wanted.extend(within.iter().filter_map(|w| w.intersect(&part.extent)));
                }
                let missing = subtract(&wanted, &boxes, &mut ample()).expect("few boxes");
                assert_eq!(missing.iter().find(|e| e.has_flow(family, one_owner)), None, "seed {seed}");
                let beyond = subtract(&boxes, &within, &mut ample()).expect("few boxes");
                assert_eq!(beyond.iter().find(|e| e.has_flow(family, one_owner)), None, "seed {seed}");
                for part in &parts {
                    let flow = flow_in(&part.extent).expect("each part holds a flow");
                    assert!(replay::goes_on(&c, id, &flow));
                    compare(&c, id, &parts, &flow);
                    inside += 1;
                }
            }
        }
    }
    assert!(inside > 1_000, "{inside}");
}

#[test]
fn past_its_work_a_question_is_too_wide_and_never_answered_in_part() {
    let (c, _) = support::compile(&generate::project(7));
    let id = c.channels.ids().next().expect("a channel");
    let full = Flows::new(&c, ample()).decided(id, Family::V4, None).expect("few boxes");
    let mut too_wide = 0;
    for work in 0..2_000 {
        match Flows::new(&c, Work(work)).decided(id, Family::V4, None) {
            Ok(parts) => assert_eq!(parts, full),
            Err(TooWide) => too_wide += 1,
        }
    }
    assert!(too_wide > 0);
}

/// Small boxes, all of whose points can be listed.
fn random_boxes(rng: &mut Rng, count: usize) -> Vec<Extent> {
    let mut side = |max: usize| {
        let (a, b) = (rng.below(max), rng.below(max));
        (a.min(b), a.max(b))
    };
    (0..count)
        .map(|_| {
            let (src, dst, p, x, y) = (side(4), side(4), side(3), side(3), side(3));
            let address = |(lo, hi): (usize, usize)| (lo as u128, hi as u128);
            let port = |(lo, hi): (usize, usize)| (lo as u16, hi as u16);
            Extent {
                src: address(src),
                dst: address(dst),
                protocol: (p.0 as u8, p.1 as u8),
                x: port(x),
                y: port(y),
            }
        })
        .collect()
}

fn points() -> Vec<Extent> {
    let mut out = Vec::new();
    for n in 0..4 * 4 * 3 * 3 * 3_u32 {
        let (src, dst) = (u128::from(n % 4), u128::from(n / 4 % 4));
        let (p, x, y) = ((n / 16 % 3) as u8, (n / 48 % 3) as u16, (n / 144) as u16);
        out.push(Extent { src: (src, src), dst: (dst, dst), protocol: (p, p), x: (x, x), y: (y, y) });
    }
    out
}

#[test]
fn the_algebra_of_lists_is_that_of_sets_of_points() {
    let all = points();
    let mut joined = 0;
    for seed in 0..400 {
        let mut rng = Rng::new(seed);
        let (a, b) =
            (random_boxes(&mut rng, 1 + seed as usize % 5), random_boxes(&mut rng, seed as usize % 7));
        let apart = disjoint(&a, &mut ample()).expect("few boxes");
        assert_disjoint(&apart);
        let less = subtract(&apart, &b, &mut ample()).expect("few boxes");
        assert_disjoint(&less);
        let fewer = merged(less.clone());
        assert_disjoint(&fewer);
        joined += less.len() - fewer.len();
        for point in &all {
            let holds = |list: &[Extent]| list.iter().any(|e| e.contains(point));
            assert_eq!(holds(&apart), holds(&a));
            assert_eq!(holds(&less), holds(&a) && !holds(&b));
            assert_eq!(holds(&fewer), holds(&less));
        }
    }
    assert!(joined > 0);
}

#[test]
fn a_tight_box_holds_the_same_flows() {
    for family in Family::BOTH {
        for low in [0_u8, 1, 2, 6, 17, 57, 58, 59, 132, 255] {
            for high in [1_u8, 5, 6, 58, 131, 255].into_iter().filter(|h| *h >= low) {
                for x in [(0, 0), (0, 3), (0, 255), (3, 300), (256, 400), (0, u16::MAX)] {
                    let box_ = Extent { protocol: (low, high), x, y: (0, 255), ..Extent::all(family) };
                    let same = box_.tight(family, false);
                    for p in 0..=u8::MAX {
                        for v in [0, 2, 3, 254, 255, 256, 300, 301, 400, 401, u16::MAX] {
                            let max = compiler::packet::field_max(p);
                            let is_flow = compiler::packet::protocol_in_family(p, family) && v <= max.0;
                            let has = |e: &Extent| is_flow && e.service().contains(p, v, 0);
                            assert_eq!(
                                same.as_ref().is_some_and(has),
                                has(&box_),
                                "{box_:?} {same:?} {p} {v}"
                            );
                        }
                    }
                }
            }
        }
    }
}

/// A list of rules over one network, most of them narrow, some wide.
fn list(rules: usize) -> Compiled {
    let mut text = String::from(
        "fabric prod {
  encap vxlan port 4789
  underlay mtu 9000 family ipv6
  precedence tenant
  delegate tenant
  unknown-vni drop
}
tenant all id 1 { segment net vni 1 { 0.0.0.0/0 } }
policy list for all in tenant {
",
    );
    let mut rng = Rng::new(99);
    for _ in 0..rules {
        let mut prefix = |wide: usize| match rng.below(100) {
            n if n < wide => format!("{}.0.0.0/8", rng.below(16)),
            _ => format!("{}.{}.{}.0/24", rng.below(16), rng.below(256), rng.below(256)),
        };
        let (src, dst) = (prefix(30), prefix(30));
        let action = rng.pick(&["allow", "deny"]);
        let _ =
            writeln!(text, "  {action} {src} -> {dst} : tcp/{}..{}", rng.below(100), 100 + rng.below(900));
    }
    text.push_str("}\n");
    support::clean(&text)
}

#[test]
fn a_narrow_question_about_a_long_list_costs_what_is_near() {
    let c = list(4_000);
    let id = c.channels.ids().next().expect("the tenant's own flows");
    let narrow = Extent {
        src: (0x0100_0000, 0x01ff_ffff),
        dst: (0x0200_0000, 0x02ff_ffff),
        protocol: (6, 6),
        ..Extent::all(Family::V4)
    };
    // Fewer box tests than the list has rules for each part that comes out.
    let parts = Flows::new(&c, Work(60_000)).decided(id, Family::V4, Some(&[narrow])).expect("little work");
    assert!(parts.len() > 20, "{}", parts.len());
    for part in &parts {
        let owner = c.channels[id].src;
        let flow = part.extent.some_flow(owner, owner, Family::V4).expect("each part holds a flow");
        compare(&c, id, &parts, &flow);
    }
    // The whole list, up to the first flow that a reader expects: far fewer than all.
    let service = ServiceSet::all();
    let all = RangeSet::range(0, Family::V4.max());
    let wanted = Fence { src: &all, dst: &all, service: &service.boxes };
    let mut work = Work(2_000_000);
    let flows = Flows::new(&c, ample());
    let first = flows.first_allowed(id, Family::V4, wanted, Through::Any, &mut work).expect("little work");
    assert!(eval::decide_on_channel(&c, id, &first.expect("something is allowed")).allow);
}
