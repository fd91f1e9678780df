//! Locks of deployment groups: what is submitted to a locked group waits in its queue.

use crate::{
    api::LockRequest,
    engine::{Engine, GroupError},
    rollout::rehearse,
    store::{LockRow, StoreError},
};
use jiff::Timestamp;
use tracing::info;

/// A lock in words: who, since when, why, for how long.
pub(in crate::engine) fn lock_words(lock: &LockRow, now: Timestamp) -> String {
    let at = |milliseconds| Timestamp::from_millisecond(milliseconds).unwrap_or(now);
    let ago = rehearse::words(now.duration_since(at(lock.since)));
    let left = lock.until_at.map(|until| rehearse::words(at(until).duration_since(now)));
    let left = left.map(|left| format!(" (for {left} more)")).unwrap_or_default();
    format!("locked by {}, {ago} ago: {}{left}", lock.locked_by, lock.reason)
}

impl Engine {
    /// Locks a group: what is submitted waits in its queue. Locking it again is no error for whoever did.
    pub async fn lock(&self, name: &str, request: LockRequest, by: &str) -> Result<String, GroupError> {
        self.known_group(name)?;
        let reason = request.reason.trim().to_owned();
        if reason.is_empty() {
            return Err(GroupError::Refused("a lock wants a reason, for those who meet it".into()));
        }
        let now = Timestamp::now();
        let until = match request.lasts {
            Some(lasts) if !lasts.is_positive() => {
                return Err(GroupError::Refused(
                    "a lock lasts for a while: write a time such as \"2h\"".into(),
                ));
            }
            lasts => lasts.and_then(|lasts| now.checked_add(lasts).ok()).map(|at| at.as_millisecond()),
        };
        let mut tx = self.store.write().await?;
        if let Some(there) = tx.lock(name, now.as_millisecond()).await?.filter(|lock| lock.locked_by != by) {
            let words = lock_words(&there, now);
            return Err(GroupError::Refused(format!("{name} is {words}; unlock it first")));
        }
        let lock = LockRow {
            group_name: name.to_owned(),
            reason,
            locked_by: by.to_owned(),
            since: now.as_millisecond(),
            until_at: until,
        };
        tx.put_lock(&lock).await?;
        let words = lock_words(&lock, now);
        let lasts = request.lasts.map(|lasts| format!(" for {}", rehearse::words(lasts))).unwrap_or_default();
        tx.add_act(name, now.as_millisecond(), by, &format!("locked{lasts}: {}", lock.reason)).await?;
        tx.commit().await?;
        self.queue.notify_one();
        info!(group = name, "{words}");
        Ok(words)
    }

    /// Unlocks it; one that isn't locked is no error.
    pub async fn unlock(&self, name: &str, by: &str) -> Result<(), GroupError> {
        self.known_group(name)?;
        let now = Timestamp::now().as_millisecond();
        let mut tx = self.store.write().await?;
        if tx.lock(name, now).await?.is_none() {
            return Ok(());
        }
        tx.remove_lock(name).await?;
        tx.add_act(name, now, by, "unlocked").await?;
        tx.commit().await?;
        info!(group = name, "unlocked by {by}");
        self.queue.notify_one();
        Ok(())
    }

    /// A group's lock in words, if it is locked.
    pub async fn locked(&self, name: &str) -> Result<Option<String>, StoreError> {
        let now = Timestamp::now();
        let locks = self.store.locks(now.as_millisecond()).await?;
        Ok(locks.iter().find(|lock| lock.group_name == name).map(|lock| lock_words(lock, now)))
    }
}
