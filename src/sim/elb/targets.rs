//! Registering, deregistering and draining targets, and the choice of the target that gets the next request.

use rand::Rng;
use serde_json::json;

use super::resources::target_group_not_found;
use super::target_group::{Target, TargetGroup, TargetState};
use crate::sim::state::{Effect, Lifecycle, State};
use crate::sim::wire::{Answer, ApiError, Params};

impl State {
    /// Registers an instance as a target; one that drains goes straight back to healthy.
    pub fn register(&mut self, arn: &str, instance: &str, port: Option<u16>) {
        let now = self.clock.now();
        let first_check = now + self.clock.wait(1.0);
        let Some(group) = self.elb.target_groups.get_mut(arn) else { return };
        let in_use = group.load_balancer.is_some();
        let port = port.unwrap_or(group.port);
        let key = (instance.to_owned(), port);
        let name = group.name.clone();
        let start = if in_use {
            (TargetState::Initial, "Elb.RegistrationInProgress", "Target registration is in progress")
        } else {
            (
                TargetState::Unused,
                "Target.NotInUse",
                "Target group is not configured to receive traffic from the load balancer",
            )
        };
        match group.targets.get_mut(&key) {
            Some(target) if target.state == TargetState::Draining => {
                target.drain_until = None;
                target.next_check = first_check;
                target.healthy_since = Some(now);
                target.move_to((TargetState::Healthy, "", ""), (&name, instance), &mut self.events);
            }
            Some(target) if target.state == TargetState::Unused && in_use => {
                target.next_check = first_check;
                target.move_to(start, (&name, instance), &mut self.events);
            }
            Some(_) => {}
            None => {
                let (state, reason, description) = start;
                let target = Target {
                    state,
                    reason,
                    description: description.to_owned(),
                    healthy_since: None,
                    drain_until: None,
                    passes: 0,
                    fails: 0,
                    next_check: first_check,
                    checking: false,
                };
                group.targets.insert(key, target);
                let detail = json!({"target_group": name, "from": "", "to": state.name(), "reason": reason});
                self.events.push(instance, "target-state", detail);
            }
        }
    }

    /// Starts draining an instance's targets (all its ports, or one).
    pub fn deregister(&mut self, arn: &str, instance: &str, port: Option<u16>) {
        let now = self.clock.now();
        let Some(group) = self.elb.target_groups.get_mut(arn) else { return };
        let until = now + self.clock.wait(group.seconds("deregistration_delay.timeout_seconds"));
        let name = group.name.clone();
        for ((id, at), target) in &mut group.targets {
            if id != instance || port.is_some_and(|p| p != *at) || target.state == TargetState::Draining {
                continue;
            }
            target.drain_until = Some(if target.state == TargetState::Unused { now } else { until });
            let to = (
                TargetState::Draining,
                "Target.DeregistrationInProgress",
                "Target deregistration is in progress",
            );
            target.move_to(to, (&name, instance), &mut self.events);
        }
    }

    /// Ends the drains that are over and orders the health checks that are due.
    pub fn tick_targets(&mut self) {
        let now = self.clock.now();
        for group in self.elb.target_groups.values_mut() {
            let over: Vec<(String, u16)> = group
                .targets
                .iter()
                .filter(|(_, t)| t.drain_until.is_some_and(|until| until <= now))
                .map(|(key, _)| key.clone())
                .collect();
            for key in over {
                group.targets.remove(&key);
                let detail = json!({
                    "target_group": group.name, "from": "draining", "to": "unused", "reason": "Target.NotRegistered",
                });
                self.events.push(&key.0, "target-state", detail);
                self.effects.push(Effect::CloseTarget { target_group: group.arn.clone(), instance: key.0 });
            }
        }
        self.order_checks();
    }

    /// Returns the instance and port that the next request goes to: in turn among the healthy targets, or, where none is
    /// healthy, among all that don't drain (the balancer fails open).
    pub fn pick_target(&mut self, arn: &str) -> Option<(String, u16)> {
        let now = self.clock.now();
        let group = self.elb.target_groups.get_mut(arn)?;
        let slow = self.clock.wait(group.seconds("slow_start.duration_seconds")).as_secs_f64();
        let choose = |group: &TargetGroup, states: &[TargetState]| -> Vec<((String, u16), f64)> {
            let weight = |t: &Target| match t.healthy_since {
                Some(since) if slow > 0.0 => ((now - since).as_secs_f64() / slow).clamp(0.05, 1.0),
                _ => 1.0,
            };
            let fits = group.targets.iter().filter(|(_, t)| states.contains(&t.state));
            fits.map(|(key, t)| (key.clone(), weight(t))).collect()
        };
        let mut candidates = choose(group, &[TargetState::Healthy]);
        if candidates.is_empty() {
            candidates = choose(group, &[TargetState::Unhealthy, TargetState::Initial]);
        }
        let count = candidates.len();
        for step in 0..count {
            group.turn = group.turn.wrapping_add(1);
            let (key, weight) = &candidates[group.turn % count];
            if *weight >= 1.0 || step + 1 == count || self.rng.random_bool(*weight) {
                return Some(key.clone());
            }
        }
        None
    }

    pub(super) fn register_targets(&mut self, p: Params<'_>) -> Answer {
        let targets = named_targets(p)?;
        let arn = self.elb.named_target_group(p)?.arn.clone();
        let unfit: Vec<&str> = targets
            .iter()
            .map(|(id, _)| id.as_str())
            .filter(|id| {
                self.instances.get(*id).is_none_or(|i| {
                    i.dead || matches!(i.lifecycle, Lifecycle::Terminating | Lifecycle::Terminated)
                })
            })
            .collect();
        if !unfit.is_empty() {
            return Err(ApiError::refused(
                "InvalidTarget",
                format!(
                    "The following targets are not in a running state and cannot be registered: '{}'",
                    unfit.join("', '")
                ),
            ));
        }
        for (id, port) in &targets {
            self.register(&arn, id, *port);
        }
        Ok(json!({}))
    }

    /// Deregisters the targets that a call names; an id that isn't registered is passed over, as AWS does.
    pub(super) fn deregister_targets(&mut self, p: Params<'_>) -> Answer {
        let targets = named_targets(p)?;
        let arn = self.elb.named_target_group(p)?.arn.clone();
        if !self.elb.target_groups.contains_key(&arn) {
            return Err(target_group_not_found(&arn));
        }
        for (id, port) in &targets {
            self.deregister(&arn, id, *port);
        }
        Ok(json!({}))
    }
}

/// Reads the instances and ports that a call names as targets.
fn named_targets(p: Params<'_>) -> Result<Vec<(String, Option<u16>)>, ApiError> {
    let targets = p.objects("Targets");
    if targets.is_empty() {
        return Err(ApiError::validation("At least one target must be specified"));
    }
    targets
        .iter()
        .map(|t| {
            let port = t.int_in("Port", 1..=65535)?.and_then(|n| u16::try_from(n).ok());
            Ok((t.need("Id")?.to_owned(), port))
        })
        .collect()
}
