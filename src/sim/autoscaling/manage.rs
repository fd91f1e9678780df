//! Calls that change groups and instances: sizes, suspended processes, health, protection, tags, termination.

use serde_json::json;

use super::group::{PROCESSES, Tag};
use crate::sim::state::{Lifecycle, State};
use crate::sim::wire::{Answer, ApiError, Params};

impl State {
    pub(super) fn suspend_processes(&mut self, p: Params<'_>, suspend: bool) -> Answer {
        let mut wanted = p.strings("ScalingProcesses");
        if let Some(unknown) = wanted.iter().find(|w| !PROCESSES.contains(&w.as_str())) {
            return Err(ApiError::validation(format!("Process '{unknown}' is not a valid process type.")));
        }
        if wanted.is_empty() {
            wanted = PROCESSES.iter().map(|p| (*p).to_owned()).collect();
        }
        let group = self.named_group(p)?;
        group.suspended.retain(|s| !wanted.contains(s));
        if suspend {
            group.suspended.extend(wanted);
        }
        Ok(json!({}))
    }

    pub(super) fn update_group(&mut self, p: Params<'_>) -> Answer {
        let (min, max) = (p.int("MinSize")?, p.int("MaxSize")?);
        let (desired, grace) = (p.int("DesiredCapacity")?, p.int("HealthCheckGracePeriod")?);
        let known = p.strings("AvailabilityZones");
        let group = self.named_group(p)?;
        let (min, max) = (min.unwrap_or(group.min), max.unwrap_or(group.max));
        if min < 0 || max < min {
            return Err(ApiError::validation(format!(
                "Max bound, {max}, must be greater than or equal to min bound, {min}"
            )));
        }
        if let Some(d) = desired
            && !(min..=max).contains(&d)
        {
            return Err(ApiError::validation(format!(
                "Desired capacity:{d} must be between the specified min size:{min} and max size:{max}"
            )));
        }
        (group.min, group.max) = (min, max);
        group.desired = desired.unwrap_or(group.desired).clamp(min, max);
        group.grace = grace.unwrap_or(group.grace);
        if !known.is_empty() {
            group.zones = known;
        }
        if let Some(kind) = p.str("HealthCheckType") {
            group.elb_health = kind.contains("ELB");
        }
        if let Some(protect) = p.bool("NewInstancesProtectedFromScaleIn") {
            group.protect_new = protect;
        }
        Ok(json!({}))
    }

    pub(super) fn set_desired_capacity(&mut self, p: Params<'_>) -> Answer {
        let wanted = p.int("DesiredCapacity")?;
        let group = self.named_group(p)?;
        let Some(wanted) = wanted else { return Err(p.need("DesiredCapacity").unwrap_err()) };
        if wanted < group.min {
            return Err(ApiError::validation(format!(
                "New SetDesiredCapacity value {wanted} is below min value {} for the AutoScalingGroup.",
                group.min
            )));
        }
        if wanted > group.max {
            return Err(ApiError::validation(format!(
                "New SetDesiredCapacity value {wanted} is above max value {} for the AutoScalingGroup.",
                group.max
            )));
        }
        group.desired = wanted;
        Ok(json!({}))
    }

    pub(super) fn set_instance_health(&mut self, p: Params<'_>) -> Answer {
        let id = self.named_member(p)?;
        let healthy = match p.need("HealthStatus")? {
            "Healthy" => true,
            "Unhealthy" => false,
            other => {
                return Err(ApiError::validation(format!("Value '{other}' at 'healthStatus' is not valid")));
            }
        };
        if let Some(instance) = self.instances.get_mut(&id) {
            instance.healthy = healthy;
        }
        Ok(json!({}))
    }

    pub(super) fn set_instance_protection(&mut self, p: Params<'_>) -> Answer {
        let group = self.named_group(p)?.name.clone();
        let ids = p.strings("InstanceIds");
        let protect = p.bool("ProtectedFromScaleIn").unwrap_or_default();
        if ids.len() > 50 {
            return Err(ApiError::validation("at most 50 instance ids may be specified"));
        }
        for id in &ids {
            if self.instances.get(id).is_none_or(|i| i.group != group || i.lifecycle != Lifecycle::InService)
            {
                return Err(ApiError::validation(format!("The instance {id} is not in InService.")));
            }
        }
        for id in &ids {
            if let Some(instance) = self.instances.get_mut(id) {
                instance.protected = protect;
            }
        }
        Ok(json!({}))
    }

    pub(super) fn terminate_instance(&mut self, p: Params<'_>) -> Answer {
        let id = self.named_member(p)?;
        let Some(decrement) = p.bool("ShouldDecrementDesiredCapacity") else {
            return Err(p.need("ShouldDecrementDesiredCapacity").unwrap_err());
        };
        let name = self.instances[&id].group.clone();
        let counted = self.instances[&id].lifecycle.is_active();
        if let Some(group) = self.groups.get_mut(&name)
            && decrement
            && counted
        {
            if group.desired - 1 < group.min {
                return Err(ApiError::validation(
                    "Currently, desiredSize equals minSize. Terminating instance without replacement will violate \
                     group's min size constraint. Either set shouldDecrementDesiredCapacity flag to false or lower \
                     group's min size.",
                ));
            }
            group.desired -= 1;
        }
        self.begin_terminating(&id, "user-request");
        let shrinking = if decrement { ", shrinking the capacity" } else { "" };
        let cause =
            format!("instance {id} was taken out of service in response to a user request{shrinking}.");
        let activity = self.record_activity(&name, &id, "Terminating EC2 instance", &cause, "InProgress");
        Ok(json!({"Activity": activity.json(&name)}))
    }

    pub(super) fn change_tags(&mut self, p: Params<'_>, set: bool) -> Answer {
        let tags = p.objects("Tags");
        for tag in &tags {
            let (name, key) = (tag.need("ResourceId")?, tag.need("Key")?);
            if tag.str("ResourceType").is_some_and(|t| t != "auto-scaling-group") {
                return Err(ApiError::validation("The resource type must be auto-scaling-group."));
            }
            if !self.groups.contains_key(name) {
                return Err(ApiError::validation(format!(
                    "No AutoScalingGroup found for tag's resource: {name}"
                )));
            }
            if key.len() > 128 || tag.str("Value").is_some_and(|v| v.chars().count() > 256) {
                return Err(ApiError::validation("A tag's key has at most 128 characters, its value 256."));
            }
        }
        for tag in &tags {
            let (name, key) = (tag.need("ResourceId")?, tag.need("Key")?);
            let Some(group) = self.groups.get_mut(name) else { continue };
            if set {
                let value = tag.str("Value").unwrap_or_default().to_owned();
                let propagate = tag.bool("PropagateAtLaunch").unwrap_or(true);
                group.tags.insert(key.to_owned(), Tag { value, propagate });
            } else {
                group.tags.remove(key);
            }
        }
        Ok(json!({}))
    }
}
