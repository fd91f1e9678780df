//! What deploys by itself: pushes that a webhook delivered, and branches that are polled where nothing can come in.

use super::{
    Engine,
    submit::{Order, queue},
};
use crate::{
    github::{Commit, GitHubError},
    logs::{lines_of, note_chunk},
    store::{DeliveryRow, StoreError},
};
use jiff::{SignedDuration, Timestamp};
use std::{collections::BTreeSet, sync::Arc, time::Duration};
use tracing::{info, warn};

/// Deliveries that could not be acted upon are looked at again this often.
const AGAIN: Duration = Duration::from_secs(5);
/// GitHub may be away that long; then a delivery is given up, and says so.
const PATIENCE: SignedDuration = SignedDuration::from_mins(60);

/// A push to a branch, as a webhook delivered it.
#[derive(Clone, Debug)]
pub struct Push {
    /// GitHub's delivery id.
    pub delivery: String,
    /// SHA-256 of the body, hexadecimal.
    pub digest: String,
    /// `owner/name`.
    pub repository: String,
    /// The branch.
    pub branch: String,
    /// Its new head.
    pub sha: String,
    /// Who pushed.
    pub pusher: String,
}

/// What becomes of a delivered push.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Received {
    /// These groups will be deployed to.
    Accepted(Vec<String>),
    /// The delivery, or its very body, came before.
    Duplicate,
    /// No group is deployed by pushes to this branch.
    Ignored,
}

impl Engine {
    /// Writes a push down; it is acted upon afterwards, and after a restart too.
    pub async fn receive_push(&self, push: Push) -> Result<Received, StoreError> {
        let groups = self.deployed_by(&push.repository, &push.branch);
        let now = Timestamp::now().as_millisecond();
        let row = DeliveryRow {
            id: push.delivery,
            digest: push.digest,
            repository: push.repository,
            branch: push.branch,
            sha: push.sha,
            pusher: push.pusher,
            state: "received".into(),
            outcome: None,
            received_at: now,
        };
        let mut tx = self.store.write().await?;
        if !tx.insert_delivery(&row).await? {
            return Ok(Received::Duplicate);
        }
        if groups.is_empty() {
            tx.end_delivery(&row.id, "ignored", "no group has auto_deploy for this branch", now).await?;
        }
        tx.commit().await?;
        if groups.is_empty() {
            return Ok(Received::Ignored);
        }
        info!(delivery = row.id, sha = row.sha, "a push to {} of {}", row.branch, row.repository);
        self.pushed.notify_one();
        Ok(Received::Accepted(groups))
    }

    /// The groups that a push to this branch deploys to.
    fn deployed_by(&self, repository: &str, branch: &str) -> Vec<String> {
        self.groups()
            .filter(|(_, application, group)| {
                group.auto_deploy
                    && application.repository.eq_ignore_ascii_case(repository)
                    && group.branch(application) == branch
            })
            .map(|(name, ..)| name)
            .collect()
    }

