//! News from GitHub: webhook deliveries, and the heads of polled branches.

use super::{Result, Store, Tx, text};
use sqlx::Row;

/// How long deliveries are kept; GitHub lets a delivery be repeated for three days.
const KEPT_MILLISECONDS: i64 = 30 * 24 * 60 * 60 * 1000;

/// A push, as delivered.
#[derive(Clone, Debug, Default, PartialEq, Eq, sqlx::FromRow)]
pub struct DeliveryRow {
    /// GitHub's delivery id.
    pub id: String,
    /// SHA-256 of the body, hexadecimal.
    pub digest: String,
    /// `owner/name`.
    pub repository: String,
    /// The branch pushed to.
    pub branch: String,
    /// Its new head.
    pub sha: String,
    /// The person who pushed.
    pub pusher: String,
    /// `received` until it has been acted upon, then `done`, `ignored` or `refused`.
    pub state: String,
    /// The result, in words.
    pub outcome: Option<String>,
    /// Milliseconds since 1970, UTC.
    pub received_at: i64,
}

impl Store {
    /// Returns the deliveries that have not been acted upon, oldest first.
    pub async fn open_deliveries(&self) -> Result<Vec<DeliveryRow>> {
        Ok(sqlx::query_as("SELECT * FROM deliveries WHERE state = 'received' ORDER BY received_at, id")
            .fetch_all(&self.pool)
            .await?)
    }

    /// Returns one delivery.
    pub async fn delivery(&self, id: &str) -> Result<Option<DeliveryRow>> {
        Ok(sqlx::query_as("SELECT * FROM deliveries WHERE id = $1")
            .bind(text(id))
            .fetch_optional(&self.pool)
            .await?)
    }

    /// Returns a branch's head as last seen.
    pub async fn branch_head(&self, repository: &str, branch: &str) -> Result<Option<String>> {
        let row = sqlx::query("SELECT sha FROM branches WHERE repository = $1 AND branch = $2")
            .bind(repository)
            .bind(branch)
            .fetch_optional(&self.pool)
            .await?;
        Ok(row.map(|row| row.get(0)))
    }
}

impl Tx<'_> {
    /// Stores a delivery, and returns false if its id or its body came before and is in work or done. One that was refused
    /// or ignored may come again: its cause may have been fixed. Deletes those that ended long ago.
    pub async fn insert_delivery(&mut self, row: &DeliveryRow) -> Result<bool> {
        sqlx::query("DELETE FROM deliveries WHERE finished_at < $1")
            .bind(row.received_at - KEPT_MILLISECONDS)
            .execute(&mut *self.inner)
            .await?;
        sqlx::query(
            "DELETE FROM deliveries WHERE (id = $1 OR digest = $2) AND state IN ('refused', 'ignored')",
        )
        .bind(text(&row.id))
        .bind(&row.digest)
        .execute(&mut *self.inner)
        .await?;
        let done = sqlx::query(
            "INSERT INTO deliveries (id, digest, repository, branch, sha, pusher, state, received_at) \
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8) ON CONFLICT DO NOTHING",
        )
        .bind(text(&row.id))
        .bind(&row.digest)
        .bind(text(&row.repository))
        .bind(text(&row.branch))
        .bind(&row.sha)
        .bind(text(&row.pusher))
        .bind(&row.state)
        .bind(row.received_at)
        .execute(&mut *self.inner)
        .await?;
        Ok(done.rows_affected() > 0)
    }

    /// Records that a delivery has been acted upon: `done`, `ignored` or `refused`, and why.
    pub async fn end_delivery(&mut self, id: &str, state: &str, outcome: &str, at: i64) -> Result<()> {
        sqlx::query("UPDATE deliveries SET state = $2, outcome = $3, finished_at = $4 WHERE id = $1")
            .bind(id)
            .bind(state)
            .bind(text(outcome))
            .bind(at)
            .execute(&mut *self.inner)
            .await?;
        Ok(())
    }

    /// Stores a branch's head.
    pub async fn put_branch_head(
        &mut self,
        repository: &str,
        branch: &str,
        sha: &str,
        at: i64,
    ) -> Result<()> {
        sqlx::query(
            "INSERT INTO branches (repository, branch, sha, seen_at) VALUES ($1, $2, $3, $4) \
             ON CONFLICT (repository, branch) DO UPDATE SET sha = excluded.sha, seen_at = excluded.seen_at",
        )
        .bind(repository)
        .bind(branch)
        .bind(sha)
        .bind(at)
        .execute(&mut *self.inner)
        .await?;
        Ok(())
    }
}
