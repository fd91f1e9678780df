//! The world that `drover sim --paper` begins with: one group of paper instances behind a balancer.

use serde_json::{Value, json};

use super::pattern::Pattern;
use crate::sim::state::State;
use crate::sim::world::World;

/// The name of the group and the target group that `drover sim --paper` creates.
pub const GROUP: &str = "paper";

/// Describes a world with one group of `count` paper instances behind a balancer.
pub fn world(count: u32, pattern: Pattern) -> World {
    let target_group = json!({"name": GROUP, "port": 80});
    let group = json!({
        "name": GROUP, "desired": count, "max": count.saturating_mul(2), "target_groups": [GROUP], "paper": true,
    });
    let described = json!({"target_groups": [target_group], "groups": [group]});
    let mut world: World = serde_json::from_value(described).unwrap_or_default();
    world.groups.iter_mut().for_each(|group| group.paper_pattern = Some(pattern.clone()));
    world
}

impl State {
    /// Describes what `drover sim --paper` has created: the group, its size, its target group and the balancer's address.
    pub fn describe_paper(&self) -> Value {
        let target_group = self.elb.target_groups.values().find(|g| g.name == GROUP);
        json!({
            "group": GROUP,
            "instances": self.groups.get(GROUP).map(|g| g.desired),
            "target_group": target_group.map(|g| g.arn.as_str()),
            "url": target_group.and_then(|g| g.address).map(|address| format!("http://{address}")),
        })
    }
}
