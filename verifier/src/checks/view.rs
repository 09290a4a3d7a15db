//! One tenant's view, encoded on every channel and family in which it decides.

use crate::checks::Task;
use crate::encode::{Encoder, Frame, ViewTerms, matches_on};
use crate::replay;
use crate::scene::Scene;
use compiler::algebra::Family;
use compiler::eval::Way;
use compiler::ids::{ChannelId, OwnerId, RuleId};

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
    #[must_use]
    pub fn family(&self) -> Family {
        self.scene.encoder.frame().family
    }

    /// `None` if no flow of this family goes on the channel.
    #[must_use]
    pub fn new(task: Task<'c>, tenant: OwnerId, id: ChannelId, family: Family) -> Option<Self> {
        let channel = &task.c.channels[id];
        let frame = Frame::of_channel(channel, family)?;
        let way = replay::way_of(task.c, id, tenant);
        let mut encoder = Encoder::new(task.c, frame);
        let view = encoder.view(tenant, way, &channel.service);
        let possible = encoder.possible(channel);
        let scene = Scene::with_base(encoder, possible, task.budget);
        Some(Self { tenant, channel: id, way, scene, view })
    }
}

/// A view on all its channels, without those that touch tainted owners, ascending.
#[must_use]
pub fn scenes(task: Task<'_>, tenant: OwnerId) -> Vec<ViewScene<'_>> {
    scenes_on(task, tenant, |_| true)
}

/// A view on those of its channels on which a rule matches something.
#[must_use]
pub fn scenes_of(task: Task<'_>, tenant: OwnerId, rule: RuleId) -> Vec<ViewScene<'_>> {
    scenes_on(task, tenant, |id| matches_on(&task.c.model.rules[rule], &task.c.channels[id]))
}

fn scenes_on(task: Task<'_>, tenant: OwnerId, wanted: impl Fn(ChannelId) -> bool) -> Vec<ViewScene<'_>> {
    let channels = task.c.channels_of[tenant].iter().copied().filter(|id| !task.skips(*id) && wanted(*id));
    channels
        .flat_map(|id| Family::BOTH.into_iter().filter_map(move |f| ViewScene::new(task, tenant, id, f)))
        .collect()
}
