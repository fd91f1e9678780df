//! Whether an instance is in service, out of it, or on its way, by its record and what the fleet shows.

use super::draft::Draft;
use crate::rollout::{
    snapshot::{Health, Lifecycle, Sight},
    state::{Instance, InstanceState as S},
};

/// Whether it is behind a balancer, healthy or not yet.
pub(super) fn is_behind_balancer(sight: &Sight) -> bool {
    !matches!(sight.health, Health::Out | Health::Draining)
}

/// Whether it is out of the balancer, and in standby where the Auto Scaling group, which registers it, would put it back.
pub(super) fn is_out(record: &Instance, sight: &Sight) -> bool {
    sight.health == Health::Out && (sight.lifecycle == Lifecycle::Standby || !leaves_by_standby(record))
}

/// Whether it is taken out by standby, because the Auto Scaling group registers it in a target group.
pub(super) fn leaves_by_standby(record: &Instance) -> bool {
    record.memberships.iter().any(|membership| membership.owned)
}

/// Describes what the fleet shows of an instance.
pub(super) fn describe_sight(sight: &Sight) -> String {
    let lifecycle = match &sight.lifecycle {
        Lifecycle::InService => "InService",
        Lifecycle::EnteringStandby => "EnteringStandby",
        Lifecycle::Standby => "Standby",
        Lifecycle::Coming(name) | Lifecycle::Unknown(name) => name,
        Lifecycle::Leaving => "leaving",
    };
    let health = match &sight.health {
        Health::Healthy => "healthy",
        Health::Initial(reason) => return format!("{lifecycle}, initial ({reason})"),
        Health::Unhealthy(reason) => return format!("{lifecycle}, unhealthy ({reason})"),
        Health::Draining => "draining",
        Health::Out => "in no target group",
    };
    format!("{lifecycle}, {health}")
}

/// Whether it belongs to the open batch and has not been taken out yet.
pub(super) fn waits_for_capacity(draft: &Draft) -> bool {
    draft.record.state() == S::Staged && draft.record.batch.is_some()
}

/// Whether it takes requests, so that taking it out reduces the capacity.
pub(super) fn is_serving(draft: &Draft) -> bool {
    draft.sight.health == Health::Healthy && !is_out(&draft.record, draft.sight)
}
