//! Instances that stand in for each other, and how many of them must stay in service. A batch that spares the whole may
//! still hold every target of a small target group.

use crate::rollout::{
    policy::Policy,
    snapshot::{Lifecycle, Sight},
    state::{Instance, InstanceState as S, Membership},
};
use std::{
    collections::{BTreeMap, BTreeSet},
    iter::once,
};

/// Instances that stand in for each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Pool<'a> {
    /// All of the deployment group.
    Whole,
    /// Those of an Auto Scaling group.
    AutoScalingGroup(&'a str),
    /// The targets of a target group.
    TargetGroup(&'a str),
}

impl Pool<'_> {
    /// Names the pool in words that follow a number of instances; empty for the whole.
    pub(super) fn words(self) -> String {
        match self {
            Pool::Whole => String::new(),
            Pool::AutoScalingGroup(name) => format!(" in Auto Scaling group {name}"),
            Pool::TargetGroup(arn) => format!(" in target group {}", name_of(arn)),
        }
    }
}

/// Returns the name in a target group's ARN, `…:targetgroup/NAME/ID`.
fn name_of(arn: &str) -> &str {
    arn.split('/').nth(1).unwrap_or(arn)
}

/// Returns the pools that an instance belongs to.
pub(super) fn pools_of(record: &Instance) -> BTreeSet<Pool<'_>> {
    pools(&record.group, &record.memberships)
}

pub(super) fn pools<'a>(group: &'a str, memberships: &'a [Membership]) -> BTreeSet<Pool<'a>> {
    let watched = memberships.iter().filter(|membership| !membership.unwatched);
    let behind = watched.map(|membership| Pool::TargetGroup(&membership.target_group));
    once(Pool::Whole).chain(once(Pool::AutoScalingGroup(group))).chain(behind).collect()
}

/// The counts of one pool.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Room {
    /// Members when the deployment began.
    pub(super) total: u32,
    /// Those in service and healthy then.
    pub(super) healthy_at_start: u32,
    /// Those that have left since, not by drover's doing.
    pub(super) left: u32,
    /// Those that have come into service since.
    pub(super) came: u32,
    /// Those that are healthy behind the balancer, less those about to be taken out.
    pub(super) healthy: u32,
    /// How many must stay in service.
    pub(super) keep: u32,
}

/// Refuses a fleet of which a target group or an Auto Scaling group could never spare one, with the arithmetic in words.
pub fn check_pools(policy: &Policy, records: &[Instance]) -> Result<(), String> {
    let mut rooms: BTreeMap<Pool<'_>, Room> = BTreeMap::new();
    let rolled = records.iter().filter(|record| record.state() == S::Pending);
    for record in records.iter().filter(|record| record.state() == S::Pending || record.healthy_at_start) {
        for pool in pools_of(record) {
            let room = rooms.entry(pool).or_default();
            room.total += 1;
            room.healthy_at_start += u32::from(record.healthy_at_start);
        }
    }
    let total = rooms.get(&Pool::Whole).map_or(0, |room| room.total);
    for record in rolled.filter(|record| record.healthy_at_start) {
        for pool in pools_of(record).into_iter().filter(|pool| *pool != Pool::Whole) {
            let Some(room) = rooms.get(&pool) else { continue };
            let keep = minimum_in_service(policy, pool, room.total, room.healthy_at_start, total);
            // What isn't healthy now may be by then: only what could never be is refused.
            if keep >= room.total {
                return Err(format!(
                    "{} of the instances are{}, of which {keep} must stay in service: {} could never be taken out; write a \
                     smaller min_in_service, or a share such as \"50%\"",
                    room.total,
                    pool.words(),
                    record.id,
                ));
            }
        }
    }
    Ok(())
}

/// Returns how many of a pool must stay in service.
pub(super) fn minimum_in_service(
    policy: &Policy,
    pool: Pool<'_>,
    size: u32,
    healthy: u32,
    total: u32,
) -> u32 {
    let keep = policy.keep_in_pool(size, healthy, total);
    match pool {
        // Without leave for an outage, no target group loses its last healthy target. One that has a single target has to.
        Pool::TargetGroup(_) if !policy.allow_downtime && size > 1 => keep.max(healthy.min(1)),
        _ => keep,
    }
}

impl Room {
    pub(super) fn count(&mut self, record: &Instance, sight: &Sight) {
        let left = sight.lifecycle == Lifecycle::Leaving;
        let gone = record.state() == S::Gone || left && record.state() != S::Failed;
        // An operator's own standby instance is none of the fleet.
        let counts = record.state() != S::Skipped || record.healthy_at_start;
        if !record.joined {
            self.total += u32::from(counts);
            self.healthy_at_start += u32::from(record.healthy_at_start);
        } else if record.state() != S::Gone {
            self.came += 1;
        }
        // One that left on its own makes the group smaller, not the batches. One that a health check took out for the new
        // revision doesn't.
        self.left += u32::from(gone);
        let serves = sight.serves();
        self.healthy += u32::from(serves && record.state() != S::Blocking && !record.is_quarantined());
    }

    /// Combines each count with that of `other`, but for what must stay in service.
    pub(super) fn combine(self, other: Room, both: &impl Fn(u32, u32) -> u32) -> Room {
        Room {
            total: both(self.total, other.total),
            healthy_at_start: both(self.healthy_at_start, other.healthy_at_start),
            left: both(self.left, other.left),
            came: both(self.came, other.came),
            healthy: both(self.healthy, other.healthy),
            keep: self.keep,
        }
    }
}
