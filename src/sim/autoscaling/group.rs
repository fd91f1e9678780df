//! An Auto Scaling group and what belongs to it.

use std::collections::{BTreeMap, VecDeque};
use std::time::Instant;

use super::activity::Activity;
use super::hook::Hook;
use super::refresh::Refresh;
use super::warm_pool::WarmPool;
use crate::sim::paper::Pattern;
use crate::sim::wire::ApiError;

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

/// What CreateLaunchConfiguration stores.
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
    /// Whether new instances are given the tag.
    pub propagate: bool,
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
    /// Whether the balancer's health checks count (health check type `ELB`).
    pub elb_health: bool,
    /// Health check grace period, seconds.
    pub grace: i64,
    /// The script that a new instance runs once.
    pub user_data: Option<String>,
    /// How attempts on its instances go, if they are paper instances.
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
    /// Whether new instances are protected from scale-in.
    pub protect_new: bool,
    /// History, newest first.
    pub activities: VecDeque<Activity>,
    /// When its health and capacity are looked at next.
    pub next_look: Instant,
    /// Since when its instances have been spread unevenly over the zones.
    pub uneven_since: Option<Instant>,
    /// The instance launched to even the zones out.
    pub rebalancing: Option<String>,
    /// Whether DeleteAutoScalingGroup was called.
    pub deleting: bool,
}

impl Group {
    /// Whether a process runs, that is, isn't suspended.
    pub fn runs(&self, process: &str) -> bool {
        !self.suspended.iter().any(|p| p == process)
    }

    /// Refuses what can't be done during an instance refresh.
    pub(super) fn ensure_not_refreshing(&self) -> Result<(), ApiError> {
        if !self.refreshes.iter().any(Refresh::is_under_way) {
            return Ok(());
        }
        Err(ApiError::refused(
            "InstanceRefreshInProgress",
            "An Instance Refresh is already in progress and blocks the execution of this Instance Refresh.",
        ))
    }
}

/// Makes the error that there is no such group.
pub(super) fn group_not_found() -> ApiError {
    ApiError::validation("AutoScalingGroup name not found - AutoScalingGroup not found")
}
