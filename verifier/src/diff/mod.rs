//! The semantic difference of two projects: which flows are allowed on one side only, and which go otherwise.
//!
//! A flow is its two ends (owner and real address) and its service; owners are matched by name and kind. It is allowed if it is on
//! some channel. What cannot differ is not looked at: equal channels and aligned rules are told by their structure ([`policies`],
//! [`region`]), and only the flows that a change could touch are decided on both sides ([`cells`]).
//!
//! SOUNDNESS: every change comes with a flow whose decision on both sides the reference evaluator gives; if it is not what the
//! boxes say, there is no answer but a [`Fault`].

mod cells;
mod names;
mod policies;
mod region;
mod said;

pub use said::{Reached, Saying, Seen};

use crate::cover::Work;
use crate::flows::{Extent, Flows, TooWide, merged};
use crate::query::{NoAnswer, Row, rows};
use crate::solver::Fault;
use cells::{Cell, Path, Said, cells, overlay};
use compiler::Compiled;
use compiler::algebra::Family;
use compiler::packet::{End, Flow};
use compiler::wire;
use names::{Joint, Names, Side};
use policies::Deltas;
use rayon::prelude::*;
use region::{Pair, Scope, scope};
use std::collections::{BTreeMap, BTreeSet};

/// What happened to flows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum ChangeKind {
    /// Allowed in the new project only.
    Opened,
    /// Allowed in the old project only.
    Closed,
    /// Allowed in both, through another gateway or with other addresses in view.
    Rerouted,
}

impl ChangeKind {
    pub const ALL: [Self; 3] = [Self::Opened, Self::Closed, Self::Rerouted];

    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Opened => "opened",
            Self::Closed => "closed",
            Self::Rerouted => "rerouted",
        }
    }
}

/// A tenant or an external by name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Name {
    pub name: String,
    pub tenant: bool,
}

/// Flows between two owners to which the same happened, and of which the same is said.
#[derive(Debug, Clone)]
pub struct Change {
    pub kind: ChangeKind,
    pub src: Name,
    pub dst: Name,
    pub family: Family,
    /// Disjoint, of real addresses, ascending, never empty.
    pub rows: Vec<Row>,
    /// One of the flows, the one a reader expects, and what each side says of it.
    pub witness: Flow,
    pub old: Saying,
    pub new: Saying,
}

/// The difference of two projects, ordered by kind, owners and family. `work`: box tests that one pair of owners may cost.
///
/// # Errors
/// There are too many boxes, or the reference evaluator contradicts one.
pub fn diff(old: &Compiled, new: &Compiled, work: Work) -> Result<Vec<Change>, NoAnswer> {
    let names = Names::new(old, new);
    let deltas = Deltas::new(&names);
    let flows = [Flows::new(old, work), Flows::new(new, work)];
    let changes: Vec<Vec<Change>> = pairs(&names)
        .par_iter()
        .map(|pair| {
            let scope = scope(&names, &deltas, pair);
            if scope.is_empty() {
                return Ok(Vec::new());
            }
            let mut out = Vec::new();
            for family in Family::BOTH {
                let within = match &scope {
                    Scope::All => None,
                    Scope::Within([v4, v6]) => Some(if family == Family::V4 { v4 } else { v6 }.as_slice()),
                };
                if within.is_some_and(<[Extent]>::is_empty) {
                    continue;
                }
                let groups = groups(&flows, &names, pair, family, within).map_err(|TooWide| {
                    let name = |owner| names.owner(owner).0.to_owned();
                    NoAnswer::TooWide { src: name(pair.src), dst: name(pair.dst) }
                })?;
                for (key, pieces) in &groups {
                    out.push(change(&flows, &names, pair, family, key.0, pieces)?);
                }
            }
            Ok(out)
        })
        .collect::<Result<_, NoAnswer>>()?;
    let mut changes: Vec<Change> = changes.into_iter().flatten().collect();
    changes.sort_by(|a, b| {
        let key = |c: &Change| (c.kind, c.family, c.witness.protocol, c.witness.x, c.witness.y);
        (a.kind, &a.src, &a.dst, &a.rows).cmp(&(b.kind, &b.src, &b.dst, &b.rows)).then(key(a).cmp(&key(b)))
    });
    Ok(changes)
}

/// Every pair of owners between whom some flow is possible on some side.
fn pairs(names: &Names<'_>) -> Vec<Pair> {
    let mut by: BTreeMap<(Joint, Joint), [Vec<compiler::ids::ChannelId>; 2]> = BTreeMap::new();
    for side in Side::BOTH {
        for (id, channel) in names.compiled(side).channels.iter() {
            let key = (names.joint(side, channel.src), names.joint(side, channel.dst));
            let [old, new] = by.entry(key).or_default();
            match side {
                Side::Old => old.push(id),
                Side::New => new.push(id),
            }
        }
    }
    by.into_iter().map(|((src, dst), channels)| Pair { src, dst, channels }).collect()
}

