//! `query` against enumeration: a flow lies in a box if and only if the evaluator allows it there.
//!
//! `PARTYWALL_PROJECTS` sets the number of projects.

use crate::{generate, representatives, support};
use compiler::Compiled;
use compiler::algebra::Family;
use compiler::eval;
use compiler::ids::{GatewayId, OwnerId};
use compiler::model::TestKind;
use compiler::packet::{End, Flow, protocol_in_family};
use compiler::sets::{EndSet, ServiceSet};
use partywall_verifier::flows::{Flows, Work};
use partywall_verifier::query::{AllowedFlows, NoAnswer, Row, query};
use partywall_verifier::{Options, replay};
use rayon::prelude::*;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

fn projects(default: u64) -> u64 {
    std::env::var("PARTYWALL_PROJECTS").ok().map_or(default, |v| v.parse().expect("a number"))
}

pub fn holds(row: &Row, flow: &Flow) -> bool {
    row.src.contains(flow.src.address)
        && row.dst.contains(flow.dst.address)
        && row.services.parts.iter().any(|part| {
            part.protocols.0 <= flow.protocol
                && flow.protocol <= part.protocols.1
                && part.x.contains(flow.x.into())
                && part.y.contains(flow.y.into())
        })
}

/// The gateways through which a flow is allowed.
fn gateways(c: &Compiled, flow: &Flow) -> BTreeSet<Option<GatewayId>> {
    let on = c.channels.ids().filter(|id| replay::goes_on(c, *id, flow));
    let decisions = on.map(|id| eval::decide_on_channel(c, id, flow));
    decisions.filter(|decision| decision.allow).map(|decision| decision.via).collect()
}

/// Compares the boxes of a query with every representative flow; how many of them are allowed.
fn compare(c: &Compiled, src: &EndSet, dst: &EndSet, service: &ServiceSet, what: &str) -> usize {
    let flows = Flows::new(c, Work(Options::DEFAULT_WORK));
    let found = query(&flows, src, dst, service).unwrap_or_else(|e| panic!("{what}: {e}"));
    let mut by: BTreeMap<(OwnerId, OwnerId, Family), Vec<&AllowedFlows>> = BTreeMap::new();
    for flows in &found {
        by.entry((flows.src, flows.dst, flows.family)).or_default().push(flows);
    }
    let services = representatives::services(&[c], &[service]);
    let mut allowed = 0;
    for family in Family::BOTH {
        let of = |owner: OwnerId| {
            let also = [representatives::of(src, owner, family), representatives::of(dst, owner, family)];
            representatives::addresses(&[(c, Some(owner))], family, &also)
        };
        let addresses: BTreeMap<OwnerId, Vec<u128>> =
            c.model.owners.ids().map(|owner| (owner, of(owner))).collect();
        for (from, sources) in &addresses {
            for (to, destinations) in &addresses {
                let boxes = by.get(&(*from, *to, family)).map_or(&[][..], Vec::as_slice);
                for s in sources {
                    for d in destinations.iter().filter(|d| from != to || s != *d) {
                        for &(protocol, x, y) in services.iter().filter(|v| protocol_in_family(v.0, family)) {
                            let (src_end, dst_end) =
                                (End { owner: *from, address: *s }, End { owner: *to, address: *d });
                            let flow = Flow { src: src_end, dst: dst_end, family, protocol, x, y };
                            let asked = src.contains(*from, family, *s)
                                && dst.contains(*to, family, *d)
                                && service.contains(protocol, x, y);
                            let expected = if asked { gateways(c, &flow) } else { BTreeSet::new() };
                            let mut told: Vec<Option<GatewayId>> = Vec::new();
                            for flows in boxes {
                                // More than once would be two boxes with one flow.
                                told.extend(
                                    flows.rows.iter().filter(|row| holds(row, &flow)).map(|_| flows.via),
                                );
                            }
                            told.sort_unstable();
                            assert_eq!(
                                told,
                                expected.iter().copied().collect::<Vec<_>>(),
                                "{what}: {flow:?}"
                            );
                            allowed += usize::from(!expected.is_empty());
                        }
                    }
                }
            }
        }
    }
    allowed
}

#[test]
fn boxes_hold_exactly_what_is_allowed() {
    let seen: Vec<(usize, usize)> = (0..projects(12))
        .into_par_iter()
        .map(|seed| {
            let (c, _) = support::compile(&generate::project(seed));
            let any = Arc::new(EndSet::any());
            let mut allowed =
                compare(&c, &any, &any, &ServiceSet::all(), &format!("seed {seed}, any -> any"));
            let mut clauses = 0;
            for clause in c.model.tests.iter().flat_map(|t| &t.clauses) {
                if let TestKind::Flows { src, dst, service, .. } = &clause.kind {
                    allowed += compare(&c, src, dst, service, &format!("seed {seed}, {:?}", clause.span));
                    clauses += 1;
                }
            }
            (allowed, clauses)
        })
        .collect();
    let (allowed, clauses) = seen.iter().fold((0, 0), |sum, next| (sum.0 + next.0, sum.1 + next.1));
    assert!(allowed > 1000 && clauses > 5, "{allowed} flows, {clauses} clauses");
}

#[test]
fn what_is_too_wide_is_named() {
    let (c, _) = support::compile(&generate::project(3));
    let any = EndSet::any();
    let answer = query(&Flows::new(&c, Work(3)), &any, &any, &ServiceSet::all());
    assert!(matches!(answer, Err(NoAnswer::TooWide { .. })), "{answer:?}");
}
