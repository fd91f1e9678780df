//! The calls about lifecycle actions under way: CompleteLifecycleAction and RecordLifecycleActionHeartbeat.

use serde_json::json;

use super::group::group_not_found;
use super::hook::read_hook_name;
use super::lifecycle_action::ActionResult;
use crate::sim::state::State;
use crate::sim::wire::{Answer, ApiError, Params};

impl State {
    pub(super) fn complete_action(&mut self, p: Params<'_>) -> Answer {
        let result = ActionResult::read(p, "LifecycleActionResult")?;
        let (id, hook) = self.action_under_way(p)?;
        self.end_action(&id, &hook, result, false);
        Ok(json!({}))
    }

    /// Records a heartbeat: the time-out begins again, with the hook's length as it is now.
    pub(super) fn record_heartbeat(&mut self, p: Params<'_>) -> Answer {
        let (id, hook) = self.action_under_way(p)?;
        let now = self.clock.now();
        if let Some(instance) = self.instances.get_mut(&id)
            && let Some(known) = self.groups.get(&instance.group).and_then(|g| g.hooks.get(&hook))
            && let Some(action) = instance.actions.get_mut(&hook)
        {
            action.heartbeat = now + self.clock.wait(known.heartbeat as f64);
        }
        Ok(json!({}))
    }

    /// Returns the instance and the hook of the lifecycle action that a call is about.
    fn action_under_way(&self, p: Params<'_>) -> Result<(String, String), ApiError> {
        let hook = read_hook_name(p)?;
        let wanted = p.need("AutoScalingGroupName")?;
        let group =
            self.groups.values().find(|g| g.name == wanted || g.arn == wanted).ok_or_else(group_not_found)?;
        let (id, token) = (p.str("InstanceId"), p.str("LifecycleActionToken"));
        let missing = match (id, token) {
            (_, Some(token)) => format!("token {token}"),
            (Some(id), None) => format!("instance ID {id}"),
            (None, None) => {
                return Err(ApiError::validation(
                    "Either InstanceId or LifecycleActionToken must be specified.",
                ));
            }
        };
        self.instances
            .values()
            .filter(|i| i.group == group.name && id.is_none_or(|id| id == i.id))
            .find(|i| i.actions.get(&hook).is_some_and(|a| token.is_none_or(|token| token == a.token)))
            .map(|i| (i.id.clone(), hook.clone()))
            .ok_or_else(|| ApiError::validation(format!("No active Lifecycle Action found with {missing}")))
    }
}
