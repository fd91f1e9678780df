//! Looks that many share: a thousand instances may launch at once, each with a deployment of its own, and all of them see
//! the same groups. They are asked about together, once a poll.

use crate::engine::{Engine, groups::targets::Targets};
use crate::fleet::{autoscaling::GroupSight, balancer::TargetGroup};
use std::time::{Duration, Instant};

impl Engine {
    fn share_for(&self) -> Duration {
        Duration::try_from(self.config.server.poll).unwrap_or_default()
    }

    pub(in crate::engine) async fn shared_groups(&self, names: &[String]) -> anyhow::Result<Vec<GroupSight>> {
        let mut known = self.shared.groups.lock().await;
        known.retain(|_, (at, _)| at.elapsed() < self.share_for());
        if let Some((_, groups)) = known.get(names) {
            return Ok(groups.clone());
        }
        let groups = self.fleet.groups(names).await?;
        known.insert(names.to_vec(), (Instant::now(), groups.clone()));
        Ok(groups)
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
}
