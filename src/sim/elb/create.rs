//! Creating target groups, load balancers and listeners, from the world description and through AWS's own calls.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, TcpListener};

use serde::Deserialize;
use serde_json::{Value, json};

use super::answers::{listener_json, load_balancer_json, target_group_json};
use super::resources::{Listener, LoadBalancer, resource_arn, target_group_not_found};
use super::target_group::{HealthCheck, TargetGroup, check_attribute};
use crate::sim::state::{Effect, State};
use crate::sim::wire::{Answer, ApiError, Params};

/// A health check in the world description.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct HealthCheckSpec {
    /// Path of the GET; `/` by default.
    pub path: String,
    /// Seconds between checks, 5–300; 30 by default.
    pub interval: i64,
    /// Seconds until a check has failed, 2–120; 5 by default.
    pub timeout: i64,
    /// Passes until an unhealthy target is healthy, 2–10; 5 by default.
    pub healthy_threshold: i64,
    /// Failures until a target is unhealthy, 2–10; 2 by default.
    pub unhealthy_threshold: i64,
    /// Statuses that pass; `200` by default.
    pub matcher: String,
}

impl Default for HealthCheckSpec {
    fn default() -> Self {
        Self {
            path: "/".to_owned(),
            interval: 30,
            timeout: 5,
            healthy_threshold: 5,
            unhealthy_threshold: 2,
            matcher: "200".to_owned(),
        }
    }
}

fn default_delay() -> i64 {
    300
}

/// A target group in the world description; a load balancer and a listener come with it.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TargetGroupSpec {
    /// Its name.
    pub name: String,
    /// The port of its targets.
    pub port: u16,
    /// Its health check.
    #[serde(default)]
    pub health_check: HealthCheckSpec,
    /// Seconds that a deregistered target drains, 0–3600; 300 by default.
    #[serde(default = "default_delay")]
    pub deregistration_delay: i64,
    /// Seconds in which a new target's share of the requests rises: 0 (at once, the default) or 30–900.
    #[serde(default)]
    pub slow_start: i64,
    /// The port that the balancer listens on, on loopback; 0 (the default) takes a free one.
    #[serde(default)]
    pub listener_port: u16,
}

/// Checks that a number is within AWS's range.
fn check_range(what: &str, value: i64, low: i64, high: i64) -> Result<(), ApiError> {
    if (low..=high).contains(&value) {
        return Ok(());
    }
    Err(ApiError::validation(format!("{what} '{value}' must be between {low} and {high}")))
}

impl State {
    /// Creates a target group without a load balancer and returns its ARN.
    pub fn create_target_group(&mut self, spec: &TargetGroupSpec) -> Result<String, ApiError> {
        let check = &spec.health_check;
        check_range("Health check interval", check.interval, 5, 300)?;
        check_range("Health check timeout", check.timeout, 2, 120)?;
        check_range("Healthy threshold count", check.healthy_threshold, 2, 10)?;
        check_range("Unhealthy threshold count", check.unhealthy_threshold, 2, 10)?;
        if check.timeout >= check.interval {
            let message = "Health check interval must be greater than the timeout.";
            return Err(ApiError::refused("InvalidConfigurationRequest", message));
        }
        let arn = resource_arn("targetgroup", &spec.name);
        if self.elb.target_groups.contains_key(&arn) {
            return Err(ApiError::refused(
                "DuplicateTargetGroupName",
                format!("A target group with the name '{}' already exists", spec.name),
            ));
        }
        let attributes: BTreeMap<String, String> = [
            ("deregistration_delay.timeout_seconds", spec.deregistration_delay.to_string()),
            ("slow_start.duration_seconds", spec.slow_start.to_string()),
            ("load_balancing.algorithm.type", "round_robin".to_owned()),
            ("load_balancing.cross_zone.enabled", "use_load_balancer_configuration".to_owned()),
            ("stickiness.enabled", "false".to_owned()),
            ("stickiness.type", "lb_cookie".to_owned()),
            ("stickiness.lb_cookie.duration_seconds", "86400".to_owned()),
            ("target_group_health.unhealthy_state_routing.minimum_healthy_targets.count", "1".to_owned()),
        ]
        .into_iter()
        .map(|(k, v)| (k.to_owned(), v))
        .collect();
        for (key, value) in &attributes {
            check_attribute(key, value)?;
        }
        let group = TargetGroup {
            name: spec.name.clone(),
            arn: arn.clone(),
            port: spec.port,
            check: HealthCheck {
                path: check.path.clone(),
                interval: check.interval,
                timeout: check.timeout,
                healthy_threshold: check.healthy_threshold,
                unhealthy_threshold: check.unhealthy_threshold,
                matcher: check.matcher.clone(),
            },
            attributes,
            targets: BTreeMap::new(),
            load_balancer: None,
            address: None,
            requests: 0,
            failures: 0,
            turn: 0,
        };
        self.elb.target_groups.insert(arn.clone(), group);
        Ok(arn)
    }

