//! The calls that describe groups, instances, activities and tags.

use serde_json::{Value, json};

use super::group::Group;
use super::warm_pool::WarmPool;
use crate::sim::account::ACCOUNT;
use crate::sim::state::{Instance, Lifecycle, State};
use crate::sim::wire::{Answer, Params};

impl State {
    pub(super) fn describe_groups(&self, p: Params<'_>) -> Answer {
        let names = p.strings("AutoScalingGroupNames");
        let filters: Vec<(String, Vec<String>)> = p
            .objects("Filters")
            .iter()
            .map(|f| (f.str("Name").unwrap_or_default().to_owned(), f.strings("Values")))
            .collect();
        for (name, _) in &filters {
            if !name.starts_with("tag:") && name != "tag-key" && name != "tag-value" {
                return Err(p.error(format!("Filter type {name} is not correct. Allowed Filter types are: tag-key, tag-value, tag:<key>")));
            }
        }
        let groups: Vec<Value> = self
            .groups
            .values()
            .filter(|g| names.is_empty() || names.contains(&g.name) || names.contains(&g.arn))
            .filter(|g| filters.iter().all(|(name, values)| meets_filter(g, name, values)))
            .map(|g| self.group_json(g))
            .collect();
        let (page, next) = p.page(groups, "NextToken", "MaxRecords", (50, 100))?;
        Ok(json!({"AutoScalingGroups": page, "NextToken": next}))
    }

    fn group_json(&self, g: &Group) -> Value {
        let instances: Vec<Value> = self
            .instances
            .values()
            .filter(|i| i.group == g.name && i.lifecycle != Lifecycle::Terminated)
            .map(|i| instance_json(i, &g.launch_configuration))
            .collect();
        let suspended: Vec<Value> = g
            .suspended
            .iter()
            .map(
                |p| json!({"ProcessName": p, "SuspensionReason": format!("User suspended at {}", g.created)}),
            )
            .collect();
        json!({
            "AutoScalingGroupName": g.name,
            "AutoScalingGroupARN": g.arn,
            "LaunchConfigurationName": g.launch_configuration,
            "MinSize": g.min,
            "MaxSize": g.max,
            "DesiredCapacity": g.desired,
            "DefaultCooldown": 300,
            "AvailabilityZones": g.zones,
            "LoadBalancerNames": [],
            "TargetGroupARNs": g.target_groups,
            "HealthCheckType": if g.elb_health { "ELB" } else { "EC2" },
            "HealthCheckGracePeriod": g.grace,
            "Instances": instances,
            "CreatedTime": g.created,
            "SuspendedProcesses": suspended,
            "VPCZoneIdentifier": "",
            "EnabledMetrics": [],
            "Status": if g.deleting { Value::from("Delete in progress") } else { Value::Null },
            "Tags": tags_json(g),
            "TerminationPolicies": ["Default"],
            "NewInstancesProtectedFromScaleIn": g.protect_new,
            "WarmPoolConfiguration": g.warm_pool.as_ref().map(WarmPool::json),
            "WarmPoolSize": g.warm_pool.as_ref().map(|_| 0),
            "ServiceLinkedRoleARN":
                format!("arn:aws:iam::{ACCOUNT}:role/aws-service-role/autoscaling.amazonaws.com/AWSServiceRoleForAutoScaling"),
            "TrafficSources": g.target_groups.iter().map(|t| json!({"Identifier": t, "Type": "elbv2"})).collect::<Vec<_>>(),
        })
    }

    pub(super) fn describe_instances(&self, p: Params<'_>) -> Answer {
        let ids = p.strings("InstanceIds");
        if ids.len() > 50 {
            return Err(p.error("You can specify at most 50 instance ids."));
        }
        let instances: Vec<Value> = self
            .instances
            .values()
            .filter(|i| i.lifecycle != Lifecycle::Terminated && (ids.is_empty() || ids.contains(&i.id)))
            .filter_map(|i| {
                let group = self.groups.get(&i.group)?;
                let mut json = instance_json(i, &group.launch_configuration);
                json["AutoScalingGroupName"] = Value::from(i.group.as_str());
                json["HealthStatus"] = Value::from(if i.healthy { "HEALTHY" } else { "UNHEALTHY" });
                Some(json)
            })
            .collect();
        let (page, next) = p.page(instances, "NextToken", "MaxRecords", (50, 50))?;
        Ok(json!({"AutoScalingInstances": page, "NextToken": next}))
    }

    pub(super) fn describe_activities(&self, p: Params<'_>) -> Answer {
        let ids = p.strings("ActivityIds");
        let wanted = p.str("AutoScalingGroupName");
        let activities: Vec<Value> = self
            .groups
            .values()
            .filter(|g| wanted.is_none_or(|w| w == g.name))
            .flat_map(|g| g.activities.iter().map(|a| (g.name.as_str(), a)))
            .filter(|(_, a)| ids.is_empty() || ids.contains(&a.id))
            .map(|(name, a)| a.json(name))
            .collect();
        let (page, next) = p.page(activities, "NextToken", "MaxRecords", (100, 100))?;
        Ok(json!({"Activities": page, "NextToken": next}))
    }

    pub(super) fn describe_tags(&self, p: Params<'_>) -> Answer {
        let filters = p.objects("Filters");
        let holds = |tag: &Value| {
            filters.iter().all(|f| {
                let field = match f.str("Name").unwrap_or_default() {
                    "auto-scaling-group" => "ResourceId",
                    "key" => "Key",
                    "value" => "Value",
                    _ => "PropagateAtLaunch",
                };
                let actual = tag[field].as_str().map_or_else(|| tag[field].to_string(), str::to_owned);
                f.strings("Values").contains(&actual)
            })
        };
        let tags: Vec<Value> = self.groups.values().flat_map(tags_json).filter(holds).collect();
        let (page, next) = p.page(tags, "NextToken", "MaxRecords", (50, 100))?;
        Ok(json!({"Tags": page, "NextToken": next}))
    }
}

fn instance_json(i: &Instance, launch_configuration: &str) -> Value {
    json!({
        "InstanceId": i.id,
        "InstanceType": "t3.small",
        "AvailabilityZone": i.zone,
        "LifecycleState": i.state_name(),
        "HealthStatus": if i.healthy { "Healthy" } else { "Unhealthy" },
        "LaunchConfigurationName": launch_configuration,
        "ProtectedFromScaleIn": i.protected,
    })
}

/// Whether a group meets a filter on its tags.
fn meets_filter(group: &Group, filter: &str, values: &[String]) -> bool {
    match filter.strip_prefix("tag:") {
        Some(key) => group.tags.get(key).is_some_and(|t| values.contains(&t.value)),
        None if filter == "tag-key" => group.tags.keys().any(|k| values.contains(k)),
        None => group.tags.values().any(|t| values.contains(&t.value)),
    }
}

fn tags_json(group: &Group) -> Vec<Value> {
    group
        .tags
        .iter()
        .map(|(key, tag)| {
            json!({
                "ResourceId": group.name,
                "ResourceType": "auto-scaling-group",
                "Key": key,
                "Value": tag.value,
                "PropagateAtLaunch": tag.propagate,
            })
        })
        .collect()
}
