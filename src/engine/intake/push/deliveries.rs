//! Deliveries, one after the other: each ends in words, deployed or not.

use super::branches::Cause;
use crate::{
    engine::Engine,
    github::{Commit, GitHubError, Relation},
    store::{DeliveryRow, StoreError},
};
use jiff::{SignedDuration, Timestamp};
use std::collections::HashMap;
use tracing::{info, warn};

/// GitHub may be away that long; then a delivery is given up, and says so.
const PATIENCE: SignedDuration = SignedDuration::from_mins(60);
/// A delivery may be here before GitHub's own API knows the commit, or shows it as the branch's head: seconds as a rule.
const NOT_YET: SignedDuration = SignedDuration::from_mins(2);

/// Why a delivery is still open after a look at it.
enum Open {
    /// GitHub doesn't show yet what it speaks of; after a while that means: it never will.
    NotYet(String),
    /// GitHub is away, or doesn't let us in.
    Unavailable(String),
}

impl From<GitHubError> for Open {
    fn from(error: GitHubError) -> Self {
        match error {
            GitHubError::Revision(words) => Open::NotYet(words),
            GitHubError::Unavailable(words) | GitHubError::Credentials(words) => Open::Unavailable(words),
        }
    }
}

impl Engine {
    pub(in crate::engine) async fn act_upon_deliveries(&self) -> Result<(), StoreError> {
        // One question for all deliveries of a branch.
        let mut heads: HashMap<(String, String), Commit> = HashMap::new();
        for row in self.store.open_deliveries().await? {
            let waits = self.following().waits_for(&row.repository);
            if waits || self.following().is_looked_at_later(&row.id) {
                continue;
            }
            let key = (row.repository.clone(), row.branch.clone());
            let looked = match heads.get(&key) {
                Some(head) => self.look_at(&row, head).await,
                None => match self.github.head(&row.repository, &row.branch).await {
                    Ok(head) => self.look_at(&row, heads.entry(key).or_insert(head)).await,
                    Err(error) => Err(error.into()),
                },
            };
            let age = SignedDuration::from_millis(Timestamp::now().as_millisecond() - row.received_at);
            match looked {
                Ok((head, cause)) => {
                    self.following().reached(&row.repository);
                    self.bring_to_head(&row.repository, &row.branch, &head, cause).await?;
                }
                Err(Open::NotYet(words)) if age < NOT_YET => {
                    info!(delivery = row.id, "not yet: {words}; looking again");
                    self.following().look_later(&row.id);
                    continue;
                }
                Err(Open::Unavailable(words)) if age < PATIENCE => {
                    warn!(delivery = row.id, "waiting: {words}; trying again");
                    self.following().wait_for(&row.repository);
                    continue;
                }
                Err(Open::NotYet(words) | Open::Unavailable(words)) => {
                    warn!(delivery = row.id, "not deployed: {words}");
                    let mut tx = self.store.write().await?;
                    tx.end_delivery(&row.id, "refused", &words, Timestamp::now().as_millisecond()).await?;
                    tx.commit().await?;
                }
            }
            self.following().forget(&row.id);
        }
        Ok(())
    }

    /// What the delivery means for a branch with this head.
    async fn look_at<'a>(&self, row: &'a DeliveryRow, head: &Commit) -> Result<(Commit, Cause<'a>), Open> {
        if head.sha == row.sha {
            return Ok((head.clone(), Cause::Push(row)));
        }
        match self.github.relation(&row.repository, &row.sha, &head.sha).await? {
            Some(Relation::Behind | Relation::Diverged | Relation::Identical) => {
                Ok((head.clone(), Cause::MovedOn(row)))
            }
            Some(Relation::Ahead) | None => Err(Open::NotYet(format!(
                "commit {} is not on branch {} of {}, whose head is {}: it comes from a fork, was never merged, or was taken back",
                row.sha, row.branch, row.repository, head.sha
            ))),
        }
    }
}
