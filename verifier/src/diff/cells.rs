//! The flows of a pair of owners as disjoint boxes, each with what both sides say of it.

use crate::cover::Work;
use crate::diff::names::{Names, Side};
use crate::diff::region::{Pair, Shows};
use crate::flows::{Extent, Flows, TooWide, subtract};
use compiler::algebra::Family;
use compiler::eval::Decider;
use compiler::ids::ChannelId;
use std::net::IpAddr;

/// How a flow goes. The same on both sides: gateways are numbers of [`Names`], translations are offsets.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Path {
    pub via: Option<u32>,
    /// What is added (wrapping) to the real destination to give the address that the source sees.
    pub dst: u128,
    /// The same for the source, as the destination sees it.
    pub src: u128,
    /// The addresses that stand for the source instead, one per instance.
    pub masquerade: Vec<IpAddr>,
}

/// What one side says of the flows of a box on one channel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Said {
    pub channel: ChannelId,
    /// How the flows go, if they are allowed.
    pub path: Option<Path>,
    /// What decides in the source's view and in the destination's, where there is such a view.
    pub egress: Option<Decider>,
    pub ingress: Option<Decider>,
}

/// Flows of which one side says the same on each channel on which they go.
#[derive(Debug, Clone)]
pub struct Cell {
    pub extent: Extent,
    /// By channel, ascending.
    pub said: Vec<Said>,
}

/// All flows of a pair on one side (of those in `within`), as disjoint cells.
///
/// # Errors
/// There are too many.
pub fn cells(
    flows: &Flows<'_>,
    names: &Names<'_>,
    side: Side,
    pair: &Pair,
    family: Family,
    within: Option<&[Extent]>,
) -> Result<Vec<Cell>, TooWide> {
    let mut all: Vec<Cell> = Vec::new();
    let mut work = flows.work();
    for id in side.of(&pair.channels) {
        let shows = Shows::of(flows.compiled(), *id, family);
        let mut of: Vec<Cell> = Vec::new();
        for part in flows.decided(*id, family, within)? {
            let (egress, ingress) = (part.egress.map(|v| v.by), part.ingress.map(|v| v.by));
            let via = part.via.map(|gateway| names.gateway(side, gateway));
            if !part.allow {
                let said = Said { channel: *id, path: None, egress, ingress };
                of.push(Cell { extent: part.extent, said: vec![said] });
                continue;
            }
            for (dst_range, dst) in overlapping(&shows.dst, part.extent.dst) {
                for (src_range, src) in overlapping(&shows.src, part.extent.src) {
                    let ends = Extent { src: *src_range, dst: *dst_range, ..Extent::all(family) };
                    let Some(extent) = part.extent.intersect(&ends) else { continue };
                    let masquerade = shows.masquerade.clone();
                    let path = Some(Path { via, dst: *dst, src: *src, masquerade });
                    let said = Said { channel: *id, path, egress, ingress };
                    of.push(Cell { extent, said: vec![said] });
                }
            }
        }
        all = if all.is_empty() { of } else { both(&all, &of, &mut work)? };
    }
    Ok(all)
}

/// The stretches that meet a range.
fn overlapping(all: &[((u128, u128), u128)], (lo, hi): (u128, u128)) -> &[((u128, u128), u128)] {
    let first = all.partition_point(|(range, _)| range.1 < lo);
    let end = all.partition_point(|(range, _)| range.0 <= hi);
    all.get(first..end).unwrap_or(&[])
}

/// The cells of two lists, cut so that they are disjoint.
fn both(a: &[Cell], b: &[Cell], work: &mut Work) -> Result<Vec<Cell>, TooWide> {
    let mut out = Vec::new();
    for (extent, a, b) in overlay(a, b, work)? {
        let said = a.into_iter().chain(b).flat_map(|cell| cell.said.iter().cloned()).collect();
        out.push(Cell { extent, said });
    }
    Ok(out)
}

/// A box, and the cell of each of two lists that holds it.
pub type Piece<'a> = (Extent, Option<&'a Cell>, Option<&'a Cell>);

/// Two lists of disjoint cells laid over each other: disjoint boxes that together hold what is in either.
///
/// # Errors
/// The work is used up.
pub fn overlay<'a>(a: &'a [Cell], b: &'a [Cell], work: &mut Work) -> Result<Vec<Piece<'a>>, TooWide> {
    let (in_a, in_b) = (Starts::new(a), Starts::new(b));
    let mut out: Vec<Piece<'a>> = Vec::new();
    for cell in a {
        let meeting = in_b.meeting(&cell.extent, work)?;
        for other in &meeting {
            if let Some(extent) = cell.extent.intersect(&other.extent) {
                out.push((extent, Some(cell), Some(other)));
            }
        }
        let taken: Vec<Extent> = meeting.iter().map(|cell| cell.extent).collect();
        out.extend(
            subtract(&[cell.extent], &taken, work)?.into_iter().map(|extent| (extent, Some(cell), None)),
        );
    }
    for cell in b {
        let taken: Vec<Extent> = in_a.meeting(&cell.extent, work)?.iter().map(|cell| cell.extent).collect();
        out.extend(
            subtract(&[cell.extent], &taken, work)?.into_iter().map(|extent| (extent, None, Some(cell))),
        );
    }
    Ok(out)
}

/// Cells by where their sources start.
struct Starts<'a> {
    cells: Vec<&'a Cell>,
    /// The highest source of each cell and those before it.
    highest: Vec<u128>,
}

impl<'a> Starts<'a> {
    fn new(cells: &'a [Cell]) -> Self {
        let mut cells: Vec<&Cell> = cells.iter().collect();
        cells.sort_by_key(|cell| cell.extent);
        let mut high = 0;
        let highest = cells
            .iter()
            .map(|cell| {
                high = cell.extent.src.1.max(high);
                high
            })
            .collect();
        Self { cells, highest }
    }

    fn meeting(&self, extent: &Extent, work: &mut Work) -> Result<Vec<&'a Cell>, TooWide> {
        let first = self.highest.partition_point(|high| *high < extent.src.0);
        let end = self.cells.partition_point(|cell| cell.extent.src.0 <= extent.src.1);
        let near = self.cells.get(first..end).unwrap_or(&[]);
        if !work.spend(near.len() + 1) {
            return Err(TooWide);
        }
        Ok(near.iter().filter(|cell| cell.extent.overlaps(extent)).copied().collect())
    }
}
