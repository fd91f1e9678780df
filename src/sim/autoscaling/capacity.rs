//! What a group does by itself: launch, go into service, replace, scale in, even out its zones.

use serde_json::json;

use super::group::Group;
use crate::sim::elb::TargetState;
use crate::sim::state::{Effect, Instance, Lifecycle, State};

impl State {
    /// Moves instances on, replaces unhealthy ones, and brings the groups that are due to their desired capacity.
    pub fn tick_groups(&mut self) {
        let now = self.clock.now();
        let ids: Vec<String> = self
            .instances
            .values()
            .filter(|i| {
                !matches!(i.lifecycle, Lifecycle::InService | Lifecycle::Standby | Lifecycle::Terminated)
            })
            .map(|i| i.id.clone())
            .collect();
        ids.iter().for_each(|id| self.advance_instance(id));
        let due: Vec<String> =
            self.groups.values().filter(|g| g.next_look <= now).map(|g| g.name.clone()).collect();
        for name in due {
            self.check_health(&name);
            self.keep_capacity(&name);
            if let Some(group) = self.groups.get_mut(&name) {
                group.next_look = now + self.clock.wait(1.0);
            }
        }
        self.groups.retain(|name, g| {
            !g.deleting
                || self.instances.values().any(|i| i.group == *name && i.lifecycle != Lifecycle::Terminated)
        });
    }

    /// Moves an instance on from a lifecycle state that doesn't last.
    fn advance_instance(&mut self, id: &str) {
        let now = self.clock.now();
        let Some(instance) = self.instances.get(id) else { return };
        let group = instance.group.clone();
        let drained = !self.elb.holds(id);
        match instance.lifecycle {
            state if state.is_pending() && instance.dead => self.begin_terminating(id, "launch failed"),
            Lifecycle::PendingWait => self.time_out_actions(id),
            Lifecycle::Pending | Lifecycle::PendingProceed
                if instance.ready_at.is_some_and(|at| at <= now) =>
            {
                self.move_to(id, Lifecycle::InService, "instance-in-service", json!({"group": group}));
                if let Some(instance) = self.instances.get_mut(id) {
                    instance.ready_at = None;
                    instance.in_service_at = Some(now);
                    instance.healthy = true;
                    instance.ailing_since = None;
                }
                self.end_activities(&group, id);
                let attached = self.groups.get(&group).filter(|g| g.runs("AddToLoadBalancer"));
                let arns = attached.map(|g| g.target_groups.clone()).unwrap_or_default();
                arns.iter().for_each(|arn| self.register(arn, id, None));
            }
            Lifecycle::EnteringStandby if drained && now >= instance.since + self.clock.wait(0.5) => {
                self.move_to(id, Lifecycle::Standby, "instance-standby", json!({"group": group}));
                self.end_activities(&group, id);
            }
            Lifecycle::Terminating if drained && !instance.dead => {
                if let Some(instance) = self.instances.get_mut(id) {
                    instance.dead = true;
                }
                self.effects.push(Effect::Terminate(id.to_owned()));
            }
            Lifecycle::Terminating if drained && !instance.is_up() => {
                self.move_to(id, Lifecycle::Terminated, "instance-terminated", json!({"group": group}));
                self.end_activities(&group, id);
            }
            _ => {}
        }
    }

    /// Marks members that fail their checks as unhealthy, and takes unhealthy ones out.
    fn check_health(&mut self, name: &str) {
        let now = self.clock.now();
        let Some(group) = self.groups.get(name) else { return };
        let (checks, replaces) =
            (group.runs("HealthCheck"), group.runs("ReplaceUnhealthy") && group.runs("Terminate"));
        let (elb, grace) = (group.elb_health, self.clock.wait(group.grace as f64));
        let arns = group.target_groups.clone();
        let patience = self.clock.wait(5.0);
        let mut out = Vec::new();
        let ids: Vec<String> = self
            .instances
            .values()
            .filter(|i| i.group == name && i.lifecycle == Lifecycle::InService)
            .map(|i| i.id.clone())
            .collect();
        for id in ids {
            let states: Vec<Option<TargetState>> =
                arns.iter().map(|arn| self.elb.state_of(arn, &id)).collect();
            let Some(instance) = self.instances.get_mut(&id) else { continue };
            let past_grace = instance.in_service_at.is_some_and(|at| now >= at + grace);
            let by_balancer = elb
                && past_grace
                && states.iter().any(|s| {
                    !matches!(s, Some(TargetState::Healthy | TargetState::Initial | TargetState::Unused))
                });
            if checks && (instance.dead || by_balancer) {
                let since = *instance.ailing_since.get_or_insert(now);
                if now >= since + patience && instance.healthy {
                    instance.healthy = false;
                    let why = if instance.dead { "EC2 status" } else { "ELB system health check failure" };
                    self.events.push(&id, "instance-unhealthy", json!({"why": why}));
                }
            } else {
                instance.ailing_since = None;
            }
            if !instance.healthy && replaces {
                out.push(id);
            }
        }
        for id in out {
            let broke = self.instances.get(&id).is_some_and(|instance| instance.dead);
            self.begin_terminating(&id, "unhealthy");
            let cause = match broke {
                true => "an EC2 health check indicating it has been terminated or stopped.",
                false => "an ELB system health check failure.",
            };
            let cause = format!("an instance was taken out of service in response to {cause}");
            self.record_activity(name, &id, "Terminating EC2 instance", &cause, "InProgress");
        }
    }