    /// Puts a listener on loopback in front of a target group and returns its description.
    pub fn serve_target_group(&mut self, arn: &str, balancer: &str, port: u16) -> Result<Value, ApiError> {
        let refused = |e: std::io::Error| {
            ApiError::refused(
                "DuplicateListener",
                format!("can't listen on 127.0.0.1:{port}: {e}; choose another port"),
            )
        };
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).map_err(refused)?;
        listener.set_nonblocking(true).map_err(refused)?;
        let address = listener.local_addr().map_err(refused)?;
        let group = self.elb.target_groups.get_mut(arn).ok_or_else(|| target_group_not_found(arn))?;
        if group.address.is_some() {
            return Err(ApiError::refused(
                "TargetGroupAssociationLimit",
                "the target group already has a listener",
            ));
        }
        group.address = Some(address);
        group.load_balancer = Some(balancer.to_owned());
        let listener_arn =
            format!("{}/{:016x}", balancer.replacen(":loadbalancer/", ":listener/", 1), address.port());
        let entry = Listener {
            arn: listener_arn,
            load_balancer: balancer.to_owned(),
            port: address.port(),
            target_group: arn.to_owned(),
        };
        let json = listener_json(&entry);
        self.elb.listeners.push(entry);
        let waiting: Vec<String> =
            self.elb.target_groups[arn].targets.keys().map(|(id, _)| id.clone()).collect();
        waiting.iter().for_each(|id| self.register(arn, id, None));
        self.effects.push(Effect::Listen { target_group: arn.to_owned(), listener });
        Ok(json)
    }

    /// Adds a load balancer and returns its ARN.
    pub fn add_load_balancer(&mut self, name: &str) -> Result<String, ApiError> {
        let arn = resource_arn("loadbalancer/app", name);
        if self.elb.load_balancers.iter().any(|l| l.arn == arn) {
            return Err(ApiError::refused(
                "DuplicateLoadBalancerName",
                format!("A load balancer with the name '{name}' already exists"),
            ));
        }
        let created = jiff::Timestamp::now().to_string();
        self.elb.load_balancers.push(LoadBalancer { name: name.to_owned(), arn: arn.clone(), created });
        Ok(arn)
    }

    pub(super) fn create_target_group_call(&mut self, p: Params<'_>) -> Answer {
        let defaults = HealthCheckSpec::default();
        if p.str("TargetType").is_some_and(|t| t != "instance") {
            return Err(ApiError::refused("UnsupportedTargetType", "only instance targets are simulated"));
        }
        let port = p.int_in("Port", 1..=65535)?.unwrap_or(80);
        let spec = TargetGroupSpec {
            name: p.need("Name")?.to_owned(),
            port: u16::try_from(port).unwrap_or(80),
            health_check: HealthCheckSpec {
                path: p.str("HealthCheckPath").unwrap_or(&defaults.path).to_owned(),
                interval: p.int("HealthCheckIntervalSeconds")?.unwrap_or(defaults.interval),
                timeout: p.int("HealthCheckTimeoutSeconds")?.unwrap_or(defaults.timeout),
                healthy_threshold: p.int("HealthyThresholdCount")?.unwrap_or(defaults.healthy_threshold),
                unhealthy_threshold: p
                    .int("UnhealthyThresholdCount")?
                    .unwrap_or(defaults.unhealthy_threshold),
                matcher: p
                    .get("Matcher")
                    .and_then(|m| m["HttpCode"].as_str())
                    .unwrap_or(&defaults.matcher)
                    .to_owned(),
            },
            deregistration_delay: default_delay(),
            slow_start: 0,
            listener_port: 0,
        };
        let arn = self.create_target_group(&spec)?;
        Ok(json!({"TargetGroups": [target_group_json(&self.elb.target_groups[&arn])]}))
    }

    pub(super) fn create_load_balancer(&mut self, p: Params<'_>) -> Answer {
        self.add_load_balancer(p.need("Name")?)?;
        let added: Vec<Value> = self.elb.load_balancers.last().map(load_balancer_json).into_iter().collect();
        Ok(json!({"LoadBalancers": added}))
    }

    /// Creates a listener. In the place of a port below 1024, which may be forbidden here, a free one is taken; the answer
    /// names it.
    pub(super) fn create_listener(&mut self, p: Params<'_>) -> Answer {
        let balancer = p.need("LoadBalancerArn")?;
        if !self.elb.load_balancers.iter().any(|l| l.arn == balancer) {
            return Err(ApiError::refused(
                "LoadBalancerNotFound",
                format!("Load balancer '{balancer}' not found"),
            ));
        }
        let port = p.int_in("Port", 0..=65535)?.and_then(|n| u16::try_from(n).ok());
        let port = port.filter(|n| *n >= 1024).unwrap_or(0);
        let actions = p.objects("DefaultActions");
        let group = actions.iter().find_map(|a| a.str("TargetGroupArn"));
        let Some(group) = group else {
            return Err(ApiError::validation(
                "A default action of type 'forward' with a target group is needed",
            ));
        };
        Ok(json!({"Listeners": [self.serve_target_group(group, balancer, port)?]}))
    }
}
