//! Looks that many share: a thousand instances may launch at once, each with a deployment of its own, and all of them see
//! the same groups. They are asked about together, once a poll.

use crate::engine::{Engine, groups::targets::Targets};
use crate::fleet::{
    autoscaling::GroupSight,
    balancer::{NO_SUCH_GROUP, TargetGroup},
};
use std::{
    sync::PoisonError,
    time::{Duration, Instant},
};

/// What was seen of a group is of no use to anybody after this time.
const FORGOTTEN: Duration = Duration::from_secs(60);

impl Engine {
    fn share_for(&self) -> Duration {
        Duration::try_from(self.config.server.poll).unwrap_or_default()
    }

    /// These Auto Scaling groups as they were a poll ago at most.
    pub(in crate::engine) async fn shared_groups(&self, names: &[String]) -> anyhow::Result<Vec<GroupSight>> {
        self.groups_within(names, self.share_for()).await
    }

    /// These Auto Scaling groups as they are now.
    pub(in crate::engine) async fn groups_now(&self, names: &[String]) -> anyhow::Result<Vec<GroupSight>> {
        self.groups_within(names, Duration::ZERO).await
    }

    /// These Auto Scaling groups as they were so long ago at most. Deployments that ask at the same time are answered by one
    /// call.
    async fn groups_within(&self, names: &[String], within: Duration) -> anyhow::Result<Vec<GroupSight>> {
        let wanted = || self.shared.wanted_groups.lock().unwrap_or_else(PoisonError::into_inner);
        let asked = Instant::now();
        wanted().extend(names.iter().cloned());
        let mut seen = self.shared.seen_groups.lock().await;
        let is_answered = |name: &String| seen.get(name).is_some_and(|(made, _)| *made + within >= asked);
        if !names.iter().all(is_answered) {
            let mut all = std::mem::take(&mut *wanted());
            // A call that failed has taken the names of those that waited for it.
            all.extend(names.iter().cloned());
            let all: Vec<String> = all.into_iter().collect();
            let made = Instant::now();
            let groups = self.fleet.groups(&all).await?;
            seen.retain(|_, (made, _)| made.elapsed() < FORGOTTEN);
            for name in all {
                let group = groups.iter().find(|group| group.name == name).cloned();
                seen.insert(name, (made, group));
            }
        }
        Ok(names.iter().filter_map(|name| seen.get(name)?.1.clone()).collect())
    }

    pub(in crate::engine) async fn shared_targets(
        &self,
        target_groups: &[TargetGroup],
    ) -> anyhow::Result<Targets> {
        let mut targets = Targets::default();
        let mut known = self.shared.targets.lock().await;
        known.retain(|_, (at, _)| at.elapsed() < self.share_for());
        for group in target_groups {
            let seen = match known.get(&group.arn) {
                Some((_, seen)) => seen.clone(),
                None => {
                    let seen = self.fleet.target_health(&group.arn).await?;
                    known.insert(group.arn.clone(), (Instant::now(), seen.clone()));
                    seen
                }
            };
            targets.add(&group.arn, seen);
        }
        Ok(targets)
    }

    /// The targets of each of these target groups.
    pub(in crate::engine) async fn targets(&self, target_groups: &[TargetGroup]) -> anyhow::Result<Targets> {
        let mut targets = Targets::default();
        for group in target_groups {
            match self.fleet.target_health(&group.arn).await {
                Ok(seen) => targets.add(&group.arn, seen),
                Err(error) if error.code == NO_SUCH_GROUP => targets.deleted.push(group.arn.clone()),
                Err(error) => return Err(error.into()),
            }
        }
        Ok(targets)
    }
}
