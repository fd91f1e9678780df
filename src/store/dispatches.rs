//! Dispatches and the attempts in them.

use super::{Result, Store, Tx};
use sqlx::Row;
use std::collections::HashSet;

/// A dispatch, as stored. `state`: `intended`, `sent` or `refused`.
#[derive(Clone, Debug, sqlx::FromRow)]
#[allow(missing_docs)]
pub struct DispatchRow {
    pub id: String,
    pub deployment: i64,
    pub kind: String,
    pub script: String,
    pub state: String,
    pub command_id: Option<String>,
    pub created_at: i64,
    /// The seconds that its hooks may take together.
    pub seconds: i64,
}

/// An attempt, as stored. `outcome` is JSON, once known.
#[derive(Clone, Debug, sqlx::FromRow)]
#[allow(missing_docs)]
pub struct AttemptRow {
    pub number: i64,
    pub deployment: i64,
    pub instance: String,
    pub dispatch: String,
    pub first_event: String,
    pub outcome: Option<String>,
    pub log_bytes: i64,
    pub log_complete: i64,
    pub created_at: i64,
    pub ended_at: Option<i64>,
}

/// A log that an agent uploads.
#[derive(Clone, Debug, sqlx::FromRow)]
#[allow(missing_docs)]
pub struct Upload {
    pub attempt: i64,
    pub deployment: i64,
    pub instance: String,
    pub command: String,
}

/// Reads the attempts of the last ten deployments only, however many there ever were.
pub(super) const DURATIONS: &str = "SELECT a.ended_at - a.created_at FROM attempts a JOIN dispatches d ON d.id = a.dispatch \
     WHERE a.deployment IN (SELECT id FROM deployments WHERE group_name = $1 ORDER BY id DESC LIMIT 10) AND d.kind = $2 \
     AND a.ended_at IS NOT NULL AND a.outcome LIKE '{\"Succeeded%' ORDER BY a.number DESC LIMIT $3";

pub(super) const STAGED: &str = "SELECT DISTINCT a.instance FROM deployments p JOIN dispatches d ON d.deployment = p.id \
     JOIN attempts a ON a.dispatch = d.id WHERE p.group_name = $1 AND p.sha = $2 AND d.kind = 'stage' \
     AND a.outcome LIKE '{\"Succeeded%' AND $2 IN (SELECT sha FROM deployments WHERE group_name = $1 GROUP BY sha \
     ORDER BY MAX(id) DESC LIMIT $3)";

pub(super) const OPEN_COMMANDS: &str = "SELECT DISTINCT d.id, d.command_id FROM dispatches d JOIN attempts a ON a.dispatch = d.id \
     WHERE d.deployment = $1 AND d.state = 'sent' AND d.command_id IS NOT NULL AND a.outcome IS NULL";

pub(super) const OPEN_UPLOADS: &str = "SELECT a.number AS attempt, a.deployment, a.instance, d.command_id AS command \
     FROM deployments p JOIN attempts a ON a.deployment = p.id JOIN dispatches d ON d.id = a.dispatch \
     WHERE p.finished_at IS NULL AND d.state = 'sent' AND d.command_id IS NOT NULL AND a.log_complete = 0 \
     AND (a.outcome IS NULL OR a.ended_at > $1)";

pub(super) const ATTEMPTS_FROM: &str =
    "SELECT * FROM attempts WHERE deployment = $1 AND number >= $2 ORDER BY number";

pub(super) const ATTEMPTS: &str = "SELECT * FROM attempts WHERE deployment = $1 ORDER BY number";

impl Store {
    /// Returns the dispatches of a deployment in this state.
    pub async fn dispatches(&self, deployment: i64, state: &str) -> Result<Vec<DispatchRow>> {
        Ok(sqlx::query_as(
            "SELECT * FROM dispatches WHERE deployment = $1 AND state = $2 ORDER BY created_at",
        )
        .bind(deployment)
        .bind(state)
        .fetch_all(&self.pool)
        .await?)
    }

    /// Returns the command ids of sent dispatches that have attempts without an outcome.
    pub async fn open_commands(&self, deployment: i64) -> Result<Vec<(String, String)>> {
        let rows = sqlx::query(OPEN_COMMANDS).bind(deployment).fetch_all(&self.pool).await?;
        Ok(rows.into_iter().map(|row| (row.get(0), row.get(1))).collect())
    }

    /// Returns the logs that are still to be read where agents upload them, of all deployments that are not over: those
    /// of attempts without an outcome, or with one since `since`.
    pub async fn open_uploads(&self, since: i64) -> Result<Vec<Upload>> {
        Ok(sqlx::query_as(OPEN_UPLOADS).bind(since).fetch_all(&self.pool).await?)
    }

