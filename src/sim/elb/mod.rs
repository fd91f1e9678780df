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
    /// Whether it holds a target of this instance, on any port.
    fn holds(&self, instance: &str) -> bool {
        let all_ports = (instance.to_owned(), 0)..=(instance.to_owned(), u16::MAX);
        self.targets.range(all_ports).next().is_some()
    }

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
        self.target_groups.values().any(|g| g.holds(instance))
    }

    /// The target groups that hold a target of this instance.
    pub fn groups_of(&self, instance: &str) -> Vec<String> {
        self.target_groups.values().filter(|g| g.holds(instance)).map(|g| g.arn.clone()).collect()
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sim::state::{Effect, Lifecycle};
    use crate::sim::world::World;
    use serde_json::json;

    /// Two registered instances of a group behind a balancer, nothing running.
    fn cloud() -> (State, String, Vec<String>) {
        let mut state = State::new(1000.0, 7);
        let check = json!({"path": "/", "interval": 5, "timeout": 2, "healthy_threshold": 3, "unhealthy_threshold": 2});
        let world: World = serde_json::from_value(json!({
            "target_groups": [{"name": "web", "port": 80, "health_check": check, "deregistration_delay": 5}],
            "groups": [{"name": "web", "min": 2, "target_groups": ["web"]}],
        }))
        .unwrap();
        state.create_world(world).unwrap();
        let arn = state.elb.arn_of("web").unwrap();
        let ids = state.members("web");
        for id in &ids {
            state.instances.get_mut(id).unwrap().lifecycle = Lifecycle::InService;
            state.register(&arn, id, None);
        }
        (state, arn, ids)
    }

    fn probe(arn: &str, id: &str) -> Probe {
        let (target_group, instance) = (arn.to_owned(), id.to_owned());
        Probe { target_group, instance, port: 80, path: "/".to_owned(), timeout: Duration::from_secs(1) }
    }

    fn health(state: &mut State, arn: &str, id: &str) -> (String, String) {
        let asked = json!({"TargetGroupArn": arn, "Targets": [{"Id": id}]});
        let answer = state.elasticloadbalancing("DescribeTargetHealth", &asked).unwrap();
        let health = &answer["TargetHealthDescriptions"][0]["TargetHealth"];
        let text = |key: &str| health[key].as_str().unwrap_or_default().to_owned();
        (text("State"), text("Reason"))
    }

    #[test]
    fn a_new_target_is_healthy_after_one_pass_and_recovers_after_the_threshold() {
        let (mut state, arn, ids) = cloud();
        let probe = probe(&arn, &ids[0]);
        assert_eq!(
            health(&mut state, &arn, &ids[0]),
            ("initial".into(), "Elb.RegistrationInProgress".into())
        );
        state.checked(&probe, &Found::Status(200));
        assert_eq!(health(&mut state, &arn, &ids[0]), ("healthy".into(), String::new()));
        state.checked(&probe, &Found::Status(500));
        assert_eq!(health(&mut state, &arn, &ids[0]).0, "healthy");
        state.checked(&probe, &Found::Status(500));
        assert_eq!(
            health(&mut state, &arn, &ids[0]),
            ("unhealthy".into(), "Target.ResponseCodeMismatch".into())
        );
        for _ in 0..2 {
            state.checked(&probe, &Found::Status(200));
            assert_eq!(health(&mut state, &arn, &ids[0]).0, "unhealthy");
        }
        state.checked(&probe, &Found::Status(200));
        assert_eq!(health(&mut state, &arn, &ids[0]).0, "healthy");
        state.checked(&probe, &Found::Nothing);
        state.checked(&probe, &Found::Nothing);
        assert_eq!(health(&mut state, &arn, &ids[0]).1, "Target.Timeout");
    }

    #[test]
    fn a_draining_target_gets_no_request_and_goes_when_the_delay_is_over() {
        let (mut state, arn, ids) = cloud();
        for id in &ids {
            state.checked(&probe(&arn, id), &Found::Status(200));
        }
        let params = json!({"TargetGroupArn": arn, "Targets": [{"Id": ids[0]}]});
        state.elasticloadbalancing("DeregisterTargets", &params).unwrap();
        assert_eq!(
            health(&mut state, &arn, &ids[0]),
            ("draining".into(), "Target.DeregistrationInProgress".into())
        );
        for _ in 0..5 {
            assert_eq!(state.pick_target(&arn).unwrap().0, ids[1]);
        }
        state.elasticloadbalancing("RegisterTargets", &params).unwrap();
        assert_eq!(health(&mut state, &arn, &ids[0]).0, "healthy");
        state.elasticloadbalancing("DeregisterTargets", &params).unwrap();
        let deadline = Instant::now() + Duration::from_secs(5);
        while state.elb.holds(&ids[0]) && Instant::now() < deadline {
            state.tick_targets();
        }
        assert_eq!(health(&mut state, &arn, &ids[0]), ("unused".into(), "Target.NotRegistered".into()));
        assert!(
            state
                .effects
                .iter()
                .any(|e| matches!(e, Effect::CloseTarget { instance, .. } if *instance == ids[0]))
        );
    }

    #[test]
    fn where_none_is_healthy_the_balancer_fails_open() {
        let (mut state, arn, ids) = cloud();
        let picked: Vec<String> = (0..4).filter_map(|_| state.pick_target(&arn)).map(|(id, _)| id).collect();
        assert!(ids.iter().all(|id| picked.contains(id)));
        state.checked(&probe(&arn, &ids[1]), &Found::Status(200));
        assert_eq!(state.pick_target(&arn).unwrap().0, ids[1]);
    }

    #[test]
    fn ranges_and_unknown_targets_are_refused() {
        let (mut state, arn, _) = cloud();
        let modify = json!({"TargetGroupArn": arn, "Attributes": [{"Key": "deregistration_delay.timeout_seconds", "Value": "3601"}]});
        assert_eq!(
            state.elasticloadbalancing("ModifyTargetGroupAttributes", &modify).unwrap_err().code,
            "ValidationError"
        );
        let register = json!({"TargetGroupArn": arn, "Targets": [{"Id": "i-0"}]});
        assert_eq!(
            state.elasticloadbalancing("RegisterTargets", &register).unwrap_err().code,
            "InvalidTarget"
        );
        let unknown = json!({"TargetGroupArn": "arn:x"});
        assert_eq!(
            state.elasticloadbalancing("DescribeTargetHealth", &unknown).unwrap_err().code,
            "TargetGroupNotFound"
        );
        let fast = json!({"Name": "fast", "HealthCheckIntervalSeconds": "1"});
        assert!(state.elasticloadbalancing("CreateTargetGroup", &fast).is_err());
    }
}
