//! Branches that deploy by themselves: their groups are brought to the head.

use crate::{
    engine::{
        Engine,
        intake::{Order, queue},
    },
    github::{Commit, GitHubError},
    logs::{lines_of, note_chunk},
    store::{DeliveryRow, StoreError, Tx},
};
use jiff::Timestamp;
use std::collections::BTreeSet;
use tracing::{info, warn};

/// Why a branch's head is deployed.
#[derive(Clone, Copy)]
pub(in crate::engine) enum Cause<'a> {
    /// It was pushed.
    Push(&'a DeliveryRow),
    /// Another commit was pushed; the branch has moved on since.
    MovedOn(&'a DeliveryRow),
    /// A look at the branch showed it.
    Poll,
}

impl Cause<'_> {
    fn delivery(&self) -> Option<&DeliveryRow> {
        match self {
            Cause::Push(row) | Cause::MovedOn(row) => Some(row),
            Cause::Poll => None,
        }
    }

    /// The deployment by which the group has the head, or gets it: nothing is to be queued.
    async fn had_by(&self, tx: &mut Tx<'_>, group: &str, sha: &str) -> Result<Option<i64>, StoreError> {
        let newest = tx.newest_rollout(group).await?.filter(|row| row.sha == sha);
        Ok(match self {
            // One that has ended is done again: it passes over the instances that have the revision and are healthy.
            Cause::Push(_) => newest.filter(|row| row.finished_at.is_none()).map(|row| row.id),
            // What came after the head's own deployment (a rollback, say) was asked for by a person.
            Cause::MovedOn(_) => tx.rollout_of(group, sha).await?,
            Cause::Poll => newest.map(|row| row.id),
        })
    }
}

impl Engine {
    /// The branches that deploy by themselves, and their repositories.
    pub(in crate::engine) fn followed(&self) -> BTreeSet<(String, String)> {
        self.groups()
            .filter(|(_, _, group)| group.auto_deploy)
            .map(|(_, application, group)| {
                (application.repository.clone(), group.branch(application).to_owned())
            })
            .collect()
    }

    /// Queues a deployment of the branch's head for each group that isn't being brought to it; ends the delivery with it.
    pub(in crate::engine) async fn bring_to_head(
        &self,
        repository: &str,
        branch: &str,
        head: &Commit,
        cause: Cause<'_>,
    ) -> Result<(), StoreError> {
        let delivery = cause.delivery();
        let by =
            delivery.map_or_else(|| format!("new head of {branch}"), |row| format!("push by {}", row.pusher));
        let mut tx = self.store.write().await?;
        let (mut started, mut words, mut superseded) = (Vec::new(), Vec::new(), Vec::new());
        for name in self.deployed_by(repository, branch) {
            let Some((application, group)) = self.config.group(&name) else { continue };
            if let Some(id) = cause.had_by(&mut tx, &name, &head.sha).await? {
                words.push(format!("{name} has it by deployment {id}"));
                continue;
            }
            let order = Order {
                group: &name,
                repository: &application.repository,
                requested: branch,
                by: &by,
                automatic: true,
                only: None,
            };
            let older = tx.queued_automatic(&name).await?;
            let row = queue(&mut tx, &order, head.clone(), &group.policy).await?;
            for old in older {
                let reason = format!("superseded by deployment {}: {branch} is at {} now", row.id, head.sha);
                tx.set_state(old, "Superseded", Some(&reason), Timestamp::now().as_millisecond(), true)
                    .await?;
                tx.append_log(old, &note_chunk(None, &lines_of(&reason))).await?;
                superseded.push(old);
            }
            words.push(format!("deployment {} to {name}", row.id));
            started.push(row.id);
        }
        let mut words = words.join("; ");
        if let Cause::MovedOn(row) = cause {
            words = format!("superseded: {branch} has moved on from {} to {}; {words}", row.sha, head.sha);
        }
        let now = Timestamp::now().as_millisecond();
        if let Some(row) = delivery {
            tx.end_delivery(&row.id, "done", &words, now).await?;
        }
        tx.put_branch_head(repository, branch, &head.sha, now).await?;
        tx.commit().await?;
        superseded.into_iter().for_each(|id| self.logs.announce(id));
        info!(delivery = delivery.map(|row| &row.id), sha = head.sha, "{by}: {words}");
        started.into_iter().for_each(|id| self.wake(id));
        Ok(())
    }

    /// Looks at the head of each branch that deploys by itself. A head seen for the first time is only remembered.
    pub(in crate::engine) async fn poll_branches(&self) {
        for (repository, branch) in self.followed() {
            if self.following().waits_for(&repository) {
                continue;
            }
            if let Err(error) = self.poll_branch(&repository, &branch).await {
                warn!("polling {branch} of {repository}: {error:#}");
                if let Some(GitHubError::Unavailable(_) | GitHubError::Credentials(_)) = error.downcast_ref()
                {
                    self.following().wait_for(&repository);
                }
            }
        }
    }

    async fn poll_branch(&self, repository: &str, branch: &str) -> anyhow::Result<()> {
        let known = self.store.branch_head(repository, branch).await?;
        let etag = self.following().etag(repository, branch).filter(|_| known.is_some());
        let Some((head, etag)) = self.github.head_if_changed(repository, branch, etag.as_deref()).await?
        else {
            return Ok(());
        };
        match known {
            None => {
                let mut tx = self.store.write().await?;
                tx.put_branch_head(repository, branch, &head.sha, Timestamp::now().as_millisecond()).await?;
                tx.commit().await?;
                info!("{branch} of {repository} is at {}: its next commit will be deployed", head.sha);
            }
            Some(known) if known == head.sha => {}
            Some(_) => self.bring_to_head(repository, branch, &head, Cause::Poll).await?,
        }
        // Only now: what was not acted upon is asked for again.
        if let Some(etag) = etag {
            self.following().put_etag(repository, branch, etag);
        }
        Ok(())
    }
}
