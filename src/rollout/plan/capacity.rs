//! How many more may be taken out now, by the tightest of the pools that an instance is in.

use super::{
    census::Sums,
    planner::Planner,
    pool::{Pool, Room, minimum_in_service, pools, pools_of},
};
use crate::rollout::state::Instance;
use std::collections::BTreeMap;

/// How many instances may be taken out now, by pool.
pub(super) struct Capacity<'a> {
    rooms: BTreeMap<Pool<'a>, Room>,
}

impl<'a> Capacity<'a> {
    /// Counts an instance that serves as out, if it may be taken out too, and returns whether it may.
    pub(super) fn take(&mut self, record: &'a Instance) -> bool {
        let pools = pools_of(record);
        let spare = |room: &Room| room.healthy > room.keep;
        if !pools.iter().all(|pool| self.rooms.get(pool).is_none_or(spare)) {
            return false;
        }
        self.reserve(record);
        true
    }

    /// Counts an instance as out.
    pub(super) fn reserve(&mut self, record: &'a Instance) {
        for pool in pools_of(record) {
            if let Some(room) = self.rooms.get_mut(&pool) {
                room.healthy = room.healthy.saturating_sub(1);
            }
        }
    }

    /// Describes the pool that has the least to spare.
    pub(super) fn words(&self) -> String {
        let spare = |room: &Room| i64::from(room.healthy) - i64::from(room.keep);
        let tightest = self.rooms.iter().min_by_key(|(pool, room)| (spare(room), **pool));
        tightest.map_or_else(String::new, |(pool, room)| {
            format!("{} healthy, {} must stay in service{}", room.healthy, room.keep, pool.words())
        })
    }
}

impl<'a> Planner<'a> {
    pub(super) fn capacity(&self) -> Capacity<'a> {
        let mut rooms: BTreeMap<Pool<'a>, Room> = BTreeMap::new();
        for draft in &self.drafts {
            for pool in pools_of(draft.before) {
                rooms.entry(pool).or_default().count(&draft.record, draft.sight);
            }
        }
        for (class, sums) in self.census.classes.iter().zip(&self.sums) {
            for pool in pools(&class.group, &class.memberships) {
                let room = rooms.entry(pool).or_default();
                *room = room.combine(sums.room, &|ours, theirs| ours + theirs);
            }
        }
        let deployment = &self.snapshot.deployment;
        let whole = rooms.entry(Pool::Whole).or_default();
        (whole.total, whole.healthy_at_start) = (self.total(), deployment.healthy_at_start);
        let (policy, total) = (&self.snapshot.policy, self.total());
        for (pool, room) in &mut rooms {
            let left = room.left.saturating_sub(room.came);
            let size = room.total.saturating_sub(left);
            let healthy = room.healthy_at_start.saturating_sub(left);
            room.keep = minimum_in_service(policy, *pool, size, healthy, total);
        }
        Capacity { rooms }
    }

    /// Sums one of the counts over the members of an Auto Scaling group that rest.
    pub(super) fn resting_of(&self, group: &str, of: impl Fn(&Sums) -> u32) -> u32 {
        let classes = self.census.classes.iter().zip(&self.sums).filter(|(class, _)| class.group == group);
        classes.map(|(_, sums)| of(sums)).sum()
    }
}
