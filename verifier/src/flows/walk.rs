//! A region walked through both views, cut where its flows part.

use crate::cover::Work;
use crate::cover::extent::Extent;
use crate::flows::region::Region;
use crate::flows::sheet::{Settled, Sheet, Sheets};
use crate::flows::{Flows, Part, TooWide};
use compiler::compiled::{Channel, ChannelKind};
use compiler::eval::ViewDecision;
use compiler::ids::ChannelId;
use std::rc::Rc;

/// What a question is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wanted {
    All,
    /// Only what is allowed: a box in which nothing can be is cut no further.
    Allowed,
}

/// A box on its way.
struct Step {
    extent: Extent,
    /// Boxes of the view that it is in that may meet it, ascending.
    near: Rc<[u32]>,
    /// What the source's view said, once that is known.
    egress: Option<ViewDecision>,
    /// Whether it is in the destination's view.
    inward: bool,
}

impl Flows<'_> {
    /// Hands every part of a region of a channel to `visit`, disjoint, each with a flow, until that returns `false`; boxes that are
    /// needless when their turn comes are left out.
    pub(super) fn walk(
        &self,
        id: ChannelId,
        region: &Region,
        wanted: Wanted,
        work: &mut Work,
        needless: &dyn Fn(&Extent) -> bool,
        visit: &mut dyn FnMut(Part) -> bool,
    ) -> Result<(), TooWide> {
        let sheets = self.sheets(id, region.family)?;
        let mut walk = Walk {
            channel: &self.c.channels[id],
            sheets: &sheets,
            region,
            wanted,
            todo: Vec::new(),
            parts: Vec::new(),
        };
        for hull in region.hulls() {
            walk.enter(hull, None, sheets.egress.is_none(), work)?;
        }
        while let Some(step) = walk.todo.pop() {
            if needless(&step.extent) {
                if !work.spend(1) {
                    return Err(TooWide);
                }
                continue;
            }
            if let Some(part) = walk.step(step, work)? {
                let mut on = true;
                if !work.spend(region.pieces(&part.extent)) {
                    return Err(TooWide);
                }
                region.clip(&part.extent, |extent| {
                    if on && extent.has_flow(region.family, walk.one_owner()) {
                        on = visit(Part { extent, ..part });
                    }
                });
                if !on {
                    return Ok(());
                }
            }
        }
        Ok(())
    }
}

struct Walk<'a> {
    channel: &'a Channel,
    sheets: &'a Sheets,
    region: &'a Region,
    wanted: Wanted,
    todo: Vec<Step>,
    parts: Vec<Extent>,
}

impl Walk<'_> {
    fn one_owner(&self) -> bool {
        self.channel.src == self.channel.dst
    }

    fn sheet(&self, inward: bool) -> Option<&Sheet> {
        if inward { self.sheets.ingress.as_ref() } else { self.sheets.egress.as_ref() }
    }

    /// Puts a box at the start of a view.
    fn enter(
        &mut self,
        extent: Extent,
        egress: Option<ViewDecision>,
        inward: bool,
        work: &mut Work,
    ) -> Result<(), TooWide> {
        let near: Rc<[u32]> = self.sheet(inward).map(|sheet| sheet.near(&extent)).unwrap_or_default().into();
        if !work.spend(near.len() + 1) {
            return Err(TooWide);
        }
        self.todo.push(Step { extent, near, egress, inward });
        Ok(())
    }

    /// Takes a box one step on: what is decided of it, or more steps to do.
    fn step(&mut self, step: Step, work: &mut Work) -> Result<Option<Part>, TooWide> {
        let Step { extent, near, egress, inward } = step;
        if !work.spend(near.len() + 1) {
            return Err(TooWide);
        }
        let region = self.region;
        if !extent.has_flow(region.family, self.one_owner()) || region.pieces(&extent) == 0 {
            return Ok(None);
        }
        let Some(sheet) = self.sheet(inward) else { return Ok(self.part(extent, egress, None)) };
        let near = sheet.nearer(&near, &extent);
        if self.wanted == Wanted::Allowed && !sheet.may_allow(&near) {
            return Ok(None);
        }
        let decision = match sheet.settle(&extent, &near) {
            Settled::Alike(decision) => decision,
            Settled::Cut(cut) => {
                let near: Rc<[u32]> = near.into();
                self.parts.clear();
                extent.minus(&cut, &mut self.parts);
                self.parts.extend(extent.intersect(&cut));
                let steps = self.parts.iter().map(|extent| Step {
                    extent: *extent,
                    near: near.clone(),
                    egress,
                    inward,
                });
                self.todo.extend(steps);
                return Ok(None);
            }
        };
        if self.wanted == Wanted::Allowed && !decision.allow {
            return Ok(None);
        }
        if inward {
            return Ok(self.part(extent, egress, Some(decision)));
        }
        if self.sheets.ingress.is_none() {
            return Ok(self.part(extent, Some(decision), None));
        }
        self.enter(extent, Some(decision), true, work)?;
        Ok(None)
    }

    /// Both views, combined.
    fn part(
        &self,
        extent: Extent,
        egress: Option<ViewDecision>,
        ingress: Option<ViewDecision>,
    ) -> Option<Part> {
        let allow = [egress, ingress].iter().flatten().all(|view| view.allow);
        if self.wanted == Wanted::Allowed && !allow {
            return None;
        }
        let via = if self.channel.kind == ChannelKind::Intra {
            egress.and_then(|view| view.via)
        } else {
            self.channel.gateway
        };
        Some(Part { extent, allow, via: via.filter(|_| allow), egress, ingress })
    }
}
