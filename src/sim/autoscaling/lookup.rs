//! Finds the groups and instances that the parameters of a call name.

use super::group::{Group, group_not_found};
use crate::sim::state::{Lifecycle, State};
use crate::sim::wire::{ApiError, Params};

impl State {
    /// Returns the group that `AutoScalingGroupName` names.
    pub(super) fn named_group(&mut self, p: Params<'_>) -> Result<&mut Group, ApiError> {
        let name = p.need("AutoScalingGroupName")?;
        self.groups.get_mut(name).ok_or_else(group_not_found)
    }

    /// Returns the id of the present member that `InstanceId` names.
    pub(super) fn named_member(&self, p: Params<'_>) -> Result<String, ApiError> {
        let id = p.need("InstanceId")?;
        self.instances
            .get(id)
            .filter(|i| !matches!(i.lifecycle, Lifecycle::Terminating | Lifecycle::Terminated))
            .map(|i| i.id.clone())
            .ok_or_else(|| {
                ApiError::validation(format!(
                    "Instance Id not found - No managed instance found for instance ID: {id}"
                ))
            })
    }
}
