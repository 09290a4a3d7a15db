//! One tenant's view, encoded on every channel and family in which it decides.

use crate::checks::Task;
use crate::encode::{Encoder, Frame, ViewTerms};
use crate::replay;
use crate::scene::Scene;
use crate::solver::Fault;
use compiler::algebra::Family;
use compiler::eval::Way;
use compiler::ids::{ChannelId, OwnerId};

/// A view on one channel in one family.
#[derive(Debug)]
pub struct ViewScene<'c> {
    pub tenant: OwnerId,
    pub channel: ChannelId,
    pub way: Way,
    pub scene: Scene<'c>,
    pub view: ViewTerms,
}

impl<'c> ViewScene<'c> {
    /// `None` if no flow of this family goes on the channel.
    ///
    /// # Errors
    /// The solver fails.
    pub fn new(
        task: Task<'c>,
        tenant: OwnerId,
        id: ChannelId,
        family: Family,
    ) -> Result<Option<Self>, Fault> {
        let channel = &task.c.channels[id];
        let Some(frame) = Frame::of_channel(channel, family) else { return Ok(None) };
        let way = replay::way_of(task.c, id, tenant);
        let mut encoder = Encoder::new(task.c, frame);
        let view = encoder.view(tenant, way, &channel.service);
        let possible = encoder.possible(channel);
        let scene = Scene::with_base(encoder, possible, task.budget)?;
        Ok(Some(Self { tenant, channel: id, way, scene, view }))
    }
}

/// A view on all its channels, without those that touch tainted owners, ascending.
///
/// # Errors
/// The solver fails.
pub fn scenes(task: Task<'_>, tenant: OwnerId) -> Result<Vec<ViewScene<'_>>, Fault> {
    let mut out = Vec::new();
    for id in task.c.channels_of[tenant].iter().filter(|id| !task.skips(**id)) {
        for family in Family::BOTH {
            out.extend(ViewScene::new(task, tenant, *id, family)?);
        }
    }
    Ok(out)
}
