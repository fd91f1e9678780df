//! Instances in `Pending:Wait`: they wait for one lifecycle action for each hook on launches of their group, until it is
//! completed by a call or its time is over.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::lifecycle_action::{ActionResult, LifecycleAction};
use crate::sim::state::{Lifecycle, State};

impl State {
    /// Makes an instance that was just launched wait for its group's hooks on launches, if there are any.
    pub(super) fn wait_for_hooks(&mut self, id: &str) {
        let now = self.clock.now();
        let Some(instance) = self.instances.get(id).filter(|i| i.lifecycle == Lifecycle::Pending) else {
            return;
        };
        let name = instance.group.clone();
        let Some(group) = self.groups.get(&name) else { return };
        let actions: BTreeMap<String, LifecycleAction> = group
            .hooks
            .iter()
            .filter(|(_, hook)| hook.launching)
            .map(|(name, hook)| {
                let heartbeat = now + self.clock.wait(hook.heartbeat as f64);
                let global = now + self.clock.wait(hook.global_timeout() as f64);
                (name.clone(), LifecycleAction { token: self.random_uuid(), heartbeat, global })
            })
            .collect();
        if actions.is_empty() {
            return;
        }
        let told: Vec<Value> =
            actions.iter().map(|(hook, a)| json!({"hook": hook, "token": a.token})).collect();
        let detail = json!({"group": name, "hooks": told});
        self.move_to(id, Lifecycle::PendingWait, "instance-pending-wait", detail);
        if let Some(instance) = self.instances.get_mut(id) {
            instance.ready_at = None;
            instance.actions = actions;
        }
        self.set_launch_status(&name, id, "MidLifecycleAction");
    }

    /// Ends the actions whose time is over with their hooks' default results.
    pub(super) fn time_out_actions(&mut self, id: &str) {
        let now = self.clock.now();
        let Some(instance) = self.instances.get(id) else { return };
        let hooks = self.groups.get(&instance.group).map(|g| &g.hooks);
        let over: Vec<(String, ActionResult)> = instance
            .actions
            .iter()
            .filter(|(_, action)| action.heartbeat <= now || action.global <= now)
            .map(|(name, _)| {
                let hook = hooks.and_then(|h| h.get(name));
                (name.clone(), hook.map_or(ActionResult::Abandon, |h| h.default))
            })
            .collect();
        for (hook, result) in over {
            self.end_action(id, &hook, result, true);
        }
    }

