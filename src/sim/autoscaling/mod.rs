//! Amazon EC2 Auto Scaling: groups that launch, terminate and replace instances, launch hooks, standby, suspended processes,
//! tags; instance refreshes and warm pools in name only.
//!
//! The files that define what a group consists of (`group`, `hook`, `activity` …) don't import the state; the others
//! implement calls and the passing of time on it.

mod action_calls;
mod activity;
mod arn;
mod capacity;
mod create;
mod describe;
mod group;
mod history;
mod hook;
mod hook_calls;
mod launch;
mod lifecycle_action;
mod lookup;
mod manage;
mod refresh;
mod refresh_calls;
mod standby;
mod termination;
mod waiting;
mod warm_pool;
mod warm_pool_calls;

use serde_json::{Value, json};

use super::state::State;
use super::wire::{Answer, ApiError, Params};

pub use activity::Activity;
pub use create::GroupSpec;
pub use group::{Group, LaunchConfiguration, PROCESSES, Tag};
pub use hook::{Hook, HookSpec};
pub use lifecycle_action::{ActionResult, LifecycleAction};
pub use refresh::Refresh;
pub use warm_pool::WarmPool;

/// XML namespace of the service's answers.
pub const NAMESPACE: &str = "http://autoscaling.amazonaws.com/doc/2011-01-01/";

