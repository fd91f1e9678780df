//! Amazon EC2 Auto Scaling: groups that launch, terminate and replace, launch hooks, standby, suspended processes, tags;
//! instance refreshes and warm pools in name only.

mod actions;
mod capacity;
mod create;
mod describe;
mod hooks;
mod manage;
mod refresh;
mod standby;
mod warm_pool;

use std::collections::{BTreeMap, VecDeque};
use std::time::Instant;

use serde_json::{Value, json};

use super::paper::Pattern;
use super::state::{ACCOUNT, Instance, REGION, State};
use super::wire::{Answer, ApiError, Params};

pub use actions::{ActionResult, LifecycleAction};
pub use create::GroupSpec;
pub use hooks::{Hook, HookSpec};
pub use refresh::Refresh;
pub use warm_pool::WarmPool;

/// XML namespace of the service's answers.
pub const NAMESPACE: &str = "http://autoscaling.amazonaws.com/doc/2011-01-01/";

/// The processes that can be suspended.
pub const PROCESSES: [&str; 9] = [
    "Launch",
    "Terminate",
    "AddToLoadBalancer",
    "AlarmNotification",
    "AZRebalance",
    "HealthCheck",
    "InstanceRefresh",
    "ReplaceUnhealthy",
    "ScheduledActions",
];

/// What CreateLaunchConfiguration keeps.
#[derive(Clone, Debug, Default)]
pub struct LaunchConfiguration {
    /// The script that a new instance runs once.
    pub user_data: Option<String>,
}

/// A tag on a group.
#[derive(Clone, Debug)]
pub struct Tag {
    /// Its value.
    pub value: String,
    /// Whether new instances get it.
    pub propagate: bool,
}

/// One line of a group's history.
#[derive(Clone, Debug)]
pub struct Activity {
    id: String,
    description: String,
    cause: String,
    instance: String,
    start: String,
    end: Option<String>,
    status: &'static str,
    /// Why it came to nothing.
    message: Option<String>,
}

/// An Auto Scaling group.
#[derive(Debug)]
pub struct Group {
    /// Its name.
    pub name: String,
    /// Its ARN.
    pub arn: String,
    /// MinSize.
    pub min: i64,
    /// MaxSize.
    pub max: i64,
    /// DesiredCapacity.
    pub desired: i64,
    /// Availability zones.
    pub zones: Vec<String>,
    /// ARNs of the attached target groups.
    pub target_groups: Vec<String>,
    /// Whether the balancer's health checks count (type `ELB`).
    pub elb_health: bool,
    /// Health check grace period, seconds.
    pub grace: i64,
    /// The script that a new instance runs once.
    pub user_data: Option<String>,
    /// How attempts on its instances go, where they are paper instances.
    pub paper: Option<Pattern>,
    /// Environment of the instances' processes.
    pub env: Vec<(String, String)>,
    /// The launch configuration's name.
    pub launch_configuration: String,
    /// Tags by key.
    pub tags: BTreeMap<String, Tag>,
    /// Suspended processes.
    pub suspended: Vec<String>,
    /// Lifecycle hooks by name.
    pub hooks: BTreeMap<String, Hook>,
    /// Its warm pool, if it has one.
    pub warm_pool: Option<WarmPool>,
    /// Its instance refreshes, oldest first.
    pub refreshes: Vec<Refresh>,
    /// When it was created.
    pub created: String,
    /// New instances are protected from scale-in.
    pub protect_new: bool,
    /// History, newest first.
    pub activities: VecDeque<Activity>,
    /// When its capacity is looked at next.
    pub next_look: Instant,
    /// Since when the zones are uneven.
    pub uneven_since: Option<Instant>,
    /// The instance launched to even the zones out.
    pub rebalancing: Option<String>,
    /// DeleteAutoScalingGroup was called.
    pub deleting: bool,
}

impl Group {
    /// Whether a process runs.
    pub fn runs(&self, process: &str) -> bool {
        !self.suspended.iter().any(|p| p == process)
    }
}

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

    /// The group that `AutoScalingGroupName` names.
    pub(crate) fn named(&mut self, p: Params<'_>) -> Result<&mut Group, ApiError> {
        let name = p.need("AutoScalingGroupName")?;
        self.groups.get_mut(name).ok_or_else(unknown_group)
    }

    /// Writes an activity into a group's history and answers with it.
    fn activity(
        &mut self,
        group: &str,
        instance: &str,
        doing: &str,
        cause: &str,
        status: &'static str,
    ) -> Activity {
        let start = jiff::Timestamp::now().to_string();
        let id = self.uuid();
        let description = if instance.is_empty() { doing.to_owned() } else { format!("{doing}: {instance}") };
        let end = (status == "Successful").then(|| start.clone());
        let cause = format!("At {start} {cause}");
        let instance = instance.to_owned();
        let activity = Activity { id, description, cause, instance, start, end, status, message: None };
        if let Some(group) = self.groups.get_mut(group) {
            group.activities.push_front(activity.clone());
            group.activities.truncate(500);
        }
        activity
    }

    /// Ends an instance's activities that are still under way.
    fn end_activities(&mut self, group: &str, instance: &str) {
        if let Some(group) = self.groups.get_mut(group) {
            for activity in group.activities.iter_mut().filter(|a| a.instance == instance && a.end.is_none())
            {
                activity.end = Some(jiff::Timestamp::now().to_string());
                activity.status = "Successful";
            }
        }
    }
}

fn unknown_group() -> ApiError {
    ApiError::validation("AutoScalingGroup name not found - AutoScalingGroup not found")
}

fn activity_json(group: &str, a: &Activity) -> Value {
    json!({
        "ActivityId": a.id,
        "AutoScalingGroupName": group,
        "AutoScalingGroupARN": group_arn(group),
        "Description": a.description,
        "Cause": a.cause,
        "StartTime": a.start,
        "EndTime": a.end,
        "StatusCode": a.status,
        "StatusMessage": a.message,
        "Progress": if a.end.is_some() { 100 } else { 50 },
        "Details": "{}",
    })
}

/// A group's ARN; the id inside is made of its name, so that it is the same in every run.
pub fn group_arn(name: &str) -> String {
    use sha2::{Digest, Sha256};
    let h = hex::encode(Sha256::digest(name.as_bytes()));
    format!(
        "arn:aws:autoscaling:{REGION}:{ACCOUNT}:autoScalingGroup:{}-{}-{}-{}-{}:autoScalingGroupName/{name}",
        &h[..8],
        &h[8..12],
        &h[12..16],
        &h[16..20],
        &h[20..32]
    )
}

fn instance_json(i: &Instance, launch_configuration: &str) -> Value {
    json!({
        "InstanceId": i.id,
        "InstanceType": "t3.small",
        "AvailabilityZone": i.zone,
        "LifecycleState": i.state_name(),
        "HealthStatus": if i.healthy { "Healthy" } else { "Unhealthy" },
        "LaunchConfigurationName": launch_configuration,
        "ProtectedFromScaleIn": i.protected,
    })
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