    /// Launches the instances that are missing and takes out those beyond the desired capacity.
    fn keep_capacity(&mut self, name: &str) {
        let now = self.clock.now();
        let counts = self.count_by_zone(name);
        let active: i64 = counts.iter().map(|(_, n)| n).sum();
        let Some(group) = self.groups.get_mut(name) else { return };
        let wanted = if group.deleting { 0 } else { group.desired };
        let (most, least) = (counts.iter().map(|c| c.1).max(), counts.iter().map(|c| c.1).min());
        let uneven = most.unwrap_or(0) - least.unwrap_or(0) >= 2;
        if !uneven || active != wanted {
            group.uneven_since = None;
        } else if group.uneven_since.is_none() {
            group.uneven_since = Some(now);
        }
        let evening = group.runs("AZRebalance") && group.runs("Launch") && group.runs("Terminate");
        let due = group.uneven_since.is_some_and(|since| now >= since + self.clock.wait(15.0));
        let newcomer = group.rebalancing.clone();
        let newcomer_pending = newcomer.as_ref().and_then(|id| self.instances.get(id)).is_some_and(|i| {
            i.lifecycle.is_pending()
                || (i.lifecycle == Lifecycle::InService
                    && i.in_service_at.is_some_and(|at| now < at + self.clock.wait(10.0)))
        });
        if active < wanted && group.runs("Launch") {
            for _ in active..wanted {
                self.launch_one(name, "an instance was started in response to a difference between desired and actual capacity.");
            }
        } else if active == wanted && evening && due && newcomer.is_none() {
            let id = self.launch_one(name, "an instance was launched to even out the availability zones.");
            if let Some(group) = self.groups.get_mut(name) {
                group.rebalancing = id;
                group.uneven_since = None;
            }
        } else if active > wanted && group.runs("Terminate") && !newcomer_pending {
            group.rebalancing = None;
            for _ in wanted..active {
                self.scale_in_one(name);
            }
        } else if !newcomer_pending {
            group.rebalancing = None;
        }
    }

    /// Counts the active instances in each of a group's zones.
    fn count_by_zone(&self, name: &str) -> Vec<(String, i64)> {
        let zones = self.groups.get(name).map(|g| g.zones.clone()).unwrap_or_default();
        let mut counts: Vec<(String, i64)> = zones.into_iter().map(|zone| (zone, 0)).collect();
        for instance in self.instances.values().filter(|i| i.group == name && i.lifecycle.is_active()) {
            if let Some((_, count)) = counts.iter_mut().find(|(zone, _)| *zone == instance.zone) {
                *count += 1;
            }
        }
        counts
    }

    /// Launches one instance in the emptiest zone and returns its id.
    fn launch_one(&mut self, name: &str, cause: &str) -> Option<String> {
        let (zone, _) = self.count_by_zone(name).into_iter().min_by_key(|(_, count)| *count)?;
        let id = format!("i-0{}", self.random_hex(16));
        let now = self.clock.now();
        let protected = self.groups.get(name).is_some_and(|g: &Group| g.protect_new);
        let instance = Instance::pending(id.clone(), name, zone, protected, now);
        self.instances.insert(id.clone(), instance);
        self.record_activity(name, &id, "Launching a new EC2 instance", cause, "InProgress");
        self.effects.push(Effect::Launch(id.clone()));
        Some(id)
    }

    /// Takes out the oldest unprotected instance of the fullest zone.
    fn scale_in_one(&mut self, name: &str) {
        let deleting = self.groups.get(name).is_some_and(|g| g.deleting);
        let counts = self.count_by_zone(name);
        let count = |zone: &str| counts.iter().find(|(z, _)| z == zone).map_or(0, |(_, n)| *n);
        let victim = self
            .instances
            .values()
            .filter(|i| i.group == name && (deleting || !i.protected))
            .filter(|i| {
                i.lifecycle == Lifecycle::InService || (deleting && i.lifecycle.is_pending() && i.is_up())
            })
            .max_by_key(|i| (count(&i.zone), std::cmp::Reverse(i.in_service_at)))
            .map(|i| i.id.clone());
        if let Some(id) = victim {
            self.begin_terminating(&id, "scale-in");
            let cause = "an instance was taken out of service in response to a difference between desired and actual capacity.";
            self.record_activity(name, &id, "Terminating EC2 instance", cause, "InProgress");
        }
    }
}