    /// Ends a lifecycle action: the last one to continue lets the instance go into service, the first one to be abandoned
    /// terminates it.
    pub(super) fn end_action(&mut self, id: &str, hook: &str, result: ActionResult, timed_out: bool) {
        let Some(instance) = self.instances.get_mut(id) else { return };
        let Some(action) = instance.actions.remove(hook) else { return };
        let (group, last) = (instance.group.clone(), instance.actions.is_empty());
        let by = if timed_out { "timeout" } else { "call" };
        let detail = json!({"group": group, "hook": hook, "result": result.name(), "by": by});
        self.events.push(id, "lifecycle-action", detail);
        match result {
            ActionResult::Continue if last => {
                let ready = self.clock.now() + self.clock.wait(1.0);
                let detail = json!({"group": group});
                self.move_to(id, Lifecycle::PendingProceed, "instance-pending-proceed", detail);
                if let Some(instance) = self.instances.get_mut(id) {
                    instance.ready_at = Some(ready);
                }
                self.set_launch_status(&group, id, "InProgress");
            }
            ActionResult::Continue => {}
            ActionResult::Abandon => {
                let why = if timed_out {
                    "Heartbeat Timeout"
                } else {
                    "Lifecycle Action Completed with ABANDON Result"
                };
                self.cancel_launch_activity(&group, id, &action.token, why);
                self.begin_terminating(id, "lifecycle action abandoned");
                let cause =
                    "an instance was taken out of service in response to an abandoned lifecycle action.";
                self.record_activity(&group, id, "Terminating EC2 instance", cause, "InProgress");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sim::wire::Answer;
    use crate::sim::world::World;
    use std::time::{Duration, Instant};

    /// A group of one behind a balancer, with these hooks; its instance has just been launched, though nothing runs.
    fn cloud(hooks: Value) -> (State, String) {
        let mut state = State::new(1000.0, 7);
        let world: World = serde_json::from_value(json!({
            "target_groups": [{"name": "web", "port": 80}],
            "groups": [{"name": "web", "max": 4, "desired": 1, "target_groups": ["web"], "lifecycle_hooks": hooks}],
        }))
        .unwrap();
        state.create_world(world).unwrap();
        let id = state.members("web").remove(0);
        state.wait_for_hooks(&id);
        (state, id)
    }

    fn until(state: &mut State, holds: impl Fn(&State) -> bool) {
        let deadline = Instant::now() + Duration::from_secs(10);
        while !holds(state) {
            assert!(Instant::now() < deadline, "{:#}", state.events.after(0));
            state.tick_groups();
        }
    }

    fn call(state: &mut State, action: &str, hook: &str, id: &str, result: &str) -> Answer {
        let params = json!({
            "AutoScalingGroupName": "web", "LifecycleHookName": hook, "InstanceId": id, "LifecycleActionResult": result,
        });
        state.autoscaling(action, &params)
    }

    fn complete(state: &mut State, hook: &str, id: &str, result: &str) -> Answer {
        call(state, "CompleteLifecycleAction", hook, id, result)
    }

    fn shown(state: &mut State, id: &str) -> String {
        let asked = json!({"InstanceIds": [id]});
        let answer = state.autoscaling("DescribeAutoScalingInstances", &asked).unwrap();
        answer["AutoScalingInstances"][0]["LifecycleState"].as_str().unwrap_or("gone").to_owned()
    }

    /// The history's entry about an instance's launch: status and message.
    fn launch(state: &mut State, id: &str) -> (String, String) {
        let answer = state.autoscaling("DescribeScalingActivities", &json!({})).unwrap();
        let about = |a: &&Value| {
            a["Description"]
                .as_str()
                .is_some_and(|d| d.starts_with(&format!("Launching a new EC2 instance: {id}")))
        };
        let found = answer["Activities"].as_array().unwrap().iter().find(about).unwrap();
        let text = |key: &str| found[key].as_str().unwrap_or_default().to_owned();
        (text("StatusCode"), text("StatusMessage"))
    }

    fn events(state: &State, kind: &str) -> Vec<Value> {
        let all = state.events.after(0);
        all["events"].as_array().unwrap().iter().filter(|e| e["kind"] == kind).cloned().collect()
    }

    #[test]
    fn a_launch_waits_until_all_hooks_continue() {
        let (mut state, id) = cloud(json!([{"name": "a"}, {"name": "b"}]));
        assert_eq!(shown(&mut state, &id), "Pending:Wait");
        assert_eq!(launch(&mut state, &id).0, "MidLifecycleAction");
        // It counts: nothing is launched in its place.
        state.groups.get_mut("web").unwrap().next_look = state.clock.now();
        state.tick_groups();
        assert_eq!(state.members("web").len(), 1);
        complete(&mut state, "a", &id, "CONTINUE").unwrap();
        state.tick_groups();
        assert_eq!(shown(&mut state, &id), "Pending:Wait");
        assert!(!state.elb.holds(&id));
        complete(&mut state, "b", &id, "CONTINUE").unwrap();
        assert_eq!(shown(&mut state, &id), "Pending:Proceed");
        until(&mut state, |s| s.instances[&id].lifecycle == Lifecycle::InService);
        assert!(state.elb.holds(&id));
        assert_eq!(launch(&mut state, &id).0, "Successful");
        let done: Vec<Value> =
            events(&state, "lifecycle-action").iter().map(|e| e["detail"].clone()).collect();
        assert_eq!(done[0], json!({"group": "web", "hook": "a", "result": "CONTINUE", "by": "call"}));
        assert_eq!(done.len(), 2);
    }

    #[test]
    fn an_abandoned_instance_is_terminated_and_replaced() {
        let (mut state, id) = cloud(json!([{"name": "a"}, {"name": "b"}]));
        complete(&mut state, "a", &id, "ABANDON").unwrap();
        assert_eq!(shown(&mut state, &id), "Terminating");
        let (status, message) = launch(&mut state, &id);
        assert_eq!(status, "Cancelled");
        assert!(
            message.ends_with("was abandoned: Lifecycle Action Completed with ABANDON Result"),
            "{message}"
        );
        assert!(complete(&mut state, "b", &id, "CONTINUE").is_err());
        until(&mut state, |s| s.instances[&id].lifecycle == Lifecycle::Terminated);
        until(&mut state, |s| !s.members("web").is_empty());
        assert_ne!(state.members("web"), [id]);
    }

    #[test]
    fn an_action_nobody_completes_ends_with_the_hooks_default() {
        for (default, end) in [("CONTINUE", Lifecycle::InService), ("ABANDON", Lifecycle::Terminated)] {
            let (mut state, id) =
                cloud(json!([{"name": "a", "heartbeat_timeout": 30, "default_result": default}]));
            until(&mut state, |s| s.instances[&id].lifecycle == end);
            let done = events(&state, "lifecycle-action");
            assert_eq!(done[0]["detail"]["by"], "timeout");
            assert_eq!(done[0]["detail"]["result"], default);
        }
    }

    #[test]
    fn a_heartbeat_holds_an_instance_until_the_global_timeout() {
        let (mut state, id) = cloud(json!([{"name": "a"}]));
        let now = state.clock.now();
        let action = |state: &mut State| state.instances.get_mut(&id).unwrap().actions.remove("a").unwrap();
        let held = LifecycleAction { heartbeat: now, ..action(&mut state) };
        state.instances.get_mut(&id).unwrap().actions.insert("a".to_owned(), held);
        call(&mut state, "RecordLifecycleActionHeartbeat", "a", &id, "").unwrap();
        state.tick_groups();
        assert_eq!(shown(&mut state, &id), "Pending:Wait");
        let held = LifecycleAction { global: now, ..action(&mut state) };
        state.instances.get_mut(&id).unwrap().actions.insert("a".to_owned(), held);
        call(&mut state, "RecordLifecycleActionHeartbeat", "a", &id, "").unwrap();
        state.tick_groups();
        assert_eq!(shown(&mut state, &id), "Terminating");
        assert!(launch(&mut state, &id).1.ends_with("was abandoned: Heartbeat Timeout"));
    }

    #[test]
    fn a_token_names_an_action_as_well() {
        let (mut state, id) = cloud(json!([{"name": "a"}]));
        let token = events(&state, "instance-pending-wait")[0]["detail"]["hooks"][0]["token"].clone();
        let with = |token: &Value| {
            json!({
                "AutoScalingGroupName": state.groups["web"].arn, "LifecycleHookName": "a",
                "LifecycleActionToken": token, "LifecycleActionResult": "CONTINUE",
            })
        };
        let (wrong, right) = (with(&json!("00000000-0000-0000-0000-000000000000")), with(&token));
        let refused = state.autoscaling("CompleteLifecycleAction", &wrong).unwrap_err();
        assert_eq!(
            refused.message,
            "No active Lifecycle Action found with token 00000000-0000-0000-0000-000000000000"
        );
        state.autoscaling("CompleteLifecycleAction", &right).unwrap();
        assert_eq!(shown(&mut state, &id), "Pending:Proceed");
    }

    #[test]
    fn where_nothing_waits_calls_are_refused() {
        let (mut state, id) = cloud(json!([{"name": "a"}]));
        let none = format!("No active Lifecycle Action found with instance ID {id}");
        for (hook, id, result, said) in [
            ("b", id.as_str(), "CONTINUE", none.as_str()),
            ("a", "i-0", "CONTINUE", "No active Lifecycle Action found with instance ID i-0"),
            ("a", "", "CONTINUE", "Either InstanceId or LifecycleActionToken must be specified."),
            ("a", id.as_str(), "RETRY", "'RETRY' is no LifecycleActionResult: use CONTINUE or ABANDON"),
        ] {
            let refused = complete(&mut state, hook, id, result).unwrap_err();
            assert_eq!((refused.code.as_str(), refused.message.as_str()), ("ValidationError", said));
        }
        complete(&mut state, "a", &id, "CONTINUE").unwrap();
        for action in ["CompleteLifecycleAction", "RecordLifecycleActionHeartbeat"] {
            assert_eq!(call(&mut state, action, "a", &id, "CONTINUE").unwrap_err().message, none);
        }
    }

    #[test]
    fn a_deleted_hook_abandons_what_waits_for_it() {
        let (mut state, id) = cloud(json!([{"name": "a"}, {"name": "b"}]));
        let delete = json!({"AutoScalingGroupName": "web", "LifecycleHookName": "b"});
        state.autoscaling("DeleteLifecycleHook", &delete).unwrap();
        assert_eq!(shown(&mut state, &id), "Terminating");
    }

    #[test]
    fn coming_back_from_standby_and_hooks_on_terminations_hold_nothing() {
        let (mut state, id) = cloud(json!([]));
        let hook = json!({
            "AutoScalingGroupName": "web", "LifecycleHookName": "leave",
            "LifecycleTransition": "autoscaling:EC2_INSTANCE_TERMINATING",
        });
        state.autoscaling("PutLifecycleHook", &hook).unwrap();
        state.wait_for_hooks(&id);
        assert_eq!(shown(&mut state, &id), "Pending");
        let hook = json!({
            "AutoScalingGroupName": "web", "LifecycleHookName": "arrive",
            "LifecycleTransition": "autoscaling:EC2_INSTANCE_LAUNCHING",
        });
        state.autoscaling("PutLifecycleHook", &hook).unwrap();
        state.instances.get_mut(&id).unwrap().lifecycle = Lifecycle::Standby;
        let leaving = json!({"AutoScalingGroupName": "web", "InstanceIds": [id]});
        state.autoscaling("ExitStandby", &leaving).unwrap();
        until(&mut state, |s| s.instances[&id].lifecycle == Lifecycle::InService);
        assert!(events(&state, "instance-pending-wait").is_empty());
    }
}
