//! The resources of the service: target groups, load balancers and listeners, and how they are found.

use std::collections::BTreeMap;

use sha2::{Digest, Sha256};

use super::target_group::{TargetGroup, TargetState};
use crate::sim::account::{ACCOUNT, REGION};
use crate::sim::wire::{ApiError, Params};

/// A load balancer.
#[derive(Debug)]
pub struct LoadBalancer {
    /// Its name.
    pub name: String,
    /// Its ARN.
    pub arn: String,
    /// When it was created.
    pub(super) created: String,
}

/// A listener.
#[derive(Debug)]
pub struct Listener {
    /// Its ARN.
    pub(super) arn: String,
    /// The ARN of its load balancer.
    pub(super) load_balancer: String,
    /// The port that it listens on.
    pub(super) port: u16,
    /// The ARN of the target group that gets its requests.
    pub(super) target_group: String,
}

/// All resources of the service.
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

    /// Returns the ARNs of the target groups that hold a target of this instance.
    pub fn groups_of(&self, instance: &str) -> Vec<String> {
        self.target_groups.values().filter(|g| g.holds(instance)).map(|g| g.arn.clone()).collect()
    }

    /// Returns the state of an instance's target on the group's own port.
    pub fn state_of(&self, arn: &str, instance: &str) -> Option<TargetState> {
        let group = self.target_groups.get(arn)?;
        group.targets.get(&(instance.to_owned(), group.port)).map(|t| t.state)
    }

    /// Returns the ARN of a target group given by name or ARN.
    pub fn arn_of(&self, name_or_arn: &str) -> Option<String> {
        self.target_groups
            .values()
            .find(|g| g.arn == name_or_arn || g.name == name_or_arn)
            .map(|g| g.arn.clone())
    }

    /// Returns the target group that a call's `TargetGroupArn` names.
    pub(super) fn named_target_group(&mut self, p: Params<'_>) -> Result<&mut TargetGroup, ApiError> {
        let arn = p.need("TargetGroupArn")?;
        if !arn.starts_with("arn:") {
            return Err(ApiError::validation(format!("'{arn}' is not a valid target group ARN")));
        }
        self.target_groups.get_mut(arn).ok_or_else(|| target_group_not_found(arn))
    }
}

/// Returns the ARN of a resource. Its last part is made of the name, so that it is the same in every run.
pub(super) fn resource_arn(kind: &str, name: &str) -> String {
    let h = hex::encode(Sha256::digest(format!("{kind}/{name}").as_bytes()));
    format!("arn:aws:elasticloadbalancing:{REGION}:{ACCOUNT}:{kind}/{name}/{}", &h[..16])
}

/// Makes the error that there is no such target group.
pub(super) fn target_group_not_found(arn: &str) -> ApiError {
    ApiError::refused("TargetGroupNotFound", format!("Target groups '{arn}' not found"))
}
