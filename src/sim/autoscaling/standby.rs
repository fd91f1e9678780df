//! The calls EnterStandby and ExitStandby, which move all the instances that they name or none, at most 20.

use serde_json::{Value, json};

use crate::sim::state::{Lifecycle, State};
use crate::sim::wire::{Answer, ApiError, Params};

/// The most instances that a call may name.
const MOST: usize = 20;

impl State {
    pub(super) fn enter_standby(&mut self, p: Params<'_>) -> Answer {
        let ids = self.members_in_state(p, Lifecycle::InService)?;
        let Some(decrement) = p.bool("ShouldDecrementDesiredCapacity") else {
            return Err(p.need("ShouldDecrementDesiredCapacity").unwrap_err());
        };
        let count = ids.len() as i64;
        let group = self.named_group(p)?;
        if decrement && group.desired - count < group.min {
            return Err(ApiError::validation(format!(
                "AutoScalingGroup {} has min-size={}, max-size={}, and desired-size={}. To place into standby {count} \
                 instance{}, please update the AutoScalingGroup sizes appropriately.",
                group.name,
                group.min,
                group.max,
                group.desired,
                if count == 1 { "" } else { "s" },
            )));
        }
        let (name, arns) = (group.name.clone(), group.target_groups.clone());
        let mut activities = Vec::new();
        for id in &ids {
            let from = self.groups[&name].desired;
            if decrement && let Some(group) = self.groups.get_mut(&name) {
                group.desired -= 1;
            }
            self.move_to(
                id,
                Lifecycle::EnteringStandby,
                "instance-entering-standby",
                json!({"decrement": decrement}),
            );
            for arn in &arns {
                self.deregister(arn, id, None);
            }
            let cause = if decrement {
                format!(
                    "instance {id} was moved to standby in response to a user request, shrinking the capacity from {from} to {}.",
                    from - 1
                )
            } else {
                format!("instance {id} was moved to standby in response to a user request.")
            };
            let activity =
                self.record_activity(&name, id, "Moving EC2 instance to Standby", &cause, "InProgress");
            activities.push(activity.json(&name));
        }
        Ok(json!({"Activities": activities}))
    }

    pub(super) fn exit_standby(&mut self, p: Params<'_>) -> Answer {
        let ids = self.members_in_state(p, Lifecycle::Standby)?;
        let group = self.named_group(p)?;
        let count = ids.len() as i64;
        if !group.runs("Launch") {
            return Err(ApiError::validation(format!(
                "You cannot exit standby on AutoScalingGroup {} because the Launch process is suspended.",
                group.name
            )));
        }
        if group.desired + count > group.max {
            return Err(ApiError::validation(format!(
                "AutoScalingGroup {} has min-size={}, max-size={}, and desired-size={}. To exit standby {count} \
                 instance{}, please update the AutoScalingGroup sizes appropriately.",
                group.name,
                group.min,
                group.max,
                group.desired,
                if count == 1 { "" } else { "s" },
            )));
        }
        let name = group.name.clone();
        let ready = self.clock.now() + self.clock.wait(1.0);
        let mut activities: Vec<Value> = Vec::new();
        for id in &ids {
            let from = self.groups[&name].desired;
            if let Some(group) = self.groups.get_mut(&name) {
                group.desired += 1;
            }
            self.move_to(id, Lifecycle::Pending, "instance-exiting-standby", json!({}));
            if let Some(instance) = self.instances.get_mut(id) {
                instance.ready_at = Some(ready);
            }
            let cause = format!(
                "instance {id} was moved out of standby in response to a user request, increasing the capacity from {from} to {}.",
                from + 1
            );
            let activity =
                self.record_activity(&name, id, "Moving EC2 instance out of Standby", &cause, "InProgress");
            activities.push(activity.json(&name));
        }
        Ok(json!({"Activities": activities}))
    }

    /// Returns the ids that a call names, if all of them are members in the lifecycle state `wanted`.
    fn members_in_state(&mut self, p: Params<'_>, wanted: Lifecycle) -> Result<Vec<String>, ApiError> {
        let group = self.named_group(p)?.name.clone();
        let ids = p.strings("InstanceIds");
        if ids.is_empty() {
            return Err(ApiError::validation("At least one instance ID must be specified."));
        }
        if ids.len() > MOST {
            return Err(ApiError::validation(format!(
                "1 validation error detected: Value '[{}]' at 'instanceIds' failed to satisfy constraint: at most {MOST} \
                 instances may be specified",
                ids.join(", ")
            )));
        }
        for (at, id) in ids.iter().enumerate() {
            if ids[..at].contains(id) {
                return Err(ApiError::validation(format!("The instance {id} is specified more than once.")));
            }
            match self.instances.get(id) {
                Some(i) if i.group == group && i.lifecycle == wanted && i.shown.is_none() => {}
                Some(i) if i.group == group && i.lifecycle != Lifecycle::Terminated => {
                    return Err(ApiError::validation(format!(
                        "The instance {id} is not in {}: it is in {}.",
                        wanted.name(),
                        i.state_name()
                    )));
                }
                _ => {
                    return Err(ApiError::validation(format!(
                        "The instance {id} is not part of Auto Scaling group {group}."
                    )));
                }
            }
        }
        Ok(ids)
    }
}
