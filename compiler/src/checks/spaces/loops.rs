//! PW0304: packets that direct routes hand from space to space for ever.
//!
//! A destination means one thing in each space, so forwarding is a function on (space, address): following it from the
//! first address of every piece that leads elsewhere finds every cycle, for along a cycle of untranslated hops the
//! highest of its pieces' first addresses lies in all of them.

use crate::algebra::{Family, format_addr};
use crate::compiled::{Compiled, Destination};
use crate::ids::{OwnerId, RouteId};
use crate::report::Report;
use lang::codes::Code;
use lang::diag::Diagnostic;
use std::collections::BTreeSet;

/// One step: the space, the route that leads out of it and where it leads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Hop {
    space: OwnerId,
    route: RouteId,
    to: OwnerId,
}

/// Reports every cycle; the routes that are part of one.
pub fn check(compiled: &Compiled, report: &mut Report) -> BTreeSet<RouteId> {
    let mut looping: BTreeSet<RouteId> = BTreeSet::new();
    for (space, map) in compiled.spaces.iter() {
        for family in Family::BOTH {
            for range in map.destinations.family(family) {
                if !matches!(range.target, Destination::Direct { .. }) {
                    continue;
                }
                let Some(cycle) = cycle_from(compiled, space, family, range.lo) else { continue };
                if cycle.iter().all(|hop| looping.contains(&hop.route)) {
                    continue;
                }
                looping.extend(cycle.iter().map(|hop| hop.route));
                explain(compiled, family, range.lo, &cycle, report);
            }
        }
    }
    looping
}

fn hop(compiled: &Compiled, space: OwnerId, family: Family, address: u128) -> Option<Hop> {
    let range = compiled.spaces[space].destinations.get(family, address)?;
    match range.target {
        Destination::Direct { owner, route, .. } => Some(Hop { space, route, to: owner }),
        _ => None,
    }
}

/// The cycle that a packet to this address runs into, from its first hop by the routes' order.
fn cycle_from(compiled: &Compiled, start: OwnerId, family: Family, address: u128) -> Option<Vec<Hop>> {
    let mut path: Vec<Hop> = Vec::new();
    let mut space = start;
    loop {
        if let Some(at) = path.iter().position(|hop| hop.space == space) {
            let mut cycle = path.split_off(at);
            let first = cycle.iter().enumerate().min_by_key(|(_, hop)| hop.route).map_or(0, |(at, _)| at);
            cycle.rotate_left(first);
            return Some(cycle);
        }
        let next = hop(compiled, space, family, address)?;
        path.push(next);
        space = next.to;
    }
}

fn explain(compiled: &Compiled, family: Family, address: u128, cycle: &[Hop], report: &mut Report) {
    let model = &compiled.model;
    let Some((first, rest)) = cycle.split_first() else { return };
    let name = |owner: OwnerId| model.owners[owner].name.as_str();
    let mut tour: Vec<&str> = cycle.iter().map(|hop| name(hop.space)).collect();
    tour.push(name(first.space));
    let route = |hop: &Hop| {
        let prefix = model.routes[hop.route].prefix;
        format!("in `{}` {prefix} goes to `{}`", name(hop.space), name(hop.to))
    };
    let mut finding = Diagnostic::new(
        Code::PW0304,
        model.routes[first.route].span,
        format!("packets to {} go round for ever: {}", format_addr(family, address), tour.join(" -> ")),
    )
    .label(route(first))
    .help("remove one of the routes: an address belongs to the tenant that has it in a segment and routes it nowhere else");
    for hop in rest {
        finding = finding.related(model.routes[hop.route].span, route(hop));
    }
    for hop in cycle {
        report.taint(hop.space);
    }
    report.push(finding);
}
