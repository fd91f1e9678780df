//! Which instances are started next: batches or a window, never fewer in service than the policy says.

use super::{
    change::Change,
    planner::Planner,
    service::{is_serving, waits_for_capacity},
};
use crate::rollout::{
    policy::{Mode, Zones},
    snapshot::Health,
    state::{
        DeploymentState, Instance, InstanceState as S,
        transition::{Illegal, Step},
    },
};
use std::collections::BTreeMap;

impl Planner<'_> {
    /// Stages everyone, opens the next batch when its time has come, and takes out what the capacity allows.
    pub(super) fn admit_instances(&mut self) -> Result<(), Illegal> {
        let cancelled = self.snapshot.deployment.cancel.is_some();
        let begins = self.state == DeploymentState::Rolling && self.outage().is_none();
        if !begins || cancelled || self.rolling_back {
            return Ok(());
        }
        for draft in &mut self.drafts {
            if draft.record.state() == S::Pending {
                draft.step(Step::Stage, self.now, "staging")?;
            }
        }
        // The whole fleet is staged before any traffic moves: a dead agent or a full disk shows while it is whole.
        // One that joins later holds up nobody.
        let begun = self.batch > 0;
        if self.count(|record| record.in_staging() && !(begun && record.joined)) == 0 {
            self.open_batch();
        }
        self.take_out_instances()
    }

    /// Assigns the next batch's number to its instances.
    fn open_batch(&mut self) {
        if self.count_waiting() == 0 {
            return;
        }
        let room = match self.snapshot.policy.mode {
            Mode::Batch => {
                let open = self.count(|r| r.batch == Some(self.batch) && !r.state().is_final());
                if open > 0 || !self.is_bake_over() || self.awaits_approval() {
                    return;
                }
                self.batch += 1;
                self.snapshot.policy.batch.size(self.batch, self.total())
            }
            Mode::Window => {
                let snapshot = self.snapshot;
                let (batches, total) = (&snapshot.policy.batch, self.total());
                let open = self.count(|r| r.batch.is_some() && !r.state().is_final());
                let started = self.count(|r| r.batch.is_some()) + self.resting(|sums| sums.started);
                // Whoever is started next belongs to the first step that isn't full.
                let mut number = self.batch.max(1);
                while batches.up_to(number, total) <= started {
                    number += 1;
                }
                // Steps are there to be looked at before the next: the window slides within the last one, which repeats.
                let steps_on = number > self.batch && batches.is_a_step_before_others(self.batch);
                if steps_on && (open > 0 || !self.is_bake_over()) {
                    return;
                }
                let left = match self.snapshot.policy.approve_after {
                    Some(after) if !self.snapshot.deployment.approved => {
                        batches.up_to(after, total).saturating_sub(started)
                    }
                    _ => u32::MAX,
                };
                let room = batches.size(number, total).saturating_sub(open);
                if left == 0 && open == 0 {
                    // What was approved is through: the wait for the rest counts from now.
                    self.is_bake_over();
                }
                if room == 0 || left == 0 {
                    return;
                }
                let room = room.min(left).min(batches.up_to(number, total) - started);
                self.batch = number;
                room
            }
        };
        for at in self.next_in_line(room as usize) {
            self.examine(at);
            if let Ok(index) = self.drafts.binary_search_by_key(&at, |draft| draft.at) {
                self.drafts[index].record.batch = Some(self.batch);
            }
        }
        // One tried again opens its batch anew.
        if self.batch != self.snapshot.deployment.batch || self.snapshot.deployment.batch_done_at.is_some() {
            self.plan.changes.push(Change::Batch(self.batch));
        }
    }

    /// Counts those that wait for their turn.
    fn count_waiting(&self) -> u32 {
        self.count(Instance::awaits_turn) + self.resting(|sums| sums.waiting)
    }

    /// Whether a person must approve the batches after the first `approve_after`.
    pub(super) fn awaits_approval(&self) -> bool {
        let waiting = self.count_waiting() > 0;
        let due = self.snapshot.policy.approve_after.is_some_and(|after| self.batch >= after);
        let through = self.count(|r| r.batch.is_some() && !r.state().is_final()) == 0;
        due && waiting && through && !self.snapshot.deployment.approved
    }

    /// Whether the batch in work has finished and its bake has passed; records the end of the batch.
    pub(super) fn is_bake_over(&mut self) -> bool {
        if self.batch == 0 {
            return true;
        }
        let bake = self.snapshot.policy.bake;
        match self.snapshot.deployment.batch_done_at {
            None => {
                self.plan.changes.push(Change::BatchDone);
                bake.is_zero()
            }
            Some(done) if self.now >= done + bake => true,
            Some(done) => {
                self.wake(done + bake);
                false
            }
        }
    }

    /// Returns the members whose turn is next: staged ones without a batch, those that don't serve first, then by zone
    /// and id.
    fn next_in_line(&self, most: usize) -> Vec<usize> {
        let looked_at = self.drafts.iter().map(|draft| (draft.at, &*draft.record, draft.sight));
        let resting = self.census.waiting_members(most).map(|at| {
            let member = &self.snapshot.members[at];
            (at, &member.record, &member.sight)
        });
        let mut turn: Vec<Turn<'_>> = looked_at
            .filter(|(_, record, _)| record.awaits_turn())
            .chain(resting)
            .map(|(at, record, sight)| Turn {
                serves: sight.health == Health::Healthy,
                id: &record.id,
                zone: &record.zone,
                at,
            })
            .collect();
        turn.sort_unstable_by_key(|turn| (turn.serves, turn.id));
        match self.snapshot.policy.zones {
            Zones::Any => {}
            Zones::Spread => spread_over_zones(&mut turn),
            Zones::OneAtATime => self.keep_one_zone(&mut turn),
        }
        turn.into_iter().take(most).map(|turn| turn.at).collect()
    }

    /// Keeps those of the zone with an instance in work, or else of the first zone that has any left.
    fn keep_one_zone(&self, turn: &mut Vec<Turn<'_>>) {
        let in_work =
            self.drafts.iter().find(|draft| draft.record.batch.is_some() && !draft.record.state().is_final());
        let first = turn.iter().map(|turn| turn.zone).min();
        if let Some(zone) = in_work.map(|draft| draft.record.zone.as_str()).or(first) {
            turn.retain(|turn| turn.zone == zone);
        }
    }

    /// Takes out those of the open batch that the capacity allows. One that isn't healthy may always be taken out.
    fn take_out_instances(&mut self) -> Result<(), Illegal> {
        let mut capacity = self.capacity();
        // Those in BeforeBlockTraffic hooks have been promised their place.
        for draft in self.drafts.iter().filter(|draft| draft.record.state() == S::PreBlocking) {
            capacity.reserve(draft.before);
        }
        let mut turn: Vec<usize> =
            (0..self.drafts.len()).filter(|&i| waits_for_capacity(&self.drafts[i])).collect();
        turn.sort_by_key(|&i| self.drafts[i].sight.health == Health::Healthy);
        for index in turn {
            let (now, revision) = (self.now, &self.snapshot.revision);
            let record = &self.drafts[index].record;
            // The hooks of the release that runs there.
            let former = record.good.as_ref().filter(|_| !record.touched);
            let former = former.and_then(|good| revision.former.get(good));
            let pre_block = former.map_or(revision.pre_block, |former| former.pre_block);
            let draft = &mut self.drafts[index];
            if is_serving(draft) && !capacity.take(draft.before) {
                continue;
            }
            match pre_block && !draft.record.pre_blocked {
                true => draft.step(Step::PreBlock, now, "its turn: BeforeBlockTraffic hooks")?,
                false => draft.step(Step::Block, now, "its turn: taking it out of the balancer")?,
            }
        }
        Ok(())
    }
}

/// One whose turn may be next.
struct Turn<'a> {
    serves: bool,
    id: &'a str,
    zone: &'a str,
    /// Its index in the snapshot.
    at: usize,
}

/// Orders them so that one of each zone comes first, then the second of each, and so on.
fn spread_over_zones(turn: &mut [Turn<'_>]) {
    let mut seen: BTreeMap<&str, u32> = BTreeMap::new();
    turn.sort_by_cached_key(|turn| {
        let rank = seen.entry(turn.zone).or_default();
        *rank += 1;
        *rank
    });
}
