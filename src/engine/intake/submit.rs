//! What people ask of the engine: submit a deployment, cancel one.

use crate::{
    api::Submission,
    config::{Application, Group},
    engine::{Engine, SubmitError, record::json},
    github::Commit,
    logs::{lines_of, note_chunk},
    rollout::{policy::Policy, state::DeploymentState},
    store::{DeploymentRow, StoreError, Tx},
};
use jiff::Timestamp;

impl Engine {
    /// Resolves the revision to a full SHA that belongs to the group's repository, and queues a deployment of it.
    pub async fn submit(&self, submission: Submission, by: &str) -> Result<DeploymentRow, SubmitError> {
        let (application, group, policy) = self.accept(&submission)?;
        let requested = submission.revision.trim();
        let commit = self.resolve(application, group, requested).await?;
        let mut tx = self.store.write().await?;
        let order = Order {
            group: &submission.group,
            repository: &application.repository,
            requested,
            by,
            automatic: false,
            only: None,
        };
        let row = queue(&mut tx, &order, commit, &policy).await?;
        tx.commit().await?;
        self.wake(row.id);
        Ok(row)
    }

    /// A configured group, with its application.
    pub(in crate::engine) fn known_group(&self, name: &str) -> Result<(&Application, &Group), SubmitError> {
        self.config.group(name).ok_or_else(|| SubmitError::UnknownGroup {
            name: name.to_owned(),
            known: self.config.group_names().collect::<Vec<_>>().join(", "),
        })
    }

    /// The commit that a SHA, branch or tag names, if it may be deployed to the group.
    pub(in crate::engine) async fn resolve(
        &self,
        application: &Application,
        group: &Group,
        revision: &str,
    ) -> Result<Commit, SubmitError> {
        Ok(self.github.resolve(&application.repository, revision.trim(), group.branch(application)).await?)
    }

    /// The group of a submission, and the policy that results from it.
    pub(in crate::engine) fn accept(
        &self,
        submission: &Submission,
    ) -> Result<(&Application, &Group, Policy), SubmitError> {
        let (application, group) = self.known_group(&submission.group)?;
        let policy = Policy {
            batch: submission.batch.clone().unwrap_or_else(|| group.policy.batch.clone()),
            mode: submission.mode.unwrap_or(group.policy.mode),
            min_in_service: submission.min_in_service.or(group.policy.min_in_service),
            max_failed: submission.max_failed.unwrap_or(group.policy.max_failed),
            ..group.policy.clone()
        };
        policy.check().map_err(SubmitError::Policy)?;
        Ok((application, group, policy))
    }

    /// Cancels a deployment: after the lifecycle event in work, or at once. Cancelling it again is no error.
    pub async fn cancel(&self, id: i64, now: bool, by: &str) -> Result<(), SubmitError> {
        let row = self.store.deployment(id).await?.ok_or(SubmitError::UnknownDeployment(id))?;
        if row.finished_at.is_some() {
            if row.state == DeploymentState::Cancelled.to_string() {
                return Ok(());
            }
            return Err(SubmitError::Ended { id, state: row.state });
        }
        let how = if now { "now" } else { "after" };
        if row.cancel.as_deref() == Some(how) || row.cancel.as_deref() == Some("now") {
            return Ok(());
        }
        let mut tx = self.store.write().await?;
        tx.set_cancel(id, how, Timestamp::now().as_millisecond()).await?;
        let words = if now { ", stopping running hooks" } else { "; running lifecycle events end first" };
        tx.append_log(id, &note_chunk(None, &lines_of(&format!("{by} cancelled the deployment{words}"))))
            .await?;
        tx.commit().await?;
        self.logs.announce(id);
        self.wake(id);
        Ok(())
    }
}

/// Where a deployment comes from.
pub(in crate::engine) struct Order<'a> {
    /// `app/env`.
    pub(in crate::engine) group: &'a str,
    /// `owner/name`.
    pub(in crate::engine) repository: &'a str,
    /// What was asked for: a SHA, a branch, a tag.
    pub(in crate::engine) requested: &'a str,
    /// Who or what asked.
    pub(in crate::engine) by: &'a str,
    /// Nobody did: a push, a launch.
    pub(in crate::engine) automatic: bool,
    /// For this one instance alone.
    pub(in crate::engine) only: Option<Only<'a>>,
}

/// One instance of a group.
#[derive(Clone, Copy)]
pub(in crate::engine) enum Only<'a> {
    /// It failed, and is to be tried again.
    Retried(&'a str),
    /// It launches.
    Launched(&'a str),
}

/// Writes a new deployment into the queue.
pub(in crate::engine) async fn queue(
    tx: &mut Tx<'_>,
    order: &Order<'_>,
    commit: Commit,
    policy: &Policy,
) -> Result<DeploymentRow, StoreError> {
    let now = Timestamp::now().as_millisecond();
    let Order { group, repository, requested, by, automatic, only } = order;
    let (only_instance, launch) = match only {
        None => (None, 0),
        Some(Only::Retried(id)) => (Some((*id).to_owned()), 0),
        Some(Only::Launched(id)) => (Some((*id).to_owned()), 1),
    };
    let mut row = DeploymentRow {
        group_name: (*group).to_owned(),
        repository: (*repository).to_owned(),
        sha: commit.sha,
        requested: (*requested).to_owned(),
        message: commit.title,
        requested_by: (*by).to_owned(),
        state: DeploymentState::Queued.to_string(),
        policy: json(policy),
        created_at: now,
        since: now,
        automatic: i64::from(*automatic),
        only_instance,
        launch,
        ..DeploymentRow::default()
    };
    row.id = tx.insert_deployment(&row).await?;
    let text = format!("{by} submitted {requested} ({}) to {group}: {}", row.sha, row.message);
    row.last_seq = tx.append_log(row.id, &note_chunk(None, &lines_of(&text))).await?;
    Ok(row)
}