impl State {
    /// Answers a call of the Auto Scaling API.
    pub fn autoscaling(&mut self, action: &str, params: &Value) -> Answer {
        let p = Params::new(params, "ValidationError");
        match action {
            "DescribeAutoScalingGroups" => self.describe_groups(p),
            "DescribeAutoScalingInstances" => self.describe_instances(p),
            "DescribeScalingActivities" => self.describe_activities(p),
            "DescribeTags" => self.describe_tags(p),
            "DescribeInstanceRefreshes" => self.describe_refreshes(p),
            "DescribeLifecycleHooks" => self.describe_hooks(p),
            "DescribeWarmPool" => self.describe_warm_pool(p),
            "DescribeScalingProcessTypes" => {
                let processes: Vec<Value> = PROCESSES.iter().map(|p| json!({"ProcessName": p})).collect();
                Ok(json!({"Processes": processes}))
            }
            "EnterStandby" => self.enter_standby(p),
            "ExitStandby" => self.exit_standby(p),
            "SuspendProcesses" => self.suspend_processes(p, true),
            "ResumeProcesses" => self.suspend_processes(p, false),
            "UpdateAutoScalingGroup" => self.update_group(p),
            "SetDesiredCapacity" => self.set_desired_capacity(p),
            "SetInstanceHealth" => self.set_instance_health(p),
            "SetInstanceProtection" => self.set_instance_protection(p),
            "TerminateInstanceInAutoScalingGroup" => self.terminate_instance(p),
            "CreateOrUpdateTags" => self.change_tags(p, true),
            "DeleteTags" => self.change_tags(p, false),
            "CreateLaunchConfiguration" => self.create_launch_configuration(p),
            "CreateAutoScalingGroup" => self.create_group_call(p),
            "DeleteAutoScalingGroup" => self.delete_group(p),
            "AttachLoadBalancerTargetGroups" => self.attach_target_groups(p),
            "PutLifecycleHook" => self.put_hook(p),
            "DeleteLifecycleHook" => self.delete_hook(p),
            "CompleteLifecycleAction" => self.complete_action(p),
            "RecordLifecycleActionHeartbeat" => self.record_heartbeat(p),
            "StartInstanceRefresh" => self.start_refresh(p),
            "CancelInstanceRefresh" => self.cancel_refresh(p),
            "PutWarmPool" => self.put_warm_pool(p),
            "DeleteWarmPool" => self.delete_warm_pool(p),
            _ => Err(ApiError::refused(
                "InvalidAction",
                format!("Could not find operation {action} for version 2011-01-01"),
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sim::state::{Effect, Lifecycle};
    use crate::sim::world::World;

    /// A group of `desired` between 2 and 6, its members in service though nothing runs.
    fn cloud(desired: i64) -> (State, Vec<String>) {
        let mut state = State::new(1000.0, 7);
        let world: World = serde_json::from_value(json!({
            "groups": [{"name": "web", "min": 2, "max": 6, "desired": desired, "zones": ["a", "b"]}],
        }))
        .unwrap();
        state.create_world(world).unwrap();
        for instance in state.instances.values_mut() {
            instance.lifecycle = Lifecycle::InService;
        }
        state.effects.clear();
        let ids = state.members("web");
        assert_eq!(ids.len() as i64, desired);
        (state, ids)
    }

    fn standby(state: &mut State, action: &str, ids: &[String]) -> Answer {
        state.autoscaling(
            action,
            &json!({"AutoScalingGroupName": "web", "InstanceIds": ids, "ShouldDecrementDesiredCapacity": "true"}),
        )
    }

    #[test]
    fn standby_is_all_or_nothing_and_keeps_min_size() {
        let (mut state, ids) = cloud(4);
        assert_eq!(standby(&mut state, "EnterStandby", &ids[..3]).unwrap_err().code, "ValidationError");
        assert!(state.instances.values().all(|i| i.lifecycle == Lifecycle::InService));
        standby(&mut state, "EnterStandby", &ids[..2]).unwrap();
        assert_eq!(state.groups["web"].desired, 2);
        assert!(
            standby(&mut state, "EnterStandby", &ids[..1]).unwrap_err().message.contains("EnteringStandby")
        );
        assert!(standby(&mut state, "ExitStandby", &ids[..1]).is_err());
        let unknown = standby(&mut state, "EnterStandby", &["i-0".to_owned()]).unwrap_err();
        assert!(unknown.message.contains("not part of"));
    }

    #[test]
    fn standby_cannot_end_while_launch_is_suspended_or_past_max_size() {
        let (mut state, ids) = cloud(3);
        standby(&mut state, "EnterStandby", &ids[..1]).unwrap();
        state.instances.get_mut(&ids[0]).unwrap().lifecycle = Lifecycle::Standby;
        let suspend = json!({"AutoScalingGroupName": "web", "ScalingProcesses": ["Launch"]});
        state.autoscaling("SuspendProcesses", &suspend).unwrap();
        assert!(standby(&mut state, "ExitStandby", &ids[..1]).unwrap_err().message.contains("Launch"));
        state.autoscaling("ResumeProcesses", &suspend).unwrap();
        state
            .autoscaling("UpdateAutoScalingGroup", &json!({"AutoScalingGroupName": "web", "MaxSize": "2"}))
            .unwrap();
        assert!(standby(&mut state, "ExitStandby", &ids[..1]).unwrap_err().message.contains("max-size=2"));
        state
            .autoscaling("UpdateAutoScalingGroup", &json!({"AutoScalingGroupName": "web", "MaxSize": "6"}))
            .unwrap();
        standby(&mut state, "ExitStandby", &ids[..1]).unwrap();
        assert_eq!(state.groups["web"].desired, 3);
    }

    #[test]
    fn a_raised_min_size_launches() {
        let (mut state, _) = cloud(3);
        state
            .autoscaling("UpdateAutoScalingGroup", &json!({"AutoScalingGroupName": "web", "MinSize": "5"}))
            .unwrap();
        state.groups.get_mut("web").unwrap().next_look = state.clock.now();
        state.tick_groups();
        let launched = state.effects.iter().filter(|e| matches!(e, Effect::Launch(_))).count();
        assert_eq!((state.groups["web"].desired, launched), (5, 2));
    }

    #[test]
    fn sizes_out_of_bounds_are_refused() {
        let (mut state, ids) = cloud(2);
        let set = |n: &str| json!({"AutoScalingGroupName": "web", "DesiredCapacity": n});
        assert!(
            state.autoscaling("SetDesiredCapacity", &set("1")).unwrap_err().message.contains("below min")
        );
        assert!(
            state.autoscaling("SetDesiredCapacity", &set("7")).unwrap_err().message.contains("above max")
        );
        let end = json!({"InstanceId": ids[0], "ShouldDecrementDesiredCapacity": "true"});
        assert!(state.autoscaling("TerminateInstanceInAutoScalingGroup", &end).is_err());
        assert_eq!(state.autoscaling("Nothing", &json!({})).unwrap_err().code, "InvalidAction");
    }
}
