//! Removes what is kept for a limited time: logs, scripts, attempts, intents of deployments that are over.

use super::{Result, Store, Tx};
use sqlx::Row;

/// Chunks removed in one transaction: at most some 13 MB.
const CHUNKS: i64 = 200;

/// A deployment whose log may be removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, sqlx::FromRow)]
pub struct Prunable {
    /// Its number.
    pub id: i64,
    /// When it ended.
    pub finished_at: i64,
    /// Bytes of its lines.
    pub log_bytes: i64,
}

impl Store {
    /// Returns the deployments that are over and still have their log, oldest first: without the one that brought each
    /// group its last good revision, and without those that some instance is quarantined for.
    pub async fn prunable(&self) -> Result<Vec<Prunable>> {
        let query = "SELECT id, finished_at, log_bytes FROM deployments WHERE finished_at IS NOT NULL AND pruned_at IS NULL \
             AND id NOT IN (SELECT MAX(id) FROM deployments WHERE state IN ('Succeeded', 'Partial') \
             AND only_instance IS NULL AND rolled_back_by IS NULL GROUP BY group_name) \
             AND id NOT IN (SELECT deployment FROM quarantines) ORDER BY finished_at, id";
        Ok(sqlx::query_as(query).fetch_all(&self.pool).await?)
    }

    /// Returns the bytes of all lines in the store.
    pub async fn log_bytes(&self) -> Result<i64> {
        let query =
            "SELECT CAST(COALESCE(SUM(log_bytes), 0) AS BIGINT) FROM deployments WHERE pruned_at IS NULL";
        Ok(sqlx::query(query).fetch_one(&self.pool).await?.get(0))
    }
}

impl Tx<'_> {
    /// Removes some of a deployment's lines, and returns false once there are none.
    pub async fn prune_lines(&mut self, deployment: i64) -> Result<bool> {
        let query = "DELETE FROM chunks WHERE deployment = $1 AND first_seq <= (SELECT MAX(first_seq) FROM \
             (SELECT first_seq FROM chunks WHERE deployment = $1 ORDER BY first_seq LIMIT $2) part)";
        let done = sqlx::query(query).bind(deployment).bind(CHUNKS).execute(&mut *self.inner).await?;
        Ok(done.rows_affected() > 0)
    }

    /// Removes what else was kept of a deployment, its lines being gone: scripts, attempts, intents. The newest attempt of
    /// all stays: numbers must only rise.
    pub async fn prune_rest(&mut self, deployment: i64, at: i64) -> Result<()> {
        for statement in [
            "DELETE FROM intents WHERE deployment = $1",
            "DELETE FROM attempts WHERE deployment = $1 AND number < (SELECT MAX(number) FROM attempts)",
            "DELETE FROM dispatches WHERE deployment = $1 AND id NOT IN (SELECT dispatch FROM attempts WHERE deployment = $1)",
        ] {
            sqlx::query(statement).bind(deployment).execute(&mut *self.inner).await?;
        }
        sqlx::query("UPDATE deployments SET pruned_at = $2, log_bytes = 0 WHERE id = $1")
            .bind(deployment)
            .bind(at)
            .execute(&mut *self.inner)
            .await?;
        Ok(())
    }

    /// Empties the scripts of deployments that ended before this time, for which nothing is sent again, and returns how
    /// many.
    pub async fn prune_scripts(&mut self, before: i64) -> Result<u64> {
        let query = "UPDATE dispatches SET script = '' WHERE script <> '' AND deployment IN \
             (SELECT id FROM deployments WHERE finished_at < $1 AND pruned_at IS NULL)";
        Ok(sqlx::query(query).bind(before).execute(&mut *self.inner).await?.rows_affected())
    }
}
