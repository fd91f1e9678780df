//! The calls that describe resources and the health of targets, and those about the attributes of target groups.

use serde_json::{Value, json};

use super::answers::{attributes_json, listener_json, load_balancer_json, target_group_json};
use super::resources::target_group_not_found;
use super::target_group::check_attribute;
use crate::sim::state::{Lifecycle, State};
use crate::sim::wire::{Answer, ApiError, Params};

impl State {
    pub(super) fn describe_target_groups(&self, p: Params<'_>) -> Answer {
        let (arns, names) = (p.strings("TargetGroupArns"), p.strings("Names"));
        let balancer = p.str("LoadBalancerArn");
        let groups = &self.elb.target_groups;
        if let Some(unknown) = arns.iter().find(|a| !groups.contains_key(*a)) {
            return Err(target_group_not_found(unknown));
        }
        if let Some(unknown) = names.iter().find(|n| !groups.values().any(|g| g.name == **n)) {
            return Err(ApiError::refused(
                "TargetGroupNotFound",
                format!("One or more target groups not found: {unknown}"),
            ));
        }
        let found: Vec<Value> = groups
            .values()
            .filter(|g| arns.is_empty() || arns.contains(&g.arn))
            .filter(|g| names.is_empty() || names.contains(&g.name))
            .filter(|g| balancer.is_none_or(|b| g.load_balancer.as_deref() == Some(b)))
            .map(target_group_json)
            .collect();
        let (page, next) = p.page(found, "Marker", "PageSize", (400, 400))?;
        Ok(json!({"TargetGroups": page, "NextMarker": next}))
    }

    pub(super) fn describe_target_group_attributes(&mut self, p: Params<'_>) -> Answer {
        Ok(json!({"Attributes": attributes_json(self.elb.named_target_group(p)?)}))
    }

    pub(super) fn modify_target_group_attributes(&mut self, p: Params<'_>) -> Answer {
        let group = self.elb.named_target_group(p)?;
        let attributes = p.objects("Attributes");
        for attribute in &attributes {
            let (key, value) = (attribute.need("Key")?, attribute.str("Value").unwrap_or_default());
            if !group.attributes.contains_key(key) {
                return Err(ApiError::validation(format!(
                    "Target group attribute key '{key}' is not recognized"
                )));
            }
            check_attribute(key, value)?;
        }
        for attribute in &attributes {
            let (key, value) = (attribute.need("Key")?, attribute.str("Value").unwrap_or_default());
            group.attributes.insert(key.to_owned(), value.to_owned());
        }
        Ok(json!({"Attributes": attributes_json(group)}))
    }

    pub(super) fn describe_target_health(&mut self, p: Params<'_>) -> Answer {
        let wanted = p.objects("Targets");
        let alive = |state: &State, id: &str| {
            state.instances.get(id).is_some_and(|i| i.lifecycle != Lifecycle::Terminated)
        };
        for target in &wanted {
            let id = target.need("Id")?;
            if !alive(self, id) {
                return Err(ApiError::refused(
                    "InvalidTarget",
                    format!("The following targets are not valid: '{id}'"),
                ));
            }
        }
        let group = self.elb.named_target_group(p)?;
        let describe = |id: &str, port: u16| {
            let health = match group.targets.get(&(id.to_owned(), port)) {
                Some(t) => json!({
                    "State": t.state.name(),
                    "Reason": (!t.reason.is_empty()).then_some(t.reason),
                    "Description": (!t.description.is_empty()).then_some(&t.description),
                }),
                None => json!({
                    "State": "unused",
                    "Reason": "Target.NotRegistered",
                    "Description": "Target is not registered to the target group",
                }),
            };
            json!({"Target": {"Id": id, "Port": port}, "HealthCheckPort": port.to_string(), "TargetHealth": health})
        };
        let mut descriptions = Vec::new();
        if wanted.is_empty() {
            descriptions.extend(group.targets.keys().map(|(id, port)| describe(id, *port)));
        }
        for target in &wanted {
            let port = target.int_in("Port", 1..=65535)?.and_then(|n| u16::try_from(n).ok());
            descriptions.push(describe(target.need("Id")?, port.unwrap_or(group.port)));
        }
        Ok(json!({"TargetHealthDescriptions": descriptions}))
    }

    pub(super) fn describe_load_balancers(&self, p: Params<'_>) -> Answer {
        let (arns, names) = (p.strings("LoadBalancerArns"), p.strings("Names"));
        let all = &self.elb.load_balancers;
        let unknown = arns
            .iter()
            .find(|a| !all.iter().any(|l| l.arn == **a))
            .or_else(|| names.iter().find(|n| !all.iter().any(|l| l.name == **n)));
        if let Some(unknown) = unknown {
            return Err(ApiError::refused(
                "LoadBalancerNotFound",
                format!("Load balancers '[{unknown}]' not found"),
            ));
        }
        let found: Vec<Value> = all
            .iter()
            .filter(|l| arns.is_empty() || arns.contains(&l.arn))
            .filter(|l| names.is_empty() || names.contains(&l.name))
            .map(load_balancer_json)
            .collect();
        let (page, next) = p.page(found, "Marker", "PageSize", (400, 400))?;
        Ok(json!({"LoadBalancers": page, "NextMarker": next}))
    }

    pub(super) fn describe_listeners(&self, p: Params<'_>) -> Answer {
        let arns = p.strings("ListenerArns");
        let balancer = p.str("LoadBalancerArn");
        if let Some(wanted) = balancer
            && !self.elb.load_balancers.iter().any(|l| l.arn == wanted)
        {
            return Err(ApiError::refused(
                "LoadBalancerNotFound",
                format!("Load balancer '{wanted}' not found"),
            ));
        }
        if balancer.is_none() && arns.is_empty() {
            return Err(ApiError::validation("You must specify either listener ARNs or a load balancer ARN"));
        }
        let found: Vec<Value> = self
            .elb
            .listeners
            .iter()
            .filter(|l| arns.is_empty() || arns.contains(&l.arn))
            .filter(|l| balancer.is_none_or(|b| l.load_balancer == b))
            .map(listener_json)
            .collect();
        let (page, next) = p.page(found, "Marker", "PageSize", (400, 400))?;
        Ok(json!({"Listeners": page, "NextMarker": next}))
    }
}