/// What decides in one view, by name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Voice {
    /// There is no such view: the end is an external, or both are in one tenant.
    None,
    Default,
    Named(String),
}

/// What one side says of a group's flows, as far as they differ by it: the names of what decides, and every way they go.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Tells {
    deciders: Option<[Voice; 2]>,
    paths: BTreeSet<Path>,
}

type Key = (ChangeKind, Tells, Tells);

/// A box of flows that changed, with the channels and decisions of both sides.
struct Changed {
    extent: Extent,
    said: [Vec<Said>; 2],
}

/// The flows of a pair that changed, by what happened and what is said of them.
fn groups(
    flows: &[Flows<'_>; 2],
    names: &Names<'_>,
    pair: &Pair,
    family: Family,
    within: Option<&[Extent]>,
) -> Result<BTreeMap<Key, Vec<Changed>>, TooWide> {
    let side = |side: Side| cells(side.of(flows), names, side, pair, family, within);
    let (old, new) = (side(Side::Old)?, side(Side::New)?);
    let mut work = Side::New.of(flows).work();
    let mut groups: BTreeMap<Key, Vec<Changed>> = BTreeMap::new();
    for (extent, old, new) in overlay(&old, &new, &mut work)? {
        if !extent.has_flow(family, pair.src == pair.dst) {
            continue;
        }
        let paths = [old, new].map(|cell| {
            let said = cell.into_iter().flat_map(|cell| &cell.said);
            said.filter_map(|said| said.path.clone()).collect::<BTreeSet<Path>>()
        });
        let [before, after] = &paths;
        let kind = match (before.is_empty(), after.is_empty()) {
            (true, true) => continue,
            (true, false) => ChangeKind::Opened,
            (false, true) => ChangeKind::Closed,
            (false, false) if before == after => continue,
            (false, false) => ChangeKind::Rerouted,
        };
        let tells = |at: Side, cell: Option<&Cell>| Tells {
            deciders: cell.and_then(|cell| speaking(&cell.said)).map(|said| {
                [said.egress, said.ingress].map(|by| {
                    match by.map(|by| wire::decider_name(names.compiled(at), by)) {
                        None => Voice::None,
                        Some(None) => Voice::Default,
                        Some(Some(name)) => Voice::Named(name.to_owned()),
                    }
                })
            }),
            paths: at.of(&paths).clone(),
        };
        let key = (kind, tells(Side::Old, old), tells(Side::New, new));
        let said = [old, new].map(|cell| cell.map(|cell| cell.said.clone()).unwrap_or_default());
        groups.entry(key).or_default().push(Changed { extent, said });
    }
    Ok(groups)
}

/// Of several channels, the first that allows speaks, else the first.
fn speaking(said: &[Said]) -> Option<&Said> {
    said.iter().find(|said| said.path.is_some()).or_else(|| said.first())
}

fn change(
    flows: &[Flows<'_>; 2],
    names: &Names<'_>,
    pair: &Pair,
    family: Family,
    kind: ChangeKind,
    pieces: &[Changed],
) -> Result<Change, NoAnswer> {
    let contradiction = |what: &str| {
        let boxes: Vec<Extent> = pieces.iter().map(|piece| piece.extent).collect();
        Fault::Mismatch { dump: format!("{what}\n{kind:?} {pair:?}\nboxes {boxes:?}") }
    };
    // Where the flow is allowed, its ends exist.
    let at = if kind == ChangeKind::Closed { Side::Old } else { Side::New };
    let ends = |side: Side| names.id(side, pair.src).zip(names.id(side, pair.dst));
    let (src, dst) = ends(at).ok_or_else(|| contradiction("an owner of allowed flows does not exist"))?;
    let extents = merged(pieces.iter().map(|piece| piece.extent).collect());
    let witness = at
        .of(flows)
        .witness(src, dst, family, &extents)
        .ok_or_else(|| contradiction("boxes of flows hold none"))?;
    let piece = pieces
        .iter()
        .find(|piece| piece.extent.holds(&witness))
        .ok_or_else(|| contradiction("the witness lies in no box"))?;
    let flow = |side: Side| {
        let (src, dst) = ends(side)?;
        let end = |owner, end: End| End { owner, ..end };
        Some(Flow { src: end(src, witness.src), dst: end(dst, witness.dst), ..witness })
    };
    let said = |side: Side| -> &Vec<Said> { side.of(&piece.said) };
    let allowing = said::allowing(names, at, flow(at), said(at))?;
    let hint = allowing.packet();
    let other = said::saying(names, at.other(), flow(at.other()), said(at.other()), hint)?;
    let (old, new) = match at {
        Side::Old => (allowing, other),
        Side::New => (other, allowing),
    };
    let name = |owner: Joint| {
        let (name, tenant) = names.owner(owner);
        Name { name: name.to_owned(), tenant }
    };
    Ok(Change {
        kind,
        src: name(pair.src),
        dst: name(pair.dst),
        family,
        rows: rows(family, &extents),
        witness,
        old,
        new,
    })
}
