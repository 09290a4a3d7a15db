//! Addresses of one space: class, home and way, in the fewest prefixes.

use super::classes::{Ends, Piece};
use super::{COMPUTE, Lowering, exact, mac_number};
use crate::p4::entries::Match;
use crate::p4::lpm;
use compiler::algebra::Family;
use compiler::buckets;

/// The pieces of a table by address, and what each means: action, parameters, note.
type Side = (Vec<lpm::Piece>, Vec<(&'static str, Vec<u128>, String)>);

impl Lowering<'_> {
    pub(super) fn addresses_of(&mut self, space: &Ends, number: &dyn Fn(usize) -> u16) {
        let (source, destination) = match space.family {
            Family::V4 => ("source4", "destination4"),
            Family::V6 => ("source6", "destination6"),
        };
        // By table: pieces, and what each means with its note.
        let mut sides: [Side; 2] = Default::default();
        for (at, joint) in space.classes.iter().enumerate() {
            let class = number(at);
            for piece in &joint.pieces {
                let note = match piece.stretch.endpoint {
                    Some(endpoint) => self.endpoint_note(endpoint),
                    None => self.owner_note(piece.stretch.end.owner),
                };
                let meanings = [self.sender(space, class, piece), self.receiver(space, class, piece)];
                for ((pieces, said), meaning) in sides.iter_mut().zip(meanings) {
                    let Some((action, params)) = meaning else { continue };
                    let known = said.iter().position(|(a, p, _)| *a == action && *p == params);
                    let index = known.unwrap_or_else(|| {
                        said.push((action, params, note.clone()));
                        said.len() - 1
                    });
                    pieces.push((piece.lo, piece.hi, index + 1));
                }
            }
        }
        self.clients_only(space, &mut sides[1]);
        let id = u128::from(self.c.model.owners[space.tenant].id());
        for ((mut pieces, said), (table, miss)) in
            sides.into_iter().zip([(source, "UNKNOWN_SOURCE"), (destination, "NO_ROUTE")])
        {
            pieces.sort_unstable();
            self.saved.prefixes.0 += pieces
                .iter()
                .map(|(lo, hi, _)| lpm::minimal(space.family, &[(*lo, *hi, 1)]).len())
                .sum::<usize>();
            for (prefix, meaning) in lpm::minimal(space.family, &pieces) {
                let key = vec![exact(id), Match::Lpm(prefix.lo(), prefix.len())];
                let found = meaning.checked_sub(1).and_then(|at| said.get(at));
                let (action, params, note) = match found {
                    Some((action, params, note)) => (*action, params.clone(), note.as_str()),
                    None => ("refuse", vec![self.reason(miss)], "nobody"),
                };
                self.put(space.tenant, table, key, action, params, note);
                self.saved.prefixes.1 += 1;
            }
        }
    }

    /// Addresses known only as clients', where no endpoint is: `not-exposed`.
    fn clients_only(&self, space: &Ends, side: &mut Side) {
        let (pieces, said) = side;
        said.push(("refuse", vec![self.reason("NOT_EXPOSED")], "clients".into()));
        let meaning = said.len();
        let mut taken: Vec<(u128, u128)> = pieces.iter().map(|(lo, hi, _)| (*lo, *hi)).collect();
        taken.sort_unstable();
        for range in self.c.spaces[space.tenant].destinations.family(space.family) {
            if range.target != compiler::compiled::Destination::ClientOnly {
                continue;
            }
            let mut from = Some(range.lo);
            for (lo, hi) in taken.iter().filter(|(lo, hi)| range.lo <= *hi && *lo <= range.hi) {
                if let Some(start) = from.filter(|start| start < lo) {
                    pieces.push((start, lo - 1, meaning));
                }
                from = hi.checked_add(1);
            }
            if let Some(start) = from.filter(|start| *start <= range.hi) {
                pieces.push((start, range.hi, meaning));
            }
        }
    }

    /// The cell of an end, where the address as seen is not the real one or the end is one address.
    fn cell(&self, space: &Ends, piece: &Piece) -> u128 {
        match piece.stretch.endpoint {
            Some(_) => u128::from(buckets::end_hash(space.family, piece.real().address)),
            None => COMPUTE,
        }
    }

    fn sender(&self, space: &Ends, class: u16, piece: &Piece) -> Option<(&'static str, Vec<u128>)> {
        let stretch = &piece.stretch;
        let home = match (stretch.endpoint, stretch.gateway) {
            (Some(endpoint), None) => Some(endpoint),
            _ => None,
        };
        let peer = home.map_or(0, |e| self.peer(self.c.model.endpoints[e].node));
        let vni = match home.filter(|_| self.gateway) {
            Some(endpoint) if stretch.end.owner == space.tenant => {
                self.vni(self.c.model.endpoints[endpoint].segment)
            }
            _ if self.gateway => return None,
            _ => 0,
        };
        Some(("set_source", vec![class.into(), self.cell(space, piece), peer, vni]))
    }

    fn receiver(&self, space: &Ends, class: u16, piece: &Piece) -> Option<(&'static str, Vec<u128>)> {
        let cell = self.cell(space, piece);
        let class = u128::from(class);
        if piece.stretch.gateway.is_some() && !self.gateway {
            return Some(("to_gateway", vec![class, cell]));
        }
        let e = &self.c.model.endpoints[piece.stretch.endpoint?];
        let (vni, mtu) = (self.vni(e.segment), self.mtu(e.segment));
        if e.node == self.node {
            let port = u128::from(self.ports.get(&e.dev).copied()?);
            return Some(("to_port", vec![class, cell, port, e.mac.map_or(0, mac_number), vni, mtu]));
        }
        let mut params = vec![class, cell, self.peer(e.node), vni, mtu];
        let real = piece.real().address;
        if real == piece.lo {
            return Some(("to_node", params));
        }
        params.push(real);
        Some((if space.family == Family::V4 { "to_node_as4" } else { "to_node_as6" }, params))
    }
}
