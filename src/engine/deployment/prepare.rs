//! Preparing: everything that can be found wrong before a host is touched; then the plan is written down.

use crate::{
    artifact::ArtifactError,
    config::Group,
    engine::{
        Engine,
        groups::preconditions::{Trouble, refuse},
        record::{self, json},
        revisions::Bundle,
    },
    logs::{lines_of, note_chunk},
    rollout::{plan::HELD, policy::Mode, state::Instance},
    store::DeploymentRow,
};
use jiff::{SignedDuration, Timestamp};
use std::time::{Duration, SystemTime};

/// The agent of an instance that launches is up within this, or its launch is given up. It registers when it has booted;
/// the lifecycle hook's own heartbeat time-out is longer.
const AGENT_COMES: SignedDuration = SignedDuration::from_mins(10);

/// A bundle that CI builds is there within this after its commit was submitted, or it is said to be missing.
const CI_IS_THROUGH: SignedDuration = SignedDuration::from_mins(15);

impl Engine {
    pub(in crate::engine) async fn prepare(&self, row: &DeploymentRow) -> anyhow::Result<()> {
        match self.try_prepare(row).await {
            Ok(()) => Ok(()),
            Err(Trouble::Final(reason)) => Ok(self.end(row.id, "Failed", &reason).await?),
            Err(Trouble::Passing(error)) => Err(error),
        }
    }

    async fn try_prepare(&self, row: &DeploymentRow) -> Result<(), Trouble> {
        let Some((_, group)) = self.config.group(&row.group_name) else {
            return refuse(format!("deployment group '{}' is no longer configured", row.group_name));
        };
        let bundle = self.bundle(row, &row.sha).await?;
        let bundle = Bundle { appspec: bundle.appspec.timed(&record::policy(row)?.time_outs), ..bundle };
        self.ensure_log_group(row).await?;
        if row.launch != 0 {
            return self.prepare_launch(row, group, &bundle).await;
        }
        let rebuilt = self.is_another_build(row, &self.origin(row, &row.sha).await?, &bundle).await?;
        let survey = self.survey(row, group, rebuilt).await?;
        let policy = &survey.policy;
        let words = format!(
            "{} instances, {} healthy; batches of {} ({} in all, {}), at least {} stay in service, at most {} may fail",
            survey.total,
            survey.healthy,
            policy.batch,
            policy.batch.count(u32::try_from(survey.agents.len()).unwrap_or(0)),
            match policy.mode {
                Mode::Batch => "each waits for the one before",
                Mode::Window => "as a sliding window",
            },
            policy.keep_in_service(survey.total, survey.healthy),
            policy.max_failed.of(survey.total),
        );
        let row = &DeploymentRow { policy: json(policy), ..row.clone() };
        self.write_down(row, &bundle, &survey.members, (survey.total, survey.healthy), &words).await
    }

    /// The instance that launches, once its agent can be reached.
    async fn prepare_launch(
        &self,
        row: &DeploymentRow,
        group: &Group,
        bundle: &Bundle,
    ) -> Result<(), Trouble> {
        let id = row.only_instance.clone().unwrap_or_default();
        let groups = self.shared_groups(&group.auto_scaling_groups).await?;
        let seen = groups.iter().find_map(|group| {
            let instance = group.instances.iter().find(|instance| instance.id == id)?;
            Some((group, instance))
        });
        let Some((seen, instance)) = seen.filter(|(_, instance)| instance.lifecycle == HELD) else {
            return refuse(format!(
                "{id} is not held in {HELD} any more: it left, or its launch was completed"
            ));
        };
        if self.online(vec![id.clone()]).await?.is_empty() {
            let age = Timestamp::now().duration_since(record::time(row.created_at));
            if age > AGENT_COMES {
                return refuse(format!("the agent of {id} could not be reached within {AGENT_COMES:#}"));
            }
            return Err(Trouble::Passing(anyhow::anyhow!("{id} launches: waiting for its agent")));
        }
        let target_groups = self.fleet.target_groups(&seen.target_groups).await?;
        let mut record = Instance::new(&id, &instance.zone, &seen.name, Timestamp::now());
        record.memberships =
            self.shared_targets(&target_groups).await?.memberships(&groups, &target_groups, &record);
        let members = [record];
        let words = format!("{id} launches: it gets the revision before it goes into service");
        self.write_down(row, bundle, &members, (1, 0), &words).await
    }

    /// The plan, and off it goes.
    async fn write_down(
        &self,
        row: &DeploymentRow,
        bundle: &Bundle,
        members: &[Instance],
        (total, healthy): (u32, u32),
        words: &str,
    ) -> Result<(), Trouble> {
        let mut tx = self.store.write().await?;
        tx.put_instances(row.id, &members.iter().map(record::write_of).collect::<Vec<_>>()).await?;
        let prepared = DeploymentRow {
            revision: Some(json(&bundle.appspec)),
            bundle_sha256: Some(bundle.sha256.clone()),
            total_at_start: i64::from(total),
            healthy_at_start: i64::from(healthy),
            planned: self.planned_text(&row.group_name),
            ..row.clone()
        };
        tx.set_prepared(&prepared).await?;
        tx.set_state(row.id, "Rolling", None, Timestamp::now().as_millisecond(), false).await?;
        tx.append_log(row.id, &note_chunk(None, &lines_of(words))).await?;
        for warning in &bundle.warnings {
            tx.append_log(row.id, &note_chunk(None, &lines_of(&format!("warning: {warning}")))).await?;
        }
        tx.commit().await?;
        self.logs.announce(row.id);
        Ok(())
    }

    /// The bundle of a revision: from the daemon's disk, or fetched once.
    async fn bundle(&self, row: &DeploymentRow, sha: &str) -> Result<Bundle, Trouble> {
        let refused = |reason: String| refuse(format!("revision {sha} can't be deployed: {reason}"));
        let origin = self.origin(row, sha).await?;
        if row.rolls_back.is_none() && row.launch == 0 {
            let begun = u64::try_from(row.started_at.unwrap_or(row.created_at)).unwrap_or(0);
            self.forget_older(&origin, sha, SystemTime::UNIX_EPOCH + Duration::from_millis(begun)).await?;
        }
        match self.fetch_bundle(&origin, sha).await {
            Ok(Ok(bundle)) => Ok(bundle),
            Ok(Err(reason)) => refused(reason),
            Err(error) => {
                // CI may be at it still.
                let age = Timestamp::now().duration_since(record::time(row.created_at));
                match error.downcast_ref() {
                    Some(ArtifactError::Missing(why)) if age > CI_IS_THROUGH => refused(why.clone()),
                    _ => Err(error.into()),
                }
            }
        }
    }
}
