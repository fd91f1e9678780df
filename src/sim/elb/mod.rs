//! Elastic Load Balancing v2: target groups with their targets' states, load balancers, listeners.
//!
//! `target_group`, `resources` and `probe` define what there is and don't import the state; the others implement calls and
//! the passing of time on it.

mod answers;
mod create;
mod describe;
mod health;
mod probe;
mod resources;
mod target_group;
mod targets;

use serde_json::Value;

use super::state::State;
use super::wire::{Answer, ApiError, Params};

pub use create::TargetGroupSpec;
pub use probe::{Found, Probe};
pub use resources::{Listener, LoadBalancer, LoadBalancing};
pub use target_group::{HealthCheck, Target, TargetGroup, TargetState};

/// XML namespace of the service's answers.
pub const NAMESPACE: &str = "http://elasticloadbalancing.amazonaws.com/doc/2015-12-01/";

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
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sim::state::{Effect, Lifecycle};
    use crate::sim::world::World;
    use serde_json::json;
    use std::time::{Duration, Instant};

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
        state.record_check(&probe, &Found::Status(200));
        assert_eq!(health(&mut state, &arn, &ids[0]), ("healthy".into(), String::new()));
        state.record_check(&probe, &Found::Status(500));
        assert_eq!(health(&mut state, &arn, &ids[0]).0, "healthy");
        state.record_check(&probe, &Found::Status(500));
        assert_eq!(
            health(&mut state, &arn, &ids[0]),
            ("unhealthy".into(), "Target.ResponseCodeMismatch".into())
        );
        for _ in 0..2 {
            state.record_check(&probe, &Found::Status(200));
            assert_eq!(health(&mut state, &arn, &ids[0]).0, "unhealthy");
        }
        state.record_check(&probe, &Found::Status(200));
        assert_eq!(health(&mut state, &arn, &ids[0]).0, "healthy");
        state.record_check(&probe, &Found::Nothing);
        state.record_check(&probe, &Found::Nothing);
        assert_eq!(health(&mut state, &arn, &ids[0]).1, "Target.Timeout");
    }

    #[test]
    fn a_draining_target_gets_no_request_and_goes_when_the_delay_is_over() {
        let (mut state, arn, ids) = cloud();
        for id in &ids {
            state.record_check(&probe(&arn, id), &Found::Status(200));
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
        state.record_check(&probe(&arn, &ids[1]), &Found::Status(200));
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