    /// Acts upon deliveries, and polls branches, until the daemon stops.
    pub(super) async fn follow_pushes(self: Arc<Self>) {
        let polling = self.config.github.polling().and_then(|pause| Duration::try_from(pause).ok());
        let mut poll = tokio::time::interval(polling.unwrap_or(Duration::from_secs(3600)));
        poll.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            let polls = tokio::select! {
                () = self.pushed.notified() => false,
                () = tokio::time::sleep(AGAIN) => false,
                _ = poll.tick() => polling.is_some(),
                () = self.stop.cancelled() => return,
            };
            if let Err(error) = self.act_upon_deliveries().await {
                warn!("acting upon deliveries: {error}");
            }
            if polls {
                self.poll_branches().await;
            }
        }
    }

    async fn act_upon_deliveries(&self) -> Result<(), StoreError> {
        for row in self.store.open_deliveries().await? {
            let groups = self.deployed_by(&row.repository, &row.branch);
            // On its branch, or refused: as for a person's submission.
            let resolved = self.github.resolve(&row.repository, &row.sha, &row.branch).await;
            let now = Timestamp::now();
            let age = now.as_millisecond() - row.received_at;
            let mut tx = self.store.write().await?;
            match resolved {
                Ok(commit) => {
                    let by = format!("push by {}", row.pusher);
                    let started =
                        self.deploy_all(tx, &groups, &commit, &row.branch, &by, Some(&row.id)).await?;
                    started.into_iter().for_each(|id| self.wake(id));
                    continue;
                }
                Err(GitHubError::Unavailable(words)) if age < PATIENCE.as_millis() as i64 => {
                    warn!(delivery = row.id, "waiting: {words}; trying again");
                    return Ok(());
                }
                Err(error) => {
                    warn!(delivery = row.id, "not deployed: {error}");
                    tx.end_delivery(&row.id, "refused", &error.to_string(), now.as_millisecond()).await?;
                    tx.commit().await?;
                }
            }
        }
        Ok(())
    }

    /// Queues a deployment for each of these groups that isn't being brought to this commit; ends the delivery with it.
    async fn deploy_all(
        &self,
        mut tx: crate::store::Tx<'_>,
        groups: &[String],
        commit: &Commit,
        branch: &str,
        by: &str,
        delivery: Option<&str>,
    ) -> Result<Vec<i64>, StoreError> {
        let mut started = Vec::new();
        let (mut words, mut superseded) = (Vec::new(), Vec::new());
        for name in groups {
            let Some((application, group)) = self.config.group(name) else { continue };
            let newest = self.store.newest(name).await?;
            // One that has ended is done again: it passes over the instances that have the revision and are healthy.
            if let Some(row) = newest.filter(|row| row.sha == commit.sha && row.finished_at.is_none()) {
                words.push(format!("{name} gets it by deployment {}", row.id));
                continue;
            }
            let order = Order {
                group: name,
                repository: &application.repository,
                requested: branch,
                by,
                automatic: true,
                only: None,
            };
            let older = tx.queued_automatic(name).await?;
            let row = queue(&mut tx, &order, commit.clone(), &group.policy).await?;
            for old in older {
                let reason = format!("superseded by deployment {}, a newer commit", row.id);
                tx.set_state(old, "Superseded", Some(&reason), Timestamp::now().as_millisecond(), true)
                    .await?;
                tx.append_log(old, &note_chunk(None, &lines_of(&reason))).await?;
                superseded.push(old);
            }
            words.push(format!("deployment {} to {name}", row.id));
            started.push(row.id);
        }
        let words = words.join("; ");
        if let Some(delivery) = delivery {
            tx.end_delivery(delivery, "done", &words, Timestamp::now().as_millisecond()).await?;
        }
        tx.commit().await?;
        superseded.into_iter().for_each(|id| self.logs.announce(id));
        info!(delivery, sha = commit.sha, "{by}: {words}");
        Ok(started)
    }

    /// Looks at the head of each branch that deploys by itself. A head seen for the first time is only remembered.
    async fn poll_branches(&self) {
        let branches: BTreeSet<(String, String)> = self
            .groups()
            .filter(|(_, _, group)| group.auto_deploy)
            .map(|(_, application, group)| {
                (application.repository.clone(), group.branch(application).to_owned())
            })
            .collect();
        for (repository, branch) in branches {
            if let Err(error) = self.poll_branch(&repository, &branch).await {
                warn!("polling {branch} of {repository}: {error:#}");
            }
        }
    }

    async fn poll_branch(&self, repository: &str, branch: &str) -> anyhow::Result<()> {
        let known = self.store.branch_head(repository, branch).await?;
        let head = self.github.head(repository, branch).await?;
        if known.as_deref() == Some(head.sha.as_str()) {
            return Ok(());
        }
        let now = Timestamp::now().as_millisecond();
        let mut tx = self.store.write().await?;
        tx.put_branch_head(repository, branch, &head.sha, now).await?;
        if known.is_none() {
            info!("{branch} of {repository} is at {}: its next commit will be deployed", head.sha);
            return Ok(tx.commit().await?);
        }
        let groups = self.deployed_by(repository, branch);
        let by = format!("new head of {branch}");
        let started = self.deploy_all(tx, &groups, &head, branch, &by, None).await?;
        started.into_iter().for_each(|id| self.wake(id));
        Ok(())
    }
}
