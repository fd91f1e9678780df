//! Lifecycle hooks: put, described, deleted. One on launches holds new instances in [`super::actions`]; one on
//! terminations is kept and listed, and has no effect.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::{Value, json};

use super::actions::ActionResult;
use crate::sim::state::State;
use crate::sim::wire::{Answer, ApiError, Params};

/// At most this many hooks a group.
const MOST: usize = 50;
/// The transition that holds new instances.
const LAUNCHING: &str = "autoscaling:EC2_INSTANCE_LAUNCHING";
/// The transition that would hold instances on their way out.
const TERMINATING: &str = "autoscaling:EC2_INSTANCE_TERMINATING";

/// A hook on launches in the world description.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HookSpec {
    /// Its name.
    pub name: String,
    /// Seconds, 30–7200; 3600 by default.
    #[serde(default)]
    pub heartbeat_timeout: Option<i64>,
    /// `CONTINUE` or `ABANDON` (default).
    #[serde(default)]
    pub default_result: Option<String>,
}

impl HookSpec {
    /// The parameters of the PutLifecycleHook that would make it.
    pub(super) fn as_call(&self) -> Value {
        json!({
            "LifecycleHookName": self.name,
            "LifecycleTransition": LAUNCHING,
            "HeartbeatTimeout": self.heartbeat_timeout,
            "DefaultResult": self.default_result,
        })
    }
}

/// A lifecycle hook of a group.
#[derive(Clone, Debug)]
pub struct Hook {
    /// Whether it holds launches; the others do nothing.
    pub launching: bool,
    /// HeartbeatTimeout, seconds.
    pub heartbeat: i64,
    /// What its actions end with where nobody completes them.
    pub default: ActionResult,
    target: Option<String>,
    role: Option<String>,
    metadata: Option<String>,
}

impl Hook {
    /// Reads a hook's parameters; what is absent stays as it was `before`.
    fn read(p: Params<'_>, before: Option<&Self>) -> Result<Self, ApiError> {
        let launching = match (p.str("LifecycleTransition"), before) {
            (Some(LAUNCHING), _) => true,
            (Some(TERMINATING), _) => false,
            (Some(other), _) => {
                return Err(p.error(format!(
                    "'{other}' is no lifecycle transition: use {LAUNCHING} or {TERMINATING}"
                )));
            }
            (None, Some(hook)) => hook.launching,
            (None, None) => return Err(p.need("LifecycleTransition").unwrap_err()),
        };
        let heartbeat = p.int_in("HeartbeatTimeout", 30..=7200)?;
        let default = p.str("DefaultResult").map(|_| ActionResult::read(p, "DefaultResult")).transpose()?;
        let text = |name: &str, old: Option<&String>| match p.get(name).and_then(Value::as_str) {
            Some(new) => (!new.is_empty()).then(|| new.to_owned()),
            None => old.cloned(),
        };
        Ok(Self {
            launching,
            heartbeat: heartbeat.or(before.map(|b| b.heartbeat)).unwrap_or(3600),
            default: default.or(before.map(|b| b.default)).unwrap_or(ActionResult::Abandon),
            target: text("NotificationTargetARN", before.and_then(|b| b.target.as_ref())),
            role: text("RoleARN", before.and_then(|b| b.role.as_ref())),
            metadata: text("NotificationMetadata", before.and_then(|b| b.metadata.as_ref())),
        })
    }

    /// The longest that its heartbeats can hold an instance, seconds: 48 hours or 100 time-outs, whichever is less.
    pub fn global_timeout(&self) -> i64 {
        (100 * self.heartbeat).min(48 * 3600)
    }

    fn json(&self, group: &str, name: &str) -> Value {
        json!({
            "LifecycleHookName": name,
            "AutoScalingGroupName": group,
            "LifecycleTransition": if self.launching { LAUNCHING } else { TERMINATING },
            "NotificationTargetARN": self.target,
            "RoleARN": self.role,
            "NotificationMetadata": self.metadata,
            "HeartbeatTimeout": self.heartbeat,
            "GlobalTimeout": self.global_timeout(),
            "DefaultResult": self.default.name(),
        })
    }
}

/// The hooks that a new group is given.
pub(super) fn read_all(specs: &[Params<'_>]) -> Result<BTreeMap<String, Hook>, ApiError> {
    if specs.len() > MOST {
        return Err(too_many());
    }
    specs.iter().map(|p| Ok((hook_name(*p)?, Hook::read(*p, None)?))).collect()
}

/// The name in `LifecycleHookName`.
pub(super) fn hook_name(p: Params<'_>) -> Result<String, ApiError> {
    let name = p.need("LifecycleHookName")?;
    let constraint = if name.len() > 255 {
        "Member must have length less than or equal to 255"
    } else if !name.chars().all(|c| c.is_ascii_alphanumeric() || "-_/".contains(c)) {
        "Member must satisfy regular expression pattern: [A-Za-z0-9\\-_\\/]+"
    } else {
        return Ok(name.to_owned());
    };
    Err(p.error(format!(
        "1 validation error detected: Value '{name}' at 'lifecycleHookName' failed to satisfy constraint: {constraint}"
    )))
}

fn too_many() -> ApiError {
    ApiError::refused(
        "LimitExceeded",
        format!("An AutoScalingGroup can have at most {MOST} lifecycle hooks."),
    )
}

impl State {
    pub(super) fn put_hook(&mut self, p: Params<'_>) -> Answer {
        let name = hook_name(p)?;
        let group = self.named(p)?;
        let hook = Hook::read(p, group.hooks.get(&name))?;
        if group.hooks.len() >= MOST && !group.hooks.contains_key(&name) {
            return Err(too_many());
        }
        group.hooks.insert(name, hook);
        Ok(json!({}))
    }

    /// The hook's actions under way end with ABANDON first.
    pub(super) fn delete_hook(&mut self, p: Params<'_>) -> Answer {
        let hook = hook_name(p)?;
        let group = self.named(p)?;
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
        if names.len() > MOST {
            return Err(p.error(format!("You can specify at most {MOST} lifecycle hook names.")));
        }
        let group = self.named(p)?;
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
        assert_eq!(state.world()["groups"][0]["hooks"], json!(["deploy"]));
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
