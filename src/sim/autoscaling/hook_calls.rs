//! The calls about lifecycle hooks: hooks are put, described and deleted. One on launches holds new instances (see
//! [`super::waiting`]); one on terminations is stored and listed, and has no effect.

use serde_json::{Value, json};

use super::hook::{Hook, MOST_HOOKS, read_hook_name, too_many_hooks};
use super::lifecycle_action::ActionResult;
use crate::sim::state::State;
use crate::sim::wire::{Answer, ApiError, Params};

impl State {
    pub(super) fn put_hook(&mut self, p: Params<'_>) -> Answer {
        let name = read_hook_name(p)?;
        let group = self.named_group(p)?;
        let hook = Hook::read(p, group.hooks.get(&name))?;
        if group.hooks.len() >= MOST_HOOKS && !group.hooks.contains_key(&name) {
            return Err(too_many_hooks());
        }
        group.hooks.insert(name, hook);
        Ok(json!({}))
    }

    /// Deletes a hook, after its actions under way have ended with ABANDON.
    pub(super) fn delete_hook(&mut self, p: Params<'_>) -> Answer {
        let hook = read_hook_name(p)?;
        let group = self.named_group(p)?;
        let name = group.name.clone();
        if !group.hooks.contains_key(&hook) {
            return Err(ApiError::validation(format!(
                "No Lifecycle Hook found with name '{hook}' for group '{name}'"
            )));
        }
        let holds = self.instances.values().filter(|i| i.group == name && i.actions.contains_key(&hook));
        let held: Vec<String> = holds.map(|i| i.id.clone()).collect();
        for id in &held {
            self.end_action(id, &hook, ActionResult::Abandon, false);
        }
        if let Some(group) = self.groups.get_mut(&name) {
            group.hooks.remove(&hook);
        }
        Ok(json!({}))
    }

    pub(super) fn describe_hooks(&mut self, p: Params<'_>) -> Answer {
        let names = p.strings("LifecycleHookNames");
        if names.len() > MOST_HOOKS {
            return Err(p.error(format!("You can specify at most {MOST_HOOKS} lifecycle hook names.")));
        }
        let group = self.named_group(p)?;
        let hooks: Vec<Value> = group
            .hooks
            .iter()
            .filter(|(name, _)| names.is_empty() || names.contains(name))
            .map(|(name, hook)| hook.json(&group.name, name))
            .collect();
        Ok(json!({"LifecycleHooks": hooks}))
    }
}

#[cfg(test)]
mod tests {
    use super::super::hook::{LAUNCHING, TERMINATING};
    use super::*;
    use crate::sim::world::World;

    /// An empty group with a hook `deploy`.
    fn cloud() -> State {
        let mut state = State::new(1000.0, 7);
        let world: World = serde_json::from_value(json!({
            "groups": [{"name": "web", "lifecycle_hooks": [{"name": "deploy", "heartbeat_timeout": 60}]}],
        }))
        .unwrap();
        state.create_world(world).unwrap();
        state
    }

    fn put(state: &mut State, hook: Value) -> Answer {
        let mut params = json!({"AutoScalingGroupName": "web"});
        params.as_object_mut().unwrap().extend(hook.as_object().unwrap().clone());
        state.autoscaling("PutLifecycleHook", &params)
    }

    fn described(state: &mut State, names: &[&str]) -> Vec<Value> {
        let asked = json!({"AutoScalingGroupName": "web", "LifecycleHookNames": names});
        let answer = state.autoscaling("DescribeLifecycleHooks", &asked).unwrap();
        answer["LifecycleHooks"].as_array().unwrap().clone()
    }