    /// Returns all attempts of a deployment, oldest first.
    pub async fn attempts(&self, deployment: i64) -> Result<Vec<AttemptRow>> {
        Ok(sqlx::query_as(ATTEMPTS).bind(deployment).fetch_all(&self.pool).await?)
    }

    /// Returns the attempts of a deployment from this number on.
    pub async fn attempts_from(&self, deployment: i64, number: i64) -> Result<Vec<AttemptRow>> {
        Ok(sqlx::query_as(ATTEMPTS_FROM).bind(deployment).bind(number).fetch_all(&self.pool).await?)
    }

    /// Returns how long the newest successful attempts of a kind took on a group, milliseconds; at most `limit` of them.
    pub async fn attempt_durations(&self, group: &str, kind: &str, limit: i64) -> Result<Vec<i64>> {
        let rows = sqlx::query(DURATIONS).bind(group).bind(kind).bind(limit).fetch_all(&self.pool).await?;
        Ok(rows.into_iter().map(|row| row.get(0)).collect())
    }

    /// Returns the instances of a group on which a revision was staged and is still, since it is one of the `keep` that
    /// were deployed last.
    pub async fn staged(&self, group: &str, sha: &str, keep: i64) -> Result<HashSet<String>> {
        let rows = sqlx::query(STAGED).bind(group).bind(sha).bind(keep).fetch_all(&self.pool).await?;
        Ok(rows.into_iter().map(|row| row.get(0)).collect())
    }

    /// Returns the text of a runner.
    pub async fn runner(&self, name: &str) -> Result<Option<String>> {
        let row = sqlx::query("SELECT packed FROM runners WHERE name = $1").bind(name);
        Ok(row.fetch_optional(&self.pool).await?.map(|row| row.get(0)))
    }

    /// Returns one attempt.
    pub async fn attempt(&self, number: i64) -> Result<Option<AttemptRow>> {
        Ok(sqlx::query_as("SELECT * FROM attempts WHERE number = $1")
            .bind(number)
            .fetch_optional(&self.pool)
            .await?)
    }
}

impl Tx<'_> {
    /// Returns a new attempt number: the milliseconds of now, and higher than every number before.
    pub async fn next_attempt(&mut self, now: i64) -> Result<i64> {
        let last: Option<i64> =
            sqlx::query("SELECT MAX(number) FROM attempts").fetch_one(&mut *self.inner).await?.get(0);
        Ok(now.max(last.unwrap_or(0) + 1))
    }

    /// Adds a dispatch that is about to be sent.
    pub async fn insert_dispatch(&mut self, row: &DispatchRow) -> Result<()> {
        sqlx::query(
            "INSERT INTO dispatches (id, deployment, kind, script, state, command_id, created_at, seconds) \
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
        )
        .bind(&row.id)
        .bind(row.deployment)
        .bind(&row.kind)
        .bind(&row.script)
        .bind(&row.state)
        .bind(&row.command_id)
        .bind(row.created_at)
        .bind(row.seconds)
        .execute(&mut *self.inner)
        .await?;
        Ok(())
    }

    /// Stores a runner's text, which many scripts hold.
    pub async fn keep_runner(&mut self, name: &str, packed: &str) -> Result<()> {
        sqlx::query("INSERT INTO runners (name, packed) VALUES ($1, $2) ON CONFLICT (name) DO NOTHING")
            .bind(name)
            .bind(packed)
            .execute(&mut *self.inner)
            .await?;
        Ok(())
    }

    /// Stores that a dispatch was sent as this command, or refused.
    pub async fn set_dispatch(&mut self, id: &str, state: &str, command: Option<&str>) -> Result<()> {
        sqlx::query("UPDATE dispatches SET state = $2, command_id = $3 WHERE id = $1")
            .bind(id)
            .bind(state)
            .bind(command)
            .execute(&mut *self.inner)
            .await?;
        Ok(())
    }

    /// How and when it ended (JSON); the first word stands. True if this was it.
    pub async fn set_outcome(&mut self, number: i64, outcome: &str, at: i64) -> Result<bool> {
        let query = "UPDATE attempts SET outcome = $2, ended_at = $3 WHERE number = $1 AND outcome IS NULL";
        let done = sqlx::query(query).bind(number).bind(outcome).bind(at).execute(&mut *self.inner).await?;
        Ok(done.rows_affected() > 0)
    }

    /// Records that the log is stored up to this byte of the host's file; `complete` when that is all and the checksum
    /// agreed.
    pub async fn set_log(&mut self, number: i64, bytes: i64, complete: bool) -> Result<()> {
        sqlx::query("UPDATE attempts SET log_bytes = $2, log_complete = $3 WHERE number = $1")
            .bind(number)
            .bind(bytes)
            .bind(i64::from(complete))
            .execute(&mut *self.inner)
            .await?;
        Ok(())
    }
}
