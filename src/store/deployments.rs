//! The deployments' own records.

use super::{Result, Store, Tx, text};
use sqlx::Row;

/// A deployment, as stored. `policy` and `revision` are JSON.
#[derive(Clone, Debug, Default, sqlx::FromRow)]
#[allow(missing_docs)]
pub struct DeploymentRow {
    pub id: i64,
    pub group_name: String,
    pub repository: String,
    pub sha: String,
    pub requested: String,
    pub message: String,
    pub requested_by: String,
    pub state: String,
    pub reason: Option<String>,
    pub policy: String,
    pub revision: Option<String>,
    pub bundle_sha256: Option<String>,
    pub batch: i64,
    pub batch_done_at: Option<i64>,
    pub healthy_at_start: i64,
    pub total_at_start: i64,
    pub cancel: Option<String>,
    pub settled: i64,
    pub last_seq: i64,
    pub created_at: i64,
    pub started_at: Option<i64>,
    pub since: i64,
    pub finished_at: Option<i64>,
    pub resumed_at: Option<i64>,
    pub approved: i64,
    pub rolls_back: Option<i64>,
    pub rolled_back_by: Option<i64>,
    pub only_instance: Option<String>,
    pub automatic: i64,
    pub launch: i64,
    /// JSON.
    pub planned: Option<String>,
    pub cancelled_at: Option<i64>,
    /// The bytes of its lines in the store.
    pub log_bytes: i64,
    /// When its lines were removed.
    pub pruned_at: Option<i64>,
    /// Goes up with each change of its state, and each that a person makes to it or to its instances.
    pub version: i64,
}

const LAST_GOOD_BEFORE: &str = "SELECT * FROM deployments WHERE group_name = $1 AND id < $2 AND sha <> $3 \
     AND state IN ('Succeeded', 'Partial') AND only_instance IS NULL AND rolled_back_by IS NULL ORDER BY id DESC LIMIT 1";

const NEWEST_BEGUN: &str = "SELECT COALESCE(MAX(id), 0) FROM deployments WHERE group_name = $1 AND only_instance IS NULL \
     AND total_at_start > 0";

impl Store {
    /// Returns one deployment.
    pub async fn deployment(&self, id: i64) -> Result<Option<DeploymentRow>> {
        Ok(sqlx::query_as("SELECT * FROM deployments WHERE id = $1")
            .bind(id)
            .fetch_optional(&self.pool)
            .await?)
    }

    /// Returns the newest `limit` deployments, newest first; of one group if named.
    pub async fn deployments(&self, group: Option<&str>, limit: i64) -> Result<Vec<DeploymentRow>> {
        let query = match group {
            Some(group) => {
                sqlx::query_as("SELECT * FROM deployments WHERE group_name = $2 ORDER BY id DESC LIMIT $1")
                    .bind(limit)
                    .bind(text(group))
            }
            None => sqlx::query_as("SELECT * FROM deployments ORDER BY id DESC LIMIT $1").bind(limit),
        };
        Ok(query.fetch_all(&self.pool).await?)
    }

    /// Returns the deployments that have not ended: those under way, then the queue. A rollback comes before what waits
    /// longer.
    pub async fn unfinished(&self) -> Result<Vec<DeploymentRow>> {
        Ok(sqlx::query_as(
            "SELECT * FROM deployments WHERE finished_at IS NULL ORDER BY CASE WHEN state = 'Queued' THEN 1 ELSE 0 END, \
             CASE WHEN rolls_back IS NULL THEN 1 ELSE 0 END, id",
        )
        .fetch_all(&self.pool)
        .await?)
    }

    /// Returns the repository that a revision was deployed from.
    pub async fn repository_of(&self, sha: &str) -> Result<Option<String>> {
        let query = "SELECT repository FROM deployments WHERE sha = $1 ORDER BY id DESC LIMIT 1";
        let row = sqlx::query(query).bind(text(sha)).fetch_optional(&self.pool).await?;
        Ok(row.map(|row| row.get(0)))
    }

    /// Returns the newest deployment of a revision that succeeded in a group.
    pub async fn success_of(&self, group: &str, sha: &str) -> Result<Option<DeploymentRow>> {
        let query = "SELECT * FROM deployments WHERE group_name = $1 AND sha = $2 AND state IN ('Succeeded', 'Partial') \
             AND planned IS NOT NULL ORDER BY id DESC LIMIT 1";
        Ok(sqlx::query_as(query).bind(group).bind(text(sha)).fetch_optional(&self.pool).await?)
    }