    #[test]
    fn a_hook_is_put_changed_described_and_deleted() {
        let mut state = cloud();
        assert_eq!(state.describe_world()["groups"][0]["hooks"], json!(["deploy"]));
        let leave = json!({
            "LifecycleHookName": "leave/1", "LifecycleTransition": TERMINATING, "NotificationMetadata": "x",
            "HeartbeatTimeout": "7200", "DefaultResult": "CONTINUE",
        });
        put(&mut state, leave).unwrap();
        assert_eq!(described(&mut state, &[]).len(), 2);
        assert_eq!(described(&mut state, &["none"]).len(), 0);
        let hook = described(&mut state, &["deploy"])[0].clone();
        assert_eq!(
            (&hook["LifecycleTransition"], &hook["GlobalTimeout"], &hook["DefaultResult"]),
            (&json!(LAUNCHING), &json!(6000), &json!("ABANDON"))
        );
        // What a change doesn't name stays; an empty text is none.
        put(&mut state, json!({"LifecycleHookName": "leave/1", "NotificationMetadata": ""})).unwrap();
        let hook = described(&mut state, &["leave/1"])[0].clone();
        assert_eq!(
            (&hook["LifecycleTransition"], &hook["GlobalTimeout"], &hook["DefaultResult"]),
            (&json!(TERMINATING), &json!(172_800), &json!("CONTINUE"))
        );
        assert!(hook["NotificationMetadata"].is_null());
        let delete = json!({"AutoScalingGroupName": "web", "LifecycleHookName": "deploy"});
        state.autoscaling("DeleteLifecycleHook", &delete).unwrap();
        assert_eq!(described(&mut state, &[]).len(), 1);
        let again = state.autoscaling("DeleteLifecycleHook", &delete).unwrap_err();
        assert_eq!(
            (again.code.as_str(), again.message.as_str()),
            ("ValidationError", "No Lifecycle Hook found with name 'deploy' for group 'web'")
        );
    }

    #[test]
    fn names_ranges_and_numbers_are_held() {
        let mut state = cloud();
        for (hook, said) in [
            (json!({"LifecycleHookName": "a b", "LifecycleTransition": LAUNCHING}), "pattern"),
            (json!({"LifecycleHookName": "a".repeat(256), "LifecycleTransition": LAUNCHING}), "255"),
            (json!({"LifecycleTransition": LAUNCHING}), "lifecycleHookName"),
            (json!({"LifecycleHookName": "a"}), "lifecycleTransition"),
            (json!({"LifecycleHookName": "a", "LifecycleTransition": "launch"}), "no lifecycle transition"),
            (json!({"LifecycleHookName": "deploy", "HeartbeatTimeout": "29"}), "between 30 and 7200"),
            (json!({"LifecycleHookName": "deploy", "HeartbeatTimeout": "7201"}), "between 30 and 7200"),
            (json!({"LifecycleHookName": "deploy", "DefaultResult": "RETRY"}), "CONTINUE or ABANDON"),
        ] {
            let refused = put(&mut state, hook).unwrap_err();
            assert_eq!(refused.code, "ValidationError");
            assert!(refused.message.contains(said), "{}", refused.message);
        }
        let hook = |n: usize| json!({"LifecycleHookName": format!("h{n}"), "LifecycleTransition": LAUNCHING});
        for n in 1..50 {
            put(&mut state, hook(n)).unwrap();
        }
        assert_eq!(put(&mut state, hook(50)).unwrap_err().code, "LimitExceeded");
        put(&mut state, hook(49)).unwrap();
        let world = serde_json::from_value::<World>(json!({
            "groups": [{"name": "other", "lifecycle_hooks": [{"name": "deploy", "heartbeat_timeout": 5}]}],
        }));
        assert!(state.create_world(world.unwrap()).is_err());
    }

    #[test]
    fn a_new_group_takes_its_hooks_along() {
        let mut state = cloud();
        state.autoscaling("CreateLaunchConfiguration", &json!({"LaunchConfigurationName": "plain"})).unwrap();
        let hooks = json!([{"LifecycleHookName": "warm", "LifecycleTransition": LAUNCHING}]);
        let made = json!({
            "AutoScalingGroupName": "new", "MinSize": "0", "MaxSize": "1", "LaunchConfigurationName": "plain",
            "LifecycleHookSpecificationList": hooks,
        });
        state.autoscaling("CreateAutoScalingGroup", &made).unwrap();
        assert_eq!(state.groups["new"].hooks["warm"].heartbeat, 3600);
    }
}
