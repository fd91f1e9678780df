//! Records that belong to the fleet and not to a deployment: holds, quarantines, good revisions.

use super::{Result, Store, Tx, text};
use sqlx::Row;
use std::collections::HashMap;

/// An instance that is kept out of the balancer, as stored. `request`: `release` or `terminate`, once a
/// person has asked for that.
#[derive(Clone, Debug, sqlx::FromRow)]
#[allow(missing_docs)]
pub struct QuarantineRow {
    pub auto_scaling_group: String,
    pub instance: String,
    pub deployment: i64,
    pub reason: String,
    pub since: i64,
    #[sqlx(rename = "wish")]
    pub request: Option<String>,
    #[sqlx(rename = "wished_by")]
    pub requested_by: Option<String>,
    /// The deployment's group.
    pub group_name: String,
}

/// The last revision that was validated and healthy on an instance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GoodRevision {
    /// Its SHA.
    pub sha: String,
    /// Whether nothing was run on the instance since.
    pub runs: bool,
}

impl Store {
    /// Returns the hold (JSON) on an Auto Scaling group, if there is one.
    pub async fn hold(&self, group: &str) -> Result<Option<String>> {
        let row = sqlx::query("SELECT hold FROM holds WHERE auto_scaling_group = $1")
            .bind(group)
            .fetch_optional(&self.pool)
            .await?;
        Ok(row.map(|row| row.get(0)))
    }

    /// Returns the quarantined instances of all Auto Scaling groups.
    pub async fn quarantines(&self) -> Result<Vec<QuarantineRow>> {
        let query = "SELECT q.*, d.group_name FROM quarantines q JOIN deployments d ON d.id = q.deployment \
             ORDER BY q.auto_scaling_group, q.since, q.instance";
        Ok(sqlx::query_as(query).fetch_all(&self.pool).await?)
    }

    /// Returns the last good revision of each instance, by id.
    pub async fn good_revisions(&self, group_name: &str) -> Result<HashMap<String, GoodRevision>> {
        let rows = sqlx::query("SELECT instance, sha, dirty FROM revisions WHERE group_name = $1")
            .bind(group_name)
            .fetch_all(&self.pool)
            .await?;
        let good = |row: sqlx::any::AnyRow| {
            let dirty: i64 = row.get(2);
            (row.get(0), GoodRevision { sha: row.get(1), runs: dirty == 0 })
        };
        Ok(rows.into_iter().map(good).collect())
    }
}

impl Tx<'_> {
    /// Stores the hold (JSON), or with `None` removes it.
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

    /// Stores what a person has asked for a quarantined instance.
    pub async fn set_quarantine_request(
        &mut self,
        instance: &str,
        request: Option<&str>,
        by: &str,
    ) -> Result<()> {
        sqlx::query("UPDATE quarantines SET wish = $2, wished_by = $3 WHERE instance = $1")
            .bind(instance)
            .bind(request)
            .bind(text(by))
            .execute(&mut *self.inner)
            .await?;
        Ok(())
    }
}
