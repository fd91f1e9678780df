//! The instances in deployments: the planner's records (JSON), by deployment and instance.

use super::{Result, Store, Tx, text};
use sqlx::Row;

impl Store {
    /// Returns the planner's records (JSON) of a deployment's instances, by id.
    pub async fn instances(&self, deployment: i64) -> Result<Vec<String>> {
        let rows = sqlx::query("SELECT record FROM instances WHERE deployment = $1 ORDER BY instance")
            .bind(deployment)
            .fetch_all(&self.pool)
            .await?;
        Ok(rows.into_iter().map(|row| row.get(0)).collect())
    }

    /// Whether any deployment included this instance.
    pub async fn has_instance(&self, instance: &str) -> Result<bool> {
        let query = "SELECT COUNT(*) FROM instances WHERE instance = $1";
        let count: i64 = sqlx::query(query).bind(text(instance)).fetch_one(&self.pool).await?.get(0);
        Ok(count > 0)
    }

    /// Counts the instances of each deployment by state: `(deployment, state, count)`.
    pub async fn instance_counts(&self, deployments: &[i64]) -> Result<Vec<(i64, String, i64)>> {
        let (Some(low), Some(high)) = (deployments.iter().min(), deployments.iter().max()) else {
            return Ok(Vec::new());
        };
        let rows = sqlx::query(
            "SELECT deployment, state, COUNT(*) FROM instances WHERE deployment BETWEEN $1 AND $2 GROUP BY deployment, state",
        )
        .bind(low)
        .bind(high)
        .fetch_all(&self.pool)
        .await?;
        Ok(rows.into_iter().map(|row| (row.get(0), row.get(1), row.get(2))).collect())
    }

    /// Returns the deployments under way that include this instance, with its record (JSON).
    pub async fn unfinished_records_of(&self, instance: &str) -> Result<Vec<(i64, String)>> {
        let query = "SELECT i.deployment, i.record FROM instances i JOIN deployments d ON d.id = i.deployment \
             WHERE i.instance = $1 AND d.finished_at IS NULL ORDER BY i.deployment";
        let rows = sqlx::query(query).bind(text(instance)).fetch_all(&self.pool).await?;
        Ok(rows.into_iter().map(|row| (row.get(0), row.get(1))).collect())
    }
}

impl Tx<'_> {
    /// Returns the planner's records (JSON) of a deployment's instances, by id.
    pub async fn instance_records(&mut self, deployment: i64) -> Result<Vec<String>> {
        let query = "SELECT record FROM instances WHERE deployment = $1 ORDER BY instance";
        let rows = sqlx::query(query).bind(deployment).fetch_all(&mut *self.inner).await?;
        Ok(rows.into_iter().map(|row| row.get(0)).collect())
    }

    /// Returns an instance's record (JSON).
    pub async fn instance(&mut self, deployment: i64, instance: &str) -> Result<Option<String>> {
        let row = sqlx::query("SELECT record FROM instances WHERE deployment = $1 AND instance = $2")
            .bind(deployment)
            .bind(instance)
            .fetch_optional(&mut *self.inner)
            .await?;
        Ok(row.map(|row| row.get(0)))
    }
}
