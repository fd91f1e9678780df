//! What AWS shows, in the planner's terms.

use crate::{
    fleet::autoscaling::GroupSight,
    rollout::snapshot::{Group, Hold, Lifecycle},
};

/// A lifecycle state as AWS writes it.
pub(in crate::engine) fn lifecycle(name: &str) -> Lifecycle {
    match name {
        "InService" => Lifecycle::InService,
        "EnteringStandby" => Lifecycle::EnteringStandby,
        "Standby" => Lifecycle::Standby,
        "Detaching" | "Detached" => Lifecycle::Leaving,
        other if other.starts_with("Terminat") => Lifecycle::Leaving,
        other if other.starts_with("Pending") => Lifecycle::Coming(other.into()),
        other => Lifecycle::Unknown(other.into()),
    }
}

/// An Auto Scaling group as the planner sees it.
pub(in crate::engine) fn group_of(seen: &GroupSight, hold: Option<Hold>) -> Group {
    let GroupSight { min, max, desired, .. } = *seen;
    Group { min, max, desired, suspended: seen.suspended.clone(), hold }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lifecycle_states_are_read_leniently() {
        assert_eq!(lifecycle("Terminating:Wait"), Lifecycle::Leaving);
        assert_eq!(lifecycle("Pending:Proceed"), Lifecycle::Coming("Pending:Proceed".into()));
        assert_eq!(lifecycle("ReplacingRootVolume"), Lifecycle::Unknown("ReplacingRootVolume".into()));
    }
}
