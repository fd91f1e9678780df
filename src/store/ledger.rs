//! What belongs to the fleet and not to a deployment: holds, quarantines, good revisions.

use super::{Result, Store, Tx};
use sqlx::Row;

impl Store {
    /// The hold (JSON) on an Auto Scaling group, if there is one.
    pub async fn hold(&self, group: &str) -> Result<Option<String>> {
        let row = sqlx::query("SELECT hold FROM holds WHERE auto_scaling_group = $1")
            .bind(group)
            .fetch_optional(&self.pool)
            .await?;
        Ok(row.map(|row| row.get(0)))
    }

    /// Instances of an Auto Scaling group that drover keeps out: `(instance, deployment, reason)`.
    pub async fn quarantined(&self, group: &str) -> Result<Vec<(String, i64, String)>> {
        let rows =
            sqlx::query("SELECT instance, deployment, reason FROM quarantines WHERE auto_scaling_group = $1")
                .bind(group)
                .fetch_all(&self.pool)
                .await?;
        Ok(rows.into_iter().map(|row| (row.get(0), row.get(1), row.get(2))).collect())
    }

    /// The last good revision of each instance: `(instance, sha)`.
    pub async fn good_revisions(&self, group_name: &str) -> Result<Vec<(String, String)>> {
        let rows = sqlx::query("SELECT instance, sha FROM revisions WHERE group_name = $1")
            .bind(group_name)
            .fetch_all(&self.pool)
            .await?;
        Ok(rows.into_iter().map(|row| (row.get(0), row.get(1))).collect())
    }
}

impl Tx<'_> {
    /// Writes the hold (JSON) down, or with `None` removes it.
    pub async fn put_hold(&mut self, group: &str, hold: Option<&str>) -> Result<()> {
        let query = match hold {
            Some(hold) => sqlx::query(
                "INSERT INTO holds (auto_scaling_group, hold) VALUES ($1, $2) \
                 ON CONFLICT (auto_scaling_group) DO UPDATE SET hold = excluded.hold",
            )
            .bind(group)
            .bind(hold),
            None => sqlx::query("DELETE FROM holds WHERE auto_scaling_group = $1").bind(group),
        };
        query.execute(&mut *self.inner).await?;
        Ok(())
    }

    /// Keeps an instance out.
    pub async fn put_quarantine(
        &mut self,
        group: &str,
        instance: &str,
        deployment: i64,
        reason: &str,
        at: i64,
    ) -> Result<()> {
        sqlx::query(
            "INSERT INTO quarantines (auto_scaling_group, instance, deployment, reason, since) VALUES ($1, $2, $3, $4, $5) \
             ON CONFLICT (auto_scaling_group, instance) DO UPDATE SET deployment = excluded.deployment, \
             reason = excluded.reason, since = excluded.since",
        )
        .bind(group)
        .bind(instance)
        .bind(deployment)
        .bind(super::text(reason))
        .bind(at)
        .execute(&mut *self.inner)
        .await?;
        Ok(())
    }

    /// Ends a quarantine, if there is one.
    pub async fn end_quarantine(&mut self, instance: &str) -> Result<()> {
        sqlx::query("DELETE FROM quarantines WHERE instance = $1")
            .bind(instance)
            .execute(&mut *self.inner)
            .await?;
        Ok(())
    }

    /// The instance has this revision, validated and healthy.
    pub async fn put_good(&mut self, group_name: &str, instance: &str, sha: &str, at: i64) -> Result<()> {
        sqlx::query(
            "INSERT INTO revisions (group_name, instance, sha, since) VALUES ($1, $2, $3, $4) \
             ON CONFLICT (group_name, instance) DO UPDATE SET sha = excluded.sha, since = excluded.since",
        )
        .bind(group_name)
        .bind(instance)
        .bind(sha)
        .bind(at)
        .execute(&mut *self.inner)
        .await?;
        Ok(())
    }
}
