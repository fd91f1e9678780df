//! Intents: every effect on AWS or a host, recorded before it is performed.

use super::{Result, Store, Tx, text};
use sqlx::Row;

/// An intent, as stored. `state`: `open`, `done` or `refused`.
#[derive(Clone, Debug, sqlx::FromRow)]
#[allow(missing_docs)]
pub struct IntentRow {
    pub id: i64,
    pub deployment: i64,
    pub epoch: i64,
    /// The AWS action.
    pub action: String,
    /// The key under which refusals are counted.
    pub effect_key: String,
    /// JSON.
    pub request: String,
    pub state: String,
    pub error: Option<String>,
    pub created_at: i64,
    pub finished_at: Option<i64>,
}

pub(super) const NEWEST: &str = "SELECT * FROM intents WHERE deployment = $1 ORDER BY id DESC LIMIT $2";

impl Store {
    /// Returns the newest `limit` intents of a deployment, newest first.
    pub async fn intents(&self, deployment: i64, limit: i64) -> Result<Vec<IntentRow>> {
        Ok(sqlx::query_as(NEWEST).bind(deployment).bind(limit).fetch_all(&self.pool).await?)
    }

    /// Records an intent on the disk, and returns its id.
    pub async fn record_intent(
        &self,
        deployment: i64,
        action: &str,
        key: &str,
        request: &str,
        at: i64,
    ) -> Result<i64> {
        let mut tx = self.write().await?;
        let id = tx.insert_intent(deployment, self.epoch, action, key, request, at).await?;
        tx.commit().await?;
        Ok(id)
    }

    /// Records how an intent ended: performed, or refused with this error.
    pub async fn finish_intent(&self, id: i64, error: Option<&str>, at: i64) -> Result<()> {
        let mut tx = self.write().await?;
        tx.finish_intent(id, error, at).await?;
        tx.commit().await
    }
}

impl Tx<'_> {
    /// Records an intent.
    pub async fn insert_intent(
        &mut self,
        deployment: i64,
        epoch: i64,
        action: &str,
        key: &str,
        request: &str,
        at: i64,
    ) -> Result<i64> {
        let id: i64 = sqlx::query("SELECT COALESCE(MAX(id), 0) + 1 FROM intents")
            .fetch_one(&mut *self.inner)
            .await?
            .get(0);
        sqlx::query(
            "INSERT INTO intents (id, deployment, epoch, action, effect_key, request, state, created_at) \
             VALUES ($1, $2, $3, $4, $5, $6, 'open', $7)",
        )
        .bind(id)
        .bind(deployment)
        .bind(epoch)
        .bind(action)
        .bind(key)
        .bind(request)
        .bind(at)
        .execute(&mut *self.inner)
        .await?;
        Ok(id)
    }

    /// Records how an intent ended: performed, or refused with this error.
    pub async fn finish_intent(&mut self, id: i64, error: Option<&str>, at: i64) -> Result<()> {
        sqlx::query("UPDATE intents SET state = $2, error = $3, finished_at = $4 WHERE id = $1")
            .bind(id)
            .bind(if error.is_some() { "refused" } else { "done" })
            .bind(error.map(text))
            .bind(at)
            .execute(&mut *self.inner)
            .await?;
        Ok(())
    }
}
