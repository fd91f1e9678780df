//! Locks on deployment groups.

use super::{Result, Store, Tx, text};

/// A lock, as stored. Times in milliseconds; `until_at` none: until a person unlocks.
#[derive(Clone, Debug, sqlx::FromRow)]
#[allow(missing_docs)]
pub struct LockRow {
    pub group_name: String,
    pub reason: String,
    pub locked_by: String,
    pub since: i64,
    pub until_at: Option<i64>,
}

impl Store {
    /// Returns the locks in force at this time.
    pub async fn locks(&self, now: i64) -> Result<Vec<LockRow>> {
        let query = "SELECT * FROM locks WHERE until_at IS NULL OR until_at > $1 ORDER BY group_name";
        Ok(sqlx::query_as(query).bind(now).fetch_all(&self.pool).await?)
    }
}

impl Tx<'_> {
    /// Returns the lock in force on a group.
    pub async fn lock(&mut self, group: &str, now: i64) -> Result<Option<LockRow>> {
        let query = "SELECT * FROM locks WHERE group_name = $1 AND (until_at IS NULL OR until_at > $2)";
        Ok(sqlx::query_as(query).bind(text(group)).bind(now).fetch_optional(&mut *self.inner).await?)
    }

    /// Locks a group, or replaces its lock.
    pub async fn put_lock(&mut self, lock: &LockRow) -> Result<()> {
        sqlx::query(
            "INSERT INTO locks (group_name, reason, locked_by, since, until_at) VALUES ($1, $2, $3, $4, $5) \
             ON CONFLICT (group_name) DO UPDATE SET reason = excluded.reason, locked_by = excluded.locked_by, \
             since = excluded.since, until_at = excluded.until_at",
        )
        .bind(text(&lock.group_name))
        .bind(text(&lock.reason))
        .bind(text(&lock.locked_by))
        .bind(lock.since)
        .bind(lock.until_at)
        .execute(&mut *self.inner)
        .await?;
        Ok(())
    }

    /// Unlocks a group.
    pub async fn remove_lock(&mut self, group: &str) -> Result<()> {
        sqlx::query("DELETE FROM locks WHERE group_name = $1")
            .bind(text(group))
            .execute(&mut *self.inner)
            .await?;
        Ok(())
    }
}
