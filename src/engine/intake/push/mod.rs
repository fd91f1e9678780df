//! What deploys by itself: pushes that a webhook delivered, and branches that are polled, as catch-up or where nothing can
//! come in.
//!
//! A delivery says only that something happened. What is deployed is the branch's head as GitHub has it at the time of
//! acting, so that late, repeated, replayed and reordered deliveries all end the same.

mod branches;
mod deliveries;
mod following;

pub(in crate::engine) use following::Following;

use crate::{
    engine::Engine,
    store::{DeliveryRow, StoreError},
};
use jiff::Timestamp;
use std::{sync::Arc, time::Duration};
use tracing::{info, warn};

/// Without a wake, what waits is looked at this often.
const AGAIN: Duration = Duration::from_secs(5);

/// A push to a branch, as a webhook delivered it.
#[derive(Clone, Debug)]
pub struct Push {
    /// GitHub's delivery id.
    pub delivery: String,
    /// SHA-256 of the body, hexadecimal.
    pub digest: String,
    /// `owner/name`, as GitHub calls it now.
    pub repository: String,
    /// GitHub's number of it, which stays when it is renamed.
    pub repository_id: Option<u64>,
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
    /// No group is deployed by it, and why.
    Ignored(String),
}

impl Engine {
    /// Writes a push down; it is acted upon afterwards, and after a restart too.
    pub async fn receive_push(&self, push: Push) -> Result<Received, StoreError> {
        let configured = self.configured_repository(&push);
        let repository = configured.clone().unwrap_or_else(|| push.repository.clone());
        let groups = self.deployed_by(&repository, &push.branch);
        let now = Timestamp::now().as_millisecond();
        let row = DeliveryRow {
            id: push.delivery,
            digest: push.digest,
            repository,
            branch: push.branch,
            sha: push.sha,
            pusher: push.pusher,
            state: "received".into(),
            outcome: None,
            received_at: now,
        };
        let ignored = groups.is_empty().then(|| match &configured {
            Some(_) => format!("no group has auto_deploy for branch {}", row.branch),
            None => format!("no application is configured for the repository {}", push.repository),
        });
        let mut tx = self.store.write().await?;
        if !tx.insert_delivery(&row).await? {
            return Ok(Received::Duplicate);
        }
        if let Some(why) = &ignored {
            tx.end_delivery(&row.id, "ignored", why, now).await?;
        }
        tx.commit().await?;
        let (delivery, sha, branch) = (&row.id, &row.sha, &row.branch);
        if let Some(why) = ignored {
            info!(delivery, sha, "a push to {branch} of {} is ignored: {why}", push.repository);
            return Ok(Received::Ignored(why));
        }
        if !row.repository.eq_ignore_ascii_case(&push.repository) {
            warn!(
                "the repository {} is called {} now: GitHub redirects the old name until somebody takes it; change it in drover.toml",
                row.repository, push.repository
            );
        }
        info!(delivery, sha, "a push to {branch} of {}", row.repository);
        self.pushed.notify_one();
        Ok(Received::Accepted(groups))
    }

    /// Under which name the configuration knows the repository of a push: its own, or the one that has its id, since it
    /// was renamed or transferred.
    fn configured_repository(&self, push: &Push) -> Option<String> {
        let by_name = self
            .config
            .applications
            .values()
            .map(|application| &application.repository)
            .find(|name| name.eq_ignore_ascii_case(&push.repository));
        by_name.cloned().or_else(|| self.following().with_id(push.repository_id?))
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
    pub(in crate::engine) async fn follow_pushes(self: Arc<Self>) {
        let polling = self.config.github.polling().and_then(|pause| Duration::try_from(pause).ok());
        let mut poll = tokio::time::interval(polling.unwrap_or(Duration::from_secs(3600)));
        poll.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            let pause = self.following().next_try().map_or(AGAIN, |next| next.min(AGAIN));
            let polls = tokio::select! {
                () = self.pushed.notified() => false,
                () = tokio::time::sleep(pause) => false,
                _ = poll.tick() => polling.is_some(),
                () = self.stop.cancelled() => return,
            };
            self.learn_ids().await;
            if let Err(error) = self.act_upon_deliveries().await {
                warn!("acting upon deliveries: {error}");
            }
            if polls {
                self.poll_branches().await;
            }
        }
    }

    /// Asks for GitHub's numbers of the repositories whose pushes deploy, once each, so that a renamed one is known again.
    async fn learn_ids(&self) {
        if self.config.github.webhook_secret().is_none() {
            return;
        }
        for repository in self.followed().into_iter().map(|(repository, _)| repository) {
            if self.following().is_known(&repository) || self.following().waits_for(&repository) {
                continue;
            }
            match self.github.id(&repository).await {
                Ok(id) => self.following().learn(&repository, id),
                Err(error) => {
                    warn!("{error}");
                    self.following().wait_for(&repository);
                }
            }
        }
    }
}
