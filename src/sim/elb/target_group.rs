//! Target groups: their health checks, their attributes, and the states of their targets.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Instant;

use serde_json::json;

use crate::sim::audit::Events;
use crate::sim::wire::ApiError;

/// The state of a target in its target group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TargetState {
    /// The target is being registered, or was not checked yet.
    Initial,
    /// The target gets requests.
    Healthy,
    /// The target fails its checks.
    Unhealthy,
    /// No load balancer uses the target group.
    Unused,
    /// The target is being deregistered.
    Draining,
}

impl TargetState {
    /// Returns the name that AWS uses.
    pub fn name(self) -> &'static str {
        match self {
            Self::Initial => "initial",
            Self::Healthy => "healthy",
            Self::Unhealthy => "unhealthy",
            Self::Unused => "unused",
            Self::Draining => "draining",
        }
    }
}

/// A registered target.
#[derive(Debug)]
pub struct Target {
    /// Its state.
    pub state: TargetState,
    /// AWS's reason code; empty where there is none.
    pub reason: &'static str,
    /// AWS's description of the reason.
    pub description: String,
    /// Since when it has been healthy, for the slow start.
    pub(super) healthy_since: Option<Instant>,
    /// When its drain is over, if it drains.
    pub(super) drain_until: Option<Instant>,
    /// The number of checks passed in a row.
    pub(super) passes: u32,
    /// The number of checks failed in a row.
    pub(super) fails: u32,
    /// When it is checked next.
    pub(super) next_check: Instant,
    /// Whether a check is under way.
    pub(super) checking: bool,
}

impl Target {
    /// Moves the target of an instance to another state, with its reason and description, and writes the event.
    pub(super) fn move_to(
        &mut self,
        (state, reason, description): (TargetState, &'static str, &str),
        (group, instance): (&str, &str),
        events: &mut Events,
    ) {
        self.description = description.to_owned();
        if self.state == state && self.reason == reason {
            return;
        }
        let detail =
            json!({"target_group": group, "from": self.state.name(), "to": state.name(), "reason": reason});
        self.state = state;
        self.reason = reason;
        events.push(instance, "target-state", detail);
    }
}

/// How a target group checks its targets.
#[derive(Clone, Debug)]
pub struct HealthCheck {
    /// Path of the GET.
    pub path: String,
    /// Seconds between checks, 5–300.
    pub interval: i64,
    /// Seconds until a check has failed, 2–120.
    pub timeout: i64,
    /// Passes until an unhealthy target is healthy, 2–10.
    pub healthy_threshold: i64,
    /// Failures until a target is unhealthy, 2–10.
    pub unhealthy_threshold: i64,
    /// Statuses that pass, such as `200` or `200-299,301`.
    pub matcher: String,
}

/// A target group.
#[derive(Debug)]
pub struct TargetGroup {
    /// Its name.
    pub name: String,
    /// Its ARN.
    pub arn: String,
    /// The port that its targets get requests on.
    pub port: u16,
    /// Its health check.
    pub check: HealthCheck,
    /// Its attributes, as DescribeTargetGroupAttributes lists them.
    pub attributes: BTreeMap<String, String>,
    /// Its targets by instance and port.
    pub targets: BTreeMap<(String, u16), Target>,
    /// The ARN of the load balancer that uses it.
    pub load_balancer: Option<String>,
    /// Where its listener is served.
    pub address: Option<SocketAddr>,
    /// The number of requests taken.
    pub requests: u64,
    /// The number of requests that failed at the balancer: it answered by itself, or the target broke off.
    pub failures: u64,
    /// A counter by which requests go to the targets in turn.
    pub(super) turn: usize,
}

impl TargetGroup {
    /// Whether the group holds a target of this instance, on any port.
    pub(super) fn holds(&self, instance: &str) -> bool {
        let all_ports = (instance.to_owned(), 0)..=(instance.to_owned(), u16::MAX);
        self.targets.range(all_ports).next().is_some()
    }

    /// Returns an attribute that is a number of seconds; 0 if it is not there.
    pub(super) fn seconds(&self, attribute: &str) -> f64 {
        self.attributes.get(attribute).and_then(|v| v.parse().ok()).unwrap_or(0.0)
    }
}

/// Checks that an attribute's value is in AWS's range, for the attributes that have an effect here.
pub(super) fn check_attribute(key: &str, value: &str) -> Result<(), ApiError> {
    let range: (i64, i64) = match key {
        "deregistration_delay.timeout_seconds" => (0, 3600),
        "slow_start.duration_seconds" if value == "0" => (0, 0),
        "slow_start.duration_seconds" => (30, 900),
        _ => return Ok(()),
    };
    let ok = value.parse::<i64>().is_ok_and(|v| (range.0..=range.1).contains(&v));
    if ok {
        return Ok(());
    }
    Err(ApiError::validation(format!(
        "'{value}' is not a valid value for '{key}': it must be between {} and {}",
        range.0, range.1
    )))
}
