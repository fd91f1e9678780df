//! Preparing: everything that can be found wrong before a host is touched; then the plan is written down.

use super::{
    Engine,
    preconditions::{Trouble, refuse},
    record::{self, json},
};
use crate::{
    config::Group,
    github::GitHubError,
    logs::{lines_of, note_chunk},
    revision::{appspec::AppSpec, bundle},
    rollout::{plan::HELD, policy::Mode, state::Instance},
    store::DeploymentRow,
};
use anyhow::Context as _;
use jiff::{SignedDuration, Timestamp};
use std::path::PathBuf;

/// The agent of an instance that launches is up within this, or its launch is given up. It registers when it has booted;
/// the lifecycle hook's own heartbeat time-out is longer.
const AGENT_COMES: SignedDuration = SignedDuration::from_mins(10);

/// A bundle on the daemon's disk.
pub(super) struct Bundle {
    pub(super) sha256: String,
    pub(super) appspec: AppSpec,
}

impl Engine {
    pub(super) async fn prepare(&self, row: &DeploymentRow) -> anyhow::Result<()> {
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
        let survey = self.survey(row, group).await?;
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
        for record in members {
            tx.put_instance(row.id, &record.id, &record.state().to_string(), &json(record)).await?;
        }
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
        tx.commit().await?;
        self.logs.announce(row.id);
        Ok(())
    }

    /// The bundle of a revision: from the daemon's disk, or fetched once.
    async fn bundle(&self, row: &DeploymentRow, sha: &str) -> Result<Bundle, Trouble> {
        match self.fetch_bundle(&row.repository, sha).await? {
            Ok(bundle) => Ok(bundle),
            Err(reason) => refuse(format!("revision {sha} can't be deployed: {reason}")),
        }
    }

    /// The outer error may pass; the inner one says what is wrong with the revision.
    pub(super) async fn fetch_bundle(
        &self,
        repository: &str,
        sha: &str,
    ) -> anyhow::Result<Result<Bundle, String>> {
        let path = self.bundle_path(sha);
        if !tokio::fs::try_exists(&path).await? {
            tokio::fs::create_dir_all(&self.bundles)
                .await
                .with_context(|| format!("making {}", self.bundles.display()))?;
            match self.github.download(repository, sha, &path).await {
                Ok(()) => {}
                Err(GitHubError::Revision(reason)) => return Ok(Err(reason)),
                Err(error) => return Err(error.into()),
            }
        }
        let examined = tokio::task::spawn_blocking(move || bundle::examine(&path)).await?;
        Ok(examined.map(|examined| Bundle { sha256: examined.sha256, appspec: examined.appspec }))
    }

    /// The bundle of a deployed revision, fetched anew where it isn't on this daemon's disk: a command of the daemon before
    /// may ask for it.
    pub async fn bundle_again(&self, sha: &str) -> anyhow::Result<PathBuf> {
        let path = self.bundle_path(sha);
        if tokio::fs::try_exists(&path).await? {
            return Ok(path);
        }
        let Some(repository) = self.store.repository_of(sha).await? else {
            anyhow::bail!("no deployment has this revision")
        };
        self.fetch_bundle(&repository, sha).await?.map_err(anyhow::Error::msg)?;
        Ok(path)
    }

    /// Where the bundle of a revision is kept.
    fn bundle_path(&self, sha: &str) -> PathBuf {
        self.bundles.join(format!("{sha}.tar.gz"))
    }
}
