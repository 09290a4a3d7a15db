//! Overruled rules (PW0404, note) in boxes.
//!
//! SOUNDNESS. What a tenant's rule would decide if its tenant's policies stood alone is its live part in the table without the
//! others ([`Table::among`]); what it decides is that part without the boxes of its takers in the whole table. (The exposure lets
//! through in the whole table what it lets through in the other: more rules of its tier match and pass there.)

use crate::checks::Task;
use crate::checks::note::overruled;
use crate::cover::subtract::leftovers;
use crate::cover::table::Table;
use crate::cover::witness::preferred;
use crate::solver::Fault;
use compiler::eval::Way;
use compiler::ids::{ChannelId, RuleId};
use compiler::packet::Flow;
use std::sync::OnceLock;

/// A table, and the same with the tenant's policies alone, made when it is first needed. `None`: too much for boxes.
pub struct Alone<'t> {
    table: &'t Table,
    alone: OnceLock<Option<Table>>,
}

/// Whether other owners' rules decide flows that a rule would.
pub enum Overruled {
    No,
    /// On this flow, which the evaluator has confirmed.
    By(ChannelId, Way, Flow),
    Exhausted,
}

impl<'t> Alone<'t> {
    #[must_use]
    pub fn new(table: &'t Table) -> Self {
        Self { table, alone: OnceLock::new() }
    }

    fn get(&self, task: Task<'_>) -> Option<&Table> {
        let own = |policy| task.c.model.policies[policy].owner == Some(self.table.tenant);
        self.alone.get_or_init(|| self.table.among(task, own).ok()).as_ref()
    }
}

/// Whether the platform's rules decide some of the flows that a tenant's rule would.
///
/// # Errors
/// The evaluator does not confirm the flow.
pub fn find(task: Task<'_>, tables: &[Alone<'_>], id: RuleId) -> Result<Overruled, Fault> {
    let mut exhausted = false;
    for of in tables {
        let table = of.table;
        let Some(entry) = table.find(id) else { continue };
        let foreign = |policy| task.c.model.policies[policy].owner != Some(table.tenant);
        if !table.meets(entry, foreign) {
            continue;
        }
        match flow(task, of, entry, id) {
            Some(None) => {}
            None => exhausted = true,
            // A question before this one may have the answer that is to be shown.
            Some(Some(_)) if exhausted => return Ok(Overruled::Exhausted),
            Some(Some(flow)) => {
                if task.replay && !overruled(task, table.tenant, table.way, id, &flow) {
                    let dump = format!(
                        "{id:?} is not overruled on {flow:?} in {:?} on {:?}",
                        table.tenant, table.way
                    );
                    return Err(Fault::Mismatch { dump });
                }
                return Ok(Overruled::By(table.channel, table.way, flow));
            }
        }
    }
    Ok(if exhausted { Overruled::Exhausted } else { Overruled::No })
}

/// The preferred flow on which the rule is overruled in a table; `None` if that is too much for boxes.
#[expect(clippy::option_option, reason = "no answer, and the answer that there is none")]
fn flow(task: Task<'_>, of: &Alone<'_>, entry: usize, id: RuleId) -> Option<Option<Flow>> {
    let alone = of.get(task)?;
    let Some(at) = alone.find(id) else { return Some(None) };
    let lot = of.table.entries.get(entry).map(|e| e.lot)?;
    let mut work = task.work();
    let (own, all) = (alone.takers(at), of.table.takers(entry));
    let mut taken = Vec::new();
    for cuboid in alone.let_through(alone.region(at), alone.tier(at)) {
        for item in all.overlapping(&cuboid) {
            // Its own policy takes as much from it either way.
            let beside = of.table.entries.get(item.entry as usize).is_some_and(|e| e.lot == lot);
            let Some(common) = cuboid.intersect(&item.cuboid).filter(|_| !beside) else { continue };
            taken.extend(leftovers(common, &own.overlapping(&common), &mut work)?);
        }
    }
    Some(preferred(task.c, &of.table.axes, &taken))
}
