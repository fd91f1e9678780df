//! How long things will take: what is left of a rollout, how ready the way back is. Hooks and staging as they took lately,
//! the rest as the target groups are set.

use crate::{
    engine::{Engine, groups::preconditions::target_group_arns, memory::Left, record},
    fleet::balancer::TargetGroup,
    rollout::{
        paper::Pace,
        rehearse::{self, words},
        snapshot::{Snapshot, Timing},
        state::{Instance, InstanceState},
    },
    store::{DeploymentRow, StoreError},
};
use jiff::{SignedDuration, Timestamp};
use std::{
    sync::PoisonError,
    time::{Duration, Instant},
};

/// What hooks and staging are taken to last on a group that was never deployed to.
const UNKNOWN_HOOKS: SignedDuration = SignedDuration::from_secs(60);
const UNKNOWN_STAGING: SignedDuration = SignedDuration::from_secs(20);
/// Attempts that the estimate is the median of.
const SAMPLE: i64 = 50;
/// What is left of a rollout is estimated this often at most, and for a twentieth of the time at most.
const ESTIMATE_EVERY: SignedDuration = SignedDuration::from_secs(2);
const SHARE: i32 = 20;

/// How ready the way back is changes as instances get through.
const READY_EVERY: Duration = Duration::from_secs(3);

/// The waits that follow from target groups' settings: the longest of each.
pub(super) fn timing_of(groups: &[TargetGroup]) -> Timing {
    Timing {
        deregistration_delay: groups.iter().map(|g| g.deregistration_delay).max().unwrap_or_default(),
        becoming_healthy: groups.iter().map(TargetGroup::becoming_healthy).max().unwrap_or_default(),
    }
}

impl Engine {
    /// How long things take on a group: hooks and staging as they took lately (the median), the rest as the target groups
    /// are set; and whether the first was measured.
    pub(super) async fn pace(&self, group: &str, timing: Timing) -> Result<(Pace, bool), StoreError> {
        let hooks = median(self.store.attempt_durations(group, "run", SAMPLE).await?);
        let staging = median(self.store.attempt_durations(group, "stage", SAMPLE).await?);
        let pace = Pace {
            staging: staging.unwrap_or(UNKNOWN_STAGING),
            hooks: hooks.unwrap_or(UNKNOWN_HOOKS),
            drain: timing.deregistration_delay,
            health: timing.becoming_healthy,
        };
        Ok((pace, hooks.is_some()))
    }

    /// Estimates anew what is left of a rollout, if the last estimate is old.
    pub(super) async fn estimate(&self, row: &DeploymentRow, snapshot: &Snapshot) -> anyhow::Result<()> {
        let begun = Timestamp::now();
        let due = self.left.lock().unwrap_or_else(PoisonError::into_inner).get(&row.id).map(|left| left.due);
        if due.is_some_and(|due| begun < due) {
            return Ok(());
        }
        self.timings
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(row.group_name.clone(), snapshot.timing);
        let (pace, _) = self.pace(&row.group_name, snapshot.timing).await?;
        let snapshot = snapshot.clone();
        let left = tokio::task::spawn_blocking(move || rehearse::time_left(&snapshot, pace, begun)).await?;
        let took = Timestamp::now().duration_since(begun);
        let estimate =
            Left { until: left.map(|left| begun + left), due: begun + ESTIMATE_EVERY.max(took * SHARE) };
        self.left.lock().unwrap_or_else(PoisonError::into_inner).insert(row.id, estimate);
        Ok(())
    }

    /// Seconds until a rollout is through, if all goes well from now on.
    pub fn seconds_left(&self, deployment: i64) -> Option<i64> {
        let left = *self.left.lock().unwrap_or_else(PoisonError::into_inner).get(&deployment)?;
        Some(left.until?.duration_since(Timestamp::now()).as_secs().max(0))
    }

    /// How ready the way back from a deployment is, in words; none where there is no way back. It is looked at again after a
    /// while, however many people watch.
    pub async fn readiness(&self, row: &DeploymentRow) -> Result<Option<String>, StoreError> {
        let known = {
            let ready = self.ready.lock().unwrap_or_else(PoisonError::into_inner);
            ready.get(&row.id).filter(|(at, _)| at.elapsed() < READY_EVERY).cloned()
        };
        if let Some((_, words)) = known {
            return Ok(words);
        }
        let words = self.look_at_way_back(row).await?;
        let mut ready = self.ready.lock().unwrap_or_else(PoisonError::into_inner);
        ready.retain(|_, (at, _)| at.elapsed() < READY_EVERY);
        ready.insert(row.id, (Instant::now(), words.clone()));
        Ok(words)
    }

    async fn look_at_way_back(&self, row: &DeploymentRow) -> Result<Option<String>, StoreError> {
        let Some(good) = self.store.good_before(&row.group_name, row.id, &row.sha).await? else {
            return Ok(None);
        };
        let application = self.config.group(&row.group_name).map(|(application, _)| application);
        let keep = application.map_or(5, |application| application.keep_releases);
        let records = record::readable_instances(&self.store, row.id).await?;
        let there: Vec<_> = records.iter().filter(|r| r.state() != InstanceState::Gone).collect();
        let changed = there.iter().filter(|r| r.touched && r.state() != InstanceState::Restored).count();
        let staged = self.store.staged(&row.group_name, &good, i64::from(keep)).await?;
        let holds = |r: &&&Instance| r.good.as_deref() == Some(&good) || staged.contains(&r.id);
        let hold = there.iter().filter(holds).count();
        let Ok(policy) = record::policy(row) else { return Ok(None) };
        let policy = policy.for_rollback(u32::try_from(row.total_at_start).unwrap_or(1));
        let (pace, _) = self.pace(&row.group_name, self.timing(&row.group_name).await).await?;
        let batches = policy.batch.count(u32::try_from(changed).unwrap_or(0));
        let batches = i32::try_from(batches).unwrap_or(i32::MAX);
        let takes = pace.staging + (pace.drain + pace.hooks + pace.health) * batches;
        Ok(Some(format!(
            "{hold} of {} instances still hold {}; bringing {changed} back takes about {}",
            there.len(),
            good.get(..12).unwrap_or(&good),
            words(takes)
        )))
    }

    /// The waits that follow from a group's target groups, as last seen.
    async fn timing(&self, name: &str) -> Timing {
        if let Some(known) = self.timings.lock().unwrap_or_else(PoisonError::into_inner).get(name) {
            return *known;
        }
        let Some((_, group)) = self.config.group(name) else { return Timing::default() };
        let seen = self.fleet.groups(&group.auto_scaling_groups).await.unwrap_or_default();
        let arns = target_group_arns(&seen, group);
        let timing = timing_of(&self.fleet.target_groups(&arns).await.unwrap_or_default());
        self.timings.lock().unwrap_or_else(PoisonError::into_inner).insert(name.to_owned(), timing);
        timing
    }
}

fn median(mut milliseconds: Vec<i64>) -> Option<SignedDuration> {
    milliseconds.sort_unstable();
    milliseconds.get(milliseconds.len() / 2).map(|middle| SignedDuration::from_millis(*middle))
}
