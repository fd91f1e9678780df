//! Elastic Load Balancing v2: target groups with their targets' states, load balancers, listeners.

mod create;
mod describe;
mod health;
mod targets;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use serde_json::Value;
use sha2::{Digest, Sha256};

use super::state::{ACCOUNT, REGION, State};
use super::wire::{Answer, ApiError, Params};

pub use create::TargetGroupSpec;

/// XML namespace of the service's answers.
pub const NAMESPACE: &str = "http://elasticloadbalancing.amazonaws.com/doc/2015-12-01/";

/// What a target is to its target group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TargetState {
    /// Being registered, or not checked yet.
    Initial,
    /// Gets requests.
    Healthy,
    /// Fails its checks.
    Unhealthy,
    /// No load balancer uses the target group.
    Unused,
    /// Being deregistered.
    Draining,
}

impl TargetState {
    /// The name that AWS uses.
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
    /// AWS's words for it.
    pub description: String,
    healthy_since: Option<Instant>,
    drain_until: Option<Instant>,
    passes: u32,
    fails: u32,
    next_check: Instant,
    checking: bool,
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
    /// Requests taken.
    pub requests: u64,
    /// 5xx answers that the balancer made itself.
    pub failures: u64,
    turn: usize,
}

impl TargetGroup {
    fn seconds(&self, attribute: &str) -> f64 {
        self.attributes.get(attribute).and_then(|v| v.parse().ok()).unwrap_or(0.0)
    }
}

/// A load balancer.
#[derive(Debug)]
pub struct LoadBalancer {
    /// Its name.
    pub name: String,
    /// Its ARN.
    pub arn: String,
    created: String,
}

/// A listener.
#[derive(Debug)]
pub struct Listener {
    arn: String,
    load_balancer: String,
    port: u16,
    target_group: String,
}

/// A health check to be made.
#[derive(Clone, Debug)]
pub struct Probe {
    /// ARN of the target group.
    pub target_group: String,
    /// The instance.
    pub instance: String,
    /// The port.
    pub port: u16,
    /// The path.
    pub path: String,
    /// How long it may take here.
    pub timeout: Duration,
}

/// What a health check found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    /// An answer with this status.
    Status(u16),
    /// No answer in time.
    Nothing,
    /// No connection, or a broken answer.
    Broken,
}

/// All of the service's resources.
#[derive(Debug, Default)]
pub struct LoadBalancing {
    /// Target groups by ARN.
    pub target_groups: BTreeMap<String, TargetGroup>,
    /// Load balancers.
    pub load_balancers: Vec<LoadBalancer>,
    /// Listeners.
    pub listeners: Vec<Listener>,
}

impl LoadBalancing {
    /// Whether any target group holds a target of this instance, draining ones included.
    pub fn holds(&self, instance: &str) -> bool {
        self.target_groups.values().any(|g| g.targets.keys().any(|(id, _)| id == instance))
    }

    /// The target groups that hold a target of this instance.
    pub fn groups_of(&self, instance: &str) -> Vec<String> {
        self.target_groups
            .values()
            .filter(|g| g.targets.keys().any(|(id, _)| id == instance))
            .map(|g| g.arn.clone())
            .collect()
    }

    /// A target's state on the group's own port.
    pub fn state_of(&self, arn: &str, instance: &str) -> Option<TargetState> {
        let group = self.target_groups.get(arn)?;
        group.targets.get(&(instance.to_owned(), group.port)).map(|t| t.state)
    }

    /// The ARN of a target group given by name or ARN.
    pub fn arn_of(&self, name_or_arn: &str) -> Option<String> {
        self.target_groups
            .values()
            .find(|g| g.arn == name_or_arn || g.name == name_or_arn)
            .map(|g| g.arn.clone())
    }
}

/// An ARN whose last part is made of the name, so that it is the same in every run.
fn arn(kind: &str, name: &str) -> String {
    let h = hex::encode(Sha256::digest(format!("{kind}/{name}").as_bytes()));
    format!("arn:aws:elasticloadbalancing:{REGION}:{ACCOUNT}:{kind}/{name}/{}", &h[..16])
}

impl State {
    /// Answers a call of the ELBv2 API.
    pub fn elasticloadbalancing(&mut self, action: &str, params: &Value) -> Answer {
        let p = Params::new(params, "ValidationError");
        match action {
            "DescribeTargetGroups" => self.describe_target_groups(p),
            "DescribeTargetGroupAttributes" => self.describe_target_group_attributes(p),
            "ModifyTargetGroupAttributes" => self.modify_target_group_attributes(p),
            "DescribeTargetHealth" => self.describe_target_health(p),
            "RegisterTargets" => self.register_targets(p),
            "DeregisterTargets" => self.deregister_targets(p),
            "DescribeLoadBalancers" => self.describe_load_balancers(p),
            "DescribeListeners" => self.describe_listeners(p),
            "CreateTargetGroup" => self.create_target_group_call(p),
            "CreateLoadBalancer" => self.create_load_balancer(p),
            "CreateListener" => self.create_listener(p),
            _ => Err(ApiError::refused(
                "InvalidAction",
                format!("Could not find operation {action} for version 2015-12-01"),
            )),
        }
    }

    /// The target group that `TargetGroupArn` names.
    fn target_group(&mut self, p: Params<'_>) -> Result<&mut TargetGroup, ApiError> {
        let arn = p.need("TargetGroupArn")?;
        if !arn.starts_with("arn:") {
            return Err(ApiError::validation(format!("'{arn}' is not a valid target group ARN")));
        }
        self.elb.target_groups.get_mut(arn).ok_or_else(|| missing_target_group(arn))
    }
}

fn missing_target_group(arn: &str) -> ApiError {
    ApiError::refused("TargetGroupNotFound", format!("Target groups '{arn}' not found"))
}