    /// Returns the revisions that were deployed last, newest first.
    pub async fn newest_revisions(&self, limit: i64) -> Result<Vec<String>> {
        let query = "SELECT sha FROM deployments GROUP BY sha ORDER BY MAX(id) DESC LIMIT $1";
        let rows = sqlx::query(query).bind(limit).fetch_all(&self.pool).await?;
        Ok(rows.into_iter().map(|row| row.get(0)).collect())
    }

    /// Returns the revisions that may be run again: of what isn't over, and the last good one of each instance.
    pub async fn needed_revisions(&self) -> Result<Vec<String>> {
        let query = "SELECT sha FROM deployments WHERE finished_at IS NULL UNION SELECT sha FROM revisions";
        let rows = sqlx::query(query).fetch_all(&self.pool).await?;
        Ok(rows.into_iter().map(|row| row.get(0)).collect())
    }

    /// Returns the hooks of a revision (JSON) as its newest deployment recorded them.
    pub async fn revision_of(&self, sha: &str) -> Result<Option<String>> {
        let query = "SELECT revision FROM deployments WHERE sha = $1 AND revision IS NOT NULL ORDER BY id DESC LIMIT 1";
        let row = sqlx::query(query).bind(text(sha)).fetch_optional(&self.pool).await?;
        Ok(row.map(|row| row.get(0)))
    }

    /// Returns the last revision that reached a whole group, or all of it but what the failure budget allows.
    pub async fn last_good_row(&self, group: &str) -> Result<Option<DeploymentRow>> {
        let query = "SELECT * FROM deployments WHERE group_name = $1 AND state IN ('Succeeded', 'Partial') \
             AND only_instance IS NULL AND rolled_back_by IS NULL ORDER BY id DESC LIMIT 1";
        Ok(sqlx::query_as(query).bind(group).fetch_optional(&self.pool).await?)
    }

    /// Returns the newest deployment for the launch of each of a group's instances, of those begun since then.
    pub async fn launches(&self, group: &str, since: i64) -> Result<Vec<DeploymentRow>> {
        let query = "SELECT * FROM deployments WHERE id IN (SELECT MAX(id) FROM deployments WHERE group_name = $1 \
             AND launch = 1 AND created_at >= $2 GROUP BY only_instance)";
        Ok(sqlx::query_as(query).bind(group).bind(since).fetch_all(&self.pool).await?)
    }

    /// Returns the last deployments for launches of a group that got to their instance and have ended, newest first.
    pub async fn launches_that_ran(&self, group: &str, limit: i64) -> Result<Vec<DeploymentRow>> {
        let query = "SELECT * FROM deployments WHERE group_name = $1 AND launch = 1 AND total_at_start > 0 \
             AND finished_at IS NOT NULL AND state <> 'Cancelled' ORDER BY id DESC LIMIT $2";
        Ok(sqlx::query_as(query).bind(group).bind(limit).fetch_all(&self.pool).await?)
    }

    /// Returns the instances whose launch a deployment handles.
    pub async fn launching(&self) -> Result<Vec<String>> {
        let query = "SELECT only_instance FROM deployments WHERE launch = 1 AND finished_at IS NULL AND only_instance IS NOT NULL";
        let rows = sqlx::query(query).fetch_all(&self.pool).await?;
        Ok(rows.into_iter().map(|row| row.get(0)).collect())
    }

    /// Returns the newest deployment of a group to all of it.
    pub async fn newest(&self, group: &str) -> Result<Option<DeploymentRow>> {
        let query = "SELECT * FROM deployments WHERE group_name = $1 AND only_instance IS NULL ORDER BY id DESC LIMIT 1";
        Ok(sqlx::query_as(query).bind(group).fetch_optional(&self.pool).await?)
    }

    /// Returns the last revision of a group, other than this one, that a deployment before this one brought to all of it.
    pub async fn good_before(&self, group: &str, id: i64, sha: &str) -> Result<Option<String>> {
        let row: Option<DeploymentRow> = sqlx::query_as(LAST_GOOD_BEFORE)
            .bind(group)
            .bind(id)
            .bind(sha)
            .fetch_optional(&self.pool)
            .await?;
        Ok(row.map(|row| row.sha))
    }

    /// Returns the newest deployment of a group to all of it that got to its instances; 0 if there is none.
    pub async fn newest_begun(&self, group: &str) -> Result<i64> {
        Ok(sqlx::query(NEWEST_BEGUN).bind(group).fetch_one(&self.pool).await?.get(0))
    }
}

impl Tx<'_> {
    /// Adds a deployment; its id is the next one, whatever the row says.
    pub async fn insert_deployment(&mut self, row: &DeploymentRow) -> Result<i64> {
        let id: i64 = sqlx::query("SELECT COALESCE(MAX(id), 0) + 1 FROM deployments")
            .fetch_one(&mut *self.inner)
            .await?
            .get(0);
        sqlx::query(
            "INSERT INTO deployments (id, group_name, repository, sha, requested, message, requested_by, state, policy, created_at, since, automatic, \
             only_instance, launch) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14)",
        )
        .bind(id)
        .bind(&row.group_name)
        .bind(&row.repository)
        .bind(&row.sha)
        .bind(text(&row.requested))
        .bind(text(&row.message))
        .bind(text(&row.requested_by))
        .bind(&row.state)
        .bind(&row.policy)
        .bind(row.created_at)
        .bind(row.since)
        .bind(row.automatic)
        .bind(&row.only_instance)
        .bind(row.launch)
        .execute(&mut *self.inner)
        .await?;
        Ok(id)
    }

    /// Sets the state and its reason; `finished` where it is a final one.
    pub async fn set_state(
        &mut self,
        id: i64,
        state: &str,
        reason: Option<&str>,
        at: i64,
        finished: bool,
    ) -> Result<()> {
        sqlx::query(
            "UPDATE deployments SET state = $2, reason = $3, since = $4, settled = 0, version = version + 1, \
             started_at = CASE WHEN $2 = 'Preparing' THEN $4 ELSE started_at END, \
             finished_at = CASE WHEN $5 = 1 THEN $4 ELSE finished_at END WHERE id = $1",
        )
        .bind(id)
        .bind(state)
        .bind(reason.map(text))
        .bind(at)
        .bind(i64::from(finished))
        .execute(&mut *self.inner)
        .await?;
        Ok(())
    }

    /// Stores what Preparing found out: of this row policy, revision, the bundle's checksum, the fleet's size and health,
    /// and what the deployment was planned with.
    pub async fn set_prepared(&mut self, row: &DeploymentRow) -> Result<()> {
        sqlx::query(
            "UPDATE deployments SET revision = $2, bundle_sha256 = $3, total_at_start = $4, healthy_at_start = $5, policy = $6, \
             planned = $7 WHERE id = $1",
        )
        .bind(row.id)
        .bind(&row.revision)
        .bind(&row.bundle_sha256)
        .bind(row.total_at_start)
        .bind(row.healthy_at_start)
        .bind(&row.policy)
        .bind(&row.planned)
        .execute(&mut *self.inner)
        .await?;
        Ok(())
    }

    /// Stores the number of the batch in work.
    pub async fn set_batch(&mut self, id: i64, batch: i64) -> Result<()> {
        sqlx::query("UPDATE deployments SET batch = $2, batch_done_at = NULL WHERE id = $1")
            .bind(id)
            .bind(batch)
            .execute(&mut *self.inner)
            .await?;
        Ok(())
    }

    /// Stores when the batch in work ended.
    pub async fn set_batch_done(&mut self, id: i64, at: i64) -> Result<()> {
        sqlx::query("UPDATE deployments SET batch_done_at = $2 WHERE id = $1")
            .bind(id)
            .bind(at)
            .execute(&mut *self.inner)
            .await?;
        Ok(())
    }

    /// Returns one deployment.
    pub async fn deployment(&mut self, id: i64) -> Result<Option<DeploymentRow>> {
        Ok(sqlx::query_as("SELECT * FROM deployments WHERE id = $1")
            .bind(id)
            .fetch_optional(&mut *self.inner)
            .await?)
    }

    /// Returns the newest deployment of a group to all of it that got to its instances; 0 if there is none.
    pub async fn newest_deployment(&mut self, group: &str) -> Result<i64> {
        Ok(sqlx::query(NEWEST_BEGUN).bind(group).fetch_one(&mut *self.inner).await?.get(0))
    }

    /// Returns the last deployment of another revision that succeeded before this one.
    pub async fn last_good_before(
        &mut self,
        group: &str,
        id: i64,
        sha: &str,
    ) -> Result<Option<DeploymentRow>> {
        Ok(sqlx::query_as(LAST_GOOD_BEFORE)
            .bind(group)
            .bind(id)
            .bind(sha)
            .fetch_optional(&mut *self.inner)
            .await?)
    }

    /// Stores when a person resumed it: failures before no longer count.
    pub async fn set_resumed(&mut self, id: i64, at: i64) -> Result<()> {
        sqlx::query("UPDATE deployments SET resumed_at = $2, version = version + 1 WHERE id = $1")
            .bind(id)
            .bind(at)
            .execute(&mut *self.inner)
            .await?;
        Ok(())
    }

    /// Stores when a person approved the batches to come; any value but 0 means approved.
    pub async fn set_approved(&mut self, id: i64, at: i64) -> Result<()> {
        sqlx::query("UPDATE deployments SET approved = $2, version = version + 1 WHERE id = $1")
            .bind(id)
            .bind(at)
            .execute(&mut *self.inner)
            .await?;
        Ok(())
    }

    /// Stores the reason of its state, in words.
    pub async fn set_reason(&mut self, id: i64, reason: &str) -> Result<()> {
        sqlx::query("UPDATE deployments SET reason = $2, version = version + 1 WHERE id = $1")
            .bind(id)
            .bind(text(reason))
            .execute(&mut *self.inner)
            .await?;
        Ok(())
    }

    /// Records that a person has changed the record of one of its instances.
    pub async fn note_change(&mut self, id: i64) -> Result<()> {
        let query = "UPDATE deployments SET version = version + 1 WHERE id = $1";
        sqlx::query(query).bind(id).execute(&mut *self.inner).await?;
        Ok(())
    }

    /// Stores that `new` brings back what `old` changed.
    pub async fn set_rollback(&mut self, old: i64, new: i64) -> Result<()> {
        for (query, id, other) in [
            ("UPDATE deployments SET rolled_back_by = $2, version = version + 1 WHERE id = $1", old, new),
            ("UPDATE deployments SET rolls_back = $2 WHERE id = $1", new, old),
        ] {
            sqlx::query(query).bind(id).bind(other).execute(&mut *self.inner).await?;
        }
        Ok(())
    }

    /// Returns the newest deployment to a whole group.
    pub async fn newest_rollout(&mut self, group: &str) -> Result<Option<DeploymentRow>> {
        let query = "SELECT * FROM deployments WHERE group_name = $1 AND only_instance IS NULL AND launch = 0 \
             ORDER BY id DESC LIMIT 1";
        Ok(sqlx::query_as(query).bind(group).fetch_optional(&mut *self.inner).await?)
    }

    /// Returns the newest deployment of a revision to a whole group.
    pub async fn rollout_of(&mut self, group: &str, sha: &str) -> Result<Option<i64>> {
        let query = "SELECT MAX(id) FROM deployments WHERE group_name = $1 AND sha = $2 AND only_instance IS NULL \
             AND launch = 0";
        Ok(sqlx::query(query).bind(group).bind(sha).fetch_one(&mut *self.inner).await?.get(0))
    }

    /// Returns the queued deployments of a group that were not submitted by a person.
    pub async fn queued_automatic(&mut self, group: &str) -> Result<Vec<i64>> {
        let query = "SELECT id FROM deployments WHERE group_name = $1 AND state = 'Queued' AND automatic = 1 \
             AND only_instance IS NULL ORDER BY id";
        let rows = sqlx::query(query).bind(group).fetch_all(&mut *self.inner).await?;
        Ok(rows.into_iter().map(|row| row.get(0)).collect())
    }

    /// Returns an unfinished deployment of the same revision to the same instances.
    pub async fn unfinished_like(
        &mut self,
        group: &str,
        sha: &str,
        only_instance: Option<&str>,
    ) -> Result<Option<i64>> {
        let query = "SELECT id FROM deployments WHERE group_name = $1 AND sha = $2 AND launch = 0 \
             AND COALESCE(only_instance, '') = $3 AND cancel IS NULL AND finished_at IS NULL ORDER BY id LIMIT 1";
        let row = sqlx::query(query).bind(group).bind(sha).bind(only_instance.unwrap_or_default());
        Ok(row.fetch_optional(&mut *self.inner).await?.map(|row| row.get(0)))
    }

    /// Marks it as halted or paused and in order.
    pub async fn set_settled(&mut self, id: i64) -> Result<()> {
        sqlx::query("UPDATE deployments SET settled = 1 WHERE id = $1")
            .bind(id)
            .execute(&mut *self.inner)
            .await?;
        Ok(())
    }

    /// Stores a person's request to cancel. A later, more urgent one replaces it.
    pub async fn set_cancel(&mut self, id: i64, how: &str, at: i64) -> Result<()> {
        let query = "UPDATE deployments SET cancel = $2, cancelled_at = COALESCE(cancelled_at, $3), version = version + 1 \
             WHERE id = $1 AND finished_at IS NULL";
        sqlx::query(query).bind(id).bind(how).bind(at).execute(&mut *self.inner).await?;
        Ok(())
    }
}
